/* watch.c: looks at a store whose owner may come and go; figures.h. */
#include "config.h"

#include "figures.h"

#include "remote.h"
#include "session.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define GONE_NS UINT64_C(3000000000)

static unsigned owners;     /* that were found */
static uint64_t gone_ns;    /* when the last one had gone, or 0 */
static struct stat at_rest; /* its lock, when it was looked at */

/* One between two others leaves the earlier of these, so that rates are those
 * of a time that is not too short. */
static void keep(struct watch *watch, struct figures *f)
{
    f->owner = remote_is() ? owners : 0;
    if (watch->between) {
        figures_free(&watch->now);
    } else {
        figures_free(&watch->before);
        watch->before = watch->now;
    }
    watch->now = *f;
    watch->has_now = true;
    watch->gone = false;
}

/* 0, or an error. */
static int look(struct watch *watch, int (*more)(struct watch *))
{
    struct figures f;
    int rc = figures_take(&f);
    if (rc == 0) {
        keep(watch, &f);
        rc = more != NULL ? more(watch) : 0;
    }
    return rc;
}

/* Whoever owns the store writes its lock first. */
static void lock_stat(struct stat *st)
{
    char path[4096];
    memset(st, 0, sizeof *st);
    snprintf(path, sizeof path, "%s/lock", tool.dir);
    if (stat(path, st) != 0) {
        memset(st, 0, sizeof *st);
    }
}

static bool rests_as_before(void)
{
    struct stat st;
    lock_stat(&st);
    return st.st_ino != 0 && st.st_ino == at_rest.st_ino &&
           st.st_mtim.tv_sec == at_rest.st_mtim.tv_sec &&
           st.st_mtim.tv_nsec == at_rest.st_mtim.tv_nsec;
}

/* *gone is set if the owner has, in the middle. */
static int look_live(struct watch *watch, int (*more)(struct watch *),
                     bool *gone)
{
    int rc = look(watch, more);
    *gone = false;
    if (rc == 0) {
        return -1;
    }
    remote_disconnect();
    *gone = rc == UV_ECONNRESET || rc == UV_EPIPE || rc == UV_ECANCELED;
    if (*gone) {
        gone_ns = uv_hrtime();
        return -1;
    }
    return rc == UV_ETIMEDOUT
               ? tool_fail(TOOL_BUSY, "the owner does not answer")
               : tool_fail_rc(rc, tool.dir);
}

/* Its lock is this process's until it is closed. */
static int look_at_rest(struct watch *watch, int (*more)(struct watch *))
{
    unsigned flags = DASSIE_READ_ONLY;
    if (watch->beside) {
        flags |= DASSIE_BESIDE;
    }
    int code = session_open(flags, true);
    if (code >= 0) {
        return code;
    }
    if (remote_is()) {
        bool gone;
        owners++;
        return look_live(watch, more, &gone);
    }
    int rc = look(watch, more);
    if (rc == 0) {
        lock_stat(&at_rest);
        gone_ns = 0;
    }
    code = session_close(rc != 0 ? tool_fail_rc(rc, tool.dir) : TOOL_GOOD);
    return code == TOOL_GOOD ? -1 : code;
}

int watch_look(struct watch *watch, bool again, int (*more)(struct watch *))
{
    bool gone;
    watch->between = again && watch->has_now;
    remote_patience(watch->patience_ms);
    if (!remote_is() && remote_connect(tool.dir) == 0) {
        owners++;
    }
    if (remote_is()) {
        int code = look_live(watch, more, &gone);
        if (!gone) {
            return code;
        }
    }
    watch->gone =
        watch->has_now && gone_ns != 0 && uv_hrtime() - gone_ns < GONE_NS;
    if (watch->gone || (!again && rests_as_before())) {
        return -1;
    }
    return look_at_rest(watch, more);
}

void watch_end(struct watch *watch)
{
    figures_free(&watch->before);
    figures_free(&watch->now);
    if (remote_is()) {
        remote_disconnect();
    }
}
