/* Values: round trips at the edges, every prefix, and garbage. All bytes are
 * read from right before a page that cannot be read. */
#include "config.h"

#include "../lib/record.h"

#include <check.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define GARBAGE_BYTES_MAX 64

static const uint64_t numbers[] = {0,
                                   1,
                                   127,
                                   128,
                                   16383,
                                   16384,
                                   UINT64_C(0xffffffff),
                                   UINT64_C(0x100000000),
                                   UINT64_C(0x7fffffffffffffff),
                                   UINT64_C(0x8000000000000000),
                                   UINT64_MAX};
static const uint32_t small_numbers[] = {0, 1, 127, 128, 65536, UINT32_MAX};

/* ---- The guard page ---- */

static uint8_t *guard;

static void guard_setup(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    ck_assert_int_eq(mprotect(p + page, page, PROT_NONE), 0);
    guard = p + page;
}

static void guard_teardown(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ck_assert_int_eq(munmap(guard - page, 2 * page), 0);
}

/* The bytes, with nothing readable behind them. */
static const uint8_t *guarded(const void *bytes, size_t len)
{
    memcpy(guard - len, bytes, len);
    return guard - len;
}

/* ---- Jobs ---- */

static void job_check(size_t name_len, size_t data_len)
{
    char name[255];
    uint8_t data[300];
    uint8_t row[1024];
    struct job_row back;
    memset(name, 'n', sizeof name);
    memset(data, 'd', sizeof data);
    struct job_row job = {.flags = 0x25,
                          .dropped = data_len == 0,
                          .priority = -20,
                          .queue = UINT32_MAX,
                          .enqueued_ms = UINT64_C(0x1122334455667788),
                          .name = name,
                          .name_len = name_len,
                          .data = data,
                          .data_len = data_len};
    size_t len = dassie__job_row_bytes(name_len, data_len);
    ck_assert_uint_le(len, sizeof row);
    dassie__job_row_write(row, &job);
    const uint8_t *p = guarded(row, len);
    ck_assert_int_eq(dassie__job_row_read(p, len, &back), 0);
    ck_assert_uint_eq(back.flags, job.flags);
    ck_assert(back.dropped == job.dropped);
    ck_assert_int_eq(back.priority, job.priority);
    ck_assert_uint_eq(back.queue, job.queue);
    ck_assert_uint_eq(back.enqueued_ms, job.enqueued_ms);
    ck_assert_uint_eq(back.name_len, name_len);
    ck_assert_uint_eq(back.data_len, data_len);
    ck_assert_int_eq(memcmp(back.name, name, name_len), 0);
    ck_assert_int_eq(back.name[name_len], 0);
    ck_assert_int_eq(memcmp(back.data, data, data_len), 0);
    ck_assert_ptr_eq(back.data + back.data_len, guard);
    ck_assert_uint_eq(get_be32(row + JOB_ROW_QUEUE_AT), job.queue);
}

START_TEST(job_round_trip)
{
    static const size_t lens[] = {0, 1, 254, 255};
    for (size_t i = 0; i < COUNT(lens); i++) {
        for (size_t j = 0; j < COUNT(lens); j++) {
            job_check(lens[i], lens[j]);
        }
    }
}
END_TEST

START_TEST(job_priorities)
{
    uint8_t row[32];
    for (int priority = -128; priority < 128; priority++) {
        struct job_row job = {.priority = (int8_t)priority};
        dassie__job_row_write(row, &job);
        ck_assert_int_eq(
            dassie__job_row_read(guarded(row, dassie__job_row_bytes(0, 0)),
                                 dassie__job_row_bytes(0, 0), &job),
            0);
        ck_assert_int_eq(job.priority, priority);
    }
}
END_TEST

START_TEST(job_prefixes)
{
    uint8_t row[64];
    struct job_row back;
    struct job_row job = {.name = "mail",
                          .name_len = 4,
                          .data = (const uint8_t *)"payload",
                          .data_len = 7};
    size_t head = dassie__job_row_bytes(4, 0);
    dassie__job_row_write(row, &job);
    for (size_t len = 0; len <= head + 7; len++) {
        int rc = dassie__job_row_read(guarded(row, len), len, &back);
        ck_assert_int_eq(rc, len < head ? -1 : 0);
        if (rc == 0) {
            ck_assert_uint_eq(back.data_len, len - head);
        }
    }
    row[head - 1] = 'x'; /* no zero byte behind the name */
    ck_assert_int_eq(
        dassie__job_row_read(guarded(row, head + 7), head + 7, &back), -1);
}
END_TEST

/* A plain job's row has not a byte more than its parts. */
START_TEST(options_cost_nothing)
{
    struct job_row job = {.flags = 0};
    uint8_t row[32];
    ck_assert_uint_eq(dassie__job_options_bytes(&job.options), 0);
    dassie__job_row_write(row, &job);
    ck_assert_uint_eq(row[1], 0);
    ck_assert_uint_eq(dassie__job_row_bytes(0, 0), JOB_ROW_NAME_AT + 1);
}
END_TEST

static void options_check(const struct job_options *options, size_t data_len)
{
    uint8_t row[64 + JOB_OPTIONS_MAX];
    struct job_row back;
    struct job_row job = {.flags = 1,
                          .name = "mail",
                          .name_len = 4,
                          .data = (const uint8_t *)"payload",
                          .data_len = data_len,
                          .options = *options};
    size_t bytes = dassie__job_options_bytes(options);
    size_t len = dassie__job_row_bytes(4, data_len) + bytes;
    ck_assert_uint_le(bytes, JOB_OPTIONS_MAX);
    dassie__job_row_write(row, &job);
    for (size_t n = 0; n < len - data_len; n++) {
        ck_assert_int_eq(dassie__job_row_read(guarded(row, n), n, &back), -1);
    }
    ck_assert_int_eq(dassie__job_row_read(guarded(row, len), len, &back), 0);
    ck_assert_uint_eq(back.flags, 1);
    ck_assert_uint_eq(back.data_len, data_len);
    ck_assert_mem_eq(back.data, "payload", data_len);
    ck_assert_mem_eq(back.options.number, options->number,
                     sizeof options->number);
    ck_assert_uint_eq(back.options.key_len, options->key_len);
    if (options->key_len > 0) {
        ck_assert_mem_eq(back.options.key, options->key, options->key_len);
    }
}

START_TEST(options_round_trip)
{
    uint8_t key[255];
    memset(key, 'k', sizeof key);
    for (unsigned mask = 1; mask < 2u << JOB_NUMBERS; mask++) {
        struct job_options options = {.key = key};
        options.key_len = (mask >> JOB_NUMBERS & 1) * (mask % 255 + 1);
        for (int i = 0; i < JOB_NUMBERS; i++) {
            uint64_t number = numbers[(mask + (unsigned)i) % COUNT(numbers)];
            options.number[i] = (mask >> i & 1) * number;
        }
        if (dassie__job_options_bytes(&options) > 0) {
            options_check(&options, mask % 8);
        }
    }
}
END_TEST

/* What no writer makes: no option, an unknown one, one that is 0, no key. */
START_TEST(options_damaged)
{
    static const uint8_t masks[][3] = {
        {0, 1, 1}, {0x80, 0x08, 1}, {1, 0, 0}, {0x80, 0x04, 0}};
    for (size_t i = 0; i < COUNT(masks); i++) {
        uint8_t row[JOB_ROW_NAME_AT + 4];
        struct job_row job = {.flags = 0};
        dassie__job_row_write(row, &job);
        row[1] = JOB_ROW_OPTIONS;
        memcpy(row + JOB_ROW_NAME_AT + 1, masks[i], sizeof masks[i]);
        ck_assert_int_eq(
            dassie__job_row_read(guarded(row, sizeof row), sizeof row, &job),
            -1);
    }
}
END_TEST

/* ---- Scheduled ---- */

START_TEST(due_round_trip)
{
    uint8_t row[DUE_ROW_MAX + 1];
    struct due_row back;
    for (size_t i = 0; i < COUNT(small_numbers); i++) {
        struct due_row due = {small_numbers[i], (int8_t)(i % 40) - 20,
                              small_numbers[COUNT(small_numbers) - 1 - i],
                              i % 2, numbers[COUNT(numbers) - 1 - i]};
        size_t whole = dassie__due_row_write(row, &due);
        ck_assert_uint_le(whole, DUE_ROW_MAX);
        row[whole] = 0;
        for (size_t len = 0; len <= whole + 1; len++) {
            ck_assert_int_eq(
                dassie__due_row_read(guarded(row, len), len, &back),
                len == whole ? 0 : -1);
        }
        ck_assert_int_eq(dassie__due_row_read(row, whole, &back), 0);
        ck_assert_uint_eq(back.queue, due.queue);
        ck_assert_int_eq(back.priority, due.priority);
        ck_assert_uint_eq(back.attempts, due.attempts);
        ck_assert_int_eq(back.history, due.history);
        ck_assert_uint_eq(back.bytes, due.bytes);
        row[whole - varint_bytes(due.bytes) - 1] = 2;
        ck_assert_int_eq(dassie__due_row_read(row, whole, &back), -1);
    }
}
END_TEST

/* ---- Unique keys and their timers ---- */

START_TEST(unique_round_trip)
{
    uint8_t row[UNIQUE_ROW_MAX + 1];
    struct unique_row back;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        struct unique_row unique = {numbers[i], i % UNTIL_KINDS,
                                    numbers[COUNT(numbers) - 1 - i]};
        size_t whole = dassie__unique_row_write(row, &unique);
        ck_assert_uint_le(whole, UNIQUE_ROW_MAX);
        row[whole] = 0;
        for (size_t len = 0; len <= whole + 1; len++) {
            ck_assert_int_eq(
                dassie__unique_row_read(guarded(row, len), len, &back),
                len == whole ? 0 : -1);
        }
        ck_assert_int_eq(dassie__unique_row_read(row, whole, &back), 0);
        ck_assert_uint_eq(back.id, unique.id);
        ck_assert_uint_eq(back.until, unique.until);
        ck_assert_uint_eq(back.expires_ms, unique.expires_ms);
    }
    struct unique_row strange = {1, UNTIL_KINDS, 1};
    size_t len = dassie__unique_row_write(row, &strange);
    ck_assert_int_eq(dassie__unique_row_read(row, len, &back), -1);
}
END_TEST

START_TEST(timer_round_trip)
{
    uint8_t row[TIMER_ROW_MAX + 1] = {0};
    uint8_t key[KEY_UNIQUE_MAX + 1];
    const uint8_t *back;
    size_t back_len;
    memset(key, 7, sizeof key);
    for (size_t len = 0; len <= KEY_UNIQUE_MAX + 1; len++) {
        bool good = len > 4 && len <= KEY_UNIQUE_MAX;
        row[0] = RECORD_VERSION;
        memcpy(row + 1, key, len < TIMER_ROW_MAX ? len : TIMER_ROW_MAX);
        size_t whole = good ? dassie__timer_row_write(row, key, len) : 1 + len;
        ck_assert_int_eq(dassie__timer_row_read(guarded(row, whole), whole,
                                                &back, &back_len),
                         good ? 0 : -1);
        ck_assert(!good || back_len == len);
        ck_assert(!good || memcmp(back, key, len) == 0);
    }
    ck_assert_int_eq(dassie__timer_row_read(row, 0, &back, &back_len), -1);
}
END_TEST

/* ---- Pending ---- */

START_TEST(pending_round_trip)
{
    uint8_t row[PENDING_ROW_MAX];
    struct pending_row back;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        for (size_t j = 0; j < COUNT(small_numbers); j++) {
            struct pending_row pending = {numbers[i], small_numbers[j]};
            size_t len = dassie__pending_row_write(row, &pending);
            ck_assert_uint_le(len, sizeof row);
            ck_assert_int_eq(
                dassie__pending_row_read(guarded(row, len), len, 9, &back), 0);
            ck_assert_uint_eq(back.id, pending.id);
            ck_assert_uint_eq(back.attempts, pending.attempts);
        }
    }
    ck_assert_int_eq(dassie__pending_row_read(guard, 0, 9, &back), 0);
    ck_assert_uint_eq(back.id, 9);
    ck_assert_uint_eq(back.attempts, 0);
}
END_TEST

START_TEST(pending_prefixes)
{
    uint8_t row[PENDING_ROW_MAX + 1];
    struct pending_row pending = {UINT64_MAX, UINT32_MAX};
    struct pending_row back;
    size_t whole = dassie__pending_row_write(row, &pending);
    row[whole] = 0;
    for (size_t len = 1; len <= whole + 1; len++) {
        ck_assert_int_eq(
            dassie__pending_row_read(guarded(row, len), len, 9, &back),
            len == whole ? 0 : -1);
    }
}
END_TEST

/* ---- Varints ---- */

START_TEST(varint_too_wide)
{
    static const uint8_t over_64[] = {1,    0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0x02, 0};
    static const uint8_t eleven[] = {1,    0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                     0x80, 0x80, 0x80, 0x80, 0x80, 0,    0};
    static const uint8_t over_32[] = {1, 7, 0x80, 0x80, 0x80, 0x80, 0x10};
    static const uint8_t whole_32[] = {1, 7, 0xff, 0xff, 0xff, 0xff, 0x0f};
    struct pending_row back;
    ck_assert_int_eq(dassie__pending_row_read(guarded(over_64, sizeof over_64),
                                              sizeof over_64, 9, &back),
                     -1);
    ck_assert_int_eq(dassie__pending_row_read(guarded(eleven, sizeof eleven),
                                              sizeof eleven, 9, &back),
                     -1);
    ck_assert_int_eq(dassie__pending_row_read(guarded(over_32, sizeof over_32),
                                              sizeof over_32, 9, &back),
                     -1);
    ck_assert_int_eq(
        dassie__pending_row_read(guarded(whole_32, sizeof whole_32),
                                 sizeof whole_32, 9, &back),
        0);
    ck_assert_uint_eq(back.attempts, UINT32_MAX);
}
END_TEST

/* ---- Claim sets ---- */

static const struct claim_entry claims[] = {
    {1, 1}, {2, 1}, {UINT64_MAX, UINT32_MAX}, {0, 0}, {UINT64_MAX, 7},
    {5, 3}, {5, 4},
};

static size_t set_write(uint8_t *row)
{
    uint64_t last = 0;
    size_t len = dassie__claim_set_begin(row);
    for (size_t i = 0; i < COUNT(claims); i++) {
        size_t was = len;
        len = dassie__claim_set_add(row, len, last, &claims[i]);
        ck_assert_uint_le(len - was, CLAIM_ENTRY_MAX);
        last = claims[i].id;
    }
    return len;
}

/* How many claims a set has, or -1 where it is damaged. */
static int set_read(const uint8_t *row, size_t len)
{
    struct claim_reader r;
    struct claim_entry entry;
    int n = 0;
    int more;
    if (dassie__claim_set_open(&r, row, len) != 0) {
        return -1;
    }
    while ((more = dassie__claim_set_next(&r, &entry)) == 1) {
        if ((size_t)n < COUNT(claims)) {
            ck_assert_uint_eq(entry.id, claims[n].id);
            ck_assert_uint_eq(entry.attempt, claims[n].attempt);
        }
        n++;
    }
    return more < 0 ? -1 : n;
}

START_TEST(set_round_trip)
{
    uint8_t row[1 + COUNT(claims) * CLAIM_ENTRY_MAX];
    size_t len = set_write(row);
    ck_assert_int_eq(set_read(guarded(row, len), len), (int)COUNT(claims));
    len = dassie__claim_set_begin(row);
    ck_assert_int_eq(set_read(guarded(row, len), len), 0);
}
END_TEST

/* A prefix is a shorter set where it ends between two claims, else damaged. */
START_TEST(set_prefixes)
{
    uint8_t row[1 + COUNT(claims) * CLAIM_ENTRY_MAX];
    size_t whole = set_write(row);
    int sound = 0;
    for (size_t len = 0; len <= whole; len++) {
        int n = set_read(guarded(row, len), len);
        ck_assert_int_ge(n, -1);
        if (n >= 0) {
            ck_assert_int_eq(n, sound);
            sound++;
        }
    }
    ck_assert_int_eq(sound, (int)COUNT(claims) + 1);
}
END_TEST

/* ---- Ends ---- */

START_TEST(end_round_trip)
{
    static const int codes[] = {0, -1, 1, -5004, INT32_MAX, INT32_MIN};
    uint8_t row[END_ROW_HEAD_MAX + 3];
    struct end_row back;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        for (size_t j = 0; j < COUNT(codes); j++) {
            struct end_row end = {numbers[i],
                                  small_numbers[j],
                                  small_numbers[COUNT(codes) - 1 - j],
                                  codes[j],
                                  NULL,
                                  0};
            size_t len = dassie__end_row_write_head(row, &end);
            ck_assert_uint_le(len, END_ROW_HEAD_MAX);
            memcpy(row + len, "out", 3);
            ck_assert_int_eq(
                dassie__end_row_read(guarded(row, len + 3), len + 3, &back), 0);
            ck_assert_uint_eq(back.ended_ms, end.ended_ms);
            ck_assert_uint_eq(back.attempts, end.attempts);
            ck_assert_uint_eq(back.crashes, end.crashes);
            ck_assert_int_eq(back.code, end.code);
            ck_assert_uint_eq(back.data_len, 3);
            ck_assert_mem_eq(back.data, "out", 3);
        }
    }
}
END_TEST

START_TEST(end_prefixes)
{
    uint8_t row[END_ROW_HEAD_MAX + 3];
    struct end_row end = {UINT64_MAX, 300, 300, -5004, NULL, 0};
    struct end_row back;
    size_t head = dassie__end_row_write_head(row, &end);
    memcpy(row + head, "out", 3);
    for (size_t len = 0; len <= head + 3; len++) {
        int rc = dassie__end_row_read(guarded(row, len), len, &back);
        ck_assert_int_eq(rc, len < head ? -1 : 0);
        if (rc == 0) {
            ck_assert_int_eq(back.code, -5004);
            ck_assert_uint_eq(back.data_len, len - head);
        }
    }
}
END_TEST

START_TEST(end_code_too_wide)
{
    /* zigzag of 2^31 */
    static const uint8_t row[] = {1, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10};
    struct end_row back;
    ck_assert_int_eq(
        dassie__end_row_read(guarded(row, sizeof row), sizeof row, &back), -1);
}
END_TEST

/* ---- History ---- */

START_TEST(history_round_trip)
{
    static const int codes[] = {0, -1, 1, INT32_MIN, INT32_MAX};
    uint8_t row[HISTORY_ROW_HEAD_MAX + 4];
    struct history_row back;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        for (int kind = 0; kind <= PLACE_SCHEDULED; kind++) {
            uint32_t attempts = small_numbers[i % COUNT(small_numbers)];
            struct history_row history = {
                .attempts = attempts,
                .excused = attempts / 2,
                .crashes = small_numbers[(i + 1) % COUNT(small_numbers)],
                .last_run = numbers[i],
                .kind = (uint8_t)kind,
                .position = numbers[COUNT(numbers) - 1 - i],
                .code = codes[i % COUNT(codes)],
                .since_ms = numbers[(i + 1) % COUNT(numbers)]};
            size_t len = dassie__history_row_write_head(row, &history);
            ck_assert_uint_le(len, HISTORY_ROW_HEAD_MAX);
            memcpy(row + len, "text", 4);
            len += 4;
            const uint8_t *p = guarded(row, len);
            ck_assert_int_eq(dassie__history_row_read(p, len, &back), 0);
            ck_assert_uint_eq(back.attempts, history.attempts);
            ck_assert_uint_eq(back.excused, history.excused);
            ck_assert_int_eq(back.code, history.code);
            ck_assert_uint_eq(back.error_len, 4);
            ck_assert_mem_eq(back.error, "text", 4);
            ck_assert_uint_eq(back.crashes, history.crashes);
            ck_assert_uint_eq(back.last_run, history.last_run);
            ck_assert_uint_eq(back.kind, history.kind);
            ck_assert_uint_eq(back.position, history.position);
            ck_assert_uint_eq(back.since_ms, history.since_ms);
        }
    }
}
END_TEST

START_TEST(history_prefixes)
{
    uint8_t row[HISTORY_ROW_HEAD_MAX];
    struct history_row history = {300, 300,       300,  UINT64_MAX, LINE_NORMAL,
                                  300, INT32_MIN, NULL, 0,          300};
    struct history_row back;
    size_t whole = dassie__history_row_write_head(row, &history);
    for (size_t len = 0; len <= whole; len++) {
        ck_assert_int_eq(
            dassie__history_row_read(guarded(row, len), len, &back),
            len == whole ? 0 : -1);
    }
    history.kind = PLACE_SCHEDULED + 1;
    whole = dassie__history_row_write_head(row, &history);
    ck_assert_int_eq(
        dassie__history_row_read(guarded(row, whole), whole, &back), -1);
    history.kind = PLACE_SCHEDULED;
    history.excused = 301;
    whole = dassie__history_row_write_head(row, &history);
    ck_assert_int_eq(
        dassie__history_row_read(guarded(row, whole), whole, &back), -1);
}
END_TEST

/* ---- Settings ---- */

START_TEST(settings_round_trip)
{
    uint8_t row[SETTINGS_ROW_MAX + 1];
    struct settings_row back;
    struct settings_row settings;
    for (size_t n = 0; n < COUNT(numbers); n++) {
        for (size_t i = 0; i < SETTINGS; i++) {
            settings.number[i] = numbers[(n + i) % COUNT(numbers)];
        }
        size_t whole = dassie__settings_row_write(row, &settings);
        ck_assert_uint_le(whole, SETTINGS_ROW_MAX);
        row[whole] = 0;
        for (size_t len = 0; len <= whole + 1; len++) {
            ck_assert_int_eq(
                dassie__settings_row_read(guarded(row, len), len, &back),
                len == whole ? 0 : -1);
        }
        ck_assert_int_eq(dassie__settings_row_read(row, whole, &back), 0);
        ck_assert_mem_eq(&back, &settings, sizeof settings);
    }
}
END_TEST

/* ---- Names ---- */

START_TEST(name_round_trip)
{
    char name[256];
    uint8_t row[NAME_ROW_MAX + 1];
    const char *back;
    size_t back_len;
    memset(name, 'q', sizeof name);
    memset(row, 'q', sizeof row);
    for (size_t len = 1; len <= 255; len++) {
        size_t row_len = dassie__name_row_write(row, name, len);
        ck_assert_uint_eq(row_len, len + 1);
        ck_assert_int_eq(dassie__name_row_read(guarded(row, row_len), row_len,
                                               &back, &back_len),
                         0);
        ck_assert_uint_eq(back_len, len);
        ck_assert_mem_eq(back, name, len);
    }
    ck_assert_int_eq(
        dassie__name_row_read(guarded(row, 1), 1, &back, &back_len), -1);
    ck_assert_int_eq(dassie__name_row_read(guard, 0, &back, &back_len), -1);
    ck_assert_int_eq(dassie__name_row_read(guarded(row, NAME_ROW_MAX + 1),
                                           NAME_ROW_MAX + 1, &back, &back_len),
                     -1);
}
END_TEST

/* ---- Counts ---- */

static const struct tally tally = {1, 128, UINT64_MAX, 0,          300,
                                   5, 6,   7,          UINT64_MAX, 8};
static const struct schedule_row schedule = {1,          UINT64_MAX, 300,
                                             UINT64_MAX, 5,          128};
static const struct line_row lines[] = {
    {-128, LINE_SUSPECT, 0, 0, 0, 0, 0},
    {127, LINE_NORMAL, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
     UINT64_MAX},
    {-3, LINE_FRONT, 1, 2, 300, 4, 5},
};

static size_t commit_write(uint8_t *row)
{
    struct store_row store = {UINT64_MAX,        300,      256,
                              UINT64_C(1) << 41, schedule, 1};
    size_t len = dassie__store_row_write(row, &store);
    ck_assert_uint_le(len, STORE_ROW_MAX);
    size_t part =
        dassie__queue_part_write(row + len, UINT32_MAX, &tally, COUNT(lines));
    ck_assert_uint_le(part, QUEUE_PART_MAX);
    len += part;
    for (size_t i = 0; i < COUNT(lines); i++) {
        part = dassie__line_part_write(row + len, &lines[i]);
        ck_assert_uint_le(part, LINE_PART_MAX);
        len += part;
    }
    return len;
}

static void line_check(const struct line_row *a, const struct line_row *b)
{
    ck_assert_int_eq(a->priority, b->priority);
    ck_assert_uint_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->start, b->start);
    ck_assert_uint_eq(a->cursor, b->cursor);
    ck_assert_uint_eq(a->tail, b->tail);
    ck_assert_uint_eq(a->live, b->live);
    ck_assert_uint_eq(a->dead, b->dead);
}

/* Reads a commit's row as far as it goes: true, to its very end. */
static bool commit_read(const uint8_t *row, size_t len)
{
    struct part_reader r;
    struct store_row store;
    struct tally back;
    uint32_t queue;
    uint32_t n;
    if (dassie__store_row_read(&r, row, len, &store) != 0) {
        return false;
    }
    ck_assert_uint_eq(store.next, UINT64_MAX);
    ck_assert_uint_eq(store.oldest_set, 300);
    ck_assert_uint_eq(store.folded, 256);
    ck_assert_uint_eq(store.wall_ms, UINT64_C(1) << 41);
    ck_assert_mem_eq(&store.schedule, &schedule, sizeof schedule);
    ck_assert_uint_eq(store.queues, 1);
    if (dassie__queue_part_read(&r, &queue, &back, &n) != 0) {
        return false;
    }
    ck_assert_uint_eq(queue, UINT32_MAX);
    ck_assert_mem_eq(&back, &tally, sizeof tally);
    ck_assert_uint_eq(n, COUNT(lines));
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct line_row line;
        if (dassie__line_part_read(&r, &line) != 0) {
            return false;
        }
        line_check(&line, &lines[i]);
    }
    return r.p == r.end;
}

START_TEST(commit_round_trip)
{
    uint8_t row[STORE_ROW_MAX + QUEUE_PART_MAX + COUNT(lines) * LINE_PART_MAX];
    size_t whole = commit_write(row);
    for (size_t len = 0; len < whole; len++) {
        ck_assert(!commit_read(guarded(row, len), len));
    }
    ck_assert(commit_read(guarded(row, whole), whole));
}
END_TEST

START_TEST(line_kind_refused)
{
    uint8_t row[LINE_PART_MAX];
    struct line_row line = {0, LINE_KINDS, 1, 1, 1, 1, 0};
    size_t len = dassie__line_part_write(row, &line);
    const uint8_t *p = guarded(row, len);
    struct part_reader r = {p, p + len};
    ck_assert_int_eq(dassie__line_part_read(&r, &line), -1);
}
END_TEST

/* ---- Versions and garbage ---- */

/* Every reader refuses every version but its own. */
START_TEST(versions)
{
    uint8_t row[64] = {0};
    struct job_row job;
    struct pending_row pending;
    struct claim_reader set;
    struct end_row end;
    struct history_row history;
    struct due_row due;
    struct unique_row unique;
    struct part_reader part;
    struct store_row store;
    const uint8_t *key;
    const char *name;
    size_t len;
    for (unsigned version = 0; version < 256; version++) {
        int rc = version == RECORD_VERSION ? 0 : -1;
        row[0] = (uint8_t)version;
        ck_assert_int_eq(dassie__job_row_read(row, 20, &job), rc);
        ck_assert_int_eq(dassie__pending_row_read(row, 3, 1, &pending), rc);
        ck_assert_int_eq(dassie__claim_set_open(&set, row, 3), rc);
        ck_assert_int_eq(dassie__end_row_read(row, 8, &end), rc);
        ck_assert_int_eq(dassie__history_row_read(row, 8, &history), rc);
        ck_assert_int_eq(dassie__due_row_read(row, 6, &due), rc);
        ck_assert_int_eq(dassie__unique_row_read(row, 4, &unique), rc);
        ck_assert_int_eq(dassie__timer_row_read(row, 6, &key, &len), rc);
        ck_assert_int_eq(dassie__name_row_read(row, 3, &name, &len), rc);
        ck_assert_int_eq(dassie__store_row_read(&part, row, 14, &store), rc);
    }
}
END_TEST

static uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t dice(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void garbage_rows(const uint8_t *p, size_t len)
{
    struct job_row job;
    struct pending_row pending;
    struct end_row end;
    struct history_row history;
    struct unique_row unique;
    const uint8_t *key;
    const char *name;
    size_t name_len;
    if (dassie__unique_row_read(p, len, &unique) == 0) {
        ck_assert_uint_lt(unique.until, UNTIL_KINDS);
    }
    if (dassie__timer_row_read(p, len, &key, &name_len) == 0) {
        ck_assert_ptr_eq(key + name_len, p + len);
    }
    if (dassie__job_row_read(p, len, &job) == 0) {
        ck_assert_uint_le(dassie__job_row_bytes(job.name_len, job.data_len) +
                              dassie__job_options_bytes(&job.options),
                          len);
        ck_assert_ptr_eq(job.data + job.data_len, p + len);
    }
    if (dassie__pending_row_read(p, len, 1, &pending) == 0 && len > 0) {
        ck_assert_uint_eq(p[0], RECORD_VERSION);
    }
    if (dassie__end_row_read(p, len, &end) == 0) {
        ck_assert_ptr_eq(end.data + end.data_len, p + len);
    }
    if (dassie__history_row_read(p, len, &history) == 0) {
        ck_assert_uint_le(history.kind, PLACE_SCHEDULED);
        ck_assert_ptr_eq(history.error + history.error_len, p + len);
    }
    if (dassie__name_row_read(p, len, &name, &name_len) == 0) {
        ck_assert_uint_eq(name_len + 1, len);
    }
}

static void garbage_parts(const uint8_t *p, size_t len)
{
    struct part_reader r;
    struct store_row store;
    struct claim_reader set;
    struct claim_entry entry;
    struct tally counts;
    struct line_row line;
    uint32_t queue;
    uint32_t n;
    size_t claimed = 0;
    if (dassie__claim_set_open(&set, p, len) == 0) {
        while (dassie__claim_set_next(&set, &entry) == 1) {
            claimed++;
        }
        ck_assert_uint_le(2 * claimed + 1, len);
    }
    if (dassie__store_row_read(&r, p, len, &store) == 0 &&
        dassie__queue_part_read(&r, &queue, &counts, &n) == 0) {
        while (dassie__line_part_read(&r, &line) == 0) {
            ck_assert_uint_lt(line.kind, LINE_KINDS);
        }
        ck_assert(r.p <= r.end);
    }
}

START_TEST(garbage)
{
    uint8_t bytes[GARBAGE_BYTES_MAX];
    const char *given = getenv("SEED");
    unsigned rounds = getenv("NIGHTLY") != NULL ? 2000000 : 50000;
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    }
    printf("SEED=%llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < rounds; i++) {
        size_t len = dice() % (GARBAGE_BYTES_MAX + 1);
        uint64_t mask = dice() % 2 == 0 ? 0xff : 0x83;
        for (size_t at = 0; at < len; at++) {
            bytes[at] = (uint8_t)(dice() & mask);
        }
        if (len > 0 && dice() % 8 != 0) {
            bytes[0] = RECORD_VERSION;
        }
        garbage_rows(guarded(bytes, len), len);
        garbage_parts(guarded(bytes, len), len);
    }
}
END_TEST

static Suite *record_suite(void)
{
    Suite *suite = suite_create("record");
    TCase *tc = tcase_create("record");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, guard_setup, guard_teardown);
    tcase_add_test(tc, job_round_trip);
    tcase_add_test(tc, job_priorities);
    tcase_add_test(tc, job_prefixes);
    tcase_add_test(tc, options_cost_nothing);
    tcase_add_test(tc, options_round_trip);
    tcase_add_test(tc, options_damaged);
    tcase_add_test(tc, due_round_trip);
    tcase_add_test(tc, unique_round_trip);
    tcase_add_test(tc, timer_round_trip);
    tcase_add_test(tc, settings_round_trip);
    tcase_add_test(tc, pending_round_trip);
    tcase_add_test(tc, pending_prefixes);
    tcase_add_test(tc, varint_too_wide);
    tcase_add_test(tc, set_round_trip);
    tcase_add_test(tc, set_prefixes);
    tcase_add_test(tc, end_round_trip);
    tcase_add_test(tc, end_prefixes);
    tcase_add_test(tc, end_code_too_wide);
    tcase_add_test(tc, history_round_trip);
    tcase_add_test(tc, history_prefixes);
    tcase_add_test(tc, name_round_trip);
    tcase_add_test(tc, commit_round_trip);
    tcase_add_test(tc, line_kind_refused);
    tcase_add_test(tc, versions);
    tcase_add_test(tc, garbage);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(record_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
