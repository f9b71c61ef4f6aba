#include "config.h"

#include "wire.h"

#include <string.h>

/* ---- Numbers and bytes ---- */

void dassie__wire_put(struct wire_writer *w, uint64_t number, unsigned width)
{
    for (unsigned i = 0; i < width; i++) {
        if (w->p != NULL) {
            w->p[w->n] = (uint8_t)(number >> 8 * (width - 1 - i));
        }
        w->n++;
    }
}

static void put_raw(struct wire_writer *w, const void *p, size_t len)
{
    if (w->p != NULL && len > 0) {
        memcpy(w->p + w->n, p, len);
    }
    w->n += len;
}

void dassie__wire_put_bytes(struct wire_writer *w, const void *p, size_t len)
{
    dassie__wire_put(w, len, 4);
    put_raw(w, p, len);
}

uint64_t dassie__wire_take(struct wire_reader *r, unsigned width)
{
    uint64_t number = 0;
    if (r->bad || (size_t)(r->end - r->p) < width) {
        r->bad = true;
        return 0;
    }
    for (unsigned i = 0; i < width; i++) {
        number = number << 8 | *r->p++;
    }
    return number;
}

struct wire_bytes dassie__wire_take_bytes(struct wire_reader *r)
{
    struct wire_bytes bytes = {NULL, 0};
    size_t len = (size_t)dassie__wire_take(r, 4);
    if (r->bad || (size_t)(r->end - r->p) < len) {
        r->bad = true;
        return bytes;
    }
    bytes.p = r->p;
    bytes.len = len;
    r->p += len;
    return bytes;
}

/* Names are followed by a zero byte, so that they are C strings, too. */
static void put_name(struct wire_writer *w, const void *p, size_t len)
{
    dassie__wire_put_bytes(w, p, len);
    put_raw(w, "", 1);
}

static struct wire_bytes take_name(struct wire_reader *r)
{
    struct wire_bytes bytes = dassie__wire_take_bytes(r);
    if (dassie__wire_take(r, 1) != 0) {
        r->bad = true;
    }
    return bytes;
}

/* ---- Requests ---- */

static bool in_range(const struct wire_request *q)
{
    return q->queue.len <= DASSIE_NAME_BYTES_MAX &&
           q->name.len <= DASSIE_NAME_BYTES_MAX && q->paused <= 1;
}

static void list_read(struct wire_reader *r, struct wire_request *q)
{
    q->state = (uint8_t)dassie__wire_take(r, 1);
    q->limit = (uint32_t)dassie__wire_take(r, 4);
    for (int i = 0; i < 3; i++) {
        q->cursor[i] = dassie__wire_take(r, 8);
    }
    q->queue = dassie__wire_take_bytes(r);
}

static void change_read(struct wire_reader *r, struct wire_request *q)
{
    q->action = (uint8_t)dassie__wire_take(r, 1);
    q->id = dassie__wire_take(r, 8);
    q->states = (uint32_t)dassie__wire_take(r, 4);
    q->age_ms = dassie__wire_take(r, 8);
    q->queue = dassie__wire_take_bytes(r);
    q->name = dassie__wire_take_bytes(r);
}

static void jobs_read(struct wire_reader *r, struct wire_request *q)
{
    dassie_spec_t spec;
    q->jobs_n = (uint32_t)dassie__wire_take(r, 4);
    q->jobs = *r;
    if (q->jobs_n == 0) {
        r->bad = true;
    }
    for (uint32_t i = 0; i < q->jobs_n && !r->bad; i++) {
        dassie__wire_job_read(r, &spec);
    }
}

int dassie__wire_request_read(const uint8_t *p, size_t len,
                              struct wire_request *q)
{
    struct wire_reader r = {p, p + len, false};
    memset(q, 0, sizeof *q);
    if (dassie__wire_take(&r, 1) != WIRE_VERSION) {
        return -1;
    }
    q->op = (uint8_t)dassie__wire_take(&r, 1);
    switch (q->op) {
        case WIRE_QUEUES:
        case WIRE_METRICS:
            break;
        case WIRE_GET:
            q->id = dassie__wire_take(&r, 8);
            break;
        case WIRE_LIST:
            list_read(&r, q);
            break;
        case WIRE_CHANGE:
            change_read(&r, q);
            break;
        case WIRE_PAUSE:
            q->paused = (uint8_t)dassie__wire_take(&r, 1);
            q->queue = dassie__wire_take_bytes(&r);
            break;
        case WIRE_ENQUEUE:
            jobs_read(&r, q);
            break;
        case WIRE_TAIL:
            q->states = (uint32_t)dassie__wire_take(&r, 4);
            q->queue = dassie__wire_take_bytes(&r);
            break;
        case WIRE_CHECK:
            break;
        case WIRE_BACKUP:
            q->path = dassie__wire_take_bytes(&r);
            break;
        default:
            return -1;
    }
    return r.bad || r.p != r.end || !in_range(q) ? -1 : 0;
}

static void body_write(struct wire_writer *w, const struct wire_request *q)
{
    switch (q->op) {
        case WIRE_GET:
            dassie__wire_put(w, q->id, 8);
            break;
        case WIRE_LIST:
            dassie__wire_put(w, q->state, 1);
            dassie__wire_put(w, q->limit, 4);
            for (int i = 0; i < 3; i++) {
                dassie__wire_put(w, q->cursor[i], 8);
            }
            dassie__wire_put_bytes(w, q->queue.p, q->queue.len);
            break;
        case WIRE_CHANGE:
            dassie__wire_put(w, q->action, 1);
            dassie__wire_put(w, q->id, 8);
            dassie__wire_put(w, q->states, 4);
            dassie__wire_put(w, q->age_ms, 8);
            dassie__wire_put_bytes(w, q->queue.p, q->queue.len);
            dassie__wire_put_bytes(w, q->name.p, q->name.len);
            break;
        case WIRE_PAUSE:
            dassie__wire_put(w, q->paused, 1);
            dassie__wire_put_bytes(w, q->queue.p, q->queue.len);
            break;
        case WIRE_ENQUEUE:
            dassie__wire_put(w, q->jobs_n, 4);
            break;
        case WIRE_TAIL:
            dassie__wire_put(w, q->states, 4);
            dassie__wire_put_bytes(w, q->queue.p, q->queue.len);
            break;
        case WIRE_BACKUP:
            dassie__wire_put_bytes(w, q->path.p, q->path.len);
            break;
        default:
            break;
    }
}

void dassie__wire_request_write(struct wire_writer *w,
                                const struct wire_request *q, size_t jobs_bytes)
{
    struct wire_writer count = {NULL, 0};
    body_write(&count, q);
    dassie__wire_put(w, 2 + count.n + jobs_bytes, WIRE_HEAD_BYTES);
    dassie__wire_put(w, WIRE_VERSION, 1);
    dassie__wire_put(w, q->op, 1);
    body_write(w, q);
}

void dassie__wire_job_write(struct wire_writer *w, const dassie_spec_t *spec)
{
    dassie__wire_put_bytes(w, spec->queue, spec->queue_len);
    dassie__wire_put_bytes(w, spec->name, spec->name_len);
    dassie__wire_put_bytes(w, spec->data, spec->data_len);
    dassie__wire_put(w, (uint8_t)(spec->priority + 128), 1);
    dassie__wire_put(w, spec->flags, 1);
    dassie__wire_put(w, spec->attempts_max, 4);
    dassie__wire_put(w, spec->delay_ms, 8);
    dassie__wire_put(w, spec->run_at_ms, 8);
    dassie__wire_put(w, spec->backoff_ms, 8);
    dassie__wire_put(w, spec->backoff_max_ms, 8);
    dassie__wire_put(w, spec->retry_for_ms, 8);
    dassie__wire_put(w, spec->expire_ms, 8);
    dassie__wire_put(w, spec->timeout_ms, 8);
    dassie__wire_put_bytes(w, spec->unique, spec->unique_len);
    dassie__wire_put(w, (uint64_t)spec->unique_until, 1);
    dassie__wire_put(w, spec->unique_ms, 8);
    dassie__wire_put(w, (uint64_t)spec->on_conflict, 1);
}

int dassie__wire_job_read(struct wire_reader *r, dassie_spec_t *spec)
{
    static const dassie_spec_t init = DASSIE_SPEC_INIT;
    struct wire_bytes queue = dassie__wire_take_bytes(r);
    struct wire_bytes name = dassie__wire_take_bytes(r);
    struct wire_bytes data = dassie__wire_take_bytes(r);
    *spec = init;
    spec->queue = queue.len > 0 ? queue.p : NULL;
    spec->queue_len = queue.len;
    spec->name = name.len > 0 ? name.p : NULL;
    spec->name_len = name.len;
    spec->data = data.p;
    spec->data_len = data.len;
    spec->priority = (int)dassie__wire_take(r, 1) - 128;
    spec->flags = (unsigned)dassie__wire_take(r, 1);
    spec->attempts_max = (uint32_t)dassie__wire_take(r, 4);
    spec->delay_ms = dassie__wire_take(r, 8);
    spec->run_at_ms = dassie__wire_take(r, 8);
    spec->backoff_ms = dassie__wire_take(r, 8);
    spec->backoff_max_ms = dassie__wire_take(r, 8);
    spec->retry_for_ms = dassie__wire_take(r, 8);
    spec->expire_ms = dassie__wire_take(r, 8);
    spec->timeout_ms = dassie__wire_take(r, 8);
    struct wire_bytes unique = dassie__wire_take_bytes(r);
    spec->unique = unique.len > 0 ? unique.p : NULL;
    spec->unique_len = unique.len;
    spec->unique_until = (dassie_until_t)dassie__wire_take(r, 1);
    spec->unique_ms = dassie__wire_take(r, 8);
    spec->on_conflict = (dassie_conflict_t)dassie__wire_take(r, 1);
    return r->bad ? -1 : 0;
}

/* ---- Replies ---- */

void dassie__wire_reply_write(struct wire_writer *w, uint8_t op, int status,
                              size_t body_bytes)
{
    dassie__wire_put(w, 6 + body_bytes, WIRE_HEAD_BYTES);
    dassie__wire_put(w, WIRE_VERSION, 1);
    dassie__wire_put(w, op, 1);
    dassie__wire_put(w, (uint32_t)status, 4);
}

int dassie__wire_reply_read(struct wire_reader *r, uint8_t op, int *status)
{
    bool version = dassie__wire_take(r, 1) == WIRE_VERSION;
    bool same = dassie__wire_take(r, 1) == op;
    *status = (int)(uint32_t)dassie__wire_take(r, 4);
    return version && same && !r->bad && *status <= 0 ? 0 : -1;
}

void dassie__wire_info_write(struct wire_writer *w, const dassie_info_t *info)
{
    dassie__wire_put(w, info->id, 8);
    dassie__wire_put(w, (uint64_t)info->state, 1);
    dassie__wire_put(w, info->flags, 1);
    dassie__wire_put(w, (uint8_t)(info->priority + 128), 1);
    dassie__wire_put(w, info->attempts, 4);
    dassie__wire_put(w, info->excused, 4);
    dassie__wire_put(w, info->crashes, 4);
    dassie__wire_put(w, info->enqueued_ms, 8);
    dassie__wire_put(w, info->ended_ms, 8);
    dassie__wire_put(w, info->due_ms, 8);
    dassie__wire_put(w, info->expires_ms, 8);
    dassie__wire_put(w, (uint32_t)info->error_code, 4);
    dassie__wire_put(w, info->progress_done, 8);
    dassie__wire_put(w, info->progress_total, 8);
    put_name(w, info->queue, info->queue_len);
    put_name(w, info->name, info->name_len);
    put_name(w, info->error, info->error_len);
    put_name(w, info->progress, info->progress_len);
    dassie__wire_put_bytes(w, info->data, info->data_len);
    dassie__wire_put_bytes(w, info->result, info->result_len);
    dassie__wire_put_bytes(w, info->unique, info->unique_len);
    dassie__wire_put(w, (uint64_t)info->unique_until, 1);
}

void dassie__wire_info_read(struct wire_reader *r, dassie_info_t *info)
{
    memset(info, 0, sizeof *info);
    info->id = dassie__wire_take(r, 8);
    info->state = (dassie_state_t)dassie__wire_take(r, 1);
    info->flags = (unsigned)dassie__wire_take(r, 1);
    info->priority = (int)dassie__wire_take(r, 1) - 128;
    info->attempts = (uint32_t)dassie__wire_take(r, 4);
    info->excused = (uint32_t)dassie__wire_take(r, 4);
    info->crashes = (uint32_t)dassie__wire_take(r, 4);
    info->enqueued_ms = dassie__wire_take(r, 8);
    info->ended_ms = dassie__wire_take(r, 8);
    info->due_ms = dassie__wire_take(r, 8);
    info->expires_ms = dassie__wire_take(r, 8);
    info->error_code = (int)(uint32_t)dassie__wire_take(r, 4);
    info->progress_done = dassie__wire_take(r, 8);
    info->progress_total = dassie__wire_take(r, 8);
    struct wire_bytes queue = take_name(r);
    struct wire_bytes name = take_name(r);
    struct wire_bytes error = take_name(r);
    struct wire_bytes progress = take_name(r);
    struct wire_bytes data = dassie__wire_take_bytes(r);
    struct wire_bytes result = dassie__wire_take_bytes(r);
    struct wire_bytes unique = dassie__wire_take_bytes(r);
    info->unique_until = (dassie_until_t)dassie__wire_take(r, 1);
    info->unique = unique.len > 0 ? unique.p : NULL;
    info->unique_len = unique.len;
    info->queue = queue.p;
    info->queue_len = queue.len;
    info->name = name.p;
    info->name_len = name.len;
    info->error = error.p;
    info->error_len = error.len;
    info->progress = progress.p;
    info->progress_len = progress.len;
    info->data = data.p;
    info->data_len = data.len;
    info->result = result.p;
    info->result_len = result.len;
}

/* A state, or DASSIE_NOWHERE, is one more than it is. */
void dassie__wire_event_write(struct wire_writer *w,
                              const dassie_event_t *event)
{
    dassie__wire_put(w, event->id, 8);
    dassie__wire_put(w, (uint8_t)(event->from + 1), 1);
    dassie__wire_put(w, (uint8_t)(event->to + 1), 1);
    dassie__wire_put(w, event->attempts, 4);
    dassie__wire_put(w, (uint32_t)event->code, 4);
    dassie__wire_put(w, event->at_ms, 8);
    put_name(w, event->queue, event->queue_len);
}

void dassie__wire_event_read(struct wire_reader *r, dassie_event_t *event)
{
    event->id = dassie__wire_take(r, 8);
    event->from = (int)dassie__wire_take(r, 1) - 1;
    event->to = (int)dassie__wire_take(r, 1) - 1;
    event->attempts = (uint32_t)dassie__wire_take(r, 4);
    event->code = (int)(uint32_t)dassie__wire_take(r, 4);
    event->at_ms = dassie__wire_take(r, 8);
    struct wire_bytes queue = take_name(r);
    event->queue = queue.p;
    event->queue_len = queue.len;
}

static void put_count(struct wire_writer *w, const dassie_count_t *count)
{
    dassie__wire_put(w, count->pending, 8);
    dassie__wire_put(w, count->scheduled, 8);
    dassie__wire_put(w, count->running, 8);
    dassie__wire_put(w, count->complete, 8);
    dassie__wire_put(w, count->failed, 8);
    dassie__wire_put(w, count->cancelled, 8);
}

static void take_count(struct wire_reader *r, dassie_count_t *count)
{
    count->pending = dassie__wire_take(r, 8);
    count->scheduled = dassie__wire_take(r, 8);
    count->running = dassie__wire_take(r, 8);
    count->complete = dassie__wire_take(r, 8);
    count->failed = dassie__wire_take(r, 8);
    count->cancelled = dassie__wire_take(r, 8);
}

void dassie__wire_queue_write(struct wire_writer *w,
                              const dassie_queue_info_t *queue)
{
    put_name(w, queue->name, queue->name_len);
    dassie__wire_put(w, queue->paused != 0, 1);
    put_count(w, &queue->jobs);
    dassie__wire_put(w, queue->pending_bytes, 8);
}

void dassie__wire_queue_read(struct wire_reader *r, dassie_queue_info_t *queue)
{
    struct wire_bytes name = take_name(r);
    memset(queue, 0, sizeof *queue);
    queue->name = name.p;
    queue->name_len = name.len;
    uint64_t paused = dassie__wire_take(r, 1);
    r->bad |= paused > 1;
    queue->paused = paused != 0;
    take_count(r, &queue->jobs);
    queue->pending_bytes = dassie__wire_take(r, 8);
}

void dassie__wire_report_write(struct wire_writer *w,
                               const dassie_verify_report_t *report)
{
    put_count(w, &report->jobs);
    dassie__wire_put(w, report->rows, 8);
    dassie__wire_put(w, report->problems, 8);
}

void dassie__wire_report_read(struct wire_reader *r,
                              dassie_verify_report_t *report)
{
    take_count(r, &report->jobs);
    report->rows = dassie__wire_take(r, 8);
    report->problems = dassie__wire_take(r, 8);
}

void dassie__wire_problem_write(struct wire_writer *w,
                                const dassie_problem_t *problem)
{
    dassie__wire_put(w, problem->id, 8);
    put_name(w, problem->line, strlen(problem->line));
}

void dassie__wire_problem_read(struct wire_reader *r, dassie_problem_t *problem)
{
    problem->id = dassie__wire_take(r, 8);
    struct wire_bytes line = take_name(r);
    r->bad |= !r->bad && memchr(line.p, '\0', line.len) != NULL;
    problem->line = line.p;
}
