#include "config.h"

#include "meter.h"

#include "alloc.h"

const struct scale dassie__scale_waiting = {
    .decimals = 3,
    .n = 12,
    .bound = {1, 5, 25, 100, 500, 2500, 10000, 60000, 300000, 1800000, 7200000,
              43200000}};

const struct scale dassie__scale_running = {
    .decimals = 6,
    .n = 12,
    .bound = {100, 500, 2500, 10000, 50000, 250000, 1000000, 5000000, 30000000,
              180000000, 1200000000, 7200000000}};

const struct scale dassie__scale_commit = {
    .decimals = 6,
    .n = 13,
    .bound = {50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 200000,
              1000000, 5000000}};

const struct scale dassie__scale_rows = {
    .n = 9,
    .bound = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536}};

const struct scale dassie__scale_bytes = {
    .n = 9,
    .bound = {256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304,
              16777216}};

struct meter *dassie__meters_next(struct meters *meters)
{
    uint32_t n = atomic_load_explicit(&meters->own_n, memory_order_relaxed);
    if (n == DASSIE_METRICS_QUEUES_MAX) {
        return &meters->others;
    }
    if (meters->own[n] == NULL) {
        meters->own[n] = dassie__calloc(1, sizeof *meters->own[n]);
    }
    return meters->own[n];
}

void dassie__meters_add(struct meters *meters, const char *name,
                        size_t name_len)
{
    uint32_t n = atomic_load_explicit(&meters->own_n, memory_order_relaxed);
    if (n == DASSIE_METRICS_QUEUES_MAX) {
        atomic_fetch_add_explicit(&meters->others_n, 1, memory_order_relaxed);
        return;
    }
    meters->own[n]->name = name;
    meters->own[n]->name_len = name_len;
    atomic_store_explicit(&meters->own_n, n + 1, memory_order_release);
}

void dassie__meters_free(struct meters *meters)
{
    for (uint32_t i = 0; i < DASSIE_METRICS_QUEUES_MAX; i++) {
        dassie__free(meters->own[i]);
    }
}
