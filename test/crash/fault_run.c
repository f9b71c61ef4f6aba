/* fault_run.c: work that goes on while the disk does not; see subject.h.
 *
 * The process lives on. It goes through two sessions: jobs are asked for, run,
 * looked up; the queue is closed while jobs are under way. The second session
 * finds what the first has left, and runs all of it. Trouble that lasts (see
 * trouble.h) ends as soon as it was told of ("heal"), or only when the queue is
 * closed ("lose").
 *
 * What is checked here: each request is answered once, and definitely; nothing
 * is acknowledged while nothing can be written; the queue tells; the close ends
 * in time, and of what was in doubt it says so, and of nothing else; a store
 * that does not open says why, and opens when the fault is over. What is in the
 * store in the end is the checker's. */
#include "subject.h"

#include "ledger.h"
#include "sync.h"
#include "trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS 2
#define ROUNDS 3        /* a session */
#define ASKED_AT_ONCE 4 /* single jobs: others end meanwhile */
#define GRACE_MS 200
#define FLOOR_BYTES (32u << 20)
#define CLOSE_MS_MAX 20000 /* beyond the grace period: it hangs */

static struct ask {
    dassie_enqueue_t req;
    dassie_watch_t watch;
    dassie_change_t change;
    bool doomed; /* nothing could be written when it was asked for */
    unsigned acks;
    unsigned ends_due;
    unsigned ends;
} asks[TOKENS_MAX];

static struct {
    dassie_enqueue_many_t req;
    uint32_t first;
} batches[ROUNDS];

static struct {
    bool lasts; /* the trouble does, until the queue is closed */
    bool floor; /* jobs may be refused, as too little disk is free */
    bool closing;
    unsigned waiting;    /* requests that are not answered yet */
    unsigned in_session; /* rounds */
} run;

/* What the log told. */
static struct {
    unsigned doubts; /* commits in doubt, */
    unsigned mixed;  /* of enqueues, claims and ends at once */
    unsigned promoting;
    unsigned sweeping;
    unsigned failures;
    unsigned healed;
    unsigned lost;
    unsigned lost_jobs;
    unsigned unreadable;
    unsigned low;
    unsigned room;
} told;

static struct {
    unsigned acknowledged;
    unsigned refused;
    unsigned unknown;
    unsigned unopened;
    unsigned lookups; /* that failed */
    unsigned changes;
} counts;

/* ---- Waiting ---- */

/* Waiting is in vain: the fault is told of, and stays until the close. */
static bool in_vain(void)
{
    return run.lasts && trouble_lasts() &&
           (told.failures >= 2 || told.unreadable > 0);
}

static void wait_answers(void)
{
    while (run.waiting > 0 && !in_vain()) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
}

/* ---- The log ---- */

static void on_failure(void)
{
    dassie_stats_t stats;
    told.failures++;
    if (!trouble_lasts()) {
        return;
    }
    sync_must(run.closing ? 0 : dassie_stats(&rig.q, &stats), "stats");
    if (!run.closing && stats.degraded == 0) {
        ledger_fault(NO_TOKEN, "degraded, but the figures do not say so");
    }
    if (!run.lasts) {
        trouble_end();
    }
}

static bool begins(const char *line, const char *text)
{
    return strncmp(line, text, strlen(text)) == 0;
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    unsigned enqueued;
    unsigned claimed;
    unsigned ended;
    unsigned promoted;
    unsigned swept;
    unsigned jobs;
    (void)q;
    (void)level;
    if (getenv("SUBJECT_LOG") != NULL) {
        fprintf(stderr, "log: %s\n", line);
    }
    if (sscanf(line,
               "a commit is in doubt: %u enqueued, %u claimed, %u ended, "
               "%u promoted, %u swept",
               &enqueued, &claimed, &ended, &promoted, &swept) == 5) {
        told.doubts++;
        told.mixed += enqueued > 0 && claimed > 0 && ended > 0;
        told.promoting += promoted > 0;
        told.sweeping += swept > 0;
    } else if (begins(line, "the store does not heal")) {
        on_failure();
    } else if (begins(line, "the store has healed")) {
        told.healed++;
    } else if (sscanf(line, "the store is given up: %u jobs", &jobs) == 1) {
        told.lost++;
        told.lost_jobs += jobs;
    } else if (sscanf(line, "the flight recorder says nothing of %u jobs",
                      &jobs) == 1) {
        ledger->excused += jobs;
    } else if (begins(line, "jobs that wait to run cannot be read")) {
        told.unreadable++;
        if (!run.lasts) {
            trouble_end();
        }
    }
    told.low += strstr(line, "new jobs are refused") != NULL;
    told.room += strstr(line, "new jobs are taken") != NULL;
}

/* ---- Requests ---- */

/* A mistake made on purpose, as the library might make it: it has to be
 * noticed. */
static bool planted(const char *what)
{
    const char *plant = getenv("SUBJECT_PLANT");
    return plant != NULL && strcmp(plant, what) == 0 && trouble_hits() > 0;
}

/* In doubt, or not to be answered any more. */
static bool is_lost(int status)
{
    return trouble_is(status) || (run.closing && (status == UV_ECANCELED ||
                                                  status == DASSIE_EUNKNOWN));
}

/* What has started meanwhile may be in another state by now. */
static void on_change(dassie_change_t *req, int status)
{
    struct ask *ask = req->data;
    uint32_t token = (uint32_t)(ask - asks);
    run.waiting--;
    if (status == 0 && req->was != DASSIE_RUNNING) {
        ledger->entry[token].changed = 1;
        counts.changes++;
    } else if (status != 0 && status != DASSIE_ESTATE && !is_lost(status)) {
        ledger_fault(token, "is not changed: %s", dassie_strerror(status));
    }
}

static void ask_change(uint32_t token, bool late)
{
    struct ask *ask = &asks[token];
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    struct plan plan;
    plan_of(token, &plan);
    if (plan.change == 0 || plan.change_late != late || run.closing ||
        ledger->entry[token].id == 0) {
        return;
    }
    plan_change(token, &plan, &filter);
    ask->change.data = ask;
    run.waiting++;
    sync_must(dassie_change(&rig.q, &ask->change, (dassie_action_t)plan.change,
                            &filter, on_change),
              "change");
}

static void answered(uint32_t token, int status, uint64_t id)
{
    struct ask *ask = &asks[token];
    if (planted("silence")) {
        return;
    }
    if (planted("refusal")) {
        ledger->entry[token].refused = 1;
    }
    if (ask->acks++ > 0) {
        ledger_fault(token, "is acknowledged twice");
    }
    if (status == 0) {
        counts.acknowledged++;
        ledger->entry[token].id = id;
        if (ask->doomed && trouble_is_total()) {
            ledger_fault(token, "is acknowledged, but nothing was written");
        }
        return;
    }
    bool low = run.floor && trouble_hits() > 0 && status == UV_ENOSPC;
    if (!low && (!run.closing ||
                 (status != UV_ECANCELED && status != DASSIE_EUNKNOWN))) {
        ledger_fault(token, "is refused: %s", dassie_strerror(status));
    }
    if (status == DASSIE_EUNKNOWN) {
        counts.unknown++;
        ledger->entry[token].id = planted("acknowledgement") ? id : 0;
    } else {
        counts.refused++;
        ledger->entry[token].refused = 1;
    }
}

static void on_end(uint32_t token, int status, const dassie_info_t *job)
{
    if (asks[token].ends++ > 0) {
        ledger_fault(token, "has its end told twice");
    }
    bool deleted =
        status == UV_ENOENT && ledger->entry[token].change == DASSIE_DELETE;
    if (status == 0) {
        ledger_told(token, job);
        ask_change(token, true);
    } else if (deleted) {
        return;
    } else if (!run.closing || job != NULL ||
               (status != UV_ECANCELED && status != DASSIE_EUNKNOWN)) {
        ledger_fault(token, "has no end: %s", dassie_strerror(status));
    }
}

static void on_done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    on_end((uint32_t)((struct ask *)req->data - asks), status, job);
}

static void on_watch(dassie_watch_t *req, int status, const dassie_info_t *job)
{
    uint32_t token = (uint32_t)((struct ask *)req->data - asks);
    if (trouble_is(status)) {
        asks[token].ends++; /* it had ended, and could not be looked up */
        counts.lookups++;
        return;
    }
    on_end(token, status, job);
}

static void on_ack(dassie_enqueue_t *req, int status)
{
    struct ask *ask = req->data;
    run.waiting--;
    ask->ends_due = status == 0;
    answered((uint32_t)(ask - asks), status, req->id);
    if (status == 0) {
        ask_change((uint32_t)(ask - asks), false);
    }
}

static void prepare(uint32_t token, struct plan *plan)
{
    struct ask *ask = &asks[token];
    plan_of(token, plan);
    memset(ask, 0, sizeof *ask);
    ask->doomed = trouble_is_total();
    ledger->entry[token].asked = 1;
}

static void ask_one(uint32_t token)
{
    struct ask *ask = &asks[token];
    struct plan plan;
    prepare(token, &plan);
    ask->req.data = ask;
    ask->req.done_cb = on_done;
    run.waiting++;
    sync_must(dassie_enqueue(&rig.q, &ask->req, &plan.spec, on_ack), "enqueue");
}

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    uint32_t first = *(uint32_t *)req->data;
    run.waiting--;
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        struct ask *ask = &asks[first + i];
        answered(first + i, status, req->first_id + i);
        if (status != 0 || run.closing) {
            continue;
        }
        ask->ends_due = 1;
        ask->watch.data = ask;
        sync_must(
            dassie_watch(&rig.q, &ask->watch, req->first_id + i, on_watch),
            "watch");
        ask_change(first + i, false);
    }
}

static void ask_batch(uint32_t first)
{
    static struct plan plans[BATCH_JOBS];
    dassie_spec_t specs[BATCH_JOBS];
    dassie_enqueue_many_t *req = &batches[run.in_session].req;
    for (uint32_t i = 0; i < BATCH_JOBS; i++) {
        prepare(first + i, &plans[i]);
        specs[i] = plans[i].spec;
    }
    batches[run.in_session].first = first;
    req->data = &batches[run.in_session].first;
    run.waiting++;
    sync_must(dassie_enqueue_many(&rig.q, req, specs, BATCH_JOBS, on_batch),
              "enqueue_many");
}

/* ---- Look-ups ---- */

static void looked_up(int status)
{
    run.waiting--;
    if (trouble_is(status)) {
        counts.lookups++;
    } else if (status != 0 && !(run.closing && status == UV_ECANCELED)) {
        ledger_fault(NO_TOKEN, "a look-up: %s", dassie_strerror(status));
    }
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    for (size_t i = 0; i < n; i++) {
        uint32_t token = ledger_token(jobs[i].name, jobs[i].name_len);
        const char *what =
            token != NO_TOKEN ? plan_differs(token, &jobs[i]) : NULL;
        if (what != NULL) {
            ledger_fault(token, "%s, in a list", what);
        }
    }
    looked_up(status);
}

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    (void)job;
    looked_up(status);
}

static void ask_lookups(void)
{
    static const dassie_state_t states[] = {DASSIE_PENDING, DASSIE_SCHEDULED,
                                            DASSIE_COMPLETE, DASSIE_FAILED,
                                            DASSIE_CANCELLED};
    static dassie_list_t lists[ROUNDS][5];
    static dassie_get_t gets[ROUNDS];
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    memset(lists[run.in_session], 0, sizeof lists[0]);
    for (size_t i = 0; i < 5; i++) {
        options.state = states[i];
        run.waiting++;
        sync_must(
            dassie_list(&rig.q, &lists[run.in_session][i], &options, on_list),
            "list");
    }
    if (ledger->entry[0].id != 0) {
        run.waiting++;
        sync_must(dassie_get(&rig.q, &gets[run.in_session], ledger->entry[0].id,
                             on_get),
                  "get");
    }
}

/* ---- Sessions ---- */

static int work(dassie_job_t *job)
{
    return ledger_end(job, ledger_begin(job));
}

static void serve(int first, unsigned n)
{
    static dassie_processor_t processors[QUEUES];
    static uv_buf_t served[QUEUES];
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    memcpy(served, queues, sizeof served);
    options.queues = &served[first];
    options.queues_n = n;
    options.concurrency = first == QUEUE_BRIEF ? ASYNC_SLOTS : WORK_SLOTS;
    options.work = first == QUEUE_BRIEF ? NULL : work;
    options.start = first == QUEUE_BRIEF ? subject_start : NULL;
    sync_must(dassie_process(&rig.q, &processors[first], &options), "process");
}

static void on_keep(dassie_configure_t *req, int status,
                    const dassie_settings_t *settings)
{
    (void)req;
    (void)settings;
    run.waiting--;
    if (status == 0) {
        ledger->keeps = 1;
    } else if (!is_lost(status)) {
        ledger_fault(NO_TOKEN, "settings: %s", dassie_strerror(status));
    }
}

/* So that jobs are swept. */
static void ask_keep(void)
{
    static dassie_configure_t req;
    const uv_buf_t *queue = &queues[QUEUE_BRIEF];
    dassie_settings_t settings = DASSIE_SETTINGS_INIT;
    settings.set = DASSIE_SET_KEEP;
    settings.keep_complete.jobs = BRIEF_KEPT;
    run.waiting++;
    sync_must(dassie_configure(&rig.q, &req, queue->base, queue->len, &settings,
                               on_keep),
              "configure");
}

static int open_status;

static void on_open(dassie_t *q, int status)
{
    (void)q;
    open_status = status;
    rig.opened++;
}

static void close_queue(void)
{
    run.closing = true;
    uint64_t begin = uv_hrtime();
    sync_close();
    uint64_t ms = (uv_hrtime() - begin) / 1000000;
    if (ms > GRACE_MS + CLOSE_MS_MAX) {
        ledger_fault(NO_TOKEN, "the close took %u ms", (unsigned)ms);
    }
    if (run.waiting > 0) {
        ledger_fault(NO_TOKEN, "%u requests were never answered", run.waiting);
    }
    run.waiting = 0;
}

/* A store that did not open: it says why, and takes no job. */
static void not_opened(void)
{
    counts.unopened++;
    if (!trouble_is(open_status) || dassie_errmsg(&rig.q)[0] == '\0') {
        ledger_fault(NO_TOKEN, "the store does not open: %s, %s",
                     dassie_err_name(open_status), dassie_errmsg(&rig.q));
    }
    run.closing = true;
    ask_one(ledger_round(1));
    close_queue();
    trouble_end();
}

static void open_queue(const char *path)
{
    dassie_stats_t stats;
    run.closing = false;
    rig.opened = rig.closed = 0;
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, &rig.options, on_open), "open");
    sync_wait(&rig.opened, 1);
    if (open_status != 0) {
        not_opened();
        run.closing = false;
        sync_open(path);
    }
    ledger_opened();
    sync_must(dassie_stats(&rig.q, &stats), "stats");
    if (ledger_kills() == 0 && stats.suspects > 0) {
        ledger_fault(NO_TOKEN, "%u suspects, but nobody died", stats.suspects);
    }
}

static void run_round(void)
{
    uint32_t first = ledger_round(ROUND_JOBS);
    ask_batch(first);
    for (uint32_t i = BATCH_JOBS; i < ROUND_JOBS; i++) {
        ask_one(first + i);
        if (i % ASKED_AT_ONCE == 0) {
            wait_answers();
        }
    }
    ask_lookups();
    wait_answers();
}

static void on_drain(dassie_drain_t *req, int status)
{
    (void)req;
    run.waiting--;
    if (status != 0 && !(run.closing && status == UV_ECANCELED)) {
        ledger_fault(NO_TOKEN, "drain: %s", dassie_strerror(status));
    }
}

static void drain(void)
{
    static dassie_drain_t req;
    run.waiting++;
    sync_must(dassie_drain(&rig.q, &req, on_drain), "drain");
    wait_answers();
}

/* Each request of the session has had its answer and its end. */
static void check_told(uint32_t first)
{
    for (uint32_t token = first; token < ledger->tokens; token++) {
        const struct ask *ask = &asks[token];
        bool asked = ledger->entry[token].asked != 0;
        if (asked && (ask->acks != 1 || ask->ends != ask->ends_due)) {
            ledger_fault(token, "was asked for once: %u answers, %u ends",
                         ask->acks, ask->ends);
        }
    }
    if (counts.unknown != told.lost_jobs) {
        ledger_fault(NO_TOKEN, "%u jobs are unknown, %u were in doubt",
                     counts.unknown, told.lost_jobs);
    }
}

static void run_session(const char *path, bool last)
{
    uint32_t first = ledger->tokens;
    open_queue(path);
    ask_keep();
    serve(QUEUE_MAIL, 2);
    serve(QUEUE_BRIEF, 2);
    if (last) {
        serve(QUEUE_LATER, 1);
    }
    for (run.in_session = 0; run.in_session < ROUNDS && !in_vain();
         run.in_session++) {
        if (run.in_session > 0) {
            trouble_begin();
        }
        run_round();
    }
    if (last) {
        drain();
    }
    close_queue();
    trouble_end();
    check_told(first);
}

/* ---- The modes ---- */

static void begin(void)
{
    trouble_setup();
    rig.options.grace_ms = GRACE_MS;
    rig.options.commit_delay_ms = 1; /* commits gather something of each */
    rig.options.log_cb = on_log;
    subject_begin();
}

static void end(void)
{
    subject_end();
    printf(
        "hits %ld acknowledged %u refused %u unknown %u doubts %u mixed %u "
        "healed %u lost %u unopened %u lookups %u unreadable %u promoting %u "
        "sweeping %u changes %u\n",
        trouble_hits(), counts.acknowledged, counts.refused, counts.unknown,
        told.doubts, told.mixed, told.healed, told.lost, counts.unopened,
        counts.lookups, told.unreadable, told.promoting, told.sweeping,
        counts.changes);
}

static void run_sessions(const char *path)
{
    begin();
    for (int i = 0; i < SESSIONS; i++) {
        run_session(path, i == SESSIONS - 1);
    }
    end();
}

void subject_heal(const char *path)
{
    run_sessions(path);
}

void subject_lose(const char *path)
{
    run.lasts = true;
    run_sessions(path);
}

/* Asks until *n is more than so much. */
static void rounds_until(const unsigned *n, unsigned more)
{
    while (*n <= more) {
        run_round();
        uv_sleep(20); /* free space is looked at once a second */
    }
}

/* Too little disk is free: nothing new, but all that is there runs. */
void subject_floor(const char *path)
{
    begin();
    run.floor = true;
    rig.options.free_bytes_min = FLOOR_BYTES;
    open_queue(path);
    run_round();
    trouble_begin();
    rounds_until(&counts.refused, 0);
    serve(QUEUE_MAIL, 2);
    serve(QUEUE_BRIEF, 2);
    serve(QUEUE_LATER, 1);
    drain();
    trouble_end();
    rounds_until(&counts.acknowledged, counts.acknowledged);
    drain();
    close_queue();
    check_told(0);
    if (told.low != 1 || told.room != 1 || told.doubts > 0) {
        ledger_fault(NO_TOKEN, "told %u times of too little room, %u of enough",
                     told.low, told.room);
    }
    end();
}
