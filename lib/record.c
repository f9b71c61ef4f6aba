#include "config.h"

#include "record.h"

#include <string.h>

static uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static int varint_get(struct part_reader *r, uint64_t *v)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end) {
            return -1;
        }
        uint8_t byte = *r->p++;
        if (shift == 63 && byte > 1) {
            return -1;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *v = value;
            return 0;
        }
    }
    return -1;
}

static int varint_get32(struct part_reader *r, uint32_t *v)
{
    uint64_t wide;
    if (varint_get(r, &wide) != 0 || wide > UINT32_MAX) {
        return -1;
    }
    *v = (uint32_t)wide;
    return 0;
}

static int byte_get(struct part_reader *r, uint8_t *v)
{
    if (r->p == r->end) {
        return -1;
    }
    *v = *r->p++;
    return 0;
}

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static int version_open(struct part_reader *r, const uint8_t *row, size_t len)
{
    r->p = row;
    r->end = row + len;
    uint8_t version = 0;
    return byte_get(r, &version) == 0 && version == RECORD_VERSION ? 0 : -1;
}

size_t dassie__job_row_bytes(size_t name_len, size_t data_len)
{
    return JOB_ROW_NAME_AT + name_len + 1 + data_len;
}

void dassie__job_row_write(uint8_t *row, const struct job_row *job)
{
    row[0] = RECORD_VERSION;
    row[1] = job->flags;
    row[2] = (uint8_t)((uint8_t)job->priority ^ 0x80);
    row[3] = (uint8_t)job->name_len;
    put_be32(row + JOB_ROW_QUEUE_AT, job->queue);
    put_be64(row + 8, job->enqueued_ms);
    if (job->name_len > 0) {
        memcpy(row + JOB_ROW_NAME_AT, job->name, job->name_len);
    }
    row[JOB_ROW_NAME_AT + job->name_len] = 0;
    if (job->data_len > 0) {
        memcpy(row + JOB_ROW_NAME_AT + job->name_len + 1, job->data,
               job->data_len);
    }
}

int dassie__job_row_read(const uint8_t *row, size_t len, struct job_row *job)
{
    if (len < JOB_ROW_NAME_AT + 1 || row[0] != RECORD_VERSION) {
        return -1;
    }
    job->flags = row[1];
    job->priority = (int8_t)(row[2] ^ 0x80);
    job->name_len = row[3];
    job->queue = get_be32(row + JOB_ROW_QUEUE_AT);
    job->enqueued_ms = get_be64(row + 8);
    size_t head = dassie__job_row_bytes(job->name_len, 0);
    if (len < head || row[head - 1] != 0) {
        return -1;
    }
    job->name = (const char *)row + JOB_ROW_NAME_AT;
    job->data = row + head;
    job->data_len = len - head;
    return 0;
}

size_t dassie__pending_row_write(uint8_t *row,
                                 const struct pending_row *pending)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, pending->id);
    p = varint_put(p, pending->attempts);
    return (size_t)(p - row);
}

int dassie__pending_row_read(const uint8_t *row, size_t len, uint64_t position,
                             struct pending_row *pending)
{
    struct part_reader r;
    if (len == 0) {
        pending->id = position;
        pending->attempts = 0;
        return 0;
    }
    if (version_open(&r, row, len) != 0 || varint_get(&r, &pending->id) != 0 ||
        varint_get32(&r, &pending->attempts) != 0 || r.p != r.end) {
        return -1;
    }
    return 0;
}

size_t dassie__claim_set_begin(uint8_t *set)
{
    set[0] = RECORD_VERSION;
    return 1;
}

size_t dassie__claim_set_add(uint8_t *set, size_t len, uint64_t last_id,
                             const struct claim_entry *entry)
{
    uint8_t *p = set + len;
    p = varint_put(p, zigzag((int64_t)(entry->id - last_id)));
    p = varint_put(p, entry->attempt);
    return (size_t)(p - set);
}

int dassie__claim_set_open(struct claim_reader *r, const uint8_t *set,
                           size_t len)
{
    struct part_reader part;
    if (version_open(&part, set, len) != 0) {
        return -1;
    }
    r->p = part.p;
    r->end = part.end;
    r->last_id = 0;
    return 0;
}

int dassie__claim_set_next(struct claim_reader *r, struct claim_entry *entry)
{
    struct part_reader part = {r->p, r->end};
    uint64_t distance;
    if (part.p == part.end) {
        return 0;
    }
    if (varint_get(&part, &distance) != 0 ||
        varint_get32(&part, &entry->attempt) != 0) {
        return -1;
    }
    r->p = part.p;
    r->last_id += (uint64_t)unzigzag(distance);
    entry->id = r->last_id;
    return 1;
}

size_t dassie__end_row_write_head(uint8_t *row, const struct end_row *end)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, end->ended_ms);
    p = varint_put(p, end->attempts);
    p = varint_put(p, end->crashes);
    p = varint_put(p, zigzag(end->code));
    return (size_t)(p - row);
}

int dassie__end_row_read(const uint8_t *row, size_t len, struct end_row *end)
{
    struct part_reader r;
    uint64_t code;
    if (version_open(&r, row, len) != 0 ||
        varint_get(&r, &end->ended_ms) != 0 ||
        varint_get32(&r, &end->attempts) != 0 ||
        varint_get32(&r, &end->crashes) != 0 || varint_get(&r, &code) != 0) {
        return -1;
    }
    int64_t wide = unzigzag(code);
    if (wide < INT32_MIN || wide > INT32_MAX) {
        return -1;
    }
    end->code = (int)wide;
    end->data = r.p;
    end->data_len = (size_t)(r.end - r.p);
    return 0;
}

size_t dassie__history_row_write(uint8_t *row,
                                 const struct history_row *history)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, history->attempts);
    p = varint_put(p, history->crashes);
    p = varint_put(p, history->last_run);
    *p++ = history->kind;
    p = varint_put(p, history->position);
    return (size_t)(p - row);
}

int dassie__history_row_read(const uint8_t *row, size_t len,
                             struct history_row *history)
{
    struct part_reader r;
    if (version_open(&r, row, len) != 0 ||
        varint_get32(&r, &history->attempts) != 0 ||
        varint_get32(&r, &history->crashes) != 0 ||
        varint_get(&r, &history->last_run) != 0 ||
        byte_get(&r, &history->kind) != 0 || history->kind >= LINE_KINDS ||
        varint_get(&r, &history->position) != 0 || r.p != r.end) {
        return -1;
    }
    return 0;
}

size_t dassie__name_row_write(uint8_t *row, const char *name, size_t len)
{
    row[0] = RECORD_VERSION;
    memcpy(row + 1, name, len);
    return 1 + len;
}

int dassie__name_row_read(const uint8_t *row, size_t len, const char **name,
                          size_t *name_len)
{
    struct part_reader r;
    if (version_open(&r, row, len) != 0 || len < 2 || len > NAME_ROW_MAX) {
        return -1;
    }
    *name = (const char *)r.p;
    *name_len = len - 1;
    return 0;
}

size_t dassie__queue_part_write(uint8_t *p, uint32_t queue,
                                const struct tally *tally, uint32_t lines)
{
    uint8_t *begin = p;
    p = varint_put(p, queue);
    p = varint_put(p, tally->pending);
    p = varint_put(p, tally->running);
    p = varint_put(p, tally->complete);
    p = varint_put(p, tally->failed);
    p = varint_put(p, lines);
    return (size_t)(p - begin);
}

int dassie__queue_part_read(struct part_reader *r, uint32_t *queue,
                            struct tally *tally, uint32_t *lines)
{
    if (varint_get32(r, queue) != 0 || varint_get(r, &tally->pending) != 0 ||
        varint_get(r, &tally->running) != 0 ||
        varint_get(r, &tally->complete) != 0 ||
        varint_get(r, &tally->failed) != 0 || varint_get32(r, lines) != 0) {
        return -1;
    }
    return 0;
}

size_t dassie__line_part_write(uint8_t *p, const struct line_row *line)
{
    uint8_t *begin = p;
    *p++ = (uint8_t)((uint8_t)line->priority ^ 0x80);
    *p++ = line->kind;
    p = varint_put(p, line->start);
    p = varint_put(p, line->cursor);
    p = varint_put(p, line->tail);
    p = varint_put(p, line->live);
    p = varint_put(p, line->dead);
    return (size_t)(p - begin);
}

int dassie__line_part_read(struct part_reader *r, struct line_row *line)
{
    uint8_t priority;
    if (byte_get(r, &priority) != 0 || byte_get(r, &line->kind) != 0 ||
        line->kind >= LINE_KINDS || varint_get(r, &line->start) != 0 ||
        varint_get(r, &line->cursor) != 0 || varint_get(r, &line->tail) != 0 ||
        varint_get(r, &line->live) != 0 || varint_get(r, &line->dead) != 0) {
        return -1;
    }
    line->priority = (int8_t)(priority ^ 0x80);
    return 0;
}

size_t dassie__store_row_write(uint8_t *p, const struct store_row *row)
{
    uint8_t *begin = p;
    *p++ = RECORD_VERSION;
    p = varint_put(p, row->next);
    p = varint_put(p, row->oldest_set);
    p = varint_put(p, row->folded);
    p = varint_put(p, row->wall_ms);
    p = varint_put(p, row->queues);
    return (size_t)(p - begin);
}

int dassie__store_row_read(struct part_reader *r, const uint8_t *row,
                           size_t len, struct store_row *store)
{
    if (version_open(r, row, len) != 0 || varint_get(r, &store->next) != 0 ||
        varint_get(r, &store->oldest_set) != 0 ||
        varint_get(r, &store->folded) != 0 ||
        varint_get(r, &store->wall_ms) != 0 ||
        varint_get32(r, &store->queues) != 0) {
        return -1;
    }
    return 0;
}
