/* select.h: which jobs a subcommand is about, said by the same options in each
 * of them, and a job as a line of a list. */
#ifndef DASSIE_TOOLS_SELECT_H_
#define DASSIE_TOOLS_SELECT_H_

#include "look.h"
#include "tool.h"

#define SELECT_WAITING (DASSIE_IN(DASSIE_PENDING) | DASSIE_IN(DASSIE_SCHEDULED))
#define SELECT_ENDED                                         \
    (DASSIE_IN(DASSIE_COMPLETE) | DASSIE_IN(DASSIE_FAILED) | \
     DASSIE_IN(DASSIE_CANCELLED))
#define SELECT_ALL (SELECT_WAITING | DASSIE_IN(DASSIE_RUNNING) | SELECT_ENDED)

/* What the options say; no states: nothing was said of them. */
extern struct selection selection;

/* Rows of a table of options. */
#define SELECTION_OPTIONS                                                      \
    {"state",                                                                  \
     "STATES",                                                                 \
     "only in these, with commas between",                                     \
     OPTION_STATES,                                                            \
     &selection.states,                                                        \
     0,                                                                        \
     0,                                                                        \
     's'},                                                                     \
        {"queue",                                                              \
         "QUEUE",                                                              \
         "only of this queue",                                                 \
         OPTION_TEXT,                                                          \
         &selection.queue,                                                     \
         0,                                                                    \
         0,                                                                    \
         'q'},                                                                 \
        {"name", "NAME", "only of this name", OPTION_TEXT, &selection.name, 0, \
         0,      'n'},                                                         \
    {                                                                          \
        "older", "TIME", "ended, or not ended and enqueued, so long ago",      \
            OPTION_TIME, &selection.age_ms, 0, 0, 'o'                          \
    }

void select_print_heading(void);
void select_print(const dassie_info_t *job);

#endif /* DASSIE_TOOLS_SELECT_H_ */
