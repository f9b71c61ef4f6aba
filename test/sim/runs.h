/* runs.h: processors come and go, and their jobs run; see users.h. Threads:
 * one. */
#ifndef DASSIE_TEST_SIM_RUNS_H_
#define DASSIE_TEST_SIM_RUNS_H_

#include <stdbool.h>

/* Operations. */
bool runs_serve(void);        /* one more processor, */
bool runs_stop(void);         /* and one less */
bool runs_finish(void);       /* async runs whose time has come, */
bool runs_finish_stale(void); /* or that have ended before */

/* Serves all queues that there are; once, so that nothing but the library moves
 * them on. */
bool runs_serve_all(void);

/* A process begins; its queue was closed. */
void runs_begin(void);
void runs_closed(void);

#endif /* DASSIE_TEST_SIM_RUNS_H_ */
