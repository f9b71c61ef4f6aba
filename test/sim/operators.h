/* operators.h: what is done to jobs that are there: dassie_change(), for one,
 * for some, or for all that match; see users.h.
 *
 * While one is under way it may be done to each of them, and to no other. When
 * it is over it was done to so many as are told; a job that matched all the
 * while was not passed over; a run that was asked to end knows. One is asked
 * for at a time. Threads: one. */
#ifndef DASSIE_TEST_SIM_OPERATORS_H_
#define DASSIE_TEST_SIM_OPERATORS_H_

#include <stdbool.h>

/* An operation. */
bool operators_change(void);

/* A process begins; its queue was closed. */
void operators_begin(void);
void operators_closed(void);

#endif /* DASSIE_TEST_SIM_OPERATORS_H_ */
