/* session.h: the store that a subcommand works on.
 *
 * The happy path is: session_open(), requests with session_wait() for their
 * callbacks, session_close(); any number of times.
 *
 * Ctrl-C and its kind do not end the process in the middle: session.signal is
 * set, what takes long looks at it and stops, the store is closed, and then the
 * process dies of the signal. */
#ifndef DASSIE_TOOLS_SESSION_H_
#define DASSIE_TOOLS_SESSION_H_

#include <dassie.h>

#include <stdbool.h>

struct session {
    uv_loop_t loop;
    dassie_t q;
    int signal;                     /* that asked the process to end, or 0 */
    void (*told)(const char *line); /* what the library logs, if set: not an
                                       error, but what is asked for */
    void (*interrupted)(void);      /* is told each time, if set */
    bool unwatched;                 /* signals are the subcommand's own */
};
extern struct session session;

/* Opens the store; if it has an owner, connects to that, if the subcommand may
 * be done so; where nobody listens, looks beside it, if flags have
 * DASSIE_BESIDE. -1, or the exit code, after a line on stderr. */
int session_open(unsigned flags, bool may_ask);

/* Runs the loop until *done. */
void session_wait(const bool *done);

/* Begins to close it; what is under way may end. Once or more. */
void session_end(void);

/* Closes it. Returns code, or an exit code of its own if that is 0. */
int session_close(int code);

#endif /* DASSIE_TOOLS_SESSION_H_ */
