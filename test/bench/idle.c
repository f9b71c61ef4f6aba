/* idle.c: row 12: how often threads wake up while nothing is to be done, beside
 * a bare open database, at the same time. RocksDB's own threads count on both
 * sides; what the bare one did is taken off. */
#include "config.h"

#include "bare.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_MS 3000

struct idle {
    unsigned ms;
    bool bare;
    bool scheduled;         /* jobs wait for a time far ahead */
    unsigned long *wakeups; /* shared: all threads, while idle */
    unsigned long before;
    uv_loop_t loop;
    uv_timer_t timer;
    dassie_t q;
};

static struct idle *idle; /* the one of this process */

static int work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

/* Context switches of one thread. */
static unsigned long switches_of(const char *tid)
{
    char path[300];
    char line[256];
    unsigned long n = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", tid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *at = strstr(line, "voluntary_ctxt_switches:");
        if (at != NULL && at == line) {
            n = strtoul(strchr(line, ':') + 1, NULL, 10);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return n;
}

static unsigned long switches(void)
{
    unsigned long n = 0;
    struct dirent *entry;
    DIR *d = opendir("/proc/self/task");
    while (d != NULL && (entry = readdir(d)) != NULL) {
        n += entry->d_name[0] != '.' ? switches_of(entry->d_name) : 0;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

static void on_end(uv_timer_t *timer)
{
    *idle->wakeups = switches() - idle->before;
    uv_close((uv_handle_t *)timer, NULL);
    if (!idle->bare) {
        dassie_close(&idle->q, NULL);
    }
}

static void on_settled(uv_timer_t *timer)
{
    idle->before = switches();
    uv_timer_start(timer, on_end, idle->ms, 0);
}

static void settle(void)
{
    uv_timer_start(&idle->timer, on_settled, SETTLE_MS, 0);
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    if (status != 0) {
        die("done", status);
    }
    settle();
}

static void enqueue(dassie_t *q, dassie_enqueue_t *req, uint64_t delay_ms)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.delay_ms = delay_ms;
    int rc = dassie_enqueue(q, req, &spec, NULL);
    if (rc != 0) {
        die("dassie_enqueue", rc);
    }
}

/* A job has run, then nothing more is to be done. */
static void on_open(dassie_t *q, int status)
{
    static dassie_enqueue_t req = {.done_cb = on_done};
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    process_queues(q, 1, 3, work);
    for (int i = 0; idle->scheduled && i < 1000; i++) {
        enqueue(q, NULL, UINT64_C(86400000) * 365);
    }
    enqueue(q, &req, 0);
}

static void idle_child(void *arg)
{
    struct bare b;
    idle = arg;
    uv_loop_init(&idle->loop);
    uv_timer_init(&idle->loop, &idle->timer);
    if (idle->bare) {
        bare_create(&b, path_of("limit"), path_of("model"));
        settle();
    } else {
        bench_open(&idle->loop, &idle->q, path_of("store"), NULL, on_open);
    }
    uv_run(&idle->loop, UV_RUN_DEFAULT);
    if (idle->bare) {
        bare_close(&b);
    }
}

void idle_row(const struct row *row)
{
    unsigned seconds = 6 * (unsigned)bench.scale;
    unsigned long *n = shared(2 * sizeof *n);
    struct idle ours = {
        .ms = 1000 * seconds, .wakeups = &n[0], .scheduled = row->arg != 0};
    struct idle limit = {.ms = 1000 * seconds, .wakeups = &n[1], .bare = true};
    store_remove(path_of("store"));
    int bare = child_start(idle_child, &limit);
    in_child(idle_child, &ours);
    child_end(bare);
    double a = n[0] > n[1] ? (double)(n[0] - n[1]) : 0;
    double b = row->arg != 0 ? ceil(seconds / 30.0) : 0;
    report(row, &a, &b, 1);
    note(
        "in %u s all threads woke up %lu times, those of a bare open "
        "database %lu times",
        seconds, n[0], n[1]);
}
