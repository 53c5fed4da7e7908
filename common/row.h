/* Fields of a JSON object as rows of a const table: read into a struct, types and bounds checked, and written back. */
#ifndef COMMON_ROW_H
#define COMMON_ROW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/spec.h"

enum row_kind {
    ROW_TEXT,   /* char[max + 1]: min to max bytes, no control characters */
    ROW_INT,    /* int */
    ROW_SEED,   /* uint64_t */
    ROW_REAL,   /* double */
    ROW_BOOL,   /* bool */
    ROW_CHOICE, /* an enum: one of choices */
    ROW_RISING, /* struct spec_list: at least one whole number, each above the one before */
    ROW_COUNTS, /* struct spec_list: whole numbers in any order; a single one may stand without brackets */
    ROW_PAIR    /* two ints, height and width: [height, width], or one number for both */
};

/* min and max bound numbers, items and a text's length. */
struct row {
    const char *section, *key; /* section: the object that holds the field, "" for the outermost */
    enum row_kind kind;
    size_t offset; /* of the value in its struct */
    double min, max, initial;
    const char *const *choices; /* NULL at the end */
    unsigned kinds;             /* the set of kinds of its section that use the field, as bits; 0: all */
    bool required;
};

/* Reads value into the struct at base. A value that does not fit is reported at pointer and leaves the struct untouched. Returns
 * 0 or -1. */
int row_read(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors);

/* Sets a number, choice or bool; does nothing to texts and lists. */
void row_set(const struct row *row, void *base, double value);

/* The value in the struct at base. New reference; NULL when out of memory. */
json_t *row_write(const struct row *row, const void *base);

/* Writes where else in the document a key is known: pointers with " or " between them, "" when it is nowhere. */
typedef void row_places_fn(const char *key, char *ret_places, size_t size);

/* Reports the keys of object, which stands at the pointer parent, that are none of the n known ones, with the nearest of those
 * and, unless places is NULL, with the right places of keys that stand at a wrong one. */
void row_report_unknown(const json_t *object, const char *parent, const char *const *known, size_t n, row_places_fn *places,
                        struct err_list *errors);

/* "an object", "a number", "null". */
const char *row_type_name(const json_t *value);

#endif
