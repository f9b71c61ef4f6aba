/* subject.h: what subject.c and checker.c share with those who call them.
 * Threads: the loop's. */
#ifndef DASSIE_TEST_CRASH_SUBJECT_H_
#define DASSIE_TEST_CRASH_SUBJECT_H_

#include <dassie.h>

#include <stdbool.h>
#include <stdint.h>

/* One process on the store DIR/store, for DIR/ledger. The modes:
 *
 *     run        mixed work, see subject.c
 *     soak       the same without an end, see soak.c
 *     open       opens the store and closes it: recovery alone
 *     check      see checker.c
 *     heal, lose, floor
 *                see fault_run.c
 *     judge      see judge.c; judge-run lets all jobs end first
 *     salvage    see judge.c; salvage-lossy lets jobs be lost
 *
 * unsynced: with DASSIE_OFF, from now on. Returns 0 all was well, 1 a promise
 * was broken, 2 no such mode; a call that fails ends the process with 3, or 4
 * if it failed for damage. */
int subject_do(const char *mode, const char *dir, bool unsynced);

/* Asks for a job, or a batch, and waits for the acknowledgement. */
void subject_enqueue(uint32_t token);
void subject_enqueue_batch(uint32_t first);

/* soak.c: the store grows by jobs that nobody serves, and shrinks until none is
 * left; whether the ledger has room for more. */
void soak_grow(const char *path);
void soak_shrink(const char *path);
bool soak_has_room(void);

/* Starts an async job, which ends by a timer; the timer is there between the
 * two others. */
void subject_start(dassie_job_t *job);
void subject_begin(void);
void subject_end(void);

/* Works on while calls fail: until they are told of ("heal"), or until the
 * queue is closed ("lose"). */
void subject_heal(const char *path);
void subject_lose(const char *path);

/* Too little disk is free for a while. */
void subject_floor(const char *path);

/* Set: the power was cut, and pages of what was being written may have come to
 * the disk in any order; RocksDB may not read that before it was opened. */
extern bool subject_torn;

/* Opens a store and compares it with the ledger, lets all jobs end, and
 * compares again; or lets them end first. */
void subject_compare(const char *path, bool run_first);

/* Opens what the last process has left and does the same, and verifies it
 * before and after. */
void subject_check(const char *path);

/* Opens a store that may be damaged, and compares it: see judge.c. Ends the
 * program with 10 if it is refused, with 11 if the damage is told later. */
void subject_judge(const char *path);
void subject_judge_run(const char *path); /* lets all jobs end first */

/* Opens it with DASSIE_SALVAGE, and compares what is saved: nothing may be
 * lost, or some, with 12 then. */
void subject_salvage(const char *path);
void subject_salvage_lossy(const char *path);

#endif /* DASSIE_TEST_CRASH_SUBJECT_H_ */
