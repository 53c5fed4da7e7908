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

/* --- param.c --- */

/* Describes the parameters of a node whose shape is inferred: up to four rows, in the order of enum graph_role. Returns how many;
 * fields node and count are filled too. */
int param_list(const struct graph *graph, const struct graph_node *node, int node_index, struct graph_param ret_params[4]);

#endif
