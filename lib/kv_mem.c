#include "config.h"

#include "kv_mem.h"

#include "alloc.h"
#include "dassie.h"

#include <string.h>

/* Dead rows of a family that stay, as a database does away with them when it
 * has the time. */
#define LINGER_ROWS_MAX 32

/* A row, or an operation of a batch. */
struct row {
    struct row *next; /* in the batch */
    enum { ROW_PUT, ROW_DEL, ROW_DEL_RANGE } type;
    enum family family;
    bool dead; /* a range has deleted it */
    size_t key_len;
    size_t value_len; /* of a range: its end */
    uint8_t bytes[];  /* key, value */
};

struct table {
    struct row **rows;
    size_t n;
    size_t dead; /* of them */
    size_t room;
};

struct kv_mem {
    struct kv kv;
    struct table tables[FAMILIES];
    struct row *batch;
    struct row **batch_end;
    bool no_memory; /* the batch is incomplete: its commit must fail */
    unsigned fail_commits;
    unsigned fail_reopens;
    bool fail_applied;
};

struct kv_iter {
    const struct table *table;
    size_t at;
    struct kv_slice to;
};

static struct kv_mem *mem(struct kv *kv)
{
    return (struct kv_mem *)kv;
}

static int slice_cmp(struct kv_slice a, struct kv_slice b)
{
    int d = memcmp(a.p, b.p, a.len < b.len ? a.len : b.len);
    return d != 0 ? d : (a.len > b.len) - (a.len < b.len);
}

static struct kv_slice row_key(const struct row *row)
{
    return kv_slice(row->bytes, row->key_len);
}

static struct kv_slice row_value(const struct row *row)
{
    return kv_slice(row->bytes + row->key_len, row->value_len);
}

/* The first row at or after key. */
static size_t table_find(const struct table *t, struct kv_slice key)
{
    size_t low = 0;
    size_t high = t->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_cmp(row_key(t->rows[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool table_has(const struct table *t, size_t at, struct kv_slice key)
{
    return at < t->n && slice_cmp(row_key(t->rows[at]), key) == 0;
}

static void table_cut(struct table *t, size_t at)
{
    t->dead -= t->rows[at]->dead;
    dassie__free(t->rows[at]);
    memmove(t->rows + at, t->rows + at + 1,
            (t->n - at - 1) * sizeof t->rows[0]);
    t->n--;
}

static void table_compact(struct table *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i]->dead) {
            dassie__free(t->rows[i]);
        } else {
            t->rows[n++] = t->rows[i];
        }
    }
    t->n = n;
    t->dead = 0;
}

static void table_kill(struct table *t, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        t->dead += !t->rows[i]->dead;
        t->rows[i]->dead = true;
    }
    if (t->dead > LINGER_ROWS_MAX) {
        table_compact(t);
    }
}

/* Takes over row; room was made before. */
static void table_put(struct table *t, struct row *row)
{
    size_t at = table_find(t, row_key(row));
    if (table_has(t, at, row_key(row))) {
        t->dead -= t->rows[at]->dead;
        dassie__free(t->rows[at]);
    } else {
        memmove(t->rows + at + 1, t->rows + at,
                (t->n - at) * sizeof t->rows[0]);
        t->n++;
    }
    t->rows[at] = row;
}

static int table_make_room(struct table *t, size_t n)
{
    if (t->n + n <= t->room) {
        return 0;
    }
    size_t room = 2 * (t->n + n);
    struct row **rows = dassie__realloc(t->rows, room * sizeof rows[0]);
    if (rows == NULL) {
        return UV_ENOMEM;
    }
    t->rows = rows;
    t->room = room;
    return 0;
}

/* ---- Writing ---- */

static struct row *batch_add(struct kv *kv, int type, enum family family,
                             size_t key_len, size_t value_len)
{
    struct kv_mem *m = mem(kv);
    struct row *row = dassie__malloc(sizeof *row + key_len + value_len);
    kv->rows++;
    kv->row_bytes += key_len + value_len;
    if (row == NULL) {
        m->no_memory = true;
        return NULL;
    }
    row->next = NULL;
    row->type = type;
    row->family = family;
    row->dead = false;
    row->key_len = key_len;
    row->value_len = value_len;
    *m->batch_end = row;
    m->batch_end = &row->next;
    return row;
}

static void slice_copy(uint8_t *to, struct kv_slice from)
{
    if (from.len > 0) {
        memcpy(to, from.p, from.len);
    }
}

static void mem_put2(struct kv *kv, enum family family, struct kv_slice key,
                     struct kv_slice head, struct kv_slice tail)
{
    struct row *row =
        batch_add(kv, ROW_PUT, family, key.len, head.len + tail.len);
    if (row != NULL) {
        slice_copy(row->bytes, key);
        slice_copy(row->bytes + key.len, head);
        slice_copy(row->bytes + key.len + head.len, tail);
    }
}

static void mem_put(struct kv *kv, enum family family, struct kv_slice key,
                    struct kv_slice value)
{
    mem_put2(kv, family, key, value, kv_slice(NULL, 0));
}

static void mem_del(struct kv *kv, enum family family, struct kv_slice key)
{
    struct row *row = batch_add(kv, ROW_DEL, family, key.len, 0);
    if (row != NULL) {
        slice_copy(row->bytes, key);
    }
}

static void mem_del_range(struct kv *kv, enum family family,
                          struct kv_slice from, struct kv_slice to)
{
    struct row *row = batch_add(kv, ROW_DEL_RANGE, family, from.len, to.len);
    if (row != NULL) {
        slice_copy(row->bytes, from);
        slice_copy(row->bytes + from.len, to);
    }
}

static void batch_apply(struct kv_mem *m)
{
    struct row *next;
    for (struct row *row = m->batch; row != NULL; row = next) {
        struct table *t = &m->tables[row->family];
        next = row->next;
        if (row->type == ROW_PUT) {
            table_put(t, row);
            continue;
        }
        size_t at = table_find(t, row_key(row));
        if (row->type == ROW_DEL_RANGE) {
            table_kill(t, at, table_find(t, row_value(row)));
        } else if (table_has(t, at, row_key(row))) {
            table_cut(t, at);
        }
        dassie__free(row);
    }
    m->batch = NULL;
    m->batch_end = &m->batch;
}

static void mem_drop(struct kv *kv)
{
    struct kv_mem *m = mem(kv);
    while (m->batch != NULL) {
        struct row *row = m->batch;
        m->batch = row->next;
        dassie__free(row);
    }
    m->batch_end = &m->batch;
    m->no_memory = false;
}

static int batch_make_room(struct kv_mem *m)
{
    size_t puts[FAMILIES] = {0};
    int rc = m->no_memory ? UV_ENOMEM : 0;
    for (struct row *row = m->batch; row != NULL; row = row->next) {
        puts[row->family] += row->type == ROW_PUT;
    }
    for (int i = 0; rc == 0 && i < FAMILIES; i++) {
        rc = table_make_room(&m->tables[i], puts[i]);
    }
    return rc;
}

static int mem_commit(struct kv *kv, bool sync, struct errmsg *e)
{
    struct kv_mem *m = mem(kv);
    int rc = batch_make_room(m);
    if (rc != 0) {
        return dassie__errmsg_set(e, rc, "out of memory");
    }
    bool fail = m->fail_commits > 0;
    if (fail && !m->fail_applied) {
        m->fail_commits--;
        return dassie__errmsg_set(e, UV_EIO, "told to fail");
    }
    batch_apply(m);
    kv->syncs += sync;
    if (fail) {
        m->fail_commits--;
        return dassie__errmsg_set(e, UV_EIO, "told to fail after the write");
    }
    return 0;
}

static int mem_reopen(struct kv *kv, struct errmsg *e)
{
    struct kv_mem *m = mem(kv);
    if (m->fail_reopens > 0) {
        m->fail_reopens--;
        return dassie__errmsg_set(e, UV_EIO, "told to fail to reopen");
    }
    return 0;
}

/* ---- Reading ---- */

static int mem_get(struct kv *kv, const struct kv_snapshot *snapshot,
                   enum family family, struct kv_slice key,
                   struct kv_value *value, struct errmsg *e)
{
    const struct table *t = &mem(kv)->tables[family];
    size_t at = table_find(t, key);
    (void)snapshot;
    (void)e;
    if (!table_has(t, at, key) || t->rows[at]->dead) {
        return UV_ENOENT;
    }
    struct kv_slice found = row_value(t->rows[at]);
    value->p = found.p;
    value->len = found.len;
    value->owner = NULL;
    return 0;
}

static void mem_value_release(struct kv_value *value)
{
    (void)value;
}

/* Reads happen between commits on the one thread, so now is a snapshot. */
static const struct kv_snapshot *mem_snapshot(struct kv *kv)
{
    (void)kv;
    return NULL;
}

static void mem_snapshot_release(struct kv *kv, const struct kv_snapshot *s)
{
    (void)kv;
    (void)s;
}

static struct kv_iter *mem_iter(struct kv *kv,
                                const struct kv_snapshot *snapshot,
                                enum family family, struct kv_slice from,
                                struct kv_slice to)
{
    struct kv_iter *it = dassie__malloc(sizeof *it);
    (void)snapshot;
    if (it != NULL) {
        it->table = &mem(kv)->tables[family];
        it->at = from.len > 0 ? table_find(it->table, from) : it->table->n;
        it->to = to;
    }
    return it;
}

static bool mem_iter_valid(const struct kv_iter *it)
{
    return it->at < it->table->n &&
           slice_cmp(row_key(it->table->rows[it->at]), it->to) < 0;
}

static struct kv_slice mem_iter_key(const struct kv_iter *it)
{
    return row_key(it->table->rows[it->at]);
}

static struct kv_slice mem_iter_value(const struct kv_iter *it)
{
    return row_value(it->table->rows[it->at]);
}

static int mem_iter_live(struct kv_iter *it, struct errmsg *e)
{
    (void)e;
    return !it->table->rows[it->at]->dead;
}

static void mem_iter_next(struct kv_iter *it)
{
    it->at++;
}

static void mem_iter_seek(struct kv_iter *it, struct kv_slice from)
{
    it->at = table_find(it->table, from);
}

static int mem_iter_close(struct kv_iter *it, struct errmsg *e)
{
    (void)e;
    dassie__free(it);
    return 0;
}

static bool mem_close(struct kv *kv, bool clean)
{
    (void)clean;
    mem_drop(kv);
    return true;
}

static const struct kv_ops mem_ops = {
    .put = mem_put,
    .put2 = mem_put2,
    .del = mem_del,
    .del_range = mem_del_range,
    .commit = mem_commit,
    .drop = mem_drop,
    .reopen = mem_reopen,
    .get = mem_get,
    .value_release = mem_value_release,
    .snapshot = mem_snapshot,
    .snapshot_release = mem_snapshot_release,
    .iter = mem_iter,
    .iter_valid = mem_iter_valid,
    .iter_key = mem_iter_key,
    .iter_value = mem_iter_value,
    .iter_live = mem_iter_live,
    .iter_next = mem_iter_next,
    .iter_seek = mem_iter_seek,
    .iter_close = mem_iter_close,
    .close = mem_close,
    .shared_reads = false,
};

struct kv *dassie__kv_mem_new(void)
{
    struct kv_mem *m = dassie__calloc(1, sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    m->kv.ops = &mem_ops;
    m->batch_end = &m->batch;
    return &m->kv;
}

void dassie__kv_mem_free(struct kv *kv)
{
    struct kv_mem *m = mem(kv);
    mem_drop(kv);
    for (int i = 0; i < FAMILIES; i++) {
        table_kill(&m->tables[i], 0, m->tables[i].n);
        table_compact(&m->tables[i]);
        dassie__free(m->tables[i].rows);
    }
    dassie__free(m);
}

void dassie__kv_mem_fail(struct kv *kv, unsigned n, bool applied,
                         unsigned reopens)
{
    struct kv_mem *m = mem(kv);
    m->fail_commits = n;
    m->fail_applied = applied;
    m->fail_reopens = reopens;
}

size_t dassie__kv_mem_rows(const struct kv *kv, enum family family)
{
    const struct table *t = &((const struct kv_mem *)kv)->tables[family];
    return t->n - t->dead;
}
