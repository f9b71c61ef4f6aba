#include "operators.h"

#include "model.h"
#include "moves.h"
#include "sim.h"
#include "task.h"
#include "users.h"

#include <stdio.h>
#include <string.h>

#define IDS_MAX 5

/* Those in which an action can be done, and those in which it is if a filter
 * does not say. */
static const unsigned can[ACTIONS] = {
    [DASSIE_CANCEL] = DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED) |
                      DASSIE_IN(DASSIE_RUNNING),
    [DASSIE_RETRY] = DASSIE_IN(DASSIE_FAILED) | DASSIE_IN(DASSIE_CANCELLED),
    [DASSIE_DELETE] = DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED) |
                      DASSIE_IN(DASSIE_COMPLETE) | DASSIE_IN(DASSIE_FAILED) |
                      DASSIE_IN(DASSIE_CANCELLED),
    [DASSIE_RUN_NOW] = DASSIE_IN(DASSIE_SCHEDULED),
};
#define WAITING (DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED))

static struct {
    dassie_change_t req;
    bool due;
    dassie_action_t action;
    unsigned states;
    struct job *single;
    bool by_queue;
    unsigned queue;
    bool matches[TOKENS_MAX];  /* whatever their states are */
    bool known[TOKENS_MAX];    /* they were acknowledged */
    unsigned done[TOKENS_MAX]; /* before */
    struct facts before;
} change;

/* ---- What it has come to ---- */

static bool is_told(int status)
{
    return status == 0 || status == UV_ENOMEM || status == UV_EIO ||
           status == UV_ECANCELED || status == DASSIE_EUNKNOWN ||
           (change.single != NULL &&
            (status == DASSIE_ESTATE || status == UV_ENOENT));
}

/* It matched from before the beginning to the end, and nothing was done. */
static bool was_passed_over(int token)
{
    const struct fact *o = &change.before.job[token];
    bool renamed = change.by_queue && model.unsynced; /* after a power cut */
    return change.matches[token] && change.known[token] && !renamed &&
           o->id != 0 && o->state != DASSIE_RUNNING &&
           fact_in(o, change.states) &&
           memcmp(o, &model.facts.job[token], sizeof *o) == 0;
}

static bool keeps_few(void)
{
    bool few = false;
    for (int i = 0; i < RULED_MAX; i++) {
        few |= model.queue[i].was_few;
    }
    return few;
}

/* As many as were told, and nobody else was there. */
static void judge_change(void)
{
    uint64_t done = 0;
    for (int i = 0; i < TOKENS_MAX; i++) {
        struct job *j = &model.job[i];
        done += j->done[change.action] - change.done[i];
        SIM_CHECK(!was_passed_over(i), "j%d is %s, and was passed over", i,
                  move_state(&model.facts.job[i]));
        j->gone_told |= change.action == DASSIE_DELETE && j->gone;
    }
    bool all = change.action == DASSIE_RETRY || change.action == DASSIE_DELETE;
    if (change.action == DASSIE_DELETE && keeps_few()) {
        return; /* nobody knows who has deleted it */
    }
    SIM_CHECK(all ? change.req.changed == done : change.req.changed >= done,
              "%d jobs are told to be changed, and %d were",
              (int)change.req.changed, (int)done);
}

/* A run that was asked to end knows by now. */
static void note_runs(int status)
{
    for (int i = 0; i < TOKENS_MAX; i++) {
        struct job *j = &model.job[i];
        const struct fact *f = &model.facts.job[i];
        if (change.action == DASSIE_CANCEL && change.matches[i] && f->id != 0 &&
            f->state == DASSIE_RUNNING && j->cancel == CANCEL_NOT) {
            bool sure = status == 0 && j == change.single &&
                        change.req.was == DASSIE_RUNNING &&
                        change.before.job[i].set == f->set;
            j->cancel = sure ? CANCEL_SURE : CANCEL_MAYBE;
        }
    }
}

static void on_change(dassie_change_t *req, int status)
{
    SIM_SAY("changed %d: %d", (int)req->changed, status);
    SIM_CHECK(change.due && is_told(status), "a change is told as %d", status);
    change.due = false;
    if (status == 0) {
        judge_change();
    }
    note_runs(status);
    for (int i = 0; i < TOKENS_MAX; i++) {
        model.job[i].asked[change.action] = 0;
    }
}

/* ---- Asking ---- */

/* Whoever is known; rather one with which it can be done. */
static struct job *any_known(void)
{
    struct job *known = NULL;
    bool running = change.action == DASSIE_CANCEL && sim_chance(600);
    unsigned in = running ? DASSIE_IN(DASSIE_RUNNING) : can[change.action];
    for (int tries = 0; tries < 16; tries++) {
        unsigned token = sim_below(model.jobs_n + 1);
        struct job *job = &model.job[token];
        const struct fact *f = &model.facts.job[token];
        if (job->stage != STAGE_ACKED || job->id == 0) {
            continue;
        }
        known = job;
        if (f->id != 0 && fact_in(f, in)) {
            break;
        }
    }
    return known;
}

static bool draw_ids(dassie_filter_t *filter, uint64_t ids[IDS_MAX])
{
    unsigned n = sim_chance(700) ? 1 : 2 + sim_below(IDS_MAX - 1);
    for (unsigned i = 0; i < n; i++) {
        struct job *job = any_known();
        if (job == NULL) {
            return false;
        }
        ids[i] = job->id;
        change.matches[job - model.job] = true;
        change.single = n == 1 ? job : NULL;
    }
    if (n == 1) {
        filter->id = ids[0];
    } else {
        filter->ids = ids;
        filter->ids_n = n;
    }
    return true;
}

static void draw_queue(dassie_filter_t *filter, char queue[8])
{
    change.by_queue = sim_chance(700);
    change.queue = sim_below(users_plan.queues);
    snprintf(queue, 8, "q%u", change.queue);
    filter->queue = change.by_queue ? queue : NULL;
}

/* Some of the states, or those that it says. */
static unsigned draw_states(dassie_filter_t *filter)
{
    unsigned states = can[change.action];
    if (sim_chance(500)) {
        return change.action == DASSIE_DELETE ? states & ~WAITING : states;
    }
    states &= (unsigned)sim_random();
    states = states != 0 ? states : can[change.action];
    filter->states = states;
    return states;
}

/* From here on it may be done, to those that were handed in by now. */
static void asked(bool by_id)
{
    change.due = true;
    change.before = model.facts;
    for (unsigned i = 0; i < model.jobs_n; i++) {
        struct job *j = &model.job[i];
        change.matches[i] |=
            !by_id && (!change.by_queue || j->queue == change.queue);
        change.known[i] = j->stage == STAGE_ACKED;
        change.done[i] = j->done[change.action];
        if (change.matches[i]) {
            j->asked[change.action] = change.states;
        }
    }
}

bool operators_change(void)
{
    uint64_t ids[IDS_MAX];
    char queue[8];
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    if (!users_calls() || users.finish || change.due) {
        return false;
    }
    memset(&change, 0, sizeof change);
    change.action = sim_chance(300)
                        ? DASSIE_CANCEL
                        : (dassie_action_t)(1 + sim_below(ACTIONS - 1));
    bool by_id = sim_chance(600);
    if (by_id && !draw_ids(&filter, ids)) {
        return false;
    }
    if (!by_id) {
        draw_queue(&filter, queue);
    }
    change.states = draw_states(&filter);
    int rc =
        dassie_change(&users.q, &change.req, change.action, &filter, on_change);
    SIM_SAY("action %d in states %#x, of queue %s: %d", change.action,
            change.states, filter.queue != NULL ? filter.queue : "any", rc);
    SIM_CHECK(rc == 0 || rc == UV_ENOMEM, "a change returns %d", rc);
    if (rc == 0) {
        asked(by_id);
    }
    reached->changes++;
    return true;
}

/* ---- A process ---- */

void operators_begin(void)
{
    memset(&change, 0, sizeof change);
}

void operators_closed(void)
{
    SIM_CHECK(!change.due, "closed, and a change was not told");
}
