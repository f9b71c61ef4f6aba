/* ops.c: the random operations, and what must come of them. */
#include "config.h"

#include "order.h"
#include "session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 8
#define THREAD_JOBS_MAX 4
#define PAGES_MAX 3
#define HURRY_TURNS 1000

/* One request of any kind, freed in its last callback. */
struct request {
    union {
        dassie_enqueue_t enqueue;
        dassie_enqueue_many_t many;
        dassie_watch_t watch;
        dassie_get_t get;
        dassie_list_t list;
        dassie_counts_t counts;
        dassie_drain_t drain;
        dassie_change_t change;
        dassie_configure_t configure;
    } u;
    uint32_t number;
    uint64_t asked_at;
    bool acks; /* on_ack() comes before on_done() */
    bool from_thread;
    bool keyed;  /* with a unique key */
    bool absent; /* there is no such job */
    unsigned queue;
    dassie_list_options_t options;
    uint64_t last_id;
    uint64_t last_due;
    int pages;
};

static struct request *request_new(void)
{
    struct request *r = calloc(1, sizeof *r);
    MODEL_CHECK(r != NULL, "no memory");
    session.outstanding++;
    r->asked_at = model_clock();
    return r;
}

static void request_end(struct request *r)
{
    MODEL_CHECK(session.outstanding-- > 0, "one callback too many");
    free(r);
}

static void must(int rc, const char *what)
{
    MODEL_CHECK(rc == 0, "%s: %d %s", what, rc, CALL(dassie_strerror)(rc));
}

static void must_not(int rc, int expected, const char *what)
{
    MODEL_CHECK(rc == expected, "%s: %d, not %d", what, rc, expected);
}

/* ---- Enqueue ---- */

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct request *r = req->data;
    if (status == 0) {
        MODEL_CHECK(job->id == req->id, "done: another job");
        MODEL_CHECK(!r->acks, "done: before it is acknowledged");
        MODEL_CHECK(job->data == NULL, "done: with its payload");
        if (r->number < MODEL_JOBS_MAX) {
            model_told(r->number, job->id);
        }
        model_ended(job);
        session_kill_point(KILL_DONE);
    } else {
        bool known = r->number < MODEL_JOBS_MAX;
        bool gone =
            status == UV_ENOENT && (!known || ledger->facts[r->number].may_go);
        MODEL_CHECK(job == NULL &&
                        (gone || (status == UV_ECANCELED && session.closing)),
                    "done: %d", status);
        if (known) {
            model_not_ended(r->number);
        }
    }
    request_end(r);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct request *r = req->data;
    must(status, "acknowledged");
    session.acks--;
    r->acks = false;
    MODEL_CHECK(!req->existing || r->keyed, "another job in place of this one");
    if (req->existing) {
        r->number = keys_met(r->number, req->id);
    } else {
        if (r->keyed) {
            keys_acked(r->number, r->asked_at);
        }
        model_acked(r->number, req->id);
    }
    if (!r->from_thread && !req->existing) {
        MODEL_CHECK(req->id > session.last_id, "ids are not in order");
        session.last_id = req->id;
    }
    session_kill_point(KILL_ACK);
    if (req->done_cb == NULL) {
        request_end(r);
    }
}

/* Lengths of 0 and NULL where they say the same. */
static void spec_vary(dassie_spec_t *spec, const struct plan *plan)
{
    if (plan->queue == 0 && (plan->spec.data_len & 1) != 0) {
        spec->queue = NULL;
        spec->queue_len = 0;
    } else if (plan->queue == 1) {
        spec->queue_len = 0;
    }
    if (spec->name_len > 0 && memchr(spec->name, 0, spec->name_len) == NULL) {
        spec->name_len = 0;
    }
}

static void enqueue_refused(int rc, uint32_t number, uint32_t n)
{
    must_not(rc, UV_ENOBUFS, "enqueue");
    MODEL_CHECK(session.options.inbox_jobs_max > 0, "the inbox is full");
    model_refused(number, n);
}

/* Any thread. r may be NULL. */
static void enqueue(struct request *r, uint32_t number)
{
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    spec_vary(&plan.spec, &plan);
    bool keyed = r != NULL && r->keyed;
    bool acks =
        r != NULL && (keyed || r->u.enqueue.done_cb == NULL || number % 8 != 0);
    if (keyed) {
        keys_choose(number, &plan.spec);
    }
    if (r != NULL) {
        r->acks = acks;
    }
    session.acks += acks;
    int rc = CALL(dassie_enqueue)(&session.q, r != NULL ? &r->u.enqueue : NULL,
                                  &plan.spec, acks ? on_ack : NULL);
    if (rc != 0) {
        enqueue_refused(rc, number, 1);
        session.acks -= acks;
        if (r != NULL) {
            request_end(r);
        }
    }
}

static struct request *enqueue_request(uint32_t number)
{
    struct request *r = request_new();
    r->number = number;
    r->u.enqueue.data = r;
    r->u.enqueue.done_cb = dice_one_in(&session.dice, 2) ? on_done : NULL;
    return r;
}

static void op_enqueue(void)
{
    uint32_t number = model_issue(1);
    enqueue(dice_one_in(&session.dice, 6) ? NULL : enqueue_request(number),
            number);
}

static void op_enqueue_key(void)
{
    uint32_t number = model_issue(1);
    struct request *r = enqueue_request(number);
    r->keyed = true;
    enqueue(r, number);
}

struct thread_jobs {
    struct request *r[THREAD_JOBS_MAX];
    uint32_t number;
    uint32_t n;
};

static void enqueue_thread(void *arg)
{
    struct thread_jobs *jobs = arg;
    for (uint32_t i = 0; i < jobs->n; i++) {
        enqueue(jobs->r[i], jobs->number + i);
    }
    free(jobs);
}

void ops_join(void)
{
    if (session.thread_runs) {
        MODEL_CHECK(uv_thread_join(&session.thread) == 0, "no join");
        session.thread_runs = false;
    }
}

static void op_enqueue_thread(void)
{
    struct thread_jobs *jobs = malloc(sizeof *jobs);
    MODEL_CHECK(jobs != NULL, "no memory");
    ops_join();
    jobs->n = 1 + dice_below(&session.dice, THREAD_JOBS_MAX);
    jobs->number = model_issue(jobs->n);
    for (uint32_t i = 0; i < jobs->n; i++) {
        /* They are single jobs, none depends on another. */
        ledger->facts[jobs->number + i].batch = jobs->number + i;
        jobs->r[i] = enqueue_request(jobs->number + i);
        jobs->r[i]->from_thread = true;
    }
    must(uv_thread_create(&session.thread, enqueue_thread, jobs), "thread");
    session.thread_runs = true;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    struct request *r = req->data;
    must(status, "batch acknowledged");
    MODEL_CHECK(req->first_id > session.last_id, "ids are not in order");
    for (uint32_t i = 0; i < req->count; i++) {
        model_acked(r->number + i, req->first_id + i);
    }
    session.last_id = req->first_id + req->count - 1;
    session.acks--;
    session_kill_point(KILL_ACK);
    request_end(r);
}

static void op_enqueue_many(void)
{
    static struct plan plans[BATCH_MAX];
    dassie_spec_t specs[BATCH_MAX];
    uint32_t n = 1 + dice_below(&session.dice, BATCH_MAX);
    struct request *r = request_new();
    r->number = model_issue(n);
    r->u.many.data = r;
    for (uint32_t i = 0; i < n; i++) {
        plan_job(ledger->seed, r->number + i, &plans[i]);
        specs[i] = plans[i].spec;
        spec_vary(&specs[i], &plans[i]);
    }
    session.acks++;
    int rc =
        CALL(dassie_enqueue_many)(&session.q, &r->u.many, specs, n, on_many);
    if (rc != 0) {
        enqueue_refused(rc, r->number, n);
        session.acks--;
        request_end(r);
    }
}

/* ---- Looks ---- */

/* A job whose id is known, in *number; or an id that nobody has. */
static uint64_t any_id(struct request *r)
{
    for (int i = 0; i < 8 && ledger->jobs_n > 0; i++) {
        r->number = dice_below(&session.dice, ledger->jobs_n);
        if (ledger->facts[r->number].id != 0) {
            return ledger->facts[r->number].id;
        }
    }
    r->absent = true;
    return dice_one_in(&session.dice, 2) ? 0 : MODEL_IDS_MAX;
}

/* Whether there is an answer. */
static bool answered(const struct request *r, int status)
{
    if (status == UV_ECANCELED && session.closing) {
        return false;
    }
    if (!r->absent && r->number < MODEL_JOBS_MAX && status == UV_ENOENT &&
        ledger->facts[r->number].may_go) {
        return false;
    }
    must_not(status, r->absent ? UV_ENOENT : 0, "answer");
    return status == 0;
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    struct request *r = req->data;
    if (answered(r, status)) {
        MODEL_CHECK(job->id == req->id, "watch: another job");
        model_ended(job);
    } else if (!r->absent) {
        model_not_ended(r->number);
    }
    request_end(r);
}

static void op_watch(void)
{
    struct request *r = request_new();
    uint64_t id = any_id(r);
    r->u.watch.data = r;
    must(CALL(dassie_watch)(&session.q, &r->u.watch, id, on_watch), "watch");
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    struct request *r = req->data;
    if (answered(r, status)) {
        MODEL_CHECK(job->id == req->id, "get: another job");
        model_looked(job, r->asked_at);
    }
    request_end(r);
}

static void op_get(void)
{
    struct request *r = request_new();
    uint64_t id = any_id(r);
    r->u.get.data = r;
    must(CALL(dassie_get)(&session.q, &r->u.get, id, on_get), "get");
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    struct request *r = req->data;
    bool more = answered(r, status) && n > 0 && ++r->pages < PAGES_MAX;
    MODEL_CHECK(n <= r->options.limit, "list: a long page");
    for (size_t i = 0; i < n; i++) {
        MODEL_CHECK(jobs[i].state == r->options.state, "list: another state");
        MODEL_CHECK(
            r->queue == PLAN_QUEUES ||
                plan_queue_find(jobs[i].queue, jobs[i].queue_len) == r->queue,
            "list: another queue");
        MODEL_CHECK(r->options.state == DASSIE_PENDING ||
                        (r->options.state == DASSIE_SCHEDULED
                             ? jobs[i].due_ms >= r->last_due
                             : jobs[i].id > r->last_id),
                    "list: not in order");
        r->last_id = jobs[i].id;
        r->last_due = jobs[i].due_ms;
        model_looked(&jobs[i], r->asked_at);
    }
    r->asked_at = model_clock();
    if (!more || session.closing) {
        request_end(r);
        return;
    }
    must(CALL(dassie_list)(&session.q, req, &r->options, on_list), "list on");
}

static void op_list(void)
{
    static const dassie_list_options_t init = DASSIE_LIST_OPTIONS_INIT;
    static const dassie_state_t states[] = {DASSIE_PENDING, DASSIE_SCHEDULED,
                                            DASSIE_RUNNING, DASSIE_COMPLETE,
                                            DASSIE_FAILED};
    struct request *r = request_new();
    r->options = init;
    r->options.state = states[dice_below(&session.dice, 5)];
    r->options.limit = 1 + dice_below(&session.dice, 20);
    r->queue = dice_below(&session.dice, PLAN_QUEUES + 1);
    if (r->queue < PLAN_QUEUES) {
        r->options.queue = plan_queue(r->queue, &r->options.queue_len);
    }
    r->u.list.data = r;
    must(CALL(dassie_list)(&session.q, &r->u.list, &r->options, on_list),
         "list");
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    struct request *r = req->data;
    struct model_bounds bounds;
    model_bounds(r->queue, r->asked_at, &bounds);
    r->absent = status == UV_ENOENT && bounds.least == 0;
    if (answered(r, status)) {
        uint64_t ended = count->complete + count->failed + count->cancelled;
        uint64_t all =
            count->pending + count->scheduled + count->running + ended;
        MODEL_CHECK(
            all >= bounds.least && all <= bounds.most && ended >= bounds.ended,
            "counts: %" PRIu64 " jobs, of them %" PRIu64 " ended, but %" PRIu64
            " to %" PRIu64 ", and %" PRIu64 " or more",
            all, ended, bounds.least, bounds.most, bounds.ended);
    }
    request_end(r);
}

static void op_counts(void)
{
    struct request *r = request_new();
    size_t len = 0;
    r->queue = dice_below(&session.dice, PLAN_QUEUES + 1);
    const char *name =
        r->queue < PLAN_QUEUES ? plan_queue(r->queue, &len) : NULL;
    r->u.counts.data = r;
    must(CALL(dassie_counts)(&session.q, &r->u.counts, name, len, on_counts),
         "counts");
}

static void on_drain(dassie_drain_t *req, int status)
{
    struct request *r = req->data;
    MODEL_CHECK(!answered(r, status) || model_drained(r->asked_at),
                "drained, but there are jobs to run");
    request_end(r);
}

static void op_drain(void)
{
    struct request *r = request_new();
    r->u.drain.data = r;
    must(CALL(dassie_drain)(&session.q, &r->u.drain, NULL, 0, on_drain),
         "drain");
}

static void on_change(dassie_change_t *req, int status)
{
    struct request *r = req->data;
    if (status == UV_ECANCELED && session.closing) {
        request_end(r);
        return;
    }
    if (r->absent) {
        must_not(status, UV_ENOENT, "change");
    } else {
        MODEL_CHECK(
            status == 0 || status == DASSIE_ESTATE ||
                (status == UV_EEXIST && ledger->facts[r->number].key != 0) ||
                (status == UV_ENOENT && ledger->facts[r->number].may_go),
            "change: %d", status);
        MODEL_CHECK(req->changed == (status == 0), "change: how many?");
    }
    request_end(r);
}

static void op_change(void)
{
    static const dassie_filter_t init = DASSIE_FILTER_INIT;
    static const dassie_action_t actions[] = {DASSIE_CANCEL,  DASSIE_CANCEL,
                                              DASSIE_RETRY,   DASSIE_RETRY,
                                              DASSIE_RUN_NOW, DASSIE_DELETE};
    struct request *r = request_new();
    dassie_filter_t filter = init;
    filter.id = any_id(r);
    dassie_action_t action = actions[dice_below(&session.dice, 6)];
    if (filter.id == 0) {
        filter.id = MODEL_IDS_MAX;
    }
    if (!r->absent) {
        order_free(r->number, action == DASSIE_DELETE);
        filter.states = action == DASSIE_DELETE && dice_one_in(&session.dice, 2)
                            ? DASSIE_IN(DASSIE_PENDING) |
                                  DASSIE_IN(DASSIE_SCHEDULED) |
                                  DASSIE_IN(DASSIE_CANCELLED)
                            : 0;
    }
    r->u.change.data = r;
    must(CALL(dassie_change)(&session.q, &r->u.change, action, &filter,
                             on_change),
         "change");
}

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    struct request *r = req->data;
    if (status != UV_ECANCELED || !session.closing) {
        must(status, "configured");
        MODEL_CHECK(settings->paused == r->pages, "paused: not so");
        MODEL_CHECK(settings->drop_payload == (r->queue % 2 != 0),
                    "drops payloads: not so");
        if (r->last_id == ledger->configured[r->queue]) {
            ledger->paused[r->queue] = r->pages;
        }
    }
    request_end(r);
}

/* Paused for a moment, or longer; and every other queue drops payloads. */
static void op_configure(void)
{
    static const dassie_settings_t init = DASSIE_SETTINGS_INIT;
    dassie_settings_t settings = init;
    size_t len;
    unsigned queue = dice_below(&session.dice, PLAN_QUEUES);
    const char *name = plan_queue(queue, &len);
    settings.set = DASSIE_SET_PAUSED | DASSIE_SET_PAYLOAD;
    settings.drop_payload = queue % 2 != 0;
    ledger->drops[queue] |= settings.drop_payload != 0;
    order_paused(queue);
    for (int paused = dice_one_in(&session.dice, 3); paused >= 0; paused--) {
        struct request *r = request_new();
        r->pages = settings.paused = paused;
        r->queue = queue;
        r->last_id = ++ledger->configured[queue];
        ledger->paused[queue] |= paused;
        r->u.configure.data = r;
        must(CALL(dassie_configure)(&session.q, &r->u.configure, name, len,
                                    &settings, on_configure),
             "configure");
        if (dice_one_in(&session.dice, 4)) {
            break;
        }
    }
}

static void op_stats(void)
{
    dassie_stats_t stats;
    must(CALL(dassie_stats)(&session.q, &stats), "stats");
    MODEL_CHECK(stats.degraded == 0 && stats.heals == 0, "stats: degraded");
    MODEL_CHECK(stats.queues <= PLAN_QUEUES, "stats: too many queues");
    MODEL_CHECK(stats.jobs.pending + stats.jobs.scheduled + stats.jobs.running +
                        stats.jobs.complete + stats.jobs.failed <=
                    ledger->jobs_n,
                "stats: too many jobs");
}

/* ---- The rest ---- */

/* What must be refused. */
static void op_misuse(void)
{
    static uint8_t large[PLAN_PAYLOAD_MAX + 1];
    static const dassie_spec_t spec_init = DASSIE_SPEC_INIT;
    dassie_spec_t spec = spec_init;
    dassie_list_options_t list = DASSIE_LIST_OPTIONS_INIT;
    dassie_process_options_t none = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_enqueue_many_t many = {0};
    dassie_list_t req = {0};
    dassie_processor_t p = {0};
    spec.priority = DASSIE_PRIORITY_MAX + 1;
    must_not(CALL(dassie_enqueue)(&session.q, NULL, &spec, NULL), UV_EINVAL,
             "priority");
    spec = spec_init;
    spec.queue = (char *)large;
    spec.queue_len = DASSIE_NAME_BYTES_MAX + 1;
    must_not(CALL(dassie_enqueue_many)(&session.q, &many, &spec, 1, NULL),
             UV_EINVAL, "queue");
    spec = spec_init;
    spec.data = large;
    spec.data_len = sizeof large;
    must_not(CALL(dassie_enqueue)(&session.q, NULL, &spec, NULL), UV_E2BIG,
             "payload");
    list.state = (dassie_state_t)3;
    must_not(CALL(dassie_list)(&session.q, &req, &list, on_list), UV_EINVAL,
             "state");
    must_not(CALL(dassie_process)(&session.q, &p, &none), UV_EINVAL,
             "no processor");
    must_not(CALL(dassie_get)(&session.q, NULL, 1, on_get), UV_EINVAL, "get");
    must_not(CALL(dassie_open)(&session.q, ".", NULL, NULL), UV_EALREADY,
             "open");
    must_not(CALL(dassie_testing_advance)(&session.q, 1), UV_EINVAL,
             "the machine's clock");
}

static void op_helpers(void)
{
    MODEL_CHECK(strcmp(CALL(dassie_version)(), DASSIE_VERSION_STRING) == 0,
                "version");
    MODEL_CHECK(
        strcmp(CALL(dassie_err_name)(DASSIE_ECRASHED), "DASSIE_ECRASHED") == 0,
        "a name of an error");
    MODEL_CHECK(
        strcmp(CALL(dassie_strerror)(UV_EBUSY), uv_strerror(UV_EBUSY)) == 0,
        "a text of an error");
    MODEL_CHECK(CALL(dassie_now)(&session.q) > 0, "the time");
    MODEL_CHECK(CALL(dassie_errmsg)(&session.q)[0] == '\0', "an error: %s",
                CALL(dassie_errmsg)(&session.q));
}

static void op_unref(void)
{
    CALL(dassie_unref)(&session.q);
    uv_run(&session.loop, UV_RUN_NOWAIT);
    CALL(dassie_ref)(&session.q);
}

void ops_rest(void)
{
    int left = session.acks > 0
                   ? (int)dice_below(&session.dice, (unsigned)session.acks)
                   : 0;
    while (session.acks > left) {
        uv_run(&session.loop, UV_RUN_ONCE);
    }
}

static const struct {
    void (*op)(void);
    unsigned weight;
} ops[] = {{op_enqueue, 5},        {op_enqueue_key, 3},
           {op_enqueue_thread, 1}, {op_enqueue_many, 1},
           {op_watch, 6},          {op_get, 6},
           {op_list, 4},           {op_counts, 3},
           {op_drain, 1},          {op_stats, 3},
           {op_misuse, 1},         {op_helpers, 1},
           {op_unref, 2},          {model_subscribe_again, 1},
           {op_change, 3},         {op_configure, 1},
           {ops_rest, 12},         {workers_process, 4},
           {workers_stop, 2},      {workers_finish, 16},
           {workers_misuse, 2},    {workers_release, 5}};

void ops_one(void)
{
    unsigned n = 0;
    unsigned i = 0;
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        n += ops[k].weight;
    }
    session.dice = dice_of(ledger->seed, ledger->op, UINT64_C(2) << 32);
    unsigned at = dice_below(&session.dice, n);
    while (at >= ops[i].weight) {
        at -= ops[i++].weight;
    }
    ledger->op++;
    ops[i].op();
    /* To be killed once told: be quicker than a commit that is late. */
    bool hurry = session.kill == KILL_ACK || session.kill == KILL_DONE;
    int turns = hurry ? HURRY_TURNS : (int)dice_below(&session.dice, 2);
    while (turns-- > 0) {
        uv_run(&session.loop, UV_RUN_NOWAIT);
    }
}
