/* temp_dir.h: a directory for one test, and what stands in it.
 *
 * It is made below $TMPDIR, or /tmp. Threads: one. */
#ifndef DASSIE_TEST_TEMP_DIR_H_
#define DASSIE_TEST_TEMP_DIR_H_

#include <check.h>

#include "tree.h"

#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMP_PATH_BYTES (PATH_MAX / 2)

static inline void temp_dir_make(char path[TEMP_PATH_BYTES])
{
    const char *parent = getenv("TMPDIR");
    int n = snprintf(path, TEMP_PATH_BYTES, "%s/dassie-XXXXXX",
                     parent != NULL ? parent : "/tmp");
    ck_assert_int_lt(n, TEMP_PATH_BYTES);
    ck_assert_ptr_nonnull(mkdtemp(path));
}

static inline void temp_dir_remove(const char *path)
{
    ck_assert_int_eq(tree_remove(path), 0);
}

static inline void temp_path(char path[PATH_MAX], const char *dir,
                             const char *name)
{
    ck_assert_int_lt(snprintf(path, PATH_MAX, "%s/%s", dir, name), PATH_MAX);
}

static inline void temp_file_write(const char *dir, const char *name,
                                   const void *bytes, size_t len)
{
    char path[PATH_MAX];
    temp_path(path, dir, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

/* ---- A digest of all that stands in a directory ---- */

static struct {
    uint64_t sum;
    size_t root_len;
    const char *except;
} temp_digest;

static inline uint64_t temp_digest_bytes(uint64_t hash, const void *bytes,
                                         size_t len)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static inline int temp_digest_one(const char *path, const struct stat *st,
                                  int type, struct FTW *ftw)
{
    static char block[65536];
    const char *name = path + temp_digest.root_len;
    (void)ftw;
    if (temp_digest.except != NULL && strcmp(name, temp_digest.except) == 0) {
        return 0;
    }
    uint64_t hash =
        temp_digest_bytes(UINT64_C(0xcbf29ce484222325), name, strlen(name));
    hash = temp_digest_bytes(hash, &st->st_mode, sizeof st->st_mode);
    if (type == FTW_F) {
        size_t n;
        FILE *file = fopen(path, "r");
        ck_assert_ptr_nonnull(file);
        while ((n = fread(block, 1, sizeof block, file)) > 0) {
            hash = temp_digest_bytes(hash, block, n);
        }
        fclose(file);
    }
    temp_digest.sum += hash;
    return 0;
}

/* Names, modes and bytes of everything below path but for the file except
 * ("/lock"), which may be NULL. */
static inline uint64_t temp_dir_digest(const char *path, const char *except)
{
    temp_digest.sum = 0;
    temp_digest.root_len = strlen(path);
    temp_digest.except = except;
    ck_assert_int_eq(nftw(path, temp_digest_one, 16, FTW_PHYS), 0);
    return temp_digest.sum;
}

/* ---- Copies ---- */

static size_t temp_copy_from_len;
static const char *temp_copy_to;

static inline void temp_copy_file(const char *from, const char *to)
{
    static char block[65536];
    size_t n;
    FILE *in = fopen(from, "r");
    FILE *out = fopen(to, "w");
    ck_assert(in != NULL && out != NULL);
    while ((n = fread(block, 1, sizeof block, in)) > 0) {
        ck_assert_uint_eq(fwrite(block, 1, n, out), n);
    }
    fclose(in);
    ck_assert_int_eq(fclose(out), 0);
}

static inline int temp_copy_one(const char *path, const struct stat *st,
                                int type, struct FTW *ftw)
{
    char to[PATH_MAX];
    (void)st;
    (void)ftw;
    snprintf(to, sizeof to, "%s%s", temp_copy_to, path + temp_copy_from_len);
    if (type == FTW_D) {
        ck_assert_int_eq(mkdir(to, 0755), 0);
    } else {
        temp_copy_file(path, to);
    }
    return 0;
}

/* Puts a copy of the directory from where to was, or nothing. */
static inline void temp_dir_copy(const char *from, const char *to)
{
    if (access(to, F_OK) == 0) {
        temp_dir_remove(to);
    }
    temp_copy_from_len = strlen(from);
    temp_copy_to = to;
    ck_assert_int_eq(nftw(from, temp_copy_one, 16, FTW_PHYS), 0);
}

#endif /* DASSIE_TEST_TEMP_DIR_H_ */
