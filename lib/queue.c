#include "config.h"

#define HASH_NONFATAL_OOM 1
#include "queue.h"

#include "alloc.h"
#include "dassie.h"

#include <string.h>

#undef uthash_malloc
#undef uthash_free
#define uthash_malloc(size) dassie__malloc(size)
#define uthash_free(p, size) dassie__free(p)
#undef uthash_nonfatal_oom
#define uthash_nonfatal_oom(element) ((element)->id = UINT32_MAX)

struct queue *dassie__queues_find(struct queues *qs, const char *name,
                                  size_t len)
{
    struct queue *q = qs->last;
    if (q != NULL && q->name_len == len && memcmp(q->name, name, len) == 0) {
        return q;
    }
    HASH_FIND(hh, qs->by_name, name, len, q);
    if (q != NULL) {
        qs->last = q;
    }
    return q;
}

static int queues_make_room(struct queues *qs)
{
    if (qs->n == DASSIE_QUEUES_MAX) {
        return UV_ENOBUFS;
    }
    if (qs->by_id == NULL) {
        qs->by_id = dassie__calloc(DASSIE_QUEUES_MAX, sizeof qs->by_id[0]);
    }
    return qs->by_id == NULL ? UV_ENOMEM : 0;
}

int dassie__queues_add(struct queues *qs, const char *name, size_t len,
                       struct queue **queue)
{
    int rc = queues_make_room(qs);
    if (rc != 0) {
        return rc;
    }
    struct meter *meter = dassie__meters_next(&qs->meters);
    struct queue *q =
        meter == NULL ? NULL : dassie__calloc(1, sizeof *q + len + 1);
    if (q == NULL) {
        return UV_ENOMEM;
    }
    q->meter = meter;
    q->id = qs->n;
    q->name_len = len;
    memcpy(q->name, name, len);
    HASH_ADD_KEYPTR(hh, qs->by_name, q->name, q->name_len, q);
    if (q->id == UINT32_MAX) {
        dassie__free(q);
        return UV_ENOMEM;
    }
    dassie__meters_add(&qs->meters, q->name, len);
    qs->by_id[qs->n++] = q;
    *queue = q;
    return 0;
}

static void queue_free(struct queue *q)
{
    for (unsigned i = 0; i < q->lines_n; i++) {
        for (int k = 0; k < LINE_KINDS; k++) {
            dassie__job_list_free(&q->lines[i]->kind[k].window);
        }
        dassie__free(q->lines[i]);
    }
    dassie__free(q->lines);
    dassie__free(q);
}

void dassie__queues_drop(struct queues *qs, uint32_t n)
{
    while (qs->n > n) {
        struct queue *q = qs->by_id[--qs->n];
        HASH_DELETE(hh, qs->by_name, q);
        qs->lines_n -= q->lines_n;
        qs->last = NULL;
        queue_free(q);
    }
}

void dassie__queues_free(struct queues *qs)
{
    HASH_CLEAR(hh, qs->by_name);
    for (uint32_t i = 0; i < qs->n; i++) {
        queue_free(qs->by_id[i]);
    }
    dassie__free(qs->by_id);
    dassie__meters_free(&qs->meters);
    memset(qs, 0, sizeof *qs);
}

/* Where the lines of a priority stand, or would. */
static unsigned lines_at(const struct queue *q, uint64_t bit)
{
    return (unsigned)__builtin_popcountll(q->priorities & (bit - 1));
}

struct lines *dassie__queue_prepare(struct queues *qs, struct queue *q,
                                    int8_t priority)
{
    uint64_t bit = priority_bit(priority);
    unsigned at = lines_at(q, bit);
    if ((q->priorities & bit) != 0) {
        return q->lines[at];
    }
    struct lines *made = dassie__calloc(1, sizeof *made);
    struct lines **all =
        dassie__realloc(q->lines, (q->lines_n + 1) * sizeof q->lines[0]);
    if (all != NULL) {
        q->lines = all;
    }
    if (made == NULL || all == NULL) {
        dassie__free(made);
        return NULL;
    }
    for (int k = 0; k < LINE_KINDS; k++) {
        made->kind[k].row.priority = priority;
        made->kind[k].row.kind = (uint8_t)k;
        made->kind[k].queue = q;
    }
    memmove(all + at + 1, all + at, (q->lines_n - at) * sizeof all[0]);
    all[at] = made;
    q->priorities |= bit;
    q->lines_n++;
    qs->lines_n++;
    return made;
}

struct line *dassie__queue_line(struct queue *q, int8_t priority,
                                enum line_kind kind)
{
    return &q->lines[lines_at(q, priority_bit(priority))]->kind[kind];
}

struct line *dassie__queue_first_line(struct queue *q, bool suspects)
{
    uint64_t front = suspects ? q->live[LINE_SUSPECT] : q->live[LINE_FRONT];
    uint64_t live = suspects ? front : front | q->live[LINE_NORMAL];
    if (live == 0) {
        return NULL;
    }
    uint64_t first = live & -live;
    struct line *kinds = q->lines[lines_at(q, first)]->kind;
    if (suspects) {
        return &kinds[LINE_SUSPECT];
    }
    return (front & first) != 0 ? &kinds[LINE_FRONT] : &kinds[LINE_NORMAL];
}

void dassie__queue_tell(struct queue *q)
{
    bool ready =
        queue_open(q) && (q->live[LINE_FRONT] | q->live[LINE_NORMAL]) != 0;
    if (ready == q->ready) {
        return;
    }
    q->ready = ready;
    for (struct server *at = q->servers; at != NULL; at = at->next) {
        dassie__turn_ready(at, ready);
    }
}

/* Its live rows have become more, or fewer. */
static void line_counted(struct line *line)
{
    uint64_t bit = priority_bit(line->row.priority);
    uint64_t *live = &line->queue->live[line->row.kind];
    *live = line->row.live > 0 ? *live | bit : *live & ~bit;
    dassie__queue_tell(line->queue);
}

void dassie__line_set(struct line *line, const struct line_row *row)
{
    line->row = *row;
    line_counted(line);
}

static void window_push(struct line *line, job_t *job)
{
    job_list_push(&line->window, job);
    line->window_bytes += dassie__job_bytes(job);
    line->window_end = job->position;
}

bool dassie__line_append(struct line *line, job_t *job, uint64_t position,
                         bool join)
{
    bool complete = line->row.live == line->window.n;
    if (line->row.live == 0 && line->row.dead == 0) {
        line->row.start = position;
    }
    if (line->row.live == 0) {
        line->row.cursor = position;
    }
    line->row.tail = position;
    line->row.live++;
    line_counted(line);
    line_touch(line);
    job->position = position;
    job->kind = line->row.kind;
    if (!join || !complete) {
        return false;
    }
    window_push(line, job);
    return true;
}

void dassie__line_load(struct line *line, job_t *job)
{
    window_push(line, job);
}

job_t *dassie__line_claim(struct line *line)
{
    job_t *job = job_list_pop(&line->window);
    line->window_bytes -= dassie__job_bytes(job);
    line->row.cursor = job->position + 1;
    line->row.live--;
    line->row.dead++;
    line_counted(line);
    line_touch(line);
    return job;
}

job_t *dassie__line_take(struct line *line, uint64_t id)
{
    job_t *job = job_list_take(&line->window, id);
    if (job != NULL) {
        line->window_bytes -= dassie__job_bytes(job);
    }
    line->row.live--;
    if (line->row.live == 0) {
        line->row.cursor = line->row.tail + 1;
    }
    line_counted(line);
    line_touch(line);
    return job;
}

void dassie__line_evict(struct line *line, struct job_list *out)
{
    job_list_append(out, &line->window);
    line->window_bytes = 0;
    line->window_end = line->row.cursor > 0 ? line->row.cursor - 1 : 0;
}

void dassie__queue_touch(struct queues *qs, struct queue *q)
{
    if (!q->changed) {
        q->changed = true;
        q->changed_next = qs->changed;
        qs->changed = q;
        qs->changed_n++;
    }
    if (!q->unfolded) {
        q->unfolded = true;
        q->unfolded_next = qs->unfolded;
        qs->unfolded = q;
    }
}

static uint64_t *tally_of(struct tally *tally, int state)
{
    switch (state) {
        case DASSIE_PENDING:
            return &tally->pending;
        case DASSIE_SCHEDULED:
            return &tally->scheduled;
        case DASSIE_RUNNING:
            return &tally->running;
        case DASSIE_COMPLETE:
            return &tally->complete;
        case DASSIE_FAILED:
            return &tally->failed;
        default:
            return &tally->cancelled;
    }
}

void dassie__tally_add(struct tally *tally, const struct tally *more)
{
    tally->pending += more->pending;
    tally->scheduled += more->scheduled;
    tally->running += more->running;
    tally->complete += more->complete;
    tally->failed += more->failed;
    tally->cancelled += more->cancelled;
    tally->pending_bytes += more->pending_bytes;
    tally->complete_bytes += more->complete_bytes;
    tally->failed_bytes += more->failed_bytes;
    tally->cancelled_bytes += more->cancelled_bytes;
}

static uint64_t *bytes_of(struct tally *tally, int state)
{
    switch (state) {
        case DASSIE_PENDING:
            return &tally->pending_bytes;
        case DASSIE_COMPLETE:
            return &tally->complete_bytes;
        case DASSIE_FAILED:
            return &tally->failed_bytes;
        default:
            return &tally->cancelled_bytes;
    }
}

void dassie__queue_loaded(struct queues *qs, const struct queue *q)
{
    static const int states[] = {DASSIE_PENDING, DASSIE_SCHEDULED,
                                 DASSIE_RUNNING, DASSIE_COMPLETE,
                                 DASSIE_FAILED,  DASSIE_CANCELLED};
    static const int sized[] = {DASSIE_PENDING, DASSIE_COMPLETE, DASSIE_FAILED,
                                DASSIE_CANCELLED};
    struct tally tally = q->tally;
    dassie__tally_add(&qs->tally, &tally);
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        meter_add(&q->meter->jobs[states[i]], *tally_of(&tally, states[i]));
    }
    for (size_t i = 0; i < sizeof sized / sizeof sized[0]; i++) {
        meter_add(&q->meter->bytes[sized[i]], *bytes_of(&tally, sized[i]));
    }
}

void dassie__queue_count_bytes(struct queues *qs, struct queue *q, int state,
                               int64_t d)
{
    *bytes_of(&q->tally, state) += (uint64_t)d;
    meter_add(&q->meter->bytes[state], (uint64_t)d);
    *bytes_of(&qs->tally, state) += (uint64_t)d;
}

void dassie__queue_count(struct queues *qs, struct queue *q, int state,
                         int64_t d)
{
    *tally_of(&q->tally, state) += (uint64_t)d;
    meter_add(&q->meter->jobs[state], (uint64_t)d);
    *tally_of(&qs->tally, state) += (uint64_t)d;
}
