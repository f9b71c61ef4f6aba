#include "config.h"

#include "wal.h"

#include "alloc.h"
#include "dassie.h"
#include "logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A batch begins with its sequence number and the number of its operations,
 * each of which takes one; little-endian. */
#define BATCH_HEADER_BYTES 12

/* A record's part: a sum, its length, its type; see logfile.h. */
#define PART_HEADER_BYTES 7

/* What a disk writes at once; and one write to the MANIFEST is no larger. */
#define SECTOR_BYTES 512
#define HOLE_BYTES_MAX 65536

/* ---- The MANIFEST ---- */

/* Its records are edits, made of fields with a tag; these are all that RocksDB
 * 7.8 writes. What it may pass over has a bit of its own. */
enum tag {
    TAG_COMPARATOR = 1,
    TAG_LOG_NUMBER = 2,
    TAG_NEXT_FILE = 3,
    TAG_SEQUENCE = 4,
    TAG_COMPACT_POINTER = 5,
    TAG_DELETED_FILE = 6,
    TAG_PREVIOUS_LOG = 9,
    TAG_LEAST_LOG = 10,
    TAG_FILE = 103,
    TAG_FAMILY = 200,
    TAG_FAMILY_ADD = 201,
    TAG_FAMILY_DROP = 202,
    TAG_FAMILY_MAX = 203,
    TAG_GROUP = 300,
    TAG_MAY_PASS = 1 << 13
};

struct edit {
    const uint8_t *p;
    const uint8_t *end;
    bool good;
    uint64_t sequence;  /* 0: it has none */
    uint64_t least_log; /* the same, */
    uint64_t log;       /* and of its family */
    uint64_t family;    /* 0: the default one, */
    bool adds;          /* which it adds, */
    bool drops;         /* or drops */
    uint64_t to_come;   /* edits that have to follow for this to count */
    struct manifest *m;
};

/* To forget one that is not known does no harm. */
static void table_forget(struct manifest *m, uint64_t number)
{
    for (size_t i = 0; i < m->tables_n; i++) {
        if (m->tables[i] == number) {
            m->tables[i] = m->tables[--m->tables_n];
            return;
        }
    }
}

static void table_note(struct manifest *m, uint64_t number)
{
    if (!m->wants_tables) {
        return;
    }
    if (m->tables_n == m->tables_room) {
        size_t room = 2 * m->tables_room + 64;
        uint64_t *more = dassie__realloc(m->tables, room * sizeof *more);
        if (more == NULL) {
            m->no_memory = true;
            return;
        }
        m->tables = more;
        m->tables_room = room;
    }
    m->tables[m->tables_n++] = number;
}

static uint64_t edit_number(struct edit *d)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && d->p < d->end; shift += 7) {
        uint8_t byte = *d->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return v;
        }
    }
    d->good = false;
    return 0;
}

static void edit_skip(struct edit *d)
{
    uint64_t len = edit_number(d);
    if (len > (uint64_t)(d->end - d->p)) {
        d->good = false;
    } else {
        d->p += len;
    }
}

/* Level, number, size, two keys, two sequence numbers, and fields up to 1. */
static void edit_skip_file(struct edit *d)
{
    edit_number(d);
    table_note(d->m, edit_number(d));
    edit_number(d);
    edit_skip(d);
    edit_skip(d);
    edit_number(d);
    edit_number(d);
    while (d->good && edit_number(d) != 1) {
        edit_skip(d);
    }
}

static void edit_field(struct edit *d)
{
    uint64_t tag = edit_number(d);
    switch (tag) {
        case TAG_SEQUENCE:
            d->sequence = edit_number(d);
            break;
        case TAG_GROUP:
            d->to_come = edit_number(d);
            break;
        case TAG_LEAST_LOG:
            d->least_log = edit_number(d);
            break;
        case TAG_LOG_NUMBER:
            d->log = edit_number(d);
            break;
        case TAG_FAMILY:
            d->family = edit_number(d);
            break;
        case TAG_NEXT_FILE:
        case TAG_PREVIOUS_LOG:
        case TAG_FAMILY_MAX:
            edit_number(d);
            break;
        case TAG_FAMILY_ADD:
            d->adds = true;
            edit_skip(d);
            break;
        case TAG_COMPARATOR:
            edit_skip(d);
            break;
        case TAG_COMPACT_POINTER:
            edit_number(d);
            edit_skip(d);
            break;
        case TAG_DELETED_FILE:
            edit_number(d);
            table_forget(d->m, edit_number(d));
            break;
        case TAG_FILE:
            edit_skip_file(d);
            break;
        case TAG_FAMILY_DROP:
            d->drops = true;
            break;
        default:
            if ((tag & TAG_MAY_PASS) != 0) {
                edit_skip(d);
            } else {
                d->good = false;
            }
            break;
    }
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void family_note(const struct edit *d)
{
    if (d->family < MANIFEST_FAMILIES_MAX) {
        struct manifest *m = d->m;
        uint64_t *log = &m->family[d->family].log_in_group;
        m->family[d->family].is =
            (m->family[d->family].is || d->adds || d->family == 0) && !d->drops;
        *log = max64(*log, d->log);
    }
}

static void group_end(struct manifest *m)
{
    m->sequence = max64(m->sequence, m->in_group);
    m->least_log = max64(m->least_log, m->least_in_group);
    m->in_group = m->least_in_group = 0;
    for (int i = 0; i < MANIFEST_FAMILIES_MAX; i++) {
        uint64_t *log = &m->family[i].log_in_group;
        m->family[i].log = max64(m->family[i].log, *log);
        *log = 0;
    }
}

/* A group that is cut short does not count, for RocksDB neither. */
static int edit_seen(void *arg, const uint8_t *p, size_t n, long at)
{
    struct manifest *m = arg;
    struct edit d = {.p = p, .end = p + n, .good = true, .m = m};
    (void)at;
    while (d.good && d.p < d.end) {
        edit_field(&d);
    }
    m->in_group = max64(m->in_group, d.sequence);
    m->least_in_group = max64(m->least_in_group, d.least_log);
    family_note(&d);
    if (d.to_come == 0) {
        group_end(m);
    }
    return 0;
}

/* It is followed by a newline. */
int dassie__manifest_name(const char *dir, char name[MANIFEST_NAME_BYTES],
                          struct errmsg *e)
{
    char path[PATH_MAX];
    int n = snprintf(path, PATH_MAX, "%s/CURRENT", dir);
    int fd = n < PATH_MAX ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t len = fd < 0 ? -1 : read(fd, name, MANIFEST_NAME_BYTES - 1);
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (len < 0 && error != ENOENT) {
        int rc = dassie__sys_code(error);
        return dassie__errmsg_set(e, rc, "read CURRENT: %s",
                                  dassie_strerror(rc));
    }
    name[len > 0 ? len - 1 : 0] = '\0';
    if (len < 1 || strncmp(name, "MANIFEST-", strlen("MANIFEST-")) != 0) {
        return dassie__errmsg_set(
            e, DASSIE_ECORRUPT,
            len < 0 ? "CURRENT is not there" : "CURRENT names no MANIFEST");
    }
    return 0;
}

/* Its path, and its number. */
static int manifest_path(const char *dir, char path[PATH_MAX], uint64_t *number,
                         struct errmsg *e)
{
    char name[MANIFEST_NAME_BYTES];
    int rc = dassie__manifest_name(dir, name, e);
    *number = rc == 0 ? strtoull(name + strlen("MANIFEST-"), NULL, 10) : 0;
    if (rc == 0 && snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) {
        rc = dassie__errmsg_set(e, UV_ENAMETOOLONG, "%s", name);
    }
    return rc;
}

int dassie__manifest_read(const char *dir, struct manifest *m, struct errmsg *e)
{
    char path[PATH_MAX];
    struct logfile f = {
        .path = path, .keep = SIZE_MAX, .record = edit_seen, .arg = m};
    int rc = manifest_path(dir, path, &m->number, e);
    if (rc == 0) {
        rc = dassie__logfile_read(&f, e);
    }
    m->torn_at = f.torn_at;
    if (rc == 0 && m->no_memory) {
        rc = dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    return rc;
}

uint64_t dassie__manifest_newest_log(const struct manifest *m)
{
    uint64_t newest = 0;
    for (int i = 0; i < MANIFEST_FAMILIES_MAX; i++) {
        newest = max64(newest, m->family[i].is ? m->family[i].log : 0);
    }
    return newest;
}

static bool is_zeros(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] == 0) {
        i++;
    }
    return i == n;
}

/* Whether a sector holds nothing of the record at torn_at that goes beyond it,
 * as if it had never been written: a few flipped bits do not look like that. */
static bool has_hole(int fd, long torn_at)
{
    size_t to = SECTOR_BYTES - (size_t)torn_at % SECTOR_BYTES;
    size_t from = 0;
    bool hole = false;
    uint8_t *p = dassie__malloc(HOLE_BYTES_MAX);
    ssize_t got = p == NULL ? -1 : pread(fd, p, HOLE_BYTES_MAX, torn_at);
    size_t n = got < 0 || got == HOLE_BYTES_MAX ? 0 : (size_t)got;
    size_t end =
        n > PART_HEADER_BYTES ? PART_HEADER_BYTES + get_le(p + 4, 2) : n;
    end = end < n && end > to ? end : n;
    while (!hole && from < end && to < n) {
        hole = is_zeros(p + from, to - from);
        from = to;
        to += SECTOR_BYTES;
    }
    hole = hole || (from > 0 && from < end && is_zeros(p + from, end - from));
    dassie__free(p);
    return hole;
}

int dassie__manifest_trim(const char *dir, struct errmsg *e)
{
    char path[PATH_MAX];
    struct manifest m = {0};
    int rc = dassie__manifest_read(dir, &m, e);
    if (rc != 0 || m.torn_at < 0) {
        return rc;
    }
    rc = manifest_path(dir, path, &m.number, e);
    if (rc != 0) {
        return rc;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || (has_hole(fd, m.torn_at) &&
                   (ftruncate(fd, m.torn_at) != 0 || fsync(fd) != 0))) {
        rc = uv_translate_sys_error(errno);
        dassie__errmsg_set(e, rc, "cut MANIFEST: %s", dassie_strerror(rc));
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* ---- The log ---- */

struct wal {
    const struct wal_check *check;
    struct errmsg *e;
    uint64_t covered;   /* batches without a gap reach up to this number */
    uint64_t logged;    /* the last number in a log file */
    uint64_t in_tables; /* the last one in a table; it is in no log */
    uint64_t newest;    /* from this one on */
    uint64_t file;      /* being read */
    uint64_t torn_file; /* the first with a record that cannot be read, */
    long torn_at;       /* and where it is; -1: there is none */
    const struct logfile *reading;
    bool unlinked; /* a gap, and before it nothing that cannot be read */
};

static int batch_seen(void *arg, const uint8_t *p, size_t n, long at)
{
    struct wal *w = arg;
    if (n < BATCH_HEADER_BYTES) {
        return 0;
    }
    uint64_t first = get_le(p, 8);
    uint64_t last = first + get_le(p + 8, 4) - 1;
    uint64_t before = w->logged;
    if (w->file >= w->newest) {
        before = max64(before, w->in_tables);
    }
    if (first <= before) {
        return dassie__errmsg_set(w->e, DASSIE_ECORRUPT,
                                  "%06" PRIu64
                                  ".log is not the file that it "
                                  "was: operation %" PRIu64
                                  " comes again at byte %ld after %" PRIu64,
                                  w->file, first, at, before);
    }
    w->logged = last;
    if (first > w->covered + 1 && !w->check->gaps) {
        w->unlinked = w->reading->torn_at < 0 && w->torn_at < 0;
        return dassie__errmsg_set(w->e, DASSIE_ECORRUPT,
                                  "a part of the log is lost: %06" PRIu64
                                  ".log goes on with operation %" PRIu64
                                  " at byte %ld after %" PRIu64
                                  " (or the MANIFEST has lost its end)",
                                  w->file, first, at, w->covered);
    }
    w->covered = last > w->covered ? last : w->covered;
    return 0;
}

static int file_check(struct wal *w)
{
    char path[PATH_MAX];
    struct logfile f = {.path = path,
                        .keep = BATCH_HEADER_BYTES,
                        .record = batch_seen,
                        .arg = w};
    w->reading = &f;
    int n = snprintf(path, sizeof path, "%s/%06" PRIu64 ".log", w->check->dir,
                     w->file);
    if (n >= (int)sizeof path) {
        return dassie__errmsg_set(w->e, UV_ENAMETOOLONG, "the path of a log");
    }
    int rc = dassie__logfile_read(&f, w->e);
    if (f.torn_at >= 0 && w->torn_at < 0) {
        w->torn_at = f.torn_at;
        w->torn_file = w->file;
    }
    return rc;
}

static int number_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int dassie__files_numbered(const char *dir, const char *suffix,
                           uint64_t **numbers, size_t *n, struct errmsg *e)
{
    size_t room = 0;
    struct dirent *entry;
    DIR *d = opendir(dir);
    *numbers = NULL;
    *n = 0;
    if (d == NULL) {
        int rc = dassie__sys_code(errno);
        return dassie__errmsg_set(e, rc == UV_ENOENT ? DASSIE_ECORRUPT : rc,
                                  "read db: %s", dassie_strerror(rc));
    }
    while ((entry = readdir(d)) != NULL) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (end == entry->d_name || strcmp(end, suffix) != 0) {
            continue;
        }
        if (*n == room) {
            room = 2 * room + 16;
            uint64_t *more = dassie__realloc(*numbers, room * sizeof *more);
            if (more == NULL) {
                closedir(d);
                return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
            }
            *numbers = more;
        }
        (*numbers)[(*n)++] = number;
    }
    closedir(d);
    if (*n > 0) {
        qsort(*numbers, *n, sizeof **numbers, number_cmp);
    }
    return 0;
}

/* Whether all came back that was durable. */
static int mark_check(const struct wal *w)
{
    char where[64] = "a log file, or the end of the MANIFEST, is gone";
    if (w->covered >= w->check->mark) {
        return 0;
    }
    if (w->torn_at >= 0) {
        snprintf(where, sizeof where,
                 "%06" PRIu64 ".log cannot be read at byte %ld", w->torn_file,
                 w->torn_at);
    }
    return dassie__errmsg_set(w->e, DASSIE_ECORRUPT,
                              "the log lost its end: hwm says that %" PRIu64
                              " operations were durable, %" PRIu64
                              " are there; %s",
                              w->check->mark, w->covered, where);
}

/* An open that recovers something begins a MANIFEST, and after what was there
 * come the tables that it made, and all families go on with one log, of a
 * number that no file ever had. Nobody sees half of this before it is synced;
 * but if the end is lost, some families have come less far.
 *
 * With a flush that changes: the families that had something go on with a log
 * that is newer than the MANIFEST. Before the first one some go on with that of
 * their creation, which is there, and the default one with none. */
static unsigned families_behind(const struct manifest *m, const uint64_t *logs,
                                size_t n)
{
    uint64_t newest = dassie__manifest_newest_log(m);
    unsigned behind = 0;
    for (size_t i = 0; i < n; i++) {
        if (logs[i] == newest) {
            return 0;
        }
    }
    for (int i = 0; i < MANIFEST_FAMILIES_MAX; i++) {
        uint64_t log = m->family[i].log;
        behind += m->family[i].is && log > 0 && log < newest;
    }
    return newest < m->number ? behind : 0;
}

static int families_check(struct wal *w, const struct manifest *m,
                          const uint64_t *logs, size_t n)
{
    unsigned behind = families_behind(m, logs, n);
    w->unlinked = behind > 0;
    return behind == 0
               ? 0
               : dassie__errmsg_set(w->e, DASSIE_ECORRUPT,
                                    "MANIFEST-%06" PRIu64
                                    " has lost its end: tables of %u families "
                                    "that the last open made are not in it",
                                    m->number, behind);
}

static int wal_read(struct wal *w)
{
    struct manifest m = {0};
    uint64_t *numbers = NULL;
    size_t n = 0;
    int rc = dassie__manifest_read(w->check->dir, &m, w->e);
    w->covered = w->in_tables = m.sequence;
    w->newest = dassie__manifest_newest_log(&m);
    if (rc == 0) {
        rc = dassie__files_numbered(w->check->dir, ".log", &numbers, &n, w->e);
    }
    if (rc == 0) {
        rc = families_check(w, &m, numbers, n);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        w->file = numbers[i];
        rc = w->file < m.least_log ? 0 : file_check(w);
    }
    dassie__free(numbers);
    return rc;
}

int dassie__wal_check(const struct wal_check *check, struct errmsg *e)
{
    struct wal w = {.check = check, .torn_at = -1, .e = e};
    int rc = wal_read(&w);
    return rc == 0 ? mark_check(&w) : rc;
}

bool dassie__wal_joins(const struct wal_check *check)
{
    struct errmsg ignored;
    struct wal w = {.check = check, .torn_at = -1, .e = &ignored};
    int rc = wal_read(&w);
    if (rc == 0 && w.torn_at < 0) {
        return w.covered >= check->mark;
    }
    return w.covered > 0 && !w.unlinked;
}
