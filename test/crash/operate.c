#include "operate.h"

#include "ledger.h"
#include "sync.h"

/* ---- Jobs ---- */

static atomic_int changes;

static void on_change(dassie_change_t *req, int status)
{
    sync_must(status, "change");
    if (req->data != NULL && req->was != DASSIE_RUNNING) {
        ((struct entry *)req->data)->changed = 1;
    }
    changes++;
}

static void change(dassie_change_t *req, int action,
                   const dassie_filter_t *filter)
{
    int before = changes;
    sync_must(
        dassie_change(&rig.q, req, (dassie_action_t)action, filter, on_change),
        "change");
    sync_wait(&changes, before + 1);
}

static const char *const action_names[] = {[DASSIE_CANCEL] = "cancel",
                                           [DASSIE_RETRY] = "retry",
                                           [DASSIE_DELETE] = "delete",
                                           [DASSIE_RUN_NOW] = "run-now"};

/* A job that is running is asked to end, which takes no commit: nothing that
 * others have saved is more durable after it. */
void operate_change(uint32_t token)
{
    struct entry *entry = &ledger->entry[token];
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    dassie_change_t req = {.data = entry};
    struct plan plan;
    uint16_t said[ROUND_JOBS];
    uint32_t first = token - token % ROUND_JOBS;
    plan_of(token, &plan);
    plan_change(token, &plan, &filter);
    if (ledger_lies(action_names[plan.change])) {
        entry->changed = 1;
        return;
    }
    ledger_saves_look(first, said);
    change(&req, plan.change, &filter);
    if (req.was != DASSIE_RUNNING) {
        ledger_saves_kept(first, said);
    }
}

/* ---- Queues ---- */

static atomic_int configures;

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    if (req->data == NULL) {
        sync_must(status == UV_ENOENT ? 0 : status, "look at settings");
        ledger_settings(settings);
    } else {
        sync_must(status, "configure");
    }
    configures++;
}

static void configure(dassie_configure_t *req,
                      const dassie_settings_t *settings)
{
    const uv_buf_t *queue = &queues[QUEUE_BRIEF];
    int before = configures;
    sync_must(dassie_configure(&rig.q, req, queue->base, queue->len, settings,
                               on_configure),
              "configure");
    sync_wait(&configures, before + 1);
}

void operate_pause(bool pause)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_configure_t req = {.data = &settings};
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = pause;
    ledger->pause = pause;
    if (!pause || !ledger_lies("pause")) {
        configure(&req, &settings);
    }
    ledger->paused = pause;
}

void operate_keep(void)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_configure_t req = {.data = &settings};
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.jobs = ledger_lies("keep") ? 1 : BRIEF_KEPT;
    configure(&req, &settings);
    ledger->keeps = 1;
}

void operate_look(void)
{
    dassie_configure_t req = {.data = NULL};
    configure(&req, NULL);
}

/* ---- The end ---- */

static dassie_count_t counted;

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    sync_must(status, "counts");
    counted = *count;
    ++*(atomic_int *)req->data;
}

void operate_finish(void)
{
    dassie_filter_t all = DASSIE_FILTER_INIT;
    ledger_hasten();
    do {
        atomic_int n = 0;
        dassie_change_t req = {.data = NULL};
        dassie_counts_t counts = {.data = &n};
        change(&req, DASSIE_RUN_NOW, &all);
        sync_drain();
        sync_must(dassie_counts(&rig.q, &counts, NULL, 0, on_counts), "counts");
        sync_wait(&n, 1);
    } while (counted.scheduled + counted.pending + counted.running > 0);
}
