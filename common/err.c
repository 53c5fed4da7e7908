/* Failures as values: see err.h. */
#include "common/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fill(struct err *err, enum err_code code, const char *pointer, const char *format, va_list args) {
    if (err == NULL || err->code != ERR_NONE)
        return;
    err->code = code;
    snprintf(err->pointer, sizeof err->pointer, "%s", pointer);
    vsnprintf(err->text, sizeof err->text, format, args);
}

int err_set(struct err *err, enum err_code code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, "", format, args);
    va_end(args);
    return -1;
}

int err_at(struct err *err, enum err_code code, const char *pointer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fill(err, code, pointer, format, args);
    va_end(args);
    return -1;
}

int err_errno(struct err *err, enum err_code code, int errno_value, const char *format, ...) {
    if (err == NULL || err->code != ERR_NONE)
        return -1;
    va_list args;
    va_start(args, format);
    fill(err, code, "", format, args);
    va_end(args);
    char reason[128];
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", strerror_r(errno_value, reason, sizeof reason));
    return -1;
}

int err_add(struct err_list *list, enum err_code code, const char *pointer, const char *format, ...) {
    if (list == NULL)
        return -1;
    if (list->n == ERR_LIST_MAX) {
        list->dropped++;
        return -1;
    }
    struct err *err = &list->items[list->n++];
    memset(err, 0, sizeof *err);
    va_list args;
    va_start(args, format);
    fill(err, code, pointer, format, args);
    va_end(args);
    return -1;
}

struct row {
    const char *name;
    int http, exit;
};

static const struct row rows[] = {
#define ERR_ROW(name, text, http, exit) [name] = {text, http, exit},
    ERR_CODES(ERR_ROW)
#undef ERR_ROW
};

const char *err_name(enum err_code code) {
    return rows[code].name;
}

bool err_parse(const char *name, enum err_code *ret_code) {
    for (size_t code = 0; code < sizeof rows / sizeof rows[0]; code++) {
        if (strcmp(rows[code].name, name) != 0)
            continue;
        *ret_code = (enum err_code)code;
        return true;
    }
    return false;
}

int err_http(enum err_code code) {
    return rows[code].http;
}

int err_exit(enum err_code code) {
    return rows[code].exit;
}
