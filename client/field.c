/* Fields of JSON: see field.h. */
#include "client/field.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_SIZE = 64 };

const json_t *field_at(const json_t *value, const char *path) {
    while (value != NULL) {
        char name[NAME_MAX_SIZE];
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        value = json_object_get(value, name);
        if (path[n] == '\0')
            return value;
        path += n + 1;
    }
    return NULL;
}

const char *field_text(const json_t *value, const char *path) {
    const char *text = json_string_value(field_at(value, path));
    return text == NULL ? "" : text;
}

int64_t field_int(const json_t *value, const char *path) {
    const json_t *field = field_at(value, path);
    if (json_is_integer(field))
        return json_integer_value(field);
    double real = json_is_real(field) ? json_real_value(field) : 0;
    return fabs(real) < 9e15 ? (int64_t)real : 0;
}

double field_real(const json_t *value, const char *path) {
    const json_t *field = field_at(value, path);
    return json_is_number(field) ? json_number_value(field) : NAN;
}

bool field_true(const json_t *value, const char *path) {
    return json_is_true(field_at(value, path));
}
