#include "config.h"

#include "view.h"

#include "out.h"
#include "terminal.h"
#include "tool.h"

#include <curses.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>
#include <wchar.h>

#define HEAD_ROWS 7 /* above the table, with its heading */
#define FOOT_ROWS 1
#define ROWS_MIN 12
#define COLUMNS_MIN 64

static bool begun;
static bool paints;

/* ---- The terminal ---- */

void view_end(void)
{
    if (begun) {
        begun = false;
        endwin();
    }
}

/* The number of a pair is that of its colour as of SGR, from 30 on. */
static void begin_colours(void)
{
    paints = has_colors() && terminal_may_paint() && start_color() == OK;
    for (short colour = 1; paints && colour < 8; colour++) {
        init_pair(colour, colour, use_default_colors() == OK ? -1 : 0);
    }
}

/* newterm() leaks where there is none. */
static bool is_terminal_known(void)
{
    int error;
    if (setupterm(NULL, STDOUT_FILENO, &error) != OK) {
        return false;
    }
    del_curterm(cur_term);
    return true;
}

int view_begin(void)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return tool_fail(TOOL_USAGE,
                         "top needs a terminal; try stat --interval 1s");
    }
    setlocale(LC_CTYPE, "");
    if (!is_terminal_known() || newterm(NULL, stdout, stdin) == NULL) {
        return tool_fail(TOOL_ERROR, "top: no such terminal: TERM is '%s'",
                         getenv("TERM") != NULL ? getenv("TERM") : "");
    }
    begun = true;
    atexit(view_end);
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    set_escdelay(25);
    begin_colours();
    return -1;
}

size_t view_rows(void)
{
    bool small = LINES < ROWS_MIN || COLS < COLUMNS_MIN;
    int rows = LINES - HEAD_ROWS - FOOT_ROWS;
    return small ? 0 : rows < VIEW_ROWS_MAX ? (size_t)rows : VIEW_ROWS_MAX;
}

int view_key(void)
{
    int key = getch();
    switch (key) {
        case ERR:
            return 0;
        case KEY_RESIZE:
            return VIEW_RESIZED;
        case KEY_NPAGE:
        case KEY_DOWN:
            return VIEW_NEXT_PAGE;
        case KEY_PPAGE:
        case KEY_UP:
            return VIEW_LAST_PAGE;
        default:
            return key > VIEW_RESIZED && key < 0x7f ? key : ' ';
    }
}

/* ---- Text ---- */

/* Text from a column on, up to the end of the line. What this locale does not
 * have becomes a question mark. Returns the column behind it. */
static int put_part(int row, int column, const char *text, size_t left)
{
    mbstate_t state;
    memset(&state, 0, sizeof state);
    if (move(row, column) == ERR) {
        return column; /* there is none such */
    }
    while (left > 0) {
        wchar_t c;
        size_t n = mbrtowc(&c, text, left, &state);
        bool known = n > 0 && n <= left;
        int width = known ? wcwidth(c) : -1;
        if (width < 0) {
            memset(&state, 0, sizeof state);
        }
        column += width < 0 ? 1 : width;
        if (column > COLS) {
            break;
        }
        addnstr(width < 0 ? "?" : text, width < 0 ? 1 : (int)n);
        text += known ? n : 1;
        left -= known ? n : 1;
    }
    return column;
}

static void put(int row, int column, const char *text)
{
    put_part(row, column, text, strlen(text));
}

/* Cells with tabs between: each at its column, or behind what reaches into
 * it. */
static void put_cells(int row, const char *text)
{
    static const int stops[] = {0, 22, 36, 48};
    int behind = 0;
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        size_t n = strcspn(text, "\t");
        int column = stops[i] > behind + 2 ? stops[i] : behind + 2;
        behind = put_part(row, i == 0 ? 0 : column, text, n);
        text += n + (text[n] != '\0');
    }
}

static void put_painted(int row, int column, int colour, const char *text)
{
    int attributes = colour >= 30 && paints ? COLOR_PAIR(colour - 30) : 0;
    attron(attributes);
    put(row, column, text);
    attroff(attributes);
}

static void put_reverse(int row, const char *text)
{
    attron(A_REVERSE);
    mvhline(row, 0, ' ', COLS);
    put(row, 0, text);
    attroff(A_REVERSE);
}

static void put_count(int row, int column, int state, uint64_t n)
{
    char text[64];
    snprintf(text, sizeof text, "%12" PRIu64 " %s", n, state_name(state));
    put_painted(row, column, n > 0 ? state_colour(state) : 0, text);
}

/* ---- What is above the table ---- */

static void draw_title(const struct watch *watch)
{
    char text[64];
    const char *who = watch->gone            ? "the owner has gone"
                      : !watch->has_now      ? ""
                      : watch->now.owner > 0 ? "live"
                                             : "at rest, nobody owns it";
    snprintf(text, sizeof text, "dassie top: %s", who);
    attron(A_BOLD);
    put(0, 0, text);
    attroff(A_BOLD);
    put(0, (int)strlen(text) + 2, tool.dir);
}

static void draw_counts(const dassie_count_t *total)
{
    put_count(1, 0, DASSIE_PENDING, total->pending);
    put_count(1, 24, DASSIE_SCHEDULED, total->scheduled);
    put_count(1, 48, DASSIE_RUNNING, total->running);
    put_count(2, 0, DASSIE_COMPLETE, total->complete);
    put_count(2, 24, DASSIE_FAILED, total->failed);
    put_count(2, 48, DASSIE_CANCELLED, total->cancelled);
}

static void draw_rates(const struct watch *watch)
{
    char text[160];
    char rate[4][OUT_TIME_BYTES] = {"-", "-", "-", "-"};
    struct rates rates;
    if (!watch->gone && figures_rates(&watch->before, &watch->now, &rates)) {
        format_rate(rates.enqueued, rate[0]);
        format_rate(rates.completed, rate[1]);
        format_rate(rates.failed, rate[2]);
        format_rate(rates.retried, rate[3]);
    }
    snprintf(text, sizeof text,
             "a second: %s enqueued, %s completed, %s failed, %s retried",
             rate[0], rate[1], rate[2], rate[3]);
    put(3, 0, text);
}

static void draw_pool(const struct watch *watch)
{
    char text[160];
    const struct figures *f = &watch->now;
    int n = snprintf(text, sizeof text, "disk: %.1f MiB",
                     (double)f->disk_bytes / (1024 * 1024));
    if (f->counted && !watch->gone) {
        snprintf(text + n, sizeof text - (size_t)n,
                 "   pool threads: %" PRIu64 " of %" PRIu64 " busy, %" PRIu64
                 " asked for",
                 f->pool_used, f->pool_threads, f->pool_wanted);
    }
    put(4, 0, text);
}

/* ---- The table ---- */

static void draw_queue(int row, const struct watch *watch, size_t i)
{
    const struct queue_figures *queue = &watch->now.queues[i];
    const dassie_count_t *jobs = &queue->info.jobs;
    char age[OUT_TIME_BYTES] = "-";
    char in[OUT_TIME_BYTES] = "-";
    char out[OUT_TIME_BYTES] = "-";
    char text[160];
    struct rates rates;
    if (queue->next_ms != 0) {
        format_age(age_of(queue->next_ms), age);
    }
    if (!watch->gone &&
        figures_queue_rates(&watch->before, &watch->now, i, &rates)) {
        format_rate(rates.enqueued, in);
        format_rate(rates.completed + rates.failed, out);
    }
    snprintf(text, sizeof text,
             "%9" PRIu64 " %9" PRIu64 " %7" PRIu64 " %7" PRIu64 " %6s %6s %5s",
             jobs->pending, jobs->scheduled, jobs->running, jobs->failed, in,
             out, age);
    put(row, 0, text);
    if (jobs->failed > 0) {
        snprintf(text, sizeof text, "%7" PRIu64, jobs->failed);
        put_painted(row, 28, state_colour(DASSIE_FAILED), text);
    }
    char *name = text_escaped(queue->info.name, queue->info.name_len);
    put(row, 57, name);
    if (queue->info.paused) {
        put_painted(row, 57 + (int)strlen(name) + 1,
                    state_colour(DASSIE_CANCELLED), "(paused)");
    }
    free(name);
}

static void draw_queues(const struct view *view, const struct watch *watch)
{
    size_t rows = view_rows();
    put_reverse(HEAD_ROWS - 1,
                "  PENDING SCHEDULED RUNNING  FAILED   IN/S  OUT/S WAITS  "
                "QUEUE");
    for (size_t i = 0; i < rows && view->first + i < watch->now.queues_n; i++) {
        draw_queue(HEAD_ROWS + (int)i, watch, view->first + i);
    }
}

static void draw_jobs(const struct view *view)
{
    char text[80];
    int colour = state_colour(view->state);
    int attributes = colour >= 30 && paints ? COLOR_PAIR(colour - 30) : 0;
    snprintf(text, sizeof text, "%10s %5s %3s\tQUEUE\tNAME\t%s  (%s%s)", "ID",
             "AGE", "RUN", view->state == DASSIE_FAILED ? "ERROR" : "PAYLOAD",
             state_name(view->state), view->more ? ", more" : "");
    put_reverse(HEAD_ROWS - 1, "");
    attron(A_REVERSE);
    put_cells(HEAD_ROWS - 1, text);
    attroff(A_REVERSE);
    attron(attributes);
    for (size_t i = 0; i < view->jobs_n && i < view_rows(); i++) {
        put_cells(HEAD_ROWS + (int)i, view->jobs[i]);
    }
    attroff(attributes);
}

void view_draw(const struct view *view, const struct watch *watch)
{
    erase();
    if (view_rows() == 0) {
        put(0, 0, "too small, q quits");
        refresh();
        return;
    }
    draw_title(watch);
    if (watch->has_now) {
        draw_counts(&watch->now.total);
        draw_rates(watch);
        draw_pool(watch);
    }
    put_painted(HEAD_ROWS - 2, 0, state_colour(DASSIE_FAILED), view->words);
    if (view->state == VIEW_QUEUES) {
        draw_queues(view, watch);
    } else {
        draw_jobs(view);
    }
    put_reverse(
        LINES - 1,
        "q quit  1 queues  2 pending  3 scheduled  4 running  5 failed  "
        "PgDn PgUp");
    refresh();
}
