/* Random graphs, drawn by counter-based random numbers: see random.h. */
#include "tests/ops/random.h"

#include <stdio.h>

#include "common/rng.h"

enum { SEED = 2026, BLOCKS_MAX = 4, NORM_VALUES_MIN = 12 };

/* A graph as it grows. A mistake is kept in err and ends the growing. */
struct growth {
    struct graph *graph;
    int number, batch;
    uint32_t draws;
    bool smooth;
    int top; /* the last node of the trunk */
    struct err *err;
    bool failed;
};

/* A whole number from low to high. */
static int draw(struct growth *growth, int low, int high) {
    uint32_t words[4];
    rng_block(SEED, RNG_SHAPES, (uint32_t)growth->number, growth->draws++, 0, words);
    return low + (int)rng_below(words[0], (uint32_t)(high - low + 1));
}

/* True in one of n cases. */
static bool chance(struct growth *growth, int n) {
    return draw(growth, 1, n) == 1;
}

static struct graph_shape shape_of(const struct growth *growth, int node) {
    return growth->graph->nodes[node].out;
}

static struct graph_node new_node(const struct growth *growth, enum graph_op op, int from) {
    struct graph_node node = {.op = op, .inputs = {from}, .inputs_n = 1, .epsilon = 1e-5, .momentum = 0.1};
    snprintf(node.name, sizeof node.name, "%d:%s", growth->graph->nodes_n, graph_op_name(op));
    node.window.stride_h = node.window.stride_w = node.window.dilation_h = node.window.dilation_w = node.window.groups = 1;
    return node;
}

/* Returns the node's index; after a mistake that of the images, which any node may read. */
static int add(struct growth *growth, const struct graph_node *node) {
    int index = growth->failed ? -1 : graph_add(growth->graph, node, growth->err);
    growth->failed = index < 0;
    return index < 0 ? 0 : index;
}

/* Below, at and above the blocks of 8 and 16 that modules like. */
static int draw_channels(struct growth *growth) {
    static const int channels[] = {2, 3, 4, 5, 6, 8, 8, 9, 12, 16, 16, 18, 24, 32};
    return channels[draw(growth, 0, (int)(sizeof channels / sizeof channels[0]) - 1)];
}

static int draw_common_divisor(struct growth *growth, int a, int b) {
    int divisor = draw(growth, 1, a < b ? a : b);
    while (a % divisor != 0 || b % divisor != 0)
        divisor--;
    return divisor;
}

/* --- layers: each returns the index of its node --- */

/* In front of a normalization, a bias and the scale of an output that sees a single channel have no effect, and so no gradient
 * but rounding: there is no bias then, and such groups become one. */
static int add_conv(struct growth *growth, int from, int channels, int stride, bool normed) {
    struct graph_shape in = shape_of(growth, from);
    struct graph_node node = new_node(growth, OP_CONV, from);
    node.channels_out = channels;
    node.bias = !normed && chance(growth, 2);
    node.window.kernel_h = 2 * draw(growth, 0, 2) + 1;
    node.window.kernel_w = chance(growth, 4) ? 2 * draw(growth, 0, 2) + 1 : node.window.kernel_h;
    node.window.stride_h = node.window.stride_w = stride;
    if (chance(growth, 3))
        node.window.groups = draw_common_divisor(growth, in.c, channels);
    if (normed && node.window.groups == in.c)
        node.window.groups = 1;
    if (chance(growth, 4))
        node.window.dilation_h = node.window.dilation_w = 2;
    node.window.pad_h = node.window.dilation_h * (node.window.kernel_h / 2); /* keeps the image's size at stride 1 */
    node.window.pad_w = node.window.dilation_w * (node.window.kernel_w / 2);
    return add(growth, &node);
}

/* A window without padding, other in height than in width. */
static int add_uneven_conv(struct growth *growth, int from) {
    struct graph_shape in = shape_of(growth, from);
    struct graph_node node = new_node(growth, OP_CONV, from);
    node.channels_out = draw_channels(growth);
    node.bias = true;
    node.window.kernel_h = draw(growth, 1, in.h < 4 ? in.h : 4);
    node.window.kernel_w = draw(growth, 1, in.w < 4 ? in.w : 4);
    node.window.stride_h = draw(growth, 1, 2);
    node.window.stride_w = draw(growth, 1, 3);
    return add(growth, &node);
}

/* A wide one gives the size that the other layers give at its stride. */
static int add_pool(struct growth *growth, int from, int stride, bool wide) {
    struct graph_node node = new_node(growth, growth->smooth || chance(growth, 2) ? OP_POOL_AVG : OP_POOL_MAX, from);
    node.window.kernel_h = node.window.kernel_w = wide ? 3 : 2;
    node.window.pad_h = node.window.pad_w = wide ? 1 : 0;
    node.window.stride_h = node.window.stride_w = stride;
    return add(growth, &node);
}

static int add_activation(struct growth *growth, int from) {
    static const enum spec_activation smooth[] = {ACTIVATION_ELU, ACTIVATION_GELU, ACTIVATION_SILU, ACTIVATION_SIGMOID,
                                                  ACTIVATION_TANH};
    struct graph_node node = new_node(growth, OP_ACT, from);
    bool kinked = !growth->smooth && chance(growth, 2);
    node.activation = kinked ? ACTIVATION_RELU : smooth[draw(growth, 0, 4)];
    if (kinked && chance(growth, 3))
        node.activation = ACTIVATION_LEAKY_RELU;
    return add(growth, &node);
}

/* A normalization of few values, also those of one image, would be decided by rounding: then there is none. */
static int add_norm(struct growth *growth, int from) {
    struct graph_shape in = shape_of(growth, from);
    if (chance(growth, 3)) {
        struct graph_node node = new_node(growth, OP_GROUP_NORM, from);
        node.window.groups = draw_common_divisor(growth, in.c, in.c);
        return in.c / node.window.groups * in.h * in.w < NORM_VALUES_MIN ? from : add(growth, &node);
    }
    struct graph_node node = new_node(growth, OP_NORM, from);
    return in.h * in.w < NORM_VALUES_MIN ? from : add(growth, &node);
}

/* A convolution, mostly with a normalization behind it, and an activation unless bare. A normalization without one must find it
 * behind the join of its block: the mean of what was normalized is the same for all weights, which have no gradient then. */
static int add_unit(struct growth *growth, int from, int channels, int stride, bool bare) {
    bool normed = !chance(growth, 3);
    int top = add_conv(growth, from, channels, stride, normed);
    if (normed)
        top = add_norm(growth, top);
    return bare || (!normed && chance(growth, 3)) ? top : add_activation(growth, top);
}

static int add_join(struct growth *growth, enum graph_op op, const int *inputs, int n) {
    struct graph_node node = new_node(growth, op, inputs[0]);
    for (int i = 0; i < n; i++)
        node.inputs[i] = inputs[i];
    node.inputs_n = n;
    return add(growth, &node);
}

/* --- blocks: each moves the top --- */

/* What a residual block adds to its branch: the block's input itself where the shape stays, else one of the two options. */
static int add_skip(struct growth *growth, int channels, int stride) {
    struct graph_shape in = shape_of(growth, growth->top);
    if (stride == 1 && in.c == channels)
        return growth->top;
    struct graph_node node = new_node(growth, in.c <= channels && chance(growth, 2) ? OP_SHORTCUT : OP_CONV, growth->top);
    node.channels_out = channels;
    node.window.kernel_h = node.window.kernel_w = 1;
    node.window.stride_h = node.window.stride_w = stride;
    return add(growth, &node);
}

static int draw_stride(struct growth *growth) {
    struct graph_shape in = shape_of(growth, growth->top);
    return in.h > 3 && in.w > 3 && chance(growth, 3) ? 2 : 1;
}

static void grow_residual(struct growth *growth) {
    int stride = draw_stride(growth);
    int channels = chance(growth, 2) ? shape_of(growth, growth->top).c : draw_channels(growth);
    bool bare = chance(growth, 2), deep = chance(growth, 2), third = chance(growth, 4);
    int branches[3] = {add_unit(growth, growth->top, channels, stride, bare && !deep)};
    branches[0] = deep ? add_unit(growth, branches[0], channels, 1, bare) : branches[0];
    branches[1] = add_skip(growth, channels, stride);
    if (third)
        branches[2] = add_unit(growth, growth->top, channels, stride, bare);
    growth->top = add_join(growth, OP_ADD, branches, third ? 3 : 2);
    growth->top = bare ? add_activation(growth, growth->top) : growth->top;
}

static void grow_branches(struct growth *growth) {
    int n = draw(growth, 2, 3), stride = draw_stride(growth), branches[4];
    bool bare = chance(growth, 4);
    for (int i = 0; i < n; i++)
        branches[i] = i > 0 && chance(growth, 3) ? add_pool(growth, growth->top, stride, true)
                                                 : add_unit(growth, growth->top, draw(growth, 2, 8), stride, bare);
    if (stride == 1 && chance(growth, 2))
        branches[n++] = growth->top;
    growth->top = add_join(growth, OP_CONCAT, branches, n);
    growth->top = bare ? add_activation(growth, growth->top) : growth->top;
}

static void grow_plain(struct growth *growth) {
    struct graph_shape in = shape_of(growth, growth->top);
    int stride = draw_stride(growth);
    if (in.h > 3 && in.w > 3 && chance(growth, 3))
        growth->top = add_pool(growth, growth->top, 2, chance(growth, 2));
    else if (chance(growth, 4))
        growth->top = add_uneven_conv(growth, growth->top);
    else
        growth->top = add_unit(growth, growth->top, draw_channels(growth), stride, false);
}

static void grow_block(struct growth *growth) {
    switch (draw(growth, 0, 2)) {
    case 0:
        grow_plain(growth);
        break;
    case 1:
        grow_residual(growth);
        break;
    case 2:
        grow_branches(growth);
        break;
    }
}

static int add_linear(struct growth *growth, int from, int outputs) {
    struct graph_node node = new_node(growth, OP_LINEAR, from);
    node.channels_out = outputs;
    node.bias = true;
    return add(growth, &node);
}

static void grow_head(struct growth *growth) {
    struct graph_node collect = new_node(growth, chance(growth, 2) ? OP_GAP : OP_FLATTEN, growth->top);
    int top = add(growth, &collect);
    if (chance(growth, 3))
        top = add_activation(growth, add_linear(growth, top, draw(growth, 3, 20)));
    top = add_linear(growth, top, draw(growth, 2, 11));
    struct graph_node loss = new_node(growth, OP_LOSS, top);
    add(growth, &loss);
}

int random_build(int number, struct subject *ret_subject, struct err *err) {
    struct growth growth = {.number = number, .smooth = number % 2 != 0, .err = err};
    struct graph_shape images = {.c = draw(&growth, 2, 4)};
    images.h = draw(&growth, 4, 9);
    images.w = draw(&growth, 4, 9);
    char title[32];
    snprintf(title, sizeof title, "random %d", number);
    growth.batch = draw(&growth, 2, 4);
    growth.graph = graph_new(title, images, err);
    if (growth.graph == NULL)
        return -1;
    growth.top = add_unit(&growth, 0, draw_channels(&growth), 1, false);
    for (int blocks = draw(&growth, 1, BLOCKS_MAX); blocks > 0; blocks--)
        grow_block(&growth);
    grow_head(&growth);
    *ret_subject = (struct subject){.graph = growth.graph, .batch = growth.batch, .rough = !growth.smooth, .random = true};
    if (growth.failed)
        subject_done(ret_subject);
    return growth.failed ? -1 : 0;
}
