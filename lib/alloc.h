/* alloc.h: every allocation of the library goes through these.
 *
 * They are libc's until dassie_replace_allocator(). A failure is NULL and
 * reaches the user as UV_ENOMEM; nothing in the library aborts. What RocksDB
 * allocates it allocates by itself. Threads: any. */
#ifndef DASSIE_ALLOC_H_
#define DASSIE_ALLOC_H_

#include <stddef.h>

void *dassie__malloc(size_t size);
void *dassie__calloc(size_t n, size_t size);
void *dassie__realloc(void *p, size_t size);
void dassie__free(void *p);

/* A copy of len bytes with a zero byte behind them. */
void *dassie__memdup(const void *p, size_t len);

#endif /* DASSIE_ALLOC_H_ */
