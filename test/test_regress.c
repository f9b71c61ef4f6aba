/* Faults that were found by review and by chance, and are not to come back:
 * what the store's loss leaves unsaid, who waits for a thread of the pool,
 * pages of a rare queue, and what a lack of memory does in odd places. */
#include "config.h"

#include "queue_rig.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

/* ---- Memory ---- */

static atomic_long fail_after; /* allocations until one fails; -1: never */
static atomic_bool fail_mine;  /* those of threads that ask for it fail */
static _Thread_local bool mine;

static bool fails(void)
{
    long left = atomic_load(&fail_after);
    return (mine && atomic_load(&fail_mine)) ||
           (left >= 0 && atomic_fetch_sub(&fail_after, 1) == 0);
}

static void *failing_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

static void *failing_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

static void *failing_realloc(void *p, size_t size)
{
    return fails() ? NULL : realloc(p, size);
}

static void setup(void)
{
    atomic_store(&fail_after, -1);
    atomic_store(&fail_mine, false);
    dassie_replace_allocator(failing_malloc, failing_realloc, failing_calloc,
                             free);
    rig_begin();
}

/* Leaves a sound store. */
static void teardown(void)
{
    atomic_store(&fail_after, -1);
    rig_finish();
    dassie_replace_allocator(malloc, realloc, calloc, free);
}

static void process(dassie_processor_t *p, const char *queue,
                    dassie_work_cb work, dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = work;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
}

static int work_well(dassie_job_t *job)
{
    (void)job;
    return 0;
}

/* Whatever allocation fails, a first job is taken or refused, and both times
 * the store stays sound. */
START_TEST(first_job_without_memory)
{
    static const char *const queues[] = {"a", "b", "c", "d"};
    int refused = 0;
    int taken = 0;
    for (long n = 0; taken < 4; n++) {
        struct rig_ack ack = {.n = 0};
        dassie_spec_t spec = rig_spec(queues[taken], "x");
        ack.req.data = &ack;
        atomic_store(&fail_after, n);
        int rc = dassie_enqueue(&rig.q, &ack.req, &spec, rig_on_ack);
        if (rc == 0) {
            rig_wait(&ack.n, 1);
            rc = ack.status;
        }
        atomic_store(&fail_after, -1);
        ck_assert(rc == 0 || rc == UV_ENOMEM);
        refused += rc != 0;
        taken += rc == 0;
        n = rc == 0 ? -1 : n;
    }
    ck_assert_int_gt(refused, 4);
    rig_reopen();
    ck_assert_uint_eq(rig_counts().pending, 4);
}
END_TEST

static int work_bad(dassie_job_t *job)
{
    ck_assert_int_eq(dassie_job_set_result(job, "secret", 6), 0);
    mine = true;
    atomic_store(&fail_mine, true);
    return UV_EIO;
}

/* A result is never taken for an error's text. */
START_TEST(failure_without_memory)
{
    static dassie_processor_t p;
    struct rig_got got;
    process(&p, NULL, work_bad, NULL);
    uint64_t id = rig_enqueue(NULL, NULL);
    rig_drain();
    atomic_store(&fail_mine, false);
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_FAILED);
    ck_assert_int_eq(info->error_code, UV_EIO);
    ck_assert_uint_eq(info->error_len, 0);
    ck_assert_uint_eq(info->result_len, 0);
}
END_TEST

/* ---- Pages ---- */

struct page {
    dassie_list_t req;
    uint64_t first;
    size_t n;
    int status;
    int told;
};

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    struct page *page = req->data;
    page->status = status;
    page->n = n;
    page->first = n > 0 ? jobs[0].id : 0;
    page->told++;
}

static void list(struct page *page, const char *queue)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    int told = page->told;
    options.state = DASSIE_COMPLETE;
    options.queue = queue;
    page->req.data = page;
    ck_assert_int_eq(dassie_list(&rig.q, &page->req, &options, on_list), 0);
    rig_wait(&page->told, told + 1);
}

/* What other queues hold is no part of a page, and does not end it. */
START_TEST(page_of_a_rare_queue)
{
    enum { BIG = 1 << 20, JOBS = 17 };
    static dassie_processor_t big;
    static dassie_processor_t rare;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    struct page page = {.told = 0};
    process(&big, "big", work_well, NULL);
    process(&rare, "rare", work_well, NULL);
    spec.queue = "big";
    spec.data = calloc(1, BIG);
    spec.data_len = BIG;
    ck_assert_ptr_nonnull(spec.data);
    for (int i = 0; i < JOBS; i++) {
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    }
    free((void *)(uintptr_t)spec.data);
    uint64_t id = rig_enqueue("rare", NULL);
    rig_drain();
    list(&page, "rare");
    ck_assert_int_eq(page.status, 0);
    ck_assert_uint_eq(page.n, 1);
    ck_assert_uint_eq(page.first, id);
    list(&page, "rare");
    ck_assert_uint_eq(page.n, 0);
}
END_TEST

/* A page that could not be had is asked for again, from where it began. */
START_TEST(page_without_memory)
{
    enum { JOBS = 5 };
    static dassie_processor_t p;
    struct page page = {.told = 0};
    int failed = 0;
    process(&p, NULL, work_well, NULL);
    uint64_t first = rig_enqueue(NULL, NULL);
    for (int i = 1; i < JOBS; i++) {
        rig_enqueue(NULL, NULL);
    }
    rig_drain();
    for (long n = 1; n == 1 || page.status != 0; n++) { /* 0: the call's own */
        atomic_store(&fail_after, n);
        list(&page, NULL);
        atomic_store(&fail_after, -1);
        ck_assert(page.status == 0 || page.status == UV_ENOMEM);
        failed += page.status != 0;
    }
    ck_assert_int_gt(failed, JOBS);
    ck_assert_uint_eq(page.n, JOBS);
    ck_assert_uint_eq(page.first, first);
}
END_TEST

/* ---- Threads of the pool ---- */

#define POOL_SIZE "3" /* of which one is the host's */

static atomic_bool go[2];
static atomic_int begun;
static atomic_int ran;

static int work_until_go(dassie_job_t *job)
{
    const char *data = dassie_job_data(job, NULL);
    atomic_fetch_add(&begun, 1);
    while (!atomic_load(&go[data[0] - '0'])) {
        uv_sleep(1);
    }
    atomic_fetch_add(&ran, 1);
    return 0;
}

static int running_n;

/* And both threads are taken. */
static bool are_running(void)
{
    return (int)rig_stats().jobs.running == running_n &&
           atomic_load(&begun) >= (running_n < 2 ? running_n : 2);
}

/* Two jobs are with the threads, the next one waits for a third thread, and
 * behind it another handle for its first. */
static void threads_wait(dassie_t *other)
{
    static const char *const data[] = {"0", "1", "0"};
    static const char *const queues[] = {"a", "b", "a"};
    dassie_spec_t spec = rig_spec(NULL, "0");
    for (int i = 0; i < 3; i++) {
        rig_enqueue(queues[i], data[i]);
        running_n = i + 1;
        rig_poll(are_running);
        rig_counts(); /* the loop has seen it */
    }
    struct rig_ack ack = {.n = 0};
    ack.req.data = &ack;
    ck_assert_int_eq(dassie_enqueue(other, &ack.req, &spec, rig_on_ack), 0);
    rig_wait(&ack.n, 1);
    struct rig_counted counted = {.n = 0};
    counted.req.data = &counted;
    ck_assert_int_eq(dassie_counts(other, &counted.req, NULL, 0, rig_on_counts),
                     0);
    rig_wait(&counted.n, 1);
    ck_assert_uint_eq(counted.count.running, 1);
}

static bool two_ran(void)
{
    return atomic_load(&ran) == 2;
}

static int closed_n;

static void on_closed(dassie_t *q)
{
    (void)q;
    closed_n++;
}

/* Who waited for a thread and needs none any more lets it go on. */
START_TEST(thread_goes_on)
{
    dassie_t other;
    static dassie_processor_t p[3];
    char path[PATH_MAX];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    ck_assert_uint_eq(rig_stats().pool_threads, 2);
    closed_n = 0;
    atomic_store(&go[0], false);
    atomic_store(&go[1], false);
    atomic_store(&begun, 0);
    atomic_store(&ran, 0);
    temp_path(path, rig.dir, "other");
    ck_assert_int_eq(dassie_init(&rig.loop, &other), 0);
    ck_assert_int_eq(dassie_open(&other, path, &rig.options, NULL), 0);
    options.work = work_until_go;
    ck_assert_int_eq(dassie_process(&other, &p[0], &options), 0);
    process(&p[1], "b", work_until_go, NULL);
    options.queue = "a";
    options.concurrency = 2;
    ck_assert_int_eq(dassie_process(&rig.q, &p[2], &options), 0);
    threads_wait(&other);
    ck_assert_int_eq(dassie_processor_stop(&p[2], NULL), 0);
    ck_assert_uint_eq(rig_counts().pending, 1); /* the third goes back */
    atomic_store(&go[0], true);
    rig_poll(two_ran);
    atomic_store(&go[1], true);
    ck_assert_int_eq(dassie_close(&other, on_closed), 0);
    rig_wait(&closed_n, 1);
}
END_TEST

/* ---- The store heals ---- */

static bool is_degraded(void)
{
    return rig_stats().degraded != 0;
}

static void files_open(rlim_t max)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = max == 0 ? limit.rlim_max : max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int acks_n;
static int asked_n;

static bool is_answered_or_degraded(void)
{
    return acks_n == asked_n || is_degraded();
}

static void on_ack_count(dassie_enqueue_t *req, int status)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    acks_n++;
}

static int degraded_told;

static void on_metrics(dassie_metrics_t *req, int status, const char *text,
                       size_t len)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(strlen(text), len);
    ck_assert_ptr_nonnull(strstr(text, "\ndassie_degraded 1\n"));
    degraded_told++;
}

/* Without a descriptor for its next log file the store waits for one. Metrics
 * are told meanwhile. */
START_TEST(no_file_for_the_log)
{
    enum { BIG = 1 << 20, JOBS = 40 };
    static dassie_enqueue_t reqs[JOBS];
    static dassie_metrics_t metrics;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    char *big = calloc(1, BIG);
    ck_assert_ptr_nonnull(big);
    rig_close();
    rig.options.memory_bytes = DASSIE_MEMORY_BYTES_MIN;
    rig_open();
    spec.data = big;
    spec.data_len = BIG;
    acks_n = 0;
    asked_n = 0;
    memset(reqs, 0, sizeof reqs);
    files_open(4);
    while (asked_n < JOBS && !is_degraded()) { /* small commits */
        ck_assert_int_eq(
            dassie_enqueue(&rig.q, &reqs[asked_n++], &spec, on_ack_count), 0);
        rig_poll(is_answered_or_degraded);
    }
    free(big);
    ck_assert(is_degraded());
    degraded_told = 0;
    ck_assert_int_eq(dassie_metrics(&rig.q, &metrics, on_metrics), 0);
    rig_wait(&degraded_told, 1);
    files_open(0);
    rig_wait(&acks_n, asked_n);
    ck_assert_uint_eq(rig_counts().pending, (uint64_t)asked_n);
    ck_assert_uint_ge(rig_stats().heals, 1);
}
END_TEST

/* A relative path is meant from where the host was when it opened. */
START_TEST(host_changes_directory)
{
    enum { BIG = 1 << 20, JOBS = 40 };
    static char path[] = "relative";
    char was[PATH_MAX];
    char elsewhere[PATH_MAX];
    char absolute[PATH_MAX];
    dassie_verify_report_t report;
    struct rig_ack ack = {.n = 0};
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    char *big = calloc(1, BIG);
    ck_assert_ptr_nonnull(big);
    ck_assert_ptr_nonnull(getcwd(was, sizeof was));
    temp_path(absolute, rig.dir, path);
    temp_path(elsewhere, rig.dir, "elsewhere");
    ck_assert_int_eq(mkdir(elsewhere, 0755), 0);
    rig_close();
    ck_assert_int_eq(chdir(rig.dir), 0);
    rig.options.memory_bytes = DASSIE_MEMORY_BYTES_MIN;
    rig.opened = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, path, &rig.options, rig_opened), 0);
    ck_assert_int_eq(chdir(elsewhere), 0);
    rig_wait(&rig.opened, 1);
    ck_assert_int_eq(rig.status, 0);
    spec.data = big;
    spec.data_len = BIG;
    ack.req.data = &ack;
    for (int i = 0; i < JOBS; i++) { /* enough for a new log file */
        ck_assert_int_eq(
            dassie_enqueue(&rig.q, i + 1 < JOBS ? NULL : &ack.req, &spec,
                           i + 1 < JOBS ? NULL : rig_on_ack),
            0);
    }
    free(big);
    rig_wait(&ack.n, 1);
    ck_assert_uint_eq(rig_stats().heals, 0);
    rig.closed = 0;
    rig_close();
    ck_assert_int_eq(chdir(was), 0);
    ck_assert_int_eq(dassie_verify(absolute, NULL, NULL, &report), 0);
    ck_assert_uint_eq(report.problems, 0);
    ck_assert_uint_eq(report.jobs.pending, JOBS);
    rig_open(); /* the teardown's */
}
END_TEST

/* ---- The store is given up ---- */

struct ended {
    struct rig_ack ack;
    int status;
    int n;
};

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct ended *ended = (struct ended *)(void *)req;
    ck_assert_int_eq(ended->ack.n, 1);
    ck_assert_int_eq(ended->ack.status, 0);
    ck_assert_int_eq(job == NULL, status != 0);
    ended->status = status;
    ended->n++;
}

static void enqueue_ended(struct ended *ended, const char *queue)
{
    dassie_spec_t spec = rig_spec(queue, NULL);
    memset(ended, 0, sizeof *ended);
    ended->ack.req.data = &ended->ack;
    ended->ack.req.done_cb = on_done;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ended->ack.req, &spec, rig_on_ack),
                     0);
}

static int started;
static dassie_job_t *started_job;

static void start_hold(dassie_job_t *job)
{
    started++;
    started_job = job;
}

/* From now on no file can grow, or again it can. */
static void files_grow(bool grow)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = grow ? limit.rlim_max : 1;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

#define GRACE_MS 100

static void given_up_open(void)
{
    rig_close();
    rig.options.grace_ms = GRACE_MS;
    rig_open();
}

/* Each request hears the last of its job, once: one job runs, one waits, the
 * enqueue of one is in doubt, which may be freed then. By then the grace period
 * is over: the job that runs is asked to end. */
START_TEST(given_up)
{
    struct ended runs;
    struct ended waits;
    struct ended *doubt = malloc(sizeof *doubt);
    static dassie_processor_t p;
    given_up_open();
    started = 0;
    process(&p, "run", NULL, start_hold);
    enqueue_ended(&runs, "run");
    enqueue_ended(&waits, "wait");
    rig_wait(&started, 1);
    rig_wait(&waits.ack.n, 1);
    files_grow(false);
    ck_assert_ptr_nonnull(doubt);
    enqueue_ended(doubt, _i == 0 ? "wait" : "other");
    rig_poll(is_degraded);
    rig.closed = 0;
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&doubt->ack.n, 1);
    ck_assert_int_eq(doubt->ack.status, DASSIE_EUNKNOWN);
    ck_assert_int_eq(doubt->n, 0);
    free(doubt);
    ck_assert(dassie_job_cancelled(started_job));
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(started_job), 1, 0, NULL, 0), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(runs.n, 1);
    ck_assert_int_eq(runs.status, DASSIE_EUNKNOWN);
    ck_assert_int_eq(waits.n, 1);
    ck_assert_int_eq(waits.status, UV_ECANCELED);
    files_grow(true);
    rig_open();
    dassie_count_t count = rig_counts();
    ck_assert_uint_ge(count.pending, 2);
    ck_assert_uint_le(count.pending, 3);
    ck_assert_uint_eq(rig_stats().suspects, 0); /* it has ended */
}
END_TEST

/* A job that ends in the commit that begins it, as it was too late for it when
 * it was claimed: when that is in doubt, its request hears no more. It may be
 * freed then. */
START_TEST(given_up_ended)
{
    static dassie_processor_t p;
    struct ended *doubt = malloc(sizeof *doubt);
    dassie_spec_t spec = rig_spec("run", NULL);
    rig.options.commit_delay_ms = 100;
    given_up_open();
    started = 0;
    process(&p, "run", NULL, start_hold);
    files_grow(false);
    ck_assert_ptr_nonnull(doubt);
    memset(doubt, 0, sizeof *doubt);
    spec.expire_ms = 1;
    doubt->ack.req.data = &doubt->ack;
    doubt->ack.req.done_cb = on_done;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &doubt->ack.req, &spec, rig_on_ack),
                     0);
    rig_poll(is_degraded);
    rig.closed = 0;
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(doubt->ack.status, DASSIE_EUNKNOWN);
    ck_assert_int_eq(doubt->n, 0);
    ck_assert_int_eq(started, 0);
    free(doubt);
    files_grow(true);
    rig_open();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("regress");
    TCase *tc = tcase_create("regress");
    setenv("UV_THREADPOOL_SIZE", POOL_SIZE, 1); /* before anybody looks */
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, first_job_without_memory);
    tcase_add_test(tc, failure_without_memory);
    tcase_add_test(tc, page_of_a_rare_queue);
    tcase_add_test(tc, page_without_memory);
    tcase_add_test(tc, thread_goes_on);
    tcase_add_test(tc, no_file_for_the_log);
    tcase_add_test(tc, host_changes_directory);
    tcase_add_loop_test(tc, given_up, 0, 2);
    tcase_add_test(tc, given_up_ended);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
