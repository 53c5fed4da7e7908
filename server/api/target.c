/* The raw request target, decoded by ourselves: see target.h. */
#include "server/api/target.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes one piece up to end, appends a NUL and returns the place behind it; NULL when an escape is broken or stands for NUL. */
static char *decode(const char *text, const char *end, bool query, char *out) {
    while (text < end) {
        if (*text != '%') {
            *out++ = query && *text == '+' ? ' ' : *text;
            text++;
            continue;
        }
        int high = end - text > 2 ? hex_digit(text[1]) : -1;
        int low = high < 0 ? -1 : hex_digit(text[2]);
        if (low < 0 || high * 16 + low == 0)
            return NULL;
        *out++ = (char)(high * 16 + low);
        text += 3;
    }
    *out++ = '\0';
    return out;
}

/* What comes as bytes must be text: UTF-8 as jansson reads it. */
static bool is_text(const char *string) {
    json_t *value = json_string(string);
    json_decref(value);
    return value != NULL;
}

static int check_path(const char *raw, const char *end, struct err *err) {
    for (const char *c = raw; c < end; c++) {
        if (*c == '%' && end - c > 2 && c[1] == '2' && (c[2] == 'f' || c[2] == 'F'))
            return err_set(err, ERR_REQUEST, "the path holds %%2F; no part of a path here may contain a slash");
    }
    return 0;
}

static int add_param(const char *text, const char *end, char **buffer, struct target *target, struct err *err) {
    const char *equals = memchr(text, '=', (size_t)(end - text));
    struct param *param = &target->params[target->params_n];
    if (target->params_n == TARGET_PARAMS_MAX)
        return err_set(err, ERR_REQUEST, "the query has more than %d parameters", TARGET_PARAMS_MAX);
    param->name = *buffer;
    char *value = decode(text, equals != NULL ? equals : end, true, *buffer);
    char *behind = value == NULL ? NULL : decode(equals != NULL ? equals + 1 : end, end, true, value);
    if (behind == NULL || !is_text(param->name) || !is_text(value))
        return err_set(err, ERR_REQUEST, "the query holds a broken escape, %%00 or bytes that are not UTF-8");
    param->value = value;
    *buffer = behind;
    if (target_param(target, param->name) != NULL) {
        char pointer[64];
        snprintf(pointer, sizeof pointer, "?%s", param->name);
        return err_at(err, ERR_REQUEST, pointer, "query parameter \"%.40s\" is given twice", param->name);
    }
    target->params_n++;
    return 0;
}

static int parse_query(const char *query, char *buffer, struct target *target, struct err *err) {
    while (*query != '\0') {
        const char *end = strchrnul(query, '&');
        if (end > query && add_param(query, end, &buffer, target, err) < 0)
            return -1;
        query = *end == '\0' ? end : end + 1;
    }
    return 0;
}

int target_parse(const char *raw, char *buffer, struct target *ret_target, struct err *err) {
    struct target target = {0};
    if (raw[0] != '/')
        return err_set(err, ERR_REQUEST, "the target must be a path that starts with \"/\"");
    for (const char *c = raw; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '#')
            return err_set(err, ERR_REQUEST, "the target holds a character that must be percent-encoded");
    }
    const char *end = strchrnul(raw, '?');
    char *rest = decode(raw, end, false, buffer);
    if (rest == NULL || !is_text(buffer))
        return err_set(err, ERR_REQUEST, "the path holds a broken escape, %%00 or bytes that are not UTF-8");
    target.path = buffer;
    if (check_path(raw, end, err) < 0 || (*end == '?' && parse_query(end + 1, rest, &target, err) < 0))
        return -1;
    *ret_target = target;
    return 0;
}

int target_check_params(const struct target *target, const char *const *known, struct err *err) {
    size_t n = 0;
    while (known[n] != NULL)
        n++;
    for (int i = 0; i < target->params_n; i++) {
        const char *name = target->params[i].name;
        size_t k = 0;
        while (k < n && strcmp(known[k], name) != 0)
            k++;
        if (k < n)
            continue;
        char pointer[64];
        snprintf(pointer, sizeof pointer, "?%.40s", name);
        const char *nearest = json_nearest(name, known, n);
        if (nearest == NULL)
            return err_at(err, ERR_REQUEST, pointer, "unknown query parameter \"%.40s\"", name);
        return err_at(err, ERR_REQUEST, pointer, "unknown query parameter \"%.40s\"; did you mean \"%s\"?", name, nearest);
    }
    return 0;
}

const char *target_param(const struct target *target, const char *name) {
    for (int i = 0; i < target->params_n; i++) {
        if (strcmp(target->params[i].name, name) == 0)
            return target->params[i].value;
    }
    return NULL;
}

bool number_parse(const char *text, int64_t *ret_value) {
    int64_t value = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 18)
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
    }
    *ret_value = value;
    return true;
}

int target_number(const struct target *target, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *ret_value,
                  struct err *err) {
    const char *text = target_param(target, name);
    int64_t value = fallback;
    if (text != NULL && (!number_parse(text, &value) || value < min || value > max)) {
        char pointer[64];
        snprintf(pointer, sizeof pointer, "?%s", name);
        return err_at(err, ERR_FIELD, pointer, "%s is \"%.40s\"; it must be a whole number from %lld to %lld", name, text,
                      (long long)min, (long long)max);
    }
    *ret_value = value;
    return 0;
}
