/* Keys: round trips, refusals, and bytes that sort as what they stand for. */
#include "config.h"

#include "../lib/key.h"

#include <check.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const uint64_t numbers[] = {0,
                                   1,
                                   255,
                                   256,
                                   65535,
                                   65536,
                                   UINT64_C(0xffffffff),
                                   UINT64_C(0x100000000),
                                   UINT64_C(0x7fffffffffffffff),
                                   UINT64_C(0x8000000000000000),
                                   UINT64_MAX};

START_TEST(number_round_trip)
{
    uint8_t key[KEY_NUMBER_BYTES + 1];
    uint64_t back;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        dassie__key_number(key, numbers[i]);
        ck_assert_int_eq(dassie__key_parse_number(key, KEY_NUMBER_BYTES, &back),
                         0);
        ck_assert_uint_eq(back, numbers[i]);
    }
    dassie__key_number(key, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(key, "\1\2\3\4\5\6\7\10", KEY_NUMBER_BYTES);
}
END_TEST

START_TEST(number_order)
{
    uint8_t low[KEY_NUMBER_BYTES];
    uint8_t high[KEY_NUMBER_BYTES];
    for (size_t i = 1; i < COUNT(numbers); i++) {
        dassie__key_number(low, numbers[i - 1]);
        dassie__key_number(high, numbers[i]);
        ck_assert_mem_lt(low, high, KEY_NUMBER_BYTES);
    }
}
END_TEST

START_TEST(number_refused)
{
    static const uint8_t key[KEY_NUMBER_BYTES + 1] = {0};
    uint64_t number;
    for (size_t len = 0; len <= sizeof key; len++) {
        ck_assert_int_eq(dassie__key_parse_number(key, len, &number),
                         len == KEY_NUMBER_BYTES ? 0 : -1);
    }
}
END_TEST

START_TEST(be_round_trip)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < COUNT(numbers); i++) {
        put_be64(bytes, numbers[i]);
        ck_assert_uint_eq(get_be64(bytes), numbers[i]);
        put_be32(bytes, (uint32_t)numbers[i]);
        ck_assert_uint_eq(get_be32(bytes), (uint32_t)numbers[i]);
    }
}
END_TEST

/* In the order in which they must sort. */
static const struct place places[] = {
    {0, -128, LINE_SUSPECT, 0},
    {0, -128, LINE_SUSPECT, UINT64_MAX},
    {0, -128, LINE_FRONT, 0},
    {0, -20, LINE_NORMAL, 7},
    {0, -1, LINE_SUSPECT, 1},
    {0, -1, LINE_NORMAL, 1},
    {0, 0, LINE_SUSPECT, 1},
    {0, 0, LINE_FRONT, 1},
    {0, 0, LINE_NORMAL, 1},
    {0, 0, LINE_NORMAL, 2},
    {0, 0, LINE_NORMAL, 256},
    {0, 1, LINE_SUSPECT, 1},
    {0, 19, LINE_NORMAL, 1},
    {0, 127, LINE_NORMAL, UINT64_MAX},
    {1, -128, LINE_SUSPECT, 0},
    {255, 0, LINE_NORMAL, 1},
    {256, 0, LINE_NORMAL, 1},
    {65535, 0, LINE_NORMAL, 1},
    {UINT32_MAX, 127, LINE_NORMAL, UINT64_MAX},
};

START_TEST(pending_round_trip)
{
    uint8_t key[KEY_PENDING_BYTES];
    struct place back;
    for (size_t i = 0; i < COUNT(places); i++) {
        dassie__key_pending(key, &places[i]);
        ck_assert_int_eq(dassie__key_parse_pending(key, sizeof key, &back), 0);
        ck_assert_uint_eq(back.queue, places[i].queue);
        ck_assert_int_eq(back.priority, places[i].priority);
        ck_assert_uint_eq(back.kind, places[i].kind);
        ck_assert_uint_eq(back.position, places[i].position);
    }
}
END_TEST

START_TEST(pending_order)
{
    uint8_t low[KEY_PENDING_BYTES];
    uint8_t high[KEY_PENDING_BYTES];
    for (size_t i = 1; i < COUNT(places); i++) {
        dassie__key_pending(low, &places[i - 1]);
        dassie__key_pending(high, &places[i]);
        ck_assert_msg(memcmp(low, high, sizeof low) < 0, "place %zu", i);
    }
}
END_TEST

START_TEST(pending_refused)
{
    uint8_t key[KEY_PENDING_BYTES + 1];
    struct place place = {1, -3, LINE_FRONT, 9};
    memset(key, 0, sizeof key);
    dassie__key_pending(key, &place);
    for (size_t len = 0; len <= sizeof key; len++) {
        ck_assert_int_eq(dassie__key_parse_pending(key, len, &place),
                         len == KEY_PENDING_BYTES ? 0 : -1);
    }
    for (unsigned kind = 0; kind < 256; kind++) {
        key[5] = (uint8_t)kind;
        ck_assert_int_eq(
            dassie__key_parse_pending(key, KEY_PENDING_BYTES, &place),
            kind < LINE_KINDS ? 0 : -1);
    }
}
END_TEST

START_TEST(queue_round_trip)
{
    static const uint32_t ids[] = {0, 1, 255, 256, 65535, UINT32_MAX};
    static const char tags[] = {KEY_NAME_TAG, KEY_COUNTS_TAG};
    uint8_t key[KEY_QUEUE_BYTES];
    uint8_t last[KEY_QUEUE_BYTES] = {0};
    for (size_t t = 0; t < COUNT(tags); t++) {
        for (size_t i = 0; i < COUNT(ids); i++) {
            uint32_t id;
            char tag;
            dassie__key_queue(key, tags[t], ids[i]);
            ck_assert_int_eq(
                dassie__key_parse_queue(key, sizeof key, &tag, &id), 0);
            ck_assert_int_eq(tag, tags[t]);
            ck_assert_uint_eq(id, ids[i]);
            ck_assert_mem_lt(last, key, sizeof key);
            memcpy(last, key, sizeof key);
        }
    }
}
END_TEST

START_TEST(queue_refused)
{
    uint8_t key[KEY_QUEUE_BYTES + 1] = {0};
    uint32_t id;
    char tag;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool known = byte == KEY_NAME_TAG || byte == KEY_COUNTS_TAG ||
                     byte == KEY_SETTINGS_TAG;
        key[0] = (uint8_t)byte;
        for (size_t len = 0; len <= sizeof key; len++) {
            ck_assert_int_eq(dassie__key_parse_queue(key, len, &tag, &id),
                             known && len == KEY_QUEUE_BYTES ? 0 : -1);
        }
    }
}
END_TEST

/* The rows of a queue, and the store's own, cannot be mistaken. */
START_TEST(meta_keys_differ)
{
    uint32_t id;
    char tag;
    ck_assert_int_eq(dassie__key_parse_queue((const uint8_t *)KEY_STORE,
                                             strlen(KEY_STORE), &tag, &id),
                     -1);
    ck_assert_int_ne(KEY_NAME_TAG, KEY_COUNTS_TAG);
}
END_TEST

START_TEST(unique_round_trip)
{
    uint8_t unique[256];
    uint8_t key[KEY_UNIQUE_MAX];
    uint32_t queue;
    memset(unique, 'u', sizeof unique);
    for (size_t len = 1; len <= 255; len++) {
        ck_assert_uint_eq(
            dassie__key_unique(key, (uint32_t)len * 65537, unique, len),
            4 + len);
        ck_assert_mem_eq(key + 4, unique, len);
        ck_assert_int_eq(dassie__key_parse_unique(key, 4 + len, &queue), 0);
        ck_assert_uint_eq(queue, len * 65537);
    }
    for (size_t len = 0; len <= 4; len++) {
        ck_assert_int_eq(dassie__key_parse_unique(key, len, &queue), -1);
    }
    ck_assert_int_eq(dassie__key_parse_unique(key, KEY_UNIQUE_MAX + 1, &queue),
                     -1);
}
END_TEST

static Suite *key_suite(void)
{
    Suite *suite = suite_create("key");
    TCase *tc = tcase_create("key");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, number_round_trip);
    tcase_add_test(tc, number_order);
    tcase_add_test(tc, number_refused);
    tcase_add_test(tc, be_round_trip);
    tcase_add_test(tc, pending_round_trip);
    tcase_add_test(tc, pending_order);
    tcase_add_test(tc, pending_refused);
    tcase_add_test(tc, queue_round_trip);
    tcase_add_test(tc, queue_refused);
    tcase_add_test(tc, meta_keys_differ);
    tcase_add_test(tc, unique_round_trip);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(key_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
