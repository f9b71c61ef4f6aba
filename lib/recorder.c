#include "config.h"

#include "recorder.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDER_MAGIC UINT64_C(0x4441535349453031)

static int sys_error(struct errmsg *e, int error, const char *what)
{
    int rc = dassie__sys_code(error);
    return dassie__errmsg_set(e, rc, "%s inflight: %s", what,
                              dassie_strerror(rc));
}

static int map_file(struct recorder *r, const char *path, struct errmsg *e)
{
    struct stat st;
    r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (r->fd < 0) {
        return sys_error(e, errno, "open");
    }
    if (fstat(r->fd, &st) != 0 || (st.st_size > (off_t)r->bytes &&
                                   ftruncate(r->fd, (off_t)r->bytes) != 0)) {
        return sys_error(e, errno, "size");
    }
    int error = posix_fallocate(r->fd, 0, (off_t)r->bytes);
    if (error != 0) {
        return sys_error(e, error, "allocate");
    }
    r->unmapped = dassie__env.copies_on_write(r->fd);
    snprintf(r->path, sizeof r->path, "%s", path);
    if (r->unmapped) {
        r->page = dassie__calloc(1, r->bytes);
        if (r->page != NULL && pread(r->fd, r->page, r->bytes, 0) < 0) {
            return sys_error(e, errno, "read");
        }
        return 0; /* who called looks for a page */
    }
    void *page =
        mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (page == MAP_FAILED) {
        return sys_error(e, errno, "map");
    }
    r->page = page;
    return 0;
}

static bool same_boot(const struct recorder_page *page)
{
    static const uint8_t unknown[BOOT_ID_BYTES];
    uint8_t now[BOOT_ID_BYTES];
    dassie__env.boot_id(now);
    return memcmp(now, unknown, sizeof now) != 0 &&
           memcmp(now, page->boot_id, sizeof now) == 0;
}

bool dassie__recorder_lossy(const char *path)
{
    struct recorder_page page;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, &page, sizeof page, 0);
    if (fd >= 0) {
        close(fd);
    }
    return n == (ssize_t)sizeof page && page.magic == RECORDER_MAGIC &&
           page.unsynced != 0 && page.clean == 0 && !same_boot(&page);
}

static int slot_cmp(const void *a, const void *b)
{
    const struct recorder_slot *x = a;
    const struct recorder_slot *y = b;
    return x->id != y->id
               ? (x->id > y->id) - (x->id < y->id)
               : (x->attempt > y->attempt) - (x->attempt < y->attempt);
}

/* Copies what the last owner left, so that the page can be used again. */
static void read_last(struct recorder *r)
{
    if (r->page->magic != RECORDER_MAGIC ||
        r->page->slots != DASSIE_CLAIMED_MAX) {
        return;
    }
    r->clean = r->page->clean != 0;
    r->power_cut = !same_boot(r->page);
    r->was_unsynced = r->page->unsynced != 0;
    r->valid = !r->power_cut;
    for (uint32_t i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        if (r->page->slot[i].phase != PHASE_FREE) {
            r->last[r->last_n++] = r->page->slot[i];
        }
    }
    qsort(r->last, r->last_n, sizeof r->last[0], slot_cmp);
}

int dassie__recorder_open(struct recorder *r, const char *path,
                          struct errmsg *e)
{
    memset(r, 0, sizeof *r);
    r->fd = -1;
    r->bytes =
        sizeof *r->page + DASSIE_CLAIMED_MAX * sizeof(struct recorder_slot);
    r->last = dassie__calloc(DASSIE_CLAIMED_MAX, sizeof r->last[0]);
    r->free_slots =
        dassie__malloc(DASSIE_CLAIMED_MAX * sizeof r->free_slots[0]);
    int rc = 0;
    if (path != NULL) {
        rc = map_file(r, path, e);
    } else {
        r->page = dassie__calloc(1, r->bytes);
    }
    if (rc == 0 &&
        (r->last == NULL || r->free_slots == NULL || r->page == NULL)) {
        rc = dassie__errmsg_set(e, UV_ENOMEM, "out of memory");
    }
    if (rc != 0) {
        dassie__recorder_close(r, false);
        return rc;
    }
    read_last(r);
    return 0;
}

/* A job that was handed back and claimed again in one commit has two slots of
 * one run until then, both unstarted. If they disagree, one is damaged. */
static bool is_doubtful(const struct recorder *r,
                        const struct recorder_slot *slot)
{
    for (const struct recorder_slot *at = slot;
         at > r->last && slot_cmp(at - 1, slot) == 0; at--) {
        if (at[-1].phase != slot->phase) {
            return true;
        }
    }
    for (const struct recorder_slot *at = slot + 1;
         at < r->last + r->last_n && slot_cmp(at, slot) == 0; at++) {
        if (at->phase != slot->phase) {
            return true;
        }
    }
    return false;
}

enum found dassie__recorder_found(const struct recorder *r, uint64_t id,
                                  uint32_t attempt)
{
    struct recorder_slot key = {.id = id, .attempt = attempt};
    if (!r->valid) {
        return FOUND_UNKNOWN;
    }
    const struct recorder_slot *slot =
        bsearch(&key, r->last, r->last_n, sizeof key, slot_cmp);
    if (slot == NULL || is_doubtful(r, slot)) {
        return FOUND_UNKNOWN;
    }
    uint8_t phase = slot->phase;
    switch (phase) {
        case PHASE_CLAIMED:
            return FOUND_NOT_STARTED;
        case PHASE_EXECUTING:
            return slot->alone == SLOT_ALONE ? FOUND_ALONE : FOUND_EXECUTING;
        case PHASE_ENDED:
            return FOUND_ENDED;
        default:
            return FOUND_UNKNOWN;
    }
}

int dassie__recorder_begin(struct recorder *r, bool unsynced, struct errmsg *e)
{
    memset(r->page, 0, r->bytes);
    r->page->magic = RECORDER_MAGIC;
    r->page->slots = DASSIE_CLAIMED_MAX;
    r->page->unsynced = unsynced;
    dassie__env.boot_id(r->page->boot_id);
    /* Low slots are taken first, so that few pages are touched. */
    for (uint32_t i = 0; i < DASSIE_CLAIMED_MAX; i++) {
        r->free_slots[i] = DASSIE_CLAIMED_MAX - 1 - i;
    }
    r->free_n = DASSIE_CLAIMED_MAX;
    /* A power cut must not bring an older page back that claims to be clean. */
    int rc = 0;
    if (r->unmapped) {
        ssize_t n = pwrite(r->fd, r->page, r->bytes, 0);
        rc = n == (ssize_t)r->bytes ? fdatasync(r->fd) : -1;
        errno = n >= 0 && n < (ssize_t)r->bytes ? ENOSPC : errno;
    } else if (r->fd >= 0) {
        rc = msync(r->page, r->bytes, MS_SYNC);
    }
    return rc == 0 ? 0 : sys_error(e, errno, "sync");
}

/* No record is better than one that is behind: see recorder.h. */
void dassie__recorder_write(const struct recorder *r, const void *p, size_t n)
{
    off_t at = (const char *)p - (const char *)r->page;
    if (pwrite(r->fd, p, n, at) < 0 && r->page->unsynced == 0) {
        unlink(r->path);
    }
}

void dassie__recorder_close(struct recorder *r, bool clean)
{
    if (r->page != NULL && clean) { /* who did not get to begin leaves the last
                                       owner's word */
        r->page->clean = true;
        if (r->unmapped) {
            dassie__recorder_write(r, &r->page->clean, sizeof r->page->clean);
        }
    }
    if (r->page != NULL && r->fd >= 0 && !r->unmapped) {
        munmap(r->page, r->bytes);
    } else {
        dassie__free(r->page);
    }
    if (r->fd >= 0) {
        close(r->fd);
    }
    dassie__free(r->last);
    dassie__free(r->free_slots);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

uint32_t dassie__recorder_take(struct recorder *r, uint64_t id,
                               uint32_t attempt)
{
    if (r->free_n == 0) {
        return UINT32_MAX;
    }
    uint32_t at = r->free_slots[--r->free_n];
    struct recorder_slot *slot = &r->page->slot[at];
    slot->id = id;
    slot->attempt = attempt;
    atomic_store_explicit(&slot->alone, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->phase, PHASE_CLAIMED, memory_order_release);
    if (r->unmapped) {
        dassie__recorder_write(r, slot, sizeof *slot);
    }
    return at;
}

void dassie__recorder_release(struct recorder *r, uint32_t slot)
{
    recorder_phase(r, slot, PHASE_FREE);
    r->free_slots[r->free_n++] = slot;
}
