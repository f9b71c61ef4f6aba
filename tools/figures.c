#include "config.h"

#include "figures.h"

#include "look.h"
#include "remote.h"
#include "session.h"
#include "tool.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct figures *taking; /* the callbacks below fill it */

/* ---- What the store holds ---- */

static int add_bytes(const char *path, const struct stat *st, int type,
                     struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type == FTW_F) {
        taking->disk_bytes += (uint64_t)st->st_blocks * 512;
    }
    return 0;
}

static void add_counts(dassie_count_t *total, const dassie_count_t *count)
{
    total->pending += count->pending;
    total->scheduled += count->scheduled;
    total->running += count->running;
    total->complete += count->complete;
    total->failed += count->failed;
    total->cancelled += count->cancelled;
}

static void keep_queues(const dassie_queue_info_t *queues, size_t n)
{
    struct figures *f = taking;
    f->queues = calloc(n + 1, sizeof f->queues[0]);
    for (; f->queues != NULL && f->queues_n < n; f->queues_n++) {
        const dassie_queue_info_t *queue = &queues[f->queues_n];
        char *name = malloc(queue->name_len + 1);
        if (name == NULL) {
            break;
        }
        memcpy(name, queue->name, queue->name_len + 1);
        f->queues[f->queues_n].info = *queue;
        f->queues[f->queues_n].info.name = name;
        add_counts(&f->total, &queue->jobs);
        f->pending_bytes += queue->pending_bytes;
    }
    if (f->queues_n < n) {
        exit(tool_fail(TOOL_ERROR, "out of memory"));
    }
}

/* ---- What the owner has done ---- */

/* A line of the text: NAME{queue="..."} NUMBER, or NAME NUMBER. */
struct sample {
    size_t name_len;
    char queue[DASSIE_NAME_BYTES_MAX + 1];
    size_t queue_len;
    bool of_queue;
    uint64_t value;
};

/* The value of a label up to its quote: first \\ and \" as in any such text,
 * then \xNN as dassie_metrics(3) has it. NULL: it is too long for a queue. */
static const char *read_queue(const char *p, const char *end,
                              struct sample *sample)
{
    char text[4 * DASSIE_NAME_BYTES_MAX + 1];
    size_t n = 0;
    for (; p < end && *p != '"' && n + 1 < sizeof text; p++) {
        p += *p == '\\' && p + 1 < end;
        text[n++] = *p;
    }
    text[n] = '\0';
    sample->queue_len = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '\\' && i + 3 < n) {
            char digits[3] = {text[i + 2], text[i + 3], '\0'};
            c = (char)strtoul(digits, NULL, 16);
            i += 3;
        }
        if (sample->queue_len == DASSIE_NAME_BYTES_MAX) {
            return NULL;
        }
        sample->queue[sample->queue_len++] = c;
    }
    return p;
}

static bool read_sample(const char *line, size_t len, struct sample *sample)
{
    static const char label[] = "{queue=\"";
    const char *end = line + len;
    const char *p = line;
    while (p < end && *p != '{' && *p != ' ') {
        p++;
    }
    sample->name_len = (size_t)(p - line);
    sample->of_queue = (size_t)(end - p) > strlen(label) &&
                       memcmp(p, label, strlen(label)) == 0;
    if (sample->of_queue) {
        p = read_queue(p + strlen(label), end, sample);
        if (p == NULL || end - p < 3 || memcmp(p, "\"} ", 3) != 0) {
            return false; /* it has other labels, too */
        }
        p += 2;
    }
    if (p == end || *p != ' ') {
        return false;
    }
    sample->value = strtoull(p + 1, NULL, 10);
    return true;
}

/* Counts a sample for all, or for a queue. */
static void count(struct counters *c, const char *name,
                  const struct sample *sample)
{
    const struct {
        const char *name;
        uint64_t *at;
    } all[] = {{"dassie_jobs_enqueued_total", &c->enqueued},
               {"dassie_jobs_completed_total", &c->completed},
               {"dassie_jobs_failed_total", &c->failed},
               {"dassie_jobs_retried_total", &c->retried},
               {"dassie_pool_threads", &taking->pool_threads},
               {"dassie_pool_threads_in_use", &taking->pool_used},
               {"dassie_pool_threads_requested", &taking->pool_wanted}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strlen(all[i].name) == sample->name_len &&
            memcmp(all[i].name, name, sample->name_len) == 0) {
            *all[i].at += sample->value;
        }
    }
}

/* The i-th queue of a family, if it is the one that the sample is of: both
 * lists are in the order in which the queues were made. */
static struct queue_figures *queue_of(const struct sample *sample, size_t i)
{
    struct queue_figures *queue = &taking->queues[i];
    bool same = i < taking->queues_n &&
                queue->info.name_len == sample->queue_len &&
                memcmp(queue->info.name, sample->queue, sample->queue_len) == 0;
    return same ? queue : NULL;
}

/* A sample without a queue is of all that have none of their own. */
static void keep_counters(const char *text, size_t len)
{
    const char *end = text + len;
    size_t i = 0; /* of the family */
    struct sample sample;
    while (text < end) {
        const char *eol = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((eol != NULL ? eol : end) - text);
        if (text[0] == '#') {
            i = 0;
        } else if (read_sample(text, n, &sample)) {
            struct queue_figures *queue =
                sample.of_queue ? queue_of(&sample, i++) : NULL;
            count(&taking->counters, text, &sample);
            if (queue != NULL) {
                count(&queue->counters, text, &sample);
                queue->counted = true;
            }
        }
        text += n + 1;
    }
    taking->counted = true;
}

/* ---- A look ---- */

int figures_take(struct figures *f)
{
    memset(f, 0, sizeof *f);
    taking = f;
    f->at_ns = uv_hrtime();
    int rc = look_queues(keep_queues);
    if (rc == 0 && remote_is()) {
        rc = remote_metrics(keep_counters);
    }
    if (rc != 0) {
        figures_free(f);
        return rc;
    }
    nftw(tool.dir, add_bytes, 16, FTW_PHYS);
    return 0;
}

void figures_free(struct figures *f)
{
    while (f->queues_n > 0) {
        free((void *)(uintptr_t)f->queues[--f->queues_n].info.name);
    }
    free(f->queues);
    memset(f, 0, sizeof *f);
}

static uint64_t enqueued_ms;

static void note_enqueued(const dassie_info_t *job)
{
    enqueued_ms = job->enqueued_ms;
}

/* Names with a zero byte inside have no look at their jobs. */
int figures_next(struct queue_figures *queue)
{
    struct selection selection = {.queue = queue->info.name,
                                  .states = DASSIE_IN(DASSIE_PENDING)};
    struct place_in_list place = {.state = DASSIE_PENDING};
    bool more;
    if (queue->info.jobs.pending == 0 ||
        strlen(queue->info.name) != queue->info.name_len) {
        return 0;
    }
    enqueued_ms = 0;
    int rc = look_list(&selection, &place, 1, note_enqueued, &more);
    queue->next_ms = enqueued_ms;
    return rc;
}

/* ---- Rates ---- */

static void rates_of(const struct counters *before, const struct counters *now,
                     uint64_t ns, struct rates *rates)
{
    double seconds = (double)ns / 1e9;
    rates->enqueued = (double)(now->enqueued - before->enqueued) / seconds;
    rates->completed = (double)(now->completed - before->completed) / seconds;
    rates->failed = (double)(now->failed - before->failed) / seconds;
    rates->retried = (double)(now->retried - before->retried) / seconds;
}

/* Another owner has begun to count anew. */
bool figures_rates(const struct figures *before, const struct figures *now,
                   struct rates *rates)
{
    if (!before->counted || !now->counted || before->owner != now->owner ||
        before->at_ns == now->at_ns) {
        return false;
    }
    rates_of(&before->counters, &now->counters, now->at_ns - before->at_ns,
             rates);
    return true;
}

/* Queues stay where they are in the list. */
bool figures_queue_rates(const struct figures *before,
                         const struct figures *now, size_t i,
                         struct rates *rates)
{
    static const struct counters none;
    const struct queue_figures *queue = &now->queues[i];
    bool fresh = i >= before->queues_n;
    if (!figures_rates(before, now, rates) || !queue->counted ||
        (!fresh && !before->queues[i].counted)) {
        return false;
    }
    rates_of(fresh ? &none : &before->queues[i].counters, &queue->counters,
             now->at_ns - before->at_ns, rates);
    return true;
}
