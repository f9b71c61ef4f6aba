/* reader.c: the thread that runs look-ups; see engine.h.
 *
 * On the engine they would delay commits, on libuv's pool they would wait
 * behind processors. It is started with the first look-up. */
#include "config.h"

#include "engine.h"

static void reader_answer(struct dassie__impl *impl, struct look *look)
{
    struct ops answer = {NULL, NULL};
    ops_push(&answer, &look->op);
    dassie__outbox_post(impl, &answer);
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
        dassie__look_run(look);
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
    if (r->started) {
        return 0;
    }
    r->tail = &r->head;
    if (uv_thread_create(&r->thread, reader_main, impl) != 0) {
        return UV_EAGAIN;
    }
    r->started = true;
    return 0;
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
