/* operate.h: what operators do to jobs and queues, one thing after the other.
 * Each is asked for, noted in the ledger, and waited for. Threads: the loop's.
 */
#ifndef DASSIE_TEST_CRASH_OPERATE_H_
#define DASSIE_TEST_CRASH_OPERATE_H_

#include <stdbool.h>
#include <stdint.h>

/* Does to a job what its plan says, or does not and notes that it did
 * (SUBJECT_LIE=ACTION): a mistake made on purpose, which the checker has to
 * notice. */
void operate_change(uint32_t token);

/* Pauses QUEUE_BRIEF, or lets it go on; keeps few of its jobs from now on. */
void operate_pause(bool pause);
void operate_keep(void);

/* Compares the settings of a store that was opened with what was told. */
void operate_look(void);

/* Waits until nothing is pending, running or scheduled; all times come now. */
void operate_finish(void);

#endif /* DASSIE_TEST_CRASH_OPERATE_H_ */
