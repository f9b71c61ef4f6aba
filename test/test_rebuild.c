/* rebuild: whatever commits a power cut took from a store, the rest is a sound
 * store again, in which every job is in one state and no end is lost; a rebuild
 * that is killed, or loses commits itself, is made up for by the next one; and
 * dassie_open() rebuilds only after a power cut without syncing. */
#include "config.h"

#include "../lib/env.h"
#include "../lib/expire.h"
#include "../lib/rebuild.h"
#include "../lib/schedule.h"
#include "store_rig.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define IDS_MAX 4096
#define BATCHES_MAX 2048
#define QUEUES_MADE 12
#define RUNS_MAX 60
#define WALL_MS 1234567

static struct rig source; /* in memory; what it commits is on the tape */
static struct rig rig;    /* what is left of it */
static struct rig *const r = &rig;
static struct rebuild_report report;

/* ---- Dice ---- */

static uint64_t seed;

static uint64_t dice(uint64_t sides)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % sides;
}

static void dice_begin(int i)
{
    const char *given = getenv("SEED");
    seed = given != NULL ? strtoull(given, NULL, 0)
                         : UINT64_C(88172645463325252) + (unsigned)i;
    printf("SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
}

/* ---- A tape of batches ---- */

struct tape_op {
    enum { TAPE_PUT, TAPE_DEL, TAPE_DEL_RANGE } type;
    enum family family;
    uint8_t key[32];
    size_t key_len;
    uint8_t *value; /* of a range: its end */
    size_t value_len;
};

struct tape {
    struct tape_op *ops;
    size_t n;
    size_t room;
    size_t ends[BATCHES_MAX]; /* how many ops there are after each batch */
    size_t batches;
};

static struct tape tape;        /* the source's */
static struct tape repair_tape; /* a rebuild's */

/* A database that records, and dies at a commit. */
static struct {
    struct kv_ops ops;
    const struct kv_ops *base;
    struct tape *tape;  /* NULL: does not record */
    unsigned commits;   /* so far */
    unsigned dies_at;   /* this one, from 1 on; 0: none */
    bool dies_after_it; /* it is written all the same */
} spy;

static void tape_add(int type, enum family family, struct kv_slice key,
                     struct kv_slice head, struct kv_slice tail)
{
    struct tape *t = spy.tape;
    if (t == NULL) {
        return;
    }
    if (t->n == t->room) {
        t->room = 2 * t->room + 1024;
        t->ops = realloc(t->ops, t->room * sizeof t->ops[0]);
        ck_assert_ptr_nonnull(t->ops);
    }
    struct tape_op *op = &t->ops[t->n++];
    ck_assert_uint_le(key.len, sizeof op->key);
    op->type = type;
    op->family = family;
    op->key_len = key.len;
    op->value_len = head.len + tail.len;
    op->value = malloc(op->value_len + 1);
    ck_assert_ptr_nonnull(op->value);
    memcpy(op->key, key.p, key.len);
    if (head.len > 0) {
        memcpy(op->value, head.p, head.len);
    }
    if (tail.len > 0) {
        memcpy(op->value + head.len, tail.p, tail.len);
    }
}

static void tape_cut(struct tape *t, size_t n)
{
    while (t->n > n) {
        free(t->ops[--t->n].value);
    }
}

static void tape_free(struct tape *t)
{
    tape_cut(t, 0);
    free(t->ops);
    memset(t, 0, sizeof *t);
}

static void spy_put(struct kv *kv, enum family family, struct kv_slice key,
                    struct kv_slice value)
{
    tape_add(TAPE_PUT, family, key, value, kv_slice(NULL, 0));
    spy.base->put(kv, family, key, value);
}

static void spy_put2(struct kv *kv, enum family family, struct kv_slice key,
                     struct kv_slice head, struct kv_slice tail)
{
    tape_add(TAPE_PUT, family, key, head, tail);
    spy.base->put2(kv, family, key, head, tail);
}

static void spy_del(struct kv *kv, enum family family, struct kv_slice key)
{
    tape_add(TAPE_DEL, family, key, kv_slice(NULL, 0), kv_slice(NULL, 0));
    spy.base->del(kv, family, key);
}

static void spy_del_range(struct kv *kv, enum family family,
                          struct kv_slice from, struct kv_slice to)
{
    tape_add(TAPE_DEL_RANGE, family, from, to, kv_slice(NULL, 0));
    spy.base->del_range(kv, family, from, to);
}

static int spy_commit(struct kv *kv, bool sync, struct errmsg *e)
{
    bool dies = ++spy.commits == spy.dies_at;
    if (dies && !spy.dies_after_it) {
        return dassie__errmsg_set(e, UV_EIO, "died");
    }
    int rc = spy.base->commit(kv, sync, e);
    ck_assert_int_eq(rc, 0);
    if (spy.tape != NULL) {
        ck_assert_uint_lt(spy.tape->batches, BATCHES_MAX);
        spy.tape->ends[spy.tape->batches++] = spy.tape->n;
    }
    return dies ? dassie__errmsg_set(e, UV_EIO, "died") : 0;
}

static void spy_on(struct kv *kv, struct tape *t)
{
    spy.base = kv->ops;
    spy.ops = *kv->ops;
    spy.ops.put = spy_put;
    spy.ops.put2 = spy_put2;
    spy.ops.del = spy_del;
    spy.ops.del_range = spy_del_range;
    spy.ops.commit = spy_commit;
    spy.tape = t;
    spy.commits = 0;
    spy.dies_at = 0;
    kv->ops = &spy.ops;
}

static void spy_off(struct kv *kv)
{
    kv->ops = spy.base;
}

static void replay_batch(const struct tape *t, size_t batch)
{
    const struct kv_ops *ops = r->kv->ops;
    for (size_t i = batch > 0 ? t->ends[batch - 1] : 0; i < t->ends[batch];
         i++) {
        const struct tape_op *op = &t->ops[i];
        struct kv_slice key = kv_slice(op->key, op->key_len);
        struct kv_slice value = kv_slice(op->value, op->value_len);
        switch (op->type) {
            case TAPE_PUT:
                ops->put(r->kv, op->family, key, value);
                break;
            case TAPE_DEL:
                ops->del(r->kv, op->family, key);
                break;
            case TAPE_DEL_RANGE:
                ops->del_range(r->kv, op->family, key, value);
                break;
        }
    }
    RIG_OK(r, ops->commit(r->kv, false, &r->e));
}

/* ---- A store with a past ---- */

static job_t *runs[RUNS_MAX];
static unsigned runs_n;

static const char *some_queue(unsigned most)
{
    static char name[16];
    snprintf(name, sizeof name, "queue %llu", (unsigned long long)dice(most));
    return name;
}

/* One with a unique key. */
static job_t *churn_keyed(const char *queue, int8_t priority, uint8_t flags)
{
    uint8_t key[] = {'k', (uint8_t)dice(9)};
    struct job_row row = {
        .flags = flags, .priority = priority, .enqueued_ms = source.now};
    row.options.key = key;
    row.options.key_len = sizeof key;
    row.options.number[JOB_EXPIRE] = dice(3) == 0 ? 1 + dice(60) : 0;
    row.options.number[JOB_UNIQUE] = dice(UNTIL_KINDS);
    if (row.options.number[JOB_UNIQUE] == DASSIE_UNTIL_TIME) {
        row.options.number[JOB_UNIQUE_FOR] = 1 + dice(60);
    }
    job_t *job = dassie__job_new(
        dassie__job_row_bytes(0, 0) + dassie__job_options_bytes(&row.options),
        0);
    ck_assert_ptr_nonnull(job);
    dassie__job_row_write(job->row, &row);
    job->priority = priority;
    job->flags = flags;
    job->queue = rig_queue(&source, queue, priority);
    job->expires_ms = dassie__expire_of(&row);
    job->unique = dassie__unique_new(&row);
    ck_assert_ptr_nonnull(job->unique);
    return job;
}

/* NULL: another one holds its key. */
static job_t *churn_job(const char *queue, int8_t priority)
{
    uint8_t flags = dice(5) == 0 ? DASSIE_AT_MOST_ONCE : 0;
    uint64_t id;
    struct unique *u;
    if (dice(3) > 0) {
        return rig_job(&source, queue, priority, flags);
    }
    job_t *job = churn_keyed(queue, priority, flags);
    RIG_OK(&source,
           dassie__unique_find(&source.s, job, source.now, &id, &u, &source.e));
    if (id != 0) {
        dassie__job_free(job);
        return NULL;
    }
    return job;
}

static void churn_enqueue(const char *queue, int8_t priority, bool hand_off)
{
    job_t *job = churn_job(queue, priority);
    if (job == NULL) {
        return;
    }
    hand_off = hand_off && runs_n < RUNS_MAX && job->queue->tally.pending == 0;
    if (hand_off) {
        RIG_OK(&source, dassie__store_prepare_claim(&source.s));
        runs[runs_n++] = job;
    }
    if (!dassie__store_insert(&source.s, job,
                              hand_off ? EVENT_HAND_OFF : EVENT_ENQUEUE)) {
        job_list_push(&source.gone, job);
    }
}

static void churn_claim(const char *queue)
{
    if (runs_n < RUNS_MAX) {
        job_t *job = rig_claim_how(&source, queue,
                                   dice(5) == 0 ? CLAIM_ALONE : CLAIM_NOW);
        if (job != NULL) {
            runs[runs_n++] = job;
        }
    }
}

static void churn_end(void)
{
    static const enum event once[] = {EVENT_COMPLETE, EVENT_FAIL, EVENT_UNCLAIM,
                                      EVENT_INTERRUPT};
    static const enum event any[] = {
        EVENT_COMPLETE,  EVENT_COMPLETE, EVENT_FAIL,
        EVENT_UNCLAIM,   EVENT_REPEAT,   EVENT_SUSPECT,
        EVENT_CRASH_OUT, EVENT_RETRY,    EVENT_SNOOZE};
    if (runs_n == 0) {
        return;
    }
    unsigned at = (unsigned)dice(runs_n);
    job_t *job = runs[at];
    enum event event = (job->flags & DASSIE_AT_MOST_ONCE) != 0
                           ? once[dice(COUNT(once))]
                           : any[dice(COUNT(any))];
    job->crashes +=
        event == EVENT_CRASH_OUT || (event == EVENT_SUSPECT && dice(2) == 0);
    runs[at] = runs[--runs_n];
    job->due_ms = source.now + 1 + dice(20);
    rig_move(&source, job, event);
}

static void churn_step(unsigned queues)
{
    static const int8_t priorities[] = {0, 0, 0, -4, 7};
    const char *queue = some_queue(queues);
    uint64_t what = dice(100);
    if (what < 8) {
        rig_put_due(&source, queue, priorities[dice(COUNT(priorities))],
                    source.now + dice(30));
    } else if (what < 35) {
        churn_enqueue(queue, priorities[dice(COUNT(priorities))], false);
    } else if (what < 45) {
        churn_enqueue(queue, priorities[dice(COUNT(priorities))], true);
    } else if (what < 70) {
        churn_claim(queue);
    } else if (what < 99) {
        churn_end();
    } else {
        dassie__store_tidy(&source.s);
    }
}

/* So many commits are on the tape. The queues come one by one. */
static void churn(unsigned commits)
{
    memset(&tape, 0, sizeof tape);
    runs_n = 0;
    rig_setup(&source, RIG_MEM);
    spy_on(source.kv, &tape);
    rig_serve(&source, "queue 0", 1);
    while (tape.batches < commits) {
        unsigned done = (unsigned)tape.batches * QUEUES_MADE / commits;
        unsigned promoted;
        RIG_OK(&source, dassie__schedule_promote(&source.s, source.now, 3,
                                                 &promoted, &source.e));
        for (uint64_t n = 1 + dice(10); n > 0; n--) {
            churn_step(1 + done);
        }
        rig_commit(&source);
    }
    rig_sound(&source);
    ck_assert_uint_lt(source.s.next, IDS_MAX);
    spy_off(source.kv);
    rig_close(&source, false);
}

/* ---- What rows say of each job ---- */

struct known {
    bool there;
    bool has[FAMILIES];         /* rows by id */
    uint64_t digest[FAMILIES];  /* of them */
    uint32_t ended[FAMILIES];   /* the run in which it did */
    uint32_t crashes[FAMILIES]; /* with so many */
    int code;
    uint8_t flags;
    uint32_t attempts; /* the most that is known */
    uint64_t last_run;
    uint8_t kind;
    bool claimed;     /* live in a claim set */
    unsigned pending; /* rows, and scheduled ones */
};

static struct known before[IDS_MAX];
static struct known after[IDS_MAX];
static struct known other[IDS_MAX];
static struct known *learning;

typedef void (*learn_cb)(enum family family, struct kv_slice key,
                         struct kv_slice value);

static struct known *known_of(uint64_t id)
{
    ck_assert_uint_lt(id, IDS_MAX);
    return &learning[id];
}

static void learn_row(enum family family, struct kv_slice key,
                      struct kv_slice value)
{
    struct job_row job;
    struct end_row end;
    struct history_row history;
    uint64_t id;
    ck_assert_int_eq(dassie__key_parse_number(key.p, key.len, &id), 0);
    struct known *k = known_of(id);
    k->has[family] = true;
    k->digest[family] = temp_digest_bytes(1, value.p, value.len);
    if (family == FAMILY_JOBS) {
        ck_assert_int_eq(dassie__job_row_read(value.p, value.len, &job), 0);
        k->there = true;
        k->flags = job.flags;
    } else if (family == FAMILY_HISTORY) {
        ck_assert_int_eq(dassie__history_row_read(value.p, value.len, &history),
                         0);
        k->attempts = history.attempts;
        k->crashes[family] = history.crashes;
        k->last_run = history.last_run;
        k->kind = history.kind;
    } else {
        ck_assert_int_eq(dassie__end_row_read(value.p, value.len, &end), 0);
        k->ended[family] = end.attempts;
        k->crashes[family] = end.crashes;
        k->code = end.code;
    }
}

static void learn_pending(enum family family, struct kv_slice key,
                          struct kv_slice value)
{
    struct place place;
    struct pending_row row;
    (void)family;
    ck_assert_int_eq(dassie__key_parse_pending(key.p, key.len, &place), 0);
    ck_assert_int_eq(
        dassie__pending_row_read(value.p, value.len, place.position, &row), 0);
    known_of(row.id)->pending++;
}

static void learn_due(enum family family, struct kv_slice key,
                      struct kv_slice value)
{
    struct due due;
    (void)family;
    (void)value;
    ck_assert_int_eq(dassie__key_parse_due(key.p, key.len, &due), 0);
    known_of(due.id)->pending += due.kind == DUE_JOB;
}

static void learn_set(enum family family, struct kv_slice key,
                      struct kv_slice value)
{
    struct claim_reader reader;
    struct claim_entry entry;
    uint64_t commit;
    (void)family;
    ck_assert_int_eq(dassie__key_parse_number(key.p, key.len, &commit), 0);
    ck_assert_int_eq(dassie__claim_set_open(&reader, value.p, value.len), 0);
    while (dassie__claim_set_next(&reader, &entry) == 1) {
        struct known *k = known_of(entry.id);
        if (k->last_run < commit && !k->has[FAMILY_COMPLETE] &&
            !k->has[FAMILY_FAILED] && !k->has[FAMILY_CANCELLED]) {
            k->claimed = true;
            k->attempts = entry.attempt - 1 > k->attempts ? entry.attempt - 1
                                                          : k->attempts;
        }
    }
}

static void learn(struct known *known)
{
    static const struct {
        enum family family;
        learn_cb cb;
    } reads[] = {{FAMILY_JOBS, learn_row},      {FAMILY_COMPLETE, learn_row},
                 {FAMILY_FAILED, learn_row},    {FAMILY_CANCELLED, learn_row},
                 {FAMILY_HISTORY, learn_row},   {FAMILY_PENDING, learn_pending},
                 {FAMILY_SCHEDULED, learn_due}, {FAMILY_RUNNING, learn_set}};
    const struct kv_ops *ops = r->kv->ops;
    struct verify v = {.kv = r->kv};
    learning = known;
    memset(known, 0, IDS_MAX * sizeof known[0]);
    for (size_t i = 0; i < COUNT(reads); i++) {
        struct kv_iter *it = dassie__verify_iter(&v, reads[i].family);
        ck_assert_ptr_nonnull(it);
        RIG_OK(r, kv_skip_dead(r->kv, it, &r->e));
        while (ops->iter_valid(it)) {
            reads[i].cb(reads[i].family, ops->iter_key(it),
                        ops->iter_value(it));
            ops->iter_next(it);
            RIG_OK(r, kv_skip_dead(r->kv, it, &r->e));
        }
        RIG_OK(r, ops->iter_close(it, &r->e));
    }
}

/* ---- What must hold of them ---- */

/* Which end counts: a family, or 0. */
static enum family end_of(const struct known *k)
{
    enum family end = 0;
    for (enum family f = FAMILY_COMPLETE; f <= FAMILY_CANCELLED; f++) {
        if (k->has[f] && (end == 0 || k->ended[f] > k->ended[end])) {
            end = f;
        }
    }
    return end;
}

static void check_end(uint64_t id, enum family end)
{
    ck_assert_msg(end_of(&after[id]) == end, "job %llu",
                  (unsigned long long)id);
    ck_assert_uint_eq(before[id].digest[end], after[id].digest[end]);
    ck_assert_int_eq(after[id].has[FAMILY_COMPLETE] +
                         after[id].has[FAMILY_FAILED] +
                         after[id].has[FAMILY_CANCELLED],
                     1);
    if (before[id].ended[end] == 1 && !before[id].has[FAMILY_HISTORY]) {
        ck_assert(!after[id].has[FAMILY_HISTORY] ||
                  before[id].crashes[end] > 1);
    }
}

static void check_open_end(uint64_t id)
{
    const struct known *b = &before[id];
    const struct known *a = &after[id];
    bool once = (b->flags & DASSIE_AT_MOST_ONCE) != 0;
    bool surely = b->claimed || b->pending == 0;
    if (end_of(a) != 0) {
        ck_assert_msg(once, "job %llu ended", (unsigned long long)id);
        ck_assert_int_eq(end_of(a), FAMILY_FAILED);
        ck_assert_int_eq(a->code, DASSIE_EINTERRUPTED);
        ck_assert_uint_eq(a->ended[FAMILY_FAILED], b->attempts + 1);
        return;
    }
    ck_assert_msg(!once || !surely, "job %llu runs twice",
                  (unsigned long long)id);
    ck_assert_uint_eq(a->pending, 1);
    ck_assert_uint_ge(a->attempts, b->attempts + surely);
    ck_assert_uint_le(a->attempts, b->attempts + 1);
    ck_assert_uint_eq(a->crashes[FAMILY_HISTORY], b->crashes[FAMILY_HISTORY]);
}

/* Against what was there before. */
static void check_jobs(void)
{
    static const struct known none;
    uint64_t jobs = 0;
    learn(after);
    for (uint64_t id = 0; id < IDS_MAX; id++) {
        if (!before[id].there) {
            ck_assert_mem_eq(&after[id], &none, sizeof none);
            continue;
        }
        jobs++;
        ck_assert_uint_eq(before[id].digest[FAMILY_JOBS],
                          after[id].digest[FAMILY_JOBS]);
        if (end_of(&before[id]) != 0) {
            check_end(id, end_of(&before[id]));
        } else {
            check_open_end(id);
        }
    }
    ck_assert_uint_eq(report.jobs, jobs);
}

/* Whoever is to hold its key until it ends has it, or another one does. */
static void check_keys(void)
{
    uint8_t bytes[KEY_UNIQUE_MAX];
    uint8_t at[KEY_NUMBER_BYTES];
    struct kv_value value;
    struct job_row job;
    for (uint64_t id = 1; id < IDS_MAX; id++) {
        if (!after[id].there || end_of(&after[id]) != 0) {
            continue;
        }
        dassie__key_number(at, id);
        RIG_OK(r, r->kv->ops->get(r->kv, NULL, FAMILY_JOBS,
                                  kv_slice(at, sizeof at), &value, &r->e));
        ck_assert_int_eq(dassie__job_row_read(value.p, value.len, &job), 0);
        size_t len = job.options.key_len > 0
                         ? dassie__key_unique(bytes, job.queue, job.options.key,
                                              job.options.key_len)
                         : 0;
        r->kv->ops->value_release(&value);
        if (len > 0 && job.options.number[JOB_UNIQUE] == DASSIE_UNTIL_ENDED) {
            RIG_OK(r, r->kv->ops->get(r->kv, NULL, FAMILY_UNIQUE,
                                      kv_slice(bytes, len), &value, &r->e));
            r->kv->ops->value_release(&value);
        }
    }
}

static void check_sound(void)
{
    dassie_verify_report_t found;
    ck_assert_msg(rig_problems(r, &found) == 0, "%s", r->problem);
    ck_assert_uint_eq(found.jobs.running, 0);
    ck_assert_uint_eq(found.jobs.pending + found.jobs.scheduled +
                          found.jobs.complete + found.jobs.failed +
                          found.jobs.cancelled,
                      report.jobs);
}

/* ---- What a power cut leaves ---- */

/* Another way made the same of the jobs, but for numbers. */
static void same_as_other(void)
{
    learn(after);
    for (uint64_t id = 0; id < IDS_MAX; id++) {
        const struct known *a = &after[id];
        const struct known *o = &other[id];
        bool same = a->there == o->there &&
                    a->digest[FAMILY_COMPLETE] == o->digest[FAMILY_COMPLETE] &&
                    a->digest[FAMILY_FAILED] == o->digest[FAMILY_FAILED] &&
                    a->attempts == o->attempts && a->code == o->code &&
                    a->crashes[FAMILY_HISTORY] == o->crashes[FAMILY_HISTORY] &&
                    (end_of(a) != 0 || a->kind == o->kind);
        ck_assert_msg(same, "job %llu", (unsigned long long)id);
    }
}

static void left_begin(enum rig_kind kind)
{
    struct kv_rocks_options options = {
        .dir = r->dir, .memory_bytes = 16 << 20, .create = true};
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->window_max = 1 << 20;
    r->now = tape.batches; /* rig_open() makes nothing anew */
    if (kind == RIG_ROCKS) {
        temp_dir_make(r->dir);
        RIG_OK(r, dassie__kv_rocks_open(&options, &r->kv, &r->e));
    } else {
        r->kv = dassie__kv_mem_new();
        ck_assert_ptr_nonnull(r->kv);
    }
}

static bool kept[BATCHES_MAX];

static void left_replay(enum rig_kind kind)
{
    left_begin(kind);
    for (size_t i = 0; i < tape.batches; i++) {
        if (kept[i]) {
            replay_batch(&tape, i);
        }
    }
    learn(before);
}

static int rebuild(void)
{
    return dassie__rebuild(r->kv, WALL_MS, 0, &report, &r->e);
}

static void left_open(void)
{
    if (r->kind == RIG_ROCKS) {
        r->kv->ops->close(r->kv, false);
    }
    rig_open(r);
    ck_assert_uint_eq(r->claimed.n, 0);
}

static void left_free(void)
{
    if (r->kind == RIG_ROCKS) {
        r->kv->ops->close(r->kv, false);
    }
    rig_free(r);
}

enum loss { LOSS_NONE, LOSS_TAIL, LOSS_HOLE, LOSS_FEW, LOSS_HALF, LOSS_MOST };
#define LOSSES 6

static void lose(enum loss loss)
{
    size_t n = tape.batches;
    size_t from = dice(n);
    size_t to = from + 1 + dice(40);
    for (size_t i = 0; i < n; i++) {
        switch (loss) {
            case LOSS_NONE:
                kept[i] = true;
                break;
            case LOSS_TAIL:
                kept[i] = i < from;
                break;
            case LOSS_HOLE:
                kept[i] = i < from || i >= to;
                break;
            case LOSS_FEW:
                kept[i] = dice(30) != 0;
                break;
            case LOSS_HALF:
                kept[i] = dice(2) != 0;
                break;
            case LOSS_MOST:
                kept[i] = dice(20) == 0;
                break;
        }
    }
}

/* ---- Any commits may be lost ---- */

/* All jobs can end now, and new ones come to no harm. */
static void live_on(void)
{
    uint64_t jobs = report.jobs;
    unsigned n;
    rig_sound(r);
    while (r->s.schedule.live > 0) { /* not all that is due fits into one */
        RIG_OK(r,
               dassie__schedule_promote(&r->s, UINT64_MAX, IDS_MAX, &n, &r->e));
        rig_commit(r);
    }
    ck_assert_uint_eq(r->s.queues.tally.scheduled, 0);
    rig_sound(r);
    for (uint32_t i = 0; i < r->s.queues.n; i++) {
        const char *name = r->s.queues.by_id[i]->name;
        job_t *job;
        uint64_t id = rig_put(r, name, 0);
        ck_assert(id >= IDS_MAX || !after[id].there);
        rig_commit(r);
        jobs++;
        for (int how = CLAIM_NOW; how <= CLAIM_ALONE; how++) {
            while ((job = rig_claim_how(r, name, how)) != NULL) {
                rig_move(r, job, EVENT_COMPLETE);
                if (dice(20) == 0) {
                    rig_commit(r);
                }
            }
        }
        rig_commit(r);
    }
    rig_sound(r);
    ck_assert_uint_eq(r->s.queues.tally.complete + r->s.queues.tally.failed +
                          r->s.queues.tally.cancelled,
                      jobs);
    ck_assert_uint_eq(rig_rows(r, FAMILY_UNIQUE), 0);
}

START_TEST(any_loss)
{
    enum rig_kind kind = _i % 4 == 0 ? RIG_ROCKS : RIG_MEM;
    dice_begin(_i);
    churn(150 + (unsigned)dice(450));
    lose((enum loss)(_i / 4 % LOSSES));
    left_replay(kind);
    RIG_OK(r, rebuild());
    check_sound();
    check_jobs();
    check_keys();
    left_open();
    live_on();
    rig_teardown(r);
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* Where only the last commits are lost nothing disagrees, and a rebuild does
 * what a recovery without a recorder does. */
START_TEST(as_recovery)
{
    struct job_list claimed;
    job_t *job;
    dice_begin(_i);
    churn(300 + (unsigned)dice(300));
    lose(_i % 2 == 0 ? LOSS_NONE : LOSS_TAIL);
    left_replay(RIG_MEM);
    rig_open(r);
    claimed = r->claimed;
    uint64_t again = claimed.n;
    while ((job = job_list_pop(&claimed)) != NULL) {
        dassie__store_recover(&r->s, job, FOUND_UNKNOWN, 3, WALL_MS);
    }
    rig_commit(r);
    learn(other);
    struct tally tally = r->s.queues.tally;
    rig_teardown(r);

    left_replay(RIG_MEM);
    RIG_OK(r, rebuild());
    check_sound();
    check_jobs();
    same_as_other();
    ck_assert_uint_eq(report.again, again);
    ck_assert_uint_eq(report.dropped, 0);
    ck_assert_uint_eq(report.named, 0);
    left_open();
    ck_assert_mem_eq(&tally, &r->s.queues.tally, sizeof tally);
    rig_teardown(r);
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* ---- Rebuilds that do not get to their end ---- */

START_TEST(killed_at_each_commit)
{
    dice_begin(_i);
    churn(120 + (unsigned)dice(60));
    lose(_i % 2 == 0 ? LOSS_FEW : LOSS_HALF);
    left_replay(RIG_MEM);
    spy_on(r->kv, NULL);
    RIG_OK(r, rebuild());
    unsigned commits = spy.commits;
    check_sound();
    learn(other);
    spy_off(r->kv);
    left_free();
    ck_assert_uint_gt(commits, 10);
    for (unsigned at = 1; at <= commits; at++) {
        left_replay(RIG_MEM);
        spy_on(r->kv, NULL);
        spy.dies_at = at;
        spy.dies_after_it = dice(2) == 0;
        ck_assert_int_eq(rebuild(), UV_EIO);
        if (at % 3 == 0) { /* so does the next one */
            spy.dies_at = spy.commits + 1 + (unsigned)dice(3);
            (void)rebuild();
        }
        spy_off(r->kv);
        RIG_OK(r, rebuild());
        check_sound();
        check_jobs();
        same_as_other();
        RIG_OK(r, rebuild());
        check_sound();
        same_as_other();
        ck_assert_uint_eq(report.again, 0);
        ck_assert_uint_eq(report.added, 0);
        ck_assert_uint_eq(report.removed, 0);
        left_free();
    }
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* The power goes again while it is rebuilt: only the last commit is synced. */
START_TEST(power_cut_again)
{
    unsigned rounds = getenv("QUICK") != NULL ? 5 : 15;
    dice_begin(_i);
    churn(120 + (unsigned)dice(180));
    lose(_i % 2 == 0 ? LOSS_FEW : LOSS_HALF);
    left_replay(RIG_MEM);
    spy_on(r->kv, &repair_tape);
    RIG_OK(r, rebuild());
    check_sound();
    learn(other);
    spy_off(r->kv);
    left_free();
    ck_assert_uint_eq(r->kind, RIG_MEM);
    while (rounds-- > 0) {
        left_replay(RIG_MEM);
        uint64_t odds = 2 + dice(8);
        for (size_t i = 0; i + 1 < repair_tape.batches; i++) {
            if (dice(odds) != 0) {
                replay_batch(&repair_tape, i);
            }
        }
        RIG_OK(r, rebuild());
        check_sound();
        check_jobs();
        same_as_other();
        left_free();
    }
    tape_free(&repair_tape);
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* Only the last commit is synced, and it is the last. */
START_TEST(synced_once)
{
    dice_begin(0);
    churn(200);
    lose(LOSS_FEW);
    left_replay(_i);
    uint64_t syncs = r->kv->syncs;
    spy_on(r->kv, NULL);
    RIG_OK(r, rebuild());
    spy.dies_at = spy.commits;
    spy_off(r->kv);
    ck_assert_uint_eq(r->kv->syncs, syncs + 1);
    left_free();

    left_replay(_i);
    unsigned last = spy.dies_at;
    spy_on(r->kv, NULL);
    spy.dies_at = last;
    spy.dies_after_it = false;
    syncs = r->kv->syncs;
    ck_assert_int_eq(rebuild(), UV_EIO);
    spy_off(r->kv);
    ck_assert_uint_eq(r->kv->syncs, syncs);
    left_free();
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* ---- One rule after the other ---- */

static const char *const mail = "mail";

static struct kv_slice number_key(uint64_t number)
{
    static uint8_t key[KEY_NUMBER_BYTES];
    dassie__key_number(key, number);
    return kv_slice(key, sizeof key);
}

static void put_row(enum family family, uint64_t id, const void *row,
                    size_t len)
{
    r->kv->ops->put(r->kv, family, number_key(id), kv_slice(row, len));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
}

static void del_row(enum family family, uint64_t id)
{
    r->kv->ops->del(r->kv, family, number_key(id));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
}

static void put_end(enum family family, uint64_t id, uint32_t attempts,
                    uint32_t crashes)
{
    uint8_t row[END_ROW_HEAD_MAX];
    struct end_row end = {
        1, attempts, crashes, family == FAMILY_COMPLETE ? 0 : -1, NULL, 0};
    put_row(family, id, row, dassie__end_row_write_head(row, &end));
}

static void del_place(uint32_t queue, int8_t priority, uint8_t kind,
                      uint64_t position)
{
    uint8_t key[KEY_PENDING_BYTES];
    struct place place = {queue, priority, kind, position};
    dassie__key_pending(key, &place);
    r->kv->ops->del(r->kv, FAMILY_PENDING, kv_slice(key, sizeof key));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
}

static void del_name(uint32_t queue)
{
    uint8_t key[KEY_QUEUE_BYTES];
    dassie__key_queue(key, KEY_NAME_TAG, queue);
    r->kv->ops->del(r->kv, FAMILY_META, kv_slice(key, sizeof key));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
}

static uint64_t put_once(const char *queue)
{
    job_t *job = rig_job(r, queue, 0, DASSIE_AT_MOST_ONCE);
    uint64_t id = r->s.next;
    if (!dassie__store_insert(&r->s, job, EVENT_ENQUEUE)) {
        dassie__job_free(job);
    }
    return id;
}

static void setup(enum rig_kind kind)
{
    rig_setup(r, kind);
    rig_serve(r, mail, 1);
    rig_serve(r, "web", 1);
}

/* Leaves the store, and takes it up again after a rebuild. */
static void leave(void)
{
    struct kv_rocks_options options = {.dir = r->dir, .memory_bytes = 16 << 20};
    rig_commit(r);
    rig_close(r, false);
    if (r->kind == RIG_ROCKS) {
        RIG_OK(r, dassie__kv_rocks_open(&options, &r->kv, &r->e));
    }
}

static void rebuilt(void)
{
    RIG_OK(r, rebuild());
    check_sound();
    learn(after);
    left_open();
    rig_sound(r);
}

static void report_is(uint64_t jobs, uint64_t again, uint64_t dropped)
{
    ck_assert_uint_eq(report.jobs, jobs);
    ck_assert_uint_eq(report.again, again);
    ck_assert_uint_eq(report.dropped, dropped);
}

/* What is sound stays as it is: rows, order and lines. */
START_TEST(sound_store)
{
    setup(_i);
    uint64_t a = rig_put(r, mail, 0);
    uint64_t b = rig_put(r, mail, 0);
    uint64_t c = rig_put(r, mail, -3);
    uint64_t d = rig_put(r, "web", 0);
    job_t *job = rig_claim(r, mail);
    ck_assert_uint_eq(job->id, c);
    rig_commit(r);
    rig_move(r, job, EVENT_SUSPECT);
    job = rig_claim(r, "web");
    rig_commit(r);
    rig_move(r, job, EVENT_UNCLAIM);
    job = rig_claim(r, mail);
    ck_assert_uint_eq(job->id, a);
    rig_commit(r);
    rig_move(r, job, EVENT_FAIL);
    leave();
    RIG_OK(r, rebuild()); /* and dead rows go */
    report_is(4, 0, 0);
    ck_assert_uint_eq(report.removed, 0);
    spy_on(r->kv, NULL);
    RIG_OK(r, rebuild());
    ck_assert_uint_eq(spy.commits, 1);
    spy_off(r->kv);
    rebuilt();
    report_is(4, 0, 0);
    ck_assert_uint_eq(report.named, 0);
    ck_assert_uint_eq(report.added, 0);
    ck_assert_uint_eq(report.removed, 0);
    ck_assert(after[a].has[FAMILY_FAILED]);
    ck_assert_uint_eq(r->s.suspects, 1);
    ck_assert_uint_eq(rig_claim(r, mail)->id, b);
    ck_assert_uint_eq(rig_claim_how(r, mail, CLAIM_ALONE)->id, c);
    ck_assert_uint_eq(rig_claim(r, "web")->id, d);
    rig_teardown(r);
}
END_TEST

START_TEST(nothing_left)
{
    setup(_i);
    leave();
    rebuilt();
    report_is(0, 0, 0);
    rig_teardown(r);
}
END_TEST

/* The power cut has left a commit that was about no queue, and nothing else: no
 * number is given again. */
START_TEST(one_commit_left)
{
    uint8_t row[STORE_ROW_MAX];
    struct store_row store = {.next = 9, .oldest_set = 1};
    rig_setup(r, _i);
    put_row(FAMILY_COMMITS, 5, row, dassie__store_row_write(row, &store));
    leave();
    rebuilt();
    report_is(0, 0, 0);
    ck_assert_uint_eq(rig_put(r, mail, 0), 9);
    rig_teardown(r);
}
END_TEST

static const struct {
    uint32_t complete; /* ended in this run; 0: there is no such row */
    uint32_t failed;
    uint32_t crashes;
    enum family is;
} both_ends[] = {{1, 2, 0, FAMILY_FAILED},   {2, 2, 0, FAMILY_COMPLETE},
                 {3, 2, 2, FAMILY_COMPLETE}, {0, 4, 3, FAMILY_FAILED},
                 {5, 0, 1, FAMILY_COMPLETE}, {1, 0, 5, FAMILY_COMPLETE}};

/* Ends that the history knows nothing of, and two of one job. */
START_TEST(ends)
{
    rig_setup(r, _i);
    for (size_t i = 0; i < COUNT(both_ends); i++) {
        rig_put(r, mail, 0);
    }
    leave();
    for (size_t i = 0; i < COUNT(both_ends); i++) {
        if (both_ends[i].complete != 0) {
            put_end(FAMILY_COMPLETE, i + 1, both_ends[i].complete,
                    both_ends[i].crashes);
        }
        if (both_ends[i].failed != 0) {
            put_end(FAMILY_FAILED, i + 1, both_ends[i].failed,
                    both_ends[i].crashes);
        }
    }
    rebuilt();
    report_is(COUNT(both_ends), 0, 0);
    for (size_t i = 0; i < COUNT(both_ends); i++) {
        ck_assert_int_eq(end_of(&after[i + 1]), both_ends[i].is);
        ck_assert_uint_eq(after[i + 1].pending, 0);
    }
    rig_teardown(r);
}
END_TEST

/* Rows without their job go. */
START_TEST(orphans)
{
    setup(_i);
    for (int i = 0; i < 5; i++) {
        rig_put(r, mail, 0);
    }
    rig_move(r, rig_claim(r, mail), EVENT_COMPLETE); /* 1 */
    rig_move(r, rig_claim(r, mail), EVENT_FAIL);     /* 2 */
    job_t *job = rig_claim(r, mail);                 /* 3 */
    rig_commit(r);
    rig_move(r, job, EVENT_REPEAT);
    job = rig_hand_off(r, "web", 0); /* 7 */
    ck_assert_uint_eq(job->id, 7);
    leave();
    static const uint64_t gone[] = {1, 2, 3, 4, 7};
    for (size_t i = 0; i < COUNT(gone); i++) {
        del_row(FAMILY_JOBS, gone[i]);
    }
    rebuilt();
    report_is(1, 0, 4); /* of job 4 there was only a pending row */
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), 1);
    ck_assert_uint_eq(rig_rows(r, FAMILY_RUNNING), 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_HISTORY), 0);
    ck_assert_uint_eq(rig_claim(r, mail)->id, 5);
    rig_teardown(r);
}
END_TEST

/* What was claimed comes back to the front, and one that is to run at most once
 * fails; that it was, a claim says, or a cursor, or that no row is left. */
START_TEST(claimed_comes_back)
{
    setup(_i);
    uint64_t claimed = rig_put(r, mail, 0);
    uint64_t claimed_once = put_once(mail);
    uint64_t passed = rig_put(r, mail, 0);
    uint64_t passed_once = put_once(mail);
    uint64_t lost = rig_put(r, mail, 0);
    uint64_t lost_once = put_once(mail);
    uint64_t last = rig_put(r, mail, 0);
    uint64_t last_once = put_once(mail);
    rig_claim(r, mail);
    rig_claim(r, mail);
    rig_commit(r);
    uint64_t set = r->s.commit;
    for (int i = 0; i < 4; i++) {
        rig_claim(r, mail);
    }
    leave();
    del_row(FAMILY_RUNNING, set);
    del_place(0, 0, LINE_NORMAL, lost);
    del_place(0, 0, LINE_NORMAL, lost_once);
    rebuilt();
    report_is(8, 6, 0);
    const uint64_t again[] = {claimed, passed, lost};
    const uint64_t failed[] = {claimed_once, passed_once, lost_once};
    for (int i = 0; i < 3; i++) {
        const struct known *k = &after[again[i]];
        ck_assert_uint_eq(k->attempts, 1);
        ck_assert_uint_eq(k->kind, LINE_FRONT);
        ck_assert_int_eq(end_of(k), 0);
        k = &after[failed[i]];
        ck_assert_int_eq(end_of(k), FAMILY_FAILED);
        ck_assert_int_eq(k->code, DASSIE_EINTERRUPTED);
        ck_assert_uint_eq(k->ended[FAMILY_FAILED], 1);
    }
    ck_assert(!after[last].has[FAMILY_HISTORY]);
    ck_assert(!after[last_once].has[FAMILY_HISTORY]);
    const uint64_t order[] = {claimed, passed, lost, last, last_once};
    for (size_t i = 0; i < COUNT(order); i++) {
        ck_assert_uint_eq(rig_claim(r, mail)->id, order[i]);
    }
    rig_teardown(r);
}
END_TEST

/* A job that has lost its payload to its end does not run again without it,
 * though the row of that end was lost. */
START_TEST(payload_dropped)
{
    struct settings_row settings = {.number = {[SETTING_DROP_PAYLOAD] = 1}};
    setup(_i);
    uint64_t id = rig_put(r, mail, 0);
    uint64_t next = rig_put(r, mail, 0);
    dassie__store_settings(
        &r->s, dassie__queues_find(&r->s.queues, mail, strlen(mail)),
        &settings);
    job_t *job = rig_claim(r, mail);
    rig_commit(r);
    rig_move(r, job, EVENT_COMPLETE);
    leave();
    del_row(FAMILY_COMPLETE, id);
    rebuilt();
    report_is(2, 0, 0);
    ck_assert_int_eq(end_of(&after[id]), FAMILY_COMPLETE);
    ck_assert_uint_eq(after[id].ended[FAMILY_COMPLETE], 1);
    ck_assert_uint_eq(rig_claim(r, mail)->id, next);
    rig_teardown(r);
}
END_TEST

/* The most that is known of a job's runs: its history was lost, the claim that
 * came later was not. */
START_TEST(attempts)
{
    setup(_i);
    uint64_t id = rig_put(r, mail, 0);
    for (int i = 0; i < 3; i++) {
        job_t *job = rig_claim(r, mail);
        rig_commit(r);
        rig_move(r, job, EVENT_REPEAT);
        rig_commit(r);
    }
    rig_claim(r, mail);
    leave();
    del_row(FAMILY_HISTORY, id);
    rebuilt();
    ck_assert_uint_eq(after[id].attempts, 4);
    job_t *job = rig_claim(r, mail);
    ck_assert_uint_eq(job->attempts, 4);
    rig_teardown(r);
}
END_TEST

/* A claim tells that its job left its place, if no cursor does. */
START_TEST(claim_without_cursor)
{
    setup(_i);
    uint64_t id = rig_put(r, mail, 0);
    job_t *job = rig_claim(r, mail);
    rig_commit(r);
    rig_move(r, job, EVENT_REPEAT);
    rig_commit(r);
    rig_claim(r, mail);
    uint64_t commit = r->s.commit;
    leave();
    del_row(FAMILY_COMMITS, commit);
    rebuilt();
    report_is(1, 1, 0);
    ck_assert_uint_eq(after[id].attempts, 2);
    ck_assert_uint_gt(r->s.commit, commit);
    rig_teardown(r);
}
END_TEST

/* No number is given twice, wherever it stands. */
START_TEST(highest_numbers)
{
    uint8_t row[HISTORY_ROW_HEAD_MAX];
    struct history_row history = {
        .last_run = 100000, .kind = LINE_FRONT, .position = 2000};
    setup(_i);
    uint64_t id = rig_put(r, mail, 0);
    leave();
    put_row(FAMILY_HISTORY, id, row,
            dassie__history_row_write_head(row, &history));
    put_end(FAMILY_COMPLETE, 3000, 1, 0);
    rebuilt();
    report_is(1, 1, 1);
    ck_assert_uint_gt(r->s.next, 3000);
    ck_assert_uint_gt(r->s.commit, 100000);
    rig_teardown(r);
}
END_TEST

static bool queue_is_there(const char *name)
{
    return dassie__queues_find(&r->s.queues, name, strlen(name)) != NULL;
}

/* Names are unique, whatever users have chosen, and ids stay what they were. */
/* A rebuild that did not get to its end gave a number away that no commit
 * tells: it is not given to a job before. */
START_TEST(places_given_before)
{
    uint8_t key[KEY_PENDING_BYTES];
    uint8_t row[HISTORY_ROW_HEAD_MAX];
    setup(_i);
    uint64_t claimed = rig_put(r, mail, 0);
    uint64_t back = rig_put(r, mail, 0);
    rig_claim(r, mail);
    /* The first number goes to the claim, the second to its place. */
    struct place place = {0, 0, LINE_FRONT, r->s.next + 1};
    struct pending_row pending = {back, 1};
    struct history_row history = {
        .attempts = 1, .kind = LINE_FRONT, .position = place.position};
    leave();
    dassie__key_pending(key, &place);
    size_t len = dassie__pending_row_write(row, &pending);
    r->kv->ops->put(r->kv, FAMILY_PENDING, kv_slice(key, sizeof key),
                    kv_slice(row, len));
    put_row(FAMILY_HISTORY, back, row,
            dassie__history_row_write_head(row, &history));
    rebuilt();
    report_is(2, 1, 0);
    ck_assert_uint_eq(rig_claim(r, mail)->id, back);
    ck_assert_uint_eq(rig_claim(r, mail)->id, claimed);
    rig_teardown(r);
}
END_TEST

START_TEST(lost_names)
{
    rig_setup(r, _i);
    static const char *const names[] = {"a",           "b", "recovered-1",
                                        "recovered-5", "c", "d"};
    for (size_t i = 0; i < COUNT(names); i++) {
        rig_put(r, names[i], 0);
    }
    leave();
    del_name(1);
    del_name(4);
    del_name(5);
    rebuilt();
    report_is(COUNT(names), 0, 0);
    ck_assert_uint_eq(report.named, 3);
    static const char *const now[] = {"a",           "recovered-1-2",
                                      "recovered-1", "recovered-5",
                                      "recovered-4", "recovered-5-2"};
    for (uint32_t i = 0; i < COUNT(now); i++) {
        ck_assert_str_eq(r->s.queues.by_id[i]->name, now[i]);
        ck_assert_uint_eq(rig_claim(r, now[i])->id, i + 1);
    }
    ck_assert(!queue_is_there("b"));
    rig_reopen(r);
    ck_assert(queue_is_there("recovered-5-2"));
    rig_teardown(r);
}
END_TEST

/* More jobs than are read between two commits. */
START_TEST(many)
{
    enum { JOBS = 3000, STEP = 3 };
    setup(_i);
    for (int i = 0; i < JOBS; i++) {
        rig_put(r, i % 2 == 0 ? mail : "web", 0);
    }
    leave();
    for (uint64_t id = STEP; id <= JOBS; id += STEP) {
        del_row(FAMILY_JOBS, id);
    }
    for (uint64_t id = 1; id <= JOBS; id += STEP) {
        put_end(FAMILY_COMPLETE, id, 1, 0);
    }
    rebuilt();
    uint64_t third = JOBS / STEP;
    report_is(JOBS - third, 0, 0);
    ck_assert_uint_eq(report.removed, 2 * third); /* pending rows */
    ck_assert_uint_eq(report.added, 0);
    ck_assert_uint_eq(r->s.queues.tally.pending, third);
    rig_teardown(r);
}
END_TEST

/* ---- What is no lost commit ---- */

static const char longer_than_any[KEY_BYTES_MAX + 1] = "n";

static const struct {
    enum family family;
    const char *key;
    size_t key_len;
    const char *value;
    size_t value_len;
} damages[] = {
    {FAMILY_META, "s", 1, "\7", 1},
    {FAMILY_META, "n\0\0\0\0", 5, "\7a", 2},
    {FAMILY_META, "n\0\0\0\1", 5, "\1mail", 5},
    {FAMILY_META, "n\0\1\0\0", 5, "\1x", 2},
    {FAMILY_META, "nn", 2, "\1x", 2},
    {FAMILY_META, "n\0\0\0\1 a long key", 16, "\1x", 2},
    {FAMILY_META, "q\0\0\0\0", 5, "", 0},
    {FAMILY_META, "q\0\0\0\0", 5, "\1\0", 2},
    {FAMILY_META, "q\0\0\0\0", 5, "\1\0\0\0\0\0\1", 7},
    {FAMILY_META, "q\0\0\0\0", 5, "\1\200\200\4\0\0\0\0\0", 9},
    {FAMILY_META, "q\0\0\0\0", 5, "\7\0", 2},
    {FAMILY_META, "c\0\0\0\0", 5, "\7", 1},
    {FAMILY_META, "cc", 2, "\1", 1},
    {FAMILY_COMMITS, "abc", 3, "", 0},
    {FAMILY_COMMITS, "\0\0\0\0\0\0\0\1", 8, "\7", 1},
    {FAMILY_COMMITS, "\0\0\0\0\0\0\0\1", 8, "\1\1\1\1\1\1", 6},
    {FAMILY_RUNNING, "abc", 3, "\1", 1},
    {FAMILY_RUNNING, "\0\0\0\0\0\0\0\1", 8, "\7", 1},
    {FAMILY_RUNNING, "\0\0\0\0\0\0\0\1", 8, "\1\2", 2},
    {FAMILY_JOBS, "abc", 3, "", 0},
    {FAMILY_JOBS, "\0\0\0\0\0\0\0\1", 8, "\7", 1},
    {FAMILY_COMPLETE, "abc", 3, "", 0},
    {FAMILY_COMPLETE, "\0\0\0\0\0\0\0\1", 8, "\7", 1},
    {FAMILY_COMPLETE, "\0\0\0\0\0\0\0\1", 8, "\1\0\0\0\0", 5},
    {FAMILY_FAILED, "\0\0\0\0\0\0\0\1", 8, "", 0},
    {FAMILY_HISTORY, "\0\0\0\0\0\0\0\1", 8, "\1\1", 2},
    {FAMILY_HISTORY, "\0\0\0\0\0\0\0\3", 8, "\1\1", 2},
    {FAMILY_PENDING, "abc", 3, "", 0},
    {FAMILY_PENDING, "\0\0\0\0\200\2\0\0\0\0\0\0\0\1", 14, "\7", 1},
    {FAMILY_PENDING, "\0\0\0\0\200\2\0\0\0\0\0\0\0\11", 14, "\7", 1},
    {FAMILY_UNIQUE, "ab", 2, "", 0},
    {FAMILY_UNIQUE, "\0\0\0\0key", 7, "\7", 1},
    {FAMILY_UNIQUE, "\0\1\0\0key", 7, "\1\1\0\0", 4},
    {FAMILY_SCHEDULED, "abc", 3, "", 0},
    {FAMILY_SCHEDULED, "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\1", 17, "\7", 1},
    {FAMILY_RUNNING, "\377abc", 4, "\1", 1},
    {FAMILY_RUNNING, "\377\0\0\0\0\0\0\0\1", 9, "\7", 1},
    {FAMILY_META, longer_than_any, sizeof longer_than_any, "\1", 1},
    {FAMILY_HISTORY, longer_than_any, sizeof longer_than_any, "\1", 1},
};

/* It is told, and all that was there is still there. */
START_TEST(damage)
{
    rig_setup(r, RIG_MEM);
    rig_put(r, mail, 0);
    rig_put(r, mail, 0);
    rig_hand_off(r, mail, 0);
    leave();
    r->kv->ops->put(r->kv, damages[_i].family,
                    kv_slice(damages[_i].key, damages[_i].key_len),
                    kv_slice(damages[_i].value, damages[_i].value_len));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
    size_t jobs = rig_rows(r, FAMILY_JOBS);
    ck_assert_int_eq(rebuild(), DASSIE_ECORRUPT);
    ck_assert_msg(strstr(r->e.text, "rebuild: ") != NULL, "%s", r->e.text);
    ck_assert_uint_eq(rig_rows(r, FAMILY_JOBS), jobs);
    left_free();
}
END_TEST

static unsigned allocs_left;

static bool alloc_fails(void)
{
    if (allocs_left == 0) {
        return true;
    }
    allocs_left--;
    return false;
}

static void *poor_malloc(size_t size)
{
    return alloc_fails() ? NULL : malloc(size);
}

static void *poor_calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : calloc(n, size);
}

static void *poor_realloc(void *p, size_t size)
{
    return alloc_fails() ? NULL : realloc(p, size);
}

/* Whichever allocation fails, the next rebuild makes up for it. */
START_TEST(no_memory)
{
    dice_begin(7);
    churn(10);
    lose(LOSS_FEW);
    kept[3] = false;
    unsigned n = 0;
    for (int rc = UV_ENOMEM; rc != 0; n++) {
        left_replay(RIG_MEM);
        dassie__job_cache_clear();
        allocs_left = n;
        ck_assert_int_eq(dassie_replace_allocator(poor_malloc, poor_realloc,
                                                  poor_calloc, free),
                         0);
        rc = rebuild();
        ck_assert_int_eq(
            dassie_replace_allocator(malloc, realloc, calloc, free), 0);
        ck_assert_msg(rc == 0 || rc == UV_ENOMEM, "%d %s", rc, r->e.text);
        RIG_OK(r, rebuild());
        check_sound();
        check_jobs();
        left_free();
    }
    ck_assert_uint_gt(n, 50);
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

static struct {
    const struct kv_ops *own;
    unsigned left; /* until one fails */
    bool failed;
} gets;

static int failing_get(struct kv *kv, const struct kv_snapshot *snapshot,
                       enum family family, struct kv_slice key,
                       struct kv_value *value, struct errmsg *e)
{
    if (gets.left-- == 0) {
        gets.failed = true;
        return dassie__errmsg_set(e, UV_EIO, "told to fail");
    }
    return gets.own->get(kv, snapshot, family, key, value, e);
}

/* Whichever row cannot be read, the next rebuild makes up for it. */
START_TEST(failing_reads)
{
    dice_begin(_i);
    churn(16);
    lose(LOSS_HALF);
    gets.failed = true;
    for (unsigned n = 0; gets.failed; n++) {
        left_replay(RIG_MEM);
        struct kv_ops ops = *r->kv->ops;
        gets.own = r->kv->ops;
        gets.left = n;
        gets.failed = false;
        ops.get = failing_get;
        r->kv->ops = &ops;
        int rc = rebuild();
        r->kv->ops = gets.own;
        ck_assert_int_eq(rc, gets.failed ? UV_EIO : 0);
        RIG_OK(r, rebuild());
        check_sound();
        check_jobs();
        left_free();
    }
    rig_free(&source);
    tape_free(&tape);
}
END_TEST

/* ---- Through the front door ---- */

#define WAIT_MS 60000

static struct {
    uv_loop_t loop;
    dassie_t q;
    uv_timer_t cap;
    char dir[TEMP_PATH_BYTES];
    int status;
    int n; /* callbacks */
    bool late;
    char log[2048];
    uint8_t boot;
    void (*boot_id)(uint8_t id[BOOT_ID_BYTES]);
} door;

static void door_boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memset(id, door.boot, BOOT_ID_BYTES);
}

static void door_late(uv_timer_t *timer)
{
    (void)timer;
    door.late = true;
}

/* Runs the loop for so many callbacks. */
static void door_wait(int n)
{
    ck_assert_int_eq(uv_timer_start(&door.cap, door_late, WAIT_MS, 0), 0);
    while (door.n < n && !door.late) {
        uv_run(&door.loop, UV_RUN_ONCE);
    }
    ck_assert(!door.late);
    uv_timer_stop(&door.cap);
    door.n = 0;
}

static void door_opened(dassie_t *q, int status)
{
    (void)q;
    door.status = status;
    door.n++;
}

static void door_closed(dassie_t *q)
{
    (void)q;
    door.n++;
}

static void door_acked(dassie_enqueue_t *req, int status)
{
    ck_assert_int_eq(status, 0);
    door.n += req->done_cb == NULL;
}

static void door_done(dassie_enqueue_t *req, int status,
                      const dassie_info_t *job)
{
    (void)req;
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(job->state, DASSIE_COMPLETE);
    door.n++;
}

static void door_logged(dassie_t *q, dassie_log_level_t level, const char *line)
{
    size_t len = strlen(door.log);
    (void)q;
    snprintf(door.log + len, sizeof door.log - len, "%d %s\n", (int)level,
             line);
}

static int door_work(dassie_job_t *job)
{
    (void)job;
    return 0;
}

static void door_setup(void)
{
    memset(&door, 0, sizeof door);
    temp_dir_make(door.dir);
    door.boot_id = dassie__env.boot_id;
    dassie__env.boot_id = door_boot_id;
    door.boot = 1;
    ck_assert_int_eq(uv_loop_init(&door.loop), 0);
    ck_assert_int_eq(uv_timer_init(&door.loop, &door.cap), 0);
}

static void door_teardown(void)
{
    uv_close((uv_handle_t *)&door.cap, NULL);
    ck_assert_int_eq(uv_run(&door.loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&door.loop), 0);
    dassie__env.boot_id = door.boot_id;
    temp_dir_remove(door.dir);
}

static int door_open(const char *name, dassie_durability_t durability)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    char path[PATH_MAX];
    options.durability = durability;
    options.log_cb = door_logged;
    options.free_bytes_min = 1;
    door.log[0] = '\0';
    temp_path(path, door.dir, name);
    ck_assert_int_eq(dassie_init(&door.loop, &door.q), 0);
    ck_assert_int_eq(dassie_open(&door.q, path, &options, door_opened), 0);
    door_wait(1);
    return door.status;
}

static void door_close(void)
{
    ck_assert_int_eq(dassie_close(&door.q, door_closed), 0);
    door_wait(1);
}

/* One commit. */
static uint64_t door_enqueue(const char *queue, bool ends_too)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_enqueue_t req = {.done_cb = ends_too ? door_done : NULL};
    spec.queue = queue;
    ck_assert_int_eq(dassie_enqueue(&door.q, &req, &spec, door_acked), 0);
    door_wait(1);
    return req.id;
}

/* What is on disk while the store is open is what a kill leaves. */
static void door_copy(const char *from, const char *to)
{
    char command[3 * PATH_MAX];
    snprintf(command, sizeof command, "cp -R '%s/%s' '%s/%s'", door.dir, from,
             door.dir, to);
    ck_assert_int_eq(system(command), 0);
}

#define DOOR_DONE 4
#define DOOR_PENDING 9

/* Makes a store, and "killed" as a kill leaves it. The job in the middle of the
 * pending ones is told. */
static uint64_t door_make(dassie_durability_t durability)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_processor_t processor = {.data = NULL};
    uint64_t middle = 0;
    ck_assert_int_eq(door_open("store", durability), 0);
    options.queue = "served";
    options.work = door_work;
    ck_assert_int_eq(dassie_process(&door.q, &processor, &options), 0);
    for (int i = 0; i < DOOR_DONE; i++) {
        door_enqueue("served", true);
    }
    for (int i = 0; i < DOOR_PENDING; i++) {
        uint64_t id = door_enqueue("waiting", false);
        middle = i == DOOR_PENDING / 2 ? id : middle;
    }
    door_copy("store", "killed");
    door_close();
    return middle;
}

/* The commit that enqueued a job. */
static uint64_t commit_of(struct kv *kv, uint64_t id)
{
    struct verify v = {.kv = kv};
    struct part_reader reader;
    struct store_row row;
    struct errmsg e;
    uint64_t number = 0;
    struct kv_iter *it = dassie__verify_iter(&v, FAMILY_COMMITS);
    ck_assert_ptr_nonnull(it);
    for (; kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        struct kv_slice key = kv->ops->iter_key(it);
        struct kv_slice value = kv->ops->iter_value(it);
        ck_assert_int_eq(
            dassie__store_row_read(&reader, value.p, value.len, &row), 0);
        if (row.next == id + 1) {
            ck_assert_int_eq(dassie__key_parse_number(key.p, key.len, &number),
                             0);
            break;
        }
    }
    ck_assert_int_eq(kv->ops->iter_close(it, &e), 0);
    ck_assert_uint_ne(number, 0);
    return number;
}

/* Takes the commit that enqueued a job out of the store. */
static void door_lose(const char *name, uint64_t id)
{
    char path[PATH_MAX];
    struct kv_rocks_options options = {.dir = path, .memory_bytes = 16 << 20};
    uint8_t key[KEY_PENDING_BYTES];
    struct place place = {1, 0, LINE_NORMAL, id};
    struct kv *kv;
    struct errmsg e;
    temp_path(path, door.dir, name);
    ck_assert_int_eq(dassie__kv_rocks_open(&options, &kv, &e), 0);
    kv->ops->del(kv, FAMILY_COMMITS, number_key(commit_of(kv, id)));
    kv->ops->del(kv, FAMILY_JOBS, number_key(id));
    dassie__key_pending(key, &place);
    kv->ops->del(kv, FAMILY_PENDING, kv_slice(key, sizeof key));
    ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
    kv->ops->close(kv, true);
}

static void door_sound(const char *name)
{
    char path[PATH_MAX];
    dassie_verify_report_t found;
    temp_path(path, door.dir, name);
    ck_assert_int_eq(dassie_verify(path, NULL, NULL, &found), 0);
    ck_assert_uint_eq(found.problems, 0);
}

static bool door_rebuilt(void)
{
    return strstr(door.log, "2 rebuilt after a power cut") != NULL;
}

static const struct {
    dassie_durability_t made; /* how the last owner had opened it */
    dassie_durability_t opened;
    bool clean; /* and closed it */
    bool boots; /* the machine was booted since */
    bool loses; /* a commit is missing */
    int status;
    bool rebuilds;
} doors[] = {
    {DASSIE_OFF, DASSIE_OFF, false, true, true, 0, true},
    {DASSIE_OFF, DASSIE_FULL, false, true, true, 0, true},
    {DASSIE_OFF, DASSIE_OFF, false, true, false, 0, true},
    {DASSIE_OFF, DASSIE_OFF, false, false, true, DASSIE_ECORRUPT, false},
    {DASSIE_OFF, DASSIE_FULL, false, false, false, 0, false},
    {DASSIE_OFF, DASSIE_OFF, true, true, false, 0, false},
    {DASSIE_OFF, DASSIE_OFF, true, true, true, DASSIE_ECORRUPT, false},
    {DASSIE_FULL, DASSIE_OFF, false, true, true, DASSIE_ECORRUPT, false},
    {DASSIE_FULL, DASSIE_FULL, false, true, false, 0, false},
    {DASSIE_FULL, DASSIE_OFF, false, false, false, 0, false},
};

START_TEST(open_rebuilds)
{
    const char *name = doors[_i].clean ? "store" : "killed";
    door_setup();
    uint64_t middle = door_make(doors[_i].made);
    if (doors[_i].loses) {
        door_lose(name, middle);
    }
    door.boot += doors[_i].boots;
    ck_assert_int_eq(door_open(name, doors[_i].opened), doors[_i].status);
    ck_assert_msg(door_rebuilt() == doors[_i].rebuilds, "%s", door.log);
    if (doors[_i].rebuilds) {
        char numbers[64];
        snprintf(numbers, sizeof numbers, ": %d jobs kept, 0 of them",
                 DOOR_DONE + DOOR_PENDING - doors[_i].loses);
        ck_assert_msg(strstr(door.log, numbers) != NULL, "%s", door.log);
        ck_assert_ptr_null(strstr(door.log, "the last owner died"));
    }
    if (doors[_i].status == 0) {
        dassie_stats_t stats;
        ck_assert_int_eq(dassie_stats(&door.q, &stats), 0);
        ck_assert_uint_eq(stats.jobs.complete, DOOR_DONE);
        ck_assert_uint_eq(stats.jobs.pending, DOOR_PENDING - doors[_i].loses);
    }
    door_close();
    if (doors[_i].status == 0) {
        door_sound(name);
    }
    door_teardown();
}
END_TEST

/* A rebuild is over when the store is open: a kill after it is but a kill. */
START_TEST(open_rebuilds_once)
{
    door_setup();
    door_lose("killed", door_make(DASSIE_OFF));
    door.boot++;
    ck_assert_int_eq(door_open("killed", DASSIE_OFF), 0);
    ck_assert(door_rebuilt());
    door_copy("killed", "again");
    door_close();
    ck_assert_int_eq(door_open("again", DASSIE_OFF), 0);
    ck_assert(!door_rebuilt());
    door_close();
    door_sound("again");
    door_teardown();
}
END_TEST

/* It is not over when the open fails: the next one rebuilds. */
START_TEST(open_rebuilds_again)
{
    char path[PATH_MAX];
    struct kv_rocks_options options = {.dir = path, .memory_bytes = 16 << 20};
    struct kv *kv;
    struct errmsg e;
    door_setup();
    door_lose("killed", door_make(DASSIE_OFF));
    door.boot++;
    temp_path(path, door.dir, "killed");
    for (int bad = 1; bad >= 0; bad--) {
        struct kv_slice key = number_key(IDS_MAX);
        ck_assert_int_eq(dassie__kv_rocks_open(&options, &kv, &e), 0);
        if (bad) {
            kv->ops->put(kv, FAMILY_FAILED, key, kv_slice("", 0));
        } else {
            kv->ops->del(kv, FAMILY_FAILED, key);
        }
        ck_assert_int_eq(kv->ops->commit(kv, true, &e), 0);
        kv->ops->close(kv, true);
        ck_assert_int_eq(door_open("killed", DASSIE_FULL),
                         bad ? DASSIE_ECORRUPT : 0);
        ck_assert(bad || door_rebuilt());
        door_close();
    }
    door_sound("killed");
    door_teardown();
}
END_TEST

static Suite *rebuild_suite(void)
{
    bool quick = getenv("QUICK") != NULL;
    bool nightly = getenv("NIGHTLY") != NULL;
    int rounds = nightly ? 20 : 1;
    Suite *suite = suite_create("rebuild");
    TCase *tc = tcase_create("rules");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, sound_store, 0, RIG_KINDS);
    tcase_add_loop_test(tc, nothing_left, 0, RIG_KINDS);
    tcase_add_loop_test(tc, one_commit_left, 0, RIG_KINDS);
    tcase_add_loop_test(tc, ends, 0, RIG_KINDS);
    tcase_add_loop_test(tc, orphans, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claimed_comes_back, 0, RIG_KINDS);
    tcase_add_loop_test(tc, payload_dropped, 0, RIG_KINDS);
    tcase_add_loop_test(tc, attempts, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claim_without_cursor, 0, RIG_KINDS);
    tcase_add_loop_test(tc, highest_numbers, 0, RIG_KINDS);
    tcase_add_loop_test(tc, places_given_before, 0, RIG_KINDS);
    tcase_add_loop_test(tc, lost_names, 0, RIG_KINDS);
    tcase_add_loop_test(tc, many, 0, RIG_KINDS);
    tcase_add_loop_test(tc, damage, 0, (int)COUNT(damages));
    tcase_add_test(tc, no_memory);
    tcase_add_loop_test(tc, failing_reads, 0, 4);

    tc = tcase_create("losses");
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, any_loss, 0, 4 * LOSSES * rounds);
    tcase_add_loop_test(tc, as_recovery, 0, 4 * rounds);

    tc = tcase_create("interrupted");
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, killed_at_each_commit, 0, (quick ? 1 : 2) * rounds);
    tcase_add_loop_test(tc, power_cut_again, 0, 2 * rounds);
    tcase_add_loop_test(tc, synced_once, 0, RIG_KINDS);

    tc = tcase_create("open");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, open_rebuilds, 0, (int)COUNT(doors));
    tcase_add_test(tc, open_rebuilds_once);
    tcase_add_test(tc, open_rebuilds_again);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(rebuild_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
