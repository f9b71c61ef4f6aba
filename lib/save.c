#include "config.h"

#include "save.h"

#include "alloc.h"
#include "lock.h"
#include "store.h"

#include <pthread.h>
#include <string.h>

/* One for all jobs: it is held for some instructions, never for a copy of a
 * checkpoint or a word to the database. */
static pthread_mutex_t save_mutex = DASSIE__MUTEX_INITIALIZER;

/* ---- While the job runs ---- */

static struct save *save_new(job_t *job)
{
    struct save *save = dassie__calloc(1, sizeof *save);
    if (save != NULL) {
        save->job = job;
    }
    return save;
}

/* The job's, made if need be. NULL: no memory. Holds the mutex. */
static struct save *save_of(job_t *job)
{
    if (job->save == NULL) {
        job->save = save_new(job);
    }
    return job->save;
}

/* Holds the mutex. */
static struct op *save_post(struct save *save, bool urgent)
{
    bool posted = save->posted;
    save->urgent |= urgent;
    save->posted = true;
    return posted ? NULL : &save->op;
}

int dassie__save_progress(job_t *job, const struct progress *progress,
                          struct op **op)
{
    *op = NULL;
    pthread_mutex_lock(&save_mutex);
    struct save *save = save_of(job);
    if (save != NULL) {
        save->progress = *progress;
        save->said = true;
        *op = save_post(save, false);
    }
    pthread_mutex_unlock(&save_mutex);
    return save != NULL ? 0 : UV_ENOMEM;
}

int dassie__save_step(job_t *job, uint64_t done, uint64_t total, struct op **op)
{
    *op = NULL;
    pthread_mutex_lock(&save_mutex);
    struct save *save = save_of(job);
    if (save != NULL) {
        save->progress.done = done;
        save->progress.total = total;
        save->said = true;
        *op = save_post(save, true);
    }
    pthread_mutex_unlock(&save_mutex);
    return save != NULL ? 0 : UV_ENOMEM;
}

int dassie__save_checkpoint(job_t *job, const void *data, size_t len,
                            struct op **op)
{
    void *copy = len > 0 ? dassie__memdup(data, len) : NULL;
    void *old = copy;
    *op = NULL;
    if (len > 0 && copy == NULL) {
        return UV_ENOMEM;
    }
    pthread_mutex_lock(&save_mutex);
    struct save *save = save_of(job);
    if (save != NULL) {
        old = save->data;
        save->data = copy;
        save->len = len;
        save->replaced = true;
        save->replacements++;
        *op = save_post(save, true);
    }
    pthread_mutex_unlock(&save_mutex);
    dassie__free(old);
    return save != NULL ? 0 : UV_ENOMEM;
}

const struct save *dassie__save_find(const job_t *job)
{
    pthread_mutex_lock(&save_mutex);
    const struct save *save = job->save;
    pthread_mutex_unlock(&save_mutex);
    return save;
}

bool dassie__save_get(const job_t *job, struct progress *progress)
{
    pthread_mutex_lock(&save_mutex);
    const struct save *save = job->save;
    if (save != NULL) {
        *progress = save->progress;
    }
    pthread_mutex_unlock(&save_mutex);
    return save != NULL;
}

/* ---- Rows ---- */

static struct kv_slice save_key(uint8_t key[KEY_SAVE_BYTES], uint64_t id)
{
    dassie__key_save(key, id);
    return kv_slice(key, KEY_SAVE_BYTES);
}

/* What is to be written, taken from the job's thread and given back. */
struct taken {
    struct progress progress;
    void *data;
    size_t len;
    bool replaced;
    unsigned replacements;
    bool said;
};

static void save_take_out(struct save *save, struct taken *t, bool last)
{
    pthread_mutex_lock(&save_mutex);
    t->progress = save->progress;
    t->said = save->said;
    save->said = false;
    t->data = save->data;
    t->len = save->len;
    t->replaced = save->replaced;
    t->replacements = save->replacements;
    save->data = NULL;
    save->urgent = false;
    save->posted = last;
    pthread_mutex_unlock(&save_mutex);
}

/* A checkpoint that is the last one is written again with later progress. */
static void save_put_back(struct save *save, const struct taken *t)
{
    void *old = t->data;
    pthread_mutex_lock(&save_mutex);
    if (save->replacements == t->replacements) {
        save->data = t->data;
        old = NULL;
    }
    pthread_mutex_unlock(&save_mutex);
    dassie__free(old);
}

/* Returns its bytes. last: it is not posted any more, whoever still has the job
 * and saves something, as the last operation may be on its way yet. */
static size_t save_put(struct store *s, struct save *save, bool last)
{
    uint8_t key[KEY_SAVE_BYTES];
    uint8_t head[SAVE_ROW_HEAD_MAX];
    struct taken t;
    save_take_out(save, &t, last);
    struct save_row row = {.done = t.progress.done,
                           .total = t.progress.total,
                           .text = t.progress.text,
                           .text_len = t.progress.text_len,
                           .data = t.replaced ? t.data : save->kept,
                           .data_len = t.replaced ? t.len : save->kept_len};
    size_t len = dassie__save_row_write_head(head, &row);
    s->kv->ops->put2(s->kv, FAMILY_RUNNING, save_key(key, save->job->id),
                     kv_slice(head, len), kv_slice(row.data, row.data_len));
    save_put_back(save, &t);
    if (t.said) {
        dassie__store_tell(s, save->job, &t.progress);
    }
    s->changed = true;
    save->stored = true;
    return len + row.data_len;
}

void dassie__save_delete(struct store *s, uint64_t id)
{
    uint8_t key[KEY_SAVE_BYTES];
    s->kv->ops->del(s->kv, FAMILY_RUNNING, save_key(key, id));
    s->changed = true;
}

static int save_take(job_t *job, const struct kv_value *value)
{
    struct save_row row;
    if (dassie__save_row_read(value->p, value->len, &row) != 0) {
        return DASSIE_ECORRUPT;
    }
    struct save *save = save_new(job);
    if (save == NULL) {
        return UV_ENOMEM;
    }
    if (row.data_len > 0) {
        save->kept = dassie__memdup(row.data, row.data_len);
        if (save->kept == NULL) {
            dassie__free(save);
            return UV_ENOMEM;
        }
        save->kept_len = row.data_len;
    }
    save->resume_at = row.done;
    save->stored = true;
    save->progress.done = row.done;
    save->progress.total = row.total;
    save->progress.text_len = row.text_len;
    memcpy(save->progress.text, row.text, row.text_len);
    job->save = save;
    return 0;
}

int dassie__save_load(struct store *s, job_t *job, struct errmsg *e)
{
    uint8_t key[KEY_SAVE_BYTES];
    struct kv_value value;
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_RUNNING,
                             save_key(key, job->id), &value, e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = save_take(job, &value);
    s->kv->ops->value_release(&value);
    return rc == 0 ? 0
                   : dassie__errmsg_set(e, rc, "what job %llu has saved",
                                        (unsigned long long)job->id);
}

/* ---- The list ---- */

void dassie__saves_add(struct saves *saves, struct op *op, uint64_t mono_ns)
{
    struct save *save = (struct save *)op;
    save->due = mono_ns + SAVE_NS;
    save->listed = true;
    save->next = NULL;
    save->prev = saves->tail;
    if (saves->tail != NULL) {
        saves->tail->next = save;
    } else {
        saves->head = save;
    }
    saves->tail = save;
}

static void saves_remove(struct saves *saves, struct save *save)
{
    if (save->prev != NULL) {
        save->prev->next = save->next;
    } else {
        saves->head = save->next;
    }
    if (save->next != NULL) {
        save->next->prev = save->prev;
    } else {
        saves->tail = save->prev;
    }
    save->listed = false;
}

static bool flag_get(const bool *flag)
{
    pthread_mutex_lock(&save_mutex);
    bool is = *flag;
    pthread_mutex_unlock(&save_mutex);
    return is;
}

uint64_t dassie__saves_write(struct saves *saves, struct store *s,
                             uint64_t mono_ns)
{
    struct save *save = saves->head;
    struct save *next;
    size_t bytes = 0;
    if (save == NULL) {
        return UINT64_MAX;
    }
    bool commits = store_changed(s) || save->due <= mono_ns;
    for (; save != NULL && bytes < SAVE_BATCH_BYTES_MAX; save = next) {
        next = save->next;
        if (save->due <= mono_ns || (commits && flag_get(&save->urgent))) {
            saves_remove(saves, save);
            bytes += save_put(s, save, false);
        }
    }
    return saves->head != NULL ? saves->head->due : UINT64_MAX;
}

void dassie__saves_end(struct saves *saves, struct store *s, job_t *job,
                       bool complete)
{
    struct save *save = job->save;
    if (save == NULL) {
        return;
    }
    if (save->listed) {
        saves_remove(saves, save);
    }
    if (!complete && flag_get(&save->posted)) {
        save_put(s, save, true);
    }
    if (save->stored && complete) {
        dassie__save_delete(s, job->id);
    }
}

/* ---- Memory ---- */

size_t dassie__save_bytes(const job_t *job)
{
    return job->save != NULL ? sizeof *job->save + job->save->kept_len : 0;
}

void dassie__save_free(struct save *save)
{
    if (save != NULL) {
        dassie__free(save->kept);
        dassie__free(save->data);
        dassie__free(save);
    }
}
