/* demo.c: jobs that take a while, on several processors, and a queue that goes
 * on where it was stopped.
 *
 *     demo [-d DIR] enqueue [N]                   puts N jobs (50)
 *     demo [-d DIR] [-n PROCESSORS] [-t MS]       runs them
 *
 * Ctrl-C stops after the jobs under way, "kill -9" at once. Start it again to
 * go on: what was under way at a kill runs a second time, nothing is lost.
 *
 * Exit status: 0 all is done, 1 an error, 2 wrong usage, 130 Ctrl-C. */
#include <dassie.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSORS_MAX 64
#define JOB_MS_MAX 3600000
#define NAME_BYTES 24

static const char *dir = "demo.db";
static long processors_n = 4;
static long job_ms = 200;
static long enqueue_n; /* 0: run jobs instead */

static dassie_t queue;
static dassie_processor_t processors[PROCESSORS_MAX];
static dassie_enqueue_many_t batch;
static dassie_drain_t drain;
static dassie_counts_t counts;
static uv_signal_t on_interrupt;
static int exit_code;

static atomic_uint runs; /* these two are counted on the pool's threads */
static atomic_uint repeats;

/* Lets the program end, the first time it is called. */
static void finish(int code, dassie_close_cb cb)
{
    if (dassie_close(&queue, cb) != 0)
        return;
    exit_code = code;
    uv_close((uv_handle_t *)&on_interrupt, NULL);
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "demo: %s: %s\n", what, why);
    finish(1, NULL);
}

/* ---- Enqueue ------------------------------------------------------------ */

static void batch_done(dassie_enqueue_many_t *req, int status)
{
    if (status != 0) {
        fail("enqueue", dassie_strerror(status));
        return;
    }
    printf("enqueued %llu jobs\n", (unsigned long long)req->count);
    finish(0, NULL);
}

static int batch_enqueue(size_t n)
{
    dassie_spec_t *specs = calloc(n, sizeof *specs);
    char(*names)[NAME_BYTES] = calloc(n, sizeof *names);
    int rv = UV_ENOMEM;

    if (specs != NULL && names != NULL) {
        for (size_t i = 0; i < n; i++) {
            specs[i] = (dassie_spec_t)DASSIE_SPEC_INIT;
            snprintf(names[i], sizeof names[i], "job %zu", i + 1);
            specs[i].name = names[i];
        }
        rv = dassie_enqueue_many(&queue, &batch, specs, n, batch_done);
    }
    free(specs);
    free(names);
    return rv;
}

/* ---- Run ---------------------------------------------------------------- */

/* Runs on a thread of the pool. */
static int work(dassie_job_t *job)
{
    unsigned long long id = dassie_job_id(job);
    const char *name = dassie_job_name(job, NULL);
    unsigned attempt = dassie_job_attempt(job);

    atomic_fetch_add(&runs, 1);
    if (attempt > 1)
        atomic_fetch_add(&repeats, 1);
    printf("start %llu (%s), run %u\n", id, name, attempt);
    uv_sleep((unsigned)job_ms);
    printf("end %llu (%s), run %u\n", id, name, attempt);
    return 0;
}

static void print_runs(const char *what)
{
    printf("%s: %u runs here, %u of them repeated\n", what, atomic_load(&runs),
           atomic_load(&repeats));
}

static void print_counts(dassie_counts_t *req, int status,
                         const dassie_count_t *count)
{
    (void)req;
    if (status == UV_ECANCELED)
        return; /* Ctrl-C */
    if (status != 0) {
        fail("counts", dassie_strerror(status));
        return;
    }
    print_runs("all done");
    printf("in the store: %llu complete, %llu failed\n",
           (unsigned long long)count->complete,
           (unsigned long long)count->failed);
    finish(0, NULL);
}

static void drained(dassie_drain_t *req, int status)
{
    (void)req;
    if (status == UV_ECANCELED)
        return; /* Ctrl-C */
    if (status == 0)
        status = dassie_counts(&queue, &counts, NULL, 0, print_counts);
    if (status != 0)
        fail("drain", dassie_strerror(status));
}

static void stopped(dassie_t *q)
{
    (void)q;
    print_runs("stopped, start again to go on");
}

/* One Ctrl-C waits for the jobs under way, as closing does. The next one kills
 * the program, which the queue survives. */
static void interrupt(uv_signal_t *handle, int signum)
{
    (void)handle;
    (void)signum;
    finish(130, stopped);
}

static int run_jobs(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    int rv = 0;

    options.work = work;
    for (long i = 0; i < processors_n && rv == 0; i++)
        rv = dassie_process(&queue, &processors[i], &options);
    if (rv == 0)
        rv = uv_signal_start_oneshot(&on_interrupt, interrupt, SIGINT);
    if (rv == 0)
        rv = dassie_drain(&queue, &drain, NULL, 0, drained);
    return rv;
}

static void opened(dassie_t *q, int status)
{
    int rv;

    if (status != 0) {
        fail(dir, dassie_errmsg(q));
        return;
    }
    rv = enqueue_n > 0 ? batch_enqueue((size_t)enqueue_n) : run_jobs();
    if (rv != 0)
        fail(enqueue_n > 0 ? "enqueue" : "run", dassie_strerror(rv));
}

/* ---- Start -------------------------------------------------------------- */

static long number(const char *text, long max)
{
    char *end;
    long n = strtol(text, &end, 10);

    return end == text || *end != '\0' || n < 1 || n > max ? -1 : n;
}

/* Returns -1 for arguments that it does not understand. */
static int parse(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "d:n:t:")) != -1) {
        if (c == 'd')
            dir = optarg;
        else if (c == 'n')
            processors_n = number(optarg, PROCESSORS_MAX);
        else if (c == 't')
            job_ms = number(optarg, JOB_MS_MAX);
        else
            return -1;
    }
    if (optind < argc && strcmp(argv[optind], "enqueue") == 0) {
        enqueue_n = 50;
        if (++optind < argc)
            enqueue_n = number(argv[optind++], DASSIE_BATCH_JOBS_MAX);
    }
    if (optind < argc || processors_n < 0 || job_ms < 0 || enqueue_n < 0)
        return -1;
    return 0;
}

/* Each processor needs a thread of libuv's pool, and Dassie leaves one to the
 * rest of the program. Has to happen before the pool's first use. */
static int pool_size(long threads)
{
    char text[24];

    snprintf(text, sizeof text, "%ld", threads);
    return uv_os_setenv("UV_THREADPOOL_SIZE", text);
}

int main(int argc, char **argv)
{
    uv_loop_t *loop = uv_default_loop();
    int rv;

    if (parse(argc, argv) != 0) {
        fprintf(stderr,
                "usage: demo [-d DIR] enqueue [N]\n"
                "       demo [-d DIR] [-n PROCESSORS] [-t MS]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also to a file */
    if ((rv = pool_size(processors_n + 1)) != 0 ||
        (rv = uv_signal_init(loop, &on_interrupt)) != 0 ||
        (rv = dassie_init(loop, &queue)) != 0 ||
        (rv = dassie_open(&queue, dir, NULL, opened)) != 0) {
        fprintf(stderr, "demo: %s: %s\n", dir, dassie_strerror(rv));
        return 1;
    }
    uv_run(loop, UV_RUN_DEFAULT);
    return exit_code;
}
