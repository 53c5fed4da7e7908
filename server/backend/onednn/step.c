/* Runs a plan: units forward in order, steps backward, then the optimizer. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

static int check_labels(const struct backend_plan *plan, const int32_t *labels, int n, struct err *err) {
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= plan->classes)
            return err_set(err, ERR_BACKEND, "image %d of a step has label %d; labels are 0 to %d", i, (int)labels[i],
                           plan->classes - 1);
    return 0;
}

static int check_batch(const struct backend_plan *plan, const struct backend_batch *batch, struct err *err) {
    if (batch->n < 1 || batch->n > plan->options.batch)
        return err_set(err, ERR_BACKEND, "a step of %d images; the plan takes 1 to %d", batch->n, plan->options.batch);
    if (check_labels(plan, batch->labels, batch->n, err) != 0)
        return -1;
    return batch->shares ? check_labels(plan, batch->others, batch->n, err) : 0;
}

/* Primitives for this many images, and weights packed as the kernels want them. */
static int prepare(struct backend_plan *plan, int n, struct err *err) {
    for (int u = 0; u < plan->units_n; u++) {
        struct unit *unit = &plan->units[u];
        if (unit->op == OP_CONV &&
            (conv_prepare(plan, unit, n, err) != 0 || (plan->params.changed && conv_pack(plan, unit, err) != 0)))
            return -1;
    }
    plan->params.changed = false;
    return 0;
}

static void take_images(struct backend_plan *plan, const struct backend_batch *batch) {
    const struct value *value = &plan->values[0];
    size_t count = (size_t)batch->n * (size_t)value->c * value->pixels;
    memcpy(plan->images, batch->images, count * sizeof(float));
    if (plan->images_bf16)
        layout_narrow(plan, plan->images_bf16, plan->images, count);
    if (plan->input_blocked)
        layout_block(plan, plan_value(plan, 0), plan->images, false, value, batch->n);
}

static int run_forward(struct backend_plan *plan, struct unit *unit, const struct backend_batch *batch, bool training,
                       struct backend_result *ret_result, struct err *err) {
    int n = batch->n;
    switch (unit->op) {
    case OP_INPUT:
        take_images(plan, batch);
        return 0;
    case OP_CONV:
        return conv_forward(plan, unit, n, err);
    case OP_NORM:
        norm_forward(plan, unit, n, training);
        return 0;
    case OP_GROUP_NORM:
        group_norm_forward(plan, unit, n);
        return 0;
    case OP_ACT:
        act_forward(plan, unit, n);
        return 0;
    case OP_ADD:
        add_forward(plan, unit, n, unit->relu, plan_value(plan, unit->out));
        return 0;
    case OP_CONCAT:
        concat_forward(plan, unit, n);
        return 0;
    case OP_POOL_MAX:
    case OP_POOL_AVG:
        pool_forward(plan, unit, n);
        return 0;
    case OP_GAP:
        gap_forward(plan, unit, n);
        return 0;
    case OP_SHORTCUT:
        shortcut_forward(plan, unit, n);
        return 0;
    case OP_FLATTEN:
        flatten_forward(plan, unit, n);
        return 0;
    case OP_LINEAR:
        return linear_forward(plan, unit, n, err);
    case OP_DROPOUT:
        dropout_run(plan, unit, batch, plan_value(plan, unit->out), plan_value(plan, unit->inputs[0]), training);
        return 0;
    case OP_LOSS:
        loss_forward(plan, unit, batch, training, ret_result);
        return 0;
    }
    return 0;
}

static int run_backward(struct backend_plan *plan, struct unit *unit, const struct backend_batch *batch, struct err *err) {
    int n = batch->n;
    switch (unit->op) {
    case OP_INPUT: /* nothing trains the images */
        return 0;
    case OP_CONV:
        return conv_backward(plan, unit, n, err);
    case OP_NORM:
        norm_backward(plan, unit, n);
        return 0;
    case OP_GROUP_NORM:
        group_norm_backward(plan, unit, n);
        return 0;
    case OP_ACT:
        act_backward(plan, unit, n);
        return 0;
    case OP_ADD:
        add_backward(plan, unit, n);
        return 0;
    case OP_CONCAT:
        concat_backward(plan, unit, n);
        return 0;
    case OP_POOL_MAX:
    case OP_POOL_AVG:
        pool_backward(plan, unit, n);
        return 0;
    case OP_GAP:
        gap_backward(plan, unit, n);
        return 0;
    case OP_SHORTCUT:
        shortcut_backward(plan, unit, n);
        return 0;
    case OP_FLATTEN:
        flatten_backward(plan, unit, n);
        return 0;
    case OP_LINEAR:
        return linear_backward(plan, unit, n, err);
    case OP_DROPOUT:
        if (unit->input_grads[0] != NO_BUFFER)
            dropout_run(plan, unit, batch, plan_data(plan, unit->input_grads[0]), plan_data(plan, unit->grads[0]), true);
        return 0;
    case OP_LOSS:
        loss_backward(plan, unit, batch);
        return 0;
    }
    return 0;
}

static int forward(struct backend_plan *plan, const struct backend_batch *batch, bool training, struct backend_result *ret_result,
                   struct err *err) {
    if (check_batch(plan, batch, err) != 0)
        return -1;
    omp_set_num_threads(plan->backend->threads);
    if (prepare(plan, batch->n, err) != 0)
        return -1;
    plan->last_n = 0; /* until the step is whole */
    for (int u = 0; u < plan->units_n; u++)
        if (run_forward(plan, &plan->units[u], batch, training, ret_result, err) != 0)
            return -1;
    plan->last_n = batch->n;
    return 0;
}

int step_train(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
               struct backend_result *ret_result, struct err *err) {
    struct backend_result result = {0};
    if (plan->options.use != USE_TRAIN)
        return err_set(err, ERR_BACKEND, "a training step on a plan that was not compiled for training");
    if (optimizer_has_square(optimizer->kind) && !plan->params.square)
        return err_set(
            err, ERR_BACKEND,
            "a step of an optimizer with mean squares on a plan that was compiled for sgd; compile it for the optimizer");
    if (forward(plan, batch, true, &result, err) != 0)
        return -1;
    plan->last_n = 0; /* gradients take the memory of outputs */
    for (int s = 0; s < plan->steps_n; s++) {
        const struct step *step = &plan->steps[s];
        if (step->unit < 0)
            sum_step(plan, step, batch->n);
        else if (run_backward(plan, &plan->units[step->unit], batch, err) != 0)
            return -1;
    }
    plan->has_gradients = true;
    optimizer_update(plan, optimizer);
    *ret_result = result;
    return 0;
}

int step_eval(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax, struct backend_result *ret_result,
              struct err *err) {
    struct backend_result result = {0};
    if (forward(plan, batch, false, &result, err) != 0)
        return -1;
    size_t row = plan->values[plan->nodes_n - 1].image, classes = (size_t)plan->classes;
    for (size_t i = 0; ret_softmax && i < (size_t)batch->n; i++)
        memcpy(ret_softmax + i * classes, plan->probabilities + i * row, classes * sizeof(float));
    *ret_result = result;
    return 0;
}
