#include "config.h"

#include "rebuild.h"

#include "alloc.h"
#include "claims.h"
#include "rebuild_rows.h"

#include <string.h>

/* One commit that folds: its number is so far on. */
static int finish(struct rebuild *rb)
{
    struct store *s = &rb->s;
    if (s->queues.n == 0 && rb->last_commit == 0) {
        return 0; /* then there is nothing at all */
    }
    if (dassie__store_make_room(s) != 0) {
        return dassie__rebuild_no_memory(rb);
    }
    dassie__claims_free(s);
    for (uint32_t i = 0; i < s->queues.n; i++) {
        dassie__queue_touch(&s->queues, s->queues.by_id[i]);
    }
    s->commit = rb->last_commit + FOLD_COMMITS;
    s->folded = 0;
    s->sync = true;
    s->changed = true;
    return dassie__store_commit(s, rb->wall_ms, rb->e);
}

int dassie__rebuild(struct kv *kv, uint64_t wall_ms, uint64_t skip,
                    struct rebuild_report *report, struct errmsg *e)
{
    static int (*const parts[])(struct rebuild *) = {
        dassie__rebuild_load, dassie__rebuild_jobs,     dassie__rebuild_lines,
        dassie__rebuild_keys, dassie__rebuild_schedule, dassie__rebuild_saves};
    struct rebuild rb = {.s = {.kv = kv, .next = 1},
                         .written = kv->rows,
                         .wall_ms = wall_ms,
                         .report = report,
                         .e = e};
    memset(report, 0, sizeof *report);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof parts[0]; i++) {
        rc = parts[i](&rb);
    }
    if (rc == 0) {
        rb.s.next += skip;
        rc = finish(&rb);
    }
    if (rc != 0) {
        kv->ops->drop(kv);
    }
    dassie__claims_free(&rb.s);
    dassie__queues_free(&rb.s.queues);
    dassie__queues_free(&rb.taken);
    dassie__free(rb.s.commit_row);
    return rc;
}
