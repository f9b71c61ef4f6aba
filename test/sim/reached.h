/* reached.h: what all schedules together have come to. Each has to be reached.
 */
#ifndef DASSIE_TEST_SIM_REACHED_H_
#define DASSIE_TEST_SIM_REACHED_H_

#include <stdint.h>

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
    XX(changes)          \
    XX(cancelled_unrun)  \
    XX(cancelled_runs)   \
    XX(cancels_known)    \
    XX(tried_again)      \
    XX(deleted)          \
    XX(hastened)         \
    XX(pauses)           \
    XX(timed_out)        \
    XX(expired)          \
    XX(touches)          \
    XX(swept)            \
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
    XX(sleeps)           \
    XX(closes)           \
    XX(verified)

#define XX(name) uint64_t name;
struct reached {
    REACHED(XX)
};
#undef XX
extern struct reached *reached;

#endif /* DASSIE_TEST_SIM_REACHED_H_ */
