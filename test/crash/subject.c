/* subject.c: the work that is killed, and whose power is cut.
 *
 * The work comes in rounds. A batch of jobs keeps both runners waiting at
 * gates, so that the rest of it is claimed, but not started; single jobs go to
 * other queues, where some end, some are held for a moment, some run again, and
 * some stay; operators change what they do not like, and pause a queue that
 * keeps few of its jobs. Then the processor of the batch is stopped, or the
 * queue closed: what was only claimed goes back. */
#define _GNU_SOURCE /* RTLD_DEFAULT */

#include "subject.h"

#include "ledger.h"
#include "operate.h"
#include "sync.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SESSIONS 2
#define ROUNDS 4 /* a session */
#define HELD_MS 1

/* ---- Enqueue ---- */

/* What is under way for each token. */
static struct ask {
    dassie_enqueue_t req;
    dassie_watch_t watch;
} asks[TOKENS_MAX];
static atomic_int acks;

static void on_end(uint32_t token, int status, const dassie_info_t *job)
{
    bool deleted =
        status == UV_ENOENT && ledger->entry[token].change == DASSIE_DELETE;
    if (status != UV_ECANCELED && !deleted) {
        sync_must(status, "end");
        ledger_told(token, job);
    }
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    if (req->existing) {
        return; /* it is that of another one */
    }
    on_end((uint32_t)((struct ask *)req->data - asks), status, job);
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    on_end((uint32_t)((struct ask *)req->data - asks), status, job);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct ask *ask = req->data;
    sync_must(status, "enqueue");
    ledger_acknowledged((uint32_t)(ask - asks), req->id, req->existing);
    acks++;
}

void subject_enqueue(uint32_t token)
{
    struct ask *ask = &asks[token];
    struct plan plan;
    uint16_t said[ROUND_JOBS];
    uint32_t first = token - token % ROUND_JOBS;
    plan_of(token, &plan);
    memset(ask, 0, sizeof *ask);
    ask->req.data = ask;
    ask->req.done_cb = on_done;
    ledger_asked(token);
    int before = acks;
    ledger_saves_look(first, said);
    sync_must(dassie_enqueue(&rig.q, &ask->req, &plan.spec, on_ack), "enqueue");
    sync_wait(&acks, before + 1);
    ledger_saves_kept(first, said);
}

static void watch(uint32_t token)
{
    struct ask *ask = &asks[token];
    ask->watch.data = ask;
    sync_must(
        dassie_watch(&rig.q, &ask->watch, ledger->entry[token].id, on_watch),
        "watch");
}

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    uint32_t first = *(uint32_t *)req->data;
    sync_must(status, "enqueue_many");
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        struct ask *ask = &asks[first + i];
        ledger_acknowledged(first + i, req->first_id + i, false);
        memset(ask, 0, sizeof *ask);
        watch(first + i);
    }
    acks++;
}

void subject_enqueue_batch(uint32_t first)
{
    static struct plan plans[BATCH_JOBS];
    dassie_spec_t specs[BATCH_JOBS];
    dassie_enqueue_many_t req = {.data = &first};
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        plan_of(first + i, &plans[i]);
        specs[i] = plans[i].spec;
        ledger_asked(first + i);
    }
    int before = acks;
    sync_must(dassie_enqueue_many(&rig.q, &req, specs, BATCH_JOBS, on_batch),
              "enqueue_many");
    sync_wait(&acks, before + 1);
}

/* ---- Work ---- */

static struct {
    uv_mutex_t mutex;
    uv_cond_t cond;
    bool open;
    atomic_int waiting;
} gate;

static void gate_wait(void)
{
    sync_count(&gate.waiting);
    uv_mutex_lock(&gate.mutex);
    while (!gate.open) {
        uv_cond_wait(&gate.cond, &gate.mutex);
    }
    uv_mutex_unlock(&gate.mutex);
}

static void gate_open(void)
{
    uv_mutex_lock(&gate.mutex);
    gate.open = true;
    uv_cond_broadcast(&gate.cond);
    uv_mutex_unlock(&gate.mutex);
}

/* Nobody waits there now. */
static void gate_shut(void)
{
    gate.open = false;
    gate.waiting = 0;
}

/* A run that is repeated is alone, and would wait in vain for another. */
static int work(dassie_job_t *job)
{
    uint32_t token = ledger_begin(job);
    struct plan plan;
    plan_of(token, &plan);
    if (plan.how == GATED && dassie_job_attempt(job) == 1) {
        gate_wait();
    } else if (plan.how == SLOW) {
        uv_sleep(HELD_MS);
    }
    return ledger_end(job, token);
}

/* ---- Async work ---- */

static struct {
    uv_timer_t timer;
    struct {
        dassie_job_t *job;
        uint32_t token;
    } job[ASYNC_SLOTS];
    int n;
} held;

static void on_held(uv_timer_t *timer)
{
    struct run run;
    int last = --held.n;
    dassie_job_t *job = held.job[last].job;
    plan_run(held.job[last].token, job, &run);
    ledger_return(held.job[last].token);
    sync_must(dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                            run.status, run.outcome, run.outcome_len),
              "finish");
    if (held.n == 0) {
        uv_timer_stop(timer);
    }
}

void subject_start(dassie_job_t *job)
{
    held.job[held.n].job = job;
    held.job[held.n].token = ledger_begin(job);
    held.n++;
    sync_must(uv_timer_start(&held.timer, on_held, HELD_MS, HELD_MS), "timer");
}

void subject_begin(void)
{
    sync_must(uv_timer_init(&rig.loop, &held.timer), "timer");
}

void subject_end(void)
{
    uv_close((uv_handle_t *)&held.timer, NULL);
}

/* ---- Rounds ---- */

/* Tells kill_at.c or record.c, if one is there, that jobs go back now. */
static void mark(void)
{
    void (*subject_mark)(void) = dlsym(RTLD_DEFAULT, "subject_mark");
    if (subject_mark != NULL) {
        subject_mark();
    }
}

static atomic_int counted;
static atomic_int stopped;

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    (void)count;
    sync_must(status, "counts");
    counted++;
}

static void on_stopped(dassie_processor_t *p)
{
    (void)p;
    stopped++;
}

/* The gates open once what was claimed has gone back: look-ups are answered
 * after the commit. */
static void processor_stop(dassie_processor_t *p)
{
    dassie_counts_t req = {0};
    counted = stopped = 0;
    mark();
    sync_must(dassie_processor_stop(p, on_stopped), "stop");
    sync_must(dassie_counts(&rig.q, &req, NULL, 0, on_counts), "counts");
    sync_wait(&counted, 1);
    gate_open();
    sync_wait(&stopped, 1);
}

static bool is_brief(uint32_t token)
{
    uint32_t i = token % ROUND_JOBS;
    return i >= BRIEF_FIRST && i < BRIEF_FIRST + BRIEF_JOBS;
}

static void wait_end(uint32_t token)
{
    while (!ledger->entry[token].ended) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
}

/* None of them is executing when their queue is paused. */
static void run_brief(uint32_t first)
{
    operate_pause(true);
    for (uint32_t i = 0; i < BRIEF_JOBS; i++) {
        subject_enqueue(first + BRIEF_FIRST + i);
    }
    if (ledger_lies("pause")) {
        wait_end(first + BRIEF_FIRST); /* one at the least runs before that */
    }
    operate_pause(false);
    for (uint32_t i = 0; i < BRIEF_JOBS; i++) {
        wait_end(first + BRIEF_FIRST + i);
    }
}

/* The one that waits at a gate comes last. */
static void change_all(uint32_t first)
{
    struct plan plan;
    for (uint32_t token = first + BATCH_JOBS; token < first + ROUND_JOBS;
         token++) {
        plan_of(token, &plan);
        if (plan.change_late) {
            wait_end(token);
        }
        if (plan.change != 0) {
            operate_change(token);
        }
        if (plan.change == DASSIE_RETRY) {
            watch(token);
        }
    }
    sync_wait(&gate.waiting, WORK_SLOTS);
    operate_change(first + GATED_CANCELLED);
}

static void run_round(dassie_processor_t *p)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    uv_buf_t served[] = {queues[QUEUE_MAIL], queues[QUEUE_ZERO]};
    uint32_t first = ledger_round(ROUND_JOBS);
    gate_shut();
    options.queues = served;
    options.queues_n = 2;
    options.concurrency = WORK_SLOTS;
    options.work = work;
    sync_must(dassie_process(&rig.q, p, &options), "process");
    subject_enqueue_batch(first);
    for (uint32_t i = BATCH_JOBS; i < ROUND_JOBS; i++) {
        if (!is_brief(i)) {
            subject_enqueue(first + i);
        }
    }
    run_brief(first);
    if (!ledger->entry[first + TURN].refused) {
        wait_end(first + TURN); /* the next round takes its key */
    }
    change_all(first);
}

static void run_session(const char *path)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    static dassie_processor_t processor;
    static dassie_processor_t async;
    uv_buf_t served[] = {queues[QUEUE_BRIEF], queues[QUEUE_WEB]};
    ledger->closed = 0;
    sync_open(path);
    ledger_opened();
    operate_look();
    operate_pause(false);
    operate_keep();
    options.queues = served;
    options.queues_n = 2;
    options.concurrency = ASYNC_SLOTS;
    options.start = subject_start;
    sync_must(dassie_process(&rig.q, &async, &options), "process");
    for (int i = 1; i < ROUNDS; i++) {
        run_round(&processor);
        processor_stop(&processor);
    }
    run_round(&processor);
    mark();
    sync_must(dassie_close(&rig.q, sync_on_close), "close");
    gate_open();
    sync_wait(&rig.closed, 1);
    ledger->closed = 1;
}

static void work_begin(void)
{
    sync_must(uv_mutex_init(&gate.mutex), "mutex");
    sync_must(uv_cond_init(&gate.cond), "cond");
    subject_begin();
}

static void work_end(void)
{
    subject_end();
    uv_cond_destroy(&gate.cond);
    uv_mutex_destroy(&gate.mutex);
}

static void subject_run(const char *path)
{
    work_begin();
    for (int i = 0; i < SESSIONS; i++) {
        run_session(path);
    }
    work_end();
}

static void subject_soak(const char *path)
{
    work_begin();
    soak_shrink(path);
    while (soak_has_room()) {
        run_session(path);
        soak_grow(path);
        soak_shrink(path);
    }
    work_end();
}

/* After a power cut the checker has still to see what is forgotten. */
static void subject_open(const char *path)
{
    sync_open(path);
    if (!ledger_cut()) {
        ledger_opened();
    }
    sync_close();
    printf("rebuilt %d\n", rig.rebuilt);
}

static const struct {
    const char *name;
    void (*function)(const char *path);
} modes[] = {{"run", subject_run},
             {"soak", subject_soak},
             {"open", subject_open},
             {"check", subject_check},
             {"heal", subject_heal},
             {"lose", subject_lose},
             {"floor", subject_floor},
             {"judge", subject_judge},
             {"judge-run", subject_judge_run},
             {"salvage", subject_salvage},
             {"salvage-lossy", subject_salvage_lossy}};

int subject_do(const char *mode, const char *dir, bool unsynced)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode, modes[i].name) != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/ledger", dir);
        ledger_open(path);
        ledger->unsynced |= unsynced;
        snprintf(path, sizeof path, "%s/store", dir);
        sync_begin();
        rig.options.max_crashes = -1;
        rig.options.durability = ledger->unsynced ? DASSIE_OFF : DASSIE_FULL;
        modes[i].function(path);
        sync_end();
        ledger_close();
        return ledger->faults > 0;
    }
    return 2;
}
