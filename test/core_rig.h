/* core_rig.h: the core on a clock that tests set, without threads or a loop.
 *
 * It does what the engine does around a commit: told jobs are freed, claimed
 * ones go to their processor's run queue, where cr_start() finds them. Every
 * commit is followed by a look at the rows. A process dies by cr_kill(): rows
 * and recorder stay, memory goes, and nothing of it may leak. RocksDB is opened
 * in here only, so tests use it in checked fixtures and in themselves.
 * Threads: one. */
#ifndef DASSIE_TEST_CORE_RIG_H_
#define DASSIE_TEST_CORE_RIG_H_

#include "../lib/change.h"
#include "../lib/core.h"
#include "../lib/expire.h"
#include "../lib/look.h"
#include "store_rig.h"

#include <sys/mman.h>

#define CR_MS UINT64_C(1000000)
#define CR_ASYNC UINT64_MAX /* in place of a work processor's run_ns */

struct core_rig {
    struct rig base; /* the database and how it is judged; not its store */
    struct core core;
    struct recorder recorder;
    struct core_options options; /* of the next cr_open() */
    struct dassie__processor *made;
    job_t *damaged; /* what cr_damage() took away */
    char inflight[PATH_MAX];
    uint8_t boot;
};

static struct core_rig rig;
static struct core *const core = &rig.core;

#define CR_OK(call) RIG_OK(&rig.base, call)

/* ---- Memory that is counted, and that can fail once ---- */

static struct {
    size_t live;
    unsigned calls;
    unsigned fail_at; /* the number of the call that fails; 0: none */
} cr_mem;

static inline void *cr_counted(void *p)
{
    cr_mem.live += p != NULL;
    return p;
}

static inline bool cr_mem_fails(void)
{
    return ++cr_mem.calls == cr_mem.fail_at;
}

static inline void *cr_malloc(size_t size)
{
    return cr_mem_fails() ? NULL : cr_counted(malloc(size));
}

static inline void *cr_calloc(size_t n, size_t size)
{
    return cr_mem_fails() ? NULL : cr_counted(calloc(n, size));
}

static inline void *cr_realloc(void *p, size_t size)
{
    if (cr_mem_fails()) {
        return NULL;
    }
    return p == NULL ? cr_counted(malloc(size)) : realloc(p, size);
}

static inline void cr_free(void *p)
{
    cr_mem.live--;
    free(p);
}

/* The n-th allocation from here on fails. Jobs come from it too. */
static inline void cr_mem_fail(unsigned n)
{
    dassie__job_cache_clear();
    cr_mem.calls = 0;
    cr_mem.fail_at = n;
}

/* Ends that; whether one has failed. */
static inline bool cr_mem_failed(void)
{
    bool failed = cr_mem.fail_at > 0 && cr_mem.calls >= cr_mem.fail_at;
    cr_mem.fail_at = 0;
    return failed;
}

/* ---- A process: it opens, it closes or dies ---- */

static inline void cr_boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memset(id, rig.boot, BOOT_ID_BYTES);
}

static inline void cr_recorder_die(void)
{
    if (rig.recorder.unmapped) {
        dassie__free(rig.recorder.page);
    } else {
        ck_assert_int_eq(munmap(rig.recorder.page, rig.recorder.bytes), 0);
    }
    close(rig.recorder.fd);
    rig.recorder.fd = -1;
    rig.recorder.page = NULL;
    dassie__recorder_close(&rig.recorder, false);
}

/* RocksDB is made at the first open. */
static inline void cr_open_database(void)
{
    struct rig *base = &rig.base;
    struct kv_rocks_options options = {
        .dir = base->dir, .memory_bytes = 16 << 20, .create = base->now == 0};
    if (base->kind == RIG_ROCKS) {
        CR_OK(dassie__kv_rocks_open(&options, &base->kv, &base->e));
    }
    base->now++;
}

/* The clocks go on: each process is a second later. */
static inline int cr_try_open(void)
{
    struct rig *base = &rig.base;
    memset(core, 0, sizeof *core);
    core->wall_ms = base->now * 1000;
    core->mono_ns = base->now * 1000 * CR_MS;
    CR_OK(dassie__recorder_open(&rig.recorder, rig.inflight, &base->e));
    int rc = dassie__core_open(core, base->kv, &rig.recorder, &rig.options,
                               &base->e);
    if (rc != 0) {
        cr_recorder_die();
    }
    return rc;
}

/* Rows and counts say the same, right after a commit. */
static inline void cr_sound(void)
{
    if (rig.damaged != NULL) {
        return;
    }
    rig.base.s.queues.tally = core->store.queues.tally;
    rig_sound(&rig.base);
}

static inline void cr_open(void)
{
    cr_open_database();
    CR_OK(cr_try_open());
    cr_sound();
}

/* The least of the jitter. */
static inline uint64_t cr_random(void)
{
    return 0;
}

static inline void cr_setup(enum rig_kind kind)
{
    dassie__job_cache_clear(); /* of what was not counted yet */
    cr_mem.live = 0;
    memset(&rig, 0, sizeof rig);
    rig.base.kind = kind;
    rig.boot = 1;
    rig.options.crashes_max = 3;
    rig.options.suspect_ns = 10000 * CR_MS;
    rig.options.window_max = 4 << 20;
    rig.options.attempts_max = 1;
    rig.options.random = cr_random;
    dassie__env.boot_id = cr_boot_id;
    ck_assert_int_eq(
        dassie_replace_allocator(cr_malloc, cr_realloc, cr_calloc, cr_free), 0);
    temp_dir_make(rig.base.dir);
    temp_path(rig.inflight, rig.base.dir, "inflight");
    if (kind == RIG_MEM) {
        rig.base.kv = dassie__kv_mem_new();
        ck_assert_ptr_nonnull(rig.base.kv);
    }
    cr_open();
}

static inline void cr_processor_free(struct dassie__processor *p)
{
    dassie__free(p->names);
    dassie__free(p->bufs);
    dassie__turns_free(&p->turns);
    dassie__free(p);
}

/* What the process had in memory goes. */
static inline void cr_drop(bool clean)
{
    dassie__job_list_free(&core->told);
    dassie__core_close(core, clean);
    dassie__core_free(core);
    while (rig.made != NULL) {
        struct dassie__processor *p = rig.made;
        rig.made = p->loop_next;
        cr_processor_free(p);
    }
}

static inline void cr_kill(void)
{
    cr_drop(false);
    cr_recorder_die();
}

static inline void cr_rise(void)
{
    cr_kill();
    cr_open();
}

static inline void cr_close(void)
{
    cr_drop(true);
    dassie__recorder_close(&rig.recorder, true);
}

/* Nothing is left in memory. After cr_kill() or cr_close(). */
static inline void cr_free_all(void)
{
    if (rig.base.kind == RIG_MEM) {
        dassie__kv_mem_free(rig.base.kv);
    }
    temp_dir_remove(rig.base.dir);
    dassie__job_cache_clear();
    ck_assert_uint_eq(cr_mem.live, 0);
}

static inline void cr_teardown(void)
{
    cr_close();
    cr_free_all();
}

/* ---- Processors ---- */

static inline void cr_async_start(job_t *job)
{
    (void)job;
}

/* queues: their names, with spaces between. run_ns: its pace, or CR_ASYNC. */
static inline struct dassie__processor *cr_processor_new(const char *queues,
                                                         unsigned slots,
                                                         uint64_t run_ns)
{
    struct dassie__processor *p = dassie__calloc(1, sizeof *p);
    p->names = dassie__memdup(queues, strlen(queues));
    p->slots = slots;
    p->start = run_ns == CR_ASYNC ? cr_async_start : NULL;
    atomic_store(&p->run_ns, run_ns);
    unsigned n = 0;
    p->bufs = dassie__calloc(strlen(queues) / 2 + 1, sizeof p->bufs[0]);
    for (char *at = p->names; *at != '\0'; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        p->bufs[n++] = uv_buf_init(at, (unsigned)len);
        at += len;
    }
    CR_OK(dassie__turns_init(&p->turns, n, NULL));
    p->loop_next = rig.made;
    rig.made = p;
    return p;
}

static inline struct dassie__processor *cr_processor(const char *queues,
                                                     unsigned slots,
                                                     uint64_t run_ns)
{
    struct dassie__processor *p = cr_processor_new(queues, slots, run_ns);
    CR_OK(dassie__core_processor_add(core, p));
    return p;
}

/* ---- Steps ---- */

/* The job of that row as dassie_enqueue() makes it, but for a unique key. */
static inline job_t *cr_job_of(const char *queue, const struct job_row *row)
{
    size_t queue_len = strlen(queue);
    size_t row_len = dassie__job_row_bytes(row->name_len, row->data_len) +
                     dassie__job_options_bytes(&row->options);
    job_t *job = dassie__job_new(row_len, queue_len);
    ck_assert_ptr_nonnull(job);
    dassie__job_row_write(job->row, row);
    memcpy(job->row + row_len, queue, queue_len);
    job->batch_queue = (const char *)job->row + row_len;
    job->batch_queue_len = queue_len;
    job->priority = row->priority;
    job->flags = row->flags;
    job->due_ms = row->options.number[JOB_DUE];
    dassie__job_times(job, row);
    return job;
}

static inline job_t *cr_job(const char *queue, int8_t priority, uint8_t flags,
                            size_t bytes)
{
    struct job_row row = {.flags = flags,
                          .priority = priority,
                          .name = "name",
                          .name_len = 4,
                          .data = calloc(1, bytes + 1),
                          .data_len = bytes};
    job_t *job = cr_job_of(queue, &row);
    free((void *)(uintptr_t)row.data);
    return job;
}

/* A job with options; they may be all zeros. */
static inline job_t *cr_job_with(const char *queue, int8_t priority,
                                 const struct job_options *options)
{
    struct job_row row = {.priority = priority,
                          .enqueued_ms = core->wall_ms,
                          .data = (const uint8_t *)"data",
                          .data_len = 4,
                          .options = *options};
    return cr_job_of(queue, &row);
}

static inline uint64_t cr_put_job(job_t *job)
{
    uint64_t id = core->store.next;
    CR_OK(dassie__core_enqueue(core, job));
    return id;
}

static inline uint64_t cr_put(const char *queue)
{
    return cr_put_job(cr_job(queue, 0, 0, 7));
}

/* What the engine does once the batch is written. */
static inline void cr_committed(void)
{
    job_list_append(&core->gone, &core->told);
    dassie__core_committed(core);
    while (core->starting != NULL) {
        struct dassie__processor *p = core->starting;
        core->starting = p->starting_next;
        job_list_append(&p->runq, &p->starting);
    }
    cr_sound();
}

static inline void cr_commit(void)
{
    CR_OK(dassie__store_commit(&core->store, core->wall_ms, &rig.base.e));
    cr_committed();
}

/* Claims what can start. */
static inline void cr_step(void)
{
    dassie__core_dispatch(core);
    cr_commit();
}

/* Time goes by. */
static inline void cr_pass(uint64_t ms)
{
    core->wall_ms += ms;
    core->mono_ns += ms * CR_MS;
}

/* A turn of the engine in which nothing arrives. */
static inline void cr_turn(void)
{
    dassie__core_promote(core);
    cr_step();
}

static inline void cr_turns(int n)
{
    while (n-- > 0) {
        cr_turn();
    }
}

/* What an operator does to one job, which one step is enough for. Returns the
 * status. */
static inline int cr_change(dassie_action_t action, uint64_t id)
{
    struct change *change = dassie__calloc(1, sizeof *change);
    struct changed touched = {.n = 0};
    change->action = action;
    change->states = UINT32_MAX;
    change->ids = dassie__memdup(&id, sizeof id);
    change->ids_n = 1;
    change->single = true;
    ck_assert(dassie__change_step(core, change, &touched));
    int status = change->status;
    dassie__change_free(change);
    cr_commit();
    return status;
}

/* The next job of p executes: NULL if it has none. */
static inline job_t *cr_start(struct dassie__processor *p)
{
    job_t *job = job_list_pop(&p->runq);
    if (job != NULL) {
        recorder_executing(&rig.recorder, job->slot);
        limit_begin(job, core->mono_ns);
    }
    return job;
}

/* It returns; the core does not know yet. */
static inline void cr_return(job_t *job, int status)
{
    if (limit_end(job)) {
        return;
    }
    recorder_ended(&rig.recorder, job->slot);
    job->status = status;
    CR_OK(dassie__job_set_out(job, "out", 3));
}

static inline void cr_end(job_t *job, int status)
{
    cr_return(job, status);
    if (job->given_up) {
        dassie__core_late(core, job);
    } else {
        dassie__core_finish(core, job);
    }
}

/* The next job of p is this one, and executes now. */
static inline job_t *cr_starts(struct dassie__processor *p, uint64_t id)
{
    job_t *job = cr_start(p);
    ck_assert_uint_eq(job == NULL ? 0 : job->id, id);
    return job;
}

/* When there is something to do: UINT64_MAX for the sweep alone, which is due a
 * day after an end. */
static inline uint64_t cr_due(void)
{
    uint64_t due = dassie__core_due(core);
    return due - core->mono_ns < 3600 * 1000 * CR_MS ? due : UINT64_MAX;
}

/* ---- What is there ---- */

/* As of the last commit. */
struct cr_found {
    dassie_state_t state;
    uint32_t attempts;
    uint32_t crashes;
    int code;
    bool text; /* of an error */
};

static inline struct cr_found cr_found(uint64_t id)
{
    struct look *look = dassie__look_new(LOOK_GET, NULL);
    ck_assert_ptr_nonnull(look);
    look->id = id;
    if (dassie__look_capture(look, core)) {
        dassie__look_run(look);
    }
    CR_OK(look->status);
    const dassie_info_t *info = &look->infos[0];
    struct cr_found found = {info->state, info->attempts, info->crashes,
                             info->error_code, info->error_len > 0};
    dassie__look_free(look);
    return found;
}

static inline void cr_is(uint64_t id, dassie_state_t state, uint32_t attempts,
                         uint32_t crashes, int code)
{
    struct cr_found found = cr_found(id);
    ck_assert_msg(found.state == state && found.attempts == attempts &&
                      found.crashes == crashes && found.code == code,
                  "job %llu: state %d, attempts %u, crashes %u, code %d",
                  (unsigned long long)id, found.state, found.attempts,
                  found.crashes, found.code);
}

static inline void cr_tally(uint64_t pending, uint64_t running,
                            uint64_t complete, uint64_t failed)
{
    const struct tally *tally = &core->store.queues.tally;
    ck_assert_uint_eq(tally->pending, pending);
    ck_assert_uint_eq(tally->running, running);
    ck_assert_uint_eq(tally->complete, complete);
    ck_assert_uint_eq(tally->failed, failed);
}

/* The ids of the jobs in a list, as text. */
static inline const char *cr_ids(const struct job_list *list)
{
    static char text[1024];
    size_t n = 0;
    text[0] = '\0';
    for (const job_t *job = list->head; job != NULL; job = job->next) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%llu",
                              n > 0 ? " " : "", (unsigned long long)job->id);
        ck_assert_uint_lt(n, sizeof text);
    }
    return text;
}

/* A job's row goes behind the core's back, and comes back. Between commits. */
static inline void cr_damage(uint64_t id)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rig.base.kv;
    struct kv_value value;
    dassie__key_number(key, id);
    struct kv_slice slice = kv_slice(key, sizeof key);
    CR_OK(kv->ops->get(kv, NULL, FAMILY_JOBS, slice, &value, &rig.base.e));
    rig.damaged = cr_job("", 0, 0, 7);
    rig.damaged->id = id;
    ck_assert_uint_eq(rig.damaged->row_len, value.len);
    memcpy(rig.damaged->row, value.p, value.len);
    kv->ops->value_release(&value);
    kv->ops->del(kv, FAMILY_JOBS, slice);
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
}

static inline void cr_mend(void)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv *kv = rig.base.kv;
    dassie__key_number(key, rig.damaged->id);
    kv->ops->put(kv, FAMILY_JOBS, kv_slice(key, sizeof key),
                 kv_slice(rig.damaged->row, rig.damaged->row_len));
    CR_OK(kv->ops->commit(kv, false, &rig.base.e));
    dassie__job_free(rig.damaged);
    rig.damaged = NULL;
    cr_sound();
}

static inline int cr_run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif /* DASSIE_TEST_CORE_RIG_H_ */
