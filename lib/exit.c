#include "config.h"

#include "exit.h"

#include <uv.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* What C++ compilers call for an object of a thread: glibc's, or nobody's. */
extern int __cxa_thread_atexit_impl(void (*end)(void *), void *object,
                                    void *library) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

static _Atomic unsigned holders;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fork_child(void)
{
    atomic_store(&holders, 0);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, fork_child);
}

/* Nobody is there to wake a process that ends: it looks every millisecond. */
static void wait_for_holders(void *nothing)
{
    (void)nothing;
    for (int ms = 0; atomic_load(&holders) > 0 && ms < EXIT_WAIT_MS; ms++) {
        uv_sleep(1);
    }
}

void dassie__exit_watch(void)
{
    static _Thread_local bool watched;
    pthread_once(&once, watch_forks);
    if (!watched && __cxa_thread_atexit_impl != NULL) {
        watched = __cxa_thread_atexit_impl(wait_for_holders, NULL,
                                           &__dso_handle) == 0;
    }
}

void dassie__exit_hold(void)
{
    atomic_fetch_add(&holders, 1);
}

void dassie__exit_release(void)
{
    atomic_fetch_sub(&holders, 1);
}
