/* queue.c: "dassie pause" and "dassie resume". */
#include "config.h"

#include "look.h"
#include "out.h"
#include "remote.h"
#include "session.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

static bool configured;
static int configured_status;

static void on_configured(dassie_configure_t *req, int status,
                          const dassie_settings_t *settings)
{
    (void)req;
    (void)settings;
    configured = true;
    configured_status = status;
}

/* Settings would make a queue that is not there. */
static int set_paused(const char *queue, int paused)
{
    dassie_configure_t req = {.data = NULL};
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_count_t count;
    int rc = look_counts(queue, &count);
    if (rc != 0) {
        return rc;
    }
    if (remote_is()) {
        return remote_pause(queue, paused);
    }
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = paused;
    configured = false;
    rc = dassie_configure(&session.q, &req, queue, 0, &settings, on_configured);
    if (rc != 0) {
        return rc;
    }
    session_wait(&configured);
    return configured_status;
}

static void print_paused(const char *queue, int paused)
{
    if (tool.json) {
        json_t *object = json_object();
        json_bytes(object, "queue", queue, strlen(queue));
        json_object_set_new(object, "paused", json_boolean(paused));
        out_json(object);
    } else {
        out_text(queue, strlen(queue), 0);
        puts(paused ? " is paused" : " goes on");
    }
}

static int set_each(char **queues, int paused)
{
    int code = TOOL_GOOD;
    for (; *queues != NULL && session.signal == 0; queues++) {
        int rc = set_paused(*queues, paused);
        if (rc == UV_ENOENT) {
            code = tool_fail(TOOL_MISSING, "no queue '%s'", *queues);
        } else if (rc != 0) {
            code = tool_fail_rc(rc, *queues);
        } else {
            print_paused(*queues, paused);
        }
    }
    return code;
}

static int run_pause(int argc, char **argv)
{
    int code = session_open(DASSIE_NO_CREATE, true);
    (void)argc;
    return code >= 0 ? code : session_close(set_each(argv, 1));
}

static int run_resume(int argc, char **argv)
{
    int code = session_open(DASSIE_NO_CREATE, true);
    (void)argc;
    return code >= 0 ? code : session_close(set_each(argv, 0));
}

static const struct tool_option options[] = {{.name = NULL}};

const struct command command_pause = {
    .name = "pause",
    .args = "QUEUE...",
    .what = "Lets no further job of queues start",
    .options = options,
    .args_min = 1,
    .args_max = -1,
    .run = run_pause};

const struct command command_resume = {
    .name = "resume",
    .args = "QUEUE...",
    .what = "Lets jobs of paused queues start again",
    .options = options,
    .args_min = 1,
    .args_max = -1,
    .run = run_resume};
