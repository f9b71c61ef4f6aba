/* saves.c: what a run is given by an earlier one is what that saved last; after
 * a kill it may be older, but nothing that was given before is lost. */
#include "config.h"

#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 24

/* A checkpoint says whose it is and which; the rest is filler. */
static size_t text_of(char *text, uint32_t number, uint32_t save)
{
    return (size_t)snprintf(text, TEXT_BYTES, "%" PRIx32 " %" PRIx32, number,
                            save) +
           1;
}

/* Which save of the job it is; 0: none. */
static uint32_t checkpoint_read(uint32_t number, dassie_job_t *job)
{
    size_t len;
    const char *data = CALL(dassie_job_checkpoint_data)(job, &len);
    uint32_t whose;
    uint32_t save;
    if (data == NULL) {
        MODEL_CHECK(len == 0, "a checkpoint that is not there");
        return 0;
    }
    MODEL_CHECK(memchr(data, 0, len) != NULL &&
                    sscanf(data, "%" SCNx32 " %" SCNx32, &whose, &save) == 2 &&
                    whose == number,
                "job %" PRIu32 ": another checkpoint", number);
    return save;
}

static void judge(uint32_t number, struct saved *saved, uint64_t found,
                  const char *what)
{
    bool exact = ledger->facts[number].saved_in > ledger->killed_in;
    MODEL_CHECK(found <= saved->last && found >= saved->least &&
                    (!exact || found == saved->last),
                "job %" PRIu32 ": %s %" PRIu64 ", not %" PRIu32 " to %" PRIu32
                "%s",
                number, what, found, saved->least, saved->last,
                exact ? " exactly" : "");
    saved->least = saved->last = (uint32_t)found;
}

static void save_checkpoint(uint32_t number, dassie_job_t *job,
                            struct dice *dice, uint32_t save)
{
    static const char filler[DASSIE_CHECKPOINT_BYTES_MAX];
    static _Thread_local char data[DASSIE_CHECKPOINT_BYTES_MAX];
    size_t len = text_of(data, number, save);
    size_t more = dice_one_in(dice, 8) ? sizeof data - len : 0;
    memcpy(data + len, filler, more);
    MODEL_CHECK(CALL(dassie_job_checkpoint)(job, data, len + more) == 0,
                "no checkpoint");
}

static void save_one(uint32_t number, dassie_job_t *job, struct dice *dice)
{
    struct fact *fact = &ledger->facts[number];
    uint32_t save = fact->saves + 1;
    int rc;
    fact->saves = save; /* before it can be seen */
    fact->saved_in = ledger->session;
    switch (dice_below(dice, 3)) {
        case 0:
            fact->checkpoint.last = save;
            save_checkpoint(number, job, dice, save);
            return;
        case 1:
            fact->done.last = save;
            rc = CALL(dassie_job_step)(job, save, UINT32_MAX);
            MODEL_CHECK(rc == 0 || rc == UV_ECANCELED || rc == UV_ETIMEDOUT,
                        "no step: %d", rc);
            return;
        default:
            fact->done.last = save;
            rc = CALL(dassie_job_progress)(job, save, 0, "on its way", 0);
            MODEL_CHECK(rc == 0, "no progress: %d", rc);
            return;
    }
}

void model_saves(uint32_t number, dassie_job_t *job)
{
    struct fact *fact = &ledger->facts[number];
    uint32_t attempt = CALL(dassie_job_attempt)(job);
    struct dice dice =
        dice_of(ledger->seed, number, (UINT64_C(5) << 32) + attempt);
    uint32_t checkpoint = checkpoint_read(number, job);
    ledger->resumed += checkpoint > 0;
    judge(number, &fact->checkpoint, checkpoint, "checkpoint");
    judge(number, &fact->done, CALL(dassie_job_resume_at)(job), "step");
    for (unsigned n = dice_below(&dice, 4); n > 0; n--) {
        save_one(number, job, &dice);
    }
}
