/* Standard output as a device: see term.h. */
#include "client/term.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/err.h"

enum { COLUMNS_DEFAULT = 80, COLUMNS_LEAST = 20, COLUMNS_MOST = 1000 };

static int columns_of_stdout(void) {
    struct winsize size = {0};
    const char *set = getenv("COLUMNS");
    long columns = COLUMNS_DEFAULT;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        columns = size.ws_col;
    else if (set != NULL && strtol(set, NULL, 10) > 0)
        columns = strtol(set, NULL, 10);
    if (columns < COLUMNS_LEAST)
        return COLUMNS_LEAST;
    return columns > COLUMNS_MOST ? COLUMNS_MOST : (int)columns;
}

struct term term_of_stdout(void) {
    const char *type = getenv("TERM"), *no_color = getenv("NO_COLOR");
    struct term term = {.columns = columns_of_stdout()};
    term.tty = isatty(STDOUT_FILENO) == 1 && type != NULL && strcmp(type, "dumb") != 0;
    term.colour = term.tty && (no_color == NULL || no_color[0] == '\0'); /* no-color.org: when not empty */
    return term;
}

const char *term_paint(const struct term *term, enum paint paint) {
    static const char *const codes[] = {
        [PAINT_GOOD] = "\033[32m", [PAINT_BAD] = "\033[31m", [PAINT_DIM] = "\033[2m", [PAINT_BOLD] = "\033[1m"};
    return term->colour ? codes[paint] : "";
}

const char *term_plain(const struct term *term) {
    return term->colour ? "\033[0m" : "";
}

int term_flush(void) {
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}

/* The error of an earlier write is not kept by stdio; what the descriptor says now is. */
static bool reader_gone(void) {
    struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&fd, 1, 0) == 1 && (fd.revents & POLLERR) != 0;
}

int term_finish(int exit_code) {
    errno = 0;
    if (term_flush() == 0)
        return exit_code;
    int reason = errno;
    if (reason == EPIPE || reader_gone()) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    fprintf(stderr, "residuum: cannot write the output: %s\n", reason != 0 ? strerror(reason) : "an earlier write failed");
    return err_exit(ERR_IO);
}
