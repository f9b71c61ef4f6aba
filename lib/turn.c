#include "config.h"

#include "turn.h"

#include "alloc.h"
#include "queue.h"

/* The virtual time begins anew before it could run over. */
#define NOW_MAX (UINT64_MAX / 2)

int dassie__turns_init(struct turns *turns, unsigned n, const unsigned *weights)
{
    turns->servers = dassie__calloc(n, sizeof turns->servers[0]);
    turns->heap.slots = dassie__calloc(n, sizeof turns->heap.slots[0]);
    if (turns->servers == NULL || turns->heap.slots == NULL) {
        return UV_ENOMEM;
    }
    for (unsigned i = 0; i < n; i++) {
        struct server *s = &turns->servers[i];
        s->turns = turns;
        s->pass = weights == NULL ? i : 0;
        s->stride = weights == NULL ? 0 : STRIDE / weights[i];
    }
    turns->n = n;
    return 0;
}

void dassie__turns_free(struct turns *turns)
{
    dassie__free(turns->servers);
    dassie__free(turns->heap.slots);
}

/* When it is the turn of a queue that comes back. */
static uint64_t pass_from_now(const struct server *s)
{
    return s->pass > s->turns->now ? s->pass : s->turns->now;
}

void dassie__turn_ready(struct server *s, bool ready)
{
    if (ready) {
        s->pass = pass_from_now(s);
        dassie__heap_set(&s->turns->heap, &s->node, s->pass);
    } else {
        dassie__heap_remove(&s->turns->heap, &s->node);
    }
}

struct server *dassie__turns_first(const struct turns *turns)
{
    struct heap_node *node = heap_first(&turns->heap);
    return node != NULL ? container_of(node, struct server, node) : NULL;
}

bool dassie__turn_would_be(const struct server *s)
{
    return pass_from_now(s) <= heap_first_key(&s->turns->heap);
}

/* All go back by the same, so who comes next is the same. */
static void begin_anew(struct turns *turns)
{
    for (unsigned i = 0; i < turns->n; i++) {
        struct server *s = &turns->servers[i];
        s->pass -= s->pass < turns->now ? s->pass : turns->now;
        if (s->node.place > 0) {
            turns->heap.slots[s->node.place - 1].key = s->pass;
        }
    }
    turns->now = 0;
}

void dassie__turn_take(struct server *s)
{
    struct turns *turns = s->turns;
    if (s->stride == 0) {
        return;
    }
    turns->now = pass_from_now(s);
    s->pass = turns->now + s->stride;
    if (s->node.place > 0) {
        dassie__heap_set(&turns->heap, &s->node, s->pass);
    }
    if (turns->now > NOW_MAX) {
        begin_anew(turns);
    }
}

void dassie__turn_set_aside(struct server *s)
{
    dassie__heap_remove(&s->turns->heap, &s->node);
    s->aside_next = s->turns->aside;
    s->turns->aside = s;
}

void dassie__turns_gather(struct turns *turns)
{
    while (turns->aside != NULL) {
        struct server *s = turns->aside;
        turns->aside = s->aside_next;
        dassie__turn_ready(s, s->queue->ready);
    }
}
