/* clock.h: the time of a queue.
 *
 * It is the machine's (env.h), or that of a test: then it begins at the
 * machine's and stands still until it is moved. Threads: any may look; the
 * loop's begins and moves it. */
#ifndef DASSIE_CLOCK_H_
#define DASSIE_CLOCK_H_

#include "env.h"

#include <stdatomic.h>

struct clock {
    bool fake;                 /* fixed before another thread can look */
    uint64_t wall_ms;          /* when a test began, */
    uint64_t mono_ns;          /* so too, */
    _Atomic uint64_t ahead_ns; /* and how far it has been moved since */
};

static inline void clock_fake(struct clock *c)
{
    c->fake = true;
    c->wall_ms = dassie__env.wall_ms();
    c->mono_ns = dassie__env.mono_ns();
}

static inline void clock_move(struct clock *c, uint64_t mono_ns)
{
    atomic_store(&c->ahead_ns, mono_ns - c->mono_ns);
}

static inline uint64_t clock_wall_ms(const struct clock *c)
{
    return c->fake ? c->wall_ms + atomic_load(&c->ahead_ns) / 1000000
                   : dassie__env.wall_ms();
}

static inline uint64_t clock_mono_ns(const struct clock *c)
{
    return c->fake ? c->mono_ns + atomic_load(&c->ahead_ns)
                   : dassie__env.mono_ns();
}

#endif /* DASSIE_CLOCK_H_ */
