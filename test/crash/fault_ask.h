/* fault_ask.h: what is asked of a queue whose disk does not work, for
 * fault_run.c, and what may be answered: each request once, and definitely;
 * nothing is acknowledged while nothing can be written. What happens otherwise
 * is a fault in the ledger. Threads: the loop's. */
#ifndef DASSIE_TEST_CRASH_FAULT_ASK_H_
#define DASSIE_TEST_CRASH_FAULT_ASK_H_

#include <stdbool.h>
#include <stdint.h>

#define ASK_ROUNDS 3 /* a session */

/* What the answers depend on. */
extern struct asking {
    bool floor; /* jobs may be refused, as too little disk is free */
    bool closing;
    unsigned round;   /* of the session */
    unsigned waiting; /* requests that are not answered yet */
} asking;

/* How many there were. */
extern struct answers {
    unsigned acknowledged;
    unsigned refused;
    unsigned unknown;
    unsigned lookups; /* that failed */
    unsigned changes;
} answers;

/* Ask for one job, and for a batch, with what operators do to them. */
void fault_ask_one(uint32_t token);
void fault_ask_batch(uint32_t first);

/* Looks at all jobs, and at the first one. */
void fault_ask_lookups(void);

/* QUEUE_BRIEF is to keep few jobs, so that some are swept. */
void fault_ask_keep(void);

void fault_ask_drain(void);

/* A session is over: each request for a job, from this one on, has had its
 * answer and its end. */
void fault_ask_check(uint32_t first);

#endif /* DASSIE_TEST_CRASH_FAULT_ASK_H_ */
