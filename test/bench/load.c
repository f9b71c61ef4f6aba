/* load.c: enqueue and run, on Dassie; see bench.h.
 *
 * One loop keeps so many requests under way. A request goes again as soon as
 * its job is acknowledged, or has ended where jobs are run as well. */
#include "config.h"

#include "bench.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
    const struct load *load;
    struct figure *figure;
    const char *dir;
    dassie_t q;
    dassie_enqueue_t *reqs;
    dassie_enqueue_t **idle; /* requests not under way, a stack */
    unsigned long idle_n;
    unsigned long sent;
    unsigned long acked;
    unsigned long ended;
    double begin;
    uv_timer_t lookups;
    unsigned long looked;
    uint64_t *ids; /* of jobs acknowledged, where there are look-ups */
};

static atomic_uint_fast64_t first_start; /* ns; 0: none yet */

unsigned load_queue(const struct load *load, unsigned long job)
{
    return (unsigned)(job % load->queues);
}

int load_priority(const struct load *load, unsigned long job)
{
    return load->priorities ? (int)(job / load->queues % 3) - 1 : 0;
}

uint64_t load_delay_ms(const struct load *load, unsigned long job)
{
    return load->delays && job % LOAD_DELAYED_EACH == 0 ? LOAD_DELAY_MS : 0;
}

void bench_open(uv_loop_t *loop, dassie_t *q, const char *dir,
                const dassie_options_t *o, dassie_open_cb cb)
{
    int rc = dassie_init(loop, q);
    if (rc == 0) {
        rc = dassie_open(q, dir, o, cb);
    }
    if (rc != 0) {
        die(dir, rc);
    }
}

void process_queues(dassie_t *q, unsigned queues, unsigned concurrency,
                    dassie_work_cb work)
{
    dassie_process_options_t o = DASSIE_PROCESS_OPTIONS_INIT;
    uv_buf_t *bufs = calloc(queues, sizeof *bufs);
    char(*names)[16] = calloc(queues, sizeof *names);
    o.work = work;
    o.concurrency = concurrency;
    for (unsigned i = 0; i < queues && queues > 1; i++) {
        int n = snprintf(names[i], sizeof names[i], "q%u", i);
        bufs[i] = uv_buf_init(names[i], (unsigned)n);
    }
    for (unsigned i = 0; i < queues; i += DASSIE_PROCESSOR_QUEUES_MAX) {
        dassie_processor_t *p = calloc(1, sizeof *p);
        if (queues > 1) {
            o.queues = bufs + i;
            o.queues_n = queues - i < DASSIE_PROCESSOR_QUEUES_MAX
                             ? queues - i
                             : DASSIE_PROCESSOR_QUEUES_MAX;
        }
        int rc = dassie_process(q, p, &o);
        if (rc != 0) {
            die("dassie_process", rc);
        }
    }
    free(bufs);
    free(names);
}

static int work(dassie_job_t *job)
{
    (void)job;
    if (atomic_load_explicit(&first_start, memory_order_relaxed) == 0) {
        atomic_store(&first_start, uv_hrtime());
    }
    return 0;
}

static void send_more(struct run *run);

static void on_counts(dassie_counts_t *req, int status, const dassie_count_t *c)
{
    (void)c;
    if (status != 0) {
        die("dassie_counts", status);
    }
    dassie_stats(req->q, req->data);
    dassie_close(req->q, NULL);
}

void bench_close(dassie_t *q, dassie_stats_t *stats)
{
    static dassie_counts_t req;
    req.data = stats;
    int rc = dassie_counts(q, &req, NULL, 0, on_counts);
    if (rc != 0) {
        die("dassie_counts", rc);
    }
}

static void over(struct run *run)
{
    if (run->acked < run->load->jobs ||
        (run->load->run && run->ended < run->load->jobs)) {
        return;
    }
    double now = now_s();
    if (run->load->kill) {
        kill(getpid(), SIGKILL);
    }
    run->figure->seconds = now - run->begin;
    run->figure->process_seconds =
        now - (double)atomic_load(&first_start) / 1e9;
    run->figure->busy_seconds = busiest_thread_s();
    run->figure->memory = memory_bytes("VmRSS");
    uv_close((uv_handle_t *)&run->lookups, NULL);
    bench_close(&run->q, &run->figure->stats);
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct run *run = req->data;
    if (status != 0 || job->state != DASSIE_COMPLETE) {
        die("done", status);
    }
    run->ended++;
    run->idle[run->idle_n++] = req;
    send_more(run);
    over(run);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct run *run = req->data;
    if (status != 0) {
        die("enqueue", status);
    }
    if (run->ids != NULL) {
        run->ids[run->acked] = req->id;
    }
    run->acked++;
    if (!run->load->run) {
        run->idle[run->idle_n++] = req;
        send_more(run);
        over(run);
    }
}

static void on_pressure(dassie_t *q, int full)
{
    if (!full) {
        send_more(q->data);
    }
}

static void send_more(struct run *run)
{
    const struct load *load = run->load;
    char name[16];
    while (run->sent < load->jobs && run->idle_n > 0) {
        dassie_enqueue_t *req = run->idle[run->idle_n - 1];
        dassie_spec_t spec = DASSIE_SPEC_INIT;
        spec.data = payload_of(run->sent, load->payload);
        spec.data_len = load->payload;
        spec.priority = load_priority(load, run->sent);
        spec.delay_ms = load_delay_ms(load, run->sent);
        if (load->queues > 1) {
            snprintf(name, sizeof name, "q%u", load_queue(load, run->sent));
            spec.queue = name;
        }
        int rc = dassie_enqueue(&run->q, req, &spec, on_ack);
        if (rc == UV_ENOBUFS) {
            return; /* on_pressure() goes on */
        }
        if (rc != 0) {
            die("dassie_enqueue", rc);
        }
        run->idle_n--;
        run->sent++;
    }
}

/* ---- Look-ups beside it ---- */

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)job;
    if (status != 0) {
        die("dassie_get", status);
    }
    free(req);
}

static void on_lookups(uv_timer_t *timer)
{
    struct run *run = timer->data;
    double due = (now_s() - run->begin) * run->load->lookups;
    while ((double)run->looked < due && run->acked > 0) {
        dassie_get_t *req = calloc(1, sizeof *req);
        uint64_t id = run->ids[run->looked++ * 7919 % run->acked];
        int rc = dassie_get(&run->q, req, id, on_get);
        if (rc != 0) {
            die("dassie_get", rc);
        }
    }
}

/* ---- One run ---- */

static void start(dassie_t *q)
{
    struct run *run = q->data;
    if (run->load->run) {
        process_queues(q, run->load->queues, run->load->concurrency, work);
    }
    run->begin = now_s();
    if (run->load->lookups > 0) {
        uv_timer_start(&run->lookups, on_lookups, 1, 1);
    }
    send_more(run);
}

/* The last queue is configured: the clock may run. */
static void on_configured(dassie_configure_t *req, int status,
                          const dassie_settings_t *settings)
{
    static unsigned configured;
    struct run *run = req->q->data;
    (void)settings;
    if (status != 0) {
        die("dassie_configure", status);
    }
    if (++configured == run->load->queues) {
        start(req->q);
    }
}

/* What has ended is kept, or only so much of it. */
static void on_open(dassie_t *q, int status)
{
    struct run *run = q->data;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    uint64_t jobs = run->load->keep_jobs;
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.ms = DASSIE_KEEP_ALL;
    settings.keep_complete.jobs = jobs > 0 ? jobs : DASSIE_KEEP_ALL;
    settings.keep_complete.bytes = DASSIE_KEEP_ALL;
    dassie_configure_t *reqs = calloc(run->load->queues, sizeof *reqs);
    for (unsigned i = 0; i < run->load->queues; i++) {
        char name[16];
        snprintf(name, sizeof name, "q%u", i);
        int rc =
            dassie_configure(q, &reqs[i], run->load->queues > 1 ? name : NULL,
                             0, &settings, on_configured);
        if (rc != 0) {
            die("dassie_configure", rc);
        }
    }
}

static void run_child(void *arg)
{
    struct run *run = arg;
    const struct load *load = run->load;
    dassie_options_t o = DASSIE_OPTIONS_INIT;
    uv_loop_t loop;
    run->reqs = calloc(load->inflight, sizeof run->reqs[0]);
    run->idle = calloc(load->inflight, sizeof run->idle[0]);
    if (load->lookups > 0) {
        run->ids = calloc(load->jobs, sizeof run->ids[0]);
    }
    if (run->reqs == NULL || run->idle == NULL) {
        die("memory", UV_ENOMEM);
    }
    for (unsigned long i = 0; i < load->inflight; i++) {
        run->reqs[i].data = run;
        run->reqs[i].done_cb = load->run ? on_done : NULL;
        run->idle[run->idle_n++] = &run->reqs[i];
    }
    payload_of(0, load->payload);
    o.pressure_cb = on_pressure;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &run->lookups);
    run->lookups.data = run;
    run->q.data = run;
    bench_open(&loop, &run->q, run->dir, &o, on_open);
    uv_run(&loop, UV_RUN_DEFAULT);
}

void load_run(const struct load *load, const char *dir, struct figure *figure)
{
    struct run run = {.load = load, .figure = figure, .dir = dir};
    if (!load->again) {
        store_remove(dir);
    }
    if (!load->kill) {
        in_child(run_child, &run);
        return;
    }
    int status = child_status(child_start(run_child, &run));
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        die("the child was to be killed", UV_EINVAL);
    }
}
