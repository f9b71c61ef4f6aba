/* small.h: what the simulation changes in the library, and nothing else.
 *
 * It is read in front of every source of the library. Limits that a schedule
 * of some hundred steps would never reach are small here, and of libuv those
 * functions that wait, wake or start a thread are the simulation's: see
 * task.h. So is the one sync of the flight recorder: see disk.h. */
#ifndef DASSIE_TEST_SIM_SMALL_H_
#define DASSIE_TEST_SIM_SMALL_H_

#include "config.h"

#define HASH_NONFATAL_OOM 1 /* as those sources say that use it */
#include "engine.h"
#include "lock.h"

#include <sys/mman.h>

#undef DASSIE_CLAIMED_MAX
#undef DASSIE_MEMORY_BYTES_MIN
#undef DASSIE_QUEUES_MAX
#define DASSIE_CLAIMED_MAX 12
#define DASSIE_MEMORY_BYTES_MIN 1
#define DASSIE_QUEUES_MAX 6

#undef AHEAD_JOBS_MAX
#undef BATCH_OPS_MAX
#undef DEAD_LINE_ROWS
#undef DEAD_RANGES_MAX
#undef DEAD_ROWS_MAX
#undef FOLD_COMMITS
#undef REFILL_JOBS_MAX
#define AHEAD_JOBS_MAX 6
#define BATCH_OPS_MAX 16
#define DEAD_LINE_ROWS 3
#define DEAD_RANGES_MAX 2
#define DEAD_ROWS_MAX 10
#define FOLD_COMMITS 8
#define REFILL_JOBS_MAX 4

#define dassie__mutex_init sim_mutex_init
/* The model does not know how long jobs are kept, and its clock may jump. */
#undef DASSIE_KEEP_COMPLETE_MS
#undef DASSIE_KEEP_FAILED_MS
#define DASSIE_KEEP_COMPLETE_MS UINT64_MAX
#define DASSIE_KEEP_FAILED_MS UINT64_MAX

#define msync sim_msync
#define uv_async_init sim_async_init
#define uv_async_send sim_async_send
#define uv_close sim_close
#define uv_cond_broadcast sim_cond_broadcast
#define uv_cond_destroy sim_cond_destroy
#define uv_cond_init sim_cond_init
#define uv_cond_signal sim_cond_signal
#define uv_cond_timedwait sim_cond_timedwait
#define uv_cond_wait sim_cond_wait
#define uv_mutex_destroy sim_mutex_destroy
#define uv_mutex_lock sim_mutex_lock
#define uv_mutex_unlock sim_mutex_unlock
#define uv_queue_work sim_queue_work
#define uv_ref sim_ref
#define uv_sleep sim_sleep
#define uv_thread_create sim_thread_create
#define uv_thread_join sim_thread_join
#define uv_unref sim_ref

int sim_msync(void *p, size_t n, int flags);
int sim_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb cb);
int sim_async_send(uv_async_t *async);
void sim_close(uv_handle_t *handle, uv_close_cb cb);
void sim_cond_broadcast(uv_cond_t *cond);
void sim_cond_destroy(uv_cond_t *cond);
int sim_cond_init(uv_cond_t *cond);
void sim_cond_signal(uv_cond_t *cond);
int sim_cond_timedwait(uv_cond_t *cond, uv_mutex_t *mutex, uint64_t ns);
void sim_cond_wait(uv_cond_t *cond, uv_mutex_t *mutex);
void sim_mutex_destroy(uv_mutex_t *mutex);
void sim_mutex_init(uv_mutex_t *mutex);
void sim_mutex_lock(uv_mutex_t *mutex);
void sim_mutex_unlock(uv_mutex_t *mutex);
int sim_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb work_cb,
                   uv_after_work_cb after_cb);
void sim_ref(uv_handle_t *handle);
void sim_sleep(unsigned ms);
int sim_thread_create(uv_thread_t *thread, uv_thread_cb entry, void *arg);
int sim_thread_join(uv_thread_t *thread);

#endif /* DASSIE_TEST_SIM_SMALL_H_ */
