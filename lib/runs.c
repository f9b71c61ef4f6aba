/* runs.c: async runs under way; see engine.h.
 *
 * dassie_finish() names a run by id and attempt, so a second finish finds
 * nothing and touches nothing. A run that was given up stays until it is
 * finished, as its owner may hold it; that changes nothing, but its memory can
 * go. While a callback is running with the job, its memory must stay: a finish
 * from another thread then only notes the outcome, and the loop posts it when
 * the callback has returned. */
#include "config.h"

#include "alloc.h"
#include "engine.h"

/* Beside a run that was given up there may be the next one of the same job. */
static job_t **runs_find(struct runs *runs, uint64_t id, uint32_t attempt)
{
    job_t **at = &runs->bucket[id % RUNS_BUCKETS];
    while (*at != NULL && ((*at)->id != id || (*at)->attempts + 1 != attempt)) {
        at = &(*at)->run_next;
    }
    return at;
}

void dassie__runs_add(struct runs *runs, job_t *job)
{
    uv_mutex_lock(&runs->mutex);
    job_t **first = &runs->bucket[job->id % RUNS_BUCKETS];
    job->busy = true;
    job->run_next = *first;
    *first = job;
    uv_mutex_unlock(&runs->mutex);
}

int dassie__runs_finish(struct runs *runs, uint64_t id, uint32_t attempt,
                        int status, void *out, size_t out_len,
                        bool out_is_error, job_t **job)
{
    *job = NULL;
    uv_mutex_lock(&runs->mutex);
    job_t **at = runs_find(runs, id, attempt);
    job_t *found = *at;
    if (found == NULL || found->finished) {
        uv_mutex_unlock(&runs->mutex);
        return UV_EALREADY;
    }
    bool late = limit_end(found);
    if (!late) {
        found->ran_ns =
            clock_mono_ns(&found->processor->impl->clock) - found->began_ns;
        found->status = status;
        found->out = out;
        found->out_len = out_len;
        found->out_is_error = out_is_error;
    }
    found->finished = true;
    if (!found->busy) {
        *at = found->run_next;
        *job = found;
    }
    uv_mutex_unlock(&runs->mutex);
    return late ? UV_EALREADY : 0;
}

job_t *dassie__runs_enter(struct runs *runs, uint64_t id, uint32_t attempt)
{
    uv_mutex_lock(&runs->mutex);
    job_t *job = *runs_find(runs, id, attempt);
    if (job != NULL) {
        job->busy = true;
    }
    uv_mutex_unlock(&runs->mutex);
    return job;
}

bool dassie__runs_leave(struct runs *runs, job_t *job)
{
    uv_mutex_lock(&runs->mutex);
    bool finished = job->finished;
    job->busy = false;
    if (finished) {
        *runs_find(runs, job->id, job->attempts + 1) = job->run_next;
    }
    uv_mutex_unlock(&runs->mutex);
    return finished;
}
