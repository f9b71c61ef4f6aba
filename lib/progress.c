/* progress.c: what a job says and saves while it runs; see save.h. */
#include "config.h"

#include "impl.h"
#include "save.h"

#include <string.h>

static void save_post(dassie_job_t *job, struct op *op)
{
    if (op != NULL) {
        op->type = OP_SAVE;
        dassie__engine_post(job->processor->impl, op);
    }
}

static bool is_range(uint64_t done, uint64_t total)
{
    return total == 0 || done <= total;
}

int dassie_job_progress(dassie_job_t *job, uint64_t done, uint64_t total,
                        const char *text, size_t len)
{
    struct progress progress = {.done = done, .total = total};
    struct op *op;
    if (text != NULL && len == 0) {
        len = strnlen(text, DASSIE_PROGRESS_BYTES_MAX + 1);
    }
    if (job == NULL || !is_range(done, total) || (text == NULL && len > 0)) {
        return UV_EINVAL;
    }
    if (len > DASSIE_PROGRESS_BYTES_MAX) {
        return UV_E2BIG;
    }
    if (limit_given_up(job)) {
        return UV_EALREADY;
    }
    progress.text_len = len;
    if (len > 0) {
        memcpy(progress.text, text, len);
    }
    int rc = dassie__save_progress(job, &progress, &op);
    save_post(job, op);
    return rc;
}

int dassie_job_step(dassie_job_t *job, uint64_t done, uint64_t total)
{
    struct op *op;
    if (job == NULL || !is_range(done, total)) {
        return UV_EINVAL;
    }
    if (limit_given_up(job)) {
        return UV_EALREADY;
    }
    int rc = dassie__save_step(job, done, total, &op);
    save_post(job, op);
    int why = dassie_job_cancelled(job);
    if (why == 0 && atomic_load_explicit(&job->processor->impl->ending,
                                         memory_order_relaxed)) {
        why = UV_ECANCELED;
    }
    return rc == 0 ? why : rc;
}

uint64_t dassie_job_resume_at(const dassie_job_t *job)
{
    const struct save *save = dassie__save_find(job);
    return save != NULL ? save->resume_at : 0;
}

int dassie_job_checkpoint(dassie_job_t *job, const void *data, size_t len)
{
    struct op *op;
    if (job == NULL || (data == NULL && len > 0)) {
        return UV_EINVAL;
    }
    if (len > DASSIE_CHECKPOINT_BYTES_MAX) {
        return UV_E2BIG;
    }
    if (limit_given_up(job)) {
        return UV_EALREADY;
    }
    int rc = dassie__save_checkpoint(job, data, len, &op);
    save_post(job, op);
    return rc;
}

const void *dassie_job_checkpoint_data(const dassie_job_t *job, size_t *len)
{
    const struct save *save = dassie__save_find(job);
    if (len != NULL) {
        *len = save != NULL ? save->kept_len : 0;
    }
    return save != NULL ? save->kept : NULL;
}
