/* screen.h: what a terminal shows of the bytes that a program has written to
 * it, as far as xterm and vt100 are used by curses.
 *
 * Whatever is not understood is an error, so that nothing which a real terminal
 * would do is passed over. Cells hold a character each, of one column. */
#ifndef DASSIE_TEST_SCREEN_H_
#define DASSIE_TEST_SCREEN_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCREEN_ROWS_MAX 100
#define SCREEN_COLS_MAX 300

struct cell {
    char text[5]; /* a character in UTF-8 */
    int colour;   /* as of SGR: 31 is red; 0 is none */
};

struct screen {
    int rows;
    int cols;
    int row;
    int col;
    bool wraps; /* the next character begins a line */
    int colour;
    bool alternate; /* the program has the screen for itself */
    bool hidden;    /* there is no cursor */
    struct cell cells[SCREEN_ROWS_MAX][SCREEN_COLS_MAX];
    uint8_t escape[64]; /* a sequence or a character that is not whole yet */
    size_t escape_n;
    char bad[128]; /* the first thing that was not understood, or "" */
};

/* One with only zeros in it has no size yet. */
void screen_resize(struct screen *s, int rows, int cols);
void screen_write(struct screen *s, const void *p, size_t n);

/* A row as text, without spaces at its end; valid until the next call. */
const char *screen_row(const struct screen *s, int row);

/* Where text begins: false, it is nowhere. */
bool screen_find(const struct screen *s, const char *text, int *row, int *col);

#endif /* DASSIE_TEST_SCREEN_H_ */
