/* What the answers of inspect are made of: see inspect.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "server/train/inspect.h"

enum { NUMBER_DIGITS = 5 };

int inspect_channels_parse(const json_t *text, struct inspect_channels *ret_channels, struct err *err) {
    struct inspect_channels channels = {0, GRAPH_SIDE_MAX};
    int used = 0;
    if (text == NULL || json_is_null(text)) {
        *ret_channels = channels;
        return 0;
    }
    const char *string = json_is_string(text) ? json_string_value(text) : "";
    int n = strspn(string, "0123456789-") == strlen(string)
                ? sscanf(string, "%5d%n-%5d%n", &channels.first, &used, &channels.last, &used)
                : 0;
    if (n == 1)
        channels.last = channels.first;
    if (n < 1 || string[used] != '\0' || channels.first < 0 || channels.last < channels.first)
        return err_at(err, ERR_FIELD, "/channels", "channels are one number or a range of them, as \"0-15\"");
    *ret_channels = channels;
    return 0;
}

int inspect_channels_clip(const struct inspect_channels *asked, const char *layer, int channels,
                          struct inspect_channels *ret_channels, struct err *err) {
    if (asked->first >= channels)
        return err_at(err, ERR_FIELD, "/channels", "layer \"%s\" has the channels 0 to %d", layer, channels - 1);
    *ret_channels = (struct inspect_channels){asked->first, asked->last < channels ? asked->last : channels - 1};
    return 0;
}

int inspect_values_check(int64_t values, int64_t channel_values, struct err *err) {
    int64_t channels = EVENT_INSPECT_VALUES_MAX / channel_values;
    if (values <= EVENT_INSPECT_VALUES_MAX)
        return 0;
    if (channels == 0)
        return err_at(err, ERR_FIELD, "/layers", "one channel has %jd values; at most %d are answered: ask for fewer layers",
                      (intmax_t)channel_values, EVENT_INSPECT_VALUES_MAX);
    return err_at(err, ERR_FIELD, "/channels",
                  "these are %jd values; at most %d are answered: ask for channels 0-%jd, then for more", (intmax_t)values,
                  EVENT_INSPECT_VALUES_MAX, (intmax_t)channels - 1);
}

json_t *inspect_values(const float *values, const int *shape, int dims) {
    size_t stride = 1;
    json_t *list = json_array();
    for (int d = 1; d < dims; d++)
        stride *= (size_t)shape[d];
    for (int i = 0; i < shape[0]; i++) {
        json_t *item =
            dims == 1 ? json_rounded(values[i], NUMBER_DIGITS) : inspect_values(values + (size_t)i * stride, shape + 1, dims - 1);
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int inspect_put_range(json_t *object, const float *values, size_t n) {
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (values[i] < low)
            low = values[i];
        if (values[i] > high)
            high = values[i];
    }
    if (json_object_set_new(object, "min", json_rounded(low, NUMBER_DIGITS)) != 0)
        return -1;
    return json_object_set_new(object, "max", json_rounded(high, NUMBER_DIGITS));
}

json_t *inspect_channels_json(const struct inspect_channels *channels) {
    json_t *list = json_array();
    for (int c = channels->first; c <= channels->last; c++)
        if (json_array_append_new(list, json_integer(c)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

int inspect_find_layer(const struct inspect *inspect, const char *name, const char *pointer, struct err *err) {
    int node = graph_find(inspect->graph, name);
    if (node >= 0)
        return node;
    char near[GRAPH_NEAREST_MAX];
    graph_nearest(inspect->graph, name, near);
    return err_at(err, ERR_NOT_FOUND, pointer, "the network has no layer \"%.80s\"; the nearest are %s", name, near);
}

static json_t *row_json(const uint8_t *row, int width) {
    json_t *list = json_array();
    for (int x = 0; x < width; x++)
        if (json_array_append_new(list, json_integer(row[x])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *channel_json(const struct data *data, const uint8_t *pixels) {
    int pad = (data->height - data->card->height) / 2;
    json_t *list = json_array();
    for (int y = pad; y < pad + data->card->height; y++)
        if (json_array_append_new(list, row_json(pixels + y * data->width + pad, data->card->width)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

json_t *inspect_pixels(const struct data *data, const uint8_t *pixels) {
    json_t *list = json_array();
    for (int c = 0; c < data->channels; c++)
        if (json_array_append_new(list, channel_json(data, pixels + c * data->height * data->width)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}
