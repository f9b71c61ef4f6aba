/* subject.h: what subject.c and checker.c share. Threads: the loop's. */
#ifndef DASSIE_TEST_CRASH_SUBJECT_H_
#define DASSIE_TEST_CRASH_SUBJECT_H_

#include <stdint.h>

/* Asks for a job and waits for the acknowledgement. */
void subject_enqueue(uint32_t token);

/* Opens what a killed process has left and compares it with the ledger, lets
 * all jobs end, and compares again. */
void subject_check(const char *path);

#endif /* DASSIE_TEST_CRASH_SUBJECT_H_ */
