/* latency.c: row 4: one durable enqueue at a time, beside one bare synced
 * write of the same rows and one fdatasync() of the same bytes, a few of each
 * in turn. */
#include "config.h"

#include "bare.h"
#include "chain.h"

#include "record.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 20 /* samples of a kind before the next kind has its turn */
#define PAYLOAD 128

enum kind { OURS, BARE, SYNC, KINDS };

struct latency {
    unsigned samples;
    double *us[KINDS]; /* shared */
    uv_loop_t loop;
    dassie_t q;
    dassie_enqueue_t req;
    struct bare bare;
    struct append file;
    unsigned n; /* samples taken of each kind */
    unsigned block;
    uint64_t begin;
};

static void enqueue(struct latency *l);

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct latency *l = req->data;
    if (status != 0) {
        die("enqueue", status);
    }
    l->us[OURS][l->n + l->block] = (double)(uv_hrtime() - l->begin) / 1e3;
    if (++l->block < BLOCK) {
        enqueue(l);
    } else {
        uv_stop(&l->loop);
    }
}

static void enqueue(struct latency *l)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    spec.data = payload_of(l->n, PAYLOAD);
    spec.data_len = PAYLOAD;
    l->req.data = l;
    l->begin = uv_hrtime();
    int rc = dassie_enqueue(&l->q, &l->req, &spec, on_ack);
    if (rc != 0) {
        die("dassie_enqueue", rc);
    }
}

/* The rows of a job that waits: its own, its pending one, the commit's. */
static size_t bare_enqueue(struct bare *b, uint64_t id)
{
    uint8_t key[KEY_NUMBER_BYTES];
    uint8_t pending[KEY_PENDING_BYTES];
    uint8_t row[1024];
    struct place place = {0, 0, LINE_NORMAL, id};
    struct job_row job = {.data = payload_of(id, PAYLOAD), .data_len = PAYLOAD};
    struct store_row store = {.next = id,
                              .oldest_set = id,
                              .wall_ms = UINT64_C(1700000000000),
                              .queues = 1};
    struct tally tally = {.pending = id};
    struct line_row line = {0, LINE_NORMAL, 1, 1, id, id, 0};
    uint64_t before = b->row_bytes;
    dassie__key_number(key, id);
    dassie__key_pending(pending, &place);
    dassie__job_row_write(row, &job);
    bare_put(b, FAMILY_JOBS, key, sizeof key, row,
             dassie__job_row_bytes(0, PAYLOAD));
    bare_put(b, FAMILY_PENDING, pending, sizeof pending, "", 0);
    size_t len = dassie__store_row_write(row, &store);
    len += dassie__queue_part_write(row + len, 0, &tally, 1);
    len += dassie__line_part_write(row + len, &line);
    bare_put(b, FAMILY_COMMITS, key, sizeof key, row, len);
    bare_commit(b, true);
    return b->row_bytes - before;
}

static void sample_blocks(struct latency *l)
{
    size_t bytes = PAYLOAD;
    while (l->n + BLOCK <= l->samples) {
        l->block = 0;
        enqueue(l);
        uv_run(&l->loop, UV_RUN_DEFAULT);
        for (unsigned i = 0; i < BLOCK; i++) {
            uint64_t begin = uv_hrtime();
            bytes = bare_enqueue(&l->bare, l->n + i + 1);
            l->us[BARE][l->n + i] = (double)(uv_hrtime() - begin) / 1e3;
        }
        for (unsigned i = 0; i < BLOCK; i++) {
            uint64_t begin = uv_hrtime();
            append_sync(&l->file, bytes);
            l->us[SYNC][l->n + i] = (double)(uv_hrtime() - begin) / 1e3;
        }
        l->n += BLOCK;
    }
}

static void on_open(dassie_t *q, int status)
{
    struct latency *l = q->data;
    if (status != 0) {
        die(dassie_errmsg(q), status);
    }
    uv_stop(&l->loop);
}

static void latency_child(void *arg)
{
    struct latency *l = arg;
    bare_create(&l->bare, path_of("limit"), path_of("model"));
    append_open(&l->file, path_of("bytes"));
    uv_loop_init(&l->loop);
    l->q.data = l;
    bench_open(&l->loop, &l->q, path_of("store"), NULL, on_open);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    sample_blocks(l);
    dassie_stats_t stats;
    bench_close(&l->q, &stats);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    bare_close(&l->bare);
}

void latency_row(const struct row *row)
{
    unsigned samples = 200 * (unsigned)bench.scale;
    double p50[KINDS][REPEATS];
    double p99[KINDS][REPEATS];
    struct latency l = {.samples = samples};
    for (int k = 0; k < KINDS; k++) {
        l.us[k] = shared(samples * sizeof l.us[k][0]);
    }
    for (int i = 0; i < REPEATS; i++) {
        store_remove(path_of("store"));
        in_child(latency_child, &l);
        for (int k = 0; k < KINDS; k++) {
            sort_doubles(l.us[k], samples);
            p50[k][i] = percentile(l.us[k], samples, 50);
            p99[k][i] = percentile(l.us[k], samples, 99);
        }
    }
    report(row, p50[OURS], p50[BARE], REPEATS);
    note(
        "p99 %.0f us, bare %.0f us; a bare fdatasync: p50 %.0f us, "
        "p99 %.0f us",
        median(p99[OURS], REPEATS), median(p99[BARE], REPEATS),
        median(p50[SYNC], REPEATS), median(p99[SYNC], REPEATS));
}
