#include "config.h"

#include "job.h"

#include "alloc.h"
#include "state.h"

#include <string.h>

job_t *job_new(size_t row_len, size_t extra)
{
    if (row_len + extra > SIZE_MAX - sizeof(job_t)) {
        return NULL;
    }
    job_t *job = dassie__malloc(sizeof *job + row_len + extra);
    if (job != NULL) {
        memset(job, 0, sizeof *job);
        job->row_len = row_len;
        job->state = STATE_NONE;
    }
    return job;
}

void job_free(job_t *job)
{
    dassie__free(job->out);
    dassie__free(job);
}

void job_list_free(struct job_list *list)
{
    job_t *job;
    while ((job = job_list_pop(list)) != NULL) {
        job_free(job);
    }
}

size_t job_bytes(const job_t *job)
{
    return sizeof *job + job->row_len + job->out_len;
}

int job_set_out(job_t *job, const void *data, size_t len)
{
    void *copy = dassie__memdup(data, len);
    if (copy == NULL) {
        return UV_ENOMEM;
    }
    dassie__free(job->out);
    job->out = copy;
    job->out_len = len;
    return 0;
}
