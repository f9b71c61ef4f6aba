/* pool: how many threads there are, as libuv reads the environment too: one is
 * the host's, if there is another. */
#include "config.h"

#include "../lib/pool.h"

#include <check.h>
#include <stdlib.h>

static const struct {
    const char *size; /* NULL: it is not set */
    unsigned threads;
} pools[] = {{NULL, 3}, {"", 1},  {"0", 1},       {"-5", 1},     {"1", 1},
             {"2", 1},  {"8", 7}, {"1024", 1023}, {"5000", 1023}};
#define POOLS ((int)(sizeof pools / sizeof pools[0]))

/* Each in a process of its own, as it is asked once. */
START_TEST(threads)
{
    struct pool_user users[1024] = {{0}};
    if (pools[_i].size != NULL) {
        ck_assert_int_eq(setenv("UV_THREADPOOL_SIZE", pools[_i].size, 1), 0);
    } else {
        ck_assert_int_eq(unsetenv("UV_THREADPOOL_SIZE"), 0);
    }
    ck_assert_uint_eq(dassie__pool_threads(), pools[_i].threads);
    for (unsigned i = 0; i < pools[_i].threads; i++) {
        ck_assert(dassie__pool_take(&users[i]));
    }
    ck_assert(!dassie__pool_take(&users[1023]));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tc = tcase_create("pool");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, threads, 0, POOLS);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
