/* The backward pass: which launches the gradient of a unit becomes. */
#include "server/backend/cudnn/build.h"

void backward_sums(struct build *build, const struct gpu_value *value, const struct row_sums *sums) {
    CUdeviceptr partial = plan_region(build->plan, GPU_PARTIAL);
    int64_t rows = build_rows(build, value);
    int slices = slices_of(rows);
    EMIT(build, back_partial, blocks_sliced(slices, value->channels), .dy = sums->dy, .y = sums->y, .x = sums->x,
         .saved = sums->saved, .partial = partial, .rows = rows, .pixels = value->shape.h * value->shape.w, .batch = build->batch,
         .c = value->shape.c, .cp = value->channels, .slices = slices, .groups = sums->groups, .bf16 = build->bf16,
         .dy_wide = value->wide);
    EMIT(build, back_finish, blocks_of(value->channels / GPU_LANES), .partial = partial, .a = sums->a, .b = sums->b,
         .c = value->shape.c, .cp = value->channels, .slices = slices);
}

/* The gradient of an input, or 0 where none is wanted. */
static CUdeviceptr wanted(const struct build *build, const struct gpu_unit *unit, int k) {
    return unit->wanted[k] ? build_gradient(build, build_input(build, unit, k)) : 0;
}

/* Where the output was not positive a fused ReLU lets nothing through. */
static CUdeviceptr mask_of(const struct build *build, const struct gpu_unit *unit) {
    return unit->act >= 0 ? build_value(build, &unit->value) : 0;
}

/* --- norms --- */

static void back_norm_inputs(struct build *build, const struct gpu_unit *unit, const struct row_sums *sums) {
    const struct graph_node *node = build_node(build, unit);
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr dx = wanted(build, unit, 0), dadd = unit->add >= 0 ? wanted(build, unit, 1) : 0;
    if (dx == 0 && dadd == 0)
        return;
    EMIT(build, norm_back, blocks_for(in->count), .dy = sums->dy, .y = sums->y, .x = sums->x, .saved = sums->saved,
         .gamma = build_master(build, node->params[0]), .sum_g = sums->a, .sum_gx = sums->b, .step = build_step(build), .dx = dx,
         .dadd = dadd, .rows = build_rows(build, in), .pixels = in->shape.h * in->shape.w, .c = in->shape.c, .cp = in->channels,
         .bf16 = build->bf16, .accumulate_dx = unit->accumulate[0], .accumulate_dadd = unit->add >= 0 && unit->accumulate[1]);
}

static void back_norm(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    if (build->fused && fused_backward(build, unit))
        return;
    struct row_sums sums = {.dy = build_gradient(build, &unit->value),
                            .y = mask_of(build, unit),
                            .x = build_value(build, build_input(build, unit, 0)),
                            .saved = build_saved(build, unit),
                            .a = build_param_gradient(build, node->params[1]),
                            .b = build_param_gradient(build, node->params[0])};
    backward_sums(build, &unit->value, &sums);
    back_norm_inputs(build, unit, &sums);
}

static void back_group_input(struct build *build, const struct gpu_unit *unit, const struct row_sums *sums) {
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr gamma = build_master(build, build_node(build, unit)->params[0]);
    CUdeviceptr partial = plan_region(build->plan, GPU_PARTIAL); /* f32 here: sums of each image and group */
    int batch = build->batch, groups = sums->groups, pixels = in->shape.h * in->shape.w;
    EMIT(build, group_sums, blocks_of((int64_t)batch * groups), .dy = sums->dy, .x = sums->x, .saved = sums->saved,
         .gamma = gamma, .sums = partial, .pixels = pixels, .batch = batch, .c = in->shape.c, .cp = in->channels,
         .groups = groups, .bf16 = build->bf16);
    EMIT(build, group_back, blocks_for(in->count), .dy = sums->dy, .x = sums->x, .saved = sums->saved, .gamma = gamma,
         .sums = partial, .dx = wanted(build, unit, 0), .pixels = pixels, .batch = batch, .c = in->shape.c, .cp = in->channels,
         .groups = groups, .bf16 = build->bf16, .accumulate = unit->accumulate[0]);
}

static void back_group_norm(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    struct row_sums sums = {.dy = build_gradient(build, &unit->value),
                            .x = build_value(build, build_input(build, unit, 0)),
                            .saved = build_saved(build, unit),
                            .a = build_param_gradient(build, node->params[1]),
                            .b = build_param_gradient(build, node->params[0]),
                            .groups = node->window.groups};
    backward_sums(build, &unit->value, &sums);
    if (unit->wanted[0])
        back_group_input(build, unit, &sums);
}

/* --- element by element, joins --- */

static void back_act(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, act_back, blocks_for(in->count), .dy = build_gradient(build, &unit->value), .x = build_value(build, in),
         .dx = build_gradient(build, in), .rows = build_rows(build, in), .c = in->shape.c, .cp = in->channels,
         .activation = build_node(build, unit)->activation, .bf16 = build->bf16, .accumulate = unit->accumulate[0]);
}

static void back_add(struct build *build, const struct gpu_unit *unit, int k) {
    int64_t count = unit->value.count;
    EMIT(build, mask, blocks_for(count), .dy = build_gradient(build, &unit->value), .y = mask_of(build, unit),
         .dx = wanted(build, unit, k), .count = count, .bf16 = build->bf16, .accumulate = unit->accumulate[k]);
}

/* at: the first channel of the output that comes from input number k */
static void back_concat(struct build *build, const struct gpu_unit *unit, int k, int at) {
    const struct gpu_value *in = build_input(build, unit, k), *out = &unit->value;
    EMIT(build, channels, blocks_for(in->count), .from = build_gradient(build, out), .to = wanted(build, unit, k),
         .rows = build_rows(build, out), .from_cp = out->channels, .from_at = at, .to_cp = in->channels, .to_c = in->shape.c,
         .count = in->shape.c, .bf16 = build->bf16, .accumulate = unit->accumulate[k]);
}

static void back_flatten(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, flatten, blocks_for(in->count), .x = build_gradient(build, &unit->value), .y = build_gradient(build, in),
         .batch = build->batch, .h = in->shape.h, .w = in->shape.w, .c = in->shape.c, .cp = in->channels,
         .flat_cp = unit->value.channels, .bf16 = build->bf16, .back = 1, .accumulate = unit->accumulate[0]);
}

static void back_dropout(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, dropout, blocks_for(in->count), .x = build_gradient(build, &unit->value), .y = build_gradient(build, in),
         .step = build_step(build), .samples = build_samples(build), .batch = build->batch, .c = in->shape.c, .cp = in->channels,
         .h = in->shape.h, .w = in->shape.w, .node = unit->node, .bf16 = build->bf16, .accumulate = unit->accumulate[0],
         .rate = (float)build_node(build, unit)->rate);
}

/* --- windows --- */

static void back_pool_max(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, pool_max_back, blocks_for(in->count), .dy = build_gradient(build, &unit->value),
         .saved = build_saved(build, unit), .dx = build_gradient(build, in), .window = build_window(build, unit),
         .bf16 = build->bf16, .accumulate = unit->accumulate[0]);
}

static void back_pool_avg(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, pool_avg, blocks_for(in->count), .x = build_gradient(build, &unit->value), .y = build_gradient(build, in),
         .window = build_window(build, unit), .bf16 = build->bf16, .back = 1, .accumulate = unit->accumulate[0]);
}

static void back_shortcut(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, shortcut, blocks_for(in->count), .x = build_gradient(build, &unit->value), .y = build_gradient(build, in),
         .window = build_window(build, unit), .bf16 = build->bf16, .back = 1, .accumulate = unit->accumulate[0]);
}

/* --- all --- */

static void back_join(struct build *build, const struct gpu_unit *unit) {
    for (int k = 0, at = 0; k < unit->inputs_n; k++) {
        if (unit->wanted[k] && unit->kind == GPU_ADD)
            back_add(build, unit, k);
        else if (unit->wanted[k])
            back_concat(build, unit, k, at);
        at += build_input(build, unit, k)->shape.c;
    }
}

/* A unit without a gradient is one that nothing learns before, or that the loss does not depend on: the gradients of its
 * parameters stay zero. One with a gradient but without parameters has it for its input. */
void backward_unit(struct build *build, const struct gpu_unit *unit) {
    if (unit->value.gradient < 0)
        return;
    switch (unit->kind) {
    case GPU_INPUT:
    case GPU_LOSS: /* its gradient comes with the loss */
        break;
    case GPU_CONV:
    case GPU_LINEAR:
        conv_backward(build, unit);
        break;
    case GPU_NORM:
        back_norm(build, unit);
        break;
    case GPU_GROUP_NORM:
        back_group_norm(build, unit);
        break;
    case GPU_ACT:
        back_act(build, unit);
        break;
    case GPU_ADD:
    case GPU_CONCAT:
        back_join(build, unit);
        break;
    case GPU_POOL_MAX:
        back_pool_max(build, unit);
        break;
    case GPU_POOL_AVG:
        back_pool_avg(build, unit);
        break;
    case GPU_SHORTCUT:
        back_shortcut(build, unit);
        break;
    case GPU_FLATTEN:
        back_flatten(build, unit);
        break;
    case GPU_DROPOUT:
        back_dropout(build, unit);
        break;
    }
}
