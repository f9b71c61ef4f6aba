#include "facts.h"

#include "dassie.h"
#include "memory.h"
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define IDS_MAX 16384

static uint16_t token_of[IDS_MAX]; /* + 1 */

int facts_token(const char *name, size_t len)
{
    unsigned token = 0;
    if (len < 2 || len > 5 || name[0] != 'j') {
        return -1;
    }
    for (size_t i = 1; i < len; i++) {
        token = token * 10 + (unsigned)(name[i] - '0');
    }
    return token < TOKENS_MAX ? (int)token : -1;
}

size_t facts_payload(unsigned token, uint8_t data[400])
{
    size_t len = token % 7 == 0 ? 0 : token % 11 == 0 ? 400 : token % 40;
    memset(data, (int)(token * 31 + 7), len);
    return len;
}

static struct fact *fact_of(struct facts *facts, uint64_t id)
{
    unsigned token = id < IDS_MAX ? token_of[id] : 0;
    return token > 0 && facts->job[token - 1].id == id ? &facts->job[token - 1]
                                                       : NULL;
}

typedef void (*row_cb)(struct facts *facts, uint64_t number,
                       struct kv_slice key, struct kv_slice value);

static void each_row(struct kv *kv, struct facts *facts, enum family family,
                     row_cb cb)
{
    static const uint8_t from[] = {0};
    static const uint8_t to[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 0xff};
    struct errmsg e;
    memory_disk(true);
    struct kv_iter *it = kv->ops->iter(
        kv, NULL, family, kv_slice(from, sizeof from), kv_slice(to, sizeof to));
    for (; kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        struct kv_slice key = kv->ops->iter_key(it);
        uint64_t number = 0;
        if (kv->ops->iter_live(it, &e) != 1) {
            continue;
        }
        dassie__key_parse_number(key.p, key.len, &number);
        cb(facts, number, key, kv->ops->iter_value(it));
    }
    kv->ops->iter_close(it, &e);
    memory_disk(false);
}

static void on_job(struct facts *facts, uint64_t id, struct kv_slice key,
                   struct kv_slice value)
{
    struct job_row row;
    uint8_t data[400];
    (void)key;
    SIM_CHECK(
        dassie__job_row_read(value.p, value.len, &row) == 0 && id < IDS_MAX,
        "the row of job %d", (int)id);
    int token = facts_token(row.name, row.name_len);
    SIM_CHECK(token >= 0, "nobody asked for job %d", (int)id);
    SIM_CHECK(facts->job[token].id == 0, "j%d is there twice", token);
    size_t len = facts_payload((unsigned)token, data);
    SIM_CHECK(row.data_len == len && memcmp(row.data, data, len) == 0,
              "j%d has another payload", token);
    /* Field by field: facts are compared byte by byte, padding included. */
    struct fact *fact = &facts->job[token];
    fact->id = id;
    fact->state = FACT_NONE;
    fact->queue = row.queue;
    fact->priority = row.priority;
    fact->flags = row.flags;
    const uint64_t *number = row.options.number;
    uint64_t due_ms = number[JOB_DUE] > 0 ? number[JOB_DUE] : row.enqueued_ms;
    fact->expires_ms = number[JOB_EXPIRE] > 0 ? due_ms + number[JOB_EXPIRE] : 0;
    fact->kind = LINE_NORMAL;
    fact->position = id;
    token_of[id] = (uint16_t)(token + 1);
}

static void on_history(struct facts *facts, uint64_t id, struct kv_slice key,
                       struct kv_slice value)
{
    struct history_row row;
    struct fact *fact = fact_of(facts, id);
    (void)key;
    SIM_CHECK(dassie__history_row_read(value.p, value.len, &row) == 0,
              "a history row");
    if (fact != NULL) {
        fact->history = true;
        fact->attempts = row.attempts;
        fact->excused = row.excused;
        fact->code = row.code;
        fact->crashes = row.crashes;
        fact->last_run = row.last_run;
        fact->kind = row.kind;
        fact->position = row.position;
    }
}

static void on_end(struct facts *facts, uint64_t id, struct kv_slice value,
                   int state)
{
    struct end_row row;
    struct fact *fact = fact_of(facts, id);
    SIM_CHECK(dassie__end_row_read(value.p, value.len, &row) == 0,
              "a terminal row");
    if (fact != NULL) {
        fact->state = state;
        fact->attempts = row.attempts;
        fact->crashes = row.crashes;
        fact->code = row.code;
        fact->out_len = row.data_len;
        memcpy(fact->out, row.data,
               row.data_len < OUT_MAX ? row.data_len : OUT_MAX);
    }
}

static void on_complete(struct facts *facts, uint64_t id, struct kv_slice key,
                        struct kv_slice value)
{
    (void)key;
    on_end(facts, id, value, DASSIE_COMPLETE);
}

static void on_failed(struct facts *facts, uint64_t id, struct kv_slice key,
                      struct kv_slice value)
{
    (void)key;
    on_end(facts, id, value, DASSIE_FAILED);
}

static void on_cancelled(struct facts *facts, uint64_t id, struct kv_slice key,
                         struct kv_slice value)
{
    (void)key;
    on_end(facts, id, value, DASSIE_CANCELLED);
}

static void on_set(struct facts *facts, uint64_t commit, struct kv_slice key,
                   struct kv_slice value)
{
    struct claim_reader r;
    struct claim_entry entry;
    (void)key;
    SIM_CHECK(dassie__claim_set_open(&r, value.p, value.len) == 0,
              "a claim set");
    while (dassie__claim_set_next(&r, &entry) == 1) {
        struct fact *fact = fact_of(facts, entry.id);
        if (fact != NULL && fact->state == FACT_NONE &&
            fact->last_run < commit) {
            fact->state = DASSIE_RUNNING;
            fact->set = commit;
        }
    }
}

static void on_running(struct facts *facts, uint64_t commit,
                       struct kv_slice key, struct kv_slice value)
{
    if (key.p[0] != KEY_SAVE_TAG) {
        on_set(facts, commit, key, value);
    }
}

static void on_due(struct facts *facts, uint64_t number, struct kv_slice key,
                   struct kv_slice value)
{
    struct due due;
    (void)number;
    (void)value;
    SIM_CHECK(dassie__key_parse_due(key.p, key.len, &due) == 0,
              "a scheduled row");
    struct fact *fact = fact_of(facts, due.id);
    if (fact != NULL && fact->state == FACT_NONE && due.kind == DUE_JOB &&
        (!fact->history ||
         (fact->kind == PLACE_SCHEDULED && fact->position == due.ms))) {
        fact->state = DASSIE_SCHEDULED;
        fact->kind = PLACE_SCHEDULED;
        fact->position = due.ms;
    }
}

static void on_pending(struct facts *facts, uint64_t number,
                       struct kv_slice key, struct kv_slice value)
{
    struct place place;
    struct pending_row row;
    (void)number;
    SIM_CHECK(dassie__key_parse_pending(key.p, key.len, &place) == 0 &&
                  dassie__pending_row_read(value.p, value.len, place.position,
                                           &row) == 0,
              "a pending row");
    struct fact *fact = fact_of(facts, row.id);
    if (fact != NULL && fact->state == FACT_NONE &&
        fact->position == place.position && fact->kind == place.kind) {
        fact->state = DASSIE_PENDING;
    }
}

void facts_read(struct kv *kv, struct facts *facts)
{
    memset(facts, 0, sizeof *facts);
    each_row(kv, facts, FAMILY_JOBS, on_job);
    each_row(kv, facts, FAMILY_HISTORY, on_history);
    each_row(kv, facts, FAMILY_COMPLETE, on_complete);
    each_row(kv, facts, FAMILY_FAILED, on_failed);
    each_row(kv, facts, FAMILY_CANCELLED, on_cancelled);
    each_row(kv, facts, FAMILY_RUNNING, on_running);
    each_row(kv, facts, FAMILY_SCHEDULED, on_due);
    each_row(kv, facts, FAMILY_PENDING, on_pending);
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *fact = &facts->job[i];
        if (fact->id != 0 && fact->state != FACT_NONE) {
            facts->n[fact->state]++;
        }
    }
}
