/* run.c: "dassie run", a command for each job.
 *
 * The happy path is: a processor starts a child for each job (child.c); when no
 * child is left and the queue holds nothing that has not ended, it is over.
 * With --lines, the jobs are first made of the lines of a file, in one piece
 * and in a queue that is called after what is in the file: whoever says the
 * same once more, after a kill say, goes on where it was left.
 *
 * On a signal nothing more is started, and children may end; after the
 * library's grace, or with the next signal, they are sent SIGTERM, with the
 * third one SIGKILL. Whatever was under way runs again the next time. */
#include "config.h"

#include "child.h"
#include "lines.h"
#include "look.h"
#include "out.h"
#include "session.h"
#include "terminal.h"
#include "tool.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PROGRESS_MS 250

static const char *queue_option;
static const char *queue; /* that one, or one for the lines */
static const char *lines_file;
static int concurrency = 1;
static uint64_t attempts = 1;
static int follow;
static int verbose;

static char **command;
static char lines_queue[32];
static bool over;          /* nothing more is to be started */
static unsigned signals_n; /* that have come */
static dassie_processor_t processor;
static dassie_subscription_t subscription;
static dassie_counts_t counts;
static bool counting;
static bool count_again; /* something has happened meanwhile */
static uv_timer_t progress;
static uint64_t progress_since;
static dassie_counts_t left; /* for it */
static bool asking_left;
static uint64_t ends[DASSIE_CANCELLED + 1]; /* in each state, that were told */
static uint64_t untold;

/* ---- Lines ---- */

static void name_lines(const struct lines *lines)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < lines->len; i++) {
        hash = (hash ^ (uint8_t)lines->text[i]) * UINT64_C(0x100000001b3);
    }
    snprintf(lines_queue, sizeof lines_queue, "lines-%016" PRIx64, hash);
    queue = lines_queue;
}

/* All of them in one piece, unless they are there. */
static int add_lines(struct lines *lines)
{
    static const struct piece all = {SIZE_MAX, SIZE_MAX, 0};
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_count_t count;
    uint64_t count_new;
    uint64_t first_id;
    size_t n;
    int rc = look_counts(queue, &count);
    if (rc != UV_ENOENT) {
        return rc;
    }
    spec.queue = queue;
    spec.attempts_max = (uint32_t)attempts;
    dassie_spec_t *specs = lines_specs(lines, &spec, &all, &n);
    if (specs == NULL) {
        return UV_ENOMEM;
    }
    rc = n > 0 ? lines_enqueue(specs, n, &first_id, &count_new) : 0;
    free(specs);
    return rc;
}

/* ---- Is it over? ---- */

static void check_over(void);

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    counting = false;
    if (status == UV_ENOENT || (status == 0 && count->pending == 0 &&
                                count->scheduled == 0 && count->running == 0)) {
        over = true;
    } else if (count_again) {
        check_over();
    }
}

/* Asked whenever something has happened and nothing is under way here. */
static void check_over(void)
{
    count_again = counting;
    if (follow || over || counting || children_n() > 0) {
        return;
    }
    counting = dassie_counts(&session.q, &counts, queue, 0, on_counts) == 0;
}

/* ---- What is told ---- */

static bool has_ended(int state)
{
    return state == DASSIE_COMPLETE || state == DASSIE_FAILED ||
           state == DASSIE_CANCELLED;
}

/* After its commit, so it is never run again. */
static void report(const dassie_event_t *event)
{
    if (tool.json) {
        json_t *object = json_object();
        json_count(object, "id", event->id);
        json_object_set_new(object, "state",
                            json_string(state_name(event->to)));
        json_count(object, "attempts", event->attempts);
        json_object_set_new(object, "error_code", json_integer(event->code));
        out_json(object);
    } else {
        printf("job %" PRIu64 " ", event->id);
        out_state(event->to, 0);
        putchar('\n');
    }
}

static void on_events(dassie_subscription_t *sub, const dassie_event_t *events,
                      size_t n, uint64_t missed)
{
    (void)sub;
    untold += missed;
    for (size_t i = 0; i < n; i++) {
        if (has_ended(events[i].to)) {
            ends[events[i].to]++;
            if (verbose) {
                report(&events[i]);
            }
        }
    }
    fflush(stdout);
    check_over();
}

static void on_left(dassie_counts_t *req, int status,
                    const dassie_count_t *count)
{
    (void)req;
    asking_left = false;
    if (status == 0 && uv_is_active((uv_handle_t *)&progress)) {
        struct progress p = {
            .complete = ends[DASSIE_COMPLETE],
            .failed = ends[DASSIE_FAILED],
            .cancelled = ends[DASSIE_CANCELLED],
            .left = count->pending + count->scheduled + count->running,
            .ms = uv_now(&session.loop) - progress_since,
            .endless = follow != 0};
        progress_show(&p);
    }
}

static void on_progress(uv_timer_t *timer)
{
    (void)timer;
    if (!asking_left) {
        asking_left = dassie_counts(&session.q, &left, queue, 0, on_left) == 0;
    }
}

static void start_progress(void)
{
    uv_timer_init(&session.loop, &progress);
    uv_update_time(&session.loop);
    progress_since = uv_now(&session.loop);
    if (terminal_takes(STDERR_FILENO) && !verbose) {
        uv_timer_start(&progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    }
}

static void end_progress(void)
{
    uv_timer_stop(&progress);
    uv_close((uv_handle_t *)&progress, NULL);
    progress_hide();
}

static void print_summary(void)
{
    if (tool.json) {
        json_t *object = json_object();
        json_count(object, "complete", ends[DASSIE_COMPLETE]);
        json_count(object, "failed", ends[DASSIE_FAILED]);
        json_count(object, "cancelled", ends[DASSIE_CANCELLED]);
        out_json(object);
    } else {
        tool_fail(0, "%" PRIu64 " complete, %" PRIu64 " failed",
                  ends[DASSIE_COMPLETE], ends[DASSIE_FAILED]);
    }
    if (untold > 0) {
        tool_fail(0, "and some of %" PRIu64 " events that were missed", untold);
    }
}

/* ---- The run ---- */

static void on_start(dassie_job_t *job)
{
    child_start(job, command);
}

static void on_cancel(dassie_job_t *job)
{
    child_end(job, SIGTERM);
}

static void on_interrupted(void)
{
    over = true;
    signals_n++;
    if (signals_n > 1) {
        children_end(signals_n == 2 ? SIGTERM : SIGKILL);
    }
}

static void on_command_broken(void)
{
    if (!over) {
        tool_fail_rc(children_broken(), command[0]);
    }
    over = true;
    session_end(); /* before the job is finished, so that it stays */
}

/* Others may look and steer meanwhile; without that it works as well. */
static void on_listening(dassie_t *q, int status)
{
    (void)q;
    if (status != 0 && status != UV_ECANCELED) {
        tool_fail_rc(status, "nobody can look meanwhile");
    }
}

/* Two descriptors for each child. */
static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int process(void)
{
    dassie_subscribe_options_t events = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    events.queue = queue;
    options.queue = queue;
    options.concurrency = (unsigned)concurrency;
    options.start = on_start;
    options.cancel = on_cancel;
    int rc = dassie_subscribe(&session.q, &subscription, &events, on_events);
    return rc == 0 ? dassie_process(&session.q, &processor, &options) : rc;
}

static int run_jobs(void)
{
    int rc = process();
    if (rc != 0) {
        return session_close(tool_fail_rc(rc, "run"));
    }
    dassie_admin_listen(&session.q, on_listening);
    start_progress();
    check_over();
    session_wait(&over);
    end_progress();
    int code = session_close(TOOL_GOOD);
    if (children_broken() != 0) {
        return TOOL_ERROR;
    }
    print_summary();
    return code == TOOL_GOOD && ends[DASSIE_FAILED] > 0 ? TOOL_FAILED : code;
}

/* The jobs that are to be run are there; -1, or the exit code. */
static int prepare(void)
{
    struct lines lines = {.text = NULL};
    dassie_count_t count;
    int rc;
    if (lines_file != NULL) {
        rc = lines_read(&lines, lines_file);
        if (rc != 0) {
            return tool_fail_rc(rc, lines_file);
        }
        name_lines(&lines);
    }
    int code = session_open(lines_file != NULL ? 0 : DASSIE_NO_CREATE, false);
    if (code >= 0) {
        lines_free(&lines);
        return code;
    }
    rc = lines_file != NULL ? add_lines(&lines) : look_counts(queue, &count);
    lines_free(&lines);
    if (rc == 0 || (rc == UV_ENOENT && (follow || lines_file != NULL))) {
        return -1;
    }
    return session_close(rc == UV_ENOENT
                             ? tool_fail(TOOL_MISSING, "no queue '%s'", queue)
                             : tool_fail_rc(rc, "run"));
}

static int run_run(int argc, char **argv)
{
    (void)argc;
    command = argv;
    if (lines_file != NULL && queue_option != NULL) {
        return tool_fail(TOOL_USAGE, "run: --lines, or --queue");
    }
    queue = queue_option != NULL ? queue_option : "default";
    raise_files();
    int code = prepare();
    if (code >= 0) {
        return code;
    }
    children_on_broken(on_command_broken);
    session.interrupted = on_interrupted;
    over = session.signal != 0;
    return run_jobs();
}

static const struct tool_option options[] = {
    {"queue", "QUEUE", "the queue, by default \"default\"", OPTION_TEXT,
     &queue_option, 0, 0, 'q'},
    {"lines", "FILE", "make a job of each line of it first, but once only",
     OPTION_TEXT, &lines_file, 0, 0, 'l'},
    {"attempts", "N", "with --lines: how many may fail, by default 1",
     OPTION_COUNT, &attempts, 1, DASSIE_ATTEMPTS_MAX, 0},
    {"concurrency", "N", "so many at a time, by default 1", OPTION_SMALL,
     &concurrency, 1, DASSIE_CONCURRENCY_MAX, 'j'},
    {"follow", NULL, "stay when there is nothing left to do", OPTION_FLAG,
     &follow, 0, 0, 'f'},
    {"verbose", NULL, "tell of each job that has ended", OPTION_FLAG, &verbose,
     0, 0, 'v'},
    {.name = NULL}};

const struct command command_run = {.name = "run",
                                    .args = "-- COMMAND [ARGUMENT]...",
                                    .what = "Runs a command for each job",
                                    .options = options,
                                    .runs = true,
                                    .args_min = 1,
                                    .args_max = -1,
                                    .run = run_run};
