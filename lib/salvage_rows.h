/* salvage_rows.h: all rows that can be read of a damaged database.
 *
 * See salvage.h. Rows are put into another database, unsynced. Threads: the
 * engine. */
#ifndef DASSIE_SALVAGE_ROWS_H_
#define DASSIE_SALVAGE_ROWS_H_

#include "kv.h"

struct salvage_rows {
    const char *db;      /* the damaged database; its files are only read */
    const char *work;    /* a directory to work in, which is there */
    size_t memory_bytes; /* for a database */
    uint64_t mark;       /* what was durable */
    struct kv *to;
    void (*tell)(void *arg, const char *line);
    void *arg;
    uint64_t rows;   /* set: rows that were read */
    uint64_t logged; /* the last operation that was applied of the log, or of
                        tables of which the MANIFEST knows */
    uint64_t newest; /* the log that goes on after those, or 0 */
    struct errmsg *e;
};

/* Fails only for reasons that have nothing to do with the damage. */
int dassie__salvage_rows(struct salvage_rows *s);

void dassie__salvage_tell(const struct salvage_rows *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Applies the log files of a directory to s->to. */
int dassie__salvage_log(struct salvage_rows *s);

/* Removes a directory with all that is in it; fine if there is none. */
int dassie__remove_all(const char *path);

#endif /* DASSIE_SALVAGE_ROWS_H_ */
