#include "config.h"

#include "verify_job.h"

#include <inttypes.h>
#include <string.h>

static const char *const column_names[COLUMNS] = {
    "jobs", "complete", "failed", "cancelled", "history", "saved"};

static bool history_unknown(const struct facts *f)
{
    return f->there[HISTORY] && !f->good[HISTORY];
}

static void judge_row(struct verify *v, const struct facts *f)
{
    const struct job_row *job = &f->job;
    if (f->id == 0 || f->id >= v->head.next) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": the id is not below the next number, "
                            "%" PRIu64,
                            f->id, v->head.next);
    }
    if (!f->good[JOBS]) {
        return;
    }
    if (dassie__verify_queue(v, job->queue) == NULL) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": jobs row: queue %" PRIu32
                            " has no name",
                            f->id, job->queue);
    }
    if (job->priority < DASSIE_PRIORITY_MIN ||
        job->priority > DASSIE_PRIORITY_MAX ||
        (job->flags & ~DASSIE_AT_MOST_ONCE) != 0) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": jobs row: priority %d or flags %#x",
            f->id, job->priority, (unsigned)job->flags);
    }
    if (job->dropped && !f->there[COMPLETE]) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": jobs row: its payload is gone, but it is not "
                            "complete",
                            f->id);
    }
}

static void judge_history(struct verify *v, const struct facts *f)
{
    const struct history_row *h = &f->history;
    if (h->last_run > v->last_commit) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": history row: its last run was in commit "
                            "%" PRIu64 ", but the last is %" PRIu64,
                            f->id, h->last_run, v->last_commit);
    }
    bool scheduled = h->kind == PLACE_SCHEDULED;
    if (f->good[HISTORY] &&
        (h->position == 0 ||
         h->position >=
             (scheduled ? (uint64_t)DASSIE_TIME_MS_MAX + 1 : v->head.next))) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": history row: position %" PRIu64
                            " is out of range",
                            f->id, h->position);
    }
}

static void judge_end(struct verify *v, const struct facts *f,
                      enum column column)
{
    const struct end_row *end = &f->end[column];
    const struct history_row *h = &f->history;
    if (!f->good[column]) {
        return;
    }
    if ((column == COMPLETE) != (end->code == 0)) {
        dassie__verify_tell(v, f->id, "job %" PRIu64 ": %s row: code %d", f->id,
                            column_names[column], end->code);
    }
    if (history_unknown(f)) {
        return;
    }
    uint64_t more = end->attempts - (uint64_t)h->attempts;
    if (more != 1 && (column != CANCELLED || more != 0)) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": %s row: ended in run %" PRIu32
                            ", but its history row counts %" PRIu32,
                            f->id, column_names[column], end->attempts,
                            h->attempts);
    }
    if (end->crashes < h->crashes || end->crashes > (uint64_t)h->crashes + 1) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": %s row: %" PRIu32
                            " crashes, but its history row counts %" PRIu32,
                            f->id, column_names[column], end->crashes,
                            h->crashes);
    }
}

/* Only a run saves anything, and a job that is complete has nothing left. */
static void judge_saved(struct verify *v, const struct facts *f)
{
    if (!f->there[SAVED]) {
        return;
    }
    if (f->there[COMPLETE]) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": saved row of a complete job", f->id);
    }
    if ((f->pending > 0 || f->scheduled > 0) && !history_unknown(f) &&
        f->history.attempts == 0) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": saved row, but it never ran", f->id);
    }
}

static bool has_ended(const struct facts *f)
{
    return f->there[COMPLETE] || f->there[FAILED] || f->there[CANCELLED];
}

static void judge_claim(struct verify *v, struct facts *f,
                        const struct verify_entry *entry)
{
    if (f->history.last_run >= entry->at || !f->there[JOBS]) {
        return; /* that run is over: the job came back, or was deleted */
    }
    if (!history_unknown(f) &&
        entry->attempts != (uint64_t)f->history.attempts + 1) {
        dassie__verify_tell(
            v, f->id,
            "job %" PRIu64 ": claim set %" PRIu64 ": run %" PRIu32
            ", but its history row counts %" PRIu32,
            f->id, entry->at, entry->attempts, f->history.attempts);
    }
    if (has_ended(f)) {
        return;
    }
    v->sets[entry->where & ~VERIFY_CLAIM].live++;
    if (f->claims++ == 0) {
        f->claim = entry->at;
    } else {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": claimed twice, in claim sets %" PRIu64
                            " and %" PRIu64,
                            f->id, f->claim, entry->at);
    }
}

static void judge_place(struct verify *v, const struct facts *f,
                        const struct verify_entry *entry)
{
    const struct verify_line *line = &v->lines[entry->where];
    char text[VERIFY_TEXT];
    dassie__verify_line_text(v, line, text);
    if (f->good[JOBS] && (f->job.queue != line->queue ||
                          f->job.priority != line->row.priority)) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": pending row in %s, but its jobs row says "
                            "queue %" PRIu32 ", priority %d",
                            f->id, text, f->job.queue, f->job.priority);
    }
    if (history_unknown(f)) {
        return;
    }
    bool fresh = f->good[JOBS] && f->job.options.number[JOB_DUE] == 0;
    uint64_t position = f->good[HISTORY] ? f->history.position : f->id;
    uint8_t kind = f->good[HISTORY] ? f->history.kind
                   : fresh          ? LINE_NORMAL
                                    : PLACE_SCHEDULED;
    if (entry->at != position || line->row.kind != kind) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": pending row at position %" PRIu64
                            " of %s, but %s",
                            f->id, entry->at, text,
                            f->good[HISTORY] ? "its history row says otherwise"
                                             : "it has no history row");
    }
    if (entry->attempts != f->history.attempts) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": pending row counts %" PRIu32
                            " attempts, its history row %" PRIu32,
                            f->id, entry->attempts, f->history.attempts);
    }
}

static void judge_due(struct verify *v, const struct facts *f,
                      const struct verify_entry *entry)
{
    bool history = (entry->where & 1) != 0;
    if (f->there[JOBS] &&
        entry->where != verify_scheduled(history, f->len[JOBS])) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64
                            ": scheduled row: its jobs row has another length",
                            f->id);
    }
    if (history_unknown(f)) {
        return;
    }
    if (history != f->there[HISTORY] ||
        entry->attempts != f->history.attempts) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": scheduled row counts %" PRIu32
                            " attempts, its history row %" PRIu32,
                            f->id, entry->attempts, f->history.attempts);
    }
    uint64_t due = f->good[HISTORY]
                       ? f->history.position
                       : (f->good[JOBS] ? f->job.options.number[JOB_DUE] : 0);
    if (entry->at != due ||
        (f->good[HISTORY] && f->history.kind != PLACE_SCHEDULED)) {
        dassie__verify_tell(v, f->id,
                            "job %" PRIu64 ": scheduled for %" PRIu64
                            ", but its %s row says otherwise",
                            f->id, entry->at,
                            f->good[HISTORY] ? "history" : "jobs");
    }
}

static void judge_entries(struct verify *v, struct facts *f)
{
    for (size_t i = 0; i < f->entries_n; i++) {
        const struct verify_entry *entry = &f->entries[i];
        if (verify_is(entry, VERIFY_CLAIM)) {
            judge_claim(v, f, entry);
            continue;
        }
        if (verify_is(entry, VERIFY_UNIQUE) || verify_is(entry, VERIFY_TIMER)) {
            continue;
        }
        if (verify_is(entry, VERIFY_SCHEDULED)) {
            judge_due(v, f, entry);
            if (f->scheduled++ > 0) {
                dassie__verify_tell(
                    v, f->id, "job %" PRIu64 ": two scheduled rows", f->id);
            }
            continue;
        }
        judge_place(v, f, entry);
        if (f->pending++ > 0) {
            dassie__verify_tell(v, f->id, "job %" PRIu64 ": two pending rows",
                                f->id);
        }
    }
}

static void judge_orphan(struct verify *v, const struct facts *f)
{
    for (int i = COMPLETE; i < COLUMNS; i++) {
        if (f->there[i]) {
            dassie__verify_tell(v, f->id,
                                "job %" PRIu64 ": %s row, but no jobs row",
                                f->id, column_names[i]);
        }
    }
    if (f->pending > 0) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": pending row, but no jobs row", f->id);
    }
    if (f->scheduled > 0) {
        dassie__verify_tell(
            v, f->id, "job %" PRIu64 ": scheduled row, but no jobs row", f->id);
    }
}

/* Exactly one state: all that it might be in, by precedence. */
static void judge_state(struct verify *v, const struct facts *f)
{
    static const char *const names[] = {"complete", "failed",    "cancelled",
                                        "running",  "scheduled", "pending"};
    const bool is[] = {f->there[COMPLETE],  f->there[FAILED],
                       f->there[CANCELLED], f->claims > 0,
                       f->scheduled > 0,    f->pending > 0};
    struct verify_queue *q =
        f->good[JOBS] ? dassie__verify_queue(v, f->job.queue) : NULL;
    struct tally nowhere;
    struct tally *found = q != NULL ? &q->found : &nowhere;
    uint64_t *const in_queue[] = {&found->complete,  &found->failed,
                                  &found->cancelled, &found->running,
                                  &found->scheduled, &found->pending};
    uint64_t *const in_all[] = {
        &v->report->jobs.complete,  &v->report->jobs.failed,
        &v->report->jobs.cancelled, &v->report->jobs.running,
        &v->report->jobs.scheduled, &v->report->jobs.pending};
    uint64_t *const bytes[] = {&found->complete_bytes, &found->failed_bytes,
                               &found->cancelled_bytes};
    int state = -1;
    memset(&nowhere, 0, sizeof nowhere);
    for (int i = 0; i < 6; i++) {
        if (!is[i]) {
            continue;
        }
        if (state >= 0) {
            dassie__verify_tell(v, f->id, "job %" PRIu64 ": both %s and %s",
                                f->id, names[state], names[i]);
            continue;
        }
        state = i;
        (*in_queue[i])++;
        (*in_all[i])++;
        if (i < 3) {
            *bytes[i] += f->len[JOBS] + f->len[COMPLETE + i];
        } else if (in_queue[i] == &found->pending) {
            found->pending_bytes += f->len[JOBS];
        }
    }
    if (state < 0) {
        dassie__verify_tell(v, f->id, "job %" PRIu64 ": has no state", f->id);
    }
}

/* It waits, and has neither run nor ended before. */
static bool is_fresh(const struct facts *f)
{
    return f->good[JOBS] && !has_ended(f) && f->claims == 0 &&
           (f->pending > 0 || f->scheduled > 0) && !history_unknown(f) &&
           f->history.attempts == 0 && f->history.code == 0;
}

static int judge_keys(struct verify *v, const struct facts *f)
{
    struct verify_keyed keyed = {.id = f->id,
                                 .job = f->good[JOBS] ? &f->job : NULL,
                                 .there = f->there[JOBS],
                                 .ended = has_ended(f),
                                 .running = f->claims > 0,
                                 .moved = f->there[HISTORY],
                                 .fresh = is_fresh(f),
                                 .entries = f->entries,
                                 .entries_n = f->entries_n};
    return dassie__verify_judge_keys(v, &keyed);
}

int dassie__verify_judge(struct verify *v, struct facts *f)
{
    judge_row(v, f);
    judge_history(v, f);
    judge_end(v, f, COMPLETE);
    judge_end(v, f, FAILED);
    judge_end(v, f, CANCELLED);
    judge_entries(v, f);
    judge_saved(v, f);
    if (f->there[JOBS]) {
        judge_state(v, f);
    } else {
        judge_orphan(v, f);
    }
    return judge_keys(v, f);
}
