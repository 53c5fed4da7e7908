/* Looks into a network at one of its kept epochs: feature maps of an image, filters, test images (common/event.h, "--inspect").
 * A short process beside training: one thread, limited memory, only the files that the question needs. */
#ifndef TRAIN_INSPECT_H
#define TRAIN_INSPECT_H

#include <jansson.h>

#include "common/err.h"
#include "common/event.h"
#include "common/spec.h"
#include "server/graph/graph.h"
#include "server/train/data.h"
#include "server/train/normal.h"
#include "server/train/safetensors.h"

/* Reads the question from standard input. New reference: the answer, or {"error": ...}; NULL when out of memory. */
json_t *inspect_json(void);

/* --- shared by the files of inspect --- */

struct inspect {
    json_t *document;          /* the daemon's line; owns weights */
    const char *weights;       /* the path of a weights file; NULL: none */
    int epoch;                 /* of the weights */
    struct imported *imported; /* NULL: a built-in data set */
    struct spec spec;
    struct data data;
    struct graph *graph;
};

/* --- inspect_parts.c: what questions and answers are made of --- */

/* The channels of a layer that are asked for. */
struct inspect_channels {
    int first, last;
};

/* Parses "0-15" or "3"; NULL: all. */
int inspect_channels_parse(const json_t *text, struct inspect_channels *ret_channels, struct err *err);

/* The part of them that a layer has: *ret_channels within 0 and channels - 1. */
int inspect_channels_clip(const struct inspect_channels *asked, const char *layer, int channels,
                          struct inspect_channels *ret_channels, struct err *err);

/* Refuses more than EVENT_INSPECT_VALUES_MAX values and says which channels may be asked for. channel_values: of one channel
 * (number) of all layers together. */
int inspect_values_check(int64_t values, int64_t channel_values, struct err *err);

/* Nested lists of dims levels, row-major, every number with five significant digits. New reference; NULL when out of memory. */
json_t *inspect_values(const float *values, const int *shape, int dims);

/* "min" and "max" of n values; null where there is nothing finite. */
int inspect_put_range(json_t *object, const float *values, size_t n);

/* The numbers of channels, as a list. */
json_t *inspect_channels_json(const struct inspect_channels *channels);

/* The index of a node; ERR_NOT_FOUND at pointer names the nearest ones. */
int inspect_find_layer(const struct inspect *inspect, const char *name, const char *pointer, struct err *err);

/* An image as its data set has it, without padding: [C][H][W] of 0 to 255. pixels: [C,H,W], padded. */
json_t *inspect_pixels(const struct data *data, const uint8_t *pixels);

/* --- inspect_weights.c --- */

/* Reads the weights file. ERR_NOT_FOUND when it is not there any more. */
int inspect_weights_open(const struct inspect *inspect, struct safetensors *ret_weights, struct err *err);
int inspect_weights_get(const struct safetensors *weights, const struct graph_param *param, float *ret_values, struct err *err);

/* --- inspect_run.c: a network on a backend --- */

struct inspect_run {
    const struct residuum_backend *api;
    struct backend *backend;
    struct backend_plan *plan;
};

/* Compiles the graph for one image on the job's backend, else on ref, and sets the weights. */
int inspect_run_open(const struct inspect *inspect, const struct safetensors *weights, struct inspect_run *ret_run,
                     struct err *err);
void inspect_run_done(struct inspect_run *run); /* accepts zeroed memory */

/* --- the kinds of questions: want is the object that stands under the kind's name --- */

json_t *inspect_maps(struct inspect *inspect, const json_t *want, struct err *err);    /* inspect_maps.c */
json_t *inspect_filters(struct inspect *inspect, const json_t *want, struct err *err); /* inspect_filters.c */
json_t *inspect_images(struct inspect *inspect, const json_t *want, struct err *err);  /* inspect_images.c */
json_t *inspect_onnx(struct inspect *inspect, const json_t *want, struct err *err);    /* inspect_onnx.c */

#endif
