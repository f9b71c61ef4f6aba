/* save.h: what a job saves while it runs: its progress and a checkpoint.
 *
 * A job that saves nothing has no struct save and no row. What is saved stands
 * in memory at once, under one mutex. It reaches the disk without a commit of
 * its own: a checkpoint rides along with the next one, progress with one that
 * comes a while later; only what has waited for SAVE_NS makes the engine
 * commit. The newest counts, those between are never written.
 *
 * The happy path is: dassie__save_checkpoint() on the thread that runs the job;
 * its operation goes through the inbox to dassie__saves_add(); then
 * dassie__saves_write() puts the row into a batch. dassie__saves_end() does so
 * with the batch in which the run ends, or deletes the row if the job is
 * complete. When the job is to run again dassie__save_load() brings it back.
 *
 * Possible failure modes are: no memory (what was saved before stays); a row
 * that cannot be read (the job's line stops, and that is told).
 *
 * On close: every run has ended. Threads: those that hold the job for the first
 * part, the engine for the second. */
#ifndef DASSIE_SAVE_H_
#define DASSIE_SAVE_H_

#include "error.h"
#include "job.h"

struct store;

/* What is saved is in a commit after so long a time. */
#define SAVE_NS UINT64_C(1000000000)

/* A commit takes no more bytes of it than this and one checkpoint. */
#define SAVE_BATCH_BYTES_MAX (8u << 20)

struct progress {
    uint64_t done;
    uint64_t total;
    size_t text_len;
    char text[DASSIE_PROGRESS_BYTES_MAX + 1]; /* and a zero byte */
};

struct save {
    struct op op; /* first: an operation in the inbox */
    job_t *job;

    /* As an earlier run left it. Fixed while the job is in memory. */
    uint64_t resume_at;
    void *kept;
    size_t kept_len;

    /* Under the mutex. */
    struct progress progress;
    void *data; /* this run's checkpoint, in place of kept if it has one */
    size_t len;
    bool replaced;
    unsigned replacements; /* how often; while the engine writes one it is away,
                              and data is that of the next one */
    bool said;             /* progress is to be told */
    bool urgent;           /* the next commit takes it along */
    bool posted;           /* on its way to the engine, or in its list */

    /* The engine's. */
    struct save *prev;
    struct save *next;
    uint64_t due; /* when it is written at the latest */
    bool listed;
    bool stored; /* it has a row */
};

/* To be written, the oldest first. */
struct saves {
    struct save *head;
    struct save *tail;
};

/* ---- Any thread that holds the job ---- */

/* Each 0 or UV_ENOMEM; *op: to be posted to the engine, or NULL. */
int dassie__save_progress(job_t *job, const struct progress *progress,
                          struct op **op);
int dassie__save_step(job_t *job, uint64_t done, uint64_t total,
                      struct op **op);
int dassie__save_checkpoint(job_t *job, const void *data, size_t len,
                            struct op **op);

/* What the job has saved, of which what an earlier run left may be read; NULL:
 * nothing. */
const struct save *dassie__save_find(const job_t *job);

/* A copy of a job's progress: false if it has none. The engine may ask, too. */
bool dassie__save_get(const job_t *job, struct progress *progress);

/* ---- Engine ---- */

void dassie__saves_add(struct saves *saves, struct op *op, uint64_t mono_ns);

/* Puts what can ride along, or has waited long enough, into the open batch.
 * When to come back: mono_ns or UINT64_MAX. */
uint64_t dassie__saves_write(struct saves *saves, struct store *s,
                             uint64_t mono_ns);

/* The job's run ends in the open batch; complete: what it saved goes. */
void dassie__saves_end(struct saves *saves, struct store *s, job_t *job,
                       bool complete);

/* A job that may have saved something is deleted. */
void dassie__save_delete(struct store *s, uint64_t id);

/* Brings back what an earlier run saved, if it did. */
int dassie__save_load(struct store *s, job_t *job, struct errmsg *e);

/* ---- Memory ---- */

/* Bytes of what was brought back. */
size_t dassie__save_bytes(const job_t *job);
void dassie__save_free(struct save *save);

#endif /* DASSIE_SAVE_H_ */
