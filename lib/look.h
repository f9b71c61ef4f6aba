/* look.h: get and list, answered from one snapshot.
 *
 * The happy path is: the engine captures a look between two commits (the
 * snapshot, and what only its memory knows: which jobs are claimed, where the
 * lines' cursors stand); the reader thread runs it; the loop hands the result
 * to the user and frees it.
 *
 * Possible failure modes are: no memory, damaged rows, read errors: they
 * become the look's status.
 *
 * On close: the engine waits until the reader has no look left.
 *
 * Threads: dassie__look_capture on the engine; dassie__look_run on any thread
 * (on the engine if the database has no shared reads); dassie__look_new and
 * dassie__look_free on the loop. */
#ifndef DASSIE_LOOK_H_
#define DASSIE_LOOK_H_

#include "core.h"

#define LOOK_PAGE_BYTES_MAX ((size_t)16 << 20)

/* What is read for a page of scheduled or ended jobs, with those of other
 * queues and those that were deleted: a page ends then, whatever it holds. */
#define LOOK_READ_ROWS_MAX 10000
#define LOOK_READ_BYTES_MAX ((size_t)64 << 20)

enum look_type { LOOK_GET, LOOK_WATCH, LOOK_LIST, LOOK_METRICS };

/* A claimed job. */
struct look_run {
    uint64_t id;
    uint32_t attempts;
    struct progress *progress; /* or NULL */
};

/* The live part of a line. */
struct look_line {
    struct place from;
    uint64_t tail;
};

struct look {
    struct op op;
    enum look_type type;
    void *req;
    uint64_t id;          /* get */
    dassie_state_t state; /* list */
    unsigned limit;       /* list */
    uint64_t cursor[3];   /* list: where to begin, then where it ended */
    char *queue_name;     /* list: only this queue */
    size_t queue_name_len;
    struct store *store; /* captured: */
    const struct kv_snapshot *snapshot;
    uint32_t queues_n;     /* queues that existed then */
    struct queue *queue;   /* the one named, if it exists */
    struct look_run *runs; /* get: the job, if it is claimed */
    size_t runs_n;
    struct look_line *lines;
    size_t lines_n;
    int status; /* result: */
    dassie_info_t *infos;
    void **blocks;           /* memory behind each info, */
    struct progress **saved; /* and its progress, or NULL */
    size_t n;
    size_t bytes;
    bool more;  /* there may be */
    char *text; /* metrics */
    size_t text_len;
};

/* NULL: no memory. */
struct look *dassie__look_new(enum look_type type, void *req);
void dassie__look_free(struct look *look);

/* Between two commits. A look that needs no reading gets its status at once
 * and false is returned. */
bool dassie__look_capture(struct look *look, struct core *core);
void dassie__look_run(struct look *look);

/* Adds to the page what there is of a job. */
int dassie__look_add(struct look *look, uint64_t id, dassie_state_t state,
                     uint32_t attempts);

/* A claimed job, whose progress is that of its run. */
int dassie__look_add_run(struct look *look, struct look_run *run);

void dassie__count_copy(dassie_count_t *count, const struct tally *tally);

/* Fills info from a job that is still in memory. */
void dassie__look_info(const job_t *job, dassie_info_t *info);

#endif /* DASSIE_LOOK_H_ */
