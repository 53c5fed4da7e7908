/* A graph as JSON for the API and as Graphviz DOT for people. */
#include <stdio.h>
#include <stdlib.h>

#include "server/graph/private.h"

/* Consumes value. */
static json_t *or_null(json_t *value, int failed) {
    if (failed == 0)
        return value;
    json_decref(value);
    return NULL;
}

json_t *graph_inputs_json(const struct graph *graph, const struct graph_node *node) {
    json_t *names = json_array();
    int failed = 0;
    for (int i = 0; i < node->inputs_n; i++)
        failed |= json_array_append_new(names, json_string(graph->nodes[node->inputs[i]].name));
    return or_null(names, failed);
}

/* json_pack steals what stands for "o" also when it fails, and fails when that is NULL: so a NULL travels up. */
static json_t *node_json(const struct graph *graph, const struct graph_node *node) {
    return json_pack("{s:s,s:s,s:o,s:o,s:I,s:I,s:I,s:o}", "name", node->name, "op", graph_op_name(node->op), "inputs",
                     graph_inputs_json(graph, node), "shape", json_pack("[i,i,i]", node->out.c, node->out.h, node->out.w),
                     "parameters", (json_int_t)node->parameters, "flops", (json_int_t)node->flops, "activation_bytes",
                     (json_int_t)node->activation_bytes, "attributes", attribute_json(node));
}

static json_t *nodes_json(const struct graph *graph) {
    json_t *nodes = json_array();
    int failed = 0;
    for (int i = 0; i < graph->nodes_n && failed == 0; i++)
        failed |= json_array_append_new(nodes, node_json(graph, &graph->nodes[i]));
    return or_null(nodes, failed);
}

json_t *graph_to_json(const struct graph *graph) {
    return json_pack("{s:s,s:o,s:I,s:I}", "title", graph->title, "nodes", nodes_json(graph), "parameters",
                     (json_int_t)graph->parameters, "flops", (json_int_t)graph->flops);
}

/* Writes text inside a DOT string: quotes and backslashes are escaped. */
static void dot_text(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
}

/* ", WORD 2", or ", WORD 2x1" where height and width differ; nothing where both are 1. */
static void dot_pair(FILE *out, const char *word, int h, int w) {
    if (h > 1 || w > 1) {
        fprintf(out, ", %s %d", word, h);
        if (h != w)
            fprintf(out, "x%d", w);
    }
}

/* What tells a node from others of its op. */
static void dot_kind(FILE *out, const struct graph_node *node) {
    switch (node->op) {
    case OP_CONV:
    case OP_POOL_MAX:
    case OP_POOL_AVG:
        fprintf(out, " %dx%d", node->window.kernel_h, node->window.kernel_w);
        dot_pair(out, "stride", node->window.stride_h, node->window.stride_w);
        dot_pair(out, "dilation", node->window.dilation_h, node->window.dilation_w);
        if (node->op == OP_CONV && node->window.groups > 1)
            fprintf(out, ", %d groups", node->window.groups);
        break;
    case OP_SHORTCUT:
        dot_pair(out, "stride", node->window.stride_h, node->window.stride_w);
        break;
    case OP_GROUP_NORM:
        fprintf(out, ", %d groups", node->window.groups);
        break;
    case OP_ACT:
        fprintf(out, " %s", spec_activation_name(node->activation));
        break;
    case OP_DROPOUT:
        fprintf(out, " %g", node->rate);
        break;
    case OP_INPUT:
    case OP_NORM:
    case OP_ADD:
    case OP_CONCAT:
    case OP_GAP:
    case OP_FLATTEN:
    case OP_LINEAR:
    case OP_LOSS:
        break;
    }
}

static void dot_label(FILE *out, const struct graph_node *node) {
    dot_text(out, node->name);
    fprintf(out, "\\n%s", graph_op_name(node->op));
    dot_kind(out, node);
    fprintf(out, "\\n%d x %d x %d", node->out.c, node->out.h, node->out.w);
    if (node->parameters > 0)
        fprintf(out, "\\n%lld parameters", (long long)node->parameters);
}

/* The longest way from the input to each node, in layers. */
static void fill_depths(const struct graph *graph, int *depths) {
    for (int i = 0; i < graph->nodes_n; i++) {
        depths[i] = 0;
        for (int k = 0; k < graph->nodes[i].inputs_n; k++) {
            int depth = depths[graph->nodes[i].inputs[k]] + 1;
            depths[i] = depth > depths[i] ? depth : depths[i];
        }
    }
}

static void dot_edges(FILE *out, const struct graph *graph, int to, const int *depths) {
    const struct graph_node *node = &graph->nodes[to];
    for (int k = 0; k < node->inputs_n; k++) {
        bool skips = node->op == OP_ADD && depths[node->inputs[k]] < depths[to] - 1;
        fprintf(out, "  n%d -> n%d%s;\n", node->inputs[k], to, skips ? " [style=bold, penwidth=3]" : "");
    }
}

static void write_dot(FILE *out, const struct graph *graph, const int *depths) {
    fprintf(out, "digraph model {\n  label=\"");
    dot_text(out, graph->title);
    fprintf(out, "\\n%lld parameters, %lld FLOPs per image\";\n", (long long)graph->parameters, (long long)graph->flops);
    fprintf(out, "  node [shape=box, fontname=\"sans-serif\"];\n");
    for (int i = 0; i < graph->nodes_n; i++) {
        fprintf(out, "  n%d [label=\"", i);
        dot_label(out, &graph->nodes[i]);
        fprintf(out, "\"];\n");
        dot_edges(out, graph, i, depths);
    }
    fprintf(out, "}\n");
}

/* Returns NULL when out of memory, as its caller does. */
static char *dot_from_depths(const struct graph *graph, const int *depths) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    write_dot(out, graph, depths);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

char *graph_to_dot(const struct graph *graph) {
    int *depths = calloc((size_t)graph->nodes_n, sizeof *depths);
    if (depths == NULL)
        return NULL;
    fill_depths(graph, depths);
    char *text = dot_from_depths(graph, depths);
    free(depths);
    return text;
}
