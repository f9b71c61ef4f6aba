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

/* ---- The plan ---- */

#define NAMED(text)                                  \
    {                                                \
        .base = (char *)text, .len = sizeof text - 1 \
    }

const uv_buf_t queues[QUEUES] = {[QUEUE_MAIL] = NAMED("mail"),
                                 [QUEUE_ZERO] = NAMED("with\0zero"),
                                 [QUEUE_WEB] = NAMED("web"),
                                 [QUEUE_LATER] = NAMED("later")};

static const struct kind {
    int queue;
    int priority;
    unsigned flags;
    size_t data_len;
    enum how how;
} kinds[ROUND_JOBS] = {
    /* The batch: once the gates are reached, the rest is only claimed. */
    {QUEUE_MAIL, 0, 0, 100, QUICK},
    {QUEUE_MAIL, 0, 0, 0, QUICK},
    {QUEUE_MAIL, 0, 0, 10, GATED},
    {QUEUE_MAIL, 0, 0, 10, GATED},
    {QUEUE_MAIL, 0, 0, 10, QUICK},
    {QUEUE_MAIL, 0, 0, 11, QUICK},
    {QUEUE_MAIL, 0, 0, 12, QUICK},
    {QUEUE_MAIL, 0, 0, 13, QUICK},
    {QUEUE_MAIL, 0, 0, 14, QUICK},
    {QUEUE_MAIL, 0, 0, 15, QUICK},
    {QUEUE_MAIL, 0, 0, 16, QUICK},
    {QUEUE_MAIL, 0, 0, 17, QUICK},
    {QUEUE_MAIL, 0, 0, 18, QUICK},
    {QUEUE_MAIL, 0, 0, 19, QUICK},
    {QUEUE_MAIL, 0, 0, 3000, QUICK},
    {QUEUE_MAIL, 0, 0, 20, QUICK},
    /* The single ones. */
    {QUEUE_WEB, 0, 0, 50, QUICK},
    {QUEUE_WEB, 0, DASSIE_AT_MOST_ONCE, 50, QUICK},
    {QUEUE_ZERO, -20, 0, 30, SLOW},
    {QUEUE_ZERO, 0, DASSIE_AT_MOST_ONCE, 30, SLOW},
    {QUEUE_LATER, 3, 0, 200, QUICK},
    {QUEUE_WEB, 5, 0, DATA_MAX, QUICK},
    {QUEUE_MAIL, 19, 0, 40, QUICK},
    {QUEUE_ZERO, 7, DASSIE_AT_MOST_ONCE, 40, QUICK},
    {QUEUE_WEB, -3, 0, 0, QUICK},
    {QUEUE_LATER, -1, DASSIE_AT_MOST_ONCE, 60, QUICK},
};

static void data_fill(unsigned char *p, size_t n, uint32_t token)
{
    uint32_t x = token * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = (unsigned char)x;
    }
}

void plan_of(uint32_t token, struct plan *plan)
{
    static const dassie_spec_t defaults = DASSIE_SPEC_INIT;
    const struct kind *kind = &kinds[token % ROUND_JOBS];
    bool well = token % 5 != 3;
    plan->how = kind->how;
    plan->status = well ? 0 : UV_EPROTO;
    plan->outcome_len =
        (size_t)snprintf(plan->outcome, sizeof plan->outcome, "%s of job %u",
                         well ? "result" : "error", token);
    snprintf(plan->name, sizeof plan->name, "job %u", token);
    data_fill(plan->data, kind->data_len, token);
    plan->spec = defaults;
    plan->spec.queue = queues[kind->queue].base;
    plan->spec.queue_len = queues[kind->queue].len;
    plan->spec.name = plan->name;
    plan->spec.data = plan->data;
    plan->spec.data_len = kind->data_len;
    plan->spec.priority = kind->priority;
    plan->spec.flags = kind->flags;
    plan->spec.attempts_max = 1;
}

static bool same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

const char *plan_end_differs(uint32_t token, const dassie_info_t *job)
{
    struct plan plan;
    plan_of(token, &plan);
    bool complete = job->state == DASSIE_COMPLETE;
    bool once = (job->flags & DASSIE_AT_MOST_ONCE) != 0;
    if (job->error_code == DASSIE_EINTERRUPTED && once && !complete) {
        return NULL;
    }
    if (complete != (plan.status == 0) || job->error_code != plan.status) {
        return "has ended otherwise than it should";
    }
    const void *out = complete ? job->result : job->error;
    size_t len = complete ? job->result_len : job->error_len;
    return same(out, len, plan.outcome, plan.outcome_len)
               ? NULL
               : "has another result or error text";
}

bool ledger_renamed(void)
{
    return ledger->unsynced && ledger->cuts > 0;
}

static bool is_renamed(const dassie_info_t *job)
{
    return ledger_renamed() &&
           strncmp(job->queue, RENAMED, sizeof RENAMED - 1) == 0;
}

const char *plan_differs(uint32_t token, const dassie_info_t *job)
{
    struct plan plan;
    plan_of(token, &plan);
    if (!is_renamed(job) && !same(job->queue, job->queue_len, plan.spec.queue,
                                  plan.spec.queue_len)) {
        return "is in another queue";
    }
    if (!same(job->data, job->data_len, plan.data, plan.spec.data_len)) {
        return "has another payload";
    }
    if (job->priority != plan.spec.priority || job->flags != plan.spec.flags) {
        return "has another priority or other flags";
    }
    return job->state == DASSIE_COMPLETE || job->state == DASSIE_FAILED
               ? plan_end_differs(token, job)
               : NULL;
}

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

uint32_t ledger_begin(const dassie_job_t *job)
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
    if (!same(data, len, plan.data, plan.spec.data_len)) {
        ledger_fault(token, "runs with another payload");
    }
    if (entry->ended != 0) {
        ledger_loss(token, "runs again, its end was told");
    }
    if (entry->executing == process) {
        ledger_fault(token, "runs twice at the same time");
    }
    if (entry->attempt > 0 && (plan.spec.flags & DASSIE_AT_MOST_ONCE) != 0) {
        ledger_loss(token, "runs again, but at most once was asked for");
    }
    ledger_attempts(token, dassie_job_attempt(job) - 1);
    entry->attempt++;
    entry->executing = process;
    return token;
}

void ledger_return(uint32_t token)
{
    ledger->entry[token].executing = 0;
}

int ledger_end(dassie_job_t *job, uint32_t token)
{
    struct plan plan;
    plan_of(token, &plan);
    int rc = plan.status == 0
                 ? dassie_job_set_result(job, plan.outcome, plan.outcome_len)
                 : dassie_job_set_error(job, plan.outcome, plan.outcome_len);
    if (rc != 0) {
        fprintf(stderr, "set result: %s\n", dassie_strerror(rc));
        _exit(3);
    }
    ledger_return(token);
    return plan.status;
}

void ledger_told(uint32_t token, const dassie_info_t *job)
{
    const char *what = plan_end_differs(token, job);
    if (what != NULL) {
        ledger_fault(token, "%s, when it is told", what);
    }
    ledger->entry[token].ended = (uint32_t)job->state;
}
