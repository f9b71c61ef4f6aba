/* host.c: row 14: the host's own work on libuv's pool while long jobs occupy
 * every slot: one uv_fs_stat() or uv_getaddrinfo() after the other. What may be
 * added to what they take without any job is a runner's time slice. */
#include "config.h"

#include "bench.h"
#include "runner.h"

#include <unistd.h>

#define JOB_US 500000
#define CALLS 400 /* of each kind, 2 ms apart */

enum when { ALONE, BESIDE, WHENS };

struct host {
    double *ms;      /* shared: CALLS of each phase, half of them stat */
    uint32_t *slots; /* shared: jobs under way at the end */
    unsigned n;
    uint64_t begin;
    uv_loop_t loop;
    uv_timer_t timer;
    dassie_t q;
    uv_fs_t fs;
    uv_getaddrinfo_t address;
    dassie_stats_t stats;
};

static int work(dassie_job_t *job)
{
    (void)job;
    usleep(JOB_US);
    return 0;
}

static void call(uv_timer_t *timer);

static void enqueue_all(struct host *h)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    for (int i = 0; i < 64; i++) {
        int rc = dassie_enqueue(&h->q, NULL, &spec, NULL);
        if (rc != 0) {
            die("dassie_enqueue", rc);
        }
    }
}

static void record(struct host *h)
{
    unsigned wait_ms = 2;
    h->ms[h->n++] = (double)(uv_hrtime() - h->begin) / 1e6;
    if (h->n == CALLS) {
        enqueue_all(h);
        wait_ms = 100; /* until the slots are occupied; checked at the end */
    }
    if (h->n < WHENS * CALLS) {
        uv_timer_start(&h->timer, call, wait_ms, 0);
        return;
    }
    dassie_stats(&h->q, &h->stats);
    *h->slots = h->stats.runners;
    uv_close((uv_handle_t *)&h->timer, NULL);
    dassie_close(&h->q, NULL);
}

static void on_fs(uv_fs_t *req)
{
    struct host *h = req->data;
    uv_fs_req_cleanup(req);
    record(h);
}

static void on_address(uv_getaddrinfo_t *req, int status, struct addrinfo *info)
{
    struct host *h = req->data;
    (void)status;
    uv_freeaddrinfo(info);
    record(h);
}

static void call(uv_timer_t *timer)
{
    struct host *h = timer->data;
    int rc;
    h->begin = uv_hrtime();
    if (h->n % 2 == 0) {
        h->fs.data = h;
        rc = uv_fs_stat(&h->loop, &h->fs, "/", on_fs);
    } else {
        h->address.data = h;
        rc = uv_getaddrinfo(&h->loop, &h->address, on_address, "localhost",
                            NULL, NULL);
    }
    if (rc != 0) {
        die("the host's work", rc);
    }
}

static void on_open(dassie_t *q, int status)
{
    struct host *h = q->data;
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    process_queues(q, 1, 8, work);
    uv_timer_start(&h->timer, call, 100, 0);
}

static void host_child(void *arg)
{
    struct host *h = arg;
    uv_loop_init(&h->loop);
    uv_timer_init(&h->loop, &h->timer);
    h->timer.data = h;
    h->q.data = h;
    bench_open(&h->loop, &h->q, path_of("store"), NULL, on_open);
    uv_run(&h->loop, UV_RUN_DEFAULT);
}

void host_row(const struct row *row)
{
    struct host h = {.ms = shared(WHENS * CALLS * sizeof h.ms[0]),
                     .slots = shared(sizeof *h.slots)};
    double *alone = h.ms;
    double *beside = h.ms + CALLS;
    store_remove(path_of("store"));
    in_child(host_child, &h);
    sort_doubles(alone, CALLS);
    sort_doubles(beside, CALLS);
    double ours = percentile(beside, CALLS, 99);
    double limit = percentile(alone, CALLS, 99) + (double)SLICE_NS / 1e6;
    if (*h.slots == 0 || beside[CALLS - 1] > JOB_US / 1e3) {
        die("no job occupied a slot, or the host waited for one", UV_EINVAL);
    }
    report(row, &ours, &limit, 1);
    note(
        "%u jobs of %d ms at a time; p50 %.2f ms, most %.2f ms; without jobs "
        "p50 %.2f ms, most %.2f ms",
        *h.slots, JOB_US / 1000, percentile(beside, CALLS, 50),
        beside[CALLS - 1], percentile(alone, CALLS, 50), alone[CALLS - 1]);
}
