#include "config.h"

#include "pool.h"

#include "lock.h"

#include <stdlib.h>

/* What libuv does with UV_THREADPOOL_SIZE. */
#define POOL_THREADS_DEFAULT 4
#define POOL_THREADS_MAX 1024

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t mutex;
static unsigned threads;
static unsigned taken;
static struct pool_user *waiting;

static void pool_init(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    long size = text != NULL ? strtol(text, NULL, 10) : POOL_THREADS_DEFAULT;
    if (size < 1) {
        size = 1;
    }
    if (size > POOL_THREADS_MAX) {
        size = POOL_THREADS_MAX;
    }
    threads = size > 1 ? (unsigned)size - 1 : 1;
    dassie__mutex_init(&mutex);
}

unsigned dassie__pool_threads(void)
{
    uv_once(&once, pool_init);
    return threads;
}

bool dassie__pool_take(struct pool_user *user)
{
    uv_once(&once, pool_init);
    uv_mutex_lock(&mutex);
    bool got = user->granted || taken < threads;
    if (user->granted) {
        user->granted = false;
    } else if (got) {
        taken++;
    } else if (!user->waiting) {
        struct pool_user **at = &waiting;
        while (*at != NULL) {
            at = &(*at)->next;
        }
        user->waiting = true;
        user->next = NULL;
        *at = user;
    }
    uv_mutex_unlock(&mutex);
    return got;
}

/* Keeps the thread for the first that waits. Holds the mutex. */
static void give(void)
{
    struct pool_user *user = waiting;
    if (user == NULL) {
        taken--;
        return;
    }
    waiting = user->next;
    user->waiting = false;
    user->granted = true;
    uv_async_send(user->async);
}

void dassie__pool_give(void)
{
    uv_mutex_lock(&mutex);
    give();
    uv_mutex_unlock(&mutex);
}

void dassie__pool_forget(struct pool_user *user)
{
    uv_once(&once, pool_init);
    uv_mutex_lock(&mutex);
    for (struct pool_user **at = &waiting; *at != NULL; at = &(*at)->next) {
        if (*at == user) {
            *at = user->next;
            break;
        }
    }
    user->waiting = false;
    if (user->granted) {
        user->granted = false;
        give();
    }
    uv_mutex_unlock(&mutex);
}
