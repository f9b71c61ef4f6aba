/* testing.c: the clock, and moving that of a queue that was opened with
 * DASSIE_TESTING.
 *
 * Such a queue has no thread. The loop is its engine, its pool and its reader:
 * whenever it is rung it does all that there is to do at the moment
 * (dassie__impl_turn()), and so does a move of the clock, without the loop. It
 * stops at each moment at which the engine would have woken, so what happens,
 * and in which order, is what would have happened in that time. */
#include "config.h"

#include "impl.h"

#define AHEAD_MS_MAX UINT64_C(3153600000000) /* a hundred years */

uint64_t dassie_now(const dassie_t *q)
{
    return q != NULL && q->impl != NULL ? clock_wall_ms(&q->impl->clock) : 0;
}

/* Until nothing is left to do at this moment. */
static void settle(struct dassie__impl *impl)
{
    bool more = true;
    while (more && !impl->closing_async) {
        dassie__impl_turn(impl);
        more = atomic_load(&impl->rung);
    }
}

int dassie_testing_advance(dassie_t *q, uint64_t ms)
{
    int rc = dassie__impl_check_place(q);
    if (rc != 0) {
        return rc;
    }
    struct dassie__impl *impl = q->impl;
    struct clock *clock = &impl->clock;
    if (!clock->fake || ms > AHEAD_MS_MAX ||
        ms > AHEAD_MS_MAX - atomic_load(&clock->ahead_ns) / 1000000) {
        return UV_EINVAL;
    }
    if (impl->delivering) {
        return UV_EBUSY;
    }
    uint64_t until = clock_mono_ns(clock) + ms * 1000000;
    settle(impl);
    while (impl->due <= until) {
        clock_move(clock, impl->due);
        settle(impl);
    }
    clock_move(clock, until);
    return 0;
}
