/* rebuild_rows.c: how a rebuild reads and writes, and what it asks of a job;
 * see rebuild_rows.h. */
#include "config.h"

#include "rebuild_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const enum family dassie__rebuild_families[COLUMNS] = {
    FAMILY_JOBS, FAMILY_COMPLETE, FAMILY_FAILED, FAMILY_CANCELLED,
    FAMILY_HISTORY};

int dassie__rebuild_damaged(struct rebuild *rb, const char *what)
{
    return dassie__errmsg_set(rb->e, DASSIE_ECORRUPT, "rebuild: %s", what);
}

int dassie__rebuild_no_memory(struct rebuild *rb)
{
    return dassie__errmsg_set(rb->e, UV_ENOMEM, "out of memory");
}

void dassie__rebuild_del(struct rebuild *rb, enum family family,
                         struct kv_slice key)
{
    rb->s.kv->ops->del(rb->s.kv, family, key);
    rb->report->removed++;
}

void dassie__rebuild_put_history(struct rebuild *rb, uint64_t id,
                                 const struct history_row *history)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t head[HISTORY_ROW_HEAD_MAX];
    size_t len = dassie__history_row_write_head(head, history);
    rb->s.kv->ops->put2(rb->s.kv, FAMILY_HISTORY, number_key(key, id),
                        kv_slice(head, len),
                        kv_slice(history->error, history->error_len));
    rb->report->added++;
}

int dassie__rebuild_flush(struct rebuild *rb)
{
    struct kv *kv = rb->s.kv;
    if (kv->rows == rb->written) {
        return 0;
    }
    rb->written = kv->rows;
    return kv->ops->commit(kv, false, rb->e);
}

/* ---- Rows in order ---- */

/* Reads the rows from a key on, so many at the most. *from moves on behind
 * them; *n tells how many. */
static int read_window(struct rebuild *rb, enum family family,
                       uint8_t from[KEY_BYTES_MAX + 1], size_t *from_len,
                       struct kv_slice to, unsigned *n, row_cb cb)
{
    const struct kv_ops *ops = rb->s.kv->ops;
    unsigned most = *n;
    int rc = 0;
    struct errmsg ignored;
    struct kv_iter *it =
        ops->iter(rb->s.kv, NULL, family, kv_slice(from, *from_len), to);
    if (it == NULL) {
        return dassie__rebuild_no_memory(rb);
    }
    for (*n = 0; rc == 0 && *n < most; ++*n) {
        rc = kv_skip_dead(rb->s.kv, it, rb->e);
        if (rc != 0 || !ops->iter_valid(it)) {
            break;
        }
        struct kv_slice key = ops->iter_key(it);
        if (key.len > KEY_BYTES_MAX) {
            rc = dassie__rebuild_damaged(rb, "a key");
            break;
        }
        memcpy(from, key.p, key.len);
        from[key.len] = 0;
        *from_len = key.len + 1;
        rc = cb(rb, key, ops->iter_value(it));
        ops->iter_next(it);
    }
    int failed = ops->iter_close(it, rc == 0 ? rb->e : &ignored);
    return rc != 0 ? rc : failed;
}

int dassie__rebuild_each(struct rebuild *rb, enum family family,
                         struct kv_slice from, struct kv_slice to,
                         unsigned window, row_cb cb)
{
    uint8_t at[KEY_BYTES_MAX + 1];
    size_t at_len = from.len;
    unsigned n = window;
    int rc = 0;
    memcpy(at, from.p, from.len);
    while (rc == 0 && n == window) {
        rc = read_window(rb, family, at, &at_len, to, &n, cb);
        if (rc == 0) {
            rc = dassie__rebuild_flush(rb);
        }
    }
    return rc;
}

int dassie__rebuild_each_of(struct rebuild *rb, enum family family,
                            unsigned window, row_cb cb)
{
    return dassie__rebuild_each(rb, family, rows_begin(), rows_end(), window,
                                cb);
}

/* ---- Queues and lines ---- */

static bool name_is_taken(struct rebuild *rb, const char *name, size_t len)
{
    return dassie__queues_find(&rb->taken, name, len) != NULL ||
           dassie__queues_find(&rb->s.queues, name, len) != NULL;
}

/* Gives the next queue a name. */
static int queue_name(struct rebuild *rb)
{
    char name[48];
    struct queue *q;
    uint32_t id = rb->s.queues.n;
    int len = snprintf(name, sizeof name, "recovered-%" PRIu32, id);
    for (unsigned n = 2; name_is_taken(rb, name, (size_t)len); n++) {
        len = snprintf(name, sizeof name, "recovered-%" PRIu32 "-%u", id, n);
    }
    rb->report->named++;
    rb->report->added++;
    return dassie__store_queue(&rb->s, name, (size_t)len, 0, &q) == 0
               ? 0
               : dassie__rebuild_no_memory(rb);
}

int dassie__rebuild_queue(struct rebuild *rb, uint32_t id, struct queue **q)
{
    int rc = id < DASSIE_QUEUES_MAX
                 ? 0
                 : dassie__rebuild_damaged(rb, "a queue's id");
    while (rc == 0 && rb->s.queues.n <= id) {
        rc = queue_name(rb);
    }
    if (rc == 0) {
        *q = rb->s.queues.by_id[id];
    }
    return rc;
}

int dassie__rebuild_line(struct rebuild *rb, struct queue *q, int8_t priority,
                         uint8_t kind, struct line **line)
{
    if (dassie__store_lines(&rb->s, q, priority) != 0) {
        return dassie__rebuild_no_memory(rb);
    }
    *line = dassie__queue_line(q, priority, kind);
    return 0;
}

/* ---- One job ---- */

int dassie__rebuild_read(struct rebuild *rb, struct facts *f,
                         enum column column, struct kv_slice value)
{
    static const char *const names[COLUMNS] = {
        "a job's row", "a complete row", "a failed row", "a cancelled row",
        "a history row"};
    struct end_row *end = &f->end[column];
    int rc;
    f->there[column] = true;
    f->len[column] = value.len;
    switch (column) {
        case JOBS:
            rc = dassie__job_row_read(value.p, value.len, &f->job);
            if (rc == 0 && f->job.options.number[JOB_DUE] != 0) {
                f->history.kind = PLACE_SCHEDULED;
                f->history.position = f->job.options.number[JOB_DUE];
            }
            break;
        case HISTORY:
            rc = dassie__history_row_read(value.p, value.len, &f->history);
            break;
        default:
            rc = dassie__end_row_read(value.p, value.len, end);
            rc = rc == 0 && (end->attempts > 0 || column == CANCELLED) ? 0 : -1;
            break;
    }
    return rc == 0 ? 0 : dassie__rebuild_damaged(rb, names[column]);
}

void dassie__rebuild_facts_begin(struct facts *f, uint64_t id)
{
    memset(f, 0, sizeof *f);
    f->id = id;
    f->history.kind = LINE_NORMAL;
    f->history.position = id;
}

int dassie__rebuild_facts(struct rebuild *rb, uint64_t id, enum column first,
                          struct facts *f)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rb->s.kv;
    struct kv_value value;
    dassie__rebuild_facts_begin(f, id);
    for (int i = first; i < COLUMNS; i++) {
        int rc = kv->ops->get(kv, NULL, dassie__rebuild_families[i],
                              number_key(key, id), &value, rb->e);
        if (rc == 0) {
            rc = dassie__rebuild_read(rb, f, i, kv_slice(value.p, value.len));
            kv->ops->value_release(&value);
        }
        if (rc != 0 && rc != UV_ENOENT) {
            return rc;
        }
    }
    f->history.error = NULL;
    f->history.error_len = 0;
    return 0;
}

bool dassie__rebuild_is_place(const struct facts *f, const struct place *place,
                              const struct pending_row *row)
{
    return row->id == f->id && row->attempts == f->history.attempts &&
           place->queue == f->job.queue && place->priority == f->job.priority &&
           place->kind == f->history.kind &&
           place->position == f->history.position;
}

/* ---- The schedule ---- */

int dassie__rebuild_is_scheduled(struct rebuild *rb, const struct facts *f)
{
    uint8_t key[KEY_DUE_BYTES];
    struct kv *kv = rb->s.kv;
    struct due due = {f->history.position, f->id, DUE_JOB};
    struct due_row row;
    struct kv_value value;
    if (due_before(&due, rb->head.ms, rb->head.id)) {
        return 0;
    }
    int rc = kv->ops->get(kv, NULL, FAMILY_SCHEDULED, due_key(key, &due),
                          &value, rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__due_row_read(value.p, value.len, &row);
    kv->ops->value_release(&value);
    if (rc != 0) {
        return dassie__rebuild_damaged(rb, "a scheduled row");
    }
    return row.attempts == f->history.attempts && row.queue == f->job.queue &&
           row.priority == f->job.priority && row.bytes == f->len[JOBS];
}

void dassie__rebuild_keep_due(struct rebuild *rb, uint64_t ms, uint64_t id)
{
    struct schedule_row *row = &rb->s.schedule;
    struct due due = {ms, id, 0};
    if (row->live == 0 || due_before(&due, row->head_ms, row->head_id)) {
        row->start_ms = row->head_ms = due.ms;
        row->start_id = row->head_id = due.id;
    }
    row->live++;
}
