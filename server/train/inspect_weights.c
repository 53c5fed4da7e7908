/* The weights file of a kept epoch: see inspect.h. */
#include "server/train/inspect.h"

static size_t size_limit(const struct graph *graph) {
    size_t floats = 0;
    for (int i = 0; i < graph->params_n; i++)
        floats += graph->params[i].count;
    return floats * sizeof(float) + SAFETENSORS_HEADER_MAX;
}

int inspect_weights_open(const struct inspect *inspect, struct safetensors *ret_weights, struct err *err) {
    if (inspect->weights == NULL)
        return err_set(err, ERR_REQUEST, "the question needs \"weights\"");
    return safetensors_open(inspect->weights, "the weights file", size_limit(inspect->graph), ret_weights, err);
}

int inspect_weights_get(const struct safetensors *weights, const struct graph_param *param, float *ret_values, struct err *err) {
    struct safetensors_entry entry = {.name = param->name, .shape = param->shape, .dims = param->dims, .count = param->count};
    return safetensors_get(weights, &entry, ret_values, err);
}
