/* reopen.c: row 11: open after kill -9, beside a bare RocksDB open of a copy of
 * the same directory. */
#include "config.h"

#include "bare.h"

struct reopen {
    double *ms;
    double begin;
};

static void on_open(dassie_t *q, int status)
{
    struct reopen *r = q->data;
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    *r->ms = (now_s() - r->begin) * 1e3;
    dassie_close(q, NULL);
}

static void ours_child(void *arg)
{
    struct reopen *r = arg;
    uv_loop_t loop;
    dassie_t q;
    uv_loop_init(&loop);
    q.data = r;
    r->begin = now_s();
    bench_open(&loop, &q, path_of("store"), NULL, on_open);
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void bare_child(void *arg)
{
    struct reopen *r = arg;
    struct bare b;
    r->begin = now_s();
    bare_open(&b, path_of("store"));
    *r->ms = (now_s() - r->begin) * 1e3;
    bare_close(&b);
}

static double reopen_run(void (*child)(void *arg), double *ms)
{
    struct reopen r = {.ms = ms};
    store_copy(path_of("killed"), path_of("store"));
    in_child(child, &r);
    return *ms;
}

void reopen_row(const struct row *row)
{
    double *ms = shared(sizeof *ms);
    double ours[REPEATS];
    double limit[REPEATS];
    struct figure *f = shared(sizeof *f);
    struct load load = {.jobs = 1000000 * bench.scale,
                        .payload = 128,
                        .inflight = 20000,
                        .queues = 1,
                        .kill = true};
    load_run(&load, path_of("killed"), f);
    for (int i = 0; i < REPEATS; i++) {
        ours[i] = reopen_run(ours_child, ms);
        limit[i] = reopen_run(bare_child, ms);
    }
    report(row, ours, limit, REPEATS);
    store_remove(path_of("killed"));
}
