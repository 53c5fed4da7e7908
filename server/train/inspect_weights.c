/* The weights file of a kept epoch: see inspect.h. */
#include <stdlib.h>

#include "common/file.h"
#include "server/train/inspect.h"

static size_t size_limit(const struct graph *graph) {
    size_t floats = 0;
    for (int i = 0; i < graph->params_n; i++)
        floats += graph->params[i].count;
    return floats * sizeof(float) + SAFETENSORS_HEADER_MAX;
}

int inspect_weights_open(const struct inspect *inspect, struct inspect_weights *ret_weights, struct err *err) {
    struct inspect_weights weights = {0};
    size_t size;
    if (inspect->weights == NULL)
        return err_set(err, ERR_REQUEST, "the question needs \"weights\"");
    if (file_read(inspect->weights, size_limit(inspect->graph), &weights.bytes, &size, err) != 0)
        return -1;
    if (safetensors_parse("the weights file", weights.bytes, size, &weights.file, err) != 0) {
        free(weights.bytes);
        return -1;
    }
    *ret_weights = weights;
    return 0;
}

int inspect_weights_get(const struct inspect_weights *weights, const struct graph_param *param, float *ret_values,
                        struct err *err) {
    struct safetensors_entry entry = {.name = param->name, .shape = param->shape, .dims = param->dims, .count = param->count};
    return safetensors_get(&weights->file, &entry, ret_values, err);
}

void inspect_weights_done(struct inspect_weights *weights) {
    safetensors_done(&weights->file);
    free(weights->bytes);
    *weights = (struct inspect_weights){0};
}
