/* operate.c: what operators ask for. */
#include "config.h"

#include "alloc.h"
#include "impl.h"

#include <limits.h>
#include <string.h>

/* ---- Changes ---- */

#define STATES_ALL (DASSIE_IN(DASSIE_CANCELLED + 1) - 1 - DASSIE_IN(3))

/* In which states an action can be done, and in which it is by default. */
static const struct {
    unsigned can;
    unsigned does;
} actions[] = {
    [DASSIE_CANCEL] = {DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED) |
                           DASSIE_IN(DASSIE_RUNNING),
                       UINT_MAX},
    [DASSIE_RETRY] = {DASSIE_IN(DASSIE_FAILED) | DASSIE_IN(DASSIE_CANCELLED),
                      UINT_MAX},
    [DASSIE_DELETE] = {STATES_ALL & ~DASSIE_IN(DASSIE_RUNNING),
                       DASSIE_IN(DASSIE_COMPLETE) | DASSIE_IN(DASSIE_FAILED) |
                           DASSIE_IN(DASSIE_CANCELLED)},
    [DASSIE_RUN_NOW] = {DASSIE_IN(DASSIE_SCHEDULED), UINT_MAX}};

static int filter_check(dassie_action_t action, dassie_filter_t *f)
{
    if (action < DASSIE_CANCEL || action > DASSIE_RUN_NOW ||
        (f->id != 0 && f->ids != NULL) || (f->ids == NULL) != (f->ids_n == 0) ||
        (f->states & ~actions[action].can) != 0 ||
        f->age_ms > DASSIE_TIME_MS_MAX) {
        return UV_EINVAL;
    }
    if (f->ids_n > DASSIE_CHANGE_IDS_MAX) {
        return UV_E2BIG;
    }
    for (size_t i = 0; i < f->ids_n; i++) {
        if (f->ids[i] == 0) {
            return UV_EINVAL;
        }
    }
    int rc =
        f->queue != NULL ? dassie__name_check(&f->queue, &f->queue_len, "") : 0;
    return rc == 0 && f->name != NULL
               ? dassie__name_check(&f->name, &f->name_len, "")
               : rc;
}

static int change_fill(struct change *change, const dassie_filter_t *f)
{
    const uint64_t *ids = f->id != 0 ? &f->id : f->ids;
    change->ids_n = f->id != 0 ? 1 : f->ids_n;
    change->single = f->id != 0;
    change->states = f->states != 0 ? f->states
                                    : actions[change->action].can &
                                          actions[change->action].does;
    change->age_ms = f->age_ms;
    change->queue_len = f->queue_len;
    change->name_len = f->name_len;
    if (ids != NULL) {
        change->ids = dassie__memdup(ids, change->ids_n * sizeof ids[0]);
    }
    if (f->queue != NULL) {
        change->queue = dassie__memdup(f->queue, f->queue_len);
    }
    if (f->name != NULL) {
        change->name = dassie__memdup(f->name, f->name_len);
    }
    return (ids != NULL && change->ids == NULL) ||
                   (f->queue != NULL && change->queue == NULL) ||
                   (f->name != NULL && change->name == NULL)
               ? UV_ENOMEM
               : 0;
}

int dassie_change(dassie_t *q, dassie_change_t *req, dassie_action_t action,
                  const dassie_filter_t *filter, dassie_change_cb cb)
{
    dassie_filter_t f;
    int rc = dassie__impl_check(q);
    if (rc == 0 && (req == NULL || filter == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = dassie__options_copy(&f, sizeof f, filter, filter->size);
    }
    if (rc == 0) {
        rc = filter_check(action, &f);
    }
    if (rc != 0) {
        return rc;
    }
    struct change *change = dassie__calloc(1, sizeof *change);
    if (change == NULL) {
        return UV_ENOMEM;
    }
    change->action = action;
    rc = change_fill(change, &f);
    if (rc != 0) {
        dassie__change_free(change);
        return rc;
    }
    req->q = q;
    req->cb = cb;
    change->req = req;
    change->op.type = OP_CHANGE;
    dassie__engine_post(q->impl, &change->op);
    return 0;
}

/* ---- Settings ---- */

static int settings_check(const dassie_settings_t *s)
{
    const uint64_t max = DASSIE_TIME_MS_MAX;
    unsigned known = DASSIE_SET_PAUSED | DASSIE_SET_ATTEMPTS |
                     DASSIE_SET_BACKOFF | DASSIE_SET_KEEP | DASSIE_SET_PAYLOAD;
    return (s->set & ~known) != 0 || s->paused < 0 || s->paused > 1 ||
                   s->drop_payload < 0 || s->drop_payload > 1 ||
                   s->attempts_max > DASSIE_ATTEMPTS_MAX ||
                   s->backoff_ms > max || s->backoff_max_ms > max
               ? UV_EINVAL
               : 0;
}

int dassie_configure(dassie_t *q, dassie_configure_t *req, const char *queue,
                     size_t queue_len, const dassie_settings_t *settings,
                     dassie_configure_cb cb)
{
    static const dassie_settings_t none = DASSIE_SETTINGS_INIT;
    const dassie_settings_t *from = settings != NULL ? settings : &none;
    dassie_settings_t copy = none;
    int rc = dassie__impl_check(q);
    if (rc == 0 && (req == NULL || (settings == NULL && cb == NULL))) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = dassie__name_check(&queue, &queue_len, "default");
    }
    if (rc == 0) {
        rc = dassie__options_copy(&copy, sizeof copy, from, from->size);
    }
    if (rc == 0) {
        rc = settings_check(&copy);
    }
    if (rc != 0) {
        return rc;
    }
    struct configure *conf = dassie__calloc(1, sizeof *conf + queue_len);
    if (conf == NULL) {
        return UV_ENOMEM;
    }
    req->q = q;
    req->cb = cb;
    conf->req = req;
    conf->settings = copy;
    conf->settings.size = sizeof copy;
    conf->reads = settings == NULL;
    conf->queue_len = queue_len;
    memcpy(conf->queue, queue, queue_len);
    conf->op.type = OP_CONFIGURE;
    dassie__engine_post(q->impl, &conf->op);
    return 0;
}

/* ---- Delivery ---- */

static void deliver_change(struct change *change)
{
    dassie_change_t *req = change->req;
    int status = change->op.status;
    req->changed = change->changed;
    req->was = (dassie_state_t)change->was;
    dassie__change_free(change);
    if (req->cb != NULL) {
        req->cb(req, status);
    }
}

static void deliver_configure(struct configure *conf)
{
    dassie_configure_t *req = conf->req;
    int status = conf->op.status;
    if (req->cb != NULL) {
        req->cb(req, status, status == 0 ? &conf->settings : NULL);
    }
    dassie__free(conf);
}

void dassie__operate_deliver(struct dassie__impl *impl, struct op *op)
{
    (void)impl;
    if (op->type == OP_CHANGE) {
        deliver_change((struct change *)op);
    } else {
        deliver_configure((struct configure *)op);
    }
}
