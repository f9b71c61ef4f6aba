#include "config.h"

#include "kv_rocks_db.h"

#include "dassie.h"
#include "table.h"
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Log files are closed and recycled into tables beyond this much, so that one
 * quiet column family does not keep them all. */
#define WAL_BYTES_MAX (128u << 20)
#define OPEN_FILES_MAX 512

int dassie__rocks_error(char *text, struct errmsg *e)
{
    static const struct {
        const char *word;
        int code;
    } words[] = {
        {"No space left", UV_ENOSPC},
        {"Disk quota", UV_ENOSPC},
        {"File too large", UV_EFBIG},
        {"Read-only file", UV_EROFS},
        {"Permission denied", UV_EACCES},
        {"Too many open files", UV_EMFILE},
        {"Corruption", DASSIE_ECORRUPT},
        {"does not exist", DASSIE_ECORRUPT},
        {"No such file", DASSIE_ECORRUPT},
        {"not found", DASSIE_ECORRUPT},
        {"Not implemented", UV_ENOTSUP},
        {"Column families not", UV_ENOTSUP},
        {"IO error", UV_EIO},
    };
    int code = UV_EIO;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(text, words[i].word) != NULL) {
            code = words[i].code;
            break;
        }
    }
    dassie__errmsg_set(e, code, "rocksdb: %s", text);
    rocksdb_free(text);
    return code;
}

/* ---- Options ---- */

void dassie__rocks_memory(struct kv_rocks *r, size_t memory_bytes)
{
    rocksdb_options_t *o = r->options;
    rocksdb_options_set_write_buffer_size(o, memory_bytes);
    rocksdb_options_set_db_write_buffer_size(o, memory_bytes / 2);
    rocksdb_options_set_max_total_wal_size(o, WAL_BYTES_MAX);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_lru_cache_options_t *lru = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(lru, memory_bytes / 4);
    rocksdb_lru_cache_options_set_num_shard_bits(lru, 1);
    r->cache = rocksdb_cache_create_lru_opts(lru);
    rocksdb_lru_cache_options_destroy(lru);
    rocksdb_block_based_table_options_t *table =
        rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, r->cache);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
}

int dassie__rocks_options(struct kv_rocks *r, struct errmsg *e)
{
    rocksdb_options_t *plain = rocksdb_options_create();
    rocksdb_options_t *made = rocksdb_options_create();
    char *text = NULL;
    rocksdb_options_set_wal_recovery_mode(plain,
                                          rocksdb_point_in_time_recovery);
    rocksdb_options_set_atomic_flush(plain, 1);
    rocksdb_options_set_paranoid_checks(plain, 1);
    rocksdb_options_set_info_log_level(plain, 4); /* FATAL */
    rocksdb_options_set_keep_log_file_num(plain, 1);
    rocksdb_options_set_stats_dump_period_sec(plain, 0);
    rocksdb_options_set_stats_persist_period_sec(plain, 0);
    rocksdb_options_enable_statistics(plain);
    /* One thread writes: then a put at the end of a family is nearly free. */
    rocksdb_options_set_allow_concurrent_memtable_write(plain, 0);
    rocksdb_options_set_enable_write_thread_adaptive_yield(plain, 0);
    if (r->lax) {
        rocksdb_options_set_paranoid_checks(plain, 0);
        rocksdb_options_set_skip_checking_sst_file_sizes_on_db_open(plain, 1);
        rocksdb_options_set_disable_auto_compactions(plain, 1);
    }
    rocksdb_get_options_from_string(
        plain,
        r->lax || r->scratch[0] != '\0'
            ? "track_and_verify_wals_in_manifest=false"
            : "track_and_verify_wals_in_manifest=true",
        made, &text);
    rocksdb_options_destroy(plain);
    r->options = made;
    return text != NULL ? dassie__rocks_error(text, e) : 0;
}

/* ---- The mark ---- */

static int path_join(char *path, const char *dir, const char *name)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return n >= PATH_MAX ? UV_ENAMETOOLONG : 0;
}

int dassie__rocks_mark_open(struct kv_rocks *r, struct errmsg *e)
{
    char path[PATH_MAX];
    int rc = path_join(path, r->dir, "hwm");
    if (rc == 0) {
        int how = r->read_only ? O_RDONLY : O_RDWR | O_CREAT;
        r->hwm_fd = open(path, how | O_CLOEXEC, 0644);
        rc = r->hwm_fd < 0 ? dassie__sys_code(errno) : 0;
    }
    if (r->read_only && rc == UV_ENOENT) {
        return 0;
    }
    return rc == 0
               ? 0
               : dassie__errmsg_set(e, rc, "open hwm: %s", dassie_strerror(rc));
}

static int hwm_read(const struct kv_rocks *r, uint64_t *mark)
{
    uint8_t bytes[8];
    *mark = 0;
    ssize_t n = r->hwm_fd < 0 ? 0 : pread(r->hwm_fd, bytes, sizeof bytes, 0);
    if (n < 0) {
        return dassie__sys_code(errno);
    }
    if (n == (ssize_t)sizeof bytes) {
        *mark = get_be64(bytes);
    }
    return 0;
}

/* RocksDB asks the kernel whether there is sync_file_range(), and where the
 * answer is neither yes nor "no such call" (a filter's EPERM, say) an assertion
 * of Debian's build aborts the host. So the same is asked before. */
static int sync_probe(const struct kv_rocks *r, struct errmsg *e)
{
    if (r->hwm_fd < 0 || sync_file_range(r->hwm_fd, 0, 0, 0) == 0 ||
        errno == ENOSYS) {
        return 0;
    }
    int rc = dassie__sys_code(errno);
    return dassie__errmsg_set(e, rc, "sync_file_range: %s",
                              dassie_strerror(rc));
}

/* ---- The database ---- */

void dassie__rocks_db_close(struct kv_rocks *r)
{
    if (r->db == NULL) {
        return;
    }
    for (int i = 0; i < FAMILIES; i++) {
        rocksdb_column_family_handle_destroy(r->families[i]);
    }
    rocksdb_close(r->db);
    r->db = NULL;
}

static int db_open_as(struct kv_rocks *r, const char *path, bool read_only,
                      struct errmsg *e)
{
    const rocksdb_options_t *each[FAMILIES];
    rocksdb_options_t *o = r->options;
    char *text = NULL;
    for (int i = 0; i < FAMILIES; i++) {
        each[i] = o;
    }
    if (r->scratch[0] != '\0') {
        /* With fewer, what the owner has deleted meanwhile is missed. */
        rocksdb_options_set_max_open_files(o, -1);
        r->db = rocksdb_open_as_secondary_column_families(
            o, path, r->scratch, FAMILIES, dassie__family_names, each,
            r->families, &text);
    } else if (read_only) {
        r->db = rocksdb_open_for_read_only_column_families(
            o, path, FAMILIES, dassie__family_names, each, r->families, 0,
            &text);
    } else {
        r->db = rocksdb_open_column_families(
            o, path, FAMILIES, dassie__family_names, each, r->families, &text);
    }
    if (text != NULL) {
        r->db = NULL;
        return dassie__rocks_error(text, e);
    }
    return 0;
}

/* A table that cannot be opened is to be told of before anything is done, not
 * when it is read: so each is opened once. This asks for nothing but their
 * properties. */
static int tables_check(const struct kv_rocks *r, struct errmsg *e)
{
    char *text = NULL;
    int damaged = 0;
    while (damaged < FAMILIES) {
        char *all = rocksdb_property_value_cf(
            r->db, r->families[damaged], "rocksdb.aggregated-table-properties");
        if (all == NULL) {
            break;
        }
        rocksdb_free(all);
        damaged++;
    }
    if (damaged == FAMILIES) {
        return 0;
    }
    /* Which one it is, a read tells that does not pass over anything. */
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_ignore_range_deletions(read, 1);
    rocksdb_readoptions_set_fill_cache(read, 0);
    rocksdb_iterator_t *it =
        rocksdb_create_iterator_cf(r->db, read, r->families[damaged]);
    rocksdb_iter_seek_to_first(it);
    while (rocksdb_iter_valid(it)) {
        rocksdb_iter_next(it);
    }
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(read);
    return text != NULL ? dassie__rocks_error(text, e)
                        : dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                             "a table of %s cannot be read",
                                             dassie__family_names[damaged]);
}

/* The log of a store that has an owner goes on meanwhile. */
static int before_open(const struct kv_rocks *r, const char *path,
                       uint64_t mark, struct errmsg *e)
{
    struct wal_check check = {.dir = path, .mark = mark, .gaps = r->gaps};
    bool alone = !r->lax && r->scratch[0] == '\0';
    int rc = alone ? dassie__wal_check(&check, e) : 0;
    if (rc == 0) {
        rc = dassie__tables_check(path, e);
    }
    if (rc == 0 && alone && !r->read_only) {
        rc = dassie__manifest_trim(path, e);
    }
    return rc;
}

int dassie__rocks_db_open(struct kv_rocks *r, bool create, struct errmsg *e)
{
    char path[PATH_MAX];
    uint64_t mark;
    int rc = hwm_read(r, &mark);
    if (rc == 0) {
        rc = path_join(path, r->dir, "db");
    }
    if (rc != 0) {
        return dassie__errmsg_set(e, rc, "hwm: %s", dassie_strerror(rc));
    }
    rc = sync_probe(r, e);
    if (rc != 0) {
        return rc;
    }
    rocksdb_options_set_create_if_missing(r->options, create);
    rocksdb_options_set_create_missing_column_families(r->options,
                                                       create || r->lax);
    if (!create) {
        rc = before_open(r, path, mark, e);
    }
    if (rc == 0) {
        rc = db_open_as(r, path, r->read_only, e);
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t last = rocksdb_get_latest_sequence_number(r->db);
    if (last < mark) {
        return dassie__errmsg_set(
            e, DASSIE_ECORRUPT,
            "the log lost its end: %llu operations were durable, "
            "%llu came back",
            (unsigned long long)mark, (unsigned long long)last);
    }
    return r->lax ? 0 : tables_check(r, e);
}

int dassie__rocks_gaps_end(struct kv_rocks *r, struct errmsg *e)
{
    static const char nobody[] = "gaps";
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    char *text = NULL;
    rocksdb_delete_cf(r->db, r->write_sync, r->families[FAMILY_META], nobody,
                      sizeof nobody, &text);
    if (text == NULL) {
        rocksdb_flush_cf(r->db, flush, r->families[FAMILY_META], &text);
    }
    rocksdb_flushoptions_destroy(flush);
    r->gaps = false;
    return text == NULL ? 0 : dassie__rocks_error(text, e);
}

/* ---- Without opening it ---- */

bool dassie__kv_rocks_used(const char *dir)
{
    char path[PATH_MAX];
    uint8_t mark[8] = {0};
    if (path_join(path, dir, "hwm") != 0) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = pread(fd, mark, sizeof mark, 0);
    close(fd);
    return n == (ssize_t)sizeof mark && get_be64(mark) > 0;
}

int dassie__kv_rocks_repair(const char *dir, struct errmsg *e)
{
    struct kv_rocks r = {.lax = true};
    char path[PATH_MAX];
    char *text = NULL;
    int rc = dassie__rocks_options(&r, e);
    if (rc == 0 && path_join(path, dir, "db") != 0) {
        rc = dassie__errmsg_set(e, UV_ENAMETOOLONG, "%s", dir);
    }
    if (rc == 0) {
        rc = dassie__tables_check(path, e);
    }
    if (rc == 0) {
        rocksdb_repair_db(r.options, path, &text);
        rc = text != NULL ? dassie__rocks_error(text, e) : 0;
    }
    rocksdb_options_destroy(r.options);
    return rc;
}
