#include "config.h"

#include "beside.h"

#include "kv_rocks.h"
#include "salvage_rows.h"
#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* How often it is tried to see a moment that is whole, and how long the owner
 * is given to finish what it writes. */
#define TRIES 10
#define PAUSE_MS 20

static int scratch_make(char scratch[PATH_MAX], struct errmsg *e)
{
    const char *parent = getenv("TMPDIR");
    int n = snprintf(scratch, PATH_MAX, "%s/dassie-XXXXXX",
                     parent != NULL && parent[0] != '\0' ? parent : "/tmp");
    if (n < PATH_MAX && mkdtemp(scratch) != NULL) {
        return 0;
    }
    int rc = n < PATH_MAX ? dassie__sys_code(errno) : UV_ENAMETOOLONG;
    scratch[0] = '\0';
    return dassie__errmsg_set(e, rc, "scratch directory: %s",
                              dassie_strerror(rc));
}

/* One look: opened if it is not, else brought up to date. */
static int look(const struct kv_rocks_options *options, struct kv **kv,
                uint64_t *torn, struct errmsg *e)
{
    dassie_verify_report_t report;
    int rc = *kv == NULL ? dassie__kv_rocks_open(options, kv, e)
                         : dassie__kv_rocks_catch_up(*kv, e);
    if (rc == 0) {
        rc = dassie__verify_kv(*kv, NULL, NULL, &report, e);
    }
    *torn = rc == 0 ? report.problems : 0;
    if (rc != 0 && *kv != NULL) {
        (*kv)->ops->close(*kv, false);
        *kv = NULL;
    }
    return rc;
}

int dassie__beside_open(const char *dir, size_t memory_bytes,
                        char scratch[PATH_MAX], struct kv **kv, uint64_t *torn,
                        struct errmsg *e)
{
    struct kv_rocks_options options = {.dir = dir,
                                       .memory_bytes = memory_bytes,
                                       .read_only = true,
                                       .scratch = scratch};
    int rc = scratch_make(scratch, e);
    if (rc != 0) {
        return rc;
    }
    *kv = NULL;
    rc = look(&options, kv, torn, e);
    for (int i = 1; i < TRIES && (rc != 0 || *torn > 0); i++) {
        uv_sleep(PAUSE_MS);
        rc = look(&options, kv, torn, e);
    }
    if (rc != 0) {
        dassie__beside_close(scratch);
    }
    return rc;
}

void dassie__beside_close(char scratch[PATH_MAX])
{
    if (scratch[0] != '\0') {
        dassie__remove_all(scratch);
        scratch[0] = '\0';
    }
}
