#include "config.h"

#include "look.h"

#include "alloc.h"
#include "expire.h"

#include <stdlib.h>
#include <string.h>

struct look *dassie__look_new(enum look_type type, void *req)
{
    struct look *look = dassie__calloc(1, sizeof *look);
    if (look != NULL) {
        look->type = type;
        look->req = req;
        look->limit = 1;
    }
    return look;
}

void dassie__look_free(struct look *look)
{
    for (size_t i = 0; i < look->n; i++) {
        dassie__free(look->blocks[i]);
        dassie__free(look->saved[i]);
    }
    for (size_t i = 0; i < look->runs_n; i++) {
        dassie__free(look->runs[i].progress);
    }
    dassie__free(look->infos);
    dassie__free(look->blocks);
    dassie__free(look->saved);
    dassie__free(look->runs);
    dassie__free(look->lines);
    dassie__free(look->queue_name);
    dassie__free(look->text);
    dassie__free(look);
}

/* ---- Capture: what only the engine's memory knows ---- */

static int capture_run(struct look *look, const job_t *job)
{
    struct look_run *run = &look->runs[look->runs_n++];
    struct progress progress;
    run->id = job->id;
    run->attempts = job->attempts + 1;
    run->progress = NULL;
    if (dassie__save_get(job, &progress)) {
        run->progress = dassie__memdup(&progress, sizeof progress);
        return run->progress != NULL ? 0 : UV_ENOMEM;
    }
    return 0;
}

static int capture_get(struct look *look, struct core *core)
{
    if (look->id == 0 || look->id >= core->store.next) {
        return UV_ENOENT;
    }
    for (uint32_t i = 0; i < core->claimed_high; i++) {
        const job_t *job = core->claimed[i];
        if (job != NULL && job->id == look->id) {
            look->runs = dassie__malloc(sizeof look->runs[0]);
            if (look->runs == NULL) {
                return UV_ENOMEM;
            }
            return capture_run(look, job);
        }
    }
    return 0;
}

static int run_cmp(const void *a, const void *b)
{
    const struct look_run *x = a;
    const struct look_run *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int capture_running(struct look *look, struct core *core)
{
    if (core->claimed_n == 0) {
        return 0;
    }
    look->runs = dassie__malloc(core->claimed_n * sizeof look->runs[0]);
    if (look->runs == NULL) {
        return UV_ENOMEM;
    }
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < core->claimed_high; i++) {
        const job_t *job = core->claimed[i];
        if (job != NULL && job->id > look->cursor[0] &&
            (look->queue == NULL || job->queue == look->queue)) {
            rc = capture_run(look, job);
        }
    }
    qsort(look->runs, look->runs_n, sizeof look->runs[0], run_cmp);
    return rc;
}

/* Pages of pending jobs go queue by queue, then line by line. The cursor is the
 * queue's id, the line and the position that come next. */
static uint64_t line_rank(const struct line *line)
{
    return (uint64_t)(line->row.priority - DASSIE_PRIORITY_MIN) * LINE_KINDS +
           line->row.kind;
}

static int lines_add(struct look *look, const struct line *line)
{
    uint64_t rank = line_rank(line);
    uint64_t from = line->row.cursor;
    if (line->row.live == 0) {
        return 0;
    }
    if (line->queue->id == look->cursor[0]) {
        if (rank < look->cursor[1]) {
            return 0;
        }
        if (rank == look->cursor[1] && from < look->cursor[2]) {
            from = look->cursor[2];
        }
    }
    if (from > line->row.tail) {
        return 0;
    }
    struct look_line *lines = dassie__realloc(
        look->lines, (look->lines_n + 1) * sizeof look->lines[0]);
    if (lines == NULL) {
        return UV_ENOMEM;
    }
    look->lines = lines;
    struct look_line *added = &lines[look->lines_n++];
    added->from.queue = line->queue->id;
    added->from.priority = line->row.priority;
    added->from.kind = line->row.kind;
    added->from.position = from;
    added->tail = line->row.tail;
    return 0;
}

static int capture_pending(struct look *look, struct core *core)
{
    const struct queues *qs = &core->store.queues;
    uint64_t found = 0;
    for (uint64_t id = look->cursor[0]; id < qs->n && found < look->limit;
         id++) {
        const struct queue *q = qs->by_id[id];
        if (look->queue != NULL && look->queue != q) {
            continue;
        }
        /* The first one may be used up by the pages before. */
        found += id == look->cursor[0] ? 0 : q->tally.pending;
        for (unsigned i = 0; i < q->lines_n; i++) {
            for (int k = 0; k < LINE_KINDS; k++) {
                int rc = lines_add(look, &q->lines[i]->kind[k]);
                if (rc != 0) {
                    return rc;
                }
            }
        }
    }
    return 0;
}

/* The cursor is the next row's time and id. */
static void capture_scheduled(struct look *look, struct core *core)
{
    const struct schedule_row *row = &core->store.schedule;
    if (row->head_ms > look->cursor[0] ||
        (row->head_ms == look->cursor[0] && row->head_id > look->cursor[1])) {
        look->cursor[0] = row->head_ms;
        look->cursor[1] = row->head_id;
    }
}

static int capture_list(struct look *look, struct core *core)
{
    if (look->queue_name != NULL) {
        look->queue = dassie__queues_find(&core->store.queues, look->queue_name,
                                          look->queue_name_len);
        if (look->queue == NULL) {
            return UV_ENOENT;
        }
    }
    switch (look->state) {
        case DASSIE_PENDING:
            return capture_pending(look, core);
        case DASSIE_SCHEDULED:
            capture_scheduled(look, core);
            return 0;
        case DASSIE_RUNNING:
            return capture_running(look, core);
        default:
            return 0;
    }
}

bool dassie__look_capture(struct look *look, struct core *core)
{
    look->store = &core->store;
    look->queues_n = core->store.queues.n;
    look->status = look->type == LOOK_LIST ? capture_list(look, core)
                                           : capture_get(look, core);
    if (look->status == UV_ENOENT && look->type == LOOK_LIST) {
        look->status = 0; /* a queue that is not there has no jobs */
        return false;
    }
    if (look->status != 0) {
        return false;
    }
    look->snapshot = core->store.kv->ops->snapshot(core->store.kv);
    return true;
}

/* After every key of eight bytes or more. */
static const uint8_t family_end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff};

static bool page_full(const struct look *look)
{
    return look->n == look->limit || look->bytes >= LOOK_PAGE_BYTES_MAX;
}

/* ---- Run: pages ---- */

static int run_get(struct look *look)
{
    return look->runs_n > 0
               ? dassie__look_add_run(look, &look->runs[0])
               : dassie__look_add(look, look->id, DASSIE_PENDING, 0);
}

static int run_running(struct look *look)
{
    for (size_t i = 0; i < look->runs_n && !page_full(look); i++) {
        int rc = dassie__look_add_run(look, &look->runs[i]);
        if (rc != 0) {
            return rc;
        }
        look->cursor[0] = look->runs[i].id;
    }
    return 0;
}

/* One line's part of a page. No range reaches beyond a cursor: none of its rows
 * is dead. */
static int run_line(struct look *look, const struct look_line *line)
{
    const struct kv_ops *ops = look->store->kv->ops;
    uint8_t from[KEY_PENDING_BYTES];
    uint8_t to[KEY_PENDING_BYTES];
    struct place place = line->from;
    struct pending_row pending;
    struct errmsg ignored;
    int rc = 0;
    dassie__key_pending(from, &place);
    place.position = line->tail + 1;
    dassie__key_pending(to, &place);
    struct kv_iter *it =
        ops->iter(look->store->kv, look->snapshot, FAMILY_PENDING,
                  kv_slice(from, sizeof from), kv_slice(to, sizeof to));
    if (it == NULL) {
        return UV_ENOMEM;
    }
    for (; ops->iter_valid(it) && !page_full(look); ops->iter_next(it)) {
        struct kv_slice key = ops->iter_key(it);
        struct kv_slice value = ops->iter_value(it);
        rc = dassie__key_parse_pending(key.p, key.len, &place) == 0 &&
                     dassie__pending_row_read(value.p, value.len,
                                              place.position, &pending) == 0
                 ? dassie__look_add(look, pending.id, DASSIE_PENDING,
                                    pending.attempts)
                 : DASSIE_ECORRUPT;
        if (rc != 0) {
            break;
        }
        look->cursor[0] = place.queue;
        look->cursor[1] =
            (uint64_t)(place.priority - DASSIE_PRIORITY_MIN) * LINE_KINDS +
            place.kind;
        look->cursor[2] = place.position + 1;
    }
    int failed = ops->iter_close(it, &ignored);
    return rc != 0 ? rc : failed;
}

static int run_pending(struct look *look)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < look->lines_n && !page_full(look); i++) {
        rc = run_line(look, &look->lines[i]);
    }
    return rc;
}

/* One row of the schedule, if it is there and of a job that is wanted. */
static int scheduled_add(struct look *look, struct kv_iter *it)
{
    const struct kv_ops *ops = look->store->kv->ops;
    struct kv_slice key = ops->iter_key(it);
    struct kv_slice value = ops->iter_value(it);
    struct due due;
    struct due_row row;
    struct errmsg ignored;
    if (dassie__key_parse_due(key.p, key.len, &due) != 0 ||
        (due.kind == DUE_JOB &&
         dassie__due_row_read(value.p, value.len, &row) != 0)) {
        return DASSIE_ECORRUPT;
    }
    if (due.kind == DUE_JOB &&
        (look->queue == NULL || look->queue->id == row.queue)) {
        int rc = ops->iter_live(it, &ignored);
        if (rc == 1) {
            rc = dassie__look_add(look, due.id, DASSIE_SCHEDULED, row.attempts);
        }
        if (rc != 0) {
            return rc;
        }
    }
    look->cursor[0] = due.ms;
    look->cursor[1] = due.id + 1;
    return 0;
}

static int run_scheduled(struct look *look)
{
    const struct kv_ops *ops = look->store->kv->ops;
    struct due head = {look->cursor[0], look->cursor[1], 0};
    uint8_t from[KEY_DUE_BYTES];
    struct errmsg ignored;
    int rc = 0;
    dassie__key_due(from, &head);
    struct kv_iter *it = ops->iter(
        look->store->kv, look->snapshot, FAMILY_SCHEDULED,
        kv_slice(from, sizeof from), kv_slice(family_end, sizeof family_end));
    if (it == NULL) {
        return UV_ENOMEM;
    }
    for (size_t rows = 0; rc == 0 && ops->iter_valid(it) && !page_full(look);
         ops->iter_next(it)) {
        if (rows++ == LOOK_READ_ROWS_MAX) {
            look->more = true;
            break;
        }
        rc = scheduled_add(look, it);
    }
    int failed = ops->iter_close(it, &ignored);
    return rc != 0 ? rc : failed;
}

static enum family end_family(dassie_state_t state)
{
    return state == DASSIE_COMPLETE ? FAMILY_COMPLETE
           : state == DASSIE_FAILED ? FAMILY_FAILED
                                    : FAMILY_CANCELLED;
}

/* A job that has ended. The rows of one that was deleted go together: its end
 * may still be seen. */
static int ended_add(struct look *look, uint64_t id, struct kv_iter *it)
{
    struct errmsg ignored;
    int rc = dassie__look_add(look, id, look->state, 0);
    if (rc == UV_ENOENT) {
        rc = look->store->kv->ops->iter_live(it, &ignored);
        rc = rc == 1 ? DASSIE_ECORRUPT : rc;
    }
    return rc;
}

static bool is_of_other_queue(const struct look *look, size_t n)
{
    return look->n > n && look->queue != NULL &&
           look->infos[n].queue != look->queue->name;
}

static int run_ended(struct look *look)
{
    const struct kv_ops *ops = look->store->kv->ops;
    uint8_t from[KEY_NUMBER_BYTES];
    uint64_t id;
    struct errmsg ignored;
    size_t rows = 0;
    size_t read = 0;
    int rc = 0;
    dassie__key_number(from, look->cursor[0] + 1);
    struct kv_iter *it = ops->iter(
        look->store->kv, look->snapshot, end_family(look->state),
        kv_slice(from, sizeof from), kv_slice(family_end, sizeof family_end));
    if (it == NULL) {
        return UV_ENOMEM;
    }
    for (; ops->iter_valid(it) && !page_full(look); ops->iter_next(it)) {
        struct kv_slice key = ops->iter_key(it);
        if (rows++ == LOOK_READ_ROWS_MAX || read >= LOOK_READ_BYTES_MAX) {
            look->more = true;
            break;
        }
        if (dassie__key_parse_number(key.p, key.len, &id) != 0) {
            rc = DASSIE_ECORRUPT;
            break;
        }
        size_t bytes = look->bytes;
        size_t n = look->n;
        rc = ended_add(look, id, it);
        if (rc != 0) {
            break;
        }
        look->cursor[0] = id;
        read += look->bytes - bytes;
        if (is_of_other_queue(look, n)) {
            look->n--;
            look->bytes = bytes;
            dassie__free(look->blocks[look->n]);
            dassie__free(look->saved[look->n]);
            look->saved[look->n] = NULL;
        }
    }
    int failed = ops->iter_close(it, &ignored);
    return rc != 0 ? rc : failed;
}

static int run_list(struct look *look)
{
    switch (look->state) {
        case DASSIE_PENDING:
            return run_pending(look);
        case DASSIE_SCHEDULED:
            return run_scheduled(look);
        case DASSIE_RUNNING:
            return run_running(look);
        default:
            return run_ended(look);
    }
}

void dassie__look_run(struct look *look)
{
    look->infos = dassie__calloc(look->limit, sizeof look->infos[0]);
    look->blocks = dassie__calloc(look->limit, sizeof look->blocks[0]);
    look->saved = dassie__calloc(look->limit, sizeof look->saved[0]);
    if (look->infos == NULL || look->blocks == NULL || look->saved == NULL) {
        look->status = UV_ENOMEM;
    } else {
        look->status = look->type == LOOK_LIST ? run_list(look) : run_get(look);
        look->more |= page_full(look);
    }
    look->store->kv->ops->snapshot_release(look->store->kv, look->snapshot);
    look->snapshot = NULL;
}
