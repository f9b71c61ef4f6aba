#include "config.h"

#include "limit.h"

#include <stdio.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)

/* ---- The heap ---- */

void dassie__limits_add(struct limits *limits, job_t *job, uint64_t at)
{
    dassie__heap_set(&limits->heap, &job->limit, at);
}

void dassie__limits_remove(struct limits *limits, job_t *job)
{
    dassie__heap_remove(&limits->heap, &job->limit);
}

job_t *dassie__limits_next(struct limits *limits, uint64_t mono_ns)
{
    struct heap_node *node = heap_first(&limits->heap);
    if (node == NULL || heap_first_key(&limits->heap) > mono_ns) {
        return NULL;
    }
    dassie__heap_remove(&limits->heap, node);
    return container_of(node, job_t, limit);
}

uint64_t dassie__limits_due(const struct limits *limits)
{
    return heap_first_key(&limits->heap);
}

/* ---- A run ---- */

static uint64_t timeout_ns(const job_t *job)
{
    struct job_row row;
    if (job->row_len == 0 || (job->row[1] & JOB_ROW_OPTIONS) == 0) {
        return 0;
    }
    dassie__job_row_read(job->row, job->row_len, &row); /* ours */
    uint64_t ms = row.options.number[JOB_TIMEOUT];
    return MS_NS * (ms < DASSIE_TIMEOUT_MS_MAX ? ms : DASSIE_TIMEOUT_MS_MAX);
}

void dassie__limits_claim(struct limits *limits, job_t *job, uint64_t mono_ns)
{
    job->timeout_ns = timeout_ns(job);
    if (job->timeout_ns > 0) {
        atomic_store(&job->deadline, LIMIT_NOT_BEGUN);
        dassie__limits_add(limits, job, mono_ns + job->timeout_ns);
    }
}

bool dassie__limit_pass(job_t *job, uint64_t mono_ns, uint64_t *again)
{
    uint64_t at = atomic_load(&job->deadline);
    while (at != LIMIT_NOT_BEGUN && at <= mono_ns) {
        if (atomic_compare_exchange_weak(&job->deadline, &at, LIMIT_PASSED)) {
            return true;
        }
    }
    *again = at != LIMIT_NOT_BEGUN ? at : mono_ns + job->timeout_ns;
    return false;
}

/* What nobody has said in their own words. */
static bool is_said(const job_t *job, int code)
{
    const char *text = dassie_strerror(code);
    return job->out_len == strlen(text) &&
           memcmp(job->out, text, job->out_len) == 0;
}

void dassie__limit_settle(job_t *job)
{
    char text[64];
    if (job->status != UV_ECANCELED && job->status != UV_ETIMEDOUT) {
        return;
    }
    if (job->out_len == 0 || is_said(job, job->status)) {
        snprintf(text, sizeof text, "timed out after %llu ms",
                 (unsigned long long)(job->timeout_ns / MS_NS));
        dassie__job_set_out(job, text, strlen(text)); /* no text if no memory */
    }
    job->status = UV_ETIMEDOUT;
}
