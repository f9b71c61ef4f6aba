/* tcp_server.c: a server that does its work in jobs. Each line that a client
 * sends becomes a job. The client is told "queued ID" once the job is safe, and
 * "done ID RESULT" or "failed ID TEXT" when it has ended. Whatever happens to
 * the client or the server in between, the job will run.
 *
 *     tcp_server [-d DIR] [-p PORT] [-m PORT] [-t MS] [-i JOBS]
 *
 * The work is to turn a line round and into upper case; "fail" fails. -t lets
 * it take that long. -i is how many jobs may wait for a commit. -m answers GET
 * /metrics of Prometheus at another port (0: any).
 *
 * The memory that a client takes is bounded: nobody is read while the queue's
 * inbox is full, and a client is not while too many of its jobs are under way
 * or it does not take its answers.
 *
 * SIGTERM and Ctrl-C end it cleanly. Exit status: 0 ended by them, 1 an error,
 * 2 wrong usage. */
#include "scrape.h"

#include <dassie.h>

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES_MAX 65536
#define CONN_JOBS_MAX 1000            /* of one client, under way */
#define CONN_ANSWER_BYTES_MAX 1048576 /* not yet taken by it */
#define BACKLOG 128
#define CONCURRENCY 3   /* the pool has 4 threads, one is left to others */
#define GOODBYE_MS 1000 /* for the last answers to go out */

struct conn {
    uv_tcp_t tcp;                 /* first, so that it is the conn, too */
    uv_shutdown_t shutdown;       /* ends the sending */
    struct conn *prev, *next;     /* in the list of all */
    unsigned refs;                /* the handle, and each job under way */
    int reading;                  /* uv_read_start() is on */
    int ended;                    /* the client has sent all */
    int leaving;                  /* uv_shutdown() has been called */
    int skipping;                 /* in the middle of a line too long */
    size_t len;                   /* bytes in buf */
    char buf[LINE_BYTES_MAX + 1]; /* received, and not yet enqueued */
};

/* A job that a client waits for. */
struct task {
    dassie_enqueue_t req; /* first, so that it is the task, too */
    struct conn *conn;    /* holds a reference */
};

struct answer {
    uv_write_t req; /* first, so that it is the answer, too */
    char text[];
};

static const char *dir = "tcp_server.db";
static long port;
static long metrics_port;
static int metrics;
static long job_ms;
static long inbox_jobs;

static dassie_t queue;
static dassie_processor_t processor;
static dassie_drain_t drain;
static uv_tcp_t listener;
static uv_signal_t on_interrupt, on_terminate;
static uv_timer_t goodbye;
static struct conn *conns;
static int inbox_full;
static int stopping;
static int exit_code;

/* ---- Clients ------------------------------------------------------------ */

static void conn_go_on(struct conn *c);

static void conn_unref(struct conn *c)
{
    if (--c->refs == 0)
        free(c);
}

static void conn_closed(uv_handle_t *handle)
{
    conn_unref((struct conn *)handle);
}

/* The client is gone, or to go. Its jobs under way are not told to anybody. */
static void conn_close(struct conn *c)
{
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    uv_close((uv_handle_t *)&c->tcp, conn_closed);
}

static void conn_left(uv_shutdown_t *req, int status)
{
    if (status != UV_ECANCELED)
        conn_close(req->data);
}

/* Closes once all answers are sent. */
static void conn_leave(struct conn *c)
{
    if (c->leaving || uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    c->leaving = 1;
    c->shutdown.data = c;
    if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, conn_left) != 0)
        conn_close(c);
}

static void answered(uv_write_t *req, int status)
{
    struct conn *c = (struct conn *)req->handle;

    free(req);
    if (status == 0)
        conn_go_on(c);
    else
        conn_close(c);
}

/* Sends "what ID data", or "what data" without an id. */
static void conn_answer(struct conn *c, const char *what, uint64_t id,
                        const void *data, size_t len)
{
    size_t room = strlen(what) + 24 + len;
    struct answer *a;
    uv_buf_t buf;
    int n;

    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    a = malloc(sizeof *a + room);
    if (a == NULL) {
        conn_close(c); /* better than to leave one out */
        return;
    }
    n = id != 0 ? snprintf(a->text, room, "%s %" PRIu64, what, id)
                : snprintf(a->text, room, "%s", what);
    if (len > 0) {
        a->text[n++] = ' ';
        memcpy(a->text + n, data, len);
    }
    a->text[n + len] = '\n';
    buf = uv_buf_init(a->text, (unsigned)(n + len + 1));
    if (uv_write(&a->req, (uv_stream_t *)&c->tcp, &buf, 1, answered) != 0) {
        free(a);
        conn_close(c);
    }
}

static void conn_error(struct conn *c, const char *text)
{
    conn_answer(c, "error", 0, text, strlen(text));
}

/* ---- Jobs --------------------------------------------------------------- */

/* Runs on a thread of the pool. */
static int work(dassie_job_t *job)
{
    size_t len;
    const char *line = dassie_job_data(job, &len);
    char *result;
    int rv;

    if (job_ms > 0)
        uv_sleep((unsigned)job_ms);
    if (len == 4 && memcmp(line, "fail", 4) == 0) {
        rv = dassie_job_set_error(job, "told to fail", 12);
        return rv != 0 ? rv : UV_EINVAL;
    }
    result = malloc(len + 1);
    if (result == NULL)
        return UV_ENOMEM;
    for (size_t i = 0; i < len; i++)
        result[i] = (char)toupper((unsigned char)line[len - 1 - i]);
    rv = dassie_job_set_result(job, result, len);
    free(result);
    return rv;
}

static void task_free(struct task *task)
{
    struct conn *c = task->conn;
    int open = !uv_is_closing((uv_handle_t *)&c->tcp);

    free(task);
    conn_unref(c);
    if (open)
        conn_go_on(c);
}

static void task_done(dassie_enqueue_t *req, int status,
                      const dassie_info_t *job)
{
    struct task *task = (struct task *)req;

    /* With another status the server ends before the job has. */
    if (status == 0 && job->state == DASSIE_COMPLETE)
        conn_answer(task->conn, "done", job->id, job->result, job->result_len);
    else if (status == 0)
        conn_answer(task->conn, "failed", job->id, job->error, job->error_len);
    task_free(task);
}

static void task_queued(dassie_enqueue_t *req, int status)
{
    struct task *task = (struct task *)req;

    if (status == 0) {
        conn_answer(task->conn, "queued", req->id, NULL, 0);
        return; /* task_done() will come */
    }
    conn_error(task->conn, dassie_strerror(status));
    task_free(task);
}

/* Errors: UV_ENOBUFS, the inbox is full; any other, the client was told. */
static int task_new(struct conn *c, const char *line, size_t len)
{
    struct task *task = calloc(1, sizeof *task);
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int rv = UV_ENOMEM;

    if (len > 0 && line[len - 1] == '\r')
        len--;
    spec.data = line;
    spec.data_len = len;
    spec.attempts_max = 1; /* the client is told, and may ask again */
    if (task != NULL) {
        task->conn = c;
        task->req.done_cb = task_done;
        rv = dassie_enqueue(&queue, &task->req, &spec, task_queued);
    }
    if (rv == 0) {
        c->refs++;
        return 0;
    }
    free(task);
    if (rv != UV_ENOBUFS)
        conn_error(c, dassie_strerror(rv));
    return rv;
}

/* ---- Lines -------------------------------------------------------------- */

static int conn_may_send(const struct conn *c)
{
    return !inbox_full && !stopping && c->refs <= CONN_JOBS_MAX &&
           uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) <
               CONN_ANSWER_BYTES_MAX &&
           !uv_is_closing((const uv_handle_t *)&c->tcp);
}

static const char *conn_newline(const struct conn *c, size_t from)
{
    return memchr(c->buf + from, '\n', c->len - from);
}

/* Enqueues the lines received, as far as it may. */
static void conn_take_lines(struct conn *c)
{
    const char *end;
    size_t taken = 0;

    while (conn_may_send(c) && (end = conn_newline(c, taken)) != NULL) {
        const char *line = c->buf + taken;

        if (!c->skipping &&
            task_new(c, line, (size_t)(end - line)) == UV_ENOBUFS) {
            inbox_full = 1; /* until pressure() says that it is not */
            break;
        }
        c->skipping = 0;
        taken = (size_t)(end - c->buf) + 1;
    }
    c->len -= taken;
    memmove(c->buf, c->buf + taken, c->len);
}

/* Makes room in a buffer that is full of a line. */
static void conn_skip(struct conn *c)
{
    if (conn_newline(c, 0) != NULL || (c->len < sizeof c->buf && !c->skipping))
        return;
    if (!c->skipping)
        conn_error(c, "line too long");
    c->skipping = 1;
    c->len = 0;
}

static void conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = (struct conn *)handle;

    (void)suggested;
    *buf = uv_buf_init(c->buf + c->len, (unsigned)(sizeof c->buf - c->len));
}

static void conn_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = (struct conn *)stream;

    (void)buf;
    if (n > 0)
        c->len += (size_t)n;
    else if (n == UV_EOF)
        c->ended = 1; /* it may still take answers */
    else if (n < 0)
        conn_close(c);
    conn_go_on(c);
}

/* Does all that may be done for this client now; called after every event that
 * may have changed what that is. */
static void conn_go_on(struct conn *c)
{
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    conn_take_lines(c);
    conn_skip(c);
    if (!c->ended && conn_may_send(c)) {
        if (!c->reading &&
            uv_read_start((uv_stream_t *)&c->tcp, conn_alloc, conn_read) != 0)
            conn_close(c);
        c->reading = 1;
        return;
    }
    uv_read_stop((uv_stream_t *)&c->tcp);
    c->reading = 0;
    if (c->ended && c->refs == 1 && conn_newline(c, 0) == NULL)
        conn_leave(c);
}

/* ---- Server ------------------------------------------------------------- */

static void goodbye_over(uv_timer_t *timer)
{
    (void)timer;
    while (conns != NULL)
        conn_close(conns);
}

/* All jobs under way have ended and all answers are on their way. */
static void closed(dassie_t *q)
{
    struct conn *next;

    for (struct conn *c = conns; c != NULL; c = next) {
        next = c->next;
        conn_leave(c);
    }
    uv_timer_start(&goodbye, goodbye_over, GOODBYE_MS, 0);
    uv_unref((uv_handle_t *)&goodbye);
    (void)q;
}

/* No client can send any more, running jobs may end, then closed() comes. */
static void stop(int code)
{
    if (dassie_close(&queue, closed) != 0)
        return; /* called before */
    stopping = 1;
    exit_code = code;
    uv_close((uv_handle_t *)&on_interrupt, NULL);
    uv_close((uv_handle_t *)&on_terminate, NULL);
    uv_close((uv_handle_t *)&listener, NULL);
    scrape_stop();
    for (struct conn *c = conns; c != NULL; c = c->next)
        conn_go_on(c);
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "tcp_server: %s: %s\n", what, why);
    stop(1);
}

static void stop_on_signal(uv_signal_t *handle, int signum)
{
    (void)handle;
    (void)signum;
    stop(0);
}

/* Takes a client. Errors are those of the system, or no memory. */
static int conn_new(uv_stream_t *server)
{
    struct conn *c = calloc(1, sizeof *c);
    int rv = c == NULL ? UV_ENOMEM : uv_tcp_init(server->loop, &c->tcp);

    if (rv != 0) {
        free(c);
        return rv;
    }
    c->refs = 1;
    c->next = conns;
    if (conns != NULL)
        conns->prev = c;
    conns = c;
    rv = uv_accept(server, (uv_stream_t *)&c->tcp);
    if (rv == 0)
        conn_go_on(c);
    else
        conn_close(c);
    return rv;
}

static void connected(uv_stream_t *server, int status)
{
    if (status != 0)
        fprintf(stderr, "tcp_server: client: %s\n", dassie_strerror(status));
    else if ((status = conn_new(server)) != 0)
        fail("accept", dassie_strerror(status));
}

static void pressure(dassie_t *q, int full)
{
    struct conn *next;

    (void)q;
    inbox_full = full;
    for (struct conn *c = conns; c != NULL; c = next) {
        next = c->next;
        conn_go_on(c); /* may close it */
    }
}

static void drained(dassie_drain_t *req, int status)
{
    (void)req;
    if (status == 0)
        printf("jobs from before are done\n");
}

/* What an earlier server left runs like any other job; nobody is told. */
static int tell_of_jobs_from_before(void)
{
    dassie_stats_t stats;
    int rv = dassie_stats(&queue, &stats);

    if (rv != 0 || stats.jobs.pending + stats.jobs.running == 0)
        return rv;
    printf("%" PRIu64 " jobs from before\n",
           stats.jobs.pending + stats.jobs.running);
    return dassie_drain(&queue, &drain, NULL, 0, drained);
}

static int start_listening(void)
{
    struct sockaddr_in addr;
    int len = sizeof addr;
    int rv;

    if ((rv = uv_ip4_addr("127.0.0.1", (int)port, &addr)) != 0 ||
        (rv = uv_tcp_bind(&listener, (struct sockaddr *)&addr, 0)) != 0 ||
        (rv = uv_listen((uv_stream_t *)&listener, BACKLOG, connected)) != 0 ||
        (rv = uv_tcp_getsockname(&listener, (struct sockaddr *)&addr, &len)))
        return rv;
    if (metrics) {
        int at = (int)metrics_port;

        if ((rv = scrape_listen(&queue, &at)) != 0)
            return rv;
        printf("http://127.0.0.1:%d/metrics\n", at);
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(addr.sin_port));
    return 0;
}

static void opened(dassie_t *q, int status)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    int rv;

    if (status != 0) {
        fail(dir, dassie_errmsg(q));
        return;
    }
    options.work = work;
    options.concurrency = CONCURRENCY;
    if ((rv = tell_of_jobs_from_before()) != 0 ||
        (rv = dassie_process(q, &processor, &options)) != 0 ||
        (rv = start_listening()) != 0)
        fail("start", dassie_strerror(rv));
}

static void log_line(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    if (level <= DASSIE_LOG_WARNING)
        fprintf(stderr, "tcp_server: %s\n", line);
}

static int start(uv_loop_t *loop)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    int rv;

    options.inbox_jobs_max = (size_t)inbox_jobs;
    options.log_cb = log_line;
    options.pressure_cb = pressure;
    if ((rv = uv_tcp_init(loop, &listener)) != 0 ||
        (rv = uv_timer_init(loop, &goodbye)) != 0 ||
        (rv = uv_signal_init(loop, &on_interrupt)) != 0 ||
        (rv = uv_signal_init(loop, &on_terminate)) != 0 ||
        (rv = uv_signal_start(&on_interrupt, stop_on_signal, SIGINT)) != 0 ||
        (rv = uv_signal_start(&on_terminate, stop_on_signal, SIGTERM)) != 0 ||
        (rv = dassie_init(loop, &queue)) != 0)
        return rv;
    return dassie_open(&queue, dir, &options, opened);
}

/* ---- Arguments ---------------------------------------------------------- */

static long number(const char *text, long min, long max)
{
    char *end;
    long n = strtol(text, &end, 10);

    return end == text || *end != '\0' || n < min || n > max ? -1 : n;
}

/* Returns -1 for arguments that it does not understand. */
static int parse(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "d:p:m:t:i:")) != -1) {
        if (c == 'd')
            dir = optarg;
        else if (c == 'p')
            port = number(optarg, 0, 65535);
        else if (c == 'm') {
            metrics = 1;
            metrics_port = number(optarg, 0, 65535);
        } else if (c == 't')
            job_ms = number(optarg, 0, 3600000);
        else if (c == 'i')
            inbox_jobs = number(optarg, 1, 1000000);
        else
            return -1;
    }
    if (optind < argc || port < 0 || metrics_port < 0 || job_ms < 0 ||
        inbox_jobs < 0)
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    int rv;

    if (parse(argc, argv) != 0) {
        fprintf(stderr,
                "usage: tcp_server [-d DIR] [-p PORT] [-m PORT] [-t MS] "
                "[-i JOBS]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also to a file */
    signal(SIGPIPE, SIG_IGN);         /* a client gone is an error of write */
    rv = start(uv_default_loop());
    if (rv != 0) {
        fprintf(stderr, "tcp_server: %s: %s\n", dir, dassie_strerror(rv));
        return 1;
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return exit_code;
}
