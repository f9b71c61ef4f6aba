#include "config.h"

#include "chain.h"

#include "bench.h"

#include <fcntl.h>
#include <unistd.h>

#define ROOM_BYTES (16 << 20)

void append_open(struct append *a, const char *path)
{
    a->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (a->fd < 0 ||
        fallocate(a->fd, FALLOC_FL_KEEP_SIZE, 0, ROOM_BYTES) != 0 ||
        fsync(a->fd) != 0) {
        die(path, UV_EIO);
    }
}

void append_sync(struct append *a, size_t bytes)
{
    if (write(a->fd, a->bytes, bytes) != (ssize_t)bytes ||
        fdatasync(a->fd) != 0) {
        die("fdatasync", UV_EIO);
    }
}

static void chain_thread(void *arg)
{
    struct chain *c = arg;
    uv_mutex_lock(&c->mutex);
    for (;;) {
        while (!c->told && !c->ending) {
            uv_cond_wait(&c->cond, &c->mutex);
        }
        if (c->ending) {
            break;
        }
        c->told = false;
        uv_mutex_unlock(&c->mutex);
        if (c->bytes > 0) {
            append_sync(&c->file, c->bytes);
        }
        uv_async_send(&c->async);
        uv_mutex_lock(&c->mutex);
    }
    uv_mutex_unlock(&c->mutex);
}

static void on_async(uv_async_t *async)
{
    struct chain *c = async->data;
    c->req.data = c;
    uv_queue_work(async->loop, &c->req, c->work, c->after);
}

void chain_open(struct chain *c, uv_loop_t *loop, const char *path)
{
    append_open(&c->file, path);
    if (uv_mutex_init(&c->mutex) != 0 || uv_cond_init(&c->cond) != 0 ||
        uv_async_init(loop, &c->async, on_async) != 0 ||
        uv_thread_create(&c->thread, chain_thread, c) != 0) {
        die("the chain", UV_EAGAIN);
    }
    c->async.data = c;
}

void chain_tell(struct chain *c)
{
    uv_mutex_lock(&c->mutex);
    c->told = true;
    uv_cond_signal(&c->cond);
    uv_mutex_unlock(&c->mutex);
}

void chain_close(struct chain *c)
{
    uv_mutex_lock(&c->mutex);
    c->ending = true;
    uv_cond_signal(&c->cond);
    uv_mutex_unlock(&c->mutex);
    uv_thread_join(&c->thread);
    uv_close((uv_handle_t *)&c->async, NULL);
    close(c->file.fd);
}
