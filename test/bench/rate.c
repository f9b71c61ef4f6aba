/* rate.c: rows 1, 2, 6 and 7: jobs a second, and bytes. */
#include "config.h"

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#define IN_FLIGHT 20000
#define IN_FLIGHT_BYTES 16777216 /* as large as a window is by default */
#define SLOTS 3                  /* what libuv's pool has to spare */

/* Ours and the limit in turn; per_job is what a job counts. */
static void rate_run(const struct row *row, const struct load *load,
                     double per_job)
{
    struct figure *f = shared(2 * sizeof *f);
    double ours[REPEATS];
    double limit[REPEATS];
    double jobs = (double)load->jobs;
    for (int i = 0; i < REPEATS; i++) {
        load_run(load, path_of("store"), &f[0]);
        limit_run(load, path_of("limit"), &f[0].stats, &f[1]);
        check_same(row->name, load, &f[0].stats, &f[1].stats);
        ours[i] = jobs * per_job / f[0].seconds;
        limit[i] = jobs * per_job / f[1].seconds;
    }
    report(row, ours, limit, REPEATS);
    for (int i = 0; i < 2; i++) {
        const dassie_stats_t *s = &f[i].stats;
        note(
            "%s, per job: %.2f rows, %.0f bytes, %.5f batches, %.5f fsyncs; "
            "%.2f us of CPU on the busiest thread",
            i == 0 ? "dassie" : "limit ", (double)s->rows / jobs,
            (double)s->row_bytes / jobs, (double)s->commits / jobs,
            (double)s->fsyncs / jobs, f[i].busy_seconds * 1e6 / jobs);
    }
    note("%.0f jobs a commit, %.0f%% handed off",
         jobs / (double)f[0].stats.commits,
         100 * (double)f[0].stats.handed_off / jobs);
}

void rate_row(const struct row *row)
{
    struct load load = {.jobs = 200000 * bench.scale,
                        .payload = 128,
                        .inflight = IN_FLIGHT,
                        .concurrency = SLOTS,
                        .run = row->arg != 0,
                        .queues = 1};
    rate_run(row, &load, 1);
}

/* The same jobs, all of which wait before the first one runs. */
static void note_backlog(struct load load)
{
    struct figure *f = shared(2 * sizeof *f);
    load.run = false;
    load_run(&load, path_of("store"), &f[0]);
    drain_run(&load, 0, path_of("store"), &f[1]);
    note("%.0f jobs/s with a backlog over all queues",
         (double)load.jobs / f[1].seconds);
}

void queues_row(const struct row *row)
{
    struct load load = {.jobs = 200000 * bench.scale,
                        .payload = 128,
                        .inflight = IN_FLIGHT,
                        .concurrency = SLOTS,
                        .run = true,
                        .queues = (unsigned)row->arg,
                        .priorities = true,
                        .delays = true};
    rate_run(row, &load, 1);
    note_backlog(load);
}

/* Most payloads leave memory before their jobs run, and are read back, which
 * the limit does not do. */
static void note_beyond_window(struct load load)
{
    struct figure *f = shared(2 * sizeof *f);
    load.inflight = IN_FLIGHT;
    load_run(&load, path_of("store"), &f[0]);
    limit_run(&load, path_of("limit"), &f[0].stats, &f[1]);
    note("%.2f of the limit with as much as the inbox takes in flight",
         f[1].seconds / f[0].seconds);
}

/* A tenth of a gigabyte at a time; one copy of it is in each job's row. What is
 * in flight fits into the window. */
void payload_row(const struct row *row)
{
    size_t bytes = row->arg;
    struct load load = {.jobs = 104857600 / bytes * bench.scale,
                        .payload = bytes,
                        .inflight = IN_FLIGHT_BYTES / bytes,
                        .concurrency = SLOTS,
                        .run = true,
                        .queues = 1};
    rate_run(row, &load, (double)bytes / 1e6);
    note_beyond_window(load);
}

int rate_one(char **argv)
{
    struct figure *f = shared(sizeof *f);
    bool run = argv[1][0] == 'e' && argv[1][1] == '2';
    struct load load = {.jobs = strtoul(argv[3], NULL, 10),
                        .payload = strtoul(argv[4], NULL, 10),
                        .inflight = IN_FLIGHT,
                        .concurrency = 1,
                        .run = run,
                        .queues = 1};
    unsigned long last = strtoul(argv[5], NULL, 10);
    if (run) {
        load.concurrency = (unsigned)last;
    } else {
        load.inflight = last;
    }
    if (load.jobs == 0 || last == 0) {
        die("arguments", UV_EINVAL);
    }
    load_run(&load, argv[2], f);
    printf("METRIC rate %.0f jobs/s\n", (double)load.jobs / f->seconds);
    if (run) {
        printf("METRIC process_rate %.0f jobs/s\n",
               (double)load.jobs / f->process_seconds);
    }
    return 0;
}
