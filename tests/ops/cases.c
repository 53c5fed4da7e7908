/* The case table of the op tests, and the reader of its words. */
#include "tests/ops/cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes are odd on purpose; channel counts are below, at and above what blocked layouts like (8 and 16). */
const struct op_case op_cases[] = {
    {"linear only", {3, 2, 2}, 4, "flatten"},
    {"linear of one image", {7, 1, 1}, 1, "linear o=3 bias"},
    {"linear without bias", {17, 1, 1}, 3, "linear o=9; act kind=tanh; linear o=6 bias"},
    {"linear layers and relu", {1, 5, 5}, 6, "flatten; linear o=33 bias; act kind=relu; linear o=16 bias; act kind=relu"},

    {"conv 1x1", {3, 5, 5}, 3, "conv o=4 k=1"},
    {"conv 3x3 padding 1", {3, 7, 5}, 3, "conv o=6 k=3 p=1 bias"},
    {"conv 3x3 no padding", {2, 5, 9}, 2, "conv o=5 k=3"},
    {"conv 3x3 stride 2", {3, 7, 9}, 4, "conv o=5 k=3 s=2 p=1"},
    {"conv 3x3 stride 2 on an even image", {3, 8, 6}, 3, "conv o=5 k=3 s=2 p=1; conv o=8 k=3 s=2 p=1"},
    {"conv 1x1 stride 2", {3, 7, 7}, 3, "conv o=8 k=3 p=1; conv o=16 k=1 s=2"},
    {"conv 5x5 padding 2", {2, 9, 7}, 2, "conv o=4 k=5 p=2 bias"},
    {"conv 3x5, stride 2x1, padding 1x2", {2, 9, 7}, 3, "conv o=3 k=3x5 s=2x1 p=1x2 bias"},
    {"conv stride 3", {2, 11, 10}, 2, "conv o=4 k=2 s=3"},
    {"conv dilation 2", {2, 9, 9}, 2, "conv o=4 k=3 p=2 d=2 bias"},
    {"conv groups 2", {3, 5, 5}, 3, "conv o=8 k=3 p=1; conv o=6 k=3 p=1 g=2 bias"},
    {"conv depthwise", {3, 7, 6}, 3, "conv o=9 k=1; conv o=9 k=3 s=2 p=1 g=9"},
    {"conv of one image", {3, 6, 5}, 1, "conv o=7 k=3 p=1 bias; conv o=5 k=3"},
    {"conv to one pixel", {2, 3, 3}, 2, "conv o=19 k=3 bias; conv o=17 k=1"},
    {"conv with 16 and 32 channels", {3, 8, 8}, 4, "conv o=16 k=3 p=1; conv o=32 k=3 s=2 p=1; conv o=16 k=1"},
    {"conv on one grey channel", {1, 9, 9}, 3, "conv o=16 k=3 p=1; conv o=1 k=3 p=1 bias"},
    {"conv larger than the image", {2, 2, 3}, 2, "conv o=3 k=5 p=2"},

    {"norm of images", {3, 5, 5}, 4, "norm"},
    {"conv of many channels", {3, 9, 8}, 4, "conv o=32 k=3 p=1; conv o=48 k=3 p=1; conv o=64 k=3"},
    {"residual block of 32 channels, then a biased conv (rough)",
     {3, 9, 7},
     4,
     "conv o=32 k=3 p=1; norm; act kind=relu; conv o=32 k=3 p=1; norm; act kind=relu; conv o=32 k=3 p=1; norm; add in=8,3; "
     "act kind=relu; conv o=48 k=3 p=1 bias; act kind=relu; conv o=48 k=3 p=1; add in=12,13"},
    {"norm behind conv", {3, 7, 5}, 4, "conv o=6 k=3 p=1; norm"},
    {"norm of one image", {3, 5, 5}, 1, "conv o=4 k=3; norm"},
    {"norm of single pixels", {3, 3, 3}, 5, "conv o=8 k=3; norm; act kind=relu"},
    {"norm, tanh, norm (rough)", {2, 5, 3}, 4, "conv o=5 k=1; norm; act kind=tanh; norm"},
    {"norm on a shared input", {3, 5, 5}, 3, "conv o=4 k=3 p=1; norm; norm in=1; add in=2,3"},

    {"group_norm, 2 groups", {3, 7, 5}, 4, "conv o=6 k=3 p=1; group g=2"},
    {"group_norm, 1 group", {3, 5, 7}, 3, "conv o=5 k=3 p=1 bias; group g=1"},
    {"group_norm, a group for each channel", {3, 5, 5}, 3, "conv o=7 k=3 p=1; group g=7; act kind=silu"},
    {"group_norm of images", {3, 5, 3}, 3, "group g=3; conv o=4 k=3"},
    {"group_norm of one image, odd groups", {3, 6, 5}, 1, "conv o=15 k=3 p=1 bias; group g=5; act kind=tanh; conv o=3 k=1"},
    {"group_norm of 32 channels", {3, 8, 8}, 4, "conv o=32 k=3 p=1; group g=4; act kind=gelu; conv o=48 k=3 s=2 p=1; group g=16"},
    {"group_norm of groups that cross blocks", {3, 5, 6}, 3, "conv o=36 k=3 p=1; group g=3; act kind=silu; conv o=24 k=1"},
    {"group_norm of vectors", {11, 1, 1}, 4, "linear o=12 bias; group g=2; act kind=tanh"},
    {"group_norm, relu (rough)", {3, 8, 7}, 4, "conv o=16 k=3 p=1; group g=4; act kind=relu; conv o=8 k=3 p=1; group g=2"},
    {"group_norm beside batch norm", {3, 5, 5}, 4, "conv o=8 k=3 p=1; norm; group g=2 in=1; add in=2,3; act kind=gelu"},
    {"residual block with group_norm and silu",
     {3, 8, 8},
     3,
     "conv o=16 k=3 p=1; group g=4; act kind=silu; conv o=16 k=3 p=1; group g=8; add in=5,3; act kind=silu; gap"},

    {"relu", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=relu"},
    {"relu of images", {3, 4, 5}, 3, "act kind=relu"},
    {"leaky_relu", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=leaky_relu"},
    {"elu", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=elu"},
    {"gelu", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=gelu"},
    {"silu", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=silu"},
    {"sigmoid", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=sigmoid"},
    {"tanh", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=tanh"},
    {"identity", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=identity; conv o=3 k=1"},
    {"activation twice", {3, 5, 5}, 3, "conv o=5 k=3 p=1; act kind=relu; act kind=tanh"},
    {"norm and silu", {3, 6, 5}, 4, "conv o=5 k=3 p=1; norm; act kind=silu; conv o=4 k=3"},
    {"norm and gelu on odd channels", {3, 6, 5}, 4, "conv o=17 k=3 p=1; norm; act kind=gelu"},

    {"add", {3, 5, 5}, 3, "conv o=4 k=3 p=1; conv o=4 k=1 in=0; add in=1,2"},
    {"add twice the same", {3, 5, 5}, 3, "conv o=4 k=3 p=1; add in=1,1"},
    {"add three", {3, 5, 5}, 3, "conv o=4 k=1; conv o=4 k=3 p=1; conv o=4 k=1 in=0; add in=1,2,3; act kind=relu"},
    {"add the images", {3, 5, 5}, 3, "conv o=3 k=3 p=1; add in=1,0"},
    {"add behind relu", {3, 5, 5}, 3, "conv o=4 k=1; act kind=relu; conv o=4 k=3 p=1 in=2; act kind=relu; add in=4,2"},
    {"add of vectors", {6, 1, 1}, 4, "linear o=8 bias; linear o=8 bias; add in=1,2; act kind=relu"},

    {"concat", {3, 5, 5}, 3, "conv o=4 k=3 p=1; conv o=7 k=1 in=0; concat in=1,2; conv o=5 k=3"},
    {"concat of three, the images among them", {3, 5, 4}, 2, "conv o=8 k=1; conv o=16 k=3 p=1; concat in=0,1,2"},
    {"concat twice the same", {3, 5, 5}, 3, "conv o=4 k=3 p=1; concat in=1,1; conv o=6 k=1"},
    {"concat of one", {3, 5, 5}, 2, "conv o=4 k=3 p=1; concat in=1"},

    {"max_pool 2x2", {3, 8, 6}, 3, "conv o=5 k=3 p=1; max k=2 s=2"},
    {"max_pool 3x3 stride 2 padding 1", {3, 9, 7}, 3, "conv o=5 k=3 p=1; max k=3 s=2 p=1"},
    {"max_pool overlapping", {2, 6, 7}, 2, "conv o=4 k=1; max k=3x2 s=1x1"},
    {"max_pool with rest (rough)", {2, 7, 9}, 3, "conv o=16 k=1; norm; act kind=relu; max k=2 s=2"},
    {"avg_pool 2x2", {3, 8, 6}, 3, "conv o=5 k=3 p=1; avg k=2 s=2"},
    {"avg_pool 3x3 stride 2 padding 1", {3, 9, 7}, 3, "conv o=5 k=3 p=1; avg k=3 s=2 p=1"},
    {"avg_pool 2x3 stride 1x2", {3, 5, 7}, 2, "conv o=16 k=1; avg k=2x3 s=1x2 p=0x1; conv o=3 k=1"},
    {"pools of images", {3, 6, 6}, 3, "max k=2 s=2; avg k=2 s=2 in=0; add in=1,2"},
    {"global_avg_pool", {3, 7, 5}, 3, "conv o=9 k=3 p=1; gap"},
    {"global_avg_pool of images", {3, 7, 5}, 2, "gap"},
    {"global_avg_pool of one pixel", {4, 1, 1}, 3, "conv o=6 k=1; gap"},

    {"shortcut stride 2, more channels", {3, 8, 8}, 3, "conv o=4 k=3 p=1; shortcut o=7 s=2"},
    {"shortcut on an odd image", {3, 7, 5}, 3, "conv o=16 k=3 p=1; shortcut o=32 s=2; conv o=5 k=1"},
    {"shortcut stride 1", {3, 5, 5}, 2, "conv o=4 k=3 p=1; shortcut o=9 s=1"},
    {"shortcut without new channels", {3, 7, 7}, 2, "conv o=4 k=3 p=1; shortcut o=4 s=3"},
    {"shortcut of images", {3, 6, 6}, 3, "conv o=5 k=3 s=2 p=1; shortcut o=5 s=2 in=0; add in=1,2"},

    {"dropout of 25 and of 16 pixels", {3, 5, 5}, 4, "conv o=5 k=3 p=1; dropout rate=0.5; conv o=20 k=2; dropout rate=0.25"},
    {"dropout of vectors",
     {11, 1, 1},
     5,
     "linear o=13 bias; act kind=relu; dropout rate=0.25; linear o=6 bias; dropout rate=0.1"},
    {"dropout rate 0", {3, 5, 5}, 2, "conv o=5 k=3 p=1; dropout rate=0"},

    {"flatten before conv ends", {3, 4, 5}, 3, "conv o=17 k=3; flatten; act kind=relu; linear o=7 bias"},

    {"conv, norm, relu (rough)", {3, 9, 7}, 4, "conv o=16 k=3 p=1; norm; act kind=relu; conv o=8 k=3 p=1; norm; act kind=relu"},
    {"relu output used twice",
     {3, 6, 6},
     3,
     "conv o=8 k=3 p=1; norm; act kind=relu; conv o=8 k=3 p=1; conv o=8 k=1 in=3; add in=4,5"},
    {"norm output used beside its relu", {3, 6, 6}, 3, "conv o=8 k=3 p=1; norm; act kind=relu; conv o=8 k=1; add in=2,4"},
    {"conv output used beside its norm",
     {3, 6, 6},
     3,
     "conv o=8 k=3 p=1; norm; act kind=relu; conv o=8 k=3 p=1 in=1; add in=3,4"},
    {"residual block (rough)",
     {3, 8, 8},
     4,
     "conv o=16 k=3 p=1; norm; act kind=relu; conv o=16 k=3 p=1; norm; act kind=relu; conv o=16 k=3 p=1; norm; add in=8,3;"
     "act kind=relu; gap"},
    {"residual block, option A (rough)",
     {3, 9, 9},
     4,
     "conv o=16 k=3 p=1; norm; act kind=relu; conv o=32 k=3 s=2 p=1; norm; act kind=relu; conv o=32 k=3 p=1; norm;"
     "shortcut o=32 s=2 in=3; add in=8,9; act kind=relu; gap"},
    {"residual block, option B (rough)",
     {3, 8, 8},
     4,
     "conv o=16 k=3 p=1; norm; act kind=relu; conv o=24 k=3 s=2 p=1; norm; act kind=relu; conv o=24 k=3 p=1; norm;"
     "conv o=24 k=1 s=2 in=3; norm; add in=8,10; act kind=relu; gap"},
    {"residual block of one image without norm (rough)",
     {3, 7, 7},
     1,
     "conv o=8 k=3 p=1 bias; act kind=relu; conv o=8 k=3 p=1 bias; act kind=relu; conv o=8 k=3 p=1 bias; add in=5,2; act "
     "kind=relu"},
    {"residual block of one image without norm, smooth",
     {3, 7, 7},
     1,
     "conv o=8 k=3 p=1 bias; act kind=silu; conv o=8 k=3 p=1 bias; act kind=silu; conv o=8 k=3 p=1 bias; add in=5,2; act "
     "kind=silu"},
    {"residual block with silu",
     {3, 8, 8},
     4,
     "conv o=16 k=3 p=1; norm; act kind=silu; conv o=16 k=3 p=1; norm; act kind=silu; conv o=16 k=3 p=1; norm; add in=8,3;"
     "act kind=silu; gap"},
    {"lenet",
     {1, 16, 16},
     5,
     "conv o=6 k=5 bias; act kind=tanh; avg k=2 s=2; conv o=16 k=5 bias; act kind=tanh; avg k=2 s=2; flatten; linear o=20 bias;"
     "act kind=tanh"},
};
const size_t op_cases_n = sizeof op_cases / sizeof op_cases[0];

bool case_is_rough(const struct op_case *op_case) {
    return strstr(op_case->name, "(rough)") != NULL;
}

static const struct {
    const char *word;
    enum graph_op op;
} ops[] = {{"conv", OP_CONV},       {"norm", OP_NORM},     {"group", OP_GROUP_NORM}, {"act", OP_ACT}, {"add", OP_ADD},
           {"concat", OP_CONCAT},   {"max", OP_POOL_MAX},  {"avg", OP_POOL_AVG},     {"gap", OP_GAP}, {"shortcut", OP_SHORTCUT},
           {"flatten", OP_FLATTEN}, {"linear", OP_LINEAR}, {"dropout", OP_DROPOUT}};

static int read_op(const char *word, struct graph_node *node) {
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(word, ops[i].word) == 0) {
            node->op = ops[i].op;
            return 0;
        }
    return -1;
}

/* "3" or "3x5" */
static void read_pair(const char *text, int *ret_h, int *ret_w) {
    char *end;
    *ret_h = *ret_w = (int)strtol(text, &end, 10);
    if (*end == 'x')
        *ret_w = (int)strtol(end + 1, NULL, 10);
}

static int read_kind(const char *text, struct graph_node *node) {
    for (int kind = ACTIVATION_RELU; kind <= ACTIVATION_IDENTITY; kind++)
        if (strcmp(text, spec_activation_name((enum spec_activation)kind)) == 0) {
            node->activation = (enum spec_activation)kind;
            return 0;
        }
    return -1;
}

static void read_inputs(const char *text, struct graph_node *node) {
    node->inputs_n = 0;
    for (char *end; *text != '\0'; text = *end == ',' ? end + 1 : end)
        node->inputs[node->inputs_n++] = (int)strtol(text, &end, 10);
}

static int read_word(char *word, struct graph_node *node) {
    if (strcmp(word, "bias") == 0) {
        node->bias = true;
        return 0;
    }
    char *value = strchr(word, '=');
    if (value == NULL)
        return -1;
    *value++ = '\0';
    if (strcmp(word, "o") == 0)
        node->channels_out = (int)strtol(value, NULL, 10);
    else if (strcmp(word, "k") == 0)
        read_pair(value, &node->window.kernel_h, &node->window.kernel_w);
    else if (strcmp(word, "s") == 0)
        read_pair(value, &node->window.stride_h, &node->window.stride_w);
    else if (strcmp(word, "p") == 0)
        read_pair(value, &node->window.pad_h, &node->window.pad_w);
    else if (strcmp(word, "d") == 0)
        read_pair(value, &node->window.dilation_h, &node->window.dilation_w);
    else if (strcmp(word, "g") == 0)
        node->window.groups = (int)strtol(value, NULL, 10);
    else if (strcmp(word, "rate") == 0)
        node->rate = strtod(value, NULL);
    else if (strcmp(word, "in") == 0)
        read_inputs(value, node);
    else
        return strcmp(word, "kind") == 0 ? read_kind(value, node) : -1;
    return 0;
}

static int add_layer(struct graph *graph, char *text, struct err *err) {
    struct graph_node node = {.epsilon = 1e-5, .momentum = 0.1, .inputs = {graph->nodes_n - 1}, .inputs_n = 1};
    node.window.stride_h = node.window.stride_w = node.window.dilation_h = node.window.dilation_w = node.window.groups = 1;
    char *rest, *word = strtok_r(text, " ", &rest);
    if (word == NULL || read_op(word, &node) < 0)
        return err_set(err, ERR_INTERNAL, "'%s' is not an op", word == NULL ? "" : word);
    snprintf(node.name, sizeof node.name, "%d:%s", graph->nodes_n, word);
    while ((word = strtok_r(NULL, " ", &rest)) != NULL)
        if (read_word(word, &node) < 0)
            return err_set(err, ERR_INTERNAL, "'%s' of layer %s is not understood", word, node.name);
    return graph_add(graph, &node, err);
}

static int add_layers(struct graph *graph, const char *layers, struct err *err) {
    char text[512];
    if (snprintf(text, sizeof text, "%s; flatten; linear o=%d bias", layers, CASE_CLASSES) >= (int)sizeof text)
        return err_set(err, ERR_INTERNAL, "the case is too long");
    char *rest, *layer = strtok_r(text, ";", &rest);
    for (; layer != NULL; layer = strtok_r(NULL, ";", &rest))
        if (add_layer(graph, layer, err) < 0)
            return -1;
    struct graph_node loss = {.name = "loss", .op = OP_LOSS, .inputs = {graph->nodes_n - 1}, .inputs_n = 1};
    return graph_add(graph, &loss, err);
}

struct graph *case_build(const struct op_case *op_case, struct err *err) {
    struct graph *graph = graph_new(op_case->name, op_case->input, err);
    if (graph != NULL && add_layers(graph, op_case->layers, err) < 0) {
        graph_free(graph);
        return NULL;
    }
    return graph;
}

int case_subject(const struct op_case *op_case, struct subject *ret_subject, struct err *err) {
    struct graph *graph = case_build(op_case, err);
    if (graph == NULL)
        return -1;
    *ret_subject = (struct subject){.graph = graph, .batch = op_case->batch, .rough = case_is_rough(op_case)};
    return 0;
}

void subject_done(struct subject *subject) {
    graph_free(subject->graph);
    *subject = (struct subject){0};
}
