/* get.c: row 8: look-ups by id, cold and warm, and what they cost jobs that
 * run beside them. */
#include "config.h"

#include "bare.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#define GETS 1000
#define SLOTS 3

/* ---- Beside running jobs ---- */

void get_row(const struct row *row)
{
    struct figure *f = shared(2 * sizeof *f);
    double ours[REPEATS];
    double limit[REPEATS];
    struct load load = {.jobs = 200000 * bench.scale,
                        .payload = 128,
                        .inflight = 20000,
                        .concurrency = SLOTS,
                        .run = true,
                        .queues = 1};
    for (int i = 0; i < REPEATS; i++) {
        load.lookups = 1000;
        load_run(&load, path_of("store"), &f[0]);
        load.lookups = 0;
        load_run(&load, path_of("store"), &f[1]);
        ours[i] = (double)load.jobs / f[0].seconds;
        limit[i] = (double)load.jobs / f[1].seconds;
    }
    report(row, ours, limit, REPEATS);
}

/* ---- One at a time ---- */

struct gets {
    unsigned long jobs;
    unsigned n;
    double *us; /* GETS cold ones, then the same again */
    uint64_t begin;
    uv_loop_t loop;
    dassie_t q;
    dassie_get_t req;
};

/* Which one is looked up as number i: no two near each other. */
static uint64_t id_of(const struct gets *g, unsigned i)
{
    return 1 + (uint64_t)(i % GETS) * 2654435761 % g->jobs;
}

static void get(struct gets *g);

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    struct gets *g = req->data;
    if (status != 0 || job->state != DASSIE_COMPLETE || job->data_len != 128) {
        die("dassie_get", status);
    }
    g->us[g->n] = (double)(uv_hrtime() - g->begin) / 1e3;
    if (++g->n < 2 * GETS) {
        get(g);
    } else {
        dassie_close(&g->q, NULL);
    }
}

static void get(struct gets *g)
{
    g->begin = uv_hrtime();
    int rc = dassie_get(&g->q, &g->req, id_of(g, g->n), on_get);
    if (rc != 0) {
        die("dassie_get", rc);
    }
}

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    get(q->data);
}

static void gets_child(void *arg)
{
    struct gets *g = arg;
    g->q.data = g;
    g->req.data = g;
    uv_loop_init(&g->loop);
    bench_open(&g->loop, &g->q, path_of("store"), NULL, on_open);
    uv_run(&g->loop, UV_RUN_DEFAULT);
}

static void bare_get(struct bare *b, enum family family, uint64_t id)
{
    uint8_t key[KEY_NUMBER_BYTES];
    char *text = NULL;
    dassie__key_number(key, id);
    rocksdb_pinnableslice_t *value = rocksdb_get_pinned_cf(
        b->db, b->read, b->family[family], (char *)key, sizeof key, &text);
    if (text != NULL || value == NULL) {
        die("a bare get", UV_EIO);
    }
    rocksdb_pinnableslice_destroy(value);
}

static void bare_child(void *arg)
{
    struct gets *g = arg;
    struct bare b;
    bare_open(&b, path_of("store"));
    for (; g->n < 2 * GETS; g->n++) {
        g->begin = uv_hrtime();
        bare_get(&b, FAMILY_COMPLETE, id_of(g, g->n));
        bare_get(&b, FAMILY_JOBS, id_of(g, g->n));
        g->us[g->n] = (double)(uv_hrtime() - g->begin) / 1e3;
    }
    bare_close(&b);
}

static int forget_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fdatasync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    return 0;
}

static double gets_run(void (*child)(void *arg), struct gets *g, bool warm)
{
    double *us = g->us + (warm ? GETS : 0);
    sync();
    nftw(path_of("store"), forget_one, 16, FTW_PHYS);
    g->n = 0;
    in_child(child, g);
    sort_doubles(us, GETS);
    return percentile(us, GETS, 50);
}

void get_single_row(const struct row *row)
{
    struct figure *f = shared(sizeof *f);
    struct gets g = {.jobs = 200000 * bench.scale};
    double ours[REPEATS];
    double limit[REPEATS];
    struct load load = {.jobs = g.jobs,
                        .payload = 128,
                        .inflight = 20000,
                        .concurrency = SLOTS,
                        .queues = 1};
    g.us = shared(2 * GETS * sizeof g.us[0]);
    load_run(&load, path_of("store"), f);
    drain_run(&load, 0, path_of("store"), f);
    for (int i = 0; i < REPEATS; i++) {
        ours[i] = gets_run(gets_child, &g, row->arg != 0);
        limit[i] = gets_run(bare_child, &g, row->arg != 0);
    }
    report(row, ours, limit, REPEATS);
}
