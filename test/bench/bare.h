/* bare.h: RocksDB's C API with nothing between.
 *
 * A database is opened with the options that Dassie gave to one of its own: the
 * file in which RocksDB keeps them is read back. */
#ifndef BARE_H_
#define BARE_H_

#include <rocksdb/c.h>

#include "bench.h"
#include "key.h"

struct bare {
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family[FAMILIES];
    rocksdb_cache_t *cache;
    rocksdb_writebatch_t *batch;
    rocksdb_writeoptions_t *sync;
    rocksdb_writeoptions_t *no_sync;
    rocksdb_readoptions_t *read;
    uint64_t rows;
    uint64_t row_bytes;
    uint64_t commits;
    uint64_t fsyncs;
};

/* The database of the store dir, which is there; or a new one in dir with the
 * options of the store like. */
void bare_open(struct bare *b, const char *dir);
void bare_create(struct bare *b, const char *dir, const char *like);
void bare_close(struct bare *b);

/* Makes an empty store of Dassie's to take options from. */
void bare_model(const char *dir);

static inline void bare_put(struct bare *b, enum family family, const void *key,
                            size_t key_len, const void *value, size_t value_len)
{
    rocksdb_writebatch_put_cf(b->batch, b->family[family], key, key_len, value,
                              value_len);
    b->rows++;
    b->row_bytes += key_len + value_len;
}

void bare_put2(struct bare *b, enum family family, const uint8_t *key,
               size_t key_len, const void *const value[2],
               const size_t value_len[2]);
void bare_del(struct bare *b, enum family family, const void *key,
              size_t key_len);
void bare_del_range(struct bare *b, enum family family, const void *from,
                    const void *to, size_t key_len);
void bare_commit(struct bare *b, bool sync);
void bare_stats(const struct bare *b, dassie_stats_t *stats);

#endif /* BARE_H_ */
