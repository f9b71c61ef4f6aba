#include "config.h"

#include "job.h"

#include "alloc.h"
#include "expire.h"
#include "lock.h"
#include "save.h"
#include "state.h"

#include <pthread.h>
#include <string.h>

/* Small jobs come from one thread and go at another, thousands a millisecond:
 * malloc would lock its arena for each and give the pages back in between. So
 * up to JOB_CACHE_MAX blocks of JOB_SMALL_BYTES are kept for the next ones. The
 * address sanitizer is to see each job come and go. */
#define JOB_SMALL_BYTES 512
#if !defined(__has_feature) /* gcc */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define JOB_CACHE_MAX 0
#else
#define JOB_CACHE_MAX 16384
#endif

static pthread_mutex_t cache_mutex = DASSIE__MUTEX_INITIALIZER;
static struct job_list cache;

static job_t *small_new(void)
{
    pthread_mutex_lock(&cache_mutex);
    job_t *job = job_list_pop(&cache);
    pthread_mutex_unlock(&cache_mutex);
    return job != NULL ? job : dassie__malloc(JOB_SMALL_BYTES);
}

job_t *dassie__job_new(size_t row_len, size_t extra)
{
    if (row_len + extra > SIZE_MAX - sizeof(job_t)) {
        return NULL;
    }
    size_t bytes = sizeof(job_t) + row_len + extra;
    bool small = bytes <= JOB_SMALL_BYTES;
    job_t *job = small ? small_new() : dassie__malloc(bytes);
    if (job != NULL) {
        memset(job, 0, sizeof *job);
        job->row_len = row_len;
        job->stored = row_len;
        job->state = STATE_NONE;
        job->kind = LINE_NORMAL;
        job->small = small;
    }
    return job;
}

job_t *dassie__job_copy(const job_t *job)
{
    job_t *copy = dassie__job_new(job->row_len, 0);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy->row, job->row, job->row_len);
    copy->queue = job->queue;
    copy->processor = job->processor;
    copy->id = job->id;
    copy->position = job->position;
    copy->due_ms = job->due_ms;
    copy->ready_ms = job->ready_ms;
    copy->last_run = job->last_run;
    copy->since_ms = job->since_ms;
    copy->attempts = job->attempts;
    copy->excused = job->excused;
    copy->crashes = job->crashes;
    copy->slot = job->slot;
    copy->state = job->state;
    copy->priority = job->priority;
    copy->flags = job->flags;
    copy->kind = job->kind;
    copy->history = job->history;
    copy->cancel_asked = job->cancel_asked;
    copy->timed_out = job->timed_out;
    copy->timeout_ns = job->timeout_ns;
    copy->stored = job->stored;
    return copy;
}

void dassie__job_times(job_t *job, const struct job_row *row)
{
    job->ready_ms = job_row_ready_ms(row);
    job->expires_ms = dassie__expire_of(row);
}

void dassie__job_free(job_t *job)
{
    struct job_list one = {job, job, 1};
    job->next = NULL;
    dassie__job_list_free(&one);
}

void dassie__job_list_free(struct job_list *list)
{
    struct job_list small = {0};
    job_t *job;
    while ((job = job_list_pop(list)) != NULL) {
        dassie__free(job->out);
        dassie__save_free(job->save);
        dassie__free(job->unique);
        if (job->small) {
            job_list_push(&small, job);
        } else {
            dassie__free(job);
        }
    }
    pthread_mutex_lock(&cache_mutex);
    if (cache.n + small.n <= JOB_CACHE_MAX) {
        job_list_append(&cache, &small);
    }
    pthread_mutex_unlock(&cache_mutex);
    while ((job = job_list_pop(&small)) != NULL) {
        dassie__free(job);
    }
}

void dassie__job_cache_clear(void)
{
    pthread_mutex_lock(&cache_mutex);
    struct job_list all = cache;
    cache = (struct job_list){0};
    pthread_mutex_unlock(&cache_mutex);
    job_t *job;
    while ((job = job_list_pop(&all)) != NULL) {
        dassie__free(job);
    }
}

size_t dassie__job_bytes(const job_t *job)
{
    return sizeof *job + job->row_len + job->out_len + dassie__save_bytes(job);
}

void dassie__job_begin(job_t *job)
{
    dassie__free(job->out);
    job->out = NULL;
    job->out_len = 0;
    job->status = 0;
}

void dassie__job_cancel(job_t *job)
{
    const char *text = dassie_strerror(UV_ECANCELED);
    job->status = UV_ECANCELED;
    dassie__job_set_out(job, text, strlen(text)); /* no text if no memory */
}

int dassie__job_set_out(job_t *job, const void *data, size_t len)
{
    void *copy = dassie__memdup(data, len);
    if (copy == NULL) {
        return UV_ENOMEM;
    }
    dassie__free(job->out);
    job->out = copy;
    job->out_len = len;
    return 0;
}
