/* salvage.h: a damaged store set right, as far as its bytes allow.
 *
 * It never repairs in place. A new database is made beside the damaged one, in
 * DIR/salvage/, of all rows that can be read, and rebuilt (rebuild.h); only
 * when it verifies without a problem does it take the other's place, in one
 * rename. The damaged one is kept as it is in DIR/db.damaged-N, with its
 * high-water mark beside its files.
 *
 *   tables  read through the MANIFEST; what lies in a damaged block is passed
 *           over. If the MANIFEST is damaged, or a table cannot be read at all,
 *           each table is read by itself, the older ones first; then jobs that
 *           were deleted or swept may be there again, and that is told
 *   log     read record by record, and applied on top
 *   then    rebuild.h: jobs, ends and histories are certain, the rest follows
 *
 * The happy path is: the store is found sound, and nothing is done.
 *
 * Possible failure modes are: no room on the disk for a second database;
 * rows that make no sense even then (DASSIE_ECORRUPT). The damaged database is
 * still in its place then. A salvage that was interrupted is begun again.
 *
 * On close: nothing is kept. Threads: the engine, as it takes as long as
 * reading and writing all of the store does. */
#ifndef DASSIE_SALVAGE_H_
#define DASSIE_SALVAGE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct salvage_options {
    const char *dir;     /* the store's, which is locked */
    size_t memory_bytes; /* for a database; there are two at a time */
    bool gaps;           /* see kv_rocks.h */
    uint64_t wall_ms;
    /* What was saved and what was not, a line each. */
    void (*tell)(void *arg, const char *line);
    void *arg;
};

/* 0: the store is sound now, whether it was before or not. */
int dassie__salvage(const struct salvage_options *options, struct errmsg *e);

#endif /* DASSIE_SALVAGE_H_ */
