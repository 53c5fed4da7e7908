/* Adding the layers of presets, each as its options say. */
#include "server/graph/builder.h"

#include <math.h>
#include <stdio.h>

struct layer_name layer_name(const char *prefix, const char *name, int number) {
    struct layer_name full;
    const char *dot = prefix[0] != '\0' ? "." : "";
    if (number == 0)
        snprintf(full.text, sizeof full.text, "%s%s%s", prefix, dot, name);
    else
        snprintf(full.text, sizeof full.text, "%s%s%s%d", prefix, dot, name, number);
    return full;
}

void build_layer(struct builder *b, const char *name, struct graph_node node) {
    if (b->at < 0)
        return;
    option_saw_layer(b, name);
    snprintf(node.name, sizeof node.name, "%s", name);
    if (node.inputs_n == 0) {
        node.inputs[0] = b->at;
        node.inputs_n = 1;
    }
    b->at = graph_add(b->graph, &node, b->err);
}

int build_width(struct builder *b, const char *layer, int channels) {
    double value = round(channels * option_of(b, layer, OPTION_WIDTH)->width);
    return value < 1.0 ? 1 : (int)value;
}

/* Chooses how the weights of a layer start. */
static void set_init(struct builder *b, const char *name, struct graph_node *node) {
    node->init = option_of(b, name, OPTION_INIT)->init;
    if (node->init == INIT_NORMAL)
        node->init_sigma = option_of(b, name, OPTION_INIT_SIGMA)->init_sigma;
}

void build_conv(struct builder *b, const char *name, struct build_conv conv) {
    struct graph_node node = {.op = OP_CONV, .channels_out = conv.channels, .bias = conv.bias};
    node.window.kernel_h = node.window.kernel_w = conv.kernel;
    node.window.stride_h = node.window.stride_w = conv.stride;
    node.window.pad_h = node.window.pad_w = conv.pad;
    node.window.dilation_h = node.window.dilation_w = node.window.groups = 1;
    set_init(b, name, &node);
    build_layer(b, name, node);
}

bool build_bias(struct builder *b, const char *norm) {
    return option_of(b, norm, OPTION_NORM)->norm == NORM_NONE;
}

static int greatest_divisor(int a, int b) {
    return b == 0 ? a : greatest_divisor(b, a % b);
}

/* As many as were asked for; else what the preset has, or the most that divide both that and the channels. */
static int norm_groups(struct builder *b, const char *name) {
    const struct spec_options *set = option_of(b, name, OPTION_NORM_GROUPS);
    bool chosen = !option_is_own(b, set) || b->at < 0;
    return chosen ? set->norm_groups : greatest_divisor(set->norm_groups, b->graph->nodes[b->at].out.c);
}

static void norm_of_kind(struct builder *b, const char *name, enum spec_norm kind, bool ends_residual) {
    struct graph_node node = {.op = OP_NORM, .epsilon = 1e-5, .momentum = 0.1};
    if (kind == NORM_NONE)
        return;
    if (kind == NORM_GROUP) {
        node = (struct graph_node){.op = OP_GROUP_NORM, .epsilon = 1e-5};
        node.window.groups = norm_groups(b, name);
    }
    if (ends_residual)
        node.zero_init = option_of(b, name, OPTION_ZERO_INIT)->zero_init;
    build_layer(b, name, node);
}

void build_norm(struct builder *b, const char *name, bool ends_residual) {
    norm_of_kind(b, name, option_of(b, name, OPTION_NORM)->norm, ends_residual);
}

void build_act(struct builder *b, const char *name) {
    build_layer(b, name, (struct graph_node){.op = OP_ACT, .activation = option_of(b, name, OPTION_ACTIVATION)->activation});
}

void build_unit(struct builder *b, const char *prefix, int number, int channels, int stride, bool ends_residual) {
    struct layer_name conv = layer_name(prefix, "conv", number), norm = layer_name(prefix, "bn", number);
    int kernel = option_of(b, conv.text, OPTION_KERNEL)->kernel;
    build_conv(b, conv.text,
               (struct build_conv){.channels = build_width(b, conv.text, channels),
                                   .kernel = kernel,
                                   .stride = stride,
                                   .pad = b->design->unpadded ? 0 : build_same_pad(kernel),
                                   .bias = build_bias(b, norm.text)});
    build_norm(b, norm.text, ends_residual);
    build_act(b, layer_name(prefix, "act", number).text);
}

void build_pool(struct builder *b, const char *name, enum graph_op op, int kernel, int stride, int pad) {
    struct graph_node node = {.op = op};
    node.window.kernel_h = node.window.kernel_w = kernel;
    node.window.stride_h = node.window.stride_w = stride;
    node.window.pad_h = node.window.pad_w = pad;
    node.window.dilation_h = node.window.dilation_w = 1;
    build_layer(b, name, node);
}

void build_dropout(struct builder *b, const char *name, const char *layer, enum spec_option option) {
    const struct spec_options *set = option_of(b, layer, option);
    double rate = option == OPTION_DROPOUT ? set->dropout : set->block_dropout;
    if (rate > 0.0)
        build_layer(b, name, (struct graph_node){.op = OP_DROPOUT, .rate = rate});
}

int build_depth(struct builder *b) {
    const struct spec_list *depth = &option_of(b, layer_name("", "layer", b->stage).text, OPTION_DEPTH)->depth;
    return depth->n == 1 ? depth->values[0] : depth->values[b->stage - 1];
}

enum spec_downsampling build_downsampling(struct builder *b, const char *pool) {
    return option_of(b, pool, OPTION_DOWNSAMPLING)->downsampling;
}

void build_halving(struct builder *b, const char *pool, enum spec_downsampling how) {
    build_pool(b, pool, how == DOWNSAMPLING_MAX_POOL ? OP_POOL_MAX : OP_POOL_AVG, 2, 2, 0);
}

/* --- head --- */

static void linear(struct builder *b, const char *name, int outputs, bool bias) {
    struct graph_node node = {.op = OP_LINEAR, .channels_out = outputs, .bias = bias};
    set_init(b, name, &node);
    build_layer(b, name, node);
}

/* One window over the whole image. */
static void pool_all(struct builder *b) {
    if (b->at < 0)
        return;
    struct graph_shape image = b->graph->nodes[b->at].out;
    struct graph_node node = {.op = OP_POOL_MAX};
    node.window.kernel_h = node.window.stride_h = image.h;
    node.window.kernel_w = node.window.stride_w = image.w;
    node.window.dilation_h = node.window.dilation_w = 1;
    build_layer(b, "pool", node);
}

static void end_image(struct builder *b) {
    switch (b->design->ending) {
    case ENDING_AVERAGE:
        build_layer(b, "avgpool", (struct graph_node){.op = OP_GAP});
        break;
    case ENDING_MAXIMUM:
        pool_all(b);
        break;
    case ENDING_FLATTEN:
        build_layer(b, "flatten", (struct graph_node){.op = OP_FLATTEN});
        break;
    }
}

/* The norm of a hidden dense layer. In networks of convolutions the model's norm is theirs alone. */
static void dense_norm(struct builder *b, const char *name) {
    const struct spec_options *override = option_of_override(b, name, OPTION_NORM);
    if (override != NULL)
        norm_of_kind(b, name, override->norm, false);
    else if (b->design->stages == 0)
        build_norm(b, name, false);
}

static void hidden(struct builder *b, const char *name, int units, bool scale) {
    linear(b, name, scale ? build_width(b, name, units) : units, true);
    b->units++;
    dense_norm(b, layer_name("", "bn", b->units).text);
    build_act(b, layer_name("", "act", b->units).text);
}

void build_head(struct builder *b) {
    const struct spec_options *set = option_of_model(b, OPTION_DENSE);
    int n = set->dense.n;
    b->stage = 0;
    end_image(b);
    for (int i = 0; i <= n; i++) {
        struct layer_name name =
            layer_name("", "fc", n > 0 ? i + 1 : 0); /* a single dense layer is "fc", as in PyTorch's ResNets */
        if (i > 0 || n == 0)
            build_dropout(b, layer_name("", "dropout", i).text, name.text, OPTION_DROPOUT);
        if (i < n)
            hidden(b, name.text, set->dense.values[i], option_is_own(b, set));
        else
            linear(b, name.text, b->classes, !b->design->plain_output);
    }
    build_layer(b, "loss", (struct graph_node){.op = OP_LOSS});
}
