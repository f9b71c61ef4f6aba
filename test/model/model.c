#include "config.h"

#include "model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ledger *ledger;

void model_fail(const char *format, ...)
{
    va_list args;
    if (!atomic_exchange(&ledger->failed, true)) {
        va_start(args, format);
        vsnprintf(ledger->failure, sizeof ledger->failure, format, args);
        va_end(args);
    }
    _exit(EXIT_FAILURE);
}

uint64_t model_clock(void)
{
    return atomic_fetch_add(&ledger->clock, 1) + 1;
}

static void fail_job(uint32_t number, const char *what)
    __attribute__((noreturn));
static void fail_job(uint32_t number, const char *what)
{
    const struct fact *fact = &ledger->facts[number];
    model_fail("job %" PRIu32 " (id %" PRIu64
               "): %s; stage %d, end %d, attempts %" PRIu32 ", begun %" PRIu32
               ", ended %" PRIu32 ", crashes %" PRIu32,
               number, fact->id, what, fact->stage, fact->end, fact->attempts,
               fact->begun, fact->ended, fact->crashes);
}
#define JOB_CHECK(expression, number, what) \
    ((expression) ? (void)0 : fail_job(number, what))

/* ---- Handing in ---- */

uint32_t model_issue(uint32_t n)
{
    uint32_t first = ledger->jobs_n;
    MODEL_CHECK(n <= MODEL_JOBS_MAX - first, "the model has too few rows");
    for (uint32_t i = first; i < first + n; i++) {
        struct plan plan;
        plan_job(ledger->seed, i, &plan);
        ledger->facts[i].queue = (uint8_t)plan.queue;
        ledger->facts[i].session = ledger->session;
        ledger->facts[i].batch = first;
        ledger->facts[i].stage = STAGE_ISSUED;
    }
    ledger->jobs_n = first + n;
    return first;
}

void model_refused(uint32_t number, uint32_t n)
{
    for (uint32_t i = number; i < number + n; i++) {
        ledger->facts[i].stage = STAGE_REFUSED;
        JOB_CHECK(ledger->facts[i].begun == 0, i, "refused, but it has run");
    }
}

/* Two threads may learn it at the same time. */
static void learn_id(uint32_t number, uint64_t id)
{
    struct fact *fact = &ledger->facts[number];
    uint64_t unknown = 0;
    uint32_t nobody = 0;
    JOB_CHECK(id > 0 && id < MODEL_IDS_MAX, number, "a strange id");
    if (!atomic_compare_exchange_strong(&fact->id, &unknown, id)) {
        JOB_CHECK(unknown == id, number, "its id has changed");
        return;
    }
    JOB_CHECK(fact->session != ledger->session || id > ledger->id_high, number,
              "its id is not a new one");
    if (!atomic_compare_exchange_strong(&ledger->by_id[id], &nobody,
                                        number + 1)) {
        JOB_CHECK(nobody == number + 1, number, "its id is another job's");
    }
}

void model_told(uint32_t number, uint64_t id)
{
    learn_id(number, id);
}

void model_acked(uint32_t number, uint64_t id)
{
    struct fact *fact = &ledger->facts[number];
    JOB_CHECK(fact->stage == STAGE_ISSUED, number, "acknowledged twice");
    learn_id(number, id);
    fact->acked_at = model_clock();
    fact->stage = STAGE_ACKED;
}

static bool acked_before(uint32_t number, uint64_t asked_at)
{
    const struct fact *fact = &ledger->facts[number];
    return fact->stage == STAGE_ACKED && fact->acked_at <= asked_at;
}

static bool ended_before(uint32_t number, uint64_t asked_at)
{
    const struct fact *fact = &ledger->facts[number];
    return fact->end != 0 && fact->end_at <= asked_at;
}

/* ---- What it consists of ---- */

static bool same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/* Whether the job is there at all, and its number. */
static uint32_t known(uint32_t number)
{
    MODEL_CHECK(number < ledger->jobs_n, "a job that nobody handed in");
    JOB_CHECK(ledger->facts[number].stage != STAGE_REFUSED, number,
              "it was refused or gone, and is there");
    return number;
}

static uint32_t info_number(const dassie_info_t *info)
{
    uint32_t number =
        info->id < MODEL_IDS_MAX ? ledger->by_id[info->id] : UINT32_MAX;
    return known(number != 0 ? number - 1
                             : plan_number(info->name, info->name_len,
                                           info->data, info->data_len));
}

/* Some queues drop that of a complete job, from some moment on. */
static bool has_payload(const dassie_info_t *info, const struct plan *plan)
{
    bool bare = info->state == DASSIE_COMPLETE && info->data_len == 0 &&
                plan->spec.data_len > 0 && ledger->drops[plan->queue];
    ledger->bare += bare;
    return bare || same(info->data, info->data_len, plan->spec.data,
                        plan->spec.data_len);
}

static void judge_contents(uint32_t number, const dassie_info_t *info,
                           bool with_data)
{
    struct fact *fact = &ledger->facts[number];
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    learn_id(number, info->id);
    JOB_CHECK(same(info->queue, info->queue_len, plan.spec.queue,
                   plan.spec.queue_len),
              number, "another queue");
    JOB_CHECK(
        same(info->name, info->name_len, plan.spec.name, plan.spec.name_len),
        number, "another name");
    JOB_CHECK(!with_data || has_payload(info, &plan), number,
              "another payload");
    JOB_CHECK(info->priority == plan.spec.priority, number, "another priority");
    JOB_CHECK(info->flags == plan.spec.flags, number, "other flags");
    keys_contents(number, info);
    JOB_CHECK(info->enqueued_ms > 0, number, "enqueued never");
    JOB_CHECK(fact->enqueued_ms == 0 || fact->enqueued_ms == info->enqueued_ms,
              number, "enqueued at another time");
    fact->enqueued_ms = info->enqueued_ms;
}

static uv_mutex_t settling;
static uv_once_t settling_once = UV_ONCE_INIT;

static void settling_make(void)
{
    MODEL_CHECK(uv_mutex_init(&settling) == 0, "no mutex");
}

/* A run that has ended and is followed by another one is counted. */
static void settle(uint32_t number)
{
    struct fact *fact = &ledger->facts[number];
    if (fact->free) {
        return;
    }
    struct plan plan;
    uv_once(&settling_once, settling_make);
    uv_mutex_lock(&settling);
    plan_job(ledger->seed, number, &plan);
    if (fact->end == 0 && fact->ended > fact->attempts) {
        struct outcome outcome;
        uint32_t run = fact->ended;
        plan_run(ledger->seed, number, run, &outcome);
        if (!plan_is_last(&plan, &outcome, run, fact->excused)) {
            fact->counted_at = model_clock();
            fact->attempts = run;
            fact->excused += outcome.advice == ADVICE_SNOOZE;
        }
    }
    uv_mutex_unlock(&settling);
}

static unsigned job_flags(uint32_t number)
{
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    return plan.spec.flags;
}

/* ---- Operators ---- */

void model_free(uint32_t number, bool deletes)
{
    struct fact *fact = &ledger->facts[number];
    fact->may_go |= deletes;
    fact->free = true;
}

/* Whatever is seen of it holds. */
static void take_free(uint32_t number, const dassie_info_t *info)
{
    struct fact *fact = &ledger->facts[number];
    bool ended =
        info->state >= DASSIE_COMPLETE && info->state <= DASSIE_CANCELLED;
    JOB_CHECK(info->attempts >= fact->begun || !ended, number,
              "a run was not counted");
    fact->attempts = info->attempts;
    fact->excused = info->excused;
    fact->crashes = info->crashes;
    fact->end = ended ? (uint8_t)info->state : 0;
    fact->end_code = info->error_code;
    fact->ended_ms = info->ended_ms;
    fact->end_at = model_clock();
}

/* ---- Runs ---- */

uint32_t model_begun(dassie_job_t *job)
{
    dassie_info_t info = {.id = CALL(dassie_job_id)(job)};
    info.queue = CALL(dassie_job_queue)(job, &info.queue_len);
    info.name = CALL(dassie_job_name)(job, &info.name_len);
    info.data = CALL(dassie_job_data)(job, &info.data_len);
    uint32_t attempt = CALL(dassie_job_attempt)(job);
    uint32_t number =
        known(plan_number(info.name, info.name_len, info.data, info.data_len));
    struct fact *fact = &ledger->facts[number];
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    learn_id(number, info.id);
    JOB_CHECK(
        same(info.queue, info.queue_len, plan.spec.queue,
             plan.spec.queue_len) &&
            same(info.name, info.name_len, plan.spec.name,
                 plan.spec.name_len) &&
            same(info.data, info.data_len, plan.spec.data, plan.spec.data_len),
        number, "its processor sees another job");
    if (fact->free) {
        JOB_CHECK(attempt > fact->begun, number, "runs twice at once");
        fact->begun_at = model_clock();
        fact->begun = attempt;
        return number;
    }
    JOB_CHECK(fact->end == 0, number, "runs after its end was told");
    settle(number);
    JOB_CHECK(attempt > fact->begun, number, "runs twice at once");
    JOB_CHECK(attempt == fact->attempts + 1, number, "a wrong attempt");
    JOB_CHECK(attempt == 1 || plan.spec.flags != DASSIE_AT_MOST_ONCE, number,
              "at most once, and runs again");
    fact->begun_at = model_clock(); /* first: others look at both */
    fact->begun = attempt;
    return number;
}

void model_ending(uint32_t number, uint32_t attempt)
{
    ledger->facts[number].ended = attempt;
}

/* ---- Ends ---- */

/* The last run was about to end when the kill came: to the store it may have
 * been executing, and is counted once in either case. */
static bool last_is_doubtful(const struct fact *fact, const dassie_info_t *info)
{
    return fact->ended == fact->attempts && info->attempts == fact->attempts;
}

/* An end that a kill made, seen for the first time. */
static void judge_killed(uint32_t number, const dassie_info_t *info)
{
    const struct fact *fact = &ledger->facts[number];
    const char *text = CALL(dassie_strerror)(info->error_code);
    JOB_CHECK(ledger->killed, number, "interrupted without a kill");
    JOB_CHECK(
        info->attempts == fact->attempts + 1 || last_is_doubtful(fact, info),
        number, "a run was counted wrongly");
    JOB_CHECK(same(info->error, info->error_len, text, strlen(text)), number,
              "another error text");
    if (info->error_code == DASSIE_EINTERRUPTED) {
        JOB_CHECK(job_flags(number) == DASSIE_AT_MOST_ONCE, number,
                  "interrupted, but not to be run at most once");
        ledger->interrupted++;
    } else {
        JOB_CHECK(job_flags(number) == 0 && ledger->max_crashes > 0 &&
                      info->crashes == (uint32_t)ledger->max_crashes,
                  number, "has not crashed so often");
        ledger->crashed++;
    }
}

/* An end that a run made. */
static void judge_outcome(uint32_t number, const dassie_info_t *info)
{
    const struct fact *fact = &ledger->facts[number];
    struct outcome outcome;
    bool well = info->state == DASSIE_COMPLETE;
    plan_run(ledger->seed, number, info->attempts, &outcome);
    JOB_CHECK(info->attempts > 0 && fact->ended == info->attempts, number,
              "ended without a run that did");
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    JOB_CHECK(plan_is_last(&plan, &outcome, info->attempts, fact->excused),
              number, "ended, but was to run again");
    JOB_CHECK(well == (outcome.status == 0), number, "ended in another state");
    JOB_CHECK(well || info->error_code == outcome.status, number,
              "another error code");
    JOB_CHECK(
        well ? same(info->result, info->result_len, outcome.data, outcome.len)
             : same(info->error, info->error_len, outcome.data, outcome.len),
        number, well ? "another result" : "another error text");
}

static bool is_expired(const dassie_info_t *info)
{
    return info->state == DASSIE_CANCELLED &&
           info->error_code == DASSIE_EEXPIRED;
}

/* It was too late for a job that had not begun. */
static void judge_expired(uint32_t number, const dassie_info_t *info)
{
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    JOB_CHECK(plan.spec.expire_ms > 0 &&
                  info->expires_ms == info->enqueued_ms + plan.spec.delay_ms +
                                          plan.spec.expire_ms &&
                  info->ended_ms >= info->expires_ms,
              number, "expired too early");
    JOB_CHECK(ledger->facts[number].begun == 0 && info->attempts == 0, number,
              "expired, but had begun");
}

static void judge_end(uint32_t number, const dassie_info_t *info, bool opening)
{
    struct fact *fact = &ledger->facts[number];
    settle(number);
    bool killed = info->state == DASSIE_FAILED &&
                  (info->error_code == DASSIE_ECRASHED ||
                   info->error_code == DASSIE_EINTERRUPTED);
    JOB_CHECK(info->ended_ms > 0, number, "ended never");
    if (is_expired(info)) {
        judge_expired(number, info);
    } else if (!killed) {
        judge_outcome(number, info);
    }
    if (fact->end != 0) {
        JOB_CHECK(fact->end == info->state &&
                      fact->attempts == info->attempts &&
                      fact->crashes == info->crashes &&
                      fact->end_code == info->error_code &&
                      fact->ended_ms == info->ended_ms,
                  number, "its end has changed");
        return;
    }
    if (killed) {
        JOB_CHECK(opening, number, "interrupted while it is open");
        judge_killed(number, info);
    } else {
        JOB_CHECK(fact->crashes == info->crashes, number, "other crashes");
    }
    fact->attempts = info->attempts;
    fact->crashes = info->crashes;
    fact->end_code = info->error_code;
    fact->ended_ms = info->ended_ms;
    fact->end_at = model_clock();
    fact->end = (uint8_t)info->state;
}

void model_ended(const dassie_info_t *info)
{
    uint32_t number = info_number(info);
    JOB_CHECK(info->state >= DASSIE_COMPLETE, number, "told to have ended");
    judge_contents(number, info, false);
    if (ledger->facts[number].free) {
        return;
    }
    judge_end(number, info, false);
}

void model_not_ended(uint32_t number)
{
    if (ledger->facts[number].free) {
        return;
    }
    JOB_CHECK(ledger->facts[number].end == 0, number, "told not to have ended");
    ledger->facts[number].never_ended = true;
}

/* ---- Looks while it is open ---- */

static void judge_progress(uint32_t number, const dassie_info_t *info)
{
    JOB_CHECK(info->progress_done <= ledger->facts[number].saves &&
                  (info->progress != NULL || info->progress_done == 0),
              number, "a progress that it never told");
    JOB_CHECK(info->state != DASSIE_COMPLETE || info->progress == NULL, number,
              "complete, and yet with a progress");
}

void model_looked(const dassie_info_t *info, uint64_t asked_at)
{
    uint32_t number = info_number(info);
    const struct fact *fact = &ledger->facts[number];
    judge_contents(number, info, true);
    judge_progress(number, info);
    if (fact->free) {
        return;
    }
    if (info->state != DASSIE_PENDING && info->state != DASSIE_RUNNING &&
        info->state != DASSIE_SCHEDULED) {
        judge_end(number, info, false);
        return;
    }
    settle(number);
    /* It may have ended since, and that may be known by now. */
    uint32_t counted = fact->attempts - (fact->end != 0 && fact->attempts > 0);
    bool running = info->state == DASSIE_RUNNING;
    JOB_CHECK(!ended_before(number, asked_at), number,
              "its end was known, and is not any more");
    JOB_CHECK(info->ended_ms == 0 &&
                  (running || info->attempts > 0 || info->error_code == 0),
              number, "not ended, and yet");
    JOB_CHECK((info->state == DASSIE_SCHEDULED) == (info->due_ms > 0), number,
              "due, but not scheduled");
    if (fact->counted_at > asked_at) {
        JOB_CHECK(info->attempts <= counted + 1, number, "too many attempts");
        return;
    }
    JOB_CHECK(running || fact->begun <= counted || fact->begun_at > asked_at,
              number, "pending while it runs");
    /* A run that has noted its end may be on its way to return yet. */
    bool returning =
        running && fact->begun == counted && info->attempts == counted;
    JOB_CHECK(returning || info->attempts == counted + running, number,
              "other attempts");
}

/* ---- Right after an open ---- */

/* Where the list of pending jobs has got to. */
static struct {
    unsigned queue;
    bool over[PLAN_QUEUES];
    int priority;
    bool unserved; /* one that nobody may have claimed was there */
    uint64_t id;   /* the highest so far */
    uint32_t rank;
} pending_at;

void model_open_begin(void)
{
    memset(&pending_at, 0, sizeof pending_at);
    pending_at.queue = PLAN_QUEUES;
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        struct fact *fact = &ledger->facts[i];
        fact->served |= ledger->served[fact->queue];
        fact->seen = false;
        fact->waited = false;
        fact->started = false;
        fact->rank = 0;
    }
    memset(ledger->served, 0, sizeof ledger->served);
}

/* Queue by queue, priority by priority; what was never claimed last, by id. */
static void judge_place(uint32_t number, const dassie_info_t *info)
{
    struct fact *fact = &ledger->facts[number];
    unsigned queue = plan_queue_find(info->queue, info->queue_len);
    if (queue != pending_at.queue) {
        JOB_CHECK(!pending_at.over[queue], number, "listed not by queue");
        pending_at.queue = queue;
        pending_at.over[queue] = true;
        pending_at.priority = DASSIE_PRIORITY_MIN - 1;
    }
    JOB_CHECK(info->priority >= pending_at.priority, number,
              "listed not by priority");
    if (info->priority > pending_at.priority) {
        pending_at.priority = info->priority;
        pending_at.unserved = false;
        pending_at.id = 0;
    }
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    if (info->attempts > 0 || !plan_in_order(&plan)) {
        return; /* promoted, or an interrupted one */
    }
    JOB_CHECK(!fact->served || !pending_at.unserved, number,
              "returned, and listed after a new one");
    JOB_CHECK(fact->served || info->id > pending_at.id, number,
              "listed not by id");
    pending_at.unserved = !fact->served;
    pending_at.id = info->id > pending_at.id ? info->id : pending_at.id;
    fact->rank = ++pending_at.rank;
}

/* Pending or scheduled. */
static void judge_waiting(uint32_t number, const dassie_info_t *info)
{
    struct fact *fact = &ledger->facts[number];
    settle(number);
    bool began = fact->begun > fact->attempts;
    uint32_t more = info->attempts - fact->attempts;
    JOB_CHECK(fact->end == 0, number, "its end was known, and is pending");
    if (ledger->killed) {
        /* It may have begun without its processor's having seen it. */
        JOB_CHECK(began ? more == 1 : more <= 1, number,
                  "a run was counted wrongly after a kill");
        JOB_CHECK(info->crashes - fact->crashes <=
                      more + last_is_doubtful(fact, info),
                  number, "a crash was counted wrongly");
        JOB_CHECK(more == 0 || job_flags(number) != DASSIE_AT_MOST_ONCE, number,
                  "at most once, and pending again");
        ledger->runs_again += more;
    } else {
        JOB_CHECK(!began && more == 0, number,
                  "a run was lost or counted wrongly");
        JOB_CHECK(info->crashes == fact->crashes, number, "other crashes");
        JOB_CHECK(info->excused == fact->excused, number,
                  "a snooze was counted wrongly");
    }
    /* The last snooze may be lost in a kill: then that run has counted. */
    JOB_CHECK(
        info->excused <= fact->excused && fact->excused - info->excused <= 1,
        number, "another number of snoozes");
    fact->attempts = info->attempts;
    fact->excused = info->excused;
    fact->crashes = info->crashes;
}

void model_open_job(const dassie_info_t *info)
{
    uint32_t number = info_number(info);
    struct fact *fact = &ledger->facts[number];
    bool promoted = fact->waited && info->state == DASSIE_PENDING;
    bool expired = fact->waited && is_expired(info);
    JOB_CHECK(!fact->seen || promoted || expired, number, "is there twice");
    fact->seen = true;
    fact->waited = info->state == DASSIE_SCHEDULED ||
                   (info->state == DASSIE_PENDING && info->expires_ms != 0);
    judge_contents(number, info, true);
    JOB_CHECK(info->state != DASSIE_RUNNING, number, "runs after an open");
    if (fact->free) {
        take_free(number, info);
        fact->never_ended = false;
        return;
    }
    JOB_CHECK(info->state != DASSIE_CANCELLED || is_expired(info), number,
              "cancelled by nobody");
    if (info->state == DASSIE_PENDING || info->state == DASSIE_SCHEDULED) {
        judge_waiting(number, info);
        if (info->state == DASSIE_PENDING) {
            judge_place(number, info);
        }
        fact->never_ended = false;
        return;
    }
    JOB_CHECK(!fact->never_ended || is_expired(info), number,
              "ended, though told that it had not");
    judge_end(number, info, true);
}

void model_open_end(void)
{
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        struct fact *fact = &ledger->facts[i];
        if (fact->stage == STAGE_REFUSED) {
            continue;
        }
        JOB_CHECK(fact->seen == ledger->facts[fact->batch].seen ||
                      fact->may_go || ledger->facts[fact->batch].may_go,
                  i, "of its batch, not all are there");
        if (fact->seen) {
            fact->stage = STAGE_ACKED;
            ledger->id_high =
                fact->id > ledger->id_high ? fact->id : ledger->id_high;
            continue;
        }
        if (!fact->may_go) {
            JOB_CHECK(fact->stage == STAGE_ISSUED && ledger->killed, i,
                      "is lost");
            JOB_CHECK(fact->id == 0, i, "was seen, and is lost");
        }
        fact->stage = STAGE_REFUSED;
    }
    keys_opened();
}

/* ---- How many ---- */

static bool counted(const struct fact *fact, unsigned queue)
{
    return (fact->stage == STAGE_ISSUED || fact->stage == STAGE_ACKED) &&
           (queue == PLAN_QUEUES || queue == fact->queue);
}

void model_counts(unsigned queue, dassie_count_t *count)
{
    memset(count, 0, sizeof *count);
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        const struct fact *fact = &ledger->facts[i];
        if (counted(fact, queue)) {
            count->pending += fact->end == 0;
            count->complete += fact->end == DASSIE_COMPLETE;
            count->failed += fact->end == DASSIE_FAILED;
            count->cancelled += fact->end == DASSIE_CANCELLED;
        }
    }
}

void model_bounds(unsigned queue, uint64_t asked_at,
                  struct model_bounds *bounds)
{
    memset(bounds, 0, sizeof *bounds);
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        if (counted(&ledger->facts[i], queue)) {
            bool held = !ledger->facts[i].free;
            bounds->most++;
            bounds->least += held && acked_before(i, asked_at);
            bounds->ended += held && ended_before(i, asked_at);
        }
    }
}

bool model_drained(uint64_t asked_at)
{
    bool drained = true;
    uv_once(&settling_once, settling_make);
    uv_mutex_lock(&settling);
    for (uint32_t i = 0; drained && i < ledger->jobs_n; i++) {
        const struct fact *fact = &ledger->facts[i];
        /* After a run that is followed by another it may be scheduled. */
        bool may_wait = fact->ended == fact->attempts && fact->attempts > 0;
        struct plan plan;
        plan_job(ledger->seed, i, &plan);
        if (!fact->free && acked_before(i, asked_at) && fact->end == 0 &&
            fact->ended <= fact->attempts && !may_wait &&
            plan_in_order(&plan)) {
            drained = false;
        }
    }
    uv_mutex_unlock(&settling);
    return drained;
}
