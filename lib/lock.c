#include "config.h"

#include "lock.h"

int dassie__mutex_init(uv_mutex_t *mutex)
{
    static const uv_mutex_t fresh = DASSIE__MUTEX_INITIALIZER;
    *mutex = fresh;
    return 0;
}
