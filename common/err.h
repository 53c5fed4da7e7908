/* One way to report a failure: what was tried, on what, why it failed, what would be right. */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* The table of error codes: name, text (the tail of the problem type URI), HTTP status, exit code of a program that ends on it.
 * Codes under 500 say "your input is wrong", the others "we failed". */
#define ERR_CODES(X)                                    \
    X(ERR_NONE, "none", 200, 0)                         \
    X(ERR_JSON, "invalid-json", 400, 2)                 \
    X(ERR_FIELD, "invalid-field", 400, 2)               \
    X(ERR_UNKNOWN_FIELD, "unknown-field", 400, 2)       \
    X(ERR_REQUEST, "invalid-request", 400, 2)           \
    X(ERR_FORBIDDEN, "forbidden", 403, 3)               \
    X(ERR_NOT_FOUND, "not-found", 404, 4)               \
    X(ERR_METHOD, "method-not-allowed", 405, 2)         \
    X(ERR_CONFLICT, "conflict", 409, 5)                 \
    X(ERR_TOO_LARGE, "too-large", 413, 2)               \
    X(ERR_MEDIA_TYPE, "unsupported-media-type", 415, 2) \
    X(ERR_SHAPE, "impossible-shape", 422, 2)            \
    X(ERR_UNSUPPORTED, "unsupported-here", 422, 2)      \
    X(ERR_IDEMPOTENCY, "idempotency-mismatch", 422, 5)  \
    X(ERR_LIMIT, "too-many", 429, 5)                    \
    X(ERR_INTERNAL, "internal", 500, 7)                 \
    X(ERR_MEMORY, "out-of-memory", 500, 7)              \
    X(ERR_IO, "input-output", 500, 7)                   \
    X(ERR_DATA, "damaged-data", 500, 7)                 \
    X(ERR_STORE, "store", 500, 7)                       \
    X(ERR_BACKEND, "backend", 500, 7)                   \
    X(ERR_DEVICE, "device-failed", 500, 7)              \
    X(ERR_NOT_FINITE, "non-finite-loss", 500, 7)        \
    X(ERR_PROTOCOL, "worker-protocol", 500, 7)          \
    X(ERR_WORKER, "worker-died", 500, 7)                \
    X(ERR_UNAVAILABLE, "unavailable", 503, 7)           \
    X(ERR_NETWORK, "network", 503, 6)                   \
    X(ERR_FULL, "storage-full", 507, 7)

enum err_code {
#define ERR_ENUM(name, text, http, exit) name,
    ERR_CODES(ERR_ENUM)
#undef ERR_ENUM
};

/* A failure. Zeroed memory is "no failure". */
struct err {
    enum err_code code;
    char pointer[160]; /* JSON Pointer (RFC 6901) of the wrong field; "" when no field is to blame */
    char text[480];    /* one or two sentences, UTF-8 */
};

/* Several wrong fields of one document; what does not fit is counted, not kept. */
enum { ERR_LIST_MAX = 16 };
struct err_list {
    struct err items[ERR_LIST_MAX];
    size_t n, dropped;
};

/* Sets *err unless it already holds a failure (the first one wins). err may be NULL. Returns -1, so that callers can return it.
 */
int err_set(struct err *err, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same, blaming the field at a JSON Pointer. */
int err_at(struct err *err, enum err_code code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As err_set, with ": " and the text of errno_value (strerror) behind the message. */
int err_errno(struct err *err, enum err_code code, int errno_value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Appends a failure to a list. Returns -1. */
int err_add(struct err_list *list, enum err_code code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

const char *err_name(enum err_code code);
bool err_parse(const char *name, enum err_code *ret_code); /* the code of a name; false when there is none */
int err_http(enum err_code code);
int err_exit(enum err_code code);

#endif
