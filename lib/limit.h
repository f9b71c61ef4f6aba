/* limit.h: how long a run may take.
 *
 * The engine keeps the claimed jobs that have a limit in a heap, by the moment
 * when each has to be looked at next: so one timer is armed, and a job without
 * a limit costs nothing. The thread that runs the job tells nobody of its
 * begin, its touches and its end: it notes them in one word, job->deadline,
 * which the engine reads when it looks. A look that comes too early, as the run
 * had not begun or was touched, is put off to when it would be over now; that
 * is never too late.
 *
 * The happy path is: dassie__limits_add() at the claim, limit_begin() and
 * limit_touch() by the one who runs it, limit_pass() by the engine when the
 * time is over, limit_end() when it returns; dassie__limits_remove().
 *
 * Possible failure modes are: none. Who is first, the engine or the run, is
 * settled by the word.
 *
 * Threads: the heap is the engine's, the word anyone's. */
#ifndef DASSIE_LIMIT_H_
#define DASSIE_LIMIT_H_

#include "job.h"

/* What job->deadline says in place of a time (mono_ns). */
#define LIMIT_NOT_BEGUN 0
#define LIMIT_PASSED (UINT64_MAX - 2)   /* it was asked to end */
#define LIMIT_GIVEN_UP (UINT64_MAX - 1) /* nobody waits for it any more */
#define LIMIT_ENDED UINT64_MAX

struct limits {
    struct heap heap; /* room for DASSIE_CLAIMED_MAX */
};

/* ---- The one who runs it ---- */

static inline void limit_begin(job_t *job, uint64_t mono_ns)
{
    if (job->timeout_ns > 0) {
        atomic_store(&job->deadline, mono_ns + job->timeout_ns);
    }
}

/* Unless it is over. */
static inline void limit_touch(job_t *job, uint64_t mono_ns)
{
    uint64_t at = atomic_load(&job->deadline);
    while (job->timeout_ns > 0 && at < LIMIT_PASSED &&
           !atomic_compare_exchange_weak(&job->deadline, &at,
                                         mono_ns + job->timeout_ns)) {
    }
}

/* True: too late, it was given up. Then nothing of the run counts. */
static inline bool limit_end(job_t *job)
{
    return job->timeout_ns > 0 &&
           atomic_exchange(&job->deadline, LIMIT_ENDED) == LIMIT_GIVEN_UP;
}

static inline bool limit_given_up(const job_t *job)
{
    return atomic_load(&job->deadline) == LIMIT_GIVEN_UP;
}

/* ---- Engine ---- */

/* The claim of a job: nothing of an earlier one holds. Reads its row. */
void dassie__limits_claim(struct limits *limits, job_t *job, uint64_t mono_ns);

/* The job is looked at then. It is not in the heap yet. */
void dassie__limits_add(struct limits *limits, job_t *job, uint64_t at);

/* No more; if it is in there. */
void dassie__limits_remove(struct limits *limits, job_t *job);

/* Takes the first one that is to be looked at by now, or NULL. */
job_t *dassie__limits_next(struct limits *limits, uint64_t mono_ns);

/* When the first one is: UINT64_MAX if there is none. */
uint64_t dassie__limits_due(const struct limits *limits);

/* Whether its time is over, from now on; else *again: when to look again, or
 * UINT64_MAX: its end is on its way. */
bool dassie__limit_pass(job_t *job, uint64_t mono_ns, uint64_t *again);

/* Whether it is given up, from now on: not if its end is on its way. */
static inline bool limit_give_up(job_t *job)
{
    uint64_t passed = LIMIT_PASSED;
    return atomic_compare_exchange_strong(&job->deadline, &passed,
                                          LIMIT_GIVEN_UP);
}

/* A run has ended that was asked to, as its time was over: if it has failed so,
 * what it leaves behind says that. */
void dassie__limit_settle(job_t *job);

#endif /* DASSIE_LIMIT_H_ */
