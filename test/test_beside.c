/* A store is looked at while its owner works on it. */
#include "config.h"

#include "../lib/kv_rocks.h"
#include "queue_busy.h"

#include <dirent.h>

/* ---- The one who looks ---- */

static struct {
    dassie_t q;
    dassie_options_t options;
    int opened;
    int status;
    int closed;
    int torn; /* moments' views that were told */
} other;

static void on_other(dassie_t *q, int status)
{
    ck_assert_ptr_eq(q, &other.q);
    other.opened++;
    other.status = status;
}

static void on_other_closed(dassie_t *q)
{
    ck_assert_ptr_eq(q, &other.q);
    other.closed++;
}

static void on_other_log(dassie_t *q, dassie_log_level_t level,
                         const char *line)
{
    (void)q;
    if (level <= DASSIE_LOG_WARNING) {
        ck_assert_ptr_nonnull(strstr(line, "a moment's view"));
        other.torn++;
    }
}

static int look_begin(unsigned flags)
{
    static const dassie_options_t init = DASSIE_OPTIONS_INIT;
    other.options = init;
    other.options.flags = flags;
    other.options.log_cb = on_other_log;
    other.opened = other.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &other.q), 0);
    ck_assert_int_eq(dassie_open(&other.q, rig.path, &other.options, on_other),
                     0);
    rig_wait(&other.opened, 1);
    return other.status;
}

static void look_end(void)
{
    ck_assert_int_eq(dassie_close(&other.q, on_other_closed), 0);
    rig_wait(&other.closed, 1);
}

/* What it leaves where it makes its scratch directory. */
static char scratch[PATH_MAX];

static void scratch_use(void)
{
    temp_path(scratch, rig.dir, "scratch");
    ck_assert_int_eq(mkdir(scratch, 0700), 0);
    ck_assert_int_eq(setenv("TMPDIR", scratch, 1), 0);
}

static int scratch_entries(void)
{
    int n = 0;
    DIR *d = opendir(scratch);
    ck_assert_ptr_nonnull(d);
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n - 2;
}

static dassie_count_t look_counts(void)
{
    struct rig_counted counted = {.n = 0};
    counted.req.data = &counted;
    ck_assert_int_eq(
        dassie_counts(&other.q, &counted.req, NULL, 0, rig_on_counts), 0);
    rig_wait(&counted.n, 1);
    ck_assert_int_eq(counted.status, 0);
    return counted.count;
}

static int look_get(struct rig_got *got, uint64_t id)
{
    memset(got, 0, sizeof *got);
    got->req.data = got;
    ck_assert_int_eq(dassie_get(&other.q, &got->req, id, rig_on_get), 0);
    rig_wait(&got->n, 1);
    return got->status;
}

static int listed;

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)jobs;
    ck_assert_int_eq(status, 0);
    ck_assert_uint_gt(n, 0);
    ++*(int *)req->data;
}

#define LOOK (DASSIE_READ_ONLY | DASSIE_BESIDE)

/* ---- Tests ---- */

static dassie_processor_t holder;
static int held_n;

static void hold(dassie_job_t *job)
{
    (void)job;
    held_n++;
}

/* An owner at rest: all of it is seen, nothing on disk changes, and what comes
 * later is not seen. */
START_TEST(at_rest)
{
    static struct rig_got got;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_list_t list = {.data = &listed};
    uint64_t one = rig_enqueue("a", "one");
    options.queue = "a";
    options.start = hold;
    ck_assert_int_eq(dassie_process(&rig.q, &holder, &options), 0);
    rig_wait(&held_n, 1);
    uint64_t two = rig_enqueue("b", "two");
    uint64_t before = temp_dir_digest(rig.path, NULL);
    ck_assert_int_eq(look_begin(LOOK), 0);
    ck_assert_int_eq(scratch_entries(), 1);
    dassie_count_t count = look_counts();
    ck_assert_uint_eq(count.pending, 1);
    ck_assert_uint_eq(count.running, 1);
    ck_assert_int_eq(look_get(&got, one), 0);
    ck_assert_int_eq(got.info.state, DASSIE_RUNNING);
    ck_assert_int_eq(look_get(&got, two), 0);
    ck_assert_mem_eq(got.info.data, "two", 3);
    ck_assert_int_eq(dassie_list(&other.q, &list, NULL, on_list), 0);
    rig_wait(&listed, 1);
    ck_assert_uint_eq(temp_dir_digest(rig.path, NULL), before);
    uint64_t three = rig_enqueue("b", "three");
    ck_assert_int_eq(look_get(&got, three), UV_ENOENT);
    look_end();
    ck_assert_int_eq(scratch_entries(), 0);
    ck_assert_int_eq(other.torn, 0);
    ck_assert_int_eq(dassie_finish(&rig.q, one, 1, 0, NULL, 0), 0);
    rig_stop(&holder);
}
END_TEST

#define BATCH_JOBS 100
#define LOOKS 15
#define LOOK_JOBS 4000 /* that are enqueued meanwhile */

static int answers;
static int answer;

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    (void)req;
    (void)settings;
    answers++;
    answer = status;
}

static void keep_all(void)
{
    static dassie_configure_t configure;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.jobs = DASSIE_KEEP_ALL;
    settings.keep_complete.bytes = DASSIE_KEEP_ALL;
    settings.keep_failed = settings.keep_complete;
    ck_assert_int_eq(
        dassie_configure(&rig.q, &configure, "a", 0, &settings, on_configure),
        0);
    rig_wait(&answers, 1);
    ck_assert_int_eq(answer, 0);
}

/* An owner at work: each look opens, has what was acknowledged before, and
 * either agrees with itself or is told not to. */
START_TEST(at_work)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = "a";
    options.work = busy_work;
    keep_all();
    ck_assert_int_eq(dassie_process(&rig.q, &busy.workers, &options), 0);
    for (int i = 0; i < LOOKS; i++) {
        busy_on(LOOK_JOBS);
        uint64_t before = busy.acked;
        ck_assert_msg(look_begin(LOOK) == 0, "look %d: %s", i,
                      dassie_errmsg(&other.q));
        dassie_count_t count = look_counts();
        ck_assert_uint_ge(
            count.pending + count.running + count.complete + count.failed,
            before);
        look_end();
    }
    busy_rest();
    ck_assert_int_eq(scratch_entries(), 0);
    ck_assert_uint_eq(busy.acked, LOOKS * LOOK_JOBS);
    printf("%d looks, %d torn\n", LOOKS, other.torn);
}
END_TEST

/* Without an owner it is a look like any other. */
START_TEST(no_owner)
{
    rig_enqueue("a", "one");
    rig_close();
    ck_assert_int_eq(look_begin(LOOK), 0);
    ck_assert_int_eq(scratch_entries(), 0);
    ck_assert_int_eq(dassie_verify(rig.path, NULL, NULL, NULL), UV_EBUSY);
    ck_assert_uint_eq(look_counts().pending, 1);
    look_end();
    rig_open();
}
END_TEST

static void on_check(dassie_check_t *req, int status,
                     const dassie_verify_report_t *report)
{
    (void)req;
    answers++;
    answer = status;
    ck_assert_uint_eq(report->problems, 0);
}

static void on_backup(dassie_backup_t *req, int status)
{
    (void)req;
    answers++;
    answer = status;
}

/* It is checked, but neither copied nor changed. */
START_TEST(what_it_can)
{
    dassie_check_t check;
    dassie_backup_t backup;
    dassie_configure_t configure;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    char path[PATH_MAX];
    rig_enqueue("a", "one");
    ck_assert_int_eq(look_begin(LOOK), 0);
    ck_assert_int_eq(dassie_check(&other.q, &check, on_check), 0);
    rig_wait(&answers, 1);
    ck_assert_int_eq(answer, 0);
    temp_path(path, rig.dir, "copy");
    ck_assert_int_eq(dassie_backup(&other.q, &backup, path, on_backup), 0);
    rig_wait(&answers, 2);
    ck_assert_int_eq(answer, UV_ENOTSUP);
    ck_assert_int_ne(access(path, F_OK), 0);
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = 1;
    ck_assert_int_eq(
        dassie_configure(&other.q, &configure, "a", 0, &settings, on_configure),
        0);
    rig_wait(&answers, 3);
    ck_assert_int_eq(answer, UV_EROFS);
    look_end();
}
END_TEST

START_TEST(cannot)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    rig_enqueue("a", "one");
    ck_assert_int_eq(rmdir(scratch), 0);
    ck_assert_int_eq(look_begin(LOOK), UV_ENOENT);
    ck_assert_ptr_nonnull(
        strstr(dassie_errmsg(&other.q), "scratch directory: "));
    look_end();
    options.flags = DASSIE_BESIDE;
    ck_assert_int_eq(dassie_init(&rig.loop, &other.q), 0);
    ck_assert_int_eq(dassie_open(&other.q, rig.path, &options, on_other),
                     UV_EINVAL);
    other.closed = 0;
    look_end();
}
END_TEST

/* A row that nothing explains, as if the owner were in the middle of a write
 * each time. */
static void stray(bool there)
{
    struct kv_rocks_options options = {.dir = rig.path,
                                       .memory_bytes = DASSIE_MEMORY_BYTES_MIN};
    uint8_t key[8];
    struct errmsg e;
    struct kv *kv;
    put_be64(key, 77);
    ck_assert_int_eq(dassie__kv_rocks_open(&options, &kv, &e), 0);
    if (there) {
        kv->ops->put(kv, FAMILY_HISTORY, kv_slice(key, sizeof key),
                     kv_slice("stray", 5));
    } else {
        kv->ops->del(kv, FAMILY_HISTORY, kv_slice(key, sizeof key));
    }
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    ck_assert(kv->ops->close(kv, true));
}

START_TEST(torn)
{
    rig_enqueue("a", "one");
    rig_close();
    stray(true);
    rig_open();
    ck_assert_int_eq(look_begin(LOOK), 0);
    ck_assert_uint_eq(look_counts().pending, 1);
    look_end();
    ck_assert_int_eq(other.torn, 1);
    ck_assert_int_eq(scratch_entries(), 0);
    rig_close();
    stray(false);
    rig_open();
}
END_TEST

static char *tmpdir; /* as it was */

static void setup(void)
{
    rig_begin();
    const char *now = getenv("TMPDIR");
    tmpdir = now != NULL ? strdup(now) : NULL;
    scratch_use();
    memset(&other, 0, sizeof other);
    answers = held_n = listed = 0;
    busy_begin(BATCH_JOBS);
    for (int i = 0; i < BATCH_JOBS; i++) {
        busy.specs[i] = busy_spec("a");
    }
}

static void teardown(void)
{
    if (tmpdir != NULL) {
        ck_assert_int_eq(setenv("TMPDIR", tmpdir, 1), 0);
    } else {
        ck_assert_int_eq(unsetenv("TMPDIR"), 0);
    }
    free(tmpdir);
    rig_finish();
}

int main(void)
{
    Suite *suite = suite_create("beside");
    TCase *tc = tcase_create("beside");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, at_rest);
    tcase_add_test(tc, at_work);
    tcase_add_test(tc, no_owner);
    tcase_add_test(tc, what_it_can);
    tcase_add_test(tc, cannot);
    tcase_add_test(tc, torn);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
