/* fault_at.c: a library for LD_PRELOAD that makes system calls fail.
 *
 * Of the calls of one kind that are about files below the directory FAULT_DIR
 * (an absolute path without links in it) the n-th fails as
 * FAULT="KIND N ERROR HOW" says, with ERROR (EIO, ENOSPC ...):
 *
 *     once   this call only; it is not carried out
 *     late   this call only; it is carried out all the same
 *     on     this and all later ones, until the program calls fault_lift()
 *     lie    this call only; it is not carried out, and returns success
 *
 * Without FAULT nothing fails. A process that ends by itself leaves in the file
 * FAULT_COUNT a line for each kind: its name, the calls, and how many of them
 * failed.
 *
 * With FAULT_BOOT_ID=FILE the kernel's boot id is what is in that file: as
 * after a power cut.
 *
 * The program finds fault_hits(), fault_lasts() and fault_lift() by dlsym().
 *
 * Not seen are stores to mapped memory, and what the C library calls by itself.
 * Threads: any. */
#define _GNU_SOURCE

#include "below.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum kind {
    WRITE,
    FDATASYNC,
    FSYNC,
    FTRUNCATE,
    FALLOCATE,
    RENAME,
    OPEN,
    UNLINK,
    MKDIR,
    SYNC_FILE_RANGE,
    READ,
    MMAP,
    MSYNC,
    KINDS
};

static const char *const kind_names[KINDS] = {
    "write",  "fdatasync", "fsync",  "ftruncate", "fallocate",
    "rename", "open",      "unlink", "mkdir",     "sync_file_range",
    "read",   "mmap",      "msync"};

enum how { NEVER, ONCE, LATE, ON, LIE };

static const char *const how_names[] = {"", "once", "late", "on", "lie"};

static const char *dir;
static enum kind fault_kind;
static enum how fault_how;
static long fault_call;
static int fault_error;
static atomic_bool lifted;
static atomic_long calls[KINDS];
static atomic_long hits;

long fault_hits(void);
bool fault_lasts(void);
void fault_lift(void);

static int word(const char *name, const char *const *names, int n)
{
    int i = 0;
    while (i < n && strcmp(names[i], name) != 0) {
        i++;
    }
    return i;
}

static bool understand(const char *text)
{
    static const struct {
        const char *name;
        int error;
    } errors[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}};
    char kind[16] = "";
    char error[8] = "";
    char how[8] = "";
    if (sscanf(text, "%15s %ld %7s %7s", kind, &fault_call, error, how) != 4) {
        return false;
    }
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (strcmp(errors[i].name, error) == 0) {
            fault_error = errors[i].error;
        }
    }
    fault_kind = (enum kind)word(kind, kind_names, KINDS);
    fault_how = (enum how)word(how, how_names, LIE + 1);
    return fault_kind < KINDS && fault_how > NEVER && fault_how <= LIE &&
           fault_error != 0 && fault_call > 0 && dir != NULL;
}

static void __attribute__((constructor)) begin(void)
{
    const char *text = getenv("FAULT");
    dir = getenv("FAULT_DIR");
    if (text != NULL && !understand(text)) {
        fprintf(stderr, "fault_at: not understood: %s\n", text);
        _exit(2);
    }
}

static void __attribute__((destructor)) end(void)
{
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file == NULL) {
        return;
    }
    for (int i = 0; i < KINDS; i++) {
        fprintf(file, "%s %ld %ld\n", kind_names[i], atomic_load(&calls[i]),
                i == (int)fault_kind ? atomic_load(&hits) : 0);
    }
    fclose(file);
}

long fault_hits(void)
{
    return atomic_load(&hits);
}

/* Every call of the kind fails now. */
bool fault_lasts(void)
{
    return fault_how == ON && fault_hits() > 0 && !atomic_load(&lifted);
}

void fault_lift(void)
{
    if (fault_hits() > 0) {
        atomic_store(&lifted, true);
    }
}

/* Counts a call, and says what is to become of it. */
static enum how turn(enum kind kind, bool counts)
{
    if (!counts) {
        return NEVER;
    }
    long call = atomic_fetch_add(&calls[kind], 1) + 1;
    if (fault_how == NEVER || kind != fault_kind || atomic_load(&lifted) ||
        (fault_how == ON ? call < fault_call : call != fault_call)) {
        return NEVER;
    }
    atomic_fetch_add(&hits, 1);
    return fault_how;
}

/* ---- The calls ---- */

/* good and bad: what is returned for a call that was not carried out. The error
 * is set as the very last thing. */
#define CALL(type, name, params, args, kind, counts, good, bad) \
    type name params                                            \
    {                                                           \
        __typeof__(&name) real = dlsym(RTLD_NEXT, #name);       \
        enum how how = turn(kind, counts);                      \
        if (how == NEVER) {                                     \
            return real args;                                   \
        }                                                       \
        if (how == LATE) {                                      \
            (void)!real args;                                   \
        } else if (how == LIE) {                                \
            return good;                                        \
        }                                                       \
        errno = fault_error;                                    \
        return bad;                                             \
    }
#define FD(type, name, params, args, kind, good) \
    CALL(type, name, params, args, kind, fd_below(dir, fd), good, -1)
#define PATH(name, params, args, kind, path) \
    CALL(int, name, params, args, kind, path_below(dir, path), 0, -1)

static size_t vector_bytes(const struct iovec *v, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += v[i].iov_len;
    }
    return bytes;
}

FD(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), WRITE,
   (ssize_t)n)
FD(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at),
   WRITE, (ssize_t)n)
FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), WRITE,
   (ssize_t)vector_bytes(v, n))
FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at),
   (fd, v, n, at), WRITE, (ssize_t)vector_bytes(v, n))
FD(int, fdatasync, (int fd), (fd), FDATASYNC, 0)
FD(int, fsync, (int fd), (fd), FSYNC, 0)
FD(int, ftruncate, (int fd, off_t n), (fd, n), FTRUNCATE, 0)
FD(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
   FALLOCATE, 0)
CALL(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), FALLOCATE,
     fd_below(dir, fd), 0, fault_error)
FD(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags),
   (fd, at, n, flags), SYNC_FILE_RANGE, 0)
FD(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), READ, 0)
FD(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), READ,
   0)

/* A read that the kernel fails tells of no end of the file, but one that was
 * carried out may have come to it. */
static size_t stream_fails(FILE *file)
{
    clearerr(file);
    return 0;
}

#undef fread_unlocked /* with optimization, glibc makes it a macro */
CALL(size_t, fread_unlocked, (void *p, size_t size, size_t n, FILE *file),
     (p, size, n, file), READ, fd_below(dir, fileno(file)), 0,
     stream_fails(file))
CALL(void *, mmap,
     (void *p, size_t n, int protection, int flags, int fd, off_t at),
     (p, n, protection, flags, fd, at), MMAP, fd >= 0 && fd_below(dir, fd),
     MAP_FAILED, MAP_FAILED)
CALL(int, msync, (void *p, size_t n, int flags), (p, n, flags), MSYNC,
     dir != NULL, 0, -1)

PATH(rename, (const char *from, const char *to), (from, to), RENAME, to)
PATH(unlink, (const char *path), (path), UNLINK, path)
PATH(mkdir, (const char *path, mode_t mode), (path, mode), MKDIR, path)
CALL(FILE *, fopen, (const char *path, const char *mode), (path, mode), OPEN,
     path_below(dir, path), NULL, NULL)

#define KERNEL_BOOT_ID "/proc/sys/kernel/random/boot_id"

static int real_open(const char *name, const char *path, int flags, mode_t mode)
{
    int (*real)(const char *path, int flags, ...) =
        (__typeof__(real))dlsym(RTLD_NEXT, name);
    return real(path, flags, mode);
}

/* A descriptor that nobody knows of would keep a lock. */
static int opened(const char *name, const char *path, int flags, mode_t mode)
{
    const char *boot_id = getenv("FAULT_BOOT_ID");
    if (boot_id != NULL && strcmp(path, KERNEL_BOOT_ID) == 0) {
        return real_open(name, boot_id, flags, mode);
    }
    enum how how = turn(OPEN, path_below(dir, path));
    int fd =
        how == NEVER || how == LATE ? real_open(name, path, flags, mode) : -1;
    if (how == NEVER) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    errno = fault_error;
    return -1;
}

#define OPENS(name)                                                      \
    int name(const char *path, int flags, ...)                           \
    {                                                                    \
        va_list list;                                                    \
        va_start(list, flags);                                           \
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0; \
        va_end(list);                                                    \
        return opened(#name, path, flags, mode);                         \
    }

OPENS(open)

/* The names that a program with 64-bit offsets may use. */
#ifdef __GLIBC__
FD(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at),
   (fd, p, n, at), WRITE, (ssize_t)n)
FD(ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at),
   READ, 0)
FD(int, ftruncate64, (int fd, off64_t n), (fd, n), FTRUNCATE, 0)
FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t n),
   (fd, mode, at, n), FALLOCATE, 0)
CALL(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n),
     FALLOCATE, fd_below(dir, fd), 0, fault_error)
OPENS(open64)
#endif
