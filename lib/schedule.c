#include "config.h"

#include "schedule.h"

#include "expire.h"
#include "save.h"

#include <string.h>

static struct kv_slice due_key(uint8_t key[KEY_DUE_BYTES],
                               const struct due *due)
{
    dassie__key_due(key, due);
    return kv_slice(key, KEY_DUE_BYTES);
}

uint64_t dassie__schedule_due(const struct store *s)
{
    return s->schedule.live > 0 ? s->schedule.head_ms : UINT64_MAX;
}

/* ---- Rows come and go ---- */

void dassie__schedule_delete_dead(struct store *s)
{
    struct schedule_row *row = &s->schedule;
    uint8_t from[KEY_DUE_BYTES];
    uint8_t to[KEY_DUE_BYTES];
    struct due start = {row->start_ms, row->start_id, 0};
    struct due head = {row->head_ms, row->head_id, 0};
    if (row->dead == 0) {
        return;
    }
    s->kv->ops->del_range(s->kv, FAMILY_SCHEDULED, due_key(from, &start),
                          due_key(to, &head));
    row->dead = 0;
    s->changed = true;
}

/* Whether a row at due would be taken for a dead one. */
static bool before_head(const struct schedule_row *row, const struct due *due)
{
    return due->ms < row->head_ms ||
           (due->ms == row->head_ms && due->id < row->head_id);
}

/* One more live row, at due. */
static void enter(struct store *s, const struct due *due)
{
    struct schedule_row *row = &s->schedule;
    bool before = before_head(row, due);
    if (before) {
        dassie__schedule_delete_dead(s);
    }
    if (before || row->live == 0) {
        row->head_ms = due->ms;
        row->head_id = due->id;
    }
    if (row->dead == 0) {
        row->start_ms = row->head_ms;
        row->start_id = row->head_id;
    }
    row->live++;
    s->changed = true;
}

void dassie__schedule_put_row(struct store *s, const struct due *due,
                              struct kv_slice value)
{
    uint8_t key[KEY_DUE_BYTES];
    enter(s, due);
    s->kv->ops->put(s->kv, FAMILY_SCHEDULED, due_key(key, due), value);
}

void dassie__schedule_remove_row(struct store *s, const struct due *due)
{
    uint8_t key[KEY_DUE_BYTES];
    s->kv->ops->del(s->kv, FAMILY_SCHEDULED, due_key(key, due));
    s->schedule.live--;
    s->changed = true;
}

void dassie__schedule_put(struct store *s, const job_t *job, bool history)
{
    uint8_t value[DUE_ROW_MAX];
    struct due due = {job->due_ms, job->id, DUE_JOB};
    struct due_row row = {job->queue->id, job->priority, job->attempts,
                          history};
    size_t len = dassie__due_row_write(value, &row);
    dassie__schedule_put_row(s, &due, kv_slice(value, len));
}

void dassie__schedule_remove(struct store *s, const job_t *job)
{
    struct due due = {job->due_ms, job->id, DUE_JOB};
    dassie__schedule_remove_row(s, &due);
}

/* ---- What is due ---- */

static int damaged(struct errmsg *e, const struct due *due)
{
    return dassie__errmsg_set(e, DASSIE_ECORRUPT, "scheduled row of job %llu",
                              (unsigned long long)due->id);
}

/* Whether the window of the job's line may take it. Then its row is read with
 * it: a window that lacks one job takes none after it, and all would have to be
 * read again. */
static bool may_join(const struct store *s, struct queue *q, int8_t priority)
{
    const struct line *line = dassie__queue_line(q, priority, LINE_NORMAL);
    return q->served > 0 && line->row.live == line->window.n &&
           s->window_bytes < s->window_max;
}

static int load_row(struct store *s, const struct due *due, job_t **job,
                    struct errmsg *e)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv_value value;
    struct job_row row;
    dassie__key_number(key, due->id);
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_JOBS,
                             kv_slice(key, sizeof key), &value, e);
    if (rc != 0) {
        return rc == UV_ENOENT ? damaged(e, due) : rc;
    }
    rc = dassie__job_row_read(value.p, value.len, &row);
    *job = rc == 0 ? dassie__job_new(value.len, 0) : NULL;
    if (rc != 0) {
        rc = damaged(e, due);
    } else if (*job != NULL) {
        memcpy((*job)->row, value.p, value.len);
        (*job)->flags = row.flags;
        (*job)->id = due->id;
        dassie__job_times(*job, &row);
        rc = dassie__unique_load(s, *job, &row, e);
    }
    s->kv->ops->value_release(&value);
    return rc;
}

/* The job of a row that is due, in memory; without its own row where that has
 * no use. NULL in *job: no memory. */
static int load_job(struct store *s, const struct due *due,
                    const struct due_row *row, job_t **job, struct errmsg *e)
{
    struct queue *q = s->queues.by_id[row->queue];
    int rc = dassie__store_lines(s, q, row->priority);
    if (rc == 0 && may_join(s, q, row->priority)) {
        rc = load_row(s, due, job, e);
        if (rc != 0) {
            return rc;
        }
    } else if (rc == 0) {
        *job = dassie__job_new(0, 0);
    }
    if (rc != 0 || *job == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    (*job)->id = due->id;
    (*job)->state = DASSIE_SCHEDULED;
    (*job)->queue = q;
    (*job)->priority = row->priority;
    (*job)->attempts = row->attempts;
    rc = row->history ? dassie__store_history(s, *job, e) : 0;
    dassie__expire_loaded(*job);
    return rc == 0 && row->attempts > 0 && (*job)->row_len > 0
               ? dassie__save_load(s, *job, e)
               : rc;
}

static int promote_job(struct store *s, const struct due *due,
                       struct kv_slice value, struct errmsg *e)
{
    struct due_row row;
    job_t *job = NULL;
    bool kept = false;
    if (dassie__due_row_read(value.p, value.len, &row) != 0 ||
        row.queue >= s->queues.n) {
        return damaged(e, due);
    }
    int rc = load_job(s, due, &row, &job, e);
    if (rc == 0) {
        rc = dassie__store_move(s, job, EVENT_PROMOTE, &kept);
    }
    if (!kept && job != NULL) {
        dassie__job_free(job);
    }
    return rc;
}

/* Where the head stands now: no live row is before it. */
static int settle_head(struct store *s, const struct kv_iter *it,
                       struct errmsg *e)
{
    struct schedule_row *row = &s->schedule;
    struct due due;
    if (!s->kv->ops->iter_valid(it)) {
        return row->live == 0
                   ? 0
                   : dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                        "scheduled rows are missing");
    }
    struct kv_slice key = s->kv->ops->iter_key(it);
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT, "a scheduled row's key");
    }
    row->head_ms = due.ms;
    row->head_id = due.id;
    return 0;
}

/* How far it has got. */
struct promotion {
    uint64_t wall_ms;
    unsigned rows; /* that may be looked at yet */
    unsigned n;    /* jobs moved */
};

/* What is due with a row. */
static int see_to(struct store *s, const struct due *due, struct kv_slice value,
                  struct promotion *p, struct errmsg *e)
{
    if (due->kind == DUE_KEY) {
        return dassie__unique_expire(s, due, value, e);
    }
    if (due->kind == DUE_EXPIRY) {
        return dassie__expire_due(s, due, p->wall_ms, e);
    }
    int rc = promote_job(s, due, value, e);
    p->n += rc == 0;
    return rc;
}

static bool has_place(struct store *s, const struct kv_iter *it,
                      const struct due *due)
{
    struct due other;
    if (!s->kv->ops->iter_valid(it)) {
        return false;
    }
    struct kv_slice key = s->kv->ops->iter_key(it);
    return dassie__key_parse_due(key.p, key.len, &other) == 0 &&
           other.ms == due->ms && other.id == due->id;
}

/* Takes one row, if it is there (a head that was lowered has some before it
 * again that a range has deleted), and goes to the next. Nothing may be alive
 * before the head: where the next row has the same place in it, this one goes
 * by its key. */
static int promote_row(struct store *s, const struct due *due,
                       struct kv_iter *it, struct promotion *p,
                       struct errmsg *e)
{
    struct schedule_row *row = &s->schedule;
    int live = s->kv->ops->iter_live(it, e);
    int rc =
        live == 1 ? see_to(s, due, s->kv->ops->iter_value(it), p, e) : live;
    p->rows = rc == 0 ? p->rows - 1 : 0;
    if (rc != 0 && rc != EXPIRE_LAST) {
        return rc == EXPIRE_LATER ? 0 : rc;
    }
    s->kv->ops->iter_next(it);
    bool shared = has_place(s, it, due);
    if (live == 1 && shared) {
        dassie__schedule_remove_row(s, due);
    } else if (live == 1) {
        row->live--;
        row->dead++;
    }
    if (!shared) {
        row->head_ms = due->ms;
        row->head_id = due->id + 1;
    }
    return 0;
}

/* Takes rows from the head on. */
static int promote_rows(struct store *s, struct kv_iter *it,
                        struct promotion *p, struct errmsg *e)
{
    const struct kv_ops *ops = s->kv->ops;
    struct due due;
    while (p->rows > 0 && ops->iter_valid(it)) {
        struct kv_slice key = ops->iter_key(it);
        if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
            return dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                      "a scheduled row's key");
        }
        if (due.ms > p->wall_ms) {
            break;
        }
        int rc = promote_row(s, &due, it, p, e);
        if (rc != 0) {
            return rc;
        }
    }
    return settle_head(s, it, e);
}

int dassie__schedule_promote(struct store *s, uint64_t wall_ms, unsigned max,
                             unsigned *n, struct errmsg *e)
{
    static const uint8_t end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff};
    struct due head = {s->schedule.head_ms, s->schedule.head_id, 0};
    uint8_t from[KEY_DUE_BYTES];
    struct promotion p = {wall_ms, max, 0};
    *n = 0;
    struct kv_iter *it =
        s->kv->ops->iter(s->kv, NULL, FAMILY_SCHEDULED, due_key(from, &head),
                         kv_slice(end, sizeof end));
    if (it == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    int rc = promote_rows(s, it, &p, e);
    *n = p.n;
    /* A row that could not be read looks as if it were not there. */
    int failed = s->kv->ops->iter_close(it, e);
    return failed != 0 ? failed : rc;
}
