/* The admin socket: what it answers, that it does what is asked, that it
 * refuses whatever no writer makes, and that clients which are slow, many or
 * gone harm nobody. The client is in the loop's thread, between two turns. */
#include "config.h"

#include "queue_rig.h"

#include "../lib/admin.h"
#include "../lib/wire.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static int listened;
static int listen_status;

static void on_listen(dassie_t *q, int status)
{
    ck_assert_ptr_eq(q, &rig.q);
    listen_status = status;
    listened++;
}

static void listen_on(void)
{
    listened = 0;
    ck_assert_int_eq(dassie_admin_listen(&rig.q, on_listen), 0);
    ck_assert_int_eq(listened, 0);
    rig_wait(&listened, 1);
}

static void setup(void)
{
    rig_setup();
    rig_open();
    listen_on();
    ck_assert_int_eq(listen_status, 0);
}

static void teardown(void)
{
    rig_close();
    rig_verify();
    rig_teardown();
}

/* ---- The client ---- */

static int client_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void client_connect(int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_int_lt(snprintf(address.sun_path, sizeof address.sun_path,
                              "%s/admin", rig.path),
                     (int)sizeof address.sun_path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address),
                     0);
}

static int client(void)
{
    int fd = client_socket();
    client_connect(fd);
    return fd;
}

static void push(int fd, const void *p, size_t n)
{
    ck_assert_int_eq(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

static uint8_t got[WIRE_REPLY_BYTES_MAX + WIRE_HEAD_BYTES];

/* Runs the loop until n bytes have come (true), or the end of them. */
static bool pull(int fd, void *to, size_t n)
{
    size_t have = 0;
    rig.late = false;
    uv_timer_start(&rig.cap, rig_late, RIG_WAIT_MS, 0);
    while (have < n && !rig.late) {
        ssize_t more = recv(fd, (char *)to + have, n - have, MSG_DONTWAIT);
        if (more == 0 || (more < 0 && errno == ECONNRESET)) {
            break;
        }
        have += more > 0 ? (size_t)more : 0;
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    ck_assert_msg(!rig.late, "no reply");
    uv_timer_stop(&rig.cap);
    return have == n;
}

/* Waits for a reply: its status, and where its body is. */
static int pull_reply(int fd, uint8_t op, struct wire_reader *body)
{
    int status;
    ck_assert(pull(fd, got, WIRE_HEAD_BYTES));
    struct wire_reader head = {got, got + WIRE_HEAD_BYTES, false};
    size_t n = dassie__wire_take(&head, WIRE_HEAD_BYTES);
    ck_assert_uint_le(n, WIRE_REPLY_BYTES_MAX);
    ck_assert(pull(fd, got, n));
    body->p = got;
    body->end = got + n;
    body->bad = false;
    ck_assert_int_eq(dassie__wire_reply_read(body, op, &status), 0);
    return status;
}

static void push_request(int fd, const struct wire_request *request)
{
    uint8_t bytes[PATH_MAX + 64];
    struct wire_writer w = {bytes, 0};
    dassie__wire_request_write(&w, request, 0);
    push(fd, bytes, w.n);
}

static int ask(int fd, const struct wire_request *request,
               struct wire_reader *body)
{
    push_request(fd, request);
    return pull_reply(fd, request->op, body);
}

static struct wire_bytes bytes_of(const char *text)
{
    struct wire_bytes bytes = {text, strlen(text)};
    return bytes;
}

/* The pending jobs, as the socket tells them. */
static uint64_t pending(int fd)
{
    struct wire_request request = {.op = WIRE_QUEUES};
    struct wire_reader r;
    uint64_t n = 0;
    ck_assert_int_eq(ask(fd, &request, &r), 0);
    for (uint64_t i = dassie__wire_take(&r, 4); i > 0; i--) {
        dassie_queue_info_t info;
        dassie__wire_queue_read(&r, &info);
        n += info.jobs.pending;
    }
    ck_assert(!r.bad && r.p == r.end);
    return n;
}

/* ---- What is asked ---- */

START_TEST(looks)
{
    struct wire_request get = {.op = WIRE_GET, .id = 99};
    struct wire_request list = {.op = WIRE_LIST, .limit = 1};
    struct wire_reader r;
    dassie_info_t info;
    int fd = client();
    ck_assert_uint_eq(pending(fd), 0);
    uint64_t first = rig_enqueue("a", "one");
    rig_enqueue("b", "two");
    ck_assert_uint_eq(pending(fd), 2);
    ck_assert_int_eq(ask(fd, &get, &r), UV_ENOENT);
    get.id = first;
    ck_assert_int_eq(ask(fd, &get, &r), 0);
    dassie__wire_info_read(&r, &info);
    ck_assert(!r.bad && r.p == r.end);
    ck_assert_uint_eq(info.id, first);
    ck_assert_str_eq(info.queue, "a");
    ck_assert_uint_eq(info.data_len, 3);
    ck_assert_mem_eq(info.data, "one", 3);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(ask(fd, &list, &r), 0);
        for (int k = 0; k < 3; k++) {
            list.cursor[k] = dassie__wire_take(&r, 8);
        }
        dassie__wire_take(&r, 1);
        ck_assert_uint_eq(dassie__wire_take(&r, 4), 1);
        dassie__wire_info_read(&r, &info);
        ck_assert(!r.bad && r.p == r.end);
        ck_assert_str_eq(info.queue, i == 0 ? "a" : "b");
    }
    list.state = 3;
    ck_assert_int_eq(ask(fd, &list, &r), UV_EINVAL);
    close(fd);
}
END_TEST

START_TEST(metrics)
{
    struct wire_request request = {.op = WIRE_METRICS};
    struct wire_reader r;
    int fd = client();
    rig_enqueue("a", "one");
    ck_assert_int_eq(ask(fd, &request, &r), 0);
    struct wire_bytes text = dassie__wire_take_bytes(&r);
    ck_assert(!r.bad && r.p == r.end);
    ck_assert_ptr_nonnull(memmem(
        text.p, text.len, "\ndassie_jobs_enqueued_total{queue=\"a\"} 1\n",
        strlen("\ndassie_jobs_enqueued_total{queue=\"a\"} 1\n")));
    close(fd);
}
END_TEST

static void push_jobs(int fd, const dassie_spec_t *spec, uint32_t n)
{
    uint8_t bytes[4096];
    struct wire_request request = {.op = WIRE_ENQUEUE, .jobs_n = n};
    struct wire_writer jobs = {NULL, 0};
    struct wire_writer w = {bytes, 0};
    for (uint32_t i = 0; i < n; i++) {
        dassie__wire_job_write(&jobs, spec);
    }
    dassie__wire_request_write(&w, &request, jobs.n);
    for (uint32_t i = 0; i < n; i++) {
        dassie__wire_job_write(&w, spec);
    }
    ck_assert_uint_le(w.n, sizeof bytes);
    push(fd, bytes, w.n);
}

START_TEST(steers)
{
    struct wire_request change = {.op = WIRE_CHANGE, .action = DASSIE_CANCEL};
    struct wire_request pause = {
        .op = WIRE_PAUSE, .paused = 1, .queue = bytes_of("a")};
    struct wire_reader r;
    dassie_queue_info_t info;
    dassie_spec_t spec = rig_spec("a", "payload");
    int fd = client();
    spec.queue_len = 1;
    spec.priority = -20;
    spec.flags = DASSIE_AT_MOST_ONCE;
    push_jobs(fd, &spec, 7);
    ck_assert_int_eq(pull_reply(fd, WIRE_ENQUEUE, &r), 0);
    static struct rig_got job;
    rig_get(&job, dassie__wire_take(&r, 8));
    ck_assert_int_eq(job.info.priority, -20);
    ck_assert_uint_eq(job.info.flags, DASSIE_AT_MOST_ONCE);
    ck_assert_uint_eq(rig_counts().pending, 7);
    ck_assert_int_eq(ask(fd, &pause, &r), 0);
    change.queue = bytes_of("none");
    ck_assert_int_eq(ask(fd, &change, &r), 0);
    ck_assert_uint_eq(dassie__wire_take(&r, 8), 0);
    change.queue = bytes_of("a");
    ck_assert_int_eq(ask(fd, &change, &r), 0);
    ck_assert_uint_eq(dassie__wire_take(&r, 8), 7);
    ck_assert_uint_eq(rig_counts().cancelled, 7);
    change.action = 77;
    ck_assert_int_eq(ask(fd, &change, &r), UV_EINVAL);
    struct wire_request queues = {.op = WIRE_QUEUES};
    ck_assert_int_eq(ask(fd, &queues, &r), 0);
    ck_assert_uint_eq(dassie__wire_take(&r, 4), 1);
    dassie__wire_queue_read(&r, &info);
    ck_assert_int_eq(info.paused, 1);
    ck_assert_uint_eq(info.jobs.cancelled, 7);
    close(fd);
}
END_TEST

/* The reply to a check: its result and counts, and no problem. */
static dassie_verify_report_t check(int fd)
{
    struct wire_request request = {.op = WIRE_CHECK};
    struct wire_reader r;
    dassie_verify_report_t report;
    ck_assert_int_eq(ask(fd, &request, &r), 0);
    ck_assert_uint_eq(dassie__wire_take(&r, 4), 0);
    dassie__wire_report_read(&r, &report);
    ck_assert_uint_eq(dassie__wire_take(&r, 4), 0);
    ck_assert(!r.bad && r.p == r.end);
    return report;
}

static int backup(int fd, const char *path, size_t len)
{
    struct wire_request request = {.op = WIRE_BACKUP, .path = {path, len}};
    struct wire_reader r;
    return ask(fd, &request, &r);
}

START_TEST(checks_and_copies)
{
    char path[PATH_MAX];
    dassie_verify_report_t report;
    int fd = client();
    rig_enqueue("a", "one");
    report = check(fd);
    ck_assert_uint_eq(report.jobs.pending, 1);
    ck_assert_uint_gt(report.rows, 0);
    ck_assert_uint_eq(report.problems, 0);
    temp_path(path, rig.dir, "copy");
    ck_assert_int_eq(backup(fd, path, strlen(path)), 0);
    ck_assert_int_eq(dassie_verify(path, rig_on_problem, NULL, &report), 0);
    ck_assert_uint_eq(report.problems, 0);
    ck_assert_uint_eq(report.jobs.pending, 1);
    ck_assert_int_eq(backup(fd, path, strlen(path)), UV_EEXIST);
    /* Paths that none can be: as of the client, and with a zero byte. */
    ck_assert_int_eq(backup(fd, "copy2", 5), UV_EINVAL);
    ck_assert_int_eq(backup(fd, "", 0), UV_EINVAL);
    temp_path(path, rig.dir, "copy2");
    ck_assert_int_eq(backup(fd, path, strlen(path) + 1), UV_EINVAL);
    static char long_path[PATH_MAX];
    memset(long_path, '/', sizeof long_path);
    ck_assert_int_eq(backup(fd, long_path, sizeof long_path), UV_ENAMETOOLONG);
    close(fd);
}
END_TEST

/* In pieces of one byte, and two in one piece. */
START_TEST(pieces)
{
    uint8_t bytes[64];
    struct wire_request request = {.op = WIRE_QUEUES};
    struct wire_writer w = {bytes, 0};
    struct wire_reader r;
    int fd = client();
    dassie__wire_request_write(&w, &request, 0);
    for (size_t i = 0; i < w.n; i++) {
        push(fd, bytes + i, 1);
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    ck_assert_int_eq(pull_reply(fd, WIRE_QUEUES, &r), 0);
    dassie__wire_request_write(&w, &request, 0);
    push(fd, bytes, w.n);
    ck_assert_int_eq(pull_reply(fd, WIRE_QUEUES, &r), 0);
    ck_assert_int_eq(pull_reply(fd, WIRE_QUEUES, &r), 0);
    close(fd);
}
END_TEST

/* ---- What no writer makes ---- */

/* It is told so, and the connection ends. */
static void check_refused(const uint8_t *p, size_t n, uint8_t op)
{
    struct wire_reader r;
    uint8_t byte;
    int fd = client();
    push(fd, p, n);
    ck_assert_int_eq(pull_reply(fd, op, &r), UV_EPROTO);
    ck_assert_ptr_eq(r.p, r.end);
    ck_assert(!pull(fd, &byte, 1));
    close(fd);
}

#define BAD(op, ...)                                              \
    {                                                             \
        {__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), op \
    }

static const struct {
    uint8_t bytes[40];
    size_t n;
    uint8_t op;
} bad[] = {
    BAD(0, 0, 0, 0, 0),                            /* no operation */
    BAD(0, 0, 0, 0, 1, 1),                         /* so, too */
    BAD(0, 0xff, 0xff, 0xff, 0xff, 1, 1),          /* too long */
    BAD(0, 0, 0x10, 0, 1, 1, 1),                   /* by one */
    BAD(1, 0, 0, 0, 2, 0, 1),                      /* another version */
    BAD(1, 0, 0, 0, 2, 2, 1),                      /* so, too */
    BAD(0, 0, 0, 0, 2, 1, 0),                      /* no such operation */
    BAD(11, 0, 0, 0, 2, 1, 11),                    /* so, too */
    BAD(255, 0, 0, 0, 2, 1, 255),                  /* so, too */
    BAD(1, 0, 0, 0, 3, 1, 1, 0),                   /* a byte too many */
    BAD(2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 0, 0, 0, 0), /* too few */
    BAD(5, 0, 0, 0, 7, 1, 5, 2, 0, 0, 0, 0),       /* paused 2 */
    BAD(5, 0, 0, 0, 8, 1, 5, 1, 0, 0, 0, 2, 'q'),  /* name cut */
    BAD(5, 0, 0, 0, 8, 1, 5, 1, 0xff, 0xff, 0xff, 0xff, 'q'), /* so, too */
    BAD(6, 0, 0, 0, 6, 1, 6, 0, 0, 0, 0),                     /* no jobs */
    BAD(6, 0, 0, 0, 6, 1, 6, 0xff, 0xff, 0xff, 0xff),         /* cut */
    BAD(6, 0, 0, 0, 10, 1, 6, 0, 0, 0, 1, 0, 0, 0, 9),
    BAD(10, 0, 0, 0, 3, 1, 10, 0) /* a byte too many */};

START_TEST(malformed)
{
    check_refused(bad[_i].bytes, bad[_i].n, bad[_i].op);
}
END_TEST

/* Each request cut short everywhere, with a length that says so. */
START_TEST(cut)
{
    uint8_t bytes[256];
    struct wire_request request = {.op = (uint8_t)_i,
                                   .action = 1,
                                   .queue = bytes_of("queue"),
                                   .name = bytes_of("name")};
    struct wire_writer w = {bytes, 0};
    dassie__wire_request_write(&w, &request, 0);
    for (size_t n = 2; n < w.n - WIRE_HEAD_BYTES; n++) {
        struct wire_writer head = {bytes, 0};
        dassie__wire_put(&head, n, WIRE_HEAD_BYTES);
        check_refused(bytes, WIRE_HEAD_BYTES + n, request.op);
    }
}
END_TEST

START_TEST(names_too_long)
{
    uint8_t bytes[512];
    char name[DASSIE_NAME_BYTES_MAX + 1];
    struct wire_request request = {.op = WIRE_PAUSE,
                                   .queue = {name, sizeof name}};
    struct wire_writer w = {bytes, 0};
    memset(name, 'n', sizeof name);
    dassie__wire_request_write(&w, &request, 0);
    check_refused(bytes, w.n, WIRE_PAUSE);
}
END_TEST

/* A request of the longest that may be, and one that is longer by a byte. */
START_TEST(longest)
{
    static char data[DASSIE_ADMIN_BYTES_MAX];
    static uint8_t bytes[DASSIE_ADMIN_BYTES_MAX + 64];
    struct wire_request request = {.op = WIRE_ENQUEUE, .jobs_n = 1};
    dassie_spec_t spec = rig_spec("a", NULL);
    struct wire_reader r;
    spec.queue_len = 1;
    spec.data = data;
    for (size_t more = 0; more < 2; more++) {
        struct wire_writer jobs = {NULL, 0};
        struct wire_writer w = {bytes, 0};
        spec.data_len = 0;
        dassie__wire_job_write(&jobs, &spec);
        spec.data_len = sizeof data - 6 - jobs.n + more;
        dassie__wire_request_write(&w, &request, jobs.n + spec.data_len);
        dassie__wire_job_write(&w, &spec);
        ck_assert_uint_eq(w.n, WIRE_HEAD_BYTES + sizeof data + more);
        int fd = client();
        for (size_t at = 0; at < w.n;) {
            ssize_t n =
                send(fd, bytes + at, w.n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN) {
                break; /* it was refused by its length */
            }
            at += n > 0 ? (size_t)n : 0;
            uv_run(&rig.loop, UV_RUN_NOWAIT);
        }
        if (more == 0) {
            ck_assert_int_eq(pull_reply(fd, WIRE_ENQUEUE, &r), 0);
        }
        close(fd);
    }
    ck_assert_uint_eq(rig_counts().pending, 1);
}
END_TEST

/* ---- Events ---- */

/* The events of one message, and how many were missed before. */
static uint64_t pull_events(int fd, dassie_event_t *events, uint64_t *missed)
{
    struct wire_reader r;
    ck_assert_int_eq(pull_reply(fd, WIRE_TAIL, &r), 0);
    *missed = dassie__wire_take(&r, 8);
    uint64_t n = dassie__wire_take(&r, 4);
    for (uint64_t i = 0; i < n; i++) {
        dassie__wire_event_read(&r, &events[i]);
    }
    ck_assert(!r.bad && r.p == r.end);
    return n;
}

START_TEST(tail)
{
    static dassie_event_t events[DASSIE_EVENTS_MAX];
    struct wire_request request = {.op = WIRE_TAIL, .queue = bytes_of("a")};
    uint64_t missed;
    int fd = client();
    push_request(fd, &request);
    ck_assert_uint_eq(pull_events(fd, events, &missed), 0);
    rig_enqueue("b", "not this one");
    uint64_t id = rig_enqueue("a", "x");
    ck_assert_uint_eq(pull_events(fd, events, &missed), 1);
    ck_assert_uint_eq(events[0].id, id);
    ck_assert_int_eq(events[0].from, DASSIE_NOWHERE);
    ck_assert_int_eq(events[0].to, DASSIE_PENDING);
    ck_assert_str_eq(events[0].queue, "a");
    ck_assert_uint_eq(missed, 0);
    push(fd, "x", 1); /* it has nothing to say */
    uint8_t byte;
    ck_assert(!pull(fd, &byte, 1));
    close(fd);
    request.states = 1u << 3;
    fd = client();
    struct wire_reader r;
    ck_assert_int_eq(ask(fd, &request, &r), UV_EINVAL);
    close(fd);
}
END_TEST

#define TAIL_BATCHES 64
#define TAIL_JOBS 1000

/* Each event is told or counted as missed. */
START_TEST(slow_tail)
{
    static dassie_event_t events[DASSIE_EVENTS_MAX];
    static dassie_spec_t specs[TAIL_JOBS];
    struct wire_request request = {.op = WIRE_TAIL};
    uint64_t missed;
    uint64_t missed_n = 0;
    uint64_t told_n = 0;
    int fd = client();
    push_request(fd, &request);
    ck_assert_uint_eq(pull_events(fd, events, &missed), 0);
    for (int i = 0; i < TAIL_JOBS; i++) {
        specs[i] = rig_spec(NULL, NULL);
    }
    for (int i = 0; i < TAIL_BATCHES; i++) {
        static dassie_enqueue_many_t many;
        ck_assert_int_eq(
            dassie_enqueue_many(&rig.q, &many, specs, TAIL_JOBS, NULL), 0);
        rig_counts();
    }
    while (told_n + missed_n < TAIL_BATCHES * TAIL_JOBS) {
        told_n += pull_events(fd, events, &missed);
        missed_n += missed;
    }
    ck_assert_uint_eq(told_n + missed_n, TAIL_BATCHES * TAIL_JOBS);
    ck_assert_uint_gt(missed_n, 0);
    close(fd);
}
END_TEST

/* ---- Clients ---- */

#define BIG_JOBS 1000
#define BIG_BYTES 4096

/* One that does not read its long reply holds up nobody, and gets it all. */
START_TEST(slow_reader)
{
    static char data[BIG_BYTES];
    static dassie_spec_t specs[BIG_JOBS];
    static dassie_enqueue_many_t many;
    struct wire_request list = {.op = WIRE_LIST, .limit = BIG_JOBS};
    struct wire_reader r;
    dassie_info_t info;
    for (int i = 0; i < BIG_JOBS; i++) {
        specs[i] = rig_spec(NULL, NULL);
        specs[i].data = data;
        specs[i].data_len = sizeof data;
    }
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, specs, BIG_JOBS, NULL),
                     0);
    int slow = client();
    push_request(slow, &list);
    int fd = client();
    for (int i = 0; i < 100; i++) {
        ck_assert_uint_eq(pending(fd), BIG_JOBS);
    }
    close(fd);
    ck_assert_int_eq(pull_reply(slow, WIRE_LIST, &r), 0);
    dassie__wire_take(&r, 8);
    dassie__wire_take(&r, 8);
    dassie__wire_take(&r, 8);
    dassie__wire_take(&r, 1);
    ck_assert_uint_eq(dassie__wire_take(&r, 4), BIG_JOBS);
    for (int i = 0; i < BIG_JOBS; i++) {
        dassie__wire_info_read(&r, &info);
        ck_assert_uint_eq(info.data_len, BIG_BYTES);
    }
    ck_assert(!r.bad && r.p == r.end);
    close(slow);
}
END_TEST

/* Large jobs, of which a page of the library's does not fit into a reply, are
 * told in more pages. */
START_TEST(large_jobs)
{
    static char data[9 << 20];
    struct wire_request list = {.op = WIRE_LIST};
    struct wire_reader r;
    dassie_info_t info;
    dassie_spec_t spec = rig_spec(NULL, NULL);
    spec.data = data;
    spec.data_len = sizeof data;
    for (uint64_t id = 1; id <= 3; id++) {
        int status;
        ck_assert_uint_eq(rig_try_enqueue(&spec, &status), id);
    }
    int fd = client();
    bool more = true;
    for (uint64_t id = 1; more; id++) {
        ck_assert_int_eq(ask(fd, &list, &r), 0);
        for (int i = 0; i < 3; i++) {
            list.cursor[i] = dassie__wire_take(&r, 8);
        }
        more = dassie__wire_take(&r, 1) != 0;
        ck_assert_uint_eq(dassie__wire_take(&r, 4), 1);
        dassie__wire_info_read(&r, &info);
        ck_assert_uint_eq(info.id, id);
        ck_assert(more || id == 3);
    }
    ck_assert_uint_eq(info.id, 3);
    close(fd);
}
END_TEST

/* A connection that is served, once there is room for it. */
static int served(void)
{
    for (;;) {
        uint8_t bytes[64];
        struct wire_request request = {.op = WIRE_QUEUES};
        struct wire_writer w = {bytes, 0};
        int fd = client();
        dassie__wire_request_write(&w, &request, 0);
        if (send(fd, bytes, w.n, MSG_NOSIGNAL) == (ssize_t)w.n &&
            pull(fd, got, WIRE_HEAD_BYTES)) {
            size_t n = (size_t)got[2] << 8 | got[3];
            ck_assert(pull(fd, got, n));
            return fd;
        }
        close(fd);
    }
}

/* One too many is turned away; when one goes, there is room again. */
START_TEST(many_clients)
{
    int fds[DASSIE_ADMIN_CLIENTS_MAX];
    uint8_t byte;
    for (int i = 0; i < DASSIE_ADMIN_CLIENTS_MAX; i++) {
        fds[i] = client();
        pending(fds[i]);
    }
    int more = client();
    ck_assert(!pull(more, &byte, 1));
    close(more);
    close(fds[0]);
    more = served();
    close(more);
    for (int i = 1; i < DASSIE_ADMIN_CLIENTS_MAX; i++) {
        pending(fds[i]);
        close(fds[i]);
    }
}
END_TEST

/* Nothing waits for the loop. */
static bool is_quiet(void)
{
    struct pollfd backend = {.fd = uv_backend_fd(&rig.loop), .events = POLLIN};
    return poll(&backend, 1, 0) == 0;
}

/* A client for whom there is no descriptor: the loop does not go round and
 * round. Then there are some again. */
static int client_without_descriptor(void)
{
    struct rlimit files;
    int fd = client_socket();
    int next = dup(fd);
    close(next);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    struct rlimit none = {(rlim_t)next, files.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    client_connect(fd);
    uv_run(&rig.loop, UV_RUN_NOWAIT); /* it meets the client */
    rig_poll(is_quiet);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    return fd;
}

START_TEST(no_descriptors)
{
    int fd = client_without_descriptor();
    ck_assert_uint_eq(pending(fd), 0);
    close(fd);
}
END_TEST

/* Nor does the end wait for any. */
START_TEST(closed_without_descriptors)
{
    uint8_t byte;
    int fd = client_without_descriptor();
    rig_close();
    ck_assert_int_le(recv(fd, &byte, 1, 0), 0);
    close(fd);
    rig_open();
}
END_TEST

/* Those that go before their reply, or in the middle of a request. */
START_TEST(clients_that_go)
{
    uint8_t part[] = {0, 0, 0, 2, 1};
    for (int i = 0; i < 100; i++) {
        struct wire_request request = {.op = WIRE_QUEUES};
        int fd = client();
        if (i % 2 == 0) {
            push_request(fd, &request);
        } else {
            push(fd, part, (size_t)(i % 10) / 2 + 1);
        }
        close(fd);
        uv_run(&rig.loop, UV_RUN_NOWAIT);
    }
    close(served());
}
END_TEST

/* ---- Begin and end ---- */

START_TEST(closed_meanwhile)
{
    uint8_t byte;
    struct wire_request request = {.op = WIRE_QUEUES};
    int idle = client();
    pending(idle);
    int asks = client();
    push_request(asks, &request);
    struct wire_request tail_request = {.op = WIRE_TAIL};
    struct wire_reader r;
    int tails = client();
    ck_assert_int_eq(ask(tails, &tail_request, &r), 0);
    rig_close();
    ck_assert_int_eq(recv(tails, &byte, 1, 0), 0);
    close(tails);
    ck_assert_int_eq(recv(idle, &byte, 1, 0), 0);
    while (recv(asks, &byte, 1, 0) > 0) {
    }
    close(idle);
    close(asks);
    char path[PATH_MAX];
    temp_path(path, rig.path, "admin");
    ck_assert_int_eq(access(path, F_OK), -1);
    rig_open();
}
END_TEST

START_TEST(refusals)
{
    char path[PATH_MAX];
    struct stat st;
    temp_path(path, rig.path, "admin");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(dassie_admin_listen(NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_admin_listen(&rig.q, NULL), UV_EALREADY);
    rig_close();
    ck_assert_int_eq(dassie_admin_listen(&rig.q, NULL), UV_EINVAL);
    rig.options.flags = DASSIE_READ_ONLY;
    rig_open();
    listen_on();
    ck_assert_int_eq(listen_status, UV_EROFS);
    listen_on(); /* it may try again */
    rig_close();
    rig.options.flags = 0;
    rig_open();
}
END_TEST

/* What a killed owner has left is in nobody's way; nor is an open that fails.
 */
START_TEST(left_behind)
{
    char path[PATH_MAX];
    char deep[PATH_MAX];
    temp_path(path, rig.path, "admin");
    rig_close();
    temp_file_write(rig.path, "admin", "", 0);
    rig_open();
    listen_on();
    ck_assert_int_eq(listen_status, 0);
    int fd = client();
    ck_assert_uint_eq(pending(fd), 0);
    close(fd);
    rig_close();
    memcpy(path, rig.path, sizeof path);
    temp_path(deep, rig.dir,
              "0123456789012345678901234567890123456789012345678901234567890"
              "12345678901234567890123456789012345678901234567890123456789");
    memcpy(rig.path, deep, sizeof deep);
    rig_open();
    listen_on();
    ck_assert_int_eq(listen_status, UV_ENAMETOOLONG);
    rig_close();
    memcpy(rig.path, path, sizeof path);
    rig_open();
    ck_assert_int_eq(dassie_admin_listen(&rig.q, on_listen), 0);
    listened = 0;
    rig_close(); /* at once */
    ck_assert_int_eq(listened, 1);
    rig_open();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *tc = tcase_create("admin");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, looks);
    tcase_add_test(tc, metrics);
    tcase_add_test(tc, steers);
    tcase_add_test(tc, checks_and_copies);
    tcase_add_test(tc, pieces);
    tcase_add_loop_test(tc, malformed, 0, sizeof bad / sizeof bad[0]);
    tcase_add_loop_test(tc, cut, WIRE_GET, WIRE_ENQUEUE);
    tcase_add_test(tc, tail);
    tcase_add_test(tc, slow_tail);
    tcase_add_test(tc, names_too_long);
    tcase_add_test(tc, longest);
    tcase_add_test(tc, slow_reader);
    tcase_add_test(tc, large_jobs);
    tcase_add_test(tc, many_clients);
    tcase_add_test(tc, no_descriptors);
    tcase_add_test(tc, closed_without_descriptors);
    tcase_add_test(tc, clients_that_go);
    tcase_add_test(tc, closed_meanwhile);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, left_behind);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
