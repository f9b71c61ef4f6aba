/* below.h: which calls of a process are about files below a directory, for
 * libraries for LD_PRELOAD. Paths are absolute and without links in them.
 * Threads: any. */
#ifndef DASSIE_TEST_CRASH_BELOW_H_
#define DASSIE_TEST_CRASH_BELOW_H_

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* dir may be NULL: then nothing is below it. */
static inline bool path_below(const char *dir, const char *path)
{
    size_t len = dir != NULL ? strlen(dir) : 0;
    return len > 0 && strncmp(path, dir, len) == 0 &&
           (path[len] == '/' || path[len] == '\0');
}

static inline bool fd_below(const char *dir, int fd)
{
    char link[32];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return path_below(dir, path);
}

#endif /* DASSIE_TEST_CRASH_BELOW_H_ */
