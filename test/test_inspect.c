/* An open queue is recounted and copied, while it works and when it does not.
 */
#include "config.h"

#include "queue_busy.h"

#include <sys/resource.h>

/* ---- Helpers ---- */

struct checked {
    dassie_check_t req;
    dassie_verify_report_t report;
    int status;
    int n;
};

static void on_check(dassie_check_t *req, int status,
                     const dassie_verify_report_t *report)
{
    struct checked *checked = req->data;
    ck_assert_ptr_eq(req->q, &rig.q);
    checked->status = status;
    checked->n++;
    ck_assert_int_eq(report != NULL, status == 0 || status == DASSIE_ECORRUPT);
    for (size_t i = 0; i < req->problems_n; i++) {
        fprintf(stderr, "check: job %llu: %s\n",
                (unsigned long long)req->problems[i].id, req->problems[i].line);
    }
    if (report != NULL) {
        checked->report = *report;
    }
}

static void check_start(struct checked *checked)
{
    memset(checked, 0, sizeof *checked);
    checked->req.data = checked;
    ck_assert_int_eq(dassie_check(&rig.q, &checked->req, on_check), 0);
}

/* The queue is sound. */
static dassie_verify_report_t check_now(void)
{
    struct checked checked;
    check_start(&checked);
    rig_wait(&checked.n, 1);
    ck_assert_int_eq(checked.status, 0);
    ck_assert_uint_eq(checked.report.problems, 0);
    return checked.report;
}

struct copied {
    dassie_backup_t req;
    int status;
    int n;
};

static void on_backup(dassie_backup_t *req, int status)
{
    struct copied *copied = req->data;
    ck_assert_ptr_eq(req->q, &rig.q);
    copied->status = status;
    copied->n++;
}

static void backup_start(struct copied *copied, const char *path)
{
    memset(copied, 0, sizeof *copied);
    copied->req.data = copied;
    ck_assert_int_eq(dassie_backup(&rig.q, &copied->req, path, on_backup), 0);
}

static int backup_try(const char *path)
{
    struct copied copied;
    backup_start(&copied, path);
    rig_wait(&copied.n, 1);
    return copied.status;
}

/* The copy is sound; how many jobs it has. */
static dassie_verify_report_t backup_now(const char *path)
{
    dassie_verify_report_t report;
    ck_assert_int_eq(backup_try(path), 0);
    ck_assert_int_eq(dassie_verify(path, rig_on_problem, NULL, &report), 0);
    ck_assert_uint_eq(report.problems, 0);
    return report;
}

static uint64_t all_jobs(const dassie_count_t *jobs)
{
    return jobs->pending + jobs->scheduled + jobs->running + jobs->complete +
           jobs->failed + jobs->cancelled;
}

/* ---- A queue that works ---- */

#define BATCH_JOBS BUSY_BATCH_MAX

/* It gets more work. */
static void work_on(void)
{
    busy_on(20 * BATCH_JOBS);
}

static void work_begin(void)
{
    static const uv_buf_t queues[] = {{(char *)(uintptr_t) "a", 1},
                                      {(char *)(uintptr_t) "b", 1}};
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queues = queues;
    options.queues_n = 2;
    options.concurrency = 2;
    options.work = busy_work;
    busy_begin(BATCH_JOBS);
    for (int i = 0; i < BATCH_JOBS; i++) {
        busy.specs[i] = busy_spec(i % 2 == 0 ? "a" : "b");
        busy.specs[i].delay_ms = i % 10 == 0 ? 3600000 : 0;
    }
    ck_assert_int_eq(dassie_process(&rig.q, &busy.workers, &options), 0);
    work_on();
}

/* Each sees what was acknowledged before it was asked for, and the queue goes
 * on meanwhile. */
START_TEST(check_at_work)
{
    uint64_t last = 0;
    work_begin();
    for (int i = 0; i < 10; i++) {
        work_on();
        uint64_t before = busy.acked;
        dassie_verify_report_t report = check_now();
        ck_assert_uint_ge(all_jobs(&report.jobs), before);
        ck_assert_uint_ge(all_jobs(&report.jobs), last);
        last = all_jobs(&report.jobs);
    }
    busy_rest();
    ck_assert_uint_gt(last, BATCH_JOBS);
    dassie_count_t count = rig_counts();
    dassie_verify_report_t report = check_now();
    ck_assert_mem_eq(&report.jobs, &count, sizeof count);
    ck_assert_uint_eq(all_jobs(&count), busy.acked);
}
END_TEST

/* So many copies. */
static void back_up_at_work(int copies)
{
    char path[PATH_MAX];
    char name[32];
    work_begin();
    for (int i = 0; i < copies; i++) {
        work_on();
        uint64_t before = busy.acked;
        snprintf(name, sizeof name, "copy%d", i);
        temp_path(path, rig.dir, name);
        dassie_verify_report_t report = backup_now(path);
        ck_assert_uint_ge(all_jobs(&report.jobs), before);
    }
    busy_rest();
}

START_TEST(backup_at_work)
{
    back_up_at_work(10);
}
END_TEST

START_TEST(backup_unsynced)
{
    rig_close();
    rig.options.durability = DASSIE_OFF;
    rig_open();
    back_up_at_work(5);
}
END_TEST

/* ---- What a copy is ---- */

static int complete(dassie_job_t *job)
{
    return dassie_job_attempt(job) > 0 ? 0 : -1;
}

/* Opens another store in place of the rig's. */
static void open_copy(const char *path)
{
    rig_close();
    snprintf(rig.path, sizeof rig.path, "%s", path);
    rig_open();
}

/* How much of it is known to be durable. */
static uint64_t mark_of(const char *copy)
{
    char path[PATH_MAX];
    unsigned char bytes[8];
    uint64_t mark = 0;
    temp_path(path, copy, "hwm");
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, file), sizeof bytes);
    fclose(file);
    for (size_t i = 0; i < sizeof bytes; i++) {
        mark = mark << 8 | bytes[i];
    }
    return mark;
}

/* It has the same jobs under the same numbers, they run, and new ones get other
 * numbers; and the one it was made of goes its own way. */
START_TEST(copy_is_a_store)
{
    static struct rig_got got;
    char path[PATH_MAX];
    char original[PATH_MAX];
    dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    uint64_t one = rig_enqueue(NULL, "one");
    uint64_t two = rig_enqueue(NULL, "two");
    temp_path(path, rig.dir, "copy");
    dassie_verify_report_t report = backup_now(path);
    ck_assert_uint_eq(report.jobs.pending, 2);
    ck_assert_uint_ge(mark_of(path), mark_of(rig.path));
    uint64_t three = rig_enqueue(NULL, "three");
    memcpy(original, rig.path, sizeof original);
    open_copy(path);
    ck_assert_int_eq(rig_try_get(&got, three), UV_ENOENT);
    ck_assert_mem_eq(rig_get(&got, two)->data, "two", 3);
    options.work = complete;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    rig_drain();
    rig_stop(&p);
    ck_assert_int_eq(rig_get(&got, one)->state, DASSIE_COMPLETE);
    ck_assert_uint_gt(rig_enqueue(NULL, "four"), two);
    rig_close();
    rig_verify();
    snprintf(rig.path, sizeof rig.path, "%s", original);
    rig_open();
    ck_assert_int_eq(rig_get(&got, one)->state, DASSIE_PENDING);
    ck_assert_mem_eq(rig_get(&got, three)->data, "three", 5);
}
END_TEST

static dassie_processor_t holder;
static uint64_t held[4];
static int held_n;

static void hold(dassie_job_t *job)
{
    held[held_n++] = dassie_job_id(job);
}

/* Jobs that were under way have been interrupted in the copy. */
START_TEST(copy_of_running)
{
    static struct rig_got got;
    char path[PATH_MAX];
    char original[PATH_MAX];
    int status;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, "again");
    spec.attempts_max = 0;
    uint64_t again = rig_try_enqueue(&spec, &status);
    spec.flags = DASSIE_AT_MOST_ONCE;
    uint64_t once = rig_try_enqueue(&spec, &status);
    options.start = hold;
    options.concurrency = 2;
    ck_assert_int_eq(dassie_process(&rig.q, &holder, &options), 0);
    rig_wait(&held_n, 2);
    temp_path(path, rig.dir, "copy");
    dassie_verify_report_t report = backup_now(path);
    ck_assert_uint_eq(report.jobs.running, 2);
    report = check_now();
    ck_assert_uint_eq(report.jobs.running, 2);
    ck_assert_int_eq(dassie_finish(&rig.q, again, 1, 0, NULL, 0), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, once, 1, 0, NULL, 0), 0);
    rig_stop(&holder);
    memcpy(original, rig.path, sizeof original);
    open_copy(path);
    ck_assert_int_eq(rig_get(&got, again)->state, DASSIE_PENDING);
    ck_assert_uint_eq(got.info.attempts, 1);
    ck_assert_int_eq(rig_get(&got, once)->state, DASSIE_FAILED);
    ck_assert_int_eq(got.info.error_code, DASSIE_EINTERRUPTED);
    open_copy(original);
    ck_assert_int_eq(rig_get(&got, once)->state, DASSIE_COMPLETE);
}
END_TEST

/* Of a store that is only looked at, in which nothing changes. */
START_TEST(copy_of_looked_at)
{
    char path[PATH_MAX];
    rig_enqueue(NULL, "one");
    rig_close();
    rig.options.flags = DASSIE_READ_ONLY;
    uint64_t before = temp_dir_digest(rig.path, "/lock");
    rig_open();
    temp_path(path, rig.dir, "copy");
    ck_assert_uint_eq(backup_now(path).jobs.pending, 1);
    ck_assert_uint_eq(check_now().jobs.pending, 1);
    rig_close();
    ck_assert_uint_eq(temp_dir_digest(rig.path, "/lock"), before);
    rig.options.flags = 0;
    rig_open();
}
END_TEST

/* The place is where the caller stood then; and it is nobody else's. */
START_TEST(copy_elsewhere)
{
    struct copied copied;
    struct stat st;
    char path[PATH_MAX];
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rig_enqueue(NULL, "one");
    ck_assert_int_eq(chdir(rig.dir), 0);
    backup_start(&copied, "copy");
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    rig_wait(&copied.n, 1);
    ck_assert_int_eq(copied.status, 0);
    temp_path(path, rig.dir, "copy");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
}
END_TEST

/* ---- What goes wrong ---- */

START_TEST(no_place)
{
    char path[PATH_MAX];
    struct stat st;
    rig_enqueue(NULL, "one");
    ck_assert_int_eq(backup_try(rig.path), UV_EEXIST);
    temp_path(path, rig.dir, "none/copy");
    ck_assert_int_eq(backup_try(path), UV_ENOENT);
    temp_path(path, rig.dir, "store/FORMAT/copy");
    ck_assert_int_eq(backup_try(path), UV_ENOTDIR);
    /* A place that is long enough for its own files, but not for RocksDB's. */
    memset(path, '/', sizeof path);
    snprintf(path + PATH_MAX - 8 - strlen(rig.dir), strlen(rig.dir) + 7, "%s/c",
             rig.dir);
    ck_assert_int_ne(backup_try(path), 0);
    temp_path(path, rig.dir, "c");
    ck_assert_int_ne(stat(path, &st), 0);
}
END_TEST

/* A stack that there is no room for: whoever would do it is not to be had, and
 * nobody else does it meanwhile. */
START_TEST(no_thread)
{
    struct checked checked;
    struct rlimit before;
    char path[PATH_MAX];
    temp_path(path, rig.dir, "copy");
    ck_assert_int_eq(getrlimit(RLIMIT_STACK, &before), 0);
    struct rlimit much = {(rlim_t)1 << 47, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_STACK, &much), 0);
    check_start(&checked);
    rig_wait(&checked.n, 1);
    ck_assert_int_eq(checked.status, UV_EAGAIN);
    ck_assert_int_eq(backup_try(path), UV_EAGAIN);
    ck_assert_int_eq(setrlimit(RLIMIT_STACK, &before), 0);
    check_now();
    ck_assert_int_eq(backup_try(path), 0);
}
END_TEST

START_TEST(bad_calls)
{
    static char long_path[PATH_MAX + 2];
    dassie_check_t check;
    dassie_backup_t backup;
    memset(long_path, 'x', PATH_MAX + 1);
    ck_assert_int_eq(dassie_check(NULL, &check, on_check), UV_EINVAL);
    ck_assert_int_eq(dassie_check(&rig.q, NULL, on_check), UV_EINVAL);
    ck_assert_int_eq(dassie_check(&rig.q, &check, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_backup(NULL, &backup, "x", on_backup), UV_EINVAL);
    ck_assert_int_eq(dassie_backup(&rig.q, NULL, "x", on_backup), UV_EINVAL);
    ck_assert_int_eq(dassie_backup(&rig.q, &backup, NULL, on_backup),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_backup(&rig.q, &backup, "x", NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_backup(&rig.q, &backup, long_path, on_backup),
                     UV_ENAMETOOLONG);
    ck_assert_int_eq(dassie_backup(&rig.q, &backup, "", on_backup), UV_ENOENT);
}
END_TEST

/* A close does not wait for a check, and leaves no half of a copy. */
START_TEST(close_meanwhile)
{
    static struct checked checked[20];
    static struct copied copied;
    char path[PATH_MAX];
    struct stat st;
    work_begin();
    for (int i = 0; i < 5; i++) {
        check_now();
    }
    rig_wait(&busy.idle, 1);
    for (int i = 0; i < 20; i++) {
        check_start(&checked[i]);
    }
    temp_path(path, rig.dir, "copy");
    backup_start(&copied, path);
    rig_close();
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(checked[i].n, 1);
        ck_assert(checked[i].status == 0 || checked[i].status == UV_ECANCELED);
    }
    ck_assert_int_eq(copied.n, 1);
    ck_assert(copied.status == 0 || copied.status == UV_ECANCELED);
    ck_assert_int_eq(stat(path, &st) == 0, copied.status == 0);
    rig_open();
}
END_TEST

START_TEST(in_memory)
{
    struct checked checked = {.req.data = &checked};
    struct copied copied = {.req.data = &copied};
    dassie_enqueue_t req = {.data = NULL};
    dassie_spec_t spec = rig_spec(NULL, "x");
    rig_close();
    rig.options.flags = DASSIE_TESTING;
    rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, "none", &rig.options, NULL), 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, NULL), 0);
    ck_assert_int_eq(dassie_check(&rig.q, &checked.req, on_check), 0);
    ck_assert_int_eq(dassie_backup(&rig.q, &copied.req, "copy", on_backup), 0);
    ck_assert_int_eq(dassie_testing_advance(&rig.q, 0), 0);
    ck_assert_int_eq(checked.n, 1);
    ck_assert_int_eq(checked.status, 0);
    ck_assert_uint_eq(checked.report.jobs.pending, 1);
    ck_assert_int_eq(copied.n, 1);
    ck_assert_int_eq(copied.status, UV_ENOTSUP);
    rig_close();
    rig.options.flags = 0;
    rig_open();
}
END_TEST

static void setup(void)
{
    rig_begin();
    held_n = 0;
}

int main(void)
{
    Suite *suite = suite_create("inspect");
    TCase *tc = tcase_create("inspect");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, rig_finish);
    tcase_add_test(tc, check_at_work);
    tcase_add_test(tc, backup_at_work);
    tcase_add_test(tc, backup_unsynced);
    tcase_add_test(tc, copy_is_a_store);
    tcase_add_test(tc, copy_of_running);
    tcase_add_test(tc, copy_of_looked_at);
    tcase_add_test(tc, copy_elsewhere);
    tcase_add_test(tc, no_place);
    tcase_add_test(tc, no_thread);
    tcase_add_test(tc, bad_calls);
    tcase_add_test(tc, close_meanwhile);
    tcase_add_test(tc, in_memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
