#include "config.h"

#include "core.h"

#include "alloc.h"
#include "expire.h"

/* ---- Waiting for an end ---- */

static struct waiter *req_waiter(dassie_enqueue_t *req)
{
    return &((struct enqueue_priv *)req->reserved)->waiter;
}

/* The job leaves memory: whoever waits for its end waits by its id. */
static void job_leave(struct core *c, job_t *job)
{
    if (job->req != NULL) {
        struct waiter *w = req_waiter(job->req);
        if (dassie__waiters_add(&c->waiters, w, job->id) != 0) {
            w->next = c->lost;
            c->lost = w;
        }
    }
    job_list_push(&c->gone, job);
}

struct waiter *dassie__core_waiters(struct core *c, job_t *job)
{
    struct waiter *list = dassie__waiters_take(&c->waiters, job->id);
    if (job->req != NULL) {
        struct waiter *w = req_waiter(job->req);
        w->id = job->id;
        w->next = list;
        list = w;
        job->req = NULL;
    }
    return list;
}

/* The job has ended: it is told after the commit. */
static void job_tell(struct core *c, job_t *job)
{
    job->waiters = dassie__core_waiters(c, job);
    job_list_push(&c->told, job);
}

/* It is gone, and will have no end. */
static void job_drop(struct core *c, job_t *job)
{
    struct waiter *list = dassie__core_waiters(c, job);
    while (list != NULL) {
        struct waiter *next = list->next;
        list->next = c->deleted;
        c->deleted = list;
        list = next;
    }
    job_list_push(&c->gone, job);
}

void dassie__core_moved(struct core *c, job_t *job, bool kept)
{
    if (job->state == STATE_NONE) {
        job_drop(c, job);
    } else if (kept) {
        job_tell(c, job);
    } else {
        job_leave(c, job);
    }
}

/* ---- Claims ---- */

static bool core_may_claim(const struct core *c)
{
    return !c->stopping && c->alone == NULL && c->hold_until == 0;
}

/* How many more jobs p may have, those ahead of its slots included. */
static unsigned processor_room(const struct dassie__processor *p)
{
    unsigned most = p->slots;
    uint64_t run_ns = atomic_load_explicit(&p->run_ns, memory_order_relaxed);
    if (p->start == NULL && run_ns > 0 && p->claimed_bytes < AHEAD_BYTES_MAX) {
        uint64_t ahead = (uint64_t)AHEAD_NS * p->slots / run_ns;
        most += ahead < AHEAD_JOBS_MAX ? (unsigned)ahead : AHEAD_JOBS_MAX;
    }
    return p->stopping || p->claimed >= most ? 0 : most - p->claimed;
}

static void claim_begin(struct core *c, struct dassie__processor *p, job_t *job)
{
    job->slot = dassie__recorder_take(c->recorder, job->id, job->attempts + 1);
    if (c->recorder->unmapped && (job->flags & DASSIE_AT_MOST_ONCE) != 0) {
        recorder_executing(c->recorder, job->slot);
    }
    job->processor = p;
    dassie__limits_claim(&c->limits, job, c->mono_ns);
    c->claimed[job->slot] = job;
    c->claimed_n++;
    if (job->slot >= c->claimed_high) {
        c->claimed_high = job->slot + 1;
    }
    p->claimed++;
    p->claimed_bytes += job->row_len;
    c->stats.claimed++;
    if (p->starting.n == 0) {
        p->starting_next = c->starting;
        c->starting = p;
    }
    job_list_push(&p->starting, job);
}

static void claim_forget(struct core *c, job_t *job)
{
    dassie__limits_remove(&c->limits, job);
    c->claimed[job->slot] = NULL;
    c->claimed_n--;
    job->processor->claimed--;
    job->processor->claimed_bytes -= job->row_len;
}

/* The slot itself is free only once the outcome is committed. */
static void claim_end(struct core *c, job_t *job)
{
    claim_forget(c, job);
    c->released[c->released_n++] = job->slot;
    job->processor = NULL;
    if (job == c->alone) {
        c->alone = NULL;
    }
}

static void policy_of(const struct core *c, const job_t *job,
                      struct retry_policy *policy)
{
    struct job_row row;
    dassie__job_row_read(job->row, job->row_len, &row); /* ours */
    const uint64_t *number = row.options.number;
    policy->attempts_max = number[JOB_ATTEMPTS];
    policy->backoff_ms = number[JOB_BACKOFF];
    policy->backoff_max_ms = number[JOB_BACKOFF_MAX];
    policy->until_ms =
        number[JOB_RETRY_FOR] == 0
            ? UINT64_MAX
            : dassie__time_add(
                  job->since_ms != 0 ? job->since_ms : row.enqueued_ms,
                  number[JOB_RETRY_FOR]);
    const uint64_t *setting = job->queue->settings.number;
    if (policy->attempts_max == 0 && (job->flags & DASSIE_AT_MOST_ONCE) == 0) {
        policy->attempts_max = setting[SETTING_ATTEMPTS];
    }
    if (policy->backoff_ms == 0) {
        policy->backoff_ms = setting[SETTING_BACKOFF];
    }
    if (policy->backoff_max_ms == 0) {
        policy->backoff_max_ms = setting[SETTING_BACKOFF_MAX];
    }
    if (policy->attempts_max == 0) {
        bool once = (job->flags & DASSIE_AT_MOST_ONCE) != 0;
        policy->attempts_max = once ? 1 : c->options.attempts_max;
    }
    if (policy->backoff_ms == 0) {
        policy->backoff_ms = DASSIE_BACKOFF_MS;
    }
    if (policy->backoff_max_ms == 0) {
        policy->backoff_max_ms = DASSIE_BACKOFF_MAX_MS;
    }
}

/* A run that has failed is followed by another one, or is the last. */
static enum event failed_event(struct core *c, job_t *job)
{
    struct retry_policy policy;
    uint32_t n = job->attempts - job->excused + 1;
    policy_of(c, job, &policy);
    uint64_t delay = job->verdict == VERDICT_RETRY ? job->again_ms
                     : c->options.random == NULL
                         ? dassie__retry_backoff(&policy, n)
                         : dassie__retry_delay(&policy, n, c->options.random());
    job->due_ms = dassie__time_add(c->wall_ms, delay);
    return job->verdict != VERDICT_NO_RETRY &&
                   dassie__retry_may(&policy, n, job->due_ms)
               ? EVENT_RETRY
               : EVENT_FAIL;
}

/* A cancelled job is not tried again, nor snoozed. */
static enum event cancelled_event(job_t *job)
{
    if (job->status == 0 && job->verdict == VERDICT_SNOOZE) {
        dassie__job_cancel(job);
    }
    if (job->timed_out && job->status == UV_ETIMEDOUT) {
        dassie__job_cancel(job); /* the answer to both */
    }
    if (job->status == UV_ECANCELED) {
        return EVENT_ABORT;
    }
    return job->status == 0 ? EVENT_COMPLETE : EVENT_FAIL;
}

static enum event finish_event(struct core *c, job_t *job)
{
    if (job->cancel_asked) {
        return cancelled_event(job);
    }
    if (job->timed_out) {
        dassie__limit_settle(job);
    }
    /* It was asked to end, and goes on when the store is opened again. */
    if (c->stopping && job->status == UV_ECANCELED &&
        (job->flags & DASSIE_AT_MOST_ONCE) == 0) {
        dassie__job_begin(job);
        job->due_ms = c->wall_ms;
        return EVENT_SNOOZE;
    }
    if (job->status != 0) {
        return failed_event(c, job);
    }
    if (job->verdict == VERDICT_SNOOZE) {
        job->due_ms = dassie__time_add(c->wall_ms, job->again_ms);
        return EVENT_SNOOZE;
    }
    return EVENT_COMPLETE;
}

/* Of the wait for its first run, and of its run. */
static void run_measure(const struct core *c, const job_t *job)
{
    struct meter *meter = job->queue->meter;
    if (job->attempts == 0) {
        uint64_t ago_ms = (c->mono_ns - job->began_ns) / 1000000;
        uint64_t began_ms = c->wall_ms - ago_ms;
        histogram_add(&meter->waiting, &dassie__scale_waiting,
                      began_ms > job->ready_ms ? began_ms - job->ready_ms : 0);
    }
    histogram_add(&meter->running, &dassie__scale_running,
                  (job->ran_ns + 500) / 1000);
}

void dassie__core_finish(struct core *c, job_t *job)
{
    bool kept;
    run_measure(c, job);
    enum event event = finish_event(c, job);
    job->ended_ms = c->wall_ms;
    dassie__saves_end(&c->saves, &c->store, job, event == EVENT_COMPLETE);
    claim_end(c, job);
    dassie__store_move(&c->store, job, event, &kept);
    c->stats.cancelled += event == EVENT_ABORT;
    c->stats.completed += event == EVENT_COMPLETE;
    c->stats.failed += event == EVENT_FAIL;
    c->stats.retried += event == EVENT_RETRY;
    c->stats.snoozed += event == EVENT_SNOOZE;
    dassie__core_moved(c, job, kept);
}

void dassie__core_unclaim(struct core *c, job_t *job)
{
    bool kept;
    claim_end(c, job);
    if (job->cancel_asked) {
        dassie__core_cancel(c, job);
        dassie__store_move(&c->store, job, EVENT_CANCEL, &kept);
        job_tell(c, job);
        return;
    }
    dassie__store_move(&c->store, job, EVENT_UNCLAIM, &kept);
    c->stats.unclaimed++;
    if (!kept) {
        job_leave(c, job);
    }
}

void dassie__core_lose(struct core *c, job_t *job)
{
    claim_forget(c, job);
}

void dassie__core_committed(struct core *c)
{
    dassie__job_list_free(&c->gone);
    while (c->released_n > 0) {
        dassie__recorder_release(c->recorder, c->released[--c->released_n]);
    }
    while (c->claimed_high > 0 && c->claimed[c->claimed_high - 1] == NULL) {
        c->claimed_high--;
    }
}

job_t *dassie__core_claimed(const struct core *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->claimed_high; i++) {
        if (c->claimed[i] != NULL && c->claimed[i]->id == id) {
            return c->claimed[i];
        }
    }
    return NULL;
}

void dassie__core_cancel(struct core *c, job_t *job)
{
    dassie__job_cancel(job);
    job->ended_ms = c->wall_ms;
    c->stats.cancelled++;
}

/* ---- Enqueue ---- */

/* That of a processor which can start a job of q at once, with nothing before
 * it. */
static struct server *idle_server(struct core *c, const struct queue *q,
                                  unsigned flags)
{
    if (q->tally.pending > 0 || !queue_open(q) || !core_may_claim(c) ||
        c->recorder->free_n == 0) {
        return NULL;
    }
    for (struct server *at = q->servers; at != NULL; at = at->next) {
        struct dassie__processor *p = at->processor;
        bool slot = !p->stopping && p->claimed < p->slots;
        bool room = slot || ((flags & DASSIE_AT_MOST_ONCE) == 0 &&
                             processor_room(p) > 0);
        if (room && dassie__turn_would_be(at)) {
            return at;
        }
    }
    return NULL;
}

int dassie__core_prepare(struct core *c, job_t *job)
{
    if (c->refuse != 0) {
        return c->refuse;
    }
    return dassie__store_queue(&c->store, job->batch_queue,
                               job->batch_queue_len, job->priority,
                               &job->queue);
}

void dassie__core_enter(struct core *c, job_t *job)
{
    struct server *server = dassie__expire_is_late(job, c->wall_ms)
                                ? NULL
                                : idle_server(c, job->queue, job->flags);
    c->stats.enqueued++;
    if (job->due_ms > 0) {
        dassie__store_insert(&c->store, job, EVENT_SCHEDULE);
        job_leave(c, job);
    } else if (server != NULL && dassie__store_prepare_claim(&c->store) == 0) {
        dassie__store_insert(&c->store, job, EVENT_HAND_OFF);
        c->stats.handed_off++;
        dassie__turn_take(server);
        claim_begin(c, server->processor, job);
    } else if (!dassie__store_insert(&c->store, job, EVENT_ENQUEUE)) {
        job_leave(c, job);
    }
}

int dassie__core_enqueue(struct core *c, job_t *job)
{
    int rc = dassie__core_prepare(c, job);
    if (rc == 0) {
        dassie__core_enter(c, job);
    }
    return rc;
}

/* ---- What is due ---- */

void dassie__core_promote(struct core *c)
{
    unsigned n = 0;
    c->promote_again = false;
    if (c->stopping || dassie__schedule_due(&c->store) > c->wall_ms ||
        (c->promote_error != 0 && c->mono_ns < c->retry_at)) {
        return;
    }
    c->promote_error = dassie__schedule_promote(&c->store, c->wall_ms,
                                                PROMOTE_MAX, &n, &c->error);
    c->stats.promoted += n;
    c->promote_passed = c->store.passed > 0;
    job_t *job;
    while ((job = job_list_pop(&c->store.expired)) != NULL) {
        c->stats.cancelled++;
        dassie__core_moved(c, job, true);
    }
    c->promote_again =
        c->promote_error == 0 && dassie__schedule_due(&c->store) <= c->wall_ms;
}

void dassie__core_sweep(struct core *c)
{
    uint64_t n = 0;
    if (c->stopping || dassie__sweep_due(&c->store) > c->wall_ms) {
        return;
    }
    int rc = dassie__sweep_step(&c->store, c->wall_ms, &n, &c->sweep_text);
    c->stats.swept += n;
    if (rc == 0 && c->store.sweep.passed > 0) {
        rc = DASSIE_ECORRUPT;
    }
    if (rc != 0 || !c->store.sweep.under_way) {
        c->sweep_error = rc;
    }
    c->sweep_at = c->mono_ns + SWEEP_REST_NS;
    c->sweep_earned = 0;
}

bool dassie__core_may_sweep(const struct core *c)
{
    return dassie__sweep_due(&c->store) <= c->wall_ms &&
           (c->sweep_earned >= SWEEP_ROWS_MAX || c->mono_ns >= c->sweep_at);
}

void dassie__core_applied(struct core *c, unsigned operations)
{
    c->sweep_earned += operations;
    if (c->sweep_earned > SWEEP_ROWS_MAX) {
        c->sweep_earned = SWEEP_ROWS_MAX;
    }
}

static uint64_t sweep_due(const struct core *c)
{
    uint64_t due_ms = dassie__sweep_due(&c->store);
    if (due_ms == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t ms = due_ms > c->wall_ms ? due_ms - c->wall_ms : 0;
    ms = ms < SLEEP_MS_MAX ? ms : SLEEP_MS_MAX;
    uint64_t due = c->mono_ns + ms * 1000000;
    return due > c->sweep_at || c->sweep_earned >= SWEEP_ROWS_MAX ? due
                                                                  : c->sweep_at;
}

/* When the schedule is to be looked at again. A clock may be set: so long ahead
 * only. */
static uint64_t promote_due(const struct core *c)
{
    uint64_t due_ms = dassie__schedule_due(&c->store);
    if (due_ms == UINT64_MAX || c->promote_error != 0) {
        return UINT64_MAX;
    }
    uint64_t ms = due_ms > c->wall_ms ? due_ms - c->wall_ms : 0;
    ms = ms < CLOCK_MS_MAX ? ms : CLOCK_MS_MAX;
    return c->mono_ns + ms * 1000000;
}

/* ---- Dispatch ---- */

/* The next job of q. Those for which it is too late are cancelled as they are
 * claimed, so many in a batch. */
static job_t *claim_in_time(struct core *c, struct queue *q, enum claim_how how,
                            int *rc)
{
    bool kept;
    *rc = 0;
    while (c->late_n < LATE_JOBS_MAX) {
        job_t *job = dassie__store_claim(&c->store, q, how, rc, &c->error);
        if (job == NULL || !dassie__expire_is_late(job, c->wall_ms)) {
            return job;
        }
        c->late_n++;
        dassie__expire_end(job, c->wall_ms);
        c->stats.cancelled++;
        dassie__store_move(&c->store, job, EVENT_CANCEL, &kept);
        job_tell(c, job);
    }
    return NULL;
}

/* The next job for p: of the queue whose turn it is. What cannot be read is
 * passed over. */
static job_t *claim_next(struct core *c, struct dassie__processor *p,
                         enum claim_how how)
{
    struct server *s;
    while ((s = dassie__turns_first(&p->turns)) != NULL) {
        int rc;
        job_t *job = claim_in_time(c, s->queue, how, &rc);
        if (job != NULL) {
            dassie__turn_take(s);
            return job;
        }
        if (rc != 0) {
            c->broken = rc;
            dassie__turn_set_aside(s);
        } else if (s->queue->ready) {
            /* It has one, to be claimed with a free slot only, or once this
             * batch is committed and its rows can be read: no later queue goes
             * before. */
            c->again |= how != CLAIM_AHEAD && store_changed(&c->store);
            break;
        }
    }
    return NULL;
}

static void processor_fill(struct core *c, struct dassie__processor *p)
{
    while (c->recorder->free_n > 0 && processor_room(p) > 0) {
        bool slot = p->claimed < p->slots;
        job_t *job = claim_next(c, p, slot ? CLAIM_NOW : CLAIM_AHEAD);
        if (job == NULL) {
            break;
        }
        claim_begin(c, p, job);
    }
    dassie__turns_gather(&p->turns);
}

/* The next queue of p, from *at on, with suspects that can run. */
static struct queue *suspects_next(const struct dassie__processor *p,
                                   unsigned *at)
{
    while (!p->stopping && *at < p->turns.n) {
        struct queue *q = p->turns.servers[(*at)++].queue;
        if (queue_open(q) && q->live[LINE_SUSPECT] != 0) {
            return q;
        }
    }
    return NULL;
}

static job_t *suspect_from(struct core *c, struct dassie__processor *p)
{
    unsigned at = 0;
    struct queue *q;
    while ((q = suspects_next(p, &at)) != NULL) {
        int rc;
        job_t *job = claim_in_time(c, q, CLAIM_ALONE, &rc);
        if (job != NULL) {
            return job;
        }
        if (rc != 0) {
            c->broken = rc;
        } else if (q->live[LINE_SUSPECT] != 0) {
            c->again |= store_changed(&c->store); /* as above */
        }
    }
    return NULL;
}

/* Claims a suspect where one can run. */
static bool suspect_claim(struct core *c, bool alone)
{
    if (c->recorder->free_n == 0) {
        return false;
    }
    for (struct dassie__processor *p = c->processors; p != NULL; p = p->next) {
        if (p->claimed >= p->slots) {
            continue;
        }
        job_t *job = suspect_from(c, p);
        if (job == NULL) {
            continue;
        }
        claim_begin(c, p, job);
        if (alone) {
            c->alone = job;
            c->alone_until = c->mono_ns + c->options.suspect_ns;
            recorder_alone(c->recorder, job->slot, true);
        }
        return true;
    }
    return false;
}

static bool suspect_can_run(const struct core *c)
{
    for (struct dassie__processor *p = c->processors; p != NULL; p = p->next) {
        unsigned at = 0;
        if (suspects_next(p, &at) != NULL) {
            return true;
        }
    }
    return false;
}

/* Suspects run alone, one after the other; the others are held until then, but
 * no longer than suspect_ms. A suspect that cannot run here holds up nobody,
 * and one that could not start even then does not do so again. */
static void dispatch_suspects(struct core *c)
{
    if (c->alone != NULL && c->mono_ns >= c->alone_until) {
        recorder_alone(c->recorder, c->alone->slot, false);
        c->alone = NULL;
    }
    if (c->alone != NULL) {
        return;
    }
    if (c->store.suspects == 0 || !suspect_can_run(c)) {
        c->hold_until = 0;
        c->held_in_vain = false;
        return;
    }
    if (c->claimed_n > 0 && c->hold_until == 0 && !c->held_in_vain) {
        c->hold_until = c->mono_ns + c->options.suspect_ns;
    } else if (c->claimed_n == 0 || c->mono_ns >= c->hold_until) {
        c->hold_until = 0;
        c->held_in_vain = !suspect_claim(c, c->claimed_n == 0);
    }
}

/* Whatever else happens meanwhile, what cannot be read is tried again by
 * then: nothing may ever happen. */
static void retry_later(struct core *c)
{
    if (c->broken == 0) {
        c->retry_ns = 0;
    } else if (c->retry_ns == 0 || c->mono_ns >= c->retry_at) {
        if (c->retry_ns > 0) {
            dassie__schedule_again(&c->store);
        }
        c->retry_ns = c->retry_ns == 0 ? RETRY_NS_MIN : 2 * c->retry_ns;
        c->retry_ns = c->retry_ns < RETRY_NS_MAX ? c->retry_ns : RETRY_NS_MAX;
        c->retry_at = c->mono_ns + c->retry_ns;
    }
}

/* What keeps scheduled jobs from being looked at. What was passed over may be
 * gone, or about to be tried again. */
static int schedule_error(struct core *c)
{
    c->promote_passed &=
        c->store.passed > 0 || dassie__schedule_due(&c->store) <= c->wall_ms;
    return c->promote_error != 0 ? c->promote_error
           : c->promote_passed   ? DASSIE_ECORRUPT
                                 : 0;
}

void dassie__core_dispatch(struct core *c)
{
    if (c->stopping) {
        return;
    }
    c->broken = schedule_error(c);
    c->again = false;
    c->late_n = 0;
    dassie__sweep_clock(&c->store, c->wall_ms);
    dispatch_suspects(c);
    for (struct dassie__processor *p = c->processors;
         p != NULL && core_may_claim(c); p = p->next) {
        processor_fill(c, p);
    }
    /* Slots of what has ended in this batch are free after its commit only. */
    c->again |= c->recorder->free_n == 0 && c->released_n > 0;
    retry_later(c);
}

uint64_t dassie__core_due(const struct core *c)
{
    if (c->stopping) {
        return UINT64_MAX;
    }
    if (c->again) {
        return c->mono_ns;
    }
    uint64_t due = promote_due(c);
    uint64_t sweep = sweep_due(c);
    due = sweep < due ? sweep : due;
    uint64_t suspects = c->alone != NULL ? c->alone_until : c->hold_until;
    if (c->broken != 0 && c->retry_at < due) {
        due = c->retry_at;
    }
    return suspects != 0 && suspects < due ? suspects : due;
}

/* ---- Processors ---- */

static void serve(struct core *c, struct queue *q, int d)
{
    struct job_list left = {0};
    job_t *job;
    dassie__store_serve(&c->store, q, d, &left);
    while ((job = job_list_pop(&left)) != NULL) {
        job_leave(c, job);
    }
}

static int server_add(struct core *c, struct dassie__processor *p, unsigned i)
{
    struct server *server = &p->turns.servers[i];
    int rc = dassie__store_queue(&c->store, p->bufs[i].base, p->bufs[i].len, 0,
                                 &server->queue);
    if (rc != 0) {
        return rc;
    }
    server->processor = p;
    server->next = server->queue->servers;
    server->queue->servers = server;
    dassie__turn_ready(server, server->queue->ready);
    serve(c, server->queue, 1);
    return 0;
}

static void server_remove(struct core *c, struct server *server)
{
    struct server **at = &server->queue->servers;
    while (*at != server) {
        at = &(*at)->next;
    }
    *at = server->next;
    dassie__turn_ready(server, false);
    serve(c, server->queue, -1);
}

int dassie__core_processor_add(struct core *c, struct dassie__processor *p)
{
    uint32_t queues = c->store.queues.n;
    for (unsigned i = 0; i < p->turns.n; i++) {
        int rc = server_add(c, p, i);
        if (rc != 0) {
            while (i-- > 0) {
                server_remove(c, &p->turns.servers[i]);
            }
            dassie__queues_drop(&c->store.queues, queues);
            return rc;
        }
    }
    struct dassie__processor **at = &c->processors;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = p;
    p->next = NULL;
    p->added = true;
    return 0;
}

/* What was claimed for p in the open batch goes back within it. */
static void starting_unclaim(struct core *c, struct dassie__processor *p)
{
    struct dassie__processor **at = &c->starting;
    job_t *job;
    while (*at != NULL && *at != p) {
        at = &(*at)->starting_next;
    }
    if (*at == p) {
        *at = p->starting_next;
    }
    while ((job = job_list_pop(&p->starting)) != NULL) {
        dassie__core_unclaim(c, job);
    }
}

void dassie__core_hold(struct core *c, struct queue *q)
{
    for (struct server *at = q->servers; at != NULL; at = at->next) {
        starting_unclaim(c, at->processor);
    }
}

void dassie__core_processor_stop(struct core *c, struct dassie__processor *p)
{
    p->stopping = true;
    starting_unclaim(c, p);
}

void dassie__core_processor_remove(struct core *c, struct dassie__processor *p)
{
    struct dassie__processor **at = &c->processors;
    for (unsigned i = 0; i < p->turns.n; i++) {
        server_remove(c, &p->turns.servers[i]);
    }
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    p->added = false;
}

void dassie__core_stop(struct core *c)
{
    c->stopping = true;
    if (c->options.read_only) {
        c->claimed_n = 0; /* they are nobody's, and stay so */
        c->claimed_high = 0;
    }
    for (struct dassie__processor *p = c->processors; p != NULL; p = p->next) {
        starting_unclaim(c, p);
    }
}

/* ---- Open and close ---- */

static void recover_job(struct core *c, job_t *job, enum found found)
{
    enum event event = dassie__store_recover(
        &c->store, job, found, c->options.crashes_max, c->wall_ms);
    c->stats.interrupted += event != EVENT_UNCLAIM;
    c->stats.unrecorded += found == FOUND_UNKNOWN;
}

/* What the last process had claimed is running, as far as can be told. */
static int adopt(struct core *c, struct errmsg *e)
{
    struct job_list claimed = {0};
    job_t *job;
    int rc = dassie__store_claimed(&c->store, &claimed, e);
    if (rc == 0 && claimed.n > DASSIE_CLAIMED_MAX) {
        rc = dassie__errmsg_set(e, DASSIE_ECORRUPT, "too many claimed jobs");
    }
    while (rc == 0 && (job = job_list_pop(&claimed)) != NULL) {
        c->claimed[c->claimed_n++] = job;
    }
    c->claimed_high = c->claimed_n;
    return rc;
}

/* Those that were executing go first, then those that had only been claimed,
 * each in the order of their claims. */
static int recover(struct core *c, struct errmsg *e)
{
    struct job_list claimed = {0};
    struct job_list unstarted = {0};
    job_t *job;
    int rc = dassie__store_claimed(&c->store, &claimed, e);
    if (rc != 0) {
        return rc;
    }
    while ((job = job_list_pop(&claimed)) != NULL) {
        enum found found =
            dassie__recorder_found(c->recorder, job->id, job->attempts + 1);
        if (found == FOUND_NOT_STARTED) {
            job_list_push(&unstarted, job);
        } else {
            recover_job(c, job, found);
        }
    }
    while ((job = job_list_pop(&unstarted)) != NULL) {
        recover_job(c, job, FOUND_NOT_STARTED);
    }
    rc = dassie__store_commit(&c->store, c->wall_ms, e);
    return rc == 0 ? dassie__recorder_begin(c->recorder, c->options.unsynced, e)
                   : rc;
}

/* Unsynced commits may be lost, so rows may disagree. */
static int rebuild(struct core *c, struct kv *kv, struct errmsg *e)
{
    const struct recorder *r = c->recorder;
    c->rebuilt = r->was_unsynced && r->power_cut && !r->clean;
    int rc =
        c->rebuilt ? dassie__rebuild(kv, c->wall_ms, 0, &c->rebuild, e) : 0;
    c->stats.interrupted = c->rebuild.again;
    return rc;
}

/* Room for all that may be claimed. */
static bool rooms_make(struct core *c)
{
    c->claimed = dassie__calloc(DASSIE_CLAIMED_MAX, sizeof c->claimed[0]);
    c->released = dassie__malloc(DASSIE_CLAIMED_MAX * sizeof c->released[0]);
    c->limits.heap.slots =
        dassie__malloc(DASSIE_CLAIMED_MAX * sizeof c->limits.heap.slots[0]);
    return c->claimed != NULL && c->released != NULL &&
           c->limits.heap.slots != NULL;
}

static void rooms_free(struct core *c)
{
    dassie__free(c->claimed);
    dassie__free(c->released);
    dassie__free(c->limits.heap.slots);
    c->claimed = NULL;
    c->released = NULL;
    c->limits.heap.slots = NULL;
}

int dassie__core_open(struct core *c, struct kv *kv, struct recorder *recorder,
                      const struct core_options *options, struct errmsg *e)
{
    c->recorder = recorder;
    c->options = *options;
    if (!rooms_make(c)) {
        rooms_free(c);
        kv->ops->close(kv, false);
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    int rc = rebuild(c, kv, e);
    if (rc == 0) {
        rc = dassie__store_open(&c->store, kv, options->window_max,
                                !options->unsynced, e);
    }
    if (rc == 0) {
        rc = options->read_only ? adopt(c, e) : recover(c, e);
        if (rc != 0) {
            dassie__core_close(c, false);
            dassie__core_free(c);
            return rc;
        }
        dassie__sweep_opened(&c->store, c->wall_ms);
        return 0;
    }
    rooms_free(c);
    kv->ops->close(kv, false);
    return rc;
}

bool dassie__core_close(struct core *c, bool clean)
{
    bool durable = dassie__store_close(&c->store, clean);
    rooms_free(c);
    return durable;
}

void dassie__core_free(struct core *c)
{
    dassie__job_list_free(&c->gone);
    dassie__store_free(&c->store);
}
