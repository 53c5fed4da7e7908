/* Plans the backward pass: which buffers hold which gradients, where a gradient can be written over another, and when each
 * buffer is last read. Gradients of a value that several units read arrive one by one; at most two wait unsummed, since the
 * norm and add kernels sum two on the fly. */
#include <stdlib.h>

#include "server/backend/onednn/private.h"

static int now(const struct backend_plan *plan) {
    return plan->units_n + plan->steps_n;
}

static struct step *next_step(struct backend_plan *plan, struct err *err) {
    if (plan->steps_n == plan->steps_max) {
        int max = plan->steps_max ? 2 * plan->steps_max : 64;
        struct step *grown = realloc(plan->steps, (size_t)max * sizeof *grown);
        if (!grown) {
            err_set(err, ERR_MEMORY, "out of memory while planning a backward pass");
            return NULL;
        }
        plan->steps = grown;
        plan->steps_max = max;
    }
    return &plan->steps[plan->steps_n];
}

static int new_gradient(struct backend_plan *plan, int node, struct err *err) {
    return arena_buffer(&plan->arena, value_bytes(&plan->values[node], (size_t)plan->options.batch), now(plan), err);
}

/* A buffer of node's gradients that may be written over: nothing but the caller still reads it. */
static int overwritable(struct backend_plan *plan, int a, int b) {
    const struct buffer *buffers = plan->arena.buffers;
    if (a != NO_BUFFER && buffers[a].references == 1)
        return a;
    if (b != NO_BUFFER && buffers[b].references == 1)
        return b;
    return NO_BUFFER;
}

static void take(struct backend_plan *plan, int buffer) {
    if (buffer == NO_BUFFER)
        return;
    plan->arena.buffers[buffer].references--;
    arena_touch(&plan->arena, buffer, now(plan));
}

/* Sums the two gradients that wait for value into one, as a step of its own. */
static int merge(struct backend_plan *plan, int node, struct err *err) {
    struct value *value = &plan->values[node];
    struct step *step = next_step(plan, err);
    if (!step)
        return -1;
    int a = value->grads[0], b = value->grads[1], dst = overwritable(plan, a, b);
    if (dst == NO_BUFFER && (dst = new_gradient(plan, node, err)) == NO_BUFFER)
        return -1;
    take(plan, a);
    take(plan, b);
    arena_touch(&plan->arena, dst, now(plan));
    *step = (struct step){.unit = -1, .dst = dst, .a = a, .b = b, .value = node};
    plan->arena.buffers[dst].references++;
    plan->steps_n++;
    value->grads[0] = dst;
    value->grads_n = 1;
    return 0;
}

/* Adds a buffer to the gradients of a node; the caller's own step must be in the list already, since a sum may follow it. */
static int contribute(struct backend_plan *plan, int node, int buffer, struct err *err) {
    struct value *value = &plan->values[node];
    if (value->grads_n == 2 && merge(plan, node, err) != 0)
        return -1;
    value->grads[value->grads_n++] = buffer;
    plan->arena.buffers[buffer].references++;
    return 0;
}

/* Whether the backward kernels of op can sum two gradients while reading them. */
static bool sums_two(enum graph_op op) {
    return is_norm(op) || op == OP_ADD || op == OP_ACT;
}

static bool wants(const struct backend_plan *plan, const struct unit *unit, int k) {
    return plan->values[unit->inputs[k]].needs_grad;
}

/* norm and add keep the summed, masked gradient when a second tensor's gradient is equal to it, or to sum only once. */
static int choose_masked(struct backend_plan *plan, struct unit *unit, struct err *err) {
    bool passes_on = unit->op == OP_ADD || (unit->residual && wants(plan, unit, 1));
    bool changed = unit->relu || unit->grads[1] != NO_BUFFER;
    if ((!is_norm(unit->op) && unit->op != OP_ADD) || (!passes_on && unit->grads[1] == NO_BUFFER))
        return 0;
    unit->masked = changed ? overwritable(plan, unit->grads[0], unit->grads[1]) : unit->grads[0];
    if (unit->masked == NO_BUFFER)
        unit->masked = new_gradient(plan, unit->out, err);
    return unit->masked == NO_BUFFER ? -1 : 0;
}

/* The buffer of the gradient that a unit computes for its k-th input. */
static int choose_output(struct backend_plan *plan, struct unit *unit, int k, struct err *err) {
    if (unit->op == OP_ADD || (unit->residual && k == 1))
        return unit->masked;
    if (is_norm(unit->op) || unit->op == OP_ACT) {
        bool passes_on = unit->residual && wants(plan, unit, 1);
        if (unit->masked != NO_BUFFER && !passes_on)
            return unit->masked;
        for (int i = 0; i < 2; i++)
            if (unit->grads[i] != NO_BUFFER && unit->grads[i] != unit->masked &&
                plan->arena.buffers[unit->grads[i]].references == 1)
                return unit->grads[i];
    }
    return new_gradient(plan, unit->inputs[k], err);
}

/* What a unit's backward pass reads of the forward pass is alive until then. */
static void keep_read(struct backend_plan *plan, const struct unit *unit) {
    bool reads_output = unit->op != OP_CONV && (unit->op != OP_NORM || unit->residual);
    for (int k = 0; k < unit->inputs_n; k++)
        arena_touch(&plan->arena, plan->values[unit->inputs[k]].buffer, now(plan));
    arena_touch(&plan->arena, plan->values[unit->source].buffer, now(plan));
    if (reads_output)
        arena_touch(&plan->arena, plan->values[unit->out].buffer, now(plan));
}

static int unit_backward(struct backend_plan *plan, int index, struct err *err) {
    struct unit *unit = &plan->units[index];
    struct value *out = &plan->values[unit->out];
    if (unit->op != OP_LOSS && (!out->needs_grad || out->grads_n == 0))
        return 0;
    if (out->grads_n == 2 && !sums_two(unit->op) && merge(plan, unit->out, err) != 0)
        return -1;
    struct step *step = next_step(plan, err);
    if (!step)
        return -1;
    *step = (struct step){.unit = index, .dst = NO_BUFFER, .a = NO_BUFFER, .b = NO_BUFFER};
    unit->backward = true;
    for (int i = 0; i < out->grads_n; i++)
        unit->grads[i] = out->grads[i];
    if (choose_masked(plan, unit, err) != 0)
        return -1;
    for (int k = 0; k < unit->inputs_n; k++)
        if (wants(plan, unit, k) && (unit->input_grads[k] = choose_output(plan, unit, k, err)) == NO_BUFFER)
            return -1;
    take(plan, unit->grads[0]);
    take(plan, unit->grads[1]);
    arena_touch(&plan->arena, unit->masked, now(plan));
    keep_read(plan, unit);
    plan->steps_n++;
    for (int k = 0; k < unit->inputs_n; k++)
        if (unit->input_grads[k] != NO_BUFFER) {
            arena_touch(&plan->arena, unit->input_grads[k], now(plan) - 1);
            if (contribute(plan, unit->inputs[k], unit->input_grads[k], err) != 0)
                return -1;
        }
    return 0;
}

void program_needs(struct backend_plan *plan) {
    for (int i = 0; i < plan->nodes_n; i++) {
        plan->values[i].needs_grad = plan->nodes[i].params_n > 0;
        for (int k = 0; k < plan->nodes[i].inputs_n; k++)
            if (plan->values[plan->nodes[i].inputs[k]].needs_grad)
                plan->values[i].needs_grad = true;
    }
}

/* Buffers of the forward pass. A plan for evaluation frees an output when its last reader has run. The others keep all outputs to
 * the end of the forward pass, so that they can be shown; in training, the backward pass frees one when it is done with it. */
static int forward_buffers(struct backend_plan *plan, struct err *err) {
    for (int u = 0; u < plan->units_n; u++) {
        const struct unit *unit = &plan->units[u];
        struct value *out = &plan->values[unit->out];
        if (unit->op == OP_LOSS || unit->deferred || (unit->op == OP_INPUT && !plan->input_blocked))
            continue;
        if (unit->op == OP_CONV && unit->residual)
            out->buffer = plan->values[unit->inputs[1]].buffer; /* it adds in place */
        else if ((out->buffer = arena_buffer(&plan->arena, value_bytes(out, (size_t)plan->options.batch), u, err)) == NO_BUFFER)
            return -1;
        if (plan->options.use != USE_EVALUATE)
            arena_touch(&plan->arena, out->buffer, plan->units_n - 1);
        for (int k = 0; k < unit->inputs_n; k++)
            arena_touch(&plan->arena, plan->values[unit->inputs[k]].buffer, u);
        arena_touch(&plan->arena, plan->values[unit->source].buffer, u);
    }
    return 0;
}

int program_build(struct backend_plan *plan, struct err *err) {
    for (int i = 0; i < plan->nodes_n; i++)
        plan->values[i].buffer = NO_BUFFER;
    if (forward_buffers(plan, err) != 0)
        return -1;
    if (plan->options.use != USE_TRAIN)
        return 0;
    for (int u = plan->units_n - 1; u >= 0; u--)
        if (unit_backward(plan, u, err) != 0)
            return -1;
    return 0;
}
