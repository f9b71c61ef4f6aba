/* model.h: the naive model: what is known of each job, and what that allows.
 *
 * The model is a table in memory that a child shares with its parent, so it
 * survives the child. A fact is written there the moment it becomes one: a job
 * is about to be handed in, is acknowledged, begins a run, is about to end it,
 * its end has been told. Whatever the store says is judged by these facts:
 * while it is open with some latitude, as things go on; right after it was
 * opened exactly. Then every job is looked at, in doubt or not, and what is
 * seen becomes the facts.
 *
 * A judgment that fails ends the child, with a line in the ledger.
 *
 * Threads: model_begun() and model_ending() any; the others the loop's. */
#ifndef DASSIE_TEST_MODEL_MODEL_H_
#define DASSIE_TEST_MODEL_MODEL_H_

#include "plan.h"
#include "symbols.h"

#include <stdatomic.h>

#define MODEL_JOBS_MAX (1u << 16)
#define MODEL_IDS_MAX (1u << 20)
#define MODEL_FAILURE_BYTES 512

enum stage {
    STAGE_FREE,
    STAGE_ISSUED, /* handed in: it may be there */
    STAGE_ACKED,  /* it must be there */
    STAGE_REFUSED /* it must not be there, or has been found missing */
};

/* What a job has saved, as numbers that only grow. */
struct saved {
    uint32_t least; /* surely kept */
    uint32_t last;  /* saved last; it is kept if nothing is killed */
};

/* One job. */
struct fact {
    _Atomic uint64_t id;    /* 0: not known yet */
    _Atomic uint8_t stage;  /* enum stage */
    uint8_t queue;          /* by the plan */
    uint8_t end;            /* 0, or the dassie_state_t of its end */
    bool never_ended;       /* told that it had not ended when it was closed */
    bool served;            /* a processor may have claimed it */
    bool seen;              /* in the look that is under way */
    _Atomic uint32_t begun; /* the last run that a processor has begun */
    _Atomic uint32_t ended; /* the last one that it was about to end */
    uint32_t attempts;      /* counted */
    uint32_t excused;       /* of them, snoozed */
    uint64_t counted_at;    /* when they were last */
    atomic_bool free;       /* operators have had a hand in it, */
    bool started;           /* a run has begun since the last open */
    bool may_go;            /* and may have deleted it */
    bool waited;            /* scheduled, in the look that is under way */
    uint8_t key;            /* 0: none */
    uint8_t until;          /* dassie_until_t */
    uint32_t crashes;
    uint32_t session;       /* in which it was handed in */
    _Atomic uint32_t saves; /* the number of the last save */
    uint32_t saved_in;      /* the session of that */
    struct saved checkpoint;
    struct saved done;
    uint32_t batch;    /* the first job of its batch; itself if alone */
    uint32_t rank;     /* its place among the pending ones, or 0 */
    int end_code;      /* of a failed one */
    uint64_t ended_ms; /* and when */
    uint64_t enqueued_ms;
    _Atomic uint64_t begun_at; /* by the ledger's clock */
    uint64_t acked_at;
    uint64_t end_at;
};

struct ledger {
    uint64_t seed;
    unsigned op;                      /* the next operation */
    unsigned last;                    /* how many there are */
    unsigned close_at;                /* the next one that closes */
    unsigned kill_at;                 /* the next one that kills */
    bool kill_soon;                   /* the next child is killed early on */
    uint32_t session;                 /* opens so far */
    bool killed;                      /* the last one ended by a kill, */
    bool wants_kill;                  /* or is about to */
    bool done;                        /* all operations are through */
    int max_crashes;                  /* the option */
    _Atomic uint32_t jobs_n;          /* jobs ever handed in */
    uint64_t id_high;                 /* the highest id at the last open */
    bool served[PLAN_QUEUES];         /* in this session */
    bool paused[PLAN_QUEUES];         /* it is, or may be */
    unsigned configured[PLAN_QUEUES]; /* how often that was asked */
    bool drops[PLAN_QUEUES];          /* payloads of complete jobs */
    _Atomic uint64_t clock;           /* of facts */
    atomic_uint calls[SYMBOLS_N];
    uint32_t killed_in; /* the last session that was */
    unsigned kills;
    uint64_t events;     /* that were told */
    atomic_uint resumed; /* runs that were given a checkpoint */
    atomic_uint bare;    /* complete jobs seen without their payload */
    unsigned runs_again; /* jobs that a kill made run again */
    unsigned crashed;
    unsigned interrupted;
    unsigned keyed; /* enqueued with a unique key, */
    unsigned met;   /* and not enqueued, as another one had it */
    atomic_bool failed;
    char failure[MODEL_FAILURE_BYTES];
    struct fact facts[MODEL_JOBS_MAX];
    _Atomic uint32_t by_id[MODEL_IDS_MAX]; /* number + 1 */
};

extern struct ledger *ledger;

/* Says what is wrong and ends the process. */
void model_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
#define MODEL_CHECK(expression, ...) \
    ((expression) ? (void)0 : model_fail(__VA_ARGS__))

uint64_t model_clock(void);

/* ---- Handing in ---- */

/* n jobs, one batch, are about to be handed in. Returns the first's number. */
uint32_t model_issue(uint32_t n);
void model_refused(uint32_t number, uint32_t n);
void model_acked(uint32_t number, uint64_t id);
void model_told(uint32_t number, uint64_t id); /* in place of that, its end */

/* ---- Runs ---- */

/* A processor sees the job: returns its number. */
uint32_t model_begun(dassie_job_t *job);
void model_ending(uint32_t number, uint32_t attempt);

/* saves.c: judges what the run was given by an earlier one, and saves as
 * planned. Before model_ending(). */
void model_saves(uint32_t number, dassie_job_t *job);

/* ---- Unique keys: keys.c ---- */

#define KEYS 4

void keys_contents(uint32_t number, const dassie_info_t *info);
void keys_opened(void); /* all jobs have been looked at */

/* ---- Operators ---- */

/* One is about to change the job, or to delete it. What is judged of it from
 * here on is that it is one job, in one state, and that no run comes twice;
 * what is seen of it right after an open holds again. */
void model_free(uint32_t number, bool deletes);

/* ---- Looks while it is open; asked_at: by the clock ---- */

void model_looked(const dassie_info_t *info, uint64_t asked_at);
void model_ended(const dassie_info_t *info); /* told by done_cb or watch_cb */
void model_not_ended(uint32_t number);       /* closed before that */

/* ---- Right after an open ---- */

void model_open_begin(void);
void model_open_job(
    const dassie_info_t *info); /* scheduled ones, then pending ones in order */
void model_open_end(void);

/* ---- How many, in a queue or PLAN_QUEUES: in all ---- */

/* Right after an open: in each state; what is scheduled is pending. */
void model_counts(unsigned queue, dassie_count_t *count);

/* While it is open: what must and what may be there. */
struct model_bounds {
    uint64_t least;
    uint64_t ended; /* of them, at least */
    uint64_t most;
};
void model_bounds(unsigned queue, uint64_t asked_at,
                  struct model_bounds *bounds);

/* Whether all that was acknowledged then has no run before it or under way. */
bool model_drained(uint64_t asked_at);

#endif /* DASSIE_TEST_MODEL_MODEL_H_ */
