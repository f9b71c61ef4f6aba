#include "config.h"

#include "claims.h"

#include "alloc.h"

#define FOLD_BELOW 8 /* an eighth */

int dassie__claims_load(struct store *s, uint64_t commit)
{
    struct claim_set *set = dassie__calloc(1, sizeof *set);
    if (set == NULL) {
        return UV_ENOMEM;
    }
    set->commit = commit;
    set->prev = s->newest;
    if (s->newest != NULL) {
        s->newest->next = set;
    } else {
        s->oldest = set;
    }
    s->newest = set;
    return 0;
}

static bool set_is_open(const struct store *s, const struct claim_set *set)
{
    return set->commit == s->commit;
}

int dassie__claims_prepare(struct store *s)
{
    if (s->newest != NULL && set_is_open(s, s->newest)) {
        return 0;
    }
    return dassie__claims_load(s, s->commit);
}

static void set_free(struct store *s, struct claim_set *set)
{
    s->refolded -= set->refolded;
    if (set->prev != NULL) {
        set->prev->next = set->next;
    } else {
        s->oldest = set->next;
    }
    if (set->next != NULL) {
        set->next->prev = set->prev;
    } else {
        s->newest = set->prev;
    }
    dassie__free(set);
}

static void set_delete(struct store *s, struct claim_set *set)
{
    uint8_t key[KEY_NUMBER_BYTES];
    dassie__key_number(key, set->commit);
    s->kv->ops->del(s->kv, FAMILY_RUNNING, kv_slice(key, sizeof key));
    s->changed = true;
    set_free(s, set);
}

static void set_link(struct claim_set *set, job_t *job)
{
    job->set = set;
    job->set_next = NULL;
    job->set_prev = set->tail;
    if (set->tail != NULL) {
        set->tail->set_next = job;
    } else {
        set->head = job;
    }
    set->tail = job;
    set->live++;
    set->total++;
}

static void set_link_first(struct claim_set *set, job_t *job)
{
    job->set = set;
    job->set_prev = NULL;
    job->set_next = set->head;
    if (set->head != NULL) {
        set->head->set_prev = job;
    } else {
        set->tail = job;
    }
    set->head = job;
    set->live++;
    set->total++;
}

static void set_unlink(struct claim_set *set, job_t *job)
{
    if (job->set_prev != NULL) {
        job->set_prev->set_next = job->set_next;
    } else {
        set->head = job->set_next;
    }
    if (job->set_next != NULL) {
        job->set_next->set_prev = job->set_prev;
    } else {
        set->tail = job->set_prev;
    }
    job->set = NULL;
    set->live--;
}

void dassie__claims_replace(job_t *job, job_t *copy)
{
    struct claim_set *set = job->set;
    copy->set = set;
    copy->set_prev = job->set_prev;
    copy->set_next = job->set_next;
    *(copy->set_prev != NULL ? &copy->set_prev->set_next : &set->head) = copy;
    *(copy->set_next != NULL ? &copy->set_next->set_prev : &set->tail) = copy;
    job->set = NULL;
}

void dassie__claims_add(struct store *s, job_t *job)
{
    set_link(s->newest, job);
}

/* What is left of set goes before all of the next newer one, so that claims
 * stay in their order; without memory to open one it just stays. */
static void set_fold(struct store *s, struct claim_set *set)
{
    if (set->next == NULL && dassie__claims_prepare(s) != 0) {
        return;
    }
    struct claim_set *into = set->next;
    while (set->tail != NULL) {
        job_t *job = set->tail;
        set_unlink(set, job);
        set_link_first(into, job);
    }
    s->refolded += !into->refolded && !set_is_open(s, into);
    into->refolded = !set_is_open(s, into);
    set_delete(s, set);
}

void dassie__claims_remove(struct store *s, job_t *job)
{
    struct claim_set *set = job->set;
    set_unlink(set, job);
    if (set_is_open(s, set)) {
        return; /* it was never written */
    }
    job->last_run = set->commit;
    if (set->live == 0) {
        set_delete(s, set);
    } else if (set->live < set->total / FOLD_BELOW) {
        set_fold(s, set);
    }
}

static void set_write(struct store *s, struct claim_set *set)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint64_t last = 0;
    size_t len = dassie__claim_set_begin(s->set_row);
    for (job_t *job = set->head; job != NULL; job = job->set_next) {
        struct claim_entry entry = {job->id, job->attempts + 1};
        len = dassie__claim_set_add(s->set_row, len, last, &entry);
        last = job->id;
    }
    set->total = set->live;
    dassie__key_number(key, set->commit);
    s->kv->ops->put(s->kv, FAMILY_RUNNING, kv_slice(key, sizeof key),
                    kv_slice(s->set_row, len));
}

void dassie__claims_write(struct store *s)
{
    struct claim_set *set = s->oldest;
    for (; s->refolded > 0; set = set->next) {
        if (set->refolded) {
            set->refolded = false;
            s->refolded--;
            set_write(s, set);
        }
    }
    set = s->newest;
    if (set == NULL || !set_is_open(s, set)) {
        return;
    }
    if (set->live == 0) {
        set_free(s, set);
    } else {
        set_write(s, set);
    }
}

uint64_t dassie__claims_oldest(const struct store *s)
{
    return s->oldest != NULL ? s->oldest->commit : s->commit;
}

void dassie__claims_free(struct store *s)
{
    while (s->oldest != NULL) {
        while (s->oldest->head != NULL) {
            job_t *job = s->oldest->head;
            set_unlink(s->oldest, job);
            dassie__job_free(job);
        }
        set_free(s, s->oldest);
    }
}
