/* kept.h: see kept.c. */
#ifndef DASSIE_TEST_SIM_KEPT_H_
#define DASSIE_TEST_SIM_KEPT_H_

void kept_drop(void);

#endif /* DASSIE_TEST_SIM_KEPT_H_ */
