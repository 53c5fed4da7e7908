/* The memory of a network on a GPU: units, values, gradients and parameters in the regions of one arena. */
#include <stdlib.h>

#include "server/graph/gpu_private.h"

int gpu_element_bytes(const struct gpu_plan *plan, const struct gpu_value *value) {
    return plan->options.precision == PRECISION_BF16 && !value->wide ? 2 : 4;
}

int64_t gpu_workspace_bytes(int64_t memory_bytes) {
    const int64_t mib = 1 << 20;
    int64_t bytes = memory_bytes / 64;
    if (bytes < 64 * mib)
        return 64 * mib;
    return bytes > 512 * mib ? 512 * mib : bytes;
}

/* What goes to the device and comes back, and the optimizer's table. */
static void size_exchange(struct gpu_plan *plan, const struct graph *graph) {
    const struct gpu_value *images = &plan->units[0].value;
    int64_t batch = plan->options.batch, params = plan->params_n, chunks = plan->chunks_n;
    plan->regions[GPU_IMAGES].bytes = batch * shape_count(images->shape) * (int64_t)sizeof(float);
    plan->regions[GPU_STAGING].bytes = GPU_STEP_BYTES + batch * GPU_SAMPLE_BYTES;
    plan->regions[GPU_RESULTS].bytes = GPU_RESULT_BYTES + params * GPU_STATISTICS_BYTES +
                                       batch * graph->classes * (int64_t)sizeof(float) + batch * GPU_SCORE_BYTES;
    plan->regions[GPU_TABLE].bytes = chunks * (GPU_CHUNK_BYTES + GPU_NORMS_BYTES) + params * GPU_PARAM_BYTES;
}

/* Puts the regions one behind the other. */
static void lay_regions(struct gpu_plan *plan) {
    for (int i = 0; i < GPU_REGIONS; i++) {
        plan->regions[i].at = plan->arena_bytes;
        plan->regions[i].bytes = gpu_round_up(plan->regions[i].bytes, GPU_ALIGN);
        plan->arena_bytes += plan->regions[i].bytes;
    }
}

static void move(int64_t *offset, int64_t start) {
    if (*offset >= 0)
        *offset += start;
}

/* Offsets in a region become offsets in the arena. */
static void move_values(struct gpu_plan *plan) {
    for (int i = 0; i < plan->units_n; i++) {
        move(&plan->units[i].value.at, plan->regions[GPU_VALUES].at);
        move(&plan->units[i].value.gradient, plan->regions[GPU_VALUES].at);
        move(&plan->units[i].saved, plan->regions[GPU_SAVED].at);
    }
}

static int lay(struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    if (gpu_fuse(plan, graph, err) < 0 || gpu_values_lay(plan, graph, err) < 0 || gpu_params_lay(plan, graph, err) < 0)
        return -1;
    size_exchange(plan, graph);
    lay_regions(plan);
    move_values(plan);
    return 0;
}

int gpu_plan_arrange(const struct graph *graph, const struct gpu_options *options, struct gpu_plan **ret_plan, struct err *err) {
    struct gpu_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return err_set(err, ERR_MEMORY, "No memory for the plan of a network");
    plan->options = *options;
    if (lay(plan, graph, err) < 0) {
        gpu_plan_free(plan);
        return -1;
    }
    *ret_plan = plan;
    return 0;
}

int gpu_plan_new(const struct graph *graph, const struct gpu_options *options, struct gpu_plan **ret_plan, struct err *err) {
    struct gpu_plan *plan;
    if (gpu_plan_arrange(graph, options, &plan, err) < 0)
        return -1;
    if (gpu_pools_check(plan, graph, err) < 0) {
        gpu_plan_free(plan);
        return -1;
    }
    *ret_plan = plan;
    return 0;
}

void gpu_plan_free(struct gpu_plan *plan) {
    if (plan == NULL)
        return;
    free(plan->units);
    free(plan->unit_of);
    free(plan->params);
    free(plan);
}
