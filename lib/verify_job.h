/* verify_job.h: one job, judged by all that its rows say; see verify.h.
 *
 * The happy path is: the walk gathers the facts of a job, and they agree: it is
 * in exactly one state, and is counted there.
 *
 * Possible failure modes are: no memory; what is out of place is told, and no
 * error. On close: nothing is kept. Threads: any; one a struct verify. */
#ifndef DASSIE_VERIFY_JOB_H_
#define DASSIE_VERIFY_JOB_H_

#include "verify.h"

/* The families that are walked in step. */
enum column { JOBS, COMPLETE, FAILED, CANCELLED, HISTORY, SAVED, COLUMNS };

/* All that is known of one job. */
struct facts {
    uint64_t id;
    bool there[COLUMNS];
    bool good[COLUMNS];  /* there, and it can be read */
    size_t len[COLUMNS]; /* of its value */
    struct job_row job;
    struct end_row end[COLUMNS]; /* complete, failed, cancelled */
    struct history_row history;  /* zeros if there is none */
    struct save_row saved;
    const struct verify_entry *entries;
    size_t entries_n;
    uint64_t claims;    /* running entries */
    uint64_t claim;     /* the set of the first of them */
    uint64_t pending;   /* live pending rows */
    uint64_t scheduled; /* live scheduled rows */
};

/* Tells what is wrong with it, and counts it where it belongs. */
int dassie__verify_judge(struct verify *v, struct facts *f);

#endif /* DASSIE_VERIFY_JOB_H_ */
