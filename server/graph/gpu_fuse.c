/* Which nodes of a network are computed together on a GPU: norm -> (add of two ->) ReLU, add -> ReLU. A node is fused away only
 * when nothing but the next one reads it. */
#include <stdlib.h>

#include "server/graph/gpu_private.h"

/* The nodes of one unit; -1: none. */
struct fusion {
    int node, add, act;
};

struct fuser {
    const struct graph *graph;
    bool keep;
    int *readers; /* [nodes]: how many inputs read a node */
};

static enum gpu_unit_kind kind_of(enum graph_op op) {
    switch (op) {
    case OP_INPUT:
        return GPU_INPUT;
    case OP_CONV:
        return GPU_CONV;
    case OP_NORM:
        return GPU_NORM;
    case OP_GROUP_NORM:
        return GPU_GROUP_NORM;
    case OP_ACT:
        return GPU_ACT;
    case OP_ADD:
        return GPU_ADD;
    case OP_CONCAT:
        return GPU_CONCAT;
    case OP_POOL_MAX:
        return GPU_POOL_MAX;
    case OP_POOL_AVG:
    case OP_GAP:
        return GPU_POOL_AVG;
    case OP_SHORTCUT:
        return GPU_SHORTCUT;
    case OP_FLATTEN:
        return GPU_FLATTEN;
    case OP_LINEAR:
        return GPU_LINEAR;
    case OP_DROPOUT:
        return GPU_DROPOUT;
    case OP_LOSS:
        return GPU_LOSS;
    }
    return GPU_LOSS;
}

static void count_readers(struct fuser *fuser) {
    for (int i = 0; i < fuser->graph->nodes_n; i++)
        for (int k = 0; k < fuser->graph->nodes[i].inputs_n; k++)
            fuser->readers[fuser->graph->nodes[i].inputs[k]]++;
}

/* The norm that an addition of two is fused with: the later one of its inputs that is a norm read by nothing else; or -1. */
static int norm_of_add(const struct fuser *fuser, const struct graph_node *add) {
    int found = -1;
    for (int k = 0; k < add->inputs_n && add->inputs_n == 2; k++) {
        int input = add->inputs[k];
        if (fuser->graph->nodes[input].op == OP_NORM && fuser->readers[input] == 1 && input > found)
            found = input;
    }
    return found;
}

/* The unit that ends with node number out, when that is not fused into another one. */
static struct fusion fusion_of(const struct fuser *fuser, int out) {
    const struct graph_node *nodes = fuser->graph->nodes, *act = &nodes[out];
    struct fusion alone = {out, -1, -1};
    if (fuser->keep || act->op != OP_ACT || act->activation != ACTIVATION_RELU || fuser->readers[act->inputs[0]] != 1)
        return alone;
    int inner = act->inputs[0];
    if (nodes[inner].op == OP_NORM)
        return (struct fusion){inner, -1, out};
    if (nodes[inner].op != OP_ADD)
        return alone;
    int norm = norm_of_add(fuser, &nodes[inner]);
    return norm < 0 ? (struct fusion){inner, -1, out} : (struct fusion){norm, inner, out};
}

/* The nodes of unit number `unit`, which ends with node number out. */
static void make_unit(struct gpu_plan *plan, const struct graph *graph, int unit, int out, const struct fusion *fusion) {
    struct gpu_unit *made = &plan->units[unit];
    const struct graph_node *node = &graph->nodes[fusion->node];
    *made = (struct gpu_unit){
        .kind = kind_of(node->op), .node = fusion->node, .add = fusion->add, .act = fusion->act, .out = out, .saved = -1};
    for (int k = 0; k < node->inputs_n; k++)
        made->inputs[made->inputs_n++] = plan->unit_of[node->inputs[k]];
    if (fusion->add >= 0) {
        const int *summands = graph->nodes[fusion->add].inputs;
        int other = summands[0] == fusion->node ? summands[1] : summands[0];
        made->inputs[made->inputs_n++] = plan->unit_of[other];
        plan->unit_of[fusion->add] = unit;
    }
    plan->unit_of[fusion->node] = plan->unit_of[out] = unit;
}

/* A unit stands where its last node stood: all that it reads was computed before. */
static void make_units(struct gpu_plan *plan, const struct fuser *fuser) {
    enum { OPEN = -1, INNER = -2 };
    int nodes_n = fuser->graph->nodes_n;
    for (int i = 0; i < nodes_n; i++)
        plan->unit_of[i] = OPEN;
    for (int i = 0; i < nodes_n; i++) {
        struct fusion fusion = fusion_of(fuser, i);
        if (fusion.node != i)
            plan->unit_of[fusion.node] = INNER;
        if (fusion.add >= 0)
            plan->unit_of[fusion.add] = INNER;
    }
    for (int i = 0; i < nodes_n; i++) {
        struct fusion fusion = fusion_of(fuser, i);
        if (plan->unit_of[i] == OPEN)
            make_unit(plan, fuser->graph, plan->units_n++, i, &fusion);
    }
}

int gpu_fuse(struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    size_t nodes_n = (size_t)graph->nodes_n;
    struct fuser fuser = {.graph = graph, .keep = plan->options.keep, .readers = calloc(nodes_n, sizeof(int))};
    plan->units = calloc(nodes_n, sizeof *plan->units);
    plan->unit_of = calloc(nodes_n, sizeof *plan->unit_of);
    if (fuser.readers == NULL || plan->units == NULL || plan->unit_of == NULL) {
        free(fuser.readers);
        return err_set(err, ERR_MEMORY, "No memory for arranging the %d layers of a network", graph->nodes_n);
    }
    count_readers(&fuser);
    make_units(plan, &fuser);
    free(fuser.readers);
    return 0;
}
