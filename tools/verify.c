/* verify.c: "dassie verify", a store recounted from its rows: here, or by its
 * owner.
 *
 * With --repair one that is not sound is opened with DASSIE_SALVAGE, which
 * makes a new database of what is certain and keeps the damaged one as it is;
 * then it is recounted again. A kill in the middle leaves a store that is
 * repaired by the same command. */
#include "config.h"

#include "out.h"
#include "remote.h"
#include "session.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int repair;
static json_t *problems; /* if JSON is printed, */
static json_t *did;      /* and what the repair told */

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    if (tool.json) {
        json_t *problem = json_object();
        json_count(problem, "id", id);
        json_bytes(problem, "problem", line, strlen(line));
        json_array_append_new(problems, problem);
    } else {
        puts(line); /* with the id, if there is one */
    }
}

/* To an object, or to stdout. */
static void tell_report(json_t *object, const dassie_verify_report_t *report)
{
    const dassie_count_t *jobs = &report->jobs;
    if (tool.json) {
        json_object_set_new(object, "jobs", json_counts(jobs));
        json_count(object, "rows", report->rows);
        json_object_set_new(object, "problems", problems);
        return;
    }
    printf("%" PRIu64 " rows, %" PRIu64 " jobs: %" PRIu64 " problems\n",
           report->rows,
           jobs->pending + jobs->scheduled + jobs->running + jobs->complete +
               jobs->failed + jobs->cancelled,
           report->problems);
}

/* An owner that does not listen may have gone meanwhile. */
static int verify(dassie_verify_report_t *report)
{
    int rc = dassie_verify(tool.dir, on_problem, NULL, report);
    if (rc == UV_EBUSY && !repair && remote_connect(tool.dir) == 0) {
        int result;
        rc = remote_check(&result, report, on_problem);
        rc = rc == 0 ? result : rc;
    }
    return rc;
}

/* Whether the whole of it could be read, or as far as its damage allows. */
static int look(json_t *object, dassie_verify_report_t *report)
{
    problems = tool.json ? json_array() : NULL;
    int rc = verify(report);
    if (rc == 0 || rc == DASSIE_ECORRUPT) {
        tell_report(object, report);
    } else {
        json_decref(problems);
    }
    return rc;
}

/* ---- Repair ---- */

static void on_told(const char *line)
{
    if (tool.json) {
        json_t *text = json_object();
        json_bytes(text, "line", line, strlen(line));
        json_array_append_new(did, text);
    } else {
        printf("repair: %s\n", line);
    }
}

static int repair_store(json_t *object, dassie_verify_report_t *report)
{
    json_t *after = tool.json ? json_object() : NULL;
    did = tool.json ? json_array() : NULL;
    session.told = on_told;
    int code = session_open(DASSIE_NO_CREATE | DASSIE_SALVAGE, false);
    if (code < 0) {
        code = session_close(TOOL_GOOD);
    }
    session.told = NULL;
    int rc = code == TOOL_GOOD ? look(after, report) : 0;
    if (tool.json) {
        json_object_set_new(object, "repair", did);
        json_object_set_new(object, "after", after);
    }
    return rc != 0 ? tool_fail_rc(rc, tool.dir) : code;
}

/* ---- The run ---- */

static int run_verify(int argc, char **argv)
{
    dassie_verify_report_t report;
    json_t *object = tool.json ? json_object() : NULL;
    (void)argc;
    (void)argv;
    int code = TOOL_GOOD;
    int rc = look(object, &report);
    bool damaged = rc == DASSIE_ECORRUPT || rc == UV_EIO ||
                   (rc == 0 && report.problems > 0);
    if (repair && damaged) {
        code = repair_store(object, &report);
        rc = 0;
    }
    if (tool.json && json_object_size(object) > 0) {
        out_json(object);
    } else {
        json_decref(object);
    }
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    return code != TOOL_GOOD || report.problems == 0 ? code : TOOL_FAILED;
}

static const struct tool_option options[] = {
    {"repair", NULL, "make a damaged store anew of what is certain",
     OPTION_FLAG, &repair, 0, 0, 0},
    {.name = NULL}};

const struct command command_verify = {
    .name = "verify",
    .args = "",
    .what = "Recounts the store from its rows",
    .options = options,
    .run = run_verify};
