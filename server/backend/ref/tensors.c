/* Looking into a plan: parameters, what the optimizer remembers of them, gradients, activations, statistics. */
#include <string.h>

#include "server/backend/ref/ref.h"

/* The buffer of a tensor, or NULL with *err set. */
static float *find(struct backend_plan *plan, enum backend_tensor kind, int i, struct err *err) {
    if (i < 0 || i >= plan->params_n) {
        err_set(err, ERR_BACKEND, "There is no parameter number %d; the graph has %d", i, plan->params_n);
        return NULL;
    }
    const struct {
        const char *name;
        float *values;
    } tensors[] = {[TENSOR_VALUE] = {"value", plan->value[i]},
                   [TENSOR_MOMENTUM] = {"momentum", plan->momentum[i]},
                   [TENSOR_SQUARE] = {"mean square", plan->square[i]},
                   [TENSOR_AVERAGE] = {"average", plan->average[i]},
                   [TENSOR_GRADIENT] = {"gradient", plan->has_gradients ? plan->gradient[i] : NULL}};
    if (tensors[kind].values == NULL)
        err_set(err, ERR_BACKEND,
                "'%s' has no %s: it is a running statistic, the plan was compiled without it, or nothing was trained yet",
                plan->params[i].name, tensors[kind].name);
    return tensors[kind].values;
}

int ref_get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param_index, float *ret_values, struct err *err) {
    const float *from = find(plan, kind, param_index, err);
    if (from == NULL)
        return -1;
    memcpy(ret_values, from, plan->params[param_index].count * sizeof(float));
    return 0;
}

int ref_set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param_index, const float *values, struct err *err) {
    if (kind == TENSOR_GRADIENT)
        return err_set(err, ERR_BACKEND, "A gradient is a result and cannot be set");
    float *to = find(plan, kind, param_index, err);
    if (to == NULL)
        return -1;
    memcpy(to, values, plan->params[param_index].count * sizeof(float));
    return 0;
}

int ref_get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    if (plan->use == USE_EVALUATE)
        return err_set(err, ERR_BACKEND, "A plan for evaluation keeps no outputs; compile one for inspection");
    if (node < 0 || node >= plan->nodes_n)
        return err_set(err, ERR_BACKEND, "There is no layer number %d; the graph has %d", node, plan->nodes_n);
    if (n < 1 || n > plan->last_n)
        return err_set(err, ERR_BACKEND, "The output of '%s' for %d images was asked for; the last step had %d",
                       plan->nodes[node].name, n, plan->last_n);
    memcpy(ret_values, plan->out[node], (size_t)n * ref_count(plan->nodes[node].out) * sizeof(float));
    return 0;
}

int ref_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err) {
    if (!plan->has_gradients)
        return err_set(err, ERR_BACKEND, "There are no statistics: nothing was trained yet");
    memcpy(ret_rows, plan->statistics, (size_t)plan->params_n * sizeof *ret_rows);
    return 0;
}
