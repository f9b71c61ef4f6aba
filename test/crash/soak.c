/* soak.c: a store that grows and shrinks, between the sessions of subject.c,
 * until it is killed; see soak.sh. What a killed process has left is run first.
 * A few thousand jobs fill the ledger: then it ends by itself. */
#include "ledger.h"
#include "operate.h"
#include "subject.h"
#include "sync.h"

#include <string.h>

#define GROW_BATCHES 8u
#define HELD_MS 2

/* A session and what grows after it, then what checks need. */
#define ROOM (64u * ROUND_JOBS)

bool soak_has_room(void)
{
    return ledger->tokens + ROOM < TOKENS_MAX;
}

void soak_grow(const char *path)
{
    sync_open(path);
    ledger_opened();
    for (uint32_t i = 0; i < GROW_BATCHES; i++) {
        subject_enqueue_batch(ledger_round(ROUND_JOBS));
    }
    sync_close();
}

static int work(dassie_job_t *job)
{
    struct plan plan;
    uint32_t token = ledger_begin(job);
    plan_of(token, &plan);
    if (plan.how != QUICK) {
        uv_sleep(HELD_MS);
    }
    return ledger_end(job, token);
}

void soak_shrink(const char *path)
{
    static dassie_processor_t processor;
    uv_buf_t served[QUEUES];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    memcpy(served, queues, sizeof served);
    options.queues = served;
    options.queues_n = QUEUES;
    options.concurrency = WORK_SLOTS;
    options.work = work;
    sync_open(path);
    ledger_opened();
    operate_look();
    operate_pause(false);
    operate_keep();
    sync_must(dassie_process(&rig.q, &processor, &options), "process");
    operate_finish();
    sync_close();
}
