/* damage.h: the files of a store, and what may befall them.
 *
 * A function that cannot do its work ends the program with status 3. Threads:
 * one. */
#ifndef DASSIE_TEST_CRASH_DAMAGE_H_
#define DASSIE_TEST_CRASH_DAMAGE_H_

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_FILES_MAX 256

/* What a file of a store is. */
enum file_kind {
    FILE_FORMAT,
    FILE_LOCK,
    FILE_HWM,
    FILE_INFLIGHT,
    FILE_CURRENT,
    FILE_MANIFEST,
    FILE_OPTIONS,
    FILE_IDENTITY,
    FILE_WAL,
    FILE_SST,
    FILE_OTHER, /* RocksDB's own lock and log */
    FILE_KINDS
};
extern const char *const file_kind_names[FILE_KINDS];

enum damage {
    DAMAGE_FLIP,    /* one bit */
    DAMAGE_CUT,     /* the end is gone */
    DAMAGE_ZERO,    /* 4 KiB of zeros */
    DAMAGE_GONE,    /* there is no file */
    DAMAGE_APPEND,  /* garbage behind the end */
    DAMAGE_OLD,     /* what the file, or one of its kind, held before */
    DAMAGE_RECORDS, /* the last records are gone: MANIFEST and log */
    DAMAGES
};
extern const char *const damage_names[DAMAGES];

struct store_file {
    char name[64]; /* below the store's directory */
    enum file_kind kind;
    size_t len;
};

struct store_files {
    struct store_file file[STORE_FILES_MAX];
    unsigned n;
};

/* Numbers from a seed. */
uint64_t dice(uint64_t *seed, uint64_t sides);

/* Lists the files of the store in dir, by name. */
void files_list(struct store_files *files, const char *dir);

/* Copies a directory with all below it; to is removed first. */
void dir_copy(const char *from, const char *to);
void dir_remove(const char *path);
void file_copy(const char *from, const char *to);

/* Damages a file of the store in dir; old is an older state of that store.
 * False: there is nothing there to be damaged in that way. */
bool damage_do(const char *dir, const char *old, const struct store_file *file,
               enum damage damage, uint64_t *seed);

#endif /* DASSIE_TEST_CRASH_DAMAGE_H_ */
