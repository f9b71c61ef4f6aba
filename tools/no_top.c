/* no_top.c: "dassie top" where there is no curses. */
#include "config.h"

#include "tool.h"

static int run_top(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return tool_fail(TOOL_ERROR,
                     "top: dassie was built without curses; try stat "
                     "--interval 1s");
}

static const struct tool_option options[] = {{.name = NULL}};

const struct command command_top = {
    .name = "top",
    .args = "",
    .what = "Shows nothing, as dassie was built without curses",
    .options = options,
    .run = run_top};
