/* Every limit of dassie_limits(7), by the name it has there: its value works,
 * and one more is the error that is promised. */
#include "config.h"

#include "queue_rig.h"

static dassie_process_options_t process_options(dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.start = start;
    return options;
}

static void never(dassie_job_t *job)
{
    ck_abort_msg("job %llu", (unsigned long long)dassie_job_id(job));
}

static int try_enqueue(const dassie_spec_t *spec)
{
    return dassie_enqueue(&rig.q, NULL, spec, NULL);
}

/* A page of jobs, copied as far as the tests look at it. */
#define PAGE_INFOS 2

static struct {
    dassie_list_t req;
    int answers;
    int status;
    size_t n;
    dassie_info_t info[PAGE_INFOS];
    char queue[PAGE_INFOS][DASSIE_NAME_BYTES_MAX + 1];
    char name[PAGE_INFOS][DASSIE_NAME_BYTES_MAX + 1];
} page;

static void on_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    page.answers++;
    page.status = status;
    page.n = n;
    for (size_t i = 0; i < n && i < PAGE_INFOS; i++) {
        page.info[i] = jobs[i];
        rig_keep(page.queue[i], sizeof page.queue[i], jobs[i].queue,
                 jobs[i].queue_len);
        rig_keep(page.name[i], sizeof page.name[i], jobs[i].name,
                 jobs[i].name_len);
    }
}

/* The next page's number of jobs. */
static size_t list(const dassie_list_options_t *options)
{
    page.answers = 0;
    ck_assert_int_eq(dassie_list(&rig.q, &page.req, options, on_page), 0);
    rig_wait(&page.answers, 1);
    ck_assert_int_eq(page.status, 0);
    return page.n;
}

static void first_page(void)
{
    memset(&page, 0, sizeof page);
}

static int drop_page(const dassie_list_options_t *options)
{
    first_page();
    return dassie_list(&rig.q, &page.req, options, on_page);
}

/* ---- Names ---- */

static const struct {
    size_t len; /* as it is given */
    size_t bytes;
    bool good;
} name_lengths[] = {{0, 0, false},     {0, 1, true},          {1, 1, true},
                    {0, 255, true},    {255, 255, true},      {0, 256, false},
                    {256, 256, false}, {SIZE_MAX, 256, false}};

/* Wherever a name is given. */
static void names(const char *name, size_t len, bool good)
{
    int rc = good ? 0 : UV_EINVAL;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_list_options_t list_options = DASSIE_LIST_OPTIONS_INIT;
    dassie_process_options_t options = process_options(never);
    dassie_processor_t p;
    struct rig_counted counted = {.n = 0};
    spec.name = name;
    spec.name_len = len;
    ck_assert_int_eq(try_enqueue(&spec), rc);
    spec.name = NULL;
    spec.name_len = 0;
    spec.queue = list_options.queue = options.queue = name;
    spec.queue_len = list_options.queue_len = options.queue_len = len;
    ck_assert_int_eq(try_enqueue(&spec), rc);
    ck_assert_int_eq(drop_page(&list_options), rc);
    counted.req.data = &counted;
    ck_assert_int_eq(
        dassie_counts(&rig.q, &counted.req, name, len, rig_on_counts), rc);
    if (good) {
        rig_wait(&counted.n, 1);
        ck_assert_int_eq(counted.status, 0);
        ck_assert_uint_eq(counted.count.pending, 1);
        rig_wait(&page.answers, 1);
        ck_assert_uint_eq(page.n, 1);
    }
    if (!good) {
        uv_buf_t buf = {.base = (char *)(uintptr_t)name, .len = len};
        ck_assert_int_eq(dassie_process(&rig.q, &p, &options), rc);
        options.queue = NULL;
        options.queue_len = 0;
        options.queues = &buf;
        options.queues_n = 1;
        ck_assert_int_eq(dassie_process(&rig.q, &p, &options), rc);
    }
}

START_TEST(name_bytes)
{
    char name[DASSIE_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof name);
    name[name_lengths[_i].bytes] = '\0';
    rig_open();
    names(name, name_lengths[_i].len, name_lengths[_i].good);
    rig_close();
}
END_TEST

/* Any byte, and zero bytes where there is a length. */
START_TEST(name_bytes_of_any_value)
{
    char name[DASSIE_NAME_BYTES_MAX];
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    for (size_t i = 0; i < sizeof name; i++) {
        name[i] = (char)(255 - i - (_i == 0));
    }
    spec.queue = spec.name = name;
    spec.queue_len = spec.name_len = sizeof name;
    rig_open();
    ck_assert_int_eq(try_enqueue(&spec), 0);
    rig_reopen();
    first_page();
    ck_assert_uint_eq(list(NULL), 1);
    ck_assert_uint_eq(page.info[0].queue_len, sizeof name);
    ck_assert_mem_eq(page.queue[0], name, sizeof name);
    ck_assert_uint_eq(page.info[0].name_len, sizeof name);
    ck_assert_mem_eq(page.name[0], name, sizeof name);
    rig_close();
}
END_TEST

/* ---- Payloads and what a job leaves behind ---- */

static unsigned char *bytes_make(size_t len)
{
    unsigned char *bytes = malloc(len + 1);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (unsigned char)(i ^ i >> 8 ^ i >> 16);
    }
    return bytes;
}

static struct {
    dassie_get_t req;
    const unsigned char *bytes;
    size_t data_len;
    size_t result_len;
    int answers;
} expected;

static void on_expected(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(job->data_len, expected.data_len);
    ck_assert(job->data_len == 0 ||
              memcmp(job->data, expected.bytes, job->data_len) == 0);
    ck_assert_uint_eq(job->result_len, expected.result_len);
    ck_assert(job->result_len == 0 ||
              memcmp(job->result, expected.bytes, job->result_len) == 0);
    expected.answers++;
}

static void expect(uint64_t id, size_t data_len, size_t result_len)
{
    expected.data_len = data_len;
    expected.result_len = result_len;
    expected.answers = 0;
    ck_assert_int_eq(dassie_get(&rig.q, &expected.req, id, on_expected), 0);
    rig_wait(&expected.answers, 1);
}

static uint64_t started_id;
static int started;

static void start(dassie_job_t *job)
{
    started_id = dassie_job_id(job);
    started++;
}

static int finish(int status, const void *data, size_t len)
{
    return dassie_finish(&rig.q, started_id, 1, status, data, len);
}

static int work_rc;        /* of leaving one byte too many */
static size_t result_most; /* what it may leave */

static int work_result(dassie_job_t *job)
{
    work_rc = dassie_job_set_result(job, expected.bytes, result_most + 1);
    return dassie_job_set_result(job, expected.bytes, result_most);
}

/* A job with the longest payload leaves the longest result. */
static void payloads(size_t most)
{
    dassie_process_options_t options = process_options(start);
    dassie_processor_t async;
    dassie_processor_t work;
    unsigned char *bytes = bytes_make(most + 1);
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    expected.bytes = bytes;
    result_most = most;
    spec.data = bytes;
    spec.data_len = most + 1;
    ck_assert_int_eq(try_enqueue(&spec), UV_E2BIG);
    spec.data_len = most;
    uint64_t id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    expect(id, most, 0);
    started = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &async, &options), 0);
    rig_wait(&started, 1);
    ck_assert_int_eq(finish(0, bytes, most + 1), UV_E2BIG);
    ck_assert_int_eq(finish(0, bytes, most), 0);
    rig_drain();
    expect(id, most, most);
    rig_stop(&async);
    options = process_options(NULL);
    options.work = work_result;
    ck_assert_int_eq(dassie_process(&rig.q, &work, &options), 0);
    id = rig_enqueue(NULL, NULL);
    rig_drain();
    ck_assert_int_eq(work_rc, UV_E2BIG);
    expect(id, 0, most);
    rig_stop(&work);
    free(bytes);
}

START_TEST(payload_bytes)
{
    static const size_t most[] = {1, 600, 0};
    rig.options.payload_bytes_max = most[_i];
    rig_open();
    payloads(most[_i] != 0 ? most[_i] : DASSIE_PAYLOAD_BYTES_MAX);
    rig_close();
}
END_TEST

/* Any length below, with any bytes, and still there after a reopen. */
START_TEST(payload_bytes_below)
{
    static const size_t lengths[] = {0,    1,     2,     127,     128,
                                     4095, 16384, 65536, 1000000, 16777216};
    enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
    uint64_t ids[LENGTHS];
    unsigned char *bytes = bytes_make(lengths[LENGTHS - 1]);
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    rig_open();
    expected.bytes = bytes;
    for (int i = 0; i < LENGTHS; i++) {
        spec.data = i > 0 ? bytes : NULL;
        spec.data_len = lengths[i];
        ids[i] = rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
    }
    spec.data = NULL;
    ck_assert_int_eq(try_enqueue(&spec), UV_EINVAL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < LENGTHS; i++) {
            expect(ids[i], lengths[i], 0);
        }
        rig_reopen();
    }
    rig_close();
    free(bytes);
}
END_TEST

/* The largest payload of all takes too much memory for every day. */
START_TEST(ceiling)
{
    rig.options.payload_bytes_max = DASSIE_PAYLOAD_BYTES_CEILING + 1;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     UV_EINVAL);
    rig_close();
    rig.options.payload_bytes_max = DASSIE_PAYLOAD_BYTES_CEILING;
    rig_open();
    if (getenv("NIGHTLY") != NULL) {
        payloads(DASSIE_PAYLOAD_BYTES_CEILING);
    } else {
        dassie_spec_t spec = rig_spec(NULL, "x");
        spec.data_len = (size_t)DASSIE_PAYLOAD_BYTES_CEILING + 1;
        ck_assert_int_eq(try_enqueue(&spec), UV_E2BIG);
    }
    rig_close();
}
END_TEST

static char error_text[DASSIE_ERROR_BYTES_MAX + 1];

static int work_error(dassie_job_t *job)
{
    work_rc = dassie_job_set_error(job, error_text, sizeof error_text);
    return dassie_job_set_error(job, error_text, DASSIE_ERROR_BYTES_MAX) == 0
               ? UV_EIO
               : 0;
}

START_TEST(error_bytes)
{
    dassie_process_options_t options = process_options(_i == 0 ? start : NULL);
    dassie_processor_t p;
    struct rig_got got;
    memset(error_text, 'e', sizeof error_text);
    error_text[1] = '\0';
    options.work = _i == 0 ? NULL : work_error;
    started = 0;
    rig_open();
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    uint64_t id = rig_enqueue(NULL, NULL);
    if (_i == 0) {
        rig_wait(&started, 1);
        work_rc = finish(UV_EIO, error_text, sizeof error_text);
        ck_assert_int_eq(finish(UV_EIO, error_text, DASSIE_ERROR_BYTES_MAX), 0);
    }
    rig_drain();
    ck_assert_int_eq(work_rc, UV_E2BIG);
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, DASSIE_FAILED);
    ck_assert_int_eq(info->error_code, UV_EIO);
    ck_assert_uint_eq(info->error_len, DASSIE_ERROR_BYTES_MAX);
    ck_assert_mem_eq(info->error, error_text, DASSIE_ERROR_BYTES_MAX);
    rig_close();
}
END_TEST

/* ---- Queues, inbox and batches ---- */

static struct {
    dassie_enqueue_many_t req;
    int answers;
    int status;
} batch;

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    batch.answers++;
    batch.status = status;
}

/* What is returned, or what is told. */
static int enqueue_many(const dassie_spec_t *specs, size_t n)
{
    batch.answers = 0;
    int rc = dassie_enqueue_many(&rig.q, &batch.req, specs, n, on_batch);
    if (rc == 0) {
        rig_wait(&batch.answers, 1);
    }
    return rc == 0 ? batch.status : rc;
}

static dassie_spec_t *specs_make(size_t n)
{
    static const dassie_spec_t init = DASSIE_SPEC_INIT;
    dassie_spec_t *specs = malloc(n * sizeof specs[0]);
    ck_assert_ptr_nonnull(specs);
    for (size_t i = 0; i < n; i++) {
        specs[i] = init;
    }
    return specs;
}

START_TEST(queues)
{
    static uint32_t names[DASSIE_QUEUES_MAX];
    dassie_spec_t *specs = specs_make(DASSIE_QUEUES_MAX);
    dassie_spec_t other = rig_spec("one more", NULL);
    int status;
    for (uint32_t i = 0; i < DASSIE_QUEUES_MAX; i++) {
        names[i] = i;
        specs[i].queue = (const char *)&names[i];
        specs[i].queue_len = sizeof names[i];
    }
    rig_open();
    ck_assert_int_eq(enqueue_many(specs, DASSIE_QUEUES_MAX), 0);
    for (int round = 0; round < 2; round++) {
        rig_try_enqueue(&other, &status);
        ck_assert_int_eq(status, UV_ENOBUFS);
        ck_assert_int_eq(enqueue_many(&other, 1), UV_ENOBUFS);
        rig_try_enqueue(&specs[DASSIE_QUEUES_MAX - 1], &status);
        ck_assert_int_eq(status, 0);
        ck_assert_uint_eq(rig_stats().queues, DASSIE_QUEUES_MAX);
        rig_reopen();
    }
    ck_assert_uint_eq(rig_counts().pending, DASSIE_QUEUES_MAX + 2);
    rig_close();
    free(specs);
}
END_TEST

/* With the store not open yet nothing leaves the inbox. */
static void open_held(void)
{
    rig_hold();
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
}

/* Lets the inbox drain, and closes. All the jobs are there. */
static void close_held(uint64_t jobs)
{
    rig_release();
    ck_assert_uint_eq(rig_counts().pending, jobs);
    ck_assert_uint_eq(rig_stats().inbox_jobs, 0);
    ck_assert_uint_eq(rig_stats().inbox_bytes, 0);
    rig_enqueue(NULL, NULL);
    rig_close();
}

START_TEST(inbox_jobs)
{
    static const size_t most[] = {1, 3, 0};
    uint64_t jobs = most[_i] != 0 ? most[_i] : DASSIE_INBOX_JOBS_MAX;
    dassie_spec_t specs[] = {rig_spec(NULL, NULL), rig_spec(NULL, NULL)};
    rig.options.inbox_jobs_max = most[_i];
    open_held();
    for (uint64_t i = 1; i < jobs; i++) {
        ck_assert_int_eq(try_enqueue(specs), 0);
    }
    /* A batch passes whole if one job of it does. */
    batch.answers = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, 2, on_batch), 0);
    ck_assert_uint_eq(rig_stats().inbox_jobs, jobs + 1);
    ck_assert_int_eq(try_enqueue(specs), UV_ENOBUFS);
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, 1, on_batch),
        UV_ENOBUFS);
    close_held(jobs + 1);
    ck_assert_int_eq(batch.answers, 1);
}
END_TEST

START_TEST(inbox_jobs_one_by_one)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    rig.options.inbox_jobs_max = 3;
    open_held();
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(try_enqueue(&spec), 0);
    }
    ck_assert_int_eq(try_enqueue(&spec), UV_ENOBUFS);
    close_held(3);
}
END_TEST

START_TEST(inbox_bytes)
{
    static const size_t most[] = {1, 1000, 0};
    size_t bytes = most[_i] != 0 ? most[_i] : DASSIE_INBOX_BYTES_MAX;
    char *payload = (char *)bytes_make(bytes);
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.data = payload;
    rig.options.inbox_bytes_max = most[_i];
    rig.options.payload_bytes_max = DASSIE_PAYLOAD_BYTES_CEILING;
    open_held();
    spec.data_len = bytes / 2;
    ck_assert_int_eq(try_enqueue(&spec), 0);
    uint64_t jobs = 1;
    if (bytes > 1) {
        ck_assert_uint_lt(rig_stats().inbox_bytes, bytes);
        spec.data_len = bytes;
        ck_assert_int_eq(try_enqueue(&spec), 0);
        jobs++;
    }
    spec.data_len = 0;
    ck_assert_uint_ge(rig_stats().inbox_bytes, bytes);
    ck_assert_int_eq(try_enqueue(&spec), UV_ENOBUFS);
    close_held(jobs);
    free(payload);
}
END_TEST

/* Of one batch: four times the inbox. */
START_TEST(inbox_bytes_of_a_batch)
{
    enum { N = 5, BYTES = 10000 };
    dassie_spec_t *specs = specs_make(N);
    unsigned char *payload = bytes_make(BYTES);
    for (int i = 0; i < N; i++) {
        specs[i].data = payload;
        specs[i].data_len = BYTES;
    }
    rig.options.inbox_bytes_max = BYTES;
    rig_open();
    ck_assert_int_eq(enqueue_many(specs, N), UV_E2BIG);
    specs[0].data_len = 0;
    specs[1].data_len = BYTES - 1000; /* what goes with the payloads */
    ck_assert_int_eq(enqueue_many(specs, N), 0);
    rig_close();
    free(payload);
    free(specs);
}
END_TEST

START_TEST(batch_jobs)
{
    dassie_spec_t *specs = specs_make(DASSIE_BATCH_JOBS_MAX + 1);
    rig_open();
    ck_assert_int_eq(enqueue_many(specs, 0), UV_EINVAL);
    ck_assert_int_eq(enqueue_many(specs, DASSIE_BATCH_JOBS_MAX + 1), UV_E2BIG);
    ck_assert_int_eq(enqueue_many(specs, 1), 0);
    ck_assert_int_eq(enqueue_many(specs, DASSIE_BATCH_JOBS_MAX), 0);
    ck_assert_uint_eq(rig_counts().pending, DASSIE_BATCH_JOBS_MAX + 1);
    rig_close();
    free(specs);
}
END_TEST

START_TEST(batch_replace)
{
    static uint32_t keys[DASSIE_BATCH_REPLACE_MAX + 1];
    dassie_spec_t *specs = specs_make(DASSIE_BATCH_REPLACE_MAX + 1);
    for (uint32_t i = 0; i <= DASSIE_BATCH_REPLACE_MAX; i++) {
        keys[i] = i;
        specs[i].unique = (const char *)&keys[i];
        specs[i].unique_len = sizeof keys[i];
        specs[i].on_conflict =
            i % 2 == 0 ? DASSIE_CONFLICT_REPLACE : DASSIE_CONFLICT_MOVE;
    }
    rig_open();
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(enqueue_many(specs, DASSIE_BATCH_REPLACE_MAX + 1),
                         UV_E2BIG);
        ck_assert_int_eq(enqueue_many(specs, DASSIE_BATCH_REPLACE_MAX), 0);
        dassie_count_t count = rig_counts();
        ck_assert_uint_eq(count.pending, DASSIE_BATCH_REPLACE_MAX);
        ck_assert_uint_eq(count.cancelled,
                          round * DASSIE_BATCH_REPLACE_MAX / 2);
    }
    rig_close();
    free(specs);
}
END_TEST

/* The longest key, of any bytes, is another one than all that are shorter. */
START_TEST(unique_bytes)
{
    static char key[DASSIE_UNIQUE_BYTES_MAX + 1];
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    spec.unique = key;
    rig_open();
    spec.unique_len = sizeof key;
    ck_assert_int_eq(try_enqueue(&spec), UV_EINVAL);
    for (spec.unique_len = 1; spec.unique_len < sizeof key; spec.unique_len++) {
        uint64_t id = rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
        ck_assert_uint_eq(id, spec.unique_len);
    }
    spec.unique_len = sizeof key - 1;
    ck_assert_uint_eq(rig_try_enqueue(&spec, &status), spec.unique_len);
    rig_reopen();
    ck_assert_uint_eq(rig_try_enqueue(&spec, &status), spec.unique_len);
    rig_close();
}
END_TEST

/* ---- Processors ---- */

#define CLAIMERS (DASSIE_CLAIMED_MAX / DASSIE_CONCURRENCY_MAX + 1)
#define UNCLAIMED 100

static uint64_t claimed_ids[DASSIE_CLAIMED_MAX + UNCLAIMED];

static void start_claimed(dassie_job_t *job)
{
    claimed_ids[started++] = dassie_job_id(job);
}

/* With so many claimed the others wait, though there are free slots. */
START_TEST(claimed)
{
    static dassie_processor_t p[CLAIMERS];
    size_t n = DASSIE_CLAIMED_MAX + UNCLAIMED;
    dassie_spec_t *specs = specs_make(n);
    dassie_process_options_t options = process_options(start_claimed);
    options.concurrency = DASSIE_CONCURRENCY_MAX;
    started = 0;
    rig_open();
    for (int i = 0; i < CLAIMERS; i++) {
        ck_assert_int_eq(dassie_process(&rig.q, &p[i], &options), 0);
    }
    ck_assert_int_eq(enqueue_many(specs, n - 1), 0);
    rig_wait(&started, DASSIE_CLAIMED_MAX);
    rig_enqueue(NULL, NULL);
    dassie_count_t count = rig_counts();
    ck_assert_int_eq(started, DASSIE_CLAIMED_MAX);
    ck_assert_uint_eq(count.running, DASSIE_CLAIMED_MAX);
    ck_assert_uint_eq(count.pending, UNCLAIMED);
    for (int i = 0; i < (int)n; i++) {
        rig_wait(&started, i + 1);
        ck_assert_int_eq(dassie_finish(&rig.q, claimed_ids[i], 1, 0, NULL, 0),
                         0);
    }
    rig_drain();
    ck_assert_uint_eq(rig_counts().complete, n);
    rig_close();
    free(specs);
}
END_TEST

START_TEST(concurrency)
{
    static const unsigned most[] = {0, 1, 7, DASSIE_CONCURRENCY_MAX};
    unsigned slots = most[_i] != 0 ? most[_i] : 1;
    dassie_spec_t *specs = specs_make(slots + 1);
    dassie_process_options_t options = process_options(start_claimed);
    dassie_processor_t p;
    started = 0;
    rig_open();
    options.concurrency = DASSIE_CONCURRENCY_MAX + 1;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), UV_EINVAL);
    options.concurrency = most[_i];
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    ck_assert_int_eq(enqueue_many(specs, slots + 1), 0);
    rig_wait(&started, (int)slots);
    ck_assert_uint_eq(rig_counts().running, slots);
    ck_assert_int_eq(started, (int)slots);
    for (unsigned i = 0; i <= slots; i++) {
        rig_wait(&started, (int)i + 1);
        ck_assert_int_eq(dassie_finish(&rig.q, claimed_ids[i], 1, 0, NULL, 0),
                         0);
    }
    rig_drain();
    rig_close();
    free(specs);
}
END_TEST

START_TEST(processors)
{
    static dassie_processor_t p[DASSIE_PROCESSORS_MAX];
    dassie_processor_t other;
    dassie_process_options_t options = process_options(start);
    rig_open();
    for (int i = 0; i < DASSIE_PROCESSORS_MAX; i++) {
        ck_assert_int_eq(dassie_process(&rig.q, &p[i], &options), 0);
    }
    ck_assert_int_eq(dassie_process(&rig.q, &other, &options), UV_ENOBUFS);
    rig_stop(&p[0]);
    ck_assert_int_eq(dassie_process(&rig.q, &other, &options), 0);
    ck_assert_int_eq(dassie_process(&rig.q, &p[0], &options), UV_ENOBUFS);
    rig_close();
}
END_TEST

START_TEST(served_queues)
{
    static char names[DASSIE_PROCESSOR_QUEUES_MAX + 1][DASSIE_NAME_BYTES_MAX];
    static uv_buf_t bufs[DASSIE_PROCESSOR_QUEUES_MAX + 1];
    dassie_process_options_t options = process_options(start);
    dassie_processor_t p;
    for (int i = 0; i <= DASSIE_PROCESSOR_QUEUES_MAX; i++) {
        memset(names[i], 'n', sizeof names[i]);
        memcpy(names[i], &i, sizeof i);
        bufs[i] = uv_buf_init(names[i], sizeof names[i]);
    }
    rig_open();
    options.queues = bufs;
    options.queues_n = DASSIE_PROCESSOR_QUEUES_MAX + 1;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), UV_EINVAL);
    options.queues_n = DASSIE_PROCESSOR_QUEUES_MAX;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    started = 0;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.queue = names[DASSIE_PROCESSOR_QUEUES_MAX - 1];
    spec.queue_len = sizeof names[0];
    ck_assert_int_eq(try_enqueue(&spec), 0);
    rig_wait(&started, 1);
    ck_assert_int_eq(finish(0, NULL, 0), 0);
    rig_close();
}
END_TEST

/* ---- Look-ups ---- */

START_TEST(list_page)
{
    static const struct {
        unsigned limit;
        size_t n;
    } pages[] = {{1, 1}, {0, 100}, {DASSIE_LIST_MAX, DASSIE_LIST_MAX}};
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    dassie_spec_t *specs = specs_make(DASSIE_LIST_MAX + 1);
    rig_open();
    ck_assert_int_eq(enqueue_many(specs, DASSIE_LIST_MAX + 1), 0);
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        options.limit = pages[i].limit;
        first_page();
        ck_assert_uint_eq(list(&options), pages[i].n);
    }
    ck_assert_uint_eq(list(&options), 1);
    ck_assert_uint_eq(list(&options), 0);
    options.limit = DASSIE_LIST_MAX + 1;
    ck_assert_int_eq(drop_page(&options), UV_EINVAL);
    rig_close();
    free(specs);
}
END_TEST

/* A page ends when it holds 16 MiB, but has one job at least. */
START_TEST(list_page_bytes)
{
    static const size_t lengths[] = {8 << 20, 8 << 20, 16 << 20, 1, 1};
    static const size_t pages[] = {2, 1, 2, 0};
    unsigned char *bytes = bytes_make(16 << 20);
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    spec.data = bytes;
    rig_open();
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        spec.data_len = lengths[i];
        rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
    }
    first_page();
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        ck_assert_uint_eq(list(NULL), pages[i]);
    }
    rig_close();
    free(bytes);
}
END_TEST

static int looked;

static void on_look(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    ck_assert_int_eq(status, 0);
    looked++;
}

/* All kinds of look-ups count together; whoever only waits does not. */
START_TEST(lookups)
{
    static dassie_get_t reqs[DASSIE_LOOKUPS_MAX];
    dassie_get_t other;
    struct rig_counted counted = {.n = 0};
    counted.req.data = &counted;
    looked = 0;
    rig_open();
    uint64_t id = rig_enqueue(NULL, NULL);
    for (int i = 0; i < DASSIE_LOOKUPS_MAX; i++) {
        ck_assert_int_eq(dassie_get(&rig.q, &reqs[i], id, on_look), 0);
    }
    ck_assert_int_eq(dassie_get(&rig.q, &other, id, on_look), UV_ENOBUFS);
    ck_assert_int_eq(drop_page(NULL), UV_ENOBUFS);
    ck_assert_int_eq(
        dassie_counts(&rig.q, &counted.req, NULL, 0, rig_on_counts),
        UV_ENOBUFS);
    rig_wait(&looked, 1);
    ck_assert_int_eq(drop_page(NULL), 0);
    rig_wait(&looked, DASSIE_LOOKUPS_MAX);
    rig_wait(&page.answers, 1);
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

/* ---- Memory and priorities ---- */

START_TEST(memory_bytes)
{
    static const size_t most[] = {DASSIE_MEMORY_BYTES_MIN, 0,
                                  DASSIE_MEMORY_BYTES_MIN - 1, 1};
    rig.options.memory_bytes = most[_i];
    if (_i >= 2) {
        ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
        ck_assert_int_eq(
            dassie_open(&rig.q, rig.path, &rig.options, rig_opened), UV_EINVAL);
    } else {
        rig_open();
        payloads(DASSIE_PAYLOAD_BYTES_MAX);
    }
    rig_close();
}
END_TEST

START_TEST(priority)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    rig_open();
    spec.priority = DASSIE_PRIORITY_MAX + 1;
    ck_assert_int_eq(try_enqueue(&spec), UV_EINVAL);
    spec.priority = DASSIE_PRIORITY_MIN - 1;
    ck_assert_int_eq(try_enqueue(&spec), UV_EINVAL);
    for (int i = DASSIE_PRIORITY_MAX; i >= DASSIE_PRIORITY_MIN; i--) {
        spec.priority = i;
        ck_assert_int_eq(try_enqueue(&spec), 0);
    }
    options.limit = 1;
    first_page();
    for (int i = DASSIE_PRIORITY_MIN; i <= DASSIE_PRIORITY_MAX; i++) {
        ck_assert_uint_eq(list(&options), 1);
        ck_assert_int_eq(page.info[0].priority, i);
    }
    ck_assert_uint_eq(list(&options), 0);
    rig_close();
}
END_TEST

static Suite *limits_suite(void)
{
    Suite *suite = suite_create("limits");
    TCase *tc = tcase_create("limits");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_setup, rig_teardown);
    tcase_add_loop_test(tc, name_bytes, 0,
                        sizeof name_lengths / sizeof name_lengths[0]);
    tcase_add_loop_test(tc, name_bytes_of_any_value, 0, 2);
    tcase_add_loop_test(tc, payload_bytes, 0, 3);
    tcase_add_test(tc, payload_bytes_below);
    tcase_add_test(tc, ceiling);
    tcase_add_loop_test(tc, error_bytes, 0, 2);
    tcase_add_test(tc, queues);
    tcase_add_loop_test(tc, inbox_jobs, 0, 3);
    tcase_add_test(tc, inbox_jobs_one_by_one);
    tcase_add_loop_test(tc, inbox_bytes, 0, 3);
    tcase_add_test(tc, inbox_bytes_of_a_batch);
    tcase_add_test(tc, batch_jobs);
    tcase_add_test(tc, batch_replace);
    tcase_add_test(tc, unique_bytes);
    tcase_add_test(tc, claimed);
    tcase_add_loop_test(tc, concurrency, 0, 4);
    tcase_add_test(tc, processors);
    tcase_add_test(tc, served_queues);
    tcase_add_test(tc, list_page);
    tcase_add_test(tc, list_page_bytes);
    tcase_add_test(tc, lookups);
    tcase_add_loop_test(tc, memory_bytes, 0, 4);
    tcase_add_test(tc, priority);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(limits_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
