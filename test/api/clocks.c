/* clocks.c: a session while the wall clock does what it likes; see clocks.sh.
 *
 * The arguments are the store, the file that says how far the wall clock is
 * off (libfaketime reads it), how to end, and the steps: each is what to write
 * there, "-2h" or "+0 x600" say. At each step jobs are enqueued, half of them
 * for a little later; then the clock is set, and those for now run. In the end
 * the store is closed, when all have run, or just left. Whatever the clock
 * says: every job runs once, those for now in their order and at once, none
 * before it is due, and the times that are told are those that the clock
 * showed.
 *
 * Threads: the loop's. */
#include "config.h"

#include <dassie.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define JOBS 50       /* a step, half of them later */
#define LATER_MS 50   /* by how much */
#define SLACK_MS 1000 /* that the file's clock may be off when it is read */

static uv_loop_t loop;
static dassie_t queue;
static dassie_processor_t processor;
static int opened;
static int acked;
static int ran;              /* of those for now */
static uint64_t first_id;    /* of the step */
static uint64_t last_now;    /* the last id that ran of those for now */
static uint64_t latest;      /* that the clock has shown before it was set */
static uint64_t enqueued[2]; /* between these times were the step's enqueues, */
static uint64_t ended[2];    /* and its ends */

static void must(int well, const char *what)
{
    if (!well) {
        fprintf(stderr, "clocks: %s\n", what);
        exit(1);
    }
}

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_open(dassie_t *q, int status)
{
    (void)q;
    must(status == 0, "open");
    opened = 1;
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    (void)req;
    must(status == 0, "enqueue");
    acked++;
}

static void start(dassie_job_t *job)
{
    uint64_t id = dassie_job_id(job);
    must(dassie_job_attempt(job) == 1, "a second attempt");
    uint64_t due; /* 0: now */
    memcpy(&due, dassie_job_data(job, NULL), sizeof due);
    if (due == 0) {
        must(id > last_now, "out of order");
        last_now = id;
        ran++;
    }
    must(due <= latest || due <= wall_ms(), "a job before its time");
    must(dassie_finish(&queue, id, 1, 0, NULL, 0) == 0, "finish");
}

static void wait_for(const int *n, int least)
{
    while (*n < least) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static int is_within(uint64_t ms, const uint64_t *between)
{
    return ms + SLACK_MS >= between[0] && ms <= between[1] + SLACK_MS;
}

static void on_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    must(status == 0, "list");
    for (size_t i = 0; i < n; i++) {
        const dassie_info_t *job = &jobs[i];
        if (job->id >= first_id) {
            must(is_within(job->enqueued_ms, enqueued),
                 "the time of an enqueue");
            must(is_within(job->ended_ms, ended), "the time of an end");
        }
    }
    *(int *)req->data += 1;
}

static void check_times(void)
{
    int pages = 0;
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    dassie_list_t list = {.data = &pages};
    options.state = DASSIE_COMPLETE;
    do {
        int before = pages;
        must(dassie_list(&queue, &list, &options, on_page) == 0, "list");
        wait_for(&pages, before + 1);
    } while (list.more);
}

static void clock_set(const char *path, const char *to)
{
    FILE *file = fopen(path, "w");
    must(file != NULL && fprintf(file, "%s\n", to) > 0 && fclose(file) == 0,
         "the clock's file");
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    int *left = req->data;
    must(status == 0, "counts");
    *left = (int)(count->pending + count->running);
    if (left[1] != 0) {
        *left += (int)count->scheduled;
    }
}

/* Until nothing is left to run, be it now only or at all. */
static void settle(int all)
{
    int left[2] = {1, all};
    while (left[0] != 0) {
        dassie_counts_t counts = {.data = left};
        left[0] = -1;
        must(dassie_counts(&queue, &counts, NULL, 0, on_counts) == 0, "counts");
        while (left[0] < 0) {
            uv_run(&loop, UV_RUN_ONCE);
        }
        uv_sleep(1);
    }
}

static void step(const char *path, const char *to)
{
    static dassie_enqueue_t reqs[JOBS];
    enqueued[0] = wall_ms();
    acked = ran = 0;
    for (int i = 0; i < JOBS; i++) {
        dassie_spec_t spec = DASSIE_SPEC_INIT;
        uint64_t due = i % 2 == 0 ? 0 : wall_ms() + LATER_MS;
        spec.data = &due;
        spec.data_len = sizeof due;
        spec.delay_ms = i % 2 == 0 ? 0 : LATER_MS;
        memset(&reqs[i], 0, sizeof reqs[i]);
        must(dassie_enqueue(&queue, &reqs[i], &spec, on_ack) == 0, "enqueue");
    }
    wait_for(&acked, JOBS);
    enqueued[1] = wall_ms();
    first_id = reqs[0].id;
    latest = wall_ms() > latest ? wall_ms() : latest;
    clock_set(path, to);
    ended[0] = wall_ms() < enqueued[0] ? wall_ms() : enqueued[0];
    wait_for(&ran, JOBS / 2);
    settle(0);
    ended[1] = wall_ms() > enqueued[1] ? wall_ms() : enqueued[1];
    check_times();
}

int main(int argc, char **argv)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    must(argc > 4, "clocks STORE FILE close|kill STEP...");
    must(uv_loop_init(&loop) == 0 && dassie_init(&loop, &queue) == 0, "init");
    must(dassie_open(&queue, argv[1], NULL, on_open) == 0, "open");
    wait_for(&opened, 1);
    options.start = start;
    must(dassie_process(&queue, &processor, &options) == 0, "process");
    for (int i = 4; i < argc; i++) {
        step(argv[2], argv[i]);
    }
    printf("clocks: %d jobs\n", (argc - 4) * JOBS);
    fflush(stdout);
    if (strcmp(argv[3], "kill") == 0) {
        _Exit(0);
    }
    settle(1);
    must(dassie_close(&queue, NULL) == 0, "close");
    uv_run(&loop, UV_RUN_DEFAULT);
    dassie_verify_report_t report;
    must(uv_loop_close(&loop) == 0, "the loop's end");
    must(dassie_verify(argv[1], NULL, NULL, &report) == 0, "verify");
    must(report.problems == 0 && report.jobs.pending + report.jobs.running +
                                         report.jobs.scheduled +
                                         report.jobs.failed ==
                                     0,
         "what is left in the store");
    return 0;
}
