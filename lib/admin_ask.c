/* admin_ask.c: what the clients of the admin socket ask the library for, and
 * what they are told; see connection.h. */
#include "config.h"

#include "alloc.h"
#include "connection.h"

#include <limits.h>
#include <string.h>

/* ---- Bodies ---- */

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
    dassie__connection_reply(req->data, status, queues_body, &array);
}

static void get_body(struct wire_writer *w, const void *arg)
{
    dassie__wire_info_write(w, arg);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    dassie__connection_reply(req->data, status, get_body, job);
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
    dassie__connection_reply(c, status, list_body, &page);
}

static void number_body(struct wire_writer *w, const void *arg)
{
    dassie__wire_put(w, *(const uint64_t *)arg, 8);
}

static void on_change(dassie_change_t *req, int status)
{
    dassie__connection_reply(req->data, status, number_body, &req->changed);
}

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    (void)settings;
    dassie__connection_reply(req->data, status, NULL, NULL);
}

static void many_body(struct wire_writer *w, const void *arg)
{
    const dassie_enqueue_many_t *req = arg;
    dassie__wire_put(w, req->first_id, 8);
    dassie__wire_put(w, req->count, 8);
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    dassie__connection_reply(req->data, status, many_body, req);
}

static void metrics_body(struct wire_writer *w, const void *arg)
{
    const struct array *text = arg;
    dassie__wire_put_bytes(w, text->p, text->n);
}

static void on_metrics(dassie_metrics_t *req, int status, const char *text,
                       size_t len)
{
    struct array array = {text, len};
    dassie__connection_reply(req->data, status, metrics_body, &array);
}

struct checked {
    int status;
    const dassie_verify_report_t *report;
    struct array problems;
};

static void check_body(struct wire_writer *w, const void *arg)
{
    const struct checked *checked = arg;
    const dassie_problem_t *problems = checked->problems.p;
    dassie__wire_put(w, (uint32_t)checked->status, 4);
    dassie__wire_report_write(w, checked->report);
    dassie__wire_put(w, checked->problems.n, 4);
    for (size_t i = 0; i < checked->problems.n; i++) {
        dassie__wire_problem_write(w, &problems[i]);
    }
}

static void on_check(dassie_check_t *req, int status,
                     const dassie_verify_report_t *report)
{
    struct checked checked = {status, report, {req->problems, req->problems_n}};
    dassie__connection_reply(req->data, report != NULL ? 0 : status, check_body,
                             &checked);
}

static void on_backup(dassie_backup_t *req, int status)
{
    dassie__connection_reply(req->data, status, NULL, NULL);
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

void dassie__connection_tell(struct connection *c, const dassie_event_t *events,
                             size_t n)
{
    struct told told = {c->missed, {events, n}};
    c->missed = 0;
    dassie__connection_reply(c, 0, events_body, &told);
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
        dassie__connection_tell(c, events, n);
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
    int rc = dassie_subscribe(c->q, &c->sub, &options, on_events);
    if (rc == 0) {
        c->tails = true;
        dassie__connection_tell(c, NULL, 0);
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
    return dassie_list(c->q, &c->req.list, &options, on_list);
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
    return dassie_change(c->q, &c->req.change, (dassie_action_t)r->action,
                         &filter, on_change);
}

static int ask_pause(struct connection *c, const struct wire_request *r)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = r->paused;
    return dassie_configure(c->q, &c->req.configure, name_or_null(&r->queue),
                            r->queue.len, &settings, on_configure);
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
    return dassie_enqueue_many(c->q, &c->req.many, c->specs, r->jobs_n,
                               on_many);
}

/* What a path is relative to, the client cannot know. */
static int ask_backup(struct connection *c, const struct wire_request *r)
{
    const char *bytes = r->path.p;
    char path[PATH_MAX];
    if (r->path.len >= sizeof path) {
        return UV_ENAMETOOLONG;
    }
    if (r->path.len == 0 || bytes[0] != '/' ||
        memchr(bytes, '\0', r->path.len) != NULL) {
        return UV_EINVAL;
    }
    memcpy(path, bytes, r->path.len);
    path[r->path.len] = '\0';
    return dassie_backup(c->q, &c->req.backup, path, on_backup);
}

int dassie__connection_ask(struct connection *c, const struct wire_request *r)
{
    switch (r->op) {
        case WIRE_QUEUES:
            return dassie_queues(c->q, &c->req.queues, on_queues);
        case WIRE_GET:
            return dassie_get(c->q, &c->req.get, r->id, on_get);
        case WIRE_LIST:
            return ask_list(c, r);
        case WIRE_CHANGE:
            return ask_change(c, r);
        case WIRE_PAUSE:
            return ask_pause(c, r);
        case WIRE_ENQUEUE:
            return ask_enqueue(c, r);
        case WIRE_CHECK:
            return dassie_check(c->q, &c->req.check, on_check);
        case WIRE_BACKUP:
            return ask_backup(c, r);
        case WIRE_METRICS:
            return dassie_metrics(c->q, &c->req.metrics, on_metrics);
        default:
            return ask_tail(c, r);
    }
}
