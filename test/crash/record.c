/* record.c: a library for LD_PRELOAD that records what its process does to a
 * directory, for replay.c; trace.h has the format.
 *
 *     RECORD_DIR        the directory: absolute, without links in it
 *     RECORD_TRACE      the file that records are appended to
 *     RECORD_KILL=N     kills the process after its N-th call
 *     RECORD_ERROR      "write N ERRNO" or "sync N ERRNO": fails the N-th such
 *                       call on a log file of RocksDB's, once
 *     RECORD_MARK=M     of them only those count that come after the program's
 *                       M-th call of subject_mark()
 *     RECORD_FAULT      records what is not so, for a test of the tests:
 *                       "nosync" no sync of a log, "latesync" each only when
 *                       a log is used again, "nodirsync" no sync of a
 *                       directory
 *     RECORD_BOOT_ID    a file to read in place of the kernel's boot id
 *     RECORD_MEMTABLES  bytes of RocksDB's memtables, all together: small ones
 *                       switch logs and write tables often
 *     RECORD_COUNT      a file that gets the number of calls, of writes and
 *                       syncs of log files, and of errors injected
 *
 * The happy path is: a call waits a moment, takes the one lock, writes down
 * what changed in mapped memory, does what it is for, and writes that down. So
 * the order of the trace is the order of the calls, and what the program told
 * its ledger (which is mapped memory) before a call stands before it. The
 * moment lets an acknowledgement that came too early be heard too early.
 *
 * Mapped memory is copied until two looks see the same: then what is written
 * down was there at one moment, in all mappings together.
 *
 * Possible failure modes are: a call that is not seen here. Each replay is
 * compared with the directory that the process left, to the byte; so that would
 * be noticed, except in files of stdio, whose contents are not seen (RocksDB's
 * LOG).
 *
 * On close: the destructor looks at mapped memory once more. Threads: any, one
 * call at a time. */
#define _GNU_SOURCE

#include "record.h"
#include "below.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAPS_MAX 8
#define BLOCK 4096u
#define MOMENT_US 150

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_len;
static int trace_fd = -1;
static long calls;
struct record_counts record_counts;

static struct {
    unsigned char *live;
    unsigned char *last; /* as it was written down */
    unsigned char *next;
    size_t len;
    uint32_t file;
} maps[MAPS_MAX];

/* ---- The trace ---- */

void trace_fail(const char *what)
{
    perror(what);
    _exit(4);
}

void trace_put(enum trace_op op, uint32_t file, uint64_t at, const void *data,
               size_t len)
{
    struct trace_record record = {(uint32_t)op, file, at, (uint32_t)len,
                                  op == TRACE_STORE};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)data, len}};
    long n = syscall(SYS_writev, trace_fd, parts, 2);
    if (n != (long)(sizeof record + len)) {
        trace_fail("record");
    }
}

static void put_process(void)
{
    char text[64] = "";
    const char *path = getenv("RECORD_BOOT_ID");
    FILE *file = fopen(path != NULL ? path : KERNEL_BOOT_ID, "r");
    if (file == NULL || fgets(text, sizeof text, file) == NULL) {
        trace_fail("boot id");
    }
    fclose(file);
    trace_put(TRACE_PROCESS, 0, 0, text, strlen(text));
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("RECORD_TRACE");
    root = getenv("RECORD_DIR");
    if (path == NULL || root == NULL) {
        return;
    }
    root_len = strlen(root);
    trace_fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (trace_fd < 0) {
        trace_fail(path);
    }
    put_process();
}

/* ---- Paths ---- */

/* "a/b/../c" is "a/c" here. */
static void simplify(char *path)
{
    char *at;
    while ((at = strstr(path, "/../")) != NULL ||
           (strlen(path) > 3 &&
            strcmp(at = path + strlen(path) - 3, "/..") == 0)) {
        char *to = at;
        while (to > path && *--to != '/') {
        }
        memmove(to, at + 3, strlen(at + 3) + 1);
    }
    while ((at = strstr(path, "//")) != NULL) {
        memmove(at, at + 1, strlen(at));
    }
}

/* The path below the directory, or NULL. */
const char *trace_below(const char *path, char buffer[PATH_MAX])
{
    if (trace_fd < 0 || path[0] != '/') {
        return NULL;
    }
    snprintf(buffer, PATH_MAX, "%s", path);
    simplify(buffer);
    if (!path_below(root, buffer)) {
        return NULL;
    }
    return buffer[root_len] == '\0' ? "" : buffer + root_len + 1;
}

/* ---- Mapped memory ---- */

static bool maps_stable(void)
{
    bool same = true;
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live != NULL) {
            memcpy(maps[i].next, maps[i].live, maps[i].len);
        }
    }
    for (int i = 0; i < MAPS_MAX; i++) {
        same = same && (maps[i].live == NULL ||
                        memcmp(maps[i].next, maps[i].live, maps[i].len) == 0);
    }
    return same;
}

/* Writes down the part of a block that changed. */
static bool put_block(int map, size_t at)
{
    const unsigned char *next = maps[map].next + at;
    unsigned char *last = maps[map].last + at;
    size_t n = maps[map].len - at < BLOCK ? maps[map].len - at : BLOCK;
    size_t from = 0;
    if (memcmp(next, last, n) == 0) {
        return false;
    }
    while (next[from] == last[from]) {
        from++;
    }
    while (next[n - 1] == last[n - 1]) {
        n--;
    }
    trace_put(TRACE_STORE, maps[map].file, at + from, next + from, n - from);
    memcpy(last + from, next + from, n - from);
    return true;
}

static void put_maps(void)
{
    bool changed = false;
    while (!maps_stable()) {
    }
    for (int i = 0; i < MAPS_MAX; i++) {
        for (size_t at = 0; maps[i].live != NULL && at < maps[i].len;
             at += BLOCK) {
            changed = put_block(i, at) || changed;
        }
    }
    if (changed) {
        trace_put(TRACE_MOMENT, 0, 0, NULL, 0);
    }
}

/* What stands in the file already is known to the trace: another process of it
 * has written that. But it may have died between its last call and its end. */
void trace_map(void *live, size_t len, uint32_t file)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == NULL) {
            maps[i].live = live;
            maps[i].last = malloc(len);
            maps[i].next = malloc(len);
            maps[i].len = len;
            maps[i].file = file;
            if (maps[i].last == NULL || maps[i].next == NULL) {
                trace_fail("malloc");
            }
            memcpy(maps[i].last, live, len);
            trace_put(TRACE_STORE, file, 0, maps[i].last, len);
            trace_put(TRACE_MOMENT, 0, 0, NULL, 0);
            return;
        }
    }
    errno = ENOMEM;
    trace_fail("too many mappings");
}

void trace_unmap(void *live)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == live) {
            maps[i].live = NULL;
            free(maps[i].last);
            free(maps[i].next);
        }
    }
}

uint32_t trace_mapped(void *live)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == live) {
            return maps[i].file;
        }
    }
    return 0;
}

/* ---- Each call ---- */

void trace_enter(bool ours)
{
    if (ours) {
        usleep(MOMENT_US);
    }
    pthread_mutex_lock(&mutex);
    if (!ours) {
        return;
    }
    put_maps();
}

void trace_leave(bool ours)
{
    static long kill_at = -1;
    if (kill_at < 0) {
        const char *text = getenv("RECORD_KILL");
        kill_at = text != NULL ? strtol(text, NULL, 10) : 0;
    }
    calls += ours;
    if (ours && calls == kill_at) {
        put_maps();
        kill(getpid(), SIGKILL);
        pause();
    }
    int error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
}

static void put_count(void)
{
    const char *path = getenv("RECORD_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "%ld %ld %ld %ld\n", calls, record_counts.writes,
                record_counts.syncs, record_counts.injected);
        fclose(file);
    }
}

static void __attribute__((destructor)) end(void)
{
    if (trace_fd >= 0) {
        trace_enter(true);
        trace_leave(true);
        put_count();
    }
}
