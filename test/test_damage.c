/* Every row of a store with jobs in all states is damaged in every way, before
 * the store is opened, while it is open, or before it is rebuilt; then
 * everything that reads is asked of it. Whatever it is, an answer is a value or
 * an error that is told: nothing dies, nothing leaks, and what cannot be read
 * is not taken for something else without a word. In the database in memory. */
#include "config.h"

#include "../lib/change.h"
#include "../lib/find.h"
#include "core_rig.h"

#define KEY_ROOM 64
#define ROW_ROOM 4096

/* A row, as it was. */
static struct {
    enum family family;
    uint8_t key[KEY_ROOM];
    size_t key_len;
    uint8_t value[ROW_ROOM];
    size_t value_len;
} row;

enum way {
    GONE,
    OTHER_VERSION,
    EMPTY,
    SHORTER,
    LONGER,
    FLIPPED, /* its last byte */
    FILLED,  /* all but the version: as large as numbers get */
    KEY_LONGER,
    WAYS
};

/* ---- A store ---- */

static void put_ended(struct dassie__processor *p, int status,
                      enum verdict verdict)
{
    cr_put("a");
    cr_step();
    job_t *job = cr_start(p);
    ck_assert_ptr_nonnull(job);
    job->verdict = (uint8_t)verdict;
    job->again_ms = 5000;
    cr_end(job, status);
    cr_commit();
}

static void put_later(void)
{
    struct job_row later = {.name = "later", .name_len = 5};
    later.options.number[JOB_DUE] = core->wall_ms + 5000;
    cr_put_job(cr_job_of("b", &later));
}

static int change(dassie_action_t action, uint64_t id, unsigned states)
{
    struct change *c = dassie__calloc(1, sizeof *c);
    c->action = action;
    c->states = states;
    if (id != 0) {
        c->ids = dassie__memdup(&id, sizeof id);
        c->ids_n = 1;
        c->single = true;
    }
    bool done = false;
    for (int steps = 0; !done; steps++) {
        struct changed touched = {.n = 0};
        ck_assert_int_lt(steps, 100);
        done = dassie__change_step(core, c, &touched);
        cr_commit();
    }
    int status = c->status;
    dassie__change_free(c);
    return status;
}

/* At least one job in each state, with history and without, and two queues. */
static void fill(void)
{
    struct settings_row settings = {{0}};
    cr_setup(RIG_MEM);
    core->wall_ms += 1000000;
    rig.options.attempts_max = core->options.attempts_max = 3;
    struct dassie__processor *p = cr_processor("a", 8, CR_ASYNC);
    put_ended(p, 0, VERDICT_NONE);
    put_ended(p, UV_EIO, VERDICT_NO_RETRY);
    put_ended(p, UV_EIO, VERDICT_RETRY);
    put_ended(p, 0, VERDICT_SNOOZE);
    uint64_t id = cr_put("b");
    cr_commit();
    ck_assert_int_eq(change(DASSIE_CANCEL, id, UINT_MAX), 0);
    cr_put("b");
    cr_put("b");
    put_later();
    cr_commit();
    settings.number[SETTING_ATTEMPTS] = 5;
    dassie__store_settings(&core->store,
                           dassie__queues_find(&core->store.queues, "b", 1),
                           &settings);
    cr_put("a");
    cr_step();
    cr_put("a");
    cr_step();
    const struct tally *t = &core->store.queues.tally;
    ck_assert(t->pending > 0 && t->scheduled > 0 && t->running > 0);
    ck_assert(t->complete > 0 && t->failed > 0 && t->cancelled > 0);
}

/* ---- Damage ---- */

static struct kv_iter *rows_of(enum family family)
{
    static uint8_t end[KEY_ROOM];
    memset(end, 0xff, sizeof end);
    return rig.base.kv->ops->iter(rig.base.kv, NULL, family, kv_slice("", 1),
                                  kv_slice(end, sizeof end));
}

/* The n-th of all rows; false: there are no more. */
static bool row_find(unsigned n)
{
    const struct kv_ops *ops = rig.base.kv->ops;
    bool found = false;
    for (int family = 0; family < FAMILIES && !found; family++) {
        struct kv_iter *it = rows_of((enum family)family);
        for (; ops->iter_valid(it) && !found; ops->iter_next(it)) {
            if (n-- == 0) {
                struct kv_slice key = ops->iter_key(it);
                struct kv_slice value = ops->iter_value(it);
                ck_assert_uint_lt(key.len, KEY_ROOM);
                ck_assert_uint_lt(value.len, ROW_ROOM);
                row.family = (enum family)family;
                row.key_len = key.len;
                row.value_len = value.len;
                memcpy(row.key, key.p, key.len);
                memcpy(row.value, value.p, value.len);
                found = true;
            }
        }
        CR_OK(ops->iter_close(it, &rig.base.e));
    }
    return found;
}

static void row_damage(enum way way)
{
    struct kv *kv = rig.base.kv;
    uint8_t *value = row.value;
    switch (way) {
        case OTHER_VERSION:
            value[0] = 0x7f;
            break;
        case EMPTY:
            row.value_len = 0;
            break;
        case SHORTER:
            row.value_len -= row.value_len > 0;
            break;
        case LONGER:
            value[row.value_len++] = 0xff;
            break;
        case FLIPPED:
            value[row.value_len > 0 ? row.value_len - 1 : 0] ^= 0xff;
            break;
        case FILLED:
            memset(value + 1, 0x7e, row.value_len > 0 ? row.value_len - 1 : 0);
            break;
        default:
            break;
    }
    if (way == GONE || way == KEY_LONGER) {
        kv->ops->del(kv, row.family, kv_slice(row.key, row.key_len));
        row.key[row.key_len++] = 1;
    }
    if (way != GONE) {
        kv->ops->put(kv, row.family, kv_slice(row.key, row.key_len),
                     kv_slice(value, row.value_len));
    }
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    rig.damaged = cr_job("", 0, 0, 0); /* so that nothing is to be sound */
}

/* ---- Everything that reads ---- */

static void is_answer(int rc)
{
    ck_assert_msg(rc == 0 || rc == 1 || rc == UV_ENOENT || rc == UV_EALREADY ||
                      rc == DASSIE_ECORRUPT || rc == DASSIE_ESTATE,
                  "%d %s", rc, dassie_strerror(rc));
}

static void look(enum look_type type, uint64_t id, int state, const char *queue)
{
    struct look *l = dassie__look_new(type, NULL);
    l->id = id;
    l->state = (dassie_state_t)state;
    l->limit = type == LOOK_LIST ? 100 : 1;
    if (queue != NULL) {
        l->queue_name = dassie__memdup(queue, strlen(queue));
        l->queue_name_len = strlen(queue);
    }
    if (dassie__look_capture(l, core)) {
        dassie__look_run(l);
    }
    is_answer(l->status);
    dassie__look_free(l);
}

static void read_all(void)
{
    job_t *job;
    for (uint64_t id = 1; id < 16; id++) {
        is_answer(dassie__store_ended(&core->store, id));
        look(LOOK_GET, id, 0, NULL);
        int rc = dassie__find(&core->store, id, &job, &rig.base.e);
        is_answer(rc);
        if (rc == 0) {
            dassie__job_free(job);
        }
    }
    for (int state = 0; state <= DASSIE_CANCELLED; state++) {
        if (state != 3) {
            look(LOOK_LIST, 0, state, NULL);
            look(LOOK_LIST, 0, state, "b");
        }
    }
}

/* Runs, promotes and sweeps all that can be. */
static void run_all(void)
{
    struct dassie__processor *p = cr_processor("a b", 8, CR_ASYNC);
    for (int i = 0; i < 4; i++) {
        job_t *job;
        core->wall_ms += 100000000;
        core->mono_ns += 100000 * 1000 * CR_MS;
        dassie__core_promote(core);
        dassie__core_sweep(core);
        cr_step();
        while ((job = cr_start(p)) != NULL) {
            cr_end(job, i % 2 == 0 ? UV_EIO : 0);
        }
        cr_commit();
        is_answer(core->broken);
    }
}

/* An open refuses it, and says why, or everything can be asked. */
static void damaged_row(unsigned n, enum way way, bool live)
{
    dassie_verify_report_t report;
    uint64_t told = rig_problems(&rig.base, &report);
    ck_assert_uint_eq(told, 0);
    if (!live) {
        cr_kill();
    }
    row_damage(way);
    told = rig_problems(&rig.base, &report);
    int rc = live ? 0 : cr_try_open();
    is_answer(rc);
    if (rc != 0) {
        ck_assert_str_ne(rig.base.e.text, "");
        ck_assert_msg(told > 0, "row %u, way %u: %s, but it is sound", n, way,
                      rig.base.e.text);
        return;
    }
    read_all();
    for (int action = DASSIE_CANCEL; action <= DASSIE_RUN_NOW; action++) {
        for (uint64_t id = 1; id < 16; id += 3) {
            is_answer(change((dassie_action_t)action, id, UINT_MAX));
        }
    }
    run_all();
    for (int action = DASSIE_CANCEL; action <= DASSIE_RUN_NOW; action++) {
        is_answer(change((dassie_action_t)action, 0, UINT_MAX));
    }
    cr_kill();
}

static void damaged_closed(unsigned n, enum way way)
{
    damaged_row(n, way, false);
}

static void damaged_open(unsigned n, enum way way)
{
    damaged_row(n, way, true);
}

/* A rebuild refuses it, and says why, or leaves a sound store that opens; a row
 * that can be read, and makes no sense, may stay as it is. */
static void rebuilt(unsigned n, enum way way)
{
    struct rebuild_report done;
    dassie_verify_report_t report;
    cr_kill();
    row_damage(way);
    int rc = dassie__rebuild(rig.base.kv, 2000000, 0, &done, &rig.base.e);
    ck_assert(rc == 0 || rc == DASSIE_ECORRUPT);
    if (rc != 0) {
        ck_assert_str_ne(rig.base.e.text, "");
        return;
    }
    ck_assert_msg(rig_problems(&rig.base, &report) == 0 || way == FILLED,
                  "row %u, way %u: %s", n, way, rig.base.problem);
    CR_OK(cr_try_open());
    run_all();
    cr_kill();
    ck_assert(rig_problems(&rig.base, &report) == 0 || way == FILLED);
}

static void each_row(void (*try)(unsigned n, enum way way), enum way way)
{
    unsigned n = 0;
    for (;; n++) {
        fill();
        if (!row_find(n)) {
            break;
        }
        try(n, way);
        dassie__job_free(rig.damaged);
        rig.damaged = NULL;
        cr_free_all();
    }
    cr_kill();
    cr_free_all();
    ck_assert_uint_gt(n, 30);
}

START_TEST(before_open)
{
    each_row(damaged_closed, (enum way)_i);
}
END_TEST

START_TEST(while_open)
{
    each_row(damaged_open, (enum way)_i);
}
END_TEST

START_TEST(before_rebuild)
{
    each_row(rebuilt, (enum way)_i);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("damage");
    TCase *tc = tcase_create("damage");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, before_open, 0, WAYS);
    tcase_add_loop_test(tc, while_open, 0, WAYS);
    tcase_add_loop_test(tc, before_rebuild, 0, WAYS);
    return cr_run_suite(suite);
}
