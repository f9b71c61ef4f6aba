/* Whose turn it is among the queues of a processor: in strict order, by
 * weights, as queues run empty and full again; and the heap they stand in. */
#include "config.h"

#include "../lib/alloc.h"
#include "../lib/queue.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

#define QUEUES_MAX 1024

static struct turns turns;
static struct queue queues[QUEUES_MAX];
static unsigned taken[QUEUES_MAX]; /* jobs of each */

static void begin(unsigned n, const unsigned *weights)
{
    memset(&turns, 0, sizeof turns);
    memset(queues, 0, sizeof queues);
    memset(taken, 0, sizeof taken);
    ck_assert_int_eq(dassie__turns_init(&turns, n, weights), 0);
    for (unsigned i = 0; i < n; i++) {
        turns.servers[i].queue = &queues[i];
    }
}

static void end(void)
{
    dassie__turns_free(&turns);
}

static void ready(unsigned queue, bool is)
{
    queues[queue].ready = is;
    dassie__turn_ready(&turns.servers[queue], is);
}

/* Whose turn it is: -1 if nobody has jobs. */
static int first(void)
{
    struct server *s = dassie__turns_first(&turns);
    return s != NULL ? (int)(s - turns.servers) : -1;
}

static unsigned take(void)
{
    int at = first();
    ck_assert_int_ge(at, 0);
    dassie__turn_take(&turns.servers[at]);
    taken[at]++;
    return (unsigned)at;
}

static void take_n(unsigned n)
{
    memset(taken, 0, sizeof taken);
    while (n-- > 0) {
        take();
    }
}

/* Of n queues that had jobs all the time, no two are further apart than by a
 * job of each, however long they are looked at. */
static void check_shares(unsigned n, const unsigned *weights)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < i; j++) {
            double a = (double)taken[i] / weights[i];
            double b = (double)taken[j] / weights[j];
            double most = 1.0 / weights[i] + 1.0 / weights[j] + 1e-6;
            ck_assert_msg(a - b <= most && b - a <= most,
                          "%u jobs for %u, but %u for %u", taken[i], weights[i],
                          taken[j], weights[j]);
        }
    }
}

START_TEST(strict_order)
{
    begin(3, NULL);
    ck_assert_int_eq(first(), -1);
    ready(2, true);
    ck_assert_int_eq(first(), 2);
    ck_assert(dassie__turn_would_be(&turns.servers[0]));
    ready(1, true);
    ck_assert(dassie__turn_would_be(&turns.servers[0]));
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(take(), 1);
    }
    ready(0, true);
    ready(2, false);
    ck_assert_uint_eq(take(), 0);
    ready(0, false);
    ready(1, false);
    ck_assert_int_eq(first(), -1);
    ready(0, true);
    ck_assert(!dassie__turn_would_be(&turns.servers[1]));
    ck_assert(!dassie__turn_would_be(&turns.servers[2]));
    end();
}
END_TEST

/* As a plain look at all of them finds it. */
START_TEST(strict_order_of_many)
{
    bool is[QUEUES_MAX] = {false};
    uint64_t x = 88172645463325252;
    begin(QUEUES_MAX, NULL);
    for (int i = 0; i < 100000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        unsigned queue = (unsigned)(x % QUEUES_MAX);
        is[queue] = (x >> 32) % 8 == 0;
        ready(queue, is[queue]);
        int want = 0;
        while (want < QUEUES_MAX && !is[want]) {
            want++;
        }
        ck_assert_int_eq(first(), want < QUEUES_MAX ? want : -1);
    }
    end();
}
END_TEST

static const unsigned w321[] = {3, 2, 1};

/* After each single job. */
START_TEST(within_one_job)
{
    begin(3, w321);
    for (unsigned i = 0; i < 3; i++) {
        ready(i, true);
    }
    for (unsigned n = 1; n <= 100000; n++) {
        take();
        for (unsigned i = 0; i < 3; i++) {
            double share = n * w321[i] / 6.0;
            ck_assert(taken[i] >= share - 1 && taken[i] <= share + 1);
        }
    }
    end();
}
END_TEST

START_TEST(shares)
{
    static const unsigned weights[][3] = {
        {3, 2, 1}, {1, 1, 1}, {1, 2, 3}, {7, 7, 1}, {1000, 3, 1}};
    begin(3, weights[_i]);
    for (unsigned i = 0; i < 3; i++) {
        ready(i, true);
    }
    for (int n = 0; n < 100000; n++) {
        take();
        check_shares(3, weights[_i]);
    }
    ck_assert_uint_gt(taken[2], 0);
    end();
}
END_TEST

/* Who had no jobs meanwhile gets no more than its share from now on; and those
 * that had shared it among them. */
START_TEST(nothing_is_saved_up)
{
    static const unsigned w32[] = {3, 2};
    begin(3, w321);
    for (unsigned i = 0; i < 3; i++) {
        ready(i, true);
    }
    take_n(601);
    ready(2, false);
    take_n(1000);
    ck_assert_uint_eq(taken[2], 0);
    check_shares(2, w32);
    ready(2, true);
    take_n(600);
    check_shares(3, w321);
    ready(0, false);
    ready(1, false);
    take_n(5000); /* alone, at no cost to it */
    ready(0, true);
    ready(1, true);
    take_n(600);
    check_shares(3, w321);
    end();
}
END_TEST

/* A queue that is empty after each of its jobs gets no more than its share
 * either: what it had is not forgotten. */
START_TEST(flapping_gains_nothing)
{
    begin(3, w321);
    for (unsigned i = 0; i < 3; i++) {
        ready(i, true);
    }
    for (int n = 0; n < 6000; n++) {
        if (take() == 2) {
            ready(2, false);
            ready(2, true);
        }
    }
    check_shares(3, w321);
    end();
}
END_TEST

/* Jobs that are handed off, with nothing in the line, count as well. */
START_TEST(hand_offs_count)
{
    static const unsigned equal[] = {1, 1};
    begin(2, equal);
    ready(0, true);
    for (int n = 0; n < 1000; n++) {
        struct server *s = &turns.servers[1];
        if (dassie__turn_would_be(s)) {
            dassie__turn_take(s);
            taken[1]++;
        } else {
            ck_assert_uint_eq(take(), 0);
        }
    }
    check_shares(2, equal);
    end();
}
END_TEST

/* What cannot be read is left out until it is gathered, and loses nothing. */
START_TEST(aside)
{
    begin(3, _i == 0 ? NULL : w321);
    ready(0, true);
    ready(1, true);
    ready(2, true);
    dassie__turn_set_aside(&turns.servers[0]);
    dassie__turn_set_aside(&turns.servers[1]);
    ck_assert_int_eq(first(), 2);
    queues[1].ready = false;
    dassie__turns_gather(&turns);
    ck_assert_ptr_null(turns.aside);
    ck_assert_int_eq(turns.servers[1].node.place, 0);
    ck_assert_int_ne(turns.servers[0].node.place, 0);
    dassie__turns_gather(&turns);
    ck_assert_uint_eq(turns.heap.n, 2);
    end();
}
END_TEST

/* The time begins anew, again and again, and nobody can tell. */
START_TEST(time_begins_anew)
{
    unsigned anew = 0;
    begin(3, w321);
    for (unsigned i = 0; i < 3; i++) {
        ready(i, true);
    }
    for (unsigned n = 0; n < 6; n++) {
        turns.now += UINT64_MAX / 2 - 10 * STRIDE;
        for (unsigned i = 0; i < 3; i++) {
            turns.servers[i].pass += UINT64_MAX / 2 - 10 * STRIDE;
            ready(i, true);
        }
        ready(n % 3, false); /* one that is idle goes back as well, */
        for (unsigned left = 200; left > 0; left--) {
            uint64_t now = turns.now;
            take();
            anew += turns.now < now;
        }
        ck_assert_uint_lt(turns.servers[n % 3].pass, 200 * STRIDE);
        ready(n % 3, true);
        take_n(600);
        check_shares(3, w321);
    }
    ck_assert_uint_eq(anew, 6);
    end();
}
END_TEST

static unsigned fail_at;

static void *failing_calloc(size_t n, size_t size)
{
    return fail_at > 0 && --fail_at == 0 ? NULL : calloc(n, size);
}

START_TEST(no_memory)
{
    ck_assert_int_eq(
        dassie_replace_allocator(malloc, realloc, failing_calloc, free), 0);
    for (unsigned n = 1; n <= 2; n++) {
        memset(&turns, 0, sizeof turns);
        fail_at = n;
        ck_assert_int_eq(dassie__turns_init(&turns, 3, NULL), UV_ENOMEM);
        end();
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("turn");
    TCase *tc = tcase_create("turn");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, strict_order);
    tcase_add_test(tc, strict_order_of_many);
    tcase_add_test(tc, within_one_job);
    tcase_add_loop_test(tc, shares, 0, 5);
    tcase_add_test(tc, nothing_is_saved_up);
    tcase_add_test(tc, flapping_gains_nothing);
    tcase_add_test(tc, hand_offs_count);
    tcase_add_loop_test(tc, aside, 0, 2);
    tcase_add_test(tc, time_begins_anew);
    tcase_add_test(tc, no_memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
