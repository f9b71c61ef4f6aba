/* space.c: rows 9 and 10: resident memory and bytes on disk. */
#include "config.h"

#include "bare.h"

#include <stdio.h>

#define ALLOWED_BYTES (DASSIE_MEMORY_BYTES + (64 << 20))
#define BESIDE_PAYLOAD_BYTES 60
#define PAYLOAD 128

static const struct load backlog = {.payload = PAYLOAD,
                                    .inflight = 20000,
                                    .concurrency = 3,
                                    .queues = 1};

void memory_row(const struct row *row)
{
    struct figure *f = shared(2 * sizeof *f);
    struct load load = backlog;
    load.jobs = 1000000 * bench.scale;
    load_run(&load, path_of("store"), &f[0]);
    drain_run(&load, 0, path_of("store"), &f[1]);
    double most = f[0].memory > f[1].memory ? f[0].memory : f[1].memory;
    double ours = most / 1e6;
    double limit = ALLOWED_BYTES / 1e6;
    report(row, &ours, &limit, 1);
    note("%lu jobs pending: %.1f MB; drained: %.1f MB", load.jobs,
         f[0].memory / 1e6, f[1].memory / 1e6);
}

static void compact_child(void *dir)
{
    struct bare b;
    bare_open(&b, dir);
    for (int i = 0; i < FAMILIES; i++) {
        rocksdb_compact_range_cf(b.db, b.family[i], NULL, 0, NULL, 0);
    }
    bare_close(&b);
}

void disk_row(const struct row *row)
{
    struct figure *f = shared(sizeof *f);
    char dir[1024];
    struct load load = backlog;
    load.jobs = 200000 * bench.scale;
    snprintf(dir, sizeof dir, "%s", path_of("store"));
    load_run(&load, dir, f);
    double before = (double)bytes_on_disk(dir) / (double)load.jobs;
    in_child(compact_child, dir);
    double ours = (double)bytes_on_disk(dir) / (double)load.jobs;
    double limit = PAYLOAD + BESIDE_PAYLOAD_BYTES;
    report(row, &ours, &limit, 1);
    note("%lu jobs pending; before the compaction %.1f bytes a job", load.jobs,
         before);
}
