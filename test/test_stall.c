/* A database that is behind and holds commits up: that it says so, and that the
 * loop is told, also when it is over and nothing else happens. */
#include "config.h"

#include "../lib/kv_rocks_db.h"
#include "queue_rig.h"

#include <check.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- What RocksDB says ---- */

static const char *const properties[] = {"rocksdb.is-write-stopped",
                                         "rocksdb.actual-delayed-write-rate"};
static _Atomic(const char *) behind; /* it says so of that, or NULL */
static atomic_int asked;             /* for a property */

/* In place of RocksDB's. */
uint64_t rocksdb_perfcontext_metric(rocksdb_perfcontext_t *perf, int metric)
{
    static uint64_t (*real)(rocksdb_perfcontext_t *, int);
    if (behind != NULL && metric == rocksdb_write_delay_time) {
        return 1;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "rocksdb_perfcontext_metric");
        ck_assert_ptr_nonnull(real);
    }
    return real(perf, metric);
}

int rocksdb_property_int(rocksdb_t *db, const char *name, uint64_t *value)
{
    static int (*real)(rocksdb_t *, const char *, uint64_t *);
    const char *which = behind;
    asked++;
    if (which != NULL && strcmp(which, name) == 0) {
        *value = 1;
        return 0;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "rocksdb_property_int");
        ck_assert_ptr_nonnull(real);
    }
    return real(db, name, value);
}

/* ---- The database itself ---- */

static void set_options(struct kv_rocks *r, const char *slowdown,
                        const char *stop)
{
    char *text = NULL;
    const char *const keys[] = {"level0_file_num_compaction_trigger",
                                "level0_slowdown_writes_trigger",
                                "level0_stop_writes_trigger"};
    const char *const values[] = {"1000", slowdown, stop};
    rocksdb_set_options_cf(r->db, r->families[FAMILY_JOBS], 3, keys, values,
                           &text);
    ck_assert_ptr_null(text);
}

/* A table that nobody merges is too many for it. */
START_TEST(says_so)
{
    struct kv_rocks_options options = {
        .dir = rig.dir, .memory_bytes = 16 << 20, .create = true};
    struct errmsg e;
    struct kv *kv;
    char *text = NULL;
    ck_assert_int_eq(dassie__kv_rocks_open(&options, &kv, &e), 0);
    struct kv_rocks *r = (struct kv_rocks *)kv;
    kv->ops->put(kv, FAMILY_JOBS, kv_string("key"), kv_string("value"));
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    rocksdb_flush_cf(r->db, flush, r->families[FAMILY_JOBS], &text);
    ck_assert_ptr_null(text);
    rocksdb_flushoptions_destroy(flush);
    ck_assert(!kv->ops->stalled(kv));
    ck_assert(!kv->held_up);
    set_options(r, "1", "1000");
    ck_assert(kv->ops->stalled(kv));
    kv->ops->put(kv, FAMILY_JOBS, kv_string("key"), kv_string("value"));
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    ck_assert(kv->held_up);
    set_options(r, "1", "1");
    ck_assert(kv->ops->stalled(kv));
    set_options(r, "1000", "1000");
    ck_assert(!kv->ops->stalled(kv));
    kv->ops->put(kv, FAMILY_JOBS, kv_string("key"), kv_string("value"));
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    ck_assert(!kv->held_up);
    ck_assert(kv->ops->close(kv, true));
}
END_TEST

/* ---- What the loop is told ---- */

static int pressure;
static int told;

static void on_pressure(dassie_t *q, int now)
{
    ck_assert_ptr_eq(q, &rig.q);
    ck_assert_int_ne(now, pressure);
    pressure = now;
    told++;
}

static void open_it(void)
{
    pressure = told = 0;
    rig.options.pressure_cb = on_pressure;
    rig_open();
}

/* It takes a tenth of a second, and not for ever. */
static void wait_until_over(void)
{
    rig.late = false;
    uv_timer_start(&rig.cap, rig_late, RIG_WAIT_MS / 3, 0);
    while (told < 2 && !rig.late) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
    ck_assert_msg(!rig.late, "nobody was told that it is over");
    uv_timer_stop(&rig.cap);
}

/* What it is asked for lies in what exit() takes apart under the engine. */
START_TEST(is_not_asked_for_nothing)
{
    open_it();
    asked = 0;
    for (int i = 0; i < 10; i++) {
        rig_enqueue(NULL, NULL);
    }
    ck_assert_int_eq(asked, 0);
    rig_close();
}
END_TEST

START_TEST(is_told)
{
    open_it();
    rig_enqueue(NULL, NULL);
    ck_assert_int_eq(told, 0);
    behind = properties[_i];
    rig_enqueue(NULL, NULL);
    rig_wait(&told, 1);
    ck_assert_int_eq(pressure, DASSIE_STORE_STALLED);
    rig_enqueue(NULL, NULL);
    ck_assert_int_eq(told, 1);
    behind = NULL; /* and nothing happens any more */
    wait_until_over();
    ck_assert_int_eq(pressure, 0);
    rig_close();
}
END_TEST

/* Beside a backlog. */
START_TEST(is_one_of_several)
{
    rig.options.pending_jobs_high = 1;
    open_it();
    behind = properties[0];
    rig_enqueue(NULL, NULL);
    while (pressure != (DASSIE_BACKLOG_HIGH | DASSIE_STORE_STALLED)) {
        rig_wait(&told, told + 1);
    }
    behind = NULL;
    rig_wait(&told, told + 1);
    ck_assert_int_eq(pressure, DASSIE_BACKLOG_HIGH);
    rig_close();
}
END_TEST

/* It is no reason to wait, neither for a job nor for a close. */
START_TEST(holds_up_nobody)
{
    behind = properties[0];
    open_it();
    rig_enqueue(NULL, NULL);
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
    behind = NULL;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stall");
    TCase *tc = tcase_create("stall");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_test(tc, says_so);
    tcase_add_test(tc, is_not_asked_for_nothing);
    tcase_add_loop_test(tc, is_told, 0, 2);
    tcase_add_test(tc, is_one_of_several);
    tcase_add_test(tc, holds_up_nobody);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
