/* queue_rig.h: a queue on a loop of its own, in a directory of its own, for
 * tests of what users see.
 *
 * A test sets up, opens, runs the loop until what it waits for is true, closes
 * and tears down; a wait has a cap that only a fault reaches. Teardown fails
 * when the loop is left with a handle. RocksDB is opened in here only, so tests
 * use it in checked fixtures and in themselves. Threads: the loop's. */
#ifndef DASSIE_TEST_QUEUE_RIG_H_
#define DASSIE_TEST_QUEUE_RIG_H_

#include <dassie.h>

#include "temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#define RIG_WAIT_MS 60000

struct queue_rig {
    uv_loop_t loop;
    dassie_t q;
    dassie_options_t options; /* of the next rig_open(); change them before */
    char dir[TEMP_PATH_BYTES];
    char path[PATH_MAX]; /* the store's */
    int opened;          /* how often open_cb came */
    int status;          /* what it said */
    int closed;          /* how often close_cb came */
    uv_timer_t cap;
    bool late;
    int fifo; /* between rig_hold() and rig_release() */
};

static struct queue_rig rig;

static inline void rig_late(uv_timer_t *timer)
{
    (void)timer;
    rig.late = true;
}

/* Runs the loop until *n is at least so much. */
static inline void rig_wait(const int *n, int least)
{
    rig.late = false;
    ck_assert_int_eq(uv_timer_start(&rig.cap, rig_late, RIG_WAIT_MS, 0), 0);
    while (*n < least && !rig.late) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
    ck_assert_msg(!rig.late, "waited in vain: %d, not %d", *n, least);
    uv_timer_stop(&rig.cap);
}

static inline void rig_opened(dassie_t *q, int status)
{
    ck_assert_ptr_eq(q, &rig.q);
    rig.opened++;
    rig.status = status;
}

static inline void rig_closed(dassie_t *q)
{
    ck_assert_ptr_eq(q, &rig.q);
    rig.closed++;
}

static inline void rig_log(dassie_t *q, dassie_log_level_t level,
                           const char *line)
{
    (void)q;
    if (level <= DASSIE_LOG_WARNING) {
        fprintf(stderr, "log: %s\n", line);
    }
}

static inline void rig_setup(void)
{
    static const dassie_options_t defaults = DASSIE_OPTIONS_INIT;
    memset(&rig, 0, sizeof rig);
    temp_dir_make(rig.dir);
    temp_path(rig.path, rig.dir, "store");
    rig.options = defaults;
    rig.options.log_cb = rig_log;
    rig.options.free_bytes_min = 1;
    ck_assert_int_eq(uv_loop_init(&rig.loop), 0);
    ck_assert_int_eq(uv_timer_init(&rig.loop, &rig.cap), 0);
}

/* Opens what must open, or returns how that failed. */
static inline int rig_try_open(void)
{
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    rig_wait(&rig.opened, 1);
    return rig.status;
}

static inline void rig_open(void)
{
    int status = rig_try_open();
    ck_assert_msg(status == 0, "%d %s", status, dassie_errmsg(&rig.q));
}

/* The next open stays under way until rig_release(): FORMAT is a pipe, and the
 * engine waits to read from it. The store may be there or not. */
static inline void rig_hold(void)
{
    char format[PATH_MAX];
    char aside[PATH_MAX];
    temp_path(format, rig.path, "FORMAT");
    temp_path(aside, rig.dir, "FORMAT");
    ck_assert(mkdir(rig.path, 0755) == 0 || errno == EEXIST);
    if (rename(format, aside) != 0) {
        temp_file_write(rig.dir, "FORMAT", "dassie 1\n", 9);
    }
    ck_assert_int_eq(mkfifo(format, 0600), 0);
    rig.fifo = open(format, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(rig.fifo, 0);
}

static inline void rig_release(void)
{
    char format[PATH_MAX];
    char aside[PATH_MAX];
    temp_path(format, rig.path, "FORMAT");
    temp_path(aside, rig.dir, "FORMAT");
    ck_assert_int_eq(rename(aside, format), 0);
    ck_assert_int_eq(write(rig.fifo, "dassie 1\n", 9), 9);
    ck_assert_int_eq(close(rig.fifo), 0);
}

static inline void rig_close(void)
{
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&rig.closed, 1);
}

static inline void rig_reopen(void)
{
    rig_close();
    rig_open();
}

struct rig_counted {
    dassie_counts_t req;
    dassie_count_t count;
    int status;
    int n;
};

static inline void rig_on_counts(dassie_counts_t *req, int status,
                                 const dassie_count_t *count)
{
    struct rig_counted *counted = req->data;
    counted->status = status;
    counted->n++;
    if (status == 0) {
        counted->count = *count;
    }
}

/* How many jobs of all queues are in each state. */
static inline dassie_count_t rig_counts(void)
{
    struct rig_counted counted = {.n = 0};
    counted.req.data = &counted;
    ck_assert_int_eq(
        dassie_counts(&rig.q, &counted.req, NULL, 0, rig_on_counts), 0);
    rig_wait(&counted.n, 1);
    ck_assert_int_eq(counted.status, 0);
    return counted.count;
}

/* Runs the loop until holds() is true of what other threads change. */
static inline void rig_poll(bool (*holds)(void))
{
    rig.late = false;
    ck_assert_int_eq(uv_timer_start(&rig.cap, rig_late, RIG_WAIT_MS, 0), 0);
    while (!holds() && !rig.late) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    ck_assert_msg(!rig.late, "waited in vain");
    uv_timer_stop(&rig.cap);
}

/* What is enqueued: a payload that is a C string, or NULL. It is not tried
 * again when it fails. */
static inline dassie_spec_t rig_spec(const char *queue, const char *data)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.queue = queue;
    spec.data = data;
    spec.data_len = data != NULL ? strlen(data) : 0;
    spec.attempts_max = 1;
    return spec;
}

struct rig_ack {
    dassie_enqueue_t req;
    int status;
    int n;
};

static inline void rig_on_ack(dassie_enqueue_t *req, int status)
{
    struct rig_ack *ack = req->data;
    ack->status = status;
    ack->n++;
}

/* Waits until the job is durable. Its id, or 0 and *status. */
static inline uint64_t rig_try_enqueue(const dassie_spec_t *spec, int *status)
{
    struct rig_ack ack = {.n = 0};
    ack.req.data = &ack;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &ack.req, spec, rig_on_ack), 0);
    rig_wait(&ack.n, 1);
    *status = ack.status;
    return ack.req.id;
}

static inline uint64_t rig_enqueue(const char *queue, const char *data)
{
    dassie_spec_t spec = rig_spec(queue, data);
    int status;
    uint64_t id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_ne(id, 0);
    return id;
}

/* A copy of what is known of a job. */
struct rig_got {
    dassie_get_t req;
    dassie_info_t info; /* its pointers are into what follows, or NULL */
    char queue[DASSIE_NAME_BYTES_MAX + 1];
    char name[DASSIE_NAME_BYTES_MAX + 1];
    char data[64];
    char result[64];
    char error[DASSIE_ERROR_BYTES_MAX + 1];
    int status;
    int n;
};

static inline const void *rig_keep(char *to, size_t size, const void *from,
                                   size_t len)
{
    if (from == NULL) {
        return NULL;
    }
    memcpy(to, from, len < size ? len : size);
    return to;
}

static inline void rig_on_get(dassie_get_t *req, int status,
                              const dassie_info_t *job)
{
    struct rig_got *got = req->data;
    got->status = status;
    got->n++;
    ck_assert_int_eq(job == NULL, status != 0);
    if (status != 0) {
        return;
    }
    dassie_info_t *to = &got->info;
    *to = *job;
    to->queue =
        rig_keep(got->queue, sizeof got->queue, job->queue, job->queue_len);
    to->name = rig_keep(got->name, sizeof got->name, job->name, job->name_len);
    to->data = rig_keep(got->data, sizeof got->data, job->data, job->data_len);
    to->result =
        rig_keep(got->result, sizeof got->result, job->result, job->result_len);
    to->error =
        rig_keep(got->error, sizeof got->error, job->error, job->error_len);
}

/* The status says whether there was one. */
static inline int rig_try_get(struct rig_got *got, uint64_t id)
{
    memset(got, 0, sizeof *got);
    got->req.data = got;
    ck_assert_int_eq(dassie_get(&rig.q, &got->req, id, rig_on_get), 0);
    rig_wait(&got->n, 1);
    return got->status;
}

static inline const dassie_info_t *rig_get(struct rig_got *got, uint64_t id)
{
    ck_assert_int_eq(rig_try_get(got, id), 0);
    ck_assert_uint_eq(got->info.id, id);
    return &got->info;
}

static inline void rig_on_drain(dassie_drain_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    ++*(int *)req->data;
}

/* Waits until nothing is pending or running any more. */
static inline void rig_drain(void)
{
    int drained = 0;
    dassie_drain_t req = {.data = &drained};
    ck_assert_int_eq(dassie_drain(&rig.q, &req, NULL, 0, rig_on_drain), 0);
    rig_wait(&drained, 1);
}

static inline void rig_on_stopped(dassie_processor_t *p)
{
    ++*(int *)p->data;
}

/* Waits until the processor has stopped. */
static inline void rig_stop(dassie_processor_t *p)
{
    int stopped = 0;
    p->data = &stopped;
    ck_assert_int_eq(dassie_processor_stop(p, rig_on_stopped), 0);
    rig_wait(&stopped, 1);
}

static inline dassie_stats_t rig_stats(void)
{
    dassie_stats_t stats;
    ck_assert_int_eq(dassie_stats(&rig.q, &stats), 0);
    return stats;
}

static inline void rig_on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    fprintf(stderr, "verify: job %llu: %s\n", (unsigned long long)id, line);
}

/* After rig_close(): nothing in the store is out of place. */
static inline dassie_verify_report_t rig_verify(void)
{
    dassie_verify_report_t report;
    ck_assert_int_eq(dassie_verify(rig.path, rig_on_problem, NULL, &report), 0);
    ck_assert_uint_eq(report.problems, 0);
    return report;
}

/* After rig_close(): the loop ends by itself. */
static inline void rig_teardown(void)
{
    uv_close((uv_handle_t *)&rig.cap, NULL);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&rig.loop), 0);
    temp_dir_remove(rig.dir);
}

/* Most tests begin and end so. */
static inline void rig_begin(void)
{
    rig_setup();
    rig_open();
}

static inline void rig_finish(void)
{
    rig_close();
    rig_verify();
    rig_teardown();
}

#endif /* DASSIE_TEST_QUEUE_RIG_H_ */
