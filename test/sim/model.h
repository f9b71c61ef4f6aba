/* model.h: what must be true of each job.
 *
 * The model knows what was asked for and told, which runs have begun and
 * returned, and what the rows said after the last commit. It judges each
 * commit: only such moves may be between two of them as something has asked
 * for; what a dead process had claimed comes back as its runs say, to the
 * attempt; claims follow the order of the lines; a suspect runs alone. And each
 * callback: what is told is on disk by then, what was refused never is, no run
 * begins but for a claim that is durable, no end is told twice.
 *
 * A new kind of move is a line in may_move(). Threads: one. */
#ifndef DASSIE_TEST_SIM_MODEL_H_
#define DASSIE_TEST_SIM_MODEL_H_

#include "engine.h"
#include "facts.h"

enum stage {
    STAGE_FREE,
    STAGE_ISSUED,  /* handed in */
    STAGE_ACKED,   /* it must be there */
    STAGE_REFUSED, /* it must never be there */
    STAGE_DOUBT    /* it may be there: nobody was told, or of a doubt */
};

/* By dassie_action_t. */
#define ACTIONS (DASSIE_RUN_NOW + 1)

/* Whether a run was asked to end by an operator. */
enum asked { CANCEL_NOT, CANCEL_MAYBE, CANCEL_SURE };

struct job {
    dassie_enqueue_t req;
    enum stage stage;
    uint64_t id; /* once it was told */
    unsigned queue;
    int priority;
    unsigned flags;
    uint64_t delay_ms;
    uint32_t attempts_max;
    uint64_t backoff_ms;
    uint64_t timeout_ms;  /* 0: a run may take as long as it likes */
    uint64_t touched;     /* when its run began, or was touched */
    bool timed_out;       /* its run may have been asked to end for that */
    enum verdict verdict; /* of the run */
    uint64_t again_ms;
    uint32_t session; /* in which the last run has begun */
    uint32_t begun;   /* the number of that run; 0: none yet */
    bool executing;
    bool returned; /* and how: */
    int status;
    char out[OUT_MAX];
    size_t out_len;
    unsigned asked[ACTIONS]; /* what operators ask for just now, by action: in
                                which states, bits */
    unsigned done[ACTIONS];  /* how often that was done, to one that did not
                                run */
    enum asked cancel;       /* of the run that is claimed */
    bool gone;               /* deleted, */
    bool gone_told;          /* and somebody was told so */
    struct fact end;         /* the last one */
    bool once;               /* a run has begun, ever */
    bool ack_due;            /* a callback has to come */
    bool done_due;           /* so too, if the enqueue is acknowledged */
    int told;                /* the state of the end that was told, or 0 */
    unsigned found; /* what may be found of its run: bits by enum found */
};

/* What is set for a queue. */
enum rule { RULE_NO, RULE_MAYBE, RULE_YES };
struct ruled {
    enum rule paused;
    enum rule few; /* it keeps KEPT_FEW jobs in a state */
    bool was_paused;
    bool was_few;
};
#define KEPT_FEW 2
#define RULED_MAX (DASSIE_QUEUES_MAX + 2)

struct model {
    struct ruled queue[RULED_MAX];
    struct job job[TOKENS_MAX];
    unsigned jobs_n;
    struct facts facts; /* as of the last commit */
    struct facts raw;   /* as the power cut has left them */
    uint32_t session;
    bool unsynced;   /* DASSIE_OFF */
    bool live;       /* the store is open, */
    bool lost;       /* and was given up */
    bool dirty;      /* somebody has used it unsynced and not closed it */
    bool no_record;  /* the recorder of the last owner is void */
    bool rebuilding; /* so open rebuilds */
    bool closing;    /* the queue is to be closed */
    int alone;       /* the token of the suspect that runs alone, or -1 */
    uint64_t alone_until;
    uint64_t waits_from; /* since then a job waits for a thread */
    uint32_t crashes_max;
    uint64_t suspect_ns;
};
extern struct model model;

void model_begin(bool unsynced);

/* The library's handle, if there is one. */
struct dassie__impl *model_impl(void);

/* ---- A process ---- */

void model_process(void); /* begins, */
void model_closing(void); /* closes its queue, */
void model_killing(void); /* is about to die: its memory is still there, */
void model_killed(bool power, bool no_record, unsigned lost); /* is dead, */
void model_closed(bool no_record);                            /* or closed */

/* A schedule is over: all that was acknowledged has ended. */
void model_end(void);

/* It has recovered what the last one left, and begins a record of its own. */
void model_recovered(void);

/* Between two steps. */
void model_step(void);

/* Nothing is out of place in the rows. */
void model_verify(void);

/* ---- A commit ---- */

void model_committed(void);

/* ---- What users see ---- */

void model_acked(struct job *job, uint64_t id, int status);
void model_ended(struct job *job, int status, const dassie_info_t *info);
void model_timed_out(const struct job *job); /* a run is told so */
struct job *model_begun(const dassie_job_t *job, bool async);
void model_returned(struct job *job, int status, const char *out, size_t len);
void model_goes_on(struct job *job); /* its end was not taken */
struct job *model_job(const char *name, size_t len);

#endif /* DASSIE_TEST_SIM_MODEL_H_ */
