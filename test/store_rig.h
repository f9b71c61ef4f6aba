/* store_rig.h: a store on either database, for tests.
 *
 * Jobs are made by hand, and every call that must not fail is checked. RocksDB
 * is opened in here only, so tests use it in checked fixtures and in
 * themselves. Threads: one. */
#ifndef DASSIE_TEST_STORE_RIG_H_
#define DASSIE_TEST_STORE_RIG_H_

#include "../lib/alloc.h"
#include "../lib/kv_mem.h"
#include "../lib/kv_rocks.h"
#include "../lib/store.h"
#include "../lib/verify.h"
#include "temp_dir.h"

enum rig_kind { RIG_MEM, RIG_ROCKS, RIG_KINDS };

struct rig {
    enum rig_kind kind;
    char dir[TEMP_PATH_BYTES]; /* RocksDB's */
    struct kv *kv;
    struct store s;
    struct job_list claimed; /* as found at the last open */
    struct job_list gone;    /* to be freed with the next commit */
    size_t window_max;
    uint64_t now;
    struct errmsg e;
    char problem[ERRMSG_BYTES]; /* the last that rig_problems() was told of */
};

#define RIG_OK(r, call)                                                        \
    do {                                                                       \
        int rig_rc_ = (call);                                                  \
        ck_assert_msg(rig_rc_ == 0, "%s: %d %s", #call, rig_rc_, (r)->e.text); \
    } while (0)

static inline void rig_open(struct rig *r)
{
    struct kv_rocks_options options = {
        .dir = r->dir, .memory_bytes = 16 << 20, .create = r->now == 0};
    if (r->kind == RIG_ROCKS) {
        RIG_OK(r, dassie__kv_rocks_open(&options, &r->kv, &r->e));
    }
    r->now++;
    memset(&r->claimed, 0, sizeof r->claimed);
    RIG_OK(r, dassie__store_open(&r->s, r->kv, r->window_max, false, &r->e));
    RIG_OK(r, dassie__store_claimed(&r->s, &r->claimed, &r->e));
}

static inline void rig_setup(struct rig *r, enum rig_kind kind)
{
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->window_max = 1 << 20;
    if (kind == RIG_ROCKS) {
        temp_dir_make(r->dir);
    } else {
        r->kv = dassie__kv_mem_new();
        ck_assert_ptr_nonnull(r->kv);
    }
    rig_open(r);
}

/* What is not committed is lost. */
static inline void rig_close(struct rig *r, bool clean)
{
    dassie__store_close(&r->s, clean);
    dassie__store_free(&r->s);
    dassie__job_list_free(&r->gone);
}

static inline void rig_reopen(struct rig *r)
{
    rig_close(r, false);
    rig_open(r);
}

/* After rig_close(). */
static inline void rig_free(struct rig *r)
{
    if (r->kind == RIG_ROCKS) {
        temp_dir_remove(r->dir);
    } else {
        dassie__kv_mem_free(r->kv);
    }
}

static inline void rig_teardown(struct rig *r)
{
    rig_close(r, true);
    rig_free(r);
}

static inline void rig_commit(struct rig *r)
{
    RIG_OK(r, dassie__store_commit(&r->s, ++r->now, &r->e));
    dassie__job_list_free(&r->gone);
}

/* ---- Jobs ---- */

static inline struct queue *rig_queue(struct rig *r, const char *name,
                                      int8_t priority)
{
    struct queue *q = NULL;
    RIG_OK(r, dassie__store_queue(&r->s, name, strlen(name), priority, &q));
    return q;
}

/* One more (1) or one less (-1) processor serves the queue. */
static inline void rig_serve(struct rig *r, const char *name, int d)
{
    struct job_list left = {0};
    dassie__store_serve(&r->s, rig_queue(r, name, 0), d, &left);
    dassie__job_list_free(&left);
}

static inline job_t *rig_job(struct rig *r, const char *queue, int8_t priority,
                             uint8_t flags)
{
    struct job_row row = {.flags = flags,
                          .priority = priority,
                          .enqueued_ms = r->now,
                          .name = "name",
                          .name_len = 4,
                          .data = (const uint8_t *)"payload",
                          .data_len = 7};
    job_t *job =
        dassie__job_new(dassie__job_row_bytes(row.name_len, row.data_len), 0);
    ck_assert_ptr_nonnull(job);
    dassie__job_row_write(job->row, &row);
    job->priority = priority;
    job->flags = flags;
    job->queue = rig_queue(r, queue, priority);
    return job;
}

/* A pending job's id. */
static inline uint64_t rig_put(struct rig *r, const char *queue,
                               int8_t priority)
{
    job_t *job = rig_job(r, queue, priority, 0);
    uint64_t id = r->s.next;
    if (!dassie__store_insert(&r->s, job, EVENT_ENQUEUE)) {
        dassie__job_free(job);
    }
    return id;
}

/* A job that waits for its time. */
static inline uint64_t rig_put_due(struct rig *r, const char *queue,
                                   int8_t priority, uint64_t due_ms)
{
    struct job_row row = {.priority = priority, .enqueued_ms = r->now};
    uint64_t id = r->s.next;
    row.options.number[JOB_DUE] = due_ms;
    job_t *job = dassie__job_new(
        dassie__job_row_bytes(0, 0) + dassie__job_options_bytes(&row.options),
        0);
    ck_assert_ptr_nonnull(job);
    dassie__job_row_write(job->row, &row);
    job->priority = priority;
    job->due_ms = due_ms;
    job->queue = rig_queue(r, queue, priority);
    ck_assert(!dassie__store_insert(&r->s, job, EVENT_SCHEDULE));
    dassie__job_free(job);
    return id;
}

/* A job that never was pending. */
static inline job_t *rig_hand_off(struct rig *r, const char *queue,
                                  int8_t priority)
{
    job_t *job = rig_job(r, queue, priority, 0);
    RIG_OK(r, dassie__store_prepare_claim(&r->s));
    ck_assert(dassie__store_insert(&r->s, job, EVENT_HAND_OFF));
    return job;
}

static inline job_t *rig_claim_how(struct rig *r, const char *queue,
                                   enum claim_how how)
{
    int rc;
    job_t *job =
        dassie__store_claim(&r->s, rig_queue(r, queue, 0), how, &rc, &r->e);
    ck_assert_msg(rc == 0, "claim: %d %s", rc, r->e.text);
    return job;
}

static inline job_t *rig_claim(struct rig *r, const char *queue)
{
    job_t *job = rig_claim_how(r, queue, CLAIM_NOW);
    ck_assert_ptr_nonnull(job);
    return job;
}

/* Moves a running job; it is gone from memory unless a window keeps it. */
static inline void rig_move(struct rig *r, job_t *job, enum event event)
{
    bool kept = true;
    bool ends = event == EVENT_COMPLETE || event == EVENT_FAIL ||
                event == EVENT_INTERRUPT || event == EVENT_CRASH_OUT;
    job->ended_ms = r->now;
    job->status = event == EVENT_COMPLETE ? 0 : -1;
    if (ends) {
        RIG_OK(r, dassie__job_set_out(job, "out", 3));
    }
    RIG_OK(r, dassie__store_move(&r->s, job, event, &kept));
    if (ends || !kept) {
        job_list_push(&r->gone, job);
    }
}

/* ---- What is there ---- */

static inline void rig_told(void *arg, uint64_t id, const char *line)
{
    struct rig *r = arg;
    (void)id;
    snprintf(r->problem, sizeof r->problem, "%s", line);
}

static inline uint64_t rig_problems(struct rig *r,
                                    dassie_verify_report_t *report)
{
    r->problem[0] = '\0';
    RIG_OK(r, dassie__verify_kv(r->kv, rig_told, r, report, &r->e));
    return report->problems;
}

/* The rows say the same as the store's own counts, right after a commit. */
static inline void rig_sound(struct rig *r)
{
    dassie_verify_report_t report;
    ck_assert_msg(rig_problems(r, &report) == 0, "%s", r->problem);
    ck_assert_uint_eq(report.jobs.pending, r->s.queues.tally.pending);
    ck_assert_uint_eq(report.jobs.scheduled, r->s.queues.tally.scheduled);
    ck_assert_uint_eq(report.jobs.running, r->s.queues.tally.running);
    ck_assert_uint_eq(report.jobs.complete, r->s.queues.tally.complete);
    ck_assert_uint_eq(report.jobs.failed, r->s.queues.tally.failed);
    ck_assert_uint_eq(report.jobs.cancelled, r->s.queues.tally.cancelled);
}

static inline size_t rig_rows(struct rig *r, enum family family)
{
    struct verify v = {.kv = r->kv};
    size_t n = 0;
    struct kv_iter *it = dassie__verify_iter(&v, family);
    ck_assert_ptr_nonnull(it);
    RIG_OK(r, kv_skip_dead(r->kv, it, &r->e));
    while (r->kv->ops->iter_valid(it)) {
        n++;
        r->kv->ops->iter_next(it);
        RIG_OK(r, kv_skip_dead(r->kv, it, &r->e));
    }
    RIG_OK(r, r->kv->ops->iter_close(it, &r->e));
    return n;
}

#endif /* DASSIE_TEST_STORE_RIG_H_ */
