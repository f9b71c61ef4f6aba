/* A table in which one bit is another: what RocksDB does with it never ends the
 * process, and is told. */
#define _GNU_SOURCE /* memmem */
#include "config.h"

#include "../lib/kv_mem.h"
#include "../lib/kv_rocks.h"
#include "../lib/salvage_rows.h"
#include "../lib/table.h"
#include "../lib/varint.h"
#include "temp_dir.h"

#include <dassie.h>
#include <dirent.h>
#include <fcntl.h>

#define ROWS 40u
#define END_BYTES 400

/* A table's last bytes, and those of them that say where its blocks are. */
#define FOOTER_BYTES 53
#define FOOTER_PLACES_BYTES 40

static char dir[TEMP_PATH_BYTES];
static char path[PATH_MAX]; /* of the table */
static struct kv *kv;
static struct errmsg e;

static int db_open(bool create, bool read_only)
{
    struct kv_rocks_options options = {.dir = dir,
                                       .memory_bytes = 16 << 20,
                                       .create = create,
                                       .read_only = read_only};
    return dassie__kv_rocks_open(&options, &kv, &e);
}

static void find_table(void)
{
    char db[PATH_MAX];
    unsigned n = 0;
    temp_path(db, dir, "db");
    DIR *d = opendir(db);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;) {
        if (strstr(f->d_name, ".sst") != NULL) {
            temp_path(path, db, f->d_name);
            n++;
        }
    }
    closedir(d);
    ck_assert_uint_eq(n, 1);
}

/* Opened again, what the log holds is in a table. */
static void setup(void)
{
    temp_dir_make(dir);
    ck_assert_int_eq(db_open(true, false), 0);
    for (uint8_t i = 0; i < ROWS; i++) {
        kv->ops->put(kv, FAMILY_JOBS, kv_slice(&i, 1), kv_slice(&i, 1));
    }
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    kv->ops->close(kv, true);
    ck_assert_int_eq(db_open(false, false), 0);
    kv->ops->close(kv, true);
    find_table();
}

static void teardown(void)
{
    temp_dir_remove(dir);
}

/* Each is there, or the reader is told. */
static void expect_rows(void)
{
    for (uint8_t i = 0; i < ROWS; i++) {
        struct kv_value value;
        int rc =
            kv->ops->get(kv, NULL, FAMILY_JOBS, kv_slice(&i, 1), &value, &e);
        if (rc != DASSIE_ECORRUPT) {
            ck_assert_int_eq(rc, 0);
            ck_assert_uint_eq(value.len, 1);
            ck_assert_uint_eq(value.p[0], i);
            kv->ops->value_release(&value);
        }
    }
}

static unsigned lost;

static void on_told(void *arg, const char *line)
{
    (void)arg;
    lost += strstr(line, ".sst is lost: the properties of") != NULL;
}

/* It opens each table in other ways. */
static void salvage(void)
{
    char work[PATH_MAX];
    char db[PATH_MAX];
    temp_path(db, dir, "db");
    temp_path(work, dir, "work");
    ck_assert_int_eq(mkdir(work, 0755), 0);
    struct salvage_rows rows = {.db = db,
                                .work = work,
                                .memory_bytes = 16 << 20,
                                .to = dassie__kv_mem_new(),
                                .tell = on_told,
                                .e = &e};
    ck_assert_msg(dassie__salvage_rows(&rows) == 0, "%s", e.text);
    dassie__kv_mem_free(rows.to);
    ck_assert_int_eq(dassie__remove_all(work), 0);
}

/* The highest bit of each byte at the end, from within the properties: one of
 * them is looked at before the sum is. */
START_TEST(any_byte)
{
    struct stat st;
    unsigned opened = 0;
    unsigned refused = 0;
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t at = st.st_size - END_BYTES; at < st.st_size; at++) {
        uint8_t was;
        ck_assert_int_eq(pread(fd, &was, 1, at), 1);
        uint8_t now = was ^ 0x80;
        ck_assert_int_eq(pwrite(fd, &now, 1, at), 1);
        int rc = db_open(false, true);
        if (rc == 0) {
            expect_rows();
            kv->ops->close(kv, false);
            opened++;
        } else {
            ck_assert_int_eq(rc, DASSIE_ECORRUPT);
            refused++;
        }
        if (strstr(e.text, "the properties of") != NULL) {
            salvage();
            e.text[0] = '\0';
        }
        ck_assert_int_eq(pwrite(fd, &was, 1, at), 1);
    }
    close(fd);
    ck_assert_uint_eq(lost, 1);
    ck_assert_uint_gt(refused, opened);
}
END_TEST

/* What does not lead to the properties is for RocksDB to tell of. */
static void expect_refused_by_rocksdb(const uint8_t *bytes, size_t len)
{
    char db[PATH_MAX];
    temp_path(db, dir, "db");
    int fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
    ck_assert_int_eq(dassie__tables_check(db, &e), 0);
    ck_assert_int_lt(db_open(false, true), 0);
}

/* Its end says that the list of blocks is there. */
static void list_place(uint8_t *end, uint64_t at, uint64_t len)
{
    uint8_t *p = end - FOOTER_BYTES + 1;
    memset(p, 0, FOOTER_PLACES_BYTES);
    varint_put(varint_put(p, at), len);
}

START_TEST(no_properties)
{
    static const char name[] = "rocksdb.properties";
    static uint8_t bytes[16384];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof bytes);
    close(fd);
    ck_assert(n > FOOTER_BYTES && n < (ssize_t)sizeof bytes);
    size_t len = (size_t)n;
    uint8_t *end = bytes + len;
    struct part_reader r = {end - FOOTER_BYTES + 1, end};
    uint64_t list;
    ck_assert_int_eq(varint_get(&r, &list), 0);
    uint8_t *found = memmem(bytes + list, len - list, name, sizeof name - 1);
    ck_assert_ptr_nonnull(found);
    uint64_t to = (uint64_t)(found - bytes) + sizeof name - 1 - list;
    expect_refused_by_rocksdb(bytes, 0);
    expect_refused_by_rocksdb(bytes, FOOTER_BYTES - 1);
    for (uint64_t i = 0; i < 3; i++) { /* it ends within their place */
        list_place(end, list, to + i);
        expect_refused_by_rocksdb(bytes, len);
    }
    list_place(end, list, to - 1);
    expect_refused_by_rocksdb(bytes, len);
    list_place(end, len, 16);
    expect_refused_by_rocksdb(bytes, len);
    list_place(end, UINT64_MAX, 16);
    expect_refused_by_rocksdb(bytes, len);
    list_place(end, list, UINT64_MAX);
    expect_refused_by_rocksdb(bytes, len);
    memset(end - FOOTER_BYTES + 2, 0xff, FOOTER_PLACES_BYTES - 1);
    expect_refused_by_rocksdb(bytes, len);
    end[1 - FOOTER_BYTES] = 0;
    expect_refused_by_rocksdb(bytes, len);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(db_open(false, true), DASSIE_ECORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("table");
    TCase *tc = tcase_create("table");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, any_byte);
    tcase_add_test(tc, no_properties);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
