/* What happens in each layer: how large gradients, weights and updates are over an epoch's steps, and what the layers put out. */
#ifndef TRAIN_LAYERS_H
#define TRAIN_LAYERS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "server/backend/backend.h"
#include "server/graph/graph.h"

/* --- over the steps of an epoch --- */

/* Sums over steps, for each layer (node) with trainable parameters: its norms are those over all these parameters together. */
struct layers {
    const struct graph *graph; /* borrowed */
    int n;
    int *nodes; /* [n], indexes into graph->nodes */
    /* All that is summed, in the layout that a checkpoint keeps. Zeroed: no steps. */
    double *state; /* [state_n] */
    size_t state_n;
};

/* layers_done accepts zeroed memory. */
int layers_init(struct layers *layers, const struct graph *graph, struct err *err);
void layers_done(struct layers *layers);

/* Begins an epoch. */
void layers_reset(struct layers *layers);

/* Adds a step: rows, [graph->params_n], as the backend's statistics fills them. */
void layers_add(struct layers *layers, const struct backend_statistics *rows);

/* "weights" of the epoch event: {"name", "gradient_norm", "weight_norm", "update_ratio"}, columns. Means over the steps; the
 * ratio's are over the steps in which the weight norm was not 0, null without one. New reference; NULL when out of memory. */
json_t *layers_weights_json(const struct layers *layers);

/* --- over a set of images --- */

/* What layers put out: those that compute something (convolution, linear, norms, activation, add, concat, pools), in the graph's
 * order. */
struct activations {
    const struct graph *graph; /* borrowed */
    int n, images_max;
    struct activation *rows; /* [n] */
    float *values;           /* [images_max,C,H,W] of the largest output */
};

/* Room for steps of at most images_max images. activations_done accepts zeroed memory. */
int activations_init(struct activations *activations, const struct graph *graph, int images_max, struct err *err);
void activations_done(struct activations *activations);

/* Adds the plan's last step, of which n images count (1..images_max). To be called after each eval_step over the first
 * EVENT_ACTIVATION_IMAGES test images, on a plan that keeps its outputs. */
int activations_add(struct activations *activations, const struct residuum_backend *api, struct backend_plan *plan, int n,
                    struct err *err);

/* "activations" of the epoch event: {"name", "mean", "deviation", "dead"}, columns. The deviation is the population's. Dead is
 * the share of a ReLU's output places (c,h,w) that are 0 in all images added, null for other layers. */
json_t *activations_json(const struct activations *activations);

#endif
