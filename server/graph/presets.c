/* Ready-made models: a const table of presets and the few functions that expand them into nodes.
 *
 * Options that a preset has no use for are ignored: `shortcut` by all but the CIFAR resnets (resnet18 always projects with a 1x1
 * convolution, as its paper does for ImageNet), `norm` by lenet5, which is older than batch normalization. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "server/graph/graph.h"

/* Everything a builder function needs. After the first failure at is -1 and the functions below do nothing more. */
struct builder {
    struct graph *graph;
    const struct spec_model *model;
    struct err *err;
    int at; /* the node that the next layer takes as its input */
};

/* Adds a node with the given input and the name "PREFIX.NAME" or, without a prefix, "NAME". */
static void add(struct builder *b, const char *prefix, const char *name, struct graph_node node) {
    if (b->at < 0)
        return;
    snprintf(node.name, sizeof node.name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
    if (node.inputs_n == 0) {
        node.inputs[0] = b->at;
        node.inputs_n = 1;
    }
    b->at = graph_add(b->graph, &node, b->err);
}

static int scaled(const struct builder *b, int channels) {
    double value = round(channels * b->model->width);
    return value < 1.0 ? 1 : (int)value;
}

static void conv(struct builder *b, const char *prefix, const char *name, int channels, int kernel, int stride, int pad,
                 bool bias) {
    struct graph_node node = {.op = OP_CONV, .channels_out = channels, .bias = bias, .init = b->model->init, .init_sigma = 0.01};
    node.window.kernel_h = node.window.kernel_w = kernel;
    node.window.stride_h = node.window.stride_w = stride;
    node.window.pad_h = node.window.pad_w = pad;
    node.window.dilation_h = node.window.dilation_w = node.window.groups = 1;
    add(b, prefix, name, node);
}

/* A convolution and its normalization; the bias would be lost in the normalization, so only one without it has a bias. */
static void conv_norm(struct builder *b, const char *prefix, const char *conv_name, const char *norm_name, int channels,
                      int kernel, int stride) {
    bool norm = b->model->norm == NORM_BATCH;
    conv(b, prefix, conv_name, channels, kernel, stride, kernel / 2, !norm);
    if (norm)
        add(b, prefix, norm_name, (struct graph_node){.op = OP_NORM, .epsilon = 1e-5, .momentum = 0.1});
}

static void act(struct builder *b, const char *prefix, const char *name) {
    add(b, prefix, name, (struct graph_node){.op = OP_ACT, .activation = b->model->activation});
}

static void linear(struct builder *b, const char *name, int outputs) {
    add(b, "", name,
        (struct graph_node){.op = OP_LINEAR, .channels_out = outputs, .bias = true, .init = b->model->init, .init_sigma = 0.01});
}

static void avg_pool2(struct builder *b, const char *name) {
    struct graph_node node = {.op = OP_POOL_AVG};
    node.window.kernel_h = node.window.kernel_w = node.window.stride_h = node.window.stride_w = 2;
    node.window.dilation_h = node.window.dilation_w = 1;
    add(b, "", name, node);
}

/* Global pool, classifier, loss: the end of every residual network. */
static void head(struct builder *b, int classes) {
    add(b, "", "avgpool", (struct graph_node){.op = OP_GAP});
    linear(b, "fc", classes);
    add(b, "", "loss", (struct graph_node){.op = OP_LOSS});
}

enum join { JOIN_NONE, JOIN_PAD, JOIN_PROJECT }; /* plain network, option A, option B */

/* The shortcut branch from node `from`; returns the node to add. Where nothing changes it is the identity. */
static int shortcut(struct builder *b, const char *prefix, int from, int channels, int stride, enum join join) {
    if (b->at < 0 || (stride == 1 && b->graph->nodes[from].out.c == channels))
        return from;
    int main_end = b->at;
    b->at = from;
    if (join == JOIN_PROJECT) {
        conv_norm(b, prefix, "downsample.0", "downsample.1", channels, 1, stride);
    } else {
        struct graph_node node = {.op = OP_SHORTCUT, .channels_out = channels};
        node.window.stride_h = node.window.stride_w = stride;
        add(b, prefix, "shortcut", node);
    }
    int end = b->at;
    b->at = end < 0 ? -1 : main_end;
    return end;
}

/* The basic block of He et al. 2015: conv, norm, act, conv, norm, add, act. */
static void block(struct builder *b, const char *prefix, int channels, int stride, enum join join) {
    int from = b->at;
    conv_norm(b, prefix, "conv1", "bn1", channels, 3, stride);
    act(b, prefix, "act1");
    conv_norm(b, prefix, "conv2", "bn2", channels, 3, 1);
    if (join != JOIN_NONE) {
        int skip = shortcut(b, prefix, from, channels, stride, join);
        add(b, prefix, "add", (struct graph_node){.op = OP_ADD, .inputs = {b->at, skip}, .inputs_n = 2});
    }
    act(b, prefix, "act2");
}

/* Stages of equal blocks; every stage but the first halves the image and doubles the channels. */
static void residual(struct builder *b, int classes, int channels, int stages, int blocks, enum join join) {
    conv_norm(b, "", "conv1", "bn1", scaled(b, channels), 3, 1);
    act(b, "", "act1");
    for (int stage = 0; stage < stages; stage++)
        for (int i = 0; i < blocks; i++) {
            char prefix[32];
            snprintf(prefix, sizeof prefix, "layer%d.%d", stage + 1, i);
            block(b, prefix, scaled(b, channels << stage), stage > 0 && i == 0 ? 2 : 1, join);
        }
    head(b, classes);
}

static void build_cifar_resnet(struct builder *b, int classes, int depth) {
    residual(b, classes, 16, 3, (depth - 2) / 6, b->model->shortcut == SHORTCUT_B ? JOIN_PROJECT : JOIN_PAD);
}

static void build_cifar_plain(struct builder *b, int classes, int depth) {
    residual(b, classes, 16, 3, (depth - 2) / 6, JOIN_NONE);
}

static void build_resnet18(struct builder *b, int classes, int depth) {
    residual(b, classes, 64, 4, (depth - 2) / 8, JOIN_PROJECT);
}

/* C5, a 5x5 convolution of a 5x5 image in the paper, is the linear layer fc1 here, so that other image sizes work too. */
static void build_lenet5(struct builder *b, int classes, int depth) {
    (void)depth;
    conv(b, "", "conv1", scaled(b, 6), 5, 1, 0, true);
    act(b, "", "act1");
    avg_pool2(b, "pool1");
    conv(b, "", "conv2", scaled(b, 16), 5, 1, 0, true);
    act(b, "", "act2");
    avg_pool2(b, "pool2");
    add(b, "", "flatten", (struct graph_node){.op = OP_FLATTEN});
    linear(b, "fc1", scaled(b, 120));
    act(b, "", "act3");
    linear(b, "fc2", scaled(b, 84));
    act(b, "", "act4");
    linear(b, "fc3", classes);
    add(b, "", "loss", (struct graph_node){.op = OP_LOSS});
}

#define HE "He, Zhang, Ren, Sun: Deep residual learning for image recognition (2015)"
#define LECUN "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition (1998)"

/* name, title, paper, residual, builder, depth: the weighted layers */
#define PRESETS(X)                                                                          \
    X("resnet8", "ResNet-8 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 8)       \
    X("resnet14", "ResNet-14 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 14)    \
    X("resnet20", "ResNet-20 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 20)    \
    X("resnet32", "ResNet-32 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 32)    \
    X("resnet44", "ResNet-44 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 44)    \
    X("resnet56", "ResNet-56 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 56)    \
    X("resnet110", "ResNet-110 (CIFAR)", HE ", section 4.2", true, build_cifar_resnet, 110) \
    X("plain20", "Plain-20 (CIFAR)", HE ", section 4.2", false, build_cifar_plain, 20)      \
    X("plain32", "Plain-32 (CIFAR)", HE ", section 4.2", false, build_cifar_plain, 32)      \
    X("plain44", "Plain-44 (CIFAR)", HE ", section 4.2", false, build_cifar_plain, 44)      \
    X("plain56", "Plain-56 (CIFAR)", HE ", section 4.2", false, build_cifar_plain, 56)      \
    X("resnet18", "ResNet-18 (CIFAR stem)", HE ", table 1", true, build_resnet18, 18)       \
    X("lenet5", "LeNet-5", LECUN, false, build_lenet5, 5)

static const struct graph_preset cards[] = {
#define PRESET_CARD(name, title, paper, residual, build, depth) {name, title, paper, residual},
    PRESETS(PRESET_CARD)
#undef PRESET_CARD
};

/* Stands in the order of cards. */
static const struct recipe {
    void (*build)(struct builder *b, int classes, int depth);
    int depth;
} recipes[] = {
#define PRESET_RECIPE(name, title, paper, residual, build, depth) {build, depth},
    PRESETS(PRESET_RECIPE)
#undef PRESET_RECIPE
};

static const char *const names[] = {
#define PRESET_NAME(name, title, paper, residual, build, depth) name,
    PRESETS(PRESET_NAME)
#undef PRESET_NAME
};

enum { PRESETS_N = sizeof cards / sizeof cards[0] };

const struct graph_preset *graph_presets(size_t *ret_n) {
    *ret_n = PRESETS_N;
    return cards;
}

static int find(const char *name, struct err *err) {
    for (int i = 0; i < PRESETS_N; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    const char *near = json_nearest(name, names, PRESETS_N);
    if (near != NULL)
        return err_at(err, ERR_FIELD, "/model/preset", "There is no preset '%s'; did you mean '%s'?", name, near);
    return err_at(err, ERR_FIELD, "/model/preset",
                  "There is no preset '%s'; known ones are resnet20, plain20, resnet18, lenet5, ...", name);
}

int graph_build(const struct spec_model *model, struct graph_shape input, int classes, struct graph **ret_graph,
                struct err *err) {
    int i = find(model->preset, err);
    if (i < 0)
        return -1;
    if (!(model->width > 0.0 && model->width <= 64.0))
        return err_at(err, ERR_FIELD, "/model/width", "The width %g is not above 0 and at most 64", model->width);
    struct graph *graph = graph_new(cards[i].title, input, err);
    if (graph == NULL)
        return -1;
    struct builder b = {.graph = graph, .model = model, .err = err, .at = 0};
    recipes[i].build(&b, classes, recipes[i].depth);
    if (b.at < 0) {
        graph_free(graph);
        return -1;
    }
    *ret_graph = graph;
    return 0;
}
