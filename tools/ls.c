/* ls.c: "dassie ls" and "dassie show", jobs one by one. */
#include "config.h"

#include "out.h"
#include "select.h"
#include "session.h"
#include "terminal.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- ls ---- */

static uint64_t limit = 100;
static const char *from;

static void print_row(const dassie_info_t *job)
{
    if (tool.json) {
        out_json(json_job(job, true));
    } else {
        select_print(job);
    }
}

static bool read_place(struct place_in_list *place)
{
    char state[16];
    int used = 0;
    place->state = DASSIE_PENDING;
    if (from == NULL) {
        return true;
    }
    if (sscanf(from, "%15[a-z]:%" SCNu64 ":%" SCNu64 ":%" SCNu64 "%n", state,
               &place->cursor[0], &place->cursor[1], &place->cursor[2],
               &used) != 4 ||
        from[used] != '\0') {
        return false;
    }
    place->state = state_find(state, strlen(state));
    return place->state >= 0;
}

static int list(struct place_in_list *place)
{
    bool more;
    if (!tool.json) {
        select_print_heading();
    }
    int rc = look_list(&selection, place, limit, print_row, &more);
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    if (more && session.signal == 0 && out_good()) {
        tool_fail(
            0, "there may be more: --from %s:%" PRIu64 ":%" PRIu64 ":%" PRIu64,
            state_name(place->state), place->cursor[0], place->cursor[1],
            place->cursor[2]);
    }
    return TOOL_GOOD;
}

static int run_ls(int argc, char **argv)
{
    struct place_in_list place = {.state = DASSIE_PENDING};
    (void)argc;
    (void)argv;
    if (!read_place(&place)) {
        return tool_fail(TOOL_USAGE, "ls: --from cannot be '%s'", from);
    }
    if (selection.states == 0) {
        selection.states = SELECT_ALL;
    }
    int code = session_open(DASSIE_READ_ONLY | DASSIE_BESIDE, true);
    return code >= 0 ? code : session_close(list(&place));
}

static const struct tool_option ls_options[] = {
    SELECTION_OPTIONS,
    {"limit", "N", "up to so many, by default 100; 0: all", OPTION_COUNT,
     &limit, 0, INT64_MAX, 'l'},
    {"from", "PLACE", "go on where a list has ended", OPTION_TEXT, &from, 0, 0,
     0},
    {.name = NULL}};

const struct command command_ls = {.name = "ls",
                                   .args = "",
                                   .what = "Lists jobs",
                                   .options = ls_options,
                                   .run = run_ls};

/* ---- show ---- */

static const char *as = "auto";

static void print_field(const char *what, const void *p, size_t len)
{
    printf("%-9s ", what);
    out_text(p, len, 0);
    putchar('\n');
}

static void print_when(const char *what, uint64_t ms)
{
    char text[OUT_TIME_BYTES];
    if (ms != 0) {
        printf("%-9s %s\n", what, format_time(ms, text));
    }
}

/* Text as it is, anything else in hex. */
static void print_bytes(const char *what, const void *p, size_t len)
{
    bool text =
        strcmp(as, "auto") == 0 ? out_is_text(p, len) : strcmp(as, "text") == 0;
    printf("%-9s %zu bytes\n", what, len);
    if (len == 0) {
        return;
    }
    if (!text) {
        out_hex(p, len);
    } else if (out_is_text(p, len)) {
        fwrite(p, 1, len, stdout);
        putchar('\n');
    } else {
        out_text(p, len, 0);
        putchar('\n');
    }
}

static void print_job(const dassie_info_t *job)
{
    printf("%-9s %" PRIu64 "\n%-9s ", "id", job->id, "state");
    out_state((int)job->state, 0);
    putchar('\n');
    print_field("queue", job->queue, job->queue_len);
    print_field("name", job->name, job->name_len);
    if (job->unique != NULL) {
        print_field("unique", job->unique, job->unique_len);
    }
    printf("%-9s %d\n%-9s %s\n", "priority", job->priority, "repeated",
           (job->flags & DASSIE_AT_MOST_ONCE) != 0 ? "never" : "yes");
    printf("%-9s %" PRIu32 ", excused %" PRIu32 ", crashes %" PRIu32 "\n",
           "attempts", job->attempts, job->excused, job->crashes);
    print_when("enqueued", job->enqueued_ms);
    print_when("due", job->due_ms);
    print_when("expires", job->expires_ms);
    print_when("ended", job->ended_ms);
    if (job->progress_done > 0 || job->progress_total > 0) {
        printf("%-9s %" PRIu64 " of %" PRIu64 "\n", "progress",
               job->progress_done, job->progress_total);
    }
    if (job->progress_len > 0) {
        print_field("", job->progress, job->progress_len);
    }
    if (job->error_code != 0) {
        printf("%-9s %d %s\n", "error", job->error_code,
               dassie_err_name(job->error_code));
        print_field("", job->error, job->error_len);
    }
    print_bytes("payload", job->data, job->data_len);
    if (job->state == DASSIE_COMPLETE) {
        print_bytes("result", job->result, job->result_len);
    }
}

static int show_code;

static void show(const dassie_info_t *job)
{
    if (tool.json) {
        out_json(json_job(job, true));
    } else if (strcmp(as, "raw") != 0) {
        print_job(job);
    } else if (isatty(STDOUT_FILENO) &&
               !out_is_text(job->data, job->data_len)) {
        show_code = tool_fail(TOOL_USAGE,
                              "show: the payload is not for a terminal; "
                              "redirect it, or try --payload hex");
    } else {
        fwrite(job->data, 1, job->data_len, stdout);
    }
}

static int show_each(char **ids)
{
    int code = TOOL_GOOD;
    for (; *ids != NULL && session.signal == 0 && out_good(); ids++) {
        uint64_t id;
        read_id(*ids, &id); /* was checked */
        int rc = look_get(id, show);
        if (rc == UV_ENOENT) {
            code = tool_fail(TOOL_MISSING, "no job %s", *ids);
        } else if (rc != 0) {
            code = tool_fail_rc(rc, *ids);
        } else if (show_code != 0) {
            code = show_code;
        }
    }
    return code;
}

static int run_show(int argc, char **argv)
{
    uint64_t id;
    if (strcmp(as, "auto") != 0 && strcmp(as, "text") != 0 &&
        strcmp(as, "hex") != 0 && strcmp(as, "raw") != 0) {
        return tool_fail(TOOL_USAGE, "show: --payload cannot be '%s'", as);
    }
    for (int i = 0; i < argc; i++) {
        if (!read_id(argv[i], &id)) {
            return tool_fail(TOOL_USAGE, "show: '%s' is no job's id", argv[i]);
        }
    }
    int code = session_open(DASSIE_READ_ONLY | DASSIE_BESIDE, true);
    return code >= 0 ? code : session_close(show_each(argv));
}

static const struct tool_option show_options[] = {
    {"payload", "HOW", "text, hex or raw: nothing but the payload's bytes",
     OPTION_TEXT, &as, 0, 0, 'p'},
    {.name = NULL}};

const struct command command_show = {.name = "show",
                                     .args = "ID...",
                                     .what = "Tells everything about jobs",
                                     .options = show_options,
                                     .args_min = 1,
                                     .args_max = -1,
                                     .run = run_show};
