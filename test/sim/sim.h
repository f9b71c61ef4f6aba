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

/* ---- What was reached ---- */

#define REACHED(XX)      \
    XX(schedules)        \
    XX(steps)            \
    XX(enqueues)         \
    XX(batches)          \
    XX(acknowledged)     \
    XX(refused)          \
    XX(inbox_full)       \
    XX(no_space)         \
    XX(runs)             \
    XX(completed)        \
    XX(failed)           \
    XX(cancelled)        \
    XX(at_most_once)     \
    XX(stale_finishes)   \
    XX(processors)       \
    XX(stops)            \
    XX(watches)          \
    XX(looks)            \
    XX(commits)          \
    XX(folds)            \
    XX(dead_ranges)      \
    XX(refills)          \
    XX(hand_offs)        \
    XX(unclaims)         \
    XX(recorder_full)    \
    XX(delayed)          \
    XX(promoted)         \
    XX(retries)          \
    XX(snoozes)          \
    XX(kills)            \
    XX(kills_in_commit)  \
    XX(kills_untold)     \
    XX(kills_recovering) \
    XX(kills_in_doubt)   \
    XX(power_cuts)       \
    XX(commits_lost)     \
    XX(rebuilds)         \
    XX(not_started)      \
    XX(ended_untold)     \
    XX(suspects)         \
    XX(alone)            \
    XX(crashed_out)      \
    XX(interrupted)      \
    XX(unknown_runs)     \
    XX(errors_absent)    \
    XX(errors_present)   \
    XX(heals)            \
    XX(heals_failed)     \
    XX(given_up)         \
    XX(read_errors)      \
    XX(open_errors)      \
    XX(no_memory)        \
    XX(clock_steps)      \
    XX(closes)           \
    XX(verified)

struct reached {
#define XX(name) uint64_t name;
    REACHED(XX)
#undef XX
};
extern struct reached *reached;

#endif /* DASSIE_TEST_SIM_SIM_H_ */
