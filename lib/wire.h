/* wire.h: what goes over the admin socket; doc/dassie_admin.7 is the same in
 * words.
 *
 * A message is a length (4 bytes), WIRE_VERSION, an operation and a body. A
 * reply has a status (4 bytes) before its body. Numbers are of fixed width, the
 * highest byte first; bytes have their length (4 bytes) before them.
 *
 * Readers check every length and take nothing but what a writer makes; what
 * they read points into the message. Writers count first: with no room
 * (p NULL) they only add to n. Pure; threads: any. The command dassie has this
 * file, too. */
#ifndef DASSIE_WIRE_H_
#define DASSIE_WIRE_H_

#include <dassie.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1
#define WIRE_HEAD_BYTES 4 /* the length */
#define WIRE_REPLY_BYTES_MAX (17 * 1024 * 1024)

enum wire_op {
    WIRE_QUEUES = 1,
    WIRE_GET = 2,
    WIRE_LIST = 3,
    WIRE_CHANGE = 4,
    WIRE_PAUSE = 5,
    WIRE_ENQUEUE = 6,
    WIRE_TAIL = 7,
    WIRE_CHECK = 8,
    WIRE_BACKUP = 9,
    WIRE_METRICS = 10
};

struct wire_bytes {
    const void *p;
    size_t len;
};

struct wire_reader {
    const uint8_t *p;
    const uint8_t *end;
    bool bad; /* it ended too early */
};

struct wire_writer {
    uint8_t *p; /* NULL: count only */
    size_t n;
};

/* Fields that an operation does not have are 0. */
struct wire_request {
    uint8_t op;
    uint8_t state;           /* list */
    uint8_t action;          /* change */
    uint8_t paused;          /* pause */
    uint32_t limit;          /* list */
    uint32_t states;         /* change, tail */
    uint32_t jobs_n;         /* enqueue */
    uint64_t id;             /* get; change: or 0 */
    uint64_t age_ms;         /* change */
    uint64_t cursor[3];      /* list */
    struct wire_bytes queue; /* list, change, tail: or none; pause */
    struct wire_bytes name;  /* change: or none */
    struct wire_bytes path;  /* backup */
    struct wire_reader jobs; /* enqueue: for dassie__wire_job_read() */
};

/* The whole of a message behind its length. -1: no writer makes this. */
int dassie__wire_request_read(const uint8_t *p, size_t len,
                              struct wire_request *request);

/* All of a message, its length included, but for the jobs of an enqueue, of
 * which jobs_bytes follow. */
void dassie__wire_request_write(struct wire_writer *w,
                                const struct wire_request *request,
                                size_t jobs_bytes);

/* A job that is enqueued. Reading makes a spec that points into the message. */
void dassie__wire_job_write(struct wire_writer *w, const dassie_spec_t *spec);
int dassie__wire_job_read(struct wire_reader *r, dassie_spec_t *spec);

/* The begin of a reply, of which body_bytes follow; and what a reader finds.
 * -1: it is none to a request of this operation. */
void dassie__wire_reply_write(struct wire_writer *w, uint8_t op, int status,
                              size_t body_bytes);
int dassie__wire_reply_read(struct wire_reader *r, uint8_t op, int *status);

/* What bodies are made of. Readers set r->bad. */
void dassie__wire_put(struct wire_writer *w, uint64_t number, unsigned width);
void dassie__wire_put_bytes(struct wire_writer *w, const void *p, size_t len);
uint64_t dassie__wire_take(struct wire_reader *r, unsigned width);
struct wire_bytes dassie__wire_take_bytes(struct wire_reader *r);

void dassie__wire_info_write(struct wire_writer *w, const dassie_info_t *info);
void dassie__wire_info_read(struct wire_reader *r, dassie_info_t *info);
void dassie__wire_event_write(struct wire_writer *w,
                              const dassie_event_t *event);
void dassie__wire_event_read(struct wire_reader *r, dassie_event_t *event);
void dassie__wire_queue_write(struct wire_writer *w,
                              const dassie_queue_info_t *queue);
void dassie__wire_queue_read(struct wire_reader *r, dassie_queue_info_t *queue);

void dassie__wire_report_write(struct wire_writer *w,
                               const dassie_verify_report_t *report);
void dassie__wire_report_read(struct wire_reader *r,
                              dassie_verify_report_t *report);
void dassie__wire_problem_write(struct wire_writer *w,
                                const dassie_problem_t *problem);
void dassie__wire_problem_read(struct wire_reader *r,
                               dassie_problem_t *problem);

#endif /* DASSIE_WIRE_H_ */
