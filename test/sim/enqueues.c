#include "enqueues.h"

#include "facts.h"
#include "model.h"
#include "sim.h"
#include "task.h"
#include "users.h"

#include <stdio.h>
#include <string.h>

static struct {
    dassie_enqueue_many_t many[TOKENS_MAX]; /* by the first token */
    unsigned ended[7]; /* ends told of jobs enqueued here, by state */
} enqueues;

static struct job *job_draw(dassie_spec_t *spec, char name[8], char queue[8],
                            uint8_t data[400])
{
    static const int priorities[] = {0, 0, 0, -7, 3};
    static const dassie_spec_t defaults = DASSIE_SPEC_INIT;
    unsigned token = model.jobs_n++;
    struct job *job = &model.job[token];
    memset(job, 0, sizeof *job);
    job->stage = STAGE_ISSUED;
    job->queue = sim_below(users_plan.queues);
    job->priority = priorities[sim_below(5)];
    job->flags = sim_chance(users_plan.at_most_once) ? DASSIE_AT_MOST_ONCE : 0;
    snprintf(name, 8, "j%u", token);
    snprintf(queue, 8, "q%u", job->queue);
    *spec = defaults;
    spec->queue = queue;
    spec->name = name;
    spec->data = data;
    spec->data_len = facts_payload(token, data);
    spec->priority = job->priority;
    spec->flags = job->flags;
    job->delay_ms = sim_chance(users_plan.delayed) ? 1 + sim_below(300) : 0;
    job->attempts_max = job->flags != 0 ? 1 : 1 + sim_below(3);
    job->backoff_ms = 1 + sim_below(100);
    job->timeout_ms = sim_chance(users_plan.timed) ? 60 + sim_below(100) : 0;
    spec->expire_ms = sim_chance(users_plan.expiring) ? 1 + sim_below(200) : 0;
    spec->timeout_ms = job->timeout_ms;
    spec->delay_ms = job->delay_ms;
    spec->attempts_max = job->attempts_max;
    spec->backoff_ms = job->backoff_ms;
    return job;
}

static void refused_at_once(struct job *job, int rc)
{
    SIM_CHECK(rc == UV_ENOBUFS || rc == UV_ECANCELED || rc == UV_ENOMEM,
              "an enqueue returns %d", rc);
    job->stage = STAGE_REFUSED;
    job->ack_due = job->done_due = false;
    reached->inbox_full += rc == UV_ENOBUFS;
}

/* Who is told of a job finds its room in the inbox free. */
static void check_inbox(void)
{
    dassie_stats_t stats;
    unsigned due = 0;
    dassie_stats(&users.q, &stats);
    for (unsigned i = 0; i < model.jobs_n; i++) {
        due += model.job[i].ack_due;
    }
    SIM_CHECK(stats.inbox_jobs <= due, "%u jobs in the inbox, %u to be told of",
              (unsigned)stats.inbox_jobs, due);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    reached->no_space += status == UV_ENOSPC;
    model_acked(req->data, req->id, status);
    check_inbox();
}

/* What is told is counted by then. */
static void check_counted(dassie_state_t state)
{
    dassie_stats_t stats;
    enqueues.ended[state]++;
    dassie_stats(&users.q, &stats);
    SIM_CHECK(stats.completed >= enqueues.ended[DASSIE_COMPLETE] &&
                  stats.failed >= enqueues.ended[DASSIE_FAILED] &&
                  stats.cancelled >= enqueues.ended[DASSIE_CANCELLED],
              "an end is told before it is counted");
}

static void on_done(dassie_enqueue_t *req, int status,
                    const dassie_info_t *info)
{
    struct job *job = req->data;
    SIM_CHECK(job->done_due && !job->ack_due,
              "an end is told twice, or before its beginning");
    job->done_due = false;
    model_ended(job, status, info);
    if (status == 0) {
        check_counted(info->state);
    }
}

static bool may_enqueue(unsigned n)
{
    return users_calls() && !users.finish &&
           model.jobs_n + n <= users_plan.jobs_max;
}

bool enqueues_one(void)
{
    dassie_spec_t spec;
    char name[8];
    char queue[8];
    uint8_t data[400];
    if (!may_enqueue(1)) {
        return false;
    }
    struct job *job = job_draw(&spec, name, queue, data);
    job->req.data = job;
    job->done_due = sim_chance(500);
    job->req.done_cb = job->done_due ? on_done : NULL;
    job->ack_due = true;
    SIM_SAY("%s enqueues %s into %s, priority %d%s", task_name(), name, queue,
            job->priority, job->flags != 0 ? ", at most once" : "");
    users.calls++;
    int rc = dassie_enqueue(&users.q, &job->req, &spec, on_ack);
    users.calls--;
    if (rc != 0) {
        refused_at_once(job, rc);
    }
    reached->enqueues++;
    return true;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    struct job *first = req->data;
    for (size_t i = 0; i < req->count; i++) {
        model_acked(&first[i], req->first_id + i, status);
    }
    check_inbox();
}

bool enqueues_many(void)
{
    enum { MOST = 7 };
    dassie_spec_t spec[MOST];
    char name[MOST][8];
    char queue[MOST][8];
    uint8_t data[MOST][400];
    struct job *job[MOST];
    unsigned n = 1 + sim_below(MOST);
    if (!may_enqueue(n)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        job[i] = job_draw(&spec[i], name[i], queue[i], data[i]);
        job[i]->ack_due = true;
    }
    dassie_enqueue_many_t *req = &enqueues.many[job[0] - model.job];
    memset(req, 0, sizeof *req);
    req->data = job[0];
    SIM_SAY("%s enqueues a batch of %u from %s on", task_name(), n, name[0]);
    users.calls++;
    int rc = dassie_enqueue_many(&users.q, req, spec, n, on_many);
    users.calls--;
    for (unsigned i = 0; rc != 0 && i < n; i++) {
        refused_at_once(job[i], rc);
    }
    reached->batches++;
    return true;
}

void enqueues_begin(void)
{
    memset(&enqueues, 0, sizeof enqueues);
}
