/* expire.h: jobs that are not worth starting after a time.
 *
 * A job with an expiry has a timer, a row of the scheduled family, as long as
 * it waits for its first run: put and deleted in the batches of its
 * transitions. When it is due, the job is found, however deep in its line, and
 * cancelled. A claim looks at the time, too: the timer may come late.
 *
 * The happy path is: dassie__expire_moved() in the store's one way from state
 * to state; dassie__expire_due() when the timer is due.
 *
 * Possible failure modes are: no memory, a read error, damaged rows, all of
 * them where the timer is due: the schedule stops before its row or, where it
 * is damaged, passes over it. On close: nothing. Threads: the engine;
 * dassie__expire_of() any. */
#ifndef DASSIE_EXPIRE_H_
#define DASSIE_EXPIRE_H_

#include "job.h"
#include "kv.h"
#include "state.h"

struct store;

/* When it is too late to start the job of that row; 0: never. */
uint64_t dassie__expire_of(const struct job_row *row);

/* A job in memory whose place and history are known: notes whether it has a
 * timer. */
void dassie__expire_loaded(job_t *job);

/* It was moved. */
void dassie__expire_moved(struct store *s, job_t *job, enum event event);

/* Whether it is too late to start it; its timer sees to it. */
bool dassie__expire_is_late(const job_t *job, uint64_t wall_ms);

/* A waiting or claimed job is cancelled as it is too late for it. */
void dassie__expire_end(job_t *job, uint64_t wall_ms);

/* What the open batch has changed of a job, rows do not tell. */
#define EXPIRE_LATER 1 /* the timer has to wait for the next batch, */
#define EXPIRE_LAST 2  /* and so has what is behind this one */

/* A timer is due: the job, cancelled, goes to the end of s->expired. Nothing
 * but what was due before it is in the open batch. 0 or one of the above. */
int dassie__expire_due(struct store *s, const struct due *due, uint64_t wall_ms,
                       struct errmsg *e);

#endif /* DASSIE_EXPIRE_H_ */
