/* runner.h: work processors on libuv's thread pool.
 *
 * A runner is one uv_queue_work item that drains its processor's run queue:
 * tiny jobs cost no pool round trip each, and a slow one never blocks those
 * behind it, as other runners pop on. Empty, it waits a moment for more, since
 * a busy loop would be slow to send it again; then, or when its time slice is
 * over, it gives the thread back, so that the host's own work gets its turn.
 *
 * The happy path is: the engine appends claimed jobs and rings the loop; the
 * loop starts as many runners as there are slots and threads; each posts its
 * jobs' ends straight to the engine.
 *
 * Possible failure modes are: none. What a processor does wrong is the job's
 * failure.
 *
 * In a test (DASSIE_TESTING) the loop runs the jobs itself.
 *
 * On close: `ending` is set, runners take no more jobs; the engine hands back
 * what is left in the run queue.
 *
 * Threads: the loop, but for the work itself. */
#ifndef DASSIE_RUNNER_H_
#define DASSIE_RUNNER_H_

#include "engine.h"
#include "pool.h"

/* How long a runner keeps its thread while there is work, and how long it
 * waits for more. */
#define SLICE_NS UINT64_C(4000000)
#define LINGER_NS UINT64_C(1000000)

struct runner {
    uv_work_t work;
    struct dassie__processor *p;
    bool busy;
};

/* Starts the runners that are needed and can be had. */
void dassie__runner_start(struct dassie__processor *p);

/* Makes runners leave after what they run. */
void dassie__runner_end(struct dassie__processor *p);

/* Whether this thread is in a work callback of impl. Any thread. */
bool dassie__runner_is_here(const struct dassie__impl *impl);

/* dassie.c: a runner has ended. */
void dassie__runner_ended(struct dassie__processor *p);

#endif /* DASSIE_RUNNER_H_ */
