#include "config.h"

#include "retry.h"

uint64_t dassie__retry_backoff(const struct retry_policy *policy, uint32_t n)
{
    uint64_t ms = policy->backoff_ms;
    for (uint32_t i = 1; i < n && ms < policy->backoff_max_ms; i++) {
        ms *= 2;
    }
    return ms < policy->backoff_max_ms ? ms : policy->backoff_max_ms;
}

uint64_t dassie__retry_delay(const struct retry_policy *policy, uint32_t n,
                             uint64_t random)
{
    uint64_t ms = dassie__retry_backoff(policy, n);
    uint64_t width = ms / 2; /* from 3/4 to 5/4 of it */
    return ms - ms / 4 + (width == 0 ? 0 : random % (width + 1));
}

uint64_t dassie__time_add(uint64_t a_ms, uint64_t b_ms)
{
    const uint64_t max = DASSIE_TIME_MS_MAX;
    return a_ms >= max || b_ms >= max - a_ms ? max : a_ms + b_ms;
}

bool dassie__retry_may(const struct retry_policy *policy, uint32_t n,
                       uint64_t due_ms)
{
    return n < policy->attempts_max && due_ms <= policy->until_ms;
}
