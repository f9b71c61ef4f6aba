/* events.c: what is told of each job is one path from state to state. */
#include "config.h"

#include "session.h"

#include <inttypes.h>
#include <string.h>

#define UNKNOWN (-2)

static dassie_subscription_t sub;
static int8_t state[MODEL_IDS_MAX]; /* as told last in this session */

static void forget(void)
{
    memset(state, UNKNOWN, sizeof state);
}

static void on_event(dassie_subscription_t *s, const dassie_event_t *events,
                     size_t n, uint64_t missed)
{
    MODEL_CHECK(s == &sub && (n > 0 || missed > 0), "an event about nothing");
    if (missed > 0) {
        forget();
    }
    for (size_t i = 0; i < n; i++) {
        const dassie_event_t *e = &events[i];
        MODEL_CHECK(e->id > 0 && e->id < MODEL_IDS_MAX, "an event of nobody");
        MODEL_CHECK(state[e->id] == UNKNOWN || state[e->id] == e->from,
                    "event: job with id %" PRIu64
                    " was in %d, and goes from "
                    "%d to %d",
                    e->id, state[e->id], e->from, e->to);
        MODEL_CHECK(e->from != DASSIE_NOWHERE || e->id > ledger->id_high,
                    "event: an old job is new");
        MODEL_CHECK((e->to == DASSIE_COMPLETE) <= (e->code == 0) &&
                        (e->to == DASSIE_FAILED) <= (e->code != 0),
                    "event: to %d with code %d", e->to, e->code);
        MODEL_CHECK(!e->progress || (e->from == DASSIE_RUNNING &&
                                     e->to == DASSIE_RUNNING && e->code == 0),
                    "event: progress of %d to %d", e->from, e->to);
        MODEL_CHECK(plan_queue_find(e->queue, e->queue_len) < PLAN_QUEUES,
                    "event: another queue");
        state[e->id] = (int8_t)e->to;
        ledger->events++;
    }
}

void model_subscribe(void)
{
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    options.progress = 1;
    forget();
    MODEL_CHECK(
        CALL(dassie_subscribe)(&session.q, &sub, &options, on_event) == 0,
        "no subscription");
}

void model_subscribe_again(void)
{
    MODEL_CHECK(CALL(dassie_unsubscribe)(&sub) == 0, "it does not end");
    model_subscribe();
}
