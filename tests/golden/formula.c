/* Weights, images and labels by a formula: see formula.h. */
#include "tests/golden/formula.h"

#include <math.h>
#include <string.h>

static uint32_t mix(uint32_t seed, uint32_t i) {
    uint32_t x = i * 2654435769u + seed * 40503u;
    x = (x ^ x >> 15) * 739982445u;
    x = (x ^ x >> 12) * 695872825u;
    return x ^ x >> 17;
}

uint32_t formula_name_seed(const char *name) {
    uint32_t seed = 2166136261u;
    for (; *name != '\0'; name++)
        seed = (seed ^ (unsigned char)*name) * 16777619u;
    return seed;
}

void formula_centred(uint32_t seed, float scale, float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        values[i] = ((float)(mix(seed, (uint32_t)i) >> 8) * 0x1p-24f - 0.5f) * scale;
}

void formula_initial(const struct graph_param *param, float *values) {
    double fan_in = (double)param->count / param->shape[0];
    float scale = param->role == ROLE_WEIGHT ? (float)(2.0 * sqrt((param->dims == 4 ? 6.0 : 1.0) / fan_in)) : 0.4f;
    bool statistic = param->role == ROLE_RUNNING_MEAN || param->role == ROLE_RUNNING_VAR;
    formula_centred(formula_name_seed(param->name), statistic ? 0.0f : scale, values, param->count);
    for (size_t i = 0; i < param->count && (param->role == ROLE_GAMMA || param->role == ROLE_RUNNING_VAR); i++)
        values[i] += 1.0f;
}

static void fill_labels(uint32_t seed, struct buffer *labels, int n, int classes) {
    int32_t *to = (int32_t *)(void *)buffer_floats(labels);
    for (int i = 0; i < n; i++)
        to[i] = (int32_t)((uint64_t)mix(seed, (uint32_t)i) * (uint32_t)classes >> 32);
}

void formula_batch(struct batch *batch, int step, int classes) {
    uint32_t stream = (uint32_t)step;
    float *shares = buffer_floats(&batch->shares);
    formula_centred(1000u + stream, 3.4f, buffer_floats(&batch->images), batch->images.size_bytes / sizeof(float));
    fill_labels(2000u + stream, &batch->labels, batch->n, classes);
    fill_labels(3000u + stream, &batch->others, batch->n, classes);
    formula_centred(4000u + stream, 0.5f, shares, (size_t)batch->n);
    for (int i = 0; i < batch->n; i++)
        shares[i] += 0.75f;
    memset(buffer_floats(&batch->samples), 0, batch->samples.size_bytes);
}

void formula_set(struct rig *rig) {
    for (int i = 0; i < rig->graph->params_n; i++) {
        struct buffer values = buffer_new(rig->graph->params[i].count, sizeof(float));
        formula_initial(&rig->graph->params[i], buffer_floats(&values));
        rig_set(rig, TENSOR_VALUE, i, buffer_floats(&values));
        if (rig_has(rig, TENSOR_AVERAGE, i))
            rig_set(rig, TENSOR_AVERAGE, i, buffer_floats(&values));
        buffer_free(&values);
    }
}
