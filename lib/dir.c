#include "config.h"

#include "dir.h"

#include "alloc.h"
#include "dassie.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FORMAT_NAME "FORMAT"
#define FORMAT_NEW "FORMAT.new"
#define LOCK_NAME "lock"

/* ---- Forks ---- */

/* Held while a lock file is opened and its directory enters the list, and
 * across a fork: a child finds every descriptor of a lock in the list. */
static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct dir *open_dirs;
static unsigned forks;
static bool used;   /* this process has had a store, */
static bool orphan; /* or one whose child it is */

static void fork_prepare(void)
{
    pthread_mutex_lock(&open_mutex);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&open_mutex);
}

static void fork_child(void)
{
    forks++;
    orphan = orphan || used;
    for (struct dir *dir = open_dirs; dir != NULL; dir = dir->next) {
        close(dir->lock_fd);
        dir->lock_fd = -1;
    }
    open_dirs = NULL;
    pthread_mutex_unlock(&open_mutex);
}

static void fork_setup(void)
{
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void dassie__dir_forks_watch(void)
{
    pthread_once(&fork_once, fork_setup);
}

unsigned dassie__dir_forks(void)
{
    return forks;
}

bool dassie__dir_is_orphan(void)
{
    return orphan;
}

static void remember_use(void)
{
    pthread_mutex_lock(&open_mutex);
    used = true;
    pthread_mutex_unlock(&open_mutex);
}

/* Opens the lock's file; a child that is forked from now on closes it. */
static int lock_open(struct dir *dir, const char *path)
{
    pthread_mutex_lock(&open_mutex);
    dir->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int rc = dir->lock_fd >= 0 ? 0 : -1;
    if (rc == 0) {
        dir->next = open_dirs;
        open_dirs = dir;
    }
    pthread_mutex_unlock(&open_mutex);
    return rc;
}

/* Lets go of the lock; a dir that is not in the list has none (in a child it
 * is closed). */
static void lock_close(struct dir *dir)
{
    pthread_mutex_lock(&open_mutex);
    for (struct dir **at = &open_dirs; *at != NULL; at = &(*at)->next) {
        if (*at == dir) {
            *at = dir->next;
            close(dir->lock_fd);
            break;
        }
    }
    pthread_mutex_unlock(&open_mutex);
    dir->lock_fd = -1;
}

/* ---- Format ---- */

static int sys_error(struct errmsg *e, const char *what)
{
    int rc = dassie__sys_code(errno);
    return dassie__errmsg_set(e, rc, "%s: %s", what, dassie_strerror(rc));
}

static int path_of(const struct dir *dir, const char *name, char *path,
                   struct errmsg *e)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir->path, name);
    return n < PATH_MAX ? 0
                        : dassie__errmsg_set(e, UV_ENAMETOOLONG, "%s", name);
}

/* Only what an interrupted creation leaves behind may stand in a directory
 * without FORMAT. */
static int check_empty(const struct dir *dir, struct errmsg *e)
{
    static const char *const ours[] = {".", "..", LOCK_NAME, FORMAT_NEW};
    int rc = 0;
    DIR *d = opendir(dir->path);
    if (d == NULL) {
        return sys_error(e, "opendir");
    }
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(d)) != NULL) {
        rc = DASSIE_ENOSTORE;
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
            if (strcmp(entry->d_name, ours[i]) == 0) {
                rc = 0;
            }
        }
        if (rc != 0) {
            dassie__errmsg_set(e, rc, "not a Dassie store: no FORMAT, but %s",
                               entry->d_name);
        }
    }
    closedir(d);
    return rc;
}

/* 0: it is ours; UV_ENOENT: there is none, and nothing else either. */
static int format_check(const struct dir *dir, struct errmsg *e)
{
    char path[PATH_MAX];
    char text[64] = "";
    unsigned major;
    int rc = path_of(dir, FORMAT_NAME, path, e);
    if (rc != 0) {
        return rc;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        rc = check_empty(dir, e);
        return rc == 0 ? UV_ENOENT : rc;
    }
    if (fd < 0) {
        return sys_error(e, "open FORMAT");
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0) {
        return sys_error(e, "read FORMAT");
    }
    if (sscanf(text, "dassie %u", &major) != 1 ||
        text[n > 0 ? n - 1 : 0] != '\n') {
        return dassie__errmsg_set(e, DASSIE_ENOSTORE, "FORMAT is not Dassie's");
    }
    if (major != FORMAT_MAJOR) {
        return dassie__errmsg_set(e, UV_ENOTSUP,
                                  "format %u, but this version reads format %d",
                                  major, FORMAT_MAJOR);
    }
    return 0;
}

int dassie__sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static int format_write(struct dir *dir, struct errmsg *e)
{
    char path[PATH_MAX];
    char new_path[PATH_MAX];
    char text[32];
    int rc = path_of(dir, FORMAT_NAME, path, e);
    if (rc == 0) {
        rc = path_of(dir, FORMAT_NEW, new_path, e);
    }
    if (rc != 0) {
        return rc;
    }
    int n = snprintf(text, sizeof text, "dassie %d\n", FORMAT_MAJOR);
    int fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return sys_error(e, "create FORMAT");
    }
    bool written = write(fd, text, (size_t)n) == n && fsync(fd) == 0;
    if (!written) {
        rc = sys_error(e, "write FORMAT");
    }
    close(fd);
    if (rc == 0 &&
        (rename(new_path, path) != 0 || dassie__sync_dir(dir->path) != 0)) {
        rc = sys_error(e, "rename FORMAT");
    }
    dir->fresh = rc == 0;
    return rc;
}

static int sync_parent(const struct dir *dir, struct errmsg *e)
{
    char parent[PATH_MAX];
    int rc = path_of(dir, "..", parent, e);
    return rc == 0 && dassie__sync_dir(parent) != 0
               ? sys_error(e, "sync the parent")
               : rc;
}

int dassie__dir_declare(const char *path, struct errmsg *e)
{
    struct dir dir;
    int n = snprintf(dir.path, sizeof dir.path, "%s", path);
    if (n >= (int)sizeof dir.path) {
        return dassie__errmsg_set(e, UV_ENAMETOOLONG, "the path is too long");
    }
    int rc = format_write(&dir, e);
    return rc == 0 ? sync_parent(&dir, e) : rc;
}

/* ---- Lock ---- */

static int lock_take(struct dir *dir, struct errmsg *e)
{
    char path[PATH_MAX];
    char pid[32] = "";
    int rc = path_of(dir, LOCK_NAME, path, e);
    if (rc != 0) {
        return rc;
    }
    if (lock_open(dir, path) != 0) {
        return sys_error(e, "open lock");
    }
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(dir->lock_fd, 0) != 0 ||
            pwrite(dir->lock_fd, pid, (size_t)n, 0) != n) {
            return sys_error(e, "write lock");
        }
        return 0;
    }
    if (errno != EWOULDBLOCK) {
        return sys_error(e, "lock");
    }
    ssize_t n = pread(dir->lock_fd, pid, sizeof pid - 1, 0);
    long owner = n > 0 ? strtol(pid, NULL, 10) : 0;
    return dassie__errmsg_set(e, UV_EBUSY, "lock: held by pid %ld", owner);
}

static int dir_make(const struct dir *dir, bool create, struct errmsg *e)
{
    struct stat st;
    if (stat(dir->path, &st) == 0) {
        return S_ISDIR(st.st_mode)
                   ? 0
                   : dassie__errmsg_set(e, UV_ENOTDIR, "not a directory");
    }
    if (errno != ENOENT || !create) {
        return sys_error(e, "stat");
    }
    if (mkdir(dir->path, 0755) != 0 && errno != EEXIST) {
        return sys_error(e, "mkdir");
    }
    return sync_parent(dir, e);
}

static int dir_take(struct dir *dir, bool create, struct errmsg *e)
{
    int rc = dir_make(dir, create, e);
    if (rc == 0) {
        rc = format_check(dir, e);
    }
    if (rc == UV_ENOENT && !create) {
        return dassie__errmsg_set(e, rc, "no store here");
    }
    if (rc != 0 && rc != UV_ENOENT) {
        return rc;
    }
    rc = lock_take(dir, e);
    if (rc == 0) {
        rc = format_check(dir, e); /* another may have made it meanwhile */
    }
    if (rc == UV_ENOENT && create) {
        rc = format_write(dir, e);
    }
    return rc;
}

int dassie__dir_open(struct dir *dir, const char *path, bool create,
                     struct errmsg *e)
{
    dir->lock_fd = -1;
    dir->fresh = false;
    dassie__dir_forks_watch();
    int n = snprintf(dir->path, sizeof dir->path, "%s", path);
    if (n >= (int)sizeof dir->path) {
        return dassie__errmsg_set(e, UV_ENAMETOOLONG, "the path is too long");
    }
    int rc = dir_take(dir, create, e);
    if (rc == 0) {
        remember_use();
    } else {
        lock_close(dir);
    }
    return rc;
}

int dassie__dir_beside(struct dir *dir, struct errmsg *e)
{
    int rc = format_check(dir, e);
    if (rc == 0) {
        remember_use();
    }
    return rc;
}

int dassie__dir_sync(const struct dir *dir, struct errmsg *e)
{
    return dassie__sync_dir(dir->path) == 0 ? 0 : sys_error(e, "sync");
}

/* A file that goes meanwhile does not count. */
static uint64_t files_bytes(const char *path)
{
    uint64_t bytes = 0;
    struct dirent *entry;
    DIR *d = opendir(path);
    while (d != NULL && (entry = readdir(d)) != NULL) {
        struct stat st;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode)) {
            bytes += (uint64_t)st.st_size;
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    return bytes;
}

uint64_t dassie__dir_bytes(const struct dir *dir)
{
    char db[PATH_MAX + 8];
    snprintf(db, sizeof db, "%s/db", dir->path);
    return files_bytes(dir->path) + files_bytes(db);
}

void dassie__dir_close(struct dir *dir)
{
    lock_close(dir);
}

/* ---- The admin socket ---- */

#define BACKLOG 16

static int socket_path(const struct dir *dir, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s",
                     dir->path, DIR_SOCKET);
    return n < (int)sizeof address->sun_path ? 0 : UV_ENAMETOOLONG;
}

/* The mode is the socket's before it has a name. */
static int socket_bind(int fd, const struct sockaddr_un *address)
{
    return fchmod(fd, 0600) == 0 &&
                   bind(fd, (const struct sockaddr *)address,
                        sizeof *address) == 0 &&
                   listen(fd, BACKLOG) == 0
               ? 0
               : dassie__sys_code(errno);
}

int dassie__dir_listen(const struct dir *dir, int *fd)
{
    struct sockaddr_un address;
    int rc = socket_path(dir, &address);
    if (rc != 0) {
        return rc;
    }
    if (unlink(address.sun_path) != 0 && errno != ENOENT) {
        return dassie__sys_code(errno);
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0) {
        return dassie__sys_code(errno);
    }
    rc = socket_bind(*fd, &address);
    if (rc != 0) {
        close(*fd);
    }
    return rc;
}

void dassie__dir_unlisten(const struct dir *dir)
{
    struct sockaddr_un address;
    if (socket_path(dir, &address) == 0) {
        unlink(address.sun_path);
    }
}
