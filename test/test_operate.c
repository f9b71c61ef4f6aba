/* What operators ask for, as they see it: dassie_change() and
 * dassie_configure(). */
#include "config.h"

#include "queue_rig.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>

#define DAY_MS UINT64_C(86400000)

static uint64_t enqueue_later(const char *queue)
{
    dassie_spec_t spec = rig_spec(queue, "x");
    int status;
    spec.delay_ms = DAY_MS;
    return rig_try_enqueue(&spec, &status);
}

/* ---- Changes ---- */

struct asked {
    dassie_change_t req;
    int status;
    int n;
};

static void on_change(dassie_change_t *req, int status)
{
    struct asked *asked = req->data;
    asked->status = status;
    asked->n++;
}

static struct asked change(dassie_action_t action,
                           const dassie_filter_t *filter)
{
    struct asked asked = {.n = 0};
    asked.req.data = &asked;
    ck_assert_int_eq(
        dassie_change(&rig.q, &asked.req, action, filter, on_change), 0);
    rig_wait(&asked.n, 1);
    return asked;
}

static struct asked change_id(dassie_action_t action, uint64_t id)
{
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.id = id;
    return change(action, &filter);
}

static dassie_state_t state_of(uint64_t id)
{
    struct rig_got got;
    return rig_get(&got, id)->state;
}

/* A processor whose job waits until it is cancelled. */
static struct {
    dassie_processor_t p;
    atomic_int running;
    dassie_job_t *job;
    int cancels;
} held;

static int on_fail(dassie_job_t *job)
{
    (void)job;
    held.running++;
    return UV_EIO;
}

static int on_work(dassie_job_t *job)
{
    held.running++;
    while (!dassie_job_cancelled(job)) {
        uv_sleep(1);
    }
    return UV_ECANCELED;
}

static void on_start(dassie_job_t *job)
{
    held.job = job;
    held.running++;
}

static void on_cancel(dassie_job_t *job)
{
    ck_assert_ptr_eq(job, held.job);
    ck_assert(dassie_job_cancelled(job));
    held.cancels++;
    ck_assert_int_eq(
        dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                      UV_ECANCELED, NULL, 0),
        0);
}

static void process(int async)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = async ? NULL : on_work;
    options.start = async ? on_start : NULL;
    options.cancel = async ? on_cancel : NULL;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
}

static bool is_running(void)
{
    return held.running > 0;
}

struct ended {
    dassie_watch_t req;
    int status;
    dassie_state_t state;
    int n;
};

static void on_ended(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    struct ended *ended = req->data;
    ended->status = status;
    ended->state = job != NULL ? job->state : DASSIE_PENDING;
    ended->n++;
}

static void watch(struct ended *ended, uint64_t id)
{
    memset(ended, 0, sizeof *ended);
    ended->req.data = ended;
    ck_assert_int_eq(dassie_watch(&rig.q, &ended->req, id, on_ended), 0);
}

/* Of both kinds of processors: it is told, and ends as cancelled. */
START_TEST(cancel_running)
{
    struct ended ended;
    process(_i);
    uint64_t id = rig_enqueue(NULL, "x");
    watch(&ended, id);
    rig_poll(is_running);
    struct asked asked = change_id(DASSIE_CANCEL, id);
    ck_assert_int_eq(asked.status, 0);
    ck_assert_int_eq(asked.req.was, DASSIE_RUNNING);
    ck_assert_uint_eq(asked.req.changed, 1);
    rig_wait(&ended.n, 1);
    ck_assert_int_eq(ended.status, 0);
    ck_assert_int_eq(ended.state, DASSIE_CANCELLED);
    ck_assert_int_eq(held.cancels, _i);
    ck_assert_uint_eq(rig_stats().cancelled, 1);
}
END_TEST

/* Jobs behind one that waits at a gate. */
#define BEHIND 50
static struct {
    atomic_int gate; /* the next one is it */
    atomic_int open;
    atomic_int ran;
} ahead;

static int on_ahead(dassie_job_t *job)
{
    (void)job;
    if (atomic_exchange(&ahead.gate, 0) != 0) {
        held.running++;
        while (ahead.open == 0) {
            uv_sleep(1);
        }
    } else {
        ahead.ran++;
    }
    return 0;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ++*(int *)req->data;
}

static uint64_t enqueue_behind(void)
{
    static const dassie_spec_t one = DASSIE_SPEC_INIT;
    dassie_spec_t specs[1 + BEHIND];
    int n = 0;
    dassie_enqueue_many_t req = {.data = &n};
    for (int i = 0; i < 1 + BEHIND; i++) {
        specs[i] = one;
    }
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &req, specs, 1 + BEHIND, on_many), 0);
    rig_wait(&n, 1);
    return req.first_id;
}

/* Claimed ahead of a free slot or not: what had not begun never does. */
START_TEST(cancel_unstarted)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    uint64_t ids[BEHIND];
    options.work = on_ahead;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
    enqueue_behind(); /* so fast are they */
    rig_drain();
    ahead.ran = 0;
    ahead.gate = 1;
    uint64_t first = enqueue_behind();
    rig_poll(is_running);
    for (int i = 0; i < BEHIND; i++) {
        ids[i] = first + 1 + (uint64_t)i;
    }
    filter.ids = ids;
    filter.ids_n = BEHIND;
    struct asked asked = change(DASSIE_CANCEL, &filter);
    ck_assert_uint_eq(asked.req.changed, BEHIND);
    ahead.open = 1;
    rig_drain();
    ck_assert_int_eq(ahead.ran, 0);
    ck_assert_uint_eq(rig_stats().cancelled, BEHIND);
}
END_TEST

START_TEST(one_by_one)
{
    uint64_t later = enqueue_later(NULL);
    uint64_t now = rig_enqueue(NULL, "x");
    struct asked asked = change_id(DASSIE_CANCEL, later);
    ck_assert_int_eq(asked.status, 0);
    ck_assert_int_eq(asked.req.was, DASSIE_SCHEDULED);
    asked = change_id(DASSIE_CANCEL, now);
    ck_assert_int_eq(asked.req.was, DASSIE_PENDING);
    ck_assert_int_eq(state_of(now), DASSIE_CANCELLED);
    asked = change_id(DASSIE_CANCEL, now);
    ck_assert_int_eq(asked.status, DASSIE_ESTATE);
    ck_assert_int_eq(asked.req.was, DASSIE_CANCELLED);
    ck_assert_uint_eq(asked.req.changed, 0);
    rig_reopen();
    ck_assert_int_eq(change_id(DASSIE_RETRY, now).status, 0);
    ck_assert_int_eq(state_of(now), DASSIE_PENDING);
    ck_assert_int_eq(change_id(DASSIE_DELETE, later).status, 0);
    ck_assert_int_eq(change_id(DASSIE_DELETE, later).status, UV_ENOENT);
    ck_assert_int_eq(change_id(DASSIE_DELETE, now).status, DASSIE_ESTATE);
    ck_assert_int_eq(change_id(DASSIE_CANCEL, 77).status, UV_ENOENT);
    later = enqueue_later(NULL);
    ck_assert_int_eq(change_id(DASSIE_RUN_NOW, later).status, 0);
    ck_assert_int_eq(state_of(later), DASSIE_PENDING);
}
END_TEST

/* Cancel tells those who wait for the end; so does a deletion, in its way. */
START_TEST(waiters)
{
    struct ended ends[2];
    uint64_t later = enqueue_later(NULL);
    uint64_t now = rig_enqueue(NULL, "x");
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    watch(&ends[0], later);
    watch(&ends[1], now);
    change_id(DASSIE_CANCEL, later);
    rig_wait(&ends[0].n, 1);
    ck_assert_int_eq(ends[0].status, 0);
    ck_assert_int_eq(ends[0].state, DASSIE_CANCELLED);
    filter.id = now;
    filter.states = DASSIE_IN(DASSIE_PENDING);
    ck_assert_int_eq(change(DASSIE_DELETE, &filter).status, 0);
    rig_wait(&ends[1].n, 1);
    ck_assert_int_eq(ends[1].status, UV_ENOENT);
}
END_TEST

START_TEST(many)
{
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    uint64_t ids[3];
    for (int i = 0; i < 600; i++) {
        uint64_t id = i % 2 == 0 ? enqueue_later("a") : rig_enqueue("b", "x");
        if (i < 3) {
            ids[i] = id;
        }
    }
    filter.ids = ids;
    filter.ids_n = 3;
    ck_assert_uint_eq(change(DASSIE_CANCEL, &filter).req.changed, 3);
    filter.ids = NULL;
    filter.ids_n = 0;
    filter.queue = "a";
    ck_assert_uint_eq(change(DASSIE_CANCEL, &filter).req.changed, 298);
    ck_assert_uint_eq(rig_counts().scheduled, 0);
    ck_assert_uint_eq(rig_counts().pending, 299);
    ck_assert_uint_eq(change(DASSIE_DELETE, &filter).req.changed, 300);
    filter.queue = "nobody's";
    ck_assert_uint_eq(change(DASSIE_CANCEL, &filter).req.changed, 0);
    filter.queue = NULL;
    filter.states = DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_CANCELLED);
    ck_assert_uint_eq(change(DASSIE_DELETE, &filter).req.changed, 300);
}
END_TEST

START_TEST(bad_changes)
{
    static const uint64_t id = 1;
    static const uint64_t ids[] = {1, 0, 2};
    dassie_change_t req = {.data = NULL};
    dassie_filter_t filters[7];
    for (int i = 0; i < 7; i++) {
        static const dassie_filter_t init = DASSIE_FILTER_INIT;
        filters[i] = init;
    }
    filters[0].size = 1;
    filters[1].id = 1;
    filters[1].ids = &id;
    filters[1].ids_n = 1;
    filters[2].ids_n = 1;
    filters[3].states = DASSIE_IN(DASSIE_COMPLETE);
    filters[4].queue = "";
    filters[5].age_ms = UINT64_MAX;
    filters[6].ids = ids;
    filters[6].ids_n = 3;
    for (int i = 0; i < 7; i++) {
        ck_assert_int_eq(
            dassie_change(&rig.q, &req, DASSIE_CANCEL, &filters[i], on_change),
            UV_EINVAL);
    }
    filters[0].size = sizeof filters[0];
    ck_assert_int_eq(dassie_change(&rig.q, &req, 0, &filters[0], NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_change(&rig.q, &req, 5, &filters[0], NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_change(&rig.q, NULL, 1, &filters[0], NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_change(&rig.q, &req, 1, NULL, NULL), UV_EINVAL);
    filters[0].ids = &id;
    filters[0].ids_n = DASSIE_CHANGE_IDS_MAX + 1;
    ck_assert_int_eq(dassie_change(&rig.q, &req, 1, &filters[0], NULL),
                     UV_E2BIG);
}
END_TEST

/* What is not done by then is told so. */
START_TEST(closed_meanwhile)
{
    struct asked asked = {.n = 0};
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    for (int i = 0; i < 2000; i++) {
        enqueue_later(NULL);
    }
    asked.req.data = &asked;
    ck_assert_int_eq(
        dassie_change(&rig.q, &asked.req, DASSIE_CANCEL, &filter, on_change),
        0);
    rig_close();
    ck_assert_int_eq(asked.n, 1);
    ck_assert(asked.status == UV_ECANCELED ||
              (asked.status == 0 && asked.req.changed == 2000));
    rig_open();
    ck_assert_uint_eq(rig_counts().cancelled, asked.req.changed);
}
END_TEST

/* ---- Settings ---- */

struct told {
    dassie_configure_t req;
    dassie_settings_t settings;
    int status;
    int n;
};

static void on_configure(dassie_configure_t *req, int status,
                         const dassie_settings_t *settings)
{
    struct told *told = req->data;
    told->status = status;
    told->n++;
    if (settings != NULL) {
        told->settings = *settings;
    }
}

static struct told configure(const char *queue,
                             const dassie_settings_t *settings)
{
    struct told told = {.n = 0};
    told.req.data = &told;
    ck_assert_int_eq(
        dassie_configure(&rig.q, &told.req, queue, 0, settings, on_configure),
        0);
    rig_wait(&told.n, 1);
    return told;
}

static void set_paused(const char *queue, int paused)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = paused;
    struct told told = configure(queue, &settings);
    ck_assert_int_eq(told.status, 0);
    ck_assert_int_eq(told.settings.paused, paused);
}

static int on_count(dassie_job_t *job)
{
    (void)job;
    held.running++;
    return 0;
}

static void count_jobs(const char *queue)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = on_count;
    memset(&held, 0, sizeof held);
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
}

/* Nothing of it starts, of others all; also after a restart. */
START_TEST(pause_and_resume)
{
    set_paused(NULL, 1);
    count_jobs("default");
    uint64_t id = rig_enqueue(NULL, "x");
    rig_enqueue(NULL, "y");
    ck_assert_uint_eq(rig_counts().pending, 2);
    rig_reopen();
    ck_assert_int_eq(configure(NULL, NULL).settings.paused, 1);
    count_jobs("default");
    rig_enqueue(NULL, "z");
    ck_assert_int_eq(state_of(id), DASSIE_PENDING);
    ck_assert_int_eq(held.running, 0);
    set_paused(NULL, 0);
    rig_drain();
    ck_assert_int_eq(held.running, 3);
}
END_TEST

/* A paused queue holds up none that is served after it. */
START_TEST(pause_of_several)
{
    uv_buf_t queues[2];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    static char first[] = "first";
    static char second[] = "second";
    queues[0] = uv_buf_init(first, 5);
    queues[1] = uv_buf_init(second, 6);
    options.queues = queues;
    options.queues_n = 2;
    options.work = on_count;
    set_paused("first", 1);
    memset(&held, 0, sizeof held);
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
    rig_enqueue("first", "x");
    struct ended ended;
    watch(&ended, rig_enqueue("second", "x"));
    rig_wait(&ended.n, 1);
    ck_assert_uint_eq(rig_counts().pending, 1);
    set_paused("first", 0);
    rig_drain();
}
END_TEST

START_TEST(defaults_of_a_queue)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    struct rig_got got;
    settings.set = DASSIE_SET_ATTEMPTS | DASSIE_SET_BACKOFF;
    settings.attempts_max = 7;
    settings.backoff_ms = settings.backoff_max_ms = DAY_MS;
    ck_assert_int_eq(configure(NULL, NULL).status, UV_ENOENT);
    configure(NULL, &settings);
    set_paused(NULL, 0); /* changes nothing else */
    rig_reopen();
    struct told told = configure(NULL, NULL);
    ck_assert_uint_eq(told.settings.attempts_max, 7);
    ck_assert_uint_eq(told.settings.backoff_ms, DAY_MS);
    ck_assert_uint_eq(told.settings.backoff_max_ms, DAY_MS);
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = on_fail;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
    dassie_spec_t spec = rig_spec(NULL, "x");
    int status;
    spec.attempts_max = 0;
    uint64_t id = rig_try_enqueue(&spec, &status);
    rig_poll(is_running);
    rig_drain();
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_SCHEDULED);
    ck_assert_uint_gt(info->due_ms, info->enqueued_ms + DAY_MS / 2);
    spec.flags = DASSIE_AT_MOST_ONCE;
    id = rig_try_enqueue(&spec, &status);
    rig_drain();
    ck_assert_int_eq(rig_get(&got, id)->state, DASSIE_FAILED);
}
END_TEST

/* None of a state are kept, and the figures tell. */
static bool are_swept(void)
{
    return rig_stats().swept == 5;
}

START_TEST(keep_none)
{
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.jobs = DASSIE_KEEP_NONE;
    settings.keep_failed.ms = DASSIE_KEEP_ALL;
    settings.keep_cancelled.bytes = 7;
    configure(NULL, &settings);
    rig_reopen();
    struct told told = configure(NULL, NULL);
    ck_assert_uint_eq(told.settings.keep_complete.jobs, DASSIE_KEEP_NONE);
    ck_assert_uint_eq(told.settings.keep_failed.ms, DASSIE_KEEP_ALL);
    ck_assert_uint_eq(told.settings.keep_cancelled.bytes, 7);
    count_jobs("default");
    for (int i = 0; i < 5; i++) {
        rig_enqueue(NULL, "x");
    }
    rig_drain();
    rig_poll(are_swept);
    ck_assert_uint_eq(rig_counts().complete, 0);
}
END_TEST

static int on_result(dassie_job_t *job)
{
    return dassie_job_set_result(job, "result", 6);
}

/* The result of a complete job stays without its payload; a failed one can be
 * tried again with all of it. */
START_TEST(result_outlives_payload)
{
    struct rig_got got;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    settings.set = DASSIE_SET_PAYLOAD;
    settings.drop_payload = 1;
    configure("well", &settings);
    configure("badly", &settings);
    options.queue = "well";
    options.work = on_result;
    ck_assert_int_eq(dassie_process(&rig.q, &held.p, &options), 0);
    static dassie_processor_t failing;
    options.queue = "badly";
    options.work = on_fail;
    ck_assert_int_eq(dassie_process(&rig.q, &failing, &options), 0);
    uint64_t well = rig_enqueue("well", "payload");
    uint64_t badly = rig_enqueue("badly", "payload");
    rig_drain();
    for (int i = 0; i < 2; i++) {
        const dassie_info_t *info = rig_get(&got, well);
        ck_assert_int_eq(info->state, DASSIE_COMPLETE);
        ck_assert_uint_eq(info->data_len, 0);
        ck_assert_uint_eq(info->result_len, 6);
        ck_assert_mem_eq(info->result, "result", 6);
        info = rig_get(&got, badly);
        ck_assert_int_eq(info->state, DASSIE_FAILED);
        ck_assert_uint_eq(info->data_len, 7);
        rig_reopen();
        ck_assert_int_eq(configure("well", NULL).settings.drop_payload, 1);
    }
}
END_TEST

START_TEST(bad_settings)
{
    dassie_configure_t req = {.data = NULL};
    dassie_settings_t all[7];
    for (int i = 0; i < 7; i++) {
        static const dassie_settings_t init = DASSIE_SETTINGS_INIT;
        all[i] = init;
    }
    all[0].size = 0;
    all[1].set = 1u << 31;
    all[2].paused = 2;
    all[3].attempts_max = DASSIE_ATTEMPTS_MAX + 1;
    all[4].backoff_ms = UINT64_MAX;
    all[5].backoff_max_ms = UINT64_MAX;
    all[6].drop_payload = 2;
    for (int i = 0; i < 7; i++) {
        ck_assert_int_eq(
            dassie_configure(&rig.q, &req, NULL, 0, &all[i], on_configure),
            UV_EINVAL);
    }
    ck_assert_int_eq(dassie_configure(&rig.q, &req, NULL, 0, NULL, NULL),
                     UV_EINVAL);
    ck_assert_int_eq(
        dassie_configure(&rig.q, NULL, NULL, 0, NULL, on_configure), UV_EINVAL);
    ck_assert_int_eq(dassie_configure(&rig.q, &req, "", 0, NULL, on_configure),
                     UV_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("operate");
    TCase *tc = tcase_create("operate");
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, cancel_running, 0, 2);
    tcase_add_test(tc, cancel_unstarted);
    tcase_add_test(tc, one_by_one);
    tcase_add_test(tc, waiters);
    tcase_add_test(tc, many);
    tcase_add_test(tc, bad_changes);
    tcase_add_test(tc, closed_meanwhile);
    tcase_add_test(tc, pause_and_resume);
    tcase_add_test(tc, pause_of_several);
    tcase_add_test(tc, defaults_of_a_queue);
    tcase_add_test(tc, keep_none);
    tcase_add_test(tc, result_outlives_payload);
    tcase_add_test(tc, bad_settings);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
