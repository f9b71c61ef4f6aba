/* bench.c: Dassie beside the bare machine; see bench.h.
 *
 *   bench [--csv] [--full] [NAME...]     the table, or some rows of it
 *   bench enq DIR N PAYLOAD INFLIGHT     durable enqueue
 *   bench e2e DIR N PAYLOAD CONCURRENCY  enqueue N and run them off-thread
 */
#include "config.h"

#include "bench.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPEATS 5
#define SAME_PERCENT 3.0 /* how much the limit's rows may differ */

double now_s(void)
{
    return (double)uv_hrtime() / 1e9;
}

void die(const char *what, int rc)
{
    fprintf(stderr, "bench: %s: %s\n", what, dassie_strerror(rc));
    exit(1);
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void store_remove(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int double_cmp(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof v[0], double_cmp);
    return v[n / 2];
}

/* ---- The table ---- */

struct row {
    const char *name;
    const char *what;
    struct load load;
    double wanted; /* the least ratio */
};

static void check_same(const struct row *row, const struct figure *ours,
                       const struct figure *limit)
{
    double rows = (double)limit->stats.rows / (double)ours->stats.rows;
    double bytes =
        (double)limit->stats.row_bytes / (double)ours->stats.row_bytes;
    double off = SAME_PERCENT / 100;
    if (rows < 1 - off || rows > 1 + off || bytes < 1 - off ||
        bytes > 1 + off || limit->stats.fsyncs != ours->stats.fsyncs) {
        fprintf(stderr,
                "bench: %s: the limit wrote %.3f of the rows, %.3f of the "
                "bytes, %llu fsyncs of %llu\n",
                row->name, rows, bytes, (unsigned long long)limit->stats.fsyncs,
                (unsigned long long)ours->stats.fsyncs);
        exit(1);
    }
}

static void row_print(const struct row *row, bool csv, double ours[REPEATS],
                      double limit[REPEATS], double ratio[REPEATS],
                      const struct figure *last)
{
    double jobs = (double)row->load.jobs;
    double mid = median(ratio, REPEATS);
    if (csv) {
        printf("%s,%.0f,%.0f,%.3f,jobs/s\n", row->name, median(ours, REPEATS),
               median(limit, REPEATS), mid);
        return;
    }
    printf("%-18s %9.0f %9.0f  %5.2f (%.2f to %.2f, wanted %.2f)  %s\n",
           row->name, median(ours, REPEATS), median(limit, REPEATS), mid,
           ratio[0], ratio[REPEATS - 1], row->wanted, row->what);
    printf(
        "%18s   per job: %.2f rows, %.0f bytes; %.0f jobs a commit, "
        "%.0f%% handed off\n",
        "", (double)last->stats.rows / jobs,
        (double)last->stats.row_bytes / jobs, jobs / (double)last->stats.fsyncs,
        100 * (double)last->stats.handed_off / jobs);
}

static void row_run(const struct row *row, bool csv)
{
    double ours[REPEATS];
    double limit[REPEATS];
    double ratio[REPEATS];
    struct figure mine;
    struct figure bare;
    double jobs = (double)row->load.jobs;
    for (int i = 0; i < REPEATS; i++) {
        load_run(&row->load, &mine);
        limit_run(&row->load, &mine, &bare);
        check_same(row, &mine, &bare);
        ours[i] = jobs / mine.seconds;
        limit[i] = jobs / bare.seconds;
        ratio[i] = bare.seconds / mine.seconds;
    }
    store_remove(row->load.dir);
    row_print(row, csv, ours, limit, ratio, &mine);
    fflush(stdout);
}

static bool is_wanted(const char *name, int argc, char **argv, int from)
{
    for (int i = from; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return true;
        }
    }
    return from == argc;
}

static int table(int argc, char **argv)
{
    bool csv = false;
    unsigned long scale = 1;
    int from = 1;
    char dir[] = "bench.XXXXXX";
    for (; from < argc && argv[from][0] == '-'; from++) {
        csv |= strcmp(argv[from], "--csv") == 0;
        scale = strcmp(argv[from], "--full") == 0 ? 10 : scale;
    }
    if (mkdtemp(dir) == NULL) {
        die("mkdtemp", UV_EIO);
    }
    const struct row rows[] = {
        {"enqueue_inflight",
         "durable enqueue, 20,000 in flight",
         {dir, 200000 * scale, 128, 20000, 0, false},
         0.85},
        {"e2e",
         "enqueue, run off-thread, complete, all durable",
         {dir, 200000 * scale, 128, 20000, 3, true},
         0.80},
    };
    if (!csv) {
        printf("%-18s %9s %9s  %s\n", "", "dassie/s", "limit/s", "ratio");
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (is_wanted(rows[i].name, argc, argv, from)) {
            row_run(&rows[i], csv);
        }
    }
    store_remove(dir);
    return 0;
}

/* ---- One workload ---- */

static int one(char **argv)
{
    struct figure figure;
    struct load load = {.dir = argv[2],
                        .jobs = strtoul(argv[3], NULL, 10),
                        .payload = strtoul(argv[4], NULL, 10),
                        .inflight = 20000,
                        .concurrency = 1,
                        .run = strcmp(argv[1], "e2e") == 0};
    if (load.jobs == 0) {
        die("N", UV_EINVAL);
    }
    if (load.run) {
        load.concurrency = (unsigned)strtoul(argv[5], NULL, 10);
    } else {
        load.inflight = strtoul(argv[5], NULL, 10);
    }
    load_run(&load, &figure);
    printf("METRIC rate %.0f jobs/s\n", (double)load.jobs / figure.seconds);
    return 0;
}

int main(int argc, char **argv)
{
    bool named = argc > 2 &&
                 (strcmp(argv[1], "enq") == 0 || strcmp(argv[1], "e2e") == 0);
    if (named && argc != 6) {
        fprintf(stderr,
                "usage: bench enq DIR N PAYLOAD INFLIGHT\n"
                "       bench e2e DIR N PAYLOAD CONCURRENCY\n");
        return 2;
    }
    return named ? one(argv) : table(argc, argv);
}
