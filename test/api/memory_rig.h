/* memory_rig.h: an allocator that fails when it is told to, and stores that
 * were left in every way.
 *
 * The happy path is: memory_arm(n, for_ever), what is tested, memory_disarm(),
 * which says whether anything failed. Failures hit whatever thread allocates.
 * Every block is counted, so that none is left when all is closed.
 *
 * A store that its owner left is made by a process of its own (this program
 * with arguments, see memory_spawn()), so that RocksDB is never opened before
 * a fork. Threads: arm and disarm on the loop's, the allocator on any. */
#ifndef DASSIE_TEST_API_MEMORY_RIG_H_
#define DASSIE_TEST_API_MEMORY_RIG_H_

#include "../queue_rig.h"

#include "env.h"
#include "job.h"

#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static atomic_bool memory_armed;
static bool memory_for_ever;
static atomic_long memory_left;   /* allocations that succeed */
static atomic_long memory_failed; /* that did not */
static atomic_long memory_blocks; /* that were not given back */

static inline bool memory_fails(void)
{
    if (!atomic_load(&memory_armed)) {
        return false;
    }
    long left = atomic_fetch_sub(&memory_left, 1);
    if (left == 0 || (left < 0 && memory_for_ever)) {
        atomic_fetch_add(&memory_failed, 1);
        return true;
    }
    return false;
}

static inline void *memory_count(void *p)
{
    memory_blocks += p != NULL;
    return p;
}

static inline void *memory_malloc(size_t size)
{
    return memory_fails() ? NULL : memory_count(malloc(size));
}

static inline void *memory_calloc(size_t n, size_t size)
{
    return memory_fails() ? NULL : memory_count(calloc(n, size));
}

static inline void *memory_realloc(void *p, size_t size)
{
    if (memory_fails()) {
        return NULL;
    }
    return p == NULL ? memory_count(malloc(size)) : realloc(p, size);
}

static inline void memory_free(void *p)
{
    memory_blocks--;
    free(p);
}

/* After n more allocations one fails, or all do. Jobs come from the allocator,
 * too, not from the blocks that were kept. */
static inline void memory_arm(long n, bool for_ever)
{
    dassie__job_cache_clear();
    memory_for_ever = for_ever;
    atomic_store(&memory_left, n);
    atomic_store(&memory_failed, 0);
    atomic_store(&memory_armed, true);
}

static inline long memory_disarm(void)
{
    atomic_store(&memory_armed, false);
    return atomic_load(&memory_failed);
}

static inline void memory_hook(void)
{
    ck_assert_int_eq(dassie_replace_allocator(memory_malloc, memory_realloc,
                                              memory_calloc, memory_free),
                     0);
}

/* ---- A store that was left ---- */

static int left_started;

static inline void left_start(dassie_job_t *job)
{
    (void)job;
    left_started++;
}

static inline void left_finish(dassie_job_t *job)
{
    dassie_finish(&rig.q, dassie_job_id(job), 1, 0, "well", 4);
}

static inline void left_process(dassie_processor_t *p, const char *queue,
                                dassie_start_cb start)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.start = start;
    options.concurrency = 2;
    ck_assert_int_eq(dassie_process(&rig.q, p, &options), 0);
}

/* What a store that was left holds: two jobs were executing, one to be run at
 * most once among them; one waited; one had ended. */
#define LEFT_PENDING 2
#define LEFT_COMPLETE 1
#define LEFT_FAILED 1

static inline void memory_fill(void)
{
    static dassie_processor_t runs;
    static dassie_processor_t ends;
    dassie_spec_t once = rig_spec("runs", "once");
    int status;
    left_process(&runs, "runs", left_start);
    left_process(&ends, "ends", left_finish);
    rig_enqueue("ends", "x");
    rig_drain();
    once.flags = DASSIE_AT_MOST_ONCE;
    rig_try_enqueue(&once, &status);
    rig_enqueue("runs", "x");
    rig_wait(&left_started, 2);
    rig_enqueue("waits", "x");
}

static inline void memory_spawn(const char *path, const char *how)
{
    static char exe[] = "/proc/self/exe";
    char *argv[] = {exe, (char *)(uintptr_t)path, (char *)(uintptr_t)how, NULL};
    pid_t pid;
    int status;
    ck_assert_int_eq(posix_spawn(&pid, exe, NULL, NULL, argv, environ), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

#endif /* DASSIE_TEST_API_MEMORY_RIG_H_ */
