#include "config.h"

#include "plan.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG_BYTES 8

/* Payloads and results are slices of this. */
static uint8_t bytes[2 * PLAN_PAYLOAD_MAX];

static char longest_name[DASSIE_NAME_BYTES_MAX];

/* ---- Dice ---- */

uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

unsigned dice_below(struct dice *dice, unsigned n)
{
    return (unsigned)(dice_next(dice) % n);
}

bool dice_one_in(struct dice *dice, unsigned n)
{
    return dice_below(dice, n) == 0;
}

struct dice dice_of(uint64_t seed, uint64_t a, uint64_t b)
{
    struct dice dice = {seed};
    dice.state = dice_next(&dice) ^ a;
    dice.state = dice_next(&dice) ^ b;
    return dice;
}

void plan_init(void)
{
    struct dice dice = dice_of(1, 2, 3);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)dice_next(&dice);
    }
    memset(longest_name, 'x', sizeof longest_name);
}

static const uint8_t *slice(struct dice *dice)
{
    return bytes + dice_below(dice, PLAN_PAYLOAD_MAX);
}

/* Mostly small. */
static size_t size_of(struct dice *dice)
{
    unsigned n = dice_below(dice, 2000);
    if (n == 0) {
        return PLAN_PAYLOAD_MAX;
    }
    if (n < 60) {
        return dice_below(dice, 65537);
    }
    if (n < 300) {
        return 0;
    }
    return dice_below(dice, n < 1400 ? 64 : 1024);
}

/* ---- Queues ---- */

static const struct {
    const char *name;
    size_t len;
} queues[PLAN_QUEUES] = {{"default", 7}, {"mail", 4},
                         {"\0", 1},      {"mail\0\xff", 6},
                         {"../\n%s", 6}, {longest_name, sizeof longest_name}};

const char *plan_queue(unsigned queue, size_t *len)
{
    *len = queues[queue].len;
    return queues[queue].name;
}

unsigned plan_queue_find(const char *name, size_t len)
{
    unsigned i = 0;
    while (i < PLAN_QUEUES &&
           (queues[i].len != len || memcmp(queues[i].name, name, len) != 0)) {
        i++;
    }
    return i;
}

/* ---- Jobs ---- */

static void tag_write(void *to, uint32_t number)
{
    char tag[TAG_BYTES + 1];
    snprintf(tag, sizeof tag, "%08x", number);
    memcpy(to, tag, TAG_BYTES);
}

static void plan_name(struct dice *dice, uint32_t number, struct plan *plan)
{
    size_t len = TAG_BYTES;
    if (dice_one_in(dice, 3)) {
        size_t more = dice_below(dice, dice_one_in(dice, 8) ? 248 : 12);
        memcpy(plan->name + len, slice(dice), more);
        len += more;
    }
    tag_write(plan->name, number);
    plan->name[len] = '\0';
    plan->spec.name = plan->name;
    plan->spec.name_len = len;
}

/* Delays, retries and time limits, all short. */
static void plan_times(struct dice *dice, dassie_spec_t *spec)
{
    if (dice_one_in(dice, 8)) {
        spec->delay_ms = 1 + dice_below(dice, 40);
    }
    if (dice_one_in(dice, 12)) {
        spec->expire_ms = 1 + dice_below(dice, 40);
    }
    if (dice_one_in(dice, 8)) {
        spec->timeout_ms = 1 + dice_below(dice, 20);
    }
    bool once = (spec->flags & DASSIE_AT_MOST_ONCE) != 0;
    spec->attempts_max = once || dice_one_in(dice, 2) ? 1 : 0;
    if (spec->attempts_max == 0) {
        spec->attempts_max = 2 + dice_below(dice, 3);
        spec->backoff_ms = 1 + dice_below(dice, 10);
        spec->backoff_max_ms = 1 + dice_below(dice, 30);
    }
}

void plan_job(uint64_t seed, uint32_t number, struct plan *plan)
{
    static const dassie_spec_t init = DASSIE_SPEC_INIT;
    struct dice dice = dice_of(seed, number, UINT64_C(1) << 32);
    plan->spec = init;
    plan->queue = dice_below(&dice, PLAN_QUEUES);
    if (dice_one_in(&dice, 4)) {
        plan->queue = 0;
    }
    plan->spec.queue = plan_queue(plan->queue, &plan->spec.queue_len);
    plan->spec.priority = dice_one_in(&dice, 3)
                              ? (int)dice_below(&dice, 40) + DASSIE_PRIORITY_MIN
                              : 0;
    plan->spec.flags = dice_one_in(&dice, 8) ? DASSIE_AT_MOST_ONCE : 0;
    plan_times(&dice, &plan->spec);
    plan->spec.data = slice(&dice);
    plan->spec.data_len = size_of(&dice);
    if (plan->spec.data_len >= TAG_BYTES &&
        plan->spec.data_len <= PLAN_TAGGED_MAX && dice_one_in(&dice, 2)) {
        memcpy(plan->tagged, plan->spec.data, plan->spec.data_len);
        tag_write(plan->tagged, number);
        plan->spec.data = plan->tagged;
    } else {
        plan_name(&dice, number, plan);
    }
}

uint32_t plan_number(const char *name, size_t name_len, const void *data,
                     size_t data_len)
{
    char tag[TAG_BYTES + 1] = "";
    char *end;
    if (name_len == 0) {
        name = data;
        name_len = data_len;
    }
    if (name_len < TAG_BYTES) {
        return UINT32_MAX;
    }
    memcpy(tag, name, TAG_BYTES);
    unsigned long number = strtoul(tag, &end, 16);
    return end == tag + TAG_BYTES ? (uint32_t)number : UINT32_MAX;
}

/* ---- Runs ---- */

static enum pace plan_pace(struct dice *dice)
{
    unsigned n = dice_below(dice, 200);
    if (n == 0) {
        return PACE_STICKY;
    }
    return n < 20 ? PACE_SLOW : PACE_QUICK;
}

/* A job that is to run at most once is not snoozed: it would run again. */
static void plan_advice(struct dice *dice, const struct plan *plan,
                        uint32_t attempt, struct outcome *outcome)
{
    outcome->advice = ADVICE_NONE;
    outcome->again_ms = dice_below(dice, 12);
    bool once = (plan->spec.flags & DASSIE_AT_MOST_ONCE) != 0;
    if (!dice_one_in(dice, 6) || once || attempt > 5) {
        return;
    }
    if (outcome->status == 0) {
        outcome->advice = ADVICE_SNOOZE;
    } else {
        outcome->advice =
            dice_one_in(dice, 2) ? ADVICE_RETRY_IN : ADVICE_NO_RETRY;
    }
}

bool plan_is_last(const struct plan *plan, const struct outcome *outcome,
                  uint32_t attempt, uint32_t excused)
{
    if (outcome->status == 0) {
        return outcome->advice != ADVICE_SNOOZE;
    }
    return outcome->advice == ADVICE_NO_RETRY ||
           attempt - excused >= plan->spec.attempts_max;
}

bool plan_in_order(const struct plan *plan)
{
    return plan->spec.delay_ms == 0 && plan->spec.expire_ms == 0;
}

void plan_run(uint64_t seed, uint32_t number, uint32_t attempt,
              struct outcome *outcome)
{
    static const int codes[] = {UV_EIO, UV_ETIMEDOUT,    1,       -7,
                                256,    DASSIE_ECORRUPT, INT_MIN, INT_MAX};
    struct dice dice = dice_of(seed, number, attempt);
    struct plan plan;
    bool well = !dice_one_in(&dice, 4);
    plan_job(seed, number, &plan);
    outcome->status =
        well ? 0 : codes[dice_below(&dice, sizeof codes / sizeof codes[0])];
    outcome->detour = (enum detour)dice_below(&dice, 3);
    outcome->pace = plan_pace(&dice);
    /* What has timed out has other words for the same code. */
    outcome->bare = dice_one_in(&dice, 2) && plan.spec.timeout_ms == 0;
    plan_advice(&dice, &plan, attempt, outcome);
    if (outcome->bare) {
        outcome->data = well ? NULL : dassie_strerror(outcome->status);
        outcome->len = well ? 0 : strlen(outcome->data);
        return;
    }
    outcome->data = slice(&dice);
    if (well) {
        outcome->len = size_of(&dice);
    } else {
        outcome->len =
            1 + dice_below(&dice, dice_one_in(&dice, 8) ? DASSIE_ERROR_BYTES_MAX
                                                        : 100);
    }
}
