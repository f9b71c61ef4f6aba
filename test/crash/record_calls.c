/* record_calls.c: the calls that record.c records; see there.
 *
 * Each function stands before the one of its name: it does what that does, and
 * writes it down. Errors and lies are put in here. Threads: any. */
#define _GNU_SOURCE

#include "record.h"

#include <rocksdb/c.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 4096
#define ARENA_BYTES 4096

/* What an open descriptor stands for. */
static struct {
    uint32_t file; /* 0: not ours */
    bool append;
    bool log; /* one of RocksDB's logs */
    bool dir;
} fds[FDS_MAX];
static uint32_t files;

static enum { NO_FAULT, NO_SYNC, NO_DIR_SYNC, LATE_SYNC } fault;
static uint32_t late_file;

static struct {
    char what[8]; /* "write", "sync" */
    long n;
    int error;
    atomic_long marks_to_come;
} inject;

void subject_mark(void);

/* ---- Errors and lies ---- */

static void __attribute__((constructor)) begin(void)
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
        trace_fail("RECORD_ERROR");
    }
}

void subject_mark(void)
{
    atomic_fetch_sub(&inject.marks_to_come, 1);
}

/* True, with errno, if this call is to fail. */
static bool injected(int fd, const char *what, long *n)
{
    if (!fds[fd].log) {
        return false;
    }
    if (late_file != 0) {
        trace_put(TRACE_SYNC, late_file, 0, NULL, 0);
        late_file = 0;
    }
    if (inject.marks_to_come > 0 || ++*n != inject.n ||
        strcmp(what, inject.what) != 0) {
        return false;
    }
    record_counts.injected++;
    trace_put(TRACE_ERROR, fds[fd].file, what[0] == 's', NULL, 0);
    errno = inject.error;
    return true;
}

/* ---- Descriptors ---- */

static bool is_below(const char *path)
{
    char buffer[PATH_MAX];
    return trace_below(path, buffer) != NULL;
}

static bool known(int fd)
{
    return fd >= 0 && fd < FDS_MAX && fds[fd].file != 0;
}

static void opened(int fd, const char *path, int flags)
{
    char buffer[PATH_MAX];
    const char *name = trace_below(path, buffer);
    struct stat st;
    if (fd < 0 || name == NULL || fd >= FDS_MAX) {
        return;
    }
    size_t len = strlen(name);
    fds[fd].file = ++files;
    fds[fd].append = (flags & O_APPEND) != 0;
    fds[fd].log = len > 4 && strcmp(name + len - 4, ".log") == 0;
    fds[fd].dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    trace_put(TRACE_OPEN, files, (uint64_t)flags, name, len);
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
        trace_put(TRACE_WRITE, fds[fd].file, at, parts->iov_base, n);
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
    trace_put(TRACE_SYNC, fds[fd].file, 0, NULL, 0);
}

static void put_paths(enum trace_op op, const char *from, const char *to)
{
    char a[PATH_MAX];
    char b[PATH_MAX];
    char both[2 * PATH_MAX];
    int n = snprintf(both, sizeof both, "%s%c%s", trace_below(from, a), '\0',
                     trace_below(to, b));
    trace_put(op, 0, 0, both, (size_t)n);
}

/* ---- The calls ---- */

#define REAL(name) __typeof__(&name) real = dlsym(RTLD_NEXT, #name)

/* record: what to write down when the call has not failed. */
#define CALL(type, name, params, args, ours, record) \
    type name params                                 \
    {                                                \
        REAL(name);                                  \
        bool mine = ours;                            \
        trace_enter(mine);                           \
        type rc = real args;                         \
        if (mine && rc == 0) {                       \
            record;                                  \
        }                                            \
        trace_leave(mine);                           \
        return rc;                                   \
    }

/* at: where it writes. */
#define WRITE(name, params, args, parts, at_)                              \
    ssize_t name params                                                    \
    {                                                                      \
        REAL(name);                                                        \
        bool mine = known(fd);                                             \
        trace_enter(mine);                                                 \
        uint64_t at = mine ? (uint64_t)(at_) : 0;                          \
        bool fails = mine && injected(fd, "write", &record_counts.writes); \
        ssize_t rc = fails ? -1 : real args;                               \
        if (mine && rc > 0) {                                              \
            put_parts(fd, at, parts, (size_t)rc);                          \
        }                                                                  \
        trace_leave(mine);                                                 \
        return rc;                                                         \
    }

#define SYNC(name)                                                       \
    int name(int fd)                                                     \
    {                                                                    \
        REAL(name);                                                      \
        bool mine = known(fd);                                           \
        trace_enter(mine);                                               \
        bool fails = mine && injected(fd, "sync", &record_counts.syncs); \
        int rc = fails ? -1 : real(fd);                                  \
        if (mine && rc == 0) {                                           \
            put_sync(fd);                                                \
        }                                                                \
        trace_leave(mine);                                               \
        return rc;                                                       \
    }

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        REAL(name);                                                      \
        const char *boot_id = getenv("RECORD_BOOT_ID");                  \
        if (boot_id != NULL && strcmp(path, KERNEL_BOOT_ID) == 0) {      \
            path = boot_id;                                              \
        }                                                                \
        va_list list;                                                    \
        va_start(list, flags);                                           \
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                    \
        bool mine = is_below(path);                                      \
        trace_enter(mine);                                               \
        int rc = real(path, flags, mode);                                \
        opened(rc, path, flags);                                         \
        trace_leave(mine);                                               \
        return rc;                                                       \
    }

#define PART(p, n)     \
    &(struct iovec)    \
    {                  \
        (void *)(p), n \
    }

#define FOPEN(name)                                                         \
    FILE *name(const char *path, const char *mode)                          \
    {                                                                       \
        char buffer[PATH_MAX];                                              \
        REAL(name);                                                         \
        const char *below_path = trace_below(path, buffer);                 \
        bool mine = mode[0] != 'r' && below_path != NULL;                   \
        trace_enter(mine);                                                  \
        FILE *file = real(path, mode);                                      \
        if (mine && file != NULL) {                                         \
            trace_put(TRACE_OPEN, ++files,                                  \
                      O_CREAT | (mode[0] == 'w' ? O_TRUNC : 0), below_path, \
                      strlen(below_path));                                  \
        }                                                                   \
        trace_leave(mine);                                                  \
        return file;                                                        \
    }

#define MMAP(name, off)                                                     \
    void *name(void *want, size_t len, int prot, int flags, int fd, off at) \
    {                                                                       \
        REAL(name);                                                         \
        bool mine = known(fd) && (prot & PROT_WRITE) != 0 &&                \
                    (flags & MAP_SHARED) != 0;                              \
        trace_enter(mine);                                                  \
        void *p = real(want, len, prot, flags, fd, at);                     \
        if (mine && p != MAP_FAILED) {                                      \
            trace_map(p, len, fds[fd].file);                                \
        }                                                                   \
        trace_leave(mine);                                                  \
        return p;                                                           \
    }

static void put_fallocate(int fd, int mode, off_t at, off_t n)
{
    if (mode == 0) {
        trace_put(TRACE_GROW, fds[fd].file, (uint64_t)(at + n), NULL, 0);
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
     trace_put(TRACE_SIZE, fds[fd].file, (uint64_t)n, NULL, 0))
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
     trace_mapped(p) != 0 && (flags & MS_SYNC) != 0,
     trace_put(TRACE_SYNC, trace_mapped(p), 0, NULL, 0))
CALL(int, munmap, (void *p, size_t n), (p, n), trace_mapped(p) != 0,
     trace_unmap(p))

/* The number is free for another file once it is closed. */
int close(int fd)
{
    REAL(close);
    trace_enter(false);
    if (known(fd)) {
        fds[fd].file = 0;
    }
    int rc = real(fd);
    trace_leave(false);
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
     trace_put(TRACE_SIZE, fds[fd].file, (uint64_t)n, NULL, 0))
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
        rocksdb_options_set_arena_block_size(o, ARENA_BYTES);
    }
    real(o, n);
}
