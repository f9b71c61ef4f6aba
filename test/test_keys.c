/* What users see of unique keys. */
#include "config.h"

#include "queue_rig.h"

#include <check.h>
#include <stdlib.h>

/* ---- Steps ---- */

static dassie_spec_t keyed(const char *data, dassie_conflict_t on_conflict)
{
    dassie_spec_t spec = rig_spec("mail", data);
    spec.unique = "a key";
    spec.on_conflict = on_conflict;
    return spec;
}

/* An enqueue, and what was told of it. */
struct asked {
    dassie_enqueue_t req;
    int acks;
    int status;
    int dones;
    int done_status;
    uint64_t done_id;
    int done_state;
    char result[16];
    size_t result_len;
};

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct asked *asked = req->data;
    ck_assert_int_eq(asked->dones, 0);
    asked->status = status;
    asked->acks++;
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct asked *asked = req->data;
    ck_assert_int_eq(asked->acks, 1);
    asked->done_status = status;
    if (job != NULL) {
        asked->done_id = job->id;
        asked->done_state = job->state;
        ck_assert_ptr_null(job->data);
        ck_assert_uint_eq(job->unique_len, 5);
        ck_assert_mem_eq(job->unique, "a key", 5);
        asked->result_len = job->result_len;
        rig_keep(asked->result, sizeof asked->result, job->result,
                 job->result_len);
    }
    asked->dones++;
}

static void ask(struct asked *asked, const dassie_spec_t *spec)
{
    memset(asked, 0, sizeof *asked);
    asked->req.data = asked;
    asked->req.done_cb = on_done;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &asked->req, spec, on_ack), 0);
}

static void asked_all(struct asked *asked, int n)
{
    for (int i = 0; i < n; i++) {
        rig_wait(&asked[i].acks, 1);
        ck_assert_int_eq(asked[i].status, 0);
    }
}

static void on_start(dassie_job_t *job)
{
    ck_assert_int_eq(dassie_finish(&rig.q, dassie_job_id(job),
                                   dassie_job_attempt(job), 0, "out", 3),
                     0);
}

static void process(dassie_processor_t *p)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = "mail";
    options.start = on_start;
    memset(p, 0, sizeof *p);
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
}

/* ---- Keep ---- */

/* All who asked for it are told its end, whether it is there or not. */
START_TEST(all_are_told)
{
    dassie_processor_t p;
    dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_KEEP);
    static struct asked asked[4];
    spec.unique_until = DASSIE_UNTIL_TIME;
    spec.unique_ms = 3600000;
    for (int i = 0; i < 3; i++) {
        ask(&asked[i], &spec);
    }
    asked_all(asked, 3);
    uint64_t id = asked[0].req.id;
    process(&p);
    for (int i = 0; i < 4; i++) {
        if (i == 3) { /* long after its end */
            ask(&asked[i], &spec);
            asked_all(&asked[i], 1);
        }
        rig_wait(&asked[i].dones, 1);
        ck_assert_int_eq(asked[i].req.existing, i > 0);
        ck_assert_uint_eq(asked[i].req.id, id);
        ck_assert_int_eq(asked[i].done_status, 0);
        ck_assert_uint_eq(asked[i].done_id, id);
        ck_assert_int_eq(asked[i].done_state, DASSIE_COMPLETE);
        ck_assert_uint_eq(asked[i].result_len, 3);
    }
    ck_assert_uint_eq(rig_counts().complete, 1);
    rig_stop(&p);
}
END_TEST

/* Its job is gone: who meets it hears so, as does who waits when it goes. */
START_TEST(told_of_a_deletion)
{
    dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_KEEP);
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    dassie_change_t req = {0};
    static struct asked asked[2];
    ask(&asked[0], &spec);
    ask(&asked[1], &spec);
    asked_all(asked, 2);
    filter.id = asked[0].req.id;
    filter.states = DASSIE_IN(DASSIE_PENDING);
    ck_assert_int_eq(dassie_change(&rig.q, &req, DASSIE_DELETE, &filter, NULL),
                     0);
    rig_wait(&asked[0].dones, 1);
    rig_wait(&asked[1].dones, 1);
    ck_assert_int_eq(asked[0].done_status, UV_ENOENT);
    ck_assert_int_eq(asked[1].done_status, UV_ENOENT);
}
END_TEST

/* ---- Replace and move ---- */

/* A chain of them, asked for at once: each waits for its turn, and the last one
 * is left. One without a key passes them. */
START_TEST(the_last_one_is_left)
{
    enum { N = 50 };
    static struct asked asked[N];
    static struct asked meets[N];
    static const char *const data[] = {"even", "odd"};
    for (int i = 0; i < N; i++) {
        dassie_spec_t spec = keyed(data[i % 2], DASSIE_CONFLICT_REPLACE);
        ask(&asked[i], &spec);
        spec.on_conflict = DASSIE_CONFLICT_KEEP; /* not before that one */
        ask(&meets[i], &spec);
    }
    rig_enqueue("mail", "plain");
    asked_all(asked, N);
    asked_all(meets, N);
    for (int i = 0; i < N - 1; i++) {
        rig_wait(&asked[i].dones, 1);
        ck_assert_int_eq(asked[i].req.existing, 0);
        ck_assert_int_eq(meets[i].req.existing, 1);
        ck_assert_uint_eq(meets[i].req.id, asked[i].req.id);
        ck_assert_int_eq(asked[i].done_state, DASSIE_CANCELLED);
        ck_assert_uint_eq(asked[i].done_id, asked[i].req.id);
        ck_assert_uint_lt(asked[i].req.id, asked[i + 1].req.id);
    }
    ck_assert_int_eq(asked[N - 1].dones, 0);
    dassie_count_t count = rig_counts();
    ck_assert_uint_eq(count.pending, 2);
    ck_assert_uint_eq(count.cancelled, N - 1);
    struct rig_got got;
    ck_assert_str_eq(rig_get(&got, asked[0].req.id)->error, "replaced");
    ck_assert_uint_eq(rig_get(&got, asked[N - 1].req.id)->data_len, 3);
}
END_TEST

/* A close in the middle answers all. */
START_TEST(closed_meanwhile)
{
    enum { N = 20 };
    static struct asked asked[N];
    for (int i = 0; i < N; i++) {
        dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_REPLACE);
        ask(&asked[i], &spec);
    }
    rig_close();
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(asked[i].acks, 1);
        ck_assert_int_eq(asked[i].status, 0);
        ck_assert_int_eq(asked[i].dones, 1);
        ck_assert_int_eq(asked[i].done_status, i < N - 1 ? 0 : UV_ECANCELED);
    }
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
}
END_TEST

/* Each one puts it off; what was asked for is what it waits for. */
START_TEST(put_off)
{
    static struct asked asked[3];
    struct rig_got got;
    for (int i = 0; i < 3; i++) {
        dassie_spec_t spec =
            keyed(i == 0 ? "first" : "x", DASSIE_CONFLICT_MOVE);
        spec.run_at_ms = UINT64_C(4000000000000) + (uint64_t)i;
        ask(&asked[i], &spec);
    }
    asked_all(asked, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(asked[i].req.existing, i > 0);
        ck_assert_uint_eq(asked[i].req.id, asked[0].req.id);
    }
    const dassie_info_t *info = rig_get(&got, asked[0].req.id);
    ck_assert_int_eq(info->state, DASSIE_SCHEDULED);
    ck_assert_uint_eq(info->due_ms, UINT64_C(4000000000002));
    ck_assert_uint_eq(info->data_len, 5);
    rig_reopen();
    dassie_spec_t now = keyed("x", DASSIE_CONFLICT_MOVE);
    ask(&asked[1], &now);
    asked_all(&asked[1], 1);
    info = rig_get(&got, asked[0].req.id);
    ck_assert_int_eq(info->state, DASSIE_PENDING);
}
END_TEST

/* ---- Batches ---- */

static void on_many(dassie_enqueue_many_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ++*(int *)req->data;
}

START_TEST(batch)
{
    dassie_spec_t specs[] = {
        keyed("a", DASSIE_CONFLICT_REPLACE), rig_spec("mail", "b"),
        keyed("c", DASSIE_CONFLICT_KEEP), keyed("d", DASSIE_CONFLICT_KEEP)};
    uint64_t ids[4];
    int n = 0;
    dassie_enqueue_many_t req = {.data = &n, .ids = ids};
    static struct asked old;
    specs[3].queue = "other"; /* a key belongs to a queue */
    ask(&old, &specs[0]);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &req, specs, 4, on_many), 0);
    rig_wait(&n, 1);
    rig_wait(&old.dones, 1);
    ck_assert_int_eq(old.done_state, DASSIE_CANCELLED);
    ck_assert_uint_eq(req.count, 3);
    ck_assert_uint_eq(ids[0], req.first_id);
    ck_assert_uint_eq(ids[1], req.first_id + 1);
    ck_assert_uint_eq(ids[2], ids[0]);
    ck_assert_uint_eq(ids[3], req.first_id + 2);
    ck_assert_uint_eq(rig_counts().pending, 3);
}
END_TEST

/* ---- Operators, lists, reopening ---- */

static int change_status;

static void on_change(dassie_change_t *req, int status)
{
    change_status = status;
    ++*(int *)req->data;
}

static int change(dassie_action_t action, uint64_t id)
{
    int n = 0;
    dassie_change_t req = {.data = &n};
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.id = id;
    ck_assert_int_eq(dassie_change(&rig.q, &req, action, &filter, on_change),
                     0);
    rig_wait(&n, 1);
    return change_status;
}

START_TEST(retried)
{
    static struct asked asked[2];
    dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_KEEP);
    for (int i = 0; i < 2; i++) {
        ask(&asked[i], &spec);
        asked_all(&asked[i], 1);
        ck_assert_int_eq(asked[i].req.existing, 0);
        if (i == 0) {
            ck_assert_int_eq(change(DASSIE_CANCEL, asked[0].req.id), 0);
        }
    }
    ck_assert_int_eq(change(DASSIE_RETRY, asked[0].req.id), UV_EEXIST);
    rig_reopen();
    ck_assert_int_eq(change(DASSIE_RETRY, asked[0].req.id), UV_EEXIST);
    ck_assert_int_eq(change(DASSIE_CANCEL, asked[1].req.id), 0);
    ck_assert_int_eq(change(DASSIE_RETRY, asked[0].req.id), 0);
}
END_TEST

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)jobs;
    ck_assert_int_eq(status, 0);
    *(size_t *)req->data += n;
}

/* Timers are no jobs. */
START_TEST(timers_are_not_listed)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    size_t n = 0;
    dassie_list_t req = {.data = &n};
    static struct asked asked;
    dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_KEEP);
    spec.unique_until = DASSIE_UNTIL_TIME;
    spec.unique_ms = 1000;
    spec.delay_ms = 3600000;
    ask(&asked, &spec);
    asked_all(&asked, 1);
    options.state = DASSIE_SCHEDULED;
    ck_assert_int_eq(dassie_list(&rig.q, &req, &options, on_list), 0);
    ck_assert_uint_eq(rig_counts().scheduled, 1);
    rig_close();
    ck_assert_uint_eq(n, 1);
    rig_open();
}
END_TEST

/* ---- Bad calls ---- */

START_TEST(bad_calls)
{
    dassie_spec_t spec = keyed("x", DASSIE_CONFLICT_KEEP);
    const struct {
        const char *key;
        size_t len;
        int until;
        uint64_t ms;
        int on_conflict;
    } bad[] = {{NULL, 1, 0, 0, 0},
               {NULL, 0, DASSIE_UNTIL_STARTED, 0, 0},
               {NULL, 0, 0, 1, 0},
               {NULL, 0, 0, 0, DASSIE_CONFLICT_MOVE},
               {"", 0, 0, 0, 0},
               {"k", 0, 3, 0, 0},
               {"k", 0, -1, 0, 0},
               {"k", 0, 0, 0, 3},
               {"k", 0, 0, 0, -1},
               {"k", 0, DASSIE_UNTIL_TIME, 0, 0},
               {"k", 0, DASSIE_UNTIL_ENDED, 1, 0},
               {"k", 0, DASSIE_UNTIL_TIME, DASSIE_TIME_MS_MAX + 1, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        spec.unique = bad[i].key;
        spec.unique_len = bad[i].len;
        spec.unique_until = (dassie_until_t)bad[i].until;
        spec.unique_ms = bad[i].ms;
        spec.on_conflict = (dassie_conflict_t)bad[i].on_conflict;
        ck_assert_msg(dassie_enqueue(&rig.q, NULL, &spec, NULL) == UV_EINVAL,
                      "%zu", i);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keys");
    TCase *tc = tcase_create("keys");
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, all_are_told);
    tcase_add_test(tc, told_of_a_deletion);
    tcase_add_test(tc, the_last_one_is_left);
    tcase_add_test(tc, closed_meanwhile);
    tcase_add_test(tc, put_off);
    tcase_add_test(tc, batch);
    tcase_add_test(tc, retried);
    tcase_add_test(tc, timers_are_not_listed);
    tcase_add_test(tc, bad_calls);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
