#include "config.h"

#include "session.h"

#include "remote.h"
#include "tool.h"

#include <signal.h>
#include <string.h>

struct session session;

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
#define SIGNALS (sizeof signals / sizeof signals[0])
static uv_signal_t handles[SIGNALS];
static bool opened;
static int opened_status;
static bool closed;

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    session.signal = number;
    if (session.interrupted != NULL) {
        session.interrupted();
    }
}

static void on_open(dassie_t *q, int status)
{
    (void)q;
    opened = true;
    opened_status = status;
}

static void on_close(dassie_t *q)
{
    (void)q;
    closed = true;
    for (size_t i = 0; i < SIGNALS && !session.unwatched; i++) {
        uv_close((uv_handle_t *)&handles[i], NULL);
    }
}

/* What an owner has to say of the store. */
static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    if (level > DASSIE_LOG_WARNING) {
        return;
    }
    if (session.told != NULL) {
        session.told(line);
    } else {
        tool_fail(0, "%s", line);
    }
}

void session_wait(const bool *done)
{
    while (!*done) {
        uv_run(&session.loop, UV_RUN_ONCE);
    }
}

/* By nohup, or a shell that runs us in the background. */
static bool is_ignored(int number)
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

/* Watched before the store is opened: then nothing is left in the middle. */
static int watch_signals(void)
{
    int rc = uv_loop_init(&session.loop);
    for (size_t i = 0; rc == 0 && i < SIGNALS && !session.unwatched; i++) {
        rc = uv_signal_init(&session.loop, &handles[i]);
        if (rc == 0 && !is_ignored(signals[i])) {
            rc = uv_signal_start(&handles[i], on_signal, signals[i]);
        }
        uv_unref((uv_handle_t *)&handles[i]);
    }
    return rc;
}

/* Waits until it is open, or not: opened_status. */
static int try_open(unsigned flags)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    opened = closed = false; /* it may be the second one */
    remote_disconnect();
    options.flags = flags;
    options.log_cb = on_log;
    int rc = watch_signals();
    if (rc == 0) {
        rc = dassie_init(&session.loop, &session.q);
    }
    if (rc == 0) {
        rc = dassie_open(&session.q, tool.dir, &options, on_open);
    }
    if (rc == 0) {
        session_wait(&opened);
    }
    return rc;
}

int session_open(unsigned flags, bool may_ask)
{
    int rc = try_open(flags & ~(unsigned)DASSIE_BESIDE);
    if (rc == 0 && opened_status == UV_EBUSY && may_ask) {
        if (remote_connect(tool.dir) == 0) {
            session_close(TOOL_GOOD);
            return -1;
        }
        if ((flags & DASSIE_BESIDE) != 0) {
            session_close(TOOL_GOOD);
            rc = try_open(flags);
        }
    }
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    if (opened_status == 0) {
        return -1;
    }
    int code =
        tool_fail(tool_code(opened_status), "%s", dassie_errmsg(&session.q));
    return session_close(code);
}

void session_end(void)
{
    dassie_close(&session.q, on_close);
}

int session_close(int code)
{
    if (closed) {
        return code; /* it was the owner's */
    }
    session_end();
    session_wait(&closed);
    uv_run(&session.loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&session.loop);
    return rc != 0 && code == TOOL_GOOD ? tool_fail_rc(rc, "close") : code;
}
