/* kept.c: the files that keep something in static variables; see kept.h. */
#include "kept.h"

#include "../../lib/pool.c"
#include "../../lib/runner.c"

void kept_drop(void)
{
    taken = 0;
    waiting = NULL;
}

unsigned kept_threads(void)
{
    return dassie__pool_threads() - taken;
}

const void *kept_by_thread(void)
{
    return working;
}

void kept_set_by_thread(const void *kept)
{
    working = kept;
}
