/* Plans of fused batch norm, forward and backward: see plans.h. */
#include <stdio.h>
#include <stdlib.h>

#include "server/backend/cudnn/plans_private.h"

enum {
    UID_X = 1,
    UID_MEAN,
    UID_INVERSE,
    UID_GAMMA,
    UID_MASK,
    UID_Y,
    UID_BETA,
    UID_ADD,
    UID_RUNNING_MEAN,
    UID_RUNNING_VAR,
    UID_RUNNING_MEAN_OUT,
    UID_RUNNING_VAR_OUT,
    UID_EPSILON,
    UID_MOMENTUM,
    UID_ZERO,
    UID_DY,
    UID_DX,
    UID_MASKED, /* dy through the mask, dadd where it is wanted */
    UID_DGAMMA,
    UID_DBETA,
    UID_NORMED,
    UID_SUM
};

enum { LANES = 8 };

struct norm_plan {
    struct plan base;
    struct norm_key key;
    /* By value: cuDNN reads them when the plan runs. */
    float epsilon, momentum, zero;
};

/* --- tensors --- */

static cudnnBackendDescriptor_t values(struct draft *draft, const struct norm_key *key, int64_t uid) {
    return draft_tensor(draft, uid, CUDNN_DATA_BFLOAT16, (struct draft_shape){key->n, key->h, key->w, key->c}, DRAFT_MEMORY);
}

/* Between two operations. */
static cudnnBackendDescriptor_t inner(struct draft *draft, const struct norm_key *key, int64_t uid, cudnnDataType_t type) {
    return draft_tensor(draft, uid, type, (struct draft_shape){key->n, key->h, key->w, key->c}, DRAFT_VIRTUAL);
}

static cudnnBackendDescriptor_t mask(struct draft *draft, const struct norm_key *key) {
    return draft_tensor(draft, UID_MASK, CUDNN_DATA_BOOLEAN, (struct draft_shape){key->n, key->h, key->w, key->c}, DRAFT_MEMORY);
}

static cudnnBackendDescriptor_t channels(struct draft *draft, const struct norm_key *key, int64_t uid) {
    return draft_tensor(draft, uid, CUDNN_DATA_FLOAT, (struct draft_shape){1, 1, 1, key->c}, DRAFT_MEMORY);
}

static cudnnBackendDescriptor_t scalar(struct draft *draft, int64_t uid) {
    return draft_tensor(draft, uid, CUDNN_DATA_FLOAT, (struct draft_shape){1, 1, 1, 1}, DRAFT_VALUE);
}

/* --- operations --- */

/* y = mode(x, b); b may be NULL. */
static cudnnBackendDescriptor_t pointwise(struct draft *draft, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t function = draft_new(draft, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    draft_set(draft, function, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    draft_set(draft, function, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    draft_finalize(draft, function);
    cudnnBackendDescriptor_t operation = draft_new(draft, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    draft_ref(draft, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
    draft_ref(draft, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b != NULL)
        draft_ref(draft, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    draft_ref(draft, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    draft_finalize(draft, operation);
    return operation;
}

static cudnnBackendDescriptor_t norm_forward(struct draft *draft, const struct norm_key *key, cudnnBackendDescriptor_t y) {
    const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
    const cudnnBackendNormFwdPhase_t phase = CUDNN_NORM_FWD_TRAINING;
    cudnnBackendDescriptor_t made = draft_new(draft, CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
    draft_set(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
    draft_set(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, values(draft, key, UID_X));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, channels(draft, key, UID_MEAN));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, channels(draft, key, UID_INVERSE));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, channels(draft, key, UID_GAMMA));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, channels(draft, key, UID_BETA));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, scalar(draft, UID_EPSILON));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, scalar(draft, UID_MOMENTUM));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC, channels(draft, key, UID_RUNNING_MEAN));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, channels(draft, key, UID_RUNNING_VAR));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, channels(draft, key, UID_RUNNING_MEAN_OUT));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, channels(draft, key, UID_RUNNING_VAR_OUT));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, y);
    draft_finalize(draft, made);
    return made;
}

static cudnnBackendDescriptor_t norm_back(struct draft *draft, const struct norm_key *key, cudnnBackendDescriptor_t dy) {
    const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
    cudnnBackendDescriptor_t made = draft_new(draft, CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
    draft_set(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, values(draft, key, UID_X));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, channels(draft, key, UID_MEAN));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, channels(draft, key, UID_INVERSE));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, dy);
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, channels(draft, key, UID_GAMMA));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, channels(draft, key, UID_DGAMMA));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, channels(draft, key, UID_DBETA));
    draft_ref(draft, made, CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, values(draft, key, UID_DX));
    draft_finalize(draft, made);
    return made;
}

/* --- graphs --- */

/* norm (+ add) -> ReLU, and the mask of what the ReLU lets through. */
static cudnnBackendDescriptor_t describe_forward(struct draft *draft, const struct norm_key *key) {
    cudnnBackendDescriptor_t operations[4];
    int n = 0;
    cudnnBackendDescriptor_t y = values(draft, key, UID_Y),
                             normed = key->relu ? inner(draft, key, UID_NORMED, CUDNN_DATA_FLOAT) : y;
    operations[n++] = norm_forward(draft, key, normed);
    if (key->add) {
        cudnnBackendDescriptor_t sum = inner(draft, key, UID_SUM, CUDNN_DATA_FLOAT);
        operations[n++] = pointwise(draft, CUDNN_POINTWISE_ADD, normed, values(draft, key, UID_ADD), sum);
        normed = sum;
    }
    if (key->relu) {
        operations[n++] = pointwise(draft, CUDNN_POINTWISE_RELU_FWD, normed, NULL, y);
        operations[n++] = pointwise(draft, CUDNN_POINTWISE_CMP_GT, y, scalar(draft, UID_ZERO), mask(draft, key));
    }
    return draft_graph(draft, operations, n);
}

/* dy through the mask -> norm. What comes through the mask is the gradient of the add as well. */
static cudnnBackendDescriptor_t describe_back(struct draft *draft, const struct norm_key *key) {
    cudnnBackendDescriptor_t operations[2];
    int n = 0;
    cudnnBackendDescriptor_t dy = values(draft, key, UID_DY);
    if (key->relu) {
        cudnnBackendDescriptor_t masked =
            key->add ? values(draft, key, UID_MASKED) : inner(draft, key, UID_MASKED, CUDNN_DATA_BFLOAT16);
        operations[n++] = pointwise(draft, CUDNN_POINTWISE_MUL, dy, mask(draft, key), masked);
        dy = masked;
    }
    operations[n++] = norm_back(draft, key, dy);
    return draft_graph(draft, operations, n);
}

static cudnnBackendDescriptor_t describe(struct draft *draft, const void *arg) {
    const struct norm_key *key = arg;
    return key->op == NORM_FORWARD ? describe_forward(draft, key) : describe_back(draft, key);
}

/* --- the door --- */

int norm_plan_new(struct planner *planner, const struct norm_key *key, struct norm_plan **ret_plan, struct err *err) {
    char text[160];
    snprintf(text, sizeof text, "batch norm%s%s of %dx%dx%dx%d", key->add ? ", add" : "", key->relu ? ", ReLU" : "", key->n,
             key->h, key->w, key->c);
    if (key->c % LANES != 0 || (key->add && !key->relu))
        return err_set(err, ERR_UNSUPPORTED, "cuDNN has no %s: channels must be a multiple of %d, and an add needs a ReLU", text,
                       LANES);
    struct norm_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    const struct plan_request request = {key->op == NORM_FORWARD ? PLAN_NORM_FORWARD : PLAN_NORM_BACK, text, PRECISION_BF16,
                                         key->nondeterministic};
    if (plan_new(planner, &request, describe, key, &plan->base, err) != 0) {
        free(plan);
        return -1;
    }
    plan->key = *key;
    plan->epsilon = key->epsilon;
    plan->momentum = key->momentum;
    *ret_plan = plan;
    return 0;
}

void norm_plan_free(struct norm_plan *plan) {
    if (plan == NULL)
        return;
    plan_done(&plan->base);
    free(plan);
}

int64_t norm_plan_workspace(const struct norm_plan *plan) {
    return plan->base.workspace_bytes;
}

int64_t norm_mask_bytes(const struct norm_key *key) {
    return (int64_t)key->n * key->h * key->w * key->c / 8;
}

void norm_plan_describe(const struct norm_plan *plan, char *ret_text) {
    plan_text(&plan->base, ret_text);
}

static int forward_addresses(struct norm_plan *plan, const struct norm_addresses *at, struct plan_address *ret_rows) {
    const struct plan_address rows[] = {
        {UID_X, (void *)at->x},
        {UID_MEAN, (void *)at->mean},
        {UID_INVERSE, (void *)at->inverse},
        {UID_GAMMA, (void *)at->gamma},
        {UID_BETA, (void *)at->beta},
        {UID_RUNNING_MEAN, (void *)at->running_mean},
        {UID_RUNNING_VAR, (void *)at->running_var},
        {UID_RUNNING_MEAN_OUT, (void *)at->running_mean_out},
        {UID_RUNNING_VAR_OUT, (void *)at->running_var_out},
        {UID_EPSILON, &plan->epsilon},
        {UID_MOMENTUM, &plan->momentum},
        {UID_Y, (void *)at->y},
    };
    int n = 0;
    for (; n < (int)(sizeof rows / sizeof rows[0]); n++)
        ret_rows[n] = rows[n];
    if (plan->key.add)
        ret_rows[n++] = (struct plan_address){UID_ADD, (void *)at->add};
    if (plan->key.relu) {
        ret_rows[n++] = (struct plan_address){UID_ZERO, &plan->zero};
        ret_rows[n++] = (struct plan_address){UID_MASK, (void *)at->mask};
    }
    return n;
}

static int back_addresses(const struct norm_plan *plan, const struct norm_addresses *at, struct plan_address *ret_rows) {
    const struct plan_address rows[] = {
        {UID_X, (void *)at->x},           {UID_MEAN, (void *)at->mean},   {UID_INVERSE, (void *)at->inverse},
        {UID_GAMMA, (void *)at->gamma},   {UID_DY, (void *)at->dy},       {UID_DX, (void *)at->dx},
        {UID_DGAMMA, (void *)at->dgamma}, {UID_DBETA, (void *)at->dbeta},
    };
    int n = 0;
    for (; n < (int)(sizeof rows / sizeof rows[0]); n++)
        ret_rows[n] = rows[n];
    if (plan->key.add)
        ret_rows[n++] = (struct plan_address){UID_MASKED, (void *)at->dadd};
    if (plan->key.relu)
        ret_rows[n++] = (struct plan_address){UID_MASK, (void *)at->mask};
    return n;
}

int norm_plan_bind(struct norm_plan *plan, const struct norm_addresses *at, struct err *err) {
    struct plan_address rows[PLAN_ADDRESSES_MAX];
    int n = plan->key.op == NORM_FORWARD ? forward_addresses(plan, at, rows) : back_addresses(plan, at, rows);
    return plan_bind(&plan->base, rows, n, at->workspace, err);
}

int norm_plan_run(const struct norm_plan *plan, cudnnHandle_t handle, struct err *err) {
    return plan_run(&plan->base, handle, plan->key.op == NORM_FORWARD ? "run a batch norm" : "run a batch norm's gradient", err);
}
