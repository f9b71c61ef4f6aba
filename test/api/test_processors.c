/* Processors that misbehave: they call what is not theirs to call, jump, fork,
 * end a run twice, late or with another's attempt, and leave too much behind.
 * Each time the queue goes on, and the store is sound. (How one ends its whole
 * process is in test_ends.c.) */
#include "config.h"

#include "spawn.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

static dassie_processor_t p;

static void process(dassie_work_cb work, dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = work;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
}

static void counts_are(uint64_t complete, uint64_t failed)
{
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.complete, complete);
    ck_assert_uint_eq(count.failed, failed);
    ck_assert_uint_eq(count.pending + count.running, 0);
}

/* ---- What is not for its thread ---- */

static void never_enqueued(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    (void)status;
    abort();
}

static struct {
    dassie_watch_t watch;
    dassie_get_t get;
    dassie_list_t list;
    dassie_counts_t counts;
    dassie_drain_t drain;
    dassie_processor_t processor;
} ask;

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    (void)req, (void)status, (void)job;
    abort();
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req, (void)status, (void)job;
    abort();
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req, (void)status, (void)jobs, (void)n;
    abort();
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req, (void)status, (void)count;
    abort();
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req, (void)status;
    abort();
}

/* All that is for the loop's thread alone. */
static int call_loops(int i)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.start = NULL;
    switch (i) {
        case 0:
            return dassie_close(&rig.q, NULL);
        case 1:
            return dassie_open(&rig.q, rig.path, NULL, NULL);
        case 2:
            return dassie_watch(&rig.q, &ask.watch, 1, on_watch);
        case 3:
            return dassie_get(&rig.q, &ask.get, 1, on_get);
        case 4:
            return dassie_list(&rig.q, &ask.list, NULL, on_list);
        case 5:
            return dassie_counts(&rig.q, &ask.counts, NULL, 0, on_counts);
        case 6:
            return dassie_drain(&rig.q, &ask.drain, NULL, 0, on_drain);
        case 7:
            return dassie_process(&rig.q, &ask.processor, &options);
        case 8:
            return dassie_processor_stop(&p, NULL);
        default:
            return 1;
    }
}

static int work_calls(dassie_job_t *job)
{
    int i = 0;
    (void)job;
    while (call_loops(i) == UV_EPERM) {
        i++;
    }
    return i == 9 && call_loops(9) == 1 ? 0 : UV_EPROTO;
}

START_TEST(not_its_thread)
{
    process(work_calls, NULL);
    rig_enqueue(NULL, "x");
    rig_drain();
    counts_are(1, 0);
}
END_TEST

#ifdef DASSIE_DEBUG
static void other_thread(void *arg)
{
    int *calls_refused = arg;
    while (call_loops(*calls_refused) == UV_EPERM) {
        ++*calls_refused;
    }
}

START_TEST(another_thread)
{
    uv_thread_t thread;
    int refused = 0;
    process(work_calls, NULL);
    ck_assert_int_eq(uv_thread_create(&thread, other_thread, &refused), 0);
    ck_assert_int_eq(uv_thread_join(&thread), 0);
    ck_assert_int_eq(refused, 9);
}
END_TEST
#endif

/* What is for any thread works in there. */
static int work_enqueues(dassie_job_t *job)
{
    static dassie_enqueue_many_t many;
    dassie_stats_t stats;
    dassie_spec_t specs[] = {rig_spec(NULL, "2"), rig_spec(NULL, "2")};
    size_t len;
    const char *data = dassie_job_data(job, &len);
    if (len == 1 && data[0] == '1') {
        return dassie_enqueue(&rig.q, NULL, specs, NULL) +
               dassie_enqueue_many(&rig.q, &many, specs, 2, NULL) +
               dassie_stats(&rig.q, &stats);
    }
    return 0;
}

START_TEST(enqueues)
{
    process(work_enqueues, NULL);
    rig_enqueue(NULL, "1");
    rig_drain();
    counts_are(4, 0);
}
END_TEST

/* Its own frame's affair. */
static int work_jumps(dassie_job_t *job)
{
    jmp_buf back;
    static volatile int jumps;
    if (setjmp(back) == 0) {
        jumps++;
        longjmp(back, 1);
    }
    return dassie_job_set_result(job, "jumped", 6);
}

START_TEST(jumps)
{
    struct rig_got got;
    process(work_jumps, NULL);
    uint64_t id = rig_enqueue(NULL, "x");
    rig_drain();
    ck_assert_str_eq(rig_get(&got, id)->result, "jumped");
}
END_TEST

/* ---- Forks ---- */

/* The child is nobody to the queue, and ends. */
static int fork_and_call(void)
{
    int status = -1;
    dassie_spec_t spec = rig_spec(NULL, "x");
    dassie_enqueue_many_t many;
    pid_t child = fork();
    if (child == 0) {
        int bad = dassie_enqueue(&rig.q, NULL, &spec, NULL) != UV_EPERM;
        bad += dassie_enqueue_many(&rig.q, &many, &spec, 1, never_enqueued) !=
               UV_EPERM;
        bad += dassie_finish(&rig.q, 1, 1, 0, NULL, 0) != UV_EPERM;
        for (int i = 0; i < 9; i++) {
            bad += call_loops(i) != UV_EPERM;
        }
        _exit(bad);
    }
    return child > 0 && waitpid(child, &status, 0) == child ? status
                                                            : UV_EPROTO;
}

static int work_forks(dassie_job_t *job)
{
    (void)job;
    return fork_and_call();
}

static void start_forks(dassie_job_t *job)
{
    int status = fork_and_call();
    dassie_finish(&rig.q, dassie_job_id(job), 1, status, NULL, 0);
}

START_TEST(forks)
{
    enum { JOBS = 20 };
    process(_i == 0 ? work_forks : NULL, _i == 0 ? NULL : start_forks);
    for (int i = 0; i < JOBS; i++) {
        dassie_spec_t spec = rig_spec(NULL, "x");
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    }
    rig_drain();
    counts_are(JOBS, 0);
}
END_TEST

/* ---- Attempts ---- */

static int started;
static uint64_t started_id;
static uint32_t started_attempt;

static void start(dassie_job_t *job)
{
    started++;
    started_id = dassie_job_id(job);
    started_attempt = dassie_job_attempt(job);
}

/* The first owner starts the job, and is killed. */
static void first_attempt(void)
{
    rig_open();
    process(NULL, start);
    rig_enqueue(NULL, "x");
    rig_wait(&started, 1);
    spawned_tell();
    spawned_wait();
}

/* Who ends the first attempt while the second one runs ends nothing; so does
 * who names another job, or ends it twice, while the queue is open, and while
 * it closes. */
START_TEST(attempts)
{
    struct spawned s;
    struct rig_got got;
    rig_close();
    spawn(&s, "first_attempt");
    spawn_hear(&s);
    ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
    ck_assert(WIFSIGNALED(spawn_end(&s)));
    rig_open();
    process(NULL, start);
    rig_wait(&started, 1);
    uint64_t id = started_id;
    ck_assert_uint_eq(started_attempt, 2);
    const int late[] = {1, 0, 3};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(
            dassie_finish(&rig.q, id, (uint32_t)late[i], 0, "late", 4),
            UV_EALREADY);
    }
    ck_assert_int_eq(dassie_finish(&rig.q, id + 1, 1, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, 0, 0, 0, NULL, 0), UV_EALREADY);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 2, 0, "well", 4), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 2, UV_EIO, "late", 4),
                     UV_EALREADY);
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_uint_eq(info->attempts, 2);
    ck_assert_str_eq(info->result, "well");
    rig.closed = 0;
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 2, 0, NULL, 0), UV_EALREADY);
    rig_wait(&rig.closed, 1);
    rig_open();
}
END_TEST

/* ---- What it leaves behind ---- */

static const struct {
    const char *first; /* "r" a result, "e" an error's text, "R" too large */
    int status;        /* it returns */
    const char *kept;
} leaves[] = {
    {"re", 0, ""},   {"re", UV_EIO, "e"}, {"er", 0, "r"}, {"er", UV_EIO, NULL},
    {"rrr", 0, "r"}, {"rR", 0, "r"},      {"R", 0, ""},   {"eE", UV_EIO, "e"},
};

static int leave(dassie_job_t *job, char what)
{
    static char big[DASSIE_PAYLOAD_BYTES_MAX + 1];
    switch (what) {
        case 'r':
            return dassie_job_set_result(job, "r", 1);
        case 'e':
            return dassie_job_set_error(job, "e", 1);
        case 'R':
            return dassie_job_set_result(job, big, sizeof big) != UV_E2BIG;
        default:
            return dassie_job_set_error(job, big, DASSIE_ERROR_BYTES_MAX + 1) !=
                   UV_E2BIG;
    }
}

static atomic_int leaves_at;

static int work_leaves(dassie_job_t *job)
{
    for (const char *c = leaves[leaves_at].first; *c != '\0'; c++) {
        if (leave(job, *c) != 0) {
            return UV_EPROTO;
        }
    }
    return leaves[leaves_at].status;
}

/* The last call counts; of the wrong kind, it leaves nothing of that kind. */
START_TEST(results_and_errors)
{
    struct rig_got got;
    leaves_at = _i;
    process(work_leaves, NULL);
    uint64_t id = rig_enqueue(NULL, "x");
    rig_drain();
    const dassie_info_t *info = rig_get(&got, id);
    const char *kept = leaves[_i].kept != NULL
                           ? leaves[_i].kept
                           : dassie_strerror(leaves[_i].status);
    ck_assert_int_eq(info->error_code, leaves[_i].status);
    if (leaves[_i].status == 0) {
        ck_assert_int_eq(info->state, DASSIE_COMPLETE);
        ck_assert_uint_eq(info->result_len, strlen(kept));
        ck_assert_mem_eq(info->result, kept, strlen(kept));
    } else {
        ck_assert_int_eq(info->state, DASSIE_FAILED);
        ck_assert_str_eq(info->error, kept);
    }
}
END_TEST

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        {"first_attempt", first_attempt}};
    if (argc == 3) {
        return spawned_main(argv, scenarios, 1);
    }
    Suite *suite = suite_create("processors");
    TCase *tc = tcase_create("processors");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    tcase_add_test(tc, not_its_thread);
#ifdef DASSIE_DEBUG
    tcase_add_test(tc, another_thread);
#endif
    tcase_add_test(tc, enqueues);
    tcase_add_test(tc, jumps);
    tcase_add_loop_test(tc, forks, 0, 2);
    tcase_add_test(tc, attempts);
    tcase_add_loop_test(tc, results_and_errors, 0,
                        (int)(sizeof leaves / sizeof leaves[0]));
    return spawn_suite(suite);
}
