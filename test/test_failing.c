/* The n-th call of the system, or allocation, fails while a store is made,
 * opened, closed or salvaged, for each n until there is none: it is an error or
 * it does no harm, and the next one without a fault has all jobs. */
#include "config.h"

#include "../lib/salvage.h"
#include "failing_calls.h"
#include "queue_rig.h"

#define JOBS 40
#define JOBS_ENDED 20
#define CALLS_MAX 10000

static char model[PATH_MAX]; /* a store as it was closed */
static struct errmsg error;

/* ---- Stores ---- */

static int work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

/* With tables and a log. */
static void model_make(void)
{
    dassie_processor_t processor;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work;
    rig_open();
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
    for (int i = 0; i < JOBS_ENDED; i++) {
        rig_enqueue(NULL, "it ends");
    }
    rig_drain();
    rig_reopen();
    for (int i = JOBS_ENDED; i < JOBS; i++) {
        rig_enqueue(i % 2 == 0 ? "one" : NULL, "it waits");
    }
    rig_close();
    temp_path(model, rig.dir, "model");
    ck_assert_int_eq(rename(rig.path, model), 0);
}

static uint64_t jobs_of(const dassie_count_t *count)
{
    return count->pending + count->running + count->scheduled +
           count->complete + count->failed + count->cancelled;
}

/* ---- Made, opened and closed ---- */

/* From dassie_init() to the end of dassie_close(), with the n-th call failing:
 * what the open said. */
static int live(unsigned n, int code, bool *reached)
{
    rig.opened = rig.closed = 0;
    fail_begin(n, code);
    int rc = dassie_init(&rig.loop, &rig.q);
    if (rc == 0) {
        rc = dassie_open(&rig.q, rig.path, &rig.options, rig_opened);
        if (rc == 0) {
            rig_wait(&rig.opened, 1);
            rc = rig.status;
            ck_assert(rc == 0 || dassie_errmsg(&rig.q)[0] != '\0');
        }
        rig_close();
    }
    *reached = fail_end();
    return rc;
}

/* That of a store that is there, or is to be made. */
static unsigned live_all(const char *from, int code)
{
    bool reached = true;
    unsigned refused = 0;
    for (unsigned n = 1; reached; n++) {
        ck_assert_uint_lt(n, CALLS_MAX);
        if (access(rig.path, F_OK) == 0) {
            temp_dir_remove(rig.path);
        }
        if (from != NULL) {
            temp_dir_copy(from, rig.path);
        }
        int rc = live(n, code, &reached);
        ck_assert_int_le(rc, 0);
        ck_assert(reached || rc == 0);
        refused += rc != 0;
        rig_open();
        dassie_count_t count = rig_counts();
        ck_assert_uint_eq(jobs_of(&count), from != NULL ? JOBS : 0);
        ck_assert_uint_eq(count.pending, from != NULL ? JOBS - JOBS_ENDED : 0);
        rig_close();
        rig_verify();
    }
    return refused;
}

START_TEST(made)
{
    ck_assert_uint_gt(live_all(NULL, EIO), 10);
    temp_dir_remove(rig.path);
    ck_assert_uint_gt(live_all(NULL, ENOSPC), 10);
}
END_TEST

/* In memory: there are only allocations, and the loop's own calls. */
START_TEST(tested)
{
    bool reached = true;
    unsigned refused = 0;
    rig.options.flags = DASSIE_TESTING;
    for (unsigned n = 1; reached; n++) {
        int rc = live(n, EIO, &reached);
        ck_assert(rc == 0 || rc == UV_ENOMEM);
        ck_assert(reached || rc == 0);
        refused += rc != 0;
    }
    ck_assert_uint_gt(refused, 5);
}
END_TEST

START_TEST(opened)
{
    model_make();
    ck_assert_uint_gt(live_all(model, EIO), 10);
}
END_TEST

/* ---- Salvaged ---- */

/* What was done to it: to a file of db/ whose name holds this. */
static const struct {
    const char *name;
    bool gone;
} damages[] = {{"MANIFEST", false},
               {"CURRENT", true},
               {".log", false},
               {".sst", false},
               {".sst", true}};
#define DAMAGES ((int)(sizeof damages / sizeof damages[0]))

static char salvaged[65536]; /* what was told */

static void on_told(void *arg, const char *line)
{
    (void)arg;
    size_t len = strlen(salvaged);
    snprintf(salvaged + len, sizeof salvaged - len, "%s\n", line);
}

static void damage(int kind)
{
    char db[PATH_MAX];
    char path[PATH_MAX] = "";
    struct dirent *entry;
    struct stat st;
    off_t most = 0;
    temp_path(db, rig.path, "db");
    DIR *d = opendir(db);
    ck_assert_ptr_nonnull(d);
    while ((entry = readdir(d)) != NULL) {
        char one[PATH_MAX];
        temp_path(one, db, entry->d_name);
        if (strstr(entry->d_name, damages[kind].name) != NULL &&
            stat(one, &st) == 0 &&
            (st.st_size > most ||
             (st.st_size == most && strcmp(one, path) > 0))) {
            most = st.st_size;
            memcpy(path, one, sizeof path);
        }
    }
    closedir(d);
    ck_assert_int_gt(most, 0);
    if (damages[kind].gone) {
        ck_assert_int_eq(unlink(path), 0);
        return;
    }
    int fd = open(path, O_RDWR);
    off_t at = strcmp(damages[kind].name, ".sst") == 0 ? 5 : most / 3;
    char byte = 0; /* of a table's first block of rows */
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static bool gaps; /* a power cut took what was never synced */

static int salvage(void)
{
    struct salvage_options options = {.dir = rig.path,
                                      .memory_bytes = 1 << 20,
                                      .gaps = gaps,
                                      .wall_ms = 1,
                                      .tell = on_told};
    salvaged[0] = error.text[0] = '\0';
    return dassie__salvage(&options, &error);
}

/* The jobs that are in a sound store. */
static uint64_t jobs_there(void)
{
    dassie_verify_report_t report = rig_verify();
    return jobs_of(&report.jobs);
}

/* "make check" has no time for all: it takes every so many. Of what is left out
 * by one kind of damage otherwise, the next takes most. */
static unsigned places_step(void)
{
    return getenv("EXHAUSTIVE") != NULL ? 2 : 16;
}

/* Nothing is lost but by damage, or, where it could not be read this time, with
 * a word. */
static void salvage_failing(int kind, unsigned call, uint64_t want)
{
    temp_dir_copy(model, rig.path);
    damage(kind);
    fail_begin(call, EIO);
    int rc = salvage();
    ck_assert(fail_end());
    ck_assert(rc == 0 || (rc < 0 && error.text[0] != '\0'));
    bool told =
        strstr(salvaged, "lost") != NULL || strstr(salvaged, "cannot") != NULL;
    if (rc != 0) {
        ck_assert_int_eq(salvage(), 0);
    }
    uint64_t there = jobs_there();
    ck_assert_msg(there == want || (told && there < want),
                  "call %u: %llu jobs, not %llu: %s", call,
                  (unsigned long long)there, (unsigned long long)want,
                  salvaged);
}

START_TEST(salvage_goes_on)
{
    model_make();
    temp_dir_copy(model, rig.path);
    damage(_i);
    fail_record();
    ck_assert_int_eq(salvage(), 0);
    unsigned places = fail_recorded();
    ck_assert_uint_gt(places, 50);
    uint64_t want = jobs_there();
    ck_assert_uint_gt(want, 0);
    for (unsigned i = (unsigned)_i; i < places; i += places_step()) {
        salvage_failing(_i, fail.places[i].call, want);
    }
}
END_TEST

/* What unsynced commits leave is not damage: the open rebuilds it. */
START_TEST(gaps_are_sound)
{
    char db[PATH_MAX];
    struct dirent *entry;
    int logs = 0;
    model_make();
    temp_dir_copy(model, rig.path);
    temp_path(db, rig.path, "hwm");
    ck_assert_int_eq(unlink(db), 0);
    temp_path(db, rig.path, "db");
    DIR *d = opendir(db);
    while ((entry = readdir(d)) != NULL) {
        if (strstr(entry->d_name, ".log") != NULL) {
            logs += unlinkat(dirfd(d), entry->d_name, 0) == 0;
        }
    }
    closedir(d);
    ck_assert_int_gt(logs, 0);
    gaps = true;
    ck_assert_int_eq(salvage(), 0);
    ck_assert_str_eq(salvaged, "");
}
END_TEST

/* ---- Paths that are nearly too long ---- */

/* Makes directories in each other until the path of the last one is so long. */
static void deep_make(char path[PATH_MAX], size_t len)
{
    size_t at = strlen(rig.dir);
    memcpy(path, rig.dir, at + 1);
    while (at < len) {
        size_t left = len - at - 1;
        size_t n = left > 202 ? 200 : left;
        path[at++] = '/';
        memset(path + at, 'd', n);
        at += n;
        path[at] = '\0';
        ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
    }
}

/* Its parts, down to files of RocksDB's, have no room one after the other. */
START_TEST(long_path)
{
    const size_t room = 64 - 2 * (size_t)_i; /* behind it, with the zero */
    char top[PATH_MAX];
    char less[PATH_MAX];
    deep_make(rig.path, PATH_MAX - room);
    int status = rig_try_open();
    ck_assert(status == 0 || dassie_errmsg(&rig.q)[0] != '\0');
    rig_close();
    ck_assert(status <= 0);
    if (room < sizeof "/FORMAT") {
        ck_assert_int_eq(status, UV_ENAMETOOLONG);
    }
    ck_assert(salvage() <= 0);
    snprintf(top, sizeof top, "%s/%.200s", rig.dir,
             rig.path + strlen(rig.dir) + 1);
    temp_path(less, rig.dir, "d");
    ck_assert_int_eq(rename(top, less), 0);
}
END_TEST

static Suite *failing_suite(void)
{
    Suite *suite = suite_create("failing");
    TCase *tc = tcase_create("failing");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_test(tc, made);
    tcase_add_test(tc, opened);
    tcase_add_test(tc, tested);
    tcase_add_test(tc, gaps_are_sound);
    tcase_add_loop_test(tc, long_path, 0, 32);
    tcase_add_loop_test(tc, salvage_goes_on, 0, DAMAGES);
    return suite;
}

int main(void)
{
    fail_allocations();
    SRunner *runner = srunner_create(failing_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
