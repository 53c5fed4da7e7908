/* The optimizers over the flat arrays of parameters. The arrays are cut into slices that lie in one parameter each; every slice
 * gives its own sums of squares, which are added up in the order of the slices: results do not depend on the threads. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* Floats of a slice: few enough that gradient clipping and averages find it in the second-level cache. */
enum { SLICE = 4096 };

static size_t slices_of(const struct param *param) {
    return (param->padded + SLICE - 1) / SLICE;
}

int optimizer_new(struct backend_plan *plan, struct err *err) {
    struct plan_params *params = &plan->params;
    for (int i = 0; i < params->n; i++)
        params->slices_n += slices_of(&params->items[i]);
    params->slices = arena_block(&plan->arena, params->slices_n * sizeof *params->slices, err);
    params->statistics = arena_block(&plan->arena, (size_t)params->n * sizeof *params->statistics, err);
    if (!params->slices || !params->statistics)
        return -1;
    struct slice *slice = params->slices;
    for (int i = 0; i < params->n; i++)
        for (size_t k = 0; k < params->items[i].padded; k += SLICE, slice++) {
            size_t left = params->items[i].padded - k;
            *slice = (struct slice){.param = i, .at = params->items[i].offset + k, .n = left < SLICE ? left : SLICE};
        }
    return 0;
}

bool optimizer_has_square(enum spec_optimizer kind) {
    return kind != OPTIMIZER_SGD;
}

/* What is the same for all parameters. Coefficients are made in double, as PyTorch does. */
static struct update common(const struct backend_optimizer *optimizer, double clip) {
    struct update update = {.clip = (float)clip,
                            .shrink = 1.0f,
                            .lr = optimizer->lr,
                            .momentum_keep = optimizer->momentum,
                            .epsilon = optimizer->epsilon,
                            .nesterov = optimizer->nesterov};
    double beta1 = (double)optimizer->beta1, beta2 = (double)optimizer->beta2, step = (double)optimizer->step;
    switch (optimizer->kind) {
    case OPTIMIZER_SGD:
        break;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_ADAMW:
        update.lr = (float)((double)optimizer->lr / (1.0 - pow(beta1, step)));
        update.momentum_keep = optimizer->beta1;
        update.momentum_take = (float)(1.0 - beta1);
        update.square_keep = optimizer->beta2;
        update.square_take = (float)(1.0 - beta2);
        update.root_scale = (float)(1.0 / sqrt(1.0 - pow(beta2, step)));
        break;
    case OPTIMIZER_RMSPROP:
        update.square_keep = optimizer->alpha;
        update.square_take = (float)(1.0 - (double)optimizer->alpha);
        break;
    }
    return update;
}

static void set_decay(struct update *update, const struct graph_param *info, const struct backend_optimizer *optimizer) {
    bool decays = info->decay && (info->role == ROLE_WEIGHT || !optimizer->decay_weights_only);
    float decay = decays ? optimizer->weight_decay : 0.0f;
    if (optimizer->kind == OPTIMIZER_ADAMW)
        update->shrink = (float)(1.0 - (double)optimizer->lr * (double)decay);
    else
        update->decay = decay;
}

static void run_update(const struct kernels *kernels, enum spec_optimizer kind, const struct update *update, size_t n,
                       double *ret_squares) {
    switch (kind) {
    case OPTIMIZER_SGD:
        kernels->sgd(update, n, ret_squares);
        break;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_ADAMW:
        kernels->adam(update, n, ret_squares);
        break;
    case OPTIMIZER_RMSPROP:
        kernels->rmsprop(update, n, ret_squares);
        break;
    }
}

static void update_slice(struct backend_plan *plan, struct slice *slice, const struct backend_optimizer *optimizer,
                         struct update update) {
    const struct plan_params *params = &plan->params;
    const struct graph_param *info = &params->items[slice->param].info;
    const struct kernels *kernels = plan->backend->kernels;
    if (info->trainable) {
        set_decay(&update, info, optimizer);
        update.weight = params->values + slice->at;
        update.momentum = params->momentum + slice->at;
        update.square = params->square ? params->square + slice->at : NULL;
        update.gradient = params->gradients + slice->at;
        run_update(kernels, optimizer->kind, &update, slice->n, slice->squares);
    }
    if (params->average)
        kernels->average(params->average + slice->at, params->values + slice->at, slice->n, optimizer->average_decay,
                         (float)(1.0 - (double)optimizer->average_decay));
}

/* The slices of this thread: those that begin in its share of all parameters. */
static bool is_mine(const struct backend_plan *plan, const struct slice *slice) {
    size_t first, end;
    share(plan->params.total, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
    return slice->at >= first && slice->at < end;
}

/* min(1, clip_norm / (norm of all gradients + 1e-6)), as torch.nn.utils.clip_grad_norm_; NaN when a gradient is. */
static double clip_factor(struct backend_plan *plan, float clip_norm) {
    struct plan_params *params = &plan->params;
    double sum = 0.0;
#pragma omp parallel
    for (size_t i = 0; i < params->slices_n; i++) {
        struct slice *slice = &params->slices[i];
        if (params->items[slice->param].info.trainable && is_mine(plan, slice))
            slice->squares[UPDATE_GRADIENT] = plan->backend->kernels->squares(params->gradients + slice->at, slice->n);
    }
    for (size_t i = 0; i < params->slices_n; i++)
        sum += params->slices[i].squares[UPDATE_GRADIENT];
    double factor = (double)clip_norm / (sqrt(sum) + 1e-6);
    return factor > 1.0 ? 1.0 : factor;
}

static void finish_statistics(struct plan_params *params) {
    for (size_t i = 0; i < params->slices_n;) {
        int param = params->slices[i].param;
        double sums[UPDATE_SQUARES] = {0};
        for (; i < params->slices_n && params->slices[i].param == param; i++)
            for (int k = 0; k < UPDATE_SQUARES; k++)
                sums[k] += params->slices[i].squares[k];
        params->statistics[param] = (struct backend_statistics){
            .gradient = sqrt(sums[UPDATE_GRADIENT]), .weight = sqrt(sums[UPDATE_WEIGHT]), .update = sqrt(sums[UPDATE_STEP])};
    }
}

void optimizer_update(struct backend_plan *plan, const struct backend_optimizer *optimizer) {
    struct plan_params *params = &plan->params;
    double clip = optimizer->clip_norm > 0.0f ? clip_factor(plan, optimizer->clip_norm) : 1.0;
    const struct update update = common(optimizer, clip);
#pragma omp parallel
    for (size_t i = 0; i < params->slices_n; i++)
        if (is_mine(plan, &params->slices[i]))
            update_slice(plan, &params->slices[i], optimizer, update);
    finish_statistics(params);
    params->changed = true;
}

int optimizer_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err) {
    if (!plan->has_gradients)
        return err_set(err, ERR_BACKEND, "there are no statistics: nothing was trained yet");
    memcpy(ret_rows, plan->params.statistics, (size_t)plan->params.n * sizeof *ret_rows);
    return 0;
}
