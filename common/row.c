/* Reading and writing single values of a table of fields: see row.h. */
#include "common/row.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"

const char *row_type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",      [JSON_FALSE] = "false",     [JSON_NULL] = "null"};
    return names[json_typeof(value)];
}

static void *field(const struct row *row, void *base) {
    return (char *)base + row->offset;
}

void row_set(const struct row *row, void *base, double value) {
    void *at = field(row, base);
    switch (row->kind) {
    case ROW_TEXT:
    case ROW_RISING:
    case ROW_COUNTS:
        break;
    case ROW_PAIR:
        ((int *)at)[0] = ((int *)at)[1] = (int)value;
        break;
    case ROW_INT:
    case ROW_CHOICE: /* enums of these tables are int-sized */
        *(int *)at = (int)value;
        break;
    case ROW_SEED:
        *(uint64_t *)at = (uint64_t)value;
        break;
    case ROW_REAL:
        *(double *)at = value;
        break;
    case ROW_BOOL:
        *(bool *)at = value != 0;
        break;
    }
}

static int read_text(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    if (!json_is_string(value))
        return err_add(errors, ERR_FIELD, pointer, "must be a string, not %s", row_type_name(value));
    size_t length = json_string_length(value);
    const char *text = json_string_value(value);
    if (length < (size_t)row->min || length > (size_t)row->max)
        return err_add(errors, ERR_FIELD, pointer, "has %zu bytes; %g to %g are possible", length, row->min, row->max);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return err_add(errors, ERR_FIELD, pointer,
                           "holds the control character %d; text without control characters is expected", text[i]);
    memcpy(field(row, base), text, length + 1);
    return 0;
}

static int read_number(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    bool whole = row->kind != ROW_REAL;
    if (!json_is_number(value))
        return err_add(errors, ERR_FIELD, pointer, "must be a %snumber, not %s", whole ? "whole " : "", row_type_name(value));
    double number = json_number_value(value);
    /* Beyond 2^53 a double no longer tells neighbours apart; the bounds are all below, so the comparison is exact. */
    if (number < row->min || number > row->max || !isfinite(number))
        return err_add(errors, ERR_FIELD, pointer, "is %.16g; %.16g to %.16g are possible", number, row->min, row->max);
    if (whole && number != floor(number))
        return err_add(errors, ERR_FIELD, pointer, "is %.16g; a whole number is expected", number);
    row_set(row, base, number);
    return 0;
}

static int read_bool(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    if (!json_is_boolean(value))
        return err_add(errors, ERR_FIELD, pointer, "must be true or false, not %s", row_type_name(value));
    row_set(row, base, json_is_true(value));
    return 0;
}

static void list_choices(const char *const *choices, char *ret_text, size_t size) {
    size_t used = 0;
    ret_text[0] = '\0';
    for (size_t i = 0; choices[i] != NULL && used < size; i++)
        used += (size_t)snprintf(ret_text + used, size - used, "%s\"%s\"", i == 0 ? "" : ", ", choices[i]);
}

static int read_choice(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    char known[200];
    list_choices(row->choices, known, sizeof known);
    if (!json_is_string(value))
        return err_add(errors, ERR_FIELD, pointer, "must be one of %s, not %s", known, row_type_name(value));
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(row->choices[i], json_string_value(value)) == 0) {
            row_set(row, base, i);
            return 0;
        }
    }
    return err_add(errors, ERR_FIELD, pointer, "is \"%.40s\"; possible are %s", json_string_value(value), known);
}

/* Appends the whole number item, from low to row->max, to a list with room. */
static bool read_item(const struct row *row, double low, const json_t *item, struct spec_list *list) {
    double number = json_number_value(item);
    if (!json_is_integer(item) || number < low || number > row->max)
        return false;
    list->values[list->n++] = (int)number;
    return true;
}

static int refuse_rising(const struct row *row, double low, const json_t *item, size_t place, const char *pointer,
                         struct err_list *errors) {
    char shown[32];
    if (json_is_number(item))
        snprintf(shown, sizeof shown, "%.16g", json_number_value(item));
    else
        snprintf(shown, sizeof shown, "%s", row_type_name(item));
    return err_add(
        errors, ERR_FIELD, pointer,
        "has %s as number %zu of the list; a whole number from %.16g to %.16g is possible there, each above the one before",
        shown, place, low, row->max);
}

static int read_rising(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    struct spec_list list = {0};
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n < 1 || n > SPEC_LIST_MAX)
        return err_add(errors, ERR_FIELD, pointer, "must be a list of 1 to %d whole numbers", SPEC_LIST_MAX);
    for (size_t i = 0; i < n; i++) {
        double low = i > 0 ? list.values[i - 1] + 1 : row->min;
        if (!read_item(row, low, json_array_get(value, i), &list))
            return refuse_rising(row, low, json_array_get(value, i), i + 1, pointer, errors);
    }
    memcpy(field(row, base), &list, sizeof list);
    return 0;
}

static int read_counts(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    struct spec_list list = {0};
    size_t n = json_array_size(value);
    bool fits = n <= SPEC_LIST_MAX && (json_is_array(value) || read_item(row, row->min, value, &list));
    for (size_t i = 0; i < n && fits; i++)
        fits = read_item(row, row->min, json_array_get(value, i), &list);
    if (!fits)
        return err_add(errors, ERR_FIELD, pointer, "must be a whole number from %.16g to %.16g, or a list of at most %d of them",
                       row->min, row->max, SPEC_LIST_MAX);
    memcpy(field(row, base), &list, sizeof list);
    return 0;
}

static int read_pair(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    struct spec_list pair = {0};
    const json_t *height = json_is_array(value) ? json_array_get(value, 0) : value;
    const json_t *width = json_is_array(value) ? json_array_get(value, 1) : value;
    if ((json_is_array(value) && json_array_size(value) != 2) || !read_item(row, row->min, height, &pair) ||
        !read_item(row, row->min, width, &pair))
        return err_add(errors, ERR_FIELD, pointer,
                       "must be a whole number from %.16g to %.16g, or a pair [height, width] of them", row->min, row->max);
    memcpy(field(row, base), pair.values, 2 * sizeof pair.values[0]);
    return 0;
}

int row_read(const struct row *row, void *base, const char *pointer, const json_t *value, struct err_list *errors) {
    switch (row->kind) {
    case ROW_TEXT:
        return read_text(row, base, pointer, value, errors);
    case ROW_INT:
    case ROW_SEED:
    case ROW_REAL:
        return read_number(row, base, pointer, value, errors);
    case ROW_BOOL:
        return read_bool(row, base, pointer, value, errors);
    case ROW_CHOICE:
        return read_choice(row, base, pointer, value, errors);
    case ROW_RISING:
        return read_rising(row, base, pointer, value, errors);
    case ROW_COUNTS:
        return read_counts(row, base, pointer, value, errors);
    case ROW_PAIR:
        return read_pair(row, base, pointer, value, errors);
    }
    return -1;
}

static json_t *list_json(const int *values, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n && array != NULL; i++)
        if (json_array_append_new(array, json_integer(values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

json_t *row_write(const struct row *row, const void *base) {
    const void *at = (const char *)base + row->offset;
    const struct spec_list *list = at;
    const int *ints = at;
    switch (row->kind) {
    case ROW_TEXT:
        return json_string(at);
    case ROW_INT:
        return json_integer(*ints);
    case ROW_SEED:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case ROW_REAL:
        return json_real(*(const double *)at);
    case ROW_BOOL:
        return json_boolean(*(const bool *)at);
    case ROW_CHOICE:
        return json_string(row->choices[*ints]);
    case ROW_RISING:
        return list_json(list->values, list->n);
    case ROW_COUNTS:
        return list->n == 1 ? json_integer(list->values[0]) : list_json(list->values, list->n);
    case ROW_PAIR:
        return list_json(ints, 2);
    }
    return NULL;
}

static bool is_known(const char *key, const char *const *known, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(known[i], key) == 0)
            return true;
    return false;
}

/* nearest: a key that is known here, or NULL. places: where this key is known, or "". */
static void report_unknown(const char *pointer, const char *nearest, const char *places, struct err_list *errors) {
    if (places[0] != '\0' && nearest != NULL)
        err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field here; did you mean \"%s\", or %s?", nearest, places);
    else if (places[0] != '\0')
        err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field here; did you mean %s?", places);
    else if (nearest != NULL)
        err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field; did you mean \"%s\"?", nearest);
    else
        err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field");
}

void row_report_unknown(const json_t *object, const char *parent, const char *const *known, size_t n, row_places_fn *places,
                        struct err_list *errors) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char pointer[160], elsewhere[160] = "";
        if (is_known(key, known, n))
            continue;
        json_pointer(pointer, sizeof pointer, parent, key);
        if (places != NULL)
            places(key, elsewhere, sizeof elsewhere);
        report_unknown(pointer, json_nearest(key, known, n), elsewhere, errors);
    }
}
