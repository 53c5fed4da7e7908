/* What the files of the graph floor share; other floors include graph.h only. */
#ifndef GRAPH_PRIVATE_H
#define GRAPH_PRIVATE_H

#include "server/graph/graph.h"

/* --- shape.c --- */

/* Checks a node's attributes and inputs; fills node->out and node->flops. */
int shape_infer(const struct graph *graph, struct graph_node *node, struct err *err);

static inline int64_t shape_count(struct graph_shape shape) {
    return (int64_t)shape.c * shape.h * shape.w;
}

/* --- optimizers --- */

/* Arrays as large as the weights that an optimizer keeps: TENSOR_MOMENTUM, TENSOR_SQUARE. */
static inline int optimizer_states(enum spec_optimizer optimizer) {
    switch (optimizer) {
    case OPTIMIZER_SGD:
        return 1;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_ADAMW:
    case OPTIMIZER_RMSPROP:
        return 2;
    }
    return 0;
}

/* --- param.c --- */

/* Describes the parameters of a node whose shape is inferred: up to four rows, in the order of enum graph_role. Returns how many;
 * fields node and count are filled too. */
int param_list(const struct graph *graph, const struct graph_node *node, int node_index, struct graph_param ret_params[4]);

/* --- attribute.c --- */

/* Reads the attributes of a node, whose name and op are set, from its layer, which stands at the pointer parent. Refuses keys
 * that the op does not have and values out of bounds (ERR_FIELD, ERR_UNKNOWN_FIELD). */
int attribute_read(struct graph_node *node, const json_t *object, const char *parent, struct err *err);

/* All attributes of a node: {"kernel": [3, 3], ...}. New reference; NULL when out of memory. */
json_t *attribute_json(const struct graph_node *node);

/* Adds to object those attributes that are required or differ from their default, squares as one number. Returns 0 or -1. */
int attribute_write(json_t *object, const struct graph_node *node);

/* --- layers.c --- */

/* graph_build for a list of layers. */
int layers_build(const json_t *list, struct graph_shape input, int classes, struct graph **ret_graph, struct err *err);

/* --- export.c --- */

/* The names of a node's inputs. New reference; NULL when out of memory. */
json_t *graph_inputs_json(const struct graph *graph, const struct graph_node *node);

#endif
