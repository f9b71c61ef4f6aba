#include "model.h"

#include "disk.h"
#include "kept.h"
#include "memory.h"
#include "sim.h"
#include "task.h"
#include "verify.h"

#include <string.h>

/* How long a job may wait for a thread that is free. */
#define WAITS_MAX (20 * MS)

struct model model;

#define BIT(found) (1u << (found))

/* Its number. */
static int token(const struct job *job)
{
    return (int)(job - model.job);
}

static const char *const state_names[] = {
    "pending", "scheduled", "running", "3", "complete", "failed", "cancelled"};

static const char *state_name(const struct fact *f)
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
static bool has_begun(const struct job *j, const struct fact *o)
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
    if (!has_begun(j, o) || !j->returned || n->code != j->status ||
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
static bool may_move(const struct job *j, const struct fact *o,
                     const struct fact *n)
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
                   (o->position == n->position || !has_begun(j, o));
        case DASSIE_RUNNING << 4 | DASSIE_PENDING:
            return same_counts(o, n) && handed_back && !has_begun(j, o);
        case DASSIE_SCHEDULED << 4 | DASSIE_PENDING:
            return same_counts(o, n) && n->kind == LINE_NORMAL &&
                   o->position <= task_cycle_wall;
        case DASSIE_RUNNING << 4 | DASSIE_SCHEDULED:
        case DASSIE_RUNNING << 4 | DASSIE_COMPLETE:
        case DASSIE_RUNNING << 4 | DASSIE_FAILED:
            return ends_as_returned(j, o, n);
        default:
            return o->state == n->state && memcmp(o, n, sizeof *o) == 0;
    }
}

/* Where a run that was found so takes its job at open. */
static bool may_recover(const struct job *j, const struct fact *o,
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

static void count_recovered(const struct job *j, const struct fact *n,
                            enum found found)
{
    reached->not_started += found == FOUND_NOT_STARTED;
    reached->ended_untold += found == FOUND_ENDED;
    reached->unknown_runs += found == FOUND_UNKNOWN;
    reached->suspects += n->state == DASSIE_PENDING && n->kind == LINE_SUSPECT;
    reached->crashed_out += n->code == DASSIE_ECRASHED;
    reached->interrupted += n->code == DASSIE_EINTERRUPTED;
    SIM_SAY("j%d comes back: %s, %u attempts, %u crashes", token(j),
            state_name(n), n->attempts, n->crashes);
}

static void judge_recovered(struct job *j, const struct fact *o,
                            const struct fact *n)
{
    if (o->id == 0 || o->state != DASSIE_RUNNING) {
        SIM_CHECK(memcmp(o, n, sizeof *o) == 0,
                  "j%d was %s, and is %s after recovery", token(j),
                  state_name(o), state_name(n));
        return;
    }
    unsigned found = model.no_record ? BIT(FOUND_UNKNOWN) : j->found;
    for (int i = FOUND_NOT_STARTED; i <= FOUND_UNKNOWN; i++) {
        if ((found & BIT(i)) != 0 && may_recover(j, o, n, (enum found)i)) {
            count_recovered(j, n, (enum found)i);
            return;
        }
    }
    sim_fail(
        "j%d was running in attempt %u with %u crashes and may be found "
        "as %#x, and is %s in line %d, with %u attempts, %u crashes and "
        "code %d",
        token(j), o->attempts + 1, o->crashes, found, state_name(n), n->kind,
        n->attempts, n->crashes, n->code);
}

/* ---- Claims ---- */

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

/* Nothing of its queue that stands before a job was left when it was claimed.
 */
static void judge_order(const struct facts *new)
{
    const struct fact *last[DASSIE_QUEUES_MAX][2] = {{NULL}};
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *o = &model.facts.job[i];
        const struct fact *n = &new->job[i];
        bool fresh = o->id == 0;
        const struct fact *from = fresh ? n : o;
        if (is_new_claim(o, n) && from->kind != LINE_SUSPECT &&
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

/* The queues that a processor serves before that of job. */
static bool serves_before(const struct dassie__processor *p, uint32_t queue,
                          const job_t *job)
{
    for (unsigned i = 0; p->queues[i] != job->queue; i++) {
        if (p->queues[i]->id == queue) {
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
        SIM_CHECK(!was_left(&model.facts.job[i], n, true) ||
                      !serves_before(p, n->queue, job),
                  "job %d was claimed, but the queue of j%d goes before its",
                  (int)job->id, i);
    }
}

static void judge_turns(const struct facts *new)
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
static void judge_alone(const struct facts *new)
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

/* ---- A commit ---- */

static void count_move(struct job *j, const struct fact *o,
                       const struct fact *n)
{
    bool was_running = o->id != 0 && o->state == DASSIE_RUNNING;
    reached->hand_offs += o->id == 0 && n->state == DASSIE_RUNNING;
    reached->unclaims += was_running && n->state == DASSIE_PENDING;
    if (was_running && n->state == DASSIE_SCHEDULED) {
        j->once = false; /* that run is over, and another was asked for */
    }
    reached->delayed += o->id == 0 && n->state == DASSIE_SCHEDULED;
    reached->retries +=
        was_running && n->state == DASSIE_SCHEDULED && n->code != 0;
    reached->snoozes +=
        was_running && n->state == DASSIE_SCHEDULED && n->code == 0;
    reached->promoted += o->id != 0 && o->state == DASSIE_SCHEDULED &&
                         n->state == DASSIE_PENDING;
    if (memcmp(o, n, sizeof *o) != 0) {
        SIM_SAY("committed: j%d (%d) %s -> %s", token(j), (int)n->id,
                state_name(o), state_name(n));
    }
}

static void judge_live(const struct facts *new)
{
    if (model.alone >= 0 && new->job[model.alone].state != DASSIE_RUNNING) {
        model.alone = -1;
    }
    for (int i = 0; i < TOKENS_MAX; i++) {
        struct job *j = &model.job[i];
        const struct fact *o = &model.facts.job[i];
        const struct fact *n = &new->job[i];
        SIM_CHECK(o->id == 0 || o->id == n->id, "j%d is gone", i);
        if (n->id == 0) {
            continue;
        }
        SIM_CHECK(may_move(j, o, n),
                  "j%d goes from %s to %s: attempts %u to %u, crashes %u to "
                  "%u, code %d; stage %d, run %u begun, %s",
                  i, state_name(o), state_name(n), o->attempts, n->attempts,
                  o->crashes, n->crashes, n->code, j->stage, j->begun,
                  j->returned ? "returned" : "not returned");
        SIM_CHECK(n->priority == j->priority && n->flags == j->flags,
                  "j%d has another priority or other flags", i);
        count_move(j, o, n);
    }
    judge_order(new);
    judge_turns(new);
    judge_alone(new);
}

static void go_live(void);

void model_committed(void)
{
    struct facts new;
    facts_read(disk_kv(), &new);
    go_live();
    if (model.live) {
        judge_live(&new);
    } else if (!model.rebuilding) {
        for (int i = 0; i < TOKENS_MAX; i++) {
            judge_recovered(&model.job[i], &model.facts.job[i], &new.job[i]);
        }
    }
    model.facts = new;
    if (model.live && reached->commits % 8 == 0) {
        model_verify();
    }
}

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    (void)id;
    sim_fail("%s", line);
}

void model_verify(void)
{
    dassie_verify_report_t report;
    struct errmsg e = {""};
    memory_disk(true);
    int rc = dassie__verify_kv(disk_kv(), on_problem, NULL, &report, &e);
    memory_disk(false);
    SIM_CHECK(rc == 0, "the rows cannot be verified: %s", e.text);
    SIM_CHECK(report.jobs.pending == model.facts.n[DASSIE_PENDING] &&
                  report.jobs.scheduled == model.facts.n[DASSIE_SCHEDULED] &&
                  report.jobs.running == model.facts.n[DASSIE_RUNNING] &&
                  report.jobs.complete == model.facts.n[DASSIE_COMPLETE] &&
                  report.jobs.failed == model.facts.n[DASSIE_FAILED],
              "verify counts otherwise");
    reached->verified++;
}

/* ---- Processes ---- */

/* What the power cut has left of a job is what is there. */
static void judge_rebuilt(struct job *j, const struct fact *raw,
                          const struct fact *n)
{
    bool ended = raw->state == DASSIE_COMPLETE || raw->state == DASSIE_FAILED;
    SIM_CHECK((raw->id != 0) == (n->id != 0), "j%d was %s, is %s once rebuilt",
              token(j), state_name(raw), state_name(n));
    SIM_CHECK(raw->id == 0 || !ended || n->state == raw->state,
              "j%d was %s, is %s once rebuilt", token(j), state_name(raw),
              state_name(n));
}

void model_recovered(void)
{
    SIM_CHECK(model_impl()->core.rebuilt == model.rebuilding,
              "rebuilt, or not, where nobody should have");
    SIM_CHECK(model.facts.n[DASSIE_RUNNING] == 0,
              "recovered, and jobs of the last owner are running");
    for (int i = 0; i < TOKENS_MAX; i++) {
        if (model.rebuilding) {
            judge_rebuilt(&model.job[i], &model.raw.job[i],
                          &model.facts.job[i]);
        }
        model.job[i].found = 0;
    }
    reached->rebuilds += model.rebuilding;
    model.rebuilding = false;
    model.no_record = false;
    model.dirty = model.unsynced;
    model.alone = -1;
    model_verify();
}

/* The store has opened since it was looked at last. */
static void go_live(void)
{
    struct dassie__impl *impl = model_impl();
    if (!model.live && impl != NULL && impl->open) {
        model.live = true;
        model.lost = false;
    }
}

void model_begin(bool unsynced)
{
    memset(&model, 0, sizeof model);
    model.unsynced = unsynced;
    model.alone = -1;
}

void model_process(void)
{
    model.session++;
    model.live = false;
    model.waits_from = UINT64_MAX;
}

/* What the recorder may say of a run that was under way. */
static unsigned found_of(const struct job *j, const struct fact *o, bool async)
{
    unsigned executing = BIT(FOUND_EXECUTING);
    if (token(j) == model.alone) {
        executing = BIT(FOUND_ALONE);
        if (task_now >= model.alone_until) {
            executing |= BIT(FOUND_EXECUTING);
        }
    }
    if (!has_begun(j, o)) {
        return BIT(FOUND_NOT_STARTED) | (async || model.lost ? executing : 0);
    }
    if (!j->returned) {
        return executing;
    }
    return BIT(FOUND_ENDED) | (async || model.lost ? executing : 0);
}

static bool is_async(uint64_t id)
{
    const struct core *core = model_impl() != NULL ? &model_impl()->core : NULL;
    for (uint32_t i = 0;
         core != NULL && core->claimed != NULL && i < DASSIE_CLAIMED_MAX; i++) {
        if (core->claimed[i] != NULL && core->claimed[i]->id == id) {
            return core->claimed[i]->processor->start != NULL;
        }
    }
    return true; /* it has ended, or gone back: in a commit that is lost */
}

static void process_over(void)
{
    for (unsigned i = 0; i < model.jobs_n; i++) {
        struct job *j = &model.job[i];
        j->executing = j->ack_due = j->done_due = false;
        if (j->stage == STAGE_ISSUED) {
            j->stage = STAGE_DOUBT;
        }
    }
    if (model.live && disk_clean()) {
        model.dirty = false;
    }
    model.alone = -1;
    model.live = false;
}

/* What a power cut has taken of what was promised: nothing, when synced. */
static void judge_cut(struct job *j, const struct fact *n, bool lost)
{
    bool there = n->id != 0;
    bool told = j->told == 0 || (there && n->state == j->told);
    SIM_CHECK(model.unsynced || ((j->stage != STAGE_ACKED || there) && told),
              "j%d was promised, and is %s after a power cut", token(j),
              state_name(n));
    if (lost) {
        j->told = told ? j->told : 0;
        j->id = there ? j->id : 0; /* another one may get it */
        j->stage = j->stage == STAGE_ACKED && !there ? STAGE_DOUBT : j->stage;
        j->once = false;
    }
}

/* Which runs were under way, and how they will be found. */
static void note_runs(void)
{
    for (unsigned i = 0; model.live && i < model.jobs_n; i++) {
        struct job *j = &model.job[i];
        const struct fact *o = &model.facts.job[i];
        bool running = o->id != 0 && o->state == DASSIE_RUNNING;
        j->found = running ? found_of(j, o, is_async(o->id)) : 0;
    }
}

void model_killing(void)
{
    go_live();
    note_runs();
    process_over();
}

/* What the next owner will find. */
static void expect_rebuild(bool no_record)
{
    model.no_record |= no_record;
    if (no_record && model.dirty) {
        model.rebuilding = true;
        model.raw = model.facts;
    }
}

void model_killed(bool power, bool no_record, unsigned lost)
{
    if (power) {
        facts_read(disk_kv(), &model.facts);
        for (unsigned i = 0; i < model.jobs_n; i++) {
            judge_cut(&model.job[i], &model.facts.job[i],
                      lost > 0 && model.unsynced);
        }
    }
    expect_rebuild(no_record);
}

void model_closed(bool no_record)
{
    for (unsigned i = 0; i < model.jobs_n; i++) {
        const struct job *j = &model.job[i];
        SIM_CHECK(!j->ack_due && !j->done_due, "closed, and j%u was not told",
                  i);
    }
    SIM_CHECK(!model.live || model.lost || model.facts.n[DASSIE_RUNNING] == 0,
              "closed, and %u jobs are running", model.facts.n[DASSIE_RUNNING]);
    note_runs();
    process_over();
    expect_rebuild(no_record);
}

void model_end(void)
{
    for (unsigned i = 0; i < model.jobs_n; i++) {
        const struct fact *f = &model.facts.job[i];
        SIM_CHECK(f->id == 0 ? model.job[i].stage != STAGE_ACKED
                             : f->state == DASSIE_COMPLETE ||
                                   f->state == DASSIE_FAILED,
                  "j%u is %s in the end", i, state_name(f));
    }
    model_verify();
}

/* ---- Steps ---- */

/* The engine has nothing to do: its memory says what the rows say. */
static void judge_idle(struct dassie__impl *impl)
{
    const struct core *core = &impl->core;
    const struct tally *t = &core->store.queues.tally;
    uint32_t used = 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        used += impl->recorder.page->slot[i].phase != PHASE_FREE;
    }
    for (uint32_t i = 0; i < core->store.queues.n; i++) {
        const struct queue *q = core->store.queues.by_id[i];
        for (unsigned l = 0; l < q->lines_n * LINE_KINDS; l++) {
            const struct line *line =
                &q->lines[l / LINE_KINDS]->kind[l % LINE_KINDS];
            SIM_CHECK(line->window.n <= line->row.live, "a window too long");
            bytes += line->window_bytes;
        }
    }
    SIM_CHECK(used == core->claimed_n &&
                  impl->recorder.free_n + used == DASSIE_CLAIMED_MAX,
              "%u jobs are claimed, %u slots used and %u free", core->claimed_n,
              used, impl->recorder.free_n);
    reached->recorder_full += impl->recorder.free_n == 0;
    SIM_CHECK(bytes == core->store.window_bytes &&
                  bytes <= core->store.window_max + 1024,
              "windows of %zu bytes, counted as %zu", bytes,
              core->store.window_bytes);
    SIM_CHECK(t->pending == model.facts.n[DASSIE_PENDING] &&
                  t->scheduled == model.facts.n[DASSIE_SCHEDULED] &&
                  t->running == model.facts.n[DASSIE_RUNNING] &&
                  t->complete == model.facts.n[DASSIE_COMPLETE] &&
                  t->failed == model.facts.n[DASSIE_FAILED] &&
                  t->running == core->claimed_n,
              "the counts are not those of the rows");
}

/* No job waits for long where a thread could run it. */
static void judge_threads(struct dassie__impl *impl)
{
    bool waits = false;
    for (struct dassie__processor *p = impl->processors; p != NULL;
         p = p->loop_next) {
        waits |= p->runq.n > p->waiting && p->active < p->slots && !p->ending;
    }
    if (!waits || kept_threads() == 0) {
        model.waits_from = UINT64_MAX;
    } else if (model.waits_from == UINT64_MAX) {
        model.waits_from = task_now;
    }
    SIM_CHECK(model.waits_from == UINT64_MAX ||
                  task_now - model.waits_from < WAITS_MAX,
              "a job waits, and a thread is free");
}

void model_step(void)
{
    struct dassie__impl *impl = model_impl();
    go_live();
    if (impl != NULL) {
        judge_threads(impl);
    }
    if (impl != NULL && impl->lost && !model.lost) {
        model.lost = true;
        reached->given_up++;
    }
    if (model.live && impl != NULL && impl->open && !impl->lost &&
        disk_place() == DISK_IDLE && impl->sleeping &&
        impl->core.store.kv != NULL && tasks_engine_idle(&impl->cond)) {
        judge_idle(impl);
    }
}

/* ---- What users see ---- */

struct job *model_job(const char *name, size_t len)
{
    int number = facts_token(name, len);
    SIM_CHECK(number >= 0 && (unsigned)number < model.jobs_n,
              "nobody asked for this job");
    return &model.job[number];
}

void model_acked(struct job *job, uint64_t id, int status)
{
    const struct fact *f = &model.facts.job[token(job)];
    SIM_CHECK(job->ack_due, "j%d is acknowledged twice", token(job));
    job->ack_due = false;
    SIM_SAY("j%d acknowledged: %d", token(job), status);
    if (status == 0) {
        SIM_CHECK(f->id != 0 && f->id == id,
                  "j%d is acknowledged as %d, and on disk as %d", token(job),
                  (int)id, (int)f->id);
        job->stage = STAGE_ACKED;
        job->id = id;
        reached->acknowledged++;
        return;
    }
    job->done_due = false;
    if (status == DASSIE_EUNKNOWN) {
        job->stage = STAGE_DOUBT;
        return;
    }
    SIM_CHECK(f->id == 0, "j%d is refused (%d), and there", token(job), status);
    job->stage = STAGE_REFUSED;
    reached->refused++;
}

void model_ended(struct job *job, int status, const dassie_info_t *info)
{
    const struct fact *f = &model.facts.job[token(job)];
    SIM_SAY("j%d end told: %d", token(job), status);
    if (status != 0) {
        SIM_CHECK(
            info == NULL && (status == UV_ECANCELED || status == UV_ENOMEM ||
                             status == UV_EIO || status == DASSIE_EUNKNOWN),
            "the end of j%d is told as %d", token(job), status);
        return;
    }
    SIM_CHECK(f->id == info->id && f->state == (int)info->state &&
                  f->code == info->error_code && f->attempts == info->attempts,
              "j%d is told to be %d, and is %s", token(job), info->state,
              state_name(f));
    SIM_CHECK(f->state == DASSIE_COMPLETE || f->state == DASSIE_FAILED,
              "j%d is told to have ended, and is %s", token(job),
              state_name(f));
    job->told = f->state;
}

struct job *model_begun(const dassie_job_t *run, bool async)
{
    size_t len;
    const char *name = dassie_job_name(run, &len);
    struct job *job = model_job(name, len);
    const struct fact *f = &model.facts.job[token(job)];
    SIM_SAY("j%d begins run %u%s", token(job), dassie_job_attempt(run),
            async ? ", async" : "");
    SIM_CHECK(f->id != 0 && f->id == dassie_job_id(run) &&
                  f->state == DASSIE_RUNNING &&
                  f->attempts + 1 == dassie_job_attempt(run),
              "j%d begins run %u, and is %s with %u attempts on disk",
              token(job), dassie_job_attempt(run), state_name(f), f->attempts);
    SIM_CHECK(!job->executing && !(job->session == model.session &&
                                   job->begun == f->attempts + 1),
              "j%d begins a run twice", token(job));
    SIM_CHECK(job->told == 0, "j%d begins, and its end was told", token(job));
    SIM_CHECK(!job->once || (job->flags & DASSIE_AT_MOST_ONCE) == 0,
              "j%d begins again, but at most once was asked for", token(job));
    SIM_CHECK(job->stage != STAGE_REFUSED, "j%d begins, it was refused",
              token(job));
    job->once = true;
    job->session = model.session;
    job->begun = f->attempts + 1;
    job->executing = true;
    job->returned = false;
    reached->runs++;
    reached->at_most_once += (job->flags & DASSIE_AT_MOST_ONCE) != 0;
    return job;
}

void model_returned(struct job *job, int status, const char *out, size_t len)
{
    SIM_SAY("j%d returns %d from run %u", token(job), status, job->begun);
    job->executing = false;
    job->returned = true;
    job->status = status;
    job->out_len = len;
    memcpy(job->out, out, len < OUT_MAX ? len : OUT_MAX);
    reached->completed += status == 0;
    reached->failed += status != 0;
}
