/* Jobs that wait for their time: delays, retries and snoozes, step by step on a
 * clock of the test's own, in both databases. */
#include "config.h"

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

/* One that is due in so many ms. */
static uint64_t put_in(const char *queue, int8_t priority, uint64_t ms)
{
    struct job_options options = {.number = {0}};
    options.number[JOB_DUE] = core->wall_ms + ms;
    return cr_put_job(cr_job_with(queue, priority, &options));
}

static void waits(uint64_t scheduled, uint64_t pending)
{
    const struct tally *tally = &core->store.queues.tally;
    ck_assert_uint_eq(tally->scheduled, scheduled);
    ck_assert_uint_eq(tally->pending, pending);
}

/* When the engine wakes next, in ms from now. */
static uint64_t wakes(void)
{
    uint64_t due = cr_due();
    return due == UINT64_MAX ? UINT64_MAX : (due - core->mono_ns) / CR_MS;
}

/* ---- Delays ---- */

START_TEST(runs_when_due)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    ck_assert_uint_eq(wakes(), UINT64_MAX);
    uint64_t id = put_in("a", 0, 5000);
    cr_turn();
    cr_is(id, DASSIE_SCHEDULED, 0, 0, 0);
    waits(1, 0);
    ck_assert_uint_eq(wakes(), 5000);
    cr_pass(4999);
    cr_turns(2);
    waits(1, 0);
    ck_assert_uint_eq(wakes(), 1);
    cr_pass(1);
    cr_turns(2);
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    cr_is(id, DASSIE_COMPLETE, 1, 0, 0);
    ck_assert_uint_eq(wakes(), UINT64_MAX);
}
END_TEST

/* A clock may be set meanwhile: it is read now and then, while there is a
 * reason to. */
START_TEST(wakes_to_read_the_clock)
{
    put_in("a", 0, 3600000);
    cr_turn();
    ck_assert_uint_eq(wakes(), CLOCK_MS_MAX);
    core->wall_ms += 3600000; /* it was set; no time has passed */
    cr_turns(1);
    waits(0, 1);
    ck_assert_uint_eq(wakes(), UINT64_MAX);
}
END_TEST

/* A clock that is set back only delays, and does not mix up the order. */
START_TEST(clock_goes_back)
{
    cr_pass(1000000);
    uint64_t done = put_in("a", 0, 10);
    uint64_t later = put_in("a", 0, 1000);
    cr_turn();
    cr_pass(10);
    cr_turn();
    cr_is(done, DASSIE_PENDING, 0, 0, 0);
    core->wall_ms -= 600000;
    cr_turn();
    cr_is(later, DASSIE_SCHEDULED, 0, 0, 0);
    uint64_t sooner = put_in("a", 0, 500); /* before the head, and its dead */
    cr_turn();
    waits(2, 1);
    ck_assert_uint_eq(core->store.schedule.dead, 0);
    cr_pass(500);
    cr_turn();
    cr_is(sooner, DASSIE_PENDING, 0, 0, 0);
    cr_is(later, DASSIE_SCHEDULED, 0, 0, 0);
    cr_pass(600490);
    cr_turn();
    waits(0, 3);
}
END_TEST

/* By priority, then in the order in which they were due. */
START_TEST(order_on_promotion)
{
    struct dassie__processor *p = cr_processor("a", 10, 0);
    uint64_t last = put_in("a", 5, 1);
    uint64_t third = put_in("a", 0, 300);
    uint64_t second = put_in("a", 0, 200);
    uint64_t first = put_in("a", -5, 900);
    char text[64];
    cr_commit();
    cr_pass(1000);
    cr_turns(2);
    snprintf(text, sizeof text, "%d %d %d %d", (int)first, (int)second,
             (int)third, (int)last);
    ck_assert_str_eq(cr_ids(&p->runq), text);
}
END_TEST

/* However many are due: a share of each commit, and fresh jobs go on. */
START_TEST(many_due_at_once)
{
    struct dassie__processor *p = cr_processor("b", 1, 0);
    for (int i = 0; i < 3 * PROMOTE_MAX; i++) {
        put_in("a", 0, 1);
    }
    cr_commit();
    cr_pass(1);
    for (int i = 1; i <= 3; i++) {
        dassie__core_promote(core);
        uint64_t fresh = cr_put("b");
        cr_step();
        waits((uint64_t)(3 - i) * PROMOTE_MAX, (uint64_t)i * PROMOTE_MAX);
        ck_assert_uint_eq(wakes(), i < 3 ? 0 : UINT64_MAX);
        cr_end(cr_starts(p, fresh), 0);
    }
    cr_commit();
}
END_TEST

/* Dead rows go by range when there are many, and at close. */
START_TEST(dead_rows_go)
{
    for (int i = 0; i < DEAD_ROWS_MAX + PROMOTE_MAX; i++) {
        put_in("a", 0, 1);
    }
    put_in("a", 0, 2);
    cr_commit();
    cr_pass(1);
    cr_turns(DEAD_ROWS_MAX / PROMOTE_MAX);
    ck_assert_uint_eq(core->store.schedule.dead, DEAD_ROWS_MAX);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_SCHEDULED),
                      DEAD_ROWS_MAX + PROMOTE_MAX + 1);
    cr_turn();
    ck_assert_uint_eq(core->store.schedule.dead, 0);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_SCHEDULED), 1);
    cr_pass(1);
    cr_turn();
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_SCHEDULED), 1);
    dassie__store_tidy(&core->store);
    cr_commit();
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_SCHEDULED), 0);
}
END_TEST

/* ---- What it costs ---- */

/* Rows beside the one that each commit writes, and those of a fold. */
static uint64_t rows_of_step(void)
{
    uint64_t before = rig.base.kv->rows;
    cr_step();
    return rig.base.kv->rows - before;
}

/* A plain job: two rows if it is handed off, three if it waits. */
START_TEST(rows_of_plain_jobs)
{
    enum { N = 10 };
    job_t *job;
    for (int i = 0; i < N; i++) {
        cr_put("a");
    }
    uint64_t rows = rows_of_step();
    ck_assert_uint_eq(rows, 2); /* the queue's name, the commit; 2 N before */
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_JOBS), N);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_PENDING), N);
    struct dassie__processor *p = cr_processor("a b", N, CR_ASYNC);
    ck_assert_uint_eq(rows_of_step(),
                      3); /* a name, the claim set, the commit */
    for (int round = 0; round < 2; round++) {
        rows = rig.base.kv->rows;
        while ((job = cr_start(p)) != NULL) {
            cr_end(job, 0);
        }
        cr_commit();
        ck_assert_uint_eq(rig.base.kv->rows - rows, N + 2);
        if (round == 0) {
            rows = rig.base.kv->rows;
            for (int i = 0; i < N; i++) {
                cr_put("b");
            }
            cr_commit();
            ck_assert_uint_eq(rig.base.kv->rows - rows, N + 2);
        }
    }
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_HISTORY), 0);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_COMPLETE), 2 * N);
}
END_TEST

START_TEST(rows_per_transition)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    cr_step();
    uint64_t rows = rig.base.kv->rows;
    put_in("a", 0, 5);
    ck_assert_uint_eq(rig.base.kv->rows - rows, 2); /* job, scheduled */
    ck_assert_uint_eq(rows_of_step(), 1);           /* the commit's */
    cr_pass(5);
    rows = rig.base.kv->rows;
    dassie__core_promote(core);
    ck_assert_uint_eq(rig.base.kv->rows - rows, 2); /* pending, history */
    cr_step();
    cr_turn();
    job_t *job = cr_start(p);
    cr_return(job, -1);
    job->verdict = VERDICT_SNOOZE;
    job->again_ms = 5;
    job->status = 0;
    rows = rig.base.kv->rows;
    dassie__core_finish(core, job);
    ck_assert_uint_eq(rig.base.kv->rows - rows,
                      3); /* scheduled, history; the claim set's end */
    cr_commit();
}
END_TEST

/* ---- Retries ---- */

static struct job_options retry_options(uint64_t attempts, uint64_t backoff,
                                        uint64_t backoff_max,
                                        uint64_t retry_for)
{
    struct job_options options = {.number = {0}};
    options.number[JOB_ATTEMPTS] = attempts;
    options.number[JOB_BACKOFF] = backoff;
    options.number[JOB_BACKOFF_MAX] = backoff_max;
    options.number[JOB_RETRY_FOR] = retry_for;
    return options;
}

/* The job runs and fails, and is due again in so many ms; 0: it is not. */
static uint64_t fail_once(struct dassie__processor *p, uint64_t id,
                          enum verdict verdict, uint64_t ms)
{
    cr_turns(2);
    job_t *job = cr_starts(p, id);
    job->verdict = (uint8_t)verdict;
    job->again_ms = ms;
    cr_end(job, -7);
    cr_commit();
    uint64_t due = dassie__schedule_due(&core->store);
    return due == UINT64_MAX ? 0 : due - core->wall_ms;
}

START_TEST(backs_off_and_fails)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(4, 100, 250, 0);
    static const uint64_t delays[] = {75, 150, 188, 0}; /* 3/4, see rig */
    uint64_t id = cr_put_job(cr_job_with("a", 0, &options));
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), delays[i]);
        cr_is(id, i < 3 ? DASSIE_SCHEDULED : DASSIE_FAILED, i + 1, 0, -7);
        cr_pass(delays[i]);
    }
    ck_assert_uint_eq(core->stats.retried, 3);
    ck_assert_uint_eq(core->stats.failed, 1);
}
END_TEST

START_TEST(policy)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options none = {.number = {0}};
    core->options.attempts_max = DASSIE_ATTEMPTS;
    uint64_t id = cr_put_job(cr_job_with("a", 0, &none));
    for (uint32_t i = 1; i < DASSIE_ATTEMPTS; i++) {
        uint64_t ms = i < 13 ? UINT64_C(1000) << (i - 1) : 3600000;
        ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), ms - ms / 4);
        cr_pass(ms);
    }
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), 0);
    cr_is(id, DASSIE_FAILED, DASSIE_ATTEMPTS, 0, -7);
}
END_TEST

/* To be run at most once: not again, unless it was asked for. */
START_TEST(at_most_once)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options none = {.number = {0}};
    core->options.attempts_max = DASSIE_ATTEMPTS;
    for (uint64_t attempts = 0; attempts < 3; attempts++) {
        none.number[JOB_ATTEMPTS] = attempts;
        job_t *job = cr_job_with("a", 0, &none);
        job->flags = DASSIE_AT_MOST_ONCE;
        job->row[1] |= DASSIE_AT_MOST_ONCE;
        uint64_t id = cr_put_job(job);
        uint64_t due = fail_once(p, id, VERDICT_NONE, 0);
        ck_assert_int_eq(due != 0, attempts > 1);
    }
}
END_TEST

START_TEST(until_a_deadline)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(0, 1000, 0, 2000);
    core->options.attempts_max = DASSIE_ATTEMPTS;
    uint64_t id = cr_put_job(cr_job_with("a", 0, &options));
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), 750);
    cr_pass(750);
    /* 1500 ms later were 2250 after the enqueue. */
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), 0);
    cr_is(id, DASSIE_FAILED, 2, 0, -7);
}
END_TEST

START_TEST(verdicts)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(3, 1000, 0, 0);
    uint64_t id = cr_put_job(cr_job_with("a", 0, &options));
    ck_assert_uint_eq(fail_once(p, id, VERDICT_RETRY, 33), 33);
    cr_pass(33);
    /* A snooze is for a run that does not fail. */
    ck_assert_uint_eq(fail_once(p, id, VERDICT_SNOOZE, 5), 1500);
    cr_pass(1500);
    ck_assert_uint_eq(fail_once(p, id, VERDICT_RETRY, 5), 0);
    cr_is(id, DASSIE_FAILED, 3, 0, -7);
    id = cr_put_job(cr_job_with("a", 0, &options));
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NO_RETRY, 0), 0);
    cr_is(id, DASSIE_FAILED, 1, 0, -7);
}
END_TEST

/* A snooze uses up no attempt, but each run has a number of its own. */
START_TEST(snoozes)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(2, 1000, 0, 0);
    uint64_t id = cr_put_job(cr_job_with("a", 0, &options));
    for (uint32_t i = 1; i <= 5; i++) {
        cr_turns(2);
        job_t *job = cr_starts(p, id);
        ck_assert_uint_eq(job->attempts + 1, i);
        job->verdict = VERDICT_SNOOZE;
        job->again_ms = 40;
        dassie__job_begin(job);
        dassie__core_finish(core, job);
        cr_commit();
        cr_is(id, DASSIE_SCHEDULED, i, 0, 0);
        cr_pass(39);
        cr_turns(2);
        waits(1, 0);
        cr_pass(1);
    }
    cr_rise();
    p = cr_processor("a", 1, 0);
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), 750);
    cr_pass(750);
    ck_assert_uint_eq(fail_once(p, id, VERDICT_NONE, 0), 0);
    cr_is(id, DASSIE_FAILED, 7, 0, -7);
}
END_TEST

/* ---- Kill and reopen ---- */

START_TEST(survives_a_kill)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(5, 100000, 0, 0);
    uint64_t retry = cr_put_job(cr_job_with("a", 0, &options));
    ck_assert_uint_eq(fail_once(p, retry, VERDICT_NONE, 0), 75000);
    uint64_t soon = put_in("a", 0, 100);
    uint64_t late = put_in("b", 3, 100000);
    cr_commit();
    cr_pass(100);
    dassie__core_processor_stop(core, p);
    cr_turn();
    cr_is(soon, DASSIE_PENDING, 0, 0, 0);
    struct schedule_row schedule = core->store.schedule;
    cr_rise();
    ck_assert_mem_eq(&core->store.schedule, &schedule, sizeof schedule);
    cr_is(soon, DASSIE_PENDING, 0, 0, 0);
    cr_is(late, DASSIE_SCHEDULED, 0, 0, 0);
    struct cr_found found = cr_found(retry);
    ck_assert(found.state == DASSIE_SCHEDULED && found.code == -7 &&
              found.text);
    put_in("a", 0, 1); /* not committed: it never was */
    cr_rise();
    waits(2, 1);
    p = cr_processor("a b", 3, 0);
    cr_pass(200000);
    cr_turns(2);
    ck_assert_uint_eq(p->runq.n, 3);
    cr_is(retry, DASSIE_RUNNING, 2, 0, 0);
}
END_TEST

/* A job whose time has come joins the window of its line, and the commit that
 * moves it claims it: neither it nor one that comes after it is read again. */
START_TEST(due_is_claimed_at_once)
{
    struct dassie__processor *p = cr_processor("a", 2, 0);
    uint64_t due = put_in("a", 0, 100);
    cr_commit();
    uint64_t refills = core->store.refills;
    cr_pass(100);
    cr_turn();
    cr_is(due, DASSIE_RUNNING, 1, 0, 0);
    ck_assert_uint_eq(p->runq.n, 1);
    struct job_options none = {.key = NULL};
    uint64_t next = cr_put_job(cr_job_with("a", 0, &none));
    cr_turn();
    cr_is(next, DASSIE_RUNNING, 1, 0, 0);
    ck_assert_uint_eq(core->store.refills, refills);
}
END_TEST

/* The last error stays with the job as long as it has not begun again. */
START_TEST(keeps_the_error)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    struct job_options options = retry_options(5, 1000, 0, 0);
    uint64_t id = cr_put_job(cr_job_with("a", 0, &options));
    fail_once(p, id, VERDICT_NONE, 0);
    cr_pass(1000);
    cr_turns(2);
    ck_assert_uint_eq(p->runq.n, 1);
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    cr_commit();
    struct cr_found found = cr_found(id);
    ck_assert(found.state == DASSIE_PENDING && found.attempts == 1 &&
              found.code == -7 && found.text);
    cr_step();
    job_t *job = cr_starts(p, id);
    dassie__job_begin(job);
    dassie__core_finish(core, job);
    cr_commit();
    cr_is(id, DASSIE_COMPLETE, 2, 0, 0);
}
END_TEST

/* ---- What goes wrong ---- */

/* Without memory it is tried again, and nothing is lost. */
START_TEST(no_memory)
{
    uint64_t id = put_in("a", 0, 10);
    cr_commit();
    cr_pass(10);
    for (unsigned n = 1;; n++) {
        cr_mem_fail(n);
        dassie__core_promote(core);
        if (!cr_mem_failed()) {
            break;
        }
        ck_assert_uint_eq(core->store.queues.tally.scheduled +
                              core->store.queues.tally.pending,
                          1);
        cr_step();
        ck_assert_uint_le(wakes(), RETRY_NS_MAX / CR_MS);
        cr_pass(RETRY_NS_MAX / CR_MS);
    }
    cr_commit();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, runs_when_due);
    tcase_add_test(tc, wakes_to_read_the_clock);
    tcase_add_test(tc, clock_goes_back);
    tcase_add_test(tc, order_on_promotion);
    tcase_add_test(tc, rows_of_plain_jobs);
    tcase_add_test(tc, rows_per_transition);
    tcase_add_test(tc, backs_off_and_fails);
    tcase_add_test(tc, policy);
    tcase_add_test(tc, at_most_once);
    tcase_add_test(tc, until_a_deadline);
    tcase_add_test(tc, verdicts);
    tcase_add_test(tc, snoozes);
    tcase_add_test(tc, survives_a_kill);
    tcase_add_test(tc, due_is_claimed_at_once);
    tcase_add_test(tc, keeps_the_error);
}

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *mem = tcase_create("mem");
    TCase *rocks = tcase_create("rocks");
    tcase_add_checked_fixture(mem, setup_mem, cr_teardown);
    tcase_add_checked_fixture(rocks, setup_rocks, cr_teardown);
    suite_add_tcase(suite, mem);
    suite_add_tcase(suite, rocks);
    add_all(mem);
    tcase_add_test(mem, many_due_at_once);
    tcase_add_test(mem, dead_rows_go);
    add_all(rocks);
    tcase_add_test(rocks, no_memory);
    return cr_run_suite(suite);
}
