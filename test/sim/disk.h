/* disk.h: the virtual disk under the library.
 *
 * The in-memory database, wrapped: a commit takes virtual time and may fail,
 * with its rows written or not; reads, reopening and opening may fail. All that
 * was committed is kept in a log as well, so that a power cut can take what was
 * not synced: the last commits or some from the middle. A kill leaves what is
 * committed. The directory is virtual, too; the flight recorder is a file.
 * Threads: one. */
#ifndef DASSIE_TEST_SIM_DISK_H_
#define DASSIE_TEST_SIM_DISK_H_

#include <stdbool.h>
#include <stdint.h>

#include "kv.h"

/* What may happen, in a thousand. */
struct disk_faults {
    unsigned commit_absent;  /* a commit fails, and its rows are not there */
    unsigned commit_present; /* or they are */
    unsigned reopen;
    unsigned read;
    unsigned open;
    bool broken; /* no reopening helps */
};
extern struct disk_faults disk_faults;
extern uint64_t disk_commit_ns; /* how long one takes, at the most */
extern uint64_t disk_free_bytes;

/* Where the process is with its commit. */
enum disk_place { DISK_IDLE, DISK_WRITING, DISK_WRITTEN, DISK_DOUBT };
enum disk_place disk_place(void);

/* Whether the last owner closed it properly. */
bool disk_clean(void);

/* path: of the directory that holds the recorder. */
void disk_begin(const char *path);
void disk_end(void);

/* The database, for reading what is committed. */
struct kv *disk_kv(void);

/* The process is gone; what it had not committed, too. */
void disk_kill(void);

/* So is what was not synced. Returns how many commits that took. */
unsigned disk_power_cut(void);

#endif /* DASSIE_TEST_SIM_DISK_H_ */
