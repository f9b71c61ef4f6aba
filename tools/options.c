/* options.c: the options of a subcommand, read and explained from one list. */
#include "config.h"

#include "tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 24
#define VALUE_HELP 1000 /* of getopt_long(), beyond every index */
#define VALUE_JSON 1001

static const char *const state_names[] = {
    [DASSIE_PENDING] = "pending", [DASSIE_SCHEDULED] = "scheduled",
    [DASSIE_RUNNING] = "running", [DASSIE_COMPLETE] = "complete",
    [DASSIE_FAILED] = "failed",   [DASSIE_CANCELLED] = "cancelled"};
#define STATES ((int)(sizeof state_names / sizeof state_names[0]))

const char *state_name(int state)
{
    return state >= 0 && state < STATES && state_names[state] != NULL
               ? state_names[state]
               : "none";
}

int state_find(const char *name, size_t len)
{
    for (int i = 0; i < STATES; i++) {
        if (state_names[i] != NULL && strlen(state_names[i]) == len &&
            memcmp(state_names[i], name, len) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- Arguments ---- */

/* Digits, and nothing else, up to *end. */
static bool read_number(const char *text, uint64_t *number, char **end)
{
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *number = strtoull(text, end, 10);
    return errno == 0;
}

bool read_id(const char *text, uint64_t *id)
{
    char *end;
    return read_number(text, id, &end) && *end == '\0' && *id != 0;
}

static bool read_count(const struct tool_option *option, const char *text)
{
    uint64_t number;
    char *end;
    if (!read_number(text, &number, &end) || *end != '\0' ||
        number < (uint64_t)option->min || number > (uint64_t)option->max) {
        return false;
    }
    *(uint64_t *)option->to = number;
    return true;
}

static bool read_small(const struct tool_option *option, const char *text)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < option->min ||
        number > option->max) {
        return false;
    }
    *(int *)option->to = (int)number;
    return true;
}

static bool read_time(const struct tool_option *option, const char *text)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1},        {"s", 1000},    {"", 1000},
                 {"m", 60000},     {"h", 3600000}, {"d", 86400000},
                 {"w", 604800000}, {NULL, 0}};
    uint64_t number;
    char *end;
    if (!read_number(text, &number, &end)) {
        return false;
    }
    for (int i = 0; units[i].unit != NULL; i++) {
        if (strcmp(units[i].unit, end) == 0) {
            *(uint64_t *)option->to = number * units[i].ms;
            return number <= DASSIE_TIME_MS_MAX / units[i].ms;
        }
    }
    return false;
}

static bool read_states(const struct tool_option *option, const char *text)
{
    unsigned states = 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        int state = state_find(text, len);
        if (state < 0) {
            return false;
        }
        states |= DASSIE_IN(state);
        if (text[len] == '\0') {
            break;
        }
        text += len + 1;
    }
    *(unsigned *)option->to = states;
    return true;
}

static bool read_value(const struct tool_option *option, const char *text)
{
    switch (option->kind) {
        case OPTION_FLAG:
            *(int *)option->to = 1;
            return true;
        case OPTION_TEXT:
            *(const char **)option->to = text;
            return true;
        case OPTION_COUNT:
            return read_count(option, text);
        case OPTION_SMALL:
            return read_small(option, text);
        case OPTION_TIME:
            return read_time(option, text);
        default:
            return read_states(option, text);
    }
}

/* ---- Help ---- */

static void print_option(char letter, const char *name, const char *arg,
                         const char *what)
{
    char left[64];
    snprintf(left, sizeof left, "%c%c%s --%s%s%s", letter != 0 ? '-' : ' ',
             letter != 0 ? letter : ' ', letter != 0 ? "," : " ", name,
             arg != NULL ? " " : "", arg != NULL ? arg : "");
    printf("  %-26s %s\n", left, what);
}

static void print_help(const struct command *command)
{
    printf("Usage: dassie -d DIR %s [OPTION]...%s%s\n\n%s.\n\nOptions:\n",
           command->name, command->args[0] != '\0' ? " " : "", command->args,
           command->what);
    for (const struct tool_option *o = command->options; o->name != NULL; o++) {
        print_option(o->letter, o->name, o->arg, o->what);
    }
    print_option(0, "json", NULL, "print JSON");
    print_option('h', "help", NULL, "this");
}

/* ---- Reading ---- */

static void add_long(struct option *to, const char *name, bool arg, int value)
{
    to->name = name;
    to->has_arg = arg ? required_argument : no_argument;
    to->flag = NULL;
    to->val = value;
}

/* The option that getopt_long() has told of by its index or letter. */
static const struct tool_option *find_option(const struct command *command,
                                             int c)
{
    const struct tool_option *o = command->options;
    for (int i = 0; o[i].name != NULL; i++) {
        if (c == VALUE_JSON + 1 + i || (o[i].letter != 0 && c == o[i].letter)) {
            return &o[i];
        }
    }
    return NULL;
}

static void make_tables(const struct command *command, struct option *longs,
                        char *letters)
{
    int n = 0;
    if (command->runs) {
        *letters++ = '+';
    }
    *letters++ = ':';
    *letters++ = 'h';
    for (const struct tool_option *o = command->options; o->name != NULL; o++) {
        add_long(&longs[n], o->name, o->kind != OPTION_FLAG,
                 VALUE_JSON + 1 + n);
        n++;
        if (o->letter != 0) {
            *letters++ = o->letter;
            if (o->kind != OPTION_FLAG) {
                *letters++ = ':';
            }
        }
    }
    *letters = '\0';
    add_long(&longs[n++], "json", false, VALUE_JSON);
    add_long(&longs[n++], "help", false, VALUE_HELP);
    memset(&longs[n], 0, sizeof longs[n]);
}

static int read_option(const struct command *command, int c, char **argv)
{
    if (c == VALUE_HELP || c == 'h') {
        print_help(command);
        return TOOL_GOOD;
    }
    if (c == VALUE_JSON) {
        tool.json = 1;
        return -1;
    }
    if (c == ':') {
        return tool_fail(TOOL_USAGE, "%s: '%s' needs an argument",
                         command->name, argv[optind - 1]);
    }
    const struct tool_option *option = find_option(command, c);
    if (c == '?' || option == NULL) {
        return tool_fail(TOOL_USAGE, "%s: no option '%s'; try --help",
                         command->name, argv[optind - 1]);
    }
    if (!read_value(option, optarg)) {
        return tool_fail(TOOL_USAGE, "%s: --%s cannot be '%s'", command->name,
                         option->name, optarg);
    }
    return -1;
}

int options_read(const struct command *command, int *argc, char ***argv)
{
    struct option longs[OPTIONS_MAX + 3];
    char letters[2 * OPTIONS_MAX + 4];
    int c;
    make_tables(command, longs, letters);
    optind = 0; /* getopt_long() begins anew */
    while ((c = getopt_long(*argc, *argv, letters, longs, NULL)) != -1) {
        int code = read_option(command, c, *argv);
        if (code >= 0) {
            return code;
        }
    }
    *argc -= optind;
    *argv += optind;
    if (*argc < command->args_min ||
        (command->args_max >= 0 && *argc > command->args_max)) {
        return tool_fail(TOOL_USAGE, "%s: its arguments are: %s; try --help",
                         command->name,
                         command->args[0] != '\0' ? command->args : "none");
    }
    return -1;
}
