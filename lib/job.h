/* job.h: a job in memory.
 *
 * One allocation holds the job and its row of the jobs family, which the
 * thread that enqueues has written already, so that the engine only copies it
 * into the batch. A job is in one list at a time (inbox, window, run queue,
 * notices): that is what next is for. It belongs to the thread that took it
 * from the last list.
 *
 * A job loaded from disk to be handed back at open has no row
 * (row_len = 0). */
#ifndef DASSIE_JOB_H_
#define DASSIE_JOB_H_

#include <stdatomic.h>
#include <stdbool.h>

#include "dassie.h"
#include "heap.h"
#include "record.h"

struct queue;
struct claim_set;
struct dassie__processor;
struct save;
struct unique;

/* What the processor wants to become of a run. */
enum verdict {
    VERDICT_NONE,
    VERDICT_RETRY,    /* should it fail: again after again_ms */
    VERDICT_NO_RETRY, /* should it fail: never again */
    VERDICT_SNOOZE    /* if it does not fail: again after again_ms */
};

struct op {
    struct op *next;
    int type;   /* engine.h, enum op_type */
    int status; /* what an answer says */
};

struct dassie_job_s {
    struct op op;              /* first: a job is an operation in the inbox */
    struct dassie_job_s *next; /* window, started, ended and run queue lists */
    struct queue *queue;
    struct dassie__processor *processor; /* while it is claimed */
    dassie_enqueue_t *req;               /* whom to tell of the end, or NULL */
    struct save *save;                   /* what it saves, or NULL */
    struct unique *unique;               /* its key, or NULL */
    struct waiter *waiters;              /* all of them, once it has ended */
    struct claim_set *set;               /* while it is claimed ... */
    struct dassie_job_s *run_next;       /* in the table of async runs */
    struct dassie_job_s *set_prev;       /* ... its neighbours there */
    struct dassie_job_s *set_next;
    uint64_t id;
    uint64_t position; /* in its line, while it is pending */
    uint64_t due_ms;   /* while it is scheduled: when it may run */
    uint64_t last_run; /* as in struct history_row */
    uint64_t since_ms; /* the same */
    uint64_t ended_ms;
    uint64_t again_ms;   /* with verdict: after how long */
    uint64_t expires_ms; /* when it is too late to start it; 0: never */
    uint64_t ready_ms;   /* when it could run first */
    uint64_t began_ns;   /* a run: mono_ns, and how long it took */
    uint64_t ran_ns;
    uint32_t attempts; /* runs counted so far; one under way is not */
    uint32_t excused;  /* of them, those that use up no attempt */
    uint32_t crashes;
    uint32_t slot; /* of the flight recorder, while it is claimed */
    int state;     /* dassie_state_t or STATE_NONE */
    int status;    /* how it ended: 0, or the code; before a run, that of the
                      last failed attempt */
    int8_t priority;
    uint8_t flags;
    uint8_t kind;  /* enum line_kind: where it stands, or stood last */
    bool small;    /* of the size that is kept for the next one */
    bool alone;    /* a suspect that runs with nothing beside it */
    bool busy;     /* async: a callback with it is running (runs mutex) */
    bool finished; /* async: dassie_finish() came meanwhile (runs mutex) */
    bool out_is_error;
    bool history;   /* it has a row there */
    bool timer;     /* and one for its expiry */
    bool partial;   /* the row in memory lacks the payload: not for a window */
    bool timed_out; /* it was asked to end, as its time was over; */
    bool hung;      /* it has not done so for long, */
    bool given_up;  /* and nobody waits for it any more */
    bool cancel_asked;  /* by an operator, while it is claimed */
    bool cancel_untold; /* and its processor is still to be told */
    bool cancel_told;   /* async: its cancel callback is on its way, or was */
    uint8_t verdict;    /* enum verdict */
    struct heap_node limit;    /* among those that are to be looked at */
    uint64_t timeout_ns;       /* of this run; 0: none */
    _Atomic uint64_t deadline; /* see limit.h */
    atomic_int cancelled;      /* 0, or why it is asked to end */
    void *out;                 /* result or error text, owned; as status */
    size_t out_len;
    size_t row_len;
    size_t stored;           /* bytes of its row on disk */
    size_t end_bytes;        /* and of that of its end, if it has been found */
    const char *batch_queue; /* the queue's name, until the engine knows it */
    size_t batch_queue_len;
    uint8_t row[];
};

typedef struct dassie_job_s job_t;

/* A first-in first-out list through next. */
struct job_list {
    job_t *head;
    job_t *tail;
    size_t n;
};

static inline void job_list_push(struct job_list *list, job_t *job)
{
    job->next = NULL;
    if (list->head == NULL) {
        list->head = job;
    } else {
        list->tail->next = job;
    }
    list->tail = job;
    list->n++;
}

static inline job_t *job_list_pop(struct job_list *list)
{
    job_t *job = list->head;
    if (job != NULL) {
        list->head = job->next;
        list->n--;
    }
    return job;
}

/* Takes the job with that id out of a list, or NULL. */
static inline job_t *job_list_take(struct job_list *list, uint64_t id)
{
    job_t *before = NULL;
    job_t *job = list->head;
    while (job != NULL && job->id != id) {
        before = job;
        job = job->next;
    }
    if (job != NULL) {
        *(before == NULL ? &list->head : &before->next) = job->next;
        list->tail = list->tail == job ? before : list->tail;
        list->n--;
    }
    return job;
}

/* Moves all of from to the end of list. */
static inline void job_list_append(struct job_list *list, struct job_list *from)
{
    if (from->head != NULL) {
        if (list->head == NULL) {
            list->head = from->head;
        } else {
            list->tail->next = from->head;
        }
        list->tail = from->tail;
        list->n += from->n;
        from->head = NULL;
        from->n = 0;
    }
}

/* A job with room for a row of row_len bytes and, behind it, for extra more.
 * NULL: no memory. */
job_t *dassie__job_new(size_t row_len, size_t extra);

/* What its row says of the times at which it may begin. */
void dassie__job_times(job_t *job, const struct job_row *row);
void dassie__job_free(job_t *job);
void dassie__job_list_free(struct job_list *list);

/* Frees the blocks that are kept for the next jobs. */
void dassie__job_cache_clear(void);

/* Bytes that the job keeps in memory. */
size_t dassie__job_bytes(const job_t *job);

/* A job whose run is asked to end; the first one to ask says why. */
static inline void job_ask_end(job_t *job, int why)
{
    int none = 0;
    atomic_compare_exchange_strong(&job->cancelled, &none, why);
}

/* A copy of a job under way, without what the one who runs it may change. NULL:
 * no memory. */
job_t *dassie__job_copy(const job_t *job);

/* A run begins: what the last one left behind goes. */
void dassie__job_begin(job_t *job);

/* What a cancelled job leaves behind. */
void dassie__job_cancel(job_t *job);

/* Replaces what the job leaves behind by a copy. 0 or UV_ENOMEM. */
int dassie__job_set_out(job_t *job, const void *data, size_t len);

#endif /* DASSIE_JOB_H_ */
