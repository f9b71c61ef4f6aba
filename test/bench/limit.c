/* limit.c: the bare loop.
 *
 * One thread, no queue, no callback: it puts the rows of so many jobs into a
 * batch, writes it with an fsync, and so on, as many batches as Dassie made.
 * The database is opened with the same options. */
#include "config.h"

#include "bench.h"

#include "kv_rocks.h"
#include "record.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct limit {
    const struct load *load;
    struct kv *kv;
    uint8_t *row;
    size_t row_len;
    unsigned long enqueued;
    unsigned long pended;
    unsigned long claimed;
    unsigned long ended;
};

static struct kv_slice id_key(uint8_t key[KEY_NUMBER_BYTES], uint64_t id)
{
    dassie__key_number(key, id);
    return kv_slice(key, KEY_NUMBER_BYTES);
}

/* How much of total is due by the end of batch number i of n. */
static unsigned long due(unsigned long total, unsigned long i, unsigned long n)
{
    return (unsigned long)((double)total * (double)(i + 1) / (double)n);
}

static void put_jobs(struct limit *l, unsigned long to)
{
    uint8_t key[KEY_NUMBER_BYTES];
    while (l->enqueued < to) {
        l->kv->ops->put(l->kv, FAMILY_JOBS, id_key(key, ++l->enqueued),
                        kv_slice(l->row, l->row_len));
    }
}

static void put_pending(struct limit *l, unsigned long to)
{
    uint8_t key[KEY_PENDING_BYTES];
    while (l->pended < to) {
        struct place place = {0, 0, LINE_NORMAL, ++l->pended};
        dassie__key_pending(key, &place);
        l->kv->ops->put(l->kv, FAMILY_PENDING, kv_slice(key, sizeof key),
                        kv_slice("", 0));
    }
}

static void put_claims(struct limit *l, unsigned long to, uint64_t commit)
{
    static uint8_t set[1 + DASSIE_CLAIMED_MAX * CLAIM_ENTRY_MAX];
    uint8_t key[KEY_NUMBER_BYTES];
    uint64_t last = 0;
    if (l->claimed == to) {
        return;
    }
    size_t len = dassie__claim_set_begin(set);
    while (l->claimed < to) {
        struct claim_entry entry = {++l->claimed, 1};
        len = dassie__claim_set_add(set, len, last, &entry);
        last = entry.id;
    }
    l->kv->ops->put(l->kv, FAMILY_RUNNING, id_key(key, commit),
                    kv_slice(set, len));
    l->kv->ops->del(l->kv, FAMILY_RUNNING, id_key(key, commit - 1));
}

static void put_ends(struct limit *l, unsigned long to)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t head[END_ROW_HEAD_MAX];
    struct end_row end = {.ended_ms = UINT64_C(1700000000000), .attempts = 1};
    size_t len = dassie__end_row_write_head(head, &end);
    while (l->ended < to) {
        l->kv->ops->put(l->kv, FAMILY_COMPLETE, id_key(key, ++l->ended),
                        kv_slice(head, len));
    }
}

static void put_commit(struct limit *l, uint64_t commit)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t row[STORE_ROW_MAX + QUEUE_PART_MAX + LINE_PART_MAX];
    struct store_row store = {l->enqueued, commit, commit,
                              UINT64_C(1700000000000), 1};
    struct tally tally = {l->enqueued - l->claimed, l->claimed - l->ended,
                          l->ended, 0};
    struct line_row line = {0,           LINE_NORMAL,   1, l->claimed + 1,
                            l->enqueued, tally.pending, 0};
    size_t len = dassie__store_row_write(row, &store);
    len += dassie__queue_part_write(row + len, 0, &tally, 1);
    len += dassie__line_part_write(row + len, &line);
    l->kv->ops->put(l->kv, FAMILY_COMMITS, id_key(key, commit),
                    kv_slice(row, len));
}

static void limit_open(struct limit *l)
{
    struct errmsg e;
    struct kv_rocks_options o = {.dir = l->load->dir,
                                 .memory_bytes = DASSIE_MEMORY_BYTES / 4 * 3,
                                 .create = true};
    store_remove(l->load->dir);
    if (mkdir(l->load->dir, 0755) != 0 ||
        dassie__kv_rocks_open(&o, &l->kv, &e) != 0) {
        die("the limit's store", UV_EIO);
    }
    struct job_row row = {.data_len = l->load->payload};
    l->row_len = dassie__job_row_bytes(0, row.data_len);
    l->row = malloc(l->row_len);
    uint8_t *data = malloc(row.data_len + 1);
    memset(data, 'x', row.data_len + 1);
    row.data = data;
    dassie__job_row_write(l->row, &row);
    free(data);
}

void limit_run(const struct load *load, const struct figure *dassie,
               struct figure *limit)
{
    struct limit l = {.load = load};
    struct errmsg e;
    const dassie_stats_t *s = &dassie->stats;
    unsigned long pending = s->enqueued - s->handed_off;
    unsigned long n = s->fsyncs > 0 ? s->fsyncs : 1;
    limit_open(&l);
    double begin = now_s();
    for (unsigned long i = 0; i < n; i++) {
        put_jobs(&l, due(load->jobs, i, n));
        put_pending(&l, due(pending, i, n));
        put_claims(&l, due(s->claimed, i, n), i + 1);
        put_ends(&l, due(s->completed, i, n));
        put_commit(&l, i + 1);
        if (l.kv->ops->commit(l.kv, true, &e) != 0) {
            die(e.text, UV_EIO);
        }
    }
    limit->seconds = now_s() - begin;
    limit->stats.rows = l.kv->rows;
    limit->stats.row_bytes = l.kv->row_bytes;
    limit->stats.fsyncs = l.kv->syncs;
    l.kv->ops->close(l.kv, true);
    free(l.row);
}
