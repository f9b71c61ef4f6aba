#include "looks.h"

#include "model.h"
#include "sim.h"
#include "users.h"

#include <string.h>

#define WATCHES_MAX 16

struct watch {
    dassie_watch_t req;
    struct job *job;
    bool due;
};

static struct {
    struct watch watches[WATCHES_MAX];
    dassie_get_t get;
    dassie_counts_t counts;
    dassie_drain_t drain;
    bool get_due;
    bool counts_due;
    bool drain_due;
} looks;

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *info)
{
    struct watch *watch = req->data;
    SIM_CHECK(watch->due, "a watch is told twice");
    watch->due = false;
    SIM_CHECK(status != UV_ENOENT || model.unsynced || watch->job->gone,
              "a watched job is not there");
    if (status != UV_ENOENT) {
        model_ended(watch->job, status, info);
    }
}

bool looks_watch(void)
{
    struct watch *watch = &looks.watches[sim_below(WATCHES_MAX)];
    struct job *job = &model.job[sim_below(model.jobs_n + 1)];
    if (watch->due || !users_calls() || job->stage != STAGE_ACKED) {
        return false;
    }
    watch->job = job;
    watch->req.data = watch;
    watch->due = true;
    int rc = dassie_watch(&users.q, &watch->req, job->id, on_watch);
    SIM_CHECK(rc == 0, "watch returns %d", rc);
    reached->watches++;
    return true;
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *info)
{
    struct job *job = req->data;
    const struct fact *f = &model.facts.job[job - model.job];
    looks.get_due = false;
    SIM_CHECK(status == 0 || status == UV_ENOMEM || status == UV_EIO ||
                  status == UV_ECANCELED ||
                  (status == UV_ENOENT && (model.unsynced || job->gone)),
              "get returns %d", status);
    if (status == 0 && f->id != 0) {
        bool ended = info->ended_ms != 0;
        SIM_CHECK(info->id == f->id && info->attempts <= f->attempts + 1 &&
                      (!ended || f->state == (int)info->state ||
                       job->end.state == (int)info->state),
                  "a job is told to be in state %d, and is in %d", info->state,
                  f->state);
    }
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    (void)count;
    looks.counts_due = false;
    SIM_CHECK(status == 0 || status == UV_ECANCELED, "counts returns %d",
              status);
}

bool looks_look(void)
{
    struct job *job = &model.job[sim_below(model.jobs_n + 1)];
    if (!users_calls()) {
        return false;
    }
    if (!looks.counts_due) {
        looks.counts_due =
            dassie_counts(&users.q, &looks.counts, NULL, 0, on_counts) == 0;
    }
    if (!looks.get_due && job->stage == STAGE_ACKED) {
        looks.get.data = job;
        looks.get_due = dassie_get(&users.q, &looks.get, job->id, on_get) == 0;
    }
    reached->looks++;
    return true;
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    looks.drain_due = false;
    SIM_CHECK(status == UV_ECANCELED || status == 0, "drain returns %d",
              status);
}

bool looks_drain(void)
{
    if (!users_calls() || looks.drain_due) {
        return false;
    }
    looks.drain_due =
        dassie_drain(&users.q, &looks.drain, NULL, 0, on_drain) == 0;
    return true;
}

void looks_closed(void)
{
    for (int i = 0; i < WATCHES_MAX; i++) {
        SIM_CHECK(!looks.watches[i].due, "closed, and a watch was not told");
    }
    SIM_CHECK(!looks.get_due && !looks.counts_due && !looks.drain_due,
              "closed, and a look was not answered");
}

void looks_begin(void)
{
    memset(&looks, 0, sizeof looks);
}
