#include "config.h"

#include "admin.h"

#include "alloc.h"
#include "impl.h"
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long no client is accepted after there was no descriptor for one. */
#define REST_MS 100

/* Of a reply, behind its version, operation and status. */
#define BODY_BYTES_MAX (WIRE_REPLY_BYTES_MAX - 6)

struct connection {
    uv_poll_t poll;
    int fd;
    struct dassie__admin *admin;
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
    } req;
};

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

static void tail_send(struct connection *c, const dassie_event_t *events,
                      size_t n);

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
        tail_send(c, NULL, 0);
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

/* Writes a body, or counts what it takes. */
typedef void (*body_cb)(struct wire_writer *w, const void *arg);

static void reply(struct connection *c, int status, body_cb body,
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

struct array {
    const void *p;
    size_t n;
};

static void queues_body(struct wire_writer *w, const void *arg)
{
    const struct array *queues = arg;
    dassie__wire_put(w, queues->n, 4);
    for (size_t i = 0; i < queues->n; i++) {
        dassie__wire_queue_write(w, (const dassie_queue_info_t *)queues->p + i);
    }
}

static void on_queues(dassie_queues_t *req, int status,
                      const dassie_queue_info_t *queues, size_t n)
{
    struct array array = {queues, n};
    reply(req->data, status, queues_body, &array);
}

static void get_body(struct wire_writer *w, const void *arg)
{
    dassie__wire_info_write(w, arg);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    reply(req->data, status, get_body, job);
}

struct page {
    const dassie_list_t *req;
    struct array jobs;
};

static void list_body(struct wire_writer *w, const void *arg)
{
    const struct page *page = arg;
    const dassie_info_t *jobs = page->jobs.p;
    for (int i = 0; i < 3; i++) {
        dassie__wire_put(w, page->req->cursor[i], 8);
    }
    dassie__wire_put(w, page->req->more != 0, 1);
    dassie__wire_put(w, page->jobs.n, 4);
    for (size_t i = 0; i < page->jobs.n; i++) {
        dassie__wire_info_write(w, &jobs[i]);
    }
}

static bool is_too_long(body_cb body, const void *arg)
{
    struct wire_writer count = {NULL, 0};
    body(&count, arg);
    return count.n > BODY_BYTES_MAX;
}

static int ask_list(struct connection *c, const struct wire_request *r);

/* The same page with half as many jobs. */
static int list_again(struct connection *c, size_t n)
{
    struct wire_request request;
    dassie__wire_request_read(c->body, c->body_len, &request); /* as before */
    request.limit = (uint32_t)(n / 2);
    return ask_list(c, &request);
}

/* The library's pages have as many bytes and one more job. */
static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    struct connection *c = req->data;
    struct page page = {req, {jobs, n}};
    if (status == 0 && n > 1 && !c->closing && is_too_long(list_body, &page)) {
        status = list_again(c, n);
        if (status == 0) {
            return;
        }
    }
    reply(c, status, list_body, &page);
}

static void number_body(struct wire_writer *w, const void *arg)
{
    dassie__wire_put(w, *(const uint64_t *)arg, 8);
}

static void on_change(dassie_change_t *req, int status)
{
    reply(req->data, status, number_body, &req->changed);
}

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    (void)settings;
    reply(req->data, status, NULL, NULL);
}

static void many_body(struct wire_writer *w, const void *arg)
{
    const dassie_enqueue_many_t *req = arg;
    dassie__wire_put(w, req->first_id, 8);
    dassie__wire_put(w, req->count, 8);
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    reply(req->data, status, many_body, req);
}

static const char *name_or_null(const struct wire_bytes *bytes)
{
    return bytes->len > 0 ? bytes->p : NULL;
}

/* ---- Events ---- */

struct told {
    uint64_t missed;
    struct array events;
};

static void events_body(struct wire_writer *w, const void *arg)
{
    const struct told *told = arg;
    const dassie_event_t *events = told->events.p;
    dassie__wire_put(w, told->missed, 8);
    dassie__wire_put(w, told->events.n, 4);
    for (size_t i = 0; i < told->events.n; i++) {
        dassie__wire_event_write(w, &events[i]);
    }
}

static void tail_send(struct connection *c, const dassie_event_t *events,
                      size_t n)
{
    struct told told = {c->missed, {events, n}};
    c->missed = 0;
    reply(c, 0, events_body, &told);
}

/* While the last ones are still being sent, others are missed. */
static void on_events(dassie_subscription_t *sub, const dassie_event_t *events,
                      size_t n, uint64_t missed)
{
    struct connection *c = sub->data;
    c->missed += missed;
    if (c->reply != NULL) {
        c->missed += n;
    } else {
        tail_send(c, events, n);
    }
}

/* From now on the client has nothing to say. */
static int ask_tail(struct connection *c, const struct wire_request *r)
{
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    options.queue = name_or_null(&r->queue);
    options.queue_len = r->queue.len;
    options.states = r->states;
    c->sub.data = c;
    int rc = dassie_subscribe(c->admin->impl->q, &c->sub, &options, on_events);
    if (rc == 0) {
        c->tails = true;
        tail_send(c, NULL, 0);
    }
    return rc;
}

/* ---- Requests ---- */

static int ask_list(struct connection *c, const struct wire_request *r)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    options.state = (dassie_state_t)r->state;
    options.queue = name_or_null(&r->queue);
    options.queue_len = r->queue.len;
    options.limit = r->limit;
    memcpy(c->req.list.cursor, r->cursor, sizeof r->cursor);
    return dassie_list(c->admin->impl->q, &c->req.list, &options, on_list);
}

static int ask_change(struct connection *c, const struct wire_request *r)
{
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.id = r->id;
    filter.queue = name_or_null(&r->queue);
    filter.queue_len = r->queue.len;
    filter.name = name_or_null(&r->name);
    filter.name_len = r->name.len;
    filter.states = r->states;
    filter.age_ms = r->age_ms;
    return dassie_change(c->admin->impl->q, &c->req.change,
                         (dassie_action_t)r->action, &filter, on_change);
}

static int ask_pause(struct connection *c, const struct wire_request *r)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = r->paused;
    return dassie_configure(c->admin->impl->q, &c->req.configure,
                            name_or_null(&r->queue), r->queue.len, &settings,
                            on_configure);
}

static int ask_enqueue(struct connection *c, const struct wire_request *r)
{
    struct wire_reader jobs = r->jobs;
    c->specs = dassie__malloc(r->jobs_n * sizeof c->specs[0]);
    if (c->specs == NULL) {
        return UV_ENOMEM;
    }
    for (uint32_t i = 0; i < r->jobs_n; i++) {
        dassie__wire_job_read(&jobs, &c->specs[i]); /* was checked */
    }
    return dassie_enqueue_many(c->admin->impl->q, &c->req.many, c->specs,
                               r->jobs_n, on_many);
}

static int ask(struct connection *c, const struct wire_request *r)
{
    switch (r->op) {
        case WIRE_QUEUES:
            return dassie_queues(c->admin->impl->q, &c->req.queues, on_queues);
        case WIRE_GET:
            return dassie_get(c->admin->impl->q, &c->req.get, r->id, on_get);
        case WIRE_LIST:
            return ask_list(c, r);
        case WIRE_CHANGE:
            return ask_change(c, r);
        case WIRE_PAUSE:
            return ask_pause(c, r);
        case WIRE_ENQUEUE:
            return ask_enqueue(c, r);
        default:
            return ask_tail(c, r);
    }
}

static void refuse(struct connection *c)
{
    c->last = true;
    reply(c, UV_EPROTO, NULL, NULL);
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
    int rc = ask(c, &request);
    if (rc != 0) {
        reply(c, rc, NULL, NULL);
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
