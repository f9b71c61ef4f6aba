/* dassie.h: an embedded, persistent job queue for programs on a libuv loop.
 *
 * This header is the contract. What holds for every declaration:
 *
 * Threads. Everything belongs to the loop's thread, except what is marked
 * "any thread". Callbacks run on the loop's thread, never inside the call that
 * asked for them, unless a declaration says otherwise (a work processor runs
 * on libuv's thread pool).
 *
 * Results. A function returns 0, or a negative error: libuv's codes (UV_E...)
 * where one fits, DASSIE_E... beside them. After 0 the callback comes exactly
 * once; after an error it never comes and the request is the caller's again.
 * Every function of a queue returns UV_EPERM in a forked child (and in a work
 * callback of that queue, if it is the loop's), UV_EINVAL for a NULL it does
 * not allow or a handle that is not open, and UV_ECANCELED once dassie_close()
 * was called; only further errors are listed below.
 *
 * Ownership. Requests (dassie_enqueue_t, dassie_get_t, ...) are the caller's
 * memory and stay untouched by the caller until their last callback has begun.
 * All other input is copied before the call returns. Memory handed to a
 * callback is valid until the callback returns.
 *
 * Names and payloads are a pointer and a length and may hold any byte. Where a
 * name has a length of 0, it is taken as a C string.
 *
 * Options structs start as their _INIT value; every field left at 0 means its
 * default. A struct of a newer version is fine as long as what this one does
 * not know is 0; else it is UV_EINVAL.
 *
 * Every limit stands, with its default and error, in dassie_limits(7).
 *
 * All of it is available since version 0.1.0.
 */
#ifndef DASSIE_H_
#define DASSIE_H_

#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "dassie/version.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DASSIE_EXTERN __attribute__((visibility("default")))
#else
#define DASSIE_EXTERN
#endif

/* ---- Errors ------------------------------------------------------------ */

/* Own codes, beside libuv's. They are below UV_EOF and never overlap. */
#define DASSIE_ERRNO_MAP(XX)                                           \
    XX(ECORRUPT, -5001, "the store is damaged")                        \
    XX(EUNKNOWN, -5002, "outcome unknown, the store did not heal")     \
    XX(ENOSTORE, -5003, "not a Dassie store")                          \
    XX(ECRASHED, -5004, "the job keeps killing its process")           \
    XX(EINTERRUPTED, -5005, "interrupted, and to be run at most once") \
    XX(ESTATE, -5006, "the job is in another state")                   \
    XX(EEXPIRED, -5007, "it was too late to start the job")

typedef enum {
#define XX(name, code, text) DASSIE_##name = code,
    DASSIE_ERRNO_MAP(XX)
#undef XX
        DASSIE_ERRNO_END_ = 0
} dassie_errno_t;

/* ---- Limits ------------------------------------------------------------ */

#define DASSIE_NAME_BYTES_MAX 255              /* a queue's or a job's name */
#define DASSIE_PAYLOAD_BYTES_MAX 16777216      /* default; see options */
#define DASSIE_PAYLOAD_BYTES_CEILING 268435456 /* the most it may be */
#define DASSIE_ERROR_BYTES_MAX 4096            /* a job's error text */
#define DASSIE_UNIQUE_BYTES_MAX 255            /* a unique key */
#define DASSIE_PROGRESS_BYTES_MAX 255          /* a job's progress in words */
#define DASSIE_CHECKPOINT_BYTES_MAX 65536      /* what a run saves */
#define DASSIE_QUEUES_MAX 65536                /* queues in one store */
#define DASSIE_INBOX_JOBS_MAX 65536            /* default; see options */
#define DASSIE_INBOX_BYTES_MAX 67108864        /* default; see options */
#define DASSIE_BATCH_JOBS_MAX 1000000          /* jobs of one enqueue_many */
#define DASSIE_BATCH_REPLACE_MAX 256           /* of them that may replace */
#define DASSIE_CLAIMED_MAX 16384               /* claimed and not yet ended */
#define DASSIE_CONCURRENCY_MAX 1024            /* of one processor */
#define DASSIE_PROCESSORS_MAX 1024             /* processors of one handle */
#define DASSIE_PROCESSOR_QUEUES_MAX 1024       /* queues of one processor */
#define DASSIE_WEIGHT_MAX 1000                 /* of one of them */
#define DASSIE_LIST_MAX 1000                   /* jobs of one page */
#define DASSIE_LOOKUPS_MAX 65536               /* look-ups under way */
#define DASSIE_METRICS_QUEUES_MAX 256          /* with metrics of their own */
#define DASSIE_SUBSCRIPTIONS_MAX 64            /* of one handle */
#define DASSIE_ADMIN_CLIENTS_MAX 16            /* of one handle */
#define DASSIE_ADMIN_BYTES_MAX 1048576         /* a request to its socket */
#define DASSIE_EVENTS_MAX 4096                 /* kept for a subscription */
#define DASSIE_PROBLEMS_MAX 1000               /* told by dassie_check() */
#define DASSIE_CHANGE_IDS_MAX 10000            /* ids of one change */
#define DASSIE_MEMORY_BYTES 67108864           /* default budget; see options */
#define DASSIE_MEMORY_BYTES_MIN 16777216       /* the least it may be */
#define DASSIE_PRIORITY_MIN (-20)              /* runs first */
#define DASSIE_PRIORITY_MAX 19                 /* runs last */
#define DASSIE_ATTEMPTS 20                     /* default; see spec */
#define DASSIE_ATTEMPTS_MAX 1000000            /* the most it may be */
#define DASSIE_BACKOFF_MS 1000                 /* default; see spec */
#define DASSIE_BACKOFF_MAX_MS 3600000          /* default; see spec */
#define DASSIE_TIMEOUT_MS_MAX 864000000        /* of a run: ten days */
#define DASSIE_HUNG_MS 10000                   /* default; see processors */

/* ---- Types ------------------------------------------------------------- */

/* Times are milliseconds since 1970 by the wall clock, up to the end of the
 * year 9999; a later one is UV_EINVAL. */
#define DASSIE_TIME_MS_MAX 253402300799999

typedef struct dassie_s dassie_t;
typedef struct dassie_options_s dassie_options_t;
typedef struct dassie_spec_s dassie_spec_t;
typedef struct dassie_info_s dassie_info_t;
typedef struct dassie_count_s dassie_count_t;
typedef struct dassie_stats_s dassie_stats_t;
typedef struct dassie_enqueue_s dassie_enqueue_t;
typedef struct dassie_enqueue_many_s dassie_enqueue_many_t;
typedef struct dassie_watch_s dassie_watch_t;
typedef struct dassie_get_s dassie_get_t;
typedef struct dassie_list_s dassie_list_t;
typedef struct dassie_list_options_s dassie_list_options_t;
typedef struct dassie_counts_s dassie_counts_t;
typedef struct dassie_queues_s dassie_queues_t;
typedef struct dassie_queue_info_s dassie_queue_info_t;
typedef struct dassie_metrics_s dassie_metrics_t;
typedef struct dassie_drain_s dassie_drain_t;
typedef struct dassie_event_s dassie_event_t;
typedef struct dassie_subscription_s dassie_subscription_t;
typedef struct dassie_subscribe_options_s dassie_subscribe_options_t;
typedef struct dassie_change_s dassie_change_t;
typedef struct dassie_filter_s dassie_filter_t;
typedef struct dassie_configure_s dassie_configure_t;
typedef struct dassie_settings_s dassie_settings_t;
typedef struct dassie_processor_s dassie_processor_t;
typedef struct dassie_process_options_s dassie_process_options_t;
typedef struct dassie_verify_report_s dassie_verify_report_t;
typedef struct dassie_problem_s dassie_problem_t;
typedef struct dassie_check_s dassie_check_t;
typedef struct dassie_backup_s dassie_backup_t;
typedef struct dassie_job_s dassie_job_t;

/* The state of a job. A job is in exactly one at any time. The value 3 is never
 * given. */
typedef enum {
    DASSIE_PENDING = 0,   /* waits for a processor */
    DASSIE_SCHEDULED = 1, /* waits for its time */
    DASSIE_RUNNING = 2,   /* claimed on behalf of a processor */
    DASSIE_COMPLETE = 4,  /* ended well; never runs again */
    DASSIE_FAILED = 5,    /* ended badly; does not run again by itself */
    DASSIE_CANCELLED = 6  /* given up before it ended by itself */
} dassie_state_t;

/* What can be done to jobs by dassie_change(). */
typedef enum {
    DASSIE_CANCEL = 1, /* pending, scheduled: cancelled at once; running: its
                          flag is raised, see dassie_job_cancelled() */
    DASSIE_RETRY = 2,  /* failed, cancelled: pending again */
    DASSIE_DELETE = 3, /* complete, failed, cancelled; pending and scheduled
                          ones, too, if the filter names these states: gone */
    DASSIE_RUN_NOW = 4 /* scheduled: pending, as if its time had come */
} dassie_action_t;

/* When is an enqueue or an end acknowledged? It belongs to the store, never
 * to a job. */
typedef enum {
    DASSIE_FULL = 0, /* after its commit is fsynced: survives a power cut */
    DASSIE_OFF = 1   /* after its commit is written: survives a kill only; after
                        a power cut the next open rebuilds what is left, and
                        tells the log what it did */
} dassie_durability_t;

typedef enum {
    DASSIE_LOG_ERROR = 1,
    DASSIE_LOG_WARNING = 2,
    DASSIE_LOG_INFO = 3
} dassie_log_level_t;

/* How long a job holds its unique key, from its enqueue on. */
typedef enum {
    DASSIE_UNTIL_ENDED = 0,   /* until it is complete, failed, cancelled or
                                 deleted; one that is retried takes it again */
    DASSIE_UNTIL_STARTED = 1, /* until it is claimed, some ms before it runs, or
                                 any of those; however it comes back after that,
                                 only one that is retried takes it again */
    DASSIE_UNTIL_TIME = 2     /* for unique_ms, whatever becomes of it, unless
                                 dassie_change() deletes it */
} dassie_until_t;

/* What is to be done if another job of the queue holds the key. One that waits
 * is pending or scheduled; one that runs, or has ended and still holds its key,
 * is kept in any case. */
typedef enum {
    DASSIE_CONFLICT_KEEP = 0, /* nothing: that one is the answer */
    DASSIE_CONFLICT_REPLACE =
        1, /* cancel it if it waits, and enqueue this one, at once */
    DASSIE_CONFLICT_MOVE = 2 /* if it waits, let it wait until this one would
                       have, and nothing else; it is the answer */
} dassie_conflict_t;

/* Flags of a job. */
enum {
    /* A run of this job that was interrupted (process killed, power cut) is
     * not repeated: the job goes to failed with DASSIE_EINTERRUPTED. So does
     * one that ended just before, if its end was not yet on disk. Unless
     * attempts_max says otherwise, one that fails is not repeated either. */
    DASSIE_AT_MOST_ONCE = 1
};

/* Flags of a store. */
enum {
    /* Open only what exists: a missing store is UV_ENOENT. */
    DASSIE_NO_CREATE = 1,
    /* Read all of the store first. If it is damaged, make a new database of
     * what can be read, tell the log what was saved and what was not, and keep
     * the damaged one as db.damaged-N in the store's directory. */
    DASSIE_SALVAGE = 2,
    /* Only look: a store that exists and has no owner. Nothing in it changes,
     * and what an owner that was killed left is told as it left it, jobs under
     * way as running. What would change anything is told UV_EROFS, no processor
     * gets a job, and what is waited for does not come. */
    DASSIE_READ_ONLY = 4,
    /* For tests: in memory, without threads, and its clock stands still. See
     * dassie_testing_advance(). It goes with no other flag. */
    DASSIE_TESTING = 8,
    /* With DASSIE_READ_ONLY: look also at a store that has an owner, as it
     * stood when it was opened. The owner notices nothing. All of it is read
     * first; if it is seen in the middle of a write again and again, the log is
     * told that it is a moment's view. It cannot be copied. */
    DASSIE_BESIDE = 16
};

/* ---- Callbacks --------------------------------------------------------- */

/* The store is open (0), or could not be opened (<0; dassie_errmsg() says
 * more): UV_EBUSY in use (the message names the owner's pid), UV_ENOTSUP a
 * newer format, DASSIE_ENOSTORE something else is there, DASSIE_ECORRUPT
 * damaged, UV_ENOENT, UV_ENOTDIR, UV_ENAMETOOLONG, UV_ELOOP, UV_EACCES,
 * UV_EROFS, UV_ENOSPC, UV_EIO, UV_EMFILE, UV_EFBIG, UV_ENOMEM. After an error
 * enqueues are refused as cancelled, nothing runs, and dassie_close() is what
 * is left to do. Loop thread. */
typedef void (*dassie_open_cb)(dassie_t *q, int status);

/* The very last touch of the handle. Loop thread. */
typedef void (*dassie_close_cb)(dassie_t *q);

/* One line of log, without a newline. Loop thread. */
typedef void (*dassie_log_cb)(dassie_t *q, dassie_log_level_t level,
                              const char *line);

/* Why it is time to produce less: the bits of pressure. */
enum {
    DASSIE_INBOX_FULL = 1,   /* an enqueue was refused; until the inbox has
                                drained to a quarter */
    DASSIE_BACKLOG_HIGH = 2, /* pending_jobs_high or pending_bytes_high are
                                pending; until no more than pending_jobs_low,
                                and pending_bytes_low, are */
    DASSIE_STORE_STALLED = 4 /* RocksDB slows commits down or stops them, as it
                                is behind with its tables; until it does not */
};

/* Pressure has changed: stop producing, with uv_read_stop() say, or go on if it
 * is 0. Loop thread. */
typedef void (*dassie_pressure_cb)(dassie_t *q, int pressure);

/* The job req->id is in the queue as durably as the store's durability says
 * (0; with req->existing it is the one that held the unique key, even if it has
 * ended), or certainly not in it (<0): UV_ENOSPC below the free-space floor,
 * UV_ENOBUFS with DASSIE_QUEUES_MAX queues, UV_ENOMEM, UV_EIO or
 * DASSIE_ECORRUPT its unique key cannot be looked up, UV_EROFS when the store
 * was opened with DASSIE_READ_ONLY, UV_ECANCELED when it never opened or was
 * given up, DASSIE_EUNKNOWN only when it failed and did not heal before
 * dassie_close(). Loop thread. */
typedef void (*dassie_enqueue_cb)(dassie_enqueue_t *req, int status);

/* The job ended, and that is as durable as the store's durability says
 * (status 0; job->state is DASSIE_COMPLETE, DASSIE_FAILED or DASSIE_CANCELLED,
 * with its result or error), or with job NULL: UV_ECANCELED the queue was
 * closed before it ended, UV_ENOENT it was deleted before it ended, UV_ENOMEM
 * no memory to wait for it, DASSIE_EUNKNOWN it ended but the store failed and
 * did not heal. Comes after the enqueue callback, and only if that had status
 * 0; without one it also tells what that would have told: <0, job is NULL.
 * job->data is not set. Loop thread. */
typedef void (*dassie_done_cb)(dassie_enqueue_t *req, int status,
                               const dassie_info_t *job);

/* All of the batch is in the queue, with the ids req->first_id up to
 * first_id + count - 1 in the order of the specs, but for those whose unique
 * key was held (0), or nothing of it (<0, as dassie_enqueue_cb). Loop
 * thread. */
typedef void (*dassie_enqueue_many_cb)(dassie_enqueue_many_t *req, int status);

/* As dassie_done_cb, for a job watched by id; or, with job NULL, UV_ENOENT: no
 * such job, UV_ENOMEM, UV_EIO, DASSIE_ECORRUPT. Loop thread. */
typedef void (*dassie_watch_cb)(dassie_watch_t *req, int status,
                                const dassie_info_t *job);

/* The job as of the last commit (0), or UV_ENOENT, UV_ENOMEM, UV_EIO,
 * DASSIE_ECORRUPT or UV_ECANCELED, with job NULL. Loop thread. */
typedef void (*dassie_get_cb)(dassie_get_t *req, int status,
                              const dassie_info_t *job);

/* A page of n jobs, all from one snapshot (0), or an error as dassie_get_cb
 * with n = 0. req->more tells whether it is the last. Loop thread. */
typedef void (*dassie_list_cb)(dassie_list_t *req, int status,
                               const dassie_info_t *jobs, size_t n);

/* Exact counts as of the last commit (0), UV_ENOENT: no such queue,
 * UV_ECANCELED. Loop thread. */
typedef void (*dassie_counts_cb)(dassie_counts_t *req, int status,
                                 const dassie_count_t *count);

/* The n queues of the store in the order in which they were made, with exact
 * counts as of the last commit (0), UV_ENOMEM, UV_ECANCELED. Loop thread. */
typedef void (*dassie_queues_cb)(dassie_queues_t *req, int status,
                                 const dassie_queue_info_t *queues, size_t n);

/* The queue listens on its admin socket (0), or UV_ECANCELED it never opened or
 * was closed first, UV_EROFS it was opened with DASSIE_READ_ONLY,
 * UV_ENOTSUP it is in memory, UV_ENAMETOOLONG, UV_EACCES, UV_ENOSPC, UV_EMFILE,
 * UV_ENOMEM. Loop thread. */
typedef void (*dassie_admin_cb)(dassie_t *q, int status);
/* The metrics, as text of len bytes and a zero byte (0), or UV_ENOMEM, with
 * text NULL and len 0. Loop thread. */
typedef void (*dassie_metrics_cb)(dassie_metrics_t *req, int status,
                                  const char *text, size_t len);

/* Nothing is pending or running any more, durably (0), whatever is scheduled;
 * UV_ECANCELED: the
 * queue was closed first. Loop thread. */
typedef void (*dassie_drain_cb)(dassie_drain_t *req, int status);

/* The change is made, and durable (0): req->changed jobs are in another state
 * now, and of running ones so many were asked to end. For a single id req->was
 * is the state it was in. UV_ENOENT: there is no such job, DASSIE_ESTATE: it is
 * in a state in which this cannot be done, UV_EEXIST: another one holds the
 * unique key that it would need again (all three for a single id only),
 * UV_ENOMEM, UV_EROFS, UV_EIO, DASSIE_ECORRUPT, DASSIE_EUNKNOWN as for an
 * enqueue, UV_ECANCELED the queue was closed first; what was changed by then,
 * and committed, stays. Loop thread. */
typedef void (*dassie_change_cb)(dassie_change_t *req, int status);

/* The queue has these settings, durably (0), or with settings NULL: UV_ENOENT
 * there is no such queue (when they were only to be read), UV_ENOBUFS with
 * DASSIE_QUEUES_MAX queues, UV_ENOMEM, UV_EROFS, UV_ECANCELED the queue was
 * closed first, DASSIE_EUNKNOWN as for an enqueue. Loop thread. */
typedef void (*dassie_configure_cb)(dassie_configure_t *req, int status,
                                    const dassie_settings_t *settings);

/* Tells n events in their order, before which missed ones are lost, as the ring
 * was full: dassie_list() tells how things stand now. n is 0 when nothing
 * followed those. Loop thread. */
typedef void (*dassie_event_cb)(dassie_subscription_t *sub,
                                const dassie_event_t *events, size_t n,
                                uint64_t missed);

/* Runs one job and returns how it ended: 0 is complete; after anything else
 * the job is tried again later (see dassie_spec_t) or, in the end, failed, with
 * the text of dassie_job_set_error() or, for an error code without one, its
 * message. POOL THREAD: touch no loop object here; of this
 * library only what is marked "any thread" and the dassie_job_ functions. */
typedef int (*dassie_work_cb)(dassie_job_t *job);

/* Starts one job and returns; dassie_finish() ends it, at any later time (or
 * from in here). The job is valid until then. Loop thread. */
typedef void (*dassie_start_cb)(dassie_job_t *job);

/* Asks a job that was started to end soon: dassie_job_cancelled() says why.
 * The job still ends by dassie_finish(). Loop thread. */
typedef void (*dassie_cancel_cb)(dassie_job_t *job);

/* How many ms after its failure a job is to be tried again; n attempts have
 * failed so far, this one included. It is asked in place of the formula in
 * dassie_spec_t, when the work callback returned an error without having called
 * dassie_job_retry_in() or dassie_job_no_retry(), on its thread. Whether there
 * is another attempt is not for it to say. */
typedef uint64_t (*dassie_backoff_cb)(dassie_job_t *job, uint32_t n);

/* No job of this processor is under way and none will start: its memory is the
 * caller's again. Loop thread. */
typedef void (*dassie_processor_cb)(dassie_processor_t *p);

/* One thing out of place in a store: a line of text for people, and the job
 * it is about (0 if none). Runs on the thread that called dassie_verify(). */
typedef void (*dassie_verify_cb)(void *arg, uint64_t id, const char *line);

/* The whole store was read (0), whatever was found, or it is too damaged for
 * that (DASSIE_ECORRUPT): *report and req->problems tell. Or, with report NULL,
 * UV_EAGAIN: the store failed meanwhile, and is being opened anew, or there is
 * no thread to be had; UV_ENOMEM, UV_EIO, UV_ECANCELED. Loop thread. */
typedef void (*dassie_check_cb)(dassie_check_t *req, int status,
                                const dassie_verify_report_t *report);

/* The copy is there, durably (0), or it is not: UV_EEXIST something is there
 * already, UV_ENOENT or UV_ENOTDIR it cannot be there, UV_ENOTSUP the queue is
 * in memory, or another's (DASSIE_BESIDE), UV_EAGAIN as for a check,
 * UV_ENAMETOOLONG, UV_ELOOP, UV_EACCES, UV_EROFS, UV_ENOSPC, UV_EIO, UV_EMFILE,
 * UV_EFBIG, UV_ENOMEM, DASSIE_ECORRUPT, UV_ECANCELED. Loop thread. */
typedef void (*dassie_backup_cb)(dassie_backup_t *req, int status);

/* ---- Options ----------------------------------------------------------- */

struct dassie_options_s {
    size_t size;                    /* set by DASSIE_OPTIONS_INIT */
    unsigned flags;                 /* DASSIE_NO_CREATE, ... */
    dassie_durability_t durability; /* DASSIE_FULL */
    unsigned commit_delay_ms;       /* 0: gather no longer than the last
                                       commit takes; at most 1000 */
    unsigned grace_ms;              /* 10000: how long dassie_close() waits
                                       before it raises cancel flags */
    unsigned suspect_ms;            /* 10000: how long a suspect runs alone */
    int max_crashes;                /* 3: crashes alone before a job fails;
                                       -1: never */
    size_t payload_bytes_max;       /* DASSIE_PAYLOAD_BYTES_MAX */
    size_t inbox_jobs_max;          /* DASSIE_INBOX_JOBS_MAX */
    size_t inbox_bytes_max;         /* DASSIE_INBOX_BYTES_MAX */
    size_t memory_bytes;            /* DASSIE_MEMORY_BYTES: memtables, caches
                                       and ready window together */
    uint64_t free_bytes_min;        /* 67108864: below this much free disk
                                       new jobs get UV_ENOSPC */
    dassie_log_cb log_cb;           /* NULL: no log */
    dassie_pressure_cb pressure_cb; /* NULL: nobody is told */
    uint64_t pending_jobs_high;     /* 0: a backlog is no pressure; else so
                                       many pending jobs are, */
    uint64_t pending_jobs_low;      /* until so few are left; 0: half */
    uint64_t pending_bytes_high;    /* the same by bytes: of their payloads and
                                       names, and some more, */
    uint64_t pending_bytes_low;     /* until so few are left; 0: half */
};
#define DASSIE_OPTIONS_INIT                                                   \
    {                                                                         \
        sizeof(struct dassie_options_s), 0, DASSIE_FULL, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, NULL, NULL, 0, 0, 0, 0                                      \
    }

/* What to enqueue.
 *
 * A job that is not to run before some time is scheduled: for delay_ms from
 * now, or until run_at_ms by the wall clock (at most one of them is set). A
 * time that has passed is now. When its time has come it goes to the end of its
 * line, behind what is pending there. A wall clock that is set back delays it.
 *
 * A job whose run fails is tried again until attempts_max have failed, or a
 * retry would begin later than retry_for_ms after the enqueue (or after it was
 * retried by dassie_change()); then it is failed. After n failed attempts it
 * waits for
 *
 *     min(backoff_ms * 2^(n - 1), backoff_max_ms) * jitter
 *
 * with jitter uniform in [0.75, 1.25]: with the defaults about 1 s, 2 s, 4 s
 * ... up to an hour, some eight hours in all. attempts_max 1 is no retry.
 *
 * A job that has not begun its first run expire_ms after it was due, as it was
 * enqueued, is cancelled with DASSIE_EEXPIRED, pending or scheduled, and does
 * not run. One that was retried by dassie_change() does not expire. A wall
 * clock that is set back delays it.
 * A run may take timeout_ms from its begin, or from the last call of
 * dassie_job_touch(). Then it is asked to end: dassie_job_cancelled() says
 * UV_ETIMEDOUT, and an async processor's cancel callback comes. What becomes of
 * it is still its processor's to say. If it gives up with UV_ECANCELED or
 * UV_ETIMEDOUT that is a failed attempt, with the code UV_ETIMEDOUT, and the
 * rules above apply; so they do if it fails in another way; if it ends well the
 * job is complete. For one that does not end see spares in
 * dassie_process_options_t.
 *
 * A job may have a key that no other job of its queue has as long as it holds
 * it. An enqueue that finds it held has no job of its own, or gets it by
 * replacing the one that holds it: see dassie_until_t and dassie_conflict_t. */
struct dassie_spec_s {
    size_t size;           /* set by DASSIE_SPEC_INIT */
    const char *queue;     /* NULL: "default" */
    size_t queue_len;      /* 0: a C string */
    const char *name;      /* NULL: no name; else 1 to 255 bytes */
    size_t name_len;       /* 0: a C string */
    const void *data;      /* the payload; may be NULL if data_len is 0 */
    size_t data_len;       /* 0 up to the store's payload_bytes_max */
    int priority;          /* -20 runs first, 19 last, 0 by default */
    unsigned flags;        /* DASSIE_AT_MOST_ONCE */
    uint64_t delay_ms;     /* 0: now */
    uint64_t run_at_ms;    /* ms since 1970; 0: now */
    uint32_t attempts_max; /* 0: DASSIE_ATTEMPTS, with DASSIE_AT_MOST_ONCE 1 */
    uint64_t backoff_ms;   /* 0: DASSIE_BACKOFF_MS */
    uint64_t backoff_max_ms;       /* 0: DASSIE_BACKOFF_MAX_MS */
    uint64_t retry_for_ms;         /* 0: as long as attempts are left */
    uint64_t expire_ms;            /* 0: it is never too late to start */
    uint64_t timeout_ms;           /* 0: a run may take as long as it likes */
    const char *unique;            /* the unique key, any bytes; NULL: none */
    size_t unique_len;             /* 0: a C string */
    dassie_until_t unique_until;   /* DASSIE_UNTIL_ENDED */
    uint64_t unique_ms;            /* with DASSIE_UNTIL_TIME */
    dassie_conflict_t on_conflict; /* DASSIE_CONFLICT_KEEP */
};
#define DASSIE_SPEC_INIT                                                     \
    {                                                                        \
        sizeof(struct dassie_spec_s), NULL, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, 0, NULL, 0, DASSIE_UNTIL_ENDED, 0,                \
            DASSIE_CONFLICT_KEEP                                             \
    }

/* How to process. Exactly one of work and start is set.
 *
 * A run that was asked to end as it has timed out, and has not ended hung_ms
 * later, is hung, which is told to the log. As no thread can be stopped from
 * outside it goes on; but if the processor has a spare, the run is given up:
 * its attempt ends then and there as failed with UV_ETIMEDOUT, durably; the job
 * may be tried again beside it (not one that is to be run at most once); and
 * another job runs in its slot. Nothing it says when it returns changes
 * anything. Until then the spare is taken; a run that hangs while none is left
 * waits for one, in its slot. Each spare in use is one more thread of the pool:
 * leave room for it, see UV_THREADPOOL_SIZE. dassie_processor_stop() and
 * dassie_close() wait for such runs, too. */
struct dassie_process_options_s {
    size_t size;               /* set by DASSIE_PROCESS_OPTIONS_INIT */
    const char *queue;         /* the one queue; NULL: "default" */
    size_t queue_len;          /* 0: a C string */
    const uv_buf_t *queues;    /* or several, served in strict order, */
    unsigned queues_n;         /* how many; 0: the one above */
    unsigned concurrency;      /* 1: how many jobs at a time */
    dassie_work_cb work;       /* runs on the thread pool ... */
    dassie_start_cb start;     /* ... or starts on the loop (async) */
    dassie_cancel_cb cancel;   /* async only, may be NULL */
    dassie_backoff_cb backoff; /* work only, may be NULL */
    unsigned hung_ms;          /* DASSIE_HUNG_MS: after the timeout */
    unsigned spares;           /* 0: how many hung runs are given up; up to
                                  DASSIE_CONCURRENCY_MAX */
    const unsigned *weights;   /* or, if not NULL, by weights: one for each of
                                  queues, 1 to DASSIE_WEIGHT_MAX; see
                                  dassie_process() */
};
#define DASSIE_PROCESS_OPTIONS_INIT                                         \
    {                                                                       \
        sizeof(struct dassie_process_options_s), NULL, 0, NULL, 0, 0, NULL, \
            NULL, NULL, NULL, 0, 0, NULL                                    \
    }

struct dassie_list_options_s {
    size_t size;          /* set by DASSIE_LIST_OPTIONS_INIT */
    dassie_state_t state; /* which state; DASSIE_PENDING by default */
    const char *queue;    /* NULL: all queues */
    size_t queue_len;     /* 0: a C string */
    unsigned limit;       /* 100: jobs a page, up to DASSIE_LIST_MAX; a page
                             also ends when it holds 16 MiB */
};
#define DASSIE_LIST_OPTIONS_INIT                                         \
    {                                                                    \
        sizeof(struct dassie_list_options_s), DASSIE_PENDING, NULL, 0, 0 \
    }

/* ---- What is told ------------------------------------------------------ */

/* A job as it is known. Pointers are valid until the callback returns; names,
 * error and progress are also followed by a zero byte. */
struct dassie_info_s {
    uint64_t id;
    dassie_state_t state;
    unsigned flags;
    int priority;
    uint32_t attempts;    /* runs begun and counted, this one included */
    uint32_t excused;     /* of them, until it has ended: those that use up no
                             attempt, as they were snoozed */
    uint32_t crashes;     /* deaths of the process while it ran alone */
    uint64_t enqueued_ms; /* wall clock, ms since 1970 */
    uint64_t ended_ms;    /* wall clock; 0 until it ended */
    uint64_t due_ms;      /* wall clock, of a scheduled job */
    uint64_t expires_ms;  /* wall clock: when it is too late for its first run;
                             0: never */
    const char *queue;
    size_t queue_len;
    const char *name;
    size_t name_len;
    const void *data; /* the payload, unless it was dropped */
    size_t data_len;
    const void *result; /* of a complete job */
    size_t result_len;
    int error_code; /* of a failed or cancelled job; of one that is pending or
                       scheduled, that of its last failed attempt, or 0 */
    const char *error; /* its text */
    size_t error_len;
    const void *unique; /* its unique key, held or not; NULL: none */
    size_t unique_len;
    dassie_until_t unique_until;
    uint64_t progress_done;  /* as the job said last: so much ... */
    uint64_t progress_total; /* ... of this, or 0 */
    const char *progress;    /* and in words, or NULL */
    size_t progress_len;
};

/* How many jobs are in each state. */
struct dassie_count_s {
    uint64_t pending;
    uint64_t scheduled;
    uint64_t running;
    uint64_t complete;
    uint64_t failed;
    uint64_t cancelled;
};

/* A queue. */
struct dassie_queue_info_s {
    const char *name; /* followed by a zero byte */
    size_t name_len;
    dassie_count_t jobs;
    int paused;             /* 1: none of its jobs starts */
    uint64_t pending_bytes; /* of its pending jobs, as in dassie_stats_t */
};

/* What a handle has done since it was opened, and how it stands: what a
 * callback tells of is counted by then. */
struct dassie_stats_s {
    dassie_count_t jobs;    /* of all queues, as of the last commit */
    uint64_t pending_bytes; /* of its pending ones: payloads, names, unique
                               keys, 17 bytes a job and some for options */
    uint64_t queues;        /* queues in the store */
    uint64_t enqueued;      /* jobs */
    uint64_t completed;     /* jobs */
    uint64_t failed;        /* jobs, in the end */
    uint64_t cancelled;     /* jobs */
    uint64_t retried;       /* failed attempts that were not the last */
    uint64_t snoozed;       /* runs that ended so */
    uint64_t swept;         /* ended jobs that were kept long enough */
    uint64_t timed_out;     /* runs that were asked to end */
    uint64_t given_up;      /* of them, those that did not */
    uint64_t promoted;      /* scheduled jobs whose time has come */
    uint64_t claimed;       /* claims, hand-offs included */
    uint64_t handed_off;    /* claims that skipped the pending row */
    uint64_t unclaimed;     /* claims handed back unrun */
    uint64_t interrupted;   /* found executing or ended at open */
    uint64_t commits;       /* atomic writes to the store */
    uint64_t fsyncs;        /* of them fsynced */
    uint64_t rows;          /* rows written */
    uint64_t row_bytes;     /* keys and values of them */
    uint64_t refills;       /* of the ready window */
    uint64_t heals;         /* times the store was reopened after an error */
    uint64_t inbox_jobs;    /* waiting for a commit now */
    uint64_t inbox_bytes;   /* of them: payloads, names, 17 bytes a job */
    uint32_t suspects;      /* jobs waiting to run alone */
    uint32_t hung;          /* runs given up that are not back */
    uint32_t pool_threads;  /* pool threads this process may use */
    uint32_t runners;       /* of them busy for this handle */
    uint32_t work_slots;    /* concurrency asked for by work processors */
    int degraded;           /* 0, or the error the store is healing from */
};

/* What dassie_verify() found. */
struct dassie_verify_report_s {
    dassie_count_t jobs; /* recounted from the rows alone */
    uint64_t rows;       /* rows read */
    uint64_t problems;   /* things out of place; 0 is a sound store */
};

/* One thing out of place in a store, as dassie_verify_cb tells it. */
struct dassie_problem_s {
    uint64_t id;
    const char *line;
};

/* ---- Handle ------------------------------------------------------------ */

/* A queue: one directory, one owner. Embed it; data is yours, the rest is
 * private. */
struct dassie_s {
    void *data;
    uv_loop_t *loop;
    struct dassie__impl *impl;
    void *reserved[4];
};

/* Makes q ready to be opened on loop. No I/O. Must be undone by
 * dassie_close(). Errors: UV_ENOMEM, UV_EMFILE. */
DASSIE_EXTERN int dassie_init(uv_loop_t *loop, dassie_t *q);

/* Opens the store in the directory path, making it if need be (its parent must
 * exist), and recovers what an earlier process left. Returns at once; what is
 * asked of q meanwhile waits. options and cb may be NULL. The open queue keeps
 * the loop alive (see dassie_unref()).
 * Errors: UV_EINVAL options out of range, UV_EALREADY opened before, UV_ENOMEM,
 * UV_EAGAIN no thread, UV_ENAMETOOLONG, UV_EPERM also in a child of a process
 * that has had any store open, until it calls execve(). */
DASSIE_EXTERN int dassie_open(dassie_t *q, const char *path,
                              const dassie_options_t *options,
                              dassie_open_cb cb);

/* Ends q: no new job starts, jobs claimed but not started go back uncounted,
 * running ones may finish (after grace_ms their cancel flag is raised; one
 * that never ends is told to the log every 5 s), all is committed and
 * released. Legal in every state after dassie_init() and from every callback.
 * Every other callback comes first; cb is the last. It may be NULL: then q's
 * memory is needed until the loop has ended. Errors: UV_EALREADY closed before
 * (never UV_ECANCELED). */
DASSIE_EXTERN int dassie_close(dassie_t *q, dassie_close_cb cb);

/* Whether q keeps its loop alive from dassie_open() on: yes by default. Both
 * are idempotent and may come before dassie_open(); dassie_close() references
 * q again. A q that is unreferenced still completes what is under way as long
 * as the loop runs, but an enqueue under way does not keep it running. */
DASSIE_EXTERN void dassie_ref(dassie_t *q);
DASSIE_EXTERN void dassie_unref(dassie_t *q);

/* ---- Enqueue ----------------------------------------------------------- */

struct dassie_enqueue_s {
    void *data;             /* yours */
    dassie_t *q;            /* set by dassie_enqueue() */
    uint64_t id;            /* set before cb, if its status is 0 */
    int existing;           /* so, too: 1 if id is that of the job that held the
                               unique key, and nothing was enqueued */
    dassie_done_cb done_cb; /* set it before dassie_enqueue(), or NULL */
    dassie_enqueue_cb cb;   /* private from here on */
    uint64_t reserved[11];
};
/* A request starts zeroed: dassie_enqueue_t req = {0}. */

/* Puts one job into the queue. ANY THREAD, once dassie_open() has returned 0
 * and until dassie_close() is called. req may be NULL when nobody wants to
 * know; else cb (may be NULL) tells when the job is durable, and req->done_cb
 * (if set) when it has ended, which for one that was there may have been long
 * ago; req stays the library's until the last of them. One that may replace or
 * move another waits for the next commit if it has to, and so do those with
 * unique keys that come after it.
 * Errors: UV_EINVAL name, queue, priority, flags, size or a time out of range,
 * delay_ms beside run_at_ms, unique key of more than DASSIE_UNIQUE_BYTES_MAX
 * bytes, unique_ms without DASSIE_UNTIL_TIME or it without that; UV_E2BIG
 * payload above the store's limit; UV_ENOBUFS inbox full (pressure_cb tells
 * when to go on); UV_ENOMEM. */
DASSIE_EXTERN int dassie_enqueue(dassie_t *q, dassie_enqueue_t *req,
                                 const dassie_spec_t *spec,
                                 dassie_enqueue_cb cb);

struct dassie_enqueue_many_s {
    void *data;                /* yours */
    dassie_t *q;               /* set by dassie_enqueue_many() */
    uint64_t first_id;         /* set before cb, if its status is 0 */
    uint64_t count;            /* so, too: how many jobs are new; all, before */
    uint64_t *ids;             /* NULL, or room for an id a spec, yours: set
                                  before cb, if its status is 0 */
    dassie_enqueue_many_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Puts n jobs into the queue in one atomic write: all or none, with
 * consecutive ids. ANY THREAD, as dassie_enqueue(). n is at least 1, and all
 * specs have one size. A batch is admitted whole whenever the inbox is not
 * full. Of two with one unique key the first has it, whatever the second asks
 * for; what is told of that one is the id of the first. req may not be NULL.
 * Errors: as dassie_enqueue(); UV_E2BIG also more than DASSIE_BATCH_JOBS_MAX
 * jobs, more than DASSIE_BATCH_REPLACE_MAX with DASSIE_CONFLICT_REPLACE or
 * DASSIE_CONFLICT_MOVE, or more than four times inbox_bytes_max in total. */
DASSIE_EXTERN int dassie_enqueue_many(dassie_t *q, dassie_enqueue_many_t *req,
                                      const dassie_spec_t *specs, size_t n,
                                      dassie_enqueue_many_cb cb);

struct dassie_watch_s {
    void *data;         /* yours */
    dassie_t *q;        /* set by dassie_watch() */
    uint64_t id;        /* set by dassie_watch() */
    dassie_watch_cb cb; /* private from here on */
    uint64_t reserved[11];
};

/* Tells when the job id has ended, whoever enqueued it and when; at once if it
 * has. All that is kept of it is the request, so their number has no limit of
 * the library's. */
DASSIE_EXTERN int dassie_watch(dassie_t *q, dassie_watch_t *req, uint64_t id,
                               dassie_watch_cb cb);

/* ---- Process ----------------------------------------------------------- */

struct dassie_processor_s {
    void *data;  /* yours */
    dassie_t *q; /* set by dassie_process() */
    struct dassie__processor *impl;
    void *reserved[4];
};

/* Registers p to run jobs of the given queues; several may serve one queue.
 * p stays the library's until dassie_processor_stop()'s callback, or that of
 * dassie_close(). More concurrency than the pool has threads to spare is told
 * to the log and in dassie_stats().
 *
 * Of several queues in strict order a job starts only while those before its
 * queue have none to start. By weights each queue that has jobs gets its share
 * of the starts, so none waits for ever: with 3, 2 and 1 three, two and one of
 * six, within one job at any moment. What a queue without jobs does not use is
 * shared by the others, and it saves nothing up; nor does one that is paused.
 * Weights are those of this processor; they count jobs, not the time they take.
 * Errors: UV_EINVAL no or two processors, concurrency, a queue's name, more
 * than DASSIE_PROCESSOR_QUEUES_MAX of them, a weight, weights without queues,
 * spares;
 * UV_ENOBUFS DASSIE_PROCESSORS_MAX reached; UV_ENOMEM. */
DASSIE_EXTERN int dassie_process(dassie_t *q, dassie_processor_t *p,
                                 const dassie_process_options_t *options);

/* Unregisters p: nothing new starts, jobs claimed but not started go back
 * uncounted, running ones finish, then cb (may be NULL). Errors: UV_EALREADY it
 * is being stopped; UV_EINVAL it is not registered. */
DASSIE_EXTERN int dassie_processor_stop(dassie_processor_t *p,
                                        dassie_processor_cb cb);

/* Ends the run (id, attempt) of an async processor's job: status 0 is complete
 * with data as its result; anything else is failed with data as its error text
 * (up to DASSIE_ERROR_BYTES_MAX; NULL: the code's message). ANY THREAD; legal
 * while closing (never UV_ECANCELED), and never refused for a full inbox.
 * Errors: UV_EALREADY this run has ended, was given up or is not under way;
 * UV_E2BIG; UV_ENOMEM. */
DASSIE_EXTERN int dassie_finish(dassie_t *q, uint64_t id, uint32_t attempt,
                                int status, const void *data, size_t len);

/* Accessors of a job under way (never NULL): from the work callback on its
 * thread, or from start to dassie_finish(), also for a run that was given up.
 * Pointers are valid as long as the
 * job is; the length is stored where len is not NULL; names are followed by a
 * zero byte. */
DASSIE_EXTERN uint64_t dassie_job_id(const dassie_job_t *job);
DASSIE_EXTERN uint32_t dassie_job_attempt(const dassie_job_t *job);
DASSIE_EXTERN const char *dassie_job_queue(const dassie_job_t *job,
                                           size_t *len);
DASSIE_EXTERN const char *dassie_job_name(const dassie_job_t *job, size_t *len);
DASSIE_EXTERN const void *dassie_job_data(const dassie_job_t *job, size_t *len);
DASSIE_EXTERN dassie_processor_t *dassie_job_processor(const dassie_job_t *job);

/* Whether the job is asked to end soon, and why: 0: it is not; "UV_ECANCELED":
 * by dassie_change(), or as the queue is being closed; "UV_ETIMEDOUT": its
 * timeout_ms are over. The first reason stays. A job that gives up then returns
 * that code, or "UV_ECANCELED" for either: that uses up no attempt if the queue
 * is being closed and it has not timed out, and the job runs again after the
 * next open, unless it is to be run at most once. Any thread that may hold the
 * job. */
DASSIE_EXTERN int dassie_job_cancelled(const dassie_job_t *job);

/* A sign of life: from now on the run may take its timeout_ms once more. It
 * costs no more than a look at the clock. Returns 0, also for a job without a
 * timeout, or why the job is asked to end. Any thread that may hold the job.
 * Errors: UV_EINVAL job is NULL; UV_ECANCELED, UV_ETIMEDOUT as
 * dassie_job_cancelled(); UV_EALREADY the run was given up. */
DASSIE_EXTERN int dassie_job_touch(dassie_job_t *job);

/* Sets what a work processor's job leaves behind; the last call counts. The
 * result is kept if it returns 0, the error text if not. Errors: UV_E2BIG
 * above payload_bytes_max, or DASSIE_ERROR_BYTES_MAX; UV_ENOMEM; UV_EINVAL for
 * a job of an async processor, which has dassie_finish(). */
DASSIE_EXTERN int dassie_job_set_result(dassie_job_t *job, const void *data,
                                        size_t len);
DASSIE_EXTERN int dassie_job_set_error(dassie_job_t *job, const char *text,
                                       size_t len);

/* What is to become of a job when its run ends; the last call counts. For a
 * work processor's job in its callback, for an async one before
 * dassie_finish().
 * retry_in: if the run fails, the next attempt is in ms, whatever the formula
 * says; there is none if this was the last one.
 * no_retry: if the run fails, it was the last attempt.
 * snooze: if the run does not fail, the job is not complete either, but runs
 * again in ms. That uses up no attempt; what it set as its result is dropped.
 * Errors: UV_EINVAL NULL, or a time beyond DASSIE_TIME_MS_MAX. */
DASSIE_EXTERN int dassie_job_retry_in(dassie_job_t *job, uint64_t ms);
DASSIE_EXTERN int dassie_job_no_retry(dassie_job_t *job);
DASSIE_EXTERN int dassie_job_snooze(dassie_job_t *job, uint64_t ms);

/* Says how far the job has come: done of total (0: nobody knows), and in words
 * (NULL: none). dassie_get() tells it at once; with the others, it is on disk
 * within a second, at the cost of no more than a row: call it as often as you
 * like. It stays until the job is complete or says otherwise. Any thread that
 * may hold the job. Errors: UV_EINVAL done is above total; UV_E2BIG above
 * DASSIE_PROGRESS_BYTES_MAX; UV_EALREADY the run was given up; UV_ENOMEM. */
DASSIE_EXTERN int dassie_job_progress(dassie_job_t *job, uint64_t done,
                                      uint64_t total, const char *text,
                                      size_t len);

/* Saves a checkpoint for the next run, which follows if this one fails, or if
 * its process is killed: the last one counts. It goes with the next commit,
 * within a second, and is as durable then as the store's durability says. It is
 * gone once the job is complete, and stays with a failed or cancelled one. Any
 * thread that may hold the job. Errors: UV_EINVAL; UV_E2BIG above
 * DASSIE_CHECKPOINT_BYTES_MAX; UV_EALREADY the run was given up; UV_ENOMEM. */
DASSIE_EXTERN int dassie_job_checkpoint(dassie_job_t *job, const void *data,
                                        size_t len);

/* What an earlier run saved last (not this one), or NULL. Never NULL: job. As
 * the accessors above. */
DASSIE_EXTERN const void *dassie_job_checkpoint_data(const dassie_job_t *job,
                                                     size_t *len);

/* For a job of many steps, to go on where an earlier run was interrupted:
 *
 *     for (i = dassie_job_resume_at(job); i < n; i++) {
 *         rc = dassie_job_step(job, i, n);
 *         if (rc != 0) {
 *             return rc;
 *         }
 *         ... step i ...
 *     }
 *
 * dassie_job_step() says that so many steps are done, as a progress and, as
 * durably, as a checkpoint. UV_ECANCELED: the job is asked to end, or the queue
 * is being closed; then a run that ends with UV_ECANCELED uses up no attempt
 * and goes on after the next open. UV_ETIMEDOUT: its time is over; touching the
 * job is for it to do. A step that was done within the last second before a
 * kill may be done again. Any thread that may hold the job. Errors of
 * dassie_job_step(): UV_EINVAL done is above total; UV_ECANCELED; UV_ETIMEDOUT;
 * UV_EALREADY the run was given up; UV_ENOMEM. */
DASSIE_EXTERN uint64_t dassie_job_resume_at(const dassie_job_t *job);
DASSIE_EXTERN int dassie_job_step(dassie_job_t *job, uint64_t done,
                                  uint64_t total);

/* ---- Look ------------------------------------------------------------- */

struct dassie_get_s {
    void *data;       /* yours */
    dassie_t *q;      /* set by dassie_get() */
    uint64_t id;      /* set by dassie_get() */
    dassie_get_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Tells all that is known of one job. It sees everything enqueued by this
 * thread before. Errors: UV_ENOBUFS with DASSIE_LOOKUPS_MAX under way;
 * UV_ENOMEM. */
DASSIE_EXTERN int dassie_get(dassie_t *q, dassie_get_t *req, uint64_t id,
                             dassie_get_cb cb);

struct dassie_list_s {
    void *data;         /* yours */
    dassie_t *q;        /* set by dassie_list() */
    uint64_t cursor[3]; /* where the page begins: zeros for the first page,
                           then as left by the last one; opaque */
    int more;           /* set before cb, if its status is 0: 1 if another
                           page may hold more; 0 if this is the last */
    dassie_list_cb cb;  /* private from here on */
    uint64_t reserved[4];
};

/* Tells a page of jobs in one state: pending ones in the order in which they
 * will be claimed, queue by queue; scheduled ones in that in which they are
 * due; the others by id. Call it again with the same req for the next page, as
 * long as req->more; after an error for the same one. A page of scheduled or
 * ended jobs may hold few or none though there are more, as the work for a page
 * is bounded, and other queues' jobs and deleted ones count. options may be
 * NULL. A queue that is not there has no jobs. Errors: UV_EINVAL state, limit
 * or queue name; UV_ENOBUFS; UV_ENOMEM. */
DASSIE_EXTERN int dassie_list(dassie_t *q, dassie_list_t *req,
                              const dassie_list_options_t *options,
                              dassie_list_cb cb);

/* Which jobs: those that match all that is set. */
struct dassie_filter_s {
    size_t size;         /* set by DASSIE_FILTER_INIT */
    uint64_t id;         /* this one, */
    const uint64_t *ids; /* or these, */
    size_t ids_n;        /* up to DASSIE_CHANGE_IDS_MAX; else all */
    const char *queue;   /* NULL: any */
    size_t queue_len;    /* 0: a C string */
    const char *name;    /* the jobs' name; NULL: any */
    size_t name_len;     /* 0: a C string */
    unsigned states;     /* DASSIE_IN(state) | ...; 0: all in which the action
                            can be done, but pending and scheduled ones are
                            not deleted */
    uint64_t age_ms;     /* ended, or enqueued and not ended, so long ago; 0:
                            whenever */
};
#define DASSIE_IN(state) (1u << (state))
#define DASSIE_FILTER_INIT                                                 \
    {                                                                      \
        sizeof(struct dassie_filter_s), 0, NULL, 0, NULL, 0, NULL, 0, 0, 0 \
    }

struct dassie_change_s {
    void *data;          /* yours */
    dassie_t *q;         /* set by dassie_change() */
    uint64_t changed;    /* set before cb */
    dassie_state_t was;  /* set before cb, for a single id that is there */
    dassie_change_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Cancels, retries, deletes or hastens jobs: those that were there when it was
 * asked. Of one job it is atomic. More than some hundred are changed in several
 * commits, so that nothing else waits: then what fails, or is killed, in the
 * middle leaves some of them changed, and what changes its state meanwhile may
 * be missed. A retried job begins afresh: it has all of its attempts again,
 * retry_for_ms counts from now on, its crashes from 0; its runs go on in their
 * numbers. A job that is deleted before it ended tells those who wait for its
 * end "UV_ENOENT". cb may be NULL. A running job that is cancelled ends as its
 * processor says: well if it ends well, cancelled if that returns or finishes
 * with UV_ECANCELED, failed after any other error; it is not tried again, nor
 * snoozed. If it had not begun, it is cancelled. After a kill nothing of this
 * is remembered, and it runs again. Errors: UV_EINVAL action, filter, id beside
 * ids, queue, name or states out of range, or that the action cannot be done
 * in; UV_E2BIG more ids than DASSIE_CHANGE_IDS_MAX; UV_ENOMEM. */
DASSIE_EXTERN int dassie_change(dassie_t *q, dassie_change_t *req,
                                dassie_action_t action,
                                const dassie_filter_t *filter,
                                dassie_change_cb cb);

/* How long jobs are kept that have ended in a state, and how many of a queue:
 * what is beyond any of the three is deleted soon, the lowest ids first. Each
 * is 0: the default, DASSIE_KEEP_NONE: none, or DASSIE_KEEP_ALL: no limit. */
typedef struct dassie_keep_s {
    uint64_t ms; /* since the end */
    uint64_t jobs;
    uint64_t bytes; /* of payloads, names, results and errors, and some more */
} dassie_keep_t;
#define DASSIE_KEEP_COMPLETE_MS 86400000 /* default of ms, a day */
#define DASSIE_KEEP_FAILED_MS 2592000000 /* so, 30 days; cancelled, too */
#define DASSIE_KEEP_JOBS 100000          /* default of jobs */
#define DASSIE_KEEP_BYTES 268435456      /* default of bytes */
#define DASSIE_KEEP_ALL UINT64_MAX
#define DASSIE_KEEP_NONE (UINT64_MAX - 1)

/* The settings of a queue. They are durable. */
struct dassie_settings_s {
    size_t size;             /* set by DASSIE_SETTINGS_INIT */
    unsigned set;            /* DASSIE_SET_PAUSED | ...: those to be changed */
    int paused;              /* 1: none of its jobs starts */
    uint32_t attempts_max;   /* for jobs that do not say; 0: as in the spec */
    uint64_t backoff_ms;     /* so, too */
    uint64_t backoff_max_ms; /* so, too */
    dassie_keep_t keep_complete;
    dassie_keep_t keep_failed;
    dassie_keep_t keep_cancelled;
    int drop_payload; /* 1: of a job that completes the payload goes at once,
                         and its result is kept as long as the job is */
};
#define DASSIE_SETTINGS_INIT                                                   \
    {                                                                          \
        sizeof(struct dassie_settings_s), 0, 0, 0, 0, 0, {0, 0, 0}, {0, 0, 0}, \
            {0, 0, 0}, 0                                                       \
    }

/* Which settings. */
enum {
    DASSIE_SET_PAUSED = 1,
    DASSIE_SET_ATTEMPTS = 2,
    DASSIE_SET_BACKOFF = 4, /* both */
    DASSIE_SET_KEEP = 8,    /* all three */
    DASSIE_SET_PAYLOAD = 16
};

struct dassie_configure_s {
    void *data;             /* yours */
    dassie_t *q;            /* set by dassie_configure() */
    dassie_configure_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Changes settings of a queue (NULL: "default"), which is made if need be, and
 * tells all of them; settings NULL: only tells. They hold at once and after a
 * restart. In a paused queue none of the jobs starts that have not begun; those
 * that run end. Jobs can be enqueued, changed and looked at all the same, and
 * dassie_drain() waits for them. cb may be NULL if settings is not.
 * Errors: UV_EINVAL queue, settings out of range; UV_ENOMEM. */
DASSIE_EXTERN int dassie_configure(dassie_t *q, dassie_configure_t *req,
                                   const char *queue, size_t queue_len,
                                   const dassie_settings_t *settings,
                                   dassie_configure_cb cb);

struct dassie_counts_s {
    void *data;          /* yours */
    dassie_t *q;         /* set by dassie_counts() */
    dassie_counts_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Tells how many jobs of a queue (NULL: of all) are in each state.
 * Errors: UV_EINVAL queue name; UV_ENOBUFS; UV_ENOMEM. */
DASSIE_EXTERN int dassie_counts(dassie_t *q, dassie_counts_t *req,
                                const char *queue, size_t queue_len,
                                dassie_counts_cb cb);

struct dassie_queues_s {
    void *data;          /* yours */
    dassie_t *q;         /* set by dassie_queues() */
    dassie_queues_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Tells of all queues of the store. Errors: UV_ENOBUFS; UV_ENOMEM. */
DASSIE_EXTERN int dassie_queues(dassie_t *q, dassie_queues_t *req,
                                dassie_queues_cb cb);

struct dassie_drain_s {
    void *data;         /* yours */
    dassie_t *q;        /* set by dassie_drain() */
    dassie_drain_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Tells when nothing is pending or running any more in a queue (NULL: in any);
 * what is scheduled does not count. A queue that is not there has no jobs.
 * Errors: UV_EINVAL queue name; UV_ENOMEM. */
DASSIE_EXTERN int dassie_drain(dassie_t *q, dassie_drain_t *req,
                               const char *queue, size_t queue_len,
                               dassie_drain_cb cb);

/* In place of a state: of a job that is new, or deleted. */
#define DASSIE_NOWHERE (-1)

/* A job has gone from one state to another; or it is running, and was asked to
 * end as it has timed out, or has said how far it has come: then from and to
 * are DASSIE_RUNNING. */
struct dassie_event_s {
    uint64_t id;
    int from;          /* dassie_state_t, or DASSIE_NOWHERE */
    int to;            /* dassie_state_t, or DASSIE_NOWHERE */
    uint32_t attempts; /* runs begun and counted, this one included */
    int code;          /* of a run that has ended: 0, or its error; of one that
                          has timed out UV_ETIMEDOUT */
    uint64_t at_ms;    /* wall clock, ms since 1970 */
    const char *queue; /* followed by a zero byte */
    size_t queue_len;
    int progress; /* 1: it has said how far it has come: */
    uint64_t progress_done;
    uint64_t progress_total;
};

/* Which events: those that match all that is set. */
struct dassie_subscribe_options_s {
    size_t size;       /* set by DASSIE_SUBSCRIBE_OPTIONS_INIT */
    const char *queue; /* NULL: all queues */
    size_t queue_len;  /* 0: a C string */
    unsigned states;   /* into one of these: DASSIE_IN(state) | ...; 0: all,
                          deletions included */
    int progress;      /* 1: the progress of running jobs, too */
};
#define DASSIE_SUBSCRIBE_OPTIONS_INIT                            \
    {                                                            \
        sizeof(struct dassie_subscribe_options_s), NULL, 0, 0, 0 \
    }

struct dassie_subscription_s {
    void *data;  /* yours */
    dassie_t *q; /* set by dassie_subscribe() */
    struct dassie__sub *impl;
    void *reserved[4];
};

/* Tells cb of each transition that is asked for after this call by this thread,
 * after its commit, until dassie_unsubscribe() or the callback of
 * dassie_close(); till then sub is the library's. Up to DASSIE_EVENTS_MAX
 * events are kept for a slow loop, in memory only; of what has no room, the
 * number is told. Jobs that go as they were kept long enough are not told.
 * Progress is told, if it was asked for, as it is written: within a second, and
 * only the last of what a job has said by then; its text is for dassie_get().
 * options may be NULL. Errors: UV_EINVAL queue or states; UV_ENOBUFS
 * DASSIE_SUBSCRIPTIONS_MAX reached; UV_ENOMEM. */
DASSIE_EXTERN int dassie_subscribe(dassie_t *q, dassie_subscription_t *sub,
                                   const dassie_subscribe_options_t *options,
                                   dassie_event_cb cb);

/* Ends that: cb does not come any more, and sub is the caller's again. Legal
 * while closing (never UV_ECANCELED). Errors: UV_EINVAL it is not
 * subscribed. */
DASSIE_EXTERN int dassie_unsubscribe(dassie_subscription_t *sub);

/* Makes the socket DIR/admin, on which others of the same user may look at q
 * and steer it, with the command dassie say, as long as q is open; the protocol
 * stands in dassie_admin(7). cb may be NULL. Errors: UV_EALREADY it was called
 * before; UV_ENOMEM. */
DASSIE_EXTERN int dassie_admin_listen(dassie_t *q, dassie_admin_cb cb);

/* Copies the figures into *stats. Any thread, while q is open. */
DASSIE_EXTERN int dassie_stats(dassie_t *q, dassie_stats_t *stats);

struct dassie_metrics_s {
    void *data;           /* yours */
    dassie_t *q;          /* set by dassie_metrics() */
    dassie_metrics_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* What an answer to a scrape of Prometheus says it is. */
#define DASSIE_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Tells the figures, and those of each queue, in the text format of Prometheus;
 * dassie_metrics(3) lists them. They are as of now, the commit under way
 * included; counters begin with dassie_open(). The first
 * DASSIE_METRICS_QUEUES_MAX queues that were made have a label each, the rest
 * is summed up in samples without one. It answers while the store is opening,
 * stalled or healing, too, behind the look-ups asked for before. Errors:
 * UV_ENOBUFS; UV_ENOMEM; UV_EAGAIN no thread to be had. */
DASSIE_EXTERN int dassie_metrics(dassie_t *q, dassie_metrics_t *req,
                                 dassie_metrics_cb cb);

/* Reads a store that nobody has open, works out the state of every job from
 * the rows alone, recounts, and tells cb (may be NULL) of everything out of
 * place. Changes nothing. BLOCKS, and holds 32 bytes in memory for each job
 * that is pending or claimed: not for the loop's thread. Any thread. report may
 * be NULL. What a power cut left is read only once it was opened: before, it
 * may be DASSIE_ECORRUPT. Returns 0 when the whole store was read, whatever was
 * found, or an error as dassie_open_cb has (never UV_ECANCELED), UV_EINVAL path
 * is NULL, or UV_ENAMETOOLONG, UV_EPERM as for dassie_open(). */
DASSIE_EXTERN int dassie_verify(const char *path, dassie_verify_cb cb,
                                void *arg, dassie_verify_report_t *report);

struct dassie_check_s {
    void *data;                       /* yours */
    dassie_t *q;                      /* set by dassie_check() */
    const dassie_problem_t *problems; /* set before cb, valid until it returns:
                                         the first ones, up to */
    size_t problems_n;                /* DASSIE_PROBLEMS_MAX */
    dassie_check_cb cb;               /* private from here on */
    uint64_t reserved[5];
};

/* The same for a queue that is open, as its store stood after one commit that
 * holds everything enqueued by this thread before. It runs on a thread of its
 * own; nothing waits for it, and what was enqueued or deleted meanwhile is not
 * seen. dassie_close() does not wait either. Errors: UV_ENOBUFS, with
 * DASSIE_LOOKUPS_MAX under way; UV_ENOMEM. */
DASSIE_EXTERN int dassie_check(dassie_t *q, dassie_check_t *req,
                               dassie_check_cb cb);

struct dassie_backup_s {
    void *data;          /* yours */
    dassie_t *q;         /* set by dassie_backup() */
    dassie_backup_cb cb; /* private from here on */
    uint64_t reserved[5];
};

/* Copies an open queue into a directory that is made (its parent must exist):
 * a store like any other, as this one stood after one commit that holds
 * everything enqueued by this thread before. Where both are on one file system,
 * tables are hard links, and it takes little time and room. Jobs that were
 * under way are under way in the copy, as if its owner had been killed: opened,
 * it runs them again, and those that are to be run at most once have failed.
 * Only its user may look into it, mode 0700. It runs on a thread as
 * dassie_check() does; dassie_close(), and a store that has to be opened anew,
 * wait for the link or copy that is being made, and it is removed. Errors:
 * UV_ENAMETOOLONG; UV_ENOENT path is empty, or relative and the current
 * directory is gone; UV_ENOBUFS, with DASSIE_LOOKUPS_MAX under way; UV_ENOMEM.
 */
DASSIE_EXTERN int dassie_backup(dassie_t *q, dassie_backup_t *req,
                                const char *path, dassie_backup_cb cb);

/* ---- Time and tests ---------------------------------------------------- */

/* The wall clock of q, ms since 1970: the machine's, or that of a test. 0: q
 * was not initialised. Any thread, until q is closed. */
DASSIE_EXTERN uint64_t dassie_now(const dassie_t *q);

/* For tests of what uses a queue. One that was opened with DASSIE_TESTING (path
 * does not count) is the same but for three things: the store is in memory and
 * ends with dassie_close(); nothing runs on a thread of its own, work callbacks
 * neither, but on the loop's, one after the other; and its clock stands still.
 * A retry comes after exactly the time of the formula in dassie_spec_t.
 *
 * This moves the clock of q by ms, 0 included. Before it returns all has
 * happened, in its order, that would have happened by then, without waiting:
 * commits, runs of jobs and their retries, callbacks. What waits for the loop
 * (a job of an async processor that is under way, dassie_close()'s callback)
 * goes on when the loop runs. Other queues and libuv's timers keep the
 * machine's clock. Legal while closing (never UV_ECANCELED).
 * Errors: UV_EINVAL q is not for testing, or would be more than a hundred years
 * ahead of where it began; UV_EBUSY in a callback of q. */
DASSIE_EXTERN int dassie_testing_advance(dassie_t *q, uint64_t ms);

/* ---- Errors, memory, version ------------------------------------------- */

/* A sentence, and the name ("UV_EBUSY", "DASSIE_ECORRUPT"), for a code of
 * libuv or of this library; any thread; static memory, or for a code nobody
 * knows "unknown error". */
DASSIE_EXTERN const char *dassie_strerror(int code);
DASSIE_EXTERN const char *dassie_err_name(int code);

/* The last failure of q's store in detail, outermost first ("open /var/q: lock:
 * held by pid 7"), or "". Refused calls leave none. Up to 255 bytes, valid
 * until the next callback of q. */
DASSIE_EXTERN const char *dassie_errmsg(const dassie_t *q);

/* Makes the library allocate by these, before anything else is called.
 * They follow malloc(3), realloc(3), calloc(3) and free(3) and may be called on
 * any thread. RocksDB allocates by itself. Errors: UV_EINVAL for a NULL. */
DASSIE_EXTERN int dassie_replace_allocator(uv_malloc_func malloc_func,
                                           uv_realloc_func realloc_func,
                                           uv_calloc_func calloc_func,
                                           uv_free_func free_func);

/* The version that is running: "0.1.0". Any thread. */
DASSIE_EXTERN const char *dassie_version(void);

#ifdef __cplusplus
}
#endif

#endif /* DASSIE_H_ */
