/* dassie.c: the handle's life, and what the loop is told.
 *
 * The engine's answers arrive in the outbox; one uv_async_t is only the bell.
 * Of a long list so many are delivered at a time, then the bell is rung again,
 * so that the loop gets its turn.
 *
 * On close: when the engine has said OP_CLOSED its thread is joined; when no
 * runner is left and all is delivered, the async handle is closed; its close
 * callback frees everything and calls the user last. */
#include "config.h"

#include "admin.h"
#include "alloc.h"
#include "events.h"
#include "impl.h"
#include "kv_mem.h"
#include "lock.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Answers delivered before the loop gets its turn. */
#define DELIVER_MAX 512

#define COMMIT_DELAY_MS_MAX 1000
#define GRACE_MS 10000
#define SUSPECT_MS 10000
#define CRASHES_MAX 3
#define FREE_BYTES_MIN 67108864

static void impl_settle(struct dassie__impl *impl);

/* ---- Checks ---- */

/* With --enable-debug: the thread on which the loop has last run is its own. */
#ifdef DASSIE_DEBUG
static void know_thread(struct dassie__impl *impl)
{
    impl->loop_thread = uv_thread_self();
    impl->loop_known = true;
}

static bool is_loop_thread(const struct dassie__impl *impl)
{
    uv_thread_t self = uv_thread_self();
    return !impl->loop_known || uv_thread_equal(&impl->loop_thread, &self);
}
#else
static void know_thread(struct dassie__impl *impl)
{
    (void)impl;
}

static bool is_loop_thread(const struct dassie__impl *impl)
{
    (void)impl;
    return true;
}
#endif

/* What is for the loop's thread alone is refused where it is easily seen not to
 * be that: in a work callback. */
int dassie__impl_check_place(const dassie_t *q)
{
    if (q == NULL || q->impl == NULL) {
        return UV_EINVAL;
    }
    return q->impl->forks != dassie__dir_forks() ||
                   dassie__runner_is_here(q->impl) || !is_loop_thread(q->impl)
               ? UV_EPERM
               : 0;
}

int dassie__impl_check(const dassie_t *q)
{
    int rc = dassie__impl_check_place(q);
    if (rc != 0) {
        return rc;
    }
    if (q->impl->closed) {
        return UV_ECANCELED;
    }
    return q->impl->opened ? 0 : UV_EINVAL;
}

int dassie__name_check(const char **name, size_t *len, const char *fallback)
{
    if (*name == NULL && *len == 0) {
        *name = fallback;
        *len = strlen(fallback);
        return 0;
    }
    if (*name == NULL) {
        return UV_EINVAL;
    }
    if (*len == 0) {
        *len = strnlen(*name, DASSIE_NAME_BYTES_MAX + 1);
    }
    return *len == 0 || *len > DASSIE_NAME_BYTES_MAX ? UV_EINVAL : 0;
}

int dassie__options_copy(void *to, size_t size, const void *from,
                         size_t from_size)
{
    const char *bytes = from;
    for (size_t i = size; i < from_size; i++) {
        if (bytes[i] != 0) {
            return UV_EINVAL;
        }
    }
    memset(to, 0, size);
    memcpy(to, from, from_size < size ? from_size : size);
    return from_size < sizeof(size_t) ? UV_EINVAL : 0;
}

/* ---- Delivery ---- */

static void deliver_opened(struct dassie__impl *impl, struct log_line *opened)
{
    impl->errmsg = opened->text;
    if (impl->open_cb != NULL) {
        impl->open_cb(impl->q, opened->op.status);
    }
}

static void deliver_log(struct dassie__impl *impl, struct log_line *line)
{
    if (line->level == DASSIE_LOG_ERROR) {
        impl->errmsg = line->text;
    }
    if (impl->options.log_cb != NULL) {
        impl->options.log_cb(impl->q, line->level, line->text.text);
    }
    dassie__free(line);
}

static void deliver_closed(struct dassie__impl *impl)
{
    if (!impl->clock.fake) {
        uv_thread_join(&impl->thread);
    }
    impl->thread_ended = true;
    for (struct dassie__processor *p = impl->processors; p != NULL;
         p = p->loop_next) {
        p->engine_done = true;
    }
}

static void deliver(struct dassie__impl *impl, struct op *op)
{
    switch (op->type) {
        case OP_OPENED:
            deliver_opened(impl, (struct log_line *)op);
            break;
        case OP_LOG:
            deliver_log(impl, (struct log_line *)op);
            break;
        case OP_CLOSED:
            deliver_closed(impl);
            break;
        case OP_ACK:
        case OP_MANY_ACK:
        case OP_DONE:
        case OP_WATCH:
            dassie__enqueue_deliver(impl, op);
            break;
        case OP_LISTEN:
            dassie__admin_deliver(impl, op);
            break;
        case OP_UNSUBSCRIBE:
            dassie__subscribe_deliver(impl, op);
            break;
        case OP_START:
        case OP_CANCEL:
        case OP_STOPPED:
            dassie__processor_deliver(impl, op);
            break;
        case OP_CHANGE:
        case OP_CONFIGURE:
            dassie__operate_deliver(impl, op);
            break;
        default:
            dassie__query_deliver(impl, op);
            break;
    }
}

static void tell_pressure(struct dassie__impl *impl, int pressure)
{
    if (impl->pressure != pressure) {
        impl->pressure = pressure;
        if (impl->options.pressure_cb != NULL && !impl->closed) {
            impl->options.pressure_cb(impl->q, pressure);
        }
    }
}

/* Whoever was refused is told to go on, even if all is over by now. */
static void deliver_pressure(struct dassie__impl *impl)
{
    int store = (atomic_load(&impl->backlog) ? DASSIE_BACKLOG_HIGH : 0) |
                (atomic_load(&impl->stalled) ? DASSIE_STORE_STALLED : 0);
    int inbox = impl->pressure & DASSIE_INBOX_FULL;
    if (atomic_exchange(&impl->refused, false)) {
        inbox = DASSIE_INBOX_FULL;
    }
    tell_pressure(impl, inbox | store);
    if (!atomic_load(&impl->pressed)) {
        tell_pressure(impl, store);
    }
}

/* After all answers, as an acknowledgement may be among them. */
static void deliver_gone(struct dassie__impl *impl)
{
    static const int status[GONES] = {[GONE_NO_MEMORY] = UV_ENOMEM,
                                      [GONE_CLOSED] = UV_ECANCELED,
                                      [GONE_DELETED] = UV_ENOENT,
                                      [GONE_UNKNOWN] = DASSIE_EUNKNOWN};
    struct waiter *gone[GONES] = {NULL};
    uv_mutex_lock(&impl->out_mutex);
    if (impl->outbox.head == NULL) {
        memcpy(gone, impl->gone, sizeof gone);
        memset(impl->gone, 0, sizeof impl->gone);
    }
    uv_mutex_unlock(&impl->out_mutex);
    for (int i = 0; i < GONES; i++) {
        dassie__enqueue_deliver_gone(impl, gone[i], status[i]);
    }
}

static bool has_gone(const struct dassie__impl *impl)
{
    bool has = false;
    for (int i = 0; i < GONES; i++) {
        has |= impl->gone[i] != NULL;
    }
    return has;
}

static void start_runners(struct dassie__impl *impl)
{
    struct dassie__processor *next;
    for (struct dassie__processor *p = impl->processors; p != NULL; p = next) {
        next = p->loop_next;
        if (p->work != NULL && atomic_exchange(&p->wanted, false)) {
            dassie__runner_start(p);
        }
    }
}

void dassie__impl_turn(struct dassie__impl *impl)
{
    struct op *op = NULL;
    know_thread(impl);
    impl->delivering = true;
    atomic_store(&impl->rung, false);
    if (impl->clock.fake) {
        dassie__engine_turn(impl);
    }
    start_runners(impl);
    uv_mutex_lock(&impl->out_mutex);
    ops_append(&impl->notices, &impl->outbox);
    uv_mutex_unlock(&impl->out_mutex);
    for (int n = 0; n < DELIVER_MAX; n++) {
        op = ops_pop(&impl->notices);
        if (op == NULL) {
            break;
        }
        deliver(impl, op);
    }
    bool more = op != NULL;
    if (!more) {
        deliver_gone(impl);
        more = dassie__events_deliver(impl);
    }
    impl->events_left = more;
    deliver_pressure(impl);
    impl->delivering = false;
    if (more) {
        dassie__engine_ring(impl); /* there may be more */
    }
    impl_settle(impl);
}

static void on_async(uv_async_t *async)
{
    dassie__impl_turn(async->data);
}

/* ---- Closing ---- */

static void impl_unmake_locks(struct dassie__impl *impl)
{
    uv_mutex_destroy(&impl->mutex);
    uv_cond_destroy(&impl->cond);
    uv_mutex_destroy(&impl->out_mutex);
    uv_mutex_destroy(&impl->stats_mutex);
    uv_mutex_destroy(&impl->runs.mutex);
    uv_mutex_destroy(&impl->reader.mutex);
    uv_cond_destroy(&impl->reader.cond);
    uv_mutex_destroy(&impl->surveyor.mutex);
    uv_cond_destroy(&impl->surveyor.cond);
}

static void on_closed(uv_handle_t *handle)
{
    struct dassie__impl *impl = handle->data;
    dassie_t *q = impl->q;
    dassie_close_cb cb = impl->close_cb;
    dassie__subscribe_end(impl);
    dassie__core_free(&impl->core);
    if (impl->memory != NULL) {
        dassie__kv_mem_free(impl->memory);
    }
    dassie__job_cache_clear();
    impl_unmake_locks(impl);
    dassie__free(impl->path);
    dassie__free(impl);
    q->impl = NULL;
    if (cb != NULL) {
        cb(q);
    }
}

/* Everything that must be over before the handle can go. */
static void impl_settle(struct dassie__impl *impl)
{
    if (!impl->closed || impl->closing_async || impl->delivering ||
        (impl->opened && !impl->thread_ended) || impl->runners > 0 ||
        impl->notices.head != NULL || impl->events_left || has_gone(impl) ||
        impl->admin != NULL) {
        return;
    }
    while (impl->processors != NULL) {
        struct dassie__processor *p = impl->processors;
        dassie__processor_settle(p);
    }
    impl->closing_async = true;
    uv_close((uv_handle_t *)&impl->async, on_closed);
}

void dassie__admin_ended(struct dassie__impl *impl)
{
    impl_settle(impl);
}

void dassie__runner_ended(struct dassie__processor *p)
{
    struct dassie__impl *impl = p->impl;
    dassie__runner_start(p);
    if (p->stop_asked) {
        dassie__processor_settle(p);
    }
    impl_settle(impl);
}

int dassie_close(dassie_t *q, dassie_close_cb cb)
{
    int rc = dassie__impl_check_place(q);
    if (rc != 0) {
        return rc;
    }
    struct dassie__impl *impl = q->impl;
    if (impl->closed) {
        return UV_EALREADY;
    }
    impl->close_cb = cb;
    for (struct dassie__processor *p = impl->processors; p != NULL;
         p = p->loop_next) {
        dassie__runner_end(p);
    }
    dassie__admin_close(impl);
    uv_ref((uv_handle_t *)&impl->async);
    if (impl->opened) {
        impl->close_op.type = OP_CLOSE;
        dassie__engine_post_close(impl, &impl->close_op);
    } else {
        impl->closed = true;
        impl_settle(impl);
    }
    return 0;
}

/* ---- Opening ---- */

static int impl_make_locks(struct dassie__impl *impl)
{
    uv_mutex_t *mutexes[] = {&impl->mutex,        &impl->out_mutex,
                             &impl->stats_mutex,  &impl->runs.mutex,
                             &impl->reader.mutex, &impl->surveyor.mutex};
    uv_cond_t *conds[] = {&impl->cond, &impl->reader.cond,
                          &impl->surveyor.cond};
    const size_t mutexes_n = sizeof mutexes / sizeof mutexes[0];
    const size_t conds_n = sizeof conds / sizeof conds[0];
    size_t c = 0;
    int rc = 0;
    for (size_t m = 0; m < mutexes_n; m++) {
        dassie__mutex_init(mutexes[m]);
    }
    while (rc == 0 && c < conds_n) {
        rc = uv_cond_init(conds[c]);
        c += rc == 0;
    }
    if (rc != 0) {
        for (size_t m = 0; m < mutexes_n; m++) {
            uv_mutex_destroy(mutexes[m]);
        }
        while (c > 0) {
            uv_cond_destroy(conds[--c]);
        }
    }
    return rc;
}

int dassie_init(uv_loop_t *loop, dassie_t *q)
{
    if (loop == NULL || q == NULL) {
        return UV_EINVAL;
    }
    struct dassie__impl *impl = dassie__calloc(1, sizeof *impl);
    if (impl == NULL) {
        return UV_ENOMEM;
    }
    dassie__dir_forks_watch();
    impl->q = q;
    impl->forks = dassie__dir_forks();
    int rc = impl_make_locks(impl);
    if (rc == 0) {
        rc = uv_async_init(loop, &impl->async, on_async);
        if (rc != 0) {
            impl_unmake_locks(impl);
        }
    }
    if (rc != 0) {
        dassie__free(impl);
        return rc;
    }
    impl->async.data = impl;
    uv_unref((uv_handle_t *)&impl->async);
    q->loop = loop;
    q->impl = impl;
    return 0;
}

static void options_default(dassie_options_t *o)
{
    o->grace_ms = o->grace_ms != 0 ? o->grace_ms : GRACE_MS;
    o->suspect_ms = o->suspect_ms != 0 ? o->suspect_ms : SUSPECT_MS;
    o->max_crashes = o->max_crashes != 0 ? o->max_crashes : CRASHES_MAX;
    o->payload_bytes_max = o->payload_bytes_max != 0 ? o->payload_bytes_max
                                                     : DASSIE_PAYLOAD_BYTES_MAX;
    o->inbox_jobs_max =
        o->inbox_jobs_max != 0 ? o->inbox_jobs_max : DASSIE_INBOX_JOBS_MAX;
    o->inbox_bytes_max =
        o->inbox_bytes_max != 0 ? o->inbox_bytes_max : DASSIE_INBOX_BYTES_MAX;
    o->memory_bytes =
        o->memory_bytes != 0 ? o->memory_bytes : DASSIE_MEMORY_BYTES;
    if (o->pending_jobs_low == 0) {
        o->pending_jobs_low = o->pending_jobs_high / 2;
    }
    if (o->pending_bytes_low == 0) {
        o->pending_bytes_low = o->pending_bytes_high / 2;
    }
    o->free_bytes_min =
        o->free_bytes_min != 0 ? o->free_bytes_min : FREE_BYTES_MIN;
}

static bool marks_check(uint64_t high, uint64_t low)
{
    return high == 0 ? low == 0 : low < high;
}

static int options_check(const dassie_options_t *o)
{
    const unsigned flags =
        DASSIE_NO_CREATE | DASSIE_SALVAGE | DASSIE_READ_ONLY | DASSIE_BESIDE;
    bool good = ((o->flags & ~flags) == 0 || o->flags == DASSIE_TESTING) &&
                ((o->flags & DASSIE_READ_ONLY) == 0 ||
                 (o->flags & DASSIE_SALVAGE) == 0) &&
                ((o->flags & DASSIE_BESIDE) == 0 ||
                 (o->flags & DASSIE_READ_ONLY) != 0) &&
                (o->durability == DASSIE_FULL || o->durability == DASSIE_OFF) &&
                o->commit_delay_ms <= COMMIT_DELAY_MS_MAX &&
                o->max_crashes >= -1 &&
                o->payload_bytes_max <= DASSIE_PAYLOAD_BYTES_CEILING &&
                o->memory_bytes >= DASSIE_MEMORY_BYTES_MIN &&
                marks_check(o->pending_jobs_high, o->pending_jobs_low) &&
                marks_check(o->pending_bytes_high, o->pending_bytes_low);
    return good ? 0 : UV_EINVAL;
}

int dassie__path_copy(const char *path, char **out)
{
    char absolute[PATH_MAX];
    size_t len = sizeof absolute;
    int rc = path[0] == '/' ? 0 : uv_cwd(absolute, &len);
    len = path[0] == '/' ? 0 : len;
    if (rc != 0) {
        return rc == UV_ENOBUFS ? UV_ENAMETOOLONG : rc;
    }
    int n = snprintf(absolute + len, sizeof absolute - len, "%s%s",
                     len > 0 ? "/" : "", path);
    if (n >= (int)(sizeof absolute - len)) {
        return UV_ENAMETOOLONG;
    }
    *out = dassie__memdup(absolute, strlen(absolute));
    return *out == NULL ? UV_ENOMEM : 0;
}

static int place_on_disk(struct dassie__impl *impl, const char *path)
{
    if (path == NULL || path[0] == '\0') {
        return UV_EINVAL;
    }
    return dassie__dir_is_orphan() ? UV_EPERM
                                   : dassie__path_copy(path, &impl->path);
}

static int place_in_memory(struct dassie__impl *impl)
{
    static const char name[] = "memory"; /* in messages */
    impl->path = dassie__memdup(name, sizeof name);
    if (impl->path == NULL) {
        return UV_ENOMEM;
    }
    clock_fake(&impl->clock);
    return 0;
}

int dassie_open(dassie_t *q, const char *path, const dassie_options_t *options,
                dassie_open_cb cb)
{
    static const dassie_options_t init = DASSIE_OPTIONS_INIT;
    int rc = dassie__impl_check_place(q);
    if (rc != 0) {
        return rc;
    }
    struct dassie__impl *impl = q->impl;
    options = options != NULL ? options : &init;
    if (impl->closed || impl->opened) {
        return impl->closed ? UV_ECANCELED : UV_EALREADY;
    }
    rc = dassie__options_copy(&impl->options, sizeof impl->options, options,
                              options->size);
    if (rc == 0) {
        options_default(&impl->options);
        rc = options_check(&impl->options);
    }
    if (rc == 0) {
        rc = impl->options.flags == DASSIE_TESTING ? place_in_memory(impl)
                                                   : place_on_disk(impl, path);
    }
    if (rc != 0) {
        return rc;
    }
    impl->open_cb = cb;
    rc = dassie__engine_open(impl);
    if (rc != 0) {
        dassie__free(impl->path);
        impl->path = NULL;
        return rc;
    }
    impl->opened = true;
    if (!impl->unreferenced) {
        uv_ref((uv_handle_t *)&impl->async);
    }
    return 0;
}

void dassie_ref(dassie_t *q)
{
    if (q != NULL && q->impl != NULL) {
        q->impl->unreferenced = false;
        if (q->impl->opened) {
            uv_ref((uv_handle_t *)&q->impl->async);
        }
    }
}

void dassie_unref(dassie_t *q)
{
    if (q != NULL && q->impl != NULL && !q->impl->closed) {
        q->impl->unreferenced = true;
        uv_unref((uv_handle_t *)&q->impl->async);
    }
}

const char *dassie_errmsg(const dassie_t *q)
{
    return q != NULL && q->impl != NULL ? q->impl->errmsg.text : "";
}
