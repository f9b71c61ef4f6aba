/* child.c: one life of the store's owner. */
#include "config.h"

#include "../tree.h"
#include "order.h"
#include "session.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KILL_WITHIN 300 /* operations; then it comes between two of them */
#define PATIENCE_S 120  /* for one session; only a fault takes so long */
#define GRACE_MS 5
#define SUSPECT_MS 10

struct session session;

static atomic_long blocks; /* of the library's memory */

/* ---- Memory ---- */

static void *count_malloc(size_t size)
{
    void *p = malloc(size);
    blocks += p != NULL;
    return p;
}

static void *count_calloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    blocks += p != NULL;
    return p;
}

static void *count_realloc(void *old, size_t size)
{
    void *p = realloc(old, size);
    blocks += old == NULL && p != NULL;
    return p;
}

static void count_free(void *p)
{
    blocks -= p != NULL;
    free(p);
}

/* ---- Kills ---- */

void session_kill_point(enum kill where)
{
    if (session.kill == (int)where) {
        raise(SIGKILL);
    }
}

static void kill_thread(void *arg)
{
    usleep((useconds_t)(uintptr_t)arg);
    raise(SIGKILL);
}

static void kill_later(unsigned us)
{
    static uv_thread_t thread;
    MODEL_CHECK(
        uv_thread_create(&thread, kill_thread, (void *)(uintptr_t)us) == 0,
        "no thread");
}

/* One kill in three is followed by another, once the next child runs its first
 * job: that may be a suspect, alone. */
static void kill_arm(void)
{
    struct dice dice = dice_of(ledger->seed, ledger->op, UINT64_C(3) << 32);
    /* What was just told is what a kill must not undo. */
    if (ledger->kill_soon) {
        session.kill = KILL_WORK + (int)dice_below(&dice, 3);
    } else if (dice_one_in(&dice, 3)) {
        session.kill = KILL_ACK + (int)dice_below(&dice, 2);
    } else {
        session.kill = KILL_BETWEEN + (int)dice_below(&dice, KILLS - 1);
    }
    if (!ledger->kill_soon) {
        ledger->kill_at += KILL_EVERY;
    }
    ledger->kill_soon = dice_one_in(&dice, 3);
    ledger->wants_kill = true;
    session.armed_at = ledger->op;
    session_kill_point(KILL_BETWEEN);
    if (session.kill == KILL_THREAD) {
        kill_later(dice_below(&dice, 3000));
    }
}

/* ---- The loop ---- */

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

void session_wait(const bool *flag)
{
    while (!*flag) {
        uv_run(&session.loop, UV_RUN_ONCE);
    }
}

/* ---- Verify ---- */

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    model_fail("verify: job %" PRIu64 ": %s", id, line);
}

/* Says what a store that nobody has open holds. */
static void store_verify(const char *path, dassie_count_t *count)
{
    dassie_verify_report_t report;
    memset(count, 0, sizeof *count);
    int rc = CALL(dassie_verify)(path, on_problem, NULL, &report);
    if (rc == UV_ENOENT && ledger->jobs_n == 0) {
        return;
    }
    MODEL_CHECK(rc == 0 && report.problems == 0, "verify: %d, %" PRIu64, rc,
                report.problems);
    *count = report.jobs;
}

/* ---- Open and check ---- */

static bool opened;

static void on_open(dassie_t *q, int status)
{
    MODEL_CHECK(status == 0, "open: %d %s", status, CALL(dassie_errmsg)(q));
    opened = true;
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    MODEL_CHECK(level != DASSIE_LOG_ERROR, "log: %s", line);
}

static void on_pressure(dassie_t *q, int pressure)
{
    (void)q;
    MODEL_CHECK(pressure != session.pressure, "pressure: %d twice", pressure);
    session.pressure = pressure;
}

static bool answered;
static bool all_listed;
static dassie_count_t counted;
static int count_status;

static void on_check_list(dassie_list_t *req, int status,
                          const dassie_info_t *jobs, size_t n)
{
    const dassie_state_t *state = req->data;
    MODEL_CHECK(status == 0, "list: %d", status);
    for (size_t i = 0; i < n; i++) {
        MODEL_CHECK(jobs[i].state == *state, "list: another state");
        model_open_job(&jobs[i]);
    }
    all_listed = n == 0;
    answered = true;
}

static void check_state(dassie_state_t state)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    dassie_list_t req = {.data = &state};
    options.state = state;
    options.limit = DASSIE_LIST_MAX;
    for (all_listed = false; !all_listed;) {
        answered = false;
        int rc = CALL(dassie_list)(&session.q, &req, &options, on_check_list);
        MODEL_CHECK(rc == 0, "list: %d", rc);
        session_wait(&answered);
    }
}

static void on_check_counts(dassie_counts_t *req, int status,
                            const dassie_count_t *count)
{
    (void)req;
    count_status = status;
    memset(&counted, 0, sizeof counted);
    if (status == 0) {
        counted = *count;
    }
    answered = true;
}

static bool same_counts(const dassie_count_t *a, const dassie_count_t *b)
{
    /* What is scheduled may become due at any time, and what waits too late. */
    return a->pending + a->scheduled + a->cancelled ==
               b->pending + b->scheduled + b->cancelled &&
           a->running == b->running && a->complete == b->complete &&
           a->failed == b->failed;
}

static void check_counts(unsigned queue)
{
    dassie_counts_t req = {0};
    dassie_count_t expected;
    size_t len = 0;
    const char *name = queue < PLAN_QUEUES ? plan_queue(queue, &len) : NULL;
    answered = false;
    int rc = CALL(dassie_counts)(&session.q, &req, name, len, on_check_counts);
    MODEL_CHECK(rc == 0, "counts: %d", rc);
    session_wait(&answered);
    model_counts(queue, &expected);
    MODEL_CHECK(count_status == 0 || count_status == UV_ENOENT, "counts: %d",
                count_status);
    MODEL_CHECK(same_counts(&expected, &counted),
                "counts of queue %u: %" PRIu64 " %" PRIu64 " %" PRIu64
                " %" PRIu64 ", but %" PRIu64 " 0 %" PRIu64 " %" PRIu64,
                queue, counted.pending, counted.running, counted.complete,
                counted.failed, expected.pending, expected.complete,
                expected.failed);
}

static void on_check_queues(dassie_queues_t *req, int status,
                            const dassie_queue_info_t *queues, size_t n)
{
    (void)req;
    MODEL_CHECK(status == 0, "queues: %d", status);
    for (size_t i = 0; i < n; i++) {
        dassie_count_t expected;
        unsigned queue = plan_queue_find(queues[i].name, queues[i].name_len);
        MODEL_CHECK(queue < PLAN_QUEUES, "a queue '%s'", queues[i].name);
        model_counts(queue, &expected);
        MODEL_CHECK(same_counts(&expected, &queues[i].jobs),
                    "counts of the queue '%s'", queues[i].name);
    }
    answered = true;
}

static void check_queues(void)
{
    dassie_queues_t req = {0};
    answered = false;
    int rc = CALL(dassie_queues)(&session.q, &req, on_check_queues);
    MODEL_CHECK(rc == 0, "queues: %d", rc);
    session_wait(&answered);
}

/* What the metrics say of a queue, whose name is not in plain letters. */
static uint64_t told_jobs(const char *text, unsigned queue, const char *state)
{
    char sample[64 + 5 * DASSIE_NAME_BYTES_MAX];
    size_t name_len;
    const char *name = plan_queue(queue, &name_len);
    int len = snprintf(sample, sizeof sample, "\ndassie_jobs{queue=\"");
    for (size_t i = 0; i < name_len; i++) {
        bool plain = name[i] >= ' ' && name[i] < 0x7f && name[i] != '\\';
        len += snprintf(sample + len, sizeof sample - (size_t)len,
                        plain ? "%c" : "\\\\x%02x",
                        plain ? name[i] : (unsigned char)name[i]);
    }
    snprintf(sample + len, sizeof sample - (size_t)len, "\",state=\"%s\"} ",
             state);
    const char *found = strstr(text, sample);
    return found != NULL ? strtoull(found + strlen(sample), NULL, 10) : 0;
}

static void on_check_metrics(dassie_metrics_t *req, int status,
                             const char *text, size_t len)
{
    (void)req;
    MODEL_CHECK(status == 0 && strlen(text) == len, "metrics: %d", status);
    for (unsigned queue = 0; queue < PLAN_QUEUES; queue++) {
        dassie_count_t expected;
        dassie_count_t told = {
            .pending = told_jobs(text, queue, "pending"),
            .scheduled = told_jobs(text, queue, "scheduled"),
            .running = told_jobs(text, queue, "running"),
            .complete = told_jobs(text, queue, "complete"),
            .failed = told_jobs(text, queue, "failed"),
            .cancelled = told_jobs(text, queue, "cancelled")};
        model_counts(queue, &expected);
        MODEL_CHECK(same_counts(&expected, &told), "metrics of queue %u:\n%s",
                    queue, text);
    }
    answered = true;
}

static void check_metrics(void)
{
    dassie_metrics_t req = {0};
    answered = false;
    int rc = CALL(dassie_metrics)(&session.q, &req, on_check_metrics);
    MODEL_CHECK(rc == 0, "metrics: %d", rc);
    session_wait(&answered);
}

static void on_check_rows(dassie_check_t *req, int status,
                          const dassie_verify_report_t *report)
{
    dassie_count_t now;
    model_counts(PLAN_QUEUES, &now);
    MODEL_CHECK(status == 0 && report->problems == 0, "check: %d, %s", status,
                req->problems_n > 0 ? req->problems[0].line : "");
    MODEL_CHECK(same_counts(&report->jobs, &now), "recounted");
    answered = true;
}

static void check_rows(void)
{
    dassie_check_t req = {0};
    answered = false;
    int rc = CALL(dassie_check)(&session.q, &req, on_check_rows);
    MODEL_CHECK(rc == 0, "check: %d", rc);
    session_wait(&answered);
}

static void on_check_copy(dassie_backup_t *req, int status)
{
    (void)req;
    MODEL_CHECK(status == 0, "backup: %d", status);
    answered = true;
}

/* Now and then, as it makes a whole store; a kill may have left one. */
static void check_copy(const char *path)
{
    char copy[PATH_MAX + 8];
    dassie_backup_t req = {0};
    dassie_count_t now;
    dassie_count_t copied;
    if (ledger->session % COPY_EVERY != 1) {
        return;
    }
    snprintf(copy, sizeof copy, "%s.copy", path);
    tree_remove(copy); /* if there is one */
    answered = false;
    int rc = CALL(dassie_backup)(&session.q, &req, copy, on_check_copy);
    MODEL_CHECK(rc == 0, "backup: %d", rc);
    session_wait(&answered);
    store_verify(copy, &copied);
    model_counts(PLAN_QUEUES, &now);
    MODEL_CHECK(same_counts(&copied, &now), "the copy has other jobs");
    MODEL_CHECK(tree_remove(copy) == 0, "the copy");
}

/* before: as the rows alone say. */
static void check_totals(const dassie_count_t *before)
{
    dassie_stats_t stats;
    dassie_count_t now;
    model_counts(PLAN_QUEUES, &now);
    int rc = CALL(dassie_stats)(&session.q, &stats);
    MODEL_CHECK(rc == 0 && same_counts(&stats.jobs, &now), "stats: %d", rc);
    MODEL_CHECK(stats.enqueued == 0 && stats.completed == 0 &&
                    stats.claimed == 0 && stats.inbox_jobs == 0,
                "stats: not new");
    uint64_t changed = before->running;
    MODEL_CHECK(before->complete == now.complete &&
                    before->failed <= now.failed &&
                    now.failed - before->failed <= changed &&
                    before->pending + before->scheduled + before->running +
                            before->failed + before->cancelled ==
                        now.pending + now.failed + now.cancelled,
                "an open changes counts");
    MODEL_CHECK(ledger->killed || changed == 0, "running after a close");
}

static void session_check(const char *path, const dassie_count_t *before)
{
    model_open_begin();
    check_state(DASSIE_SCHEDULED);
    check_state(DASSIE_PENDING);
    check_state(DASSIE_RUNNING);
    check_state(DASSIE_COMPLETE);
    check_state(DASSIE_FAILED);
    check_state(DASSIE_CANCELLED);
    model_open_end();
    for (unsigned q = 0; q <= PLAN_QUEUES; q++) {
        check_counts(q);
    }
    check_queues();
    check_metrics();
    check_rows();
    check_copy(path);
    check_totals(before);
    order_open();
    ledger->killed = false;
}

static void options_choose(void)
{
    static const dassie_options_t init = DASSIE_OPTIONS_INIT;
    struct dice dice =
        dice_of(ledger->seed, ledger->session, UINT64_C(4) << 32);
    dassie_options_t *o = &session.options;
    *o = init;
    o->durability = ledger->seed % 2 == 0 ? DASSIE_FULL : DASSIE_OFF;
    o->commit_delay_ms = dice_one_in(&dice, 16);
    o->grace_ms = GRACE_MS;
    o->suspect_ms = SUSPECT_MS;
    o->max_crashes = ledger->max_crashes;
    o->payload_bytes_max = PLAN_PAYLOAD_MAX;
    o->inbox_jobs_max = dice_one_in(&dice, 3) ? 8 : 0;
    o->memory_bytes = dice_one_in(&dice, 2) ? DASSIE_MEMORY_BYTES_MIN : 0;
    o->free_bytes_min = 1;
    o->log_cb = on_log;
    o->pressure_cb = on_pressure;
    o->pending_jobs_high = dice_one_in(&dice, 2) ? 20 : 0;
    o->pending_bytes_high = dice_one_in(&dice, 2) ? 2000 : 0;
    if (ledger->session > 1) {
        o->flags = DASSIE_NO_CREATE;
    }
}

static void session_open(const char *path)
{
    dassie_count_t before;
    alarm(PATIENCE_S);
    store_verify(path, &before);
    int kill = session.kill;
    unsigned armed_at = session.armed_at;
    memset(&session, 0, sizeof session);
    session.kill = kill;
    session.armed_at = armed_at;
    if (ledger->killed) {
        ledger->killed_in = ledger->session;
    }
    ledger->session++;
    options_choose();
    workers_open();
    opened = false;
    MODEL_CHECK(uv_loop_init(&session.loop) == 0, "no loop");
    uv_timer_init(&session.loop, &session.timer);
    uv_timer_start(&session.timer, on_timer, 100, 100);
    int rc = CALL(dassie_init)(&session.loop, &session.q);
    MODEL_CHECK(rc == 0, "init: %d", rc);
    rc = CALL(dassie_open)(&session.q, path, &session.options, on_open);
    MODEL_CHECK(rc == 0, "open: %d", rc);
    if (kill == KILL_OPENING) {
        kill_later((unsigned)(ledger->op * 7919 % 10000));
    }
    session_wait(&opened);
    rc = CALL(dassie_admin_listen)(&session.q, NULL);
    MODEL_CHECK(rc == 0, "admin_listen: %d", rc);
    model_subscribe();
    session_check(path, &before);
}

/* ---- Close ---- */

static void on_close(dassie_t *q)
{
    MODEL_CHECK(q == &session.q, "another queue is closed");
    session.closed = true;
}

static void session_close(void)
{
    ops_join();
    session.closing = true;
    int rc = CALL(dassie_close)(&session.q, on_close);
    MODEL_CHECK(rc == 0, "close: %d", rc);
    workers_closing();
    for (unsigned i = 0; session.kill == KILL_CLOSING && i < ledger->op % 5;
         i++) {
        uv_run(&session.loop, UV_RUN_ONCE);
    }
    session_kill_point(KILL_CLOSING);
    session_wait(&session.closed);
    MODEL_CHECK(session.outstanding == 0, "%d callbacks never came",
                session.outstanding);
    uv_close((uv_handle_t *)&session.timer, NULL);
    uv_run(&session.loop, UV_RUN_DEFAULT);
    MODEL_CHECK(uv_loop_close(&session.loop) == 0, "the loop is busy");
    MODEL_CHECK(blocks == 0, "%ld blocks of memory are left", blocks);
}

/* ---- A life ---- */

/* Operations up to the next close, or to the kill. */
static void session_run(unsigned last)
{
    while (ledger->op < last && ledger->op < ledger->close_at) {
        if (!ledger->wants_kill &&
            (ledger->kill_soon || ledger->op >= ledger->kill_at)) {
            kill_arm();
        }
        if (session.kill == KILL_CLOSING || session.kill == KILL_OPENING) {
            return;
        }
        if (ledger->wants_kill &&
            ledger->op >= session.armed_at + KILL_WITHIN) {
            raise(SIGKILL);
        }
        ops_one();
    }
    ledger->close_at = ledger->op + CLOSE_EVERY;
}

void child_run(const char *path)
{
    unsigned last = ledger->last;
    dassie_count_t count;
    MODEL_CHECK(CALL(dassie_replace_allocator)(count_malloc, count_realloc,
                                               count_calloc, count_free) == 0,
                "the allocator is not replaced");
    while (!ledger->done) {
        session_open(path);
        session_run(last);
        ledger->done = ledger->op >= last;
        session_close();
    }
    session_open(path);
    session_close();
    store_verify(path, &count);
    _exit(EXIT_SUCCESS);
}
