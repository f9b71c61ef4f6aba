/* terminal.c: runs a command on a terminal of its own, and does with it what
 * stdin says, line by line.
 *
 *   terminal ROWS COLS COMMAND [ARGUMENT]... <SCRIPT
 *
 *   wait TEXT          until the screen shows it
 *   gone TEXT          until it does not
 *   colour N TEXT      it is shown in that colour, as of SGR; 0 is none
 *   keys KEYS          are typed: \e, \r and \t are what they are in C
 *   sh COMMAND         is run elsewhere, and has to succeed
 *   size ROWS COLS     the terminal is resized
 *   signal NUMBER      is sent to the command
 *   close              the terminal goes away
 *   show               the screen, to stdout
 *   end STATUS         until the command has ended, with 128 and the number if
 *                      a signal has done it; the terminal is as it was before
 *
 * Possible failure modes are: what is waited for does not come within a minute,
 * or something is not as it has to be: then the screen is shown, with exit code
 * 1. The command is killed if it has not ended with the script. */
#include "config.h"

#include "screen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 60

static struct screen screen;
static int terminal = -1; /* this end of it, */
static int other_end;     /* and that of the command */
static struct termios before;
static pid_t child;
static FILE *script;
static const char *line; /* of it */

static void show(void)
{
    for (int row = 0; row < screen.rows; row++) {
        puts(screen_row(&screen, row));
    }
}

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
    va_list args;
    printf("terminal: '%s': ", line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n---- %dx%d\n", screen.cols, screen.rows);
    show();
    puts("----");
    if (child > 0) {
        kill(child, SIGKILL);
    }
    exit(1);
}

static void must(bool good, const char *what)
{
    if (!good) {
        fail("%s: %s", what, strerror(errno));
    }
}

/* ---- The terminal ---- */

static void set_size(int rows, int cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows,
                           .ws_col = (unsigned short)cols};
    if (rows < 1 || rows > SCREEN_ROWS_MAX || cols < 1 ||
        cols > SCREEN_COLS_MAX) {
        fail("no such size");
    }
    screen_resize(&screen, rows, cols);
    must(ioctl(terminal, TIOCSWINSZ, &size) == 0, "TIOCSWINSZ");
}

static void start(int rows, int cols, char **command)
{
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    must(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0,
         "posix_openpt");
    other_end = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    must(other_end >= 0 && tcgetattr(other_end, &before) == 0, "open");
    set_size(rows, cols);
    child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        setsid();
        for (int number = 1; number < NSIG; number++) {
            signal(number, SIG_DFL); /* whatever this one has ignored */
        }
        ioctl(other_end, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; fd++) {
            dup2(other_end, fd);
        }
        execvp(command[0], command);
        _exit(127);
    }
}

/* What the command has written so far, waiting up to ms for some of it. */
static bool take(int ms)
{
    char bytes[4096];
    struct pollfd fd = {.fd = terminal, .events = POLLIN};
    if (poll(&fd, 1, ms) != 1) {
        return false;
    }
    ssize_t n = read(terminal, bytes, sizeof bytes);
    screen_write(&screen, bytes, n > 0 ? (size_t)n : 0);
    if (screen.bad[0] != '\0') {
        fail("the screen does not understand %s", screen.bad);
    }
    return n > 0;
}

/* Until the screen shows text, or does not. */
static void wait_for(const char *text, bool shown)
{
    time_t end = time(NULL) + WAIT_S;
    int row;
    int col;
    while (screen_find(&screen, text, &row, &col) != shown) {
        if (!take(100) && time(NULL) > end) {
            fail("in vain");
        }
    }
}

static void check_colour(const char *arguments)
{
    int colour;
    int used;
    int row;
    int col;
    if (sscanf(arguments, "%d %n", &colour, &used) != 1) {
        fail("which colour?");
    }
    wait_for(arguments + used, true);
    screen_find(&screen, arguments + used, &row, &col);
    if (screen.cells[row][col].colour != colour) {
        fail("it has colour %d", screen.cells[row][col].colour);
    }
}

static void type(const char *keys)
{
    for (; *keys != '\0'; keys++) {
        char key = *keys;
        if (key == '\\') {
            keys++;
            key = *keys == 'e' ? '\x1b' : *keys == 'r' ? '\r' : '\t';
        }
        must(write(terminal, &key, 1) == 1, "write");
    }
}

/* ---- The end ---- */

static void close_terminal(void)
{
    close(other_end);
    close(terminal);
    terminal = -1;
}

static void check_restored(void)
{
    struct termios after;
    if (terminal < 0) {
        return;
    }
    must(tcgetattr(other_end, &after) == 0, "tcgetattr");
    if (after.c_lflag != before.c_lflag || after.c_iflag != before.c_iflag ||
        after.c_oflag != before.c_oflag) {
        fail("the terminal's modes are not as before");
    }
    if (screen.alternate || screen.hidden) {
        fail("the terminal's screen is not as before");
    }
}

static void wait_for_end(int wanted)
{
    time_t end = time(NULL) + WAIT_S;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (!take(20) && time(NULL) > end) {
            fail("it does not end");
        }
    }
    child = 0;
    while (take(0)) {
    }
    int code =
        WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (code != wanted) {
        fail("it has ended with %d", code);
    }
    check_restored();
}

static void resize(const char *arguments)
{
    int rows;
    int cols;
    if (sscanf(arguments, "%d %d", &rows, &cols) != 2) {
        fail("which size?");
    }
    set_size(rows, cols);
}

/* ---- The script ---- */

static void obey(const char *word, const char *arguments)
{
    if (strcmp(word, "wait") == 0) {
        wait_for(arguments, true);
    } else if (strcmp(word, "gone") == 0) {
        wait_for(arguments, false);
    } else if (strcmp(word, "colour") == 0) {
        check_colour(arguments);
    } else if (strcmp(word, "keys") == 0) {
        type(arguments);
    } else if (strcmp(word, "sh") == 0) {
        if (system(arguments) != 0) {
            fail("it fails");
        }
    } else if (strcmp(word, "size") == 0) {
        resize(arguments);
    } else if (strcmp(word, "signal") == 0) {
        kill(child, (int)strtol(arguments, NULL, 10));
    } else if (strcmp(word, "close") == 0) {
        close_terminal();
    } else if (strcmp(word, "show") == 0) {
        show();
    } else if (strcmp(word, "end") == 0) {
        wait_for_end((int)strtol(arguments, NULL, 10));
    } else {
        fail("no such command");
    }
}

int main(int argc, char **argv)
{
    static char text[1024];
    line = "";
    if (argc < 4) {
        fputs("usage: terminal ROWS COLS COMMAND [ARGUMENT]... <SCRIPT\n",
              stderr);
        return 2;
    }
    script = fdopen(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), "r");
    must(script != NULL && freopen("/dev/null", "r", stdin) != NULL, "stdin");
    start((int)strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10),
          argv + 3);
    while (fgets(text, sizeof text, script) != NULL) {
        char word[16] = "";
        int used = 0;
        text[strcspn(text, "\n")] = '\0';
        line = text;
        sscanf(text, "%15s %n", word, &used);
        obey(word, text + used);
        fflush(stdout);
    }
    line = "the end of the script";
    if (child > 0) {
        fail("the command has not ended");
    }
    return 0;
}
