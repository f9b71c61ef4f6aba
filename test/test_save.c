/* What jobs save while they run: when it is written, who gets it back, and when
 * it goes. Processes die by dropping the core; rows stay. */
#include "config.h"

#include "core_rig.h"

#include "../lib/find.h"
#include "../lib/rebuild.h"
#include "../lib/save.h"

#include <pthread.h>

#define NO_TIME UINT64_MAX

static void teardown(void)
{
    cr_teardown();
}

/* ---- Saving ---- */

static void post(int rc, struct op *op)
{
    ck_assert_int_eq(rc, 0);
    if (op != NULL) {
        dassie__saves_add(&core->saves, op, core->mono_ns);
    }
}

static void checkpoint(job_t *job, const char *text)
{
    struct op *op;
    int rc = dassie__save_checkpoint(job, text, strlen(text), &op);
    post(rc, op);
}

static void progress(job_t *job, uint64_t done, uint64_t total,
                     const char *text)
{
    struct progress p = {done, total, strlen(text), ""};
    struct op *op;
    memcpy(p.text, text, p.text_len);
    int rc = dassie__save_progress(job, &p, &op);
    post(rc, op);
}

static void step(job_t *job, uint64_t done, uint64_t total)
{
    struct op *op;
    int rc = dassie__save_step(job, done, total, &op);
    post(rc, op);
}

/* What the engine does before a commit. */
static uint64_t write_saves(void)
{
    return dassie__saves_write(&core->saves, &core->store, core->mono_ns);
}

static uint64_t save_commit(void)
{
    uint64_t due = write_saves();
    cr_commit();
    return due;
}

/* ---- What is on disk ---- */

static struct kv_slice save_key(uint64_t id)
{
    static uint8_t key[KEY_SAVE_BYTES];
    dassie__key_save(key, id);
    return kv_slice(key, sizeof key);
}

/* The checkpoint of a job as text; "-" if it has no row. */
static const char *on_disk(uint64_t id)
{
    static char text[64];
    struct kv *kv = rig.base.kv;
    struct kv_value value;
    struct save_row row;
    int rc = kv->ops->get(kv, NULL, FAMILY_RUNNING, save_key(id), &value,
                          &rig.base.e);
    if (rc == UV_ENOENT) {
        return "-";
    }
    CR_OK(rc);
    ck_assert_int_eq(dassie__save_row_read(value.p, value.len, &row), 0);
    ck_assert_uint_lt(row.data_len, sizeof text);
    memcpy(text, row.data, row.data_len);
    text[row.data_len] = '\0';
    kv->ops->value_release(&value);
    return text;
}

static void put_row(uint64_t id, const char *value, size_t len)
{
    struct kv *kv = rig.base.kv;
    kv->ops->put(kv, FAMILY_RUNNING, save_key(id), kv_slice(value, len));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
}

/* What the run was given by an earlier one. */
static void has_kept(const job_t *job, const char *text, uint64_t resume_at)
{
    const struct save *save = dassie__save_find(job);
    ck_assert_ptr_nonnull(save);
    ck_assert_uint_eq(save->kept_len, strlen(text));
    ck_assert(save->kept_len == 0 ||
              memcmp(save->kept, text, save->kept_len) == 0);
    ck_assert_uint_eq(save->resume_at, resume_at);
}

static struct dassie__processor *mail(unsigned slots)
{
    return cr_processor("mail", slots, CR_ASYNC);
}

/* A job of "mail" that executes. */
static job_t *begin(struct dassie__processor *p)
{
    uint64_t id = cr_put("mail");
    cr_step();
    return cr_starts(p, id);
}

/* Whatever is due, promoted and claimed. */
static job_t *again(struct dassie__processor *p, uint64_t id)
{
    core->wall_ms += 1000 * 3600;
    dassie__core_promote(core);
    cr_step();
    cr_step();
    return cr_starts(p, id);
}

/* ---- When it is written ---- */

START_TEST(rides_along)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    ck_assert_uint_eq(write_saves(), NO_TIME);
    checkpoint(job, "a");
    uint64_t due = core->mono_ns + SAVE_NS;
    ck_assert_uint_eq(write_saves(), due);
    ck_assert(!core->store.changed); /* it makes no commit */
    checkpoint(job, "b");
    ck_assert_ptr_eq(core->saves.head, core->saves.tail);
    cr_put("web");
    ck_assert_uint_eq(save_commit(), NO_TIME);
    ck_assert_str_eq(on_disk(1), "b");
    ck_assert_uint_eq(write_saves(), NO_TIME);
}
END_TEST

START_TEST(waits_a_second)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(2);
    job_t *job = begin(p);
    job_t *other = begin(p);
    checkpoint(job, "a");
    core->mono_ns += SAVE_NS / 2;
    checkpoint(other, "b");
    core->mono_ns += SAVE_NS / 2 - 1;
    ck_assert_uint_eq(write_saves(), core->mono_ns + 1);
    ck_assert(!core->store.changed);
    core->mono_ns += 1;
    ck_assert_uint_eq(save_commit(), NO_TIME); /* and the other with it */
    ck_assert_str_eq(on_disk(1), "a");
    ck_assert_str_eq(on_disk(2), "b");
}
END_TEST

/* Progress costs commits that come anyway nothing, but a row a second. */
START_TEST(progress_takes_its_time)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    struct progress now;
    ck_assert(!dassie__save_get(job, &now));
    progress(job, 1, 3, "one");
    progress(job, 2, 3, "two");
    ck_assert(dassie__save_get(job, &now));
    ck_assert_uint_eq(now.done, 2);
    ck_assert_uint_eq(now.total, 3);
    ck_assert_str_eq(now.text, "two");
    cr_put("web");
    ck_assert_uint_eq(save_commit(), core->mono_ns + SAVE_NS);
    ck_assert_str_eq(on_disk(1), "-");
    step(job, 3, 3); /* but this is a checkpoint */
    cr_put("web");
    ck_assert_uint_eq(save_commit(), NO_TIME);
    ck_assert_str_eq(on_disk(1), "");
    ck_assert(dassie__save_get(job, &now));
    ck_assert_str_eq(now.text, "two");
}
END_TEST

/* What one commit does not take, the next one does. */
START_TEST(batch_is_bounded)
{
    static char data[DASSIE_CHECKPOINT_BYTES_MAX];
    unsigned n = 3 * SAVE_BATCH_BYTES_MAX / sizeof data / 2;
    cr_setup(_i);
    struct dassie__processor *p = mail(n);
    for (unsigned i = 0; i < n; i++) {
        struct op *op;
        job_t *job = begin(p);
        int rc = dassie__save_checkpoint(job, data, sizeof data, &op);
        post(rc, op);
    }
    core->mono_ns += SAVE_NS;
    ck_assert_uint_le(save_commit(), core->mono_ns);
    ck_assert_ptr_nonnull(core->saves.head);
    ck_assert_uint_eq(save_commit(), NO_TIME);
    ck_assert_ptr_null(core->saves.head);
}
END_TEST

/* Another thread saves while the database is told. */
static struct {
    const struct kv_ops *ops;
    job_t *job;
    atomic_bool saved;
    struct op *op;
} beside;

static void *save_beside(void *arg)
{
    (void)arg;
    ck_assert_int_eq(dassie__save_checkpoint(beside.job, "new", 3, &beside.op),
                     0);
    atomic_store(&beside.saved, true);
    return NULL;
}

static void put2_beside(struct kv *kv, enum family family, struct kv_slice key,
                        struct kv_slice head, struct kv_slice tail)
{
    pthread_t thread;
    if (!atomic_load(&beside.saved)) {
        ck_assert_int_eq(pthread_create(&thread, NULL, save_beside, NULL), 0);
        for (int i = 0; i < 10000 && !atomic_load(&beside.saved); i++) {
            usleep(1000);
        }
        ck_assert_msg(atomic_load(&beside.saved), "a lock is held");
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
    beside.ops->put2(kv, family, key, head, tail);
}

/* It does not wait for that, and neither checkpoint is lost. */
START_TEST(no_lock_is_held)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    struct kv *kv = rig.base.kv;
    struct kv_ops ops = *kv->ops;
    beside.ops = kv->ops;
    beside.job = begin(p);
    checkpoint(beside.job, "old");
    core->mono_ns += SAVE_NS;
    atomic_store(&beside.saved, false);
    ops.put2 = put2_beside;
    kv->ops = &ops;
    save_commit();
    kv->ops = beside.ops;
    ck_assert_str_eq(on_disk(1), "old");
    post(0, beside.op);
    core->mono_ns += SAVE_NS;
    save_commit();
    ck_assert_str_eq(on_disk(1), "new");
    progress(beside.job, 1, 2, "p");
    core->mono_ns += SAVE_NS;
    save_commit();
    ck_assert_str_eq(on_disk(1), "new");
    checkpoint(beside.job, "");
    core->mono_ns += SAVE_NS;
    save_commit();
    ck_assert_str_eq(on_disk(1), "");
}
END_TEST

/* ---- Who gets it back ---- */

/* Ways for a run to end, other than for good. */
enum way { RETRIED, SNOOZED, CLOSED, KILLED, POWER_CUT, WAYS };

static struct dassie__processor *end_by(struct dassie__processor *p, job_t *job,
                                        enum way way)
{
    switch (way) {
        case RETRIED:
            job->verdict = VERDICT_RETRY;
            cr_end(job, -1);
            break;
        case SNOOZED:
            job->verdict = VERDICT_SNOOZE;
            cr_end(job, 0);
            break;
        case CLOSED:
            dassie__core_stop(core);
            cr_end(job, UV_ECANCELED);
            break;
        default:
            break;
    }
    if (way < CLOSED) {
        cr_commit();
        return p;
    }
    if (way == CLOSED) {
        cr_commit();
    }
    rig.boot = way == POWER_CUT ? 2 : 1;
    cr_rise();
    return mail(1);
}

START_TEST(comes_back)
{
    enum way way = _i % WAYS;
    rig.options.attempts_max = 3;
    cr_setup(_i / WAYS);
    core->options.attempts_max = rig.options.attempts_max = 3;
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    ck_assert_ptr_null(dassie__save_find(job));
    checkpoint(job, "first");
    step(job, 7, 9);
    core->mono_ns += SAVE_NS;
    save_commit();
    if (way < KILLED) { /* it goes with the end of the run */
        checkpoint(job, "second");
    }
    p = end_by(p, job, way);
    const char *text = way < KILLED ? "second" : "first";
    ck_assert_str_eq(on_disk(1), text);
    job = again(p, 1);
    has_kept(job, text, 7);
    ck_assert_uint_eq(job->attempts - job->excused,
                      way != SNOOZED && way != CLOSED);
    step(job, 8, 9); /* the checkpoint stays beside it */
    core->mono_ns += SAVE_NS;
    save_commit();
    ck_assert_str_eq(on_disk(1), text);
    has_kept(job, text, 7);
    checkpoint(job, "");
    cr_end(job, 0);
    cr_commit();
    ck_assert_str_eq(on_disk(1), "-");
}
END_TEST

/* A run that has not begun has nothing to lose. */
START_TEST(handed_back)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    checkpoint(job, "a");
    core->mono_ns += SAVE_NS;
    save_commit();
    cr_rise();
    for (int i = 0; i < 3; i++) {
        p = mail(1);
        cr_step();
        job = job_list_pop(&p->runq);
        has_kept(job, "a", 0);
        dassie__core_unclaim(core, job);
        dassie__core_processor_stop(core, p);
        dassie__core_processor_remove(core, p);
        cr_commit();
    }
    ck_assert_str_eq(on_disk(1), "a");
}
END_TEST

START_TEST(stays_with_what_failed)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    progress(job, 1, 2, "half");
    cr_end(job, UV_EIO);
    cr_commit();
    cr_is(1, DASSIE_FAILED, 1, 0, UV_EIO);
    ck_assert_str_eq(on_disk(1), "");
    cr_rise();
    ck_assert_str_eq(on_disk(1), "");
}
END_TEST

static void operate(uint64_t id, enum event event)
{
    job_t *job;
    bool kept;
    CR_OK(dassie__find(&core->store, id, &job, &rig.base.e));
    CR_OK(dassie__store_move(&core->store, job, event, &kept));
    dassie__job_free(job);
    cr_commit();
}

/* A failed job that is tried again goes on; one that is deleted is gone. */
START_TEST(operators)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    checkpoint(job, "a");
    cr_end(job, UV_EIO);
    cr_commit();
    operate(1, EVENT_AGAIN);
    cr_step();
    job = cr_starts(p, 1);
    has_kept(job, "a", 0);
    cr_end(job, UV_EIO);
    cr_commit();
    ck_assert_str_eq(on_disk(1), "a");
    operate(1, EVENT_DELETE);
    ck_assert_str_eq(on_disk(1), "-");
}
END_TEST

/* Nothing is written of a job that ends well before its second is over. */
START_TEST(no_row_in_vain)
{
    cr_setup(_i);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    uint64_t rows = rig.base.kv->rows;
    progress(job, 1, 2, "half");
    cr_end(job, 0);
    cr_commit();
    uint64_t saving = rig.base.kv->rows - rows;
    job = begin(p);
    rows = rig.base.kv->rows;
    cr_end(job, 0);
    cr_commit();
    ck_assert_uint_eq(saving, rig.base.kv->rows - rows);
    ck_assert_ptr_null(core->saves.head);
}
END_TEST

/* ---- What goes wrong ---- */

START_TEST(no_memory)
{
    unsigned n = 1;
    bool failed = true;
    cr_setup(RIG_MEM);
    struct dassie__processor *p = mail(1);
    for (; failed; n++) {
        struct op *op;
        job_t *job = begin(p);
        cr_mem_fail(n);
        int rc = dassie__save_checkpoint(job, "a", 1, &op);
        failed = cr_mem_failed();
        ck_assert_int_eq(rc, failed ? UV_ENOMEM : 0);
        post(0, op);
        ck_assert_int_eq(op != NULL, !failed);
        cr_end(job, 0);
        save_commit();
    }
    ck_assert_uint_eq(n - 2, 2);
}
END_TEST

/* Its line stops until it can be read, or there is memory for it. */
START_TEST(load_fails)
{
    cr_setup(RIG_MEM);
    struct dassie__processor *p = mail(1);
    job_t *job = begin(p);
    checkpoint(job, "a");
    core->mono_ns += SAVE_NS;
    save_commit();
    cr_rise();
    core->options.suspect_ns = 0;
    p = mail(1);
    put_row(1, "\7", 1);
    dassie__core_dispatch(core);
    ck_assert_int_eq(core->broken, DASSIE_ECORRUPT);
    ck_assert_msg(strstr(core->error.text, "job 1 has saved") != NULL, "%s",
                  core->error.text);
    put_row(1, "\1\2\3\0a", 5);
    unsigned n = 1;
    for (;; n++) {
        cr_mem_fail(n);
        dassie__core_dispatch(core);
        if (!cr_mem_failed()) {
            break;
        }
        ck_assert_int_eq(core->broken, UV_ENOMEM);
        core->mono_ns += RETRY_NS_MAX;
    }
    ck_assert_uint_gt(n, 3);
    cr_commit();
    has_kept(cr_starts(p, 1), "a", 2);
}
END_TEST

/* ---- Verify and rebuild ---- */

static uint64_t problems(void)
{
    dassie_verify_report_t report;
    return rig_problems(&rig.base, &report);
}

/* One complete, one failed, one pending, one that came back; each with a row,
 * and one for a job that never was. */
enum { WELL = 1, FAILED, FRESH, BACK, NEVER };

static void make_rows(void)
{
    struct dassie__processor *p = mail(1);
    cr_end(begin(p), 0);
    cr_end(begin(p), UV_EIO);
    cr_commit();
    cr_put("web");
    job_t *job = begin(p);
    ck_assert_uint_eq(job->id, BACK);
    cr_kill();
    cr_open();
    for (uint64_t id = WELL; id <= NEVER; id++) {
        put_row(id, "\1\2\3\0row", 7);
    }
}

START_TEST(verified)
{
    static const struct {
        uint64_t id;
        const char *value;
        size_t len;
        bool good;
    } rows[] = {{WELL, "\1\0\0\0", 4, false},  {FAILED, "\1\0\0\0", 4, true},
                {FRESH, "\1\0\0\0", 4, false}, {BACK, "\1\0\0\0", 4, true},
                {NEVER, "\1\0\0\0", 4, false}, {BACK, "\1\0\0\4abc", 7, false},
                {BACK, "\2\0\0\0", 4, false},  {BACK, "\1\0", 2, false},
                {BACK, "", 0, false}};
    struct kv *kv = rig.base.kv;
    cr_setup(_i);
    make_rows();
    kv = rig.base.kv;
    for (uint64_t id = WELL; id <= NEVER; id++) {
        kv->ops->del(kv, FAMILY_RUNNING, save_key(id));
    }
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    ck_assert_uint_eq(problems(), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_row(rows[i].id, rows[i].value, rows[i].len);
        ck_assert_msg((problems() == 0) == rows[i].good, "row %zu: %s", i,
                      rig.base.problem);
        kv->ops->del(kv, FAMILY_RUNNING, save_key(rows[i].id));
        CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    }
    static const char bad[] = "\377\0\0\1";
    struct kv_slice key = kv_slice(bad, 4);
    kv->ops->put(kv, FAMILY_RUNNING, key, kv_slice("\1\0\0\0", 4));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    ck_assert_uint_eq(problems(), 1);
    kv->ops->del(kv, FAMILY_RUNNING, key);
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
}
END_TEST

static void rebuild_is(int expected)
{
    struct rebuild_report report;
    int rc = dassie__rebuild(rig.base.kv, 1, 0, &report, &rig.base.e);
    ck_assert_msg(rc == expected, "%d %s", rc, rig.base.e.text);
}

START_TEST(rebuilt)
{
    cr_setup(RIG_MEM);
    make_rows();
    cr_kill();
    rebuild_is(0);
    ck_assert_str_eq(on_disk(WELL), "-");
    ck_assert_str_eq(on_disk(FAILED), "row");
    ck_assert_str_eq(on_disk(FRESH), "-");
    ck_assert_str_eq(on_disk(BACK), "row");
    ck_assert_str_eq(on_disk(NEVER), "-");
    ck_assert_uint_eq(problems(), 0);
    cr_open();
    struct dassie__processor *p = mail(1);
    cr_step();
    has_kept(cr_starts(p, BACK), "row", 2);
    cr_kill();
    put_row(BACK, "\1", 1);
    rebuild_is(DASSIE_ECORRUPT);
    put_row(BACK, "\1\0\0\0", 4);
    rebuild_is(0);
    cr_open();
}
END_TEST

static void add_writing(TCase *tc)
{
    tcase_add_loop_test(tc, rides_along, 0, RIG_KINDS);
    tcase_add_loop_test(tc, waits_a_second, 0, RIG_KINDS);
    tcase_add_loop_test(tc, progress_takes_its_time, 0, RIG_KINDS);
    tcase_add_loop_test(tc, batch_is_bounded, 0, RIG_KINDS);
    tcase_add_loop_test(tc, no_lock_is_held, 0, RIG_KINDS);
}

static void add_keeping(TCase *tc)
{
    tcase_add_loop_test(tc, comes_back, 0, WAYS * RIG_KINDS);
    tcase_add_loop_test(tc, handed_back, 0, RIG_KINDS);
    tcase_add_loop_test(tc, stays_with_what_failed, 0, RIG_KINDS);
    tcase_add_loop_test(tc, operators, 0, RIG_KINDS);
    tcase_add_loop_test(tc, no_row_in_vain, 0, RIG_KINDS);
}

static void add_damage(TCase *tc)
{
    tcase_add_test(tc, no_memory);
    tcase_add_test(tc, load_fails);
    tcase_add_loop_test(tc, verified, 0, RIG_KINDS);
    tcase_add_test(tc, rebuilt);
}

int main(void)
{
    static void (*const add[])(TCase *) = {add_writing, add_keeping,
                                           add_damage};
    static const char *const names[] = {"writing", "keeping", "damage"};
    Suite *suite = suite_create("save");
    for (int i = 0; i < 3; i++) {
        TCase *tc = tcase_create(names[i]);
        suite_add_tcase(suite, tc);
        tcase_add_checked_fixture(tc, NULL, teardown);
        add[i](tc);
    }
    return cr_run_suite(suite);
}
