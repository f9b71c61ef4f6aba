/* fuzz_wire.c: whatever comes through the admin socket, its decoder returns,
 * reads nothing beside it, and what it takes is what a writer makes. */
#include "config.h"

#include "fuzz.h"

#include "../../lib/wire.h"

#include <string.h>

/* The bytes from p on are what was written. */
static void same(const struct wire_writer *w, const uint8_t *p, size_t len)
{
    MUST(w->n == len);
    MUST(len == 0 || memcmp(w->p, p, len) == 0);
    free(w->p);
}

void fuzz_request(const uint8_t *p, size_t len)
{
    struct wire_request request;
    if (dassie__wire_request_read(p, len, &request) != 0) {
        return;
    }
    struct wire_writer w = {malloc(WIRE_HEAD_BYTES + len), 0};
    struct wire_reader jobs = request.jobs;
    size_t jobs_bytes =
        request.op == WIRE_ENQUEUE ? (size_t)(p + len - jobs.p) : 0;
    MUST(w.p != NULL && jobs_bytes <= len);
    dassie__wire_request_write(&w, &request, jobs_bytes);
    for (uint32_t i = 0; i < request.jobs_n; i++) {
        dassie_spec_t spec;
        MUST(dassie__wire_job_read(&jobs, &spec) == 0);
        dassie__wire_job_write(&w, &spec);
    }
    struct wire_reader head = {w.p, w.p + WIRE_HEAD_BYTES, false};
    MUST(dassie__wire_take(&head, WIRE_HEAD_BYTES) == len);
    memmove(w.p, w.p + WIRE_HEAD_BYTES, len);
    w.n -= WIRE_HEAD_BYTES;
    same(&w, p, len);
}

static void fuzz_event(const uint8_t *p, const uint8_t *end)
{
    struct wire_reader r = {p, end, false};
    dassie_event_t event;
    dassie__wire_event_read(&r, &event);
    if (!r.bad) {
        struct wire_writer w = {malloc((size_t)(end - p)), 0};
        MUST(w.p != NULL);
        dassie__wire_event_write(&w, &event);
        same(&w, p, (size_t)(r.p - p));
    }
}

static void fuzz_check(const uint8_t *p, const uint8_t *end)
{
    struct wire_reader r = {p, end, false};
    dassie_verify_report_t report;
    dassie_problem_t problem;
    dassie__wire_report_read(&r, &report);
    dassie__wire_problem_read(&r, &problem);
    if (!r.bad) {
        struct wire_writer w = {malloc((size_t)(end - p)), 0};
        MUST(w.p != NULL);
        dassie__wire_report_write(&w, &report);
        dassie__wire_problem_write(&w, &problem);
        same(&w, p, (size_t)(r.p - p));
    }
}

/* What a reply may hold: the rest is read as a job, an event, a queue, and a
 * report with a problem. */
void fuzz_reply(const uint8_t *p, size_t len)
{
    struct wire_reader r = {p, p + len, false};
    dassie_info_t info;
    dassie_queue_info_t queue;
    int status;
    if (len < 2 || dassie__wire_reply_read(&r, p[1], &status) != 0) {
        return;
    }
    const uint8_t *from = r.p;
    dassie__wire_info_read(&r, &info);
    if (!r.bad) {
        struct wire_writer w = {malloc(len), 0};
        MUST(w.p != NULL);
        dassie__wire_info_write(&w, &info);
        same(&w, from, (size_t)(r.p - from));
    }
    fuzz_event(from, p + len);
    r.p = from;
    r.bad = false;
    dassie__wire_queue_read(&r, &queue);
    if (!r.bad) {
        struct wire_writer w = {malloc(len), 0};
        MUST(w.p != NULL);
        dassie__wire_queue_write(&w, &queue);
        same(&w, from, (size_t)(r.p - from));
    }
    fuzz_check(from, p + len);
}
