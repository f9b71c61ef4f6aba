/* keys.c: enqueues with unique keys, of which there are few, so that they meet;
 * no two jobs of a queue hold one at a time. */
#include "config.h"

#include "order.h"
#include "session.h"

#include <inttypes.h>
#include <string.h>

#define TIME_MS_MAX 60

static const char *const keys[KEYS] = {"a", "b", "c\xff", "another one"};

void keys_choose(uint32_t number, dassie_spec_t *spec)
{
    struct fact *fact = &ledger->facts[number];
    unsigned key = dice_below(&session.dice, KEYS);
    spec->unique = keys[key];
    spec->expire_ms = 0; /* who waits surely holds it */
    spec->unique_until = (dassie_until_t)dice_below(&session.dice, 3);
    spec->unique_ms = spec->unique_until == DASSIE_UNTIL_TIME
                          ? 1 + dice_below(&session.dice, TIME_MS_MAX)
                          : 0;
    spec->on_conflict = (dassie_conflict_t)dice_below(&session.dice, 3);
    fact->until = (uint8_t)spec->unique_until;
    fact->key = (uint8_t)(key + 1);
    if (spec->on_conflict == DASSIE_CONFLICT_KEEP) {
        return;
    }
    for (uint32_t i = 0; i < number; i++) { /* they may be changed by this */
        const struct fact *other = &ledger->facts[i];
        if (other->key == fact->key && other->queue == fact->queue) {
            order_free(i, false);
        }
    }
}

static bool is_its_rival(uint32_t number, const struct fact *other)
{
    const struct fact *fact = &ledger->facts[number];
    return other != fact && other->key == fact->key &&
           other->queue == fact->queue;
}

/* Whether it surely holds its key: it was there before, and has not come to the
 * end of a run that may have been the last. */
static bool surely_holds(const struct fact *fact, uint64_t asked_at)
{
    return fact->until == DASSIE_UNTIL_ENDED && !fact->free && fact->end == 0 &&
           fact->stage == STAGE_ACKED && fact->acked_at < asked_at &&
           (fact->begun == 0 || fact->ended < fact->begun);
}

void keys_acked(uint32_t number, uint64_t asked_at)
{
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        const struct fact *other = &ledger->facts[i];
        MODEL_CHECK(
            !is_its_rival(number, other) || !surely_holds(other, asked_at),
            "job %" PRIu32 " is enqueued, but job %" PRIu32 " holds its key",
            number, i);
    }
    ledger->keyed++;
}

uint32_t keys_met(uint32_t number, uint64_t id)
{
    uint32_t other = id < MODEL_IDS_MAX ? ledger->by_id[id] : 0;
    MODEL_CHECK(id > 0 && id < MODEL_IDS_MAX, "met a strange id");
    model_refused(number, 1);
    ledger->met++;
    if (other == 0) {
        return UINT32_MAX; /* nobody was told of it yet */
    }
    MODEL_CHECK(is_its_rival(number, &ledger->facts[other - 1]),
                "job %" PRIu32 " met job %" PRIu32 ", of another key", number,
                other - 1);
    return other - 1;
}

void keys_contents(uint32_t number, const dassie_info_t *info)
{
    const struct fact *fact = &ledger->facts[number];
    const char *key = fact->key > 0 ? keys[fact->key - 1] : "";
    MODEL_CHECK(info->unique_len == strlen(key) &&
                    (fact->key == 0 ||
                     memcmp(info->unique, key, info->unique_len) == 0) &&
                    (uint8_t)info->unique_until == fact->until,
                "job %" PRIu32 ": another key", number);
}

void keys_opened(void)
{
    uint32_t holds[PLAN_QUEUES][KEYS] = {{0}};
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        const struct fact *fact = &ledger->facts[i];
        if (fact->key == 0 || !fact->seen || fact->end != 0 ||
            fact->until != DASSIE_UNTIL_ENDED) {
            continue;
        }
        uint32_t *holder = &holds[fact->queue][fact->key - 1];
        MODEL_CHECK(*holder == 0,
                    "jobs %" PRIu32 " and %" PRIu32 " hold one key",
                    *holder - 1, i);
        *holder = i + 1;
    }
}
