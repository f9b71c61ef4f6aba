/* meter.h: what is counted queue by queue, and commit by commit, for
 * dassie_metrics().
 *
 * The first DASSIE_METRICS_QUEUES_MAX queues of a store have a meter each, all
 * others share one: so what it takes is bounded, whatever a store holds, and a
 * queue has its own or has none for as long as the store lives.
 *
 * The happy path is: dassie__meters_next() makes room, dassie__meters_add()
 * gives it to a queue; meter_add() and histogram_add() count.
 *
 * Possible failure modes are: no memory for a meter.
 *
 * Threads: one writes (the engine), any reads, without a lock: each number is
 * whole, but two of them may be some operations apart. */
#ifndef DASSIE_METER_H_
#define DASSIE_METER_H_

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "state.h"

#define BUCKETS_MAX 13

/* Whole numbers of a unit that is 10^-decimals of what is shown, and the upper
 * bounds of all buckets but the last, which has none. */
struct scale {
    unsigned decimals;
    unsigned n;
    uint64_t bound[BUCKETS_MAX];
};

extern const struct scale dassie__scale_waiting; /* ms */
extern const struct scale dassie__scale_running; /* us */
extern const struct scale dassie__scale_commit;  /* us */
extern const struct scale dassie__scale_rows;
extern const struct scale dassie__scale_bytes;

struct histogram {
    _Atomic uint64_t n[BUCKETS_MAX + 1];
    _Atomic uint64_t sum;
};

struct meter {
    const char *name; /* the queue's, or NULL: of all others */
    size_t name_len;
    _Atomic uint64_t jobs[STATES];
    _Atomic uint64_t bytes[STATES]; /* of those pending, or ended */
    _Atomic uint64_t events[EVENTS];
    struct histogram waiting; /* until the first run began */
    struct histogram running;
};

struct meters {
    struct meter *own[DASSIE_METRICS_QUEUES_MAX];
    _Atomic uint32_t own_n;
    _Atomic uint32_t others_n; /* queues that share the one of the others */
    struct meter others;
};

/* Of the commits. */
struct commit_meter {
    struct histogram rows;
    struct histogram bytes;
    struct histogram time;
};

/* Adds d, which may be negative as a signed number is. Not an atomic addition:
 * nobody else writes. */
static inline void meter_add(_Atomic uint64_t *at, uint64_t d)
{
    uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, old + d, memory_order_relaxed);
}

static inline uint64_t meter_get(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static inline void histogram_add(struct histogram *h, const struct scale *scale,
                                 uint64_t value)
{
    unsigned i = 0;
    while (i < scale->n && value > scale->bound[i]) {
        i++;
    }
    meter_add(&h->n[i], 1);
    meter_add(&h->sum, value);
}

/* The meter that the next queue gets; the same one until it is given away.
 * NULL: no memory. */
struct meter *dassie__meters_next(struct meters *meters);

/* Gives it to a queue, whose name has to stay. */
void dassie__meters_add(struct meters *meters, const char *name,
                        size_t name_len);
void dassie__meters_free(struct meters *meters);

#endif /* DASSIE_METER_H_ */
