/* Whatever is asked of a store, whenever its owner is killed: it holds what was
 * acknowledged, and no job runs that has ended.
 *
 * Random operations through dassie.h are compared with a naive model in memory
 * (model.h). For each seed a child opens a store and performs operations; after
 * every 500 it closes the store and opens it again, about every 2,000 it is
 * killed and the next child goes on; after each open all of the store is
 * compared with the model. The operations follow from the seed; how they meet
 * the library's threads does not. DASSIE_SEED=n runs that seed alone. */
#include "config.h"

#include "../tree.h"
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPERATIONS 20000
#define AT_A_TIME 4 /* seeds; half of the time one waits for the disk */

static const char *const symbols[SYMBOLS_N] = {
#define XX(name) #name,
    SYMBOLS(XX)
#undef XX
};

/* For what must work here, whatever the library does. */
static void need(bool well, const char *what)
{
    if (!well) {
        perror(what);
        exit(EXIT_FAILURE);
    }
}

/* ---- What dassie.h has ---- */

/* test/symbols.txt, one name a line, against the list here. */
static bool symbols_complete(void)
{
    const char *srcdir = getenv("srcdir");
    char path[PATH_MAX];
    char line[128];
    bool same = true;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/test/symbols.txt",
             srcdir != NULL ? srcdir : ".");
    FILE *file = fopen(path, "r");
    need(file != NULL, path);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (same && (n == SYMBOLS_N || strcmp(line, symbols[n]) != 0)) {
            printf("%s is not in the model test\n", line);
            same = false;
        }
        n++;
    }
    fclose(file);
    return same && n == SYMBOLS_N;
}

static bool symbols_called(const struct ledger *l)
{
    bool all = true;
    for (int i = 0; i < SYMBOLS_N; i++) {
        if (l->calls[i] == 0) {
            printf("seed %" PRIu64 ": %s was never called\n", l->seed,
                   symbols[i]);
            all = false;
        }
    }
    return all;
}

/* ---- One seed ---- */

static void dir_make(char path[PATH_MAX])
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, PATH_MAX, "%s/dassie-XXXXXX",
             parent != NULL ? parent : "/tmp");
    need(mkdtemp(path) != NULL, path);
}

static void ledger_make(uint64_t seed, unsigned operations)
{
    void *page = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    need(page != MAP_FAILED, "mmap");
    ledger = page;
    ledger->seed = seed;
    ledger->last = operations;
    ledger->close_at = CLOSE_EVERY;
    ledger->kill_at = KILL_EVERY - CLOSE_EVERY / 2;
    ledger->max_crashes = seed % 4 == 3 ? -1 : 1 + (int)(seed % 4);
}

/* Whether there is to be another child; *good: whether this one was. */
static bool child_go(const char *path, bool *good)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        child_run(path);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ledger->failed && ledger->wants_kill && WIFSIGNALED(status) &&
        WTERMSIG(status) == SIGKILL) {
        ledger->killed = true;
        ledger->wants_kill = false;
        ledger->kills++;
        return true;
    }
    *good = !ledger->failed && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!*good && !ledger->failed) {
        snprintf(ledger->failure, sizeof ledger->failure,
                 "the child ended with status %x%s", (unsigned)status,
                 WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                     ? ", as nothing went on"
                     : "");
    }
    return false;
}

static bool seed_run(uint64_t seed, unsigned operations)
{
    char dir[PATH_MAX];
    char path[PATH_MAX + 8];
    bool good = true;
    ledger_make(seed, operations);
    dir_make(dir);
    snprintf(path, sizeof path, "%s/store", dir);
    while (child_go(path, &good)) {
    }
    if (good && operations >= OPERATIONS) {
        good = symbols_called(ledger);
        if (ledger->bare == 0) {
            printf("seed %" PRIu64 ": no payload was dropped\n", seed);
            good = false;
        }
    } else if (!good) {
        printf("seed %" PRIu64 ", operation %u, session %" PRIu32 ": %s\n",
               seed, ledger->op, ledger->session, ledger->failure);
    }
    if (good) {
        printf("seed %" PRIu64 ": %u operations, %" PRIu32 " jobs, %" PRIu32
               " opens, %u kills; by them %u runs again, %u interrupted, %u "
               "crashed; %u resumed, %" PRIu64
               " events, %u keys taken, %u met, %u without payload\n",
               seed, ledger->op, ledger->jobs_n, ledger->session, ledger->kills,
               ledger->runs_again, ledger->interrupted, ledger->crashed,
               ledger->resumed, ledger->events, ledger->keyed, ledger->met,
               ledger->bare);
        tree_remove(dir);
    } else {
        printf("the store is left in %s; again: DASSIE_SEED=%" PRIu64
               " test/model/test_model\n",
               path, seed);
    }
    return good;
}

/* ---- All seeds ---- */

/* Seeds 1 to n, a few at a time. */
static bool seeds_run(unsigned n, unsigned operations)
{
    bool good = true;
    unsigned running = 0;
    for (unsigned seed = 1; seed <= n || running > 0;) {
        int status;
        if (seed <= n && running < AT_A_TIME) {
            fflush(stdout);
            pid_t pid = fork();
            need(pid >= 0, "fork");
            if (pid == 0) {
                bool well = seed_run(seed, operations);
                fflush(stdout);
                _exit(well ? EXIT_SUCCESS : EXIT_FAILURE);
            }
            running++;
            seed++;
            continue;
        }
        if (wait(&status) > 0) {
            good = good && status == 0;
            running--;
        }
    }
    return good;
}

int main(void)
{
    const char *seed = getenv("DASSIE_SEED");
    bool good;
    plan_init();
    if (seed != NULL) {
        good = seed_run(strtoull(seed, NULL, 10), OPERATIONS);
    } else if (!symbols_complete()) {
        good = false;
    } else if (getenv("NIGHTLY") != NULL) {
        good = seeds_run(50, OPERATIONS);
    } else if (getenv("QUICK") != NULL) {
        good = seeds_run(4, OPERATIONS / 4);
    } else {
        good = seeds_run(20, OPERATIONS);
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
