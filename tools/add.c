/* add.c: "dassie add", new jobs. */
#include "config.h"

#include "lines.h"
#include "out.h"
#include "remote.h"
#include "session.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lines go into the queue in pieces of so many, each of them whole. */
#define PIECE_JOBS 100000
#define PIECE_BYTES ((size_t)64 << 20)

/* To an owner, in pieces that fit into one request. */
#define ASK_JOBS 4096
#define ASK_BYTES ((size_t)512 << 10)

static const char *queue;
static const char *name;
static const char *file;
static const char *lines_file;
static int priority;
static uint64_t delay_ms;
static uint64_t attempts;
static uint64_t backoff_ms;
static uint64_t expire_ms;
static uint64_t timeout_ms;
static const char *unique;
static int once;

static uint64_t added;
static uint64_t first_id;
static uint64_t last_id;

static void note_added(uint64_t id, uint64_t n)
{
    first_id = added == 0 ? id : first_id;
    last_id = id + n - 1;
    added += n;
}

static int add_specs(const dassie_spec_t *specs, size_t n)
{
    uint64_t id;
    uint64_t count = 0;
    int rc = n > 0 ? lines_enqueue(specs, n, &id, &count) : 0;
    if (rc == 0 && count > 0) {
        note_added(id, count);
    }
    return rc;
}

static int add_lines(const dassie_spec_t *spec, struct lines *lines)
{
    static const struct piece whole = {PIECE_JOBS, PIECE_BYTES, 0};
    const struct piece asked = {ASK_JOBS, ASK_BYTES, remote_job_bytes(spec)};
    const struct piece *piece = remote_is() ? &asked : &whole;
    size_t n = 1;
    int rc = 0;
    while (rc == 0 && n > 0 && session.signal == 0) {
        dassie_spec_t *specs = lines_specs(lines, spec, piece, &n);
        rc = specs == NULL ? UV_ENOMEM : add_specs(specs, n);
        free(specs);
    }
    return rc == 0 ? TOOL_GOOD : tool_fail_rc(rc, "add");
}

static int add_file(dassie_spec_t *spec, const struct lines *all)
{
    spec->data = all->text;
    spec->data_len = all->len;
    int rc = add_specs(spec, 1);
    return rc == 0 ? TOOL_GOOD : tool_fail_rc(rc, "add");
}

static int add_arguments(const dassie_spec_t *spec, int argc, char **argv)
{
    dassie_spec_t *specs = calloc((size_t)argc, sizeof specs[0]);
    int rc = specs == NULL ? UV_ENOMEM : 0;
    for (int i = 0; rc == 0 && i < argc; i++) {
        specs[i] = *spec;
        specs[i].data = argv[i];
        specs[i].data_len = strlen(argv[i]);
    }
    if (rc == 0) {
        rc = add_specs(specs, (size_t)argc);
    }
    free(specs);
    return rc == 0 ? TOOL_GOOD : tool_fail_rc(rc, "add");
}

static void print_added(void)
{
    if (tool.json) {
        json_t *object = json_object();
        json_count(object, "added", added);
        if (added > 0) {
            json_count(object, "first_id", first_id);
            json_count(object, "last_id", last_id);
        }
        out_json(object);
    } else if (added == 1) {
        printf("job %" PRIu64 "\n", first_id);
    } else if (added > 1) {
        printf("%" PRIu64 " jobs, %" PRIu64 " to %" PRIu64 "\n", added,
               first_id, last_id);
    } else {
        puts("no jobs");
    }
}

static int add(int argc, char **argv, struct lines *input)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.queue = queue;
    spec.name = name;
    spec.priority = priority;
    spec.delay_ms = delay_ms;
    spec.attempts_max = (uint32_t)attempts;
    spec.backoff_ms = backoff_ms;
    spec.expire_ms = expire_ms;
    spec.timeout_ms = timeout_ms;
    spec.unique = unique;
    spec.flags = once ? DASSIE_AT_MOST_ONCE : 0;
    int code = session_open(0, true);
    if (code >= 0) {
        return code;
    }
    if (lines_file != NULL) {
        code = add_lines(&spec, input);
    } else if (file != NULL) {
        code = add_file(&spec, input);
    } else {
        code = add_arguments(&spec, argc, argv);
    }
    code = session_close(code);
    if (code == TOOL_GOOD || added > 0) {
        print_added();
    }
    return code;
}

/* The input is read before the store is opened: it may take its time, and the
 * signal that ends it ends all. */
static int run_add(int argc, char **argv)
{
    struct lines input = {.text = NULL};
    const char *path = file != NULL ? file : lines_file;
    int ways = (argc > 0) + (file != NULL) + (lines_file != NULL);
    if (ways != 1) {
        return tool_fail(TOOL_USAGE,
                         "add: one of PAYLOAD..., --file and --lines");
    }
    int rc = path != NULL ? lines_read(&input, path) : 0;
    if (rc != 0) {
        return tool_fail_rc(rc, path);
    }
    int code = add(argc, argv, &input);
    lines_free(&input);
    return code;
}

static const struct tool_option options[] = {
    {"queue", "QUEUE", "the queue, by default \"default\"", OPTION_TEXT, &queue,
     0, 0, 'q'},
    {"name", "NAME", "the jobs' name", OPTION_TEXT, &name, 0, 0, 'n'},
    {"lines", "FILE", "a job for each line of it that is not empty; -: stdin",
     OPTION_TEXT, &lines_file, 0, 0, 'l'},
    {"file", "FILE", "one job, all of the file its payload; -: stdin",
     OPTION_TEXT, &file, 0, 0, 'f'},
    {"priority", "N", "from -20, which runs first, to 19", OPTION_SMALL,
     &priority, DASSIE_PRIORITY_MIN, DASSIE_PRIORITY_MAX, 'p'},
    {"delay", "TIME", "not before so long from now", OPTION_TIME, &delay_ms, 0,
     0, 0},
    {"attempts", "N", "how many may fail before the job has", OPTION_COUNT,
     &attempts, 1, DASSIE_ATTEMPTS_MAX, 0},
    {"backoff", "TIME", "from the first to the second, then twice as long",
     OPTION_TIME, &backoff_ms, 0, 0, 0},
    {"expires", "TIME", "cancelled if it has not begun so long after it is due",
     OPTION_TIME, &expire_ms, 0, 0, 0},
    {"timeout", "TIME",
     "a run that takes longer is asked to end, and has failed", OPTION_TIME,
     &timeout_ms, 0, 0, 0},
    {"unique", "KEY",
     "no job if another one of the queue has it, until its end", OPTION_TEXT,
     &unique, 0, 0, 'u'},
    {"at-most-once", NULL, "a run that is interrupted is not repeated",
     OPTION_FLAG, &once, 0, 0, 0},
    {.name = NULL}};

const struct command command_add = {.name = "add",
                                    .args = "[PAYLOAD]...",
                                    .what = "Puts jobs into a queue",
                                    .options = options,
                                    .args_max = -1,
                                    .run = run_add};
