#include "scrape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS_MAX 16 /* the oldest one gives way */
#define REQUEST_BYTES_MAX 8192

struct client {
    uv_tcp_t tcp; /* first, so that it is the client, too */
    uv_write_t write;
    dassie_metrics_t metrics;
    struct client *next; /* the one that came before it */
    int refs;            /* the handle, and the metrics under way */
    char *answer;
    size_t len;
    char request[REQUEST_BYTES_MAX];
};

static dassie_t *queue;
static uv_tcp_t listener;
static int listening;
static struct client *clients;

static void client_unref(struct client *c)
{
    if (--c->refs == 0) {
        free(c->answer);
        free(c);
    }
}

static void client_closed(uv_handle_t *handle)
{
    client_unref((struct client *)handle);
}

static void client_close(struct client *c)
{
    struct client **at = &clients;

    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    uv_close((uv_handle_t *)&c->tcp, client_closed);
}

static void answered(uv_write_t *req, int status)
{
    (void)status;
    client_close((struct client *)req->handle);
}

static void client_answer(struct client *c, const char *status,
                          const char *type, const char *text, size_t len)
{
    size_t room = len + 256;
    uv_buf_t buf;
    int n;

    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    c->answer = malloc(room);
    if (c->answer == NULL) {
        client_close(c);
        return;
    }
    n = snprintf(c->answer, room,
                 "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                 "Connection: close\r\n\r\n",
                 status, type, len);
    memcpy(c->answer + n, text, len);
    buf = uv_buf_init(c->answer, (unsigned)((size_t)n + len));
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, answered) != 0)
        client_close(c);
}

static void client_refuse(struct client *c, const char *status)
{
    client_answer(c, status, "text/plain", status, strlen(status));
}

static void told(dassie_metrics_t *req, int status, const char *text,
                 size_t len)
{
    struct client *c = req->data;

    if (status == 0)
        client_answer(c, "200 OK", DASSIE_METRICS_CONTENT_TYPE, text, len);
    else
        client_refuse(c, "503 Service Unavailable");
    client_unref(c);
}

/* The request's first line says it all. */
static void client_serve(struct client *c)
{
    uv_read_stop((uv_stream_t *)&c->tcp);
    if (strncmp(c->request, "GET /metrics", 12) != 0 ||
        strchr(" ?\r\n", c->request[12]) == NULL) {
        client_refuse(c, "404 Not Found");
        return;
    }
    c->metrics.data = c;
    if (dassie_metrics(queue, &c->metrics, told) == 0)
        c->refs++;
    else
        client_refuse(c, "503 Service Unavailable");
}

static void client_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = (struct client *)handle;

    (void)suggested;
    *buf = uv_buf_init(c->request + c->len,
                       (unsigned)(sizeof c->request - 1 - c->len));
}

static void client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = (struct client *)stream;

    (void)buf;
    if (n < 0) {
        client_close(c);
        return;
    }
    c->len += (size_t)n;
    c->request[c->len] = '\0';
    if (strstr(c->request, "\r\n\r\n") != NULL ||
        strstr(c->request, "\n\n") != NULL)
        client_serve(c);
    else if (c->len == sizeof c->request - 1)
        client_refuse(c, "431 Request Header Fields Too Large");
}

static void clients_make_room(void)
{
    struct client *c = clients;

    for (int n = 1; c != NULL && n < CLIENTS_MAX; n++)
        c = c->next;
    if (c != NULL)
        client_close(c);
}

static void connected(uv_stream_t *server, int status)
{
    struct client *c = status == 0 ? calloc(1, sizeof *c) : NULL;

    if (c == NULL || uv_tcp_init(server->loop, &c->tcp) != 0) {
        free(c);
        return;
    }
    clients_make_room();
    c->refs = 1;
    c->next = clients;
    clients = c;
    if (uv_accept(server, (uv_stream_t *)&c->tcp) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, client_alloc, client_read) != 0)
        client_close(c);
}

int scrape_listen(dassie_t *q, int *port)
{
    struct sockaddr_in addr;
    int len = sizeof addr;
    int rv = uv_tcp_init(q->loop, &listener);

    if (rv != 0)
        return rv;
    queue = q;
    listening = 1;
    if ((rv = uv_ip4_addr("127.0.0.1", *port, &addr)) != 0 ||
        (rv = uv_tcp_bind(&listener, (struct sockaddr *)&addr, 0)) != 0 ||
        (rv = uv_listen((uv_stream_t *)&listener, CLIENTS_MAX, connected)) ||
        (rv = uv_tcp_getsockname(&listener, (struct sockaddr *)&addr, &len)))
        return rv;
    *port = ntohs(addr.sin_port);
    return 0;
}

void scrape_stop(void)
{
    if (!listening)
        return;
    listening = 0;
    uv_close((uv_handle_t *)&listener, NULL);
    while (clients != NULL)
        client_close(clients);
}
