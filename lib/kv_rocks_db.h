/* kv_rocks_db.h: RocksDB's database and its options, opened and closed.
 *
 * The happy path is: the mark is opened, the options are made, what would come
 * back is asked (wal.h), and whether tables can be opened (table.h); RocksDB
 * opens, and every table is opened once.
 *
 * Possible failure modes are: what RocksDB and the file system say; a log that
 * has lost its end, or a table that cannot be read (DASSIE_ECORRUPT). Nothing
 * is deleted before that is known.
 *
 * On close: dassie__rocks_db_close(); options and mark are its owner's to let
 * go. Threads: one at a time. */
#ifndef DASSIE_KV_ROCKS_DB_H_
#define DASSIE_KV_ROCKS_DB_H_

#include "kv_rocks.h"

#include <rocksdb/c.h>

#include <limits.h>

/* Zero but for what is opened how (see struct kv_rocks_options), and hwm_fd,
 * which is -1. */
struct kv_rocks {
    struct kv kv;
    _Atomic uint64_t dead; /* rows that iter_live() found so */
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[FAMILIES];
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writebatch_t *batch;
    rocksdb_writeoptions_t *write_sync;
    rocksdb_writeoptions_t *write_nosync;
    rocksdb_readoptions_t *read;
    char dir[PATH_MAX];
    char scratch[PATH_MAX]; /* of one beside the owner, or "" */
    int hwm_fd;
    bool read_only;
    bool gaps;
    bool lax;
};

/* The C API has no codes: the leading words tell. Frees text. */
int dassie__rocks_error(char *text, struct errmsg *e);

/* What the crash and fault measurements force; see doc/design.md. */
int dassie__rocks_options(struct kv_rocks *r, struct errmsg *e);

/* One budget: half of it memtables, a quarter block cache; the rest is the
 * ready window's. One family's memtable alone never gets full: a log file that
 * cannot be made then would leave references behind, which abort the close.
 * Few shards: an index block larger than one is never cached. */
void dassie__rocks_memory(struct kv_rocks *r, size_t memory_bytes);

/* DIR/hwm; it need not be there for who only reads. */
int dassie__rocks_mark_open(struct kv_rocks *r, struct errmsg *e);

/* What would come back is asked before anything changes: a real open deletes
 * what the MANIFEST does not name, and of what the log has lost nobody tells.
 */
int dassie__rocks_db_open(struct kv_rocks *r, bool create, struct errmsg *e);

void dassie__rocks_db_close(struct kv_rocks *r);

/* What came back is in tables, but of logs from which nothing came back RocksDB
 * takes no notice: they would stay, gaps and all, and look like damage to the
 * next open. A flush makes them obsolete; it needs something to flush. */
int dassie__rocks_gaps_end(struct kv_rocks *r, struct errmsg *e);

#endif /* DASSIE_KV_ROCKS_DB_H_ */
