/* top.c: "dassie top", how a store stands and what it does, on a terminal.
 *
 * The happy path is: a look at the store (watch.c), the screen drawn from it
 * (view.c), keys until it is time for the next look.
 *
 * Signals are let in only while it waits for keys: so one that ends it never
 * finds the store open or the screen half drawn. */
#include "config.h"

#include "view.h"

#include "look.h"
#include "out.h"
#include "session.h"
#include "tool.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 2000
#define INTERVAL_MS_MIN 100
#define PAGES_MAX 1000
#define TEXT_BYTES 200 /* of a job's payload or error */

static uint64_t interval_ms = 1000;
static struct watch watch = {.patience_ms = PATIENCE_MS};
static struct view view = {.state = VIEW_QUEUES};
static struct place_in_list pages[PAGES_MAX]; /* where each begins */
static size_t page;
static char words[256];
static bool over;
static volatile sig_atomic_t caught;
static sigset_t outside; /* the mask outside of all this */

/* ---- What is looked at ---- */

static void keep_words(const char *line)
{
    snprintf(words, sizeof words, "%s", line);
}

static void free_jobs(void)
{
    while (view.jobs_n > 0) {
        free(view.jobs[--view.jobs_n]);
    }
}

static void keep_job(const dassie_info_t *job)
{
    char age[OUT_TIME_BYTES];
    size_t size;
    bool failed = view.state == DASSIE_FAILED;
    uint64_t since = job->ended_ms != 0 ? job->ended_ms : job->enqueued_ms;
    FILE *file = open_memstream(&view.jobs[view.jobs_n], &size);
    if (file == NULL) {
        return;
    }
    fprintf(file, "%10" PRIu64 " %5s %3" PRIu32 "\t", job->id,
            format_age(age_of(since), age), job->attempts);
    text_write(file, job->queue, job->queue_len, 0);
    putc('\t', file);
    text_write(file, job->name_len > 0 ? job->name : "-",
               job->name_len > 0 ? job->name_len : 1, 0);
    putc('\t', file);
    text_write(file, failed ? job->error : job->data,
               failed ? job->error_len : job->data_len, TEXT_BYTES);
    view.jobs_n += fclose(file) == 0;
}

static int find_jobs(void)
{
    struct selection selection = {.states = DASSIE_IN(view.state)};
    struct place_in_list place = pages[page];
    free_jobs();
    int rc = look_list(&selection, &place, view_rows(), keep_job, &view.more);
    if (view.more && page + 1 < PAGES_MAX) {
        pages[page + 1] = place;
    }
    return rc;
}

/* For the queues that are shown. */
static int find_next(struct watch *w)
{
    int rc = 0;
    if (view.first >= w->now.queues_n) {
        view.first = 0;
    }
    for (size_t i = view.first;
         rc == 0 && i < w->now.queues_n && i < view.first + view_rows(); i++) {
        rc = figures_next(&w->now.queues[i]);
    }
    return rc;
}

static int find_more(struct watch *w)
{
    return view_rows() == 0            ? 0
           : view.state == VIEW_QUEUES ? find_next(w)
                                       : find_jobs();
}

/* ---- Keys ---- */

static void choose(int state)
{
    view.state = state;
    view.first = 0;
    page = 0;
    memset(&pages[0], 0, sizeof pages[0]);
    pages[0].state = state;
    free_jobs();
}

static void turn_page(bool forth)
{
    size_t rows = view_rows();
    if (view.state != VIEW_QUEUES) {
        page += forth && view.more && page + 1 < PAGES_MAX;
        page -= !forth && page > 0;
    } else if (forth && view.first + rows < watch.now.queues_n) {
        view.first += rows;
    } else if (!forth) {
        view.first = view.first > rows ? view.first - rows : 0;
    }
}

static void obey(int key)
{
    static const int states[] = {VIEW_QUEUES, DASSIE_PENDING, DASSIE_SCHEDULED,
                                 DASSIE_RUNNING, DASSIE_FAILED};
    if (key == 'q') {
        over = true;
    } else if (key >= '1' && key <= '5') {
        choose(states[key - '1']);
    } else if (key == VIEW_NEXT_PAGE || key == VIEW_LAST_PAGE) {
        turn_page(key == VIEW_NEXT_PAGE);
    }
}

/* Until a key is typed, a signal comes, or it is time. Whether there was a
 * key. */
static bool wait_for_keys(uint64_t until_ns)
{
    uint64_t now = uv_hrtime();
    uint64_t ns = until_ns > now ? until_ns - now : 0;
    struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    bool any = false;
    int key;
    if (ppoll(&fd, 1, &time, &outside) > 0 && fd.revents != POLLIN) {
        over = true; /* nobody sits there any more */
    }
    while (!over && (key = view_key()) != 0) {
        obey(key);
        any = true;
    }
    return any;
}

/* ---- The run ---- */

static void on_signal(int number)
{
    caught = number;
}

static void catch_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, SIGWINCH);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        sigaddset(&all, ends[i]);
        sigaction(ends[i], &action, &before);
        if (before.sa_handler == SIG_IGN) {
            sigaction(ends[i], &before, NULL); /* it stays so */
        }
    }
    pthread_sigmask(SIG_BLOCK, &all, &outside);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        sigdelset(&outside, ends[i]);
    }
    sigdelset(&outside, SIGWINCH);
}

static void watch_store(void)
{
    bool again = true;
    while (!over && caught == 0) {
        words[0] = '\0';
        watch_look(&watch, again, find_more);
        view.words = words;
        view_draw(&view, &watch);
        uint64_t until_ns = uv_hrtime() + interval_ms * 1000000;
        do {
            again = wait_for_keys(until_ns);
        } while (!again && !over && caught == 0 && uv_hrtime() < until_ns);
    }
}

static int run_top(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (tool.json) {
        return tool_fail(TOOL_USAGE,
                         "top: no --json; try stat --interval 1s --json");
    }
    if (interval_ms < INTERVAL_MS_MIN) {
        return tool_fail(TOOL_USAGE, "top: --interval is too short");
    }
    view.jobs = calloc(VIEW_ROWS_MAX, sizeof view.jobs[0]);
    int code = view.jobs == NULL ? tool_fail(TOOL_ERROR, "out of memory")
                                 : view_begin();
    if (code < 0) {
        catch_signals();
        tool.say = keep_words;
        session.unwatched = true;
        watch_store();
        view_end();
        tool.say = NULL;
        watch_end(&watch);
        free_jobs();
        session.signal = caught;
        pthread_sigmask(SIG_SETMASK, &outside, NULL);
        code = TOOL_GOOD;
    }
    free(view.jobs);
    return code;
}

static const struct tool_option options[] = {
    {"interval", "TIME", "look again so often, by default 1s", OPTION_TIME,
     &interval_ms, 0, 0, 'i'},
    {.name = NULL}};

const struct command command_top = {
    .name = "top",
    .args = "",
    .what = "Shows how a store stands and what it does, live",
    .options = options,
    .run = run_top};
