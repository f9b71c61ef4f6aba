/* What users see of events. */
#include "config.h"

#include "queue_rig.h"

#include <check.h>
#include <stdlib.h>

#define SEEN_MAX 32768

/* What an earlier test left in this process. */
static void forget(void);

static void setup(void)
{
    forget();
    rig_begin();
}

/* ---- A subscriber that keeps what it is told ---- */

static struct seen {
    dassie_subscription_t sub;
    dassie_event_t event[SEEN_MAX];
    int n;
    uint64_t missed;
    uint64_t missed_at_end; /* after all events */
    bool unsubscribes;
} seen;

static void on_event(dassie_subscription_t *sub, const dassie_event_t *events,
                     size_t n, uint64_t missed)
{
    struct seen *s = sub->data;
    ck_assert_ptr_eq(sub, &s->sub);
    ck_assert_int_eq(events == NULL, n == 0);
    ck_assert(n > 0 || missed > 0);
    s->missed += missed;
    s->missed_at_end = n == 0 ? missed : 0;
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_lt(s->n, SEEN_MAX);
        ck_assert_uint_eq(strlen(events[i].queue), events[i].queue_len);
        ck_assert_uint_gt(events[i].at_ms, 0);
        s->event[s->n++] = events[i];
    }
    if (s->unsubscribes) {
        ck_assert_int_eq(dassie_unsubscribe(sub), 0);
        memset(&s->sub, 0, sizeof s->sub); /* it is ours again */
    }
}

static void subscribe(struct seen *s, const char *queue, unsigned states)
{
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    memset(s, 0, sizeof *s);
    s->sub.data = s;
    options.queue = queue;
    options.states = states;
    ck_assert_int_eq(dassie_subscribe(&rig.q, &s->sub, &options, on_event), 0);
}

static int codes[8]; /* how the n-th run ends */
static int runs;

static void on_start(dassie_job_t *job)
{
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      codes[runs++], NULL, 0),
        0);
}

static dassie_processor_t processors[2];
static int processors_n;

static void process(const char *queue)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.start = on_start;
    ck_assert_int_eq(
        dassie_process(&rig.q, &processors[processors_n++], &options), 0);
}

/* All events so far are "from>to attempts code", one after the other. */
static void saw(const char *expected)
{
    static const char names[] = "-PSR?CFX";
    char text[512] = "";
    size_t n = 0;
    for (int i = 0; i < seen.n; i++) {
        const dassie_event_t *e = &seen.event[i];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%c%c%u%s",
                              i > 0 ? " " : "", names[e->from + 1],
                              names[e->to + 1], e->attempts,
                              e->code == 0 ? "" : "!");
    }
    ck_assert_str_eq(text, expected);
}

/* ---- Tests ---- */

START_TEST(life)
{
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    codes[0] = UV_EIO;
    subscribe(&seen, NULL, 0);
    spec.attempts_max = 2;
    spec.backoff_ms = 1;
    uint64_t id = rig_try_enqueue(&spec, &status);
    rig_wait(&seen.n, 1);
    saw("-P0");
    process(NULL);
    rig_wait(&seen.n, 6);
    saw("-P0 PR1 RS1! SP1 PR2 RC2");
    ck_assert_uint_eq(seen.event[2].id, id);
    ck_assert_int_eq(seen.event[2].code, UV_EIO);
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    dassie_change_t req = {.data = NULL};
    filter.id = id;
    ck_assert_int_eq(dassie_change(&rig.q, &req, DASSIE_DELETE, &filter, NULL),
                     0);
    rig_wait(&seen.n, 7);
    saw("-P0 PR1 RS1! SP1 PR2 RC2 C-2");
    seen.n = 0;
    codes[2] = UV_EIO;
    rig_enqueue(NULL, "x");
    rig_wait(&seen.n, 2);
    saw("-R1 RF1!"); /* handed off */
    ck_assert_uint_eq(seen.missed, 0);
}
END_TEST

START_TEST(filters)
{
    static struct seen mail;
    static struct seen both;
    subscribe(&seen, NULL, DASSIE_IN(DASSIE_COMPLETE));
    subscribe(&mail, "mail", 0);
    subscribe(&both, "web", DASSIE_IN(DASSIE_RUNNING));
    process("mail");
    process("web");
    rig_enqueue("mail", "x");
    rig_enqueue("web", "x");
    rig_drain();
    rig_wait(&seen.n, 2);
    rig_wait(&mail.n, 2);
    rig_wait(&both.n, 1);
    saw("RC1 RC1");
    ck_assert_str_eq(mail.event[1].queue, "mail");
    ck_assert_int_eq(mail.event[1].to, DASSIE_COMPLETE);
    ck_assert_str_eq(both.event[0].queue, "web");
    rig_close(); /* all that was told is told before */
    ck_assert_int_eq(mail.n, 2);
    ck_assert_int_eq(both.n, 1);
    rig_open();
}
END_TEST

static dassie_job_t *held;

static void on_hold(dassie_job_t *job)
{
    held = job;
}

static void subscribe_progress(struct seen *s, unsigned states)
{
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    memset(s, 0, sizeof *s);
    s->sub.data = s;
    options.queue = "default";
    options.states = states;
    options.progress = 1;
    ck_assert_int_eq(dassie_subscribe(&rig.q, &s->sub, &options, on_event), 0);
}

/* Waits until the n-th event or a later one tells that; returns which one. What
 * was said before may be told, too, if much time has passed; but not twice. */
static int told_progress(int n, uint64_t done)
{
    uint64_t before = n > 1 ? seen.event[n - 1].progress_done : 0;
    for (;; n++) {
        rig_wait(&seen.n, n + 1);
        const dassie_event_t *e = &seen.event[n];
        ck_assert_int_eq(e->progress, 1);
        ck_assert_uint_eq(e->progress_total, 10);
        ck_assert(e->from == DASSIE_RUNNING && e->to == DASSIE_RUNNING);
        ck_assert_uint_gt(e->progress_done, before);
        before = e->progress_done;
        if (before == done) {
            return n;
        }
    }
}

/* The last that a job has said, whenever it is written, to those who asked. */
START_TEST(progress)
{
    static struct seen plain;
    static struct seen ends;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    spec.attempts_max = 1;
    options.start = on_hold;
    subscribe_progress(&seen, 0);
    subscribe_progress(&ends, DASSIE_IN(DASSIE_FAILED));
    subscribe(&plain, "default", 0);
    ck_assert_int_eq(dassie_process(&rig.q, &processors[0], &options), 0);
    uint64_t id = rig_try_enqueue(&spec, &status);
    rig_wait(&seen.n, 1);
    ck_assert_int_eq(dassie_job_progress(held, 1, 10, "one", 0), 0);
    ck_assert_int_eq(dassie_job_progress(held, 2, 10, NULL, 0), 0);
    int n = told_progress(1, 2);
    ck_assert_int_eq(dassie_job_step(held, 5, 10), 0);
    n = told_progress(n + 1, 5);
    ck_assert_int_eq(dassie_job_checkpoint(held, "x", 1), 0);
    rig_enqueue("other", "x"); /* its commit takes the checkpoint along */
    ck_assert_int_eq(dassie_job_progress(held, 7, 10, NULL, 0), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, UV_EIO, NULL, 0), 0);
    n = told_progress(n + 1, 7);
    rig_wait(&seen.n, n + 2);
    ck_assert_int_eq(seen.event[n + 1].to, DASSIE_FAILED);
    ck_assert_int_eq(seen.event[n + 1].progress, 0);
    rig_wait(&plain.n, 2);
    rig_wait(&ends.n, 1);
    ck_assert_int_eq(plain.n, 2);
    ck_assert_int_eq(ends.n, 1);
}
END_TEST

static void enqueue_many(uint32_t n)
{
    static dassie_enqueue_many_t req;
    dassie_spec_t *specs = calloc(n, sizeof *specs);
    memset(&req, 0, sizeof req);
    for (uint32_t i = 0; i < n; i++) {
        specs[i] = rig_spec(NULL, NULL);
    }
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &req, specs, n, NULL), 0);
    free(specs);
}

static int drained(void)
{
    return seen.n + (int)seen.missed;
}

/* What has no room is counted, where it is missing. */
START_TEST(slow)
{
    const int n = 3 * DASSIE_EVENTS_MAX;
    int all = 0;
    subscribe(&seen, NULL, 0);
    enqueue_many((uint32_t)n); /* one commit: the loop cannot be in time */
    while (all < n) {
        uv_run(&rig.loop, UV_RUN_ONCE);
        all = drained();
    }
    ck_assert_int_eq(all, n);
    ck_assert_int_eq(seen.n, DASSIE_EVENTS_MAX);
    ck_assert_uint_eq(seen.missed_at_end, (uint64_t)n - DASSIE_EVENTS_MAX);
    for (int i = 0; i < seen.n; i++) {
        ck_assert_uint_eq(seen.event[i].id, (uint64_t)i + 1);
    }
    seen.n = 0;
    seen.missed = 0;
    rig_enqueue(NULL, "x");
    rig_wait(&seen.n, 1);
    ck_assert_uint_eq(seen.missed, 0);
    ck_assert_uint_eq(seen.event[0].id, (uint64_t)n + 1);
}
END_TEST

/* A subscription costs no row. */
START_TEST(no_rows)
{
    uint64_t rows[2];
    process(NULL);
    for (int i = 0; i < 2; i++) {
        rig_enqueue(NULL, "warm");
        rig_drain();
        uint64_t before = rig_stats().rows;
        rig_enqueue(NULL, "x");
        rig_drain();
        rows[i] = rig_stats().rows - before;
        if (i == 0) {
            subscribe(&seen, NULL, 0);
        }
    }
    ck_assert_uint_eq(rows[0], rows[1]);
    ck_assert_int_ge(seen.n, 4);
}
END_TEST

START_TEST(ends_in_its_callback)
{
    static struct seen other;
    subscribe(&seen, NULL, 0);
    subscribe(&other, NULL, 0);
    seen.unsubscribes = true;
    rig_enqueue(NULL, "x");
    rig_enqueue(NULL, "x");
    rig_wait(&other.n, 2);
    ck_assert_int_eq(seen.n, 1);
    ck_assert_int_eq(dassie_unsubscribe(&other.sub), 0);
    ck_assert_int_eq(dassie_unsubscribe(&other.sub), UV_EINVAL);
    rig_enqueue(NULL, "x");
    ck_assert_int_eq(other.n, 2);
    subscribe(&seen, NULL, 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_unsubscribe(&seen.sub), 0);
    rig_wait(&rig.closed, 1);
    rig_open();
}
END_TEST

START_TEST(bad)
{
    static dassie_subscription_t subs[DASSIE_SUBSCRIPTIONS_MAX + 1];
    dassie_subscribe_options_t o = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    ck_assert_int_eq(dassie_subscribe(&rig.q, NULL, NULL, on_event), UV_EINVAL);
    ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[0], NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_unsubscribe(NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_unsubscribe(&subs[0]), UV_EINVAL);
    o.states = DASSIE_IN(3);
    ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[0], &o, on_event),
                     UV_EINVAL);
    o.states = DASSIE_IN(DASSIE_CANCELLED + 1);
    ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[0], &o, on_event),
                     UV_EINVAL);
    o.states = 0;
    o.queue = "";
    ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[0], &o, on_event),
                     UV_EINVAL);
    for (int i = 0; i < DASSIE_SUBSCRIPTIONS_MAX; i++) {
        ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[i], NULL, on_event), 0);
    }
    ck_assert_int_eq(dassie_subscribe(&rig.q, &subs[DASSIE_SUBSCRIPTIONS_MAX],
                                      NULL, on_event),
                     UV_ENOBUFS);
}
END_TEST

static void forget(void)
{
    memset(&seen, 0, sizeof seen);
    memset(codes, 0, sizeof codes);
    runs = 0;
    processors_n = 0;
}

int main(void)
{
    Suite *suite = suite_create("events");
    TCase *tc = tcase_create("events");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, rig_finish);
    tcase_add_test(tc, life);
    tcase_add_test(tc, filters);
    tcase_add_test(tc, progress);
    tcase_add_test(tc, slow);
    tcase_add_test(tc, no_rows);
    tcase_add_test(tc, ends_in_its_callback);
    tcase_add_test(tc, bad);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
