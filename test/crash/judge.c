/* judge.c: opens a store that may be damaged; see subject.h.
 *
 * Either it is refused, or everything that was acknowledged is there and right,
 * or the damage is told where it is met. What ends the program says which. */
#include "subject.h"

#include "ledger.h"
#include "sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSED 10
#define TOLD 11

static void end(int status)
{
    fflush(NULL);
    _exit(ledger->faults > 0 ? 1 : status);
}

/* Whatever was executing at the kill, nobody knows of it. */
static void forget_runs(void)
{
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        ledger->entry[token].executing = 0;
    }
    ledger->ended -= TOKENS_MAX; /* as if there had been so many kills */
}

/* With damage that is met later the queue tells, and goes on without the jobs
 * in question: nobody would wait for them. */
static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    printf("log: %s\n", line);
    if (strstr(line, "the flight recorder says nothing") != NULL) {
        forget_runs();
    }
    if (level == DASSIE_LOG_ERROR) {
        end(TOLD);
    }
}

static int open_status;

static void on_open(dassie_t *q, int status)
{
    (void)q;
    open_status = status;
    rig.opened++;
}

/* Only once, as all that follows are reopenings of what is fine. */
static void open_or_end(const char *path)
{
    rig.opened = rig.closed = 0;
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, &rig.options, on_open), "open");
    sync_wait(&rig.opened, 1);
    if (open_status != 0) {
        printf("refused: %s: %s\n", dassie_err_name(open_status),
               dassie_errmsg(&rig.q));
        end(open_status == DASSIE_ECORRUPT || open_status == DASSIE_ENOSTORE ||
                    open_status == UV_ENOTSUP
                ? REFUSED
                : 3);
    }
    sync_close();
}

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    (void)id;
    printf("verify: %s\n", line);
}

static void judge(const char *path, bool run_first)
{
    dassie_verify_report_t report;
    rig.options.log_cb = on_log;
    open_or_end(path);
    subject_compare(path, run_first);
    int rc = dassie_verify(path, on_problem, NULL, &report);
    if (rc == DASSIE_ECORRUPT) {
        end(TOLD);
    }
    sync_must(rc, "verify");
    if (report.problems > 0) {
        ledger_fault(NO_TOKEN, "problems are found in the end");
    }
}

void subject_judge(const char *path)
{
    judge(path, false);
}

void subject_judge_run(const char *path)
{
    judge(path, true);
}
