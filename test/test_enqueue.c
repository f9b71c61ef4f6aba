/* Jobs into the queue: what is refused, what is acknowledged and when, in which
 * order it runs, what happens when there is no room, and who is told of a job's
 * end. */
#include "config.h"

#include "queue_rig.h"

#include <stdatomic.h>

/* What a request was told. */
struct told {
    dassie_enqueue_t req;
    int acks;
    int status;
    int dones;
    int done_status;
    dassie_state_t state;
    uint32_t attempts;
    char text[32]; /* result or error */
    int code;
};

static int acks_total;
static int dones_total;

static void setup(void)
{
    rig_setup();
    acks_total = 0;
    dones_total = 0;
}

/* Leaves a sound store. */
static void teardown(void)
{
    rig_verify();
    rig_teardown();
}

static void setup_open(void)
{
    setup();
    rig_open();
}

static void teardown_open(void)
{
    rig_close();
    teardown();
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct told *told = req->data;
    ck_assert_ptr_eq(req->q, &rig.q);
    ck_assert_int_eq(told->dones, 0);
    told->acks++;
    told->status = status;
    acks_total++;
}

static void keep_text(struct told *told, const void *text, size_t len)
{
    ck_assert_uint_lt(len, sizeof told->text);
    memcpy(told->text, len > 0 ? text : "", len);
    told->text[len] = '\0';
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    struct told *told = req->data;
    ck_assert_int_eq(job == NULL, status != 0);
    told->dones++;
    told->done_status = status;
    dones_total++;
    if (job != NULL) {
        bool well = job->state == DASSIE_COMPLETE;
        ck_assert_uint_eq(job->id, req->id);
        ck_assert_ptr_null(job->data);
        told->state = job->state;
        told->attempts = job->attempts;
        told->code = job->error_code;
        keep_text(told, well ? job->result : job->error,
                  well ? job->result_len : job->error_len);
    }
}

static void send_told(struct told *told, const dassie_spec_t *spec)
{
    memset(told, 0, sizeof *told);
    told->req.data = told;
    told->req.done_cb = on_done;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &told->req, spec, on_ack), 0);
}

/* ---- Processors ---- */

/* What it ran, in order. */
#define RAN_MAX 8192
static struct {
    dassie_processor_t p;
    int n;
    uint64_t id[RAN_MAX];
    unsigned number[RAN_MAX]; /* what the payload says */
} ran;

static int on_work(dassie_job_t *job)
{
    size_t len;
    const void *data = dassie_job_data(job, &len);
    if (ran.n == RAN_MAX || len != sizeof ran.number[0]) {
        return UV_EINVAL;
    }
    ran.id[ran.n] = dassie_job_id(job);
    memcpy(&ran.number[ran.n++], data, len);
    return 0;
}

/* One job at a time, in the order in which they come. */
static void process_in_order(const char *queue)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = on_work;
    ran.n = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &ran.p, &options), 0);
}

/* Ends as the payload says: "bad" fails. */
static void on_start_payload(dassie_job_t *job)
{
    size_t len;
    const char *data = dassie_job_data(job, &len);
    bool bad = len == 3 && memcmp(data, "bad", 3) == 0;
    ck_assert_int_eq(dassie_finish(&rig.q, dassie_job_id(job),
                                   dassie_job_attempt(job), bad ? UV_EPROTO : 0,
                                   bad ? "no good" : "well", bad ? 7 : 4),
                     0);
}

static void process_payload(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.concurrency = 8;
    options.start = on_start_payload;
    ck_assert_int_eq(dassie_process(&rig.q, &ran.p, &options), 0);
}

/* ---- From the loop ---- */

START_TEST(acknowledged)
{
    dassie_spec_t spec = rig_spec("mail", "hello");
    struct told told[3];
    for (int i = 0; i < 3; i++) {
        send_told(&told[i], &spec);
    }
    ck_assert_int_eq(acks_total, 0);
    rig_wait(&acks_total, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(told[i].acks, 1);
        ck_assert_int_eq(told[i].status, 0);
        ck_assert_uint_gt(told[i].req.id, i > 0 ? told[i - 1].req.id : 0);
    }
    ck_assert_uint_eq(rig_counts().pending, 3);
    ck_assert_int_eq(dones_total, 0);
    rig_close();
    ck_assert_int_eq(dones_total, 3); /* closed before they ended */
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(told[i].dones, 1);
        ck_assert_int_eq(told[i].done_status, UV_ECANCELED);
    }
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, 3);
}
END_TEST

START_TEST(nobody_asks)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    dassie_enqueue_t req = {.data = &spec};
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, NULL), 0);
    ck_assert_ptr_eq(req.q, &rig.q);
    ck_assert_uint_eq(rig_counts().pending, 2);
}
END_TEST

START_TEST(done_alone)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    struct told told = {.req = {.data = &told, .done_cb = on_done}};
    process_payload();
    ck_assert_int_eq(dassie_enqueue(&rig.q, &told.req, &spec, NULL), 0);
    rig_wait(&dones_total, 1);
    ck_assert_int_eq(told.done_status, 0);
    ck_assert_uint_ne(told.req.id, 0);
    ck_assert_int_eq(told.acks, 0);
}
END_TEST

START_TEST(done_tells)
{
    struct told told[3];
    static const char *const data[] = {"good", "bad", ""};
    for (int i = 0; i < 3; i++) {
        dassie_spec_t spec = rig_spec(NULL, data[i]);
        send_told(&told[i], &spec);
    }
    process_payload();
    rig_wait(&dones_total, 3);
    for (int i = 0; i < 3; i++) {
        bool bad = i == 1;
        ck_assert_int_eq(told[i].acks, 1);
        ck_assert_int_eq(told[i].dones, 1);
        ck_assert_int_eq(told[i].done_status, 0);
        ck_assert_int_eq(told[i].state, bad ? DASSIE_FAILED : DASSIE_COMPLETE);
        ck_assert_str_eq(told[i].text, bad ? "no good" : "well");
        ck_assert_int_eq(told[i].code, bad ? UV_EPROTO : 0);
        ck_assert_uint_eq(told[i].attempts, 1);
    }
}
END_TEST

START_TEST(input_is_copied)
{
    char queue[] = "mail";
    char name[] = "send";
    char data[] = "hello";
    static struct told told; /* told at the close */
    struct rig_got got;
    dassie_spec_t spec = rig_spec(queue, data);
    spec.name = name;
    spec.priority = -3;
    spec.flags = DASSIE_AT_MOST_ONCE;
    send_told(&told, &spec);
    memset(queue, 'x', 4);
    memset(name, 'x', 4);
    memset(data, 'x', 5);
    memset(&spec, 0xff, sizeof spec);
    rig_wait(&acks_total, 1);
    const dassie_info_t *info = rig_get(&got, told.req.id);
    ck_assert_str_eq(info->queue, "mail");
    ck_assert_str_eq(info->name, "send");
    ck_assert_str_eq(info->data, "hello");
    ck_assert_int_eq(info->priority, -3);
    ck_assert_uint_eq(info->flags, DASSIE_AT_MOST_ONCE);
}
END_TEST

/* Names of 1 and of 255 bytes, of any bytes, and as C strings. */
START_TEST(names)
{
    static char bytes[DASSIE_NAME_BYTES_MAX];
    struct rig_got got;
    int status;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)i;
    }
    for (size_t len = 1; len <= sizeof bytes; len += sizeof bytes - 1) {
        dassie_spec_t spec = rig_spec(bytes, NULL);
        spec.queue_len = len;
        spec.name = bytes + sizeof bytes - len;
        spec.name_len = len;
        uint64_t id = rig_try_enqueue(&spec, &status);
        ck_assert_int_eq(status, 0);
        const dassie_info_t *info = rig_get(&got, id);
        ck_assert_uint_eq(info->queue_len, len);
        ck_assert_mem_eq(info->queue, bytes, len);
        ck_assert_uint_eq(info->name_len, len);
        ck_assert_mem_eq(info->name, spec.name, len);
    }
    const dassie_info_t *info = rig_get(&got, rig_enqueue(NULL, NULL));
    ck_assert_uint_eq(info->queue_len, 7);
    ck_assert_mem_eq(info->queue, "default", 8);
    ck_assert_uint_eq(info->name_len, 0);
    ck_assert_uint_eq(info->data_len, 0);
    ck_assert_uint_eq(rig_stats().queues, 3);
}
END_TEST

/* ---- Bad input ---- */

static char long_name[DASSIE_NAME_BYTES_MAX + 2];
static char payload[1024];

/* The store's limit is 1000 bytes. */
static const struct bad {
    const char *what;
    dassie_spec_t spec;
    int rc;
} bads[] = {
#define SPEC(...)                                  \
    {                                              \
        .size = sizeof(dassie_spec_t), __VA_ARGS__ \
    }
    {"size 0", {.size = 0}, UV_EINVAL},
    {"size of nothing", {.size = sizeof(size_t) - 1}, UV_EINVAL},
    {"empty queue", SPEC(.queue = ""), UV_EINVAL},
    {"long queue", SPEC(.queue = long_name, .queue_len = 256), UV_EINVAL},
    {"long C string", SPEC(.queue = long_name), UV_EINVAL},
    {"empty name", SPEC(.name = ""), UV_EINVAL},
    {"long name", SPEC(.name = long_name, .name_len = 256), UV_EINVAL},
    {"long name, C", SPEC(.name = long_name), UV_EINVAL},
    {"length of no queue", SPEC(.queue_len = 1), UV_EINVAL},
    {"length of no name", SPEC(.name_len = 1), UV_EINVAL},
    {"no data", SPEC(.data_len = 1), UV_EINVAL},
    {"priority -21", SPEC(.priority = -21), UV_EINVAL},
    {"priority 20", SPEC(.priority = 20), UV_EINVAL},
    {"priority 256", SPEC(.priority = 256), UV_EINVAL},
    {"flags", SPEC(.flags = 2), UV_EINVAL},
    {"high flag", SPEC(.flags = 1u << 31 | 1), UV_EINVAL},
    {"payload", SPEC(.data = payload, .data_len = 1001), UV_E2BIG},
    {"huge payload", SPEC(.data = payload, .data_len = SIZE_MAX), UV_E2BIG},
};

static void on_many_never(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    ck_abort_msg("told %d of a batch that was refused", status);
}

static void on_ack_never(dassie_enqueue_t *req, int status)
{
    (void)req;
    ck_abort_msg("told %d of a job that was refused", status);
}

static void on_done_never(dassie_enqueue_t *req, int status,
                          const dassie_info_t *job)
{
    (void)req;
    (void)job;
    ck_abort_msg("told %d of the end of a job that was refused", status);
}

/* Alone, and between good ones in a batch. */
START_TEST(bad_spec)
{
    const struct bad *bad = &bads[_i];
    dassie_enqueue_t req = {.done_cb = on_done_never};
    dassie_enqueue_many_t many = {.data = NULL};
    dassie_spec_t specs[3] = {DASSIE_SPEC_INIT, bad->spec, DASSIE_SPEC_INIT};
    memset(long_name, 'n', sizeof long_name - 1);
    rig.options.payload_bytes_max = 1000;
    rig_open();
    int rc = dassie_enqueue(&rig.q, &req, &bad->spec, on_ack_never);
    ck_assert_msg(rc == bad->rc, "%s: %d", bad->what, rc);
    rc = dassie_enqueue(&rig.q, NULL, &bad->spec, NULL);
    ck_assert_msg(rc == bad->rc, "%s: %d", bad->what, rc);
    rc = dassie_enqueue_many(&rig.q, &many, specs, 3, on_many_never);
    ck_assert_msg(rc == bad->rc, "%s: batch: %d", bad->what, rc);
    ck_assert_uint_eq(rig_counts().pending, 0);
    dassie_stats_t stats = rig_stats();
    ck_assert_uint_eq(stats.queues, 0);
    ck_assert_uint_eq(stats.enqueued, 0);
    ck_assert_uint_eq(stats.inbox_jobs, 0);
    ck_assert_uint_eq(stats.inbox_bytes, 0);
    rig_close();
}
END_TEST

/* The last that is still good. */
START_TEST(good_specs)
{
    static const dassie_spec_t good[] = {
        SPEC(.priority = -20),
        SPEC(.priority = 19),
        SPEC(.flags = DASSIE_AT_MOST_ONCE),
        SPEC(.data = payload, .data_len = 1000),
        SPEC(.data = payload, .data_len = 0),
        {.size = sizeof(size_t), .queue = "not seen", .priority = 99},
    };
    int n = (int)(sizeof good / sizeof good[0]);
    rig.options.payload_bytes_max = 1000;
    rig_open();
    for (int i = 0; i < n; i++) {
        int status;
        ck_assert_uint_ne(rig_try_enqueue(&good[i], &status), 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(rig_counts().pending, n);
    ck_assert_uint_eq(rig_stats().queues, 1);
    rig_close();
}
END_TEST

/* Of a later version, which may ask for what this one does not know. */
START_TEST(newer_spec)
{
    struct {
        dassie_spec_t spec;
        char more[16];
    } newer = {.spec = {.size = sizeof newer}};
    rig_open();
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &newer.spec, NULL), 0);
    newer.more[15] = 1;
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &newer.spec, NULL),
                     UV_EINVAL);
    ck_assert_uint_eq(rig_counts().pending, 1);
    rig_close();
}
END_TEST

START_TEST(bad_calls)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    dassie_enqueue_t req = {.data = NULL};
    dassie_enqueue_many_t many = {.data = NULL};
    dassie_watch_t watch;
    dassie_t q = {.data = NULL};
    ck_assert_int_eq(dassie_enqueue(NULL, &req, &spec, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue(&q, &req, &spec, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&q, &many, &spec, 1, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0); /* not yet open */
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec, 1, NULL),
                     UV_EINVAL);
    rig_close();
    rig_open();
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, NULL, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, on_ack_never),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, NULL, &spec, 1, NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, NULL, 1, NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec, 0, NULL),
                     UV_EINVAL);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec,
                                         DASSIE_BATCH_JOBS_MAX + 1, NULL),
                     UV_E2BIG);
    ck_assert_int_eq(dassie_watch(&rig.q, NULL, 1, NULL), UV_EINVAL);
    ck_assert_int_eq(dassie_watch(&rig.q, &watch, 1, NULL), UV_EINVAL);
    ck_assert_uint_eq(rig_counts().pending, 0);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, on_ack_never),
                     UV_ECANCELED);
    ck_assert_int_eq(dassie_enqueue_many(&rig.q, &many, &spec, 1, NULL),
                     UV_ECANCELED);
    rig_wait(&rig.closed, 1);
}
END_TEST

/* ---- Batches ---- */

struct batch {
    dassie_enqueue_many_t req;
    int status;
    int n;
};

static int batches_total;

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    struct batch *batch = req->data;
    ck_assert_ptr_eq(req->q, &rig.q);
    batch->status = status;
    batch->n++;
    batches_total++;
}

/* n specs whose payloads are their numbers, from base on. */
static dassie_spec_t *specs_make(unsigned *numbers, unsigned base, size_t n)
{
    dassie_spec_t *specs = calloc(n, sizeof specs[0]);
    ck_assert_ptr_nonnull(specs);
    for (size_t i = 0; i < n; i++) {
        numbers[i] = base + (unsigned)i;
        specs[i].size = sizeof specs[i];
        specs[i].data = &numbers[i];
        specs[i].data_len = sizeof numbers[i];
    }
    return specs;
}

/* A batch from a program whose specs are larger. */
START_TEST(newer_specs)
{
    struct newer {
        dassie_spec_t spec;
        char more[16];
    } newer[3] = {{.spec = {.size = sizeof newer[0], .priority = 1}},
                  {.spec = {.size = sizeof newer[0], .priority = 2}},
                  {.spec = {.size = sizeof newer[0], .priority = 3}}};
    struct batch batch = {.req = {.data = &batch}};
    rig_open();
    batches_total = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, &newer[0].spec, 3, on_batch),
        0);
    rig_wait(&batches_total, 1);
    ck_assert_int_eq(batch.status, 0);
    for (int i = 0; i < 3; i++) {
        struct rig_got got;
        rig_get(&got, batch.req.first_id + (uint64_t)i);
        ck_assert_int_eq(got.info.priority, i + 1);
    }
    newer[1].spec.size--;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, &newer[0].spec, 3, on_batch),
        UV_EINVAL);
    rig_close();
}
END_TEST

#define BATCH_N 5000
static unsigned numbers[BATCH_N];

START_TEST(batch_of_thousands)
{
    struct batch batch = {.req = {.data = &batch}};
    dassie_spec_t *specs = specs_make(numbers, 0, BATCH_N);
    uint64_t commits = rig_stats().commits;
    batches_total = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, BATCH_N, on_batch), 0);
    free(specs);
    ck_assert_int_eq(batches_total, 0);
    rig_wait(&batches_total, 1);
    ck_assert_int_eq(batch.status, 0);
    ck_assert_uint_eq(batch.req.count, BATCH_N);
    ck_assert_uint_eq(rig_counts().pending, BATCH_N);
    ck_assert_uint_eq(rig_stats().commits, commits + 1);
    process_in_order(NULL);
    rig_drain();
    ck_assert_int_eq(ran.n, BATCH_N);
    for (unsigned i = 0; i < BATCH_N; i++) {
        ck_assert_uint_eq(ran.id[i], batch.req.first_id + i);
        ck_assert_uint_eq(ran.number[i], i);
    }
}
END_TEST

START_TEST(batch_bad_in_the_middle)
{
    struct batch batch = {.req = {.data = &batch}};
    dassie_spec_t *specs = specs_make(numbers, 0, BATCH_N);
    uint64_t before = rig_enqueue("one", NULL);
    specs[BATCH_N / 2].priority = 20;
    specs[BATCH_N / 3].queue = "another";
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, BATCH_N, on_many_never),
        UV_EINVAL);
    free(specs);
    ck_assert_uint_eq(rig_enqueue("one", NULL), before + 1);
    ck_assert_uint_eq(rig_counts().pending, 2);
    ck_assert_uint_eq(rig_stats().queues, 1);
    ck_assert_uint_eq(rig_stats().inbox_jobs, 0);
}
END_TEST

/* A batch has no need of room, and has a limit of its own. */
START_TEST(batch_and_inbox)
{
    struct batch batch = {.req = {.data = &batch}};
    static char block[4097];
    dassie_spec_t big = rig_spec(NULL, NULL);
    dassie_spec_t *specs = specs_make(numbers, 0, 100);
    rig.options.inbox_jobs_max = 4;
    rig.options.inbox_bytes_max = 1024;
    rig_open();
    batches_total = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, 100, on_batch), 0);
    free(specs);
    rig_wait(&batches_total, 1);
    ck_assert_int_eq(batch.status, 0);
    big.data = block;
    big.data_len = sizeof block;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, &big, 1, on_many_never),
        UV_E2BIG);
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &big, NULL), 0);
    ck_assert_uint_eq(rig_counts().pending, 101);
    rig_close();
}
END_TEST

/* ---- From any thread ---- */

#define THREADS 4
#define EACH_MAX 600

static int each;
static struct told *tolds;
static uint64_t pressure_ends; /* under the mutex */
static uv_mutex_t pressure_mutex;
static uv_cond_t pressure_cond;
static atomic_int refused;
static atomic_int failures;
static uv_thread_t loop_thread;

static void on_ack_thread(dassie_enqueue_t *req, int status)
{
    uv_thread_t self = uv_thread_self();
    ck_assert(uv_thread_equal(&self, &loop_thread));
    on_ack(req, status);
}

/* Like a producer: stops at UV_ENOBUFS until it is told to go on. */
static void produce(void *arg)
{
    struct told *mine = arg;
    dassie_spec_t spec = rig_spec(NULL, "payload");
    for (int i = 0; i < each;) {
        uv_mutex_lock(&pressure_mutex);
        uint64_t seen = pressure_ends;
        uv_mutex_unlock(&pressure_mutex);
        mine[i].req.data = &mine[i];
        mine[i].req.done_cb = on_done;
        int rc = dassie_enqueue(&rig.q, &mine[i].req, &spec, on_ack_thread);
        if (rc == 0) {
            i++;
            continue;
        }
        if (rc != UV_ENOBUFS) {
            failures++;
            break;
        }
        refused++;
        uv_mutex_lock(&pressure_mutex);
        while (pressure_ends == seen) {
            uv_cond_wait(&pressure_cond, &pressure_mutex);
        }
        uv_mutex_unlock(&pressure_mutex);
    }
}

static void on_pressure_threads(dassie_t *q, int full)
{
    ck_assert_ptr_eq(q, &rig.q);
    if (!full) {
        uv_mutex_lock(&pressure_mutex);
        pressure_ends++;
        uv_cond_broadcast(&pressure_cond);
        uv_mutex_unlock(&pressure_mutex);
    }
}

static int by_id(const void *a, const void *b)
{
    const struct told *x = a;
    const struct told *y = b;
    return (x->req.id > y->req.id) - (x->req.id < y->req.id);
}

/* With room enough, and with an inbox that is full all the time. */
START_TEST(threads)
{
    static const size_t inbox[] = {0, 8, 1};
    uv_thread_t thread[THREADS];
    each = _i == 0 ? EACH_MAX : EACH_MAX / 8;
    tolds = calloc((size_t)(THREADS * each), sizeof tolds[0]);
    ck_assert_ptr_nonnull(tolds);
    loop_thread = uv_thread_self();
    refused = failures = 0;
    ck_assert_int_eq(uv_mutex_init(&pressure_mutex), 0);
    ck_assert_int_eq(uv_cond_init(&pressure_cond), 0);
    rig.options.inbox_jobs_max = inbox[_i];
    rig.options.pressure_cb = on_pressure_threads;
    rig_open();
    process_payload();
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(
            uv_thread_create(&thread[i], produce, &tolds[i * each]), 0);
    }
    rig_wait(&acks_total, THREADS * each);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(uv_thread_join(&thread[i]), 0);
    }
    rig_wait(&dones_total, THREADS * each);
    ck_assert_int_eq(failures, 0);
    ck_assert(_i > 0 || refused == 0);
    qsort(tolds, (size_t)(THREADS * each), sizeof tolds[0], by_id);
    for (int i = 0; i < THREADS * each; i++) {
        ck_assert_int_eq(tolds[i].acks, 1);
        ck_assert_int_eq(tolds[i].status, 0);
        ck_assert_uint_gt(tolds[i].req.id, i > 0 ? tolds[i - 1].req.id : 0);
        ck_assert_int_eq(tolds[i].dones, 1);
    }
    free(tolds);
    rig_close();
    uv_cond_destroy(&pressure_cond);
    uv_mutex_destroy(&pressure_mutex);
}
END_TEST

#define BATCHES_EACH 20
#define BATCH_SIZE 50
static struct batch batches[THREADS * BATCHES_EACH];

static void produce_batches(void *arg)
{
    struct batch *mine = arg;
    dassie_spec_t specs[BATCH_SIZE];
    for (int i = 0; i < BATCH_SIZE; i++) {
        specs[i] = rig_spec(NULL, "payload");
    }
    for (int i = 0; i < BATCHES_EACH; i++) {
        mine[i].req.data = &mine[i];
        failures += dassie_enqueue_many(&rig.q, &mine[i].req, specs, BATCH_SIZE,
                                        on_batch) != 0;
    }
}

static int by_first_id(const void *a, const void *b)
{
    const struct batch *x = a;
    const struct batch *y = b;
    return (x->req.first_id > y->req.first_id) -
           (x->req.first_id < y->req.first_id);
}

/* The ids of batches do not mingle. */
START_TEST(batches_of_threads)
{
    uv_thread_t thread[THREADS];
    int n = THREADS * BATCHES_EACH;
    uint64_t end = 1;
    memset(batches, 0, sizeof batches);
    batches_total = 0;
    failures = 0;
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(uv_thread_create(&thread[i], produce_batches,
                                          &batches[i * BATCHES_EACH]),
                         0);
    }
    rig_wait(&batches_total, n);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(uv_thread_join(&thread[i]), 0);
    }
    ck_assert_int_eq(failures, 0);
    qsort(batches, (size_t)n, sizeof batches[0], by_first_id);
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(batches[i].n, 1);
        ck_assert_int_eq(batches[i].status, 0);
        ck_assert_uint_ge(batches[i].req.first_id, end);
        end = batches[i].req.first_id + BATCH_SIZE;
    }
    ck_assert_uint_eq(rig_counts().pending, n * BATCH_SIZE);
}
END_TEST

/* ---- Order ---- */

#define PRIORITIES (DASSIE_PRIORITY_MAX - DASSIE_PRIORITY_MIN + 1)

/* By priority, and within one as they came. */
START_TEST(priorities)
{
    enum { ROUNDS = 5 };
    struct batch batch = {.req = {.data = &batch}};
    dassie_spec_t *specs = specs_make(numbers, 0, (size_t)PRIORITIES * ROUNDS);
    unsigned n = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < PRIORITIES; i++, n++) {
            unsigned rank = (i * 27 + round * 11) % PRIORITIES;
            numbers[n] = rank * ROUNDS + round;
            specs[n].priority = DASSIE_PRIORITY_MIN + (int)rank;
        }
    }
    batches_total = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, specs, n, on_batch), 0);
    free(specs);
    rig_wait(&batches_total, 1);
    if (_i == 1) {
        rig_reopen();
    }
    process_in_order(NULL);
    rig_drain();
    ck_assert_uint_eq((unsigned)ran.n, n);
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_eq(ran.number[i], i);
    }
}
END_TEST

/* ---- No room ---- */

static int pressed[64];
static int pressed_n;

static void on_pressure(dassie_t *q, int full)
{
    ck_assert_ptr_eq(q, &rig.q);
    ck_assert_int_lt(pressed_n, 64);
    if (!full) {
        dassie_stats_t stats = rig_stats();
        ck_assert_uint_le(stats.inbox_jobs, rig.options.inbox_jobs_max / 4);
        ck_assert_uint_le(stats.inbox_bytes, rig.options.inbox_bytes_max / 4);
    }
    pressed[pressed_n++] = full;
}

/* Each commit waits a moment, so that the inbox does fill up. */
static void open_pressed(bool bytes)
{
    rig.options.inbox_jobs_max = bytes ? 1000 : 8;
    rig.options.inbox_bytes_max = bytes ? 1000 : 1000000;
    rig.options.pressure_cb = on_pressure;
    rig.options.commit_delay_ms = 20;
    pressed_n = 0;
    rig_open();
}

static int fill_inbox(void)
{
    static const char block[100];
    dassie_spec_t spec = rig_spec(NULL, NULL);
    int rc;
    int n = 0;
    spec.data = block;
    spec.data_len = sizeof block;
    while ((rc = dassie_enqueue(&rig.q, NULL, &spec, NULL)) == 0) {
        n++;
    }
    ck_assert_int_eq(rc, UV_ENOBUFS);
    return n;
}

START_TEST(pressure)
{
    dassie_spec_t spec = rig_spec(NULL, NULL);
    struct batch batch = {.req = {.data = &batch}};
    int n = 0;
    open_pressed(_i == 1);
    for (int round = 1; round <= 3; round++) {
        n += fill_inbox();
        ck_assert_int_eq(
            dassie_enqueue_many(&rig.q, &batch.req, &spec, 1, on_many_never),
            UV_ENOBUFS);
        ck_assert_int_eq(pressed_n, 2 * (round - 1));
        rig_wait(&pressed_n, 2 * round);
        ck_assert_int_eq(pressed[2 * round - 2], 1);
        ck_assert_int_eq(pressed[2 * round - 1], 0);
    }
    ck_assert_uint_eq(rig_counts().pending, n);
    ck_assert_int_eq(pressed_n, 6);
    rig_close();
}
END_TEST

/* The loop comes to see it only when all is over: who was refused is told to go
 * on nevertheless. */
static int backlogs[8];
static int backlogs_n;

static void on_backlog(dassie_t *q, int bits)
{
    ck_assert_ptr_eq(q, &rig.q);
    ck_assert_int_lt(backlogs_n, 8);
    backlogs[backlogs_n++] = bits;
}

static void backlog_ends(dassie_job_t *job)
{
    dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job), 0, NULL,
                  0);
}

/* It is told when it begins, when it is found, and when it ends. */
START_TEST(backlog)
{
    static dassie_processor_t p;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig.options.pressure_cb = on_backlog;
    rig.options.pending_jobs_high = 4;
    rig.options.pending_jobs_low = _i == 0 ? 0 : 1;
    backlogs_n = 0;
    rig_open();
    for (int i = 0; i < 3; i++) {
        rig_enqueue(NULL, "x");
    }
    ck_assert_int_eq(backlogs_n, 0);
    rig_enqueue(NULL, "x");
    rig_wait(&backlogs_n, 1);
    rig_reopen();
    rig_wait(&backlogs_n, 2);
    rig_enqueue(NULL, "x");
    ck_assert_int_eq(backlogs_n, 2);
    options.start = backlog_ends;
    ck_assert_int_eq(dassie_process(&rig.q, &p, &options), 0);
    rig_wait(&backlogs_n, 3);
    rig_drain();
    ck_assert_int_eq(backlogs_n, 3);
    ck_assert_int_eq(backlogs[0], DASSIE_BACKLOG_HIGH);
    ck_assert_int_eq(backlogs[1], DASSIE_BACKLOG_HIGH);
    ck_assert_int_eq(backlogs[2], 0);
    rig_close();
}
END_TEST

/* What is told by now: each commit before this has been judged. */
static void backlog_told(int n, int bits)
{
    rig_counts();
    ck_assert_int_eq(backlogs_n, n);
    ck_assert_int_eq(backlogs[n - 1], bits);
}

static void backlog_cancelled(dassie_change_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ++*(int *)req->data;
}

static void backlog_cancel(uint64_t id)
{
    int n = 0;
    dassie_change_t req = {.data = &n};
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.id = id;
    ck_assert_int_eq(
        dassie_change(&rig.q, &req, DASSIE_CANCEL, &filter, backlog_cancelled),
        0);
    rig_wait(&n, 1);
}

static uint64_t backlog_put(size_t bytes, uint64_t delay_ms)
{
    static const char block[1000];
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    int status;
    spec.data = block;
    spec.data_len = bytes;
    spec.delay_ms = delay_ms;
    uint64_t id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    return id;
}

/* Each has its marks: either is enough, and both have to be over. */
START_TEST(backlog_bytes)
{
    uint64_t ids[4];
    rig.options.pressure_cb = on_backlog;
    rig.options.pending_bytes_high = 2 * (17 + 1000);
    rig.options.pending_jobs_high = 4;
    backlogs[0] = backlogs_n = 0;
    rig_open();
    backlog_put(1000, 3600000); /* waits for its time */
    ids[0] = backlog_put(1000, 0);
    ids[1] = backlog_put(999, 0);
    rig_counts();
    ck_assert_int_eq(backlogs_n, 0);
    ck_assert_uint_eq(rig_stats().pending_bytes, 2 * (17 + 1000) - 1);
    backlog_cancel(ids[1]);
    ids[1] = backlog_put(1000, 0);
    backlog_told(1, DASSIE_BACKLOG_HIGH);
    ids[2] = backlog_put(0, 0);
    ids[3] = backlog_put(0, 0); /* many jobs, too */
    rig_reopen();
    backlog_told(2, DASSIE_BACKLOG_HIGH);
    backlog_cancel(ids[0]);
    backlog_cancel(ids[2]); /* few jobs, but many bytes */
    backlog_told(2, DASSIE_BACKLOG_HIGH);
    ck_assert_uint_eq(rig_stats().pending_bytes, 17 + 1000 + 17);
    backlog_cancel(ids[3]);
    backlog_told(3, 0);
    rig_close();
}
END_TEST

/* Its marks are in order, or there is none. */
START_TEST(backlog_range)
{
    static const uint64_t bad[][2] = {{0, 1}, {1, 1}, {4, 5}};
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    for (int i = 0; i < 6; i++) {
        dassie_options_t options = rig.options;
        bool bytes = i >= 3;
        *(bytes ? &options.pending_bytes_high : &options.pending_jobs_high) =
            bad[i % 3][0];
        *(bytes ? &options.pending_bytes_low : &options.pending_jobs_low) =
            bad[i % 3][1];
        ck_assert_int_eq(dassie_open(&rig.q, rig.path, &options, NULL),
                         UV_EINVAL);
    }
    rig.options.pending_jobs_high = 1;
    rig.options.pending_bytes_high = 1;
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    rig_wait(&rig.opened, 1);
    rig_close();
}
END_TEST

START_TEST(pressure_over_before_the_loop)
{
    uint64_t cap = uv_hrtime() + RIG_WAIT_MS * UINT64_C(1000000);
    open_pressed(false);
    fill_inbox();
    while (rig_stats().inbox_jobs > 0) {
        ck_assert_uint_lt(uv_hrtime(), cap);
        uv_sleep(1);
    }
    ck_assert_int_eq(pressed_n, 0);
    rig_wait(&pressed_n, 2);
    ck_assert_int_eq(pressed[0], 1);
    ck_assert_int_eq(pressed[1], 0);
    rig_counts();
    ck_assert_int_eq(pressed_n, 2);
    rig_close();
}
END_TEST

/* Once closed nobody is told to go on. */
START_TEST(pressure_and_close)
{
    open_pressed(false);
    fill_inbox();
    rig_close();
    ck_assert_int_eq(pressed_n, 0);
}
END_TEST

/* Below the floor nothing new comes in, and what is there still ends. */
static int refusals;

static void on_refusal(dassie_enqueue_t *req, int status,
                       const dassie_info_t *job)
{
    ck_assert_uint_eq(req->id, 0);
    ck_assert_int_eq(status, UV_ENOSPC);
    ck_assert_ptr_null(job);
    refusals++;
}

/* Without an enqueue callback it is the other one that tells. */
static void send_refused(const dassie_spec_t *spec)
{
    dassie_enqueue_t req = {.done_cb = on_refusal};
    refusals = 0;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, spec, NULL), 0);
    rig_wait(&refusals, 1);
}

START_TEST(disk_floor)
{
    struct batch batch = {.req = {.data = &batch}};
    dassie_spec_t spec = rig_spec("a new queue", NULL);
    struct told told;
    rig_open();
    for (int i = 0; i < 3; i++) {
        rig_enqueue(NULL, "good");
    }
    rig_close();
    rig.options.free_bytes_min = UINT64_MAX;
    rig_open();
    send_told(&told, &spec);
    told.req.done_cb = on_done_never;
    batches_total = 0;
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, &spec, 1, on_batch), 0);
    rig_wait(&batches_total, 1);
    ck_assert_int_eq(batch.status, UV_ENOSPC);
    ck_assert_int_eq(told.acks, 1);
    ck_assert_int_eq(told.status, UV_ENOSPC);
    send_refused(&spec);
    ck_assert_uint_eq(rig_stats().queues, 1);
    process_payload();
    rig_drain();
    ck_assert_uint_eq(rig_counts().complete, 3);
    rig_close();
}
END_TEST

/* ---- When ---- */

/* What comes within the delay shares one commit. */
START_TEST(commit_delay)
{
    enum { JOBS = 50, DELAY_MS = 300 };
    static struct told told[JOBS];
    dassie_spec_t spec = rig_spec(NULL, NULL);
    rig.options.commit_delay_ms = DELAY_MS;
    rig_open();
    rig_counts(); /* the first delay is over */
    uint64_t commits = rig_stats().commits;
    uint64_t begin = uv_hrtime();
    for (int i = 0; i < JOBS; i++) {
        send_told(&told[i], &spec);
    }
    bool quick = uv_hrtime() - begin < DELAY_MS * UINT64_C(1000000);
    rig_wait(&acks_total, JOBS);
    ck_assert_uint_ge(uv_hrtime() - begin, DELAY_MS * UINT64_C(1000000));
    if (quick) {
        ck_assert_uint_eq(rig_stats().commits, commits + 1);
    }
    rig_close();
}
END_TEST

/* Unsynced, and there after a close all the same. */
START_TEST(durability)
{
    enum { JOBS = 10 };
    rig.options.durability = _i == 0 ? DASSIE_FULL : DASSIE_OFF;
    rig_open();
    dassie_stats_t before = rig_stats();
    for (int i = 0; i < JOBS; i++) {
        rig_enqueue(NULL, NULL);
    }
    dassie_stats_t after = rig_stats();
    ck_assert_uint_eq(after.commits - before.commits, JOBS);
    ck_assert_uint_eq(after.fsyncs - before.fsyncs, _i == 0 ? JOBS : 0);
    process_payload();
    rig_drain();
    rig_reopen();
    ck_assert_uint_eq(rig_counts().complete, JOBS);
    rig_close();
}
END_TEST

/* What is sent while the store opens waits for it, even if that fails. */
START_TEST(while_opening)
{
    bool fails = _i == 1;
    dassie_spec_t spec = rig_spec(NULL, NULL);
    struct told told;
    struct batch batch = {.req = {.data = &batch}};
    if (fails) {
        temp_path(rig.path, rig.dir, "no/store");
    }
    batches_total = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    send_told(&told, &spec);
    ck_assert_int_eq(
        dassie_enqueue_many(&rig.q, &batch.req, &spec, 1, on_batch), 0);
    rig_wait(&batches_total, 1);
    ck_assert_int_eq(rig.opened, 1);
    ck_assert_int_eq(rig.status, fails ? UV_ENOENT : 0);
    ck_assert_int_eq(told.acks, 1);
    ck_assert_int_eq(told.status, fails ? UV_ECANCELED : 0);
    ck_assert_int_eq(batch.status, fails ? UV_ECANCELED : 0);
    rig_close();
    ck_assert_int_eq(told.dones, fails ? 0 : 1);
    temp_path(rig.path, rig.dir, "store");
    rig_open();
    ck_assert_uint_eq(rig_counts().pending, fails ? 0 : 2);
    rig_close();
}
END_TEST

static struct told late_told;

/* Enqueues, closes, and keeps the loop busy until the engine is done. */
static void on_open_enqueue_close(dassie_t *q, int status)
{
    uint64_t cap = uv_hrtime() + RIG_WAIT_MS * UINT64_C(1000000);
    dassie_spec_t spec = rig_spec(NULL, NULL);
    ck_assert_int_eq(status, 0);
    send_told(&late_told, &spec);
    ck_assert_int_eq(dassie_close(q, rig_closed), 0);
    while (dassie_verify(rig.path, NULL, NULL, NULL) == UV_EBUSY) {
        ck_assert_uint_lt(uv_hrtime(), cap);
        uv_sleep(1);
    }
}

/* An acknowledgement comes before the news that nothing more will come. */
START_TEST(ack_before_done)
{
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(
        dassie_open(&rig.q, rig.path, &rig.options, on_open_enqueue_close), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(late_told.acks, 1); /* on_ack: none done by then */
    ck_assert_int_eq(late_told.status, 0);
    ck_assert_int_eq(late_told.dones, 1);
    ck_assert_int_eq(late_told.done_status, UV_ECANCELED);
}
END_TEST

/* ---- Watching ---- */

struct watched {
    dassie_watch_t req;
    int n;
    int status;
    dassie_state_t state;
    uint64_t id;
    int code;
    char text[32];
};

static int watched_total;

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    struct watched *w = req->data;
    ck_assert_int_eq(job == NULL, status != 0);
    w->n++;
    w->status = status;
    watched_total++;
    if (job != NULL) {
        struct told told;
        bool well = job->state == DASSIE_COMPLETE;
        w->state = job->state;
        w->id = job->id;
        w->code = job->error_code;
        keep_text(&told, well ? job->result : job->error,
                  well ? job->result_len : job->error_len);
        memcpy(w->text, told.text, sizeof w->text);
    }
}

static void watch(struct watched *w, uint64_t id)
{
    memset(w, 0, sizeof *w);
    w->req.data = w;
    ck_assert_int_eq(dassie_watch(&rig.q, &w->req, id, on_watch), 0);
    ck_assert_uint_eq(w->req.id, id);
    ck_assert_int_eq(w->n, 0);
}

static void check_watched(const struct watched *w, uint64_t id, bool well)
{
    ck_assert_int_eq(w->n, 1);
    ck_assert_int_eq(w->status, 0);
    ck_assert_uint_eq(w->id, id);
    ck_assert_int_eq(w->state, well ? DASSIE_COMPLETE : DASSIE_FAILED);
    ck_assert_int_eq(w->code, well ? 0 : UV_EPROTO);
    ck_assert_str_eq(w->text, well ? "well" : "no good");
}

/* Pending ones, of this handle or of one before; several watch one job, and so
 * does who enqueued it. */
START_TEST(watch_pending)
{
    enum { EACH_JOB = 3 };
    struct watched w[2][EACH_JOB];
    struct told told;
    uint64_t id[2] = {rig_enqueue(NULL, "good"), 0};
    rig_reopen();
    dassie_spec_t spec = rig_spec(NULL, "bad");
    send_told(&told, &spec);
    rig_wait(&acks_total, 1);
    id[1] = told.req.id;
    watched_total = 0;
    for (int i = 0; i < 2 * EACH_JOB; i++) {
        watch(&w[i % 2][i / 2], id[i % 2]);
    }
    rig_counts();
    ck_assert_int_eq(watched_total, 0);
    process_payload();
    rig_wait(&watched_total, 2 * EACH_JOB);
    for (int i = 0; i < 2 * EACH_JOB; i++) {
        check_watched(&w[i % 2][i / 2], id[i % 2], i % 2 == 0);
    }
    rig_wait(&dones_total, 1);
    ck_assert_int_eq(told.done_status, 0);
    ck_assert_str_eq(told.text, "no good");
}
END_TEST

static uint64_t held_id;
static int held_n;

static void on_start_hold(dassie_job_t *job)
{
    held_id = dassie_job_id(job);
    held_n++;
}

START_TEST(watch_running)
{
    struct watched w;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    uint64_t id = rig_enqueue(NULL, "good");
    options.start = on_start_hold;
    held_n = 0;
    watched_total = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &ran.p, &options), 0);
    rig_wait(&held_n, 1);
    ck_assert_uint_eq(held_id, id);
    watch(&w, id);
    rig_counts();
    ck_assert_int_eq(watched_total, 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, "well", 4), 0);
    rig_wait(&watched_total, 1);
    check_watched(&w, id, true);
}
END_TEST

START_TEST(watch_ended)
{
    struct watched w[2];
    uint64_t id[2] = {rig_enqueue(NULL, "good"), rig_enqueue(NULL, "bad")};
    process_payload();
    rig_drain();
    for (int again = 0; again < 2; again++) {
        watched_total = 0;
        for (int i = 0; i < 2; i++) {
            watch(&w[i], id[i]);
        }
        rig_wait(&watched_total, 2);
        for (int i = 0; i < 2; i++) {
            check_watched(&w[i], id[i], i == 0);
        }
        rig_reopen();
    }
}
END_TEST

START_TEST(watch_unknown)
{
    uint64_t id = rig_enqueue(NULL, NULL);
    uint64_t unknown[] = {0, id + 1, UINT64_MAX};
    struct watched w;
    watched_total = 0;
    for (int i = 0; i < 3; i++) {
        watch(&w, unknown[i]);
        rig_wait(&watched_total, i + 1);
        ck_assert_int_eq(w.status, UV_ENOENT);
    }
}
END_TEST

/* Closed before the job ended; and a job that ends while closing is told. */
START_TEST(watch_and_close)
{
    struct watched w[2];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    rig_open();
    uint64_t id = rig_enqueue(NULL, "good");
    uint64_t pending = rig_enqueue("other", NULL);
    options.start = on_start_hold;
    held_n = 0;
    watched_total = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &ran.p, &options), 0);
    rig_wait(&held_n, 1);
    watch(&w[0], id);
    watch(&w[1], pending);
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    ck_assert_int_eq(dassie_finish(&rig.q, id, 1, 0, "well", 4), 0);
    rig_wait(&rig.closed, 1);
    check_watched(&w[0], id, true);
    ck_assert_int_eq(w[1].n, 1);
    ck_assert_int_eq(w[1].status, UV_ECANCELED);
}
END_TEST

static Suite *enqueue_suite(void)
{
    Suite *suite = suite_create("enqueue");
    TCase *opened = tcase_create("opened");
    TCase *options = tcase_create("options");
    suite_add_tcase(suite, opened);
    suite_add_tcase(suite, options);
    tcase_add_checked_fixture(opened, setup_open, teardown_open);
    tcase_add_checked_fixture(options, setup, teardown);
    tcase_add_test(opened, acknowledged);
    tcase_add_test(opened, nobody_asks);
    tcase_add_test(opened, done_alone);
    tcase_add_test(opened, done_tells);
    tcase_add_test(opened, input_is_copied);
    tcase_add_test(opened, names);
    tcase_add_loop_test(options, bad_spec, 0,
                        (int)(sizeof bads / sizeof bads[0]));
    tcase_add_test(options, good_specs);
    tcase_add_test(options, newer_spec);
    tcase_add_test(options, newer_specs);
    tcase_add_test(options, bad_calls);
    tcase_add_test(opened, batch_of_thousands);
    tcase_add_test(opened, batch_bad_in_the_middle);
    tcase_add_test(options, batch_and_inbox);
    tcase_add_loop_test(options, threads, 0, 3);
    tcase_add_test(opened, batches_of_threads);
    tcase_add_loop_test(opened, priorities, 0, 2);
    tcase_add_loop_test(options, pressure, 0, 2);
    tcase_add_loop_test(options, backlog, 0, 2);
    tcase_add_test(options, backlog_bytes);
    tcase_add_test(options, backlog_range);
    tcase_add_test(options, pressure_over_before_the_loop);
    tcase_add_test(options, pressure_and_close);
    tcase_add_test(options, disk_floor);
    tcase_add_test(options, commit_delay);
    tcase_add_loop_test(options, durability, 0, 2);
    tcase_add_loop_test(options, while_opening, 0, 2);
    tcase_add_test(options, ack_before_done);
    tcase_add_test(opened, watch_pending);
    tcase_add_test(opened, watch_running);
    tcase_add_test(opened, watch_ended);
    tcase_add_test(opened, watch_unknown);
    tcase_add_test(options, watch_and_close);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(enqueue_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
