#include "config.h"

#include "change.h"

#include "alloc.h"
#include "find.h"

#include <string.h>

void dassie__change_free(struct change *change)
{
    dassie__free(change->ids);
    dassie__free(change->queue);
    dassie__free(change->name);
    dassie__free(change);
}

/* ---- One job ---- */

static bool in_states(const struct change *change, int state)
{
    return (change->states >> state & 1) != 0;
}

static bool same_name(const struct change *change, const struct job_row *row)
{
    return change->name == NULL ||
           (change->name_len == row->name_len &&
            memcmp(change->name, row->name, row->name_len) == 0);
}

static bool matches(const struct change *change, const job_t *job)
{
    struct job_row row;
    if (!in_states(change, job->state) ||
        (change->queue != NULL &&
         (job->queue->name_len != change->queue_len ||
          memcmp(job->queue->name, change->queue, change->queue_len) != 0))) {
        return false;
    }
    if (change->name == NULL && change->age_ms == 0) {
        return true;
    }
    if (dassie__job_row_read(job->row, job->row_len, &row) != 0) {
        return false;
    }
    uint64_t since = job->ended_ms != 0 ? job->ended_ms : row.enqueued_ms;
    return same_name(change, &row) &&
           (change->age_ms == 0 || since <= change->before_ms);
}

/* A claimed job is asked; what becomes of it is its processor's to say. */
static int change_running(struct change *change, job_t *job)
{
    change->was = DASSIE_RUNNING;
    if (change->action != DASSIE_CANCEL || !matches(change, job)) {
        return DASSIE_ESTATE;
    }
    if (!job->cancel_asked) {
        job->cancel_asked = true;
        job->cancel_untold = true;
        job_ask_end(job, UV_ECANCELED);
    }
    change->changed++;
    return 0;
}

/* A job that is to wait again needs its key again. */
static int key_is_free(struct core *c, const job_t *job)
{
    uint64_t id = 0;
    struct unique *u;
    if (job->unique == NULL || job->unique->until == DASSIE_UNTIL_TIME) {
        return 0;
    }
    int rc =
        dassie__unique_find(&c->store, job, c->wall_ms, &id, &u, &c->error);
    return rc == 0 && id != 0 ? UV_EEXIST : rc;
}

/* A job that was run since the change began, and waits once more, is not
 * hastened again. */
static bool was_hastened(const struct change *change, const job_t *job)
{
    return change->action == DASSIE_RUN_NOW && job->history &&
           job->last_run >= change->before_commit;
}

/* The job is this function's. */
static int change_found(struct core *c, struct change *change, job_t *job)
{
    static const enum event events[] = {[DASSIE_CANCEL] = EVENT_CANCEL,
                                        [DASSIE_RETRY] = EVENT_AGAIN,
                                        [DASSIE_DELETE] = EVENT_DELETE,
                                        [DASSIE_RUN_NOW] = EVENT_RUN_NOW};
    enum event event = events[change->action];
    bool kept = false;
    change->was = job->state;
    int rc = matches(change, job) && !was_hastened(change, job)
                 ? dassie__state_next(job->state, event)->error
                 : DASSIE_ESTATE;
    if (rc == 0 && event == EVENT_AGAIN) {
        rc = key_is_free(c, job);
    }
    if (rc != 0) {
        dassie__job_free(job);
        return rc;
    }
    if (event == EVENT_CANCEL) {
        dassie__core_cancel(c, job);
    } else if (event == EVENT_AGAIN) {
        job->since_ms = c->wall_ms;
    }
    dassie__store_move(&c->store, job, event, &kept);
    change->changed++;
    dassie__core_moved(c, job, kept);
    return 0;
}

/* DASSIE_ESTATE, UV_ENOENT and UV_EEXIST are answers, the rest are failures. */
static int change_one(struct core *c, struct change *change, uint64_t id,
                      size_t *bytes)
{
    job_t *job = dassie__core_claimed(c, id);
    if (job != NULL) {
        return change_running(change, job);
    }
    int rc = dassie__find(&c->store, id, &job, &c->error);
    if (rc != 0) {
        return rc;
    }
    *bytes += job->stored + job->end_bytes;
    return change_found(c, change, job);
}

static bool was_touched(const struct changed *touched, uint64_t id)
{
    for (unsigned i = 0; i < touched->n; i++) {
        if (touched->id[i] == id) {
            return true;
        }
    }
    return false;
}

/* ---- All that match ---- */

/* Running ones last: what is claimed meanwhile is not missed. */
static const dassie_state_t walk_order[] = {DASSIE_SCHEDULED, DASSIE_PENDING,
                                            DASSIE_COMPLETE,  DASSIE_FAILED,
                                            DASSIE_CANCELLED, DASSIE_RUNNING};
#define WALKS (sizeof walk_order / sizeof walk_order[0])

static bool next_full(const struct change *change)
{
    return change->next_n == CHANGE_JOBS_MAX;
}

static void next_add(struct change *change, uint64_t id)
{
    if (id < change->before_id) {
        change->next[change->next_n++] = id;
    }
}

/* A row's key and value: where the walk goes on, and whose it is. */
typedef int (*walk_cb)(struct change *change, struct kv_slice key,
                       struct kv_slice value);

/* *end: there are no more. */
static int walk_rows(struct core *c, struct change *change, enum family family,
                     struct kv_slice from, struct kv_slice to, walk_cb cb,
                     bool *end)
{
    const struct kv_ops *ops = c->store.kv->ops;
    struct kv_iter *it = ops->iter(c->store.kv, NULL, family, from, to);
    struct errmsg ignored;
    int rc = 0;
    if (it == NULL) {
        return UV_ENOMEM;
    }
    for (unsigned rows = 0; rc == 0 && rows < CHANGE_JOBS_MAX &&
                            !next_full(change) && ops->iter_valid(it);
         rows++) {
        rc = cb(change, ops->iter_key(it), ops->iter_value(it));
        ops->iter_next(it);
    }
    *end = !ops->iter_valid(it);
    int failed = ops->iter_close(it, &ignored);
    return rc != 0 ? rc : failed;
}

static const uint8_t family_end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff};

static int ended_row(struct change *change, struct kv_slice key,
                     struct kv_slice value)
{
    uint64_t id;
    (void)value;
    if (dassie__key_parse_number(key.p, key.len, &id) != 0) {
        return DASSIE_ECORRUPT;
    }
    change->cursor[0] = id + 1;
    next_add(change, id);
    return 0;
}

/* What a range has deleted may be among them; then there is no such job. */
static int walk_ended(struct core *c, struct change *change, int state,
                      bool *end)
{
    uint8_t from[KEY_NUMBER_BYTES];
    dassie__key_number(from, change->cursor[0]);
    return walk_rows(c, change, dassie__end_family(state),
                     kv_slice(from, sizeof from),
                     kv_slice(family_end, sizeof family_end), ended_row, end);
}

static int scheduled_row(struct change *change, struct kv_slice key,
                         struct kv_slice value)
{
    struct due due;
    (void)value;
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        return DASSIE_ECORRUPT;
    }
    change->cursor[0] = due.ms;
    change->cursor[1] = due.id + 1;
    if (due.kind == DUE_JOB) {
        next_add(change, due.id);
    }
    return 0;
}

/* A row that a range has deleted may be among them: whether its job is still to
 * be changed its history says. */
static int walk_scheduled(struct core *c, struct change *change, bool *end)
{
    const struct schedule_row *row = &c->store.schedule;
    uint8_t key[KEY_DUE_BYTES];
    struct due from = {change->cursor[0], change->cursor[1], 0};
    if (row->live == 0) {
        *end = true;
        return 0;
    }
    if (from.ms < row->head_ms ||
        (from.ms == row->head_ms && from.id < row->head_id)) {
        from.ms = row->head_ms;
        from.id = row->head_id;
    }
    dassie__key_due(key, &from);
    return walk_rows(c, change, FAMILY_SCHEDULED, kv_slice(key, sizeof key),
                     kv_slice(family_end, sizeof family_end), scheduled_row,
                     end);
}

static int pending_row(struct change *change, struct kv_slice key,
                       struct kv_slice value)
{
    struct place place;
    struct pending_row row;
    if (dassie__key_parse_pending(key.p, key.len, &place) != 0 ||
        dassie__pending_row_read(value.p, value.len, place.position, &row) !=
            0) {
        return DASSIE_ECORRUPT;
    }
    change->cursor[2] = place.position + 1;
    next_add(change, row.id);
    return 0;
}

static uint64_t line_rank(const struct line *line)
{
    return (uint64_t)(line->row.priority - DASSIE_PRIORITY_MIN) * LINE_KINDS +
           line->row.kind;
}

static int walk_line(struct core *c, struct change *change,
                     const struct line *line, bool *end)
{
    uint8_t from[KEY_PENDING_BYTES];
    uint8_t to[KEY_PENDING_BYTES];
    uint64_t begin = change->cursor[2] > line->row.cursor ? change->cursor[2]
                                                          : line->row.cursor;
    struct place place = {line->queue->id, line->row.priority, line->row.kind,
                          begin};
    *end = true;
    if (line->row.live == 0 || begin > line->row.tail) {
        return 0;
    }
    dassie__key_pending(from, &place);
    place.position = line->row.tail + 1;
    dassie__key_pending(to, &place);
    return walk_rows(c, change, FAMILY_PENDING, kv_slice(from, sizeof from),
                     kv_slice(to, sizeof to), pending_row, end);
}

/* The lines of one queue from the cursor on. */
static int walk_queue(struct core *c, struct change *change, struct queue *q,
                      bool *end)
{
    *end = true;
    for (unsigned i = 0; i < q->lines_n * LINE_KINDS; i++) {
        const struct line *line =
            &q->lines[i / LINE_KINDS]->kind[i % LINE_KINDS];
        uint64_t rank = line_rank(line);
        if (rank < change->cursor[1]) {
            continue;
        }
        if (rank > change->cursor[1]) {
            change->cursor[1] = rank;
            change->cursor[2] = 0;
        }
        int rc = walk_line(c, change, line, end);
        if (rc != 0 || !*end) {
            return rc;
        }
    }
    return 0;
}

/* The cursor is the queue's id, the line and the position. */
static int walk_pending(struct core *c, struct change *change, bool *end)
{
    const struct queues *qs = &c->store.queues;
    *end = true;
    for (unsigned n = 0; change->cursor[0] < qs->n; n++) {
        struct queue *q = qs->by_id[change->cursor[0]];
        bool wanted =
            q->tally.pending > 0 &&
            (change->queue == NULL ||
             (q->name_len == change->queue_len &&
              memcmp(q->name, change->queue, change->queue_len) == 0));
        int rc = wanted ? walk_queue(c, change, q, end) : 0;
        if (rc != 0 || !*end) {
            return rc;
        }
        change->cursor[0]++;
        change->cursor[1] = 0;
        change->cursor[2] = 0;
        if (next_full(change)) {
            *end = change->cursor[0] == qs->n;
            return 0;
        }
    }
    return 0;
}

/* The cursor is a recorder's slot. */
static void walk_running(struct core *c, struct change *change, bool *end)
{
    for (; change->cursor[0] < c->claimed_high && !next_full(change);
         change->cursor[0]++) {
        job_t *job = c->claimed[change->cursor[0]];
        if (job != NULL) {
            next_add(change, job->id);
        }
    }
    *end = change->cursor[0] >= c->claimed_high;
}

static int walk_state(struct core *c, struct change *change, bool *end)
{
    dassie_state_t state = walk_order[change->walk];
    switch (state) {
        case DASSIE_PENDING:
            return walk_pending(c, change, end);
        case DASSIE_SCHEDULED:
            return walk_scheduled(c, change, end);
        case DASSIE_RUNNING:
            walk_running(c, change, end);
            return 0;
        default:
            return walk_ended(c, change, state, end);
    }
}

/* Finds the next ones. */
static int walk(struct core *c, struct change *change)
{
    change->next_n = 0;
    change->next_at = 0;
    while (change->walk < WALKS &&
           !in_states(change, walk_order[change->walk])) {
        change->walk++;
    }
    if (change->walk == WALKS) {
        change->walked = true;
        return 0;
    }
    bool end = true;
    int rc = walk_state(c, change, &end);
    if (rc == 0 && end) {
        change->walk++;
        memset(change->cursor, 0, sizeof change->cursor);
    }
    return rc;
}

/* ---- Steps ---- */

void dassie__change_begin(const struct core *c, struct change *change)
{
    change->begun = true;
    change->before_id = c->store.next;
    change->before_commit = c->store.commit;
    change->before_ms =
        c->wall_ms > change->age_ms ? c->wall_ms - change->age_ms : 0;
}

/* The next id, or 0: there is none in this step. */
static uint64_t next_id(const struct change *change)
{
    if (change->ids != NULL) {
        return change->next_at < change->ids_n ? change->ids[change->next_at]
                                               : 0;
    }
    return change->next_at < change->next_n ? change->next[change->next_at] : 0;
}

/* Those that are known already, as long as there is room. */
static int step_known(struct core *c, struct change *change,
                      struct changed *touched)
{
    uint64_t id;
    while ((id = next_id(change)) != 0 && touched->n < CHANGE_JOBS_MAX &&
           touched->bytes < CHANGE_BYTES_MAX && !was_touched(touched, id)) {
        int rc = change_one(c, change, id, &touched->bytes);
        touched->id[touched->n++] = id;
        change->next_at++;
        if (change->single) {
            change->status = rc;
        } else if (rc != 0 && rc != DASSIE_ESTATE && rc != UV_ENOENT &&
                   rc != UV_EEXIST) {
            return rc;
        }
    }
    return 0;
}

bool dassie__change_step(struct core *c, struct change *change,
                         struct changed *touched)
{
    if (!change->begun) {
        dassie__change_begin(c, change);
    }
    int rc = 0;
    if (change->ids == NULL && next_id(change) == 0) {
        rc = walk(c, change);
    }
    if (rc == 0) {
        rc = step_known(c, change, touched);
    }
    if (rc != 0) {
        change->status = rc;
        return true;
    }
    return next_id(change) == 0 && (change->ids != NULL || change->walked);
}
