/* kill_at.c: a library for LD_PRELOAD that kills its process at the n-th call
 * that writes.
 *
 * It counts the calls that change or sync something below the directory
 * KILL_AT_DIR (an absolute path without links in it). At the call that
 * KILL_AT="N WHEN" names the process gets SIGKILL: "before" it, in its "middle"
 * (half of the bytes are written; a call that cannot be half done is passed
 * over, to the next one that can) or "after" it. Without KILL_AT it only
 * counts. A process that ends by itself leaves the number of its calls in the
 * file KILL_AT_COUNT. With KILL_AT_MARK="M" only the calls after the program's
 * M-th call of subject_mark() count, which it makes where it matters most.
 *
 * With KILL_AT_CUT="DIR" the file system of that directory (ext4 or XFS) is
 * shut down first, as a power cut would: nothing more of it is written, not
 * even its journal.
 *
 * Not seen are stores to mapped memory, and what the C library writes by itself
 * (stdio). Threads: any. */
#define _GNU_SOURCE

#include "below.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum when { NEVER, BEFORE, MIDDLE, AFTER };

/* What the other threads may still do of what they have been told. */
#define LAST_MOMENT_US 2000

/* EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same. */
#define SHUTDOWN _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_FLUSH 2

static const char *dir;
static long kill_call;
static atomic_long marks_to_come;
static enum when kill_when;
static atomic_long calls;

void subject_mark(void);

static void __attribute__((constructor)) begin(void)
{
    static const char *const names[] = {"", "before", "middle", "after"};
    const char *text = getenv("KILL_AT");
    const char *mark = getenv("KILL_AT_MARK");
    char name[8] = "";
    dir = getenv("KILL_AT_DIR");
    marks_to_come = mark != NULL ? strtol(mark, NULL, 10) : 0;
    if (text == NULL) {
        return;
    }
    for (int i = BEFORE; i <= AFTER; i++) {
        if (sscanf(text, "%ld %7s", &kill_call, name) == 2 &&
            strcmp(name, names[i]) == 0) {
            kill_when = i;
        }
    }
    if (kill_when == NEVER || kill_call < 1 || dir == NULL) {
        fprintf(stderr, "kill_at: not understood: %s\n", text);
        _exit(2);
    }
}

static void __attribute__((destructor)) end(void)
{
    const char *path = getenv("KILL_AT_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "%ld\n", atomic_load(&calls));
        fclose(file);
    }
}

/* Without the right to do it nobody would be cut off. */
static void cut(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    const char *path = getenv("KILL_AT_CUT");
    uint32_t how = SHUTDOWN_NO_FLUSH;
    if (path == NULL || atomic_flag_test_and_set(&done)) {
        return;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, SHUTDOWN, &how) != 0) {
        perror(path);
        _exit(2);
    }
}

/* An acknowledgement that was given too early must have been heard, or nobody
 * would notice; hence the moment. */
static void __attribute__((noreturn)) die(void)
{
    usleep(LAST_MOMENT_US);
    cut();
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

static bool below(const char *path)
{
    return path_below(dir, path);
}

static bool below_fd(int fd)
{
    return fd_below(dir, fd);
}

static bool below_memory(const void *p)
{
    (void)p;
    return dir != NULL; /* who syncs memory has mapped a file of the store */
}

/* Counts a call, and says what is to become of it. */
static enum when turn(bool counts, bool can_halve)
{
    if (!counts || atomic_load(&marks_to_come) > 0) {
        return NEVER;
    }
    long call = atomic_fetch_add(&calls, 1) + 1;
    bool now = kill_when == MIDDLE ? can_halve && call >= kill_call
                                   : call == kill_call;
    if (kill_when == NEVER || !now) {
        return NEVER;
    }
    if (kill_when == BEFORE) {
        die();
    }
    return kill_when;
}

void subject_mark(void)
{
    atomic_fetch_sub(&marks_to_come, 1);
}

/* ---- The calls ---- */

/* half: the arguments that do half of it. */
#define CALL(type, name, params, args, half, can_halve, counts) \
    type name params                                            \
    {                                                           \
        __typeof__(&name) real = dlsym(RTLD_NEXT, #name);       \
        enum when when = turn(counts, can_halve);               \
        type rc = when == MIDDLE ? real half : real args;       \
        if (when != NEVER) {                                    \
            die();                                              \
        }                                                       \
        return rc;                                              \
    }
#define HALVED(type, name, params, args, half) \
    CALL(type, name, params, args, half, true, below_fd(fd))
#define WHOLE(name, params, args, counts) \
    CALL(int, name, params, args, args, false, counts)
#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        __typeof__(&name) real = dlsym(RTLD_NEXT, #name);                \
        bool makes = (flags & (O_CREAT | O_TRUNC)) != 0;                 \
        enum when when = turn(makes && below(path), false);              \
        va_list list;                                                    \
        va_start(list, flags);                                           \
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                    \
        int rc = real(path, flags, mode);                                \
        if (when != NEVER) {                                             \
            die();                                                       \
        }                                                                \
        return rc;                                                       \
    }

HALVED(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n),
       (fd, p, n / 2))
HALVED(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n),
       (fd, v, n / 2))
HALVED(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at),
       (fd, p, n, at), (fd, p, n / 2, at))
HALVED(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at),
       (fd, v, n, at), (fd, v, n / 2, at))
HALVED(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
       (fd, mode, at, (n + 1) / 2))
HALVED(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n),
       (fd, at, (n + 1) / 2))

OPEN(open)
WHOLE(creat, (const char *path, mode_t mode), (path, mode), below(path))
WHOLE(ftruncate, (int fd, off_t n), (fd, n), below_fd(fd))
WHOLE(truncate, (const char *path, off_t n), (path, n), below(path))
WHOLE(fsync, (int fd), (fd), below_fd(fd))
WHOLE(fdatasync, (int fd), (fd), below_fd(fd))
WHOLE(msync, (void *p, size_t n, int flags), (p, n, flags), below_memory(p))
WHOLE(rename, (const char *from, const char *to), (from, to), below(to))
WHOLE(link, (const char *from, const char *to), (from, to), below(to))
WHOLE(symlink, (const char *from, const char *to), (from, to), below(to))
WHOLE(unlink, (const char *path), (path), below(path))
WHOLE(mkdir, (const char *path, mode_t mode), (path, mode), below(path))
WHOLE(rmdir, (const char *path), (path), below(path))
CALL(FILE *, fopen, (const char *path, const char *mode), (path, mode),
     (path, mode), false, mode[0] != 'r' && below(path))

/* The names that a program with 64-bit offsets may use. */
#ifdef __GLIBC__
HALVED(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at),
       (fd, p, n, at), (fd, p, n / 2, at))
HALVED(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at),
       (fd, v, n, at), (fd, v, n / 2, at))
HALVED(int, fallocate64, (int fd, int mode, off64_t at, off64_t n),
       (fd, mode, at, n), (fd, mode, at, (n + 1) / 2))
HALVED(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n),
       (fd, at, (n + 1) / 2))
OPEN(open64)
WHOLE(ftruncate64, (int fd, off64_t n), (fd, n), below_fd(fd))
CALL(FILE *, fopen64, (const char *path, const char *mode), (path, mode),
     (path, mode), false, mode[0] != 'r' && below(path))
#endif
