/* Parameters of a plan in flat arrays: values, gradients, and what the optimizer remembers. Weights of convolutions lie in the
 * blocked order in which oneDNN computes their gradients, so that no step needs a reorder of the master copy. */
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

static int allocate_array(struct backend_plan *plan, float **ret, size_t n, struct err *err) {
    *ret = arena_block(&plan->arena, n * sizeof **ret, err);
    return *ret ? 0 : -1;
}

static int allocate(struct backend_plan *plan, struct err *err) {
    struct plan_params *params = &plan->params;
    const struct backend_plan_options *options = &plan->options;
    bool trains = options->use == USE_TRAIN;
    if (allocate_array(plan, &params->values, params->total, err) != 0 ||
        (trains && allocate_array(plan, &params->momentum, params->trainable, err) != 0) ||
        (trains && allocate_array(plan, &params->gradients, params->trainable, err) != 0) ||
        (trains && optimizer_has_square(options->optimizer) &&
         allocate_array(plan, &params->square, params->trainable, err) != 0) ||
        (trains && options->average && allocate_array(plan, &params->average, params->total, err) != 0) ||
        (trains && optimizer_new(plan, err) != 0))
        return -1;
    return 0;
}

static void fill_ones(float *values, size_t n) {
    for (size_t k = 0; values && k < n; k++)
        values[k] = 1.0f;
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
        if (params->items[i].info.role == ROLE_RUNNING_VAR) {
            fill_ones(element(params->values, params->items[i].offset, false), params->items[i].padded);
            fill_ones(element(params->average, params->items[i].offset, false), params->items[i].padded);
        }
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

/* Copies the weights of a block of output channels, from the door's order into ours (in) or back. Inside, those of an input
 * channel at a tap are neighbours. */
static void copy_block(const struct backend_plan *plan, const struct param *param, size_t block, float *to, const float *from,
                       bool in) {
    const int *shape = param->info.shape;
    size_t lanes = (size_t)plan->lanes, ins = (size_t)shape[1], taps = (size_t)shape[2] * (size_t)shape[3];
    size_t first = block * lanes, outs = (size_t)shape[0] - first < lanes ? (size_t)shape[0] - first : lanes;
    for (size_t i = 0; i < ins; i++)
        for (size_t tap = 0; tap < taps; tap++) {
            size_t row = (block * (round_up(ins, lanes) / lanes) + i / lanes) * taps + tap;
            size_t inside = (row * lanes + i % lanes) * lanes, door = (first * ins + i) * taps + tap;
            for (size_t o = 0; o < outs; o++)
                to[in ? inside + o : door + o * ins * taps] = from[in ? door + o * ins * taps : inside + o];
        }
}

static void copy_values(const struct backend_plan *plan, const struct param *param, float *to, const float *from, bool in) {
    size_t lanes = (size_t)plan->lanes;
    if (!param->blocked) {
        memcpy(to, from, param->info.count * sizeof *to);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(plan->backend->threads)
    for (size_t block = 0; block < round_up((size_t)param->info.shape[0], lanes) / lanes; block++)
        copy_block(plan, param, block, to, from, in);
}

/* The array of a kind at a parameter, or NULL with *err set. */
static float *locate(struct backend_plan *plan, enum backend_tensor kind, int index, struct err *err) {
    static const char *const names[] = {[TENSOR_VALUE] = "value",
                                        [TENSOR_MOMENTUM] = "momentum",
                                        [TENSOR_SQUARE] = "mean square",
                                        [TENSOR_AVERAGE] = "average",
                                        [TENSOR_GRADIENT] = "gradient"};
    if (index < 0 || index >= plan->params.n) {
        err_set(err, ERR_BACKEND, "there is no parameter number %d; the model has %d", index, plan->params.n);
        return NULL;
    }
    const struct param *param = &plan->params.items[index];
    float *arrays[] = {[TENSOR_VALUE] = plan->params.values,
                       [TENSOR_MOMENTUM] = plan->params.momentum,
                       [TENSOR_SQUARE] = plan->params.square,
                       [TENSOR_AVERAGE] = plan->params.average,
                       [TENSOR_GRADIENT] = plan->has_gradients ? plan->params.gradients : NULL};
    bool of_all = kind == TENSOR_VALUE || kind == TENSOR_AVERAGE;
    if (!arrays[kind] || (!of_all && !param->info.trainable)) {
        err_set(err, ERR_BACKEND,
                "'%s' has no %s: it is a running statistic, the plan was compiled without it, or nothing was trained yet",
                param->info.name, names[kind]);
        return NULL;
    }
    return arrays[kind] + param->offset;
}

int params_get(struct backend_plan *plan, enum backend_tensor kind, int index, float *ret_values, struct err *err) {
    const float *from = locate(plan, kind, index, err);
    if (!from)
        return -1;
    copy_values(plan, &plan->params.items[index], ret_values, from, false);
    return 0;
}

int params_set(struct backend_plan *plan, enum backend_tensor kind, int index, const float *values, struct err *err) {
    if (kind == TENSOR_GRADIENT)
        return err_set(err, ERR_BACKEND, "a gradient is a result and cannot be set");
    float *to = locate(plan, kind, index, err);
    if (!to)
        return -1;
    copy_values(plan, &plan->params.items[index], to, values, true);
    plan->params.changed = true;
    return 0;
}
