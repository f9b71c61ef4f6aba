/* varint.h: the numbers that rows are made of.
 *
 * A number takes seven bits a byte, the lowest first; the highest bit says that
 * more follow. Signed ones are folded: 0, -1, 1, -2, ... A reader ends at the
 * last byte of its row, and -1 is a row that nobody writes.
 *
 * This is the format on disk: if you change it, raise the version of records,
 * keep the old reader and add a golden store. Threads: any. */
#ifndef DASSIE_VARINT_H_
#define DASSIE_VARINT_H_

#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX 10 /* bytes */

/* What is left of a row. */
struct part_reader {
    const uint8_t *p;
    const uint8_t *end;
};

static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline int varint_get(struct part_reader *r, uint64_t *v)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end) {
            return -1;
        }
        uint8_t byte = *r->p++;
        if (shift == 63 && byte > 1) {
            return -1;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *v = value;
            return 0;
        }
    }
    return -1;
}

static inline int varint_get32(struct part_reader *r, uint32_t *v)
{
    uint64_t wide;
    if (varint_get(r, &wide) != 0 || wide > UINT32_MAX) {
        return -1;
    }
    *v = (uint32_t)wide;
    return 0;
}

static inline int byte_get(struct part_reader *r, uint8_t *v)
{
    if (r->p == r->end) {
        return -1;
    }
    *v = *r->p++;
    return 0;
}

static inline uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline int zigzag_get32(struct part_reader *r, int *v)
{
    uint64_t wide;
    if (varint_get(r, &wide) != 0) {
        return -1;
    }
    int64_t value = unzigzag(wide);
    if (value < INT32_MIN || value > INT32_MAX) {
        return -1;
    }
    *v = (int)value;
    return 0;
}

static inline size_t varint_bytes(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7) {
        n++;
    }
    return n;
}

#endif /* DASSIE_VARINT_H_ */
