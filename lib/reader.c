/* reader.c: the threads that run look-ups, and what takes longer; see engine.h.
 *
 * On the engine they would delay commits, on libuv's pool they would wait
 * behind processors. */
#include "config.h"

#include "engine.h"

static void reader_answer(struct dassie__impl *impl, struct op *op)
{
    struct ops answer = {NULL, NULL};
    ops_push(&answer, op);
    dassie__outbox_post(impl, &answer);
}

/* The engine need not know: it stops the reader before it closes the store. */
static void metrics_run(struct dassie__impl *impl, struct look *look)
{
    struct metrics m = {.commits = &impl->commit_meter};
    dassie__engine_stats(impl, &m.stats);
    if (atomic_load(&impl->metered)) {
        struct kv *kv = impl->core.store.kv;
        m.meters = &impl->core.store.queues.meters;
        if (kv->ops->counts != NULL) {
            kv->ops->counts(kv, &m.counts);
        }
        m.store_bytes = impl->clock.fake ? 0 : dassie__dir_bytes(&impl->dir);
    }
    look->status = dassie__metrics_text(&m, &look->text, &look->text_len);
}

static void run(struct dassie__impl *impl, struct op *op)
{
    if (op->type == OP_SURVEY) {
        dassie__survey_run((struct survey *)op);
        return;
    }
    struct look *look = (struct look *)op;
    if (look->type == LOOK_METRICS) {
        metrics_run(impl, look);
    } else {
        dassie__look_run(look);
    }
}

static void reader_main(void *arg)
{
    struct reader *r = arg;
    uv_mutex_lock(&r->mutex);
    for (;;) {
        while (r->ops.head == NULL && !r->ending) {
            uv_cond_wait(&r->cond, &r->mutex);
        }
        struct op *op = ops_pop(&r->ops);
        if (op == NULL) {
            break;
        }
        r->busy = true;
        uv_mutex_unlock(&r->mutex);
        run(r->impl, op);
        reader_answer(r->impl, op);
        uv_mutex_lock(&r->mutex);
        r->busy = false;
        uv_cond_broadcast(&r->cond);
    }
    uv_mutex_unlock(&r->mutex);
}

int dassie__reader_start(struct dassie__impl *impl, struct reader *r)
{
    uv_mutex_lock(&r->mutex);
    if (!r->started) {
        r->impl = impl;
        r->started = uv_thread_create(&r->thread, reader_main, r) == 0;
    }
    bool started = r->started;
    uv_mutex_unlock(&r->mutex);
    return started ? 0 : UV_EAGAIN;
}

int dassie__reader_metrics(struct dassie__impl *impl, struct look *look)
{
    if (impl->clock.fake) {
        metrics_run(impl, look);
        reader_answer(impl, &look->op);
        return 0;
    }
    int rc = dassie__reader_start(impl, &impl->reader);
    if (rc == 0) {
        dassie__reader_push(&impl->reader, &look->op);
    }
    return rc;
}

void dassie__reader_push(struct reader *r, struct op *op)
{
    uv_mutex_lock(&r->mutex);
    ops_push(&r->ops, op);
    uv_cond_broadcast(&r->cond);
    uv_mutex_unlock(&r->mutex);
}

void dassie__reader_wait(struct reader *r)
{
    uv_mutex_lock(&r->mutex);
    while (r->started && (r->ops.head != NULL || r->busy)) {
        uv_cond_wait(&r->cond, &r->mutex);
    }
    uv_mutex_unlock(&r->mutex);
}

void dassie__reader_stop(struct reader *r)
{
    if (!r->started) {
        return;
    }
    uv_mutex_lock(&r->mutex);
    r->ending = true;
    uv_cond_broadcast(&r->cond);
    uv_mutex_unlock(&r->mutex);
    uv_thread_join(&r->thread);
    r->started = false;
}
