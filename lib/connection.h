/* connection.h: a client of the admin socket, and what it asks for.
 *
 * admin.c reads its requests and writes the replies, admin_ask.c asks the
 * library and says what a reply holds. See admin.h. Threads: the loop. */
#ifndef DASSIE_CONNECTION_H_
#define DASSIE_CONNECTION_H_

#include "impl.h"
#include "wire.h"

/* Of a reply, behind its version, operation and status. */
#define BODY_BYTES_MAX (WIRE_REPLY_BYTES_MAX - 6)

struct connection {
    uv_poll_t poll;
    int fd;
    struct dassie__admin *admin;
    dassie_t *q;
    struct connection *next, *prev;
    uint8_t head[WIRE_HEAD_BYTES];
    uint8_t *body; /* of the request */
    size_t body_len;
    size_t got;     /* bytes of head and body */
    uint8_t *reply; /* while it is written */
    size_t reply_len;
    size_t sent;
    uint8_t op;      /* of the request */
    bool busy;       /* the library has its request */
    bool last;       /* it is closed after this reply */
    bool closing;    /* uv_close() was called, */
    bool closed;     /* and is over */
    bool tails;      /* it is told of events, */
    uint64_t missed; /* but not of so many, as it was slow */
    dassie_subscription_t sub;
    dassie_spec_t *specs;
    union {
        void *data; /* the begin of each: the connection */
        dassie_queues_t queues;
        dassie_get_t get;
        dassie_list_t list;
        dassie_change_t change;
        dassie_configure_t configure;
        dassie_enqueue_many_t many;
        dassie_check_t check;
        dassie_backup_t backup;
        dassie_metrics_t metrics;
    } req;
};

/* Writes a body, or counts what it takes. */
typedef void (*body_cb)(struct wire_writer *w, const void *arg);

/* Answers the request; body is asked only if status is 0, and may be NULL. */
void dassie__connection_reply(struct connection *c, int status, body_cb body,
                              const void *arg);

/* Asks the library for it. 0: the reply comes from a callback. */
int dassie__connection_ask(struct connection *c,
                           const struct wire_request *request);

/* Tells one that tails of events, and how many it has missed. */
void dassie__connection_tell(struct connection *c, const dassie_event_t *events,
                             size_t n);

#endif /* DASSIE_CONNECTION_H_ */
