#include "sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SYNC_SECONDS 120

struct sync rig;

void sync_must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "%s: %s %s\n", what, dassie_strerror(rc),
                dassie_errmsg(&rig.q));
        _exit(rc == DASSIE_ECORRUPT ? 4 : 3);
    }
}

static void on_ring(uv_async_t *async)
{
    (void)async;
}

void sync_count(atomic_int *n)
{
    atomic_fetch_add(n, 1);
    uv_async_send(&rig.async);
}

void sync_wait(atomic_int *n, int least)
{
    while (atomic_load(n) < least) {
        uv_run(&rig.loop, UV_RUN_ONCE);
    }
}

static void on_log(dassie_t *q, dassie_log_level_t level, const char *line)
{
    (void)q;
    (void)level;
    rig.rebuilt += strncmp(line, "rebuilt ", 8) == 0;
}

void sync_begin(void)
{
    static const dassie_options_t defaults = DASSIE_OPTIONS_INIT;
    static const struct rlimit no_core = {0, 0};
    setenv("UV_THREADPOOL_SIZE", "4", 1);
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(SYNC_SECONDS);
    rig.options = defaults;
    rig.options.log_cb = on_log;
    rig.options.free_bytes_min = 1;
    rig.options.memory_bytes = DASSIE_MEMORY_BYTES_MIN;
    rig.options.suspect_ms = SYNC_SECONDS * 1000;
    sync_must(uv_loop_init(&rig.loop), "loop");
    sync_must(uv_async_init(&rig.loop, &rig.async, on_ring), "async");
}

static void on_open(dassie_t *q, int status)
{
    (void)q;
    sync_must(status, "open");
    rig.opened++;
}

void sync_on_close(dassie_t *q)
{
    (void)q;
    rig.closed++;
}

void sync_open(const char *path)
{
    rig.opened = rig.closed = 0;
    sync_must(dassie_init(&rig.loop, &rig.q), "init");
    sync_must(dassie_open(&rig.q, path, &rig.options, on_open), "open");
    sync_wait(&rig.opened, 1);
}

void sync_close(void)
{
    sync_must(dassie_close(&rig.q, sync_on_close), "close");
    sync_wait(&rig.closed, 1);
}

static void on_drain(dassie_drain_t *req, int status)
{
    sync_must(status, "drain");
    sync_count(req->data);
}

void sync_drain(void)
{
    atomic_int n = 0;
    dassie_drain_t req = {.data = &n};
    sync_must(dassie_drain(&rig.q, &req, NULL, 0, on_drain), "drain");
    sync_wait(&n, 1);
}

struct list {
    dassie_list_t req;
    void (*each)(const dassie_info_t *job);
    atomic_int pages;
};

static void on_list(dassie_list_t *req, int status, const dassie_info_t *jobs,
                    size_t n)
{
    struct list *list = req->data;
    sync_must(status, "list");
    for (size_t i = 0; i < n; i++) {
        list->each(&jobs[i]);
    }
    list->pages++;
}

void sync_list(dassie_state_t state, void (*each)(const dassie_info_t *job))
{
    struct list list = {.each = each, .req.more = 1};
    dassie_list_options_t options = DASSIE_LIST_OPTIONS_INIT;
    options.state = state;
    list.req.data = &list;
    for (int pages = 1; list.req.more; pages++) {
        sync_must(dassie_list(&rig.q, &list.req, &options, on_list), "list");
        sync_wait(&list.pages, pages);
    }
}

void sync_end(void)
{
    uv_close((uv_handle_t *)&rig.async, NULL);
    uv_run(&rig.loop, UV_RUN_DEFAULT);
    sync_must(uv_loop_close(&rig.loop), "loop");
}
