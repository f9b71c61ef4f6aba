#include "config.h"

#include "store.h"

#include "alloc.h"
#include "claims.h"
#include "expire.h"
#include "find.h"
#include "refill.h"
#include "save.h"
#include "schedule.h"
#include "sweep.h"

#include <string.h>

static struct kv_slice number_key(uint8_t key[KEY_NUMBER_BYTES], uint64_t n)
{
    dassie__key_number(key, n);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

/* ---- Queues ---- */

int dassie__store_make_room(struct store *s)
{
    size_t need = STORE_ROW_MAX + (s->queues.n + (size_t)1) * QUEUE_PART_MAX +
                  (s->queues.lines_n + 1) * LINE_KINDS * LINE_PART_MAX;
    if (need <= s->commit_row_room) {
        return 0;
    }
    uint8_t *row = dassie__realloc(s->commit_row, 2 * need);
    if (row == NULL) {
        return UV_ENOMEM;
    }
    s->commit_row = row;
    s->commit_row_room = 2 * need;
    return 0;
}

int dassie__store_lines(struct store *s, struct queue *q, int8_t priority)
{
    int rc = dassie__store_make_room(s);
    if (rc == 0 && dassie__queue_prepare(&s->queues, q, priority) == NULL) {
        rc = UV_ENOMEM;
    }
    return rc;
}

static int make_queue(struct store *s, const char *name, size_t len,
                      struct queue **q)
{
    int rc = dassie__store_make_room(s);
    return rc == 0 ? dassie__queues_add(&s->queues, name, len, q) : rc;
}

int dassie__store_queue(struct store *s, const char *name, size_t len,
                        int8_t priority, struct queue **queue)
{
    uint32_t n = s->queues.n;
    struct queue *q = dassie__queues_find(&s->queues, name, len);
    int rc = q == NULL ? make_queue(s, name, len, &q) : 0;
    if (rc == 0) {
        rc = dassie__store_lines(s, q, priority);
    }
    if (rc != 0) {
        dassie__queues_drop(&s->queues, n);
        return rc;
    }
    *queue = q;
    return 0;
}

void dassie__store_settings(struct store *s, struct queue *q,
                            const struct settings_row *settings)
{
    uint8_t key[KEY_QUEUE_BYTES];
    uint8_t row[SETTINGS_ROW_MAX];
    q->settings = *settings;
    dassie__queue_tell(q);
    dassie__sweep_configured(s, q);
    dassie__key_queue(key, KEY_SETTINGS_TAG, q->id);
    size_t len = dassie__settings_row_write(row, settings);
    s->kv->ops->put(s->kv, FAMILY_META, kv_slice(key, sizeof key),
                    kv_slice(row, len));
    s->changed = true;
}

static void evict(struct store *s, struct queue *q, struct job_list *left)
{
    for (unsigned i = 0; i < q->lines_n; i++) {
        for (int k = 0; k < LINE_KINDS; k++) {
            s->window_bytes -= q->lines[i]->kind[k].window_bytes;
            dassie__line_evict(&q->lines[i]->kind[k], left);
        }
    }
}

void dassie__store_serve(struct store *s, struct queue *q, int d,
                         struct job_list *left)
{
    bool was = q->served > 0;
    q->served += (unsigned)d;
    bool is = q->served > 0;
    s->served += (unsigned)((int)is - (int)was);
    if (!is) {
        evict(s, q, left);
    }
}

/* ---- Transitions ---- */

static void put_pending(struct store *s, const job_t *job, bool fresh)
{
    uint8_t key[KEY_PENDING_BYTES];
    uint8_t row[PENDING_ROW_MAX];
    struct place place = {job->queue->id, job->priority, job->kind,
                          job->position};
    struct pending_row pending = {job->id, job->attempts};
    size_t len = fresh ? 0 : dassie__pending_row_write(row, &pending);
    dassie__key_pending(key, &place);
    s->kv->ops->put(s->kv, FAMILY_PENDING, kv_slice(key, sizeof key),
                    kv_slice(row, len));
}

static void put_history(struct store *s, const job_t *job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t head[HISTORY_ROW_HEAD_MAX];
    bool waits = job->state == DASSIE_SCHEDULED;
    struct history_row history = {
        .attempts = job->attempts,
        .excused = job->excused,
        .crashes = job->crashes,
        .last_run = job->last_run,
        .kind = waits ? PLACE_SCHEDULED : job->kind,
        .position = waits ? job->due_ms : job->position,
        .code = job->status,
        .since_ms = job->since_ms};
    size_t len = dassie__history_row_write_head(head, &history);
    s->kv->ops->put2(s->kv, FAMILY_HISTORY, number_key(key, job->id),
                     kv_slice(head, len), kv_slice(job->out, job->out_len));
}

/* The row of a job is written again without the payload at its end, if its
 * queue keeps no more of a complete one than what that leaves behind, and says
 * so, lest it runs without it should the row of its end be lost. Put now, most
 * payloads never leave the memtable. */
static void drop_payload(struct store *s, job_t *job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct job_row row;
    if (job->state != DASSIE_COMPLETE ||
        job->queue->settings.number[SETTING_DROP_PAYLOAD] == 0 ||
        dassie__job_row_read(job->row, job->row_len, &row) != 0 ||
        row.data_len == 0) {
        return;
    }
    job->row[1] |= JOB_ROW_DROPPED;
    s->kv->ops->put(s->kv, FAMILY_JOBS, number_key(key, job->id),
                    kv_slice(job->row, job->row_len - row.data_len));
    job->stored -= row.data_len;
}

static void put_end(struct store *s, job_t *job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t head[END_ROW_HEAD_MAX];
    struct end_row end = {job->ended_ms, job->attempts, job->crashes,
                          job->status,   NULL,          0};
    size_t len = dassie__end_row_write_head(head, &end);
    drop_payload(s, job);
    s->kv->ops->put2(s->kv, dassie__end_family(job->state),
                     number_key(key, job->id), kv_slice(head, len),
                     kv_slice(job->out, job->out_len));
    dassie__queue_count_bytes(&s->queues, job->queue, job->state,
                              (int64_t)(job->stored + len + job->out_len));
    dassie__sweep_ended(s, job->id, job->queue, job->state, job->ended_ms);
}

static void enter_scheduled(struct store *s, job_t *job, bool fresh)
{
    dassie__schedule_put(s, job, !fresh);
    if (!fresh) {
        put_history(s, job);
    }
}

/* Into its line, and into the window if that is where it fits. */
static bool enter_pending(struct store *s, job_t *job, enum line_kind kind,
                          bool fresh)
{
    struct line *line = dassie__queue_line(job->queue, job->priority, kind);
    size_t bytes = dassie__job_bytes(job);
    bool join = job->row_len > 0 && !job->partial && job->queue->served > 0 &&
                s->window_bytes + bytes <= s->window_max;
    uint64_t position = fresh ? job->id : s->next++;
    join = dassie__line_append(line, job, position, join);
    put_pending(s, job, fresh);
    dassie__queue_count_bytes(&s->queues, job->queue, DASSIE_PENDING,
                              (int64_t)job->stored);
    if (!fresh) {
        put_history(s, job);
    }
    if (join) {
        s->window_bytes += bytes;
    }
    if (kind == LINE_SUSPECT) {
        s->suspects++;
    }
    return join;
}

/* A suspect that is handed back before it started stays one. */
static enum line_kind line_of(const job_t *job, enum event event,
                              const struct transition *t)
{
    return event == EVENT_UNCLAIM && job->kind == LINE_SUSPECT ? LINE_SUSPECT
                                                               : t->line;
}

/* ---- Leaving a place ---- */

bool dassie__store_taken(const struct store *s, uint64_t id)
{
    for (unsigned i = 0; i < s->taken_n; i++) {
        if (s->taken[i] == id) {
            return true;
        }
    }
    return false;
}

/* Out of the middle of its line. What memory has of it beside job goes. */
static void leave_line(struct store *s, job_t *job)
{
    uint8_t key[KEY_PENDING_BYTES];
    struct place place = {job->queue->id, job->priority, job->kind,
                          job->position};
    struct line *line =
        dassie__queue_line(job->queue, job->priority, job->kind);
    job_t *there = dassie__line_take(line, job->id);
    if (there != NULL) {
        s->window_bytes -= dassie__job_bytes(there);
        job->req = there->req;
        dassie__job_free(there);
    }
    s->suspects -= job->kind == LINE_SUSPECT;
    s->taken[s->taken_n++] = job->id;
    dassie__key_pending(key, &place);
    s->kv->ops->del(s->kv, FAMILY_PENDING, kv_slice(key, sizeof key));
}

static void leave_end(struct store *s, job_t *job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    s->kv->ops->del(s->kv, dassie__end_family(job->state),
                    number_key(key, job->id));
    dassie__queue_count_bytes(&s->queues, job->queue, job->state,
                              -(int64_t)(job->stored + job->end_bytes));
    /* No claim that is still stored is to come to life again. */
    job->last_run = s->commit;
    /* An operator's retry is a new beginning. */
    job->excused = job->attempts;
    job->crashes = 0;
}

static void leave(struct store *s, job_t *job, enum event event)
{
    switch (job->state) {
        case STATE_NONE:
            return;
        case DASSIE_PENDING:
            if (event != EVENT_CLAIM) {
                leave_line(s, job);
            }
            dassie__queue_count_bytes(&s->queues, job->queue, DASSIE_PENDING,
                                      -(int64_t)job->stored);
            break;
        case DASSIE_SCHEDULED:
            if (event != EVENT_PROMOTE) {
                dassie__schedule_remove(s, job);
            }
            break;
        case DASSIE_RUNNING:
            dassie__claims_remove(s, job);
            break;
        default:
            leave_end(s, job);
            break;
    }
    dassie__queue_count(&s->queues, job->queue, job->state, -1);
}

static void delete_job(struct store *s, const job_t *job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv_slice slice = number_key(key, job->id);
    s->kv->ops->del(s->kv, FAMILY_JOBS, slice);
    if (job->history) {
        s->kv->ops->del(s->kv, FAMILY_HISTORY, slice);
    }
    if (job->attempts > 0 && job->state != DASSIE_COMPLETE) {
        dassie__save_delete(s, job->id);
    }
}

/* All else that has to do with a job that has gone from state to state. */
static void moved(struct store *s, job_t *job, int from, enum event event)
{
    if (job->unique != NULL) {
        dassie__unique_moved(s, job, from, event);
    }
    if (job->expires_ms != 0) {
        dassie__expire_moved(s, job, event);
    }
    if (s->moved != NULL) {
        s->moved(s->moved_arg, job, from, NULL);
    }
}

void dassie__store_tell(struct store *s, const job_t *job,
                        const struct progress *progress)
{
    if (s->moved != NULL) {
        s->moved(s->moved_arg, job, job->state, progress);
    }
}

/* The one way from state to state: counts, rows and memory together. */
static int job_move(struct store *s, job_t *job, enum event event, bool *kept)
{
    const struct transition *t = dassie__state_next(job->state, event);
    int from = job->state;
    bool fresh = from == STATE_NONE;
    if (t->error != 0) {
        return t->error;
    }
    s->changed = true;
    meter_add(&job->queue->meter->events[event], 1);
    dassie__queue_touch(&s->queues, job->queue);
    job->attempts += t->counts;
    job->excused += t->excused;
    leave(s, job, event);
    if (event == EVENT_POSTPONE) {
        job->due_ms = job->again_ms;
    }
    if (t->to == STATE_NONE) {
        delete_job(s, job);
        job->state = t->to;
        *kept = false;
        moved(s, job, from, event);
        return 0;
    }
    job->state = t->to;
    dassie__queue_count(&s->queues, job->queue, t->to, 1);
    *kept = true;
    switch (t->to) {
        case DASSIE_PENDING:
            *kept = enter_pending(s, job, line_of(job, event, t), fresh);
            break;
        case DASSIE_SCHEDULED:
            enter_scheduled(s, job, fresh);
            *kept = false;
            break;
        case DASSIE_RUNNING:
            dassie__claims_add(s, job);
            break;
        default:
            put_end(s, job);
            break;
    }
    moved(s, job, from, event);
    return 0;
}

bool dassie__store_insert(struct store *s, job_t *job, enum event event)
{
    uint8_t key[KEY_NUMBER_BYTES];
    bool kept = false;
    job->id = s->next++;
    put_be32(job->row + JOB_ROW_QUEUE_AT, job->queue->id);
    s->kv->ops->put(s->kv, FAMILY_JOBS, number_key(key, job->id),
                    kv_slice(job->row, job->row_len));
    job_move(s, job, event, &kept);
    return kept;
}

int dassie__store_move(struct store *s, job_t *job, enum event event,
                       bool *kept)
{
    return job_move(s, job, event, kept);
}

enum event dassie__store_recover(struct store *s, job_t *job, enum found found,
                                 uint32_t crashes_max, uint64_t wall_ms)
{
    bool kept;
    job->crashes += found == FOUND_ALONE;
    enum event event =
        dassie__state_recover(found, job->flags, job->crashes, crashes_max);
    if (event == EVENT_INTERRUPT || event == EVENT_CRASH_OUT) {
        job->status =
            event == EVENT_INTERRUPT ? DASSIE_EINTERRUPTED : DASSIE_ECRASHED;
        job->ended_ms = wall_ms;
        const char *text = dassie_strerror(job->status);
        dassie__job_set_out(job, text, strlen(text)); /* no text if no memory */
    }
    job_move(s, job, event, &kept);
    if (job->unique != NULL) {
        dassie__unique_forgo(s, job->unique); /* nobody asks in this batch */
    }
    dassie__job_free(job);
    return event;
}

int dassie__store_prepare_claim(struct store *s)
{
    return dassie__claims_prepare(s);
}

/* Lines with enough dead rows queue up for their deletion. */
static void line_died(struct store *s, struct line *line)
{
    s->dead_rows++;
    if (line->row.dead >= DEAD_LINE_ROWS && !line->dead_listed) {
        line->dead_listed = true;
        line->dead_next = NULL;
        *s->dead_end = line;
        s->dead_end = &line->dead_next;
    }
}

job_t *dassie__store_claim(struct store *s, struct queue *q, enum claim_how how,
                           int *rc, struct errmsg *e)
{
    struct line *line = dassie__queue_first_line(q, how == CLAIM_ALONE);
    bool kept;
    *rc = 0;
    if (line == NULL) {
        return NULL;
    }
    if (line->window.n == 0) {
        *rc = dassie__refill_line(s, line, e);
    }
    if (*rc == 0) {
        *rc = dassie__claims_prepare(s);
    }
    if (*rc != 0 || line->window.n == 0 ||
        (how == CLAIM_AHEAD &&
         (line->window.head->flags & DASSIE_AT_MOST_ONCE) != 0)) {
        return NULL;
    }
    job_t *job = dassie__line_claim(line);
    s->window_bytes -= dassie__job_bytes(job);
    if (how == CLAIM_ALONE) {
        s->suspects--;
    }
    line_died(s, line);
    job_move(s, job, EVENT_CLAIM, &kept);
    return job;
}

/* ---- Dead rows ---- */

static void line_delete_dead(struct store *s, struct line *line)
{
    uint8_t from[KEY_PENDING_BYTES];
    uint8_t to[KEY_PENDING_BYTES];
    struct place place = {line->queue->id, line->row.priority, line->row.kind,
                          line->row.start};
    dassie__key_pending(from, &place);
    place.position = line->row.cursor;
    dassie__key_pending(to, &place);
    s->kv->ops->del_range(s->kv, FAMILY_PENDING, kv_slice(from, sizeof from),
                          kv_slice(to, sizeof to));
    s->dead_rows -= line->row.dead;
    line->row.dead = 0;
    line->row.start = line->row.cursor;
    line_touch(line);
    dassie__queue_touch(&s->queues, line->queue);
    s->changed = true;
}

static void delete_dead(struct store *s, uint64_t rows_max, int ranges_max)
{
    while (s->dead != NULL && s->dead_rows > rows_max && ranges_max-- > 0) {
        struct line *line = s->dead;
        s->dead = line->dead_next;
        if (s->dead == NULL) {
            s->dead_end = &s->dead;
        }
        line->dead_listed = false;
        line_delete_dead(s, line);
    }
}

void dassie__store_tidy(struct store *s)
{
    dassie__schedule_delete_dead(s);
    delete_dead(s, 0, INT32_MAX);
}

/* ---- Commit ---- */

static void put_store(struct store *s, uint64_t wall_ms)
{
    uint8_t row[STORE_ROW_MAX];
    struct store_row store = {
        s->next, dassie__claims_oldest(s), s->folded, wall_ms, s->schedule, 0};
    size_t len = dassie__store_row_write(row, &store);
    s->kv->ops->put(s->kv, FAMILY_META, kv_string(KEY_STORE),
                    kv_slice(row, len));
}

/* Writes q's row, with all of its lines. */
static size_t queue_write(const struct queue *q, uint8_t *p)
{
    size_t len =
        dassie__queue_part_write(p, q->id, &q->tally, q->lines_n * LINE_KINDS);
    for (unsigned i = 0; i < q->lines_n * LINE_KINDS; i++) {
        const struct line *line =
            &q->lines[i / LINE_KINDS]->kind[i % LINE_KINDS];
        len += dassie__line_part_write(p + len, &line->row);
    }
    return len;
}

/* Writes q's part of a commit's row: the lines that this commit changed. */
static size_t queue_write_part(struct queue *q, uint8_t *p)
{
    uint32_t lines = 0;
    for (int k = 0; k < LINE_KINDS; k++) {
        lines += (uint32_t)__builtin_popcountll(q->touched[k]);
    }
    size_t len = dassie__queue_part_write(p, q->id, &q->tally, lines);
    for (int k = 0; k < LINE_KINDS; k++) {
        for (; q->touched[k] != 0; q->touched[k] &= q->touched[k] - 1) {
            int8_t priority = priority_first(q->touched[k]);
            struct line *line =
                dassie__queue_line(q, priority, (enum line_kind)k);
            len += dassie__line_part_write(p + len, &line->row);
        }
    }
    return len;
}

/* Folds the counts of the last commits into the queues' rows, this commit
 * included, so that open reads little. */
static void fold(struct store *s, uint64_t wall_ms)
{
    uint8_t from[KEY_NUMBER_BYTES];
    uint8_t to[KEY_NUMBER_BYTES];
    while (s->queues.unfolded != NULL) {
        struct queue *q = s->queues.unfolded;
        uint8_t key[KEY_QUEUE_BYTES];
        s->queues.unfolded = q->unfolded_next;
        q->unfolded = false;
        dassie__key_queue(key, KEY_COUNTS_TAG, q->id);
        s->commit_row[0] = RECORD_VERSION;
        size_t len = 1 + queue_write(q, s->commit_row + 1);
        s->kv->ops->put(s->kv, FAMILY_META, kv_slice(key, sizeof key),
                        kv_slice(s->commit_row, len));
    }
    s->kv->ops->del_range(s->kv, FAMILY_COMMITS, number_key(from, 0),
                          number_key(to, s->commit));
    s->folded = s->commit;
    put_store(s, wall_ms);
}

/* What this commit changed in counts and cursors, packed into one row. */
static void put_commit(struct store *s, uint64_t wall_ms)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct store_row store = {s->next,     dassie__claims_oldest(s),
                              s->folded,   wall_ms,
                              s->schedule, s->queues.changed_n};
    size_t len = dassie__store_row_write(s->commit_row, &store);
    while (s->queues.changed != NULL) {
        struct queue *q = s->queues.changed;
        s->queues.changed = q->changed_next;
        q->changed = false;
        len += queue_write_part(q, s->commit_row + len);
    }
    s->queues.changed_n = 0;
    s->kv->ops->put(s->kv, FAMILY_COMMITS, number_key(key, s->commit),
                    kv_slice(s->commit_row, len));
}

/* The names of new queues. */
static void put_names(struct store *s)
{
    while (s->named < s->queues.n) {
        const struct queue *q = s->queues.by_id[s->named++];
        uint8_t key[KEY_QUEUE_BYTES];
        uint8_t row[NAME_ROW_MAX];
        dassie__key_queue(key, KEY_NAME_TAG, q->id);
        size_t len = dassie__name_row_write(row, q->name, q->name_len);
        s->kv->ops->put(s->kv, FAMILY_META, kv_slice(key, sizeof key),
                        kv_slice(row, len));
    }
}

static void commit_done(struct store *s)
{
    dassie__unique_committed(&s->overlay);
    s->taken_n = 0;
    s->commit++;
    s->changed = false;
}

int dassie__store_commit(struct store *s, uint64_t wall_ms, struct errmsg *e)
{
    if (!store_changed(s)) {
        return 0;
    }
    put_names(s);
    dassie__claims_write(s);
    delete_dead(s, DEAD_ROWS_MAX, DEAD_RANGES_MAX);
    if (s->schedule.dead > DEAD_ROWS_MAX) {
        dassie__schedule_delete_dead(s);
    }
    if (s->commit - s->folded >= FOLD_COMMITS) {
        fold(s, wall_ms);
    }
    put_commit(s, wall_ms);
    int rc = s->kv->ops->commit(s->kv, s->sync, e);
    if (rc == 0) {
        commit_done(s);
    }
    return rc;
}

int dassie__store_heal(struct store *s, struct errmsg *e)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv_value value;
    int rc = s->kv->ops->reopen(s->kv, e);
    if (rc != 0) {
        return rc;
    }
    rc = s->kv->ops->get(s->kv, NULL, FAMILY_COMMITS,
                         number_key(key, s->commit), &value, e);
    if (rc == 0) {
        s->kv->ops->value_release(&value);
        s->kv->ops->drop(s->kv);
    } else if (rc == UV_ENOENT) {
        rc = s->kv->ops->commit(s->kv, s->sync, e);
    }
    if (rc == 0) {
        commit_done(s);
    }
    return rc;
}

bool dassie__store_close(struct store *s, bool clean)
{
    bool durable = s->kv->ops->close(s->kv, clean);
    s->kv = NULL;
    dassie__unique_free(&s->overlay);
    dassie__job_list_free(&s->expired);
    dassie__claims_free(s);
    dassie__free(s->commit_row);
    dassie__free(s->set_row);
    dassie__free(s->taken);
    s->commit_row = NULL;
    s->set_row = NULL;
    s->taken = NULL;
    return durable;
}

void dassie__store_free(struct store *s)
{
    dassie__queues_free(&s->queues);
}
