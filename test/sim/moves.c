#include "moves.h"

#include "task.h"

#include <string.h>

int move_token(const struct job *job)
{
    return (int)(job - model.job);
}

static const char *const state_names[] = {
    "pending", "scheduled", "running", "3", "complete", "failed", "cancelled"};

const char *move_state(const struct fact *f)
{
    return f->id == 0              ? "absent"
           : f->state == FACT_NONE ? "nowhere"
                                   : state_names[f->state];
}

/* ---- Moves between two commits ---- */

static bool same_counts(const struct fact *o, const struct fact *n)
{
    return o->attempts == n->attempts && o->excused == n->excused &&
           o->crashes == n->crashes;
}

static bool same_out(const struct job *j, const struct fact *n)
{
    return j->out_len == n->out_len && memcmp(j->out, n->out, n->out_len) == 0;
}

/* Its run under way, by the claim in o, has begun. */
bool move_has_begun(const struct job *j, const struct fact *o)
{
    return j->session == model.session && j->begun == o->attempts + 1;
}

/* A run that has failed is followed by another. */
static bool is_retried(const struct job *j, const struct fact *o)
{
    return j->status != 0 && j->verdict != VERDICT_NO_RETRY &&
           o->attempts - o->excused + 1 < j->attempts_max;
}

static bool is_snoozed(const struct job *j)
{
    return j->status == 0 && j->verdict == VERDICT_SNOOZE;
}

/* When the run that has returned is followed by another. */
static bool is_due_right(const struct job *j, const struct fact *o,
                         const struct fact *n)
{
    uint64_t ms = j->backoff_ms << (o->attempts - o->excused);
    if (is_snoozed(j) || j->verdict == VERDICT_RETRY) {
        return n->position == task_cycle_wall + j->again_ms;
    }
    return n->position >= task_cycle_wall + ms - ms / 4 &&
           n->position <= task_cycle_wall + ms - ms / 4 + ms / 2;
}

static bool ends_as_returned(const struct job *j, const struct fact *o,
                             const struct fact *n)
{
    if (!move_has_begun(j, o) || !j->returned || n->code != j->status ||
        n->attempts != o->attempts + 1 || n->crashes != o->crashes) {
        return false;
    }
    if (n->state == DASSIE_SCHEDULED) {
        return (is_snoozed(j) || is_retried(j, o)) && is_due_right(j, o, n) &&
               n->excused == o->excused + is_snoozed(j);
    }
    return n->state == (n->code == 0 ? DASSIE_COMPLETE : DASSIE_FAILED) &&
           !is_snoozed(j) && !is_retried(j, o) && same_out(j, n);
}

static bool is_entered_right(const struct job *j, const struct fact *n)
{
    return j->stage == STAGE_ISSUED && n->attempts == 0 && n->crashes == 0 &&
           (j->delay_ms > 0
                ? n->state == DASSIE_SCHEDULED
                : n->state == DASSIE_PENDING || n->state == DASSIE_RUNNING);
}

/* Unrun, to the front; a suspect stays one. */
static bool goes_back(const struct fact *o, const struct fact *n)
{
    return n->kind == (o->kind == LINE_SUSPECT ? LINE_SUSPECT : LINE_FRONT) &&
           n->position > o->position && same_counts(o, n);
}

/* In the life of a process. */
bool move_may(const struct job *j, const struct fact *o, const struct fact *n)
{
    if (o->id == 0) {
        return is_entered_right(j, n);
    }
    bool handed_back = goes_back(o, n);
    switch (o->state << 4 | n->state) {
        case DASSIE_PENDING << 4 | DASSIE_PENDING: /* it may have been claimed
                                                      in between */
            return same_counts(o, n) &&
                   (handed_back ||
                    (o->kind == n->kind && o->position == n->position));
        case DASSIE_PENDING << 4 | DASSIE_RUNNING:
            return same_counts(o, n);
        case DASSIE_RUNNING << 4 | DASSIE_RUNNING:
            return same_counts(o, n) &&
                   (o->position == n->position || !move_has_begun(j, o));
        case DASSIE_RUNNING << 4 | DASSIE_PENDING:
            return same_counts(o, n) && handed_back && !move_has_begun(j, o);
        case DASSIE_SCHEDULED << 4 | DASSIE_PENDING:
            return same_counts(o, n) && n->kind == LINE_NORMAL &&
                   o->position <= task_cycle_wall;
        case DASSIE_SCHEDULED << 4 | DASSIE_RUNNING:
            return same_counts(o, n) && o->position <= task_cycle_wall;
        case DASSIE_RUNNING << 4 | DASSIE_SCHEDULED:
        case DASSIE_RUNNING << 4 | DASSIE_COMPLETE:
        case DASSIE_RUNNING << 4 | DASSIE_FAILED:
            return ends_as_returned(j, o, n);
        default:
            return o->state == n->state && memcmp(o, n, sizeof *o) == 0;
    }
}

/* Where a run that was found so takes its job at open. */
bool move_may_recover(const struct job *j, const struct fact *o,
                      const struct fact *n, enum found found)
{
    uint32_t crashes = o->crashes + (found == FOUND_ALONE);
    if (found == FOUND_NOT_STARTED) {
        return n->state == DASSIE_PENDING && goes_back(o, n);
    }
    if (n->attempts != o->attempts + 1 || n->crashes != crashes) {
        return false;
    }
    if ((j->flags & DASSIE_AT_MOST_ONCE) != 0) {
        return n->state == DASSIE_FAILED && n->code == DASSIE_EINTERRUPTED;
    }
    if (found == FOUND_ENDED || found == FOUND_UNKNOWN) {
        return n->state == DASSIE_PENDING && n->kind == LINE_FRONT;
    }
    if (found == FOUND_ALONE && model.crashes_max > 0 &&
        crashes >= model.crashes_max) {
        return n->state == DASSIE_FAILED && n->code == DASSIE_ECRASHED;
    }
    return n->state == DASSIE_PENDING && n->kind == LINE_SUSPECT;
}
