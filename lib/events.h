/* events.h: what happens to jobs, told to whoever has subscribed.
 *
 * Each subscription has a ring of its own in memory; nothing is written for it,
 * and without one a transition costs the look at a pointer. The engine stages
 * what it asked for while it fills a batch and publishes it after the commit;
 * the loop takes it from there. Each event that a subscription asked for has a
 * number, also if there is no room for it: so the loop knows how many it
 * missed, and where.
 *
 * The happy path is: dassie_subscribe() posts OP_SUBSCRIBE; the store's moved
 * hook stages; dassie__events_publish() after each commit; the loop calls
 * dassie__events_deliver().
 *
 * Possible failure modes are: a subscriber that is slow (it misses events and
 * is told); a store that is given up (what is staged is dropped).
 *
 * On close: what was published is delivered first.
 *
 * Threads: one part of the ring is the engine's, one the loop's; head and
 * published are under the outbox's mutex, tail is atomic. */
#ifndef DASSIE_EVENTS_H_
#define DASSIE_EVENTS_H_

#include "engine.h"

struct dassie__sub {
    struct op op;      /* first: OP_SUBSCRIBE, OP_UNSUBSCRIBE and its answer */
    struct op gone_op; /* OP_UNSUBSCRIBE */
    struct dassie__impl *impl;
    dassie_event_t *ring; /* DASSIE_EVENTS_MAX of them, */
    uint64_t *number;     /* and their numbers */
    char *queue;          /* only of this queue; NULL: of all */
    size_t queue_len;
    unsigned states; /* only into these; 0: into all */
    bool progress;   /* of running jobs is told, too */

    /* The engine's. */
    struct dassie__sub *next;
    uint64_t staged;    /* events put into the ring, ever */
    uint64_t asked_for; /* and those there was no room for */

    /* Under the outbox's mutex. */
    uint64_t head;      /* staged, as of the last commit */
    uint64_t published; /* asked_for, as of then */

    /* The loop's. */
    _Atomic uint64_t tail; /* events taken from the ring, ever */
    uint64_t told;         /* the number of the next one */
    struct dassie__sub *loop_next;
    dassie_subscription_t *handle; /* NULL: it wants no more of them */
    dassie_event_cb cb;
};

/* ---- Engine ---- */

void dassie__events_add(struct dassie__impl *impl, struct dassie__sub *sub);
void dassie__events_remove(struct dassie__impl *impl, struct dassie__sub *sub);

/* After a commit, or (well: false) one that came to nothing. True: there is
 * something to deliver. */
bool dassie__events_publish(struct dassie__impl *impl, bool well);

/* ---- Loop ---- */

/* Delivers some. True: there is more. */
bool dassie__events_deliver(struct dassie__impl *impl);
void dassie__events_free(struct dassie__sub *sub);

#endif /* DASSIE_EVENTS_H_ */
