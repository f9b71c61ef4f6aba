#include "config.h"

#include "record.h"

#include <string.h>

static int version_open(struct part_reader *r, const uint8_t *row, size_t len)
{
    r->p = row;
    r->end = row + len;
    uint8_t version = 0;
    return byte_get(r, &version) == 0 && version == RECORD_VERSION ? 0 : -1;
}

/* ---- Jobs ---- */

#define MASK_KEY (1u << JOB_NUMBERS)

static unsigned options_mask(const struct job_options *options)
{
    unsigned mask = options->key_len > 0 ? MASK_KEY : 0;
    for (int i = 0; i < JOB_NUMBERS; i++) {
        mask |= options->number[i] != 0 ? 1u << i : 0;
    }
    return mask;
}

static uint8_t *options_put(uint8_t *p, const struct job_options *options,
                            unsigned mask)
{
    p = varint_put(p, mask);
    for (int i = 0; i < JOB_NUMBERS; i++) {
        if (options->number[i] != 0) {
            p = varint_put(p, options->number[i]);
        }
    }
    if (options->key_len > 0) {
        *p++ = (uint8_t)options->key_len;
        memcpy(p, options->key, options->key_len);
        p += options->key_len;
    }
    return p;
}

static int options_get(struct part_reader *r, struct job_options *options)
{
    uint64_t mask;
    uint8_t len = 0;
    if (varint_get(r, &mask) != 0 || mask == 0 || mask >= 2 * MASK_KEY) {
        return -1;
    }
    for (int i = 0; i < JOB_NUMBERS; i++) {
        if ((mask >> i & 1) != 0 && (varint_get(r, &options->number[i]) != 0 ||
                                     options->number[i] == 0)) {
            return -1;
        }
    }
    if ((mask & MASK_KEY) == 0) {
        return 0;
    }
    if (byte_get(r, &len) != 0 || len == 0 || len > r->end - r->p) {
        return -1;
    }
    options->key = r->p;
    options->key_len = len;
    r->p += len;
    return 0;
}

size_t dassie__job_options_bytes(const struct job_options *options)
{
    unsigned mask = options_mask(options);
    size_t n = mask == 0 ? 0 : varint_bytes(mask);
    for (int i = 0; i < JOB_NUMBERS; i++) {
        n += options->number[i] == 0 ? 0 : varint_bytes(options->number[i]);
    }
    return n + (options->key_len > 0 ? 1 + options->key_len : 0);
}

size_t dassie__job_row_bytes(size_t name_len, size_t data_len)
{
    return JOB_ROW_NAME_AT + name_len + 1 + data_len;
}

void dassie__job_row_write(uint8_t *row, const struct job_row *job)
{
    unsigned mask = options_mask(&job->options);
    row[0] = RECORD_VERSION;
    row[1] = job->flags | (mask != 0 ? JOB_ROW_OPTIONS : 0) |
             (job->dropped ? JOB_ROW_DROPPED : 0);
    row[2] = (uint8_t)((uint8_t)job->priority ^ 0x80);
    row[3] = (uint8_t)job->name_len;
    put_be32(row + JOB_ROW_QUEUE_AT, job->queue);
    put_be64(row + 8, job->enqueued_ms);
    if (job->name_len > 0) {
        memcpy(row + JOB_ROW_NAME_AT, job->name, job->name_len);
    }
    uint8_t *p = row + JOB_ROW_NAME_AT + job->name_len;
    *p++ = 0;
    if (mask != 0) {
        p = options_put(p, &job->options, mask);
    }
    if (job->data_len > 0) {
        memcpy(p, job->data, job->data_len);
    }
}

int dassie__job_row_read(const uint8_t *row, size_t len, struct job_row *job)
{
    if (len < JOB_ROW_NAME_AT + 1 || row[0] != RECORD_VERSION) {
        return -1;
    }
    job->flags = row[1] & (uint8_t) ~(JOB_ROW_OPTIONS | JOB_ROW_DROPPED);
    job->dropped = (row[1] & JOB_ROW_DROPPED) != 0;
    job->priority = (int8_t)(row[2] ^ 0x80);
    job->name_len = row[3];
    job->queue = get_be32(row + JOB_ROW_QUEUE_AT);
    job->enqueued_ms = get_be64(row + 8);
    size_t head = dassie__job_row_bytes(job->name_len, 0);
    if (len < head || row[head - 1] != 0) {
        return -1;
    }
    struct part_reader r = {row + head, row + len};
    memset(&job->options, 0, sizeof job->options);
    if ((row[1] & JOB_ROW_OPTIONS) != 0 &&
        options_get(&r, &job->options) != 0) {
        return -1;
    }
    job->name = (const char *)row + JOB_ROW_NAME_AT;
    job->data = r.p;
    job->data_len = (size_t)(r.end - r.p);
    return 0;
}

/* ---- Places ---- */

size_t dassie__due_row_write(uint8_t *row, const struct due_row *due)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, due->queue);
    *p++ = (uint8_t)((uint8_t)due->priority ^ 0x80);
    p = varint_put(p, due->attempts);
    *p++ = due->history;
    p = varint_put(p, due->bytes);
    return (size_t)(p - row);
}

int dassie__due_row_read(const uint8_t *row, size_t len, struct due_row *due)
{
    struct part_reader r;
    uint8_t priority;
    uint8_t history;
    if (version_open(&r, row, len) != 0 || varint_get32(&r, &due->queue) != 0 ||
        byte_get(&r, &priority) != 0 || varint_get32(&r, &due->attempts) != 0 ||
        byte_get(&r, &history) != 0 || history > 1 ||
        varint_get(&r, &due->bytes) != 0 || r.p != r.end) {
        return -1;
    }
    due->priority = (int8_t)(priority ^ 0x80);
    due->history = history;
    return 0;
}

size_t dassie__unique_row_write(uint8_t *row, const struct unique_row *unique)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, unique->id);
    *p++ = unique->until;
    p = varint_put(p, unique->expires_ms);
    return (size_t)(p - row);
}

int dassie__unique_row_read(const uint8_t *row, size_t len,
                            struct unique_row *unique)
{
    struct part_reader r;
    return version_open(&r, row, len) != 0 ||
                   varint_get(&r, &unique->id) != 0 ||
                   byte_get(&r, &unique->until) != 0 ||
                   varint_get(&r, &unique->expires_ms) != 0 ||
                   unique->until >= UNTIL_KINDS || r.p != r.end
               ? -1
               : 0;
}

size_t dassie__timer_row_write(uint8_t *row, const uint8_t *key, size_t len)
{
    row[0] = RECORD_VERSION;
    memcpy(row + 1, key, len);
    return 1 + len;
}

int dassie__timer_row_read(const uint8_t *row, size_t len, const uint8_t **key,
                           size_t *key_len)
{
    struct part_reader r;
    uint32_t queue;
    if (version_open(&r, row, len) != 0 ||
        dassie__key_parse_unique(r.p, (size_t)(r.end - r.p), &queue) != 0) {
        return -1;
    }
    *key = r.p;
    *key_len = (size_t)(r.end - r.p);
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
    if (version_open(&r, row, len) != 0 ||
        varint_get(&r, &end->ended_ms) != 0 ||
        varint_get32(&r, &end->attempts) != 0 ||
        varint_get32(&r, &end->crashes) != 0 ||
        zigzag_get32(&r, &end->code) != 0) {
        return -1;
    }
    end->data = r.p;
    end->data_len = (size_t)(r.end - r.p);
    return 0;
}

size_t dassie__history_row_write_head(uint8_t *row,
                                      const struct history_row *history)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, history->attempts);
    p = varint_put(p, history->excused);
    p = varint_put(p, history->crashes);
    p = varint_put(p, history->last_run);
    *p++ = history->kind | (history->since_ms != 0 ? HISTORY_SINCE : 0);
    p = varint_put(p, history->position);
    p = varint_put(p, zigzag(history->code));
    if (history->since_ms != 0) {
        p = varint_put(p, history->since_ms);
    }
    return (size_t)(p - row);
}

int dassie__history_row_read(const uint8_t *row, size_t len,
                             struct history_row *history)
{
    struct part_reader r;
    uint8_t kind;
    if (version_open(&r, row, len) != 0 ||
        varint_get32(&r, &history->attempts) != 0 ||
        varint_get32(&r, &history->excused) != 0 ||
        history->excused > history->attempts ||
        varint_get32(&r, &history->crashes) != 0 ||
        varint_get(&r, &history->last_run) != 0 || byte_get(&r, &kind) != 0 ||
        (kind & ~HISTORY_SINCE) > PLACE_SCHEDULED ||
        varint_get(&r, &history->position) != 0 ||
        zigzag_get32(&r, &history->code) != 0) {
        return -1;
    }
    history->kind = kind & (uint8_t)~HISTORY_SINCE;
    history->since_ms = 0;
    if (kind != history->kind &&
        (varint_get(&r, &history->since_ms) != 0 || history->since_ms == 0)) {
        return -1;
    }
    history->error = r.p;
    history->error_len = (size_t)(r.end - r.p);
    return 0;
}

size_t dassie__save_row_write_head(uint8_t *row, const struct save_row *save)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    p = varint_put(p, save->done);
    p = varint_put(p, save->total);
    *p++ = (uint8_t)save->text_len;
    if (save->text_len > 0) {
        memcpy(p, save->text, save->text_len);
    }
    return (size_t)(p - row) + save->text_len;
}

int dassie__save_row_read(const uint8_t *row, size_t len, struct save_row *save)
{
    struct part_reader r;
    uint8_t text_len;
    if (version_open(&r, row, len) != 0 || varint_get(&r, &save->done) != 0 ||
        varint_get(&r, &save->total) != 0 || byte_get(&r, &text_len) != 0 ||
        text_len > r.end - r.p) {
        return -1;
    }
    save->text = (const char *)r.p;
    save->text_len = text_len;
    save->data = r.p + text_len;
    save->data_len = (size_t)(r.end - save->data);
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

size_t dassie__settings_row_write(uint8_t *row,
                                  const struct settings_row *settings)
{
    uint8_t *p = row;
    *p++ = RECORD_VERSION;
    for (int i = 0; i < SETTINGS; i++) {
        p = varint_put(p, settings->number[i]);
    }
    return (size_t)(p - row);
}

int dassie__settings_row_read(const uint8_t *row, size_t len,
                              struct settings_row *settings)
{
    struct part_reader r;
    if (version_open(&r, row, len) != 0) {
        return -1;
    }
    for (int i = 0; i < SETTINGS; i++) {
        if (varint_get(&r, &settings->number[i]) != 0) {
            return -1;
        }
    }
    return r.p == r.end ? 0 : -1;
}

/* A tally's numbers in their order on disk. */
#define TALLY_NUMBERS 10

static void tally_list(struct tally *t, uint64_t *list[TALLY_NUMBERS])
{
    uint64_t *const all[TALLY_NUMBERS] = {
        &t->pending,        &t->scheduled,      &t->running,
        &t->complete,       &t->failed,         &t->cancelled,
        &t->pending_bytes,  &t->complete_bytes, &t->failed_bytes,
        &t->cancelled_bytes};
    memcpy(list, all, sizeof all);
}

size_t dassie__queue_part_write(uint8_t *p, uint32_t queue,
                                const struct tally *tally, uint32_t lines)
{
    uint8_t *begin = p;
    p = varint_put(p, queue);
    struct tally copy = *tally;
    uint64_t *list[TALLY_NUMBERS];
    tally_list(&copy, list);
    for (int i = 0; i < TALLY_NUMBERS; i++) {
        p = varint_put(p, *list[i]);
    }
    p = varint_put(p, lines);
    return (size_t)(p - begin);
}

int dassie__queue_part_read(struct part_reader *r, uint32_t *queue,
                            struct tally *tally, uint32_t *lines)
{
    uint64_t *list[TALLY_NUMBERS];
    tally_list(tally, list);
    if (varint_get32(r, queue) != 0) {
        return -1;
    }
    for (int i = 0; i < TALLY_NUMBERS; i++) {
        if (varint_get(r, list[i]) != 0) {
            return -1;
        }
    }
    return varint_get32(r, lines);
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
    p = varint_put(p, row->schedule.start_ms);
    p = varint_put(p, row->schedule.start_id);
    p = varint_put(p, row->schedule.head_ms);
    p = varint_put(p, row->schedule.head_id);
    p = varint_put(p, row->schedule.live);
    p = varint_put(p, row->schedule.dead);
    p = varint_put(p, row->queues);
    return (size_t)(p - begin);
}

static int schedule_get(struct part_reader *r, struct schedule_row *row)
{
    return varint_get(r, &row->start_ms) != 0 ||
                   varint_get(r, &row->start_id) != 0 ||
                   varint_get(r, &row->head_ms) != 0 ||
                   varint_get(r, &row->head_id) != 0 ||
                   varint_get(r, &row->live) != 0 ||
                   varint_get(r, &row->dead) != 0
               ? -1
               : 0;
}

int dassie__store_row_read(struct part_reader *r, const uint8_t *row,
                           size_t len, struct store_row *store)
{
    if (version_open(r, row, len) != 0 || varint_get(r, &store->next) != 0 ||
        varint_get(r, &store->oldest_set) != 0 ||
        varint_get(r, &store->folded) != 0 ||
        varint_get(r, &store->wall_ms) != 0 ||
        schedule_get(r, &store->schedule) != 0 ||
        varint_get32(r, &store->queues) != 0) {
        return -1;
    }
    return 0;
}
