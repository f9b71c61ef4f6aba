/* task.h: threads without threads.
 *
 * Each thread of the library and of its host is a task with a stack of its own;
 * one of them runs at a time, until it waits. Which of those that can go on is
 * next is drawn from the seed, and so are the moments before a mutex at which a
 * task is made to wait though it could go on: all that threads share stands
 * under a mutex or is atomic, so that is where their order matters. A mutex is
 * never held by a task that waits.
 *
 * Time is virtual: when no task can go on, it is the moment at which the next
 * one can. So nothing depends on the machine, and a seed is a schedule.
 *
 * A kill is tasks_kill(): no task ever goes on. Threads: one. */
#ifndef DASSIE_TEST_SIM_TASK_H_
#define DASSIE_TEST_SIM_TASK_H_

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#define MS UINT64_C(1000000)

/* The time: ns since the schedule began, and what the wall's clock is ahead
 * of it. */
extern uint64_t task_now;
extern int64_t task_wall_ms;

/* When the engine looked at the clocks last, which begins its cycle. */
extern uint64_t task_cycle;
extern uint64_t task_cycle_wall; /* ms */

/* How many calls in a thousand to a mutex make their task wait. */
extern unsigned task_preempt;

/* How many steps in a thousand wake who waits on a condition for nothing. */
extern unsigned task_spurious;

/* Whether this build can switch stacks: ThreadSanitizer loses track. */
bool tasks_possible(void);

/* Points the library's clocks here. */
void tasks_begin(void);

/* Begins a task that belongs to the process. */
void task_start(const char *name, void (*entry)(void *arg), void *arg);

/* Runs one task until it waits. False: there is none that ever could. */
bool tasks_step(void);

/* In a task: waits so long, or only until it is its turn again. */
void task_sleep(uint64_t ns);
void task_yield(void);

/* The name of the task that runs. */
const char *task_name(void);

/* Whether the engine waits for something to do, and until when at the latest
 * (UINT64_MAX: there is no limit). */
bool tasks_engine_idle(const uv_cond_t *cond, uint64_t *until);

void tasks_kill(void);

/* ---- The loop ---- */

/* Runs on it: rings, ends of work, closes. False: there was nothing. */
bool loop_turn(void);

/* Waits until one of them comes, or so long. */
void loop_wait(uint64_t ns);

/* Whether a handle is left. */
bool loop_alive(void);

#endif /* DASSIE_TEST_SIM_TASK_H_ */
