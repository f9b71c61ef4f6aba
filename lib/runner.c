#include "config.h"

#include "runner.h"

#include "alloc.h"

#include <string.h>

/* A failed job without a text of its own gets its code's. */
static void job_settle(job_t *job, int status)
{
    job->status = status;
    if (job->out != NULL && job->out_is_error != (status != 0)) {
        dassie__free(job->out);
        job->out = NULL;
        job->out_len = 0;
    }
    if (status != 0 && job->out_len == 0) {
        const char *text = dassie_strerror(status);
        dassie__job_set_out(job, text, strlen(text));
    }
}

/* Whose job this thread runs. */
static _Thread_local const struct dassie__impl *working;

bool dassie__runner_is_here(const struct dassie__impl *impl)
{
    return working == impl;
}

/* The run has ended. True: too late, it was given up, and this thread is one
 * too many. Who is in time does not wait here: a kill finds that it has ended.
 */
static bool run_is_late(struct dassie__processor *p, job_t *job)
{
    if (!limit_end(job)) {
        return false;
    }
    uv_mutex_lock(&p->mutex); /* the engine counts it before it lets go */
    p->hung--;
    p->active--;
    uv_mutex_unlock(&p->mutex);
    return true;
}

/* False: it was given up before it returned. */
static bool job_run(struct dassie__processor *p, job_t *job, uint64_t begin)
{
    if (atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
        job->op.type = OP_BACK; /* before it began */
        dassie__engine_post(p->impl, &job->op);
        return true;
    }
    dassie__job_begin(job);
    recorder_executing(&p->impl->recorder, job->slot);
    job->began_ns = begin;
    limit_begin(job, begin);
    working = p->impl;
    int status = p->work(job);
    working = NULL;
    job->ran_ns = clock_mono_ns(&p->impl->clock) - begin;
    if (status != 0 && p->backoff != NULL && job->verdict == VERDICT_NONE) {
        job->verdict = VERDICT_RETRY;
        job->again_ms = p->backoff(job, job->attempts - job->excused + 1);
    }
    bool late = run_is_late(p, job);
    if (!late) {
        recorder_ended(&p->impl->recorder, job->slot);
        job_settle(job, status);
    }
    job->op.type = OP_FINISH;
    dassie__engine_post(p->impl, &job->op);
    return !late;
}

/* A moving average, an eighth at a time; a long job counts at once. */
static void pace_update(struct dassie__processor *p, uint64_t ns)
{
    uint64_t old = atomic_load_explicit(&p->run_ns, memory_order_relaxed);
    uint64_t mean = old == 0 || ns > 8 * old ? ns : old - old / 8 + ns / 8;
    atomic_store_explicit(&p->run_ns, mean + 1, memory_order_relaxed);
}

/* The next job, or NULL when it is time to leave. Holds the mutex. */
static job_t *runner_next(struct dassie__processor *p, uint64_t until)
{
    uint64_t linger = 0;
    while (!p->ending) {
        job_t *job = job_list_pop(&p->runq);
        if (job != NULL) {
            p->popped++;
            return job;
        }
        uint64_t now = clock_mono_ns(&p->impl->clock);
        if (linger == 0) {
            linger = now + LINGER_NS < until ? now + LINGER_NS : until;
        }
        if (now >= linger) {
            break;
        }
        p->waiting++;
        uv_cond_timedwait(&p->cond, &p->mutex, linger - now);
        p->waiting--;
    }
    return NULL;
}

static void runner_work(uv_work_t *work)
{
    struct dassie__processor *p = ((struct runner *)work->data)->p;
    uint64_t begin = clock_mono_ns(&p->impl->clock);
    uint64_t until = begin + SLICE_NS;
    uv_mutex_lock(&p->mutex);
    for (;;) {
        job_t *job = begin < until ? runner_next(p, until) : NULL;
        if (job == NULL) {
            break;
        }
        uv_mutex_unlock(&p->mutex);
        begin = clock_mono_ns(&p->impl->clock);
        if (!job_run(p, job, begin)) {
            return;
        }
        uint64_t end = clock_mono_ns(&p->impl->clock);
        pace_update(p, end - begin);
        begin = end;
        uv_mutex_lock(&p->mutex);
    }
    p->active--;
    uv_mutex_unlock(&p->mutex);
}

static void runner_after(uv_work_t *work, int status)
{
    struct runner *runner = work->data;
    (void)status;
    runner->busy = false;
    runner->p->impl->runners--;
    dassie__pool_give();
    dassie__runner_ended(runner->p);
}

static struct runner *runner_free(struct dassie__processor *p)
{
    for (unsigned i = 0; i < p->slots + p->spares; i++) {
        if (!p->runners[i].busy) {
            return &p->runners[i];
        }
    }
    return NULL;
}

/* Without the pool: one after the other, here. */
static void run_here(struct dassie__processor *p)
{
    job_t *job;
    do {
        uv_mutex_lock(&p->mutex);
        job = p->ending ? NULL : job_list_pop(&p->runq);
        p->popped += job != NULL;
        uv_mutex_unlock(&p->mutex);
        if (job != NULL) {
            job_run(p, job, clock_mono_ns(&p->impl->clock));
        }
    } while (job != NULL);
}

void dassie__runner_start(struct dassie__processor *p)
{
    struct dassie__impl *impl = p->impl;
    if (impl->clock.fake) {
        run_here(p);
        return;
    }
    for (;;) {
        uv_mutex_lock(&p->mutex);
        bool need = processor_lacks_runner(p);
        uv_mutex_unlock(&p->mutex);
        struct runner *runner = need ? runner_free(p) : NULL;
        if (runner == NULL) {
            dassie__pool_forget(p->pool);
            return;
        }
        if (!dassie__pool_take(p->pool)) {
            atomic_store(&p->wanted, true); /* the pool rings */
            return;
        }
        uv_mutex_lock(&p->mutex);
        p->active++;
        uv_mutex_unlock(&p->mutex);
        runner->busy = true;
        runner->p = p;
        runner->work.data = runner;
        impl->runners++;
        uv_queue_work(impl->q->loop, &runner->work, runner_work, runner_after);
    }
}

void dassie__runner_end(struct dassie__processor *p)
{
    uv_mutex_lock(&p->mutex);
    p->ending = true;
    uv_cond_broadcast(&p->cond);
    uv_mutex_unlock(&p->mutex);
}
