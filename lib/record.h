/* record.h: how values are laid out on disk.
 *
 * Every value starts with a version byte (RECORD_VERSION); an empty pending
 * row is the one exception. Numbers are variable-length (seven bits a byte,
 * lowest first) unless a fixed width is stated. Integrity of the bytes is
 * RocksDB's: it checksums every block and log record.
 * doc/dassie_format.7 is the same in words. If you change this, raise the
 * format version, keep the old reader and add a golden store.
 *
 * Readers check every length and return -1 for what no writer makes; they
 * point into the value they were given. Writers are given enough room (the
 * _MAX constants). Pure; threads: any. */
#ifndef DASSIE_RECORD_H_
#define DASSIE_RECORD_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "key.h"
#include "varint.h"

#define RECORD_VERSION 1

/* What a job may have been given beyond a name and a payload. 0: it was not.
 * On disk: a mask of those that follow, then each of them, then the length of
 * the unique key (1 byte) and the key if there is one. */
enum job_number {
    JOB_DUE,         /* not before, wall clock */
    JOB_ATTEMPTS,    /* at the most */
    JOB_BACKOFF,     /* ms before the second attempt */
    JOB_BACKOFF_MAX, /* ms */
    JOB_RETRY_FOR,   /* ms after the enqueue, or since an operator had it tried
                        again, in which a retry may begin */
    JOB_TIMEOUT,     /* ms of one run */
    JOB_EXPIRE,      /* ms after it is due in which it may begin */
    JOB_UNIQUE,      /* until when its key is held */
    JOB_UNIQUE_FOR,  /* ms */
    JOB_NUMBERS
};
struct job_options {
    uint64_t number[JOB_NUMBERS];
    const uint8_t *key;
    size_t key_len; /* up to 255 */
};
#define JOB_OPTIONS_MAX ((1 + JOB_NUMBERS) * VARINT_MAX + 1 + 255)
/* 0 if none is set. */
size_t dassie__job_options_bytes(const struct job_options *options);

/* jobs: version, flags, priority xor 0x80, length of the name, queue (4 bytes),
 * enqueued_ms (8 bytes), name, a zero byte, options if JOB_ROW_OPTIONS is among
 * the flags, payload. Fixed widths, as the thread that enqueues writes the row
 * and the engine fills in the queue. JOB_ROW_DROPPED: it is complete, and that
 * has taken its payload. */
#define JOB_ROW_QUEUE_AT 4
#define JOB_ROW_NAME_AT 16
#define JOB_ROW_OPTIONS 0x80 /* never in the flags of a struct job_row */
#define JOB_ROW_DROPPED 0x40 /* so, too */
struct job_row {
    uint8_t flags;
    bool dropped;
    int8_t priority;
    uint32_t queue;
    uint64_t enqueued_ms;
    const char *name;
    size_t name_len;
    const uint8_t *data;
    size_t data_len;
    struct job_options options;
};
/* Without options. */
size_t dassie__job_row_bytes(size_t name_len, size_t data_len);
void dassie__job_row_write(uint8_t *row, const struct job_row *job);
int dassie__job_row_read(const uint8_t *row, size_t len, struct job_row *job);

/* When the job could run first. */
static inline uint64_t job_row_ready_ms(const struct job_row *row)
{
    uint64_t due_ms = row->options.number[JOB_DUE];
    return due_ms > row->enqueued_ms ? due_ms : row->enqueued_ms;
}

/* pending: empty for a fresh job, whose position is its id; else version, id,
 * attempts. */
#define PENDING_ROW_MAX (1 + 2 * VARINT_MAX)
struct pending_row {
    uint64_t id;
    uint32_t attempts;
};
size_t dassie__pending_row_write(uint8_t *row,
                                 const struct pending_row *pending);
int dassie__pending_row_read(const uint8_t *row, size_t len, uint64_t position,
                             struct pending_row *pending);

/* running: version, then for each job claimed in that commit the distance of
 * its id from the last one (zigzag) and the number of the run. */
#define CLAIM_ENTRY_MAX (2 * VARINT_MAX)
struct claim_entry {
    uint64_t id;
    uint32_t attempt;
};
size_t dassie__claim_set_begin(uint8_t *set);
size_t dassie__claim_set_add(uint8_t *set, size_t len, uint64_t last_id,
                             const struct claim_entry *entry);
struct claim_reader {
    const uint8_t *p;
    const uint8_t *end;
    uint64_t last_id;
};
int dassie__claim_set_open(struct claim_reader *r, const uint8_t *set,
                           size_t len);
/* 1: *entry is the next one; 0: no more; -1: damaged. */
int dassie__claim_set_next(struct claim_reader *r, struct claim_entry *entry);

/* complete, failed, cancelled: version, ended_ms, attempts, crashes, code
 * (zigzag), then the result or the error's text. */
#define END_ROW_HEAD_MAX (1 + 4 * VARINT_MAX)
struct end_row {
    uint64_t ended_ms;
    uint32_t attempts;
    uint32_t crashes;
    int code;
    const uint8_t *data;
    size_t data_len;
};
/* Writes all but the data; returns where the data belongs. */
size_t dassie__end_row_write_head(uint8_t *row, const struct end_row *end);
int dassie__end_row_read(const uint8_t *row, size_t len, struct end_row *end);

/* history: version, attempts, excused, crashes, last_run, kind, position, code
 * (zigzag), since if HISTORY_SINCE is in the kind, then the text of the last
 * error. What became of a job that has moved since its enqueue other than to
 * its first run and its end. */
#define HISTORY_ROW_HEAD_MAX (2 + 7 * VARINT_MAX)
#define HISTORY_SINCE 0x80 /* never in the kind of a struct history_row */
struct history_row {
    uint32_t attempts;
    uint32_t excused; /* of them, those that do not count against the most */
    uint32_t crashes;
    uint64_t last_run;    /* commit of the last claim that ended unfinished */
    uint8_t kind;         /* the line it went to, or PLACE_SCHEDULED */
    uint64_t position;    /* and where in it, or when it is due */
    int code;             /* of the last failed attempt, */
    const uint8_t *error; /* and its text */
    size_t error_len;
    uint64_t since_ms; /* when an operator had it tried again, or 0 */
};
/* Writes all but the text; returns where that belongs. */
size_t dassie__history_row_write_head(uint8_t *row,
                                      const struct history_row *history);
int dassie__history_row_read(const uint8_t *row, size_t len,
                             struct history_row *history);

/* running, what a job has saved: version, done, total, length of the text (1
 * byte), text, then the checkpoint. */
#define SAVE_ROW_HEAD_MAX (2 + 2 * VARINT_MAX + 255)
struct save_row {
    uint64_t done;
    uint64_t total;
    const char *text;
    size_t text_len; /* up to 255 */
    const uint8_t *data;
    size_t data_len;
};
/* Writes all but the checkpoint; returns where that belongs. */
size_t dassie__save_row_write_head(uint8_t *row, const struct save_row *save);
int dassie__save_row_read(const uint8_t *row, size_t len,
                          struct save_row *save);

/* scheduled, a job: version, queue, priority xor 0x80, attempts, 1 if it has a
 * history row, and the bytes of its row in jobs. */
#define DUE_ROW_MAX (3 + 3 * VARINT_MAX)
struct due_row {
    uint32_t queue;
    int8_t priority;
    uint32_t attempts;
    bool history;
    uint64_t bytes;
};
size_t dassie__due_row_write(uint8_t *row, const struct due_row *due);
int dassie__due_row_read(const uint8_t *row, size_t len, struct due_row *due);

/* unique: version, id, until when the key is held (1 byte), and the end of that
 * for UNTIL_TIME, else 0. */
#define UNIQUE_ROW_MAX (2 + 2 * VARINT_MAX)
struct unique_row {
    uint64_t id;
    uint8_t until;       /* dassie_until_t */
    uint64_t expires_ms; /* wall clock */
};
#define UNTIL_KINDS 3
size_t dassie__unique_row_write(uint8_t *row, const struct unique_row *unique);
int dassie__unique_row_read(const uint8_t *row, size_t len,
                            struct unique_row *unique);

/* scheduled, the end of a time for which a key is held: version, then the key
 * of its row in the unique family. */
#define TIMER_ROW_MAX (1 + KEY_UNIQUE_MAX)
size_t dassie__timer_row_write(uint8_t *row, const uint8_t *key, size_t len);
int dassie__timer_row_read(const uint8_t *row, size_t len, const uint8_t **key,
                           size_t *key_len);

/* meta, a queue's name: version, name. */
#define NAME_ROW_MAX (1 + 255)
size_t dassie__name_row_write(uint8_t *row, const char *name, size_t len);
int dassie__name_row_read(const uint8_t *row, size_t len, const char **name,
                          size_t *name_len);

/* meta, a queue's settings: version, then those below in their order. 0: the
 * default. */
enum setting {
    SETTING_PAUSED,
    SETTING_ATTEMPTS,
    SETTING_BACKOFF,
    SETTING_BACKOFF_MAX,
    SETTING_KEEP_COMPLETE, /* ms, jobs, bytes */
    SETTING_KEEP_FAILED = SETTING_KEEP_COMPLETE + 3,
    SETTING_KEEP_CANCELLED = SETTING_KEEP_FAILED + 3,
    SETTING_DROP_PAYLOAD = SETTING_KEEP_CANCELLED + 3,
    SETTINGS
};
#define SETTINGS_ROW_MAX (1 + SETTINGS * VARINT_MAX)
struct settings_row {
    uint64_t number[SETTINGS];
};
size_t dassie__settings_row_write(uint8_t *row,
                                  const struct settings_row *settings);
int dassie__settings_row_read(const uint8_t *row, size_t len,
                              struct settings_row *settings);

/* How many jobs of a queue are in each state, the bytes of the rows in jobs of
 * those that are pending, and of all rows of those that have ended. */
struct tally {
    uint64_t pending;
    uint64_t scheduled;
    uint64_t running;
    uint64_t complete;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t pending_bytes;
    uint64_t complete_bytes;
    uint64_t failed_bytes;
    uint64_t cancelled_bytes;
};

/* One line: rows from start up to cursor are dead, live ones stand from cursor
 * up to and including tail. */
struct line_row {
    int8_t priority;
    uint8_t kind;
    uint64_t start;
    uint64_t cursor;
    uint64_t tail;
    uint64_t live; /* rows at or after the cursor */
    uint64_t dead; /* rows before it that are still stored */
};

/* A queue's counts, in a meta row of its own or as a part of a commit:
 * queue, tally, number of lines, lines. */
#define QUEUE_PART_MAX (12 * VARINT_MAX)
#define LINE_PART_MAX (2 + 5 * VARINT_MAX)
size_t dassie__queue_part_write(uint8_t *p, uint32_t queue,
                                const struct tally *tally, uint32_t lines);
size_t dassie__line_part_write(uint8_t *p, const struct line_row *line);

/* The scheduled family: rows from start up to head are dead, live ones stand
 * from head on. Without live rows head says nothing. */
struct schedule_row {
    uint64_t start_ms;
    uint64_t start_id;
    uint64_t head_ms;
    uint64_t head_id;
    uint64_t live;
    uint64_t dead;
};

/* The store's row and the head of a commit's row: version, next number, oldest
 * claim set, commit up to which queue rows are folded, wall clock, the six
 * numbers of the schedule, number of queues whose parts follow (0 in the store
 * row). */
#define STORE_ROW_MAX (2 + 11 * VARINT_MAX)
struct store_row {
    uint64_t next;       /* number that the next job gets */
    uint64_t oldest_set; /* claim sets below this are gone */
    uint64_t folded;     /* commits up to this are in the queue rows */
    uint64_t wall_ms;
    struct schedule_row schedule;
    uint32_t queues; /* parts that follow */
};
size_t dassie__store_row_write(uint8_t *p, const struct store_row *row);

int dassie__store_row_read(struct part_reader *r, const uint8_t *row,
                           size_t len, struct store_row *store);
int dassie__queue_part_read(struct part_reader *r, uint32_t *queue,
                            struct tally *tally, uint32_t *lines);
int dassie__line_part_read(struct part_reader *r, struct line_row *line);

#endif /* DASSIE_RECORD_H_ */
