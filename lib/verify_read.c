/* verify_read.c: what verify reads of pending rows and claims, and how it
 * tells; see verify.h. */
#include "config.h"

#include "verify.h"

#include "alloc.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_SHOWN 40
#define KEY_SHOWN 34

static const char *const family_names[FAMILIES] = {
    "meta",     "commits", "jobs",      "pending", "scheduled", "running",
    "complete", "failed",  "cancelled", "history", "unique"};

static const char *const kind_names[LINE_KINDS] = {"suspect", "front",
                                                   "normal"};

/* ---- Telling ---- */

void dassie__verify_tell(struct verify *v, uint64_t id, const char *format, ...)
{
    char line[ERRMSG_BYTES];
    va_list args;
    v->report->problems++;
    if (v->cb == NULL) {
        return;
    }
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    v->cb(v->arg, id, line);
}

void dassie__verify_tell_row(struct verify *v, enum family family,
                             struct kv_slice key, const char *what)
{
    char hex[2 * KEY_SHOWN + 1] = "";
    size_t shown = key.len < KEY_SHOWN ? key.len : KEY_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        snprintf(hex + 2 * i, 3, "%02x", key.p[i]);
    }
    uint64_t id = 0;
    bool by_id = family == FAMILY_JOBS ||
                 (family >= FAMILY_COMPLETE && family != FAMILY_UNIQUE);
    if (by_id && dassie__key_parse_number(key.p, key.len, &id) != 0) {
        id = 0;
    }
    if (id != 0) {
        dassie__verify_tell(v, id, "job %" PRIu64 ": %s row: %s", id,
                            family_names[family], what);
    } else {
        dassie__verify_tell(v, 0, "%s row, key %s%s: %s", family_names[family],
                            hex, shown < key.len ? "..." : "", what);
    }
}

void dassie__verify_queue_text(struct verify *v, uint32_t id,
                               char text[VERIFY_TEXT])
{
    char name[NAME_SHOWN + 1] = "";
    const struct verify_queue *q = dassie__verify_queue(v, id);
    size_t len = q == NULL ? 0 : q->name_len;
    for (size_t i = 0; i < len && i < NAME_SHOWN; i++) {
        name[i] = isprint((unsigned char)q->name[i]) ? q->name[i] : '?';
    }
    snprintf(text, VERIFY_TEXT, "queue %" PRIu32 " (%s%s)", id, name,
             len > NAME_SHOWN ? "..." : "");
}

void dassie__verify_line_text(struct verify *v, const struct verify_line *line,
                              char text[VERIFY_TEXT])
{
    dassie__verify_queue_text(v, line->queue, text);
    size_t len = strlen(text);
    snprintf(text + len, VERIFY_TEXT - len, ", priority %d, %s line",
             line->row.priority, kind_names[line->row.kind]);
}

/* ---- Room ---- */

int dassie__verify_no_memory(struct verify *v)
{
    return dassie__errmsg_set(v->e, UV_ENOMEM, "out of memory");
}

int dassie__verify_stop(struct verify *v)
{
    int rc = v->stop != NULL ? atomic_load(v->stop) : 0;
    return rc == 0 ? 0 : dassie__errmsg_set(v->e, rc, "it was given up");
}

int dassie__verify_room(struct verify *v, void **array, size_t n, size_t *room,
                        size_t size)
{
    if (n < *room) {
        return 0;
    }
    size_t more = n + n / 3 + 16;
    void *grown =
        more < SIZE_MAX / size ? dassie__realloc(*array, more * size) : NULL;
    if (grown == NULL) {
        return dassie__verify_no_memory(v);
    }
    *array = grown;
    *room = more;
    return 0;
}

int dassie__verify_entry(struct verify *v, const struct verify_entry *entry)
{
    int rc = VERIFY_ROOM(v, entries);
    if (rc == 0) {
        v->entries[v->entries_n++] = *entry;
    }
    return rc;
}

void dassie__verify_free(struct verify *v)
{
    for (size_t i = 0; i < v->queues_n; i++) {
        dassie__free(v->queues[i].name);
    }
    dassie__free(v->queues);
    dassie__free(v->lines);
    dassie__free(v->sets);
    dassie__free(v->entries);
}

/* ---- Rows ---- */

static const uint8_t saves[] = {KEY_SAVE_TAG};

struct kv_iter *dassie__verify_iter_saves(struct verify *v)
{
    static const uint8_t to[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff};
    return v->kv->ops->iter(v->kv, v->snapshot, FAMILY_RUNNING,
                            kv_slice(saves, sizeof saves),
                            kv_slice(to, sizeof to));
}

struct kv_iter *dassie__verify_iter(struct verify *v, enum family family)
{
    static const uint8_t from[1] = {0};
    static const uint8_t to[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    bool sets = family == FAMILY_RUNNING;
    return v->kv->ops->iter(
        v->kv, v->snapshot, family, kv_slice(from, sizeof from),
        sets ? kv_slice(saves, sizeof saves) : kv_slice(to, sizeof to));
}

int dassie__verify_each(struct verify *v, enum family family, verify_row_cb cb)
{
    const struct kv_ops *ops = v->kv->ops;
    struct kv_iter *it = dassie__verify_iter(v, family);
    struct errmsg ignored;
    int rc = 0;
    if (it == NULL) {
        return dassie__verify_no_memory(v);
    }
    rc = kv_skip_dead(v->kv, it, v->e);
    while (rc == 0 && ops->iter_valid(it)) {
        v->report->rows++;
        rc = cb(v, ops->iter_key(it), ops->iter_value(it));
        if (rc == 0) {
            rc = dassie__verify_stop(v);
        }
        if (rc == 0) {
            ops->iter_next(it);
            rc = kv_skip_dead(v->kv, it, v->e);
        }
    }
    int failed = ops->iter_close(it, rc == 0 ? v->e : &ignored);
    return rc != 0 ? rc : failed;
}

/* ---- Pending rows and claims ---- */

static void check_position(struct verify *v, const struct verify_line *line,
                           uint64_t id, uint64_t position)
{
    char text[VERIFY_TEXT];
    const char *what = NULL;
    if (position == 0 || position >= v->head.next) {
        what = "is not below the next number";
    } else if (position < line->row.start) {
        what = "is before the line's start";
    } else if (line->counted && position > line->row.tail) {
        what = "is after the line's tail";
    }
    if (what != NULL) {
        dassie__verify_line_text(v, line, text);
        dassie__verify_tell(v, id,
                            "job %" PRIu64 ": pending row: position %" PRIu64
                            " of %s %s",
                            id, position, text, what);
    }
}

static int read_pending(struct verify *v, struct kv_slice key,
                        struct kv_slice value)
{
    struct place place;
    struct pending_row row;
    uint32_t index;
    if (dassie__key_parse_pending(key.p, key.len, &place) != 0) {
        dassie__verify_tell_row(v, FAMILY_PENDING, key, "not a place");
        return 0;
    }
    if (dassie__pending_row_read(value.p, value.len, place.position, &row) !=
        0) {
        dassie__verify_tell_row(v, FAMILY_PENDING, key, "unreadable");
        return 0;
    }
    if (dassie__verify_queue(v, place.queue) == NULL) {
        dassie__verify_tell(v, row.id,
                            "job %" PRIu64 ": pending row in queue %" PRIu32
                            ", which has no name",
                            row.id, place.queue);
        return 0;
    }
    int rc =
        dassie__verify_line(v, place.queue, place.priority, place.kind, &index);
    if (rc != 0) {
        return rc;
    }
    struct verify_line *line = &v->lines[index];
    check_position(v, line, row.id, place.position);
    if (place.position < line->row.cursor) {
        line->dead++;
        return 0;
    }
    line->live++;
    line->last = place.position;
    struct verify_entry entry = {row.id, place.position, index, row.attempts};
    return dassie__verify_entry(v, &entry);
}

static bool is_dead(const struct schedule_row *row, const struct due *due)
{
    return row->live == 0 || due->ms < row->head_ms ||
           (due->ms == row->head_ms && due->id < row->head_id);
}

static int read_scheduled(struct verify *v, struct kv_slice key,
                          struct kv_slice value)
{
    const struct schedule_row *row = &v->head.schedule;
    struct due due;
    struct due_row job;
    if (dassie__key_parse_due(key.p, key.len, &due) != 0) {
        dassie__verify_tell_row(v, FAMILY_SCHEDULED, key, "not a time");
        return 0;
    }
    if (is_dead(row, &due)) {
        v->schedule.dead++;
        if (due.ms < row->start_ms ||
            (due.ms == row->start_ms && due.id < row->start_id)) {
            dassie__verify_tell_row(v, FAMILY_SCHEDULED, key,
                                    "is before the schedule's start");
        }
        return 0;
    }
    v->schedule.live++;
    if (due.kind != DUE_JOB) {
        return dassie__verify_read_timer(v, &due, key, value);
    }
    if (dassie__due_row_read(value.p, value.len, &job) != 0) {
        dassie__verify_tell_row(v, FAMILY_SCHEDULED, key, "unreadable");
        return 0;
    }
    struct verify_entry entry = {
        due.id, due.ms, verify_scheduled(job.history, job.bytes), job.attempts};
    return dassie__verify_entry(v, &entry);
}

static void check_set(struct verify *v, uint64_t commit)
{
    if (commit == 0 || commit > v->last_commit) {
        dassie__verify_tell(v, 0,
                            "claim set %" PRIu64
                            " is newer than the last commit, %" PRIu64,
                            commit, v->last_commit);
    } else if (commit < v->head.oldest_set) {
        dassie__verify_tell(
            v, 0, "claim set %" PRIu64 " is older than the oldest, %" PRIu64,
            commit, v->head.oldest_set);
    }
}

static int read_set(struct verify *v, struct kv_slice key,
                    struct kv_slice value)
{
    struct claim_reader r;
    struct claim_entry claim;
    uint64_t commit;
    int more = -1;
    if (dassie__key_parse_number(key.p, key.len, &commit) != 0) {
        dassie__verify_tell_row(v, FAMILY_RUNNING, key, "not a number");
        return 0;
    }
    check_set(v, commit);
    int rc = VERIFY_ROOM(v, sets);
    if (rc != 0) {
        return rc;
    }
    uint32_t index = (uint32_t)v->sets_n++;
    v->sets[index] = (struct verify_set){commit, 0};
    if (dassie__claim_set_open(&r, value.p, value.len) == 0) {
        while ((more = dassie__claim_set_next(&r, &claim)) == 1) {
            struct verify_entry entry = {claim.id, commit, index | VERIFY_CLAIM,
                                         claim.attempt};
            rc = dassie__verify_entry(v, &entry);
            if (rc != 0) {
                return rc;
            }
        }
    }
    if (more != 0) {
        dassie__verify_tell(
            v, 0, "claim set %" PRIu64 ": running row: unreadable", commit);
    }
    return 0;
}

/* ---- Sorting ---- */

static bool entry_before(const struct verify_entry *a,
                         const struct verify_entry *b)
{
    if (a->id != b->id) {
        return a->id < b->id;
    }
    return a->where != b->where ? a->where < b->where : a->at < b->at;
}

static void entry_sift(struct verify_entry *heap, size_t at, size_t n)
{
    struct verify_entry sinking = heap[at];
    for (size_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && entry_before(&heap[child], &heap[child + 1])) {
            child++;
        }
        if (!entry_before(&sinking, &heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = sinking;
}

/* In place: qsort() may take as much memory again. */
static void entries_sort(struct verify_entry *entries, size_t n)
{
    size_t sorted = 1;
    while (sorted < n && entry_before(&entries[sorted - 1], &entries[sorted])) {
        sorted++;
    }
    if (sorted >= n) {
        return;
    }
    for (size_t at = n / 2; at-- > 0;) {
        entry_sift(entries, at, n);
    }
    for (size_t end = n - 1; end > 0; end--) {
        struct verify_entry last = entries[end];
        entries[end] = entries[0];
        entries[0] = last;
        entry_sift(entries, 0, end);
    }
}

int dassie__verify_read(struct verify *v)
{
    int rc = dassie__verify_counts(v);
    if (rc == 0) {
        rc = dassie__verify_each(v, FAMILY_PENDING, read_pending);
    }
    if (rc == 0) {
        rc = dassie__verify_each(v, FAMILY_SCHEDULED, read_scheduled);
    }
    if (rc == 0) {
        rc = dassie__verify_each(v, FAMILY_RUNNING, read_set);
    }
    if (rc == 0) {
        rc = dassie__verify_each(v, FAMILY_UNIQUE, dassie__verify_read_unique);
    }
    if (rc == 0) {
        entries_sort(v->entries, v->entries_n);
    }
    return rc;
}
