/* verify_keys.c: judges who holds unique keys, and who has a timer; see
 * verify.h.
 *
 * A row of a key must be that of a job that may hold it, and a job that must
 * hold its key has it; one with a history may have lost it in a rebuild. A
 * key that is held for a time has a timer row, and the other way round. So has
 * a job with an expiry, as long as it waits for its first run. */
#include "config.h"

#include "verify.h"

#include <inttypes.h>
#include <string.h>

static uint32_t hash_of(const uint8_t *key, size_t len)
{
    uint32_t h = 0x811c9dc5;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ key[i]) * 0x01000193;
    }
    return h;
}

/* ---- Reading ---- */

int dassie__verify_read_unique(struct verify *v, struct kv_slice key,
                               struct kv_slice value)
{
    struct unique_row row;
    uint32_t queue;
    if (dassie__key_parse_unique(key.p, key.len, &queue) != 0) {
        dassie__verify_tell_row(v, FAMILY_UNIQUE, key, "not a key");
        return 0;
    }
    if (dassie__unique_row_read(value.p, value.len, &row) != 0) {
        dassie__verify_tell_row(v, FAMILY_UNIQUE, key, "unreadable");
        return 0;
    }
    if (dassie__verify_queue(v, queue) == NULL) {
        dassie__verify_tell_row(v, FAMILY_UNIQUE, key, "its queue has no name");
    }
    struct verify_entry entry = {row.id, row.expires_ms,
                                 VERIFY_UNIQUE | row.until,
                                 hash_of(key.p, key.len)};
    return dassie__verify_entry(v, &entry);
}

int dassie__verify_read_timer(struct verify *v, const struct due *due,
                              struct kv_slice key, struct kv_slice value)
{
    const uint8_t *unique = NULL;
    size_t len = 0;
    bool expiry = due->kind == DUE_EXPIRY;
    if (expiry
            ? value.len != 1 || value.p[0] != RECORD_VERSION
            : dassie__timer_row_read(value.p, value.len, &unique, &len) != 0) {
        dassie__verify_tell_row(v, FAMILY_SCHEDULED, key, "unreadable");
        return 0;
    }
    struct verify_entry entry = {due->id, due->ms, VERIFY_TIMER | due->kind,
                                 hash_of(unique, len)};
    return dassie__verify_entry(v, &entry);
}

/* ---- Judging ---- */

/* The key as its row has it; returns its length. */
static size_t key_of(const struct job_row *job, uint8_t key[KEY_UNIQUE_MAX])
{
    return dassie__key_unique(key, job->queue, job->options.key,
                              job->options.key_len);
}

/* What the job's row says of the row of its key. */
static bool is_its_key(const struct job_row *job,
                       const struct verify_entry *entry)
{
    const uint64_t *number = job->options.number;
    uint8_t key[KEY_UNIQUE_MAX];
    if (job->options.key_len == 0) {
        return false;
    }
    size_t len = key_of(job, key);
    uint64_t expires = number[JOB_UNIQUE] == DASSIE_UNTIL_TIME
                           ? job->enqueued_ms + number[JOB_UNIQUE_FOR]
                           : 0;
    if (expires > DASSIE_TIME_MS_MAX) {
        expires = DASSIE_TIME_MS_MAX;
    }
    return entry->attempts == hash_of(key, len) &&
           (entry->where & VERIFY_VALUE) == number[JOB_UNIQUE] &&
           entry->at == expires;
}

static const char *why_not(const struct verify_keyed *f, unsigned until)
{
    if (f->ended && until != DASSIE_UNTIL_TIME) {
        return "has ended";
    }
    if (f->running && until == DASSIE_UNTIL_STARTED) {
        return "has started";
    }
    return !f->there && until != DASSIE_UNTIL_TIME ? "is gone" : NULL;
}

static void judge_row(struct verify *v, const struct verify_keyed *f,
                      const struct verify_entry *entry)
{
    const char *why = why_not(f, entry->where & VERIFY_VALUE);
    if (why != NULL) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": unique row, but the job %s",
                            f->id, why);
    }
    if (f->job != NULL && !is_its_key(f->job, entry)) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": unique row, but its jobs row says otherwise",
                            f->id);
    }
}

/* Whether a job that waits or runs has to hold its key. One that has moved may
 * have started before, or lost it in a rebuild. */
static bool has_to_hold(const struct verify_keyed *f)
{
    if (f->job == NULL || f->ended || f->job->options.key_len == 0) {
        return false;
    }
    switch (f->job->options.number[JOB_UNIQUE]) {
        case DASSIE_UNTIL_ENDED:
            return !f->moved;
        case DASSIE_UNTIL_STARTED:
            return !f->moved && !f->running;
        default:
            return false;
    }
}

/* Of two that a rebuild found, the other may have it. */
static int judge_lack(struct verify *v, const struct verify_keyed *f)
{
    uint8_t key[KEY_UNIQUE_MAX];
    struct kv_value value;
    size_t len = key_of(f->job, key);
    int rc = v->kv->ops->get(v->kv, v->snapshot, FAMILY_UNIQUE,
                             kv_slice(key, len), &value, v->e);
    if (rc == 0) {
        v->kv->ops->value_release(&value); /* another one has it */
    } else if (rc == UV_ENOENT) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": does not hold its unique key", f->id);
        rc = 0;
    }
    return rc;
}

static void judge_timer(struct verify *v, uint64_t id,
                        const struct verify_entry *row,
                        const struct verify_entry *timer)
{
    if (timer == NULL) {
        dassie__verify_tell(
            v, id, "job %" PRIu64 ": unique row for a time, but no timer", id);
    } else if (row == NULL || row->at != timer->at ||
               row->attempts != timer->attempts) {
        dassie__verify_tell(
            v, id, "job %" PRIu64 ": timer of a key that it does not hold", id);
    }
}

static uint64_t expires(const struct job_row *job)
{
    uint64_t from = job->options.number[JOB_DUE];
    from = from != 0 ? from : job->enqueued_ms;
    uint64_t at = from + job->options.number[JOB_EXPIRE];
    return at < DASSIE_TIME_MS_MAX ? at : DASSIE_TIME_MS_MAX;
}

static void judge_expiry(struct verify *v, const struct verify_keyed *f)
{
    const struct verify_entry *timer = NULL;
    for (size_t i = 0; i < f->entries_n; i++) {
        if (f->entries[i].where == (VERIFY_TIMER | DUE_EXPIRY)) {
            if (timer != NULL) {
                dassie__verify_tell(v, f->id, "job %" PRIu64 ": two timers",
                                    f->id);
            }
            timer = &f->entries[i];
        }
    }
    if (f->job == NULL && f->there) {
        return;
    }
    bool has_to = f->fresh && f->job->options.number[JOB_EXPIRE] != 0;
    if ((timer != NULL) != has_to ||
        (timer != NULL && timer->at != expires(f->job))) {
        dassie__verify_tell(v, f->id,
                            timer != NULL ? "job %" PRIu64
                                            ": timer of an expiry that it "
                                            "does not have"
                                          : "job %" PRIu64
                                            ": no timer of its expiry",
                            f->id);
    }
}

int dassie__verify_judge_keys(struct verify *v, const struct verify_keyed *f)
{
    const struct verify_entry *row = NULL;
    const struct verify_entry *timer = NULL;
    for (size_t i = 0; i < f->entries_n; i++) {
        const struct verify_entry *entry = &f->entries[i];
        const struct verify_entry **at =
            verify_is(entry, VERIFY_UNIQUE)            ? &row
            : entry->where == (VERIFY_TIMER | DUE_KEY) ? &timer
                                                       : NULL;
        if (at != NULL && *at != NULL) {
            dassie__verify_tell(
                v, f->id, "job %" PRIu64 ": two unique or timer rows", f->id);
        } else if (at != NULL) {
            *at = entry;
        }
    }
    judge_expiry(v, f);
    if (row != NULL) {
        judge_row(v, f, row);
    }
    bool timed =
        row != NULL && (row->where & VERIFY_VALUE) == DASSIE_UNTIL_TIME;
    if (timed || timer != NULL) {
        judge_timer(v, f->id, row, timer);
    }
    return row == NULL && has_to_hold(f) ? judge_lack(v, f) : 0;
}
