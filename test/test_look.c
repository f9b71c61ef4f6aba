/* A store that is only looked at, with DASSIE_READ_ONLY: left by a kill, closed
 * well, owned, empty or not there. All that is asked is answered, what would
 * change it is refused, and not a byte of it changes. */
#include "config.h"

#include "queue_rig.h"

/* ---- What is looked at ---- */

static uint64_t held; /* the job under way */
static int held_n;

static void start_hold(dassie_job_t *job)
{
    held = dassie_job_id(job);
    ck_assert_int_eq(dassie_job_progress(job, 1, 2, "half", 4), 0);
    held_n++;
}

static dassie_processor_t processor;

static void process(const char *queue)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.start = start_hold;
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
}

static void configure_pause(const char *queue)
{
    dassie_configure_t req = {.data = NULL};
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_PAUSED;
    settings.paused = 1;
    ck_assert_int_eq(dassie_configure(&rig.q, &req, queue, 0, &settings, NULL),
                     0);
    rig_counts(); /* it has been done */
}

static uint64_t running, pending, paused;

/* Two jobs wait, one is due soon, one runs. */
static void make_store(void)
{
    rig_open();
    running = rig_enqueue("runs", "under way");
    process("runs");
    rig_wait(&held_n, 1);
    ck_assert_uint_eq(held, running);
    pending = rig_enqueue("waits", "pending");
    dassie_spec_t spec = rig_spec("waits", "due");
    int status;
    spec.delay_ms = 1;
    rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    paused = rig_enqueue("paused", "pending, too");
    configure_pause("paused");
}

/* What a kill at this moment would leave is put at DIR/killed. */
static void copy_store(void)
{
    char command[3 * PATH_MAX];
    char killed[PATH_MAX];
    temp_path(killed, rig.dir, "killed");
    snprintf(command, sizeof command, "cp -R '%s' '%s'", rig.path, killed);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, held, 1, 0, "well", 4), 0);
    rig_close();
    temp_path(rig.path, rig.dir, "killed");
}

static void setup(void)
{
    rig_setup();
    held_n = 0;
    make_store();
}

static void teardown(void)
{
    rig_teardown();
}

static void look(void)
{
    rig.options.flags = DASSIE_READ_ONLY;
    rig_open();
}

/* ---- Tests ---- */

static void check_state(uint64_t id, dassie_state_t state, const char *data)
{
    static struct rig_got got;
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, state);
    ck_assert_uint_eq(info->data_len, strlen(data));
    ck_assert_mem_eq(info->data, data, info->data_len);
    ck_assert_uint_eq(info->attempts, state != DASSIE_PENDING);
}

static int listed;

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(req->more, 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(jobs[0].id, running);
    listed++;
}

static void check_running_list(void)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    dassie_list_t req = {.data = NULL};
    options.state = DASSIE_RUNNING;
    listed = 0;
    ck_assert_int_eq(dassie_list(&rig.q, &req, &options, on_list), 0);
    rig_wait(&listed, 1);
}

static struct {
    int n;
    int status;
    int paused;
} settled;

static void on_settings(dassie_configure_t *req, int status,
                        const dassie_settings_t *settings)
{
    (void)req;
    settled.n++;
    settled.status = status;
    settled.paused = status == 0 && settings->paused;
}

static void check_settings(void)
{
    dassie_configure_t req = {.data = NULL};
    settled.n = 0;
    ck_assert_int_eq(
        dassie_configure(&rig.q, &req, "paused", 0, NULL, on_settings), 0);
    rig_wait(&settled.n, 1);
    ck_assert_int_eq(settled.status, 0);
    ck_assert_int_eq(settled.paused, 1);
}

/* As it was left, however often. What is due does not become pending. */
START_TEST(after_a_kill)
{
    copy_store();
    for (int i = 0; i < 2; i++) {
        uint64_t digest = temp_dir_digest(rig.path, "lock");
        look();
        dassie_count_t count = rig_counts();
        ck_assert_uint_eq(count.running, 1);
        ck_assert_uint_eq(count.pending + count.scheduled, 3);
        check_state(running, DASSIE_RUNNING, "under way");
        check_state(pending, DASSIE_PENDING, "pending");
        check_running_list();
        check_settings();
        ck_assert_uint_eq(rig_stats().interrupted, 0);
        ck_assert_uint_eq(rig_stats().commits, 0);
        rig_close();
        ck_assert_uint_eq(temp_dir_digest(rig.path, "lock"), digest);
    }
    rig.options.flags = 0;
    rig_open();
    ck_assert_uint_eq(rig_stats().interrupted, 1);
    rig_close();
    rig_verify();
}
END_TEST

static int changes;
static int change_status;

static void on_change(dassie_change_t *req, int status)
{
    (void)req;
    changes++;
    change_status = status;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    on_change(NULL, status);
}

static void on_refused_settings(dassie_configure_t *req, int status,
                                const dassie_settings_t *settings)
{
    (void)req;
    ck_assert_ptr_null(settings);
    on_change(NULL, status);
}

static void check_refused(int n)
{
    rig_wait(&changes, n);
    ck_assert_int_eq(change_status, UV_EROFS);
}

static void try_changes(void)
{
    dassie_spec_t spec = rig_spec("waits", "no");
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    dassie_enqueue_many_t many = {.data = NULL};
    dassie_change_t change = {.data = NULL};
    dassie_configure_t configure = {.data = NULL};
    int status;
    changes = 0;
    rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, UV_EROFS);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec, 1, on_many), 0);
    check_refused(1);
    ck_assert_int_eq(
        dassie_change(&rig.q, &change, DASSIE_CANCEL, &filter, on_change), 0);
    check_refused(2);
    settings.set = DASSIE_SET_PAUSED;
    ck_assert_int_eq(dassie_configure(&rig.q, &configure, "paused", 0,
                                      &settings, on_refused_settings),
                     0);
    check_refused(3);
}

START_TEST(nothing_changes)
{
    copy_store();
    uint64_t digest = temp_dir_digest(rig.path, "lock");
    look();
    held_n = 0;
    process("waits");
    try_changes();
    rig_stop(&processor);
    ck_assert_int_eq(held_n, 0);
    rig_close();
    ck_assert_uint_eq(temp_dir_digest(rig.path, "lock"), digest);
}
END_TEST

START_TEST(closed_well)
{
    ck_assert_int_eq(dassie_finish(&rig.q, held, 1, 0, "well", 4), 0);
    rig_stop(&processor);
    rig_close();
    uint64_t digest = temp_dir_digest(rig.path, "lock");
    look();
    check_state(running, DASSIE_COMPLETE, "under way");
    check_state(paused, DASSIE_PENDING, "pending, too");
    check_settings();
    rig_close();
    ck_assert_uint_eq(temp_dir_digest(rig.path, "lock"), digest);
}
END_TEST

static int second_opened;
static int second_status;

static void on_second(dassie_t *q, int status)
{
    second_status = status;
    second_opened++;
    ck_assert_int_eq(dassie_close(q, NULL), 0);
}

/* An owner is not disturbed. */
START_TEST(owned)
{
    dassie_t second;
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    options.flags = DASSIE_READ_ONLY;
    ck_assert_int_eq(dassie_init(&rig.loop, &second), 0);
    ck_assert_int_eq(dassie_open(&second, rig.path, &options, on_second), 0);
    rig_wait(&second_opened, 1);
    ck_assert_int_eq(second_status, UV_EBUSY);
    ck_assert_int_eq(dassie_finish(&rig.q, held, 1, 0, "well", 4), 0);
    rig_stop(&processor);
    rig_close();
    rig_verify();
}
END_TEST

START_TEST(nothing_there)
{
    ck_assert_int_eq(dassie_finish(&rig.q, held, 1, 0, "well", 4), 0);
    rig_close();
    temp_path(rig.path, rig.dir, "other");
    rig.options.flags = DASSIE_READ_ONLY;
    ck_assert_int_eq(rig_try_open(), UV_ENOENT);
    rig_close();
    ck_assert_int_eq(access(rig.path, F_OK), -1);
    ck_assert_int_eq(mkdir(rig.path, 0755), 0);
    temp_file_write(rig.path, "FORMAT", "dassie 1\n", 9);
    ck_assert_int_eq(rig_try_open(), UV_ENOENT);
    rig_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("look");
    TCase *tc = tcase_create("look");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, after_a_kill);
    tcase_add_test(tc, nothing_changes);
    tcase_add_test(tc, closed_well);
    tcase_add_test(tc, owned);
    tcase_add_test(tc, nothing_there);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
