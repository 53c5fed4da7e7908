/* What jansson leaves to us: bounded parsing, JSON Pointers, nearest known name. */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

enum { JSON_DEPTH_LIMIT = 32 };

/* Parses text (size bytes, need not end in NUL) as one JSON object or array: UTF-8, no duplicate keys, at most
 * JSON_DEPTH_LIMIT levels (jansson's own limit of 2048 cannot be set at run time). Returns a new reference or NULL and ERR_JSON.
 */
json_t *json_parse(const char *text, size_t size, struct err *err);

/* Compact text of a value, without a newline; keys in insertion order, reals with 15 significant digits, so that what a person
 * typed (0.9) comes back as typed, and text read and written again stays the same. Caller frees; NULL when
 * out of memory. */
char *json_text(const json_t *value);

/* A real, or null when value is not finite (JSON has no NaN). New reference; NULL when out of memory. */
json_t *json_number_or_null(double value);

/* The same, rounded to so many significant digits: nine tell every f32 apart. */
json_t *json_rounded(double value, int digits);

/* What was built by several appends whose results were or-ed into rc: the value, or, when one failed, NULL with the value
 * released. (An appended NULL fails, so that only the last step needs a check.) */
json_t *json_whole(json_t *value, int rc);

/* Writes PARENT "/" KEY into ret_pointer with "~" and "/" escaped (RFC 6901); cut when it does not fit. */
void json_pointer(char *ret_pointer, size_t size, const char *parent, const char *key);

/* The known name nearest to name by edit distance (Levenshtein), or NULL when none is near enough to be meant. Names are an array
 * of n strings. */
const char *json_nearest(const char *name, const char *const *known, size_t n);

#endif
