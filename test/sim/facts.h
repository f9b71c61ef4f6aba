/* facts.h: what the rows say of each job, read without the library's store.
 *
 * A job's state is, by precedence: its terminal row; a live entry of a claim
 * set; a scheduled row at the time that its history names, or any if it has
 * none; a pending row at the place that its history names, or at its id.
 * Whether counts and cursors agree is not asked here: dassie__verify_kv() is
 * for that. Threads: one. */
#ifndef DASSIE_TEST_SIM_FACTS_H_
#define DASSIE_TEST_SIM_FACTS_H_

#include "kv.h"
#include "record.h"

#define TOKENS_MAX 160
#define OUT_MAX 32

#define FACT_NONE (-1) /* no state: something was lost */

struct fact {
    uint64_t id; /* 0: it is not there */
    int state;   /* dassie_state_t, or FACT_NONE */
    uint32_t queue;
    int8_t priority;
    uint8_t flags;
    bool history;
    uint8_t kind;      /* where it is, or was, pending, or PLACE_SCHEDULED */
    uint64_t position; /* or its id, or when it is due */
    uint64_t set;      /* that holds its claim */
    uint32_t attempts;
    uint64_t expires_ms; /* its first run has to begin before; 0: never */
    uint32_t excused;    /* of them, until it has ended */
    uint32_t crashes;
    uint64_t last_run;
    int code;
    char out[OUT_MAX]; /* the begin of what it has left behind */
    size_t out_len;
};

/* Whether it is in one of those states. */
static inline bool fact_in(const struct fact *fact, unsigned states)
{
    return fact->state != FACT_NONE && (states & DASSIE_IN(fact->state)) != 0;
}

struct facts {
    struct fact job[TOKENS_MAX]; /* by token */
    unsigned n[7];               /* jobs by state */
};

void facts_read(struct kv *kv, struct facts *facts);

/* A job's name is its token, and its payload follows from that. */
int facts_token(const char *name, size_t len);
size_t facts_payload(unsigned token, uint8_t data[400]);

#endif /* DASSIE_TEST_SIM_FACTS_H_ */
