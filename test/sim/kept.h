/* kept.h: see kept.c. */
#ifndef DASSIE_TEST_SIM_KEPT_H_
#define DASSIE_TEST_SIM_KEPT_H_

void kept_drop(void);

/* How many threads of the pool are free. */
unsigned kept_threads(void);

#endif /* DASSIE_TEST_SIM_KEPT_H_ */
