#include "config.h"

#include "out.h"

#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- stdout ---- */

static int out_error; /* errno of the first write that failed */

bool out_good(void)
{
    if (out_error == 0 && ferror(stdout)) {
        out_error = errno != 0 ? errno : EIO;
    }
    return out_error == 0;
}

int out_end(int code)
{
    errno = 0;
    if (fflush(stdout) != 0 && out_error == 0) {
        out_error = errno;
    }
    if (out_good()) {
        return code;
    }
    if (out_error == EPIPE) {
        return code == TOOL_GOOD ? TOOL_PIPE : code;
    }
    tool_fail(TOOL_ERROR, "stdout: %s", strerror(out_error));
    return TOOL_ERROR;
}

/* ---- Text ---- */

/* The length that a first byte announces; 0: it is none. */
static size_t announced(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first >= 0xf5) {
        return 0;
    }
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The length of the character at p, of up to n bytes; 0: it is no UTF-8, or
 * one that a terminal would obey. */
static size_t char_len(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
    size_t len = announced(p[0]);
    if (len == 0 || len > n || p[0] == 0x7f) {
        return 0;
    }
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    bool surrogate = c >= 0xd800 && c < 0xe000;
    return c < least[len] || surrogate || c > 0x10ffff ? 0 : len;
}

static void write_escaped(FILE *file, uint8_t c)
{
    if (c == '\n') {
        fputs("\\n", file);
    } else if (c == '\t') {
        fputs("\\t", file);
    } else {
        fprintf(file, "\\x%02x", c);
    }
}

void text_write(FILE *file, const void *p, size_t len, size_t max)
{
    const uint8_t *bytes = p;
    size_t end = max != 0 && len > max ? max : len;
    for (size_t i = 0; i < end;) {
        size_t n = char_len(bytes + i, len - i);
        if (n == 0) {
            write_escaped(file, bytes[i++]);
        } else {
            fwrite(bytes + i, 1, n, file);
            i += n;
        }
    }
    if (end < len) {
        fputs("...", file);
    }
}

void out_text(const void *p, size_t len, size_t max)
{
    text_write(stdout, p, len, max);
}

char *text_escaped(const void *p, size_t len)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file != NULL) {
        text_write(file, p, len, 0);
        fclose(file);
    }
    if (text == NULL) {
        exit(tool_fail(TOOL_ERROR, "out of memory"));
    }
    return text;
}

bool out_is_text(const void *p, size_t len)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < len;) {
        size_t n = bytes[i] == '\n' || bytes[i] == '\t'
                       ? 1
                       : char_len(bytes + i, len - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

void out_hex(const void *p, size_t len)
{
    const uint8_t *bytes = p;
    for (size_t at = 0; at < len && out_good(); at += 16) {
        printf("%08zx ", at);
        for (size_t i = at; i < at + 16; i++) {
            if (i < len) {
                printf(" %02x", bytes[i]);
            } else {
                fputs("   ", stdout);
            }
        }
        fputs("  ", stdout);
        for (size_t i = at; i < at + 16 && i < len; i++) {
            putchar(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '.');
        }
        putchar('\n');
    }
}

/* ---- Times ---- */

const char *format_time(uint64_t ms, char text[OUT_TIME_BYTES])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    size_t n = gmtime_r(&seconds, &tm) == NULL
                   ? 0
                   : strftime(text, OUT_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, OUT_TIME_BYTES - n, ".%03uZ", (unsigned)(ms % 1000));
    return text;
}

const char *format_age(uint64_t ms, char text[OUT_TIME_BYTES])
{
    static const struct {
        uint64_t ms;
        char unit;
    } units[] = {{86400000, 'd'}, {3600000, 'h'}, {60000, 'm'}, {1000, 's'}};
    int i = 0;
    while (i < 3 && ms < 2 * units[i].ms) {
        i++;
    }
    snprintf(text, OUT_TIME_BYTES, "%" PRIu64 "%c", ms / units[i].ms,
             units[i].unit);
    return text;
}

const char *format_rate(double per_second, char text[OUT_TIME_BYTES])
{
    if (per_second < 10000) {
        snprintf(text, OUT_TIME_BYTES, "%.*f", per_second < 99.95, per_second);
    } else {
        snprintf(text, OUT_TIME_BYTES, "%.0fk", per_second / 1000);
    }
    return text;
}

uint64_t age_of(uint64_t ms)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms =
        (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return now_ms > ms ? now_ms - ms : 0;
}

/* ---- JSON ---- */

static json_t *json_made(json_t *value)
{
    if (value == NULL) {
        exit(tool_fail(TOOL_ERROR, "out of memory"));
    }
    return value;
}

void out_json(json_t *object)
{
    if (json_dumpf(json_made(object), stdout,
                   JSON_COMPACT | JSON_REAL_PRECISION(6)) != 0) {
        out_error = out_error != 0 ? out_error : errno;
    }
    putchar('\n');
    json_decref(object);
}

static json_t *json_base64(const uint8_t *p, size_t len)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(len / 3 * 4 + 5);
    size_t n = 0;
    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16 |
                        (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                        (have > 2 ? (uint32_t)p[i + 2] : 0);
        for (size_t k = 0; k < 4; k++) {
            text[n++] = k <= have ? digits[bits >> (18 - 6 * k) & 63] : '=';
        }
    }
    json_t *value = json_stringn(text, n);
    free(text);
    return value;
}

void json_bytes(json_t *object, const char *key, const void *p, size_t len)
{
    char key64[64];
    json_t *value = json_stringn(p != NULL ? p : "", len);
    if (value != NULL) {
        json_object_set_new(object, key, value);
        return;
    }
    snprintf(key64, sizeof key64, "%s_base64", key);
    json_object_set_new(object, key64, json_made(json_base64(p, len)));
}

void json_count(json_t *object, const char *key, uint64_t n)
{
    json_object_set_new(object, key, json_made(json_integer((json_int_t)n)));
}

void json_time(json_t *object, const char *key, uint64_t ms)
{
    char text[OUT_TIME_BYTES];
    json_object_set_new(
        object, key,
        ms == 0 ? json_null() : json_made(json_string(format_time(ms, text))));
}

json_t *json_counts(const dassie_count_t *count)
{
    json_t *object = json_made(json_object());
    json_count(object, "pending", count->pending);
    json_count(object, "scheduled", count->scheduled);
    json_count(object, "running", count->running);
    json_count(object, "complete", count->complete);
    json_count(object, "failed", count->failed);
    json_count(object, "cancelled", count->cancelled);
    return object;
}

static void json_trouble(json_t *object, const dassie_info_t *job)
{
    if (job->error_code != 0) {
        json_object_set_new(object, "error_code",
                            json_made(json_integer(job->error_code)));
        json_bytes(object, "error", job->error, job->error_len);
    }
    if (job->progress_done > 0 || job->progress_total > 0 ||
        job->progress_len > 0) {
        json_count(object, "progress_done", job->progress_done);
        json_count(object, "progress_total", job->progress_total);
        json_bytes(object, "progress", job->progress, job->progress_len);
    }
}

json_t *json_job(const dassie_info_t *job, bool data)
{
    json_t *object = json_made(json_object());
    json_count(object, "id", job->id);
    json_object_set_new(object, "state",
                        json_made(json_string(state_name((int)job->state))));
    json_bytes(object, "queue", job->queue, job->queue_len);
    json_bytes(object, "name", job->name, job->name_len);
    json_object_set_new(object, "priority",
                        json_made(json_integer(job->priority)));
    json_object_set_new(object, "at_most_once",
                        json_boolean(job->flags & DASSIE_AT_MOST_ONCE));
    json_count(object, "attempts", job->attempts);
    json_count(object, "excused", job->excused);
    json_count(object, "crashes", job->crashes);
    json_time(object, "enqueued", job->enqueued_ms);
    json_time(object, "due", job->due_ms);
    json_time(object, "expires", job->expires_ms);
    json_time(object, "ended", job->ended_ms);
    json_count(object, "bytes", job->data_len);
    if (job->unique != NULL) {
        json_bytes(object, "unique", job->unique, job->unique_len);
    }
    json_trouble(object, job);
    if (data) {
        json_bytes(object, "data", job->data, job->data_len);
        if (job->state == DASSIE_COMPLETE) {
            json_bytes(object, "result", job->result, job->result_len);
        }
    }
    return object;
}
