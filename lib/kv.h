/* kv.h: what store.c needs of an ordered key-value database.
 *
 * One batch is open at any time; puts and deletes go into it and commit writes
 * it atomically. Reads see what was committed, never the open batch.
 *
 * The happy path is: put, del, del_range, commit, again and again.
 *
 * Possible failure modes are: commit fails. The batch is in doubt then: it may
 * or may not be there. It is kept; reopen makes the database usable again, the
 * owner looks whether its rows are there and either drops the batch or commits
 * it once more. Nothing else may be put into it meanwhile.
 *
 * What a range has deleted an iterator may still show, with any value it had,
 * until the database gets around to it: RocksDB 7.8.3 loses errors where it
 * passes over ranges, and jumps over healthy rows then. So whoever reads where
 * ranges were deleted asks for each row whether it is there: iter_live().
 *
 * On close: the open batch is dropped; no iterator, value or snapshot may be
 * alive.
 *
 * Threads: put, del, del_range, commit, drop, reopen and close belong to the
 * engine. Reads may run on any thread if the database says so (shared_reads),
 * as long as the owner keeps reopen and close away from them. */
#ifndef DASSIE_KV_H_
#define DASSIE_KV_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "key.h"

struct kv;
struct kv_iter;
struct kv_snapshot;

struct kv_slice {
    const uint8_t *p;
    size_t len;
};

/* A value read; let go of by value_release. */
struct kv_value {
    const uint8_t *p;
    size_t len;
    void *owner;
};

/* What the database has met since it was opened. */
struct kv_counts {
    uint64_t stalls;   /* writes that were held up, as it was behind, */
    uint64_t stall_us; /* and for how long */
    uint64_t skipped;  /* deleted or replaced rows that reads stepped over */
};

struct kv_ops {
    void (*put)(struct kv *kv, enum family family, struct kv_slice key,
                struct kv_slice value);
    /* As put, for a value in two parts. */
    void (*put2)(struct kv *kv, enum family family, struct kv_slice key,
                 struct kv_slice head, struct kv_slice tail);
    void (*del)(struct kv *kv, enum family family, struct kv_slice key);
    /* Deletes from (inclusive) to (exclusive). */
    void (*del_range)(struct kv *kv, enum family family, struct kv_slice from,
                      struct kv_slice to);
    /* 0: written (and fsynced, if sync), the batch is empty again. */
    int (*commit)(struct kv *kv, bool sync, struct errmsg *e);
    void (*drop)(struct kv *kv);
    int (*reopen)(struct kv *kv, struct errmsg *e);
    /* 0, UV_ENOENT or an error. snapshot may be NULL: as of now. */
    int (*get)(struct kv *kv, const struct kv_snapshot *snapshot,
               enum family family, struct kv_slice key, struct kv_value *value,
               struct errmsg *e);
    void (*value_release)(struct kv_value *value);
    const struct kv_snapshot *(*snapshot)(struct kv *kv);
    void (*snapshot_release)(struct kv *kv, const struct kv_snapshot *s);
    /* Keys at or after from and before to, ascending, dead ones among them;
     * with an empty from it stands nowhere until a seek. NULL: no memory. The
     * bytes of to must live as long as the iterator. */
    struct kv_iter *(*iter)(struct kv *kv, const struct kv_snapshot *snapshot,
                            enum family family, struct kv_slice from,
                            struct kv_slice to);
    bool (*iter_valid)(const struct kv_iter *it);
    struct kv_slice (*iter_key)(const struct kv_iter *it);
    struct kv_slice (*iter_value)(const struct kv_iter *it);
    /* Whether the row is there: 1, or 0 if a range has deleted it, or why that
     * cannot be told. */
    int (*iter_live)(struct kv_iter *it, struct errmsg *e);
    void (*iter_next)(struct kv_iter *it);
    void (*iter_seek)(struct kv_iter *it, struct kv_slice from);
    /* 0, or why it is not valid any more; then closes it. */
    int (*iter_close)(struct kv_iter *it, struct errmsg *e);
    /* Any thread, until close. NULL: it counts nothing. */
    void (*counts)(struct kv *kv, struct kv_counts *counts);
    /* Whether commits are slowed down or stopped, as it is behind with what it
     * does in the background. Not to be asked for nothing, only after one that
     * was held up: exit() may take apart what is read. NULL: they never are. */
    bool (*stalled)(struct kv *kv);
    /* Makes the directory dir, a database as this one was after one of its
     * commits, durably. It may run beside the engine. NULL: it has none. */
    int (*checkpoint)(struct kv *kv, const char *dir, struct errmsg *e);
    /* clean: makes all commits durable before. False: it could not. */
    bool (*close)(struct kv *kv, bool clean);
    bool shared_reads;
};

struct kv {
    const struct kv_ops *ops;
    uint64_t rows;      /* puts and deletes of all batches */
    uint64_t row_bytes; /* keys and values of them */
    uint64_t syncs;     /* fsynced commits */
    int mark_error;     /* 0, or why the mark of what is durable was not
                           written last; see kv_rocks.h */
    bool held_up;       /* the last commit was: see stalled */
};

static inline struct kv_slice kv_slice(const void *p, size_t len)
{
    struct kv_slice s = {p, len};
    return s;
}

/* Brings an iterator that stands on a dead row to the next one that is there,
 * if any. 0 or an error. */
static inline int kv_skip_dead(struct kv *kv, struct kv_iter *it,
                               struct errmsg *e)
{
    int live = 0;
    while (kv->ops->iter_valid(it) && (live = kv->ops->iter_live(it, e)) == 0) {
        kv->ops->iter_next(it);
    }
    return live < 0 ? live : 0;
}

static inline struct kv_slice kv_string(const char *s)
{
    const char *p = s;
    while (*p != '\0') {
        p++;
    }
    return kv_slice(s, (size_t)(p - s));
}

#endif /* DASSIE_KV_H_ */
