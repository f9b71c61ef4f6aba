/* Jobs that are not worth starting after a time: cancelled when it has come,
 * wherever they wait; step by step on a clock of the test's own, in both
 * databases. After each commit the rows are verified. */
#include "config.h"

#include "../lib/admit.h"
#include "../lib/change.h"
#include "../lib/expire.h"
#include "../lib/find.h"
#include "core_rig.h"

static void setup_mem(void)
{
    cr_setup(RIG_MEM);
}

static void setup_rocks(void)
{
    cr_setup(RIG_ROCKS);
}

/* ---- Steps ---- */

static job_t *job_expires(uint64_t expire_ms, uint64_t delay_ms, uint8_t flags)
{
    struct job_row row = {.flags = flags, .enqueued_ms = core->wall_ms};
    row.options.number[JOB_DUE] = delay_ms > 0 ? core->wall_ms + delay_ms : 0;
    row.options.number[JOB_EXPIRE] = expire_ms;
    return cr_job_of("q", &row);
}

static uint64_t put(uint64_t expire_ms, uint64_t delay_ms)
{
    return cr_put_job(job_expires(expire_ms, delay_ms, 0));
}

static void timers(uint64_t n)
{
    ck_assert_uint_eq(core->store.schedule.live,
                      n + core->store.queues.tally.scheduled);
}

static void expired(uint64_t id)
{
    struct cr_found found = cr_found(id);
    cr_is(id, DASSIE_CANCELLED, 0, 0, DASSIE_EEXPIRED);
    ck_assert(found.text);
}

/* ---- Tests ---- */

START_TEST(expires_in_its_line)
{
    uint64_t before = cr_put("q");
    uint64_t id = put(5000, 0);
    uint64_t after = cr_put("q");
    cr_commit();
    timers(1);
    ck_assert_uint_eq((cr_due() - core->mono_ns) / CR_MS, 5000);
    cr_pass(4999);
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    cr_pass(1);
    cr_turn();
    expired(id);
    timers(0);
    ck_assert_uint_eq(core->stats.cancelled, 1);
    ck_assert_uint_eq(core->stats.promoted, 0);
    struct dassie__processor *p = cr_processor("q", 9, CR_ASYNC);
    cr_turn();
    cr_end(cr_starts(p, before), 0);
    cr_end(cr_starts(p, after), 0);
    ck_assert_ptr_null(cr_start(p));
    cr_commit();
}
END_TEST

/* From when it is due; the timer may be looked at with what is due before. */
START_TEST(expires_after_its_delay)
{
    uint64_t id = put(2000, 1000);
    cr_commit();
    cr_pass(2999);
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    cr_pass(1);
    cr_turn();
    expired(id);
    uint64_t ids[3];
    for (int i = 0; i < 3; i++) {
        ids[i] = put(1 + (uint64_t)i, 1000);
    }
    cr_commit();
    cr_pass(100000); /* nobody was there for long */
    cr_turns(4);
    for (int i = 0; i < 3; i++) {
        expired(ids[i]);
    }
    timers(0);
}
END_TEST

/* It was put off beyond its time. */
START_TEST(expires_while_scheduled)
{
    uint64_t id = put(1000, 0);
    job_t *job;
    bool kept;
    cr_commit();
    CR_OK(dassie__find(&core->store, id, &job, &rig.base.e));
    job->again_ms = core->wall_ms + 2000;
    CR_OK(dassie__store_move(&core->store, job, EVENT_POSTPONE, &kept));
    dassie__core_moved(core, job, kept);
    cr_commit();
    timers(1);
    cr_pass(100000);
    cr_turns(3);
    expired(id);
    timers(0);
}
END_TEST

/* Once it has begun, it has begun. */
START_TEST(does_not_expire_later)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    core->options.attempts_max = 3;
    uint64_t id = put(1000, 0); /* handed off: without a timer */
    timers(0);
    cr_commit();
    job_t *job = cr_starts(p, id);
    uint64_t next = put(1000, 0);
    cr_commit();
    timers(1);
    cr_pass(500);
    cr_end(job, UV_EIO);
    cr_turn();
    timers(0); /* next is claimed */
    cr_pass(100000);
    cr_end(cr_starts(p, next), 0);
    cr_turns(3);
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    cr_is(id, DASSIE_COMPLETE, 2, 0, 0);
}
END_TEST

/* One that is handed back unrun waits for its first run again. */
START_TEST(handed_back)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t id = put(1000, 0);
    cr_commit();
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    p->stopping = true;
    cr_commit();
    timers(1);
    cr_pass(1000);
    cr_turn();
    expired(id);
}
END_TEST

/* A claim looks at the time, too, a bounded number in a batch. */
START_TEST(claimed_too_late)
{
    enum { JOBS = LATE_JOBS_MAX + 10 };
    uint64_t first = core->store.next;
    for (int i = 0; i < JOBS; i++) {
        put(1000, 0);
    }
    uint64_t good = cr_put("q");
    cr_commit();
    cr_pass(1000);
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    cr_step(); /* the timers were not looked at */
    ck_assert_uint_eq(core->store.queues.tally.cancelled, LATE_JOBS_MAX);
    ck_assert_uint_eq(dassie__core_due(core), core->mono_ns);
    cr_step();
    cr_end(cr_starts(p, good), 0);
    cr_commit();
    expired(first);
    expired(first + JOBS - 1);
    timers(0);
    uint64_t late = cr_put_job(job_expires(1, 0, 0));
    cr_commit();
    cr_end(cr_starts(p, late), 0); /* in time */
    cr_commit();
    job_t *job = job_expires(1000, 0, 0);
    cr_pass(1000); /* it was long in the inbox */
    uint64_t id = cr_put_job(job);
    cr_turns(2);
    expired(id);
    ck_assert_ptr_null(cr_start(p));
}
END_TEST

/* More than a batch looks at. */
START_TEST(many)
{
    for (int i = 0; i < 3 * PROMOTE_MAX; i++) {
        put(1 + (uint64_t)i % 7, 0);
    }
    cr_commit();
    cr_pass(10);
    for (int i = 1; i <= 3; i++) {
        cr_turn();
        ck_assert_uint_eq(core->store.queues.tally.cancelled,
                          (uint64_t)i * PROMOTE_MAX);
    }
    timers(0);
}
END_TEST

/* What an operator does. */
START_TEST(operated)
{
    uint64_t id = put(1000, 0);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    timers(0);
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), 0);
    timers(0); /* it was wanted again */
    cr_pass(2000);
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, UV_ECANCELED);
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    cr_turn();
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    p->stopping = true;
    cr_commit();
    timers(0);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    id = put(1000, 500);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_RUN_NOW, id), 0);
    timers(1);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    timers(0);
    id = put(1000, 0);
    cr_commit();
    cr_pass(1000);
    cr_turn();
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), 0);
    cr_pass(1000);
    cr_turns(2);
    cr_is(id, DASSIE_PENDING, 0, 0, DASSIE_EEXPIRED);
}
END_TEST

/* A clock that is set back delays it, one that is set forward is noticed. */
START_TEST(clock_is_set)
{
    cr_pass(1000000);
    uint64_t id = put(3600000, 0);
    cr_commit();
    ck_assert_uint_eq((cr_due() - core->mono_ns) / CR_MS, CLOCK_MS_MAX);
    core->wall_ms -= 600000;
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    core->wall_ms += 600000 + 3600000;
    cr_turn();
    expired(id);
}
END_TEST

START_TEST(survives_a_kill)
{
    struct dassie__processor *p = cr_processor("q", 2, CR_ASYNC);
    uint64_t runs = put(100000, 0);
    uint64_t unstarted = put(100000, 0);
    uint64_t waits = put(100000, 0);
    cr_step();
    cr_starts(p, runs);
    cr_rise();
    timers(2); /* one that has run has none */
    cr_pass(200000);
    cr_turns(2);
    expired(unstarted);
    expired(waits);
    cr_is(runs, DASSIE_PENDING, 1, 0, 0);
    cr_rise();
    expired(waits);
}
END_TEST

/* What was not committed is as if it had not been. */
START_TEST(kill_before_the_commit)
{
    uint64_t id = put(1000, 0);
    cr_commit();
    cr_pass(100000);
    dassie__core_promote(core);
    cr_rise();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    timers(1);
    cr_pass(100000);
    cr_turn();
    expired(id);
}
END_TEST

/* A timer that nobody set is told, and passed over. */
START_TEST(stray_timer)
{
    uint64_t id = cr_put("q");
    cr_commit();
    struct due due = {core->wall_ms + 1, id, DUE_EXPIRY};
    dassie__schedule_put_row(&core->store, &due, kv_slice("\001", 1));
    CR_OK(dassie__store_commit(&core->store, core->wall_ms, &rig.base.e));
    cr_pass(1);
    dassie__core_promote(core);
    dassie__core_dispatch(core);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(core->error.text, "timer row"));
    dassie__schedule_remove_row(&core->store, &due);
    cr_step();
    ck_assert_int_eq(core->broken, 0);
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
}
END_TEST

/* A job that does not ask for it pays nothing; one that does a row each way. */
START_TEST(rows)
{
    uint64_t n[2];
    put(0, 0); /* the queue's name */
    cr_commit();
    for (int expires = 0; expires < 2; expires++) {
        n[expires] = rig.base.kv->rows;
        put(expires ? 1000 : 0, 0);
        cr_commit();
        n[expires] = rig.base.kv->rows - n[expires];
    }
    ck_assert_uint_eq(n[1], n[0] + 1);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, expires_in_its_line);
    tcase_add_test(tc, expires_after_its_delay);
    tcase_add_test(tc, expires_while_scheduled);
    tcase_add_test(tc, does_not_expire_later);
    tcase_add_test(tc, handed_back);
    tcase_add_test(tc, claimed_too_late);
    tcase_add_test(tc, many);
    tcase_add_test(tc, operated);
    tcase_add_test(tc, clock_is_set);
    tcase_add_test(tc, survives_a_kill);
    tcase_add_test(tc, kill_before_the_commit);
    tcase_add_test(tc, stray_timer);
    tcase_add_test(tc, rows);
}

int main(void)
{
    Suite *suite = suite_create("expire");
    TCase *mem = tcase_create("memory");
    TCase *rocks = tcase_create("rocks");
    tcase_add_checked_fixture(mem, setup_mem, cr_teardown);
    tcase_add_checked_fixture(rocks, setup_rocks, cr_teardown);
    tcase_set_timeout(rocks, 60);
    add_tests(mem);
    add_tests(rocks);
    suite_add_tcase(suite, mem);
    suite_add_tcase(suite, rocks);
    return cr_run_suite(suite);
}
