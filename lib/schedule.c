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
    if (s->schedule.live <= s->passed) {
        return UINT64_MAX;
    }
    return s->passed > 0 ? s->ahead.ms : s->schedule.head_ms;
}

void dassie__schedule_again(struct store *s)
{
    s->passed = 0;
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

/* Whether a row was passed over, or would be missed from there on. */
static bool before_ahead(const struct store *s, const struct due *due)
{
    const struct due *at = &s->ahead;
    return s->passed > 0 && (due->ms != at->ms   ? due->ms < at->ms
                             : due->id != at->id ? due->id < at->id
                                                 : due->kind < at->kind);
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
    if (before_ahead(s, due)) {
        dassie__schedule_again(s);
    } else if (row->live == s->passed) {
        s->ahead = *due;
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
    if (before_ahead(s, due)) {
        dassie__schedule_again(s);
    }
    s->schedule.live--;
    s->changed = true;
}

void dassie__schedule_put(struct store *s, const job_t *job, bool history)
{
    uint8_t value[DUE_ROW_MAX];
    struct due due = {job->due_ms, job->id, DUE_JOB};
    struct due_row row = {job->queue->id, job->priority, job->attempts, history,
                          job->stored};
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
    (*job)->stored = row->bytes;
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

/* Where the next row stands: no live one is before it that was not passed
 * over. */
static int settle(struct store *s, const struct kv_iter *it, struct errmsg *e)
{
    struct schedule_row *row = &s->schedule;
    struct due due;
    if (!s->kv->ops->iter_valid(it)) {
        return row->live <= s->passed
                   ? 0
                   : dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                        "scheduled rows are missing");
    }
    struct kv_slice key = s->kv->ops->iter_key(it);
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT, "a scheduled row's key");
    }
    if (s->passed > 0) {
        s->ahead = due;
    } else {
        row->head_ms = due.ms;
        row->head_id = due.id;
    }
    return 0;
}

/* How far it has got. */
struct promotion {
    uint64_t wall_ms;
    unsigned rows; /* that may be looked at yet */
    unsigned n;    /* jobs moved */
    bool again;    /* what was passed over before has changed */
};

/* What is due with a row. */
static int see_to(struct store *s, const struct due *due, struct kv_slice value,
                  struct promotion *p, struct errmsg *e)
{
    if (due->kind == DUE_KEY) {
        return dassie__unique_expire(s, due, value, e);
    }
    if (due->kind == DUE_EXPIRY) {
        int rc = dassie__expire_due(s, due, p->wall_ms, e);
        /* Its job is not in this batch, so it was passed over. */
        return rc == EXPIRE_LATER && p->n == 0 ? damaged(e, due) : rc;
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

/* A damaged one stays, and so does the head. */
static void pass_over(struct store *s, const struct due *due)
{
    if (s->passed++ == 0) {
        s->schedule.head_ms = due->ms;
        s->schedule.head_id = due->id;
    }
}

/* A row is done with, live or not. Nothing may be alive before the head: where
 * one was passed over, or the next row has the same place in it, this one goes
 * by its key. */
static void row_done(struct store *s, const struct due *due, bool live,
                     bool stays)
{
    struct schedule_row *row = &s->schedule;
    if (live && stays) {
        dassie__schedule_remove_row(s, due);
    } else if (live) {
        row->live--;
        row->dead++;
    }
    if (!stays) {
        row->head_ms = due->ms;
        row->head_id = due->id + 1;
    }
}

/* Takes one row, if it is there (a head that was lowered has some before it
 * again that a range has deleted), and goes to the next. */
static int promote_row(struct store *s, const struct due *due,
                       struct kv_iter *it, struct promotion *p,
                       struct errmsg *e)
{
    bool passed = s->passed > 0;
    int live = s->kv->ops->iter_live(it, e);
    int rc =
        live == 1 ? see_to(s, due, s->kv->ops->iter_value(it), p, e) : live;
    bool is_damaged = live == 1 && rc == DASSIE_ECORRUPT;
    p->rows = rc == 0 || is_damaged ? p->rows - 1 : 0;
    p->again = passed && s->passed == 0;
    if (rc != 0 && rc != EXPIRE_LAST && !is_damaged) {
        return rc == EXPIRE_LATER ? 0 : rc;
    }
    s->kv->ops->iter_next(it);
    if (is_damaged) {
        pass_over(s, due);
    } else {
        row_done(s, due, live == 1, passed || has_place(s, it, due));
    }
    s->ahead = *due;
    s->ahead.kind++;
    return 0;
}

/* Takes rows as long as they are due. */
static int promote_rows(struct store *s, struct kv_iter *it,
                        struct promotion *p, struct errmsg *e)
{
    const struct kv_ops *ops = s->kv->ops;
    struct due due;
    while (p->rows > 0 && !p->again && ops->iter_valid(it)) {
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
    return p->again ? 0 : settle(s, it, e);
}

int dassie__schedule_promote(struct store *s, uint64_t wall_ms, unsigned max,
                             unsigned *n, struct errmsg *e)
{
    static const uint8_t end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff};
    struct due head = {s->schedule.head_ms, s->schedule.head_id, 0};
    uint8_t from[KEY_DUE_BYTES];
    struct promotion p = {.wall_ms = wall_ms, .rows = max};
    *n = 0;
    struct kv_iter *it =
        s->kv->ops->iter(s->kv, NULL, FAMILY_SCHEDULED,
                         due_key(from, s->passed > 0 ? &s->ahead : &head),
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
