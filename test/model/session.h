/* session.h: one child between an open and the close or kill, and its parts.
 *
 * Threads: the loop's, but for what is atomic. */
#ifndef DASSIE_TEST_MODEL_SESSION_H_
#define DASSIE_TEST_MODEL_SESSION_H_

#include "model.h"

#include <limits.h>

#define CLOSE_EVERY 500 /* operations */
#define KILL_EVERY 2000
#define COPY_EVERY 8 /* sessions */

/* Where a kill comes from. */
enum kill {
    KILL_NONE,
    KILL_BETWEEN, /* two operations */
    KILL_WORK,    /* a work callback, as it begins */
    KILL_WORKED,  /* or ends */
    KILL_START,   /* a start callback */
    KILL_FINISH,  /* right after dassie_finish() */
    KILL_ACK,     /* an enqueue callback */
    KILL_DONE,    /* a done callback */
    KILL_THREAD,  /* another thread, at any time */
    KILL_CLOSING, /* after dassie_close() */
    KILL_OPENING, /* after dassie_open(), from another thread */
    KILLS
};

struct session {
    uv_loop_t loop;
    uv_timer_t timer; /* keeps the loop alive and turning */
    dassie_t q;
    dassie_options_t options;
    struct dice dice;       /* of the operation */
    uint64_t last_id;       /* acknowledged to this thread's own enqueues */
    atomic_int outstanding; /* callbacks that must still come, */
    atomic_int acks;        /* those of enqueues among them */
    int pressure;           /* what pressure_cb said */
    bool closing;           /* all is to end */
    bool closed;            /* close_cb came */
    _Atomic int kill;       /* enum kill: when to kill */
    unsigned armed_at;      /* the operation since when */
    atomic_uint freed;      /* sticky jobs begun before may go on */
    uv_thread_t thread;     /* hands in jobs, or ends them */
    bool thread_runs;
};

extern struct session session;

/* Ends the process by SIGKILL if that is where it is to be. */
void session_kill_point(enum kill where);

/* Runs the loop until *flag, which must come. */
void session_wait(const bool *flag);

/* ---- ops.c ---- */

void ops_one(void);  /* the next random operation */
void ops_rest(void); /* lets what has been asked for come */
void ops_join(void); /* waits for the other thread */

/* ---- keys.c ---- */

/* Gives the job that is about to be handed in a unique key. */
void keys_choose(uint32_t number, dassie_spec_t *spec);
/* It was acknowledged; it was not, as that one was there: its number, or
 * UINT32_MAX if that is not known. */
void keys_acked(uint32_t number, uint64_t asked_at);
uint32_t keys_met(uint32_t number, uint64_t id);

/* ---- events.c ---- */

void model_subscribe(void); /* right after an open */
void model_subscribe_again(void);

/* ---- workers.c ---- */

void workers_open(void);    /* none yet */
void workers_process(void); /* a new one */
void workers_stop(void);    /* one of them */
void workers_finish(void);  /* ends an async job, from any thread */
void workers_misuse(void);  /* finishes what may not be finished */
void workers_release(void); /* lets what waits go on */
void workers_closing(void);

/* ---- child.c ---- */

/* Opens, checks, performs operations and closes, until all are done or one of
 * them kills. Never returns. */
void child_run(const char *path) __attribute__((noreturn));

#endif /* DASSIE_TEST_MODEL_SESSION_H_ */
