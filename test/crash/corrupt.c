/* corrupt.c: damages a store in all ways, and lets subject
 * judge it.
 *
 *     corrupt SUBJECT DIR OLD WORK SEED TIMES
 *     corrupt SUBJECT DIR OLD WORK SEED KIND DAMAGE N    one
 * case of them
 *
 * DIR holds a store and its ledger, OLD the same at an
 * earlier time; each case works on a copy in WORK. For each
 * kind of file and of damage there are TIMES cases, at places
 * that follow from SEED. The store is refused with a word of
 * what and where, or all is there and right, or the damage is
 * told when it is met; never is something gone without a
 * word, and no process crashes or hangs. A store that was
 * refused is whole again once the damaged file is as it was.
 * And each that was not intact is opened with DASSIE_SALVAGE:
 * then it is sound, with nothing lost unless rows were
 * damaged, or refused.
 *
 * Exit status: 0 all was well, 1 it was not, 3 a call failed.
 */
#include "damage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum outcome {
    INTACT,
    REFUSED,
    TOLD,
    SILENT,  /* a promise was broken without a word */
    UNCLEAR, /* refused with a code that does not mean damage */
    CRASHED,
    HUNG,
    UNHEALED, /* refused, and not whole again when restored */
    OUTCOMES
};

static const char *const outcome_names[OUTCOMES] = {
    "intact",  "refused", "told later", "SILENT",
    "UNCLEAR", "CRASHED", "HUNG",       "UNHEALED"};

#define FIRST_BAD SILENT

enum saved { SAVED, WITH_LOSSES, NOT_SAVED, SPOILED, SAVED_KINDS };

static const char *const saved_names[SAVED_KINDS] = {"sound", "with losses",
                                                     "refused", "SPOILED"};

static struct {
    const char *subject;
    const char *dir;
    const char *old;
    const char *work;
    uint64_t seed;
    struct store_files files;
    unsigned count[FILE_KINDS][DAMAGES][OUTCOMES];
    unsigned healed;
    unsigned saved[FILE_KINDS][SAVED_KINDS];
    unsigned lost;
    unsigned revived;
    bool verbose;
} c;

struct test {
    enum file_kind kind;
    enum damage damage;
    unsigned n;
};

/* ---- The subject ---- */

static void path_of(char path[PATH_MAX], const char *dir, const char *name)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) {
        fprintf(stderr, "%s: too long\n", dir);
        exit(3);
    }
}

/* Its output goes to WORK/out. */
static int subject_run(const char *mode)
{
    char out[PATH_MAX];
    int status;
    path_of(out, c.work, "out");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execl(c.subject, c.subject, mode, c.work, (char *)NULL);
        _exit(127);
    }
    while (pid < 0 || waitpid(pid, &status, 0) < 0) {
        if (pid < 0 || errno != EINTR) {
            perror(c.subject);
            exit(3);
        }
    }
    return status;
}

static enum outcome judge(const char *mode)
{
    int status = subject_run(mode);
    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGALRM ? HUNG : CRASHED;
    }
    switch (WEXITSTATUS(status)) {
        case 0:
            return INTACT;
        case 1:
            return SILENT;
        case 4:
        case 11:
            return TOLD;
        case 10:
            return REFUSED;
        case 127:
            fprintf(stderr, "%s cannot be run\n", c.subject);
            exit(3);
        default:
            return UNCLEAR;
    }
}

static void print_out(void)
{
    char path[PATH_MAX];
    char line[1024];
    path_of(path, c.work, "out");
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        printf("    %s", line);
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* ---- A case ---- */

static void work_copy(const char *name)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    path_of(from, c.dir, name);
    path_of(to, c.work, name);
    if (strcmp(name, "store") == 0) {
        dir_copy(from, to);
    } else {
        file_copy(from, to);
    }
}

static const struct store_file *choose(enum file_kind kind, uint64_t *seed)
{
    const struct store_file *of_kind[STORE_FILES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < c.files.n; i++) {
        if (c.files.file[i].kind == kind) {
            of_kind[n++] = &c.files.file[i];
        }
    }
    return n > 0 ? of_kind[dice(seed, n)] : NULL;
}

/* Once the file is as it was, so is the store: nothing else was touched. */
static bool is_healed(const struct store_file *file)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    char name[80];
    snprintf(name, sizeof name, "store/%s", file->name);
    path_of(from, c.dir, name);
    path_of(to, c.work, name);
    file_copy(from, to);
    work_copy("ledger");
    return judge("judge") == INTACT;
}

/* The number that the subject printed in a line of its own. */
static unsigned number_read(const char *name)
{
    char path[PATH_MAX];
    char line[1024];
    unsigned number = 0;
    path_of(path, c.work, "out");
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            number = (unsigned)strtoul(line + strlen(name), NULL, 10);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return number;
}

static void tell(const struct test *t, const struct store_file *file,
                 enum outcome outcome)
{
    printf("%s: %s of %s (%u)\n", outcome_names[outcome],
           damage_names[t->damage], file->name, t->n);
    print_out();
    if (outcome >= FIRST_BAD) {
        printf("run again: %s %s %s %s %llu %s %s %u\n", "corrupt", c.subject,
               c.dir, c.old, (unsigned long long)c.seed,
               file_kind_names[t->kind], damage_names[t->damage], t->n);
    }
}

/* Copies the store and damages it; NULL: there is nothing to be damaged. */
static const struct store_file *prepare(const struct test *t)
{
    char store[PATH_MAX];
    char old[PATH_MAX];
    uint64_t seed = c.seed * 1000003 + (unsigned)t->kind * 10007 +
                    (unsigned)t->damage * 1009 + t->n;
    const struct store_file *file = choose(t->kind, &seed);
    if (file == NULL) {
        return NULL;
    }
    work_copy("store");
    work_copy("ledger");
    path_of(store, c.work, "store");
    path_of(old, c.old, "store");
    return damage_do(store, old, file, t->damage, &seed) ? file : NULL;
}

static void salvage(const struct test *t)
{
    bool lossy =
        t->kind == FILE_WAL || t->kind == FILE_SST || t->kind == FILE_HWM;
    const struct store_file *file = prepare(t);
    int status = subject_run(lossy ? "salvage-lossy" : "salvage");
    enum saved saved = SPOILED;
    if (WIFEXITED(status)) {
        switch (WEXITSTATUS(status)) {
            case 0:
                saved = SAVED;
                break;
            case 10:
                saved = NOT_SAVED;
                break;
            case 12:
                saved = WITH_LOSSES;
                c.lost += number_read("lost ");
                break;
        }
    }
    c.revived += number_read("revived ");
    if (saved == SPOILED || c.verbose) {
        printf("salvage %s: ", saved_names[saved]);
        tell(t, file, saved == SPOILED ? SILENT : INTACT);
    }
    c.saved[t->kind][saved]++;
}

static void run_case(const struct test *t)
{
    const struct store_file *file = prepare(t);
    if (file == NULL) {
        return;
    }
    enum outcome outcome = judge(t->n % 2 == 0 ? "judge" : "judge-run");
    if (c.verbose || outcome >= FIRST_BAD) {
        tell(t, file, outcome);
    }
    if (outcome == REFUSED && !is_healed(file)) {
        outcome = UNHEALED;
        tell(t, file, outcome);
    } else {
        c.healed += outcome == REFUSED;
    }
    c.count[t->kind][t->damage][outcome]++;
    if (outcome == REFUSED || outcome == TOLD) {
        salvage(t);
    }
}

/* ---- All of them ---- */

static void run_all(unsigned times)
{
    for (int kind = 0; kind < FILE_KINDS; kind++) {
        for (int damage = 0; damage < DAMAGES; damage++) {
            for (unsigned n = 0; n < times; n++) {
                struct test t = {(enum file_kind)kind, (enum damage)damage, n};
                run_case(&t);
                if (damage == DAMAGE_GONE && kind != FILE_SST) {
                    break; /* there is one way only */
                }
            }
        }
    }
}

static unsigned print_row(const unsigned count[OUTCOMES])
{
    unsigned n = 0;
    for (int i = 0; i < OUTCOMES; i++) {
        printf("%11u", count[i]);
        n += count[i];
    }
    printf("\n");
    return n;
}

/* How many were spoiled. */
static unsigned print_saved(void)
{
    unsigned spoiled = 0;
    unsigned n = 0;
    printf("\n%-20s", "opened for salvage");
    for (int i = 0; i < SAVED_KINDS; i++) {
        printf("%12s", saved_names[i]);
    }
    for (int kind = 0; kind < FILE_KINDS; kind++) {
        const unsigned *saved = c.saved[kind];
        unsigned in_row = 0;
        for (int i = 0; i < SAVED_KINDS; i++) {
            in_row += saved[i];
        }
        n += in_row;
        spoiled += saved[SPOILED];
        if (in_row > 0) {
            printf("\n%-20s", file_kind_names[kind]);
            for (int i = 0; i < SAVED_KINDS; i++) {
                printf("%12u", saved[i]);
            }
        }
    }
    printf(
        "\n%u stores, %u promises lost and told, %u deleted jobs there "
        "again\n",
        n, c.lost, c.revived);
    return spoiled;
}

/* 0 if some cases were run, and all ended well. */
static int print_table(void)
{
    unsigned all[OUTCOMES] = {0};
    unsigned n = 0;
    printf("%-20s", "");
    for (int i = 0; i < OUTCOMES; i++) {
        printf("%11s", outcome_names[i]);
    }
    printf("\n");
    for (int kind = 0; kind < FILE_KINDS; kind++) {
        for (int damage = 0; damage < DAMAGES; damage++) {
            const unsigned *count = c.count[kind][damage];
            unsigned in_row = 0;
            for (int i = 0; i < OUTCOMES; i++) {
                all[i] += count[i];
                in_row += count[i];
            }
            if (in_row > 0) {
                printf("%-10s%-10s", file_kind_names[kind],
                       damage_names[damage]);
                n += print_row(count);
            }
        }
    }
    printf("%-20s", "all");
    print_row(all);
    printf("%u cases; %u refused stores were whole again\n", n, c.healed);
    if (print_saved() > 0) {
        return 1;
    }
    for (int i = FIRST_BAD; i < OUTCOMES; i++) {
        n = all[i] > 0 ? 0 : n;
    }
    return n > 0 && all[REFUSED] > 0 && all[INTACT] > 0 ? 0 : 1;
}

static int find(const char *const names[], int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    fprintf(stderr, "corrupt: no '%s'\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    char store[PATH_MAX];
    if (argc != 7 && argc != 9) {
        fprintf(stderr,
                "usage: corrupt SUBJECT DIR OLD WORK SEED TIMES\n"
                "       corrupt SUBJECT DIR OLD WORK SEED KIND DAMAGE N\n");
        return 2;
    }
    c.subject = argv[1];
    c.dir = argv[2];
    c.old = argv[3];
    c.work = argv[4];
    c.seed = strtoull(argv[5], NULL, 10);
    path_of(store, c.dir, "store");
    files_list(&c.files, store);
    if (argc == 7) {
        run_all((unsigned)strtoul(argv[6], NULL, 10));
        return print_table();
    }
    struct test t = {(enum file_kind)find(file_kind_names, FILE_KINDS, argv[6]),
                     (enum damage)find(damage_names, DAMAGES, argv[7]),
                     (unsigned)strtoul(argv[8], NULL, 10)};
    c.verbose = true;
    run_case(&t);
    return print_table();
}
