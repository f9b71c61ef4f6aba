#include "config.h"

#include "expire.h"

#include "find.h"
#include "retry.h"
#include "schedule.h"

#include <string.h>

uint64_t dassie__expire_of(const struct job_row *row)
{
    const uint64_t *number = row->options.number;
    uint64_t from = number[JOB_DUE] != 0 ? number[JOB_DUE] : row->enqueued_ms;
    return number[JOB_EXPIRE] == 0 ? 0
                                   : dassie__time_add(from, number[JOB_EXPIRE]);
}

static bool waits(const job_t *job)
{
    return job->state == DASSIE_PENDING || job->state == DASSIE_SCHEDULED;
}

/* One that was retried has the error it was retried for. */
static bool is_new(const job_t *job)
{
    return job->attempts == 0 && job->status == 0;
}

void dassie__expire_loaded(job_t *job)
{
    job->timer = job->expires_ms != 0 && waits(job) && is_new(job);
}

void dassie__expire_moved(struct store *s, job_t *job, enum event event)
{
    static const uint8_t value[] = {RECORD_VERSION};
    struct due due = {job->expires_ms, job->id, DUE_EXPIRY};
    bool timer = waits(job) && is_new(job) && event != EVENT_AGAIN;
    if (job->timer && !timer) {
        dassie__schedule_remove_row(s, &due);
    } else if (!job->timer && timer) {
        dassie__schedule_put_row(s, &due, kv_slice(value, sizeof value));
    }
    job->timer = timer;
}

bool dassie__expire_is_late(const job_t *job, uint64_t wall_ms)
{
    return job->expires_ms != 0 && job->expires_ms <= wall_ms && is_new(job);
}

void dassie__expire_end(job_t *job, uint64_t wall_ms)
{
    const char *text = dassie_strerror(DASSIE_EEXPIRED);
    job->status = DASSIE_EEXPIRED;
    job->ended_ms = wall_ms;
    dassie__job_set_out(job, text, strlen(text)); /* no text if no memory */
}

static int damaged(const struct due *due, struct errmsg *e)
{
    return dassie__errmsg_set(e, DASSIE_ECORRUPT, "timer row of job %llu",
                              (unsigned long long)due->id);
}

int dassie__expire_due(struct store *s, const struct due *due, uint64_t wall_ms,
                       struct errmsg *e)
{
    job_t *job = NULL;
    bool kept;
    int rc = dassie__find(s, due->id, &job, e);
    if (rc != 0) {
        return rc == UV_ENOENT ? damaged(due, e) : rc;
    }
    bool scheduled = job->state == DASSIE_SCHEDULED;
    bool promoted = scheduled && job->due_ms <= due->ms;
    if (!job->timer || job->expires_ms != due->ms || promoted) {
        dassie__job_free(job);
        return promoted ? EXPIRE_LATER : damaged(due, e);
    }
    job->timer = false; /* the schedule sees to its row */
    scheduled = scheduled && job->due_ms <= wall_ms;
    dassie__expire_end(job, wall_ms);
    dassie__store_move(s, job, EVENT_CANCEL, &kept);
    job_list_push(&s->expired, job);
    return scheduled ? EXPIRE_LAST : 0;
}
