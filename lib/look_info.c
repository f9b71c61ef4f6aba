/* look_info.c: one job's rows, as the user is told of them; see look.h.
 *
 * The happy path is: the job's row, its end or its history, and what it has
 * saved become one info of the page, with one block of memory behind it.
 *
 * Possible failure modes are: no memory, a row that cannot be read
 * (DASSIE_ECORRUPT), a job that is not there (UV_ENOENT): the page is as
 * before.
 *
 * On close: dassie__look_free() frees the page. Threads: any. */
#include "config.h"

#include "look.h"

#include "alloc.h"
#include "expire.h"

#include <string.h>

static int look_row(struct look *look, enum family family, uint64_t id,
                    struct kv_value *value)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct errmsg ignored;
    struct kv *kv = look->store->kv;
    dassie__key_number(key, id);
    return kv->ops->get(kv, look->snapshot, family, kv_slice(key, sizeof key),
                        value, &ignored);
}

static void info_progress(dassie_info_t *info, const struct progress *progress)
{
    info->progress_done = progress->done;
    info->progress_total = progress->total;
    info->progress = progress->text;
    info->progress_len = progress->text_len;
}

/* What a job that is not running has saved. */
static int look_saved(struct look *look, uint64_t id, struct progress **out)
{
    uint8_t key[KEY_SAVE_BYTES];
    struct errmsg ignored;
    struct kv *kv = look->store->kv;
    struct kv_value value;
    struct save_row row;
    dassie__key_save(key, id);
    int rc = kv->ops->get(kv, look->snapshot, FAMILY_RUNNING,
                          kv_slice(key, sizeof key), &value, &ignored);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__save_row_read(value.p, value.len, &row) == 0 ? 0
                                                              : DASSIE_ECORRUPT;
    if (rc == 0) {
        *out = dassie__calloc(1, sizeof **out);
        rc = *out != NULL ? 0 : UV_ENOMEM;
    }
    if (rc == 0) {
        (*out)->done = row.done;
        (*out)->total = row.total;
        (*out)->text_len = row.text_len;
        memcpy((*out)->text, row.text, row.text_len);
    }
    kv->ops->value_release(&value);
    return rc;
}

static void info_options(dassie_info_t *info, const struct job_row *job)
{
    info->unique = job->options.key;
    info->unique_len = job->options.key_len;
    info->unique_until = (dassie_until_t)job->options.number[JOB_UNIQUE];
    info->expires_ms = dassie__expire_of(job);
}

static int info_job(dassie_info_t *info, struct look *look, const uint8_t *row,
                    size_t len)
{
    struct job_row job;
    if (dassie__job_row_read(row, len, &job) != 0 ||
        job.queue >= look->queues_n) {
        return DASSIE_ECORRUPT;
    }
    const struct queue *q = look->store->queues.by_id[job.queue];
    info->flags = job.flags;
    info->priority = job.priority;
    info->enqueued_ms = job.enqueued_ms;
    info->queue = q->name;
    info->queue_len = q->name_len;
    info->name = job.name;
    info->name_len = job.name_len;
    info->data = job.data;
    info->data_len = job.data_len;
    info_options(info, &job);
    if ((info->state == DASSIE_PENDING || info->state == DASSIE_SCHEDULED) &&
        job.options.number[JOB_DUE] != 0) {
        info->state = DASSIE_SCHEDULED; /* unless its history says otherwise */
        info->due_ms = job.options.number[JOB_DUE];
    }
    return 0;
}

static int info_end(dassie_info_t *info, const uint8_t *row, size_t len)
{
    struct end_row end;
    if (dassie__end_row_read(row, len, &end) != 0) {
        return DASSIE_ECORRUPT;
    }
    info->attempts = end.attempts;
    info->crashes = end.crashes;
    info->ended_ms = end.ended_ms;
    if (info->state == DASSIE_COMPLETE) {
        info->result = end.data;
        info->result_len = end.data_len;
    } else {
        info->error_code = end.code;
        info->error = (const char *)end.data;
        info->error_len = end.data_len;
    }
    return 0;
}

/* Which terminal row the job has: 1 with *value, 0 none, or an error. */
static int look_end(struct look *look, dassie_info_t *info,
                    struct kv_value *value)
{
    static const dassie_state_t states[] = {DASSIE_COMPLETE, DASSIE_FAILED,
                                            DASSIE_CANCELLED};
    static const enum family families[] = {FAMILY_COMPLETE, FAMILY_FAILED,
                                           FAMILY_CANCELLED};
    for (int i = 0; i < 3; i++) {
        int rc = look_row(look, families[i], info->id, value);
        if (rc == 0) {
            info->state = states[i];
            return 1;
        }
        if (rc != UV_ENOENT) {
            return rc;
        }
    }
    return 0;
}

/* Of a job that has not ended. */
static int info_history(dassie_info_t *info, const uint8_t *row, size_t len)
{
    struct history_row history;
    if (dassie__history_row_read(row, len, &history) != 0) {
        return DASSIE_ECORRUPT;
    }
    info->excused = history.excused;
    info->crashes = history.crashes;
    if (info->state == DASSIE_RUNNING) {
        return 0;
    }
    bool waits = history.kind == PLACE_SCHEDULED;
    info->state = waits ? DASSIE_SCHEDULED : DASSIE_PENDING;
    info->due_ms = waits ? history.position : 0;
    info->attempts = history.attempts;
    info->error_code = history.code;
    info->error = (const char *)history.error;
    info->error_len = history.error_len;
    return 0;
}

/* Keeps copies of both rows in one block: the job's and that of its end or, if
 * it has none, its history (NULL: none either). */
static int info_keep(struct look *look, dassie_info_t *info,
                     const struct kv_value *row, const struct kv_value *end,
                     bool ended)
{
    size_t end_len = end != NULL ? end->len : 0;
    uint8_t *block = dassie__malloc(row->len + end_len + 1);
    if (block == NULL) {
        return UV_ENOMEM;
    }
    memcpy(block, row->p, row->len);
    if (end != NULL) {
        memcpy(block + row->len, end->p, end_len);
    }
    block[row->len + end_len] = 0;
    int rc = info_job(info, look, block, row->len);
    if (rc == 0 && end != NULL) {
        rc = ended ? info_end(info, block + row->len, end_len)
                   : info_history(info, block + row->len, end_len);
    }
    if (rc != 0) {
        dassie__free(block);
        return rc;
    }
    look->blocks[look->n++] = block;
    look->bytes += row->len + end_len;
    return 0;
}

/* Keeps the progress of the job that was added last, if it could be. */
static void look_progress(struct look *look, dassie_info_t *info,
                          struct progress *progress, int rc)
{
    if (rc != 0) {
        dassie__free(progress);
    } else if (progress != NULL) {
        look->saved[look->n - 1] = progress;
        info_progress(info, progress);
    }
}

int dassie__look_add(struct look *look, uint64_t id, dassie_state_t state,
                     uint32_t attempts)
{
    struct kv *kv = look->store->kv;
    dassie_info_t *info = &look->infos[look->n];
    struct kv_value row;
    struct kv_value end;
    int rc = look_row(look, FAMILY_JOBS, id, &row);
    if (rc != 0) {
        return rc;
    }
    memset(info, 0, sizeof *info);
    info->id = id;
    info->state = state;
    info->attempts = attempts;
    rc = look_end(look, info, &end);
    bool ended = rc == 1;
    bool more = ended;
    if (rc == 0) {
        rc = look_row(look, FAMILY_HISTORY, id, &end);
        more = rc == 0;
        rc = rc == UV_ENOENT ? 0 : rc;
    }
    struct progress *saved = NULL;
    if (rc >= 0 && more && info->state != DASSIE_RUNNING &&
        info->state != DASSIE_COMPLETE) {
        rc = look_saved(look, id, &saved);
    }
    if (rc >= 0) {
        rc = info_keep(look, info, &row, more ? &end : NULL, ended);
    }
    if (more) {
        kv->ops->value_release(&end);
    }
    kv->ops->value_release(&row);
    look_progress(look, info, saved, rc);
    return rc;
}

int dassie__look_add_run(struct look *look, struct look_run *run)
{
    dassie_info_t *info = &look->infos[look->n];
    struct progress *progress = run->progress;
    int rc = dassie__look_add(look, run->id, DASSIE_RUNNING, run->attempts);
    run->progress = NULL;
    look_progress(look, info, progress, rc);
    return rc;
}

void dassie__count_copy(dassie_count_t *count, const struct tally *tally)
{
    count->pending = tally->pending;
    count->scheduled = tally->scheduled;
    count->running = tally->running;
    count->complete = tally->complete;
    count->failed = tally->failed;
    count->cancelled = tally->cancelled;
}

void dassie__look_info(const job_t *job, dassie_info_t *info)
{
    struct job_row row;
    memset(info, 0, sizeof *info);
    if (job->save != NULL) {
        info_progress(info, &job->save->progress);
    }
    info->id = job->id;
    info->state = (dassie_state_t)job->state;
    info->attempts = job->attempts;
    info->crashes = job->crashes;
    info->ended_ms = job->ended_ms;
    info->flags = job->flags;
    info->priority = job->priority;
    info->queue = job->queue->name;
    info->queue_len = job->queue->name_len;
    if (dassie__job_row_read(job->row, job->row_len, &row) == 0) {
        info->enqueued_ms = row.enqueued_ms;
        info->name = row.name;
        info->name_len = row.name_len;
        info_options(info, &row);
    }
    if (job->state == DASSIE_COMPLETE) {
        info->result = job->out;
        info->result_len = job->out_len;
    } else {
        info->error_code = job->status;
        info->error = job->out;
        info->error_len = job->out_len;
    }
}
