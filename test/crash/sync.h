/* sync.h: a queue on a loop, for programs that do one thing after the other.
 *
 * What must not fail ends the program with status 3, or 4 if it is damage; what
 * never comes ends it by SIGALRM. Threads: the loop's, but for sync_must() and
 * sync_count(). */
#ifndef DASSIE_TEST_CRASH_SYNC_H_
#define DASSIE_TEST_CRASH_SYNC_H_

#include <dassie.h>

#include <stdatomic.h>

struct sync {
    uv_loop_t loop;
    uv_async_t async; /* rung by sync_count() */
    dassie_t q;
    dassie_options_t options; /* of sync_open() */
    atomic_int opened;
    atomic_int closed;
    atomic_int rebuilt; /* the log told of a rebuild */
};

extern struct sync rig;

/* Ends the program unless rc is 0. */
void sync_must(int rc, const char *what);

/* Counts something that the loop waits for. */
void sync_count(atomic_int *n);

/* Runs the loop until *n is at least so much. */
void sync_wait(atomic_int *n, int least);

/* The loop, and before the program ends. */
void sync_begin(void);
void sync_end(void);

/* The queue, once at a time. sync_on_close() counts rig.closed. */
void sync_open(const char *path);
void sync_on_close(dassie_t *q);
void sync_close(void);

/* Waits until nothing is pending or running. */
void sync_drain(void);

/* Tells of every job in a state. */
void sync_list(dassie_state_t state, void (*each)(const dassie_info_t *job));

#endif /* DASSIE_TEST_CRASH_SYNC_H_ */
