#include "config.h"

#include "limit.h"

#include <stdio.h>
#include <string.h>

#define MS_NS UINT64_C(1000000)

/* ---- The heap ---- */

static void put(struct limits *limits, uint32_t place, job_t *job)
{
    limits->heap[place] = job;
    job->limit_place = place + 1;
}

/* Towards the first one as far as it belongs. */
static void move_up(struct limits *limits, uint32_t place, job_t *job)
{
    while (place > 0) {
        job_t *parent = limits->heap[(place - 1) / 2];
        if (parent->limit_at <= job->limit_at) {
            break;
        }
        put(limits, place, parent);
        place = (place - 1) / 2;
    }
    put(limits, place, job);
}

static void move_down(struct limits *limits, uint32_t place, job_t *job)
{
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < limits->n &&
            limits->heap[child + 1]->limit_at < limits->heap[child]->limit_at) {
            child++;
        }
        if (child >= limits->n ||
            limits->heap[child]->limit_at >= job->limit_at) {
            break;
        }
        put(limits, place, limits->heap[child]);
        place = child;
    }
    put(limits, place, job);
}

void dassie__limits_add(struct limits *limits, job_t *job, uint64_t at)
{
    job->limit_at = at;
    move_up(limits, limits->n++, job);
}

void dassie__limits_remove(struct limits *limits, job_t *job)
{
    if (job->limit_place == 0) {
        return;
    }
    uint32_t place = job->limit_place - 1;
    job_t *last = limits->heap[--limits->n];
    job->limit_place = 0;
    if (last != job) {
        move_down(limits, place, last);
        move_up(limits, last->limit_place - 1, last);
    }
}

job_t *dassie__limits_next(struct limits *limits, uint64_t mono_ns)
{
    job_t *job = limits->n > 0 ? limits->heap[0] : NULL;
    if (job == NULL || job->limit_at > mono_ns) {
        return NULL;
    }
    dassie__limits_remove(limits, job);
    return job;
}

uint64_t dassie__limits_due(const struct limits *limits)
{
    return limits->n > 0 ? limits->heap[0]->limit_at : UINT64_MAX;
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
