/* stat.c: "dassie stat", how a store stands. */
#include "config.h"

#include "look.h"
#include "out.h"
#include "session.h"
#include "tool.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A queue, and how long the job that is next has waited. */
struct row {
    dassie_queue_info_t info; /* its name is a copy */
    uint64_t oldest_ms;       /* when it was enqueued; 0: none waits */
};

static struct row *rows;
static size_t rows_n;
static dassie_count_t total; /* of all queues */
static uint64_t disk_bytes;

static int add_bytes(const char *path, const struct stat *st, int type,
                     struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type == FTW_F) {
        disk_bytes += (uint64_t)st->st_blocks * 512;
    }
    return 0;
}

static void add_counts(const dassie_count_t *count)
{
    total.pending += count->pending;
    total.scheduled += count->scheduled;
    total.running += count->running;
    total.complete += count->complete;
    total.failed += count->failed;
    total.cancelled += count->cancelled;
}

static void keep_queues(const dassie_queue_info_t *queues, size_t n)
{
    rows = calloc(n + 1, sizeof rows[0]);
    for (; rows != NULL && rows_n < n; rows_n++) {
        char *name = malloc(queues[rows_n].name_len + 1);
        if (name == NULL) {
            break;
        }
        memcpy(name, queues[rows_n].name, queues[rows_n].name_len + 1);
        rows[rows_n].info = queues[rows_n];
        rows[rows_n].info.name = name;
        add_counts(&queues[rows_n].jobs);
    }
    if (rows_n < n) {
        exit(tool_fail(TOOL_ERROR, "out of memory"));
    }
}

static uint64_t enqueued_ms;

static void note_enqueued(const dassie_info_t *job)
{
    enqueued_ms = job->enqueued_ms;
}

/* Names with a zero byte inside have no look at their jobs. */
static int find_oldest(struct row *row)
{
    struct selection selection = {.queue = row->info.name,
                                  .states = DASSIE_IN(DASSIE_PENDING)};
    struct place_in_list place = {.state = DASSIE_PENDING};
    bool more;
    if (row->info.jobs.pending == 0 ||
        strlen(row->info.name) != row->info.name_len) {
        return 0;
    }
    enqueued_ms = 0;
    int rc = look_list(&selection, &place, 1, note_enqueued, &more);
    row->oldest_ms = enqueued_ms;
    return rc;
}

static void print_json(void)
{
    json_t *object = json_object();
    json_t *queues = json_array();
    json_bytes(object, "store", tool.dir, strlen(tool.dir));
    json_object_set_new(object, "jobs", json_counts(&total));
    json_count(object, "disk_bytes", disk_bytes);
    for (size_t i = 0; i < rows_n; i++) {
        json_t *queue = json_object();
        json_bytes(queue, "queue", rows[i].info.name, rows[i].info.name_len);
        json_object_set_new(queue, "paused", json_boolean(rows[i].info.paused));
        json_object_set_new(queue, "jobs", json_counts(&rows[i].info.jobs));
        json_time(queue, "next_enqueued", rows[i].oldest_ms);
        json_array_append_new(queues, queue);
    }
    json_object_set_new(object, "queues", queues);
    out_json(object);
}

static void print_counts(const dassie_count_t *count)
{
    printf("%10" PRIu64 " %10" PRIu64 " %8" PRIu64 " %10" PRIu64 " %8" PRIu64
           " %9" PRIu64,
           count->pending, count->scheduled, count->running, count->complete,
           count->failed, count->cancelled);
}

static void print_text(void)
{
    char age[OUT_TIME_BYTES];
    printf("%10s %10s %8s %10s %8s %9s %6s  %s\n", "PENDING", "SCHEDULED",
           "RUNNING", "COMPLETE", "FAILED", "CANCELLED", "WAITS", "QUEUE");
    for (size_t i = 0; i < rows_n; i++) {
        print_counts(&rows[i].info.jobs);
        printf(" %6s  ", rows[i].oldest_ms != 0
                             ? format_age(age_of(rows[i].oldest_ms), age)
                             : "-");
        out_text(rows[i].info.name, rows[i].info.name_len, 0);
        puts(rows[i].info.paused ? " (paused)" : "");
    }
    print_counts(&total);
    printf(" %6s  %zu %s, %.1f MiB on disk\n", "", rows_n,
           rows_n == 1 ? "queue" : "queues",
           (double)disk_bytes / (1024 * 1024));
}

static int stat_store(void)
{
    int rc = look_queues(keep_queues);
    for (size_t i = 0; rc == 0 && i < rows_n && session.signal == 0; i++) {
        rc = find_oldest(&rows[i]);
    }
    if (rc != 0) {
        return tool_fail_rc(rc, tool.dir);
    }
    nftw(tool.dir, add_bytes, 16, FTW_PHYS);
    if (tool.json) {
        print_json();
    } else {
        print_text();
    }
    return TOOL_GOOD;
}

static int run_stat(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    int code = session_open(DASSIE_READ_ONLY, true);
    if (code >= 0) {
        return code;
    }
    code = session_close(stat_store());
    while (rows_n > 0) {
        free((void *)(uintptr_t)rows[--rows_n].info.name);
    }
    free(rows);
    return code;
}

static const struct tool_option options[] = {{.name = NULL}};

const struct command command_stat = {
    .name = "stat",
    .args = "",
    .what = "Tells how many jobs each queue has in each state",
    .options = options,
    .run = run_stat};
