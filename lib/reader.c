/* reader.c: the thread that runs look-ups; see engine.h.
 *
 * On the engine they would delay commits, on libuv's pool they would wait
 * behind processors. */
#include "config.h"

#include "engine.h"

static void reader_answer(struct dassie__impl *impl, struct look *look)
{
    struct ops answer = {NULL, NULL};
    ops_push(&answer, &look->op);
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

static void reader_main(void *arg)
{
    struct dassie__impl *impl = arg;
    struct reader *r = &impl->reader;
    uv_mutex_lock(&r->mutex);
    for (;;) {
        while (r->head == NULL && !r->ending) {
            uv_cond_wait(&r->cond, &r->mutex);
        }
        struct look *look = r->head;
        if (look == NULL) {
            break;
        }
        r->head = look->next;
        if (r->head == NULL) {
            r->tail = &r->head;
        }
        r->busy = true;
        uv_mutex_unlock(&r->mutex);
        if (look->type == LOOK_METRICS) {
            metrics_run(impl, look);
        } else {
            dassie__look_run(look);
        }
        reader_answer(impl, look);
        uv_mutex_lock(&r->mutex);
        r->busy = false;
        uv_cond_broadcast(&r->cond);
    }
    uv_mutex_unlock(&r->mutex);
}

int dassie__reader_start(struct dassie__impl *impl)
{
    struct reader *r = &impl->reader;
    uv_mutex_lock(&r->mutex);
    if (!r->started) {
        r->tail = &r->head;
        r->started = uv_thread_create(&r->thread, reader_main, impl) == 0;
    }
    bool started = r->started;
    uv_mutex_unlock(&r->mutex);
    return started ? 0 : UV_EAGAIN;
}

int dassie__reader_metrics(struct dassie__impl *impl, struct look *look)
{
    if (impl->clock.fake) {
        metrics_run(impl, look);
        reader_answer(impl, look);
        return 0;
    }
    int rc = dassie__reader_start(impl);
    if (rc == 0) {
        dassie__reader_push(impl, look);
    }
    return rc;
}

void dassie__reader_push(struct dassie__impl *impl, struct look *look)
{
    struct reader *r = &impl->reader;
    uv_mutex_lock(&r->mutex);
    look->next = NULL;
    *r->tail = look;
    r->tail = &look->next;
    uv_cond_broadcast(&r->cond);
    uv_mutex_unlock(&r->mutex);
}

void dassie__reader_wait(struct dassie__impl *impl)
{
    struct reader *r = &impl->reader;
    uv_mutex_lock(&r->mutex);
    while (r->started && (r->head != NULL || r->busy)) {
        uv_cond_wait(&r->cond, &r->mutex);
    }
    uv_mutex_unlock(&r->mutex);
}

void dassie__reader_stop(struct dassie__impl *impl)
{
    struct reader *r = &impl->reader;
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
