/* dir.h: the directory of a store, its owner and its format.
 *
 *   DIR/lock      flock()ed by the owner, holds its pid
 *   DIR/FORMAT    "dassie 1": written once, read before anything else
 *   DIR/hwm       see kv_rocks.h
 *   DIR/inflight  see recorder.h
 *   DIR/admin     the socket of admin.h, if it listens
 *   DIR/db/       RocksDB
 *
 * The happy path is: FORMAT is read, the lock is taken, FORMAT is read again
 * (or made, in a directory that is new or empty).
 *
 * Possible failure modes are: in use by another handle or process (UV_EBUSY,
 * with the owner's pid); a newer format (UV_ENOTSUP) or something that is no
 * store (DASSIE_ENOSTORE), both left untouched to the byte; what the file
 * system says.
 *
 * On close: the lock is let go by closing its file. RocksDB's own lock is not
 * enough: a second open fails, but only after it has renamed the owner's log.
 *
 * A forked child closes the lock's descriptor at once, so that it cannot keep
 * the lock beyond its parent. Threads: any. */
#ifndef DASSIE_DIR_H_
#define DASSIE_DIR_H_

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"

#define FORMAT_MAJOR 1
#define DIR_SOCKET "admin"

struct dir {
    char path[PATH_MAX];
    int lock_fd;
    bool fresh; /* made by this open */
    struct dir *next;
};

int dassie__dir_open(struct dir *dir, const char *path, bool create,
                     struct errmsg *e);
/* One that is owned, after UV_EBUSY: without its lock. */
int dassie__dir_beside(struct dir *dir, struct errmsg *e);
void dassie__dir_close(struct dir *dir);

/* Makes the admin socket, for the owner alone, in place of one that another
 * owner has left, and listens. 0, or an error: UV_ENAMETOOLONG if its path is
 * longer than a socket's may be. */
int dassie__dir_listen(const struct dir *dir, int *fd);
void dassie__dir_unlisten(const struct dir *dir);

/* Makes a store of a directory that holds all of one but FORMAT, durably. */
int dassie__dir_declare(const char *path, struct errmsg *e);

/* Makes what was made or renamed in a directory durable: 0, or -1 with errno.
 */
int dassie__sync_dir(const char *path);

/* Makes what was created in the directory durable. */
int dassie__dir_sync(const struct dir *dir, struct errmsg *e);

/* Bytes of the files in it and in db. Any thread, while it is open. */
uint64_t dassie__dir_bytes(const struct dir *dir);

/* Begins to watch for forks; any number of times. */
void dassie__dir_forks_watch(void);

/* How often this process has forked into a child: 0 in the first. Whoever
 * remembers the value and finds another is in a child. */
unsigned dassie__dir_forks(void);

/* Whether this is a child of a process that has had a store open: RocksDB's
 * threads are not here, and it would wait for them for ever. */
bool dassie__dir_is_orphan(void);

#endif /* DASSIE_DIR_H_ */
