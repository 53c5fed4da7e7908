/* Initial values of parameters, keyed by (seed, parameter index) so that any of them can be made alone. */
#include <math.h>

#include "common/rng.h"
#include "server/graph/graph.h"

/* Fans as torch.nn.init counts them: weight [O,I/groups,KH,KW] has fan-in I/groups*KH*KW and fan-out O*KH*KW. */
static double deviation(const struct graph_param *param, const struct graph_node *node) {
    double field = 1.0;
    for (int i = 2; i < param->dims; i++)
        field *= param->shape[i];
    double fan_in = param->shape[1] * field, fan_out = param->shape[0] * field;
    switch (node->init) {
    case INIT_HE_NORMAL:
    case INIT_HE_UNIFORM:
        return sqrt(2.0 / fan_in);
    case INIT_XAVIER_NORMAL:
    case INIT_XAVIER_UNIFORM:
        return sqrt(2.0 / (fan_in + fan_out));
    case INIT_NORMAL:
        return node->init_sigma;
    }
    return 0.0;
}

/* Four words make two normal numbers. */
static void fill_normal(uint64_t seed, int index, double sd, float *values, size_t count) {
    uint32_t words[4];
    for (size_t i = 0; i < count; i++) {
        if (i % 2 == 0)
            rng_block(seed, RNG_INIT, (uint32_t)index, (uint32_t)(i / 2), 0, words);
        values[i] = (float)(sd * (double)rng_normal(words[i % 2 * 2], words[i % 2 * 2 + 1]));
    }
}

/* A uniform number in [-a, a) has the standard deviation a / sqrt 3. */
static void fill_uniform(uint64_t seed, int index, double sd, float *values, size_t count) {
    uint32_t words[4];
    double bound = sqrt(3.0) * sd;
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            rng_block(seed, RNG_INIT, (uint32_t)index, (uint32_t)(i / 4), 0, words);
        values[i] = (float)(bound * (2.0 * (double)rng_unit(words[i % 4]) - 1.0));
    }
}

static void fill_weight(const struct graph *graph, int index, uint64_t seed, float *values) {
    const struct graph_param *param = &graph->params[index];
    const struct graph_node *node = &graph->nodes[param->node];
    enum spec_init init = node->init;
    double sd = deviation(param, node);
    if (init == INIT_HE_NORMAL || init == INIT_XAVIER_NORMAL || init == INIT_NORMAL)
        fill_normal(seed, index, sd, values, param->count);
    else
        fill_uniform(seed, index, sd, values, param->count);
}

static void fill_constant(float value, float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

void graph_init(const struct graph *graph, int param_index, uint64_t seed, float *values) {
    const struct graph_param *param = &graph->params[param_index];
    switch (param->role) {
    case ROLE_WEIGHT:
        fill_weight(graph, param_index, seed, values);
        break;
    case ROLE_GAMMA:
        fill_constant(graph->nodes[param->node].zero_init ? 0.0f : 1.0f, values, param->count);
        break;
    case ROLE_RUNNING_VAR:
        fill_constant(1.0f, values, param->count);
        break;
    case ROLE_BIAS:
    case ROLE_BETA:
    case ROLE_RUNNING_MEAN:
        fill_constant(0.0f, values, param->count);
        break;
    }
}
