#include "config.h"

#include "child.h"

#include "terminal.h"

#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PUT_OFF_MS 1000
#define READ_BYTES 4096

struct child {
    struct child *next;
    struct child *prev;
    dassie_job_t *job;
    uint64_t id;
    uint32_t attempt;
    char **args; /* the command's, and its environment: */
    char **env;
    uv_process_t process;
    uv_pipe_t in;
    uv_pipe_t err;
    uv_write_t write;
    int handles;    /* that are not closed yet */
    int spawn_rc;   /* of uv_spawn() */
    int64_t status; /* of its exit */
    int signal;     /* that killed it, or 0 */
    bool ended;     /* it was sent a signal by us */
    size_t error_len;
    char error[DASSIE_ERROR_BYTES_MAX]; /* the end of its stderr */
    char buffer[READ_BYTES];
};

static struct child *children;
static unsigned count;
static int broken;
static void (*on_broken)(void);

unsigned children_n(void)
{
    return count;
}

int children_broken(void)
{
    return broken;
}

void children_on_broken(void (*cb)(void))
{
    on_broken = cb;
}

/* ---- Arguments and environment ---- */

static void free_strings(char **strings)
{
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++) {
        free(strings[i]);
    }
    free(strings);
}

/* A copy of text with data in place of each {}. */
static char *replace(const char *text, const char *data, size_t len)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, "{}")) != NULL; at += 2) {
        n++;
    }
    char *copy = malloc(strlen(text) + n * len + 1);
    char *to = copy;
    while (copy != NULL && *text != '\0') {
        if (text[0] == '{' && text[1] == '}') {
            memcpy(to, data, len);
            to += len;
            text += 2;
        } else {
            *to++ = *text++;
        }
    }
    if (copy != NULL) {
        *to = '\0';
    }
    return copy;
}

static bool takes_payload(char **command)
{
    while (*command != NULL && strstr(*command, "{}") == NULL) {
        command++;
    }
    return *command != NULL;
}

static char **make_args(char **command, const char *data, size_t len)
{
    size_t n = 0;
    while (command[n] != NULL) {
        n++;
    }
    char **args = calloc(n + 1, sizeof args[0]);
    for (size_t i = 0; args != NULL && i < n; i++) {
        args[i] = replace(command[i], data, len);
        if (args[i] == NULL) {
            free_strings(args);
            return NULL;
        }
    }
    return args;
}

static char *variable(const char *name, const char *value)
{
    size_t bytes = strlen(name) + strlen(value) + 2;
    char *text = malloc(bytes);
    if (text != NULL) {
        snprintf(text, bytes, "%s=%s", name, value);
    }
    return text;
}

/* The tool's own, and what the job is called. */
static char **make_env(const dassie_job_t *job)
{
    char id[24];
    char attempt[16];
    size_t n = 0;
    while (environ[n] != NULL) {
        n++;
    }
    char **env = calloc(n + 5, sizeof env[0]);
    if (env == NULL) {
        return NULL;
    }
    snprintf(id, sizeof id, "%" PRIu64, dassie_job_id(job));
    snprintf(attempt, sizeof attempt, "%" PRIu32, dassie_job_attempt(job));
    env[0] = variable("DASSIE_JOB_ID", id);
    env[1] = variable("DASSIE_JOB_ATTEMPT", attempt);
    env[2] = variable("DASSIE_JOB_NAME", dassie_job_name(job, NULL));
    env[3] = variable("DASSIE_JOB_QUEUE", dassie_job_queue(job, NULL));
    bool all =
        env[0] != NULL && env[1] != NULL && env[2] != NULL && env[3] != NULL;
    for (size_t i = 0; all && i < n; i++) {
        env[4 + i] = strdup(environ[i]);
        all = env[4 + i] != NULL;
    }
    if (!all) {
        free_strings(env);
        return NULL;
    }
    return env;
}

/* ---- The end ---- */

static void error_add(struct child *c, const char *p, size_t n)
{
    size_t most = sizeof c->error;
    if (n >= most) {
        p += n - most;
        n = most;
        c->error_len = 0;
    }
    if (c->error_len + n > most) {
        size_t drop = c->error_len + n - most;
        memmove(c->error, c->error + drop, c->error_len - drop);
        c->error_len -= drop;
    }
    memcpy(c->error + c->error_len, p, n);
    c->error_len += n;
}

static void finish(struct child *c, int status, const char *text, size_t len)
{
    dassie_finish(&session.q, c->id, c->attempt, status, text, len);
}

/* It was never started: why is c->spawn_rc. */
static void finish_unstarted(struct child *c)
{
    switch (c->spawn_rc) {
        case UV_EAGAIN:
        case UV_EMFILE:
        case UV_ENFILE:
        case UV_ENOMEM:
            dassie_job_snooze(c->job, PUT_OFF_MS);
            finish(c, 0, NULL, 0);
            break;
        case UV_E2BIG:
        case UV_EINVAL:
            dassie_job_no_retry(c->job);
            finish(c, c->spawn_rc, NULL, 0);
            break;
        default:
            broken = c->spawn_rc;
            on_broken();
            finish(c, UV_ECANCELED, NULL, 0);
            break;
    }
}

static void finish_exited(struct child *c)
{
    char text[64];
    while (c->error_len > 0 && (c->error[c->error_len - 1] == '\n' ||
                                c->error[c->error_len - 1] == '\r')) {
        c->error_len--;
    }
    if (c->signal == 0 && c->status == 0) {
        finish(c, 0, NULL, 0);
    } else if (c->ended || dassie_job_cancelled(c->job)) {
        finish(c, UV_ECANCELED, NULL, 0);
    } else if (c->error_len > 0) {
        finish(c, c->signal != 0 ? 128 + c->signal : (int)c->status, c->error,
               c->error_len);
    } else if (c->signal != 0) {
        int n = snprintf(text, sizeof text, "killed by signal %d", c->signal);
        finish(c, 128 + c->signal, text, (size_t)n);
    } else {
        int n = snprintf(text, sizeof text, "exit status %d", (int)c->status);
        finish(c, (int)c->status, text, (size_t)n);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    if (--c->handles > 0) {
        return;
    }
    count--;
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        children = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    if (c->spawn_rc != 0) {
        finish_unstarted(c);
    } else {
        finish_exited(c);
    }
    free_strings(c->args);
    free_strings(c->env);
    free(c);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

/* ---- While it runs ---- */

static void pass_on(struct child *c, const char *p, size_t n)
{
    progress_write(p, n);
    error_add(c, p, n);
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
    struct child *c = handle->data;
    (void)wanted;
    *buf = uv_buf_init(c->buffer, sizeof c->buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct child *c = stream->data;
    if (n > 0) {
        pass_on(c, buf->base, (size_t)n);
    } else if (n < 0) {
        uv_read_stop(stream);
    }
}

/* What it has written before it exited; a descendant may hold stderr open. */
static void read_rest(struct child *c)
{
    uv_os_fd_t fd;
    ssize_t n;
    if (uv_fileno((uv_handle_t *)&c->err, &fd) != 0) {
        return;
    }
    while ((n = read(fd, c->buffer, sizeof c->buffer)) > 0 ||
           (n < 0 && errno == EINTR)) {
        pass_on(c, c->buffer, n > 0 ? (size_t)n : 0);
    }
}

static void on_exit_of(uv_process_t *process, int64_t status, int number)
{
    struct child *c = process->data;
    c->status = status;
    c->signal = number;
    uv_read_stop((uv_stream_t *)&c->err);
    read_rest(c);
    close_handle((uv_handle_t *)&c->process);
    close_handle((uv_handle_t *)&c->in);
    close_handle((uv_handle_t *)&c->err);
}

/* Whether it wanted to read all of it is its own business. */
static void on_write(uv_write_t *req, int status)
{
    (void)status;
    close_handle((uv_handle_t *)req->handle);
}

/* ---- The begin ---- */

static int spawn(struct child *c, bool feeds)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&c->err}};
    uv_process_options_t options = {.exit_cb = on_exit_of,
                                    .file = c->args[0],
                                    .args = c->args,
                                    .env = c->env,
                                    .flags = UV_PROCESS_DETACHED,
                                    .stdio_count = 3,
                                    .stdio = stdio};
    if (feeds) {
        stdio[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
        stdio[0].data.stream = (uv_stream_t *)&c->in;
    }
    return uv_spawn(&session.loop, &c->process, &options);
}

static void feed(struct child *c, const char *data, size_t len)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    if (len == 0 ||
        uv_write(&c->write, (uv_stream_t *)&c->in, &buf, 1, on_write) != 0) {
        close_handle((uv_handle_t *)&c->in);
    }
}

/* 0, or why the job cannot have a process. */
static int prepare(struct child *c, char **command, bool feeds,
                   const char *data, size_t len)
{
    if (!feeds && memchr(data, '\0', len) != NULL) {
        return UV_EINVAL;
    }
    c->args = make_args(command, data, feeds ? 0 : len);
    c->env = make_env(c->job);
    return c->args == NULL || c->env == NULL ? UV_ENOMEM : 0;
}

static struct child *child_new(dassie_job_t *job)
{
    struct child *c = calloc(1, sizeof *c);
    if (c == NULL) {
        dassie_job_snooze(job, PUT_OFF_MS);
        dassie_finish(&session.q, dassie_job_id(job), dassie_job_attempt(job),
                      0, NULL, 0);
        return NULL;
    }
    c->job = job;
    c->id = dassie_job_id(job);
    c->attempt = dassie_job_attempt(job);
    c->process.data = c->in.data = c->err.data = c;
    c->next = children;
    if (children != NULL) {
        children->prev = c;
    }
    children = c;
    count++;
    return c;
}

void child_start(dassie_job_t *job, char **command)
{
    struct child *c = child_new(job);
    size_t len;
    if (c == NULL) {
        return;
    }
    const char *data = dassie_job_data(job, &len);
    bool feeds = !takes_payload(command);
    uv_pipe_init(&session.loop, &c->in, 0);
    uv_pipe_init(&session.loop, &c->err, 0);
    c->handles = 2;
    c->spawn_rc = prepare(c, command, feeds, data, len);
    if (c->spawn_rc == 0) {
        c->handles = 3;
        c->spawn_rc = spawn(c, feeds);
        if (c->spawn_rc != 0) {
            close_handle((uv_handle_t *)&c->process);
        }
    }
    if (c->spawn_rc != 0) {
        close_handle((uv_handle_t *)&c->in);
        close_handle((uv_handle_t *)&c->err);
        return;
    }
    uv_read_start((uv_stream_t *)&c->err, on_alloc, on_read);
    if (feeds) {
        feed(c, data, len);
    } else {
        close_handle((uv_handle_t *)&c->in);
    }
}

static void send_signal(struct child *c, int number)
{
    c->ended = true;
    if (c->process.pid > 0) {
        kill(-c->process.pid, number);
    }
}

void child_end(dassie_job_t *job, int number)
{
    for (struct child *c = children; c != NULL; c = c->next) {
        if (c->job == job && uv_is_active((uv_handle_t *)&c->process)) {
            send_signal(c, number);
        }
    }
}

void children_end(int number)
{
    for (struct child *c = children; c != NULL; c = c->next) {
        if (uv_is_active((uv_handle_t *)&c->process)) {
            send_signal(c, number);
        }
    }
}
