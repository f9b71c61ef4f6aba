/* Queues, lines and the ready window, in memory alone. */
#include "config.h"

#include "../lib/alloc.h"
#include "../lib/queue.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct queues qs;

static void setup(void)
{
    memset(&qs, 0, sizeof qs);
}

static void teardown(void)
{
    dassie__queues_free(&qs);
    ck_assert_ptr_null(qs.by_name);
    ck_assert_uint_eq(qs.n, 0);
}

static struct queue *add(const char *name)
{
    struct queue *q = NULL;
    ck_assert_int_eq(dassie__queues_add(&qs, name, strlen(name), &q), 0);
    return q;
}

static job_t *job_make(uint64_t id)
{
    job_t *job = dassie__job_new(10, 0);
    ck_assert_ptr_nonnull(job);
    job->id = id;
    return job;
}

/* ---- Names ---- */

START_TEST(names)
{
    static const char bytes[] = {0, '\n', (char)0xff};
    struct queue *q;
    struct queue *mail = add("mail");
    struct queue *ma = add("ma");
    ck_assert_int_eq(dassie__queues_add(&qs, bytes, sizeof bytes, &q), 0);
    ck_assert_uint_eq(mail->id, 0);
    ck_assert_uint_eq(ma->id, 1);
    ck_assert_uint_eq(q->id, 2);
    ck_assert_uint_eq(qs.n, 3);
    for (int again = 0; again < 2; again++) {
        ck_assert_ptr_eq(dassie__queues_find(&qs, "mail", 4), mail);
        ck_assert_ptr_eq(dassie__queues_find(&qs, "mail", 2), ma);
        ck_assert_ptr_eq(dassie__queues_find(&qs, bytes, sizeof bytes), q);
        ck_assert_ptr_null(dassie__queues_find(&qs, bytes, sizeof bytes - 1));
        ck_assert_ptr_null(dassie__queues_find(&qs, "mailx", 5));
        ck_assert_ptr_null(dassie__queues_find(&qs, "mai", 3));
    }
    ck_assert_ptr_eq(qs.by_id[2], q);
    ck_assert_str_eq(mail->name, "mail");
}
END_TEST

START_TEST(queues_max)
{
    char name[16];
    struct queue *q;
    for (unsigned i = 0; i < DASSIE_QUEUES_MAX; i++) {
        int len = snprintf(name, sizeof name, "%u", i);
        if (dassie__queues_add(&qs, name, (size_t)len, &q) != 0 || q->id != i) {
            ck_abort_msg("queue %u", i);
        }
    }
    struct queue **by_id = qs.by_id;
    ck_assert_int_eq(dassie__queues_add(&qs, "x", 1, &q), UV_ENOBUFS);
    ck_assert_uint_eq(qs.n, DASSIE_QUEUES_MAX);
    ck_assert_ptr_eq(qs.by_id, by_id);
    q = dassie__queues_find(&qs, "65535", 5);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_eq(q->id, 65535);
}
END_TEST

/* As if they had never been. */
START_TEST(dropped)
{
    struct queue *mail = add("mail");
    ck_assert_ptr_nonnull(dassie__queue_prepare(&qs, mail, 0));
    for (int again = 0; again < 2; again++) {
        struct queue *one = add("one");
        add("two");
        ck_assert_ptr_nonnull(dassie__queue_prepare(&qs, one, 0));
        ck_assert_ptr_eq(dassie__queues_find(&qs, "one", 3), one);
        ck_assert_uint_eq(one->id, 1);
        dassie__queues_drop(&qs, 1);
        ck_assert_ptr_null(dassie__queues_find(&qs, "one", 3));
        ck_assert_ptr_null(dassie__queues_find(&qs, "two", 3));
        ck_assert_uint_eq(qs.n, 1);
        ck_assert_uint_eq(qs.lines_n, 1);
    }
    dassie__queues_drop(&qs, 1);
    ck_assert_ptr_eq(dassie__queues_find(&qs, "mail", 4), mail);
    dassie__queues_drop(&qs, 0);
    ck_assert_ptr_null(qs.by_name);
}
END_TEST

/* ---- Memory ---- */

static long fail_after = -1; /* allocations until one fails; -1: never */

static bool fails(void)
{
    return fail_after >= 0 && fail_after-- == 0;
}

static void *failing_malloc(size_t size)
{
    return fails() ? NULL : malloc(size);
}

static void *failing_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

static void *failing_realloc(void *p, size_t size)
{
    return fails() ? NULL : realloc(p, size);
}

/* Whatever allocation fails, nothing has changed, and later it works. */
START_TEST(no_memory)
{
    struct queue *q = NULL;
    long n;
    dassie_replace_allocator(failing_malloc, failing_realloc, failing_calloc,
                             free);
    for (n = 0; q == NULL; n++) {
        fail_after = n;
        int rc = dassie__queues_add(&qs, "mail", 4, &q);
        fail_after = -1;
        ck_assert_int_eq(rc, q == NULL ? UV_ENOMEM : 0);
        ck_assert_uint_eq(qs.n, q != NULL);
        ck_assert_ptr_eq(dassie__queues_find(&qs, "mail", 4), q);
    }
    ck_assert_int_gt(n, 2);
    struct lines *lines = NULL;
    for (n = 0; lines == NULL; n++) {
        fail_after = n;
        lines = dassie__queue_prepare(&qs, q, 3);
        fail_after = -1;
        ck_assert_uint_eq(q->lines_n, lines != NULL);
        ck_assert_uint_eq(qs.lines_n, lines != NULL);
    }
    ck_assert_int_gt(n, 2);
}
END_TEST

/* ---- Lines ---- */

START_TEST(lines_in_order)
{
    static const int8_t priorities[] = {0, 19, -20, 5, -1, 5, 0};
    static const int8_t sorted[] = {-20, -1, 0, 5, 19};
    struct queue *q = add("mail");
    for (size_t i = 0; i < sizeof priorities; i++) {
        struct lines *lines = dassie__queue_prepare(&qs, q, priorities[i]);
        ck_assert_ptr_nonnull(lines);
        ck_assert_int_eq(lines->kind[0].row.priority, priorities[i]);
    }
    ck_assert_uint_eq(q->lines_n, sizeof sorted);
    ck_assert_uint_eq(qs.lines_n, sizeof sorted);
    for (unsigned i = 0; i < sizeof sorted; i++) {
        for (int kind = 0; kind < LINE_KINDS; kind++) {
            struct line *line = dassie__queue_line(q, sorted[i], kind);
            ck_assert_ptr_eq(line, &q->lines[i]->kind[kind]);
            ck_assert_int_eq(line->row.priority, sorted[i]);
            ck_assert_int_eq(line->row.kind, kind);
            ck_assert_ptr_eq(line->queue, q);
        }
    }
}
END_TEST

/* As if it was read so from the store. */
static void live_set(struct queue *q, int8_t priority, enum line_kind kind,
                     uint64_t live)
{
    struct line *line = dassie__queue_line(q, priority, kind);
    struct line_row row = line->row;
    row.live = live;
    dassie__line_set(line, &row);
}

/* Front before normal, priority by priority; suspects only when asked for. */
START_TEST(first_line)
{
    struct queue *q = add("mail");
    dassie__queue_prepare(&qs, q, 0);
    dassie__queue_prepare(&qs, q, -5);
    ck_assert_ptr_null(dassie__queue_first_line(q, false));
    ck_assert_ptr_null(dassie__queue_first_line(q, true));
    static const struct {
        int8_t priority;
        enum line_kind kind;
    } order[] = {
        {0, LINE_NORMAL}, {0, LINE_FRONT}, {-5, LINE_NORMAL}, {-5, LINE_FRONT}};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        struct line *line =
            dassie__queue_line(q, order[i].priority, order[i].kind);
        live_set(q, order[i].priority, order[i].kind, 1);
        ck_assert_ptr_eq(dassie__queue_first_line(q, false), line);
        ck_assert_ptr_null(dassie__queue_first_line(q, true));
    }
    live_set(q, 0, LINE_SUSPECT, 1);
    ck_assert_ptr_eq(dassie__queue_first_line(q, true),
                     dassie__queue_line(q, 0, LINE_SUSPECT));
    live_set(q, -5, LINE_SUSPECT, 1);
    ck_assert_ptr_eq(dassie__queue_first_line(q, true),
                     dassie__queue_line(q, -5, LINE_SUSPECT));
    live_set(q, -5, LINE_SUSPECT, 0);
    ck_assert_ptr_eq(dassie__queue_first_line(q, true),
                     dassie__queue_line(q, 0, LINE_SUSPECT));
}
END_TEST

static struct line *line_make(void)
{
    struct queue *q = add("mail");
    ck_assert_ptr_nonnull(dassie__queue_prepare(&qs, q, 0));
    return dassie__queue_line(q, 0, LINE_NORMAL);
}

static void line_is(const struct line *line, uint64_t start, uint64_t cursor,
                    uint64_t tail)
{
    ck_assert_uint_eq(line->row.start, start);
    ck_assert_uint_eq(line->row.cursor, cursor);
    ck_assert_uint_eq(line->row.tail, tail);
}

START_TEST(line_life)
{
    struct line *line = line_make();
    job_t *a = job_make(5);
    job_t *b = job_make(9);
    ck_assert(dassie__line_append(line, a, 5, true));
    ck_assert_uint_eq(line->queue->touched[LINE_NORMAL], priority_bit(0));
    line_is(line, 5, 5, 5);
    ck_assert(dassie__line_append(line, b, 9, true));
    line_is(line, 5, 5, 9);
    ck_assert_uint_eq(line->row.live, 2);
    ck_assert_uint_eq(line->window.n, 2);
    ck_assert_uint_eq(line->window_bytes,
                      dassie__job_bytes(a) + dassie__job_bytes(b));
    ck_assert_uint_eq(b->position, 9);
    ck_assert_uint_eq(b->kind, LINE_NORMAL);

    ck_assert_ptr_eq(dassie__line_claim(line), a);
    line_is(line, 5, 6, 9);
    ck_assert_ptr_eq(dassie__line_claim(line), b);
    line_is(line, 5, 10, 9);
    ck_assert_uint_eq(line->row.live, 0);
    ck_assert_uint_eq(line->row.dead, 2);
    ck_assert_uint_eq(line->window_bytes, 0);

    /* Dead rows stay behind until they are deleted: start is theirs. */
    ck_assert(dassie__line_append(line, a, 20, true));
    line_is(line, 5, 20, 20);
    ck_assert_ptr_eq(dassie__line_claim(line), a);
    line->row.dead = 0;
    ck_assert(dassie__line_append(line, a, 30, true));
    line_is(line, 30, 30, 30);
    dassie__job_free(b);
}
END_TEST

/* A window that lacks one live row gets no later one, or it would be skipped.
 */
START_TEST(window_is_a_prefix)
{
    struct line *line = line_make();
    job_t *jobs[4];
    for (uint64_t i = 0; i < 4; i++) {
        jobs[i] = job_make(i + 1);
    }
    ck_assert(dassie__line_append(line, jobs[0], 1, true));
    ck_assert(!dassie__line_append(line, jobs[1], 2, false));
    ck_assert(!dassie__line_append(line, jobs[2], 3, true));
    ck_assert_uint_eq(line->row.live, 3);
    ck_assert_uint_eq(line->window.n, 1);
    ck_assert_uint_eq(line->window_end, 1);

    ck_assert_ptr_eq(dassie__line_claim(line), jobs[0]);
    ck_assert(!dassie__line_append(line, jobs[3], 4, true));

    dassie__line_load(line, jobs[1]);
    dassie__line_load(line, jobs[2]);
    dassie__line_load(line, jobs[3]);
    ck_assert_uint_eq(line->window_end, 4);
    ck_assert_uint_eq(line->row.live, 3);
    ck_assert(dassie__line_append(line, jobs[0], 5, true));
    for (int i = 1; i <= 4; i++) {
        ck_assert_ptr_eq(dassie__line_claim(line), jobs[i % 4]);
        dassie__job_free(jobs[i % 4]);
    }
}
END_TEST

START_TEST(window_evicted)
{
    struct line *line = line_make();
    struct job_list out = {0};
    for (uint64_t i = 1; i <= 3; i++) {
        ck_assert(dassie__line_append(line, job_make(i), i, true));
    }
    dassie__job_free(dassie__line_claim(line));
    dassie__line_evict(line, &out);
    ck_assert_uint_eq(out.n, 2);
    ck_assert_uint_eq(line->window.n, 0);
    ck_assert_uint_eq(line->window_bytes, 0);
    ck_assert_uint_eq(line->window_end, 1);
    ck_assert_uint_eq(line->row.live, 2);
    dassie__job_list_free(&out);
}
END_TEST

/* ---- Counts ---- */

static unsigned list_len(struct queue *q, bool changed)
{
    unsigned n = 0;
    for (; q != NULL; q = changed ? q->changed_next : q->unfolded_next) {
        n++;
    }
    return n;
}

START_TEST(touched_once)
{
    struct queue *a = add("a");
    struct queue *b = add("b");
    add("c");
    for (int i = 0; i < 3; i++) {
        dassie__queue_touch(&qs, a);
        dassie__queue_touch(&qs, b);
    }
    ck_assert_uint_eq(qs.changed_n, 2);
    ck_assert_uint_eq(list_len(qs.changed, true), 2);
    ck_assert_uint_eq(list_len(qs.unfolded, false), 2);
    ck_assert(a->changed);
    ck_assert(b->unfolded);
}
END_TEST

START_TEST(counted)
{
    static const int states[] = {DASSIE_PENDING, DASSIE_SCHEDULED,
                                 DASSIE_RUNNING, DASSIE_COMPLETE,
                                 DASSIE_FAILED,  DASSIE_CANCELLED};
    struct queue *a = add("a");
    struct queue *b = add("b");
    for (int i = 0; i < 6; i++) {
        dassie__queue_count(&qs, a, states[i], i + 2);
        dassie__queue_count(&qs, a, states[i], -1);
        dassie__queue_count(&qs, b, states[i], 10);
    }
    for (int i = 0; i < 6; i == 0 ? i = 3 : i++) {
        dassie__queue_count_bytes(&qs, a, states[i], 100 + i);
        dassie__queue_count_bytes(&qs, b, states[i], 10);
        dassie__queue_count_bytes(&qs, b, states[i], -3);
    }
    const struct tally expected_a = {1, 2, 3, 4, 5, 6, 100, 103, 104, 105};
    const struct tally expected = {11, 12, 13, 14, 15, 16, 107, 110, 111, 112};
    ck_assert_mem_eq(&a->tally, &expected_a, sizeof expected_a);
    ck_assert_mem_eq(&qs.tally, &expected, sizeof expected);
}
END_TEST

static Suite *queue_suite(void)
{
    Suite *suite = suite_create("queue");
    TCase *tc = tcase_create("queue");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, names);
    tcase_add_test(tc, queues_max);
    tcase_add_test(tc, dropped);
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, lines_in_order);
    tcase_add_test(tc, first_line);
    tcase_add_test(tc, line_life);
    tcase_add_test(tc, window_is_a_prefix);
    tcase_add_test(tc, window_evicted);
    tcase_add_test(tc, touched_once);
    tcase_add_test(tc, counted);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(queue_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
