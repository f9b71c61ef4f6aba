/* kv_mem.h: the in-memory database behind kv.h.
 *
 * Rows stand in one sorted array a family. It serves tests: those of users
 * (DASSIE_TESTING), and ours of everything above kv.h, for which it can be told
 * to fail, and can survive its owner as a disk survives a process. Threads:
 * one. */
#ifndef DASSIE_KV_MEM_H_
#define DASSIE_KV_MEM_H_

#include "kv.h"

/* NULL: no memory. */
struct kv *dassie__kv_mem_new(void);

/* Frees it; closing alone keeps the rows, so that it can be opened again. */
void dassie__kv_mem_free(struct kv *kv);

/* The next n commits fail with UV_EIO; applied says whether their rows are
 * there all the same. So do the next `reopens` reopens. */
void dassie__kv_mem_fail(struct kv *kv, unsigned n, bool applied,
                         unsigned reopens);

/* How many rows a family holds. */
size_t dassie__kv_mem_rows(const struct kv *kv, enum family family);

#endif /* DASSIE_KV_MEM_H_ */
