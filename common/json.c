/* Bounded JSON parsing, pointers and suggestions: see json.h. */
#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson recurses as deep as the text does; this scan keeps it at JSON_DEPTH_LIMIT. Returns false when it would go deeper. */
static bool depth_fits(const char *text, size_t size) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_LIMIT)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

json_t *json_parse(const char *text, size_t size, struct err *err) {
    if (size == 0) {
        err_set(err, ERR_JSON, "the JSON text is empty; a JSON object is expected");
        return NULL;
    }
    if (!depth_fits(text, size)) {
        err_set(err, ERR_JSON, "the JSON text is nested deeper than %d levels", JSON_DEPTH_LIMIT);
        return NULL;
    }
    json_error_t error;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    /* Where jansson 2.14 runs out of memory outside its scanner, it sets no text. */
    if (value == NULL && (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0'))
        err_set(err, ERR_MEMORY, "out of memory while reading JSON");
    else if (value == NULL)
        err_set(err, ERR_JSON, "not valid JSON at line %d, column %d: %s", error.line, error.column, error.text);
    return value;
}

char *json_text(const json_t *value) {
    return json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15) | JSON_ENCODE_ANY);
}

json_t *json_number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_rounded(double value, int digits) {
    char text[64];
    snprintf(text, sizeof text, "%.*g", digits, value);
    return json_number_or_null(strtod(text, NULL));
}

json_t *json_whole(json_t *value, int rc) {
    if (rc == 0)
        return value;
    json_decref(value);
    return NULL;
}

void json_pointer(char *ret_pointer, size_t size, const char *parent, const char *key) {
    int used = snprintf(ret_pointer, size, "%s/", parent);
    if (used < 0 || (size_t)used >= size)
        return;
    size_t at = (size_t)used;
    for (; *key != '\0' && at + 3 < size; key++) {
        if (*key == '~' || *key == '/') {
            ret_pointer[at++] = '~';
            ret_pointer[at++] = *key == '~' ? '0' : '1';
        } else {
            ret_pointer[at++] = *key;
        }
    }
    ret_pointer[at] = '\0';
}

enum { NEAREST_NAME_MAX = 48 };

/* Levenshtein's distance by the row method; names longer than NEAREST_NAME_MAX count as far away. */
static int edit_distance(const char *a, const char *b) {
    size_t a_n = strlen(a), b_n = strlen(b);
    if (a_n > NEAREST_NAME_MAX || b_n > NEAREST_NAME_MAX)
        return NEAREST_NAME_MAX;
    int row[NEAREST_NAME_MAX + 1];
    for (size_t j = 0; j <= b_n; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_n; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = replace < best ? replace : best;
        }
    }
    return row[b_n];
}

const char *json_nearest(const char *name, const char *const *known, size_t n) {
    const char *best = NULL;
    int best_distance = NEAREST_NAME_MAX;
    for (size_t i = 0; i < n; i++) {
        int distance = edit_distance(name, known[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = known[i];
        }
    }
    size_t length = strlen(name);
    int near = length < 4 ? 1 : length < 8 ? 2 : (int)(length / 3);
    return best_distance <= near ? best : NULL;
}
