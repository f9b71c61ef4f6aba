/* What users see of delays, retries and snoozes. */
#include "config.h"

#include "queue_rig.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define DAY_MS UINT64_C(86400000)

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* What an earlier test left in this process. */
static void forget(void);

static void setup(void)
{
    forget();
    rig_begin();
}

static uint64_t enqueue(const dassie_spec_t *spec)
{
    int status;
    uint64_t id = rig_try_enqueue(spec, &status);
    ck_assert_int_eq(status, 0);
    return id;
}

/* ---- A processor that does as it is told ---- */

enum { RUN_FAIL, RUN_RETRY_IN, RUN_NO_RETRY, RUN_SNOOZE, RUN_WELL };

static struct {
    dassie_processor_t p;
    int runs[16]; /* what the n-th run does; RUN_FAIL at the end */
    atomic_int n;
    atomic_int asked; /* the backoff callback */
    uint32_t failed[16];
} told;

static int advise(dassie_job_t *job, int what)
{
    switch (what) {
        case RUN_RETRY_IN:
            return dassie_job_retry_in(job, 1);
        case RUN_NO_RETRY:
            return dassie_job_no_retry(job);
        case RUN_SNOOZE:
            return dassie_job_snooze(job, 1);
        default:
            return 0;
    }
}

static int on_work(dassie_job_t *job)
{
    int what = told.runs[told.n++];
    int rc = advise(job, what);
    return rc != 0 ? rc : what < RUN_SNOOZE ? UV_EIO : 0;
}

static void on_start(dassie_job_t *job)
{
    int what = told.runs[told.n++];
    ck_assert_int_eq(advise(job, what), 0);
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      what < RUN_SNOOZE ? UV_EIO : 0, NULL, 0),
        0);
}

static uint64_t on_backoff(dassie_job_t *job, uint32_t n)
{
    ck_assert_uint_ge(dassie_job_attempt(job), n);
    told.failed[told.asked++] = n;
    return 1;
}

static void process(int async, dassie_backoff_cb backoff)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = async ? NULL : on_work;
    options.start = async ? on_start : NULL;
    options.backoff = backoff;
    ck_assert_int_eq(dassie_process(&rig.q, &told.p, &options), 0);
}

/* Waits for the end of the job. */
struct ended {
    dassie_watch_t req;
    dassie_state_t state;
    uint32_t attempts;
    int code;
    int n;
};

static void on_ended(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    struct ended *ended = req->data;
    ck_assert_int_eq(status, 0);
    ended->state = job->state;
    ended->attempts = job->attempts;
    ended->code = job->error_code;
    ended->n++;
}

static struct ended wait_end(uint64_t id)
{
    struct ended ended = {.n = 0};
    ended.req.data = &ended;
    ck_assert_int_eq(dassie_watch(&rig.q, &ended.req, id, on_ended), 0);
    rig_wait(&ended.n, 1);
    return ended;
}

/* ---- Delays ---- */

START_TEST(delay)
{
    struct rig_got got;
    dassie_spec_t spec = rig_spec(NULL, "x");
    spec.delay_ms = DAY_MS;
    uint64_t before = now_ms();
    uint64_t id = enqueue(&spec);
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_SCHEDULED);
    ck_assert(info->due_ms >= before + DAY_MS &&
              info->due_ms <= now_ms() + DAY_MS);
    ck_assert_uint_eq(rig_counts().scheduled, 1);
    process(0, NULL);
    rig_drain(); /* it does not count */
    rig_reopen();
    info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_SCHEDULED);
    ck_assert_uint_eq(rig_counts().scheduled, 1);
}
END_TEST

START_TEST(runs_late_not_early)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    told.runs[0] = RUN_WELL;
    process(0, NULL);
    spec.delay_ms = 30;
    uint64_t before = now_ms();
    struct ended ended = wait_end(enqueue(&spec));
    ck_assert_int_eq(ended.state, DASSIE_COMPLETE);
    ck_assert_uint_ge(now_ms(), before + 30);
    ck_assert_uint_eq(rig_stats().promoted, 1);
}
END_TEST

/* What has passed is now. */
START_TEST(due_in_the_past)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    for (uint64_t ms = 1; ms < now_ms(); ms *= 1000) {
        spec.run_at_ms = ms;
        enqueue(&spec);
    }
    ck_assert_uint_eq(rig_counts().scheduled, 0);
    ck_assert_uint_eq(rig_counts().pending, 5);
}
END_TEST

START_TEST(time_range)
{
    const uint64_t last = DASSIE_TIME_MS_MAX;
    dassie_spec_t specs[9];
    for (int i = 0; i < 9; i++) {
        specs[i] = rig_spec(NULL, NULL);
    }
    specs[0].delay_ms = last;
    specs[1].delay_ms = UINT64_MAX;
    specs[2].run_at_ms = last + 1;
    specs[3].delay_ms = specs[3].run_at_ms = 1;
    specs[4].attempts_max = DASSIE_ATTEMPTS_MAX + 1;
    specs[5].backoff_ms = last + 1;
    specs[6].backoff_max_ms = last + 1;
    specs[7].retry_for_ms = last + 1;
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &specs[i], NULL),
                         UV_EINVAL);
    }
    specs[8].run_at_ms = last;
    specs[8].attempts_max = DASSIE_ATTEMPTS_MAX;
    specs[8].backoff_ms = specs[8].backoff_max_ms = last;
    specs[8].retry_for_ms = last;
    struct rig_got got;
    ck_assert_uint_eq(rig_get(&got, enqueue(&specs[8]))->due_ms, last);
}
END_TEST

struct page {
    dassie_list_t req;
    uint64_t ids[8];
    size_t n;
    int answers;
};

static void on_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    struct page *page = req->data;
    ck_assert_int_eq(status, 0);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(jobs[i].state, DASSIE_SCHEDULED);
        page->ids[page->n++] = jobs[i].id;
    }
    page->answers++;
}

/* In the order in which they are due, page by page, of all or of one queue. */
START_TEST(list_scheduled)
{
    static const unsigned days[] = {3, 1, 5, 2, 4};
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    uint64_t by_day[6];
    options.state = DASSIE_SCHEDULED;
    options.limit = 2;
    for (int i = 0; i < 5; i++) {
        dassie_spec_t spec = rig_spec(days[i] % 2 != 0 ? "odd" : "even", "x");
        spec.delay_ms = days[i] * DAY_MS;
        by_day[days[i]] = enqueue(&spec);
    }
    struct page all = {.n = 0};
    struct page odd = {.n = 0};
    all.req.data = &all;
    odd.req.data = &odd;
    for (int i = 1; i <= 4; i++) {
        options.queue = NULL;
        ck_assert_int_eq(dassie_list(&rig.q, &all.req, &options, on_page), 0);
        rig_wait(&all.answers, i);
        options.queue = "odd";
        ck_assert_int_eq(dassie_list(&rig.q, &odd.req, &options, on_page), 0);
        rig_wait(&odd.answers, i);
    }
    ck_assert_uint_eq(all.n, 5);
    ck_assert_uint_eq(odd.n, 3);
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(all.ids[i], by_day[i + 1]);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(odd.ids[i], by_day[2 * i + 1]);
    }
}
END_TEST

/* ---- Retries ---- */

/* Of both kinds of processors. */
START_TEST(retries_and_snoozes)
{
    static const int runs[] = {RUN_FAIL,   RUN_SNOOZE, RUN_RETRY_IN,
                               RUN_SNOOZE, RUN_SNOOZE, RUN_FAIL};
    dassie_spec_t spec = rig_spec(NULL, "x");
    memcpy(told.runs, runs, sizeof runs);
    spec.attempts_max = 3;
    spec.backoff_ms = 1;
    process(_i, NULL);
    struct ended ended = wait_end(enqueue(&spec));
    ck_assert_int_eq(ended.state, DASSIE_FAILED);
    ck_assert_int_eq(ended.code, UV_EIO);
    ck_assert_uint_eq(ended.attempts, 6);
    ck_assert_uint_eq(rig_stats().retried, 2);
    ck_assert_uint_eq(rig_stats().snoozed, 3);
    ck_assert_uint_eq(rig_stats().failed, 1);
}
END_TEST

START_TEST(no_retry)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    told.runs[0] = RUN_NO_RETRY;
    spec.attempts_max = 0;
    process(_i, NULL);
    struct ended ended = wait_end(enqueue(&spec));
    ck_assert_int_eq(ended.state, DASSIE_FAILED);
    ck_assert_uint_eq(ended.attempts, 1);
}
END_TEST

/* Asked after each failure of which the processor did not say when. */
START_TEST(own_backoff)
{
    static const int runs[] = {RUN_FAIL, RUN_SNOOZE, RUN_RETRY_IN, RUN_FAIL,
                               RUN_WELL};
    dassie_spec_t spec = rig_spec(NULL, "x");
    memcpy(told.runs, runs, sizeof runs);
    spec.attempts_max = 10;
    spec.backoff_ms = DAY_MS;
    process(0, on_backoff);
    struct ended ended = wait_end(enqueue(&spec));
    ck_assert_int_eq(ended.state, DASSIE_COMPLETE);
    ck_assert_uint_eq(ended.attempts, 5);
    ck_assert_int_eq(told.asked, 2);
    ck_assert_uint_eq(told.failed[0], 1);
    ck_assert_uint_eq(told.failed[1], 3);
}
END_TEST

/* A job that waits for its next attempt tells why, also after a restart. */
START_TEST(waits_with_its_error)
{
    struct rig_got got;
    dassie_spec_t spec = rig_spec(NULL, "x");
    spec.attempts_max = 2;
    spec.backoff_ms = spec.backoff_max_ms = DAY_MS;
    process(0, NULL);
    uint64_t before = now_ms();
    uint64_t id = enqueue(&spec);
    while (rig_counts().scheduled == 0) {
    }
    rig_reopen();
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_SCHEDULED);
    ck_assert_uint_eq(info->attempts, 1);
    ck_assert_int_eq(info->error_code, UV_EIO);
    ck_assert_str_eq(info->error, dassie_strerror(UV_EIO));
    ck_assert_uint_ge(info->due_ms, before + DAY_MS / 4 * 3);
    ck_assert_uint_le(info->due_ms, now_ms() + DAY_MS / 4 * 5);
}
END_TEST

START_TEST(bad_calls)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    ck_assert_int_eq(dassie_job_retry_in(NULL, 1), UV_EINVAL);
    ck_assert_int_eq(dassie_job_no_retry(NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_job_snooze(NULL, 1), UV_EINVAL);
    options.start = on_start;
    options.backoff = on_backoff;
    ck_assert_int_eq(dassie_process(&rig.q, &told.p, &options), UV_EINVAL);
}
END_TEST

static struct {
    int n;
    int status;
    int code;
    int state;
} over;

static void on_over(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    over.status = status;
    over.state = job != NULL ? (int)job->state : -1;
    over.code = job != NULL ? job->error_code : 0;
    over.n++;
}

/* Who waits for its end is told why; nobody is there to start it. */
START_TEST(expires)
{
    static dassie_enqueue_t req;
    dassie_spec_t spec = rig_spec("mail", "x");
    struct rig_got got;
    memset(&req, 0, sizeof req);
    memset(&over, 0, sizeof over);
    spec.expire_ms = 20;
    req.done_cb = on_over;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, NULL), 0);
    rig_wait(&over.n, 1);
    ck_assert_int_eq(over.status, 0);
    ck_assert_int_eq(over.state, DASSIE_CANCELLED);
    ck_assert_int_eq(over.code, DASSIE_EEXPIRED);
    const dassie_info_t *info = rig_get(&got, req.id);
    ck_assert_int_eq(info->state, DASSIE_CANCELLED);
    ck_assert_int_eq(info->error_code, DASSIE_EEXPIRED);
    ck_assert_str_eq(info->error, dassie_strerror(DASSIE_EEXPIRED));
    ck_assert_uint_eq(info->expires_ms, info->enqueued_ms + 20);
    ck_assert_uint_ge(info->ended_ms, info->expires_ms);
    ck_assert_uint_eq(rig_stats().cancelled, 1);
}
END_TEST

/* It expires while nobody has the store open, too. */
START_TEST(expires_while_closed)
{
    dassie_spec_t spec = rig_spec("mail", "x");
    struct rig_got got;
    spec.delay_ms = 1;
    spec.expire_ms = 1;
    uint64_t id = enqueue(&spec);
    rig_reopen();
    spec.expire_ms = 3600000;
    uint64_t other = enqueue(&spec);
    do {
        rig_get(&got, id);
    } while (got.info.state != DASSIE_CANCELLED);
    ck_assert_int_eq(got.info.error_code, DASSIE_EEXPIRED);
    ck_assert_uint_eq(rig_get(&got, other)->ended_ms, 0);
    spec.expire_ms = DASSIE_TIME_MS_MAX + 1;
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), UV_EINVAL);
}
END_TEST

static void forget(void)
{
    memset(&told, 0, sizeof told);
}

int main(void)
{
    Suite *suite = suite_create("life");
    TCase *tc = tcase_create("life");
    tcase_add_checked_fixture(tc, setup, rig_finish);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, delay);
    tcase_add_test(tc, runs_late_not_early);
    tcase_add_test(tc, due_in_the_past);
    tcase_add_test(tc, time_range);
    tcase_add_test(tc, list_scheduled);
    tcase_add_loop_test(tc, retries_and_snoozes, 0, 2);
    tcase_add_loop_test(tc, no_retry, 0, 2);
    tcase_add_test(tc, own_backoff);
    tcase_add_test(tc, waits_with_its_error);
    tcase_add_test(tc, bad_calls);
    tcase_add_test(tc, expires);
    tcase_add_test(tc, expires_while_closed);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
