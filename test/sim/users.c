#include "users.h"

#include "disk.h"
#include "enqueues.h"
#include "looks.h"
#include "memory.h"
#include "model.h"
#include "operators.h"
#include "runs.h"
#include "settings.h"
#include "sim.h"
#include "task.h"

#include <string.h>

struct users_plan users_plan;
struct users users;

struct dassie__impl *model_impl(void)
{
    return users.q.impl;
}

bool users_calls(void)
{
    return users.open && !users.closing;
}

/* ---- The queue ---- */

static void on_close(dassie_t *q)
{
    (void)q;
    users.open = users.closing = false;
    looks_closed();
    operators_closed();
    settings_closed();
    runs_closed();
    SIM_SAY("closed");
}

/* Other threads have to be out of their calls. */
static bool op_close(void)
{
    if (!users_calls() || users.calls > 0) {
        return false;
    }
    SIM_SAY("close");
    model_closing();
    users.closing = true;
    int rc = dassie_close(&users.q, on_close);
    SIM_CHECK(rc == 0, "close returns %d", rc);
    reached->closes++;
    return true;
}

static void on_open(dassie_t *q, int status)
{
    (void)q;
    SIM_SAY("open: %d %s", status, dassie_errmsg(&users.q));
    SIM_CHECK(status == 0 || status == UV_EIO || status == UV_ENOMEM,
              "open returns %d: %s", status, dassie_errmsg(&users.q));
    if (status != 0) {
        reached->open_errors++;
        users.failed = true;
    }
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    (void)level;
    SIM_SAY("log: %s", line);
}

static bool op_no_memory(void)
{
    memory_fail(1 + sim_below(12));
    return true;
}

static bool op_break(void)
{
    disk_faults.broken = !disk_faults.broken;
    SIM_SAY("the disk is %s", disk_faults.broken ? "broken" : "mended");
    return true;
}

static bool op_space(void)
{
    disk_free_bytes = disk_free_bytes > 0 ? 0 : UINT64_MAX;
    return true;
}

static bool op_clock(void)
{
    task_wall_ms += (int64_t)sim_below(7200000) - 3600000;
    reached->clock_steps++;
    return true;
}

static bool op_wait(void)
{
    users.next_op = task_now + sim_below(300) * MS;
    return true;
}

/* ---- The table ---- */

static struct op_entry {
    unsigned weight;
    bool (*call)(void); /* false: it could not be done now */
} ops[] = {
    {20, enqueues_one},     {6, enqueues_many},      {30, runs_finish},
    {3, runs_finish_stale}, {6, runs_serve},         {2, runs_stop},
    {4, looks_watch},       {3, looks_look},         {1, looks_drain},
    {6, operators_change},  {1, op_space},           {1, op_clock},
    {2, op_wait},           {3, settings_configure}, {0, op_no_memory},
    {0, op_break},          {0, op_close},
};
#define OPS (sizeof ops / sizeof ops[0])

static void weigh(bool (*call)(void), unsigned weight)
{
    for (size_t i = 0; i < OPS; i++) {
        if (ops[i].call == call) {
            ops[i].weight = weight;
        }
    }
}

static bool op_draw(void)
{
    unsigned sum = 0;
    for (size_t i = 0; i < OPS; i++) {
        sum += ops[i].weight;
    }
    unsigned n = sim_below(sum);
    size_t i = 0;
    while (n >= ops[i].weight) {
        n -= ops[i++].weight;
    }
    return ops[i].call();
}

/* ---- Finishing ---- */

static bool all_done(void)
{
    bool due = false;
    for (unsigned i = 0; i < model.jobs_n; i++) {
        due |= model.job[i].ack_due || model.job[i].done_due;
    }
    return !due && model.facts.n[DASSIE_PENDING] == 0 &&
           model.facts.n[DASSIE_SCHEDULED] == 0 &&
           model.facts.n[DASSIE_RUNNING] == 0;
}

static bool finish_draw(void)
{
    bool some = runs_finish();
    users.next_op = task_now + 5 * MS;
    if (!users_calls() || !model.live) {
        return some;
    }
    return all_done() ? op_close() : settings_resume() || runs_serve_all();
}

/* ---- Tasks ---- */

static void producer_main(void *arg)
{
    (void)arg;
    for (;;) {
        task_sleep(sim_below((unsigned)users_plan.pace_ns) * 3);
        if (users.closing || users.finish || users.q.impl == NULL) {
            return;
        }
        if (sim_chance(700)) {
            enqueues_one();
        } else {
            enqueues_many();
        }
    }
}

static void loop_main(void *arg)
{
    (void)arg;
    if (dassie_init(&users.loop, &users.q) != 0) {
        return;
    }
    users.open = true;
    if (dassie_open(&users.q, users_plan.path, &users_plan.options, on_open) !=
        0) {
        op_close();
    } else if (sim_chance(600)) {
        task_start("producer", producer_main, NULL);
    }
    while (loop_alive()) {
        if (loop_turn()) {
            task_yield();
        } else if (users.next_op > task_now) {
            loop_wait(users.next_op - task_now);
        } else {
            users.next_op = task_now + sim_below((unsigned)users_plan.pace_ns);
            (users.failed ? op_close : users.finish ? finish_draw : op_draw)();
        }
    }
}

static void users_clear(void)
{
    bool finish = users.finish;
    memset(&users, 0, sizeof users);
    users.finish = finish;
    enqueues_begin();
    runs_begin();
    looks_begin();
    operators_begin();
    settings_begin();
}

void users_begin(void)
{
    users_clear();
    users.finish = false;
    users_plan.options.log_cb = on_log;
    weigh(op_no_memory, users_plan.no_memory);
    weigh(op_close, users_plan.close);
    weigh(op_break, users_plan.breaks);
}

void users_process(void)
{
    users_clear();
    task_start("loop", loop_main, NULL);
}

void users_killed(void)
{
    users_clear();
}

void users_finish(bool finish)
{
    users.finish = finish;
}
