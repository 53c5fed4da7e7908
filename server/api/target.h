/* The raw request target, decoded by ourselves: libmicrohttpd cuts paths at %00 and joins what %2F keeps apart. */
#ifndef API_TARGET_H
#define API_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum { TARGET_MAX = 2048, TARGET_PARAMS_MAX = 8 };

struct param {
    const char *name, *value;
};

struct target {
    const char *path; /* decoded */
    struct param params[TARGET_PARAMS_MAX];
    int params_n;
};

/* Decodes raw into ret_target, whose strings lie in buffer (at least as large as raw). ERR_REQUEST, or ERR_FIELD at "?name". */
int target_parse(const char *raw, char *buffer, struct target *ret_target, struct err *err);

/* ERR_FIELD for the first parameter that is not among known (ended by NULL), naming the nearest one. */
int target_check_params(const struct target *target, const char *const *known, struct err *err);

/* The value of a parameter, or NULL. */
const char *target_param(const struct target *target, const char *name);

/* A whole number between min and max; fallback when the parameter is not there. */
int target_number(const struct target *target, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *ret_value,
                  struct err *err);

/* Digits only, no sign, no spaces, at most 18 of them. */
bool number_parse(const char *text, int64_t *ret_value);

#endif
