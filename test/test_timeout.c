/* Runs that take too long, step by step on a clock of the test's own: when they
 * are asked to end, what becomes of those that do, and how those that do not
 * are given up. */
#include "config.h"

#include "admit.h"
#include "core_rig.h"

#define TIMEOUT 1000 /* ms */
#define HUNG 500     /* ms after it */

static const struct job_options plain = {.number = {[JOB_TIMEOUT] = TIMEOUT}};
static const struct job_options thrice = {
    .number = {[JOB_TIMEOUT] = TIMEOUT, [JOB_ATTEMPTS] = 3}};

static struct dassie__processor *p;

static void setup(void)
{
    cr_setup(RIG_MEM);
    p = cr_processor("mail", 1, 1);
    p->hung_ns = HUNG * CR_MS;
}

/* One with a limit, which executes from now on. */
static job_t *run(const struct job_options *options)
{
    uint64_t id = cr_put_job(cr_job_with("mail", 0, options));
    cr_step();
    return cr_starts(p, id);
}

/* So many ms go by. */
static void look_in(uint64_t ms)
{
    cr_pass(ms);
    dassie__core_timeouts(core);
    cr_step();
}

static void next_look_in(uint64_t ms)
{
    ck_assert_uint_eq(dassie__limits_due(&core->limits),
                      core->mono_ns + ms * CR_MS);
}

static void nothing_to_look_at(void)
{
    ck_assert_uint_eq(dassie__limits_due(&core->limits), UINT64_MAX);
}

/* ---- When ---- */

/* To the millisecond, and once. */
START_TEST(at_its_time)
{
    job_t *job = run(&plain);
    next_look_in(TIMEOUT);
    look_in(TIMEOUT - 1);
    ck_assert_int_eq(job->cancelled, 0);
    ck_assert_uint_eq(core->stats.timed_out, 0);
    look_in(1);
    ck_assert_int_eq(job->cancelled, UV_ETIMEDOUT);
    ck_assert(core->untold && job->cancel_untold);
    ck_assert_uint_eq(core->stats.timed_out, 1);
    look_in(1);
    ck_assert_uint_eq(core->stats.timed_out, 1);
    cr_end(job, UV_ECANCELED);
    cr_step();
    nothing_to_look_at();
}
END_TEST

/* It is counted from the begin, not from the claim, however late that is. */
START_TEST(from_its_begin)
{
    uint64_t id = cr_put_job(cr_job_with("mail", 0, &plain));
    cr_step();
    look_in(TIMEOUT);
    next_look_in(TIMEOUT);
    look_in(700);
    job_t *job = cr_starts(p, id);
    look_in(300);
    ck_assert_int_eq(job->cancelled, 0);
    next_look_in(700);
    look_in(699);
    ck_assert_int_eq(job->cancelled, 0);
    look_in(1);
    ck_assert_int_eq(job->cancelled, UV_ETIMEDOUT);
    cr_end(job, 0);
}
END_TEST

/* A touch wakes nobody, and counts from then. */
START_TEST(touched)
{
    job_t *job = run(&plain);
    for (int i = 0; i < 5; i++) {
        cr_pass(TIMEOUT - 1);
        limit_touch(job, core->mono_ns);
        look_in(1);
        ck_assert_int_eq(job->cancelled, 0);
        next_look_in(TIMEOUT - 1);
    }
    look_in(TIMEOUT - 1);
    ck_assert_int_eq(job->cancelled, UV_ETIMEDOUT);
    limit_touch(job, core->mono_ns); /* too late */
    look_in(HUNG);
    ck_assert(job->hung);
    cr_end(job, 0);
}
END_TEST

/* The end is on its way when its time is over. */
START_TEST(ended_just_in_time)
{
    job_t *job = run(&plain);
    cr_return(job, 0);
    look_in(TIMEOUT);
    ck_assert_uint_eq(core->stats.timed_out, 0);
    nothing_to_look_at();
    dassie__core_finish(core, job);
    cr_step();
    cr_tally(0, 0, 1, 0);
}
END_TEST

/* A job without a limit is never looked at; nor is one that went back. */
START_TEST(without_a_limit)
{
    cr_put("mail");
    uint64_t with = cr_put_job(cr_job_with("mail", 0, &plain));
    cr_step();
    cr_end(cr_start(p), 0);
    cr_step();
    next_look_in(TIMEOUT);
    job_t *job = job_list_pop(&p->runq);
    ck_assert_uint_eq(job->id, with);
    dassie__core_unclaim(core, job);
    nothing_to_look_at();
    dassie__core_processor_stop(core, p);
    cr_commit();
}
END_TEST

/* Many, in any order, some of which end. */
START_TEST(many)
{
    job_t *jobs[200];
    struct dassie__processor *all = cr_processor("all", 200, CR_ASYNC);
    uint64_t last = 0;
    all->hung_ns = UINT64_C(1) << 60;
    for (uint64_t i = 0; i < 200; i++) {
        struct job_options options = {.number = {0}};
        options.number[JOB_TIMEOUT] = 1 + i * 7919 % 1000;
        cr_put_job(cr_job_with("all", 0, &options));
    }
    cr_step();
    for (int i = 0; i < 200; i++) {
        jobs[i] = cr_start(all);
    }
    for (int i = 0; i < 200; i += 3) {
        cr_end(jobs[i], 0);
    }
    cr_step();
    uint64_t begin = core->mono_ns;
    while (core->stats.timed_out < 133) {
        uint64_t due = dassie__limits_due(&core->limits);
        uint64_t before = core->stats.timed_out;
        ck_assert_uint_ge(due, last);
        last = due;
        core->mono_ns = due;
        dassie__core_timeouts(core);
        ck_assert_uint_gt(core->stats.timed_out, before);
    }
    for (int i = 0; i < 200; i++) {
        if (i % 3 != 0) {
            ck_assert_uint_le(begin + jobs[i]->timeout_ns, core->mono_ns);
            ck_assert_int_eq(jobs[i]->cancelled, UV_ETIMEDOUT);
            cr_end(jobs[i], 0);
        }
    }
    cr_step();
}
END_TEST

/* ---- What becomes of it ---- */

/* Gives up in either way: a failed attempt, and the last one here. */
START_TEST(gives_up)
{
    static const int codes[] = {UV_ECANCELED, UV_ETIMEDOUT};
    job_t *job = run(&plain);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    cr_end(job, codes[_i]);
    cr_step();
    cr_is(id, DASSIE_FAILED, 1, 0, UV_ETIMEDOUT);
    cr_tally(0, 0, 0, 1);
}
END_TEST

/* Before it has timed out, these codes are its own. */
START_TEST(gives_up_by_itself)
{
    job_t *job = run(&plain);
    uint64_t id = job->id;
    cr_end(job, UV_ECANCELED);
    cr_step();
    cr_is(id, DASSIE_FAILED, 1, 0, UV_ECANCELED);
}
END_TEST

START_TEST(ends_well)
{
    job_t *job = run(&plain);
    look_in(TIMEOUT + HUNG);
    cr_end(job, 0);
    cr_step();
    cr_tally(0, 0, 1, 0);
}
END_TEST

START_TEST(fails_otherwise)
{
    job_t *job = run(&plain);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    cr_end(job, UV_EIO);
    cr_step();
    cr_is(id, DASSIE_FAILED, 1, 0, UV_EIO);
}
END_TEST

/* The limit holds for each run. */
START_TEST(tried_again)
{
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    for (uint32_t n = 1; n <= 3; n++) {
        look_in(TIMEOUT);
        ck_assert_int_eq(job->cancelled, UV_ETIMEDOUT);
        cr_end(job, UV_ECANCELED);
        cr_step();
        cr_is(id, n < 3 ? DASSIE_SCHEDULED : DASSIE_FAILED, n, 0, UV_ETIMEDOUT);
        cr_pass(3600 * 1000);
        dassie__core_promote(core);
        cr_step();
        job = cr_start(p);
        ck_assert_int_eq(job != NULL, n < 3);
    }
}
END_TEST

/* What the processor says of the next run holds, too. */
START_TEST(snoozes)
{
    job_t *job = run(&plain);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    job->verdict = VERDICT_SNOOZE;
    cr_end(job, 0);
    cr_step();
    cr_is(id, DASSIE_SCHEDULED, 1, 0, 0);
}
END_TEST

/* An operator wants it to end as well, before or after. */
START_TEST(cancelled_too)
{
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    job->cancel_asked = true;
    cr_end(job, _i == 0 ? UV_ETIMEDOUT : UV_ECANCELED);
    cr_step();
    cr_is(id, DASSIE_CANCELLED, 1, 0, UV_ECANCELED);
}
END_TEST

/* The queue is being closed: still a failed attempt. */
START_TEST(closed_meanwhile)
{
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    dassie__core_stop(core);
    cr_end(job, UV_ECANCELED);
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 1, 0, UV_ETIMEDOUT);
}
END_TEST

/* The limit is on disk, with the job. */
START_TEST(survives_a_kill)
{
    uint64_t id = cr_put_job(cr_job_with("mail", 0, &plain));
    cr_commit();
    cr_rise();
    p = cr_processor("mail", 1, 1);
    cr_step();
    job_t *job = cr_starts(p, id);
    look_in(TIMEOUT);
    ck_assert_int_eq(job->cancelled, UV_ETIMEDOUT);
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* ---- Hung ---- */

/* Its attempt ends, another job runs in its slot, the job itself is tried again
 * beside it, and what it says in the end changes nothing. */
START_TEST(given_up)
{
    p->spares = 1;
    job_t *hung = run(&thrice);
    uint64_t id = hung->id;
    uint64_t other = cr_put("mail");
    look_in(TIMEOUT + HUNG - 1); /* it is looked at late */
    ck_assert(hung->timed_out && !hung->given_up);
    next_look_in(HUNG);
    look_in(HUNG - 1);
    ck_assert(!hung->given_up);
    look_in(1);
    ck_assert(hung->given_up);
    ck_assert_uint_eq(core->stats.given_up, 1);
    ck_assert_uint_eq(core->hung_n, 1);
    cr_is(id, DASSIE_SCHEDULED, 1, 0, UV_ETIMEDOUT);
    cr_end(cr_starts(p, other), 0);
    cr_pass(3600 * 1000);
    dassie__core_promote(core);
    cr_step();
    job_t *second = cr_starts(p, id);
    ck_assert_uint_eq(second->attempts, 1);
    cr_end(hung, 0);
    cr_step();
    ck_assert_uint_eq(core->hung_n, 0);
    cr_is(id, DASSIE_RUNNING, 2, 0, 0);
    cr_end(second, 0);
    cr_step();
    cr_is(id, DASSIE_COMPLETE, 2, 0, 0);
    cr_tally(0, 0, 2, 0);
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX);
}
END_TEST

/* Since when an operator has it tried again is its copy's to know, too. */
START_TEST(given_up_in_its_time)
{
    static const struct job_options options = {
        .number = {[JOB_TIMEOUT] = TIMEOUT,
                   [JOB_ATTEMPTS] = 9,
                   [JOB_RETRY_FOR] = 3600000}};
    p->spares = 1;
    job_t *job = run(&options);
    uint64_t id = job->id;
    cr_pass(3600000);
    cr_end(job, -7);
    cr_commit();
    cr_is(id, DASSIE_FAILED, 1, 0, -7);
    CR_OK(cr_change(DASSIE_RETRY, id));
    cr_step();
    job = cr_starts(p, id);
    look_in(TIMEOUT);
    look_in(HUNG);
    ck_assert(job->given_up);
    cr_is(id, DASSIE_SCHEDULED, 2, 0, UV_ETIMEDOUT);
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* The process dies with the hung thread: its attempt has ended, and nobody
 * suspects the job. */
START_TEST(killed_while_hung)
{
    p->spares = 1;
    job_t *hung = run(&thrice);
    uint64_t id = hung->id;
    look_in(TIMEOUT);
    look_in(HUNG);
    cr_rise();
    dassie__job_free(hung);
    cr_is(id, DASSIE_SCHEDULED, 1, 0, UV_ETIMEDOUT);
    ck_assert_uint_eq(core->stats.interrupted, 0);
    ck_assert_uint_eq(core->store.suspects, 0);
}
END_TEST

/* Before the commit it is a run as any other. */
START_TEST(killed_before_the_commit)
{
    p->spares = 1;
    job_t *hung = run(&thrice);
    uint64_t id = hung->id;
    look_in(TIMEOUT);
    cr_pass(HUNG);
    dassie__core_timeouts(core);
    cr_rise();
    dassie__job_free(hung);
    cr_is(id, DASSIE_PENDING, 1, 0, 0);
    ck_assert_uint_eq(core->store.suspects, 1);
}
END_TEST

/* One of three that are under way: one that was given up, if there is. */
static job_t *next_back(job_t **jobs)
{
    int at = -1;
    for (int i = 0; i < 3; i++) {
        if (jobs[i] != NULL && (at < 0 || jobs[i]->given_up)) {
            at = i;
        }
    }
    job_t *job = jobs[at];
    jobs[at] = NULL;
    return job;
}

static struct dassie__processor *three_hang(job_t **jobs, unsigned spares)
{
    struct dassie__processor *all = cr_processor("all", 3, CR_ASYNC);
    all->hung_ns = HUNG * CR_MS;
    all->spares = spares;
    for (int i = 0; i < 3; i++) {
        cr_put_job(cr_job_with("all", 0, &plain));
    }
    cr_step();
    for (int i = 0; i < 3; i++) {
        jobs[i] = cr_start(all);
    }
    look_in(TIMEOUT);
    look_in(HUNG);
    return all;
}

/* Without a spare it keeps its slot; so it is with the first one, when all are
 * taken, until one is back. */
START_TEST(spares)
{
    job_t *jobs[3];
    struct dassie__processor *all = three_hang(jobs, (unsigned)_i);
    ck_assert_uint_eq(core->hung_n, (unsigned)_i);
    ck_assert_uint_eq(all->claimed, 3 - (unsigned)_i);
    nothing_to_look_at();
    cr_tally(0, (unsigned)(3 - _i), 0, (unsigned)_i);
    for (int back = 0; back < 3; back++) {
        cr_end(next_back(jobs), 0);
        look_in(0);
        ck_assert_uint_le(core->hung_n, (unsigned)_i);
    }
    ck_assert_uint_eq(core->stats.given_up, _i == 0 ? 0 : 3);
    cr_tally(0, 0, _i == 0 ? 3 : 0, _i == 0 ? 0 : 3);
    ck_assert_uint_eq(core->hung_n, 0);
}
END_TEST

/* The first one that waits for a spare has just ended: then it is the next
 * one's. */
START_TEST(spare_for_the_next)
{
    job_t *jobs[3];
    three_hang(jobs, 1);
    job_t *late = next_back(jobs);
    job_t *ended = next_back(jobs);
    job_t *waits = next_back(jobs);
    if (waits->slot < ended->slot) {
        job_t *first = waits;
        waits = ended;
        ended = first;
    }
    ck_assert(late->given_up);
    cr_return(ended, 0);
    cr_end(late, 0);
    look_in(0);
    ck_assert(!ended->given_up);
    ck_assert(waits->given_up);
    dassie__core_finish(core, ended);
    cr_end(waits, 0);
    cr_step();
    cr_tally(0, 0, 1, 2);
}
END_TEST

/* It may still be running, so it is not run beside itself. */
START_TEST(at_most_once)
{
    struct job_options options = thrice;
    job_t *job = cr_job_with("mail", 0, &options);
    uint64_t id = core->store.next;
    p->spares = 1;
    job->flags = DASSIE_AT_MOST_ONCE;
    job->row[1] |= DASSIE_AT_MOST_ONCE;
    cr_put_job(job);
    cr_step();
    job = cr_starts(p, id);
    look_in(TIMEOUT);
    look_in(HUNG);
    cr_is(id, DASSIE_FAILED, 1, 0, UV_ETIMEDOUT);
    cr_end(job, 0);
    cr_step();
    cr_tally(0, 0, 0, 1);
}
END_TEST

START_TEST(hung_and_cancelled)
{
    p->spares = 1;
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    job->cancel_asked = true;
    look_in(TIMEOUT);
    look_in(HUNG);
    cr_is(id, DASSIE_CANCELLED, 1, 0, UV_ECANCELED);
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* It returns when it is about to be given up: that counts. */
START_TEST(back_just_in_time)
{
    p->spares = 1;
    job_t *job = run(&thrice);
    look_in(TIMEOUT);
    cr_return(job, 0);
    look_in(HUNG);
    ck_assert_uint_eq(core->hung_n, 0);
    dassie__core_finish(core, job);
    cr_step();
    cr_tally(0, 0, 1, 0);
}
END_TEST

START_TEST(no_memory)
{
    p->spares = 1;
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    look_in(TIMEOUT);
    cr_pass(HUNG);
    cr_mem_fail(1);
    dassie__core_timeouts(core);
    ck_assert(cr_mem_failed());
    ck_assert(!job->given_up);
    next_look_in(STARVED_NS / CR_MS);
    look_in(STARVED_NS / CR_MS);
    ck_assert(job->given_up);
    cr_is(id, DASSIE_SCHEDULED, 1, 0, UV_ETIMEDOUT);
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* Whoever waits for the end hears of the one that counts. */
START_TEST(waiter_hears)
{
    static dassie_enqueue_t req;
    p->spares = 1;
    job_t *job = run(&plain);
    job->req = &req;
    look_in(TIMEOUT);
    cr_pass(HUNG);
    dassie__core_timeouts(core);
    ck_assert_ptr_null(job->req);
    ck_assert_uint_eq(core->told.n, 1);
    ck_assert_ptr_eq(core->told.head->waiters,
                     &((struct enqueue_priv *)req.reserved)->waiter);
    cr_step();
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* What it has saved by then is what the next run gets. */
START_TEST(saved)
{
    struct op *op;
    p->spares = 1;
    job_t *job = run(&thrice);
    uint64_t id = job->id;
    CR_OK(dassie__save_checkpoint(job, "first", 5, &op));
    look_in(TIMEOUT);
    look_in(HUNG);
    CR_OK(dassie__save_checkpoint(job, "late", 4, &op));
    cr_pass(3600 * 1000);
    dassie__core_promote(core);
    cr_step();
    job_t *second = cr_starts(p, id);
    ck_assert_ptr_nonnull(second->save);
    ck_assert_uint_eq(second->save->kept_len, 5);
    ck_assert_mem_eq(second->save->kept, "first", 5);
    cr_end(job, 0);
    cr_end(second, 0);
    cr_step();
}
END_TEST

/* What it saves while it is given up is not posted again: the first one may
 * still be in the inbox. */
START_TEST(saves_meanwhile)
{
    struct op *first;
    struct op *late;
    p->spares = 1;
    job_t *job = run(&thrice);
    CR_OK(dassie__save_step(job, 1, 9, &first));
    ck_assert_ptr_nonnull(first);
    look_in(TIMEOUT);
    look_in(HUNG);
    ck_assert(job->given_up);
    CR_OK(dassie__save_step(job, 2, 9, &late));
    ck_assert_ptr_null(late);
    cr_end(job, 0);
    cr_step();
}
END_TEST

/* A job with a key, which executes from now on. */
static job_t *run_keyed(void)
{
    struct job_row row;
    struct job_list one = {0};
    struct admit admit = {.batch = NULL};
    struct job_options options = plain;
    options.key = (const uint8_t *)"key";
    options.key_len = 3;
    job_t *job = cr_job_with("mail", 0, &options);
    CR_OK(dassie__job_row_read(job->row, job->row_len, &row));
    job->unique = dassie__unique_new(&row);
    ck_assert_ptr_nonnull(job->unique);
    job_list_push(&one, job);
    CR_OK(dassie__admit(core, &one, &admit));
    ck_assert_uint_eq(admit.new_n, 1);
    cr_step();
    return cr_start(p);
}

/* The key goes with the attempt that counts: another job may have it, whatever
 * the thread still does. */
START_TEST(key)
{
    p->spares = 1;
    job_t *hung = run_keyed();
    uint64_t id = hung->id;
    look_in(TIMEOUT);
    look_in(HUNG);
    cr_is(id, DASSIE_FAILED, 1, 0, UV_ETIMEDOUT);
    job_t *other = run_keyed();
    cr_end(hung, 0);
    cr_step();
    cr_end(other, 0);
    cr_step();
    cr_tally(0, 0, 1, 1);
}
END_TEST

/* The suspect that runs alone hangs: the others go on, and so does the core. */
START_TEST(alone)
{
    uint64_t id = run(&thrice)->id;
    cr_rise();
    p = cr_processor("mail", 1, 1);
    p->hung_ns = HUNG * CR_MS;
    p->spares = 1;
    cr_step();
    job_t *job = cr_starts(p, id);
    ck_assert_ptr_eq(core->alone, job);
    look_in(TIMEOUT);
    look_in(HUNG);
    ck_assert_ptr_null(core->alone);
    cr_is(id, DASSIE_SCHEDULED, 2, 0, UV_ETIMEDOUT);
    cr_end(job, 0);
    cr_step();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timeout");
    TCase *when = tcase_create("when");
    tcase_add_checked_fixture(when, setup, cr_teardown);
    tcase_add_test(when, at_its_time);
    tcase_add_test(when, from_its_begin);
    tcase_add_test(when, touched);
    tcase_add_test(when, ended_just_in_time);
    tcase_add_test(when, without_a_limit);
    tcase_add_test(when, many);
    suite_add_tcase(suite, when);

    TCase *then = tcase_create("then");
    tcase_add_checked_fixture(then, setup, cr_teardown);
    tcase_add_loop_test(then, gives_up, 0, 2);
    tcase_add_test(then, gives_up_by_itself);
    tcase_add_test(then, ends_well);
    tcase_add_test(then, fails_otherwise);
    tcase_add_test(then, tried_again);
    tcase_add_test(then, snoozes);
    tcase_add_loop_test(then, cancelled_too, 0, 2);
    tcase_add_test(then, closed_meanwhile);
    tcase_add_test(then, survives_a_kill);
    suite_add_tcase(suite, then);

    TCase *hung = tcase_create("hung");
    tcase_add_checked_fixture(hung, setup, cr_teardown);
    tcase_add_test(hung, given_up);
    tcase_add_test(hung, given_up_in_its_time);
    tcase_add_test(hung, killed_while_hung);
    tcase_add_test(hung, killed_before_the_commit);
    tcase_add_loop_test(hung, spares, 0, 3);
    tcase_add_test(hung, spare_for_the_next);
    tcase_add_test(hung, at_most_once);
    tcase_add_test(hung, hung_and_cancelled);
    tcase_add_test(hung, back_just_in_time);
    tcase_add_test(hung, no_memory);
    tcase_add_test(hung, waiter_hears);
    tcase_add_test(hung, saved);
    tcase_add_test(hung, saves_meanwhile);
    tcase_add_test(hung, key);
    tcase_add_test(hung, alone);
    suite_add_tcase(suite, hung);
    return cr_run_suite(suite);
}
