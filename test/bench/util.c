/* util.c: processes, files, memory and numbers; see bench.h. */
#include "config.h"

#include "bench.h"

#include "../tree.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOL_BYTES (1u << 20) /* payloads begin anywhere in this much */

struct bench bench = {.scale = 1};

double now_s(void)
{
    return (double)uv_hrtime() / 1e9;
}

void die(const char *what, int rc)
{
    fprintf(stderr, "bench: %s: %s\n", what, dassie_strerror(rc));
    exit(1);
}

/* ---- Files ---- */

const char *path_of(const char *name)
{
    static char paths[8][1024];
    static unsigned n;
    char *path = paths[n++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", bench.dir, name);
    return path;
}

void store_remove(const char *dir)
{
    tree_remove(dir);
}

/* Tables never change once written, so they are linked, not copied. */
void store_copy(const char *from, const char *to)
{
    char command[4096];
    store_remove(to);
    snprintf(command, sizeof command,
             "cp -al '%s' '%s' && cd '%s' && find . -type f ! -name '*.sst' "
             "-exec cp {} {}.new \\; -exec mv {}.new {} \\;",
             from, to, to);
    if (system(command) != 0) {
        die(command, UV_EIO);
    }
}

static uint64_t disk_bytes;

static int add_one(const char *path, const struct stat *st, int type,
                   struct FTW *at)
{
    (void)path;
    (void)at;
    disk_bytes += type == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
    return 0;
}

uint64_t bytes_on_disk(const char *dir)
{
    disk_bytes = 0;
    nftw(dir, add_one, 16, FTW_PHYS);
    return disk_bytes;
}

/* ---- Processes ---- */

void *shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        die("memory", UV_ENOMEM);
    }
    return p;
}

int child_start(void (*run)(void *arg), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        run(arg);
        _exit(0);
    }
    if (pid < 0) {
        die("fork", UV_EAGAIN);
    }
    return pid;
}

int child_status(int child)
{
    int status;
    if (waitpid(child, &status, 0) != child) {
        die("waitpid", UV_ESRCH);
    }
    return status;
}

void child_end(int child)
{
    int status = child_status(child);
    if (status != 0) {
        fprintf(stderr, "bench: a run ended with status %#x\n",
                (unsigned)status);
        exit(1);
    }
}

void in_child(void (*run)(void *arg), void *arg)
{
    child_end(child_start(run, arg));
}

/* ---- Payloads ---- */

const void *payload_of(unsigned long job, size_t bytes)
{
    static uint64_t *pool;
    static size_t room;
    if (room < bytes) {
        uint64_t x = 88172645463325252;
        room = bytes;
        free(pool);
        pool = malloc(POOL_BYTES + room + sizeof *pool);
        if (pool == NULL) {
            die("memory", UV_ENOMEM);
        }
        for (size_t i = 0; i < (POOL_BYTES + room) / sizeof *pool + 1; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            pool[i] = x;
        }
    }
    return (char *)pool + job * bytes % POOL_BYTES;
}

/* ---- Numbers ---- */

static int double_cmp(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_doubles(double *v, size_t n)
{
    qsort(v, n, sizeof v[0], double_cmp);
}

double median(double *v, size_t n)
{
    sort_doubles(v, n);
    return v[n / 2];
}

double percentile(const double *sorted, size_t n, double percent)
{
    size_t at = (size_t)((double)n * percent / 100);
    return sorted[at < n ? at : n - 1];
}

double memory_bytes(const char *field)
{
    char line[256];
    double kib = 0;
    size_t len = strlen(field);
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, field, len) == 0 && line[len] == ':') {
            kib = strtod(line + len + 1, NULL);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib * 1024;
}

double busiest_thread_s(void)
{
    double most = 0;
    struct dirent *entry;
    DIR *d = opendir("/proc/self/task");
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[300];
        char line[128] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat",
                 entry->d_name);
        FILE *f = fopen(path, "r");
        if (f != NULL && fgets(line, sizeof line, f) != NULL) {
            double ns = strtod(line, NULL);
            most = ns > most ? ns : most;
        }
        if (f != NULL) {
            fclose(f);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    return most / 1e9;
}
