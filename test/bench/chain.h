/* chain.h: the bare chain under an enqueue and the start of its processor, and
 * bare durable bytes.
 *
 * A thread waits on a condition; told of something under the mutex, it appends
 * bytes to a file, calls fdatasync() (or not), and rings the loop with
 * uv_async_send(); the loop hands it to the pool with uv_queue_work(). */
#ifndef CHAIN_H_
#define CHAIN_H_

#include <uv.h>

#include <stdbool.h>

/* A file that bytes are appended to, with its room set aside as RocksDB does
 * for its log. */
struct append {
    int fd;
    char bytes[4096];
};
void append_open(struct append *a, const char *path);
void append_sync(struct append *a, size_t bytes);

struct chain {
    struct append file;
    size_t bytes; /* to be made durable each time; 0: none */
    uv_work_cb work;
    uv_after_work_cb after;
    uv_work_t req;
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t cond;
    uv_async_t async;
    bool told;
    bool ending;
};

void chain_open(struct chain *c, uv_loop_t *loop, const char *path);
void chain_tell(struct chain *c);
void chain_close(struct chain *c);

#endif /* CHAIN_H_ */
