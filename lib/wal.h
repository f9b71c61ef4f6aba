/* wal.h: what RocksDB's MANIFEST and log hold, found without RocksDB.
 *
 * To open a database is to change it: RocksDB replays its logs, drops what it
 * cannot read, and deletes each file that its MANIFEST does not name. So before
 * that this works out what would come back: up to which sequence number the
 * MANIFEST knows; then it follows the batches through the log files, whose
 * numbers have no gaps. Only what an open recovers goes into the MANIFEST
 * family by family, and the first may reach as far as the last: so there all of
 * them have to be.
 *
 * The happy path is: dassie__wal_check(); every batch follows the one before,
 * and the last one reaches the mark.
 *
 * Possible failure modes are: no MANIFEST, or one that has lost its end; the
 * batches end before the mark, or
 * go on behind a gap, or come again (DASSIE_ECORRUPT, with the file and the
 * place); a file that cannot be read. A torn record at the end is none: it was
 * never acknowledged.
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

/* More families than there are. */
#define MANIFEST_FAMILIES_MAX 64

struct manifest {
    uint64_t number;    /* its own */
    uint64_t sequence;  /* the last operation in its tables */
    uint64_t least_log; /* older ones are only not deleted yet */
    bool wants_tables;  /* set before: note the tables that it names */
    uint64_t *tables;   /* their numbers, to be freed */
    size_t tables_n;
    size_t tables_room;
    long torn_at; /* the first record that cannot be read, or -1 */
    struct {
        bool is;
        uint64_t log; /* what is older is in its tables */
        uint64_t log_in_group;
    } family[MANIFEST_FAMILIES_MAX];
    uint64_t in_group; /* of edits that do not count yet */
    uint64_t least_in_group;
    bool no_memory;
};
int dassie__manifest_read(const char *dir, struct manifest *m,
                          struct errmsg *e);

/* The one with which the family goes on that was flushed last: in it, and in
 * those after it, nothing is that is in a table too. */
uint64_t dassie__manifest_newest_log(const struct manifest *m);

/* Cuts off a last record of which some sectors were never written: a power cut
 * may leave that of one that was never synced, and RocksDB would refuse the
 * whole. Only after the log was checked: what was synced it would miss. */
int dassie__manifest_trim(const char *dir, struct errmsg *e);

/* Whether the MANIFEST knows of all tables, as far as the log tells: false if
 * the log goes on behind a gap, or ends too early, and none of its own damage
 * is to blame. */
bool dassie__wal_joins(const struct wal_check *check);

/* The numbers of the files in dir that end in suffix, in order: *numbers is to
 * be freed. */
int dassie__files_numbered(const char *dir, const char *suffix,
                           uint64_t **numbers, size_t *n, struct errmsg *e);

#endif /* DASSIE_WAL_H_ */
