/* Runs that take too long, as users see it: the flag, the callback, the event,
 * touches, threads that do not come back. The monotonic clock is the real one
 * and as much as the test adds, so that hours go by in no time, and none does
 * unless the test says so. */
#include "config.h"

#include "../queue_rig.h"
#include "env.h"

#include <check.h>
#include <stdatomic.h>

#define HOUR_MS 3600000

static _Atomic uint64_t added_ms;
static _Atomic uint64_t frozen_at; /* 0: it goes on by itself */

static uint64_t mono_ns(void)
{
    uint64_t at = atomic_load(&frozen_at);
    return (at > 0 ? at : uv_hrtime()) +
           atomic_load(&added_ms) * UINT64_C(1000000);
}

/* From here on only the test adds to it. No runner waits by it. */
static void freeze(void)
{
    atomic_store(&frozen_at, uv_hrtime());
}

/* So much later; something arrives, so that the engine looks. */
static void pass(uint64_t ms)
{
    atomic_fetch_add(&added_ms, ms);
    rig_counts();
}

/* ---- What is told ---- */

static struct {
    dassie_processor_t p;
    dassie_subscription_t sub;
    dassie_event_t events[64];
    int events_n;
    dassie_job_t *_Atomic job; /* that hangs, or hung */
    atomic_int entered;
    atomic_bool open; /* it may return */
    atomic_int back;
    int cancels;
    int logged; /* lines about hung runs */
    int started;
    int stopped;
    bool default_hung;
} told;

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    (void)level;
    told.logged += strstr(line, "does not end") != NULL;
}

static void on_events(dassie_subscription_t *sub, const dassie_event_t *events,
                      size_t n, uint64_t missed)
{
    (void)sub;
    ck_assert_uint_eq(missed, 0);
    for (size_t i = 0; i < n; i++) {
        told.events[told.events_n++] = events[i];
    }
}

static void setup(void)
{
    memset(&told, 0, sizeof told);
    atomic_store(&added_ms, 0);
    atomic_store(&frozen_at, 0);
    dassie__env.mono_ns = mono_ns;
    rig_setup();
    rig.options.log_cb = on_log;
    rig_open();
    ck_assert_int_eq(dassie_subscribe(&rig.q, &told.sub, NULL, on_events), 0);
}

static void teardown(void)
{
    rig_close();
    rig_verify();
    rig_teardown();
}

static void process(dassie_work_cb work, dassie_start_cb start,
                    dassie_cancel_cb cancel, unsigned spares)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work;
    options.start = start;
    options.cancel = cancel;
    options.spares = spares;
    options.hung_ms = told.default_hung ? 0 : HOUR_MS;
    ck_assert_int_eq(dassie_process(&rig.q, &told.p, &options), 0);
}

static uint64_t enqueue(const char *data, uint32_t attempts_max)
{
    dassie_spec_t spec = rig_spec(NULL, data);
    int status;
    spec.timeout_ms = HOUR_MS;
    spec.attempts_max = attempts_max;
    spec.backoff_ms = 1;
    uint64_t id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    return id;
}

static bool has_entered(void)
{
    return told.entered > 0;
}

static bool is_back(void)
{
    return told.back > 0;
}

static bool is_told(void)
{
    return rig_stats().hung == 1;
}

static bool none_hung(void)
{
    return rig_stats().hung == 0;
}

/* ---- Asked to end ---- */

static int work_until_asked(dassie_job_t *job)
{
    told.entered++;
    while (dassie_job_cancelled(job) == 0) {
        uv_sleep(1);
    }
    return dassie_job_cancelled(job);
}

static void failed_so(uint64_t id, const char *text)
{
    struct rig_got got;
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_FAILED);
    ck_assert_uint_eq(info->attempts, 1);
    ck_assert_int_eq(info->error_code, UV_ETIMEDOUT);
    ck_assert_str_eq(info->error, text);
}

static int timeouts_told(uint64_t id)
{
    int n = 0;
    for (int i = 0; i < told.events_n; i++) {
        const dassie_event_t *event = &told.events[i];
        if (event->from == DASSIE_RUNNING && event->to == DASSIE_RUNNING) {
            ck_assert_uint_eq(event->id, id);
            ck_assert_int_eq(event->code, UV_ETIMEDOUT);
            ck_assert_uint_eq(event->attempts, 1);
            n++;
        }
    }
    return n;
}

static bool end_is_told(void)
{
    return told.events_n > 0 &&
           told.events[told.events_n - 1].to == DASSIE_FAILED;
}

START_TEST(work_is_asked)
{
    process(work_until_asked, NULL, NULL, 0);
    uint64_t id = enqueue("x", 1);
    rig_poll(has_entered);
    pass(HOUR_MS);
    rig_drain();
    failed_so(id, "timed out after 3600000 ms");
    rig_poll(end_is_told);
    ck_assert_int_eq(timeouts_told(id), 1);
    ck_assert_uint_eq(rig_stats().timed_out, 1);
    ck_assert_uint_eq(rig_stats().failed, 1);
}
END_TEST

static void on_start(dassie_job_t *job)
{
    told.job = job;
    told.started++;
}

static int finish(dassie_job_t *job, int status, const char *text)
{
    return dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                         status, text, text != NULL ? strlen(text) : 0);
}

static void on_cancel(dassie_job_t *job)
{
    ck_assert_ptr_eq(job, told.job);
    ck_assert_int_eq(dassie_job_cancelled(job), UV_ETIMEDOUT);
    told.cancels++;
}

/* Its own words stay. */
START_TEST(async_is_asked)
{
    process(NULL, on_start, on_cancel, 0);
    freeze();
    uint64_t id = enqueue("x", 1);
    rig_wait(&told.started, 1);
    pass(HOUR_MS - 1);
    ck_assert_int_eq(told.cancels, 0);
    pass(1);
    rig_wait(&told.cancels, 1);
    pass(1);
    ck_assert_int_eq(finish(told.job, UV_ECANCELED, "had enough"), 0);
    rig_drain();
    failed_so(id, "had enough");
    ck_assert_int_eq(told.cancels, 1);
}
END_TEST

/* A job that shows that it lives has its time again. */
START_TEST(touched)
{
    process(NULL, on_start, on_cancel, 0);
    freeze();
    enqueue("x", 1);
    rig_wait(&told.started, 1);
    for (int i = 0; i < 3; i++) {
        pass(HOUR_MS - 1);
        ck_assert_int_eq(dassie_job_touch(told.job), 0);
    }
    pass(HOUR_MS);
    rig_wait(&told.cancels, 1);
    ck_assert_int_eq(dassie_job_touch(told.job), UV_ETIMEDOUT);
    ck_assert_int_eq(dassie_job_step(told.job, 1, 2), UV_ETIMEDOUT);
    ck_assert_int_eq(finish(told.job, 0, NULL), 0);
    rig_drain();
    ck_assert_uint_eq(rig_stats().completed, 1);
}
END_TEST

/* Without a limit there is nothing to extend, but a reason to end. */
static int work_touches(dassie_job_t *job)
{
    ck_assert_int_eq(dassie_job_touch(job), 0);
    told.entered++;
    while (dassie_job_touch(job) == 0) {
        uv_sleep(1);
    }
    return dassie_job_touch(job);
}

START_TEST(touched_without_a_limit)
{
    struct rig_got got;
    dassie_change_t change;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    process(work_touches, NULL, NULL, 0);
    filter.id = rig_enqueue(NULL, "x");
    rig_poll(has_entered);
    pass(100 * (uint64_t)HOUR_MS);
    ck_assert_int_eq(
        dassie_change(&rig.q, &change, DASSIE_CANCEL, &filter, NULL), 0);
    rig_drain();
    ck_assert_int_eq(rig_get(&got, filter.id)->state, DASSIE_CANCELLED);
    ck_assert_uint_eq(rig_stats().timed_out, 0);
}
END_TEST

/* It waited for its processor: nothing else wakes the engine. */
START_TEST(wakes_by_itself)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    spec.timeout_ms = 1;
    spec.attempts_max = 1;
    uint64_t id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    process(work_until_asked, NULL, NULL, 0);
    rig_poll(end_is_told);
    failed_so(id, "timed out after 1 ms");
}
END_TEST

START_TEST(bad)
{
    static dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    ck_assert_int_eq(dassie_job_touch(NULL), UV_EINVAL);
    spec.timeout_ms = (uint64_t)DASSIE_TIMEOUT_MS_MAX + 1;
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), UV_EINVAL);
    spec.timeout_ms--;
    rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    options.start = on_start;
    options.spares = DASSIE_CONCURRENCY_MAX + 1;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), UV_EINVAL);
    options.spares--;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    rig_wait(&told.started, 1);
    ck_assert_int_eq(finish(told.job, 0, NULL), 0);
    rig_drain();
}
END_TEST

/* ---- Hung ---- */

static const char *data_of(const dassie_job_t *job)
{
    size_t len;
    const char *data = dassie_job_data(job, &len);
    ck_assert_uint_eq(len, 1);
    return data;
}

/* The first run of "h" hangs, whatever it is asked. */
static int work_hangs(dassie_job_t *job)
{
    if (*data_of(job) != 'h' || dassie_job_attempt(job) > 1) {
        return dassie_job_set_result(job, "in time", 7);
    }
    told.job = job;
    told.entered++;
    while (!told.open) {
        uv_sleep(1);
    }
    ck_assert_int_eq(dassie_job_touch(job), UV_EALREADY);
    ck_assert_int_eq(dassie_job_cancelled(job), UV_ETIMEDOUT);
    ck_assert_int_eq(dassie_job_progress(job, 1, 2, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_job_checkpoint(job, "x", 1), UV_EALREADY);
    ck_assert_int_eq(dassie_job_step(job, 1, 2), UV_EALREADY);
    ck_assert_int_eq(dassie_job_attempt(job), 1);
    ck_assert_int_eq(dassie_job_set_result(job, "late", 4), 0);
    told.back++;
    return 0;
}

static void result_is(uint64_t id, uint32_t attempts, const char *result)
{
    struct rig_got got;
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_COMPLETE);
    ck_assert_uint_eq(info->attempts, attempts);
    ck_assert_uint_eq(info->result_len, strlen(result));
    ck_assert_mem_eq(got.result, result, strlen(result));
}

/* One that hangs, and is given up. */
static uint64_t hang(void)
{
    uint64_t id = enqueue("h", 2);
    rig_poll(has_entered);
    pass(HOUR_MS);
    pass(HOUR_MS);
    rig_poll(is_told);
    return id;
}

/* The slot is replaced, the job is run beside itself, and what it says in the
 * end is not heard. */
START_TEST(thread_hangs)
{
    process(work_hangs, NULL, NULL, 1);
    uint64_t id = hang();
    uint64_t other = rig_enqueue(NULL, "o");
    struct rig_got got;
    while (rig_get(&got, id)->state != DASSIE_COMPLETE) {
        uv_sleep(1); /* its backoff */
    }
    rig_drain();
    result_is(other, 1, "in time");
    result_is(id, 2, "in time");
    ck_assert_int_eq(told.logged, 1);
    told.open = true;
    rig_poll(is_back);
    rig_poll(none_hung);
    result_is(id, 2, "in time");
    ck_assert_uint_eq(rig_stats().given_up, 1);
    ck_assert_uint_eq(rig_stats().completed, 2);
    rig_enqueue(NULL, "o");
    rig_drain();
}
END_TEST

static bool others_ran(void)
{
    return rig_stats().completed == 3;
}

/* So are jobs that were claimed ahead of one that is given up soon. */
START_TEST(others_wait_behind)
{
    dassie_spec_t specs[3];
    dassie_enqueue_many_t many = {0};
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work_hangs;
    options.spares = 1;
    options.hung_ms = 1;
    ck_assert_int_eq(dassie_process(&rig.q, &told.p, &options), 0);
    rig_enqueue(NULL, "o");
    rig_drain(); /* its pace is known: it gets more than one at a time */
    for (int i = 0; i < 3; i++) {
        specs[i] = rig_spec(NULL, i == 0 ? "h" : "o");
        specs[i].timeout_ms = 1;
    }
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, specs, 3, NULL), 0);
    rig_poll(others_ran);
    ck_assert_uint_eq(rig_stats().given_up, 1);
}
END_TEST

static int work_waits(dassie_job_t *job)
{
    told.entered++;
    while (!told.open) {
        uv_sleep(1);
    }
    return dassie_job_touch(job) == UV_ETIMEDOUT ? 0 : UV_EPROTO;
}

/* Without a spare it keeps its slot, which is told once, and may still end. */
START_TEST(no_spare)
{
    struct rig_got got;
    process(work_waits, NULL, NULL, 0);
    uint64_t id = enqueue("h", 2);
    rig_poll(has_entered);
    pass(HOUR_MS);
    pass(HOUR_MS);
    rig_wait(&told.logged, 1);
    pass(HOUR_MS);
    ck_assert_uint_eq(rig_stats().given_up, 0);
    ck_assert_int_eq(rig_get(&got, id)->state, DASSIE_RUNNING);
    ck_assert_int_eq(told.logged, 1);
    told.open = true;
    rig_drain();
    ck_assert_uint_eq(rig_stats().completed, 1);
}
END_TEST

static void teardown_hung(void)
{
    told.open = true;
    teardown();
}

START_TEST(hung_ms)
{
    told.default_hung = true;
    process(NULL, on_start, on_cancel, 0);
    freeze();
    enqueue("h", 1);
    rig_wait(&told.started, 1);
    pass(HOUR_MS);
    rig_wait(&told.cancels, 1);
    pass(DASSIE_HUNG_MS - 1);
    ck_assert_int_eq(told.logged, 0);
    pass(1);
    rig_wait(&told.logged, 1);
    ck_assert_int_eq(finish(told.job, 0, NULL), 0);
}
END_TEST

/* Closing waits for the thread, and says so; all else is done by then. */
START_TEST(close_waits)
{
    process(work_hangs, NULL, NULL, 1);
    uint64_t id = hang();
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    for (int i = 0; i < 20; i++) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    ck_assert_int_eq(rig.closed, 0);
    told.open = true;
    rig_wait(&rig.closed, 1);
    rig_verify();
    rig_open();
    struct rig_got got;
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_ne(info->state, DASSIE_RUNNING);
    ck_assert_uint_ge(info->attempts, 1);
    ck_assert_uint_eq(rig_stats().suspects, 0);
}
END_TEST

static void on_stopped(dassie_processor_t *p)
{
    ck_assert_ptr_eq(p, &told.p);
    told.stopped++;
}

/* So does the end of the processor: the job names it. */
START_TEST(stop_waits)
{
    process(work_hangs, NULL, NULL, 1);
    hang();
    ck_assert_int_eq(dassie_processor_stop(&told.p, on_stopped), 0);
    rig_counts();
    ck_assert_int_eq(told.stopped, 0);
    ck_assert_ptr_eq(dassie_job_processor(told.job), &told.p);
    told.open = true;
    rig_wait(&told.stopped, 1);
}
END_TEST

/* An async run that was given up is its owner's to look at until it is
 * finished, which changes nothing. */
START_TEST(async_hangs)
{
    process(NULL, on_start, NULL, 1);
    uint64_t id = enqueue("h", 2);
    rig_wait(&told.started, 1);
    dassie_job_t *first = told.job;
    pass(HOUR_MS);
    pass(HOUR_MS);
    rig_poll(is_told);
    rig_wait(&told.started, 2);
    dassie_job_t *second = told.job;
    ck_assert_uint_eq(dassie_job_id(second), id);
    ck_assert_uint_eq(dassie_job_attempt(second), 2);
    ck_assert_uint_eq(dassie_job_attempt(first), 1);
    ck_assert_str_eq(dassie_job_queue(first, NULL), "default");
    ck_assert_int_eq(dassie_job_touch(first), UV_EALREADY);
    ck_assert_int_eq(finish(second, 0, "in time"), 0);
    rig_drain();
    ck_assert_int_eq(finish(first, 0, "late"), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, UV_EIO, NULL, 0),
                     UV_EALREADY);
    rig_poll(none_hung);
    result_is(id, 2, "in time");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timeouts");
    TCase *asked = tcase_create("asked");
    tcase_add_checked_fixture(asked, setup, teardown);
    tcase_add_test(asked, work_is_asked);
    tcase_add_test(asked, async_is_asked);
    tcase_add_test(asked, touched);
    tcase_add_test(asked, touched_without_a_limit);
    tcase_add_test(asked, wakes_by_itself);
    tcase_add_test(asked, bad);
    suite_add_tcase(suite, asked);

    TCase *hung = tcase_create("hung");
    tcase_add_checked_fixture(hung, setup, teardown_hung);
    tcase_add_test(hung, thread_hangs);
    tcase_add_test(hung, others_wait_behind);
    tcase_add_test(hung, no_spare);
    tcase_add_test(hung, hung_ms);
    tcase_add_test(hung, close_waits);
    tcase_add_test(hung, stop_waits);
    tcase_add_test(hung, async_hangs);
    suite_add_tcase(suite, hung);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
