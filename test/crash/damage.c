#define _GNU_SOURCE /* FTW_DEPTH */

#include "damage.h"

#include "../tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define GARBAGE_BYTES 200

const char *const file_kind_names[FILE_KINDS] = {
    "FORMAT",  "lock",     "hwm", "inflight", "CURRENT", "MANIFEST",
    "OPTIONS", "IDENTITY", "log", "table",    "other"};

const char *const damage_names[DAMAGES] = {"flip",   "cut", "zero",   "gone",
                                           "append", "old", "records"};

static void die(const char *what)
{
    perror(what);
    exit(3);
}

/* A number with its bits mixed: the seeds need not be good ones. */
uint64_t dice(uint64_t *seed, uint64_t sides)
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % sides;
}

/* ---- Files and directories ---- */

static enum file_kind kind_of(const char *name)
{
    static const struct {
        const char *text;
        enum file_kind kind;
    } kinds[] = {{"FORMAT", FILE_FORMAT},    {"lock", FILE_LOCK},
                 {"hwm", FILE_HWM},          {"inflight", FILE_INFLIGHT},
                 {"CURRENT", FILE_CURRENT},  {"MANIFEST-", FILE_MANIFEST},
                 {"OPTIONS-", FILE_OPTIONS}, {"IDENTITY", FILE_IDENTITY},
                 {".log", FILE_WAL},         {".sst", FILE_SST}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strstr(name, kinds[i].text) != NULL) {
            return kinds[i].kind;
        }
    }
    return FILE_OTHER;
}

static int file_cmp(const void *a, const void *b)
{
    const struct store_file *x = a;
    const struct store_file *y = b;
    return strcmp(x->name, y->name);
}

static void list_below(struct store_files *files, const char *dir,
                       const char *below)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, below);
    DIR *d = opendir(path);
    if (d == NULL) {
        die(path);
    }
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        struct store_file *file = &files->file[files->n];
        int n =
            snprintf(path, sizeof path, "%s/%s%s", dir, below, entry->d_name);
        if (n >= (int)sizeof path || stat(path, &st) != 0) {
            die(path);
        }
        if (S_ISDIR(st.st_mode)) {
            continue;
        }
        n = snprintf(file->name, sizeof file->name, "%s%s", below,
                     entry->d_name);
        if (n >= (int)sizeof file->name || files->n + 1 == STORE_FILES_MAX) {
            die("too many files");
        }
        file->kind = kind_of(entry->d_name);
        file->len = (size_t)st.st_size;
        files->n++;
    }
    closedir(d);
}

void files_list(struct store_files *files, const char *dir)
{
    files->n = 0;
    list_below(files, dir, "");
    list_below(files, dir, "db/");
    qsort(files->file, files->n, sizeof files->file[0], file_cmp);
}

static uint8_t *file_read(const char *path, size_t room, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        die(path);
    }
    *len = (size_t)st.st_size;
    uint8_t *bytes = malloc(*len + room + 1);
    if (bytes == NULL || read(fd, bytes, *len) != (ssize_t)*len) {
        die(path);
    }
    close(fd);
    return bytes;
}

/* Always a new file: others may hold the old one. */
static void file_write(const char *path, const uint8_t *bytes, size_t len)
{
    if (unlink(path) != 0 && access(path, F_OK) == 0) {
        die(path);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len) {
        die(path);
    }
    close(fd);
}

void file_copy(const char *from, const char *to)
{
    size_t len;
    uint8_t *bytes = file_read(from, 0, &len);
    file_write(to, bytes, len);
    free(bytes);
}

void dir_remove(const char *path)
{
    tree_remove(path);
    if (access(path, F_OK) == 0) {
        die(path);
    }
}

static void copy_below(const char *from, const char *to)
{
    DIR *d = opendir(from);
    if (d == NULL || mkdir(to, 0755) != 0) {
        die(to);
    }
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char a[PATH_MAX];
        char b[PATH_MAX];
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (snprintf(a, sizeof a, "%s/%s", from, entry->d_name) >= PATH_MAX ||
            snprintf(b, sizeof b, "%s/%s", to, entry->d_name) >= PATH_MAX ||
            stat(a, &st) != 0) {
            die(entry->d_name);
        }
        if (S_ISDIR(st.st_mode)) {
            copy_below(a, b);
        } else {
            file_copy(a, b);
        }
    }
    closedir(d);
}

void dir_copy(const char *from, const char *to)
{
    dir_remove(to);
    copy_below(from, to);
}

/* ---- Damage ---- */

/* Where a random one of the last records begins; both MANIFEST and log are
 * written in the same way, see lib/wal.c. */
static size_t record_begin(const uint8_t *bytes, size_t len, uint64_t *seed)
{
    size_t begins[64];
    unsigned n = 0;
    size_t at = 0;
    while (at + 7 <= len) {
        size_t left = 32768 - at % 32768;
        size_t part = (size_t)bytes[at + 4] | (size_t)bytes[at + 5] << 8;
        int type = bytes[at + 6];
        if (left < 7) {
            at += left;
            continue;
        }
        if (type == 1 || type == 2) {
            begins[n++ % 64] = at;
        }
        at += 7 + part;
    }
    return n == 0 ? 0 : begins[dice(seed, n < 64 ? n : 64)];
}

/* Another content for the file: that of the same name if it was another, else
 * of any file of the kind. NULL: there is none. */
static uint8_t *older(const char *dir, const char *old,
                      const struct store_file *file, uint64_t *seed,
                      size_t *len)
{
    static struct store_files files;
    char path[PATH_MAX];
    const char *from[] = {old, dir};
    for (int i = 0; i < 2; i++) {
        const struct store_file *others[STORE_FILES_MAX];
        unsigned n = 0;
        files_list(&files, from[i]);
        for (unsigned j = 0; j < files.n; j++) {
            bool same = strcmp(files.file[j].name, file->name) == 0;
            if (files.file[j].kind == file->kind && !(same && i == 1)) {
                others[n++] = &files.file[j];
            }
        }
        if (n > 0) {
            snprintf(path, sizeof path, "%s/%s", from[i],
                     others[dice(seed, n)]->name);
            return file_read(path, 0, len);
        }
    }
    return NULL;
}

/* Any place; every other time one where something stands, as most of inflight
 * is zeros. */
static size_t place(const uint8_t *bytes, size_t len, uint64_t *seed)
{
    size_t at = len > 0 ? dice(seed, len) : 0;
    size_t from = at;
    if (len == 0 || dice(seed, 2) == 0) {
        return at;
    }
    do {
        at = (at + 1) % len;
    } while (bytes[at] == 0 && at != from);
    return at;
}

/* Changes the bytes; false: there are none of the kind. */
static bool bytes_damage(uint8_t *bytes, size_t *len, enum damage damage,
                         uint64_t *seed)
{
    size_t at = place(bytes, *len, seed);
    if (*len == 0 && damage != DAMAGE_APPEND) {
        return false;
    }
    switch (damage) {
        case DAMAGE_FLIP:
            bytes[at] ^= (uint8_t)(1 << dice(seed, 8));
            break;
        case DAMAGE_CUT:
            *len = at;
            break;
        case DAMAGE_ZERO:
            at -= at % PAGE_BYTES;
            memset(bytes + at, 0,
                   *len - at < PAGE_BYTES ? *len - at : PAGE_BYTES);
            break;
        case DAMAGE_APPEND:
            for (uint64_t n = 1 + dice(seed, GARBAGE_BYTES); n > 0; n--) {
                bytes[(*len)++] = (uint8_t)dice(seed, 256);
            }
            break;
        case DAMAGE_RECORDS:
            *len = record_begin(bytes, *len, seed);
            break;
        default:
            return false;
    }
    return true;
}

bool damage_do(const char *dir, const char *old, const struct store_file *file,
               enum damage damage, uint64_t *seed)
{
    char path[PATH_MAX];
    size_t len;
    size_t was;
    snprintf(path, sizeof path, "%s/%s", dir, file->name);
    if (damage == DAMAGE_GONE) {
        return unlink(path) == 0;
    }
    uint8_t *bytes = file_read(path, GARBAGE_BYTES, &was);
    uint8_t *before = malloc(was + 1);
    if (before == NULL) {
        die("memory");
    }
    memcpy(before, bytes, was);
    len = was;
    bool done;
    if (damage == DAMAGE_OLD) {
        free(bytes);
        bytes = older(dir, old, file, seed, &len);
        done = bytes != NULL;
    } else if (damage == DAMAGE_RECORDS && file->kind != FILE_MANIFEST &&
               file->kind != FILE_WAL) {
        done = false;
    } else {
        done = bytes_damage(bytes, &len, damage, seed);
    }
    done = done && (len != was || memcmp(before, bytes, len) != 0);
    if (done) {
        file_write(path, bytes, len);
    }
    free(before);
    free(bytes);
    return done;
}
