#include "config.h"

#include "engine.h"

#include "alloc.h"
#include "apply.h"
#include "beside.h"
#include "exit.h"
#include "kv_mem.h"
#include "kv_rocks.h"
#include "pool.h"
#include "salvage.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* ---- The inbox ---- */

void dassie__engine_ring(struct dassie__impl *impl)
{
    atomic_store(&impl->rung, true);
    uv_async_send(&impl->async);
}

static void inbox_push(struct dassie__impl *impl, struct op *op)
{
    ops_push(&impl->inbox, op);
    if (impl->clock.fake) {
        dassie__engine_ring(impl);
    }
    if (impl->sleeping) {
        impl->sleeping = false; /* once is enough */
        uv_cond_signal(&impl->cond);
    }
}

void dassie__engine_post(struct dassie__impl *impl, struct op *op)
{
    uv_mutex_lock(&impl->mutex);
    inbox_push(impl, op);
    uv_mutex_unlock(&impl->mutex);
}

void dassie__engine_post_close(struct dassie__impl *impl, struct op *op)
{
    uv_mutex_lock(&impl->mutex);
    impl->closed = true;
    impl->closed_at = clock_mono_ns(&impl->clock);
    inbox_push(impl, op);
    atomic_store(&impl->ending, true);
    uv_mutex_unlock(&impl->mutex);
}

int dassie__engine_post_jobs(struct dassie__impl *impl, struct op *op, size_t n,
                             size_t bytes)
{
    int rc = 0;
    uv_mutex_lock(&impl->mutex);
    bool full = impl->inbox_jobs >= impl->options.inbox_jobs_max ||
                impl->inbox_bytes >= impl->options.inbox_bytes_max;
    if (impl->closed) {
        rc = UV_ECANCELED;
    } else if (full) {
        rc = UV_ENOBUFS;
        if (!impl->full) {
            impl->full = true;
            atomic_store(&impl->pressed, true);
            atomic_store(&impl->refused, true);
            dassie__engine_ring(impl);
        }
    } else {
        impl->inbox_jobs += n;
        impl->inbox_bytes += bytes;
        inbox_push(impl, op);
    }
    uv_mutex_unlock(&impl->mutex);
    return rc;
}

/* The batch is committed: its jobs leave the inbox's count. */
static void inbox_release(struct dassie__impl *impl)
{
    if (impl->batch_jobs == 0) {
        return;
    }
    uv_mutex_lock(&impl->mutex);
    impl->inbox_jobs -= impl->batch_jobs;
    impl->inbox_bytes -= impl->batch_bytes;
    if (impl->full && impl->inbox_jobs <= impl->options.inbox_jobs_max / 4 &&
        impl->inbox_bytes <= impl->options.inbox_bytes_max / 4) {
        impl->full = false;
        atomic_store(&impl->pressed, false);
        dassie__engine_ring(impl);
    }
    uv_mutex_unlock(&impl->mutex);
    impl->batch_jobs = 0;
    impl->batch_bytes = 0;
}

/* Takes all that has arrived; with nothing there, sleeps until something does
 * or until due. */
static void inbox_take(struct dassie__impl *impl, uint64_t due)
{
    uv_mutex_lock(&impl->mutex);
    if (impl->inbox.head == NULL && impl->todo.head == NULL &&
        !impl->clock.fake) {
        uint64_t now = clock_mono_ns(&impl->clock);
        impl->sleeping = true;
        if (due == UINT64_MAX) {
            uv_cond_wait(&impl->cond, &impl->mutex);
        } else if (due > now) {
            uv_cond_timedwait(&impl->cond, &impl->mutex, due - now);
        }
        impl->sleeping = false;
    }
    ops_append(&impl->todo, &impl->inbox);
    uv_mutex_unlock(&impl->mutex);
}

/* ---- The outbox ---- */

void dassie__outbox_post(struct dassie__impl *impl, struct ops *ops)
{
    uv_mutex_lock(&impl->out_mutex);
    ops_append(&impl->outbox, ops);
    uv_mutex_unlock(&impl->out_mutex);
    dassie__engine_ring(impl);
}

void dassie__engine_log(struct dassie__impl *impl, dassie_log_level_t level,
                        const char *format, ...)
{
    struct log_line *line = dassie__malloc(sizeof *line);
    struct ops one = {NULL, NULL};
    va_list args;
    if (line == NULL) {
        return;
    }
    line->op.type = OP_LOG;
    line->level = level;
    va_start(args, format);
    vsnprintf(line->text.text, sizeof line->text.text, format, args);
    va_end(args);
    ops_push(&one, &line->op);
    dassie__outbox_post(impl, &one);
}

/* ---- Statistics ---- */

static void stats_copy(struct dassie__impl *impl, int degraded)
{
    const struct core *core = &impl->core;
    const struct core_stats *c = &core->stats;
    dassie_stats_t s = {
        .queues = core->store.queues.n,
        .enqueued = c->enqueued,
        .completed = c->completed,
        .timed_out = c->timed_out,
        .given_up = c->given_up,
        .hung = core->hung_n,
        .failed = c->failed,
        .cancelled = c->cancelled,
        .retried = c->retried,
        .snoozed = c->snoozed,
        .promoted = c->promoted,
        .swept = c->swept,
        .claimed = c->claimed,
        .handed_off = c->handed_off,
        .unclaimed = c->unclaimed,
        .interrupted = c->interrupted,
        .refills = core->store.refills,
        .suspects = (uint32_t)core->store.suspects,
        .degraded = degraded,
    };
    dassie__count_copy(&s.jobs, &core->store.queues.tally);
    s.pending_bytes = core->store.queues.tally.pending_bytes;
    if (core->store.kv != NULL) {
        s.fsyncs = core->store.kv->syncs;
        s.rows = core->store.kv->rows;
        s.row_bytes = core->store.kv->row_bytes;
    }
    uv_mutex_lock(&impl->stats_mutex);
    s.commits = impl->commits;
    s.heals = impl->heals;
    impl->stats = s;
    uv_mutex_unlock(&impl->stats_mutex);
}

void dassie__engine_stats(struct dassie__impl *impl, dassie_stats_t *stats)
{
    uv_mutex_lock(&impl->stats_mutex);
    *stats = impl->stats;
    uv_mutex_unlock(&impl->stats_mutex);
    uv_mutex_lock(&impl->mutex);
    stats->inbox_jobs = impl->inbox_jobs;
    stats->inbox_bytes = impl->inbox_bytes;
    uv_mutex_unlock(&impl->mutex);
    stats->pool_threads = dassie__pool_threads();
    stats->runners = atomic_load(&impl->runners);
    stats->work_slots = atomic_load(&impl->work_slots);
}

/* What the open batch has added to the database's counts is one commit's. */
static void meter_commit(struct dassie__impl *impl, uint64_t ns)
{
    struct commit_meter *meter = &impl->commit_meter;
    const struct kv *kv = impl->core.store.kv;
    histogram_add(&meter->rows, &dassie__scale_rows,
                  kv->rows - impl->rows_metered);
    histogram_add(&meter->bytes, &dassie__scale_bytes,
                  kv->row_bytes - impl->bytes_metered);
    histogram_add(&meter->time, &dassie__scale_commit, (ns + 500) / 1000);
    impl->rows_metered = kv->rows;
    impl->bytes_metered = kv->row_bytes;
}

/* ---- Opening ---- */

static void tell_salvage(void *arg, const char *line)
{
    dassie__engine_log(arg, DASSIE_LOG_WARNING, "salvage: %s", line);
}

static int salvage(struct dassie__impl *impl, bool gaps, struct errmsg *e)
{
    struct salvage_options options = {.dir = impl->dir.path,
                                      .memory_bytes = DASSIE_MEMORY_BYTES_MIN,
                                      .gaps = gaps,
                                      .wall_ms = clock_wall_ms(&impl->clock),
                                      .tell = tell_salvage,
                                      .arg = impl};
    return dassie__salvage(&options, e);
}

/* The database and the recorder of a store that is looked at, or owned. */
static int open_kv(struct dassie__impl *impl,
                   const struct kv_rocks_options *options, const char *inflight,
                   struct kv **kv, struct errmsg *e)
{
    int rc = dassie__kv_rocks_open(options, kv, e);
    if (rc != 0 || options->read_only) {
        return rc;
    }
    rc = dassie__recorder_open(&impl->recorder, inflight, e);
    if (rc == 0) {
        rc = dassie__dir_sync(&impl->dir, e);
        if (rc != 0) {
            dassie__recorder_close(&impl->recorder, false);
        }
    }
    if (rc != 0) {
        (*kv)->ops->close(*kv, false);
    }
    return rc;
}

/* Whether there is anything to look at, as it is. */
static int check_look(bool there, bool gaps, struct errmsg *e)
{
    if (!there) {
        return dassie__errmsg_set(e, UV_ENOENT, "nothing was put into it yet");
    }
    return gaps ? dassie__errmsg_set(e, DASSIE_ECORRUPT,
                                     "a power cut without syncing: its next "
                                     "owner rebuilds it")
                : 0;
}

/* That of a test. */
static int open_memory(struct dassie__impl *impl, struct kv **kv,
                       struct errmsg *e)
{
    *kv = impl->memory = dassie__kv_mem_new();
    if (*kv == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    return dassie__recorder_open(&impl->recorder, NULL, e);
}

/* That of another owner. */
static int open_beside(struct dassie__impl *impl, struct kv **kv,
                       struct errmsg *e)
{
    uint64_t torn;
    int rc =
        dassie__beside_open(impl->dir.path, impl->options.memory_bytes / 4 * 3,
                            impl->scratch, kv, &torn, e);
    if (rc == 0 && torn > 0) {
        dassie__engine_log(impl, DASSIE_LOG_WARNING,
                           "its owner writes meanwhile: this is a moment's "
                           "view, in which %llu rows and counts do not agree",
                           (unsigned long long)torn);
    }
    return rc;
}

static int open_dir(struct dassie__impl *impl, struct kv **kv, struct errmsg *e)
{
    char inflight[PATH_MAX + 16];
    const dassie_options_t *o = &impl->options;
    bool read_only = (o->flags & DASSIE_READ_ONLY) != 0;
    snprintf(inflight, sizeof inflight, "%s/inflight", impl->dir.path);
    /* The recorder is made once the database stands, in whatever way its
     * creation was interrupted before. */
    bool there =
        dassie__kv_rocks_used(impl->dir.path) || access(inflight, F_OK) == 0;
    struct kv_rocks_options rocks = {.dir = impl->dir.path,
                                     .memory_bytes = o->memory_bytes / 4 * 3,
                                     .create = !there,
                                     .read_only = read_only,
                                     .gaps = dassie__recorder_lossy(inflight)};
    int rc = read_only ? check_look(there, rocks.gaps, e) : 0;
    if (there && (o->flags & DASSIE_SALVAGE) != 0) {
        rc = salvage(impl, rocks.gaps, e);
    }
    return rc == 0 ? open_kv(impl, &rocks, inflight, kv, e) : rc;
}

static int open_store(struct dassie__impl *impl, struct errmsg *e)
{
    const dassie_options_t *o = &impl->options;
    bool read_only = (o->flags & DASSIE_READ_ONLY) != 0;
    bool test = impl->clock.fake;
    bool owned = test || impl->dir.lock_fd >= 0;
    struct core_options core_options = {
        .crashes_max = o->max_crashes < 0 ? 0 : (uint32_t)o->max_crashes,
        .suspect_ns = (uint64_t)o->suspect_ms * 1000000,
        .unsynced = o->durability == DASSIE_OFF,
        .read_only = read_only,
        .window_max = o->memory_bytes / 4,
        .attempts_max = DASSIE_ATTEMPTS,
        .random = test ? NULL : dassie__env.random};
    struct kv *kv;
    int rc = test    ? open_memory(impl, &kv, e)
             : owned ? open_dir(impl, &kv, e)
                     : open_beside(impl, &kv, e);
    if (rc != 0) {
        return rc;
    }
    rc = dassie__core_open(&impl->core, kv, &impl->recorder, &core_options, e);
    if (rc != 0 && !read_only) {
        dassie__recorder_close(&impl->recorder, false);
    }
    impl->core.hung = dassie__apply_hung;
    impl->core.hung_arg = impl;
    return rc;
}

static void tell_rebuilt(struct dassie__impl *impl)
{
    const struct rebuild_report *r = &impl->core.rebuild;
    dassie__engine_log(
        impl, DASSIE_LOG_WARNING,
        "rebuilt after a power cut without syncing: %llu jobs kept, %llu of "
        "them claimed before, %llu dropped as their row is gone; %llu rows "
        "added, %llu removed; %u queues named anew",
        (unsigned long long)r->jobs, (unsigned long long)r->again,
        (unsigned long long)r->dropped, (unsigned long long)r->added,
        (unsigned long long)r->removed, (unsigned)r->named);
}

/* Whether n is above its mark: from high on, until it is down to low. */
static bool is_above(bool was, uint64_t n, uint64_t high, uint64_t low)
{
    return high > 0 && (was ? n > low : n >= high);
}

/* Tells the loop when the backlog passes its marks. */
static void check_backlog(struct dassie__impl *impl)
{
    const dassie_options_t *o = &impl->options;
    const struct tally *tally = &impl->core.store.queues.tally;
    impl->many_jobs = is_above(impl->many_jobs, tally->pending,
                               o->pending_jobs_high, o->pending_jobs_low);
    impl->many_bytes = is_above(impl->many_bytes, tally->pending_bytes,
                                o->pending_bytes_high, o->pending_bytes_low);
    bool was = atomic_load(&impl->backlog);
    bool is = impl->many_jobs || impl->many_bytes;
    if (is != was) {
        atomic_store(&impl->backlog, is);
        dassie__engine_ring(impl);
    }
}

/* Tells the loop when the store begins to hold commits up, and when it has
 * ended. */
static void check_stall(struct dassie__impl *impl)
{
    struct kv *kv = impl->core.store.kv;
    bool was = atomic_load(&impl->stalled);
    bool is = (was || kv->held_up) && kv->ops->stalled(kv);
    if (is != was) {
        atomic_store(&impl->stalled, is);
        dassie__engine_ring(impl);
    }
}

static uint64_t stall_due(const struct dassie__impl *impl)
{
    return atomic_load(&impl->stalled) ? impl->core.mono_ns + STALL_NS
                                       : UINT64_MAX;
}

static int open_all(struct dassie__impl *impl, struct errmsg *e)
{
    bool create =
        (impl->options.flags & (DASSIE_NO_CREATE | DASSIE_READ_ONLY)) == 0;
    bool test = impl->clock.fake;
    int rc = test ? 0 : dassie__dir_open(&impl->dir, impl->path, create, e);
    if (rc == UV_EBUSY && (impl->options.flags & DASSIE_BESIDE) != 0) {
        rc = dassie__dir_beside(&impl->dir, e);
    }
    if (rc == 0) {
        rc = open_store(impl, e);
        if (rc != 0 && !test) {
            dassie__beside_close(impl->scratch);
            dassie__dir_close(&impl->dir);
        }
    }
    if (rc != 0) {
        char place[ERRMSG_BYTES];
        snprintf(place, sizeof place, "open %s", impl->path);
        dassie__errmsg_wrap(e, rc, place);
        return rc;
    }
    impl->open = true;
    impl->rows_metered = impl->core.store.kv->rows;
    impl->bytes_metered = impl->core.store.kv->row_bytes;
    check_backlog(impl);
    stats_copy(impl, 0);
    atomic_store(&impl->metered, true);
    if (impl->core.rebuilt) {
        tell_rebuilt(impl);
    } else if (impl->core.stats.interrupted > 0) {
        dassie__engine_log(
            impl, DASSIE_LOG_WARNING,
            "the last owner died: jobs under way %llu, suspects %llu",
            (unsigned long long)impl->core.stats.interrupted,
            (unsigned long long)impl->core.store.suspects);
    }
    if (impl->core.stats.unrecorded > 0) {
        dassie__engine_log(
            impl, DASSIE_LOG_WARNING,
            "the flight recorder says nothing of %llu jobs under way (%s): "
            "each counts a run, and nobody is suspected",
            (unsigned long long)impl->core.stats.unrecorded,
            impl->recorder.power_cut ? "a power cut" : "inflight is damaged");
    }
    return 0;
}

static void answer_opened(struct dassie__impl *impl)
{
    struct log_line *opened = &impl->opened_line;
    struct ops one = {NULL, NULL};
    opened->text.text[0] = '\0';
    opened->op.type = OP_OPENED;
    opened->op.status = open_all(impl, &opened->text);
    dassie__exit_release();
    ops_push(&one, &opened->op);
    dassie__outbox_post(impl, &one);
}

/* Whether there is a store that this engine may change. */
static bool is_writable(const struct dassie__impl *impl)
{
    return impl->open && !impl->lost && !impl->core.options.read_only;
}

/* ---- The commit ---- */

/* Waits between two tries to heal. Returns when to give up: once the owner
 * wants to close, after the grace period; a test, whose time stands still
 * meanwhile, after one. */
static uint64_t heal_wait(struct dassie__impl *impl, uint64_t ms)
{
    if (impl->clock.fake) {
        return 0;
    }
    uint64_t until = clock_mono_ns(&impl->clock) + ms * 1000000;
    uv_mutex_lock(&impl->mutex);
    for (;;) {
        uint64_t now = clock_mono_ns(&impl->clock);
        if (impl->closed || now >= until) {
            break;
        }
        impl->sleeping = true;
        uv_cond_timedwait(&impl->cond, &impl->mutex, until - now);
        impl->sleeping = false;
    }
    uint64_t give_up = impl->closed ? grace_end(impl) : UINT64_MAX;
    uv_mutex_unlock(&impl->mutex);
    return give_up;
}

/* What the commit holds that is in doubt. The figures were copied after the
 * last one. */
static void tell_doubt(struct dassie__impl *impl, const struct errmsg *e)
{
    size_t claimed = 0;
    const struct core_stats *now = &impl->core.stats;
    for (struct dassie__processor *p = impl->core.starting; p != NULL;
         p = p->starting_next) {
        claimed += p->starting.n;
    }
    dassie__engine_log(
        impl, DASSIE_LOG_ERROR,
        "a commit is in doubt: %zu enqueued, %zu claimed, "
        "%u ended, %llu promoted, %llu swept: %s",
        impl->batch_jobs, claimed, (unsigned)impl->core.released_n,
        (unsigned long long)(now->promoted - impl->stats.promoted),
        (unsigned long long)(now->swept - impl->stats.swept), e->text);
}

/* Nobody may read while the store is reopened. What takes long is given up. */
static void readers_wait(struct dassie__impl *impl)
{
    atomic_store(&impl->survey_stop, UV_EAGAIN);
    dassie__reader_wait(&impl->reader);
    dassie__reader_wait(&impl->surveyor);
    atomic_store(&impl->survey_stop, 0);
}

/* The commit is in doubt. Reopens the store until it is settled; once the
 * owner wants to close, no longer than the grace period. */
static int heal(struct dassie__impl *impl, int rc, struct errmsg *e)
{
    uint64_t ms = HEAL_MS_MIN;
    tell_doubt(impl, e);
    stats_copy(impl, rc);
    readers_wait(impl);
    for (;;) {
        uint64_t give_up = heal_wait(impl, ms);
        uint64_t now = clock_mono_ns(&impl->clock);
        rc = dassie__store_heal(&impl->core.store, e);
        if (rc == 0) {
            dassie__engine_log(impl, DASSIE_LOG_WARNING,
                               "the store has healed");
            impl->heals++;
            return 0;
        }
        dassie__engine_log(impl, DASSIE_LOG_ERROR,
                           "the store does not heal: %s", e->text);
        if (now >= give_up) {
            return rc;
        }
        if (give_up != UINT64_MAX) {
            uv_sleep(HEAL_MS_MIN);
        } else {
            ms = 2 * ms < HEAL_MS_MAX ? 2 * ms : HEAL_MS_MAX;
        }
    }
}

/* Once the grace period of a close is over. */
static void cancel_running(struct dassie__impl *impl)
{
    if (!impl->cancelled) {
        impl->cancelled = dassie__apply_cancel_all(impl);
        impl->grace_at = impl->core.mono_ns + STARVED_NS; /* if not: again */
    }
}

/* What is wrong is told once, and so is its end. */
static void tell_change(struct dassie__impl *impl, int *told, int error,
                        const char *what, const struct errmsg *e)
{
    if (error == *told) {
        return;
    }
    *told = error;
    if (error != 0) {
        dassie__engine_log(impl, DASSIE_LOG_ERROR, "%s cannot be read: %s",
                           what, e->text);
    } else {
        dassie__engine_log(impl, DASSIE_LOG_WARNING, "%s can be read again",
                           what);
    }
}

static void tell_unreadable(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    tell_change(impl, &impl->broken_told, core->broken, "jobs that wait to run",
                &core->error);
    tell_change(impl, &impl->sweep_told, core->sweep_error,
                "jobs that have ended", &core->sweep_text);
}

/* So too a mark that cannot be written. */
static void tell_mark(struct dassie__impl *impl)
{
    int error = impl->core.store.kv->mark_error;
    if (error == impl->mark_told) {
        return;
    }
    impl->mark_told = error;
    if (error != 0) {
        dassie__engine_log(impl, DASSIE_LOG_WARNING,
                           "hwm is not written (%s): if the log loses its end "
                           "now, that may go unnoticed",
                           dassie_strerror(error));
    } else {
        dassie__engine_log(impl, DASSIE_LOG_WARNING, "hwm is written again");
    }
}

/* The store did not heal within the grace period of a close. */
static void give_up(struct dassie__impl *impl)
{
    dassie__apply_lose(impl);
    cancel_running(impl);
    dassie__engine_log(impl, DASSIE_LOG_ERROR,
                       "the store is given up: %zu jobs are in doubt",
                       impl->batch_jobs);
}

static void commit(struct dassie__impl *impl)
{
    struct errmsg e = {""};
    int status = 0;
    if (impl->open && !impl->lost && store_changed(&impl->core.store)) {
        uint64_t begin = clock_mono_ns(&impl->clock);
        status =
            dassie__store_commit(&impl->core.store, impl->core.wall_ms, &e);
        if (status != 0 && heal(impl, status, &e) != 0) {
            give_up(impl);
        }
        meter_commit(impl, clock_mono_ns(&impl->clock) - begin);
        impl->commits++;
    }
    /* Whoever is told anything finds it counted, and its room in the inbox, and
     * the database at rest. */
    inbox_release(impl);
    if (impl->open && !impl->lost) {
        check_stall(impl);
        stats_copy(impl, impl->core.broken);
    }
    dassie__apply_committed(impl, impl->lost ? DASSIE_EUNKNOWN : 0);
    impl->batch_work = 0;
    if (impl->open && !impl->lost) {
        tell_unreadable(impl);
        tell_mark(impl);
        check_backlog(impl);
    }
}

/* ---- The cycle ---- */

static void now(struct dassie__impl *impl)
{
    impl->core.wall_ms = clock_wall_ms(&impl->clock);
    impl->core.mono_ns = clock_mono_ns(&impl->clock);
}

/* Looks once a second whether there is room for new jobs. Where nobody knows,
 * what was known last holds. */
static void check_space(struct dassie__impl *impl)
{
    struct core *core = &impl->core;
    if (core->mono_ns < impl->space_at || impl->clock.fake) {
        return;
    }
    impl->space_at = core->mono_ns + SPACE_NS;
    uint64_t free_bytes = dassie__env.free_bytes(impl->dir.path);
    int refuse = free_bytes < impl->options.free_bytes_min ? UV_ENOSPC : 0;
    if (free_bytes == UINT64_MAX || refuse == core->refuse) {
        return;
    }
    core->refuse = refuse;
    if (refuse != 0) {
        dassie__engine_log(
            impl, DASSIE_LOG_WARNING,
            "less than %llu bytes of disk are free: new jobs are refused",
            (unsigned long long)impl->options.free_bytes_min);
    } else {
        dassie__engine_log(impl, DASSIE_LOG_WARNING,
                           "enough disk is free again: new jobs are taken");
    }
}

static void apply_batch(struct dassie__impl *impl)
{
    struct op *op;
    unsigned n = 0;
    for (; n < BATCH_OPS_MAX; n++) {
        if (impl->batch_work >= BATCH_BYTES_MAX ||
            impl->batch_jobs >= BATCH_OPS_MAX ||
            (op = ops_pop(&impl->todo)) == NULL) {
            break;
        }
        dassie__apply_op(impl, op);
    }
    dassie__core_applied(&impl->core, n);
}

/* Jobs claimed ahead of one that keeps its processor busy go back. Returns when
 * to look again. */
static uint64_t check_parked(struct dassie__impl *impl)
{
    uint64_t due = UINT64_MAX;
    struct core *core = &impl->core;
    for (struct dassie__processor *p = core->processors; p != NULL;
         p = p->next) {
        if (p->work == NULL || p->claimed <= p->slots) {
            continue;
        }
        uv_mutex_lock(&p->mutex);
        uint64_t popped = p->popped;
        size_t parked = p->runq.n;
        uv_mutex_unlock(&p->mutex);
        size_t ahead = p->claimed - p->slots;
        if (popped != p->popped_seen || p->parked_at == 0) {
            p->popped_seen = popped;
            p->parked_at = core->mono_ns + PARKED_NS;
        } else if (core->mono_ns >= p->parked_at) {
            atomic_store(&p->run_ns, (uint64_t)AHEAD_NS * p->slots + 1);
            /* Not before jobs that this batch claims for it: next time, as it
             * gets no more of them now. */
            if (p->starting.n == 0) {
                dassie__apply_hand_back(impl, p,
                                        parked > ahead ? parked - ahead : 0);
                p->parked_at = 0;
                continue;
            }
        }
        due = p->parked_at < due ? p->parked_at : due;
    }
    return due;
}

/* While jobs still run: raises cancel flags after the grace period, then tells
 * the log every now and then. Returns when to look again. */
static uint64_t check_closing(struct dassie__impl *impl)
{
    uint64_t mono_ns = impl->core.mono_ns;
    uint32_t running = impl->core.claimed_n + impl->core.hung_n;
    if (running == 0) {
        return UINT64_MAX;
    }
    if (mono_ns >= impl->grace_at) {
        cancel_running(impl);
    }
    if (mono_ns >= impl->stuck_at) {
        dassie__engine_log(impl, DASSIE_LOG_WARNING,
                           "closing waits for %u running jobs", running);
        impl->stuck_at = mono_ns + STUCK_NS;
    }
    return impl->cancelled || impl->stuck_at < impl->grace_at ? impl->stuck_at
                                                              : impl->grace_at;
}

static bool may_end(struct dassie__impl *impl)
{
    if (!impl->closing || impl->core.claimed_n + impl->core.hung_n > 0 ||
        impl->todo.head != NULL || impl->later.head != NULL) {
        return false;
    }
    uv_mutex_lock(&impl->mutex);
    bool empty = impl->inbox.head == NULL;
    uv_mutex_unlock(&impl->mutex);
    return empty;
}

static void engine_close(struct dassie__impl *impl)
{
    struct errmsg e;
    atomic_store(&impl->survey_stop, UV_ECANCELED);
    dassie__reader_stop(&impl->reader);
    dassie__reader_stop(&impl->surveyor);
    if (!impl->open) {
        dassie__apply_forsake(impl);
        return;
    }
    bool clean = is_writable(impl);
    if (clean) {
        dassie__store_tidy(&impl->core.store);
        clean = dassie__store_commit(&impl->core.store, impl->core.wall_ms,
                                     &e) == 0;
    }
    dassie__apply_forsake(impl);
    bool durable = dassie__core_close(&impl->core, clean);
    if (!impl->core.options.read_only) {
        dassie__recorder_close(&impl->recorder, clean && durable);
    }
    if (impl->listening) {
        dassie__dir_unlisten(&impl->dir);
    }
    if (!impl->clock.fake) {
        dassie__beside_close(impl->scratch);
        dassie__dir_close(&impl->dir);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What reads rows to change them comes first in a batch, and one of it only:
 * what operators asked for, enqueues that change others, what is due and what
 * has been kept long enough take turns. */
enum begin { BEGIN_CHANGES, BEGIN_LATER, BEGIN_PROMOTE, BEGIN_SWEEP, BEGINS };

static bool begin_one(struct dassie__impl *impl, unsigned what)
{
    struct core *core = &impl->core;
    bool has = what == BEGIN_CHANGES ? impl->changes.head != NULL
               : what == BEGIN_LATER ? impl->later.head != NULL
               : !is_writable(impl)  ? false
               : what == BEGIN_PROMOTE
                   ? dassie__schedule_due(&core->store) <= core->wall_ms
                   : dassie__core_may_sweep(core);
    if (!has) {
        return false;
    }
    switch (what) {
        case BEGIN_CHANGES:
            dassie__apply_changes(impl);
            break;
        case BEGIN_LATER:
            dassie__apply_later(impl);
            break;
        case BEGIN_PROMOTE:
            dassie__core_promote(core);
            break;
        default:
            dassie__core_sweep(core);
            break;
    }
    return true;
}

static void begin_batch(struct dassie__impl *impl)
{
    for (unsigned i = 1; i <= BEGINS; i++) {
        unsigned what = (impl->begin_last + i) % BEGINS;
        if (begin_one(impl, what)) {
            impl->begin_last = what;
            break;
        }
    }
    if (impl->cancels_untold) {
        impl->cancels_untold = !dassie__apply_cancelled(impl);
    }
}

/* When the next batch is to begin though nothing has arrived. */
static uint64_t begin_due(const struct dassie__impl *impl)
{
    if ((impl->changes.head != NULL && !impl->closing) ||
        impl->later.head != NULL) {
        return impl->core.mono_ns;
    }
    return impl->cancels_untold ? impl->core.mono_ns + STARVED_NS : UINT64_MAX;
}

/* Applies what was taken, and commits. Returns when to do so again though
 * nothing has arrived. */
static uint64_t engine_batch(struct dassie__impl *impl)
{
    uint64_t due = UINT64_MAX;
    now(impl);
    if (is_writable(impl)) {
        check_space(impl);
    }
    if (!impl->lost) {
        impl->batch_from = impl->core.store.next;
    }
    begin_batch(impl);
    apply_batch(impl);
    if (is_writable(impl)) {
        due = earlier(check_parked(impl), dassie__apply_starved(impl));
        dassie__apply_timeouts(impl);
        dassie__core_dispatch(&impl->core);
        due = earlier(due, dassie__core_due(&impl->core));
        due = earlier(due, dassie__limits_due(&impl->core.limits));
        due = earlier(due,
                      dassie__saves_write(&impl->core.saves, &impl->core.store,
                                          impl->core.mono_ns));
    }
    if (impl->closing) {
        due = earlier(due, check_closing(impl));
    }
    due = earlier(due, begin_due(impl));
    commit(impl);
    return earlier(due, stall_due(impl));
}

static void engine_begin(struct dassie__impl *impl)
{
    impl->closed_op.type = OP_CLOSED;
    now(impl);
    answer_opened(impl);
}

static void engine_end(struct dassie__impl *impl)
{
    struct ops one = {NULL, NULL};
    engine_close(impl);
    ops_push(&one, &impl->closed_op);
    dassie__outbox_post(impl, &one);
}

static void engine_main(void *arg)
{
    struct dassie__impl *impl = arg;
    uint64_t due = 0; /* what was due before the open is */
    engine_begin(impl);
    while (!may_end(impl)) {
        inbox_take(impl, due);
        if (impl->options.commit_delay_ms > 0 && !impl->closing) {
            uv_sleep(impl->options.commit_delay_ms);
            inbox_take(impl, due);
        }
        due = engine_batch(impl);
    }
    engine_end(impl);
}

/* ---- Of a test ---- */

static bool has_work(struct dassie__impl *impl)
{
    uv_mutex_lock(&impl->mutex);
    bool arrived = impl->inbox.head != NULL;
    uv_mutex_unlock(&impl->mutex);
    return arrived || impl->todo.head != NULL ||
           impl->due <= clock_mono_ns(&impl->clock);
}

void dassie__engine_turn(struct dassie__impl *impl)
{
    while (has_work(impl)) {
        inbox_take(impl, 0);
        impl->due = engine_batch(impl);
        if (may_end(impl)) {
            impl->due = UINT64_MAX;
            engine_end(impl);
        }
    }
}

int dassie__engine_open(struct dassie__impl *impl)
{
    dassie__exit_watch();
    dassie__exit_hold();
    if (impl->clock.fake) {
        engine_begin(impl);
        return 0;
    }
    if (uv_thread_create(&impl->thread, engine_main, impl) != 0) {
        dassie__exit_release();
        return UV_EAGAIN;
    }
    return 0;
}
