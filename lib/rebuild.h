/* rebuild.h: a store set right after a power cut took unsynced commits.
 *
 * Under DASSIE_OFF a power cut may take whole commits: the last ones, in rare
 * cases some from the middle. A commit is atomic, so each row that is left is
 * right by itself, but rows of different commits may disagree. Certain are
 * jobs, their ends, their histories and the queues' names; what follows from
 * them is made anew:
 *
 *   an end without its job                      goes
 *   a job with an end                           has ended; of two ends the one
 *                                               of the later run counts, else
 *                                               the good one
 *   no end, a pending or scheduled row at its   stays there
 *     last place
 *   no end, claimed, or without any row, or     was claimed: comes back as if
 *     with one that a cursor has passed         no recorder knew of it
 *   a unique key of a job that has ended or     goes; one that a job needs and
 *     is gone                                   nobody has is taken again
 *   what a job has saved that is complete,      goes
 *     gone, or not known to have run
 *   all other pending and scheduled rows, all   go
 *     claim sets
 *   a queue without a name                      gets one, "recovered-3"
 *   the next number, the number of the commit   are above all that were seen
 *
 * A job without any row was claimed, as its row came in one commit with its
 * pending row or its claim. Attempts are the most that is known of.
 *
 * The happy path is: read names and counts (of which only the cursors are
 * used); turn claims into history rows; walk jobs, ends and histories in step
 * and settle one job after the other; delete the pending rows that are nobody's
 * place; write one fold, synced, and with it all that went before.
 *
 * Possible failure modes are: no memory, a read or a write that fails; rows
 * that nobody writes (DASSIE_ECORRUPT: that is damage, not a lost commit). What
 * was rebuilt so far stays. Each batch leaves every job that it touches as a
 * lost commit might have left it: so a rebuild that was interrupted, by another
 * power cut even, is begun again from the start, until it has reached its end.
 * The flight recorder is the mark: it tells of the power cut until it is begun
 * anew, which is after the rebuild.
 *
 * On close: nothing is kept. Memory: queues and lines, and a batch of bounded
 * size. Threads: the engine. */
#ifndef DASSIE_REBUILD_H_
#define DASSIE_REBUILD_H_

#include "kv.h"

/* How many of the jobs that are gone are told by id. */
#define REBUILD_IDS 16

struct rebuild_report {
    uint64_t jobs;    /* kept */
    uint64_t again;   /* of them: were claimed, and come back or fail */
    uint64_t dropped; /* jobs of which only other rows were left */
    uint64_t added;   /* rows written beside the counts, */
    uint64_t removed; /* and deleted, dead pending rows aside */
    uint32_t named;   /* queues that got a name */
    uint64_t dropped_id[REBUILD_IDS]; /* the first of those dropped */
};

/* Rebuilds a database that no store is open on. So many numbers are passed
 * over, as they may have been given to jobs that nothing tells of any more. */
int dassie__rebuild(struct kv *kv, uint64_t wall_ms, uint64_t skip,
                    struct rebuild_report *report, struct errmsg *e);

#endif /* DASSIE_REBUILD_H_ */
