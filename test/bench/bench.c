/* bench.c: Dassie beside the bare machine; see bench.h.
 *
 *   bench [--csv] [--full] [--dir=DIR] [NAME...]   the table, or rows of it
 *   bench --rows                         what is required of each row
 *   bench enq DIR N PAYLOAD INFLIGHT     durable enqueue
 *   bench e2e DIR N PAYLOAD CONCURRENCY  enqueue N and run them off-thread
 *   bench deq DIR BACKLOG PAYLOAD SAMPLE run SAMPLE jobs of a backlog
 *   bench idle DIR N                     enqueue to start, when all is idle
 */
#include "config.h"

#include "bare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct row rows[] = {
    {"enqueue_inflight", "durable enqueue, 20,000 in flight", "jobs/s", 0.85,
     false, rate_row, 0},
    {"e2e", "enqueue, run off-thread, complete, all durable", "jobs/s", 0.80,
     false, rate_row, 1},
    {"drain", "a backlog on disk, run to its end", "jobs/s", 0.75, false,
     drain_row, 0},
    {"latency_enqueue", "durable enqueue, one at a time, p50", "us", 1.25, true,
     latency_row, 0},
    {"latency_start_full", "enqueue to start when idle, durable, p50", "us",
     1.30, true, start_row, DASSIE_FULL},
    {"latency_start_off", "enqueue to start when idle, not synced, p50", "us",
     1.30, true, start_row, DASSIE_OFF},
    {"queues_1", "as e2e, with priorities and delays, 1 queue", "jobs/s", 0.80,
     false, queues_row, 1},
    {"queues_100", "100 queues", "jobs/s", 0.80, false, queues_row, 100},
    {"queues_10000", "10,000 queues", "jobs/s", 0.80, false, queues_row, 10000},
    {"payload_4096", "payloads of 4 KiB, run and kept", "MB/s", 0.85, false,
     payload_row, 4096},
    {"payload_65536", "payloads of 64 KiB", "MB/s", 0.85, false, payload_row,
     65536},
    {"payload_1048576", "payloads of 1 MiB", "MB/s", 0.85, false, payload_row,
     1048576},
    {"get", "e2e under 1,000 look-ups a second; the limit: without", "jobs/s",
     0.90, false, get_row, 0},
    {"get_cold", "get by id, one at a time, nothing cached, p50", "us", 0,
     false, get_single_row, 0},
    {"get_warm", "the same ids again, p50", "us", 0, false, get_single_row, 1},
    {"rss", "resident memory with a backlog, and drained", "MB", 1, true,
     memory_row, 0},
    {"disk", "bytes on disk of a pending job of 128 bytes, compacted", "bytes",
     1, true, disk_row, 0},
    {"disk_retry", "bytes on disk a job, 100,000 that are retried for ever",
     "bytes", 1, true, retry_row, 0},
    {"reopen", "open after kill -9 with a backlog", "ms", 1.5, true, reopen_row,
     0},
    {"idle", "wake-ups of our threads with processors only", "wake-ups", 0,
     true, idle_row, 0},
    {"idle_scheduled", "the same with jobs scheduled far ahead", "wake-ups", 1,
     true, idle_row, 1},
    {"loop", "calls and dispatch on the loop's thread, CPU p99.9", "us", 1,
     true, loop_row, 0},
    {"loop_switches", "voluntary context switches in them", "switches", 0, true,
     NULL, 0}, /* printed by loop_row */
    {"host", "the host's own uv_fs and uv_getaddrinfo beside long jobs, p99",
     "ms", 1, true, host_row, 0},
    {"retention", "enqueue_inflight beside a sweep; the limit: without",
     "jobs/s", 0.90, false, retention_row, 0},
    {"retention_latency", "durable enqueue beside it, one at a time, mean",
     "us", 1.25, true, retention_row, 1},
};

static void check_names(int n, char **names)
{
    for (int i = 0; i < n; i++) {
        size_t at = 0;
        while (at < sizeof rows / sizeof rows[0] &&
               strcmp(rows[at].name, names[i]) != 0) {
            at++;
        }
        if (at == sizeof rows / sizeof rows[0]) {
            die(names[i], UV_EINVAL);
        }
    }
}

/* What a script needs to know of each row beside its figures. */
static int list(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        char required[32] = "-";
        if (row->wanted > 0 || row->most) {
            snprintf(required, sizeof required, "%s %.2f",
                     row->most ? "at most" : "at least", row->wanted);
        }
        printf("%s,%s,%s\n", row->name, required, row->what);
    }
    return 0;
}

static bool is_wanted(const char *name, int n, char **names)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return n == 0;
}

static int table(int argc, char **argv)
{
    const char *parent = ".";
    int from = 1;
    for (; from < argc && argv[from][0] == '-'; from++) {
        bench.csv |= strcmp(argv[from], "--csv") == 0;
        bench.scale = strcmp(argv[from], "--full") == 0 ? 10 : bench.scale;
        if (strncmp(argv[from], "--dir=", 6) == 0) {
            parent = argv[from] + 6;
        }
    }
    check_names(argc - from, argv + from);
    snprintf(bench.dir, sizeof bench.dir, "%s/bench.XXXXXX", parent);
    if (mkdtemp(bench.dir) == NULL) {
        die(bench.dir, UV_EIO);
    }
    bare_model(path_of("model"));
    report_head();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].run != NULL &&
            is_wanted(rows[i].name, argc - from, argv + from)) {
            rows[i].run(&rows[i]);
        }
    }
    store_remove(bench.dir);
    return 0;
}

static const struct {
    const char *name;
    int argc;
    int (*run)(char **argv);
} ones[] = {
    {"enq", 6, rate_one},
    {"e2e", 6, rate_one},
    {"deq", 6, drain_one},
    {"idle", 4, start_one},
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--rows") == 0) {
        return list();
    }
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) {
        if (argc > 1 && strcmp(argv[1], ones[i].name) == 0 &&
            argc == ones[i].argc) {
            return ones[i].run(argv);
        }
    }
    return table(argc, argv);
}
