/* tail.c: "dassie tail", what happens in a live queue, as it happens. */
#include "config.h"

#include "out.h"
#include "remote.h"
#include "session.h"
#include "terminal.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>

static const char *queue;
static unsigned states;

static void print_json(const dassie_event_t *event)
{
    json_t *object = json_object();
    json_time(object, "time", event->at_ms);
    json_count(object, "id", event->id);
    json_bytes(object, "queue", event->queue, event->queue_len);
    json_object_set_new(object, "from", json_string(state_name(event->from)));
    json_object_set_new(object, "to", json_string(state_name(event->to)));
    json_count(object, "attempts", event->attempts);
    json_object_set_new(object, "error_code", json_integer(event->code));
    out_json(object);
}

static void print_text(const dassie_event_t *event)
{
    char time[OUT_TIME_BYTES];
    printf("%s %10" PRIu64 "  %-9s -> ", format_time(event->at_ms, time),
           event->id, state_name(event->from));
    out_state(event->to, 9);
    fputs("  ", stdout);
    out_text(event->queue, event->queue_len, 0);
    putchar('\n');
}

static bool print_event(const dassie_event_t *event, uint64_t missed)
{
    if (event == NULL) {
        tool_fail(0, "%" PRIu64 " events are not told, as too much happens",
                  missed);
    } else if (tool.json) {
        print_json(event);
    } else {
        print_text(event);
    }
    fflush(stdout);
    return out_good();
}

static int run_tail(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    int code = session_open(DASSIE_READ_ONLY, true);
    if (code >= 0) {
        return code;
    }
    if (!remote_is()) {
        return session_close(tool_fail(
            TOOL_MISSING, "nobody owns the store, so nothing happens in it"));
    }
    int rc = remote_tail(queue, states, print_event);
    return rc == 0 || rc == UV_ECONNRESET ? TOOL_GOOD
                                          : tool_fail_rc(rc, "tail");
}

static const struct tool_option options[] = {
    {"queue", "QUEUE", "only of this queue", OPTION_TEXT, &queue, 0, 0, 'q'},
    {"state", "STATES", "only into these, with commas between", OPTION_STATES,
     &states, 0, 0, 's'},
    {.name = NULL}};

const struct command command_tail = {
    .name = "tail",
    .args = "",
    .what = "Tells what happens in a live queue",
    .options = options,
    .run = run_tail};
