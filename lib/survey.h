/* survey.h: what takes as long as reading all of an open store does: it is
 * recounted, or copied.
 *
 * The happy path is: the engine hands a survey to a thread that has nothing
 * else to do (reader.c); that takes a snapshot, which is what stood there after
 * some commit, and works from it; the loop hands the result to the user and
 * frees it. Nobody waits for it.
 *
 * Possible failure modes are: no memory, read errors, no disk space: they
 * become the survey's status. The store fails and has to be reopened: it is
 * given up with UV_EAGAIN.
 *
 * On close: it is given up with UV_ECANCELED; the engine waits until no survey
 * is left. A copy that is under way is finished first, and removed.
 *
 * Threads: dassie__survey_run on any (on the engine if the database has no
 * shared reads), the others on the loop. */
#ifndef DASSIE_SURVEY_H_
#define DASSIE_SURVEY_H_

#include <stdatomic.h>

#include "core.h"

enum survey_type { SURVEY_CHECK, SURVEY_BACKUP };

struct survey {
    struct op op;
    enum survey_type type;
    void *req;
    struct kv *kv;          /* set by the engine, */
    const atomic_int *stop; /* and not 0 when it has to end with that status */
    int status;             /* result: */
    dassie_verify_report_t report;
    dassie_problem_t *problems;
    size_t problems_n;
    size_t problems_room;
    char path[]; /* backup: of the copy */
};

/* path may be NULL. NULL: no memory. */
struct survey *dassie__survey_new(enum survey_type type, void *req,
                                  const char *path);
void dassie__survey_free(struct survey *survey);

void dassie__survey_run(struct survey *survey);

/* backup.c: makes the directory path, a store with what kv holds after one of
 * its commits. It is a store once all of it is on disk; after an error it is
 * removed. */
int dassie__backup(struct kv *kv, const char *path, const atomic_int *stop);

#endif /* DASSIE_SURVEY_H_ */
