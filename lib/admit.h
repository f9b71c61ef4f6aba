/* admit.h: enqueues of jobs that may have unique keys.
 *
 * Where nobody holds the key, or who holds it stays, that is done at once. Who
 * is to be replaced or moved is read from rows: so that waits for the begin of
 * a batch, when rows tell the truth, and touches no job twice in one batch.
 *
 * The happy path is: dassie__admit() weighs each job first, which may fail, and
 * changes nothing before all have been; then it moves and cancels those that
 * make way, and enters the new ones.
 *
 * Possible failure modes are: as dassie__core_enqueue(), read errors, damaged
 * rows: nothing has changed then, and the jobs are still the caller's.
 *
 * Threads: the engine. */
#ifndef DASSIE_ADMIT_H_
#define DASSIE_ADMIT_H_

#include "core.h"

/* It has to wait for the begin of a batch, or of the next one. */
#define ADMIT_LATER 1

/* Jobs that one batch moves or replaces for those that wait. */
#define ADMIT_JOBS_MAX 256

/* Those of the open batch, in which nothing else but them was changed. */
struct admitted {
    uint64_t from; /* ids from here on are of this batch, too */
    uint64_t id[ADMIT_JOBS_MAX + DASSIE_BATCH_REPLACE_MAX];
    unsigned n;
};

struct admit {
    struct admitted *batch; /* NULL: other things have been changed in it */
    uint64_t *ids;          /* NULL, or room for one a job: whose it is */
    uint64_t first_id;      /* result: of those that are new; 0: none is */
    size_t new_n;
};

/* 0: taken (the list is empty then), ADMIT_LATER, or why all are refused. */
int dassie__admit(struct core *c, struct job_list *jobs, struct admit *admit);

#endif /* DASSIE_ADMIT_H_ */
