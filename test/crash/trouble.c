#define _GNU_SOURCE /* RTLD_DEFAULT */

#include "trouble.h"

#include <dassie.h>

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char kind[16];  /* of the calls that fail, */
    char error[16]; /* and how */
    const char *relief;
    bool bad; /* the disk is */
    bool was_bad;
    long (*hits)(void);
    bool (*lasts)(void);
    void (*lift)(void);
} trouble;

void trouble_setup(void)
{
    const char *fault = getenv("FAULT");
    const char *error = getenv("SUBJECT_ERROR");
    if (fault != NULL &&
        sscanf(fault, "%15s %*s %15s", trouble.kind, trouble.error) != 2) {
        exit(2);
    }
    if (error != NULL) {
        snprintf(trouble.error, sizeof trouble.error, "%s", error);
    }
    trouble.relief = getenv("SUBJECT_RELIEF");
    trouble.hits = dlsym(RTLD_DEFAULT, "fault_hits");
    trouble.lasts = dlsym(RTLD_DEFAULT, "fault_lasts");
    trouble.lift = dlsym(RTLD_DEFAULT, "fault_lift");
    signal(SIGXFSZ, SIG_IGN);
}

static void shell(const char *command)
{
    int rc = system(command);
    if (rc != 0) {
        fprintf(stderr, "%s: status %d\n", command, rc);
        exit(3);
    }
}

void trouble_begin(void)
{
    const char *command = getenv("SUBJECT_TROUBLE");
    if (command != NULL && !trouble.was_bad) {
        trouble.bad = trouble.was_bad = true;
        shell(command);
    }
}

long trouble_hits(void)
{
    return trouble.was_bad || trouble.hits == NULL ? trouble.was_bad
                                                   : trouble.hits();
}

bool trouble_lasts(void)
{
    return trouble.bad || (trouble.lasts != NULL && trouble.lasts());
}

void trouble_end(void)
{
    if (trouble.bad) {
        trouble.bad = false;
        shell(trouble.relief);
    } else if (trouble.lift != NULL) {
        trouble.lift();
    }
}

bool trouble_is_total(void)
{
    return trouble_lasts() && (strcmp(trouble.kind, "write") == 0 ||
                               strcmp(trouble.kind, "fdatasync") == 0);
}

/* libuv has no name for a quota that is used up. */
bool trouble_is(int status)
{
    const char *error = trouble.error;
    const char *name = dassie_err_name(status);
    if (strcmp(error, "EDQUOT") == 0) {
        error = "ENOSPC";
    }
    return trouble_hits() > 0 && strlen(name) > strlen("UV_") &&
           strcmp(name + strlen("UV_"), error) == 0;
}
