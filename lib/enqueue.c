/* enqueue.c: jobs into the queue, and who waits for their ends. */
#include "config.h"

#include "alloc.h"
#include "expire.h"
#include "impl.h"

#include <string.h>

#define BATCH_INBOXES_MAX                               \
    4 /* a batch may hold so many times inbox_bytes_max \
       */

_Static_assert(sizeof(struct enqueue_priv) <=
                   sizeof(((dassie_enqueue_t *)0)->reserved),
               "the private part of an enqueue request fits");
_Static_assert(sizeof(struct watch_priv) <=
                   sizeof(((dassie_watch_t *)0)->reserved),
               "the private part of a watch request fits");

/* ---- Specs ---- */

/* Times, and what goes with them. */
static int spec_check_times(const dassie_spec_t *spec)
{
    const uint64_t max = DASSIE_TIME_MS_MAX;
    return (spec->delay_ms > 0 && spec->run_at_ms > 0) ||
                   spec->delay_ms > max || spec->run_at_ms > max ||
                   spec->attempts_max > DASSIE_ATTEMPTS_MAX ||
                   spec->backoff_ms > max || spec->backoff_max_ms > max ||
                   spec->retry_for_ms > max || spec->expire_ms > max ||
                   spec->timeout_ms > DASSIE_TIMEOUT_MS_MAX
               ? UV_EINVAL
               : 0;
}

/* A unique key and what goes with it. */
static int spec_check_unique(dassie_spec_t *spec)
{
    bool timed = spec->unique_until == DASSIE_UNTIL_TIME;
    if (spec->unique == NULL) {
        return spec->unique_len > 0 || spec->unique_until != 0 ||
                       spec->unique_ms > 0 || spec->on_conflict != 0
                   ? UV_EINVAL
                   : 0;
    }
    return (unsigned)spec->unique_until > DASSIE_UNTIL_TIME ||
                   (unsigned)spec->on_conflict > DASSIE_CONFLICT_MOVE ||
                   timed != (spec->unique_ms > 0) ||
                   spec->unique_ms > DASSIE_TIME_MS_MAX
               ? UV_EINVAL
               : dassie__name_check(&spec->unique, &spec->unique_len, "");
}

static int spec_check(const struct dassie__impl *impl, dassie_spec_t *spec)
{
    int rc = dassie__name_check(&spec->queue, &spec->queue_len, "default");
    if (rc != 0) {
        return rc;
    }
    rc = dassie__name_check(&spec->name, &spec->name_len, "");
    if (rc != 0 || spec->priority < DASSIE_PRIORITY_MIN ||
        spec->priority > DASSIE_PRIORITY_MAX ||
        (spec->flags & ~(unsigned)DASSIE_AT_MOST_ONCE) != 0 ||
        (spec->data == NULL && spec->data_len > 0) ||
        spec_check_times(spec) != 0 || spec_check_unique(spec) != 0) {
        return UV_EINVAL;
    }
    return spec->data_len > impl->options.payload_bytes_max ? UV_E2BIG : 0;
}

/* When a job is due: 0 if that is now, or an error. */
static int spec_due(const dassie_spec_t *spec, uint64_t now_ms,
                    uint64_t *due_ms)
{
    uint64_t at_ms = spec->run_at_ms;
    if (spec->delay_ms > 0) {
        if (spec->delay_ms > DASSIE_TIME_MS_MAX - now_ms) {
            return UV_EINVAL;
        }
        at_ms = now_ms + spec->delay_ms;
    }
    *due_ms = at_ms > now_ms ? at_ms : 0;
    return 0;
}

static void spec_options(const dassie_spec_t *spec, struct job_options *options)
{
    options->number[JOB_ATTEMPTS] = spec->attempts_max;
    options->number[JOB_BACKOFF] = spec->backoff_ms;
    options->number[JOB_BACKOFF_MAX] = spec->backoff_max_ms;
    options->number[JOB_RETRY_FOR] = spec->retry_for_ms;
    options->number[JOB_EXPIRE] = spec->expire_ms;
    options->number[JOB_UNIQUE] = (uint64_t)spec->unique_until;
    options->number[JOB_UNIQUE_FOR] = spec->unique_ms;
    options->key = (const uint8_t *)spec->unique;
    options->key_len = spec->unique_len;
    options->number[JOB_TIMEOUT] = spec->timeout_ms;
}

/* A job with its row written and, behind the row, its queue's name. */
static int job_from_spec(const struct dassie__impl *impl,
                         const dassie_spec_t *user, job_t **out)
{
    dassie_spec_t spec;
    if (user == NULL) {
        return UV_EINVAL;
    }
    int rc = dassie__options_copy(&spec, sizeof spec, user, user->size);
    if (rc == 0) {
        rc = spec_check(impl, &spec);
    }
    if (rc != 0) {
        return rc;
    }
    struct job_row row = {.flags = (uint8_t)spec.flags,
                          .priority = (int8_t)spec.priority,
                          .enqueued_ms = clock_wall_ms(&impl->clock),
                          .name = spec.name,
                          .name_len = spec.name_len,
                          .data = spec.data,
                          .data_len = spec.data_len};
    rc = spec_due(&spec, row.enqueued_ms, &row.options.number[JOB_DUE]);
    if (rc != 0) {
        return rc;
    }
    spec_options(&spec, &row.options);
    size_t row_len = dassie__job_row_bytes(spec.name_len, spec.data_len) +
                     dassie__job_options_bytes(&row.options);
    job_t *job = dassie__job_new(row_len, spec.queue_len);
    if (job == NULL) {
        return UV_ENOMEM;
    }
    dassie__job_row_write(job->row, &row);
    memcpy(job->row + row_len, spec.queue, spec.queue_len);
    job->batch_queue = (const char *)job->row + row_len;
    job->batch_queue_len = spec.queue_len;
    job->priority = row.priority;
    job->flags = row.flags;
    job->due_ms = row.options.number[JOB_DUE];
    dassie__job_times(job, &row);
    if (spec.unique != NULL) {
        job->unique = dassie__unique_new(&row);
        if (job->unique == NULL) {
            dassie__job_free(job);
            return UV_ENOMEM;
        }
        job->unique->on_conflict = (uint8_t)spec.on_conflict;
    }
    *out = job;
    return 0;
}

/* As dassie__impl_check(), from any thread: whether the queue is closed is seen
 * under the inbox's mutex. */
static int check_any_thread(const dassie_t *q)
{
    if (q == NULL || q->impl == NULL || !q->impl->opened) {
        return UV_EINVAL;
    }
    return q->impl->forks != dassie__dir_forks() ? UV_EPERM : 0;
}

/* ---- Enqueue ---- */

int dassie_enqueue(dassie_t *q, dassie_enqueue_t *req,
                   const dassie_spec_t *spec, dassie_enqueue_cb cb)
{
    job_t *job;
    int rc = check_any_thread(q);
    if (rc == 0 && req == NULL && cb != NULL) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = job_from_spec(q->impl, spec, &job);
    }
    if (rc != 0) {
        return rc;
    }
    if (req != NULL) {
        struct enqueue_priv *priv = (struct enqueue_priv *)req->reserved;
        req->q = q;
        req->cb = cb;
        priv->op.type = OP_ACK;
        job->req = req->done_cb != NULL || cb != NULL ? req : NULL;
    }
    job->op.type = OP_ENQUEUE;
    rc = dassie__engine_post_jobs(q->impl, &job->op, 1, job->row_len);
    if (rc != 0) {
        dassie__job_free(job);
    }
    return rc;
}

/* The specs stand as far apart as their size says, which is the caller's. */
static int many_fill(const struct dassie__impl *impl, struct many *many,
                     const dassie_spec_t *specs, size_t n)
{
    size_t stride = specs->size;
    unsigned replacing = 0;
    size_t bytes_max = impl->options.inbox_bytes_max;
    bytes_max = bytes_max > SIZE_MAX / BATCH_INBOXES_MAX
                    ? SIZE_MAX
                    : bytes_max * BATCH_INBOXES_MAX;
    for (size_t i = 0; i < n; i++) {
        job_t *job;
        const dassie_spec_t *spec =
            (const void *)((const char *)specs + i * stride);
        int rc =
            spec->size == stride ? job_from_spec(impl, spec, &job) : UV_EINVAL;
        if (rc != 0) {
            return rc;
        }
        job_list_push(&many->jobs, job);
        many->bytes += job->row_len;
        if (job->unique != NULL) {
            many->keyed = true;
            replacing += job->unique->on_conflict != DASSIE_CONFLICT_KEEP;
        }
        if (many->bytes > bytes_max || replacing > DASSIE_BATCH_REPLACE_MAX) {
            return UV_E2BIG;
        }
    }
    many->n = n;
    return 0;
}

int dassie_enqueue_many(dassie_t *q, dassie_enqueue_many_t *req,
                        const dassie_spec_t *specs, size_t n,
                        dassie_enqueue_many_cb cb)
{
    int rc = check_any_thread(q);
    if (rc != 0) {
        return rc;
    }
    if (req == NULL || specs == NULL || n == 0) {
        return UV_EINVAL;
    }
    if (n > DASSIE_BATCH_JOBS_MAX) {
        return UV_E2BIG;
    }
    struct many *many = dassie__calloc(1, sizeof *many);
    if (many == NULL) {
        return UV_ENOMEM;
    }
    many->req = req;
    many->op.type = OP_MANY;
    rc = many_fill(q->impl, many, specs, n);
    if (rc == 0) {
        req->q = q;
        req->cb = cb;
        req->count = n;
        rc = dassie__engine_post_jobs(q->impl, &many->op, n, many->bytes);
    }
    if (rc != 0) {
        dassie__job_list_free(&many->jobs);
        dassie__free(many);
    }
    return rc;
}

int dassie_watch(dassie_t *q, dassie_watch_t *req, uint64_t id,
                 dassie_watch_cb cb)
{
    int rc = dassie__impl_check(q);
    if (rc != 0) {
        return rc;
    }
    if (req == NULL || cb == NULL) {
        return UV_EINVAL;
    }
    struct watch_priv *priv = (struct watch_priv *)req->reserved;
    req->q = q;
    req->id = id;
    req->cb = cb;
    priv->op.type = OP_WATCH;
    priv->waiter.id = id;
    dassie__engine_post(q->impl, &priv->op);
    return 0;
}

/* ---- Delivery ---- */

void dassie__waiter_tell(struct waiter *w, int status,
                         const dassie_info_t *info)
{
    struct enqueue_priv *priv = container_of(w, struct enqueue_priv, waiter);
    if (priv->op.type == OP_WATCH) {
        dassie_watch_t *req = container_of(priv, dassie_watch_t, reserved);
        req->cb(req, status, info);
        return;
    }
    dassie_enqueue_t *req = container_of(priv, dassie_enqueue_t, reserved);
    if (req->done_cb != NULL) {
        req->done_cb(req, status, info);
    }
}

static void tell_all(struct waiter *list, int status, const dassie_info_t *info)
{
    while (list != NULL) {
        struct waiter *next = list->next;
        dassie__waiter_tell(list, status, info);
        list = next;
    }
}

static void deliver_ack(struct enqueue_priv *priv)
{
    dassie_enqueue_t *req = container_of(priv, dassie_enqueue_t, reserved);
    if (priv->op.status != 0) {
        req->id = 0;
        req->existing = 0;
    }
    if (req->cb != NULL) {
        req->cb(req, priv->op.status);
    } else if (priv->op.status != 0 && req->done_cb != NULL) {
        req->done_cb(req, priv->op.status, NULL);
    }
}

static void deliver_many_ack(struct many *many)
{
    dassie_enqueue_many_t *req = many->req;
    int status = many->op.status;
    dassie__free(many);
    if (req->cb != NULL) {
        req->cb(req, status);
    }
}

static void deliver_done(job_t *job)
{
    dassie_info_t info;
    int status = job->op.status;
    dassie__look_info(job, &info);
    tell_all(job->waiters, status, status == 0 ? &info : NULL);
    dassie__job_free(job);
}

void dassie__enqueue_deliver(struct dassie__impl *impl, struct op *op)
{
    (void)impl;
    switch (op->type) {
        case OP_ACK:
            deliver_ack((struct enqueue_priv *)op);
            break;
        case OP_MANY_ACK:
            deliver_many_ack((struct many *)op);
            break;
        case OP_DONE:
            deliver_done((job_t *)op);
            break;
        default: {
            struct watch_priv *priv = (struct watch_priv *)op;
            dassie__waiter_tell(&priv->waiter, op->status, NULL);
            break;
        }
    }
}

void dassie__enqueue_deliver_gone(struct dassie__impl *impl,
                                  struct waiter *list, int status)
{
    (void)impl;
    tell_all(list, status, NULL);
}
