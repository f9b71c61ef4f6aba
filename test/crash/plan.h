/* plan.h: what is to become of each job that the programs here enqueue.
 *
 * A job has a number, its token, and all of this follows from it. So a job that
 * comes back from a store can be compared with what it should be, and nobody
 * has to write that down. A run knows what to do by its token and by its own
 * number, for which a run that was killed counts as well.
 *
 * A new kind of job gets a line in kinds[] (plan.c) and, if its runs do not
 * just end, a value of enum course; what operators do to jobs is in there, too.
 *
 * Threads: any. */
#ifndef DASSIE_TEST_CRASH_PLAN_H_
#define DASSIE_TEST_CRASH_PLAN_H_

#include <dassie.h>

#include <stdbool.h>

#define DATA_MAX 20000

/* Jobs come in rounds: a batch, then single ones. */
#define ROUND_JOBS 46u
#define BATCH_JOBS 16u

/* Those of a round that the work treats in a way of their own. */
#define BRIEF_FIRST 38u
#define BRIEF_JOBS 3u
#define GATED_CANCELLED 3u
#define KEYED_FIRST 42u  /* from here on: a key, or an expiry */
#define TURN KEYED_FIRST /* has the key that each round has */

/* How many complete jobs are kept in the queue QUEUE_BRIEF. */
#define BRIEF_KEPT 2u

/* A time that does not come while a test runs. */
#define FAR_MS 3600000u

/* The longest key, and a zero byte. */
#define KEY_BYTES 20

enum how {
    QUICK, /* returns at once */
    SLOW,  /* takes a little longer than a commit */
    GATED  /* the first run waits until it is let go */
};

/* What the runs of a job do, one after the other. */
enum course {
    ENDS,    /* each that is not interrupted is the last one */
    RETRIED, /* the first fails, the next is the last */
    SPENT,   /* all fail, until no attempt is left */
    GIVEN,   /* the first fails, then one that says that it was the last */
    SNOOZED, /* the first only snoozes */
    SAVES,   /* the first saves, and fails, the next goes on */
    AGAIN    /* fails, until an operator has it tried again */
};

enum {
    QUEUE_MAIL,
    QUEUE_ZERO,
    QUEUE_BRIEF, /* is paused now and then, and keeps few of its jobs */
    QUEUE_WEB,
    QUEUE_LATER,
    QUEUES
};
extern const uv_buf_t queues[QUEUES];

/* What a rebuild calls a queue whose name is lost, before its number. */
#define RENAMED "recovered-"

struct plan {
    dassie_spec_t spec; /* points into what follows */
    int queue;
    enum how how;
    enum course course;
    int change;       /* what an operator does to it (dassie_action_t), or 0, */
    bool change_late; /* when it has ended */
    int status;       /* how it ends ... */
    char outcome[32]; /* ... and what it leaves behind */
    size_t outcome_len;
    char name[16];
    char key[KEY_BYTES]; /* if it has one */
    unsigned char data[DATA_MAX];
};

void plan_of(uint32_t token, struct plan *plan);

/* Its unique key: false if it has none. It is held until the job has ended. */
bool plan_key(uint32_t token, char key[KEY_BYTES]);

/* Notes that the job's change is asked for, and which job that is. */
void plan_change(uint32_t token, const struct plan *plan,
                 dassie_filter_t *filter);

/* What a run returns, and leaves behind. */
struct run {
    int status;
    char outcome[32];
    size_t outcome_len;
};

/* Says what is to follow on the run, which is under way, and how it ends. */
void plan_run(uint32_t token, dassie_job_t *job, struct run *run);

/* What differs between a job and its plan, or between their ends, or NULL. */
const char *plan_differs(uint32_t token, const dassie_info_t *job);
const char *plan_end_differs(uint32_t token, const dassie_info_t *job);

/* What an operator was told to have done to a job, and is not so; or NULL. */
const char *plan_change_lost(uint32_t token, const dassie_info_t *job);

/* Whether nothing is wrong if such a job is not there. */
bool plan_may_be_gone(uint32_t token);

#endif /* DASSIE_TEST_CRASH_PLAN_H_ */
