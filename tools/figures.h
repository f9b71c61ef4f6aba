/* figures.h: how a store stands, and from two looks at an owner, what it does
 * in a second.
 *
 * What is counted comes from the text of dassie_metrics(), which an owner sends
 * over its socket: so only of a live store, and by queue only of the first
 * DASSIE_METRICS_QUEUES_MAX of them.
 *
 * The happy path is: watch_look(), once or again and again; what it finds stays
 * until the next one. An owner may come and go meanwhile; one that does not
 * answer is not waited for. A store at rest does not change, so it is opened
 * only once, as that keeps others out for a moment; and one whose owner has
 * gone is left alone for a while, as that may be coming back.
 *
 * Possible failure modes are: those of session_open() and of dassie_queues();
 * each is told by tool_fail(), and what was found before stays. */
#ifndef DASSIE_TOOLS_FIGURES_H_
#define DASSIE_TOOLS_FIGURES_H_

#include <dassie.h>

#include <stdbool.h>

/* Since the owner has opened the store. */
struct counters {
    uint64_t enqueued;
    uint64_t completed;
    uint64_t failed;
    uint64_t retried;
};

struct queue_figures {
    dassie_queue_info_t info; /* its name is a copy */
    uint64_t next_ms; /* when the pending job that is next was enqueued, or 0 */
    bool counted;
    struct counters counters;
};

struct figures {
    struct queue_figures *queues;
    size_t queues_n;
    dassie_count_t total; /* of all queues */
    uint64_t pending_bytes;
    uint64_t disk_bytes;
    uint64_t at_ns; /* when it was looked at */
    unsigned owner; /* which one was asked, from 1 on; 0: it is at rest */
    bool counted;
    struct counters counters;
    uint64_t pool_threads; /* those that there are, */
    uint64_t pool_used;    /* are busy, */
    uint64_t pool_wanted;  /* and are asked for */
};

/* A second's. */
struct rates {
    double enqueued;
    double completed;
    double failed;
    double retried;
};

/* Looks at an open store, or its owner. 0, or an error; then f is empty. */
int figures_take(struct figures *f);
void figures_free(struct figures *f);

/* Finds queue->next_ms. */
int figures_next(struct queue_figures *queue);

/* What was done between two looks, in all or (i) in one queue. False: that is
 * not known. */
bool figures_rates(const struct figures *before, const struct figures *now,
                   struct rates *rates);
bool figures_queue_rates(const struct figures *before,
                         const struct figures *now, size_t i,
                         struct rates *rates);

/* The last two looks. */
struct watch {
    struct figures before;
    struct figures now;
    unsigned patience_ms; /* with an owner that does not answer; 0: all */
    bool beside;          /* look past an owner that does not listen */
    bool has_now;
    bool between; /* the look that is under way is between two others */
    bool gone;    /* the owner has, and this is what was seen last */
};

/* Looks; more is called while the store can be asked for more, with what has
 * been found, unless nothing can have changed and again is not set. -1, or an
 * exit code, told by tool_fail(). */
int watch_look(struct watch *watch, bool again, int (*more)(struct watch *));
void watch_end(struct watch *watch);

#endif /* DASSIE_TOOLS_FIGURES_H_ */
