#define _GNU_SOURCE

#include "image.h"

#include "../tree.h"
#include "ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_BYTES 512u

static uint32_t dice(struct image *image)
{
    image->random = image->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(image->random >> 33);
}

/* ---- Contents ---- */

static size_t longer(const struct file *file)
{
    return file->now.len > file->synced.len ? file->now.len : file->synced.len;
}

static unsigned char byte_at(const struct bytes *b, size_t at)
{
    return at < b->len ? b->p[at] : 0;
}

/* The first part of what was not synced. What is written anew in its place
 * comes in whole sectors. */
static void torn(struct image *image, const struct file *file,
                 struct bytes *out)
{
    const struct bytes *now = &file->now;
    size_t from = 0;
    size_t to = longer(file);
    while (from < to && from < now->len &&
           byte_at(now, from) == byte_at(&file->synced, from)) {
        from++;
    }
    while (to > from &&
           byte_at(now, to - 1) == byte_at(&file->synced, to - 1)) {
        to--;
    }
    to = from + (to > from ? dice(image) % (to - from) : 0);
    to = to < file->synced.len ? to - to % SECTOR_BYTES : to;
    to = to < now->len ? to : now->len;
    bytes_grow(out, to);
    if (to > 0) {
        memcpy(out->p, now->p, to);
    }
}

/* Any pages of what was not synced. */
static void pages(struct image *image, const struct file *file,
                  struct bytes *out)
{
    const struct bytes *now = &file->now;
    for (size_t at = 0; at < now->len; at += PAGE_BYTES) {
        if (!page_same(now, &file->synced, at) && dice(image) % 2 == 0) {
            size_t n = page_bytes(now, at);
            bytes_grow(out, at + n);
            memcpy(out->p + at, now->p + at, n);
        }
    }
    if (dice(image) % 2 == 0) {
        bytes_grow(out, longer(file));
    }
}

/* What mapped memory was at some time since it was synced. */
static const struct bytes *some_past(struct image *image,
                                     const struct file *file)
{
    unsigned n = (file->moments + 3) / 4;
    n = n < PAST_MAX ? n : PAST_MAX;
    return n > 0 ? &file->past[dice(image) % n] : &file->synced;
}

static void mapped(struct image *image, const struct file *file,
                   bool may_be_zero, struct bytes *out)
{
    const struct bytes *past = some_past(image, file);
    unsigned how = dice(image) % (may_be_zero ? 5 : 4);
    for (size_t at = 0; how > 0 && at < past->len; at += SECTOR_BYTES) {
        size_t n = past->len - at;
        n = n < SECTOR_BYTES ? n : SECTOR_BYTES;
        if (how == 1 || (how > 1 && dice(image) % 2 == 0)) {
            bytes_grow(out, at + n);
            memcpy(out->p + at, (how == 3 ? &file->now : past)->p + at, n);
        }
    }
    if (how == 4) {
        memset(out->p, 0, out->len);
    }
}

static void content(struct image *image, const struct replay *r,
                    const struct file *file, struct bytes *out)
{
    const struct file *ledger_file = replay_find(r, LEDGER_NAME);
    const struct ledger *told =
        ledger_file != NULL && ledger_file->now.len == sizeof *told
            ? (const void *)ledger_file->now.p
            : NULL;
    out->len = 0;
    if (image->variant == 'i' && file->mapped && file != ledger_file) {
        bytes_copy(out, some_past(image, file));
        return;
    }
    if (file == ledger_file || strchr("kib", image->variant) != NULL) {
        bytes_copy(out, image->variant == 'b' && !file->mapped ? &file->synced
                                                               : &file->now);
        return;
    }
    bytes_copy(out, &file->synced);
    if (file->mapped) {
        mapped(image, file, told == NULL || !told->unsynced, out);
    } else if (image->variant == 'z') {
        bytes_grow(out, longer(file));
    } else if (image->variant == 't') {
        torn(image, file, out);
    } else if (image->variant == 'r') {
        pages(image, file, out);
    }
}

/* ---- The image ---- */

static bool is_cut(const struct image *image)
{
    return image->variant != 'k' && image->variant != 'i';
}

static void choose_names(struct image *image, const struct replay *r)
{
    size_t changes = 0;
    if (image->variant != 's' && image->variant != 'r') {
        names_copy(&image->names, &r->now);
        return;
    }
    names_copy(&image->names, &r->durable);
    if (image->variant == 'r') {
        changes = dice(image) % 2 == 0
                      ? r->changes_n
                      : dice(image) % (uint32_t)(r->changes_n + 1);
    }
    for (size_t i = 0; i < changes; i++) {
        names_change(&image->names, &r->changes[i]);
    }
    struct file *ledger_file = replay_find(r, LEDGER_NAME);
    if (ledger_file != NULL) {
        struct change add = {.to = LEDGER_NAME,
                             .file = (unsigned)(ledger_file - r->files)};
        names_change(&image->names, &add);
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->path,
                  ((const struct name *)b)->path);
}

static void make_room(struct image *image, size_t n)
{
    if (n > image->room) {
        image->entry = realloc(image->entry, n * sizeof image->entry[0]);
        if (image->entry == NULL) {
            replay_fail("out of memory");
        }
        memset(image->entry + image->room, 0,
               (n - image->room) * sizeof image->entry[0]);
        image->room = n;
    }
    image->n = n;
}

void image_make(struct image *image, const struct replay *r, char variant,
                unsigned seed)
{
    image->variant = variant;
    image->random =
        (uint64_t)r->point * 1000003 + seed * 7919u + (unsigned char)variant;
    dice(image);
    choose_names(image, r);
    qsort(image->names.name, image->names.n, sizeof image->names.name[0],
          by_path);
    make_room(image, image->names.n);
    for (size_t i = 0; i < image->n; i++) {
        struct image_entry *entry = &image->entry[i];
        const struct file *file = &r->files[image->names.name[i].file];
        memcpy(entry->path, image->names.name[i].path, sizeof entry->path);
        entry->dir = file->dir;
        content(image, r, file, &entry->content);
        if (is_cut(image) && strcmp(entry->path, LEDGER_NAME) == 0 &&
            entry->content.len == sizeof(struct ledger)) {
            ledger_cut_in((void *)entry->content.p);
        }
    }
}

static uint64_t hash_add(uint64_t hash, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = n;
        memcpy(&word, p + i, n - i < 8 ? n - i : 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return hash;
}

uint64_t image_hash(const struct image *image)
{
    uint64_t hash = is_cut(image);
    for (size_t i = 0; i < image->n; i++) {
        const struct image_entry *entry = &image->entry[i];
        hash = hash_add(hash, (const unsigned char *)entry->path,
                        strlen(entry->path) + 1);
        hash = hash_add(hash + entry->content.len, entry->content.p,
                        entry->content.len);
    }
    return hash;
}

/* ---- On disk ---- */

static void write_entry(const struct image_entry *entry, const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, entry->path);
    if (entry->dir) {
        if (mkdir(path, 0755) != 0 && errno != ENOENT) {
            replay_fail("an image's directory cannot be made");
        }
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 && errno == ENOENT) {
        return; /* in a directory that is gone */
    }
    size_t len = entry->content.len;
    if (fd < 0 || write(fd, entry->content.p, len) != (ssize_t)len) {
        replay_fail("an image cannot be written");
    }
    close(fd);
}

void image_write(const struct image *image, const char *dir)
{
    tree_remove(dir);
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
        replay_fail("an image's directory cannot be made");
    }
    for (size_t i = 0; i < image->n; i++) {
        write_entry(&image->entry[i], dir);
    }
}

/* RocksDB's LOG is written by stdio. */
static bool same_entry(const struct image_entry *entry, const char *dir)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, entry->path);
    if (entry->dir || strstr(entry->path, "/LOG") != NULL) {
        return stat(path, &st) == 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    struct bytes there = {NULL, 0, 0};
    bytes_grow(&there, entry->content.len + 1);
    ssize_t n = read(fd, there.p, there.len);
    close(fd);
    bool same = n == (ssize_t)entry->content.len &&
                (n == 0 || memcmp(there.p, entry->content.p, (size_t)n) == 0);
    free(there.p);
    return same;
}

static size_t counted;

static int count_one(const char *path, const struct stat *st, int type,
                     struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)type;
    counted += ftw->level > 0;
    return 0;
}

bool image_compare(const struct image *image, const char *dir)
{
    bool same = true;
    counted = 0;
    nftw(dir, count_one, 16, FTW_PHYS);
    if (counted != image->n) {
        fprintf(stderr, "%zu names were recorded, %zu are there\n", image->n,
                counted);
        same = false;
    }
    for (size_t i = 0; i < image->n; i++) {
        if (!same_entry(&image->entry[i], dir)) {
            fprintf(stderr, "%s is not as it was recorded\n",
                    image->entry[i].path);
            same = false;
        }
    }
    return same;
}
