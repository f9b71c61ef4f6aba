/* pool.h: the share of libuv's thread pool that runners may take.
 *
 * All handles of the process together leave one thread to the host (with a
 * pool of one they use that one). A processor that finds no thread free waits
 * for one; the next that is given back is kept for the first that waits, which
 * is rung, and takes it or lets it go on.
 *
 * Threads: any loop; one mutex, held for a few instructions. */
#ifndef DASSIE_POOL_H_
#define DASSIE_POOL_H_

#include <stdbool.h>

#include <uv.h>

/* A processor that takes threads. */
struct pool_user {
    uv_async_t *async; /* rung when a thread is kept for it */
    struct pool_user *next;
    bool waiting;
    bool granted; /* a thread is kept for it */
};

/* How many threads runners may take at a time. */
unsigned dassie__pool_threads(void);

/* True: a thread is taken. False: the user waits for one. */
bool dassie__pool_take(struct pool_user *user);
void dassie__pool_give(void);

/* The user needs no thread now: it waits no longer, and a thread that is kept
 * for it goes on. Before its async handle is closed. */
void dassie__pool_forget(struct pool_user *user);

#endif /* DASSIE_POOL_H_ */
