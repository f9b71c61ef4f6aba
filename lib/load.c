/* load.c: how a store comes back from disk; see store.h.
 *
 * The queues' rows hold counts and cursors as of the last fold; the commits
 * since then are replayed over them. Values are absolute, so the last one
 * wins. A commit that is missing in between is damage. */
#include "config.h"

#include "alloc.h"
#include "claims.h"
#include "expire.h"

#include <string.h>

static int damaged(struct errmsg *e, const char *what)
{
    return dassie__errmsg_set(e, DASSIE_ECORRUPT, "%s", what);
}

static int no_memory(struct errmsg *e)
{
    return dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
}

static int load_store_row(struct store *s, struct errmsg *e)
{
    struct kv_value value;
    struct part_reader r;
    struct store_row row;
    s->next = 1;
    s->commit = 1;
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_META, kv_string(KEY_STORE),
                             &value, e);
    if (rc == UV_ENOENT) {
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    rc = dassie__store_row_read(&r, value.p, value.len, &row);
    s->kv->ops->value_release(&value);
    if (rc != 0) {
        return damaged(e, "the store's row");
    }
    s->next = row.next;
    s->schedule = row.schedule;
    s->folded = row.folded;
    s->commit = row.folded + 1;
    return 0;
}

/* A row's key and value, and what to do with it. */
typedef int (*row_cb)(struct store *s, struct kv_slice key,
                      struct kv_slice value, struct errmsg *e);

static int each_row(struct store *s, enum family family, struct kv_slice from,
                    struct kv_slice to, row_cb cb, struct errmsg *e)
{
    const struct kv_ops *ops = s->kv->ops;
    struct kv_iter *it = ops->iter(s->kv, NULL, family, from, to);
    struct errmsg ignored;
    int rc = 0;
    if (it == NULL) {
        return no_memory(e);
    }
    while (rc == 0 && ops->iter_valid(it)) {
        rc = cb(s, ops->iter_key(it), ops->iter_value(it), e);
        if (rc == 0) {
            ops->iter_next(it);
        }
    }
    int failed = ops->iter_close(it, rc == 0 ? e : &ignored);
    return rc != 0 ? rc : failed;
}

static int load_name(struct store *s, struct kv_slice key,
                     struct kv_slice value, struct errmsg *e)
{
    const char *name;
    size_t len;
    uint32_t id;
    char tag;
    struct queue *q;
    if (dassie__key_parse_queue(key.p, key.len, &tag, &id) != 0 ||
        id != s->queues.n ||
        dassie__name_row_read(value.p, value.len, &name, &len) != 0 ||
        dassie__queues_find(&s->queues, name, len) != NULL) {
        return damaged(e, "a queue's name");
    }
    int rc = dassie__queues_add(&s->queues, name, len, &q);
    return rc == 0 ? 0 : dassie__errmsg_set(e, rc, "%s", dassie_strerror(rc));
}

static int load_settings(struct store *s, struct kv_slice key,
                         struct kv_slice value, struct errmsg *e)
{
    uint32_t id;
    char tag;
    if (dassie__key_parse_queue(key.p, key.len, &tag, &id) != 0 ||
        id >= s->queues.n ||
        dassie__settings_row_read(value.p, value.len,
                                  &s->queues.by_id[id]->settings) != 0) {
        return damaged(e, "a queue's settings");
    }
    dassie__queue_tell(s->queues.by_id[id]);
    return 0;
}

static int load_line(struct store *s, struct queue *q, struct part_reader *r,
                     struct errmsg *e)
{
    struct line_row row;
    if (dassie__line_part_read(r, &row) != 0) {
        return damaged(e, "a line's counts");
    }
    if (dassie__store_lines(s, q, row.priority) != 0) {
        return no_memory(e);
    }
    struct line *line = dassie__queue_line(q, row.priority, row.kind);
    dassie__line_set(line, &row);
    line->window_end = row.cursor > 0 ? row.cursor - 1 : 0;
    return 0;
}

static int load_part(struct store *s, struct part_reader *r, struct errmsg *e)
{
    struct tally tally;
    uint32_t id;
    uint32_t lines;
    if (dassie__queue_part_read(r, &id, &tally, &lines) != 0 ||
        id >= s->queues.n) {
        return damaged(e, "a queue's counts");
    }
    s->queues.by_id[id]->tally = tally;
    for (uint32_t i = 0; i < lines; i++) {
        int rc = load_line(s, s->queues.by_id[id], r, e);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int load_counts(struct store *s, struct kv_slice key,
                       struct kv_slice value, struct errmsg *e)
{
    struct part_reader r = {value.p + 1, value.p + value.len};
    (void)key;
    if (value.len < 1 || value.p[0] != RECORD_VERSION) {
        return damaged(e, "a queue's row");
    }
    return load_part(s, &r, e);
}

static int load_commit(struct store *s, struct kv_slice key,
                       struct kv_slice value, struct errmsg *e)
{
    struct part_reader r;
    struct store_row row;
    uint64_t number;
    if (dassie__key_parse_number(key.p, key.len, &number) != 0 ||
        dassie__store_row_read(&r, value.p, value.len, &row) != 0) {
        return damaged(e, "a commit's row");
    }
    if (number == s->folded) {
        return 0;
    }
    if (number != s->commit) {
        return damaged(e, "a commit is missing");
    }
    for (uint32_t i = 0; i < row.queues; i++) {
        int rc = load_part(s, &r, e);
        if (rc != 0) {
            return rc;
        }
    }
    s->next = row.next;
    s->schedule = row.schedule;
    s->commit = number + 1;
    return 0;
}

/* Sums up what the lines say. */
static void load_totals(struct store *s)
{
    for (uint32_t i = 0; i < s->queues.n; i++) {
        struct queue *q = s->queues.by_id[i];
        dassie__queue_loaded(&s->queues, q);
        q->unfolded = true;
        q->unfolded_next = s->queues.unfolded;
        s->queues.unfolded = q;
        for (unsigned l = 0; l < q->lines_n; l++) {
            s->suspects += q->lines[l]->kind[LINE_SUSPECT].row.live;
            for (int k = 0; k < LINE_KINDS; k++) {
                s->dead_rows += q->lines[l]->kind[k].row.dead;
            }
        }
    }
}

static int load_rows(struct store *s, struct errmsg *e)
{
    static const char name_from[] = {KEY_NAME_TAG};
    static const char name_to[] = {KEY_NAME_TAG + 1};
    static const char settings_from[] = {KEY_SETTINGS_TAG};
    static const char settings_to[] = {KEY_SETTINGS_TAG + 1};
    static const char counts_from[] = {KEY_COUNTS_TAG};
    static const char counts_to[] = {KEY_COUNTS_TAG + 1};
    static const uint8_t end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff};
    uint8_t from[KEY_NUMBER_BYTES];
    int rc = load_store_row(s, e);
    if (rc == 0) {
        rc = each_row(s, FAMILY_META, kv_slice(name_from, 1),
                      kv_slice(name_to, 1), load_name, e);
        s->named = s->queues.n;
    }
    if (rc == 0) {
        rc = each_row(s, FAMILY_META, kv_slice(settings_from, 1),
                      kv_slice(settings_to, 1), load_settings, e);
    }
    if (rc == 0) {
        rc = each_row(s, FAMILY_META, kv_slice(counts_from, 1),
                      kv_slice(counts_to, 1), load_counts, e);
    }
    if (rc == 0) {
        dassie__key_number(from, s->folded);
        rc = each_row(s, FAMILY_COMMITS, kv_slice(from, sizeof from),
                      kv_slice(end, sizeof end), load_commit, e);
    }
    return rc;
}

int dassie__store_open(struct store *s, struct kv *kv, size_t window_max,
                       bool sync, struct errmsg *e)
{
    memset(s, 0, sizeof *s);
    s->kv = kv;
    s->window_max = window_max;
    s->sync = sync;
    s->dead_end = &s->dead;
    int rc = load_rows(s, e);
    if (rc == 0) {
        load_totals(s);
        s->set_row = dassie__malloc(1 + DASSIE_CLAIMED_MAX * CLAIM_ENTRY_MAX);
        s->taken = dassie__malloc(TAKEN_MAX * sizeof s->taken[0]);
        rc = s->set_row == NULL || s->taken == NULL ||
                     dassie__unique_init(&s->overlay) != 0 ||
                     dassie__store_make_room(s) != 0
                 ? no_memory(e)
                 : 0;
    }
    if (rc != 0) {
        dassie__queues_free(&s->queues);
        dassie__free(s->commit_row);
        dassie__free(s->set_row);
        dassie__free(s->taken);
        dassie__unique_free(&s->overlay);
    }
    return rc;
}

/* ---- Claims ---- */

struct claim_load {
    struct job_list *out;
    uint64_t commit;
};

/* 0: the job has ended; 1: it has not. */
static int has_not_ended(struct store *s, struct kv_slice key, struct errmsg *e)
{
    static const enum family ends[] = {FAMILY_COMPLETE, FAMILY_FAILED,
                                       FAMILY_CANCELLED};
    struct kv_value value;
    for (int i = 0; i < 3; i++) {
        int rc = s->kv->ops->get(s->kv, NULL, ends[i], key, &value, e);
        if (rc == 0) {
            s->kv->ops->value_release(&value);
            return 0;
        }
        if (rc != UV_ENOENT) {
            return rc;
        }
    }
    return 1;
}

int dassie__store_ended(struct store *s, uint64_t id)
{
    uint8_t bytes[KEY_NUMBER_BYTES];
    struct kv_value value;
    struct errmsg ignored;
    if (id == 0 || id >= s->next) {
        return UV_ENOENT;
    }
    dassie__key_number(bytes, id);
    struct kv_slice key = kv_slice(bytes, sizeof bytes);
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_JOBS, key, &value, &ignored);
    if (rc != 0) {
        return rc;
    }
    s->kv->ops->value_release(&value);
    rc = has_not_ended(s, key, &ignored);
    return rc < 0 ? rc : !rc;
}

static int take_history(job_t *job, const struct kv_value *value,
                        struct errmsg *e)
{
    struct history_row history;
    if (dassie__history_row_read(value->p, value->len, &history) != 0) {
        return dassie__errmsg_set(e, DASSIE_ECORRUPT, "history of job %llu",
                                  (unsigned long long)job->id);
    }
    job->attempts = history.attempts;
    job->excused = history.excused;
    job->crashes = history.crashes;
    job->last_run = history.last_run;
    job->since_ms = history.since_ms;
    job->history = true;
    if (history.kind < LINE_KINDS) {
        job->kind = history.kind;
        job->position = history.position;
    } else {
        job->due_ms = history.position;
    }
    if (job->state == DASSIE_PENDING || job->state == DASSIE_SCHEDULED) {
        job->state =
            history.kind < LINE_KINDS ? DASSIE_PENDING : DASSIE_SCHEDULED;
    }
    job->status = history.code;
    if (history.error_len > 0 &&
        dassie__job_set_out(job, history.error, history.error_len) != 0) {
        return no_memory(e);
    }
    return 0;
}

int dassie__store_history(struct store *s, job_t *job, struct errmsg *e)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct kv_value value;
    dassie__key_number(key, job->id);
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_HISTORY,
                             kv_slice(key, sizeof key), &value, e);
    if (rc == UV_ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = take_history(job, &value, e);
        s->kv->ops->value_release(&value);
    }
    return rc;
}

static int job_of_row(struct store *s, uint64_t id,
                      const struct kv_value *value, job_t **out,
                      struct errmsg *e)
{
    struct job_row row;
    if (dassie__job_row_read(value->p, value->len, &row) != 0 ||
        row.queue >= s->queues.n) {
        return damaged(e, "the row of a claimed job");
    }
    struct queue *q = s->queues.by_id[row.queue];
    job_t *job = dassie__job_new(0, 0);
    if (job == NULL) {
        return no_memory(e);
    }
    job->id = id;
    job->queue = q;
    job->priority = row.priority;
    job->flags = row.flags;
    job->state = DASSIE_RUNNING;
    job->stored = value->len;
    dassie__job_times(job, &row);
    int rc = dassie__store_lines(s, q, row.priority) != 0
                 ? no_memory(e)
                 : dassie__unique_load(s, job, &row, e);
    if (rc != 0) {
        dassie__job_free(job);
        return rc;
    }
    *out = job;
    return 0;
}

/* The job of a live entry, without its payload. */
static int read_job(struct store *s, uint64_t id, struct kv_slice key,
                    job_t **out, struct errmsg *e)
{
    struct kv_value value;
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_JOBS, key, &value, e);
    if (rc != 0) {
        return rc;
    }
    rc = job_of_row(s, id, &value, out, e);
    s->kv->ops->value_release(&value);
    return rc;
}

static int load_entry(struct store *s, const struct claim_entry *entry,
                      struct job_list *out, struct errmsg *e)
{
    uint8_t bytes[KEY_NUMBER_BYTES];
    job_t *job = NULL;
    dassie__key_number(bytes, entry->id);
    struct kv_slice key = kv_slice(bytes, sizeof bytes);
    int rc = has_not_ended(s, key, e);
    if (rc != 1) {
        return rc;
    }
    rc = read_job(s, entry->id, key, &job, e);
    if (rc != 0) { /* what is gone was deleted after its end */
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__store_history(s, job, e);
    if (rc != 0 || job->last_run >= s->newest->commit) {
        dassie__job_free(job);
        return rc;
    }
    job->attempts = entry->attempt - 1;
    dassie__claims_add(s, job);
    job_list_push(out, job);
    return 0;
}

static int load_set(struct store *s, uint64_t commit, struct kv_slice value,
                    struct job_list *out, struct errmsg *e)
{
    struct claim_reader r;
    struct claim_entry entry;
    int more;
    if (dassie__claims_load(s, commit) != 0) {
        return no_memory(e);
    }
    if (dassie__claim_set_open(&r, value.p, value.len) != 0) {
        return damaged(e, "a claim set");
    }
    while ((more = dassie__claim_set_next(&r, &entry)) == 1) {
        int rc = load_entry(s, &entry, out, e);
        if (rc != 0) {
            return rc;
        }
    }
    return more < 0 ? damaged(e, "a claim set") : 0;
}

/* Where the sets begin: what the last commit said, or the store's row. */
static int load_oldest(struct store *s, uint64_t *oldest, struct errmsg *e)
{
    uint8_t bytes[KEY_NUMBER_BYTES];
    struct kv_value value;
    struct part_reader r;
    struct store_row row;
    dassie__key_number(bytes, s->commit - 1);
    *oldest = 0;
    int rc = s->kv->ops->get(s->kv, NULL, FAMILY_COMMITS,
                             kv_slice(bytes, sizeof bytes), &value, e);
    if (rc == UV_ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = dassie__store_row_read(&r, value.p, value.len, &row);
        s->kv->ops->value_release(&value);
        *oldest = row.oldest_set;
    }
    return rc;
}

int dassie__store_claimed(struct store *s, struct job_list *out,
                          struct errmsg *e)
{
    static const uint8_t end[] = {KEY_SAVE_TAG};
    const struct kv_ops *ops = s->kv->ops;
    uint8_t from[KEY_NUMBER_BYTES];
    uint64_t oldest;
    uint64_t commit;
    int rc = load_oldest(s, &oldest, e);
    if (rc != 0) {
        return rc;
    }
    dassie__key_number(from, oldest);
    struct kv_iter *it =
        ops->iter(s->kv, NULL, FAMILY_RUNNING, kv_slice(from, sizeof from),
                  kv_slice(end, sizeof end));
    if (it == NULL) {
        return no_memory(e);
    }
    for (; rc == 0 && ops->iter_valid(it); ops->iter_next(it)) {
        struct kv_slice key = ops->iter_key(it);
        rc = dassie__key_parse_number(key.p, key.len, &commit) == 0
                 ? load_set(s, commit, ops->iter_value(it), out, e)
                 : damaged(e, "a key of a claim set");
    }
    struct errmsg ignored;
    int failed = ops->iter_close(it, rc == 0 ? e : &ignored);
    rc = rc != 0 ? rc : failed;
    return rc == 0 && out->n != s->queues.tally.running
               ? damaged(e, "a claimed job is gone")
               : rc;
}
