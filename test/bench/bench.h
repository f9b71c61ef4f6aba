/* bench.h: what the parts of the benchmark share.
 *
 * Every figure is printed beside its limit: a bare loop over the same database
 * that writes the same rows in batches of the same size. The two are run in
 * turn, so that the machine's mood hits both, and the median of the ratios
 * counts. If the limit has not written what Dassie wrote, the bench fails. */
#ifndef BENCH_H_
#define BENCH_H_

#include <stdbool.h>

#include "dassie.h"

struct load {
    const char *dir;
    unsigned long jobs;
    size_t payload;
    unsigned long inflight;
    unsigned concurrency;
    bool run; /* processed as well, not only enqueued */
};

/* What one run took and wrote. */
struct figure {
    double seconds;
    double process_seconds; /* from the first start to the last end */
    dassie_stats_t stats;
};

/* Runs a workload on Dassie in a new store. Exits on an error. */
void load_run(const struct load *load, struct figure *figure);

/* Writes the same rows with bare writes, batch by batch. */
void limit_run(const struct load *load, const struct figure *dassie,
               struct figure *limit);

/* Removes a store. */
void store_remove(const char *dir);

double now_s(void);
void die(const char *what, int rc);

#endif /* BENCH_H_ */
