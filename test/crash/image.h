/* image.h: the directory that a kill or a power cut leaves at a point.
 *
 *   k  a kill: all that was written is there, mapped memory too
 *   s  a power cut, strict POSIX: only what was synced, and only names that an
 *      fsync of their directory made durable
 *   m  a power cut on a file system with a journal for metadata: all names,
 *      but of files only what was synced
 *   z  as m, with the sizes that files had: what was not synced reads as zeros
 *   t  as m, and of what was not synced a first part is there: any of it at the
 *      end of a file, whole sectors (as disks write them) within
 *   r  as m, and any pages of what was not synced are there, files have any
 *      size in between, and of the changes of names not yet durable the first
 *      ones have happened
 *
 * Two more are for the test of the tests, and have to be noticed:
 *
 *   i  as k, but mapped memory is older
 *   b  as m, but nobody could tell that the machine was booted since
 *
 * In a power cut mapped memory comes back as it was synced, as it was at some
 * time since, or with some sectors of the one and some of the other; and where
 * commits are synced, so that nothing may depend on it, also as zeros.
 *
 * The ledger is outside of it all, and always as it was. After a power cut it
 * says so (ledger.h: cuts).
 *
 * The happy path is: image_make() in memory, image_write() to a directory.
 * Everything follows from point, variant and seed.
 *
 * Possible failure modes are: a directory that cannot be written ends the
 * program. Threads: one. */
#ifndef DASSIE_TEST_CRASH_IMAGE_H_
#define DASSIE_TEST_CRASH_IMAGE_H_

#include "replay.h"

#define LEDGER_NAME "ledger"
#define VARIANTS_POWER "smztr"

struct image_entry {
    char path[NAME_MAX_BYTES];
    struct bytes content;
    bool dir;
};

struct image {
    char variant;
    uint64_t random;
    struct names names;
    struct image_entry *entry; /* by path: directories come first */
    size_t n;
    size_t room;
};

void image_make(struct image *image, const struct replay *r, char variant,
                unsigned seed);

/* Images with one hash are checked once. */
uint64_t image_hash(const struct image *image);

/* Replaces what is in the directory. */
void image_write(const struct image *image, const char *dir);

/* Whether the image is what is in the directory; tells what is not. */
bool image_compare(const struct image *image, const char *dir);

#endif /* DASSIE_TEST_CRASH_IMAGE_H_ */
