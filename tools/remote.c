#include "config.h"

#include "remote.h"

#include "../lib/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET "admin"
#define PAGE_JOBS 1000

static int fd = -1;
static uint8_t *answer; /* the last reply */
static struct timeval patience;

bool remote_is(void)
{
    return fd >= 0;
}

void remote_disconnect(void)
{
    if (fd >= 0) {
        close(fd);
        fd = -1;
    }
}

void remote_patience(unsigned ms)
{
    patience.tv_sec = ms / 1000;
    patience.tv_usec = ms % 1000 * 1000;
}

/* The error of a call on the socket. */
static int socket_error(void)
{
    return errno == EAGAIN ? UV_ETIMEDOUT : uv_translate_sys_error(errno);
}

int remote_connect(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", dir,
                     SOCKET);
    if (n >= (int)sizeof address.sun_path) {
        return UV_ENAMETOOLONG;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return uv_translate_sys_error(errno);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int rc = socket_error();
        remote_disconnect();
        return rc;
    }
    return 0;
}

/* ---- One call ---- */

static int send_all(const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return socket_error();
        }
        p += sent > 0 ? sent : 0;
        n -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

static int receive_all(uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t got = recv(fd, p, n, 0);
        if (got == 0) {
            return UV_ECONNRESET;
        }
        if (got < 0 && errno != EINTR) {
            return socket_error();
        }
        p += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    return 0;
}

/* Waits for the reply; *body is what follows its status. */
static int receive_reply(uint8_t op, struct wire_reader *body)
{
    uint8_t head[WIRE_HEAD_BYTES];
    int rc = receive_all(head, sizeof head);
    if (rc != 0) {
        return rc;
    }
    struct wire_reader length = {head, head + sizeof head, false};
    size_t n = (size_t)dassie__wire_take(&length, WIRE_HEAD_BYTES);
    if (n > WIRE_REPLY_BYTES_MAX) {
        return UV_EPROTO;
    }
    free(answer);
    answer = malloc(n + 1);
    if (answer == NULL) {
        return UV_ENOMEM;
    }
    rc = receive_all(answer, n);
    if (rc != 0) {
        return rc;
    }
    struct wire_reader r = {answer, answer + n, false};
    int status;
    if (dassie__wire_reply_read(&r, op, &status) != 0) {
        return UV_EPROTO;
    }
    *body = r;
    return status;
}

static void write_jobs(struct wire_writer *w, const dassie_spec_t *specs,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dassie__wire_job_write(w, &specs[i]);
    }
}

static int call(struct wire_request *request, const dassie_spec_t *specs,
                struct wire_reader *body)
{
    struct wire_writer jobs = {NULL, 0};
    struct wire_writer w = {NULL, 0};
    write_jobs(&jobs, specs, request->jobs_n);
    dassie__wire_request_write(&w, request, jobs.n);
    if (w.n + jobs.n > WIRE_HEAD_BYTES + DASSIE_ADMIN_BYTES_MAX) {
        return UV_E2BIG;
    }
    w.p = malloc(w.n + jobs.n);
    if (w.p == NULL) {
        return UV_ENOMEM;
    }
    w.n = 0;
    dassie__wire_request_write(&w, request, jobs.n);
    write_jobs(&w, specs, request->jobs_n);
    int rc = send_all(w.p, w.n);
    free(w.p);
    return rc == 0 ? receive_reply(request->op, body) : rc;
}

static struct wire_bytes bytes_of(const char *text)
{
    struct wire_bytes bytes = {text, text != NULL ? strlen(text) : 0};
    return bytes;
}

/* ---- The calls ---- */

int remote_queues(void (*cb)(const dassie_queue_info_t *queues, size_t n))
{
    struct wire_request request = {.op = WIRE_QUEUES};
    struct wire_reader r;
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    size_t n = (size_t)dassie__wire_take(&r, 4);
    if (n > DASSIE_QUEUES_MAX) {
        return UV_EPROTO;
    }
    dassie_queue_info_t *queues = calloc(n + 1, sizeof queues[0]);
    if (queues == NULL) {
        return UV_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        dassie__wire_queue_read(&r, &queues[i]);
    }
    if (!r.bad) {
        cb(queues, n);
    }
    free(queues);
    return r.bad ? UV_EPROTO : 0;
}

int remote_get(uint64_t id, look_cb cb)
{
    struct wire_request request = {.op = WIRE_GET, .id = id};
    struct wire_reader r;
    dassie_info_t info;
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    dassie__wire_info_read(&r, &info);
    if (r.bad) {
        return UV_EPROTO;
    }
    cb(&info);
    return 0;
}

int remote_metrics(void (*cb)(const char *text, size_t len))
{
    struct wire_request request = {.op = WIRE_METRICS};
    struct wire_reader r;
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    struct wire_bytes text = dassie__wire_take_bytes(&r);
    if (r.bad) {
        return UV_EPROTO;
    }
    cb(text.p, text.len);
    return 0;
}

int remote_list(dassie_list_t *req, const dassie_list_options_t *options,
                dassie_list_cb cb)
{
    static dassie_info_t infos[PAGE_JOBS];
    struct wire_request request = {
        .op = WIRE_LIST,
        .state = (uint8_t)options->state,
        .limit = options->limit < PAGE_JOBS ? options->limit : PAGE_JOBS,
        .queue = bytes_of(options->queue)};
    struct wire_reader r;
    memcpy(request.cursor, req->cursor, sizeof request.cursor);
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < 3; i++) {
        req->cursor[i] = dassie__wire_take(&r, 8);
    }
    req->more = dassie__wire_take(&r, 1) != 0;
    size_t n = (size_t)dassie__wire_take(&r, 4);
    for (size_t i = 0; i < n && n <= PAGE_JOBS; i++) {
        dassie__wire_info_read(&r, &infos[i]);
    }
    if (r.bad || n > PAGE_JOBS) {
        return UV_EPROTO;
    }
    cb(req, 0, infos, n);
    return 0;
}

/* Missed ones are told with no event. */
static bool tell_events(struct wire_reader *r,
                        bool (*cb)(const dassie_event_t *event,
                                   uint64_t missed))
{
    uint64_t missed = dassie__wire_take(r, 8);
    size_t n = (size_t)dassie__wire_take(r, 4);
    bool more = missed == 0 || cb(NULL, missed);
    for (size_t i = 0; i < n && more && !r->bad; i++) {
        dassie_event_t event;
        dassie__wire_event_read(r, &event);
        more = !r->bad && cb(&event, 0);
    }
    return more;
}

int remote_tail(const char *queue, unsigned states,
                bool (*cb)(const dassie_event_t *event, uint64_t missed))
{
    struct wire_request request = {
        .op = WIRE_TAIL, .states = states, .queue = bytes_of(queue)};
    struct wire_reader r;
    int rc = call(&request, NULL, &r);
    while (rc == 0 && tell_events(&r, cb)) {
        rc = receive_reply(WIRE_TAIL, &r);
    }
    return rc != 0 ? rc : r.bad ? UV_EPROTO : 0;
}

int remote_change(dassie_action_t action, const dassie_filter_t *filter,
                  uint64_t *n)
{
    struct wire_request request = {.op = WIRE_CHANGE,
                                   .action = (uint8_t)action,
                                   .id = filter->id,
                                   .states = filter->states,
                                   .age_ms = filter->age_ms,
                                   .queue = bytes_of(filter->queue),
                                   .name = bytes_of(filter->name)};
    struct wire_reader r;
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    *n = dassie__wire_take(&r, 8);
    return r.bad ? UV_EPROTO : 0;
}

int remote_pause(const char *queue, int paused)
{
    struct wire_request request = {
        .op = WIRE_PAUSE, .paused = (uint8_t)paused, .queue = bytes_of(queue)};
    struct wire_reader r;
    return call(&request, NULL, &r);
}

int remote_check(int *result, dassie_verify_report_t *report,
                 dassie_verify_cb cb)
{
    struct wire_request request = {.op = WIRE_CHECK};
    struct wire_reader r;
    int rc = call(&request, NULL, &r);
    if (rc != 0) {
        return rc;
    }
    *result = (int)(uint32_t)dassie__wire_take(&r, 4);
    dassie__wire_report_read(&r, report);
    size_t n = (size_t)dassie__wire_take(&r, 4);
    for (size_t i = 0; i < n && !r.bad; i++) {
        dassie_problem_t problem;
        dassie__wire_problem_read(&r, &problem);
        if (!r.bad) {
            cb(NULL, problem.id, problem.line);
        }
    }
    return r.bad ? UV_EPROTO : 0;
}

int remote_backup(const char *path)
{
    struct wire_request request = {.op = WIRE_BACKUP, .path = bytes_of(path)};
    struct wire_reader r;
    return call(&request, NULL, &r);
}

/* A spec with its C strings measured. */
static dassie_spec_t measured(const dassie_spec_t *spec)
{
    dassie_spec_t copy = *spec;
    copy.queue_len = bytes_of(spec->queue).len;
    copy.name_len = bytes_of(spec->name).len;
    copy.unique_len = bytes_of(spec->unique).len;
    return copy;
}

size_t remote_job_bytes(const dassie_spec_t *spec)
{
    struct wire_writer count = {NULL, 0};
    dassie_spec_t copy = measured(spec);
    copy.data_len = 0;
    dassie__wire_job_write(&count, &copy);
    return count.n;
}

int remote_enqueue(const dassie_spec_t *specs, size_t n, uint64_t *first_id,
                   uint64_t *count)
{
    struct wire_request request = {.op = WIRE_ENQUEUE, .jobs_n = (uint32_t)n};
    struct wire_reader r;
    dassie_spec_t *copies = calloc(n, sizeof copies[0]);
    if (copies == NULL) {
        return UV_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        copies[i] = measured(&specs[i]);
    }
    int rc = call(&request, copies, &r);
    free(copies);
    if (rc != 0) {
        return rc;
    }
    *first_id = dassie__wire_take(&r, 8);
    *count = dassie__wire_take(&r, 8);
    return r.bad ? UV_EPROTO : 0;
}
