/* verify_counts.c: what verify reads of names, counts and commits; see
 * verify.h.
 *
 * The queues' rows hold counts as of the last fold; the commits since then are
 * replayed over them. Values are absolute, so the last one wins. */
#include "config.h"

#include "verify.h"

#include "alloc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Names ---- */

struct verify_queue *dassie__verify_queue(struct verify *v, uint32_t id)
{
    return id < v->queues_n && v->queues[id].name != NULL ? &v->queues[id]
                                                          : NULL;
}

static int read_name(struct verify *v, uint32_t id, struct kv_slice key,
                     struct kv_slice value)
{
    const char *name;
    size_t len;
    if (id >= DASSIE_QUEUES_MAX) {
        dassie__verify_tell_row(v, FAMILY_META, key,
                                "the id of the queue is too high");
        return 0;
    }
    if (id != v->queues_n) {
        dassie__verify_tell(
            v, 0, "meta row: queue %" PRIu32 " has a name, but %zu not", id,
            v->queues_n);
    }
    if (dassie__name_row_read(value.p, value.len, &name, &len) != 0) {
        dassie__verify_tell(
            v, 0, "meta row: name of queue %" PRIu32 ": unreadable", id);
        return 0;
    }
    while (v->queues_n <= id) {
        int rc = VERIFY_ROOM(v, queues);
        if (rc != 0) {
            return rc;
        }
        struct verify_queue none = {.lines = VERIFY_NONE};
        v->queues[v->queues_n++] = none;
    }
    v->queues[id].name = dassie__memdup(name, len);
    v->queues[id].name_len = len;
    return v->queues[id].name == NULL ? dassie__verify_no_memory(v) : 0;
}

static int name_cmp(const void *a, const void *b)
{
    const struct verify_queue *x = *(const struct verify_queue *const *)a;
    const struct verify_queue *y = *(const struct verify_queue *const *)b;
    size_t len = x->name_len < y->name_len ? x->name_len : y->name_len;
    int d = len > 0 ? memcmp(x->name, y->name, len) : 0;
    return d != 0 ? d
                  : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

/* No two queues have the same name. */
static int check_names(struct verify *v)
{
    size_t n = 0;
    const struct verify_queue **sorted =
        dassie__malloc((v->queues_n + 1) * sizeof sorted[0]);
    if (sorted == NULL) {
        return dassie__verify_no_memory(v);
    }
    for (size_t i = 0; i < v->queues_n; i++) {
        if (v->queues[i].name != NULL) {
            sorted[n++] = &v->queues[i];
        }
    }
    qsort(sorted, n, sizeof sorted[0], name_cmp);
    for (size_t i = 1; i < n; i++) {
        if (name_cmp(&sorted[i - 1], &sorted[i]) == 0) {
            dassie__verify_tell(
                v, 0, "meta rows: queues %td and %td share a name",
                sorted[i - 1] - v->queues, sorted[i] - v->queues);
        }
    }
    dassie__free(sorted);
    return 0;
}

/* ---- Counts ---- */

static bool line_is(const struct verify_line *line, uint32_t queue,
                    int8_t priority, uint8_t kind)
{
    return line->queue == queue && line->row.priority == priority &&
           line->row.kind == kind;
}

int dassie__verify_line(struct verify *v, uint32_t queue, int8_t priority,
                        uint8_t kind, uint32_t *index)
{
    struct verify_queue *q = &v->queues[queue];
    uint32_t at = v->line_last;
    if (at < v->lines_n && line_is(&v->lines[at], queue, priority, kind)) {
        *index = at;
        return 0;
    }
    at = q->lines;
    while (at != VERIFY_NONE &&
           !line_is(&v->lines[at], queue, priority, kind)) {
        at = v->lines[at].next;
    }
    if (at == VERIFY_NONE) {
        int rc = VERIFY_ROOM(v, lines);
        if (rc != 0) {
            return rc;
        }
        struct verify_line line = {.row = {.priority = priority, .kind = kind},
                                   .queue = queue,
                                   .next = q->lines};
        at = (uint32_t)v->lines_n;
        v->lines[v->lines_n++] = line;
        q->lines = at;
    }
    v->line_last = at;
    *index = at;
    return 0;
}

/* What a part of counts is for. */
enum part_use {
    PART_TAKE,   /* it holds from here on */
    PART_COMPARE /* it must be what is known already */
};

static bool line_row_same(const struct line_row *a, const struct line_row *b)
{
    return a->start == b->start && a->cursor == b->cursor &&
           a->tail == b->tail && a->live == b->live && a->dead == b->dead;
}

static int take_line(struct verify *v, uint32_t queue,
                     const struct line_row *row, enum part_use use)
{
    char text[VERIFY_TEXT];
    uint32_t index;
    if (dassie__verify_queue(v, queue) == NULL) {
        return 0;
    }
    int rc = dassie__verify_line(v, queue, row->priority, row->kind, &index);
    if (rc != 0) {
        return rc;
    }
    struct verify_line *line = &v->lines[index];
    if (use == PART_COMPARE && !line_row_same(&line->row, row)) {
        dassie__verify_line_text(v, line, text);
        dassie__verify_tell(v, 0, "%s: its meta row differs from its commit",
                            text);
    }
    line->row = *row;
    line->counted = true;
    return 0;
}

/* Reads the part of one queue: 0, -1 if no writer makes it, or an error. */
static int take_part(struct verify *v, struct part_reader *r, uint32_t *queue,
                     enum part_use use)
{
    struct tally tally;
    struct line_row row;
    uint32_t lines;
    char text[VERIFY_TEXT];
    int rc = dassie__queue_part_read(r, queue, &tally, &lines);
    if (rc != 0) {
        return -1;
    }
    struct verify_queue *q = dassie__verify_queue(v, *queue);
    if (q == NULL) {
        dassie__verify_tell(v, 0, "queue %" PRIu32 " has counts, but no name",
                            *queue);
    } else {
        if (use == PART_COMPARE &&
            memcmp(&q->stored, &tally, sizeof tally) != 0) {
            dassie__verify_queue_text(v, *queue, text);
            dassie__verify_tell(
                v, 0, "%s: its meta row differs from its commit", text);
        }
        q->stored = tally;
    }
    for (uint32_t i = 0; rc == 0 && i < lines; i++) {
        rc = dassie__line_part_read(r, &row) != 0
                 ? -1
                 : take_line(v, *queue, &row, use);
    }
    return rc;
}

static int read_counts(struct verify *v, uint32_t id, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r = {value.p + 1, value.p + value.len};
    uint32_t queue;
    if (value.len < 1 || value.p[0] != RECORD_VERSION) {
        dassie__verify_tell_row(v, FAMILY_META, key,
                                "counts of a queue: unreadable");
        return 0;
    }
    int rc = take_part(v, &r, &queue, PART_TAKE);
    if (rc == -1 || (rc == 0 && r.p != r.end)) {
        dassie__verify_tell_row(v, FAMILY_META, key,
                                "counts of a queue: unreadable");
        return 0;
    }
    if (rc == 0 && queue != id) {
        dassie__verify_tell(v, 0,
                            "meta row: counts of queue %" PRIu32
                            " say that they are those of %" PRIu32,
                            id, queue);
    }
    return rc;
}

/* They come before the names. */
static void read_settings(struct verify *v, uint32_t id, struct kv_slice key,
                          struct kv_slice value)
{
    struct settings_row settings;
    if (dassie__settings_row_read(value.p, value.len, &settings) != 0) {
        dassie__verify_tell_row(v, FAMILY_META, key,
                                "settings of a queue: unreadable");
    }
    v->settings_n = id + 1;
}

static void read_store(struct verify *v, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r;
    struct store_row row;
    if (dassie__store_row_read(&r, value.p, value.len, &row) != 0 ||
        r.p != r.end || row.queues != 0 || row.folded == 0) {
        dassie__verify_tell_row(v, FAMILY_META, key,
                                "the store's row: unreadable");
        return;
    }
    v->store = row;
}

static int read_meta(struct verify *v, struct kv_slice key,
                     struct kv_slice value)
{
    static const char store[] = KEY_STORE;
    uint32_t id;
    char tag;
    if (key.len == sizeof store - 1 && memcmp(key.p, store, key.len) == 0) {
        read_store(v, key, value);
        return 0;
    }
    if (dassie__key_parse_queue(key.p, key.len, &tag, &id) != 0) {
        dassie__verify_tell_row(v, FAMILY_META, key, "unknown key");
        return 0;
    }
    switch (tag) {
        case KEY_NAME_TAG:
            return read_name(v, id, key, value);
        case KEY_COUNTS_TAG:
            return read_counts(v, id, key, value);
        default:
            read_settings(v, id, key, value);
            return 0;
    }
}

/* ---- Commits ---- */

static void check_head(struct verify *v, uint64_t number,
                       const struct store_row *head)
{
    const struct store_row *was = &v->head;
    if (number == v->store.folded) {
        if (head->next != was->next || head->oldest_set != was->oldest_set ||
            head->wall_ms != was->wall_ms ||
            memcmp(&head->schedule, &was->schedule, sizeof head->schedule) !=
                0) {
            dassie__verify_tell(v, 0,
                                "commit %" PRIu64
                                " differs from the store's row, which it made",
                                number);
        }
        return;
    }
    if (head->folded != v->store.folded) {
        dassie__verify_tell(v, 0,
                            "commit %" PRIu64 ": folded up to %" PRIu64
                            ", but the store's row says %" PRIu64,
                            number, head->folded, v->store.folded);
    }
    if (head->next < was->next || head->next == 0) {
        dassie__verify_tell(v, 0,
                            "commit %" PRIu64
                            ": the next number goes back from %" PRIu64
                            " to %" PRIu64,
                            number, was->next, head->next);
    }
    if (head->oldest_set < was->oldest_set || head->oldest_set > number) {
        dassie__verify_tell(v, 0,
                            "commit %" PRIu64
                            ": the oldest claim set is %" PRIu64
                            ", but was %" PRIu64,
                            number, head->oldest_set, was->oldest_set);
    }
}

static int read_commit(struct verify *v, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r;
    struct store_row head;
    uint64_t number;
    uint32_t queue;
    int rc = 0;
    if (dassie__key_parse_number(key.p, key.len, &number) != 0) {
        dassie__verify_tell_row(v, FAMILY_COMMITS, key, "not a number");
        return 0;
    }
    if (number < v->store.folded || number == 0) {
        dassie__verify_tell(
            v, 0, "commit %" PRIu64 " is folded, but still there", number);
        return 0;
    }
    if (number != v->next_commit) {
        dassie__verify_tell(v, 0,
                            "commits %" PRIu64 " to %" PRIu64 " are missing",
                            v->next_commit, number - 1);
    }
    v->next_commit = number + 1;
    v->last_commit = number;
    if (dassie__store_row_read(&r, value.p, value.len, &head) != 0) {
        dassie__verify_tell(v, 0, "commit %" PRIu64 ": unreadable", number);
        return 0;
    }
    check_head(v, number, &head);
    v->head = head;
    for (uint32_t i = 0; rc == 0 && i < head.queues; i++) {
        rc = take_part(v, &r, &queue,
                       number == v->store.folded ? PART_COMPARE : PART_TAKE);
    }
    if (rc == -1 || (rc == 0 && r.p != r.end)) {
        dassie__verify_tell(v, 0, "commit %" PRIu64 ": counts unreadable",
                            number);
        rc = 0;
    }
    return rc;
}

static int read_commits(struct verify *v)
{
    uint64_t folded = v->store.folded;
    v->head = v->store;
    v->last_commit = folded;
    v->next_commit = folded > 0 ? folded : 1;
    if (folded == 0) {
        v->head.next = 1;
    }
    int rc = dassie__verify_each(v, FAMILY_COMMITS, read_commit);
    if (rc == 0 && folded > 0 && v->next_commit == folded) {
        dassie__verify_tell(v, 0, "commit %" PRIu64 " is missing", folded);
    }
    return rc;
}

int dassie__verify_counts(struct verify *v)
{
    int rc = dassie__verify_each(v, FAMILY_META, read_meta);
    if (v->settings_n > v->queues_n) {
        dassie__verify_tell(v, 0, "queue %zu has settings, but no name",
                            v->settings_n - 1);
    }
    if (rc == 0) {
        rc = check_names(v);
    }
    return rc == 0 ? read_commits(v) : rc;
}
