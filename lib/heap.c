#include "config.h"

#include "heap.h"

static void put(struct heap *heap, uint32_t place, struct heap_slot slot)
{
    heap->slots[place] = slot;
    slot.node->place = place + 1;
}

/* Towards the first one as far as it belongs. */
static void move_up(struct heap *heap, uint32_t place, struct heap_slot slot)
{
    while (place > 0 && heap->slots[(place - 1) / 2].key > slot.key) {
        put(heap, place, heap->slots[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(heap, place, slot);
}

static void move_down(struct heap *heap, uint32_t place, struct heap_slot slot)
{
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < heap->n &&
            heap->slots[child + 1].key < heap->slots[child].key) {
            child++;
        }
        if (child >= heap->n || heap->slots[child].key >= slot.key) {
            break;
        }
        put(heap, place, heap->slots[child]);
        place = child;
    }
    put(heap, place, slot);
}

void dassie__heap_set(struct heap *heap, struct heap_node *node, uint64_t key)
{
    struct heap_slot slot = {key, node};
    if (node->place == 0) {
        move_up(heap, heap->n++, slot);
    } else if (key < heap->slots[node->place - 1].key) {
        move_up(heap, node->place - 1, slot);
    } else {
        move_down(heap, node->place - 1, slot);
    }
}

void dassie__heap_remove(struct heap *heap, struct heap_node *node)
{
    if (node->place == 0) {
        return;
    }
    uint32_t place = node->place - 1;
    struct heap_slot last = heap->slots[--heap->n];
    node->place = 0;
    if (last.node != node) {
        heap->slots[place] = last;
        last.node->place = place + 1;
        dassie__heap_set(heap, last.node, last.key);
    }
}
