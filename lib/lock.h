/* lock.h: mutexes that are held for some instructions only.
 *
 * Whoever finds one taken looks again for a moment before it sleeps: the loop's
 * thread must not be put to sleep by a call, and the holder is about to let go.
 * Threads: any. */
#ifndef DASSIE_LOCK_H_
#define DASSIE_LOCK_H_

#include <uv.h>

#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
#define DASSIE__MUTEX_INITIALIZER PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
#else
#define DASSIE__MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER
#endif

/* As uv_mutex_init(), but it cannot fail. */
void dassie__mutex_init(uv_mutex_t *mutex);

#endif /* DASSIE_LOCK_H_ */
