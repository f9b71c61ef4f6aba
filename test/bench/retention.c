/* retention.c: row 15: what a sweep of complete jobs costs those that are
 * enqueued beside it. */
#include "config.h"

#include "bench.h"

void retention_row(const struct row *row)
{
    struct figure *f = shared(3 * sizeof *f);
    double ours[REPEATS];
    double limit[REPEATS];
    struct load load = {.jobs = 100000 * bench.scale,
                        .payload = 128,
                        .inflight = 20000,
                        .concurrency = 3,
                        .run = true,
                        .queues = 1};
    load_run(&load, path_of("kept"), &f[2]);
    load.jobs = 200000 * bench.scale;
    load.run = false;
    load.again = true;
    for (int i = 0; i < REPEATS; i++) {
        load.keep_jobs = 1;
        store_copy(path_of("kept"), path_of("store"));
        load_run(&load, path_of("store"), &f[0]);
        load.keep_jobs = 0;
        store_copy(path_of("kept"), path_of("store"));
        load_run(&load, path_of("store"), &f[1]);
        ours[i] = (double)load.jobs / f[0].seconds;
        limit[i] = (double)load.jobs / f[1].seconds;
        if (f[0].stats.swept == 0 || f[1].stats.swept > 0) {
            die("a sweep of the wrong run", UV_EINVAL);
        }
    }
    store_remove(path_of("kept"));
    report(row, ours, limit, REPEATS);
    note("%llu of %lu complete jobs were swept meanwhile",
         (unsigned long long)f[0].stats.swept, 100000 * bench.scale);
}
