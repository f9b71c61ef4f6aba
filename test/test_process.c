/* Processors: who runs what, how much at a time, in which order, what a job
 * sees and leaves behind, and how processors end. */
#include "config.h"

#include "queue_rig.h"

#include <stdatomic.h>

/* Of libuv's threads one is left to the host. */
#define POOL_SIZE "5"
#define SLOTS 4

/* Leaves a sound store. */
static void process(dassie_processor_t *p, const char *queue,
                    unsigned concurrency, dassie_work_cb work,
                    dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.concurrency = concurrency;
    options.work = work;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
    ck_assert_ptr_eq(p->q, &rig.q);
}

/* n jobs whose payloads are numbers, from base on. */
struct many {
    dassie_enqueue_many_t req;
    int status;
    int n;
};

static void on_many(dassie_enqueue_many_t *req, int status)
{
    struct many *many = req->data;
    many->status = status;
    many->n++;
}

static uint64_t enqueue_numbers(const char *queue, unsigned base, unsigned n)
{
    struct many many = {.req = {.data = &many}};
    dassie_spec_t *specs = calloc(n, sizeof specs[0]);
    unsigned *numbers = calloc(n, sizeof numbers[0]);
    ck_assert(specs != NULL && numbers != NULL);
    for (unsigned i = 0; i < n; i++) {
        numbers[i] = base + i;
        specs[i].size = sizeof specs[i];
        specs[i].queue = queue;
        specs[i].data = &numbers[i];
        specs[i].data_len = sizeof numbers[i];
        specs[i].attempts_max = 1;
    }
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many.req, specs, n, on_many),
                     0);
    free(specs);
    free(numbers);
    rig_wait(&many.n, 1);
    ck_assert_int_eq(many.status, 0);
    return many.req.first_id;
}

static unsigned number_of(const dassie_job_t *job)
{
    size_t len;
    unsigned number = UINT32_MAX;
    const void *data = dassie_job_data(job, &len);
    if (len == sizeof number) {
        memcpy(&number, data, len);
    }
    return number;
}

/* ---- A gate where jobs wait, on the pool ---- */

static struct {
    uv_mutex_t mutex;
    uv_cond_t cond;
    bool open;
} gate;

static atomic_int inside;  /* jobs that are under way now, */
static atomic_int peak;    /* at most, */
static atomic_int entered; /* and all in all */

static void gate_make(void)
{
    ck_assert_int_eq(uv_mutex_init(&gate.mutex), 0);
    ck_assert_int_eq(uv_cond_init(&gate.cond), 0);
    gate.open = false;
    inside = peak = entered = 0;
}

static void gate_unmake(void)
{
    uv_cond_destroy(&gate.cond);
    uv_mutex_destroy(&gate.mutex);
}

static void gate_open(void)
{
    uv_mutex_lock(&gate.mutex);
    gate.open = true;
    uv_cond_broadcast(&gate.cond);
    uv_mutex_unlock(&gate.mutex);
}

static int work_gate(dassie_job_t *job)
{
    (void)job;
    int now = ++inside;
    int most = peak;
    while (now > most && !atomic_compare_exchange_weak(&peak, &most, now)) {
    }
    entered++;
    uv_mutex_lock(&gate.mutex);
    while (!gate.open) {
        uv_cond_wait(&gate.cond, &gate.mutex);
    }
    uv_mutex_unlock(&gate.mutex);
    inside--;
    return 0;
}

static int entered_wanted;

static bool has_entered(void)
{
    return entered >= entered_wanted;
}

static void wait_entered(int n)
{
    entered_wanted = n;
    rig_poll(has_entered);
}

/* ---- Concurrency ---- */

/* As many as asked for run at a time, and as there are threads, never more. */
START_TEST(slots_are_used)
{
    static dassie_processor_t p;
    unsigned asked = (unsigned)_i;
    int slots = _i < SLOTS ? (_i > 0 ? _i : 1) : SLOTS;
    gate_make();
    enqueue_numbers(NULL, 0, 500);
    process(&p, NULL, asked, work_gate, NULL);
    wait_entered(slots);
    ck_assert_uint_eq(rig_stats().pool_threads, SLOTS);
    ck_assert_uint_eq(rig_stats().work_slots, asked > 0 ? asked : 1);
    gate_open();
    rig_drain();
    ck_assert_int_eq(peak, slots);
    ck_assert_int_eq(entered, 500);
    ck_assert_uint_eq(rig_counts().complete, 500);
    gate_unmake();
}
END_TEST

static atomic_int seen_by[8]; /* runs, by processor */
static dassie_processor_t several[8];

static int work_by(dassie_job_t *job)
{
    seen_by[dassie_job_processor(job) - several]++;
    return work_gate(job);
}

static void seen_reset(void)
{
    for (int i = 0; i < 8; i++) {
        seen_by[i] = 0;
    }
}

/* Both have a part in it, each no more than its own. */
START_TEST(several_on_one_queue)
{
    gate_make();
    seen_reset();
    process(&several[0], NULL, 1, work_by, NULL);
    process(&several[1], NULL, 2, work_by, NULL);
    enqueue_numbers(NULL, 0, 100);
    wait_entered(3);
    ck_assert_int_eq(seen_by[0], 1);
    ck_assert_int_eq(seen_by[1], 2);
    gate_open();
    rig_drain();
    ck_assert_int_eq(peak, 3);
    ck_assert_int_eq(seen_by[0] + seen_by[1], 100);
    gate_unmake();
}
END_TEST

/* Registered before and after there are jobs, and before there is a queue. */
START_TEST(before_and_after)
{
    gate_make();
    gate_open();
    enqueue_numbers("after", 0, 10);
    process(&several[0], "before", 1, work_gate, NULL);
    process(&several[1], "after", 1, work_gate, NULL);
    enqueue_numbers("before", 0, 10);
    rig_drain();
    ck_assert_int_eq(entered, 20);
    enqueue_numbers("after", 0, 10);
    rig_drain();
    ck_assert_int_eq(entered, 30);
    gate_unmake();
}
END_TEST

/* The pool has a thread left for the host, and a job does not wait for it. */
static int host_done;

static void host_work(uv_work_t *work)
{
    (void)work;
}

static void host_after(uv_work_t *work, int status)
{
    (void)work;
    ck_assert_int_eq(status, 0);
    host_done++;
}

static void host_stat(uv_fs_t *req)
{
    ck_assert_int_eq(req->result, 0);
    uv_fs_req_cleanup(req);
    host_done++;
}

START_TEST(host_has_a_thread)
{
    uv_work_t work;
    uv_fs_t stat;
    gate_make();
    host_done = 0;
    process(&several[0], NULL, DASSIE_CONCURRENCY_MAX, work_gate, NULL);
    process(&several[1], "b", 2, work_gate, NULL);
    enqueue_numbers(NULL, 0, 50);
    enqueue_numbers("b", 0, 50);
    wait_entered(SLOTS);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(uv_queue_work(&rig.loop, &work, host_work, host_after),
                         0);
        ck_assert_int_eq(uv_fs_stat(&rig.loop, &stat, "/", host_stat), 0);
        rig_wait(&host_done, 2 * (i + 1));
    }
    ck_assert_int_eq(inside, SLOTS);
    ck_assert_uint_eq(rig_stats().runners, SLOTS);
    gate_open();
    rig_drain();
    ck_assert_int_eq(peak, SLOTS);
    gate_unmake();
}
END_TEST

/* A job that makes another one, for ever, so that its processor always has
 * something to do. */
static atomic_bool endless;
static atomic_int others;

static int work_endless(dassie_job_t *job)
{
    dassie_spec_t spec = rig_spec(dassie_job_queue(job, NULL), NULL);
    uint64_t until = uv_hrtime() + 5000000; /* a slice is over */
    while (uv_hrtime() < until) {
    }
    return endless ? dassie_enqueue(&rig.q, NULL, &spec, NULL) : 0;
}

static int work_other(dassie_job_t *job)
{
    (void)job;
    others++;
    return 0;
}

static bool others_ran(void)
{
    return others == 3;
}

/* Who always has work leaves threads to the others. */
START_TEST(busy_ones_leave_room)
{
    static const char *const queues[] = {"a", "b", "c", "d", "e"};
    static const char *const quiet[] = {"x", "y", "z"};
    int first = _i == 0 ? 0 : 3;
    endless = true;
    others = 0;
    for (int i = 0; i < 3; i++) { /* registered before or after the busy ones */
        if (_i == 1) {
            process(&several[i], quiet[i], 1, work_other, NULL);
        }
    }
    for (int i = 0; i < 5; i++) {
        process(&several[first + i], queues[i], SLOTS, work_endless, NULL);
        enqueue_numbers(queues[i], 0, 100);
    }
    for (int i = 0; i < 3; i++) {
        if (_i == 0) {
            process(&several[5 + i], quiet[i], 1, work_other, NULL);
        }
        enqueue_numbers(quiet[i], 0, 1);
    }
    rig_poll(others_ran);
    endless = false;
    rig_drain();
}
END_TEST

/* ---- Order ---- */

#define RAN_MAX 4096
static int ran_n;
static unsigned ran[RAN_MAX];

static void start_note(dassie_job_t *job)
{
    ck_assert_int_lt(ran_n, RAN_MAX);
    ran[ran_n++] = number_of(job);
    ck_assert_int_eq(dassie_finish(&rig.q, dassie_job_id(job),
                                   dassie_job_attempt(job), 0, NULL, 0),
                     0);
}

static int work_note(dassie_job_t *job)
{
    ran[ran_n++] = number_of(job); /* one at a time */
    return 0;
}

static void process_queues(dassie_processor_t *p, const char *const *names,
                           unsigned n, bool async)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    uv_buf_t queues[8];
    for (unsigned i = 0; i < n; i++) {
        queues[i] = uv_buf_init((char *)(uintptr_t)names[i],
                                i % 2 == 0 ? (unsigned)strlen(names[i]) : 0);
    }
    options.queues = queues;
    options.queues_n = n;
    options.start = async ? start_note : NULL;
    options.work = async ? NULL : work_note;
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
    memset(queues, 0, sizeof queues); /* they were copied */
}

static const char *const abc[] = {"a", "b", "c"};

/* One processor on several queues serves the first of them first. */
START_TEST(strict_order)
{
    enum { EACH = 200 };
    static dassie_processor_t p;
    ran_n = 0;
    for (int i = 2; i >= 0; i--) {
        enqueue_numbers(abc[i], (unsigned)i * EACH, EACH);
    }
    process_queues(&p, abc, 3, _i == 0);
    rig_drain();
    ck_assert_int_eq(ran_n, 3 * EACH);
    for (unsigned i = 0; i < 3 * EACH; i++) {
        ck_assert_uint_eq(ran[i], i);
    }
}
END_TEST

static uint64_t held[64];
static unsigned held_number[64];
static int held_n;

static void start_hold(dassie_job_t *job)
{
    ck_assert_int_lt(held_n, 64);
    held_number[held_n] = number_of(job);
    held[held_n++] = dassie_job_id(job);
}

static void process_hold(dassie_processor_t *p, const char *queue,
                         unsigned concurrency)
{
    held_n = 0;
    process(p, queue, concurrency, NULL, start_hold);
}

static int finish_held(int i)
{
    return dassie_finish(&rig.q, held[i], 1, 0, NULL, 0);
}

/* A new job does not get before those that wait in a queue before its own: an
 * end and a new job meet in one commit. */
START_TEST(hand_off_keeps_order)
{
    static dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    uv_buf_t queues[] = {{(char *)"a", 1}, {(char *)"b", 1}};
    unsigned number = 2;
    dassie_spec_t spec = rig_spec("b", NULL);
    rig_close();
    rig.options.commit_delay_ms = 50;
    rig_open();
    held_n = 0;
    options.queues = queues;
    options.queues_n = 2;
    options.start = start_hold;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    enqueue_numbers("a", 0, 2);
    rig_wait(&held_n, 1);
    spec.data = &number;
    spec.data_len = sizeof number;
    ck_assert_int_eq(finish_held(0), 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    for (int i = 1; i < 3; i++) {
        rig_wait(&held_n, i + 1);
        ck_assert_uint_eq(held_number[i], i);
        ck_assert_int_eq(finish_held(i), 0);
    }
    rig_drain();
}
END_TEST

/* What is urgent gets before what waits, but not before what has begun. */
START_TEST(priority)
{
    static dassie_processor_t p;
    static const int priorities[] = {5, 0, -20, 19, -1, 0};
    static const unsigned order[] = {0, 2, 4, 1, 5, 3};
    process_hold(&p, NULL, 1);
    for (unsigned i = 0; i < 6; i++) {
        int status;
        dassie_spec_t spec = rig_spec(NULL, NULL);
        spec.priority = priorities[i];
        spec.data = &i;
        spec.data_len = sizeof i;
        ck_assert_uint_ne(rig_try_enqueue(&spec, &status), 0);
    }
    for (int i = 0; i < 6; i++) {
        rig_wait(&held_n, i + 1);
        ck_assert_uint_eq(held_number[i], order[i]);
        ck_assert_int_eq(finish_held(i), 0);
    }
    rig_drain();
}
END_TEST

/* An idle processor gets the job in the commit that brings it. */
START_TEST(hand_off)
{
    static dassie_processor_t p;
    process_hold(&p, NULL, 2);
    for (int i = 0; i < 4; i++) {
        rig_enqueue(NULL, NULL);
    }
    rig_wait(&held_n, 2);
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.running, 2);
    ck_assert_uint_eq(count.pending, 2);
    ck_assert_uint_eq(rig_stats().handed_off, 2);
    for (int i = 0; i < 4; i++) {
        rig_wait(&held_n, i + 1);
        ck_assert_int_eq(finish_held(i), 0);
    }
    rig_drain();
    dassie_stats_t stats = rig_stats();
    ck_assert_uint_eq(stats.handed_off, 2);
    ck_assert_uint_eq(stats.claimed, 4);
    ck_assert_uint_eq(stats.completed, 4);
    ck_assert_uint_eq(stats.unclaimed, 0);
}
END_TEST

/* ---- Stopping ---- */

static int stopped;

static void on_stopped(dassie_processor_t *p)
{
    (void)p;
    ck_assert_int_eq(inside, 0);
    stopped++;
}

/* Comes once what runs has ended; then nothing runs any more, and what waited
 * is as it was. */
START_TEST(stop_while_running)
{
    enum { JOBS = 300 };
    dassie_processor_t *p = malloc(sizeof *p);
    static dassie_processor_t next;
    struct rig_got got;
    ck_assert_ptr_nonnull(p);
    gate_make();
    stopped = 0;
    uint64_t first = enqueue_numbers(NULL, 0, JOBS);
    process(p, NULL, 3, work_gate, NULL);
    wait_entered(3);
    ck_assert_int_eq(dassie_processor_stop(p, on_stopped), 0);
    ck_assert_int_eq(dassie_processor_stop(p, on_stopped), UV_EALREADY);
    rig_counts();
    ck_assert_int_eq(stopped, 0);
    gate_open();
    rig_wait(&stopped, 1);
    memset(p, 0xff, sizeof *p); /* it is ours again */
    free(p);
    int before = entered;
    dassie_count_t count = rig_counts();
    ck_assert_int_eq(count.running, 0);
    ck_assert_int_eq(count.complete, before);
    ck_assert_int_eq(count.pending, JOBS - before);
    rig_enqueue(NULL, NULL);
    ck_assert_int_eq(entered, before);
    process(&next, NULL, SLOTS, work_gate, NULL);
    rig_drain();
    ck_assert_int_eq(entered, JOBS + 1);
    for (uint64_t id = first; id < first + JOBS; id++) {
        ck_assert_uint_eq(rig_get(&got, id)->attempts, 1);
    }
    rig_stop(&next);
    gate_unmake();
}
END_TEST

START_TEST(stop_async)
{
    static dassie_processor_t p;
    process_hold(&p, NULL, 2);
    enqueue_numbers(NULL, 0, 5);
    rig_wait(&held_n, 2);
    inside = stopped = 0;
    ck_assert_int_eq(dassie_processor_stop(&p, on_stopped), 0);
    ck_assert_int_eq(finish_held(0), 0);
    rig_counts();
    ck_assert_int_eq(stopped, 0);
    ck_assert_int_eq(finish_held(1), 0);
    rig_wait(&stopped, 1);
    dassie_count_t count = rig_counts();
    ck_assert_int_eq(held_n, 2);
    ck_assert_uint_eq(count.pending, 3);
    ck_assert_uint_eq(count.complete, 2);
}
END_TEST

/* From the call on nothing starts, though a second job is on its way: a work
 * processor's in the run queue while the engine gathers a commit, an async
 * one's in the same batch of callbacks. */
static int end_how;

static void end_now(dassie_processor_t *p)
{
    ck_assert_int_eq(end_how == 0 ? dassie_processor_stop(p, NULL)
                                  : dassie_close(&rig.q, rig_closed),
                     0);
}

static void check_untouched(uint64_t id, unsigned n)
{
    struct rig_got got;
    if (end_how == 1) {
        rig_wait(&rig.closed, 1);
        rig_open();
    }
    ck_assert_uint_eq(rig_counts().pending, n);
    ck_assert_uint_eq(rig_get(&got, id)->attempts, 0);
}

START_TEST(stop_before_the_next)
{
    enum { JOBS = 300 };
    static dassie_processor_t p;
    end_how = _i;
    rig.options.commit_delay_ms = 300;
    rig_reopen();
    gate_make();
    gate_open();
    process(&p, NULL, 1, work_gate, NULL);
    rig_enqueue(NULL, NULL); /* a quick one: more are claimed ahead now */
    rig_drain();
    gate.open = false;
    uint64_t first = enqueue_numbers(NULL, 0, JOBS);
    wait_entered(2);
    end_now(&p);
    gate_open();
    check_untouched(first + 1, JOBS - 1);
    ck_assert_int_eq(entered, 2);
    gate_unmake();
}
END_TEST

static void start_and_end(dassie_job_t *job)
{
    end_now(dassie_job_processor(job));
    entered++;
    ck_assert_int_eq(dassie_finish(&rig.q, dassie_job_id(job), 1, 0, NULL, 0),
                     0);
}

START_TEST(stop_before_the_next_async)
{
    static dassie_processor_t p;
    end_how = _i;
    entered = 0;
    process(&p, NULL, 8, NULL, start_and_end);
    uint64_t first = enqueue_numbers(NULL, 0, 8);
    check_untouched(first + 1, 7);
    ck_assert_int_eq(entered, 1);
}
END_TEST

/* Idle ones, with and without a callback, and one that others close. */
START_TEST(stop_idle)
{
    static dassie_processor_t p[3];
    inside = stopped = 0;
    for (int i = 0; i < 3; i++) {
        process(&p[i], NULL, 1, i == 0 ? work_gate : NULL,
                i == 0 ? NULL : start_hold);
    }
    ck_assert_int_eq(dassie_processor_stop(&p[0], on_stopped), 0);
    ck_assert_int_eq(dassie_processor_stop(&p[1], NULL), 0);
    rig_wait(&stopped, 1);
    ck_assert_uint_eq(rig_stats().work_slots, 0);
    ck_assert_int_eq(dassie_processor_stop(NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_processor_stop(&p[2], on_stopped), 0);
    rig_close();
    ck_assert_int_eq(stopped, 2);
    rig_open();
}
END_TEST

/* ---- Async ---- */

START_TEST(finish_once)
{
    static dassie_processor_t p;
    process_hold(&p, NULL, 4);
    enqueue_numbers(NULL, 0, 2);
    rig_wait(&held_n, 2);
    uint64_t id = held[0];
    static char big[DASSIE_ERROR_BYTES_MAX + 1];
    ck_assert_int_eq(dassie_finish(NULL, id, 1, 0, NULL, 0), UV_EINVAL);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 1), UV_EINVAL);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 0, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 2, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id + 2, 1, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id + 1024, 1, 0, NULL, 0),
                     UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, UV_EIO, big, sizeof big),
                     UV_E2BIG);
    ck_assert_int_eq(rig_counts().running, 2);
    ck_assert_int_eq(
        dassie_finish(&rig.q, id, 1, UV_EIO, big, DASSIE_ERROR_BYTES_MAX), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), UV_EALREADY);
    rig_counts();
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(finish_held(1), 0);
    rig_drain();
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.failed, 1);
    ck_assert_uint_eq(count.complete, 1);
}
END_TEST

/* Legal while closing, and it is kept. */
START_TEST(finish_while_closing)
{
    static dassie_processor_t p;
    process_hold(&p, NULL, 1);
    enqueue_numbers(NULL, 0, 2);
    rig_wait(&held_n, 1);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(finish_held(0), 0);
    ck_assert_int_eq(finish_held(0), UV_EALREADY);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(held_n, 1);
    rig_open();
    ck_assert_uint_eq(rig_counts().complete, 1);
    ck_assert_uint_eq(rig_counts().pending, 1);
}
END_TEST

static int early;

static void on_ack_finish(dassie_enqueue_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    early = dassie_finish(&rig.q, req->id, 1, 0, NULL, 0);
}

/* A run that has not yet been told of is not under way. */
START_TEST(finish_before_start)
{
    static dassie_processor_t p;
    dassie_enqueue_t req = {.data = NULL};
    dassie_spec_t spec = rig_spec(NULL, NULL);
    process_hold(&p, NULL, 1);
    early = 0;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, on_ack_finish), 0);
    rig_wait(&held_n, 1);
    ck_assert_int_eq(early, UV_EALREADY);
    ck_assert_uint_eq(held[0], req.id);
    ck_assert_int_eq(finish_held(0), 0);
    rig_drain();
}
END_TEST

static void finish_thread(void *arg)
{
    const uint64_t *id = arg;
    early = dassie_finish(&rig.q, *id, 1, 0, "there", 5);
}

/* Ended by another thread while the callback still looks at the job. */
static void start_ended_meanwhile(dassie_job_t *job)
{
    size_t len;
    uv_thread_t thread;
    uint64_t id = dassie_job_id(job);
    ck_assert_int_eq(uv_thread_create(&thread, finish_thread, &id), 0);
    ck_assert_int_eq(uv_thread_join(&thread), 0);
    ck_assert_int_eq(early, 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, "here", 4), UV_EALREADY);
    dassie_job_queue(job, &len);
    ck_assert_uint_eq(len, 7);
    ck_assert_uint_eq(number_of(job), 7);
    held[held_n++] = id;
}

START_TEST(finish_during_start)
{
    static dassie_processor_t p;
    struct rig_got got;
    held_n = 0;
    process(&p, NULL, 2, NULL, start_ended_meanwhile);
    uint64_t id = enqueue_numbers(NULL, 7, 1);
    rig_drain();
    ck_assert_int_eq(held_n, 1);
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_COMPLETE);
    ck_assert_str_eq(info->result, "there");
}
END_TEST

/* Ends of several threads: each run is ended by exactly one of them. */
#define RIVALS 3
#define RIVAL_JOBS 32
static atomic_int wins;
static atomic_int losses;

static void rival(void *arg)
{
    (void)arg;
    for (int i = 0; i < RIVAL_JOBS; i++) {
        int rc = finish_held(i);
        wins += rc == 0;
        losses += rc == UV_EALREADY;
    }
}

START_TEST(finish_from_threads)
{
    static dassie_processor_t p;
    uv_thread_t thread[RIVALS];
    wins = losses = 0;
    process_hold(&p, NULL, RIVAL_JOBS);
    enqueue_numbers(NULL, 0, RIVAL_JOBS);
    rig_wait(&held_n, RIVAL_JOBS);
    for (int i = 0; i < RIVALS; i++) {
        ck_assert_int_eq(uv_thread_create(&thread[i], rival, NULL), 0);
    }
    rig_drain();
    for (int i = 0; i < RIVALS; i++) {
        ck_assert_int_eq(uv_thread_join(&thread[i]), 0);
    }
    ck_assert_int_eq(wins, RIVAL_JOBS);
    ck_assert_int_eq(losses, (RIVALS - 1) * RIVAL_JOBS);
    ck_assert_uint_eq(rig_stats().completed, RIVAL_JOBS);
}
END_TEST

/* ---- What a job sees ---- */

static void check_job(dassie_job_t *job, const dassie_processor_t *p)
{
    size_t len;
    ck_assert_uint_eq(dassie_job_id(job), 1);
    ck_assert_uint_eq(dassie_job_attempt(job), 1);
    ck_assert_mem_eq(dassie_job_queue(job, &len), "q\0ue", 5);
    ck_assert_uint_eq(len, 4);
    ck_assert_mem_eq(dassie_job_name(job, &len), "na\0me", 6);
    ck_assert_uint_eq(len, 5);
    ck_assert_mem_eq(dassie_job_data(job, &len), "pay\0load", 8);
    ck_assert_uint_eq(len, 8);
    ck_assert_ptr_nonnull(dassie_job_queue(job, NULL));
    ck_assert_ptr_nonnull(dassie_job_name(job, NULL));
    ck_assert_ptr_nonnull(dassie_job_data(job, NULL));
    ck_assert_ptr_eq(dassie_job_processor(job), p);
    ck_assert_int_eq(dassie_job_cancelled(job), 0);
}

static dassie_processor_t looker;

static int work_look(dassie_job_t *job)
{
    check_job(job, &looker);
    return 0;
}

static void start_look(dassie_job_t *job)
{
    check_job(job, &looker);
    ck_assert_int_eq(dassie_job_set_result(job, "x", 1), UV_EINVAL);
    ck_assert_int_eq(dassie_job_set_error(job, "x", 1), UV_EINVAL);
    ck_assert_int_eq(dassie_finish(&rig.q, 1, 1, 0, NULL, 0), 0);
    check_job(job, &looker); /* still here until the callback returns */
}

START_TEST(accessors)
{
    int status;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    spec.queue = "q\0ue";
    spec.queue_len = 4;
    spec.name = "na\0me";
    spec.name_len = 5;
    spec.data = "pay\0load";
    spec.data_len = 8;
    ck_assert_uint_eq(rig_try_enqueue(&spec, &status), 1);
    options.queue = spec.queue;
    options.queue_len = 4;
    options.work = _i == 0 ? work_look : NULL;
    options.start = _i == 0 ? NULL : start_look;
    ck_assert_int_eq(dassie_process(&rig.q, &looker, &options), 0);
    rig_drain();
    ck_assert_uint_eq(rig_counts().complete, 1);
}
END_TEST

static void start_empty(dassie_job_t *job)
{
    size_t len = 99;
    dassie_job_name(job, &len);
    ck_assert_uint_eq(len, 0);
    len = 99;
    dassie_job_data(job, &len);
    ck_assert_uint_eq(len, 0);
    start_note(job);
}

START_TEST(accessors_empty)
{
    static dassie_processor_t p;
    ran_n = 0;
    rig_enqueue(NULL, NULL);
    process(&p, NULL, 1, NULL, start_empty);
    rig_drain();
    ck_assert_int_eq(ran_n, 1);
}
END_TEST

/* ---- What a job leaves behind ---- */

#define LIMIT 100
static char too_much[DASSIE_ERROR_BYTES_MAX + 2];
static char most_error[DASSIE_ERROR_BYTES_MAX + 1];

static const struct outcome {
    const char *result; /* set in this order, unless NULL */
    const char *error;
    size_t len; /* 0: a C string */
    int status; /* returned */
    int rc;     /* what setting says */
    const char *kept;
} outcomes[] = {
    {NULL, NULL, 0, 0, 0, ""},
    {"well", NULL, 4, 0, 0, "well"},
    {"any\0byte", NULL, 8, 0, 0, "any\0byte"},
    {too_much, NULL, LIMIT, 0, 0, NULL},
    {too_much, NULL, LIMIT + 1, 0, UV_E2BIG, ""},
    {NULL, "bad", 0, UV_EPROTO, 0, "bad"},
    {NULL, "badly", 3, -7777, 0, "bad"},
    {NULL, NULL, 0, UV_EPROTO, 0, "protocol error"},
    {NULL, NULL, 0, DASSIE_ECRASHED, 0, "the job keeps killing its process"},
    {NULL, NULL, 0, 12345, 0, "unknown error"},
    {NULL, "bad", 0, 1, 0, "bad"},
    {NULL, most_error, 0, 1, 0, most_error},
    {NULL, too_much, 0, 1, UV_E2BIG, "unknown error"},
    {NULL, "bad", 0, 0, 0, ""},                /* no error if it ended well */
    {"well", NULL, 4, UV_EIO, 0, "i/o error"}, /* and no result if not */
    {"well", "bad", 3, UV_EIO, 0, "bad"},
    {"well", "bad", 3, 0, 0, ""}, /* the last one counts */
};
#define OUTCOMES_N (sizeof outcomes / sizeof outcomes[0])

static int work_rcs[OUTCOMES_N][4];

static int work_outcome(dassie_job_t *job)
{
    unsigned i = number_of(job);
    const struct outcome *o = &outcomes[i];
    int *rcs = work_rcs[i];
    if (o->result != NULL) {
        rcs[0] = dassie_job_set_result(job, o->result, o->len);
    }
    if (o->error != NULL) {
        rcs[1] = dassie_job_set_error(job, o->error, o->len);
    }
    rcs[2] = dassie_job_set_result(job, NULL, 1);
    rcs[3] = dassie_job_set_error(NULL, "x", 1);
    return o->status;
}

static void start_outcome(dassie_job_t *job)
{
    const struct outcome *o = &outcomes[number_of(job)];
    uint64_t id = dassie_job_id(job);
    const char *out = o->status == 0 ? o->result : o->error;
    size_t len = out == NULL ? 0 : o->len > 0 ? o->len : strlen(out);
    int rc = dassie_finish(&rig.q, id, 1, o->status, out, len);
    ck_assert_int_eq(rc, o->rc);
    if (rc != 0) {
        ck_assert_int_eq(dassie_finish(&rig.q, id, 1, o->status, NULL, 0), 0);
    }
}

static void check_outcome(const struct outcome *o, uint64_t id)
{
    struct rig_got got;
    const dassie_info_t *info = rig_get(&got, id);
    size_t len = o->kept == NULL                 ? LIMIT
                 : o->status == 0 && o->len == 8 ? 8
                                                 : strlen(o->kept);
    ck_assert_int_eq(info->state,
                     o->status == 0 ? DASSIE_COMPLETE : DASSIE_FAILED);
    ck_assert_int_eq(info->error_code, o->status);
    ck_assert_uint_eq(info->attempts, 1);
    ck_assert_uint_gt(info->ended_ms, 0);
    ck_assert_uint_eq(info->result_len, o->status == 0 ? len : 0);
    ck_assert_uint_eq(info->error_len, o->status == 0 ? 0 : len);
    if (o->status != 0) {
        ck_assert_str_eq(info->error, o->kept);
    } else if (o->kept != NULL && len > 0) {
        ck_assert_mem_eq(info->result, o->kept, len);
    }
}

/* By a work processor, then by an async one; and as it was stored. */
START_TEST(outcome)
{
    static dassie_processor_t p;
    bool async = _i == 1;
    memset(too_much, 't', sizeof too_much - 1);
    memset(most_error, 'm', sizeof most_error - 1);
    rig_close();
    rig.options.payload_bytes_max = LIMIT;
    rig_open();
    process(&p, NULL, 1, async ? NULL : work_outcome,
            async ? start_outcome : NULL);
    unsigned n = OUTCOMES_N - async; /* the last is for work only */
    uint64_t first = enqueue_numbers(NULL, 0, n);
    rig_drain();
    rig_reopen();
    for (unsigned i = 0; i < n; i++) {
        const struct outcome *o = &outcomes[i];
        check_outcome(o, first + i);
        if (!async) {
            int result_rc = o->result != NULL && o->error == NULL ? o->rc : 0;
            ck_assert_int_eq(work_rcs[i][0], result_rc);
            ck_assert_int_eq(work_rcs[i][1], o->error != NULL ? o->rc : 0);
            ck_assert_int_eq(work_rcs[i][2], UV_EINVAL);
            ck_assert_int_eq(work_rcs[i][3], UV_EINVAL);
        }
    }
}
END_TEST

/* ---- At most once ---- */

static atomic_int runs_n;

static int work_count(dassie_job_t *job)
{
    (void)job;
    runs_n++;
    return 0;
}

/* Where nothing goes wrong the flag changes nothing, whether they are handed
 * off, wait, or are handed back by a stop. */
START_TEST(at_most_once)
{
    enum { JOBS = 50 };
    static dassie_processor_t p;
    struct rig_got got;
    dassie_spec_t spec = rig_spec(NULL, NULL);
    uint64_t id[JOBS];
    int status;
    runs_n = 0;
    spec.flags = DASSIE_AT_MOST_ONCE;
    for (int i = 0; i < JOBS; i++) {
        if (i == JOBS / 2) {
            process(&p, NULL, 2, work_count, NULL);
        }
        id[i] = rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
    }
    rig_stop(&p);
    rig_reopen();
    process(&p, NULL, 2, work_count, NULL);
    rig_drain();
    ck_assert_int_eq(runs_n, JOBS);
    for (int i = 0; i < JOBS; i++) {
        const dassie_info_t *info = rig_get(&got, id[i]);
        ck_assert_uint_eq(info->flags, DASSIE_AT_MOST_ONCE);
        ck_assert_int_eq(info->state, DASSIE_COMPLETE);
        ck_assert_uint_eq(info->attempts, 1);
    }
}
END_TEST

/* ---- Closing ---- */

static atomic_int flagged;

static int work_until_cancelled(dassie_job_t *job)
{
    entered++;
    while (!dassie_job_cancelled(job)) {
        uv_sleep(1);
    }
    flagged++;
    return UV_ECANCELED;
}

static void on_cancel(dassie_job_t *job)
{
    ck_assert_int_ne(dassie_job_cancelled(job), 0);
    flagged++;
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), 1, UV_ECANCELED, NULL, 0), 0);
}

/* After the grace period running jobs are asked to end. */
START_TEST(cancel)
{
    static dassie_processor_t p[2];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig_close();
    rig.options.grace_ms = 1;
    rig_open();
    entered = flagged = held_n = 0;
    enqueue_numbers("work", 0, 1);
    enqueue_numbers("async", 0, 1);
    process(&p[0], "work", 1, work_until_cancelled, NULL);
    options.queue = "async";
    options.start = start_hold;
    options.cancel = on_cancel;
    ck_assert_int_eq(dassie_process(&rig.q, &p[1], &options), 0);
    rig_wait(&held_n, 1);
    wait_entered(1);
    rig_reopen();
    ck_assert_int_eq(flagged, 2);
    dassie_count_t counts = rig_counts(); /* they go on, at the next open */
    ck_assert_uint_eq(counts.scheduled + counts.pending, 2);
}
END_TEST

/* ---- Bad options ---- */

static const uv_buf_t good_queue[] = {{(char *)"a", 1}};
static const uv_buf_t null_queue[] = {{(char *)"a", 1}, {NULL, 1}};
static const uv_buf_t empty_queue[] = {{(char *)"a", 1}, {(char *)"", 0}};
static const uv_buf_t two_queues[] = {{(char *)"a", 1}, {(char *)"b", 1}};
static const unsigned good_weights[] = {1, DASSIE_WEIGHT_MAX};
static const unsigned no_weight[] = {1, 0};
static const unsigned much_weight[] = {1, DASSIE_WEIGHT_MAX + 1};
static const uv_buf_t long_queue[] = {{too_much, 256}};

static const dassie_process_options_t bad_options[] = {
#define OPTIONS(...)                                          \
    {                                                         \
        .size = sizeof(dassie_process_options_t), __VA_ARGS__ \
    }
    {.size = 0, .work = work_count},
    OPTIONS(.queue = "a"),
    OPTIONS(.work = work_count, .start = start_hold),
    OPTIONS(.cancel = on_cancel),
    OPTIONS(.work = work_count, .cancel = on_cancel),
    OPTIONS(.work = work_count, .concurrency = DASSIE_CONCURRENCY_MAX + 1),
    OPTIONS(.start = start_hold, .concurrency = UINT32_MAX),
    OPTIONS(.work = work_count, .queue = ""),
    OPTIONS(.work = work_count, .queue = too_much),
    OPTIONS(.work = work_count, .queue = too_much, .queue_len = 256),
    OPTIONS(.work = work_count, .queues_n = 1),
    OPTIONS(.work = work_count, .queues = null_queue, .queues_n = 2),
    OPTIONS(.work = work_count, .queues = empty_queue, .queues_n = 2),
    OPTIONS(.work = work_count, .queues = long_queue, .queues_n = 1),
    OPTIONS(.work = work_count, .queues = good_queue, .queues_n = 1,
            .queue = "a"),
    OPTIONS(.work = work_count, .queues = good_queue,
            .queues_n = DASSIE_PROCESSOR_QUEUES_MAX + 1),
    OPTIONS(.work = work_count, .weights = good_weights),
    OPTIONS(.work = work_count, .queue = "a", .weights = good_weights),
    OPTIONS(.work = work_count, .queues = two_queues, .queues_n = 2,
            .weights = no_weight),
    OPTIONS(.work = work_count, .queues = two_queues, .queues_n = 2,
            .weights = much_weight),
};

START_TEST(bad_process)
{
    dassie_processor_t p = {.data = NULL};
    dassie_process_options_t good = OPTIONS(.work = work_count);
    memset(too_much, 't', sizeof too_much - 1);
    for (size_t i = 0; i < sizeof bad_options / sizeof bad_options[0]; i++) {
        int rc = dassie_process(&rig.q, &p, &bad_options[i]);
        ck_assert_msg(rc == UV_EINVAL, "%zu: %d", i, rc);
    }
    ck_assert_int_eq(dassie_process(NULL, &p, &good), UV_EINVAL);
    ck_assert_int_eq(dassie_process(&rig.q, NULL, &good), UV_EINVAL);
    ck_assert_int_eq(dassie_process(&rig.q, &p, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_processor_stop(&p, NULL), UV_EINVAL);
    ck_assert_uint_eq(rig_stats().queues, 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_process(&rig.q, &p, &good), UV_ECANCELED);
    rig_wait(&rig.closed, 1);
    rig_open();
}
END_TEST

/* ---- Many ---- */

static atomic_uchar runs[100000];
static unsigned jobs_n;

static int work_once(dassie_job_t *job)
{
    unsigned number = number_of(job);
    runs[number < jobs_n ? number : 0]++;
    return 0;
}

static atomic_int half;

static int work_once_half(dassie_job_t *job)
{
    half++;
    return work_once(job);
}

static bool half_done(void)
{
    return half >= (int)jobs_n / 4;
}

/* Each exactly once, though the store is closed in between, and the ids go
 * on. */
START_TEST(many_jobs)
{
    static dassie_processor_t p;
    jobs_n = getenv("NIGHTLY") != NULL ? 100000 : 20000;
    memset(runs, 0, sizeof runs);
    half = 0;
    enqueue_numbers(NULL, 0, jobs_n / 2);
    process(&p, NULL, SLOTS, work_once_half, NULL);
    rig_poll(half_done);
    rig_reopen();
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.running, 0);
    ck_assert_uint_eq(count.complete, half);
    ck_assert_uint_eq(count.pending, jobs_n / 2 - count.complete);
    process(&p, NULL, SLOTS, work_once, NULL);
    ck_assert_uint_gt(enqueue_numbers(NULL, jobs_n / 2, jobs_n / 2),
                      jobs_n / 2);
    rig_drain();
    for (unsigned i = 0; i < jobs_n; i++) {
        ck_assert_int_eq(runs[i], 1);
    }
    ck_assert_uint_eq(rig_counts().complete, jobs_n);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_loop_test(tc, slots_are_used, 0, SLOTS + 2);
    tcase_add_test(tc, several_on_one_queue);
    tcase_add_test(tc, before_and_after);
    tcase_add_test(tc, host_has_a_thread);
    tcase_add_loop_test(tc, busy_ones_leave_room, 0, 2);
    tcase_add_loop_test(tc, strict_order, 0, 2);
    tcase_add_test(tc, hand_off_keeps_order);
    tcase_add_test(tc, priority);
    tcase_add_test(tc, hand_off);
    tcase_add_test(tc, stop_while_running);
    tcase_add_test(tc, stop_async);
    tcase_add_loop_test(tc, stop_before_the_next, 0, 2);
    tcase_add_loop_test(tc, stop_before_the_next_async, 0, 2);
    tcase_add_test(tc, stop_idle);
    tcase_add_test(tc, finish_once);
    tcase_add_test(tc, finish_while_closing);
    tcase_add_test(tc, finish_before_start);
    tcase_add_test(tc, finish_during_start);
    tcase_add_test(tc, finish_from_threads);
    tcase_add_loop_test(tc, accessors, 0, 2);
    tcase_add_test(tc, accessors_empty);
    tcase_add_loop_test(tc, outcome, 0, 2);
    tcase_add_test(tc, at_most_once);
    tcase_add_test(tc, cancel);
    tcase_add_test(tc, bad_process);
    tcase_add_test(tc, many_jobs);
}

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *tc = tcase_create("process");
    setenv("UV_THREADPOOL_SIZE", POOL_SIZE, 1); /* before anybody looks */
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    add_tests(tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
