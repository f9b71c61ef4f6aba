/* verify.c: walks from one job to the next, then compares the counts; see
 * verify.h. */
#include "config.h"

#include "verify.h"

#include "dir.h"
#include "kv_rocks.h"
#include "recorder.h"
#include "verify_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const enum family column_family[COLUMNS] = {
    FAMILY_JOBS,      FAMILY_COMPLETE, FAMILY_FAILED,
    FAMILY_CANCELLED, FAMILY_HISTORY,  FAMILY_RUNNING};

struct walk {
    struct verify *v;
    struct kv_iter *it[COLUMNS];
    bool here[COLUMNS];   /* it stands on a row ... */
    uint64_t id[COLUMNS]; /* ... of this job */
    size_t entry;
};

/* ---- The walk ---- */

static int parse_key(enum column column, struct kv_slice key, uint64_t *id)
{
    return column == SAVED ? dassie__key_parse_save(key.p, key.len, id)
                           : dassie__key_parse_number(key.p, key.len, id);
}

/* Brings a column to its next row with a key that can be read. */
static int walk_settle(struct walk *w, enum column column)
{
    struct kv *kv = w->v->kv;
    struct kv_iter *it = w->it[column];
    enum family family = column_family[column];
    for (;;) {
        int rc = kv_skip_dead(kv, it, w->v->e);
        w->here[column] = rc == 0 && kv->ops->iter_valid(it);
        if (!w->here[column]) {
            return rc;
        }
        struct kv_slice key = kv->ops->iter_key(it);
        w->v->report->rows++;
        if (parse_key(column, key, &w->id[column]) == 0) {
            return 0;
        }
        dassie__verify_tell_row(w->v, family, key, "not a number");
        kv->ops->iter_next(it);
    }
}

static int walk_open(struct walk *w)
{
    for (int i = 0; i < COLUMNS; i++) {
        w->it[i] = i == SAVED ? dassie__verify_iter_saves(w->v)
                              : dassie__verify_iter(w->v, column_family[i]);
        if (w->it[i] == NULL) {
            return dassie__verify_no_memory(w->v);
        }
        int rc = walk_settle(w, i);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Why a column has ended, if not because it was read to its end. */
static int walk_close(struct walk *w, int rc)
{
    struct errmsg ignored;
    for (int i = 0; i < COLUMNS; i++) {
        if (w->it[i] != NULL) {
            int failed = w->v->kv->ops->iter_close(
                w->it[i], rc == 0 ? w->v->e : &ignored);
            rc = rc != 0 ? rc : failed;
        }
    }
    return rc;
}

/* The lowest id that any row or entry speaks of: false, there is none. */
static bool walk_next(const struct walk *w, uint64_t *id)
{
    bool any = w->entry < w->v->entries_n;
    if (any) {
        *id = w->v->entries[w->entry].id;
    }
    for (int i = 0; i < COLUMNS; i++) {
        if (w->here[i] && (!any || w->id[i] < *id)) {
            *id = w->id[i];
            any = true;
        }
    }
    return any;
}

static int read_column(struct facts *f, enum column column,
                       struct kv_slice value)
{
    switch (column) {
        case JOBS:
            return dassie__job_row_read(value.p, value.len, &f->job);
        case HISTORY:
            return dassie__history_row_read(value.p, value.len, &f->history);
        case SAVED:
            return dassie__save_row_read(value.p, value.len, &f->saved);
        default:
            return dassie__end_row_read(value.p, value.len, &f->end[column]);
    }
}

static void collect(struct walk *w, struct facts *f)
{
    struct verify *v = w->v;
    for (int i = 0; i < COLUMNS; i++) {
        f->there[i] = w->here[i] && w->id[i] == f->id;
        if (!f->there[i]) {
            continue;
        }
        struct kv_slice value = v->kv->ops->iter_value(w->it[i]);
        f->len[i] = value.len;
        f->good[i] = read_column(f, i, value) == 0;
        if (!f->good[i]) {
            dassie__verify_tell_row(v, column_family[i],
                                    v->kv->ops->iter_key(w->it[i]),
                                    "unreadable");
        }
    }
    if (!f->good[HISTORY]) {
        memset(&f->history, 0, sizeof f->history);
    }
    f->entries = v->entries != NULL ? v->entries + w->entry : NULL;
    while (w->entry < v->entries_n && v->entries[w->entry].id == f->id) {
        f->entries_n++;
        w->entry++;
    }
}

static int walk(struct verify *v)
{
    struct walk w = {.v = v};
    uint64_t id = 0;
    int rc = walk_open(&w);
    while (rc == 0 && walk_next(&w, &id)) {
        struct facts f = {.id = id};
        collect(&w, &f);
        rc = dassie__verify_judge(v, &f);
        if (rc == 0) {
            rc = dassie__verify_stop(v);
        }
        for (int i = 0; rc == 0 && i < COLUMNS; i++) {
            if (f.there[i]) {
                v->kv->ops->iter_next(w.it[i]);
                rc = walk_settle(&w, i);
            }
        }
    }
    return walk_close(&w, rc);
}

/* ---- The counts ---- */

static void compare_tally(struct verify *v, uint32_t id)
{
    const struct verify_queue *q = &v->queues[id];
    const struct {
        const char *name;
        uint64_t stored;
        uint64_t found;
    } counts[] = {
        {"jobs pending", q->stored.pending, q->found.pending},
        {"jobs scheduled", q->stored.scheduled, q->found.scheduled},
        {"jobs running", q->stored.running, q->found.running},
        {"jobs complete", q->stored.complete, q->found.complete},
        {"jobs failed", q->stored.failed, q->found.failed},
        {"jobs cancelled", q->stored.cancelled, q->found.cancelled},
        {"bytes pending", q->stored.pending_bytes, q->found.pending_bytes},
        {"bytes complete", q->stored.complete_bytes, q->found.complete_bytes},
        {"bytes failed", q->stored.failed_bytes, q->found.failed_bytes},
        {"bytes cancelled", q->stored.cancelled_bytes,
         q->found.cancelled_bytes}};
    char text[VERIFY_TEXT];
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (counts[i].stored != counts[i].found) {
            dassie__verify_queue_text(v, id, text);
            dassie__verify_tell(
                v, 0,
                "%s: %" PRIu64 " %s are counted, but %" PRIu64 " are there",
                text, counts[i].stored, counts[i].name, counts[i].found);
        }
    }
}

static void compare_rows(struct verify *v, const struct verify_line *line)
{
    char text[VERIFY_TEXT];
    dassie__verify_line_text(v, line, text);
    if (line->live != line->row.live) {
        dassie__verify_tell(v, 0,
                            "%s: %" PRIu64
                            " live rows are counted, but %" PRIu64 " are there",
                            text, line->row.live, line->live);
    }
    if (line->dead != line->row.dead) {
        dassie__verify_tell(v, 0,
                            "%s: %" PRIu64
                            " dead rows are counted, but %" PRIu64 " are there",
                            text, line->row.dead, line->dead);
    }
    if (!line->counted) {
        dassie__verify_tell(v, 0, "%s: pending rows, but no counts", text);
    }
}

/* A line that was never used is all zeros; one that was emptied has its cursor
 * behind its tail. */
static void compare_places(struct verify *v, const struct verify_line *line)
{
    const struct line_row *row = &line->row;
    char text[VERIFY_TEXT];
    bool unused = row->tail == 0 && row->cursor == 0;
    dassie__verify_line_text(v, line, text);
    if (row->start > row->cursor) {
        dassie__verify_tell(
            v, 0, "%s: start %" PRIu64 " is after the cursor %" PRIu64, text,
            row->start, row->cursor);
    }
    if (!unused && row->cursor > row->tail + 1) {
        dassie__verify_tell(
            v, 0, "%s: cursor %" PRIu64 " is beyond the tail %" PRIu64, text,
            row->cursor, row->tail);
    } else if (line->counted && line->live > 0 && line->last > row->tail) {
        dassie__verify_tell(v, 0,
                            "%s: the last live row is at %" PRIu64
                            ", but cursor and tail say %" PRIu64
                            " and %" PRIu64,
                            text, line->last, row->cursor, row->tail);
    }
    if (row->tail >= v->head.next) {
        dassie__verify_tell(v, 0,
                            "%s: tail %" PRIu64 " is not below the next number",
                            text, row->tail);
    }
}

static void compare_schedule(struct verify *v)
{
    const struct schedule_row *stored = &v->head.schedule;
    if (stored->live != v->schedule.live || stored->dead != v->schedule.dead) {
        dassie__verify_tell(
            v, 0,
            "schedule: %" PRIu64 " live and %" PRIu64
            " dead rows are counted, but %" PRIu64 " and %" PRIu64 " are there",
            stored->live, stored->dead, v->schedule.live, v->schedule.dead);
    }
}

static void compare(struct verify *v)
{
    compare_schedule(v);
    for (uint32_t i = 0; i < v->queues_n; i++) {
        if (v->queues[i].name != NULL) {
            compare_tally(v, i);
        }
    }
    for (size_t i = 0; i < v->lines_n; i++) {
        compare_rows(v, &v->lines[i]);
        compare_places(v, &v->lines[i]);
    }
    for (size_t i = 0; i < v->sets_n; i++) {
        if (v->sets[i].live == 0) {
            dassie__verify_tell(v, 0,
                                "claim set %" PRIu64
                                ": running row, but none of its "
                                "jobs is running",
                                v->sets[i].commit);
        }
    }
}

int dassie__verify(const struct verify_what *what,
                   dassie_verify_report_t *report, struct errmsg *e)
{
    struct verify v = {.kv = what->kv,
                       .snapshot = what->snapshot,
                       .stop = what->stop,
                       .cb = what->cb,
                       .arg = what->arg,
                       .report = report,
                       .e = e};
    memset(report, 0, sizeof *report);
    int rc = dassie__verify_read(&v);
    if (rc == 0) {
        rc = walk(&v);
    }
    if (rc == 0) {
        compare(&v);
    }
    dassie__verify_free(&v);
    return rc;
}

int dassie__verify_kv(struct kv *kv, dassie_verify_cb cb, void *arg,
                      dassie_verify_report_t *report, struct errmsg *e)
{
    struct verify_what what = {.kv = kv, .cb = cb, .arg = arg};
    return dassie__verify(&what, report, e);
}

/* ---- A directory ---- */

/* FORMAT is there, but its maker got no further. */
static bool is_empty(const char *dir, const char *inflight)
{
    return !dassie__kv_rocks_used(dir) && access(inflight, F_OK) != 0;
}

static int verify_dir(const char *dir, dassie_verify_cb cb, void *arg,
                      dassie_verify_report_t *report)
{
    char inflight[PATH_MAX + 16];
    snprintf(inflight, sizeof inflight, "%s/inflight", dir);
    struct kv_rocks_options options = {
        .dir = dir,
        .memory_bytes = DASSIE_MEMORY_BYTES_MIN,
        .read_only = true,
        .gaps = dassie__recorder_lossy(inflight)};
    struct errmsg e = {""};
    struct kv *kv;
    if (is_empty(dir, inflight)) {
        return 0;
    }
    int rc = dassie__kv_rocks_open(&options, &kv, &e);
    if (rc == 0) {
        rc = dassie__verify_kv(kv, cb, arg, report, &e);
        kv->ops->close(kv, false);
    }
    if (rc == DASSIE_ECORRUPT) {
        report->problems++;
        if (cb != NULL) {
            cb(arg, 0, e.text);
        }
    }
    return rc;
}

int dassie_verify(const char *path, dassie_verify_cb cb, void *arg,
                  dassie_verify_report_t *report)
{
    dassie_verify_report_t unwanted;
    struct errmsg e;
    struct dir dir;
    if (path == NULL) {
        return UV_EINVAL;
    }
    if (dassie__dir_is_orphan()) {
        return UV_EPERM;
    }
    if (report == NULL) {
        report = &unwanted;
    }
    memset(report, 0, sizeof *report);
    dassie__dir_forks_watch();
    int rc = dassie__dir_open(&dir, path, false, &e);
    if (rc == 0) {
        rc = verify_dir(dir.path, cb, arg, report);
        dassie__dir_close(&dir);
    }
    return rc;
}
