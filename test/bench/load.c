/* load.c: the workloads, on Dassie. */
#include "config.h"

#include "bench.h"

#include <stdlib.h>
#include <string.h>

struct run {
    const struct load *load;
    dassie_t q;
    dassie_processor_t processor;
    dassie_enqueue_t *reqs;
    dassie_enqueue_t **idle; /* requests not under way, a stack */
    unsigned long idle_n;
    char *payload;
    unsigned long sent;
    unsigned long acked;
    unsigned long ended;
    double begin;
    struct figure *figure;
};

static void on_drop(dassie_t *q)
{
    (void)q;
}

static int work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

static void send_more(struct run *run);

static void over(struct run *run)
{
    if (run->acked < run->load->jobs ||
        (run->load->run && run->ended < run->load->jobs)) {
        return;
    }
    run->figure->seconds = now_s() - run->begin;
    dassie_stats(&run->q, &run->figure->stats);
    dassie_close(&run->q, on_drop);
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct run *run = req->data;
    (void)job;
    if (status != 0) {
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
    run->acked++;
    if (!run->load->run) {
        run->idle[run->idle_n++] = req;
        send_more(run);
    }
    over(run);
}

static void send_more(struct run *run)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.data = run->payload;
    spec.data_len = run->load->payload;
    while (run->sent < run->load->jobs && run->idle_n > 0) {
        dassie_enqueue_t *req = run->idle[run->idle_n - 1];
        int rc = dassie_enqueue(&run->q, req, &spec, on_ack);
        if (rc == UV_ENOBUFS) {
            return;
        }
        if (rc != 0) {
            die("dassie_enqueue", rc);
        }
        run->idle_n--;
        run->sent++;
    }
}

static void on_open(dassie_t *q, int status)
{
    struct run *run = q->data;
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    if (run->load->run) {
        dassie_process_options_t o = DASSIE_PROCESS_OPTIONS_INIT;
        o.work = work;
        o.concurrency = run->load->concurrency;
        int rc = dassie_process(q, &run->processor, &o);
        if (rc != 0) {
            die("dassie_process", rc);
        }
    }
    run->begin = now_s();
    send_more(run);
}

void load_run(const struct load *load, struct figure *figure)
{
    struct run run = {.load = load, .figure = figure};
    uv_loop_t loop;
    run.reqs = calloc(load->inflight, sizeof run.reqs[0]);
    run.idle = calloc(load->inflight, sizeof run.idle[0]);
    run.payload = malloc(load->payload + 1);
    if (run.reqs == NULL || run.idle == NULL || run.payload == NULL) {
        die("memory", UV_ENOMEM);
    }
    memset(run.payload, 'x', load->payload);
    for (unsigned long i = 0; i < load->inflight; i++) {
        run.reqs[i].data = &run;
        run.reqs[i].done_cb = load->run ? on_done : NULL;
        run.idle[run.idle_n++] = &run.reqs[i];
    }
    store_remove(load->dir);
    uv_loop_init(&loop);
    int rc = dassie_init(&loop, &run.q);
    run.q.data = &run;
    if (rc == 0) {
        rc = dassie_open(&run.q, load->dir, NULL, on_open);
    }
    if (rc != 0) {
        die("open", rc);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    free(run.reqs);
    free(run.idle);
    free(run.payload);
}
