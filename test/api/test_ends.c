/* A process that ends in every way but a close: killed by its processor,
 * exit() from anywhere, a loop that is stopped and left, a return from main.
 * To the store each is a kill: what was acknowledged is there, what ran runs
 * again and is a suspect, and the next owner finds a sound store. */
#include "config.h"

#include "spawn.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#define JOBS 20                            /* acknowledged */
#define OPEN_WAIT_NS UINT64_C(10000000000) /* of an exit */

/* ---- The other process ---- */

static void (*fatal)(void);
static bool in_work; /* or else in the start of an async job, */
static bool returns; /* or else nowhere: the scenario returns */
static int started;

static void die_by_signal(int number)
{
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(number, SIG_DFL); /* a sanitizer's is not wanted */
    raise(number);
}

static void by_segv(void)
{
    die_by_signal(SIGSEGV);
}

static void by_abort(void)
{
    die_by_signal(SIGABRT);
}

static void by_exit(void)
{
    exit(3);
}

static void by_quick_exit(void)
{
    _exit(3);
}

static int work(dassie_job_t *job)
{
    (void)job;
    if (in_work) {
        fatal();
    }
    return 0;
}

static void start(dassie_job_t *job)
{
    (void)job;
    started++;
    if (!in_work && !returns) {
        fatal();
    }
}

/* JOBS jobs are acknowledged; then one more runs, here or there. */
static void live(void)
{
    static dassie_processor_t p[2];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig_open();
    for (int i = 0; i < JOBS; i++) {
        rig_enqueue("waits", "x");
    }
    options.queue = "work";
    options.work = work;
    ck_assert_int_eq(dassie_process(&rig.q, &p[0], &options), 0);
    options.queue = "async";
    options.work = NULL;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, &p[1], &options), 0);
    rig_enqueue(in_work ? "work" : "async", "x");
    rig_wait(&started, 1);
}

static void work_segv(void)
{
    in_work = true;
    fatal = by_segv;
    live();
}

static void work_abort(void)
{
    in_work = true;
    fatal = by_abort;
    live();
}

static void work_exit(void)
{
    in_work = true;
    fatal = by_exit;
    live();
}

static void work_quick_exit(void)
{
    in_work = true;
    fatal = by_quick_exit;
    live();
}

static void start_segv(void)
{
    fatal = by_segv;
    live();
}

static void start_exit(void)
{
    fatal = by_exit;
    live();
}

static void start_quick_exit(void)
{
    fatal = by_quick_exit;
    live();
}

/* libuv's own end joins all threads of the pool, this one too, and aborts. */
#define EXIT_IN_POOL SIGABRT

/* From main(), with the queue open. */
static void main_returns(void)
{
    returns = true;
    live();
}

static void main_exits(void)
{
    returns = true;
    live();
    exit(0);
}

static void stop_loop(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* The loop is stopped in the middle of everything, and left. */
static void loop_stops(void)
{
    uv_timer_t timer;
    returns = true;
    live();
    ck_assert_int_eq(uv_timer_init(&rig.loop, &timer), 0);
    ck_assert_int_eq(uv_timer_start(&timer, stop_loop, 1, 0), 0);
    for (int i = 0; i < 1000; i++) {
        dassie_spec_t spec = rig_spec("more", "x");
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    }
    ck_assert_int_ne(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&rig.loop), UV_EBUSY);
    exit(0);
}

/* Not even the open was waited for. */
static void opening_exits(void)
{
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, NULL), 0);
    exit(0);
}

/* The same, in the middle of an open that somebody holds. */
static void held_exits(void)
{
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, NULL), 0);
    spawned_tell();
    exit(0);
}

/* The close was asked for, and that is all. */
static void closing_exits(void)
{
    returns = true;
    live();
    ck_assert_int_eq(dassie_close(&rig.q, NULL), 0);
    exit(0);
}

/* A child has nothing to wait for, and ends while the open is held. */
static void held_forks(void)
{
    int status;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, NULL), 0);
    uint64_t begin_ns = uv_hrtime();
    pid_t child = fork();
    if (child == 0) {
        exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_lt(uv_hrtime() - begin_ns, OPEN_WAIT_NS);
    spawned_tell();
    exit(0);
}

/* ---- This one ---- */

static const struct end {
    struct scenario scenario;
    int by_signal; /* or 0 */
    int status;    /* of its exit */
    int jobs;
    bool suspects; /* what ran when it ended */
} ends[] = {
    {{"work_segv", work_segv}, SIGSEGV, 0, JOBS + 1, true},
    {{"work_abort", work_abort}, SIGABRT, 0, JOBS + 1, true},
    {{"work_exit", work_exit}, EXIT_IN_POOL, 0, JOBS + 1, true},
    {{"work_quick_exit", work_quick_exit}, 0, 3, JOBS + 1, true},
    {{"start_segv", start_segv}, SIGSEGV, 0, JOBS + 1, true},
    {{"start_exit", start_exit}, 0, 3, JOBS + 1, true},
    {{"start_quick_exit", start_quick_exit}, 0, 3, JOBS + 1, true},
    {{"main_returns", main_returns}, 0, 0, JOBS + 1, true},
    {{"main_exits", main_exits}, 0, 0, JOBS + 1, true},
    {{"loop_stops", loop_stops}, 0, 0, JOBS + 1, true},
    {{"opening_exits", opening_exits}, 0, 0, 0, false},
    {{"closing_exits", closing_exits}, 0, 0, JOBS + 1, true},
};
#define ENDS ((int)(sizeof ends / sizeof ends[0]))

START_TEST(end)
{
    const struct end *e = &ends[_i];
    struct spawned s;
    spawn(&s, e->scenario.name);
    int status = spawn_end(&s);
    if (e->by_signal != 0) {
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), e->by_signal);
    } else {
        ck_assert_msg(status == e->status << 8, "%#x", (unsigned)status);
    }
    rig_open();
    dassie_count_t count = rig_counts();
    ck_assert_uint_ge(count.pending, (unsigned)e->jobs);
    ck_assert_uint_eq(rig_stats().suspects, e->suspects);
    ck_assert_uint_eq(count.running + count.complete + count.failed, 0);
    rig_close();
    rig_verify();
}
END_TEST

static const struct scenario held[] = {{"held_exits", held_exits},
                                       {"held_forks", held_forks}};
#define HELD ((int)(sizeof held / sizeof held[0]))

/* An exit takes RocksDB apart, but not under an open: the store is whole. */
START_TEST(exit_waits_for_open)
{
    char inflight[PATH_MAX];
    struct spawned s;
    rig_hold();
    spawn(&s, held[_i].name);
    spawn_hear(&s);
    rig_release();
    ck_assert_int_eq(spawn_end(&s), 0);
    temp_path(inflight, rig.path, "inflight");
    ck_assert_int_eq(access(inflight, F_OK), 0);
    rig_open();
    rig_close();
    rig_verify();
}
END_TEST

int main(int argc, char **argv)
{
    static struct scenario scenarios[ENDS + HELD];
    for (int i = 0; i < ENDS; i++) {
        scenarios[i] = ends[i].scenario;
    }
    memcpy(scenarios + ENDS, held, sizeof held);
    if (argc == 3) {
        return spawned_main(argv, scenarios, ENDS + HELD);
    }
    Suite *suite = suite_create("ends");
    TCase *tc = tcase_create("ends");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_loop_test(tc, end, 0, ENDS);
    tcase_add_loop_test(tc, exit_waits_for_open, 0, HELD);
    return spawn_suite(suite);
}
