/* rebuild_rows.h: what the parts of a rebuild share; see rebuild.h.
 *
 * Rows are read in order, a window at a time, and what is made of them is
 * committed after each window, unsynced.
 *
 * The happy path is: dassie__rebuild_load(), _jobs(), _lines(), _keys(),
 * _schedule() and _saves(), in this order.
 *
 * Possible failure modes are: of rebuild.h; each part returns the first error,
 * and *rb->e tells it.
 *
 * On close: the caller frees claims and queues. Threads: the engine. */
#ifndef DASSIE_REBUILD_ROWS_H_
#define DASSIE_REBUILD_ROWS_H_

#include "rebuild.h"
#include "store.h"

/* Rows read between two commits, and those of jobs that may take keys. */
#define WINDOW_ROWS 256
#define WINDOW_KEYS 64

/* The families that are walked in step. */
enum column { JOBS, COMPLETE, FAILED, CANCELLED, HISTORY, COLUMNS };

extern const enum family dassie__rebuild_families[COLUMNS];

/* All that is known of one job. */
struct facts {
    uint64_t id;
    bool there[COLUMNS];
    size_t len[COLUMNS]; /* of its value */
    struct job_row job;
    struct end_row end[COLUMNS]; /* complete, failed, cancelled */
    struct history_row history;  /* that of a fresh job if there is none */
};

struct taken_key {
    uint8_t bytes[KEY_UNIQUE_MAX];
    size_t len;
};

/* The store as it will be. Until it is, a line's window_end is the last
 * position that a cursor has passed. */
struct rebuild {
    struct store s;
    bool keyed;        /* there are jobs with unique keys or an expiry */
    struct due head;   /* what the schedule's head has passed is before this */
    uint64_t due_rows; /* found in the schedule */
    struct taken_key taken_keys[WINDOW_KEYS]; /* by jobs since a flush: */
    unsigned taken_n;
    uint64_t taken_at;    /* written was that then */
    struct queues taken;  /* names that are there, while others are given */
    uint64_t last_commit; /* the highest number seen */
    uint64_t folded;      /* commits before this one are in the counts */
    uint64_t written;     /* of the database's rows, those not in the batch */
    uint64_t wall_ms;
    struct rebuild_report *report;
    struct errmsg *e;
};

/* ---- Keys ---- */

static inline uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline struct kv_slice number_key(uint8_t key[KEY_NUMBER_BYTES],
                                         uint64_t n)
{
    dassie__key_number(key, n);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

static inline struct kv_slice place_key(uint8_t key[KEY_PENDING_BYTES],
                                        const struct place *place)
{
    dassie__key_pending(key, place);
    return kv_slice(key, KEY_PENDING_BYTES);
}

static inline struct kv_slice due_key(uint8_t key[KEY_DUE_BYTES],
                                      const struct due *due)
{
    dassie__key_due(key, due);
    return kv_slice(key, KEY_DUE_BYTES);
}

static inline bool due_before(const struct due *a, uint64_t ms, uint64_t id)
{
    return a->ms < ms || (a->ms == ms && a->id < id);
}

/* A family from its first row to its last, and where saves begin in theirs. */
static inline struct kv_slice rows_begin(void)
{
    static const uint8_t begin[] = {0};
    return kv_slice(begin, sizeof begin);
}

static inline struct kv_slice rows_end(void)
{
    static const uint8_t end[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff};
    return kv_slice(end, sizeof end);
}

static inline struct kv_slice saves_begin(void)
{
    static const uint8_t begin[] = {KEY_SAVE_TAG};
    return kv_slice(begin, sizeof begin);
}

/* ---- Rows ---- */

/* Damage, and no memory: the code, with a message. */
int dassie__rebuild_damaged(struct rebuild *rb, const char *what);
int dassie__rebuild_no_memory(struct rebuild *rb);

/* Into the batch. */
void dassie__rebuild_del(struct rebuild *rb, enum family family,
                         struct kv_slice key);
void dassie__rebuild_put_history(struct rebuild *rb, uint64_t id,
                                 const struct history_row *history);

/* Writes the batch, unsynced. */
int dassie__rebuild_flush(struct rebuild *rb);

typedef int (*row_cb)(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value);

/* Reads rows and commits what cb makes of them, a window at a time. */
int dassie__rebuild_each(struct rebuild *rb, enum family family,
                         struct kv_slice from, struct kv_slice to,
                         unsigned window, row_cb cb);
int dassie__rebuild_each_of(struct rebuild *rb, enum family family,
                            unsigned window, row_cb cb);

/* ---- Queues and lines ---- */

/* The queue that a row speaks of: where its name was lost, it gets one. */
int dassie__rebuild_queue(struct rebuild *rb, uint32_t id, struct queue **q);

/* A line of that queue; UV_ENOMEM. */
int dassie__rebuild_line(struct rebuild *rb, struct queue *q, int8_t priority,
                         uint8_t kind, struct line **line);

/* ---- One job ---- */

/* One more row of the job that f is about. */
int dassie__rebuild_read(struct rebuild *rb, struct facts *f,
                         enum column column, struct kv_slice value);

/* A fresh job stands at its id, unless its row says when it is due. */
void dassie__rebuild_facts_begin(struct facts *f, uint64_t id);

/* Looks up rows of one job from a column on. Names, payloads and texts of the
 * rows are not kept. */
int dassie__rebuild_facts(struct rebuild *rb, uint64_t id, enum column first,
                          struct facts *f);

/* Whether a pending row is the one that the job stands at. */
bool dassie__rebuild_is_place(const struct facts *f, const struct place *place,
                              const struct pending_row *row);

/* 1: it waits for its time; 0: that has come, and it has been claimed. */
int dassie__rebuild_is_scheduled(struct rebuild *rb, const struct facts *f);

/* One more row of the schedule: they come by job, not by time. */
void dassie__rebuild_keep_due(struct rebuild *rb, uint64_t ms, uint64_t id);

static inline bool has_end(const struct facts *f)
{
    return f->there[COMPLETE] || f->there[FAILED] || f->there[CANCELLED];
}

/* One that has lost its payload is complete, even if nothing else says so. */
static inline bool has_ended(const struct facts *f)
{
    return has_end(f) || f->job.dropped;
}

/* Whether a job waits for its first run: nothing is claimed now. */
static inline bool is_fresh(const struct facts *f)
{
    return !has_ended(f) && f->history.attempts == 0 && f->history.code == 0;
}

/* ---- The parts ---- */

/* Names of queues, numbers and cursors. */
int dassie__rebuild_load(struct rebuild *rb);

/* Claims, then one job after the other. */
int dassie__rebuild_jobs(struct rebuild *rb);

/* Pending rows that are nobody's place go. */
int dassie__rebuild_lines(struct rebuild *rb);

/* Unique keys, and the timers of jobs that expire. */
int dassie__rebuild_keys(struct rebuild *rb);

/* Scheduled rows that are nobody's go. */
int dassie__rebuild_schedule(struct rebuild *rb);

/* What jobs have saved goes with them. */
int dassie__rebuild_saves(struct rebuild *rb);

#endif /* DASSIE_REBUILD_ROWS_H_ */
