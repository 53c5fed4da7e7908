/* The values that a network's units make on a GPU, their gradients, and what they save for the backward pass: how large each is,
 * when it is needed, and so where it lies. Steps of time: unit i runs forward at step i and backward at step 2 units - 1 - i. */
#include <stdlib.h>

#include "server/graph/gpu_private.h"

enum { F32 = 4, F64 = 8 }; /* bytes */

/* What is found out of each unit on the way. */
struct life {
    bool learns;  /* it or a unit before it has a trainable parameter */
    bool reached; /* a gradient of its output is made in the backward pass */
    int readers;
    int last_reader; /* a unit */
    struct gpu_block value, gradient;
};

static int backward_of(const struct gpu_plan *plan, int unit) {
    return 2 * plan->units_n - 1 - unit;
}

/* --- sizes --- */

static bool writes_f32(enum gpu_unit_kind kind) {
    return kind == GPU_CONV || kind == GPU_LINEAR;
}

static void describe_value(struct gpu_plan *plan, const struct graph *graph, struct gpu_unit *unit) {
    struct gpu_value *value = &unit->value;
    value->shape = graph->nodes[unit->node].out;
    value->channels = (int)gpu_round_up(value->shape.c, GPU_LANES);
    value->gradient = -1;
    if (unit->kind == GPU_LOSS) {
        value->wide = true;
        value->at = -1;
        return;
    }
    value->count = (int64_t)plan->options.batch * value->shape.h * value->shape.w * value->channels;
}

static int64_t value_bytes(const struct gpu_plan *plan, const struct gpu_value *value) {
    return value->count * gpu_element_bytes(plan, value);
}

/* Group norm's statistics go through memory in evaluation, too. */
static int64_t saved_bytes(const struct gpu_plan *plan, const struct graph *graph, const struct gpu_unit *unit) {
    if (unit->kind == GPU_GROUP_NORM)
        return (int64_t)2 * plan->options.batch * graph->nodes[unit->node].window.groups * F32;
    if (unit->kind == GPU_NORM && plan->options.train)
        return (int64_t)2 * unit->value.channels * F32;
    if (unit->kind == GPU_POOL_MAX && plan->options.train)
        return unit->value.count * (int64_t)sizeof(uint16_t);
    return 0;
}

static void lay_saved(struct gpu_plan *plan, const struct graph *graph) {
    int64_t at = 0;
    for (int i = 0; i < plan->units_n; i++) {
        struct gpu_unit *unit = &plan->units[i];
        unit->saved_bytes = saved_bytes(plan, graph, unit);
        unit->saved = unit->saved_bytes > 0 ? at : -1;
        at = gpu_round_up(at + unit->saved_bytes, GPU_ALIGN);
    }
    plan->regions[GPU_SAVED].bytes = at;
}

/* What a unit's sums over rows or groups need in region PARTIAL while they are made. */
static int64_t partial_bytes(const struct gpu_plan *plan, const struct graph *graph, const struct gpu_unit *unit) {
    const struct graph_node *node = &graph->nodes[unit->node];
    int64_t sliced = (int64_t)GPU_SLICES * 2 * unit->value.channels * F64;
    if (unit->kind == GPU_GROUP_NORM) {
        int64_t groups = (int64_t)plan->options.batch * node->window.groups * 2 * F32;
        return groups > sliced ? groups : sliced;
    }
    return unit->kind == GPU_NORM || node->bias ? sliced : 0;
}

static void size_buffers(struct gpu_plan *plan, const struct graph *graph) {
    int64_t scratch = 0, partial = (int64_t)plan->options.batch * F64; /* the mean greys of augment */
    for (int i = 0; i < plan->units_n; i++) {
        int64_t bytes = value_bytes(plan, &plan->units[i].value), sums = partial_bytes(plan, graph, &plan->units[i]);
        scratch = bytes > scratch ? bytes : scratch;
        partial = sums > partial ? sums : partial;
    }
    plan->regions[GPU_SCRATCH].bytes = scratch;
    plan->regions[GPU_PARTIAL].bytes = plan->options.train ? partial : 0;
}

/* --- the way of the gradients --- */

static void find_readers(const struct gpu_plan *plan, struct life *lives) {
    for (int i = 0; i < plan->units_n; i++) {
        lives[i].last_reader = i;
        for (int k = 0; k < plan->units[i].inputs_n; k++) {
            lives[plan->units[i].inputs[k]].readers++;
            lives[plan->units[i].inputs[k]].last_reader = i;
        }
    }
}

static void find_learning(const struct gpu_plan *plan, const struct graph *graph, struct life *lives) {
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        lives[i].learns = graph->nodes[unit->node].parameters > 0;
        for (int k = 0; k < unit->inputs_n; k++)
            lives[i].learns = lives[i].learns || lives[unit->inputs[k]].learns;
    }
}

static void find_wanted(struct gpu_plan *plan, struct life *lives) {
    lives[plan->units_n - 1].reached = true;
    for (int i = plan->units_n - 1; i >= 0; i--) {
        struct gpu_unit *unit = &plan->units[i];
        for (int k = 0; k < unit->inputs_n && lives[i].reached; k++) {
            struct life *input = &lives[unit->inputs[k]];
            unit->wanted[k] = input->learns;
            unit->accumulate[k] = input->learns && input->reached;
            input->reached = input->reached || input->learns;
        }
    }
}

/* --- lifetimes --- */

/* Whether the backward pass of a unit reads the values of its input number k. */
static bool reads_input_again(enum gpu_unit_kind kind, int k) {
    switch (kind) {
    case GPU_CONV:
    case GPU_LINEAR:
    case GPU_GROUP_NORM:
    case GPU_ACT:
        return true;
    case GPU_NORM:
        return k == 0;
    case GPU_INPUT:
    case GPU_ADD:
    case GPU_CONCAT:
    case GPU_POOL_MAX:
    case GPU_POOL_AVG:
    case GPU_SHORTCUT:
    case GPU_FLATTEN:
    case GPU_DROPOUT:
    case GPU_LOSS:
        return false;
    }
    return true;
}

/* A fused ReLU passes gradients on where the unit's output is positive. */
static bool reads_output_again(const struct gpu_unit *unit) {
    return unit->act >= 0;
}

static void extend(struct gpu_block *block, int step) {
    block->last = step > block->last ? step : block->last;
}

/* Units are visited in order, so an input's block is there when its readers extend it. */
static void live_values(const struct gpu_plan *plan, struct life *lives) {
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        bool goes_back = plan->options.train && lives[i].learns && lives[i].reached;
        lives[i].value = (struct gpu_block){.bytes = value_bytes(plan, &unit->value), .first = i, .last = i};
        if (plan->options.keep)
            extend(&lives[i].value, plan->units_n);
        if (goes_back && reads_output_again(unit))
            extend(&lives[i].value, backward_of(plan, i));
        for (int k = 0; k < unit->inputs_n; k++) {
            struct gpu_block *input = &lives[unit->inputs[k]].value;
            extend(input, i);
            if (goes_back && reads_input_again(unit->kind, k))
                extend(input, backward_of(plan, i));
        }
    }
}

/* A gradient is written first by the last unit that reads the value. */
static void live_gradients(const struct gpu_plan *plan, struct life *lives) {
    for (int i = 0; i < plan->units_n; i++)
        for (int k = 0; k < plan->units[i].inputs_n; k++)
            if (plan->units[i].wanted[k]) {
                int input = plan->units[i].inputs[k];
                lives[input].gradient = (struct gpu_block){.bytes = value_bytes(plan, &plan->units[input].value),
                                                           .first = backward_of(plan, i),
                                                           .last = backward_of(plan, input)};
            }
}

/* --- places --- */

static int place_values(struct gpu_plan *plan, const struct life *lives, struct gpu_block *blocks, struct err *err) {
    for (int i = 0; i < plan->units_n; i++)
        blocks[i] = lives[i].value;
    if (gpu_place(blocks, plan->units_n, &plan->regions[GPU_VALUES].bytes, err) < 0)
        return -1;
    for (int i = 0; i < plan->units_n; i++)
        if (blocks[i].bytes > 0)
            plan->units[i].value.at = blocks[i].at;
    return 0;
}

static int place_gradients(struct gpu_plan *plan, const struct life *lives, struct gpu_block *blocks, struct err *err) {
    for (int i = 0; i < plan->units_n; i++)
        blocks[i] = lives[i].gradient;
    if (gpu_place(blocks, plan->units_n, &plan->regions[GPU_GRADIENTS].bytes, err) < 0)
        return -1;
    for (int i = 0; i < plan->units_n; i++)
        if (blocks[i].bytes > 0)
            plan->units[i].value.gradient = blocks[i].at;
    return 0;
}

static int place(struct gpu_plan *plan, const struct life *lives, struct err *err) {
    struct gpu_block *blocks = calloc((size_t)plan->units_n, sizeof *blocks);
    if (blocks == NULL)
        return err_set(err, ERR_MEMORY, "No memory for placing the tensors of %d layers", plan->units_n);
    int failed = place_values(plan, lives, blocks, err);
    if (failed == 0)
        failed = place_gradients(plan, lives, blocks, err);
    free(blocks);
    return failed;
}

int gpu_values_lay(struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    struct life *lives = calloc((size_t)plan->units_n, sizeof *lives);
    if (lives == NULL)
        return err_set(err, ERR_MEMORY, "No memory for arranging the values of %d layers", plan->units_n);
    find_readers(plan, lives);
    find_learning(plan, graph, lives);
    for (int i = 0; i < plan->units_n; i++)
        describe_value(plan, graph, &plan->units[i]);
    struct gpu_unit *loss = &plan->units[plan->units_n - 1], *last = &plan->units[loss->inputs[0]];
    last->value.wide = writes_f32(last->kind) && lives[loss->inputs[0]].readers == 1;
    if (plan->options.train)
        find_wanted(plan, lives);
    live_values(plan, lives);
    live_gradients(plan, lives);
    lay_saved(plan, graph);
    size_buffers(plan, graph);
    int failed = place(plan, lives, err);
    free(lives);
    return failed;
}
