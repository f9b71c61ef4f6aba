/* unique.h: keys that one job of a queue has at a time, the unique family.
 *
 * Who holds a key is a row, put and deleted in the batch of the transition that
 * says so. What the open batch has changed stands in an overlay, which is asked
 * before the rows: so two enqueues of one batch see each other. The nodes of
 * the overlay belong to the jobs, which are in memory until the batch is
 * committed: nothing needs memory when a key is let go.
 *
 * The happy path is: dassie__unique_find() says that nobody holds the key; the
 * job is inserted, and takes it (dassie__unique_moved() in the store's one way
 * from state to state); the job ends, and lets go of it there, if the row that
 * is stored names that job. A key that is held for a time has a timer row in
 * the scheduled family, put and deleted together with its own.
 *
 * Possible failure modes are: no memory, a read error, a damaged row: where a
 * key is looked up, nothing has changed then. To let go of a key cannot fail:
 * whether a job holds it is looked up when the job is loaded.
 *
 * On close: dassie__unique_free() frees the overlay. Threads: the engine, but
 * for dassie__unique_new(). */
#ifndef DASSIE_UNIQUE_H_
#define DASSIE_UNIQUE_H_

#include "job.h"
#include "kv.h"
#include "state.h"

#define UNIQUE_BUCKETS_MIN 256

struct store;

/* The key of a job that has one. */
struct unique {
    struct unique *next;       /* in its bucket of the overlay */
    struct unique *listed;     /* another one there, */
    struct unique **listed_at; /* and where this one is linked */
    uint64_t holder;           /* there: who has it now; 0: nobody */
    struct unique_row gone; /* held it for a time that is over; its id or 0 */
    uint64_t expires_ms;    /* with DASSIE_UNTIL_TIME */
    uint8_t until;          /* dassie_until_t */
    uint8_t on_conflict;    /* dassie_conflict_t */
    bool held;              /* by this job */
    bool in_overlay;
    bool reserved; /* there: for a job that is about to be inserted */
    /* While it is admitted; see admit.h. */
    uint64_t id;         /* the one that its job got */
    uint64_t answer;     /* who holds it, and keeps it; 0: nobody */
    struct unique *same; /* that of an earlier job of the batch, or NULL */
    job_t *old;          /* who holds it, and is to make way, or NULL */
    uint16_t len;        /* of key */
    uint8_t key[];       /* as in the unique family */
};

/* What the open batch has changed; the newest of a key counts. */
struct overlay {
    struct unique **bucket;
    size_t buckets; /* a power of two */
    size_t n;
    struct unique *list;
    struct unique *timers; /* those of no job, by same */
};

int dassie__unique_init(struct overlay *overlay); /* 0 or UV_ENOMEM */
void dassie__unique_free(struct overlay *overlay);

/* That of a row with a key; its queue is set by dassie__unique_find(), or that
 * of the row. NULL: no memory. */
struct unique *dassie__unique_new(const struct job_row *row);

/* For a job that was loaded with that row: gives it its key, if it has one, and
 * says whether it holds it. */
int dassie__unique_load(struct store *s, job_t *job, const struct job_row *row,
                        struct errmsg *e);

/* Who holds the key of a queue's job: *id, 0 for nobody. *u: it is reserved for
 * a job that is not inserted yet, whose key that is; else NULL. */
int dassie__unique_find(struct store *s, const job_t *job, uint64_t wall_ms,
                        uint64_t *id, struct unique **u, struct errmsg *e);

/* Keeps a key that nobody holds for a job that is inserted next, and undoes
 * that. */
void dassie__unique_reserve(struct store *s, struct unique *u);
void dassie__unique_forgo(struct store *s, struct unique *u);

/* A job with a key is moved: takes it or lets go of it. */
void dassie__unique_moved(struct store *s, job_t *job, int from,
                          enum event event);

/* Lets go of it, if the job holds it. */
void dassie__unique_release(struct store *s, job_t *job);

/* The time is over for which a job held the key. */
int dassie__unique_expire(struct store *s, const struct due *due,
                          struct kv_slice value, struct errmsg *e);

/* The batch is committed, or those that were in the overlay are freed. */
void dassie__unique_committed(struct overlay *overlay);

#endif /* DASSIE_UNIQUE_H_ */
