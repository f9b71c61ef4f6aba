/* mutate.c: a store with several files damaged at a time, opened and read.
 *
 *     mutate GOLDEN STORE WORK SEED FROM TO
 *
 * Each case from FROM up to TO copies STORE to WORK/store, damages up to four
 * of its files, as SEED and the number of the case say, and runs "GOLDEN look"
 * or "GOLDEN salvage" on it. Whatever is found is fine, but no crash, no hang
 * and no word of a sanitizer. WORK is left as it is when a case fails.
 *
 * Exit status: 0 all was well, 1 it was not, 3 a call failed. */
#include "damage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX 4

static unsigned damaged;

static void mutate(const char *store, const char *old, uint64_t *seed)
{
    static struct store_files files;
    uint64_t n = 1 + dice(seed, FILES_MAX);
    for (uint64_t i = 0; i < n; i++) {
        files_list(&files, store);
        if (files.n > 0) {
            damaged += damage_do(store, old, &files.file[dice(seed, files.n)],
                                 (enum damage)dice(seed, DAMAGES), seed);
        }
    }
}

/* The status as of waitpid(). */
static int look(const char *golden, const char *mode, const char *work)
{
    char store[PATH_MAX];
    char out[PATH_MAX];
    int status;
    snprintf(store, sizeof store, "%s/store", work);
    snprintf(out, sizeof out, "%s/out", work);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execl(golden, golden, mode, store, (char *)NULL);
        _exit(127);
    }
    while (pid < 0 || waitpid(pid, &status, 0) < 0) {
        if (pid < 0 || errno != EINTR) {
            perror(golden);
            exit(3);
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    char store[PATH_MAX];
    if (argc != 7) {
        fprintf(stderr, "usage: mutate GOLDEN STORE WORK SEED FROM TO\n");
        return 2;
    }
    uint64_t from = strtoull(argv[5], NULL, 10);
    uint64_t to = strtoull(argv[6], NULL, 10);
    uint64_t opened = 0;
    snprintf(store, sizeof store, "%s/store", argv[3]);
    for (uint64_t i = from; i < to; i++) {
        uint64_t seed = strtoull(argv[4], NULL, 10) * 1000003 + i;
        const char *mode = i % 2 == 0 ? "look" : "salvage";
        dir_copy(argv[2], store);
        mutate(store, argv[2], &seed);
        int status = look(argv[1], mode, argv[3]);
        if (status != 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 10)) {
            printf(
                "status %#x, see %s/out; run again:\n"
                "mutate %s %s %s %s %llu %llu\n",
                (unsigned)status, argv[3], argv[1], argv[2], argv[3], argv[4],
                (unsigned long long)i, (unsigned long long)i + 1);
            return 1;
        }
        opened += status == 0;
    }
    printf(
        "%llu mutated stores: %u files damaged, %llu stores opened, the "
        "others refused\n",
        (unsigned long long)(to - from), damaged, (unsigned long long)opened);
    return opened > 0 && damaged > 0 ? 0 : 1;
}
