#include "model.h"

#include "disk.h"
#include "kept.h"
#include "memory.h"
#include "moves.h"
#include "order.h"
#include "sim.h"
#include "task.h"
#include "verify.h"

#include <string.h>

/* How long a job may wait for a thread that is free. */
#define WAITS_MAX (20 * MS)

/* No job takes more; each window may hold one beyond the budget. */
#define JOB_BYTES 1024

struct model model;

#define BIT(found) (1u << (found))

static void count_recovered(const struct job *j, const struct fact *n,
                            enum found found)
{
    reached->not_started += found == FOUND_NOT_STARTED;
    reached->ended_untold += found == FOUND_ENDED;
    reached->unknown_runs += found == FOUND_UNKNOWN;
    reached->suspects += n->state == DASSIE_PENDING && n->kind == LINE_SUSPECT;
    reached->crashed_out += n->code == DASSIE_ECRASHED;
    reached->interrupted += n->code == DASSIE_EINTERRUPTED;
    SIM_SAY("j%d comes back: %s, %u attempts, %u crashes", move_token(j),
            move_state(n), n->attempts, n->crashes);
}

static void judge_recovered(struct job *j, const struct fact *o,
                            const struct fact *n)
{
    if (o->id == 0 || o->state != DASSIE_RUNNING) {
        SIM_CHECK(memcmp(o, n, sizeof *o) == 0,
                  "j%d was %s, and is %s after recovery", move_token(j),
                  move_state(o), move_state(n));
        return;
    }
    unsigned found = model.no_record ? BIT(FOUND_UNKNOWN) : j->found;
    for (int i = FOUND_NOT_STARTED; i <= FOUND_UNKNOWN; i++) {
        if ((found & BIT(i)) != 0 && move_may_recover(j, o, n, (enum found)i)) {
            count_recovered(j, n, (enum found)i);
            return;
        }
    }
    sim_fail(
        "j%d was running in attempt %u with %u crashes and may be found "
        "as %#x, and is %s in line %d, with %u attempts, %u crashes and "
        "code %d",
        move_token(j), o->attempts + 1, o->crashes, found, move_state(n),
        n->kind, n->attempts, n->crashes, n->code);
}

/* ---- A commit ---- */

static void note_gone(struct job *j, const struct fact *o)
{
    bool swept = !fact_in(o, j->asked[DASSIE_DELETE]);
    reached->swept += swept;
    j->gone = true;
    j->told = 0;
    j->done[DASSIE_DELETE]++;
    reached->deleted += !swept;
}

static void note_again(struct job *j)
{
    j->told = 0;
    j->once = false;
    j->done[DASSIE_RETRY]++;
    reached->tried_again++;
}

static void note_cancelled(struct job *j, const struct fact *o,
                           const struct fact *n)
{
    bool expired = n->code == DASSIE_EEXPIRED;
    bool ran = o->id != 0 && o->state == DASSIE_RUNNING;
    j->done[DASSIE_CANCEL] += !expired && !ran;
    reached->expired += expired;
    reached->cancelled_runs += !expired && ran;
    reached->cancelled_unrun += !expired && !ran;
}

/* What operators may have done to it, and how it has ended. */
static void note_action(struct job *j, const struct fact *o,
                        const struct fact *n)
{
    bool was_end = o->id != 0 && move_is_end(o);
    if (n->id == 0) {
        note_gone(j, o);
        return;
    }
    if (was_end && !move_is_end(n)) {
        note_again(j);
    }
    if (n->state == DASSIE_CANCELLED && !was_end) {
        note_cancelled(j, o, n);
    }
    if (o->id != 0 && o->state == DASSIE_SCHEDULED &&
        (n->state == DASSIE_PENDING || n->state == DASSIE_RUNNING) &&
        o->position > task_cycle_wall) {
        j->done[DASSIE_RUN_NOW]++;
        reached->hastened++;
    }
    if (n->state != DASSIE_RUNNING) {
        j->cancel = CANCEL_NOT;
    }
}

static void count_move(struct job *j, const struct fact *o,
                       const struct fact *n)
{
    bool was_running = o->id != 0 && o->state == DASSIE_RUNNING;
    note_action(j, o, n);
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
                         n->state != DASSIE_SCHEDULED;
    if (memcmp(o, n, sizeof *o) != 0) {
        SIM_SAY("committed: j%d (%d) %s -> %s", move_token(j), (int)n->id,
                move_state(o), move_state(n));
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
        SIM_CHECK(o->id == 0 || n->id == 0 || o->id == n->id,
                  "j%d is another one", i);
        if (o->id == 0 && n->id == 0) {
            continue;
        }
        SIM_CHECK(move_may(j, o, n),
                  "j%d goes from %s to %s: attempts %u to %u, crashes %u to "
                  "%u, code %d; stage %d, run %u begun, %s",
                  i, move_state(o), move_state(n), o->attempts, n->attempts,
                  o->crashes, n->crashes, n->code, j->stage, j->begun,
                  j->returned ? "returned" : "not returned");
        SIM_CHECK(
            n->id == 0 || (n->priority == j->priority && n->flags == j->flags),
            "j%d has another priority or other flags", i);
        count_move(j, o, n);
    }
    order_judge_claims(new);
    order_judge_lines(new);
    order_judge_due(new);
    order_judge_turns(new);
    order_judge_alone(new);
}

/* How jobs have ended last. */
static void note_ends(const struct facts *facts)
{
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *f = &facts->job[i];
        if (f->id != 0 && move_is_end(f)) {
            model.job[i].end = *f;
        }
    }
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
    note_ends(&new);
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
                  report.jobs.failed == model.facts.n[DASSIE_FAILED] &&
                  report.jobs.cancelled == model.facts.n[DASSIE_CANCELLED],
              "verify counts otherwise");
    reached->verified++;
}

/* ---- Processes ---- */

/* What the power cut has left of a job is what is there; of one that was tried
 * again it may have left two ends. */
static void judge_rebuilt(struct job *j, const struct fact *raw,
                          const struct fact *n)
{
    bool ended = move_is_end(raw);
    bool two = j->done[DASSIE_RETRY] > 0 && move_is_end(n);
    SIM_CHECK((raw->id != 0) == (n->id != 0), "j%d was %s, is %s once rebuilt",
              move_token(j), move_state(raw), move_state(n));
    SIM_CHECK(raw->id == 0 || !ended || two || n->state == raw->state,
              "j%d was %s, is %s once rebuilt", move_token(j), move_state(raw),
              move_state(n));
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

void model_closing(void)
{
    model.closing = true;
}

void model_process(void)
{
    model.session++;
    model.closing = false;
    model.live = false;
    model.waits_from = UINT64_MAX;
}

/* What the recorder may say of a run that was under way. */
static unsigned found_of(const struct job *j, const struct fact *o, bool async)
{
    unsigned executing = BIT(FOUND_EXECUTING);
    if (move_token(j) == model.alone) {
        executing = BIT(FOUND_ALONE);
        if (task_now >= model.alone_until) {
            executing |= BIT(FOUND_EXECUTING);
        }
    }
    if (!move_has_begun(j, o)) {
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
        j->cancel = CANCEL_NOT;
        memset(j->asked, 0, sizeof j->asked);
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
    SIM_CHECK(model.unsynced || !there || !j->gone_told,
              "j%d was deleted, and is there after a power cut", move_token(j));
    SIM_CHECK(model.unsynced ||
                  ((j->stage != STAGE_ACKED || there || j->gone) && told),
              "j%d was promised, and is %s after a power cut", move_token(j),
              move_state(n));
    j->gone &= !there;
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
        note_ends(&model.facts);
        for (unsigned i = 0; i < model.jobs_n; i++) {
            judge_cut(&model.job[i], &model.facts.job[i],
                      lost > 0 && model.unsynced);
        }
    }
    for (int i = 0; lost > 0 && model.unsynced && i < RULED_MAX; i++) {
        struct ruled *q = &model.queue[i];
        q->paused = q->was_paused ? RULE_MAYBE : RULE_NO;
        q->few = q->was_few ? RULE_MAYBE : RULE_NO;
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
        SIM_CHECK(f->id == 0
                      ? model.job[i].gone || model.job[i].stage != STAGE_ACKED
                      : move_is_end(f),
                  "j%u is %s in the end", i, move_state(f));
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
    size_t windows = 0;
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
            windows += line->window.n > 0;
        }
    }
    SIM_CHECK(used == core->claimed_n &&
                  impl->recorder.free_n + used == DASSIE_CLAIMED_MAX,
              "%u jobs are claimed, %u slots used and %u free", core->claimed_n,
              used, impl->recorder.free_n);
    reached->recorder_full += impl->recorder.free_n == 0;
    SIM_CHECK(bytes == core->store.window_bytes &&
                  bytes <= core->store.window_max + windows * JOB_BYTES,
              "windows of %zu bytes, counted as %zu", bytes,
              core->store.window_bytes);
    SIM_CHECK(t->pending == model.facts.n[DASSIE_PENDING] &&
                  t->scheduled == model.facts.n[DASSIE_SCHEDULED] &&
                  t->running == model.facts.n[DASSIE_RUNNING] &&
                  t->complete == model.facts.n[DASSIE_COMPLETE] &&
                  t->failed == model.facts.n[DASSIE_FAILED] &&
                  t->cancelled == model.facts.n[DASSIE_CANCELLED] &&
                  t->running == core->claimed_n,
              "the counts are not those of the rows");
}

/* What is too late for its first run does not wait any more. */
static void judge_late(const struct dassie__impl *impl)
{
    for (int i = 0; i < TOKENS_MAX; i++) {
        const struct fact *f = &model.facts.job[i];
        bool waits = f->id != 0 && (f->state == DASSIE_PENDING ||
                                    f->state == DASSIE_SCHEDULED);
        SIM_CHECK(!waits || !move_is_late(f) || impl->core.broken != 0 ||
                      impl->closing,
                  "j%d is %s, and it is too late for it", i, move_state(f));
    }
}

/* Something runs that may time out, or waits that may expire. */
static bool is_timed(void)
{
    bool timed = false;
    for (unsigned i = 0; i < model.jobs_n; i++) {
        const struct fact *f = &model.facts.job[i];
        timed |= f->id != 0 &&
                 (f->state == DASSIE_RUNNING
                      ? model.job[i].timeout_ms > 0
                      : f->state == DASSIE_PENDING && f->expires_ms > 0);
    }
    return timed;
}

/* Idle means idle: it wakes by time only where there is something to wait for.
 */
static void judge_sleep(const struct dassie__impl *impl, uint64_t until)
{
    const struct core *core = &impl->core;
    uint64_t sweep = dassie__sweep_due(&core->store);
    uint64_t ms = sweep > core->wall_ms ? sweep - core->wall_ms : 0;
    ms = ms < SLEEP_MS_MAX ? ms : SLEEP_MS_MAX;
    bool awaits = core->store.queues.tally.scheduled > 0 ||
                  core->store.suspects > 0 || core->alone != NULL ||
                  core->broken != 0 || impl->starved != NULL || impl->closing;
    for (const struct dassie__processor *p = core->processors; p != NULL;
         p = p->next) {
        awaits |= p->claimed > p->slots;
    }
    awaits |= is_timed();
    reached->sleeps += !awaits;
    awaits |= until == UINT64_MAX ||
              (sweep != UINT64_MAX && until >= core->mono_ns + ms * MS);
    SIM_CHECK(awaits, "the engine wakes for nothing");
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
    uint64_t until;
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
        impl->core.store.kv != NULL && tasks_engine_idle(&impl->cond, &until)) {
        judge_idle(impl);
        judge_sleep(impl, until);
        judge_late(impl);
    }
}
