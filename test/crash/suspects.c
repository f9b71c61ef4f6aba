/* suspects.c: a program with one job that kills it; see suspects.sh.
 *
 *     suspects DIR abort|segv|kill [async]
 *
 * The job "poison" ends the process in that way whenever it runs: the first
 * time while "neighbour" and "once" (to be run at most once) are executing and
 * others are only claimed, from then on at once. The program is started again
 * until it lives: then all jobs must have ended as the table says.
 *
 * Exit status: 0 all ended as it should, 3 it did not. */
#include "sync.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_JOBS 8u   /* quick ones, so that jobs are claimed ahead */
#define AHEAD_JOBS 16u /* behind the poison */
#define SLOTS 3u       /* neighbour, once, poison */
#define MAX_CRASHES 3u

/* How a job must have ended, and why. */
static const struct fate {
    const char *name;
    unsigned flags;
    unsigned n;
    dassie_state_t state;
    int error_code;
    uint32_t attempts;
    uint32_t crashes;
} fates[] = {
    /* Ended before the first death. */
    {"warm", 0, WARM_JOBS, DASSIE_COMPLETE, 0, 1, 0},
    /* Executing at the first death: runs again, and is not blamed. */
    {"neighbour", 0, 1, DASSIE_COMPLETE, 0, 2, 0},
    {"once", DASSIE_AT_MOST_ONCE, 1, DASSIE_FAILED, DASSIE_EINTERRUPTED, 1, 0},
    /* The first death only makes it a suspect. */
    {"poison", 0, 1, DASSIE_FAILED, DASSIE_ECRASHED, MAX_CRASHES + 1,
     MAX_CRASHES},
    /* Only claimed, or still pending, at the first death: not counted. */
    {"ahead", 0, AHEAD_JOBS, DASSIE_COMPLETE, 0, 1, 0},
};
#define FATES (sizeof fates / sizeof fates[0])

static const char *how;
static atomic_uint executing;
static atomic_int acks;

/* ---- Work ---- */

static void die(void)
{
    if (strcmp(how, "abort") == 0) {
        abort();
    }
    raise(strcmp(how, "segv") == 0 ? SIGSEGV : SIGKILL);
    _exit(3);
}

/* On the pool jobs are claimed ahead, and the death waits until one is. */
static void run_poison(dassie_job_t *job, bool async)
{
    dassie_stats_t stats = {.claimed = 0};
    if (dassie_job_attempt(job) > 1) {
        sync_must(atomic_load(&executing) == 1 ? 0 : UV_EBUSY, "poison alone");
        die();
    }
    while (atomic_load(&executing) < SLOTS ||
           (!async && stats.claimed <= WARM_JOBS + SLOTS)) {
        sync_must(dassie_stats(&rig.q, &stats), "stats");
        uv_sleep(1);
    }
    die();
}

static bool is(const dassie_job_t *job, const char *name)
{
    return strcmp(dassie_job_name(job, NULL), name) == 0;
}

static int work(dassie_job_t *job)
{
    atomic_fetch_add(&executing, 1);
    if (is(job, "poison")) {
        run_poison(job, false);
    }
    bool waits = is(job, "neighbour") || is(job, "once");
    while (waits && dassie_job_attempt(job) == 1) {
        uv_sleep(1000); /* until the process dies */
    }
    atomic_fetch_sub(&executing, 1);
    return 0;
}

static void start(dassie_job_t *job)
{
    atomic_fetch_add(&executing, 1);
    if (is(job, "poison")) {
        run_poison(job, true);
    }
    bool waits = is(job, "neighbour") || is(job, "once");
    if (waits && dassie_job_attempt(job) == 1) {
        return;
    }
    atomic_fetch_sub(&executing, 1);
    sync_must(dassie_finish(&rig.q, dassie_job_id(job), dassie_job_attempt(job),
                            0, NULL, 0),
              "finish");
}

/* ---- Jobs ---- */

static void on_batch(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    sync_must(status, "enqueue_many");
    acks++;
}

static void enqueue(size_t from, size_t to)
{
    static const dassie_spec_t defaults = DASSIE_SPEC_INIT;
    dassie_spec_t specs[WARM_JOBS + AHEAD_JOBS + FATES];
    dassie_enqueue_many_t req = {0};
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        for (unsigned k = 0; k < fates[i].n; k++) {
            specs[n] = defaults;
            specs[n].name = fates[i].name;
            specs[n++].flags = fates[i].flags;
        }
    }
    int before = acks;
    sync_must(dassie_enqueue_many(&rig.q, &req, specs, n, on_batch),
              "enqueue_many");
    sync_wait(&acks, before + 1);
}

static unsigned seen[FATES];
static unsigned wrong;

static void judge(const dassie_info_t *job)
{
    size_t i = 0;
    while (i < FATES && strcmp(job->name, fates[i].name) != 0) {
        i++;
    }
    if (i < FATES && job->state == fates[i].state &&
        job->error_code == fates[i].error_code &&
        job->attempts == fates[i].attempts &&
        job->crashes == fates[i].crashes) {
        seen[i]++;
        return;
    }
    wrong++;
    fprintf(stderr, "%s: state %d, error %d, attempts %u, crashes %u\n",
            job->name, job->state, job->error_code, job->attempts,
            job->crashes);
}

static void judge_all(void)
{
    sync_list(DASSIE_PENDING, judge);
    sync_list(DASSIE_RUNNING, judge);
    sync_list(DASSIE_COMPLETE, judge);
    sync_list(DASSIE_FAILED, judge);
    for (size_t i = 0; i < FATES; i++) {
        if (seen[i] != fates[i].n) {
            wrong++;
            fprintf(stderr, "%s: %u of %u ended as they should\n",
                    fates[i].name, seen[i], fates[i].n);
        }
    }
}

int main(int argc, char **argv)
{
    static dassie_processor_t processor;
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_stats_t stats;
    if (argc < 3) {
        fprintf(stderr, "usage: suspects DIR abort|segv|kill [async]\n");
        return 3;
    }
    how = argv[2];
    sync_begin();
    rig.options.max_crashes = MAX_CRASHES;
    sync_open(argv[1]);
    sync_must(dassie_stats(&rig.q, &stats), "stats");
    options.concurrency = SLOTS;
    options.work = argc == 3 ? work : NULL;
    options.start = argc == 3 ? NULL : start;
    sync_must(dassie_process(&rig.q, &processor, &options), "process");
    if (stats.jobs.complete == 0) {
        enqueue(0, 1);
        sync_drain();
        enqueue(1, FATES);
    }
    sync_drain();
    judge_all();
    sync_close();
    sync_end();
    return wrong > 0 ? 3 : 0;
}
