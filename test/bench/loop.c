/* loop.c: row 13: what Dassie takes of its loop's thread while jobs run, and
 * while the disk stands still.
 *
 * The loop never waits in poll here: it is turned by hand, so that a whole turn
 * can be measured, with all that Dassie and libuv's pool have to deliver. Each
 * turn in which something was delivered, and each call, is one sample: CPU time
 * of the thread, and its voluntary context switches, of which there may be
 * none. Those within libuv's own uv_queue_work(), which locks the pool and
 * wakes it up, are counted apart: the bench's stands before libuv's. */
#include "config.h"

#include "bench.h"
#include "freeze.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT 20000
#define CALLS 64 /* enqueues between two turns */
#define FREEZE_MS 2000
#define SAMPLES_MAX 20000000
#define SLOTS 3
#define ALLOWED_US 200

enum phase { RUNNING, FROZEN, PHASES };
enum kind { TURN, ENQUEUE, LOOK, OTHER, KINDS };

struct tally {
    unsigned long samples;
    unsigned long switches[KINDS];
    unsigned long libuvs; /* in uv_queue_work() */
    double p50;
    double p999;
    double most;
};

struct loop {
    struct tally *tally; /* shared: one a phase */
    bool *real;          /* shared: a file system was frozen */
    uint64_t *acked_frozen;
    float *us;
    size_t n;
    uint64_t cpu_ns;
    long switches;
    long libuvs; /* switches within uv_queue_work() */
    uv_loop_t loop;
    dassie_t q;
    dassie_enqueue_t *reqs;
    dassie_enqueue_t **idle;
    unsigned idle_n;
    unsigned looks; /* look-ups under way */
    dassie_get_t get;
    dassie_counts_t counts;
    dassie_list_t list;
    uint64_t delivered;
    uint64_t acked;
    bool open;
    bool closing;
    bool closed;
};

static struct loop *l; /* the one of this process */

/* ---- Samples ---- */

static long switches_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *req, uv_work_cb work_cb,
                  uv_after_work_cb after_cb)
{
    static int (*libuvs)(uv_loop_t *, uv_work_t *, uv_work_cb,
                         uv_after_work_cb);
    long before = switches_now();
    if (libuvs == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "uv_queue_work");
        memcpy(&libuvs, &symbol, sizeof libuvs);
    }
    int rc = libuvs(loop, req, work_cb, after_cb);
    if (l != NULL) {
        l->libuvs += switches_now() - before;
    }
    return rc;
}

static void begin(void)
{
    struct timespec now;
    l->libuvs = 0;
    l->switches = switches_now();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    l->cpu_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void end(struct tally *tally, enum kind kind)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    uint64_t cpu_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    long switches = switches_now() - l->switches;
    tally->switches[kind] += (unsigned long)(switches - l->libuvs);
    tally->libuvs += (unsigned long)l->libuvs;
    if (l->n < SAMPLES_MAX) {
        l->us[l->n++] = (float)(cpu_ns - l->cpu_ns) / 1e3f;
    }
}

static int float_cmp(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

static void sum_up(struct tally *tally)
{
    qsort(l->us, l->n, sizeof l->us[0], float_cmp);
    tally->samples = l->n;
    tally->p50 = l->us[l->n / 2];
    tally->p999 = l->us[l->n * 999 / 1000];
    tally->most = l->us[l->n - 1];
    l->n = 0;
}

/* ---- Callbacks ---- */

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    l->open = true;
}

static void on_closed(dassie_t *q)
{
    (void)q;
    l->closed = true;
}

static int work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    (void)req;
    if (status != 0) {
        die("enqueue", status);
    }
    l->delivered++;
    l->acked++;
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)job;
    if (status != 0 && !(l->closing && status == UV_ECANCELED)) {
        die("done", status);
    }
    l->delivered++;
    l->idle[l->idle_n++] = req;
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    l->delivered++;
    l->looks -= status == 0 || status == UV_ENOENT;
}

static void on_counts(dassie_counts_t *req, int status, const dassie_count_t *c)
{
    (void)req;
    (void)c;
    l->delivered++;
    l->looks -= status == 0;
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)jobs;
    (void)n;
    memset(req->cursor, 0, sizeof req->cursor);
    l->delivered++;
    l->looks -= status == 0;
}

/* ---- Turns ---- */

static void turn(struct tally *tally)
{
    uint64_t before = l->delivered;
    size_t n = l->n;
    begin();
    uv_run(&l->loop, UV_RUN_NOWAIT);
    end(tally, TURN);
    if (l->delivered == before) {
        l->n = n; /* nothing was delivered: no sample */
    }
}

static void expect(int rc, const char *what)
{
    if (rc != 0) {
        die(what, rc);
    }
}

static void call_enqueue(struct tally *tally)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    for (int i = 0; i < CALLS && l->idle_n > 0; i++) {
        dassie_enqueue_t *req = l->idle[--l->idle_n];
        spec.data = payload_of(l->acked, 128);
        spec.data_len = 128;
        begin();
        int rc = dassie_enqueue(&l->q, req, &spec, on_ack);
        end(tally, ENQUEUE);
        expect(rc, "dassie_enqueue");
    }
}

static void call_others(struct tally *tally)
{
    dassie_stats_t stats;
    begin();
    int rc = dassie_stats(&l->q, &stats);
    end(tally, OTHER);
    expect(rc, "dassie_stats");
    if (l->looks > 0) {
        return;
    }
    l->looks = 3;
    begin();
    rc = dassie_get(&l->q, &l->get, 1 + l->acked / 2, on_get);
    end(tally, LOOK);
    expect(rc, "dassie_get");
    begin();
    rc = dassie_counts(&l->q, &l->counts, NULL, 0, on_counts);
    end(tally, LOOK);
    expect(rc, "dassie_counts");
    begin();
    rc = dassie_list(&l->q, &l->list, NULL, on_list);
    end(tally, LOOK);
    expect(rc, "dassie_list");
}

static void turns(struct tally *tally, unsigned ms)
{
    uint64_t until = uv_hrtime() + (uint64_t)ms * 1000000;
    while (uv_hrtime() < until) {
        turn(tally);
        call_enqueue(tally);
        call_others(tally);
    }
    sum_up(tally);
}

static void loop_prepare(const char *dir)
{
    char store[1100];
    snprintf(store, sizeof store, "%s/store", dir);
    l->us = malloc(SAMPLES_MAX * sizeof l->us[0]);
    l->reqs = calloc(IN_FLIGHT, sizeof l->reqs[0]);
    l->idle = calloc(IN_FLIGHT, sizeof l->idle[0]);
    if (l->us == NULL || l->reqs == NULL || l->idle == NULL) {
        die("memory", UV_ENOMEM);
    }
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        l->reqs[i].done_cb = on_done;
        l->idle[l->idle_n++] = &l->reqs[i];
    }
    payload_of(0, 128);
    uv_loop_init(&l->loop);
    bench_open(&l->loop, &l->q, store, NULL, on_open);
    while (!l->open) {
        uv_run(&l->loop, UV_RUN_ONCE);
    }
    process_queues(&l->q, 1, SLOTS, work);
}

static void loop_child(void *arg)
{
    struct tally warm = {0};
    l = arg;
    *l->real = freeze_prepare(path_of("frozen"));
    loop_prepare(path_of("frozen"));
    turns(&warm, 500);
    turns(&l->tally[RUNNING], 1000 * (unsigned)bench.scale);
    freeze_begin(FREEZE_MS);
    uint64_t acked = l->acked;
    turns(&l->tally[FROZEN], FREEZE_MS * 9 / 10);
    *l->acked_frozen = l->acked - acked;
    freeze_end();
    l->closing = true;
    expect(dassie_close(&l->q, on_closed), "dassie_close");
    while (!l->closed) {
        uv_run(&l->loop, UV_RUN_ONCE);
    }
}

static unsigned long switches_of(const struct tally *tally)
{
    unsigned long n = 0;
    for (int i = 0; i < KINDS; i++) {
        n += tally->switches[i];
    }
    return n;
}

static void note_phase(const char *name, const struct tally *t)
{
    note(
        "%s: %lu samples, CPU p50 %.1f us, p99.9 %.1f us, most %.0f us; "
        "voluntary switches: %lu in turns, %lu in enqueues, %lu in look-ups, "
        "%lu in dassie_stats(); %lu more in uv_queue_work()",
        name, t->samples, t->p50, t->p999, t->most, t->switches[TURN],
        t->switches[ENQUEUE], t->switches[LOOK], t->switches[OTHER], t->libuvs);
}

/* Prints the next row, too. */
void loop_row(const struct row *row)
{
    struct loop loop = {.tally = shared(PHASES * sizeof(struct tally)),
                        .real = shared(sizeof(bool)),
                        .acked_frozen = shared(sizeof(uint64_t))};
    in_child(loop_child, &loop);
    const struct tally *t = loop.tally;
    double p999 =
        t[RUNNING].p999 > t[FROZEN].p999 ? t[RUNNING].p999 : t[FROZEN].p999;
    double limit = ALLOWED_US;
    double switches =
        (double)(switches_of(&t[RUNNING]) + switches_of(&t[FROZEN]));
    double none = 0;
    report(row, &p999, &limit, 1);
    note_phase("running", &t[RUNNING]);
    note_phase("frozen", &t[FROZEN]);
    note("%s was frozen; %llu jobs were acknowledged meanwhile",
         *loop.real ? "a file system" : "fdatasync()",
         (unsigned long long)*loop.acked_frozen);
    report(row + 1, &switches, &none, 1);
}
