/* failing_calls.h: the n-th call of the system by the library fails.
 *
 * A test that includes this is linked with FAILING_CALLS (Makefile.am): then
 * these calls of the library go through here, and those of RocksDB and of libc
 * do not. So do its allocations, as they go through the library's hook.
 *
 * The happy path is: fail_begin() counts from zero and says which call fails;
 * fail_end() tells whether there was such a call. Where there are too many, a
 * run between fail_record() and fail_recorded() finds the first from each place
 * in the code. Threads: one that is told to fail at a time, though others may
 * call; one while recording. */
#ifndef DASSIE_TEST_FAILING_CALLS_H_
#define DASSIE_TEST_FAILING_CALLS_H_

#include <dassie.h>

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAIL_DEPTH 5 /* frames that make a place */
#define FAIL_PLACES_MAX 1000

struct fail_place {
    void *frames[FAIL_DEPTH];
    unsigned call; /* the first from there */
};

static struct {
    _Atomic unsigned calls; /* so far */
    unsigned at;            /* this one fails, from 1 on; 0: none */
    int error;              /* with this errno */
    bool recording;
    struct fail_place places[FAIL_PLACES_MAX];
    unsigned places_n;
} fail;

static inline void fail_begin(unsigned at, int error)
{
    fail.at = 0;
    atomic_store(&fail.calls, 0);
    fail.error = error;
    fail.at = at;
}

/* Whether it came to that call. */
static inline bool fail_end(void)
{
    bool reached = atomic_load(&fail.calls) >= fail.at;
    fail.at = 0;
    return reached;
}

static inline void fail_record(void)
{
    fail.places_n = 0;
    atomic_store(&fail.calls, 0);
    fail.recording = true;
}

/* How many places there are. */
static inline unsigned fail_recorded(void)
{
    fail.recording = false;
    return fail.places_n;
}

static inline void fail_note(void)
{
    struct fail_place here = {.call = atomic_fetch_add(&fail.calls, 1) + 1};
    void *frames[FAIL_DEPTH + 2];
    int n = backtrace(frames, FAIL_DEPTH + 2);
    for (int i = 2; i < n; i++) {
        here.frames[i - 2] = frames[i];
    }
    for (unsigned i = 0; i < fail.places_n; i++) {
        if (memcmp(fail.places[i].frames, here.frames, sizeof here.frames) ==
            0) {
            return;
        }
    }
    ck_assert_uint_lt(fail.places_n, FAIL_PLACES_MAX);
    fail.places[fail.places_n++] = here;
}

static inline bool fail_now(void)
{
    if (fail.recording) {
        fail_note();
    }
    if (fail.at == 0 || atomic_fetch_add(&fail.calls, 1) + 1 != fail.at) {
        return false;
    }
    errno = fail.error;
    return true;
}

/* ---- Calls ---- */

/* What is called in its place: WRAP(result, name, parameters, arguments). */
#define WRAP(failed, type, name, parameters, arguments)         \
    type __real_##name parameters;                              \
    type __wrap_##name parameters;                              \
    type __wrap_##name parameters                               \
    {                                                           \
        return fail_now() ? (failed) : __real_##name arguments; \
    }

WRAP(-1, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
WRAP(-1, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
WRAP(-1, ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
WRAP(-1, ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at),
     (fd, p, n, at))
WRAP(-1, int, fsync, (int fd), (fd))
WRAP(-1, int, fdatasync, (int fd), (fd))
WRAP(-1, int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(-1, int, fstat, (int fd, struct stat *st), (fd, st))
WRAP(-1, int, stat, (const char *path, struct stat *st), (path, st))
WRAP(-1, int, lstat, (const char *path, struct stat *st), (path, st))
WRAP(-1, int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(-1, int, link, (const char *from, const char *to), (from, to))
WRAP(-1, int, rename, (const char *from, const char *to), (from, to))
WRAP(-1, int, renameat2,
     (int a, const char *from, int b, const char *to, unsigned how),
     (a, from, b, to, how))
WRAP(-1, int, flock, (int fd, int how), (fd, how))
WRAP(-1, int, sync_file_range, (int fd, off_t at, off_t n, unsigned how),
     (fd, at, n, how))
WRAP(NULL, DIR *, opendir, (const char *path), (path))
WRAP(-1, int, nftw, (const char *path, __nftw_func_t each, int fds, int how),
     (path, each, fds, how))
WRAP(UV_ENOMEM, int, uv_async_init,
     (uv_loop_t * loop, uv_async_t *async, uv_async_cb cb), (loop, async, cb))
WRAP(UV_ENOMEM, int, uv_cond_init, (uv_cond_t * cond), (cond))
WRAP(UV_EAGAIN, int, uv_thread_create,
     (uv_thread_t * thread, uv_thread_cb entry, void *arg),
     (thread, entry, arg))

int __real_open(const char *path, int how, ...);
int __wrap_open(const char *path, int how, ...);
int __wrap_open(const char *path, int how, ...)
{
    mode_t mode = 0;
    if ((how & O_CREAT) != 0) {
        va_list args;
        va_start(args, how);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return fail_now() ? -1 : __real_open(path, how, mode);
}

/* ---- Allocations ---- */

static inline void *fail_malloc(size_t n)
{
    return fail_now() ? NULL : malloc(n);
}

static inline void *fail_calloc(size_t n, size_t size)
{
    return fail_now() ? NULL : calloc(n, size);
}

static inline void *fail_realloc(void *p, size_t n)
{
    return fail_now() ? NULL : realloc(p, n);
}

static inline void fail_allocations(void)
{
    dassie_replace_allocator(fail_malloc, fail_realloc, fail_calloc, free);
}

#endif /* DASSIE_TEST_FAILING_CALLS_H_ */
