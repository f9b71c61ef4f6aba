/* Unique keys: who holds one, until when, and what becomes of a second job that
 * wants it; step by step on a clock of the test's own, in both databases. After
 * each commit the rows are verified. */
#include "config.h"

#include "../lib/admit.h"
#include "../lib/change.h"
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

struct keyed {
    const char *key; /* "k" if it is NULL */
    dassie_until_t until;
    uint64_t ms; /* with DASSIE_UNTIL_TIME */
    dassie_conflict_t on_conflict;
    uint64_t delay_ms;
    uint8_t flags;
};

/* As dassie_enqueue() makes it, of queue "q". */
static job_t *job_keyed(const struct keyed *k)
{
    const char *key = k->key != NULL ? k->key : "k";
    struct job_row row = {.flags = k->flags,
                          .enqueued_ms = core->wall_ms,
                          .data = (const uint8_t *)"data",
                          .data_len = 4};
    row.options.number[JOB_DUE] =
        k->delay_ms > 0 ? core->wall_ms + k->delay_ms : 0;
    row.options.number[JOB_UNIQUE] = k->until;
    row.options.number[JOB_UNIQUE_FOR] = k->ms;
    row.options.key = (const uint8_t *)key;
    row.options.key_len = strlen(key);
    job_t *job = cr_job_of("q", &row);
    job->unique = dassie__unique_new(&row);
    ck_assert_ptr_nonnull(job->unique);
    job->unique->on_conflict = (uint8_t)k->on_conflict;
    return job;
}

/* What an enqueue came to: the id, and whether it is a new one; 0: it has to
 * wait. */
static struct {
    uint64_t id;
    bool is_new;
} got;

static void put_in(struct keyed k, struct admitted *batch)
{
    struct job_list one = {0};
    struct admit admit = {.batch = batch, .ids = &got.id};
    got.id = 0;
    job_list_push(&one, job_keyed(&k));
    int rc = dassie__admit(core, &one, &admit);
    ck_assert(rc == 0 || (rc == ADMIT_LATER && one.n == 1 && batch == NULL));
    got.is_new = rc == 0 && admit.new_n == 1;
    dassie__job_list_free(&one);
}

/* Among other things. */
static void put(struct keyed k)
{
    put_in(k, NULL);
}

/* At the begin of a batch, which it must be. */
static void put_first(struct keyed k)
{
    struct admitted batch = {.from = core->store.next};
    put_in(k, &batch);
    ck_assert_uint_ne(got.id, 0);
}

static uint64_t put_new(struct keyed k)
{
    put(k);
    ck_assert(got.id != 0 && got.is_new);
    return got.id;
}

static void meets(struct keyed k, uint64_t id)
{
    put(k);
    ck_assert_uint_eq(got.id, id);
    ck_assert(!got.is_new);
}

/* The two ways to ask. */
#define KEY(...)    \
    (struct keyed)  \
    {               \
        __VA_ARGS__ \
    }
#define PLAIN KEY(.until = DASSIE_UNTIL_ENDED)
#define STARTED KEY(.until = DASSIE_UNTIL_STARTED)
#define TIMED KEY(.until = DASSIE_UNTIL_TIME, .ms = 5000)
#define REPLACE KEY(.on_conflict = DASSIE_CONFLICT_REPLACE)
#define MOVE(in) KEY(.on_conflict = DASSIE_CONFLICT_MOVE, .delay_ms = (in))

/* Rows of keys, and timers. */
static void holds(size_t keys, uint64_t timers)
{
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_UNIQUE), keys);
    ck_assert_uint_eq(core->store.schedule.live,
                      timers + core->store.queues.tally.scheduled);
}

/* Runs the next job of p, which is this one, and ends it so. */
static void run(struct dassie__processor *p, uint64_t id, int status)
{
    cr_step();
    cr_end(cr_starts(p, id), status);
    cr_commit();
}

/* ---- Until when ---- */

START_TEST(held_until_ended)
{
    uint64_t id = put_new(PLAIN);
    meets(PLAIN, id); /* in the same batch */
    cr_commit();
    holds(1, 0);
    meets(PLAIN, id);
    ck_assert_uint_ne(put_new(KEY(.key = "other")), id);
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    cr_step();
    meets(PLAIN, id);
    cr_end(cr_starts(p, id), 0);
    uint64_t next = put_new(PLAIN); /* in the batch of its end */
    meets(PLAIN, next);
    cr_commit();
    holds(2, 0);
    meets(PLAIN, next);
}
END_TEST

START_TEST(held_over_retries)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    core->options.attempts_max = 3;
    uint64_t id = put_new(PLAIN);
    cr_step();
    cr_end(cr_starts(p, id), UV_EIO);
    meets(PLAIN, id);
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 1, 0, UV_EIO);
    cr_pass(10000);
    cr_turn();
    cr_turn();
    job_t *job = cr_starts(p, id);
    job->verdict = VERDICT_NO_RETRY;
    cr_end(job, UV_EIO);
    put_new(PLAIN);
    cr_commit();
    holds(1, 0);
}
END_TEST

START_TEST(held_until_started)
{
    uint64_t id = put_new(STARTED);
    cr_commit();
    meets(STARTED, id);
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    dassie__core_dispatch(core);
    uint64_t next = put_new(STARTED); /* in the batch of the claim */
    cr_commit();
    holds(1, 0);
    core->options.attempts_max = 3;
    cr_end(cr_starts(p, id), UV_EIO); /* comes back, and leaves it alone */
    cr_commit();
    meets(STARTED, next);
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    holds(1, 0);
    meets(STARTED, next);
    run(p, next, 0);
    holds(0, 0);
}
END_TEST

/* One that is handed back does not take it again: it may be another one's. */
START_TEST(unclaim_takes_nothing)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t id = put_new(STARTED); /* handed off: never had it */
    holds(0, 0);
    cr_commit();
    uint64_t next = put_new(STARTED);
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    cr_commit();
    meets(STARTED, next);
    p->stopping = true;
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    meets(STARTED, next);
    holds(1, 0);
}
END_TEST

START_TEST(held_for_a_time)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t id = put_new(TIMED);
    run(p, id, 0);
    holds(1, 1);
    meets(TIMED, id);
    cr_pass(4999);
    cr_turn();
    meets(PLAIN, id); /* whatever the second one asks for */
    cr_pass(1);
    dassie__core_promote(core);
    uint64_t next = put_new(PLAIN); /* in the batch of its end */
    cr_commit();
    holds(1, 0);
    meets(PLAIN, next);
}
END_TEST

/* A timer that was not looked at yet does not keep it, and goes. */
START_TEST(time_over_before_the_timer)
{
    put_new(TIMED);
    cr_commit();
    cr_pass(5000);
    uint64_t next = put_new(TIMED);
    meets(TIMED, next);
    cr_commit();
    holds(1, 1);
    cr_turn();
    meets(TIMED, next);
    cr_pass(5000);
    cr_turn();
    holds(0, 0);
    ck_assert_uint_eq(core->store.schedule.live, 0);
}
END_TEST

/* A job and its key's timer may be due at the same time: neither is lost. */
START_TEST(due_with_its_timer)
{
    for (int i = 0; i < 3; i++) {
        struct keyed k = TIMED;
        k.delay_ms = 5000;
        k.key = i == 0 ? "a" : i == 1 ? "b" : "c";
        put_new(k);
    }
    cr_commit();
    holds(3, 3);
    cr_pass(5000);
    for (int rows = 1; rows <= 6; rows++) {
        unsigned n;
        CR_OK(dassie__schedule_promote(&core->store, core->wall_ms, 1, &n,
                                       &rig.base.e));
        ck_assert_uint_eq(n, rows % 2);
        cr_commit();
    }
    holds(0, 0);
    cr_tally(3, 0, 0, 0);
}
END_TEST

/* ---- Operators ---- */

START_TEST(cancelled_and_deleted)
{
    uint64_t id = put_new(PLAIN);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    holds(0, 0);
    id = put_new(STARTED);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    holds(0, 0);
    id = put_new(TIMED);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    holds(1, 1); /* for the time, whatever becomes of it, */
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    holds(0, 0); /* unless it is deleted */
    put_new(TIMED);
}
END_TEST

/* A retry takes the key again, or is refused. */
static void retried(struct keyed k)
{
    uint64_t id = put_new(k);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    uint64_t other = put_new(k);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), UV_EEXIST);
    cr_is(id, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, other), 0);
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), 0);
    cr_is(id, DASSIE_PENDING, 0, 0, UV_ECANCELED);
    meets(k, id);
    ck_assert_int_eq(cr_change(DASSIE_RETRY, other), UV_EEXIST);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, id), 0);
    holds(0, 0);
}

START_TEST(retry_takes_it_again)
{
    retried(PLAIN);
    retried(STARTED);
    uint64_t id = put_new(TIMED);
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), 0); /* it never let go */
    meets(TIMED, id);
    cr_pass(5000);
    cr_turn();
    holds(0, 0);
    ck_assert_int_eq(cr_change(DASSIE_CANCEL, id), 0);
    ck_assert_int_eq(cr_change(DASSIE_RETRY, id), 0); /* and its time is over */
    holds(0, 0);
}
END_TEST

/* Of two failed ones that had it one after the other, the first gets it. */
START_TEST(retry_many)
{
    uint64_t ids[2];
    for (int i = 0; i < 2; i++) {
        ids[i] = put_new(PLAIN);
        cr_commit();
        ck_assert_int_eq(cr_change(DASSIE_CANCEL, ids[i]), 0);
    }
    struct change *c = dassie__calloc(1, sizeof *c);
    struct changed touched = {.n = 0};
    c->action = DASSIE_RETRY;
    c->states = UINT32_MAX;
    c->ids = dassie__memdup(ids, sizeof ids);
    c->ids_n = 2;
    ck_assert(dassie__change_step(core, c, &touched));
    ck_assert_int_eq(c->status, 0);
    ck_assert_uint_eq(c->changed, 1);
    dassie__change_free(c);
    cr_commit();
    cr_is(ids[0], DASSIE_PENDING, 0, 0, UV_ECANCELED);
    cr_is(ids[1], DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
}
END_TEST

/* ---- Replace ---- */

static void replaced(struct keyed k)
{
    uint64_t id = put_new(k);
    cr_commit();
    k.on_conflict = DASSIE_CONFLICT_REPLACE;
    put(k); /* among other things it has to wait */
    ck_assert_uint_eq(got.id, 0);
    put_first(k);
    uint64_t next = got.id;
    ck_assert(next > id && got.is_new);
    cr_commit();
    cr_is(id, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    cr_is(next, k.delay_ms > 0 ? DASSIE_SCHEDULED : DASSIE_PENDING, 0, 0, 0);
    meets(PLAIN, next);
    holds(1, k.until == DASSIE_UNTIL_TIME);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, next), 0);
    holds(0, 0);
}

START_TEST(replace)
{
    replaced(PLAIN);
    replaced(STARTED);
    replaced(TIMED);
    replaced(KEY(.delay_ms = 1000));
    cr_processor("q", 1, CR_ASYNC)->stopping = true; /* a window has it */
    replaced(PLAIN);
}
END_TEST

/* Twice in one batch: the second waits for the next. */
START_TEST(replace_twice)
{
    struct admitted batch = {.from = core->store.next};
    uint64_t id = put_new(PLAIN);
    cr_commit();
    batch.from = core->store.next;
    put_in(REPLACE, &batch);
    uint64_t second = got.id;
    struct job_list one = {0};
    struct admit admit = {.batch = &batch};
    struct keyed again = REPLACE;
    job_list_push(&one, job_keyed(&again));
    ck_assert_int_eq(dassie__admit(core, &one, &admit), ADMIT_LATER);
    cr_commit();
    batch = (struct admitted){.from = core->store.next};
    CR_OK(dassie__admit(core, &one, &admit));
    cr_commit();
    cr_is(id, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    cr_is(second, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    cr_is(admit.first_id, DASSIE_PENDING, 0, 0, 0);
    holds(1, 0);
}
END_TEST

/* One that runs stays, and so does one that has ended. */
START_TEST(replace_what_does_not_wait)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t id = put_new(TIMED);
    cr_step();
    put_first(REPLACE);
    ck_assert(got.id == id && !got.is_new);
    put_first(MOVE(1000));
    ck_assert(got.id == id && !got.is_new);
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    put_first(REPLACE);
    ck_assert(got.id == id && !got.is_new);
    put_first(MOVE(0));
    ck_assert(got.id == id && !got.is_new);
    cr_commit();
    cr_is(id, DASSIE_COMPLETE, 1, 0, 0);
    core->store.sweep.over = true; /* nor one that is not kept any more */
    cr_pass(1);
    struct settings_row none = {.number = {0}};
    none.number[SETTING_KEEP_COMPLETE + 1] = DASSIE_KEEP_NONE;
    dassie__store_settings(&core->store, core->store.queues.by_id[0], &none);
    cr_commit();
    dassie__core_sweep(core);
    cr_commit();
    ck_assert_uint_eq(core->store.queues.tally.complete, 0);
    put_first(REPLACE);
    ck_assert(got.id == id && !got.is_new);
    holds(1, 1);
    cr_pass(5000);
    cr_turn();
    holds(0, 0);
}
END_TEST

/* ---- Move ---- */

START_TEST(move)
{
    uint64_t id = put_new(PLAIN);
    cr_commit();
    put_first(MOVE(0)); /* it is pending: nothing to do */
    ck_assert(got.id == id && !got.is_new);
    cr_commit();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    put_first(MOVE(1000));
    ck_assert(got.id == id && !got.is_new);
    cr_commit();
    cr_is(id, DASSIE_SCHEDULED, 0, 0, 0);
    cr_pass(999);
    put_first(MOVE(500)); /* later */
    cr_commit();
    cr_pass(499);
    cr_turn();
    cr_is(id, DASSIE_SCHEDULED, 0, 0, 0);
    put_first(MOVE(100000));
    cr_commit();
    put_first(MOVE(10)); /* sooner */
    cr_commit();
    cr_pass(10);
    cr_turn();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    put_first(MOVE(1000));
    cr_commit();
    put_first(MOVE(0)); /* now */
    cr_commit();
    cr_is(id, DASSIE_PENDING, 0, 0, 0);
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    run(p, id, 0);
    holds(0, 0);
    cr_tally(0, 0, 1, 0);
}
END_TEST

/* ---- Batches ---- */

static void many(const struct keyed *k, size_t n, struct admitted *batch,
                 struct admit *admit, uint64_t *ids)
{
    struct job_list list = {0};
    for (size_t i = 0; i < n; i++) {
        job_list_push(&list, k[i].key[0] != '\0' ? job_keyed(&k[i])
                                                 : cr_job("q", 0, 0, 7));
    }
    *admit = (struct admit){.batch = batch, .ids = ids};
    CR_OK(dassie__admit(core, &list, admit));
    cr_commit();
}

START_TEST(batches)
{
    struct keyed k[] = {{.key = "a"},
                        {.key = ""}, /* none */
                        {.key = "k", .on_conflict = DASSIE_CONFLICT_REPLACE},
                        {.key = "a"},
                        {.key = "b", .on_conflict = DASSIE_CONFLICT_MOVE},
                        {.key = "c"},
                        {.key = "c", .on_conflict = DASSIE_CONFLICT_REPLACE}};
    struct admitted batch = {.n = 0};
    struct admit admit;
    uint64_t ids[7];
    uint64_t old = put_new(PLAIN);
    uint64_t moved = put_new(KEY(.key = "b", .delay_ms = 5000));
    cr_commit();
    batch.from = core->store.next;
    many(k, 7, &batch, &admit, ids);
    ck_assert_uint_eq(admit.new_n, 4);
    uint64_t first = admit.first_id;
    uint64_t expected[] = {first, first + 1, first + 2, first,
                           moved, first + 3, first + 3};
    ck_assert_mem_eq(ids, expected, sizeof ids);
    ck_assert_uint_eq(core->store.next, first + 4);
    cr_is(old, DASSIE_CANCELLED, 0, 0, UV_ECANCELED);
    cr_is(moved, DASSIE_PENDING, 0, 0, 0);
    holds(4, 0);
    many(k, 2, NULL, &admit,
         NULL); /* nothing but a conflict, and a plain one */
    ck_assert_uint_eq(admit.new_n, 1);
    many(k, 1, NULL, &admit, ids);
    ck_assert(admit.new_n == 0 && admit.first_id == 0 && ids[0] == first);
}
END_TEST

/* So many that the overlay grows, twice each. */
START_TEST(large_batch)
{
    enum { KEYS = 3000 };
    static char text[KEYS][8];
    struct job_list list = {0};
    uint64_t *ids = calloc(2 * KEYS, sizeof ids[0]);
    struct admit admit = {.ids = ids};
    for (int i = 0; i < 2 * KEYS; i++) {
        snprintf(text[i % KEYS], sizeof text[0], "%d", i % KEYS);
        struct keyed k = {.key = text[i % KEYS]};
        job_list_push(&list, job_keyed(&k));
    }
    CR_OK(dassie__admit(core, &list, &admit));
    ck_assert_uint_eq(admit.new_n, KEYS);
    for (int i = 0; i < KEYS; i++) {
        ck_assert_uint_eq(ids[i], admit.first_id + (unsigned)i);
        ck_assert_uint_eq(ids[KEYS + i], ids[i]);
        struct keyed k = {.key = text[i]};
        meets(k, ids[i]);
    }
    cr_commit();
    holds(KEYS, 0);
    free(ids);
}
END_TEST

/* ---- Failures ---- */

/* Whichever allocation fails, nothing has changed. */
START_TEST(no_memory)
{
    struct keyed k[] = {
        {.key = "new"},
        {.key = "old", .on_conflict = DASSIE_CONFLICT_REPLACE},
        {.key = "moved", .on_conflict = DASSIE_CONFLICT_MOVE, .delay_ms = 9}};
    put_new(KEY(.key = "old"));
    put_new(KEY(.key = "moved"));
    cr_commit();
    int rc = UV_ENOMEM;
    for (unsigned n = 1; rc != 0; n++) {
        struct admitted batch = {.from = core->store.next};
        struct admit admit = {.batch = &batch};
        struct job_list list = {0};
        for (int i = 0; i < 3; i++) {
            job_list_push(&list, job_keyed(&k[i]));
        }
        cr_mem_fail(n);
        rc = dassie__admit(core, &list, &admit);
        bool failed = cr_mem_failed();
        ck_assert_int_eq(rc, failed && admit.new_n == 0 ? UV_ENOMEM : 0);
        ck_assert_uint_eq(list.n, rc == 0 ? 0 : 3);
        dassie__job_list_free(&list);
        cr_commit();
        ck_assert_uint_eq(core->store.queues.tally.cancelled, rc == 0);
        holds(rc == 0 ? 3 : 2, 0);
    }
}
END_TEST

/* A row that nobody wrote, or a read that fails, is told, and nothing else. */
START_TEST(damaged_row)
{
    static const uint8_t key[] = {0, 0, 0, 0, 'k'};
    struct kv *kv = rig.base.kv;
    struct job_list one = {0};
    struct admit admit = {.ids = NULL};
    struct keyed k = PLAIN;
    put_new(KEY(.key = "other"));
    cr_commit();
    kv->ops->put(kv, FAMILY_UNIQUE, kv_slice(key, sizeof key),
                 kv_slice("?", 1));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    job_list_push(&one, job_keyed(&k));
    ck_assert_int_eq(dassie__admit(core, &one, &admit), DASSIE_ECORRUPT);
    ck_assert_uint_eq(one.n, 1);
    dassie__job_list_free(&one);
    kv->ops->del(kv, FAMILY_UNIQUE, kv_slice(key, sizeof key));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    put_new(PLAIN);
    cr_commit();
}
END_TEST

/* ---- What it costs ---- */

START_TEST(rows)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t n[2];
    for (int keyed = 0; keyed < 2; keyed++) {
        cr_put("q"); /* the queue is busy */
        uint64_t first = core->store.next - 1;
        cr_step();
        n[keyed] = rig.base.kv->rows;
        uint64_t id = keyed ? put_new(PLAIN) : cr_put("q");
        cr_commit();
        cr_end(cr_starts(p, first), 0);
        cr_commit();
        run(p, id, 0);
        n[keyed] = rig.base.kv->rows - n[keyed];
    }
    ck_assert_uint_eq(n[1], n[0] + 2); /* one put, one deleted */
}
END_TEST

/* ---- Other processes ---- */

START_TEST(survives_a_kill)
{
    static const uint8_t once = DASSIE_AT_MOST_ONCE;
    struct dassie__processor *p = cr_processor("q", 9, CR_ASYNC);
    uint64_t runs = put_new(PLAIN);
    uint64_t started = put_new(KEY(.key = "s", .until = DASSIE_UNTIL_STARTED));
    uint64_t breaks = put_new(KEY(.key = "o", .flags = once));
    uint64_t waits = put_new(KEY(.key = "w", .delay_ms = 100000));
    uint64_t timed =
        put_new(KEY(.key = "t", .until = DASSIE_UNTIL_TIME, .ms = 100000));
    cr_commit();
    job_t *job;
    while ((job = cr_start(p)) != NULL) {
    }
    cr_rise();
    cr_is(runs, DASSIE_PENDING, 1, 0, 0);
    cr_is(started, DASSIE_PENDING, 1, 0, 0);
    cr_is(breaks, DASSIE_FAILED, 1, 0, DASSIE_EINTERRUPTED);
    meets(PLAIN, runs);
    meets(KEY(.key = "w"), waits);
    meets(KEY(.key = "t"), timed);
    put_new(KEY(.key = "s"));
    put_new(KEY(.key = "o"));
    cr_commit();
    ck_assert_int_eq(cr_change(DASSIE_DELETE, started), 0);
    cr_rise();
    ck_assert_int_eq(cr_change(DASSIE_DELETE, runs), 0);
    ck_assert_int_eq(cr_change(DASSIE_DELETE, timed), 0);
    holds(3, 0);
    put_new(PLAIN);
    put_new(KEY(.key = "t"));
    cr_commit();
}
END_TEST

/* What was not committed is as if it had not been. */
START_TEST(kill_before_the_commit)
{
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    uint64_t id = put_new(PLAIN);
    cr_step();
    cr_end(cr_starts(p, id), 0);
    put_new(PLAIN);
    cr_rise();
    meets(PLAIN, id);
    put_first(MOVE(1000)); /* a suspect may be moved, too */
    cr_rise();
    cr_is(id, DASSIE_PENDING, 1, 0, 0);
    put_first(MOVE(1000));
    cr_commit();
    cr_rise();
    cr_is(id, DASSIE_SCHEDULED, 1, 0, 0);
    meets(PLAIN, id);
}
END_TEST

/* What is loaded from disk lets go of its key, too. */
START_TEST(refilled)
{
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        put_new(KEY(.key = key, .until = (dassie_until_t)(i % 2)));
    }
    cr_commit();
    cr_rise();
    struct dassie__processor *p = cr_processor("q", 1, CR_ASYNC);
    for (uint64_t id = 1; id <= 20; id++) {
        run(p, id, 0);
    }
    holds(0, 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, held_until_ended);
    tcase_add_test(tc, held_over_retries);
    tcase_add_test(tc, held_until_started);
    tcase_add_test(tc, unclaim_takes_nothing);
    tcase_add_test(tc, held_for_a_time);
    tcase_add_test(tc, time_over_before_the_timer);
    tcase_add_test(tc, due_with_its_timer);
    tcase_add_test(tc, cancelled_and_deleted);
    tcase_add_test(tc, retry_takes_it_again);
    tcase_add_test(tc, retry_many);
    tcase_add_test(tc, replace);
    tcase_add_test(tc, replace_twice);
    tcase_add_test(tc, replace_what_does_not_wait);
    tcase_add_test(tc, move);
    tcase_add_test(tc, batches);
    tcase_add_test(tc, large_batch);
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, damaged_row);
    tcase_add_test(tc, rows);
    tcase_add_test(tc, survives_a_kill);
    tcase_add_test(tc, kill_before_the_commit);
    tcase_add_test(tc, refilled);
}

int main(void)
{
    Suite *suite = suite_create("unique");
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
