/* The intermediate representation: building a list of nodes, one checked node at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/graph/private.h"

struct op_row {
    const char *name;
    int inputs;
};

static const struct op_row op_rows[] = {
#define GRAPH_ROW(op, name, inputs) [op] = {name, inputs},
    GRAPH_OPS(GRAPH_ROW)
#undef GRAPH_ROW
};

const char *graph_op_name(enum graph_op op) {
    return op_rows[op].name;
}

/* Makes room for extra more items behind n. The capacity is the power of two that holds n, so it needs no field of its own. */
static int reserve(void **items, size_t item_size, int n, int extra) {
    size_t had = 1, need = 1;
    while (had < (size_t)n)
        had *= 2;
    while (need < (size_t)n + (size_t)extra)
        need *= 2;
    if (*items != NULL && need == had)
        return 0;
    void *grown = realloc(*items, need * item_size);
    if (grown == NULL)
        return -1;
    *items = grown;
    return 0;
}

struct graph *graph_new(const char *title, struct graph_shape input, struct err *err) {
    struct graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) {
        err_set(err, ERR_MEMORY, "No memory for a new graph");
        return NULL;
    }
    snprintf(graph->title, sizeof graph->title, "%s", title);
    graph->names = json_object();
    struct graph_node node = {.name = "input", .op = OP_INPUT, .out = input};
    if (graph_add(graph, &node, err) < 0) {
        graph_free(graph);
        return NULL;
    }
    return graph;
}

void graph_free(struct graph *graph) {
    if (graph == NULL)
        return;
    free(graph->nodes);
    free(graph->params);
    json_decref(graph->names);
    free(graph);
}

int graph_find(const struct graph *graph, const char *name) {
    const json_t *index = json_object_get(graph->names, name);
    return index == NULL ? -1 : (int)json_integer_value(index);
}

static int check_name(const struct graph *graph, const struct graph_node *node, struct err *err) {
    if (node->name[0] == '\0' || memchr(node->name, '\0', sizeof node->name) == NULL)
        return err_set(err, ERR_SHAPE, "Layer number %d has no name, or one of more than %d bytes", graph->nodes_n,
                       GRAPH_NAME_MAX - 1);
    if (graph_find(graph, node->name) >= 0)
        return err_set(err, ERR_SHAPE, "Two layers are named '%s'; names must differ", node->name);
    return 0;
}

static int check_inputs(const struct graph *graph, const struct graph_node *node, struct err *err) {
    int wanted = op_rows[node->op].inputs, n = node->inputs_n;
    if (wanted < 0 ? n != 0 : wanted > 0 ? n != wanted : n < 1 || n > GRAPH_INPUTS_MAX)
        return err_set(err, ERR_SHAPE, "Layer '%s' (%s) has %d inputs; it takes %s", node->name, graph_op_name(node->op), n,
                       wanted < 0   ? "none"
                       : wanted > 0 ? "one"
                                    : "1 to 8");
    for (int i = 0; i < n; i++)
        if (node->inputs[i] < 0 || node->inputs[i] >= graph->nodes_n)
            return err_set(err, ERR_SHAPE, "Input %d of layer '%s' is not an earlier layer", i, node->name);
    return 0;
}

static int check_place(const struct graph *graph, const struct graph_node *node, struct err *err) {
    int n = graph->nodes_n;
    if (n == GRAPH_NODES_MAX)
        return err_set(err, ERR_SHAPE, "Layer '%s' is one too many: a model has at most %d layers", node->name, GRAPH_NODES_MAX);
    if (n > 0 && graph->nodes[n - 1].op == OP_LOSS)
        return err_set(err, ERR_SHAPE, "Layer '%s' stands behind the loss, which must be the last one", node->name);
    if ((node->op == OP_INPUT) != (n == 0))
        return err_set(err, ERR_SHAPE, "Layer '%s': the first layer of a model, and no other, is its input", node->name);
    return 0;
}

static int check_limits(const struct graph *graph, const struct graph_node *node, struct err *err) {
    int64_t bytes = graph->activation_bytes + node->activation_bytes;
    if (bytes > (int64_t)GRAPH_ACTIVATION_MIB_MAX << 20)
        return err_set(
            err, ERR_SHAPE,
            "With layer '%s' (output %dx%dx%d) the outputs of a single image take %lld MiB; at most %d are allowed. Use "
            "smaller images or a smaller width",
            node->name, node->out.c, node->out.h, node->out.w, (long long)(bytes >> 20), GRAPH_ACTIVATION_MIB_MAX);
    if (graph->parameters + node->parameters > GRAPH_PARAMETERS_MAX)
        return err_set(err, ERR_SHAPE,
                       "Layer '%s' needs %lld parameters, which makes %lld in all; at most %d are allowed. Use a smaller width",
                       node->name, (long long)node->parameters, (long long)(graph->parameters + node->parameters),
                       GRAPH_PARAMETERS_MAX);
    return 0;
}

/* Fills what is inferred. node becomes the graph's node number graph->nodes_n. */
static int infer(const struct graph *graph, struct graph_node *node, struct graph_param params[4], struct err *err) {
    if (shape_infer(graph, node, err) < 0)
        return -1;
    node->activation_bytes = shape_count(node->out) * (int64_t)sizeof(float);
    node->params_n = param_list(graph, node, graph->nodes_n, params);
    node->parameters = 0;
    for (int i = 0; i < node->params_n; i++) {
        node->params[i] = graph->params_n + i;
        node->parameters += params[i].trainable ? (int64_t)params[i].count : 0;
    }
    return check_limits(graph, node, err);
}

int graph_add(struct graph *graph, const struct graph_node *node, struct err *err) {
    struct graph_node copy = *node;
    struct graph_param params[4];
    if (check_place(graph, &copy, err) < 0 || check_name(graph, &copy, err) < 0 || check_inputs(graph, &copy, err) < 0 ||
        infer(graph, &copy, params, err) < 0)
        return -1;
    if (reserve((void **)&graph->nodes, sizeof *graph->nodes, graph->nodes_n, 1) < 0 ||
        reserve((void **)&graph->params, sizeof *graph->params, graph->params_n, copy.params_n) < 0 ||
        json_object_set_new(graph->names, copy.name, json_integer(graph->nodes_n)) < 0)
        return err_set(err, ERR_MEMORY, "No memory for layer '%s' of a graph", copy.name);
    for (int i = 0; i < copy.params_n; i++)
        graph->params[graph->params_n++] = params[i];
    graph->nodes[graph->nodes_n] = copy;
    graph->parameters += copy.parameters;
    graph->flops += copy.flops;
    graph->activation_bytes += copy.activation_bytes;
    if (copy.op == OP_LOSS)
        graph->classes = copy.out.c;
    return graph->nodes_n++;
}

enum { HUNDREDTHS = 100 };

double graph_gib_up(int64_t bytes) {
    const int64_t gib = INT64_C(1) << 30;
    return (double)((bytes * HUNDREDTHS + gib - 1) / gib) / HUNDREDTHS;
}

double graph_gib_down(int64_t bytes) {
    return (double)(bytes * HUNDREDTHS / (INT64_C(1) << 30)) / HUNDREDTHS;
}
