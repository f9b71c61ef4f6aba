/* replay.h: what a trace says of a file system, up to a point.
 *
 * A file has two contents: as it is (which a killed process leaves), and as it
 * was synced last. There are two tables of names as well: as they are, and
 * those that an fsync of their directory made durable; between them lie the
 * changes of names still under way, in their order.
 *
 * A sync that failed has dropped its pages, as Linux does: they stay as they
 * are in memory, but no later sync writes them, unless they were written anew.
 *
 * The happy path is: replay_open(), then replay_step() for each record.
 *
 * Possible failure modes are: a trace that is cut short or does not fit
 * together ends the program.
 *
 * Threads: one. Processes: forks share what was read. */
#ifndef DASSIE_TEST_CRASH_REPLAY_H_
#define DASSIE_TEST_CRASH_REPLAY_H_

#include "trace.h"

#include <stdbool.h>
#include <stddef.h>

#define PAGE_BYTES 4096u
#define NAME_MAX_BYTES 120
#define PAST_MAX 8

struct bytes {
    unsigned char *p;
    size_t len;
    size_t room;
};

struct file {
    struct bytes now;
    struct bytes synced;
    struct bytes dropped; /* a byte a page: a failed sync has dropped it */
    struct bytes past[PAST_MAX]; /* of mapped memory since its last sync */
    unsigned moments;            /* so many since then */
    bool mapped;
    bool dir;
};

struct name {
    char path[NAME_MAX_BYTES];
    unsigned file;
};

struct names {
    struct name *name; /* in no order */
    size_t n;
    size_t room;
};

/* A change of names. */
struct change {
    char from[NAME_MAX_BYTES]; /* this goes, if it is not "" */
    char to[NAME_MAX_BYTES];   /* this comes, if it is not "" */
    unsigned file;
};

struct replay {
    const unsigned char *trace;
    size_t len;
    size_t at; /* the next record */
    const struct trace_record *last;
    long point; /* how many records were replayed */
    char boot_id[64];
    struct file *files;
    unsigned files_n;
    unsigned *file_of; /* a trace's number of a file */
    unsigned file_of_n;
    struct names now;
    struct names durable;
    struct change *changes; /* that are not durable */
    size_t changes_n;
    size_t changes_room;
};

/* Ends the program. */
void replay_fail(const char *what) __attribute__((noreturn));

void replay_open(struct replay *r, const char *trace);

/* Replays one record; false: there is none. */
bool replay_step(struct replay *r);

/* Whether something may end here. */
bool replay_is_point(const struct replay *r);

/* The file of a name, or NULL. */
struct file *replay_find(const struct replay *r, const char *path);

void names_change(struct names *names, const struct change *change);
void names_copy(struct names *to, const struct names *from);

/* Room for n bytes, zeros beyond those that were there. */
void bytes_grow(struct bytes *b, size_t n);
void bytes_copy(struct bytes *to, const struct bytes *from);

/* A page of b, or the part of it that is there. */
size_t page_bytes(const struct bytes *b, size_t at);
bool page_same(const struct bytes *a, const struct bytes *b, size_t at);

#endif /* DASSIE_TEST_CRASH_REPLAY_H_ */
