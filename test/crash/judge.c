/* judge.c: opens a store that may be damaged; see subject.h.
 *
 * Either it is refused, or everything that was acknowledged is there and right,
 * or the damage is told where it is met. What ends the program says which. With
 * salvage it is sound afterwards; only where rows were damaged something may be
 * lost, and then it is told. Where the tables are read one by one, deletions
 * are not known: what was deleted or swept may run again if the log says so,
 * and is counted. */
#include "subject.h"

#include "ledger.h"
#include "sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSED 10
#define TOLD 11
#define WITH_LOSSES 12

static void end(int status)
{
    fflush(NULL);
    _exit(ledger->faults > 0 ? 1 : status);
}

/* Whatever was executing at the kill, nobody knows of it. */
static void forget_runs(void)
{
    static bool done;
    if (done) {
        return;
    }
    done = true;
    for (uint32_t token = 0; token < ledger->tokens; token++) {
        ledger->entry[token].executing = 0;
    }
    ledger->ended -= TOKENS_MAX; /* as if there had been so many kills */
}

static bool loss_told;

/* With damage that is met later the queue tells, and goes on without the jobs
 * in question: nobody would wait for them. */
static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    printf("log: %s\n", line);
    if (strstr(line, "the flight recorder says nothing") != NULL) {
        forget_runs();
    }
    if (strstr(line, "salvage:") != NULL) {
        forget_runs();
        ledger->revives |= strstr(line, "may be there again") != NULL;
        loss_told = loss_told || strstr(line, "lost") != NULL ||
                    strstr(line, "cannot be read") != NULL ||
                    strstr(line, "No such file") != NULL;
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

static void verify_sound(const char *path)
{
    dassie_verify_report_t report;
    sync_must(dassie_verify(path, on_problem, NULL, &report), "verify");
    if (report.problems > 0) {
        ledger_fault(NO_TOKEN, "problems are found after the salvage");
    }
}

static void salvage(const char *path)
{
    rig.options.log_cb = on_log;
    rig.options.flags = DASSIE_SALVAGE;
    open_or_end(path);
    rig.options.flags = 0;
    verify_sound(path);
    subject_compare(path, false);
    verify_sound(path);
    if (ledger->lost > 0 && !loss_told) {
        ledger_fault(NO_TOKEN, "%u losses, and no word of them", ledger->lost);
    }
    ledger->revives = 0;
    printf("revived %u\nlost %u\n", ledger->revived, ledger->lost);
    end(ledger->lost > 0 ? WITH_LOSSES : 0);
}

void subject_salvage(const char *path)
{
    salvage(path);
}

void subject_salvage_lossy(const char *path)
{
    ledger->lossy = 1;
    salvage(path);
}

void subject_judge(const char *path)
{
    judge(path, false);
}

void subject_judge_run(const char *path)
{
    judge(path, true);
}
