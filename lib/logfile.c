#include "config.h"

#include "logfile.h"

#include "alloc.h"
#include "dassie.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* A part has a header: sum (4 bytes), length (2), type (1), and the number of
 * the file (4) if it may be recycled. */
#define BLOCK_BYTES 32768
#define HEADER_BYTES 7
#define HEADER_BYTES_RECYCLED 11

enum part { ZERO, FULL, FIRST, MIDDLE, LAST, RECYCLED };

struct log_reader {
    struct logfile *f;
    struct errmsg *e;
    bool inside; /* a record has begun, and not ended */
    uint8_t *record;
    size_t len;
    size_t room;
    uint8_t block[BLOCK_BYTES];
};

/* ---- CRC-32C ---- */

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_setup(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        }
        crc_table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int t = 1; t < 8; t++) {
            uint32_t crc = crc_table[t - 1][i];
            crc_table[t][i] = crc >> 8 ^ crc_table[0][crc & 0xff];
        }
    }
}

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 |
           p[0];
}

/* Eight bytes a step. */
static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t a = get_le32(p) ^ crc;
        uint32_t b = get_le32(p + 4);
        crc = crc_table[7][a & 0xff] ^ crc_table[6][a >> 8 & 0xff] ^
              crc_table[5][a >> 16 & 0xff] ^ crc_table[4][a >> 24] ^
              crc_table[3][b & 0xff] ^ crc_table[2][b >> 8 & 0xff] ^
              crc_table[1][b >> 16 & 0xff] ^ crc_table[0][b >> 24];
    }
    for (; n > 0; n--, p++) {
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
    }
    return ~crc;
}

/* Sums are stored rotated and moved. */
static bool sum_is(const uint8_t *stored, const uint8_t *p, size_t n)
{
    uint32_t crc = crc32c(p, n);
    return get_le32(stored) == (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- Records ---- */

static void torn(struct log_reader *r, long at)
{
    r->inside = false;
    r->f->torn_n++;
    if (r->f->torn_at < 0) {
        r->f->torn_at = at;
    }
}

static int record_add(struct log_reader *r, const uint8_t *p, size_t n)
{
    size_t most = r->f->keep - r->len;
    n = n < most ? n : most;
    if (r->len + n > r->room) {
        size_t room = 2 * (r->len + n);
        uint8_t *more = dassie__realloc(r->record, room);
        if (more == NULL) {
            return dassie__errmsg_set(r->e, UV_ENOMEM, "out of memory");
        }
        r->record = more;
        r->room = room;
    }
    if (n > 0) {
        memcpy(r->record + r->len, p, n);
        r->len += n;
    }
    return 0;
}

static int part_seen(struct log_reader *r, int part, const uint8_t *p, size_t n,
                     long at)
{
    bool ends = part == FULL || part == LAST;
    if (part == FULL || part == FIRST) {
        r->len = 0;
    } else if (!r->inside) {
        torn(r, at);
        return 0;
    }
    int rc = record_add(r, p, n);
    r->inside = !ends;
    return rc == 0 && ends ? r->f->record(r->f->arg, r->record, r->len, at)
                           : rc;
}

static const char *file_name(const struct log_reader *r)
{
    const char *name = strrchr(r->f->path, '/');
    return name != NULL ? name + 1 : r->f->path;
}

/* What no version up to 7.8 reads, or this one does not: a compressed log, say.
 * Some have the number of the file in their headers, some do not. */
static bool is_newer(const uint8_t *p, size_t n, size_t len)
{
    return (HEADER_BYTES + len <= n && sum_is(p, p + 6, 1 + len)) ||
           (HEADER_BYTES_RECYCLED + len <= n && sum_is(p, p + 6, 5 + len));
}

static int newer(struct log_reader *r, int part, long at)
{
    return dassie__errmsg_set(r->e, UV_ENOTSUP,
                              "%s: a record of type %d at byte %ld: a newer "
                              "RocksDB wrote it",
                              file_name(r), part, at);
}

static int block_seen(struct log_reader *r, size_t n, long at)
{
    size_t i = 0;
    while (i + HEADER_BYTES <= n) {
        const uint8_t *p = r->block + i;
        size_t len = (size_t)p[4] | (size_t)p[5] << 8;
        int part = p[6];
        size_t header = part >= RECYCLED ? HEADER_BYTES_RECYCLED : HEADER_BYTES;
        if (part == ZERO && len == 0) {
            break; /* room that was taken ahead */
        }
        if (part >= RECYCLED + LAST && is_newer(p, n - i, len)) {
            return newer(r, part, at + (long)i);
        }
        if (part == ZERO || part >= RECYCLED + LAST || i + header + len > n ||
            !sum_is(p, p + 6, header - 6 + len)) {
            torn(r, at + (long)i);
            break;
        }
        part = part >= RECYCLED ? part - LAST : part;
        int rc = part_seen(r, part, p + header, len, at + (long)i);
        if (rc != 0) {
            return rc;
        }
        i += header + len;
    }
    return 0;
}

/* ---- The file ---- */

static int sys_error(struct log_reader *r, int error)
{
    int rc = dassie__sys_code(error);
    return dassie__errmsg_set(r->e, error == ENOENT ? DASSIE_ECORRUPT : rc,
                              "read %s: %s", file_name(r), dassie_strerror(rc));
}

static int blocks_read(struct log_reader *r, int fd)
{
    long at = 0;
    for (;;) {
        size_t have = 0;
        ssize_t n = 1;
        while (have < BLOCK_BYTES && n > 0) {
            n = read(fd, r->block + have, BLOCK_BYTES - have);
            if (n < 0) {
                return sys_error(r, errno);
            }
            have += (size_t)n;
        }
        int rc = block_seen(r, have, at);
        if (rc != 0 || have < BLOCK_BYTES) {
            return rc;
        }
        at += (long)have;
    }
}

int dassie__logfile_read(struct logfile *f, struct errmsg *e)
{
    pthread_once(&crc_once, crc_setup);
    f->torn_at = -1;
    f->torn_n = 0;
    struct log_reader *r = dassie__calloc(1, sizeof *r);
    if (r == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    r->f = f;
    r->e = e;
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? sys_error(r, errno) : blocks_read(r, fd);
    if (fd >= 0) {
        close(fd);
    }
    dassie__free(r->record);
    dassie__free(r);
    return rc;
}
