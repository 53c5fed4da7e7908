/* Plans of convolutions, forward and backward: see plans.h. */
#include <stdio.h>
#include <stdlib.h>

#include "server/backend/cudnn/plans_private.h"

enum { UID_X = 1, UID_W, UID_Y, UIDS_END };

struct conv_plan {
    struct plan base;
    enum conv_op op;
};

static enum plan_op plan_op(enum conv_op op) {
    switch (op) {
    case CONV_FORWARD:
        return PLAN_FORWARD;
    case CONV_BACK_X:
        return PLAN_BACK_X;
    case CONV_BACK_W:
        break;
    }
    return PLAN_BACK_W;
}

static const char *verb(enum conv_op op) {
    switch (op) {
    case CONV_FORWARD:
        return "run a convolution";
    case CONV_BACK_X:
        return "run a convolution's gradient of its input";
    case CONV_BACK_W:
        break;
    }
    return "run a convolution's gradient of its weights";
}

static void key_text(const struct conv_key *key, char *ret_text, size_t size) {
    snprintf(ret_text, size, "%dx%dx%dx%d, %d filters of %dx%d, stride %dx%d, padding %dx%d, dilation %dx%d, %d group%s", key->n,
             key->h, key->w, key->c, key->k, key->kernel_h, key->kernel_w, key->stride_h, key->stride_w, key->pad_h, key->pad_w,
             key->dilation_h, key->dilation_w, key->groups, key->groups == 1 ? "" : "s");
}

static cudnnBackendDescriptor_t window(struct draft *draft, const struct conv_key *key) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dilation[2] = {key->dilation_h, key->dilation_w}, stride[2] = {key->stride_h, key->stride_w};
    const int64_t pad[2] = {key->pad_h, key->pad_w};
    cudnnBackendDescriptor_t made = draft_new(draft, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    draft_int(draft, made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    draft_set(draft, made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    draft_finalize(draft, made);
    return made;
}

/* The descriptor of each operation, and what its attributes are called. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
} operations[] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_BACK_X] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_BACK_W] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static cudnnBackendDescriptor_t describe(struct draft *draft, const void *arg) {
    const struct conv_key *key = arg;
    const cudnnDataType_t type = key->precision == PRECISION_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const float alpha = 1, beta = 0;
    const struct draft_shape x = {key->n, key->h, key->w, key->c}, y = {key->n, key->oh, key->ow, key->k};
    const struct draft_shape w = {key->k, key->kernel_h, key->kernel_w, key->c / key->groups};
    cudnnBackendDescriptor_t of_x = draft_tensor(draft, UID_X, type, x, DRAFT_MEMORY);
    cudnnBackendDescriptor_t of_w = draft_tensor(draft, UID_W, type, w, DRAFT_MEMORY);
    cudnnBackendDescriptor_t of_y = draft_tensor(draft, UID_Y, type, y, DRAFT_MEMORY);
    cudnnBackendDescriptor_t of_window = window(draft, key);
    cudnnBackendDescriptor_t operation = draft_new(draft, operations[key->op].type);
    draft_ref(draft, operation, operations[key->op].window, of_window);
    draft_ref(draft, operation, operations[key->op].x, of_x);
    draft_ref(draft, operation, operations[key->op].w, of_w);
    draft_ref(draft, operation, operations[key->op].y, of_y);
    draft_set(draft, operation, operations[key->op].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    draft_set(draft, operation, operations[key->op].beta, CUDNN_TYPE_FLOAT, 1, &beta);
    draft_finalize(draft, operation);
    return draft_graph(draft, &operation, 1);
}

int conv_plan_new(struct planner *planner, const struct conv_key *key, struct conv_plan **ret_plan, struct err *err) {
    char text[160];
    key_text(key, text, sizeof text);
    if (key->groups < 1 || key->c % key->groups != 0 || key->k % key->groups != 0)
        return err_set(err, ERR_UNSUPPORTED, "cuDNN cannot cut the channels of %s into groups", text);
    struct conv_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    const struct plan_request request = {plan_op(key->op), text, key->precision, key->nondeterministic};
    if (plan_new(planner, &request, describe, key, &plan->base, err) != 0) {
        free(plan);
        return -1;
    }
    plan->op = key->op;
    *ret_plan = plan;
    return 0;
}

void conv_plan_free(struct conv_plan *plan) {
    if (plan == NULL)
        return;
    plan_done(&plan->base);
    free(plan);
}

int64_t conv_plan_workspace(const struct conv_plan *plan) {
    return plan->base.workspace_bytes;
}

void conv_plan_describe(const struct conv_plan *plan, char *ret_text) {
    plan_text(&plan->base, ret_text);
}

int conv_plan_bind(struct conv_plan *plan, CUdeviceptr x, CUdeviceptr w, CUdeviceptr y, CUdeviceptr workspace, struct err *err) {
    const struct plan_address addresses[] = {{UID_X, (void *)x}, {UID_W, (void *)w}, {UID_Y, (void *)y}};
    return plan_bind(&plan->base, addresses, UIDS_END - 1, workspace, err);
}

int conv_plan_run(const struct conv_plan *plan, cudnnHandle_t handle, struct err *err) {
    return plan_run(&plan->base, handle, verb(plan->op), err);
}
