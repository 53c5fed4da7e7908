/* From units of a network to their windows, and to the keys of cuDNN's plans: see plans.h. */
#include "server/backend/cudnn/plans.h"

/* Of one pixel: that of a linear layer. */
static struct kernel_window shapes(const struct gpu_plan *gpu, const struct gpu_unit *unit) {
    const struct gpu_value *in = &gpu->units[unit->inputs[0]].value, *out = &unit->value;
    return (struct kernel_window){.batch = gpu->options.batch,
                                  .h = in->shape.h,
                                  .w = in->shape.w,
                                  .c = in->shape.c,
                                  .cp = in->channels,
                                  .oh = out->shape.h,
                                  .ow = out->shape.w,
                                  .oc = out->shape.c,
                                  .ocp = out->channels,
                                  .kernel_h = 1,
                                  .kernel_w = 1,
                                  .stride_h = 1,
                                  .stride_w = 1,
                                  .dilation_h = 1,
                                  .dilation_w = 1,
                                  .groups = 1};
}

struct kernel_window unit_window(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit) {
    struct kernel_window window = shapes(gpu, unit);
    const struct graph_node *node = &nodes[unit->node];
    if (node->op == OP_GAP) {
        window.kernel_h = window.h;
        window.kernel_w = window.w;
        return window;
    }
    if (node->op == OP_LINEAR)
        return window;
    window.stride_h = node->window.stride_h;
    window.stride_w = node->window.stride_w;
    if (node->op == OP_SHORTCUT)
        return window;
    window.kernel_h = node->window.kernel_h;
    window.kernel_w = node->window.kernel_w;
    window.pad_h = node->window.pad_h;
    window.pad_w = node->window.pad_w;
    if (node->op != OP_CONV)
        return window;
    window.dilation_h = node->window.dilation_h;
    window.dilation_w = node->window.dilation_w;
    window.groups = node->window.groups;
    return window;
}

bool conv_unit_key(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit, enum conv_op op,
                   struct conv_key *ret_key) {
    struct kernel_window window = unit_window(gpu, nodes, unit);
    bool padded = window.c != window.cp || window.oc != window.ocp;
    if ((unit->value.wide && gpu->options.precision == PRECISION_BF16) || (window.groups > 1 && padded))
        return false;
    *ret_key = (struct conv_key){.op = op,
                                 .precision = gpu->options.precision,
                                 .n = window.batch,
                                 .h = window.h,
                                 .w = window.w,
                                 .c = window.cp,
                                 .oh = window.oh,
                                 .ow = window.ow,
                                 .k = window.ocp,
                                 .kernel_h = window.kernel_h,
                                 .kernel_w = window.kernel_w,
                                 .stride_h = window.stride_h,
                                 .stride_w = window.stride_w,
                                 .pad_h = window.pad_h,
                                 .pad_w = window.pad_w,
                                 .dilation_h = window.dilation_h,
                                 .dilation_w = window.dilation_w,
                                 .groups = window.groups};
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
