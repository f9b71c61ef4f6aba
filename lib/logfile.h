/* logfile.h: the format in which RocksDB writes its log and its MANIFEST.
 *
 * A file is blocks; a record that does not fit into the rest of one goes on in
 * the next, in parts that each have a sum.
 *
 * The happy path is: dassie__logfile_read() calls back for each record.
 *
 * Possible failure modes are: a file that cannot be read, no memory; a part
 * that is whole, but of a type that only newer versions of RocksDB write
 * (UV_ENOTSUP); parts that cannot be read are no failure, but noted: what
 * follows one in its block is passed over.
 *
 * On close: nothing is kept. Threads: any. */
#ifndef DASSIE_LOGFILE_H_
#define DASSIE_LOGFILE_H_

#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct logfile {
    const char *path;
    size_t keep; /* of each record as many bytes are kept, at the most */
    /* A record, and where its last part begins. Not 0 ends the reading. */
    int (*record)(void *arg, const uint8_t *p, size_t n, long at);
    void *arg;
    long torn_at; /* set: the first part that cannot be read, or -1; */
    long torn_n;  /* and how many there are */
};

int dassie__logfile_read(struct logfile *f, struct errmsg *e);

/* RocksDB writes its numbers with the lowest byte first. */
static inline uint64_t get_le(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << 8 * i;
    }
    return v;
}

#endif /* DASSIE_LOGFILE_H_ */
