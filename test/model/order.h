/* order.h: in which order jobs must start.
 *
 * It is seen where one processor serves a queue from an open to the next close
 * (or several, each after the end of the one before), and runs one job at a
 * time or is async. Then jobs of one priority start in the order in which they
 * stood in the list of pending jobs after the open, then in that of their ids;
 * those of that list in its order over all priorities; and no job at all while
 * a queue that its processor serves first still has one of that list; by
 * weights such a queue is passed over a few times its share only. Jobs with
 * counted attempts are left out, as suspects wait for their turn, and so are
 * those with a delay, which line up when they are due.
 *
 * Jobs that are handed back line up behind those that were before and have not
 * run since, whatever their ids. So the order is not judged any more once two
 * lots of them may meet: jobs that were claimed before the open, those of each
 * processor that was stopped (of an async one two lots: those that the stop
 * finds claimed but not delivered go back before those that are on their way to
 * the loop), those that a busy work processor hands back every ORDER_RETURN_MS
 * at the most, and those that it has claimed, of whatever queue, when one of
 * its queues is paused.
 *
 * Threads: order_begun() any; the others the loop's. */
#ifndef DASSIE_TEST_MODEL_ORDER_H_
#define DASSIE_TEST_MODEL_ORDER_H_

#include "model.h"

#define ORDER_NOBODY (-1)
#define ORDER_RETURN_MS 50

/* Queues as their processor serves them. */
struct order_turn {
    int who;
    const unsigned *queues;
    const unsigned *weights; /* NULL: in strict order */
    unsigned n;
};

void order_open(void); /* after model_open_end() */

/* Processor who serves these queues; serial: what it begins is in the order of
 * its claims. */
void order_served(int who, const unsigned *queues, unsigned n, bool serial,
                  bool async);
void order_left(int who, const unsigned *queues, unsigned n);

/* As model_free(); nobody waits for the job any more. */
void order_free(uint32_t number, bool deletes);

/* The queue is paused or resumed: its order is not judged any more. */
void order_paused(unsigned queue);

/* The job began. Before the next one can begin there. */
void order_begun(uint32_t number, const struct order_turn *turn);

#endif /* DASSIE_TEST_MODEL_ORDER_H_ */
