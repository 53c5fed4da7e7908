/* Shows what a node gave in the last evaluation; what was fused away is computed again. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* The outputs that a unit has no buffer for: of its inner nodes, or of a norm that its reader applies. */
static int recompute(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    const struct unit *unit = &plan->units[plan->values[node].unit];
    void *blocked = arena_pages(value_bytes(&plan->values[node], (size_t)n));
    if (!blocked)
        return err_set(err, ERR_MEMORY, "out of memory while showing layer '%s'", plan->nodes[node].name);
    if (unit->op == OP_NORM)
        norm_recompute(plan, unit, n, node, blocked);
    else if (unit->op == OP_GROUP_NORM)
        group_norm_recompute(plan, unit, n, plan->nodes[node].op == OP_ADD, blocked);
    else
        add_forward(plan, unit, n, false, blocked);
    layout_unblock(plan, ret_values, false, blocked, &plan->values[node], n);
    free(blocked);
    return 0;
}

int inspect_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    if (node < 0 || node >= plan->nodes_n)
        return err_set(err, ERR_BACKEND, "there is no layer number %d; the model has %d", node, plan->nodes_n);
    const struct value *value = &plan->values[node];
    if (n < 1 || n > plan->last_n)
        return err_set(err, ERR_BACKEND,
                       "the output of '%s' for %d images was asked for; there are %d of the last step, and none after training",
                       plan->nodes[node].name, n, plan->last_n);
    omp_set_num_threads(plan->backend->threads);
    if (plan->nodes[node].op == OP_INPUT) {
        memcpy(ret_values, plan->images, (size_t)n * (size_t)value->c * value->pixels * sizeof(float));
        return 0;
    }
    if (plan->nodes[node].op == OP_LOSS) {
        for (size_t i = 0; i < (size_t)n; i++)
            memcpy(ret_values + i * (size_t)value->c, plan->probabilities + i * value->image, (size_t)value->c * sizeof(float));
        return 0;
    }
    if (plan->options.use == USE_EVALUATE)
        return err_set(err, ERR_BACKEND,
                       "the output of '%s' is gone: a plan for evaluation reuses its memory; compile one for inspection",
                       plan->nodes[node].name);
    if (value->buffer == NO_BUFFER)
        return recompute(plan, node, n, ret_values, err);
    layout_unblock(plan, ret_values, false, plan_value(plan, node), value, n);
    return 0;
}
