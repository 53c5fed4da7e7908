/* Shape inference: one rule per op, which checks the node against its inputs and counts its FLOPs (a multiply-add is two). */
#include <stddef.h>

#include "server/graph/private.h"

enum { WINDOW_MAX = 1024 };

static const struct graph_node *input(const struct graph *graph, const struct graph_node *node, int i) {
    return &graph->nodes[node->inputs[i]];
}

static int refuse(const struct graph *graph, const struct graph_node *node, struct err *err, const char *why) {
    const struct graph_node *in = input(graph, node, 0);
    return err_set(err, ERR_SHAPE, "Layer '%s' (%s) on the %dx%dx%d output of '%s': %s", node->name, graph_op_name(node->op),
                   in->out.c, in->out.h, in->out.w, in->name, why);
}

/* A product that stays at the largest number instead of overflowing; graph_add refuses such layers for their size. */
static int64_t times(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static bool in_range(int value, int low, int high) {
    return value >= low && value <= high;
}

/* Sets the height and width that a sliding window leaves: floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1. */
static int slide(const struct graph *graph, struct graph_node *node, struct err *err) {
    const struct graph_node *in = input(graph, node, 0);
    int k[] = {node->window.kernel_h, node->window.kernel_w}, s[] = {node->window.stride_h, node->window.stride_w};
    int p[] = {node->window.pad_h, node->window.pad_w}, d[] = {node->window.dilation_h, node->window.dilation_w};
    int size[] = {in->out.h, in->out.w}, covers[2], padded[2], out[2];
    for (int i = 0; i < 2; i++) {
        if (!in_range(k[i], 1, WINDOW_MAX) || !in_range(s[i], 1, WINDOW_MAX) || !in_range(p[i], 0, WINDOW_MAX) ||
            !in_range(d[i], 1, WINDOW_MAX))
            return refuse(graph, node, err, "kernel, stride and dilation must be 1 to 1024, padding 0 to 1024");
        covers[i] = d[i] * (k[i] - 1) + 1;
        padded[i] = size[i] + 2 * p[i];
        out[i] = (padded[i] - covers[i]) / s[i] + 1;
    }
    if (covers[0] > padded[0] || covers[1] > padded[1])
        return err_set(err, ERR_SHAPE,
                       "Layer '%s' (%s) does not fit: its kernel covers %dx%d pixels, but the %dx%dx%d output of '%s' with "
                       "padding %dx%d has only %dx%d. Use larger images, or fewer or smaller strides and kernels",
                       node->name, graph_op_name(node->op), covers[0], covers[1], in->out.c, in->out.h, in->out.w, in->name, p[0],
                       p[1], padded[0], padded[1]);
    node->out.h = out[0];
    node->out.w = out[1];
    return 0;
}

static int rule_input(const struct graph *graph, struct graph_node *node, struct err *err) {
    (void)graph;
    struct graph_shape s = node->out;
    if (!in_range(s.c, 1, GRAPH_SIDE_MAX) || !in_range(s.h, 1, GRAPH_SIDE_MAX) || !in_range(s.w, 1, GRAPH_SIDE_MAX))
        return err_set(err, ERR_SHAPE, "Images of %dx%dx%d: channels, height and width must be 1 to %d", s.c, s.h, s.w,
                       GRAPH_SIDE_MAX);
    return 0;
}

static int check_init(const struct graph *graph, const struct graph_node *node, struct err *err) {
    if (node->init == INIT_NORMAL && !(node->init_sigma > 0.0 && node->init_sigma <= 100.0))
        return refuse(graph, node, err, "the deviation of its initial weights must be above 0 and at most 100");
    return 0;
}

static int rule_conv(const struct graph *graph, struct graph_node *node, struct err *err) {
    int channels = input(graph, node, 0)->out.c, groups = node->window.groups;
    if (!in_range(node->channels_out, 1, GRAPH_SIDE_MAX))
        return refuse(graph, node, err, "the number of output channels must be 1 to 65536");
    if (groups < 1 || channels % groups != 0 || node->channels_out % groups != 0)
        return err_set(err, ERR_SHAPE, "Layer '%s' (conv): %d groups do not divide %d input and %d output channels evenly",
                       node->name, groups, channels, node->channels_out);
    if (check_init(graph, node, err) < 0 || slide(graph, node, err) < 0)
        return -1;
    node->out.c = node->channels_out;
    int64_t taps = (int64_t)channels / groups * node->window.kernel_h * node->window.kernel_w;
    node->flops = times(shape_count(node->out), 2 * taps + (node->bias ? 1 : 0));
    return 0;
}

static int rule_linear(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape in = input(graph, node, 0)->out;
    if (in.h != 1 || in.w != 1)
        return refuse(graph, node, err, "a linear layer needs an input of Nx1x1; put a flatten or a global pool before it");
    if (!in_range(node->channels_out, 1, GRAPH_SIDE_MAX))
        return refuse(graph, node, err, "the number of outputs must be 1 to 65536");
    if (check_init(graph, node, err) < 0)
        return -1;
    node->out = (struct graph_shape){node->channels_out, 1, 1};
    node->flops = (int64_t)node->channels_out * (2 * (int64_t)in.c + (node->bias ? 1 : 0));
    return 0;
}

static int rule_norm(const struct graph *graph, struct graph_node *node, struct err *err) {
    if (!(node->epsilon > 0.0 && node->epsilon <= 1.0) || !(node->momentum >= 0.0 && node->momentum <= 1.0))
        return refuse(graph, node, err, "epsilon must be above 0 and at most 1, momentum 0 to 1");
    node->out = input(graph, node, 0)->out;
    node->flops = 2 * shape_count(node->out);
    return 0;
}

static int rule_group_norm(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape in = input(graph, node, 0)->out;
    if (!(node->epsilon > 0.0 && node->epsilon <= 1.0))
        return refuse(graph, node, err, "epsilon must be above 0 and at most 1");
    if (node->window.groups < 1 || in.c % node->window.groups != 0)
        return err_set(err, ERR_SHAPE, "Layer '%s' (group_norm): %d groups do not divide the %d channels of '%s' evenly",
                       node->name, node->window.groups, in.c, input(graph, node, 0)->name);
    node->out = in;
    node->flops = 8 * shape_count(in); /* mean, variance, apply */
    return 0;
}

static int rule_act(const struct graph *graph, struct graph_node *node, struct err *err) {
    (void)err;
    node->out = input(graph, node, 0)->out;
    node->flops = node->activation == ACTIVATION_IDENTITY ? 0 : shape_count(node->out);
    return 0;
}

/* Names the first input and the one that does not match it. */
static int mismatch(const struct graph *graph, const struct graph_node *node, int i, struct err *err) {
    const struct graph_node *a = input(graph, node, 0), *b = input(graph, node, i);
    return err_set(err, ERR_SHAPE, "Layer '%s' (%s) cannot join '%s' of %dx%dx%d with '%s' of %dx%dx%d: %s must be equal",
                   node->name, graph_op_name(node->op), a->name, a->out.c, a->out.h, a->out.w, b->name, b->out.c, b->out.h,
                   b->out.w, node->op == OP_ADD ? "the shapes" : "height and width");
}

static int rule_add(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape first = input(graph, node, 0)->out;
    if (node->inputs_n < 2)
        return refuse(graph, node, err, "an addition needs at least two inputs");
    for (int i = 1; i < node->inputs_n; i++) {
        struct graph_shape other = input(graph, node, i)->out;
        if (other.c != first.c || other.h != first.h || other.w != first.w)
            return mismatch(graph, node, i, err);
    }
    node->out = first;
    node->flops = (node->inputs_n - 1) * shape_count(first);
    return 0;
}

static int rule_concat(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape out = input(graph, node, 0)->out;
    for (int i = 1; i < node->inputs_n; i++) {
        struct graph_shape other = input(graph, node, i)->out;
        if (other.h != out.h || other.w != out.w)
            return mismatch(graph, node, i, err);
        out.c += other.c;
    }
    if (out.c > GRAPH_SIDE_MAX)
        return refuse(graph, node, err, "the joined output would have more than 65536 channels");
    node->out = out;
    return 0;
}

static int rule_pool(const struct graph *graph, struct graph_node *node, struct err *err) {
    if (node->window.dilation_h != 1 || node->window.dilation_w != 1)
        return refuse(graph, node, err, "the dilation of a pool must be 1");
    if (slide(graph, node, err) < 0)
        return -1;
    /* as PyTorch: then no window lies wholly in the padding */
    if (2 * node->window.pad_h > node->window.kernel_h || 2 * node->window.pad_w > node->window.kernel_w)
        return refuse(graph, node, err, "the padding of a pool must be at most half its kernel");
    node->out.c = input(graph, node, 0)->out.c;
    node->flops = times(shape_count(node->out), (int64_t)node->window.kernel_h * node->window.kernel_w);
    return 0;
}

static int rule_gap(const struct graph *graph, struct graph_node *node, struct err *err) {
    (void)err;
    struct graph_shape in = input(graph, node, 0)->out;
    node->out = (struct graph_shape){in.c, 1, 1};
    node->flops = shape_count(in);
    return 0;
}

static int rule_shortcut(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape in = input(graph, node, 0)->out;
    int sh = node->window.stride_h, sw = node->window.stride_w;
    if (!in_range(sh, 1, WINDOW_MAX) || !in_range(sw, 1, WINDOW_MAX))
        return refuse(graph, node, err, "the stride must be 1 to 1024");
    if (!in_range(node->channels_out, in.c, GRAPH_SIDE_MAX))
        return refuse(graph, node, err,
                      "a shortcut appends channels; it cannot have fewer than its input, which takes a 1x1 convolution");
    node->out = (struct graph_shape){node->channels_out, (in.h - 1) / sh + 1, (in.w - 1) / sw + 1};
    return 0;
}

static int rule_flatten(const struct graph *graph, struct graph_node *node, struct err *err) {
    int64_t count = shape_count(input(graph, node, 0)->out);
    if (count > INT32_MAX)
        return refuse(graph, node, err, "the flattened output would have more than 2^31 - 1 values");
    node->out = (struct graph_shape){(int)count, 1, 1};
    return 0;
}

static int rule_dropout(const struct graph *graph, struct graph_node *node, struct err *err) {
    node->out = input(graph, node, 0)->out;
    if (!(node->rate >= 0.0 && node->rate < 1.0))
        return refuse(graph, node, err, "the dropout rate must be at least 0 and below 1");
    return 0;
}

static int rule_loss(const struct graph *graph, struct graph_node *node, struct err *err) {
    struct graph_shape in = input(graph, node, 0)->out;
    if (in.h != 1 || in.w != 1)
        return refuse(graph, node, err, "the loss needs logits of CLASSESx1x1; put a flatten or a global pool before it");
    node->out = in;
    node->flops = 4 * (int64_t)in.c; /* subtract the maximum, exponential, sum, divide */
    return 0;
}

typedef int shape_rule(const struct graph *graph, struct graph_node *node, struct err *err);

static shape_rule *rule_of(enum graph_op op) {
    switch (op) {
    case OP_INPUT:
        return rule_input;
    case OP_CONV:
        return rule_conv;
    case OP_NORM:
        return rule_norm;
    case OP_GROUP_NORM:
        return rule_group_norm;
    case OP_ACT:
        return rule_act;
    case OP_ADD:
        return rule_add;
    case OP_CONCAT:
        return rule_concat;
    case OP_POOL_MAX:
    case OP_POOL_AVG:
        return rule_pool;
    case OP_GAP:
        return rule_gap;
    case OP_SHORTCUT:
        return rule_shortcut;
    case OP_FLATTEN:
        return rule_flatten;
    case OP_LINEAR:
        return rule_linear;
    case OP_DROPOUT:
        return rule_dropout;
    case OP_LOSS:
        return rule_loss;
    }
    return NULL;
}

int shape_infer(const struct graph *graph, struct graph_node *node, struct err *err) {
    node->flops = 0;
    return rule_of(node->op)(graph, node, err);
}
