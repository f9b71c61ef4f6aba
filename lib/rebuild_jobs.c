/* rebuild_jobs.c: a rebuild's second part: claims become histories, and each
 * job is settled where it stands, ends or comes back.
 *
 * The happy path is: of each claim whose end nobody knows the job's history
 * tells; then jobs, ends and histories are walked in step, and all that is
 * known of one job decides.
 *
 * Possible failure modes are: no memory, a read or a commit that fails, a row
 * that nobody writes (DASSIE_ECORRUPT). What was settled in earlier batches
 * stays.
 *
 * On close: nothing is kept but the counts. Threads: the engine. */
#include "config.h"

#include "rebuild_rows.h"

#include "claims.h"

#include <string.h>

/* ---- Claims ---- */

/* Of a claim whose end nobody knows the job's history remembers the run; and it
 * says that the job left its place, as no row stands at a new number. */
static int remember_claim(struct rebuild *rb, uint64_t commit,
                          const struct claim_entry *entry)
{
    struct facts f;
    struct history_row *h = &f.history;
    int rc = dassie__rebuild_facts(rb, entry->id, COMPLETE, &f);
    if (rc != 0 || has_ended(&f) || h->last_run >= commit) {
        return rc;
    }
    if (entry->attempt > 0 && entry->attempt - 1 > h->attempts) {
        h->attempts = entry->attempt - 1;
    }
    h->last_run = commit;
    h->kind = LINE_FRONT;
    h->position = rb->s.next++;
    dassie__rebuild_put_history(rb, f.id, h);
    return 0;
}

static int take_set(struct rebuild *rb, struct kv_slice key,
                    struct kv_slice value)
{
    struct claim_reader r;
    struct claim_entry entry;
    uint64_t commit;
    int more;
    if (dassie__key_parse_number(key.p, key.len, &commit) != 0 ||
        dassie__claim_set_open(&r, value.p, value.len) != 0) {
        return dassie__rebuild_damaged(rb, "a claim set");
    }
    rb->last_commit = max64(rb->last_commit, commit);
    while ((more = dassie__claim_set_next(&r, &entry)) == 1) {
        int rc = remember_claim(rb, commit, &entry);
        if (rc != 0) {
            return rc;
        }
    }
    dassie__rebuild_del(rb, FAMILY_RUNNING, key);
    return more == 0 ? 0 : dassie__rebuild_damaged(rb, "a claim set");
}

/* ---- One job ---- */

static void drop_job(struct rebuild *rb, const struct facts *f)
{
    uint8_t key[KEY_NUMBER_BYTES];
    if (rb->report->dropped < REBUILD_IDS) {
        rb->report->dropped_id[rb->report->dropped] = f->id;
    }
    rb->report->dropped++;
    for (int i = COMPLETE; i < COLUMNS; i++) {
        if (f->there[i]) {
            dassie__rebuild_del(rb, dassie__rebuild_families[i],
                                number_key(key, f->id));
        }
    }
}

/* Its history row is to say what the end says. */
static void settle_history(struct rebuild *rb, const struct facts *f,
                           enum column column)
{
    const struct end_row *end = &f->end[column];
    struct history_row h = f->history;
    if (column != CANCELLED) {
        h.attempts = end->attempts - 1;
    } else if (end->attempts < h.attempts || end->attempts - h.attempts > 1) {
        h.attempts = end->attempts;
    }
    h.excused = h.excused < h.attempts ? h.excused : h.attempts;
    if (end->crashes < h.crashes || end->crashes - h.crashes > 1) {
        h.crashes = end->crashes;
    }
    if (h.attempts != f->history.attempts || h.crashes != f->history.crashes) {
        dassie__rebuild_put_history(rb, f->id, &h);
    }
}

/* It is complete, but when, and with what result, was lost. */
static void end_again(struct rebuild *rb, struct facts *f)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t row[END_ROW_HEAD_MAX];
    struct end_row *end = &f->end[COMPLETE];
    end->ended_ms = rb->wall_ms;
    end->attempts = f->history.attempts + 1;
    end->crashes = f->history.crashes;
    f->len[COMPLETE] = dassie__end_row_write_head(row, end);
    f->there[COMPLETE] = true;
    rb->s.kv->ops->put(rb->s.kv, FAMILY_COMPLETE, number_key(key, f->id),
                       kv_slice(row, f->len[COMPLETE]));
    rb->report->added++;
}

static void settle_end(struct rebuild *rb, const struct facts *f,
                       struct queue *q)
{
    static const dassie_state_t states[COLUMNS] = {
        [COMPLETE] = DASSIE_COMPLETE,
        [FAILED] = DASSIE_FAILED,
        [CANCELLED] = DASSIE_CANCELLED};
    uint8_t key[KEY_NUMBER_BYTES];
    enum column end = JOBS;
    for (enum column i = COMPLETE; i <= CANCELLED; i++) {
        if (f->there[i] &&
            (end == JOBS || f->end[i].attempts > f->end[end].attempts)) {
            end = i;
        }
    }
    for (enum column i = COMPLETE; i <= CANCELLED; i++) {
        if (f->there[i] && i != end) {
            dassie__rebuild_del(rb, dassie__rebuild_families[i],
                                number_key(key, f->id));
        }
    }
    settle_history(rb, f, end);
    dassie__queue_count(&rb->s.queues, q, states[end], 1);
    dassie__queue_count_bytes(&rb->s.queues, q, states[end],
                              (int64_t)(f->len[JOBS] + f->len[end]));
}

/* 1: it stands in its line; 0: it has been claimed. */
static int is_pending(struct rebuild *rb, const struct facts *f,
                      const struct line *line)
{
    uint8_t key[KEY_PENDING_BYTES];
    struct kv *kv = rb->s.kv;
    struct place place = {f->job.queue, f->job.priority, f->history.kind,
                          f->history.position};
    struct pending_row row;
    struct kv_value value;
    if (place.position <= line->window_end) {
        return 0;
    }
    int rc = kv->ops->get(kv, NULL, FAMILY_PENDING, place_key(key, &place),
                          &value, rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__pending_row_read(value.p, value.len, place.position, &row);
    kv->ops->value_release(&value);
    return rc != 0 ? dassie__rebuild_damaged(rb, "a pending row")
                   : dassie__rebuild_is_place(f, &place, &row);
}

/* One more row of a line: they come by job, not by position. */
static void line_keep(struct line *line, uint64_t position)
{
    struct line_row *row = &line->row;
    if (row->live == 0 || position < row->cursor) {
        row->start = row->cursor = position;
    }
    row->tail = max64(row->tail, position);
    row->live++;
}

static int come_back(struct rebuild *rb, const struct facts *f, struct queue *q)
{
    struct store *s = &rb->s;
    job_t *job = dassie__job_new(0, 0);
    if (job == NULL || dassie__claims_prepare(s) != 0) {
        if (job != NULL) {
            dassie__job_free(job);
        }
        return dassie__rebuild_no_memory(rb);
    }
    job->id = f->id;
    job->queue = q;
    job->priority = f->job.priority;
    job->flags = f->job.flags;
    job->state = DASSIE_RUNNING;
    job->stored = f->len[JOBS];
    job->attempts = f->history.attempts;
    job->excused = f->history.excused;
    job->crashes = f->history.crashes;
    job->last_run = f->history.last_run;
    job->since_ms = f->history.since_ms;
    job->status = f->history.code;
    if (f->history.error_len > 0) { /* no text if no memory */
        dassie__job_set_out(job, f->history.error, f->history.error_len);
    }
    dassie__queue_count(&s->queues, q, DASSIE_RUNNING, 1);
    dassie__claims_add(s, job);
    enum event event =
        dassie__store_recover(s, job, FOUND_UNKNOWN, 0, rb->wall_ms);
    rb->report->again++;
    rb->report->added += event == EVENT_INTERRUPT ? 1 : 2;
    return 0;
}

/* 1: it is where its history says, and that is counted; 0: it is not there. */
static int stay(struct rebuild *rb, const struct facts *f, struct queue *q)
{
    bool waits = f->history.kind == PLACE_SCHEDULED;
    struct line *line = NULL;
    int rc = dassie__rebuild_line(rb, q, f->job.priority,
                                  waits ? LINE_NORMAL : f->history.kind, &line);
    if (rc == 0) {
        rc = waits ? dassie__rebuild_is_scheduled(rb, f)
                   : is_pending(rb, f, line);
    }
    if (rc != 1) {
        return rc;
    }
    if (waits) {
        dassie__rebuild_keep_due(rb, f->history.position, f->id);
    } else {
        line_keep(line, f->history.position);
        dassie__queue_count_bytes(&rb->s.queues, q, DASSIE_PENDING,
                                  (int64_t)f->len[JOBS]);
    }
    dassie__queue_count(&rb->s.queues, q,
                        waits ? DASSIE_SCHEDULED : DASSIE_PENDING, 1);
    return 1;
}

static int settle(struct rebuild *rb, const struct facts *f)
{
    struct queue *q;
    rb->s.next = max64(rb->s.next, f->id + 1);
    if (f->history.kind != PLACE_SCHEDULED) {
        rb->s.next = max64(rb->s.next, f->history.position + 1);
    }
    rb->last_commit = max64(rb->last_commit, f->history.last_run);
    if (!f->there[JOBS]) {
        drop_job(rb, f);
        return 0;
    }
    rb->report->jobs++;
    rb->keyed |=
        f->job.options.key_len > 0 || f->job.options.number[JOB_EXPIRE] != 0;
    int rc = dassie__rebuild_queue(rb, f->job.queue, &q);
    if (rc != 0) {
        return rc;
    }
    if (has_ended(f)) {
        struct facts ended = *f;
        if (!has_end(f)) {
            end_again(rb, &ended);
        }
        settle_end(rb, &ended, q);
        return 0;
    }
    rc = stay(rb, f, q);
    if (rc == 1) {
        return 0;
    }
    return rc == 0 ? come_back(rb, f, q) : rc;
}

/* ---- All jobs ---- */

struct columns {
    struct kv_iter *it[COLUMNS];
    bool here[COLUMNS];   /* it stands on a row ... */
    uint64_t id[COLUMNS]; /* ... of this job */
};

static int column_settle(struct rebuild *rb, struct columns *c, int i)
{
    const struct kv_ops *ops = rb->s.kv->ops;
    int rc = kv_skip_dead(rb->s.kv, c->it[i], rb->e);
    c->here[i] = rc == 0 && ops->iter_valid(c->it[i]);
    if (!c->here[i]) {
        return rc;
    }
    struct kv_slice key = ops->iter_key(c->it[i]);
    return dassie__key_parse_number(key.p, key.len, &c->id[i]) == 0
               ? 0
               : dassie__rebuild_damaged(rb, "the key of a job");
}

static int columns_open(struct rebuild *rb, struct columns *c, uint64_t from)
{
    uint8_t key[KEY_NUMBER_BYTES];
    int rc = 0;
    memset(c, 0, sizeof *c);
    for (int i = 0; rc == 0 && i < COLUMNS; i++) {
        c->it[i] =
            rb->s.kv->ops->iter(rb->s.kv, NULL, dassie__rebuild_families[i],
                                number_key(key, from), rows_end());
        rc = c->it[i] == NULL ? dassie__rebuild_no_memory(rb)
                              : column_settle(rb, c, i);
    }
    return rc;
}

static int columns_close(struct rebuild *rb, struct columns *c, int rc)
{
    struct errmsg ignored;
    for (int i = 0; i < COLUMNS; i++) {
        if (c->it[i] != NULL) {
            int failed =
                rb->s.kv->ops->iter_close(c->it[i], rc == 0 ? rb->e : &ignored);
            rc = rc != 0 ? rc : failed;
        }
    }
    return rc;
}

/* The lowest id that a row speaks of: false, there is none. */
static bool columns_next(const struct columns *c, uint64_t *id)
{
    bool any = false;
    for (int i = 0; i < COLUMNS; i++) {
        if (c->here[i] && (!any || c->id[i] < *id)) {
            *id = c->id[i];
            any = true;
        }
    }
    return any;
}

/* The rows of a job, then on to the next one. */
static int settle_next(struct rebuild *rb, struct columns *c, uint64_t id)
{
    const struct kv_ops *ops = rb->s.kv->ops;
    struct facts f;
    int rc = 0;
    dassie__rebuild_facts_begin(&f, id);
    for (int i = 0; rc == 0 && i < COLUMNS; i++) {
        if (c->here[i] && c->id[i] == id) {
            rc = dassie__rebuild_read(rb, &f, i, ops->iter_value(c->it[i]));
        }
    }
    if (rc == 0) {
        rc = settle(rb, &f);
    }
    for (int i = 0; rc == 0 && i < COLUMNS; i++) {
        if (f.there[i]) {
            ops->iter_next(c->it[i]);
            rc = column_settle(rb, c, i);
        }
    }
    return rc;
}

/* Settles jobs from an id on. *from: the next one, or 0 if there is none. */
static int jobs_window(struct rebuild *rb, uint64_t *from)
{
    struct columns c;
    uint64_t id = 0;
    int rc = columns_open(rb, &c, *from);
    *from = 0;
    for (unsigned n = 0; rc == 0 && columns_next(&c, &id); n++) {
        if (n == WINDOW_ROWS) {
            *from = id;
            break;
        }
        rc = settle_next(rb, &c, id);
    }
    rc = columns_close(rb, &c, rc);
    return rc == 0 ? dassie__rebuild_flush(rb) : rc;
}

static int settle_jobs(struct rebuild *rb)
{
    uint64_t from = 0;
    int rc;
    do {
        rc = jobs_window(rb, &from);
    } while (rc == 0 && from != 0);
    return rc;
}

int dassie__rebuild_jobs(struct rebuild *rb)
{
    /* One at a time: each may hold all jobs that were claimed. */
    int rc = dassie__rebuild_each(rb, FAMILY_RUNNING, rows_begin(),
                                  saves_begin(), 1, take_set);
    return rc == 0 ? settle_jobs(rb) : rc;
}
