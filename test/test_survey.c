/* What takes long on an open store, on a database in memory, and on RocksDB
 * what is written meanwhile. */
#include "config.h"

#include "../lib/survey.h"
#include "store_rig.h"

static struct kv *kv;
static atomic_int stop;
static struct survey *survey;

static void setup(void)
{
    kv = dassie__kv_mem_new();
    ck_assert_ptr_nonnull(kv);
    atomic_store(&stop, 0);
    survey = dassie__survey_new(SURVEY_CHECK, NULL, NULL);
    ck_assert_ptr_nonnull(survey);
    survey->kv = kv;
    survey->stop = &stop;
}

static void teardown(void)
{
    dassie__survey_free(survey);
    kv->ops->close(kv, true);
    dassie__kv_mem_free(kv);
}

/* Rows of jobs that no writer makes, one problem each. */
static void put_stray(uint64_t n)
{
    struct errmsg e;
    for (uint64_t id = 1; id <= n; id++) {
        uint8_t key[8];
        put_be64(key, id);
        kv->ops->put(kv, FAMILY_HISTORY, kv_slice(key, sizeof key),
                     kv_slice("stray", 5));
    }
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
}

START_TEST(counts)
{
    dassie__survey_run(survey);
    ck_assert_int_eq(survey->status, 0);
    ck_assert_uint_eq(survey->problems_n, 0);
    ck_assert_uint_eq(survey->report.problems, 0);
}
END_TEST

/* All are counted, and so many are kept. */
START_TEST(most_problems)
{
    put_stray(DASSIE_PROBLEMS_MAX + 1);
    dassie__survey_run(survey);
    ck_assert_int_eq(survey->status, 0);
    ck_assert_uint_eq(survey->problems_n, DASSIE_PROBLEMS_MAX);
    ck_assert_uint_gt(survey->report.problems, DASSIE_PROBLEMS_MAX);
    for (size_t i = 0; i < survey->problems_n; i++) {
        ck_assert_uint_ne(survey->problems[i].id, 0);
        ck_assert_ptr_nonnull(strstr(survey->problems[i].line, "job "));
    }
}
END_TEST

/* It does not even begin; */
START_TEST(stopped_before)
{
    put_stray(1);
    atomic_store(&stop, UV_EAGAIN);
    dassie__survey_run(survey);
    ck_assert_int_eq(survey->status, UV_EAGAIN);
    ck_assert_uint_eq(survey->report.rows, 0);
}
END_TEST

/* and ends at the next row when it is told to in the middle. */
static struct kv_ops ops;
static struct kv_slice (*iter_key)(const struct kv_iter *it);
static unsigned keys_n;

static struct kv_slice key_and_stop(const struct kv_iter *it)
{
    if (++keys_n == 10) {
        atomic_store(&stop, UV_ECANCELED);
    }
    return iter_key(it);
}

START_TEST(stopped_meanwhile)
{
    put_stray(1000);
    ops = *kv->ops;
    iter_key = ops.iter_key;
    ops.iter_key = key_and_stop;
    kv->ops = &ops;
    keys_n = 0;
    dassie__survey_run(survey);
    ck_assert_int_eq(survey->status, UV_ECANCELED);
    ck_assert_uint_ge(keys_n, 10);
    ck_assert_uint_le(survey->report.rows, 12);
}
END_TEST

/* A database without a copy of itself leaves nothing behind. */
START_TEST(no_copy)
{
    struct survey *backup =
        dassie__survey_new(SURVEY_BACKUP, NULL, "/none/copy");
    ck_assert_ptr_nonnull(backup);
    ck_assert_str_eq(backup->path, "/none/copy");
    backup->kv = kv;
    backup->stop = &stop;
    dassie__survey_run(backup);
    ck_assert_int_eq(backup->status, UV_ENOTSUP);
    dassie__survey_free(backup);
}
END_TEST

/* ---- What is written meanwhile ---- */

static struct rig rig;
static bool committing;
static unsigned commits_n;
static struct kv_iter *(*iter)(struct kv *kv,
                               const struct kv_snapshot *snapshot,
                               enum family family, struct kv_slice from,
                               struct kv_slice to);

/* A job more before anything of it is read. */
static struct kv_iter *commit_and_iter(struct kv *rocks,
                                       const struct kv_snapshot *snapshot,
                                       enum family family, struct kv_slice from,
                                       struct kv_slice to)
{
    if (!committing) {
        committing = true;
        rig_put(&rig, "queue", 0);
        rig_commit(&rig);
        commits_n++;
        committing = false;
    }
    return iter(rocks, snapshot, family, from, to);
}

/* All that is seen stood there after one commit. */
START_TEST(others_meanwhile)
{
    rig_setup(&rig, RIG_ROCKS);
    rig_put(&rig, "queue", 0);
    rig_put(&rig, "queue", 0);
    rig_commit(&rig);
    ops = *rig.kv->ops;
    iter = ops.iter;
    ops.iter = commit_and_iter;
    const struct kv_ops *as_it_is = rig.kv->ops;
    rig.kv->ops = &ops;
    survey->kv = rig.kv;
    commits_n = 0;
    dassie__survey_run(survey);
    rig.kv->ops = as_it_is;
    ck_assert_int_eq(survey->status, 0);
    ck_assert_uint_gt(commits_n, 2);
    ck_assert_uint_eq(survey->problems_n, 0);
    ck_assert_uint_eq(survey->report.problems, 0);
    ck_assert_uint_eq(survey->report.jobs.pending, 2);
    rig_teardown(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("survey");
    TCase *tc = tcase_create("survey");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, counts);
    tcase_add_test(tc, most_problems);
    tcase_add_test(tc, stopped_before);
    tcase_add_test(tc, stopped_meanwhile);
    tcase_add_test(tc, no_copy);
    tcase_add_test(tc, others_meanwhile);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
