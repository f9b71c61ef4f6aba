#include "config.h"

#include "lines.h"

#include "remote.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES 65536

static int read_all(struct lines *lines, FILE *file)
{
    size_t room = 0;
    for (;;) {
        if (room - lines->len < READ_BYTES) {
            room = room < READ_BYTES ? 2 * READ_BYTES : 2 * room;
            char *text = realloc(lines->text, room);
            if (text == NULL) {
                return UV_ENOMEM;
            }
            lines->text = text;
        }
        size_t n = fread(lines->text + lines->len, 1, READ_BYTES, file);
        lines->len += n;
        if (n == 0) {
            return ferror(file) ? uv_translate_sys_error(errno) : 0;
        }
    }
}

int lines_read(struct lines *lines, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    memset(lines, 0, sizeof *lines);
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (file == NULL) {
        return uv_translate_sys_error(errno);
    }
    int rc = read_all(lines, file);
    if (!is_stdin) {
        fclose(file);
    }
    if (rc != 0) {
        lines_free(lines);
    }
    return rc;
}

void lines_free(struct lines *lines)
{
    free(lines->text);
    lines->text = NULL;
    lines->len = lines->at = 0;
}

/* The next line that is not empty; NULL: there is none. */
static const char *next_line(struct lines *lines, size_t *len)
{
    while (lines->at < lines->len) {
        const char *line = lines->text + lines->at;
        size_t left = lines->len - lines->at;
        const char *end = memchr(line, '\n', left);
        *len = end != NULL ? (size_t)(end - line) : left;
        lines->at += *len + (end != NULL);
        if (*len > 0) {
            return line;
        }
    }
    return NULL;
}

dassie_spec_t *lines_specs(struct lines *lines, const dassie_spec_t *spec,
                           const struct piece *most, size_t *n)
{
    dassie_spec_t *specs = NULL;
    size_t room = 0;
    size_t bytes = 0;
    size_t len;
    for (*n = 0; *n < most->jobs; ++*n) {
        if (*n == room) {
            room = room == 0 ? 256 : 2 * room;
            dassie_spec_t *larger = realloc(specs, room * sizeof specs[0]);
            if (larger == NULL) {
                free(specs);
                return NULL;
            }
            specs = larger;
        }
        size_t at = lines->at;
        const char *line = next_line(lines, &len);
        if (line == NULL) {
            break;
        }
        bytes += len + most->each;
        if (*n > 0 && bytes > most->bytes) {
            lines->at = at;
            break;
        }
        specs[*n] = *spec;
        specs[*n].data = line;
        specs[*n].data_len = len;
    }
    return specs;
}

static bool acknowledged;
static int status_of_many;

static void on_many(dassie_enqueue_many_t *req, int status)
{
    (void)req;
    acknowledged = true;
    status_of_many = status;
}

int lines_enqueue(const dassie_spec_t *specs, size_t n, uint64_t *first_id,
                  uint64_t *count)
{
    dassie_enqueue_many_t req = {.data = NULL};
    if (remote_is()) {
        return remote_enqueue(specs, n, first_id, count);
    }
    acknowledged = false;
    int rc = dassie_enqueue_many(&session.q, &req, specs, n, on_many);
    if (rc != 0) {
        return rc;
    }
    session_wait(&acknowledged);
    *first_id = req.first_id;
    *count = req.count;
    return status_of_many;
}
