/* What standard output is: a terminal or not, its width, whether colour is wanted; and whether anybody still reads it. */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H

#include <stdbool.h>

struct term {
    bool tty;    /* may be steered with carriage return and escape sequences */
    bool colour; /* tty, and neither NO_COLOR nor TERM=dumb */
    int columns; /* 80 when not known */
};

/* Looks at standard output and at TERM, NO_COLOR and COLUMNS. */
struct term term_of_stdout(void);

enum paint { PAINT_GOOD, PAINT_BAD, PAINT_DIM, PAINT_BOLD };

/* What to print before and after a painted piece; "" without colour. */
const char *term_paint(const struct term *term, enum paint paint);
const char *term_plain(const struct term *term);

/* Flushes standard output. -1 when that fails: the caller stops. */
int term_flush(void);

/* The last act of the program: flushes, and turns a failed output into an exit code with its message. A reader that went away
 * ends the program with SIGPIPE, quietly, as it ends others. */
int term_finish(int exit_code);

#endif
