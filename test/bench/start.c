/* start.c: row 5: from an enqueue, when all is idle, to the start of its
 * processor; beside the bare chain, one of each in turn. */
#include "config.h"

#include "chain.h"

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#define IDLE_MS 4 /* a runner waits for 1 ms before it leaves */
#define BYTES 230 /* of the rows of a job that is handed off */
#define PAYLOAD 128

enum kind { OURS, BARE, KINDS };

struct start {
    const char *dir;
    dassie_durability_t durability;
    unsigned samples;
    bool alone; /* without the chain */
    double *us[KINDS];
    uv_loop_t loop;
    uv_timer_t timer;
    dassie_t q;
    dassie_enqueue_t req;
    struct chain chain;
    unsigned n;
    enum kind kind; /* whose turn it is */
    uint64_t begin;
    uint64_t started;
    dassie_stats_t stats;
};

static struct start *start; /* the one of this process */

static void on_close(uv_handle_t *handle)
{
    (void)handle;
}

static void sample(uv_timer_t *timer);

/* The one under way has ended. */
static void next(void)
{
    start->us[start->kind][start->n] =
        (double)(start->started - start->begin) / 1e3;
    start->kind = start->kind == OURS && !start->alone ? BARE : OURS;
    start->n += start->kind == OURS;
    if (start->n < start->samples) {
        uv_timer_start(&start->timer, sample, IDLE_MS, 0);
        return;
    }
    uv_close((uv_handle_t *)&start->timer, on_close);
    if (!start->alone) {
        chain_close(&start->chain);
    }
    bench_close(&start->q, &start->stats);
}

static int work(dassie_job_t *job)
{
    (void)job;
    start->started = uv_hrtime();
    return 0;
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    if (status != 0) {
        die("done", status);
    }
    next();
}

static void chain_work(uv_work_t *req)
{
    (void)req;
    start->started = uv_hrtime();
}

static void chain_after(uv_work_t *req, int status)
{
    (void)req;
    (void)status;
    next();
}

static void sample(uv_timer_t *timer)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    (void)timer;
    spec.data = payload_of(start->n, PAYLOAD);
    spec.data_len = PAYLOAD;
    start->req.done_cb = on_done;
    start->begin = uv_hrtime();
    if (start->kind == BARE) {
        chain_tell(&start->chain);
        return;
    }
    int rc = dassie_enqueue(&start->q, &start->req, &spec, NULL);
    if (rc != 0) {
        die("dassie_enqueue", rc);
    }
}

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    process_queues(q, 1, 1, work);
    uv_timer_start(&start->timer, sample, 100, 0);
}

static void start_child(void *arg)
{
    dassie_options_t o = DASSIE_OPTIONS_INIT;
    start = arg;
    o.durability = start->durability;
    uv_loop_init(&start->loop);
    uv_timer_init(&start->loop, &start->timer);
    if (!start->alone) {
        start->chain.bytes = start->durability == DASSIE_FULL ? BYTES : 0;
        start->chain.work = chain_work;
        start->chain.after = chain_after;
        chain_open(&start->chain, &start->loop, path_of("bytes"));
    }
    bench_open(&start->loop, &start->q, start->dir, &o, on_open);
    uv_run(&start->loop, UV_RUN_DEFAULT);
}

static void start_run(struct start *s)
{
    for (int k = 0; k < KINDS; k++) {
        s->us[k] = shared(s->samples * sizeof s->us[k][0]);
    }
    store_remove(s->dir);
    in_child(start_child, s);
    for (int k = 0; k < KINDS; k++) {
        sort_doubles(s->us[k], s->samples);
    }
}

void start_row(const struct row *row)
{
    double p50[KINDS][REPEATS];
    double p99[KINDS][REPEATS];
    struct start s = {.dir = path_of("store"),
                      .durability = (dassie_durability_t)row->arg,
                      .samples = 50 * (unsigned)bench.scale};
    for (int i = 0; i < REPEATS; i++) {
        start_run(&s);
        for (int k = 0; k < KINDS; k++) {
            p50[k][i] = percentile(s.us[k], s.samples, 50);
            p99[k][i] = percentile(s.us[k], s.samples, 99);
        }
    }
    report(row, p50[OURS], p50[BARE], REPEATS);
    note("p99 %.0f us, bare %.0f us", median(p99[OURS], REPEATS),
         median(p99[BARE], REPEATS));
}

int start_one(char **argv)
{
    struct start s = {.dir = argv[2],
                      .samples = (unsigned)strtoul(argv[3], NULL, 10),
                      .alone = true};
    if (s.samples == 0) {
        die("N", UV_EINVAL);
    }
    start_run(&s);
    printf("METRIC p50 %.1f us\n", percentile(s.us[OURS], s.samples, 50));
    printf("METRIC p99 %.1f us\n", percentile(s.us[OURS], s.samples, 99));
    return 0;
}
