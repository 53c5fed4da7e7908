/* Convolutions that run on our own kernels in all passes and need nothing of oneDNN: 3x3 of stride 1 on AVX-512. The transformed
 * weights of a plan for training live in the scratchpad, since every step changes them. */
#include "server/backend/onednn/conv.h"

enum { LANES_MAX = 16 };

bool own_fits(const struct backend_plan *plan, const struct unit *unit, const struct conv *conv) {
    const struct graph_node *node = &plan->nodes[unit->node];
    return plan->lanes == 16 && conv->blocked_weights && node->window.kernel_h == 3 && node->window.kernel_w == 3 &&
           node->window.stride_h == 1 && node->window.stride_w == 1 && node->window.dilation_h == 1 &&
           node->window.dilation_w == 1 && node->window.pad_h == 1 && node->window.pad_w == 1;
}

/* The shape of the forward pass, or of the data gradient, which goes the other way. */
static struct winograd shape_of(const struct conv *conv, enum compat_pass pass) {
    bool turned = pass == PASS_DATA;
    return (struct winograd){.in_blocks = turned ? conv->out.blocks : conv->in.blocks,
                             .out_blocks = turned ? conv->in.blocks : conv->out.blocks,
                             .h = conv->out.h,
                             .w = conv->out.w,
                             .bf16 = conv->type == dnnl_bf16};
}

int own_new(struct backend_plan *plan, struct conv *conv, struct err *err) {
    struct winograd shape = shape_of(conv, PASS_FORWARD);
    conv->mode = MODE_BLOCKED;
    if (!conv->inference)
        return 0;
    conv->packed = arena_block(&plan->arena, winograd_weights(&shape), err);
    return conv->packed ? 0 : -1;
}

size_t own_scratch(const struct backend_plan *plan, const struct conv *conv) {
    size_t largest = 0;
    for (int pass = PASS_FORWARD; pass <= PASS_DATA; pass++) {
        struct winograd shape = shape_of(conv, (enum compat_pass)pass);
        size_t size = (size_t)plan->backend->threads * winograd_scratch(&shape) + winograd_weights(&shape);
        largest = size > largest ? size : largest;
    }
    struct winograd shape = shape_of(conv, PASS_FORWARD);
    size_t weights = conv->inference ? 0 : winograd_wgrad_scratch(&shape, plan->backend->threads);
    return weights > largest ? weights : largest;
}

void own_pack(struct backend_plan *plan, const struct unit *unit, const float *weights) {
    struct winograd shape = shape_of(unit->conv, PASS_FORWARD);
    if (unit->conv->packed)
        winograd_pack(&shape, plan->backend->kernels, unit->conv->packed, weights, false);
}

/* Packed weights of a pass, and behind them each thread's scratch. */
static void run(struct backend_plan *plan, const struct unit *unit, enum compat_pass pass, struct winograd_call *call) {
    const struct conv *conv = unit->conv;
    struct winograd shape = shape_of(conv, pass);
    const float *weights = params_value(plan, unit->node, ROLE_WEIGHT);
    call->threads = plan->backend->threads;
    call->weights = conv->packed ? conv->packed : plan->scratch;
    call->scratch = (char *)plan->scratch + winograd_weights(&shape);
    if (!conv->packed)
        winograd_pack(&shape, plan->backend->kernels, plan->scratch, weights, pass == PASS_DATA);
    winograd_run(&shape, call);
}

/* The norm in front of a convolution that applies it itself, in *ret, else NULL. */
static const struct winograd_norm *deferred_norm(const struct backend_plan *plan, const struct unit *unit,
                                                 struct winograd_norm *ret) {
    if (unit->deferred_norm < 0)
        return NULL;
    *ret = norm_of(&plan->units[unit->deferred_norm]);
    return ret;
}

void own_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct conv *conv = unit->conv;
    struct winograd_call call = {.x = plan_value(plan, unit->source), .y = plan_value(plan, unit->out), .n = n};
    struct winograd_norm norm;
    call.norm = deferred_norm(plan, unit, &norm);
    call.bias = conv->offset ? conv->offset : params_value(plan, unit->node, ROLE_BIAS);
    call.sum = conv->sum;
    call.relu = conv->relu;
    run(plan, unit, PASS_FORWARD, &call);
}

void own_data(struct backend_plan *plan, const struct unit *unit, int n) {
    struct winograd_call call = {.x = plan_data(plan, unit->grads[0]), .y = plan_data(plan, unit->input_grads[0]), .n = n};
    run(plan, unit, PASS_DATA, &call);
}

/* The gradient of a bias is the sum of g. */
static void bias_gradient(const struct backend_plan *plan, const struct conv *conv, float *gradient, const char *g, int n) {
    _Alignas(ALIGNMENT) static const float zeros[LANES_MAX] = {0};
    size_t blocks = (size_t)conv->out.blocks, lanes = (size_t)plan->lanes, row = conv->out.pixels * lanes;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        _Alignas(ALIGNMENT) double sum[LANES_MAX] = {0}, square[LANES_MAX] = {0};
        for (size_t i = 0; i < (size_t)n; i++)
            plan->backend->kernels->norm_sums(element_of(g, (i * blocks + b) * row, conv->out.bf16), conv->out.pixels,
                                              conv->out.bf16, zeros, sum, square);
        for (size_t c = 0; c < lanes; c++)
            gradient[b * lanes + c] = (float)sum[c];
    }
}

void own_weights(struct backend_plan *plan, const struct unit *unit, int n) {
    struct winograd shape = shape_of(unit->conv, PASS_FORWARD);
    struct winograd_norm norm;
    winograd_wgrad(&shape, params_gradient(plan, unit->node, ROLE_WEIGHT), plan_value(plan, unit->source),
                   deferred_norm(plan, unit, &norm), plan_data(plan, unit->grads[0]), n, plan->backend->threads, plan->scratch);
    if (unit->conv->bias)
        bias_gradient(plan, unit->conv, params_gradient(plan, unit->node, ROLE_BIAS), plan_data(plan, unit->grads[0]), n);
}
