/* What operators do to jobs: cancel, retry, delete, run now; to one, to some,
 * to all that match; step by step, in both databases. */
#include "config.h"

#include "../lib/change.h"
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

static job_t *job_named(const char *queue, const char *name, uint64_t delay_ms)
{
    struct job_row row = {.enqueued_ms = core->wall_ms,
                          .name = name,
                          .name_len = strlen(name),
                          .data = (const uint8_t *)"data",
                          .data_len = 4};
    row.options.number[JOB_DUE] = delay_ms > 0 ? core->wall_ms + delay_ms : 0;
    return cr_job_of(queue, &row);
}

static uint64_t put_later(const char *queue)
{
    return cr_put_job(job_named(queue, "later", 5000));
}

/* One that has ended so. */
static uint64_t put_ended(struct dassie__processor *p, const char *queue,
                          int status)
{
    uint64_t id = cr_put(queue);
    cr_step();
    cr_step();
    cr_end(cr_starts(p, id), status);
    cr_commit();
    return id;
}

static struct change *change_new(dassie_action_t action, unsigned states,
                                 const char *queue)
{
    struct change *change = dassie__calloc(1, sizeof *change);
    change->action = action;
    change->states = states;
    if (queue != NULL) {
        change->queue = dassie__memdup(queue, strlen(queue));
        change->queue_len = strlen(queue);
    }
    return change;
}

#define ALL UINT32_MAX

static struct change *change_of(dassie_action_t action, uint64_t id)
{
    struct change *change = change_new(action, ALL, NULL);
    change->ids = dassie__memdup(&id, sizeof id);
    change->ids_n = 1;
    change->single = true;
    return change;
}

/* Works on it, a commit a step. Returns what was changed; *commits. */
static uint64_t change_run(struct change *change, int *status, int *commits)
{
    bool done = false;
    *commits = 0;
    while (!done) {
        struct changed touched = {.n = 0};
        done = dassie__change_step(core, change, &touched);
        ck_assert_uint_le(touched.n, CHANGE_JOBS_MAX);
        cr_commit();
        ++*commits;
        ck_assert_int_lt(*commits, 1000);
    }
    uint64_t n = change->changed;
    *status = change->status;
    dassie__change_free(change);
    return n;
}

static int change_one(dassie_action_t action, uint64_t id)
{
    int status;
    int commits;
    uint64_t n = change_run(change_of(action, id), &status, &commits);
    ck_assert_int_eq(commits, 1);
    ck_assert_uint_eq(n, status == 0);
    return status;
}

static uint64_t change_all(dassie_action_t action, unsigned states,
                           const char *queue)
{
    int status;
    int commits;
    uint64_t n =
        change_run(change_new(action, states, queue), &status, &commits);
    ck_assert_int_eq(status, 0);
    return n;
}

static void is_gone(uint64_t id)
{
    job_t *job;
    ck_assert_int_eq(dassie__find(&core->store, id, &job, &rig.base.e),
                     UV_ENOENT);
}

/* ---- Bytes ---- */

/* What is pending has so many bytes; each commit recounts them, too. */
static void bytes_are(uint64_t bytes)
{
    const struct queues *qs = &core->store.queues;
    ck_assert_uint_eq(qs->tally.pending_bytes, bytes);
    ck_assert_uint_eq(qs->by_id[0]->tally.pending_bytes, bytes);
    ck_assert_uint_eq(meter_get(&qs->by_id[0]->meter->bytes[DASSIE_PENDING]),
                      bytes);
}

START_TEST(bytes_follow_pending)
{
    job_t *job = cr_job("a", 0, 0, 1000);
    uint64_t large = job->row_len;
    uint64_t first = cr_put_job(job);
    job = job_named("a", "later", 5000);
    uint64_t small = job->row_len;
    uint64_t second = cr_put_job(job);
    core->options.attempts_max = 5;
    cr_commit();
    bytes_are(large);
    cr_pass(5000);
    cr_turn(); /* nobody serves the queue: no row is read */
    bytes_are(large + small);
    ck_assert_int_eq(change_one(DASSIE_CANCEL, first), 0);
    bytes_are(small);
    cr_rise();
    ck_assert_int_eq(change_one(DASSIE_RETRY, first), 0);
    bytes_are(large + small);

    struct dassie__processor *p = cr_processor("a", 1, CR_ASYNC);
    core->options.attempts_max = 5;
    cr_step();
    bytes_are(large);
    cr_end(cr_starts(p, second), -7);
    cr_step();
    cr_is(second, DASSIE_SCHEDULED, 1, 0, -7);
    bytes_are(0);
    ck_assert_int_eq(change_one(DASSIE_RUN_NOW, second), 0);
    bytes_are(small);
    cr_rise(); /* the large one had not begun */
    bytes_are(large + small);
    ck_assert_int_eq(change_one(DASSIE_DELETE, second), 0);
    bytes_are(large);
    ck_assert_int_eq(change_one(DASSIE_DELETE, first), 0);
    bytes_are(0);
}
END_TEST

/* ---- Cancel ---- */

/* In its window, on disk only, at the head and at the end of its line. */
START_TEST(cancel_pending)
{
    uint64_t ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = cr_put("a");
    }
    cr_commit();
    struct dassie__processor *p = cr_processor("a", 1, 0);
    cr_step(); /* the first runs, two stand in the window or all */
    ck_assert_int_eq(change_one(DASSIE_CANCEL, ids[4]), 0);
    ck_assert_int_eq(change_one(DASSIE_CANCEL, ids[1]), 0);
    ck_assert_int_eq(change_one(DASSIE_CANCEL, ids[1]), DASSIE_ESTATE);
    cr_is(ids[1], DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    cr_end(cr_starts(p, ids[0]), 0);
    cr_step();
    cr_end(cr_starts(p, ids[2]), 0);
    cr_step();
    cr_end(cr_starts(p, ids[3]), 0);
    cr_step();
    ck_assert_uint_eq(core->store.queues.tally.pending, 0);
    uint64_t next = cr_put("a");
    cr_step();
    cr_end(cr_starts(p, next), 0);
    cr_commit();
    ck_assert_uint_eq(core->store.queues.tally.cancelled, 2);
}
END_TEST

/* What a batch takes out of its line is not claimed in it. */
START_TEST(cancelled_is_not_claimed)
{
    uint64_t first = cr_put("a");
    uint64_t second = cr_put("a");
    cr_commit();
    struct dassie__processor *p = cr_processor("a", 2, 0);
    struct changed touched = {.n = 0};
    struct change *change = change_of(DASSIE_CANCEL, first);
    ck_assert(dassie__change_step(core, change, &touched));
    dassie__change_free(change);
    cr_step();
    cr_starts(p, second);
    ck_assert_ptr_null(cr_start(p));
    cr_is(first, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
}
END_TEST

START_TEST(cancel_scheduled)
{
    uint64_t first = put_later("a");
    uint64_t second = put_later("a");
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_CANCEL, first), 0);
    cr_is(first, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    core->wall_ms += 5000;
    dassie__core_promote(core);
    cr_commit();
    cr_is(second, DASSIE_PENDING, 0, 0, 0);
    ck_assert_uint_eq(core->store.queues.tally.scheduled, 0);
    cr_rise();
    cr_is(first, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
}
END_TEST

/* How a running one ends is its processor's to say; it is not tried again. */
START_TEST(cancel_running)
{
    static const struct {
        int status;
        enum verdict verdict;
        dassie_state_t state;
    } ends[] = {{0, VERDICT_NONE, DASSIE_COMPLETE},
                {0, VERDICT_SNOOZE, DASSIE_CANCELLED},
                {UV_ECANCELED, VERDICT_NONE, DASSIE_CANCELLED},
                {-7, VERDICT_RETRY, DASSIE_FAILED}};
    struct dassie__processor *p = cr_processor("a", 1, 0);
    core->options.attempts_max = 5;
    for (int i = 0; i < 4; i++) {
        uint64_t id = cr_put("a");
        cr_step();
        job_t *job = cr_starts(p, id);
        ck_assert_int_eq(change_one(DASSIE_CANCEL, id), 0);
        ck_assert_int_eq(change_one(DASSIE_CANCEL, id), 0); /* so it stays */
        ck_assert(atomic_load(&job->cancelled));
        cr_is(id, DASSIE_RUNNING, 1, 0, 0);
        job->verdict = (uint8_t)ends[i].verdict;
        cr_end(job, ends[i].status);
        cr_commit();
        ck_assert_int_eq(cr_found(id).state, ends[i].state);
    }
    ck_assert_uint_eq(core->stats.cancelled, 2);
}
END_TEST

/* It was claimed, but has not begun: handed back, it is cancelled. */
START_TEST(cancel_unstarted)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    uint64_t id = cr_put("a");
    cr_step();
    ck_assert_int_eq(change_one(DASSIE_CANCEL, id), 0);
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    cr_commit();
    cr_is(id, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
}
END_TEST

/* ---- Retry, delete, run now ---- */

START_TEST(retry)
{
    struct dassie__processor *p = cr_processor("a", 2, 0);
    core->options.attempts_max = 2;
    /* A neighbour keeps the claim set alive. */
    uint64_t id = cr_put("a");
    uint64_t other = cr_put("a");
    cr_step();
    job_t *job = cr_starts(p, id);
    cr_starts(p, other);
    job->verdict = VERDICT_NO_RETRY;
    cr_end(job, -7);
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_RETRY, other), DASSIE_ESTATE);
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), 0);
    struct cr_found found = cr_found(id);
    ck_assert(found.state == DASSIE_PENDING && found.attempts == 1 &&
              found.code == -7 && found.text);
    cr_step();
    job = cr_starts(p, id);
    cr_end(job, -8); /* the first of two attempts, again */
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 2, 0, -8);
    cr_rise();
    cr_is(id, DASSIE_SCHEDULED, 2, 0, -8);
    ck_assert_int_eq(change_one(DASSIE_RUN_NOW, id), 0);
    cr_is(id, DASSIE_PENDING, 2, 0, -8);
}
END_TEST

/* Its crashes are counted from 0: it may crash again as often as any other. */
START_TEST(retry_after_crashes)
{
    rig.options.crashes_max = core->options.crashes_max = 2;
    uint64_t id = cr_put("a");
    cr_commit();
    for (int i = 0; i < 3; i++) {
        struct dassie__processor *p = cr_processor("a", 1, 0);
        cr_step();
        cr_starts(p, id);
        cr_rise();
    }
    cr_is(id, DASSIE_FAILED, 3, 2, DASSIE_ECRASHED);
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), 0);
    cr_is(id, DASSIE_PENDING, 3, 0, DASSIE_ECRASHED);
    for (int i = 0; i < 2; i++) {
        struct dassie__processor *p = cr_processor("a", 1, 0);
        cr_step();
        cr_starts(p, id);
        cr_rise();
    }
    cr_is(id, DASSIE_PENDING, 5, 1, DASSIE_ECRASHED);
}
END_TEST

/* The time in which it is retried begins anew, and is remembered. */
START_TEST(retry_after_its_time)
{
    struct job_row row = {.enqueued_ms = core->wall_ms};
    row.options.number[JOB_ATTEMPTS] = 9;
    row.options.number[JOB_RETRY_FOR] = 60000;
    uint64_t id = cr_put_job(cr_job_of("a", &row));
    cr_commit();
    struct dassie__processor *p = cr_processor("a", 1, 0);
    core->wall_ms += 3600000;
    cr_step();
    cr_end(cr_starts(p, id), -7);
    cr_commit();
    cr_is(id, DASSIE_FAILED, 1, 0, -7);
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), 0);
    uint64_t again_ms = core->wall_ms;
    cr_rise();
    core->wall_ms = again_ms + 30000;
    p = cr_processor("a", 1, 0);
    cr_step();
    cr_end(cr_starts(p, id), -8);
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 2, 0, -8);
    cr_rise();
    core->wall_ms = again_ms + 60000;
    p = cr_processor("a", 1, 0);
    dassie__core_promote(core);
    cr_step();
    cr_end(cr_starts(p, id), -9);
    cr_commit();
    cr_is(id, DASSIE_FAILED, 3, 0, -9);
}
END_TEST

/* A claim that is stored beside it does not come to life by a retry. */
START_TEST(retry_and_kill)
{
    struct dassie__processor *p = cr_processor("a", 2, 0);
    uint64_t id = cr_put("a");
    cr_put("a");
    cr_step();
    cr_end(cr_starts(p, id), -7);
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), 0);
    cr_rise();
    cr_is(id, DASSIE_PENDING, 1, 0, -7);
}
END_TEST

/* A row that is whole does not make it claimable in the batch of its retry. */
START_TEST(retry_without_payload)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    uint64_t id = cr_put_job(cr_job("a", 0, 0, 0));
    cr_step();
    cr_end(cr_starts(p, id), -7);
    cr_commit();
    struct changed touched = {.n = 0};
    struct change *change = change_of(DASSIE_RETRY, id);
    ck_assert(dassie__change_step(core, change, &touched));
    dassie__change_free(change);
    cr_step();
    cr_step();
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    cr_is(id, DASSIE_COMPLETE, 2, 0, 0);
}
END_TEST

START_TEST(retry_cancelled)
{
    uint64_t id = put_later("a");
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_CANCEL, id), 0);
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), 0);
    cr_is(id, DASSIE_PENDING, 0, 0, UV_ECANCELED);
    ck_assert_int_eq(change_one(DASSIE_RETRY, id), DASSIE_ESTATE);
}
END_TEST

START_TEST(delete)
{
    struct dassie__processor *p = cr_processor("a", 2, 0);
    uint64_t done = put_ended(p, "a", 0);
    uint64_t failed = put_ended(p, "a", -1);
    uint64_t later = put_later("a");
    uint64_t pending = cr_put("b");
    uint64_t running = cr_put("a");
    cr_step();
    ck_assert_int_eq(change_one(DASSIE_DELETE, running), DASSIE_ESTATE);
    ck_assert_int_eq(change_one(DASSIE_DELETE, done), 0);
    ck_assert_int_eq(change_one(DASSIE_DELETE, done), UV_ENOENT);
    ck_assert_int_eq(change_one(DASSIE_RETRY, failed), 0);
    ck_assert_int_eq(change_one(DASSIE_DELETE, failed), 0);
    ck_assert_int_eq(change_one(DASSIE_DELETE, later), 0);
    ck_assert_int_eq(change_one(DASSIE_DELETE, pending), 0);
    ck_assert_int_eq(change_one(DASSIE_DELETE, 12345), UV_ENOENT);
    cr_rise();
    is_gone(done);
    is_gone(failed);
    is_gone(later);
    is_gone(pending);
    cr_tally(1, 0, 0, 0);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_JOBS), 1);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_HISTORY), 1);
}
END_TEST

/* A claim set may outlive a job of it. */
START_TEST(delete_beside_a_claim)
{
    struct dassie__processor *p = cr_processor("a", 2, 0);
    uint64_t gone = cr_put("a");
    cr_put("a");
    cr_step();
    cr_end(cr_starts(p, gone), 0);
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_DELETE, gone), 0);
    cr_rise();
    is_gone(gone);
    cr_tally(1, 0, 0, 0);
}
END_TEST

START_TEST(run_now)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    uint64_t id = put_later("a");
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_RUN_NOW, id), 0);
    ck_assert_int_eq(change_one(DASSIE_RUN_NOW, id), DASSIE_ESTATE);
    cr_step();
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    ck_assert_int_eq(change_one(DASSIE_RUN_NOW, id), DASSIE_ESTATE);
}
END_TEST

/* ---- All that match ---- */

enum { MANY = 3 * CHANGE_JOBS_MAX };

static void put_many(const char *queue, int n)
{
    for (int i = 0; i < n; i++) {
        cr_put_job(job_named(queue, i % 2 == 0 ? "even" : "odd", 0));
    }
    cr_commit();
}

/* One that ran meanwhile and waits for its next attempt is not hastened once
 * more. */
START_TEST(run_now_once)
{
    int status;
    int commits;
    core->options.attempts_max = 3;
    struct dassie__processor *p = cr_processor("first", 1, 0);
    uint64_t id = cr_put_job(job_named("first", "later", 1000));
    for (int i = 0; i < CHANGE_JOBS_MAX; i++) {
        put_later("a");
    }
    cr_commit();
    struct change *change = change_new(DASSIE_RUN_NOW, ALL, NULL);
    struct changed touched = {.n = 0};
    ck_assert(!dassie__change_step(core, change, &touched));
    cr_commit();
    cr_step();
    job_t *job = cr_starts(p, id);
    job->verdict = VERDICT_RETRY;
    job->again_ms = 3600000;
    cr_end(job, -7);
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 1, 0, -7);
    ck_assert_uint_eq(change_run(change, &status, &commits),
                      CHANGE_JOBS_MAX + 1);
    ck_assert_int_eq(status, 0);
    cr_is(id, DASSIE_SCHEDULED, 1, 0, -7);
}
END_TEST

/* A share is bounded in bytes, too. */
START_TEST(large_jobs)
{
    enum { LARGE = 12, LARGE_BYTES = 3 << 20 };
    bool done = false;
    for (int i = 0; i < LARGE; i++) {
        cr_put_job(cr_job("a", 0, 0, LARGE_BYTES));
    }
    cr_commit();
    struct change *change = change_new(DASSIE_CANCEL, ALL, "a");
    while (!done) {
        struct changed touched = {.n = 0};
        uint64_t before = change->changed;
        done = dassie__change_step(core, change, &touched);
        ck_assert_uint_le(change->changed - before,
                          CHANGE_BYTES_MAX / LARGE_BYTES + 1);
        cr_commit();
    }
    ck_assert_uint_eq(change->changed, LARGE);
    dassie__change_free(change);
}
END_TEST

/* In shares, so that nothing waits for long; and none that comes later. */
START_TEST(cancel_many)
{
    int status;
    int commits;
    put_many("a", MANY);
    put_many("b", 10);
    struct change *change = change_new(DASSIE_CANCEL, ALL, "a");
    struct changed touched = {.n = 0};
    ck_assert(!dassie__change_step(core, change, &touched));
    cr_commit();
    put_many("a", 5);
    ck_assert_uint_eq(change_run(change, &status, &commits), MANY);
    ck_assert_int_ge(commits, 3);
    ck_assert_int_le(commits, 12);
    ck_assert_uint_eq(core->store.queues.tally.pending, 15);
    ck_assert_uint_eq(core->store.queues.tally.cancelled, MANY);
    ck_assert_uint_eq(change_all(DASSIE_RETRY, ALL, "a"), MANY);
    ck_assert_uint_eq(core->store.queues.tally.pending, MANY + 15);
    ck_assert_uint_eq(core->store.queues.tally.cancelled, 0);
    cr_rise();
    ck_assert_uint_eq(core->store.queues.tally.pending, MANY + 15);
}
END_TEST

/* Killed in between, some are changed and some not. */
START_TEST(killed_in_between)
{
    put_many("a", MANY);
    struct change *change = change_new(DASSIE_CANCEL, ALL, NULL);
    for (int i = 0; i < 2; i++) {
        struct changed touched = {.n = 0};
        ck_assert(!dassie__change_step(core, change, &touched));
        cr_commit();
    }
    dassie__change_free(change);
    cr_rise();
    ck_assert_uint_eq(core->store.queues.tally.cancelled, CHANGE_JOBS_MAX);
    ck_assert_uint_eq(core->store.queues.tally.pending, MANY - CHANGE_JOBS_MAX);
    ck_assert_uint_eq(change_all(DASSIE_CANCEL, ALL, NULL),
                      MANY - CHANGE_JOBS_MAX);
}
END_TEST

/* Of every state, by name and by age. */
START_TEST(filters)
{
    struct dassie__processor *p = cr_processor("p", 1, 0);
    int status;
    int commits;
    put_many("a", 6);
    put_ended(p, "p", 0);
    put_ended(p, "p", -1);
    core->wall_ms += 1000;
    put_later("a");
    put_later("b");
    uint64_t running = cr_put("p");
    cr_step();
    struct change *change = change_new(DASSIE_CANCEL, ALL, NULL);
    change->name = dassie__memdup("even", 4);
    change->name_len = 4;
    ck_assert_uint_eq(change_run(change, &status, &commits), 3);
    ck_assert_uint_eq(change_all(DASSIE_CANCEL, 1u << DASSIE_SCHEDULED, "b"),
                      1);
    change = change_new(DASSIE_CANCEL, ALL, NULL);
    change->age_ms = 1000;
    ck_assert_uint_eq(change_run(change, &status, &commits), 4);
    ck_assert_uint_eq(change_all(DASSIE_RUN_NOW, ALL, NULL), 1);
    ck_assert_uint_eq(change_all(DASSIE_CANCEL, 1u << DASSIE_RUNNING, NULL), 1);
    ck_assert_uint_eq(change_all(DASSIE_DELETE, 1u << DASSIE_FAILED, "a"), 0);
    ck_assert_uint_eq(change_all(DASSIE_DELETE, 1u << DASSIE_FAILED, "p"), 1);
    ck_assert_uint_eq(change_all(DASSIE_DELETE, 1u << DASSIE_COMPLETE, NULL),
                      1);
    ck_assert_uint_eq(change_all(DASSIE_DELETE, 1u << DASSIE_CANCELLED, NULL),
                      7);
    cr_is(running, DASSIE_RUNNING, 1, 0, 0);
    cr_tally(1, 1, 0, 0);
}
END_TEST

/* The rest of a queue goes, whatever its state. */
START_TEST(purge)
{
    struct dassie__processor *p = cr_processor("a", 1, 0);
    put_ended(p, "a", 0);
    put_ended(p, "a", -1);
    put_later("a");
    cr_put("a");
    cr_put("a");
    uint64_t other = cr_put("b");
    cr_step();
    ck_assert_uint_eq(change_all(DASSIE_DELETE, ALL, "a"), 4);
    cr_tally(1, 1, 0, 0);
    cr_rise();
    cr_is(other, DASSIE_PENDING, 0, 0, 0);
    cr_tally(2, 0, 0, 0);
}
END_TEST

/* Two changes of one job are not in one batch. */
START_TEST(twice_in_a_batch)
{
    struct changed touched = {.n = 0};
    uint64_t id = cr_put("a");
    cr_commit();
    struct change *cancel = change_of(DASSIE_CANCEL, id);
    struct change *again = change_of(DASSIE_RETRY, id);
    ck_assert(dassie__change_step(core, cancel, &touched));
    ck_assert(!dassie__change_step(core, again, &touched));
    cr_commit();
    touched.n = 0;
    ck_assert(dassie__change_step(core, again, &touched));
    ck_assert_int_eq(again->status, 0);
    cr_commit();
    dassie__change_free(cancel);
    dassie__change_free(again);
    cr_is(id, DASSIE_PENDING, 0, 0, UV_ECANCELED);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, bytes_follow_pending);
    tcase_add_test(tc, cancel_pending);
    tcase_add_test(tc, cancelled_is_not_claimed);
    tcase_add_test(tc, cancel_scheduled);
    tcase_add_test(tc, cancel_running);
    tcase_add_test(tc, cancel_unstarted);
    tcase_add_test(tc, retry);
    tcase_add_test(tc, retry_after_crashes);
    tcase_add_test(tc, retry_after_its_time);
    tcase_add_test(tc, retry_and_kill);
    tcase_add_test(tc, retry_without_payload);
    tcase_add_test(tc, retry_cancelled);
    tcase_add_test(tc, delete);
    tcase_add_test(tc, delete_beside_a_claim);
    tcase_add_test(tc, run_now);
    tcase_add_test(tc, run_now_once);
    tcase_add_test(tc, large_jobs);
    tcase_add_test(tc, filters);
    tcase_add_test(tc, purge);
    tcase_add_test(tc, twice_in_a_batch);
    tcase_add_test(tc, cancel_many);
    tcase_add_test(tc, killed_in_between);
}

int main(void)
{
    Suite *suite = suite_create("change");
    TCase *mem = tcase_create("mem");
    TCase *rocks = tcase_create("rocks");
    tcase_add_checked_fixture(mem, setup_mem, cr_teardown);
    tcase_add_checked_fixture(rocks, setup_rocks, cr_teardown);
    suite_add_tcase(suite, mem);
    suite_add_tcase(suite, rocks);
    add_all(mem);
    add_all(rocks);
    return cr_run_suite(suite);
}
