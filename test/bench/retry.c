/* retry.c: row 10: 100,000 jobs that fail for ever, and the bytes on disk
 * after each hundred thousand attempts: they must not grow without end. */
#include "config.h"

#include "bench.h"

#include <stdatomic.h>
#include <stdlib.h>

#define JOBS 100000 /* at the stated sizes */
#define ROUNDS 20
#define PAYLOAD 128

/* Memtables, log and tables may hold this much besides the jobs themselves: a
 * full log (128 MiB), and twice the budget's memtables on their way down. */
#define BESIDE_BYTES (192.0 * 1048576)

struct retry {
    unsigned long jobs;
    double *bytes; /* shared: after each round */
    uv_loop_t loop;
    uv_timer_t timer;
    dassie_t q;
    unsigned rounds;
};

static struct retry *retry; /* the one of this process */
static atomic_ulong attempts;

static int work(dassie_job_t *job)
{
    atomic_fetch_add(&attempts, 1);
    return dassie_job_retry_in(job, 1) == 0 ? UV_EAGAIN : UV_EINVAL;
}

/* Looks every now and then how many attempts there were. */
static void on_timer(uv_timer_t *timer)
{
    if (atomic_load(&attempts) < (retry->rounds + 1) * retry->jobs) {
        return;
    }
    retry->bytes[retry->rounds++] = (double)bytes_on_disk(path_of("store"));
    if (retry->rounds == ROUNDS) {
        uv_close((uv_handle_t *)timer, NULL);
        dassie_close(&retry->q, NULL);
    }
}

static void on_open(dassie_t *q, int status)
{
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    process_queues(q, 1, 3, work);
    for (unsigned long i = 0; i < retry->jobs; i++) {
        dassie_spec_t spec = DASSIE_SPEC_INIT;
        spec.data = payload_of(i, PAYLOAD);
        spec.data_len = PAYLOAD;
        spec.attempts_max = DASSIE_ATTEMPTS_MAX;
        int rc = dassie_enqueue(q, NULL, &spec, NULL);
        if (rc != 0) {
            die("dassie_enqueue", rc);
        }
    }
    uv_timer_start(&retry->timer, on_timer, 10, 10);
}

static void retry_child(void *arg)
{
    dassie_options_t o = DASSIE_OPTIONS_INIT;
    retry = arg;
    o.inbox_jobs_max = JOBS + 1;
    uv_loop_init(&retry->loop);
    uv_timer_init(&retry->loop, &retry->timer);
    bench_open(&retry->loop, &retry->q, path_of("store"), &o, on_open);
    uv_run(&retry->loop, UV_RUN_DEFAULT);
}

void retry_row(const struct row *row)
{
    struct retry r = {.jobs = JOBS / 10 * bench.scale,
                      .bytes = shared(ROUNDS * sizeof r.bytes[0])};
    store_remove(path_of("store"));
    in_child(retry_child, &r);
    double half = 0;
    double rest = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double *most = i < ROUNDS / 2 ? &half : &rest;
        *most = r.bytes[i] > *most ? r.bytes[i] : *most;
    }
    double jobs = (double)r.jobs;
    double ours = (half > rest ? half : rest) / jobs;
    double limit = PAYLOAD + BESIDE_BYTES / jobs;
    report(row, &ours, &limit, 1);
    note(
        "%lu jobs, %d attempts each: at most %.1f MB in the first half, "
        "%.1f MB in the second",
        r.jobs, ROUNDS, half / 1e6, rest / 1e6);
}
