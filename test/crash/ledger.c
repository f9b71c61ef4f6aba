#include "ledger.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct ledger *ledger;

#define FAULTS_SHOWN 20

static uint32_t process; /* this one's number, from 1 */

/* What a run has saved that has returned, since the store was opened. */
static uint16_t returned[TOKENS_MAX];

/* ---- The ledger ---- */

static void ledger_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, sizeof *ledger) != 0) {
        perror(path);
        exit(3);
    }
    ledger =
        mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ledger == MAP_FAILED) {
        perror(path);
        exit(3);
    }
    close(fd);
}

void ledger_open(const char *path)
{
    ledger_map(path);
    process = ++ledger->begun;
}

void ledger_cut_in(struct ledger *told)
{
    told->cuts++;
    told->cut_at = told->begun;
}

void ledger_cut_now(const char *path)
{
    ledger_map(path);
    ledger_cut_in(ledger);
    munmap(ledger, sizeof *ledger);
}

void ledger_close(void)
{
    ledger->ended++;
}

bool ledger_renamed(void)
{
    return ledger->unsynced && ledger->cuts > 0;
}

bool ledger_cut(void)
{
    return ledger->cuts != ledger->healed;
}

bool ledger_first_since_cut(void)
{
    return process == ledger->cut_at + 1;
}

void ledger_opened(void)
{
    memset(returned, 0, sizeof returned); /* the last close may have failed */
    if (ledger_cut()) {
        for (uint32_t token = 0; token < ledger->tokens; token++) {
            ledger->entry[token].executing = 0;
        }
        ledger->healed = ledger->cuts;
    }
    ledger->opened = 1;
}

uint32_t ledger_kills(void)
{
    return process - 1 - ledger->ended;
}

uint32_t ledger_round(uint32_t n)
{
    uint32_t first =
        (ledger->tokens + ROUND_JOBS - 1) / ROUND_JOBS * ROUND_JOBS;
    if (first + n > TOKENS_MAX) {
        fprintf(stderr, "the ledger is full\n");
        exit(3);
    }
    ledger->tokens = first + n;
    return first;
}

void ledger_fault(uint32_t token, const char *format, ...)
{
    char text[FAULT_BYTES];
    int n =
        token == NO_TOKEN ? 0 : snprintf(text, sizeof text, "job %u ", token);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    uint32_t before = ledger->faults++;
    if (before == 0) {
        memcpy(ledger->fault, text, sizeof text);
    }
    if (before < FAULTS_SHOWN) {
        fprintf(stderr, "%s\n", text);
    }
}

void ledger_loss(uint32_t token, const char *text)
{
    if (ledger->lossy) {
        ledger->lost++;
    } else {
        ledger_fault(token, "%s", text);
    }
}

uint32_t ledger_token(const char *name, size_t len)
{
    unsigned token;
    char end;
    if (len == 0 || sscanf(name, "job %u%c", &token, &end) != 1 ||
        token >= TOKENS_MAX || !ledger->entry[token].asked) {
        ledger_fault(NO_TOKEN, "nobody asked for a job '%s'",
                     len > 0 ? name : "");
        return NO_TOKEN;
    }
    return token;
}

void ledger_attempts(uint32_t token, uint32_t attempts)
{
    uint32_t known = ledger->entry[token].attempt;
    if (attempts < known) {
        ledger_loss(token, "had attempts that are not counted");
        return;
    }
    ledger->unheard += attempts - known;
    ledger->entry[token].attempt = attempts;
}

/* ---- Keys ---- */

void ledger_asked(uint32_t token)
{
    struct entry *entry = &ledger->entry[token];
    entry->asked = 1;
    entry->asked_by = process;
    entry->asked_at = ledger->told;
}

static bool has_key(uint32_t token, const char *key)
{
    char other[KEY_BYTES];
    return plan_key(token, other) && strcmp(key, other) == 0;
}

/* It got the key: nobody else has it who waits for certain. */
static void check_free(uint32_t token, const char *key)
{
    for (uint32_t other = 0; other < ledger->tokens; other++) {
        const struct entry *entry = &ledger->entry[other];
        if (other != token && entry->id != 0 && entry->ended == 0 &&
            entry->attempt == 0 && has_key(other, key)) {
            ledger_loss(token, "has a key that another one holds");
        }
    }
}

/* It did not get the key: who has it was acknowledged, unless a kill came
 * between, and its end was not told before this one was asked for. */
static void check_held(uint32_t token, const char *key, uint64_t id)
{
    const struct entry *asked = &ledger->entry[token];
    for (uint32_t other = 0; other < ledger->tokens; other++) {
        const struct entry *entry = &ledger->entry[other];
        if (entry->id != id) {
            continue;
        }
        if (!has_key(other, key)) {
            ledger_fault(token, "is refused for job %u, which has another key",
                         other);
        } else if (entry->ended != 0 && entry->ended_at <= asked->asked_at) {
            ledger_fault(token, "is refused for job %u, which has ended",
                         other);
        }
    }
}

void ledger_acknowledged(uint32_t token, uint64_t id, bool existing)
{
    char key[KEY_BYTES];
    struct entry *entry = &ledger->entry[token];
    bool keyed = plan_key(token, key);
    if (!existing) {
        entry->id = id;
    }
    if (existing && !keyed) {
        ledger_fault(token, "is refused for its key, and has none");
    } else if (existing) {
        entry->refused = 1;
        ledger->held++;
        check_held(token, key, id);
    } else if (keyed) {
        check_free(token, key);
    }
}

bool ledger_lies(const char *what)
{
    const char *lie = getenv("SUBJECT_LIE");
    return lie != NULL && strcmp(lie, what) == 0;
}

/* ---- What runs save ---- */

static void save(dassie_job_t *job, uint32_t token)
{
    struct entry *entry = &ledger->entry[token];
    struct plan plan;
    plan_of(token, &plan);
    if (plan.course != SAVES) {
        return;
    }
    uint16_t number = ++entry->saving;
    if (ledger_lies("save")) {
        entry->saved = number;
        return;
    }
    int rc = dassie_job_checkpoint(job, &number, sizeof number);
    if (rc == 0) {
        rc = dassie_job_step(job, number, UINT16_MAX);
    }
    if (rc != 0 && rc != UV_ECANCELED) {
        fprintf(stderr, "save: %s\n", dassie_strerror(rc));
        _exit(3);
    }
    entry->saved = number;
}

void ledger_saves_look(uint32_t first, uint16_t said[ROUND_JOBS])
{
    for (uint32_t i = 0; i < ROUND_JOBS; i++) {
        said[i] = ledger->entry[first + i].saved;
    }
}

void ledger_saves_kept(uint32_t first, const uint16_t said[ROUND_JOBS])
{
    for (uint32_t i = 0; i < ROUND_JOBS; i++) {
        ledger->entry[first + i].kept = said[i];
    }
}

static void check_number(uint32_t token, uint64_t number, const char *old)
{
    const struct entry *entry = &ledger->entry[token];
    if (number > entry->saving) {
        ledger_fault(token, "is handed what no run of it has saved");
    } else if (number < entry->kept || number < returned[token]) {
        ledger_loss(token, old);
    }
}

/* What a run is handed that earlier ones have saved. */
static void check_saved(uint32_t token, const dassie_job_t *job)
{
    size_t len;
    uint16_t number = 0;
    const void *data = dassie_job_checkpoint_data(job, &len);
    if (data != NULL && len == sizeof number) {
        memcpy(&number, data, len);
    } else if (data != NULL) {
        ledger_fault(token, "is handed a checkpoint of another size");
    }
    check_number(token, number, "is handed an older checkpoint");
    check_number(token, dassie_job_resume_at(job), "goes on at an older step");
}

/* ---- Runs ---- */

static bool hastened;

void ledger_hasten(void)
{
    hastened = true;
}

/* Whether its time has come, and is not over. */
static void check_time(uint32_t token, const struct plan *plan,
                       const dassie_job_t *job)
{
    const struct entry *entry = &ledger->entry[token];
    if (plan->spec.delay_ms == FAR_MS && !hastened &&
        entry->change != DASSIE_RUN_NOW) {
        ledger_fault(token, "runs before its time");
    }
    if (plan->spec.expire_ms > 0 && entry->asked_by != process &&
        dassie_job_attempt(job) == 1) {
        ledger_fault(token, "runs, it was too late to start it");
    }
}

/* Whether it may begin now, at all. */
static void check_begin(uint32_t token, const struct plan *plan,
                        const dassie_job_t *job)
{
    const struct entry *entry = &ledger->entry[token];
    bool at_most_once = (plan->spec.flags & DASSIE_AT_MOST_ONCE) != 0;
    if (entry->ended != 0) {
        ledger_loss(token, "runs again, its end was told");
    }
    if (entry->executing == process) {
        ledger_fault(token, "runs twice at the same time");
    }
    if (entry->attempt > 0 && at_most_once) {
        ledger_loss(token, "runs again, but at most once was asked for");
    }
    if (entry->changed &&
        (entry->change == DASSIE_CANCEL || entry->change == DASSIE_DELETE)) {
        ledger_loss(token, "runs, it was told to be cancelled or deleted");
    }
    check_time(token, plan, job);
    if (plan->queue == QUEUE_BRIEF && ledger->paused && ledger->pause) {
        ledger_loss(token, "runs, its queue is paused");
    }
}

uint32_t ledger_begin(dassie_job_t *job)
{
    size_t len;
    const char *name = dassie_job_name(job, &len);
    uint32_t token = ledger_token(name, len);
    if (token == NO_TOKEN) {
        _exit(3);
    }
    struct entry *entry = &ledger->entry[token];
    struct plan plan;
    plan_of(token, &plan);
    const void *data = dassie_job_data(job, &len);
    if (len != plan.spec.data_len ||
        (len > 0 && memcmp(data, plan.data, len) != 0)) {
        ledger_fault(token, "runs with another payload");
    }
    check_begin(token, &plan, job);
    check_saved(token, job);
    ledger_attempts(token, dassie_job_attempt(job) - 1);
    entry->attempt++;
    entry->executing = process;
    save(job, token);
    return token;
}

bool ledger_gives_up(uint32_t token, const dassie_job_t *job)
{
    struct entry *entry = &ledger->entry[token];
    if (entry->change != DASSIE_CANCEL || !dassie_job_cancelled(job)) {
        return false;
    }
    entry->gave_up = (uint8_t)dassie_job_attempt(job);
    return true;
}

void ledger_return(uint32_t token)
{
    returned[token] = ledger->entry[token].saved;
    ledger->entry[token].executing = 0;
}

int ledger_end(dassie_job_t *job, uint32_t token)
{
    struct run run;
    plan_run(token, job, &run);
    int rc = run.status == 0
                 ? dassie_job_set_result(job, run.outcome, run.outcome_len)
                 : dassie_job_set_error(job, run.outcome, run.outcome_len);
    if (rc != 0) {
        fprintf(stderr, "set result: %s\n", dassie_strerror(rc));
        _exit(3);
    }
    ledger_return(token);
    return run.status;
}

void ledger_told(uint32_t token, const dassie_info_t *job)
{
    const char *what = plan_end_differs(token, job);
    if (what != NULL) {
        ledger_fault(token, "%s, when it is told", what);
    }
    ledger->entry[token].ended_at = ++ledger->told;
    ledger->entry[token].ended = (uint8_t)job->state;
}

/* ---- Settings ---- */

void ledger_settings(const dassie_settings_t *settings)
{
    uint64_t jobs = settings != NULL ? settings->keep_complete.jobs : 0;
    uint32_t paused = settings != NULL ? (uint32_t)settings->paused : 0;
    if (ledger->keeps && jobs != BRIEF_KEPT) {
        ledger_loss(NO_TOKEN, "a queue keeps other jobs than it was told to");
    }
    if (ledger->paused == ledger->pause && ledger->paused != paused) {
        ledger_loss(NO_TOKEN, "a queue is paused, or not, and was told so");
    }
    ledger->pause = ledger->paused = paused;
}
