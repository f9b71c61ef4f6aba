/* backup.c: "dassie backup", a copy of a store, made by its owner if it has
 * one. */
#include "config.h"

#include "out.h"
#include "remote.h"
#include "session.h"
#include "tool.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool answered;
static int answer;

static void on_backup(dassie_backup_t *req, int status)
{
    (void)req;
    answered = true;
    answer = status;
}

/* Ctrl-C: what there is of the copy is removed. */
static int backup_here(const char *path)
{
    static dassie_backup_t req;
    answered = false;
    int rc = dassie_backup(&session.q, &req, path, on_backup);
    if (rc == 0) {
        session.interrupted = session_end;
        session_wait(&answered);
        rc = answer;
    }
    return rc;
}

/* An owner stands in another directory. */
static int backup_there(const char *path)
{
    char absolute[2 * PATH_MAX];
    char here[PATH_MAX];
    if (path[0] == '/') {
        return remote_backup(path);
    }
    if (getcwd(here, sizeof here) == NULL ||
        snprintf(absolute, sizeof absolute, "%s/%s", here, path) >=
            (int)sizeof absolute) {
        return UV_ENAMETOOLONG;
    }
    return remote_backup(absolute);
}

static int make_backup(const char *path)
{
    int rc = path[0] == '\0' ? UV_ENOENT
             : remote_is()   ? backup_there(path)
                             : backup_here(path);
    if (rc != 0) {
        return session.signal != 0 ? TOOL_ERROR : tool_fail_rc(rc, path);
    }
    if (tool.json) {
        json_t *object = json_object();
        json_bytes(object, "backup", path, strlen(path));
        out_json(object);
    } else {
        out_text(path, strlen(path), 0);
        puts(" is a copy of the store");
    }
    return TOOL_GOOD;
}

static int run_backup(int argc, char **argv)
{
    (void)argc;
    int code = session_open(DASSIE_READ_ONLY, true);
    return code >= 0 ? code : session_close(make_backup(argv[0]));
}

static const struct tool_option options[] = {{.name = NULL}};

const struct command command_backup = {.name = "backup",
                                       .args = "DIRECTORY",
                                       .what = "Copies the store as it stands",
                                       .options = options,
                                       .args_min = 1,
                                       .args_max = 1,
                                       .run = run_backup};
