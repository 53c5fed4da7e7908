/* Aligned columns: see table.h. */
#include "client/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text.h"

enum { GAP = 2, LAST_LEAST = 8 };

void table_init(struct table *table, const char *layout) {
    *table = (struct table){.layout = layout, .columns = strlen(layout)};
}

void table_done(struct table *table) {
    for (size_t i = 0; i < table->cells_n; i++)
        free(table->cells[i]);
    free(table->cells);
    *table = (struct table){0};
}

static bool grow(struct table *table) {
    if (table->cells_n + table->columns <= table->room)
        return true;
    size_t room = table->room == 0 ? 16 * table->columns : 2 * table->room;
    char **cells = realloc(table->cells, room * sizeof *cells);
    if (cells == NULL)
        return false;
    table->cells = cells;
    table->room = room;
    return true;
}

void table_row(struct table *table, const char *const *cells) {
    table->failed = table->failed || !grow(table);
    for (size_t i = 0; i < table->columns && !table->failed; i++) {
        char *clean = text_clean(cells[i] == NULL ? "" : cells[i], TEXT_LINE);
        table->failed = clean == NULL;
        if (!table->failed)
            table->cells[table->cells_n++] = clean;
    }
}

static void measure(const struct table *table, int widths[TABLE_COLUMNS_MAX]) {
    for (size_t i = 0; i < table->cells_n; i++) {
        int width = text_width(table->cells[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
}

/* On a terminal the last column takes what the others leave. */
static void fit_last(const struct table *table, const struct term *term, int widths[TABLE_COLUMNS_MAX]) {
    int *last = &widths[table->columns - 1], others = 0;
    for (size_t i = 0; i + 1 < table->columns; i++)
        others += widths[i] + GAP;
    int left = term->columns - others;
    if (term->tty && *last > left)
        *last = left > LAST_LEAST ? left : LAST_LEAST;
}

static void print_cell(const char *cell, char side, int width, bool last) {
    int pad = width - text_width(cell);
    if (side == 'r')
        printf("%*s%s", pad > 0 ? pad : 0, "", cell);
    else if (last && pad >= 0)
        fputs(cell, stdout); /* no blanks at the end of a line */
    else
        text_put_fit(stdout, cell, width);
}

static void print_row(const struct table *table, const int *widths, size_t row) {
    for (size_t i = 0; i < table->columns; i++) {
        bool last = i + 1 == table->columns;
        print_cell(table->cells[row * table->columns + i], table->layout[i], widths[i], last);
        if (!last)
            printf("%*s", GAP, "");
    }
}

int table_print(const struct table *table, const struct term *term, bool heading, struct err *err) {
    if (table->failed)
        return err_set(err, ERR_MEMORY, "out of memory while preparing a table");
    int widths[TABLE_COLUMNS_MAX] = {0};
    measure(table, widths);
    fit_last(table, term, widths);
    for (size_t row = 0; row < table->cells_n / table->columns; row++) {
        bool bold = heading && row == 0;
        fputs(bold ? term_paint(term, PAINT_BOLD) : "", stdout);
        print_row(table, widths, row);
        fputs(bold ? term_plain(term) : "", stdout);
        putchar('\n');
    }
    return 0;
}
