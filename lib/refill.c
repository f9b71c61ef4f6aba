#include "config.h"

#include "refill.h"

#include "alloc.h"
#include "expire.h"
#include "save.h"

#include <string.h>

/* A gap of ids up to this is walked, a larger one sought. */
#define STEPS_MAX 16

struct refill {
    struct store *s;
    struct line *line;
    struct kv_iter *pending;
    struct kv_iter *jobs;
    size_t bytes_max;
    uint8_t to[KEY_PENDING_BYTES];
};

/* An equal share of the budget for every queue that is served. */
static size_t refill_bytes_max(const struct store *s)
{
    size_t share = s->window_max / (s->served > 0 ? s->served : 1);
    size_t left =
        s->window_bytes < s->window_max ? s->window_max - s->window_bytes : 0;
    return share < left ? share : left;
}

/* Brings the jobs' iterator to id: 0, or UV_ENOENT. */
static int jobs_advance(struct refill *r, uint64_t id)
{
    const struct kv_ops *ops = r->s->kv->ops;
    uint8_t key[KEY_NUMBER_BYTES];
    uint64_t at;
    for (int step = 0; step < STEPS_MAX && ops->iter_valid(r->jobs); step++) {
        struct kv_slice found = ops->iter_key(r->jobs);
        if (dassie__key_parse_number(found.p, found.len, &at) != 0 || at > id) {
            break;
        }
        if (at == id) {
            return 0;
        }
        ops->iter_next(r->jobs);
    }
    dassie__key_number(key, id);
    ops->iter_seek(r->jobs, kv_slice(key, sizeof key));
    if (!ops->iter_valid(r->jobs)) {
        return UV_ENOENT;
    }
    struct kv_slice found = ops->iter_key(r->jobs);
    return dassie__key_parse_number(found.p, found.len, &at) == 0 && at == id
               ? 0
               : UV_ENOENT;
}

static int load_job(struct refill *r, const struct place *place,
                    const struct pending_row *pending, struct errmsg *e)
{
    struct job_row row;
    if (dassie__store_taken(r->s, pending->id)) {
        return 0;
    }
    if (jobs_advance(r, pending->id) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                  "job %llu is pending but gone",
                                  (unsigned long long)pending->id);
    }
    struct kv_slice value = r->s->kv->ops->iter_value(r->jobs);
    if (dassie__job_row_read(value.p, value.len, &row) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT, "row of job %llu",
                                  (unsigned long long)pending->id);
    }
    job_t *job = dassie__job_new(value.len, 0);
    if (job == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    memcpy(job->row, value.p, value.len);
    job->id = pending->id;
    job->position = place->position;
    job->kind = place->kind;
    job->priority = row.priority;
    job->flags = row.flags;
    job->attempts = pending->attempts;
    job->queue = r->line->queue;
    job->state = DASSIE_PENDING;
    dassie__job_times(job, &row);
    int rc = dassie__unique_load(r->s, job, &row, e);
    if (rc == 0 && pending->id != place->position) {
        rc = dassie__store_history(r->s, job, e);
    }
    if (rc == 0 && pending->attempts > 0) {
        rc = dassie__save_load(r->s, job, e);
    }
    dassie__expire_loaded(job);
    if (rc != 0) {
        dassie__job_free(job);
        return rc;
    }
    dassie__line_load(r->line, job);
    r->s->window_bytes += dassie__job_bytes(job);
    return 0;
}

static int refill_walk(struct refill *r, struct errmsg *e)
{
    const struct kv_ops *ops = r->s->kv->ops;
    int rc = 0;
    for (; ops->iter_valid(r->pending); ops->iter_next(r->pending)) {
        struct kv_slice key = ops->iter_key(r->pending);
        struct kv_slice value = ops->iter_value(r->pending);
        struct place place;
        struct pending_row pending;
        if (dassie__key_parse_pending(key.p, key.len, &place) != 0 ||
            dassie__pending_row_read(value.p, value.len, place.position,
                                     &pending) != 0) {
            return dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                      "a pending row of queue %u",
                                      r->line->queue->id);
        }
        rc = load_job(r, &place, &pending, e);
        if (rc != 0 || r->line->window.n >= REFILL_JOBS_MAX ||
            r->line->window_bytes >= r->bytes_max) {
            break;
        }
    }
    /* What was read before the damage can still run. */
    return r->line->window.n > 0 ? 0 : rc;
}

/* Opens both iterators; the first pending row tells where jobs begin. */
static int refill_open(struct refill *r, struct errmsg *e)
{
    static const uint8_t jobs_end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff};
    const struct kv_ops *ops = r->s->kv->ops;
    const struct line *line = r->line;
    uint8_t from[KEY_PENDING_BYTES];
    uint64_t begin = line->window_end + 1 > line->row.cursor
                         ? line->window_end + 1
                         : line->row.cursor;
    struct place place = {line->queue->id, line->row.priority, line->row.kind,
                          begin};
    dassie__key_pending(from, &place);
    place.position = line->row.tail + 1;
    dassie__key_pending(r->to, &place);
    r->pending =
        ops->iter(r->s->kv, NULL, FAMILY_PENDING, kv_slice(from, sizeof from),
                  kv_slice(r->to, sizeof r->to));
    r->jobs = ops->iter(r->s->kv, NULL, FAMILY_JOBS, kv_slice("", 0),
                        kv_slice(jobs_end, sizeof jobs_end));
    return r->pending == NULL || r->jobs == NULL
               ? dassie__errmsg_set(e, UV_ENOMEM, "out of memory")
               : 0;
}

int dassie__refill_line(struct store *s, struct line *line, struct errmsg *e)
{
    struct refill r = {.s = s, .line = line, .bytes_max = refill_bytes_max(s)};
    int rc = refill_open(&r, e);
    if (rc == 0) {
        s->refills++;
        rc = refill_walk(&r, e);
    }
    /* A row that could not be read looks as if it were not there. */
    if (r.pending != NULL) {
        int failed = s->kv->ops->iter_close(r.pending, e);
        rc = failed != 0 ? failed : rc;
    }
    if (r.jobs != NULL) {
        int failed = s->kv->ops->iter_close(r.jobs, e);
        rc = failed != 0 ? failed : rc;
    }
    if (rc == 0 && line->window.n == 0 && line->row.live > 0 && !s->changed) {
        rc = dassie__errmsg_set(
            e, DASSIE_ECORRUPT, "%llu pending rows of queue %u are missing",
            (unsigned long long)line->row.live, line->queue->id);
    }
    return line->window.n > 0 ? 0 : rc;
}
