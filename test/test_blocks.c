/* Tables below the first level, of several to a family, one of which has a bad
 * block: the first one behind a border of two files, where RocksDB 7.8.3 loses
 * the error of a read that heeds range deletions, and takes the rest of the
 * level for its end. Whoever reads has to tell, or find everything. */
#include "config.h"

#include "../lib/change.h"
#include "core_rig.h"

#include <rocksdb/c.h>

#define JOBS 200

/* ---- A store ---- */

static void end_jobs(struct dassie__processor *p, int status)
{
    job_t *job;
    for (int i = 0; i < JOBS; i++) {
        cr_put_job(cr_job("ended", 0, 0, 40));
    }
    cr_step();
    while ((job = cr_start(p)) != NULL) {
        cr_end(job, status);
    }
    cr_commit();
}

static void put_pending(void)
{
    cr_put_job(cr_job("pending", 0, 0, 40));
}

static void put_later(uint64_t due_ms)
{
    struct job_row row = {.name = "later", .name_len = 5};
    row.options.number[JOB_DUE] = due_ms;
    cr_put_job(cr_job_of("later", &row));
}

static void fill(void)
{
    cr_setup(RIG_ROCKS);
    struct dassie__processor *p = cr_processor("ended", JOBS, CR_ASYNC);
    end_jobs(p, 0);
    end_jobs(p, UV_EIO);
    for (int i = 0; i < JOBS; i++) {
        put_pending();
    }
    cr_commit();
    for (int i = 0; i < JOBS; i++) {
        put_later(core->wall_ms + 5000 + (uint64_t)i);
    }
    cr_commit();
    cr_close();
}

/* ---- Tables ---- */

struct table {
    char path[PATH_MAX];
    char family[16];
    int level;
    uint64_t key; /* as far as it can be compared */
};

static struct table tables[512];
static int tables_n;

static int table_cmp(const void *a, const void *b)
{
    const struct table *x = a;
    const struct table *y = b;
    int d = strcmp(x->family, y->family);
    return d != 0 ? d : (x->key > y->key) - (x->key < y->key);
}

static void tables_list(rocksdb_t *db)
{
    const rocksdb_livefiles_t *files = rocksdb_livefiles(db);
    tables_n = rocksdb_livefiles_count(files);
    ck_assert_int_lt(tables_n, 512);
    for (int i = 0; i < tables_n; i++) {
        struct table *t = &tables[i];
        size_t len;
        uint8_t last[8] = {0};
        const char *key = rocksdb_livefiles_smallestkey(files, i, &len);
        snprintf(t->path, sizeof t->path, "%s/db%s", rig.base.dir,
                 rocksdb_livefiles_name(files, i));
        snprintf(t->family, sizeof t->family, "%s",
                 rocksdb_livefiles_column_family_name(files, i));
        t->level = rocksdb_livefiles_level(files, i);
        ck_assert_uint_ge(len, 1);
        size_t skip = len == KEY_PENDING_BYTES ? len - 8 : 0;
        memcpy(last, key + skip, len - skip < 8 ? len - skip : 8);
        t->key = get_be64(last);
    }
    rocksdb_livefiles_destroy(files);
    qsort(tables, (size_t)tables_n, sizeof tables[0], table_cmp);
}

/* The database is compacted into many small tables of small blocks. */
static void reshape(void)
{
    char path[PATH_MAX];
    char *text = NULL;
    rocksdb_column_family_handle_t *family[FAMILIES];
    const rocksdb_options_t *each[FAMILIES];
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *blocks =
        rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(blocks, 256);
    rocksdb_options_set_block_based_table_factory(o, blocks);
    rocksdb_options_set_target_file_size_base(o, 1024);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    for (int i = 0; i < FAMILIES; i++) {
        each[i] = o;
    }
    temp_path(path, rig.base.dir, "db");
    rocksdb_t *db = rocksdb_open_column_families(
        o, path, FAMILIES, dassie__family_names, each, family, &text);
    ck_assert_ptr_null(text);
    rocksdb_compactoptions_t *all = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_bottommost_level_compaction(all, 2); /* force */
    for (int i = 0; i < FAMILIES; i++) {
        rocksdb_compact_range_cf_opt(db, family[i], all, NULL, 0, NULL, 0);
    }
    rocksdb_compactoptions_destroy(all);
    tables_list(db);
    for (int i = 0; i < FAMILIES; i++) {
        rocksdb_column_family_handle_destroy(family[i]);
    }
    rocksdb_close(db);
    rocksdb_block_based_options_destroy(blocks);
    rocksdb_options_destroy(o);
}

/* Flips a bit of its first block; once more puts it right. */
static void flip(const struct table *t)
{
    FILE *file = fopen(t->path, "r+");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 5, SEEK_SET), 0);
    int c = fgetc(file);
    ck_assert_int_eq(fseek(file, 5, SEEK_SET), 0);
    ck_assert_int_eq(fputc(c ^ 0x10, file), c ^ 0x10);
    ck_assert_int_eq(fclose(file), 0);
}

/* ---- Everything that reads ---- */

/* How many jobs are listed, or an error. */
static int list(dassie_state_t state)
{
    uint64_t cursor[3] = {0};
    bool more = true;
    int rc = 0;
    int n = 0;
    while (rc == 0 && more) {
        struct look *l = dassie__look_new(LOOK_LIST, NULL);
        l->state = state;
        l->limit = 64;
        memcpy(l->cursor, cursor, sizeof cursor);
        if (dassie__look_capture(l, core)) {
            dassie__look_run(l);
        }
        rc = l->status;
        n += (int)l->n;
        more = l->more;
        memcpy(cursor, l->cursor, sizeof cursor);
        dassie__look_free(l);
    }
    return rc == 0 ? n : rc;
}

static int lists_told; /* and how many answers were complete */
static int lists_whole;

static void list_all(const struct table *t)
{
    static const dassie_state_t states[] = {DASSIE_COMPLETE, DASSIE_FAILED,
                                            DASSIE_PENDING, DASSIE_SCHEDULED};
    for (int i = 0; i < 4; i++) {
        int n = list(states[i]);
        ck_assert_msg(n == JOBS || n == DASSIE_ECORRUPT,
                      "%s, level %d, from %llu: %d of state %d", t->family,
                      t->level, (unsigned long long)t->key, n, states[i]);
        lists_told += n != JOBS;
        lists_whole += n == JOBS;
    }
}

static void write_batch(void)
{
    CR_OK(dassie__store_commit(&core->store, core->wall_ms, &rig.base.e));
    dassie__core_committed(core);
}

/* All that is due comes, or it is told; one more is due long after. */
static void promote_all(const struct table *t)
{
    put_later(core->wall_ms + 1000000);
    write_batch();
    core->wall_ms += 100000;
    for (int steps = 0; core->promote_error == 0 &&
                        dassie__schedule_due(&core->store) <= core->wall_ms;
         steps++) {
        ck_assert_int_lt(steps, 100);
        dassie__core_promote(core);
        write_batch();
    }
    ck_assert_msg(
        core->promote_error != 0 || core->store.queues.tally.scheduled == 1,
        "%s from %llu", t->family, (unsigned long long)t->key);
}

/* Each waiting job is run, or it is told; one more came after the damage. */
static void run_all(const struct table *t)
{
    struct dassie__processor *p = cr_processor("pending", 2 * JOBS, CR_ASYNC);
    job_t *job;
    int n = 0;
    put_pending();
    write_batch();
    dassie__core_dispatch(core);
    write_batch();
    while (core->starting != NULL) {
        core->starting = core->starting->starting_next;
    }
    job_list_append(&p->runq, &p->starting);
    while ((job = cr_start(p)) != NULL) {
        cr_end(job, 0);
        n++;
    }
    ck_assert_msg(n == JOBS + 1 || core->broken != 0, "%s from %llu: %d",
                  t->family, (unsigned long long)t->key, n);
}

/* Ranges that go have no job within that stays, readable or not. */
static void sweep_all(const struct table *t)
{
    (void)t;
    struct dassie__processor *p = cr_processor("ended", JOBS, CR_ASYNC);
    end_jobs(p, 0);
    core->wall_ms += UINT64_C(40) * 24 * 3600 * 1000;
    for (int steps = 0; core->sweep_error == 0 &&
                        dassie__sweep_due(&core->store) <= core->wall_ms;
         steps++) {
        ck_assert_int_lt(steps, 100);
        dassie__core_sweep(core);
        write_batch();
    }
    ck_assert_uint_gt(core->stats.swept, JOBS);
}

static bool is_read(const char *family)
{
    static const char *const names[] = {"jobs",     "pending", "scheduled",
                                        "complete", "failed",  "history"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], family) == 0) {
            return true;
        }
    }
    return false;
}

/* One after the other is damaged; what was then done to the store stays. */
static int each_table(void (*read)(const struct table *t))
{
    int n = 0;
    rig.damaged = cr_job("", 0, 0, 0); /* so that nothing is to be sound */
    for (int i = 1; i < tables_n; i++) {
        const struct table *t = &tables[i];
        if (t->level == 0 || !is_read(t->family) ||
            strcmp(t->family, tables[i - 1].family) != 0) {
            continue;
        }
        flip(t);
        cr_open();
        read(t);
        cr_kill();
        flip(t);
        n++;
    }
    dassie__job_free(rig.damaged);
    rig.damaged = NULL;
    return n;
}

static void begin(void)
{
    fill();
    reshape();
}

static void end(void)
{
    cr_open();
    cr_teardown();
}

START_TEST(lists)
{
    begin();
    lists_told = lists_whole = 0;
    ck_assert_int_gt(each_table(list_all), 20);
    ck_assert_int_gt(lists_told, 20);
    ck_assert_int_gt(lists_whole, 20);
    end();
}
END_TEST

static const struct table *second_of(const char *family)
{
    for (int i = 1; i < tables_n; i++) {
        if (strcmp(tables[i].family, family) == 0 &&
            strcmp(tables[i - 1].family, family) == 0) {
            return &tables[i];
        }
    }
    ck_abort_msg("no second table of %s", family);
    return NULL;
}

/* As each of these changes the store, one is damaged. */
static void with_damage(const char *family, void (*read)(const struct table *t))
{
    const struct table *t;
    begin();
    t = second_of(family);
    flip(t);
    rig.damaged = cr_job("", 0, 0, 0);
    cr_open();
    read(t);
    cr_kill();
    dassie__job_free(rig.damaged);
    rig.damaged = NULL;
    cr_free_all();
}

START_TEST(promotions)
{
    with_damage("scheduled", promote_all);
}
END_TEST

START_TEST(claims_pending)
{
    with_damage("pending", run_all);
}
END_TEST

START_TEST(claims_jobs)
{
    with_damage("jobs", run_all);
}
END_TEST

START_TEST(sweeps)
{
    const struct table *t = NULL;
    begin();
    for (int i = 1; i < tables_n && t == NULL; i++) {
        bool here = strcmp(tables[i].family, "jobs") == 0 &&
                    tables[i].key == 2 * JOBS + 1;
        t = here ? &tables[i] : NULL;
    }
    ck_assert_msg(t != NULL, "no table begins with the first pending job");
    flip(t);
    rig.damaged = cr_job("", 0, 0, 0);
    cr_open();
    sweep_all(t);
    cr_kill();
    flip(t);
    dassie__job_free(rig.damaged);
    rig.damaged = NULL;
    cr_open(); /* it is sound again */
    cr_tally(JOBS, 0, 0, 0);
    cr_teardown();
}
END_TEST

static void verify_tells(const struct table *t)
{
    dassie_verify_report_t report;
    int rc = dassie__verify_kv(rig.base.kv, NULL, NULL, &report, &rig.base.e);
    ck_assert_msg(rc != 0 || report.problems > 0, "%s from %llu", t->family,
                  (unsigned long long)t->key);
}

START_TEST(verifications)
{
    begin();
    ck_assert_int_gt(each_table(verify_tells), 20);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blocks");
    TCase *tc = tcase_create("blocks");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, lists);
    tcase_add_test(tc, promotions);
    tcase_add_test(tc, claims_pending);
    tcase_add_test(tc, claims_jobs);
    tcase_add_test(tc, sweeps);
    tcase_add_test(tc, verifications);
    return cr_run_suite(suite);
}
