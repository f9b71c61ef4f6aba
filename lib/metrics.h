/* metrics.h: what is counted, as text in the format of Prometheus.
 *
 * One family after the other, each with its HELP and TYPE. A queue's name may
 * hold any byte, and the value of a label any Unicode text: so a control
 * character, a backslash and each byte that is no part of UTF-8 become \xNN,
 * which keeps the names of two queues apart and a line a line.
 *
 * Possible failure modes are: no memory for the text.
 *
 * Threads: any, while what the meters are read from stays. */
#ifndef DASSIE_METRICS_H_
#define DASSIE_METRICS_H_

#include "kv.h"
#include "meter.h"

struct metrics {
    dassie_stats_t stats;
    struct kv_counts counts;
    uint64_t store_bytes;
    const struct meters *meters; /* NULL: the store is not open */
    const struct commit_meter *commits;
};

/* The caller's to free; a zero byte follows. Errors: UV_ENOMEM. */
int dassie__metrics_text(const struct metrics *m, char **text, size_t *len);

#endif /* DASSIE_METRICS_H_ */
