/* core.h: what the engine decides: which job goes where, and when.
 *
 * It keeps the store, the flight recorder and the processors' shares together.
 * It is synchronous: no thread, no loop, no clock of its own; the time is set
 * by its owner before each step. So every rule can be tested step by step.
 *
 * The happy path is: dassie__core_open recovers what the last process left;
 * then, for each commit: dassie__core_enqueue, dassie__core_finish, ... for
 * what has arrived, dassie__core_dispatch for what can start,
 * dassie__store_commit, dassie__core_committed. What is to be told and started
 * after the commit stands in the lists told and starting.
 *
 * Possible failure modes are: see store.h. A job that cannot be taken is
 * refused with its error before anything has changed.
 *
 * On close: dassie__core_stop makes claims end; claimed_n tells when all have.
 *
 * Threads: the engine. */
#ifndef DASSIE_CORE_H_
#define DASSIE_CORE_H_

#include "limit.h"
#include "processor.h"
#include "rebuild.h"
#include "recorder.h"
#include "retry.h"
#include "save.h"
#include "schedule.h"
#include "store.h"
#include "sweep.h"
#include "waiter.h"

/* A processor gets jobs ahead of its free slots for about this long a time at
 * its pace, but no more than so many, or so many bytes. */
#define AHEAD_NS 20000000u
#define AHEAD_JOBS_MAX 4096
#define AHEAD_BYTES_MAX (8u << 20)

/* Jobs claimed ahead of one that has kept their processor busy for this long
 * are handed back. */
#define PARKED_NS 50000000u

/* What there was no memory for is tried again after so long. */
#define STARVED_NS 100000000u

/* Jobs for which it is too late that one batch cancels as it claims. */
#define LATE_JOBS_MAX 1024

/* A line that cannot be read is tried again after this long, then twice as
 * long, up to the most. */
#define RETRY_NS_MIN 100000000u
#define RETRY_NS_MAX UINT64_C(5000000000)

/* The wall clock is read at least so often while something is scheduled. */
#define CLOCK_MS_MAX 30000

/* How long the sweep rests after each share, if little else is done. */
#define SWEEP_REST_NS 10000000u

/* And for the sweep alone no longer ahead than this, a day. */
#define SLEEP_MS_MAX 86400000

struct core_options {
    uint32_t crashes_max; /* 0: no limit */
    uint64_t suspect_ns;
    bool unsynced;
    bool read_only; /* nothing is recovered, nothing may be changed */
    size_t window_max;
    uint32_t attempts_max;    /* of a job that does not say */
    uint64_t (*random)(void); /* any 64 bits; NULL: retries have no jitter */
};

struct core_stats {
    uint64_t enqueued;
    uint64_t completed;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t retried;
    uint64_t snoozed;
    uint64_t promoted;
    uint64_t swept;
    uint64_t timed_out;
    uint64_t given_up;
    uint64_t claimed;
    uint64_t handed_off;
    uint64_t unclaimed;
    uint64_t interrupted;
    uint64_t unrecorded; /* of them: the recorder told nothing of their runs */
};

struct core {
    struct store store;
    struct recorder *recorder;
    struct core_options options;
    struct waiters waiters;
    struct core_stats stats;
    struct rebuild_report rebuild; /* at open, */
    bool rebuilt;                  /* if there was one */
    uint64_t wall_ms;              /* now */
    uint64_t mono_ns;              /* now */
    struct dassie__processor *processors;
    struct dassie__processor *starting; /* with jobs claimed in the batch */
    job_t **claimed;                    /* by recorder slot */
    uint32_t claimed_high;              /* slots in use are below this */
    uint32_t claimed_n;
    struct limits limits; /* of claimed ones */
    uint32_t hung_n;      /* runs that were given up and are not back */
    bool untold;          /* processors are to be told of cancelled ones */
    /* A run is hung; with a spare slot it is given up, if it has not just
     * ended: limit_give_up(). Or NULL. */
    bool (*hung)(void *arg, job_t *job, bool spare);
    void *hung_arg;
    struct job_list gone;   /* to be freed with the next commit */
    struct job_list told;   /* ended in the batch */
    struct saves saves;     /* of running jobs, to be written */
    struct waiter *lost;    /* no memory to let them wait */
    struct waiter *deleted; /* of jobs that are gone without an end */
    uint32_t *released;     /* slots to free after the commit */
    uint32_t released_n;
    job_t *alone;         /* the suspect that runs alone, */
    uint64_t alone_until; /* until then */
    uint64_t hold_until;  /* others may end until then, so that one can */
    bool held_in_vain;    /* and it could not start even so */
    bool again;           /* more can be claimed after the commit */
    unsigned late_n;      /* jobs of the batch that were claimed too late */
    int refuse;           /* 0, or why new jobs are refused */
    bool stopping;
    bool promote_again;  /* more is due than one commit takes */
    bool promote_passed; /* damaged rows were passed over */
    int promote_error;   /* why the schedule could not be read, or 0 */
    int sweep_error;     /* what the last pass, or this one, has met, or 0 */
    struct errmsg sweep_text;
    uint64_t sweep_at;     /* the sweep rests until then, */
    unsigned sweep_earned; /* or until so many rows are SWEEP_ROWS_MAX */
    int broken;            /* the last error of what cannot be read, */
    uint64_t retry_at;     /* when it is tried again, */
    uint64_t retry_ns;     /* and after how long a wait */
    struct errmsg error;   /* and its text */
};

/* Takes over kv, and closes it when it fails; recorder is open. */
int dassie__core_open(struct core *c, struct kv *kv, struct recorder *recorder,
                      const struct core_options *options, struct errmsg *e);

/* As dassie__store_close(). */
bool dassie__core_close(struct core *c, bool clean);
void dassie__core_free(struct core *c); /* what answers may still name */

/* Takes job (its row written, its queue's name in batch_queue), which has no
 * unique key; see admit.h. 0: it is entered and the core's; else why it is
 * refused, and it is still the caller's. */
int dassie__core_enqueue(struct core *c, job_t *job);

/* The two steps of that: the first one may fail, the second one may not. */
int dassie__core_prepare(struct core *c, job_t *job);
void dassie__core_enter(struct core *c, job_t *job);

/* The claimed job with that id, or NULL. */
job_t *dassie__core_claimed(const struct core *c, uint64_t id);

/* Makes it one that ends cancelled, before it is moved. */
void dassie__core_cancel(struct core *c, job_t *job);

/* Moves what is due into its lines. Before anything else of a batch. */
void dassie__core_promote(struct core *c);

/* Deletes what has been kept long enough. As dassie__core_promote(), and not in
 * a batch with it. */
void dassie__core_sweep(struct core *c);

/* Whether there is something to sweep, and nobody will feel a share of it: so
 * many operations were applied since the last one, or it has rested. */
bool dassie__core_may_sweep(const struct core *c);
void dassie__core_applied(struct core *c, unsigned operations);

/* A run has ended: job->status, job->out and job->verdict say how. */
void dassie__core_finish(struct core *c, job_t *job);

/* Asks runs to end whose time is over, and gives up those that do not. */
void dassie__core_timeouts(struct core *c);

/* A run that was given up has come back: nothing of it counts. */
void dassie__core_late(struct core *c, job_t *job);

/* Hands a claimed job back unrun. */
void dassie__core_unclaim(struct core *c, job_t *job);

/* The store is given up: forgets a claim without a word to it. The job's memory
 * stays the store's. */
void dassie__core_lose(struct core *c, job_t *job);

/* A job that is not claimed was moved: tells or keeps those who wait for its
 * end. It is the core's now. */
void dassie__core_moved(struct core *c, job_t *job, bool kept);

/* Takes all that wait for the end of job, as a list. */
struct waiter *dassie__core_waiters(struct core *c, job_t *job);

/* Registers, ends and forgets a processor. */
int dassie__core_processor_add(struct core *c, struct dassie__processor *p);
void dassie__core_processor_stop(struct core *c, struct dassie__processor *p);
void dassie__core_processor_remove(struct core *c, struct dassie__processor *p);

/* q was paused: what stands unstarted in the batch for those who serve it goes
 * back. */
void dassie__core_hold(struct core *c, struct queue *q);

/* Nothing is claimed any more; what stands unstarted in the batch goes back. */
void dassie__core_stop(struct core *c);

/* Claims what can start. */
void dassie__core_dispatch(struct core *c);

/* After the commit: slots of ended jobs are free again. */
void dassie__core_committed(struct core *c);

/* When dassie__core_dispatch() has something to do though nothing has arrived:
 * mono_ns, which is now if the commit makes more of it, or UINT64_MAX. */
uint64_t dassie__core_due(const struct core *c);

#endif /* DASSIE_CORE_H_ */
