/* Networks of blocks behind a stem: residual ones, and plain ones of the same layers. */
#include <stdio.h>

#include "server/graph/builder.h"

/* A block of a residual network. */
struct block {
    char prefix[32];
    int channels; /* before widening and before a bottleneck's factor of four */
    int stride;
    bool preactivation, residual;
};

enum { BOTTLENECK_FACTOR = 4 };

static struct layer_name named(const struct block *block, const char *name, int number) {
    return layer_name(block->prefix, name, number);
}

static int convs_n(const struct builder *b) {
    return b->design->bottleneck ? 3 : 2;
}

static int block_width(struct builder *b, const struct block *block, int i) {
    bool wide = b->design->bottleneck && i == 3;
    return build_width(b, named(block, "conv", i).text, block->channels * (wide ? BOTTLENECK_FACTOR : 1));
}

/* Whether the i-th convolution of a block is a 1x1 one. */
static bool is_pointwise(const struct builder *b, int i) {
    return b->design->bottleneck && i != 2;
}

/* The i-th convolution of a block, from 1. The first 3x3 one strides, as in torchvision. */
static void block_conv(struct builder *b, const struct block *block, int i, int stride) {
    struct layer_name name = named(block, "conv", i);
    int kernel = is_pointwise(b, i) ? 1 : option_of(b, name.text, OPTION_KERNEL)->kernel;
    if (i == convs_n(b))
        build_dropout(b, named(block, "dropout", 0).text, name.text, OPTION_BLOCK_DROPOUT);
    build_conv(b, name.text,
               (struct build_conv){.channels = block_width(b, block, i),
                                   .kernel = kernel,
                                   .stride = i == (b->design->bottleneck ? 2 : 1) ? stride : 1,
                                   .pad = build_same_pad(kernel),
                                   .bias = build_bias(b, named(block, "bn", i).text)});
}

/* The way beside a block, from node `from` to a shape: pads with zero channels (option A of He et al. 2015) or projects with a
 * 1x1 convolution (option B), which has a norm where blocks end with one. Returns the node to add. */
static int change_shape(struct builder *b, const struct block *block, int from, int channels, int stride) {
    int main_end = b->at;
    if (main_end < 0)
        return -1;
    b->at = from;
    if (option_of(b, named(block, "shortcut", 0).text, OPTION_SHORTCUT)->shortcut == SHORTCUT_A) {
        struct graph_node node = {.op = OP_SHORTCUT, .channels_out = channels};
        node.window.stride_h = node.window.stride_w = stride;
        build_layer(b, named(block, "shortcut", 0).text, node);
    } else {
        struct layer_name norm = named(block, "downsample.1", 0);
        bool bare = block->preactivation, bias = !bare && build_bias(b, norm.text);
        build_conv(b, named(block, "downsample.0", 0).text, (struct build_conv){channels, 1, stride, 0, bias});
        if (!bare)
            build_norm(b, norm.text, false);
    }
    int end = b->at;
    b->at = end < 0 ? -1 : main_end;
    return end;
}

/* What stands before a convolution where norm and activation come first. */
static void before_conv(struct builder *b, const struct block *block, int i) {
    bool last = i == convs_n(b);
    if (!block->preactivation)
        return;
    build_norm(b, named(block, "bn", i).text, block->residual && last);
    build_act(b, named(block, "act", i).text);
}

/* What stands behind a convolution where it comes first; the last one is activated after the addition. */
static void after_conv(struct builder *b, const struct block *block, int i) {
    bool last = i == convs_n(b);
    if (block->preactivation)
        return;
    build_norm(b, named(block, "bn", i).text, block->residual && last);
    if (!last)
        build_act(b, named(block, "act", i).text);
}

/* The two ways of a block do not meet: where a kernel is even, that is why, and the kernel is to blame rather than the addition.
 */
static void blame_even_kernel(struct builder *b, const struct block *block) {
    for (int i = 1; i <= convs_n(b); i++) {
        const struct spec_options *set = option_of(b, named(block, "conv", i).text, OPTION_KERNEL);
        if (is_pointwise(b, i) || set->kernel % 2 != 0 || b->err->code != ERR_SHAPE || b->err->pointer[0] != '\0')
            continue;
        char pointer[96];
        struct err why = *b->err;
        option_pointer(b, set, OPTION_KERNEL, pointer, sizeof pointer);
        *b->err = (struct err){0};
        err_at(b->err, ERR_SHAPE, pointer,
               "is %d; in a residual block it must be odd, so that the images keep their size. %.300s", set->kernel, why.text);
    }
}

static void add_up(struct builder *b, const struct block *block, int skip) {
    if (skip < 0 || b->at < 0)
        return;
    build_layer(b, named(block, "add", 0).text, (struct graph_node){.op = OP_ADD, .inputs = {b->at, skip}, .inputs_n = 2});
    if (b->at < 0)
        blame_even_kernel(b, block);
}

/* Pools first, if the stage does not stride, so that both ways of the block see the smaller image. Returns the stride left. */
static int halve(struct builder *b, const struct block *block) {
    struct layer_name pool = named(block, "pool", 0);
    if (block->stride == 1)
        return 1;
    enum spec_downsampling how = build_downsampling(b, pool.text);
    if (how == DOWNSAMPLING_STRIDE)
        return block->stride;
    build_halving(b, pool.text, how);
    return 1;
}

/* The first preactivation of a block is shared by its shortcut where that changes the shape, as in the code of both papers. */
static void build_block(struct builder *b, const struct block *block) {
    int stride = halve(b, block), n = convs_n(b), from = b->at;
    if (from < 0)
        return;
    int channels = block_width(b, block, n);
    bool changes = stride != 1 || b->graph->nodes[from].out.c != channels;
    for (int i = 1; i <= n; i++) {
        before_conv(b, block, i);
        if (i == 1 && changes)
            from = block->preactivation ? b->at : from;
        block_conv(b, block, i, stride);
        after_conv(b, block, i);
    }
    if (block->residual)
        add_up(b, block, changes ? change_shape(b, block, from, channels, stride) : from);
    if (!block->preactivation)
        build_act(b, named(block, "act", n).text);
}

/* --- stem --- */

static int stem_channels(struct builder *b) {
    const struct spec_options *set = option_of_model(b, OPTION_STEM_CHANNELS);
    return option_is_own(b, set) ? build_width(b, "conv1", set->stem_channels) : set->stem_channels;
}

/* The first convolution. With preactivation its norm and activation are those of the first block. */
static void build_stem(struct builder *b, bool preactivation) {
    const struct spec_options *override = option_of_override(b, "conv1", OPTION_KERNEL);
    int kernel = option_of_model(b, OPTION_STEM_KERNEL)->stem_kernel;
    kernel = override != NULL ? override->kernel : kernel;
    struct build_conv conv = {.channels = stem_channels(b),
                              .kernel = kernel,
                              .stride = option_of_model(b, OPTION_STEM_STRIDE)->stem_stride,
                              .pad = build_same_pad(kernel),
                              .bias = build_bias(b, preactivation ? "layer1.0.bn1" : "bn1")};
    build_conv(b, "conv1", conv);
    if (!preactivation) {
        build_norm(b, "bn1", false);
        build_act(b, "act1");
        b->units = 1;
    }
    if (option_of_model(b, OPTION_STEM_POOL)->stem_pool)
        build_pool(b, "maxpool", OP_POOL_MAX, 3, 2, 1);
}

/* --- networks --- */

/* Every stage but the first halves the image. */
static void build_stage(struct builder *b, bool preactivation) {
    int depth = build_depth(b);
    for (int i = 0; i < depth && b->at >= 0; i++) {
        struct block block = {.channels = b->design->channels[b->stage - 1],
                              .stride = b->stage > 1 && i == 0 ? 2 : 1,
                              .preactivation = preactivation};
        snprintf(block.prefix, sizeof block.prefix, "layer%d.%d", b->stage, i);
        block.residual = option_of(b, named(&block, "add", 0).text, OPTION_RESIDUAL)->residual;
        build_block(b, &block);
    }
}

void build_blocks(struct builder *b) {
    bool preactivation = option_of_model(b, OPTION_PREACTIVATION)->preactivation;
    build_stem(b, preactivation);
    for (b->stage = 1; b->stage <= b->design->stages; b->stage++)
        build_stage(b, preactivation);
    b->stage = 0;
    if (preactivation) {
        build_norm(b, "bn1", false);
        build_act(b, "act1");
        b->units = 1;
    }
    build_head(b);
}

/* Two units and an addition behind the second one's activation. */
static void page_block(struct builder *b, int i, int channels) {
    struct block block = {.channels = channels};
    snprintf(block.prefix, sizeof block.prefix, "layer%d.%d", b->stage, i);
    int from = b->at;
    bool residual = option_of(b, named(&block, "add", 0).text, OPTION_RESIDUAL)->residual;
    build_unit(b, block.prefix, 1, channels, 1, false);
    build_unit(b, block.prefix, 2, channels, 1, residual);
    if (residual)
        add_up(b, &block, from);
}

void build_page(struct builder *b) {
    build_stem(b, false);
    for (b->stage = 1; b->stage <= b->design->stages; b->stage++) {
        char prefix[32];
        int channels = b->design->channels[b->stage - 1], depth = build_depth(b);
        snprintf(prefix, sizeof prefix, "layer%d", b->stage);
        struct layer_name pool = layer_name(prefix, "pool", 0);
        enum spec_downsampling how = build_downsampling(b, pool.text);
        build_unit(b, prefix, 1, channels, how == DOWNSAMPLING_STRIDE ? 2 : 1, false);
        if (how != DOWNSAMPLING_STRIDE)
            build_halving(b, pool.text, how);
        for (int i = 0; i < depth && b->at >= 0; i++)
            page_block(b, i, channels);
    }
    build_head(b);
}
