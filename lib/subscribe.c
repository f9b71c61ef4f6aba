/* subscribe.c: the calls that begin and end a subscription; see events.h. */
#include "config.h"

#include "alloc.h"
#include "events.h"
#include "impl.h"

#define STATES_ALL ((1u << (DASSIE_CANCELLED + 1)) - 1)

static int sub_new(struct dassie__impl *impl,
                   const dassie_subscribe_options_t *o,
                   struct dassie__sub **out)
{
    struct dassie__sub *sub = dassie__calloc(1, sizeof *sub);
    if (sub == NULL) {
        return UV_ENOMEM;
    }
    sub->impl = impl;
    sub->states = o->states;
    sub->progress = o->progress != 0;
    sub->ring = dassie__calloc(DASSIE_EVENTS_MAX, sizeof sub->ring[0]);
    sub->number = dassie__calloc(DASSIE_EVENTS_MAX, sizeof sub->number[0]);
    if (o->queue != NULL) {
        sub->queue = dassie__memdup(o->queue, o->queue_len);
        sub->queue_len = o->queue_len;
    }
    if (sub->ring == NULL || sub->number == NULL ||
        (o->queue != NULL && sub->queue == NULL)) {
        dassie__events_free(sub);
        return UV_ENOMEM;
    }
    *out = sub;
    return 0;
}

static int options_check(dassie_subscribe_options_t *o)
{
    if ((o->states & ~STATES_ALL) != 0 || (o->states & DASSIE_IN(3)) != 0) {
        return UV_EINVAL;
    }
    return o->queue != NULL ? dassie__name_check(&o->queue, &o->queue_len, "")
                            : 0;
}

int dassie_subscribe(dassie_t *q, dassie_subscription_t *handle,
                     const dassie_subscribe_options_t *options,
                     dassie_event_cb cb)
{
    static const dassie_subscribe_options_t init =
        DASSIE_SUBSCRIBE_OPTIONS_INIT;
    dassie_subscribe_options_t o;
    struct dassie__sub *sub;
    int rc = dassie__impl_check(q);
    options = options != NULL ? options : &init;
    if (rc == 0 && (handle == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = dassie__options_copy(&o, sizeof o, options, options->size);
    }
    if (rc == 0) {
        rc = options_check(&o);
    }
    if (rc == 0 && q->impl->loop_subs_n == DASSIE_SUBSCRIPTIONS_MAX) {
        rc = UV_ENOBUFS;
    }
    if (rc == 0) {
        rc = sub_new(q->impl, &o, &sub);
    }
    if (rc != 0) {
        return rc;
    }
    handle->q = q;
    handle->impl = sub;
    sub->handle = handle;
    sub->cb = cb;
    sub->loop_next = q->impl->loop_subs;
    q->impl->loop_subs = sub;
    q->impl->loop_subs_n++;
    sub->op.type = OP_SUBSCRIBE;
    dassie__engine_post(q->impl, &sub->op);
    return 0;
}

int dassie_unsubscribe(dassie_subscription_t *handle)
{
    if (handle == NULL || handle->impl == NULL) {
        return UV_EINVAL;
    }
    struct dassie__sub *sub = handle->impl;
    int rc = dassie__impl_check(handle->q);
    if (rc != 0 && rc != UV_ECANCELED) {
        return rc;
    }
    handle->impl = NULL;
    sub->handle = NULL;
    if (rc == 0) { /* else it goes with the queue */
        sub->gone_op.type = OP_UNSUBSCRIBE;
        dassie__engine_post(sub->impl, &sub->gone_op);
    }
    return 0;
}

void dassie__subscribe_deliver(struct dassie__impl *impl, struct op *op)
{
    struct dassie__sub *sub = container_of(op, struct dassie__sub, gone_op);
    struct dassie__sub **at = &impl->loop_subs;
    while (*at != sub) {
        at = &(*at)->loop_next;
    }
    *at = sub->loop_next;
    impl->loop_subs_n--;
    dassie__events_free(sub);
}

void dassie__subscribe_end(struct dassie__impl *impl)
{
    while (impl->loop_subs != NULL) {
        struct dassie__sub *sub = impl->loop_subs;
        impl->loop_subs = sub->loop_next;
        if (sub->handle != NULL) {
            sub->handle->impl = NULL;
        }
        dassie__events_free(sub);
    }
}
