#include "config.h"

#include "sweep.h"

#include "find.h"

#include <string.h>

#define ENDS 3
static const int end_states[ENDS] = {DASSIE_COMPLETE, DASSIE_FAILED,
                                     DASSIE_CANCELLED};

/* ---- What is kept ---- */

struct keep {
    uint64_t ms;
    uint64_t jobs;
    uint64_t bytes;
};

static uint64_t choose(uint64_t setting, uint64_t standard)
{
    return setting == 0 ? standard : setting == DASSIE_KEEP_NONE ? 0 : setting;
}

static struct keep keep_of(const struct queue *q, int state)
{
    int at = state == DASSIE_COMPLETE ? SETTING_KEEP_COMPLETE
             : state == DASSIE_FAILED ? SETTING_KEEP_FAILED
                                      : SETTING_KEEP_CANCELLED;
    const uint64_t *number = q->settings.number + at;
    uint64_t ms = state == DASSIE_COMPLETE ? DASSIE_KEEP_COMPLETE_MS
                                           : DASSIE_KEEP_FAILED_MS;
    struct keep keep = {choose(number[0], ms),
                        choose(number[1], DASSIE_KEEP_JOBS),
                        choose(number[2], DASSIE_KEEP_BYTES)};
    return keep;
}

static uint64_t jobs_of(const struct tally *tally, int state)
{
    return state == DASSIE_COMPLETE ? tally->complete
           : state == DASSIE_FAILED ? tally->failed
                                    : tally->cancelled;
}

static uint64_t bytes_of(const struct tally *tally, int state)
{
    return state == DASSIE_COMPLETE ? tally->complete_bytes
           : state == DASSIE_FAILED ? tally->failed_bytes
                                    : tally->cancelled_bytes;
}

static bool above(uint64_t n, uint64_t most, unsigned share)
{
    return n > most && n - most > (share == 0 ? 0 : most / share);
}

/* share: how much more than it keeps is fine, 0: nothing. */
static bool is_over(const struct queue *q, int state, unsigned share)
{
    struct keep keep = keep_of(q, state);
    return above(jobs_of(&q->tally, state), keep.jobs, share) ||
           above(bytes_of(&q->tally, state), keep.bytes, share);
}

static uint64_t expires(const struct keep *keep, uint64_t ended_ms)
{
    return keep->ms > UINT64_MAX - ended_ms ? UINT64_MAX : ended_ms + keep->ms;
}

void dassie__sweep_ended(struct store *s, uint64_t id, const struct queue *q,
                         int state, uint64_t ended_ms)
{
    struct keep keep = keep_of(q, state);
    uint64_t at = expires(&keep, ended_ms);
    s->sweep.kept_ms = at < s->sweep.kept_ms ? at : s->sweep.kept_ms;
    s->sweep.over |= is_over(q, state, 16);
    s->sweep.from = id < s->sweep.from ? id : s->sweep.from;
    s->sweep.lowest = id < s->sweep.lowest ? id : s->sweep.lowest;
}

void dassie__sweep_configured(struct store *s, const struct queue *q)
{
    for (int i = 0; i < ENDS; i++) {
        s->sweep.over |= jobs_of(&q->tally, end_states[i]) > 0;
    }
}

void dassie__sweep_opened(struct store *s, uint64_t wall_ms)
{
    s->sweep.kept_ms = UINT64_MAX;
    s->sweep.not_before_ms = wall_ms + SWEEP_MS;
    for (uint32_t i = 0; i < s->queues.n * ENDS; i++) {
        const struct queue *q = s->queues.by_id[i / ENDS];
        int state = end_states[i % ENDS];
        if (jobs_of(&q->tally, state) > 0) {
            s->sweep.kept_ms = 0; /* nobody knows */
            s->sweep.over |= is_over(q, state, 16);
        }
    }
}

void dassie__sweep_clock(struct store *s, uint64_t wall_ms)
{
    struct sweep *sweep = &s->sweep;
    if (sweep->not_before_ms > wall_ms + SWEEP_MS) {
        sweep->not_before_ms = wall_ms + SWEEP_MS;
    }
}

uint64_t dassie__sweep_due(const struct store *s)
{
    const struct sweep *sweep = &s->sweep;
    if (sweep->under_way || (sweep->over && !sweep->failed)) {
        return 0;
    }
    if (sweep->kept_ms == UINT64_MAX) {
        return UINT64_MAX;
    }
    return sweep->kept_ms > sweep->not_before_ms ? sweep->kept_ms
                                                 : sweep->not_before_ms;
}

/* ---- Ranges ---- */

/* Jobs that go, one after the other. */
struct range {
    uint64_t from;
    uint64_t to;
    uint64_t n;
    bool saved; /* some of them may have saved something */
    uint64_t ids[SWEEP_KEYS_MAX];
};

static const enum family range_families[] = {FAMILY_JOBS,    FAMILY_COMPLETE,
                                             FAMILY_FAILED,  FAMILY_CANCELLED,
                                             FAMILY_HISTORY, FAMILY_RUNNING};
#define RANGE_FAMILIES 6

/* Of the running family it is what the job has saved. */
static struct kv_slice row_key(uint8_t key[KEY_SAVE_BYTES], enum family family,
                               uint64_t id)
{
    if (family == FAMILY_RUNNING) {
        dassie__key_save(key, id);
        return kv_slice(key, KEY_SAVE_BYTES);
    }
    dassie__key_number(key, id);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

static void range_delete(struct store *s, const struct range *range,
                         enum family family)
{
    uint8_t from[KEY_SAVE_BYTES];
    uint8_t to[KEY_SAVE_BYTES];
    if (range->n > SWEEP_KEYS_MAX) {
        s->kv->ops->del_range(s->kv, family, row_key(from, family, range->from),
                              row_key(to, family, range->to));
        return;
    }
    for (uint64_t k = 0; k < range->n; k++) {
        s->kv->ops->del(s->kv, family, row_key(from, family, range->ids[k]));
    }
}

static void range_flush(struct store *s, struct range *range)
{
    if (range->n == 0) {
        return;
    }
    for (int i = 0; i < RANGE_FAMILIES; i++) {
        if (range_families[i] != FAMILY_RUNNING || range->saved) {
            range_delete(s, range, range_families[i]);
        }
    }
    s->changed = true;
    range->n = 0;
    range->saved = false;
}

static void range_add(struct range *range, uint64_t id)
{
    if (range->n == 0) {
        range->from = id;
    }
    if (range->n < SWEEP_KEYS_MAX) {
        range->ids[range->n] = id;
    }
    range->to = id + 1;
    range->n++;
}

/* ---- A pass ---- */

struct walk {
    struct store *s;
    struct kv_iter *jobs;
    struct kv_iter *end[ENDS];
    struct range range;
    uint64_t wall_ms;
    uint64_t gone;
    size_t bytes; /* of the rows looked at */
};

static int damaged(struct errmsg *e, uint64_t id)
{
    return dassie__errmsg_set(e, DASSIE_ECORRUPT, "sweep: job %llu",
                              (unsigned long long)id);
}

static void stays(struct walk *w, uint64_t id, uint64_t expires_ms)
{
    struct sweep *sweep = &w->s->sweep;
    sweep->kept_ms = expires_ms < sweep->kept_ms ? expires_ms : sweep->kept_ms;
    sweep->lowest = id < sweep->lowest ? id : sweep->lowest;
    range_flush(w->s, &w->range);
}

/* A job that has ended, if it is there: it stays, or goes. */
static int judge_end(struct walk *w, uint64_t id, int at, struct errmsg *e)
{
    struct store *s = w->s;
    struct kv_slice row = s->kv->ops->iter_value(w->jobs);
    struct kv_slice end = s->kv->ops->iter_value(w->end[at]);
    int state = end_states[at];
    struct job_row job;
    struct end_row ended;
    if (dassie__job_row_read(row.p, row.len, &job) != 0 ||
        dassie__end_row_read(end.p, end.len, &ended) != 0 ||
        job.queue >= s->queues.n) {
        return damaged(e, id);
    }
    struct queue *q = s->queues.by_id[job.queue];
    struct keep keep = keep_of(q, state);
    uint64_t expires_ms = expires(&keep, ended.ended_ms);
    w->bytes += row.len;
    if (expires_ms > w->wall_ms && !is_over(q, state, 0)) {
        stays(w, id, expires_ms);
        return 0;
    }
    int rc = s->kv->ops->iter_live(w->end[at], e);
    if (rc != 1) {
        return rc;
    }
    dassie__queue_touch(&s->queues, q);
    dassie__queue_count(&s->queues, q, state, -1);
    dassie__queue_count_bytes(&s->queues, q, state,
                              -(int64_t)(row.len + end.len));
    range_add(&w->range, id);
    w->range.saved |= state != DASSIE_COMPLETE && ended.attempts > 0;
    w->gone++;
    return 0;
}

/* What is damaged stays, as nobody knows what it is. */
static void pass_over(struct walk *w, uint64_t id)
{
    struct sweep *sweep = &w->s->sweep;
    sweep->passed++;
    sweep->lowest = id < sweep->lowest ? id : sweep->lowest;
    range_flush(w->s, &w->range);
}

/* 0, or -1: that is no number. */
static int id_at(struct store *s, struct kv_iter *it, uint64_t *id)
{
    struct kv_slice key = s->kv->ops->iter_key(it);
    return dassie__key_parse_number(key.p, key.len, id);
}

/* Where an end stands: false, there is none left. */
static bool end_at(struct walk *w, int i, uint64_t *id, struct errmsg *e)
{
    const struct kv_ops *ops = w->s->kv->ops;
    while (ops->iter_valid(w->end[i])) {
        if (id_at(w->s, w->end[i], id) == 0) {
            return true;
        }
        damaged(e, 0);
        pass_over(w, UINT64_MAX);
        ops->iter_next(w->end[i]);
    }
    return false;
}

/* The next job that has ended. Returns whose end it is, or ENDS for none. */
static int next_end(struct walk *w, uint64_t *id, struct errmsg *e)
{
    int at = ENDS;
    for (int i = 0; i < ENDS; i++) {
        uint64_t other;
        if (end_at(w, i, &other, e) && (at == ENDS || other < *id)) {
            at = i;
            *id = other;
        }
    }
    return at;
}

/* Brings the jobs to one that has ended: whether it is there. Those passed over
 * stay, however many they are: a backlog costs one seek. */
static bool bring_jobs(struct walk *w, uint64_t id)
{
    const struct kv_ops *ops = w->s->kv->ops;
    uint8_t key[KEY_NUMBER_BYTES];
    uint64_t at = 0;
    if (ops->iter_valid(w->jobs) && id_at(w->s, w->jobs, &at) != 0) {
        at = 0;
    }
    if (at < id) {
        range_flush(w->s, &w->range);
        dassie__key_number(key, id);
        ops->iter_seek(w->jobs, kv_slice(key, sizeof key));
        if (!ops->iter_valid(w->jobs) || id_at(w->s, w->jobs, &at) != 0) {
            return false;
        }
    }
    return at == id;
}

/* There is no job to an end: of one that was deleted the end may still be seen.
 */
static int judge_orphan(struct walk *w, uint64_t id, int at, struct errmsg *e)
{
    int rc = w->s->kv->ops->iter_live(w->end[at], e);
    return rc == 1 ? damaged(e, id) : rc;
}

/* One job that has ended, if there is one: *more. */
static int judge(struct walk *w, bool *more, struct errmsg *e)
{
    const struct kv_ops *ops = w->s->kv->ops;
    uint64_t id = 0;
    int at = next_end(w, &id, e);
    int rc;
    *more = at < ENDS;
    if (!*more) {
        return 0;
    }
    w->s->sweep.cursor = id + 1;
    if (bring_jobs(w, id)) {
        rc = judge_end(w, id, at, e);
        ops->iter_next(w->jobs);
    } else {
        rc = judge_orphan(w, id, at, e);
    }
    ops->iter_next(w->end[at]);
    if (rc == DASSIE_ECORRUPT) {
        pass_over(w, id);
        rc = 0;
    }
    return rc;
}

static int walk_open(struct walk *w, struct errmsg *e)
{
    static const uint8_t end[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                  0xff, 0xff, 0xff, 0xff};
    struct kv *kv = w->s->kv;
    uint8_t key[KEY_NUMBER_BYTES];
    dassie__key_number(key, w->s->sweep.cursor);
    struct kv_slice from = kv_slice(key, sizeof key);
    struct kv_slice to = kv_slice(end, sizeof end);
    w->jobs = kv->ops->iter(kv, NULL, FAMILY_JOBS, from, to);
    bool all = w->jobs != NULL;
    for (int i = 0; i < ENDS; i++) {
        w->end[i] = kv->ops->iter(kv, NULL, dassie__end_family(end_states[i]),
                                  from, to);
        all &= w->end[i] != NULL;
    }
    return all ? 0 : dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
}

static int walk_close(struct walk *w, int rc, struct errmsg *e)
{
    const struct kv_ops *ops = w->s->kv->ops;
    struct kv_iter *all[] = {w->jobs, w->end[0], w->end[1], w->end[2]};
    struct errmsg ignored;
    for (int i = 0; i < 1 + ENDS; i++) {
        if (all[i] != NULL) {
            int failed = ops->iter_close(all[i], rc == 0 ? e : &ignored);
            rc = rc != 0 ? rc : failed;
        }
    }
    return rc;
}

static void pass_begin(struct sweep *sweep)
{
    sweep->under_way = true;
    sweep->over = false;
    sweep->failed = false;
    sweep->passed = 0;
    sweep->cursor = sweep->from;
    sweep->lowest = UINT64_MAX;
    sweep->kept_ms = UINT64_MAX;
}

static void pass_end(struct sweep *sweep, uint64_t wall_ms)
{
    sweep->under_way = false;
    sweep->not_before_ms = wall_ms + SWEEP_MS;
}

int dassie__sweep_step(struct store *s, uint64_t wall_ms, uint64_t *n,
                       struct errmsg *e)
{
    struct walk w = {.s = s, .wall_ms = wall_ms};
    bool more = true;
    if (!s->sweep.under_way) {
        pass_begin(&s->sweep);
    }
    int rc = walk_open(&w, e);
    for (unsigned ends = 0;
         rc == 0 && more && ends < SWEEP_ROWS_MAX && w.bytes < SWEEP_BYTES_MAX;
         ends++) {
        rc = judge(&w, &more, e);
    }
    range_flush(s, &w.range);
    rc = walk_close(&w, rc, e);
    if (!more || rc != 0) {
        pass_end(&s->sweep, wall_ms);
    }
    if (!more && rc == 0) {
        s->sweep.from = s->sweep.lowest;
    }
    if (rc != 0) { /* the next one is to find out again */
        s->sweep.failed = true;
        s->sweep.kept_ms = 0;
    }
    *n = w.gone;
    return rc;
}
