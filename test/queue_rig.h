/* queue_rig.h: a queue on a loop of its own, in a directory of its own, for
 * tests of what users see.
 *
 * A test sets up, opens, runs the loop until what it waits for is true, closes
 * and tears down; a wait has a cap that only a fault reaches. Teardown fails
 * when the loop is left with a handle. RocksDB is opened in here only, so tests
 * use it in checked fixtures and in themselves. Threads: the loop's. */
#ifndef DASSIE_TEST_QUEUE_RIG_H_
#define DASSIE_TEST_QUEUE_RIG_H_

#include <dassie.h>

#include "temp_dir.h"

#define RIG_WAIT_MS 60000

struct queue_rig {
    uv_loop_t loop;
    dassie_t q;
    dassie_options_t options; /* of the next rig_open(); change them before */
    char dir[TEMP_PATH_BYTES];
    char path[PATH_MAX]; /* the store's */
    int opened;          /* how often open_cb came */
    int status;          /* what it said */
    int closed;          /* how often close_cb came */
    uv_timer_t cap;
    bool late;
};

static struct queue_rig rig;

static inline void rig_late(uv_timer_t *timer)
{
    (void)timer;
    rig.late = true;
}

/* Runs the loop until *n is at least so much. */
static inline void rig_wait(const int *n, int least)
{
    rig.late = false;
    ck_assert_int_eq(uv_timer_start(&rig.cap, rig_late, RIG_WAIT_MS, 0), 0);
    while (*n < least && !rig.late) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
    ck_assert_msg(!rig.late, "waited in vain: %d, not %d", *n, least);
    uv_timer_stop(&rig.cap);
}

static inline void rig_opened(dassie_t *q, int status)
{
    ck_assert_ptr_eq(q, &rig.q);
    rig.opened++;
    rig.status = status;
}

static inline void rig_closed(dassie_t *q)
{
    ck_assert_ptr_eq(q, &rig.q);
    rig.closed++;
}

static inline void rig_log(dassie_t *q, dassie_log_level_t level,
                           const char *line)
{
    (void)q;
    if (level <= DASSIE_LOG_WARNING) {
        fprintf(stderr, "log: %s\n", line);
    }
}

static inline void rig_setup(void)
{
    static const dassie_options_t defaults = DASSIE_OPTIONS_INIT;
    memset(&rig, 0, sizeof rig);
    temp_dir_make(rig.dir);
    temp_path(rig.path, rig.dir, "store");
    rig.options = defaults;
    rig.options.log_cb = rig_log;
    rig.options.free_bytes_min = 1;
    ck_assert_int_eq(uv_loop_init(&rig.loop), 0);
    ck_assert_int_eq(uv_timer_init(&rig.loop, &rig.cap), 0);
}

/* Opens what must open, or returns how that failed. */
static inline int rig_try_open(void)
{
    rig.opened = rig.closed = 0;
    ck_assert_int_eq(dassie_init(&rig.loop, &rig.q), 0);
    ck_assert_int_eq(dassie_open(&rig.q, rig.path, &rig.options, rig_opened),
                     0);
    rig_wait(&rig.opened, 1);
    return rig.status;
}

static inline void rig_open(void)
{
    int status = rig_try_open();
    ck_assert_msg(status == 0, "%d %s", status, dassie_errmsg(&rig.q));
}

static inline void rig_close(void)
{
    ck_assert_int_eq(dassie_close(&rig.q, rig_closed), 0);
    rig_wait(&rig.closed, 1);
}

static inline void rig_reopen(void)
{
    rig_close();
    rig_open();
}

/* After rig_close(): the loop ends by itself. */
static inline void rig_teardown(void)
{
    uv_close((uv_handle_t *)&rig.cap, NULL);
    ck_assert_int_eq(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&rig.loop), 0);
    temp_dir_remove(rig.dir);
}

#endif /* DASSIE_TEST_QUEUE_RIG_H_ */
