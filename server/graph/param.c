/* Which parameters and running statistics a node has. */
#include <stdio.h>

#include "server/graph/private.h"

static const char *const role_names[] = {
    [ROLE_WEIGHT] = "weight",
    [ROLE_BIAS] = "bias",
    [ROLE_GAMMA] = "weight", /* as torch.nn.BatchNorm2d calls it */
    [ROLE_BETA] = "bias",
    [ROLE_RUNNING_MEAN] = "running_mean",
    [ROLE_RUNNING_VAR] = "running_var",
};

/* A row of one dimension; weights get theirs afterwards. */
static struct graph_param row(const struct graph_node *node, int node_index, enum graph_role role, int length) {
    struct graph_param param = {.node = node_index, .role = role, .shape = {length, 1, 1, 1}, .dims = 1, .count = (size_t)length};
    param.trainable = role != ROLE_RUNNING_MEAN && role != ROLE_RUNNING_VAR;
    param.decay = param.trainable;
    snprintf(param.name, sizeof param.name, "%s.%s", node->name, role_names[role]);
    return param;
}

static struct graph_param weight(const struct graph_node *node, int node_index, int inputs) {
    struct graph_param param = row(node, node_index, ROLE_WEIGHT, node->channels_out);
    param.dims = 2;
    param.shape[1] = inputs;
    if (node->op == OP_CONV) {
        param.dims = 4;
        param.shape[1] = inputs / node->window.groups;
        param.shape[2] = node->window.kernel_h;
        param.shape[3] = node->window.kernel_w;
    }
    for (int i = 1; i < param.dims; i++)
        param.count *= (size_t)param.shape[i];
    return param;
}

int param_list(const struct graph *graph, const struct graph_node *node, int node_index, struct graph_param ret_params[4]) {
    int n = 0, channels = node->out.c;
    switch (node->op) {
    case OP_CONV:
    case OP_LINEAR:
        ret_params[n++] = weight(node, node_index, graph->nodes[node->inputs[0]].out.c);
        if (node->bias)
            ret_params[n++] = row(node, node_index, ROLE_BIAS, channels);
        break;
    case OP_NORM:
        for (int role = ROLE_GAMMA; role <= ROLE_RUNNING_VAR; role++)
            ret_params[n++] = row(node, node_index, (enum graph_role)role, channels);
        break;
    case OP_GROUP_NORM:
        ret_params[n++] = row(node, node_index, ROLE_GAMMA, channels);
        ret_params[n++] = row(node, node_index, ROLE_BETA, channels);
        break;
    case OP_INPUT:
    case OP_ACT:
    case OP_ADD:
    case OP_CONCAT:
    case OP_POOL_MAX:
    case OP_POOL_AVG:
    case OP_GAP:
    case OP_SHORTCUT:
    case OP_FLATTEN:
    case OP_DROPOUT:
    case OP_LOSS:
        break;
    }
    return n;
}
