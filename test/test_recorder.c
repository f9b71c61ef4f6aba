/* The flight recorder: what a process leaves behind when it dies. A process
 * that dies is one that never closes its recorder. */
#include "config.h"

#include "../lib/alloc.h"
#include "../lib/recorder.h"

#include "temp_dir.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static char dir[TEMP_PATH_BYTES];
static char path[PATH_MAX];
static uint8_t boot = 1;
static struct errmsg error;

static void fake_boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memset(id, boot, BOOT_ID_BYTES);
}

static bool copies;

static bool fake_copies_on_write(int fd)
{
    (void)fd;
    return copies;
}

static void setup(void)
{
    temp_dir_make(dir);
    temp_path(path, dir, "inflight");
    boot = 1;
    dassie__env.boot_id = fake_boot_id;
    dassie__env.copies_on_write = fake_copies_on_write;
}

static void setup_written(void)
{
    setup();
    copies = true;
}

static void teardown(void)
{
    temp_dir_remove(dir);
}

static struct recorder opened(void)
{
    struct recorder r;
    error.text[0] = '\0';
    ck_assert_msg(dassie__recorder_open(&r, path, &error) == 0, "%s",
                  error.text);
    return r;
}

static void begin(struct recorder *r, bool unsynced)
{
    ck_assert_int_eq(dassie__recorder_begin(r, unsynced, &error), 0);
}

/* The owner dies: its memory goes, the file stays. */
static void die(struct recorder *r)
{
    if (r->unmapped) {
        dassie__free(r->page);
    } else {
        ck_assert_int_eq(munmap(r->page, r->bytes), 0);
    }
    close(r->fd);
    r->fd = -1;
    r->page = NULL;
    dassie__recorder_close(r, false);
}

/* A recorder whose owner died with four jobs in each way of being claimed. */
static void leave(void)
{
    struct recorder r = opened();
    begin(&r, false);
    dassie__recorder_take(&r, 10, 1);
    recorder_executing(&r, dassie__recorder_take(&r, 20, 2));
    uint32_t slot = dassie__recorder_take(&r, 30, 3);
    recorder_alone(&r, slot, true);
    recorder_executing(&r, slot);
    slot = dassie__recorder_take(&r, 40, 4);
    recorder_executing(&r, slot);
    recorder_ended(&r, slot);
    dassie__recorder_release(&r, dassie__recorder_take(&r, 50, 5));
    die(&r);
}

static void all_unknown(const struct recorder *r)
{
    for (uint64_t id = 10; id <= 50; id += 10) {
        ck_assert_int_eq(dassie__recorder_found(r, id, (uint32_t)id / 10),
                         FOUND_UNKNOWN);
    }
}

static void patch(off_t at, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, len, at), (ssize_t)len);
    close(fd);
}

/* ---- In memory ---- */

START_TEST(memory_slots)
{
    struct recorder r;
    static bool taken[DASSIE_CLAIMED_MAX];
    memset(taken, 0, sizeof taken);
    ck_assert_int_eq(dassie__recorder_open(&r, NULL, &error), 0);
    ck_assert(!r.valid);
    ck_assert(!r.power_cut);
    ck_assert_int_eq(dassie__recorder_found(&r, 1, 1), FOUND_UNKNOWN);
    begin(&r, false);
    ck_assert_uint_eq(r.free_n, DASSIE_CLAIMED_MAX);
    for (uint32_t i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        uint32_t slot = dassie__recorder_take(&r, i + 1, 1);
        if (slot >= DASSIE_CLAIMED_MAX || taken[slot]) {
            ck_abort_msg("slot %u, taken for %u", slot, i);
        }
        taken[slot] = true;
    }
    ck_assert_uint_eq(dassie__recorder_take(&r, 99, 1), UINT32_MAX);
    dassie__recorder_release(&r, 77);
    dassie__recorder_release(&r, 78);
    ck_assert_uint_eq(r.free_n, 2);
    ck_assert_uint_eq(dassie__recorder_take(&r, 99, 1), 78);
    ck_assert_uint_eq(dassie__recorder_take(&r, 99, 1), 77);
    ck_assert_uint_eq(dassie__recorder_take(&r, 99, 1), UINT32_MAX);
    dassie__recorder_close(&r, true);
    ck_assert_ptr_null(r.page);
}
END_TEST

/* Few pages are touched: the lowest slots go first. */
START_TEST(low_slots_first)
{
    struct recorder r;
    ck_assert_int_eq(dassie__recorder_open(&r, NULL, &error), 0);
    begin(&r, false);
    ck_assert_uint_eq(dassie__recorder_take(&r, 5, 1), 0);
    ck_assert_uint_eq(dassie__recorder_take(&r, 6, 1), 1);
    dassie__recorder_release(&r, 0);
    ck_assert_uint_eq(dassie__recorder_take(&r, 7, 1), 0);
    dassie__recorder_close(&r, true);
}
END_TEST

/* A slot that is taken again says nothing of the job before. */
START_TEST(slot_starts_afresh)
{
    struct recorder r = opened();
    begin(&r, false);
    uint32_t slot = dassie__recorder_take(&r, 5, 1);
    recorder_alone(&r, slot, true);
    recorder_executing(&r, slot);
    dassie__recorder_release(&r, slot);
    ck_assert_uint_eq(dassie__recorder_take(&r, 6, 1), slot);
    die(&r);
    r = opened();
    ck_assert_int_eq(dassie__recorder_found(&r, 6, 1), FOUND_NOT_STARTED);
    ck_assert_int_eq(dassie__recorder_found(&r, 5, 1), FOUND_UNKNOWN);
    dassie__recorder_close(&r, false);
}
END_TEST

/* ---- On file ---- */

START_TEST(fresh_file)
{
    struct recorder r = opened();
    struct stat st;
    ck_assert(!r.valid);
    ck_assert(!r.clean);
    ck_assert(!r.power_cut);
    all_unknown(&r);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq((size_t)st.st_size, r.bytes);
    ck_assert_uint_ge((size_t)st.st_blocks * 512, r.bytes);
    dassie__recorder_close(&r, false);
}
END_TEST

START_TEST(death)
{
    leave();
    struct recorder r = opened();
    ck_assert(r.valid);
    ck_assert(!r.clean);
    ck_assert(!r.power_cut);
    ck_assert_int_eq(dassie__recorder_found(&r, 10, 1), FOUND_NOT_STARTED);
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 2), FOUND_EXECUTING);
    ck_assert_int_eq(dassie__recorder_found(&r, 30, 3), FOUND_ALONE);
    ck_assert_int_eq(dassie__recorder_found(&r, 40, 4), FOUND_ENDED);
    ck_assert_int_eq(dassie__recorder_found(&r, 50, 5), FOUND_UNKNOWN);
    /* Another attempt, or another job. */
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 1), FOUND_UNKNOWN);
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 3), FOUND_UNKNOWN);
    ck_assert_int_eq(dassie__recorder_found(&r, 11, 1), FOUND_UNKNOWN);
    dassie__recorder_close(&r, false);
}
END_TEST

/* Nothing is forgotten before recovery is committed, all of it after. */
START_TEST(death_in_recovery)
{
    leave();
    struct recorder r = opened();
    die(&r);
    r = opened();
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 2), FOUND_EXECUTING);
    begin(&r, false);
    /* What was found stays readable, but is not on file any more. */
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 2), FOUND_EXECUTING);
    die(&r);
    r = opened();
    ck_assert(r.valid);
    all_unknown(&r);
    dassie__recorder_close(&r, false);
}
END_TEST

START_TEST(clean_close)
{
    struct recorder r = opened();
    begin(&r, true);
    dassie__recorder_close(&r, true);
    r = opened();
    ck_assert(r.clean);
    ck_assert(r.was_unsynced);
    begin(&r, false);
    die(&r);
    r = opened();
    ck_assert(!r.clean);
    ck_assert(!r.was_unsynced);
    dassie__recorder_close(&r, false);
}
END_TEST

/* An open that fails before it begins leaves the last owner's word. */
START_TEST(clean_after_failed_open)
{
    struct recorder r = opened();
    begin(&r, true);
    dassie__recorder_close(&r, true);
    r = opened();
    dassie__recorder_close(&r, false);
    r = opened();
    ck_assert(r.clean);
    dassie__recorder_close(&r, false);
}
END_TEST

START_TEST(power_cut)
{
    struct recorder r = opened();
    begin(&r, true);
    recorder_executing(&r, dassie__recorder_take(&r, 20, 2));
    die(&r);
    boot = 2;
    r = opened();
    ck_assert(!r.valid);
    ck_assert(r.power_cut);
    ck_assert(r.was_unsynced);
    all_unknown(&r);
    begin(&r, false);
    recorder_executing(&r, dassie__recorder_take(&r, 20, 2));
    die(&r);
    r = opened();
    ck_assert(!r.power_cut);
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 2), FOUND_EXECUTING);
    dassie__recorder_close(&r, false);
}
END_TEST

/* A machine that does not know its boot id cannot tell a power cut. */
START_TEST(unknown_boot_id)
{
    boot = 0;
    leave();
    struct recorder r = opened();
    ck_assert(!r.valid);
    ck_assert(r.power_cut);
    all_unknown(&r);
    dassie__recorder_close(&r, false);
}
END_TEST

/* ---- Damage ---- */

START_TEST(zeroed)
{
    static const uint8_t zeros[4096];
    leave();
    patch(0, zeros, sizeof zeros);
    struct recorder r = opened();
    ck_assert(!r.valid);
    all_unknown(&r);
    dassie__recorder_close(&r, false);
}
END_TEST

START_TEST(other_head)
{
    static const struct {
        off_t at;
        const char *bytes;
    } patches[] = {{0, "GARBAGE"},
                   {offsetof(struct recorder_page, slots), "\1\1\1\1"}};
    leave();
    patch(patches[_i].at, patches[_i].bytes, strlen(patches[_i].bytes));
    struct recorder r = opened();
    ck_assert(!r.valid);
    ck_assert(!r.clean);
    all_unknown(&r);
    begin(&r, false);
    die(&r);
    r = opened();
    ck_assert(r.valid);
    dassie__recorder_close(&r, false);
}
END_TEST

/* Whatever stands in the slots, each is one of the cases, and none is read from
 * beyond the page. */
START_TEST(garbage_slots)
{
    static uint8_t garbage[sizeof(struct recorder_slot) * DASSIE_CLAIMED_MAX];
    leave();
    for (size_t i = 0; i < sizeof garbage; i++) {
        garbage[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    patch(offsetof(struct recorder_page, slot), garbage, sizeof garbage);
    struct recorder r = opened();
    ck_assert(r.valid);
    ck_assert_uint_le(r.last_n, DASSIE_CLAIMED_MAX);
    for (uint32_t i = 0; i < r.last_n; i++) {
        enum found found =
            dassie__recorder_found(&r, r.last[i].id, r.last[i].attempt);
        ck_assert_int_le(found, FOUND_UNKNOWN);
    }
    dassie__recorder_close(&r, false);
}
END_TEST

/* A file that was cut is made whole; what was lost is unknown. */
/* Whichever bit flips: nothing that has begun is taken for unstarted, no job is
 * blamed alone, and the others are told of as they were. */
START_TEST(flipped)
{
    static const uint64_t executing = 20, alone = 30, ended = 40;
    const size_t bits = 5 * 8 * sizeof(struct recorder_slot);
    for (size_t bit = 0; bit < bits; bit++) {
        leave();
        struct recorder r = opened();
        uint8_t *slots = (uint8_t *)r.page->slot;
        slots[bit / 8] ^= (uint8_t)(1 << bit % 8);
        die(&r);
        r = opened();
        enum found found[] = {dassie__recorder_found(&r, executing, 2),
                              dassie__recorder_found(&r, alone, 3),
                              dassie__recorder_found(&r, ended, 4)};
        ck_assert(found[0] == FOUND_EXECUTING || found[0] == FOUND_UNKNOWN);
        ck_assert(found[1] == FOUND_ALONE || found[1] == FOUND_EXECUTING ||
                  found[1] == FOUND_UNKNOWN);
        ck_assert(found[2] == FOUND_ENDED || found[2] == FOUND_UNKNOWN);
        ck_assert_int_le((found[0] != FOUND_EXECUTING) +
                             (found[1] != FOUND_ALONE) +
                             (found[2] != FOUND_ENDED),
                         1);
        die(&r);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

/* A slot that a flipped bit makes one more of a job that is executing. */
START_TEST(doubled)
{
    struct recorder r = opened();
    begin(&r, false);
    recorder_executing(&r, dassie__recorder_take(&r, 6, 1));
    uint32_t slot = dassie__recorder_take(&r, 7, 1);
    uint64_t other = 7 ^ 1;
    die(&r);
    patch((off_t)(sizeof *r.page + slot * sizeof r.page->slot[0]), &other,
          sizeof other);
    r = opened();
    ck_assert_int_eq(dassie__recorder_found(&r, 6, 1), FOUND_UNKNOWN);
    ck_assert_int_eq(dassie__recorder_found(&r, 7, 1), FOUND_UNKNOWN);
    die(&r);
}
END_TEST

START_TEST(cut)
{
    leave();
    off_t kept = (off_t)(offsetof(struct recorder_page, slot) +
                         2 * sizeof(struct recorder_slot));
    ck_assert_int_eq(truncate(path, kept), 0);
    struct recorder r = opened();
    ck_assert_int_eq(dassie__recorder_found(&r, 10, 1), FOUND_NOT_STARTED);
    ck_assert_int_eq(dassie__recorder_found(&r, 20, 2), FOUND_EXECUTING);
    ck_assert_int_eq(dassie__recorder_found(&r, 30, 3), FOUND_UNKNOWN);
    begin(&r, false);
    for (uint32_t i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        ck_assert_uint_ne(dassie__recorder_take(&r, 1, 1), UINT32_MAX);
    }
    dassie__recorder_close(&r, true);
}
END_TEST

START_TEST(too_long)
{
    struct stat st;
    leave();
    ck_assert_int_eq(truncate(path, 1 << 21), 0);
    struct recorder r = opened();
    ck_assert_int_eq(dassie__recorder_found(&r, 30, 3), FOUND_ALONE);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq((size_t)st.st_size, r.bytes);
    dassie__recorder_close(&r, false);
}
END_TEST

START_TEST(refused)
{
    struct recorder r;
    char missing[PATH_MAX];
    temp_path(missing, dir, "nowhere/inflight");
    ck_assert_int_eq(dassie__recorder_open(&r, missing, &error), UV_ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, "inflight"));
    ck_assert_int_eq(dassie__recorder_open(&r, dir, &error), UV_EISDIR);
}
END_TEST

/* All of it where the file is mapped, and where it is written. */
static TCase *recorder_case(const char *name, void (*set_up)(void))
{
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, set_up, teardown);
    tcase_add_test(tc, memory_slots);
    tcase_add_test(tc, low_slots_first);
    tcase_add_test(tc, slot_starts_afresh);
    tcase_add_test(tc, fresh_file);
    tcase_add_test(tc, death);
    tcase_add_test(tc, death_in_recovery);
    tcase_add_test(tc, clean_close);
    tcase_add_test(tc, clean_after_failed_open);
    tcase_add_test(tc, power_cut);
    tcase_add_test(tc, unknown_boot_id);
    tcase_add_test(tc, zeroed);
    tcase_add_loop_test(tc, other_head, 0, 2);
    tcase_add_test(tc, garbage_slots);
    tcase_add_test(tc, flipped);
    tcase_add_test(tc, doubled);
    tcase_add_test(tc, cut);
    tcase_add_test(tc, too_long);
    tcase_add_test(tc, refused);
    return tc;
}

static Suite *recorder_suite(void)
{
    Suite *suite = suite_create("recorder");
    suite_add_tcase(suite, recorder_case("mapped", setup));
    suite_add_tcase(suite, recorder_case("written", setup_written));
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(recorder_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
