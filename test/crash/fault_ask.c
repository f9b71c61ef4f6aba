#include "fault_ask.h"

#include "ledger.h"
#include "sync.h"
#include "trouble.h"

#include <stdlib.h>
#include <string.h>

struct asking asking;
struct answers answers;

static struct ask {
    dassie_enqueue_t req;
    dassie_watch_t watch;
    dassie_change_t change;
    bool doomed; /* nothing could be written when it was asked for */
    unsigned acks;
    unsigned ends_due;
    unsigned ends;
} asks[TOKENS_MAX];

static struct {
    dassie_enqueue_many_t req;
    uint32_t first;
} batches[ASK_ROUNDS];

/* ---- Jobs ---- */

/* A mistake made on purpose, as the library might make it: it has to be
 * noticed. */
static bool planted(const char *what)
{
    const char *plant = getenv("SUBJECT_PLANT");
    return plant != NULL && strcmp(plant, what) == 0 && trouble_hits() > 0;
}

/* In doubt, or not to be answered any more. */
static bool is_lost(int status)
{
    return trouble_is(status) ||
           (asking.closing &&
            (status == UV_ECANCELED || status == DASSIE_EUNKNOWN));
}

/* What has started meanwhile may be in another state by now. */
static void on_change(dassie_change_t *req, int status)
{
    struct ask *ask = req->data;
    uint32_t token = (uint32_t)(ask - asks);
    asking.waiting--;
    if (status == 0 && req->was != DASSIE_RUNNING) {
        ledger->entry[token].changed = 1;
        answers.changes++;
    } else if (status != 0 && status != DASSIE_ESTATE && !is_lost(status)) {
        ledger_fault(token, "is not changed: %s", dassie_strerror(status));
    }
}

static void ask_change(uint32_t token, bool late)
{
    struct ask *ask = &asks[token];
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    struct plan plan;
    plan_of(token, &plan);
    if (plan.change == 0 || plan.change_late != late || asking.closing ||
        ledger->entry[token].id == 0) {
        return;
    }
    plan_change(token, &plan, &filter);
    ask->change.data = ask;
    asking.waiting++;
    sync_must(dassie_change(&rig.q, &ask->change, (dassie_action_t)plan.change,
                            &filter, on_change),
              "change");
}

/* Too little disk is free; who has its key cannot be looked up; or the queue is
 * closed. */
static bool may_refuse(uint32_t token, int status)
{
    char key[KEY_BYTES];
    if (asking.floor && trouble_hits() > 0 && status == UV_ENOSPC) {
        return true;
    }
    if (trouble_is(status) && plan_key(token, key)) {
        answers.lookups++;
        return true;
    }
    return asking.closing &&
           (status == UV_ECANCELED || status == DASSIE_EUNKNOWN);
}

static void answered(uint32_t token, int status, uint64_t id, bool existing)
{
    struct ask *ask = &asks[token];
    if (planted("silence")) {
        return;
    }
    if (planted("refusal")) {
        ledger->entry[token].refused = 1;
    }
    if (ask->acks++ > 0) {
        ledger_fault(token, "is acknowledged twice");
    }
    if (status == 0) {
        answers.acknowledged++;
        ledger_acknowledged(token, id, existing);
        if (ask->doomed && trouble_is_total() && !existing) {
            ledger_fault(token, "is acknowledged, but nothing was written");
        }
        return;
    }
    if (!may_refuse(token, status)) {
        ledger_fault(token, "is refused: %s", dassie_strerror(status));
    }
    if (status == DASSIE_EUNKNOWN) {
        answers.unknown++;
        ledger->entry[token].id = planted("acknowledgement") ? id : 0;
    } else {
        answers.refused++;
        ledger->entry[token].refused = 1;
    }
}

static void on_end(uint32_t token, int status, const dassie_info_t *job)
{
    if (asks[token].ends++ > 0) {
        ledger_fault(token, "has its end told twice");
    }
    bool deleted =
        status == UV_ENOENT && ledger->entry[token].change == DASSIE_DELETE;
    if (status == 0) {
        ledger_told(token, job);
        ask_change(token, true);
    } else if (deleted) {
        return;
    } else if (!asking.closing || job != NULL ||
               (status != UV_ECANCELED && status != DASSIE_EUNKNOWN)) {
        ledger_fault(token, "has no end: %s", dassie_strerror(status));
    }
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    if (req->existing) {
        ((struct ask *)req->data)->ends++; /* it is that of another one */
        return;
    }
    on_end((uint32_t)((struct ask *)req->data - asks), status, job);
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    uint32_t token = (uint32_t)((struct ask *)req->data - asks);
    if (trouble_is(status)) {
        asks[token].ends++; /* it had ended, and could not be looked up */
        answers.lookups++;
        return;
    }
    on_end(token, status, job);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct ask *ask = req->data;
    asking.waiting--;
    ask->ends_due = status == 0;
    answered((uint32_t)(ask - asks), status, req->id,
             status == 0 && req->existing);
    if (status == 0) {
        ask_change((uint32_t)(ask - asks), false);
    }
}

static void prepare(uint32_t token, struct plan *plan)
{
    struct ask *ask = &asks[token];
    plan_of(token, plan);
    memset(ask, 0, sizeof *ask);
    ask->doomed = trouble_is_total();
    ledger_asked(token);
}

void fault_ask_one(uint32_t token)
{
    struct ask *ask = &asks[token];
    struct plan plan;
    prepare(token, &plan);
    ask->req.data = ask;
    ask->req.done_cb = on_done;
    asking.waiting++;
    sync_must(dassie_enqueue(&rig.q, &ask->req, &plan.spec, on_ack), "enqueue");
}

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    uint32_t first = *(uint32_t *)req->data;
    asking.waiting--;
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        struct ask *ask = &asks[first + i];
        answered(first + i, status, req->first_id + i, false);
        if (status != 0 || asking.closing) {
            continue;
        }
        ask->ends_due = 1;
        ask->watch.data = ask;
        sync_must(
            dassie_watch(&rig.q, &ask->watch, req->first_id + i, on_watch),
            "watch");
        ask_change(first + i, false);
    }
}

void fault_ask_batch(uint32_t first)
{
    static struct plan plans[BATCH_JOBS];
    dassie_spec_t specs[BATCH_JOBS];
    dassie_enqueue_many_t *req = &batches[asking.round].req;
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        prepare(first + i, &plans[i]);
        specs[i] = plans[i].spec;
    }
    batches[asking.round].first = first;
    req->data = &batches[asking.round].first;
    asking.waiting++;
    sync_must(dassie_enqueue_many(&rig.q, req, specs, BATCH_JOBS, on_batch),
              "enqueue_many");
}

/* ---- Look-ups ---- */

static void looked_up(int status)
{
    asking.waiting--;
    if (trouble_is(status)) {
        answers.lookups++;
    } else if (status != 0 && !(asking.closing && status == UV_ECANCELED)) {
        ledger_fault(NO_TOKEN, "a look-up: %s", dassie_strerror(status));
    }
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    for (size_t i = 0; i < n; i++) {
        uint32_t token = ledger_token(jobs[i].name, jobs[i].name_len);
        const char *what =
            token != NO_TOKEN ? plan_differs(token, &jobs[i]) : NULL;
        if (what != NULL) {
            ledger_fault(token, "%s, in a list", what);
        }
    }
    looked_up(status);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    looked_up(status);
}

void fault_ask_lookups(void)
{
    static const dassie_state_t states[] = {DASSIE_PENDING, DASSIE_SCHEDULED,
                                            DASSIE_COMPLETE, DASSIE_FAILED,
                                            DASSIE_CANCELLED};
    static dassie_list_t lists[ASK_ROUNDS][5];
    static dassie_get_t gets[ASK_ROUNDS];
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    memset(lists[asking.round], 0, sizeof lists[0]);
    for (size_t i = 0; i < 5; i++) {
        options.state = states[i];
        asking.waiting++;
        sync_must(
            dassie_list(&rig.q, &lists[asking.round][i], &options, on_list),
            "list");
    }
    if (ledger->entry[0].id != 0) {
        asking.waiting++;
        sync_must(dassie_get(&rig.q, &gets[asking.round], ledger->entry[0].id,
                             on_get),
                  "get");
    }
}

/* ---- The queue ---- */

static void on_keep(dassie_configure_t *req, int status,
                    const dassie_settings_t *settings)
{
    (void)req;
    (void)settings;
    asking.waiting--;
    if (status == 0) {
        ledger->keeps = 1;
    } else if (!is_lost(status)) {
        ledger_fault(NO_TOKEN, "settings: %s", dassie_strerror(status));
    }
}

/* So that jobs are swept. */
void fault_ask_keep(void)
{
    static dassie_configure_t req;
    const uv_buf_t *queue = &queues[QUEUE_BRIEF];
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.jobs = BRIEF_KEPT;
    asking.waiting++;
    sync_must(dassie_configure(&rig.q, &req, queue->base, queue->len, &settings,
                               on_keep),
              "configure");
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    asking.waiting--;
    if (status != 0 && !(asking.closing && status == UV_ECANCELED)) {
        ledger_fault(NO_TOKEN, "drain: %s", dassie_strerror(status));
    }
}

void fault_ask_drain(void)
{
    static dassie_drain_t req;
    asking.waiting++;
    sync_must(dassie_drain(&rig.q, &req, NULL, 0, on_drain), "drain");
}

/* ---- Their answers ---- */

/* Each request of the session has had its answer and its end. */
void fault_ask_check(uint32_t first)
{
    for (uint32_t token = first; token < ledger->tokens; token++) {
        const struct ask *ask = &asks[token];
        bool asked = ledger->entry[token].asked != 0;
        if (asked && (ask->acks != 1 || ask->ends != ask->ends_due)) {
            ledger_fault(token, "was asked for once: %u answers, %u ends",
                         ask->acks, ask->ends);
        }
    }
}
