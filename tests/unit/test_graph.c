/* The graph floor: rules of the ops, names and order of parameters, FLOPs, memory, initial values, DOT, and what happens when
 * memory runs out. Whole models are in tests/cases/graph. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/graph/graph.h"

/* --- allocations that fail, by the linker's --wrap --- */

static long allocations_left = -1; /* -1: without limit */

static bool refused(void) {
    if (allocations_left < 0)
        return false;
    return allocations_left == 0 || allocations_left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size) {
    return refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    return refused() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return refused() ? NULL : __real_realloc(old, size);
}

/* --- building by hand --- */

static struct graph *new_graph(int c, int h, int w) {
    struct err err = {0};
    struct graph *graph = graph_new("test", (struct graph_shape){c, h, w}, &err);
    assert_non_null(graph);
    return graph;
}

/* A node on the last one, with windows of 1 and a stride of 1. */
static struct graph_node node_of(enum graph_op op, const char *name, int input) {
    struct graph_node node = {.op = op, .inputs = {input}, .inputs_n = 1, .epsilon = 1e-5, .momentum = 0.1};
    snprintf(node.name, sizeof node.name, "%s", name);
    node.window.kernel_h = node.window.kernel_w = node.window.stride_h = node.window.stride_w = 1;
    node.window.dilation_h = node.window.dilation_w = node.window.groups = 1;
    return node;
}

static int add(struct graph *graph, const struct graph_node *node) {
    struct err err = {0};
    int index = graph_add(graph, node, &err);
    if (index < 0)
        fail_msg("%s", err.text);
    return index;
}

/* The node must be refused as a shape error whose text has all parts, and leave the graph as it was. */
static void add_fails(struct graph *graph, const struct graph_node *node, const char *const *parts) {
    struct err err = {0};
    int nodes = graph->nodes_n, params = graph->params_n;
    int64_t parameters = graph->parameters, flops = graph->flops;
    assert_int_equal(graph_add(graph, node, &err), -1);
    assert_int_equal(err.code, ERR_SHAPE);
    for (; *parts != NULL; parts++)
        if (strstr(err.text, *parts) == NULL)
            fail_msg("'%s' is not in: %s", *parts, err.text);
    assert_int_equal(graph->nodes_n, nodes);
    assert_int_equal(graph->params_n, params);
    assert_true(graph->parameters == parameters && graph->flops == flops);
}

#define PARTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_window_rule(void **state) {
    (void)state;
    struct graph *graph = new_graph(4, 9, 8);
    struct graph_node node = node_of(OP_CONV, "c", 0);
    node.channels_out = 6;
    node.bias = true;
    node.window.kernel_h = 3, node.window.kernel_w = 2;
    node.window.stride_h = 2, node.window.stride_w = 3;
    node.window.pad_h = 1, node.window.dilation_w = 2;
    node.window.groups = 2;
    int at = add(graph, &node);
    /* h: (9 + 2 - 3) / 2 + 1 = 5; w: (8 - (2 * 1 + 1)) / 3 + 1 = 2 */
    assert_int_equal(graph->nodes[at].out.c, 6);
    assert_int_equal(graph->nodes[at].out.h, 5);
    assert_int_equal(graph->nodes[at].out.w, 2);
    assert_int_equal(graph->nodes[at].parameters, 6 * 2 * 3 * 2 + 6);
    assert_int_equal(graph->nodes[at].flops, 6 * 5 * 2 * (2 * 2 * 3 * 2 + 1)); /* two input channels a group */
    assert_int_equal(graph->nodes[at].activation_bytes, 6 * 5 * 2 * 4);
    const struct graph_param *weight = &graph->params[graph->nodes[at].params[0]];
    assert_string_equal(weight->name, "c.weight");
    assert_memory_equal(weight->shape, ((int[]){6, 2, 3, 2}), sizeof weight->shape);
    assert_int_equal(weight->dims, 4);
    assert_string_equal(graph->params[graph->nodes[at].params[1]].name, "c.bias");
    graph_free(graph);
}

static int64_t add_for_flops(struct graph *graph, const struct graph_node *node) {
    int index = add(graph, node);
    return graph->nodes[index].flops;
}

static void test_flops(void **state) {
    (void)state;
    struct graph *graph = new_graph(3, 4, 4);
    struct graph_node pool = node_of(OP_POOL_MAX, "pool", 0), gap = node_of(OP_GAP, "gap", 0);
    struct graph_node norm = node_of(OP_NORM, "norm", 0), flatten = node_of(OP_FLATTEN, "flatten", 0);
    struct graph_node linear = node_of(OP_LINEAR, "linear", 4);
    pool.window.kernel_h = pool.window.kernel_w = pool.window.stride_h = pool.window.stride_w = 2;
    linear.channels_out = 7;
    assert_int_equal(add_for_flops(graph, &pool), 3 * 2 * 2 * 4);
    assert_int_equal(add_for_flops(graph, &gap), 3 * 16);
    assert_int_equal(add_for_flops(graph, &norm), 2 * 48);
    assert_int_equal(add_for_flops(graph, &flatten), 0);
    assert_int_equal(add_for_flops(graph, &linear), 2 * 48 * 7);
    assert_int_equal(graph->flops, 48 + 48 + 96 + 672);
    assert_int_equal(graph->parameters, 6 + 336); /* gamma and beta; a weight without a bias */
    graph_free(graph);
}

static void test_norm_parameters(void **state) {
    (void)state;
    static const char *const names[] = {"bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"};
    struct graph *graph = new_graph(5, 2, 2);
    struct graph_node node = node_of(OP_NORM, "bn1", 0);
    add(graph, &node);
    assert_int_equal(graph->params_n, 4);
    for (int i = 0; i < 4; i++) {
        const struct graph_param *param = &graph->params[i];
        assert_string_equal(param->name, names[i]);
        assert_int_equal(param->role, ROLE_GAMMA + i);
        assert_int_equal(param->count, 5);
        assert_int_equal(param->trainable, i < 2);
        assert_int_equal(param->decay, i < 2);
    }
    graph_free(graph);
}

static void test_conv_errors(void **state) {
    (void)state;
    struct graph *graph = new_graph(3, 4, 5);
    struct graph_node node = node_of(OP_CONV, "late", 0);
    node.channels_out = 8;
    node.window.kernel_h = node.window.kernel_w = 7;
    add_fails(graph, &node, PARTS("late", "7x7", "3x4x5", "input", "4x5"));
    node.window.kernel_h = node.window.kernel_w = 1;
    node.window.groups = 2;
    add_fails(graph, &node, PARTS("late", "2 groups", "3 input", "8 output"));
    node.window.groups = 0;
    add_fails(graph, &node, PARTS("late", "groups"));
    node.window.groups = 1;
    node.channels_out = 0;
    add_fails(graph, &node, PARTS("late", "channels"));
    node.channels_out = 8;
    node.window.stride_w = 0;
    add_fails(graph, &node, PARTS("late", "stride"));
    node.window.stride_w = 1;
    node.window.pad_h = -1;
    add_fails(graph, &node, PARTS("late", "padding"));
    node.window.pad_h = 0;
    node.init = INIT_NORMAL;
    add_fails(graph, &node, PARTS("late", "deviation"));
    node.init_sigma = NAN;
    add_fails(graph, &node, PARTS("late", "deviation"));
    graph_free(graph);
}

static void test_join_errors(void **state) {
    (void)state;
    struct graph *graph = new_graph(3, 4, 4);
    struct graph_node conv = node_of(OP_CONV, "a", 0), join = node_of(OP_ADD, "join", 0);
    conv.channels_out = 5;
    conv.window.stride_h = 2;
    add(graph, &conv);
    add_fails(graph, &join, PARTS("join", "at least two"));
    join.inputs[1] = 1;
    join.inputs_n = 2;
    add_fails(graph, &join, PARTS("join", "'input' of 3x4x4", "'a' of 5x2x4", "shapes"));
    join.op = OP_CONCAT;
    add_fails(graph, &join, PARTS("join", "'input' of 3x4x4", "'a' of 5x2x4", "height and width"));
    join.inputs[1] = 2;
    add_fails(graph, &join, PARTS("join", "not an earlier layer"));
    join.inputs[1] = -1;
    add_fails(graph, &join, PARTS("join", "not an earlier layer"));
    join.inputs_n = GRAPH_INPUTS_MAX + 1;
    add_fails(graph, &join, PARTS("join", "9 inputs", "1 to 8"));
    graph_free(graph);
}

static void test_other_errors(void **state) {
    (void)state;
    struct graph *graph = new_graph(3, 4, 4);
    struct graph_node linear = node_of(OP_LINEAR, "fc", 0), loss = node_of(OP_LOSS, "loss", 0),
                      pool = node_of(OP_POOL_AVG, "p", 0);
    struct graph_node drop = node_of(OP_DROPOUT, "drop", 0), skip = node_of(OP_SHORTCUT, "skip", 0),
                      norm = node_of(OP_NORM, "n", 0);
    linear.channels_out = 2;
    add_fails(graph, &linear, PARTS("fc", "3x4x4", "flatten"));
    add_fails(graph, &loss, PARTS("loss", "3x4x4"));
    pool.window.kernel_h = pool.window.kernel_w = 2, pool.window.pad_w = 2;
    add_fails(graph, &pool, PARTS("'p'", "half its kernel"));
    pool.window.pad_w = 0, pool.window.pad_h = 2;
    add_fails(graph, &pool, PARTS("'p'", "half its kernel"));
    pool.window.pad_h = 0, pool.window.dilation_h = 2;
    add_fails(graph, &pool, PARTS("'p'", "dilation"));
    drop.rate = 1.0;
    add_fails(graph, &drop, PARTS("drop", "rate"));
    drop.rate = NAN;
    add_fails(graph, &drop, PARTS("drop", "rate"));
    skip.channels_out = 2;
    add_fails(graph, &skip, PARTS("skip", "fewer"));
    norm.epsilon = 0.0;
    add_fails(graph, &norm, PARTS("'n'", "epsilon"));
    graph_free(graph);
}

static void test_structure_errors(void **state) {
    (void)state;
    struct graph *graph = new_graph(10, 1, 1);
    struct graph_node act = node_of(OP_ACT, "input", 0), input = {.name = "again", .op = OP_INPUT, .out = {1, 1, 1}};
    add_fails(graph, &act, PARTS("Two layers", "input"));
    act.name[0] = '\0';
    add_fails(graph, &act, PARTS("no name"));
    memset(act.name, 'x', sizeof act.name);
    add_fails(graph, &act, PARTS("63 bytes"));
    add_fails(graph, &input, PARTS("again", "first"));
    struct graph_node loss = node_of(OP_LOSS, "loss", 0), late = node_of(OP_ACT, "late", 1);
    add(graph, &loss);
    assert_int_equal(graph->classes, 10);
    add_fails(graph, &late, PARTS("late", "behind the loss"));
    graph_free(graph);
    struct err err = {0};
    assert_null(graph_new("bad", (struct graph_shape){0, 4, 4}, &err));
    assert_int_equal(err.code, ERR_SHAPE);
}

static void test_limits(void **state) {
    (void)state;
    struct graph *graph = new_graph(65536, 16, 16);
    struct graph_node huge = node_of(OP_CONV, "huge", 0), wide = node_of(OP_CONV, "wide", 0), act = node_of(OP_ACT, "", 0);
    huge.channels_out = 65536, huge.window.kernel_h = huge.window.kernel_w = 1024, huge.window.pad_h = huge.window.pad_w = 1024;
    add_fails(graph, &huge, PARTS("huge", "MiB")); /* its FLOPs do not fit 64 bits */
    wide.channels_out = 4096;
    add_fails(graph, &wide, PARTS("wide", "268435456 parameters", "200000000"));
    graph_free(graph);
    graph = new_graph(1, 1, 1);
    for (int i = 1; i < GRAPH_NODES_MAX; i++) {
        snprintf(act.name, sizeof act.name, "act%d", i);
        act.inputs[0] = i - 1;
        add(graph, &act);
    }
    snprintf(act.name, sizeof act.name, "last");
    add_fails(graph, &act, PARTS("last", "4096"));
    graph_free(graph);
}

/* --- whole models --- */

static struct graph *build(const char *preset, struct spec_model model) {
    struct graph *graph = NULL;
    struct err err = {0};
    snprintf(model.preset, sizeof model.preset, "%s", preset);
    if (graph_build(&model, (struct graph_shape){3, 32, 32}, 10, &graph, &err) < 0)
        fail_msg("%s: %s", preset, err.text);
    return graph;
}

static const struct spec_model plain_options = {.preset = ""};

static void test_presets(void **state) {
    (void)state;
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    assert_int_equal(n, 23);
    for (size_t i = 0; i < n; i++) {
        struct graph *graph = build(presets[i].name, plain_options);
        bool adds = false;
        for (int k = 0; k < graph->nodes_n; k++)
            adds |= graph->nodes[k].op == OP_ADD;
        assert_int_equal(adds, presets[i].residual);
        assert_int_equal(graph->nodes[graph->nodes_n - 1].op, OP_LOSS);
        assert_int_equal(graph->classes, 10);
        assert_true(strlen(presets[i].title) > 0 && strlen(presets[i].paper) > 0);
        assert_string_equal(graph->title, presets[i].title);
        graph_free(graph);
    }
}

static int64_t memory_of(const struct graph *graph, const struct spec *spec) {
    int64_t bytes = 0;
    struct err err = {0};
    assert_int_equal(graph_memory(graph, spec, &bytes, &err), 0);
    return bytes;
}

/* How the figure changes with the job; tests/ops/test_memory.c compares it to what a backend takes. */
static void test_memory(void **state) {
    (void)state;
    struct graph *graph = build("resnet20", plain_options);
    struct spec spec = {.batch_size = 1, .threads = 1};
    const int64_t weights = 269722 * 4, one = memory_of(graph, &spec);
    spec.batch_size = 2;
    int64_t image = memory_of(graph, &spec) - one;
    assert_in_range(image, graph->activation_bytes / 4, graph->activation_bytes);
    spec.precision = PRECISION_BF16;
    assert_true(memory_of(graph, &spec) < one + image);
    spec = (struct spec){.batch_size = 1, .threads = 2};
    assert_true(memory_of(graph, &spec) > one);
    spec = (struct spec){.batch_size = 1, .threads = 1, .average_decay = 0.999};
    assert_in_range(memory_of(graph, &spec) - one, weights, weights + weights / 8);
    for (spec.optimizer.kind = OPTIMIZER_ADAM; spec.optimizer.kind <= OPTIMIZER_RMSPROP; spec.optimizer.kind++)
        assert_in_range(memory_of(graph, &spec) - one, 2 * weights, 2 * weights + weights / 4);
    graph_free(graph);
}

/* A processor can train it. */
static void test_memory_of_what_no_gpu_trains(void **state) {
    (void)state;
    struct err err = {0};
    struct graph *graph = graph_new("large pool", (struct graph_shape){1, 300, 300}, &err);
    assert_non_null(graph);
    struct graph_node nodes[] = {
        {.name = "conv", .op = OP_CONV, .inputs = {0}, .inputs_n = 1, .channels_out = 4, .window = {1, 1, 1, 1, 0, 0, 1, 1, 1}},
        {.name = "pool", .op = OP_POOL_MAX, .inputs = {1}, .inputs_n = 1, .window = {300, 300, 300, 300, 0, 0, 1, 1, 1}},
        {.name = "fc", .op = OP_LINEAR, .inputs = {2}, .inputs_n = 1, .channels_out = 10},
        {.name = "loss", .op = OP_LOSS, .inputs = {3}, .inputs_n = 1}};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        if (graph_add(graph, &nodes[i], &err) < 0)
            fail_msg("%s", err.text);
    struct spec spec = {.batch_size = 1, .threads = 1};
    assert_true(memory_of(graph, &spec) > graph->activation_bytes);
    graph_free(graph);
}

static float *initial(const struct graph *graph, const char *name, uint64_t seed, size_t *ret_n) {
    for (int i = 0; i < graph->params_n; i++) {
        if (strcmp(graph->params[i].name, name) != 0)
            continue;
        float *values = malloc(graph->params[i].count * sizeof *values);
        assert_non_null(values);
        graph_init(graph, i, seed, values);
        *ret_n = graph->params[i].count;
        return values;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

/* Mean, standard deviation and largest magnitude. */
static void measure(const float *values, size_t n, double *ret_mean, double *ret_sd, double *ret_largest) {
    double sum = 0.0, squares = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        largest = fmax(largest, fabs((double)values[i]));
    }
    *ret_mean = sum / (double)n;
    *ret_sd = sqrt(squares / (double)n - *ret_mean * *ret_mean);
    *ret_largest = largest;
}

static void test_init(void **state) {
    (void)state;
    /* layer3.0.conv2: 64 x 64 x 3 x 3, so fan-in = fan-out = 576 and 36864 values */
    static const struct {
        enum spec_init init;
        double sd;
        bool uniform;
    } rows[] = {{INIT_HE_NORMAL, 0.0589256, false},
                {INIT_HE_UNIFORM, 0.0589256, true},
                {INIT_XAVIER_NORMAL, 0.0416667, false},
                {INIT_XAVIER_UNIFORM, 0.0416667, true},
                {INIT_NORMAL, 0.25, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec_model model = {.options = {.given = 1u << OPTION_INIT, .init = rows[i].init}};
        model.options.given |= rows[i].init == INIT_NORMAL ? 1u << OPTION_INIT_SIGMA : 0;
        model.options.init_sigma = rows[i].sd;
        struct graph *graph = build("resnet8", model);
        size_t n;
        double mean, sd, largest;
        float *values = initial(graph, "layer3.0.conv2.weight", 1, &n);
        measure(values, n, &mean, &sd, &largest);
        assert_true(fabs(mean) < 5.0 * rows[i].sd / sqrt((double)n));
        assert_true(fabs(sd - rows[i].sd) < 0.015 * rows[i].sd);
        double bound = sqrt(3.0) * rows[i].sd;
        assert_true(rows[i].uniform ? largest <= bound * 1.00001 && largest > 0.999 * bound : largest > 1.5 * bound);
        free(values);
        graph_free(graph);
    }
}

static void test_init_fans(void **state) {
    (void)state;
    struct spec_model model = {.options = {.given = 1u << OPTION_INIT, .init = INIT_XAVIER_UNIFORM}};
    struct graph *graph = build("resnet8", model);
    size_t n;
    double mean, sd, largest;
    float *values = initial(graph, "layer3.0.conv1.weight", 1, &n); /* 64 x 32 x 3 x 3 */
    measure(values, n, &mean, &sd, &largest);
    assert_true(fabs(sd - sqrt(2.0 / (288.0 + 576.0))) < 0.02 * sd);
    free(values);
    graph_free(graph);
}

static void test_init_keys(void **state) {
    (void)state;
    struct graph *graph = build("resnet8", plain_options);
    size_t n, m;
    float *a = initial(graph, "layer1.0.conv1.weight", 1, &n), *b = initial(graph, "layer1.0.conv2.weight", 1, &m);
    float *again = initial(graph, "layer1.0.conv1.weight", 1, &n), *other = initial(graph, "layer1.0.conv1.weight", 2, &n);
    assert_int_equal(n, m);
    assert_memory_equal(a, again, n * sizeof *a);
    assert_memory_not_equal(a, b, n * sizeof *a);     /* another parameter */
    assert_memory_not_equal(a, other, n * sizeof *a); /* another seed */
    float *fixed[] = {initial(graph, "bn1.weight", 1, &n), initial(graph, "bn1.bias", 1, &n),
                      initial(graph, "bn1.running_mean", 1, &n), initial(graph, "bn1.running_var", 1, &n),
                      initial(graph, "fc.bias", 1, &n)};
    static const float expected[] = {1.0f, 0.0f, 0.0f, 1.0f, 0.0f};
    for (int i = 0; i < 5; i++) {
        for (size_t k = 0; k < 10; k++)
            assert_true(fixed[i][k] == expected[i]);
        free(fixed[i]);
    }
    free(a);
    free(b);
    free(again);
    free(other);
    graph_free(graph);
}

static void test_zero_init(void **state) {
    (void)state;
    struct spec_model model = {.options = {.given = 1u << OPTION_ZERO_INIT, .zero_init = true}};
    struct graph *graph = build("resnet8", model);
    static const struct {
        const char *name;
        float expected;
    } rows[] = {
        {"bn1.weight", 1.0f}, {"layer1.0.bn1.weight", 1.0f}, {"layer1.0.bn2.weight", 0.0f}, {"layer1.0.bn2.running_var", 1.0f}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n;
        float *values = initial(graph, rows[i].name, 1, &n);
        for (size_t k = 0; k < n; k++)
            assert_true(values[k] == rows[i].expected);
        free(values);
    }
    graph_free(graph);
}

/* --- export --- */

static int occurrences(const char *text, const char *part) {
    int n = 0;
    while ((text = strstr(text, part)) != NULL) {
        n++;
        text += strlen(part);
    }
    return n;
}

static void test_dot_edges(void **state) {
    (void)state;
    static const struct {
        const char *preset;
        enum spec_shortcut shortcut;
        int bold;
    } rows[] = {{"resnet20", SHORTCUT_A, 9},  {"resnet20", SHORTCUT_B, 9},        {"resnet18", SHORTCUT_A, 8},
                {"resnet50", SHORTCUT_B, 16}, {"wide-resnet16-4", SHORTCUT_B, 6}, {"preact-resnet20", SHORTCUT_A, 9}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spec_model model = {.options = {.given = 1u << OPTION_SHORTCUT, .shortcut = rows[i].shortcut}};
        struct graph *graph = build(rows[i].preset, model);
        char *dot = graph_to_dot(graph);
        assert_non_null(dot);
        assert_int_equal(occurrences(dot, "style=bold"), rows[i].bold);
        assert_int_equal(occurrences(dot, " -> "), graph->nodes_n - 1 + (rows[i].bold));
        free(dot);
        graph_free(graph);
    }
}

static void test_dot_labels(void **state) {
    (void)state;
    static const char *const labels[] = {"conv 3x1, stride 1x2, dilation 2, 2 groups\\n4 x 6 x 4\\n28 parameters",
                                         "group_norm, 2 groups\\n4 x 6 x 4\\n8 parameters",
                                         "dropout 0.25\\n4 x 6 x 4",
                                         "shortcut, stride 2\\n5 x 3 x 2",
                                         "avg_pool 2x2, stride 2\\n5 x 1 x 1",
                                         "activation silu\\n5 x 1 x 1"};
    struct graph *graph = new_graph(4, 10, 8);
    struct graph_node nodes[] = {node_of(OP_CONV, "a", 0),     node_of(OP_GROUP_NORM, "b", 1), node_of(OP_DROPOUT, "c", 2),
                                 node_of(OP_SHORTCUT, "d", 3), node_of(OP_POOL_AVG, "e", 4),   node_of(OP_ACT, "f", 5)};
    nodes[0].channels_out = 4, nodes[0].window.kernel_h = 3, nodes[0].window.stride_w = 2, nodes[0].window.groups = 2;
    nodes[0].window.dilation_h = nodes[0].window.dilation_w = 2, nodes[0].bias = true;
    nodes[1].window.groups = 2;
    nodes[2].rate = 0.25;
    nodes[3].channels_out = 5, nodes[3].window.stride_h = nodes[3].window.stride_w = 2;
    nodes[4].window.kernel_h = nodes[4].window.kernel_w = nodes[4].window.stride_h = nodes[4].window.stride_w = 2;
    nodes[5].activation = ACTIVATION_SILU;
    for (int i = 0; i < 6; i++)
        add(graph, &nodes[i]);
    char *dot = graph_to_dot(graph);
    for (int i = 0; i < 6; i++)
        if (strstr(dot, labels[i]) == NULL)
            fail_msg("'%s' is not in: %s", labels[i], dot);
    free(dot);
    graph_free(graph);
}

/* Whether Graphviz takes the text. */
static bool graphviz_accepts(const char *dot) {
    char path[] = "/tmp/test_graph.XXXXXX", command[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, dot, strlen(dot)), (ssize_t)strlen(dot));
    close(fd);
    snprintf(command, sizeof command, "dot -Tsvg -o /dev/null %s 2>&1", path);
    int rc = system(command);
    unlink(path);
    return rc == 0;
}

static void test_dot_is_valid(void **state) {
    (void)state;
    if (system("command -v dot > /dev/null") != 0)
        skip(); /* Graphviz is not installed */
    struct graph *graph = new_graph(3, 32, 32);
    struct graph_node evil = {.op = OP_ACT, .name = "a\"b\\n]; } <&>", .inputs = {0}, .inputs_n = 1};
    add(graph, &evil);
    char *dot = graph_to_dot(graph);
    assert_non_null(dot);
    assert_non_null(strstr(dot, "a\\\"b\\\\n]; } <&>"));
    assert_true(graphviz_accepts(dot));
    free(dot);
    graph_free(graph);
}

static void test_json(void **state) {
    (void)state;
    struct graph *graph = build("resnet20", plain_options);
    json_t *document = graph_to_json(graph), *nodes = json_object_get(document, "nodes");
    assert_int_equal(json_array_size(nodes), graph->nodes_n);
    assert_int_equal(json_integer_value(json_object_get(document, "parameters")), 269722);
    assert_int_equal(json_integer_value(json_object_get(document, "flops")), graph->flops);
    json_int_t parameters = 0, flops = 0;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        parameters += json_integer_value(json_object_get(json_array_get(nodes, i), "parameters"));
        flops += json_integer_value(json_object_get(json_array_get(nodes, i), "flops"));
    }
    assert_int_equal(parameters, 269722);
    assert_int_equal(flops, graph->flops);
    json_decref(document);
    graph_free(graph);
}

/* --- memory that runs out --- */

static bool build_with(long allocations) {
    struct spec_model model = {.preset = "resnet8"};
    struct graph *graph = NULL;
    struct err err = {0};
    allocations_left = allocations;
    int rc = graph_build(&model, (struct graph_shape){3, 32, 32}, 10, &graph, &err);
    allocations_left = -1;
    assert_int_equal(rc == 0, graph != NULL);
    assert_int_equal(rc == 0, err.code == ERR_NONE);
    if (rc < 0)
        assert_int_equal(err.code, ERR_MEMORY);
    graph_free(graph);
    return rc == 0;
}

static void test_build_without_memory(void **state) {
    (void)state;
    long allocations = 0;
    while (!build_with(allocations))
        assert_true(++allocations < 1000);
    assert_true(allocations >= 3); /* the graph, its nodes, its parameters */
}

static void *limited_malloc(size_t size) {
    return malloc(size); /* through the wrapper; jansson's own calls are not wrapped */
}

static void test_export_without_memory(void **state) {
    (void)state;
    struct graph *graph = build("resnet8", plain_options);
    json_set_alloc_funcs(limited_malloc, free);
    json_t *document = NULL;
    long n = 0;
    for (; document == NULL; n++) {
        allocations_left = n;
        document = graph_to_json(graph);
        allocations_left = -1;
        assert_true(n < 10000);
    }
    assert_true(n > 100);
    json_decref(document);
    allocations_left = 0;
    char *dot = graph_to_dot(graph);
    allocations_left = -1;
    assert_null(dot);
    graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_rule),
        cmocka_unit_test(test_flops),
        cmocka_unit_test(test_norm_parameters),
        cmocka_unit_test(test_conv_errors),
        cmocka_unit_test(test_join_errors),
        cmocka_unit_test(test_other_errors),
        cmocka_unit_test(test_structure_errors),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_of_what_no_gpu_trains),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_init_fans),
        cmocka_unit_test(test_init_keys),
        cmocka_unit_test(test_zero_init),
        cmocka_unit_test(test_dot_edges),
        cmocka_unit_test(test_dot_labels),
        cmocka_unit_test(test_dot_is_valid),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_build_without_memory),
        cmocka_unit_test(test_export_without_memory),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
