/* verify: a store with everything in it is sound, and whatever is put out of
 * place in it is told, in both databases. */
#include "config.h"

#include "../lib/schedule.h"
#include "store_rig.h"

#include <stddef.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define VALUE_MAX 4096
#define PARTS_MAX 4
#define LINES_MAX 16

static struct rig rig;
static struct rig *const r = &rig;

/* ---- A store with everything in it ---- */

enum { MAIL, WEB, IDLE, QUEUES };

/* Numbers of what was made; each is a job's id unless it says otherwise. */
static struct {
    uint64_t done_first; /* complete, and its dead row is the line's first */
    uint64_t done_last;  /* complete, and its dead row is the last dead one */
    uint64_t pending;    /* at its line's cursor */
    uint64_t pending2;
    uint64_t high;  /* pending, priority -3 */
    uint64_t front; /* unclaimed */
    uint64_t again; /* pending after a run */
    uint64_t suspect;
    uint64_t failed;
    uint64_t done_again; /* complete, with a history row */
    uint64_t running;
    uint64_t running_again; /* with a history row */
    uint64_t folded_run;    /* running, in a folded set */
    uint64_t web_pending;
    uint64_t web_running;
    uint64_t later; /* scheduled at due */
    uint64_t retry; /* scheduled at due_retry, after a run */
    uint64_t due;
    uint64_t due_retry;
    uint64_t due_other; /* nothing is due then */
    uint64_t due_dead;  /* one is that has been promoted */
    uint64_t promoted;
    uint64_t gap;      /* a number that is a position */
    uint64_t beyond;   /* a number not taken */
    uint64_t folded;   /* the commit that folded */
    uint64_t after;    /* a commit after it */
    uint64_t last;     /* the last commit */
    uint64_t old_set;  /* the oldest claim set */
    uint64_t last_set; /* the newest, web_running's */
    uint64_t zero;
    uint64_t three;
} made;

static void pass_commits(uint64_t last)
{
    while (r->s.commit <= last) {
        rig_put(r, "web", 4);
        if (r->s.commit % 2 == 0) {
            rig_move(r, rig_claim(r, "web"), EVENT_COMPLETE);
        }
        rig_commit(r);
    }
}

/* Claims the first job of mail, and brings it back. */
static uint64_t come_back(uint64_t expected, enum event event)
{
    job_t *job = rig_claim(r, "mail");
    ck_assert_uint_eq(job->id, expected);
    rig_commit(r);
    uint64_t position = r->s.next;
    rig_move(r, job, event);
    rig_commit(r);
    return position;
}

static void make_mail(void)
{
    rig_serve(r, "mail", 1);
    made.suspect = rig_put(r, "mail", -9);
    come_back(made.suspect, EVENT_SUSPECT);
    made.done_first = rig_put(r, "mail", 0);
    made.done_last = rig_put(r, "mail", 0);
    made.pending = rig_put(r, "mail", 0);
    made.pending2 = rig_put(r, "mail", 0);
    rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
    rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
    made.done_again = rig_put(r, "mail", -8);
    come_back(made.done_again, EVENT_REPEAT);
    rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
    made.running_again = rig_put(r, "mail", -7);
    come_back(made.running_again, EVENT_REPEAT);
    rig_claim(r, "mail");
    made.running = rig_hand_off(r, "mail", 2)->id;
    made.old_set = r->s.commit;
    rig_move(r, rig_hand_off(r, "mail", 2), EVENT_FAIL);
    rig_commit(r);
    made.front = rig_put(r, "mail", -6);
    made.gap = come_back(made.front, EVENT_UNCLAIM);
    made.high = rig_put(r, "mail", -3);
    made.again = rig_put(r, "mail", -12);
    come_back(made.again, EVENT_REPEAT);
}

static void make_folded_set(void)
{
    job_t *jobs[17];
    for (int i = 0; i < 17; i++) {
        jobs[i] = rig_hand_off(r, "mail", 0);
    }
    rig_commit(r);
    for (int i = 0; i < 16; i++) {
        made.failed = jobs[i]->id;
        rig_move(r, jobs[i], i % 2 == 0 ? EVENT_COMPLETE : EVENT_FAIL);
    }
    made.folded_run = jobs[16]->id;
    rig_commit(r);
}

static void make_web(void)
{
    made.web_pending = rig_put(r, "web", 0);
    rig_put(r, "web", 0);
    rig_commit(r);
    made.after = r->s.commit;
    rig_move(r, rig_hand_off(r, "web", 0), EVENT_FAIL);
    rig_commit(r);
    made.web_running = rig_hand_off(r, "web", 0)->id;
    made.last_set = r->s.commit;
    rig_commit(r);
    rig_move(r, rig_hand_off(r, "web", 0), EVENT_UNCLAIM);
    rig_commit(r);
    made.last = r->s.commit - 1;
}

static void make_schedule(void)
{
    unsigned n;
    made.due_dead = 500;
    made.due = 100000;
    made.due_retry = 200000;
    made.due_other = 150000;
    made.promoted = rig_put_due(r, "web", 0, made.due_dead);
    made.later = rig_put_due(r, "web", 0, made.due);
    rig_commit(r);
    RIG_OK(r, dassie__schedule_promote(&r->s, 600, 9, &n, &r->e));
    ck_assert_uint_eq(n, 1);
    job_t *job = rig_hand_off(r, "web", 0);
    made.retry = job->id;
    job->due_ms = made.due_retry;
    rig_commit(r);
    rig_move(r, job, EVENT_RETRY);
    rig_commit(r);
}

/* Mail has been silent since the fold; web has not. */
static void make_all(enum rig_kind kind)
{
    memset(&made, 0, sizeof made);
    rig_setup(r, kind);
    rig_serve(r, "mail", 1);
    rig_serve(r, "web", 1);
    rig_queue(r, "idle\n", 0);
    make_mail();
    make_folded_set();
    pass_commits(FOLD_COMMITS + 1);
    made.folded = r->s.folded;
    make_schedule();
    make_web();
    made.beyond = r->s.next + 5;
    made.three = 3;
    ck_assert_uint_eq(made.folded, FOLD_COMMITS);
    ck_assert_uint_eq(r->s.queues.n, QUEUES);
}

/* ---- Changing rows, and changing them back ---- */

struct undo {
    enum family family;
    uint8_t key[32];
    size_t key_len;
    uint8_t value[VALUE_MAX];
    size_t value_len;
    bool there;
};

static struct undo undos[8];
static size_t undos_n;

static bool row_get(enum family family, struct kv_slice key,
                    uint8_t value[VALUE_MAX], size_t *len)
{
    struct kv_value found;
    int rc = r->kv->ops->get(r->kv, NULL, family, key, &found, &r->e);
    if (rc == UV_ENOENT) {
        return false;
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_le(found.len, VALUE_MAX);
    memcpy(value, found.p, found.len);
    *len = found.len;
    r->kv->ops->value_release(&found);
    return true;
}

static void undo_note(enum family family, struct kv_slice key)
{
    ck_assert_uint_lt(undos_n, COUNT(undos));
    struct undo *undo = &undos[undos_n++];
    undo->family = family;
    memcpy(undo->key, key.p, key.len);
    undo->key_len = key.len;
    undo->there = row_get(family, key, undo->value, &undo->value_len);
}

static void row_put(enum family family, struct kv_slice key, const void *value,
                    size_t len)
{
    undo_note(family, key);
    r->kv->ops->put(r->kv, family, key, kv_slice(value, len));
}

static void row_del(enum family family, struct kv_slice key)
{
    undo_note(family, key);
    ck_assert(undos[undos_n - 1].there);
    r->kv->ops->del(r->kv, family, key);
}

static void undo_all(void)
{
    while (undos_n > 0) {
        struct undo *undo = &undos[--undos_n];
        struct kv_slice key = kv_slice(undo->key, undo->key_len);
        if (undo->there) {
            r->kv->ops->put(r->kv, undo->family, key,
                            kv_slice(undo->value, undo->value_len));
        } else {
            r->kv->ops->del(r->kv, undo->family, key);
        }
    }
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
}

/* ---- Damages ---- */

struct damage {
    const char *text;     /* stands in a line that is told */
    const uint64_t *told; /* the job it is told of; NULL: any */
    void (*apply)(const struct damage *d);
    enum family family;
    const uint64_t *number; /* the row's */
    const uint64_t *other;  /* another number */
    uint32_t queue;
    int8_t priority;
    uint8_t kind;
    size_t field; /* offset in a struct */
    size_t width; /* of the field */
    int64_t delta;
};

static uint8_t key_bytes[32];

static struct kv_slice number_key(uint64_t number)
{
    dassie__key_number(key_bytes, number);
    return kv_slice(key_bytes, KEY_NUMBER_BYTES);
}

static struct kv_slice queue_key(char tag, uint32_t queue)
{
    dassie__key_queue(key_bytes, tag, queue);
    return kv_slice(key_bytes, KEY_QUEUE_BYTES);
}

static struct kv_slice place_key(uint32_t queue, int8_t priority, uint8_t kind,
                                 uint64_t position)
{
    struct place place = {queue, priority, kind, position};
    dassie__key_pending(key_bytes, &place);
    return kv_slice(key_bytes, KEY_PENDING_BYTES);
}

static struct kv_slice due_key(uint64_t ms, uint64_t id)
{
    struct due due = {ms, id, DUE_JOB};
    dassie__key_due(key_bytes, &due);
    return kv_slice(key_bytes, KEY_DUE_BYTES);
}

/* The row that a damage is about. */
static struct kv_slice row_key(const struct damage *d)
{
    switch (d->family) {
        case FAMILY_META:
            return d->kind == 's' ? kv_string(KEY_STORE)
                                  : queue_key((char)d->kind, d->queue);
        case FAMILY_SCHEDULED:
            return due_key(*d->other, *d->number);
        case FAMILY_PENDING:
            return place_key(d->queue, d->priority, d->kind, *d->number);
        default:
            return number_key(*d->number);
    }
}

static void value_add(void *p, size_t width, int64_t delta)
{
    if (width == 1) {
        *(uint8_t *)p = (uint8_t)(*(uint8_t *)p + delta);
    } else if (width == 4) {
        *(uint32_t *)p = (uint32_t)(*(uint32_t *)p + delta);
    } else {
        *(uint64_t *)p += (uint64_t)delta;
    }
}

static void field_add(const struct damage *d, void *in)
{
    value_add((char *)in + d->field, d->width, d->delta);
}

static void drop_row(const struct damage *d)
{
    row_del(d->family, row_key(d));
}

static void spoil(const struct damage *d)
{
    row_put(d->family, row_key(d), "\7", 1);
}

static void cut(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    ck_assert(row_get(d->family, row_key(d), value, &len));
    row_put(d->family, row_key(d), value, len - 1);
}

static void extend(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    ck_assert(row_get(d->family, row_key(d), value, &len));
    value[len] = 0;
    row_put(d->family, row_key(d), value, len + 1);
}

static void bad_key(const struct damage *d)
{
    row_put(d->family, kv_slice("abc", 3), "", 0);
}

/* A copy of the row at another number. */
static void copy_to(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    ck_assert(row_get(d->family, number_key(*d->number), value, &len));
    row_put(d->family, number_key(*d->other), value, len);
}

static void rename_to(const struct damage *d)
{
    copy_to(d);
    row_del(d->family, number_key(*d->number));
}

/* ---- Of names and counts ---- */

static void put_name(const struct damage *d)
{
    row_put(FAMILY_META, queue_key(KEY_NAME_TAG, d->queue), "\1mail", 5);
}

struct part {
    uint32_t queue;
    struct tally tally;
    uint32_t lines_n;
    struct line_row lines[LINES_MAX];
};

struct counts {
    bool is_commit;
    struct store_row head;
    uint32_t parts_n;
    struct part parts[PARTS_MAX];
};

static void counts_read(struct counts *c, const uint8_t *value, size_t len)
{
    struct part_reader p = {value + 1, value + len};
    c->parts_n = 1;
    if (c->is_commit) {
        ck_assert_int_eq(dassie__store_row_read(&p, value, len, &c->head), 0);
        c->parts_n = c->head.queues;
    }
    ck_assert_uint_le(c->parts_n, PARTS_MAX);
    for (uint32_t i = 0; i < c->parts_n; i++) {
        struct part *part = &c->parts[i];
        ck_assert_int_eq(dassie__queue_part_read(&p, &part->queue, &part->tally,
                                                 &part->lines_n),
                         0);
        ck_assert_uint_le(part->lines_n, 3 * LINES_MAX);
        uint32_t used = 0;
        for (uint32_t l = 0; l < part->lines_n; l++) {
            struct line_row line;
            ck_assert_int_eq(dassie__line_part_read(&p, &line), 0);
            if (line.tail > 0) {
                ck_assert_uint_lt(used, LINES_MAX);
                part->lines[used++] = line;
            }
        }
        part->lines_n = used;
    }
    ck_assert_ptr_eq(p.p, p.end);
}

static size_t counts_write(const struct counts *c, uint8_t *value)
{
    size_t len = 1;
    value[0] = RECORD_VERSION;
    if (c->is_commit) {
        len = dassie__store_row_write(value, &c->head);
    }
    for (uint32_t i = 0; i < c->parts_n; i++) {
        const struct part *part = &c->parts[i];
        len += dassie__queue_part_write(value + len, part->queue, &part->tally,
                                        part->lines_n);
        for (uint32_t l = 0; l < part->lines_n; l++) {
            len += dassie__line_part_write(value + len, &part->lines[l]);
        }
    }
    return len;
}

typedef void (*counts_cb)(const struct damage *d, struct counts *c);

static void counts_edit(const struct damage *d, counts_cb edit)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    struct counts c = {.is_commit = d->family == FAMILY_COMMITS};
    struct kv_slice key = c.is_commit ? number_key(*d->number)
                                      : queue_key(KEY_COUNTS_TAG, d->queue);
    ck_assert(row_get(d->family, key, value, &len));
    counts_read(&c, value, len);
    edit(d, &c);
    row_put(d->family, key, value, counts_write(&c, value));
}

static struct part *part_of(const struct damage *d, struct counts *c)
{
    for (uint32_t i = 0; i < c->parts_n; i++) {
        if (c->parts[i].queue == d->queue) {
            return &c->parts[i];
        }
    }
    ck_abort_msg("no part of queue %u", d->queue);
    return NULL;
}

static struct line_row *line_of(const struct damage *d, struct counts *c)
{
    struct part *part = part_of(d, c);
    for (uint32_t i = 0; i < part->lines_n; i++) {
        struct line_row *line = &part->lines[i];
        if (line->priority == d->priority && line->kind == d->kind) {
            return line;
        }
    }
    ck_abort_msg("no line %d, %u", d->priority, d->kind);
    return NULL;
}

static void tally_add(const struct damage *d, struct counts *c)
{
    field_add(d, &part_of(d, c)->tally);
}

static void line_add(const struct damage *d, struct counts *c)
{
    field_add(d, line_of(d, c));
}

static void head_add(const struct damage *d, struct counts *c)
{
    field_add(d, &c->head);
}

static void id_add(const struct damage *d, struct counts *c)
{
    field_add(d, part_of(d, c));
}

/* Leaves out the last line of the part. */
static void line_less(const struct damage *d, struct counts *c)
{
    struct part *part = part_of(d, c);
    struct line_row *line = line_of(d, c);
    *line = part->lines[--part->lines_n];
}

static void tally(const struct damage *d)
{
    counts_edit(d, tally_add);
}

static void line(const struct damage *d)
{
    counts_edit(d, line_add);
}

static void head(const struct damage *d)
{
    counts_edit(d, head_add);
}

static void counts_id(const struct damage *d)
{
    counts_edit(d, id_add);
}

static void no_line(const struct damage *d)
{
    counts_edit(d, line_less);
}

static void store_row(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    struct part_reader p;
    struct store_row row;
    ck_assert(row_get(FAMILY_META, kv_string(KEY_STORE), value, &len));
    ck_assert_int_eq(dassie__store_row_read(&p, value, len, &row), 0);
    field_add(d, &row);
    row_put(FAMILY_META, kv_string(KEY_STORE), value,
            dassie__store_row_write(value, &row));
}

/* ---- Of jobs ---- */

static void job_row(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    ck_assert(row_get(FAMILY_JOBS, number_key(*d->number), value, &len));
    value_add(value + d->field, 1, d->delta);
    row_put(FAMILY_JOBS, number_key(*d->number), value, len);
}

static void end_row(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    uint8_t changed[VALUE_MAX];
    size_t len;
    struct end_row end;
    ck_assert(row_get(d->family, number_key(*d->number), value, &len));
    ck_assert_int_eq(dassie__end_row_read(value, len, &end), 0);
    field_add(d, &end);
    row_put(d->family, number_key(*d->number), changed,
            dassie__end_row_write_head(changed, &end));
}

/* An end of the other kind. */
static void both_ends(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    struct end_row end = {1,    1, 0, d->family == FAMILY_COMPLETE ? 0 : -1,
                          NULL, 0};
    row_put(d->family, number_key(*d->number), value,
            dassie__end_row_write_head(value, &end));
}

static void history(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    size_t len;
    struct history_row row;
    ck_assert(row_get(FAMILY_HISTORY, number_key(*d->number), value, &len));
    ck_assert_int_eq(dassie__history_row_read(value, len, &row), 0);
    field_add(d, &row);
    row_put(FAMILY_HISTORY, number_key(*d->number), value,
            dassie__history_row_write_head(value, &row));
}

/* ---- Of scheduled rows ---- */

static size_t row_bytes(uint64_t id)
{
    uint8_t value[VALUE_MAX];
    size_t len = 0;
    row_get(FAMILY_JOBS, number_key(id), value, &len);
    return len;
}

/* A scheduled row for a job that is not due then, whatever it counts. */
static void due_row(const struct damage *d)
{
    uint8_t value[DUE_ROW_MAX];
    struct due_row row = {WEB, 0, d->queue, d->kind != 0,
                          row_bytes(*d->number)};
    row_put(FAMILY_SCHEDULED, due_key(*d->other, *d->number), value,
            dassie__due_row_write(value, &row));
}

/* The row says that its job has another size. */
static void due_bytes(const struct damage *d)
{
    uint8_t value[DUE_ROW_MAX];
    struct due_row row = {WEB, 0, 0, false,
                          row_bytes(*d->number) + (uint64_t)d->delta};
    row_put(FAMILY_SCHEDULED, due_key(*d->other, *d->number), value,
            dassie__due_row_write(value, &row));
}

static void due_moved(const struct damage *d)
{
    due_row(d);
    row_del(FAMILY_SCHEDULED, due_key(made.due, made.later));
}

/* ---- Of pending rows ---- */

/* A pending row for a job where there is none. */
static void pending_row(const struct damage *d)
{
    uint8_t value[VALUE_MAX];
    const uint64_t *id = d->told != NULL ? d->told : d->number;
    struct pending_row row = {*id, (uint32_t)d->delta};
    row_put(FAMILY_PENDING,
            place_key(d->queue, d->priority, d->kind, *d->number), value,
            dassie__pending_row_write(value, &row));
}

/* The row moves to another place. */
static void pending_moved(const struct damage *d)
{
    row_del(FAMILY_PENDING, place_key(MAIL, 0, LINE_NORMAL, made.pending));
    pending_row(d);
}

/* ---- Of claim sets ---- */

typedef bool (*claim_cb)(const struct damage *d, struct claim_entry *entry);

/* Writes the set anew with what edit keeps of it, and one more if id is not
 * 0. */
static void set_edit(const struct damage *d, claim_cb edit, uint64_t id)
{
    uint8_t value[VALUE_MAX];
    uint8_t changed[VALUE_MAX];
    size_t len;
    size_t changed_len = dassie__claim_set_begin(changed);
    uint64_t last = 0;
    struct claim_reader reader;
    struct claim_entry entry;
    ck_assert(row_get(FAMILY_RUNNING, number_key(*d->number), value, &len));
    ck_assert_int_eq(dassie__claim_set_open(&reader, value, len), 0);
    while (dassie__claim_set_next(&reader, &entry) == 1) {
        if (edit(d, &entry)) {
            changed_len =
                dassie__claim_set_add(changed, changed_len, last, &entry);
            last = entry.id;
        }
    }
    if (id != 0) {
        entry.id = id;
        entry.attempt = 1;
        changed_len = dassie__claim_set_add(changed, changed_len, last, &entry);
    }
    row_put(FAMILY_RUNNING, number_key(*d->number), changed, changed_len);
}

static bool keep_all(const struct damage *d, struct claim_entry *entry)
{
    (void)d;
    (void)entry;
    return true;
}

static bool keep_none(const struct damage *d, struct claim_entry *entry)
{
    (void)d;
    (void)entry;
    return false;
}

static bool other_attempt(const struct damage *d, struct claim_entry *entry)
{
    if (entry->id == *d->told) {
        entry->attempt += (uint32_t)d->delta;
    }
    return true;
}

static void set_attempt(const struct damage *d)
{
    set_edit(d, other_attempt, 0);
}

static void set_more(const struct damage *d)
{
    set_edit(d, keep_all, *d->told);
}

static void set_empty(const struct damage *d)
{
    set_edit(d, keep_none, 0);
}

static void set_of_ended(const struct damage *d)
{
    set_edit(d, keep_none, *d->other);
}

/* ---- All of them ---- */

#define F(type, member)                     \
    .field = offsetof(struct type, member), \
    .width = sizeof(((struct type *)0)->member)

/* A field of the counts of mail, or of its line of priority 0. */
#define TALLY(member, d)                                                    \
    .apply = tally, .family = FAMILY_META, .queue = MAIL, F(tally, member), \
    .delta = (d)
#define LINE(member, d)                                                       \
    .apply = line, .family = FAMILY_META, .queue = MAIL, .kind = LINE_NORMAL, \
    F(line_row, member), .delta = (d)
#define HEAD(commit, member, d)                                      \
    .apply = head, .family = FAMILY_COMMITS, .number = &made.commit, \
    F(store_row, member), .delta = (d)
#define STORE(member, d) .apply = store_row, F(store_row, member), .delta = (d)
#define ROW(how, of, n) .apply = (how), .family = FAMILY_##of, .number = &made.n
#define META(how, tag, q) \
    .apply = (how), .family = FAMILY_META, .kind = (tag), .queue = (q)
#define HISTORY(n, member, d) \
    .apply = history, .number = &made.n, F(history_row, member), .delta = (d)
#define END(of, n, member, d)                                   \
    .apply = end_row, .family = FAMILY_##of, .number = &made.n, \
    F(end_row, member), .delta = (d)
#define TOLD(n) .told = &made.n

static const struct damage names_and_counts[] = {
    {"queue 0 has counts, but no name", META(drop_row, KEY_NAME_TAG, MAIL)},
    {"queue 1 has a name, but 0 not", META(drop_row, KEY_NAME_TAG, MAIL)},
    {"which has no name", META(drop_row, KEY_NAME_TAG, MAIL), TOLD(pending)},
    {"queue 0 has no name", META(drop_row, KEY_NAME_TAG, MAIL), TOLD(running)},
    {"name of queue 0: unreadable", META(spoil, KEY_NAME_TAG, MAIL)},
    {"queue 9 has a name, but 3 not", .apply = put_name, .queue = 9},
    {"queues 0 and 3 share a name", .apply = put_name, .queue = QUEUES},
    {"too high", .apply = put_name, .queue = DASSIE_QUEUES_MAX},
    {"meta row, key 616263: unknown key", .apply = bad_key,
     .family = FAMILY_META},
    {"counts of a queue: unreadable", META(spoil, KEY_COUNTS_TAG, MAIL)},
    {"counts of a queue: unreadable", META(cut, KEY_COUNTS_TAG, MAIL)},
    {"counts of a queue: unreadable", META(extend, KEY_COUNTS_TAG, MAIL)},
    {"queue 0 (mail): 0 jobs pending are counted",
     META(drop_row, KEY_COUNTS_TAG, MAIL)},
    {"pending rows, but no counts", META(drop_row, KEY_COUNTS_TAG, MAIL)},
    {"counts of queue 0 say that they are those of 2", .apply = counts_id,
     .family = FAMILY_META, F(part, queue), .delta = IDLE},
    {"queue 9 has counts, but no name", .apply = counts_id,
     .family = FAMILY_META, F(part, queue), .delta = 9},
    {"queue 2 (idle?): 6 jobs pending are counted, but 0 are there",
     .apply = counts_id, .family = FAMILY_META, F(part, queue), .delta = IDLE},
    {"queue 0 (mail): 7 jobs pending are counted, but 6", TALLY(pending, 1)},
    {"queue 0 (mail): 5 jobs pending are counted, but 6", TALLY(pending, -1)},
    {"jobs running are counted", TALLY(running, 1)},
    {"jobs complete are counted", TALLY(complete, -1)},
    {"jobs failed are counted", TALLY(failed, 1)},
    {"queue 0 (mail): 169 bytes pending are counted, but 168",
     TALLY(pending_bytes, 1)},
    {"bytes complete are counted", TALLY(complete_bytes, -1)},
    {"bytes failed are counted", TALLY(failed_bytes, 1)},
    {"bytes cancelled are counted", TALLY(cancelled_bytes, 1)},
    {"normal line: 3 live rows are counted, but 2", LINE(live, 1)},
    {"normal line: 1 live rows are counted, but 2", LINE(live, -1)},
    {"normal line: 3 dead rows are counted, but 2", LINE(dead, 1)},
    {"normal line: 1 dead rows are counted, but 2", LINE(dead, -1)},
    {"has no state", LINE(cursor, 1), TOLD(pending)},
    {"both complete and pending", LINE(cursor, -1), TOLD(done_last)},
    {"is beyond the tail", LINE(cursor, 1000)},
    {"is before the line's start", LINE(start, 1), TOLD(done_first)},
    {"is after the cursor", LINE(start, 1000)},
    {"is after the line's tail", LINE(tail, -1), TOLD(pending2)},
    {"pending rows, but no counts", .apply = no_line, .family = FAMILY_META,
     .queue = MAIL, .kind = LINE_NORMAL},
};

static const struct damage commits[] = {
    {"commits 1 to 255 are missing", META(drop_row, 's', 0)},
    {"the store's row: unreadable", META(spoil, 's', 0)},
    {"the store's row: unreadable", META(cut, 's', 0)},
    {"the store's row: unreadable", META(extend, 's', 0)},
    {"the store's row: unreadable", STORE(queues, 1)},
    {"the store's row: unreadable", STORE(folded, -FOLD_COMMITS)},
    {"commit 256 differs from the store's row", STORE(next, 1)},
    {"commit 256 differs from the store's row", STORE(oldest_set, 1)},
    {"commit 256 differs from the store's row", STORE(wall_ms, 1)},
    {"commit 256 is folded, but still there", STORE(folded, 1)},
    {"commits 255 to 255 are missing", STORE(folded, -1)},
    {"folded up to 256, but the store's row says 255", STORE(folded, -1)},
    {"commits 262 to 262 are missing", ROW(drop_row, COMMITS, after)},
    {"commits 256 to 256 are missing", ROW(drop_row, COMMITS, folded)},
    {"the id is not below the next number", ROW(drop_row, COMMITS, last)},
    {"commit 3 is folded, but still there", ROW(copy_to, COMMITS, after),
     .other = &made.three},
    {"commit 0 is folded, but still there", ROW(copy_to, COMMITS, after),
     .other = &made.zero},
    {"commit 262: unreadable", ROW(spoil, COMMITS, after)},
    {"commit 262: counts unreadable", ROW(cut, COMMITS, after)},
    {"commit 262: counts unreadable", ROW(extend, COMMITS, after)},
    {"commits row, key 616263: not a number", ROW(bad_key, COMMITS, after)},
    {"the next number goes back", HEAD(last, next, -3)},
    {"the next number goes back", HEAD(after, next, 1000)},
    {"folded up to 257, but the store's row says 256", HEAD(last, folded, 1)},
    {"the oldest claim set is", HEAD(last, oldest_set, -1)},
    {"the oldest claim set is", HEAD(last, oldest_set, 1000)},
    {"is older than the oldest", HEAD(last, oldest_set, 1)},
    {"counts unreadable", HEAD(last, queues, 1)},
    {"counts unreadable", HEAD(last, queues, -1)},
    {"queue 9 has counts, but no name", .apply = counts_id,
     .family = FAMILY_COMMITS, .number = &made.last, .queue = WEB,
     F(part, queue), .delta = 8},
    {"jobs running are counted", .apply = tally, .family = FAMILY_COMMITS,
     .number = &made.last, .queue = WEB, F(tally, running), .delta = 1},
    {"front line: 2 live rows are counted", .apply = line,
     .family = FAMILY_COMMITS, .number = &made.last, .queue = WEB,
     .kind = LINE_FRONT, F(line_row, live), .delta = 1},
    {"queue 1 (web): its meta row differs from its commit", .apply = tally,
     .family = FAMILY_COMMITS, .number = &made.folded, .queue = WEB,
     F(tally, complete), .delta = 1},
    {"queue 1 (web): its meta row differs from its commit", .apply = tally,
     .family = FAMILY_META, .queue = WEB, F(tally, complete), .delta = 1},
    {"priority 4, normal line: its meta row differs", .apply = line,
     .family = FAMILY_COMMITS, .number = &made.folded, .queue = WEB,
     .priority = 4, .kind = LINE_NORMAL, F(line_row, tail), .delta = 1},
};

static const struct damage jobs[] = {
    {"pending row, but no jobs row", ROW(drop_row, JOBS, pending),
     TOLD(pending)},
    {"complete row, but no jobs row", ROW(drop_row, JOBS, done_first),
     TOLD(done_first)},
    {"failed row, but no jobs row", ROW(drop_row, JOBS, failed), TOLD(failed)},
    {"history row, but no jobs row", ROW(drop_row, JOBS, front), TOLD(front)},
    {"jobs row: unreadable", ROW(spoil, JOBS, pending), TOLD(pending)},
    {"jobs row, key 616263: not a number", ROW(bad_key, JOBS, pending)},
    {"has no state", ROW(copy_to, JOBS, pending), .other = &made.gap,
     TOLD(gap)},
    {"has no state", ROW(copy_to, JOBS, pending), .other = &made.beyond,
     TOLD(beyond)},
    {"the id is not below the next number", ROW(copy_to, JOBS, pending),
     .other = &made.beyond, TOLD(beyond)},
    {"the id is not below the next number", ROW(copy_to, JOBS, pending),
     .other = &made.zero, TOLD(zero)},
    {"jobs row: queue 5 has no name", ROW(job_row, JOBS, done_first),
     .field = JOB_ROW_QUEUE_AT + 3, .delta = 5, TOLD(done_first)},
    {"but its jobs row says queue 1, priority 0", ROW(job_row, JOBS, pending),
     .field = JOB_ROW_QUEUE_AT + 3, .delta = WEB, TOLD(pending)},
    {"but its jobs row says queue 0, priority 1", ROW(job_row, JOBS, pending),
     .field = 2, .delta = 1, TOLD(pending)},
    {"priority 100 or flags 0", ROW(job_row, JOBS, done_first), .field = 2,
     .delta = 100, TOLD(done_first)},
    {"priority 0 or flags 0x2", ROW(job_row, JOBS, done_first), .field = 1,
     .delta = 2, TOLD(done_first)},
    {"jobs row: its payload is gone, but it is not complete",
     ROW(job_row, JOBS, pending), .field = 1, .delta = JOB_ROW_DROPPED,
     TOLD(pending)},
    {"queue 0 (mail): 6 jobs pending are counted, but 5",
     ROW(job_row, JOBS, pending), .field = JOB_ROW_QUEUE_AT + 3, .delta = WEB},
};

static const struct damage pending_rows[] = {
    {"has no state", ROW(drop_row, PENDING, pending), .kind = LINE_NORMAL,
     TOLD(pending)},
    {"live rows are counted", ROW(drop_row, PENDING, pending),
     .kind = LINE_NORMAL},
    {"dead rows are counted", ROW(drop_row, PENDING, done_first),
     .kind = LINE_NORMAL},
    {"pending row, key 0000000080020000000000", ROW(spoil, PENDING, pending),
     .kind = LINE_NORMAL},
    {"unreadable", ROW(extend, PENDING, pending), .kind = LINE_NORMAL},
    {"pending row, key 616263: not a place", ROW(bad_key, PENDING, pending)},
    {"not a place", .apply = pending_row, .kind = LINE_KINDS,
     .number = &made.pending, TOLD(zero)},
    {"pending row in queue 7, which has no name", .apply = pending_row,
     .queue = 7, .kind = LINE_NORMAL, .number = &made.pending, TOLD(pending)},
    {"two pending rows", .apply = pending_row, .kind = LINE_NORMAL,
     .priority = 2, .number = &made.pending, TOLD(pending)},
    {"priority 2, normal line: 0 live rows are counted, but 1",
     .apply = pending_row, .kind = LINE_NORMAL, .priority = 2,
     .number = &made.pending},
    {"but its jobs row says queue 0, priority 0", .apply = pending_moved,
     .kind = LINE_NORMAL, .priority = 2, .number = &made.pending,
     TOLD(pending)},
    {"but its jobs row says queue 0, priority 0", .apply = pending_moved,
     .kind = LINE_NORMAL, .queue = WEB, .number = &made.web_pending,
     TOLD(pending)},
    {"but it has no history row", .apply = pending_moved, .kind = LINE_FRONT,
     .number = &made.pending, TOLD(pending)},
    {"but it has no history row", .apply = pending_moved, .kind = LINE_NORMAL,
     .number = &made.gap, TOLD(pending)},
    {"pending row counts 1 attempts, its history row 0", .apply = pending_moved,
     .kind = LINE_NORMAL, .number = &made.pending, .delta = 1, TOLD(pending)},
    {"is not below the next number", .apply = pending_moved,
     .kind = LINE_NORMAL, .number = &made.beyond, TOLD(pending)},
    {"is not below the next number", .apply = pending_row, .kind = LINE_NORMAL,
     .number = &made.zero, TOLD(pending)},
    {"is after the line's tail", .apply = pending_moved, .kind = LINE_NORMAL,
     .number = &made.web_pending, TOLD(pending)},
    {"is before the line's start", .apply = pending_row, .kind = LINE_NORMAL,
     .number = &made.suspect, TOLD(pending)},
    {"both running and pending", .apply = pending_row, .kind = LINE_FRONT,
     .priority = 2, .number = &made.gap, TOLD(running)},
    {"both complete and pending", .apply = pending_row, .kind = LINE_FRONT,
     .priority = 2, .number = &made.gap, TOLD(done_first)},
    {"both failed and pending", .apply = pending_row, .kind = LINE_FRONT,
     .priority = 2, .number = &made.gap, TOLD(failed)},
    {"the id is not below the next number", .apply = pending_row,
     .kind = LINE_FRONT, .priority = 2, .number = &made.gap, TOLD(beyond)},
    {"pending row, but no jobs row", .apply = pending_row, .kind = LINE_FRONT,
     .priority = 2, .number = &made.gap, TOLD(gap)},
};

static const struct damage running[] = {
    {"has no state", ROW(drop_row, RUNNING, old_set), TOLD(running)},
    {"jobs running are counted", ROW(drop_row, RUNNING, old_set)},
    {"jobs running are counted", ROW(drop_row, JOBS, running)},
    {"running row: unreadable", ROW(spoil, RUNNING, last_set)},
    {"running row: unreadable", ROW(cut, RUNNING, last_set)},
    {"running row: unreadable", ROW(extend, RUNNING, last_set)},
    {"running row, key 616263: not a number", ROW(bad_key, RUNNING, old_set)},
    {"is newer than the last commit", ROW(rename_to, RUNNING, last_set),
     .other = &made.beyond},
    {"claim set 0 is newer than the last commit",
     ROW(rename_to, RUNNING, last_set), .other = &made.zero},
    {"claim set 3 is older than the oldest", ROW(rename_to, RUNNING, last_set),
     .other = &made.three},
    {"claimed twice", ROW(copy_to, RUNNING, last_set), .other = &made.last,
     TOLD(web_running)},
    {"claimed twice", ROW(set_more, RUNNING, last_set), TOLD(web_running)},
    {"claimed twice", ROW(set_more, RUNNING, last_set), TOLD(folded_run)},
    {"run 2, but its history row counts 0", ROW(set_attempt, RUNNING, old_set),
     .delta = 1, TOLD(running)},
    {"run 0, but its history row counts 0", ROW(set_attempt, RUNNING, old_set),
     .delta = -1, TOLD(running)},
    {"run 1, but its history row counts 1", ROW(set_attempt, RUNNING, old_set),
     .delta = -1, TOLD(running_again)},
    {"none of its jobs is running", ROW(set_empty, RUNNING, last_set)},
    {"has no state", ROW(set_empty, RUNNING, last_set), TOLD(web_running)},
    {"none of its jobs is running", ROW(set_of_ended, RUNNING, last_set),
     .other = &made.done_first},
    {"the id is not below the next number", ROW(set_more, RUNNING, last_set),
     TOLD(beyond)},
    {"both running and pending", ROW(set_more, RUNNING, last_set),
     TOLD(pending)},
};

static const struct damage ends[] = {
    {"has no state", ROW(drop_row, COMPLETE, done_first), TOLD(done_first)},
    {"jobs complete are counted", ROW(drop_row, COMPLETE, done_first)},
    {"has no state", ROW(drop_row, FAILED, failed), TOLD(failed)},
    {"both complete and failed", ROW(both_ends, FAILED, done_first),
     TOLD(done_first)},
    {"both complete and failed", ROW(both_ends, COMPLETE, failed),
     TOLD(failed)},
    {"both complete and pending", ROW(both_ends, COMPLETE, pending),
     TOLD(pending)},
    {"jobs running are counted", ROW(both_ends, COMPLETE, running)},
    {"complete row, but no jobs row", ROW(both_ends, COMPLETE, gap), TOLD(gap)},
    {"failed row, but no jobs row", ROW(both_ends, FAILED, gap), TOLD(gap)},
    {"complete row: unreadable", ROW(spoil, COMPLETE, done_first),
     TOLD(done_first)},
    {"failed row: unreadable", ROW(spoil, FAILED, failed), TOLD(failed)},
    {"complete row, key 616263: not", ROW(bad_key, COMPLETE, done_first)},
    {"failed row, key 616263: not", ROW(bad_key, FAILED, failed)},
    {"complete row: ended in run 2, but its history row counts 0",
     END(COMPLETE, done_first, attempts, 1), TOLD(done_first)},
    {"complete row: ended in run 1, but its history row counts 1",
     END(COMPLETE, done_again, attempts, -1), TOLD(done_again)},
    {"failed row: ended in run 0", END(FAILED, failed, attempts, -1),
     TOLD(failed)},
    {"failed row: 2 crashes", END(FAILED, failed, crashes, 2), TOLD(failed)},
    {"complete row: code 1", END(COMPLETE, done_first, code, 1),
     TOLD(done_first)},
    {"failed row: code 0", END(FAILED, failed, code, 1), TOLD(failed)},
};

static const struct damage histories[] = {
    {"but it has no history row", ROW(drop_row, HISTORY, front), TOLD(front)},
    {"its history row 0", ROW(drop_row, HISTORY, suspect), TOLD(suspect)},
    {"history row counts 0", ROW(drop_row, HISTORY, done_again),
     TOLD(done_again)},
    {"history row counts 0", ROW(drop_row, HISTORY, running_again),
     TOLD(running_again)},
    {"history row: unreadable", ROW(spoil, HISTORY, front), TOLD(front)},
    {"history row: unreadable", ROW(cut, HISTORY, front), TOLD(front)},
    {"history row, key 616263: not", ROW(bad_key, HISTORY, front)},
    {"history row, but no jobs row", ROW(copy_to, HISTORY, front),
     .other = &made.gap, TOLD(gap)},
    {"pending row counts 1 attempts, its history row 2",
     HISTORY(again, attempts, 1), TOLD(again)},
    {"its history row counts 2", HISTORY(running_again, attempts, 1),
     TOLD(running_again)},
    {"0 crashes, but its history row counts 1", HISTORY(done_again, crashes, 1),
     TOLD(done_again)},
    {"its last run was in commit", HISTORY(front, last_run, 1000), TOLD(front)},
    {"has no state", HISTORY(running_again, last_run, 100),
     TOLD(running_again)},
    {"its history row says otherwise", HISTORY(front, kind, 1), TOLD(front)},
    {"its history row says otherwise", HISTORY(front, position, 1),
     TOLD(front)},
    {"is out of range", HISTORY(front, position, 1000), TOLD(front)},
};

#define DUE(function, name, when)                                          \
    .apply = (function), .family = FAMILY_SCHEDULED, .number = &made.name, \
    .other = &made.when

static const struct damage schedules[] = {
    {"has no state", DUE(drop_row, later, due), TOLD(later)},
    {"2 live and 1 dead rows are counted, but 1", DUE(drop_row, later, due)},
    {"and 0 are there", DUE(drop_row, promoted, due_dead)},
    {"jobs scheduled are counted", DUE(drop_row, later, due)},
    {"unreadable", DUE(spoil, later, due)},
    {"unreadable", DUE(extend, later, due)},
    {"scheduled row, key 616263: not a time", DUE(bad_key, later, due)},
    {"scheduled row, but no jobs row", DUE(due_row, gap, due_other), TOLD(gap)},
    {"two scheduled rows", DUE(due_row, later, due_other), TOLD(later)},
    {"both complete and scheduled", DUE(due_row, done_first, due_other),
     TOLD(done_first)},
    {"both scheduled and pending", DUE(due_row, pending, due_other),
     TOLD(pending)},
    {"both running and scheduled", DUE(due_row, running, due_other),
     TOLD(running)},
    {"but its jobs row says otherwise", DUE(due_moved, later, due_other),
     TOLD(later)},
    {"but its history row says otherwise", DUE(due_row, retry, due_other),
     TOLD(retry)},
    {"scheduled row counts 3 attempts, its history row 0",
     DUE(due_row, later, due), .queue = 3, TOLD(later)},
    {"scheduled row counts 0 attempts, its history row 0",
     DUE(due_row, later, due), .kind = 1, TOLD(later)},
    {"its jobs row has another length", DUE(due_bytes, later, due), .delta = 1,
     TOLD(later)},
    {"its jobs row has another length", DUE(due_bytes, later, due), .delta = -1,
     TOLD(later)},
    {"its jobs row has another length", DUE(due_bytes, later, due),
     .delta = INT64_MIN, TOLD(later)},
    {"is before the schedule's start", DUE(due_row, later, three)},
    {"its history row says otherwise", HISTORY(retry, position, 1),
     TOLD(retry)},
    {"its history row says otherwise", HISTORY(retry, kind, -1), TOLD(retry)},
};

#undef F
#undef LINE
#undef HISTORY
#undef DUE

/* ---- Whether they are told ---- */

static struct {
    const struct damage *damage;
    bool told;
    char all[16384];
} heard;

static void hear(void *arg, uint64_t id, const char *text)
{
    const struct damage *d = heard.damage;
    size_t len = strlen(heard.all);
    ck_assert_ptr_eq(arg, &heard);
    ck_assert_ptr_null(strchr(text, '\n'));
    snprintf(heard.all + len, sizeof heard.all - len, "\n%llu: %s",
             (unsigned long long)id, text);
    if (d != NULL && strstr(text, d->text) != NULL &&
        (d->told == NULL || id == *d->told)) {
        heard.told = true;
    }
}

/* Judges the rows; returns the problems. */
static uint64_t judge(const struct damage *d)
{
    dassie_verify_report_t report;
    heard.damage = d;
    heard.told = false;
    heard.all[0] = '\0';
    RIG_OK(r, dassie__verify_kv(r->kv, hear, &heard, &report, &r->e));
    return report.problems;
}

static void check_damages(const struct damage *damages, size_t n)
{
    ck_assert_msg(judge(NULL) == 0, "before: %s", heard.all);
    for (size_t i = 0; i < n; i++) {
        const struct damage *d = &damages[i];
        d->apply(d);
        RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
        uint64_t problems = judge(d);
        ck_assert_msg(problems > 0 && heard.told, "%zu: \"%s\" is not told:%s",
                      i, d->text, heard.all);
        undo_all();
        ck_assert_msg(judge(NULL) == 0, "%zu: %s", i, heard.all);
    }
}

static const struct {
    const struct damage *damages;
    size_t n;
} tables[] = {
    {names_and_counts, COUNT(names_and_counts)},
    {commits, COUNT(commits)},
    {jobs, COUNT(jobs)},
    {pending_rows, COUNT(pending_rows)},
    {running, COUNT(running)},
    {ends, COUNT(ends)},
    {histories, COUNT(histories)},
    {schedules, COUNT(schedules)},
};

START_TEST(every_damage_is_told)
{
    make_all(_i % RIG_KINDS);
    check_damages(tables[_i / RIG_KINDS].damages, tables[_i / RIG_KINDS].n);
    rig_teardown(r);
}
END_TEST

/* ---- Sound stores ---- */

START_TEST(sound)
{
    dassie_verify_report_t report;
    make_all(_i);
    rig_sound(r);
    RIG_OK(r, dassie__verify_kv(r->kv, NULL, NULL, &report, &r->e));
    size_t rows = 0;
    for (int family = 0; family < FAMILIES; family++) {
        rows += rig_rows(r, family);
    }
    ck_assert_uint_eq(report.rows, rows);
    ck_assert_uint_eq(report.jobs.running, 4);
    rig_reopen(r);
    rig_sound(r);
    rig_teardown(r);
}
END_TEST

START_TEST(empty)
{
    dassie_verify_report_t report;
    rig_setup(r, _i);
    ck_assert_uint_eq(rig_problems(r, &report), 0);
    ck_assert_uint_eq(report.rows, 0);
    rig_teardown(r);
}
END_TEST

static unsigned allocs_left;

static bool alloc_fails(void)
{
    return allocs_left == 0 || allocs_left-- == 0;
}

static void *poor_malloc(size_t size)
{
    return alloc_fails() ? NULL : malloc(size);
}

static void *poor_calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : calloc(n, size);
}

static void *poor_realloc(void *p, size_t size)
{
    return alloc_fails() ? NULL : realloc(p, size);
}

/* Whichever allocation fails, nothing is told that is not so. */
START_TEST(no_memory)
{
    dassie_verify_report_t report;
    unsigned n = 0;
    int rc = UV_ENOMEM;
    make_all(_i);
    for (; rc != 0; n++) {
        allocs_left = n;
        dassie_replace_allocator(poor_malloc, poor_realloc, poor_calloc, free);
        rc = dassie__verify_kv(r->kv, NULL, NULL, &report, &r->e);
        dassie_replace_allocator(malloc, realloc, calloc, free);
        ck_assert_msg(rc == 0 || rc == UV_ENOMEM, "%d %s", rc, r->e.text);
        ck_assert_uint_eq(report.problems, 0);
    }
    ck_assert_uint_gt(n, 20);
    rig_teardown(r);
}
END_TEST

/* A row in an empty store belongs to nothing. */
START_TEST(stray_rows)
{
    rig_setup(r, _i);
    for (int family = 0; family < FAMILIES; family++) {
        static const struct damage any = {.text = ""};
        row_put(family, number_key(5), "", 0);
        RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
        ck_assert_msg(judge(&any) > 0, "family %d", family);
        undo_all();
        ck_assert_uint_eq(judge(NULL), 0);
    }
    rig_teardown(r);
}
END_TEST

static const struct {
    enum family family;
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
} odd_rows[] = {
    {FAMILY_META, "q\0\0\0\0", 5, "", 0},
    {FAMILY_META, "q\0\0\0\0", 5, "\7\0", 2},
    {FAMILY_META, "q\0\0\0\0", 5, "\1\0", 2},
    {FAMILY_META, "c\0\0\0\0", 5, "\7", 1},
    {FAMILY_META, "n\0\0\0\0", 5, "\7", 1},
    {FAMILY_META, "stores", 6, "\1", 1},
    {FAMILY_META, "an unknown key", 14, "\1", 1},
    {FAMILY_COMMITS, "\0\0\0\0\0\0\0\0", 8, "\1\1\0\0\0\0\0\0", 8},
    {FAMILY_COMMITS, "\0\0\0\0\0\0\0\1", 8, "\1\1\1\1\1\1", 6},
    {FAMILY_UNIQUE, "ab", 2, "", 0},
    {FAMILY_UNIQUE, "\0\0\0\0key", 7, "\7", 1},
    {FAMILY_UNIQUE, "\0\1\0\0key", 7, "\1\1\0\0", 4},
    {FAMILY_SCHEDULED, "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\1", 17, "\7", 1},
    {FAMILY_SCHEDULED, "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\2", 17, "\7", 1},
    {FAMILY_SCHEDULED, "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\7", 17, "\1", 1},
    {FAMILY_RUNNING, "\377abc", 4, "\1", 1},
    {FAMILY_RUNNING, "\377\0\0\0\0\0\0\0\1", 9, "\7", 1},
};

/* What no writer makes is told, between rows that are all right. */
START_TEST(odd_row)
{
    static const struct damage any = {.text = ""};
    make_all(_i % RIG_KINDS);
    int at = _i / RIG_KINDS;
    row_put(odd_rows[at].family,
            kv_slice(odd_rows[at].key, odd_rows[at].key_len),
            odd_rows[at].value, odd_rows[at].value_len);
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
    ck_assert_uint_gt(judge(&any), 0);
    undo_all();
    ck_assert_uint_eq(judge(NULL), 0);
    rig_teardown(r);
}
END_TEST

/* ---- Unique keys ---- */

enum { WAITS, UNSTARTED, RUNS, ENDED, KEYED };
#define KEY_BYTES 6

static struct unique_key {
    uint8_t key[KEY_UNIQUE_MAX]; /* of which KEY_BYTES are used */
    uint64_t id;
    dassie_until_t until;
} keyed[KEYED];

static struct kv_slice unique_key(int who)
{
    return kv_slice(keyed[who].key, KEY_BYTES);
}

/* One that waits, one that holds its key until it starts, one that runs, and
 * one that has ended and holds its for a time. */
static void make_keyed(void)
{
    for (int i = 0; i < KEYED; i++) {
        uint8_t key[] = {'k', (uint8_t)i};
        struct job_row row = {.enqueued_ms = 1000};
        row.options.key = key;
        row.options.key_len = sizeof key;
        keyed[i].until = i == UNSTARTED ? DASSIE_UNTIL_STARTED
                         : i == ENDED   ? DASSIE_UNTIL_TIME
                                        : DASSIE_UNTIL_ENDED;
        row.options.number[JOB_UNIQUE] = keyed[i].until;
        row.options.number[JOB_UNIQUE_FOR] = i == ENDED ? 5000 : 0;
        job_t *job =
            dassie__job_new(dassie__job_row_bytes(0, 0) +
                                dassie__job_options_bytes(&row.options),
                            0);
        dassie__job_row_write(job->row, &row);
        job->queue = rig_queue(r, "mail", 0);
        job->unique = dassie__unique_new(&row);
        put_be32(job->unique->key, job->queue->id);
        dassie__key_unique(keyed[i].key, job->queue->id, key, sizeof key);
        keyed[i].id = r->s.next;
        if (i >= RUNS) {
            RIG_OK(r, dassie__store_prepare_claim(&r->s));
            dassie__store_insert(&r->s, job, EVENT_HAND_OFF);
        } else if (!dassie__store_insert(&r->s, job, EVENT_ENQUEUE)) {
            job_list_push(&r->gone, job);
        }
        if (i == ENDED) {
            rig_move(r, job, EVENT_COMPLETE);
        }
        rig_commit(r);
    }
}

static void unique_put(struct kv_slice key, uint64_t id, dassie_until_t until,
                       uint64_t ms)
{
    uint8_t value[UNIQUE_ROW_MAX];
    struct unique_row row = {id, (uint8_t)until, ms};
    row_put(FAMILY_UNIQUE, key, value, dassie__unique_row_write(value, &row));
}

static void unique_is_told(int who, const char *text)
{
    struct damage told = {.text = text, .told = &keyed[who].id};
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
    ck_assert_uint_gt(judge(&told), 0);
    ck_assert_msg(heard.told, "%s: %s", text, heard.all);
    undo_all();
    ck_assert_uint_eq(judge(NULL), 0);
}

START_TEST(unique_keys)
{
    static const uint8_t stray[KEY_BYTES] = {0, 0, 0, 0, 's', 's'};
    struct kv_slice other = kv_slice(stray, sizeof stray);
    uint8_t timer[KEY_DUE_BYTES];
    rig_setup(r, _i);
    make_keyed();
    struct due due = {6000, keyed[ENDED].id, DUE_KEY};
    dassie__key_due(timer, &due);
    struct kv_slice timer_key = kv_slice(timer, sizeof timer);
    ck_assert_uint_eq(judge(NULL), 0);
    for (int i = WAITS; i <= RUNS; i++) {
        row_del(FAMILY_UNIQUE, unique_key(i));
        unique_is_told(i, "does not hold its unique key");
        unique_put(other, keyed[i].id, keyed[i].until, 0);
        unique_is_told(i, "two unique or timer rows");
        unique_put(unique_key(i), keyed[i].id, keyed[i].until, 7);
        unique_is_told(i, "its jobs row says otherwise");
    }
    unique_put(unique_key(RUNS), keyed[RUNS].id, DASSIE_UNTIL_STARTED, 0);
    unique_is_told(RUNS, "has started");
    unique_put(unique_key(WAITS), keyed[ENDED].id, DASSIE_UNTIL_ENDED, 0);
    unique_is_told(ENDED, "has ended");
    row_del(FAMILY_UNIQUE, unique_key(ENDED));
    unique_is_told(ENDED, "timer of a key that it does not hold");
    row_del(FAMILY_SCHEDULED, timer_key);
    unique_is_told(ENDED, "but no timer");
    row_put(FAMILY_SCHEDULED, timer_key, "?", 1);
    unique_is_told(ENDED, "but no timer");
    row_del(FAMILY_SCHEDULED, timer_key);
    due.ms++;
    uint8_t value[TIMER_ROW_MAX];
    dassie__key_due(timer, &due);
    row_put(FAMILY_SCHEDULED, timer_key, value,
            dassie__timer_row_write(value, keyed[ENDED].key, KEY_BYTES));
    unique_is_told(ENDED, "timer of a key that it does not hold");
    rig_teardown(r);
}
END_TEST

/* A job that waits for its first run has the timer of its expiry. */
START_TEST(expiries)
{
    struct job_row row = {.enqueued_ms = 1000};
    uint8_t timer[KEY_DUE_BYTES];
    row.options.number[JOB_EXPIRE] = 5000;
    rig_setup(r, _i);
    for (int i = 0; i < 2; i++) {
        job_t *job =
            dassie__job_new(dassie__job_row_bytes(0, 0) +
                                dassie__job_options_bytes(&row.options),
                            0);
        dassie__job_row_write(job->row, &row);
        job->queue = rig_queue(r, "mail", 0);
        job->expires_ms = 6000;
        keyed[i].id = r->s.next;
        RIG_OK(r, dassie__store_prepare_claim(&r->s));
        if (!dassie__store_insert(&r->s, job,
                                  i == 0 ? EVENT_ENQUEUE : EVENT_HAND_OFF)) {
            job_list_push(&r->gone, job);
        }
    }
    rig_commit(r);
    struct due due = {6000, keyed[0].id, DUE_EXPIRY};
    struct kv_slice key = kv_slice(timer, sizeof timer);
    ck_assert_uint_eq(judge(NULL), 0);
    dassie__key_due(timer, &due);
    row_put(FAMILY_SCHEDULED, key, "\001?", 2);
    unique_is_told(0, "no timer of its expiry");
    row_del(FAMILY_SCHEDULED, key);
    unique_is_told(0, "no timer of its expiry");
    row_del(FAMILY_SCHEDULED, key);
    due.ms++;
    dassie__key_due(timer, &due);
    row_put(FAMILY_SCHEDULED, key, "\001", 1);
    unique_is_told(0, "timer of an expiry that it does not have");
    due.id = keyed[1].id;
    due.ms--;
    dassie__key_due(timer, &due);
    row_put(FAMILY_SCHEDULED, key, "\001", 1);
    unique_is_told(1, "timer of an expiry that it does not have");
    rig_teardown(r);
}
END_TEST

static Suite *verify_suite(void)
{
    Suite *suite = suite_create("verify");
    TCase *tc = tcase_create("verify");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, every_damage_is_told, 0,
                        (int)COUNT(tables) * RIG_KINDS);
    tcase_add_loop_test(tc, sound, 0, RIG_KINDS);
    tcase_add_loop_test(tc, empty, 0, RIG_KINDS);
    tcase_add_loop_test(tc, no_memory, 0, RIG_KINDS);
    tcase_add_loop_test(tc, stray_rows, 0, RIG_KINDS);
    tcase_add_loop_test(tc, odd_row, 0, (int)COUNT(odd_rows) * RIG_KINDS);
    tcase_add_loop_test(tc, unique_keys, 0, RIG_KINDS);
    tcase_add_loop_test(tc, expiries, 0, RIG_KINDS);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(verify_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
