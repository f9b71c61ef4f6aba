/* terminal.h: what a terminal is given and a pipe or a file is not: colours,
 * unless NO_COLOR is set to anything, and progress on stderr. */
#ifndef DASSIE_TOOLS_TERMINAL_H_
#define DASSIE_TOOLS_TERMINAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a descriptor is a terminal that can go back in a line. */
bool terminal_takes(int fd);

/* Whether NO_COLOR leaves colours to those that can show them. */
bool terminal_may_paint(void);

/* The colour of a state as of SGR, 31 is red; 0: it has none. */
int state_colour(int state);

/* A state's name on stdout, in its colour, with spaces up to width. */
void out_state(int state, int width);

struct progress {
    uint64_t complete;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t left;
    uint64_t ms;  /* since it began */
    bool endless; /* there is no whole of which this is a part */
};

/* Shows it in a line of the terminal that stderr is, or takes it away, if it is
 * there, before something else is written. */
void progress_show(const struct progress *progress);
void progress_hide(void);

/* Bytes that others write to stderr; their last line is left alone until it has
 * ended. */
void progress_write(const char *p, size_t n);

#endif /* DASSIE_TOOLS_TERMINAL_H_ */
