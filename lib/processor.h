/* processor.h: a registered processor, seen by three threads.
 *
 * The engine decides which jobs it gets (the first part); the pool's runners
 * pop them from its run queue (the second, under the mutex); the loop starts
 * runners and tells the user (the third). */
#ifndef DASSIE_PROCESSOR_H_
#define DASSIE_PROCESSOR_H_

#include <stdatomic.h>

#include "job.h"
#include "turn.h"

struct dassie__impl;
struct pool_user;
struct runner;

struct dassie__processor {
    /* Fixed at registration. */
    struct dassie__impl *impl;
    dassie_processor_t *handle;
    dassie_work_cb work; /* or */
    dassie_start_cb start;
    dassie_cancel_cb cancel;
    dassie_backoff_cb backoff;
    unsigned concurrency;
    unsigned slots;   /* how many can execute at a time */
    unsigned spares;  /* runs that may be given up and not be back, */
    uint64_t hung_ns; /* so long after they were asked to end */
    char *names;      /* the queues' names, until the engine knows them */
    uv_buf_t *bufs;

    /* The engine's. */
    struct op add_op;
    struct op stop_op;
    struct op stopped_op;
    struct dassie__processor *next; /* registered ones */
    struct dassie__processor *starting_next;
    struct turns turns;       /* of its queues */
    struct job_list starting; /* claimed in the open batch */
    unsigned hung_n;          /* runs that were given up and are not back */
    unsigned claimed;         /* claimed and not yet ended, */
    size_t claimed_bytes;     /* with so many bytes */
    uint64_t popped_seen;     /* when the parked jobs were last looked at, */
    uint64_t parked_at;       /* and when they have parked too long; or 0 */
    bool added;
    bool stopping;
    bool stopped_told;

    /* Shared, under the mutex. */
    uv_mutex_t mutex;
    uv_cond_t cond;
    struct job_list runq;
    unsigned waiting; /* runners that wait for a job */
    unsigned active;  /* runners on the pool or on their way */
    unsigned hung;    /* of them those whose runs were given up */
    uint64_t popped;  /* jobs taken from the run queue, ever */
    bool ending;      /* runners take no more jobs */

    _Atomic uint64_t run_ns; /* how long a job takes, lately */
    atomic_bool wanted;      /* the loop is to start runners */

    /* The loop's. */
    struct dassie__processor *loop_next;
    struct runner *runners; /* one a slot and a spare, for work processors */
    struct pool_user *pool; /* and their threads */
    dassie_processor_cb stopped_cb;
    bool stop_asked;
    bool engine_done; /* the engine will not touch it any more */
};

/* Whether one more runner would have a job, and may run. Holds the mutex. */
static inline bool processor_lacks_runner(const struct dassie__processor *p)
{
    return !p->ending && p->runq.n > p->waiting &&
           p->active < p->slots + p->hung;
}

#endif /* DASSIE_PROCESSOR_H_ */
