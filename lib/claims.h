/* claims.h: claim sets, the running family.
 *
 * The jobs claimed in one commit are one row: their set. An entry counts as
 * running if its job has not ended and its history.last_run is below the
 * set's commit; so an end costs no row here. A set goes when its last job has
 * ended; when less than an eighth of it is left, the rest is folded into the
 * next newer set, before its own jobs: so all sets together are in the order of
 * the claims. Threads: the engine. */
#ifndef DASSIE_CLAIMS_H_
#define DASSIE_CLAIMS_H_

#include "store.h"

/* Makes the set of the open batch, so that dassie__claims_add() cannot fail. */
int dassie__claims_prepare(struct store *s);
void dassie__claims_add(struct store *s, job_t *job);
void dassie__claims_remove(struct store *s, job_t *job);

/* Its copy stands in the set in its place. */
void dassie__claims_replace(job_t *job, job_t *copy);

/* Puts the set of the open batch into it, and those that others went into. */
void dassie__claims_write(struct store *s);

/* The commit of the oldest set, or that of the open batch. */
uint64_t dassie__claims_oldest(const struct store *s);

/* At open: makes a set for commit, in ascending order of commits. */
int dassie__claims_load(struct store *s, uint64_t commit);
void dassie__claims_free(struct store *s);

#endif /* DASSIE_CLAIMS_H_ */
