/* find.h: one job, wherever it is, as the rows say.
 *
 * A job that is claimed is known to the core alone; of any other the rows of
 * the last commit tell the state and the place. So this is for the begin of a
 * batch, when nothing is in it yet of the job in question.
 *
 * Possible failure modes are: there is none (UV_ENOENT), no memory, a read
 * error, damaged rows. Threads: the engine. */
#ifndef DASSIE_FIND_H_
#define DASSIE_FIND_H_

#include "store.h"

/* A new job_t, to be moved or freed: without its payload, but with all that a
 * dassie__store_move() takes. Its state is never running. */
int dassie__find(struct store *s, uint64_t id, job_t **out, struct errmsg *e);

/* The family of a terminal state. */
enum family dassie__end_family(int state);

#endif /* DASSIE_FIND_H_ */
