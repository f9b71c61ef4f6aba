/* salvage_log.c: the records of RocksDB's log, applied one after the other; see
 * salvage_rows.h.
 *
 * A record is a batch, and whole or not there, so each is what one commit
 * wrote. Those that are known to be in tables are passed over. Where that is
 * not known, those of an old log do no harm: what they overwrite is written
 * again by those that follow. Column families are known by number here, in the
 * order of enum family, as a store makes them. */
#include "config.h"

#include "salvage_rows.h"

#include "alloc.h"
#include "dassie.h"
#include "logfile.h"
#include "wal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#define BATCH_HEADER_BYTES 12

enum tag {
    TAG_DELETE = 0x0,
    TAG_PUT = 0x1,
    TAG_FAMILY_DELETE = 0x4,
    TAG_FAMILY_PUT = 0x5,
    TAG_NOTHING = 0xd,
    TAG_FAMILY_DELETE_RANGE = 0xe,
    TAG_DELETE_RANGE = 0xf
};

struct batch {
    struct salvage_rows *s;
    const uint8_t *p;
    const uint8_t *end;
    bool good;
    uint64_t odd;   /* batches with something in them that we never write */
    uint64_t again; /* batches that an earlier file has, a later one, or
                       tables */
};

static uint32_t batch_number(struct batch *b)
{
    uint32_t v = 0;
    for (int shift = 0; shift < 32 && b->p < b->end; shift += 7) {
        uint8_t byte = *b->p++;
        v |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return v;
        }
    }
    b->good = false;
    return 0;
}

static struct kv_slice batch_bytes(struct batch *b)
{
    size_t len = batch_number(b);
    struct kv_slice s = {b->p, len};
    if (len > (size_t)(b->end - b->p)) {
        b->good = false;
        s.len = 0;
    }
    b->p += s.len;
    return s;
}

static void batch_operation(struct batch *b)
{
    struct kv *to = b->s->to;
    struct kv_slice value = {NULL, 0};
    enum family family = FAMILY_META;
    uint8_t tag = *b->p++;
    switch (tag) {
        case TAG_FAMILY_PUT:
        case TAG_FAMILY_DELETE:
        case TAG_FAMILY_DELETE_RANGE:
            family = (enum family)batch_number(b);
            break;
        default:
            break;
    }
    if (tag == TAG_NOTHING) {
        return;
    }
    struct kv_slice key = batch_bytes(b);
    if (tag != TAG_DELETE && tag != TAG_FAMILY_DELETE) {
        value = batch_bytes(b);
    }
    if (!b->good || (unsigned)family >= FAMILIES) {
        b->good = false;
        return;
    }
    b->s->rows++;
    switch (tag) {
        case TAG_PUT:
        case TAG_FAMILY_PUT:
            to->ops->put(to, family, key, value);
            break;
        case TAG_DELETE:
        case TAG_FAMILY_DELETE:
            to->ops->del(to, family, key);
            break;
        case TAG_DELETE_RANGE:
        case TAG_FAMILY_DELETE_RANGE:
            to->ops->del_range(to, family, key, value);
            break;
        default:
            b->good = false;
            break;
    }
}

static int batch_apply(void *arg, const uint8_t *p, size_t n, long at)
{
    struct batch *b = arg;
    (void)at;
    if (n < BATCH_HEADER_BYTES) {
        return 0;
    }
    uint64_t first = get_le(p, 8);
    if (first <= b->s->logged) {
        b->again++;
        return 0;
    }
    b->s->logged = first + get_le(p + 8, 4) - 1;
    b->p = p + BATCH_HEADER_BYTES;
    b->end = p + n;
    b->good = true;
    while (b->good && b->p < b->end) {
        batch_operation(b);
    }
    if (!b->good) {
        b->odd++;
        b->s->to->ops->drop(b->s->to);
        return 0;
    }
    return b->s->to->ops->commit(b->s->to, false, b->s->e);
}

static int file_apply(struct salvage_rows *s, uint64_t number)
{
    char path[PATH_MAX];
    struct errmsg ignored;
    struct batch b = {.s = s};
    struct logfile f = {
        .path = path, .keep = SIZE_MAX, .record = batch_apply, .arg = &b};
    if (snprintf(path, sizeof path, "%s/%06" PRIu64 ".log", s->db, number) >=
        (int)sizeof path) {
        return dassie__errmsg_set(s->e, UV_ENAMETOOLONG, "the path of a log");
    }
    s->e->text[0] = '\0';
    int rc = dassie__logfile_read(&f, &ignored);
    if (rc != 0 && s->e->text[0] != '\0') {
        return rc; /* the new database's */
    }
    if (rc == UV_ENOMEM || rc == UV_ENOTSUP) {
        return dassie__errmsg_set(s->e, rc, "%s", ignored.text);
    }
    if (rc != 0) {
        dassie__salvage_tell(s, "%s: what follows is lost", ignored.text);
    }
    if (f.torn_n > 0) {
        dassie__salvage_tell(s,
                             "%06" PRIu64
                             ".log: commits are lost or were never "
                             "whole at %ld places, the first at byte %ld",
                             number, f.torn_n, f.torn_at);
    }
    if (b.again > 0 && number >= s->newest) {
        dassie__salvage_tell(s,
                             "%06" PRIu64
                             ".log is another file than it was; "
                             "%" PRIu64
                             " commits in it are passed over, and "
                             "what it held is lost",
                             number, b.again);
    }
    if (b.odd > 0) {
        dassie__salvage_tell(
            s, "%06" PRIu64 ".log: %" PRIu64 " commits make no sense", number,
            b.odd);
    }
    return 0;
}

int dassie__salvage_log(struct salvage_rows *s)
{
    uint64_t *numbers;
    size_t n;
    int rc = dassie__files_numbered(s->db, ".log", &numbers, &n, s->e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = file_apply(s, numbers[i]);
    }
    dassie__free(numbers);
    return rc;
}
