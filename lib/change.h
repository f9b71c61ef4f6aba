/* change.h: what an operator does to jobs: to one, to some, or to all that
 * match.
 *
 * A change is worked on between two commits, when the batch is empty and rows
 * tell the truth, a bounded number of jobs at a time, so that the engine is
 * never blocked; whatever is asked of more jobs takes several commits. It is
 * for the jobs that were there when it began.
 *
 * The happy path is: dassie__change_step(), once a commit, until it returns
 * true; then changed and status are the answer.
 *
 * Possible failure modes are: no memory, a read error, damaged rows: they end
 * it; what was changed by then stays.
 *
 * Threads: dassie__change_new and dassie__change_free any; the rest the
 * engine's. */
#ifndef DASSIE_CHANGE_H_
#define DASSIE_CHANGE_H_

#include "core.h"

/* Jobs that the changes look at in one commit, */
#define CHANGE_JOBS_MAX 256

/* and the bytes of their rows after which they look at no other. */
#define CHANGE_BYTES_MAX ((size_t)8 << 20)

struct change {
    struct op op;
    dassie_change_t *req;
    dassie_action_t action;
    unsigned states; /* 1 << state */
    uint64_t *ids;   /* only these, in this order; NULL: all that match */
    size_t ids_n;
    bool single; /* the answer is about the one */
    char *queue; /* NULL: any */
    size_t queue_len;
    char *name; /* NULL: any */
    size_t name_len;
    uint64_t age_ms;
    bool begun;             /* then: */
    uint64_t before_id;     /* jobs from here on came later, */
    uint64_t before_commit; /* claims from this commit on, too */
    uint64_t before_ms;     /* and what happened from here on is too young */
    unsigned walk;      /* the state that is walked, by its place in an order */
    uint64_t cursor[3]; /* and where in it */
    uint64_t next[CHANGE_JOBS_MAX]; /* found, to be changed next */
    size_t next_n;
    size_t next_at;
    bool walked;      /* all have been found */
    uint64_t changed; /* result: */
    int was;          /* the state of a single one */
    int status;
};

/* Ids of jobs that changes have moved in the open batch. */
struct changed {
    uint64_t id[CHANGE_JOBS_MAX];
    unsigned n;
    size_t bytes; /* of their rows */
};

void dassie__change_free(struct change *change);

/* It was asked for now; it begins so with its first step at the latest. */
void dassie__change_begin(const struct core *c, struct change *change);

/* True: it is over. Nothing but changes of this batch, which are in touched,
 * have been put into the batch. */
bool dassie__change_step(struct core *c, struct change *change,
                         struct changed *touched);

#endif /* DASSIE_CHANGE_H_ */
