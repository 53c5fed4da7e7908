/* Steps: forward through the nodes in order, backward in reverse order. */
#include <string.h>

#include "server/backend/ref/ref.h"

static void forward(const struct ref_call *call) {
    switch (call->node->op) {
    case OP_INPUT: /* its output is filled with the images before the first op */
        break;
    case OP_CONV:
        ref_conv_forward(call);
        break;
    case OP_NORM:
        ref_norm_forward(call);
        break;
    case OP_GROUP_NORM:
        ref_group_norm_forward(call);
        break;
    case OP_ACT:
        ref_act_forward(call);
        break;
    case OP_ADD:
        ref_add_forward(call);
        break;
    case OP_CONCAT:
        ref_concat_forward(call);
        break;
    case OP_POOL_MAX:
        ref_pool_max_forward(call);
        break;
    case OP_POOL_AVG:
        ref_pool_avg_forward(call);
        break;
    case OP_GAP:
        ref_gap_forward(call);
        break;
    case OP_SHORTCUT:
        ref_shortcut_forward(call);
        break;
    case OP_FLATTEN:
        ref_flatten_forward(call);
        break;
    case OP_LINEAR:
        ref_linear_forward(call);
        break;
    case OP_DROPOUT:
        ref_dropout_forward(call);
        break;
    case OP_LOSS:
        ref_loss_forward(call);
        break;
    }
}

static void backward(const struct ref_call *call) {
    switch (call->node->op) {
    case OP_INPUT: /* nothing trains the images */
        break;
    case OP_CONV:
        ref_conv_backward(call);
        break;
    case OP_NORM:
        ref_norm_backward(call);
        break;
    case OP_GROUP_NORM:
        ref_group_norm_backward(call);
        break;
    case OP_ACT:
        ref_act_backward(call);
        break;
    case OP_ADD:
        ref_add_backward(call);
        break;
    case OP_CONCAT:
        ref_concat_backward(call);
        break;
    case OP_POOL_MAX:
        ref_pool_max_backward(call);
        break;
    case OP_POOL_AVG:
        ref_pool_avg_backward(call);
        break;
    case OP_GAP:
        ref_gap_backward(call);
        break;
    case OP_SHORTCUT:
        ref_shortcut_backward(call);
        break;
    case OP_FLATTEN:
        ref_flatten_backward(call);
        break;
    case OP_LINEAR:
        ref_linear_backward(call);
        break;
    case OP_DROPOUT:
        ref_dropout_backward(call);
        break;
    case OP_LOSS:
        ref_loss_backward(call);
        break;
    }
}

static struct ref_call make_call(struct backend_plan *plan, int index, const struct backend_batch *batch, bool training) {
    const struct graph_node *node = &plan->nodes[index];
    struct ref_call call = {.node = node, .index = index, .n = batch->n, .training = training, .batch = batch};
    for (int i = 0; i < node->inputs_n; i++) {
        int from = node->inputs[i];
        call.in_shape[i] = plan->nodes[from].out;
        call.in[i] = plan->out[from];
        call.in_grad[i] = plan->grad[from];
    }
    call.out = plan->out[index];
    call.out_grad = plan->grad[index];
    for (int i = 0; i < node->params_n; i++) {
        call.value[i] = plan->value[node->params[i]];
        call.gradient[i] = plan->gradient[node->params[i]];
    }
    call.plane = plan->plane;
    return call;
}

static int check_labels(const struct backend_plan *plan, const int32_t *labels, int n, struct err *err) {
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= plan->classes)
            return err_set(err, ERR_BACKEND, "Image %d of a step has label %d; labels are 0 to %d", i, (int)labels[i],
                           plan->classes - 1);
    return 0;
}

static int check_batch(const struct backend_plan *plan, const struct backend_batch *batch, struct err *err) {
    if (batch->n < 1 || batch->n > plan->batch)
        return err_set(err, ERR_BACKEND, "A step of %d images; the plan takes 1 to %d", batch->n, plan->batch);
    if ((batch->others == NULL) != (batch->shares == NULL))
        return err_set(err, ERR_BACKEND, "A step with mixup needs both the other labels and the shares of the first ones");
    if (check_labels(plan, batch->labels, batch->n, err) < 0)
        return -1;
    return batch->others == NULL ? 0 : check_labels(plan, batch->others, batch->n, err);
}

static struct backend_result run_forward(struct backend_plan *plan, const struct backend_batch *batch, bool training) {
    memcpy(plan->out[0], batch->images, (size_t)batch->n * ref_count(plan->nodes[0].out) * sizeof(float));
    plan->last_n = batch->n;
    struct ref_call call = {0};
    for (int i = 0; i < plan->nodes_n; i++) {
        call = make_call(plan, i, batch, training);
        forward(&call);
    }
    return ref_loss_result(&call);
}

static void run_backward(struct backend_plan *plan, const struct backend_batch *batch) {
    for (int i = 1; i < plan->nodes_n; i++)
        memset(plan->grad[i], 0, (size_t)batch->n * ref_count(plan->nodes[i].out) * sizeof(float));
    for (int i = plan->nodes_n - 1; i > 0; i--) {
        struct ref_call call = make_call(plan, i, batch, true);
        backward(&call);
    }
    plan->has_gradients = true;
}

int ref_train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                   struct backend_result *ret_result, struct err *err) {
    if (plan->use != USE_TRAIN)
        return err_set(err, ERR_BACKEND, "A training step on a plan that was not compiled for training");
    if (ref_needs_square(optimizer->kind) && !plan->has_squares)
        return err_set(
            err, ERR_BACKEND,
            "A step of an optimizer with mean squares on a plan that was compiled for sgd; compile it for the optimizer");
    if (check_batch(plan, batch, err) < 0)
        return -1;
    *ret_result = run_forward(plan, batch, true);
    run_backward(plan, batch);
    ref_update(plan, optimizer);
    return 0;
}

int ref_eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                  struct backend_result *ret_result, struct err *err) {
    if (check_batch(plan, batch, err) < 0)
        return -1;
    *ret_result = run_forward(plan, batch, false);
    if (ret_softmax != NULL)
        memcpy(ret_softmax, plan->out[plan->nodes_n - 1], (size_t)batch->n * (size_t)plan->classes * sizeof(float));
    return 0;
}
