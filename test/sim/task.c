#include "task.h"

#include "env.h"
#include "exit.h"
#include "kept.h"
#include "sim.h"

#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if !defined(__has_feature) /* gcc */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SWITCH_BEGIN(fake, bottom, size) \
    __sanitizer_start_switch_fiber(fake, bottom, size)
#define SWITCH_END(fake) __sanitizer_finish_switch_fiber(fake, NULL, NULL)
#define STACK_FRESH(p, n) __asan_unpoison_memory_region(p, n)
#else
#define SWITCH_BEGIN(fake, bottom, size) \
    ((void)(fake), (void)(bottom), (void)(size))
#define SWITCH_END(fake) (void)(fake)
#define STACK_FRESH(p, n) (void)(p)
#endif

#define TASKS_MAX 16
#define STACK_BYTES ((size_t)256 << 10)

enum state { TASK_FREE, TASK_READY, TASK_WAITS };

struct task {
    ucontext_t context;
    char *stack;
    void *fake_stack;
    const void *kept; /* see kept.h */
    enum state state;
    const char *name;
    void (*entry)(void *arg);
    void *arg;
    const void *on;    /* the condition it waits on, or NULL */
    uint64_t deadline; /* UINT64_MAX: none */
    bool timed_out;
};

uint64_t task_now;
int64_t task_wall_ms;
uint64_t task_cycle;
uint64_t task_cycle_wall;
unsigned task_preempt;
unsigned task_spurious;

static struct task tasks[TASKS_MAX];
static struct task *current;
static ucontext_t scheduler;
static void *scheduler_fake;
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;

/* ---- Tasks ---- */

static void task_main(void)
{
    SWITCH_END(NULL);
    current->entry(current->arg);
    current->state = TASK_FREE;
    SWITCH_BEGIN(NULL, scheduler_stack, scheduler_stack_bytes);
    setcontext(&scheduler);
}

void task_start(const char *name, void (*entry)(void *arg), void *arg)
{
    struct task *task = tasks;
    while (task < tasks + TASKS_MAX && task->state != TASK_FREE) {
        task++;
    }
    SIM_CHECK(task < tasks + TASKS_MAX, "too many threads");
    if (task->stack == NULL) {
        task->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        SIM_CHECK(task->stack != MAP_FAILED, "no memory for a stack");
    }
    STACK_FRESH(task->stack, STACK_BYTES);
    getcontext(&task->context);
    task->context.uc_stack.ss_sp = task->stack;
    task->context.uc_stack.ss_size = STACK_BYTES;
    task->context.uc_link = NULL;
    makecontext(&task->context, task_main, 0);
    task->state = TASK_READY;
    task->name = name;
    task->entry = entry;
    task->arg = arg;
    task->fake_stack = NULL;
    task->kept = NULL;
}

/* Back to the scheduler, until it is this task's turn again. */
static void task_switch(void)
{
    struct task *self = current;
    SWITCH_BEGIN(&self->fake_stack, scheduler_stack, scheduler_stack_bytes);
    swapcontext(&self->context, &scheduler);
    SWITCH_END(self->fake_stack);
}

static bool task_wait(const void *on, uint64_t ns)
{
    struct task *self = current;
    SIM_CHECK(self != NULL, "the scheduler waits");
    self->state = TASK_WAITS;
    self->on = on;
    self->deadline = ns < UINT64_MAX - task_now ? task_now + ns : UINT64_MAX;
    self->timed_out = false;
    task_switch();
    return !self->timed_out;
}

void task_sleep(uint64_t ns)
{
    task_wait(NULL, ns);
}

void task_yield(void)
{
    task_switch();
}

const char *task_name(void)
{
    return current != NULL ? current->name : "nobody";
}

bool tasks_engine_idle(const uv_cond_t *cond, uint64_t *until)
{
    for (int i = 0; i < TASKS_MAX; i++) {
        if (tasks[i].state == TASK_WAITS && tasks[i].on == cond) {
            *until = tasks[i].deadline;
            return true;
        }
    }
    return false;
}

static void task_wake(struct task *task, bool timed_out)
{
    task->state = TASK_READY;
    task->timed_out = timed_out;
}

/* Time goes on to where a task can, if none can now. */
static bool tasks_wake(void)
{
    uint64_t next = UINT64_MAX;
    bool ready = false;
    for (int i = 0; i < TASKS_MAX; i++) {
        ready |= tasks[i].state == TASK_READY;
        if (tasks[i].state == TASK_WAITS && tasks[i].deadline < next) {
            next = tasks[i].deadline;
        }
    }
    if (!ready && next == UINT64_MAX) {
        return false;
    }
    if (!ready && next > task_now) {
        task_now = next;
    }
    for (int i = 0; i < TASKS_MAX; i++) {
        struct task *task = &tasks[i];
        if (task->state == TASK_WAITS &&
            (task->deadline <= task_now ||
             (task->on != NULL && sim_chance(task_spurious)))) {
            task_wake(task, task->deadline <= task_now);
        }
    }
    return true;
}

bool tasks_step(void)
{
    struct task *ready[TASKS_MAX];
    unsigned n = 0;
    if (!tasks_wake()) {
        return false;
    }
    for (int i = 0; i < TASKS_MAX; i++) {
        if (tasks[i].state == TASK_READY) {
            ready[n++] = &tasks[i];
        }
    }
    current = ready[sim_below(n)];
    kept_set_by_thread(current->kept);
    SWITCH_BEGIN(&scheduler_fake, current->stack, STACK_BYTES);
    swapcontext(&scheduler, &current->context);
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
    __sanitizer_finish_switch_fiber(scheduler_fake, &scheduler_stack,
                                    &scheduler_stack_bytes);
#endif
    current->kept = kept_by_thread();
    kept_set_by_thread(NULL);
    current = NULL;
    task_now += sim_below(2000);
    return true;
}

/* ---- The loop ---- */

static struct {
    uv_async_t *async;
    uv_async_cb cb;
    bool rung;
    uv_close_cb close_cb;
    struct {
        uv_work_t *work;
        uv_work_cb cb;
        uv_after_work_cb after;
        bool over;
    } works[TASKS_MAX];
    int bell; /* what it waits on */
} loop;

int sim_async_init(uv_loop_t *unused, uv_async_t *async, uv_async_cb cb)
{
    (void)unused;
    SIM_CHECK(loop.async == NULL, "two handles");
    memset(&loop, 0, sizeof loop);
    loop.async = async;
    loop.cb = cb;
    return 0;
}

static void loop_ring(void)
{
    for (int i = 0; i < TASKS_MAX; i++) {
        if (tasks[i].state == TASK_WAITS && tasks[i].on == &loop.bell) {
            task_wake(&tasks[i], false);
        }
    }
}

int sim_async_send(uv_async_t *async)
{
    SIM_CHECK(async == loop.async && loop.close_cb == NULL,
              "a handle is rung that is closed");
    loop.rung = true;
    loop_ring();
    return 0;
}

void sim_close(uv_handle_t *handle, uv_close_cb cb)
{
    SIM_CHECK((uv_async_t *)handle == loop.async && loop.close_cb == NULL,
              "a handle is closed twice");
    loop.close_cb = cb;
    loop_ring();
}

void sim_ref(uv_handle_t *handle)
{
    (void)handle;
}

static void work_main(void *arg)
{
    int i = (int)(intptr_t)arg;
    loop.works[i].cb(loop.works[i].work);
    loop.works[i].over = true;
    loop_ring();
}

int sim_queue_work(uv_loop_t *unused, uv_work_t *work, uv_work_cb work_cb,
                   uv_after_work_cb after_cb)
{
    int i = 0;
    (void)unused;
    while (loop.works[i].work != NULL) {
        i++;
    }
    loop.works[i].work = work;
    loop.works[i].cb = work_cb;
    loop.works[i].after = after_cb;
    loop.works[i].over = false;
    task_start("runner", work_main, (void *)(intptr_t)i);
    return 0;
}

bool loop_turn(void)
{
    if (loop.rung && loop.close_cb == NULL) {
        loop.rung = false;
        loop.cb(loop.async);
        return true;
    }
    for (int i = 0; i < TASKS_MAX; i++) {
        if (loop.works[i].work != NULL && loop.works[i].over) {
            uv_work_t *work = loop.works[i].work;
            loop.works[i].work = NULL;
            loop.works[i].after(work, 0);
            return true;
        }
    }
    if (loop.close_cb != NULL) {
        uv_close_cb cb = loop.close_cb;
        uv_async_t *async = loop.async;
        memset(&loop, 0, sizeof loop);
        cb((uv_handle_t *)async);
        return true;
    }
    return false;
}

void loop_wait(uint64_t ns)
{
    task_wait(&loop.bell, ns);
}

bool loop_alive(void)
{
    return loop.async != NULL;
}

void tasks_kill(void)
{
    for (int i = 0; i < TASKS_MAX; i++) {
        tasks[i].state = TASK_FREE;
    }
    memset(&loop, 0, sizeof loop);
}

/* ---- What libuv does for threads ---- */

void sim_mutex_init(uv_mutex_t *mutex)
{
    memset(mutex, 0, sizeof *mutex);
}

void sim_mutex_destroy(uv_mutex_t *mutex)
{
    SIM_CHECK(*(char *)mutex == 0, "a mutex is destroyed that is held");
}

void sim_mutex_lock(uv_mutex_t *mutex)
{
    if (current != NULL && sim_chance(task_preempt)) {
        task_switch();
    }
    SIM_CHECK(*(char *)mutex == 0, "a task waits with a mutex");
    *(char *)mutex = 1;
}

void sim_mutex_unlock(uv_mutex_t *mutex)
{
    SIM_CHECK(*(char *)mutex == 1, "a mutex is let go that is not held");
    *(char *)mutex = 0;
}

int sim_cond_init(uv_cond_t *cond)
{
    memset(cond, 0, sizeof *cond);
    return 0;
}

void sim_cond_destroy(uv_cond_t *cond)
{
    (void)cond;
}

void sim_cond_broadcast(uv_cond_t *cond)
{
    for (int i = 0; i < TASKS_MAX; i++) {
        if (tasks[i].state == TASK_WAITS && tasks[i].on == cond) {
            task_wake(&tasks[i], false);
        }
    }
}

void sim_cond_signal(uv_cond_t *cond)
{
    struct task *waits[TASKS_MAX];
    unsigned n = 0;
    for (int i = 0; i < TASKS_MAX; i++) {
        if (tasks[i].state == TASK_WAITS && tasks[i].on == cond) {
            waits[n++] = &tasks[i];
        }
    }
    if (n > 0) {
        task_wake(waits[sim_below(n)], false);
    }
}

int sim_cond_timedwait(uv_cond_t *cond, uv_mutex_t *mutex, uint64_t ns)
{
    sim_mutex_unlock(mutex);
    bool woken = task_wait(cond, ns);
    *(char *)mutex = 1;
    return woken ? 0 : UV_ETIMEDOUT;
}

void sim_cond_wait(uv_cond_t *cond, uv_mutex_t *mutex)
{
    sim_cond_timedwait(cond, mutex, UINT64_MAX);
}

int sim_thread_create(uv_thread_t *thread, uv_thread_cb entry, void *arg)
{
    memset(thread, 0, sizeof *thread);
    task_start("engine", entry, arg);
    return 0;
}

/* It has said that it ends; there may be a few steps left. */
int sim_thread_join(uv_thread_t *thread)
{
    (void)thread;
    for (int i = 0; i < TASKS_MAX; i++) {
        while (tasks[i].state != TASK_FREE &&
               strcmp(tasks[i].name, "engine") == 0) {
            task_sleep(1);
        }
    }
    return 0;
}

void sim_sleep(unsigned ms)
{
    task_sleep(ms * MS);
}

/* A process here ends without an exit. */
void dassie__exit_watch(void) {}
void dassie__exit_hold(void) {}
void dassie__exit_release(void) {}

bool tasks_possible(void)
{
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
    return false;
#else
    return true;
#endif
}

/* ---- Clocks ---- */

static uint64_t mono_ns(void)
{
    return task_now;
}

static uint64_t wall_ms(void)
{
    uint64_t ms = (uint64_t)((int64_t)(task_now / MS) + task_wall_ms);
    if (current != NULL && strcmp(current->name, "engine") == 0) {
        task_cycle = task_now;
        task_cycle_wall = ms;
    }
    return ms;
}

void tasks_begin(void)
{
    dassie__env.mono_ns = mono_ns;
    dassie__env.wall_ms = wall_ms;
    dassie__env.random = sim_random;
    task_now = 1000 * MS;
    task_wall_ms = INT64_C(1700000000000);
    task_cycle = 0;
}
