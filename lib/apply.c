#include "config.h"

#include "apply.h"

#include "alloc.h"
#include "events.h"

/* ---- Operations ---- */

/* Without an open store everything is refused, */
static int refusal(const struct dassie__impl *impl)
{
    return impl->open && !impl->lost ? 0 : UV_ECANCELED;
}

/* and in one that is only looked at, what changes it. */
static int change_refusal(const struct dassie__impl *impl)
{
    int rc = refusal(impl);
    return rc == 0 && impl->core.options.read_only ? UV_EROFS : rc;
}

static void answer(struct dassie__impl *impl, struct op *op, int type,
                   int status)
{
    op->type = type;
    op->status = status;
    ops_push(&impl->answers, op);
}

/* Their nodes may still be on their way to the loop as answers, so that these
 * go by lists of their own. */
static void tell_gone(struct dassie__impl *impl, enum gone why,
                      struct waiter *list)
{
    struct waiter **gone = &impl->gone[why];
    uv_mutex_lock(&impl->out_mutex);
    while (list != NULL) {
        struct waiter *next = list->next;
        list->next = *gone;
        *gone = list;
        list = next;
    }
    uv_mutex_unlock(&impl->out_mutex);
    dassie__engine_ring(impl);
}

/* Those with unique keys stay in their order. */
static bool must_wait(const struct dassie__impl *impl,
                      const struct admitted *batch)
{
    return batch == NULL && impl->later.head != NULL;
}

/* ADMIT_LATER: it is not over yet. *id: the job's, or that of the one that has
 * its key. */
static int enqueue(struct dassie__impl *impl, job_t *job,
                   struct admitted *batch, uint64_t *id, bool *existing)
{
    struct job_list one = {0};
    struct admit admit = {.batch = batch, .ids = id};
    int rc = change_refusal(impl);
    *id = impl->core.store.next;
    *existing = false;
    if (rc != 0 || job->unique == NULL) {
        return rc == 0 ? dassie__core_enqueue(&impl->core, job) : rc;
    }
    if (must_wait(impl, batch)) {
        return ADMIT_LATER;
    }
    job_list_push(&one, job);
    rc = dassie__admit(&impl->core, &one, &admit);
    *existing = admit.new_n == 0;
    return rc;
}

/* Who waits for the end of a job that was there waits for it by its id. */
static void join(struct dassie__impl *impl, dassie_enqueue_t *req, uint64_t id)
{
    struct enqueue_priv *priv = (struct enqueue_priv *)req->reserved;
    priv->waiter.id = id;
    priv->waiter.next = impl->joined;
    impl->joined = &priv->waiter;
}

/* False: it has to wait. */
static bool apply_enqueue(struct dassie__impl *impl, job_t *job,
                          struct admitted *batch)
{
    dassie_enqueue_t *req = job->req;
    size_t bytes = job->row_len;
    uint64_t id;
    bool existing;
    if (req != NULL && req->done_cb == NULL) {
        job->req = NULL; /* nobody waits for its end */
    }
    int rc = enqueue(impl, job, batch, &id, &existing);
    if (rc == ADMIT_LATER) {
        job->req = req;
        return false;
    }
    impl->batch_jobs++;
    impl->batch_bytes += bytes;
    impl->batch_work += bytes;
    if (rc != 0) {
        dassie__job_free(job);
    }
    if (req != NULL) {
        req->id = id;
        req->existing = existing;
        if (rc == 0 && existing && req->done_cb != NULL) {
            join(impl, req, id);
        }
        struct enqueue_priv *priv = (struct enqueue_priv *)req->reserved;
        answer(impl, &priv->op, OP_ACK, rc);
    }
    return true;
}

static int enqueue_many(struct dassie__impl *impl, struct many *many,
                        struct admitted *batch)
{
    struct admit admit = {.batch = batch, .ids = many->req->ids};
    int rc = change_refusal(impl);
    if (rc == 0 && many->keyed && must_wait(impl, batch)) {
        rc = ADMIT_LATER;
    }
    if (rc == 0) {
        rc = dassie__admit(&impl->core, &many->jobs, &admit);
    }
    many->req->first_id = admit.first_id;
    if (rc == 0) {
        many->req->count = admit.new_n;
    }
    return rc;
}

/* False: it has to wait. */
static bool apply_many(struct dassie__impl *impl, struct many *many,
                       struct admitted *batch)
{
    int rc = enqueue_many(impl, many, batch);
    if (rc == ADMIT_LATER) {
        return false;
    }
    impl->batch_jobs += many->n;
    impl->batch_bytes += many->bytes;
    impl->batch_work += many->bytes;
    dassie__job_list_free(&many->jobs);
    answer(impl, &many->op, OP_MANY_ACK, rc);
    return true;
}

void dassie__apply_later(struct dassie__impl *impl)
{
    struct admitted batch = {.from = impl->core.store.next};
    struct op *op;
    while (batch.n < ADMIT_JOBS_MAX && (op = impl->later.head) != NULL) {
        struct op *next = op->next; /* the op goes into another list */
        bool done = op->type == OP_ENQUEUE
                        ? apply_enqueue(impl, (job_t *)op, &batch)
                        : apply_many(impl, (struct many *)op, &batch);
        if (!done) {
            break;
        }
        impl->later.head = next;
    }
}

static void apply_finish(struct dassie__impl *impl, job_t *job)
{
    if (job->given_up) {
        dassie__core_late(&impl->core, job);
        return;
    }
    recorder_ended(&impl->recorder, job->slot); /* if async: not yet */
    if (impl->lost) {
        dassie__core_lose(&impl->core, job);
        tell_gone(impl, GONE_UNKNOWN, dassie__core_waiters(&impl->core, job));
        return;
    }
    impl->batch_work += job->out_len;
    dassie__core_finish(&impl->core, job);
}

static void apply_back(struct dassie__impl *impl, job_t *job)
{
    recorder_not_started(&impl->recorder, job->slot);
    if (impl->lost) {
        dassie__core_lose(&impl->core, job);
    } else {
        dassie__core_unclaim(&impl->core, job);
    }
}

/* Of a run that was given up nothing is saved any more. */
static void apply_save(struct dassie__impl *impl, struct op *op)
{
    if (!impl->lost && !((struct save *)op)->job->given_up) {
        dassie__saves_add(&impl->core.saves, op, impl->core.mono_ns);
    }
}

/* What was claimed for q and has not begun goes back. */
static void hold_queue(struct dassie__impl *impl, struct queue *q)
{
    for (struct server *at = q->servers; at != NULL; at = at->next) {
        dassie__apply_hand_back(impl, at->processor, 0);
    }
    dassie__core_hold(&impl->core, q);
}

static void keep_set(const dassie_keep_t *from, uint64_t *number)
{
    number[0] = from->ms;
    number[1] = from->jobs;
    number[2] = from->bytes;
}

static void settings_set(struct queue *q, const dassie_settings_t *from,
                         struct settings_row *row)
{
    *row = q->settings;
    if ((from->set & DASSIE_SET_PAUSED) != 0) {
        row->number[SETTING_PAUSED] = from->paused != 0;
    }
    if ((from->set & DASSIE_SET_ATTEMPTS) != 0) {
        row->number[SETTING_ATTEMPTS] = from->attempts_max;
    }
    if ((from->set & DASSIE_SET_BACKOFF) != 0) {
        row->number[SETTING_BACKOFF] = from->backoff_ms;
        row->number[SETTING_BACKOFF_MAX] = from->backoff_max_ms;
    }
    if ((from->set & DASSIE_SET_KEEP) != 0) {
        keep_set(&from->keep_complete, row->number + SETTING_KEEP_COMPLETE);
        keep_set(&from->keep_failed, row->number + SETTING_KEEP_FAILED);
        keep_set(&from->keep_cancelled, row->number + SETTING_KEEP_CANCELLED);
    }
    if ((from->set & DASSIE_SET_PAYLOAD) != 0) {
        row->number[SETTING_DROP_PAYLOAD] = from->drop_payload != 0;
    }
}

static void keep_tell(const uint64_t *number, dassie_keep_t *to)
{
    to->ms = number[0];
    to->jobs = number[1];
    to->bytes = number[2];
}

static void settings_tell(const struct queue *q, dassie_settings_t *to)
{
    const uint64_t *number = q->settings.number;
    to->set = DASSIE_SET_PAUSED | DASSIE_SET_ATTEMPTS | DASSIE_SET_BACKOFF |
              DASSIE_SET_KEEP | DASSIE_SET_PAYLOAD;
    keep_tell(number + SETTING_KEEP_COMPLETE, &to->keep_complete);
    keep_tell(number + SETTING_KEEP_FAILED, &to->keep_failed);
    keep_tell(number + SETTING_KEEP_CANCELLED, &to->keep_cancelled);
    to->drop_payload = number[SETTING_DROP_PAYLOAD] != 0;
    to->paused = number[SETTING_PAUSED] != 0;
    to->attempts_max = (uint32_t)number[SETTING_ATTEMPTS];
    to->backoff_ms = number[SETTING_BACKOFF];
    to->backoff_max_ms = number[SETTING_BACKOFF_MAX];
}

static int configure(struct dassie__impl *impl, struct configure *conf)
{
    struct store *s = &impl->core.store;
    struct queue *q =
        dassie__queues_find(&s->queues, conf->queue, conf->queue_len);
    if (conf->reads && q == NULL) {
        return UV_ENOENT;
    }
    int rc = conf->reads
                 ? 0
                 : dassie__store_queue(s, conf->queue, conf->queue_len, 0, &q);
    if (rc != 0) {
        return rc;
    }
    if (!conf->reads) {
        struct settings_row row;
        settings_set(q, &conf->settings, &row);
        dassie__store_settings(s, q, &row);
        if (!queue_open(q)) {
            hold_queue(impl, q);
        }
    }
    settings_tell(q, &conf->settings);
    return 0;
}

static void apply_configure(struct dassie__impl *impl, struct configure *conf)
{
    int rc = conf->reads ? refusal(impl) : change_refusal(impl);
    if (rc == 0) {
        rc = configure(impl, conf);
    }
    answer(impl, &conf->op, OP_CONFIGURE, rc);
}

static void apply_listen(struct dassie__impl *impl, struct listen_op *listen)
{
    int rc = change_refusal(impl);
    if (rc == 0 && impl->clock.fake) {
        rc = UV_ENOTSUP; /* it has no directory */
    }
    if (rc == 0) {
        rc = dassie__dir_listen(&impl->dir, &listen->fd);
        impl->listening |= rc == 0;
    }
    answer(impl, &listen->op, OP_LISTEN, rc);
}

static void apply_add(struct dassie__impl *impl, struct dassie__processor *p)
{
    if (change_refusal(impl) != 0 || impl->closing) {
        return;
    }
    int rc = dassie__core_processor_add(&impl->core, p);
    if (rc == UV_ENOMEM) {
        p->next = impl->starved;
        impl->starved = p;
        impl->starved_at = impl->core.mono_ns + STARVED_NS;
    } else if (rc != 0) {
        dassie__engine_log(impl, DASSIE_LOG_ERROR,
                           "a processor cannot serve its queues: %s",
                           dassie_strerror(rc));
    }
}

uint64_t dassie__apply_starved(struct dassie__impl *impl)
{
    if (impl->starved != NULL && impl->core.mono_ns >= impl->starved_at) {
        struct dassie__processor *list = impl->starved;
        impl->starved = NULL;
        while (list != NULL) {
            struct dassie__processor *next = list->next;
            apply_add(impl, list);
            list = next;
        }
    }
    return impl->starved != NULL ? impl->starved_at : UINT64_MAX;
}

static void forget_starved(struct dassie__impl *impl,
                           struct dassie__processor *p)
{
    struct dassie__processor **at = &impl->starved;
    while (*at != NULL && *at != p) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = p->next;
    }
}

/* Told once nothing of p is under way. */
static void stop_check(struct dassie__impl *impl, struct dassie__processor *p)
{
    if (p->stopping && p->claimed + p->hung_n == 0 && !p->stopped_told) {
        p->stopped_told = true;
        if (p->added) {
            dassie__core_processor_remove(&impl->core, p);
        }
        answer(impl, &p->stopped_op, OP_STOPPED, 0);
    }
}

static void apply_stop(struct dassie__impl *impl, struct dassie__processor *p)
{
    if (impl->open && !impl->lost) {
        /* In the order of their claims: those of this batch last. */
        dassie__apply_hand_back(impl, p, 0);
        dassie__core_processor_stop(&impl->core, p);
    }
    forget_starved(impl, p);
    p->stopping = true;
    stop_check(impl, p);
}

static void apply_close(struct dassie__impl *impl)
{
    impl->closing = true;
    impl->grace_at = grace_end(impl);
    impl->stuck_at = impl->core.mono_ns + STUCK_NS;
    if (!impl->open || impl->lost) {
        return;
    }
    for (struct dassie__processor *p = impl->core.processors; p != NULL;
         p = p->next) {
        dassie__apply_hand_back(impl, p, 0);
    }
    dassie__core_stop(&impl->core);
}

void dassie__apply_op(struct dassie__impl *impl, struct op *op)
{
    switch (op->type) {
        case OP_ENQUEUE:
            if (!apply_enqueue(impl, (job_t *)op, NULL)) {
                ops_push(&impl->later, op);
            }
            break;
        case OP_MANY:
            if (!apply_many(impl, (struct many *)op, NULL)) {
                ops_push(&impl->later, op);
            }
            break;
        case OP_FINISH:
            apply_finish(impl, (job_t *)op);
            break;
        case OP_BACK:
            apply_back(impl, (job_t *)op);
            break;
        case OP_SAVE:
            apply_save(impl, op);
            break;
        case OP_SUBSCRIBE:
            dassie__events_add(impl, (struct dassie__sub *)op);
            break;
        case OP_UNSUBSCRIBE:
            dassie__events_remove(
                impl, container_of(op, struct dassie__sub, gone_op));
            answer(impl, op, OP_UNSUBSCRIBE, 0);
            break;
        case OP_LISTEN:
            apply_listen(impl, (struct listen_op *)op);
            break;
        case OP_ADD:
            apply_add(impl, container_of(op, struct dassie__processor, add_op));
            break;
        case OP_STOP:
            apply_stop(impl,
                       container_of(op, struct dassie__processor, stop_op));
            break;
        case OP_CLOSE:
            apply_close(impl);
            break;
        case OP_CONFIGURE:
            apply_configure(impl, (struct configure *)op);
            break;
        case OP_CHANGE: /* at the begin of a batch */
            dassie__change_begin(&impl->core, (struct change *)op);
            ops_push(&impl->changes, op);
            break;
        default: /* look-ups wait for the commit */
            ops_push(&impl->after, op);
            break;
    }
}

void dassie__apply_hand_back(struct dassie__impl *impl,
                             struct dassie__processor *p, size_t keep)
{
    struct job_list back = {0};
    struct job_list kept = {0};
    job_t *job;
    if (p->work == NULL) {
        return;
    }
    uv_mutex_lock(&p->mutex);
    while (kept.n < keep && (job = job_list_pop(&p->runq)) != NULL) {
        job_list_push(&kept, job);
    }
    job_list_append(&back, &p->runq);
    job_list_append(&p->runq, &kept);
    uv_mutex_unlock(&p->mutex);
    while ((job = job_list_pop(&back)) != NULL) {
        dassie__core_unclaim(&impl->core, job);
    }
}

/* All jobs in windows, then all that are claimed. */
static void each_job(struct dassie__impl *impl,
                     void (*cb)(struct dassie__impl *impl, job_t *job))
{
    struct store *s = &impl->core.store;
    for (uint32_t i = 0; i < s->queues.n; i++) {
        struct queue *q = s->queues.by_id[i];
        for (unsigned l = 0; l < q->lines_n * LINE_KINDS; l++) {
            job_t *job =
                q->lines[l / LINE_KINDS]->kind[l % LINE_KINDS].window.head;
            for (; job != NULL; job = job->next) {
                cb(impl, job);
            }
        }
    }
    for (struct claim_set *set = s->oldest; set != NULL; set = set->next) {
        for (job_t *job = set->head; job != NULL; job = job->set_next) {
            cb(impl, job);
        }
    }
}

static void forget_req(struct dassie__impl *impl, job_t *job)
{
    if (job->id >= impl->batch_from) {
        job->req = NULL;
    }
}

/* Takes those out of a list of any jobs that wait for one of the open batch. */
static void forget_waiters(struct dassie__impl *impl, struct waiter **at)
{
    while (*at != NULL) {
        if ((*at)->id >= impl->batch_from) {
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

/* Whose enqueue is in doubt is told so, and hears of no end: not even of one in
 * the same commit. */
static void forget_doubtful(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    each_job(impl, forget_req);
    dassie__waiters_drop(&core->waiters, impl->batch_from);
    forget_waiters(impl, &core->lost);
    forget_waiters(impl, &core->deleted);
    for (job_t *job = core->told.head; job != NULL; job = job->next) {
        forget_waiters(impl, &job->waiters);
    }
}

void dassie__apply_lose(struct dassie__impl *impl)
{
    forget_doubtful(impl);
    for (struct dassie__processor *p = impl->core.processors; p != NULL;
         p = p->next) {
        job_t *job;
        while ((job = job_list_pop(&p->starting)) != NULL) {
            dassie__core_lose(&impl->core, job);
        }
        uv_mutex_lock(&p->mutex);
        struct job_list unstarted = p->runq;
        p->runq = (struct job_list){0};
        uv_mutex_unlock(&p->mutex);
        while ((job = job_list_pop(&unstarted)) != NULL) {
            dassie__core_lose(&impl->core, job);
        }
    }
    impl->core.starting = NULL;
    impl->lost = true;
}

/* False: there is no memory for it. The callback comes once. */
static bool tell_cancel(struct dassie__impl *impl, job_t *job)
{
    job_ask_end(job, UV_ECANCELED);
    if (job->processor->cancel != NULL && !job->cancel_told) {
        struct cancel *cancel = dassie__malloc(sizeof *cancel);
        if (cancel == NULL) {
            return false;
        }
        cancel->id = job->id;
        cancel->attempt = job->attempts + 1;
        answer(impl, &cancel->op, OP_CANCEL, 0);
        job->cancel_told = true;
    }
    return true;
}

bool dassie__apply_cancel_all(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    bool all = true;
    for (uint32_t i = 0; i < core->claimed_high; i++) {
        if (core->claimed[i] != NULL) {
            all &= tell_cancel(impl, core->claimed[i]);
        }
    }
    return all;
}

/* ---- Time limits ---- */

/* The runner that finds it so counts under the same mutex. What was claimed
 * behind it is for another one. */
static bool give_up_run(job_t *job)
{
    struct dassie__processor *p = job->processor;
    if (p->work == NULL) {
        return limit_give_up(job);
    }
    uv_mutex_lock(&p->mutex);
    bool given_up = limit_give_up(job);
    p->hung += given_up;
    bool more = given_up && processor_lacks_runner(p);
    uv_mutex_unlock(&p->mutex);
    if (more) {
        atomic_store(&p->wanted, true);
        dassie__engine_ring(p->impl);
    }
    return given_up;
}

bool dassie__apply_hung(void *arg, job_t *job, bool spare)
{
    struct dassie__impl *impl = arg;
    bool given_up = spare && give_up_run(job);
    if (given_up || !spare) {
        dassie__engine_log(
            impl, DASSIE_LOG_WARNING, "run %u of job %llu does not end: %s",
            (unsigned)job->attempts + 1, (unsigned long long)job->id,
            given_up ? "it is given up"
                     : "it keeps its slot, no spare one is left");
    }
    return given_up;
}

void dassie__apply_timeouts(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    dassie__core_timeouts(core);
    if (core->untold) {
        core->untold = false;
        impl->cancels_untold |= !dassie__apply_cancelled(impl);
    }
}

/* ---- Operators ---- */

bool dassie__apply_cancelled(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    bool all = true;
    for (uint32_t i = 0; i < core->claimed_high; i++) {
        job_t *job = core->claimed[i];
        if (job != NULL && job->cancel_untold) {
            job->cancel_untold = !tell_cancel(impl, job);
            all &= !job->cancel_untold;
        }
    }
    return all;
}

static void change_end(struct dassie__impl *impl, struct change *change,
                       int status)
{
    change->status = status;
    answer(impl, &change->op, OP_CHANGE, status);
}

void dassie__apply_changes(struct dassie__impl *impl)
{
    struct changed touched = {.n = 0};
    struct ops unfinished = {NULL, NULL};
    struct op *op;
    while ((op = ops_pop(&impl->changes)) != NULL) {
        struct change *change = (struct change *)op;
        int status = change_refusal(impl);
        if (status == 0 &&
            !dassie__change_step(&impl->core, change, &touched)) {
            ops_push(&unfinished, op);
            continue;
        }
        change_end(impl, change, status == 0 ? change->status : status);
    }
    impl->changes = unfinished;
    impl->cancels_untold = !dassie__apply_cancelled(impl);
}

/* ---- After the commit ---- */

static void tell_ends(struct dassie__impl *impl, int status)
{
    job_t *job;
    while ((job = job_list_pop(&impl->core.told)) != NULL) {
        if (job->waiters == NULL) {
            job_list_push(&impl->core.gone, job);
        } else {
            answer(impl, &job->op, OP_DONE, status);
        }
    }
}

/* Gives the claimed jobs to the runners, and rings the loop if more of them
 * are needed. */
static bool start_work(struct dassie__processor *p)
{
    uv_mutex_lock(&p->mutex);
    job_list_append(&p->runq, &p->starting);
    bool more = processor_lacks_runner(p);
    if (p->waiting > 1 && p->runq.n > 1) {
        uv_cond_broadcast(&p->cond);
    } else if (p->waiting > 0) {
        uv_cond_signal(&p->cond);
    }
    uv_mutex_unlock(&p->mutex);
    if (more) {
        atomic_store(&p->wanted, true);
    }
    return more;
}

static void start_async(struct dassie__impl *impl, struct dassie__processor *p)
{
    job_t *job;
    while ((job = job_list_pop(&p->starting)) != NULL) {
        recorder_executing(&impl->recorder, job->slot);
        answer(impl, &job->op, OP_START, 0);
    }
}

static bool start_claimed(struct dassie__impl *impl)
{
    bool ring = false;
    while (impl->core.starting != NULL) {
        struct dassie__processor *p = impl->core.starting;
        impl->core.starting = p->starting_next;
        if (p->work != NULL) {
            ring |= start_work(p);
        } else {
            start_async(impl, p);
        }
    }
    return ring;
}

static void after_counts(struct dassie__impl *impl, struct counts_look *look)
{
    struct queues *qs = &impl->core.store.queues;
    const struct queue *q = NULL;
    int status = refusal(impl);
    if (status == 0 && look->queue == NULL) {
        dassie__count_copy(&look->count, &qs->tally);
    } else if (status == 0) {
        q = dassie__queues_find(qs, look->queue, look->queue_len);
        status = q == NULL ? UV_ENOENT : 0;
    }
    if (q != NULL) {
        dassie__count_copy(&look->count, &q->tally);
    }
    answer(impl, &look->op, OP_COUNTS, status);
}

static void after_queues(struct dassie__impl *impl, struct queues_look *look)
{
    const struct queues *qs = &impl->core.store.queues;
    int status = refusal(impl);
    if (status == 0 && qs->n > 0) {
        look->infos = dassie__calloc(qs->n, sizeof look->infos[0]);
        status = look->infos == NULL ? UV_ENOMEM : 0;
    }
    for (uint32_t i = 0; status == 0 && i < qs->n; i++) {
        const struct queue *q = qs->by_id[i];
        dassie_queue_info_t *info = &look->infos[look->n++];
        info->name = q->name;
        info->name_len = q->name_len;
        info->paused = !queue_open(q);
        dassie__count_copy(&info->jobs, &q->tally);
        info->pending_bytes = q->tally.pending_bytes;
    }
    answer(impl, &look->op, OP_QUEUES, status);
}

static void after_look(struct dassie__impl *impl, struct look *look)
{
    look->status = refusal(impl);
    if (look->status != 0 || !dassie__look_capture(look, &impl->core)) {
        answer(impl, &look->op, OP_LOOK, 0);
        return;
    }
    if (!impl->core.store.kv->ops->shared_reads ||
        dassie__reader_start(impl, &impl->reader) != 0) {
        dassie__look_run(look);
        answer(impl, &look->op, OP_LOOK, 0);
        return;
    }
    dassie__reader_push(&impl->reader, &look->op);
}

static void after_survey(struct dassie__impl *impl, struct survey *survey)
{
    survey->status = refusal(impl);
    if (survey->status != 0) {
        answer(impl, &survey->op, OP_SURVEY, 0);
        return;
    }
    survey->kv = impl->core.store.kv;
    survey->stop = &impl->survey_stop;
    if (impl->core.store.kv->ops->shared_reads) {
        survey->status = dassie__reader_start(impl, &impl->surveyor);
        if (survey->status == 0) {
            dassie__reader_push(&impl->surveyor, &survey->op);
            return;
        }
    } else {
        dassie__survey_run(survey);
    }
    answer(impl, &survey->op, OP_SURVEY, 0);
}

/* Looks up the end that w waits for. False: there is no memory. */
static bool look_end(struct dassie__impl *impl, struct waiter *w)
{
    struct look *look = dassie__look_new(
        LOOK_WATCH, container_of(w, struct watch_priv, waiter));
    if (look != NULL) {
        look->id = w->id;
        look->op.type = OP_LOOK;
        after_look(impl, look);
    }
    return look != NULL;
}

/* A job that has ended is looked up; any other is waited for. */
static void after_watch(struct dassie__impl *impl, struct watch_priv *priv)
{
    struct waiter *w = &priv->waiter;
    int status = refusal(impl);
    if (status == 0) {
        status = dassie__store_ended(&impl->core.store, w->id);
    }
    if (status == 0) {
        status = dassie__waiters_add(&impl->core.waiters, w, w->id);
    } else if (status == 1) {
        status = look_end(impl, w) ? 0 : UV_ENOMEM;
    }
    if (status == 0) {
        return;
    }
    priv->waiter.next = NULL;
    answer(impl, &priv->op, OP_WATCH, status);
}

/* A queue that is not there has no jobs. */
static bool is_drained(struct dassie__impl *impl,
                       const struct drain_priv *drain)
{
    struct queues *qs = &impl->core.store.queues;
    const struct tally *tally = &qs->tally;
    if (drain->queue != NULL) {
        const struct queue *q =
            dassie__queues_find(qs, drain->queue, drain->queue_len);
        if (q == NULL) {
            return true;
        }
        tally = &q->tally;
    }
    return tally->pending == 0 && tally->running == 0;
}

static void tell_drained(struct dassie__impl *impl)
{
    struct ops drains = impl->drains;
    struct op *op;
    memset(&impl->drains, 0, sizeof impl->drains);
    while ((op = ops_pop(&drains)) != NULL) {
        if (!impl->open || is_drained(impl, (struct drain_priv *)op)) {
            answer(impl, op, OP_DRAIN, refusal(impl));
        } else {
            ops_push(&impl->drains, op);
        }
    }
}

static void after_commit(struct dassie__impl *impl)
{
    struct op *op;
    while ((op = ops_pop(&impl->after)) != NULL) {
        switch (op->type) {
            case OP_COUNTS:
                after_counts(impl, (struct counts_look *)op);
                break;
            case OP_QUEUES:
                after_queues(impl, (struct queues_look *)op);
                break;
            case OP_WATCH:
                after_watch(impl, (struct watch_priv *)op);
                break;
            case OP_DRAIN:
                ops_push(&impl->drains, op);
                break;
            case OP_SURVEY:
                after_survey(impl, (struct survey *)op);
                break;
            default:
                after_look(impl, (struct look *)op);
                break;
        }
    }
    tell_drained(impl);
}

/* After their acknowledgements. */
static void tell_all_gone(struct dassie__impl *impl, int status)
{
    if (impl->core.deleted != NULL) {
        tell_gone(impl, status == 0 ? GONE_DELETED : GONE_UNKNOWN,
                  impl->core.deleted);
        impl->core.deleted = NULL;
    }
    if (impl->core.lost != NULL) {
        tell_gone(impl, GONE_NO_MEMORY, impl->core.lost);
        impl->core.lost = NULL;
    }
}

/* Who met a job with the same unique key is told of its end. */
static void tell_joined(struct dassie__impl *impl, int status)
{
    struct waiter *list = impl->joined;
    impl->joined = NULL;
    while (list != NULL) {
        struct waiter *w = list;
        list = w->next;
        if (status != 0) {
            continue; /* its acknowledgement has told all */
        }
        int rc = dassie__store_ended(&impl->core.store, w->id);
        w->next = NULL;
        if (rc == UV_ENOENT) {
            tell_gone(impl, GONE_DELETED, w);
            continue;
        }
        bool waits =
            rc == 0 ? dassie__waiters_add(&impl->core.waiters, w, w->id) == 0
                    : look_end(impl, w);
        if (!waits) {
            tell_gone(impl, GONE_NO_MEMORY, w);
        }
    }
    if (impl->answers.head != NULL) {
        dassie__outbox_post(impl, &impl->answers);
    }
}

void dassie__apply_committed(struct dassie__impl *impl, int status)
{
    bool ring = false;
    if (status != 0) {
        for (struct op *op = impl->answers.head; op != NULL; op = op->next) {
            if ((op->type == OP_ACK || op->type == OP_MANY_ACK ||
                 op->type == OP_CHANGE || op->type == OP_CONFIGURE) &&
                op->status == 0) {
                op->status = status;
            }
        }
    }
    tell_ends(impl, status);
    if (impl->open && status == 0) {
        dassie__core_committed(&impl->core);
        ring = start_claimed(impl);
    }
    for (struct dassie__processor *p = impl->core.processors; p != NULL;) {
        struct dassie__processor *next = p->next;
        stop_check(impl, p);
        p = next;
    }
    after_commit(impl);
    ring |= dassie__events_publish(impl, status == 0);
    if (ring || impl->answers.head != NULL) {
        dassie__outbox_post(impl, &impl->answers);
    }
    tell_all_gone(impl, status);
    tell_joined(impl, status);
}

/* ---- The end ---- */

static void forsake_job(struct dassie__impl *impl, job_t *job)
{
    struct waiter *list = dassie__core_waiters(&impl->core, job);
    if (list != NULL) {
        tell_gone(impl, GONE_CLOSED, list);
    }
}

void dassie__apply_forsake(struct dassie__impl *impl)
{
    struct waiter *list;
    struct op *op;
    each_job(impl, forsake_job);
    while ((list = dassie__waiters_take_any(&impl->core.waiters)) != NULL) {
        tell_gone(impl, GONE_CLOSED, list);
    }
    while ((op = ops_pop(&impl->drains)) != NULL) {
        answer(impl, op, OP_DRAIN, UV_ECANCELED);
    }
    while ((op = ops_pop(&impl->changes)) != NULL) {
        answer(impl, op, OP_CHANGE, UV_ECANCELED);
    }
    dassie__outbox_post(impl, &impl->answers);
}
