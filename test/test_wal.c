#include "config.h"

#include "../lib/alloc.h"
#include "../lib/kv_mem.h"
#include "../lib/kv_rocks.h"
#include "../lib/salvage_rows.h"
#include "../lib/wal.h"
#include "temp_dir.h"

#include <check.h>
#include <dassie.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A database in a directory of its own, with logs to be damaged. */

#define COMMITS 40u
#define FILES_MAX 64

static char dir[TEMP_PATH_BYTES];
static struct kv *kv;
static struct errmsg e;
static struct wal_check check;
static char log_path[TEMP_PATH_BYTES + 64];
static uint8_t *log_bytes;
static size_t log_len;

static void db_open_as(bool create, bool gaps)
{
    struct kv_rocks_options options = {
        .dir = dir, .memory_bytes = 16 << 20, .create = create, .gaps = gaps};
    int rc = dassie__kv_rocks_open(&options, &kv, &e);
    ck_assert_msg(rc == 0, "%s", e.text);
}

static void db_open(bool create)
{
    db_open_as(create, false);
}

static void db_close(void)
{
    kv->ops->close(kv, false);
}

/* Some of them go over more than one block of the log. */
static void db_fill(uint8_t first)
{
    static char value[40000];
    for (uint8_t i = 0; i < COMMITS; i++) {
        uint8_t key[] = {first, i};
        memset(value, i * 7 + 1, sizeof value);
        size_t len = i % 8 == 5 ? sizeof value : 100u * i;
        kv->ops->put(kv, FAMILY_JOBS, kv_slice(key, 2), kv_slice(value, len));
        kv->ops->put(kv, FAMILY_PENDING, kv_slice(key, 2), kv_slice(value, 1));
        ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    }
}

/* The path of the one file whose name holds text. */
static void find(const char *text, char path[static TEMP_PATH_BYTES + 64])
{
    char db[TEMP_PATH_BYTES + 8];
    int n = 0;
    snprintf(db, sizeof db, "%s/db", dir);
    DIR *d = opendir(db);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;) {
        if (strstr(f->d_name, text) != NULL) {
            snprintf(path, TEMP_PATH_BYTES + 64, "%s/%.60s", db, f->d_name);
            n++;
        }
    }
    closedir(d);
    ck_assert_int_eq(n, 1);
}

static uint8_t *read_all(const char *path, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *len = (size_t)st.st_size;
    return bytes;
}

static void write_all(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static uint64_t mark_read(void)
{
    char path[TEMP_PATH_BYTES + 8];
    size_t len;
    snprintf(path, sizeof path, "%s/hwm", dir);
    uint8_t *bytes = read_all(path, &len);
    ck_assert_uint_eq(len, 8);
    uint64_t mark = get_be64(bytes);
    free(bytes);
    return mark;
}

static void setup(void)
{
    static char db[TEMP_PATH_BYTES + 8];
    temp_dir_make(dir);
    db_open(true);
    db_fill(1);
    db_close();
    snprintf(db, sizeof db, "%s/db", dir);
    find(".log", log_path);
    log_bytes = read_all(log_path, &log_len);
    memset(&check, 0, sizeof check);
    check.dir = db;
    check.mark = mark_read();
    ck_assert_uint_ge(check.mark, 2 * COMMITS);
}

static void teardown(void)
{
    free(log_bytes);
    temp_dir_remove(dir);
}

/* ---- The log ---- */

START_TEST(whole)
{
    ck_assert_msg(dassie__wal_check(&check, &e) == 0, "%s", e.text);
    check.mark++;
    ck_assert_int_eq(dassie__wal_check(&check, &e), DASSIE_ECORRUPT);
}
END_TEST

/* Every bit counts. */
START_TEST(flipped)
{
    unsigned n = 0;
    for (size_t i = 0; i < log_len; i += 1 + i / 300) {
        log_bytes[i] ^= (uint8_t)(1 << i % 8);
        write_all(log_path, log_bytes, log_len);
        ck_assert_msg(dassie__wal_check(&check, &e) == DASSIE_ECORRUPT,
                      "byte %zu", i);
        ck_assert_ptr_nonnull(strstr(e.text, ".log "));
        log_bytes[i] ^= (uint8_t)(1 << i % 8);
        n++;
    }
    ck_assert_uint_gt(n, 500);
}
END_TEST

/* A log that ends early has lost what the mark tells of, and no more. */
START_TEST(cut)
{
    uint64_t mark = check.mark;
    for (size_t len = 0; len < log_len; len += 1 + len / 50) {
        write_all(log_path, log_bytes, len);
        check.mark = mark;
        ck_assert_int_eq(dassie__wal_check(&check, &e), DASSIE_ECORRUPT);
        check.mark = 0;
        ck_assert_msg(dassie__wal_check(&check, &e) == 0, "%s", e.text);
    }
    ck_assert_int_eq(unlink(log_path), 0);
    ck_assert_int_eq(dassie__wal_check(&check, &e), 0);
    check.mark = 1;
    ck_assert_int_eq(dassie__wal_check(&check, &e), DASSIE_ECORRUPT);
}
END_TEST

/* Whatever the mark says, what follows a gap tells of it. */
START_TEST(gap)
{
    memset(log_bytes + 4096, 0, 4096);
    write_all(log_path, log_bytes, log_len);
    check.mark = 0;
    ck_assert_int_eq(dassie__wal_check(&check, &e), DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(e.text, "is lost"));
    check.gaps = true;
    check.mark = mark_read();
    ck_assert_msg(dassie__wal_check(&check, &e) == 0, "%s", e.text);
}
END_TEST

/* Once it was opened in spite of a gap there is none: not even if nothing came
 * back before it, so that RocksDB keeps the log (0), or if the log was not
 * deleted any more (1). */
START_TEST(gap_is_over)
{
    char mark[TEMP_PATH_BYTES + 8];
    snprintf(mark, sizeof mark, "%s/hwm", dir);
    ck_assert_int_eq(unlink(mark), 0); /* nothing was synced */
    memset(log_bytes, 0, 4096);
    write_all(log_path, log_bytes, log_len);
    db_open_as(false, true);
    db_close();
    if (_i == 1) {
        write_all(log_path, log_bytes, log_len);
    }
    db_open(false);
    db_fill(1);
    db_close();
    db_open(false);
    db_close();
}
END_TEST

/* A log in another's place: RocksDB would take its operations twice, and fail
 * an assertion. */
START_TEST(twice)
{
    char path[TEMP_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/000900.log", check.dir);
    write_all(path, log_bytes, log_len);
    for (int gaps = 0; gaps < 2; gaps++) {
        check.gaps = gaps != 0;
        ck_assert_int_eq(dassie__wal_check(&check, &e), DASSIE_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(e.text, "comes again"));
    }
}
END_TEST

/* ---- The database ---- */

/* Which of the files of the database are there. */
static unsigned files_count(void)
{
    unsigned n = 0;
    DIR *d = opendir(check.dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;) {
        n += strstr(f->d_name, ".sst") != NULL ||
             strstr(f->d_name, ".log") != NULL;
    }
    closedir(d);
    return n;
}

static void expect_rows(void)
{
    for (uint8_t i = 0; i < COMMITS; i++) {
        uint8_t key[] = {1, i};
        struct kv_value value;
        int rc =
            kv->ops->get(kv, NULL, FAMILY_JOBS, kv_slice(key, 2), &value, &e);
        ck_assert_msg(rc == 0, "row %d: %d", i, rc);
        kv->ops->value_release(&value);
    }
}

/* CRC-32C, as RocksDB stores it. */
static uint32_t masked_sum(const uint8_t *p, size_t n)
{
    uint32_t sum = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        sum ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78 : 0);
        }
    }
    sum = ~sum;
    return (sum >> 15 | sum << 17) + 0xa282ead8;
}

/* Appends a record of n bytes that says nothing. */
static size_t put_record(uint8_t *p, size_t n)
{
    static const uint8_t tag[] = {0x81, 0x40}; /* any reader may pass it */
    size_t data = n - 7 - 4;
    memset(p, 7, n);
    p[4] = (uint8_t)(n - 7);
    p[5] = (uint8_t)((n - 7) >> 8);
    p[6] = 1;
    memcpy(p + 7, tag, 2);
    p[9] = (uint8_t)(0x80 | (data & 0x7f));
    p[10] = (uint8_t)(data >> 7);
    uint32_t sum = masked_sum(p + 6, n - 6);
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(sum >> 8 * i);
    }
    return n;
}

/* What a newer RocksDB writes is not taken for a torn end. */
START_TEST(newer)
{
    static const struct {
        uint8_t type;
        size_t header;
    } parts[] = {{9, 7}, {10, 7}, {11, 11}, {130, 7}, {131, 11}};
    size_t header = parts[_i].header;
    uint8_t *bytes = calloc(1, log_len + 64);
    memcpy(bytes, log_bytes, log_len);
    uint8_t *p = bytes + log_len;
    p[4] = 20;
    p[6] = parts[_i].type;
    uint32_t sum = masked_sum(p + 6, header - 6 + 20);
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(sum >> 8 * i);
    }
    write_all(log_path, bytes, log_len + header + 20);
    ck_assert_int_eq(dassie__wal_check(&check, &e), UV_ENOTSUP);
    ck_assert_ptr_nonnull(strstr(e.text, ".log: a record of type"));
    p[3] ^= 1; /* but this is */
    write_all(log_path, bytes, log_len + header + 20);
    ck_assert_int_eq(dassie__wal_check(&check, &e), 0);
    free(bytes);
}
END_TEST

/* A power cut may leave some sectors of a record that was never synced, in a
 * file that is long enough for all of it: without the first (0; one byte of the
 * record is in there), the second (1) or the last (2). That is no damage;
 * nothing else is cut off: a flipped bit in this record (3), or in one before
 * (4). */
START_TEST(manifest_torn)
{
    struct kv_rocks_options options = {.dir = dir, .memory_bytes = 16 << 20};
    char path[TEMP_PATH_BYTES + 64];
    size_t len;
    find("MANIFEST-", path);
    uint8_t *there = read_all(path, &len);
    uint8_t *torn = calloc(1, len + 4096);
    memcpy(torn, there, len);
    size_t at = len + put_record(torn + len, 1024 + 511 - len % 512);
    ck_assert_uint_eq(at % 512, 511);
    size_t end = at + put_record(torn + at, 1300);
    switch (_i) {
        case 0:
            ck_assert_int_ne(torn[at], 0);
            torn[at] = 0;
            break;
        case 1:
            memset(torn + at + 1 + 512, 0, 512);
            break;
        case 2:
            memset(torn + at + 1 + 1024, 0, end - at - 1 - 1024);
            break;
        default:
            torn[_i == 3 ? at + 800 : len / 2] ^= 1;
            break;
    }
    write_all(path, torn, end);
    int rc = dassie__kv_rocks_open(&options, &kv, &e);
    ck_assert_int_eq(rc, _i < 3 ? 0 : DASSIE_ECORRUPT);
    if (_i < 3) {
        expect_rows();
        db_close();
    } else {
        free(there);
        there = read_all(path, &len);
        ck_assert_uint_eq(len, end);
    }
    free(torn);
    free(there);
}
END_TEST

/* A MANIFEST that lost its end forgets tables, which a real open would then
 * delete. It is noticed before, wherever the end is, or nothing was in it. */
START_TEST(manifest_cut)
{
    char path[TEMP_PATH_BYTES + 64];
    size_t len;
    unsigned refused = 0;
    db_open(false);
    db_fill(2);
    db_close();
    unsigned files = files_count();
    ck_assert_uint_ge(files, 3);
    find("MANIFEST-", path);
    uint8_t *bytes = read_all(path, &len);
    for (size_t n = 0; n < len; n++) {
        struct kv_rocks_options options = {
            .dir = dir, .memory_bytes = 16 << 20, .read_only = true};
        write_all(path, bytes, n);
        if (dassie__kv_rocks_open(&options, &kv, &e) == 0) {
            expect_rows();
            db_close();
            continue;
        }
        options.read_only = false;
        int rc = dassie__kv_rocks_open(&options, &kv, &e);
        ck_assert_msg(rc == DASSIE_ECORRUPT, "cut at %zu: %d", n, rc);
        ck_assert_uint_eq(files_count(), files);
        refused++;
    }
    ck_assert_uint_gt(refused, len / 2);
    write_all(path, bytes, len);
    free(bytes);
    db_open(false);
    expect_rows();
    db_close();
}
END_TEST

/* A row in each family, the one with the lowest number last. */
static void each_family(void (*try)(enum family family))
{
    for (int family = FAMILIES - 1; family >= 0; family--) {
        try((enum family)family);
    }
}

static const uint8_t last_key[] = {9};

static void put_last(enum family family)
{
    kv->ops->put(kv, family, kv_slice(last_key, 1), kv_slice(last_key, 1));
}

static void expect_last(enum family family)
{
    struct kv_value value;
    int rc = kv->ops->get(kv, NULL, family, kv_slice(last_key, 1), &value, &e);
    ck_assert_msg(rc == 0, "family %d: %d", family, rc);
    kv->ops->value_release(&value);
}

/* What an open recovers from the log goes into a table of each family, and each
 * table into the MANIFEST by itself: the first may reach as far as the last.
 * The log is gone, so nothing goes on behind a gap. */
START_TEST(recovery_cut)
{
    char path[TEMP_PATH_BYTES + 64];
    size_t len;
    unsigned refused = 0;
    db_open(false);
    each_family(put_last);
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    db_close();
    db_open(false);
    db_close();
    check.mark = mark_read();
    unsigned files = files_count();
    find("MANIFEST-", path);
    uint8_t *bytes = read_all(path, &len);
    for (size_t n = 0; n < len; n++) {
        struct kv_rocks_options options = {
            .dir = dir, .memory_bytes = 16 << 20, .read_only = true};
        write_all(path, bytes, n);
        if (dassie__kv_rocks_open(&options, &kv, &e) == 0) {
            expect_rows();
            each_family(expect_last);
            db_close();
            ck_assert(dassie__wal_joins(&check));
            continue;
        }
        options.read_only = false;
        int rc = dassie__kv_rocks_open(&options, &kv, &e);
        ck_assert_msg(rc == DASSIE_ECORRUPT, "cut at %zu: %d", n, rc);
        ck_assert_uint_eq(files_count(), files);
        ck_assert(!dassie__wal_joins(&check));
        refused++;
    }
    ck_assert_uint_gt(refused, len / 2);
    write_all(path, bytes, len);
    free(bytes);
    db_open(false);
    each_family(expect_last);
    db_close();
}
END_TEST

/* A log whose operations are in tables by now, in the place of the one that
 * goes on after them: RocksDB would apply it once more. It is refused before
 * anything changes, so that the right one makes the database whole again. */
START_TEST(log_from_before)
{
    struct kv_rocks_options options = {.dir = dir, .memory_bytes = 16 << 20};
    size_t len;
    db_open(false);
    db_close();
    find(".log", log_path);
    uint8_t *right = read_all(log_path, &len);
    unsigned files = files_count();
    write_all(log_path, log_bytes, log_len);
    for (int gaps = 0; gaps < 2; gaps++) {
        options.gaps = gaps != 0;
        ck_assert_int_eq(dassie__kv_rocks_open(&options, &kv, &e),
                         DASSIE_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(e.text, "not the file that it was"));
        ck_assert_uint_eq(files_count(), files);
    }
    write_all(log_path, right, len);
    free(right);
    db_open(false);
    expect_rows();
    db_close();
}
END_TEST

static unsigned told;

static void on_told(void *arg, const char *line)
{
    (void)arg;
    told += strstr(line, "is another file than it was") != NULL;
}

/* Nor does salvage apply it: rows have changed since. Where it is only not
 * deleted yet (1), there is nothing to tell. */
START_TEST(log_from_before_salvaged)
{
    char work[TEMP_PATH_BYTES + 8];
    struct salvage_rows rows = {.db = check.dir,
                                .work = work,
                                .memory_bytes = 16 << 20,
                                .to = dassie__kv_mem_new(),
                                .tell = on_told,
                                .e = &e};
    char first_path[sizeof log_path];
    struct kv_value value;
    told = 0;
    memcpy(first_path, log_path, sizeof first_path);
    snprintf(work, sizeof work, "%s/work", dir);
    ck_assert_int_eq(mkdir(work, 0755), 0);
    db_open(false);
    uint8_t key[] = {1, 3};
    kv->ops->put(kv, FAMILY_JOBS, kv_slice(key, 2), kv_slice("new", 3));
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    db_close();
    db_open(false);
    db_close();
    rows.mark = mark_read();
    find(".log", log_path);
    write_all(_i == 0 ? log_path : first_path, log_bytes, log_len);
    ck_assert_msg(dassie__salvage_rows(&rows) == 0, "%s", e.text);
    ck_assert_uint_eq(told, _i == 0);
    ck_assert_int_eq(rows.to->ops->get(rows.to, NULL, FAMILY_JOBS,
                                       kv_slice(key, 2), &value, &e),
                     0);
    ck_assert_uint_eq(value.len, 3);
    rows.to->ops->value_release(&value);
    dassie__kv_mem_free(rows.to);
}
END_TEST

/* ---- Records that are whole, with any byte another ---- */

#define RECORD_HEADER 7

/* The next record of one part that is shorter than most: 0, there is none. */
static size_t record_next(const uint8_t *bytes, size_t len, size_t *at,
                          size_t most)
{
    while (*at + RECORD_HEADER < len) {
        const uint8_t *p = bytes + *at;
        size_t n = p[4] | (size_t)p[5] << 8;
        *at += RECORD_HEADER + n;
        if (p[6] == 1 && n < most) {
            return n;
        }
    }
    return 0;
}

/* Writes the file with one byte of a record's changed, and its sum. */
static void record_change(const char *path, uint8_t *bytes, size_t len,
                          size_t record, size_t n, size_t at, uint8_t byte)
{
    uint8_t *p = bytes + record;
    uint8_t was[RECORD_HEADER];
    uint8_t byte_was = p[RECORD_HEADER + at];
    memcpy(was, p, sizeof was);
    p[RECORD_HEADER + at] = byte;
    uint32_t sum = masked_sum(p + 6, n + 1);
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(sum >> 8 * i);
    }
    write_all(path, bytes, len);
    p[RECORD_HEADER + at] = byte_was;
    memcpy(p, was, sizeof was);
}

/* Calls try for each byte of each record, in some ways another. */
static void each_byte(const char *path, size_t most, void (*try)(void))
{
    size_t len;
    size_t n;
    size_t end = 0;
    uint8_t *bytes = read_all(path, &len);
    unsigned tried = 0;
    while ((n = record_next(bytes, len, &end, most)) > 0) {
        size_t record = end - n - RECORD_HEADER;
        for (size_t at = 0; at < n; at++) {
            uint8_t was = bytes[record + RECORD_HEADER + at];
            const uint8_t others[] = {0, 0xff, was ^ 1, was ^ 0x80};
            for (size_t i = 0; i < sizeof others; i++) {
                record_change(path, bytes, len, record, n, at, others[i]);
                try();
                tried++;
            }
        }
    }
    ck_assert_uint_gt(tried, 500);
    free(bytes);
}

/* As each record is whole, none is cut off. */
static void try_manifest(void)
{
    struct manifest m = {.wants_tables = true};
    char path[TEMP_PATH_BYTES + 64];
    struct stat before;
    struct stat after;
    find("MANIFEST-", path);
    ck_assert_int_eq(stat(path, &before), 0);
    ck_assert_int_eq(dassie__manifest_read(check.dir, &m, &e), 0);
    ck_assert_int_eq(m.torn_at, -1);
    dassie__free(m.tables);
    ck_assert_int_eq(dassie__manifest_trim(check.dir, &e), 0);
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(after.st_size, before.st_size);
}

START_TEST(manifest_any_byte)
{
    char path[TEMP_PATH_BYTES + 64];
    db_open(false); /* puts the log into tables, so that it names some */
    db_close();
    find("MANIFEST-", path);
    each_byte(path, SIZE_MAX, try_manifest);
}
END_TEST

static void on_any_told(void *arg, const char *line)
{
    (void)arg;
    (void)line;
    told++;
}

/* One batch at the most is lost, or it is told of more. */
static void try_log(void)
{
    struct salvage_rows rows = {.db = check.dir,
                                .to = dassie__kv_mem_new(),
                                .tell = on_any_told,
                                .e = &e};
    told = 0;
    ck_assert_ptr_nonnull(rows.to);
    ck_assert_int_eq(dassie__salvage_log(&rows), 0);
    if (told == 0) {
        ck_assert_uint_ge(dassie__kv_mem_rows(rows.to, FAMILY_JOBS) + 1,
                          COMMITS);
    }
    dassie__kv_mem_free(rows.to);
}

START_TEST(log_any_byte)
{
    each_byte(log_path, 250, try_log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal");
    TCase *tc = tcase_create("wal");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, whole);
    tcase_add_test(tc, flipped);
    tcase_add_test(tc, cut);
    tcase_add_test(tc, gap);
    tcase_add_test(tc, twice);
    tcase_add_loop_test(tc, gap_is_over, 0, 2);
    tcase_add_test(tc, manifest_cut);
    tcase_add_test(tc, recovery_cut);
    tcase_add_test(tc, log_from_before);
    tcase_add_loop_test(tc, log_from_before_salvaged, 0, 2);
    tcase_add_test(tc, manifest_any_byte);
    tcase_add_test(tc, log_any_byte);
    tcase_add_loop_test(tc, newer, 0, 5);
    tcase_add_loop_test(tc, manifest_torn, 0, 5);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
