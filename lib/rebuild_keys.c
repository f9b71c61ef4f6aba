/* rebuild_keys.c: a rebuild's part for unique keys and expiries.
 *
 * The happy path is: keys of jobs that have ended or are gone go, those that
 * are held for a time get their timer; then each job that has to hold a key has
 * it, and each that waits for its first run and expires has a timer for that.
 *
 * Possible failure modes are: no memory, a read or a commit that fails, a row
 * that nobody writes (DASSIE_ECORRUPT). A key that another job holds is not
 * taken: a history says that it may have been lost.
 *
 * On close: nothing is kept. Threads: the engine. */
#include "config.h"

#include "rebuild_rows.h"

#include "expire.h"

#include <string.h>

static void put_timer(struct rebuild *rb, struct kv_slice key,
                      const struct unique_row *row)
{
    uint8_t bytes[KEY_DUE_BYTES];
    uint8_t value[TIMER_ROW_MAX];
    struct due due = {row->expires_ms, row->id, DUE_KEY};
    size_t len = dassie__timer_row_write(value, key.p, key.len);
    rb->s.kv->ops->put(rb->s.kv, FAMILY_SCHEDULED, due_key(bytes, &due),
                       kv_slice(value, len));
    dassie__rebuild_keep_due(rb, due.ms, due.id);
}

/* A key that is held for a time needs its timer. Any other one goes if its job
 * has ended, or is gone. */
static int settle_key(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value)
{
    struct unique_row row;
    struct queue *q;
    struct facts f;
    uint32_t queue;
    if (dassie__key_parse_unique(key.p, key.len, &queue) != 0 ||
        dassie__unique_row_read(value.p, value.len, &row) != 0) {
        return dassie__rebuild_damaged(rb, "a unique key");
    }
    int rc = dassie__rebuild_queue(rb, queue, &q);
    if (rc == 0 && row.until == DASSIE_UNTIL_TIME) {
        put_timer(rb, key, &row);
        return 0;
    }
    if (rc == 0) {
        rc = dassie__rebuild_facts(rb, row.id, JOBS, &f);
    }
    if (rc == 0 && (!f.there[JOBS] || has_ended(&f))) {
        dassie__rebuild_del(rb, FAMILY_UNIQUE, key);
    }
    return rc;
}

/* Whether a job has to hold its key, as far as is known. */
static bool has_to_hold(const struct facts *f, uint64_t until)
{
    return !has_ended(f) &&
           (until == DASSIE_UNTIL_ENDED ||
            (until == DASSIE_UNTIL_STARTED && !f->there[HISTORY]));
}

/* Whether a job took the key since the last dassie__rebuild_flush, which no
 * read tells. */
static bool was_taken(const struct rebuild *rb, struct kv_slice key)
{
    for (unsigned i = 0; rb->taken_at == rb->written && i < rb->taken_n; i++) {
        if (rb->taken_keys[i].len == key.len &&
            memcmp(rb->taken_keys[i].bytes, key.p, key.len) == 0) {
            return true;
        }
    }
    return false;
}

static void take_key(struct rebuild *rb, struct kv_slice key, uint64_t id,
                     uint64_t until)
{
    uint8_t value[UNIQUE_ROW_MAX];
    struct unique_row row = {id, (uint8_t)until, 0};
    rb->taken_n = rb->taken_at == rb->written ? rb->taken_n : 0;
    rb->taken_at = rb->written;
    struct taken_key *taken = &rb->taken_keys[rb->taken_n++];
    memcpy(taken->bytes, key.p, key.len);
    taken->len = key.len;
    rb->s.kv->ops->put(rb->s.kv, FAMILY_UNIQUE, key,
                       kv_slice(value, dassie__unique_row_write(value, &row)));
    rb->report->added++;
}

/* Another one has its key: a history row says that it may have lost that. */
static void lose_key(struct rebuild *rb, struct facts *f)
{
    uint8_t key[KEY_DUE_BYTES];
    uint8_t value[DUE_ROW_MAX];
    if (f->there[HISTORY]) {
        return;
    }
    dassie__rebuild_put_history(rb, f->id, &f->history);
    if (f->history.kind == PLACE_SCHEDULED) {
        struct due due = {f->history.position, f->id, DUE_JOB};
        struct due_row row = {f->job.queue, f->job.priority, 0, true,
                              f->len[JOBS]};
        rb->s.kv->ops->put(rb->s.kv, FAMILY_SCHEDULED, due_key(key, &due),
                           kv_slice(value, dassie__due_row_write(value, &row)));
    }
}

/* The key of a job that has to hold it. */
static int retake_key(struct rebuild *rb, struct facts *f,
                      const struct job_row *job)
{
    struct kv *kv = rb->s.kv;
    uint8_t bytes[KEY_UNIQUE_MAX];
    struct unique_row row = {.id = 0};
    struct kv_value held;
    struct kv_slice key =
        kv_slice(bytes, dassie__key_unique(bytes, job->queue, job->options.key,
                                           job->options.key_len));
    int rc = kv->ops->get(kv, NULL, FAMILY_UNIQUE, key, &held, rb->e);
    if (rc == 0) {
        rc = dassie__unique_row_read(held.p, held.len, &row);
        kv->ops->value_release(&held);
        if (rc != 0) {
            return dassie__rebuild_damaged(rb, "a unique key");
        }
    }
    if (rc != 0 && rc != UV_ENOENT) {
        return rc;
    }
    if (rc == UV_ENOENT && !was_taken(rb, key)) {
        take_key(rb, key, f->id, job->options.number[JOB_UNIQUE]);
    } else if (row.id != f->id) {
        lose_key(rb, f);
    }
    return 0;
}

static void put_expiry(struct rebuild *rb, uint64_t id, uint64_t ms)
{
    static const uint8_t value[] = {RECORD_VERSION};
    uint8_t bytes[KEY_DUE_BYTES];
    struct due due = {ms, id, DUE_EXPIRY};
    rb->s.kv->ops->put(rb->s.kv, FAMILY_SCHEDULED, due_key(bytes, &due),
                       kv_slice(value, sizeof value));
    dassie__rebuild_keep_due(rb, ms, id);
}

/* A job that waits has its key and its timer. */
static int settle_job(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value)
{
    struct job_row job;
    struct facts f;
    uint64_t id;
    if (dassie__key_parse_number(key.p, key.len, &id) != 0 ||
        dassie__job_row_read(value.p, value.len, &job) != 0) {
        return dassie__rebuild_damaged(rb, "a job's row");
    }
    bool keyed = job.options.key_len > 0;
    uint64_t expires_ms = dassie__expire_of(&job);
    int rc =
        keyed || expires_ms != 0 ? dassie__rebuild_facts(rb, id, JOBS, &f) : 0;
    if (rc == 0 && expires_ms != 0 && is_fresh(&f)) {
        put_expiry(rb, id, expires_ms);
    }
    return rc == 0 && keyed && has_to_hold(&f, job.options.number[JOB_UNIQUE])
               ? retake_key(rb, &f, &job)
               : rc;
}

int dassie__rebuild_keys(struct rebuild *rb)
{
    int rc =
        dassie__rebuild_each_of(rb, FAMILY_UNIQUE, WINDOW_ROWS, settle_key);
    return rc == 0 && rb->keyed ? dassie__rebuild_each_of(
                                      rb, FAMILY_JOBS, WINDOW_KEYS, settle_job)
                                : rc;
}
