/* test_corpus.c: replays the corpus of the fuzzer, so that what it once found
 * stays found on machines that have none. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_BYTES_MAX 65536

static int replay(const char *dir, const char *name)
{
    static uint8_t input[INPUT_BYTES_MAX];
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
        return -1;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    size_t n = fread(input, 1, sizeof input, file);
    int failed = ferror(file);
    fclose(file);
    return failed ? -1 : LLVMFuzzerTestOneInput(input, n);
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    char path[4096];
    unsigned n = 0;
    if (snprintf(path, sizeof path, "%s/test/fuzz/corpus",
                 srcdir != NULL ? srcdir : ".") >= (int)sizeof path) {
        return 1;
    }
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.') {
            if (replay(path, entry->d_name) != 0) {
                return 1;
            }
            n++;
        }
    }
    closedir(dir);
    printf("%u inputs replayed\n", n);
    return n > 0 ? 0 : 1;
}
