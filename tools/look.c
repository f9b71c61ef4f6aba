#include "config.h"

#include "look.h"

#include "out.h"
#include "remote.h"
#include "session.h"

#include <string.h>

/* The answer that is waited for. */
static bool answered;
static int answer;

static int wait_for_answer(int rc)
{
    if (rc != 0) {
        return rc;
    }
    session_wait(&answered);
    return answer;
}

/* ---- Lists ---- */

static const struct selection *selected;
static look_cb tell;
static uint64_t told;

static bool is_selected(const dassie_info_t *job)
{
    const char *name = selected->name;
    uint64_t since = job->ended_ms != 0 ? job->ended_ms : job->enqueued_ms;
    return (name == NULL || (strlen(name) == job->name_len &&
                             memcmp(name, job->name, job->name_len) == 0)) &&
           (selected->age_ms == 0 || age_of(since) >= selected->age_ms);
}

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    (void)req;
    answered = true;
    answer = status;
    for (size_t i = 0; i < n; i++) {
        if (is_selected(&jobs[i])) {
            told++;
            tell(&jobs[i]);
        }
    }
}

/* A page of one state, no more than limit jobs. */
static int list_page(dassie_list_t *req, int state, uint64_t limit)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    options.state = (dassie_state_t)state;
    options.queue = selected->queue;
    options.limit = limit < DASSIE_LIST_MAX ? (unsigned)limit : DASSIE_LIST_MAX;
    if (remote_is()) {
        return remote_list(req, &options, on_list);
    }
    answered = false;
    return wait_for_answer(dassie_list(&session.q, req, &options, on_list));
}

int look_list(const struct selection *selection, struct place_in_list *place,
              uint64_t limit, look_cb cb, bool *more)
{
    uint64_t most = limit != 0 ? limit : UINT64_MAX;
    selected = selection;
    tell = cb;
    told = 0;
    *more = false;
    for (; place->state <= DASSIE_CANCELLED; place->state++) {
        dassie_list_t req = {.more = 1};
        memcpy(req.cursor, place->cursor, sizeof req.cursor);
        while (req.more && (selection->states & DASSIE_IN(place->state)) != 0) {
            if (told == most || session.signal != 0 || !out_good()) {
                *more = true;
                return 0;
            }
            int rc = list_page(&req, place->state, most - told);
            if (rc != 0) {
                return rc;
            }
            memcpy(place->cursor, req.cursor, sizeof req.cursor);
        }
        memset(place->cursor, 0, sizeof place->cursor);
    }
    return 0;
}

/* ---- The others ---- */

static void on_get(dassie_get_t *req, int status, const dassie_info_t *job)
{
    (void)req;
    answered = true;
    answer = status;
    if (status == 0) {
        tell(job);
    }
}

int look_get(uint64_t id, look_cb cb)
{
    dassie_get_t req = {.data = NULL};
    if (remote_is()) {
        return remote_get(id, cb);
    }
    tell = cb;
    answered = false;
    return wait_for_answer(dassie_get(&session.q, &req, id, on_get));
}

static void (*tell_queues)(const dassie_queue_info_t *queues, size_t n);

static void on_queues(dassie_queues_t *req, int status,
                      const dassie_queue_info_t *queues, size_t n)
{
    (void)req;
    answered = true;
    answer = status;
    if (status == 0) {
        tell_queues(queues, n);
    }
}

int look_queues(void (*cb)(const dassie_queue_info_t *queues, size_t n))
{
    dassie_queues_t req = {.data = NULL};
    if (remote_is()) {
        return remote_queues(cb);
    }
    tell_queues = cb;
    answered = false;
    return wait_for_answer(dassie_queues(&session.q, &req, on_queues));
}

static const char *wanted;
static dassie_count_t *wanted_count;

/* The answer is UV_ENOENT unless this finds it. */
static void find_queue(const dassie_queue_info_t *queues, size_t n)
{
    size_t len = strlen(wanted);
    for (size_t i = 0; i < n; i++) {
        if (queues[i].name_len == len &&
            memcmp(queues[i].name, wanted, len) == 0) {
            *wanted_count = queues[i].jobs;
            answer = 0;
        }
    }
}

static int remote_counts(const char *queue, dassie_count_t *count)
{
    wanted = queue;
    wanted_count = count;
    answer = UV_ENOENT;
    int rc = remote_queues(find_queue);
    return rc != 0 ? rc : answer;
}

static void on_counts(dassie_counts_t *req, int status,
                      const dassie_count_t *count)
{
    answered = true;
    answer = status;
    if (status == 0) {
        *(dassie_count_t *)req->data = *count;
    }
}

int look_counts(const char *queue, dassie_count_t *count)
{
    dassie_counts_t req = {.data = count};
    if (remote_is()) {
        return remote_counts(queue, count);
    }
    answered = false;
    return wait_for_answer(
        dassie_counts(&session.q, &req, queue, 0, on_counts));
}
