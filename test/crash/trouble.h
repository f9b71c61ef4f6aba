/* trouble.h: what goes wrong for a subject, and how it ends.
 *
 * Either fault_at.c makes calls fail (FAULT says which), or a disk gets bad:
 * the shell command SUBJECT_TROUBLE does that, in the middle of the first
 * session, SUBJECT_RELIEF undoes it, and SUBJECT_ERROR is the error that is
 * told then ("ENOSPC"). Threads: the loop's. */
#ifndef DASSIE_TEST_CRASH_TROUBLE_H_
#define DASSIE_TEST_CRASH_TROUBLE_H_

#include <stdbool.h>

/* Reads the environment. */
void trouble_setup(void);

/* The middle of the first session. */
void trouble_begin(void);

/* How many calls have failed; of a disk: whether it got bad. */
long trouble_hits(void);

/* It goes on until trouble_end(), if it ever began. */
bool trouble_lasts(void);
void trouble_end(void);

/* While it lasts no commit can be written. */
bool trouble_is_total(void);

/* It is what a status tells of. */
bool trouble_is(int status);

#endif /* DASSIE_TEST_CRASH_TROUBLE_H_ */
