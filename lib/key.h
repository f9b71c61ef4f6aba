/* key.h: how keys are laid out on disk.
 *
 * All integers are big-endian, so that bytes sort as numbers; a priority is
 * stored as its value xor 0x80. doc/dassie_format.7 is the same in words.
 * If you change this, raise the format version, keep the old reader and add a
 * golden store. Pure; threads: any. */
#ifndef DASSIE_KEY_H_
#define DASSIE_KEY_H_

#include <stddef.h>
#include <stdint.h>

/* The column families, in the order in which they are opened. */
enum family {
    FAMILY_META,
    FAMILY_COMMITS,
    FAMILY_JOBS,
    FAMILY_PENDING,
    FAMILY_SCHEDULED,
    FAMILY_RUNNING,
    FAMILY_COMPLETE,
    FAMILY_FAILED,
    FAMILY_CANCELLED,
    FAMILY_HISTORY,
    FAMILY_UNIQUE,
    FAMILIES
};

/* Their names on disk. */
extern const char *const dassie__family_names[FAMILIES];

/* Which of the three lines of a (queue, priority) a pending job stands in.
 * Suspects wait to run alone; the front line holds jobs that were claimed
 * before and is served ahead of the normal one. */
enum line_kind { LINE_SUSPECT, LINE_FRONT, LINE_NORMAL, LINE_KINDS };

/* Where a job waits that is not in a line but scheduled; after the lines. */
#define PLACE_SCHEDULED LINE_KINDS

/* What a row of the scheduled family is for. */
enum due_kind {
    DUE_JOB,    /* a job that waits for its time */
    DUE_KEY,    /* the time is over for which a job holds its unique key */
    DUE_EXPIRY, /* it is too late to start a job */
    DUE_KINDS
};

#define KEY_NUMBER_BYTES 8
#define KEY_PENDING_BYTES 14
#define KEY_QUEUE_BYTES 5
#define KEY_DUE_BYTES 17
#define KEY_SAVE_BYTES 9
#define KEY_UNIQUE_MAX (4 + 255)
#define KEY_BYTES_MAX KEY_UNIQUE_MAX

/* The rows of the running family that are not claim sets begin with this, after
 * all of those. */
#define KEY_SAVE_TAG 0xff

/* Keys of the meta family: the store's row, and up to three rows of each
 * queue. */
#define KEY_STORE "s"
#define KEY_NAME_TAG 'n'
#define KEY_COUNTS_TAG 'q'
#define KEY_SETTINGS_TAG 'c'

static inline void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static inline void put_be64(uint8_t *p, uint64_t v)
{
    put_be32(p, (uint32_t)(v >> 32));
    put_be32(p + 4, (uint32_t)v);
}

static inline uint64_t get_be64(const uint8_t *p)
{
    return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

/* Where a pending job stands. */
struct place {
    uint32_t queue;
    int8_t priority;
    uint8_t kind; /* enum line_kind */
    uint64_t position;
};

/* When something is due. */
struct due {
    uint64_t ms;  /* wall clock */
    uint64_t id;  /* of the job that it is about */
    uint8_t kind; /* enum due_kind */
};

/* Families keyed by one number: jobs, complete, failed, cancelled and history
 * by job id, commits and running by commit number. */
void dassie__key_number(uint8_t key[KEY_NUMBER_BYTES], uint64_t number);
int dassie__key_parse_number(const uint8_t *key, size_t len, uint64_t *number);

void dassie__key_pending(uint8_t key[KEY_PENDING_BYTES],
                         const struct place *place);
int dassie__key_parse_pending(const uint8_t *key, size_t len,
                              struct place *place);

void dassie__key_due(uint8_t key[KEY_DUE_BYTES], const struct due *due);
int dassie__key_parse_due(const uint8_t *key, size_t len, struct due *due);

/* What a job has saved, in the running family. */
void dassie__key_save(uint8_t key[KEY_SAVE_BYTES], uint64_t id);
int dassie__key_parse_save(const uint8_t *key, size_t len, uint64_t *id);

/* A unique key of a queue, of 1 to 255 bytes: returns the length. */
size_t dassie__key_unique(uint8_t key[KEY_UNIQUE_MAX], uint32_t queue,
                          const uint8_t *unique, size_t len);
int dassie__key_parse_unique(const uint8_t *key, size_t len, uint32_t *queue);

void dassie__key_queue(uint8_t key[KEY_QUEUE_BYTES], char tag, uint32_t queue);
int dassie__key_parse_queue(const uint8_t *key, size_t len, char *tag,
                            uint32_t *queue);

/* The parsers return 0, or -1 for what no writer makes. */

#endif /* DASSIE_KEY_H_ */
