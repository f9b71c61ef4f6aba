#define _GNU_SOURCE /* renameat2 */
#include "config.h"

#include "salvage.h"

#include "dassie.h"
#include "kv_rocks.h"
#include "rebuild.h"
#include "salvage_rows.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAMAGED_MAX 1000000

/* A mark beyond this many operations is damaged itself. */
#define MARK_MAX (UINT64_C(1) << 40)

/* Names of the store's directory that have to do with it. */
struct salvage {
    const struct salvage_options *o;
    char db[PATH_MAX];       /* DIR/db */
    char hwm[PATH_MAX];      /* DIR/hwm */
    char work[PATH_MAX];     /* DIR/salvage, */
    char work_db[PATH_MAX];  /* and the new database in it; then the old one, */
    char work_hwm[PATH_MAX]; /* and its mark, */
    char kept_hwm[PATH_MAX]; /* and that of the damaged one, beside its files */
    struct errmsg *e;
};

static int sys_error(struct salvage *s, const char *what)
{
    int rc = uv_translate_sys_error(errno);
    return dassie__errmsg_set(s->e, rc, "salvage: %s: %s", what,
                              dassie_strerror(rc));
}

static void tell(const struct salvage *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void tell(const struct salvage *s, const char *format, ...)
{
    char line[ERRMSG_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->o->tell(s->o->arg, line);
}

static int paths_make(struct salvage *s)
{
    const struct {
        char *path;
        const char *name;
    } paths[] = {{s->db, "db"},
                 {s->hwm, "hwm"},
                 {s->work, "salvage"},
                 {s->work_db, "salvage/db"},
                 {s->work_hwm, "salvage/hwm"},
                 {s->kept_hwm, "salvage/db/hwm"}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (snprintf(paths[i].path, PATH_MAX, "%s/%s", s->o->dir,
                     paths[i].name) >= PATH_MAX) {
            return dassie__errmsg_set(s->e, UV_ENAMETOOLONG, "salvage: %s",
                                      paths[i].name);
        }
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int dassie__remove_all(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        return errno == ENOENT ? 0 : -1;
    }
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int rc = fsync(fd);
    close(fd);
    return rc;
}

/* ---- Is it needed? ---- */

struct problems {
    char first[ERRMSG_BYTES];
};

static void on_problem(void *arg, uint64_t id, const char *line)
{
    struct problems *p = arg;
    (void)id;
    if (p->first[0] == '\0') {
        snprintf(p->first, sizeof p->first, "%s", line);
    }
}

/* DASSIE_ECORRUPT: the store in dir is damaged, as *e tells. */
static int is_sound(struct salvage *s, const char *dir, bool gaps)
{
    struct kv_rocks_options options = {.dir = dir,
                                       .memory_bytes = s->o->memory_bytes,
                                       .read_only = true,
                                       .gaps = gaps};
    struct problems problems = {""};
    dassie_verify_report_t report;
    struct kv *kv;
    int rc = dassie__kv_rocks_open(&options, &kv, s->e);
    if (rc != 0) {
        return rc;
    }
    rc = dassie__verify_kv(kv, on_problem, &problems, &report, s->e);
    kv->ops->close(kv, false);
    if (rc == 0 && report.problems > 0 && !gaps) {
        rc = dassie__errmsg_set(s->e, DASSIE_ECORRUPT,
                                "%" PRIu64 " problems, the first: %s",
                                report.problems, problems.first);
    }
    return rc;
}

/* ---- The new database ---- */

static void tell_rebuilt(const struct salvage *s,
                         const struct rebuild_report *r, uint64_t rows)
{
    char ids[160] = "";
    size_t len = 0;
    tell(s,
         "%" PRIu64 " rows were read; %" PRIu64 " jobs are saved, %" PRIu64
         " of them were or may have been under way",
         rows, r->jobs, r->again);
    if (r->named > 0) {
        tell(s, "the names of %" PRIu32 " queues are lost: they got new ones",
             r->named);
    }
    for (uint64_t i = 0; i < r->dropped && i < REBUILD_IDS; i++) {
        int n = snprintf(ids + len, sizeof ids - len, " %" PRIu64,
                         r->dropped_id[i]);
        len += n > 0 && (size_t)n < sizeof ids - len ? (size_t)n : 0;
    }
    if (r->dropped > 0) {
        tell(s,
             "%" PRIu64
             " jobs are lost of which other rows are left, the first "
             "are%s",
             r->dropped, ids);
    }
}

static uint64_t mark_read(const struct salvage *s)
{
    uint8_t bytes[8] = {0};
    int fd = open(s->hwm, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, bytes, sizeof bytes, 0);
    if (fd >= 0) {
        close(fd);
    }
    uint64_t mark = n == (ssize_t)sizeof bytes ? get_be64(bytes) : 0;
    return mark <= MARK_MAX ? mark : 0;
}

/* Each number that was ever given went with an operation, so the mark is more
 * than any number that nothing tells of any more. */
static int fill(struct salvage *s, struct kv *kv)
{
    struct rebuild_report report;
    struct salvage_rows rows = {.db = s->db,
                                .work = s->work,
                                .memory_bytes = s->o->memory_bytes,
                                .mark = mark_read(s),
                                .to = kv,
                                .tell = s->o->tell,
                                .arg = s->o->arg,
                                .e = s->e};
    int rc = dassie__salvage_rows(&rows);
    if (rc == 0) {
        rc = dassie__rebuild(kv, s->o->wall_ms, rows.mark, &report, s->e);
    }
    if (rc == 0) {
        tell_rebuilt(s, &report, rows.rows);
    }
    return rc;
}

static int make_new(struct salvage *s)
{
    struct kv_rocks_options options = {
        .dir = s->work, .memory_bytes = s->o->memory_bytes, .create = true};
    struct kv *kv;
    if (mkdir(s->work, 0755) != 0) {
        return sys_error(s, "make a directory");
    }
    int rc = dassie__kv_rocks_open(&options, &kv, s->e);
    if (rc != 0) {
        return rc;
    }
    rc = fill(s, kv);
    bool durable = kv->ops->close(kv, rc == 0);
    if (rc == 0 && !durable) {
        rc = dassie__errmsg_set(s->e, UV_EIO, "salvage: sync the new database");
    }
    return rc == 0 ? is_sound(s, s->work, false) : rc;
}

/* ---- Into its place ---- */

/* Gives the damaged database, which is in DIR/salvage now, its name. */
static int keep_damaged(struct salvage *s)
{
    char path[PATH_MAX];
    for (int n = 1; n < DAMAGED_MAX; n++) {
        if (snprintf(path, sizeof path, "%s.damaged-%d", s->db, n) >=
            PATH_MAX) {
            break;
        }
        if (renameat2(AT_FDCWD, s->work_db, AT_FDCWD, path, RENAME_NOREPLACE) ==
            0) {
            tell(s, "the damaged database is kept: db.damaged-%d", n);
            return 0;
        }
        if (errno != EEXIST) {
            return sys_error(s, "keep the damaged database");
        }
    }
    return dassie__errmsg_set(s->e, UV_ENAMETOOLONG, "salvage: db.damaged");
}

static int hwm_keep(struct salvage *s)
{
    char path[PATH_MAX];
    uint8_t bytes[8];
    if (snprintf(path, sizeof path, "%s/hwm", s->db) >= PATH_MAX) {
        return dassie__errmsg_set(s->e, UV_ENAMETOOLONG, "salvage: db/hwm");
    }
    put_be64(bytes, mark_read(s));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return sys_error(s, "keep hwm");
    }
    bool good = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes &&
                fsync(fd) == 0;
    close(fd);
    return good ? 0 : sys_error(s, "keep hwm");
}

/* Between two of these steps the store is refused, as the mark is not that of
 * the new database, and a salvage goes on from there. */
static int put_in_place(struct salvage *s)
{
    int rc = hwm_keep(s);
    if (rc != 0) {
        return rc;
    }
    if (sync_path(s->work_hwm) != 0 || sync_path(s->work_db) != 0 ||
        renameat2(AT_FDCWD, s->work_db, AT_FDCWD, s->db, RENAME_EXCHANGE) !=
            0) {
        return sys_error(s, "put the new database in place");
    }
    if (rename(s->work_hwm, s->hwm) != 0) {
        return sys_error(s, "put hwm in place");
    }
    rc = keep_damaged(s);
    if (rc == 0 &&
        (dassie__remove_all(s->work) != 0 || sync_path(s->o->dir) != 0)) {
        rc = sys_error(s, "clean up");
    }
    return rc;
}

/* What an earlier salvage left: a damaged database has its mark with it. */
static int clean_up(struct salvage *s)
{
    if (access(s->kept_hwm, F_OK) == 0) {
        int rc = keep_damaged(s);
        if (rc != 0) {
            return rc;
        }
    }
    return dassie__remove_all(s->work) == 0 ? 0 : sys_error(s, "clean up");
}

int dassie__salvage(const struct salvage_options *options, struct errmsg *e)
{
    struct salvage s = {.o = options, .e = e};
    int rc = paths_make(&s);
    if (rc == 0) {
        rc = clean_up(&s);
    }
    if (rc == 0) {
        rc = is_sound(&s, options->dir, options->gaps);
    }
    if (rc != DASSIE_ECORRUPT && rc != UV_EIO) {
        return rc;
    }
    tell(&s, "%s", e->text);
    rc = make_new(&s);
    return rc == 0 ? put_in_place(&s) : rc;
}
