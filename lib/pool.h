/* pool.h: the share of libuv's thread pool that runners may take.
 *
 * All handles of the process together leave one thread to the host (with a
 * pool of one they use that one). A handle that finds no thread free is rung
 * when one is given back, first come first served.
 *
 * Threads: any loop; one mutex, held for a few instructions. */
#ifndef DASSIE_POOL_H_
#define DASSIE_POOL_H_

#include <stdbool.h>

#include <uv.h>

/* A handle that takes threads. */
struct pool_user {
    uv_async_t *async; /* rung when a thread is free again */
    struct pool_user *next;
    bool waiting;
};

/* How many threads runners may take at a time. */
unsigned dassie__pool_threads(void);

/* True: a thread is taken. False: the user waits for one. */
bool dassie__pool_take(struct pool_user *user);
void dassie__pool_give(void);

/* The user waits no longer: before its async handle is closed. */
void dassie__pool_forget(struct pool_user *user);

#endif /* DASSIE_POOL_H_ */
