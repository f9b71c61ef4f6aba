/* told.c: what users see; see model.h. */
#include "model.h"
#include "moves.h"
#include "sim.h"
#include "task.h"

#include <string.h>

/* A run may have begun so long ago as it is seen to begin. */
#define BEGIN_MAX (40 * MS)

struct job *model_job(const char *name, size_t len)
{
    int number = facts_token(name, len);
    SIM_CHECK(number >= 0 && (unsigned)number < model.jobs_n,
              "nobody asked for this job");
    return &model.job[number];
}

void model_acked(struct job *job, uint64_t id, int status)
{
    const struct fact *f = &model.facts.job[move_token(job)];
    SIM_CHECK(job->ack_due, "j%d is acknowledged twice", move_token(job));
    job->ack_due = false;
    SIM_SAY("j%d acknowledged: %d", move_token(job), status);
    if (status == 0) {
        SIM_CHECK(job->gone || (f->id != 0 && f->id == id),
                  "j%d is acknowledged as %d, and on disk as %d",
                  move_token(job), (int)id, (int)f->id);
        job->stage = STAGE_ACKED;
        job->id = id;
        reached->acknowledged++;
        return;
    }
    job->done_due = false;
    if (status == DASSIE_EUNKNOWN) {
        job->stage = STAGE_DOUBT;
        return;
    }
    SIM_CHECK(f->id == 0, "j%d is refused (%d), and there", move_token(job),
              status);
    job->stage = STAGE_REFUSED;
    reached->refused++;
}

void model_ended(struct job *job, int status, const dassie_info_t *info)
{
    const struct fact *f = &model.facts.job[move_token(job)];
    const struct fact *end = &job->end;
    SIM_SAY("j%d end told: %d", move_token(job), status);
    if (status != 0) {
        SIM_CHECK(
            info == NULL && (status == UV_ECANCELED || status == UV_ENOMEM ||
                             status == UV_EIO || status == DASSIE_EUNKNOWN ||
                             (status == UV_ENOENT && job->gone)),
            "the end of j%d is told as %d", move_token(job), status);
        return;
    }
    SIM_CHECK(end->id == info->id && end->state == (int)info->state &&
                  end->code == info->error_code &&
                  end->attempts == info->attempts,
              "j%d is told to be %d, and is %s", move_token(job), info->state,
              move_state(f));
    if (f->id != 0 && f->state == end->state) {
        job->told = f->state;
    }
}

struct job *model_begun(const dassie_job_t *run, bool async)
{
    size_t len;
    const char *name = dassie_job_name(run, &len);
    struct job *job = model_job(name, len);
    const struct fact *f = &model.facts.job[move_token(job)];
    SIM_SAY("j%d begins run %u%s", move_token(job), dassie_job_attempt(run),
            async ? ", async" : "");
    SIM_CHECK(f->id != 0 && f->id == dassie_job_id(run) &&
                  f->state == DASSIE_RUNNING &&
                  f->attempts + 1 == dassie_job_attempt(run),
              "j%d begins run %u, and is %s with %u attempts on disk",
              move_token(job), dassie_job_attempt(run), move_state(f),
              f->attempts);
    SIM_CHECK(!job->executing && !(job->session == model.session &&
                                   job->begun == f->attempts + 1),
              "j%d begins a run twice", move_token(job));
    SIM_CHECK(job->told == 0, "j%d begins, and its end was told",
              move_token(job));
    SIM_CHECK(!job->once || (job->flags & DASSIE_AT_MOST_ONCE) == 0,
              "j%d begins again, but at most once was asked for",
              move_token(job));
    SIM_CHECK(job->stage != STAGE_REFUSED, "j%d begins, it was refused",
              move_token(job));
    job->once = true;
    job->session = model.session;
    job->begun = f->attempts + 1;
    job->touched = task_now;
    job->executing = true;
    job->returned = false;
    reached->runs++;
    reached->at_most_once += (job->flags & DASSIE_AT_MOST_ONCE) != 0;
    return job;
}

static bool is_overdue(const struct job *job)
{
    return job->timeout_ms > 0 &&
           task_now + BEGIN_MAX >= job->touched + job->timeout_ms * MS;
}

void model_timed_out(const struct job *job)
{
    SIM_CHECK(is_overdue(job), "j%d has timed out before its time",
              move_token(job));
    reached->timed_out++;
}

void model_returned(struct job *job, int status, const char *out, size_t len)
{
    SIM_SAY("j%d returns %d from run %u", move_token(job), status, job->begun);
    reached->cancels_known += job->cancel == CANCEL_SURE;
    job->timed_out = is_overdue(job);
    job->executing = false;
    job->returned = true;
    job->status = status;
    job->out_len = len;
    memcpy(job->out, out, len < OUT_MAX ? len : OUT_MAX);
    reached->completed += status == 0;
    reached->failed += status != 0;
}

void model_goes_on(struct job *job)
{
    job->executing = true;
    job->returned = false;
}
