/* drain.c: row 3: a backlog on disk, run to its end. */
#include "config.h"

#include "bench.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define IN_FLIGHT 20000
#define SLOTS 3

struct drain {
    const struct load *load;
    const char *dir;
    struct figure *figure;
    unsigned long sample; /* jobs to run */
    dassie_t q;
    dassie_drain_t req;
    uv_async_t enough;
    double begin;
};

static struct drain *drain; /* the one of this process */
static atomic_ulong started;

static int work(dassie_job_t *job)
{
    unsigned long n = atomic_fetch_add(&started, 1) + 1;
    unsigned long tenth = drain->sample / 10;
    (void)job;
    if (tenth > 0 && n % tenth == 0 && n / tenth <= 10) {
        drain->figure->tenth[n / tenth - 1] = now_s() - drain->begin;
    }
    if (n == drain->sample && drain->sample < drain->load->jobs) {
        uv_async_send(&drain->enough);
    }
    return 0;
}

static void over(void)
{
    drain->figure->seconds = now_s() - drain->begin;
    drain->figure->busy_seconds = busiest_thread_s();
    drain->figure->memory = memory_bytes("VmRSS");
    uv_close((uv_handle_t *)&drain->enough, NULL);
    bench_close(&drain->q, &drain->figure->stats);
}

static void on_drained(dassie_drain_t *req, int status)
{
    (void)req;
    if (status != 0) {
        die("dassie_drain", status);
    }
    over();
}

static void on_enough(uv_async_t *async)
{
    (void)async;
    over();
}

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    drain->begin = now_s();
    process_queues(q, drain->load->queues, drain->load->concurrency, work);
    if (drain->sample < drain->load->jobs) {
        return;
    }
    int rc = dassie_drain(q, &drain->req, NULL, 0, on_drained);
    if (rc != 0) {
        die("dassie_drain", rc);
    }
}

static void drain_child(void *arg)
{
    uv_loop_t loop;
    drain = arg;
    uv_loop_init(&loop);
    uv_async_init(&loop, &drain->enough, on_enough);
    bench_open(&loop, &drain->q, drain->dir, NULL, on_open);
    uv_run(&loop, UV_RUN_DEFAULT);
}

void drain_run(const struct load *load, unsigned long sample, const char *dir,
               struct figure *figure)
{
    struct drain d = {.load = load,
                      .dir = dir,
                      .figure = figure,
                      .sample = sample > 0 ? sample : load->jobs};
    in_child(drain_child, &d);
}

/* The rate of the last tenth beside that of the first. */
static double flatness(const struct figure *f)
{
    return f->tenth[0] / (f->tenth[9] - f->tenth[8]);
}

void drain_row(const struct row *row)
{
    struct figure *f = shared(3 * sizeof *f);
    struct load load = {.jobs = 500000 * bench.scale,
                        .payload = 128,
                        .inflight = IN_FLIGHT,
                        .concurrency = SLOTS,
                        .queues = 1};
    double jobs = (double)load.jobs;
    double ours[REPEATS];
    double limit[REPEATS];
    double flat[REPEATS];
    load_run(&load, path_of("backlog"), &f[2]);
    for (int i = 0; i < REPEATS; i++) {
        store_copy(path_of("backlog"), path_of("store"));
        drain_run(&load, 0, path_of("store"), &f[0]);
        store_copy(path_of("backlog"), path_of("limit"));
        limit_drain_run(&load, path_of("limit"), &f[0].stats, &f[1]);
        check_same(row->name, &load, &f[0].stats, &f[1].stats);
        ours[i] = jobs / f[0].seconds;
        limit[i] = jobs / f[1].seconds;
        flat[i] = flatness(&f[0]);
    }
    store_remove(path_of("backlog"));
    report(row, ours, limit, REPEATS);
    double mid = median(flat, REPEATS);
    note(
        "the last tenth ran at %.2f of the rate of the first (%.2f to %.2f); "
        "%.0f jobs a commit",
        mid, flat[0], flat[REPEATS - 1], jobs / (double)f[0].stats.commits);
}

int drain_one(char **argv)
{
    struct figure *f = shared(2 * sizeof *f);
    unsigned long sample = strtoul(argv[5], NULL, 10);
    struct load load = {.jobs = strtoul(argv[3], NULL, 10),
                        .payload = strtoul(argv[4], NULL, 10),
                        .inflight = IN_FLIGHT,
                        .concurrency = SLOTS,
                        .queues = 1};
    if (load.jobs == 0 || sample == 0 || sample > load.jobs) {
        die("arguments", UV_EINVAL);
    }
    load_run(&load, argv[2], &f[0]);
    drain_run(&load, sample, argv[2], &f[1]);
    printf("METRIC rate %.0f jobs/s\n", (double)sample / f[1].seconds);
    return 0;
}
