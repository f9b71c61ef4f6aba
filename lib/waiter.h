/* waiter.h: who waits for the end of a job that is not in memory.
 *
 * The nodes stand in the callers' requests, so that their number is bounded by
 * the callers' memory. Threads: the engine. */
#ifndef DASSIE_WAITER_H_
#define DASSIE_WAITER_H_

#include <stdbool.h>

#include <uthash.h>

#include "job.h"

struct waiter {
    UT_hash_handle hh;
    uint64_t id;
    struct waiter *next; /* another one for the same job */
};

/* What stands in the reserved part of a request. Order matters: the operation
 * is posted back while the waiter may be in the table. */
struct enqueue_priv {
    struct op op;
    struct waiter waiter;
};

struct watch_priv {
    struct op op;
    struct waiter waiter;
};

struct waiters {
    struct waiter *table;
};

/* 0 or UV_ENOMEM. */
int dassie__waiters_add(struct waiters *ws, struct waiter *w, uint64_t id);

/* Takes all that wait for id, as a list through next. */
struct waiter *dassie__waiters_take(struct waiters *ws, uint64_t id);

/* Forgets all that wait for ids at or after from. */
void dassie__waiters_drop(struct waiters *ws, uint64_t from);

/* Takes any that is left: a list for one job, or NULL. */
struct waiter *dassie__waiters_take_any(struct waiters *ws);

#endif /* DASSIE_WAITER_H_ */
