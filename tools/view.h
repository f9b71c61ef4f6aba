/* view.h: the screen of "dassie top", by curses.
 *
 * The happy path is: view_begin(), view_draw() and view_key(), view_end(),
 * after which the terminal is as it was before, as it is at any exit.
 *
 * Possible failure modes are: no terminal, or none that curses knows; a window
 * that is too small, which says so until it is larger. */
#ifndef DASSIE_TOOLS_VIEW_H_
#define DASSIE_TOOLS_VIEW_H_

#include "figures.h"

#define VIEW_ROWS_MAX 512

/* What is listed: the queues, or the jobs of a state. */
enum { VIEW_QUEUES = -1 };

struct view {
    int state;    /* VIEW_QUEUES or a state */
    size_t first; /* of the queues that is shown */
    char **jobs;  /* lines of the table, with tabs between their cells */
    size_t jobs_n;
    bool more;         /* jobs beyond these */
    const char *words; /* what went wrong, or "" */
};

/* -1, or an exit code. */
int view_begin(void);
void view_end(void);

/* Lines of the table that the window has room for; 0: it is too small. */
size_t view_rows(void);

void view_draw(const struct view *view, const struct watch *watch);

/* The next key that was typed: a letter, or one of these; 0: none. */
enum { VIEW_NEXT_PAGE = 1, VIEW_LAST_PAGE = 2, VIEW_RESIZED = 3 };
int view_key(void);

#endif /* DASSIE_TOOLS_VIEW_H_ */
