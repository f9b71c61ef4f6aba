#include "config.h"

#include "screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARAMETERS_MAX 16

/* ---- Cells ---- */

static void clear_cells(struct screen *s, int row, int from, int to)
{
    for (int col = from; col < to && col < s->cols; col++) {
        memcpy(s->cells[row][col].text, " ", 2);
        s->cells[row][col].colour = 0;
    }
}

static void clear_rows(struct screen *s, int from, int to)
{
    for (int row = from; row < to; row++) {
        clear_cells(s, row, 0, s->cols);
    }
}

void screen_resize(struct screen *s, int rows, int cols)
{
    int old_rows = s->rows;
    int old_cols = s->cols;
    s->rows = rows;
    s->cols = cols;
    for (int row = 0; row < rows; row++) {
        clear_cells(s, row, row < old_rows ? old_cols : 0, cols);
    }
    s->row = s->row < rows ? s->row : rows - 1;
    s->col = s->col < cols ? s->col : cols - 1;
    s->wraps = false;
}

static void move_to(struct screen *s, int row, int col)
{
    s->row = row < 0 ? 0 : row >= s->rows ? s->rows - 1 : row;
    s->col = col < 0 ? 0 : col >= s->cols ? s->cols - 1 : col;
    s->wraps = false;
}

static void line_feed(struct screen *s)
{
    s->wraps = false;
    if (s->row + 1 < s->rows) {
        s->row++;
        return;
    }
    memmove(s->cells[0], s->cells[1],
            (size_t)(s->rows - 1) * sizeof s->cells[0]);
    clear_cells(s, s->rows - 1, 0, s->cols);
}

static void put_char(struct screen *s, const uint8_t *p, size_t n)
{
    if (s->wraps) {
        s->col = 0;
        line_feed(s);
    }
    struct cell *cell = &s->cells[s->row][s->col];
    memcpy(cell->text, p, n);
    cell->text[n] = '\0';
    cell->colour = s->colour;
    s->wraps = s->col + 1 == s->cols;
    s->col += !s->wraps;
}

/* ---- Sequences ---- */

static void misunderstood(struct screen *s)
{
    size_t n = 0;
    if (s->bad[0] != '\0') {
        return;
    }
    for (size_t i = 0; i < s->escape_n && n + 4 < sizeof s->bad; i++) {
        uint8_t c = s->escape[i];
        n += (size_t)snprintf(s->bad + n, sizeof s->bad - n,
                              c > ' ' && c < 0x7f ? "%c" : "\\x%02x", c);
    }
}

static void set_colours(struct screen *s, const int *parameters, int n)
{
    for (int i = 0; i < n; i++) {
        int p = parameters[i];
        if (p == 0 || p == 39) {
            s->colour = 0;
        } else if (p >= 30 && p <= 37) {
            s->colour = p;
        } else if (p == 38 || p == 48) {
            misunderstood(s); /* no program here asks for more than eight */
        }
    }
}

static void erase(struct screen *s, char final, int how)
{
    bool rows = final == 'J';
    if (how != 1) {
        clear_cells(s, s->row, how == 2 ? 0 : s->col, s->cols);
    } else {
        clear_cells(s, s->row, 0, s->col + 1);
    }
    if (rows && how != 0) {
        clear_rows(s, 0, s->row);
    }
    if (rows && how != 1) {
        clear_rows(s, s->row + 1, s->rows);
    }
}

static void set_modes(struct screen *s, const int *parameters, int n, bool on)
{
    for (int i = 0; i < n; i++) {
        if (parameters[i] == 1049) {
            s->alternate = on;
        } else if (parameters[i] == 25) {
            s->hidden = !on;
        }
    }
}

static void repeat_last(struct screen *s, int n)
{
    int col = s->wraps ? s->col : s->col - 1;
    struct cell last = s->cells[s->row][col < 0 ? 0 : col];
    for (int i = 0; i < n; i++) {
        put_char(s, (const uint8_t *)last.text, strlen(last.text));
    }
}

static void insert_cells(struct screen *s, int n)
{
    struct cell *row = s->cells[s->row];
    n = n < s->cols - s->col ? n : s->cols - s->col;
    memmove(row + s->col + n, row + s->col,
            (size_t)(s->cols - s->col - n) * sizeof row[0]);
    clear_cells(s, s->row, s->col, s->col + n);
}

static void delete_cells(struct screen *s, int n)
{
    struct cell *row = s->cells[s->row];
    n = n < s->cols - s->col ? n : s->cols - s->col;
    memmove(row + s->col, row + s->col + n,
            (size_t)(s->cols - s->col - n) * sizeof row[0]);
    clear_cells(s, s->row, s->cols - n, s->cols);
}

static void control(struct screen *s, char final, bool own,
                    const int *parameters, int n)
{
    int first = parameters[0] > 0 ? parameters[0] : 1;
    switch (final) {
        case 'A':
            move_to(s, s->row - first, s->col);
            break;
        case 'B':
            move_to(s, s->row + first, s->col);
            break;
        case 'C':
            move_to(s, s->row, s->col + first);
            break;
        case 'D':
            move_to(s, s->row, s->col - first);
            break;
        case 'G':
            move_to(s, s->row, first - 1);
            break;
        case 'd':
            move_to(s, first - 1, s->col);
            break;
        case 'H':
            move_to(s, first - 1, (parameters[1] > 0 ? parameters[1] : 1) - 1);
            break;
        case 'J':
        case 'K':
            erase(s, final, parameters[0]);
            break;
        case 'X':
            clear_cells(s, s->row, s->col, s->col + first);
            break;
        case '@':
            insert_cells(s, first);
            break;
        case 'P':
            delete_cells(s, first);
            break;
        case 'b':
            repeat_last(s, first);
            break;
        case 'm':
            set_colours(s, parameters, n);
            break;
        case 'h':
        case 'l':
            set_modes(s, parameters, own ? n : 0, final == 'h');
            break;
        case 'r': /* the whole screen scrolls: nothing else is asked for */
        case 't': /* the window's title is kept */
            break;
        default:
            misunderstood(s);
    }
}

static void read_control(struct screen *s)
{
    int parameters[PARAMETERS_MAX] = {0};
    int n = 0;
    size_t at = 2;
    bool own = s->escape[at] == '?';
    at += own;
    for (; at + 1 < s->escape_n; at++) {
        uint8_t c = s->escape[at];
        if (c >= '0' && c <= '9' && parameters[n] < 100000) {
            parameters[n] = 10 * parameters[n] + (c - '0');
        } else if (c == ';' && n + 1 < PARAMETERS_MAX) {
            n++;
        } else {
            misunderstood(s);
            return;
        }
    }
    control(s, (char)s->escape[at], own, parameters, n + 1);
}

/* Whether the sequence or character that has begun is whole. */
static bool is_whole(const struct screen *s)
{
    const uint8_t *e = s->escape;
    size_t n = s->escape_n;
    uint8_t last = e[n - 1];
    if (e[0] >= 0xc0) {
        return n == (e[0] < 0xe0 ? 2u : e[0] < 0xf0 ? 3u : 4u);
    }
    if (n == 1) {
        return false; /* ESC */
    }
    if (e[1] == '[') {
        return n > 2 && last >= '@' && last <= '~';
    }
    return n == (e[1] == '(' || e[1] == ')' ? 3u : 2u);
}

static void obey(struct screen *s)
{
    static const char passed_over[] = "()=>";
    if (s->escape[0] >= 0xc0) {
        put_char(s, s->escape, s->escape_n);
    } else if (s->escape[1] == '[') {
        read_control(s);
    } else if (strchr(passed_over, s->escape[1]) == NULL) {
        misunderstood(s);
    }
    s->escape_n = 0;
}

static void obey_control(struct screen *s, uint8_t c)
{
    switch (c) {
        case '\r':
            move_to(s, s->row, 0);
            break;
        case '\n':
            line_feed(s);
            break;
        case '\b':
            move_to(s, s->row, s->col - 1);
            break;
        case '\t':
            move_to(s, s->row, (s->col | 7) + 1);
            break;
        case '\0': /* padding */
        case '\a':
        case 0x0e: /* other character sets */
        case 0x0f:
            break;
        default:
            s->escape[0] = c;
            s->escape_n = 1;
            misunderstood(s);
            s->escape_n = 0;
    }
}

static void write_byte(struct screen *s, uint8_t c)
{
    if (s->escape_n > 0 || c == 0x1b || c >= 0xc0) {
        s->escape[s->escape_n++] = c;
        if (is_whole(s) || s->escape_n == sizeof s->escape) {
            obey(s);
        }
    } else if (c >= ' ' && c < 0x7f) {
        put_char(s, &c, 1);
    } else {
        obey_control(s, c);
    }
}

void screen_write(struct screen *s, const void *p, size_t n)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < n; i++) {
        write_byte(s, bytes[i]);
    }
}

/* ---- Looking ---- */

const char *screen_row(const struct screen *s, int row)
{
    static char text[SCREEN_COLS_MAX * 4 + 1];
    size_t n = 0;
    size_t end = 0;
    for (int col = 0; col < s->cols; col++) {
        const char *cell = s->cells[row][col].text;
        size_t len = strlen(cell);
        memcpy(text + n, cell, len);
        n += len;
        end = cell[0] != ' ' ? n : end;
    }
    text[end] = '\0';
    return text;
}

bool screen_find(const struct screen *s, const char *text, int *row, int *col)
{
    for (*row = 0; *row < s->rows; ++*row) {
        const char *line = screen_row(s, *row);
        const char *at = strstr(line, text);
        if (at != NULL) {
            *col = 0;
            for (; line < at; line++) {
                *col += (*line & 0xc0) != 0x80;
            }
            return true;
        }
    }
    return false;
}
