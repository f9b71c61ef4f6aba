#include "memory.h"

#include "dassie.h"
#include "job.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

struct block {
    struct block *prev; /* NULL: the database's */
    struct block *next;
    size_t size;
    size_t unused; /* keeps what follows aligned */
};

static struct block process = {&process, &process, 0, 0};
static bool of_disk;
static unsigned disk_blocks;
static unsigned fail_in;

static bool fails(void)
{
    if (of_disk || fail_in == 0 || --fail_in > 0) {
        return false;
    }
    SIM_SAY("no memory");
    reached->no_memory++;
    return true;
}

static void *block_new(size_t size)
{
    struct block *block = fails() ? NULL : malloc(sizeof *block + size);
    if (block == NULL) {
        return NULL;
    }
    block->size = size;
    if (of_disk) {
        block->prev = NULL;
        disk_blocks++;
        return block + 1;
    }
    block->prev = &process;
    block->next = process.next;
    process.next->prev = block;
    process.next = block;
    return block + 1;
}

static void block_free(void *p)
{
    if (p == NULL) {
        return;
    }
    struct block *block = (struct block *)p - 1;
    if (block->prev == NULL) {
        disk_blocks--;
    } else {
        block->prev->next = block->next;
        block->next->prev = block->prev;
    }
    free(block);
}

static void *block_calloc(size_t n, size_t size)
{
    void *p = block_new(n * size);
    return p != NULL ? memset(p, 0, n * size) : NULL;
}

static void *block_realloc(void *old, size_t size)
{
    void *p = block_new(size);
    if (p == NULL || old == NULL) {
        return p;
    }
    size_t old_size = ((struct block *)old - 1)->size;
    memcpy(p, old, old_size < size ? old_size : size);
    block_free(old);
    return p;
}

void memory_begin(void)
{
    dassie_replace_allocator(block_new, block_realloc, block_calloc,
                             block_free);
}

void memory_disk(bool disk)
{
    of_disk = disk;
}

void memory_fail(unsigned n)
{
    fail_in = n;
}

void memory_drop(void)
{
    fail_in = 0;
    dassie__job_cache_clear();
    while (process.next != &process) {
        block_free(process.next + 1);
    }
}

void memory_check_empty(void)
{
    fail_in = 0;
    dassie__job_cache_clear();
    SIM_CHECK(process.next == &process, "a block of %zu bytes is left",
              process.next->size);
}

unsigned memory_of_disk(void)
{
    return disk_blocks;
}
