/* Numbers as texts: see metadata.h. */
#include "server/train/metadata.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int metadata_put(json_t *metadata, const char *key, const char *format, ...) {
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        return -1;
    int rc = json_object_set_new(metadata, key, json_string(text));
    free(text);
    return rc;
}

const char *metadata_text(const json_t *metadata, const char *key) {
    const char *text = json_string_value(json_object_get(metadata, key));
    return text != NULL ? text : "";
}

int metadata_whole(const json_t *metadata, const char *key, int64_t max, int64_t *ret_value, struct err *err) {
    const char *text = metadata_text(metadata, key);
    char *end;
    long long value = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0 || value > max)
        return err_set(err, ERR_DATA, "its \"%s\" is \"%.40s\"; 0 to %jd are possible", key, text, (intmax_t)max);
    *ret_value = value;
    return 0;
}

int metadata_real(const json_t *metadata, const char *key, double *ret_value, struct err *err) {
    const char *text = metadata_text(metadata, key);
    char *end;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || !isfinite(value) || value < 0)
        return err_set(err, ERR_DATA, "its \"%s\" is \"%.40s\", no finite number of at least 0", key, text);
    *ret_value = value;
    return 0;
}
