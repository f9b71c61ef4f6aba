/* queue.h: the queues of a store, their lines and the ready window.
 *
 * A line is (queue, priority, kind): rows are appended at its tail and claimed
 * at its cursor, so nobody ever seeks across dead rows. The next claimable
 * jobs of a line stand in memory, payloads included: its window. A window is
 * complete when it holds all live rows of its line; only then is a new job
 * appended to it. Otherwise the store refills it from disk.
 *
 * Everything here is memory only and never fails, but for dassie__queues_find()
 * and dassie__queue_prepare(), which make all room that later steps need.
 * Threads: the engine. A queue and its name live until dassie__queues_free().
 */
#ifndef DASSIE_QUEUE_H_
#define DASSIE_QUEUE_H_

#include <stdbool.h>

#include <uthash.h>

#include "job.h"
#include "meter.h"
#include "turn.h"

struct line {
    struct line_row row;
    struct queue *queue;
    struct job_list window;
    size_t window_bytes;
    uint64_t window_end; /* rows up to here are in the window or claimed */
    bool dead_listed;    /* waits for its dead rows to be deleted */
    struct line *dead_next;
};

/* The three lines of one priority. */
struct lines {
    struct line kind[LINE_KINDS];
};

/* Priorities, a bit for each: the lowest bit is the first to run. A queue says
 * so which of its lines are to be looked at, as most of the time that takes is
 * to get a line into the processor's cache. */
static inline uint64_t priority_bit(int8_t priority)
{
    return UINT64_C(1) << (priority - DASSIE_PRIORITY_MIN);
}

static inline int8_t priority_first(uint64_t bits)
{
    return (int8_t)(__builtin_ctzll(bits) + DASSIE_PRIORITY_MIN);
}

struct queue {
    UT_hash_handle hh;
    uint32_t id;
    struct tally tally;
    struct settings_row settings;
    struct meter *meter;  /* its own, or that of many */
    struct lines **lines; /* by priority, the first to run first */
    unsigned lines_n;
    uint64_t priorities;          /* that have lines */
    uint64_t live[LINE_KINDS];    /* of these, those with live rows */
    uint64_t touched[LINE_KINDS]; /* and those changed since the last commit */
    unsigned served;              /* processors that serve it, */
    struct server *servers;       /* these */
    bool ready;                   /* jobs of its may be claimed */
    bool changed;                 /* since the last commit */
    bool unfolded;                /* since its row was written */
    struct queue *changed_next;
    struct queue *unfolded_next;
    size_t name_len;
    char name[];
};

struct queues {
    struct queue *by_name;
    struct queue **by_id; /* ids run from 0; never moves: look.c reads it */
    uint32_t n;
    size_t lines_n;        /* groups of three, of all queues */
    struct queue *changed; /* since the last commit */
    uint32_t changed_n;
    struct queue *unfolded; /* since the last fold */
    struct queue *last;     /* found last */
    struct tally tally;     /* of all queues */
    struct meters meters;
};

/* The queue of that name, or NULL. */
struct queue *dassie__queues_find(struct queues *qs, const char *name,
                                  size_t len);

/* A new queue with the next id. Errors: UV_ENOBUFS, UV_ENOMEM. */
int dassie__queues_add(struct queues *qs, const char *name, size_t len,
                       struct queue **queue);

/* Undoes that, for those with ids from n on: nobody has used them. */
void dassie__queues_drop(struct queues *qs, uint32_t n);
void dassie__queues_free(struct queues *qs);

/* The lines of a priority. Makes them if need be: NULL is no memory. */
struct lines *dassie__queue_prepare(struct queues *qs, struct queue *q,
                                    int8_t priority);

/* Whether jobs of q may be claimed. */
static inline bool queue_open(const struct queue *q)
{
    return q->settings.number[SETTING_PAUSED] == 0;
}

/* A line that dassie__queue_prepare() made. */
struct line *dassie__queue_line(struct queue *q, int8_t priority,
                                enum line_kind kind);

/* The first line with live rows: front before normal, priority by priority; or
 * a suspect's. NULL: none. */
struct line *dassie__queue_first_line(struct queue *q, bool suspects);

/* Notes that a line changes in this commit. */
static inline void line_touch(struct line *line)
{
    line->queue->touched[line->row.kind] |= priority_bit(line->row.priority);
}

/* Makes the line what its row in the store says. */
void dassie__line_set(struct line *line, const struct line_row *row);

/* Puts a row at the end. The job joins the window if join is set and the
 * window is complete: true. Otherwise it stays on disk only. */
bool dassie__line_append(struct line *line, job_t *job, uint64_t position,
                         bool join);

/* Adds a job read from disk to the window. */
void dassie__line_load(struct line *line, job_t *job);

/* Takes the next job out of the window and moves the cursor behind it. */
job_t *dassie__line_claim(struct line *line);

/* One row less. Returns the job if it was in the window. */
job_t *dassie__line_take(struct line *line, uint64_t id);

/* Empties the window into *out; the rows stay. */
void dassie__line_evict(struct line *line, struct job_list *out);

/* Notes that counts or lines of q change in this commit. */
void dassie__queue_touch(struct queues *qs, struct queue *q);

/* Its lines or settings have changed: tells those who serve it whether it has
 * jobs that may be claimed, suspects left out. */
void dassie__queue_tell(struct queue *q);

/* Adds d to the count of a state, of q and of all. */
void dassie__queue_count(struct queues *qs, struct queue *q, int state,
                         int64_t d);

/* The counts of q were read: adds them to those of all. */
void dassie__queue_loaded(struct queues *qs, const struct queue *q);

/* Adds all numbers of more. */
void dassie__tally_add(struct tally *tally, const struct tally *more);

/* And to the bytes of those that are pending, or have ended so. */
void dassie__queue_count_bytes(struct queues *qs, struct queue *q, int state,
                               int64_t d);

#endif /* DASSIE_QUEUE_H_ */
