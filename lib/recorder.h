/* recorder.h: the flight recorder, DIR/inflight.
 *
 * A small, really allocated, memory-mapped file with a slot for each claimed
 * job that has no committed outcome yet. What is stored there survives any
 * death of the process, at the cost of a few stores a job. It says which jobs
 * were executing, and whether one was running alone. A power cut voids it:
 * then the boot id differs.
 *
 * The happy path is: dassie__recorder_open reads what the last owner left,
 * dassie__recorder_begin wipes it once recovery is committed; then take
 * (engine), executing and ended (pool thread; the engine for async jobs),
 * release after the commit that holds the outcome.
 *
 * On a file system that copies on write a store to the mapping needs space, and
 * is a SIGBUS if there is none, however well the file was allocated. There the
 * file is not mapped but written, a byte at a time. Such a write may fail; then
 * the file goes, and after a crash each claimed job counts an attempt. Where
 * the owner does not sync, the file has to stay to tell of that, and a run may
 * go uncounted; a job that runs at most once is "executing" from its claim on.
 *
 * Possible failure modes are: no disk space at open (told); no valid recorder
 * (dassie__recorder_found() says unknown for all), or damage within (it says so
 * for those slots).
 *
 * On close: marked clean, when the store is.
 *
 * Threads: the engine, but for executing and ended. Never the loop: a store to
 * a clean shared page waits while the file system is frozen. */
#ifndef DASSIE_RECORDER_H_
#define DASSIE_RECORDER_H_

#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>

#include "env.h"
#include "error.h"
#include "state.h"

struct recorder_slot {
    uint64_t id;
    uint32_t attempt;
    _Atomic uint8_t phase; /* enum phase */
    _Atomic uint8_t alone; /* SLOT_ALONE or 0 */
    uint16_t unused;
};

/* Far enough apart that a flipped bit makes none of another. */
enum phase {
    PHASE_FREE = 0,
    PHASE_CLAIMED = 0x33,
    PHASE_EXECUTING = 0x55,
    PHASE_ENDED = 0x66
};
#define SLOT_ALONE 0x5a

struct recorder_page {
    uint64_t magic;
    uint8_t boot_id[BOOT_ID_BYTES];
    uint32_t slots;
    uint32_t clean;    /* the owner closed it properly */
    uint32_t unsynced; /* the owner wrote without syncing */
    uint32_t unused;
    struct recorder_slot slot[];
};

struct recorder {
    struct recorder_page *page;
    size_t bytes;
    int fd;                     /* -1: in memory only */
    bool unmapped;              /* each change of the page is written */
    char path[PATH_MAX];        /* if so */
    bool valid;                 /* the last owner's slots say what happened */
    bool clean;                 /* the last owner closed */
    bool power_cut;             /* the machine was booted since */
    bool was_unsynced;          /* and the last owner had not synced */
    struct recorder_slot *last; /* its slots, by id and attempt */
    uint32_t last_n;
    uint32_t *free_slots;
    uint32_t free_n;
};

/* path NULL: in memory only, for tests. */
int dassie__recorder_open(struct recorder *r, const char *path,
                          struct errmsg *e);

/* Whether unsynced commits may be lost: the last owner did not sync, did not
 * close, and the machine was booted since. Changes nothing. */
bool dassie__recorder_lossy(const char *path);

/* What the last owner's recorder says of a run. */
enum found dassie__recorder_found(const struct recorder *r, uint64_t id,
                                  uint32_t attempt);

/* Forgets the last owner and begins its own record. unsynced: commits are not
 * fsynced. */
int dassie__recorder_begin(struct recorder *r, bool unsynced, struct errmsg *e);
void dassie__recorder_close(struct recorder *r, bool clean);

/* A free slot, or UINT32_MAX. */
uint32_t dassie__recorder_take(struct recorder *r, uint64_t id,
                               uint32_t attempt);
void dassie__recorder_release(struct recorder *r, uint32_t slot);

/* Writes a part of the page, if it is not mapped. */
void dassie__recorder_write(const struct recorder *r, const void *p, size_t n);

static inline void recorder_phase(struct recorder *r, uint32_t slot,
                                  enum phase phase)
{
    atomic_store_explicit(&r->page->slot[slot].phase, phase,
                          memory_order_release);
    if (r->unmapped) {
        dassie__recorder_write(r, &r->page->slot[slot].phase, 1);
    }
}

static inline void recorder_executing(struct recorder *r, uint32_t slot)
{
    recorder_phase(r, slot, PHASE_EXECUTING);
}

/* It was to be, but is not. */
static inline void recorder_not_started(struct recorder *r, uint32_t slot)
{
    recorder_phase(r, slot, PHASE_CLAIMED);
}

static inline void recorder_ended(struct recorder *r, uint32_t slot)
{
    recorder_phase(r, slot, PHASE_ENDED);
}

static inline void recorder_alone(struct recorder *r, uint32_t slot, bool on)
{
    atomic_store_explicit(&r->page->slot[slot].alone, on ? SLOT_ALONE : 0,
                          memory_order_release);
    if (r->unmapped) {
        dassie__recorder_write(r, &r->page->slot[slot].alone, 1);
    }
}

#endif /* DASSIE_RECORDER_H_ */
