/* A store's directory: its format, its lock, its making. */
#include "config.h"

#include "../lib/dir.h"

#include "dassie.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char parent[TEMP_PATH_BYTES];
static char path[PATH_MAX];
static struct dir dir;
static struct dir other;
static struct errmsg error;

static void setup(void)
{
    temp_dir_make(parent);
    temp_path(path, parent, "store");
    error.text[0] = '\0';
}

static void teardown(void)
{
    temp_dir_remove(parent);
}

static int try(bool create)
{
    int rc = dassie__dir_open(&dir, path, create, &error);
    if (rc == 0) {
        dassie__dir_close(&dir);
    }
    return rc;
}

static void make(void)
{
    ck_assert_msg(try(true) == 0, "%s", error.text);
}

static bool has(const char *name)
{
    char file[PATH_MAX];
    temp_path(file, path, name);
    return access(file, F_OK) == 0;
}

/* What stands there is refused with rc, and not a byte of it changes. */
static void refused(int rc, const char *text)
{
    uint64_t digest = temp_dir_digest(path, NULL);
    for (int create = 0; create < 2; create++) {
        error.text[0] = '\0';
        ck_assert_int_eq(try(create), rc);
        ck_assert_msg(strstr(error.text, text) != NULL, "%s", error.text);
        ck_assert_uint_eq(temp_dir_digest(path, NULL), digest);
    }
}

/* ---- Making ---- */

START_TEST(made)
{
    ck_assert_int_eq(dassie__dir_open(&dir, path, true, &error), 0);
    ck_assert(dir.fresh);
    ck_assert_str_eq(dir.path, path);
    dassie__dir_close(&dir);
    ck_assert(has("FORMAT"));
    ck_assert(!has("FORMAT.new"));
    char file[PATH_MAX];
    char text[32] = "";
    temp_path(file, path, "FORMAT");
    int fd = open(file, O_RDONLY);
    ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
    close(fd);
    ck_assert_str_eq(text, "dassie 1\n");
    for (int create = 0; create < 2; create++) {
        ck_assert_int_eq(dassie__dir_open(&dir, path, create, &error), 0);
        ck_assert(!dir.fresh);
        dassie__dir_close(&dir);
    }
}
END_TEST

START_TEST(made_in_an_empty_directory)
{
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_assert_int_eq(try(false), UV_ENOENT);
    make();
    ck_assert_int_eq(try(false), 0);
}
END_TEST

START_TEST(not_made)
{
    ck_assert_int_eq(try(false), UV_ENOENT);
    ck_assert(access(path, F_OK) != 0);
}
END_TEST

START_TEST(no_parent)
{
    temp_path(path, parent, "nowhere/store");
    ck_assert_int_eq(try(false), UV_ENOENT);
    ck_assert_int_eq(try(true), UV_ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, "no such file"));
}
END_TEST

/* A creation that was interrupted left the lock, and perhaps half a FORMAT. */
START_TEST(interrupted_creation)
{
    static const char *const leftovers[] = {"", "das", "dassie 1\n"};
    ck_assert_int_eq(mkdir(path, 0755), 0);
    temp_file_write(path, "lock", "4711\n", 5);
    temp_file_write(path, "FORMAT.new", leftovers[_i], strlen(leftovers[_i]));
    ck_assert_int_eq(try(false), UV_ENOENT);
    make();
    ck_assert(has("FORMAT"));
    ck_assert(!has("FORMAT.new"));
    ck_assert_int_eq(try(false), 0);
}
END_TEST

/* ---- What is not ours ---- */

START_TEST(foreign_directory)
{
    ck_assert_int_eq(mkdir(path, 0755), 0);
    temp_file_write(path, "thesis.tex", "do not lose me", 14);
    refused(DASSIE_ENOSTORE, "thesis.tex");
}
END_TEST

START_TEST(a_file)
{
    temp_file_write(parent, "store", "x", 1);
    for (int create = 0; create < 2; create++) {
        ck_assert_int_eq(try(create), UV_ENOTDIR);
    }
    temp_path(path, parent, "store/below");
    ck_assert_int_eq(try(true), UV_ENOTDIR);
}
END_TEST

START_TEST(newer_format)
{
    static const char *const texts[] = {"dassie 2\n", "dassie 4000000000\n",
                                        "dassie 0\n", "dassie 2 with more\n"};
    make();
    temp_file_write(path, "FORMAT", texts[_i], strlen(texts[_i]));
    refused(UV_ENOTSUP, "format ");
}
END_TEST

START_TEST(garbage_format)
{
    static const char *const texts[] = {
        "",        "\n", "dassie\n", "dassie ", "dassie one\n", "RocksDB 1\n",
        "dassie 1"};
    make();
    temp_file_write(path, "FORMAT", texts[_i], strlen(texts[_i]));
    refused(DASSIE_ENOSTORE, "FORMAT");
}
END_TEST

START_TEST(too_long)
{
    static char name[2 * PATH_MAX];
    memset(name, 'x', sizeof name - 1);
    ck_assert_int_eq(dassie__dir_open(&dir, name, true, &error),
                     UV_ENAMETOOLONG);
    name[PATH_MAX - 2] = '\0';
    ck_assert_int_eq(dassie__dir_open(&dir, name, true, &error),
                     UV_ENAMETOOLONG);
}
END_TEST

/* Root may write everywhere, so that there is nothing to see for it. */
START_TEST(not_permitted)
{
    if (geteuid() == 0) {
        return;
    }
    ck_assert_int_eq(chmod(parent, 0500), 0);
    ck_assert_int_eq(try(true), UV_EACCES);
    ck_assert_int_eq(chmod(parent, 0700), 0);
    make();
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(try(true), UV_EACCES);
    ck_assert_int_eq(chmod(path, 0700), 0);
}
END_TEST

/* ---- The lock ---- */

static void busy(const struct errmsg *e, pid_t owner)
{
    char pid[32];
    snprintf(pid, sizeof pid, "pid %ld", (long)owner);
    ck_assert_msg(strstr(e->text, pid) != NULL, "%s", e->text);
}

START_TEST(second_open)
{
    ck_assert_int_eq(dassie__dir_open(&dir, path, true, &error), 0);
    uint64_t digest = temp_dir_digest(path, NULL);
    ck_assert_int_eq(dassie__dir_open(&other, path, true, &error), UV_EBUSY);
    busy(&error, getpid());
    ck_assert_int_eq(dassie__dir_open(&other, path, false, &error), UV_EBUSY);
    ck_assert_uint_eq(temp_dir_digest(path, NULL), digest);
    temp_file_write(path, "lock", "", 0); /* it was not written yet */
    ck_assert_int_eq(dassie__dir_open(&other, path, false, &error), UV_EBUSY);
    busy(&error, 0);
    dassie__dir_close(&dir);
    ck_assert_int_eq(dassie__dir_open(&other, path, false, &error), 0);
    dassie__dir_close(&other);
}
END_TEST

/* Ends the child with 0 if what it saw is right. */
static int child_sees(pid_t owner)
{
    char pid[32];
    snprintf(pid, sizeof pid, "pid %ld", (long)owner);
    if (dassie__dir_forks() != 1 || dir.lock_fd != -1) {
        return 2;
    }
    if (dassie__dir_open(&other, path, true, &error) != UV_EBUSY) {
        return 3;
    }
    return strstr(error.text, pid) != NULL ? 0 : 4;
}

START_TEST(forked_child)
{
    pid_t owner = getpid();
    int status;
    unsigned before = dassie__dir_forks();
    dassie__dir_forks_watch();
    dassie__dir_forks_watch();
    ck_assert_int_eq(dassie__dir_open(&dir, path, true, &error), 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(child_sees(owner));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(dassie__dir_forks(), before);
    /* It has not let go of its parent's lock. */
    ck_assert_int_eq(dassie__dir_open(&other, path, true, &error), UV_EBUSY);
    dassie__dir_close(&dir);
}
END_TEST

/* A child that outlives its parent does not keep the lock once it runs. */
START_TEST(child_keeps_no_lock)
{
    int up[2];
    int down[2];
    char byte = 0;
    int status;
    dassie__dir_forks_watch();
    ck_assert_int_eq(dassie__dir_open(&dir, path, true, &error), 0);
    ck_assert_int_eq(pipe(up), 0);
    ck_assert_int_eq(pipe(down), 0);
    pid_t child = fork();
    if (child == 0) {
        bool well = write(up[1], &byte, 1) == 1;
        _exit(well && read(down[0], &byte, 1) == 1 ? 0 : 1);
    }
    ck_assert_int_eq(read(up[0], &byte, 1), 1);
    dassie__dir_close(&dir);
    ck_assert_int_eq(try(false), 0);
    ck_assert_int_eq(write(down[1], &byte, 1), 1);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* A child that is forked while its parent has just taken the lock does not
 * keep it either: FORMAT is a pipe, and its second reading, which comes with
 * the lock held, waits. */
static int fifo;

static void *open_slowly(void *arg)
{
    *(int *)arg = dassie__dir_open(&dir, path, false, &error);
    return NULL;
}

static void format_give(void)
{
    ck_assert_int_eq(write(fifo, "dassie 1\n", 9), 9);
}

/* Whether one of this process's descriptors is the lock's. */
static bool has_lock_fd(void)
{
    char link[PATH_MAX];
    char file[PATH_MAX];
    char lock[PATH_MAX];
    temp_path(lock, path, "lock");
    for (int fd = 0; fd < 256; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, file, sizeof file - 1);
        file[n > 0 ? n : 0] = '\0';
        if (strcmp(file, lock) == 0) {
            return true;
        }
    }
    return false;
}

static bool lock_is_taken(void)
{
    char lock[PATH_MAX];
    struct stat st;
    temp_path(lock, path, "lock");
    return stat(lock, &st) == 0 && st.st_size > 0;
}

START_TEST(forked_while_opening)
{
    char format[PATH_MAX];
    pthread_t thread;
    int status;
    int rc = 1;
    temp_path(format, path, "FORMAT");
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_assert_int_eq(mkfifo(format, 0600), 0);
    fifo = open(format, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fifo, 0);
    dassie__dir_forks_watch();
    ck_assert_int_eq(pthread_create(&thread, NULL, open_slowly, &rc), 0);
    format_give();
    while (!lock_is_taken()) {
        usleep(1000);
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(has_lock_fd());
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(has_lock_fd());
    format_give();
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(rc, 0);
    dassie__dir_close(&dir);
    ck_assert(!has_lock_fd());
    close(fifo);
}
END_TEST

/* The lock goes with its owner, however that ended. */
START_TEST(killed_owner)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        _exit(dassie__dir_open(&dir, path, true, &error) == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(has("lock"));
    ck_assert_int_eq(try(false), 0);
}
END_TEST

static Suite *dir_suite(void)
{
    Suite *suite = suite_create("dir");
    TCase *tc = tcase_create("dir");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, made);
    tcase_add_test(tc, made_in_an_empty_directory);
    tcase_add_test(tc, not_made);
    tcase_add_test(tc, no_parent);
    tcase_add_loop_test(tc, interrupted_creation, 0, 3);
    tcase_add_test(tc, foreign_directory);
    tcase_add_test(tc, a_file);
    tcase_add_loop_test(tc, newer_format, 0, 4);
    tcase_add_loop_test(tc, garbage_format, 0, 7);
    tcase_add_test(tc, too_long);
    tcase_add_test(tc, not_permitted);
    tcase_add_test(tc, second_open);
    tcase_add_test(tc, forked_child);
    tcase_add_test(tc, child_keeps_no_lock);
    tcase_add_test(tc, forked_while_opening);
    tcase_add_test(tc, killed_owner);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(dir_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
