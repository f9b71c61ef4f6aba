/* Jobs that have ended are kept for their time, and no more than so many or so
 * many bytes; step by step on a clock of the test's own, in both databases. */
#include "config.h"

#include "../lib/find.h"
#include "core_rig.h"

static void setup_mem(void)
{
    cr_setup(RIG_MEM);
    core->wall_ms += 1000000;
}

static void setup_rocks(void)
{
    cr_setup(RIG_ROCKS);
    core->wall_ms += 1000000;
}

/* ---- Steps ---- */

static struct dassie__processor *processor;

/* n jobs of a queue that end so. Returns the first's id. */
static uint64_t end_jobs(const char *queue, int n, int status)
{
    uint64_t first = core->store.next;
    for (int i = 0; i < n; i++) {
        job_t *job;
        cr_put(queue);
        cr_step();
        while ((job = cr_start(processor)) != NULL) {
            cr_end(job, status);
        }
    }
    cr_commit();
    return first;
}

/* Until nothing is to be swept now. Returns the steps. */
static int sweep(void)
{
    int steps = 0;
    while (dassie__sweep_due(&core->store) <= core->wall_ms) {
        dassie__core_sweep(core);
        cr_commit();
        ck_assert_int_lt(++steps, 1000);
    }
    return steps;
}

static void keep(const char *queue, int setting, uint64_t ms, uint64_t jobs,
                 uint64_t bytes)
{
    struct queue *q;
    CR_OK(dassie__store_queue(&core->store, queue, strlen(queue), 0, &q));
    struct settings_row row = q->settings;
    row.number[setting] = ms;
    row.number[setting + 1] = jobs;
    row.number[setting + 2] = bytes;
    dassie__store_settings(&core->store, q, &row);
    cr_commit();
}

static bool is_there(uint64_t id)
{
    job_t *job;
    int rc = dassie__find(&core->store, id, &job, &rig.base.e);
    if (rc == 0) {
        dassie__job_free(job);
    }
    ck_assert(rc == 0 || rc == UV_ENOENT);
    return rc == 0;
}

/* Rows of what jobs have saved. */
static unsigned saves(void)
{
    struct verify v = {.kv = rig.base.kv};
    struct kv_iter *it = dassie__verify_iter_saves(&v);
    unsigned n = 0;
    for (; v.kv->ops->iter_valid(it); v.kv->ops->iter_next(it)) {
        n += v.kv->ops->iter_live(it, &rig.base.e) == 1;
    }
    CR_OK(v.kv->ops->iter_close(it, &rig.base.e));
    return n;
}

static void setup_queue(void)
{
    processor = cr_processor("a b", 1, CR_ASYNC);
}

/* ---- Age ---- */

START_TEST(by_age)
{
    setup_queue();
    uint64_t well = end_jobs("a", 1, 0);
    uint64_t bad = end_jobs("a", 1, -1);
    sweep();
    cr_pass(DASSIE_KEEP_COMPLETE_MS - 1);
    sweep();
    ck_assert(is_there(well));
    cr_pass(SWEEP_MS);
    sweep();
    ck_assert(!is_there(well));
    ck_assert(is_there(bad));
    cr_tally(0, 0, 0, 1);
    cr_pass(DASSIE_KEEP_FAILED_MS);
    sweep();
    ck_assert(!is_there(bad));
    cr_tally(0, 0, 0, 0);
    ck_assert_uint_eq(core->store.queues.tally.complete_bytes, 0);
    ck_assert_uint_eq(core->store.queues.tally.failed_bytes, 0);
    ck_assert_uint_eq(dassie__sweep_due(&core->store), UINT64_MAX);
    ck_assert_uint_eq(core->stats.swept, 2);
    cr_rise();
    cr_tally(0, 0, 0, 0);
}
END_TEST

/* What a job has saved goes with it: by key, and by range. */
START_TEST(saved)
{
    int n = _i == 0 ? 1 : SWEEP_KEYS_MAX + 2;
    setup_queue();
    for (int i = 0; i < n; i++) {
        struct op *op;
        cr_put("a");
        cr_step();
        job_t *job = cr_start(processor);
        CR_OK(dassie__save_checkpoint(job, "x", 1, &op));
        dassie__saves_add(&core->saves, op, core->mono_ns);
        cr_end(job, -1);
    }
    cr_commit();
    ck_assert_uint_eq(saves(), (unsigned)n);
    cr_pass(DASSIE_KEEP_FAILED_MS);
    sweep();
    cr_tally(0, 0, 0, 0);
    ck_assert_uint_eq(saves(), 0);
}
END_TEST

/* It sleeps until something has been kept long enough. */
START_TEST(wakes_when_due)
{
    setup_queue();
    ck_assert_uint_eq(dassie__core_due(core), UINT64_MAX);
    uint64_t from_ms = core->wall_ms;
    end_jobs("a", 1, 0);
    cr_step();
    ck_assert_uint_eq(dassie__sweep_due(&core->store),
                      from_ms + DASSIE_KEEP_COMPLETE_MS);
    ck_assert_uint_eq(dassie__core_due(core),
                      core->mono_ns + DASSIE_KEEP_COMPLETE_MS * CR_MS);
}
END_TEST

/* After a restart nobody knows: a pass a while later finds out. */
START_TEST(after_a_restart)
{
    setup_queue();
    uint64_t id = end_jobs("a", 1, 0);
    cr_rise();
    uint64_t opened_ms = core->wall_ms;
    ck_assert_uint_eq(dassie__sweep_due(&core->store), opened_ms + SWEEP_MS);
    cr_pass(SWEEP_MS);
    sweep();
    ck_assert(is_there(id));
    ck_assert_uint_gt(dassie__sweep_due(&core->store), opened_ms + SWEEP_MS);
    cr_pass(2 * DASSIE_KEEP_COMPLETE_MS);
    sweep();
    ck_assert(!is_there(id));
}
END_TEST

/* A wall clock that is set back a year does not put the next pass off. */
START_TEST(clock_goes_back)
{
    setup_queue();
    core->wall_ms += UINT64_C(400) * 24 * 3600 * 1000;
    end_jobs("a", 1, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_gt(sweep(), 0);
    core->wall_ms -= UINT64_C(365) * 24 * 3600 * 1000;
    uint64_t id = end_jobs("a", 1, 0);
    cr_step();
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_gt(sweep(), 0);
    ck_assert(!is_there(id));
}
END_TEST

/* It may be the first that a process commits, in a store none of whose jobs
 * ever stood in a line. */
START_TEST(first_commit)
{
    processor = cr_processor("a", 1, 0);
    uint64_t id = end_jobs("a", 1, 0);
    ck_assert_uint_eq(core->stats.handed_off, 1);
    cr_rise();
    cr_pass(2 * DASSIE_KEEP_COMPLETE_MS);
    sweep();
    ck_assert(!is_there(id));
}
END_TEST

/* ---- Number and bytes ---- */

/* The oldest go; those of other queues and states stay. */
START_TEST(by_number)
{
    setup_queue();
    keep("a", SETTING_KEEP_COMPLETE, 0, 32, 0);
    uint64_t failed = end_jobs("a", 3, -1);
    uint64_t other = end_jobs("b", 40, 0);
    uint64_t first = end_jobs("a", 34, 0);
    ck_assert_int_eq(sweep(), 0);
    cr_tally(0, 0, 40 + 34, 3);
    end_jobs("a", 1, 0); /* more than a sixteenth above */
    ck_assert_int_gt(sweep(), 0);
    cr_tally(0, 0, 40 + 32, 3);
    ck_assert(is_there(failed));
    ck_assert(is_there(other));
    ck_assert(!is_there(first));
}
END_TEST

START_TEST(by_bytes)
{
    setup_queue();
    uint64_t first = end_jobs("a", 10, 0);
    uint64_t bytes = core->store.queues.tally.complete_bytes;
    keep("a", SETTING_KEEP_COMPLETE, 0, 0, bytes / 2);
    sweep();
    cr_tally(0, 0, 5, 0);
    ck_assert_uint_eq(core->store.queues.tally.complete_bytes, bytes / 2);
    ck_assert(!is_there(first));
    cr_rise();
    ck_assert_uint_eq(core->store.queues.tally.complete_bytes, bytes / 2);
}
END_TEST

/* A queue may keep none, which means soon; and all. */
START_TEST(none_and_all)
{
    setup_queue();
    keep("a", SETTING_KEEP_COMPLETE, 0, DASSIE_KEEP_NONE, 0);
    keep("b", SETTING_KEEP_COMPLETE, DASSIE_KEEP_ALL, DASSIE_KEEP_ALL,
         DASSIE_KEEP_ALL);
    end_jobs("a", 20, 0);
    end_jobs("b", 20, 0);
    ck_assert_int_gt(sweep(), 0);
    cr_tally(0, 0, 20, 0);
    cr_pass(100 * DASSIE_KEEP_FAILED_MS);
    sweep();
    cr_tally(0, 0, 20, 0);
}
END_TEST

/* ---- Payloads ---- */

static void drop_payloads(const char *queue)
{
    struct queue *q;
    CR_OK(dassie__store_queue(&core->store, queue, strlen(queue), 0, &q));
    struct settings_row row = q->settings;
    row.number[SETTING_DROP_PAYLOAD] = 1;
    dassie__store_settings(&core->store, q, &row);
    cr_commit();
}

/* Bytes of the payload that is on disk. */
static size_t payload(uint64_t id)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rig.base.kv;
    struct kv_value value;
    struct job_row row;
    dassie__key_number(key, id);
    CR_OK(kv->ops->get(kv, NULL, FAMILY_JOBS, kv_slice(key, sizeof key), &value,
                       &rig.base.e));
    CR_OK(dassie__job_row_read(value.p, value.len, &row));
    size_t len = row.data_len;
    kv->ops->value_release(&value);
    return len;
}

static uint64_t end_one(const char *queue, size_t bytes, int status)
{
    uint64_t id = cr_put_job(cr_job(queue, 0, 0, bytes));
    cr_step();
    cr_end(cr_starts(processor, id), status);
    cr_commit();
    return id;
}

/* Of a complete job it goes with the end, at the cost of one row; bytes are
 * counted so, also for what is swept later. */
START_TEST(payload_goes_first)
{
    processor = cr_processor("a b", 1, 0);
    uint64_t kept = end_one("a", 1000, 0);
    uint64_t bytes = core->store.queues.tally.complete_bytes;
    drop_payloads("a");
    uint64_t rows = rig.base.kv->rows;
    uint64_t bare = end_one("a", 1000, 0);
    rows = rig.base.kv->rows - rows;
    ck_assert_uint_eq(payload(bare), 0);
    ck_assert_uint_eq(payload(kept), 1000);
    ck_assert_uint_eq(core->store.queues.tally.complete_bytes,
                      bytes + bytes - 1000);
    uint64_t other = rig.base.kv->rows;
    ck_assert_uint_eq(payload(end_one("b", 1000, 0)), 1000);
    ck_assert_uint_eq(rows, rig.base.kv->rows - other + 1);
    ck_assert_uint_eq(payload(end_one("a", 1000, -1)), 1000);
    other = rig.base.kv->rows;
    end_one("a", 0, 0); /* there is nothing to drop */
    ck_assert_uint_eq(rows, rig.base.kv->rows - other + 1);
    cr_rise();
    ck_assert_uint_eq(payload(bare), 0);
    ck_assert_uint_eq(payload(kept), 1000);
    cr_tally(0, 0, 4, 1);
    cr_pass(3 * DASSIE_KEEP_COMPLETE_MS);
    sweep();
    cr_tally(0, 0, 0, 1);
    ck_assert_uint_eq(core->store.queues.tally.complete_bytes, 0);
}
END_TEST

/* ---- Among other jobs ---- */

/* A range ends at whatever stays. */
START_TEST(gaps)
{
    setup_queue();
    uint64_t old = end_jobs("a", 20, 0);
    uint64_t pending = cr_put("idle");
    end_jobs("a", 5, 0);
    uint64_t failed = end_jobs("a", 1, -1);
    end_jobs("a", 3, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    uint64_t late = end_jobs("a", 2, 0);
    sweep();
    cr_tally(1, 0, 2, 1);
    ck_assert(!is_there(old));
    ck_assert(is_there(pending));
    ck_assert(is_there(failed));
    ck_assert(is_there(late));
    ck_assert(is_there(late + 1));
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_JOBS), 4);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_COMPLETE), 2);
    cr_rise();
    cr_tally(1, 0, 2, 1);
}
END_TEST

/* The rows of a job that had a past go with it, and its claim set may stay. */
START_TEST(with_a_history)
{
    processor = cr_processor("a", 2, 0);
    uint64_t running = cr_put("a");
    uint64_t id = cr_put("a");
    cr_step();
    cr_starts(processor, running);
    dassie__core_unclaim(core, job_list_pop(&processor->runq));
    cr_step();
    cr_end(cr_starts(processor, id), 0);
    cr_commit();
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    sweep();
    ck_assert(!is_there(id));
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_HISTORY), 0);
    cr_rise();
    cr_tally(1, 0, 0, 0);
}
END_TEST

/* Jobs that have not ended are passed over, however many there are. */
START_TEST(past_a_backlog)
{
    setup_queue();
    uint64_t first = end_jobs("a", 1, 0);
    for (int i = 0; i < SWEEP_ROWS_MAX + 10; i++) {
        cr_put("c");
    }
    cr_commit();
    uint64_t last = end_jobs("a", 1, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_eq(sweep(), 1);
    ck_assert(!is_there(first));
    ck_assert(!is_there(last));
    ck_assert(is_there(first + 1));
    ck_assert(is_there(last - 1));
    cr_tally(SWEEP_ROWS_MAX + 10, 0, 0, 0);
}
END_TEST

/* However much there is, a batch looks at a share of it; and killed in between
 * it begins anew. */
START_TEST(in_shares)
{
    setup_queue();
    int n = 2 * SWEEP_ROWS_MAX + 10;
    for (int i = 0; i < n; i++) {
        job_t *job;
        cr_put("a");
        dassie__core_dispatch(core);
        CR_OK(dassie__store_commit(&core->store, core->wall_ms, &rig.base.e));
        cr_committed();
        while ((job = cr_start(processor)) != NULL) {
            cr_end(job, 0);
        }
    }
    cr_commit();
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    dassie__core_sweep(core);
    cr_commit();
    ck_assert_uint_eq(core->store.queues.tally.complete,
                      (uint64_t)n - SWEEP_ROWS_MAX);
    uint64_t fresh = cr_put("a");
    cr_rise();
    ck_assert(!is_there(fresh));
    cr_pass(3 * DASSIE_KEEP_COMPLETE_MS);
    sweep();
    cr_tally(0, 0, 0, 0);
}
END_TEST

/* When little else is done it rests between two shares, so that hardly anybody
 * meets one; else a share is taken along for as many operations. */
START_TEST(rests)
{
    setup_queue();
    end_jobs("a", 2 * SWEEP_ROWS_MAX + 1, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert(dassie__core_may_sweep(core));
    for (int i = 0; i < 2; i++) {
        dassie__core_sweep(core);
        cr_commit();
        dassie__core_applied(core, SWEEP_ROWS_MAX - 1);
        ck_assert(!dassie__core_may_sweep(core));
        ck_assert_uint_eq(dassie__core_due(core),
                          core->mono_ns + SWEEP_REST_NS);
        if (i == 0) {
            dassie__core_applied(core, 1);
            ck_assert_uint_eq(dassie__core_due(core), core->mono_ns);
        } else {
            core->mono_ns += SWEEP_REST_NS;
        }
        ck_assert(dassie__core_may_sweep(core));
    }
    dassie__core_sweep(core);
    cr_commit();
    ck_assert_uint_eq(core->store.queues.tally.complete, 0);
    dassie__core_applied(core, UINT32_MAX - SWEEP_ROWS_MAX);
    ck_assert(!dassie__core_may_sweep(core));
}
END_TEST

static const enum family damaged_families[] = {FAMILY_JOBS, FAMILY_COMPLETE};

/* A row, or a key, that cannot be read is told, and stays; the others go. No
 * other job is thought to be unreadable. */
START_TEST(damaged_row)
{
    setup_queue();
    enum family family = damaged_families[_i];
    uint64_t first = end_jobs("a", 30, 0);
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rig.base.kv;
    dassie__key_number(key, first + 11);
    kv->ops->put(kv, family, kv_slice(key, sizeof key), kv_slice("\7", 1));
    kv->ops->put(kv, family, kv_slice("\0\0", 2), kv_slice("\7", 1));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    rig.damaged = cr_job("", 0, 0, 0); /* so that nothing is to be sound */
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_eq(sweep(), 1);
    ck_assert_int_eq(core->sweep_error, DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(core->sweep_text.text, "sweep: job 12"));
    dassie__core_dispatch(core);
    ck_assert_int_eq(core->broken, 0);
    cr_commit();
    ck_assert_uint_eq(core->store.queues.tally.complete, 1);
    ck_assert_uint_eq(rig_rows(&rig.base, family), 2);
    end_jobs("a", 1, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_eq(sweep(), 1);
    ck_assert_int_eq(core->sweep_error, DASSIE_ECORRUPT);
    kv->ops->del(kv, family, kv_slice("\0\0", 2));
    kv->ops->del(kv, FAMILY_JOBS, kv_slice(key, sizeof key));
    kv->ops->del(kv, FAMILY_COMPLETE, kv_slice(key, sizeof key));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    end_jobs("a", 1, 0);
    cr_pass(DASSIE_KEEP_COMPLETE_MS + SWEEP_MS);
    ck_assert_int_eq(sweep(), 1);
    ck_assert_int_eq(core->sweep_error, 0);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, by_age);
    tcase_add_loop_test(tc, saved, 0, 2);
    tcase_add_test(tc, wakes_when_due);
    tcase_add_test(tc, after_a_restart);
    tcase_add_test(tc, clock_goes_back);
    tcase_add_test(tc, first_commit);
    tcase_add_test(tc, by_number);
    tcase_add_test(tc, by_bytes);
    tcase_add_test(tc, none_and_all);
    tcase_add_test(tc, payload_goes_first);
    tcase_add_test(tc, gaps);
    tcase_add_test(tc, with_a_history);
}

int main(void)
{
    Suite *suite = suite_create("sweep");
    TCase *mem = tcase_create("mem");
    TCase *rocks = tcase_create("rocks");
    TCase *damaged = tcase_create("damaged");
    tcase_add_checked_fixture(mem, setup_mem, cr_teardown);
    tcase_add_checked_fixture(rocks, setup_rocks, cr_teardown);
    tcase_add_checked_fixture(damaged, setup_mem, NULL);
    suite_add_tcase(suite, mem);
    suite_add_tcase(suite, rocks);
    suite_add_tcase(suite, damaged);
    add_all(mem);
    tcase_add_test(mem, in_shares);
    tcase_add_test(mem, rests);
    tcase_add_test(mem, past_a_backlog);
    tcase_add_test(rocks, past_a_backlog);
    add_all(rocks);
    tcase_add_loop_test(damaged, damaged_row, 0, 2);
    return cr_run_suite(suite);
}
