#include <dassie.h>
#include <stdio.h>
static int error;                  /* the first there was */
static int work(dassie_job_t *job) /* on a thread of libuv's pool */
{
    return printf("hello, %s\n", dassie_job_name(job, NULL)) < 0 ? UV_EIO : 0;
}
static void opened(dassie_t *q, int status)
{
    if ((error = error != 0 ? error : status) != 0)
        dassie_close(q, NULL);
}
static void queued(dassie_enqueue_t *req, int status)
{
    opened(req->q, status);
}
static void done(dassie_enqueue_t *req, int status, const dassie_info_t *job)
{
    error = status != 0 ? status : job->error_code;
    printf("job %d %s\n", (int)req->id, error == 0 ? "is done" : "failed");
    dassie_close(req->q, NULL);
}
int main(int argc, char **argv)
{
    dassie_process_options_t options = {.size = sizeof options, .work = work};
    dassie_spec_t job = {.size = sizeof job, .name = "world"};
    dassie_enqueue_t req = {.done_cb = done};
    dassie_processor_t processor;
    dassie_t q;
    const char *dir = argc > 1 ? argv[1] : "hello.db";
    if ((error = dassie_init(uv_default_loop(), &q)) == 0 &&
        (error = dassie_open(&q, dir, NULL, opened)) == 0 &&
        (error = dassie_process(&q, &processor, &options)) == 0 &&
        (error = dassie_enqueue(&q, &req, &job, queued)) == 0)
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    if (error != 0)
        fprintf(stderr, "hello: %s: %s\n", dir, dassie_strerror(error));
    return error != 0;
}
