/* Sums over steps and images of what layers do: see layers.h. */
#include "server/train/layers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

enum { DIGITS = 6 };

/* --- over the steps of an epoch --- */

/* The state: the number of steps, then these for each layer. */
enum sum { SUM_GRADIENT, SUM_WEIGHT, SUM_RATIO, SUM_RATIO_STEPS, SUMS_N };

static bool has_trainable(const struct graph *graph, int node) {
    for (int i = 0; i < graph->nodes[node].params_n; i++)
        if (graph->params[graph->nodes[node].params[i]].trainable)
            return true;
    return false;
}

int layers_init(struct layers *layers, const struct graph *graph, struct err *err) {
    *layers = (struct layers){.graph = graph, .nodes = calloc((size_t)graph->nodes_n, sizeof *layers->nodes)};
    for (int i = 0; layers->nodes != NULL && i < graph->nodes_n; i++)
        if (has_trainable(graph, i))
            layers->nodes[layers->n++] = i;
    layers->state_n = 1 + SUMS_N * (size_t)layers->n;
    layers->state = calloc(layers->state_n, sizeof *layers->state);
    if (layers->nodes != NULL && layers->state != NULL)
        return 0;
    layers_done(layers);
    return err_set(err, ERR_MEMORY, "out of memory for the norms of %d layers", graph->nodes_n);
}

void layers_done(struct layers *layers) {
    free(layers->nodes);
    free(layers->state);
    *layers = (struct layers){0};
}

void layers_reset(struct layers *layers) {
    memset(layers->state, 0, layers->state_n * sizeof *layers->state);
}

/* The norms over all trainable parameters of a node: those that are not have rows of zeros. */
static struct backend_statistics norms_of(const struct graph_node *node, const struct backend_statistics *rows) {
    struct backend_statistics squares = {0};
    for (int i = 0; i < node->params_n; i++) {
        const struct backend_statistics *row = &rows[node->params[i]];
        squares.gradient += row->gradient * row->gradient;
        squares.weight += row->weight * row->weight;
        squares.update += row->update * row->update;
    }
    return (struct backend_statistics){sqrt(squares.gradient), sqrt(squares.weight), sqrt(squares.update)};
}

static double *sums_of(const struct layers *layers, int layer) {
    return layers->state + 1 + SUMS_N * layer;
}

void layers_add(struct layers *layers, const struct backend_statistics *rows) {
    layers->state[0]++;
    for (int i = 0; i < layers->n; i++) {
        struct backend_statistics norms = norms_of(&layers->graph->nodes[layers->nodes[i]], rows);
        double *sums = sums_of(layers, i);
        sums[SUM_GRADIENT] += norms.gradient;
        sums[SUM_WEIGHT] += norms.weight;
        if (norms.weight == 0)
            continue;
        sums[SUM_RATIO] += norms.update / norms.weight;
        sums[SUM_RATIO_STEPS]++;
    }
}

/* Without a divisor it is null. */
static json_t *mean_json(double sum, double n) {
    return json_rounded(n > 0 ? sum / n : NAN, DIGITS);
}

json_t *layers_weights_json(const struct layers *layers) {
    json_t *names = json_array(), *gradients = json_array(), *weights = json_array(), *ratios = json_array();
    double steps = layers->state[0];
    int rc = 0;
    for (int i = 0; i < layers->n; i++) {
        const double *sums = sums_of(layers, i);
        rc |= json_array_append_new(names, json_string(layers->graph->nodes[layers->nodes[i]].name));
        rc |= json_array_append_new(gradients, mean_json(sums[SUM_GRADIENT], steps));
        rc |= json_array_append_new(weights, mean_json(sums[SUM_WEIGHT], steps));
        rc |= json_array_append_new(ratios, mean_json(sums[SUM_RATIO], sums[SUM_RATIO_STEPS]));
    }
    json_t *value = json_pack("{s:o, s:o, s:o, s:o}", "name", names, "gradient_norm", gradients, "weight_norm", weights,
                              "update_ratio", ratios);
    return json_whole(value, rc);
}

/* --- over a set of images --- */

struct activation {
    int node;
    double sum, squares, count; /* of the values so far */
    uint8_t *alive;             /* of a ReLU: [C,H,W], whether any image was not 0 there; else NULL */
};

static size_t size_of(const struct graph_node *node) {
    return (size_t)node->out.c * (size_t)node->out.h * (size_t)node->out.w;
}

/* Input, reshaping and the loss compute nothing that is worth a row. */
static bool is_shown(enum graph_op op) {
    switch (op) {
    case OP_CONV:
    case OP_NORM:
    case OP_GROUP_NORM:
    case OP_ACT:
    case OP_ADD:
    case OP_CONCAT:
    case OP_POOL_MAX:
    case OP_POOL_AVG:
    case OP_GAP:
    case OP_LINEAR:
        return true;
    case OP_INPUT:
    case OP_SHORTCUT:
    case OP_FLATTEN:
    case OP_DROPOUT:
    case OP_LOSS:
        break;
    }
    return false;
}

static int add_row(struct activations *activations, int node) {
    const struct graph_node *shown = &activations->graph->nodes[node];
    struct activation *row = &activations->rows[activations->n++];
    *row = (struct activation){.node = node};
    if (shown->op != OP_ACT || shown->activation != ACTIVATION_RELU)
        return 0;
    row->alive = calloc(size_of(shown), sizeof *row->alive);
    return row->alive == NULL ? -1 : 0;
}

static int allocate(struct activations *activations) {
    const struct graph *graph = activations->graph;
    size_t largest = 1;
    activations->rows = calloc((size_t)graph->nodes_n, sizeof *activations->rows);
    for (int i = 0; activations->rows != NULL && i < graph->nodes_n; i++) {
        if (!is_shown(graph->nodes[i].op))
            continue;
        if (add_row(activations, i) != 0)
            return -1;
        largest = size_of(&graph->nodes[i]) > largest ? size_of(&graph->nodes[i]) : largest;
    }
    activations->values = calloc((size_t)activations->images_max * largest, sizeof *activations->values);
    return activations->rows == NULL || activations->values == NULL ? -1 : 0;
}

int activations_init(struct activations *activations, const struct graph *graph, int images_max, struct err *err) {
    *activations = (struct activations){.graph = graph, .images_max = images_max};
    if (allocate(activations) == 0)
        return 0;
    activations_done(activations);
    return err_set(err, ERR_MEMORY, "out of memory for the outputs of %d images", images_max);
}

void activations_done(struct activations *activations) {
    for (int i = 0; i < activations->n; i++)
        free(activations->rows[i].alive);
    free(activations->rows);
    free(activations->values);
    *activations = (struct activations){0};
}

/* Eight sums at once: one would wait for its own last addition. */
static void add_values(struct activation *row, const float *values, size_t n) {
    enum { LANES = 8 };
    double sums[LANES] = {0}, squares[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        double value = (double)values[i];
        sums[i % LANES] += value;
        squares[i % LANES] += value * value;
    }
    for (int i = 0; i < LANES; i++) {
        row->sum += sums[i];
        row->squares += squares[i];
    }
    row->count += (double)n;
}

static void mark_alive(uint8_t *alive, const float *values, size_t size, int n) {
    for (int image = 0; image < n; image++)
        for (size_t i = 0; i < size; i++)
            alive[i] |= values[(size_t)image * size + i] != 0;
}

int activations_add(struct activations *activations, const struct residuum_backend *api, struct backend_plan *plan, int n,
                    struct err *err) {
    for (int i = 0; i < activations->n; i++) {
        struct activation *row = &activations->rows[i];
        size_t size = size_of(&activations->graph->nodes[row->node]);
        if (api->get_activation(plan, row->node, n, activations->values, err) != 0)
            return -1;
        add_values(row, activations->values, size * (size_t)n);
        if (row->alive != NULL)
            mark_alive(row->alive, activations->values, size, n);
    }
    return 0;
}

static json_t *deviation_json(const struct activation *row) {
    double mean = row->sum / row->count, variance = row->squares / row->count - mean * mean;
    return json_rounded(variance < 0 ? 0 : sqrt(variance), DIGITS); /* rounding can leave a little below 0 */
}

static json_t *dead_json(const struct activation *row, size_t size) {
    if (row->alive == NULL)
        return json_null();
    size_t dead = 0;
    for (size_t i = 0; i < size; i++)
        dead += row->alive[i] == 0;
    return json_rounded((double)dead / (double)size, DIGITS);
}

json_t *activations_json(const struct activations *activations) {
    json_t *names = json_array(), *means = json_array(), *deviations = json_array(), *dead = json_array();
    int rc = 0;
    for (int i = 0; i < activations->n; i++) {
        const struct activation *row = &activations->rows[i];
        const struct graph_node *node = &activations->graph->nodes[row->node];
        rc |= json_array_append_new(names, json_string(node->name));
        rc |= json_array_append_new(means, mean_json(row->sum, row->count));
        rc |= json_array_append_new(deviations, deviation_json(row));
        rc |= json_array_append_new(dead, dead_json(row, size_of(node)));
    }
    json_t *value = json_pack("{s:o, s:o, s:o, s:o}", "name", names, "mean", means, "deviation", deviations, "dead", dead);
    return json_whole(value, rc);
}
