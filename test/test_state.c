/* The life of a job: every state against every event, and every way in which
 * a run can be found at open. */
#include "config.h"

#include "../lib/state.h"

#include <check.h>

#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

#define SUSPECT LINE_SUSPECT
#define FRONT LINE_FRONT
#define NORMAL LINE_NORMAL
#define PENDING DASSIE_PENDING
#define SCHEDULED DASSIE_SCHEDULED
#define RUNNING DASSIE_RUNNING
#define COMPLETE DASSIE_COMPLETE
#define FAILED DASSIE_FAILED
#define CANCELLED DASSIE_CANCELLED

/* The whole table, by hand. line matters only where to is pending; counts is 2
 * for a run that is excused. */
static const struct row {
    int state;
    enum event event;
    int error;
    int to;
    int line;
    int counts;
} table[] = {
    {STATE_NONE, EVENT_ENQUEUE, 0, PENDING, NORMAL, 0},
    {STATE_NONE, EVENT_HAND_OFF, 0, RUNNING, 0, 0},
    {STATE_NONE, EVENT_SCHEDULE, 0, SCHEDULED, 0, 0},
    {STATE_NONE, EVENT_PROMOTE, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_CLAIM, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_COMPLETE, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_FAIL, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_RETRY, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_SNOOZE, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_UNCLAIM, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_REPEAT, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_SUSPECT, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_INTERRUPT, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_CRASH_OUT, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_RUN_NOW, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_POSTPONE, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_CANCEL, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_ABORT, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_AGAIN, UV_ENOENT, 0, 0, 0},
    {STATE_NONE, EVENT_DELETE, UV_ENOENT, 0, 0, 0},

    {PENDING, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {PENDING, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {PENDING, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {PENDING, EVENT_PROMOTE, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_CLAIM, 0, RUNNING, 0, 0},
    {PENDING, EVENT_COMPLETE, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_FAIL, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_RETRY, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_SNOOZE, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_UNCLAIM, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_REPEAT, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_SUSPECT, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_INTERRUPT, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_CRASH_OUT, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_RUN_NOW, DASSIE_ESTATE, 0, 0, 0},
    {PENDING, EVENT_POSTPONE, 0, SCHEDULED, 0, 0},
    {PENDING, EVENT_CANCEL, 0, CANCELLED, 0, 0},
    {PENDING, EVENT_ABORT, UV_EALREADY, 0, 0, 0},
    {PENDING, EVENT_AGAIN, DASSIE_ESTATE, 0, 0, 0},
    {PENDING, EVENT_DELETE, 0, STATE_NONE, 0, 0},

    {SCHEDULED, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {SCHEDULED, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {SCHEDULED, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {SCHEDULED, EVENT_PROMOTE, 0, PENDING, NORMAL, 0},
    {SCHEDULED, EVENT_CLAIM, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_COMPLETE, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_FAIL, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_RETRY, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_SNOOZE, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_UNCLAIM, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_REPEAT, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_SUSPECT, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_INTERRUPT, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_CRASH_OUT, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_RUN_NOW, 0, PENDING, NORMAL, 0},
    {SCHEDULED, EVENT_POSTPONE, 0, SCHEDULED, 0, 0},
    {SCHEDULED, EVENT_CANCEL, 0, CANCELLED, 0, 0},
    {SCHEDULED, EVENT_ABORT, UV_EALREADY, 0, 0, 0},
    {SCHEDULED, EVENT_AGAIN, DASSIE_ESTATE, 0, 0, 0},
    {SCHEDULED, EVENT_DELETE, 0, STATE_NONE, 0, 0},

    {RUNNING, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {RUNNING, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {RUNNING, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {RUNNING, EVENT_PROMOTE, UV_EALREADY, 0, 0, 0},
    {RUNNING, EVENT_CLAIM, UV_EALREADY, 0, 0, 0},
    {RUNNING, EVENT_COMPLETE, 0, COMPLETE, 0, 1},
    {RUNNING, EVENT_FAIL, 0, FAILED, 0, 1},
    {RUNNING, EVENT_RETRY, 0, SCHEDULED, 0, 1},
    {RUNNING, EVENT_SNOOZE, 0, SCHEDULED, 0, 2},
    {RUNNING, EVENT_UNCLAIM, 0, PENDING, FRONT, 0},
    {RUNNING, EVENT_REPEAT, 0, PENDING, FRONT, 1},
    {RUNNING, EVENT_SUSPECT, 0, PENDING, SUSPECT, 1},
    {RUNNING, EVENT_INTERRUPT, 0, FAILED, 0, 1},
    {RUNNING, EVENT_CRASH_OUT, 0, FAILED, 0, 1},
    {RUNNING, EVENT_RUN_NOW, DASSIE_ESTATE, 0, 0, 0},
    {RUNNING, EVENT_POSTPONE, DASSIE_ESTATE, 0, 0, 0},
    {RUNNING, EVENT_CANCEL, 0, CANCELLED, 0, 0},
    {RUNNING, EVENT_ABORT, 0, CANCELLED, 0, 1},
    {RUNNING, EVENT_AGAIN, DASSIE_ESTATE, 0, 0, 0},
    {RUNNING, EVENT_DELETE, DASSIE_ESTATE, 0, 0, 0},

    {COMPLETE, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {COMPLETE, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {COMPLETE, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {COMPLETE, EVENT_PROMOTE, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_CLAIM, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_COMPLETE, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_FAIL, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_RETRY, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_SNOOZE, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_UNCLAIM, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_REPEAT, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_SUSPECT, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_INTERRUPT, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_CRASH_OUT, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_RUN_NOW, DASSIE_ESTATE, 0, 0, 0},
    {COMPLETE, EVENT_POSTPONE, DASSIE_ESTATE, 0, 0, 0},
    {COMPLETE, EVENT_CANCEL, DASSIE_ESTATE, 0, 0, 0},
    {COMPLETE, EVENT_ABORT, UV_EALREADY, 0, 0, 0},
    {COMPLETE, EVENT_AGAIN, DASSIE_ESTATE, 0, 0, 0},
    {COMPLETE, EVENT_DELETE, 0, STATE_NONE, 0, 0},

    {FAILED, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {FAILED, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {FAILED, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {FAILED, EVENT_PROMOTE, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_CLAIM, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_COMPLETE, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_FAIL, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_RETRY, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_SNOOZE, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_UNCLAIM, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_REPEAT, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_SUSPECT, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_INTERRUPT, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_CRASH_OUT, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_RUN_NOW, DASSIE_ESTATE, 0, 0, 0},
    {FAILED, EVENT_POSTPONE, DASSIE_ESTATE, 0, 0, 0},
    {FAILED, EVENT_CANCEL, DASSIE_ESTATE, 0, 0, 0},
    {FAILED, EVENT_ABORT, UV_EALREADY, 0, 0, 0},
    {FAILED, EVENT_AGAIN, 0, PENDING, NORMAL, 0},
    {FAILED, EVENT_DELETE, 0, STATE_NONE, 0, 0},

    {CANCELLED, EVENT_ENQUEUE, UV_EEXIST, 0, 0, 0},
    {CANCELLED, EVENT_HAND_OFF, UV_EEXIST, 0, 0, 0},
    {CANCELLED, EVENT_SCHEDULE, UV_EEXIST, 0, 0, 0},
    {CANCELLED, EVENT_PROMOTE, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_CLAIM, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_COMPLETE, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_FAIL, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_RETRY, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_SNOOZE, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_UNCLAIM, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_REPEAT, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_SUSPECT, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_INTERRUPT, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_CRASH_OUT, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_RUN_NOW, DASSIE_ESTATE, 0, 0, 0},
    {CANCELLED, EVENT_POSTPONE, DASSIE_ESTATE, 0, 0, 0},
    {CANCELLED, EVENT_CANCEL, DASSIE_ESTATE, 0, 0, 0},
    {CANCELLED, EVENT_ABORT, UV_EALREADY, 0, 0, 0},
    {CANCELLED, EVENT_AGAIN, 0, PENDING, NORMAL, 0},
    {CANCELLED, EVENT_DELETE, 0, STATE_NONE, 0, 0},
};

START_TEST(transitions)
{
    for (size_t i = 0; i < COUNT(table); i++) {
        const struct row *row = &table[i];
        const struct transition *t = dassie__state_next(row->state, row->event);
        ck_assert_ptr_nonnull(t);
        ck_assert_msg(t->error == row->error, "row %zu: error %d", i, t->error);
        if (row->error != 0) {
            continue;
        }
        ck_assert_msg((int)t->to == row->to, "row %zu: to %d", i, t->to);
        ck_assert_msg(t->counts == (row->counts > 0), "row %zu: counts", i);
        ck_assert_msg(t->excused == (row->counts == 2), "row %zu: excused", i);
        if (row->to == PENDING) {
            ck_assert_msg((int)t->line == row->line, "row %zu: line %d", i,
                          t->line);
        }
    }
}
END_TEST

/* The table above leaves no pair out and has none twice. */
START_TEST(table_is_whole)
{
    static const int states[] = {STATE_NONE, PENDING, SCHEDULED, RUNNING,
                                 COMPLETE,   FAILED,  CANCELLED};
    ck_assert_uint_eq(COUNT(table), COUNT(states) * EVENTS);
    for (size_t s = 0; s < COUNT(states); s++) {
        for (int event = 0; event < EVENTS; event++) {
            unsigned n = 0;
            for (size_t i = 0; i < COUNT(table); i++) {
                n +=
                    table[i].state == states[s] && (int)table[i].event == event;
            }
            ck_assert_uint_eq(n, 1);
        }
    }
}
END_TEST

/* What is found, without and with DASSIE_AT_MOST_ONCE, for crashes of max:
 * below it, at it, above it, and with no limit. */
static const struct found_row {
    enum found found;
    enum event any[4];
    enum event once;
} found_table[] = {
    {FOUND_NOT_STARTED,
     {EVENT_UNCLAIM, EVENT_UNCLAIM, EVENT_UNCLAIM, EVENT_UNCLAIM},
     EVENT_UNCLAIM},
    {FOUND_EXECUTING,
     {EVENT_SUSPECT, EVENT_SUSPECT, EVENT_SUSPECT, EVENT_SUSPECT},
     EVENT_INTERRUPT},
    {FOUND_ALONE,
     {EVENT_SUSPECT, EVENT_CRASH_OUT, EVENT_CRASH_OUT, EVENT_SUSPECT},
     EVENT_INTERRUPT},
    {FOUND_ENDED,
     {EVENT_REPEAT, EVENT_REPEAT, EVENT_REPEAT, EVENT_REPEAT},
     EVENT_INTERRUPT},
    {FOUND_UNKNOWN,
     {EVENT_REPEAT, EVENT_REPEAT, EVENT_REPEAT, EVENT_REPEAT},
     EVENT_INTERRUPT},
};

static unsigned found_column(uint32_t crashes, uint32_t crashes_max)
{
    if (crashes_max == 0) {
        return 3;
    }
    return crashes < crashes_max ? 0 : crashes == crashes_max ? 1 : 2;
}

START_TEST(recovery)
{
    ck_assert_uint_eq(COUNT(found_table), FOUND_UNKNOWN + 1);
    for (size_t i = 0; i < COUNT(found_table); i++) {
        const struct found_row *row = &found_table[i];
        for (uint32_t n = 0; n < 6 * 6; n++) {
            uint32_t crashes = n / 6;
            uint32_t max = n % 6;
            enum event event = row->any[found_column(crashes, max)];
            ck_assert_int_eq(dassie__state_recover(row->found, 0, crashes, max),
                             event);
            ck_assert_int_eq(dassie__state_recover(
                                 row->found, DASSIE_AT_MOST_ONCE, crashes, max),
                             row->once);
        }
    }
}
END_TEST

/* Whatever is found, the event is one that a running job can take. */
START_TEST(recovery_is_legal)
{
    for (int found = 0; found <= FOUND_UNKNOWN; found++) {
        for (unsigned flags = 0; flags <= DASSIE_AT_MOST_ONCE; flags++) {
            enum event event = dassie__state_recover(found, flags, 3, 3);
            ck_assert_int_eq(dassie__state_next(RUNNING, event)->error, 0);
        }
    }
}
END_TEST

static Suite *state_suite(void)
{
    Suite *suite = suite_create("state");
    TCase *tc = tcase_create("state");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, transitions);
    tcase_add_test(tc, table_is_whole);
    tcase_add_test(tc, recovery);
    tcase_add_test(tc, recovery_is_legal);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(state_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
