/* settings.h: queues are paused and resumed, and keep few jobs or all; see
 * users.h.
 *
 * Of a queue that is told to be paused no job is claimed, whatever befalls the
 * process, until somebody asks for the opposite. One that keeps few loses none
 * of those. Threads: one. */
#ifndef DASSIE_TEST_SIM_SETTINGS_H_
#define DASSIE_TEST_SIM_SETTINGS_H_

#include <stdbool.h>

/* An operation. */
bool settings_configure(void);

/* Resumes a queue; false: none is paused. */
bool settings_resume(void);

/* A process begins; its queue was closed. */
void settings_begin(void);
void settings_closed(void);

#endif /* DASSIE_TEST_SIM_SETTINGS_H_ */
