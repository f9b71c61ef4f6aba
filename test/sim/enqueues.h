/* enqueues.h: jobs are handed in, one by one or as a batch, on the loop or on
 * another thread; see users.h. Threads: one. */
#ifndef DASSIE_TEST_SIM_ENQUEUES_H_
#define DASSIE_TEST_SIM_ENQUEUES_H_

#include <stdbool.h>

/* Operations. */
bool enqueues_one(void);
bool enqueues_many(void);

/* A process begins. */
void enqueues_begin(void);

#endif /* DASSIE_TEST_SIM_ENQUEUES_H_ */
