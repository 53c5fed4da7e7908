/* From units of a network to the keys of cuDNN's plans: see plans.h. */
#include "server/backend/cudnn/plans.h"

bool conv_unit_key(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit, enum conv_op op,
                   struct conv_key *ret_key) {
    const struct gpu_value *x = &gpu->units[unit->inputs[0]].value, *y = &unit->value;
    const struct graph_node *node = &nodes[unit->node];
    bool padded = x->shape.c != x->channels || y->shape.c != y->channels;
    struct conv_key key = {.op = op,
                           .precision = gpu->options.precision,
                           .n = gpu->options.batch,
                           .h = x->shape.h,
                           .w = x->shape.w,
                           .c = x->channels,
                           .oh = y->shape.h,
                           .ow = y->shape.w,
                           .k = y->channels,
                           .kernel_h = 1,
                           .kernel_w = 1,
                           .stride_h = 1,
                           .stride_w = 1,
                           .dilation_h = 1,
                           .dilation_w = 1,
                           .groups = 1};
    if (node->op == OP_CONV) {
        key.kernel_h = node->window.kernel_h;
        key.kernel_w = node->window.kernel_w;
        key.stride_h = node->window.stride_h;
        key.stride_w = node->window.stride_w;
        key.pad_h = node->window.pad_h;
        key.pad_w = node->window.pad_w;
        key.dilation_h = node->window.dilation_h;
        key.dilation_w = node->window.dilation_w;
        key.groups = node->window.groups;
    }
    if ((y->wide && key.precision == PRECISION_BF16) || (key.groups > 1 && padded))
        return false;
    *ret_key = key;
    return true;
}

bool norm_unit_key(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit, enum norm_op op,
                   struct norm_key *ret_key) {
    const struct graph_node *node = &nodes[unit->node];
    bool relu = unit->act >= 0, add = unit->add >= 0;
    if (gpu->options.precision != PRECISION_BF16 || (add && !relu))
        return false;
    *ret_key = (struct norm_key){.op = op,
                                 .n = gpu->options.batch,
                                 .h = unit->value.shape.h,
                                 .w = unit->value.shape.w,
                                 .c = unit->value.channels,
                                 .relu = relu,
                                 .add = add,
                                 .epsilon = (float)node->epsilon,
                                 .momentum = (float)node->momentum};
    return true;
}
