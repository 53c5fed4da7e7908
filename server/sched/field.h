/* Checks of JSON that workers say, by tables of fields: each must be there, of its kind, within its range; another field than
 * these is an error too, as daemon and worker of one installation always have the same protocol. */
#ifndef SCHED_FIELD_H
#define SCHED_FIELD_H

#include <jansson.h>

#include "common/err.h"

enum field_kind {
    FIELD_INT,
    FIELD_REAL,
    FIELD_TEXT,   /* min to max bytes */
    FIELD_DIGEST, /* a SHA-256: 64 lower-case hexadecimal digits */
    FIELD_BOOL,
    FIELD_OBJECT
};

enum field_form {
    FORM_ONE,
    FORM_OR_NULL,
    FORM_LIST,
    FORM_LIST_OR_NULLS, /* of which any may be null */
    FORM_MATRIX         /* rows of equal length, at least one by one */
};

struct field {
    const char *name;
    enum field_kind kind;
    enum field_form form;
    double min, max;
    const struct field *inner; /* of objects; ended by a row without a name; NULL: whatever is in them */
    size_t most;               /* items of a list, rows and columns of a matrix; 0: FIELD_ITEMS_MAX */
};

enum { FIELD_ITEMS_MAX = 16384 };

/* Whether object has exactly these fields; where names it in the complaint, an ERR_PROTOCOL. */
int field_check(const json_t *object, const struct field *fields, const char *where, struct err *err);

#endif
