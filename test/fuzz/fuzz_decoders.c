/* fuzz_decoders.c: whatever bytes stand on disk, or come through the
 * admin socket, their decoder returns, reads
 * nothing beside them, and what it takes can be written and read again.
 *
 * The first byte chooses the decoder, the rest is its input. With libFuzzer
 * ("make check-fuzz") this is the whole program; "make check" replays the
 * corpus through test_corpus.c. */
#include "config.h"

#include "fuzz.h"

#include "../../lib/record.h"

#include <string.h>

/* Written values may be shorter than what was read: a varint may have been
 * padded. They say the same. */
#define SAME(a, b, member) MUST((a).member == (b).member)

static void job(const uint8_t *p, size_t len)
{
    struct job_row row;
    if (dassie__job_row_read(p, len, &row) != 0) {
        return;
    }
    struct job_row again;
    size_t bytes = dassie__job_row_bytes(row.name_len, row.data_len) +
                   dassie__job_options_bytes(&row.options);
    uint8_t *copy = malloc(bytes);
    MUST(bytes <= len && copy != NULL);
    dassie__job_row_write(copy, &row);
    MUST(dassie__job_row_read(copy, bytes, &again) == 0);
    MUST(memcmp(copy, p, JOB_ROW_NAME_AT) == 0);
    SAME(row, again, flags);
    SAME(row, again, dropped);
    SAME(row, again, name_len);
    SAME(row, again, data_len);
    SAME(row, again, options.key_len);
    MUST(memcmp(row.name, again.name, row.name_len + 1) == 0);
    MUST(memcmp(row.data, again.data, row.data_len) == 0);
    MUST(memcmp(row.options.number, again.options.number,
                sizeof row.options.number) == 0);
    MUST(row.options.key_len == 0 ||
         memcmp(row.options.key, again.options.key, row.options.key_len) == 0);
    free(copy);
}

static void due(const uint8_t *p, size_t len)
{
    struct due_row row;
    struct due_row again;
    uint8_t copy[DUE_ROW_MAX];
    if (dassie__due_row_read(p, len, &row) != 0) {
        return;
    }
    size_t n = dassie__due_row_write(copy, &row);
    MUST(n <= sizeof copy && dassie__due_row_read(copy, n, &again) == 0);
    SAME(row, again, queue);
    SAME(row, again, priority);
    SAME(row, again, attempts);
    SAME(row, again, history);
}

static void unique(const uint8_t *p, size_t len)
{
    struct unique_row row;
    struct unique_row again;
    uint8_t copy[UNIQUE_ROW_MAX];
    if (dassie__unique_row_read(p, len, &row) != 0) {
        return;
    }
    size_t n = dassie__unique_row_write(copy, &row);
    MUST(n <= sizeof copy && dassie__unique_row_read(copy, n, &again) == 0);
    SAME(row, again, id);
    SAME(row, again, until);
    SAME(row, again, expires_ms);
}

static void timer(const uint8_t *p, size_t len)
{
    const uint8_t *key;
    size_t key_len;
    uint32_t queue;
    uint8_t copy[TIMER_ROW_MAX];
    if (dassie__timer_row_read(p, len, &key, &key_len) != 0) {
        return;
    }
    MUST(dassie__timer_row_write(copy, key, key_len) == len);
    MUST(memcmp(copy, p, len) == 0);
    MUST(dassie__key_parse_unique(key, key_len, &queue) == 0);
    MUST(dassie__key_unique(copy, queue, key + 4, key_len - 4) == key_len);
    MUST(memcmp(copy, key, key_len) == 0);
}

static void pending(const uint8_t *p, size_t len)
{
    struct pending_row row;
    struct pending_row again;
    uint8_t copy[PENDING_ROW_MAX];
    if (dassie__pending_row_read(p, len, 7, &row) != 0) {
        return;
    }
    size_t n = dassie__pending_row_write(copy, &row);
    MUST(n <= sizeof copy && dassie__pending_row_read(copy, n, 8, &again) == 0);
    SAME(row, again, id);
    SAME(row, again, attempts);
}

static void claim_set(const uint8_t *p, size_t len)
{
    struct claim_reader reader;
    struct claim_entry entry;
    if (dassie__claim_set_open(&reader, p, len) != 0) {
        return;
    }
    uint64_t last = 0;
    while (dassie__claim_set_next(&reader, &entry) == 1) {
        struct claim_reader again;
        struct claim_entry same;
        uint8_t copy[1 + 2 * CLAIM_ENTRY_MAX];
        struct claim_entry before = {last, 1};
        size_t n = dassie__claim_set_begin(copy);
        n = dassie__claim_set_add(copy, n, 0, &before);
        n = dassie__claim_set_add(copy, n, last, &entry);
        MUST(n <= sizeof copy && dassie__claim_set_open(&again, copy, n) == 0 &&
             dassie__claim_set_next(&again, &same) == 1 &&
             dassie__claim_set_next(&again, &same) == 1);
        SAME(entry, same, id);
        SAME(entry, same, attempt);
        MUST(dassie__claim_set_next(&again, &same) == 0);
        last = entry.id;
    }
}

static void end(const uint8_t *p, size_t len)
{
    struct end_row row;
    struct end_row again;
    uint8_t copy[END_ROW_HEAD_MAX];
    if (dassie__end_row_read(p, len, &row) != 0) {
        return;
    }
    MUST(row.data + row.data_len == p + len);
    size_t n = dassie__end_row_write_head(copy, &row);
    MUST(n <= sizeof copy && dassie__end_row_read(copy, n, &again) == 0);
    SAME(row, again, ended_ms);
    SAME(row, again, attempts);
    SAME(row, again, crashes);
    SAME(row, again, code);
}

static void history(const uint8_t *p, size_t len)
{
    struct history_row row;
    struct history_row again;
    uint8_t copy[HISTORY_ROW_HEAD_MAX];
    if (dassie__history_row_read(p, len, &row) != 0) {
        return;
    }
    MUST(row.error + row.error_len == p + len);
    size_t n = dassie__history_row_write_head(copy, &row);
    MUST(n <= sizeof copy && dassie__history_row_read(copy, n, &again) == 0);
    SAME(row, again, attempts);
    SAME(row, again, excused);
    SAME(row, again, crashes);
    SAME(row, again, last_run);
    SAME(row, again, kind);
    SAME(row, again, position);
    SAME(row, again, code);
}

static void settings(const uint8_t *p, size_t len)
{
    struct settings_row row;
    struct settings_row again;
    uint8_t copy[SETTINGS_ROW_MAX];
    if (dassie__settings_row_read(p, len, &row) != 0) {
        return;
    }
    size_t n = dassie__settings_row_write(copy, &row);
    MUST(n <= sizeof copy && dassie__settings_row_read(copy, n, &again) == 0);
    MUST(memcmp(&row, &again, sizeof row) == 0);
}

static void name(const uint8_t *p, size_t len)
{
    const char *text;
    size_t n;
    uint8_t copy[NAME_ROW_MAX];
    if (dassie__name_row_read(p, len, &text, &n) == 0) {
        MUST(n > 0 && dassie__name_row_write(copy, text, n) == len);
        MUST(memcmp(copy, p, len) == 0);
    }
}

static int line(struct part_reader *r)
{
    struct line_row row;
    struct line_row again;
    uint8_t copy[LINE_PART_MAX];
    if (dassie__line_part_read(r, &row) != 0) {
        return -1;
    }
    size_t n = dassie__line_part_write(copy, &row);
    struct part_reader reader = {copy, copy + n};
    MUST(n <= sizeof copy && dassie__line_part_read(&reader, &again) == 0);
    SAME(row, again, priority);
    SAME(row, again, kind);
    SAME(row, again, start);
    SAME(row, again, cursor);
    SAME(row, again, tail);
    SAME(row, again, live);
    SAME(row, again, dead);
    return 0;
}

static int part(struct part_reader *r)
{
    struct tally tally;
    struct tally again;
    uint32_t queue[2];
    uint32_t lines[2];
    uint8_t copy[QUEUE_PART_MAX];
    if (dassie__queue_part_read(r, &queue[0], &tally, &lines[0]) != 0) {
        return -1;
    }
    size_t n = dassie__queue_part_write(copy, queue[0], &tally, lines[0]);
    struct part_reader reader = {copy, copy + n};
    MUST(n <= sizeof copy &&
         dassie__queue_part_read(&reader, &queue[1], &again, &lines[1]) == 0);
    MUST(queue[0] == queue[1] && lines[0] == lines[1]);
    MUST(memcmp(&tally, &again, sizeof tally) == 0);
    for (uint32_t i = 0; i < lines[0]; i++) {
        if (line(r) != 0) {
            return -1;
        }
    }
    return 0;
}

static void commit(const uint8_t *p, size_t len)
{
    struct part_reader r;
    struct store_row row;
    struct store_row again;
    uint8_t copy[STORE_ROW_MAX];
    if (dassie__store_row_read(&r, p, len, &row) != 0) {
        return;
    }
    size_t n = dassie__store_row_write(copy, &row);
    struct part_reader reader;
    MUST(n <= sizeof copy &&
         dassie__store_row_read(&reader, copy, n, &again) == 0);
    SAME(row, again, next);
    SAME(row, again, oldest_set);
    SAME(row, again, folded);
    SAME(row, again, wall_ms);
    MUST(memcmp(&row.schedule, &again.schedule, sizeof row.schedule) == 0);
    SAME(row, again, queues);
    for (uint32_t i = 0; i < row.queues && part(&r) == 0; i++) {
    }
}

static void save(const uint8_t *p, size_t len)
{
    struct save_row row;
    struct save_row again;
    uint8_t copy[SAVE_ROW_HEAD_MAX];
    if (dassie__save_row_read(p, len, &row) != 0) {
        return;
    }
    MUST(row.data + row.data_len == p + len);
    size_t n = dassie__save_row_write_head(copy, &row);
    MUST(n <= sizeof copy && dassie__save_row_read(copy, n, &again) == 0);
    SAME(row, again, done);
    SAME(row, again, total);
    SAME(row, again, text_len);
    MUST(memcmp(row.text, again.text, row.text_len) == 0);
}

static void keys(const uint8_t *p, size_t len)
{
    uint8_t copy[KEY_BYTES_MAX];
    uint64_t number;
    uint32_t queue;
    struct place place;
    struct due when;
    char tag;
    if (dassie__key_parse_number(p, len, &number) == 0) {
        dassie__key_number(copy, number);
        MUST(memcmp(copy, p, len) == 0);
    }
    if (dassie__key_parse_pending(p, len, &place) == 0) {
        dassie__key_pending(copy, &place);
        MUST(memcmp(copy, p, len) == 0);
    }
    if (dassie__key_parse_due(p, len, &when) == 0) {
        dassie__key_due(copy, &when);
        MUST(memcmp(copy, p, len) == 0);
    }
    if (dassie__key_parse_save(p, len, &number) == 0) {
        dassie__key_save(copy, number);
        MUST(memcmp(copy, p, len) == 0);
    }
    if (dassie__key_parse_queue(p, len, &tag, &queue) == 0) {
        dassie__key_queue(copy, tag, queue);
        MUST(memcmp(copy, p, len) == 0);
    }
}

#define FIRST_OF_WIRE 0xfe

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const decoders[])(const uint8_t *, size_t) = {
        job,  pending, claim_set, end,  history, name, commit,
        keys, due,     settings,  save, unique,  timer};
    if (size < 2) {
        return 0;
    }
    /* In a block of its own, so that a sanitizer sees a byte too many. */
    uint8_t *input = malloc(size - 1);
    MUST(input != NULL);
    memcpy(input, data + 1, size - 1);
    if (data[0] >= FIRST_OF_WIRE) {
        (data[0] % 2 == 0 ? fuzz_request : fuzz_reply)(input, size - 1);
    } else {
        decoders[data[0] % (sizeof decoders / sizeof decoders[0])](input,
                                                                   size - 1);
    }
    free(input);
    return 0;
}
