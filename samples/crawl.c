/* crawl.c: fetches every URL of a file once and posts what came of it.
 *
 *     crawl [-d DIR] [-c CONCURRENCY] [-q] URLS_FILE POST_URL
 *
 * URLS_FILE has a URL on each line; empty lines and lines that begin with #
 * are passed over. Each URL becomes a job: a GET, then a POST of a line to
 * POST_URL, "URL STATUS BYTES" or, when there was no answer, "URL failed WHY".
 * A job is complete once the fetch and the post were answered with 2xx; else it
 * has failed, with the reason as its error text.
 *
 * The file is put into the queue in one piece, and the queue is named after its
 * content: whenever the program is started again, also after "kill -9", it
 * finds the jobs there and goes on. What was under way at a kill runs again.
 *
 * It all happens on the loop: curl's multi interface tells which sockets and
 * which time to wait for, libuv waits, and each job is ended by dassie_finish()
 * when its post has been answered.
 *
 * Exit status: 0 all is done, 1 some have failed, 2 an error or wrong usage,
 * 130 Ctrl-C. */
#include <dassie.h>

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_SECONDS 10L
#define FETCH_SECONDS 30L
#define REDIRECTS_MAX 5L
#define TICK_MS 100         /* how often progress is looked at */
#define PLAIN_LINE_JOBS 500 /* a line of progress for so many jobs */
#define PAGE_JOBS 1000
#define REASONS_MAX 64
#define REASON_BYTES 128

/* One job under way; there are as many as may run at a time. */
struct fetch {
    CURL *easy;
    struct fetch *next; /* when it is free */
    uint64_t id;        /* the job's */
    uint32_t attempt;
    char *url;
    char *outcome;             /* the line to be posted */
    int posting;               /* the GET has ended */
    uint64_t bytes;            /* of what was fetched */
    char reason[REASON_BYTES]; /* why the job has failed, or "" */
};

/* A socket that curl uses. */
struct watch {
    uv_poll_t poll; /* first, so that it is the watch, too */
    curl_socket_t fd;
};

/* Why jobs have failed, and how many did so. */
struct reason {
    char text[REASON_BYTES];
    uint64_t jobs;
};

static const char *dir = "crawl.db";
static long concurrency = 5;
static int quiet;
static int terminal;
static const char *post_url;

static char *file; /* all of it, until it is known to be in the queue */
static size_t file_len;
static char queue_name[32];

static dassie_t queue;
static dassie_processor_t processor;
static dassie_enqueue_many_t batch;
static dassie_counts_t counts;
static dassie_list_t list;
static uv_timer_t tick;
static uv_signal_t on_interrupt;
static int counting;   /* counts is under way */
static int processing; /* the processor is registered */
static int stopped;    /* and it was stopped after Ctrl-C */
static int exit_code;

static CURLM *multi;
static uv_timer_t curl_timer;
static struct curl_slist *headers;
static struct fetch *fetches;
static struct fetch *free_fetches;

static uint64_t shown; /* jobs, in the last line of progress */
static uint64_t done, failed, rerun;
static struct reason reasons[REASONS_MAX];
static size_t reasons_n;

/* ---- End ---------------------------------------------------------------- */

/* The loop ends when all handles are closed. curl closes its sockets here. */
static void closed(dassie_t *q)
{
    (void)q;
    for (long i = 0; i < concurrency; i++)
        curl_easy_cleanup(fetches[i].easy);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    free(fetches);
    uv_close((uv_handle_t *)&curl_timer, NULL);
}

/* Lets the program end, the first time it is called. */
static void finish(int code)
{
    if (dassie_close(&queue, closed) != 0)
        return;
    exit_code = code;
    uv_close((uv_handle_t *)&tick, NULL);
    uv_close((uv_handle_t *)&on_interrupt, NULL);
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "crawl: %s: %s\n", what, why);
    finish(2);
}

/* ---- Jobs --------------------------------------------------------------- */

static size_t count_body(char *data, size_t size, size_t n, void *arg)
{
    struct fetch *f = arg;

    (void)data;
    f->bytes += size * n;
    return size * n;
}

static size_t drop_body(char *data, size_t size, size_t n, void *arg)
{
    (void)data;
    (void)arg;
    return size * n;
}

/* What GET and POST have in common. */
static CURLcode set_common(struct fetch *f, const char *url)
{
    CURL *easy = f->easy;
    CURLcode rc;

    curl_easy_reset(easy); /* it keeps its connections */
    if ((rc = curl_easy_setopt(easy, CURLOPT_URL, url)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_PRIVATE, f)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_WRITEDATA, f)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_USERAGENT, "dassie-crawl")) ||
        (rc =
             curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_TIMEOUT, FETCH_SECONDS)))
        return rc;
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
                            CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
}

static CURLcode set_get(struct fetch *f)
{
    CURL *easy = f->easy;
    CURLcode rc;

    if ((rc = set_common(f, f->url)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, count_body)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_MAXREDIRS, REDIRECTS_MAX)))
        return rc;
    return curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
}

static CURLcode set_post(struct fetch *f)
{
    CURL *easy = f->easy;
    CURLcode rc;

    if ((rc = set_common(f, post_url)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_body)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers)) ||
        (rc = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE,
                               (long)strlen(f->outcome))))
        return rc;
    return curl_easy_setopt(easy, CURLOPT_POSTFIELDS, f->outcome);
}

/* Ends the job: it has failed if there is a reason. */
static void fetch_end(struct fetch *f)
{
    int status = f->reason[0] == '\0' ? 0 : UV_EPROTO;
    int rv = dassie_finish(&queue, f->id, f->attempt, status,
                           status != 0 ? f->reason : NULL,
                           status != 0 ? strlen(f->reason) : 0);

    if (rv != 0) {
        fprintf(stderr, "crawl: finish: %s\n", dassie_strerror(rv));
        exit(2); /* to the queue this is a kill, and it survives that */
    }
    free(f->url);
    free(f->outcome);
    f->url = f->outcome = NULL;
    f->next = free_fetches;
    free_fetches = f;
}

/* Notes why the job has failed, and ends it. */
static void fetch_fail(struct fetch *f, const char *step, const char *why)
{
    snprintf(f->reason, sizeof f->reason, "%s: %s", step, why);
    fetch_end(f);
}

/* What an answer says: NULL for 2xx, or why not. */
static const char *answer_problem(const struct fetch *f, CURLcode rc,
                                  long *status)
{
    static char text[32];

    if (rc == CURLE_OK)
        rc = curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, status);
    if (rc != CURLE_OK)
        return curl_easy_strerror(rc);
    if (*status >= 200 && *status < 300)
        return NULL;
    snprintf(text, sizeof text, "HTTP status %ld", *status);
    return text;
}

/* The GET has ended: the POST begins. */
static void fetch_got(struct fetch *f, CURLcode rc)
{
    size_t room = strlen(f->url) + REASON_BYTES + 64;
    long status = 0;
    const char *problem = answer_problem(f, rc, &status);

    if (problem != NULL)
        snprintf(f->reason, sizeof f->reason, "fetch: %s", problem);
    f->outcome = malloc(room);
    if (f->outcome == NULL) {
        fetch_fail(f, "post", dassie_strerror(UV_ENOMEM));
        return;
    }
    if (status != 0)
        snprintf(f->outcome, room, "%s %ld %" PRIu64 "\n", f->url, status,
                 f->bytes);
    else
        snprintf(f->outcome, room, "%s failed %s\n", f->url, problem);
    f->posting = 1;
    rc = set_post(f);
    if (rc != CURLE_OK)
        fetch_fail(f, "post", curl_easy_strerror(rc));
    else if (curl_multi_add_handle(multi, f->easy) != CURLM_OK)
        fetch_fail(f, "post", "curl_multi_add_handle");
}

static void fetch_posted(struct fetch *f, CURLcode rc)
{
    long status = 0;
    const char *problem = answer_problem(f, rc, &status);

    if (problem != NULL)
        fetch_fail(f, "post", problem);
    else
        fetch_end(f);
}

/* A job begins, with a GET. There is a free fetch, as there are as many as the
 * processor may run. */
static void job_start(dassie_job_t *job)
{
    struct fetch *f = free_fetches;
    size_t len;
    const char *url = dassie_job_data(job, &len);
    CURLcode rc;

    free_fetches = f->next;
    f->id = dassie_job_id(job);
    f->attempt = dassie_job_attempt(job);
    f->posting = 0;
    f->bytes = 0;
    f->reason[0] = '\0';
    f->url = malloc(len + 1);
    if (f->url == NULL) {
        fetch_fail(f, "fetch", dassie_strerror(UV_ENOMEM));
        return;
    }
    memcpy(f->url, url, len);
    f->url[len] = '\0';
    rc = set_get(f);
    if (rc != CURLE_OK)
        fetch_fail(f, "fetch", curl_easy_strerror(rc));
    else if (curl_multi_add_handle(multi, f->easy) != CURLM_OK)
        fetch_fail(f, "fetch", "curl_multi_add_handle");
}

/* ---- curl on the loop --------------------------------------------------- */

/* Takes what has ended from curl. */
static void collect(void)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(multi, &left)) != NULL) {
        CURL *easy = msg->easy_handle;
        CURLcode rc = msg->data.result;
        char *p = NULL;
        struct fetch *f;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_multi_remove_handle(multi, easy); /* msg is gone now */
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &p);
        f = (struct fetch *)(void *)p;
        if (f->posting)
            fetch_posted(f, rc);
        else
            fetch_got(f, rc);
    }
}

static void act(curl_socket_t fd, int flags)
{
    int running;
    CURLMcode rc = curl_multi_socket_action(multi, fd, flags, &running);

    if (rc != CURLM_OK) {
        fprintf(stderr, "crawl: %s\n", curl_multi_strerror(rc));
        exit(2); /* the queue survives that */
    }
    collect();
}

static void watch_ready(uv_poll_t *poll, int status, int events)
{
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;

    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    act(((struct watch *)poll)->fd, flags);
}

static void watch_free(uv_handle_t *handle)
{
    free(handle);
}

static struct watch *watch_new(curl_socket_t fd)
{
    struct watch *w = malloc(sizeof *w);

    if (w == NULL || uv_poll_init_socket(queue.loop, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    w->fd = fd;
    curl_multi_assign(multi, fd, w);
    return w;
}

/* curl wants to be told when the socket is ready for what. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
                        void *socketp)
{
    struct watch *w = socketp;
    int events = 0;

    (void)easy;
    (void)arg;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL)
            uv_close((uv_handle_t *)&w->poll, watch_free);
        return 0;
    }
    if (w == NULL && (w = watch_new(fd)) == NULL)
        return -1;
    if (what & CURL_POLL_IN)
        events |= UV_READABLE;
    if (what & CURL_POLL_OUT)
        events |= UV_WRITABLE;
    return uv_poll_start(&w->poll, events, watch_ready) == 0 ? 0 : -1;
}

static void curl_timer_fired(uv_timer_t *timer)
{
    (void)timer;
    act(CURL_SOCKET_TIMEOUT, 0);
}

/* curl wants to be called after so many milliseconds. */
static int watch_time(CURLM *m, long timeout_ms, void *arg)
{
    (void)m;
    (void)arg;
    if (timeout_ms < 0)
        return uv_timer_stop(&curl_timer);
    return uv_timer_start(&curl_timer, curl_timer_fired, (uint64_t)timeout_ms,
                          0);
}

static int start_curl(uv_loop_t *loop)
{
    CURLMcode rc = CURLM_OK;

    multi = curl_multi_init();
    headers = curl_slist_append(NULL, "Content-Type: text/plain");
    fetches = calloc((size_t)concurrency, sizeof *fetches);
    if (multi == NULL || headers == NULL || fetches == NULL)
        return UV_ENOMEM;
    for (long i = 0; i < concurrency; i++) {
        fetches[i].easy = curl_easy_init();
        if (fetches[i].easy == NULL)
            return UV_ENOMEM;
        fetches[i].next = free_fetches;
        free_fetches = &fetches[i];
    }
    if ((rc =
             curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket)) ||
        (rc = curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, watch_time)))
        return UV_EINVAL;
    return uv_timer_init(loop, &curl_timer);
}

/* ---- Account ------------------------------------------------------------ */

static void reason_add(const char *text)
{
    size_t i = 0;

    while (i < reasons_n &&
           strncmp(reasons[i].text, text, REASON_BYTES - 1) != 0)
        i++;
    if (i == REASONS_MAX)
        i--; /* the last one counts all others, too */
    else if (i == reasons_n)
        snprintf(reasons[reasons_n++].text, REASON_BYTES, "%s",
                 i < REASONS_MAX - 1 ? text : "other reasons");
    reasons[i].jobs++;
}

static void print_account(void)
{
    printf("%" PRIu64 " URLs: %" PRIu64 " done, %" PRIu64 " failed, %" PRIu64
           " of them run again after a crash\n",
           done + failed, done, failed, rerun);
    for (size_t i = 0; i < reasons_n; i++)
        printf("  %" PRIu64 " failed: %s\n", reasons[i].jobs, reasons[i].text);
}

static void told_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                      size_t n);

static int list_page(dassie_state_t state)
{
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;

    options.state = state;
    options.queue = queue_name;
    options.limit = PAGE_JOBS;
    return dassie_list(&queue, &list, &options, told_page);
}

static void told_page(dassie_list_t *req, int status, const dassie_info_t *jobs,
                      size_t n)
{
    static dassie_state_t state = DASSIE_COMPLETE;

    if (status == UV_ECANCELED)
        return;
    for (size_t i = 0; i < n; i++) {
        rerun += jobs[i].attempts > 1;
        done += state == DASSIE_COMPLETE;
        failed += state == DASSIE_FAILED;
        if (state == DASSIE_FAILED)
            reason_add(jobs[i].error);
    }
    if (status == 0 && !req->more && state == DASSIE_FAILED) {
        print_account();
        finish(failed > 0 ? 1 : 0);
        return;
    }
    if (!req->more) {
        state = DASSIE_FAILED; /* the other half, from its first page on */
        memset(req->cursor, 0, sizeof req->cursor);
    }
    if (status == 0)
        status = list_page(state);
    if (status != 0)
        fail("list", dassie_strerror(status));
}

/* ---- Progress ----------------------------------------------------------- */

static void show_progress(const dassie_count_t *c)
{
    uint64_t ended = c->complete + c->failed;
    uint64_t all = ended + c->pending + c->running;

    if (quiet || ended == shown)
        return;
    if (terminal) {
        printf("\r%" PRIu64 " of %" PRIu64 " done, %" PRIu64 " failed%s",
               c->complete, all, c->failed, ended == all ? "\n" : "");
        fflush(stdout);
    } else if (ended / PLAIN_LINE_JOBS != shown / PLAIN_LINE_JOBS) {
        printf("done %" PRIu64 " of %" PRIu64 "\n", ended, all);
    }
    shown = ended;
}

static void look(uv_timer_t *timer);

/* Registers the processor, and looks how far it is from time to time. */
static int start_processing(void)
{
    dassie_process_options_t options = DASSIE_PROCESS_OPTIONS_INIT;
    int rv;

    options.queue = queue_name;
    options.concurrency = (unsigned)concurrency;
    options.start = job_start;
    rv = dassie_process(&queue, &processor, &options);
    if (rv != 0)
        return rv;
    processing = 1;
    return uv_timer_start(&tick, look, 0, TICK_MS);
}

static void enqueued(dassie_enqueue_many_t *req, int status)
{
    if (status == UV_ECANCELED)
        return; /* Ctrl-C */
    if (status == 0) {
        printf("%s: %" PRIu64 " URLs enqueued\n", queue_name, req->count);
        status = start_processing();
    }
    if (status != 0)
        fail("enqueue", dassie_strerror(status));
}

/* The next URL of the file; *at moves behind it. */
static int next_url(size_t *at, const char **url, size_t *len)
{
    while (*at < file_len) {
        const char *line = file + *at;
        const char *end = memchr(line, '\n', file_len - *at);

        if (end == NULL)
            end = file + file_len;
        *at = (size_t)(end - file) + 1;
        while (line < end && (*line == ' ' || *line == '\t'))
            line++;
        while (line < end &&
               (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
            end--;
        if (line < end && *line != '#') {
            *url = line;
            *len = (size_t)(end - line);
            return 1;
        }
    }
    return 0;
}

static size_t count_urls(void)
{
    const char *url;
    size_t len, at = 0, n = 0;

    while (next_url(&at, &url, &len))
        n++;
    return n;
}

static int enqueue_file(void)
{
    size_t n = count_urls();
    size_t len, at = 0, i = 0;
    const char *url;
    dassie_spec_t *specs = calloc(n, sizeof *specs);
    int rv;

    if (specs == NULL)
        return UV_ENOMEM;
    while (next_url(&at, &url, &len)) {
        specs[i] = (dassie_spec_t)DASSIE_SPEC_INIT;
        specs[i].queue = queue_name;
        specs[i].data = url;
        specs[i].attempts_max = 1; /* the report says why it failed */
        specs[i++].data_len = len;
    }
    rv = dassie_enqueue_many(&queue, &batch, specs, n, enqueued);
    free(specs);
    return rv;
}

/* The first look: is the file in the queue already? */
static int start_or_go_on(const dassie_count_t *c)
{
    uint64_t ended = c->complete + c->failed;
    uint64_t all = ended + c->pending + c->running;
    int rv;

    if (all == 0) {
        rv = enqueue_file();
    } else {
        shown = ended;
        printf("%s: going on after %" PRIu64 " of %" PRIu64 "\n", queue_name,
               ended, all);
        rv = start_processing();
    }
    free(file); /* what was enqueued is a copy */
    file = NULL;
    return rv;
}

static void told_counts(dassie_counts_t *req, int status,
                        const dassie_count_t *count)
{
    static const dassie_count_t none;
    const dassie_count_t *c = status == UV_ENOENT ? &none : count;

    (void)req;
    counting = 0;
    if (status == UV_ECANCELED)
        return;
    if (status == UV_ENOENT)
        status = 0; /* no such queue yet */
    if (status == 0 && !processing) {
        status = start_or_go_on(c);
    } else if (status == 0) {
        show_progress(c);
        if (c->pending + c->running == 0) {
            uv_timer_stop(&tick);
            status = list_page(DASSIE_COMPLETE);
        } else if (stopped && c->running == 0) {
            printf("%sstopped: %" PRIu64 " remain\n", terminal ? "\n" : "",
                   c->pending);
            finish(130);
        }
    }
    if (status != 0)
        fail("crawl", dassie_strerror(status));
}

static void look(uv_timer_t *timer)
{
    int rv;

    (void)timer;
    if (counting)
        return;
    counting = 1;
    rv = dassie_counts(&queue, &counts, queue_name, 0, told_counts);
    if (rv != 0)
        fail("counts", dassie_strerror(rv));
}

/* ---- Start and Ctrl-C --------------------------------------------------- */

static void processor_stopped(dassie_processor_t *p)
{
    (void)p;
    stopped = 1; /* the next look tells how many remain */
}

/* No new job starts and those under way end. The next Ctrl-C kills, which the
 * queue survives. */
static void interrupt(uv_signal_t *handle, int signum)
{
    (void)handle;
    (void)signum;
    if (!processing)
        finish(130);
    else
        dassie_processor_stop(&processor, processor_stopped);
}

static void opened(dassie_t *q, int status)
{
    if (status != 0)
        fail(dir, dassie_errmsg(q));
    else
        look(&tick);
}

static void log_line(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    if (level <= DASSIE_LOG_WARNING)
        fprintf(stderr, "crawl: %s\n", line);
}

static int start(uv_loop_t *loop)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    int rv;

    options.log_cb = log_line;
    if ((rv = start_curl(loop)) != 0 ||
        (rv = uv_timer_init(loop, &tick)) != 0 ||
        (rv = uv_signal_init(loop, &on_interrupt)) != 0 ||
        (rv = uv_signal_start_oneshot(&on_interrupt, interrupt, SIGINT)) != 0 ||
        (rv = dassie_init(loop, &queue)) != 0)
        return rv;
    return dassie_open(&queue, dir, &options, opened);
}

static int read_file(const char *path)
{
    FILE *in = fopen(path, "rb");
    size_t room = 0;

    while (in != NULL && !feof(in) && !ferror(in)) {
        if (file_len == room) {
            char *p = realloc(file, room = room * 2 + 65536);

            if (p == NULL)
                break;
            file = p;
        }
        file_len += fread(file + file_len, 1, room - file_len, in);
    }
    if (in == NULL || ferror(in) || !feof(in)) {
        fprintf(stderr, "crawl: %s: %s\n", path, strerror(errno));
        return -1; /* the program ends */
    }
    fclose(in);
    return 0;
}

/* 64-bit FNV-1a. */
static uint64_t hash(uint64_t h, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void name_queue(void)
{
    uint64_t h = hash(UINT64_C(0xcbf29ce484222325), file, file_len);

    h = hash(h, post_url, strlen(post_url) + 1);
    snprintf(queue_name, sizeof queue_name, "crawl-%016" PRIx64, h);
}

/* Returns -1 for arguments that it does not understand. */
static int parse(int argc, char **argv)
{
    char *end = NULL;
    int c;

    while ((c = getopt(argc, argv, "d:c:q")) != -1) {
        if (c == 'd')
            dir = optarg;
        else if (c == 'c')
            concurrency = strtol(optarg, &end, 10);
        else if (c == 'q')
            quiet = 1;
        else
            return -1;
    }
    if (argc - optind != 2 || (end != NULL && *end != '\0') ||
        concurrency < 1 || concurrency > DASSIE_CONCURRENCY_MAX)
        return -1;
    post_url = argv[optind + 1];
    return 0;
}

int main(int argc, char **argv)
{
    int rv;

    if (parse(argc, argv) != 0) {
        fprintf(stderr,
                "usage: crawl [-d DIR] [-c CONCURRENCY] [-q] "
                "URLS_FILE POST_URL\n");
        return 2;
    }
    if (read_file(argv[optind]) != 0)
        return 2;
    if (count_urls() == 0) {
        fprintf(stderr, "crawl: %s: no URLs in it\n", argv[optind]);
        return 2;
    }
    name_queue();
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line at a time, also to a file */
    terminal = isatty(STDOUT_FILENO);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        fprintf(stderr, "crawl: curl_global_init failed\n");
        return 2;
    }
    rv = start(uv_default_loop());
    if (rv != 0) {
        fprintf(stderr, "crawl: %s: %s\n", dir, dassie_strerror(rv));
        return 2;
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    curl_global_cleanup();
    return exit_code;
}
