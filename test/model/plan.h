/* plan.h: what a job consists of and how its runs end.
 *
 * All of it follows from the seed, the job's number and the number of the run,
 * so nothing has to be kept to know what a job must look like, whoever saw it
 * last. A job without a name has its number at the head of its payload, any
 * other at the head of its name. Threads: any, after plan_init(). */
#ifndef DASSIE_TEST_MODEL_PLAN_H_
#define DASSIE_TEST_MODEL_PLAN_H_

#include <dassie.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_QUEUES 6
#define PLAN_PAYLOAD_MAX (1u << 20)
#define PLAN_TAGGED_MAX 2048

/* A deterministic sequence. */
struct dice {
    uint64_t state;
};

uint64_t dice_next(struct dice *dice);
unsigned dice_below(struct dice *dice, unsigned n); /* 0 .. n - 1 */
bool dice_one_in(struct dice *dice, unsigned n);
struct dice dice_of(uint64_t seed, uint64_t a, uint64_t b);

/* A job as it is handed in. */
struct plan {
    unsigned queue;
    dassie_spec_t spec;
    char name[DASSIE_NAME_BYTES_MAX + 1];
    uint8_t tagged[PLAN_TAGGED_MAX];
};

/* How a run ends, and what it does on its way there. */
enum detour {
    DETOUR_NONE,
    DETOUR_TWICE, /* leaves something behind twice; the last one counts */
    DETOUR_OTHER  /* leaves behind what is not kept with this status */
};

enum pace {
    PACE_QUICK, /* at once */
    PACE_SLOW,  /* after a moment */
    PACE_STICKY /* when it is told to */
};

/* What a run says of the next one. */
enum advice { ADVICE_NONE, ADVICE_RETRY_IN, ADVICE_NO_RETRY, ADVICE_SNOOZE };

struct outcome {
    int status;
    enum advice advice;
    uint64_t again_ms;
    enum detour detour;
    enum pace pace;
    bool bare;        /* nothing is left behind */
    const void *data; /* the result, or the error's text */
    size_t len;
};

void plan_init(void);
void plan_job(uint64_t seed, uint32_t number, struct plan *plan);
void plan_run(uint64_t seed, uint32_t number, uint32_t attempt,
              struct outcome *outcome);

/* Whether a job ends with the run that has that outcome, if excused ones of its
 * attempts do not count. */
bool plan_is_last(const struct plan *plan, const struct outcome *outcome,
                  uint32_t attempt, uint32_t excused);

/* Whether it stands in its line where its id says, unless it was returned, and
 * until it is claimed. */
bool plan_in_order(const struct plan *plan);

/* The number of the job with that name and payload, or UINT32_MAX. */
uint32_t plan_number(const char *name, size_t name_len, const void *data,
                     size_t data_len);

/* The name of a queue; a NULL means "default" where a spec says so. */
const char *plan_queue(unsigned queue, size_t *len);
unsigned plan_queue_find(const char *name, size_t len); /* or PLAN_QUEUES */

#endif /* DASSIE_TEST_MODEL_PLAN_H_ */
