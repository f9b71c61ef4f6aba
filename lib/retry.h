/* retry.h: whether a run that has ended badly is followed by another, and when.
 *
 * With n attempts failed so far, the next one is due after
 *
 *     min(backoff_ms * 2^(n - 1), backoff_max_ms) * jitter
 *
 * where jitter is uniform in [0.75, 1.25]. Pure: clock and randomness are
 * arguments. Threads: any. */
#ifndef DASSIE_RETRY_H_
#define DASSIE_RETRY_H_

#include <stdbool.h>
#include <stdint.h>

#include "dassie.h"

struct retry_policy {
    uint64_t attempts_max;
    uint64_t backoff_ms;
    uint64_t backoff_max_ms;
    uint64_t until_ms; /* no retry begins later; UINT64_MAX: any may */
};

/* That without jitter. */
uint64_t dassie__retry_backoff(const struct retry_policy *policy, uint32_t n);

/* random: any 64 bits. */
uint64_t dassie__retry_delay(const struct retry_policy *policy, uint32_t n,
                             uint64_t random);

/* a + b, but no later than DASSIE_TIME_MS_MAX. */
uint64_t dassie__time_add(uint64_t a_ms, uint64_t b_ms);

/* Whether there is another attempt after n have failed, if it would be due
 * then. */
bool dassie__retry_may(const struct retry_policy *policy, uint32_t n,
                       uint64_t due_ms);

#endif /* DASSIE_RETRY_H_ */
