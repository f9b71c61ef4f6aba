/* heap.h: what is the first of many, by a number.
 *
 * A node is part of what stands in the heap; its key is kept beside it, so that
 * a comparison looks at the heap's own memory only. Nodes of the same key come
 * in any order.
 *
 * Possible failure modes are: none. The owner makes the room, once.
 * Threads: the owner's. */
#ifndef DASSIE_HEAP_H_
#define DASSIE_HEAP_H_

#include <stddef.h>
#include <stdint.h>

/* What holds a member. */
#define container_of(p, type, member) \
    ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* Zeroed, it stands in no heap. */
struct heap_node {
    uint32_t place; /* from 1 on; 0: it is in none */
};

struct heap_slot {
    uint64_t key;
    struct heap_node *node;
};

struct heap {
    struct heap_slot *slots; /* room for all, the owner's */
    uint32_t n;
};

/* Adds the node, or gives it another key if it is there. */
void dassie__heap_set(struct heap *heap, struct heap_node *node, uint64_t key);

/* Takes it out, if it is there. */
void dassie__heap_remove(struct heap *heap, struct heap_node *node);

/* That of the lowest key: NULL if there is none, */
static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->n > 0 ? heap->slots[0].node : NULL;
}

/* and the key, UINT64_MAX if there is none. */
static inline uint64_t heap_first_key(const struct heap *heap)
{
    return heap->n > 0 ? heap->slots[0].key : UINT64_MAX;
}

#endif /* DASSIE_HEAP_H_ */
