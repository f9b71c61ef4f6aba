/* What users see of progress, checkpoints and steps. */
#include "config.h"

#include "queue_rig.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What an earlier test left in this process. */
static void forget(void);

static void setup(void)
{
    forget();
    rig_begin();
}

/* ---- A job that the test holds ---- */

static struct {
    dassie_processor_t p;
    dassie_job_t *job; /* under way */
    int n;
} held;

static void on_start(dassie_job_t *job)
{
    held.job = job;
    held.n++;
}

static void on_cancel(dassie_job_t *job)
{
    ck_assert_ptr_eq(job, held.job);
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      UV_ECANCELED, NULL, 0),
        0);
}

static void process(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.start = on_start;
    options.cancel = on_cancel;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
}

static void enqueue_held(void)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    spec.attempts_max = 3;
    spec.backoff_ms = 1;
    rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    rig_wait(&held.n, 1);
}

static void finish(int status)
{
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(held.job),
                      dassie_job_attempt(held.job), status, NULL, 0),
        0);
}

static void has(const char *checkpoint, uint64_t resume_at)
{
    size_t len = 99;
    const void *data = dassie_job_checkpoint_data(held.job, &len);
    ck_assert_uint_eq(len, strlen(checkpoint));
    ck_assert(len > 0 ? memcmp(data, checkpoint, len) == 0 : data == NULL);
    ck_assert_ptr_eq(dassie_job_checkpoint_data(held.job, NULL), data);
    ck_assert_uint_eq(dassie_job_resume_at(held.job), resume_at);
}

struct seen {
    dassie_get_t req;
    dassie_list_t list;
    uint64_t done;
    uint64_t total;
    char text[DASSIE_PROGRESS_BYTES_MAX + 1];
    size_t len;
    bool any;
    int n;
};

static void see(struct seen *seen, const dassie_info_t *job)
{
    seen->done = job->progress_done;
    seen->total = job->progress_total;
    seen->len = job->progress_len;
    seen->any = job->progress != NULL;
    if (seen->any) {
        ck_assert_uint_eq(strlen(job->progress), job->progress_len);
        memcpy(seen->text, job->progress, job->progress_len + 1);
    }
    seen->n++;
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    ck_assert_int_eq(status, 0);
    see(req->data, job);
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(n, 1);
    see(req->data, jobs);
}

/* dassie_get() and dassie_list() say the same. */
static void progress_is(uint64_t id, dassie_state_t state, uint64_t done,
                        uint64_t total, const char *text)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    options.state = state;
    for (int i = 0; i < 2; i++) {
        struct seen seen = {.n = 0};
        seen.req.data = seen.list.data = &seen;
        int rc = i == 0 ? dassie_get(&rig.q, &seen.req, id, on_get)
                        : dassie_list(&rig.q, &seen.list, &options, on_list);
        ck_assert_int_eq(rc, 0);
        rig_wait(&seen.n, 1);
        ck_assert_uint_eq(seen.done, done);
        ck_assert_uint_eq(seen.total, total);
        ck_assert_int_eq(seen.any, text != NULL);
        ck_assert_str_eq(seen.text, text != NULL ? text : "");
    }
}

/* ---- Progress ---- */

START_TEST(seen_at_once)
{
    process();
    enqueue_held();
    uint64_t commits = rig_stats().commits;
    progress_is(1, DASSIE_RUNNING, 0, 0, NULL);
    ck_assert_int_eq(dassie_job_progress(held.job, 1, 4, "a quarter", 0), 0);
    progress_is(1, DASSIE_RUNNING, 1, 4, "a quarter");
    ck_assert_int_eq(dassie_job_progress(held.job, 2, 4, "half way", 4), 0);
    progress_is(1, DASSIE_RUNNING, 2, 4, "half");
    ck_assert_int_eq(dassie_job_progress(held.job, 9, 0, NULL, 0), 0);
    progress_is(1, DASSIE_RUNNING, 9, 0, "");
    ck_assert_uint_eq(rig_stats().commits, commits);
    finish(0);
    rig_drain();
    progress_is(1, DASSIE_COMPLETE, 0, 0, NULL);
}
END_TEST

/* It stays over a retry, a failure and a restart. */
START_TEST(stays)
{
    process();
    enqueue_held();
    ck_assert_int_eq(dassie_job_progress(held.job, 3, 4, "most", 0), 0);
    ck_assert_int_eq(dassie_job_retry_in(held.job, 3600 * 1000), 0);
    finish(UV_EIO);
    rig_drain();
    progress_is(1, DASSIE_SCHEDULED, 3, 4, "most");
    rig_reopen();
    progress_is(1, DASSIE_SCHEDULED, 3, 4, "most");
    held.n = 0;
    process();
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    rig_try_enqueue(&spec, &status);
    rig_wait(&held.n, 1);
    ck_assert_int_eq(dassie_job_step(held.job, 1, 2), 0);
    finish(UV_EIO);
    rig_drain();
    progress_is(2, DASSIE_FAILED, 1, 2, "");
    rig_reopen();
    progress_is(2, DASSIE_FAILED, 1, 2, "");
}
END_TEST

static bool written(void)
{
    return rig_stats().rows > 0 && rig_stats().commits > 1;
}

/* Within a second it is on disk, with no other commit. */
START_TEST(commits_by_itself)
{
    process();
    enqueue_held();
    finish(0);
    rig_drain();
    rig_reopen();
    held.n = 0;
    process();
    uint64_t commits = rig_stats().commits;
    enqueue_held();
    ck_assert_int_eq(dassie_job_checkpoint(held.job, "a", 1), 0);
    ck_assert_uint_eq(rig_stats().commits, commits + 1);
    rig_poll(written);
    finish(0);
    rig_drain();
}
END_TEST

/* ---- Checkpoints ---- */

START_TEST(next_attempt)
{
    process();
    enqueue_held();
    has("", 0);
    ck_assert_int_eq(dassie_job_checkpoint(held.job, "one", 3), 0);
    ck_assert_int_eq(dassie_job_checkpoint(held.job, "two", 3), 0);
    has("", 0);
    finish(UV_EIO);
    rig_wait(&held.n, 2);
    has("two", 0);
    ck_assert_int_eq(dassie_job_step(held.job, 5, 0), 0);
    has("two", 0);
    finish(UV_EIO);
    rig_wait(&held.n, 3);
    has("two", 5);
    ck_assert_int_eq(dassie_job_checkpoint(held.job, NULL, 0), 0);
    ck_assert_int_eq(dassie_job_snooze(held.job, 0), 0);
    finish(0);
    rig_wait(&held.n, 4);
    has("", 5);
    finish(0);
    rig_drain();
}
END_TEST

/* A job that is asked to end by a close goes on at the next open, with all of
 * its attempts. */
START_TEST(goes_on_after_close)
{
    struct rig_got got;
    rig_close();
    rig.options.grace_ms = 1;
    rig_open();
    process();
    enqueue_held();
    ck_assert_int_eq(dassie_job_step(held.job, 7, 9), 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_job_step(held.job, 8, 9), UV_ECANCELED);
    rig_wait(&rig.closed, 1);
    rig_open();
    const dassie_info_t *info = rig_get(&got, 1);
    ck_assert_uint_eq(info->attempts - info->excused, 0);
    ck_assert_int_eq(info->error_code, 0);
    process();
    rig_wait(&held.n, 2);
    has("", 8);
    ck_assert_int_eq(dassie_job_step(held.job, 9, 9), 0);
    finish(0);
    rig_drain();
}
END_TEST

/* One that is to run at most once fails: it has run. */
START_TEST(once_and_closed)
{
    struct rig_got got;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    rig_close();
    rig.options.grace_ms = 1;
    rig_open();
    process();
    spec.flags = DASSIE_AT_MOST_ONCE;
    uint64_t id = rig_try_enqueue(&spec, &status);
    rig_wait(&held.n, 1);
    rig_reopen();
    ck_assert_int_eq(rig_get(&got, id)->state, DASSIE_FAILED);
    ck_assert_int_eq(got.info.error_code, UV_ECANCELED);
}
END_TEST

/* ---- Bad input ---- */

START_TEST(bad)
{
    static const char large[DASSIE_CHECKPOINT_BYTES_MAX + 1];
    char words[DASSIE_PROGRESS_BYTES_MAX + 2];
    memset(words, 'x', sizeof words);
    words[sizeof words - 1] = '\0';
    process();
    enqueue_held();
    dassie_job_t *job = held.job;
    ck_assert_int_eq(dassie_job_progress(NULL, 1, 2, NULL, 0), UV_EINVAL);
    ck_assert_int_eq(dassie_job_progress(job, 3, 2, NULL, 0), UV_EINVAL);
    ck_assert_int_eq(dassie_job_progress(job, 1, 2, NULL, 1), UV_EINVAL);
    ck_assert_int_eq(dassie_job_step(NULL, 1, 2), UV_EINVAL);
    ck_assert_int_eq(dassie_job_step(job, 3, 2), UV_EINVAL);
    ck_assert_int_eq(dassie_job_checkpoint(NULL, "x", 1), UV_EINVAL);
    ck_assert_int_eq(dassie_job_checkpoint(job, NULL, 1), UV_EINVAL);
    ck_assert_int_eq(dassie_job_checkpoint(job, large, sizeof large), UV_E2BIG);
    ck_assert_int_eq(dassie_job_progress(job, 1, 2, words, sizeof words - 1),
                     UV_E2BIG);
    progress_is(1, DASSIE_RUNNING, 0, 0, NULL);
    ck_assert_int_eq(dassie_job_checkpoint(job, large, sizeof large - 1), 0);
    words[DASSIE_PROGRESS_BYTES_MAX] = '\0';
    ck_assert_int_eq(dassie_job_progress(job, 2, 2, words, 0), 0);
    progress_is(1, DASSIE_RUNNING, 2, 2, words);
    finish(UV_EIO);
    rig_wait(&held.n, 2);
    size_t len;
    const void *data = dassie_job_checkpoint_data(held.job, &len);
    ck_assert_uint_eq(len, DASSIE_CHECKPOINT_BYTES_MAX);
    ck_assert(memcmp(data, large, len) == 0);
    finish(0);
    rig_drain();
}
END_TEST

/* ---- On the pool ---- */

static atomic_int begins;

/* Fails in the middle, so that it is to be tried again. */
static int on_work(dassie_job_t *job)
{
    uint64_t i = dassie_job_resume_at(job);
    int begin = begins++;
    ck_assert_uint_eq(i, (uint64_t)begin * 1000);
    for (; i < 10000; i++) {
        int rc = dassie_job_step(job, i, 10000);
        if (rc != 0 || (i == (uint64_t)(begin + 1) * 1000 && begin < 3)) {
            return rc != 0 ? rc : UV_EIO;
        }
    }
    return dassie_job_progress(job, i, i, "done", 0);
}

START_TEST(step_2001_of_10000)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    options.work = on_work;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
    spec.attempts_max = 4;
    spec.backoff_ms = 1;
    struct rig_got got;
    uint64_t id = rig_try_enqueue(&spec, &status);
    do {
        rig_drain();
    } while (rig_get(&got, id)->state != DASSIE_COMPLETE);
    ck_assert_int_eq(begins, 4);
}
END_TEST

static void forget(void)
{
    memset(&held, 0, sizeof held);
    begins = 0;
}

int main(void)
{
    Suite *suite = suite_create("resume");
    TCase *tc = tcase_create("resume");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, rig_finish);
    tcase_add_test(tc, seen_at_once);
    tcase_add_test(tc, stays);
    tcase_add_test(tc, commits_by_itself);
    tcase_add_test(tc, next_attempt);
    tcase_add_test(tc, goes_on_after_close);
    tcase_add_test(tc, once_and_closed);
    tcase_add_test(tc, bad);
    tcase_add_test(tc, step_2001_of_10000);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
