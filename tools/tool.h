/* tool.h: what the files of the command dassie(1) share.
 *
 * main.c finds the subcommand in its table and runs it; options.c reads its
 * options and prints its help from one list; session.c opens the store; out.c
 * prints. Each family of subcommands has a file of its own. There is one
 * process, one subcommand and one store, so what all of them need is global.
 *
 * Possible failure modes are: whatever goes wrong is one line on stderr and one
 * of the exit codes below.
 *
 * Threads: the main thread only. */
#ifndef DASSIE_TOOLS_TOOL_H_
#define DASSIE_TOOLS_TOOL_H_

#include <dassie.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes; dassie(1) has them. One that a signal ended dies of it. */
enum {
    TOOL_GOOD = 0,
    TOOL_FAILED = 1,   /* jobs have failed, problems were found */
    TOOL_USAGE = 2,    /* the command line is wrong */
    TOOL_MISSING = 3,  /* no such store, job or queue */
    TOOL_BUSY = 4,     /* the store has another owner */
    TOOL_UNUSABLE = 5, /* no store, of a newer format, damaged */
    TOOL_ERROR = 6,    /* any other error */
    TOOL_PIPE = 141    /* nobody reads stdout any more */
};

struct tool {
    const char *dir;               /* the store, or NULL */
    int json;                      /* print JSON */
    void (*say)(const char *line); /* is told in place of stderr, if set */
};
extern struct tool tool;

/* How an option's argument is read; its place is of that type. */
enum option_kind {
    OPTION_FLAG,  /* no argument; int */
    OPTION_TEXT,  /* const char * */
    OPTION_COUNT, /* uint64_t, up to max */
    OPTION_SMALL, /* int, from min to max */
    OPTION_TIME,  /* a time like 90s, 5m, 2h, 7d; uint64_t, ms */
    OPTION_STATES /* states with commas between; unsigned, DASSIE_IN() */
};

struct tool_option {
    const char *name;
    const char *arg; /* what the help calls its argument, or NULL */
    const char *what;
    enum option_kind kind;
    void *to;
    int64_t min;
    int64_t max;
    char letter; /* 0: it has none */
};

struct command {
    const char *name;
    const char *args; /* what follows the options, for the help */
    const char *what; /* in one line */
    const struct tool_option *options; /* up to one without a name, or NULL */
    bool runs; /* its arguments are a command: what follows is not read */
    int args_min;
    int args_max;                      /* -1: any number */
    int (*run)(int argc, char **argv); /* its exit code */
};

extern const struct command command_stat;
extern const struct command command_top;
extern const struct command command_ls;
extern const struct command command_show;
extern const struct command command_tail;
extern const struct command command_add;
extern const struct command command_run;
extern const struct command command_retry;
extern const struct command command_cancel;
extern const struct command command_rm;
extern const struct command command_purge;
extern const struct command command_pause;
extern const struct command command_resume;
extern const struct command command_verify;
extern const struct command command_backup;

/* Says "dassie: ..." on stderr and returns code. */
int tool_fail(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* So, for an error of the library: what, then its text. */
int tool_fail_rc(int rc, const char *what);

/* The exit code for one. */
int tool_code(int rc);

/* Reads the options of a command; what follows them is *argc, *argv. -1, or the
 * exit code if there is nothing more to do. */
int options_read(const struct command *command, int *argc, char ***argv);

/* The id of a job, from its digits. False: it is none. */
bool read_id(const char *text, uint64_t *id);

/* The name of a state, and the state of a name (-1: none). */
const char *state_name(int state);
int state_find(const char *name, size_t len);

#endif /* DASSIE_TOOLS_TOOL_H_ */
