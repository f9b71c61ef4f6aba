/* schedule.h: what waits for its time, the scheduled family.
 *
 * Rows stand in the order in which they are due. Those up to the head are dead:
 * the head is remembered, and stored with each commit, so nobody ever seeks
 * across them; they are deleted by range when there are many. A row that comes
 * to stand before the head lowers it, and what is dead goes before that. A row
 * out of the middle is deleted by its key.
 *
 * The happy path is: store.c puts a row when a job is to wait;
 * dassie__schedule_promote(), between two commits, moves what is due into its
 * lines, a bounded number at a time; dassie__schedule_due() tells when there is
 * more to do.
 *
 * Possible failure modes are: a read error, no memory, a damaged key: promoting
 * stops before the row in question. A damaged row, or one whose job is damaged,
 * is passed over: the head stays there, and what is due behind it goes by its
 * key. It is tried once more at open, when what stands there changes, and by
 * dassie__schedule_again().
 *
 * Threads: the engine. */
#ifndef DASSIE_SCHEDULE_H_
#define DASSIE_SCHEDULE_H_

#include "store.h"

/* Rows that one commit takes from the schedule at the most. */
#define PROMOTE_MAX 1024

/* The job's row; job->due_ms says when. */
void dassie__schedule_put(struct store *s, const job_t *job, bool history);

/* A row of another kind, and its end before its time. */
void dassie__schedule_put_row(struct store *s, const struct due *due,
                              struct kv_slice value);
void dassie__schedule_remove_row(struct store *s, const struct due *due);

/* Takes the row of a job out of the middle. */
void dassie__schedule_remove(struct store *s, const job_t *job);

/* Sees to what is due, and looks at up to max rows: jobs go to the ends of
 * their lines. Nothing is in the open batch. *n: how many jobs were moved. When
 * s->passed is not 0, *e is of one that was passed over. */
int dassie__schedule_promote(struct store *s, uint64_t wall_ms, unsigned max,
                             unsigned *n, struct errmsg *e);

/* What was passed over is tried again. */
void dassie__schedule_again(struct store *s);

/* No row that was not passed over is due before this; UINT64_MAX: there is
 * none. */
uint64_t dassie__schedule_due(const struct store *s);

/* Deletes the dead rows. */
void dassie__schedule_delete_dead(struct store *s);

#endif /* DASSIE_SCHEDULE_H_ */
