/* engine.h: the thread that owns a queue, and the two ways to and from it.
 *
 * The engine is an actor. Operations reach it through the inbox from any
 * thread; it applies all that has arrived to one batch, lets the core claim
 * what can start, commits, and only then tells: answers go to the loop through
 * the outbox, jobs to the run queues. While it commits, the next batch
 * gathers: group commit without a timer.
 *
 * The happy path is: dassie__engine_open starts the thread, which opens the
 * store and says so (OP_OPENED); dassie__engine_post gives it work; OP_CLOSE
 * ends it, and OP_CLOSED is the last it says.
 *
 * Possible failure modes are: the store does not open (everything is answered
 * with UV_ECANCELED until the close); a commit fails (no claims, outcomes stay
 * in memory, the store is reopened with backoff and the batch settled, then the
 * answers go out); it does not heal before the close (DASSIE_EUNKNOWN for what
 * is in doubt).
 *
 * On close: nothing is claimed any more, unstarted jobs go back, running ones
 * may end; after grace_ms their cancel flags are raised. Then the last commit,
 * the reader's end, the store's, OP_CLOSED.
 *
 * Threads: see each function. No lock is held across I/O or a callback. */
#ifndef DASSIE_ENGINE_H_
#define DASSIE_ENGINE_H_

#include "admit.h"
#include "change.h"
#include "clock.h"
#include "core.h"
#include "dir.h"
#include "look.h"
#include "metrics.h"
#include "survey.h"

/* A commit holds no more operations or payload bytes than this. */
#define BATCH_OPS_MAX 8192
#define BATCH_BYTES_MAX (8u << 20)

/* How long healing waits between two tries. */
#define HEAL_MS_MIN 100
#define HEAL_MS_MAX 5000

/* How often free disk space is looked at, and the log told of a job that does
 * not end. */
#define SPACE_NS UINT64_C(1000000000)
#define STUCK_NS UINT64_C(5000000000)

/* How often a store that holds commits up is asked whether it still does, if
 * nothing else happens. */
#define STALL_NS UINT64_C(100000000)

enum op_type {
    /* To the engine. */
    OP_ENQUEUE,     /* job_t */
    OP_MANY,        /* struct many */
    OP_FINISH,      /* job_t */
    OP_SAVE,        /* struct save */
    OP_BACK,        /* job_t: not started, as its processor ends */
    OP_ADD,         /* struct dassie__processor, add_op */
    OP_STOP,        /* struct dassie__processor, stop_op */
    OP_LOOK,        /* struct look */
    OP_SURVEY,      /* struct survey */
    OP_COUNTS,      /* struct counts_look */
    OP_QUEUES,      /* struct queues_look */
    OP_WATCH,       /* struct watch_priv */
    OP_DRAIN,       /* struct drain_priv */
    OP_CHANGE,      /* struct change; also to the loop */
    OP_CONFIGURE,   /* struct configure; also to the loop */
    OP_SUBSCRIBE,   /* struct dassie__sub */
    OP_LISTEN,      /* struct listen_op; also to the loop */
    OP_UNSUBSCRIBE, /* struct dassie__sub, gone_op; also to the loop */
    OP_CLOSE,
    /* To the loop. */
    OP_OPENED,
    OP_ACK,      /* struct enqueue_priv */
    OP_MANY_ACK, /* struct many */
    OP_DONE,     /* job_t, with its waiters */
    OP_START,    /* job_t */
    OP_CANCEL,   /* struct cancel */
    OP_STOPPED,  /* struct dassie__processor, stopped_op */
    OP_LOG,      /* struct log_line */
    OP_CLOSED
};

/* Why somebody will not be told of an end. */
enum gone {
    GONE_NO_MEMORY, /* to wait for it */
    GONE_CLOSED,    /* before it */
    GONE_DELETED,   /* instead of it */
    GONE_UNKNOWN,   /* it came after the store was given up */
    GONES
};

/* A first-in first-out list of operations. */
struct ops {
    struct op *head;
    struct op *tail;
};

struct many {
    struct op op;
    dassie_enqueue_many_t *req;
    struct job_list jobs;
    size_t n;
    size_t bytes;
    bool keyed; /* some of them have unique keys */
};

struct counts_look {
    struct op op;
    dassie_counts_t *req;
    dassie_count_t count;
    char *queue; /* NULL: all */
    size_t queue_len;
};

struct queues_look {
    struct op op;
    dassie_queues_t *req;
    dassie_queue_info_t *infos;
    size_t n;
};

struct configure {
    struct op op;
    dassie_configure_t *req;
    dassie_settings_t settings; /* set: those to be changed; then all */
    bool reads;                 /* does not make the queue */
    size_t queue_len;
    char queue[];
};

/* The admin socket is made. */
struct listen_op {
    struct op op;
    int fd; /* it */
};

struct drain_priv {
    struct op op;
    char *queue; /* NULL: all */
    size_t queue_len;
};

struct cancel {
    struct op op;
    uint64_t id;
    uint32_t attempt;
};

struct log_line {
    struct op op;
    dassie_log_level_t level;
    struct errmsg text;
};

/* Async runs under way, by id: what dassie_finish() goes by. */
#define RUNS_BUCKETS 1024
struct runs {
    uv_mutex_t mutex;
    job_t *bucket[RUNS_BUCKETS];
};

struct dassie__admin;
struct dassie__sub;

/* A thread that runs operations beside the engine, and answers them: one does
 * look-ups, one what takes long. It is started with the first, by the engine,
 * or by the loop for metrics, which it runs without the engine: also while that
 * waits for a disk. */
struct reader {
    struct dassie__impl *impl;
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t cond;
    struct ops ops; /* that wait, under the mutex */
    bool started;
    bool busy;
    bool ending;
};

struct dassie__impl {
    dassie_t *q;
    dassie_options_t options;
    char *path;
    unsigned forks; /* dassie__dir_forks() at init */
    struct clock clock;

    /* The inbox, under its mutex. */
    uv_mutex_t mutex;
    uv_cond_t cond;
    struct ops inbox;
    bool sleeping;      /* the engine waits on cond */
    bool closed;        /* dassie_close() was called, */
    uint64_t closed_at; /* and when */
    size_t inbox_jobs;  /* until they are committed */
    size_t inbox_bytes;
    bool full;
    atomic_bool ending;  /* closed, told after OP_CLOSE is in the inbox */
    atomic_bool pressed; /* it is full */
    atomic_bool backlog; /* what is pending is above a mark */
    atomic_bool stalled; /* the store holds commits up */
    atomic_bool refused; /* it has been, since pressure_cb was told */
    atomic_bool rung;    /* the loop, since it looked last */

    /* The outbox, under its mutex. */
    uv_mutex_t out_mutex;
    struct ops outbox;
    struct waiter *gone[GONES]; /* will not be told of an end */

    /* The engine's own. */
    uv_thread_t thread;
    struct core core;
    struct recorder recorder;
    struct dir dir;
    struct ops todo;    /* taken from the inbox, not yet applied */
    struct ops answers; /* of the open batch */
    struct ops after;   /* to be looked up after the commit */
    struct ops drains;
    struct dassie__sub *subs;
    struct dassie__processor *starved; /* no memory to add them: by next, */
    uint64_t starved_at;               /* to be tried again then */
    struct ops changes;                /* under way, the first one first */
    struct ops later; /* enqueues that wait for the begin of a batch, */
    struct waiter
        *joined;         /* and who waits for the end of a job that they met */
    unsigned begin_last; /* whose turn the last batch was */
    bool cancels_untold; /* no memory to tell of them */
    size_t batch_jobs;   /* of the open batch, to leave the inbox's count */
    size_t batch_bytes;
    uint64_t batch_from; /* the first id of the open batch, or of the one that
                            was lost */
    size_t batch_work;   /* payload and result bytes of the open batch */
    uint64_t space_at;
    uint64_t grace_at; /* closing: when cancel flags are raised */
    uint64_t stuck_at; /* closing: when the log is told next */
    bool open;
    bool listening;         /* the socket is there */
    char scratch[PATH_MAX]; /* of one that looks beside the owner, or "" */
    bool closing;
    bool cancelled;  /* closing: flags are raised */
    bool lost;       /* the store did not heal */
    bool many_jobs;  /* are pending, by the marks of the options, */
    bool many_bytes; /* and these are many bytes */
    uint64_t commits;
    uint64_t heals;
    struct commit_meter commit_meter;
    uint64_t
        rows_metered; /* rows of the database, and their bytes, that are in */
    uint64_t bytes_metered;      /* there */
    atomic_bool metered;         /* the meters of the queues can be read */
    int broken_told;             /* the core's error that the log knows, */
    int sweep_told;              /* the sweep's, */
    int mark_told;               /* and the database's */
    struct log_line opened_line; /* the answer OP_OPENED */
    struct op close_op;
    struct op closed_op;
    struct kv *memory; /* the store of a test, */
    uint64_t due;      /* and when its next batch is to begin */

    struct reader reader;   /* look-ups */
    struct reader surveyor; /* what takes long, */
    atomic_int survey_stop; /* and has to end, with that status */
    struct runs runs;

    uv_mutex_t stats_mutex;
    dassie_stats_t stats;

    /* The loop's own. */
    uv_async_t async;
#ifdef DASSIE_DEBUG
    uv_thread_t loop_thread;
    bool loop_known;
#endif
    dassie_open_cb open_cb;
    dassie_close_cb close_cb;
    struct dassie__processor *processors;
    unsigned processors_n;
    struct dassie__admin *admin; /* or NULL */
    struct dassie__sub *loop_subs;
    unsigned loop_subs_n;
    unsigned lookups;            /* under way */
    _Atomic uint32_t runners;    /* on the pool */
    _Atomic uint32_t work_slots; /* asked for */
    struct ops notices;          /* taken from the outbox, not yet delivered */
    struct errmsg errmsg;
    bool opened;       /* dassie_open() was called */
    bool unreferenced; /* dassie_unref() was */
    int pressure;      /* what pressure_cb was told */
    bool delivering;
    bool events_left; /* to be delivered */
    bool thread_ended;
    bool closing_async;
};

/* When the grace period of a close that was asked for is over. */
static inline uint64_t grace_end(const struct dassie__impl *impl)
{
    return impl->closed_at + (uint64_t)impl->options.grace_ms * 1000000;
}

static inline void ops_push(struct ops *ops, struct op *op)
{
    op->next = NULL;
    if (ops->head == NULL) {
        ops->head = op;
    } else {
        ops->tail->next = op;
    }
    ops->tail = op;
}

static inline struct op *ops_pop(struct ops *ops)
{
    struct op *op = ops->head;
    if (op != NULL) {
        ops->head = op->next;
        __builtin_prefetch(ops->head); /* another thread has written it */
    }
    return op;
}

static inline void ops_append(struct ops *ops, struct ops *from)
{
    if (from->head != NULL) {
        if (ops->head == NULL) {
            ops->head = from->head;
        } else {
            ops->tail->next = from->head;
        }
        ops->tail = from->tail;
        from->head = NULL;
    }
}

/* Starts the thread; a test has none. UV_EAGAIN: there is none to be had.
 * Loop. */
int dassie__engine_open(struct dassie__impl *impl);

/* In a test: does all that there is to do at this moment. Loop. */
void dassie__engine_turn(struct dassie__impl *impl);

/* Wakes the loop. Any thread. */
void dassie__engine_ring(struct dassie__impl *impl);

/* Gives the engine an operation that is never refused. Any thread. */
void dassie__engine_post(struct dassie__impl *impl, struct op *op);

/* So too, and no further operation but a finish. Loop. */
void dassie__engine_post_close(struct dassie__impl *impl, struct op *op);

/* Gives it jobs (n, with so many bytes). UV_ENOBUFS: the inbox is full;
 * UV_ECANCELED: closed. Any thread. */
int dassie__engine_post_jobs(struct dassie__impl *impl, struct op *op, size_t n,
                             size_t bytes);

/* Puts answers into the outbox and rings the loop. Engine and reader. */
void dassie__outbox_post(struct dassie__impl *impl, struct ops *ops);

/* Tells the log. Engine. */
void dassie__engine_log(struct dassie__impl *impl, dassie_log_level_t level,
                        const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* How things stand. Any thread. */
void dassie__engine_stats(struct dassie__impl *impl, dassie_stats_t *stats);

/* reader.c: a thread for look-ups, and one for what takes long. Engine, but for
 * metrics, which the loop asks for until the close. UV_EAGAIN: there is no
 * thread to be had. */
int dassie__reader_metrics(struct dassie__impl *impl, struct look *look);
int dassie__reader_start(struct dassie__impl *impl, struct reader *r);
void dassie__reader_push(struct reader *r, struct op *op);
void dassie__reader_wait(struct reader *r); /* until it has nothing left */
void dassie__reader_stop(struct reader *r);

/* runs.c: the table of async runs. */
void dassie__runs_add(struct runs *runs,
                      job_t *job); /* loop: before the start callback */
int dassie__runs_finish(
    struct runs *runs, uint64_t id, uint32_t attempt, int status, void *out,
    size_t out_len, bool out_is_error,
    job_t **job); /* any thread; *job: to be posted, or NULL */
job_t *dassie__runs_enter(struct runs *runs, uint64_t id,
                          uint32_t attempt); /* loop: before a later callback */
bool dassie__runs_leave(struct runs *runs,
                        job_t *job); /* true: finished meanwhile */

#endif /* DASSIE_ENGINE_H_ */
