/* The core step by step, on a clock that tests set: what is taken and what is
 * refused, who is handed a job and who has to wait, how far ahead is claimed,
 * what goes back, and when a slot of the recorder is free again. Recovery is
 * test_recovery.c's. */
#include "config.h"

#include "../lib/admit.h"
#include "core_rig.h"

#define AMO DASSIE_AT_MOST_ONCE

static void teardown(void)
{
    cr_teardown();
}

/* All that a refusal must leave as it was. Queues may come into being. */
struct snap {
    struct core_stats stats;
    struct tally tally;
    uint64_t next;
    uint64_t window_bytes;
    uint32_t claimed_n;
    uint32_t free_n;
    uint32_t released_n;
    uint32_t gone_n;
};

static struct snap snap(void)
{
    const struct store *s = &core->store;
    struct snap now;
    memset(&now, 0, sizeof now);
    now.stats = core->stats;
    now.tally = s->queues.tally;
    now.next = s->next;
    now.window_bytes = s->window_bytes;
    now.claimed_n = core->claimed_n;
    now.free_n = rig.recorder.free_n;
    now.released_n = core->released_n;
    now.gone_n = (uint32_t)core->gone.n;
    return now;
}

static void is_refused(job_t *job, int error)
{
    struct snap before = snap();
    ck_assert_int_eq(dassie__core_enqueue(core, job), error);
    struct snap after = snap();
    ck_assert_mem_eq(&after, &before, sizeof before);
    dassie__job_free(job);
}

/* Nothing of a batch is in, and all of it is the caller's. */
static void all_refused(struct job_list *jobs, int error)
{
    struct snap before = snap();
    struct admit admit = {.first_id = 99};
    size_t n = jobs->n;
    ck_assert_int_eq(dassie__admit(core, jobs, &admit), error);
    struct snap after = snap();
    ck_assert_mem_eq(&after, &before, sizeof before);
    ck_assert_uint_eq(admit.first_id, 99);
    ck_assert_uint_eq(jobs->n, n);
    dassie__job_list_free(jobs);
}

/* Puts n jobs into a queue. */
static void put_n(const char *queue, uint64_t n)
{
    while (n-- > 0) {
        cr_put(queue);
    }
}

/* ---- Enqueue ---- */

/* Below the free-space floor nothing new is taken; what is there goes on. */
START_TEST(refuses_for_space)
{
    struct job_list jobs = {0};
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    uint64_t a = cr_put("mail");
    uint64_t b = cr_put("mail");
    cr_step();
    core->refuse = UV_ENOSPC;
    is_refused(cr_job("mail", 0, 0, 7), UV_ENOSPC);
    is_refused(cr_job("new", 3, AMO, 0), UV_ENOSPC);
    job_list_push(&jobs, cr_job("mail", 0, 0, 7));
    job_list_push(&jobs, cr_job("new", 0, 0, 7));
    all_refused(&jobs, UV_ENOSPC);
    ck_assert(!core->store.changed);
    ck_assert_uint_eq(core->store.queues.n, 1);
    cr_end(cr_starts(p, a), 0);
    cr_step();
    cr_end(cr_starts(p, b), -1);
    cr_step();
    cr_tally(0, 0, 1, 1);
    core->refuse = 0;
    ck_assert_uint_eq(cr_put("new"), b + 1);
    cr_step();
    cr_tally(1, 0, 1, 1);
}
END_TEST

/* With as many queues as there may be, a new one is refused, and so is a batch
 * that has it anywhere. */
START_TEST(refuses_queues)
{
    char name[16];
    struct job_list jobs = {0};
    cr_setup(RIG_MEM);
    for (int i = 0; i < DASSIE_QUEUES_MAX - 1; i++) {
        snprintf(name, sizeof name, "q%d", i);
        cr_put(name);
    }
    cr_commit();
    job_list_push(&jobs, cr_job("last", 0, 0, 7));
    job_list_push(&jobs, cr_job("new", 0, 0, 7));
    all_refused(&jobs, UV_ENOBUFS);
    ck_assert(!store_changed(&core->store)); /* no queue is left, no commit */
    cr_put("last");
    cr_commit();
    is_refused(cr_job("new", 0, 0, 7), UV_ENOBUFS);
    job_list_push(&jobs, cr_job("q0", 0, 0, 7));
    job_list_push(&jobs, cr_job("new", 0, 0, 7));
    job_list_push(&jobs, cr_job("q1", 0, 0, 7));
    all_refused(&jobs, UV_ENOBUFS);
    cr_put("q0");
    cr_commit();
    cr_tally(DASSIE_QUEUES_MAX + 1, 0, 0, 0);
}
END_TEST

/* A batch has consecutive ids, whatever becomes of its jobs. */
START_TEST(many_is_a_block)
{
    static const struct {
        const char *queue;
        int8_t priority;
    } jobs[] = {{"mail", 0}, {"web", 0},  {"mail", 9},
                {"mail", 0}, {"web", -3}, {"mail", -9}};
    struct job_list list = {0};
    struct admit admit = {.ids = NULL};
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    cr_put("other");
    for (int i = 0; i < 6; i++) {
        job_list_push(&list, cr_job(jobs[i].queue, jobs[i].priority, 0, 7));
    }
    CR_OK(dassie__admit(core, &list, &admit));
    ck_assert_uint_eq(admit.first_id, 2);
    ck_assert_uint_eq(admit.new_n, 6);
    ck_assert_uint_eq(list.n, 0);
    ck_assert_uint_eq(core->store.next, 8);
    ck_assert_str_eq(cr_ids(&p->starting), "2 4");
    ck_assert_uint_eq(core->stats.handed_off, 2);
    ck_assert_uint_eq(core->stats.enqueued, 7);
    cr_step();
    cr_tally(5, 2, 0, 0);
    cr_end(cr_starts(p, 2), 0);
    cr_end(cr_starts(p, 4), 0);
    cr_step();
    cr_end(cr_starts(p, 7), 0);
    cr_end(cr_starts(p, 5), 0);
    cr_step();
    cr_tally(3, 0, 4, 0);
}
END_TEST

/* ---- Hand-off ---- */

static void is_idle(void)
{
    cr_processor("mail", 1, CR_ASYNC);
}

static void has_one_before(void)
{
    cr_put("mail");
    cr_processor("mail", 2, CR_ASYNC);
}

static void has_one_in_an_earlier_queue(void)
{
    cr_put("web");
    cr_processor("web mail", 2, CR_ASYNC);
}

static void has_one_in_a_later_queue(void)
{
    cr_put("web");
    cr_processor("mail web", 2, CR_ASYNC);
}

static void is_busy(void)
{
    cr_processor("mail", 1, CR_ASYNC);
    put_n("mail", 1);
}

static void has_idle_neighbour(void)
{
    cr_processor("web mail", 1, CR_ASYNC);
    is_busy();
}

static void is_ahead(void)
{
    cr_processor("mail", 1, CR_MS);
    put_n("mail", 1);
}

static void is_stopping(void)
{
    dassie__core_processor_stop(core, cr_processor("mail", 1, CR_ASYNC));
}

static void serves_another(void)
{
    cr_processor("web", 1, CR_ASYNC);
}

static void is_removed(void)
{
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    dassie__core_processor_stop(core, p);
    dassie__core_processor_remove(core, p);
}

static void is_closing(void)
{
    is_idle();
    dassie__core_stop(core);
}

static const struct {
    void (*prepare)(void);
    uint8_t flags;
    bool handed_off;
} hand_offs[] = {
    {is_idle, 0, true},
    {is_idle, AMO, true},
    {has_one_before, 0, false},
    {has_one_in_an_earlier_queue, 0, false},
    {has_one_in_a_later_queue, 0, true},
    {is_busy, 0, false},
    {has_idle_neighbour, 0, true},
    {has_idle_neighbour, AMO, true},
    {is_ahead, 0, true},
    {is_ahead, AMO, false},
    {is_stopping, 0, false},
    {serves_another, 0, false},
    {is_removed, 0, false},
    {is_closing, 0, false},
};

/* An idle processor is handed the job without a pending row; else it waits. */
START_TEST(hands_off)
{
    cr_setup(RIG_MEM);
    hand_offs[_i].prepare();
    cr_commit();
    struct snap was = snap();
    size_t rows = rig_rows(&rig.base, FAMILY_PENDING);
    unsigned handed_off = hand_offs[_i].handed_off;
    uint64_t id = cr_put_job(cr_job("mail", 0, hand_offs[_i].flags, 7));
    ck_assert_uint_eq(core->stats.handed_off - was.stats.handed_off,
                      handed_off);
    ck_assert_uint_eq(core->claimed_n - was.claimed_n, handed_off);
    cr_commit();
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_PENDING), rows + !handed_off);
    cr_is(id, handed_off ? DASSIE_RUNNING : DASSIE_PENDING, handed_off, 0, 0);
    cr_rise();
    ck_assert_uint_eq(cr_found(id).attempts, 0);
}
END_TEST

/* ---- Claims ---- */

static const struct {
    uint64_t run_ns;
    unsigned slots;
    unsigned claimed;
} paces[] = {
    {0, 2, 2}, /* nothing has run yet */
    {CR_MS, 1, 1 + 20},
    {CR_MS, 3, 3 + 60},
    {AHEAD_NS, 2, 2 + 2},
    {2 * (uint64_t)AHEAD_NS + 1, 2, 2}, /* as told of one that parks */
    {1000, 1, 1 + AHEAD_JOBS_MAX},
    {CR_ASYNC, 3, 3},
};

/* A work processor gets what it can do in AHEAD_NS beyond its slots, from the
 * line and by hand-off; an async one gets its slots. */
START_TEST(claims_ahead)
{
    unsigned claimed = paces[_i / 2].claimed;
    struct dassie__processor *p;
    cr_setup(RIG_MEM);
    if (_i % 2 == 0) {
        put_n("mail", claimed + 10);
        p = cr_processor("mail", paces[_i / 2].slots, paces[_i / 2].run_ns);
    } else {
        p = cr_processor("mail", paces[_i / 2].slots, paces[_i / 2].run_ns);
        put_n("mail", claimed + 10);
    }
    cr_step();
    cr_step();
    ck_assert_uint_eq(p->claimed, claimed);
    ck_assert_uint_eq(p->runq.n, claimed);
    cr_tally(10, claimed, 0, 0);
    cr_end(cr_starts(p, 1), 0);
    cr_step();
    ck_assert_uint_eq(p->claimed, claimed);
}
END_TEST

/* Large jobs: no more than AHEAD_BYTES_MAX of them stand ahead of the slots,
 * however often is claimed. */
START_TEST(claims_bytes_ahead)
{
    size_t bytes = 1 << 20;
    unsigned most = 1 + AHEAD_BYTES_MAX / (1 << 20);
    struct dassie__processor *p = NULL;
    cr_setup(RIG_MEM);
    core->store.window_max = 64 << 20;
    for (unsigned i = 0; i < 3 * most; i++) {
        if (i == 0 && _i == 1) {
            p = cr_processor("mail", 1, 1000);
        }
        cr_put_job(cr_job("mail", 0, 0, bytes));
    }
    if (_i == 0) {
        p = cr_processor("mail", 1, 1000);
    }
    cr_commit();
    for (int i = 0; i < 5; i++) {
        cr_step();
        ck_assert_uint_gt(p->claimed, 1);
        ck_assert_uint_le(p->claimed, most);
    }
    for (unsigned id = 1; id <= 3 * most; id++) {
        cr_end(cr_starts(p, id), 0);
        cr_step();
        ck_assert_uint_le(p->claimed, most);
    }
    cr_tally(0, 0, 3 * most, 0);
}
END_TEST

/* Queues in their order, then priorities, then the front before the rest. */
START_TEST(claims_in_order)
{
    static const struct {
        const char *queue;
        int8_t priority;
    } jobs[] = {{"b", -20}, {"a", 0}, {"a", 19}, {"a", -20}, {"a", 0}};
    static const uint64_t order[] = {4, 2, 5, 3, 1};
    cr_setup(_i);
    for (int i = 0; i < 5; i++) {
        cr_put_job(cr_job(jobs[i].queue, jobs[i].priority, 0, 7));
    }
    cr_commit();
    struct dassie__processor *p = cr_processor("a b", 1, CR_ASYNC);
    for (int i = 0; i < 5; i++) {
        for (int tries = 0; tries < 2; tries++) { /* back, and again */
            cr_step();
            ck_assert_uint_eq(p->claimed, 1);
            ck_assert_uint_eq(p->runq.head->id, order[i]);
            if (tries == 0) {
                dassie__core_unclaim(core, job_list_pop(&p->runq));
            }
        }
        cr_end(cr_starts(p, order[i]), 0);
    }
    cr_step();
    cr_tally(0, 0, 5, 0);
}
END_TEST

/* A slot that is free goes to the queue that is behind its share. */
START_TEST(claims_by_weight)
{
    static const unsigned weights[] = {3, 2, 1};
    unsigned n[3] = {0};
    cr_setup(_i);
    put_n("a", 40);
    put_n("b", 30);
    put_n("c", 20);
    cr_commit();
    struct dassie__processor *p = cr_processor_new("a b c", 1, CR_ASYNC);
    dassie__turns_free(&p->turns);
    CR_OK(dassie__turns_init(&p->turns, 3, weights));
    CR_OK(dassie__core_processor_add(core, p));
    for (unsigned i = 1; i <= 48; i++) {
        cr_step();
        job_t *job = cr_start(p);
        ck_assert_ptr_nonnull(job);
        n[job->queue->id]++;
        cr_end(job, 0);
    }
    ck_assert_uint_eq(n[0], 24);
    ck_assert_uint_eq(n[1], 16);
    ck_assert_uint_eq(n[2], 8);
}
END_TEST

/* Rows of the open batch cannot be read yet: with nobody to serve them when
 * they came, they are claimed right after the commit, and nobody spins. */
START_TEST(claims_after_the_commit)
{
    cr_setup(_i);
    put_n("mail", 2);
    struct dassie__processor *p = cr_processor("web mail", 3, CR_ASYNC);
    cr_step();
    ck_assert_uint_eq(p->claimed, 0);
    ck_assert_uint_eq(dassie__core_due(core), core->mono_ns);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "1 2");
    cr_step();
    ck_assert_uint_eq(dassie__core_due(core), UINT64_MAX);
}
END_TEST

/* Each processor has no more jobs than slots; a slot that is free again gets
 * the next job of its processor's queues. */
START_TEST(shares)
{
    cr_setup(RIG_MEM);
    put_n("mail", 6);
    put_n("web", 3);
    cr_commit();
    struct dassie__processor *a = cr_processor("mail", 2, CR_ASYNC);
    struct dassie__processor *b = cr_processor("web mail", 4, CR_ASYNC);
    struct dassie__processor *c = cr_processor("other", 5, CR_ASYNC);
    cr_step();
    ck_assert_str_eq(cr_ids(&a->runq), "1 2");
    ck_assert_str_eq(cr_ids(&b->runq), "7 8 9 3");
    ck_assert_uint_eq(c->claimed, 0);
    cr_end(cr_starts(b, 7), 0);
    cr_step();
    ck_assert_uint_eq(a->claimed, 2);
    ck_assert_str_eq(cr_ids(&b->runq), "8 9 3 4");
    cr_end(cr_starts(a, 1), 0);
    put_n("web", 1);
    cr_end(cr_starts(b, 8), 0);
    cr_step();
    ck_assert_str_eq(cr_ids(&a->runq), "2 5");
    ck_assert_str_eq(cr_ids(&b->runq), "9 3 4 10");
    cr_tally(1, 6, 3, 0);
}
END_TEST

/* It is claimed for a slot only; nothing of its line or of a later queue
 * overtakes it. */
START_TEST(at_most_once_is_not_ahead)
{
    cr_setup(_i);
    cr_put("mail");
    cr_put_job(cr_job("mail", 0, AMO, 7));
    cr_put("mail");
    cr_put("web");
    cr_commit();
    struct dassie__processor *p = cr_processor("mail web", 1, CR_MS);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "1");
    cr_end(cr_starts(p, 1), 0);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "2 3 4");
}
END_TEST

/* No more jobs are claimed than the recorder has slots, and a slot is free only
 * once its job's end is committed. */
START_TEST(claims_as_many_as_slots)
{
    struct dassie__processor *p = NULL;
    cr_setup(RIG_MEM);
    for (int i = 0; i < DASSIE_CLAIMED_MAX / DASSIE_CONCURRENCY_MAX; i++) {
        p = cr_processor("mail", DASSIE_CONCURRENCY_MAX, CR_ASYNC);
    }
    cr_processor("web mail", 10, CR_ASYNC);
    put_n("mail", DASSIE_CLAIMED_MAX + 3);
    put_n("web", 2);
    cr_step();
    ck_assert_uint_eq(core->claimed_n, DASSIE_CLAIMED_MAX);
    ck_assert_uint_eq(rig.recorder.free_n, 0);
    cr_tally(5, DASSIE_CLAIMED_MAX, 0, 0);
    cr_end(cr_start(p), 0);
    dassie__core_dispatch(core);
    put_n("web", 1);
    ck_assert_uint_eq(dassie__core_due(core), core->mono_ns);
    ck_assert_uint_eq(core->claimed_n, DASSIE_CLAIMED_MAX - 1);
    cr_commit();
    ck_assert_uint_eq(rig.recorder.free_n, 1);
    cr_step();
    ck_assert_uint_eq(core->claimed_n, DASSIE_CLAIMED_MAX);
    cr_tally(5, DASSIE_CLAIMED_MAX, 1, 0);
}
END_TEST

/* ---- Back to the line ---- */

/* Jobs claimed ahead of a slow one go back as they were, uncounted, before
 * those that came later; with no room for them in memory it is the same. */
START_TEST(hands_back)
{
    job_t *job;
    cr_setup(_i % 2);
    struct dassie__processor *p = cr_processor("mail", 1, CR_MS);
    put_n("mail", 5);
    cr_commit();
    ck_assert_str_eq(cr_ids(&p->runq), "1 2 3 4 5");
    atomic_store(&p->run_ns, 2 * (uint64_t)AHEAD_NS);
    job_t *slow = cr_starts(p, 1);
    put_n("mail", 1);
    core->store.window_max = _i < 2 ? core->store.window_max : 0;
    while ((job = job_list_pop(&p->runq)) != NULL) {
        dassie__core_unclaim(core, job);
    }
    uint64_t last = cr_put("mail");
    cr_step();
    ck_assert_uint_eq(core->stats.unclaimed, 4);
    ck_assert_uint_eq(p->claimed, 1);
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX - 1);
    cr_tally(6, 1, 0, 0);
    core->store.window_max = 1 << 20;
    cr_end(slow, 0);
    for (uint64_t id = 2; id <= 7; id++) {
        cr_step();
        job = cr_starts(p, id < 7 ? id : last);
        ck_assert_uint_eq(job->attempts, 0);
        cr_end(job, 0);
    }
    cr_step();
    cr_is(3, DASSIE_COMPLETE, 1, 0, 0);
    cr_tally(0, 0, 7, 0);
}
END_TEST

/* Stopped with jobs of the open batch: they go back within it, and another
 * processor gets them in the same one. */
START_TEST(stops_a_processor)
{
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail web", 4, CR_ASYNC);
    put_n("mail", 2);
    cr_commit();
    job_t *first = cr_starts(p, 1);
    put_n("mail", 2);
    ck_assert_str_eq(cr_ids(&p->starting), "3 4");
    dassie__core_processor_stop(core, p);
    ck_assert_uint_eq(p->starting.n, 0);
    ck_assert_uint_eq(p->claimed, 2);
    struct dassie__processor *other = cr_processor("mail", 2, CR_ASYNC);
    cr_step();
    ck_assert_uint_eq(p->runq.n, 1);
    ck_assert_str_eq(cr_ids(&other->runq), "3 4");
    cr_tally(0, 4, 0, 0);
    cr_end(first, 0);
    cr_end(cr_starts(p, 2), 0);
    cr_put("web");
    dassie__core_processor_remove(core, p);
    cr_step();
    ck_assert_uint_eq(core->store.served, 1);
    cr_tally(1, 2, 2, 0);
    cr_rise();
    cr_tally(3, 0, 2, 0);
}
END_TEST

/* After dassie__core_stop() nothing is claimed; what runs may end. */
START_TEST(stops)
{
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    struct dassie__processor *q = cr_processor("web", 2, CR_ASYNC);
    put_n("mail", 1);
    cr_commit();
    put_n("mail", 2);
    put_n("web", 1);
    dassie__core_stop(core);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "1");
    ck_assert_uint_eq(q->runq.n, 0);
    ck_assert_uint_eq(core->claimed_n, 1);
    ck_assert_uint_eq(dassie__core_due(core), UINT64_MAX);
    cr_put("web");
    cr_end(cr_starts(p, 1), 0);
    cr_step();
    ck_assert_uint_eq(core->claimed_n, 0);
    cr_tally(4, 0, 1, 0);
}
END_TEST

/* A processor that is the last one of a queue takes its window along. */
START_TEST(window_goes_with_its_processor)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    struct dassie__processor *q = cr_processor("mail", 1, CR_ASYNC);
    put_n("mail", 5);
    cr_commit();
    cr_end(cr_starts(q, 1), 0);
    dassie__core_processor_stop(core, q);
    dassie__core_processor_remove(core, q);
    cr_commit();
    ck_assert_uint_gt(core->store.window_bytes, 0);
    cr_end(cr_starts(p, 2), 0);
    dassie__core_processor_stop(core, p);
    dassie__core_processor_remove(core, p);
    ck_assert_uint_eq(core->store.window_bytes, 0);
    cr_commit();
    p = cr_processor("mail", 3, CR_ASYNC);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "3 4 5");
}
END_TEST

/* ---- Waiting for an end ---- */

static struct enqueue_priv *priv_of(dassie_enqueue_t *req)
{
    return (struct enqueue_priv *)req->reserved;
}

static size_t waiters_n(const struct waiter *w)
{
    size_t n = 0;
    for (; w != NULL; w = w->next) {
        n++;
    }
    return n;
}

static uint64_t put_waiting(const char *queue, dassie_enqueue_t *req)
{
    job_t *job = cr_job(queue, 0, 0, 7);
    job->req = req;
    return cr_put_job(job);
}

/* Whoever waits is there when the job is told, whether it stayed in memory (0)
 * or left it at its enqueue (1), when handed back (2), with its processor (3).
 */
START_TEST(waiters_are_told)
{
    dassie_enqueue_t req = {0};
    dassie_enqueue_t other = {0};
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("mail", 1, CR_MS);
    if (_i == 1) {
        core->store.window_max = 0;
        atomic_store(&p->run_ns, CR_ASYNC);
    }
    uint64_t before = cr_put("mail");
    uint64_t id = put_waiting("mail", &req);
    CR_OK(dassie__waiters_add(&core->waiters, &priv_of(&other)->waiter, id));
    cr_commit();
    job_t *job = cr_starts(p, before);
    if (_i == 2) {
        core->store.window_max = 0;
        dassie__core_unclaim(core, job_list_pop(&p->runq));
    }
    cr_end(job, 0);
    if (_i == 3) {
        dassie__core_unclaim(core, job_list_pop(&p->runq));
        dassie__core_processor_remove(core, p);
        cr_commit();
        p = cr_processor("mail", 1, CR_MS);
    }
    ck_assert_uint_eq(core->told.n, _i == 3 ? 0 : 1);
    core->store.window_max = 1 << 20;
    cr_step();
    cr_step();
    job = cr_starts(p, id);
    ck_assert_uint_eq(job->req != NULL, _i == 0);
    cr_end(job, -1);
    ck_assert_ptr_eq(core->told.head, job);
    ck_assert_uint_eq(waiters_n(job->waiters), 2);
    ck_assert_ptr_null(dassie__waiters_take_any(&core->waiters));
    cr_commit();
}
END_TEST

/* A job of which nobody has memory to remember who waits is told as lost. */
START_TEST(waiters_without_memory)
{
    bool failed = true;
    cr_setup(RIG_ROCKS);
    cr_put("mail");
    cr_commit();
    for (unsigned n = 1; failed; n++) {
        dassie_enqueue_t req = {0};
        struct waiter *w = &priv_of(&req)->waiter;
        job_t *job = cr_job("mail", 0, 0, 7);
        job->req = &req;
        cr_mem_fail(n);
        uint64_t id = cr_put_job(job);
        failed = cr_mem_failed();
        ck_assert(failed || n > 1);
        ck_assert_ptr_eq(core->lost, failed ? w : NULL);
        ck_assert_ptr_eq(dassie__waiters_take(&core->waiters, id),
                         failed ? NULL : w);
        core->lost = NULL;
        cr_commit();
    }
}
END_TEST

/* ---- Commits ---- */

/* A slot of the recorder speaks of its job until the end is committed. */
START_TEST(slots_until_committed)
{
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    cr_put("mail");
    cr_commit();
    job_t *job = cr_starts(p, 1);
    uint32_t slot = job->slot;
    const struct recorder_slot *in = &rig.recorder.page->slot[slot];
    cr_end(job, 0);
    ck_assert_uint_eq(core->claimed_n, 0);
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX - 1);
    ck_assert_uint_eq(in->phase, PHASE_ENDED);
    uint64_t next = cr_put("mail");
    ck_assert_uint_ne(p->starting.head->slot, slot);
    CR_OK(dassie__store_commit(&core->store, 1, &rig.base.e));
    ck_assert_uint_eq(in->phase, PHASE_ENDED);
    cr_committed();
    ck_assert_uint_eq(in->phase, PHASE_FREE);
    cr_end(cr_starts(p, next), 0);
    cr_commit();
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX);
    ck_assert_uint_eq(core->claimed_high, 0);
    cr_tally(0, 0, 2, 0);
}
END_TEST

/* A commit in doubt keeps ends, claims and their slots until it is settled. */
START_TEST(commit_in_doubt)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    put_n("mail", 4);
    cr_commit();
    cr_end(cr_starts(p, 1), 0);
    dassie__core_dispatch(core);
    dassie__kv_mem_fail(rig.base.kv, 1, _i == 1, 1);
    ck_assert_int_eq(dassie__store_commit(&core->store, 1, &rig.base.e),
                     UV_EIO);
    ck_assert_int_eq(dassie__store_heal(&core->store, &rig.base.e), UV_EIO);
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX - 3);
    ck_assert_str_eq(cr_ids(&core->told), "1");
    ck_assert_str_eq(cr_ids(&p->starting), "3");
    CR_OK(dassie__store_heal(&core->store, &rig.base.e));
    cr_committed();
    cr_end(cr_starts(p, 2), 0);
    cr_end(cr_starts(p, 3), 0);
    cr_step();
    cr_tally(0, 1, 3, 0);
    cr_rise();
    cr_tally(1, 0, 3, 0);
}
END_TEST

/* A store that is given up forgets its claims without a word to it. */
START_TEST(loses)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    put_n("mail", 2);
    cr_commit();
    uint64_t commit = core->store.commit;
    dassie__core_lose(core, cr_starts(p, 1));
    dassie__core_lose(core, job_list_pop(&p->runq));
    ck_assert_uint_eq(core->claimed_n, 0);
    ck_assert_uint_eq(p->claimed, 0);
    ck_assert(!core->store.changed);
    ck_assert_uint_eq(core->store.commit, commit);
    cr_rise();
    cr_is(1, DASSIE_PENDING, 1, 0, 0);
    cr_is(2, DASSIE_PENDING, 0, 0, 0);
}
END_TEST

/* ---- Damage ---- */

/* A line that cannot be read stops and is told; other queues go on, and so
 * does the line when it can be read again. */
START_TEST(broken_line)
{
    cr_setup(_i);
    uint64_t bad = cr_put("mail");
    cr_put("mail");
    put_n("web", 2);
    cr_commit();
    struct dassie__processor *p = cr_processor("mail web", 1, CR_ASYNC);
    cr_damage(bad);
    for (uint64_t id = 3; id <= 4; id++) {
        cr_step();
        ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(core->error.text, "job 1 "));
        ck_assert_uint_lt(dassie__core_due(core), UINT64_MAX);
        cr_end(cr_starts(p, id), 0);
    }
    cr_step();
    ck_assert_uint_eq(core->claimed_n, 0);
    cr_tally(2, 0, 2, 0);
    cr_mend();
    cr_step();
    ck_assert_int_eq(core->broken, 0);
    cr_end(cr_starts(p, bad), 0);
    cr_step();
    cr_end(cr_starts(p, 2), 0);
    cr_step();
    cr_tally(0, 0, 4, 0);
}
END_TEST

/* Rows that are not there, though nothing says that they could not be read, are
 * told, too. */
START_TEST(missing_rows)
{
    cr_setup(_i);
    uint8_t key[KEY_PENDING_BYTES];
    struct kv *kv = rig.base.kv;
    uint64_t id = cr_put("mail");
    cr_commit();
    struct place place = {0, 0, LINE_NORMAL, id};
    dassie__key_pending(key, &place);
    kv->ops->del(kv, FAMILY_PENDING, kv_slice(key, sizeof key));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    dassie__core_dispatch(core);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(core->error.text, "1 pending rows"));
    kv->ops->put(kv, FAMILY_PENDING, kv_slice(key, sizeof key),
                 kv_slice("", 0));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    cr_step();
    ck_assert_int_eq(core->broken, 0);
    cr_end(cr_starts(p, id), 0);
    cr_step();
    cr_tally(0, 0, 1, 0);
}
END_TEST

/* ---- No memory ---- */

/* Enqueues until one goes through, with every allocation failing once. */
static void put_without_memory(const char *queue, int8_t priority)
{
    bool failed = true;
    for (unsigned n = 1; failed; n++) {
        job_t *job = cr_job(queue, priority, 0, 7);
        struct snap before = snap();
        cr_mem_fail(n);
        int rc = dassie__core_enqueue(core, job);
        failed = cr_mem_failed();
        struct snap after = snap();
        if (rc == 0) {
            break;
        }
        ck_assert(failed);
        ck_assert_int_eq(rc, UV_ENOMEM);
        ck_assert_mem_eq(&after, &before, sizeof before);
        dassie__job_free(job);
    }
}

/* Refused jobs leave nothing; those that are taken are there, also behind a
 * queue or a line that came into being for one that was refused. */
START_TEST(no_memory_to_enqueue)
{
    char name[16];
    unsigned n = getenv("QUICK") != NULL ? 20 : 400; /* the table grows */
    cr_setup(RIG_ROCKS);
    cr_processor("q3", 2, CR_ASYNC);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "q%u", i);
        put_without_memory(name, (int8_t)(i % 40 - 20));
        if (i % 50 == 49) {
            cr_commit();
        }
    }
    for (int8_t priority = -20; priority < 20; priority++) {
        put_without_memory("q3", priority);
    }
    cr_step();
    cr_tally(n + 38, 2, 0, 0);
    cr_rise();
    cr_tally(n + 40, 0, 0, 0);
}
END_TEST

/* A batch is refused whole. */
START_TEST(no_memory_for_a_batch)
{
    cr_setup(RIG_ROCKS);
    cr_put("mail");
    cr_commit();
    int rc = UV_ENOMEM;
    for (unsigned n = 1; rc != 0; n++) {
        struct job_list jobs = {0};
        struct admit admit = {.ids = NULL};
        for (int i = 0; i < 39; i++) {
            job_list_push(&jobs, cr_job("mail", (int8_t)(i - 20), 0, 7));
        }
        struct snap before = snap();
        cr_mem_fail(n);
        rc = dassie__admit(core, &jobs, &admit);
        bool failed = cr_mem_failed();
        struct snap after = snap();
        ck_assert_int_eq(rc, failed ? UV_ENOMEM : 0);
        ck_assert_int_eq(memcmp(&after, &before, sizeof before) == 0, failed);
        ck_assert_uint_eq(jobs.n, failed ? 39 : 0);
        dassie__job_list_free(&jobs);
    }
    cr_commit();
    cr_tally(40, 0, 0, 0);
}
END_TEST

static unsigned realloc_calls;

/* Memory for lines, but none for their counts. */
static void *no_counts_realloc(void *p, size_t size)
{
    return p == core->store.commit_row && ++realloc_calls > 0
               ? NULL
               : cr_realloc(p, size);
}

/* Lines that came into being for jobs that were refused do no harm when all
 * counts of their queue are written. */
START_TEST(no_memory_for_counts)
{
    cr_setup(RIG_MEM);
    realloc_calls = 0;
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    cr_put("mail");
    dassie_replace_allocator(cr_malloc, no_counts_realloc, cr_calloc, cr_free);
    for (int8_t priority = -20; priority < 20; priority++) {
        job_t *job = cr_job("mail", priority, 0, 7);
        if (dassie__core_enqueue(core, job) != 0) {
            dassie__job_free(job);
        }
    }
    ck_assert_uint_gt(realloc_calls, 0);
    while (core->store.folded == 0) {
        cr_step();
        dassie__core_unclaim(core, job_list_pop(&p->runq));
    }
    cr_commit();
}
END_TEST

/* A processor is added whole or not at all. */
START_TEST(no_memory_to_process)
{
    cr_setup(RIG_ROCKS);
    cr_put("b");
    cr_commit();
    int rc = UV_ENOMEM;
    unsigned n = 1;
    for (; rc != 0; n++) {
        struct dassie__processor *p = cr_processor_new("a b c d", 1, CR_ASYNC);
        cr_mem_fail(n);
        rc = dassie__core_processor_add(core, p);
        ck_assert_int_eq(rc, cr_mem_failed() ? UV_ENOMEM : 0);
        ck_assert_int_eq(p->added, rc == 0);
        ck_assert_uint_eq(core->store.served, rc == 0 ? 4 : 0);
        ck_assert_int_eq(core->processors != NULL, rc == 0);
    }
    ck_assert_uint_gt(n, 4);
    cr_step();
    ck_assert_uint_eq(core->processors->claimed, 1);
    cr_tally(0, 1, 0, 0);
}
END_TEST

/* Claims wait for memory: what was not claimed is claimed later. */
START_TEST(no_memory_to_claim)
{
    bool failed = true;
    uint64_t id = 0;
    cr_setup(RIG_ROCKS);
    for (unsigned n = 1; failed; n++) {
        put_n("mail", 3);
        cr_commit();
        struct dassie__processor *p = cr_processor("mail", 3, CR_ASYNC);
        cr_mem_fail(n);
        dassie__core_dispatch(core);
        failed = cr_mem_failed();
        ck_assert(failed || n > 6);
        ck_assert(p->claimed == 3 || core->broken == UV_ENOMEM);
        cr_commit();
        cr_step();
        ck_assert_int_eq(core->broken, 0);
        for (int i = 0; i < 3; i++) {
            cr_end(cr_starts(p, ++id), 0);
        }
        dassie__core_processor_stop(core, p);
        dassie__core_processor_remove(core, p);
        cr_commit();
    }
    cr_tally(0, 0, id, 0);
}
END_TEST

/* ---- Suites ---- */

#define ENTRIES(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void add_enqueue(TCase *tc)
{
    tcase_add_loop_test(tc, refuses_for_space, 0, RIG_KINDS);
    tcase_add_test(tc, refuses_queues);
    tcase_add_loop_test(tc, many_is_a_block, 0, RIG_KINDS);
    tcase_add_loop_test(tc, hands_off, 0, ENTRIES(hand_offs));
}

static void add_claims(TCase *tc)
{
    tcase_add_loop_test(tc, claims_ahead, 0, 2 * ENTRIES(paces));
    tcase_add_loop_test(tc, claims_bytes_ahead, 0, 2);
    tcase_add_loop_test(tc, claims_in_order, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claims_by_weight, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claims_after_the_commit, 0, RIG_KINDS);
    tcase_add_test(tc, shares);
    tcase_add_loop_test(tc, at_most_once_is_not_ahead, 0, RIG_KINDS);
    tcase_add_test(tc, claims_as_many_as_slots);
}

/* What a look-up finds is as of the moment when it was captured, whatever was
 * committed before it reads. */
START_TEST(look_is_of_one_moment)
{
    cr_setup(RIG_ROCKS);
    uint64_t id = cr_put("a");
    cr_commit();
    struct look *look = dassie__look_new(LOOK_LIST, NULL);
    look->state = DASSIE_PENDING;
    look->limit = 10;
    ck_assert(dassie__look_capture(look, core));
    struct dassie__processor *p = cr_processor("a", 1, CR_ASYNC);
    cr_step();
    cr_end(cr_starts(p, id), 0);
    cr_commit();
    dassie__look_run(look);
    ck_assert_int_eq(look->status, 0);
    ck_assert_uint_eq(look->n, 1);
    ck_assert_uint_eq(look->infos[0].id, id);
    ck_assert_int_eq(look->infos[0].state, DASSIE_PENDING);
    dassie__look_free(look);
}
END_TEST

static void add_ends(TCase *tc)
{
    tcase_add_loop_test(tc, hands_back, 0, 2 * RIG_KINDS);
    tcase_add_loop_test(tc, stops_a_processor, 0, RIG_KINDS);
    tcase_add_loop_test(tc, stops, 0, RIG_KINDS);
    tcase_add_test(tc, window_goes_with_its_processor);
    tcase_add_loop_test(tc, waiters_are_told, 0, 4);
    tcase_add_test(tc, waiters_without_memory);
    tcase_add_test(tc, look_is_of_one_moment);
}

static void add_faults(TCase *tc)
{
    tcase_add_loop_test(tc, slots_until_committed, 0, RIG_KINDS);
    tcase_add_loop_test(tc, commit_in_doubt, 0, 2);
    tcase_add_test(tc, loses);
    tcase_add_loop_test(tc, broken_line, 0, RIG_KINDS);
    tcase_add_loop_test(tc, missing_rows, 0, RIG_KINDS);
    tcase_add_test(tc, no_memory_to_enqueue);
    tcase_add_test(tc, no_memory_for_a_batch);
    tcase_add_test(tc, no_memory_for_counts);
    tcase_add_test(tc, no_memory_to_process);
    tcase_add_test(tc, no_memory_to_claim);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_enqueue, add_claims, add_ends,
                                           add_faults};
    static const char *const names[] = {"enqueue", "claims", "ends", "faults"};
    Suite *suite = suite_create("core");
    for (int i = 0; i < ENTRIES(add); i++) {
        TCase *tc = tcase_create(names[i]);
        suite_add_tcase(suite, tc);
        tcase_add_checked_fixture(tc, NULL, teardown);
        add[i](tc);
    }
    return cr_run_suite(suite);
}
