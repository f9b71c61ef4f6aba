/* wal.h: what RocksDB's MANIFEST and log hold, found without RocksDB.
 *
 * To open a database is to change it: RocksDB replays its logs, drops what it
 * cannot read, and deletes each file that its MANIFEST does not name. So before
 * that this works out what would come back: up to which sequence number the
 * MANIFEST knows; then it follows the batches through the log files, whose
 * numbers have no gaps.
 *
 * The happy path is: dassie__wal_check(); every batch follows the one before,
 * and the last one reaches the mark.
 *
 * Possible failure modes are: no MANIFEST; the batches end before the mark, or
 * go on behind a gap (DASSIE_ECORRUPT, with the file and the place); a file
 * that cannot be read. A torn record at the end is none: it was never
 * acknowledged.
 *
 * On close: nothing is kept. Threads: any. */
#ifndef DASSIE_WAL_H_
#define DASSIE_WAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct wal_check {
    const char *dir; /* RocksDB's */
    uint64_t mark;   /* what was durable for certain */
    bool gaps;       /* are fine: a power cut took unsynced commits */
};

/* 0: all that the mark tells of will come back. */
int dassie__wal_check(const struct wal_check *check, struct errmsg *e);

/* The file that CURRENT names. */
#define MANIFEST_NAME_BYTES 64
int dassie__manifest_name(const char *dir, char name[MANIFEST_NAME_BYTES],
                          struct errmsg *e);

/* The sequence number up to which the MANIFEST knows what is in the tables, or
 * will be found in the log. */
int dassie__manifest_read(const char *dir, uint64_t *sequence,
                          struct errmsg *e);

/* The sequence number of the first batch in the log, or 0: there is none. */
int dassie__wal_first(const char *dir, uint64_t *sequence, struct errmsg *e);

/* The numbers of the files in dir that end in suffix, in order: *numbers is to
 * be freed. */
int dassie__files_numbered(const char *dir, const char *suffix,
                           uint64_t **numbers, size_t *n, struct errmsg *e);

#endif /* DASSIE_WAL_H_ */
