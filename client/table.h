/* Aligned columns of text. Cells are cleaned here, so that no table can carry a terminal escape. */
#ifndef CLIENT_TABLE_H
#define CLIENT_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "client/term.h"
#include "common/err.h"

enum { TABLE_COLUMNS_MAX = 12 };

struct table {
    size_t columns;
    const char *layout; /* one letter a column: l or r (aligned left or right) */
    char **cells;       /* row by row, clean, owned */
    size_t cells_n, room;
    bool failed; /* memory ran out: table_print says so */
};

/* layout has one letter a column, at most TABLE_COLUMNS_MAX. */
void table_init(struct table *table, const char *layout);
void table_done(struct table *table);

/* Appends a row of table->columns cells, NULL for an empty one. */
void table_row(struct table *table, const char *const *cells);

/* Prints to standard output, two spaces between columns; the first row is a heading if heading. On a terminal the last column is
 * cut to what fits. -1 and ERR_MEMORY when a row could not be kept. */
int table_print(const struct table *table, const struct term *term, bool heading, struct err *err);

#endif
