/* Decides which nodes run as one: norm [+ add of two] [+ ReLU], add + ReLU, and in evaluation, where a norm is only a scale and
 * an offset, conv [+ norm] [+ add of two] [+ ReLU]. A node is fused away only when nothing else reads it. */
#include <stdlib.h>

#include "server/backend/onednn/private.h"

/* The only reader of node, or -1. */
static int only_reader(const struct backend_plan *plan, int node) {
    int reader = -1;
    for (int i = node + 1; i < plan->nodes_n; i++)
        for (int k = 0; k < plan->nodes[i].inputs_n; k++)
            if (plan->nodes[i].inputs[k] == node) {
                if (reader >= 0)
                    return -1;
                reader = i;
            }
    return reader;
}

static bool is_relu(const struct backend_plan *plan, int node) {
    return node >= 0 && plan->nodes[node].op == OP_ACT && plan->nodes[node].activation == ACTIVATION_RELU;
}

static void fuse_relu(struct backend_plan *plan, struct unit *unit) {
    int next = only_reader(plan, unit->out);
    if (is_relu(plan, next)) {
        unit->relu = true;
        unit->out = next;
    }
}

/* Whether reader is the only one of the nodes from first on that reads node. */
static bool is_last_reader(const struct backend_plan *plan, int node, int reader, int first) {
    for (int i = first; i < plan->nodes_n; i++)
        for (int k = 0; k < plan->nodes[i].inputs_n; k++)
            if (plan->nodes[i].inputs[k] == node && i != reader)
                return false;
    return true;
}

/* A unit takes the add behind it when the other operand exists before the unit runs: then its index is lower. A convolution adds
 * in place of that operand, so nothing may read it later. */
static void fuse_add(struct backend_plan *plan, struct unit *unit) {
    int next = only_reader(plan, unit->out);
    if (next < 0 || plan->nodes[next].op != OP_ADD || plan->nodes[next].inputs_n != 2)
        return;
    const int *inputs = plan->nodes[next].inputs;
    int other = inputs[0] == unit->out ? inputs[1] : inputs[0];
    if (other > unit->node ||
        (unit->op == OP_CONV && (plan->nodes[other].op == OP_INPUT || !is_last_reader(plan, other, next, unit->node))))
        return;
    unit->residual = true;
    unit->inputs[1] = other;
    unit->inputs_n = 2;
    unit->out = next;
}

static void fold_norm(struct backend_plan *plan, struct unit *unit) {
    int next = only_reader(plan, unit->out);
    if (next >= 0 && plan->nodes[next].op == OP_NORM)
        unit->folded = unit->out = next;
}

static void unit_start(struct backend_plan *plan, struct unit *unit, int node) {
    const struct graph_node *from = &plan->nodes[node];
    bool evaluates = plan->options.use == USE_EVALUATE && from->op == OP_CONV;
    *unit =
        (struct unit){.op = from->op, .node = node, .out = node, .folded = -1, .deferred_norm = -1, .inputs_n = from->inputs_n};
    unit->source = from->inputs[0];
    for (int k = 0; k < from->inputs_n; k++)
        unit->inputs[k] = from->inputs[k];
    for (int k = 0; k < GRAPH_INPUTS_MAX; k++)
        unit->input_grads[k] = NO_BUFFER;
    unit->grads[0] = unit->grads[1] = unit->masked = NO_BUFFER;
    if (evaluates)
        fold_norm(plan, unit);
    if (is_norm(unit->op) || evaluates)
        fuse_add(plan, unit);
    if (is_norm(unit->op) || unit->op == OP_ADD || evaluates)
        fuse_relu(plan, unit);
}

/* Marks the nodes between unit's first and last as its own. */
static void claim(struct backend_plan *plan, int unit) {
    int node = plan->units[unit].node;
    plan->values[node].unit = unit;
    while (node != plan->units[unit].out) {
        node = only_reader(plan, node);
        plan->values[node].unit = unit;
    }
}

int units_build(struct backend_plan *plan, struct err *err) {
    plan->units = calloc((size_t)plan->nodes_n, sizeof *plan->units);
    if (!plan->units)
        return err_set(err, ERR_MEMORY, "out of memory while compiling a model of %d layers", plan->nodes_n);
    for (int i = 0; i < plan->nodes_n; i++)
        plan->values[i].unit = -1;
    for (int i = 0; i < plan->nodes_n; i++)
        if (plan->values[i].unit < 0) {
            unit_start(plan, &plan->units[plan->units_n], i);
            claim(plan, plan->units_n++);
        }
    return 0;
}

void units_defer_norm(struct backend_plan *plan, struct unit *unit) {
    int index = plan->values[unit->inputs[0]].unit;
    struct unit *norm = &plan->units[index];
    if (plan->options.use != USE_TRAIN || norm->op != OP_NORM || norm->residual || norm->out != unit->inputs[0] ||
        only_reader(plan, norm->out) != unit->node)
        return;
    norm->deferred = true;
    unit->deferred_norm = index;
    unit->source = norm->inputs[0];
}
