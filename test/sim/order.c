#include "order.h"

#include "moves.h"
#include "sim.h"
#include "task.h"

static bool is_new_claim(const struct fact *o, const struct fact *n)
{
    return n->id != 0 && n->state == DASSIE_RUNNING &&
           (o->id == 0 || o->state != DASSIE_RUNNING);
}

static bool stands_before(const struct fact *a, const struct fact *b)
{
    return a->priority != b->priority ? a->priority < b->priority
           : a->kind != b->kind       ? a->kind < b->kind
                                      : a->position < b->position;
}

/* Whether a job waits that could have been claimed: it has stood there since
 * the last commit, or, when nothing was handed off, since this one's begin. */
static bool was_left(const struct fact *o, const struct fact *n, bool fresh)
{
    return n->id != 0 && n->state == DASSIE_PENDING &&
           n->kind != LINE_SUSPECT &&
           (!fresh || (o->id != 0 && o->state == DASSIE_PENDING &&
                       o->position == n->position));
}

void order_judge_claims(const struct facts *new)
{
    for (int i = 0; i < TOKENS_MAX; i++) {
        SIM_CHECK(!is_new_claim(&model.facts.job[i], &new->job[i]) ||
                      model.queue[model.job[i].queue].paused != RULE_YES,
                  "j%d is claimed, and its queue is paused", i);
        SIM_CHECK(!is_new_claim(&model.facts.job[i], &new->job[i]) ||
                      !move_is_late(&new->job[i]),
                  "j%d is claimed, and it is too late for it", i);
    }
}

/* Nothing of its queue that stands before a job was left when it was claimed.
 */
void order_judge_lines(const struct facts *new)
{
    const struct fact *last[DASSIE_QUEUES_MAX][2] = {{NULL}};
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *o = &model.facts.job[i];
        const struct fact *n = &new->job[i];
        bool fresh = o->id == 0;
        const struct fact *from = fresh ? n : o;
        if (is_new_claim(o, n) && from->kind != LINE_SUSPECT &&
            (fresh || o->state == DASSIE_PENDING) &&
            (last[n->queue][fresh] == NULL ||
             stands_before(last[n->queue][fresh], from))) {
            last[n->queue][fresh] = from;
        }
    }
    for (int i = 0; i < 2 * TOKENS_MAX; i++) {
        const struct fact *o = &model.facts.job[i / 2];
        const struct fact *n = &new->job[i / 2];
        SIM_CHECK(!was_left(o, n, i % 2) || last[n->queue][i % 2] == NULL ||
                      !stands_before(n, last[n->queue][i % 2]),
                  "job %d was claimed, but j%d stands before it",
                  (int)last[n->queue][i % 2]->id, i / 2);
    }
}

/* A job whose time has come, or that is tried again, goes to the end of its
 * line, and may be claimed in the same commit: then what was due before it is
 * not left, unless somebody has asked for it, nor what stood in its line or in
 * one before that. */
static void judge_due(const struct fact *o, const struct fact *n,
                      const struct fact *due, bool asked, int i)
{
    if (!was_left(o, n, false) || n->queue != due->queue) {
        return;
    }
    bool left = o->state == DASSIE_SCHEDULED
                    ? !asked && stands_before(o, due)
                    : o->id != 0 && o->state == DASSIE_PENDING &&
                          o->position == n->position &&
                          o->priority <= due->priority;
    SIM_CHECK(!left, "job %d was due and claimed, but j%d stands before it",
              (int)due->id, i);
}

void order_judge_due(const struct facts *new)
{
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *due = &model.facts.job[i];
        bool asked = due->state != DASSIE_SCHEDULED ||
                     model.job[i].asked[DASSIE_RUN_NOW] != 0;
        if (due->id == 0 || due->state == DASSIE_PENDING ||
            !is_new_claim(due, &new->job[i])) {
            continue;
        }
        for (int k = 0; k < TOKENS_MAX; k++) {
            judge_due(&model.facts.job[k], &new->job[k], due, asked, k);
        }
    }
}

/* The queues that a processor serves before that of job. */
static bool serves_before(const struct dassie__processor *p, uint32_t queue,
                          const job_t *job)
{
    for (unsigned i = 0; p->turns.servers[i].queue != job->queue; i++) {
        if (p->turns.servers[i].queue->id == queue) {
            return true;
        }
    }
    return false;
}

/* What a processor is given: the jobs of its first queue first; and one that
 * is to run at most once only for a free slot. */
static void judge_turn(const struct facts *new,
                       const struct dassie__processor *p, const job_t *job,
                       size_t ahead)
{
    SIM_CHECK((job->flags & DASSIE_AT_MOST_ONCE) == 0 || ahead < p->slots,
              "job %d is claimed ahead of a slot, and to run at most once",
              (int)job->id);
    for (int i = 0; i < TOKENS_MAX && job->kind != LINE_SUSPECT; i++) {
        const struct fact *n = &new->job[i];
        bool paused = model.queue[model.job[i].queue].paused != RULE_NO;
        SIM_CHECK(paused || !was_left(&model.facts.job[i], n, true) ||
                      !serves_before(p, n->queue, job),
                  "job %d was claimed, but the queue of j%d goes before its",
                  (int)job->id, i);
    }
}

void order_judge_turns(const struct facts *new)
{
    const struct core *core = &model_impl()->core;
    const struct dassie__processor *p = core->starting;
    for (; core->broken == 0 && p != NULL; p = p->starting_next) {
        size_t ahead = p->claimed - p->starting.n;
        for (const job_t *job = p->starting.head; job != NULL;
             job = job->next) {
            judge_turn(new, p, job, ahead++);
        }
    }
}

/* A suspect that was claimed with nothing beside it is alone. */
void order_judge_alone(const struct facts *new)
{
    int suspect = -1;
    unsigned before = 0; /* running before, and still, or handed off */
    unsigned claimed = 0;
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *o = &model.facts.job[i];
        const struct fact *n = &new->job[i];
        bool claim = is_new_claim(o, n);
        if (claim && o->id != 0 && o->kind == LINE_SUSPECT) {
            suspect = i;
        } else if (n->id != 0 && n->state == DASSIE_RUNNING) {
            claimed += claim && o->id != 0;
            before += !claim || o->id == 0;
        }
        SIM_CHECK(!claim || model.alone < 0 || task_cycle >= model.alone_until,
                  "j%d is claimed beside the suspect j%d", i, model.alone);
    }
    if (suspect >= 0 && before == 0) {
        SIM_CHECK(claimed == 0, "j%d is a suspect, and not claimed alone",
                  suspect);
        model.alone = suspect;
        model.alone_until = task_cycle + model.suspect_ns;
        reached->alone++;
        SIM_SAY("j%d runs alone", suspect);
    }
}
