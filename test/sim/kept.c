/* kept.c: what the library keeps in static variables, which a kill takes as
 * well. */
#include "kept.h"

#include "../../lib/pool.c"

void kept_drop(void)
{
    taken = 0;
    waiting = NULL;
}

unsigned kept_threads(void)
{
    return dassie__pool_threads() - taken;
}
