/* queue_busy.h: the queue of queue_rig.h works while something else is tried.
 *
 * The happy path is: the test says in busy.specs what a batch is, and starts
 * busy.workers with busy_work(); busy_on() lets batches come, one after the
 * acknowledgement of the other; busy_rest() waits for the last one and stops
 * the workers. Threads: the loop's. */
#ifndef DASSIE_TEST_QUEUE_BUSY_H_
#define DASSIE_TEST_QUEUE_BUSY_H_

#include "queue_rig.h"

#define BUSY_BATCH_MAX 200

static struct {
    dassie_processor_t workers;
    dassie_enqueue_many_t batch;
    dassie_spec_t specs[BUSY_BATCH_MAX];
    size_t specs_n;
    uint64_t acked;
    uint64_t quota; /* so many may be enqueued by now, */
    int idle;       /* and are */
} busy;

static inline int busy_work(dassie_job_t *job)
{
    return dassie_job_id(job) % 7 == 0 ? -1 : 0;
}

static inline void busy_begin(size_t specs_n)
{
    memset(&busy, 0, sizeof busy);
    busy.specs_n = specs_n;
    busy.idle = 1;
}

/* A job of the batch, with some data. */
static inline dassie_spec_t busy_spec(const char *queue)
{
    static char data[600];
    dassie_spec_t spec = rig_spec(queue, NULL);
    spec.data = data;
    spec.data_len = sizeof data;
    return spec;
}

static inline void busy_on_batch(dassie_enqueue_many_t *req, int status);

static inline void busy_go_on(void)
{
    busy.idle = busy.acked >= busy.quota;
    if (!busy.idle) {
        ck_assert_int_eq(dassie_enqueue_many(&rig.q, &busy.batch, busy.specs,
                                             busy.specs_n, busy_on_batch),
                         0);
    }
}

static inline void busy_on_batch(dassie_enqueue_many_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    busy.acked += req->count;
    busy_go_on();
}

/* So many jobs more. */
static inline void busy_on(uint64_t jobs)
{
    busy.quota += jobs;
    if (busy.idle) {
        busy_go_on();
    }
}

static inline void busy_rest(void)
{
    rig_wait(&busy.idle, 1);
    rig_stop(&busy.workers);
}

#endif /* DASSIE_TEST_QUEUE_BUSY_H_ */
