/* moves.h: where a job may go between two commits; see model.h. Pure, but for
 * the clock. Threads: one. */
#ifndef DASSIE_TEST_SIM_MOVES_H_
#define DASSIE_TEST_SIM_MOVES_H_

#include "model.h"

/* A job's number, and its state in words. */
int move_token(const struct job *job);
const char *move_state(const struct fact *f);

/* Its run under way, by the claim in o, has begun. */
bool move_has_begun(const struct job *j, const struct fact *o);

/* It has ended, in whatever way. */
bool move_is_end(const struct fact *f);

/* It is too late for its first run. */
bool move_is_late(const struct fact *f);

/* It was kept long enough. */
bool move_may_be_swept(const struct job *j, const struct fact *o);

/* From o to n, in the life of a process. */
bool move_may(const struct job *j, const struct fact *o, const struct fact *n);

/* At open, if its run was found so. */
bool move_may_recover(const struct job *j, const struct fact *o,
                      const struct fact *n, enum found found);

#endif /* DASSIE_TEST_SIM_MOVES_H_ */
