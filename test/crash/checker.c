/* checker.c: compares a store with its ledger; see subject.h.
 *
 * First as the last process left it: dassie_verify(), then what a processor
 * would find; then once more when all jobs have run, those first that were
 * executing at the kill, each of them alone. A power cut makes no suspects, but
 * those of a kill before it stay.
 *
 * A power cut may take what a store was told under DASSIE_OFF, unless it was
 * closed. Then the first one to open it has to be told if anything is gone, and
 * what is left has to be sound in itself: the ledger forgets what is gone, and
 * is compared as ever. */
#include "subject.h"

#include "ledger.h"
#include "operate.h"
#include "sync.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define IDS_MAX 262144 /* more than all processes together use */
#define FRESH_JOBS 3u

/* What was found: of each token, and which id belongs to whom. */
static struct {
    uint64_t id; /* 0: it is not there */
    dassie_state_t state;
} found[TOKENS_MAX];
static uint32_t owner[IDS_MAX]; /* token + 1 */
static uint64_t id_max;         /* told or found */
static dassie_count_t listed;
static unsigned swept;

/* ---- Jobs ---- */

/* Pending, or scheduled. An end that is lost is so once: another one follows.
 */
static void judge_waiting(uint32_t token, const dassie_info_t *job)
{
    struct entry *entry = &ledger->entry[token];
    if (job->attempts > 0 && (job->flags & DASSIE_AT_MOST_ONCE) != 0) {
        ledger_loss(token, "would run again, but at most once was asked for");
    }
    if (entry->ended != 0) {
        ledger_loss(token, "would run again, its end was told");
        entry->ended = 0;
    }
}

static void judge_ended(uint32_t token, const dassie_info_t *job)
{
    const struct entry *entry = &ledger->entry[token];
    bool interrupted = job->error_code == DASSIE_EINTERRUPTED;
    if (entry->ended != 0 && !interrupted &&
        entry->ended != (uint32_t)job->state) {
        ledger_fault(token, "was told to be in state %u, and is in %d",
                     entry->ended, job->state);
    }
    if (entry->ended != 0 && interrupted) {
        ledger_loss(token, "is interrupted, its end was told");
    }
    if (!interrupted && entry->executing != 0) {
        ledger_fault(token, "has ended while it was executing");
    }
    bool unrun = entry->attempt == 0 && job->state != DASSIE_CANCELLED;
    if (!interrupted && (unrun || entry->attempt != job->attempts)) {
        ledger_loss(token, "has ended after another run than the last");
    }
}

/* What was due has gone on since. */
static bool is_promoted(uint32_t token, const dassie_info_t *job)
{
    return found[token].state == DASSIE_SCHEDULED &&
           job->state == DASSIE_PENDING;
}

static void judge_id(uint32_t token, const dassie_info_t *job)
{
    uint64_t told = ledger->entry[token].id;
    if (found[token].id == job->id && is_promoted(token, job)) {
        return;
    }
    if (found[token].id == job->id) {
        ledger_fault(token, "is in two states");
    } else if (found[token].id != 0) {
        ledger_fault(token, "is there twice");
    }
    if (told != 0 && told != job->id) {
        ledger_fault(token, "was told to have the id %llu, and has %llu",
                     (unsigned long long)told, (unsigned long long)job->id);
    }
    if (job->id >= IDS_MAX) {
        if (!ledger->lossy) {
            ledger_fault(token, "has an id too large");
        }
    } else if (owner[job->id] != 0 && owner[job->id] != token + 1) {
        ledger_fault(token, "has the id of job %u", owner[job->id] - 1);
    } else {
        owner[job->id] = token + 1;
    }
    id_max = job->id > id_max ? job->id : id_max;
}

/* With the names of queues lost, nobody knows which are to be served. */
static bool renamed;

static bool is_renamed(const dassie_info_t *job)
{
    static const char made[] = "recovered-";
    return ledger->lossy && job->queue_len > strlen(made) &&
           memcmp(job->queue, made, strlen(made)) == 0;
}

/* What was deleted, or swept, is there again, as a job that is to run. */
static void revive(uint32_t token, const dassie_info_t *job)
{
    struct entry *entry = &ledger->entry[token];
    if (ledger->revives && job->state == DASSIE_PENDING &&
        plan_may_be_gone(token) && (entry->ended != 0 || entry->changed)) {
        entry->ended = entry->changed = 0;
        ledger->revived++;
    }
}

static void judge(const dassie_info_t *job)
{
    uint32_t token = ledger_token(job->name, job->name_len);
    if (token == NO_TOKEN) {
        return;
    }
    if (ledger->entry[token].refused) {
        ledger_fault(token, "is there, it was refused");
    }
    const char *what = plan_differs(token, job);
    if (what != NULL && is_renamed(job)) {
        ledger_loss(token, "is in a queue without a name");
        renamed = true;
    } else if (what != NULL) {
        ledger_fault(token, "%s", what);
    }
    revive(token, job);
    const char *lost = plan_change_lost(token, job);
    if (lost != NULL) {
        ledger_loss(token, lost);
    }
    judge_id(token, job);
    uint32_t kills = ledger_kills();
    if (job->crashes > (kills > 0 ? kills - 1 : 0)) {
        ledger_fault(token, "is blamed for %u crashes", job->crashes);
    }
    if (job->state == DASSIE_PENDING || job->state == DASSIE_SCHEDULED) {
        judge_waiting(token, job);
    } else if (job->state == DASSIE_RUNNING) {
        ledger_fault(token, "is running, but nobody runs it");
    } else {
        judge_ended(token, job);
    }
    ledger_attempts(token, job->attempts);
    found[token].id = job->id;
    found[token].state = job->state;
}

/* ---- All of them ---- */

/* Jobs go from the first to the second as their time comes. */
static const dassie_state_t states[] = {DASSIE_SCHEDULED, DASSIE_PENDING,
                                        DASSIE_RUNNING,   DASSIE_COMPLETE,
                                        DASSIE_FAILED,    DASSIE_CANCELLED};
#define STATES (sizeof states / sizeof states[0])

struct counting {
    dassie_counts_t req;
    dassie_count_t count;
    atomic_int n;
};

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    struct counting *c = req->data;
    sync_must(status, "counts");
    c->count = *count;
    c->n++;
}

static void count_now(dassie_count_t *count)
{
    struct counting c = {.n = 0};
    c.req.data = &c;
    sync_must(dassie_counts(&rig.q, &c.req, NULL, 0, on_counts), "counts");
    sync_wait(&c.n, 1);
    *count = c.count;
}

static void tally(const dassie_info_t *job)
{
    uint64_t *count[] = {[DASSIE_PENDING] = &listed.pending,
                         [DASSIE_SCHEDULED] = &listed.scheduled,
                         [DASSIE_RUNNING] = &listed.running,
                         [DASSIE_COMPLETE] = &listed.complete,
                         [DASSIE_FAILED] = &listed.failed,
                         [DASSIE_CANCELLED] = &listed.cancelled};
    ++*count[job->state];
}

/* While jobs are listed, some are swept or become due: then once more. */
static void count_all(void)
{
    dassie_count_t before;
    dassie_count_t counted;
    do {
        count_now(&before);
        memset(&listed, 0, sizeof listed);
        for (size_t i = 0; i < STATES; i++) {
            sync_list(states[i], tally);
        }
        count_now(&counted);
    } while (memcmp(&before, &counted, sizeof counted) != 0);
    if (memcmp(&counted, &listed, sizeof counted) != 0) {
        ledger_fault(NO_TOKEN, "the counts are not those of the jobs");
    }
}

/* How many runs the kills may have ended; the last death may be no kill. */
static uint32_t kill_slots(void)
{
    uint32_t kills = ledger_kills() - (ledger_cut() ? 1 : 0);
    return kills * (WORK_SLOTS + ASYNC_SLOTS);
}

/* Of a queue that keeps few jobs none is gone that is to be kept. */
static void judge_kept(void)
{
    uint32_t complete = 0;
    uint32_t kept = 0;
    struct plan plan;
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        plan_of(token, &plan);
        if (plan.queue == QUEUE_BRIEF) {
            bool is = found[token].id != 0;
            complete += ledger->entry[token].ended == DASSIE_COMPLETE;
            kept += is && found[token].state == DASSIE_COMPLETE;
            swept += !is && ledger->entry[token].id != 0;
        }
    }
    if (kept < BRIEF_KEPT && kept < complete) {
        ledger_loss(NO_TOKEN, "jobs are gone that are to be kept");
    }
}

/* All of a batch, with ids in a row, or nothing of it. */
static void judge_batch(uint32_t first)
{
    for (uint32_t i = 1; i < BATCH_JOBS; i++) {
        uint64_t id = found[first].id;
        if (found[first + i].id != (id == 0 ? 0 : id + i)) {
            ledger_loss(first + i, "is not as the first one of its batch");
        }
    }
}

static void judge_all(void)
{
    memset(found, 0, sizeof found);
    for (size_t i = 0; i < STATES; i++) {
        sync_list(states[i], judge);
    }
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        uint64_t id = ledger->entry[token].id;
        if (found[token].id == 0 && id != 0 && !plan_may_be_gone(token)) {
            ledger_loss(token, "is lost, it was acknowledged");
        }
        id_max = id > id_max ? id : id_max;
        if (token % ROUND_JOBS == 0) {
            judge_batch(token);
        }
    }
    swept = 0;
    judge_kept();
    count_all();
    if (ledger->cuts == 0 && ledger->unheard > kill_slots() + ledger->excused) {
        ledger_fault(NO_TOKEN, "%u runs are counted that never began",
                     ledger->unheard);
    }
}

/* ---- What unsynced commits took with them ---- */

/* It may be so: the power was cut, and it was neither synced nor closed. */
static bool is_lossy(void)
{
    return ledger_cut() && ledger->unsynced && !ledger->closed;
}

static bool kept[TOKENS_MAX];
static uint32_t forgotten; /* promises */

static void keep(const dassie_info_t *job)
{
    uint32_t token = ledger_token(job->name, job->name_len);
    if (token == NO_TOKEN) {
        return;
    }
    struct entry *entry = &ledger->entry[token];
    kept[token] = true;
    forgotten += plan_change_lost(token, job) != NULL;
    entry->changed = 0;
    entry->gave_up = 0;
    entry->attempt = job->attempts;
    entry->executing = 0;
    if (entry->ended != 0 && (entry->ended != (uint32_t)job->state ||
                              job->error_code == DASSIE_EINTERRUPTED)) {
        entry->ended = 0;
        forgotten++;
    }
}

static void forget_all(void)
{
    for (size_t i = 0; i < STATES; i++) {
        sync_list(states[i], keep);
    }
    ledger->keeps = ledger->paused = 0;
    ledger->pause = 1; /* nobody knows */
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        struct entry *entry = &ledger->entry[token];
        if (!kept[token]) {
            forgotten += entry->id != 0 && !plan_may_be_gone(token);
            entry->id = 0;
            entry->attempt = entry->executing = 0;
            entry->ended = entry->changed = 0;
        }
        entry->kept = 0;
    }
    if (forgotten > 0 && rig.rebuilt == 0 && ledger_first_since_cut()) {
        ledger_fault(NO_TOKEN, "%u promises are forgotten, and nobody told",
                     forgotten);
    }
}

/* ---- Running what is left ---- */

static uint32_t suspects;  /* jobs that run first, and alone */
static atomic_ullong runs; /* that began, << 32, and those that go on: as one */
#define RUN_BEGUN (1ull << 32)
static bool was_executing[TOKENS_MAX]; /* at the kill */

static int work(dassie_job_t *job)
{
    unsigned long long others = atomic_fetch_add(&runs, RUN_BEGUN + 1);
    uint32_t beside = (uint32_t)others;
    uint32_t before = (uint32_t)(others / RUN_BEGUN);
    uint32_t token = ledger_begin(job);
    if (before <= suspects && beside > 0) {
        ledger_fault(token, "runs beside a suspect, or is one and not alone");
    }
    if (before >= suspects && was_executing[token]) {
        ledger_fault(token, "was executing, but others run first");
    }
    was_executing[token] = false;
    int status = ledger_end(job, token);
    atomic_fetch_sub(&runs, 1);
    return status;
}

/* New jobs have new ids; they are waited for as well. */
static void enqueue_new(uint32_t token)
{
    subject_enqueue(token);
    uint64_t id = ledger->entry[token].id;
    if (id == 0) {
        return; /* another one has its key */
    }
    if (id <= id_max) {
        ledger_fault(token, "got the id %llu, but %llu was used before",
                     (unsigned long long)id, (unsigned long long)id_max);
    }
    id_max = id;
}

static void enqueue_fresh(void)
{
    uint32_t first = ledger_round(ROUND_JOBS);
    for (uint32_t i = 0; i < FRESH_JOBS; i++) {
        enqueue_new(first + BATCH_JOBS + i);
    }
    for (uint32_t i = KEYED_FIRST; i < ROUND_JOBS; i++) {
        enqueue_new(first + i);
    }
}

static void run_all(void)
{
    static dassie_processor_t processor;
    static uv_buf_t served[2 * QUEUES];
    static char names[QUEUES][sizeof RENAMED + 1];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    memcpy(served, queues, sizeof queues);
    for (int i = 0; i < QUEUES; i++) {
        int n = snprintf(names[i], sizeof names[i], RENAMED "%d", i);
        served[QUEUES + i] = uv_buf_init(names[i], (unsigned)n);
    }
    options.queues = served;
    options.queues_n = ledger_renamed() ? 2 * QUEUES : QUEUES;
    options.concurrency = WORK_SLOTS;
    options.work = work;
    operate_pause(false);
    sync_must(dassie_process(&rig.q, &processor, &options), "process");
    operate_finish();
}

/* ---- The check ---- */

bool subject_torn;

/* Of one verification, the first one. */
static char problem[FAULT_BYTES];

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    (void)id;
    if (problem[0] == '\0') {
        snprintf(problem, sizeof problem, "%s", line);
    }
}

/* Until the first open has ended there may be no store yet. */
static void verify(const char *path, bool torn)
{
    problem[0] = '\0';
    int rc = dassie_verify(path, on_problem, NULL, NULL);
    if (rc == DASSIE_ECORRUPT && torn) {
        printf("cannot be verified before it was opened\n");
        return;
    }
    if (problem[0] != '\0') {
        ledger_fault(NO_TOKEN, "%s", problem);
    }
    if (rc != 0 && ledger->opened) {
        ledger_fault(NO_TOKEN, "the store cannot be verified: %s",
                     dassie_strerror(rc));
    }
}

/* Which jobs were executing at the kill and have to run again. */
static uint32_t find_suspects(void)
{
    uint32_t n = 0;
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        const struct entry *entry = &ledger->entry[token];
        was_executing[token] = !ledger_cut() && entry->executing != 0 &&
                               found[token].id != 0 &&
                               found[token].state == DASSIE_PENDING;
        n += was_executing[token];
        if (entry->executing != 0 && found[token].id == 0) {
            ledger_fault(token, "was executing, and is gone");
        }
    }
    return n;
}

static void print_found(uint32_t certain)
{
    unsigned acknowledged = 0;
    unsigned ended = 0;
    unsigned changed = 0;
    unsigned saved = 0;
    unsigned expired = 0;
    struct plan plan;
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        acknowledged += ledger->entry[token].id != 0;
        ended += ledger->entry[token].ended != 0;
        changed += ledger->entry[token].changed;
        saved += ledger->entry[token].kept != 0;
        plan_of(token, &plan);
        expired += plan.spec.expire_ms > 0 && found[token].id != 0 &&
                   found[token].state == DASSIE_CANCELLED;
    }
    printf(
        "acknowledged %u ended %u executing %u suspects %u unheard %u "
        "forgotten %u changed %u saved %u swept %u held %u expired %u\n",
        acknowledged, ended, certain, suspects, ledger->unheard, forgotten,
        changed, saved, swept, ledger->held, expired);
}

/* What the last process has left. */
static void check_left(const char *path, bool lossy)
{
    dassie_stats_t stats;
    sync_open(path);
    sync_must(dassie_stats(&rig.q, &stats), "stats");
    if (lossy) {
        forget_all();
    }
    operate_look();
    judge_all();
    uint32_t certain = find_suspects();
    uint32_t slots = kill_slots();
    suspects = stats.suspects;
    if (suspects < certain || suspects > certain + slots) {
        ledger_fault(NO_TOKEN, "%u jobs were executing, %u are suspects",
                     certain, suspects);
    }
    print_found(certain);
    ledger_opened();
}

static void check_rest(void)
{
    enqueue_fresh();
    run_all();
    judge_all();
    if (listed.pending + listed.scheduled > 0) {
        ledger_fault(NO_TOKEN, "drained, but %llu jobs wait",
                     (unsigned long long)(listed.pending + listed.scheduled));
    }
}

/* All may run at once; what is left of the ledger tells of the ids. */
static void open_to_run(const char *path)
{
    dassie_stats_t stats;
    sync_open(path);
    sync_must(dassie_stats(&rig.q, &stats), "stats");
    suspects = stats.suspects;
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        uint64_t id = ledger->entry[token].id;
        id_max = id > id_max ? id : id_max;
    }
}

void subject_compare(const char *path, bool run_first)
{
    bool lossy = is_lossy();
    ledger->closed = 0;
    if (run_first) {
        open_to_run(path);
    } else {
        check_left(path, lossy);
    }
    if (ledger->faults == 0 && !renamed) {
        check_rest();
    }
    sync_close();
    ledger->closed = 1;
}

/* A store that is found wrong is left as it is. */
void subject_check(const char *path)
{
    if (ledger->faults > 0) {
        fprintf(stderr, "before: %s\n", ledger->fault);
        return;
    }
    if (!is_lossy()) {
        verify(path, subject_torn);
    }
    if (ledger->faults > 0) {
        return;
    }
    subject_compare(path, false);
    if (ledger->faults == 0) {
        verify(path, false);
    }
}
