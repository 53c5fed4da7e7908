/* What layers put out for one image: of the test set, or sent along. */
#include <stdio.h>
#include <stdlib.h>

#include "server/backend/backend.h"
#include "server/train/batch.h"
#include "server/train/inspect.h"
#include "server/train/metrics.h"

/* One layer that is asked for. */
struct map {
    int node;
    struct inspect_channels channels;
};

struct maps {
    struct inspect *inspect;
    int n;
    struct map layers[EVENT_INSPECT_LAYERS_MAX];
    bool sent;       /* the image came with the question: the only one of the test set */
    uint32_t sample; /* the image's index in the test set */
    float *softmax;  /* [classes] */
};

/* --- the question --- */

static int add_layer(struct maps *maps, const json_t *name, const struct inspect_channels *asked, struct err *err) {
    char pointer[32];
    struct map *map = &maps->layers[maps->n];
    snprintf(pointer, sizeof pointer, "/layers/%d", maps->n);
    if (!json_is_string(name))
        return err_at(err, ERR_FIELD, pointer, "a layer is given by its name");
    map->node = inspect_find_layer(maps->inspect, json_string_value(name), pointer, err);
    if (map->node < 0)
        return -1;
    const struct graph_node *layer = &maps->inspect->graph->nodes[map->node];
    if (inspect_channels_clip(asked, layer->name, layer->out.c, &map->channels, err) != 0)
        return -1;
    maps->n++;
    return 0;
}

static int check_values(const struct maps *maps, struct err *err) {
    int64_t values = 0, channel = 0;
    for (int i = 0; i < maps->n; i++) {
        const struct map *map = &maps->layers[i];
        const struct graph_shape *out = &maps->inspect->graph->nodes[map->node].out;
        int64_t plane = (int64_t)out->h * out->w;
        values += (map->channels.last - map->channels.first + 1) * plane;
        channel += plane;
    }
    return inspect_values_check(values, channel, err);
}

static int parse_layers(struct maps *maps, const json_t *want, struct err *err) {
    const json_t *names = json_object_get(want, "layers");
    struct inspect_channels asked;
    size_t i;
    json_t *name;
    if (json_array_size(names) < 1 || json_array_size(names) > EVENT_INSPECT_LAYERS_MAX)
        return err_at(err, ERR_FIELD, "/layers", "there are %zu layers; 1 to %d are possible", json_array_size(names),
                      EVENT_INSPECT_LAYERS_MAX);
    if (inspect_channels_parse(json_object_get(want, "channels"), &asked, err) != 0)
        return -1;
    json_array_foreach(names, i, name) {
        if (add_layer(maps, name, &asked, err) != 0)
            return -1;
    }
    return check_values(maps, err);
}

/* --- the image --- */

static int take_row(const json_t *row, int width, uint8_t *to) {
    for (int x = 0; x < width; x++) {
        const json_t *value = json_array_get(row, (size_t)x);
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > 255)
            return -1;
        to[x] = (uint8_t)json_integer_value(value);
    }
    return json_array_size(row) == (size_t)width ? 0 : -1;
}

static int take_channel(const struct data *data, const json_t *rows, uint8_t *to) {
    int pad = (data->height - data->card->height) / 2;
    if (json_array_size(rows) != (size_t)data->card->height)
        return -1;
    for (int y = 0; y < data->card->height; y++)
        if (take_row(json_array_get(rows, (size_t)y), data->card->width, to + (y + pad) * data->width + pad) != 0)
            return -1;
    return 0;
}

/* [C][H][W], or [H][W] of a data set with one channel. */
static int take_pixels(const struct data *data, const json_t *pixels, uint8_t *to) {
    bool flat = !json_is_array(json_array_get(json_array_get(pixels, 0), 0));
    if (flat)
        return data->channels == 1 ? take_channel(data, pixels, to) : -1;
    if (json_array_size(pixels) != (size_t)data->channels)
        return -1;
    for (int c = 0; c < data->channels; c++)
        if (take_channel(data, json_array_get(pixels, (size_t)c), to + c * data->height * data->width) != 0)
            return -1;
    return 0;
}

static int take_sent(struct maps *maps, const json_t *pixels, struct err *err) {
    struct data *data = &maps->inspect->data;
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    maps->sent = true;
    if (image_set_alloc(&data->test, 1, size, err) != 0)
        return -1;
    if (take_pixels(data, pixels, data->test.pixels) == 0)
        return 0;
    return err_at(err, ERR_FIELD, "/pixels", "an image for %s is [%d][%d][%d] whole numbers from 0 to 255", data->card->name,
                  data->channels, data->card->height, data->card->width);
}

static int take_test(struct maps *maps, const json_t *index, struct err *err) {
    json_int_t number = json_integer_value(index);
    if (!json_is_integer(index))
        return err_set(err, ERR_REQUEST, "\"maps\" needs an \"image\" or \"pixels\"");
    if (data_load_test(&maps->inspect->spec, maps->inspect->imported, &maps->inspect->data, err) != 0)
        return -1;
    if (number < 0 || number >= maps->inspect->data.test.n)
        return err_at(err, ERR_NOT_FOUND, "/image", "there is no test image %jd; there are 0 to %d", (intmax_t)number,
                      maps->inspect->data.test.n - 1);
    maps->sample = (uint32_t)number;
    return 0;
}

static int take_image(struct maps *maps, const json_t *want, struct err *err) {
    const json_t *pixels = json_object_get(want, "pixels");
    return pixels != NULL ? take_sent(maps, pixels, err) : take_test(maps, json_object_get(want, "image"), err);
}

/* --- the answer --- */

static json_t *image_json(const struct maps *maps) {
    const struct data *data = &maps->inspect->data;
    int classes = maps->inspect->graph->classes;
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    json_t *index = maps->sent ? json_null() : json_integer(maps->sample);
    json_t *label = maps->sent ? json_null() : json_integer(data->test.labels[maps->sample]);
    return json_pack("{s:o, s:o, s:i, s:o, s:o}", "index", index, "label", label, "predicted",
                     metrics_predicted(maps->softmax, classes), "softmax", inspect_values(maps->softmax, &classes, 1), "pixels",
                     inspect_pixels(data, data->test.pixels + maps->sample * size));
}

/* values: the layer's whole output, [C,H,W]. */
static json_t *layer_json(const struct graph_node *layer, const struct inspect_channels *channels, const float *values) {
    size_t plane = (size_t)layer->out.h * (size_t)layer->out.w;
    const int shown[] = {channels->last - channels->first + 1, layer->out.h, layer->out.w};
    json_t *found = json_pack("{s:s, s:s, s:[i, i, i], s:o, s:o}", "name", layer->name, "op", graph_op_name(layer->op), "shape",
                              layer->out.c, layer->out.h, layer->out.w, "channels", inspect_channels_json(channels), "values",
                              inspect_values(values + (size_t)channels->first * plane, shown, 3));
    if (inspect_put_range(found, values, (size_t)layer->out.c * plane) == 0)
        return found;
    json_decref(found);
    return NULL;
}

static int add_map(const struct maps *maps, const struct inspect_run *run, const struct map *map, json_t *list, struct err *err) {
    const struct graph_node *layer = &maps->inspect->graph->nodes[map->node];
    float *values = malloc((size_t)layer->activation_bytes);
    int rc = values == NULL ? -1 : run->api->get_activation(run->plan, map->node, 1, values, err);
    if (rc == 0)
        rc = json_array_append_new(list, layer_json(layer, &map->channels, values));
    free(values);
    return rc == 0 ? 0 : err_set(err, ERR_MEMORY, "out of memory for the output of \"%s\"", layer->name);
}

static json_t *answer(const struct maps *maps, const struct inspect_run *run, struct err *err) {
    json_t *list = json_array();
    int rc = list == NULL ? -1 : 0;
    for (int i = 0; i < maps->n && rc == 0; i++)
        rc = add_map(maps, run, &maps->layers[i], list, err);
    if (rc != 0) {
        json_decref(list);
        err_set(err, ERR_MEMORY, "out of memory for %d layers", maps->n);
        return NULL;
    }
    json_t *found = json_pack("{s:i, s:o, s:o}", "epoch", maps->inspect->epoch, "image", image_json(maps), "layers", list);
    if (found == NULL)
        err_set(err, ERR_MEMORY, "out of memory for %d layers", maps->n);
    return found;
}

/* --- running it --- */

static int eval(struct maps *maps, const struct inspect_run *run, float *image, struct err *err) {
    const struct augment none = {0};
    const struct data *data = &maps->inspect->data;
    int32_t label;
    struct backend_result result;
    struct batch batch = {.n = 1, .samples = &maps->sample, .images = image, .labels = &label};
    batch_fill(data, &data->test, &none, &batch);
    struct backend_batch step = {.n = 1, .images = image, .labels = &label, .samples = &maps->sample};
    return run->api->eval_step(run->plan, &step, maps->softmax, &result, err);
}

static json_t *run_on(struct maps *maps, const struct inspect_run *run, struct err *err) {
    const struct data *data = &maps->inspect->data;
    float *image = calloc((size_t)data->channels * (size_t)data->height * (size_t)data->width, sizeof *image);
    json_t *found = NULL;
    maps->softmax = calloc((size_t)maps->inspect->graph->classes, sizeof *maps->softmax);
    if (image == NULL || maps->softmax == NULL)
        err_set(err, ERR_MEMORY, "out of memory for an image");
    else if (eval(maps, run, image, err) == 0)
        found = answer(maps, run, err);
    free(image);
    free(maps->softmax);
    return found;
}

static json_t *run_with(struct maps *maps, const struct safetensors *weights, struct err *err) {
    struct inspect_run run;
    if (normal_take(weights->metadata, &maps->inspect->data, err) != 0 ||
        inspect_run_open(maps->inspect, weights, &run, err) != 0)
        return NULL;
    json_t *found = run_on(maps, &run, err);
    inspect_run_done(&run);
    return found;
}

json_t *inspect_maps(struct inspect *inspect, const json_t *want, struct err *err) {
    struct maps maps = {.inspect = inspect};
    struct safetensors weights;
    if (parse_layers(&maps, want, err) != 0 || take_image(&maps, want, err) != 0 ||
        inspect_weights_open(inspect, &weights, err) != 0)
        return NULL;
    json_t *found = run_with(&maps, &weights, err);
    safetensors_done(&weights);
    return found;
}
