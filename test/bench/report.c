/* report.c: how a row is printed, for people or as CSV. */
#include "config.h"

#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* How much the limit's rows and bytes may differ; or rows by one a batch. With
 * many queues the bytes of a commit's row hang on how many of them meet in it;
 * without an enqueue bytes are few, and Dassie writes some claim sets twice. */
#define SAME_PERCENT 3.0
#define SAME_PERCENT_LOOSE 8.0

void report_head(void)
{
    if (!bench.csv) {
        printf("%-20s %10s %10s %6s  %s\n", "", "dassie", "limit", "ratio", "");
    }
}

static void print_row(const struct row *row, double ours, double limit,
                      const double *ratio, size_t n)
{
    double mid = ratio[n / 2];
    int digits = limit < 100 ? 2 : 0;
    printf("%-20s %10.*f %10.*f %6.2f  %s", row->name, digits, ours, digits,
           limit, mid, row->unit);
    if (n > 1) {
        printf(", ratio %.2f to %.2f", ratio[0], ratio[n - 1]);
    }
    if (row->wanted > 0 || row->most) {
        bool met = row->most ? mid <= row->wanted : mid >= row->wanted;
        printf(", %s %.2f: %s", row->most ? "at most" : "at least", row->wanted,
               met ? "met" : "MISSED");
    }
    printf("\n%20s   %s\n", "", row->what);
}

void report(const struct row *row, const double *ours, const double *limit,
            size_t n)
{
    double a[REPEATS];
    double b[REPEATS];
    double ratio[REPEATS];
    for (size_t i = 0; i < n; i++) {
        a[i] = ours[i];
        b[i] = limit[i];
        ratio[i] = limit[i] > 0 ? ours[i] / limit[i] : ours[i];
    }
    double mine = median(a, n);
    double bare = median(b, n);
    sort_doubles(ratio, n);
    if (bench.csv) {
        printf("%s,%.2f,%.2f,%.3f,%s\n", row->name, mine, bare, ratio[n / 2],
               row->unit);
    } else {
        print_row(row, mine, bare, ratio, n);
    }
    fflush(stdout);
}

void note(const char *format, ...)
{
    va_list args;
    if (bench.csv) {
        return;
    }
    printf("%20s   ", "");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

static bool same(uint64_t limit, uint64_t ours, double percent)
{
    double ratio = (double)limit / (double)ours;
    return ratio >= 1 - percent / 100 && ratio <= 1 + percent / 100;
}

void check_same(const char *name, const struct load *load,
                const dassie_stats_t *ours, const dassie_stats_t *limit)
{
    bool loose = load->queues > 1 || ours->enqueued == 0;
    double percent = loose ? SAME_PERCENT_LOOSE : SAME_PERCENT;
    uint64_t rows_off = limit->rows > ours->rows ? limit->rows - ours->rows
                                                 : ours->rows - limit->rows;
    if ((same(limit->rows, ours->rows, SAME_PERCENT) ||
         rows_off <= ours->commits) &&
        same(limit->row_bytes, ours->row_bytes, percent) &&
        limit->commits == ours->commits && limit->fsyncs == ours->fsyncs) {
        return;
    }
    fprintf(
        stderr,
        "bench: %s: the limit wrote %llu rows of %llu, %llu bytes of %llu, "
        "%llu batches of %llu, %llu fsyncs of %llu\n",
        name, (unsigned long long)limit->rows, (unsigned long long)ours->rows,
        (unsigned long long)limit->row_bytes,
        (unsigned long long)ours->row_bytes, (unsigned long long)limit->commits,
        (unsigned long long)ours->commits, (unsigned long long)limit->fsyncs,
        (unsigned long long)ours->fsyncs);
    exit(1);
}
