#include "config.h"

#include "metrics.h"

#include "alloc.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TEXT_ROOM 16384 /* to begin with */

/* ---- Text ---- */

struct text {
    char *p;
    size_t len;
    size_t room;
    bool failed; /* no memory: nothing is put any more */
};

static void text_put(struct text *t, const char *p, size_t len)
{
    if (t->room - t->len < len + 1 && !t->failed) {
        size_t room = t->room + t->room / 2 + len + TEXT_ROOM;
        char *more = dassie__realloc(t->p, room);
        t->failed = more == NULL;
        if (!t->failed) {
            t->p = more;
            t->room = room;
        }
    }
    if (!t->failed) {
        memcpy(t->p + t->len, p, len);
        t->len += len;
        t->p[t->len] = '\0';
    }
}

static void text_puts(struct text *t, const char *s)
{
    text_put(t, s, strlen(s));
}

/* A number of units of which 10^decimals are what is shown. */
static void text_number(struct text *t, uint64_t n, unsigned decimals)
{
    char digits[48];
    uint64_t one = 1;
    for (unsigned i = 0; i < decimals; i++) {
        one *= 10;
    }
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n / one);
    if (n % one != 0) {
        len += snprintf(digits + len, sizeof digits - (size_t)len,
                        ".%0*" PRIu64, (int)decimals, n % one);
        while (digits[len - 1] == '0') {
            len--;
        }
    }
    text_put(t, digits, (size_t)len);
}

/* How many bytes the character at p has, of n that are there; 0 if it is not
 * well-formed UTF-8: too long a form, a surrogate, beyond the last one. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (p[0] < 0x80) {
        return 1;
    }
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc0 || p[0] > 0xf4 || len > n) {
        return 0;
    }
    uint32_t c = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0
                                                                         : len;
}

/* The backslash of \xNN is escaped itself, as the format wants it. */
static void text_label(struct text *t, const char *name, size_t name_len)
{
    const unsigned char *p = (const unsigned char *)name;
    const unsigned char *end = p + name_len;
    while (p < end) {
        size_t len = utf8_len(p, (size_t)(end - p));
        char hex[8];
        if (len == 0 || *p < 0x20 || *p == 0x7f || *p == '\\') {
            snprintf(hex, sizeof hex, "\\\\x%02x", (unsigned)*p);
            text_puts(t, hex);
            len = 1;
        } else if (*p == '"') {
            text_puts(t, "\\\"");
        } else {
            text_put(t, (const char *)p, len);
        }
        p += len;
    }
}

/* ---- Samples ---- */

static void put_family(struct text *t, const char *name, const char *type,
                       const char *help)
{
    text_puts(t, "# HELP ");
    text_puts(t, name);
    text_puts(t, " ");
    text_puts(t, help);
    text_puts(t, "\n# TYPE ");
    text_puts(t, name);
    text_puts(t, " ");
    text_puts(t, type);
    text_puts(t, "\n");
}

/* Labels: the queue's, which those of all others do not have, and another one,
 * whose name is NULL if there is none. */
struct labels {
    const struct meter *meter; /* or NULL */
    const char *name;
};

static void put_name(struct text *t, const char *family, const char *suffix,
                     const struct labels *labels)
{
    bool queue = labels->meter != NULL && labels->meter->name != NULL;
    text_puts(t, family);
    text_puts(t, suffix);
    if (queue) {
        text_puts(t, "{queue=\"");
        text_label(t, labels->meter->name, labels->meter->name_len);
        text_puts(t, "\"");
    }
    if (labels->name != NULL) {
        text_puts(t, queue ? "," : "{");
        text_puts(t, labels->name);
        text_puts(t, "=\"");
    } else if (queue) {
        text_puts(t, "}");
    }
}

static void put_value(struct text *t, uint64_t n, unsigned decimals)
{
    text_puts(t, " ");
    text_number(t, n, decimals);
    text_puts(t, "\n");
}

/* What a scrape reads while others count: its buckets agree with its count. */
static void put_histogram(struct text *t, const char *family,
                          const struct meter *meter, const struct histogram *h,
                          const struct scale *scale)
{
    struct labels le = {meter, "le"};
    struct labels none = {meter, NULL};
    uint64_t n = 0;
    for (unsigned i = 0; i <= scale->n; i++) {
        n += meter_get(&h->n[i]);
        put_name(t, family, "_bucket", &le);
        if (i < scale->n) {
            text_number(t, scale->bound[i], scale->decimals);
        } else {
            text_puts(t, "+Inf");
        }
        text_puts(t, "\"}");
        put_value(t, n, 0);
    }
    put_name(t, family, "_sum", &none);
    put_value(t, meter_get(&h->sum), scale->decimals);
    put_name(t, family, "_count", &none);
    put_value(t, n, 0);
}

/* ---- Queue by queue ---- */

typedef void (*put_meter_cb)(struct text *t, const struct meter *meter,
                             const void *arg);

static void each_meter(struct text *t, const struct meters *meters,
                       put_meter_cb put, const void *arg)
{
    if (meters == NULL) {
        return;
    }
    uint32_t n = atomic_load_explicit(&meters->own_n, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++) {
        put(t, meters->own[i], arg);
    }
    if (atomic_load_explicit(&meters->others_n, memory_order_relaxed) > 0) {
        put(t, &meters->others, arg);
    }
}

static const char *const state_names[STATES] = {
    [DASSIE_PENDING] = "pending", [DASSIE_SCHEDULED] = "scheduled",
    [DASSIE_RUNNING] = "running", [DASSIE_COMPLETE] = "complete",
    [DASSIE_FAILED] = "failed",   [DASSIE_CANCELLED] = "cancelled"};

static void put_state(struct text *t, const char *family,
                      const struct meter *meter, int state, uint64_t n)
{
    struct labels labels = {meter, "state"};
    put_name(t, family, "", &labels);
    text_puts(t, state_names[state]);
    text_puts(t, "\"}");
    put_value(t, n, 0);
}

static void put_jobs(struct text *t, const struct meter *meter, const void *arg)
{
    for (int i = 0; i < STATES; i++) {
        if (state_names[i] != NULL) {
            put_state(t, arg, meter, i, meter_get(&meter->jobs[i]));
        }
    }
}

static void put_bytes(struct text *t, const struct meter *meter,
                      const void *arg)
{
    static const int sized[] = {DASSIE_PENDING, DASSIE_COMPLETE, DASSIE_FAILED,
                                DASSIE_CANCELLED};
    for (size_t i = 0; i < sizeof sized / sizeof sized[0]; i++) {
        put_state(t, arg, meter, sized[i], meter_get(&meter->bytes[sized[i]]));
    }
}

/* The events that a counter adds up. */
struct counter {
    const char *name;
    const char *help;
    unsigned n;
    enum event events[3];
};

static void put_events(struct text *t, const struct meter *meter,
                       const void *arg)
{
    const struct counter *counter = arg;
    struct labels none = {meter, NULL};
    uint64_t n = 0;
    for (unsigned i = 0; i < counter->n; i++) {
        n += meter_get(&meter->events[counter->events[i]]);
    }
    put_name(t, counter->name, "", &none);
    put_value(t, n, 0);
}

static void put_waiting(struct text *t, const struct meter *meter,
                        const void *arg)
{
    put_histogram(t, arg, meter, &meter->waiting, &dassie__scale_waiting);
}

static void put_running(struct text *t, const struct meter *meter,
                        const void *arg)
{
    put_histogram(t, arg, meter, &meter->running, &dassie__scale_running);
}

static void put_queues(struct text *t, const struct metrics *m)
{
    static const char jobs[] = "dassie_jobs";
    static const char bytes[] = "dassie_jobs_bytes";
    static const char waiting[] = "dassie_job_waiting_seconds";
    static const char running[] = "dassie_job_running_seconds";
    static const struct counter counters[] = {
        {"dassie_jobs_enqueued_total",
         "Jobs enqueued.",
         3,
         {EVENT_ENQUEUE, EVENT_HAND_OFF, EVENT_SCHEDULE}},
        {"dassie_jobs_completed_total",
         "Jobs that ended well.",
         1,
         {EVENT_COMPLETE}},
        {"dassie_jobs_failed_total",
         "Jobs that failed in the end.",
         3,
         {EVENT_FAIL, EVENT_INTERRUPT, EVENT_CRASH_OUT}},
        {"dassie_jobs_cancelled_total",
         "Jobs cancelled.",
         2,
         {EVENT_CANCEL, EVENT_ABORT}},
        {"dassie_jobs_retried_total",
         "Failed runs that are followed by another one.",
         1,
         {EVENT_RETRY}},
    };
    put_family(t, jobs, "gauge", "Jobs in the store.");
    each_meter(t, m->meters, put_jobs, jobs);
    put_family(t, bytes, "gauge",
               "Size of the jobs that are pending, or have ended.");
    each_meter(t, m->meters, put_bytes, bytes);
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        put_family(t, counters[i].name, "counter", counters[i].help);
        each_meter(t, m->meters, put_events, &counters[i]);
    }
    put_family(t, waiting, "histogram",
               "From the time at which a job could run until its first run "
               "began.");
    each_meter(t, m->meters, put_waiting, waiting);
    put_family(t, running, "histogram", "How long each run of a job took.");
    each_meter(t, m->meters, put_running, running);
}

/* ---- Of the whole store ---- */

struct single {
    const char *name;
    const char *type;
    const char *help;
    uint64_t value;
    unsigned decimals;
};

static void put_singles(struct text *t, const struct single *single, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_family(t, single[i].name, single[i].type, single[i].help);
        text_puts(t, single[i].name);
        put_value(t, single[i].value, single[i].decimals);
    }
}

static void put_work(struct text *t, const dassie_stats_t *s)
{
    const struct single all[] = {
        {"dassie_queues", "gauge", "Queues in the store.", s->queues, 0},
        {"dassie_suspect_jobs", "gauge", "Jobs waiting to run alone.",
         s->suspects, 0},
        {"dassie_jobs_snoozed_total", "counter",
         "Runs after which the job is to run again later.", s->snoozed, 0},
        {"dassie_jobs_promoted_total", "counter",
         "Scheduled jobs whose time has come.", s->promoted, 0},
        {"dassie_jobs_swept_total", "counter",
         "Ended jobs that were kept long enough.", s->swept, 0},
        {"dassie_claims_total", "counter", "Jobs claimed for a processor.",
         s->claimed, 0},
        {"dassie_claims_handed_off_total", "counter",
         "Claims that went by the queue, as a processor was idle.",
         s->handed_off, 0},
        {"dassie_claims_returned_total", "counter",
         "Claims handed back before the job began.", s->unclaimed, 0},
        {"dassie_runs_interrupted_total", "counter",
         "Runs that the last owner of the store did not end.", s->interrupted,
         0},
        {"dassie_inbox_jobs", "gauge", "Jobs waiting for a commit.",
         s->inbox_jobs, 0},
        {"dassie_inbox_bytes", "gauge", "Size of these.", s->inbox_bytes, 0},
        {"dassie_pool_threads", "gauge",
         "Threads of libuv's pool that may run jobs.", s->pool_threads, 0},
        {"dassie_pool_threads_in_use", "gauge",
         "Of them, those that run jobs of this store.", s->runners, 0},
        {"dassie_pool_threads_requested", "gauge",
         "Concurrency of all work processors together.", s->work_slots, 0},
    };
    put_singles(t, all, sizeof all / sizeof all[0]);
}

static void put_store(struct text *t, const struct metrics *m)
{
    const dassie_stats_t *s = &m->stats;
    const struct single all[] = {
        {"dassie_fsyncs_total", "counter", "Commits made durable by an fsync.",
         s->fsyncs, 0},
        {"dassie_commit_stalls_total", "counter",
         "Commits that RocksDB held up, as it was behind.", m->counts.stalls,
         0},
        {"dassie_commit_stall_seconds_total", "counter",
         "How long it held them up.", m->counts.stall_us, 6},
        {"dassie_window_refills_total", "counter",
         "Times that pending jobs were read from disk.", s->refills, 0},
        {"dassie_tombstones_skipped_total", "counter",
         "Deleted or replaced rows that reads had to step over.",
         m->counts.skipped, 0},
        {"dassie_heals_total", "counter",
         "Times the store was reopened after an error.", s->heals, 0},
        {"dassie_degraded", "gauge",
         "1 while the store is healing from an error.", s->degraded != 0, 0},
        {"dassie_store_bytes", "gauge", "Size of the files of the store.",
         m->store_bytes, 0},
    };
    put_singles(t, all, sizeof all / sizeof all[0]);
}

static void put_commits(struct text *t, const struct commit_meter *commits)
{
    static const char rows[] = "dassie_commit_rows";
    static const char bytes[] = "dassie_commit_size_bytes";
    static const char time[] = "dassie_commit_duration_seconds";
    put_family(t, rows, "histogram", "Rows that a commit wrote.");
    put_histogram(t, rows, NULL, &commits->rows, &dassie__scale_rows);
    put_family(t, bytes, "histogram", "Bytes of these rows.");
    put_histogram(t, bytes, NULL, &commits->bytes, &dassie__scale_bytes);
    put_family(t, time, "histogram",
               "How long a commit took until it was written and fsynced.");
    put_histogram(t, time, NULL, &commits->time, &dassie__scale_commit);
}

int dassie__metrics_text(const struct metrics *m, char **text, size_t *len)
{
    struct text t = {NULL, 0, 0, false};
    put_queues(&t, m);
    put_work(&t, &m->stats);
    put_commits(&t, m->commits);
    put_store(&t, m);
    if (t.failed) {
        dassie__free(t.p);
        return UV_ENOMEM;
    }
    *text = t.p;
    *len = t.len;
    return 0;
}
