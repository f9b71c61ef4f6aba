/* looks.h: what is only looked at; see users.h. Threads: one. */
#ifndef DASSIE_TEST_SIM_LOOKS_H_
#define DASSIE_TEST_SIM_LOOKS_H_

#include <stdbool.h>

/* Operations. */
bool looks_watch(void);
bool looks_look(void);
bool looks_drain(void);

/* A process begins; its queue was closed. */
void looks_begin(void);
void looks_closed(void);

#endif /* DASSIE_TEST_SIM_LOOKS_H_ */
