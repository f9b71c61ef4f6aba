#include "config.h"

#include "admin.h"

#include "alloc.h"
#include "connection.h"
#include "impl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long no client is accepted after there was no descriptor for one. */
#define REST_MS 100

struct dassie__admin {
    struct listen_op op;
    struct dassie__impl *impl;
    dassie_admin_cb cb;
    uv_poll_t poll;  /* if listening, */
    uv_timer_t rest; /* and then */
    int handles;     /* of these, not closed yet: listening */
    bool closing;
    struct connection *connections;
    unsigned n;
};

/* ---- The end ---- */

static void admin_settle(struct dassie__admin *admin)
{
    struct dassie__impl *impl = admin->impl;
    if (admin->closing && admin->handles == 0 && admin->n == 0) {
        dassie__free(admin);
        impl->admin = NULL;
        dassie__admin_ended(impl);
    }
}

static void connection_settle(struct connection *c)
{
    struct dassie__admin *admin = c->admin;
    if (!c->closed || c->busy) {
        return;
    }
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        admin->connections = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    dassie__free(c->body);
    dassie__free(c->reply);
    dassie__free(c->specs);
    dassie__free(c);
    admin->n--;
    admin_settle(admin);
}

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    close(c->fd);
    c->closed = true;
    connection_settle(c);
}

static void connection_close(struct connection *c)
{
    if (!c->closing) {
        c->closing = true;
        if (c->tails) {
            dassie_unsubscribe(&c->sub);
        }
        uv_close((uv_handle_t *)&c->poll, on_connection_closed);
    }
}

/* ---- Replies ---- */

static void on_event(uv_poll_t *poll, int status, int events);

static void await(struct connection *c, int events)
{
    if (uv_poll_start(&c->poll, events, on_event) != 0) {
        connection_close(c);
    }
}

static void reply_written(struct connection *c)
{
    dassie__free(c->reply);
    dassie__free(c->body);
    dassie__free(c->specs);
    c->reply = c->body = NULL;
    c->specs = NULL;
    c->got = 0;
    if (c->last) {
        connection_close(c);
    } else if (c->missed > 0) {
        dassie__connection_tell(c, NULL, 0);
    } else {
        await(c, UV_READABLE);
    }
}

static void reply_send(struct connection *c)
{
    while (c->sent < c->reply_len) {
        ssize_t n = send(c->fd, c->reply + c->sent, c->reply_len - c->sent,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            await(c, UV_WRITABLE);
            return;
        }
        if (n < 0) {
            connection_close(c);
            return;
        }
        c->sent += (size_t)n;
    }
    reply_written(c);
}

void dassie__connection_reply(struct connection *c, int status, body_cb body,
                              const void *arg)
{
    struct wire_writer count = {NULL, 0};
    c->busy = false;
    if (c->closing) {
        connection_settle(c);
        return;
    }
    if (status == 0 && body != NULL) {
        body(&count, arg);
    }
    if (count.n > BODY_BYTES_MAX) {
        status = UV_E2BIG;
        count.n = 0;
    }
    c->reply_len = WIRE_HEAD_BYTES + 6 + count.n;
    c->reply = dassie__malloc(c->reply_len);
    if (c->reply == NULL) {
        connection_close(c);
        return;
    }
    struct wire_writer w = {c->reply, 0};
    dassie__wire_reply_write(&w, c->op, status, count.n);
    if (count.n > 0) {
        body(&w, arg);
    }
    c->sent = 0;
    reply_send(c);
}

/* ---- Requests ---- */

static void refuse(struct connection *c)
{
    c->last = true;
    dassie__connection_reply(c, UV_EPROTO, NULL, NULL);
}

static void serve(struct connection *c)
{
    struct wire_request request;
    c->op = c->body[1];
    if (dassie__wire_request_read(c->body, c->body_len, &request) != 0) {
        refuse(c);
        return;
    }
    memset(&c->req, 0, sizeof c->req);
    c->req.data = c;
    uv_poll_stop(&c->poll);
    c->busy = true;
    int rc = dassie__connection_ask(c, &request);
    if (rc != 0) {
        dassie__connection_reply(c, rc, NULL, NULL);
    }
}

/* The length has arrived. */
static void begin_body(struct connection *c)
{
    struct wire_reader r = {c->head, c->head + WIRE_HEAD_BYTES, false};
    c->body_len = (size_t)dassie__wire_take(&r, WIRE_HEAD_BYTES);
    if (c->body_len < 2 || c->body_len > DASSIE_ADMIN_BYTES_MAX) {
        c->op = 0;
        refuse(c);
        return;
    }
    c->body = dassie__malloc(c->body_len);
    if (c->body == NULL) {
        connection_close(c);
    }
}

/* Reads no more than belongs to one request. */
static void receive(struct connection *c)
{
    size_t all = WIRE_HEAD_BYTES + (c->body != NULL ? c->body_len : 0);
    uint8_t *to = c->body != NULL ? c->body + (c->got - WIRE_HEAD_BYTES)
                                  : c->head + c->got;
    ssize_t n = recv(c->fd, to, all - c->got, 0);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        connection_close(c);
        return;
    }
    c->got += n > 0 ? (size_t)n : 0;
    if (c->got < all) {
        return;
    }
    if (c->body != NULL) {
        serve(c);
    } else {
        begin_body(c);
    }
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct connection *c = poll->data;
    if (status != 0) {
        connection_close(c);
    } else if (c->reply != NULL) {
        reply_send(c);
    } else if ((events & UV_READABLE) != 0 && c->tails) {
        connection_close(c); /* it has gone, or says something */
    } else if ((events & UV_READABLE) != 0) {
        receive(c);
    }
}

/* ---- Listening ---- */

static void connection_new(struct dassie__admin *admin, int fd)
{
    struct connection *c = admin->n < DASSIE_ADMIN_CLIENTS_MAX
                               ? dassie__calloc(1, sizeof *c)
                               : NULL;
    if (c == NULL || uv_poll_init(admin->impl->q->loop, &c->poll, fd) != 0) {
        dassie__free(c);
        close(fd);
        return;
    }
    uv_unref((uv_handle_t *)&c->poll);
    c->poll.data = c;
    c->fd = fd;
    c->admin = admin;
    c->q = admin->impl->q;
    c->next = admin->connections;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    admin->connections = c;
    admin->n++;
    await(c, UV_READABLE);
}

static int listen_go_on(struct dassie__admin *admin);

static void on_rested(uv_timer_t *timer)
{
    listen_go_on(timer->data);
}

/* A client that cannot be accepted stays where it is: to be told of it at each
 * turn would keep the loop busy. */
static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct dassie__admin *admin = poll->data;
    (void)events;
    if (status != 0) {
        return;
    }
    int fd = accept4(admin->op.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        connection_new(admin, fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        uv_poll_stop(poll);
        uv_timer_start(&admin->rest, on_rested, REST_MS, 0);
    }
}

static int listen_go_on(struct dassie__admin *admin)
{
    return uv_poll_start(&admin->poll, UV_READABLE, on_connection);
}

static int listen_start(struct dassie__admin *admin)
{
    uv_loop_t *loop = admin->impl->q->loop;
    int rc = uv_poll_init(loop, &admin->poll, admin->op.fd);
    if (rc != 0) {
        close(admin->op.fd);
        return rc;
    }
    uv_timer_init(loop, &admin->rest);
    admin->poll.data = admin->rest.data = admin;
    admin->handles = 2;
    uv_unref((uv_handle_t *)&admin->poll);
    uv_unref((uv_handle_t *)&admin->rest);
    return listen_go_on(admin);
}

static void on_listen_closed(uv_handle_t *handle)
{
    struct dassie__admin *admin = handle->data;
    if (--admin->handles == 0) {
        close(admin->op.fd);
        admin_settle(admin);
    }
}

static void listen_stop(struct dassie__admin *admin)
{
    admin->closing = true;
    if (admin->handles > 0) {
        uv_close((uv_handle_t *)&admin->poll, on_listen_closed);
        uv_close((uv_handle_t *)&admin->rest, on_listen_closed);
    }
}

void dassie__admin_deliver(struct dassie__impl *impl, struct op *op)
{
    struct dassie__admin *admin = impl->admin;
    dassie_admin_cb cb = admin->cb;
    int status = op->status;
    if (status == 0 && admin->closing) {
        close(admin->op.fd);
        status = UV_ECANCELED;
    } else if (status == 0) {
        status = listen_start(admin);
    }
    if (status != 0) {
        listen_stop(admin);
        admin_settle(admin);
    }
    if (cb != NULL) {
        cb(impl->q, status);
    }
}

void dassie__admin_close(struct dassie__impl *impl)
{
    struct dassie__admin *admin = impl->admin;
    if (admin == NULL || admin->closing) {
        return;
    }
    for (struct connection *c = admin->connections; c != NULL; c = c->next) {
        connection_close(c);
    }
    listen_stop(admin);
}

int dassie_admin_listen(dassie_t *q, dassie_admin_cb cb)
{
    int rc = dassie__impl_check(q);
    if (rc != 0) {
        return rc;
    }
    if (q->impl->admin != NULL) {
        return UV_EALREADY;
    }
    struct dassie__admin *admin = dassie__calloc(1, sizeof *admin);
    if (admin == NULL) {
        return UV_ENOMEM;
    }
    admin->impl = q->impl;
    admin->cb = cb;
    admin->op.op.type = OP_LISTEN;
    q->impl->admin = admin;
    dassie__engine_post(q->impl, &admin->op.op);
    return 0;
}
