/* store.h: the only way from the engine to a database.
 *
 * It keeps the layout of doc/design.md, "On disk": rows are appended, claims
 * move a cursor, what is dead goes by range. Every transition of a job is one
 * call of dassie__store_move(), which changes the queues in memory and puts all
 * rows it takes into the open batch; dassie__store_commit() writes the batch
 * with one fsync.
 *
 * The happy path is: dassie__store_queue and dassie__store_insert for a new
 * job, dassie__store_claim, dassie__store_move when it ends,
 * dassie__store_commit, again and again.
 *
 * Possible failure modes are: no memory (dassie__store_queue,
 * dassie__store_insert and dassie__store_claim fail with nothing changed; the
 * rest allocates nothing of ours); a failed commit (it is in doubt: nothing may
 * be changed until dassie__store_heal has returned 0); damaged rows (a line
 * that cannot be read stops, and is told).
 *
 * On close: the open batch is dropped; dassie__store_free() frees the windows.
 *
 * Threads: the engine, but for dassie__look_run() in look.h. Nothing here knows
 * of libuv's loop, of threads or of the clock; nothing above knows that the
 * database is local. */
#ifndef DASSIE_STORE_H_
#define DASSIE_STORE_H_

#include "kv.h"
#include "queue.h"
#include "state.h"
#include "unique.h"

/* Commits between two folds of the queues' counts into their rows. */
#define FOLD_COMMITS 256

/* Dead pending rows are deleted beyond this many of all lines together, the
 * lines with at least DEAD_LINE_ROWS of them first, DEAD_RANGES_MAX a
 * commit. */
#define DEAD_ROWS_MAX 16384
#define DEAD_LINE_ROWS 256
#define DEAD_RANGES_MAX 8

/* Jobs read in one refill of a window. */
#define REFILL_JOBS_MAX 4096

/* Pending jobs that one batch takes out of their lines by key. */
#define TAKEN_MAX 1024

struct progress;

/* The jobs claimed in one commit that have not ended. */
struct claim_set {
    struct claim_set *prev; /* the older one */
    struct claim_set *next; /* the newer one */
    uint64_t commit;
    uint32_t total; /* jobs it began with */
    uint32_t live;  /* of them left */
    bool refolded;  /* an older one went into it since the last commit */
    job_t *head;
    job_t *tail;
};

/* How far the sweep has got; see sweep.h. */
struct sweep {
    bool under_way;
    bool over;              /* a queue has more than it keeps */
    bool failed;            /* the last pass: it is not hastened */
    uint64_t passed;        /* damaged ones that the pass has met */
    uint64_t from;          /* no job that has ended is before this id: what
                               was deleted there is not passed over again */
    uint64_t lowest;        /* the same, of what the pass has seen */
    uint64_t cursor;        /* the pass goes on with this id */
    uint64_t kept_ms;       /* nothing is kept long enough before */
    uint64_t not_before_ms; /* the next pass, unless over */
};

struct store {
    struct kv *kv;
    void (*moved)(void *arg, const job_t *job, int from,
                  const struct progress *progress); /* or NULL */
    void *moved_arg;
    struct sweep sweep;
    struct overlay overlay;  /* of unique keys */
    struct job_list expired; /* cancelled in the open batch, to be told */
    struct queues queues;
    uint32_t named; /* of them: their names are stored, or in a commit */
    struct claim_set *oldest;
    struct claim_set *newest;
    unsigned refolded; /* sets to be written again */
    struct line *dead; /* lines whose dead rows may go, first in first out */
    struct line **dead_end;
    uint64_t dead_rows; /* of all lines */
    struct schedule_row schedule;
    uint64_t passed;     /* damaged rows that the schedule has passed over, */
    struct due ahead;    /* and where it goes on then */
    uint64_t next;       /* the number that the next job or position gets */
    uint64_t commit;     /* the number of the open batch */
    uint64_t folded;     /* commits up to this are in the queues' rows */
    uint64_t suspects;   /* jobs in suspects' lines */
    uint64_t refills;    /* statistics */
    size_t window_bytes; /* of all windows */
    size_t window_max;   /* the budget for them */
    unsigned served;     /* queues that a processor serves */
    bool sync;           /* commits are fsynced */
    bool changed;        /* the batch holds something; see store_changed() */
    uint64_t *taken;     /* jobs whose pending rows it deletes: TAKEN_MAX */
    unsigned taken_n;
    uint8_t *commit_row; /* room for the largest one */
    size_t commit_row_room;
    uint8_t *set_row;
};

/* Reads queues and counts; cost does not grow with jobs. Takes over kv when it
 * succeeds. */
int dassie__store_open(struct store *s, struct kv *kv, size_t window_max,
                       bool sync, struct errmsg *e);

/* Closes the database. The queues stay readable (answers on their way to the
 * loop name them) until dassie__store_free(). */
/* clean: all commits are made durable. False: they could not be. */
bool dassie__store_close(struct store *s, bool clean);
void dassie__store_free(struct store *s);

/* The jobs that were claimed when the store was left, oldest claim first,
 * without their payloads. Once, after dassie__store_open(). */
int dassie__store_claimed(struct store *s, struct job_list *out,
                          struct errmsg *e);

/* Fills in what only the history row of job says, if it has one. */
int dassie__store_history(struct store *s, job_t *job, struct errmsg *e);

/* 1: the job has ended; 0: it has not; UV_ENOENT: there is none; or an error.
 * As of the last commit. */
int dassie__store_ended(struct store *s, uint64_t id);

/* The queue of that name with lines for priority, made if need be: its name
 * goes with the batch. Errors: UV_ENOBUFS, UV_ENOMEM; nothing has changed then.
 */
int dassie__store_queue(struct store *s, const char *name, size_t len,
                        int8_t priority, struct queue **queue);

/* Changes the settings of q. */
void dassie__store_settings(struct store *s, struct queue *q,
                            const struct settings_row *settings);

/* Whether the open batch holds something: so do new queues. */
static inline bool store_changed(const struct store *s)
{
    return s->changed || s->named < s->queues.n;
}

/* Room for a commit that touches every line of every queue, one queue more and
 * three lines more. Errors: UV_ENOMEM. */
int dassie__store_make_room(struct store *s);

/* The lines of a priority of q, made if need be, with room for their counts in
 * a commit's row. Errors: UV_ENOMEM. */
int dassie__store_lines(struct store *s, struct queue *q, int8_t priority);

/* Makes sure that a claim or a hand-off can be noted: UV_ENOMEM if not. */
int dassie__store_prepare_claim(struct store *s);

/* Gives job its id and enters it (ENQUEUE, SCHEDULE, or HAND_OFF after
 * dassie__store_prepare_claim()). True: the job stays in memory, in a window or
 * claimed. False: it is on disk only, and the caller's to free. */
bool dassie__store_insert(struct store *s, job_t *job, enum event event);

/* The next job of q, claimed: one that may be claimed ahead of a free slot
 * (AHEAD), any one (NOW), or a suspect (ALONE). NULL: there is none that can be
 * claimed in this batch (or it cannot be read: *rc is the error). */
enum claim_how { CLAIM_AHEAD, CLAIM_NOW, CLAIM_ALONE };
job_t *dassie__store_claim(struct store *s, struct queue *q, enum claim_how how,
                           int *rc, struct errmsg *e);

/* Moves a job by any other event of state.h: a running one, or one that
 * dassie__find() has found. *kept as dassie__store_insert(). Returns the
 * table's refusal, or 0. */
int dassie__store_move(struct store *s, job_t *job, enum event event,
                       bool *kept);

/* Something happens to a job that does not move: it has said how far it has
 * come, or else has timed out. */
void dassie__store_tell(struct store *s, const job_t *job,
                        const struct progress *progress);

/* Whether the open batch has taken that job out of its line. */
bool dassie__store_taken(const struct store *s, uint64_t id);

/* Moves and frees a running job that its owner left; found is what is known of
 * its run, crashes_max as for dassie__state_recover(). Returns the event. */
enum event dassie__store_recover(struct store *s, job_t *job, enum found found,
                                 uint32_t crashes_max, uint64_t wall_ms);

/* Tells that one more or one less processor serves q. When none is left, the
 * jobs of its windows leave memory: into *left, the caller's to free. */
void dassie__store_serve(struct store *s, struct queue *q, int d,
                         struct job_list *left);

/* Puts all dead rows of long lines into the batch: before a clean close. */
void dassie__store_tidy(struct store *s);

/* Writes the batch. After an error it is in doubt. */
int dassie__store_commit(struct store *s, uint64_t wall_ms, struct errmsg *e);

/* Reopens the database and settles the batch in doubt: 0, it is written now;
 * else try again later. */
int dassie__store_heal(struct store *s, struct errmsg *e);

#endif /* DASSIE_STORE_H_ */
