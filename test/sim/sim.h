/* sim.h: what all of the simulation shares: chance, judgment and counts.
 *
 * A schedule is a seed. The virtual world (task.h, disk.h, memory.h) runs the
 * library's own code, engine, runners and calls; operations drawn from a table
 * (ops.h) play its users, the processors' jobs and what may befall them; the
 * model (model.h) says what must be true. Threads: one. */
#ifndef DASSIE_TEST_SIM_SIM_H_
#define DASSIE_TEST_SIM_SIM_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reached.h"

/* ---- Chance ---- */

uint64_t sim_random(void);
unsigned sim_below(unsigned n);
bool sim_chance(unsigned of_thousand);

/* ---- Judgment ---- */

/* Says what is wrong with this schedule and ends the process. */
void sim_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
#define SIM_CHECK(expression, ...) \
    ((expression) ? (void)0 : sim_fail(__VA_ARGS__))

/* One line of the schedule, when it is to be shown. */
extern bool sim_verbose;
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define SIM_SAY(...) (sim_verbose ? sim_say(__VA_ARGS__) : (void)0)

#endif /* DASSIE_TEST_SIM_SIM_H_ */
