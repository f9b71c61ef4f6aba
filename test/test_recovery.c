/* Recovery and suspects: what becomes of each job when its process dies at any
 * point, and who is blamed. Processes die by dropping the core; rows and
 * recorder stay. */
#include "config.h"

#include "core_rig.h"

#define AMO DASSIE_AT_MOST_ONCE
#define SUSPECT_NS (rig.options.suspect_ns)
#define ENTRIES(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void teardown(void)
{
    cr_teardown();
}

static void go_on(uint64_t ns)
{
    core->mono_ns += ns;
}

/* A process dies with jobs 1 to n of "mail" executing at once. */
static void leave_suspects(unsigned n)
{
    struct dassie__processor *p = cr_processor("mail", n, CR_ASYNC);
    for (unsigned i = 0; i < n; i++) {
        cr_put("mail");
    }
    cr_commit();
    for (unsigned i = 0; i < n; i++) {
        cr_starts(p, i + 1);
    }
    cr_rise();
    ck_assert_uint_eq(core->store.suspects, n);
}

/* ---- Every way to be found ---- */

enum death {
    NOT_STARTED,
    EXECUTING, /* the job's time alone is over, if it was a suspect */
    ALONE,
    RETURNED,
    ENDED, /* and the core knows, but there was no commit */
    POWER_CUT,
    POWER_CUT_NOT_STARTED,
    NO_BOOT_ID,
    NO_RECORDER,
    DEATHS
};

/* Lets the one job of p come as far as that. */
static void bring_to(struct dassie__processor *p, enum death death)
{
    ck_assert_uint_eq(p->runq.n, 1);
    if (death == NOT_STARTED || death == POWER_CUT_NOT_STARTED) {
        return;
    }
    job_t *job = cr_starts(p, 1);
    if (death == EXECUTING) {
        go_on(SUSPECT_NS);
        cr_step();
    } else if (death == RETURNED) {
        cr_return(job, 0);
    } else if (death == ENDED) {
        cr_end(job, 0);
    }
}

static void die_by(enum death death)
{
    rig.boot = death == NO_BOOT_ID ? 0 : 1;
    if (death == NO_BOOT_ID) { /* it was not known before either */
        memset(rig.recorder.page->boot_id, 0, BOOT_ID_BYTES);
    }
    cr_kill();
    if (death == POWER_CUT || death == POWER_CUT_NOT_STARTED) {
        rig.boot = 2;
    }
    if (death == NO_RECORDER) {
        ck_assert_int_eq(unlink(rig.inflight), 0);
    }
}

struct fate {
    struct cr_found found;
    unsigned suspects;
};

/* What the table in doc/design.md says. */
static struct fate fate_of(enum death death, uint8_t flags, struct fate before,
                           uint32_t max)
{
    bool valid = death <= ENDED;
    struct cr_found was = before.found;
    struct fate fate = before;
    fate.found.state = DASSIE_PENDING;
    if (valid && death == NOT_STARTED) {
        return fate;
    }
    fate.found.attempts++;
    fate.suspects = 0;
    if (flags == AMO) {
        fate.found.state = DASSIE_FAILED;
        fate.found.code = DASSIE_EINTERRUPTED;
    } else if (death == ALONE && was.crashes + 1 == max) {
        fate.found.state = DASSIE_FAILED;
        fate.found.code = DASSIE_ECRASHED;
    } else {
        fate.suspects = death == EXECUTING || death == ALONE;
    }
    fate.found.crashes += death == ALONE;
    return fate;
}

/* Job 1 has killed its process so often while it ran alone, and once before. */
static void make_suspect(uint32_t crashes)
{
    rig.options.crashes_max = 0;
    leave_suspects(1);
    for (uint32_t i = 0; i < crashes; i++) {
        struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
        cr_step();
        cr_starts(p, 1);
        cr_rise();
    }
    cr_is(1, DASSIE_PENDING, crashes + 1, crashes, 0);
}

static void dies_as(enum death death, uint8_t flags, uint32_t max)
{
    struct cr_found was = cr_found(1);
    struct fate before = {was, (unsigned)core->store.suspects};
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    cr_step();
    bring_to(p, death);
    die_by(death);
    rig.options.crashes_max = max;
    cr_open();
    struct fate fate = fate_of(death, flags, before, max);
    cr_is(1, fate.found.state, fate.found.attempts, fate.found.crashes,
          fate.found.code);
    ck_assert_int_eq(cr_found(1).text, fate.found.state == DASSIE_FAILED);
    ck_assert_uint_eq(core->store.suspects, fate.suspects);
    ck_assert_uint_eq(core->stats.interrupted,
                      fate.found.attempts - was.attempts);
    ck_assert_uint_eq(rig.recorder.free_n, DASSIE_CLAIMED_MAX);
    ck_assert_uint_eq(rig_rows(&rig.base, FAMILY_RUNNING), 0);
}

/* A job that was nothing but claimed before. */
START_TEST(first_death)
{
    enum death death = (enum death)(_i / 2);
    cr_setup(RIG_MEM);
    cr_put_job(cr_job("mail", 0, _i % 2 == 0 ? 0 : AMO, 7));
    cr_commit();
    dies_as(death == ALONE ? EXECUTING : death, _i % 2 == 0 ? 0 : AMO, 1);
}
END_TEST

/* A suspect, with so many crashes of so many. */
START_TEST(death_of_a_suspect)
{
    static const struct {
        uint32_t crashes;
        uint32_t max;
    } counts[] = {{0, 0}, {0, 1}, {0, 3}, {2, 0}, {2, 3}, {3, 5}};
    cr_setup(RIG_MEM);
    make_suspect(counts[_i % 6].crashes);
    dies_as((enum death)(_i / 6), 0, counts[_i % 6].max);
}
END_TEST

/* ---- Order ---- */

/* Suspects first, one by one; then those that had returned, then those that had
 * only been claimed, then the rest: each in the order of their claims. */
START_TEST(order_of_reruns)
{
    static const uint64_t order[] = {2, 4, 3, 5, 6, 1, 7};
    cr_setup(_i);
    struct dassie__processor *p = cr_processor("mail", 1, 4 * CR_MS);
    for (int i = 0; i < 7; i++) {
        cr_put("mail");
    }
    cr_commit();
    ck_assert_str_eq(cr_ids(&p->runq), "1 2 3 4 5 6");
    job_t *first = job_list_pop(&p->runq);
    dassie__core_unclaim(core, first);
    cr_step();
    ck_assert_str_eq(cr_ids(&p->runq), "2 3 4 5 6 1");
    cr_starts(p, 2);
    cr_return(cr_starts(p, 3), 0);
    cr_starts(p, 4);
    cr_return(cr_starts(p, 5), -1);
    cr_rise();
    ck_assert_uint_eq(core->store.suspects, 2);
    ck_assert_uint_eq(core->stats.interrupted, 4);
    p = cr_processor("mail", 1, CR_ASYNC);
    for (int i = 0; i < ENTRIES(order); i++) {
        cr_step();
        job_t *job = cr_starts(p, order[i]);
        ck_assert_int_eq(core->alone == job, i < 2);
        ck_assert_uint_eq(job->attempts, i < 4);
        cr_end(job, 0);
    }
    cr_step();
    cr_tally(0, 0, 7, 0);
}
END_TEST

/* ---- Suspects ---- */

/* They run alone, one after the other, each until it ends; nothing is handed
 * off or claimed meanwhile. */
START_TEST(suspects_one_by_one)
{
    cr_setup(_i);
    leave_suspects(3);
    for (uint64_t id = 1; id <= 3; id++) {
        cr_is(id, DASSIE_PENDING, 1, 0, 0);
    }
    struct dassie__processor *p = cr_processor("mail", 4, 4 * CR_MS);
    struct dassie__processor *q = cr_processor("web", 4, CR_ASYNC);
    for (uint64_t id = 1; id <= 3; id++) {
        cr_step();
        ck_assert_uint_eq(core->claimed_n, 1);
        ck_assert_uint_eq(cr_due(), core->mono_ns + SUSPECT_NS);
        cr_put("web");
        cr_put("mail");
        go_on(SUSPECT_NS - 1);
        cr_step();
        job_t *job = cr_starts(p, id);
        ck_assert_uint_eq(core->claimed_n, 1);
        ck_assert_uint_eq(rig.recorder.page->slot[job->slot].alone, SLOT_ALONE);
        ck_assert_uint_eq(job->attempts, 1);
        cr_end(job, 0);
    }
    cr_step();
    ck_assert_ptr_null(core->alone);
    ck_assert_uint_eq(cr_due(), UINT64_MAX);
    ck_assert_uint_eq(p->runq.n, 3);
    ck_assert_uint_eq(q->runq.n, 3);
}
END_TEST

/* One that takes longer: the others start beside it, and its death is not
 * counted any more. */
START_TEST(suspect_takes_long)
{
    cr_setup(RIG_MEM);
    leave_suspects(1);
    struct dassie__processor *p = cr_processor("mail", 2, CR_ASYNC);
    uint64_t next = cr_put("mail");
    cr_step();
    job_t *job = cr_starts(p, 1);
    go_on(SUSPECT_NS - 1);
    cr_step();
    ck_assert_uint_eq(p->claimed, 1);
    go_on(1);
    cr_step();
    ck_assert_uint_eq(rig.recorder.page->slot[job->slot].alone, 0);
    cr_starts(p, next);
    cr_rise();
    cr_is(1, DASSIE_PENDING, 2, 0, 0);
    cr_is(next, DASSIE_PENDING, 1, 0, 0);
    ck_assert_uint_eq(core->store.suspects, 2);
}
END_TEST

/* While others run, a suspect holds new claims back: until they have ended (0),
 * then it runs alone; or for suspect_ms (1), then it starts beside them. */
START_TEST(suspect_holds_others)
{
    cr_setup(RIG_MEM);
    leave_suspects(1);
    struct dassie__processor *q = cr_processor("web", 2, CR_ASYNC);
    uint64_t a = cr_put("web");
    cr_step();
    job_t *other = cr_starts(q, a);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    cr_step();
    uint64_t b = cr_put("web");
    ck_assert_uint_eq(cr_due(), core->mono_ns + SUSPECT_NS);
    go_on(SUSPECT_NS - 1);
    cr_step();
    ck_assert_uint_eq(core->claimed_n, 1);
    if (_i == 0) {
        cr_end(other, 0);
    } else {
        go_on(1);
    }
    cr_step();
    job_t *job = cr_starts(p, 1);
    ck_assert_int_eq(core->alone == job, _i == 0);
    ck_assert_uint_eq(q->runq.n, _i == 0 ? 0 : 1);
    cr_end(job, 0);
    cr_step();
    cr_end(cr_starts(q, b), 0);
    cr_step();
    ck_assert_uint_eq(cr_due(), UINT64_MAX);
}
END_TEST

/* The next suspect starts beside one that takes long, after suspect_ms. */
START_TEST(suspects_that_take_long)
{
    cr_setup(RIG_MEM);
    leave_suspects(3);
    struct dassie__processor *p = cr_processor("mail", 4, CR_ASYNC);
    uint64_t last = cr_put("mail");
    for (uint64_t id = 1; id <= 3; id++) {
        cr_step();
        cr_starts(p, id);
        ck_assert_uint_eq(core->alone != NULL, id == 1);
        ck_assert_uint_eq(p->claimed, id == 1 ? 1 : id + 1);
        go_on(SUSPECT_NS);
        cr_step();
        if (id == 1) { /* the last one is held for two more */
            ck_assert_uint_eq(core->claimed_n, 1);
            go_on(SUSPECT_NS);
        } else if (id == 2) {
            cr_starts(p, last);
            go_on(SUSPECT_NS);
        }
    }
    cr_rise();
    for (uint64_t id = 1; id <= 3; id++) {
        cr_is(id, DASSIE_PENDING, 2, 0, 0);
    }
}
END_TEST

/* What runs beside a suspect that cannot start: claims of "web" go on, cycle by
 * cycle. */
static void web_goes_on(struct dassie__processor *q)
{
    for (int i = 0; i < 3; i++) {
        uint64_t id = cr_put("web");
        cr_step();
        job_t *job = cr_starts(q, id);
        cr_put("web");
        cr_step();
        ck_assert_uint_eq(core->hold_until, 0);
        cr_end(job, 0);
        cr_step();
        cr_end(cr_start(q), 0);
        cr_step();
    }
    ck_assert_uint_eq(cr_due(),
                      core->broken != 0 ? core->retry_at : UINT64_MAX);
}

/* Nobody serves it (0); its processor stops while it holds the others (1). */
START_TEST(suspect_not_served)
{
    cr_setup(RIG_MEM);
    leave_suspects(1);
    struct dassie__processor *q = cr_processor("web", 1, CR_ASYNC);
    if (_i == 1) {
        uint64_t id = cr_put("web");
        cr_step();
        struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
        cr_step();
        ck_assert_uint_ne(core->hold_until, 0);
        cr_put("web");
        dassie__core_processor_stop(core, p);
        dassie__core_processor_remove(core, p);
        cr_end(cr_starts(q, id), 0);
        cr_step();
        cr_end(cr_start(q), 0);
        cr_step();
    }
    web_goes_on(q);
    ck_assert_uint_eq(core->store.suspects, 1);
}
END_TEST

/* All slots of its processor are taken by jobs that take long: it holds the
 * others once, and starts when a slot is free. */
START_TEST(suspect_without_a_slot)
{
    cr_setup(RIG_MEM);
    leave_suspects(2);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    struct dassie__processor *q = cr_processor("web", 1, CR_ASYNC);
    cr_step();
    job_t *job = cr_starts(p, 1);
    go_on(SUSPECT_NS);
    cr_step();
    ck_assert_uint_eq(cr_due(), core->mono_ns + SUSPECT_NS);
    go_on(SUSPECT_NS);
    cr_step();
    ck_assert_uint_eq(p->claimed, 1);
    web_goes_on(q);
    uint64_t id = cr_put("web");
    cr_commit();
    cr_end(job, 0);
    cr_step();
    cr_end(cr_starts(p, 2), 0);
    cr_end(cr_starts(q, id), 0);
    cr_step();
    ck_assert_uint_eq(core->store.suspects, 0);
}
END_TEST

/* So does one whose row cannot be read; it runs when that is mended. */
START_TEST(suspect_not_readable)
{
    cr_setup(_i);
    leave_suspects(1);
    cr_damage(1);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    struct dassie__processor *q = cr_processor("web", 1, CR_ASYNC);
    cr_step();
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    web_goes_on(q);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    cr_mend();
    cr_step();
    ck_assert_ptr_eq(core->alone, cr_starts(p, 1));
}
END_TEST

/* All slots of the recorder are taken: it waits for one. */
/* What has just gone back to disk is claimed once it can be read. */
START_TEST(suspect_of_this_batch)
{
    cr_setup(_i);
    leave_suspects(1);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    cr_step();
    ck_assert_uint_eq(p->runq.n, 1);
    dassie__core_unclaim(core, job_list_pop(&p->runq));
    dassie__core_processor_stop(core, p);
    dassie__core_processor_remove(core, p);
    p = cr_processor("mail", 1, CR_ASYNC);
    cr_step();
    ck_assert_uint_eq(p->claimed, 0);
    ck_assert_uint_eq(dassie__core_due(core), core->mono_ns);
    cr_step();
    cr_starts(p, 1);
    ck_assert_uint_eq(dassie__core_due(core), core->mono_ns + SUSPECT_NS);
}
END_TEST

START_TEST(suspect_without_a_recorder_slot)
{
    struct dassie__processor *q = NULL;
    cr_setup(RIG_MEM);
    leave_suspects(1);
    for (int i = 0; i < DASSIE_CLAIMED_MAX / DASSIE_CONCURRENCY_MAX; i++) {
        q = cr_processor("web", DASSIE_CONCURRENCY_MAX, CR_ASYNC);
    }
    for (int i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        cr_put("web");
    }
    cr_commit();
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    cr_step();
    go_on(SUSPECT_NS);
    cr_step();
    ck_assert_uint_eq(core->claimed_n, DASSIE_CLAIMED_MAX);
    cr_end(cr_start(q), 0);
    cr_step();
    cr_step();
    cr_starts(p, 1);
    ck_assert_ptr_null(core->alone);
}
END_TEST

/* Handed back before it started, a suspect is not waited for. */
START_TEST(suspect_handed_back)
{
    cr_setup(RIG_MEM);
    leave_suspects(1);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    struct dassie__processor *q = cr_processor("web", 1, CR_ASYNC);
    dassie__core_dispatch(core);
    ck_assert_ptr_nonnull(core->alone);
    dassie__core_processor_stop(core, p);
    ck_assert_ptr_null(core->alone);
    cr_commit();
    cr_is(1, DASSIE_PENDING, 1, 0, 0);
    ck_assert_uint_eq(core->store.suspects, 1);
    web_goes_on(q);
}
END_TEST

/* ---- Who is to blame ---- */

#define JOBS 8

/* One life: until everything has ended, or a killer executes. */
static bool live(bool (*kills)(uint64_t id))
{
    struct dassie__processor *p = cr_processor("mail", 4, CR_ASYNC);
    for (;;) {
        job_t *ran[JOBS];
        unsigned n = 0;
        bool killed = false;
        cr_step();
        while ((ran[n] = cr_start(p)) != NULL) {
            killed |= kills(ran[n++]->id);
        }
        if (killed || n == 0) {
            return killed;
        }
        go_on(CR_MS);
        while (n > 0) {
            cr_end(ran[--n], 0);
        }
    }
}

static bool third_kills(uint64_t id)
{
    return id == 3;
}

static bool two_kill(uint64_t id)
{
    return id == 2 || id == 7;
}

/* A job that kills its process is found and fails after max_crashes of those
 * deaths; its neighbours all end well and are not blamed. Without a limit it
 * goes on for ever, and only those that were suspects with it end. */
START_TEST(killers_are_found)
{
    static const uint32_t maxima[] = {1, 3, 0};
    bool (*const kills[])(uint64_t) = {third_kills, two_kill};
    uint32_t max = maxima[_i % 3];
    bool (*kill)(uint64_t) = kills[_i / 3 % 2];
    unsigned killers = 1 + _i / 3 % 2;
    unsigned deaths = 0;
    unsigned enough = max == 0 ? 12 : 100;
    cr_setup(_i / 6);
    rig.options.crashes_max = max;
    cr_rise();
    for (int i = 0; i < JOBS; i++) {
        cr_put("mail");
    }
    cr_commit();
    for (; deaths < enough && live(kill); deaths++) {
        cr_rise();
    }
    uint32_t crashes = 0;
    for (uint64_t id = 1; id <= JOBS; id++) {
        struct cr_found found = cr_found(id);
        crashes += found.crashes;
        if (!kill(id)) {
            ck_assert_int_eq(found.state, max == 0 && id > 4 ? DASSIE_PENDING
                                                             : DASSIE_COMPLETE);
            ck_assert_uint_eq(found.crashes, 0);
            ck_assert_uint_le(found.attempts, 1 + killers);
        } else if (max > 0) {
            cr_is(id, DASSIE_FAILED, found.attempts, max, DASSIE_ECRASHED);
            ck_assert_uint_eq(found.attempts, max + 1);
        } else {
            ck_assert_int_eq(found.state, DASSIE_PENDING);
            ck_assert_uint_eq(found.crashes, id < 4 ? enough - 1 : 0);
        }
    }
    ck_assert_uint_eq(deaths, max == 0 ? enough : crashes + killers);
}
END_TEST

/* Deploys that kill long jobs again and again blame nobody. */
START_TEST(deploys_blame_nobody)
{
    cr_setup(RIG_MEM);
    leave_suspects(3);
    for (uint32_t life = 1; life <= 6; life++) {
        struct dassie__processor *p = cr_processor("mail", 3, CR_ASYNC);
        for (int i = 0; i < 7; i++) {
            cr_step();
            while (cr_start(p) != NULL) {
                continue;
            }
            go_on(SUSPECT_NS);
        }
        ck_assert_uint_eq(p->claimed, 3);
        cr_rise();
        for (uint64_t id = 1; id <= 3; id++) {
            cr_is(id, DASSIE_PENDING, life + 1, 0, 0);
        }
    }
}
END_TEST

/* ---- Killed again while it recovers ---- */

static unsigned closes;

static bool count_close(struct kv *kv, bool clean)
{
    (void)kv;
    (void)clean;
    closes++;
    return true;
}

/* A process dies with a job found in each way. */
static void leave_all_kinds(void)
{
    struct dassie__processor *p = cr_processor("mail", 9, CR_ASYNC);
    for (int i = 0; i < 10; i++) {
        cr_put_job(cr_job("mail", 0, i % 5 == 4 ? AMO : 0, 7));
    }
    cr_commit();
    for (uint64_t id = 1; id <= 7; id++) {
        job_t *job = cr_starts(p, id);
        if (id % 2 == 0) {
            cr_return(job, 0);
        }
    }
    cr_kill();
}

static void all_kinds_recovered(void)
{
    static const uint32_t attempts[] = {1, 1, 1, 1, 1, 1, 1, 0, 0, 0};
    for (uint64_t id = 1; id <= 10; id++) {
        cr_is(id, id == 5 ? DASSIE_FAILED : DASSIE_PENDING, attempts[id - 1], 0,
              id == 5 ? DASSIE_EINTERRUPTED : 0);
    }
    ck_assert_uint_eq(core->store.suspects, 3);
    struct dassie__processor *p = cr_processor("mail", 1, CR_ASYNC);
    static const uint64_t order[] = {1, 3, 7, 2, 4, 6, 8, 9, 10};
    for (int i = 0; i < ENTRIES(order); i++) {
        cr_step();
        cr_end(cr_starts(p, order[i]), 0);
    }
    cr_step();
    cr_tally(0, 0, 9, 1);
}

/* Recovery's commit fails and is there (1) or not (0), any number of times, or
 * the process dies right after it (2): it comes to the same. */
START_TEST(dies_in_recovery)
{
    cr_setup(RIG_MEM);
    leave_all_kinds();
    for (int i = 0; i < 3; i++) {
        dassie__kv_mem_fail(rig.base.kv, _i < 2, _i == 1, 0);
        ck_assert_int_eq(cr_try_open(),
                         _i == 2 || (_i == 1 && i > 0) ? 0 : UV_EIO);
        if (core->store.kv != NULL) {
            cr_kill();
        }
    }
    dassie__kv_mem_fail(rig.base.kv, 0, false, 0);
    cr_open();
    all_kinds_recovered();
}
END_TEST

/* Without memory nothing opens, and nothing changes; at worst a job that fails
 * has no text. Whoever fails closes the database. */
START_TEST(no_memory_to_recover)
{
    struct kv_ops ops;
    struct kv *kv;
    const struct kv_ops *own;
    unsigned n = 1;
    cr_setup(RIG_MEM);
    leave_all_kinds();
    kv = rig.base.kv;
    own = kv->ops;
    ops = *own;
    ops.close = count_close;
    for (int rc = UV_ENOMEM; rc != 0; n++) {
        memset(core, 0, sizeof *core);
        CR_OK(dassie__recorder_open(&rig.recorder, rig.inflight, &rig.base.e));
        closes = 0;
        kv->ops = &ops;
        cr_mem_fail(n);
        rc = dassie__core_open(core, kv, &rig.recorder, &rig.options,
                               &rig.base.e);
        bool failed = cr_mem_failed();
        kv->ops = own;
        ck_assert_uint_eq(closes, rc != 0);
        if (rc == 0) {
            ck_assert(!failed || !cr_found(5).text);
            break;
        }
        ck_assert_int_eq(rc, UV_ENOMEM);
        kv->ops->close(kv, false);
        cr_recorder_die();
        ck_assert_uint_eq(dassie__kv_mem_rows(kv, FAMILY_RUNNING), 1);
    }
    ck_assert_uint_gt(n, 20);
    cr_sound();
    all_kinds_recovered();
}
END_TEST

/* ---- A walk beside a model ---- */

#define WALK_JOBS 512

enum stage { AT_REST, CLAIMED, RUNS, BACK, OVER };

struct model_job {
    uint64_t id;
    uint8_t flags;
    bool acked; /* its enqueue is committed */
    bool suspect;
    bool alone;
    enum stage stage;     /* now */
    enum stage committed; /* as of the last commit: at rest, claimed, over */
    int status;           /* what it returned */
    struct cr_found found;
    job_t *job;
};

static struct model_job model[WALK_JOBS];
static unsigned model_n;
static bool no_more; /* jobs are put */
static struct dassie__processor *walkers[2];
static uint64_t seed;

static uint64_t dice(uint64_t sides)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % sides;
}

static struct model_job *model_of(const job_t *job)
{
    for (unsigned i = 0; i < model_n; i++) {
        if (model[i].id == job->id) {
            return &model[i];
        }
    }
    ck_abort_msg("job %llu was never put", (unsigned long long)job->id);
    return NULL;
}

/* Any job at that stage, or NULL. */
static struct model_job *any_at(enum stage stage)
{
    unsigned from = model_n > 0 ? (unsigned)dice(model_n) : 0;
    for (unsigned i = 0; i < model_n; i++) {
        struct model_job *m = &model[(from + i) % model_n];
        if (m->stage == stage) {
            return m;
        }
    }
    return NULL;
}

/* Which jobs the core has claimed since. A job alone has nothing beside it. */
static void model_claims(void)
{
    for (unsigned i = 0; i < model_n; i++) {
        model[i].alone = core->alone != NULL && model[i].id == core->alone->id;
    }
    for (uint32_t i = 0; i < core->claimed_high; i++) {
        struct model_job *m =
            core->claimed[i] != NULL ? model_of(core->claimed[i]) : NULL;
        if (m != NULL && m->stage == AT_REST) {
            m->stage = CLAIMED;
            ck_assert(!m->alone || m->suspect);
        }
    }
    ck_assert(core->alone == NULL || core->claimed_n == 1);
}

static void walk_put(void)
{
    struct model_job *m = &model[model_n];
    if (no_more || model_n == WALK_JOBS) {
        return;
    }
    memset(m, 0, sizeof *m);
    m->flags = dice(4) == 0 ? AMO : 0;
    m->id = cr_put_job(
        cr_job(dice(2) == 0 ? "mail" : "web", 0, m->flags, dice(600)));
    model_n++;
    model_claims();
}

static void walk_start(void)
{
    job_t *job = cr_start(walkers[dice(2)]);
    if (job != NULL) {
        struct model_job *m = model_of(job);
        ck_assert_int_eq(m->stage, CLAIMED);
        ck_assert_uint_eq(job->attempts, m->found.attempts);
        ck_assert_uint_eq(job->crashes, m->found.crashes);
        ck_assert(m->flags != AMO || job->attempts == 0);
        m->stage = RUNS;
        m->job = job;
    }
}

static void walk_return(void)
{
    struct model_job *m = any_at(RUNS);
    if (m != NULL) {
        m->status = dice(3) == 0 ? -7 : 0;
        m->stage = BACK;
        cr_return(m->job, m->status);
    }
}

static void walk_end(void)
{
    struct model_job *m = any_at(BACK);
    if (m != NULL) {
        m->stage = OVER;
        m->alone = false;
        dassie__core_finish(core, m->job);
    }
}

static void walk_hand_back(void)
{
    job_t *job = job_list_pop(&walkers[dice(2)]->runq);
    if (job != NULL) {
        struct model_job *m = model_of(job);
        m->stage = AT_REST;
        m->alone = false;
        dassie__core_unclaim(core, job);
    }
}

static void walk_commit(void)
{
    cr_commit();
    for (unsigned i = 0; i < model_n; i++) {
        struct model_job *m = &model[i];
        m->acked = true;
        m->suspect = m->suspect && m->stage != OVER;
        if (m->stage == OVER && m->committed != OVER) {
            m->found.attempts++;
            m->found.state = m->status == 0 ? DASSIE_COMPLETE : DASSIE_FAILED;
            m->found.code = m->status;
        }
        m->committed =
            m->stage == OVER || m->stage == AT_REST ? m->stage : CLAIMED;
    }
}

/* What a job becomes whose claim was committed and whose end was not. */
static void model_fate(struct model_job *m, bool power_cut)
{
    static const enum death deaths[] = {NOT_STARTED, NOT_STARTED, EXECUTING,
                                        RETURNED, ENDED};
    enum death death = deaths[m->stage];
    if (power_cut) {
        death = POWER_CUT;
    } else if (death == EXECUTING && m->alone) {
        death = ALONE;
    }
    struct fate before = {m->found, m->suspect};
    struct fate fate =
        fate_of(death, m->flags, before, rig.options.crashes_max);
    m->found = fate.found;
    m->suspect = fate.suspects > 0;
    m->committed = fate.found.state == DASSIE_FAILED ? OVER : AT_REST;
}

/* Opens, at times not at the first try. */
static void walk_open(void)
{
    uint64_t trouble = dice(5);
    if (trouble < 2) {
        dassie__kv_mem_fail(rig.base.kv, 1, trouble == 0, 0);
        bool opened = cr_try_open() == 0; /* there was nothing to commit */
        dassie__kv_mem_fail(rig.base.kv, 0, false, 0);
        if (opened) {
            cr_kill();
        }
    } else if (trouble == 2) {
        cr_open();
        cr_kill();
    }
    cr_open();
    walkers[0] = cr_processor("mail", 2, CR_ASYNC);
    walkers[1] = cr_processor("web mail", 1, 5 * CR_MS);
}

static void walk_check(void)
{
    unsigned suspects = 0;
    for (unsigned i = 0; i < model_n; i++) {
        const struct cr_found *found = &model[i].found;
        cr_is(model[i].id, found->state, found->attempts, found->crashes,
              found->code);
        suspects += model[i].suspect;
    }
    ck_assert_uint_eq(core->store.suspects, suspects);
}

/* What is not committed never was. */
static void walk_die(void)
{
    bool power_cut = dice(4) == 0;
    while (model_n > 0 && !model[model_n - 1].acked) {
        model_n--;
    }
    for (unsigned i = 0; i < model_n; i++) {
        struct model_job *m = &model[i];
        if (m->committed == CLAIMED) {
            model_fate(m, power_cut);
        }
        m->stage = m->committed;
        m->alone = false;
    }
    cr_kill();
    rig.boot += power_cut;
    walk_open();
    walk_check();
}

static void walk_step(void)
{
    static void (*const steps[])(void) = {
        walk_put, walk_put,       walk_start,  walk_start,  walk_return,
        walk_end, walk_hand_back, walk_commit, walk_commit, walk_start};
    uint64_t what = dice(14);
    if (what < 10) {
        steps[what]();
    } else if (what < 13) {
        dassie__core_dispatch(core);
        model_claims();
    } else {
        go_on(dice(SUSPECT_NS));
    }
}

/* Everything ends once nobody dies any more. */
static void walk_to_the_end(void)
{
    const struct tally *tally = &core->store.queues.tally;
    no_more = true;
    for (int i = 0; tally->pending + tally->running > 0; i++) {
        ck_assert_int_lt(i, 100 * WALK_JOBS);
        walk_step();
    }
    walk_commit();
    walk_check();
}

/* The first life is killed after exactly so many steps, the later ones after
 * any number. */
START_TEST(walk)
{
    const char *given = getenv("SEED");
    unsigned lives = getenv("NIGHTLY") != NULL ? 40 : 8;
    unsigned steps = (unsigned)_i;
    seed = given != NULL ? strtoull(given, NULL, 0)
                         : UINT64_C(88172645463325252) + (unsigned)_i / 8;
    printf("SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    cr_setup(RIG_MEM);
    cr_kill();
    model_n = 0;
    no_more = false;
    walk_open();
    for (unsigned life = 0; life < lives; life++) {
        for (unsigned i = 0; i < steps; i++) {
            walk_step();
        }
        walk_die();
        steps = (unsigned)dice(100);
    }
    walk_to_the_end();
}
END_TEST

/* ---- Suites ---- */

static void add_deaths(TCase *tc)
{
    tcase_add_loop_test(tc, first_death, 0, 2 * DEATHS);
    tcase_add_loop_test(tc, death_of_a_suspect, 0, 6 * DEATHS);
    tcase_add_loop_test(tc, order_of_reruns, 0, RIG_KINDS);
    tcase_add_loop_test(tc, dies_in_recovery, 0, 3);
    tcase_add_test(tc, no_memory_to_recover);
}

static void add_suspects(TCase *tc)
{
    tcase_add_loop_test(tc, suspects_one_by_one, 0, RIG_KINDS);
    tcase_add_loop_test(tc, suspect_of_this_batch, 0, RIG_KINDS);
    tcase_add_test(tc, suspect_takes_long);
    tcase_add_loop_test(tc, suspect_holds_others, 0, 2);
    tcase_add_test(tc, suspects_that_take_long);
    tcase_add_loop_test(tc, suspect_not_served, 0, 2);
    tcase_add_test(tc, suspect_without_a_slot);
    tcase_add_loop_test(tc, suspect_not_readable, 0, RIG_KINDS);
    tcase_add_test(tc, suspect_without_a_recorder_slot);
    tcase_add_test(tc, suspect_handed_back);
}

static void add_blame(TCase *tc)
{
    tcase_add_loop_test(tc, killers_are_found, 0, 6 * RIG_KINDS);
    tcase_add_test(tc, deploys_blame_nobody);
}

static void add_walk(TCase *tc)
{
    tcase_add_loop_test(tc, walk, 0, 64);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_deaths, add_suspects, add_blame,
                                           add_walk};
    static const char *const names[] = {"deaths", "suspects", "blame", "walk"};
    Suite *suite = suite_create("recovery");
    for (int i = 0; i < ENTRIES(add); i++) {
        TCase *tc = tcase_create(names[i]);
        suite_add_tcase(suite, tc);
        tcase_add_checked_fixture(tc, NULL, teardown);
        add[i](tc);
    }
    return cr_run_suite(suite);
}
