/* Two owners of one store, and children of its owner: by whatever name, with
 * whatever is left of a lock, there is one owner at a time; a child of fork()
 * is none, keeps nothing and hangs nowhere; a program that is executed inherits
 * nothing. */
#include "config.h"

#include "spawn.h"

#include <signal.h>
#include <sys/mount.h>

/* ---- The same store by another name ---- */

static int other_status;
static int other_opened;
static int other_closed;

static void on_other(dassie_t *q, int status)
{
    (void)q;
    other_status = status;
    other_opened++;
}

static void on_other_closed(dassie_t *q)
{
    (void)q;
    other_closed++;
}

/* Opens path with a second handle: what it says. */
static int open_other(const char *path)
{
    dassie_t other;
    other_opened = other_closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &other), 0);
    ck_assert_int_eq(dassie_open(&other, path, &rig.options, on_other), 0);
    rig_wait(&other_opened, 1);
    ck_assert_int_eq(dassie_close(&other, on_other_closed), 0);
    rig_wait(&other_closed, 1);
    return other_status;
}

static void refused(const char *path)
{
    dassie_verify_report_t report;
    uint64_t digest = temp_dir_digest(rig.path, NULL);
    ck_assert_int_eq(open_other(path), UV_EBUSY);
    ck_assert_int_eq(dassie_verify(path, NULL, NULL, &report), UV_EBUSY);
    ck_assert_uint_eq(temp_dir_digest(rig.path, NULL), digest);
}

START_TEST(spellings)
{
    static const char *const tails[] = {"store",   "store/",        "./store",
                                        "store/.", "link/../store", "link"};
    char path[2 * PATH_MAX];
    char was[PATH_MAX];
    temp_path(path, rig.dir, "link");
    ck_assert_int_eq(symlink(rig.path, path), 0);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", rig.dir, tails[i]);
        refused(path);
        ck_assert_ptr_nonnull(getcwd(was, sizeof was));
        ck_assert_int_eq(chdir(rig.dir), 0);
        refused(tails[i]);
        ck_assert_int_eq(chdir(was), 0);
    }
}
END_TEST

/* Another mount of it; only root can make one. */
START_TEST(bound)
{
    char path[PATH_MAX];
    temp_path(path, rig.dir, "bound");
    ck_assert_int_eq(mkdir(path, 0755), 0);
    if (mount(rig.path, path, NULL, MS_BIND, NULL) != 0) {
        ck_assert_int_eq(errno, EPERM);
        return;
    }
    refused(path);
    ck_assert_int_eq(umount(path), 0);
}
END_TEST

/* ---- What is left of a lock ---- */

/* The file says nothing; only who holds it does. */
START_TEST(stale_lock)
{
    static const char *const texts[] = {"", "1\n", "4194304\n", "garbage",
                                        "-1\n"};
    rig_close();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        temp_file_write(rig.path, "lock", texts[i], strlen(texts[i]));
        rig_open();
        rig_close();
    }
    rig_open();
}
END_TEST

static int lock_fd(void)
{
    char link[PATH_MAX];
    char file[PATH_MAX];
    char lock[PATH_MAX];
    temp_path(lock, rig.path, "lock");
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, file, sizeof file - 1);
        file[n > 0 ? n : 0] = '\0';
        if (strcmp(file, lock) == 0) {
            return fd;
        }
    }
    return -1;
}

static void try_to_own(void)
{
    ck_assert_int_ne(rig_try_open(), 0);
    rig_close();
}

/* The host has closed the descriptor, and with it the lock. A second process
 * is still kept out, by RocksDB's own; the first one's jobs are safe. */
START_TEST(lock_closed_by_host)
{
    struct spawned s;
    int fd = lock_fd();
    rig_enqueue(NULL, "x");
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    spawn(&s, "try_to_own");
    ck_assert_int_eq(spawn_end(&s), 0);
    rig_enqueue(NULL, "x");
    rig_close();
    ck_assert_uint_eq(rig_verify().jobs.pending, 2);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 2);
}
END_TEST

/* ---- Children ---- */

static dassie_t child_q;
static uv_loop_t child_loop;

/* What a child finds that would own a store itself. */
static int child_opens(void)
{
    dassie_verify_report_t report;
    int bad = uv_loop_init(&child_loop) != 0;
    bad += dassie_init(&child_loop, &child_q) != 0;
    bad += dassie_open(&child_q, rig.path, NULL, NULL) != UV_EPERM;
    bad += dassie_close(&child_q, NULL) != 0;
    bad += uv_run(&child_loop, UV_RUN_DEFAULT) != 0;
    bad += uv_loop_close(&child_loop) != 0;
    bad += dassie_verify(rig.path, NULL, NULL, &report) != UV_EPERM;
    return bad;
}

/* It cannot have one: RocksDB's threads did not come along. */
START_TEST(child_of_an_owner)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit(child_opens());
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    rig_enqueue(NULL, "x");
}
END_TEST

/* One of a process that never had a store may. */
START_TEST(child_of_nobody)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        rig_open();
        rig_enqueue(NULL, "x");
        rig_close();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

static void note(dassie_job_t *job)
{
    dassie_finish(&rig.q, dassie_job_id(job), 1, 0, NULL, 0);
}

/* Children come and go while jobs are under way. */
START_TEST(forks_in_flight)
{
    enum { CHILDREN = 20, JOBS = 50 };
    static dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    options.start = note;
    options.concurrency = 8;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    for (int i = 0; i < CHILDREN; i++) {
        for (int k = 0; k < JOBS; k++) {
            ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
        }
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        pid_t child = fork();
        if (child == 0) {
            _exit(lock_fd() >= 0 ||
                  dassie_enqueue(&rig.q, NULL, &spec, NULL) != UV_EPERM);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
    }
    rig_drain();
    ck_assert_uint_eq(rig_counts().complete, CHILDREN * JOBS);
}
END_TEST

/* Of the store's files none is open in here. */
static void look_for_files(void)
{
    char link[PATH_MAX];
    char file[PATH_MAX];
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, file, sizeof file - 1);
        file[n > 0 ? n : 0] = '\0';
        ck_assert_msg(strncmp(file, rig.path, strlen(rig.path)) != 0, "%s",
                      file);
    }
}

/* However that was started: posix_spawn() is what spawn() does. */
START_TEST(executed)
{
    static char exe[] = "/proc/self/exe";
    static char name[] = "look_for_files";
    char *argv[] = {exe, name, rig.path, NULL};
    struct spawned s;
    int status;
    rig_enqueue(NULL, "x");
    spawn(&s, name);
    ck_assert_int_eq(spawn_end(&s), 0);
    pid_t child = fork();
    if (child == 0) {
        execv(exe, argv);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        {"try_to_own", try_to_own}, {"look_for_files", look_for_files}};
    if (argc == 3) {
        return spawned_main(argv, scenarios, 2);
    }
    Suite *suite = suite_create("owners");
    TCase *none = tcase_create("nobody"); /* first: no store was there yet */
    suite_add_tcase(suite, none);
    tcase_add_checked_fixture(none, rig_setup, rig_teardown);
    tcase_add_test(none, child_of_nobody);
    TCase *tc = tcase_create("owners");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    tcase_add_test(tc, spellings);
    tcase_add_test(tc, bound);
    tcase_add_test(tc, stale_lock);
    tcase_add_test(tc, lock_closed_by_host);
    tcase_add_test(tc, child_of_an_owner);
    tcase_add_test(tc, forks_in_flight);
    tcase_add_test(tc, executed);
    return spawn_suite(suite);
}
