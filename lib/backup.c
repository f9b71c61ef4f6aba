/* backup.c: a copy of a store that is open; see survey.h.
 *
 * RocksDB links its tables and copies its log (a checkpoint): what is there is
 * what stood there after some commit. It leaves out a log with nothing in it;
 * that the MANIFEST goes on with one that is not there is what wal.c notices,
 * so there has to be one. The mark of what is durable is that of
 * the copy, asked of the copy itself, which is so opened once. There is no
 * flight recorder: what was under way may have run. FORMAT comes last, so an
 * interrupted copy is no store. Nobody else may look into it, as its mode may
 * be all that protects the original. */
#include "config.h"

#include "dir.h"
#include "kv_rocks.h"
#include "salvage_rows.h"
#include "survey.h"
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_mark(const char *path, uint64_t sequence)
{
    char hwm[PATH_MAX];
    uint8_t mark[8];
    put_be64(mark, sequence);
    if (snprintf(hwm, sizeof hwm, "%s/hwm", path) >= (int)sizeof hwm) {
        return UV_ENAMETOOLONG;
    }
    int fd = open(hwm, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return dassie__sys_code(errno);
    }
    errno = EIO;
    int rc = pwrite(fd, mark, sizeof mark, 0) == sizeof mark && fsync(fd) == 0
                 ? 0
                 : dassie__sys_code(errno);
    close(fd);
    return rc;
}

/* Makes the log that the newest tables go on with, if there is none. */
static int make_log(const char *db, struct errmsg *e)
{
    char path[PATH_MAX];
    struct manifest m = {0};
    int rc = dassie__manifest_read(db, &m, e);
    if (rc != 0) {
        return rc;
    }
    if (snprintf(path, sizeof path, "%s/%06" PRIu64 ".log", db,
                 dassie__manifest_newest_log(&m)) >= (int)sizeof path) {
        return UV_ENAMETOOLONG;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return dassie__sys_code(errno);
    }
    close(fd);
    return dassie__sync_dir(db) == 0 ? 0 : dassie__sys_code(errno);
}

/* Reads the copy, as its first owner would. */
static int read_sequence(const char *path, uint64_t *sequence, struct errmsg *e)
{
    struct kv_rocks_options options = {.dir = path,
                                       .memory_bytes = DASSIE_MEMORY_BYTES_MIN,
                                       .read_only = true};
    struct kv *copy;
    int rc = dassie__kv_rocks_open(&options, &copy, e);
    if (rc == 0) {
        *sequence = dassie__kv_rocks_sequence(copy);
        copy->ops->close(copy, false);
    }
    return rc;
}

/* What makes a store of the database. */
static int fill(const char *path, const char *db, struct errmsg *e)
{
    uint64_t sequence = 0;
    int rc = make_log(db, e);
    if (rc == 0) {
        rc = read_sequence(path, &sequence, e);
    }
    if (rc == 0) {
        rc = write_mark(path, sequence);
    }
    return rc == 0 ? dassie__dir_declare(path, e) : rc;
}

/* Until the database is there the directory need not be ours: RocksDB removes
 * what it has begun, and what else there is stays. Whoever removes the place
 * meanwhile is no damage to the store. */
static int copy(struct kv *kv, const char *path, const char *db,
                struct errmsg *e)
{
    int rc = kv->ops->checkpoint(kv, db, e);
    if (rc != 0 && rmdir(path) != 0 && errno == ENOENT) {
        return UV_ENOENT;
    }
    return rc;
}

int dassie__backup(struct kv *kv, const char *path, const atomic_int *stop)
{
    struct errmsg e;
    char db[PATH_MAX];
    if (kv->ops->checkpoint == NULL) {
        return UV_ENOTSUP;
    }
    if (snprintf(db, sizeof db, "%s/db", path) >= (int)sizeof db) {
        return UV_ENAMETOOLONG;
    }
    if (mkdir(path, 0700) != 0) {
        return dassie__sys_code(errno);
    }
    int rc = copy(kv, path, db, &e);
    if (rc != 0) {
        return rc;
    }
    rc = atomic_load(stop);
    if (rc == 0) {
        rc = fill(path, db, &e);
    }
    if (rc != 0) {
        dassie__remove_all(path);
    }
    return rc;
}
