/* golden.c: stores of released formats, made and read.
 *
 *     golden make DIR    makes a store and dies in the middle of a job
 *     golden usage: golden make|list|refuse|look|salvage DIR DIR    verifies
 * it, opens it, prints its jobs, verifies again golden refuse DIR  fails to
 * open it, as its format is newer golden look DIR    does what "list" does,
 * with errors where there are any golden salvage DIR the same with
 * DASSIE_SALVAGE
 *
 * A golden store is made once, at a release ("make golden"), and never again:
 * DIR as an archive, and what "list" prints of it, which has to stay the same.
 * So nothing is printed that depends on the time or on the machine. */
#include "../crash/sync.h"

#include <ctype.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BIG_BYTES 3000
#define YEAR_2100_MS UINT64_C(4102444800000)

/* ---- Make ---- */

static atomic_int acked;
static atomic_int started;

static void on_ack(dassie_enqueue_t *req, int status)
{
    (void)req;
    sync_must(status, "enqueue");
    acked++;
}

/* The payload follows from its length. */
static void put(dassie_spec_t spec)
{
    static char data[BIG_BYTES];
    dassie_enqueue_t req = {0};
    for (size_t i = 0; i < spec.data_len; i++) {
        data[i] = (char)(i * 31 + spec.data_len);
    }
    spec.size = sizeof spec;
    spec.data = data;
    int before = acked;
    sync_must(dassie_enqueue(&rig.q, &req, &spec, on_ack), "enqueue");
    sync_wait(&acked, before + 1);
}

static int work(dassie_job_t *job)
{
    size_t len;
    bool well = dassie_job_data(job, &len) != NULL && len % 2 == 0;
    sync_must(well ? dassie_job_set_result(job, "fine", 4)
                   : dassie_job_set_error(job, "no route", 8),
              "set result");
    return well ? 0 : UV_EPROTO;
}

static void start(dassie_job_t *job)
{
    (void)job;
    started++;
}

static void process(dassie_processor_t *p, const char *queue, bool ends)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    options.queue = queue;
    options.work = ends ? work : NULL;
    options.start = ends ? NULL : start;
    sync_must(dassie_process(&rig.q, p, &options), "process");
}

static void make(const char *path)
{
    static dassie_processor_t worker;
    static dassie_processor_t starter;
    sync_open(path);
    for (size_t i = 0; i < 6; i++) {
        put((dassie_spec_t){.queue = "mail",
                            .name = "letter",
                            .data_len = 10 * i + i % 2,
                            .attempts_max = 1});
    }
    process(&worker, "mail", true);
    sync_drain();
    sync_close();
    sync_open(path);
    put((dassie_spec_t){.queue = "web",
                        .name = "first",
                        .data_len = BIG_BYTES,
                        .priority = -20});
    put((dassie_spec_t){.queue = "web"});
    put((dassie_spec_t){.queue = "web",
                        .name = "with\0zero",
                        .name_len = 9,
                        .data_len = 1,
                        .flags = DASSIE_AT_MOST_ONCE});
    put((dassie_spec_t){
        .queue = "web", .name = "last", .data_len = 200, .priority = 19});
    put((dassie_spec_t){.queue = "web",
                        .name = "later",
                        .data_len = 9,
                        .attempts_max = 7,
                        .run_at_ms = YEAR_2100_MS});
    put((dassie_spec_t){.queue = "held", .name = "runs", .data_len = 8});
    put((dassie_spec_t){.queue = "held", .name = "waits", .data_len = 8});
    put((dassie_spec_t){.queue = "held once",
                        .name = "runs once",
                        .data_len = 8,
                        .flags = DASSIE_AT_MOST_ONCE});
    process(&worker, "held", false);
    process(&starter, "held once", false);
    sync_wait(&started, 2);
    kill(getpid(), SIGKILL);
}

/* ---- List ---- */

static void on_problem(void *arg, uint64_t id, const char *line)
{
    (void)arg;
    (void)id;
    printf("problem: %s\n", line);
}

static void verify(const char *path)
{
    dassie_verify_report_t report;
    sync_must(dassie_verify(path, on_problem, NULL, &report), "verify");
    if (report.problems > 0) {
        exit(1);
    }
}

static void print_bytes(const char *what, const char *p, size_t len)
{
    printf(" %s ", what);
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)p[i];
        printf(isgraph(byte) ? "%c" : "\\%03o", byte);
    }
}

static void print_job(const dassie_info_t *job)
{
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < job->data_len; i++) {
        sum = (sum ^ ((const unsigned char *)job->data)[i]) * 16777619u;
    }
    printf("%llu state %d", (unsigned long long)job->id, job->state);
    print_bytes("queue", job->queue, job->queue_len);
    print_bytes("name", job->name, job->name_len);
    printf(
        " priority %d flags %u due %llu attempts %u crashes %u data %zu %08x",
        job->priority, job->flags, (unsigned long long)job->due_ms,
        job->attempts, job->crashes, job->data_len, sum);
    print_bytes("result", job->result, job->result_len);
    printf(" code %d", job->error_code);
    print_bytes("error", job->error, job->error_len);
    printf("\n");
}

static void list(const char *path)
{
    verify(path);
    sync_open(path);
    sync_list(DASSIE_PENDING, print_job);
    sync_list(DASSIE_SCHEDULED, print_job);
    sync_list(DASSIE_RUNNING, print_job);
    sync_list(DASSIE_COMPLETE, print_job);
    sync_list(DASSIE_FAILED, print_job);
    sync_close();
    verify(path);
}

/* ---- Refuse ---- */

static void on_refused(dassie_t *q, int status)
{
    printf("%s: %s\n", dassie_err_name(status), dassie_errmsg(q));
    if (status != UV_ENOTSUP) {
        exit(1);
    }
    rig.opened++;
}

static void refuse(const char *path)
{
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, NULL, on_refused), "open");
    sync_wait(&rig.opened, 1);
    sync_close();
    if (dassie_verify(path, NULL, NULL, NULL) != UV_ENOTSUP) {
        exit(1);
    }
}

/* ---- Look ---- */

/* What is damaged is refused, at one time or another: status 10. */
static void on_look(dassie_t *q, int status)
{
    printf("open: %s %s\n", status == 0 ? "0" : dassie_err_name(status),
           dassie_errmsg(q));
    if (status != 0) {
        fflush(NULL);
        _exit(10);
    }
    rig.opened++;
}

static void on_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        print_job(&jobs[i]);
    }
    if (status != 0) {
        printf("list: %s\n", dassie_err_name(status));
    }
    ++*(atomic_int *)req->data;
}

static void verify_any(const char *path)
{
    int rc = dassie_verify(path, on_problem, NULL, NULL);
    printf("verify: %s\n", rc == 0 ? "0" : dassie_err_name(rc));
}

static void look(const char *path)
{
    atomic_int pages = 0;
    verify_any(path);
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, &rig.options, on_look), "open");
    sync_wait(&rig.opened, 1);
    for (int state = DASSIE_PENDING; state <= DASSIE_CANCELLED; state++) {
        dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
        dassie_list_t req = {.data = &pages};
        options.state = (dassie_state_t)state;
        int before = pages;
        if (dassie_list(&rig.q, &req, &options, on_page) == 0) {
            sync_wait(&pages, before + 1);
        }
    }
    sync_close();
    verify_any(path);
}

static void salvage(const char *path)
{
    rig.options.flags = DASSIE_SALVAGE;
    look(path);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*function)(const char *path);
    } modes[] = {{"make", make},
                 {"list", list},
                 {"refuse", refuse},
                 {"look", look},
                 {"salvage", salvage}};
    for (size_t i = 0; argc == 3 && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            sync_begin();
            modes[i].function(argv[2]);
            sync_end();
            return 0;
        }
    }
    fprintf(stderr, "usage: golden make|list|refuse DIR\n");
    return 2;
}
