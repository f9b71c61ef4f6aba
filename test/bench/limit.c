/* limit.c: the bare loop that writes what Dassie wrote; see bench.h.
 *
 * One thread, no queue, no callback: it puts the rows of so many jobs into a
 * batch, writes it with an fsync, and so on, as many batches as Dassie made.
 * How many rows of each kind there are, and how they spread over queues and
 * priorities, comes from Dassie's run and from the load; when a job is enqueued
 * or ends in which batch is spread evenly. */
#include "config.h"

#include "bare.h"

#include "record.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_BYTES 1024 /* a row up to this is joined before it is put */

/* A queue as the commits' rows tell of it. */
struct bare_queue {
    struct tally tally;
    struct line_row line[3];
    bool line_changed[3];
    bool changed;
};

struct limit {
    const struct load *load;
    const char *dir;
    const dassie_stats_t *writes;
    struct figure *figure;
    struct bare b;
    unsigned long *order; /* in which jobs are claimed and end */
    uint8_t *head;        /* of a job's row: all but the payload */
    size_t head_len;
    struct bare_queue *queues;
    unsigned *changed; /* queues that this batch changed */
    unsigned changed_n;
    uint8_t *commit_row;
    unsigned long enqueued;
    unsigned long promoted;
    unsigned long claimed;
    unsigned long unclaimed;
    unsigned long ended;
    uint64_t positions; /* beyond the ids, taken by jobs that moved */
};

static struct bare_queue *touch(struct limit *l, unsigned long job)
{
    unsigned i = load_queue(l->load, job);
    struct bare_queue *q = &l->queues[i];
    if (!q->changed) {
        q->changed = true;
        l->changed[l->changed_n++] = i;
    }
    return q;
}

static struct line_row *touch_line(struct limit *l, unsigned long job)
{
    struct bare_queue *q = touch(l, job);
    int at = load_priority(l->load, job) + 1;
    q->line_changed[at] = true;
    q->line[at].priority = (int8_t)(at - 1);
    q->line[at].kind = LINE_NORMAL;
    return &q->line[at];
}

/* How much of total is due by the end of batch number i (from 1) of n. */
static unsigned long due(unsigned long total, unsigned long i, unsigned long n)
{
    return (unsigned long)((double)total * (double)i / (double)n);
}

/* ---- The order of claims ---- */

static const struct load *sorted_load;

/* Queue by queue, and the first priority first. */
static int order_cmp(const void *a, const void *b)
{
    unsigned long x = *(const unsigned long *)a;
    unsigned long y = *(const unsigned long *)b;
    int by_queue =
        (int)load_queue(sorted_load, x) - (int)load_queue(sorted_load, y);
    int by_priority =
        load_priority(sorted_load, x) - load_priority(sorted_load, y);
    if (by_queue != 0) {
        return by_queue;
    }
    return by_priority != 0 ? by_priority : (x > y) - (x < y);
}

/* The jobs of each batch are claimed, and end, in the order that queues and
 * priorities give them; worked out before the clock runs. */
static void order_prepare(struct limit *l)
{
    unsigned long n = l->writes->commits;
    unsigned long from = 0;
    l->order = calloc(l->load->jobs, sizeof l->order[0]);
    if (l->order == NULL) {
        die("memory", UV_ENOMEM);
    }
    for (unsigned long i = 0; i < l->load->jobs; i++) {
        l->order[i] = i;
    }
    sorted_load = l->load;
    for (unsigned long i = 1; i <= n; i++) {
        unsigned long to = due(l->load->jobs, i, n);
        qsort(l->order + from, to - from, sizeof l->order[0], order_cmp);
        from = to;
    }
}

static unsigned long job_at(const struct limit *l, unsigned long i)
{
    return i < l->load->jobs ? l->order[i] : i;
}

/* ---- Rows ---- */

static void put_names(struct limit *l)
{
    static const struct settings_row settings = {
        .number[SETTING_KEEP_COMPLETE] = UINT64_MAX,
        .number[SETTING_KEEP_COMPLETE + 1] = UINT64_MAX,
        .number[SETTING_KEEP_COMPLETE + 2] = UINT64_MAX};
    for (unsigned i = 0; i < l->load->queues; i++) {
        uint8_t key[KEY_QUEUE_BYTES];
        uint8_t row[NAME_ROW_MAX];
        char name[16] = "default";
        if (l->load->queues > 1) {
            snprintf(name, sizeof name, "q%u", i);
        }
        dassie__key_queue(key, KEY_NAME_TAG, i);
        size_t len = dassie__name_row_write(row, name, strlen(name));
        bare_put(&l->b, FAMILY_META, key, sizeof key, row, len);
        dassie__key_queue(key, KEY_SETTINGS_TAG, i);
        len = dassie__settings_row_write(row, &settings);
        bare_put(&l->b, FAMILY_META, key, sizeof key, row, len);
    }
}

static void put_job(struct limit *l, unsigned long job)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t row[JOIN_BYTES];
    size_t len = l->load->payload;
    const void *payload = payload_of(job, len);
    dassie__key_number(key, job + 1);
    put_be32(l->head + JOB_ROW_QUEUE_AT, load_queue(l->load, job));
    if (l->head_len + len <= sizeof row) {
        memcpy(row, l->head, l->head_len);
        memcpy(row + l->head_len, payload, len);
        bare_put(&l->b, FAMILY_JOBS, key, sizeof key, row, l->head_len + len);
        return;
    }
    bare_put2(&l->b, FAMILY_JOBS, key, sizeof key,
              (const void *const[]){l->head, payload},
              (const size_t[]){l->head_len, len});
}

static size_t row_bytes(const struct limit *l)
{
    return l->head_len + l->load->payload;
}

/* One pending job more, or with -1 one less. */
static void count_pending(const struct limit *l, struct bare_queue *q, int d)
{
    q->tally.pending += (uint64_t)d;
    q->tally.pending_bytes += (uint64_t)d * row_bytes(l);
}

/* Whether the job was claimed in the commit of its enqueue, without a pending
 * row: so many are, evenly spread. */
static bool is_handed_off(const struct limit *l, unsigned long job)
{
    const dassie_stats_t *s = l->writes;
    double share =
        s->enqueued > 0 ? (double)s->handed_off / (double)s->enqueued : 0;
    return (unsigned long)((double)(job + 1) * share) >
           (unsigned long)((double)job * share);
}

static void put_pending(struct limit *l, unsigned long job)
{
    uint8_t key[KEY_PENDING_BYTES];
    struct line_row *line = touch_line(l, job);
    struct place place = {load_queue(l->load, job), line->priority, LINE_NORMAL,
                          job + 1};
    if (line->live == 0 && line->dead == 0) {
        line->start = place.position;
    }
    line->tail = place.position;
    line->live++;
    dassie__key_pending(key, &place);
    bare_put(&l->b, FAMILY_PENDING, key, sizeof key, "", 0);
}

static void put_scheduled(struct limit *l, unsigned long job)
{
    uint8_t key[KEY_DUE_BYTES];
    uint8_t row[DUE_ROW_MAX];
    struct due due = {UINT64_C(1700000000000) + job / 400, job + 1, DUE_JOB};
    struct due_row what = {.queue = load_queue(l->load, job),
                           .priority = (int8_t)load_priority(l->load, job),
                           .bytes = row_bytes(l)};
    dassie__key_due(key, &due);
    size_t len = dassie__due_row_write(row, &what);
    bare_put(&l->b, FAMILY_SCHEDULED, key, sizeof key, row, len);
}

static void put_jobs(struct limit *l, unsigned long to)
{
    for (; l->enqueued < to; l->enqueued++) {
        struct bare_queue *q = touch(l, l->enqueued);
        put_job(l, l->enqueued);
        if (load_delay_ms(l->load, l->enqueued) > 0) {
            q->tally.scheduled++;
            put_scheduled(l, l->enqueued);
            continue;
        }
        count_pending(l, q, 1);
        if (!is_handed_off(l, l->enqueued)) {
            put_pending(l, l->enqueued);
        }
    }
}

static void claim(struct limit *l, unsigned long job)
{
    struct bare_queue *q = touch(l, job);
    count_pending(l, q, -1);
    q->tally.running++;
    if (!is_handed_off(l, job)) {
        struct line_row *line = touch_line(l, job);
        line->cursor = job + 2;
        line->live--;
        line->dead++;
    }
}

/* Of a backlog's sets some are written twice: what is left of one moves into
 * the next. As many are here as rows of Dassie's are not accounted for. */
static bool is_rewritten(const struct limit *l, uint64_t commit)
{
    const dassie_stats_t *w = l->writes;
    uint64_t plain = w->completed + 3 * w->commits + 2 * w->unclaimed;
    unsigned long extra =
        w->rows > plain ? (unsigned long)(w->rows - plain) : 0;
    return w->enqueued == 0 && commit > 1 &&
           due(extra, commit, w->commits) > due(extra, commit - 1, w->commits);
}

static void put_claims(struct limit *l, unsigned long to, uint64_t commit)
{
    static uint8_t sets[2][1 + DASSIE_CLAIMED_MAX * CLAIM_ENTRY_MAX];
    static size_t lens[2];
    uint8_t *set = sets[commit % 2];
    uint8_t key[KEY_NUMBER_BYTES];
    uint64_t last = 0;
    if (l->claimed == to) {
        return;
    }
    size_t len = dassie__claim_set_begin(set);
    while (l->claimed < to) {
        unsigned long job = job_at(l, l->claimed++ - l->unclaimed);
        struct claim_entry entry = {job + 1, 1};
        claim(l, job);
        len = dassie__claim_set_add(set, len, last, &entry);
        last = entry.id;
    }
    dassie__key_number(key, commit);
    bare_put(&l->b, FAMILY_RUNNING, key, sizeof key, set, len);
    lens[commit % 2] = len;
    dassie__key_number(key, commit - 1);
    if (is_rewritten(l, commit)) {
        bare_put(&l->b, FAMILY_RUNNING, key, sizeof key, sets[(commit + 1) % 2],
                 lens[(commit + 1) % 2]);
    }
    bare_del(&l->b, FAMILY_RUNNING, key, sizeof key);
}

/* Those that were claimed ahead and went back: a row in the front line, and
 * their history. */
/* A job back in a line of its queue: a new position, and its history. */
static void put_again(struct limit *l, unsigned long job, enum line_kind kind,
                      uint64_t commit)
{
    uint8_t key[KEY_PENDING_BYTES];
    uint8_t row[HISTORY_ROW_HEAD_MAX];
    uint64_t position = l->load->jobs + ++l->positions;
    struct place place = {load_queue(l->load, job),
                          (int8_t)load_priority(l->load, job), (uint8_t)kind,
                          position};
    struct pending_row pending = {job + 1, 0};
    struct history_row history = {
        .last_run = commit, .kind = (uint8_t)kind, .position = position};
    dassie__key_pending(key, &place);
    size_t len = dassie__pending_row_write(row, &pending);
    bare_put(&l->b, FAMILY_PENDING, key, sizeof key, row, len);
    dassie__key_number(key, job + 1);
    len = dassie__history_row_write_head(row, &history);
    bare_put(&l->b, FAMILY_HISTORY, key, KEY_NUMBER_BYTES, row, len);
}

/* Those that were claimed ahead went back. */
static void put_unclaims(struct limit *l, unsigned long to, uint64_t commit)
{
    for (; l->unclaimed < to; l->unclaimed++) {
        unsigned long job = job_at(l, l->claimed - l->unclaimed - 1);
        struct bare_queue *q = touch(l, job);
        count_pending(l, q, 1);
        q->tally.running--;
        put_again(l, job, LINE_FRONT, commit);
    }
}

/* Those whose time has come. */
static void put_promotions(struct limit *l, unsigned long to)
{
    for (; l->promoted < to; l->promoted++) {
        unsigned long job = l->promoted * LOAD_DELAYED_EACH;
        struct bare_queue *q = touch(l, job);
        q->tally.scheduled--;
        count_pending(l, q, 1);
        touch_line(l, job)->live++;
        put_again(l, job, LINE_NORMAL, 0);
    }
}

static void put_ends(struct limit *l, unsigned long to)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t head[END_ROW_HEAD_MAX];
    struct end_row end = {.ended_ms = UINT64_C(1700000000000), .attempts = 1};
    size_t len = dassie__end_row_write_head(head, &end);
    while (l->ended < to) {
        unsigned long job = job_at(l, l->ended++);
        struct bare_queue *q = touch(l, job);
        q->tally.running--;
        q->tally.complete++;
        q->tally.complete_bytes += row_bytes(l) + len;
        dassie__key_number(key, job + 1);
        bare_put(&l->b, FAMILY_COMPLETE, key, sizeof key, head, len);
    }
}

static size_t queue_write(struct limit *l, unsigned i, uint8_t *row)
{
    struct bare_queue *q = &l->queues[i];
    uint32_t lines = 0;
    for (int k = 0; k < 3; k++) {
        lines += q->line_changed[k];
    }
    size_t len = dassie__queue_part_write(row, i, &q->tally, lines);
    for (int k = 0; k < 3; k++) {
        if (q->line_changed[k]) {
            len += dassie__line_part_write(row + len, &q->line[k]);
            q->line_changed[k] = false;
        }
    }
    q->changed = false;
    return len;
}

static void put_commit(struct limit *l, uint64_t commit)
{
    uint8_t key[KEY_NUMBER_BYTES];
    struct store_row store = {.next = l->enqueued,
                              .oldest_set = commit,
                              .folded = commit,
                              .wall_ms = UINT64_C(1700000000000),
                              .queues = l->changed_n};
    size_t len = dassie__store_row_write(l->commit_row, &store);
    while (l->changed_n > 0) {
        len += queue_write(l, l->changed[--l->changed_n], l->commit_row + len);
    }
    dassie__key_number(key, commit);
    bare_put(&l->b, FAMILY_COMMITS, key, sizeof key, l->commit_row, len);
}

/* ---- A backlog ---- */

/* Two iterators in step. */
struct backlog {
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *pending;
    rocksdb_iterator_t *jobs;
    unsigned long claimed;
    unsigned long deleted; /* pending rows */
    uint8_t *job;
};

static void backlog_open(struct limit *l, struct backlog *k)
{
    memset(k, 0, sizeof *k);
    k->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(k->read, 0);
    k->pending = rocksdb_create_iterator_cf(l->b.db, k->read,
                                            l->b.family[FAMILY_PENDING]);
    k->jobs =
        rocksdb_create_iterator_cf(l->b.db, k->read, l->b.family[FAMILY_JOBS]);
    rocksdb_iter_seek_to_first(k->pending);
    rocksdb_iter_seek_to_first(k->jobs);
    k->job = malloc(l->head_len + l->load->payload);
    count_pending(l, &l->queues[0], (int)l->load->jobs);
    l->queues[0].line[1].live = l->load->jobs;
    l->queues[0].line[1].tail = l->load->jobs;
    l->queues[0].line[1].start = 1;
}

static void backlog_read(struct backlog *k, unsigned long to)
{
    for (; k->claimed < to; k->claimed++) {
        size_t len;
        size_t key_len;
        struct place place;
        const uint8_t *key =
            (const uint8_t *)rocksdb_iter_key(k->pending, &key_len);
        if (dassie__key_parse_pending(key, key_len, &place) != 0 ||
            !rocksdb_iter_valid(k->jobs)) {
            die("the backlog", DASSIE_ECORRUPT);
        }
        const char *row = rocksdb_iter_value(k->jobs, &len);
        memcpy(k->job, row, len);
        rocksdb_iter_next(k->pending);
        rocksdb_iter_next(k->jobs);
    }
}

/* Rows that are dead go by range, as often as Dassie's do. */
static void backlog_delete(struct limit *l, struct backlog *k)
{
    uint8_t from[KEY_PENDING_BYTES];
    uint8_t to[KEY_PENDING_BYTES];
    struct place place = {0, 0, LINE_NORMAL, k->deleted + 1};
    if (k->claimed - k->deleted <= DEAD_ROWS_MAX) {
        return;
    }
    dassie__key_pending(from, &place);
    place.position = k->claimed + 1;
    dassie__key_pending(to, &place);
    bare_del_range(&l->b, FAMILY_PENDING, from, to, sizeof to);
    k->deleted = k->claimed;
}

static void backlog_close(struct backlog *k)
{
    rocksdb_iter_destroy(k->pending);
    rocksdb_iter_destroy(k->jobs);
    rocksdb_readoptions_destroy(k->read);
    free(k->job);
}

/* ---- One run ---- */

static void limit_prepare(struct limit *l)
{
    unsigned queues = l->load->queues;
    struct job_row row = {.enqueued_ms = UINT64_C(1700000000000)};
    l->head_len = dassie__job_row_bytes(0, 0);
    l->head = malloc(l->head_len);
    l->queues = calloc(queues, sizeof l->queues[0]);
    l->changed = calloc(queues, sizeof l->changed[0]);
    l->commit_row = malloc(STORE_ROW_MAX + (size_t)queues * QUEUE_PART_MAX +
                           (size_t)queues * 3 * LINE_PART_MAX);
    if (l->head == NULL || l->queues == NULL || l->changed == NULL ||
        l->commit_row == NULL) {
        die("memory", UV_ENOMEM);
    }
    dassie__job_row_write(l->head, &row);
    payload_of(0, l->load->payload);
}

/* Batch number i (from 1) of n. A job ends in a later batch than that in which
 * it was claimed. */
static void write_batch(struct limit *l, unsigned long i, unsigned long n)
{
    const dassie_stats_t *s = l->writes;
    put_jobs(l, due(s->enqueued, i, n));
    put_promotions(l, i < n ? due(s->promoted, i - 1, n) : s->promoted);
    put_claims(l, due(s->claimed, i, n), i);
    put_unclaims(l, due(s->unclaimed, i, n), i);
    put_ends(l, i < n ? due(s->completed, i - 1, n) : s->completed);
    put_commit(l, i);
    bare_commit(&l->b, true);
}

static void limit_child(void *arg)
{
    struct limit *l = arg;
    unsigned long n = l->writes->commits;
    limit_prepare(l);
    order_prepare(l);
    bare_create(&l->b, l->dir, path_of("model"));
    double busy = busiest_thread_s();
    double begin = now_s();
    put_names(l);
    for (unsigned long i = 1; i <= n; i++) {
        write_batch(l, i, n);
    }
    l->figure->seconds = now_s() - begin;
    l->figure->busy_seconds = busiest_thread_s() - busy;
    bare_stats(&l->b, &l->figure->stats);
    bare_close(&l->b);
}

static void limit_drain_child(void *arg)
{
    struct limit *l = arg;
    struct backlog backlog;
    unsigned long n = l->writes->commits;
    limit_prepare(l);
    order_prepare(l);
    bare_open(&l->b, l->dir);
    double busy = busiest_thread_s();
    double begin = now_s();
    backlog_open(l, &backlog);
    for (unsigned long i = 1; i <= n; i++) {
        backlog_read(&backlog, due(l->load->jobs, i, n));
        backlog_delete(l, &backlog);
        write_batch(l, i, n);
    }
    backlog_close(&backlog);
    l->figure->seconds = now_s() - begin;
    l->figure->busy_seconds = busiest_thread_s() - busy;
    bare_stats(&l->b, &l->figure->stats);
    bare_close(&l->b);
}

void limit_run(const struct load *load, const char *dir,
               const dassie_stats_t *writes, struct figure *limit)
{
    struct limit l = {
        .load = load, .dir = dir, .writes = writes, .figure = limit};
    in_child(limit_child, &l);
}

void limit_drain_run(const struct load *load, const char *dir,
                     const dassie_stats_t *writes, struct figure *limit)
{
    struct limit l = {
        .load = load, .dir = dir, .writes = writes, .figure = limit};
    in_child(limit_drain_child, &l);
}
