/* Convolutions and linear layers: by cuDNN where it has a plan, else by our own kernels. */
#include "server/backend/cudnn/build.h"

/* The addresses of an operation, as conv_plan_bind takes them. */
struct conv_addresses {
    CUdeviceptr x, w, y;
};

/* A new plan of cuDNN, bound to its addresses; NULL: our own kernel has to do it, or the build has failed. */
static struct conv_plan *make_plan(struct build *build, enum conv_op op, const struct gpu_unit *unit,
                                   const struct conv_addresses *at) {
    struct backend *backend = build->plan->backend;
    struct conv_plan *conv = NULL;
    struct conv_key key;
    struct err err = {0};
    if (build->failed != 0 || !conv_unit_key(build->plan->gpu, build->plan->nodes, unit, op, &key))
        return NULL;
    key.nondeterministic = build->plan->options.nondeterministic;
    if (conv_plan_new(backend->planner, &key, &conv, &err) != 0) {
        if (err.code != ERR_UNSUPPORTED)
            build->failed = err_set(build->err, err.code, "%s", err.text);
        return NULL;
    }
    build_keep(build, (struct owned_plan){.conv = conv});
    if (build->failed == 0)
        build->failed = conv_plan_bind(conv, at->x, at->w, at->y, backend->workspace, build->err);
    return build->failed == 0 ? conv : NULL;
}

/* The same plan in every program. */
static struct conv_plan *cudnn_plan(struct build *build, enum conv_op op, const struct gpu_unit *unit,
                                    const struct conv_addresses *at) {
    struct shared_conv *shared = &build->convs[unit - build->plan->gpu->units][op];
    if (!shared->asked)
        *shared = (struct shared_conv){true, make_plan(build, op, unit, at)};
    return shared->plan;
}

static const struct gpu_param *weight_of(const struct build *build, const struct gpu_unit *unit) {
    return &build->plan->gpu->params[build_node(build, unit)->params[0]];
}

/* The weights to compute with. */
static CUdeviceptr weights(const struct build *build, const struct gpu_unit *unit) {
    const struct gpu_param *param = weight_of(build, unit);
    if (!param->narrow)
        return build_master(build, build_node(build, unit)->params[0]);
    return plan_region(build->plan, GPU_WORKING) + (CUdeviceptr)param->working;
}

/* --- forward --- */

static void multiply(struct build *build, const struct gpu_unit *unit) {
    struct conv_addresses at = {build_value(build, build_input(build, unit, 0)), weights(build, unit),
                                build_value(build, &unit->value)};
    struct conv_plan *conv = cudnn_plan(build, CONV_FORWARD, unit, &at);
    if (conv != NULL) {
        build_conv(build, conv);
        return;
    }
    EMIT(build, conv, blocks_of(unit->value.count / KERNEL_CONV_OUTPUTS), .x = at.x, .w = at.w, .y = at.y,
         .window = build_window(build, unit), .bf16 = build->bf16, .w_narrow = weight_of(build, unit)->narrow,
         .y_wide = unit->value.wide);
}

void conv_forward(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    const struct gpu_value *out = &unit->value;
    multiply(build, unit);
    if (node->bias)
        EMIT(build, bias, blocks_for(out->count), .y = build_value(build, out), .bias = build_master(build, node->params[1]),
             .rows = build_rows(build, out), .c = out->shape.c, .cp = out->channels, .bf16 = build->bf16, .y_wide = out->wide);
}

/* --- backward --- */

static void back_weights(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_param *param = weight_of(build, unit);
    struct conv_addresses at = {build_value(build, build_input(build, unit, 0)),
                                build_param_gradient(build, build_node(build, unit)->params[0]),
                                build_gradient(build, &unit->value)};
    struct conv_plan *conv = cudnn_plan(build, CONV_BACK_W, unit, &at);
    if (conv != NULL) {
        build_conv(build, conv);
        return;
    }
    EMIT(build, conv_back_w, blocks_of(param->count / GPU_LANES), .x = at.x, .dy = at.y, .dw = at.w,
         .window = build_window(build, unit), .bf16 = build->bf16, .dw_narrow = param->narrow, .dy_wide = unit->value.wide);
}

/* cuDNN overwrites: what is to be added goes through scratch memory. */
static void back_input(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr dx = build_gradient(build, in), scratch = plan_region(build->plan, GPU_SCRATCH);
    bool adds = unit->accumulate[0];
    struct conv_addresses at = {adds ? scratch : dx, weights(build, unit), build_gradient(build, &unit->value)};
    struct conv_plan *conv = cudnn_plan(build, CONV_BACK_X, unit, &at);
    if (conv == NULL) {
        EMIT(build, conv_back_x, blocks_for(in->count), .dy = at.y, .w = at.w, .dx = dx, .window = build_window(build, unit),
             .bf16 = build->bf16, .w_narrow = weight_of(build, unit)->narrow, .dy_wide = unit->value.wide, .accumulate = adds);
        return;
    }
    build_conv(build, conv);
    if (adds)
        EMIT(build, add, blocks_for(in->count), .a = dx, .b = scratch, .y = dx, .count = in->count, .bf16 = build->bf16);
}

void conv_backward(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    back_weights(build, unit);
    if (node->bias)
        backward_sums(
            build, &unit->value,
            &(struct row_sums){.dy = build_gradient(build, &unit->value), .a = build_param_gradient(build, node->params[1])});
    if (unit->wanted[0])
        back_input(build, unit);
}
