/* Parameters of a plan in three flat arrays (values, momentum, gradients), and the optimizer over them. Weights of convolutions
 * lie in the blocked order in which oneDNN computes their gradients, so that no step needs a reorder of the master copy. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* Blocked: convolutions of one group. The images' few channels are not padded to a block: see conv.c. */
static bool is_blocked(const struct backend_plan *plan, const struct graph_param *info) {
    const struct graph_node *node = &plan->nodes[info->node];
    return node->op == OP_CONV && info->role == ROLE_WEIGHT && node->window.groups == 1 && node->inputs[0] != 0;
}

static size_t padded_count(const struct backend_plan *plan, const struct param *param) {
    size_t lanes = (size_t)plan->lanes;
    const int *shape = param->info.shape;
    if (param->blocked)
        return round_up((size_t)shape[0], lanes) * round_up((size_t)shape[1], lanes) * (size_t)shape[2] * (size_t)shape[3];
    return round_up(param->info.count, lanes);
}

/* Gives places to the parameters whose trainable flag is wanted; returns where the next one goes. */
static size_t place(struct backend_plan *plan, bool trainable, size_t at) {
    for (int i = 0; i < plan->params.n; i++) {
        struct param *param = &plan->params.items[i];
        if (param->info.trainable != trainable)
            continue;
        param->blocked = is_blocked(plan, &param->info);
        param->padded = padded_count(plan, param);
        param->offset = at;
        at += round_up(param->padded, ALIGNMENT / sizeof(float));
    }
    return at;
}

static int allocate(struct backend_plan *plan, struct err *err) {
    struct plan_params *params = &plan->params;
    params->values = arena_block(&plan->arena, params->total * sizeof(float), err);
    if (!params->values)
        return -1;
    if (plan->options.use != USE_TRAIN)
        return 0;
    params->momentum = arena_block(&plan->arena, params->trainable * sizeof(float), err);
    params->gradients = arena_block(&plan->arena, params->trainable * sizeof(float), err);
    return params->momentum && params->gradients ? 0 : -1;
}

int params_build(struct backend_plan *plan, const struct graph *graph, struct err *err) {
    struct plan_params *params = &plan->params;
    params->n = graph->params_n;
    params->items = arena_block(&plan->arena, (size_t)graph->params_n * sizeof *params->items, err);
    if (!params->items)
        return -1;
    for (int i = 0; i < graph->params_n; i++)
        params->items[i].info = graph->params[i];
    params->trainable = place(plan, true, 0);
    params->total = place(plan, false, params->trainable);
    params->changed = true;
    if (allocate(plan, err) != 0)
        return -1;
    for (int i = 0; i < params->n; i++)
        for (size_t k = 0; params->items[i].info.role == ROLE_RUNNING_VAR && k < params->items[i].padded; k++)
            params->values[params->items[i].offset + k] = 1.0f;
    return 0;
}

static const struct param *find(const struct backend_plan *plan, int node, enum graph_role role) {
    for (int k = 0; k < plan->nodes[node].params_n; k++) {
        const struct param *param = &plan->params.items[plan->nodes[node].params[k]];
        if (param->info.role == role)
            return param;
    }
    return NULL;
}

float *params_value(const struct backend_plan *plan, int node, enum graph_role role) {
    const struct param *param = find(plan, node, role);
    return param ? plan->params.values + param->offset : NULL;
}

float *params_gradient(const struct backend_plan *plan, int node, enum graph_role role) {
    const struct param *param = find(plan, node, role);
    return param && plan->params.gradients ? plan->params.gradients + param->offset : NULL;
}

bool params_blocked(const struct backend_plan *plan, int node) {
    return find(plan, node, ROLE_WEIGHT)->blocked;
}

static void update_range(struct backend_plan *plan, size_t first, size_t end, const struct sgd_rates *rates) {
    struct plan_params *params = &plan->params;
    size_t lines = (end - first) / (ALIGNMENT / sizeof(float));
#pragma omp parallel
    {
        size_t from, to;
        share(lines, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
        from = first + from * (ALIGNMENT / sizeof(float));
        to = first + to * (ALIGNMENT / sizeof(float));
        plan->backend->kernels->sgd(params->values + from, params->momentum + from, params->gradients + from, to - from, rates);
    }
}

/* Neighbours that decay alike are updated in one go: usually everything. */
void params_update(struct backend_plan *plan, const struct backend_optimizer *sgd) {
    struct plan_params *params = &plan->params;
    size_t first = 0, end = 0;
    bool decay = false;
    for (int i = 0; i < params->n; i++) {
        const struct param *param = &params->items[i];
        if (!param->info.trainable)
            continue;
        struct sgd_rates rates = {sgd->lr, sgd->momentum, decay ? sgd->weight_decay : 0.0f, sgd->nesterov};
        if (end > first && param->info.decay != decay) {
            update_range(plan, first, end, &rates);
            first = end;
        }
        decay = param->info.decay;
        end = param->offset + round_up(param->padded, ALIGNMENT / sizeof(float));
    }
    struct sgd_rates rates = {sgd->lr, sgd->momentum, decay ? sgd->weight_decay : 0.0f, sgd->nesterov};
    if (end > first)
        update_range(plan, first, end, &rates);
    params->changed = true;
}

/* Where element k of the door's order lies. */
static size_t position(const struct backend_plan *plan, const struct param *param, size_t k) {
    if (!param->blocked)
        return k;
    const int *shape = param->info.shape;
    size_t lanes = (size_t)plan->lanes, in_blocks = round_up((size_t)shape[1], lanes) / lanes;
    size_t taps = (size_t)shape[2] * (size_t)shape[3], tap = k % taps;
    size_t i = k / taps % (size_t)shape[1], o = k / taps / (size_t)shape[1];
    size_t block = ((o / lanes) * in_blocks + i / lanes) * taps + tap;
    return (block * lanes + i % lanes) * lanes + o % lanes;
}

/* The array of a kind at a parameter, or NULL with *err set. */
static float *locate(struct backend_plan *plan, enum backend_tensor kind, int index, struct err *err) {
    if (index < 0 || index >= plan->params.n) {
        err_set(err, ERR_BACKEND, "there is no parameter number %d; the model has %d", index, plan->params.n);
        return NULL;
    }
    const struct param *param = &plan->params.items[index];
    float *arrays[] = {[TENSOR_VALUE] = plan->params.values,
                       [TENSOR_MOMENTUM] = plan->params.momentum,
                       [TENSOR_SQUARE] = NULL,
                       [TENSOR_AVERAGE] = NULL,
                       [TENSOR_GRADIENT] = plan->params.gradients};
    bool missing = kind != TENSOR_VALUE && !param->info.trainable;
    if (!arrays[kind] || missing || (kind == TENSOR_GRADIENT && !plan->has_gradients)) {
        err_set(err, ERR_BACKEND,
                "'%s' has no %s: it is a running statistic, the plan is for inference only, or nothing was trained yet",
                param->info.name, kind == TENSOR_GRADIENT ? "gradient" : "momentum");
        return NULL;
    }
    return arrays[kind] + param->offset;
}

int params_get(struct backend_plan *plan, enum backend_tensor kind, int index, float *ret_values, struct err *err) {
    const float *from = locate(plan, kind, index, err);
    if (!from)
        return -1;
    const struct param *param = &plan->params.items[index];
    for (size_t k = 0; k < param->info.count; k++)
        ret_values[k] = from[position(plan, param, k)];
    return 0;
}

int params_set(struct backend_plan *plan, enum backend_tensor kind, int index, const float *values, struct err *err) {
    if (kind == TENSOR_GRADIENT)
        return err_set(err, ERR_BACKEND, "a gradient is a result and cannot be set");
    float *to = locate(plan, kind, index, err);
    if (!to)
        return -1;
    const struct param *param = &plan->params.items[index];
    for (size_t k = 0; k < param->info.count; k++)
        to[position(plan, param, k)] = values[k];
    plan->params.changed = true;
    return 0;
}

int params_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err) {
    if (!plan->has_gradients)
        return err_set(err, ERR_BACKEND, "there are no gradients: nothing was trained yet");
    for (int i = 0; i < plan->params.n; i++) {
        const struct param *param = &plan->params.items[i];
        double sum = 0.0;
        const float *from = plan->params.gradients + param->offset; /* what pads a block is zero */
        for (size_t k = 0; param->info.trainable && k < param->padded; k++)
            sum += (double)from[k] * (double)from[k];
        ret_rows[i] = (struct backend_statistics){.gradient = sqrt(sum)};
    }
    return 0;
}
