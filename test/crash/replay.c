#define _GNU_SOURCE

#include "replay.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void replay_fail(const char *what)
{
    fprintf(stderr, "the trace: %s\n", what);
    exit(2);
}

static void *grown(void *p, size_t n, size_t bytes)
{
    p = realloc(p, n * bytes);
    if (p == NULL) {
        replay_fail("out of memory");
    }
    return p;
}

/* ---- Bytes ---- */

void bytes_grow(struct bytes *b, size_t n)
{
    if (n > b->room) {
        b->room = 2 * n;
        b->p = grown(b->p, b->room, 1);
    }
    if (n > b->len) {
        memset(b->p + b->len, 0, n - b->len);
        b->len = n;
    }
}

void bytes_copy(struct bytes *to, const struct bytes *from)
{
    to->len = 0;
    bytes_grow(to, from->len);
    if (from->len > 0) {
        memcpy(to->p, from->p, from->len);
    }
}

size_t page_bytes(const struct bytes *b, size_t at)
{
    size_t n = at < b->len ? b->len - at : 0;
    return n < PAGE_BYTES ? n : PAGE_BYTES;
}

bool page_same(const struct bytes *a, const struct bytes *b, size_t at)
{
    size_t n = page_bytes(a, at);
    return n == page_bytes(b, at) &&
           (n == 0 || memcmp(a->p + at, b->p + at, n) == 0);
}

/* ---- Names ---- */

static struct name *names_find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->name[i].path, path) == 0) {
            return &names->name[i];
        }
    }
    return NULL;
}

void names_change(struct names *names, const struct change *change)
{
    struct name *name = names_find(names, change->from);
    if (name != NULL) {
        *name = names->name[--names->n];
    }
    if (change->to[0] == '\0') {
        return;
    }
    name = names_find(names, change->to);
    if (name == NULL) {
        if (names->n == names->room) {
            names->room = 2 * names->room + 64;
            names->name =
                grown(names->name, names->room, sizeof names->name[0]);
        }
        name = &names->name[names->n++];
        memcpy(name->path, change->to, sizeof name->path);
    }
    name->file = change->file;
}

void names_copy(struct names *to, const struct names *from)
{
    if (to->room < from->n) {
        to->room = 2 * from->n;
        to->name = grown(to->name, to->room, sizeof to->name[0]);
    }
    to->n = from->n;
    if (from->n > 0) {
        memcpy(to->name, from->name, from->n * sizeof from->name[0]);
    }
}

static bool stands_in(const char *path, const char *dir)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    return path[0] != '\0' && len == strlen(dir) &&
           strncmp(path, dir, len) == 0;
}

/* A directory was synced. */
static void names_sync(struct replay *r, const char *dir)
{
    size_t left = 0;
    for (size_t i = 0; i < r->changes_n; i++) {
        if (stands_in(r->changes[i].from, dir) ||
            stands_in(r->changes[i].to, dir)) {
            names_change(&r->durable, &r->changes[i]);
        } else {
            r->changes[left++] = r->changes[i];
        }
    }
    r->changes_n = left;
}

static void change(struct replay *r, const char *from, const char *to,
                   unsigned file)
{
    if (strlen(from) >= NAME_MAX_BYTES || strlen(to) >= NAME_MAX_BYTES) {
        replay_fail("a path is too long");
    }
    if (r->changes_n == r->changes_room) {
        r->changes_room = 2 * r->changes_room + 64;
        r->changes = grown(r->changes, r->changes_room, sizeof r->changes[0]);
    }
    struct change *c = &r->changes[r->changes_n++];
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
    c->file = file;
    names_change(&r->now, c);
}

/* ---- Files ---- */

static unsigned file_new(struct replay *r, bool dir)
{
    if (r->files_n % 64 == 0) {
        r->files = grown(r->files, r->files_n + 64, sizeof r->files[0]);
    }
    memset(&r->files[r->files_n], 0, sizeof r->files[0]);
    r->files[r->files_n].dir = dir;
    return r->files_n++;
}

static struct file *file_of(struct replay *r, uint32_t number)
{
    if (number >= r->file_of_n) {
        replay_fail("a file that was not opened");
    }
    return &r->files[r->file_of[number]];
}

/* The directory itself has no name, and is file 0. */
static void open_path(struct replay *r, uint32_t number, const char *path,
                      int flags)
{
    struct name *name = names_find(&r->now, path);
    unsigned file = name != NULL ? name->file : 0;
    if (name == NULL && path[0] != '\0') {
        if ((flags & O_CREAT) == 0) {
            replay_fail("a file is opened that nobody has made");
        }
        file = file_new(r, false);
        change(r, "", path, file);
    }
    if ((flags & O_TRUNC) != 0) {
        r->files[file].now.len = 0;
    }
    if (number >= r->file_of_n) {
        r->file_of = grown(r->file_of, number + 64, sizeof r->file_of[0]);
        memset(r->file_of + r->file_of_n, 0,
               (number + 64 - r->file_of_n) * sizeof r->file_of[0]);
        r->file_of_n = number + 64;
    }
    r->file_of[number] = file;
}

static void file_write(struct file *file, uint64_t at, const void *data,
                       uint32_t len)
{
    bytes_grow(&file->now, at + len);
    memcpy(file->now.p + at, data, len);
    for (size_t page = at / PAGE_BYTES;
         page <= (at + len) / PAGE_BYTES && page < file->dropped.len; page++) {
        file->dropped.p[page] = 0;
    }
}

static void file_resize(struct file *file, uint64_t len)
{
    if (len < file->now.len) {
        file->now.len = len;
    }
    bytes_grow(&file->now, len);
}

static void file_sync(struct file *file)
{
    struct bytes before = file->synced;
    if (file->dropped.len == 0) {
        bytes_copy(&file->synced, &file->now);
    } else {
        memset(&file->synced, 0, sizeof file->synced);
        bytes_copy(&file->synced, &file->now);
        for (size_t i = 0; i < file->dropped.len; i++) {
            size_t at = i * PAGE_BYTES;
            size_t n = page_bytes(&file->synced, at);
            if (file->dropped.p[i] && n > 0) {
                size_t old = page_bytes(&before, at);
                old = old < n ? old : n;
                memset(file->synced.p + at, 0, n);
                memcpy(file->synced.p + at, before.p + at, old);
            }
        }
        free(before.p);
    }
    file->moments = 0;
}

/* The sync failed: its pages are not dirty any more. */
static void file_drop(struct file *file)
{
    size_t pages = (file->now.len + PAGE_BYTES - 1) / PAGE_BYTES;
    bytes_grow(&file->dropped, pages);
    for (size_t i = 0; i < pages; i++) {
        if (!page_same(&file->now, &file->synced, i * PAGE_BYTES)) {
            file->dropped.p[i] = 1;
        }
    }
}

/* ---- Records ---- */

static void sync_file(struct replay *r, uint32_t number)
{
    struct file *file = file_of(r, number);
    if (!file->dir) {
        file_sync(file);
        return;
    }
    unsigned at = (unsigned)(file - r->files);
    if (at == 0) {
        names_sync(r, "");
    }
    for (size_t i = 0; i < r->now.n; i++) {
        if (r->now.name[i].file == at) {
            char dir[NAME_MAX_BYTES];
            memcpy(dir, r->now.name[i].path, sizeof dir);
            names_sync(r, dir);
        }
    }
}

/* Some of what mapped memory was, for images in which it is old. */
static void moment(struct replay *r)
{
    for (unsigned i = 0; i < r->files_n; i++) {
        struct file *file = &r->files[i];
        if (file->mapped && file->moments++ % 4 == 0) {
            bytes_copy(&file->past[file->moments / 4 % PAST_MAX], &file->now);
        }
    }
}

static void two_paths(struct replay *r, const struct trace_record *record,
                      const char *data)
{
    char from[NAME_MAX_BYTES];
    char to[NAME_MAX_BYTES];
    size_t len = strnlen(data, record->len);
    size_t to_len = record->len > len ? record->len - len - 1 : 0;
    if (len >= sizeof from || to_len >= sizeof to) {
        replay_fail("a path is too long");
    }
    snprintf(from, sizeof from, "%.*s", (int)len, data);
    snprintf(to, sizeof to, "%.*s", (int)to_len, data + len + 1);
    struct name *name = names_find(&r->now, from);
    switch (record->op) {
        case TRACE_MKDIR:
            change(r, "", from, file_new(r, true));
            break;
        case TRACE_UNLINK:
            change(r, from, "", 0);
            break;
        default:
            if (name == NULL) {
                replay_fail("a file is renamed that nobody has made");
            }
            change(r, record->op == TRACE_LINK ? "" : from, to, name->file);
            break;
    }
}

static void one_file(struct replay *r, const struct trace_record *record,
                     const char *data)
{
    struct file *file = file_of(r, record->file);
    switch (record->op) {
        case TRACE_STORE:
            file->mapped = true;
            file_write(file, record->at, data, record->len);
            break;
        case TRACE_WRITE:
            file_write(file, record->at, data, record->len);
            break;
        case TRACE_SIZE:
            file_resize(file, record->at);
            break;
        case TRACE_GROW:
            bytes_grow(&file->now, record->at);
            break;
        case TRACE_SYNC:
            sync_file(r, record->file);
            break;
        case TRACE_ERROR:
            if (record->at != 0) {
                file_drop(file);
            }
            break;
        default:
            replay_fail("a record of an unknown kind");
    }
}

static void open_record(struct replay *r, const struct trace_record *record,
                        const char *data)
{
    char path[NAME_MAX_BYTES];
    if (record->len >= sizeof path) {
        replay_fail("a path is too long");
    }
    snprintf(path, sizeof path, "%.*s", (int)record->len, data);
    open_path(r, record->file, path, (int)record->at);
}

static void apply(struct replay *r, const struct trace_record *record,
                  const char *data)
{
    switch (record->op) {
        case TRACE_PROCESS:
            r->file_of_n = 0;
            snprintf(r->boot_id, sizeof r->boot_id, "%.*s", (int)record->len,
                     data);
            break;
        case TRACE_OPEN:
            open_record(r, record, data);
            break;
        case TRACE_MOMENT:
            moment(r);
            break;
        case TRACE_RENAME:
        case TRACE_LINK:
        case TRACE_UNLINK:
        case TRACE_MKDIR:
            two_paths(r, record, data);
            break;
        default:
            one_file(r, record, data);
            break;
    }
}

void replay_open(struct replay *r, const char *trace)
{
    struct stat st;
    memset(r, 0, sizeof *r);
    int fd = open(trace, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
        replay_fail("cannot be read");
    }
    r->len = (size_t)st.st_size;
    r->trace = mmap(NULL, r->len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (r->trace == MAP_FAILED) {
        replay_fail("cannot be mapped");
    }
    close(fd);
    file_new(r, true);
}

/* Records follow one another without padding. */
bool replay_step(struct replay *r)
{
    static struct trace_record record;
    if (r->len - r->at < sizeof record) {
        return false;
    }
    memcpy(&record, r->trace + r->at, sizeof record);
    const char *data = (const char *)r->trace + r->at + sizeof record;
    if (r->len - r->at - sizeof record < record.len) {
        replay_fail("it ends in a record");
    }
    r->at += sizeof record + record.len;
    r->last = &record;
    r->point++;
    apply(r, &record, data);
    return true;
}

bool replay_is_point(const struct replay *r)
{
    return r->last != NULL && r->last->part == 0;
}

struct file *replay_find(const struct replay *r, const char *path)
{
    struct name *name = names_find(&r->now, path);
    return name != NULL ? &r->files[name->file] : NULL;
}
