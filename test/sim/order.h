/* order.h: which claims a commit may hold; see model.h. new: what the rows say
 * after it. Threads: one. */
#ifndef DASSIE_TEST_SIM_ORDER_H_
#define DASSIE_TEST_SIM_ORDER_H_

#include "model.h"

/* Nothing of a queue that is paused is claimed, nor what has expired. */
void order_judge_claims(const struct facts *new);

/* Nothing of its queue that stands before a job was left when it was claimed.
 */
void order_judge_lines(const struct facts *new);
void order_judge_due(const struct facts *new);

/* A processor's first queue is served first, and a job that is to run at most
 * once is claimed for a free slot only. */
void order_judge_turns(const struct facts *new);

/* A suspect that was claimed with nothing beside it is alone, and stays so. */
void order_judge_alone(const struct facts *new);

#endif /* DASSIE_TEST_SIM_ORDER_H_ */
