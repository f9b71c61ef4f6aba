#include "config.h"

#include "admit.h"

#include "find.h"

#include <string.h>

/* ---- Weighing ---- */

static bool was_touched(const struct admitted *batch, uint64_t id)
{
    if (id >= batch->from) {
        return true;
    }
    for (unsigned i = 0; i < batch->n; i++) {
        if (batch->id[i] == id) {
            return true;
        }
    }
    return false;
}

/* Who holds the key may have to make way: finds it, if it waits. */
static int weigh_holder(struct core *c, struct admit *admit, struct unique *u)
{
    uint64_t id = u->answer;
    job_t *old = NULL;
    if (admit->batch == NULL || was_touched(admit->batch, id)) {
        return ADMIT_LATER;
    }
    if (dassie__core_claimed(c, id) != NULL) {
        return 0;
    }
    int rc = dassie__find(&c->store, id, &old, &c->error);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc; /* its time is not over yet */
    }
    if (old->state != DASSIE_PENDING && old->state != DASSIE_SCHEDULED) {
        dassie__job_free(old);
        return 0;
    }
    u->old = old;
    if (u->on_conflict == DASSIE_CONFLICT_REPLACE) {
        u->answer = 0;
        dassie__unique_reserve(&c->store, u);
    }
    return 0;
}

static int weigh(struct core *c, struct admit *admit, job_t *job)
{
    struct unique *u = job->unique;
    u->old = NULL;
    int rc = dassie__unique_find(&c->store, job, c->wall_ms, &u->answer,
                                 &u->same, &c->error);
    if (rc != 0 || u->same != NULL) {
        return rc;
    }
    if (u->answer == 0) {
        dassie__unique_reserve(&c->store, u);
        return 0;
    }
    return u->on_conflict == DASSIE_CONFLICT_KEEP ? 0
                                                  : weigh_holder(c, admit, u);
}

/* Undoes what was weighed: the jobs before end. */
static void undo(struct core *c, struct job_list *jobs, const job_t *end)
{
    for (job_t *job = jobs->head; job != end; job = job->next) {
        struct unique *u = job->unique;
        if (u == NULL) {
            continue;
        }
        dassie__unique_forgo(&c->store, u);
        if (u->old != NULL) {
            dassie__job_free(u->old);
            u->old = NULL;
        }
    }
}

static int weigh_all(struct core *c, struct job_list *jobs, struct admit *admit)
{
    uint32_t queues = c->store.queues.n;
    for (job_t *job = jobs->head; job != NULL; job = job->next) {
        int rc = dassie__core_prepare(c, job);
        if (rc == 0 && job->unique != NULL) {
            rc = weigh(c, admit, job);
        }
        if (rc != 0) {
            undo(c, jobs, job);
            dassie__queues_drop(&c->store.queues, queues);
            return rc;
        }
    }
    return 0;
}

/* ---- Making way ---- */

/* It waits until the other one would have. */
static void move_old(struct core *c, job_t *old, uint64_t due_ms)
{
    bool kept = false;
    if (due_ms > 0) {
        old->again_ms = due_ms;
        dassie__store_move(&c->store, old, EVENT_POSTPONE, &kept);
    } else if (old->state == DASSIE_SCHEDULED) {
        dassie__store_move(&c->store, old, EVENT_RUN_NOW, &kept);
    } else {
        dassie__job_free(old); /* it is as early as it can be */
        return;
    }
    dassie__core_moved(c, old, kept);
}

static void cancel_old(struct core *c, job_t *old)
{
    static const char text[] = "replaced";
    bool kept;
    dassie__core_cancel(c, old);
    dassie__job_set_out(old, text, sizeof text - 1);
    dassie__unique_release(&c->store, old);
    dassie__store_move(&c->store, old, EVENT_CANCEL, &kept);
    dassie__core_moved(c, old, kept);
}

static void make_way(struct core *c, struct admit *admit, job_t *job)
{
    struct unique *u = job->unique;
    job_t *old = u->old;
    if (old == NULL) {
        return;
    }
    u->old = NULL;
    admit->batch->id[admit->batch->n++] = old->id;
    if (u->on_conflict == DASSIE_CONFLICT_MOVE) {
        move_old(c, old, job->due_ms);
    } else {
        cancel_old(c, old);
    }
}

/* ---- Entering ---- */

/* Returns its id, or that of the job that has its key. Those that have none of
 * their own go to left. */
static uint64_t enter(struct core *c, struct admit *admit, job_t *job,
                      struct job_list *left)
{
    struct unique *u = job->unique;
    if (u != NULL && (u->same != NULL || u->answer != 0)) {
        uint64_t id = u->same != NULL ? u->same->id : u->answer;
        job_list_push(left, job);
        return id;
    }
    uint64_t id = c->store.next;
    admit->first_id = admit->new_n++ == 0 ? id : admit->first_id;
    if (u != NULL) {
        u->id = id;
    }
    dassie__core_enter(c, job);
    return id;
}

int dassie__admit(struct core *c, struct job_list *jobs, struct admit *admit)
{
    struct job_list left = {0};
    job_t *job;
    int rc = weigh_all(c, jobs, admit);
    if (rc != 0) {
        return rc;
    }
    admit->first_id = 0;
    admit->new_n = 0;
    for (job = jobs->head; job != NULL; job = job->next) {
        if (job->unique != NULL) {
            make_way(c, admit, job);
        }
    }
    /* The numbers of the new ones are taken in one go: nothing between them. */
    for (size_t i = 0; (job = job_list_pop(jobs)) != NULL; i++) {
        uint64_t id = enter(c, admit, job, &left);
        if (admit->ids != NULL) {
            admit->ids[i] = id;
        }
    }
    dassie__job_list_free(&left);
    return 0;
}
