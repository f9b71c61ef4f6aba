#include "config.h"

#include "find.h"

#include "expire.h"

#include <string.h>

static int damaged(struct errmsg *e, const char *what, uint64_t id)
{
    return dassie__errmsg_set(e, DASSIE_ECORRUPT, "%s of job %llu", what,
                              (unsigned long long)id);
}

static int no_memory(struct errmsg *e)
{
    return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
}

enum family dassie__end_family(int state)
{
    return state == DASSIE_COMPLETE ? FAMILY_COMPLETE
           : state == DASSIE_FAILED ? FAMILY_FAILED
                                    : FAMILY_CANCELLED;
}

static int row_get(struct store *s, enum family family, uint64_t id,
                   struct kv_value *value, struct errmsg *e)
{
    uint8_t key[KEY_NUMBER_BYTES];
    dassie__key_number(key, id);
    return s->kv->ops->get(s->kv, NULL, family, kv_slice(key, sizeof key),
                           value, e);
}

/* Its row, as far as the payload. */
static int job_of_row(struct store *s, uint64_t id,
                      const struct kv_value *value, job_t **out,
                      struct errmsg *e)
{
    struct job_row row;
    if (dassie__job_row_read(value->p, value->len, &row) != 0 ||
        row.queue >= s->queues.n) {
        return damaged(e, "row", id);
    }
    size_t head = value->len - row.data_len;
    job_t *job = dassie__job_new(head, 0);
    struct queue *q = s->queues.by_id[row.queue];
    if (job == NULL || dassie__store_lines(s, q, row.priority) != 0) {
        if (job != NULL) {
            dassie__job_free(job);
        }
        return no_memory(e);
    }
    memcpy(job->row, value->p, head);
    job->stored = value->len;
    job->partial = true;
    job->id = id;
    job->queue = q;
    job->priority = row.priority;
    job->flags = row.flags;
    job->due_ms = row.options.number[JOB_DUE];
    job->position = id;
    job->state = job->due_ms != 0 ? DASSIE_SCHEDULED : DASSIE_PENDING;
    dassie__job_times(job, &row);
    int rc = dassie__unique_load(s, job, &row, e);
    if (rc != 0) {
        dassie__job_free(job);
        return rc;
    }
    *out = job;
    return 0;
}

static int take_end(job_t *job, int state, const struct kv_value *value,
                    struct errmsg *e)
{
    struct end_row end;
    if (dassie__end_row_read(value->p, value->len, &end) != 0) {
        return damaged(e, "end", job->id);
    }
    job->state = state;
    job->end_bytes = value->len;
    job->ended_ms = end.ended_ms;
    job->attempts = end.attempts;
    job->crashes = end.crashes;
    job->status = end.code;
    return end.data_len == 0 ||
                   dassie__job_set_out(job, end.data, end.data_len) == 0
               ? 0
               : no_memory(e);
}

/* 1: it has ended; 0: it has not. */
static int find_end(struct store *s, job_t *job, struct errmsg *e)
{
    static const int states[] = {DASSIE_COMPLETE, DASSIE_FAILED,
                                 DASSIE_CANCELLED};
    struct kv_value value;
    for (int i = 0; i < 3; i++) {
        int rc = row_get(s, dassie__end_family(states[i]), job->id, &value, e);
        if (rc == 0) {
            rc = take_end(job, states[i], &value, e);
            s->kv->ops->value_release(&value);
            return rc == 0 ? 1 : rc;
        }
        if (rc != UV_ENOENT) {
            return rc;
        }
    }
    return 0;
}

int dassie__find(struct store *s, uint64_t id, job_t **out, struct errmsg *e)
{
    struct kv_value value;
    job_t *job = NULL;
    if (id == 0 || id >= s->next) {
        return UV_ENOENT;
    }
    int rc = row_get(s, FAMILY_JOBS, id, &value, e);
    if (rc != 0) {
        return rc;
    }
    rc = job_of_row(s, id, &value, &job, e);
    s->kv->ops->value_release(&value);
    if (rc != 0) {
        return rc;
    }
    rc = dassie__store_history(s, job, e);
    if (rc == 0) {
        rc = find_end(s, job, e);
    }
    dassie__expire_loaded(job);
    if (rc < 0) {
        dassie__job_free(job);
        return rc;
    }
    *out = job;
    return 0;
}
