#include "disk.h"

#include "beside.h"
#include "dir.h"
#include "env.h"
#include "kv_mem.h"
#include "kv_rocks.h"
#include "memory.h"
#include "model.h"
#include "salvage.h"
#include "sim.h"
#include "survey.h"
#include "task.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct disk_faults disk_faults;
uint64_t disk_commit_ns;
uint64_t disk_free_bytes;

/* A row of a batch. */
struct entry {
    struct entry *next;
    enum { PUT, DEL, DEL_RANGE } type;
    enum family family;
    size_t key_len;
    size_t value_len;
    uint8_t bytes[];
};

struct batch {
    struct batch *next;
    struct entry *entries;
    bool synced;
    bool doubtful; /* its sync has failed */
};

static struct {
    struct kv kv; /* what the library sees */
    struct kv *mem;
    struct entry *open; /* the open batch, */
    struct entry **open_end;
    struct batch *log; /* and all that were committed */
    struct batch **log_end;
    bool kept; /* the open batch is written already, though it failed */
    enum disk_place place;
    struct kv_iter *failing;
    char path[PATH_MAX];
    bool used;
    bool clean;
} disk;

/* ---- The log ---- */

static void log_add(int type, enum family family, struct kv_slice key,
                    struct kv_slice head, struct kv_slice tail)
{
    size_t value_len = head.len + tail.len;
    struct entry *entry = malloc(sizeof *entry + key.len + value_len);
    entry->next = NULL;
    entry->type = type;
    entry->family = family;
    entry->key_len = key.len;
    entry->value_len = value_len;
    memcpy(entry->bytes, key.p, key.len);
    memcpy(entry->bytes + key.len, head.p, head.len);
    if (tail.len > 0) {
        memcpy(entry->bytes + key.len + head.len, tail.p, tail.len);
    }
    *disk.open_end = entry;
    disk.open_end = &entry->next;
}

static void entries_free(struct entry *entry)
{
    while (entry != NULL) {
        struct entry *next = entry->next;
        free(entry);
        entry = next;
    }
}

static void open_clear(void)
{
    disk.open = NULL;
    disk.open_end = &disk.open;
}

static void open_drop(void)
{
    entries_free(disk.open);
    open_clear();
}

static void log_commit(bool synced, bool doubtful)
{
    struct batch *batch = malloc(sizeof *batch);
    *batch = (struct batch){NULL, disk.open, synced && !doubtful, doubtful};
    for (struct batch *at = disk.log; batch->synced && at != NULL;
         at = at->next) {
        at->synced = true;
    }
    *disk.log_end = batch;
    disk.log_end = &batch->next;
    open_clear();
}

static struct kv_slice entry_key(const struct entry *entry)
{
    return kv_slice(entry->bytes, entry->key_len);
}

static struct kv_slice entry_value(const struct entry *entry)
{
    return kv_slice(entry->bytes + entry->key_len, entry->value_len);
}

/* ---- Writing ---- */

static void begin(void)
{
    memory_disk(true);
}

static void end(void)
{
    memory_disk(false);
    disk.kv.rows = disk.mem->rows;
    disk.kv.row_bytes = disk.mem->row_bytes;
    disk.kv.syncs = disk.mem->syncs;
}

static void disk_put2(struct kv *kv, enum family family, struct kv_slice key,
                      struct kv_slice head, struct kv_slice tail)
{
    (void)kv;
    begin();
    disk.mem->ops->put2(disk.mem, family, key, head, tail);
    end();
    log_add(PUT, family, key, head, tail);
}

static void disk_put(struct kv *kv, enum family family, struct kv_slice key,
                     struct kv_slice value)
{
    disk_put2(kv, family, key, value, kv_slice(NULL, 0));
}

static void disk_del(struct kv *kv, enum family family, struct kv_slice key)
{
    (void)kv;
    begin();
    disk.mem->ops->del(disk.mem, family, key);
    end();
    log_add(DEL, family, key, kv_slice("", 0), kv_slice(NULL, 0));
}

static void disk_del_range(struct kv *kv, enum family family,
                           struct kv_slice from, struct kv_slice to)
{
    (void)kv;
    begin();
    disk.mem->ops->del_range(disk.mem, family, from, to);
    end();
    log_add(DEL_RANGE, family, from, to, kv_slice(NULL, 0));
}

/* A number is written once. */
static void check_number(const struct entry *entry)
{
    struct kv_value value;
    struct errmsg e;
    if (entry->family == FAMILY_COMMITS && entry->type == PUT) {
        SIM_CHECK(disk.mem->ops->get(disk.mem, NULL, FAMILY_COMMITS,
                                     entry_key(entry), &value, &e) == UV_ENOENT,
                  "a commit is written twice");
    }
    reached->folds += entry->family == FAMILY_META && entry->key_len == 1;
    reached->dead_ranges +=
        entry->family == FAMILY_PENDING && entry->type == DEL_RANGE;
}

static void batch_write(bool sync, bool doubtful)
{
    struct errmsg e;
    for (struct entry *entry = disk.open; entry != NULL; entry = entry->next) {
        check_number(entry);
    }
    begin();
    int rc = disk.mem->ops->commit(disk.mem, sync, &e);
    end();
    SIM_CHECK(rc == 0, "the virtual disk has no memory");
    log_commit(sync, doubtful);
    reached->commits++;
    model_committed();
}

static void wait_for(enum disk_place place)
{
    disk.place = place;
    if (disk_commit_ns > 0) {
        task_sleep(sim_below((unsigned)disk_commit_ns));
    } else {
        task_yield();
    }
}

static int in_doubt(struct errmsg *e, const char *text)
{
    disk.place = DISK_DOUBT;
    SIM_SAY("%s", text);
    return dassie__errmsg_set(e, UV_EIO, "%s", text);
}

static int disk_commit(struct kv *kv, bool sync, struct errmsg *e)
{
    (void)kv;
    SIM_CHECK(!disk.kept, "a commit is written twice");
    wait_for(DISK_WRITING);
    if (sim_chance(disk_faults.commit_absent)) {
        reached->errors_absent++;
        return in_doubt(e, "the commit fails and is not there");
    }
    bool fails = sim_chance(disk_faults.commit_present);
    batch_write(sync, fails);
    wait_for(DISK_WRITTEN);
    if (fails) {
        disk.kept = true;
        reached->errors_present++;
        return in_doubt(e, "the commit fails and is there");
    }
    disk.place = DISK_IDLE;
    return 0;
}

static void disk_drop(struct kv *kv)
{
    (void)kv;
    begin();
    disk.mem->ops->drop(disk.mem);
    end();
    open_drop();
    disk.kept = false;
    disk.place = DISK_IDLE;
}

static int disk_reopen(struct kv *kv, struct errmsg *e)
{
    (void)kv;
    SIM_CHECK(disk.place == DISK_DOUBT, "the database is reopened for nothing");
    if (disk_faults.broken || sim_chance(disk_faults.reopen)) {
        reached->heals_failed++;
        return dassie__errmsg_set(e, UV_EIO, "told to fail to reopen");
    }
    for (struct batch *at = disk.log; at != NULL; at = at->next) {
        at->synced |= at->doubtful;
        at->doubtful = false;
    }
    reached->heals++;
    return 0;
}

/* ---- Reading ---- */

static bool read_fails(void)
{
    if (!sim_chance(disk_faults.read)) {
        return false;
    }
    SIM_SAY("a read fails");
    reached->read_errors++;
    return true;
}

static int disk_get(struct kv *kv, const struct kv_snapshot *snapshot,
                    enum family family, struct kv_slice key,
                    struct kv_value *value, struct errmsg *e)
{
    (void)kv;
    if (read_fails()) {
        return dassie__errmsg_set(e, UV_EIO, "told to fail to read");
    }
    return disk.mem->ops->get(disk.mem, snapshot, family, key, value, e);
}

static void disk_value_release(struct kv_value *value)
{
    disk.mem->ops->value_release(value);
}

static const struct kv_snapshot *disk_snapshot(struct kv *kv)
{
    (void)kv;
    return NULL;
}

static void disk_snapshot_release(struct kv *kv, const struct kv_snapshot *s)
{
    (void)kv;
    (void)s;
}

static struct kv_iter *disk_iter(struct kv *kv,
                                 const struct kv_snapshot *snapshot,
                                 enum family family, struct kv_slice from,
                                 struct kv_slice to)
{
    (void)kv;
    reached->refills += family == FAMILY_PENDING;
    begin();
    struct kv_iter *it =
        disk.mem->ops->iter(disk.mem, snapshot, family, from, to);
    end();
    if (disk.failing == NULL && read_fails()) {
        disk.failing = it;
    }
    return it;
}

static bool disk_iter_valid(const struct kv_iter *it)
{
    return it != disk.failing && disk.mem->ops->iter_valid(it);
}

static struct kv_slice disk_iter_key(const struct kv_iter *it)
{
    return disk.mem->ops->iter_key(it);
}

static struct kv_slice disk_iter_value(const struct kv_iter *it)
{
    return disk.mem->ops->iter_value(it);
}

static int disk_iter_live(struct kv_iter *it, struct errmsg *e)
{
    return read_fails() ? dassie__errmsg_set(e, UV_EIO, "told to fail to read")
                        : disk.mem->ops->iter_live(it, e);
}

static void disk_iter_next(struct kv_iter *it)
{
    disk.mem->ops->iter_next(it);
}

static void disk_iter_seek(struct kv_iter *it, struct kv_slice from)
{
    disk.mem->ops->iter_seek(it, from);
}

static int disk_iter_close(struct kv_iter *it, struct errmsg *e)
{
    bool fails = it == disk.failing;
    begin();
    int rc = disk.mem->ops->iter_close(it, e);
    end();
    if (fails) {
        disk.failing = NULL;
        return dassie__errmsg_set(e, UV_EIO, "told to fail to read");
    }
    return rc;
}

/* One that is to be clean may not get there. */
static bool disk_close(struct kv *kv, bool clean)
{
    disk_drop(kv);
    disk.clean = clean && !sim_chance(disk_faults.open / 2);
    for (struct batch *at = disk.log; disk.clean && at != NULL; at = at->next) {
        at->synced = true;
    }
    return disk.clean;
}

static const struct kv_ops disk_ops = {
    .put = disk_put,
    .put2 = disk_put2,
    .del = disk_del,
    .del_range = disk_del_range,
    .commit = disk_commit,
    .drop = disk_drop,
    .reopen = disk_reopen,
    .get = disk_get,
    .value_release = disk_value_release,
    .snapshot = disk_snapshot,
    .snapshot_release = disk_snapshot_release,
    .iter = disk_iter,
    .iter_valid = disk_iter_valid,
    .iter_key = disk_iter_key,
    .iter_value = disk_iter_value,
    .iter_live = disk_iter_live,
    .iter_next = disk_iter_next,
    .iter_seek = disk_iter_seek,
    .iter_close = disk_iter_close,
    .close = disk_close,
    .shared_reads = false,
};

/* ---- What befalls it ---- */

enum disk_place disk_place(void)
{
    return disk.place;
}

bool disk_clean(void)
{
    return disk.clean;
}

struct kv *disk_kv(void)
{
    return disk.mem;
}

void disk_kill(void)
{
    disk_drop(&disk.kv);
    disk.failing = NULL;
}

/* Which of the commits that are not synced are lost: the last ones, or a few in
 * a row from the middle, or what was in doubt. */
static bool choose_lost(const struct batch *batch, unsigned n, unsigned from,
                        unsigned to)
{
    if (batch->synced) {
        return false;
    }
    return batch->doubtful ? from % 2 == 0 : n >= from && n < to;
}

/* Writes what is left into a new database. */
static unsigned log_replay(unsigned from, unsigned to)
{
    struct batch **at = &disk.log;
    unsigned lost = 0;
    struct errmsg e;
    for (unsigned n = 0; *at != NULL; n++) {
        struct batch *batch = *at;
        if (choose_lost(batch, n, from, to)) {
            *at = batch->next;
            entries_free(batch->entries);
            free(batch);
            lost++;
            continue;
        }
        for (struct entry *entry = batch->entries; entry != NULL;
             entry = entry->next) {
            if (entry->type == PUT) {
                disk.mem->ops->put(disk.mem, entry->family, entry_key(entry),
                                   entry_value(entry));
            } else if (entry->type == DEL) {
                disk.mem->ops->del(disk.mem, entry->family, entry_key(entry));
            } else {
                disk.mem->ops->del_range(disk.mem, entry->family,
                                         entry_key(entry), entry_value(entry));
            }
        }
        disk.mem->ops->commit(disk.mem, true, &e);
        batch->synced = true;
        batch->doubtful = false;
        at = &batch->next;
    }
    disk.log_end = at;
    return lost;
}

/* Nothing of the recorder was synced but its head. */
static void recorder_cut(void)
{
    char path[PATH_MAX + 16];
    struct recorder_slot slot = {0};
    snprintf(path, sizeof path, "%s/inflight", disk.path);
    int fd = open(path, O_WRONLY);
    for (int i = 0; fd >= 0 && i < DASSIE_CLAIMED_MAX; i++) {
        if (sim_chance(300) &&
            pwrite(fd, &slot, sizeof slot,
                   (off_t)(sizeof(struct recorder_page) +
                           (size_t)i * sizeof slot)) != sizeof slot) {
            sim_fail("the recorder cannot be written");
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* The flight recorder begins. */
int sim_msync(void *p, size_t n, int flags)
{
    (void)p;
    (void)n;
    (void)flags;
    model_recovered();
    errno = EIO;
    return sim_chance(disk_faults.open / 2) ? -1 : 0;
}

unsigned disk_power_cut(void)
{
    unsigned unsynced = 0;
    unsigned synced = 0;
    for (struct batch *at = disk.log; at != NULL; at = at->next) {
        unsynced += !at->synced;
        synced += at->synced;
    }
    recorder_cut();
    if (unsynced == 0) {
        return 0;
    }
    unsigned from = synced + sim_below(unsynced + 1);
    unsigned to = sim_chance(300) ? from + 1 + sim_below(4) : UINT_MAX;
    begin();
    dassie__kv_mem_free(disk.mem);
    disk.mem = dassie__kv_mem_new();
    unsigned lost = log_replay(from, to);
    end();
    return lost;
}

static uint64_t free_bytes(const char *path)
{
    (void)path;
    return disk_free_bytes;
}

void disk_begin(const char *path)
{
    char inflight[PATH_MAX + 16];
    memset(&disk, 0, sizeof disk);
    memset(&disk_faults, 0, sizeof disk_faults);
    snprintf(disk.path, sizeof disk.path, "%s", path);
    snprintf(inflight, sizeof inflight, "%s/inflight", path);
    unlink(inflight);
    disk.kv.ops = &disk_ops;
    disk.log_end = &disk.log;
    open_clear();
    disk_commit_ns = 0;
    disk_free_bytes = UINT64_MAX;
    dassie__env.free_bytes = free_bytes;
    begin();
    disk.mem = dassie__kv_mem_new();
    end();
}

void disk_end(void)
{
    open_drop();
    while (disk.log != NULL) {
        struct batch *batch = disk.log;
        disk.log = batch->next;
        entries_free(batch->entries);
        free(batch);
    }
    memory_disk(true);
    dassie__kv_mem_free(disk.mem);
    memory_disk(false);
    SIM_CHECK(memory_of_disk() == 0, "the database has left %u blocks",
              memory_of_disk());
}

/* ---- In place of kv_rocks.c, salvage.c and dir.c ---- */

int dassie__kv_rocks_open(const struct kv_rocks_options *options,
                          struct kv **kv, struct errmsg *e)
{
    SIM_CHECK(options->create == !disk.used, "the database is made anew");
    if (sim_chance(disk_faults.open)) {
        return dassie__errmsg_set(e, UV_EIO, "told to fail to open");
    }
    disk.used = true;
    disk.clean = false;
    disk.place = DISK_IDLE;
    *kv = &disk.kv;
    return 0;
}

bool dassie__kv_rocks_used(const char *dir)
{
    (void)dir;
    return disk.used;
}

/* Nobody asks for it. */
int dassie__salvage(const struct salvage_options *options, struct errmsg *e)
{
    (void)options;
    (void)e;
    return 0;
}

int dassie__backup(struct kv *kv, const char *path, const atomic_int *stop)
{
    (void)kv;
    (void)path;
    (void)stop;
    return UV_ENOTSUP;
}

int dassie__beside_open(const char *dir, size_t memory_bytes,
                        char scratch[PATH_MAX], struct kv **kv, uint64_t *torn,
                        struct errmsg *e)
{
    (void)dir;
    (void)memory_bytes;
    (void)scratch;
    (void)kv;
    (void)torn;
    (void)e;
    return UV_ENOTSUP;
}

void dassie__beside_close(char scratch[PATH_MAX])
{
    (void)scratch;
}

int dassie__dir_beside(struct dir *dir, struct errmsg *e)
{
    (void)dir;
    (void)e;
    return UV_ENOTSUP;
}

int dassie__dir_open(struct dir *dir, const char *path, bool create,
                     struct errmsg *e)
{
    (void)create;
    (void)e;
    snprintf(dir->path, sizeof dir->path, "%s", path);
    return 0;
}

void dassie__dir_close(struct dir *dir)
{
    (void)dir;
}

int dassie__dir_listen(const struct dir *dir, int *fd)
{
    (void)dir;
    (void)fd;
    return UV_ENOTSUP;
}

void dassie__dir_unlisten(const struct dir *dir)
{
    (void)dir;
}

int dassie__dir_sync(const struct dir *dir, struct errmsg *e)
{
    (void)dir;
    (void)e;
    return 0;
}

uint64_t dassie__dir_bytes(const struct dir *dir)
{
    (void)dir;
    return 0;
}

void dassie__dir_forks_watch(void) {}

unsigned dassie__dir_forks(void)
{
    return 0;
}

bool dassie__dir_is_orphan(void)
{
    return false;
}