/* change.c: "dassie retry", "cancel", "rm" and "purge": jobs by id, or all that
 * match a filter.
 *
 * By id a job is changed at once. With a filter the jobs are counted and the
 * first of them listed, and nothing is changed, unless --yes is there or who
 * sits at the terminal says so. */
#include "config.h"

#include "out.h"
#include "remote.h"
#include "select.h"
#include "session.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREVIEW_JOBS 10

struct change {
    const char *name; /* of the subcommand */
    const char *did;  /* what was done, for people */
    dassie_action_t action;
    unsigned states;  /* in which it is done if nothing else is said */
    unsigned allowed; /* in which it can be done */
};

static const struct change *change;
static int yes;
static int dry_run;

/* ---- The request ---- */

static bool changed;
static int changed_status;

static void on_change(dassie_change_t *req, int status)
{
    (void)req;
    changed = true;
    changed_status = status;
}

static int change_jobs(const dassie_filter_t *filter, uint64_t *n)
{
    dassie_change_t req = {.data = NULL};
    if (remote_is()) {
        return remote_change(change->action, filter, n);
    }
    changed = false;
    int rc = dassie_change(&session.q, &req, change->action, filter, on_change);
    if (rc != 0) {
        return rc;
    }
    session_wait(&changed);
    *n = req.changed;
    return changed_status;
}

static void print_changed(uint64_t n)
{
    if (tool.json) {
        json_t *object = json_object();
        json_count(object, "changed", n);
        out_json(object);
    } else {
        printf("%" PRIu64 " %s %s\n", n, n == 1 ? "job" : "jobs", change->did);
    }
}

/* ---- By id ---- */

static int change_ids(char **ids)
{
    int code = TOOL_GOOD;
    uint64_t total = 0;
    for (; *ids != NULL && session.signal == 0; ids++) {
        dassie_filter_t filter = DASSIE_FILTER_INIT;
        uint64_t n = 0;
        read_id(*ids, &filter.id); /* was checked */
        filter.states = change->allowed;
        int rc = change_jobs(&filter, &n);
        total += n;
        if (rc == UV_ENOENT) {
            code = tool_fail(TOOL_MISSING, "no job %s", *ids);
        } else if (rc == DASSIE_ESTATE) {
            code = tool_fail(TOOL_FAILED,
                             "job %s is in a state in which it "
                             "cannot be %s",
                             *ids, change->did);
        } else if (rc != 0) {
            code = tool_fail_rc(rc, *ids);
        }
    }
    print_changed(total);
    return code;
}

/* ---- By a filter ---- */

static uint64_t matching;

static void count_job(const dassie_info_t *job)
{
    matching++;
    if (!tool.json && matching <= PREVIEW_JOBS) {
        select_print(job);
    }
}

static int preview(void)
{
    struct place_in_list place = {.state = DASSIE_PENDING};
    bool more;
    matching = 0;
    int rc = look_list(&selection, &place, 0, count_job, &more);
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    if (tool.json) {
        json_t *object = json_object();
        json_count(object, "matching", matching);
        out_json(object);
        return TOOL_GOOD;
    }
    if (matching > PREVIEW_JOBS) {
        puts("       ...");
    }
    printf("%" PRIu64 " %s would be %s\n", matching,
           matching == 1 ? "job" : "jobs", change->did);
    return TOOL_GOOD;
}

/* Nothing but a yes at the terminal is one. */
static bool asked(void)
{
    char line[16];
    fputs("Go on? [y/N] ", stdout);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) != NULL &&
           (strcmp(line, "y\n") == 0 || strcmp(line, "yes\n") == 0);
}

static int change_matching(void)
{
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    uint64_t n = 0;
    filter.queue = selection.queue;
    filter.name = selection.name;
    filter.states = selection.states;
    filter.age_ms = selection.age_ms;
    int rc = change_jobs(&filter, &n);
    if (rc != 0) {
        return tool_fail_rc(rc, change->name);
    }
    print_changed(n);
    return TOOL_GOOD;
}

/* The look is one of its own, so that it changes nothing. */
static int run_preview(bool may_ask)
{
    int code = session_open(DASSIE_READ_ONLY, true);
    if (code >= 0) {
        return code;
    }
    code = session_close(preview());
    if (code != TOOL_GOOD || matching == 0 || dry_run || session.signal != 0) {
        return code;
    }
    if (!may_ask) {
        return tool_fail(TOOL_FAILED, "nothing was changed; say --yes");
    }
    return asked() ? -1 : tool_fail(TOOL_FAILED, "nothing was changed");
}

static int run_matching(void)
{
    if (!yes || dry_run) {
        bool may_ask =
            !tool.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        int code = run_preview(may_ask);
        if (code >= 0) {
            return code;
        }
    }
    int code = session_open(DASSIE_NO_CREATE, true);
    return code >= 0 ? code : session_close(change_matching());
}

/* ---- The subcommands ---- */

static int run_change(const struct change *which, int argc, char **argv)
{
    uint64_t id;
    bool filtered = selection.queue != NULL || selection.name != NULL ||
                    selection.states != 0 || selection.age_ms != 0;
    change = which;
    if ((selection.states & ~change->allowed) != 0) {
        return tool_fail(TOOL_USAGE, "%s: not in such a state", change->name);
    }
    if (selection.states == 0) {
        selection.states = change->states;
    }
    if (argc > 0 && (filtered || dry_run)) {
        return tool_fail(TOOL_USAGE, "%s: ids, or a filter", change->name);
    }
    for (int i = 0; i < argc; i++) {
        if (!read_id(argv[i], &id)) {
            return tool_fail(TOOL_USAGE, "%s: '%s' is no job's id",
                             change->name, argv[i]);
        }
    }
    if (argc == 0) {
        return run_matching();
    }
    int code = session_open(DASSIE_NO_CREATE, true);
    return code >= 0 ? code : session_close(change_ids(argv));
}

static int run_retry(int argc, char **argv)
{
    static const struct change retry = {
        .name = "retry",
        .did = "retried",
        .action = DASSIE_RETRY,
        .states = DASSIE_IN(DASSIE_FAILED),
        .allowed = DASSIE_IN(DASSIE_FAILED) | DASSIE_IN(DASSIE_CANCELLED)};
    return run_change(&retry, argc, argv);
}

static int run_cancel(int argc, char **argv)
{
    static const struct change cancel = {
        .name = "cancel",
        .did = "cancelled",
        .action = DASSIE_CANCEL,
        .states = SELECT_WAITING,
        .allowed = SELECT_WAITING | DASSIE_IN(DASSIE_RUNNING)};
    return run_change(&cancel, argc, argv);
}

static int run_rm(int argc, char **argv)
{
    static const struct change rm = {.name = "rm",
                                     .did = "deleted",
                                     .action = DASSIE_DELETE,
                                     .states = SELECT_ENDED,
                                     .allowed = SELECT_ENDED | SELECT_WAITING};
    return run_change(&rm, argc, argv);
}

static int run_purge(int argc, char **argv)
{
    static const struct change purge = {
        .name = "purge",
        .did = "deleted",
        .action = DASSIE_DELETE,
        .states = SELECT_ENDED,
        .allowed = SELECT_ENDED | SELECT_WAITING};
    return run_change(&purge, argc, argv);
}

static const struct tool_option options[] = {
    SELECTION_OPTIONS,
    {"dry-run", NULL, "only tell which jobs", OPTION_FLAG, &dry_run, 0, 0, 0},
    {"yes", NULL, "do not ask", OPTION_FLAG, &yes, 0, 0, 'y'},
    {.name = NULL}};

const struct command command_retry = {
    .name = "retry",
    .args = "[ID]...",
    .what = "Makes failed (or cancelled) jobs pending again",
    .options = options,
    .args_max = -1,
    .run = run_retry};

const struct command command_cancel = {.name = "cancel",
                                       .args = "[ID]...",
                                       .what = "Cancels jobs that wait",
                                       .options = options,
                                       .args_max = -1,
                                       .run = run_cancel};

const struct command command_rm = {.name = "rm",
                                   .args = "ID...",
                                   .what = "Deletes jobs that are not running",
                                   .options = options,
                                   .args_min = 1,
                                   .args_max = -1,
                                   .run = run_rm};

const struct command command_purge = {
    .name = "purge",
    .args = "",
    .what = "Deletes all jobs that have ended, or as options say",
    .options = options,
    .run = run_purge};
