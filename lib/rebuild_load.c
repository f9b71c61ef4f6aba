/* rebuild_load.c: a rebuild's first part: the names of queues, and the numbers,
 * places and cursors that were given.
 *
 * The happy path is: the store's row, names, settings, counts, the commits that
 * are not in the counts, and the places that histories tell of; each in one
 * walk.
 *
 * Possible failure modes are: no memory, a read that fails; two queues of one
 * name, or a row that nobody writes (DASSIE_ECORRUPT). A queue without a name
 * is none: it gets one.
 *
 * On close: queues and lines stay, for the parts that follow. Threads: the
 * engine. */
#include "config.h"

#include "rebuild_rows.h"

static int each_meta_row(struct rebuild *rb, char tag, row_cb cb)
{
    const char from[] = {tag};
    const char to[] = {(char)(tag + 1)};
    return dassie__rebuild_each(rb, FAMILY_META, kv_slice(from, 1),
                                kv_slice(to, 1), WINDOW_ROWS, cb);
}

/* ---- Names ---- */

static int name_read(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value, uint32_t *id, struct kv_slice *name)
{
    const char *p;
    char tag;
    if (dassie__key_parse_queue(key.p, key.len, &tag, id) != 0 ||
        *id >= DASSIE_QUEUES_MAX ||
        dassie__name_row_read(value.p, value.len, &p, &name->len) != 0) {
        return dassie__rebuild_damaged(rb, "a queue's name");
    }
    name->p = (const uint8_t *)p;
    return 0;
}

static int take_name(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct kv_slice name;
    struct queue *q;
    uint32_t id;
    int rc = name_read(rb, key, value, &id, &name);
    if (rc != 0) {
        return rc;
    }
    if (dassie__queues_find(&rb->taken, (const char *)name.p, name.len) !=
        NULL) {
        return dassie__rebuild_damaged(rb, "two queues of one name");
    }
    return dassie__queues_add(&rb->taken, (const char *)name.p, name.len, &q) ==
                   0
               ? 0
               : dassie__rebuild_no_memory(rb);
}

static int load_name(struct rebuild *rb, struct kv_slice key,
                     struct kv_slice value)
{
    struct kv_slice name;
    struct queue *q;
    uint32_t id;
    int rc = name_read(rb, key, value, &id, &name);
    if (rc == 0 && id > 0) {
        rc = dassie__rebuild_queue(rb, id - 1, &q);
    }
    if (rc != 0) {
        return rc;
    }
    return dassie__queues_add(&rb->s.queues, (const char *)name.p, name.len,
                              &q) == 0 &&
                   dassie__store_lines(&rb->s, q, 0) == 0
               ? 0
               : dassie__rebuild_no_memory(rb);
}

/* ---- Numbers and cursors ---- */

static int load_line(struct rebuild *rb, struct queue *q, struct part_reader *r)
{
    struct line_row row;
    struct line *line = NULL;
    if (dassie__line_part_read(r, &row) != 0) {
        return dassie__rebuild_damaged(rb, "a line's counts");
    }
    int rc = dassie__rebuild_line(rb, q, row.priority, row.kind, &line);
    if (rc == 0) {
        line->window_end = row.cursor > 0 ? row.cursor - 1 : 0;
    }
    return rc;
}

static int load_part(struct rebuild *rb, struct part_reader *r)
{
    struct tally tally;
    struct queue *q;
    uint32_t id;
    uint32_t lines;
    if (dassie__queue_part_read(r, &id, &tally, &lines) != 0) {
        return dassie__rebuild_damaged(rb, "a queue's counts");
    }
    int rc = dassie__rebuild_queue(rb, id, &q);
    for (uint32_t i = 0; rc == 0 && i < lines; i++) {
        rc = load_line(rb, q, r);
    }
    return rc;
}

static int load_counts(struct rebuild *rb, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r = {value.p + 1, value.p + value.len};
    (void)key;
    if (value.len < 1 || value.p[0] != RECORD_VERSION) {
        return dassie__rebuild_damaged(rb, "a queue's row");
    }
    return load_part(rb, &r);
}

static void load_head(struct rebuild *rb, const struct schedule_row *row)
{
    rb->head.ms = row->head_ms;
    rb->head.id = row->head_id;
}

static int load_commit(struct rebuild *rb, struct kv_slice key,
                       struct kv_slice value)
{
    struct part_reader r;
    struct store_row row;
    uint64_t number;
    int rc = 0;
    if (dassie__key_parse_number(key.p, key.len, &number) != 0 ||
        dassie__store_row_read(&r, value.p, value.len, &row) != 0) {
        return dassie__rebuild_damaged(rb, "a commit's row");
    }
    rb->last_commit = max64(rb->last_commit, number);
    rb->s.next = max64(rb->s.next, row.next);
    if (number < rb->folded) {
        return 0; /* brought back with a table that was of no use any more */
    }
    load_head(rb, &row.schedule);
    for (uint32_t i = 0; rc == 0 && i < row.queues; i++) {
        rc = load_part(rb, &r);
    }
    return rc;
}

static int load_store_row(struct rebuild *rb)
{
    struct kv *kv = rb->s.kv;
    struct kv_value value;
    struct part_reader r;
    struct store_row row;
    int rc = kv->ops->get(kv, NULL, FAMILY_META, kv_string(KEY_STORE), &value,
                          rb->e);
    if (rc != 0) {
        return rc == UV_ENOENT ? 0 : rc;
    }
    rc = dassie__store_row_read(&r, value.p, value.len, &row);
    kv->ops->value_release(&value);
    if (rc != 0) {
        return dassie__rebuild_damaged(rb, "the store's row");
    }
    rb->s.next = max64(rb->s.next, row.next);
    rb->last_commit = rb->folded = row.folded;
    load_head(rb, &row.schedule);
    return 0;
}

/* Settings stand for themselves; their queue is to be there. */
static int load_settings(struct rebuild *rb, struct kv_slice key,
                         struct kv_slice value)
{
    struct settings_row settings;
    struct queue *q;
    uint32_t id;
    char tag;
    if (dassie__key_parse_queue(key.p, key.len, &tag, &id) != 0 ||
        dassie__settings_row_read(value.p, value.len, &settings) != 0) {
        return dassie__rebuild_damaged(rb, "a queue's settings");
    }
    return dassie__rebuild_queue(rb, id, &q);
}

/* A rebuild that did not get to its end has given places away, too, which no
 * commit's row tells: none of them is given again. */
static int load_place(struct rebuild *rb, struct kv_slice key,
                      struct kv_slice value)
{
    struct history_row row;
    (void)key;
    if (dassie__history_row_read(value.p, value.len, &row) != 0) {
        return dassie__rebuild_damaged(rb, "a history row");
    }
    if (row.kind != PLACE_SCHEDULED) {
        rb->s.next = max64(rb->s.next, row.position + 1);
    }
    return 0;
}

int dassie__rebuild_load(struct rebuild *rb)
{
    int rc = load_store_row(rb);
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_NAME_TAG, take_name);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_NAME_TAG, load_name);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_SETTINGS_TAG, load_settings);
    }
    if (rc == 0) {
        rc = each_meta_row(rb, KEY_COUNTS_TAG, load_counts);
    }
    if (rc == 0) {
        rc = dassie__rebuild_each_of(rb, FAMILY_COMMITS, WINDOW_ROWS,
                                     load_commit);
    }
    return rc == 0 ? dassie__rebuild_each_of(rb, FAMILY_HISTORY, WINDOW_ROWS,
                                             load_place)
                   : rc;
}
