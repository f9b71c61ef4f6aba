/* subject.h: what subject.c and checker.c share. Threads: the loop's. */
#ifndef DASSIE_TEST_CRASH_SUBJECT_H_
#define DASSIE_TEST_CRASH_SUBJECT_H_

#include <stdbool.h>
#include <stdint.h>

/* Asks for a job and waits for the acknowledgement. */
void subject_enqueue(uint32_t token);

/* Opens a store and compares it with the ledger, lets all jobs end, and
 * compares again; or lets them end first. */
void subject_compare(const char *path, bool run_first);

/* Opens what a killed process has left and does the same, and verifies it
 * before and after. */
void subject_check(const char *path);

/* Opens a store that may be damaged, and compares it: see judge.c. Ends the
 * program with 10 if it is refused, with 11 if the damage is told later. */
void subject_judge(const char *path);
void subject_judge_run(const char *path); /* lets all jobs end first */

#endif /* DASSIE_TEST_CRASH_SUBJECT_H_ */
