/* retry.c: a job that fails, is tried again, fails for good, and is tried once
 * more when somebody says so.
 *
 * usage: retry DIR [MS]
 *
 * A payment is to be collected in MS (100) milliseconds, but the bank is
 * closed. It is tried three times, after MS and twice MS, each a quarter more
 * or less; then it has failed, and stays. An operator looks at what has failed,
 * opens the bank, and has it tried again. Each step is told.
 */
#include <dassie.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static const char queue[] = "payments";
static atomic_bool bank_is_open;
static int error; /* the first there was */

static void leave(dassie_t *q, int status)
{
    error = error != 0 ? error : status;
    dassie_close(q, NULL); /* again, it says no and does nothing */
}

/* On a thread of libuv's pool. */
static int collect(dassie_job_t *job)
{
    if (!atomic_load(&bank_is_open)) {
        dassie_job_set_error(job, "the bank is closed", 0);
        return UV_ECONNREFUSED; /* any error will do */
    }
    return 0;
}

/* ---- The operator ---- */

static void retried(dassie_change_t *req, int status)
{
    if (status != 0) {
        leave(req->q, status);
    }
}

static void listed(dassie_list_t *req, int status, const dassie_info_t *jobs,
                   size_t n)
{
    static dassie_change_t change;
    dassie_filter_t filter = DASSIE_FILTER_INIT;
    for (size_t i = 0; i < n; i++) {
        printf("operator: payment %" PRIu64 " has failed: %s\n", jobs[i].id,
               jobs[i].error);
    }
    if (status == 0) {
        printf("operator: the bank is open, all of them again\n");
        atomic_store(&bank_is_open, true);
        filter.queue = queue;
        filter.states = DASSIE_IN(DASSIE_FAILED);
        status = dassie_change(req->q, &change, DASSIE_RETRY, &filter, retried);
    }
    if (status != 0) {
        leave(req->q, status);
    }
}

static void look_at_failed(dassie_t *q)
{
    static dassie_list_t list;
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    options.state = DASSIE_FAILED;
    options.queue = queue;
    int rc = dassie_list(q, &list, &options, listed);
    if (rc != 0) {
        leave(q, rc);
    }
}

/* ---- What happens to the job ---- */

static const char *step(const dassie_event_t *event)
{
    switch (event->to) {
        case DASSIE_SCHEDULED:
            return event->from == DASSIE_NOWHERE ? "waits for its time"
                                                 : "will be tried again";
        case DASSIE_PENDING:
            return "waits for a processor";
        case DASSIE_RUNNING:
            return "runs";
        case DASSIE_FAILED:
            return "has failed for good";
        default:
            return "is complete";
    }
}

static void happened(dassie_subscription_t *sub, const dassie_event_t *events,
                     size_t n, uint64_t missed)
{
    (void)missed; /* none, of one job */
    for (size_t i = 0; i < n; i++) {
        const dassie_event_t *event = &events[i];
        printf("payment %" PRIu64 " %s", event->id, step(event));
        if (event->to == DASSIE_RUNNING) {
            printf(", attempt %u", (unsigned)event->attempts);
        } else if (event->code != 0) {
            printf(" (%s)", dassie_err_name(event->code));
        }
        printf("\n");
        if (event->to == DASSIE_FAILED) {
            look_at_failed(sub->q);
        } else if (event->to == DASSIE_COMPLETE) {
            leave(sub->q, 0);
        }
    }
}

static int start(dassie_t *q, unsigned ms)
{
    static dassie_subscription_t subscription;
    static dassie_processor_t processor;
    dassie_process_options_t process = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    process.queue = spec.queue = queue;
    process.work = collect;
    spec.delay_ms = ms;
    spec.backoff_ms = ms;
    spec.attempts_max = 3;
    int rc = dassie_subscribe(q, &subscription, NULL, happened);
    if (rc == 0) {
        rc = dassie_process(q, &processor, &process);
    }
    return rc == 0 ? dassie_enqueue(q, NULL, &spec, NULL) : rc;
}

static void opened(dassie_t *q, int status)
{
    if (status == 0) {
        status = start(q, *(unsigned *)q->data);
    }
    if (status != 0) {
        leave(q, status);
    }
}

int main(int argc, char **argv)
{
    unsigned ms = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 100;
    dassie_t q = {.data = &ms};
    if (argc < 2) {
        fprintf(stderr, "usage: retry DIR [MS]\n");
        return 2;
    }
    error = dassie_init(uv_default_loop(), &q);
    if (error == 0) {
        int rc = dassie_open(&q, argv[1], NULL, opened);
        if (rc != 0) {
            leave(&q, rc);
        }
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    }
    if (error != 0) {
        fprintf(stderr, "retry: %s: %s\n", argv[1], dassie_strerror(error));
    }
    return error != 0;
}
