#include "config.h"

#include "lock.h"

void dassie__mutex_init(uv_mutex_t *mutex)
{
    static const uv_mutex_t fresh = DASSIE__MUTEX_INITIALIZER;
    *mutex = fresh;
}
