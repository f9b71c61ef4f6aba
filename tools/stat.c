/* stat.c: "dassie stat", how a store stands, once or again and again. */
#include "config.h"

#include "figures.h"
#include "out.h"
#include "session.h"
#include "tool.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static uint64_t interval_ms;
static uint64_t reports;
static struct watch watch;

/* ---- JSON ---- */

static json_t *json_rates(bool known, const struct rates *rates)
{
    if (!known) {
        return json_null();
    }
    json_t *object = json_object();
    json_object_set_new(object, "enqueued", json_real(rates->enqueued));
    json_object_set_new(object, "completed", json_real(rates->completed));
    json_object_set_new(object, "failed", json_real(rates->failed));
    json_object_set_new(object, "retried", json_real(rates->retried));
    return object;
}

static json_t *json_queue(size_t i)
{
    const struct queue_figures *queue = &watch.now.queues[i];
    struct rates rates;
    json_t *object = json_object();
    json_bytes(object, "queue", queue->info.name, queue->info.name_len);
    json_object_set_new(object, "paused", json_boolean(queue->info.paused));
    json_object_set_new(object, "jobs", json_counts(&queue->info.jobs));
    json_count(object, "pending_bytes", queue->info.pending_bytes);
    json_time(object, "next_enqueued", queue->next_ms);
    if (interval_ms > 0) {
        bool known = figures_queue_rates(&watch.before, &watch.now, i, &rates);
        json_object_set_new(object, "per_second", json_rates(known, &rates));
    }
    return object;
}

static void print_json(void)
{
    const struct figures *f = &watch.now;
    struct rates rates;
    json_t *object = json_object();
    json_t *queues = json_array();
    json_bytes(object, "store", tool.dir, strlen(tool.dir));
    json_object_set_new(object, "jobs", json_counts(&f->total));
    json_count(object, "pending_bytes", f->pending_bytes);
    json_count(object, "disk_bytes", f->disk_bytes);
    if (interval_ms > 0) {
        bool known = figures_rates(&watch.before, f, &rates);
        json_object_set_new(object, "per_second", json_rates(known, &rates));
    }
    for (size_t i = 0; i < f->queues_n; i++) {
        json_array_append_new(queues, json_queue(i));
    }
    json_object_set_new(object, "queues", queues);
    out_json(object);
}

/* ---- Text ---- */

static void print_counts(const dassie_count_t *count)
{
    printf("%10" PRIu64 " %10" PRIu64 " %8" PRIu64 " %10" PRIu64 " %8" PRIu64
           " %9" PRIu64,
           count->pending, count->scheduled, count->running, count->complete,
           count->failed, count->cancelled);
}

/* Jobs that have come and ended in a second. */
static void print_rates(bool known, const struct rates *rates)
{
    char in[OUT_TIME_BYTES] = "-";
    char out[OUT_TIME_BYTES] = "-";
    if (interval_ms == 0) {
        return;
    }
    if (known) {
        format_rate(rates->enqueued, in);
        format_rate(rates->completed + rates->failed, out);
    }
    printf(" %6s %6s", in, out);
}

static void print_queue(size_t i)
{
    const struct queue_figures *queue = &watch.now.queues[i];
    char age[OUT_TIME_BYTES];
    struct rates rates;
    print_counts(&queue->info.jobs);
    print_rates(figures_queue_rates(&watch.before, &watch.now, i, &rates),
                &rates);
    printf(" %6s  ",
           queue->next_ms != 0 ? format_age(age_of(queue->next_ms), age) : "-");
    out_text(queue->info.name, queue->info.name_len, 0);
    puts(queue->info.paused ? " (paused)" : "");
}

static void print_text(void)
{
    const struct figures *f = &watch.now;
    struct rates rates;
    printf("%10s %10s %8s %10s %8s %9s%s %6s  %s\n", "PENDING", "SCHEDULED",
           "RUNNING", "COMPLETE", "FAILED", "CANCELLED",
           interval_ms > 0 ? "   IN/S  OUT/S" : "", "WAITS", "QUEUE");
    for (size_t i = 0; i < f->queues_n; i++) {
        print_queue(i);
    }
    print_counts(&f->total);
    print_rates(figures_rates(&watch.before, f, &rates), &rates);
    printf(" %6s  %zu %s, %.1f MiB pending, %.1f MiB on disk\n", "",
           f->queues_n, f->queues_n == 1 ? "queue" : "queues",
           (double)f->pending_bytes / (1024 * 1024),
           (double)f->disk_bytes / (1024 * 1024));
}

/* ---- The looks ---- */

static int find_next(struct watch *w)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < w->now.queues_n && session.signal == 0;
         i++) {
        rc = figures_next(&w->now.queues[i]);
    }
    return rc;
}

/* A signal ends it in the middle. */
static int stat_store(void)
{
    for (uint64_t n = 1;; n++) {
        int code = watch_look(&watch, n == 1, find_next);
        if (code >= 0) {
            return code;
        }
        if (tool.json) {
            print_json();
        } else {
            print_text();
        }
        if (interval_ms == 0 || n == reports || session.signal != 0) {
            return TOOL_GOOD;
        }
        if (fflush(stdout) != 0 || !out_good()) {
            return TOOL_GOOD; /* out_end() tells why */
        }
        poll(NULL, 0, (int)interval_ms);
        if (!tool.json) {
            putchar('\n');
        }
    }
}

static int run_stat(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (interval_ms > INT32_MAX) {
        return tool_fail(TOOL_USAGE, "stat: --interval is too long");
    }
    watch.beside = interval_ms == 0;
    int code = stat_store();
    watch_end(&watch);
    return code;
}

static const struct tool_option options[] = {
    {"interval", "TIME", "again and again, so often, with rates", OPTION_TIME,
     &interval_ms, 0, 0, 'i'},
    {"count", "N", "with --interval: so many times, not for ever", OPTION_COUNT,
     &reports, 1, INT64_MAX, 'c'},
    {.name = NULL}};

const struct command command_stat = {
    .name = "stat",
    .args = "",
    .what = "Tells how many jobs each queue has in each state",
    .options = options,
    .run = run_stat};
