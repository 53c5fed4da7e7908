/* Door of the graph floor: a model as a list of nodes with inferred shapes, parameters, FLOPs and memory. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/spec.h"

/* --- ir.c: the intermediate representation --- */

/* The table of ops: enum, name in JSON and DOT, number of inputs (0: any number from 1). */
#define GRAPH_OPS(X)                                                                                                        \
    X(OP_INPUT, "input", -1)          /* the normalized images, [C,H,W] */                                                  \
    X(OP_CONV, "conv", 1)             /* cross-correlation, weight [O,I/groups,KH,KW], bias optional */                     \
    X(OP_NORM, "batch_norm", 1)       /* Ioffe and Szegedy 2015; gamma, beta, running mean, running var [C] */              \
    X(OP_GROUP_NORM, "group_norm", 1) /* Wu and He 2018; over window.groups groups of channels; gamma, beta [C]; epsilon */ \
    X(OP_ACT, "activation", 1)                                                                                              \
    X(OP_ADD, "add", 0)       /* two or more inputs of one shape */                                                         \
    X(OP_CONCAT, "concat", 0) /* along channels */                                                                          \
    X(OP_POOL_MAX, "max_pool", 1)                                                                                           \
    X(OP_POOL_AVG, "avg_pool", 1)          /* padding is not counted in the mean */                                         \
    X(OP_GAP, "global_avg_pool", 1)        /* [C,H,W] -> [C,1,1] */                                                         \
    X(OP_SHORTCUT, "shortcut", 1)          /* He et al. 2015, option A: every stride-th pixel, zero channels appended */    \
    X(OP_FLATTEN, "flatten", 1)            /* [C,H,W] -> [C*H*W,1,1], NCHW order */                                         \
    X(OP_LINEAR, "linear", 1)              /* [C,1,1] -> [O,1,1]; weight [O,C], bias [O] */                                 \
    X(OP_DROPOUT, "dropout", 1)            /* Srivastava et al. 2014, inverted: kept values are divided by 1 - rate */      \
    X(OP_LOSS, "softmax_cross_entropy", 1) /* logits [classes,1,1] -> softmax [classes,1,1]; the mean loss is its result */

enum graph_op {
#define GRAPH_ENUM(op, name, inputs) op,
    GRAPH_OPS(GRAPH_ENUM)
#undef GRAPH_ENUM
};

#define GRAPH_COUNT(op, name, inputs) +1
enum { GRAPH_OPS_N = 0 GRAPH_OPS(GRAPH_COUNT) };
#undef GRAPH_COUNT

const char *graph_op_name(enum graph_op op);

struct graph_shape {
    int c, h, w;
};

enum { GRAPH_INPUTS_MAX = 8, GRAPH_NODES_MAX = 4096, GRAPH_NAME_MAX = 64 };

/* Images of a validation or test step: enough to be fast, little enough to need no memory worth mentioning. */
enum { GRAPH_EVALUATION_BATCH = 128 };

/* What a graph may need at most; graph_add refuses more. */
enum {
    GRAPH_PARAMETERS_MAX = 200000000, /* trainable values */
    GRAPH_ACTIVATION_MIB_MAX = 1024,  /* all outputs of one image in f32 */
    GRAPH_SIDE_MAX = 65536            /* channels, height or width of a shape */
};

/* A node. Nodes stand in topological order: inputs[i] < own index. */
struct graph_node {
    char name[GRAPH_NAME_MAX]; /* unique; as PyTorch users would call it: "layer1.0.conv1" */
    enum graph_op op;
    int inputs[GRAPH_INPUTS_MAX], inputs_n;
    struct graph_shape out; /* per image */
    struct {                /* conv, pools, shortcut; kernel_h etc. of one square value by presets */
        int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
    } window;
    int channels_out;                /* conv, linear, shortcut */
    bool bias;                       /* conv, linear */
    enum spec_activation activation; /* act */
    double rate;                     /* dropout */
    double epsilon, momentum; /* group_norm: epsilon 1e-5; norm: 1e-5; running = (1 - momentum) * running + momentum * batch, 0.1
                                 as PyTorch; the running variance takes the unbiased batch variance as PyTorch does (the biased
                                 one, 0, where a channel has a single value) */
    enum spec_init init;      /* conv, linear weights */
    double init_sigma;        /* the deviation that INIT_NORMAL draws with: above 0, at most 100 */
    bool zero_init;           /* norm, group_norm: gamma starts at 0, not 1 (Goyal et al. 2017, section 5.1) */
    int params[4], params_n;  /* indexes into graph->params, in the order of enum graph_role */
    /* inferred */
    int64_t parameters;       /* trainable values */
    int64_t flops;            /* of one image's forward pass; a multiply-add counts as two */
    int64_t activation_bytes; /* of one image's output in f32 */
};

enum graph_role { ROLE_WEIGHT, ROLE_BIAS, ROLE_GAMMA, ROLE_BETA, ROLE_RUNNING_MEAN, ROLE_RUNNING_VAR };

/* A parameter tensor or a running statistic, dense f32. */
struct graph_param {
    char name[GRAPH_NAME_MAX + 16]; /* node name + ".weight", ".bias", ".running_mean", ".running_var" (gamma is .weight) */
    int node;
    enum graph_role role;
    int shape[4], dims;
    size_t count;   /* product of shape */
    bool trainable; /* running statistics are not */
    bool decay;     /* weight decay applies: all trainable ones, as torch.optim.SGD does */
};

struct graph {
    char title[64];
    struct graph_node *nodes;
    int nodes_n; /* the last node is the only OP_LOSS */
    struct graph_param *params;
    int params_n;
    int classes;
    int64_t parameters, flops, activation_bytes; /* sums over nodes */
    json_t *names;                               /* name -> index; see graph_find */
};

/* An empty graph with its input node (index 0, named "input"), or NULL when out of memory. */
struct graph *graph_new(const char *title, struct graph_shape input, struct err *err);
void graph_free(struct graph *graph);

/* Appends a node given by its name, op, inputs and attributes; infers its shape, parameters, FLOPs. Returns its index, or -1 and
 * ERR_SHAPE naming the layer and the shapes that met. *node is copied. */
int graph_add(struct graph *graph, const struct graph_node *node, struct err *err);

/* The index of the node with a name, or -1. */
int graph_find(const struct graph *graph, const char *name);

/* Names the layers, up to three, that a pattern (a name, or with * and ?) is nearest to by edit distance: "'conv1', 'conv2'". */
enum { GRAPH_NEAREST_N = 3, GRAPH_NEAREST_MAX = GRAPH_NEAREST_N * (GRAPH_NAME_MAX + 4) };
void graph_nearest(const struct graph *graph, const char *pattern, char ret_text[GRAPH_NEAREST_MAX]);

/* GiB with two decimals, for texts: what is needed is rounded up and what there is down, so that a text never says that there is
 * more than needed. */
double graph_gib_up(int64_t bytes);
double graph_gib_down(int64_t bytes);

/* --- memory.c --- */

/* Bytes that a job's training and evaluation take on a processor with spec->threads: an upper estimate. For every preset on
 * images of 32 pixels it is not less than backend onednn takes with AVX2 or AVX-512, and at most 1.6 times as much (2 times
 * without shortcuts) and 32 MiB (tests/ops/test_memory.c). Backends plan their own memory and report the real figure. Fails with
 * ERR_MEMORY. */
int graph_memory(const struct graph *graph, const struct spec *spec, int64_t *ret_bytes, struct err *err);

/* --- presets.c --- */

struct graph_preset {
    const char *name, *title, *paper;
    bool residual;
    const struct graph_design *design; /* known to the files that build it */
};

const struct graph_preset *graph_presets(size_t *ret_n);

/* The preset of a name, or NULL and an error with the nearest name. */
const struct graph_preset *graph_preset_find(const char *name, struct err *err);

/* Builds a model, which is a preset with its options or a list of layers, for images of a shape. Errors: ERR_FIELD at the wrong
 * field ("/model/preset", "/model/overrides/0/layers", "/model/layers/3/kernel"), ERR_SHAPE naming the layer. */
int graph_build(const struct spec_model *model, struct graph_shape input, int classes, struct graph **ret_graph, struct err *err);

/* --- layers.c --- */

/* The graph as the value of "model": {"layers": [...]}, without the input and the loss; what has its default value is left out.
 * graph_build makes the same graph of it: equal nodes, order of parameters and initial values. New reference; NULL when out of
 * memory. */
json_t *graph_to_layers(const struct graph *graph);

/* --- init.c --- */

/* Fills values (param->count floats) with the initial value of one parameter. Weights: He et al. 2015 (fan-in, gain sqrt 2) or
 * Glorot and Bengio 2010, normal or uniform, keyed by (seed, index); biases and beta 0, gamma 1, running mean 0, var 1. */
void graph_init(const struct graph *graph, int param_index, uint64_t seed, float *values);

/* --- export.c --- */

/* {"title", "nodes", "parameters", "flops"}; a node is {"name", "op", "inputs" (names), "shape" [c,h,w], "parameters", "flops",
 * "activation_bytes", "attributes"}. New reference. */
json_t *graph_to_json(const struct graph *graph);

/* Graphviz DOT with shapes and parameters; residual edges (into an add, skipping nodes) are drawn bold. Caller frees. */
char *graph_to_dot(const struct graph *graph);

#endif
