/* turn.h: which of its queues a processor is to serve next.
 *
 * The queues of a processor that have jobs to be claimed stand in a heap: in
 * strict order by their place in the list; with weights by virtual time. There
 * a claim costs a queue the time STRIDE / weight, and the queue that is behind
 * the others comes next. A queue that comes back from having no jobs, or from
 * a pause, goes on at what the time is by then: nothing is saved up.
 *
 * The happy path is: dassie__turn_first() says whom to claim for,
 * dassie__turn_take() that it was; dassie__turn_ready() is called when the
 * first job comes or the last one goes.
 *
 * Possible failure modes are: a queue that cannot be read is set aside, so that
 * others go on, until dassie__turns_gather().
 *
 * Threads: the engine. */
#ifndef DASSIE_TURN_H_
#define DASSIE_TURN_H_

#include <stdbool.h>

#include "heap.h"

/* What a claim costs a queue of weight 1. */
#define STRIDE (UINT64_C(1) << 40)

struct dassie__processor;
struct queue;

/* A queue that a processor serves. */
struct server {
    struct heap_node node; /* among the processor's that have jobs */
    struct dassie__processor *processor;
    struct queue *queue;
    struct server *next; /* of those that serve the queue */
    struct turns *turns; /* the processor's */
    struct server *aside_next;
    uint64_t pass;   /* when it is its turn */
    uint64_t stride; /* what a claim costs it; 0: strict order */
};

/* Those of a processor. */
struct turns {
    struct server *servers; /* as they are listed */
    unsigned n;
    struct heap heap;
    uint64_t now;         /* the virtual time */
    struct server *aside; /* those that cannot be read */
};

/* Room for n queues, in strict order, or with those weights. 0 or UV_ENOMEM,
 * with what there is to be freed in either case. */
int dassie__turns_init(struct turns *turns, unsigned n,
                       const unsigned *weights);
void dassie__turns_free(struct turns *turns);

/* The queue has jobs to be claimed now, or has none any more. */
void dassie__turn_ready(struct server *s, bool ready);

/* Whose turn it is: NULL if no queue has jobs. */
struct server *dassie__turns_first(const struct turns *turns);

/* Whether it would be the turn of a queue that has no jobs, if it had some. */
bool dassie__turn_would_be(const struct server *s);

/* A job of the queue is claimed. */
void dassie__turn_take(struct server *s);

/* The queue is left out until those set aside are gathered again. */
void dassie__turn_set_aside(struct server *s);
void dassie__turns_gather(struct turns *turns);

#endif /* DASSIE_TURN_H_ */
