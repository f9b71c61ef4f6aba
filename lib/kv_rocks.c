#include "config.h"

#include "kv_rocks.h"

#include "alloc.h"
#include "dassie.h"
#include "kv_rocks_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RocksDB copies a two-part value into vectors first; below this much it is
 * cheaper to join it on the stack. */
#define JOIN_BYTES 1024

/* Whether rows are there is looked up one by one so often; then another
 * iterator is cheaper. It is moved by so many steps, or by a seek. */
#define LIVE_GETS_MAX 8
#define LIVE_STEPS_MAX 8

struct kv_iter {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *read;
    unsigned gets;
    rocksdb_iterator_t *live; /* one that heeds ranges, or NULL */
    rocksdb_readoptions_t *read_live;
    struct kv_rocks *r;
    const struct kv_snapshot *snapshot;
    enum family family;
    struct kv_slice to;
};

static struct kv_rocks *rocks(struct kv *kv)
{
    return (struct kv_rocks *)kv;
}

/* ---- Writing ---- */

static void rocks_count(struct kv *kv, size_t bytes)
{
    kv->rows++;
    kv->row_bytes += bytes;
}

static void rocks_put(struct kv *kv, enum family family, struct kv_slice key,
                      struct kv_slice value)
{
    struct kv_rocks *r = rocks(kv);
    rocksdb_writebatch_put_cf(r->batch, r->families[family],
                              (const char *)key.p, key.len,
                              (const char *)value.p, value.len);
    rocks_count(kv, key.len + value.len);
}

static void rocks_put2(struct kv *kv, enum family family, struct kv_slice key,
                       struct kv_slice head, struct kv_slice tail)
{
    struct kv_rocks *r = rocks(kv);
    if (head.len + tail.len <= JOIN_BYTES) {
        uint8_t joined[JOIN_BYTES];
        memcpy(joined, head.p, head.len);
        if (tail.len > 0) {
            memcpy(joined + head.len, tail.p, tail.len);
        }
        rocks_put(kv, family, key, kv_slice(joined, head.len + tail.len));
        return;
    }
    const char *keys[1] = {(const char *)key.p};
    const char *values[2] = {(const char *)head.p, (const char *)tail.p};
    size_t key_sizes[1] = {key.len};
    size_t value_sizes[2] = {head.len, tail.len};
    rocksdb_writebatch_putv_cf(r->batch, r->families[family], 1, keys,
                               key_sizes, 2, values, value_sizes);
    rocks_count(kv, key.len + head.len + tail.len);
}

static void rocks_del(struct kv *kv, enum family family, struct kv_slice key)
{
    struct kv_rocks *r = rocks(kv);
    rocksdb_writebatch_delete_cf(r->batch, r->families[family],
                                 (const char *)key.p, key.len);
    rocks_count(kv, key.len);
}

static void rocks_del_range(struct kv *kv, enum family family,
                            struct kv_slice from, struct kv_slice to)
{
    struct kv_rocks *r = rocks(kv);
    rocksdb_writebatch_delete_range_cf(r->batch, r->families[family],
                                       (const char *)from.p, from.len,
                                       (const char *)to.p, to.len);
    rocks_count(kv, from.len + to.len);
}

/* Not synced, and no commit fails for it: an old mark only notices less. */
static void hwm_write(struct kv_rocks *r)
{
    uint8_t mark[8];
    put_be64(mark, rocksdb_get_latest_sequence_number(r->db));
    ssize_t n = pwrite(r->hwm_fd, mark, sizeof mark, 0);
    r->kv.mark_error = n < 0 ? dassie__sys_code(errno) : 0;
}

/* Writes the batch, and notes whether RocksDB held it up: it measures that, for
 * the thread that asks. */
static char *write_batch(struct kv_rocks *r, bool sync)
{
    char *text = NULL;
    rocksdb_perfcontext_t *perf = rocksdb_perfcontext_create();
    rocksdb_perfcontext_reset(perf);
    rocksdb_set_perf_level(rocksdb_enable_time_except_for_mutex);
    rocksdb_write(r->db, sync ? r->write_sync : r->write_nosync, r->batch,
                  &text);
    rocksdb_set_perf_level(rocksdb_enable_count); /* as threads begin */
    r->kv.held_up =
        rocksdb_perfcontext_metric(perf, rocksdb_write_delay_time) > 0;
    rocksdb_perfcontext_destroy(perf);
    return text;
}

static int rocks_commit(struct kv *kv, bool sync, struct errmsg *e)
{
    struct kv_rocks *r = rocks(kv);
    if (r->db == NULL) {
        return dassie__errmsg_set(e, UV_EIO, "the database is closed");
    }
    char *text = write_batch(r, sync);
    if (text != NULL) {
        return dassie__rocks_error(text, e);
    }
    rocksdb_writebatch_clear(r->batch);
    if (sync) {
        kv->syncs++;
        hwm_write(r);
    }
    return 0;
}

static void rocks_drop(struct kv *kv)
{
    rocksdb_writebatch_clear(rocks(kv)->batch);
}

/* ---- Reading ---- */

static int rocks_get(struct kv *kv, const struct kv_snapshot *snapshot,
                     enum family family, struct kv_slice key,
                     struct kv_value *value, struct errmsg *e)
{
    struct kv_rocks *r = rocks(kv);
    rocksdb_readoptions_t *read = r->read;
    char *text = NULL;
    if (snapshot != NULL) {
        read = rocksdb_readoptions_create();
        rocksdb_readoptions_set_snapshot(read,
                                         (const rocksdb_snapshot_t *)snapshot);
    }
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(
        r->db, read, r->families[family], (const char *)key.p, key.len, &text);
    if (snapshot != NULL) {
        rocksdb_readoptions_destroy(read);
    }
    if (text != NULL) {
        return dassie__rocks_error(text, e);
    }
    if (slice == NULL) {
        return UV_ENOENT;
    }
    value->p = (const uint8_t *)rocksdb_pinnableslice_value(slice, &value->len);
    value->owner = slice;
    return 0;
}

static void rocks_value_release(struct kv_value *value)
{
    rocksdb_pinnableslice_destroy(value->owner);
    value->owner = NULL;
}

/* Beside the owner there are none, but all stands still. */
static const struct kv_snapshot *rocks_snapshot(struct kv *kv)
{
    if (rocks(kv)->scratch[0] != '\0') {
        return NULL;
    }
    return (const struct kv_snapshot *)rocksdb_create_snapshot(rocks(kv)->db);
}

static void rocks_snapshot_release(struct kv *kv, const struct kv_snapshot *s)
{
    if (s != NULL) {
        rocksdb_release_snapshot(rocks(kv)->db, (const rocksdb_snapshot_t *)s);
    }
}

static rocksdb_readoptions_t *iter_options(const struct kv_iter *it,
                                           bool heed_ranges)
{
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(read, (const char *)it->to.p,
                                                it->to.len);
    rocksdb_readoptions_set_fill_cache(read, 0);
    rocksdb_readoptions_set_ignore_range_deletions(read, !heed_ranges);
    if (it->snapshot != NULL) {
        rocksdb_readoptions_set_snapshot(
            read, (const rocksdb_snapshot_t *)it->snapshot);
    }
    return read;
}

/* An iterator that heeds range deletions, whether there are any or not, loses
 * the error of a bad block or table where it passes from one table of a level
 * to the next (RocksDB 7.8.3, MergingIterator::SkipNextDeleted()): the rest of
 * the level is not there then, without a word. One that does not heed them
 * tells. */
static struct kv_iter *rocks_iter(struct kv *kv,
                                  const struct kv_snapshot *snapshot,
                                  enum family family, struct kv_slice from,
                                  struct kv_slice to)
{
    struct kv_iter *it = dassie__calloc(1, sizeof *it);
    if (it == NULL) {
        return NULL;
    }
    it->r = rocks(kv);
    it->snapshot = snapshot;
    it->family = family;
    it->to = to;
    it->read = iter_options(it, false);
    it->it = rocksdb_create_iterator_cf(it->r->db, it->read,
                                        it->r->families[family]);
    if (from.len > 0) {
        rocksdb_iter_seek(it->it, (const char *)from.p, from.len);
    }
    return it;
}

static bool rocks_iter_valid(const struct kv_iter *it)
{
    return rocksdb_iter_valid(it->it);
}

static struct kv_slice rocks_iter_key(const struct kv_iter *it)
{
    size_t len;
    const char *p = rocksdb_iter_key(it->it, &len);
    return kv_slice(p, len);
}

static struct kv_slice rocks_iter_value(const struct kv_iter *it)
{
    size_t len;
    const char *p = rocksdb_iter_value(it->it, &len);
    return kv_slice(p, len);
}

/* Where the iterator that heeds ranges stands, compared with key. */
static int live_cmp(const struct kv_iter *it, struct kv_slice key)
{
    size_t len;
    if (!rocksdb_iter_valid(it->live)) {
        return 1;
    }
    const char *p = rocksdb_iter_key(it->live, &len);
    int d = memcmp(p, key.p, len < key.len ? len : key.len);
    return d != 0 ? d : (len > key.len) - (len < key.len);
}

/* Brings it to key or behind: it follows the other one, which skips nothing
 * but in a seek. */
static int live_follow(struct kv_iter *it, struct kv_slice key)
{
    int d = -1;
    if (it->live == NULL) {
        it->read_live = iter_options(it, true);
        it->live = rocksdb_create_iterator_cf(it->r->db, it->read_live,
                                              it->r->families[it->family]);
        rocksdb_iter_seek(it->live, (const char *)key.p, key.len);
        return live_cmp(it, key);
    }
    for (int step = 0; step < LIVE_STEPS_MAX; step++) {
        d = live_cmp(it, key);
        if (d >= 0) {
            return d;
        }
        rocksdb_iter_next(it->live);
    }
    rocksdb_iter_seek(it->live, (const char *)key.p, key.len);
    return live_cmp(it, key);
}

/* What the other iterator finds is there; what it does not find it may have
 * lost. */
static int rocks_iter_live(struct kv_iter *it, struct errmsg *e)
{
    struct kv_slice key = rocks_iter_key(it);
    struct kv_value value;
    if (it->gets == LIVE_GETS_MAX && live_follow(it, key) == 0) {
        return 1;
    }
    it->gets += it->gets < LIVE_GETS_MAX;
    int rc = rocks_get(&it->r->kv, it->snapshot, it->family, key, &value, e);
    if (rc == 0) {
        rocks_value_release(&value);
        return 1;
    }
    it->r->dead += rc == UV_ENOENT;
    return rc == UV_ENOENT ? 0 : rc;
}

static void rocks_iter_next(struct kv_iter *it)
{
    rocksdb_iter_next(it->it);
}

static void rocks_iter_seek(struct kv_iter *it, struct kv_slice from)
{
    rocksdb_iter_seek(it->it, (const char *)from.p, from.len);
}

static int rocks_iter_close(struct kv_iter *it, struct errmsg *e)
{
    char *text = NULL;
    rocksdb_iter_get_error(it->it, &text);
    rocksdb_iter_destroy(it->it);
    rocksdb_readoptions_destroy(it->read);
    if (it->live != NULL) {
        rocksdb_iter_destroy(it->live);
        rocksdb_readoptions_destroy(it->read_live);
    }
    dassie__free(it);
    return text != NULL ? dassie__rocks_error(text, e) : 0;
}

/* ---- Counts ---- */

/* A number in RocksDB's statistics, which the C API has as text only: that
 * behind field in the line of name, which ends in a space. */
static uint64_t statistic(const char *text, const char *name, const char *field)
{
    const char *at = strstr(text, name);
    at = at != NULL ? strstr(at, field) : NULL;
    return at != NULL ? strtoull(at + strlen(field), NULL, 10) : 0;
}

static void rocks_counts(struct kv *kv, struct kv_counts *counts)
{
    struct kv_rocks *r = rocks(kv);
    char *text = rocksdb_options_statistics_get_string(r->options);
    counts->stalls = statistic(text, "rocksdb.db.write.stall ", " COUNT : ");
    counts->stall_us = statistic(text, "rocksdb.db.write.stall ", " SUM : ");
    counts->skipped =
        statistic(text, "rocksdb.number.iter.skip ", " COUNT : ") + r->dead;
    rocksdb_free(text);
}

static bool rocks_property(const struct kv_rocks *r, const char *name)
{
    uint64_t value = 0;
    rocksdb_property_int(r->db, name, &value);
    return value != 0;
}

static bool rocks_stalled(struct kv *kv)
{
    const struct kv_rocks *r = rocks(kv);
    return rocks_property(r, "rocksdb.is-write-stopped") ||
           rocks_property(r, "rocksdb.actual-delayed-write-rate");
}

/* ---- Opening and closing ---- */

static int rocks_reopen(struct kv *kv, struct errmsg *e)
{
    struct kv_rocks *r = rocks(kv);
    dassie__rocks_db_close(r);
    int rc = dassie__rocks_db_open(r, false, e);
    if (rc != 0) {
        dassie__rocks_db_close(r);
    }
    return rc;
}

static void rocks_free(struct kv_rocks *r)
{
    dassie__rocks_db_close(r);
    if (r->batch != NULL) {
        rocksdb_writebatch_destroy(r->batch);
        rocksdb_writeoptions_destroy(r->write_sync);
        rocksdb_writeoptions_destroy(r->write_nosync);
        rocksdb_readoptions_destroy(r->read);
    }
    if (r->options != NULL) {
        rocksdb_options_destroy(r->options);
    }
    if (r->cache != NULL) {
        rocksdb_cache_destroy(r->cache);
    }
    if (r->hwm_fd >= 0) {
        close(r->hwm_fd);
    }
    dassie__free(r);
}

/* A clean close makes unsynced commits durable, whatever the durability. */
static bool rocks_close(struct kv *kv, bool clean)
{
    struct kv_rocks *r = rocks(kv);
    bool durable = true;
    if (r->db != NULL && clean && !r->read_only) {
        char *text = NULL;
        rocksdb_flush_wal(r->db, 1, &text);
        durable = text == NULL;
        if (durable) {
            hwm_write(r);
        }
        rocksdb_free(text);
    }
    rocks_free(r);
    return durable;
}

/* What is in memtables is written to tables first, so that little of the log
 * is to be copied. */
static int rocks_checkpoint(struct kv *kv, const char *dir, struct errmsg *e)
{
    char *text = NULL;
    if (rocks(kv)->scratch[0] != '\0') {
        return dassie__errmsg_set(e, UV_ENOTSUP, "its owner is to copy it");
    }
    rocksdb_checkpoint_t *checkpoint =
        rocksdb_checkpoint_object_create(rocks(kv)->db, &text);
    if (text == NULL) {
        rocksdb_checkpoint_create(checkpoint, dir, 0, &text);
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    return text != NULL ? dassie__rocks_error(text, e) : 0;
}

static const struct kv_ops rocks_ops = {
    .put = rocks_put,
    .put2 = rocks_put2,
    .del = rocks_del,
    .del_range = rocks_del_range,
    .commit = rocks_commit,
    .drop = rocks_drop,
    .reopen = rocks_reopen,
    .get = rocks_get,
    .value_release = rocks_value_release,
    .snapshot = rocks_snapshot,
    .snapshot_release = rocks_snapshot_release,
    .iter = rocks_iter,
    .iter_valid = rocks_iter_valid,
    .iter_key = rocks_iter_key,
    .iter_value = rocks_iter_value,
    .iter_live = rocks_iter_live,
    .iter_next = rocks_iter_next,
    .iter_seek = rocks_iter_seek,
    .iter_close = rocks_iter_close,
    .counts = rocks_counts,
    .stalled = rocks_stalled,
    .checkpoint = rocks_checkpoint,
    .close = rocks_close,
    .shared_reads = true,
};

int dassie__kv_rocks_open(const struct kv_rocks_options *options,
                          struct kv **kv, struct errmsg *e)
{
    struct kv_rocks *r = dassie__calloc(1, sizeof *r);
    if (r == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    r->kv.ops = &rocks_ops;
    r->hwm_fd = -1;
    r->read_only = options->read_only;
    if (options->scratch != NULL) {
        snprintf(r->scratch, sizeof r->scratch, "%s", options->scratch);
    }
    r->gaps = options->gaps;
    r->lax = options->lax;
    int n = snprintf(r->dir, sizeof r->dir, "%s", options->dir);
    int rc = n < (int)sizeof r->dir ? 0 : UV_ENAMETOOLONG;
    if (rc == 0) {
        rc = dassie__rocks_mark_open(r, e);
    }
    if (rc == 0) {
        rc = dassie__rocks_options(r, e);
    }
    if (rc == 0) {
        dassie__rocks_memory(r, options->memory_bytes);
        r->batch = rocksdb_writebatch_create();
        r->write_sync = rocksdb_writeoptions_create();
        rocksdb_writeoptions_set_sync(r->write_sync, 1);
        r->write_nosync = rocksdb_writeoptions_create();
        r->read = rocksdb_readoptions_create();
        rc = dassie__rocks_db_open(r, options->create, e);
    }
    if (rc == 0 && r->gaps && !r->read_only) {
        rc = dassie__rocks_gaps_end(r, e);
    }
    if (rc != 0) {
        rocks_free(r);
        return rc;
    }
    *kv = &r->kv;
    return 0;
}

uint64_t dassie__kv_rocks_sequence(struct kv *kv)
{
    return rocksdb_get_latest_sequence_number(rocks(kv)->db);
}

int dassie__kv_rocks_catch_up(struct kv *kv, struct errmsg *e)
{
    char *text = NULL;
    rocksdb_try_catch_up_with_primary(rocks(kv)->db, &text);
    return text != NULL ? dassie__rocks_error(text, e) : 0;
}
