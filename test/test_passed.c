/* Damaged rows at the head of the schedule: they are passed over and told, and
 * what is due behind them comes when it is due, step by step on a clock of the
 * test's own. */
#include "config.h"

#include "../lib/admit.h"
#include "../lib/schedule.h"
#include "core_rig.h"

static void setup(void)
{
    cr_setup(RIG_MEM);
    rig.damaged = cr_job("", 0, 0, 0); /* so that nothing is to be sound */
}

static void teardown(void)
{
    cr_close();
    dassie__job_free(rig.damaged);
    cr_free_all();
}

/* ---- Steps ---- */

/* One that is due in delay_ms, and expires so long after that; 0: never. A key
 * is held for key_ms, or not at all. */
static uint64_t put(uint64_t delay_ms, uint64_t expire_ms, uint64_t key_ms)
{
    struct job_row row = {.enqueued_ms = core->wall_ms};
    row.options.number[JOB_DUE] = core->wall_ms + delay_ms;
    row.options.number[JOB_EXPIRE] = expire_ms;
    if (key_ms > 0) {
        row.options.number[JOB_UNIQUE] = DASSIE_UNTIL_TIME;
        row.options.number[JOB_UNIQUE_FOR] = key_ms;
        row.options.key = (const uint8_t *)"key";
        row.options.key_len = 3;
    }
    struct job_list one = {0};
    uint64_t id;
    struct admit admit = {.ids = &id};
    job_t *job = cr_job_of("a", &row);
    if (key_ms > 0) {
        job->unique = dassie__unique_new(&row);
        ck_assert_ptr_nonnull(job->unique);
    }
    job_list_push(&one, job);
    CR_OK(dassie__admit(core, &one, &admit));
    return id;
}

static struct due due_of(uint64_t id, uint64_t delay_ms, enum due_kind kind)
{
    struct due due = {core->wall_ms + delay_ms, id, (uint8_t)kind};
    return due;
}

/* Writes a row; returns what stood there. */
static struct kv_slice set(const struct due *due, struct kv_slice value)
{
    static uint8_t was[TIMER_ROW_MAX];
    uint8_t key[KEY_DUE_BYTES];
    struct kv *kv = rig.base.kv;
    struct kv_value old;
    dassie__key_due(key, due);
    struct kv_slice at = kv_slice(key, sizeof key);
    CR_OK(kv->ops->get(kv, NULL, FAMILY_SCHEDULED, at, &old, &rig.base.e));
    kv->ops->put(kv, FAMILY_SCHEDULED, at, value);
    ck_assert_uint_le(old.len, sizeof was);
    struct kv_slice before = kv_slice(was, old.len);
    memcpy(was, old.p, old.len);
    kv->ops->value_release(&old);
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    return before;
}

static struct kv_slice damage(const struct due *due)
{
    return set(due, kv_slice("\7", 1));
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

#define RETRY_MS (RETRY_NS_MIN / CR_MS)

/* ---- Tests ---- */

/* A damaged row stops nothing else, across a restart, too. It is told, and
 * tried again by time. */
START_TEST(damaged_row)
{
    uint64_t id = put(10, 0, 0);
    put(20, 0, 0);
    put(50, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    struct kv_slice row = damage(&due);
    cr_pass(30);
    cr_turn();
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(core->error.text, "scheduled row of job"));
    waits(2, 1);
    ck_assert_uint_eq(wakes(), 20);
    cr_pass(20);
    cr_turn();
    waits(1, 2);
    ck_assert_uint_eq(wakes(), RETRY_MS - 20);
    cr_kill();
    cr_open();
    cr_pass(100);
    cr_turn();
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    waits(1, 2);
    set(&due, row);
    cr_turn();
    waits(1, 2);
    cr_pass(RETRY_MS);
    cr_turns(2);
    waits(0, 3);
    ck_assert_int_eq(core->broken, 0);
    ck_assert_uint_eq(wakes(), UINT64_MAX);
}
END_TEST

/* What comes to stand before what is due next is not missed. */
START_TEST(sooner)
{
    uint64_t id = put(10, 0, 0);
    put(5000, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    damage(&due);
    cr_pass(10);
    cr_turn();
    uint64_t after = put(20, 0, 0);
    cr_commit();
    cr_turns(2);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    cr_pass(20);
    cr_turns(2);
    cr_is(after, DASSIE_PENDING, 0, 0, 0);
    core->wall_ms -= 1000;
    uint64_t before = put(1, 0, 0);
    cr_commit();
    cr_pass(1);
    cr_turns(2);
    cr_is(before, DASSIE_PENDING, 0, 0, 0);
    waits(2, 2);
}
END_TEST

/* The last one behind it was taken: one more is due when it is due. */
START_TEST(alone_in_the_schedule)
{
    uint64_t id = put(10, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    damage(&due);
    cr_pass(10);
    cr_turn();
    ck_assert_uint_eq(dassie__schedule_due(&core->store), UINT64_MAX);
    uint64_t later = put(20, 0, 0);
    cr_step();
    ck_assert_uint_eq(wakes(), 20);
    cr_pass(20);
    cr_turn();
    cr_is(later, DASSIE_PENDING, 0, 0, 0);
}
END_TEST

/* Rows of one job that are due at one time, each of them damaged in turn: the
 * others are seen to. */
START_TEST(one_of_a_place)
{
    static const enum due_kind kinds[] = {DUE_JOB, DUE_KEY};
    uint64_t id = put(10, 0, 10);
    put(20, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, kinds[_i]);
    damage(&due);
    cr_pass(20);
    cr_turns(2);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    waits(_i == 0, 2 - (_i == 0));
    ck_assert_uint_eq(core->store.schedule.live, 1);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_UNIQUE), _i);
    ck_assert_uint_eq(wakes(), RETRY_MS);
    cr_kill();
    cr_open();
    cr_turns(2);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    ck_assert_uint_eq(core->store.schedule.live, 1);
}
END_TEST

/* The engine stops after the damaged one of a place, and begins there again. */
START_TEST(within_a_place)
{
    unsigned n;
    uint64_t id = put(10, 0, 10);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    damage(&due);
    cr_pass(10);
    for (int i = 0; i < 3; i++) {
        CR_OK(dassie__schedule_promote(&core->store, core->wall_ms, 1, &n,
                                       &rig.base.e));
        cr_commit();
    }
    ck_assert_uint_eq(core->store.passed, 1);
    ck_assert_uint_eq(core->store.schedule.live, 1);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_UNIQUE), 0);
}
END_TEST

/* A job whose row was passed over does not expire: its timer waits for nothing,
 * and nor does the engine. */
START_TEST(expiry)
{
    uint64_t id = put(10, 10, 0);
    uint64_t other = put(30, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    struct kv_slice row = damage(&due);
    cr_pass(40);
    cr_turns(2);
    cr_is(other, DASSIE_PENDING, 0, 0, 0);
    ck_assert_uint_eq(core->store.passed, 2);
    ck_assert_uint_eq(wakes(), RETRY_MS);
    set(&due, row);
    cr_pass(RETRY_MS);
    cr_turns(4);
    cr_is(id, DASSIE_CANCELLED, 0, 0, DASSIE_EEXPIRED);
    ck_assert_int_eq(core->broken, 0);
    ck_assert_uint_eq(core->store.schedule.live, 0);
}
END_TEST

/* Once it is gone there is nothing to tell, and nothing to wait for. */
START_TEST(goes)
{
    uint64_t id = put(10, 0, 0);
    put(50, 0, 0);
    cr_commit();
    struct due due = due_of(id, 10, DUE_JOB);
    struct kv_slice row = damage(&due);
    cr_pass(10);
    cr_turn();
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    set(&due, row);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    cr_turns(2);
    ck_assert_int_eq(core->broken, 0);
    waits(1, 0);
    ck_assert_uint_eq(wakes(), 40);
    cr_pass(40);
    cr_turn();
    waits(0, 1);
}
END_TEST

/* More of them than one commit looks at. */
START_TEST(many)
{
    for (unsigned i = 0; i < PROMOTE_MAX + 10; i++) {
        struct due due = due_of(put(10, 0, 0), 10, DUE_JOB);
        cr_commit();
        damage(&due);
    }
    uint64_t id = put(10, 0, 0);
    cr_commit();
    cr_pass(10);
    cr_turn();
    ck_assert_uint_eq(wakes(), 0);
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    ck_assert_uint_eq(wakes(), RETRY_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passed over");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, damaged_row);
    tcase_add_test(tc, sooner);
    tcase_add_test(tc, alone_in_the_schedule);
    tcase_add_loop_test(tc, one_of_a_place, 0, 2);
    tcase_add_test(tc, within_a_place);
    tcase_add_test(tc, expiry);
    tcase_add_test(tc, goes);
    tcase_add_test(tc, many);
    return cr_run_suite(suite);
}
