/* What tests of users rest on: a queue in memory, run by the loop's thread,
 * whose clock is moved. */
#include "config.h"

#include "temp_dir.h"

#include <dassie.h>

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND UINT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define CENTURY (36500 * DAY)

static uv_loop_t loop;
static dassie_t q;
static dassie_processor_t processor;

/* What has happened, in words. */
static char trace[4096];

static void note(const char *word)
{
    size_t at = strlen(trace);
    snprintf(trace + at, sizeof trace - at, "%s%s", at > 0 ? " " : "", word);
}

static void check_trace(const char *expected)
{
    ck_assert_str_eq(trace, expected);
    trace[0] = '\0';
}

static void advance(uint64_t ms)
{
    ck_assert_int_eq(dassie_testing_advance(&q, ms), 0);
}

static void open_it(void)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    options.flags = DASSIE_TESTING;
    ck_assert_int_eq(dassie_init(&loop, &q), 0);
    ck_assert_int_eq(dassie_open(&q, NULL, &options, NULL), 0);
}

static void close_it(void)
{
    ck_assert_int_eq(dassie_close(&q, NULL), 0);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_ptr_null(q.impl);
}

static void setup(void)
{
    trace[0] = '\0';
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    open_it();
}

static void teardown(void)
{
    close_it();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void process(dassie_work_cb work, unsigned concurrency)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work;
    options.concurrency = concurrency;
    ck_assert_int_eq(dassie_process(&q, &processor, &options), 0);
}

static void enqueue(const char *name, int priority, uint64_t delay_ms)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.name = name;
    spec.priority = priority;
    spec.delay_ms = delay_ms;
    ck_assert_int_eq(dassie_enqueue(&q, NULL, &spec, NULL), 0);
}

static int works(dassie_job_t *job)
{
    note(dassie_job_name(job, NULL));
    return 0;
}

static int fails(dassie_job_t *job)
{
    note(dassie_job_name(job, NULL));
    return UV_EIO;
}

static dassie_stats_t stats(void)
{
    dassie_stats_t s;
    ck_assert_int_eq(dassie_stats(&q, &s), 0);
    return s;
}

static void on_acked(dassie_enqueue_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    req->data = NULL;
}

/* ---- The clock ---- */

START_TEST(runs_without_the_loop)
{
    process(works, 1);
    enqueue("a", 0, 0);
    check_trace("");
    advance(0);
    check_trace("a");
    ck_assert_uint_eq(stats().jobs.complete, 1);
    advance(0);
    check_trace("");
}
END_TEST

START_TEST(stands_still)
{
    uint64_t began = dassie_now(&q);
    process(works, 1);
    enqueue("later", 0, HOUR);
    uv_sleep(2); /* the machine's clock goes on */
    advance(0);
    ck_assert_uint_eq(dassie_now(&q), began);
    advance(HOUR - 1);
    check_trace("");
    ck_assert_uint_eq(dassie_now(&q), began + HOUR - 1);
    advance(1);
    check_trace("later");
    ck_assert_uint_eq(dassie_now(&q), began + HOUR);
}
END_TEST

static uint64_t ran_at[DASSIE_ATTEMPTS + 1];

static int fails_then(dassie_job_t *job)
{
    ran_at[dassie_job_attempt(job)] = dassie_now(&q);
    return UV_EIO;
}

/* Some eleven hours in one call, and each attempt at its time. */
START_TEST(steps_through_all_that_is_due)
{
    uint64_t at = dassie_now(&q);
    process(fails_then, 1);
    enqueue("a", 0, 0);
    advance(DAY);
    for (uint32_t n = 1; n <= DASSIE_ATTEMPTS; n++) {
        ck_assert_uint_eq(ran_at[n], at);
        uint64_t ms = DASSIE_BACKOFF_MS << (n - 1);
        at += ms < DASSIE_BACKOFF_MAX_MS ? ms : DASSIE_BACKOFF_MAX_MS;
    }
    ck_assert_uint_eq(stats().jobs.failed, 1);
    ck_assert_uint_eq(stats().retried, DASSIE_ATTEMPTS - 1);
}
END_TEST

START_TEST(each_retry_is_a_step)
{
    process(fails, 1);
    enqueue("a", 0, 0);
    advance(0);
    check_trace("a");
    advance(SECOND - 1);
    check_trace("");
    advance(1);
    check_trace("a");
    advance(2 * SECOND - 1);
    check_trace("");
    advance(1);
    check_trace("a");
}
END_TEST

START_TEST(what_is_kept_goes)
{
    process(works, 1);
    enqueue("a", 0, 0);
    advance(DASSIE_KEEP_COMPLETE_MS - 1);
    ck_assert_uint_eq(stats().jobs.complete, 1);
    advance(HOUR);
    ck_assert_uint_eq(stats().jobs.complete, 0);
    ck_assert_uint_eq(stats().swept, 1);
}
END_TEST

static bool is_new(void)
{
    dassie_enqueue_t req = {.data = trace}; /* until it is acknowledged */
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.unique = "key";
    spec.unique_until = DASSIE_UNTIL_TIME;
    spec.unique_ms = HOUR;
    ck_assert_int_eq(dassie_enqueue(&q, &req, &spec, on_acked), 0);
    advance(0);
    ck_assert_ptr_null(req.data);
    return !req.existing;
}

START_TEST(what_is_held_goes)
{
    ck_assert(is_new());
    advance(HOUR - 1);
    ck_assert(!is_new());
    advance(1);
    ck_assert(is_new());
}
END_TEST

START_TEST(clocks_are_apart)
{
    static dassie_t other;
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    options.flags = DASSIE_TESTING;
    ck_assert_int_eq(dassie_init(&loop, &other), 0);
    ck_assert_uint_gt(dassie_now(&other), 0);
    ck_assert_int_eq(dassie_open(&other, "/nowhere/at/all", &options, NULL), 0);
    uint64_t began = dassie_now(&other);
    advance(DAY);
    ck_assert_uint_eq(dassie_now(&other), began);
    ck_assert_uint_ge(dassie_now(&q), began + DAY - HOUR);
    ck_assert_int_eq(dassie_close(&other, NULL), 0);
}
END_TEST

/* ---- Order ---- */

static int works_and_adds(dassie_job_t *job)
{
    const char *name = dassie_job_name(job, NULL);
    note(name);
    if (strcmp(name, "first") == 0) {
        enqueue("last", 5, 0);
        enqueue("urgent", -5, 0);
    }
    return 0;
}

START_TEST(order_is_the_queues)
{
    process(works_and_adds, 1);
    enqueue("first", 0, 0);
    enqueue("second", 0, 0);
    enqueue("third", -1, 0);
    advance(0);
    check_trace("first urgent third second last");
}
END_TEST

/* Some hundred jobs, some of which fail, snooze or add others. */
static int any(dassie_job_t *job)
{
    uint64_t n = dassie_job_id(job) + dassie_job_attempt(job);
    char word[32];
    snprintf(word, sizeof word, "%u.%u", (unsigned)dassie_job_id(job),
             (unsigned)dassie_job_attempt(job));
    note(word);
    if (n % 7 == 0) {
        dassie_job_snooze(job, n);
    }
    if (n % 5 == 0 && stats().enqueued < 150) {
        enqueue("more", n % 3 == 0 ? -1 : 0, n);
    }
    return n % 3 == 0 ? UV_EIO : 0;
}

static void play(char *out, size_t size)
{
    process(any, 4);
    for (int i = 0; i < 100; i++) {
        enqueue("x", i % 4, i % 3 == 0 ? (uint64_t)i : 0);
    }
    advance(10);
    advance(DAY / 2);
    ck_assert_uint_eq(stats().jobs.pending + stats().jobs.running, 0);
    snprintf(out, size, "%s", trace);
    trace[0] = '\0';
}

static void on_changed(dassie_change_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(req->changed, 1);
    note("changed");
}

/* An operator's change is for the jobs that were there when it was asked. */
START_TEST(changes_what_was_there)
{
    static dassie_change_t req;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    enqueue("before", 0, HOUR);
    ck_assert_int_eq(
        dassie_change(&q, &req, DASSIE_CANCEL, &filter, on_changed), 0);
    enqueue("after", 0, HOUR);
    advance(0);
    check_trace("changed");
    ck_assert_uint_eq(stats().jobs.cancelled, 1);
    ck_assert_uint_eq(stats().jobs.scheduled, 1);
}
END_TEST

START_TEST(happens_the_same_again)
{
    static char one[sizeof trace];
    static char two[sizeof trace];
    play(one, sizeof one);
    close_it();
    open_it();
    play(two, sizeof two);
    ck_assert_str_eq(one, two);
    ck_assert_uint_gt(strlen(one), 500);
}
END_TEST

/* ---- Who may call what, and where ---- */

static uv_thread_t home;
static dassie_get_t get;

static int looks_around(dassie_job_t *job)
{
    uv_thread_t here = uv_thread_self();
    (void)job;
    ck_assert(uv_thread_equal(&home, &here));
    ck_assert_int_eq(dassie_testing_advance(&q, 0), UV_EPERM);
    ck_assert_int_eq(dassie_get(&q, &get, 1, NULL), UV_EPERM);
    note("run");
    return 0;
}

static void calls_back(dassie_enqueue_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(dassie_testing_advance(req->q, 0), UV_EBUSY);
    note("told");
}

START_TEST(callbacks_cannot_move_it)
{
    static dassie_enqueue_t req;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    home = uv_thread_self();
    process(looks_around, 1);
    ck_assert_int_eq(dassie_enqueue(&q, &req, &spec, calls_back), 0);
    advance(0);
    check_trace("run told");
}
END_TEST

static void enqueues(void *arg)
{
    (void)arg;
    enqueue("elsewhere", 0, 0);
}

START_TEST(other_threads_may_enqueue)
{
    uv_thread_t thread;
    process(works, 1);
    ck_assert_int_eq(uv_thread_create(&thread, enqueues, NULL), 0);
    uv_thread_join(&thread);
    advance(0);
    check_trace("elsewhere");
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    static dassie_t other;
    ck_assert_int_eq(dassie_testing_advance(NULL, 0), UV_EINVAL);
    ck_assert_uint_eq(dassie_now(NULL), 0);
    ck_assert_int_eq(dassie_init(&loop, &other), 0);
    ck_assert_int_eq(dassie_testing_advance(&other, 0), UV_EINVAL);
    options.flags = DASSIE_TESTING | DASSIE_NO_CREATE;
    ck_assert_int_eq(dassie_open(&other, NULL, &options, NULL), UV_EINVAL);
    options.flags = DASSIE_TESTING | DASSIE_SALVAGE;
    ck_assert_int_eq(dassie_open(&other, NULL, &options, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_open(&other, NULL, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_close(&other, NULL), 0);
}
END_TEST

START_TEST(has_an_end)
{
    uint64_t began = dassie_now(&q);
    ck_assert_int_eq(dassie_testing_advance(&q, CENTURY + 1), UV_EINVAL);
    ck_assert_int_eq(dassie_testing_advance(&q, UINT64_MAX), UV_EINVAL);
    advance(CENTURY - 1);
    ck_assert_int_eq(dassie_testing_advance(&q, 2), UV_EINVAL);
    advance(1);
    ck_assert_int_eq(dassie_testing_advance(&q, 1), UV_EINVAL);
    ck_assert_uint_eq(dassie_now(&q), began + CENTURY);
}
END_TEST

/* ---- All else is as ever ---- */

static void on_open(dassie_t *opened, int status)
{
    ck_assert_ptr_eq(opened, &q);
    note(status == 0 ? "open" : dassie_err_name(status));
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    note(count->pending == 1 ? "one pending" : "others");
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    note(job->name);
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    (void)jobs;
    ck_assert_int_eq(status, 0);
    note(n == 1 ? "one listed" : "others");
}

static void on_change(dassie_change_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    note(req->changed == 1 ? "one cancelled" : "others");
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    note(job->state == DASSIE_CANCELLED ? "watched" : "others");
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    note(status == 0 ? "drained" : dassie_err_name(status));
}

START_TEST(answers_all_there_is)
{
    static dassie_counts_t counts;
    static dassie_list_t list;
    static dassie_change_t change;
    static dassie_watch_t watch;
    static dassie_drain_t drain;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    enqueue("a", 0, 0);
    ck_assert_int_eq(dassie_counts(&q, &counts, NULL, 0, on_counts), 0);
    ck_assert_int_eq(dassie_list(&q, &list, NULL, on_list), 0);
    ck_assert_int_eq(dassie_get(&q, &get, 1, on_get), 0);
    ck_assert_int_eq(dassie_watch(&q, &watch, 1, on_watch), 0);
    ck_assert_int_eq(dassie_drain(&q, &drain, NULL, 0, on_drain), 0);
    advance(0);
    check_trace("one pending one listed a");
    filter.name = "a";
    ck_assert_int_eq(
        dassie_change(&q, &change, DASSIE_CANCEL, &filter, on_change), 0);
    advance(0);
    check_trace("watched drained one cancelled");
}
END_TEST

static int steps(dassie_job_t *job)
{
    uint64_t from = dassie_job_resume_at(job);
    note(from == 0 ? "begins" : "goes on");
    ck_assert_int_eq(dassie_job_step(job, from + 1, 2), 0);
    return from == 0 ? UV_EAGAIN : 0;
}

START_TEST(checkpoints_are_handed_on)
{
    process(steps, 1);
    enqueue("a", 0, 0);
    advance(SECOND);
    check_trace("begins goes on");
    ck_assert_uint_eq(stats().jobs.complete, 1);
}
END_TEST

static void on_event(dassie_subscription_t *sub, const dassie_event_t *events,
                     size_t n, uint64_t missed)
{
    (void)sub;
    ck_assert_uint_eq(missed, 0);
    for (size_t i = 0; i < n; i++) {
        note(events[i].to == DASSIE_SCHEDULED  ? "scheduled"
             : events[i].to == DASSIE_COMPLETE ? "complete"
                                               : "other");
    }
}

START_TEST(events_are_told)
{
    static dassie_subscription_t sub;
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    options.states = DASSIE_IN(DASSIE_SCHEDULED) | DASSIE_IN(DASSIE_COMPLETE);
    ck_assert_int_eq(dassie_subscribe(&q, &sub, &options, on_event), 0);
    process(works, 1);
    enqueue("a", 0, DAY);
    advance(0);
    check_trace("scheduled");
    advance(DAY);
    check_trace("a complete");
}
END_TEST

static void on_stopped(dassie_processor_t *p)
{
    ck_assert_ptr_eq(p, &processor);
    note("stopped");
}

START_TEST(processors_stop)
{
    process(works, 1);
    enqueue("a", 0, 0);
    advance(0);
    ck_assert_int_eq(dassie_processor_stop(&processor, on_stopped), 0);
    enqueue("b", 0, 0);
    advance(DAY);
    check_trace("a stopped");
    ck_assert_uint_eq(stats().jobs.pending, 1);
}
END_TEST

/* Fails; tried again, it has all that are to start after it go back. */
static void fails_or_stops(dassie_job_t *job)
{
    note(dassie_job_name(job, NULL));
    if (dassie_job_attempt(job) > 1) {
        ck_assert_int_eq(dassie_processor_stop(&processor, on_stopped), 0);
    }
    ck_assert_int_eq(dassie_finish(&q, dassie_job_id(job),
                                   dassie_job_attempt(job), UV_EIO, "text", 4),
                     0);
}

static void on_kept(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(job->state, DASSIE_PENDING);
    ck_assert_int_eq(job->error_code, UV_EIO);
    note("kept");
}

/* A job that goes back before it has begun keeps its last error. */
START_TEST(goes_back_as_it_was)
{
    static dassie_get_t kept;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.start = fails_or_stops;
    options.concurrency = 2;
    ck_assert_int_eq(dassie_process(&q, &processor, &options), 0);
    enqueue("a", 0, 0);
    enqueue("b", 0, 0);
    advance(0);
    check_trace("a b");
    advance(DAY);
    ck_assert_int_eq(dassie_get(&q, &kept, 2, on_kept), 0);
    advance(0);
    check_trace("a stopped kept");
}
END_TEST

/* ---- Together with the loop ---- */

static dassie_job_t *under_way;

static void starts(dassie_job_t *job)
{
    note("start");
    under_way = job;
}

static void asked_to_end(dassie_job_t *job)
{
    note("asked");
    ck_assert_int_eq(
        dassie_finish(&q, dassie_job_id(job), dassie_job_attempt(job),
                      UV_ECANCELED, NULL, 0),
        0);
}

static void process_async(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.start = starts;
    options.cancel = asked_to_end;
    ck_assert_int_eq(dassie_process(&q, &processor, &options), 0);
}

static void on_timer(uv_timer_t *timer)
{
    ck_assert_int_eq(dassie_finish(&q, dassie_job_id(under_way),
                                   dassie_job_attempt(under_way), 0, NULL, 0),
                     0);
    uv_close((uv_handle_t *)timer, NULL);
}

static void done_then_close(dassie_enqueue_t *req, int status,
                            const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    note(job->state == DASSIE_COMPLETE ? "complete" : "other");
    uv_stop(&loop);
}

/* An async job that waits for something of the loop's. */
START_TEST(the_loop_drives_it_too)
{
    static dassie_enqueue_t req = {.done_cb = done_then_close};
    static uv_timer_t timer;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    process_async();
    ck_assert_int_eq(dassie_enqueue(&q, &req, &spec, NULL), 0);
    advance(HOUR);
    check_trace("start");
    ck_assert_uint_eq(stats().jobs.running, 1);
    ck_assert_int_eq(uv_timer_init(&loop, &timer), 0);
    ck_assert_int_eq(uv_timer_start(&timer, on_timer, 1, 0), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    check_trace("complete");
}
END_TEST

static void opened_then_enqueues(dassie_t *opened, int status)
{
    on_open(opened, status);
    process(works, 1);
    enqueue("a", 0, 0);
    dassie_close(opened, NULL);
}

/* As a program would: all of it from callbacks, and nothing is moved. */
START_TEST(runs_by_the_loop_alone)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    close_it();
    options.flags = DASSIE_TESTING;
    options.commit_delay_ms = 1000;
    ck_assert_int_eq(dassie_init(&loop, &q), 0);
    ck_assert_int_eq(dassie_open(&q, NULL, &options, opened_then_enqueues), 0);
    check_trace("");
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    check_trace("open");
    open_it();
}
END_TEST

static void on_close(dassie_t *closed)
{
    ck_assert_ptr_eq(closed, &q);
    note("closed");
}

/* The grace period is a matter of the clock's. */
START_TEST(a_close_waits_by_its_clock)
{
    process_async();
    enqueue("a", 0, 0);
    advance(0);
    ck_assert_int_eq(dassie_close(&q, on_close), 0);
    check_trace("start");
    advance(9999);
    check_trace("");
    advance(1);
    check_trace("asked");
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    check_trace("closed");
    ck_assert_int_eq(dassie_testing_advance(&q, 0), UV_EINVAL);
    open_it();
}
END_TEST

START_TEST(a_close_can_be_advanced)
{
    static dassie_drain_t drain;
    enqueue("a", 0, 0);
    ck_assert_int_eq(dassie_drain(&q, &drain, NULL, 0, on_drain), 0);
    ck_assert_int_eq(dassie_close(&q, on_close), 0);
    advance(DAY);
    advance(DAY);
    check_trace("UV_ECANCELED");
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    check_trace("closed");
    open_it();
}
END_TEST

/* ---- Beside others ---- */

static void real_open(dassie_t *opened, int status)
{
    (void)opened;
    ck_assert_int_eq(status, 0);
    note("real");
    uv_stop(&loop);
}

static void child_runs(void)
{
    uv_loop_t own;
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    dassie_stats_t s;
    memset(&q, 0, sizeof q);
    options.flags = DASSIE_TESTING;
    bool well = uv_loop_init(&own) == 0 && dassie_init(&own, &q) == 0 &&
                dassie_open(&q, NULL, &options, NULL) == 0;
    if (well) {
        process(works, 1);
        enqueue("a", 0, 0);
        well = dassie_testing_advance(&q, 0) == 0 &&
               dassie_stats(&q, &s) == 0 && s.jobs.complete == 1 &&
               dassie_close(&q, NULL) == 0 && uv_run(&own, UV_RUN_DEFAULT) == 0;
    }
    _exit(well ? 0 : 1);
}

/* Such a child cannot open a store, but needs none. */
START_TEST(a_child_of_an_owner_may)
{
    char dir[TEMP_PATH_BYTES];
    char path[PATH_MAX];
    int status;
    static dassie_t real;
    temp_dir_make(dir);
    temp_path(path, dir, "store");
    ck_assert_int_eq(dassie_init(&loop, &real), 0);
    ck_assert_int_eq(dassie_open(&real, path, NULL, real_open), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    check_trace("real");
    ck_assert_int_eq(dassie_testing_advance(&real, 0), UV_EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        child_runs();
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(dassie_close(&real, NULL), 0);
    close_it();
    temp_dir_remove(dir);
    open_it();
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("testing");
    TCase *tc = tcase_create("testing");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, runs_without_the_loop);
    tcase_add_test(tc, stands_still);
    tcase_add_test(tc, steps_through_all_that_is_due);
    tcase_add_test(tc, each_retry_is_a_step);
    tcase_add_test(tc, what_is_kept_goes);
    tcase_add_test(tc, what_is_held_goes);
    tcase_add_test(tc, clocks_are_apart);
    tcase_add_test(tc, order_is_the_queues);
    tcase_add_test(tc, changes_what_was_there);
    tcase_add_test(tc, happens_the_same_again);
    tcase_add_test(tc, callbacks_cannot_move_it);
    tcase_add_test(tc, other_threads_may_enqueue);
    tcase_add_test(tc, bad_calls_are_refused);
    tcase_add_test(tc, has_an_end);
    tcase_add_test(tc, answers_all_there_is);
    tcase_add_test(tc, checkpoints_are_handed_on);
    tcase_add_test(tc, events_are_told);
    tcase_add_test(tc, processors_stop);
    tcase_add_test(tc, goes_back_as_it_was);
    tcase_add_test(tc, the_loop_drives_it_too);
    tcase_add_test(tc, runs_by_the_loop_alone);
    tcase_add_test(tc, a_close_waits_by_its_clock);
    tcase_add_test(tc, a_close_can_be_advanced);
    suite_add_tcase(suite, tc);
    tc = tcase_create("beside others");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_child_of_an_owner_may);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int bad = srunner_ntests_failed(runner);
    srunner_free(runner);
    return bad == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
