/* record.h: what record.c and record_calls.c share. Threads: any; between
 * trace_enter() and trace_leave() one at a time. */
#ifndef DASSIE_TEST_CRASH_RECORD_H_
#define DASSIE_TEST_CRASH_RECORD_H_

#include "trace.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define KERNEL_BOOT_ID "/proc/sys/kernel/random/boot_id"

/* Of log files of RocksDB's; errors that were injected. */
extern struct record_counts {
    long writes;
    long syncs;
    long injected;
} record_counts;

/* Ends the program. */
void trace_fail(const char *what) __attribute__((noreturn));

/* Begins and ends a call. ours: it concerns the directory. */
void trace_enter(bool ours);
void trace_leave(bool ours);

void trace_put(enum trace_op op, uint32_t file, uint64_t at, const void *data,
               size_t len);

/* The path below the directory, or NULL. */
const char *trace_below(const char *path, char buffer[PATH_MAX]);

/* Memory is mapped from a file, and no longer; the file, or 0. */
void trace_map(void *live, size_t len, uint32_t file);
void trace_unmap(void *live);
uint32_t trace_mapped(void *live);

#endif /* DASSIE_TEST_CRASH_RECORD_H_ */
