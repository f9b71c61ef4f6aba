/* beside.h: a store looked at while its owner has it open.
 *
 * RocksDB opens a secondary instance: it reads the owner's files, follows its
 * log, writes nothing there, and keeps a log of its own in a scratch directory.
 * It takes no lock. What it has read stands still.
 *
 * The happy path is: it is opened, verified, and handed to the core, which
 * reads it like any other store.
 *
 * Possible failure modes are: the owner deletes what was about to be read, or
 * has written what was read half (the rows and the counts do not agree): it
 * catches up, or is opened anew, some times; what is torn even then is told.
 *
 * On close: the scratch directory goes. Threads: the engine, as it takes as
 * long as reading all of the store does. */
#ifndef DASSIE_BESIDE_H_
#define DASSIE_BESIDE_H_

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "kv.h"

/* dir is the store's. scratch gets the directory's name, or "". *torn: so many
 * rows and counts do not agree. */
int dassie__beside_open(const char *dir, size_t memory_bytes,
                        char scratch[PATH_MAX], struct kv **kv, uint64_t *torn,
                        struct errmsg *e);

/* After the database was closed; once or more. */
void dassie__beside_close(char scratch[PATH_MAX]);

#endif /* DASSIE_BESIDE_H_ */
