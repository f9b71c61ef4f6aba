#include "config.h"

#include "salvage_rows.h"

#include "alloc.h"
#include "dassie.h"
#include "kv_rocks.h"
#include "wal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Rows put between two commits. */
#define WINDOW_ROWS 1024

/* A damaged block holds fewer keys than this, gaps between them included. */
#define PROBES_MAX 16384

void dassie__salvage_tell(const struct salvage_rows *s, const char *format, ...)
{
    char line[ERRMSG_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->tell(s->arg, line);
}

/* ---- One family of a database that can be opened ---- */

struct copy {
    struct salvage_rows *s;
    struct kv *from;
    enum family family;
    uint8_t at[KEY_BYTES_MAX + 1]; /* the next key */
    size_t at_len;
    bool end;
};

static const uint8_t family_end[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff};

/* The next key of that length. */
static void copy_step(struct copy *c)
{
    size_t i = c->at_len;
    while (i > 0 && ++c->at[i - 1] == 0) {
        i--;
    }
    c->end = i == 0;
}

static struct kv_iter *copy_iter(struct copy *c)
{
    return c->from->ops->iter(c->from, NULL, c->family,
                              kv_slice(c->at, c->at_len),
                              kv_slice(family_end, sizeof family_end));
}

static int no_memory(const struct salvage_rows *s)
{
    return dassie__errmsg_set(s->e, UV_ENOMEM, "out of memory");
}

/* Copies up to so many rows. *damaged: the next one cannot be read, *why. */
static int copy_window(struct copy *c, bool *damaged, struct errmsg *why)
{
    const struct kv_ops *ops = c->from->ops;
    struct kv_iter *it = copy_iter(c);
    if (it == NULL) {
        return no_memory(c->s);
    }
    unsigned n = 0;
    while (n < WINDOW_ROWS && !c->end && ops->iter_valid(it)) {
        struct kv_slice key = ops->iter_key(it);
        if (key.len > 0 && key.len <= KEY_BYTES_MAX) {
            c->s->to->ops->put(c->s->to, c->family, key, ops->iter_value(it));
            memcpy(c->at, key.p, key.len);
            c->at_len = key.len;
            if (c->family == FAMILY_UNIQUE) { /* these differ in length */
                c->at[c->at_len++] = 0;
            } else {
                copy_step(c);
            }
            c->s->rows++;
        }
        ops->iter_next(it);
        n++;
    }
    bool more = ops->iter_valid(it);
    *damaged = ops->iter_close(it, why) != 0;
    c->end = c->end || (!more && !*damaged);
    return n > 0 ? c->s->to->ops->commit(c->s->to, false, c->s->e) : 0;
}

/* Looks for the first key behind the damage. 1: there is none near by. */
static int copy_pass(struct copy *c, const struct errmsg *why)
{
    struct errmsg ignored;
    uint64_t first = 0;
    uint64_t last = 0;
    dassie__key_parse_number(c->at, c->at_len, &first);
    for (unsigned n = 0; n < PROBES_MAX && !c->end; n++) {
        struct kv_iter *it = copy_iter(c);
        if (it == NULL) {
            return no_memory(c->s);
        }
        if (c->from->ops->iter_close(it, &ignored) == 0) {
            dassie__key_parse_number(c->at, c->at_len, &last);
            dassie__salvage_tell(c->s,
                                 "rows of %s from %" PRIu64 " to %" PRIu64
                                 " cannot be read, as far as there were any: "
                                 "%s",
                                 dassie__family_names[c->family], first,
                                 last - 1, why->text);
            return 0;
        }
        copy_step(c);
    }
    return 1;
}

/* 1: the damage goes on, and other ways may be better. */
static int copy_family(struct salvage_rows *s, struct kv *from,
                       enum family family)
{
    static const size_t lengths[FAMILIES] = {
        [FAMILY_META] = KEY_QUEUE_BYTES, [FAMILY_PENDING] = KEY_PENDING_BYTES};
    struct copy c = {.s = s, .from = from, .family = family};
    c.at_len = lengths[family] > 0 ? lengths[family] : KEY_NUMBER_BYTES;
    int rc = 0;
    while (rc == 0 && !c.end) {
        bool damaged = false;
        struct errmsg why;
        rc = copy_window(&c, &damaged, &why);
        if (rc == 0 && damaged) {
            rc = copy_pass(&c, &why);
        }
    }
    return rc;
}

static int copy_all(struct salvage_rows *s, struct kv *from)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < FAMILIES; i++) {
        rc = copy_family(s, from, (enum family)i);
    }
    return rc;
}

/* ---- Databases to read from ---- */

static int sys_error(const struct salvage_rows *s, const char *what)
{
    int rc = uv_translate_sys_error(errno);
    return dassie__errmsg_set(s->e, rc, "salvage: %s: %s", what,
                              dassie_strerror(rc));
}

static int path_make(const struct salvage_rows *s, char path[PATH_MAX],
                     const char *dir, const char *name)
{
    return snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX
               ? 0
               : dassie__errmsg_set(s->e, UV_ENAMETOOLONG, "salvage: %s", name);
}

/* Makes DIR/db, empty. */
static int source_make(const struct salvage_rows *s, const char *dir)
{
    char db[PATH_MAX];
    int rc = path_make(s, db, dir, "db");
    if (rc == 0 && (dassie__remove_all(dir) != 0 || mkdir(dir, 0755) != 0 ||
                    mkdir(db, 0755) != 0)) {
        rc = sys_error(s, "make a directory");
    }
    return rc;
}

/* A link will do: RocksDB never writes into a table or a MANIFEST that it did
 * not make itself. */
static int source_link(const struct salvage_rows *s, const char *dir,
                       const char *name)
{
    char from[PATH_MAX];
    char db[PATH_MAX];
    char to[PATH_MAX];
    int rc = path_make(s, from, s->db, name);
    if (rc == 0) {
        rc = path_make(s, db, dir, "db");
    }
    if (rc == 0) {
        rc = path_make(s, to, db, name);
    }
    return rc == 0 && link(from, to) != 0 ? sys_error(s, "link") : rc;
}

/* NULL: it cannot be opened. */
static struct kv *source_open(const struct salvage_rows *s, const char *dir)
{
    struct kv_rocks_options options = {
        .dir = dir, .memory_bytes = s->memory_bytes, .lax = true};
    struct errmsg ignored;
    struct kv *kv;
    return dassie__kv_rocks_open(&options, &kv, &ignored) == 0 ? kv : NULL;
}

/* ---- By the MANIFEST ---- */

/* Whether it knows of all: the log goes on where it ends. */
static bool manifest_is_whole(const struct salvage_rows *s, struct manifest *m,
                              const uint64_t *tables, size_t n)
{
    struct wal_check check = {.dir = s->db, .mark = s->mark};
    struct errmsg ignored;
    m->wants_tables = true;
    bool whole = dassie__manifest_read(s->db, m, &ignored) == 0 &&
                 dassie__wal_joins(&check);
    for (size_t i = 0; whole && i < m->tables_n; i++) {
        size_t at = 0;
        while (at < n && tables[at] != m->tables[i]) {
            at++;
        }
        if (at == n) {
            dassie__salvage_tell(s,
                                 "table %06" PRIu64
                                 ".sst is not there, as "
                                 "the MANIFEST says: it is lost, or the "
                                 "MANIFEST is an old one",
                                 m->tables[i]);
            whole = false;
        }
    }
    dassie__free(m->tables);
    return whole;
}

/* The tables and the MANIFEST, without the log. */
static int link_all(struct salvage_rows *s, const char *dir,
                    const uint64_t *tables, size_t n)
{
    char name[MANIFEST_NAME_BYTES];
    struct errmsg ignored;
    if (dassie__manifest_name(s->db, name, &ignored) != 0) {
        return 1;
    }
    int rc = source_link(s, dir, "CURRENT");
    if (rc == 0) {
        rc = source_link(s, dir, name);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        snprintf(name, sizeof name, "%06" PRIu64 ".sst", tables[i]);
        rc = source_link(s, dir, name);
    }
    return rc;
}

/* 1: that does not work. */
static int by_manifest(struct salvage_rows *s, const uint64_t *tables, size_t n)
{
    char dir[PATH_MAX];
    struct manifest m = {0};
    int rc = path_make(s, dir, s->work, "tables");
    if (rc == 0 && !manifest_is_whole(s, &m, tables, n)) {
        dassie__salvage_tell(s,
                             "the MANIFEST cannot be trusted: each table is "
                             "read by itself");
        return 1;
    }
    if (rc == 0) {
        rc = source_make(s, dir);
    }
    if (rc == 0) {
        rc = link_all(s, dir, tables, n);
    }
    if (rc != 0) {
        return rc;
    }
    struct kv *from = source_open(s, dir);
    if (from == NULL) {
        dassie__salvage_tell(s,
                             "not all tables can be opened: each is read by "
                             "itself");
        return 1;
    }
    rc = copy_all(s, from);
    from->ops->close(from, false);
    if (rc == 0) {
        s->logged = m.sequence;
        s->newest = dassie__manifest_newest_log(&m);
    }
    if (rc == 1) {
        dassie__salvage_tell(s,
                             "a table cannot be read: each is read by itself");
    }
    return rc;
}

/* ---- Table by table ---- */

struct table {
    uint64_t number;
    uint64_t sequence; /* of its last operation; 0 in the lowest level */
    bool good;
};

static int table_cmp(const void *a, const void *b)
{
    const struct table *x = a;
    const struct table *y = b;
    if (x->sequence != y->sequence) {
        return x->sequence < y->sequence ? -1 : 1;
    }
    return x->number < y->number ? -1 : x->number > y->number;
}

static int table_dir(const struct salvage_rows *s, uint64_t number,
                     char dir[PATH_MAX])
{
    char name[32];
    snprintf(name, sizeof name, "table-%" PRIu64, number);
    return path_make(s, dir, s->work, name);
}

/* What a repair cannot use, it moves away. */
static bool source_has(const struct salvage_rows *s, const char *dir,
                       const char *name)
{
    char db[PATH_MAX];
    char path[PATH_MAX];
    return path_make(s, db, dir, "db") == 0 &&
           path_make(s, path, db, name) == 0 && access(path, F_OK) == 0;
}

/* Makes a database of one table. */
static int table_take(struct salvage_rows *s, struct table *table)
{
    char dir[PATH_MAX];
    char name[32];
    struct errmsg why = {"it holds nothing that can be read"};
    snprintf(name, sizeof name, "%06" PRIu64 ".sst", table->number);
    int rc = table_dir(s, table->number, dir);
    if (rc == 0) {
        rc = source_make(s, dir);
    }
    if (rc == 0) {
        rc = source_link(s, dir, name);
    }
    if (rc == 0 && dassie__kv_rocks_repair(dir, &why) == 0) {
        struct kv *kv = source_open(s, dir);
        if (kv != NULL) {
            table->good = source_has(s, dir, name);
            table->sequence = dassie__kv_rocks_sequence(kv);
            kv->ops->close(kv, false);
        }
    }
    if (rc == 0 && !table->good) {
        dassie__salvage_tell(s, "table %s is lost: %s", name, why.text);
    }
    return rc;
}

static int table_copy(struct salvage_rows *s, const struct table *table)
{
    char dir[PATH_MAX];
    int rc = table_dir(s, table->number, dir);
    struct kv *from = rc == 0 ? source_open(s, dir) : NULL;
    if (from == NULL) {
        return rc;
    }
    rc = copy_all(s, from);
    from->ops->close(from, false);
    return rc < 0 ? rc : 0;
}

/* The older ones first, so that what they hold is overwritten. What a younger
 * one deletes of them stays: rows, which is for the rebuilding, and whole jobs,
 * which nothing tells from others. */
static int one_by_one(struct salvage_rows *s, const uint64_t *numbers, size_t n)
{
    int rc = 0;
    struct table *tables = dassie__calloc(n + 1, sizeof *tables);
    if (tables == NULL) {
        return no_memory(s);
    }
    dassie__salvage_tell(s,
                         "jobs that were deleted may be there again, and run "
                         "again: what one table deletes of another is not "
                         "known");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        tables[i].number = numbers[i];
        rc = table_take(s, &tables[i]);
    }
    if (rc == 0 && n > 0) {
        qsort(tables, n, sizeof tables[0], table_cmp);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (tables[i].good) {
            rc = table_copy(s, &tables[i]);
        }
    }
    dassie__free(tables);
    return rc;
}

int dassie__salvage_rows(struct salvage_rows *s)
{
    uint64_t *tables;
    size_t n;
    s->rows = 0;
    int rc = dassie__files_numbered(s->db, ".sst", &tables, &n, s->e);
    if (rc == 0) {
        rc = by_manifest(s, tables, n);
        rc = rc == 1 ? one_by_one(s, tables, n) : rc;
    }
    dassie__free(tables);
    return rc == 0 ? dassie__salvage_log(s) : rc;
}
