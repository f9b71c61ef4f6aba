/* timeout.c: runs whose time is over; a part of core.h.
 *
 * At its timeout a run is asked to end. If it has not done so a while later it
 * is hung. That is told; and where its processor has a spare slot the run is
 * given up: its attempt ends as one that failed, durably, and the job goes its
 * way as a copy. What the thread holds stays until it comes back, and what it
 * says then does not count. */
#include "config.h"

#include "claims.h"
#include "core.h"

/* False: it has just ended. */
static bool tell_hung(struct core *c, job_t *job, bool spare)
{
    return c->hung != NULL ? c->hung(c->hung_arg, job, spare)
                           : spare && limit_give_up(job);
}

/* The first one that waits for a spare slot of p. */
static job_t *hung_next(const struct core *c, const struct dassie__processor *p)
{
    for (uint32_t i = 0; i < c->claimed_high; i++) {
        job_t *job = c->claimed[i];
        if (job != NULL && job->processor == p && job->hung) {
            return job;
        }
    }
    return NULL;
}

/* A spare of p is free. */
static void give_up_next(struct core *c, const struct dassie__processor *p)
{
    job_t *next = hung_next(c, p);
    if (next != NULL) {
        dassie__limits_remove(&c->limits, next);
        dassie__limits_add(&c->limits, next, c->mono_ns);
    }
}

static void give_up(struct core *c, job_t *job)
{
    struct dassie__processor *p = job->processor;
    job_t *copy = dassie__job_copy(job);
    if (copy == NULL) {
        dassie__limits_add(&c->limits, job, c->mono_ns + STARVED_NS);
        return;
    }
    if (!tell_hung(c, job, true)) {
        dassie__job_free(copy);
        job->hung = false;
        give_up_next(c, p);
        return;
    }
    if (dassie__save_find(job) != NULL) {
        dassie__saves_end(&c->saves, &c->store, job, false);
    }
    dassie__claims_replace(job, copy);
    copy->req = job->req;
    job->req = NULL;
    copy->unique = job->unique;
    job->unique = NULL;
    job->given_up = true;
    c->alone = c->alone == job ? copy : c->alone;
    p->hung_n++;
    c->hung_n++;
    c->stats.given_up++;
    copy->began_ns = job->began_ns;
    copy->ran_ns = c->mono_ns - job->began_ns;
    copy->status = UV_ETIMEDOUT;
    copy->verdict =
        (job->flags & DASSIE_AT_MOST_ONCE) != 0 ? VERDICT_NO_RETRY : 0;
    dassie__core_finish(c, copy);
}

/* At most so many of a processor's runs are given up and not back yet. */
static bool has_spare(const job_t *job)
{
    return job->processor->hung_n < job->processor->spares;
}

static void run_hung(struct core *c, job_t *job)
{
    bool spare = has_spare(job);
    bool known = job->hung;
    job->hung = true;
    if (spare) {
        give_up(c, job);
    } else if (!known) {
        tell_hung(c, job, false);
    }
}

static void run_passed(struct core *c, job_t *job)
{
    uint64_t again;
    if (job->timed_out) {
        run_hung(c, job);
    } else if (dassie__limit_pass(job, c->mono_ns, &again)) {
        job->timed_out = true;
        job->cancel_untold = true;
        job_ask_end(job, UV_ETIMEDOUT);
        c->untold = true;
        c->stats.timed_out++;
        dassie__store_tell(&c->store, job, NULL);
        dassie__limits_add(&c->limits, job,
                           c->mono_ns + job->processor->hung_ns);
    } else if (again != UINT64_MAX) {
        dassie__limits_add(&c->limits, job, again);
    }
}

void dassie__core_timeouts(struct core *c)
{
    job_t *job;
    while ((job = dassie__limits_next(&c->limits, c->mono_ns)) != NULL) {
        run_passed(c, job);
    }
}

void dassie__core_late(struct core *c, job_t *job)
{
    struct dassie__processor *p = job->processor;
    p->hung_n--;
    c->hung_n--;
    job_list_push(&c->gone, job);
    give_up_next(c, p);
}
