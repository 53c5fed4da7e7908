/* Where the parameters and running statistics of a network lie on a GPU: see struct gpu_param. */
#include <stdlib.h>

#include "server/graph/gpu_private.h"

enum { FIRST_MULTIPLE = 64 }; /* elements; as many f32 are GPU_ALIGN bytes */

static int lanes(int channels) {
    return (int)gpu_round_up(channels, GPU_LANES);
}

static struct gpu_param describe(const struct gpu_plan *plan, const struct graph *graph, const struct graph_param *from) {
    const struct gpu_unit *unit = &plan->units[plan->unit_of[from->node]];
    struct gpu_param param = {.o = lanes(from->shape[0]), .h = 1, .w = 1, .i = 1, .gradient = -1, .working = -1};
    if (from->role == ROLE_WEIGHT) {
        bool grouped = unit->kind == GPU_CONV && graph->nodes[from->node].window.groups > 1;
        param.i = grouped ? from->shape[1] : lanes(from->shape[1]);
        param.narrow = plan->options.precision == PRECISION_BF16 && (unit->kind == GPU_CONV || !unit->value.wide);
    }
    if (from->dims == 4) {
        param.h = from->shape[2];
        param.w = from->shape[3];
    }
    param.count = (int64_t)param.o * param.h * param.w * param.i;
    return param;
}

/* Appends bytes to a region, and returns where they lie. */
static int64_t take(struct gpu_plan *plan, enum gpu_region region, int64_t bytes) {
    int64_t at = plan->regions[region].bytes;
    plan->regions[region].bytes = gpu_round_up(at + bytes, GPU_ALIGN);
    return at;
}

static void lay_one(struct gpu_plan *plan, struct gpu_param *param, bool trainable) {
    enum { F32 = 4, BF16 = 2 };
    _Static_assert(FIRST_MULTIPLE * F32 == GPU_ALIGN, "a parameter's first element is aligned as every tensor is");
    param->first = take(plan, GPU_MASTER, param->count * F32) / F32;
    if (param->narrow)
        param->working = take(plan, GPU_WORKING, param->count * BF16);
    if (plan->options.train && trainable)
        param->gradient = take(plan, GPU_GRADIENT, param->count * (param->narrow ? BF16 : F32));
    plan->chunks_n += (int)((param->count + GPU_CHUNK - 1) / GPU_CHUNK);
}

/* The optimizer's state and the average are as large as the masters. */
static void size_copies(struct gpu_plan *plan) {
    const struct gpu_options *options = &plan->options;
    int64_t bytes = plan->regions[GPU_MASTER].bytes;
    int states = options->train ? optimizer_states(options->optimizer) : 0;
    plan->regions[GPU_MOMENTUM].bytes = states >= 1 ? bytes : 0;
    plan->regions[GPU_SQUARE].bytes = states >= 2 ? bytes : 0;
    plan->regions[GPU_AVERAGE].bytes = options->train && options->average ? bytes : 0;
}

int gpu_params_lay(struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    plan->params_n = graph->params_n;
    plan->params = calloc((size_t)graph->params_n + 1, sizeof *plan->params); /* + 1: a network may have none */
    if (plan->params == NULL)
        return err_set(err, ERR_MEMORY, "No memory for arranging %d parameters", graph->params_n);
    for (int i = 0; i < graph->params_n; i++) {
        plan->params[i] = describe(plan, graph, &graph->params[i]);
        lay_one(plan, &plan->params[i], graph->params[i].trainable);
    }
    size_copies(plan);
    return 0;
}
