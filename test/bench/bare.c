#include "config.h"

#include "bare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What Dassie gives to the block cache, which no options file holds. */
#define CACHE_BYTES (DASSIE_MEMORY_BYTES / 4 * 3 / 4)

static void check(char *text, const char *what)
{
    if (text != NULL) {
        fprintf(stderr, "bench: %s: %s\n", what, text);
        exit(1);
    }
}

static rocksdb_cache_t *cache_new(void)
{
    rocksdb_lru_cache_options_t *lru = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(lru, CACHE_BYTES);
    rocksdb_lru_cache_options_set_num_shard_bits(lru, 1);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(lru);
    rocksdb_lru_cache_options_destroy(lru);
    return cache;
}

/* Opens dir/db as the store like was opened. Families are kept in the order
 * in which they were made. */
static void open_like(struct bare *b, const char *dir, const char *like)
{
    char path[1024];
    char *text = NULL;
    rocksdb_options_t *options;
    rocksdb_options_t **each;
    char **names;
    size_t n;
    rocksdb_env_t *env = rocksdb_create_default_env();
    memset(b, 0, sizeof *b);
    b->cache = cache_new();
    snprintf(path, sizeof path, "%s/db", like);
    rocksdb_load_latest_options(path, env, false, b->cache, &options, &n,
                                &names, &each, &text);
    check(text, path);
    if (n != FAMILIES) {
        die("column families", UV_EINVAL);
    }
    rocksdb_options_set_create_if_missing(options, dir != like);
    rocksdb_options_set_create_missing_column_families(options, dir != like);
    snprintf(path, sizeof path, "%s/db", dir);
    b->db = rocksdb_open_column_families(
        options, path, (int)n, (const char *const *)names,
        (const rocksdb_options_t *const *)each, b->family, &text);
    check(text, path);
    rocksdb_load_latest_options_destroy(options, names, each, n);
    rocksdb_env_destroy(env);
    b->batch = rocksdb_writebatch_create();
    b->read = rocksdb_readoptions_create();
    b->no_sync = rocksdb_writeoptions_create();
    b->sync = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(b->sync, 1);
}

void bare_open(struct bare *b, const char *dir)
{
    open_like(b, dir, dir);
}

void bare_create(struct bare *b, const char *dir, const char *like)
{
    store_remove(dir);
    if (mkdir(dir, 0755) != 0) {
        die(dir, UV_EIO);
    }
    open_like(b, dir, like);
}

void bare_close(struct bare *b)
{
    for (int i = 0; i < FAMILIES; i++) {
        rocksdb_column_family_handle_destroy(b->family[i]);
    }
    rocksdb_close(b->db);
    rocksdb_cache_destroy(b->cache);
    rocksdb_writebatch_destroy(b->batch);
    rocksdb_writeoptions_destroy(b->sync);
    rocksdb_writeoptions_destroy(b->no_sync);
    rocksdb_readoptions_destroy(b->read);
}

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    dassie_close(q, NULL);
}

static void make_model(void *dir)
{
    uv_loop_t loop;
    dassie_t q;
    uv_loop_init(&loop);
    bench_open(&loop, &q, dir, NULL, on_open);
    uv_run(&loop, UV_RUN_DEFAULT);
}

void bare_model(const char *dir)
{
    char path[1024];
    snprintf(path, sizeof path, "%s", dir);
    in_child(make_model, path);
}

void bare_put2(struct bare *b, enum family family, const uint8_t *key,
               size_t key_len, const void *const value[2],
               const size_t value_len[2])
{
    const char *keys[1] = {(const char *)key};
    const char *values[2] = {value[0], value[1]};
    rocksdb_writebatch_putv_cf(b->batch, b->family[family], 1, keys, &key_len,
                               2, values, value_len);
    b->rows++;
    b->row_bytes += key_len + value_len[0] + value_len[1];
}

void bare_del(struct bare *b, enum family family, const void *key,
              size_t key_len)
{
    rocksdb_writebatch_delete_cf(b->batch, b->family[family], key, key_len);
    b->rows++;
    b->row_bytes += key_len;
}

void bare_del_range(struct bare *b, enum family family, const void *from,
                    const void *to, size_t key_len)
{
    rocksdb_writebatch_delete_range_cf(b->batch, b->family[family], from,
                                       key_len, to, key_len);
    b->rows++;
    b->row_bytes += 2 * key_len;
}

void bare_commit(struct bare *b, bool sync)
{
    char *text = NULL;
    rocksdb_write(b->db, sync ? b->sync : b->no_sync, b->batch, &text);
    check(text, "write");
    rocksdb_writebatch_clear(b->batch);
    b->commits++;
    b->fsyncs += sync;
}

void bare_stats(const struct bare *b, dassie_stats_t *stats)
{
    stats->rows = b->rows;
    stats->row_bytes = b->row_bytes;
    stats->commits = b->commits;
    stats->fsyncs = b->fsyncs;
}
