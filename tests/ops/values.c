/* Made-up numbers of the op tests: uniform, and of the sizes that training meets. */
#include <math.h>
#include <stdlib.h>

#include "common/rng.h"
#include "tests/ops/checks.h"

/* Number i of a stream, uniform in [low, high). */
static float uniform(uint32_t stream, size_t i, double low, double high) {
    uint32_t words[4];
    rng_block(4711, RNG_INIT, stream, (uint32_t)(i / 4), 1, words);
    return (float)(low + (high - low) * (double)rng_unit(words[i % 4]));
}

void values_fill_batch(const struct graph *graph, struct batch *batch) {
    float *images = buffer_floats(&batch->images);
    for (size_t i = 0; i < batch->images.size_bytes / sizeof(float); i++)
        images[i] = uniform(1000000, i, -1.7, 1.7);
    int32_t *labels = (int32_t *)(void *)buffer_floats(&batch->labels);
    int32_t *others = (int32_t *)(void *)buffer_floats(&batch->others);
    uint32_t *samples = (uint32_t *)(void *)buffer_floats(&batch->samples);
    for (int i = 0; i < batch->n; i++) {
        labels[i] = (i * 7 + 3) % graph->classes;
        others[i] = (i * 3 + 1) % graph->classes;
        samples[i] = (uint32_t)(i * 31 + 5);
        buffer_floats(&batch->shares)[i] = uniform(1000001, (size_t)i, 0.5, 1.0);
    }
}

void values_fill(const struct graph *graph, enum backend_tensor kind, int param, float *values) {
    const struct graph_param *row = &graph->params[param];
    double low = -0.3, high = 0.3; /* biases, beta, running means */
    if (row->role == ROLE_WEIGHT)
        high = sqrt(6.0 / ((double)row->count / row->shape[0])), low = -high;
    else if (row->role == ROLE_GAMMA || row->role == ROLE_RUNNING_VAR)
        low = 0.5, high = 1.5;
    if (kind == TENSOR_MOMENTUM)
        low = -0.05, high = 0.05;
    else if (kind == TENSOR_SQUARE)
        low = 1e-4, high = 1e-2;
    for (size_t i = 0; i < row->count; i++)
        values[i] = uniform((uint32_t)param * 4 + (uint32_t)kind, i, low, high);
}

void values_set(struct rig *rig) {
    for (int i = 0; i < rig->graph->params_n; i++)
        for (int kind = TENSOR_VALUE; kind <= TENSOR_AVERAGE; kind++) {
            if (!rig_has(rig, (enum backend_tensor)kind, i))
                continue;
            struct buffer buffer = buffer_new(rig->graph->params[i].count, sizeof(float));
            values_fill(rig->graph, (enum backend_tensor)kind, i, buffer_floats(&buffer));
            rig_set(rig, (enum backend_tensor)kind, i, buffer_floats(&buffer));
            buffer_free(&buffer);
        }
}
