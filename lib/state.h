/* state.h: the life of a job as a table of (state, event) pairs.
 *
 *    schedule             enqueue                 hand-off
 *        |                   |                       |
 *        v                   v                       v
 *  +-----------+ promote +---------+     claim    +---------+  complete
 *  | scheduled | ------> | pending | -----------> | running | ----------+
 *  +-----------+         +---------+              +---------+           |
 *        ^                   ^                     | | |                v
 *        |                   |  unclaim, repeat,   | | |          +----------+
 *        |                   |       suspect       | | |          | complete |
 *        |                   +---------------------+ | |          +----------+
 *        |                     retry, snooze         | |   fail
 *        +-------------------------------------------+ |   crash out +--------+
 *                                                      |   interrupt   | failed
 * |
 *                                                      +------------->
 * +--------+
 *
 * What is pending or scheduled can be cancelled, and what is running if its
 * processor gives it up; what is failed or cancelled can be pending again; and
 * what is not running can be deleted.
 *
 * Every transition of the store goes through dassie__state_next(), and a test
 * walks the whole table. Pure; threads: any. */
#ifndef DASSIE_STATE_H_
#define DASSIE_STATE_H_

#include <stdbool.h>
#include <stdint.h>

#include "dassie.h"
#include "key.h"

/* Before the enqueue there is no job; the store's states are the user's. */
#define STATE_NONE (-1)
#define STATES 7 /* of dassie_state_t, one that is never given included */

enum event {
    EVENT_ENQUEUE,   /* into its line */
    EVENT_HAND_OFF,  /* enqueued while a processor is idle: no line */
    EVENT_SCHEDULE,  /* enqueued for later */
    EVENT_PROMOTE,   /* its time has come: into its line */
    EVENT_CLAIM,     /* taken from a line on behalf of a processor */
    EVENT_COMPLETE,  /* the processor says so */
    EVENT_FAIL,      /* the processor says so, and it is not tried again */
    EVENT_RETRY,     /* so, and it is tried again later */
    EVENT_SNOOZE,    /* the processor wants it again later */
    EVENT_UNCLAIM,   /* handed back before it started; a suspect stays one */
    EVENT_REPEAT,    /* found executing or ended at open: runs again */
    EVENT_SUSPECT,   /* found executing when its process died: runs alone */
    EVENT_INTERRUPT, /* found so, but to be run at most once */
    EVENT_CRASH_OUT, /* has killed its process too often */
    EVENT_RUN_NOW,   /* an operator does not want to wait for its time */
    EVENT_POSTPONE,  /* it is to wait for another time, from now on */
    EVENT_CANCEL,    /* an operator does not want it; it is not executing */
    EVENT_ABORT,     /* so, and its processor has given it up */
    EVENT_AGAIN,     /* an operator wants it to be tried again */
    EVENT_DELETE,    /* an operator wants it to be gone */
    EVENTS
};

struct transition {
    int error; /* 0, or why the event is refused; then nothing else holds */
    int to;    /* dassie_state_t or STATE_NONE */
    enum line_kind line; /* where it stands, if it becomes pending */
    bool counts;         /* the run that ends is counted, */
    bool excused;        /* but not against the most attempts */
};

/* state: STATE_NONE or a dassie_state_t. Never NULL. Refusals: UV_EEXIST for a
 * job that is there already, UV_ENOENT for one that is not, UV_EALREADY for an
 * event of a run that has ended or has not begun, DASSIE_ESTATE for what an
 * operator cannot do in this state. */
const struct transition *dassie__state_next(int state, enum event event);

/* What the flight recorder says of a run that the last process did not end. */
enum found {
    FOUND_NOT_STARTED, /* claimed, but its processor never saw it */
    FOUND_EXECUTING,   /* executing when the process died */
    FOUND_ALONE,       /* so, with nothing beside it */
    FOUND_ENDED,       /* its processor returned; the outcome was not durable */
    FOUND_UNKNOWN      /* no valid recorder */
};

/* What happens to that job at open. crashes counts this one already, if the job
 * was alone; crashes_max 0: no limit. */
enum event dassie__state_recover(enum found found, unsigned flags,
                                 uint32_t crashes, uint32_t crashes_max);

#endif /* DASSIE_STATE_H_ */
