/* look.h: look-ups that wait for their answers; after session_open(). */
#ifndef DASSIE_TOOLS_LOOK_H_
#define DASSIE_TOOLS_LOOK_H_

#include <dassie.h>

#include <stdbool.h>

/* Which jobs, as dassie_filter_t has it. */
struct selection {
    const char *queue;
    const char *name;
    unsigned states; /* DASSIE_IN(), never 0 */
    uint64_t age_ms;
};

/* Where a list goes on: a state, and the cursor within it. */
struct place_in_list {
    int state;
    uint64_t cursor[3];
};

/* Tells cb of up to limit jobs (0: all) that are selected, state by state, from
 * *place on, which moves. 0, or an error; *more: there may be more. */
typedef void (*look_cb)(const dassie_info_t *job);
int look_list(const struct selection *selection, struct place_in_list *place,
              uint64_t limit, look_cb cb, bool *more);

/* Tells cb of one job, or returns why not. */
int look_get(uint64_t id, look_cb cb);

/* Tells cb of all queues. */
int look_queues(void (*cb)(const dassie_queue_info_t *queues, size_t n));

/* How many jobs of a queue are in each state. */
int look_counts(const char *queue, dassie_count_t *count);

#endif /* DASSIE_TOOLS_LOOK_H_ */
