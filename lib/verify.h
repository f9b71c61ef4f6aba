/* verify.h: a store judged by its rows alone.
 *
 * Whatever the engine believes, the rows must say the same. This works out the
 * state of every job from them and recounts. It shares the layout of rows
 * (key.h, record.h) and kv.h with the engine and nothing else, so that no
 * mistake made there is repeated here.
 *
 * The happy path is: dassie__verify_read() collects the queues' counts, the
 * commits since the last fold, the claim sets, and one entry for each pending
 * row and each claim, sorted by id; a walk through jobs, complete, failed,
 * history and those entries in step judges one job after the other; then the
 * counts that were made are compared with those that were stored.
 *
 * Possible failure modes are: no memory, read errors, damage that the database
 * itself notices: they end it. Everything else that is out of place is told,
 * and it goes on.
 *
 * On close: dassie__verify_free() frees what was collected. Nothing on disk
 * changes but the pid in the lock's file.
 *
 * Threads: any; one a struct verify. */
#ifndef DASSIE_VERIFY_H_
#define DASSIE_VERIFY_H_

#include <stdatomic.h>
#include <stdbool.h>

#include "dassie.h"
#include "kv.h"
#include "record.h"

#define VERIFY_NONE UINT32_MAX

/* In where: the highest bit that is set tells what it is. */
#define VERIFY_CLAIM 0x80000000u     /* with the index of its claim set */
#define VERIFY_SCHEDULED 0x40000000u /* with verify_scheduled() */
#define VERIFY_UNIQUE 0x20000000u    /* with until when it is held */
#define VERIFY_TIMER 0x10000000u     /* with what it is for */
#define VERIFY_VALUE 0xffu           /* of these two */

#define VERIFY_TEXT 160 /* room for dassie__verify_line_text() */

/* A live pending or scheduled row, a claim, or the row of a unique key: 24
 * bytes, in an array that grows by a third, so 32 bytes a row. */
struct verify_entry {
    uint64_t id;
    uint64_t at;       /* its position, when it is due, or its claim set; of a
                          unique key the end of its time */
    uint32_t where;    /* its line, or one of the bits above and what goes with
                          it */
    uint32_t attempts; /* counted so far, or the number of the run; of a unique
                          key a sum of its bytes */
};

struct verify_line {
    struct line_row row; /* what is stored */
    uint32_t queue;
    uint32_t next; /* of the same queue, or VERIFY_NONE */
    bool counted;  /* row was found in some counts */
    uint64_t live; /* rows found at or after the cursor */
    uint64_t dead; /* and before it */
    uint64_t last; /* position of the last live one */
};

struct verify_queue {
    char *name; /* NULL: there is no name row */
    size_t name_len;
    struct tally stored;
    struct tally found;
    uint32_t lines; /* the first, or VERIFY_NONE */
};

struct verify_set {
    uint64_t commit;
    uint32_t live; /* claims in it that are running */
};

/* What is judged. */
struct verify_what {
    struct kv *kv;
    const struct kv_snapshot *snapshot; /* as of then; NULL: as of now */
    const atomic_int *stop; /* not 0 when it is to end with that error; NULL: it
                               never is */
    dassie_verify_cb cb;    /* may be NULL */
    void *arg;
};

struct verify {
    struct kv *kv;
    const struct kv_snapshot *snapshot;
    const atomic_int *stop;
    dassie_verify_cb cb; /* may be NULL */
    void *arg;
    dassie_verify_report_t *report;
    struct errmsg *e;
    struct store_row store;       /* the store's row, zeros if there is none */
    struct store_row head;        /* that of the last commit, or the store's */
    struct schedule_row schedule; /* as found: live and dead only */
    uint64_t last_commit;
    uint64_t next_commit; /* expected next in the chain */
    struct verify_queue *queues;
    size_t queues_n;
    size_t queues_room;
    size_t settings_n; /* the highest queue with settings, and one */
    struct verify_line *lines;
    size_t lines_n;
    size_t lines_room;
    uint32_t line_last; /* found last */
    struct verify_set *sets;
    size_t sets_n;
    size_t sets_room;
    struct verify_entry *entries;
    size_t entries_n;
    size_t entries_room;
};

static inline bool verify_is(const struct verify_entry *entry, uint32_t what)
{
    return entry->where >= what && entry->where < 2 * (uint64_t)what;
}

/* What a scheduled row says of its job: whether it has a history, and how long
 * its row is. No row of a job has more bytes than there is room for. */
static inline uint32_t verify_scheduled(bool history, uint64_t bytes)
{
    const uint64_t most = VERIFY_SCHEDULED / 2 - 1;
    return VERIFY_SCHEDULED | (uint32_t)(bytes < most ? bytes : most) << 1 |
           (uint32_t)history;
}

/* Judges a database. 0: all was read, whatever was found; else an error with
 * *e. report may not be NULL. The second one is for one that stands still. */
int dassie__verify(const struct verify_what *what,
                   dassie_verify_report_t *report, struct errmsg *e);
int dassie__verify_kv(struct kv *kv, dassie_verify_cb cb, void *arg,
                      dassie_verify_report_t *report, struct errmsg *e);

/* Collects; dassie__verify_free() afterwards in any case. */
int dassie__verify_read(struct verify *v);
void dassie__verify_free(struct verify *v);

/* The part of it that reads names, counts and commits. */
int dassie__verify_counts(struct verify *v);

/* Reads all rows of a family. */
typedef int (*verify_row_cb)(struct verify *v, struct kv_slice key,
                             struct kv_slice value);
int dassie__verify_each(struct verify *v, enum family family, verify_row_cb cb);

/* Opens an iterator on them, of the running family on the claim sets, or on
 * what jobs have saved: NULL is no memory. */
struct kv_iter *dassie__verify_iter(struct verify *v, enum family family);
struct kv_iter *dassie__verify_iter_saves(struct verify *v);

/* Tells of one thing out of place. */
void dassie__verify_tell(struct verify *v, uint64_t id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Tells of a key or a value that no writer makes. */
void dassie__verify_tell_row(struct verify *v, enum family family,
                             struct kv_slice key, const char *what);

/* The queue with that id, or NULL if nothing names it. */
struct verify_queue *dassie__verify_queue(struct verify *v, uint32_t id);

/* The line of a queue that has a name, made if need be: *index. */
int dassie__verify_line(struct verify *v, uint32_t queue, int8_t priority,
                        uint8_t kind, uint32_t *index);

/* "queue 1 (mail)", "queue 1 (mail), priority 0, front line". */
void dassie__verify_queue_text(struct verify *v, uint32_t id,
                               char text[VERIFY_TEXT]);
void dassie__verify_line_text(struct verify *v, const struct verify_line *line,
                              char text[VERIFY_TEXT]);

/* One more entry. */
int dassie__verify_entry(struct verify *v, const struct verify_entry *entry);

/* What has to do with unique keys and expiries: the rows of their family, and
 * their timers among the scheduled ones. */
int dassie__verify_read_unique(struct verify *v, struct kv_slice key,
                               struct kv_slice value);
int dassie__verify_read_timer(struct verify *v, const struct due *due,
                              struct kv_slice key, struct kv_slice value);

/* What is known of a job whose key is judged. */
struct verify_keyed {
    uint64_t id;
    const struct job_row *job; /* NULL: it cannot be read */
    bool there;
    bool ended;
    bool running;
    bool moved; /* since its enqueue, but for a first claim and its end */
    bool fresh; /* its row can be read, and it waits for its first run */
    const struct verify_entry *entries;
    size_t entries_n;
};
int dassie__verify_judge_keys(struct verify *v, const struct verify_keyed *f);

/* Makes room for one more of size bytes, a third more at a time. */
int dassie__verify_room(struct verify *v, void **array, size_t n, size_t *room,
                        size_t size);
#define VERIFY_ROOM(v, a)                                                  \
    dassie__verify_room((v), (void **)&(v)->a, (v)->a##_n, &(v)->a##_room, \
                        sizeof(v)->a[0])

int dassie__verify_no_memory(struct verify *v);

/* 0, or the error with which it is to end. */
int dassie__verify_stop(struct verify *v);

#endif /* DASSIE_VERIFY_H_ */
