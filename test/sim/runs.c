#include "runs.h"

#include "model.h"
#include "moves.h"
#include "sim.h"
#include "task.h"
#include "users.h"

#include <stdio.h>
#include <string.h>

#define PROCS_MAX 3
#define HELD_MAX 32
#define NEVER UINT64_MAX

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
    int cancelled;   /* it was told to end, and why */
};

static struct {
    struct proc procs[PROCS_MAX];
    struct held held[HELD_MAX];
} runs;

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

/* How it ends; one that is asked to may say so. */
static int status_draw(int asked)
{
    return asked != 0 && sim_chance(400)    ? asked
           : sim_chance(users_plan.failing) ? UV_EPROTO
                                            : 0;
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

/* It lives, now and then. */
static void touch(struct job *job, dassie_job_t *run)
{
    if (sim_chance(300) && dassie_job_touch(run) == 0) {
        job->touched = task_now;
        reached->touches++;
    }
}

static int work(dassie_job_t *run)
{
    char out[OUT_MAX];
    struct proc *proc = proc_of(run);
    struct job *job = model_begun(run, false);
    bool endless = sim_chance(users_plan.endless);
    decide(job, run);
    proc_begins(proc, 1);
    if (sim_chance(800)) {
        task_sleep(sim_below((unsigned)users_plan.run_ns));
    }
    while (endless && !users.finish && !dassie_job_cancelled(run)) {
        task_sleep(20 * MS);
        touch(job, run);
    }
    int asked = dassie_job_cancelled(run);
    if (asked == UV_ETIMEDOUT) {
        model_timed_out(job);
    }
    SIM_CHECK(asked != 0 || job->cancel != CANCEL_SURE,
              "j%d was cancelled, and its run does not know", move_token(job));
    reached->cancelled += asked != 0;
    int status = status_draw(asked);
    size_t len = outcome(job, status, out);
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
    int status = status_draw(held->cancelled);
    size_t len = outcome(job, status, out);
    model_returned(job, status, out, len);
    proc_begins(held->proc, -1);
    held->job = NULL;
    int rc = dassie_finish(&users.q, held->id, held->attempt, status, out, len);
    if (rc == UV_ENOMEM) { /* it goes on, and tries again later */
        model_goes_on(job);
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
    struct held *held = runs.held;
    while (held->job != NULL) {
        held++;
    }
    held->proc = proc_of(run);
    held->id = dassie_job_id(run);
    held->attempt = dassie_job_attempt(run);
    held->job = model_begun(run, true);
    held->cancelled = 0;
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
        if (runs.held[i].job != NULL && runs.held[i].id == dassie_job_id(run)) {
            runs.held[i].end_at = task_now;
            runs.held[i].cancelled = dassie_job_cancelled(run);
            if (runs.held[i].cancelled == UV_ETIMEDOUT) {
                model_timed_out(runs.held[i].job);
            }
            reached->cancelled++;
        }
    }
}

/* Async runs whose time has come. */
bool runs_finish(void)
{
    bool some = false;
    for (int i = 0; i < HELD_MAX; i++) {
        struct held *held = &runs.held[i];
        if (held->job != NULL && (held->end_at <= task_now || users.finish)) {
            held_finish(held);
            some = true;
        }
    }
    return some;
}

/* A finish that comes a second time, or from a run before. */
bool runs_finish_stale(void)
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
        if (!runs.procs[i].active) {
            return &runs.procs[i];
        }
    }
    return NULL;
}

bool runs_serve(void)
{
    char names[4][8];
    uv_buf_t bufs[4];
    struct proc *proc = proc_free();
    unsigned n = 1 + sim_below(4);
    unsigned first = sim_below(users_plan.queues);
    if (proc == NULL || !users_calls()) {
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

bool runs_stop(void)
{
    struct proc *proc = &runs.procs[sim_below(PROCS_MAX)];
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

/* Serves all queues that there are; once, so that nothing but the library moves
 * them on. */
bool runs_serve_all(void)
{
    uv_buf_t bufs[DASSIE_QUEUES_MAX];
    const struct queues *qs = &users.q.impl->core.store.queues;
    struct proc *proc = proc_free();
    for (int i = 0; i < PROCS_MAX; i++) {
        if (runs.procs[i].active && runs.procs[i].all == qs->n) {
            return false;
        }
    }
    for (uint32_t i = 0; i < qs->n; i++) {
        bufs[i] =
            uv_buf_init(qs->by_id[i]->name, (unsigned)qs->by_id[i]->name_len);
    }
    if (proc == NULL) {
        return runs_stop();
    }
    if (qs->n > 0) {
        process(proc, bufs, qs->n);
        proc->all = qs->n;
    }
    return qs->n > 0;
}

/* ---- A process ---- */

void runs_closed(void)
{
    for (int i = 0; i < PROCS_MAX; i++) {
        SIM_CHECK(runs.procs[i].executing == 0, "closed, and jobs execute");
        runs.procs[i].active = false;
    }
}

void runs_begin(void)
{
    memset(&runs, 0, sizeof runs);
}
