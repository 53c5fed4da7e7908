/* The forward pass: which launches a unit becomes. */
#include "server/backend/cudnn/build.h"

/* --- images --- */

void build_images(struct build *build, enum source source) {
    const struct gpu_value *images = &build->plan->gpu->units[0].value;
    int batch = build->batch;
    struct graph_shape shape = images->shape;
    CUdeviceptr step = build_step(build), samples = build_samples(build), y = build_value(build, images);
    CUdeviceptr grey = plan_region(build->plan, GPU_SCRATCH); /* free until the first unit */
    if (source == SOURCE_HOST) {
        EMIT(build, images, blocks_for(images->count), .images = plan_region(build->plan, GPU_IMAGES), .y = y, .step = step,
             .batch = batch, .c = shape.c, .cp = images->channels, .h = shape.h, .w = shape.w, .bf16 = build->bf16);
        return;
    }
    EMIT(build, grey, blocks_of(batch), .step = step, .samples = samples, .grey = grey, .batch = batch, .c = shape.c,
         .h = shape.h, .w = shape.w);
    EMIT(build, augment, blocks_for(images->count), .step = step, .samples = samples, .grey = grey, .y = y, .batch = batch,
         .c = shape.c, .cp = images->channels, .h = shape.h, .w = shape.w, .bf16 = build->bf16);
}

/* --- norms --- */

/* What of a unit of batch norm is wanted. */
struct norm_parts {
    bool running, add, relu;
    CUdeviceptr y;
};

static void norm_statistics(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr partial = plan_region(build->plan, GPU_PARTIAL), step = build_step(build);
    int pixels = in->shape.h * in->shape.w, slices = slices_of(build_rows(build, in));
    EMIT(build, norm_partial, blocks_sliced(slices, in->channels), .x = build_value(build, in), .partial = partial, .step = step,
         .pixels = pixels, .cp = in->channels, .slices = slices, .bf16 = build->bf16);
    EMIT(build, norm_finish, blocks_of(in->channels / GPU_LANES), .partial = partial, .step = step,
         .saved = build_saved(build, unit), .running_mean = build_master(build, node->params[2]),
         .running_var = build_master(build, node->params[3]), .pixels = pixels, .c = in->shape.c, .cp = in->channels,
         .slices = slices, .epsilon = (float)node->epsilon, .momentum = (float)node->momentum);
}

static void norm_apply(struct build *build, const struct gpu_unit *unit, const struct norm_parts *parts) {
    const struct graph_node *node = build_node(build, unit);
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, norm_apply, blocks_for(in->count), .x = build_value(build, in),
         .add = parts->add ? build_value(build, build_input(build, unit, 1)) : 0, .y = parts->y,
         .saved = parts->running ? 0 : build_saved(build, unit), .running_mean = build_master(build, node->params[2]),
         .running_var = build_master(build, node->params[3]), .gamma = build_master(build, node->params[0]),
         .beta = build_master(build, node->params[1]), .rows = build_rows(build, in), .c = in->shape.c, .cp = in->channels,
         .relu = parts->relu, .bf16 = build->bf16, .epsilon = (float)node->epsilon);
}

static void forward_norm(struct build *build, const struct gpu_unit *unit) {
    if (build->training && build->fused && fused_forward(build, unit))
        return;
    if (build->training)
        norm_statistics(build, unit);
    norm_apply(build, unit,
               &(struct norm_parts){!build->training, unit->add >= 0, unit->act >= 0, build_value(build, &unit->value)});
}

static void forward_group_norm(struct build *build, const struct gpu_unit *unit) {
    const struct graph_node *node = build_node(build, unit);
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr x = build_value(build, in), saved = build_saved(build, unit);
    int batch = build->batch, groups = node->window.groups, pixels = in->shape.h * in->shape.w;
    EMIT(build, group_statistics, blocks_of((int64_t)batch * groups), .x = x, .saved = saved, .pixels = pixels, .batch = batch,
         .c = in->shape.c, .cp = in->channels, .groups = groups, .bf16 = build->bf16, .epsilon = (float)node->epsilon);
    EMIT(build, group_apply, blocks_for(in->count), .x = x, .y = build_value(build, &unit->value), .saved = saved,
         .gamma = build_master(build, node->params[0]), .beta = build_master(build, node->params[1]), .pixels = pixels,
         .batch = batch, .c = in->shape.c, .cp = in->channels, .groups = groups, .bf16 = build->bf16);
}

/* --- element by element, joins --- */

static void forward_act(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, act, blocks_for(in->count), .x = build_value(build, in), .y = build_value(build, &unit->value),
         .rows = build_rows(build, in), .c = in->shape.c, .cp = in->channels, .activation = build_node(build, unit)->activation,
         .bf16 = build->bf16);
}

/* The summands, of which there are at least two, one after the other. */
static void sum(struct build *build, const struct gpu_unit *unit, bool relu, CUdeviceptr y) {
    for (int k = 1; k < unit->inputs_n; k++)
        EMIT(build, add, blocks_for(unit->value.count), .a = k == 1 ? build_value(build, build_input(build, unit, 0)) : y,
             .b = build_value(build, build_input(build, unit, k)), .y = y, .count = unit->value.count,
             .relu = relu && k == unit->inputs_n - 1, .bf16 = build->bf16);
}

static void forward_concat(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *out = &unit->value;
    for (int k = 0, at = 0; k < unit->inputs_n; k++) {
        const struct gpu_value *in = build_input(build, unit, k);
        EMIT(build, channels, blocks_for(in->count), .from = build_value(build, in), .to = build_value(build, out),
             .rows = build_rows(build, out), .from_cp = in->channels, .to_cp = out->channels, .to_at = at, .to_c = out->shape.c,
             .count = in->shape.c, .bf16 = build->bf16);
        at += in->shape.c;
    }
}

static void forward_flatten(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    EMIT(build, flatten, blocks_for(unit->value.count), .x = build_value(build, in), .y = build_value(build, &unit->value),
         .batch = build->batch, .h = in->shape.h, .w = in->shape.w, .c = in->shape.c, .cp = in->channels,
         .flat_cp = unit->value.channels, .bf16 = build->bf16);
}

static void forward_dropout(struct build *build, const struct gpu_unit *unit) {
    const struct gpu_value *in = build_input(build, unit, 0);
    CUdeviceptr x = build_value(build, in), y = build_value(build, &unit->value);
    if (!build->training) {
        EMIT(build, add, blocks_for(in->count), .a = x, .y = y, .count = in->count, .bf16 = build->bf16);
        return;
    }
    EMIT(build, dropout, blocks_for(in->count), .x = x, .y = y, .step = build_step(build), .samples = build_samples(build),
         .batch = build->batch, .c = in->shape.c, .cp = in->channels, .h = in->shape.h, .w = in->shape.w, .node = unit->node,
         .bf16 = build->bf16, .rate = (float)build_node(build, unit)->rate);
}

/* --- windows --- */

static void forward_pool_max(struct build *build, const struct gpu_unit *unit) {
    EMIT(build, pool_max, blocks_for(unit->value.count), .x = build_value(build, build_input(build, unit, 0)),
         .y = build_value(build, &unit->value), .saved = build_saved(build, unit), .window = build_window(build, unit),
         .bf16 = build->bf16);
}

static void forward_pool_avg(struct build *build, const struct gpu_unit *unit) {
    EMIT(build, pool_avg, blocks_for(unit->value.count), .x = build_value(build, build_input(build, unit, 0)),
         .y = build_value(build, &unit->value), .window = build_window(build, unit), .bf16 = build->bf16);
}

static void forward_shortcut(struct build *build, const struct gpu_unit *unit) {
    EMIT(build, shortcut, blocks_for(unit->value.count), .x = build_value(build, build_input(build, unit, 0)),
         .y = build_value(build, &unit->value), .window = build_window(build, unit), .bf16 = build->bf16);
}

/* --- all --- */

void forward_unit(struct build *build, const struct gpu_unit *unit) {
    switch (unit->kind) {
    case GPU_INPUT: /* a program of its own */
    case GPU_LOSS:
        break;
    case GPU_CONV:
    case GPU_LINEAR:
        conv_forward(build, unit);
        break;
    case GPU_NORM:
        forward_norm(build, unit);
        break;
    case GPU_GROUP_NORM:
        forward_group_norm(build, unit);
        break;
    case GPU_ACT:
        forward_act(build, unit);
        break;
    case GPU_ADD:
        sum(build, unit, unit->act >= 0, build_value(build, &unit->value));
        break;
    case GPU_CONCAT:
        forward_concat(build, unit);
        break;
    case GPU_POOL_MAX:
        forward_pool_max(build, unit);
        break;
    case GPU_POOL_AVG:
        forward_pool_avg(build, unit);
        break;
    case GPU_SHORTCUT:
        forward_shortcut(build, unit);
        break;
    case GPU_FLATTEN:
        forward_flatten(build, unit);
        break;
    case GPU_DROPOUT:
        forward_dropout(build, unit);
        break;
    }
}

/* The gradient is what tells the kernel that this is training; where nobody wants it, it goes to scratch memory. */
static CUdeviceptr loss_gradient(const struct build *build, const struct gpu_value *logits) {
    return logits->gradient >= 0 ? build_gradient(build, logits) : plan_region(build->plan, GPU_SCRATCH);
}

void forward_loss(struct build *build, bool with_gradient) {
    const struct gpu_plan *gpu = build->plan->gpu;
    const struct gpu_value *logits = build_input(build, &gpu->units[gpu->units_n - 1], 0);
    CUdeviceptr results = plan_region(build->plan, GPU_RESULTS), step = build_step(build);
    struct results_layout layout = plan_results(build->plan);
    int batch = build->batch;
    EMIT(build, loss, blocks_of((batch + 7) / 8), .logits = build_value(build, logits), .step = step,
         .samples = build_samples(build), .softmax = results + layout.softmax, .losses = results + layout.losses,
         .rights = results + layout.rights, .dlogits = with_gradient ? loss_gradient(build, logits) : 0, .batch = batch,
         .classes = build->plan->classes, .cp = logits->channels, .bf16 = build->bf16 && !logits->wide);
    EMIT(build, loss_sum, blocks_of(1), .losses = results + layout.losses, .rights = results + layout.rights, .step = step,
         .result = results);
}

/* Fused away are the norm before an add or a ReLU, and the add before a ReLU. */
void forward_fused(struct build *build, const struct gpu_unit *unit, int node) {
    CUdeviceptr scratch = plan_region(build->plan, GPU_SCRATCH);
    if (unit->kind == GPU_ADD)
        sum(build, unit, false, scratch);
    else
        norm_apply(build, unit, &(struct norm_parts){.running = true, .add = node == unit->add, .y = scratch});
}
