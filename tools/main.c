/* main.c: dassie(1), to see and steer a queue from a shell.
 *
 * The happy path is: the options before the subcommand, the subcommand's row in
 * the table, its options, its run. */
#include "config.h"

#include "out.h"
#include "session.h"
#include "terminal.h"
#include "tool.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tool tool;

static const struct command *const commands[] = {
    &command_stat,   &command_top,    &command_ls,     &command_show,
    &command_tail,   &command_add,    &command_run,    &command_retry,
    &command_cancel, &command_rm,     &command_purge,  &command_pause,
    &command_resume, &command_verify, &command_backup,
};
#define COMMANDS (sizeof commands / sizeof commands[0])

int tool_fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (tool.say != NULL) {
        char line[512];
        vsnprintf(line, sizeof line, format, args);
        tool.say(line);
    } else {
        fflush(stdout);
        progress_hide();
        fputs("dassie: ", stderr);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
    }
    va_end(args);
    return code;
}

int tool_code(int rc)
{
    switch (rc) {
        case 0:
            return TOOL_GOOD;
        case UV_ENOENT:
            return TOOL_MISSING;
        case UV_EBUSY:
            return TOOL_BUSY;
        case UV_ENOTSUP:
        case DASSIE_ENOSTORE:
        case DASSIE_ECORRUPT:
            return TOOL_UNUSABLE;
        default:
            return TOOL_ERROR;
    }
}

int tool_fail_rc(int rc, const char *what)
{
    return tool_fail(tool_code(rc), "%s: %s", what, dassie_strerror(rc));
}

static void print_help(void)
{
    puts(
        "Usage: dassie -d DIR SUBCOMMAND [OPTION]... [ARGUMENT]...\n"
        "\n"
        "Sees and steers the queue in DIR (or $DASSIE_DIR).\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        printf("  %-8s %s\n", commands[i]->name, commands[i]->what);
    }
    puts(
        "\nOptions:\n"
        "  -d, --dir DIR   the store's directory\n"
        "  -h, --help      this\n"
        "  -V, --version   the version\n"
        "\n"
        "'dassie SUBCOMMAND --help' tells more, and so does dassie(1).");
}

static int run_command(int argc, char **argv)
{
    const char *name = argv[0];
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            int code = options_read(commands[i], &argc, &argv);
            if (code < 0) {
                code = tool.dir == NULL
                           ? tool_fail(TOOL_USAGE,
                                       "which store? -d DIR or DASSIE_DIR")
                           : commands[i]->run(argc, argv);
            }
            return code;
        }
    }
    return tool_fail(TOOL_USAGE, "no subcommand '%s'; try 'dassie --help'",
                     name);
}

static int run_tool(int argc, char **argv)
{
    static const struct option longs[] = {{"dir", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {NULL, 0, NULL, 0}};
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+:d:hV", longs, NULL)) != -1) {
        switch (c) {
            case 'd':
                tool.dir = optarg;
                break;
            case 'h':
                print_help();
                return TOOL_GOOD;
            case 'V':
                printf("dassie %s\n", dassie_version());
                return TOOL_GOOD;
            default:
                return tool_fail(TOOL_USAGE,
                                 c == ':' ? "'%s' needs an argument"
                                          : "no option '%s'; try --help",
                                 argv[optind - 1]);
        }
    }
    if (optind == argc) {
        return tool_fail(TOOL_USAGE, "which subcommand? Try 'dassie --help'");
    }
    return run_command(argc - optind, argv + optind);
}

int main(int argc, char **argv)
{
    const char *dir = getenv("DASSIE_DIR");
    tool.dir = dir != NULL && dir[0] != '\0' ? dir : NULL;
    signal(SIGPIPE, SIG_IGN);
    int code = out_end(run_tool(argc, argv));
    if (session.signal != 0) {
        signal(session.signal, SIG_DFL);
        raise(session.signal);
    }
    return code;
}
