#include "config.h"

#include "unique.h"

#include "alloc.h"
#include "retry.h"
#include "schedule.h"

#include <string.h>

/* ---- The overlay ---- */

int dassie__unique_init(struct overlay *overlay)
{
    overlay->bucket =
        dassie__calloc(UNIQUE_BUCKETS_MIN, sizeof overlay->bucket[0]);
    overlay->buckets = UNIQUE_BUCKETS_MIN;
    return overlay->bucket == NULL ? UV_ENOMEM : 0;
}

static size_t hash_of(const uint8_t *key, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++) {
        h = (h ^ key[i]) * UINT64_C(0x100000001b3);
    }
    return (size_t)(h ^ h >> 32);
}

static struct unique **bucket_of(struct overlay *overlay,
                                 const struct unique *u)
{
    return &overlay->bucket[hash_of(u->key, u->len) & (overlay->buckets - 1)];
}

static void unchain(struct overlay *overlay, struct unique *u)
{
    struct unique **at = bucket_of(overlay, u);
    while (*at != u) {
        at = &(*at)->next;
    }
    *at = u->next;
}

/* It becomes the newest of its key. */
static void chain(struct overlay *overlay, struct unique *u)
{
    struct unique **at = bucket_of(overlay, u);
    u->next = *at;
    *at = u;
}

static void overlay_add(struct overlay *overlay, struct unique *u)
{
    if (u->in_overlay) {
        unchain(overlay, u);
    } else {
        u->in_overlay = true;
        u->listed = overlay->list;
        u->listed_at = &overlay->list;
        if (u->listed != NULL) {
            u->listed->listed_at = &u->listed;
        }
        overlay->list = u;
        overlay->n++;
    }
    chain(overlay, u);
}

static struct unique *overlay_find(struct overlay *overlay,
                                   const struct unique *u)
{
    struct unique *at = *bucket_of(overlay, u);
    while (at != NULL &&
           (at->len != u->len || memcmp(at->key, u->key, u->len) != 0)) {
        at = at->next;
    }
    return at;
}

/* Each chain keeps its order. */
static void overlay_grow(struct overlay *overlay)
{
    size_t buckets = 4 * overlay->buckets;
    struct unique **grown = dassie__calloc(buckets, sizeof grown[0]);
    struct unique **old = overlay->bucket;
    size_t old_n = overlay->buckets;
    if (grown == NULL) {
        return; /* slower, and that is all */
    }
    overlay->bucket = grown;
    overlay->buckets = buckets;
    for (size_t i = 0; i < old_n; i++) {
        struct unique *reversed = NULL;
        while (old[i] != NULL) {
            struct unique *u = old[i];
            old[i] = u->next;
            u->next = reversed;
            reversed = u;
        }
        while (reversed != NULL) {
            struct unique *u = reversed;
            reversed = u->next;
            chain(overlay, u);
        }
    }
    dassie__free(old);
}

static void free_timers(struct overlay *overlay)
{
    while (overlay->timers != NULL) {
        struct unique *u = overlay->timers;
        overlay->timers = u->same;
        dassie__free(u);
    }
}

void dassie__unique_committed(struct overlay *overlay)
{
    while (overlay->list != NULL) {
        struct unique *u = overlay->list;
        overlay->list = u->listed;
        *bucket_of(overlay, u) = NULL;
        u->in_overlay = false;
    }
    overlay->n = 0;
    free_timers(overlay);
}

/* Jobs of a batch that came to nothing may be gone by now. */
void dassie__unique_free(struct overlay *overlay)
{
    free_timers(overlay);
    dassie__free(overlay->bucket);
    overlay->bucket = NULL;
}

/* ---- A job's key ---- */

static struct unique *unique_new(const uint8_t *key, size_t len)
{
    struct unique *u = dassie__calloc(1, sizeof *u + len);
    if (u != NULL) {
        memcpy(u->key, key, len);
        u->len = (uint16_t)len;
    }
    return u;
}

struct unique *dassie__unique_new(const struct job_row *row)
{
    const struct job_options *options = &row->options;
    uint8_t key[KEY_UNIQUE_MAX];
    size_t len =
        dassie__key_unique(key, row->queue, options->key, options->key_len);
    struct unique *u = unique_new(key, len);
    if (u != NULL) {
        u->until = (uint8_t)options->number[JOB_UNIQUE];
        u->expires_ms = u->until == DASSIE_UNTIL_TIME
                            ? dassie__time_add(row->enqueued_ms,
                                               options->number[JOB_UNIQUE_FOR])
                            : 0;
    }
    return u;
}

/* As of the last commit: row->id is 0 if nobody holds it. */
static int stored_find(struct store *s, const uint8_t *key, size_t len,
                       struct unique_row *row, struct errmsg *e)
{
    struct kv_value value;
    row->id = 0;
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_UNIQUE, kv_slice(key, len),
                             &value, e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__unique_row_read(value.p, value.len, row);
    s->kv->ops->value_release(&value);
    return rc == 0 ? 0 : dassie__errmsg_set(e, DASSIE_ECORRUPT, "a unique row");
}

int dassie__unique_load(struct store *s, job_t *job, const struct job_row *row,
                        struct errmsg *e)
{
    struct unique_row stored;
    if (row->options.key_len == 0) {
        return 0;
    }
    job->unique = dassie__unique_new(row);
    if (job->unique == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    int rc = stored_find(s, job->unique->key, job->unique->len, &stored, e);
    job->unique->held = rc == 0 && stored.id == job->id;
    return rc;
}

int dassie__unique_find(struct store *s, const job_t *job, uint64_t wall_ms,
                        uint64_t *id, struct unique **u, struct errmsg *e)
{
    struct unique *own = job->unique;
    struct unique_row row;
    put_be32(own->key, job->queue->id);
    struct unique *newest = overlay_find(&s->overlay, own);
    *u = newest != NULL && newest->reserved ? newest : NULL;
    *id = 0;
    own->gone.id = 0;
    if (*u != NULL) {
        return 0;
    }
    if (newest != NULL) {
        row.id = newest->holder;
        row.until = newest->until;
        row.expires_ms = newest->expires_ms;
    } else {
        int rc = stored_find(s, own->key, own->len, &row, e);
        if (rc != 0) {
            return rc;
        }
    }
    if (row.id != 0 && row.until == DASSIE_UNTIL_TIME &&
        row.expires_ms <= wall_ms) {
        own->gone = row; /* its timer row was not looked at yet */
    } else {
        *id = row.id;
    }
    return 0;
}

void dassie__unique_reserve(struct store *s, struct unique *u)
{
    if (s->overlay.n >= s->overlay.buckets) {
        overlay_grow(&s->overlay);
    }
    u->reserved = true;
    overlay_add(&s->overlay, u);
}

void dassie__unique_forgo(struct store *s, struct unique *u)
{
    if (!u->in_overlay) {
        return;
    }
    unchain(&s->overlay, u);
    *u->listed_at = u->listed;
    if (u->listed != NULL) {
        u->listed->listed_at = u->listed_at;
    }
    s->overlay.n--;
    u->in_overlay = false;
    u->reserved = false;
}

/* ---- Taking it and letting go ---- */

static void timer_remove(struct store *s, uint64_t ms, uint64_t id)
{
    struct due due = {ms, id, DUE_KEY};
    dassie__schedule_remove_row(s, &due);
}

static void timer_put(struct store *s, const struct unique *u, uint64_t id)
{
    uint8_t value[TIMER_ROW_MAX];
    struct due due = {u->expires_ms, id, DUE_KEY};
    size_t len = dassie__timer_row_write(value, u->key, u->len);
    dassie__schedule_put_row(s, &due, kv_slice(value, len));
}

static void take(struct store *s, job_t *job)
{
    struct unique *u = job->unique;
    uint8_t value[UNIQUE_ROW_MAX];
    struct unique_row row = {job->id, u->until, u->expires_ms};
    if (u->gone.id != 0) {
        timer_remove(s, u->gone.expires_ms, u->gone.id);
        u->gone.id = 0;
    }
    size_t len = dassie__unique_row_write(value, &row);
    s->kv->ops->put(s->kv, FAMILY_UNIQUE, kv_slice(u->key, u->len),
                    kv_slice(value, len));
    if (u->until == DASSIE_UNTIL_TIME) {
        timer_put(s, u, job->id);
    }
    overlay_add(&s->overlay, u);
    u->reserved = false;
    u->holder = job->id;
    u->held = true;
}

void dassie__unique_release(struct store *s, job_t *job)
{
    struct unique *u = job->unique;
    if (!u->held) {
        return;
    }
    s->kv->ops->del(s->kv, FAMILY_UNIQUE, kv_slice(u->key, u->len));
    if (u->until == DASSIE_UNTIL_TIME) {
        timer_remove(s, u->expires_ms, job->id);
    }
    overlay_add(&s->overlay, u);
    u->holder = 0;
    u->held = false;
}

/* Whether a job that is in a state now holds its key until there. */
static bool is_over(const struct unique *u, int state)
{
    bool waits = state == DASSIE_PENDING || state == DASSIE_SCHEDULED;
    switch (u->until) {
        case DASSIE_UNTIL_ENDED:
            return !waits && state != DASSIE_RUNNING;
        case DASSIE_UNTIL_STARTED:
            return !waits;
        default:
            return state == STATE_NONE;
    }
}

void dassie__unique_moved(struct store *s, job_t *job, int from,
                          enum event event)
{
    struct unique *u = job->unique;
    bool takes = from == STATE_NONE ||
                 (event == EVENT_AGAIN && u->until != DASSIE_UNTIL_TIME);
    if (is_over(u, job->state)) {
        dassie__unique_release(s, job);
        if (u->reserved) {
            dassie__unique_forgo(s, u);
        }
    } else if (takes) {
        take(s, job);
    }
}

int dassie__unique_expire(struct store *s, const struct due *due,
                          struct kv_slice value, struct errmsg *e)
{
    const uint8_t *key;
    size_t len;
    struct unique_row row;
    if (dassie__timer_row_read(value.p, value.len, &key, &len) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT, "timer row of job %llu",
                                  (unsigned long long)due->id);
    }
    int rc = stored_find(s, key, len, &row, e);
    if (rc != 0 || row.id != due->id || row.expires_ms != due->ms) {
        return rc; /* another one has it by now */
    }
    struct unique *u = unique_new(key, len);
    if (u == NULL) {
        return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    u->same = s->overlay.timers;
    s->overlay.timers = u;
    overlay_add(&s->overlay, u);
    s->kv->ops->del(s->kv, FAMILY_UNIQUE, kv_slice(key, len));
    s->changed = true;
    return 0;
}
