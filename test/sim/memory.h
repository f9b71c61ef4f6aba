/* memory.h: the memory of the process, which a kill takes.
 *
 * The library's allocator. What the virtual database holds is not the
 * process's: memory_disk() tells when it is at work. Threads: one. */
#ifndef DASSIE_TEST_SIM_MEMORY_H_
#define DASSIE_TEST_SIM_MEMORY_H_

#include <stdbool.h>

void memory_begin(void);

/* From here on memory is the database's, or not. */
void memory_disk(bool disk);

/* The n-th allocation from here on fails; 0: none does. */
void memory_fail(unsigned n);

/* The process is gone. */
void memory_drop(void);

/* It has ended by itself, and must have left nothing. */
void memory_check_empty(void);

/* How many blocks the database has. */
unsigned memory_of_disk(void);

#endif /* DASSIE_TEST_SIM_MEMORY_H_ */
