/* apply.h: what each operation does to the open batch, and what is told after
 * its commit. Threads: the engine. */
#ifndef DASSIE_APPLY_H_
#define DASSIE_APPLY_H_

#include "engine.h"

/* Applies one operation. */
void dassie__apply_op(struct dassie__impl *impl, struct op *op);

/* Adds the processors again for which there was no memory. Returns when to do
 * so the next time. */
uint64_t dassie__apply_starved(struct dassie__impl *impl);

/* The commit is done: status 0, or the error with which all of the batch is
 * answered. Posts answers, hands claimed jobs to their processors, looks up
 * what waited for the commit. */
void dassie__apply_committed(struct dassie__impl *impl, int status);

/* Hands back the jobs that stand in p's run queue beyond keep of them. */
void dassie__apply_hand_back(struct dassie__impl *impl,
                             struct dassie__processor *p, size_t keep);

/* The store did not heal: nothing more starts, what runs may end. */
void dassie__apply_lose(struct dassie__impl *impl);

/* Works on what operators asked for. At the begin of a batch. */
void dassie__apply_changes(struct dassie__impl *impl);

/* Works on enqueues that wait for the begin of a batch, a step. */
void dassie__apply_later(struct dassie__impl *impl);

/* Tells processors of jobs that were asked to end. False: there was no
 * memory to tell all of them. */
bool dassie__apply_cancelled(struct dassie__impl *impl);

/* Asks runs to end whose time is over, and gives up those that do not. */
void dassie__apply_timeouts(struct dassie__impl *impl);

/* A run is hung: see core.h. */
bool dassie__apply_hung(void *arg, job_t *job, bool spare);

/* Raises the cancel flag of every claimed job. False: there was no memory to
 * tell all of them. */
bool dassie__apply_cancel_all(struct dassie__impl *impl);

/* Nothing will come any more for whoever still waits. */
void dassie__apply_forsake(struct dassie__impl *impl);

#endif /* DASSIE_APPLY_H_ */
