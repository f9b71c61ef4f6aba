/* query.c: get, list, counts, queues, drain, stats and metrics. */
#include "config.h"

#include "alloc.h"
#include "impl.h"

#include <string.h>

#define LIST_LIMIT 100

int dassie__lookup_take(dassie_t *q)
{
    int rc = dassie__impl_check(q);
    if (rc == 0 && q->impl->lookups == DASSIE_LOOKUPS_MAX) {
        rc = UV_ENOBUFS;
    }
    return rc;
}

static void lookup_post(struct dassie__impl *impl, struct look *look)
{
    look->op.type = OP_LOOK;
    impl->lookups++;
    dassie__engine_post(impl, &look->op);
}

int dassie_get(dassie_t *q, dassie_get_t *req, uint64_t id, dassie_get_cb cb)
{
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc != 0) {
        return rc;
    }
    struct look *look = dassie__look_new(LOOK_GET, req);
    if (look == NULL) {
        return UV_ENOMEM;
    }
    req->q = q;
    req->id = id;
    req->cb = cb;
    look->id = id;
    lookup_post(q->impl, look);
    return 0;
}

static int list_check(dassie_list_options_t *o)
{
    if (o->limit == 0) {
        o->limit = LIST_LIMIT;
    }
    if (o->limit > DASSIE_LIST_MAX || (unsigned)o->state > DASSIE_CANCELLED ||
        o->state == 3) {
        return UV_EINVAL;
    }
    return o->queue != NULL ? dassie__name_check(&o->queue, &o->queue_len, "")
                            : 0;
}

int dassie_list(dassie_t *q, dassie_list_t *req,
                const dassie_list_options_t *options, dassie_list_cb cb)
{
    static const dassie_list_options_t init = DASSIE_LIST_OPTIONS_INIT;
    dassie_list_options_t o;
    int rc = dassie__lookup_take(q);
    options = options != NULL ? options : &init;
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = dassie__options_copy(&o, sizeof o, options, options->size);
    }
    if (rc == 0) {
        rc = list_check(&o);
    }
    if (rc != 0) {
        return rc;
    }
    struct look *look = dassie__look_new(LOOK_LIST, req);
    if (look != NULL && o.queue != NULL) {
        look->queue_name = dassie__memdup(o.queue, o.queue_len);
        look->queue_name_len = o.queue_len;
    }
    if (look == NULL || (o.queue != NULL && look->queue_name == NULL)) {
        if (look != NULL) {
            dassie__look_free(look);
        }
        return UV_ENOMEM;
    }
    req->q = q;
    req->cb = cb;
    look->state = o.state;
    look->limit = o.limit;
    memcpy(look->cursor, req->cursor, sizeof look->cursor);
    lookup_post(q->impl, look);
    return 0;
}

int dassie_counts(dassie_t *q, dassie_counts_t *req, const char *queue,
                  size_t queue_len, dassie_counts_cb cb)
{
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0 && queue != NULL) {
        rc = dassie__name_check(&queue, &queue_len, "");
    }
    if (rc != 0) {
        return rc;
    }
    struct counts_look *look = dassie__calloc(1, sizeof *look);
    if (look != NULL && queue != NULL) {
        look->queue = dassie__memdup(queue, queue_len);
        look->queue_len = queue_len;
    }
    if (look == NULL || (queue != NULL && look->queue == NULL)) {
        dassie__free(look);
        return UV_ENOMEM;
    }
    req->q = q;
    req->cb = cb;
    look->req = req;
    look->op.type = OP_COUNTS;
    q->impl->lookups++;
    dassie__engine_post(q->impl, &look->op);
    return 0;
}

int dassie_queues(dassie_t *q, dassie_queues_t *req, dassie_queues_cb cb)
{
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc != 0) {
        return rc;
    }
    struct queues_look *look = dassie__calloc(1, sizeof *look);
    if (look == NULL) {
        return UV_ENOMEM;
    }
    req->q = q;
    req->cb = cb;
    look->req = req;
    look->op.type = OP_QUEUES;
    q->impl->lookups++;
    dassie__engine_post(q->impl, &look->op);
    return 0;
}

int dassie_drain(dassie_t *q, dassie_drain_t *req, const char *queue,
                 size_t queue_len, dassie_drain_cb cb)
{
    int rc = dassie__impl_check(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0 && queue != NULL) {
        rc = dassie__name_check(&queue, &queue_len, "");
    }
    if (rc != 0) {
        return rc;
    }
    char *copy = queue != NULL ? dassie__memdup(queue, queue_len) : NULL;
    if (queue != NULL && copy == NULL) {
        return UV_ENOMEM;
    }
    struct drain_priv *priv = (struct drain_priv *)req->reserved;
    req->q = q;
    req->cb = cb;
    priv->queue = copy;
    priv->queue_len = queue_len;
    priv->op.type = OP_DRAIN;
    dassie__engine_post(q->impl, &priv->op);
    return 0;
}

int dassie_stats(dassie_t *q, dassie_stats_t *stats)
{
    if (q == NULL || q->impl == NULL || stats == NULL || !q->impl->opened) {
        return UV_EINVAL;
    }
    struct dassie__impl *impl = q->impl;
    if (impl->forks != dassie__dir_forks()) {
        return UV_EPERM;
    }
    dassie__engine_stats(impl, stats);
    uv_mutex_lock(&impl->mutex);
    bool closed = impl->closed;
    uv_mutex_unlock(&impl->mutex);
    return closed ? UV_ECANCELED : 0;
}

/* Straight to the reader: it answers whatever the engine waits for. */
int dassie_metrics(dassie_t *q, dassie_metrics_t *req, dassie_metrics_cb cb)
{
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc != 0) {
        return rc;
    }
    struct look *look = dassie__look_new(LOOK_METRICS, req);
    if (look == NULL) {
        return UV_ENOMEM;
    }
    look->op.type = OP_LOOK;
    rc = dassie__reader_metrics(q->impl, look);
    if (rc != 0) {
        dassie__look_free(look);
        return rc;
    }
    req->q = q;
    req->cb = cb;
    q->impl->lookups++;
    return 0;
}

/* ---- Delivery ---- */

static void deliver_look(struct dassie__impl *impl, struct look *look)
{
    size_t n = look->status == 0 ? look->n : 0;
    const dassie_info_t *infos = n > 0 ? look->infos : NULL;
    if (look->type == LOOK_WATCH) {
        struct watch_priv *priv = look->req;
        if (n > 0) { /* an end is told without its payload */
            look->infos->data = NULL;
            look->infos->data_len = 0;
        }
        dassie__waiter_tell(&priv->waiter, look->status, infos);
    } else if (look->type == LOOK_METRICS) {
        dassie_metrics_t *req = look->req;
        impl->lookups--;
        req->cb(req, look->status, look->text, look->text_len);
    } else if (look->type == LOOK_GET) {
        dassie_get_t *req = look->req;
        impl->lookups--;
        req->cb(req, look->status, infos);
    } else {
        dassie_list_t *req = look->req;
        impl->lookups--;
        if (look->status == 0) {
            memcpy(req->cursor, look->cursor, sizeof look->cursor);
            req->more = look->more;
        }
        req->cb(req, look->status, infos, n);
    }
    dassie__look_free(look);
}

static void deliver_counts(struct dassie__impl *impl, struct counts_look *look)
{
    dassie_counts_t *req = look->req;
    int status = look->op.status;
    impl->lookups--;
    req->cb(req, status, status == 0 ? &look->count : NULL);
    dassie__free(look->queue);
    dassie__free(look);
}

static void deliver_queues(struct dassie__impl *impl, struct queues_look *look)
{
    dassie_queues_t *req = look->req;
    impl->lookups--;
    req->cb(req, look->op.status, look->infos, look->n);
    dassie__free(look->infos);
    dassie__free(look);
}

void dassie__query_deliver(struct dassie__impl *impl, struct op *op)
{
    if (op->type == OP_LOOK) {
        deliver_look(impl, (struct look *)op);
    } else if (op->type == OP_SURVEY) {
        dassie__survey_deliver(impl, (struct survey *)op);
    } else if (op->type == OP_COUNTS) {
        deliver_counts(impl, (struct counts_look *)op);
    } else if (op->type == OP_QUEUES) {
        deliver_queues(impl, (struct queues_look *)op);
    } else {
        struct drain_priv *priv = (struct drain_priv *)op;
        dassie_drain_t *req = container_of(priv, dassie_drain_t, reserved);
        dassie__free(priv->queue);
        req->cb(req, op->status);
    }
}
