/* kv_rocks.h: the RocksDB database behind kv.h.
 *
 * It lives in DIR/db, and beside it DIR/hwm holds the sequence number of the
 * last synced commit in eight bytes, written after each sync and never synced
 * itself: a log whose tail was lost to damage opens silently in RocksDB, and
 * this is what tells.
 *
 * RocksDB's options here are forced by measurements (doc/design.md, "RocksDB
 * options"); none is for the user to set but the memory budget. */
#ifndef DASSIE_KV_ROCKS_H_
#define DASSIE_KV_ROCKS_H_

#include "kv.h"

struct kv_rocks_options {
    const char *dir;     /* the store's directory */
    size_t memory_bytes; /* memtables and block cache together */
    bool create;         /* make the database if it is not there */
    bool read_only;      /* for verify: nothing on disk changes */
    bool lax;            /* open what is damaged, for salvage: without its log,
                            adding families that are missing, and reads see
                            what ranges have deleted; it has no mark */
    const char *scratch; /* not NULL, with read_only: beside its owner, with
                            this directory for itself; see beside.h */
    bool gaps;           /* the log may have some: a power cut took what was
                            never synced */
};

/* Errors: UV_ENOMEM, UV_EIO, UV_ENOSPC, DASSIE_ECORRUPT, ... with *e. */
int dassie__kv_rocks_open(const struct kv_rocks_options *options,
                          struct kv **kv, struct errmsg *e);

/* Reads on beside the owner. */
int dassie__kv_rocks_catch_up(struct kv *kv, struct errmsg *e);

/* Whether something was ever synced in DIR: then its database must be there,
 * and is never made anew. */
bool dassie__kv_rocks_used(const char *dir);

/* Makes a database of the tables in DIR/db alone. */
int dassie__kv_rocks_repair(const char *dir, struct errmsg *e);

/* The number of the last operation in it. */
uint64_t dassie__kv_rocks_sequence(struct kv *kv);

#endif /* DASSIE_KV_ROCKS_H_ */
