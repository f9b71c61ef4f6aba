/* process.c: processors and the jobs they see. */
#include "config.h"

#include "alloc.h"
#include "impl.h"
#include "lock.h"

#include <string.h>

/* ---- Registering ---- */

/* NULL: there are none. */
static int weights_check(const unsigned *weights, unsigned n)
{
    for (unsigned i = 0; weights != NULL && i < n; i++) {
        if (weights[i] < 1 || weights[i] > DASSIE_WEIGHT_MAX) {
            return UV_EINVAL;
        }
    }
    return weights != NULL && n == 0 ? UV_EINVAL : 0;
}

static int process_check(const dassie_process_options_t *o)
{
    bool work = o->work != NULL;
    bool start = o->start != NULL;
    if (work == start || (work && o->cancel != NULL) ||
        (start && o->backoff != NULL) ||
        o->concurrency > DASSIE_CONCURRENCY_MAX ||
        o->spares > DASSIE_CONCURRENCY_MAX ||
        o->queues_n > DASSIE_PROCESSOR_QUEUES_MAX ||
        (o->queues_n > 0 && (o->queues == NULL || o->queue != NULL))) {
        return UV_EINVAL;
    }
    return weights_check(o->weights, o->queues_n);
}

/* The queues' names, copied: into *bufs, with their bytes behind. */
static int names_copy(struct dassie__processor *p, uv_buf_t *queues, unsigned n,
                      const unsigned *weights)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *name = queues[i].base;
        size_t len = queues[i].len;
        if (name == NULL || dassie__name_check(&name, &len, "") != 0) {
            return UV_EINVAL;
        }
        queues[i].len = len;
        bytes += len;
    }
    p->bufs = dassie__calloc(n, sizeof p->bufs[0]);
    p->names = dassie__malloc(bytes);
    if (dassie__turns_init(&p->turns, n, weights) != 0 || p->bufs == NULL ||
        p->names == NULL) {
        return UV_ENOMEM;
    }
    char *at = p->names;
    for (unsigned i = 0; i < n; i++) {
        memcpy(at, queues[i].base, queues[i].len);
        p->bufs[i] = uv_buf_init(at, (unsigned)queues[i].len);
        at += queues[i].len;
    }
    return 0;
}

static int names_of(struct dassie__processor *p,
                    const dassie_process_options_t *o)
{
    if (o->queues_n == 0) {
        const char *name = o->queue;
        size_t len = o->queue_len;
        if (dassie__name_check(&name, &len, "default") != 0) {
            return UV_EINVAL;
        }
        uv_buf_t one = uv_buf_init((char *)(uintptr_t)name, (unsigned)len);
        return names_copy(p, &one, 1, NULL);
    }
    uv_buf_t *queues = dassie__malloc(o->queues_n * sizeof queues[0]);
    if (queues == NULL) {
        return UV_ENOMEM;
    }
    memcpy(queues, o->queues, o->queues_n * sizeof queues[0]);
    int rc = names_copy(p, queues, o->queues_n, o->weights);
    dassie__free(queues);
    return rc;
}

void dassie__processor_free(struct dassie__processor *p)
{
    uv_mutex_destroy(&p->mutex);
    uv_cond_destroy(&p->cond);
    dassie__free(p->bufs);
    dassie__free(p->names);
    dassie__turns_free(&p->turns);
    dassie__free(p->runners);
    dassie__free(p->pool);
    dassie__free(p);
}

static int processor_fill(struct dassie__processor *p,
                          const dassie_process_options_t *o)
{
    unsigned threads = dassie__pool_threads();
    p->work = o->work;
    p->start = o->start;
    p->cancel = o->cancel;
    p->backoff = o->backoff;
    p->concurrency = o->concurrency > 0 ? o->concurrency : 1;
    p->slots = p->concurrency;
    if (p->work != NULL && p->slots > threads) {
        p->slots = threads;
    }
    p->add_op.type = OP_ADD;
    p->stop_op.type = OP_STOP;
    p->stopped_op.type = OP_STOPPED;
    p->spares = o->spares;
    p->hung_ns = (uint64_t)(o->hung_ms > 0 ? o->hung_ms : DASSIE_HUNG_MS) *
                 UINT64_C(1000000);
    p->runners = dassie__calloc(p->slots + p->spares, sizeof p->runners[0]);
    p->pool = dassie__calloc(1, sizeof *p->pool);
    return p->runners == NULL || p->pool == NULL ? UV_ENOMEM : names_of(p, o);
}

static int processor_new(const dassie_process_options_t *o,
                         struct dassie__processor **out)
{
    struct dassie__processor *p = dassie__calloc(1, sizeof *p);
    if (p == NULL) {
        return UV_ENOMEM;
    }
    dassie__mutex_init(&p->mutex);
    int rc = uv_cond_init(&p->cond);
    if (rc != 0) {
        uv_mutex_destroy(&p->mutex);
        dassie__free(p);
        return rc;
    }
    rc = processor_fill(p, o);
    if (rc != 0) {
        dassie__processor_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

/* The pool may be too small for what is asked for. */
static void check_pool(struct dassie__impl *impl,
                       const struct dassie__processor *p)
{
    unsigned threads = dassie__pool_threads();
    if (p->work != NULL && p->concurrency + p->spares > threads) {
        dassie__engine_log(
            impl, DASSIE_LOG_WARNING,
            "concurrency %u and %u spare, but the thread pool can run %u jobs "
            "at a time (see UV_THREADPOOL_SIZE)",
            p->concurrency, p->spares, threads);
    }
}

int dassie_process(dassie_t *q, dassie_processor_t *handle,
                   const dassie_process_options_t *options)
{
    dassie_process_options_t o;
    struct dassie__processor *p;
    int rc = dassie__impl_check(q);
    if (rc != 0) {
        return rc;
    }
    if (handle == NULL || options == NULL) {
        return UV_EINVAL;
    }
    rc = dassie__options_copy(&o, sizeof o, options, options->size);
    if (rc == 0) {
        rc = process_check(&o);
    }
    if (rc != 0) {
        return rc;
    }
    if (q->impl->processors_n == DASSIE_PROCESSORS_MAX) {
        return UV_ENOBUFS;
    }
    rc = processor_new(&o, &p);
    if (rc != 0) {
        return rc;
    }
    p->impl = q->impl;
    p->pool->async = &q->impl->async;
    p->handle = handle;
    handle->q = q;
    handle->impl = p;
    p->loop_next = q->impl->processors;
    q->impl->processors = p;
    q->impl->processors_n++;
    if (p->work != NULL) {
        q->impl->work_slots += p->concurrency;
    }
    check_pool(q->impl, p);
    dassie__engine_post(q->impl, &p->add_op);
    return 0;
}

/* ---- Stopping ---- */

int dassie_processor_stop(dassie_processor_t *handle, dassie_processor_cb cb)
{
    if (handle == NULL || handle->impl == NULL) {
        return UV_EINVAL;
    }
    int rc = dassie__impl_check(handle->q);
    if (rc != 0) {
        return rc;
    }
    struct dassie__processor *p = handle->impl;
    if (p->stop_asked) {
        return UV_EALREADY;
    }
    p->stop_asked = true;
    p->stopped_cb = cb;
    dassie__runner_end(p);
    dassie__engine_post(p->impl, &p->stop_op);
    return 0;
}

void dassie__processor_settle(struct dassie__processor *p)
{
    struct dassie__impl *impl = p->impl;
    dassie_processor_t *handle = p->handle;
    dassie_processor_cb cb = p->stopped_cb;
    for (unsigned i = 0; p->work != NULL && i < p->slots + p->spares; i++) {
        if (p->runners[i].busy) {
            return;
        }
    }
    if (!p->engine_done) {
        return;
    }
    struct dassie__processor **at = &impl->processors;
    while (*at != p) {
        at = &(*at)->loop_next;
    }
    *at = p->loop_next;
    dassie__pool_forget(p->pool);
    impl->processors_n--;
    if (p->work != NULL) {
        impl->work_slots -= p->concurrency;
    }
    handle->impl = NULL;
    dassie__processor_free(p);
    if (cb != NULL) {
        cb(handle);
    }
}

/* ---- Delivery ---- */

/* A callback with the job is over: if it was finished meanwhile, it goes to
 * the engine now. */
static void run_leave(struct dassie__impl *impl, job_t *job)
{
    if (dassie__runs_leave(&impl->runs, job)) {
        job->op.type = OP_FINISH;
        dassie__engine_post(impl, &job->op);
    }
}

/* Nothing starts once the user has said stop or close, or cancelled it, which
 * may have been after the engine gave the job to the loop. */
static void deliver_start(struct dassie__impl *impl, job_t *job)
{
    if (impl->closed || job->processor->stop_asked ||
        atomic_load(&job->cancelled)) {
        job->op.type = OP_BACK;
        dassie__engine_post(impl, &job->op);
        return;
    }
    dassie__job_begin(job); /* not before: what goes back keeps its error */
    job->began_ns = clock_mono_ns(&impl->clock);
    dassie__runs_add(&impl->runs, job);
    limit_begin(job, clock_mono_ns(&impl->clock));
    job->processor->start(job);
    run_leave(impl, job);
}

static void deliver_cancel(struct dassie__impl *impl, struct cancel *cancel)
{
    job_t *job = dassie__runs_enter(&impl->runs, cancel->id, cancel->attempt);
    dassie__free(cancel);
    if (job != NULL) {
        job->processor->cancel(job);
        run_leave(impl, job);
    }
}

void dassie__processor_deliver(struct dassie__impl *impl, struct op *op)
{
    switch (op->type) {
        case OP_START:
            deliver_start(impl, (job_t *)op);
            break;
        case OP_CANCEL:
            deliver_cancel(impl, (struct cancel *)op);
            break;
        default: {
            struct dassie__processor *p =
                container_of(op, struct dassie__processor, stopped_op);
            p->engine_done = true;
            dassie__processor_settle(p);
            break;
        }
    }
}

/* ---- Finishing ---- */

int dassie_finish(dassie_t *q, uint64_t id, uint32_t attempt, int status,
                  const void *data, size_t len)
{
    job_t *job;
    if (q == NULL || q->impl == NULL || !q->impl->opened ||
        (data == NULL && len > 0)) {
        return UV_EINVAL;
    }
    struct dassie__impl *impl = q->impl;
    if (impl->forks != dassie__dir_forks()) {
        return UV_EPERM;
    }
    if (len > (status == 0 ? impl->options.payload_bytes_max
                           : DASSIE_ERROR_BYTES_MAX)) {
        return UV_E2BIG;
    }
    if (status != 0 && data == NULL) {
        data = dassie_strerror(status);
        len = strlen(data);
    }
    void *out = dassie__memdup(data, len);
    if (out == NULL) {
        return UV_ENOMEM;
    }
    int rc = dassie__runs_finish(&impl->runs, id, attempt, status, out, len,
                                 status != 0, &job);
    if (rc != 0) {
        dassie__free(out);
    }
    if (job != NULL) {
        job->op.type = OP_FINISH;
        dassie__engine_post(impl, &job->op);
    }
    return rc;
}

/* ---- Jobs ---- */

static void job_row(const dassie_job_t *job, struct job_row *row)
{
    dassie__job_row_read(job->row, job->row_len,
                         row); /* ours: it can be read */
}

uint64_t dassie_job_id(const dassie_job_t *job)
{
    return job->id;
}

uint32_t dassie_job_attempt(const dassie_job_t *job)
{
    return job->attempts + 1;
}

const char *dassie_job_queue(const dassie_job_t *job, size_t *len)
{
    if (len != NULL) {
        *len = job->queue->name_len;
    }
    return job->queue->name;
}

const char *dassie_job_name(const dassie_job_t *job, size_t *len)
{
    struct job_row row;
    job_row(job, &row);
    if (len != NULL) {
        *len = row.name_len;
    }
    return row.name;
}

const void *dassie_job_data(const dassie_job_t *job, size_t *len)
{
    struct job_row row;
    job_row(job, &row);
    if (len != NULL) {
        *len = row.data_len;
    }
    return row.data;
}

dassie_processor_t *dassie_job_processor(const dassie_job_t *job)
{
    return job->processor->handle;
}

int dassie_job_cancelled(const dassie_job_t *job)
{
    return atomic_load_explicit(&job->cancelled, memory_order_relaxed);
}

int dassie_job_touch(dassie_job_t *job)
{
    if (job == NULL) {
        return UV_EINVAL;
    }
    limit_touch(job, clock_mono_ns(&job->processor->impl->clock));
    return limit_given_up(job) ? UV_EALREADY : dassie_job_cancelled(job);
}

static int job_decide(dassie_job_t *job, enum verdict verdict, uint64_t ms)
{
    if (job == NULL || ms > DASSIE_TIME_MS_MAX) {
        return UV_EINVAL;
    }
    job->verdict = (uint8_t)verdict;
    job->again_ms = ms;
    return 0;
}

int dassie_job_retry_in(dassie_job_t *job, uint64_t ms)
{
    return job_decide(job, VERDICT_RETRY, ms);
}

int dassie_job_no_retry(dassie_job_t *job)
{
    return job_decide(job, VERDICT_NO_RETRY, 0);
}

int dassie_job_snooze(dassie_job_t *job, uint64_t ms)
{
    return job_decide(job, VERDICT_SNOOZE, ms);
}

static int job_leave_behind(dassie_job_t *job, const void *data, size_t len,
                            bool error)
{
    if (job == NULL || (data == NULL && len > 0) ||
        job->processor->work == NULL) {
        return UV_EINVAL;
    }
    size_t most = error ? DASSIE_ERROR_BYTES_MAX
                        : job->processor->impl->options.payload_bytes_max;
    if (len > most) {
        return UV_E2BIG;
    }
    int rc = dassie__job_set_out(job, data, len);
    if (rc == 0) {
        job->out_is_error = error;
    }
    return rc;
}

int dassie_job_set_result(dassie_job_t *job, const void *data, size_t len)
{
    return job_leave_behind(job, data, len, false);
}

int dassie_job_set_error(dassie_job_t *job, const char *text, size_t len)
{
    if (text != NULL && len == 0) {
        len = strlen(text);
    }
    return job_leave_behind(job, text, len, true);
}
