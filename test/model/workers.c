/* workers.c: processors of both kinds, which end their jobs as planned. */
#include "config.h"

#include "order.h"
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_MAX 6
#define HELD_MAX 64
#define SLOW_MS 2

enum worker_state { WORKER_FREE, WORKER_SERVES, WORKER_STOPS };

struct worker {
    dassie_processor_t p;
    _Atomic int state; /* enum worker_state */
    bool async;
    int concurrency;
    unsigned queues[PLAN_QUEUES];
    unsigned queues_n;
    unsigned weights[PLAN_QUEUES]; /* 0: strict order */
    atomic_int under_way;
};

/* An async job that has started. */
struct held {
    struct worker *worker;
    uint32_t number;
    uint64_t id;
    uint32_t attempt;
    bool sticky; /* until it is cancelled or released */
};

static struct worker workers[WORKERS_MAX];
static struct held held[HELD_MAX];
static unsigned held_n;

/* ---- A run ---- */

/* Begins as planned; returns the job's number. */
static uint32_t run_begin(struct worker *worker, dassie_job_t *job,
                          struct outcome *outcome)
{
    uint32_t number = model_begun(job);
    struct order_turn turn = {
        .who = (int)(worker - workers),
        .queues = worker->queues,
        .weights = worker->weights[0] > 0 ? worker->weights : NULL,
        .n = worker->queues_n};
    order_begun(number, &turn);
    MODEL_CHECK(worker->state != WORKER_FREE,
                "a job for a processor that has ended");
    MODEL_CHECK(atomic_fetch_add(&worker->under_way, 1) < worker->concurrency,
                "more jobs at a time than asked for");
    plan_run(ledger->seed, number, CALL(dassie_job_attempt)(job), outcome);
    model_saves(number, job);
    int why = CALL(dassie_job_touch)(job);
    MODEL_CHECK(why == 0 || why == CALL(dassie_job_cancelled)(job),
                "touched, and it says %d", why);
    return number;
}

/* The last one counts. */
static void advise(dassie_job_t *job, const struct outcome *outcome)
{
    int rc = 0;
    if (outcome->detour == DETOUR_TWICE && outcome->advice != ADVICE_NONE) {
        rc = CALL(dassie_job_no_retry)(job);
    }
    if (rc == 0 && outcome->advice == ADVICE_RETRY_IN) {
        rc = CALL(dassie_job_retry_in)(job, outcome->again_ms);
    } else if (rc == 0 && outcome->advice == ADVICE_NO_RETRY) {
        rc = CALL(dassie_job_no_retry)(job);
    } else if (rc == 0 && outcome->advice == ADVICE_SNOOZE) {
        rc = CALL(dassie_job_snooze)(job, outcome->again_ms);
    }
    MODEL_CHECK(rc == 0, "no advice is taken: %d", rc);
}

/* Facts first: from here on it may have ended. */
static void run_end(struct worker *worker, uint32_t number, uint32_t attempt)
{
    atomic_fetch_sub(&worker->under_way, 1);
    model_ending(number, attempt);
}

static struct worker *worker_of(dassie_job_t *job)
{
    dassie_processor_t *p = CALL(dassie_job_processor)(job);
    MODEL_CHECK(p->q == &session.q, "a processor of another queue");
    return p->data;
}

static void leave_behind(dassie_job_t *job, bool result, const void *data,
                         size_t len)
{
    int rc = result ? CALL(dassie_job_set_result)(job, data, len)
                    : CALL(dassie_job_set_error)(job, data, len);
    MODEL_CHECK(rc == 0, "nothing can be left behind: %d", rc);
}

static int on_work(dassie_job_t *job)
{
    struct outcome outcome;
    struct worker *worker = worker_of(job);
    unsigned freed = session.freed;
    uint32_t number = run_begin(worker, job, &outcome);
    bool well = outcome.status == 0;
    session_kill_point(KILL_WORK);
    if (outcome.pace == PACE_SLOW) {
        uv_sleep(SLOW_MS);
    }
    while (outcome.pace == PACE_STICKY && session.freed == freed &&
           !CALL(dassie_job_cancelled)(job)) {
        uv_sleep(1);
    }
    if (outcome.detour == DETOUR_TWICE && !outcome.bare) {
        leave_behind(job, well, "not this", 8);
    } else if (outcome.detour == DETOUR_OTHER) {
        leave_behind(job, !well, "nor this", 8);
    }
    if (!outcome.bare) {
        leave_behind(job, well, outcome.data, outcome.len);
    }
    advise(job, &outcome);
    run_end(worker, number, CALL(dassie_job_attempt)(job));
    session_kill_point(KILL_WORKED);
    if (ledger->facts[number].free && CALL(dassie_job_cancelled)(job)) {
        return UV_ECANCELED;
    }
    return outcome.status;
}

/* ---- Async ---- */

static void finish(const struct held *run)
{
    struct outcome outcome;
    plan_run(ledger->seed, run->number, run->attempt, &outcome);
    run_end(run->worker, run->number, run->attempt);
    int rc = CALL(dassie_finish)(
        &session.q, run->id, run->attempt, outcome.status,
        outcome.bare ? NULL : outcome.data, outcome.bare ? 0 : outcome.len);
    MODEL_CHECK(rc == 0, "job %" PRIu32 " cannot be finished: %d", run->number,
                rc);
    session_kill_point(KILL_FINISH);
}

static void on_start(dassie_job_t *job)
{
    struct outcome outcome;
    struct worker *worker = worker_of(job);
    struct held run = {.worker = worker};
    run.number = run_begin(worker, job, &outcome);
    run.id = CALL(dassie_job_id)(job);
    run.attempt = CALL(dassie_job_attempt)(job);
    run.sticky = outcome.pace == PACE_STICKY;
    advise(job, &outcome);
    session_kill_point(KILL_START);
    MODEL_CHECK(CALL(dassie_job_set_result)(job, "", 0) == UV_EINVAL,
                "an async job may leave a result behind");
    if ((outcome.pace == PACE_QUICK && outcome.detour != DETOUR_NONE) ||
        held_n == HELD_MAX || (session.closing && !run.sticky)) {
        finish(&run);
        MODEL_CHECK(CALL(dassie_finish)(&session.q, run.id, run.attempt, 1,
                                        NULL, 0) == UV_EALREADY,
                    "a run was finished twice in its start");
    } else {
        held[held_n++] = run;
    }
}

static bool has_timed_out(const dassie_job_t *job, uint32_t number)
{
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    return plan.spec.timeout_ms > 0 &&
           CALL(dassie_job_cancelled)(job) == UV_ETIMEDOUT;
}

static void on_cancel(dassie_job_t *job)
{
    uint64_t id = CALL(dassie_job_id)(job);
    MODEL_CHECK(CALL(dassie_job_cancelled)(job), "cancelled, and says no");
    for (unsigned i = 0; i < held_n; i++) {
        if (held[i].id == id) {
            MODEL_CHECK(session.closing || ledger->facts[held[i].number].free ||
                            has_timed_out(job, held[i].number),
                        "cancelled by nobody");
            struct held run = held[i];
            held[i] = held[--held_n];
            finish(&run);
            return;
        }
    }
}

static void finish_thread(void *arg)
{
    struct held *run = arg;
    finish(run);
    free(run);
}

void workers_finish(void)
{
    if (held_n == 0) {
        return;
    }
    unsigned at = dice_below(&session.dice, held_n);
    struct held run = held[at];
    if (run.sticky && !dice_one_in(&session.dice, 8)) {
        return;
    }
    held[at] = held[--held_n];
    if (!dice_one_in(&session.dice, 4)) {
        finish(&run);
        return;
    }
    struct held *copy = malloc(sizeof *copy);
    ops_join();
    MODEL_CHECK(copy != NULL, "no memory");
    *copy = run;
    MODEL_CHECK(uv_thread_create(&session.thread, finish_thread, copy) == 0,
                "no thread");
    session.thread_runs = true;
}

void workers_misuse(void)
{
    static const char text[DASSIE_ERROR_BYTES_MAX + 1];
    MODEL_CHECK(CALL(dassie_finish)(&session.q, MODEL_IDS_MAX, 1, 0, NULL, 0) ==
                    UV_EALREADY,
                "a job that is not there was finished");
    if (held_n == 0) {
        return;
    }
    const struct held *run = &held[dice_below(&session.dice, held_n)];
    MODEL_CHECK(CALL(dassie_finish)(&session.q, run->id, run->attempt + 1, 0,
                                    NULL, 0) == UV_EALREADY,
                "a run that is not under way was finished");
    MODEL_CHECK(CALL(dassie_finish)(&session.q, run->id, run->attempt, 1, text,
                                    sizeof text) == UV_E2BIG,
                "an error text above the limit was taken");
    if (!dice_one_in(&session.dice, 2)) {
        return;
    }
    struct held twice = *run;
    held[run - held] = held[held_n - 1];
    held_n--;
    finish(&twice);
    MODEL_CHECK(CALL(dassie_finish)(&session.q, twice.id, twice.attempt, 1,
                                    NULL, 0) == UV_EALREADY,
                "a run was finished twice");
}

void workers_release(void)
{
    atomic_fetch_add(&session.freed, 1);
    for (unsigned i = 0; i < held_n; i++) {
        held[i].sticky = false;
    }
}

/* ---- Processors ---- */

void workers_open(void)
{
    held_n = 0;
    for (int i = 0; i < WORKERS_MAX; i++) {
        workers[i].state = WORKER_FREE;
        workers[i].under_way = 0;
    }
}

static int worker_find(enum worker_state state)
{
    unsigned from = dice_below(&session.dice, WORKERS_MAX);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        unsigned at = (from + i) % WORKERS_MAX;
        if (workers[at].state == (int)state) {
            return (int)at;
        }
    }
    return -1;
}

/* Some queues, each once, in any order. */
static void worker_queues(struct worker *worker)
{
    unsigned all[PLAN_QUEUES];
    unsigned left = PLAN_QUEUES;
    worker->queues_n = dice_one_in(&session.dice, 3)
                           ? 1 + dice_below(&session.dice, PLAN_QUEUES)
                           : 1;
    for (unsigned i = 0; i < PLAN_QUEUES; i++) {
        all[i] = i;
    }
    for (unsigned i = 0; i < worker->queues_n; i++) {
        unsigned at = dice_below(&session.dice, left);
        worker->queues[i] = all[at];
        all[at] = all[--left];
    }
    bool weighted = worker->queues_n > 1 && dice_one_in(&session.dice, 2);
    for (unsigned i = 0; i < worker->queues_n; i++) {
        worker->weights[i] = weighted ? 1 + dice_below(&session.dice, 9) : 0;
    }
}

void workers_process(void)
{
    static const dassie_process_options_t init = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_process_options_t options = init;
    uv_buf_t names[PLAN_QUEUES];
    int who = worker_find(WORKER_FREE);
    if (who < 0) {
        return;
    }
    struct worker *worker = &workers[who];
    worker->async = dice_one_in(&session.dice, 2);
    worker->concurrency = dice_one_in(&session.dice, 2)
                              ? 1
                              : 1 + (int)dice_below(&session.dice, 8);
    worker_queues(worker);
    for (unsigned i = 0; i < worker->queues_n; i++) {
        size_t len;
        const char *name = plan_queue(worker->queues[i], &len);
        names[i] = uv_buf_init((char *)(uintptr_t)name, (unsigned)len);
    }
    if (worker->queues_n > 1) {
        options.queues = names;
        options.queues_n = worker->queues_n;
        options.weights = worker->weights[0] > 0 ? worker->weights : NULL;
    } else if (worker->queues[0] != 0) {
        options.queue = names[0].base;
        options.queue_len = names[0].len;
    }
    options.concurrency = (unsigned)worker->concurrency;
    options.work = worker->async ? NULL : on_work;
    options.start = worker->async ? on_start : NULL;
    options.cancel = worker->async ? on_cancel : NULL;
    order_served(who, worker->queues, worker->queues_n,
                 worker->async || worker->concurrency == 1, worker->async);
    worker->p.data = worker;
    worker->state = WORKER_SERVES;
    int rc = CALL(dassie_process)(&session.q, &worker->p, &options);
    MODEL_CHECK(rc == 0, "no processor: %d", rc);
}

static void on_stopped(dassie_processor_t *p)
{
    struct worker *worker = p->data;
    MODEL_CHECK(worker->state == WORKER_STOPS, "a processor ends by itself");
    MODEL_CHECK(worker->under_way == 0, "a processor ends before its jobs");
    order_left((int)(worker - workers), worker->queues, worker->queues_n);
    worker->state = WORKER_FREE;
    session.outstanding--;
}

void workers_stop(void)
{
    int who = worker_find(WORKER_SERVES);
    if (who < 0) {
        return;
    }
    workers[who].state = WORKER_STOPS;
    session.outstanding++;
    int rc = CALL(dassie_processor_stop)(&workers[who].p, on_stopped);
    MODEL_CHECK(rc == 0, "a processor does not stop: %d", rc);
    MODEL_CHECK(
        CALL(dassie_processor_stop)(&workers[who].p, on_stopped) == UV_EALREADY,
        "a processor stops twice");
}

/* Sticky jobs wait until they are cancelled. */
void workers_closing(void)
{
    struct held all[HELD_MAX];
    unsigned n = held_n;
    memcpy(all, held, n * sizeof all[0]);
    held_n = 0;
    for (unsigned i = 0; i < n; i++) {
        if (all[i].sticky) {
            held[held_n++] = all[i];
        } else {
            finish(&all[i]);
        }
    }
}
