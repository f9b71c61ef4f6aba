/* sweep.h: jobs that have ended are kept for a while, and not more than so many
 * or so many bytes of each queue and state; then they go.
 *
 * A pass walks the terminal families by id, and the jobs beside them, a bounded
 * number of ends a batch, at its begin, when rows tell the truth; jobs that
 * have not ended are passed over by one seek. What it may delete goes by range;
 * a range ends at the first job that stays. A pass is due when what was kept
 * longest has been kept long enough, and at once when a queue has a sixteenth
 * more than it keeps: then it takes the jobs with the lowest ids.
 *
 * Possible failure modes are: a read error, no memory: the pass ends there, and
 * the next one is due a minute later. A damaged row stays, with its job; the
 * pass goes on and counts it.
 *
 * On close: a pass is given up; nothing is kept of it. Threads: the engine. */
#ifndef DASSIE_SWEEP_H_
#define DASSIE_SWEEP_H_

#include "store.h"

/* Ends that one batch looks at. */
#define SWEEP_ROWS_MAX 512

/* And bytes of their jobs. */
#define SWEEP_BYTES_MAX (8u << 20)

/* Passes for their age are so far apart. */
#define SWEEP_MS 60000

/* Up to so many jobs of a range go by their keys. */
#define SWEEP_KEYS_MAX 8

/* A job of q has ended so: when a pass is due may change. */
void dassie__sweep_ended(struct store *s, uint64_t id, const struct queue *q,
                         int state, uint64_t ended_ms);

/* The settings of q have changed. */
void dassie__sweep_configured(struct store *s, const struct queue *q);

/* The store was opened: a pass is due in a while, or at once. */
void dassie__sweep_opened(struct store *s, uint64_t wall_ms);

/* The wall clock may have been set back: no pass waits for longer than it is to
 * because of that. */
void dassie__sweep_clock(struct store *s, uint64_t wall_ms);

/* When there is something to do; UINT64_MAX: never. */
uint64_t dassie__sweep_due(const struct store *s);

/* Nothing is in the open batch. *n: the jobs that went. Where it returns 0, and
 * s->sweep.passed is not, *e is of a damaged one. */
int dassie__sweep_step(struct store *s, uint64_t wall_ms, uint64_t *n,
                       struct errmsg *e);

#endif /* DASSIE_SWEEP_H_ */
