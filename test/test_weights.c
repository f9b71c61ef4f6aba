/* Several queues by weights, as users see it: the shares, as queues run empty
 * and full again, are paused and resumed; on a clock that stands still. */
#include "config.h"

#include <dassie.h>

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES 3

static uv_loop_t loop;
static dassie_t q;
static dassie_processor_t processor;
static const unsigned weights[QUEUES] = {3, 2, 1};
static const char *const names[QUEUES] = {"a", "b", "c"};

static uint64_t running; /* the one that has started, or 0 */
static unsigned started[QUEUES];
static bool busy[QUEUES]; /* it has jobs, in the eyes of the test */

static void start(dassie_job_t *job)
{
    const char *name = dassie_job_queue(job, NULL);
    ck_assert_uint_eq(running, 0);
    running = dassie_job_id(job);
    started[name[0] - 'a']++;
}

static void advance(uint64_t ms)
{
    ck_assert_int_eq(dassie_testing_advance(&q, ms), 0);
}

static void setup(void)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    options.flags = DASSIE_TESTING;
    running = 0;
    memset(started, 0, sizeof started);
    memset(busy, 0, sizeof busy);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(dassie_init(&loop, &q), 0);
    ck_assert_int_eq(dassie_open(&q, NULL, &options, NULL), 0);
}

static void process(const unsigned *w)
{
    uv_buf_t bufs[QUEUES];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    for (int i = 0; i < QUEUES; i++) {
        bufs[i] = uv_buf_init((char *)(uintptr_t)names[i], 1);
    }
    options.queues = bufs;
    options.queues_n = QUEUES;
    options.weights = w;
    options.start = start;
    ck_assert_int_eq(dassie_process(&q, &processor, &options), 0);
}

static void put(int queue, unsigned n)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.queue = names[queue];
    while (n-- > 0) {
        ck_assert_int_eq(dassie_enqueue(&q, NULL, &spec, NULL), 0);
    }
    busy[queue] = true;
}

static void on_configured(dassie_configure_t *req, int status,
                          const dassie_settings_t *settings)
{
    (void)settings;
    ck_assert_int_eq(status, 0);
    req->data = NULL;
}

static void pause_queue(int queue, bool paused)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_configure_t req = {.data = &req};
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = paused;
    ck_assert_int_eq(
        dassie_configure(&q, &req, names[queue], 0, &settings, on_configured),
        0);
    advance(0);
    ck_assert_ptr_null(req.data);
    busy[queue] = !paused;
}

/* The job that runs ends, and the next one starts. False: there is none. */
static bool next(void)
{
    uint64_t id = running;
    running = 0;
    if (id != 0) {
        ck_assert_int_eq(dassie_finish(&q, id, 1, 0, NULL, 0), 0);
    }
    advance(0);
    return running != 0;
}

/* So many more start; after each, the queues that have jobs have had their
 * shares, within a job. */
static void run(unsigned n)
{
    unsigned all = 0;
    memset(started, 0, sizeof started);
    for (int i = 0; i < QUEUES; i++) {
        all += busy[i] ? weights[i] : 0;
    }
    for (unsigned k = 1; k <= n; k++) {
        ck_assert(next());
        for (int i = 0; i < QUEUES; i++) {
            double share = busy[i] ? (double)k * weights[i] / all : 0;
            ck_assert_msg(started[i] <= share + 1 && started[i] >= share - 1,
                          "%s: %u of %u", names[i], started[i], k);
        }
    }
}

static void teardown(void)
{
    while (next()) {
    }
    ck_assert_int_eq(dassie_close(&q, NULL), 0);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

/* However the jobs come: before the processor, or while it serves. */
START_TEST(shares)
{
    if (_i == 0) {
        process(weights);
    }
    for (int i = 0; i < QUEUES; i++) {
        put(i, 600);
    }
    if (_i != 0) {
        advance(0);
        process(weights);
    }
    run(600);
    ck_assert_uint_eq(started[0], 300);
    ck_assert_uint_eq(started[1], 200);
    ck_assert_uint_eq(started[2], 100);
}
END_TEST

/* One after the other is out of jobs; what it leaves goes to the others. */
START_TEST(runs_empty)
{
    process(weights);
    put(0, 30);
    put(1, 40);
    put(2, 100);
    run(60);
    busy[0] = false; /* its 30 have started */
    run(30);
    busy[1] = false;
    run(50);
    ck_assert_uint_eq(started[2], 50);
}
END_TEST

/* Nothing is saved up, however long a queue had nothing to do. */
START_TEST(full_again)
{
    process(weights);
    put(1, 1000);
    put(2, 1000);
    run(600);
    put(0, 600);
    run(300);
    pause_queue(1, true);
    pause_queue(2, true);
    run(60); /* a queue alone has all, and pays nothing for it later */
    pause_queue(1, false);
    pause_queue(2, false);
    run(300);
}
END_TEST

START_TEST(paused)
{
    process(weights);
    for (int i = 0; i < QUEUES; i++) {
        put(i, 1000);
    }
    run(61);
    pause_queue(0, true);
    run(600);
    ck_assert_uint_eq(started[0], 0);
    pause_queue(0, false);
    run(600);
}
END_TEST

/* Jobs that come one by one, each as soon as the last one of its queue has
 * begun, so that no line ever has two: the light queue gets no more. */
START_TEST(one_by_one)
{
    process(weights);
    put(0, 1000);
    put(1, 1000);
    memset(started, 0, sizeof started);
    for (unsigned k = 1; k <= 600; k++) {
        unsigned before = started[2];
        if (k == 1) {
            put(2, 1);
        }
        ck_assert(next());
        if (started[2] > before) {
            put(2, 1);
        }
    }
    ck_assert_uint_ge(started[2], 99);
    ck_assert_uint_le(started[2], 101);
}
END_TEST

/* Without weights the last one waits for ever, with them it does not. */
START_TEST(starves_in_strict_order_only)
{
    process(_i == 0 ? NULL : weights);
    put(2, 10);
    for (unsigned k = 0; k < 100; k++) {
        put(0, 1);
        ck_assert(next());
    }
    ck_assert_uint_eq(started[2] > 1, _i != 0);
}
END_TEST

/* A queue of the least weight beside one of the most. */
START_TEST(bounds)
{
    static const unsigned extremes[QUEUES] = {1, DASSIE_WEIGHT_MAX, 1};
    process(extremes);
    for (int i = 0; i < QUEUES; i++) {
        put(i, 1500);
    }
    memset(started, 0, sizeof started);
    for (unsigned k = 0; k < 1003; k++) {
        ck_assert(next());
    }
    ck_assert_uint_ge(started[0], 1);
    ck_assert_uint_le(started[0], 2);
    ck_assert_uint_ge(started[2], 1);
    ck_assert_uint_le(started[2], 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tc = tcase_create("weights");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, shares, 0, 2);
    tcase_add_test(tc, runs_empty);
    tcase_add_test(tc, full_again);
    tcase_add_test(tc, paused);
    tcase_add_test(tc, one_by_one);
    tcase_add_loop_test(tc, starves_in_strict_order_only, 0, 2);
    tcase_add_test(tc, bounds);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
