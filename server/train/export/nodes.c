/* The network's layers as ONNX nodes: see nodes.h. A value of one pixel goes through ONNX in two forms, flat [N,C], as Gemm wants
 * it, and [N,C,1,1]; it is turned over where a layer wants the other one. */
#include "server/train/export/nodes.h"

#include <stdlib.h>
#include <string.h>

struct value {
    char *image, *flat; /* names of the forms there are; NULL: not made yet */
};

struct writing {
    struct build *build;
    const struct graph *graph;
    struct value *values; /* of each node */
    char **params;        /* the names of their tensors */
    int logits;           /* the node whose flat form is the output */
};

/* Node names are unique and a part has no slash, so all names differ. */
static char *name_part(const struct writing *w, int node, const char *part) {
    return build_text(w->build, "%s/%s", w->graph->nodes[node].name, part);
}

static char *flat_name(const struct writing *w, int node, const char *part) {
    return node == w->logits ? build_text(w->build, "logits") : name_part(w, node, part);
}

static struct graph_shape in_shape(const struct writing *w, int node) {
    return w->graph->nodes[w->graph->nodes[node].inputs[0]].out;
}

/* --- the forms of a value --- */

static char *as_flat(const struct writing *w, int node) {
    struct value *value = &w->values[node];
    if (value->flat == NULL) {
        value->flat = flat_name(w, node, "flat");
        build_node(w->build, "Flatten", (char *[]){value->image, NULL}, value->flat);
    }
    return value->flat;
}

/* A reshape that keeps the number of images. */
static char *reshape(const struct writing *w, int node, const char *part, char *input, const int64_t *to, size_t n) {
    char *output = name_part(w, node, part);
    char *shape = build_whole(w->build, build_text(w->build, "%s/%s_shape", w->graph->nodes[node].name, part), to, n);
    build_node(w->build, "Reshape", (char *[]){input, shape, NULL}, output);
    return output;
}

static char *as_image(const struct writing *w, int node) {
    struct value *value = &w->values[node];
    if (value->image == NULL)
        value->image = reshape(w, node, "image", value->flat, (int64_t[]){0, w->graph->nodes[node].out.c, 1, 1}, 4);
    return value->image;
}

/* For a layer that keeps the form of its input: the name of input i in it. */
static char *as_it_is(const struct writing *w, int node) {
    return w->values[node].flat != NULL ? w->values[node].flat : w->values[node].image;
}

/* The name of a layer's output in the form given, noted as such. */
static char *output_name(const struct writing *w, int node, bool flat) {
    char *name = flat ? flat_name(w, node, "out") : name_part(w, node, "out");
    w->values[node] = flat ? (struct value){.flat = name} : (struct value){.image = name};
    return name;
}

static bool is_flat(const struct writing *w, int node) {
    return w->values[node].flat != NULL;
}

/* --- layers --- */

static char *param(const struct writing *w, int node, enum graph_role role) {
    const struct graph_node *layer = &w->graph->nodes[node];
    for (int i = 0; i < layer->params_n; i++)
        if (w->graph->params[layer->params[i]].role == role)
            return w->params[layer->params[i]];
    return NULL; /* ends the list of inputs: a bias that is not there is the last one */
}

static void add_window(const struct writing *w, Onnx__NodeProto *onnx, const struct graph_node *layer) {
    int64_t kernel[] = {layer->window.kernel_h, layer->window.kernel_w},
            stride[] = {layer->window.stride_h, layer->window.stride_w};
    int64_t pad_h = layer->window.pad_h, pad_w = layer->window.pad_w, pads[] = {pad_h, pad_w, pad_h, pad_w};
    build_ints(w->build, onnx, "kernel_shape", kernel, 2);
    build_ints(w->build, onnx, "strides", stride, 2);
    build_ints(w->build, onnx, "pads", pads, 4);
}

static void add_conv(const struct writing *w, int node) {
    const struct graph_node *layer = &w->graph->nodes[node];
    int64_t dilation[] = {layer->window.dilation_h, layer->window.dilation_w};
    char *inputs[] = {as_image(w, layer->inputs[0]), param(w, node, ROLE_WEIGHT), param(w, node, ROLE_BIAS), NULL};
    Onnx__NodeProto *onnx = build_node(w->build, "Conv", inputs, output_name(w, node, false));
    add_window(w, onnx, layer);
    build_ints(w->build, onnx, "dilations", dilation, 2);
    build_int(w->build, onnx, "group", layer->window.groups);
}

static void add_norm(const struct writing *w, int node) {
    const struct graph_node *layer = &w->graph->nodes[node];
    int from = layer->inputs[0];
    char *inputs[] = {as_it_is(w, from),
                      param(w, node, ROLE_GAMMA),
                      param(w, node, ROLE_BETA),
                      param(w, node, ROLE_RUNNING_MEAN),
                      param(w, node, ROLE_RUNNING_VAR),
                      NULL};
    Onnx__NodeProto *onnx = build_node(w->build, "BatchNormalization", inputs, output_name(w, node, is_flat(w, from)));
    build_float(w->build, onnx, "epsilon", layer->epsilon);
}

/* A constant of n equal numbers. */
static char *constants(const struct writing *w, char *name, int n, double number) {
    double *values = build_alloc(w->build, (size_t)n * sizeof *values);
    for (int i = 0; values != NULL && i < n; i++)
        values[i] = number;
    return build_floats(w->build, name, &(int64_t){n}, 1, values);
}

/* gamma or beta of group norm as [C,1,1], to be applied channel by channel. */
static char *per_channel(const struct writing *w, int node, const char *part, enum graph_role role) {
    char *shape =
        build_whole(w->build, build_text(w->build, "%s/%s_shape", w->graph->nodes[node].name, part), (int64_t[]){-1, 1, 1}, 3);
    char *name = name_part(w, node, part);
    build_node(w->build, "Reshape", (char *[]){param(w, node, role), shape, NULL}, name);
    return name;
}

/* Opset 17 has no group normalization; instance normalization of groups as channels is the same. */
static void add_group_norm(const struct writing *w, int node) {
    const struct graph_node *layer = &w->graph->nodes[node];
    int groups = layer->window.groups;
    char *grouped = reshape(w, node, "grouped", as_image(w, layer->inputs[0]), (int64_t[]){0, groups, -1}, 3);
    char *ones = constants(w, name_part(w, node, "ones"), groups, 1),
         *zeros = constants(w, name_part(w, node, "zeros"), groups, 0);
    char *normal = name_part(w, node, "normal"), *scaled = name_part(w, node, "scaled");
    Onnx__NodeProto *onnx = build_node(w->build, "InstanceNormalization", (char *[]){grouped, ones, zeros, NULL}, normal);
    build_float(w->build, onnx, "epsilon", layer->epsilon);
    char *whole = reshape(w, node, "whole", normal, (int64_t[]){0, layer->out.c, layer->out.h, layer->out.w}, 4);
    build_node(w->build, "Mul", (char *[]){whole, per_channel(w, node, "gamma", ROLE_GAMMA), NULL}, scaled);
    build_node(w->build, "Add", (char *[]){scaled, per_channel(w, node, "beta", ROLE_BETA), NULL}, output_name(w, node, false));
}

static char *number(const struct writing *w, int node, const char *part, double value) {
    return build_floats(w->build, name_part(w, node, part), NULL, 0, &value);
}

/* x/2 (1 + erf(x / sqrt 2)) */
static void add_gelu(const struct writing *w, int node, char *input, char *output) {
    char *scaled = name_part(w, node, "scaled"), *erf = name_part(w, node, "erf"), *shifted = name_part(w, node, "shifted");
    char *half = name_part(w, node, "half"), *root = number(w, node, "root", 0.70710678118654752440);
    build_node(w->build, "Mul", (char *[]){input, root, NULL}, scaled);
    build_node(w->build, "Erf", (char *[]){scaled, NULL}, erf);
    build_node(w->build, "Add", (char *[]){erf, number(w, node, "one", 1), NULL}, shifted);
    build_node(w->build, "Mul", (char *[]){input, number(w, node, "factor", 0.5), NULL}, half);
    build_node(w->build, "Mul", (char *[]){half, shifted, NULL}, output);
}

static void add_silu(const struct writing *w, int node, char *input, char *output) {
    char *sigmoid = name_part(w, node, "sigmoid");
    build_node(w->build, "Sigmoid", (char *[]){input, NULL}, sigmoid);
    build_node(w->build, "Mul", (char *[]){input, sigmoid, NULL}, output);
}

static void add_activation(const struct writing *w, int node) {
    const struct graph_node *layer = &w->graph->nodes[node];
    int from = layer->inputs[0];
    char *input = as_it_is(w, from), *output = output_name(w, node, is_flat(w, from)), *inputs[] = {input, NULL};
    switch (layer->activation) {
    case ACTIVATION_RELU:
        build_node(w->build, "Relu", inputs, output);
        break;
    case ACTIVATION_LEAKY_RELU:
        build_float(w->build, build_node(w->build, "LeakyRelu", inputs, output), "alpha", 0.01);
        break;
    case ACTIVATION_ELU:
        build_float(w->build, build_node(w->build, "Elu", inputs, output), "alpha", 1);
        break;
    case ACTIVATION_GELU:
        add_gelu(w, node, input, output);
        break;
    case ACTIVATION_SILU:
        add_silu(w, node, input, output);
        break;
    case ACTIVATION_SIGMOID:
        build_node(w->build, "Sigmoid", inputs, output);
        break;
    case ACTIVATION_TANH:
        build_node(w->build, "Tanh", inputs, output);
        break;
    case ACTIVATION_IDENTITY:
        build_node(w->build, "Identity", inputs, output);
        break;
    }
}

/* Flat only if all inputs are. */
static Onnx__NodeProto *add_join(const struct writing *w, int node, const char *op) {
    const struct graph_node *layer = &w->graph->nodes[node];
    char *inputs[GRAPH_INPUTS_MAX + 1] = {NULL};
    bool flat = true;
    for (int i = 0; i < layer->inputs_n; i++)
        flat = flat && is_flat(w, layer->inputs[i]);
    for (int i = 0; i < layer->inputs_n; i++)
        inputs[i] = flat ? as_flat(w, layer->inputs[i]) : as_image(w, layer->inputs[i]);
    return build_node(w->build, op, inputs, output_name(w, node, flat));
}

static void add_pool(const struct writing *w, int node, const char *op) {
    const struct graph_node *layer = &w->graph->nodes[node];
    add_window(w, build_node(w->build, op, (char *[]){as_image(w, layer->inputs[0]), NULL}, output_name(w, node, false)), layer);
}

static void add_gap(const struct writing *w, int node) {
    char *input = as_image(w, w->graph->nodes[node].inputs[0]);
    build_node(w->build, "GlobalAveragePool", (char *[]){input, NULL}, output_name(w, node, false));
}

static char *slice(const struct writing *w, int node, char *input, char *output) {
    const struct graph_node *layer = &w->graph->nodes[node];
    struct graph_shape in = in_shape(w, node);
    char *starts = build_whole(w->build, name_part(w, node, "starts"), (int64_t[]){0, 0}, 2);
    char *ends = build_whole(w->build, name_part(w, node, "ends"), (int64_t[]){in.h, in.w}, 2);
    char *axes = build_whole(w->build, name_part(w, node, "axes"), (int64_t[]){2, 3}, 2);
    char *steps =
        build_whole(w->build, name_part(w, node, "steps"), (int64_t[]){layer->window.stride_h, layer->window.stride_w}, 2);
    build_node(w->build, "Slice", (char *[]){input, starts, ends, axes, steps, NULL}, output);
    return output;
}

static void add_shortcut(const struct writing *w, int node) {
    int64_t more = w->graph->nodes[node].out.c - in_shape(w, node).c;
    char *input = as_image(w, w->graph->nodes[node].inputs[0]), *output = output_name(w, node, false);
    char *sliced = slice(w, node, input, more > 0 ? name_part(w, node, "sliced") : output);
    if (more > 0)
        nodes_pad(w->build, w->graph->nodes[node].name, sliced, (int64_t[]){0, 0, 0, 0, 0, more, 0, 0}, output);
}

char *nodes_pad(struct build *build, const char *prefix, char *input, const int64_t pads[8], char *output) {
    char *sizes = build_whole(build, build_text(build, "%s/pads", prefix), pads, 8);
    Onnx__NodeProto *onnx = build_node(build, "Pad", (char *[]){input, sizes, NULL}, output);
    (void)onnx; /* constant zeros are its default */
    return output;
}

static void add_linear(const struct writing *w, int node) {
    char *inputs[] = {as_flat(w, w->graph->nodes[node].inputs[0]), param(w, node, ROLE_WEIGHT), param(w, node, ROLE_BIAS), NULL};
    build_int(w->build, build_node(w->build, "Gemm", inputs, output_name(w, node, true)), "transB", 1);
}

static void add_softmax(const struct writing *w, int node) {
    char *logits = as_flat(w, w->graph->nodes[node].inputs[0]);
    build_int(w->build, build_node(w->build, "Softmax", (char *[]){logits, NULL}, build_text(w->build, "softmax")), "axis", 1);
}

static void add_layer(const struct writing *w, int node, char *image) {
    const struct graph_node *layer = &w->graph->nodes[node];
    switch (layer->op) {
    case OP_INPUT:
        w->values[node].image = image;
        break;
    case OP_CONV:
        add_conv(w, node);
        break;
    case OP_NORM:
        add_norm(w, node);
        break;
    case OP_GROUP_NORM:
        add_group_norm(w, node);
        break;
    case OP_ACT:
        add_activation(w, node);
        break;
    case OP_ADD:
        add_join(w, node, "Sum");
        break;
    case OP_CONCAT:
        build_int(w->build, add_join(w, node, "Concat"), "axis", 1);
        break;
    case OP_POOL_MAX:
        add_pool(w, node, "MaxPool");
        break;
    case OP_POOL_AVG: /* padding does not count, which is the default */
        add_pool(w, node, "AveragePool");
        break;
    case OP_GAP:
        add_gap(w, node);
        break;
    case OP_SHORTCUT:
        add_shortcut(w, node);
        break;
    case OP_FLATTEN:
        build_node(w->build, "Flatten", (char *[]){as_it_is(w, layer->inputs[0]), NULL}, output_name(w, node, true));
        break;
    case OP_LINEAR:
        add_linear(w, node);
        break;
    case OP_DROPOUT: /* the same value */
        w->values[node] = w->values[layer->inputs[0]];
        break;
    case OP_LOSS:
        add_softmax(w, node);
        break;
    }
}

static void add_params(const struct writing *w, const struct export_model *model) {
    for (int i = 0; i < w->graph->params_n; i++) {
        const struct graph_param *row = &w->graph->params[i];
        int64_t dims[4] = {0};
        for (int d = 0; d < row->dims; d++)
            dims[d] = row->shape[d];
        w->params[i] = build_tensor(w->build, build_text(w->build, "%s", row->name), dims, (size_t)row->dims, model->values[i]);
    }
}

/* The layer that makes the logits: dropout makes nothing. */
static int find_logits(const struct graph *graph) {
    int node = graph->nodes[graph->nodes_n - 1].inputs[0];
    while (graph->nodes[node].op == OP_DROPOUT)
        node = graph->nodes[node].inputs[0];
    return node;
}

void nodes_add(struct build *build, const struct export_model *model, char *image) {
    const struct graph *graph = model->graph;
    struct writing w = {.build = build, .graph = graph, .logits = find_logits(graph)};
    w.values = build_alloc(build, (size_t)graph->nodes_n * sizeof *w.values);
    w.params = build_alloc(build, (size_t)graph->params_n * sizeof *w.params);
    if (build->failed)
        return;
    add_params(&w, model);
    for (int i = 0; i < graph->nodes_n && !build->failed; i++)
        add_layer(&w, i, image);
}
