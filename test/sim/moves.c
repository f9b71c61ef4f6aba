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

/* An operator has asked for it, and it was so. */
static bool is_asked(const struct job *j, dassie_action_t action,
                     const struct fact *o)
{
    return (j->asked[action] & DASSIE_IN(o->state)) != 0;
}

static bool may_be_cancelled(const struct job *j)
{
    return j->cancel != CANCEL_NOT ||
           (j->asked[DASSIE_CANCEL] & DASSIE_IN(DASSIE_RUNNING)) != 0;
}

/* Nothing follows a run that was to be cancelled. */
static bool ends_cancelled(const struct job *j, const struct fact *n)
{
    bool both = j->timed_out && j->status == UV_ETIMEDOUT;
    int status = is_snoozed(j) || (both && n->code == UV_ECANCELED)
                     ? UV_ECANCELED
                     : j->status;
    return n->code == status && (status != j->status || same_out(j, n)) &&
           n->state == (status == 0              ? DASSIE_COMPLETE
                        : status == UV_ECANCELED ? DASSIE_CANCELLED
                                                 : DASSIE_FAILED);
}

/* A run that was given up as the queue closes is no attempt. */
static bool ends_with_queue(const struct job *j, const struct fact *o,
                            const struct fact *n)
{
    return j->status == UV_ECANCELED && (j->flags & DASSIE_AT_MOST_ONCE) == 0 &&
           n->state == DASSIE_SCHEDULED && n->code == 0 &&
           n->position == task_cycle_wall && n->excused == o->excused + 1;
}

/* Nobody has asked it to. */
static bool ends_by_itself(const struct job *j, const struct fact *o,
                           const struct fact *n)
{
    bool settled = j->timed_out && n->code == UV_ETIMEDOUT &&
                   (j->status == UV_ECANCELED || j->status == UV_ETIMEDOUT);
    if (n->code != j->status && !settled) {
        return false;
    }
    if (n->state == DASSIE_SCHEDULED) {
        return (is_snoozed(j) || is_retried(j, o)) && is_due_right(j, o, n) &&
               n->excused == o->excused + is_snoozed(j);
    }
    return n->state == (n->code == 0 ? DASSIE_COMPLETE : DASSIE_FAILED) &&
           !is_snoozed(j) && !is_retried(j, o) && same_out(j, n);
}

static bool ends_as_returned(const struct job *j, const struct fact *o,
                             const struct fact *n)
{
    if (!move_has_begun(j, o) || !j->returned ||
        n->attempts != o->attempts + 1 || n->crashes != o->crashes) {
        return false;
    }
    if ((may_be_cancelled(j) && ends_cancelled(j, n)) ||
        (model.closing && ends_with_queue(j, o, n))) {
        return true;
    }
    return j->cancel != CANCEL_SURE && ends_by_itself(j, o, n);
}

bool move_is_late(const struct fact *f)
{
    return f->expires_ms > 0 && f->expires_ms <= task_cycle_wall &&
           f->attempts == 0 && f->code == 0;
}

/* That was so. */
static bool has_expired(const struct fact *o, const struct fact *n)
{
    return n->state == DASSIE_CANCELLED && n->code == DASSIE_EEXPIRED &&
           n->attempts == 0 && move_is_late(o);
}

static bool is_entered_right(const struct job *j, const struct fact *n)
{
    struct fact fresh = *n;
    fresh.code = 0;
    if (n->state == DASSIE_CANCELLED) {
        return j->stage == STAGE_ISSUED && has_expired(&fresh, n);
    }
    return j->stage == STAGE_ISSUED && n->attempts == 0 && n->crashes == 0 &&
           (j->delay_ms > 0
                ? n->state == DASSIE_SCHEDULED
                : n->state == DASSIE_PENDING || n->state == DASSIE_RUNNING);
}

/* Unrun, to the front; a suspect stays one, and the last error is kept. */
static bool goes_back(const struct fact *o, const struct fact *n)
{
    return n->kind == (o->kind == LINE_SUSPECT ? LINE_SUSPECT : LINE_FRONT) &&
           n->position > o->position && n->code == o->code && same_counts(o, n);
}

bool move_is_end(const struct fact *f)
{
    return f->state == DASSIE_COMPLETE || f->state == DASSIE_FAILED ||
           f->state == DASSIE_CANCELLED;
}

/* Without a run that has begun. */
static bool is_cancelled(const struct fact *o, const struct fact *n)
{
    return n->attempts == o->attempts && n->crashes == o->crashes &&
           n->code == UV_ECANCELED;
}

/* It begins afresh. */
static bool is_tried_again(const struct fact *o, const struct fact *n)
{
    return n->attempts == o->attempts && n->excused == o->attempts &&
           n->crashes == 0 && n->kind == LINE_NORMAL && n->position > n->id;
}

static bool is_due(const struct job *j, const struct fact *o)
{
    return o->position <= task_cycle_wall || is_asked(j, DASSIE_RUN_NOW, o);
}

/* One that is not cancelled while it runs. */
static bool stays_or_goes_back(const struct job *j, const struct fact *o,
                               const struct fact *n)
{
    if (!same_counts(o, n)) {
        return false;
    }
    if (n->state == DASSIE_RUNNING) {
        return o->position == n->position || !move_has_begun(j, o);
    }
    return goes_back(o, n) && !move_has_begun(j, o) && j->cancel != CANCEL_SURE;
}

static bool waiting_may(const struct job *j, const struct fact *o,
                        const struct fact *n)
{
    if (n->state == DASSIE_CANCELLED) {
        return has_expired(o, n) ||
               (is_asked(j, DASSIE_CANCEL, o) && is_cancelled(o, n));
    }
    if (!same_counts(o, n)) {
        return false;
    }
    if (n->state == DASSIE_RUNNING) {
        return o->state == DASSIE_PENDING || is_due(j, o);
    }
    if (o->state == DASSIE_SCHEDULED) {
        return n->state == DASSIE_PENDING && n->kind == LINE_NORMAL &&
               is_due(j, o);
    }
    return n->state == DASSIE_PENDING && /* claimed in between, or not */
           (goes_back(o, n) ||
            (o->kind == n->kind && o->position == n->position));
}

static bool running_may(const struct job *j, const struct fact *o,
                        const struct fact *n)
{
    if (n->state == DASSIE_RUNNING || n->state == DASSIE_PENDING) {
        return stays_or_goes_back(j, o, n);
    }
    return n->state == DASSIE_CANCELLED && !move_has_begun(j, o)
               ? has_expired(o, n) ||
                     (may_be_cancelled(j) && is_cancelled(o, n))
               : ends_as_returned(j, o, n);
}

static bool ended_may(const struct job *j, const struct fact *o,
                      const struct fact *n)
{
    return o->state != DASSIE_COMPLETE &&
           (n->state == DASSIE_PENDING || n->state == DASSIE_RUNNING) &&
           is_asked(j, DASSIE_RETRY, o) && is_tried_again(o, n);
}

/* Its queue keeps few, and has as many that came later. */
bool move_may_be_swept(const struct job *j, const struct fact *o)
{
    unsigned later = 0;
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *f = &model.facts.job[i];
        later += f->id > o->id && f->queue == o->queue && f->state == o->state;
    }
    return move_is_end(o) && later >= KEPT_FEW &&
           model.queue[j->queue].few != RULE_NO;
}

/* In the life of a process. */
bool move_may(const struct job *j, const struct fact *o, const struct fact *n)
{
    if (o->id == 0) {
        return is_entered_right(j, n);
    }
    if (n->id == 0) {
        return is_asked(j, DASSIE_DELETE, o) || move_may_be_swept(j, o);
    }
    if (memcmp(o, n, sizeof *o) == 0) {
        return true;
    }
    if (move_is_end(o)) {
        return ended_may(j, o, n);
    }
    return o->state == DASSIE_RUNNING ? running_may(j, o, n)
                                      : waiting_may(j, o, n);
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
