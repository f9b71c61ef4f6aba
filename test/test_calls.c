/* Single system calls that fail, and what users see of it: RocksDB's question
 * for sync_file_range(), the mark that is written after each commit, free disk
 * space that nobody can tell, rows that cannot be read for a while; and a sync
 * that takes long, which the loop does not wait for. The calls are this
 * program's own, which go before the C library's. */
#include "config.h"

#include "queue_rig.h"

#include <stdatomic.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

/* ---- The calls ---- */

static atomic_int range_error;  /* of sync_file_range() */
static atomic_int mark_error;   /* of writes to hwm */
static atomic_long reads_good;  /* from tables, until they fail; -1: always */
static atomic_ulong free_bytes; /* 0: nobody knows */
static atomic_int free_asked;
static atomic_bool held;    /* a sync of the log waits, */
static atomic_bool waits;   /* one does so, */
static atomic_bool expired; /* or has, for HELD_MS_MAX */

#define HELD_MS_MAX 10000

static bool is_of(int fd, const char *end)
{
    char link[32];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    ssize_t len = (ssize_t)strlen(end);
    return n > len && memcmp(path + n - len, end, (size_t)len) == 0;
}

int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags)
{
    int error = atomic_load(&range_error);
    if (error == 0) {
        return (int)syscall(SYS_sync_file_range, fd, at, n, flags);
    }
    errno = error;
    return -1;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    int error = atomic_load(&mark_error);
    if (error == 0 || !is_of(fd, "/hwm")) {
        return syscall(SYS_pwrite64, fd, p, n, at);
    }
    errno = error;
    return -1;
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    if (atomic_load(&reads_good) >= 0 && is_of(fd, ".sst") &&
        atomic_fetch_sub(&reads_good, 1) <= 0) {
        atomic_store(&reads_good, 0);
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, p, n, at);
}

int fdatasync(int fd)
{
    for (int ms = 0; atomic_load(&held); ms++) {
        if (ms == HELD_MS_MAX) {
            expired = true;
            held = false;
        }
        waits = true;
        uv_sleep(1);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int statvfs(const char *path, struct statvfs *fs)
{
    unsigned long bytes = atomic_load(&free_bytes);
    (void)path;
    free_asked++;
    if (bytes == 0) {
        errno = EIO;
        return -1;
    }
    memset(fs, 0, sizeof *fs);
    fs->f_frsize = 1;
    fs->f_bavail = bytes;
    return 0;
}

/* ---- The log ---- */

static struct {
    int unwritten;
    int written;
    int unreadable;
    int readable;
    int wrong; /* rows are said to be gone */
    int low;
    int room;
} told;

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    rig_log(q, level, line);
    told.unwritten += strstr(line, "hwm is not written") != NULL;
    told.written += strstr(line, "hwm is written again") != NULL;
    told.unreadable += strstr(line, "jobs cannot be read") != NULL;
    told.readable += strstr(line, "jobs are read again") != NULL;
    told.wrong += strstr(line, "gone") != NULL;
    told.low += strstr(line, "new jobs are refused") != NULL;
    told.room += strstr(line, "new jobs are taken") != NULL;
}

static void setup(void)
{
    range_error = 0;
    mark_error = 0;
    reads_good = -1;
    free_bytes = 1 << 30;
    free_asked = 0;
    held = waits = expired = false;
    memset(&told, 0, sizeof told);
    rig_setup();
    rig.options.log_cb = on_log;
}

/* ---- Tests ---- */

/* A filter's answer would abort the host: an assertion of RocksDB's. Of a
 * kernel without the call it knows. */
START_TEST(no_sync_file_range)
{
    range_error = EPERM;
    ck_assert_int_eq(rig_try_open(), UV_EPERM);
    ck_assert_ptr_nonnull(strstr(dassie_errmsg(&rig.q), "sync_file_range"));
    rig_close();
    range_error = ENOSYS;
    rig_open();
    rig_enqueue(NULL, NULL);
}
END_TEST

/* Every code that is told has a name. */
START_TEST(odd_errors)
{
    static const struct {
        int error;
        int code;
    } odd[] = {{EDQUOT, UV_ENOSPC}, {ENOLCK, UV_EIO}, {EUCLEAN, UV_EIO}};
    range_error = odd[_i].error;
    ck_assert_int_eq(rig_try_open(), odd[_i].code);
    rig_close();
    range_error = 0;
    rig_open();
}
END_TEST

static void is_told(const int *n, int times)
{
    rig_counts(); /* the log is told before */
    ck_assert_int_eq(*n, times);
}

/* An old mark notices less, which is told; no job is refused for it. */
START_TEST(mark_not_written)
{
    rig_open();
    rig_enqueue(NULL, NULL);
    ck_assert_int_eq(told.unwritten, 0);
    mark_error = EIO;
    rig_enqueue(NULL, NULL);
    rig_enqueue(NULL, NULL);
    is_told(&told.unwritten, 1);
    ck_assert_int_eq(rig_stats().degraded, 0);
    mark_error = 0;
    rig_enqueue(NULL, NULL);
    is_told(&told.written, 1);
    mark_error = EIO;
    rig_enqueue(NULL, NULL);
    rig_reopen();
    ck_assert_uint_eq(rig_counts().pending, 5);
}
END_TEST

/* Enqueues until the free space was asked for once more; the last status. */
static int enqueue_until_asked(void)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    int status;
    int before = free_asked;
    do {
        rig_try_enqueue(&spec, &status);
    } while (free_asked == before);
    return status;
}

/* Where nobody can tell how much room is left, it is as it was. */
START_TEST(space_unknown)
{
    rig.options.free_bytes_min = 1 << 20;
    rig_open();
    ck_assert_int_eq(enqueue_until_asked(), 0);
    free_bytes = 0;
    ck_assert_int_eq(enqueue_until_asked(), 0);
    free_bytes = 1;
    ck_assert_int_eq(enqueue_until_asked(), UV_ENOSPC);
    free_bytes = 0;
    ck_assert_int_eq(enqueue_until_asked(), UV_ENOSPC);
    free_bytes = 1 << 20;
    ck_assert_int_eq(enqueue_until_asked(), 0);
    is_told(&told.low, 1);
    is_told(&told.room, 1);
}
END_TEST

static int work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

/* Whether that a refill fails, or a compaction, for which commits wait then. */
static bool is_told_of(void)
{
    return told.unreadable > 0 || rig_stats().degraded != 0;
}

/* What is told once rows stand in a table, and n reads of it are good. Nothing
 * else happens: the line is tried again all the same. */
START_TEST(rows_not_read)
{
    static dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    struct rig_got got;
    options.work = work;
    rig_open();
    uint64_t first = rig_enqueue(NULL, "first");
    rig_enqueue(NULL, "second");
    rig_reopen();
    reads_good = 0;
    ck_assert_int_eq(rig_try_get(&got, first), UV_EIO);
    reads_good = _i;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    rig_poll(is_told_of);
    ck_assert_int_eq(told.wrong, 0);
    reads_good = -1;
    rig_drain();
    ck_assert_int_eq(rig_get(&got, first)->state, DASSIE_COMPLETE);
    ck_assert_uint_eq(rig_counts().complete, 2);
    ck_assert_int_le(told.unreadable, 1);
    ck_assert_int_eq(told.readable, told.unreadable);
}
END_TEST

static bool sync_waits(void)
{
    return waits;
}

static struct {
    int acks;
    int many;
    int looks;
    int stopped;
    int drains;
} came;

static void on_ack(dassie_enqueue_t *req, int status)
{
    (void)req;
    came.acks += status == 0;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    came.many += status == 0;
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *info)
{
    (void)req;
    came.looks += status == 0 && info != NULL;
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *infos,
                    size_t n)
{
    (void)req;
    came.looks += status == 0 && infos != NULL && n > 0;
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    came.looks += status == 0 && count != NULL;
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *info)
{
    (void)req;
    came.looks += status == 0 && info != NULL;
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    came.drains += status == 0;
}

static void on_stopped(dassie_processor_t *p)
{
    (void)p;
    came.stopped++;
}

/* Everything is asked for while a commit is being synced; nothing of it waits
 * for that, and all of it is answered later. */
START_TEST(loop_goes_on)
{
    static dassie_processor_t p[2];
    static dassie_enqueue_t ack[2];
    static dassie_enqueue_many_t many;
    static dassie_get_t get;
    static dassie_list_t list;
    static dassie_counts_t counts;
    static dassie_watch_t watch;
    static dassie_drain_t drain;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, NULL);
    options.work = work;
    options.queue = "other";
    memset(&came, 0, sizeof came);
    rig_open();
    uint64_t id = rig_enqueue(NULL, NULL);
    ck_assert_int_eq(dassie_process(&rig.q, &p[0], &options), 0);
    rig_counts();
    held = true;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack[0], &spec, on_ack), 0);
    rig_poll(sync_waits);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack[1], &spec, on_ack), 0);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec, 1, on_many), 0);
    ck_assert_int_eq(dassie_get(&rig.q, &get, id, on_get), 0);
    ck_assert_int_eq(dassie_list(&rig.q, &list, NULL, on_list), 0);
    ck_assert_int_eq(dassie_counts(&rig.q, &counts, NULL, 0, on_counts), 0);
    ck_assert_int_eq(dassie_watch(&rig.q, &watch, id, on_watch), 0);
    ck_assert_int_eq(dassie_drain(&rig.q, &drain, NULL, 0, on_drain), 0);
    ck_assert_int_eq(dassie_processor_stop(&p[0], on_stopped), 0);
    options.queue = NULL;
    ck_assert_int_eq(dassie_process(&rig.q, &p[1], &options), 0);
    ck_assert_uint_eq(rig_stats().degraded, 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), UV_EALREADY);
    while (uv_run(&rig.loop, UV_RUN_NOWAIT) == 0) {
    }
    ck_assert_int_eq(came.acks + came.many + came.looks + came.stopped, 0);
    ck_assert(held && !expired);
    held = false;
    rig_wait(&came.drains, 1);
    rig_wait(&came.looks, 4);
    ck_assert_int_eq(came.acks, 2);
    ck_assert_int_eq(came.many, 1);
    ck_assert_int_eq(came.stopped, 1);
}
END_TEST

static void on_closed_slowly(dassie_t *q)
{
    (void)q;
    ck_assert(!held);
    rig.closed++;
}

/* Neither open nor close waits for the disk. */
START_TEST(open_and_close_go_on)
{
    static dassie_enqueue_t ack;
    dassie_spec_t spec = rig_spec(NULL, NULL);
    memset(&came, 0, sizeof came);
    held = true;
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, rig_opened), 0);
    rig_poll(sync_waits);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack, &spec, on_ack), 0);
    ck_assert_int_eq(dassie_close(&rig.q, on_closed_slowly), 0);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(rig.opened + rig.closed + came.acks, 0);
    ck_assert(held && !expired);
    held = false;
    rig_wait(&rig.closed, 1);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, came.acks);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calls");
    TCase *tc = tcase_create("calls");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, rig_finish);
    tcase_add_test(tc, no_sync_file_range);
    tcase_add_loop_test(tc, odd_errors, 0, 3);
    tcase_add_test(tc, mark_not_written);
    tcase_add_test(tc, space_unknown);
    tcase_add_loop_test(tc, rows_not_read, 0, 2);
    tcase_add_test(tc, loop_goes_on);
    tcase_add_test(tc, open_and_close_go_on);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
