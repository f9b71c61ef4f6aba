/* child.h: a command that runs for a job.
 *
 * The happy path is: child_start() in the processor's start callback; the
 * command gets the payload on stdin, or in its arguments in place of {}; when
 * it has exited, the job is finished: 0 is complete, anything else is failed
 * with the end of its stderr as the error text. What it writes to stderr is
 * passed on as well.
 *
 * Possible failure modes are: no resources for a process (the job is put off
 * for a second, which uses up no attempt); a payload that cannot be an argument
 * (the job has failed); no such command, or one that may not be executed (then
 * no job can run: children_broken() tells, and the job goes back).
 *
 * On close: children are sessions of their own, so that Ctrl-C does not reach
 * them; children_end() does. What it ended, the library runs again later.
 *
 * Threads: the loop's. */
#ifndef DASSIE_TOOLS_CHILD_H_
#define DASSIE_TOOLS_CHILD_H_

#include <dassie.h>

/* Runs command for job. Loop. */
void child_start(dassie_job_t *job, char **command);

/* Sends a signal to one child with all of its descendants, or to all. */
void child_end(dassie_job_t *job, int number);
void children_end(int number);

/* How many are under way. */
unsigned children_n(void);

/* 0, or why the command cannot be run at all. */
int children_broken(void);

/* Is told when that becomes so. */
void children_on_broken(void (*cb)(void));

#endif /* DASSIE_TOOLS_CHILD_H_ */
