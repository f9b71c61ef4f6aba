/* retention.c: row 15: what a sweep of complete jobs costs those that are
 * enqueued beside it: many at a time, their rate, or one at a time, how long it
 * takes in the mean. */
#include "config.h"

#include "bench.h"

#define KEPT 100000

/* One that was left with jobs to be swept. keep: so many are kept, 0: all. */
static double run_beside(struct load *load, bool single, uint64_t keep,
                         struct figure *f)
{
    load->keep_jobs = keep;
    store_copy(path_of("kept"), path_of("store"));
    load_run(load, path_of("store"), f);
    if ((f->stats.swept == 0) != (keep == 0)) {
        die("a sweep of the wrong run", UV_EINVAL);
    }
    return single ? f->seconds * 1e6 / (double)load->jobs
                  : (double)load->jobs / f->seconds;
}

void retention_row(const struct row *row)
{
    struct figure *f = shared(3 * sizeof *f);
    double ours[REPEATS];
    double limit[REPEATS];
    bool single = row->arg != 0;
    struct load load = {.jobs = KEPT * bench.scale,
                        .payload = 128,
                        .inflight = 20000,
                        .concurrency = 3,
                        .run = true,
                        .queues = 1};
    load_run(&load, path_of("kept"), &f[2]);
    load.jobs = single ? 2000 : 200000 * bench.scale;
    load.inflight = single ? 1 : load.inflight;
    load.run = false;
    load.again = true;
    for (int i = 0; i < REPEATS; i++) {
        ours[i] = run_beside(&load, single, 1, &f[0]);
        limit[i] = run_beside(&load, single, 0, &f[1]);
        if (single && f[0].stats.swept >= KEPT * bench.scale - 1) {
            die("the sweep was over before the run was", UV_EINVAL);
        }
    }
    store_remove(path_of("kept"));
    report(row, ours, limit, REPEATS);
    note("%llu of %lu complete jobs were swept meanwhile",
         (unsigned long long)f[0].stats.swept, KEPT * bench.scale);
}
