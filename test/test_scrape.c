/* dassie_metrics() as users call it: what it tells, when it answers, and what
 * it refuses. */
#include "config.h"

#include "queue_rig.h"

#include <inttypes.h>

struct scrape {
    dassie_metrics_t req;
    char *text;
    int status;
    int n;
};

static void on_metrics(dassie_metrics_t *req, int status, const char *text,
                       size_t len)
{
    struct scrape *s = req->data;
    ck_assert_ptr_eq(req->q, &rig.q);
    ck_assert_int_eq(text == NULL, status != 0);
    ck_assert(status != 0 || strlen(text) == len);
    s->status = status;
    s->text = status == 0 ? strdup(text) : NULL;
    s->n++;
}

static void scrape_begin(struct scrape *s)
{
    memset(s, 0, sizeof *s);
    s->req.data = s;
    ck_assert_int_eq(dassie_metrics(&rig.q, &s->req, on_metrics), 0);
    ck_assert_int_eq(s->n, 0);
}

static void scrape_end(struct scrape *s)
{
    free(s->text);
}

static void scrape(struct scrape *s)
{
    scrape_begin(s);
    rig_wait(&s->n, 1);
    ck_assert_int_eq(s->status, 0);
}

/* The value of a sample, which has to be there once. */
static double value(const struct scrape *s, const char *sample)
{
    size_t len = strlen(sample);
    const char *found = NULL;
    for (const char *at = s->text; *at != '\0'; at = strchr(at, '\n') + 1) {
        if (strncmp(at, sample, len) == 0 && at[len] == ' ') {
            ck_assert_msg(found == NULL, "'%s' twice", sample);
            found = at + len;
        }
    }
    ck_assert_msg(found != NULL, "no '%s' in\n%s", sample, s->text);
    return strtod(found, NULL);
}

static void is(const struct scrape *s, const char *sample, double wanted)
{
    double found = value(s, sample);
    ck_assert_msg(found == wanted, "%s is %g, not %g", sample, found, wanted);
}

static void setup(void)
{
    rig_setup();
}

/* Leaves a sound store. */
static void teardown(void)
{
    rig_verify();
    rig_teardown();
}

/* ---- Jobs ---- */

static dassie_processor_t worker;

static int work(dassie_job_t *job)
{
    size_t len;
    const char *data = dassie_job_data(job, &len);
    return len > 0 && data[0] == 'f' ? UV_EIO : 0;
}

static void start(dassie_job_t *job)
{
    size_t len;
    const char *data = dassie_job_data(job, &len);
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      len > 0 && data[0] == 'f' ? UV_EIO : 0, NULL, 0),
        0);
}

static int ended;

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    ck_assert_int_eq(status, 0);
    ended++;
}

/* Waits until the job has ended, and the engine has told all of it. */
static void run(const char *data)
{
    dassie_enqueue_t req = {.done_cb = on_done};
    dassie_spec_t spec = rig_spec("mail", data);
    ended = 0;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, NULL), 0);
    rig_wait(&ended, 1);
    rig_counts();
}

static void process(bool async)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = "mail";
    options.work = async ? NULL : work;
    options.start = async ? start : NULL;
    options.concurrency = 2;
    ck_assert_int_eq(dassie_process(&rig.q, &worker, &options), 0);
}

/* Of jobs that run on the pool (0), or on the loop (1). */
START_TEST(tells)
{
    struct scrape s;
    rig_open();
    rig_enqueue("wait", "x");
    rig_enqueue("wait", "x");
    process(_i == 1);
    run("x");
    run("x");
    run("f");
    scrape(&s);
    is(&s, "dassie_jobs{queue=\"wait\",state=\"pending\"}", 2);
    is(&s, "dassie_jobs{queue=\"mail\",state=\"complete\"}", 2);
    is(&s, "dassie_jobs{queue=\"mail\",state=\"failed\"}", 1);
    is(&s, "dassie_jobs_enqueued_total{queue=\"wait\"}", 2);
    is(&s, "dassie_jobs_enqueued_total{queue=\"mail\"}", 3);
    is(&s, "dassie_jobs_completed_total{queue=\"mail\"}", 2);
    is(&s, "dassie_jobs_failed_total{queue=\"mail\"}", 1);
    is(&s, "dassie_job_waiting_seconds_count{queue=\"mail\"}", 3);
    is(&s, "dassie_job_running_seconds_count{queue=\"mail\"}", 3);
    is(&s, "dassie_job_running_seconds_count{queue=\"wait\"}", 0);
    is(&s, "dassie_queues", 2);
    is(&s, "dassie_pool_threads_requested", _i == 1 ? 0 : 2);
    is(&s, "dassie_inbox_jobs", 0);
    is(&s, "dassie_degraded", 0);
    dassie_stats_t stats = rig_stats();
    is(&s, "dassie_fsyncs_total", (double)stats.fsyncs);
    is(&s, "dassie_claims_total", (double)stats.claimed);
    is(&s, "dassie_commit_rows_count", (double)stats.commits);
    is(&s, "dassie_commit_duration_seconds_count", (double)stats.commits);
    ck_assert(value(&s, "dassie_commit_rows_sum") <= (double)stats.rows);
    ck_assert(value(&s, "dassie_commit_size_bytes_sum") > 0);
    ck_assert(value(&s, "dassie_store_bytes") > (double)stats.row_bytes);
    scrape_end(&s);
    rig_close();
}
END_TEST

/* States are there at once after an open, counters begin anew. */
START_TEST(reopened)
{
    struct scrape s;
    rig_open();
    process(false);
    run("x");
    rig_reopen();
    scrape(&s);
    is(&s, "dassie_jobs{queue=\"mail\",state=\"complete\"}", 1);
    is(&s, "dassie_jobs_completed_total{queue=\"mail\"}", 0);
    is(&s, "dassie_job_running_seconds_count{queue=\"mail\"}", 0);
    scrape_end(&s);
    rig_close();
}
END_TEST

/* Of a job that takes some time: as long as that, at least. */
static int work_long(dassie_job_t *job)
{
    (void)job;
    uv_sleep(30);
    return 0;
}

START_TEST(takes_time)
{
    struct scrape s;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig_open();
    options.queue = "mail";
    options.work = work_long;
    ck_assert_int_eq(dassie_process(&rig.q, &worker, &options), 0);
    run("x");
    scrape(&s);
    double took = value(&s, "dassie_job_running_seconds_sum{queue=\"mail\"}");
    ck_assert_msg(took >= 0.03 && took < 60, "%g s", took);
    is(&s, "dassie_job_running_seconds_bucket{queue=\"mail\",le=\"0.01\"}", 0);
    is(&s, "dassie_job_running_seconds_bucket{queue=\"mail\",le=\"+Inf\"}", 1);
    scrape_end(&s);
    rig_close();
}
END_TEST

/* ---- On a clock that is moved ---- */

static uint64_t started;

static void start_hold(dassie_job_t *job)
{
    started = dassie_job_id(job);
}

static void advance(uint64_t ms)
{
    ck_assert_int_eq(dassie_testing_advance(&rig.q, ms), 0);
}

static void finish(uint32_t attempt, int status)
{
    ck_assert_int_eq(dassie_finish(&rig.q, started, attempt, status, NULL, 0),
                     0);
    advance(0);
}

/* A job that is due after 90 s waits until somebody serves its queue 3.2 s
 * later, fails after 20 s, and runs well for 400 ms a second after that. */
START_TEST(clock_is_moved)
{
    struct scrape s;
    dassie_spec_t spec = rig_spec("a", NULL);
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig.options.flags = DASSIE_TESTING;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, NULL, &rig.options, rig_opened), 0);
    spec.delay_ms = 90000;
    spec.attempts_max = 2;
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    advance(93200);
    options.queue = "a";
    options.start = start_hold;
    ck_assert_int_eq(dassie_process(&rig.q, &worker, &options), 0);
    advance(20000);
    finish(1, UV_EIO);
    advance(2000);
    advance(400);
    scrape(&s);
    is(&s, "dassie_jobs{queue=\"a\",state=\"running\"}", 1);
    is(&s, "dassie_jobs_retried_total{queue=\"a\"}", 1);
    is(&s, "dassie_jobs_promoted_total", 2);
    scrape_end(&s);
    finish(2, 0);
    scrape(&s);
    is(&s, "dassie_jobs{queue=\"a\",state=\"complete\"}", 1);
    is(&s, "dassie_jobs_completed_total{queue=\"a\"}", 1);
    is(&s, "dassie_job_waiting_seconds_bucket{queue=\"a\",le=\"2.5\"}", 0);
    is(&s, "dassie_job_waiting_seconds_bucket{queue=\"a\",le=\"10\"}", 1);
    is(&s, "dassie_job_waiting_seconds_sum{queue=\"a\"}", 3.2);
    is(&s, "dassie_job_waiting_seconds_count{queue=\"a\"}", 1);
    is(&s, "dassie_job_running_seconds_bucket{queue=\"a\",le=\"0.25\"}", 0);
    is(&s, "dassie_job_running_seconds_bucket{queue=\"a\",le=\"5\"}", 1);
    is(&s, "dassie_job_running_seconds_bucket{queue=\"a\",le=\"30\"}", 2);
    is(&s, "dassie_job_running_seconds_count{queue=\"a\"}", 2);
    is(&s, "dassie_commit_duration_seconds_sum", 0);
    is(&s, "dassie_store_bytes", 0);
    double ran = value(&s, "dassie_job_running_seconds_sum{queue=\"a\"}");
    ck_assert_msg(ran >= 20.4 && ran < 22.5, "%g s", ran); /* its backoff */
    scrape_end(&s);
    rig_close();
    rig.options.flags = 0; /* for teardown to verify */
    rig_open();
    rig_close();
}
END_TEST

/* ---- When ---- */

/* It answers while the engine is still opening the store. */
START_TEST(opening)
{
    struct scrape s;
    rig_hold();
    rig.opened = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    scrape(&s);
    ck_assert_int_eq(rig.opened, 0);
    is(&s, "dassie_queues", 0);
    ck_assert_ptr_null(strstr(s.text, "dassie_jobs{"));
    scrape_end(&s);
    rig_release();
    rig_wait(&rig.opened, 1);
    ck_assert_int_eq(rig.status, 0);
    rig_enqueue("a", NULL);
    scrape(&s);
    is(&s, "dassie_jobs{queue=\"a\",state=\"pending\"}", 1);
    scrape_end(&s);
    rig_close();
}
END_TEST

START_TEST(not_opened)
{
    struct scrape s;
    rig.options.flags = DASSIE_NO_CREATE;
    ck_assert_int_eq(rig_try_open(), UV_ENOENT);
    scrape(&s);
    is(&s, "dassie_queues", 0);
    scrape_end(&s);
    rig_close();
    rig.options.flags = 0;
    rig_open();
    rig_close();
}
END_TEST

/* What was asked for is told before the end. */
START_TEST(closing)
{
    struct scrape s[3];
    rig_open();
    rig_enqueue("a", NULL);
    for (int i = 0; i < 3; i++) {
        scrape_begin(&s[i]);
    }
    rig_close();
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(s[i].n, 1);
        ck_assert_int_eq(s[i].status, 0);
        is(&s[i], "dassie_jobs_enqueued_total{queue=\"a\"}", 1);
        scrape_end(&s[i]);
    }
}
END_TEST

START_TEST(bad)
{
    dassie_metrics_t req;
    dassie_t q;
    ck_assert_int_eq(dassie_metrics(NULL, &req, on_metrics), UV_EINVAL);
    ck_assert_int_eq(dassie_init(&rig.loop, &q), 0);
    ck_assert_int_eq(dassie_metrics(&q, &req, on_metrics), UV_EINVAL);
    ck_assert_int_eq(dassie_close(&q, NULL), 0);
    rig_open();
    ck_assert_int_eq(dassie_metrics(&rig.q, NULL, on_metrics), UV_EINVAL);
    ck_assert_int_eq(dassie_metrics(&rig.q, &req, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_metrics(&rig.q, &req, on_metrics), UV_ECANCELED);
    rig_wait(&rig.closed, 1);
}
END_TEST

/* ---- The limit ---- */

START_TEST(limit)
{
    enum { QUEUES = DASSIE_METRICS_QUEUES_MAX + 10 };
    struct scrape s;
    char name[64];
    rig_open();
    for (int i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof name, "q%d", i);
        rig_enqueue(name, NULL);
    }
    scrape(&s);
    is(&s, "dassie_queues", QUEUES);
    snprintf(name, sizeof name, "dassie_jobs{queue=\"q%d\",state=\"pending\"}",
             DASSIE_METRICS_QUEUES_MAX - 1);
    is(&s, name, 1);
    is(&s, "dassie_jobs{state=\"pending\"}", 10);
    is(&s, "dassie_jobs_enqueued_total", 10);
    snprintf(name, sizeof name, "\"q%d\"", DASSIE_METRICS_QUEUES_MAX);
    ck_assert_ptr_null(strstr(s.text, name));
    scrape_end(&s);
    rig_close();
}
END_TEST

/* ---- Threads ---- */

#define THREAD_JOBS 2000

static void enqueue_many(void *arg)
{
    char name[16];
    (void)arg;
    for (int i = 0; i < THREAD_JOBS; i++) {
        snprintf(name, sizeof name, "q%d", i % 10);
        dassie_spec_t spec = rig_spec(i % 2 == 0 ? "mail" : name, "x");
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    }
}

/* Scrapes while queues are made and jobs come, run and end. */
START_TEST(threads)
{
    struct scrape s;
    uv_thread_t thread;
    double jobs = 0;
    int scrapes = 0;
    rig_open();
    process(false);
    ck_assert_int_eq(uv_thread_create(&thread, enqueue_many, NULL), 0);
    do {
        scrape(&s);
        jobs = strstr(s.text, "{queue=\"mail\"") == NULL
                   ? 0
                   : value(&s, "dassie_jobs_completed_total{queue=\"mail\"}");
        scrape_end(&s);
        scrapes++;
    } while (jobs < THREAD_JOBS / 2);
    uv_thread_join(&thread);
    scrape(&s);
    is(&s, "dassie_job_running_seconds_count{queue=\"mail\"}", THREAD_JOBS / 2);
    ck_assert_int_gt(scrapes, 0);
    scrape_end(&s);
    rig_close();
}
END_TEST

static Suite *scrape_suite(void)
{
    Suite *suite = suite_create("scrape");
    TCase *tc = tcase_create("scrape");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, tells, 0, 2);
    tcase_add_test(tc, reopened);
    tcase_add_test(tc, takes_time);
    tcase_add_test(tc, clock_is_moved);
    tcase_add_test(tc, opening);
    tcase_add_test(tc, not_opened);
    tcase_add_test(tc, closing);
    tcase_add_test(tc, bad);
    tcase_add_test(tc, limit);
    tcase_add_test(tc, threads);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(scrape_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
