#include "config.h"

#include "terminal.h"

#include "out.h"
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_COLUMNS_MAX 30
#define BAR_COLUMNS_MIN 10

bool terminal_takes(int fd)
{
    const char *term = getenv("TERM");
    return term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0 &&
           isatty(fd);
}

/* ---- Colours ---- */

bool terminal_may_paint(void)
{
    const char *no = getenv("NO_COLOR");
    return no == NULL || no[0] == '\0';
}

int state_colour(int state)
{
    switch (state) {
        case DASSIE_RUNNING:
            return 36;
        case DASSIE_COMPLETE:
            return 32;
        case DASSIE_FAILED:
            return 31;
        case DASSIE_CANCELLED:
            return 33;
        default:
            return 0;
    }
}

void out_state(int state, int width)
{
    static int paints = -1;
    if (paints < 0) {
        paints = terminal_takes(STDOUT_FILENO) && terminal_may_paint();
    }
    int colour = paints ? state_colour(state) : 0;
    if (colour != 0) {
        printf("\033[%dm%-*s\033[m", colour, width, state_name(state));
    } else {
        printf("%-*s", width, state_name(state));
    }
}

/* ---- Progress ---- */

static bool shown;
static bool in_line; /* of others */

static int columns(void)
{
    struct winsize size;
    bool known =
        ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

/* "1200 complete, 3 failed, 800 left, 40/s, 20s to go" */
static void describe(const struct progress *p, char *text, size_t size)
{
    char age[OUT_TIME_BYTES];
    char rate[OUT_TIME_BYTES];
    uint64_t ended = p->complete + p->failed + p->cancelled;
    size_t n = (size_t)snprintf(text, size,
                                "%" PRIu64 " complete, %" PRIu64
                                " failed, %" PRIu64 " left",
                                p->complete, p->failed, p->left);
    if (ended > 0 && p->ms > 0) {
        n += (size_t)snprintf(
            text + n, size - n, ", %s/s",
            format_rate((double)ended * 1000 / (double)p->ms, rate));
    }
    if (ended > 0 && !p->endless) {
        double ms = (double)p->left * (double)p->ms / (double)ended;
        snprintf(text + n, size - n, ", %s to go",
                 format_age((uint64_t)ms, age));
    }
}

/* In front of a text of so many columns, if there is room for it. */
static void draw_bar(const struct progress *p, int text_columns)
{
    uint64_t ended = p->complete + p->failed + p->cancelled;
    uint64_t all = ended + p->left;
    int room = columns() - text_columns - (int)strlen("[] 100%  ") - 1;
    int width = room < BAR_COLUMNS_MAX ? room : BAR_COLUMNS_MAX;
    if (p->endless || width < BAR_COLUMNS_MIN || all == 0) {
        return;
    }
    double part = (double)ended / (double)all;
    int full = (int)(part * width);
    fputc('[', stderr);
    for (int i = 0; i < width; i++) {
        fputc(i < full ? '=' : i == full ? '>' : ' ', stderr);
    }
    fprintf(stderr, "] %3d%%  ", (int)(part * 100));
}

void progress_show(const struct progress *progress)
{
    char text[160];
    if (in_line) {
        return;
    }
    describe(progress, text, sizeof text);
    progress_hide();
    draw_bar(progress, (int)strlen(text));
    fprintf(stderr, "%.*s", columns() - 1, text);
    fflush(stderr);
    shown = true;
}

void progress_hide(void)
{
    if (shown) {
        fputs("\r\033[K", stderr);
        shown = false;
    }
}

void progress_write(const char *p, size_t n)
{
    progress_hide();
    fwrite(p, 1, n, stderr);
    in_line = n > 0 ? p[n - 1] != '\n' : in_line;
}
