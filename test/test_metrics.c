/* What is counted for dassie_metrics(), and its text: buckets, the limit of
 * queues, labels, the whole text against test/metrics.txt, no memory; and what
 * the core counts, on a clock that stands still. */
#include "config.h"

#include "core_rig.h"

#include "metrics.h"

/* ---- Histograms ---- */

START_TEST(buckets)
{
    static const struct scale *const scales[] = {
        &dassie__scale_waiting, &dassie__scale_running, &dassie__scale_commit,
        &dassie__scale_rows, &dassie__scale_bytes};
    const struct scale *scale = scales[_i];
    struct histogram h = {.sum = 0};
    uint64_t sum = 0;
    ck_assert_uint_gt(scale->n, 0);
    ck_assert_uint_le(scale->n, BUCKETS_MAX);
    for (unsigned i = 0; i < scale->n; i++) {
        uint64_t bound = scale->bound[i];
        ck_assert(i == 0 || bound > scale->bound[i - 1]);
        histogram_add(&h, scale, bound);
        histogram_add(&h, scale, bound + 1);
        sum += 2 * bound + 1;
        ck_assert_uint_eq(meter_get(&h.n[i]), i == 0 ? 1 : 2);
        ck_assert_uint_eq(meter_get(&h.n[i + 1]), 1);
    }
    histogram_add(&h, scale, 0);
    ck_assert_uint_eq(meter_get(&h.n[0]), 2);
    ck_assert_uint_eq(meter_get(&h.sum), sum);
}
END_TEST

/* ---- Text ---- */

static struct meters meters;
static struct commit_meter commits;
static char *text;

static struct metrics metrics_of(void)
{
    struct metrics m = {.meters = &meters, .commits = &commits};
    return m;
}

static void text_make(const struct metrics *m)
{
    size_t len;
    ck_assert_int_eq(dassie__metrics_text(m, &text, &len), 0);
    ck_assert_uint_eq(strlen(text), len);
}

static void text_free(void)
{
    dassie__free(text);
    text = NULL;
}

static void has_line(const char *line)
{
    size_t len = strlen(line);
    for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, line, len) == 0 && at[len] == '\n') {
            return;
        }
    }
    ck_abort_msg("no line '%s' in\n%s", line, text);
}

static void queue_add(const char *name, size_t len)
{
    ck_assert_ptr_nonnull(dassie__meters_next(&meters));
    dassie__meters_add(&meters, name, len);
}

static void meters_end(void)
{
    dassie__meters_free(&meters);
    memset(&meters, 0, sizeof meters);
    memset(&commits, 0, sizeof commits);
}

static const struct {
    const char *name;
    size_t len;
    const char *label;
} labels[] = {
    {"plain", 5, "plain"},
    {"a \"b\" c", 7, "a \\\"b\\\" c"},
    {"{x=1,}", 6, "{x=1,}"},
    {"a\\b", 3, "a\\\\x5cb"},
    {"\\xff", 4, "\\\\x5cxff"},
    {"\xff", 1, "\\\\xff"},
    {"\n\r\t\0\x1b[m\x7f", 8, "\\\\x0a\\\\x0d\\\\x09\\\\x00\\\\x1b[m\\\\x7f"},
    {"gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f"},
    {"\xe2\x82\xac\xf0\x9f\xa6\x9b", 7, "\xe2\x82\xac\xf0\x9f\xa6\x9b"},
    {"\xc3", 1, "\\\\xc3"},                       /* cut */
    {"\xe2\x82x", 3, "\\\\xe2\\\\x82x"},          /* cut */
    {"\xf0\x9f\xa6", 3, "\\\\xf0\\\\x9f\\\\xa6"}, /* cut */
    {"\x80\xbf", 2, "\\\\x80\\\\xbf"},            /* without a lead */
    {"\xc0\x80", 2, "\\\\xc0\\\\x80"},            /* too long a form */
    {"\xc1\xbf", 2, "\\\\xc1\\\\xbf"},            /* of 0x7f */
    {"\xe0\x9f\xbf", 3, "\\\\xe0\\\\x9f\\\\xbf"}, /* of 0x7ff */
    {"\xf0\x8f\xbf\xbf", 4, "\\\\xf0\\\\x8f\\\\xbf\\\\xbf"}, /* of 0xffff */
    {"\xed\xa0\x80", 3, "\\\\xed\\\\xa0\\\\x80"},            /* a surrogate */
    {"\xed\x9f\xbf\xee\x80\x80", 6, "\xed\x9f\xbf\xee\x80\x80"},
    {"\xf4\x8f\xbf\xbf", 4, "\xf4\x8f\xbf\xbf"},
    {"\xf4\x90\x80\x80", 4, "\\\\xf4\\\\x90\\\\x80\\\\x80"}, /* beyond */
    {"\xf8\x88\x80\x80\x80", 5, "\\\\xf8\\\\x88\\\\x80\\\\x80\\\\x80"},
};

START_TEST(label)
{
    struct metrics m = metrics_of();
    char line[256];
    queue_add(labels[_i].name, labels[_i].len);
    text_make(&m);
    snprintf(line, sizeof line, "dassie_jobs_enqueued_total{queue=\"%s\"} 0",
             labels[_i].label);
    has_line(line);
    text_free();
    meters_end();
}
END_TEST

/* Each number another one. */
static void fill_histogram(struct histogram *h, unsigned n, uint64_t first)
{
    for (unsigned i = 0; i <= n; i++) {
        meter_add(&h->n[i], first + i);
    }
    meter_add(&h->sum, 1000 * first + 1);
}

static void fill_meter(struct meter *meter, uint64_t first)
{
    static const enum event told[] = {
        EVENT_ENQUEUE, EVENT_HAND_OFF,  EVENT_SCHEDULE,  EVENT_COMPLETE,
        EVENT_FAIL,    EVENT_INTERRUPT, EVENT_CRASH_OUT, EVENT_CANCEL,
        EVENT_ABORT,   EVENT_RETRY};
    for (int i = 0; i < STATES; i++) {
        meter_add(&meter->jobs[i], first + (uint64_t)i);
        meter_add(&meter->bytes[i], 1000 * first + (uint64_t)i);
    }
    for (int i = 0; i < EVENTS; i++) {
        meter_add(&meter->events[i], 1000000); /* not to be seen */
    }
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        atomic_store(&meter->events[told[i]], 10 * first + ((uint64_t)1 << i));
    }
    fill_histogram(&meter->waiting, dassie__scale_waiting.n, first + 1);
    fill_histogram(&meter->running, dassie__scale_running.n, first + 2);
}

static void fill_stats(dassie_stats_t *s)
{
    *s = (dassie_stats_t){.queues = 301,
                          .enqueued = 302,
                          .completed = 303,
                          .failed = 304,
                          .cancelled = 305,
                          .retried = 306,
                          .snoozed = 307,
                          .swept = 308,
                          .promoted = 309,
                          .claimed = 310,
                          .handed_off = 311,
                          .unclaimed = 312,
                          .interrupted = 313,
                          .commits = 314,
                          .fsyncs = 315,
                          .rows = 316,
                          .row_bytes = 317,
                          .refills = 318,
                          .heals = 319,
                          .inbox_jobs = 320,
                          .inbox_bytes = 321,
                          .suspects = 322,
                          .pool_threads = 323,
                          .runners = 324,
                          .work_slots = 325,
                          .degraded = UV_EIO};
}

static char *file_text(const char *path)
{
    static char bytes[65536];
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    size_t n = fread(bytes, 1, sizeof bytes - 1, f);
    bytes[n] = '\0';
    fclose(f);
    return bytes;
}

/* All of it is as test/metrics.txt has it. What it is instead is left in
 * metrics.out. */
START_TEST(golden)
{
    struct metrics m = metrics_of();
    char path[PATH_MAX];
    const char *srcdir = getenv("srcdir");
    fill_stats(&m.stats);
    m.counts = (struct kv_counts){326, 327000010, 328};
    m.store_bytes = 329;
    queue_add("mail", 4);
    queue_add("a\"b\\c\xff", 6);
    fill_meter(meters.own[0], 100);
    fill_meter(meters.own[1], 200);
    fill_meter(&meters.others, 300);
    atomic_store(&meters.others_n, 1);
    fill_histogram(&commits.rows, dassie__scale_rows.n, 400);
    fill_histogram(&commits.bytes, dassie__scale_bytes.n, 500);
    fill_histogram(&commits.time, dassie__scale_commit.n, 600);
    text_make(&m);
    temp_path(path, srcdir != NULL ? srcdir : ".", "test/metrics.txt");
    if (strcmp(file_text(path), text) != 0) {
        temp_file_write(".", "metrics.out", text, strlen(text));
        ck_abort_msg("metrics.out is not test/metrics.txt");
    }
    text_free();
    meters_end();
}
END_TEST

START_TEST(not_open)
{
    struct metrics m = metrics_of();
    m.meters = NULL;
    text_make(&m);
    has_line("# TYPE dassie_jobs gauge");
    ck_assert_ptr_null(strstr(text, "dassie_jobs{"));
    has_line("dassie_queues 0");
    text_free();
}
END_TEST

START_TEST(no_memory)
{
    struct metrics m = metrics_of();
    unsigned n = 0;
    int rc;
    ck_assert_int_eq(
        dassie_replace_allocator(cr_malloc, cr_realloc, cr_calloc, cr_free), 0);
    for (unsigned i = 0; i < 20; i++) {
        queue_add("a queue", 7);
    }
    do {
        size_t len;
        cr_mem_fail(++n);
        text = NULL;
        rc = dassie__metrics_text(&m, &text, &len);
        ck_assert_int_eq(rc, cr_mem_failed() ? UV_ENOMEM : 0);
        ck_assert_int_eq(text == NULL, rc != 0);
    } while (rc != 0);
    ck_assert_uint_gt(n, 1); /* it grows more than once */
    text_free();
    meters_end();
    ck_assert_uint_eq(cr_mem.live, 0);
}
END_TEST

/* ---- What the core counts ---- */

static const struct meter *meter_of(const char *queue)
{
    struct queue *q =
        dassie__queues_find(&core->store.queues, queue, strlen(queue));
    ck_assert_ptr_nonnull(q);
    return q->meter;
}

static void has_jobs(const char *queue, int state, uint64_t n)
{
    ck_assert_uint_eq(meter_get(&meter_of(queue)->jobs[state]), n);
}

static void has_event(const char *queue, enum event event, uint64_t n)
{
    ck_assert_uint_eq(meter_get(&meter_of(queue)->events[event]), n);
}

static void has_times(const struct histogram *h, uint64_t n, uint64_t sum)
{
    uint64_t found = 0;
    for (int i = 0; i <= BUCKETS_MAX; i++) {
        found += meter_get(&h->n[i]);
    }
    ck_assert_uint_eq(found, n);
    ck_assert_uint_eq(meter_get(&h->sum), sum);
}

static void put_ready(uint64_t ready_ms)
{
    job_t *job = cr_job("a", 0, 0, 7);
    job->ready_ms = ready_ms;
    cr_put_job(job);
}

/* The next job of p begins now, and takes so long; the engine hears of it a
 * while later. */
static void run(struct dassie__processor *p, uint64_t ms, int status)
{
    job_t *job = cr_start(p);
    ck_assert_ptr_nonnull(job);
    job->began_ns = core->mono_ns;
    job->ran_ns = ms * CR_MS;
    cr_pass(ms + 3);
    cr_end(job, status);
    cr_step();
}

/* One whose time comes goes straight from the schedule to a processor. */
START_TEST(waits_from_its_time_on)
{
    cr_setup(RIG_MEM);
    struct job_options later = {.number = {0}};
    struct dassie__processor *p = cr_processor("a", 1, CR_ASYNC);
    later.number[JOB_DUE] = core->wall_ms + 1000;
    cr_put_job(cr_job_with("a", 0, &later));
    cr_turn();
    cr_pass(1040);
    cr_turns(2);
    run(p, 20, 0);
    has_times(&meter_of("a")->waiting, 1, 40);
}
END_TEST

START_TEST(times)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("a", 1, CR_ASYNC);
    core->options.attempts_max = 2;
    put_ready(core->wall_ms);
    cr_step();
    cr_pass(70);
    run(p, 20, 0);
    const struct meter *meter = meter_of("a");
    has_times(&meter->waiting, 1, 70);
    has_times(&meter->running, 1, 20000);
    ck_assert_uint_eq(meter_get(&meter->waiting.n[3]), 1);
    ck_assert_uint_eq(meter_get(&meter->running.n[4]), 1);
    /* Run before its time. */
    put_ready(core->wall_ms + 5000);
    cr_step();
    run(p, 1, UV_EIO);
    has_times(&meter->waiting, 2, 70);
    has_times(&meter->running, 2, 21000);
    /* Only the first run counts as waited for. */
    cr_pass(2000);
    dassie__core_promote(core);
    cr_step();
    run(p, 2, UV_EIO);
    has_times(&meter->waiting, 2, 70);
    has_times(&meter->running, 3, 23000);
    has_event("a", EVENT_RETRY, 1);
    has_event("a", EVENT_FAIL, 1);
    cr_teardown();
}
END_TEST

/* Jobs that stand on disk wait since they were enqueued, or were due. */
START_TEST(times_from_disk)
{
    struct job_row row = {.enqueued_ms = 1400};
    row.options.number[JOB_DUE] = _i == 0 ? 0 : 1650;
    cr_setup(RIG_MEM);
    size_t len =
        dassie__job_row_bytes(0, 0) + dassie__job_options_bytes(&row.options);
    job_t *job = dassie__job_new(len, 1);
    ck_assert_ptr_nonnull(job);
    dassie__job_row_write(job->row, &row);
    job->row[len] = 'a';
    job->batch_queue = (const char *)job->row + len;
    job->batch_queue_len = 1;
    job->due_ms = row.options.number[JOB_DUE];
    cr_put_job(job); /* nobody serves it: no window */
    cr_commit();
    cr_pass(1000);
    dassie__core_promote(core);
    cr_commit();
    struct dassie__processor *p = cr_processor("a", 1, CR_ASYNC);
    cr_step();
    run(p, 1, 0);
    has_times(&meter_of("a")->waiting, 1, _i == 0 ? 600 : 350);
    cr_teardown();
}
END_TEST

/* States are the store's, counters this process's. */
START_TEST(jobs)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("b", 1, CR_ASYNC);
    cr_put("a");
    cr_put("a");
    cr_put("b");
    cr_put("b");
    cr_put("b");
    cr_step();
    run(p, 1, 0);
    run(p, 1, UV_EIO);
    has_event("a", EVENT_ENQUEUE, 2);
    has_event("b", EVENT_HAND_OFF, 1);
    has_event("b", EVENT_COMPLETE, 1);
    has_event("b", EVENT_FAIL, 1);
    for (int round = 0; round < 2; round++) {
        has_jobs("a", DASSIE_PENDING, 2);
        has_jobs("b", DASSIE_PENDING, round == 0 ? 0 : 1);
        has_jobs("b", DASSIE_RUNNING, round == 0 ? 1 : 0);
        has_jobs("b", DASSIE_COMPLETE, 1);
        has_jobs("b", DASSIE_FAILED, 1);
        cr_rise();
    }
    has_event("a", EVENT_ENQUEUE, 0);
    has_event("b", EVENT_COMPLETE, 0);
    cr_teardown();
}
END_TEST

/* The same queues have a meter of their own, however often it is opened. */
START_TEST(limit)
{
    char name[16];
    struct metrics m = {.commits = &commits};
    cr_setup(RIG_MEM);
    for (int i = 0; i < DASSIE_METRICS_QUEUES_MAX + 2; i++) {
        snprintf(name, sizeof name, "q%d", i);
        cr_put(name);
    }
    cr_put(name);
    cr_commit();
    for (int round = 0; round < 2; round++) {
        const struct meters *found = &core->store.queues.meters;
        ck_assert_uint_eq(found->own_n, DASSIE_METRICS_QUEUES_MAX);
        ck_assert_uint_eq(found->others_n, 2);
        has_jobs("q0", DASSIE_PENDING, 1);
        has_jobs(name, DASSIE_PENDING, 3);
        ck_assert_ptr_eq(meter_of(name), &found->others);
        m.meters = found;
        text_make(&m);
        has_line("dassie_jobs{queue=\"q0\",state=\"pending\"} 1");
        has_line("dassie_jobs{queue=\"q255\",state=\"pending\"} 1");
        has_line("dassie_jobs{state=\"pending\"} 3");
        ck_assert_ptr_null(strstr(text, "q256"));
        text_free();
        cr_rise();
    }
    cr_teardown();
}
END_TEST

/* ---- What RocksDB counts ---- */

static struct kv *kv_new(const char *dir)
{
    struct kv_rocks_options options = {
        .dir = dir, .memory_bytes = 65536, .create = true};
    struct kv *kv;
    struct errmsg e;
    CR_OK(dassie__kv_rocks_open(&options, &kv, &e));
    return kv;
}

static struct kv_counts counts_of(struct kv *kv)
{
    struct kv_counts counts = {0, 0, 0};
    kv->ops->counts(kv, &counts);
    return counts;
}

static void kv_end(struct kv *kv, const char *dir)
{
    ck_assert(kv->ops->close(kv, true));
    temp_dir_remove(dir);
}

static struct kv_slice kv_key(uint8_t key[KEY_NUMBER_BYTES], uint64_t n)
{
    dassie__key_number(key, n);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

/* With next to no memory, writing is faster than RocksDB for long. */
START_TEST(stalls)
{
    enum { BYTES = 1 << 18, COMMITS_MAX = 20000 };
    static const char row[BYTES];
    char dir[TEMP_PATH_BYTES];
    uint8_t key[KEY_NUMBER_BYTES];
    struct errmsg e;
    temp_dir_make(dir);
    struct kv *kv = kv_new(dir);
    ck_assert_uint_eq(counts_of(kv).stall_us, 0);
    for (uint64_t i = 0; i < COMMITS_MAX && counts_of(kv).stalls == 0; i++) {
        kv->ops->put(kv, FAMILY_JOBS, kv_key(key, i % 8),
                     kv_slice(row, sizeof row));
        CR_OK(kv->ops->commit(kv, false, &e));
    }
    ck_assert_uint_eq(counts_of(kv).stalls, 1);
    ck_assert_uint_gt(counts_of(kv).stall_us, 0);
    kv_end(kv, dir);
}
END_TEST

static void kv_walk(struct kv *kv)
{
    uint8_t from[KEY_NUMBER_BYTES];
    uint8_t to[KEY_NUMBER_BYTES];
    struct errmsg e;
    struct kv_iter *it =
        kv->ops->iter(kv, NULL, FAMILY_JOBS, kv_key(from, 0), kv_key(to, 1000));
    ck_assert_ptr_nonnull(it);
    CR_OK(kv_skip_dead(kv, it, &e));
    ck_assert(!kv->ops->iter_valid(it));
    CR_OK(kv->ops->iter_close(it, &e));
}

/* Rows deleted one by one, then others by a range. */
START_TEST(skipped)
{
    enum { ROWS = 20 };
    char dir[TEMP_PATH_BYTES];
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t end[KEY_NUMBER_BYTES];
    struct errmsg e;
    temp_dir_make(dir);
    struct kv *kv = kv_new(dir);
    for (uint64_t i = 0; i < 2 * ROWS; i++) {
        kv->ops->put(kv, FAMILY_JOBS, kv_key(key, i), kv_slice("x", 1));
    }
    CR_OK(kv->ops->commit(kv, false, &e));
    for (uint64_t i = 0; i < ROWS; i++) {
        kv->ops->del(kv, FAMILY_JOBS, kv_key(key, i));
    }
    kv->ops->del_range(kv, FAMILY_JOBS, kv_key(key, ROWS),
                       kv_key(end, 2 * ROWS));
    CR_OK(kv->ops->commit(kv, false, &e));
    ck_assert_uint_eq(counts_of(kv).skipped, 0);
    kv_walk(kv);
    ck_assert_uint_ge(counts_of(kv).skipped, 2 * ROWS);
    ck_assert_uint_le(counts_of(kv).skipped, 3 * ROWS);
    kv_end(kv, dir);
}
END_TEST

static Suite *metrics_suite(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, buckets, 0, 5);
    tcase_add_loop_test(tc, label, 0, (int)(sizeof labels / sizeof labels[0]));
    tcase_add_test(tc, golden);
    tcase_add_test(tc, not_open);
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, times);
    tcase_add_test(tc, waits_from_its_time_on);
    tcase_add_loop_test(tc, times_from_disk, 0, 2);
    tcase_add_test(tc, jobs);
    tcase_add_test(tc, limit);
    tcase_add_test(tc, stalls);
    tcase_add_test(tc, skipped);
    return suite;
}

int main(void)
{
    return cr_run_suite(metrics_suite());
}
