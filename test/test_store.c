/* The store on both databases: transitions, claims, windows, commits in doubt,
 * dead rows, folds; and a long random walk beside a naive model. */
#include "config.h"

#include "store_rig.h"

static struct rig rig;
static struct rig *const r = &rig;

static void teardown(void)
{
    rig_teardown(r);
}

static void claim_is(const char *queue, enum claim_how how, uint64_t id)
{
    job_t *job = rig_claim_how(r, queue, how);
    ck_assert_uint_eq(job == NULL ? 0 : job->id, id);
}

static void tally_is(uint64_t pending, uint64_t running, uint64_t complete,
                     uint64_t failed)
{
    const struct tally *tally = &r->s.queues.tally;
    ck_assert_uint_eq(tally->pending, pending);
    ck_assert_uint_eq(tally->running, running);
    ck_assert_uint_eq(tally->complete, complete);
    ck_assert_uint_eq(tally->failed, failed);
}

/* Commits, checks, and does it again with what comes back from disk. */
static void settle(uint64_t pending, uint64_t running, uint64_t complete,
                   uint64_t failed)
{
    rig_commit(r);
    tally_is(pending, running, complete, failed);
    rig_sound(r);
    rig_reopen(r);
    tally_is(pending, running, complete, failed);
    ck_assert_uint_eq(r->claimed.n, running);
    rig_sound(r);
}

static job_t *claimed(uint64_t id)
{
    for (job_t *job = r->claimed.head; job != NULL; job = job->next) {
        if (job->id == id) {
            return job;
        }
    }
    ck_abort_msg("job %llu is not claimed", (unsigned long long)id);
    return NULL;
}

/* A claimed job has its payload with it. */
static void row_is_whole(const job_t *job)
{
    struct job_row row;
    ck_assert_int_eq(dassie__job_row_read(job->row, job->row_len, &row), 0);
    ck_assert_uint_eq(row.queue, job->queue->id);
    ck_assert_uint_eq(row.data_len, 7);
    ck_assert_mem_eq(row.data, "payload", 7);
}

/* ---- Transitions ---- */

START_TEST(empty)
{
    rig_setup(r, _i);
    rig_commit(r);
    ck_assert_uint_eq(r->s.commit, 1);
    ck_assert_uint_eq(rig_rows(r, FAMILY_COMMITS), 0);
    settle(0, 0, 0, 0);
    ck_assert_int_eq(dassie__store_ended(&r->s, 0), UV_ENOENT);
    ck_assert_int_eq(dassie__store_ended(&r->s, 1), UV_ENOENT);
}
END_TEST

START_TEST(one_life)
{
    rig_setup(r, _i);
    uint64_t id = rig_put(r, "mail", 0);
    ck_assert_uint_eq(id, 1);
    settle(1, 0, 0, 0);
    ck_assert_int_eq(dassie__store_ended(&r->s, id), 0);
    job_t *job = rig_claim(r, "mail");
    ck_assert_uint_eq(job->id, id);
    ck_assert_uint_eq(job->attempts, 0);
    row_is_whole(job);
    settle(0, 1, 0, 0);
    job = claimed(id);
    ck_assert_uint_eq(job->attempts, 0);
    rig_move(r, job, EVENT_COMPLETE);
    settle(0, 0, 1, 0);
    ck_assert_int_eq(dassie__store_ended(&r->s, id), 1);
    ck_assert_uint_eq(rig_rows(r, FAMILY_RUNNING), 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_JOBS), 1);
}
END_TEST

START_TEST(hand_off)
{
    rig_setup(r, _i);
    job_t *job = rig_hand_off(r, "mail", 0);
    uint64_t id = job->id;
    settle(0, 1, 0, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), 0);
    rig_move(r, claimed(id), EVENT_FAIL);
    settle(0, 0, 0, 1);
    ck_assert_int_eq(dassie__store_ended(&r->s, id), 1);
}
END_TEST

/* Unclaim counts nothing and goes to the front; repeat counts; a suspect goes
 * aside, and stays there when it is handed back. All take new positions, and
 * the counts come back from disk. */
START_TEST(ways_back)
{
    static const struct {
        enum event event;
        enum claim_how how;
        uint32_t attempts;
    } ways[] = {{EVENT_UNCLAIM, CLAIM_NOW, 0},
                {EVENT_REPEAT, CLAIM_NOW, 1},
                {EVENT_SUSPECT, CLAIM_ALONE, 2},
                {EVENT_UNCLAIM, CLAIM_ALONE, 2},
                {EVENT_REPEAT, CLAIM_NOW, 3}};
    rig_setup(r, _i);
    uint64_t id = rig_put(r, "mail", 5);
    rig_commit(r);
    rig_claim(r, "mail");
    settle(0, 1, 0, 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        uint64_t next = r->s.next;
        rig_move(r, claimed(id), ways[i].event);
        ck_assert_uint_eq(r->s.next, next + 1);
        settle(1, 0, 0, 0);
        ck_assert_uint_eq(r->s.suspects, ways[i].how == CLAIM_ALONE);
        claim_is("mail", ways[i].how == CLAIM_ALONE ? CLAIM_NOW : CLAIM_ALONE,
                 0);
        job_t *job = rig_claim_how(r, "mail", ways[i].how);
        ck_assert_ptr_nonnull(job);
        ck_assert_uint_eq(job->id, id);
        ck_assert_uint_eq(job->position, next);
        ck_assert_uint_eq(job->attempts, ways[i].attempts);
        row_is_whole(job);
        settle(0, 1, 0, 0);
        ck_assert_uint_eq(claimed(id)->attempts, ways[i].attempts);
    }
    rig_move(r, claimed(id), EVENT_COMPLETE);
    settle(0, 0, 1, 0);
}
END_TEST

START_TEST(ends_of_recovery)
{
    rig_setup(r, _i);
    uint64_t a = rig_hand_off(r, "mail", 0)->id;
    uint64_t b = rig_hand_off(r, "mail", 0)->id;
    settle(0, 2, 0, 0);
    claimed(b)->crashes = 1;
    rig_move(r, claimed(b), EVENT_CRASH_OUT);
    rig_move(r, claimed(a), EVENT_INTERRUPT);
    settle(0, 0, 0, 2);
}
END_TEST

/* A claim that goes back in its own batch was never there. */
START_TEST(claim_and_unclaim_in_one_batch)
{
    rig_setup(r, _i);
    rig_serve(r, "mail", 1);
    uint64_t id = rig_put(r, "mail", 0);
    rig_move(r, rig_claim(r, "mail"), EVENT_UNCLAIM);
    uint64_t handed = r->s.next;
    rig_move(r, rig_hand_off(r, "mail", 0), EVENT_UNCLAIM);
    settle(2, 0, 0, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_RUNNING), 0);
    claim_is("mail", CLAIM_NOW, id);
    claim_is("mail", CLAIM_NOW, handed);
    settle(0, 2, 0, 0);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        enum event event;
        int error;
    } refused[] = {{EVENT_ENQUEUE, UV_EEXIST},
                   {EVENT_HAND_OFF, UV_EEXIST},
                   {EVENT_CLAIM, UV_EALREADY}};
    bool kept;
    rig_setup(r, _i);
    job_t *job = rig_hand_off(r, "mail", 0);
    rig_commit(r);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ck_assert_int_eq(
            dassie__store_move(&r->s, job, refused[i].event, &kept),
            refused[i].error);
        ck_assert(!r->s.changed);
        tally_is(0, 1, 0, 0);
    }
    ck_assert_int_eq(dassie__store_move(&r->s, job, EVENT_COMPLETE, &kept), 0);
    rig_commit(r);
    ck_assert_int_eq(dassie__store_move(&r->s, job, EVENT_COMPLETE, &kept),
                     UV_EALREADY);
    ck_assert(!r->s.changed);
    tally_is(0, 0, 1, 0);
    dassie__job_free(job);
    settle(0, 0, 1, 0);
}
END_TEST

/* ---- Claims ---- */

START_TEST(claim_order)
{
    rig_setup(r, _i);
    uint64_t low = rig_put(r, "mail", 19);
    uint64_t a = rig_put(r, "mail", 0);
    uint64_t other = rig_put(r, "web", -20);
    uint64_t b = rig_put(r, "mail", 0);
    uint64_t high = rig_put(r, "mail", -20);
    uint64_t late = rig_put(r, "mail", 0);
    settle(6, 0, 0, 0);
    /* a and b go to the front, b first; high becomes a suspect. */
    job_t *first = rig_claim(r, "mail");
    ck_assert_uint_eq(first->id, high);
    job_t *second = rig_claim(r, "mail");
    ck_assert_uint_eq(second->id, a);
    job_t *third = rig_claim(r, "mail");
    ck_assert_uint_eq(third->id, b);
    rig_commit(r);
    rig_move(r, third, EVENT_UNCLAIM);
    rig_move(r, second, EVENT_REPEAT);
    rig_move(r, first, EVENT_SUSPECT);
    settle(6, 0, 0, 0);
    claim_is("mail", CLAIM_NOW, b);
    claim_is("mail", CLAIM_NOW, a);
    claim_is("mail", CLAIM_NOW, late);
    claim_is("mail", CLAIM_NOW, low);
    claim_is("mail", CLAIM_NOW, 0);
    claim_is("mail", CLAIM_ALONE, high);
    claim_is("mail", CLAIM_ALONE, 0);
    claim_is("web", CLAIM_AHEAD, other);
    settle(0, 6, 0, 0);
}
END_TEST

/* At-most-once jobs are not claimed ahead, and nothing behind them is. */
START_TEST(not_ahead)
{
    rig_setup(r, _i);
    job_t *job = rig_job(r, "mail", 0, DASSIE_AT_MOST_ONCE);
    uint64_t id = r->s.next;
    ck_assert(!dassie__store_insert(&r->s, job, EVENT_ENQUEUE));
    dassie__job_free(job);
    uint64_t behind = rig_put(r, "mail", 0);
    rig_commit(r);
    claim_is("mail", CLAIM_AHEAD, 0);
    claim_is("mail", CLAIM_NOW, id);
    claim_is("mail", CLAIM_AHEAD, behind);
    settle(0, 2, 0, 0);
}
END_TEST

/* A job in a line that is not served stays on disk, and can be claimed once
 * its batch is committed. */
START_TEST(uncommitted_is_not_claimed)
{
    rig_setup(r, _i);
    uint64_t id = rig_put(r, "mail", 0);
    claim_is("mail", CLAIM_NOW, 0);
    tally_is(1, 0, 0, 0);
    rig_commit(r);
    claim_is("mail", CLAIM_NOW, id);
    settle(0, 1, 0, 0);
}
END_TEST

static size_t windows_bytes(void)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < r->s.queues.n; i++) {
        struct queue *q = r->s.queues.by_id[i];
        for (unsigned l = 0; l < q->lines_n; l++) {
            for (int k = 0; k < LINE_KINDS; k++) {
                bytes += q->lines[l]->kind[k].window_bytes;
            }
        }
    }
    return bytes;
}

/* However little fits into the windows, every job comes, in order. */
START_TEST(tiny_window)
{
    enum { JOBS = 500 };
    static const size_t jobs_in_window[] = {0, 1, 3, 100, JOBS};
    rig_setup(r, _i % RIG_KINDS);
    job_t *sample = rig_job(r, "mail", 0, 0);
    size_t bytes = dassie__job_bytes(sample);
    size_t fits = jobs_in_window[_i / RIG_KINDS];
    dassie__job_free(sample);
    r->s.window_max = fits * bytes;
    rig_serve(r, "mail", 1);
    uint64_t id = 1;
    for (uint64_t put = 1; put <= JOBS; put++) {
        ck_assert_uint_eq(rig_put(r, "mail", 0), put);
        if (put % 7 == 0) {
            rig_commit(r);
        }
        if (put % 50 == 0) {
            rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
            id++;
        }
        ck_assert_uint_le(r->s.window_bytes, r->s.window_max + bytes);
        ck_assert_uint_eq(r->s.window_bytes, windows_bytes());
    }
    rig_commit(r);
    for (; id <= JOBS; id++) {
        job_t *job = rig_claim(r, "mail");
        ck_assert_uint_eq(job->id, id);
        row_is_whole(job);
        rig_move(r, job, EVENT_COMPLETE);
        ck_assert_uint_eq(r->s.window_bytes, windows_bytes());
    }
    ck_assert_uint_eq(r->s.window_bytes, 0);
    uint64_t least = fits == 0 ? JOBS : JOBS / fits;
    ck_assert_uint_le(r->s.refills, JOBS);
    ck_assert_uint_ge(r->s.refills, fits < JOBS ? least / 2 : 0);
    settle(0, 0, JOBS, 0);
}
END_TEST

/* A set of which little is left is folded: without a newer one, into the one of
 * the open batch. */
START_TEST(claim_sets_fold)
{
    job_t *jobs[17];
    rig_setup(r, _i);
    for (int i = 0; i < 17; i++) {
        jobs[i] = rig_hand_off(r, "mail", 0);
    }
    rig_commit(r);
    uint64_t set = r->s.oldest->commit;
    for (int i = 0; i < 15; i++) {
        rig_move(r, jobs[i], EVENT_COMPLETE);
    }
    ck_assert_uint_eq(r->s.oldest->commit, set);
    rig_commit(r);
    rig_sound(r);
    rig_move(r, jobs[15], EVENT_COMPLETE);
    rig_commit(r);
    ck_assert_uint_gt(r->s.oldest->commit, set);
    ck_assert_ptr_eq(r->s.oldest, r->s.newest);
    uint64_t last = jobs[16]->id;
    settle(0, 1, 16, 0);
    rig_move(r, claimed(last), EVENT_UNCLAIM);
    settle(1, 0, 16, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_RUNNING), 0);
}
END_TEST

/* What was running comes back oldest claim first. */
START_TEST(claimed_in_order)
{
    uint64_t ids[6];
    rig_setup(r, _i);
    for (int i = 0; i < 6; i++) {
        ids[i] = rig_hand_off(r, i % 2 == 0 ? "mail" : "web", 0)->id;
        if (i % 2 == 1) {
            rig_commit(r);
        }
    }
    settle(0, 6, 0, 0);
    job_t *job = r->claimed.head;
    for (int i = 0; i < 6; i++, job = job->next) {
        ck_assert_uint_eq(job->id, ids[i]);
        ck_assert_int_eq(job->state, DASSIE_RUNNING);
    }
}
END_TEST

/* Ends all jobs of a set but the last. */
static uint64_t leave_one(job_t **jobs, int n)
{
    for (int i = 0; i < n - 1; i++) {
        rig_move(r, jobs[i], EVENT_COMPLETE);
    }
    return jobs[n - 1]->id;
}

/* Also when a set was folded: into the next one, and with that into the one
 * after it, or into that of the open batch. */
START_TEST(folded_in_order)
{
    job_t *jobs[3][33];
    uint64_t ids[4];
    rig_setup(r, _i % RIG_KINDS);
    for (int set = 0; set < 3; set++) {
        for (int i = 0; i < 33; i++) {
            jobs[set][i] = rig_hand_off(r, "mail", 0);
        }
        rig_commit(r);
    }
    ids[3] = rig_hand_off(r, "mail", 0)->id;
    for (int set = 0; set < 3; set++) {
        ids[set] = leave_one(jobs[set], 33);
        if (_i < RIG_KINDS) {
            rig_commit(r);
        }
    }
    settle(0, 4, 96, 0);
    job_t *job = r->claimed.head;
    for (int i = 0; i < 4; i++, job = job->next) {
        ck_assert_uint_eq(job->id, ids[i]);
    }
    ck_assert_ptr_eq(r->s.oldest, r->s.newest);
}
END_TEST

/* Lines that only claims bring back at open are lines like all others: their
 * counts find room in a commit's row. */
START_TEST(claims_bring_lines)
{
    rig_setup(r, _i);
    for (int p = DASSIE_PRIORITY_MIN; p <= DASSIE_PRIORITY_MAX; p++) {
        rig_hand_off(r, "mail", (int8_t)p);
    }
    uint64_t n = DASSIE_PRIORITY_MAX - DASSIE_PRIORITY_MIN + 1;
    settle(0, n, 0, 0);
    while (r->claimed.n > 0) {
        rig_move(r, job_list_pop(&r->claimed), EVENT_UNCLAIM);
    }
    settle(n, 0, 0, 0);
}
END_TEST

/* ---- Commits in doubt ---- */

/* The commit fails, and is there or not; either way the batch is there once
 * when the store has healed. */
START_TEST(heals)
{
    bool applied = _i % 2 == 1;
    rig_setup(r, RIG_MEM);
    uint64_t a = rig_put(r, "mail", 0);
    rig_commit(r);
    uint64_t commit = r->s.commit;
    job_t *job = rig_claim(r, "mail");
    uint64_t b = rig_put(r, "web", 3);
    dassie__kv_mem_fail(r->kv, 1, applied, 2);
    ck_assert_int_eq(dassie__store_commit(&r->s, 9, &r->e), UV_EIO);
    ck_assert_uint_eq(r->s.commit, commit);
    ck_assert_int_eq(dassie__store_heal(&r->s, &r->e), UV_EIO);
    ck_assert_int_eq(dassie__store_heal(&r->s, &r->e), UV_EIO);
    RIG_OK(r, dassie__store_heal(&r->s, &r->e));
    ck_assert_uint_eq(r->s.commit, commit + 1);
    ck_assert(!r->s.changed);
    tally_is(1, 1, 0, 0);
    rig_sound(r);
    ck_assert_uint_eq(job->id, a);
    rig_move(r, job, EVENT_COMPLETE);
    settle(1, 0, 1, 0);
    claim_is("web", CLAIM_NOW, b);
    settle(0, 1, 1, 0);
}
END_TEST

/* The second try fails as well; the third finds what the second wrote. */
START_TEST(heals_late)
{
    rig_setup(r, RIG_MEM);
    rig_put(r, "mail", 0);
    dassie__kv_mem_fail(r->kv, 1, false, 0);
    ck_assert_int_eq(dassie__store_commit(&r->s, 9, &r->e), UV_EIO);
    dassie__kv_mem_fail(r->kv, 1, true, 0);
    ck_assert_int_eq(dassie__store_heal(&r->s, &r->e), UV_EIO);
    ck_assert_uint_eq(r->s.commit, 1);
    RIG_OK(r, dassie__store_heal(&r->s, &r->e));
    settle(1, 0, 0, 0);
}
END_TEST

/* A fold and deleted ranges are in doubt like anything else. */
START_TEST(fold_heals)
{
    rig_setup(r, RIG_MEM);
    while (r->s.commit < FOLD_COMMITS) {
        rig_put(r, "mail", 0);
        rig_commit(r);
    }
    rig_put(r, "mail", 0);
    dassie__kv_mem_fail(r->kv, 1, _i % 2 == 1, 0);
    ck_assert_int_eq(dassie__store_commit(&r->s, 9, &r->e), UV_EIO);
    RIG_OK(r, dassie__store_heal(&r->s, &r->e));
    rig_sound(r);
    ck_assert_uint_eq(rig_rows(r, FAMILY_COMMITS), 1);
    rig_put(r, "mail", 0);
    settle(FOLD_COMMITS + 1, 0, 0, 0);
}
END_TEST

/* Without a heal the owner dies: the batch is there whole, or not at all. */
START_TEST(dies_in_doubt)
{
    bool applied = _i % 2 == 1;
    rig_setup(r, RIG_MEM);
    rig_put(r, "mail", 0);
    rig_commit(r);
    rig_put(r, "mail", 0);
    rig_put(r, "web", 0);
    dassie__kv_mem_fail(r->kv, 1, applied, 0);
    ck_assert_int_eq(dassie__store_commit(&r->s, 9, &r->e), UV_EIO);
    rig_reopen(r);
    tally_is(applied ? 3 : 1, 0, 0, 0);
    rig_sound(r);
}
END_TEST

/* ---- Dead rows, folds, numbers ---- */

START_TEST(dead_rows_go)
{
    uint64_t n = DEAD_ROWS_MAX + 2000;
    rig_setup(r, _i);
    r->s.window_max = 16 << 20;
    rig_serve(r, "mail", 1);
    for (uint64_t i = 0; i < n; i++) {
        rig_put(r, "mail", 0);
    }
    rig_commit(r);
    for (uint64_t i = 0; i < n - 10; i++) {
        rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
        ck_assert_uint_le(r->s.dead_rows, DEAD_ROWS_MAX + 1000);
        if (i % 1000 == 999) {
            rig_commit(r);
        }
    }
    rig_commit(r);
    rig_sound(r);
    struct line *line =
        dassie__queue_line(rig_queue(r, "mail", 0), 0, LINE_NORMAL);
    ck_assert_uint_lt(line->row.dead, DEAD_ROWS_MAX);
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), line->row.dead + 10);
    dassie__store_tidy(&r->s);
    rig_commit(r);
    ck_assert_uint_eq(r->s.dead_rows, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), 10);
    settle(10, 0, n - 10, 0);
    ck_assert_uint_eq(r->s.dead_rows, 0);
    claim_is("mail", CLAIM_NOW, n - 9);
    ck_assert_uint_eq(r->s.dead_rows, 1);
}
END_TEST

/* A short line keeps its dead rows; they are counted all the same. */
START_TEST(few_dead_rows_stay)
{
    rig_setup(r, _i);
    for (int i = 0; i < DEAD_LINE_ROWS - 1; i++) {
        rig_put(r, "mail", 0);
    }
    rig_commit(r);
    for (int i = 0; i < DEAD_LINE_ROWS - 1; i++) {
        rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
    }
    dassie__store_tidy(&r->s);
    settle(0, 0, DEAD_LINE_ROWS - 1, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), DEAD_LINE_ROWS - 1);
    ck_assert_uint_eq(r->s.dead_rows, DEAD_LINE_ROWS - 1);
    rig_put(r, "mail", 0);
    settle(1, 0, DEAD_LINE_ROWS - 1, 0);
    rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
    dassie__store_tidy(&r->s);
    settle(0, 0, DEAD_LINE_ROWS, 0);
    ck_assert_uint_eq(rig_rows(r, FAMILY_PENDING), 0);
}
END_TEST

START_TEST(folds)
{
    rig_setup(r, _i);
    rig_queue(r, "silent", 0);
    for (int i = 1; i <= 2 * FOLD_COMMITS + 3; i++) {
        rig_put(r, i % 2 == 0 ? "mail" : "web", 0);
        rig_commit(r);
        uint64_t folded = (uint64_t)(i / FOLD_COMMITS) * FOLD_COMMITS;
        ck_assert_uint_eq(r->s.folded, folded);
        if (i % FOLD_COMMITS < 3 || i % 50 == 0) {
            ck_assert_uint_eq(rig_rows(r, FAMILY_COMMITS),
                              (uint64_t)i - folded + (folded > 0));
            rig_sound(r);
            rig_reopen(r);
            ck_assert_uint_eq(r->s.commit, (uint64_t)i + 1);
            ck_assert_uint_eq(r->s.folded, folded);
            tally_is((uint64_t)i, 0, 0, 0);
        }
    }
    ck_assert_uint_eq(r->s.queues.n, 3);
    rig_sound(r);
}
END_TEST

/* Neither an id nor a position comes twice, even when all rows are gone. */
START_TEST(numbers_never_come_again)
{
    rig_setup(r, _i);
    uint64_t last = 0;
    for (int round = 0; round < 20; round++) {
        uint64_t id = rig_put(r, "mail", 0);
        ck_assert_uint_gt(id, last);
        last = id;
        rig_commit(r);
        job_t *job = rig_claim(r, "mail");
        rig_commit(r);
        rig_move(r, job, EVENT_UNCLAIM);
        struct line *line =
            dassie__queue_line(rig_queue(r, "mail", 0), 0, LINE_FRONT);
        ck_assert_uint_gt(line->row.tail, last);
        last = line->row.tail;
        rig_commit(r);
        rig_move(r, rig_claim(r, "mail"), EVENT_COMPLETE);
        dassie__store_tidy(&r->s);
        rig_commit(r);
        rig_reopen(r);
        ck_assert_uint_gt(r->s.next, last);
    }
    settle(0, 0, 20, 0);
}
END_TEST

/* ---- Damage ---- */

/* A line whose job cannot be read stops, says why, and the others go on. */
START_TEST(damaged_line_stops)
{
    uint8_t key[KEY_NUMBER_BYTES];
    int rc;
    rig_setup(r, _i);
    uint64_t bad = rig_put(r, "mail", 0);
    rig_put(r, "mail", 0);
    uint64_t good = rig_put(r, "web", 0);
    dassie__key_number(key, bad);
    rig_commit(r);
    r->kv->ops->del(r->kv, FAMILY_JOBS, kv_slice(key, sizeof key));
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
    struct queue *q = rig_queue(r, "mail", 0);
    ck_assert_ptr_null(dassie__store_claim(&r->s, q, CLAIM_NOW, &rc, &r->e));
    ck_assert_int_eq(rc, DASSIE_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(r->e.text, "job 1"));
    claim_is("web", CLAIM_NOW, good);
    rig_commit(r);
    tally_is(2, 1, 0, 0);
}
END_TEST

/* What open cannot do without is refused: each deletes or spoils one row. */
START_TEST(damage_at_open)
{
    static const struct {
        enum family family;
        uint64_t number;
        char tag;
        bool spoil;
    } rows[] = {{FAMILY_META, 0, KEY_NAME_TAG, false},
                {FAMILY_META, 0, KEY_NAME_TAG, true},
                {FAMILY_META, 0, KEY_COUNTS_TAG, true},
                {FAMILY_META, 0, 's', true},
                {FAMILY_COMMITS, FOLD_COMMITS + 2, 0, false},
                {FAMILY_COMMITS, FOLD_COMMITS + 3, 0, true}};
    uint8_t key[KEY_NUMBER_BYTES];
    rig_setup(r, RIG_MEM);
    for (int i = 0; i < FOLD_COMMITS + 3; i++) {
        rig_put(r, i % 2 == 0 ? "mail" : "web", 0);
        rig_commit(r);
    }
    dassie__store_close(&r->s, false);
    dassie__store_free(&r->s);
    struct kv_slice slice = kv_slice(key, sizeof key);
    dassie__key_number(key, rows[_i].number);
    if (rows[_i].tag == 's') {
        slice = kv_string(KEY_STORE);
    } else if (rows[_i].tag != 0) {
        dassie__key_queue(key, rows[_i].tag, 0);
        slice.len = KEY_QUEUE_BYTES;
    }
    if (rows[_i].spoil) {
        r->kv->ops->put(r->kv, rows[_i].family, slice, kv_slice("\7", 1));
    } else {
        r->kv->ops->del(r->kv, rows[_i].family, slice);
    }
    RIG_OK(r, r->kv->ops->commit(r->kv, false, &r->e));
    ck_assert_int_eq(dassie__store_open(&r->s, r->kv, 0, false, &r->e),
                     DASSIE_ECORRUPT);
    ck_assert_str_ne(r->e.text, "");
    dassie__kv_mem_free(r->kv);
    rig_setup(r, RIG_MEM);
}
END_TEST

/* ---- A random walk beside a model ---- */

#define WALK_IDS 8192
#define WALK_QUEUES 3

/* What a naive store would know. */
struct model_job {
    bool there; /* other numbers are positions */
    int state;
    uint8_t queue;
    int8_t priority;
    uint8_t kind;
    uint32_t attempts;
    uint64_t order; /* in which it became pending */
};

struct model {
    struct model_job jobs[WALK_IDS];
    uint64_t next; /* ids below this are taken */
    uint64_t order;
};

static struct model model;   /* with the open batch */
static struct model durable; /* as of the last commit */
static job_t *runs[WALK_IDS];
static bool served[WALK_QUEUES];
static uint64_t seed;
static const char *const walk_queues[WALK_QUEUES] = {"mail", "web", "x"};

static uint64_t dice(uint64_t sides)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % sides;
}

static uint64_t count(int state)
{
    uint64_t n = 0;
    for (uint64_t id = 1; id < model.next; id++) {
        n += model.jobs[id].there && model.jobs[id].state == state;
    }
    return n;
}

static void check_counts(void)
{
    tally_is(count(DASSIE_PENDING), count(DASSIE_RUNNING),
             count(DASSIE_COMPLETE), count(DASSIE_FAILED));
    ck_assert_uint_eq(r->s.window_bytes, windows_bytes());
}

static void committed(void)
{
    durable = model;
    check_counts();
    if (dice(8) == 0) {
        rig_sound(r);
    }
}

/* A commit; on the in-memory database it may fail and heal. */
static void walk_commit(void)
{
    unsigned reopens = (unsigned)dice(3);
    if (r->kind == RIG_ROCKS || !r->s.changed || dice(6) != 0) {
        rig_commit(r);
        committed();
        return;
    }
    dassie__kv_mem_fail(r->kv, 1, dice(2) == 0, reopens);
    ck_assert_int_eq(dassie__store_commit(&r->s, ++r->now, &r->e), UV_EIO);
    for (unsigned i = 0; i < reopens; i++) {
        ck_assert_int_eq(dassie__store_heal(&r->s, &r->e), UV_EIO);
    }
    RIG_OK(r, dassie__store_heal(&r->s, &r->e));
    committed();
}

static void walk_insert(void)
{
    static const int8_t priorities[] = {0, 0, -3, 7};
    uint8_t queue = (uint8_t)dice(WALK_QUEUES);
    int8_t priority = priorities[dice(4)];
    bool at_once = dice(3) == 0;
    job_t *job = NULL;
    uint64_t id = r->s.next;
    ck_assert_uint_ge(id, durable.next);
    if (at_once) {
        job = rig_hand_off(r, walk_queues[queue], priority);
    } else {
        rig_put(r, walk_queues[queue], priority);
    }
    ck_assert_uint_lt(id, WALK_IDS);
    runs[id] = job;
    model.jobs[id] = (struct model_job){
        true,          at_once ? DASSIE_RUNNING : DASSIE_PENDING,
        queue,         priority,
        LINE_NORMAL,   0,
        model.order++,
    };
    model.next = id + 1;
}

static bool before(const struct model_job *a, const struct model_job *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority;
    }
    return a->kind != b->kind ? a->kind < b->kind : a->order < b->order;
}

/* The id that a claim must give, or 0. */
static uint64_t expected_claim(uint8_t queue, bool suspects)
{
    uint64_t first = 0;
    for (uint64_t id = 1; id < model.next; id++) {
        const struct model_job *job = &model.jobs[id];
        if (job->there && job->state == DASSIE_PENDING && job->queue == queue &&
            (job->kind == LINE_SUSPECT) == suspects &&
            (first == 0 || before(job, &model.jobs[first]))) {
            first = id;
        }
    }
    return first;
}

static void walk_claim(void)
{
    uint8_t queue = (uint8_t)dice(WALK_QUEUES);
    bool suspects = dice(4) == 0;
    enum claim_how how = suspects       ? CLAIM_ALONE
                         : dice(2) == 0 ? CLAIM_NOW
                                        : CLAIM_AHEAD;
    uint64_t id = expected_claim(queue, suspects);
    job_t *job = rig_claim_how(r, walk_queues[queue], how);
    if (job == NULL && id != 0) {
        walk_commit(); /* it stands in the open batch only */
        job = rig_claim_how(r, walk_queues[queue], how);
    }
    ck_assert_uint_eq(job == NULL ? 0 : job->id, id);
    if (job == NULL) {
        return;
    }
    ck_assert_uint_eq(job->attempts, model.jobs[id].attempts);
    row_is_whole(job);
    runs[id] = job;
    model.jobs[id].state = DASSIE_RUNNING;
}

/* A running job, or 0. */
static uint64_t any_run(void)
{
    uint64_t n = count(DASSIE_RUNNING);
    uint64_t at = n > 0 ? dice(n) : 0;
    for (uint64_t id = 1; n > 0 && id < model.next; id++) {
        if (model.jobs[id].state == DASSIE_RUNNING && at-- == 0) {
            return id;
        }
    }
    return 0;
}

static void walk_move(void)
{
    static const enum event events[] = {EVENT_COMPLETE, EVENT_COMPLETE,
                                        EVENT_FAIL,     EVENT_UNCLAIM,
                                        EVENT_REPEAT,   EVENT_SUSPECT};
    uint64_t id = any_run();
    enum event event = events[dice(sizeof events / sizeof events[0])];
    struct model_job *job = &model.jobs[id];
    if (id == 0) {
        return;
    }
    rig_move(r, runs[id], event);
    runs[id] = NULL;
    job->attempts += event != EVENT_UNCLAIM;
    job->state = event == EVENT_COMPLETE ? DASSIE_COMPLETE
                 : event == EVENT_FAIL   ? DASSIE_FAILED
                                         : DASSIE_PENDING;
    bool suspect = event == EVENT_SUSPECT ||
                   (event == EVENT_UNCLAIM && job->kind == LINE_SUSPECT);
    job->kind = suspect ? LINE_SUSPECT : LINE_FRONT;
    job->order = model.order++;
    if (job->state == DASSIE_PENDING) {
        model.next = r->s.next; /* its position is taken as well */
    }
}

static void walk_serve(void)
{
    unsigned queue = (unsigned)dice(WALK_QUEUES);
    served[queue] = !served[queue];
    rig_serve(r, walk_queues[queue], served[queue] ? 1 : -1);
}

/* The owner dies: what is not committed never was. */
static void walk_die(void)
{
    rig_reopen(r);
    model = durable;
    memset(runs, 0, sizeof runs);
    memset(served, 0, sizeof served);
    ck_assert_uint_eq(r->claimed.n, count(DASSIE_RUNNING));
    for (job_t *job = r->claimed.head; job != NULL; job = job->next) {
        ck_assert_int_eq(model.jobs[job->id].state, DASSIE_RUNNING);
        ck_assert_uint_eq(job->attempts, model.jobs[job->id].attempts);
        ck_assert_ptr_null(runs[job->id]);
        runs[job->id] = job;
    }
    check_counts();
    rig_sound(r);
}

static void walk_step(void)
{
    uint64_t what = dice(100);
    if (what < 30) {
        walk_insert();
    } else if (what < 50) {
        walk_claim();
    } else if (what < 75) {
        walk_move();
    } else if (what < 96) {
        walk_commit();
    } else if (what < 98) {
        walk_serve();
    } else if (what < 99) {
        dassie__store_tidy(&r->s);
    } else {
        walk_die();
    }
}

START_TEST(random_walk)
{
    static const size_t windows[] = {0, 1000, 1 << 20};
    const char *given = getenv("SEED");
    unsigned steps = getenv("QUICK") != NULL ? 1000 : 4000;
    seed = given != NULL ? strtoull(given, NULL, 0)
                         : UINT64_C(88172645463325252) + (unsigned)_i;
    printf("SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    rig_setup(r, _i % RIG_KINDS);
    r->window_max = r->s.window_max = windows[_i / RIG_KINDS % 3];
    memset(&model, 0, sizeof model);
    memset(runs, 0, sizeof runs);
    memset(served, 0, sizeof served);
    model.next = 1;
    durable = model;
    for (unsigned i = 0; i < steps; i++) {
        walk_step();
    }
    walk_commit();
    walk_die();
}
END_TEST

/* ---- Suites ---- */

static void add_transitions(TCase *tc)
{
    tcase_add_loop_test(tc, empty, 0, RIG_KINDS);
    tcase_add_loop_test(tc, one_life, 0, RIG_KINDS);
    tcase_add_loop_test(tc, hand_off, 0, RIG_KINDS);
    tcase_add_loop_test(tc, ways_back, 0, RIG_KINDS);
    tcase_add_loop_test(tc, ends_of_recovery, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claim_and_unclaim_in_one_batch, 0, RIG_KINDS);
    tcase_add_loop_test(tc, refusals, 0, RIG_KINDS);
}

static void add_claims(TCase *tc)
{
    tcase_add_loop_test(tc, claim_order, 0, RIG_KINDS);
    tcase_add_loop_test(tc, not_ahead, 0, RIG_KINDS);
    tcase_add_loop_test(tc, uncommitted_is_not_claimed, 0, RIG_KINDS);
    tcase_add_loop_test(tc, tiny_window, 0, 5 * RIG_KINDS);
    tcase_add_loop_test(tc, claim_sets_fold, 0, RIG_KINDS);
    tcase_add_loop_test(tc, folded_in_order, 0, 2 * RIG_KINDS);
    tcase_add_loop_test(tc, claimed_in_order, 0, RIG_KINDS);
    tcase_add_loop_test(tc, claims_bring_lines, 0, RIG_KINDS);
}

static void add_commits(TCase *tc)
{
    tcase_add_loop_test(tc, heals, 0, 2);
    tcase_add_test(tc, heals_late);
    tcase_add_loop_test(tc, fold_heals, 0, 2);
    tcase_add_loop_test(tc, dies_in_doubt, 0, 2);
    tcase_add_loop_test(tc, dead_rows_go, 0, RIG_KINDS);
    tcase_add_loop_test(tc, few_dead_rows_stay, 0, RIG_KINDS);
    tcase_add_loop_test(tc, folds, 0, RIG_KINDS);
    tcase_add_loop_test(tc, numbers_never_come_again, 0, RIG_KINDS);
    tcase_add_loop_test(tc, damaged_line_stops, 0, RIG_KINDS);
    tcase_add_loop_test(tc, damage_at_open, 0, 6);
}

static Suite *store_suite(void)
{
    static void (*const add[])(TCase *) = {add_transitions, add_claims,
                                           add_commits};
    static const char *const names[] = {"transitions", "claims", "commits"};
    Suite *suite = suite_create("store");
    for (int i = 0; i < 3; i++) {
        TCase *tc = tcase_create(names[i]);
        suite_add_tcase(suite, tc);
        tcase_add_checked_fixture(tc, NULL, teardown);
        add[i](tc);
    }
    TCase *tc = tcase_create("walk");
    suite_add_tcase(suite, tc);
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_loop_test(tc, random_walk, 0, 3 * RIG_KINDS);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(store_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
