/* fault_run.c: work that goes on while the disk does not; see subject.h.
 *
 * The process lives on. It goes through two sessions: jobs are asked for, run,
 * looked up; the queue is closed while jobs are under way. The second session
 * finds what the first has left, and runs all of it. Trouble that lasts (see
 * trouble.h) ends as soon as it was told of ("heal"), or only when the queue is
 * closed ("lose").
 *
 * What is checked here, beside the answers (fault_ask.h): the queue tells; the
 * close ends in time, and of what was in doubt it says so, and of nothing else;
 * a store that does not open says why, and opens when the fault is over. What
 * is in the store in the end is the checker's. */
#include "subject.h"

#include "fault_ask.h"
#include "ledger.h"
#include "sync.h"
#include "trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS 2
#define ASKED_AT_ONCE 4 /* single jobs: others end meanwhile */
#define GRACE_MS 200
#define FLOOR_BYTES (32u << 20)
#define CLOSE_MS_MAX 20000 /* beyond the grace period: it hangs */

static bool lasts; /* the trouble does, until the queue is closed */
static unsigned unopened;

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

/* ---- Waiting ---- */

/* Waiting is in vain: the fault is told of, and stays until the close. */
static bool in_vain(void)
{
    return lasts && trouble_lasts() &&
           (told.failures >= 2 || told.unreadable > 0);
}

static void wait_answers(void)
{
    while (asking.waiting > 0 && !in_vain()) {
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
    sync_must(asking.closing ? 0 : dassie_stats(&rig.q, &stats), "stats");
    if (!asking.closing && stats.degraded == 0) {
        ledger_fault(NO_TOKEN, "degraded, but the figures do not say so");
    }
    if (!lasts) {
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
        if (!lasts) {
            trouble_end();
        }
    }
    told.low += strstr(line, "new jobs are refused") != NULL;
    told.room += strstr(line, "new jobs are taken") != NULL;
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

static int open_status;

static void on_open(dassie_t *q, int status)
{
    (void)q;
    open_status = status;
    rig.opened++;
}

static void close_queue(void)
{
    asking.closing = true;
    uint64_t begin = uv_hrtime();
    sync_close();
    uint64_t ms = (uv_hrtime() - begin) / 1000000;
    if (ms > GRACE_MS + CLOSE_MS_MAX) {
        ledger_fault(NO_TOKEN, "the close took %u ms", (unsigned)ms);
    }
    if (asking.waiting > 0) {
        ledger_fault(NO_TOKEN, "%u requests were never answered",
                     asking.waiting);
    }
    asking.waiting = 0;
}

/* A store that did not open: it says why, and takes no job. */
static void not_opened(void)
{
    unopened++;
    if (!trouble_is(open_status) || dassie_errmsg(&rig.q)[0] == '\0') {
        ledger_fault(NO_TOKEN, "the store does not open: %s, %s",
                     dassie_err_name(open_status), dassie_errmsg(&rig.q));
    }
    asking.closing = true;
    fault_ask_one(ledger_round(1));
    close_queue();
    trouble_end();
}

static void open_queue(const char *path)
{
    dassie_stats_t stats;
    asking.closing = false;
    rig.opened = rig.closed = 0;
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, &rig.options, on_open), "open");
    sync_wait(&rig.opened, 1);
    if (open_status != 0) {
        not_opened();
        asking.closing = false;
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
    fault_ask_batch(first);
    for (uint32_t i = BATCH_JOBS; i < ROUND_JOBS; i++) {
        fault_ask_one(first + i);
        if (i % ASKED_AT_ONCE == 0) {
            wait_answers();
        }
    }
    fault_ask_lookups();
    wait_answers();
}

static void drain(void)
{
    fault_ask_drain();
    wait_answers();
}

static void check_told(uint32_t first)
{
    fault_ask_check(first);
    if (answers.unknown != told.lost_jobs) {
        ledger_fault(NO_TOKEN, "%u jobs are unknown, %u were in doubt",
                     answers.unknown, told.lost_jobs);
    }
}

static void run_session(const char *path, bool last)
{
    uint32_t first = ledger->tokens;
    open_queue(path);
    fault_ask_keep();
    serve(QUEUE_MAIL, 2);
    serve(QUEUE_BRIEF, 2);
    if (last) {
        serve(QUEUE_LATER, 1);
    }
    for (asking.round = 0; asking.round < ASK_ROUNDS && !in_vain();
         asking.round++) {
        if (asking.round > 0) {
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
        trouble_hits(), answers.acknowledged, answers.refused, answers.unknown,
        told.doubts, told.mixed, told.healed, told.lost, unopened,
        answers.lookups, told.unreadable, told.promoting, told.sweeping,
        answers.changes);
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
    lasts = true;
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
    asking.floor = true;
    rig.options.free_bytes_min = FLOOR_BYTES;
    open_queue(path);
    run_round();
    trouble_begin();
    rounds_until(&answers.refused, 0);
    serve(QUEUE_MAIL, 2);
    serve(QUEUE_BRIEF, 2);
    serve(QUEUE_LATER, 1);
    drain();
    trouble_end();
    rounds_until(&answers.acknowledged, answers.acknowledged);
    drain();
    close_queue();
    check_told(0);
    if (told.low != 1 || told.room != 1 || told.doubts > 0) {
        ledger_fault(NO_TOKEN, "told %u times of too little room, %u of enough",
                     told.low, told.room);
    }
    end();
}
