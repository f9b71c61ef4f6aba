#include "config.h"

#include "events.h"

#include "alloc.h"

#include <string.h>

#define DELIVER_MAX 512

/* ---- Engine ---- */

static bool is_asked_for(const struct dassie__sub *sub, const job_t *job,
                         bool progress)
{
    if (progress && !sub->progress) {
        return false;
    }
    if (sub->states != 0 && (job->state == DASSIE_NOWHERE ||
                             (sub->states & DASSIE_IN(job->state)) == 0)) {
        return false;
    }
    return sub->queue == NULL ||
           (sub->queue_len == job->queue->name_len &&
            memcmp(sub->queue, job->queue->name, sub->queue_len) == 0);
}

static int code_of(const job_t *job, int from, bool progress)
{
    bool stays = job->state == DASSIE_RUNNING && from == DASSIE_RUNNING;
    bool ran = from == DASSIE_RUNNING || job->state > DASSIE_RUNNING;
    if (stays) {
        return progress ? 0 : UV_ETIMEDOUT;
    }
    return ran ? job->status : 0;
}

static void stage(struct dassie__sub *sub, const job_t *job, int from,
                  const struct progress *progress)
{
    uint64_t number = sub->asked_for++;
    if (sub->staged - atomic_load(&sub->tail) == DASSIE_EVENTS_MAX) {
        return; /* missed */
    }
    uint64_t at = sub->staged++ % DASSIE_EVENTS_MAX;
    bool runs = job->state == DASSIE_RUNNING;
    sub->number[at] = number;
    sub->ring[at] =
        (dassie_event_t){.id = job->id,
                         .from = from,
                         .to = job->state,
                         .attempts = job->attempts + runs,
                         .code = code_of(job, from, progress != NULL),
                         .at_ms = sub->impl->core.wall_ms,
                         .queue = job->queue->name,
                         .queue_len = job->queue->name_len};
    if (progress != NULL) {
        sub->ring[at].progress = 1;
        sub->ring[at].progress_done = progress->done;
        sub->ring[at].progress_total = progress->total;
    }
}

/* The store has moved a job, or written its progress. */
static void on_moved(void *arg, const job_t *job, int from,
                     const struct progress *progress)
{
    struct dassie__impl *impl = arg;
    for (struct dassie__sub *sub = impl->subs; sub != NULL; sub = sub->next) {
        if (is_asked_for(sub, job, progress != NULL)) {
            stage(sub, job, from, progress);
        }
    }
}

void dassie__events_add(struct dassie__impl *impl, struct dassie__sub *sub)
{
    sub->next = impl->subs;
    impl->subs = sub;
    impl->core.store.moved = on_moved;
    impl->core.store.moved_arg = impl;
}

void dassie__events_remove(struct dassie__impl *impl, struct dassie__sub *sub)
{
    struct dassie__sub **at = &impl->subs;
    while (*at != NULL && *at != sub) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = sub->next;
    }
    if (impl->subs == NULL) {
        impl->core.store.moved = NULL;
    }
}

bool dassie__events_publish(struct dassie__impl *impl, bool well)
{
    bool any = false;
    if (impl->subs == NULL) {
        return false;
    }
    uv_mutex_lock(&impl->out_mutex);
    for (struct dassie__sub *sub = impl->subs; sub != NULL; sub = sub->next) {
        any |= well && sub->published != sub->asked_for;
        if (well) {
            sub->head = sub->staged;
            sub->published = sub->asked_for;
        } else {
            sub->staged = sub->head;
            sub->asked_for = sub->published;
        }
    }
    uv_mutex_unlock(&impl->out_mutex);
    return any;
}

/* ---- Loop ---- */

/* Events that follow each other, in the ring and by number. */
static size_t run_of(const struct dassie__sub *sub, uint64_t tail,
                     uint64_t head)
{
    uint64_t at = tail % DASSIE_EVENTS_MAX;
    uint64_t most = DASSIE_EVENTS_MAX - at;
    uint64_t n = 0;
    most = most < head - tail ? most : head - tail;
    most = most < DELIVER_MAX ? most : DELIVER_MAX;
    while (n < most && sub->number[at + n] == sub->number[at] + n) {
        n++;
    }
    return (size_t)n;
}

/* Calls back once. True: there is more. */
static bool deliver_some(struct dassie__sub *sub)
{
    uint64_t tail = atomic_load(&sub->tail);
    uv_mutex_lock(&sub->impl->out_mutex);
    uint64_t head = sub->head;
    uint64_t published = sub->published;
    uv_mutex_unlock(&sub->impl->out_mutex);
    size_t n = run_of(sub, tail, head);
    const dassie_event_t *events = NULL;
    uint64_t next = published;
    if (n > 0) {
        events = &sub->ring[tail % DASSIE_EVENTS_MAX];
        next = sub->number[tail % DASSIE_EVENTS_MAX];
    }
    uint64_t missed = next - sub->told;
    sub->told = next + n;
    if (sub->handle != NULL && (n > 0 || missed > 0)) {
        sub->cb(sub->handle, events, n, missed);
    }
    atomic_store(&sub->tail, tail + n);
    return sub->told != published;
}

bool dassie__events_deliver(struct dassie__impl *impl)
{
    bool more = false;
    struct dassie__sub *next;
    for (struct dassie__sub *sub = impl->loop_subs; sub != NULL; sub = next) {
        next = sub->loop_next;
        more |= deliver_some(sub);
    }
    return more;
}

void dassie__events_free(struct dassie__sub *sub)
{
    dassie__free(sub->ring);
    dassie__free(sub->number);
    dassie__free(sub->queue);
    dassie__free(sub);
}
