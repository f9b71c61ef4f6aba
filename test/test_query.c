/* Looking: one job, pages of them, counts, figures, the wait for an empty
 * queue, the check of a whole store, and what codes are called. */
#include "config.h"

#include "queue_rig.h"

/* Leaves a sound store. */
/* ---- Jobs in each state ---- */

static dassie_processor_t processor;
static uint64_t held[16];
static int held_n;

static void finish(uint64_t id, int status)
{
    ck_assert_int_eq(
        dassie_finish(&rig.q, id, 1, status, status == 0 ? "well" : "no good",
                      status == 0 ? 4 : 7),
        0);
}

static bool letting_go;

static void start_hold(dassie_job_t *job)
{
    if (letting_go) {
        finish(dassie_job_id(job), 0);
        return;
    }
    ck_assert_int_lt(held_n, 16);
    held[held_n++] = dassie_job_id(job);
}

static void process_hold(const char *queue, unsigned concurrency)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.concurrency = concurrency;
    options.start = start_hold;
    held_n = 0;
    letting_go = false;
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
}

/* Ends those that are held, and whatever comes after them. */
static void let_go(void)
{
    letting_go = true;
    while (held_n > 0) {
        finish(held[--held_n], 0);
    }
    rig_stop(&processor);
}

/* Ends the n jobs of the queue, every third badly. */
static void end_jobs(const char *queue, int n)
{
    process_hold(queue, 1);
    for (int i = 0; i < n; i++) {
        rig_wait(&held_n, 1);
        held_n = 0;
        finish(held[0], i % 3 == 2 ? UV_EPROTO : 0);
    }
    rig_stop(&processor);
}

static void end_well(dassie_job_t *job)
{
    ck_assert_int_eq(dassie_finish(&rig.q, dassie_job_id(job), 1, 0, NULL, 0),
                     0);
}

static void complete_all(const char *queue)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.concurrency = 64;
    options.start = end_well;
    ck_assert_int_eq(dassie_process(&rig.q, &processor, &options), 0);
    rig_drain();
    rig_stop(&processor);
}

static void enqueue_n(const char *queue, int n, int priority)
{
    dassie_spec_t spec = rig_spec(queue, "payload");
    spec.priority = priority;
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    }
}

/* ---- Get ---- */

static void check_state(uint64_t id, dassie_state_t state, uint32_t attempts)
{
    struct rig_got got;
    bool ended = state == DASSIE_COMPLETE || state == DASSIE_FAILED;
    bool failed = state == DASSIE_FAILED;
    const dassie_info_t *info = rig_get(&got, id);
    ck_assert_int_eq(info->state, state);
    ck_assert_uint_eq(info->attempts, attempts);
    ck_assert_uint_eq(info->crashes, 0);
    ck_assert_uint_eq(info->flags, DASSIE_AT_MOST_ONCE);
    ck_assert_int_eq(info->priority, -7);
    ck_assert_str_eq(info->queue, "mail");
    ck_assert_uint_eq(info->queue_len, 4);
    ck_assert_str_eq(info->name, "send");
    ck_assert_uint_eq(info->name_len, 4);
    ck_assert_str_eq(info->data, "payload");
    ck_assert_uint_eq(info->data_len, 7);
    ck_assert_uint_gt(info->enqueued_ms, UINT64_C(1500000000000));
    ck_assert_int_eq(info->ended_ms >= info->enqueued_ms, ended);
    ck_assert_int_eq(info->ended_ms == 0, !ended);
    ck_assert_uint_eq(info->result_len, ended && !failed ? 4 : 0);
    ck_assert_str_eq(got.result, ended && !failed ? "well" : "");
    ck_assert_int_eq(info->error_code, failed ? UV_EPROTO : 0);
    ck_assert_str_eq(got.error, failed ? "no good" : "");
    ck_assert_uint_eq(info->error_len, failed ? 7 : 0);
}

START_TEST(get_states)
{
    int status;
    dassie_spec_t spec = rig_spec("mail", "payload");
    spec.name = "send";
    spec.priority = -7;
    spec.flags = DASSIE_AT_MOST_ONCE;
    uint64_t well = rig_try_enqueue(&spec, &status);
    uint64_t badly = rig_try_enqueue(&spec, &status);
    check_state(well, DASSIE_PENDING, 0);
    process_hold("mail", 1);
    rig_wait(&held_n, 1);
    check_state(well, DASSIE_RUNNING, 1);
    check_state(badly, DASSIE_PENDING, 0);
    finish(well, 0);
    rig_wait(&held_n, 2);
    check_state(well, DASSIE_COMPLETE, 1);
    check_state(badly, DASSIE_RUNNING, 1);
    finish(badly, UV_EPROTO);
    rig_drain();
    for (int again = 0; again < 2; again++) {
        check_state(well, DASSIE_COMPLETE, 1);
        check_state(badly, DASSIE_FAILED, 1);
        rig_reopen();
    }
}
END_TEST

START_TEST(get_unknown)
{
    struct rig_got got;
    uint64_t id = rig_enqueue(NULL, NULL);
    ck_assert_int_eq(rig_try_get(&got, 0), UV_ENOENT);
    ck_assert_int_eq(rig_try_get(&got, id + 1), UV_ENOENT);
    ck_assert_int_eq(rig_try_get(&got, UINT64_MAX), UV_ENOENT);
    ck_assert_int_eq(rig_try_get(&got, id), 0);
    ck_assert_ptr_eq(got.req.q, &rig.q);
    ck_assert_uint_eq(got.req.id, id);
}
END_TEST

/* A look-up sees what its thread has enqueued before, committed or not. */
START_TEST(get_sees_before)
{
    struct rig_got got = {.n = 0};
    dassie_spec_t spec = rig_spec(NULL, "payload");
    uint64_t id = rig_enqueue(NULL, NULL);
    for (uint64_t i = 1; i <= 20; i++) {
        ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
        ck_assert_int_eq(rig_try_get(&got, id + i), 0);
    }
}
END_TEST

/* ---- List ---- */

#define IDS_MAX 4096

struct pages {
    dassie_list_t req;
    uint64_t id[IDS_MAX];
    int priority[IDS_MAX];
    size_t n;
    size_t page; /* of the last one */
    int status;  /* of the last one */
    int calls;
    dassie_state_t state;
    const char *queue; /* NULL: any */
};

static struct pages pages;

static void on_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    ck_assert_ptr_eq(req, &pages.req);
    ck_assert_ptr_eq(req->q, &rig.q);
    pages.calls++;
    pages.status = status;
    pages.page = n;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_lt(pages.n, IDS_MAX);
        ck_assert_int_eq(jobs[i].state, pages.state);
        ck_assert(pages.queue == NULL ||
                  strcmp(jobs[i].queue, pages.queue) == 0);
        ck_assert_mem_eq(jobs[i].data, "payload", 7);
        pages.priority[pages.n] = jobs[i].priority;
        pages.id[pages.n++] = jobs[i].id;
    }
}

static void pages_begin(dassie_state_t state, const char *queue)
{
    memset(&pages, 0, sizeof pages);
    pages.state = state;
    pages.queue = queue;
}

/* The next page; its number of jobs. */
static size_t next_page(unsigned limit)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    int calls = pages.calls;
    options.state = pages.state;
    options.queue = pages.queue;
    options.limit = limit;
    ck_assert_int_eq(dassie_list(&rig.q, &pages.req, &options, on_page), 0);
    ck_assert_int_eq(pages.calls, calls);
    rig_wait(&pages.calls, calls + 1);
    ck_assert_int_eq(pages.status, 0);
    ck_assert_uint_le(pages.page, limit > 0 ? limit : 100);
    return pages.page;
}

static size_t all_pages(dassie_state_t state, const char *queue, unsigned limit)
{
    pages_begin(state, queue);
    do {
        next_page(limit);
    } while (pages.req.more);
    size_t n = pages.n;
    ck_assert_uint_eq(next_page(limit), 0); /* and so on */
    ck_assert(!pages.req.more);
    return n;
}

static void check_rising(void)
{
    for (size_t i = 1; i < pages.n; i++) {
        ck_assert_uint_gt(pages.id[i], pages.id[i - 1]);
    }
}

/* Each state, each queue, in pages of every size. */
START_TEST(list_pages)
{
    static const unsigned limits[] = {1, 2, 7, 0, DASSIE_LIST_MAX};
    enqueue_n("a", 30, 0);
    enqueue_n("b", 30, 0);
    end_jobs("a", 30);
    end_jobs("b", 30);
    enqueue_n("a", 20, 0);
    enqueue_n("b", 40, 0);
    process_hold("b", 5);
    rig_wait(&held_n, 5);
    for (int i = 0; i < 5; i++) {
        unsigned limit = limits[i];
        ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, NULL, limit), 40);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, "a", limit), 20);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_FAILED, NULL, limit), 20);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_FAILED, "b", limit), 10);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_RUNNING, NULL, limit), 5);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_RUNNING, "a", limit), 0);
        ck_assert_uint_eq(all_pages(DASSIE_RUNNING, "b", limit), 5);
        ck_assert_uint_eq(all_pages(DASSIE_PENDING, NULL, limit), 55);
        ck_assert_uint_eq(all_pages(DASSIE_PENDING, "a", limit), 20);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_PENDING, "b", limit), 35);
        check_rising();
        ck_assert_uint_eq(all_pages(DASSIE_PENDING, "c", limit), 0);
    }
    let_go();
}
END_TEST

/* Options NULL: the first 100 of the pending ones. */
START_TEST(list_defaults)
{
    enqueue_n("a", 70, 0);
    enqueue_n("b", 70, 0);
    pages_begin(DASSIE_PENDING, NULL);
    for (int call = 1; call <= 3; call++) {
        ck_assert_int_eq(dassie_list(&rig.q, &pages.req, NULL, on_page), 0);
        rig_wait(&pages.calls, call);
        ck_assert_uint_eq(pages.page, call == 1 ? 100 : call == 2 ? 40 : 0);
        ck_assert_int_eq(pages.req.more, call == 1);
    }
}
END_TEST

/* Pending ones come in the order in which they will run. */
START_TEST(list_order)
{
    static uint64_t listed[60];
    for (int round = 0; round < 3; round++) {
        for (int priority = 19; priority > -20; priority -= 2) {
            enqueue_n("a", 1, priority);
        }
    }
    ck_assert_uint_eq(all_pages(DASSIE_PENDING, "a", 7), 60);
    for (size_t i = 0; i < pages.n; i++) {
        listed[i] = pages.id[i];
        ck_assert_int_eq(pages.priority[i], -19 + 2 * (int)(i / 3));
        ck_assert(i % 3 == 0 || listed[i] > listed[i - 1]);
    }
    process_hold("a", 1);
    for (int i = 0; i < 60; i++) {
        rig_wait(&held_n, 1);
        ck_assert_uint_eq(held[0], listed[i]);
        held_n = 0;
        finish(listed[i], 0);
    }
    rig_drain();
}
END_TEST

static void finish_held(int n)
{
    held_n = 0;
    for (int i = 0; i < n; i++) {
        finish(held[i], 0);
    }
}

/* Between pages jobs come and go: those that stay are told once each. */
START_TEST(list_while_changing)
{
    enqueue_n("a", 100, 0);
    pages_begin(DASSIE_PENDING, "a");
    ck_assert_uint_eq(next_page(30), 30);
    process_hold("a", 10);
    rig_wait(&held_n, 10);
    ck_assert_uint_eq(next_page(30), 30);
    enqueue_n("a", 10, 0);
    enqueue_n("a", 5, -1); /* before what was told */
    finish_held(10);
    rig_wait(&held_n, 10);
    while (next_page(30) > 0) {
    }
    ck_assert_uint_eq(pages.n, 110);
    check_rising();
    pages_begin(DASSIE_COMPLETE, NULL);
    ck_assert_uint_eq(next_page(4), 4);
    finish_held(10);
    rig_wait(&held_n, 10);
    while (next_page(4) > 0) {
    }
    ck_assert_uint_eq(pages.n, 20);
    check_rising();
    let_go();
}
END_TEST

/* A page ends at 16 MiB; what belongs to other queues does not count. */
START_TEST(list_bytes)
{
    enum { MIB = 1 << 20, BIG = 40 };
    char *block = malloc(MIB);
    dassie_spec_t spec = rig_spec("big", NULL);
    ck_assert_ptr_nonnull(block);
    memset(block, 0, MIB);
    memcpy(block, "payload", 7);
    spec.data = block;
    spec.data_len = MIB;
    for (int i = 0; i < BIG; i++) {
        int status;
        ck_assert_uint_ne(rig_try_enqueue(&spec, &status), 0);
    }
    free(block);
    pages_begin(DASSIE_PENDING, "big");
    ck_assert_uint_eq(next_page(100), 16);
    ck_assert_uint_eq(all_pages(DASSIE_PENDING, "big", 100), BIG);
    complete_all("big");
    enqueue_n("small", 1, 0);
    complete_all("small");
    ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, "big", 100), BIG);
    ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, "small", 100), 1);
    ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, NULL, 100), BIG + 1);
}
END_TEST

/* A page reads a bounded number of other queues' jobs, and says where it
 * stopped: it may be empty then. */
START_TEST(list_rare)
{
    enum { READ = 10000, COMMON = READ + 1 };
    static dassie_spec_t specs[COMMON];
    dassie_enqueue_many_t many = {0};
    for (int i = 0; i < COMMON; i++) {
        specs[i] = rig_spec("common", "payload");
    }
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, specs, COMMON, NULL),
                     0);
    complete_all("common");
    enqueue_n("rare", 1, 0);
    complete_all("rare");
    pages_begin(DASSIE_COMPLETE, "rare");
    ck_assert_uint_eq(next_page(0), 0);
    ck_assert(pages.req.more);
    ck_assert_uint_eq(next_page(0), 1);
    ck_assert(!pages.req.more);
    ck_assert_uint_eq(all_pages(DASSIE_COMPLETE, "rare", 0), 1);
}
END_TEST

/* ---- Bad calls ---- */

static char long_name[DASSIE_NAME_BYTES_MAX + 2];

static const dassie_list_options_t bad_lists[] = {
#define OPTIONS(...)                                       \
    {                                                      \
        .size = sizeof(dassie_list_options_t), __VA_ARGS__ \
    }
    {.size = 0},
    OPTIONS(.state = (dassie_state_t)3),
    OPTIONS(.state = (dassie_state_t)-1),
    OPTIONS(.state = (dassie_state_t)7),
    OPTIONS(.limit = DASSIE_LIST_MAX + 1),
    OPTIONS(.limit = UINT32_MAX),
    OPTIONS(.queue = ""),
    OPTIONS(.queue = long_name),
    OPTIONS(.queue = long_name, .queue_len = 256),
};

static void on_get_never(dassie_get_t *req, int status,
                         const dassie_info_t *job)
{
    (void)req;
    (void)job;
    ck_abort_msg("told %d", status);
}

static void on_counts_never(dassie_counts_t *req, int status,
                            const dassie_count_t *count)
{
    (void)req;
    (void)count;
    ck_abort_msg("told %d", status);
}

static void on_drain_never(dassie_drain_t *req, int status)
{
    (void)req;
    ck_abort_msg("told %d", status);
}

/* What every look-up says to a handle it cannot use. */
static void check_all(dassie_t *q, int rc)
{
    dassie_get_t get = {.data = NULL};
    dassie_list_t list = {.data = NULL};
    dassie_counts_t counts = {.data = NULL};
    dassie_drain_t drain = {.data = NULL};
    dassie_stats_t stats;
    ck_assert_int_eq(dassie_get(q, &get, 1, on_get_never), rc);
    ck_assert_int_eq(dassie_list(q, &list, NULL, on_page), rc);
    ck_assert_int_eq(dassie_counts(q, &counts, NULL, 0, on_counts_never), rc);
    ck_assert_int_eq(dassie_drain(q, &drain, NULL, 0, on_drain_never), rc);
    ck_assert_int_eq(dassie_stats(q, &stats), rc);
}

START_TEST(bad_calls)
{
    dassie_t zero = {.data = NULL};
    dassie_get_t get = {.data = NULL};
    dassie_list_t list = {.data = NULL};
    dassie_counts_t counts = {.data = NULL};
    dassie_drain_t drain = {.data = NULL};
    dassie_t *q = &rig.q;
    pages_begin(DASSIE_PENDING, NULL);
    memset(long_name, 'n', sizeof long_name - 1);
    for (size_t i = 0; i < sizeof bad_lists / sizeof bad_lists[0]; i++) {
        int rc = dassie_list(q, &list, &bad_lists[i], on_page);
        ck_assert_msg(rc == UV_EINVAL, "%zu: %d", i, rc);
    }
    ck_assert_int_eq(dassie_get(q, NULL, 1, on_get_never), UV_EINVAL);
    ck_assert_int_eq(dassie_get(q, &get, 1, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_list(q, NULL, NULL, on_page), UV_EINVAL);
    ck_assert_int_eq(dassie_list(q, &list, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_counts(q, NULL, NULL, 0, on_counts_never),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_counts(q, &counts, NULL, 0, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_counts(q, &counts, "", 0, on_counts_never),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_counts(q, &counts, long_name, 0, on_counts_never),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_drain(q, NULL, NULL, 0, on_drain_never), UV_EINVAL);
    ck_assert_int_eq(dassie_drain(q, &drain, NULL, 0, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_stats(q, NULL), UV_EINVAL);
    check_all(NULL, UV_EINVAL);
    check_all(&zero, UV_EINVAL);
    ck_assert_int_eq(dassie_close(q, rig_closed), 0);
    check_all(q, UV_ECANCELED);
    rig_wait(&rig.closed, 1);
    check_all(q, UV_EINVAL);
    ck_assert_int_eq(dassie_init(&rig.loop, q), 0);
    check_all(q, UV_EINVAL); /* not yet open */
    ck_assert_int_eq(dassie_close(q, NULL), 0);
    while (q->impl != NULL) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(pages.calls, 0);
    rig_open();
}
END_TEST

/* ---- Counts ---- */

static const dassie_count_t *count_of(uint64_t pending, uint64_t running,
                                      uint64_t complete, uint64_t failed)
{
    static dassie_count_t count;
    memset(&count, 0, sizeof count);
    count.pending = pending;
    count.running = running;
    count.complete = complete;
    count.failed = failed;
    return &count;
}

static void check_counts(const char *queue, size_t len, int status,
                         const dassie_count_t *count)
{
    struct rig_counted counted = {.n = 0};
    counted.req.data = &counted;
    ck_assert_int_eq(
        dassie_counts(&rig.q, &counted.req, queue, len, rig_on_counts), 0);
    rig_wait(&counted.n, 1);
    ck_assert_int_eq(counted.status, status);
    if (status == 0) {
        ck_assert_mem_eq(&counted.count, count, sizeof *count);
    }
}

START_TEST(counts_of)
{
    check_counts(NULL, 0, 0, count_of(0, 0, 0, 0));
    check_counts("a", 0, UV_ENOENT, NULL);
    enqueue_n("a", 9, 0);
    enqueue_n("b", 3, 0);
    check_counts("a", 0, 0, count_of(9, 0, 0, 0));
    end_jobs("b", 3);
    process_hold("a", 2);
    rig_wait(&held_n, 2);
    for (int again = 0; again < 2; again++) {
        check_counts(NULL, 0, 0, count_of(7, 2, 2, 1));
        check_counts("a", 0, 0, count_of(7, 2, 0, 0));
        check_counts("abc", 1, 0, count_of(7, 2, 0, 0));
        check_counts("b", 0, 0, count_of(0, 0, 2, 1));
        check_counts("ab", 0, UV_ENOENT, NULL);
        dassie_count_t jobs = rig_stats().jobs;
        ck_assert_mem_eq(&jobs, (count_of(7, 2, 2, 1)), sizeof jobs);
    }
    let_go();
}
END_TEST

/* ---- Figures ---- */

static struct {
    int status;
    int n;
    size_t queues_n;
    dassie_queue_info_t queues[4]; /* their names are the handle's */
} told;

static void on_queues(dassie_queues_t *req, int status,
                      const dassie_queue_info_t *queues, size_t n)
{
    ck_assert_ptr_eq(req->q, &rig.q);
    ck_assert_ptr_eq(req->data, &told);
    ck_assert_uint_le(n, 4);
    told.status = status;
    told.n++;
    told.queues_n = n;
    for (size_t i = 0; i < n; i++) {
        told.queues[i] = queues[i];
        ck_assert_uint_eq(strlen(queues[i].name), queues[i].name_len);
    }
}

static size_t look_at_queues(dassie_queues_t *req)
{
    told.n = 0;
    req->data = &told;
    ck_assert_int_eq(dassie_queues(&rig.q, req, on_queues), 0);
    rig_wait(&told.n, 1);
    ck_assert_int_eq(told.status, 0);
    return told.queues_n;
}

START_TEST(queues_of)
{
    dassie_queues_t req = {.data = NULL};
    dassie_settings_t pause = DASSIE_SETTINGS_INIT;
    ck_assert_uint_eq(look_at_queues(&req), 0);
    rig_enqueue("b", NULL);
    rig_enqueue("a", NULL);
    rig_enqueue("b", NULL);
    end_jobs("a", 1);
    pause.set = DASSIE_SET_PAUSED;
    pause.paused = 1;
    dassie_configure_t configure = {.data = NULL};
    ck_assert_int_eq(dassie_configure(&rig.q, &configure, "b", 0, &pause, NULL),
                     0);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(look_at_queues(&req), 2);
        ck_assert_str_eq(told.queues[0].name, "b");
        ck_assert_uint_eq(told.queues[0].jobs.pending, 2);
        ck_assert_uint_ge(told.queues[0].pending_bytes, 2 * 17);
        ck_assert_uint_eq(told.queues[0].pending_bytes,
                          rig_stats().pending_bytes);
        ck_assert_int_eq(told.queues[0].paused, 1);
        ck_assert_str_eq(told.queues[1].name, "a");
        ck_assert_uint_eq(told.queues[1].jobs.pending, 0);
        ck_assert_uint_eq(told.queues[1].pending_bytes, 0);
        ck_assert_uint_eq(told.queues[1].jobs.complete, 1);
        ck_assert_int_eq(told.queues[1].paused, 0);
        rig_reopen();
    }
    ck_assert_int_eq(dassie_queues(&rig.q, NULL, on_queues), UV_EINVAL);
    ck_assert_int_eq(dassie_queues(&rig.q, &req, NULL), UV_EINVAL);
}
END_TEST

START_TEST(stats_figures)
{
    dassie_stats_t s = rig_stats();
    ck_assert_uint_eq(s.jobs.pending + s.queues + s.enqueued + s.claimed, 0);
    ck_assert_int_eq(s.degraded, 0);
    enqueue_n("a", 6, 0);
    rig_counts();
    s = rig_stats();
    ck_assert_uint_eq(s.queues, 1);
    ck_assert_uint_eq(s.enqueued, 6);
    ck_assert_uint_ge(s.commits, 1);
    ck_assert_uint_ge(s.fsyncs, s.commits);
    ck_assert_uint_ge(s.rows, 2 * 6);
    ck_assert_uint_ge(s.row_bytes, 6 * 7);
    ck_assert_uint_eq(s.inbox_jobs, 0);
    ck_assert_uint_eq(s.inbox_bytes, 0);
    end_jobs("a", 6);
    s = rig_stats();
    ck_assert_uint_eq(s.completed, 4);
    ck_assert_uint_eq(s.failed, 2);
    ck_assert_uint_eq(s.claimed, 6 + s.unclaimed);
    ck_assert_uint_eq(s.jobs.complete, 4);
    ck_assert_uint_eq(s.jobs.failed, 2);
    ck_assert_uint_eq(s.interrupted + s.suspects + s.heals, 0);
    ck_assert_uint_ge(s.pool_threads, 1);
    ck_assert_uint_eq(s.runners + s.work_slots, 0);
    rig_reopen();
    s = rig_stats();
    ck_assert_uint_eq(s.enqueued + s.completed + s.failed + s.claimed, 0);
    ck_assert_uint_eq(s.jobs.complete, 4);
    ck_assert_uint_eq(s.interrupted, 0);
}
END_TEST

static int stats_rc;

static void stats_thread(void *arg)
{
    stats_rc = dassie_stats(&rig.q, arg);
}

START_TEST(stats_from_a_thread)
{
    uv_thread_t thread;
    dassie_stats_t s;
    rig_enqueue(NULL, NULL);
    rig_counts();
    stats_rc = -1;
    ck_assert_int_eq(uv_thread_create(&thread, stats_thread, &s), 0);
    ck_assert_int_eq(uv_thread_join(&thread), 0);
    ck_assert_int_eq(stats_rc, 0);
    ck_assert_uint_eq(s.jobs.pending, 1);
}
END_TEST

/* ---- Drain ---- */

static int drained;
static int drain_status;

static void on_drain(dassie_drain_t *req, int status)
{
    ck_assert_ptr_eq(req->q, &rig.q);
    drained++;
    drain_status = status;
}

/* At once when nothing is there; else when the last job has ended, and not
 * while it runs. */
START_TEST(drained_at_last)
{
    dassie_drain_t req[2];
    drained = 0;
    ck_assert_int_eq(dassie_drain(&rig.q, &req[0], NULL, 0, on_drain), 0);
    ck_assert_int_eq(drained, 0);
    rig_wait(&drained, 1);
    ck_assert_int_eq(drain_status, 0);
    enqueue_n("a", 2, 0); /* seen, though not yet committed */
    ck_assert_int_eq(dassie_drain(&rig.q, &req[0], NULL, 0, on_drain), 0);
    ck_assert_int_eq(dassie_drain(&rig.q, &req[1], NULL, 0, on_drain), 0);
    process_hold("a", 1);
    rig_wait(&held_n, 1);
    finish(held[0], 0);
    rig_wait(&held_n, 2);
    rig_counts();
    ck_assert_int_eq(drained, 1);
    finish(held[1], UV_EPROTO);
    rig_wait(&drained, 3);
    ck_assert_int_eq(drain_status, 0);
}
END_TEST

/* Of one queue, whatever the others have. */
START_TEST(drained_queue)
{
    dassie_drain_t req[3];
    drained = 0;
    enqueue_n("a", 1, 0);
    enqueue_n("b", 1, 0);
    ck_assert_int_eq(dassie_drain(&rig.q, &req[0], "", 0, on_drain), UV_EINVAL);
    ck_assert_int_eq(dassie_drain(&rig.q, &req[0], "a", 0, on_drain), 0);
    ck_assert_int_eq(dassie_drain(&rig.q, &req[1], "bx", 1, on_drain), 0);
    ck_assert_int_eq(dassie_drain(&rig.q, &req[2], "none", 0, on_drain), 0);
    rig_wait(&drained, 1);
    process_hold("a", 1);
    rig_wait(&held_n, 1);
    rig_counts();
    ck_assert_int_eq(drained, 1);
    finish(held[0], 0);
    rig_counts();
    ck_assert_int_eq(drained, 2);
    ck_assert_int_eq(drain_status, 0);
    rig_close(); /* b has a job yet */
    ck_assert_int_eq(drained, 3);
    ck_assert_int_eq(drain_status, UV_ECANCELED);
    rig_open();
}
END_TEST

START_TEST(drain_and_close)
{
    dassie_drain_t req;
    drained = 0;
    enqueue_n("a", 2, 0);
    process_hold("a", 1);
    rig_wait(&held_n, 1);
    ck_assert_int_eq(dassie_drain(&rig.q, &req, NULL, 0, on_drain), 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    finish(held[0], 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(drained, 1);
    ck_assert_int_eq(drain_status, UV_ECANCELED);
    rig_open();
}
END_TEST

/* Closing lets what runs end: then it is drained after all. */
START_TEST(drain_while_closing)
{
    dassie_drain_t req;
    drained = 0;
    enqueue_n("a", 1, 0);
    process_hold("a", 1);
    rig_wait(&held_n, 1);
    ck_assert_int_eq(dassie_drain(&rig.q, &req, NULL, 0, on_drain), 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    finish(held[0], 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(drained, 1);
    ck_assert_int_eq(drain_status, 0);
    rig_open();
}
END_TEST

/* ---- Verify ---- */

START_TEST(verify_store)
{
    static char long_path[PATH_MAX + 2];
    char missing[PATH_MAX];
    dassie_verify_report_t report;
    memset(long_path, 'x', PATH_MAX + 1);
    temp_path(missing, rig.dir, "missing");
    enqueue_n("a", 6, 0);
    end_jobs("a", 6);
    enqueue_n("a", 6, 0);
    ck_assert_int_eq(dassie_verify(rig.path, NULL, NULL, NULL), UV_EBUSY);
    rig_close();
    uint64_t before = temp_dir_digest(rig.path, "/lock");
    report = rig_verify();
    ck_assert_uint_eq(report.jobs.pending, 6);
    ck_assert_uint_eq(report.jobs.running, 0);
    ck_assert_uint_eq(report.jobs.complete, 4);
    ck_assert_uint_eq(report.jobs.failed, 2);
    ck_assert_uint_ge(report.rows, 12 + 6 + 6);
    ck_assert_int_eq(dassie_verify(rig.path, NULL, NULL, NULL), 0);
    ck_assert_uint_eq(temp_dir_digest(rig.path, "/lock"), before);
    ck_assert_int_eq(dassie_verify(NULL, NULL, NULL, &report), UV_EINVAL);
    ck_assert_int_eq(dassie_verify(missing, NULL, NULL, &report), UV_ENOENT);
    ck_assert_int_eq(dassie_verify(rig.dir, NULL, NULL, &report),
                     DASSIE_ENOSTORE);
    ck_assert_int_eq(dassie_verify(long_path, NULL, NULL, &report),
                     UV_ENAMETOOLONG);
    rig_open();
}
END_TEST

/* ---- Codes and version ---- */

START_TEST(code_names)
{
    static const struct {
        int code;
        const char *name;
        const char *text;
    } codes[] = {
#define XX(name, text) {UV_##name, "UV_" #name, text},
        UV_ERRNO_MAP(XX)
#undef XX
#define XX(name, number, text) {number, "DASSIE_" #name, text},
            DASSIE_ERRNO_MAP(XX)
#undef XX
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        ck_assert_str_eq(dassie_err_name(codes[i].code), codes[i].name);
        ck_assert_str_eq(dassie_strerror(codes[i].code), codes[i].text);
    }
    ck_assert_str_eq(dassie_strerror(UV_EBUSY), uv_strerror(UV_EBUSY));
    ck_assert_int_lt(DASSIE_ECORRUPT, UV_EOF);
    ck_assert_str_eq(dassie_strerror(0), "success");
    static const int unknown[] = {1, -5000, -5999, -123456, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ck_assert_str_eq(dassie_err_name(unknown[i]), "unknown error");
        ck_assert_str_eq(dassie_strerror(unknown[i]), "unknown error");
    }
}
END_TEST

START_TEST(version_is)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", DASSIE_VERSION_MAJOR,
             DASSIE_VERSION_MINOR, DASSIE_VERSION_PATCH);
    ck_assert_str_eq(dassie_version(), text);
}
END_TEST

/* ---- Keeping the loop alive ---- */

static void on_ref_timer(uv_timer_t *timer)
{
    dassie_unref(timer->data);
    dassie_unref(timer->data);
    uv_close((uv_handle_t *)timer, NULL);
}

/* Unreferenced, an open queue lets the loop end by itself, and goes on when the
 * loop does. */
START_TEST(unref)
{
    uv_timer_t timer;
    ck_assert_int_ne(uv_run(&rig.loop, UV_RUN_NOWAIT), 0);
    dassie_unref(&rig.q);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    rig_enqueue(NULL, NULL); /* the rig's timer keeps the loop alive */
    dassie_ref(&rig.q);
    dassie_ref(&rig.q);
    ck_assert_int_ne(uv_run(&rig.loop, UV_RUN_NOWAIT), 0);
    ck_assert_int_eq(uv_timer_init(&rig.loop, &timer), 0);
    timer.data = &rig.q;
    ck_assert_int_eq(uv_timer_start(&timer, on_ref_timer, 1, 0), 0);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(rig_counts().pending, 1);
    dassie_ref(NULL);
    dassie_unref(NULL);
}
END_TEST

/* Closing keeps the loop alive until it is done. */
START_TEST(unref_and_close)
{
    dassie_unref(&rig.q);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    dassie_unref(&rig.q);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(rig.closed, 1);
    rig_open();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, get_states);
    tcase_add_test(tc, get_unknown);
    tcase_add_test(tc, get_sees_before);
    tcase_add_test(tc, list_pages);
    tcase_add_test(tc, list_defaults);
    tcase_add_test(tc, list_order);
    tcase_add_test(tc, list_while_changing);
    tcase_add_test(tc, list_bytes);
    tcase_add_test(tc, list_rare);
    tcase_add_test(tc, bad_calls);
    tcase_add_test(tc, counts_of);
    tcase_add_test(tc, queues_of);
    tcase_add_test(tc, stats_figures);
    tcase_add_test(tc, stats_from_a_thread);
    tcase_add_test(tc, drained_at_last);
    tcase_add_test(tc, drained_queue);
    tcase_add_test(tc, drain_and_close);
    tcase_add_test(tc, drain_while_closing);
    tcase_add_test(tc, verify_store);
    tcase_add_test(tc, code_names);
    tcase_add_test(tc, version_is);
    tcase_add_test(tc, unref);
    tcase_add_test(tc, unref_and_close);
}

int main(void)
{
    Suite *suite = suite_create("query");
    TCase *tc = tcase_create("query");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, rig_begin, rig_finish);
    add_tests(tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
