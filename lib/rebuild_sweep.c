/* rebuild_sweep.c: a rebuild's last parts: rows in which nobody waits, and what
 * nobody has saved.
 *
 * The happy path is: rows are counted; where there are more than jobs that
 * wait, each is asked whether its job stands there, and goes if not.
 *
 * Possible failure modes are: no memory, a read or a commit that fails, a row
 * that nobody writes (DASSIE_ECORRUPT).
 *
 * On close: nothing is kept. Threads: the engine. */
#include "config.h"

#include "rebuild_rows.h"

#include "expire.h"

/* ---- Pending rows that are nobody's place ---- */

/* The line that a pending row stands in, or NULL: no job can be there. */
static int line_of_row(struct rebuild *rb, struct kv_slice key,
                       struct place *place, struct line **line)
{
    *line = NULL;
    if (dassie__key_parse_pending(key.p, key.len, place) != 0) {
        return dassie__rebuild_damaged(rb, "the key of a pending row");
    }
    rb->s.next = max64(rb->s.next, place->position + 1);
    return place->queue < rb->s.queues.n
               ? dassie__rebuild_line(rb, rb->s.queues.by_id[place->queue],
                                      place->priority, place->kind, line)
               : 0;
}

static int count_row(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct place place;
    struct line *line = NULL;
    (void)value;
    int rc = line_of_row(rb, key, &place, &line);
    if (rc == 0 && line == NULL) {
        dassie__rebuild_del(rb, FAMILY_PENDING, key);
    } else if (rc == 0) {
        line->row.dead++;
    }
    return rc;
}

/* Deletes a row if its job does not stand there. */
static int sweep_row(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct pending_row row;
    struct place place;
    struct line *line = NULL;
    struct facts f;
    int rc = line_of_row(rb, key, &place, &line);
    if (rc != 0) {
        return rc;
    }
    if (place.position <= line->window_end) {
        rb->s.kv->ops->del(rb->s.kv, FAMILY_PENDING, key);
        line->row.dead--;
        return 0;
    }
    if (dassie__pending_row_read(value.p, value.len, place.position, &row) !=
        0) {
        return dassie__rebuild_damaged(rb, "a pending row");
    }
    rc = dassie__rebuild_facts(rb, row.id, JOBS, &f);
    if (rc == 0 && (!f.there[JOBS] || has_ended(&f) ||
                    !dassie__rebuild_is_place(&f, &place, &row))) {
        dassie__rebuild_del(rb, FAMILY_PENDING, key);
        line->row.dead--;
    }
    return rc;
}

/* Its rows but for those that are known to be live are counted as dead. */
static int sweep_line(struct rebuild *rb, struct line *line)
{
    uint8_t from[KEY_PENDING_BYTES];
    uint8_t to[KEY_PENDING_BYTES];
    struct place place = {line->queue->id, line->row.priority, line->row.kind,
                          0};
    line->row.dead -= line->row.live;
    if (line->row.dead == 0) {
        return 0;
    }
    place_key(from, &place);
    place.position = UINT64_MAX;
    int rc =
        dassie__rebuild_each(rb, FAMILY_PENDING, kv_slice(from, sizeof from),
                             place_key(to, &place), WINDOW_ROWS, sweep_row);
    return rc == 0 && line->row.dead != 0
               ? dassie__rebuild_damaged(rb, "a line's rows")
               : rc;
}

int dassie__rebuild_lines(struct rebuild *rb)
{
    int rc =
        dassie__rebuild_each_of(rb, FAMILY_PENDING, WINDOW_ROWS, count_row);
    for (uint32_t i = 0; i < rb->s.queues.n; i++) {
        struct queue *q = rb->s.queues.by_id[i];
        for (unsigned l = 0; l < q->lines_n; l++) {
            for (int k = 0; rc == 0 && k < LINE_KINDS; k++) {
                rc = sweep_line(rb, &q->lines[l]->kind[k]);
            }
        }
    }
    return rc;
}

/* ---- Scheduled rows that are nobody's ---- */

static int count_due(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    (void)key;
    (void)value;
    rb->due_rows++;
    return 0;
}

/* 1: it waits for its first run, which is too late then; 0: it does not. */
static int is_expiry(struct rebuild *rb, const struct due *due)
{
    struct kv *kv = rb->s.kv;
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv_value value;
    struct job_row job;
    struct facts f;
    int rc = kv->ops->get(kv, NULL, FAMILY_JOBS, number_key(key, due->id),
                          &value, rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__job_row_read(value.p, value.len, &job);
    bool its = rc == 0 && dassie__expire_of(&job) == due->ms;
    kv->ops->value_release(&value);
    if (rc != 0) {
        return dassie__rebuild_damaged(rb, "a job's row");
    }
    rc = dassie__rebuild_facts(rb, due->id, COMPLETE, &f);
    return rc != 0 ? rc : its && is_fresh(&f);
}

/* 1: the job holds that key until then; 0: it does not. */
static int is_timer(struct rebuild *rb, const struct due *due,
                    struct kv_slice value)
{
    struct kv *kv = rb->s.kv;
    const uint8_t *key;
    size_t len;
    struct kv_value held;
    struct unique_row row;
    if (dassie__timer_row_read(value.p, value.len, &key, &len) != 0) {
        return dassie__rebuild_damaged(rb, "a timer row");
    }
    int rc =
        kv->ops->get(kv, NULL, FAMILY_UNIQUE, kv_slice(key, len), &held, rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__unique_row_read(held.p, held.len, &row);
    kv->ops->value_release(&held);
    return rc != 0 ? dassie__rebuild_damaged(rb, "a unique key")
                   : row.id == due->id && row.expires_ms == due->ms;
}

/* 1: its job waits there; 0: it does not. */
static int is_waiting(struct rebuild *rb, const struct due *due)
{
    struct facts f;
    int rc = dassie__rebuild_facts(rb, due->id, JOBS, &f);
    bool may = f.there[JOBS] && !has_ended(&f) &&
               f.history.kind == PLACE_SCHEDULED &&
               f.history.position == due->ms;
    return rc == 0 && may ? dassie__rebuild_is_scheduled(rb, &f) : rc;
}

/* Deletes a row if nobody waits for it. */
static int sweep_due(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct due due;
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        return dassie__rebuild_damaged(rb, "the key of a scheduled row");
    }
    int rc = due.kind == DUE_JOB      ? is_waiting(rb, &due)
             : due.kind == DUE_EXPIRY ? is_expiry(rb, &due)
                                      : is_timer(rb, &due, value);
    if (rc == 0) {
        dassie__rebuild_del(rb, FAMILY_SCHEDULED, key);
    }
    return rc < 0 ? rc : 0;
}

int dassie__rebuild_schedule(struct rebuild *rb)
{
    int rc =
        dassie__rebuild_each_of(rb, FAMILY_SCHEDULED, WINDOW_ROWS, count_due);
    return rc == 0 && rb->due_rows != rb->s.schedule.live
               ? dassie__rebuild_each_of(rb, FAMILY_SCHEDULED, WINDOW_ROWS,
                                         sweep_due)
               : rc;
}

/* ---- What jobs have saved ---- */

/* Goes with its job, with a good end, and where no run is known of. */
static int sweep_save(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value)
{
    struct save_row row;
    struct facts f;
    uint64_t id;
    if (dassie__key_parse_save(key.p, key.len, &id) != 0 ||
        dassie__save_row_read(value.p, value.len, &row) != 0) {
        return dassie__rebuild_damaged(rb, "what a job has saved");
    }
    int rc = dassie__rebuild_facts(rb, id, JOBS, &f);
    bool ran = has_ended(&f) || f.history.attempts > 0;
    if (rc == 0 && (!f.there[JOBS] || f.there[COMPLETE] || !ran)) {
        dassie__rebuild_del(rb, FAMILY_RUNNING, key);
    }
    return rc;
}

int dassie__rebuild_saves(struct rebuild *rb)
{
    return dassie__rebuild_each(rb, FAMILY_RUNNING, saves_begin(), rows_end(),
                                WINDOW_ROWS, sweep_save);
}
