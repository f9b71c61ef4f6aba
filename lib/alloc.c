#include "config.h"

#include "alloc.h"

#include "dassie.h"

#include <stdlib.h>
#include <string.h>

static struct {
    uv_malloc_func malloc_func;
    uv_realloc_func realloc_func;
    uv_calloc_func calloc_func;
    uv_free_func free_func;
} allocator = {malloc, realloc, calloc, free};

int dassie_replace_allocator(uv_malloc_func malloc_func,
                             uv_realloc_func realloc_func,
                             uv_calloc_func calloc_func, uv_free_func free_func)
{
    if (malloc_func == NULL || realloc_func == NULL || calloc_func == NULL ||
        free_func == NULL) {
        return UV_EINVAL;
    }
    allocator.malloc_func = malloc_func;
    allocator.realloc_func = realloc_func;
    allocator.calloc_func = calloc_func;
    allocator.free_func = free_func;
    return 0;
}

void *dassie__malloc(size_t size)
{
    return allocator.malloc_func(size);
}

void *dassie__calloc(size_t n, size_t size)
{
    return allocator.calloc_func(n, size);
}

void *dassie__realloc(void *p, size_t size)
{
    return allocator.realloc_func(p, size);
}

void dassie__free(void *p)
{
    if (p != NULL) {
        allocator.free_func(p);
    }
}

void *dassie__memdup(const void *p, size_t len)
{
    char *copy = dassie__malloc(len + 1);
    if (copy == NULL) {
        return NULL;
    }
    if (len > 0) {
        memcpy(copy, p, len);
    }
    copy[len] = '\0';
    return copy;
}
