#include "users.h"

#include "disk.h"
#include "memory.h"
#include "model.h"
#include "sim.h"
#include "task.h"

#include <stdio.h>
#include <string.h>

#define PROCS_MAX 3
#define HELD_MAX 32
#define WATCHES_MAX 16
#define NEVER UINT64_MAX

struct users_plan users_plan;

struct proc {
    dassie_processor_t handle;
    bool active;
    bool stopping;
    bool async;
    uint32_t all; /* it serves so many: all that there were; or 0 */
    unsigned concurrency;
    unsigned executing;
};

/* An async run under way. */
struct held {
    struct job *job; /* NULL: none */
    struct proc *proc;
    uint64_t id;
    uint32_t attempt;
    uint64_t end_at; /* NEVER: when it must */
};

struct watch {
    dassie_watch_t req;
    struct job *job;
    bool due;
};

static struct {
    dassie_t q;
    uv_loop_t loop;
    bool open;      /* the handle takes calls */
    bool closing;   /* dassie_close() was called */
    bool failed;    /* it did not open, and is to be closed */
    bool finish;    /* see users_finish() */
    unsigned calls; /* of other threads, under way */
    uint64_t next_op;
    struct proc procs[PROCS_MAX];
    struct held held[HELD_MAX];
    struct watch watches[WATCHES_MAX];
    dassie_enqueue_many_t many[TOKENS_MAX]; /* by the first token */
    dassie_get_t get;
    dassie_counts_t counts;
    dassie_drain_t drain;
    bool get_due;
    bool counts_due;
    bool drain_due;
    unsigned ended[7]; /* ends told of jobs enqueued here, by state */
} users;

struct dassie__impl *model_impl(void)
{
    return users.q.impl;
}

/* ---- Enqueue ---- */

static struct job *job_draw(dassie_spec_t *spec, char name[8], char queue[8],
                            uint8_t data[400])
{
    static const int priorities[] = {0, 0, 0, -7, 3};
    static const dassie_spec_t defaults = DASSIE_SPEC_INIT;
    unsigned token = model.jobs_n++;
    struct job *job = &model.job[token];
    memset(job, 0, sizeof *job);
    job->stage = STAGE_ISSUED;
    job->queue = sim_below(users_plan.queues);
    job->priority = priorities[sim_below(5)];
    job->flags = sim_chance(users_plan.at_most_once) ? DASSIE_AT_MOST_ONCE : 0;
    snprintf(name, 8, "j%u", token);
    snprintf(queue, 8, "q%u", job->queue);
    *spec = defaults;
    spec->queue = queue;
    spec->name = name;
    spec->data = data;
    spec->data_len = facts_payload(token, data);
    spec->priority = job->priority;
    spec->flags = job->flags;
    job->delay_ms = sim_chance(users_plan.delayed) ? 1 + sim_below(300) : 0;
    job->attempts_max = job->flags != 0 ? 1 : 1 + sim_below(3);
    job->backoff_ms = 1 + sim_below(100);
    spec->delay_ms = job->delay_ms;
    spec->attempts_max = job->attempts_max;
    spec->backoff_ms = job->backoff_ms;
    return job;
}

static void refused_at_once(struct job *job, int rc)
{
    SIM_CHECK(rc == UV_ENOBUFS || rc == UV_ECANCELED || rc == UV_ENOMEM,
              "an enqueue returns %d", rc);
    job->stage = STAGE_REFUSED;
    job->ack_due = job->done_due = false;
    reached->inbox_full += rc == UV_ENOBUFS;
}

/* Who is told of a job finds its room in the inbox free. */
static void check_inbox(void)
{
    dassie_stats_t stats;
    unsigned due = 0;
    dassie_stats(&users.q, &stats);
    for (unsigned i = 0; i < model.jobs_n; i++) {
        due += model.job[i].ack_due;
    }
    SIM_CHECK(stats.inbox_jobs <= due, "%u jobs in the inbox, %u to be told of",
              (unsigned)stats.inbox_jobs, due);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    reached->no_space += status == UV_ENOSPC;
    model_acked(req->data, req->id, status);
    check_inbox();
}

/* What is told is counted by then. */
static void check_counted(dassie_state_t state)
{
    dassie_stats_t stats;
    users.ended[state]++;
    dassie_stats(&users.q, &stats);
    SIM_CHECK(stats.completed >= users.ended[DASSIE_COMPLETE] &&
                  stats.failed >= users.ended[DASSIE_FAILED],
              "an end is told before it is counted");
}

static void on_done(dassie_enqueue_t *req, int status,
                    const dassie_info_t *info)
{
    struct job *job = req->data;
    SIM_CHECK(job->done_due && !job->ack_due,
              "an end is told twice, or before its beginning");
    job->done_due = false;
    model_ended(job, status, info);
    if (status == 0) {
        check_counted(info->state);
    }
}

static bool may_enqueue(unsigned n)
{
    return users.open && !users.closing && !users.finish &&
           model.jobs_n + n <= users_plan.jobs_max;
}

static bool op_enqueue(void)
{
    dassie_spec_t spec;
    char name[8];
    char queue[8];
    uint8_t data[400];
    if (!may_enqueue(1)) {
        return false;
    }
    struct job *job = job_draw(&spec, name, queue, data);
    job->req.data = job;
    job->done_due = sim_chance(500);
    job->req.done_cb = job->done_due ? on_done : NULL;
    job->ack_due = true;
    SIM_SAY("%s enqueues %s into %s, priority %d%s", task_name(), name, queue,
            job->priority, job->flags != 0 ? ", at most once" : "");
    users.calls++;
    int rc = dassie_enqueue(&users.q, &job->req, &spec, on_ack);
    users.calls--;
    if (rc != 0) {
        refused_at_once(job, rc);
    }
    reached->enqueues++;
    return true;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    struct job *first = req->data;
    for (size_t i = 0; i < req->count; i++) {
        model_acked(&first[i], req->first_id + i, status);
    }
    check_inbox();
}

static bool op_enqueue_many(void)
{
    enum { MOST = 7 };
    dassie_spec_t spec[MOST];
    char name[MOST][8];
    char queue[MOST][8];
    uint8_t data[MOST][400];
    struct job *job[MOST];
    unsigned n = 1 + sim_below(MOST);
    if (!may_enqueue(n)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        job[i] = job_draw(&spec[i], name[i], queue[i], data[i]);
        job[i]->ack_due = true;
    }
    dassie_enqueue_many_t *req = &users.many[job[0] - model.job];
    memset(req, 0, sizeof *req);
    req->data = job[0];
    SIM_SAY("%s enqueues a batch of %u from %s on", task_name(), n, name[0]);
    users.calls++;
    int rc = dassie_enqueue_many(&users.q, req, spec, n, on_many);
    users.calls--;
    for (unsigned i = 0; rc != 0 && i < n; i++) {
        refused_at_once(job[i], rc);
    }
    reached->batches++;
    return true;
}

/* ---- Runs ---- */

static struct proc *proc_of(const dassie_job_t *run)
{
    return (struct proc *)dassie_job_processor(run)->data;
}

static void proc_begins(struct proc *proc, int d)
{
    proc->executing += (unsigned)d;
    SIM_CHECK(proc->executing <= proc->concurrency,
              "more runs than a processor has slots");
}

static size_t outcome(const struct job *job, int status, char out[OUT_MAX])
{
    return (size_t)snprintf(out, OUT_MAX, "%s %u",
                            status == 0 ? "result" : "error", job->begun);
}

/* What is to become of a run, whatever its end. */
static void decide(struct job *job, dassie_job_t *run)
{
    job->verdict = VERDICT_NONE;
    job->again_ms = sim_below(100);
    if (users.finish || !sim_chance(users_plan.verdicts)) {
        return;
    }
    int rc = 0;
    job->verdict = VERDICT_RETRY + sim_below(3);
    if (job->verdict == VERDICT_RETRY) {
        rc = dassie_job_retry_in(run, job->again_ms);
    } else if (job->verdict == VERDICT_NO_RETRY) {
        rc = dassie_job_no_retry(run);
    } else {
        rc = dassie_job_snooze(run, job->again_ms);
    }
    SIM_CHECK(rc == 0, "a verdict returns %d", rc);
}

static int work(dassie_job_t *run)
{
    char out[OUT_MAX];
    struct proc *proc = proc_of(run);
    struct job *job = model_begun(run, false);
    int status = sim_chance(users_plan.failing) ? UV_EPROTO : 0;
    bool endless = sim_chance(users_plan.endless);
    size_t len = outcome(job, status, out);
    decide(job, run);
    proc_begins(proc, 1);
    if (sim_chance(800)) {
        task_sleep(sim_below((unsigned)users_plan.run_ns));
    }
    while (endless && !users.finish && !dassie_job_cancelled(run)) {
        task_sleep(20 * MS);
    }
    reached->cancelled += dassie_job_cancelled(run) != 0;
    if ((status == 0 ? dassie_job_set_result(run, out, len)
                     : dassie_job_set_error(run, out, len)) != 0) {
        status = 0; /* no memory: without a result */
        len = 0;
    }
    proc_begins(proc, -1);
    model_returned(job, status, out, len);
    return status;
}

static void held_finish(struct held *held)
{
    char out[OUT_MAX];
    struct job *job = held->job;
    int status = sim_chance(users_plan.failing) ? UV_EPROTO : 0;
    size_t len = outcome(job, status, out);
    struct job before = *job;
    model_returned(job, status, out, len);
    proc_begins(held->proc, -1);
    held->job = NULL;
    int rc = dassie_finish(&users.q, held->id, held->attempt, status, out, len);
    if (rc == UV_ENOMEM) { /* it goes on, and tries again later */
        *job = before;
        held->job = job;
        held->proc->executing++;
        return;
    }
    SIM_CHECK(rc == 0, "a finish returns %d", rc);
}

/* It has ended, or was another run. */
static void finish_again(uint64_t id, uint32_t attempt)
{
    int rc = dassie_finish(&users.q, id, attempt, 0, "stale", 5);
    SIM_CHECK(rc == UV_EALREADY || rc == UV_ENOMEM, "a stale finish returns %d",
              rc);
    reached->stale_finishes++;
}

static void start(dassie_job_t *run)
{
    struct held *held = users.held;
    while (held->job != NULL) {
        held++;
    }
    held->proc = proc_of(run);
    held->id = dassie_job_id(run);
    held->attempt = dassie_job_attempt(run);
    held->job = model_begun(run, true);
    decide(held->job, run);
    proc_begins(held->proc, 1);
    held->end_at = sim_chance(users_plan.endless)
                       ? NEVER
                       : task_now + sim_below((unsigned)users_plan.run_ns);
    if (sim_chance(200)) {
        held_finish(held);
        if (held->job == NULL && sim_chance(300)) {
            finish_again(held->id, held->attempt);
        }
    }
}

static void cancel(dassie_job_t *run)
{
    for (int i = 0; i < HELD_MAX; i++) {
        if (users.held[i].job != NULL &&
            users.held[i].id == dassie_job_id(run)) {
            users.held[i].end_at = task_now;
            reached->cancelled++;
        }
    }
}

/* Async runs whose time has come. */
static bool op_finish(void)
{
    bool some = false;
    for (int i = 0; i < HELD_MAX; i++) {
        struct held *held = &users.held[i];
        if (held->job != NULL && (held->end_at <= task_now || users.finish)) {
            held_finish(held);
            some = true;
        }
    }
    return some;
}

/* A finish that comes a second time, or from a run before. */
static bool op_finish_stale(void)
{
    struct job *job = &model.job[sim_below(model.jobs_n + 1)];
    uint32_t attempt = job->begun;
    if (!users.open || job->id == 0 || attempt == 0) {
        return false;
    }
    if (job->session == model.session && !job->returned) {
        attempt--;
    }
    finish_again(job->id, attempt);
    return true;
}

/* ---- Processors ---- */

static void on_stopped(dassie_processor_t *handle)
{
    struct proc *proc = handle->data;
    SIM_CHECK(proc->executing == 0, "stopped, and %u jobs still execute",
              proc->executing);
    proc->active = false;
}

static bool process(struct proc *proc, uv_buf_t *bufs, unsigned n)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    proc->async = sim_chance(400);
    proc->concurrency = 1 + sim_below(4);
    proc->executing = 0;
    proc->stopping = false;
    proc->all = 0;
    proc->handle.data = proc;
    options.queues = bufs;
    options.queues_n = n;
    options.concurrency = proc->concurrency;
    options.work = proc->async ? NULL : work;
    options.start = proc->async ? start : NULL;
    options.cancel = proc->async ? cancel : NULL;
    int rc = dassie_process(&users.q, &proc->handle, &options);
    SIM_CHECK(rc == 0 || rc == UV_ENOMEM, "process returns %d", rc);
    proc->active = rc == 0;
    SIM_SAY("a processor of %u queues from %s on, %u slots%s: %d", n,
            bufs[0].base, proc->concurrency, proc->async ? ", async" : "", rc);
    reached->processors++;
    return true;
}

static struct proc *proc_free(void)
{
    for (int i = 0; i < PROCS_MAX; i++) {
        if (!users.procs[i].active) {
            return &users.procs[i];
        }
    }
    return NULL;
}

static bool op_process(void)
{
    char names[4][8];
    uv_buf_t bufs[4];
    struct proc *proc = proc_free();
    unsigned n = 1 + sim_below(4);
    unsigned first = sim_below(users_plan.queues);
    if (proc == NULL || !users.open || users.closing) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        int len = snprintf(names[i], sizeof names[i], "q%u",
                           (first + i) % users_plan.queues);
        bufs[i] = uv_buf_init(names[i], (unsigned)len);
        if (i > 0 && (first + i) % users_plan.queues == first) {
            n = i;
        }
    }
    return process(proc, bufs, n);
}

static bool op_stop(void)
{
    struct proc *proc = &users.procs[sim_below(PROCS_MAX)];
    if (!proc->active || proc->stopping || users.closing) {
        return false;
    }
    int rc = dassie_processor_stop(&proc->handle, on_stopped);
    SIM_CHECK(rc == 0, "stop returns %d", rc);
    SIM_SAY("a processor stops");
    proc->stopping = true;
    reached->stops++;
    return true;
}

/* ---- Look-ups ---- */

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *info)
{
    struct watch *watch = req->data;
    SIM_CHECK(watch->due, "a watch is told twice");
    watch->due = false;
    SIM_CHECK(status != UV_ENOENT || model.unsynced,
              "a watched job is not there");
    if (status != UV_ENOENT) {
        model_ended(watch->job, status, info);
    }
}

static bool op_watch(void)
{
    struct watch *watch = &users.watches[sim_below(WATCHES_MAX)];
    struct job *job = &model.job[sim_below(model.jobs_n + 1)];
    if (watch->due || !users.open || users.closing ||
        job->stage != STAGE_ACKED) {
        return false;
    }
    watch->job = job;
    watch->req.data = watch;
    watch->due = true;
    int rc = dassie_watch(&users.q, &watch->req, job->id, on_watch);
    SIM_CHECK(rc == 0, "watch returns %d", rc);
    reached->watches++;
    return true;
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *info)
{
    struct job *job = req->data;
    const struct fact *f = &model.facts.job[job - model.job];
    users.get_due = false;
    SIM_CHECK(status == 0 || status == UV_ENOMEM || status == UV_EIO ||
                  status == UV_ECANCELED ||
                  (status == UV_ENOENT && model.unsynced),
              "get returns %d", status);
    if (status == 0) {
        SIM_CHECK(info->id == f->id && info->attempts <= f->attempts + 1 &&
                      (info->ended_ms == 0 || f->state == (int)info->state),
                  "a job is told to be in state %d, and is in %d", info->state,
                  f->state);
    }
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    (void)count;
    users.counts_due = false;
    SIM_CHECK(status == 0 || status == UV_ECANCELED, "counts returns %d",
              status);
}

static bool op_look(void)
{
    struct job *job = &model.job[sim_below(model.jobs_n + 1)];
    if (!users.open || users.closing) {
        return false;
    }
    if (!users.counts_due) {
        users.counts_due =
            dassie_counts(&users.q, &users.counts, NULL, 0, on_counts) == 0;
    }
    if (!users.get_due && job->stage == STAGE_ACKED) {
        users.get.data = job;
        users.get_due = dassie_get(&users.q, &users.get, job->id, on_get) == 0;
    }
    reached->looks++;
    return true;
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    users.drain_due = false;
    SIM_CHECK(status == UV_ECANCELED || status == 0, "drain returns %d",
              status);
}

static bool op_drain(void)
{
    if (!users.open || users.closing || users.drain_due) {
        return false;
    }
    users.drain_due = dassie_drain(&users.q, &users.drain, on_drain) == 0;
    return true;
}

/* ---- The queue ---- */

static void on_close(dassie_t *q)
{
    (void)q;
    users.open = users.closing = false;
    for (int i = 0; i < WATCHES_MAX; i++) {
        SIM_CHECK(!users.watches[i].due, "closed, and a watch was not told");
    }
    for (int i = 0; i < PROCS_MAX; i++) {
        SIM_CHECK(users.procs[i].executing == 0, "closed, and jobs execute");
        users.procs[i].active = false;
    }
    SIM_CHECK(!users.get_due && !users.counts_due && !users.drain_due,
              "closed, and a look was not answered");
    SIM_SAY("closed");
}

/* Other threads have to be out of their calls. */
static bool op_close(void)
{
    if (!users.open || users.closing || users.calls > 0) {
        return false;
    }
    SIM_SAY("close");
    users.closing = true;
    int rc = dassie_close(&users.q, on_close);
    SIM_CHECK(rc == 0, "close returns %d", rc);
    reached->closes++;
    return true;
}

static void on_open(dassie_t *q, int status)
{
    (void)q;
    SIM_SAY("open: %d %s", status, dassie_errmsg(&users.q));
    SIM_CHECK(status == 0 || status == UV_EIO || status == UV_ENOMEM,
              "open returns %d: %s", status, dassie_errmsg(&users.q));
    if (status != 0) {
        reached->open_errors++;
        users.failed = true;
    }
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    (void)level;
    SIM_SAY("log: %s", line);
}

static bool op_no_memory(void)
{
    memory_fail(1 + sim_below(12));
    return true;
}

static bool op_break(void)
{
    disk_faults.broken = !disk_faults.broken;
    SIM_SAY("the disk is %s", disk_faults.broken ? "broken" : "mended");
    return true;
}

static bool op_space(void)
{
    disk_free_bytes = disk_free_bytes > 0 ? 0 : UINT64_MAX;
    return true;
}

static bool op_clock(void)
{
    task_wall_ms += (int64_t)sim_below(7200000) - 3600000;
    reached->clock_steps++;
    return true;
}

static bool op_wait(void)
{
    users.next_op = task_now + sim_below(300) * MS;
    return true;
}

/* ---- The table ---- */

static struct op_entry {
    unsigned weight;
    bool (*call)(void); /* false: it could not be done now */
} ops[] = {
    {20, op_enqueue},     {6, op_enqueue_many}, {30, op_finish},
    {3, op_finish_stale}, {6, op_process},      {2, op_stop},
    {4, op_watch},        {3, op_look},         {1, op_drain},
    {1, op_space},        {1, op_clock},        {2, op_wait},
    {0, op_no_memory},    {0, op_break},        {0, op_close},
};
#define OPS (sizeof ops / sizeof ops[0])

static void weigh(bool (*call)(void), unsigned weight)
{
    for (size_t i = 0; i < OPS; i++) {
        if (ops[i].call == call) {
            ops[i].weight = weight;
        }
    }
}

static bool op_draw(void)
{
    unsigned sum = 0;
    for (size_t i = 0; i < OPS; i++) {
        sum += ops[i].weight;
    }
    unsigned n = sim_below(sum);
    size_t i = 0;
    while (n >= ops[i].weight) {
        n -= ops[i++].weight;
    }
    return ops[i].call();
}

/* ---- Finishing ---- */

/* Serves all queues that there are; once, so that nothing but the library moves
 * them on. */
static bool process_all(void)
{
    uv_buf_t bufs[DASSIE_QUEUES_MAX];
    const struct queues *qs = &users.q.impl->core.store.queues;
    struct proc *proc = proc_free();
    for (int i = 0; i < PROCS_MAX; i++) {
        if (users.procs[i].active && users.procs[i].all == qs->n) {
            return false;
        }
    }
    for (uint32_t i = 0; i < qs->n; i++) {
        bufs[i] =
            uv_buf_init(qs->by_id[i]->name, (unsigned)qs->by_id[i]->name_len);
    }
    if (proc == NULL) {
        return op_stop();
    }
    if (qs->n > 0) {
        process(proc, bufs, qs->n);
        proc->all = qs->n;
    }
    return qs->n > 0;
}

static bool all_done(void)
{
    bool due = false;
    for (unsigned i = 0; i < model.jobs_n; i++) {
        due |= model.job[i].ack_due || model.job[i].done_due;
    }
    return !due && model.facts.n[DASSIE_PENDING] == 0 &&
           model.facts.n[DASSIE_SCHEDULED] == 0 &&
           model.facts.n[DASSIE_RUNNING] == 0;
}

static bool finish_draw(void)
{
    bool some = op_finish();
    users.next_op = task_now + 5 * MS;
    if (!users.open || users.closing || !model.live) {
        return some;
    }
    return all_done() ? op_close() : process_all();
}

/* ---- Tasks ---- */

static void producer_main(void *arg)
{
    (void)arg;
    for (;;) {
        task_sleep(sim_below((unsigned)users_plan.pace_ns) * 3);
        if (users.closing || users.finish || users.q.impl == NULL) {
            return;
        }
        if (sim_chance(700)) {
            op_enqueue();
        } else {
            op_enqueue_many();
        }
    }
}

static void loop_main(void *arg)
{
    (void)arg;
    if (dassie_init(&users.loop, &users.q) != 0) {
        return;
    }
    users.open = true;
    if (dassie_open(&users.q, users_plan.path, &users_plan.options, on_open) !=
        0) {
        op_close();
    } else if (sim_chance(600)) {
        task_start("producer", producer_main, NULL);
    }
    while (loop_alive()) {
        if (loop_turn()) {
            task_yield();
        } else if (users.next_op > task_now) {
            loop_wait(users.next_op - task_now);
        } else {
            users.next_op = task_now + sim_below((unsigned)users_plan.pace_ns);
            (users.failed ? op_close : users.finish ? finish_draw : op_draw)();
        }
    }
}

static void users_clear(void)
{
    bool finish = users.finish;
    memset(&users, 0, sizeof users);
    users.finish = finish;
}

void users_begin(void)
{
    users_clear();
    users.finish = false;
    users_plan.options.log_cb = on_log;
    weigh(op_no_memory, users_plan.no_memory);
    weigh(op_close, users_plan.close);
    weigh(op_break, users_plan.breaks);
}

void users_process(void)
{
    users_clear();
    task_start("loop", loop_main, NULL);
}

void users_killed(void)
{
    users_clear();
}

void users_finish(bool finish)
{
    users.finish = finish;
}
