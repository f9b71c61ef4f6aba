/* admin.h: the socket through which others see and steer an open queue.
 *
 * The happy path is: the engine, which owns the directory, makes the socket
 * (OP_LISTEN); the loop accepts, reads one request, asks by the public calls of
 * dassie.h, writes the reply, reads the next one.
 *
 * Possible failure modes are: a request that no writer makes (it is answered
 * with UV_EPROTO and the connection closed); one that is too long; a client
 * that neither reads nor writes (it holds one of DASSIE_ADMIN_CLIENTS_MAX, and
 * no more memory than a request and a reply); too many clients (closed at
 * once); no descriptor for one (it waits for REST_MS, then again); no memory
 * (that connection is closed).
 *
 * On close: connections are closed, requests under way are answered to nobody;
 * the engine removes the socket. The handle is gone only after this.
 *
 * It writes with MSG_NOSIGNAL, which libuv's streams do not: a client that goes
 * must not end the host. Threads: the loop. */
#ifndef DASSIE_ADMIN_H_
#define DASSIE_ADMIN_H_

#include "engine.h"

/* The answer OP_LISTEN. */
void dassie__admin_deliver(struct dassie__impl *impl, struct op *op);

/* Begins to end it, if it is there: impl->admin is NULL when it has. */
void dassie__admin_close(struct dassie__impl *impl);

/* dassie.c: it has ended. */
void dassie__admin_ended(struct dassie__impl *impl);

#endif /* DASSIE_ADMIN_H_ */
