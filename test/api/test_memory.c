/* Every public operation, while our allocator fails at its n-th call, once or
 * from then on, for every n until none fails: it answers UV_ENOMEM and has
 * changed nothing, or it succeeds, as what failed was not needed. Afterwards
 * the queue works on, the store is sound, and no block is left.
 *
 * An operation of dassie.h that the table does not name fails the test. With
 * EXHAUSTIVE=1 the store is closed and verified after each point. */
#include "config.h"

#include "memory_rig.h"

#include "impl.h"

#define POINTS_MAX 5000
#define BARE_STEP 5 /* when it is not exhaustive: opening takes long */

/* ---- What is told ---- */

static int told; /* callbacks of the operation under way, */
static int told_status;

static void tell(int status)
{
    told++;
    told_status = status;
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    (void)req;
    tell(status);
}

static int ended; /* done callbacks, */
static int ended_status;

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(job == NULL, status != 0);
    ended++;
    ended_status = status;
}

static void on_many(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    tell(status);
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(job == NULL, status != 0);
    tell(status);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(job == NULL, status != 0);
    tell(status);
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)jobs;
    ck_assert_uint_eq(n, status == 0 ? 1 : 0);
    ck_assert(status != 0 || !req->more);
    tell(status);
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    (void)req;
    ck_assert_int_eq(count == NULL, status != 0);
    tell(status);
}

static void on_queues(dassie_queues_t *req, int status,
                      const dassie_queue_info_t *queues, size_t n)
{
    (void)req;
    ck_assert_int_eq(queues == NULL || n == 0, status != 0);
    tell(status);
}

static void on_metrics(dassie_metrics_t *req, int status, const char *text,
                       size_t len)
{
    (void)req;
    ck_assert_int_eq(text == NULL, status != 0);
    ck_assert_int_eq(len == 0, status != 0);
    tell(status);
}

static void on_check(dassie_check_t *req, int status,
                     const dassie_verify_report_t *report)
{
    ck_assert_uint_eq(req->problems_n, 0);
    ck_assert_int_eq(report == NULL, status != 0);
    tell(status);
}

static void on_backup(dassie_backup_t *req, int status)
{
    (void)req;
    tell(status);
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    tell(status);
}

static void on_stop(dassie_processor_t *p)
{
    (void)p;
    tell(0);
}

/* The result of a call that tells: at once, or by its callback. */
static int outcome(int rc)
{
    if (rc != 0) {
        return rc;
    }
    rig_wait(&told, 1);
    return told_status;
}

/* ---- The session ---- */

/* What the store holds, by what was told. */
static dassie_count_t expect;
static uint64_t complete_id;
static uint64_t pending_id;
static uint64_t held_id;
static dassie_job_t *held_job;
static int held;
static dassie_enqueue_t req;
static dassie_processor_t holder;
static dassie_processor_t ender;
static dassie_processor_t worker;
static dassie_processor_t passing;
static uv_sem_t work_go;
static int set_rc;     /* what set_result or set_error said */
static bool set_error; /* which of them */

static void start_held(dassie_job_t *job)
{
    held_job = job;
    held_id = dassie_job_id(job);
    held++;
}

static void start_end(dassie_job_t *job)
{
    int rc = dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                           0, NULL, 0);
    if (rc != 0) {
        held_id = dassie_job_id(job);
    }
}

static int work_set(dassie_job_t *job)
{
    uv_sem_wait(&work_go);
    set_rc = set_error ? dassie_job_set_error(job, "text", 4)
                       : dassie_job_set_result(job, "data", 4);
    return set_error ? UV_EIO : set_rc;
}

static void process(dassie_processor_t *p, const char *queue,
                    dassie_work_cb work, dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = work;
    options.start = start;
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
}

static void session_open(void)
{
    rig_open();
    process(&holder, "held", NULL, start_held);
    process(&ender, "ends", NULL, start_end);
    process(&worker, "work", work_set, NULL);
    expect = rig_counts();
}

static void session_check(void)
{
    dassie_count_t count = rig_counts();
    while (count.running > expect.running ||
           count.complete < expect.complete) { /* an end nobody is told of */
        count = rig_counts();
    }
    ck_assert_mem_eq(&count, &expect, sizeof count);
}

/* What is left works, and stands on disk as it was told. */
static void session_close(void)
{
    rig_enqueue("ends", "x");
    expect.complete++;
    session_check();
    rig_close();
    dassie_verify_report_t report = rig_verify();
    ck_assert_mem_eq(&report.jobs, &expect, sizeof expect);
}

/* ---- Enqueue ---- */

static char fresh_name[32];

static dassie_spec_t spec_fresh(void)
{
    static unsigned n;
    dassie_spec_t spec = rig_spec(fresh_name, "payload");
    snprintf(fresh_name, sizeof fresh_name, "fresh%u", n);
    spec.priority = (int)(n++ % 40) - 20;
    return spec;
}

static void zero_req(void)
{
    memset(&req, 0, sizeof req);
}

static int run_enqueue(void)
{
    dassie_spec_t spec = spec_fresh();
    return outcome(dassie_enqueue(&rig.q, &req, &spec, on_ack));
}

static void after_enqueue(int rc)
{
    expect.pending += rc == 0;
}

static uint64_t delay_ms;

static void before_run(void)
{
    zero_req();
    delay_ms = 0;
}

static void before_run_later(void)
{
    zero_req();
    delay_ms = 1;
}

/* It runs at once or when it is due, and when there is memory to claim it. */
static int run_enqueue_done(void)
{
    dassie_spec_t spec = rig_spec("ends", "payload");
    spec.delay_ms = delay_ms;
    held_id = 0;
    req.done_cb = on_done;
    int rc = outcome(dassie_enqueue(&rig.q, &req, &spec, on_ack));
    if (rc != 0) {
        return rc;
    }
    while (ended == 0 && held_id == 0 && rig_stats().degraded == 0 &&
           (!memory_for_ever || atomic_load(&memory_failed) == 0)) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    return ended > 0 ? ended_status : UV_ENOMEM;
}

static void after_enqueue_done(int rc)
{
    (void)rc;
    if (told == 0 || told_status != 0) {
        return;
    }
    if (held_id != 0) { /* dassie_finish() was refused */
        ck_assert_int_eq(dassie_finish(&rig.q, held_id, 1, 0, NULL, 0), 0);
    }
    rig_wait(&ended, 1);
    ck_assert(ended_status == 0 || ended_status == UV_ENOMEM);
    expect.complete++;
}

static int run_enqueue_later(void)
{
    dassie_spec_t spec = spec_fresh();
    spec.delay_ms = 3600000;
    return outcome(dassie_enqueue(&rig.q, &req, &spec, on_ack));
}

static void after_enqueue_later(int rc)
{
    expect.scheduled += rc == 0;
}

/* Nobody serves its queue: the request waits by the job's id. */
static int run_enqueue_waits(void)
{
    static dassie_enqueue_t waits[64];
    static unsigned n;
    dassie_spec_t spec = rig_spec("waits", "payload");
    dassie_enqueue_t *one = &waits[n++ % 64];
    memset(one, 0, sizeof *one);
    one->done_cb = on_done;
    return outcome(dassie_enqueue(&rig.q, one, &spec, on_ack));
}

static int run_many(void)
{
    static dassie_enqueue_many_t many;
    dassie_spec_t specs[3];
    for (int i = 0; i < 3; i++) {
        specs[i] = spec_fresh();
    }
    return outcome(dassie_enqueue_many(&rig.q, &many, specs, 3, on_many));
}

static void after_many(int rc)
{
    expect.pending += rc == 0 ? 3 : 0;
}

/* ---- Ends ---- */

static void hold_one(void)
{
    zero_req();
    held = 0;
    req.done_cb = on_done;
    dassie_spec_t spec = rig_spec("held", "payload");
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, on_ack), 0);
    rig_wait(&told, 1);
    rig_wait(&held, 1);
    told = 0;
}

static int run_finish(void)
{
    int rc = dassie_finish(&rig.q, held_id, 1, 0, "result", 6);
    if (rc == 0) {
        rig_wait(&ended, 1);
        ck_assert_int_eq(ended_status, 0);
    }
    return rc;
}

/* A refused end can be told again. */
static void after_finish(int rc)
{
    if (rc != 0) {
        ck_assert_int_eq(run_finish(), 0);
    }
    expect.complete++;
}

/* The next attempt is far away. */
static void hold_one_of_two(void)
{
    zero_req();
    held = 0;
    dassie_spec_t spec = rig_spec("held", "payload");
    spec.attempts_max = 2;
    spec.backoff_ms = 3600000;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, on_ack), 0);
    rig_wait(&told, 1);
    rig_wait(&held, 1);
}

static int run_fail(void)
{
    return dassie_finish(&rig.q, held_id, 1, UV_EIO, "text", 4);
}

static void after_fail(int rc)
{
    if (rc != 0) {
        ck_assert_int_eq(run_fail(), 0);
    }
    expect.scheduled++;
}

static int run_watch(void)
{
    static dassie_watch_t watch;
    int rc = dassie_watch(&rig.q, &watch, held_id, on_watch);
    int finished = dassie_finish(&rig.q, held_id, 1, 0, NULL, 0);
    if (rc != 0 || finished != 0) {
        return UV_ENOMEM;
    }
    rig_wait(&ended, 1);
    return outcome(rc);
}

/* Who watches is told sooner or later. */
static void after_watch(int rc)
{
    (void)rc;
    if (ended == 0) {
        ck_assert_int_eq(dassie_finish(&rig.q, held_id, 1, 0, NULL, 0), 0);
    }
    rig_wait(&ended, 1);
    rig_wait(&told, 1);
    ck_assert(told_status == 0 || told_status == UV_ENOMEM);
    expect.complete++;
}

static int run_watch_ended(void)
{
    static dassie_watch_t watch;
    return outcome(dassie_watch(&rig.q, &watch, complete_id, on_watch));
}

static void work_one(bool error)
{
    set_error = error;
    zero_req();
    req.done_cb = on_done;
    dassie_spec_t spec = rig_spec("work", "payload");
    ck_assert_int_eq(dassie_enqueue(&rig.q, &req, &spec, on_ack), 0);
    rig_wait(&told, 1);
    told = 0;
}

static void before_set_result(void)
{
    work_one(false);
}

static void before_set_error(void)
{
    work_one(true);
}

static int run_set(void)
{
    uv_sem_post(&work_go);
    rig_wait(&ended, 1);
    ck_assert_int_eq(ended_status, 0);
    return set_rc;
}

static void after_set(int rc)
{
    bool failed = set_error || rc != 0;
    expect.failed += failed;
    expect.complete += !failed;
}

/* ---- Processors ---- */

static int run_process(void)
{
    static dassie_drain_t drain;
    dassie_spec_t spec = spec_fresh();
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = spec.queue;
    options.start = start_end;
    int rc = dassie_process(&rig.q, &passing, &options);
    if (rc == 0) { /* when it is told, the processor is known */
        ck_assert_int_eq(dassie_drain(&rig.q, &drain, NULL, 0, on_drain), 0);
        ck_assert_int_eq(outcome(0), 0);
    }
    return rc;
}

/* One that was taken serves. */
static void after_process(int rc)
{
    if (rc == 0) {
        rig_enqueue(fresh_name, "x");
        rig_drain();
        expect.complete++;
        rig_stop(&passing);
    }
}

static void before_stop(void)
{
    process(&passing, "passing", NULL, start_end);
    rig_counts(); /* the engine knows it */
}

static int run_stop(void)
{
    return outcome(dassie_processor_stop(&passing, on_stop));
}

/* ---- Look ---- */

static void session_look(void)
{
    complete_id = rig_enqueue("ends", "x");
    pending_id = rig_enqueue("waits", "x");
    rig_enqueue("held", "x");
    rig_wait(&held, 1);
    while (expect.complete == 0) {
        expect = rig_counts();
    }
}

/* Before the session's end, as it holds a job. */
static void session_look_end(void)
{
    held = 0;
    ck_assert_int_eq(dassie_finish(&rig.q, held_id, 1, 0, NULL, 0), 0);
    expect.running--;
    expect.complete++;
}

static int get(uint64_t id)
{
    static dassie_get_t one;
    return outcome(dassie_get(&rig.q, &one, id, on_get));
}

static int run_get_complete(void)
{
    return get(complete_id);
}

static int run_get_pending(void)
{
    return get(pending_id);
}

static int run_get_running(void)
{
    return get(held_id);
}

static int list(dassie_state_t state, const char *queue)
{
    static dassie_list_t page;
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    memset(&page, 0, sizeof page);
    options.state = state;
    options.queue = queue;
    return outcome(dassie_list(&rig.q, &page, &options, on_list));
}

static int run_list_complete(void)
{
    return list(DASSIE_COMPLETE, "ends");
}

static int run_list_pending(void)
{
    return list(DASSIE_PENDING, NULL);
}

static int run_list_running(void)
{
    return list(DASSIE_RUNNING, "held");
}

static int run_counts(void)
{
    static dassie_counts_t counts;
    return outcome(dassie_counts(&rig.q, &counts, "ends", 0, on_counts));
}

static int run_drain(void)
{
    static dassie_drain_t drain;
    return outcome(dassie_drain(&rig.q, &drain, "ends", 0, on_drain));
}

static int run_metrics(void)
{
    static dassie_metrics_t metrics;
    return outcome(dassie_metrics(&rig.q, &metrics, on_metrics));
}

static int run_check(void)
{
    static dassie_check_t check;
    return outcome(dassie_check(&rig.q, &check, on_check));
}

/* What is no store is not left. */
static int run_backup(void)
{
    static dassie_backup_t backup;
    char copy[PATH_MAX];
    temp_path(copy, rig.dir, "copy");
    int rc = outcome(dassie_backup(&rig.q, &backup, copy, on_backup));
    ck_assert_int_eq(access(copy, F_OK), rc == 0 ? 0 : -1);
    if (rc == 0) {
        temp_dir_remove(copy);
    }
    return rc;
}

static int run_queues(void)
{
    static dassie_queues_t queues;
    return outcome(dassie_queues(&rig.q, &queues, on_queues));
}

static void on_listen(dassie_t *q, int status)
{
    ck_assert_ptr_eq(q, &rig.q);
    tell(status);
}

static int run_listen(void)
{
    return outcome(dassie_admin_listen(&rig.q, on_listen));
}

/* ---- Operators ---- */

static uint64_t changed_id;

static void on_change(dassie_change_t *change, int status)
{
    (void)change;
    tell(status);
}

static void on_configure(dassie_configure_t *configure, int status,
                         const dassie_settings_t *settings)
{
    (void)configure;
    ck_assert_int_eq(settings == NULL, status != 0);
    tell(status);
}

static void before_change(void)
{
    dassie_spec_t spec = spec_fresh();
    int status;
    spec.delay_ms = 86400000;
    changed_id = rig_try_enqueue(&spec, &status);
    ck_assert_int_eq(status, 0);
    expect.scheduled++;
}

static int run_change(void)
{
    static dassie_change_t change;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    filter.ids = &changed_id;
    filter.ids_n = 1;
    filter.queue = fresh_name;
    return outcome(
        dassie_change(&rig.q, &change, DASSIE_CANCEL, &filter, on_change));
}

static void after_change(int rc)
{
    if (rc == 0) {
        expect.scheduled--;
        expect.cancelled++;
    }
}

/* Of a new queue. */
static int run_configure(void)
{
    static dassie_configure_t configure;
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    spec_fresh();
    settings.set = DASSIE_SET_ATTEMPTS;
    settings.attempts_max = 3;
    return outcome(dassie_configure(&rig.q, &configure, fresh_name, 0,
                                    &settings, on_configure));
}

/* ---- What allocates nothing ---- */

static int run_plain(void)
{
    static dassie_drain_t drain;
    dassie_stats_t stats;
    int rc = dassie_replace_allocator(NULL, NULL, NULL, NULL);
    ck_assert_int_eq(rc, UV_EINVAL);
    dassie_unref(&rig.q);
    dassie_ref(&rig.q);
    ck_assert_str_eq(dassie_errmsg(&rig.q), "");
    ck_assert_str_eq(dassie_err_name(UV_ENOMEM), "UV_ENOMEM");
    ck_assert_ptr_nonnull(dassie_strerror(DASSIE_ECORRUPT));
    ck_assert_str_eq(dassie_version(), PACKAGE_VERSION);
    ck_assert_int_eq(dassie_stats(&rig.q, &stats), 0);
    return outcome(dassie_drain(&rig.q, &drain, NULL, 0, on_drain));
}

static int run_accessors(void)
{
    dassie_job_t *job = held_job;
    ck_assert_int_eq(dassie_job_snooze(job, 1), 0);
    ck_assert_int_eq(dassie_job_retry_in(job, 1), 0);
    ck_assert_int_eq(dassie_job_no_retry(job), 0);
    size_t len;
    ck_assert_uint_eq(dassie_job_id(job), held_id);
    ck_assert_uint_eq(dassie_job_attempt(job), 1);
    ck_assert_str_eq(dassie_job_queue(job, &len), "held");
    ck_assert_str_eq(dassie_job_name(job, &len), "");
    ck_assert_mem_eq(dassie_job_data(job, &len), "payload", 7);
    ck_assert_ptr_eq(dassie_job_processor(job), &holder);
    ck_assert(!dassie_job_cancelled(job));
    ck_assert_int_eq(dassie_job_touch(job), 0);
    ck_assert_ptr_null(dassie_job_checkpoint_data(job, &len));
    ck_assert_uint_eq(dassie_job_resume_at(job), 0);
    return 0;
}

static void on_event(dassie_subscription_t *sub, const dassie_event_t *events,
                     size_t n, uint64_t missed)
{
    (void)sub;
    (void)events;
    (void)n;
    (void)missed;
}

static int run_subscribe(void)
{
    static dassie_subscription_t sub;
    dassie_subscribe_options_t options = DASSIE_SUBSCRIBE_OPTIONS_INIT;
    options.queue = "held";
    int rc = dassie_subscribe(&rig.q, &sub, &options, on_event);
    if (rc == 0) {
        ck_assert_int_eq(dassie_unsubscribe(&sub), 0);
    }
    return rc;
}

static int run_checkpoint(void)
{
    return dassie_job_checkpoint(held_job, "data", 4);
}

static int run_progress(void)
{
    return dassie_job_progress(held_job, 1, 2, "half", 4);
}

static int run_step(void)
{
    return dassie_job_step(held_job, 1, 2);
}

static void after_accessors(int rc)
{
    after_finish(rc == 0 ? UV_ENOMEM : rc);
}

/* ---- Heals ---- */

static const struct kv_ops *own_ops;
static struct kv_ops failing_ops;
static atomic_int fail_commits;

static int commit_or_fail(struct kv *kv, bool sync, struct errmsg *e)
{
    if (atomic_load(&fail_commits) > 0) {
        atomic_fetch_sub(&fail_commits, 1);
        return dassie__errmsg_set(e, UV_EIO, "injected");
    }
    return own_ops->commit(kv, sync, e);
}

/* The next commit fails, so that the store is reopened. */
static void before_heal(void)
{
    struct kv *kv = rig.q.impl->core.store.kv;
    zero_req();
    rig.options.log_cb = NULL;
    own_ops = kv->ops;
    failing_ops = *own_ops;
    failing_ops.commit = commit_or_fail;
    kv->ops = &failing_ops;
    atomic_store(&fail_commits, 1);
}

static bool heal_waits; /* the enqueue was taken */

/* Without any memory the store does not heal, but waits for it. */
static int run_heal(void)
{
    dassie_spec_t spec = spec_fresh();
    int rc = dassie_enqueue(&rig.q, &req, &spec, on_ack);
    heal_waits = rc == 0;
    while (heal_waits && told == 0 &&
           (!memory_for_ever || atomic_load(&memory_failed) == 0)) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    return told > 0 ? told_status : heal_waits ? UV_ENOMEM : rc;
}

static void after_heal(int rc)
{
    if (heal_waits) {
        rig_wait(&told, 1);
        rc = told_status;
    }
    rig.q.impl->core.store.kv->ops = own_ops;
    ck_assert(rc != 0 || rig_stats().heals > 0);
    after_enqueue(rc);
}

/* ---- Open and close ---- */

static char left[3][PATH_MAX]; /* by a close, a kill, a power cut */
static dassie_t other;

static void other_boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memset(id, 7, BOOT_ID_BYTES);
}

static int run_init(void)
{
    return dassie_init(&rig.loop, &other);
}

static void on_other_closed(dassie_t *q)
{
    (void)q;
    tell(0);
}

static void after_init(int rc)
{
    if (rc == 0) {
        ck_assert_int_eq(dassie_close(&other, on_other_closed), 0);
        rig_wait(&told, 1);
    }
}

static void before_open(void)
{
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
}

static void before_open_new(void)
{
    if (access(rig.path, F_OK) == 0) {
        temp_dir_remove(rig.path);
    }
    memset(&expect, 0, sizeof expect);
    before_open();
}

static void before_open_left(int how)
{
    temp_dir_copy(left[how], rig.path);
    memset(&expect, 0, sizeof expect);
    expect.pending = LEFT_PENDING;
    expect.complete = LEFT_COMPLETE;
    expect.failed = LEFT_FAILED;
    before_open();
}

static void before_open_closed(void)
{
    before_open_left(0);
}

static void before_open_killed(void)
{
    before_open_left(1);
}

static void before_open_cut(void)
{
    before_open_left(2);
    dassie__env.boot_id = other_boot_id;
}

static int run_open(void)
{
    int rc = dassie_open(&rig.q, rig.path, &rig.options, rig_opened);
    if (rc == 0) {
        rig_wait(&rig.opened, 1);
        rc = rig.status;
    }
    return rc;
}

/* What could not be opened can be, with memory; all of it is there. */
static void after_open(int rc)
{
    if (rc != 0) {
        rig_close();
        rig_open();
    }
    session_check();
    rig_close();
    rig_verify();
}

static int run_verify(void)
{
    dassie_verify_report_t report;
    int rc = dassie_verify(left[0], rig_on_problem, NULL, &report);
    ck_assert(rc != 0 || report.problems == 0);
    return rc;
}

/* With all that a close can find. */
static void before_close(void)
{
    static dassie_watch_t watch;
    static dassie_enqueue_t waits;
    dassie_spec_t spec = rig_spec("waits", "x");
    memset(&waits, 0, sizeof waits);
    session_open();
    hold_one();
    waits.done_cb = on_done;
    ck_assert_int_eq(dassie_enqueue(&rig.q, &waits, &spec, on_ack), 0);
    rig_wait(&told, 1);
    ck_assert_int_eq(dassie_watch(&rig.q, &watch, held_id, on_watch), 0);
    rig_counts();
    told = 0;
    expect.pending++;
    rig.closed = 0;
}

static int run_close(void)
{
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    int rc = dassie_finish(&rig.q, held_id, 1, 0, "well", 4);
    if (rc == 0) {
        rig_wait(&rig.closed, 1);
    }
    return rc;
}

static void after_close(int rc)
{
    if (rc != 0) {
        ck_assert_int_eq(dassie_finish(&rig.q, held_id, 1, 0, NULL, 0), 0);
        rig_wait(&rig.closed, 1);
    }
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(ended, 2);
    expect.complete++;
    dassie_verify_report_t report = rig_verify();
    ck_assert_mem_eq(&report.jobs, &expect, sizeof expect);
}

/* ---- Cancel ---- */

static int cancelled;

static void on_cancel(dassie_job_t *job)
{
    ck_assert(dassie_job_cancelled(job));
    cancelled++;
}

static void before_cancel(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec("cancels", "x");
    options.queue = "cancels";
    options.start = start_held;
    options.cancel = on_cancel;
    rig.options.grace_ms = 1;
    rig_open();
    expect = rig_counts();
    cancelled = held = rig.closed = 0;
    ck_assert_int_eq(dassie_process(&rig.q, &passing, &options), 0);
    ck_assert_int_eq(dassie_enqueue(&rig.q, NULL, &spec, NULL), 0);
    rig_wait(&held, 1);
}

static int run_cancel(void)
{
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    while (cancelled == 0 && atomic_load(&memory_failed) == 0) {
        uv_run(&rig.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
    return cancelled > 0 ? 0 : UV_ENOMEM;
}

/* It is told once there is memory. */
static void after_cancel(int rc)
{
    (void)rc;
    rig_wait(&cancelled, 1);
    ck_assert_int_eq(dassie_finish(&rig.q, held_id, 1, 0, NULL, 0), 0);
    rig_wait(&rig.closed, 1);
    ck_assert_int_eq(cancelled, 1);
    ck_assert_uint_eq(rig_verify().jobs.complete, expect.complete + 1);
}

/* ---- A test ---- */

static void on_test_ack(dassie_enqueue_t *asked, int status)
{
    *(int *)asked->data = status;
}

static void on_test_done(dassie_enqueue_t *asked, int status,
                         const dassie_info_t *job)
{
    (void)asked;
    (void)status;
    (void)job;
    ended++;
}

static int run_passing(dassie_job_t *job)
{
    (void)job;
    return 0;
}

/* The whole life of a queue for tests. Whatever fails, all is told, and it can
 * be closed. */
static int run_testing(void)
{
    static dassie_t q;
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    dassie_process_options_t process = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = rig_spec("default", "x");
    int status = 1;
    dassie_enqueue_t first = {.data = &status, .done_cb = on_test_done};
    options.flags = DASSIE_TESTING;
    process.work = run_passing;
    if (dassie_init(&rig.loop, &q) != 0) {
        return UV_ENOMEM;
    }
    int rc = dassie_open(&q, NULL, &options, NULL);
    if (rc == 0) {
        rc = dassie_process(&q, &passing, &process);
        bool took = dassie_enqueue(&q, &first, &spec, on_test_ack) == 0;
        ck_assert_int_eq(dassie_testing_advance(&q, 1000), 0);
        ck_assert_int_eq(took, status <= 0);
        ck_assert_int_ne(dassie_now(&q), 0);
    }
    ck_assert_int_eq(dassie_close(&q, NULL), 0);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(ended, status == 0);
    return rc == 0 && status == 0 ? 0 : UV_ENOMEM;
}

/* ---- The table ---- */

enum { NONE = 1, BARE = 2, LOOKS = 4 };

static const struct operation {
    const char *symbols; /* it calls */
    const char *what;
    unsigned flags; /* NONE: it allocates nothing; BARE: no session;
                       LOOKS: in one with something to see */
    void (*before)(void);
    int (*run)(void);
    void (*after)(int rc);
} operations[] = {
    {"dassie_init", "init", BARE, NULL, run_init, after_init},
    {"dassie_open", "open a new store", BARE, before_open_new, run_open,
     after_open},
    {"dassie_open", "open one that was closed", BARE, before_open_closed,
     run_open, after_open},
    {"dassie_open", "open after a kill", BARE, before_open_killed, run_open,
     after_open},
    {"dassie_open", "open and rebuild", BARE, before_open_cut, run_open,
     after_open},
    {"dassie_close", "close", BARE, before_close, run_close, after_close},
    {"dassie_close", "close and cancel", BARE, before_cancel, run_cancel,
     after_cancel},
    {"dassie_verify", "verify", BARE, NULL, run_verify, NULL},
    {"dassie_now dassie_testing_advance", "a test", BARE, NULL, run_testing,
     NULL},
    {"dassie_enqueue", "enqueue", 0, zero_req, run_enqueue, after_enqueue},
    {"dassie_enqueue", "enqueue and run", 0, before_run, run_enqueue_done,
     after_enqueue_done},
    {"dassie_enqueue", "enqueue and run later", 0, before_run_later,
     run_enqueue_done, after_enqueue_done},
    {"dassie_enqueue", "enqueue for later", 0, zero_req, run_enqueue_later,
     after_enqueue_later},
    {"dassie_enqueue", "enqueue and wait", 0, NULL, run_enqueue_waits,
     after_enqueue},
    {"dassie_enqueue", "enqueue and heal", 0, before_heal, run_heal,
     after_heal},
    {"dassie_enqueue_many", "enqueue many", 0, NULL, run_many, after_many},
    {"dassie_watch", "watch a running job", 0, hold_one, run_watch,
     after_watch},
    {"dassie_watch", "watch an ended job", LOOKS, NULL, run_watch_ended, NULL},
    {"dassie_process", "process", 0, NULL, run_process, after_process},
    {"dassie_processor_stop", "stop", NONE, before_stop, run_stop, NULL},
    {"dassie_finish", "finish", 0, hold_one, run_finish, after_finish},
    {"dassie_finish", "fail and try again", 0, hold_one_of_two, run_fail,
     after_fail},
    {"dassie_job_set_result", "set a result", 0, before_set_result, run_set,
     after_set},
    {"dassie_job_set_error", "set an error", 0, before_set_error, run_set,
     after_set},
    {"dassie_job_checkpoint", "save a checkpoint", 0, hold_one, run_checkpoint,
     after_accessors},
    {"dassie_job_progress", "tell how far it is", 0, hold_one, run_progress,
     after_accessors},
    {"dassie_job_step", "a step", 0, hold_one, run_step, after_accessors},
    {"dassie_subscribe dassie_unsubscribe", "subscribe", 0, NULL, run_subscribe,
     NULL},
    {"dassie_get", "get a complete job", LOOKS, NULL, run_get_complete, NULL},
    {"dassie_get", "get a pending job", LOOKS, NULL, run_get_pending, NULL},
    {"dassie_get", "get a running job", LOOKS, NULL, run_get_running, NULL},
    {"dassie_list", "list complete jobs", LOOKS, NULL, run_list_complete, NULL},
    {"dassie_list", "list pending jobs", LOOKS, NULL, run_list_pending, NULL},
    {"dassie_list", "list running jobs", LOOKS, NULL, run_list_running, NULL},
    {"dassie_counts", "counts", LOOKS, NULL, run_counts, NULL},
    {"dassie_drain", "drain of a queue", 0, NULL, run_drain, NULL},
    {"dassie_metrics", "metrics", LOOKS, NULL, run_metrics, NULL},
    {"dassie_check", "check", LOOKS, NULL, run_check, NULL},
    {"dassie_backup", "backup", LOOKS, NULL, run_backup, NULL},
    {"dassie_queues", "queues", LOOKS, NULL, run_queues, NULL},
    {"dassie_admin_listen", "listen", LOOKS, NULL, run_listen, NULL},
    {"dassie_change", "cancel", 0, before_change, run_change, after_change},
    {"dassie_configure", "configure", 0, NULL, run_configure, NULL},
    {"dassie_job_id dassie_job_attempt dassie_job_queue dassie_job_name "
     "dassie_job_data dassie_job_processor dassie_job_cancelled "
     "dassie_job_touch dassie_job_snooze dassie_job_retry_in "
     "dassie_job_no_retry "
     "dassie_job_checkpoint_data dassie_job_resume_at",
     "look at a job", NONE, hold_one, run_accessors, after_accessors},
    {"dassie_drain dassie_stats dassie_ref dassie_unref dassie_errmsg "
     "dassie_err_name dassie_strerror dassie_version dassie_replace_allocator",
     "what needs no memory", NONE, NULL, run_plain, NULL},
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

/* ---- Points ---- */

static struct totals {
    atomic_uint operations;
    atomic_uint points;
    atomic_uint refused;
} * totals; /* of all tests, which run in processes of their own */

static bool exhaustive;

static void session_begin(const struct operation *op)
{
    if ((op->flags & BARE) == 0) {
        session_open();
    }
    if ((op->flags & LOOKS) != 0) {
        session_look();
    }
}

static void session_end(const struct operation *op)
{
    if ((op->flags & LOOKS) != 0) {
        session_look_end();
    }
    if ((op->flags & BARE) == 0) {
        session_close();
    }
}

/* Those there are, in a session. */
static uint64_t queues_now(const struct operation *op)
{
    if ((op->flags & BARE) != 0) {
        return 0;
    }
    rig_counts(); /* what was refused is over */
    return rig_stats().queues;
}

/* Whether an allocation failed, so that there may be one more point. */
static bool point(const struct operation *op, long n, bool for_ever)
{
    told = ended = 0;
    if (op->before != NULL) {
        op->before();
    }
    uint64_t queues = queues_now(op);
    memory_arm(n, for_ever);
    int rc = op->run();
    bool failed = memory_disarm() > 0;
    ck_assert_msg(rc == 0 || (failed && rc == UV_ENOMEM), "%s, point %ld: %d",
                  op->what, n, rc);
    if (op->after != NULL) {
        op->after(rc);
    }
    if ((op->flags & BARE) == 0) {
        session_check();
    }
    bool changed = rc == 0 || (told > 0 && told_status == 0);
    ck_assert_msg(changed || queues_now(op) == queues,
                  "%s, point %ld: a queue is left", op->what, n);
    if (exhaustive && (op->flags & BARE) == 0) {
        session_end(op);
        temp_dir_remove(rig.path);
        session_begin(op);
    }
    totals->points += failed;
    totals->refused += rc != 0;
    return failed;
}

START_TEST(operation)
{
    const struct operation *op = &operations[_i / 2];
    long step = exhaustive || (op->flags & BARE) == 0 ? 1 : BARE_STEP;
    long n = 0;
    session_begin(op);
    while (point(op, n, _i % 2 != 0)) {
        n += step;
        ck_assert_int_lt(n, POINTS_MAX);
    }
    session_end(op);
    ck_assert_msg((n == 0) == ((op->flags & NONE) != 0), "%s: %ld points",
                  op->what, n);
    totals->operations += _i % 2;
}
END_TEST

/* ---- Whole ---- */

static bool is_named(const char *symbol)
{
    size_t len = strlen(symbol);
    for (int i = 0; i < OPERATIONS; i++) {
        const char *at = operations[i].symbols;
        while ((at = strstr(at, symbol)) != NULL) {
            if (at[len] == '\0' || at[len] == ' ') {
                return true;
            }
            at += len;
        }
    }
    return false;
}

/* Each public function is an operation of the table. */
START_TEST(nothing_is_missing)
{
    char path[PATH_MAX];
    char symbol[128];
    int n = 0;
    const char *srcdir = getenv("srcdir");
    snprintf(path, sizeof path, "%s/test/symbols.txt",
             srcdir != NULL ? srcdir : "..");
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s", path);
    while (fscanf(file, "%127s", symbol) == 1) {
        ck_assert_msg(is_named(symbol), "%s is not in the table", symbol);
        n++;
    }
    fclose(file);
    ck_assert_int_gt(n, 0);
}
END_TEST

static char templates[TEMP_PATH_BYTES];

/* Once for all tests, whose processes come after. */
static void templates_make(void)
{
    static const char *const hows[] = {"close", "kill", "cut"};
    temp_dir_make(templates);
    for (int i = 0; i < 3; i++) {
        temp_path(left[i], templates, hows[i]);
        memory_spawn(left[i], i == 0 ? "kill" : hows[i]);
    }
    memory_spawn(left[0], hows[0]);
}

static void setup(void)
{
    rig_setup();
    rig.options.log_cb = NULL;
    ck_assert_int_eq(uv_sem_init(&work_go, 0), 0);
    memory_hook();
}

static void teardown(void)
{
    rig_teardown();
    dassie__job_cache_clear();
    ck_assert_int_eq(memory_blocks, 0);
    uv_sem_destroy(&work_go);
}

static void templates_remove(void)
{
    temp_dir_remove(templates);
}

/* What memory_spawn() starts: this program with a path and a way to end. */
static char **leave_args;

START_TEST(leave)
{
    const char *how = leave_args[2];
    rig_setup();
    snprintf(rig.path, sizeof rig.path, "%s", leave_args[1]);
    if (strcmp(how, "cut") == 0) {
        rig.options.durability = DASSIE_OFF;
    }
    rig_open();
    if (strcmp(how, "close") == 0) {
        rig_close();
    } else {
        memory_fill();
    }
    temp_dir_remove(rig.dir);
    _exit(0);
}
END_TEST

int main(int argc, char **argv)
{
    totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    exhaustive = getenv("EXHAUSTIVE") != NULL;
    Suite *suite = suite_create("memory");
    TCase *tc = tcase_create("memory");
    suite_add_tcase(suite, tc);
    if (argc == 3) {
        leave_args = argv;
        tcase_add_test(tc, leave);
    } else {
        tcase_add_unchecked_fixture(tc, templates_make, templates_remove);
        tcase_add_checked_fixture(tc, setup, teardown);
        tcase_add_loop_test(tc, operation, 0, 2 * OPERATIONS);
        tcase_add_test(tc, nothing_is_missing);
    }
    SRunner *runner = srunner_create(suite);
    if (argc == 3) {
        srunner_set_fork_status(runner, CK_NOFORK);
    }
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    printf("memory: %u operations, %u points, %u of them refused\n",
           totals->operations, totals->points, totals->refused);
    return failed == 0 && totals->points > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
