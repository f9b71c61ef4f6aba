#define _GNU_SOURCE

#include "base.h"

#include "replay.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *out;
static uint32_t files;

static void put(enum trace_op op, uint64_t at, const void *data, size_t len)
{
    struct trace_record record = {(uint32_t)op, files, at, (uint32_t)len, 1};
    if (fwrite(&record, sizeof record, 1, out) != 1 ||
        (len > 0 && fwrite(data, len, 1, out) != 1)) {
        replay_fail("cannot be written");
    }
}

static void put_file(const char *path, const char *name, size_t len)
{
    char *data = malloc(len + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (data == NULL || fd < 0 || read(fd, data, len) != (ssize_t)len) {
        replay_fail("a file cannot be read");
    }
    close(fd);
    files++;
    put(TRACE_OPEN, O_CREAT, name, strlen(name));
    put(TRACE_WRITE, 0, data, len);
    put(TRACE_SYNC, 0, NULL, 0);
    free(data);
}

static int root_len;

static int put_one(const char *path, const struct stat *st, int type,
                   struct FTW *ftw)
{
    const char *name = path + root_len;
    if (ftw->level == 0) {
        return 0;
    }
    if (type == FTW_D) {
        put(TRACE_MKDIR, 0, name, strlen(name) + 1);
    } else {
        put_file(path, name, (size_t)st->st_size);
    }
    return 0;
}

static int sync_one(const char *path, const struct stat *st, int type,
                    struct FTW *ftw)
{
    const char *name = ftw->level == 0 ? "" : path + root_len;
    (void)st;
    if (type == FTW_D) {
        files++;
        put(TRACE_OPEN, O_DIRECTORY, name, strlen(name));
        put(TRACE_SYNC, 0, NULL, 0);
    }
    return 0;
}

void base_write(const char *dir, const char *trace)
{
    out = fopen(trace, "w");
    if (out == NULL) {
        replay_fail("cannot be made");
    }
    root_len = (int)strlen(dir) + 1;
    put(TRACE_PROCESS, 0, NULL, 0);
    if (nftw(dir, put_one, 16, FTW_PHYS) != 0 ||
        nftw(dir, sync_one, 16, FTW_PHYS) != 0 || fclose(out) != 0) {
        replay_fail("cannot be written");
    }
}
