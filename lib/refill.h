/* refill.h: what is read from disk into memory.
 *
 * The window of a line is refilled by two iterators that walk pending and jobs
 * in step, from where the window ended. Opening reads the queues' rows and the
 * commits since the last fold. Threads: the engine. */
#ifndef DASSIE_REFILL_H_
#define DASSIE_REFILL_H_

#include "store.h"

/* Fills the empty window of line with what is committed. It may stay empty,
 * if all live rows are in the open batch. Errors: UV_ENOMEM, UV_EIO,
 * DASSIE_ECORRUPT. */
int dassie__refill_line(struct store *s, struct line *line, struct errmsg *e);

#endif /* DASSIE_REFILL_H_ */
