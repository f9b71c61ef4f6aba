/* Closing is legal in every state and from every callback; all that was asked
 * is answered exactly once, before the close callback; every job is in exactly
 * one state afterwards; the loop ends by itself and no memory is left. */
#include "config.h"

#include "queue_rig.h"

#include <stdatomic.h>

/* ---- Memory ---- */

static _Atomic long blocks; /* that the library has not given back */

static void *counting_malloc(size_t size)
{
    blocks++;
    return malloc(size);
}

static void *counting_realloc(void *p, size_t size)
{
    blocks += p == NULL;
    return realloc(p, size);
}

static void *counting_calloc(size_t n, size_t size)
{
    blocks++;
    return calloc(n, size);
}

static void counting_free(void *p)
{
    blocks -= p != NULL;
    free(p);
}

static void teardown(void)
{
    rig_teardown();
    ck_assert_int_eq(blocks, 0);
}

START_TEST(allocator)
{
    ck_assert_int_eq(dassie_replace_allocator(NULL, realloc, calloc, free),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_replace_allocator(malloc, NULL, calloc, free),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_replace_allocator(malloc, realloc, NULL, free),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_replace_allocator(malloc, realloc, calloc, NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_gt(blocks, 0);
    rig_close();
}
END_TEST

/* ---- All at once ---- */

#define BUSY_JOBS 8 /* with a processor, and as many as the inbox holds */
#define IDLE_JOBS 2 /* without one */
#define BATCH_JOBS 3
#define JOBS (BUSY_JOBS + IDLE_JOBS)

enum where {
    IN_OPEN,
    IN_ENQUEUE,
    IN_MANY,
    IN_DONE,
    IN_WATCH,
    IN_GET,
    IN_LIST,
    IN_COUNTS,
    IN_DRAIN,
    IN_START,
    IN_STOP,
    IN_LOG,
    IN_PRESSURE,
    WHERES
};

/* What was asked for and what was told, of one kind. */
struct asked {
    int accepted;
    int answered;
};

/* Where there are two requests, the first is made while the store is being
 * opened, the second when the busy jobs have ended. */
static struct {
    enum where close_in; /* close in the first callback of this kind, */
    int close_after;     /* or in this one of all; or in the last */
    int calls;
    int called[WHERES];
    bool closing;
    bool idle; /* the second part has begun */
    dassie_enqueue_t jobs[JOBS];
    int accepted[JOBS];
    int acks[JOBS];
    int ack_status[JOBS];
    int ends[JOBS];
    int end_status[JOBS];
    dassie_enqueue_many_t many;
    int many_status;
    dassie_watch_t watch[2];
    dassie_get_t get[2];
    dassie_list_t list[2];
    dassie_counts_t counts[2];
    dassie_drain_t drain[2];
    dassie_processor_t work;
    dassie_processor_t async;
    struct asked asked[WHERES];
    uv_timer_t timer; /* ends what was started */
    uint64_t started[BUSY_JOBS];
    int started_n;
} all;

static void close_now(void)
{
    all.closing = true;
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), UV_EALREADY);
}

/* Whether what was asked will be answered: always, until the close. */
static bool will_answer(enum where where, int rc)
{
    ck_assert_int_eq(rc, all.closing ? UV_ECANCELED : 0);
    all.asked[where].accepted += rc == 0;
    return rc == 0;
}

static void ask_idle(void);

/* Nothing more can happen: what is left are the ends of idle jobs, of which one
 * is watched, and a drain. */
static bool is_quiet(void)
{
    static const int left[WHERES] = {
        [IN_DONE] = IDLE_JOBS, [IN_WATCH] = 1, [IN_DRAIN] = 1};
    for (int i = 0; i < WHERES; i++) {
        if (all.asked[i].accepted - all.asked[i].answered != left[i]) {
            return false;
        }
    }
    return true;
}

/* Each callback goes through here. */
static void called(enum where where)
{
    ck_assert_int_eq(rig.closed, 0);
    all.calls++;
    bool now = all.called[where]++ == 0 && where == all.close_in;
    if (!all.closing && (now || all.calls == all.close_after)) {
        close_now();
    }
}

static void answered(enum where where)
{
    all.asked[where].answered++;
    called(where);
    if (where == IN_DRAIN && !all.idle) {
        ask_idle();
    }
    if (!all.closing && all.idle && is_quiet()) {
        close_now();
    }
}

static int good_or_canceled(int status)
{
    ck_assert(status == 0 || (all.closing && status == UV_ECANCELED));
    return status;
}

static void on_open(dassie_t *q, int status)
{
    rig_opened(q, status);
    ck_assert_int_eq(status, 0);
    answered(IN_OPEN);
}

static void watch(int i, uint64_t id);

static void on_ack(dassie_enqueue_t *req, int status)
{
    int job = (int)(req - all.jobs);
    all.acks[job]++;
    all.ack_status[job] = good_or_canceled(status);
    all.asked[IN_DONE].accepted += status == 0;
    if (job == BUSY_JOBS && !all.closing) {
        watch(1, req->id);
    }
    answered(IN_ENQUEUE);
}

static void on_done(dassie_enqueue_t *req, int status,
                    const dassie_info_t *info)
{
    int job = (int)(req - all.jobs);
    ck_assert_int_eq(all.acks[job], 1);
    ck_assert_int_eq(info == NULL, status != 0);
    all.ends[job]++;
    all.end_status[job] = good_or_canceled(status);
    answered(IN_DONE);
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    ck_assert_ptr_eq(req, &all.many);
    all.many_status = good_or_canceled(status);
    answered(IN_MANY);
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(job == NULL, status != 0);
    answered(IN_WATCH);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(job == NULL, status != 0);
    answered(IN_GET);
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    (void)jobs;
    ck_assert(good_or_canceled(status) == 0 || n == 0);
    answered(IN_LIST);
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    ck_assert_int_eq(count == NULL, good_or_canceled(status) != 0);
    answered(IN_COUNTS);
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    good_or_canceled(status);
    answered(IN_DRAIN);
}

static void on_stop(dassie_processor_t *p)
{
    ck_assert_ptr_eq(p, &all.work);
    answered(IN_STOP);
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    ck_assert_ptr_eq(q, &rig.q);
    ck_assert_int_eq(level, DASSIE_LOG_WARNING);
    ck_assert_ptr_nonnull(strstr(line, "concurrency"));
    called(IN_LOG);
}

static void on_pressure(dassie_t *q, int full)
{
    ck_assert_ptr_eq(q, &rig.q);
    ck_assert_int_eq(full, all.called[IN_PRESSURE] == 0);
    called(IN_PRESSURE);
}

static int work(dassie_job_t *job)
{
    return dassie_job_set_result(job, "done", 4);
}

static void start(dassie_job_t *job)
{
    all.started[all.started_n++] = dassie_job_id(job);
    uv_timer_start(&all.timer, all.timer.timer_cb, 0, 0);
    called(IN_START);
}

static void finish_started(uv_timer_t *timer)
{
    (void)timer;
    while (all.started_n > 0) {
        uint64_t id = all.started[--all.started_n];
        ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), 0);
    }
}

static void enqueue(int job, const char *queue)
{
    dassie_spec_t spec = rig_spec(queue, "payload");
    all.jobs[job].done_cb = on_done;
    all.accepted[job] = will_answer(
        IN_ENQUEUE, dassie_enqueue(&rig.q, &all.jobs[job], &spec, on_ack));
}

static void watch(int i, uint64_t id)
{
    will_answer(IN_WATCH, dassie_watch(&rig.q, &all.watch[i], id, on_watch));
}

static void look(int i)
{
    dassie_t *q = &rig.q;
    will_answer(IN_COUNTS,
                dassie_counts(q, &all.counts[i], NULL, 0, on_counts));
    will_answer(IN_LIST, dassie_list(q, &all.list[i], NULL, on_list));
    will_answer(IN_GET, dassie_get(q, &all.get[i], 1, on_get));
    will_answer(IN_DRAIN, dassie_drain(q, &all.drain[i], NULL, 0, on_drain));
}

static void ask_busy(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = "work";
    options.work = work;
    options.concurrency = DASSIE_CONCURRENCY_MAX; /* a warning */
    ck_assert_int_eq(dassie_process(&rig.q, &all.work, &options), 0);
    options.queue = "async";
    options.work = NULL;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, &all.async, &options), 0);
    for (int i = 0; i < BUSY_JOBS; i++) {
        enqueue(i, i % 2 == 0 ? "work" : "async");
    }
    dassie_spec_t spec = rig_spec("work", NULL);
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), UV_ENOBUFS);
    watch(0, 1);
    look(0);
}

static void ask_idle(void)
{
    dassie_spec_t specs[BATCH_JOBS];
    all.idle = true;
    for (int i = 0; i < BATCH_JOBS; i++) {
        specs[i] = rig_spec("batch", "payload");
    }
    will_answer(IN_MANY, dassie_enqueue_many(&rig.q, &all.many, specs,
                                             BATCH_JOBS, on_many));
    for (int i = BUSY_JOBS; i < JOBS; i++) {
        enqueue(i, "idle");
    }
    look(1);
    will_answer(IN_STOP, dassie_processor_stop(&all.work, on_stop));
}

/* The job that was told to have ended has ended; that which was not is as it
 * was. */
static void check_job(int job)
{
    struct rig_got got;
    const dassie_info_t *info = rig_get(&got, all.jobs[job].id);
    bool ended = all.end_status[job] == 0;
    ck_assert_int_eq(info->state, ended ? DASSIE_COMPLETE : DASSIE_PENDING);
    ck_assert_uint_eq(info->attempts, ended ? 1 : 0);
}

static void check_store(void)
{
    static const dassie_options_t options = DASSIE_OPTIONS_INIT;
    uint64_t jobs = all.asked[IN_MANY].accepted > 0 && all.many_status == 0
                        ? BATCH_JOBS
                        : 0;
    rig.options = options;
    rig_open();
    for (int i = 0; i < JOBS; i++) {
        bool there = all.accepted[i] && all.ack_status[i] == 0;
        ck_assert_int_eq(all.acks[i], all.accepted[i]);
        ck_assert_int_eq(all.ends[i], there);
        if (there) {
            check_job(i);
            jobs++;
        }
    }
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.pending + count.complete, jobs);
    ck_assert_uint_eq(count.running + count.failed, 0);
    rig_close();
    dassie_verify_report_t report = rig_verify();
    ck_assert_mem_eq(&report.jobs, &count, sizeof count);
}

/* Goes through all of it, and closes in a callback on the way. */
static void run_all(enum where close_in, int close_after)
{
    memset(&all, 0, sizeof all);
    all.close_in = close_in;
    all.close_after = close_after;
    rig.options.inbox_jobs_max = BUSY_JOBS;
    rig.options.log_cb = on_log;
    rig.options.pressure_cb = on_pressure;
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(uv_timer_init(&rig.loop, &all.timer), 0);
    all.timer.timer_cb = finish_started;
    rig_hold();
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    will_answer(IN_OPEN, dassie_open(&rig.q, rig.path, &rig.options, on_open));
    ask_busy();
    rig_release();
    rig_wait(&rig.closed, 1);
    uv_close((uv_handle_t *)&all.timer, NULL);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    for (int i = 0; i < WHERES; i++) {
        ck_assert_int_eq(all.asked[i].accepted, all.asked[i].answered);
    }
    check_store();
}

START_TEST(in_each_callback)
{
    run_all((enum where)_i, 0);
    ck_assert_int_gt(all.called[_i], 0);
}
END_TEST

START_TEST(after_each_callback)
{
    run_all(WHERES, 0);
    int calls = all.calls;
    for (int i = 0; i < WHERES; i++) {
        ck_assert_int_gt(all.called[i], 0);
    }
    for (int i = 1; i < calls; i++) {
        temp_dir_remove(rig.path);
        run_all(WHERES, i);
        ck_assert_int_ge(all.calls, i);
    }
}
END_TEST

/* ---- Any state ---- */

START_TEST(before_open)
{
    dassie_options_t bad = DASSIE_OPTIONS_INIT;
    bad.flags = UINT_MAX;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    if (_i == 1) {
        ck_assert_int_eq(dassie_open(&rig.q, rig.path, &bad, rig_opened),
                         UV_EINVAL);
    }
    rig.closed = 0;
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(rig.closed, 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), UV_EALREADY);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), UV_EINVAL);
    ck_assert_int_eq(rig.opened, 0);
}
END_TEST

/* The open is under way: it succeeds, or fails, and then it is closed. */
START_TEST(while_opening)
{
    struct rig_ack ack = {.n = 0};
    dassie_spec_t spec = rig_spec(NULL, "x");
    ack.req.data = &ack;
    rig.opened = rig.closed = 0;
    if (_i == 0) {
        rig_hold();
    } else {
        temp_file_write(rig.dir, "store", "x", 1);
    }
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack.req, &spec, rig_on_ack), 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    if (_i == 0) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        ck_assert_int_eq(rig.opened + ack.n + rig.closed, 0);
        rig_release();
    }
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(rig.opened, 1);
    ck_assert_int_eq(ack.n, 1);
    ck_assert_int_eq(rig.status, _i == 0 ? 0 : UV_ENOTDIR);
    ck_assert_int_eq(ack.status, _i == 0 ? 0 : UV_ECANCELED);
    if (_i == 0) {
        rig_open();
        ck_assert_uint_eq(rig_counts().pending, 1);
        rig_close();
    }
}
END_TEST

/* The same without a hold: at whatever point of the open that is. */
START_TEST(soon_after_open)
{
    for (unsigned i = 0; i < 20; i++) {
        struct rig_ack ack = {.n = 0};
        dassie_spec_t spec = rig_spec(NULL, "x");
        ack.req.data = &ack;
        rig.opened = rig.closed = 0;
        ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
        ck_assert_int_eq(
            dassie_open(&rig.q, rig.path, &rig.options, rig_opened), 0);
        ck_assert_int_eq(dassie_enqueue(&rig.q, &ack.req, &spec, rig_on_ack),
                         0);
        for (unsigned turns = 0; turns < i; turns++) {
            uv_run(&rig.loop, UV_RUN_NOWAIT);
            uv_sleep(1);
        }
        ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
        rig_wait(&rig.closed, 1);
        ck_assert_int_eq(rig.opened, 1);
        ck_assert_int_eq(ack.n, 1);
        ck_assert_int_eq(ack.status, 0);
    }
    ck_assert_uint_eq(rig_verify().jobs.pending, 20);
}
END_TEST

static void close_opened(dassie_t *q, int status)
{
    rig_opened(q, status);
    ck_assert_int_eq(dassie_close(q, rig_closed), 0);
}

START_TEST(failed_open)
{
    temp_file_write(rig.dir, "store", "x", 1);
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, close_opened), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(rig.opened, 1);
    ck_assert_int_eq(rig.status, UV_ENOTDIR);
}
END_TEST

/* Without callbacks, and with the loop not kept alive before. */
START_TEST(nobody_is_told)
{
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    if (_i > 0) {
        ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, NULL), 0);
    }
    if (_i > 1) {
        rig_counts();
        dassie_unref(&rig.q);
    }
    ck_assert_int_eq(dassie_close(&rig.q, NULL), 0);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_ptr_null(rig.q.impl);
}
END_TEST

static void open_again(dassie_t *q)
{
    rig.closed++;
    ck_assert_int_eq(dassie_init(&rig.loop, q), 0);
    ck_assert_int_eq(dassie_open(q, rig.path, &rig.options, rig_opened), 0);
}

/* The handle is the caller's again when it is told. */
START_TEST(opened_by_the_close_callback)
{
    rig_open();
    ck_assert_int_eq(dassie_close(&rig.q, open_again), 0);
    rig_wait(&rig.opened, 2);
    ck_assert_int_eq(rig.closed, 1);
    ck_assert_int_eq(rig.status, 0);
    rig_close();
}
END_TEST

/* ---- Jobs under way ---- */

static uv_sem_t go;
static atomic_int running;
static atomic_int saw_cancelled;
static dassie_processor_t processor;

static void process(dassie_work_cb work_cb, dassie_start_cb start_cb,
                    dassie_cancel_cb cancel_cb)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work_cb;
    options.start = start_cb;
    options.cancel = cancel_cb;
    running = 0;
    saw_cancelled = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
}

static bool is_running(void)
{
    return running > 0;
}

/* Ends when it is told to, not by the queue. */
static int work_until_go(dassie_job_t *job)
{
    running++;
    uv_sem_wait(&go);
    saw_cancelled += dassie_job_cancelled(job);
    return 0;
}

/* Ends when the queue asks for it. */
static int work_until_cancelled(dassie_job_t *job)
{
    saw_cancelled += dassie_job_cancelled(job) != 0;
    running++;
    while (!dassie_job_cancelled(job)) {
        uv_sleep(1);
    }
    saw_cancelled++;
    return UV_ECANCELED;
}

/* A job that ends within the grace period is not asked to. */
START_TEST(grace)
{
    ck_assert_int_eq(uv_sem_init(&go, 0), 0);
    rig.options.grace_ms = UINT_MAX;
    rig_open();
    rig_enqueue(NULL, "x");
    process(work_until_go, NULL, NULL);
    rig_poll(is_running);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(rig.closed, 0);
    uv_sem_post(&go);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(saw_cancelled, 0);
    ck_assert_uint_eq(rig_verify().jobs.complete, 1);
    uv_sem_destroy(&go);
}
END_TEST

START_TEST(grace_is_over)
{
    rig.options.grace_ms = 1;
    rig_open();
    rig_enqueue(NULL, "x");
    process(work_until_cancelled, NULL, NULL);
    rig_poll(is_running);
    rig_close();
    ck_assert_int_eq(saw_cancelled, 1);
    ck_assert_uint_eq(rig_verify().jobs.scheduled, 1); /* and goes on */
}
END_TEST

static dassie_job_t *started;

static void start_and_keep(dassie_job_t *job)
{
    started = job;
    ck_assert(!dassie_job_cancelled(job));
    running++;
}

static void finish_cancelled(dassie_job_t *job)
{
    ck_assert_ptr_eq(job, started);
    ck_assert(dassie_job_cancelled(job));
    saw_cancelled++;
    ck_assert_int_eq(dassie_close(&rig.q, NULL), UV_EALREADY);
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      UV_ECANCELED, NULL, 0),
        0);
}

START_TEST(grace_is_over_async)
{
    rig.options.grace_ms = 1;
    rig_open();
    rig_enqueue(NULL, "x");
    process(NULL, start_and_keep, finish_cancelled);
    rig_poll(is_running);
    rig_close();
    ck_assert_int_eq(saw_cancelled, 1);
    ck_assert_uint_eq(rig_verify().jobs.scheduled, 1); /* and goes on */
}
END_TEST

static bool is_cancelled(void)
{
    return dassie_job_cancelled(started);
}

/* Without a cancel callback the flag is all there is. */
START_TEST(grace_is_over_without_callback)
{
    rig.options.grace_ms = 1;
    rig_open();
    uint64_t id = rig_enqueue(NULL, "x");
    process(NULL, start_and_keep, NULL);
    rig_poll(is_running);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_poll(is_cancelled);
    ck_assert_int_eq(rig.closed, 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), UV_EINVAL);
    ck_assert_uint_eq(rig_verify().jobs.complete, 1);
}
END_TEST

static int stuck_told;

static void on_stuck(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    if (level == DASSIE_LOG_WARNING && strstr(line, "1 running job") != NULL) {
        stuck_told++;
    }
}

/* A job that does not end is told of every five seconds. */
START_TEST(stuck)
{
    stuck_told = 0;
    rig.options.log_cb = on_stuck;
    rig.options.grace_ms = 1;
    rig_open();
    uint64_t id = rig_enqueue(NULL, "x");
    process(NULL, start_and_keep, NULL);
    rig_poll(is_running);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&stuck_told, 2);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), 0);
    rig_wait(&rig.closed, 1);
}
END_TEST

#define MANY 2000

static int work_little(dassie_job_t *job)
{
    (void)job;
    running++;
    return 0;
}

static bool some_ran(void)
{
    return running >= MANY / 20;
}

/* What was claimed but not started goes back uncounted. */
START_TEST(claimed_jobs)
{
    dassie_spec_t specs[MANY];
    dassie_enqueue_many_t req = {.ids = NULL};
    for (int i = 0; i < MANY; i++) {
        specs[i] = rig_spec(NULL, "x");
    }
    rig_open();
    process(work_little, NULL, NULL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &req, specs, MANY, NULL), 0);
    rig_poll(some_ran);
    rig_close();
    dassie_count_t count = rig_verify().jobs;
    ck_assert_uint_eq(count.complete, (unsigned)running);
    ck_assert_uint_eq(count.pending, MANY - (unsigned)running);
    rig_open();
    process(work_little, NULL, NULL);
    rig_drain();
    ck_assert_uint_eq((unsigned)running, count.pending);
    rig_close();
    ck_assert_uint_eq(rig_verify().jobs.complete, MANY);
}
END_TEST

static int looked;

static void on_look(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)job;
    ck_assert_int_eq(rig.closed, 0);
    ck_assert(status == 0 || status == UV_ECANCELED);
    ck_assert_ptr_null(req->data);
    req->data = req;
    looked++;
}

START_TEST(lookups)
{
    static dassie_get_t reqs[MANY];
    memset(reqs, 0, sizeof reqs);
    looked = 0;
    rig_open();
    uint64_t id = rig_enqueue(NULL, "x");
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(dassie_get(&rig.q, &reqs[i], id, on_look), 0);
    }
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(looked, MANY);
}
END_TEST

/* ---- Threads ---- */

#define THREADS 3
#define THREAD_JOBS 100000

struct producer {
    uv_thread_t thread;
    dassie_enqueue_t *reqs;
    int accepted;
    int acked;
    int there;
};

static atomic_int produced;

static void on_produced(dassie_enqueue_t *req, int status)
{
    struct producer *producer = req->data;
    ck_assert_int_eq(rig.closed, 0);
    ck_assert(status == 0 || status == UV_ECANCELED);
    producer->acked++;
    producer->there += status == 0;
}

/* Until the queue is closed. */
static void produce(void *arg)
{
    struct producer *producer = arg;
    dassie_spec_t spec = rig_spec(NULL, "x");
    int rc = 0;
    while (rc != UV_ECANCELED && producer->accepted < THREAD_JOBS) {
        dassie_enqueue_t *req = &producer->reqs[producer->accepted];
        req->data = producer;
        rc = dassie_enqueue(&rig.q, req, &spec, on_produced);
        producer->accepted += rc == 0;
        produced += rc == 0;
    }
}

static bool producers_busy(void)
{
    return produced > 1000;
}

START_TEST(threads)
{
    static struct producer producers[THREADS];
    uint64_t there = 0;
    memset(producers, 0, sizeof producers);
    produced = 0;
    rig_open();
    for (int i = 0; i < THREADS; i++) {
        producers[i].reqs = calloc(THREAD_JOBS, sizeof(dassie_enqueue_t));
        ck_assert_ptr_nonnull(producers[i].reqs);
        ck_assert_int_eq(
            uv_thread_create(&producers[i].thread, produce, &producers[i]), 0);
    }
    rig_poll(producers_busy);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(uv_thread_join(&producers[i].thread), 0);
    }
    rig_wait(&rig.closed, 1);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(producers[i].accepted, producers[i].acked);
        there += (uint64_t)producers[i].there;
        free(producers[i].reqs);
    }
    ck_assert_uint_eq(rig_verify().jobs.pending, there);
}
END_TEST

/* ---- Two queues on one loop ---- */

struct second {
    dassie_t q;
    int opened;
    int closed;
    struct rig_ack ack;
};

static void on_second_open(dassie_t *q, int status)
{
    ck_assert_int_eq(status, 0);
    ((struct second *)q->data)->opened++;
}

static void on_second_close(dassie_t *q)
{
    ((struct second *)q->data)->closed++;
}

START_TEST(two_queues)
{
    char path[PATH_MAX];
    struct second second = {.opened = 0};
    dassie_spec_t spec = rig_spec(NULL, "x");
    second.q.data = &second;
    second.ack.req.data = &second.ack;
    temp_path(path, rig.dir, "second");
    rig_open();
    ck_assert_int_eq(dassie_init(&rig.loop, &second.q), 0);
    ck_assert_int_eq(dassie_open(&second.q, path, NULL, on_second_open), 0);
    rig_wait(&second.opened, 1);
    rig_enqueue(NULL, "x");
    process(work_little, NULL, NULL);
    rig_drain();
    if (_i == 0) {
        rig_close();
        ck_assert_int_eq(second.closed, 0);
    } else {
        ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    }
    ck_assert_int_eq(
        dassie_enqueue(&second.q, &second.ack.req, &spec, rig_on_ack), 0);
    ck_assert_int_eq(dassie_close(&second.q, on_second_close), 0);
    rig_wait(&second.closed, 1);
    ck_assert_int_eq(second.ack.n, 1);
    ck_assert_int_eq(second.ack.status, 0);
    rig_wait(&rig.closed, 1);
    ck_assert_uint_eq(rig_verify().jobs.complete, 1);
}
END_TEST

static Suite *close_suite(void)
{
    Suite *suite = suite_create("close");
    TCase *tc = tcase_create("close");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, teardown);
    tcase_add_test(tc, allocator);
    tcase_add_loop_test(tc, in_each_callback, 0, WHERES);
    tcase_add_test(tc, after_each_callback);
    tcase_add_loop_test(tc, before_open, 0, 2);
    tcase_add_loop_test(tc, while_opening, 0, 2);
    tcase_add_test(tc, soon_after_open);
    tcase_add_test(tc, failed_open);
    tcase_add_loop_test(tc, nobody_is_told, 0, 3);
    tcase_add_test(tc, opened_by_the_close_callback);
    tcase_add_test(tc, grace);
    tcase_add_test(tc, grace_is_over);
    tcase_add_test(tc, grace_is_over_async);
    tcase_add_test(tc, grace_is_over_without_callback);
    if (getenv("NIGHTLY") != NULL) {
        tcase_add_test(tc, stuck);
    }
    tcase_add_test(tc, claimed_jobs);
    tcase_add_test(tc, lookups);
    tcase_add_test(tc, threads);
    tcase_add_loop_test(tc, two_queues, 0, 2);
    return suite;
}

int main(void)
{
    if (dassie_replace_allocator(counting_malloc, counting_realloc,
                                 counting_calloc, counting_free) != 0) {
        return EXIT_FAILURE;
    }
    SRunner *runner = srunner_create(close_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
