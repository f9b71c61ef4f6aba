/* verify.c: "dassie verify", a store recounted from its rows: here, or by its
 * owner. */
#include "config.h"

#include "out.h"
#include "remote.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *problems;

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    if (tool.json) {
        json_t *problem = json_object();
        json_count(problem, "id", id);
        json_bytes(problem, "problem", line, strlen(line));
        json_array_append_new(problems, problem);
    } else if (id != 0) {
        printf("job %" PRIu64 ": %s\n", id, line);
    } else {
        puts(line);
    }
}

static void print_report(const dassie_verify_report_t *report)
{
    const dassie_count_t *jobs = &report->jobs;
    if (tool.json) {
        json_t *object = json_object();
        json_object_set_new(object, "jobs", json_counts(jobs));
        json_count(object, "rows", report->rows);
        json_object_set_new(object, "problems", problems);
        out_json(object);
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
    if (rc == UV_EBUSY && remote_connect(tool.dir) == 0) {
        int result;
        rc = remote_check(&result, report, on_problem);
        rc = rc == 0 ? result : rc;
    }
    return rc;
}

static int run_verify(int argc, char **argv)
{
    dassie_verify_report_t report;
    (void)argc;
    (void)argv;
    problems = tool.json ? json_array() : NULL;
    int rc = verify(&report);
    if (rc == 0 || rc == DASSIE_ECORRUPT) {
        print_report(&report);
    }
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    return report.problems == 0 ? TOOL_GOOD : TOOL_FAILED;
}

static const struct tool_option options[] = {{.name = NULL}};

const struct command command_verify = {
    .name = "verify",
    .args = "",
    .what = "Recounts the store from its rows",
    .options = options,
    .run = run_verify};
