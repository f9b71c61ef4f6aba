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

#include "trace.h"

#include <rocksdb/c.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 4096
#define MAPS_MAX 8
#define BLOCK 4096u
#define MOMENT_US 150

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_len;
static int trace_fd = -1;
static long calls;

/* What an open descriptor stands for. */
static struct {
    uint32_t file; /* 0: not ours */
    bool append;
    bool log; /* one of RocksDB's logs */
    bool dir;
} fds[FDS_MAX];
static uint32_t files;

static struct {
    unsigned char *live;
    unsigned char *last; /* as it was written down */
    unsigned char *next;
    size_t len;
    uint32_t file;
} maps[MAPS_MAX];

static enum { NO_FAULT, NO_SYNC, NO_DIR_SYNC, LATE_SYNC } fault;
static uint32_t late_file;

static struct {
    char what[8]; /* "write", "sync" */
    long n;
    int error;
    long writes; /* so far */
    long syncs;
    long injected;
    atomic_long marks_to_come;
} inject;

void subject_mark(void);

/* ---- The trace ---- */

static void __attribute__((noreturn)) fail(const char *what)
{
    perror(what);
    _exit(4);
}

static void put(enum trace_op op, uint32_t file, uint64_t at, const void *data,
                size_t len)
{
    struct trace_record record = {(uint32_t)op, file, at, (uint32_t)len,
                                  op == TRACE_STORE};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)data, len}};
    long n = syscall(SYS_writev, trace_fd, parts, 2);
    if (n != (long)(sizeof record + len)) {
        fail("record");
    }
}

static void begin_fault(void)
{
    static const char *const names[] = {"", "nosync", "nodirsync", "latesync"};
    const char *text = getenv("RECORD_FAULT");
    for (int i = NO_FAULT; text != NULL && i <= LATE_SYNC; i++) {
        if (strcmp(text, names[i]) == 0) {
            fault = i;
        }
    }
    text = getenv("RECORD_MARK");
    inject.marks_to_come = text != NULL ? strtol(text, NULL, 10) : 0;
    text = getenv("RECORD_ERROR");
    if (text != NULL && sscanf(text, "%7s %ld %d", inject.what, &inject.n,
                               &inject.error) != 3) {
        fail("RECORD_ERROR");
    }
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("RECORD_TRACE");
    root = getenv("RECORD_DIR");
    if (path == NULL || root == NULL) {
        return;
    }
    root_len = strlen(root);
    begin_fault();
    trace_fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (trace_fd < 0) {
        fail(path);
    }
    put(TRACE_PROCESS, 0, 0, NULL, 0);
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
    put(TRACE_STORE, maps[map].file, at + from, next + from, n - from);
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
        put(TRACE_MOMENT, 0, 0, NULL, 0);
    }
}

/* What stands in the file already is known to the trace: another process of it
 * has written that. But it may have died between its last call and its end. */
static void map_add(void *live, size_t len, uint32_t file)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == NULL) {
            maps[i].live = live;
            maps[i].last = malloc(len);
            maps[i].next = malloc(len);
            maps[i].len = len;
            maps[i].file = file;
            if (maps[i].last == NULL || maps[i].next == NULL) {
                fail("malloc");
            }
            memcpy(maps[i].last, live, len);
            put(TRACE_STORE, file, 0, maps[i].last, len);
            put(TRACE_MOMENT, 0, 0, NULL, 0);
            return;
        }
    }
    errno = ENOMEM;
    fail("too many mappings");
}

static void map_remove(void *live)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == live) {
            maps[i].live = NULL;
            free(maps[i].last);
            free(maps[i].next);
        }
    }
}

static uint32_t map_file(void *live)
{
    for (int i = 0; i < MAPS_MAX; i++) {
        if (maps[i].live == live) {
            return maps[i].file;
        }
    }
    return 0;
}

/* ---- Each call ---- */

static void enter(bool ours)
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

static void leave(bool ours)
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

void subject_mark(void)
{
    atomic_fetch_sub(&inject.marks_to_come, 1);
}

static void put_count(void)
{
    const char *path = getenv("RECORD_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "%ld %ld %ld %ld\n", calls, inject.writes, inject.syncs,
                inject.injected);
        fclose(file);
    }
}

static void __attribute__((destructor)) end(void)
{
    if (trace_fd >= 0) {
        enter(true);
        leave(true);
        put_count();
    }
}

/* True, with errno, if this call is to fail. */
static bool injected(int fd, const char *what, long *n)
{
    if (!fds[fd].log) {
        return false;
    }
    if (late_file != 0) {
        put(TRACE_SYNC, late_file, 0, NULL, 0);
        late_file = 0;
    }
    if (inject.marks_to_come > 0 || ++*n != inject.n ||
        strcmp(what, inject.what) != 0) {
        return false;
    }
    inject.injected++;
    put(TRACE_ERROR, fds[fd].file, what[0] == 's', NULL, 0);
    errno = inject.error;
    return true;
}

/* ---- Paths and descriptors ---- */

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
static const char *below(const char *path, char buffer[PATH_MAX])
{
    if (trace_fd < 0 || path[0] != '/') {
        return NULL;
    }
    snprintf(buffer, PATH_MAX, "%s", path);
    simplify(buffer);
    if (strncmp(buffer, root, root_len) != 0) {
        return NULL;
    }
    if (buffer[root_len] == '\0') {
        return "";
    }
    return buffer[root_len] == '/' ? buffer + root_len + 1 : NULL;
}

static bool is_below(const char *path)
{
    char buffer[PATH_MAX];
    return below(path, buffer) != NULL;
}

static bool known(int fd)
{
    return fd >= 0 && fd < FDS_MAX && fds[fd].file != 0;
}

static void opened(int fd, const char *path, int flags)
{
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    struct stat st;
    if (fd < 0 || name == NULL || fd >= FDS_MAX) {
        return;
    }
    size_t len = strlen(name);
    fds[fd].file = ++files;
    fds[fd].append = (flags & O_APPEND) != 0;
    fds[fd].log = len > 4 && strcmp(name + len - 4, ".log") == 0;
    fds[fd].dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    put(TRACE_OPEN, files, (uint64_t)flags, name, len);
}

static uint64_t position(int fd)
{
    struct stat st;
    if (fds[fd].append && fstat(fd, &st) == 0) {
        return (uint64_t)st.st_size;
    }
    return (uint64_t)lseek(fd, 0, SEEK_CUR);
}

static void put_parts(int fd, uint64_t at, const struct iovec *parts,
                      size_t written)
{
    while (written > 0) {
        size_t n = parts->iov_len < written ? parts->iov_len : written;
        put(TRACE_WRITE, fds[fd].file, at, parts->iov_base, n);
        at += n;
        written -= n;
        parts++;
    }
}

static void put_sync(int fd)
{
    if (fault == NO_SYNC && fds[fd].log) {
        return;
    }
    if (fault == NO_DIR_SYNC && fds[fd].dir) {
        return;
    }
    if (fault == LATE_SYNC && fds[fd].log) {
        late_file = fds[fd].file;
        return;
    }
    put(TRACE_SYNC, fds[fd].file, 0, NULL, 0);
}

static void put_paths(enum trace_op op, const char *from, const char *to)
{
    char a[PATH_MAX];
    char b[PATH_MAX];
    char both[2 * PATH_MAX];
    int n = snprintf(both, sizeof both, "%s%c%s", below(from, a), '\0',
                     below(to, b));
    put(op, 0, 0, both, (size_t)n);
}

/* ---- The calls ---- */

#define REAL(name) __typeof__(&name) real = dlsym(RTLD_NEXT, #name)

/* record: what to write down when the call has not failed. */
#define CALL(type, name, params, args, ours, record) \
    type name params                                 \
    {                                                \
        REAL(name);                                  \
        bool mine = ours;                            \
        enter(mine);                                 \
        type rc = real args;                         \
        if (mine && rc == 0) {                       \
            record;                                  \
        }                                            \
        leave(mine);                                 \
        return rc;                                   \
    }

/* at: where it writes. */
#define WRITE(name, params, args, parts, at_)                       \
    ssize_t name params                                             \
    {                                                               \
        REAL(name);                                                 \
        bool mine = known(fd);                                      \
        enter(mine);                                                \
        uint64_t at = mine ? (uint64_t)(at_) : 0;                   \
        bool fails = mine && injected(fd, "write", &inject.writes); \
        ssize_t rc = fails ? -1 : real args;                        \
        if (mine && rc > 0) {                                       \
            put_parts(fd, at, parts, (size_t)rc);                   \
        }                                                           \
        leave(mine);                                                \
        return rc;                                                  \
    }

#define SYNC(name)                                                \
    int name(int fd)                                              \
    {                                                             \
        REAL(name);                                               \
        bool mine = known(fd);                                    \
        enter(mine);                                              \
        bool fails = mine && injected(fd, "sync", &inject.syncs); \
        int rc = fails ? -1 : real(fd);                           \
        if (mine && rc == 0) {                                    \
            put_sync(fd);                                         \
        }                                                         \
        leave(mine);                                              \
        return rc;                                                \
    }

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        REAL(name);                                                      \
        const char *boot_id = getenv("RECORD_BOOT_ID");                  \
        if (boot_id != NULL &&                                           \
            strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {      \
            path = boot_id;                                              \
        }                                                                \
        va_list list;                                                    \
        va_start(list, flags);                                           \
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                    \
        bool mine = is_below(path);                                      \
        enter(mine);                                                     \
        int rc = real(path, flags, mode);                                \
        opened(rc, path, flags);                                         \
        leave(mine);                                                     \
        return rc;                                                       \
    }

#define PART(p, n)     \
    &(struct iovec)    \
    {                  \
        (void *)(p), n \
    }

#define FOPEN(name)                                                            \
    FILE *name(const char *path, const char *mode)                             \
    {                                                                          \
        char buffer[PATH_MAX];                                                 \
        REAL(name);                                                            \
        const char *below_path = below(path, buffer);                          \
        bool mine = mode[0] != 'r' && below_path != NULL;                      \
        enter(mine);                                                           \
        FILE *file = real(path, mode);                                         \
        if (mine && file != NULL) {                                            \
            put(TRACE_OPEN, ++files, O_CREAT | (mode[0] == 'w' ? O_TRUNC : 0), \
                below_path, strlen(below_path));                               \
        }                                                                      \
        leave(mine);                                                           \
        return file;                                                           \
    }

#define MMAP(name, off)                                                     \
    void *name(void *want, size_t len, int prot, int flags, int fd, off at) \
    {                                                                       \
        REAL(name);                                                         \
        bool mine = known(fd) && (prot & PROT_WRITE) != 0 &&                \
                    (flags & MAP_SHARED) != 0;                              \
        enter(mine);                                                        \
        void *p = real(want, len, prot, flags, fd, at);                     \
        if (mine && p != MAP_FAILED) {                                      \
            map_add(p, len, fds[fd].file);                                  \
        }                                                                   \
        leave(mine);                                                        \
        return p;                                                           \
    }

static void put_fallocate(int fd, int mode, off_t at, off_t n)
{
    if (mode == 0) {
        put(TRACE_GROW, fds[fd].file, (uint64_t)(at + n), NULL, 0);
    }
}

OPEN(open)
FOPEN(fopen)
MMAP(mmap, off_t)
WRITE(write, (int fd, const void *p, size_t n), (fd, p, n), PART(p, n),
      position(fd))
WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n), v,
      position(fd))
WRITE(pwrite, (int fd, const void *p, size_t n, off_t to), (fd, p, n, to),
      PART(p, n), to)
WRITE(pwritev, (int fd, const struct iovec *v, int n, off_t to), (fd, v, n, to),
      v, to)
SYNC(fsync)
SYNC(fdatasync)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), known(fd),
     put(TRACE_SIZE, fds[fd].file, (uint64_t)n, NULL, 0))
CALL(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
     known(fd), put_fallocate(fd, mode, at, n))
CALL(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), known(fd),
     put_fallocate(fd, 0, at, n))
CALL(int, rename, (const char *from, const char *to), (from, to),
     is_below(from) && is_below(to), put_paths(TRACE_RENAME, from, to))
CALL(int, link, (const char *from, const char *to), (from, to),
     is_below(from) && is_below(to), put_paths(TRACE_LINK, from, to))
CALL(int, unlink, (const char *path), (path), is_below(path),
     put_paths(TRACE_UNLINK, path, path))
CALL(int, rmdir, (const char *path), (path), is_below(path),
     put_paths(TRACE_UNLINK, path, path))
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), is_below(path),
     put_paths(TRACE_MKDIR, path, path))
CALL(int, msync, (void *p, size_t n, int flags), (p, n, flags),
     map_file(p) != 0 && (flags & MS_SYNC) != 0,
     put(TRACE_SYNC, map_file(p), 0, NULL, 0))
CALL(int, munmap, (void *p, size_t n), (p, n), map_file(p) != 0, map_remove(p))

/* The number is free for another file once it is closed. */
int close(int fd)
{
    REAL(close);
    enter(false);
    if (known(fd)) {
        fds[fd].file = 0;
    }
    int rc = real(fd);
    leave(false);
    return rc;
}

/* The names that a program with 64-bit offsets may use. */
#ifdef __GLIBC__
OPEN(open64)
FOPEN(fopen64)
MMAP(mmap64, off64_t)
WRITE(pwrite64, (int fd, const void *p, size_t n, off64_t to), (fd, p, n, to),
      PART(p, n), to)
WRITE(pwritev64, (int fd, const struct iovec *v, int n, off64_t to),
      (fd, v, n, to), v, to)
CALL(int, ftruncate64, (int fd, off64_t n), (fd, n), known(fd),
     put(TRACE_SIZE, fds[fd].file, (uint64_t)n, NULL, 0))
CALL(int, fallocate64, (int fd, int mode, off64_t at, off64_t n),
     (fd, mode, at, n), known(fd), put_fallocate(fd, mode, at, n))
CALL(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n),
     known(fd), put_fallocate(fd, 0, at, n))
#endif

/* ---- RocksDB's memory ---- */

/* An arena takes whole blocks, which have to be small as well. */
void rocksdb_options_set_db_write_buffer_size(rocksdb_options_t *o, size_t n)
{
    REAL(rocksdb_options_set_db_write_buffer_size);
    const char *text = getenv("RECORD_MEMTABLES");
    if (text != NULL) {
        n = strtoul(text, NULL, 10);
        rocksdb_options_set_arena_block_size(o, BLOCK);
    }
    real(o, n);
}
