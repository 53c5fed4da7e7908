/* Batch norm of full batches by cuDNN, with ReLU and add in one kernel. Forward and backward pass may each have no plan. */
#include "server/backend/cudnn/build.h"

/* Where the mask of a unit with a ReLU lies: behind mean and inverse. */
static CUdeviceptr mask_at(const struct build *build, const struct gpu_unit *unit) {
    const struct gpu_param *gamma = &build->plan->gpu->params[build_node(build, unit)->params[0]];
    CUdeviceptr statistics = 2 * (CUdeviceptr)gamma->count * sizeof(float);
    return build_saved(build, unit) + (statistics + GPU_ALIGN - 1) / GPU_ALIGN * GPU_ALIGN;
}

/* Addresses of both operations. */
static struct norm_addresses common(const struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    CUdeviceptr saved = build_saved(build, unit);
    return (struct norm_addresses){.x = build_value(build, build_input(build, unit, 0)),
                                   .mean = saved,
                                   .inverse = saved + (CUdeviceptr)unit->value.channels * sizeof(float),
                                   .gamma = build_master(build, node->params[0]),
                                   .mask = unit->act >= 0 ? mask_at(build, unit) : 0,
                                   .workspace = build->plan->backend->workspace};
}

/* cuDNN's plan, bound and appended; false: it has none, or the build has failed. */
static bool append(struct build *build, enum norm_op op, const struct gpu_unit *unit, const struct norm_addresses *at) {
    struct norm_plan *norm = NULL;
    struct norm_key key;
    struct err err = {0};
    if (build->failed != 0 || !norm_unit_key(build->plan->gpu, build->plan->nodes, unit, op, &key))
        return false;
    key.nondeterministic = build->plan->options.nondeterministic;
    if (norm_plan_new(build->plan->backend->planner, &key, &norm, &err) != 0) {
        if (err.code != ERR_UNSUPPORTED)
            build->failed = err_set(build->err, err.code, "%s", err.text);
        return false;
    }
    build_keep(build, (struct owned_plan){.norm = norm});
    if (build->failed == 0)
        build->failed = norm_plan_bind(norm, at, build->err);
    build_norm(build, norm);
    build->plan->fused = true;
    return build->failed == 0;
}

bool fused_forward(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    struct norm_addresses at = common(build, unit);
    at.y = build_value(build, &unit->value);
    at.beta = build_master(build, node->params[1]);
    at.add = unit->add >= 0 ? build_value(build, build_input(build, unit, 1)) : 0;
    at.running_mean = at.running_mean_out = build_master(build, node->params[2]);
    at.running_var = at.running_var_out = build_master(build, node->params[3]);
    bool done = append(build, NORM_FORWARD, unit, &at);
    build->masked[unit - build->plan->gpu->units] = done && unit->act >= 0;
    return done;
}

/* --- backward --- */

/* Where cuDNN puts the gradient of an input: it overwrites, so what is to be added goes through scratch memory. */
static CUdeviceptr target(const struct build *build, const struct gpu_unit *unit, int k) {
    if (unit->accumulate[k])
        return plan_region(build->plan, GPU_SCRATCH);
    return build_gradient(build, build_input(build, unit, k));
}

static void accumulate(struct build *build, const struct gpu_unit *unit, int k) {
    const struct gpu_value *in = build_input(build, unit, k);
    CUdeviceptr dx = build_gradient(build, in);
    if (unit->accumulate[k])
        EMIT(build, add, blocks_for(in->count), .a = dx, .b = target(build, unit, k), .y = dx, .count = in->count,
             .bf16 = build->bf16);
}

/* There is one scratch memory, and every gradient that cuDNN makes needs a place. */
static bool has_places(const struct gpu_unit *unit) {
    bool add = unit->add >= 0;
    return unit->wanted[0] && (!add || unit->wanted[1]) && !(add && unit->accumulate[0] && unit->accumulate[1]);
}

bool fused_backward(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    struct norm_addresses at = common(build, unit);
    /* Our own forward pass leaves no mask. */
    if (!has_places(unit) || (unit->act >= 0 && !build->masked[unit - build->plan->gpu->units]))
        return false;
    at.dy = build_gradient(build, &unit->value);
    at.dx = target(build, unit, 0);
    at.dadd = unit->add >= 0 ? target(build, unit, 1) : 0;
    at.dgamma = build_param_gradient(build, node->params[0]);
    at.dbeta = build_param_gradient(build, node->params[1]);
    if (!append(build, NORM_BACK, unit, &at))
        return false;
    for (int k = 0; k < unit->inputs_n; k++)
        accumulate(build, unit, k);
    return true;
}
