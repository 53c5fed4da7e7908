/* Normalization as text: see normal.h. */
#include "server/train/normal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Seventeen digits bring a double back exactly. */
static int put(json_t *metadata, const char *key, const double *values, int n) {
    char text[DATA_CHANNELS_MAX * 32];
    int used = 0;
    for (int c = 0; c < n; c++)
        used += snprintf(text + used, sizeof text - (size_t)used, c == 0 ? "%.17g" : " %.17g", values[c]);
    return json_object_set_new(metadata, key, json_string(text));
}

int normal_put(json_t *metadata, const struct data *data) {
    if (put(metadata, "mean", data->mean, data->channels) != 0)
        return -1;
    return put(metadata, "deviation", data->deviation, data->channels);
}

static int take(const json_t *metadata, const char *key, double *ret_values, int n, struct err *err) {
    const char *text = json_string_value(json_object_get(metadata, key)), *at = text != NULL ? text : "";
    for (int c = 0; c < n; c++) {
        char *end;
        ret_values[c] = strtod(at, &end);
        if (end == at || !isfinite(ret_values[c]))
            return err_set(err, ERR_DATA, "the weights' \"%s\" is \"%.80s\"; it must be %d numbers", key,
                           text != NULL ? text : "", n);
        at = end;
    }
    return *at == '\0' ? 0 : err_set(err, ERR_DATA, "the weights' \"%s\" is \"%.80s\"; it must be %d numbers", key, text, n);
}

int normal_take(const json_t *metadata, struct data *data, struct err *err) {
    if (take(metadata, "mean", data->mean, data->channels, err) != 0 ||
        take(metadata, "deviation", data->deviation, data->channels, err) != 0)
        return -1;
    for (int c = 0; c < data->channels; c++)
        if (data->deviation[c] <= 0)
            return err_set(err, ERR_DATA, "the weights' \"deviation\" is not above 0");
    data_normalize(data);
    return 0;
}
