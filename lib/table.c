#define _GNU_SOURCE /* memmem */
#include "config.h"

#include "table.h"

#include "alloc.h"
#include "dassie.h"
#include "varint.h"
#include "wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A table ends with the kind of its sums (1 byte), where its list of blocks is,
 * and its index (40 together), and what kind of file it is (12). The list has
 * the place of each block behind its name. */
#define FOOTER_BYTES 53
#define FOOTER_PLACES 1
#define FOOTER_PLACES_BYTES 40
#define LIST_BYTES_MAX 1024

/* A block ends with the number of its restarts, and in the highest bit whether
 * it has an index by hash. */
#define BLOCK_END_BYTES 4
#define BLOCK_HAS_HASH 0x80

static bool read_at(int fd, uint8_t *p, size_t n, uint64_t at)
{
    return at <= INT64_MAX && pread(fd, p, n, (off_t)at) == (ssize_t)n;
}

/* Where the properties are: false, that is not to be found. */
static bool properties_find(int fd, uint64_t *at, uint64_t *len)
{
    static const char name[] = "rocksdb.properties";
    uint8_t footer[FOOTER_BYTES];
    uint8_t list[LIST_BYTES_MAX];
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < FOOTER_BYTES ||
        !read_at(fd, footer, sizeof footer, (uint64_t)end - FOOTER_BYTES)) {
        return false;
    }
    struct part_reader r = {footer + FOOTER_PLACES,
                            footer + FOOTER_PLACES + FOOTER_PLACES_BYTES};
    if (varint_get(&r, at) != 0 || varint_get(&r, len) != 0 ||
        *len > sizeof list || !read_at(fd, list, *len, *at)) {
        return false;
    }
    const uint8_t *found = memmem(list, *len, name, sizeof name - 1);
    if (found == NULL) {
        return false;
    }
    r = (struct part_reader){found + sizeof name - 1, list + *len};
    return varint_get(&r, at) == 0 && varint_get(&r, len) == 0;
}

static bool properties_have_hash(const char *path)
{
    uint64_t at;
    uint64_t len;
    uint8_t end[BLOCK_END_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool has = properties_find(fd, &at, &len) && len >= sizeof end &&
               read_at(fd, end, sizeof end, at + len - sizeof end) &&
               (end[BLOCK_END_BYTES - 1] & BLOCK_HAS_HASH) != 0;
    close(fd);
    return has;
}

int dassie__tables_check(const char *dir, struct errmsg *e)
{
    char path[PATH_MAX + 32];
    uint64_t *numbers;
    size_t n;
    int rc = dassie__files_numbered(dir, ".sst", &numbers, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        snprintf(path, sizeof path, "%s/%06" PRIu64 ".sst", dir, numbers[i]);
        if (properties_have_hash(path)) {
            rc = dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                    "the properties of %06" PRIu64
                                    ".sst cannot be read",
                                    numbers[i]);
        }
    }
    dassie__free(numbers);
    return rc;
}
