#include "config.h"

#include "rebuild.h"

#include "alloc.h"
#include "claims.h"
#include "expire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rows read between two commits, and those of jobs that may take keys. */
#define WINDOW_ROWS 256
#define WINDOW_KEYS 64

/* The families that are walked in step. */
enum column { JOBS, COMPLETE, FAILED, CANCELLED, HISTORY, COLUMNS };

static const enum family column_family[COLUMNS] = {
    FAMILY_JOBS, FAMILY_COMPLETE, FAMILY_FAILED, FAMILY_CANCELLED,
    FAMILY_HISTORY};

/* All that is known of one job. */
struct facts {
    uint64_t id;
    bool there[COLUMNS];
    size_t len[COLUMNS]; /* of its value */
    struct job_row job;
    struct end_row end[COLUMNS]; /* complete, failed, cancelled */
    struct history_row history;  /* that of a fresh job if there is none */
};

struct taken_key {
    uint8_t bytes[KEY_UNIQUE_MAX];
    size_t len;
};

/* The store as it will be. Until it is, a line's window_end is the last
 * position that a cursor has passed. */
struct rebuild {
    struct store s;
    bool keyed;        /* there are jobs with unique keys or an expiry */
    struct due head;   /* what the schedule's head has passed is before this */
    uint64_t due_rows; /* found in the schedule */
    struct taken_key taken_keys[WINDOW_KEYS]; /* by jobs since a flush: */
    unsigned taken_n;
    uint64_t taken_at;    /* written was that then */
    struct queues taken;  /* names that are there, while others are given */
    uint64_t last_commit; /* the highest number seen */
    uint64_t folded;      /* commits before this one are in the counts */
    uint64_t written;     /* of the database's rows, those not in the batch */
    uint64_t wall_ms;
    struct rebuild_report *report;
    struct errmsg *e;
};

static int damaged(struct rebuild *rb, const char *what)
{
    return dassie__errmsg_set(rb->e, DASSIE_ECORRUPT, "rebuild: %s", what);
}

static int no_memory(struct rebuild *rb)
{
    return dassie__errmsg_set(rb->e, UV_ENOMEM, "out of memory");
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Rows ---- */

static struct kv_slice number_key(uint8_t key[KEY_NUMBER_BYTES], uint64_t n)
{
    dassie__key_number(key, n);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

static struct kv_slice place_key(uint8_t key[KEY_PENDING_BYTES],
                                 const struct place *place)
{
    dassie__key_pending(key, place);
    return kv_slice(key, KEY_PENDING_BYTES);
}

static void row_del(struct rebuild *rb, enum family family, struct kv_slice key)
{
    rb->s.kv->ops->del(rb->s.kv, family, key);
    rb->report->removed++;
}

static void put_history(struct rebuild *rb, uint64_t id,
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

/* Writes the batch, unsynced. */
static int flush(struct rebuild *rb)
{
    struct kv *kv = rb->s.kv;
    if (kv->rows == rb->written) {
        return 0;
    }
    rb->written = kv->rows;
    return kv->ops->commit(kv, false, rb->e);
}

typedef int (*row_cb)(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value);

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
        return no_memory(rb);
    }
    for (*n = 0; rc == 0 && *n < most; ++*n) {
        rc = kv_skip_dead(rb->s.kv, it, rb->e);
        if (rc != 0 || !ops->iter_valid(it)) {
            break;
        }
        struct kv_slice key = ops->iter_key(it);
        if (key.len > KEY_BYTES_MAX) {
            rc = damaged(rb, "a key");
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

/* Reads rows and commits what cb makes of them, a window at a time. */
static int each_row(struct rebuild *rb, enum family family,
                    struct kv_slice from, struct kv_slice to, unsigned window,
                    row_cb cb)
{
    uint8_t at[KEY_BYTES_MAX + 1];
    size_t at_len = from.len;
    unsigned n = window;
    int rc = 0;
    memcpy(at, from.p, from.len);
    while (rc == 0 && n == window) {
        rc = read_window(rb, family, at, &at_len, to, &n, cb);
        if (rc == 0) {
            rc = flush(rb);
        }
    }
    return rc;
}

static const uint8_t family_begin[] = {0};
static const uint8_t family_end[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff};

static const uint8_t saves_begin[] = {KEY_SAVE_TAG};

static int each_row_of(struct rebuild *rb, enum family family, unsigned window,
                       row_cb cb)
{
    return each_row(rb, family, kv_slice(family_begin, sizeof family_begin),
                    kv_slice(family_end, sizeof family_end), window, cb);
}

static int each_meta_row(struct rebuild *rb, char tag, row_cb cb)
{
    const char from[] = {tag};
    const char to[] = {(char)(tag + 1)};
    return each_row(rb, FAMILY_META, kv_slice(from, 1), kv_slice(to, 1),
                    WINDOW_ROWS, cb);
}

/* ---- Names ---- */

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
               : no_memory(rb);
}

/* The queue that a row speaks of: where its name was lost, it gets one. */
static int queue_of(struct rebuild *rb, uint32_t id, struct queue **q)
{
    int rc = id < DASSIE_QUEUES_MAX ? 0 : damaged(rb, "a queue's id");
    while (rc == 0 && rb->s.queues.n <= id) {
        rc = queue_name(rb);
    }
    if (rc == 0) {
        *q = rb->s.queues.by_id[id];
    }
    return rc;
}

static int name_read(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value, uint32_t *id, struct kv_slice *name)
{
    const char *p;
    char tag;
    if (dassie__key_parse_queue(key.p, key.len, &tag, id) != 0 ||
        *id >= DASSIE_QUEUES_MAX ||
        dassie__name_row_read(value.p, value.len, &p, &name->len) != 0) {
        return damaged(rb, "a queue's name");
    }
    name->p = (const uint8_t *)p;
    return 0;
}

static int take_name(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct kv_slice name;
    struct queue *q;
    uint32_t id;
    int rc = name_read(rb, key, value, &id, &name);
    if (rc != 0) {
        return rc;
    }
    if (dassie__queues_find(&rb->taken, (const char *)name.p, name.len) !=
        NULL) {
        return damaged(rb, "two queues of one name");
    }
    return dassie__queues_add(&rb->taken, (const char *)name.p, name.len, &q) ==
                   0
               ? 0
               : no_memory(rb);
}

static int load_name(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct kv_slice name;
    struct queue *q;
    uint32_t id;
    int rc = name_read(rb, key, value, &id, &name);
    if (rc == 0 && id > 0) {
        rc = queue_of(rb, id - 1, &q);
    }
    if (rc != 0) {
        return rc;
    }
    return dassie__queues_add(&rb->s.queues, (const char *)name.p, name.len,
                              &q) == 0 &&
                   dassie__store_lines(&rb->s, q, 0) == 0
               ? 0
               : no_memory(rb);
}

/* ---- Numbers and cursors ---- */

static int line_of(struct rebuild *rb, struct queue *q, int8_t priority,
                   uint8_t kind, struct line **line)
{
    if (dassie__store_lines(&rb->s, q, priority) != 0) {
        return no_memory(rb);
    }
    *line = dassie__queue_line(q, priority, kind);
    return 0;
}

static int load_line(struct rebuild *rb, struct queue *q, struct part_reader *r)
{
    struct line_row row;
    struct line *line = NULL;
    if (dassie__line_part_read(r, &row) != 0) {
        return damaged(rb, "a line's counts");
    }
    int rc = line_of(rb, q, row.priority, row.kind, &line);
    if (rc == 0) {
        line->window_end = row.cursor > 0 ? row.cursor - 1 : 0;
    }
    return rc;
}

static int load_part(struct rebuild *rb, struct part_reader *r)
{
    struct tally tally;
    struct queue *q;
    uint32_t id;
    uint32_t lines;
    if (dassie__queue_part_read(r, &id, &tally, &lines) != 0) {
        return damaged(rb, "a queue's counts");
    }
    int rc = queue_of(rb, id, &q);
    for (uint32_t i = 0; rc == 0 && i < lines; i++) {
        rc = load_line(rb, q, r);
    }
    return rc;
}

static int load_counts(struct rebuild *rb, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r = {value.p + 1, value.p + value.len};
    (void)key;
    if (value.len < 1 || value.p[0] != RECORD_VERSION) {
        return damaged(rb, "a queue's row");
    }
    return load_part(rb, &r);
}

static void load_head(struct rebuild *rb, const struct schedule_row *row)
{
    rb->head.ms = row->head_ms;
    rb->head.id = row->head_id;
}

static int load_commit(struct rebuild *rb, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r;
    struct store_row row;
    uint64_t number;
    int rc = 0;
    if (dassie__key_parse_number(key.p, key.len, &number) != 0 ||
        dassie__store_row_read(&r, value.p, value.len, &row) != 0) {
        return damaged(rb, "a commit's row");
    }
    rb->last_commit = max64(rb->last_commit, number);
    rb->s.next = max64(rb->s.next, row.next);
    if (number < rb->folded) {
        return 0; /* brought back with a table that was of no use any more */
    }
    load_head(rb, &row.schedule);
    for (uint32_t i = 0; rc == 0 && i < row.queues; i++) {
        rc = load_part(rb, &r);
    }
    return rc;
}

static int load_store_row(struct rebuild *rb)
{
    struct kv *kv = rb->s.kv;
    struct kv_value value;
    struct part_reader r;
    struct store_row row;
    int rc = kv->ops->get(kv, NULL, FAMILY_META, kv_string(KEY_STORE), &value,
                          rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__store_row_read(&r, value.p, value.len, &row);
    kv->ops->value_release(&value);
    if (rc != 0) {
        return damaged(rb, "the store's row");
    }
    rb->s.next = max64(rb->s.next, row.next);
    rb->last_commit = rb->folded = row.folded;
    load_head(rb, &row.schedule);
    return 0;
}

/* Settings stand for themselves; their queue is to be there. */
static int load_settings(struct rebuild *rb, struct kv_slice key,
                         struct kv_slice value)
{
    struct settings_row settings;
    struct queue *q;
    uint32_t id;
    char tag;
    if (dassie__key_parse_queue(key.p, key.len, &tag, &id) != 0 ||
        dassie__settings_row_read(value.p, value.len, &settings) != 0) {
        return damaged(rb, "a queue's settings");
    }
    return queue_of(rb, id, &q);
}

/* A rebuild that did not get to its end has given places away, too, which no
 * commit's row tells: none of them is given again. */
static int load_place(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value)
{
    struct history_row row;
    (void)key;
    if (dassie__history_row_read(value.p, value.len, &row) != 0) {
        return damaged(rb, "a history row");
    }
    if (row.kind != PLACE_SCHEDULED) {
        rb->s.next = max64(rb->s.next, row.position + 1);
    }
    return 0;
}

static int load(struct rebuild *rb)
{
    int rc = load_store_row(rb);
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_NAME_TAG, take_name);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_NAME_TAG, load_name);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_SETTINGS_TAG, load_settings);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_COUNTS_TAG, load_counts);
    }
    if (rc == 0) {
        rc = each_row_of(rb, FAMILY_COMMITS, WINDOW_ROWS, load_commit);
    }
    return rc == 0 ? each_row_of(rb, FAMILY_HISTORY, WINDOW_ROWS, load_place)
                   : rc;
}

/* ---- One job's rows ---- */

static int read_column(struct rebuild *rb, struct facts *f, enum column column,
                       struct kv_slice value)
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
    return rc == 0 ? 0 : damaged(rb, names[column]);
}

/* A fresh job stands at its id, unless its row says when it is due. */
static void facts_begin(struct facts *f, uint64_t id)
{
    memset(f, 0, sizeof *f);
    f->id = id;
    f->history.kind = LINE_NORMAL;
    f->history.position = id;
}

/* Looks up rows of one job from a column on. Names, payloads and texts of the
 * rows are not kept. */
static int facts_get(struct rebuild *rb, uint64_t id, enum column first,
                     struct facts *f)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rb->s.kv;
    struct kv_value value;
    facts_begin(f, id);
    for (int i = first; i < COLUMNS; i++) {
        int rc = kv->ops->get(kv, NULL, column_family[i], number_key(key, id),
                              &value, rb->e);
        if (rc == 0) {
            rc = read_column(rb, f, i, kv_slice(value.p, value.len));
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

static bool has_ended(const struct facts *f)
{
    return f->there[COMPLETE] || f->there[FAILED] || f->there[CANCELLED];
}

/* Whether a pending row is the one that the job stands at. */
static bool is_its_place(const struct facts *f, const struct place *place,
                         const struct pending_row *row)
{
    return row->id == f->id && row->attempts == f->history.attempts &&
           place->queue == f->job.queue && place->priority == f->job.priority &&
           place->kind == f->history.kind &&
           place->position == f->history.position;
}

/* ---- Claims ---- */

/* Of a claim whose end nobody knows the job's history remembers the run; and it
 * says that the job left its place, as no row stands at a new number. */
static int remember_claim(struct rebuild *rb, uint64_t commit,
                          const struct claim_entry *entry)
{
    struct facts f;
    struct history_row *h = &f.history;
    int rc = facts_get(rb, entry->id, COMPLETE, &f);
    if (rc != 0 || has_ended(&f) || h->last_run >= commit) {
        return rc;
    }
    if (entry->attempt > 0 && entry->attempt - 1 > h->attempts) {
        h->attempts = entry->attempt - 1;
    }
    h->last_run = commit;
    h->kind = LINE_FRONT;
    h->position = rb->s.next++;
    put_history(rb, f.id, h);
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
        return damaged(rb, "a claim set");
    }
    rb->last_commit = max64(rb->last_commit, commit);
    while ((more = dassie__claim_set_next(&r, &entry)) == 1) {
        int rc = remember_claim(rb, commit, &entry);
        if (rc != 0) {
            return rc;
        }
    }
    row_del(rb, FAMILY_RUNNING, key);
    return more == 0 ? 0 : damaged(rb, "a claim set");
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
            row_del(rb, column_family[i], number_key(key, f->id));
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
        put_history(rb, f->id, &h);
    }
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
            row_del(rb, column_family[i], number_key(key, f->id));
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
    return rc != 0 ? damaged(rb, "a pending row")
                   : is_its_place(f, &place, &row);
}

static struct kv_slice due_key(uint8_t key[KEY_DUE_BYTES],
                               const struct due *due)
{
    dassie__key_due(key, due);
    return kv_slice(key, KEY_DUE_BYTES);
}

static bool due_before(const struct due *a, uint64_t ms, uint64_t id)
{
    return a->ms < ms || (a->ms == ms && a->id < id);
}

/* 1: it waits for its time; 0: that has come, and it has been claimed. */
static int is_scheduled(struct rebuild *rb, const struct facts *f)
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
        return damaged(rb, "a scheduled row");
    }
    return row.attempts == f->history.attempts && row.queue == f->job.queue &&
           row.priority == f->job.priority;
}

/* One more row of the schedule: they come by job, not by time. */
static void schedule_keep(struct rebuild *rb, uint64_t ms, uint64_t id)
{
    struct schedule_row *row = &rb->s.schedule;
    struct due due = {ms, id, 0};
    if (row->live == 0 || due_before(&due, row->head_ms, row->head_id)) {
        row->start_ms = row->head_ms = due.ms;
        row->start_id = row->head_id = due.id;
    }
    row->live++;
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
        return no_memory(rb);
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
    int rc = line_of(rb, q, f->job.priority,
                     waits ? LINE_NORMAL : f->history.kind, &line);
    if (rc == 0) {
        rc = waits ? is_scheduled(rb, f) : is_pending(rb, f, line);
    }
    if (rc != 1) {
        return rc;
    }
    if (waits) {
        schedule_keep(rb, f->history.position, f->id);
    } else {
        line_keep(line, f->history.position);
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
    int rc = queue_of(rb, f->job.queue, &q);
    if (rc != 0) {
        return rc;
    }
    if (has_ended(f)) {
        settle_end(rb, f, q);
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
               : damaged(rb, "the key of a job");
}

static int columns_open(struct rebuild *rb, struct columns *c, uint64_t from)
{
    uint8_t key[KEY_NUMBER_BYTES];
    int rc = 0;
    memset(c, 0, sizeof *c);
    for (int i = 0; rc == 0 && i < COLUMNS; i++) {
        c->it[i] = rb->s.kv->ops->iter(rb->s.kv, NULL, column_family[i],
                                       number_key(key, from),
                                       kv_slice(family_end, sizeof family_end));
        rc = c->it[i] == NULL ? no_memory(rb) : column_settle(rb, c, i);
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
    facts_begin(&f, id);
    for (int i = 0; rc == 0 && i < COLUMNS; i++) {
        if (c->here[i] && c->id[i] == id) {
            rc = read_column(rb, &f, i, ops->iter_value(c->it[i]));
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
    return rc == 0 ? flush(rb) : rc;
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

/* ---- Pending rows that are nobody's place ---- */

/* The line that a pending row stands in, or NULL: no job can be there. */
static int line_of_row(struct rebuild *rb, struct kv_slice key,
                       struct place *place, struct line **line)
{
    *line = NULL;
    if (dassie__key_parse_pending(key.p, key.len, place) != 0) {
        return damaged(rb, "the key of a pending row");
    }
    rb->s.next = max64(rb->s.next, place->position + 1);
    return place->queue < rb->s.queues.n
               ? line_of(rb, rb->s.queues.by_id[place->queue], place->priority,
                         place->kind, line)
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
        row_del(rb, FAMILY_PENDING, key);
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
        return damaged(rb, "a pending row");
    }
    rc = facts_get(rb, row.id, JOBS, &f);
    if (rc == 0 &&
        (!f.there[JOBS] || has_ended(&f) || !is_its_place(&f, &place, &row))) {
        row_del(rb, FAMILY_PENDING, key);
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
    int rc = each_row(rb, FAMILY_PENDING, kv_slice(from, sizeof from),
                      place_key(to, &place), WINDOW_ROWS, sweep_row);
    return rc == 0 && line->row.dead != 0 ? damaged(rb, "a line's rows") : rc;
}

static int sweep(struct rebuild *rb)
{
    int rc = each_row_of(rb, FAMILY_PENDING, WINDOW_ROWS, count_row);
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

/* ---- Unique keys ---- */

static void put_timer(struct rebuild *rb, struct kv_slice key,
                      const struct unique_row *row)
{
    uint8_t bytes[KEY_DUE_BYTES];
    uint8_t value[TIMER_ROW_MAX];
    struct due due = {row->expires_ms, row->id, DUE_KEY};
    size_t len = dassie__timer_row_write(value, key.p, key.len);
    rb->s.kv->ops->put(rb->s.kv, FAMILY_SCHEDULED, due_key(bytes, &due),
                       kv_slice(value, len));
    schedule_keep(rb, due.ms, due.id);
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
        return damaged(rb, "a unique key");
    }
    int rc = queue_of(rb, queue, &q);
    if (rc == 0 && row.until == DASSIE_UNTIL_TIME) {
        put_timer(rb, key, &row);
        return 0;
    }
    if (rc == 0) {
        rc = facts_get(rb, row.id, JOBS, &f);
    }
    if (rc == 0 && (!f.there[JOBS] || has_ended(&f))) {
        row_del(rb, FAMILY_UNIQUE, key);
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

/* Whether a job took the key since the last flush, which no read tells. */
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
    put_history(rb, f->id, &f->history);
    if (f->history.kind == PLACE_SCHEDULED) {
        struct due due = {f->history.position, f->id, DUE_JOB};
        struct due_row row = {f->job.queue, f->job.priority, 0, true};
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
            return damaged(rb, "a unique key");
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

/* Whether a job waits for its first run: nothing is claimed now. */
static bool is_fresh(const struct facts *f)
{
    return !has_ended(f) && f->history.attempts == 0 && f->history.code == 0;
}

static void put_expiry(struct rebuild *rb, uint64_t id, uint64_t ms)
{
    static const uint8_t value[] = {RECORD_VERSION};
    uint8_t bytes[KEY_DUE_BYTES];
    struct due due = {ms, id, DUE_EXPIRY};
    rb->s.kv->ops->put(rb->s.kv, FAMILY_SCHEDULED, due_key(bytes, &due),
                       kv_slice(value, sizeof value));
    schedule_keep(rb, ms, id);
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
        return damaged(rb, "a job's row");
    }
    bool keyed = job.options.key_len > 0;
    uint64_t expires_ms = dassie__expire_of(&job);
    int rc = keyed || expires_ms != 0 ? facts_get(rb, id, JOBS, &f) : 0;
    if (rc == 0 && expires_ms != 0 && is_fresh(&f)) {
        put_expiry(rb, id, expires_ms);
    }
    return rc == 0 && keyed && has_to_hold(&f, job.options.number[JOB_UNIQUE])
               ? retake_key(rb, &f, &job)
               : rc;
}

static int settle_keys(struct rebuild *rb)
{
    int rc = each_row_of(rb, FAMILY_UNIQUE, WINDOW_ROWS, settle_key);
    return rc == 0 && rb->keyed
               ? each_row_of(rb, FAMILY_JOBS, WINDOW_KEYS, settle_job)
               : rc;
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
        return damaged(rb, "a job's row");
    }
    rc = facts_get(rb, due->id, COMPLETE, &f);
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
        return damaged(rb, "a timer row");
    }
    int rc =
        kv->ops->get(kv, NULL, FAMILY_UNIQUE, kv_slice(key, len), &held, rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__unique_row_read(held.p, held.len, &row);
    kv->ops->value_release(&held);
    return rc != 0 ? damaged(rb, "a unique key")
                   : row.id == due->id && row.expires_ms == due->ms;
}

/* 1: its job waits there; 0: it does not. */
static int is_waiting(struct rebuild *rb, const struct due *due)
{
    struct facts f;
    int rc = facts_get(rb, due->id, JOBS, &f);
    bool may = f.there[JOBS] && !has_ended(&f) &&
               f.history.kind == PLACE_SCHEDULED &&
               f.history.position == due->ms;
    return rc == 0 && may ? is_scheduled(rb, &f) : rc;
}

/* Deletes a row if nobody waits for it. */
static int sweep_due(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct due due;
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        return damaged(rb, "the key of a scheduled row");
    }
    int rc = due.kind == DUE_JOB      ? is_waiting(rb, &due)
             : due.kind == DUE_EXPIRY ? is_expiry(rb, &due)
                                      : is_timer(rb, &due, value);
    if (rc == 0) {
        row_del(rb, FAMILY_SCHEDULED, key);
    }
    return rc < 0 ? rc : 0;
}

static int sweep_schedule(struct rebuild *rb)
{
    int rc = each_row_of(rb, FAMILY_SCHEDULED, WINDOW_ROWS, count_due);
    return rc == 0 && rb->due_rows != rb->s.schedule.live
               ? each_row_of(rb, FAMILY_SCHEDULED, WINDOW_ROWS, sweep_due)
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
        return damaged(rb, "what a job has saved");
    }
    int rc = facts_get(rb, id, JOBS, &f);
    bool ran = has_ended(&f) || f.history.attempts > 0;
    if (rc == 0 && (!f.there[JOBS] || f.there[COMPLETE] || !ran)) {
        row_del(rb, FAMILY_RUNNING, key);
    }
    return rc;
}

static int sweep_saves(struct rebuild *rb)
{
    return each_row(
        rb, FAMILY_RUNNING, kv_slice(saves_begin, sizeof saves_begin),
        kv_slice(family_end, sizeof family_end), WINDOW_ROWS, sweep_save);
}

/* ---- The end ---- */

/* One commit that folds: its number is so far on. */
static int finish(struct rebuild *rb)
{
    struct store *s = &rb->s;
    if (s->queues.n == 0) {
        return 0; /* then there is nothing at all */
    }
    dassie__claims_free(s);
    for (uint32_t i = 0; i < s->queues.n; i++) {
        dassie__queue_touch(&s->queues, s->queues.by_id[i]);
    }
    s->commit = rb->last_commit + FOLD_COMMITS;
    s->folded = 0;
    s->sync = true;
    s->changed = true;
    return dassie__store_commit(s, rb->wall_ms, rb->e);
}

int dassie__rebuild(struct kv *kv, uint64_t wall_ms, uint64_t skip,
                    struct rebuild_report *report, struct errmsg *e)
{
    struct rebuild rb = {.s = {.kv = kv, .next = 1},
                         .written = kv->rows,
                         .wall_ms = wall_ms,
                         .report = report,
                         .e = e};
    memset(report, 0, sizeof *report);
    int rc = load(&rb);
    if (rc == 0) {
        /* One at a time: each may hold all jobs that were claimed. */
        rc = each_row(&rb, FAMILY_RUNNING,
                      kv_slice(family_begin, sizeof family_begin),
                      kv_slice(saves_begin, sizeof saves_begin), 1, take_set);
    }
    if (rc == 0) {
        rc = settle_jobs(&rb);
    }
    if (rc == 0) {
        rc = sweep(&rb);
    }
    if (rc == 0) {
        rc = settle_keys(&rb);
    }
    if (rc == 0) {
        rc = sweep_schedule(&rb);
    }
    if (rc == 0) {
        rc = sweep_saves(&rb);
    }
    if (rc == 0) {
        rb.s.next += skip;
        rc = finish(&rb);
    }
    if (rc != 0) {
        kv->ops->drop(kv);
    }
    dassie__claims_free(&rb.s);
    dassie__queues_free(&rb.s.queues);
    dassie__queues_free(&rb.taken);
    dassie__free(rb.s.commit_row);
    return rc;
}
