/* Opening a store: what is refused, with which error and text, and that
 * nothing is harmed by it; what stands in a damaged store comes back whole or
 * is an error; a store has one owner; a handle says what it cannot do. */
#include "config.h"

#include "queue_rig.h"

#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define NOBODY 65534

static void open_with(dassie_options_t options, int rc)
{
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &options, rig_opened), rc);
}

/* The store is refused with rc and a text, as it is and as one that must be
 * there, and not a byte of it changes. */
static void refused(int rc, const char *text)
{
    char open_path[PATH_MAX + 16];
    bool there = access(rig.path, F_OK) == 0;
    snprintf(open_path, sizeof open_path, "open %.200s", rig.path);
    for (unsigned flags = 0; flags <= DASSIE_NO_CREATE; flags++) {
        uint64_t digest = temp_dir_digest(rig.dir, NULL);
        rig.options.flags = flags;
        ck_assert_int_eq(rig_try_open(), rc);
        const char *message = dassie_errmsg(&rig.q);
        if (rc == UV_ENOENT && flags != 0) {
            text = "no store here";
        }
        ck_assert_msg(strstr(message, text) != NULL, "%s", message);
        ck_assert_msg(strstr(message, open_path) == message, "%s", message);
        rig_close();
        ck_assert_int_eq(access(rig.path, F_OK) == 0, there);
        ck_assert_uint_eq(temp_dir_digest(rig.dir, NULL), digest);
    }
    rig.options.flags = 0;
}

/* ---- Arguments and options ---- */

START_TEST(null_arguments)
{
    dassie_t q = {0};
    ck_assert_int_eq(dassie_init(NULL, &q), UV_EINVAL);
    ck_assert_int_eq(dassie_init(&rig.loop, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_open(NULL, rig.path, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_open(&q, rig.path, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_close(NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_close(&q, NULL), UV_EINVAL);
    ck_assert_str_eq(dassie_errmsg(NULL), "");
    ck_assert_str_eq(dassie_errmsg(&q), "");
    dassie_ref(NULL);
    dassie_unref(NULL);
    dassie_ref(&q);
    dassie_unref(&q);
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_ptr_eq(rig.q.loop, &rig.loop);
    ck_assert_int_eq(dassie_open(&rig.q, NULL, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_open(&rig.q, "", NULL, NULL), UV_EINVAL);
    ck_assert_str_eq(dassie_errmsg(&rig.q), "");
    /* Options and callback are not needed, nor is a loop that stays. */
    dassie_unref(&rig.q);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, NULL, NULL), 0);
    dassie_ref(&rig.q);
    ck_assert_uint_eq(rig_counts().pending, 0);
    rig_close();
}
END_TEST

/* A path that is not absolute is that of a directory that is there no more. */
START_TEST(directory_is_gone)
{
    char gone[PATH_MAX];
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    temp_path(gone, rig.dir, "gone");
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(mkdir(gone, 0755), 0);
    ck_assert_int_eq(chdir(gone), 0);
    ck_assert_int_eq(rmdir(gone), 0);
    int rc = dassie_open(&rig.q, "store", NULL, NULL);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    ck_assert_int_eq(rc, UV_ENOENT);
    rig_close();
}
END_TEST

#define SIZE .size = sizeof(dassie_options_t)

static const dassie_options_t bad_options[] = {
    {.size = 0},
    {.size = sizeof(size_t) - 1},
    {SIZE, .flags = DASSIE_TESTING << 1},
    {SIZE, .flags = DASSIE_READ_ONLY | DASSIE_SALVAGE},
    {SIZE, .flags = UINT_MAX},
    {SIZE, .durability = (dassie_durability_t)2},
    {SIZE, .durability = (dassie_durability_t)-1},
    {SIZE, .commit_delay_ms = 1001},
    {SIZE, .commit_delay_ms = UINT_MAX},
    {SIZE, .max_crashes = -2},
    {SIZE, .max_crashes = INT_MIN},
    {SIZE, .payload_bytes_max = DASSIE_PAYLOAD_BYTES_CEILING + 1},
    {SIZE, .payload_bytes_max = SIZE_MAX},
    {SIZE, .memory_bytes = DASSIE_MEMORY_BYTES_MIN - 1},
    {SIZE, .memory_bytes = 1},
};
#define BAD_OPTIONS ((int)(sizeof bad_options / sizeof bad_options[0]))

/* Nothing has happened then: another try may follow. */
START_TEST(options_out_of_range)
{
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    open_with(bad_options[_i], UV_EINVAL);
    ck_assert_int_eq(access(rig.path, F_OK), -1);
    open_with(rig.options, 0);
    rig_wait(&rig.opened, 1);
    ck_assert_int_eq(rig.status, 0);
    rig_close();
    ck_assert_int_eq(rig.opened, 1);
}
END_TEST

static const dassie_options_t good_options[] = {
    {SIZE},
    {.size = sizeof(size_t)},
    {SIZE, .durability = DASSIE_OFF},
    {SIZE, .commit_delay_ms = 1000},
    {SIZE, .grace_ms = UINT_MAX, .suspect_ms = UINT_MAX},
    {SIZE, .max_crashes = -1},
    {SIZE, .max_crashes = INT_MAX},
    {SIZE, .payload_bytes_max = 1},
    {SIZE, .inbox_jobs_max = SIZE_MAX, .inbox_bytes_max = SIZE_MAX},
    {SIZE, .free_bytes_min = UINT64_MAX},
};
#define GOOD_OPTIONS ((int)(sizeof good_options / sizeof good_options[0]))

START_TEST(options_at_the_edge)
{
    rig.options = good_options[_i];
    rig_open();
    ck_assert_str_eq(dassie_errmsg(&rig.q), "");
    rig_close();
}
END_TEST

/* What an older program does not know of has its default. */
START_TEST(options_of_an_older_program)
{
    rig.options.size = offsetof(dassie_options_t, payload_bytes_max);
    rig.options.payload_bytes_max = SIZE_MAX;
    rig.options.memory_bytes = 1;
    rig.options.log_cb = (dassie_log_cb)1;
    rig_open();
    rig_enqueue(NULL, "x");
    rig_close();
}
END_TEST

START_TEST(options_of_a_newer_program)
{
    struct {
        dassie_options_t known;
        uint64_t unknown[4];
    } newer = {rig.options, {0, 0, 0, 1}};
    newer.known.size = sizeof newer;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &newer.known, rig_opened),
                     UV_EINVAL);
    newer.unknown[3] = 0;
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &newer.known, rig_opened),
                     0);
    rig_wait(&rig.opened, 1);
    ck_assert_int_eq(rig.status, 0);
    rig_close();
}
END_TEST

START_TEST(opened_before)
{
    rig_open();
    open_with(rig.options, UV_EALREADY);
    rig_close();
    ck_assert_int_eq(rig.opened, 1);
}
END_TEST

/* ---- Paths ---- */

START_TEST(path_too_long)
{
    static char name[PATH_MAX + 1];
    memset(name, 'x', PATH_MAX);
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, name, NULL, NULL), UV_ENAMETOOLONG);
    /* So long a name that its length alone is no error: the system says so. */
    temp_path(rig.path, rig.dir, "");
    memset(rig.path + strlen(rig.path), 'x', NAME_MAX + 1);
    open_with(rig.options, 0);
    rig_wait(&rig.opened, 1);
    ck_assert_int_eq(rig.status, UV_ENAMETOOLONG);
    rig_close();
}
END_TEST

START_TEST(no_directory)
{
    temp_file_write(rig.dir, "store", "x", 1);
    refused(UV_ENOTDIR, "not a directory");
    temp_path(rig.path, rig.dir, "store/below");
    refused(UV_ENOTDIR, "not a directory");
}
END_TEST

START_TEST(no_parent)
{
    temp_path(rig.path, rig.dir, "nowhere/store");
    refused(UV_ENOENT, "no such file");
}
END_TEST

START_TEST(links)
{
    char target[PATH_MAX];
    ck_assert_int_eq(symlink("target", rig.path), 0);
    refused(UV_ENOENT, "no such file");
    temp_path(target, rig.dir, "target");
    ck_assert_int_eq(mkdir(target, 0755), 0);
    rig_open();
    rig_close();
    ck_assert_int_eq(unlink(rig.path), 0);
    ck_assert_int_eq(symlink("store", rig.path), 0);
    refused(UV_ELOOP, "symbolic links");
}
END_TEST

START_TEST(no_create)
{
    rig.options.flags = DASSIE_NO_CREATE;
    ck_assert_int_eq(rig_try_open(), UV_ENOENT);
    rig_close();
    ck_assert_int_eq(access(rig.path, F_OK), -1);
    ck_assert_int_eq(mkdir(rig.path, 0755), 0);
    uint64_t digest = temp_dir_digest(rig.dir, NULL);
    ck_assert_int_eq(rig_try_open(), UV_ENOENT);
    rig_close();
    ck_assert_uint_eq(temp_dir_digest(rig.dir, NULL), digest);
    rig.options.flags = 0;
    rig_open();
    rig_close();
    rig.options.flags = DASSIE_NO_CREATE;
    rig_open();
    rig_close();
}
END_TEST

static int give_away_one(const char *path, const struct stat *st, int type,
                         struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return chown(path, NOBODY, (gid_t)-1);
}

/* Root may write everywhere, so that it becomes somebody else meanwhile. */
START_TEST(not_permitted)
{
    static const char *const names[] = {
        "",          "store",      "store/FORMAT",  "store/db",
        "store/hwm", "store/lock", "store/inflight"};
    char path[PATH_MAX];
    struct stat st;
    bool root = geteuid() == 0;
    temp_path(path, rig.dir, names[_i]);
    rig_open();
    rig_enqueue(NULL, "x");
    rig_close();
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert(!root || nftw(rig.dir, give_away_one, 16, FTW_PHYS) == 0);
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert(!root || seteuid(NOBODY) == 0);
    int status = rig_try_open();
    char message[256];
    snprintf(message, sizeof message, "%s", dassie_errmsg(&rig.q));
    rig_close();
    ck_assert(!root || seteuid(0) == 0);
    ck_assert_int_eq(chmod(path, st.st_mode & 07777), 0);
    ck_assert_msg(status == UV_EACCES, "%d %s", status, message);
    ck_assert_msg(strstr(message, "ermission denied") != NULL, "%s", message);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

/* A parent in which nothing can be made. */
START_TEST(parent_not_writable)
{
    bool root = geteuid() == 0;
    ck_assert_int_eq(chmod(rig.dir, 0555), 0);
    ck_assert(!root || seteuid(NOBODY) == 0);
    int status = rig_try_open();
    rig_close();
    ck_assert(!root || seteuid(0) == 0);
    ck_assert_int_eq(chmod(rig.dir, 0755), 0);
    ck_assert_int_eq(status, UV_EACCES);
}
END_TEST

/* ---- What is not ours ---- */

START_TEST(foreign_directory)
{
    static const char *const names[] = {"thesis.tex", ".hidden", "db",
                                        "CURRENT", "hwm"};
    ck_assert_int_eq(mkdir(rig.path, 0755), 0);
    temp_file_write(rig.path, names[_i], "do not lose me", 14);
    refused(DASSIE_ENOSTORE, names[_i]);
}
END_TEST

START_TEST(other_format)
{
    static const struct {
        const char *text;
        int rc;
    } formats[] = {
        {"dassie 2\n", UV_ENOTSUP},    {"dassie 4294967295\n", UV_ENOTSUP},
        {"dassie 0\n", UV_ENOTSUP},    {"", DASSIE_ENOSTORE},
        {"dassie 1", DASSIE_ENOSTORE}, {"MANIFEST-000004\n", DASSIE_ENOSTORE},
    };
    rig_open();
    rig_enqueue(NULL, "x");
    rig_close();
    temp_file_write(rig.path, "FORMAT", formats[_i].text,
                    strlen(formats[_i].text));
    refused(formats[_i].rc, formats[_i].rc == UV_ENOTSUP ? "format" : "FORMAT");
    temp_file_write(rig.path, "FORMAT", "dassie 1\n", 9);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

/* ---- Damage ---- */

#define FILES_MAX 64

/* The first half of the jobs has been run, and a quarter of them has failed. */
#define JOBS 40
#define JOBS_RUN (JOBS / 2)
#define JOBS_FAILED (JOBS_RUN / 4)
#define JOB_BYTES 300

/* All files of a store, as they were. */
static struct file {
    char path[PATH_MAX];
    char *bytes;
    size_t len;
} files[FILES_MAX];
static int files_n;

static char *file_read(const char *path, size_t len)
{
    char *bytes = malloc(len + 1);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(bytes);
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(bytes, 1, len, file), len);
    fclose(file);
    return bytes;
}

static void file_write(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

static int save_one(const char *path, const struct stat *st, int type,
                    struct FTW *ftw)
{
    (void)ftw;
    if (type == FTW_F) {
        ck_assert_int_lt(files_n, FILES_MAX);
        struct file *file = &files[files_n++];
        snprintf(file->path, sizeof file->path, "%s", path);
        file->len = (size_t)st->st_size;
        file->bytes = file_read(path, file->len);
    }
    return 0;
}

static void store_restore(void)
{
    char db[PATH_MAX];
    temp_dir_remove(rig.path);
    temp_path(db, rig.dir, "store/db");
    ck_assert_int_eq(mkdir(rig.path, 0755), 0);
    ck_assert_int_eq(mkdir(db, 0755), 0);
    for (int i = 0; i < files_n; i++) {
        file_write(files[i].path, files[i].bytes, files[i].len);
    }
}

static void payload(unsigned job, unsigned char bytes[JOB_BYTES])
{
    for (unsigned i = 0; i < JOB_BYTES; i++) {
        bytes[i] = (unsigned char)(((job * 251 + i) * 2654435761U) >> 13);
    }
    bytes[0] = (unsigned char)job;
}

static void enqueue_jobs(unsigned from, unsigned to)
{
    unsigned char bytes[JOB_BYTES];
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    spec.attempts_max = 1;
    spec.data = bytes;
    spec.data_len = sizeof bytes;
    for (unsigned job = from; job < to; job++) {
        payload(job, bytes);
        rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
    }
}

static int fail_some(dassie_job_t *job)
{
    const unsigned char *bytes = dassie_job_data(job, NULL);
    return bytes[0] % (JOBS_RUN / JOBS_FAILED) == 0 ? UV_EIO : 0;
}

/* Makes a store with tables and a log, and remembers its files. */
static void store_make(void)
{
    dassie_processor_t processor;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = fail_some;
    rig_open();
    enqueue_jobs(0, JOBS_RUN);
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
    rig_drain();
    rig_reopen();
    enqueue_jobs(JOBS_RUN, JOBS);
    rig_close();
    files_n = 0;
    ck_assert_int_eq(nftw(rig.path, save_one, 16, FTW_PHYS), 0);
}

static void store_forget(void)
{
    while (files_n > 0) {
        free(files[--files_n].bytes);
    }
}

static bool count_is_full(const dassie_count_t *count)
{
    return count->pending == JOBS - JOBS_RUN && count->running == 0 &&
           count->complete == JOBS_RUN - JOBS_FAILED &&
           count->failed == JOBS_FAILED;
}

static struct {
    int answers;
    int status;
    unsigned seen[JOBS];
} listed;

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    unsigned char bytes[JOB_BYTES];
    (void)req;
    listed.answers++;
    listed.status = status != 0 ? status : listed.status;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(jobs[i].data_len, JOB_BYTES);
        unsigned job = *(const unsigned char *)jobs[i].data;
        ck_assert_uint_lt(job, JOBS);
        payload(job, bytes);
        ck_assert_mem_eq(jobs[i].data, bytes, JOB_BYTES);
        ck_assert_uint_eq(listed.seen[job]++, 0);
    }
}

/* Lists all jobs: 0 when each came once as it was enqueued, or an error. */
static int list_all(void)
{
    static const dassie_state_t states[] = {DASSIE_PENDING, DASSIE_COMPLETE,
                                            DASSIE_FAILED};
    memset(&listed, 0, sizeof listed);
    for (int i = 0; i < 3; i++) {
        dassie_list_t req = {0};
        dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
        options.state = states[i];
        ck_assert_int_eq(dassie_list(&rig.q, &req, &options, on_list), 0);
        rig_wait(&listed.answers, i + 1);
    }
    for (unsigned job = 0; listed.status == 0 && job < JOBS; job++) {
        ck_assert_uint_eq(listed.seen[job], 1);
    }
    return listed.status;
}

static bool is_clear(int status)
{
    return status == DASSIE_ECORRUPT || status == DASSIE_ENOSTORE ||
           status == UV_ENOTSUP;
}

/* Opens what may be damaged: 0 when everything is there. */
static int store_look(const char *what)
{
    dassie_verify_report_t report;
    int status = rig_try_open();
    if (status == 0) {
        dassie_count_t count = rig_counts();
        ck_assert_msg(count_is_full(&count), "%s: jobs are gone", what);
        status = list_all();
    } else {
        ck_assert_msg(strlen(dassie_errmsg(&rig.q)) > strlen("open "), "%s",
                      what);
    }
    ck_assert_msg(status == 0 || is_clear(status), "%s: %d %s", what, status,
                  dassie_errmsg(&rig.q));
    rig_close();
    int rc = dassie_verify(rig.path, NULL, NULL, &report);
    ck_assert_msg(rc == 0 || is_clear(rc), "%s: verify: %d", what, rc);
    if (rc == 0 && report.problems == 0) {
        ck_assert_msg(count_is_full(&report.jobs), "%s: not noticed", what);
    }
    return status;
}

enum damage {
    EMPTY,
    SHORT,
    LONG,
    FIRST,
    LAST,
    ZERO,
    HALF,
    MIDDLE,
    GONE,
    KINDS
};
#define QUICK_KIND HALF /* from here on also in short runs */

static void damage(const struct file *file, enum damage kind)
{
    size_t len = file->len;
    char *bytes = malloc(len + 1);
    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, file->bytes, len);
    bytes[len] = 'x';
    size_t at = kind == FIRST ? 0 : kind == MIDDLE ? len / 2 : len - 1;
    if (kind == ZERO) {
        memset(bytes, 0, len);
    } else if ((kind == FIRST || kind == LAST || kind == MIDDLE) && len > 0) {
        bytes[at] ^= 0x10;
    }
    size_t new_len = kind == EMPTY   ? 0
                     : kind == HALF  ? len / 2
                     : kind == SHORT ? len - (len > 0)
                     : kind == LONG  ? len + 1
                                     : len;
    ck_assert_int_eq(unlink(file->path), 0);
    if (kind != GONE) {
        file_write(file->path, bytes, new_len);
    }
    free(bytes);
}

/* Whatever happens to a file: all jobs are there, or there is an error, again
 * and again, that leaves the other files as good as they were. */
START_TEST(damaged)
{
    char what[PATH_MAX];
    store_make();
    for (int i = 0; i < files_n; i++) {
        snprintf(what, sizeof what, "kind %d of %s", _i,
                 files[i].path + strlen(rig.path));
        store_restore();
        damage(&files[i], (enum damage)_i);
        if (store_look(what) == 0) {
            continue;
        }
        ck_assert_msg(store_look(what) != 0, "%s, again", what);
        file_write(files[i].path, files[i].bytes, files[i].len);
        int status = store_look(what);
        ck_assert_msg(status == 0, "%s, repaired", what);
    }
    store_forget();
}
END_TEST

/* All files, of which the MANIFEST is damaged. */
static void manifest_damage(void)
{
    int at = 0;
    files_n = 0;
    ck_assert_int_eq(nftw(rig.path, save_one, 16, FTW_PHYS), 0);
    while (strstr(files[at].path, "MANIFEST") == NULL) {
        at++;
    }
    damage(&files[at], MIDDLE);
}

static int revival_told;

static void on_salvage(dassie_t *q, dassie_log_level_t level, const char *line)
{
    revival_told += level == DASSIE_LOG_WARNING &&
                    strstr(line, "deleted may be there again") != NULL;
    rig_log(q, level, line);
}

static void on_deleted(dassie_change_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(req->changed, 2);
    ++*(int *)req->data;
}

/* Without a MANIFEST nobody knows which tables belong to the store, and which
 * of them tells of a deletion: what was deleted is there again. That is said.
 */
START_TEST(salvaged_deleted)
{
    int deleted = 0;
    dassie_change_t req = {.data = &deleted};
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.states = DASSIE_IN(DASSIE_PENDING);
    rig_open();
    enqueue_jobs(0, 2);
    rig_reopen(); /* into tables */
    ck_assert_int_eq(
        dassie_change(&rig.q, &req, DASSIE_DELETE, &filter, on_deleted), 0);
    rig_wait(&deleted, 1);
    rig_reopen(); /* into other ones */
    ck_assert_uint_eq(rig_counts().pending, 0);
    rig_close();
    manifest_damage();
    rig.options.flags = DASSIE_SALVAGE;
    rig.options.log_cb = on_salvage;
    revival_told = 0;
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 2);
    ck_assert_int_eq(revival_told, 1);
    rig_close();
    store_forget();
}
END_TEST

static bool is_there(const char *name)
{
    char path[PATH_MAX];
    temp_path(path, rig.path, name);
    return access(path, F_OK) == 0;
}

static void file_put_back(const struct file *file, const char *dir)
{
    char path[PATH_MAX];
    temp_path(path, dir, strrchr(file->path, '/') + 1);
    ck_assert_int_eq(unlink(path), 0);
    file_write(path, file->bytes, file->len);
}

/* With a MANIFEST that is damaged nothing is lost, and the damaged database is
 * kept as it was: with its MANIFEST repaired it is as good as ever. A sound
 * store is left alone. */
START_TEST(salvaged)
{
    char db[PATH_MAX];
    char kept[PATH_MAX];
    int at = 0;
    store_make();
    rig.options.flags = DASSIE_SALVAGE;
    ck_assert_int_eq(store_look("a sound store"), 0);
    ck_assert(!is_there("db.damaged-1") && !is_there("salvage"));
    store_restore();
    while (strstr(files[at].path, "MANIFEST") == NULL) {
        at++;
    }
    damage(&files[at], MIDDLE);
    rig.options.flags = 0;
    ck_assert_int_eq(store_look("damaged"), DASSIE_ECORRUPT);
    rig.options.flags = DASSIE_SALVAGE;
    ck_assert_int_eq(store_look("salvaged"), 0);
    ck_assert(is_there("db.damaged-1") && !is_there("salvage"));
    ck_assert_int_eq(store_look("salvaged again"), 0);
    ck_assert(!is_there("db.damaged-2"));
    temp_path(db, rig.path, "db");
    temp_path(kept, rig.path, "db.damaged-1");
    file_put_back(&files[at], kept);
    temp_dir_remove(db);
    ck_assert_int_eq(rename(kept, db), 0);
    temp_path(kept, db, "hwm");
    temp_path(db, rig.path, "hwm");
    ck_assert_int_eq(rename(kept, db), 0);
    rig.options.flags = 0;
    ck_assert_int_eq(store_look("the damaged one, repaired"), 0);
    store_forget();
}
END_TEST

/* A salvage that was interrupted, with the damaged database on its way. */
START_TEST(salvage_interrupted)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    store_make();
    temp_path(to, rig.path, "salvage");
    ck_assert_int_eq(mkdir(to, 0755), 0);
    temp_path(to, rig.path, "salvage/db");
    ck_assert_int_eq(mkdir(to, 0755), 0);
    temp_path(from, rig.path, "salvage/db/hwm");
    file_write(from, "12345678", 8);
    rig.options.flags = DASSIE_SALVAGE;
    ck_assert_int_eq(store_look("begun again"), 0);
    ck_assert(is_there("db.damaged-1/hwm") && !is_there("salvage"));
    ck_assert_int_eq(mkdir(to, 0755) == 0 || errno == ENOENT, 1);
    temp_path(to, rig.path, "salvage");
    ck_assert_int_eq(mkdir(to, 0755), 0);
    ck_assert_int_eq(store_look("half made"), 0);
    ck_assert(!is_there("db.damaged-2") && !is_there("salvage"));
    store_forget();
}
END_TEST

/* Without its mark a store is as sound as its log says. */
START_TEST(no_mark)
{
    char path[PATH_MAX];
    store_make();
    temp_path(path, rig.path, "hwm");
    ck_assert_int_eq(unlink(path), 0);
    dassie_verify_report_t report = rig_verify();
    ck_assert(count_is_full(&report.jobs));
    rig.options.flags = DASSIE_READ_ONLY;
    ck_assert_int_eq(store_look("read only"), 0);
    ck_assert(!is_there("hwm"));
    store_forget();
}
END_TEST

/* ---- The system's limits ---- */

/* The store cannot be opened with only so many files, or with files only so
 * long; then it is as it was. */
static void opened_in_the_end(int resource, int error, rlim_t from, rlim_t step)
{
    struct rlimit old;
    int refusals = 0;
    int status;
    store_make();
    ck_assert_int_eq(getrlimit(resource, &old), 0);
    do {
        struct rlimit tight = {from + step * (rlim_t)refusals, old.rlim_max};
        ck_assert_int_lt(refusals, 1000);
        ck_assert_int_eq(setrlimit(resource, &tight), 0);
        status = rig_try_open();
        ck_assert_int_eq(setrlimit(resource, &old), 0);
        ck_assert_msg(status == 0 || status == error, "%d %s", status,
                      dassie_errmsg(&rig.q));
        refusals += status != 0;
        rig_close();
    } while (status != 0);
    ck_assert_int_gt(refusals, 2);
    ck_assert_int_eq(store_look("the store"), 0);
    store_forget();
}

START_TEST(too_many_files)
{
    int lowest = dup(0);
    ck_assert_int_ge(lowest, 0);
    close(lowest);
    opened_in_the_end(RLIMIT_NOFILE, UV_EMFILE, (rlim_t)lowest, 1);
}
END_TEST

START_TEST(files_too_large)
{
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    opened_in_the_end(RLIMIT_FSIZE, UV_EFBIG, 0, 1000);
    signal(SIGXFSZ, old);
}
END_TEST

/* ---- One owner ---- */

static void busy(pid_t owner)
{
    char pid[32];
    snprintf(pid, sizeof pid, "held by pid %ld", (long)owner);
    uint64_t digest = temp_dir_digest(rig.path, NULL);
    ck_assert_int_eq(rig_try_open(), UV_EBUSY);
    ck_assert_ptr_nonnull(strstr(dassie_errmsg(&rig.q), pid));
    rig_close();
    ck_assert_int_eq(dassie_verify(rig.path, NULL, NULL, NULL), UV_EBUSY);
    ck_assert_uint_eq(temp_dir_digest(rig.path, NULL), digest);
}

static void on_other(dassie_t *q, int status)
{
    *(int *)q->data = status;
}

static void on_other_closed(dassie_t *q)
{
    *(int *)q->data = 1;
}

START_TEST(second_handle)
{
    int status = 1;
    int closed = 0;
    dassie_t other;
    ck_assert_int_eq(dassie_init(&rig.loop, &other), 0);
    other.data = &status;
    ck_assert_int_eq(dassie_open(&other, rig.path, NULL, on_other), 0);
    while (status == 1) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(status, 0);
    busy(getpid());
    other.data = &closed;
    ck_assert_int_eq(dassie_close(&other, on_other_closed), 0);
    rig_wait(&closed, 1);
    rig_open();
    rig_close();
}
END_TEST

/* What another process does, this program started with a path: it owns the
 * store with a job in it, says so, and waits for the word to close. */
static const char *own_path;

START_TEST(own)
{
    char byte = 0;
    snprintf(rig.path, sizeof rig.path, "%s", own_path);
    rig_open();
    rig_enqueue(NULL, "x");
    ck_assert_int_eq(write(STDOUT_FILENO, &byte, 1), 1);
    ck_assert_int_eq(read(STDIN_FILENO, &byte, 1), 1);
    rig_close();
}
END_TEST

struct owner {
    pid_t pid;
    int to;
    int from;
};

static void owner_start(struct owner *owner)
{
    static char exe[] = "/proc/self/exe";
    char *argv[] = {exe, rig.path, NULL};
    posix_spawn_file_actions_t actions;
    int in[2];
    int out[2];
    char byte;
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    ck_assert_int_eq(
        posix_spawn(&owner->pid, exe, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    owner->to = in[1];
    owner->from = out[0];
    ck_assert_int_eq(read(owner->from, &byte, 1), 1);
}

static int owner_wait(struct owner *owner)
{
    int status;
    ck_assert_int_eq(waitpid(owner->pid, &status, 0), owner->pid);
    close(owner->to);
    close(owner->from);
    return status;
}

START_TEST(other_process)
{
    struct owner owner;
    owner_start(&owner);
    busy(owner.pid);
    ck_assert_int_eq(write(owner.to, "", 1), 1);
    ck_assert_int_eq(owner_wait(&owner), 0);
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

/* The lock goes with its owner, however that ended; what it was told is in
 * the queue is there. */
START_TEST(killed_owner)
{
    struct owner owner;
    owner_start(&owner);
    ck_assert_int_eq(kill(owner.pid, SIGKILL), 0);
    ck_assert(WIFSIGNALED(owner_wait(&owner)));
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

/* A store does not remember with which durability it was written. */
START_TEST(durability)
{
    for (unsigned i = 0; i < 6; i++) {
        rig.options.durability = i % 2 == 0 ? DASSIE_OFF : DASSIE_FULL;
        rig_open();
        ck_assert_uint_eq(rig_counts().pending, i);
        rig_enqueue(NULL, "x");
        ck_assert_int_eq(rig_stats().fsyncs > 0,
                         rig.options.durability == DASSIE_FULL);
        rig_close();
    }
}
END_TEST

/* ---- What a handle cannot do ---- */

static struct {
    dassie_enqueue_t enqueue;
    dassie_enqueue_many_t many;
    dassie_watch_t watch;
    dassie_get_t get;
    dassie_list_t list;
    dassie_counts_t counts;
    dassie_drain_t drain;
    dassie_processor_t processor;
    dassie_processor_t registered;
    int answers;
} ask;

/* Whatever was asked of a store that did not open. */
static void canceled(int status, const void *answer)
{
    ck_assert_int_eq(status, UV_ECANCELED);
    ck_assert_ptr_null(answer);
    ask.answers++;
}

static void enqueue_canceled(dassie_enqueue_t *req, int status)
{
    ck_assert_uint_eq(req->id, 0);
    canceled(status, NULL);
}

static void done_never(dassie_enqueue_t *req, int status,
                       const dassie_info_t *job)
{
    ck_abort_msg("%p %d %p", (void *)req, status, (const void *)job);
}

static void many_canceled(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    canceled(status, NULL);
}

static void watch_canceled(dassie_watch_t *req, int status,
                           const dassie_info_t *job)
{
    (void)req;
    canceled(status, job);
}

static void get_canceled(dassie_get_t *req, int status,
                         const dassie_info_t *job)
{
    (void)req;
    canceled(status, job);
}

static void list_canceled(dassie_list_t *req, int status,
                          const dassie_info_t *jobs, size_t n)
{
    (void)req;
    ck_assert_uint_eq(n, 0);
    canceled(status, jobs);
}

static void counts_canceled(dassie_counts_t *req, int status,
                            const dassie_count_t *count)
{
    (void)req;
    canceled(status, count);
}

static void drain_canceled(dassie_drain_t *req, int status)
{
    (void)req;
    canceled(status, NULL);
}

static int call_enqueue(dassie_t *q)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    ask.enqueue.done_cb = done_never;
    return dassie_enqueue(q, &ask.enqueue, &spec, enqueue_canceled);
}

static int call_enqueue_many(dassie_t *q)
{
    dassie_spec_t specs[] = {DASSIE_SPEC_INIT, DASSIE_SPEC_INIT};
    return dassie_enqueue_many(q, &ask.many, specs, 2, many_canceled);
}

static int call_watch(dassie_t *q)
{
    return dassie_watch(q, &ask.watch, 1, watch_canceled);
}

static int call_get(dassie_t *q)
{
    return dassie_get(q, &ask.get, 1, get_canceled);
}

static int call_list(dassie_t *q)
{
    return dassie_list(q, &ask.list, NULL, list_canceled);
}

static int call_counts(dassie_t *q)
{
    return dassie_counts(q, &ask.counts, NULL, 0, counts_canceled);
}

static int call_drain(dassie_t *q)
{
    return dassie_drain(q, &ask.drain, NULL, 0, drain_canceled);
}

static int call_process(dassie_t *q)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = fail_some;
    return dassie_process(q, &ask.processor, &options);
}

static int call_processor_stop(dassie_t *q)
{
    (void)q;
    return dassie_processor_stop(&ask.registered, NULL);
}

static int call_stats(dassie_t *q)
{
    dassie_stats_t stats;
    return dassie_stats(q, &stats);
}

static int call_finish(dassie_t *q)
{
    return dassie_finish(q, 1, 1, 0, NULL, 0);
}

static int call_open(dassie_t *q)
{
    return dassie_open(q, rig.path, NULL, NULL);
}

static int call_close(dassie_t *q)
{
    return dassie_close(q, NULL);
}

/* Every function that is given a queue and returns a status. */
static const struct {
    int (*call)(dassie_t *q);
    bool answered;    /* by a callback */
    int while_closed; /* what it returns once dassie_close() was called */
} calls[] = {
    {call_enqueue, true, UV_ECANCELED},
    {call_enqueue_many, true, UV_ECANCELED},
    {call_watch, true, UV_ECANCELED},
    {call_get, true, UV_ECANCELED},
    {call_list, true, UV_ECANCELED},
    {call_counts, true, UV_ECANCELED},
    {call_drain, true, UV_ECANCELED},
    {call_process, false, UV_ECANCELED},
    {call_processor_stop, false, UV_ECANCELED},
    {call_stats, false, UV_ECANCELED},
    {call_finish, false, UV_EALREADY},
    {call_open, false, UV_ECANCELED},
    {call_close, false, UV_EALREADY},
};
#define CALLS ((int)(sizeof calls / sizeof calls[0]))
#define CALLS_OF_OPEN (CALLS - 2) /* what is not for before the open */

static void ask_register(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.work = fail_some;
    memset(&ask, 0, sizeof ask);
    ck_assert_int_eq(dassie_process(&rig.q, &ask.registered, &options), 0);
}

START_TEST(not_open)
{
    memset(&ask, 0, sizeof ask);
    memset(&rig.q, 0, sizeof rig.q);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(calls[i].call(&rig.q), UV_EINVAL);
        ck_assert_int_eq(calls[i].call(NULL), UV_EINVAL);
    }
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    for (int i = 0; i < CALLS_OF_OPEN; i++) {
        ck_assert_int_eq(calls[i].call(&rig.q), UV_EINVAL);
    }
    dassie_ref(&rig.q);
    dassie_unref(&rig.q);
    rig_close();
}
END_TEST

START_TEST(closed)
{
    rig_open();
    ask_register();
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(calls[i].call(&rig.q), calls[i].while_closed);
    }
    dassie_unref(&rig.q);
    rig_wait(&rig.closed, 1);
    for (int i = 0; i < CALLS; i++) {
        ck_assert_int_eq(calls[i].call(&rig.q), UV_EINVAL);
    }
}
END_TEST

static int child_calls(int from)
{
    for (int i = from; i < CALLS; i++) {
        if (calls[i].call(&rig.q) != UV_EPERM) {
            return 1 + i;
        }
    }
    return 0;
}

/* Its handle is its parent's. */
START_TEST(forked_child)
{
    int status;
    if (_i == 0) {
        rig.closed = 0;
        ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    } else {
        rig_open();
        ask_register();
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(child_calls(_i == 0 ? CALLS_OF_OPEN : 0));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(_i == 0 || rig_counts().pending == 0);
    rig_close();
}
END_TEST

/* What is asked before the open fails and after it: all of it is answered. */
START_TEST(open_fails)
{
    temp_file_write(rig.dir, "store", "x", 1);
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    open_with(rig.options, 0);
    ask_register();
    for (int round = 0; round < 2; round++) {
        int answers = 0;
        ask.answers = 0;
        for (int i = 0; i < CALLS_OF_OPEN - 4; i++) {
            ck_assert_int_eq(calls[i].call(&rig.q), 0);
            answers += calls[i].answered;
        }
        rig_wait(&ask.answers, answers);
        ck_assert_int_eq(rig.status, UV_ENOTDIR);
    }
    ck_assert_int_eq(call_stats(&rig.q), 0);
    ck_assert_int_eq(call_finish(&rig.q), UV_EALREADY);
    ck_assert_int_eq(call_processor_stop(&rig.q), 0);
    ck_assert_int_eq(call_open(&rig.q), UV_EALREADY);
    rig_close();
    ck_assert_int_eq(rig.opened, 1);
}
END_TEST

/* What is asked while the open is under way waits for it. */
START_TEST(asked_meanwhile)
{
    struct rig_ack ack = {.n = 0};
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    ack.req.data = &ack;
    rig_hold();
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    open_with(rig.options, 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack.req, &spec, rig_on_ack), 0);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(rig.opened + ack.n, 0);
    rig_release();
    ck_assert_uint_eq(rig_counts().pending, 1);
    ck_assert_int_eq(rig.opened, 1);
    ck_assert_int_eq(rig.status, 0);
    ck_assert_int_eq(ack.n, 1);
    ck_assert_int_eq(ack.status, 0);
    rig_close();
}
END_TEST

static Suite *open_suite(void)
{
    Suite *suite = suite_create("open");
    TCase *tc = tcase_create("open");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_test(tc, null_arguments);
    tcase_add_test(tc, directory_is_gone);
    tcase_add_loop_test(tc, options_out_of_range, 0, BAD_OPTIONS);
    tcase_add_loop_test(tc, options_at_the_edge, 0, GOOD_OPTIONS);
    tcase_add_test(tc, options_of_an_older_program);
    tcase_add_test(tc, options_of_a_newer_program);
    tcase_add_test(tc, opened_before);
    tcase_add_test(tc, path_too_long);
    tcase_add_test(tc, no_directory);
    tcase_add_test(tc, no_parent);
    tcase_add_test(tc, links);
    tcase_add_test(tc, no_create);
    tcase_add_loop_test(tc, not_permitted, 0, 7);
    tcase_add_test(tc, parent_not_writable);
    tcase_add_loop_test(tc, foreign_directory, 0, 5);
    tcase_add_loop_test(tc, other_format, 0, 6);
    tcase_add_loop_test(tc, damaged, getenv("QUICK") != NULL ? QUICK_KIND : 0,
                        KINDS);
    tcase_add_test(tc, salvaged);
    tcase_add_test(tc, salvaged_deleted);
    tcase_add_test(tc, no_mark);
    tcase_add_test(tc, salvage_interrupted);
    tcase_add_test(tc, too_many_files);
    tcase_add_test(tc, files_too_large);
    tcase_add_test(tc, second_handle);
    tcase_add_test(tc, other_process);
    tcase_add_test(tc, killed_owner);
    tcase_add_test(tc, durability);
    tcase_add_test(tc, not_open);
    tcase_add_test(tc, closed);
    tcase_add_loop_test(tc, forked_child, 0, 2);
    tcase_add_test(tc, open_fails);
    tcase_add_test(tc, asked_meanwhile);
    return suite;
}

static Suite *own_suite(void)
{
    Suite *suite = suite_create("own");
    TCase *tc = tcase_create("own");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_test(tc, own);
    return suite;
}

int main(int argc, char **argv)
{
    bool other = argc > 1;
    own_path = argv[1];
    SRunner *runner = srunner_create(other ? own_suite() : open_suite());
    if (other) {
        srunner_set_fork_status(runner, CK_NOFORK);
    }
    srunner_run_all(runner, other ? CK_SILENT : CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
