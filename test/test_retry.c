/* Whether and when a failed run is followed by another: the formula, its
 * bounds, and times that cannot be added. */
#include "config.h"

#include "../lib/retry.h"

#include <check.h>

#include <stdlib.h>

#define LAST ((uint64_t)DASSIE_TIME_MS_MAX)

static const struct retry_policy defaults = {DASSIE_ATTEMPTS, DASSIE_BACKOFF_MS,
                                             DASSIE_BACKOFF_MAX_MS, UINT64_MAX};

/* The least, the middle and the most of the jitter. */
static void check_delay(const struct retry_policy *policy, uint32_t n,
                        uint64_t ms)
{
    ck_assert_uint_eq(dassie__retry_delay(policy, n, 0), ms - ms / 4);
    ck_assert_uint_eq(dassie__retry_delay(policy, n, ms / 4), ms);
    ck_assert_uint_eq(dassie__retry_delay(policy, n, ms / 2),
                      ms - ms / 4 + ms / 2);
    ck_assert_uint_eq(dassie__retry_delay(policy, n, ms / 2 + 1), ms - ms / 4);
}

START_TEST(doubles)
{
    for (uint32_t n = 1; n < 100; n++) {
        uint64_t ms = n < 13 ? UINT64_C(1000) << (n - 1) : 3600000;
        check_delay(&defaults, n, ms);
    }
}
END_TEST

START_TEST(is_uniform)
{
    unsigned seen[751] = {0};
    for (uint64_t random = 0; random < 7510; random++) {
        uint64_t ms = dassie__retry_delay(&defaults, 1, random);
        ck_assert(ms >= 750 && ms <= 1250);
        seen[ms - 750 < 751 ? ms - 750 : 0]++;
    }
    for (unsigned i = 1; i <= 500; i++) {
        ck_assert_uint_ge(seen[i], 14);
        ck_assert_uint_le(seen[i], 15);
    }
}
END_TEST

START_TEST(extremes)
{
    const struct retry_policy one = {20, 1, 1, UINT64_MAX};
    const struct retry_policy less = {20, 5000, 100, UINT64_MAX};
    const struct retry_policy most = {20, LAST, LAST, UINT64_MAX};
    for (uint32_t n = 1; n != 0; n *= 2) {
        ck_assert_uint_eq(dassie__retry_delay(&one, n, UINT64_MAX), 1);
        check_delay(&less, n, 100);
        ck_assert_uint_le(dassie__retry_delay(&most, n, UINT64_MAX), LAST * 2);
    }
}
END_TEST

START_TEST(attempts_run_out)
{
    struct retry_policy policy = {3, 1, 1, UINT64_MAX};
    ck_assert(dassie__retry_may(&policy, 1, 100));
    ck_assert(dassie__retry_may(&policy, 2, 100));
    ck_assert(!dassie__retry_may(&policy, 3, 100));
    ck_assert(!dassie__retry_may(&policy, 4, 100));
    policy.attempts_max = 1;
    ck_assert(!dassie__retry_may(&policy, 1, 100));
}
END_TEST

START_TEST(time_runs_out)
{
    const struct retry_policy policy = {20, 1, 1, 1000};
    ck_assert(dassie__retry_may(&policy, 1, 999));
    ck_assert(dassie__retry_may(&policy, 1, 1000));
    ck_assert(!dassie__retry_may(&policy, 1, 1001));
}
END_TEST

START_TEST(no_time_after_the_last)
{
    ck_assert_uint_eq(dassie__time_add(1, 2), 3);
    ck_assert_uint_eq(dassie__time_add(LAST - 1, 1), LAST);
    ck_assert_uint_eq(dassie__time_add(LAST - 1, 2), LAST);
    ck_assert_uint_eq(dassie__time_add(1, UINT64_MAX), LAST);
    ck_assert_uint_eq(dassie__time_add(UINT64_MAX, UINT64_MAX), LAST);
    ck_assert_uint_eq(dassie__time_add(LAST, 0), LAST);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("retry");
    TCase *tc = tcase_create("retry");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, doubles);
    tcase_add_test(tc, is_uniform);
    tcase_add_test(tc, extremes);
    tcase_add_test(tc, attempts_run_out);
    tcase_add_test(tc, time_runs_out);
    tcase_add_test(tc, no_time_after_the_last);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
