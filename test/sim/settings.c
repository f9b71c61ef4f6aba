#include "settings.h"

#include "model.h"
#include "sim.h"
#include "task.h"
#include "users.h"

#include <stdio.h>
#include <string.h>

static struct {
    dassie_configure_t req;
    bool due;
    struct ruled *queue; /* NULL: its name was lost */
    struct ruled before;
    struct ruled after;
} asked;

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    (void)req;
    SIM_SAY("configured: %d", status);
    SIM_CHECK(asked.due, "settings are told twice");
    asked.due = false;
    SIM_CHECK(status == 0 || status == UV_ENOBUFS || status == UV_ENOMEM ||
                  status == UV_EIO || status == UV_ECANCELED ||
                  status == DASSIE_EUNKNOWN,
              "settings are told as %d", status);
    if (asked.queue == NULL) {
        return;
    }
    if (status == 0) {
        SIM_CHECK(settings->paused == (asked.after.paused == RULE_YES) ||
                      asked.after.paused == RULE_MAYBE,
                  "a queue is told to be paused, or not");
        *asked.queue = asked.after;
    } else if (status == UV_ENOBUFS || status == UV_ENOMEM) {
        *asked.queue = asked.before;
    }
}

/* Nobody knows until it is told. */
static bool configure(struct ruled *queue, const char *name, size_t len,
                      const dassie_settings_t *settings)
{
    asked.queue = queue;
    asked.due = true;
    if (queue != NULL) {
        asked.before = asked.after = *queue;
        if ((settings->set & DASSIE_SET_PAUSED) != 0) {
            asked.after.paused = settings->paused ? RULE_YES : RULE_NO;
            queue->paused = RULE_MAYBE;
            queue->was_paused |= settings->paused != 0;
        } else {
            bool few = settings->keep_complete.jobs == KEPT_FEW;
            asked.after.few = few ? RULE_YES : RULE_NO;
            queue->few = RULE_MAYBE;
            queue->was_few |= few;
        }
        asked.after.was_paused = queue->was_paused;
        asked.after.was_few = queue->was_few;
    }
    int rc = dassie_configure(&users.q, &asked.req, name, len, settings,
                              on_configure);
    SIM_CHECK(rc == 0 || rc == UV_ENOMEM, "configure returns %d", rc);
    if (rc != 0) {
        on_configure(&asked.req, rc, NULL);
    }
    return true;
}

bool settings_configure(void)
{
    char name[8];
    static const dassie_keep_t few = {DASSIE_KEEP_ALL, KEPT_FEW,
                                      DASSIE_KEEP_ALL};
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    unsigned number = sim_below(users_plan.queues);
    if (!users_calls() || users.finish || asked.due) {
        return false;
    }
    if (sim_chance(500)) {
        settings.set = DASSIE_SET_PAUSED;
        settings.paused = sim_chance(400);
        reached->pauses += (unsigned)settings.paused;
    } else {
        settings.set = DASSIE_SET_KEEP;
        if (sim_chance(600)) {
            settings.keep_complete = few;
            settings.keep_failed = few;
            settings.keep_cancelled = few;
        }
    }
    int len = snprintf(name, sizeof name, "q%u", number);
    SIM_SAY("configures %s: %s", name,
            settings.set == DASSIE_SET_KEEP ? "what it keeps"
            : settings.paused               ? "paused"
                                            : "resumed");
    return configure(&model.queue[number], name, (size_t)len, &settings);
}

/* Those that there are: after a power cut some have another name. */
bool settings_resume(void)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    const struct queues *qs = &users.q.impl->core.store.queues;
    settings.set = DASSIE_SET_PAUSED;
    for (uint32_t i = 0; !asked.due && i < qs->n; i++) {
        const struct queue *q = qs->by_id[i];
        unsigned number;
        if (queue_open(q)) {
            continue;
        }
        bool known = sscanf(q->name, "q%u", &number) == 1;
        return configure(known ? &model.queue[number] : NULL, q->name,
                         q->name_len, &settings);
    }
    return asked.due;
}

/* ---- A process ---- */

void settings_begin(void)
{
    memset(&asked, 0, sizeof asked);
}

void settings_closed(void)
{
    SIM_CHECK(!asked.due, "closed, and settings were not told");
}
