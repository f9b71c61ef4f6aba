/* env.h: what the library knows of the world around it.
 *
 * Clocks, the boot id, free disk space and randomness come through one table,
 * so that a test can replace them. Stored times are wall-clock milliseconds;
 * intervals in memory are monotonic nanoseconds. Threads: any; a test replaces
 * entries before it opens a queue. */
#ifndef DASSIE_ENV_H_
#define DASSIE_ENV_H_

#include <stdbool.h>
#include <stdint.h>

#define BOOT_ID_BYTES 16

struct env {
    uint64_t (*wall_ms)(void); /* ms since 1970 */
    uint64_t (*mono_ns)(void); /* ns since some moment; never goes back */
    /* Which boot of the machine this is. Zeros when nobody knows, which never
     * compares equal. */
    void (*boot_id)(uint8_t id[BOOT_ID_BYTES]);
    /* Bytes free below path, or UINT64_MAX when nobody knows. */
    uint64_t (*free_bytes)(const char *path);
    /* Any 64 bits, others each time. */
    uint64_t (*random)(void);
    /* Whether a page of the mapped file fd needs new disk space each time it
     * is written to, allocated or not: without room that store is a SIGBUS. */
    bool (*copies_on_write)(int fd);
};

extern struct env dassie__env;

#endif /* DASSIE_ENV_H_ */
