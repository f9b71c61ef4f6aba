#include "config.h"

#include "state.h"

#define REFUSE(code)    \
    {                   \
        .error = (code) \
    }
#define MOVE(state)   \
    {                 \
        .to = (state) \
    }
#define LINE(kind, run)                                       \
    {                                                         \
        .to = DASSIE_PENDING, .line = (kind), .counts = (run) \
    }
#define END(state, run)                \
    {                                  \
        .to = (state), .counts = (run) \
    }

/* Runs that end uncounted against the most are excused. */
#define EXCUSED(state)                                 \
    {                                                  \
        .to = (state), .counts = true, .excused = true \
    }

static const struct transition none[EVENTS] = {
    [EVENT_ENQUEUE] = LINE(LINE_NORMAL, false),
    [EVENT_HAND_OFF] = MOVE(DASSIE_RUNNING),
    [EVENT_SCHEDULE] = MOVE(DASSIE_SCHEDULED),
    [EVENT_PROMOTE] = REFUSE(UV_ENOENT),
    [EVENT_CLAIM] = REFUSE(UV_ENOENT),
    [EVENT_COMPLETE] = REFUSE(UV_ENOENT),
    [EVENT_FAIL] = REFUSE(UV_ENOENT),
    [EVENT_RETRY] = REFUSE(UV_ENOENT),
    [EVENT_SNOOZE] = REFUSE(UV_ENOENT),
    [EVENT_UNCLAIM] = REFUSE(UV_ENOENT),
    [EVENT_REPEAT] = REFUSE(UV_ENOENT),
    [EVENT_SUSPECT] = REFUSE(UV_ENOENT),
    [EVENT_INTERRUPT] = REFUSE(UV_ENOENT),
    [EVENT_CRASH_OUT] = REFUSE(UV_ENOENT),
    [EVENT_RUN_NOW] = REFUSE(UV_ENOENT),
    [EVENT_POSTPONE] = REFUSE(UV_ENOENT),
    [EVENT_CANCEL] = REFUSE(UV_ENOENT),
    [EVENT_ABORT] = REFUSE(UV_ENOENT),
    [EVENT_AGAIN] = REFUSE(UV_ENOENT),
    [EVENT_DELETE] = REFUSE(UV_ENOENT),
};

static const struct transition pending[EVENTS] = {
    [EVENT_ENQUEUE] = REFUSE(UV_EEXIST),
    [EVENT_HAND_OFF] = REFUSE(UV_EEXIST),
    [EVENT_SCHEDULE] = REFUSE(UV_EEXIST),
    [EVENT_PROMOTE] = REFUSE(UV_EALREADY),
    [EVENT_CLAIM] = MOVE(DASSIE_RUNNING),
    [EVENT_COMPLETE] = REFUSE(UV_EALREADY),
    [EVENT_FAIL] = REFUSE(UV_EALREADY),
    [EVENT_RETRY] = REFUSE(UV_EALREADY),
    [EVENT_SNOOZE] = REFUSE(UV_EALREADY),
    [EVENT_UNCLAIM] = REFUSE(UV_EALREADY),
    [EVENT_REPEAT] = REFUSE(UV_EALREADY),
    [EVENT_SUSPECT] = REFUSE(UV_EALREADY),
    [EVENT_INTERRUPT] = REFUSE(UV_EALREADY),
    [EVENT_CRASH_OUT] = REFUSE(UV_EALREADY),
    [EVENT_RUN_NOW] = REFUSE(DASSIE_ESTATE),
    [EVENT_POSTPONE] = MOVE(DASSIE_SCHEDULED),
    [EVENT_CANCEL] = MOVE(DASSIE_CANCELLED),
    [EVENT_ABORT] = REFUSE(UV_EALREADY),
    [EVENT_AGAIN] = REFUSE(DASSIE_ESTATE),
    [EVENT_DELETE] = MOVE(STATE_NONE),
};

static const struct transition scheduled[EVENTS] = {
    [EVENT_ENQUEUE] = REFUSE(UV_EEXIST),
    [EVENT_HAND_OFF] = REFUSE(UV_EEXIST),
    [EVENT_SCHEDULE] = REFUSE(UV_EEXIST),
    [EVENT_PROMOTE] = LINE(LINE_NORMAL, false),
    [EVENT_CLAIM] = REFUSE(UV_EALREADY),
    [EVENT_COMPLETE] = REFUSE(UV_EALREADY),
    [EVENT_FAIL] = REFUSE(UV_EALREADY),
    [EVENT_RETRY] = REFUSE(UV_EALREADY),
    [EVENT_SNOOZE] = REFUSE(UV_EALREADY),
    [EVENT_UNCLAIM] = REFUSE(UV_EALREADY),
    [EVENT_REPEAT] = REFUSE(UV_EALREADY),
    [EVENT_SUSPECT] = REFUSE(UV_EALREADY),
    [EVENT_INTERRUPT] = REFUSE(UV_EALREADY),
    [EVENT_CRASH_OUT] = REFUSE(UV_EALREADY),
    [EVENT_RUN_NOW] = LINE(LINE_NORMAL, false),
    [EVENT_POSTPONE] = MOVE(DASSIE_SCHEDULED),
    [EVENT_CANCEL] = MOVE(DASSIE_CANCELLED),
    [EVENT_ABORT] = REFUSE(UV_EALREADY),
    [EVENT_AGAIN] = REFUSE(DASSIE_ESTATE),
    [EVENT_DELETE] = MOVE(STATE_NONE),
};

static const struct transition running[EVENTS] = {
    [EVENT_ENQUEUE] = REFUSE(UV_EEXIST),
    [EVENT_HAND_OFF] = REFUSE(UV_EEXIST),
    [EVENT_SCHEDULE] = REFUSE(UV_EEXIST),
    [EVENT_PROMOTE] = REFUSE(UV_EALREADY),
    [EVENT_CLAIM] = REFUSE(UV_EALREADY),
    [EVENT_COMPLETE] = END(DASSIE_COMPLETE, true),
    [EVENT_FAIL] = END(DASSIE_FAILED, true),
    [EVENT_RETRY] = END(DASSIE_SCHEDULED, true),
    [EVENT_SNOOZE] = EXCUSED(DASSIE_SCHEDULED),
    [EVENT_UNCLAIM] = LINE(LINE_FRONT, false),
    [EVENT_REPEAT] = LINE(LINE_FRONT, true),
    [EVENT_SUSPECT] = LINE(LINE_SUSPECT, true),
    [EVENT_INTERRUPT] = END(DASSIE_FAILED, true),
    [EVENT_CRASH_OUT] = END(DASSIE_FAILED, true),
    [EVENT_RUN_NOW] = REFUSE(DASSIE_ESTATE),
    [EVENT_POSTPONE] = REFUSE(DASSIE_ESTATE),
    [EVENT_CANCEL] = MOVE(DASSIE_CANCELLED),
    [EVENT_ABORT] = END(DASSIE_CANCELLED, true),
    [EVENT_AGAIN] = REFUSE(DASSIE_ESTATE),
    [EVENT_DELETE] = REFUSE(DASSIE_ESTATE),
};

static const struct transition complete[EVENTS] = {
    [EVENT_ENQUEUE] = REFUSE(UV_EEXIST),
    [EVENT_HAND_OFF] = REFUSE(UV_EEXIST),
    [EVENT_SCHEDULE] = REFUSE(UV_EEXIST),
    [EVENT_PROMOTE] = REFUSE(UV_EALREADY),
    [EVENT_CLAIM] = REFUSE(UV_EALREADY),
    [EVENT_COMPLETE] = REFUSE(UV_EALREADY),
    [EVENT_FAIL] = REFUSE(UV_EALREADY),
    [EVENT_RETRY] = REFUSE(UV_EALREADY),
    [EVENT_SNOOZE] = REFUSE(UV_EALREADY),
    [EVENT_UNCLAIM] = REFUSE(UV_EALREADY),
    [EVENT_REPEAT] = REFUSE(UV_EALREADY),
    [EVENT_SUSPECT] = REFUSE(UV_EALREADY),
    [EVENT_INTERRUPT] = REFUSE(UV_EALREADY),
    [EVENT_CRASH_OUT] = REFUSE(UV_EALREADY),
    [EVENT_RUN_NOW] = REFUSE(DASSIE_ESTATE),
    [EVENT_POSTPONE] = REFUSE(DASSIE_ESTATE),
    [EVENT_CANCEL] = REFUSE(DASSIE_ESTATE),
    [EVENT_ABORT] = REFUSE(UV_EALREADY),
    [EVENT_AGAIN] = REFUSE(DASSIE_ESTATE),
    [EVENT_DELETE] = MOVE(STATE_NONE),
};

/* Failed and cancelled are alike. */
static const struct transition failed[EVENTS] = {
    [EVENT_ENQUEUE] = REFUSE(UV_EEXIST),
    [EVENT_HAND_OFF] = REFUSE(UV_EEXIST),
    [EVENT_SCHEDULE] = REFUSE(UV_EEXIST),
    [EVENT_PROMOTE] = REFUSE(UV_EALREADY),
    [EVENT_CLAIM] = REFUSE(UV_EALREADY),
    [EVENT_COMPLETE] = REFUSE(UV_EALREADY),
    [EVENT_FAIL] = REFUSE(UV_EALREADY),
    [EVENT_RETRY] = REFUSE(UV_EALREADY),
    [EVENT_SNOOZE] = REFUSE(UV_EALREADY),
    [EVENT_UNCLAIM] = REFUSE(UV_EALREADY),
    [EVENT_REPEAT] = REFUSE(UV_EALREADY),
    [EVENT_SUSPECT] = REFUSE(UV_EALREADY),
    [EVENT_INTERRUPT] = REFUSE(UV_EALREADY),
    [EVENT_CRASH_OUT] = REFUSE(UV_EALREADY),
    [EVENT_RUN_NOW] = REFUSE(DASSIE_ESTATE),
    [EVENT_POSTPONE] = REFUSE(DASSIE_ESTATE),
    [EVENT_CANCEL] = REFUSE(DASSIE_ESTATE),
    [EVENT_ABORT] = REFUSE(UV_EALREADY),
    [EVENT_AGAIN] = LINE(LINE_NORMAL, false),
    [EVENT_DELETE] = MOVE(STATE_NONE),
};

const struct transition *dassie__state_next(int state, enum event event)
{
    switch (state) {
        case DASSIE_PENDING:
            return &pending[event];
        case DASSIE_SCHEDULED:
            return &scheduled[event];
        case DASSIE_RUNNING:
            return &running[event];
        case DASSIE_COMPLETE:
            return &complete[event];
        case DASSIE_FAILED:
        case DASSIE_CANCELLED:
            return &failed[event];
        default:
            return &none[event];
    }
}

enum event dassie__state_recover(enum found found, unsigned flags,
                                 uint32_t crashes, uint32_t crashes_max)
{
    if (found == FOUND_NOT_STARTED) {
        return EVENT_UNCLAIM;
    }
    if ((flags & DASSIE_AT_MOST_ONCE) != 0) {
        return EVENT_INTERRUPT;
    }
    if (found == FOUND_EXECUTING) {
        return EVENT_SUSPECT;
    }
    if (found == FOUND_ALONE) {
        return crashes_max > 0 && crashes >= crashes_max ? EVENT_CRASH_OUT
                                                         : EVENT_SUSPECT;
    }
    return EVENT_REPEAT;
}
