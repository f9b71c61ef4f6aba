#include "config.h"

#define HASH_NONFATAL_OOM 1
#include "waiter.h"

#include "alloc.h"
#include "dassie.h"

#undef uthash_malloc
#undef uthash_free
#define uthash_malloc(size) dassie__malloc(size)
#define uthash_free(p, size) dassie__free(p)
#undef uthash_nonfatal_oom
#define uthash_nonfatal_oom(element) (failed = true)

int dassie__waiters_add(struct waiters *ws, struct waiter *w, uint64_t id)
{
    struct waiter *first;
    bool failed = false;
    w->id = id;
    w->next = NULL;
    HASH_FIND(hh, ws->table, &id, sizeof id, first);
    if (first != NULL) {
        w->next = first->next;
        first->next = w;
        return 0;
    }
    HASH_ADD(hh, ws->table, id, sizeof w->id, w);
    return failed ? UV_ENOMEM : 0;
}

struct waiter *dassie__waiters_take(struct waiters *ws, uint64_t id)
{
    struct waiter *first;
    if (ws->table == NULL) {
        return NULL;
    }
    HASH_FIND(hh, ws->table, &id, sizeof id, first);
    if (first != NULL) {
        HASH_DELETE(hh, ws->table, first);
    }
    return first;
}

void dassie__waiters_drop(struct waiters *ws, uint64_t from)
{
    struct waiter *next;
    for (struct waiter *w = ws->table; w != NULL; w = next) {
        next = w->hh.next;
        if (w->id >= from) {
            HASH_DELETE(hh, ws->table, w);
        }
    }
}

struct waiter *dassie__waiters_take_any(struct waiters *ws)
{
    struct waiter *first = ws->table;
    if (first != NULL) {
        HASH_DELETE(hh, ws->table, first);
    }
    return first;
}
