/* users.h: the program around the library: producers, processors, look-ups.
 *
 * What it may do is a table of operations with weights; each is drawn again and
 * again, on the loop or, where the library allows it, on another thread: see
 * enqueues.h, runs.h and looks.h. A new kind of call is a function and a line
 * in that table. Threads: one. */
#ifndef DASSIE_TEST_SIM_USERS_H_
#define DASSIE_TEST_SIM_USERS_H_

#include "dassie.h"

#include <stdbool.h>
#include <stdint.h>

/* How they are in this schedule. */
struct users_plan {
    const char *path; /* of the store */
    dassie_options_t options;
    unsigned jobs_max;
    unsigned queues;       /* different ones */
    unsigned at_most_once; /* of a thousand jobs, */
    unsigned failing;      /* so too */
    unsigned delayed;      /* so too */
    unsigned timed;        /* so too */
    unsigned expiring;     /* so too */
    unsigned verdicts;     /* of a thousand runs: snoozed, or their end told */
    unsigned endless;      /* so too: they end only when they must */
    uint64_t run_ns;       /* how long a run takes, at the most */
    uint64_t pace_ns;      /* the time between two operations, at the most */
    unsigned no_memory;    /* weights of operations */
    unsigned close;
    unsigned breaks;
};
extern struct users_plan users_plan;

/* The process. */
struct users {
    dassie_t q;
    uv_loop_t loop;
    bool open;      /* the handle takes calls */
    bool closing;   /* dassie_close() was called */
    bool failed;    /* it did not open, and is to be closed */
    bool finish;    /* see users_finish() */
    unsigned calls; /* of other threads, under way */
    uint64_t next_op;
};
extern struct users users;

/* Whether the queue takes calls. */
bool users_calls(void);

/* Before the first process of a schedule. */
void users_begin(void);

/* A process begins, on its loop; it ends by itself or by users_killed(). */
void users_process(void);
void users_killed(void);

/* Only to finish: everything is served and ends, then the queue closes. */
void users_finish(bool finish);

#endif /* DASSIE_TEST_SIM_USERS_H_ */
