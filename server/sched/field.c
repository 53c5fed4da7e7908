/* Checks of JSON by tables of fields: see field.h. */
#include "server/sched/field.h"

#include <stdbool.h>
#include <string.h>

static bool int_fits(const json_t *value, const struct field *field) {
    return json_is_integer(value) && (double)json_integer_value(value) >= field->min &&
           (double)json_integer_value(value) <= field->max;
}

static bool real_fits(const json_t *value, const struct field *field) {
    return json_is_number(value) && json_number_value(value) >= field->min && json_number_value(value) <= field->max;
}

static bool text_fits(const json_t *value, const struct field *field) {
    return json_is_string(value) && (double)json_string_length(value) >= field->min &&
           (double)json_string_length(value) <= field->max;
}

static bool is_digest(const json_t *value) {
    enum { DIGITS = 64 };
    return json_is_string(value) && json_string_length(value) == DIGITS &&
           strspn(json_string_value(value), "0123456789abcdef") == DIGITS;
}

static bool one_fits(const json_t *value, const struct field *field) {
    switch (field->kind) {
    case FIELD_INT:
        return int_fits(value, field);
    case FIELD_REAL:
        return real_fits(value, field);
    case FIELD_TEXT:
        return text_fits(value, field);
    case FIELD_DIGEST:
        return is_digest(value);
    case FIELD_BOOL:
        return json_is_boolean(value);
    case FIELD_OBJECT:
        return json_is_object(value);
    }
    return false;
}

static size_t most(const struct field *field) {
    return field->most > 0 ? field->most : FIELD_ITEMS_MAX;
}

static bool list_fits(const json_t *list, const struct field *field, bool or_nulls) {
    size_t i;
    json_t *item;
    if (!json_is_array(list) || json_array_size(list) > most(field))
        return false;
    json_array_foreach(list, i, item) {
        if (!(or_nulls && json_is_null(item)) && !one_fits(item, field))
            return false;
    }
    return true;
}

static bool matrix_fits(const json_t *rows, const struct field *field) {
    size_t i, columns = json_array_size(json_array_get(rows, 0));
    json_t *row;
    if (!json_is_array(rows) || json_array_size(rows) > most(field) || columns < 1)
        return false;
    json_array_foreach(rows, i, row) {
        if (json_array_size(row) != columns || !list_fits(row, field, false))
            return false;
    }
    return true;
}

static bool fits(const json_t *value, const struct field *field) {
    switch (field->form) {
    case FORM_ONE:
        return one_fits(value, field);
    case FORM_OR_NULL:
        return json_is_null(value) || one_fits(value, field);
    case FORM_LIST:
        return list_fits(value, field, false);
    case FORM_LIST_OR_NULLS:
        return list_fits(value, field, true);
    case FORM_MATRIX:
        return matrix_fits(value, field);
    }
    return false;
}

/* The objects of a field: itself, those of a list, none where it is null. */
static int check_inner(const json_t *value, const struct field *field, struct err *err) {
    size_t i;
    json_t *item;
    if (json_is_object(value))
        return field_check(value, field->inner, field->name, err);
    json_array_foreach(value, i, item) {
        if (field_check(item, field->inner, field->name, err) != 0)
            return -1;
    }
    return 0;
}

static int check_one(const json_t *value, const struct field *field, const char *where, struct err *err) {
    if (value == NULL)
        return err_set(err, ERR_PROTOCOL, "%s lacks \"%s\"", where, field->name);
    if (!fits(value, field))
        return err_set(err, ERR_PROTOCOL, "\"%s\" of %s has a wrong type or is out of range", field->name, where);
    return field->inner != NULL ? check_inner(value, field, err) : 0;
}

int field_check(const json_t *object, const struct field *fields, const char *where, struct err *err) {
    if (!json_is_object(object))
        return err_set(err, ERR_PROTOCOL, "%s is not an object", where);
    size_t known = 0;
    for (const struct field *field = fields; field->name != NULL; field++, known++) {
        if (check_one(json_object_get(object, field->name), field, where, err) != 0)
            return -1;
    }
    if (json_object_size(object) != known)
        return err_set(err, ERR_PROTOCOL, "%s has %zu fields, %zu are known", where, json_object_size(object), known);
    return 0;
}
