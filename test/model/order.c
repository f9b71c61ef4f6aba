#include "config.h"

#include "order.h"

#include <inttypes.h>
#include <string.h>

#define PRIORITIES (DASSIE_PRIORITY_MAX - DASSIE_PRIORITY_MIN + 1)
#define AFTER_RANKS (UINT64_C(1) << 32)

struct order {
    int who;
    uint32_t servers;       /* all who serve it, a bit each */
    bool seen;              /* the order of starts */
    uint64_t lots;          /* of jobs that may have been handed back */
    uint64_t work_since_ns; /* when a work processor came; 0: there is none */
    uint32_t waiting;       /* jobs with a rank that have not begun */
    uint32_t rank;          /* the last one that has */
    uint32_t passed;        /* by weights: jobs of other queues since */
    uint64_t last[PRIORITIES]; /* rank, or AFTER_RANKS + id */
};

static struct order orders[PLAN_QUEUES];
static uv_mutex_t mutex;
static uv_once_t once = UV_ONCE_INIT;

static void mutex_make(void)
{
    MODEL_CHECK(uv_mutex_init(&mutex) == 0, "no mutex");
}

void order_open(void)
{
    uv_once(&once, mutex_make);
    memset(orders, 0, sizeof orders);
    for (unsigned q = 0; q < PLAN_QUEUES; q++) {
        orders[q].who = ORDER_NOBODY;
        orders[q].seen = !ledger->paused[q];
    }
    for (uint32_t i = 0; i < ledger->jobs_n; i++) {
        const struct fact *fact = &ledger->facts[i];
        if (fact->rank > 0) {
            orders[fact->queue].waiting++;
            orders[fact->queue].lots |= fact->served;
        }
    }
}

/* So many lots may have been handed back by now. */
static uint64_t lots(const struct order *order)
{
    uint64_t ms = order->work_since_ns == 0
                      ? 0
                      : (uv_hrtime() - order->work_since_ns) / 1000000;
    return order->lots + ms / ORDER_RETURN_MS;
}

void order_served(int who, const unsigned *queues, unsigned n, bool serial,
                  bool async)
{
    uv_mutex_lock(&mutex);
    for (unsigned i = 0; i < n; i++) {
        struct order *order = &orders[queues[i]];
        ledger->served[queues[i]] = true;
        if (order->who != ORDER_NOBODY || !serial) {
            order->seen = false;
        }
        order->who = who;
        order->servers |= 1u << who;
        order->work_since_ns = async ? 0 : uv_hrtime();
    }
    uv_mutex_unlock(&mutex);
}

void order_left(int who, const unsigned *queues, unsigned n)
{
    uv_mutex_lock(&mutex);
    for (unsigned i = 0; i < n; i++) {
        struct order *order = &orders[queues[i]];
        order->servers &= ~(1u << who);
        if (order->who == who) {
            bool async = order->work_since_ns == 0;
            order->lots = lots(order) + (async ? 2 : 1);
            order->work_since_ns = 0;
            order->who = ORDER_NOBODY;
        }
    }
    uv_mutex_unlock(&mutex);
}

void order_paused(unsigned queue)
{
    uv_mutex_lock(&mutex);
    orders[queue].seen = false;
    for (unsigned q = 0; q < PLAN_QUEUES; q++) {
        orders[q].lots += (orders[q].servers & orders[queue].servers) != 0;
    }
    uv_mutex_unlock(&mutex);
}

static void judge(struct order *order, uint32_t number, const struct plan *plan)
{
    const struct fact *fact = &ledger->facts[number];
    uint64_t *last = &order->last[plan->spec.priority - DASSIE_PRIORITY_MIN];
    uint64_t place = fact->rank > 0 ? fact->rank : AFTER_RANKS + fact->id;
    MODEL_CHECK(place > *last,
                "job %" PRIu32 " (id %" PRIu64
                ") starts after a later one of its priority",
                number, fact->id);
    *last = place;
    if (fact->rank > 0) {
        MODEL_CHECK(fact->rank > order->rank,
                    "job %" PRIu32 " (id %" PRIu64
                    ") starts after one of a lower priority",
                    number, fact->id);
        order->rank = fact->rank;
    }
}

/* Whether a queue before this one still has a job with a rank. */
static void judge_queues(uint32_t number, unsigned queue,
                         const struct order_turn *turn)
{
    for (unsigned i = 0; i < turn->n && turn->queues[i] != queue; i++) {
        const struct order *order = &orders[turn->queues[i]];
        MODEL_CHECK(!order->seen || order->waiting == 0,
                    "job %" PRIu32 " (id %" PRIu64
                    ") starts before those of a queue that goes first",
                    number, ledger->facts[number].id);
    }
}

/* Jobs that others may begin before the next one of a queue with jobs: two
 * rounds, as those handed back are claimed twice. */
static uint32_t passed_most(const struct order_turn *turn, unsigned i)
{
    uint32_t round = 0;
    for (unsigned j = 0; j < turn->n; j++) {
        round += turn->weights[j] / turn->weights[i] + 1;
    }
    return 2 * round + 4;
}

/* Whether a queue with jobs that have a rank waits longer than its share. */
static void judge_shares(uint32_t number, unsigned queue,
                         const struct order_turn *turn)
{
    for (unsigned i = 0; i < turn->n; i++) {
        struct order *order = &orders[turn->queues[i]];
        bool waits = turn->queues[i] != queue && order->who == turn->who &&
                     order->seen && order->waiting > 0;
        order->passed = waits ? order->passed + 1 : 0;
        MODEL_CHECK(order->passed <= passed_most(turn, i),
                    "job %" PRIu32 " (id %" PRIu64
                    ") starts while those of queue %u wait for ever",
                    number, ledger->facts[number].id, turn->queues[i]);
    }
}

void order_free(uint32_t number, bool deletes)
{
    struct fact *fact = &ledger->facts[number];
    uv_mutex_lock(&mutex);
    if (!fact->free && fact->rank > 0 && !fact->started) {
        orders[fact->queue].waiting--;
    }
    model_free(number, deletes);
    uv_mutex_unlock(&mutex);
}

void order_begun(uint32_t number, const struct order_turn *turn)
{
    struct fact *fact = &ledger->facts[number];
    struct plan plan;
    plan_job(ledger->seed, number, &plan);
    if (fact->attempts > 0 || !plan_in_order(&plan)) {
        return;
    }
    uv_mutex_lock(&mutex);
    struct order *order = &orders[plan.queue];
    if (fact->free) {
        uv_mutex_unlock(&mutex);
        return;
    }
    fact->started = true;
    if (fact->rank > 0) {
        order->waiting--;
    }
    if (order->seen && lots(order) <= 1) {
        judge(order, number, &plan);
    }
    if (turn->weights != NULL) {
        judge_shares(number, plan.queue, turn);
    } else if (order->seen) {
        judge_queues(number, plan.queue, turn);
    }
    uv_mutex_unlock(&mutex);
}
