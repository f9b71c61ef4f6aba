/* kept.h: what the library keeps in static variables: a kill takes it as well,
 * and each task has its own of what belongs to a thread. */
#ifndef DASSIE_TEST_SIM_KEPT_H_
#define DASSIE_TEST_SIM_KEPT_H_

void kept_drop(void);

/* How many threads of the pool are free. */
unsigned kept_threads(void);

const void *kept_by_thread(void);
void kept_set_by_thread(const void *kept);

#endif /* DASSIE_TEST_SIM_KEPT_H_ */
