/* resume.c: a job of many steps that goes on where it was interrupted.
 *
 * usage: resume DIR [STEPS [MS]]
 *
 * The job writes to each of STEPS (10000) customers: it enqueues a mail, which
 * takes MS (1) milliseconds. Kill it in the middle, start it again, and it goes
 * on where it was: mail 2001 of 10000, say, is next. Each 500th mail that is
 * surely in the queue is told; no customer before that one gets a second mail.
 */
#include <dassie.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t steps = 10000;
static unsigned step_ms = 1;
static int error; /* the first there was */

static void leave(dassie_t *q, int status)
{
    error = error != 0 ? error : status;
    dassie_close(q, NULL); /* again, it says no and does nothing */
}

static void queued(dassie_enqueue_t *req, int status)
{
    if (status == 0) {
        printf("mail %" PRIu64 " is queued\n", (uint64_t)(uintptr_t)req->data);
        fflush(stdout);
    } else if (status != UV_ECANCELED) {
        leave(req->q, status);
    }
    free(req);
}

/* One step. What is saved before it is on disk no later than its mail. */
static int mail(dassie_t *q, uint64_t number)
{
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_enqueue_t *req = NULL;
    spec.queue = "mail";
    spec.data = &number;
    spec.data_len = sizeof number;
    if (number % 500 == 0) {
        req = calloc(1, sizeof *req);
        if (req == NULL) {
            return UV_ENOMEM;
        }
        req->data = (void *)(uintptr_t)number;
    }
    int rc = dassie_enqueue(q, req, &spec, req != NULL ? queued : NULL);
    if (rc != 0) {
        free(req);
    }
    return rc;
}

/* On a thread of libuv's pool. */
static int newsletter(dassie_job_t *job)
{
    dassie_t *q = dassie_job_processor(job)->q;
    uint64_t i = dassie_job_resume_at(job);
    int rc = 0;
    printf("begins with mail %" PRIu64 "\n", i + 1);
    fflush(stdout);
    while (i < steps && (rc = dassie_job_step(job, i, steps)) == 0) {
        rc = mail(q, i + 1);
        if (rc == UV_ENOBUFS) {
            uv_sleep(1); /* the inbox is full: the same step again */
        } else if (rc != 0) {
            break;
        } else {
            uv_sleep(step_ms);
            i++;
        }
    }
    return rc;
}

static int send_mail(dassie_job_t *job)
{
    (void)job; /* a real one would */
    return 0;
}

static void told(dassie_counts_t *req, int status, const dassie_count_t *count)
{
    if (status == 0) {
        printf(count->complete == 1 ? "all is done\n" : "not all is done\n");
    }
    leave(req->q, status);
}

static void drained(dassie_drain_t *req, int status)
{
    static dassie_counts_t counts;
    if (status == 0) {
        status = dassie_counts(req->q, &counts, "newsletter", 0, told);
    }
    if (status != 0) {
        leave(req->q, status);
    }
}

static int process(dassie_t *q, const char *queue, dassie_work_cb work,
                   dassie_processor_t *processor)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = work;
    return dassie_process(q, processor, &options);
}

/* The job is there, or its first life left it. */
static void counted(dassie_counts_t *req, int status,
                    const dassie_count_t *count)
{
    static dassie_drain_t drain;
    static dassie_processor_t processors[2];
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    (void)count;
    if (status == UV_ENOENT) { /* no such queue yet */
        spec.queue = "newsletter";
        status = dassie_enqueue(req->q, NULL, &spec, NULL);
    }
    if (status == 0) {
        status = process(req->q, "newsletter", newsletter, &processors[0]);
    }
    if (status == 0) {
        status = process(req->q, "mail", send_mail, &processors[1]);
    }
    if (status == 0) {
        status = dassie_drain(req->q, &drain, NULL, 0, drained);
    }
    if (status != 0) {
        leave(req->q, status);
    }
}

static void opened(dassie_t *q, int status)
{
    static dassie_counts_t counts;
    if (status == 0) {
        status = dassie_counts(q, &counts, "newsletter", 0, counted);
    }
    if (status != 0) {
        leave(q, status);
    }
}

int main(int argc, char **argv)
{
    dassie_t q;
    if (argc < 2) {
        fprintf(stderr, "usage: resume DIR [STEPS [MS]]\n");
        return 2;
    }
    if (argc > 2) {
        steps = strtoull(argv[2], NULL, 10);
    }
    if (argc > 3) {
        step_ms = (unsigned)strtoul(argv[3], NULL, 10);
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
        fprintf(stderr, "resume: %s: %s\n", argv[1], dassie_strerror(error));
    }
    return error != 0;
}
