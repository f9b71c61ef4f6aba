/* bench.h: what the parts of the benchmark share.
 *
 * Every figure is printed beside its limit: the same work done by a bare loop,
 * on RocksDB's C API, on libuv or on fdatasync(). The two are run in turn, each
 * in a process of its own, so that the machine's mood hits both and neither
 * inherits the other's memory; the median of the ratios counts. A limit that
 * has not written what Dassie wrote ends the bench.
 *
 * Where nothing bare does the same work (memory, disk, wake-ups, the loop, the
 * host), the limit is the most that is allowed. */
#ifndef BENCH_H_
#define BENCH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dassie.h"

#define REPEATS 5

/* How the bench was asked to run. */
struct bench {
    char dir[512];       /* where stores are made, removed at the end */
    unsigned long scale; /* 10: the stated sizes; 1: a tenth of them */
    bool csv;
};
extern struct bench bench;

/* A row of the table. */
struct row {
    const char *name;
    const char *what;
    const char *unit;
    double wanted; /* the ratio that is required; 0: reported only */
    bool most;     /* it may be at most that, not at least */
    void (*run)(const struct row *row);
    unsigned long arg;
};

/* ---- util.c ---- */

double now_s(void);
void die(const char *what, int rc);

/* bench.dir/name, in static memory until the eighth call from here. */
const char *path_of(const char *name);
void store_remove(const char *dir);
void store_copy(const char *from, const char *to);
uint64_t bytes_on_disk(const char *dir);

/* Zeroed memory that in_child() shares with its child. */
void *shared(size_t bytes);

/* Runs run(arg) in a process of its own and waits for its end; a failure ends
 * the bench. RocksDB lives in such processes only: its threads do not survive
 * a fork. */
void in_child(void (*run)(void *arg), void *arg);

/* The same in steps; child_status() lets any end do. */
int child_start(void (*run)(void *arg), void *arg);
int child_status(int child);
void child_end(int child);

/* Bytes of no pattern, so that nothing is compressed away; the same for the
 * same job. */
const void *payload_of(unsigned long job, size_t bytes);

void sort_doubles(double *v, size_t n);
double median(double *v, size_t n);
double percentile(const double *sorted, size_t n, double percent);

/* A field of /proc/self/status in bytes: "VmRSS", "VmHWM". */
double memory_bytes(const char *field);

/* CPU time of the thread of this process that has used most of it: Dassie's
 * engine, or the bare loop. */
double busiest_thread_s(void);

/* ---- report.c ---- */

void report_head(void);

/* Prints the row: medians, and the median of the ratios with their spread. */
void report(const struct row *row, const double *ours, const double *limit,
            size_t n);

/* A line under the row that was reported last; not in the CSV. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- load.c: enqueue and run, on Dassie ---- */

struct load {
    unsigned long jobs;
    size_t payload;
    unsigned long inflight;
    unsigned concurrency;
    bool run; /* processed as well, not only enqueued */
    unsigned queues;
    bool priorities;
    bool delays;
    unsigned lookups;   /* dassie_get() per second beside it */
    bool kill;          /* the process, when all is acknowledged */
    bool again;         /* in a store that is there */
    uint64_t keep_jobs; /* of those that have ended; 0: all */
};

/* What one run took and wrote. */
struct figure {
    double seconds;
    double process_seconds; /* from the first start to the last end */
    double busy_seconds;    /* CPU time of the busiest thread */
    double memory;          /* resident bytes at the end */
    double tenth[10];       /* of a drain: when its jobs had started */
    dassie_stats_t stats;
};

/* Runs a workload in a new store. */
void load_run(const struct load *load, const char *dir, struct figure *figure);

/* Which queue, priority and delay a job of the load has. */
#define LOAD_DELAYED_EACH 10
#define LOAD_DELAY_MS 20
unsigned load_queue(const struct load *load, unsigned long job);
int load_priority(const struct load *load, unsigned long job);
uint64_t load_delay_ms(const struct load *load, unsigned long job);

/* Opens dir in a loop that the caller runs; exits on an error. */
void bench_open(uv_loop_t *loop, dassie_t *q, const char *dir,
                const dassie_options_t *o, dassie_open_cb cb);

/* Closes q when stats hold the figures of the last commit: they are sure to be
 * there once a look-up that came later is answered. */
void bench_close(dassie_t *q, dassie_stats_t *stats);

/* Registers processors for queues "q0" up to "qN-1" (1: the default one), as
 * many as it takes, without freeing them. */
void process_queues(dassie_t *q, unsigned queues, unsigned concurrency,
                    dassie_work_cb work);

/* ---- limit.c: the same, bare ---- */

/* Writes the same rows with bare writes, batch by batch, in a new database;
 * writes is what Dassie wrote. */
void limit_run(const struct load *load, const char *dir,
               const dassie_stats_t *writes, struct figure *limit);

/* The same for a store whose jobs wait: two iterators in step, and the rows of
 * claims and ends. */
void limit_drain_run(const struct load *load, const char *dir,
                     const dassie_stats_t *writes, struct figure *limit);

/* Ends the bench if the limit has not written the same. */
void check_same(const char *name, const struct load *load,
                const dassie_stats_t *ours, const dassie_stats_t *limit);

/* ---- drain.c ---- */

/* Runs sample of the load's jobs (0: all) that wait in the store dir. */
void drain_run(const struct load *load, unsigned long sample, const char *dir,
               struct figure *figure);

/* ---- The rows, by file, and single workloads ---- */

void rate_row(const struct row *row);    /* rate.c: 1, 2 */
void queues_row(const struct row *row);  /* rate.c: 6 */
void payload_row(const struct row *row); /* rate.c: 7 */
int rate_one(char **argv);
void drain_row(const struct row *row); /* drain.c: 3 */
int drain_one(char **argv);
void latency_row(const struct row *row); /* latency.c: 4 */
void start_row(const struct row *row);   /* start.c: 5 */
int start_one(char **argv);
void get_row(const struct row *row);        /* get.c: 8 */
void get_single_row(const struct row *row); /* get.c: 8 */
void memory_row(const struct row *row);     /* space.c: 9 */
void disk_row(const struct row *row);       /* space.c: 10 */
void retry_row(const struct row *row);      /* retry.c: 10 */
void reopen_row(const struct row *row);     /* reopen.c: 11 */
void idle_row(const struct row *row);       /* idle.c: 12 */
void loop_row(const struct row *row);       /* loop.c: 13 */
void host_row(const struct row *row);       /* host.c: 14 */
void retention_row(const struct row *row);  /* retention.c: 15 */

#endif /* BENCH_H_ */
