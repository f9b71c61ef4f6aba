#include "plan.h"

#include "ledger.h"

#include <stdio.h>
#include <string.h>

#define NAMED(text)                                  \
    {                                                \
        .base = (char *)text, .len = sizeof text - 1 \
    }

const uv_buf_t queues[QUEUES] = {[QUEUE_MAIL] = NAMED("mail"),
                                 [QUEUE_ZERO] = NAMED("with\0zero"),
                                 [QUEUE_WEB] = NAMED("web"),
                                 [QUEUE_BRIEF] = NAMED("brief"),
                                 [QUEUE_LATER] = NAMED("later")};

static const struct kind {
    int queue;
    int priority;
    unsigned flags;
    size_t data_len;
    enum how how;
    enum course course;
    uint64_t delay_ms;
    uint32_t attempts_max; /* 0: 1 */
    int change;
    bool change_late;
    enum key { NO_KEY, KEY_OF_ALL, KEY_OF_ROUND } key;
    uint64_t expire_ms;
} kinds[ROUND_JOBS] = {
    /* The batch: once the gates are reached, the rest is only claimed. */
    {QUEUE_MAIL, .data_len = 100},
    {QUEUE_MAIL, .data_len = 0},
    {QUEUE_MAIL, .data_len = 10, .how = GATED, .course = SAVES,
     .attempts_max = 20},
    {QUEUE_MAIL, .data_len = 10, .how = GATED, .change = DASSIE_CANCEL},
    {QUEUE_MAIL, .data_len = 10},
    {QUEUE_MAIL, .data_len = 11},
    {QUEUE_MAIL, .data_len = 12},
    {QUEUE_MAIL, .data_len = 13},
    {QUEUE_MAIL, .data_len = 14},
    {QUEUE_MAIL, .data_len = 15},
    {QUEUE_MAIL, .data_len = 16},
    {QUEUE_MAIL, .data_len = 17},
    {QUEUE_MAIL, .data_len = 18},
    {QUEUE_MAIL, .data_len = 19},
    {QUEUE_MAIL, .data_len = 3000},
    {QUEUE_MAIL, .data_len = 20},
    /* The single ones. */
    {QUEUE_WEB, .data_len = 50},
    {QUEUE_WEB, .flags = DASSIE_AT_MOST_ONCE, .data_len = 50},
    {QUEUE_ZERO, .priority = -20, .data_len = 30, .how = SLOW},
    {QUEUE_ZERO, .flags = DASSIE_AT_MOST_ONCE, .data_len = 30, .how = SLOW},
    {QUEUE_LATER, .priority = 3, .data_len = 200},
    {QUEUE_WEB, .priority = 5, .data_len = DATA_MAX},
    {QUEUE_MAIL, .priority = 19, .data_len = 40},
    {QUEUE_ZERO, .priority = 7, .flags = DASSIE_AT_MOST_ONCE, .data_len = 40},
    {QUEUE_WEB, .priority = -3, .data_len = 0},
    {QUEUE_LATER, .priority = -1, .flags = DASSIE_AT_MOST_ONCE, .data_len = 60},
    /* Those that wait, or run more than once. */
    {QUEUE_WEB, .data_len = 20, .delay_ms = 1},
    {QUEUE_WEB, .data_len = 21, .course = RETRIED, .attempts_max = 20},
    {QUEUE_WEB, .data_len = 22, .course = SPENT, .attempts_max = 2},
    {QUEUE_WEB, .data_len = 23, .course = GIVEN, .attempts_max = 20},
    {QUEUE_WEB, .data_len = 24, .course = SNOOZED},
    {QUEUE_WEB, .data_len = 25, .course = SAVES, .attempts_max = 20},
    /* Those that operators change. */
    {QUEUE_WEB, .data_len = 26, .course = AGAIN, .change = DASSIE_RETRY,
     .change_late = true},
    {QUEUE_WEB, .data_len = 27, .delay_ms = FAR_MS, .change = DASSIE_RUN_NOW},
    {QUEUE_LATER, .data_len = 28, .change = DASSIE_CANCEL},
    {QUEUE_LATER, .data_len = 29, .delay_ms = FAR_MS, .change = DASSIE_CANCEL},
    {QUEUE_LATER, .data_len = 30, .change = DASSIE_DELETE},
    {QUEUE_LATER, .data_len = 31, .delay_ms = FAR_MS, .change = DASSIE_DELETE},
    /* Those of a queue that keeps few. */
    {QUEUE_BRIEF, .data_len = 32},
    {QUEUE_BRIEF, .data_len = 33},
    {QUEUE_BRIEF, .data_len = 34},
    /* Deleted when it has ended. */
    {QUEUE_WEB, .data_len = 35, .change = DASSIE_DELETE, .change_late = true},
    /* Those with a key: one at a time of all rounds, and two of one round, of
     * which the second is refused as long as the first one waits. */
    {QUEUE_WEB, .data_len = 36, .key = KEY_OF_ALL},
    {QUEUE_LATER, .data_len = 37, .key = KEY_OF_ROUND},
    {QUEUE_LATER, .data_len = 38, .key = KEY_OF_ROUND},
    /* Nobody starts it in time. */
    {QUEUE_LATER, .data_len = 39, .expire_ms = 1},
};

static void data_fill(unsigned char *p, size_t n, uint32_t token)
{
    uint32_t x = token * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = (unsigned char)x;
    }
}

static size_t outcome_of(char outcome[32], uint32_t token, int status)
{
    return (size_t)snprintf(outcome, 32, "%s of job %u",
                            status == 0 ? "result" : "error", token);
}

/* Some of those that just end do so badly, but for those of QUEUE_BRIEF. */
static int status_of(uint32_t token, const struct kind *kind)
{
    bool well = kind->course == ENDS
                    ? token % 5 != 3 || kind->queue == QUEUE_BRIEF
                    : kind->course != SPENT && kind->course != GIVEN;
    return well ? 0 : UV_EPROTO;
}

bool plan_key(uint32_t token, char key[KEY_BYTES])
{
    const struct kind *kind = &kinds[token % ROUND_JOBS];
    unsigned round = kind->key == KEY_OF_ROUND ? token / ROUND_JOBS + 1 : 0;
    snprintf(key, KEY_BYTES, "key %u", round);
    return kind->key != NO_KEY;
}

void plan_of(uint32_t token, struct plan *plan)
{
    static const dassie_spec_t defaults = DASSIE_SPEC_INIT;
    const struct kind *kind = &kinds[token % ROUND_JOBS];
    plan->queue = kind->queue;
    plan->how = kind->how;
    plan->course = kind->course;
    plan->change = kind->change;
    plan->change_late = kind->change_late;
    plan->status = status_of(token, kind);
    plan->outcome_len = outcome_of(plan->outcome, token, plan->status);
    snprintf(plan->name, sizeof plan->name, "job %u", token);
    data_fill(plan->data, kind->data_len, token);
    plan->spec = defaults;
    plan->spec.queue = queues[kind->queue].base;
    plan->spec.queue_len = queues[kind->queue].len;
    plan->spec.name = plan->name;
    plan->spec.data = plan->data;
    plan->spec.data_len = kind->data_len;
    plan->spec.priority = kind->priority;
    plan->spec.flags = kind->flags;
    plan->spec.delay_ms = kind->delay_ms;
    plan->spec.attempts_max = kind->attempts_max > 0 ? kind->attempts_max : 1;
    plan->spec.backoff_ms = kind->course == GIVEN ? FAR_MS : 1;
    plan->spec.expire_ms = kind->expire_ms;
    plan->spec.unique = plan_key(token, plan->key) ? plan->key : NULL;
}

void plan_change(uint32_t token, const struct plan *plan,
                 dassie_filter_t *filter)
{
    struct entry *entry = &ledger->entry[token];
    filter->id = entry->id;
    if (plan->change == DASSIE_DELETE && !plan->change_late) {
        filter->states =
            DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED);
    }
    entry->change = (uint8_t)plan->change;
    if (plan->change == DASSIE_RETRY) {
        entry->ended = 0;
    }
}

/* ---- Runs ---- */

static bool is_to_run_again(uint32_t token)
{
    return ledger->entry[token].change == DASSIE_RETRY;
}

/* The calls that do not fail but for a NULL. */
static int status_of_run(uint32_t token, const struct plan *plan,
                         dassie_job_t *job)
{
    bool first = dassie_job_attempt(job) == 1;
    switch (plan->course) {
        case RETRIED:
        case SAVES:
            return first && plan->how != GATED ? UV_EPROTO : plan->status;
        case GIVEN:
            if (first) {
                dassie_job_retry_in(job, 1);
            } else {
                dassie_job_no_retry(job);
            }
            return UV_EPROTO;
        case SNOOZED:
            return first ? dassie_job_snooze(job, 1) : plan->status;
        case AGAIN:
            return is_to_run_again(token) ? plan->status : UV_EPROTO;
        default:
            return plan->status;
    }
}

void plan_run(uint32_t token, dassie_job_t *job, struct run *run)
{
    struct plan plan;
    plan_of(token, &plan);
    run->status = status_of_run(token, &plan, job);
    if (plan.change == DASSIE_CANCEL && ledger_gives_up(token, job)) {
        run->status = UV_ECANCELED;
    }
    run->outcome_len = outcome_of(run->outcome, token, run->status);
}

/* ---- What differs ---- */

static bool same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/* How it has to have ended. */
static int status_due(uint32_t token, const struct plan *plan,
                      const dassie_info_t *job)
{
    bool again = plan->course == AGAIN &&
                 (!is_to_run_again(token) || job->state == DASSIE_FAILED);
    return again ? UV_EPROTO : plan->status;
}

/* Somebody has asked for that, or it was too late for the job. */
static const char *cancel_differs(uint32_t token, const struct plan *plan,
                                  const dassie_info_t *job)
{
    if (job->error_code == DASSIE_EEXPIRED) {
        return plan->spec.expire_ms > 0
                   ? NULL
                   : "has expired, and may start at any time";
    }
    return ledger->entry[token].change == DASSIE_CANCEL
               ? NULL
               : "is cancelled, and nobody has asked for that";
}

const char *plan_end_differs(uint32_t token, const dassie_info_t *job)
{
    const struct entry *entry = &ledger->entry[token];
    struct plan plan;
    char outcome[32];
    plan_of(token, &plan);
    bool complete = job->state == DASSIE_COMPLETE;
    bool once = (job->flags & DASSIE_AT_MOST_ONCE) != 0;
    if (job->error_code == DASSIE_EINTERRUPTED && once && !complete) {
        return NULL;
    }
    if (job->state == DASSIE_CANCELLED) {
        return cancel_differs(token, &plan, job);
    }
    if (entry->gave_up != 0 && entry->gave_up == job->attempts) {
        return "has given up, and is not cancelled";
    }
    int status = status_due(token, &plan, job);
    if (complete != (status == 0) || job->error_code != status) {
        return "has ended otherwise than it should";
    }
    const void *out = complete ? job->result : job->error;
    size_t len = complete ? job->result_len : job->error_len;
    return same(out, len, outcome, outcome_of(outcome, token, status))
               ? NULL
               : "has another result or error text";
}

static bool is_renamed(const dassie_info_t *job)
{
    return ledger_renamed() &&
           strncmp(job->queue, RENAMED, sizeof RENAMED - 1) == 0;
}

/* Of a job that waits for its time: it has one, or has run. What was snoozed
 * has lost no attempt. */
static const char *wait_differs(const struct plan *plan,
                                const dassie_info_t *job)
{
    bool delayed = plan->spec.delay_ms > 0 && job->attempts == 0;
    bool runs_again = plan->course == RETRIED || plan->course == SPENT ||
                      plan->course == GIVEN || plan->course == SNOOZED ||
                      plan->course == SAVES;
    if (!delayed && (!runs_again || job->attempts == 0)) {
        return "waits for a time, and has none";
    }
    if (plan->course == SNOOZED && job->excused != 1) {
        return "has lost an attempt by a snooze";
    }
    return plan->course != SNOOZED && job->excused > 0
               ? "has failed, and lost no attempt"
               : NULL;
}

const char *plan_differs(uint32_t token, const dassie_info_t *job)
{
    struct plan plan;
    plan_of(token, &plan);
    if (!is_renamed(job) && !same(job->queue, job->queue_len, plan.spec.queue,
                                  plan.spec.queue_len)) {
        return "is in another queue";
    }
    if (!same(job->data, job->data_len, plan.data, plan.spec.data_len)) {
        return "has another payload";
    }
    if (job->priority != plan.spec.priority || job->flags != plan.spec.flags) {
        return "has another priority or other flags";
    }
    if (job->state == DASSIE_SCHEDULED) {
        return wait_differs(&plan, job);
    }
    return job->state != DASSIE_PENDING && job->state != DASSIE_RUNNING
               ? plan_end_differs(token, job)
               : NULL;
}

const char *plan_change_lost(uint32_t token, const dassie_info_t *job)
{
    const struct entry *entry = &ledger->entry[token];
    if (!entry->changed) {
        return NULL;
    }
    switch ((int)entry->change) {
        case DASSIE_CANCEL:
            return job->state == DASSIE_CANCELLED
                       ? NULL
                       : "is not cancelled, it was told to be";
        case DASSIE_DELETE:
            return "is there, it was deleted";
        case DASSIE_RETRY:
            return job->state == DASSIE_FAILED
                       ? "is failed, it was told to be tried again"
                       : NULL;
        default:
            return job->state == DASSIE_SCHEDULED
                       ? "waits for its time, it was told not to"
                       : NULL;
    }
}

/* What was kept long enough has run to its end. */
bool plan_may_be_gone(uint32_t token)
{
    const struct entry *entry = &ledger->entry[token];
    return entry->change == DASSIE_DELETE ||
           (kinds[token % ROUND_JOBS].queue == QUEUE_BRIEF &&
            entry->attempt > 0 && entry->executing == 0);
}
