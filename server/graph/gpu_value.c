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
    value->wide = unit->kind == GPU_LOSS;
    if (unit->kind != GPU_LOSS)
        value->count = (int64_t)plan->options.batch * value->shape.h * value->shape.w * value->channels;
}

static int64_t value_bytes(const struct gpu_plan *plan, const struct gpu_value *value) {
    return value->count * gpu_element_bytes(plan, value);
}

/* Blocks are placed with the bytes of one image, rounded up, and their places multiplied by the batch: so a larger batch never
 * needs less memory than a smaller one, whatever the order in which blocks find room. */
static int64_t image_bytes(const struct gpu_plan *plan, const struct gpu_value *value) {
    return gpu_round_up(value_bytes(plan, value) / plan->options.batch, GPU_ALIGN);
}

static int64_t norm_bytes(const struct gpu_plan *plan, const struct gpu_unit *unit) {
    int64_t statistics = (int64_t)2 * unit->value.channels * F32;
    bool masked = plan->options.precision == PRECISION_BF16 && unit->act >= 0;
    return masked ? gpu_round_up(statistics, GPU_ALIGN) + unit->value.count / 8 : statistics;
}

/* Group norm's statistics go through memory in evaluation, too. */
static int64_t saved_bytes(const struct gpu_plan *plan, const struct graph *graph, const struct gpu_unit *unit) {
    if (unit->kind == GPU_GROUP_NORM)
        return (int64_t)2 * plan->options.batch * graph->nodes[unit->node].window.groups * F32;
    if (unit->kind == GPU_NORM && plan->options.train)
        return norm_bytes(plan, unit);
    if (unit->kind == GPU_POOL_MAX && plan->options.train)
        return unit->value.count * (int64_t)sizeof(uint16_t);
    return 0;
}

/* A max pool in training saves a place in its window as 16 bits. */
int gpu_pools_check(const struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    for (int i = 0; i < plan->units_n && plan->options.train; i++) {
        const struct graph_node *node = &graph->nodes[plan->units[i].node];
        int64_t places = (int64_t)node->window.kernel_h * node->window.kernel_w;
        if (plan->units[i].kind == GPU_POOL_MAX && places > GPU_POOL_PLACES_MAX)
            return err_at(err, ERR_UNSUPPORTED, "/model",
                          "Layer '%s' takes the largest of %dx%d values; a GPU trains with at most %d. Use a smaller kernel",
                          node->name, node->window.kernel_h, node->window.kernel_w, GPU_POOL_PLACES_MAX);
    }
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
    int64_t scratch = (int64_t)plan->options.batch * F64; /* the mean greys of augment */
    for (int i = 0; i < plan->units_n && plan->options.train; i++) {
        int64_t bytes = value_bytes(plan, &plan->units[i].value), sums = partial_bytes(plan, graph, &plan->units[i]);
        scratch = bytes > scratch ? bytes : scratch;
        plan->regions[GPU_PARTIAL].bytes = sums > plan->regions[GPU_PARTIAL].bytes ? sums : plan->regions[GPU_PARTIAL].bytes;
    }
    plan->regions[GPU_SCRATCH].bytes = scratch;
}

/* --- the way of the gradients --- */

static void find_readers(const struct gpu_plan *plan, struct life *lives) {
    for (int i = 0; i < plan->units_n; i++)
        for (int k = 0; k < plan->units[i].inputs_n; k++)
            lives[plan->units[i].inputs[k]].readers++;
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
            if (!input->learns)
                continue;
            unit->wanted[k] = true;
            unit->accumulate[k] = input->reached;
            input->reached = true;
        }
    }
}

/* --- lifetimes --- */

/* Whether the backward pass of a unit reads the values of its input number k. The loss makes its gradient together with its
 * value. */
static bool reads_input_again(enum gpu_unit_kind kind, int k) {
    switch (kind) {
    case GPU_CONV:
    case GPU_LINEAR:
    case GPU_GROUP_NORM:
    case GPU_ACT:
    case GPU_LOSS:
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

/* Units are visited in order, so an input's block is there when its readers extend it. In a training plan an evaluation keeps all
 * values, as struct residuum_backend.get_activation promises, so they only share with gradients. */
static void live_values(const struct gpu_plan *plan, const struct life *lives, struct gpu_block *values) {
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        bool goes_back = plan->options.train && lives[i].learns && lives[i].reached;
        values[i] = (struct gpu_block){
            .bytes = image_bytes(plan, &unit->value), .first = i, .last = i, .kept = plan->options.keep || plan->options.train};
        if (goes_back && reads_output_again(unit))
            extend(&values[i], backward_of(plan, i));
        for (int k = 0; k < unit->inputs_n; k++) {
            extend(&values[unit->inputs[k]], i);
            if (goes_back && reads_input_again(unit->kind, k))
                extend(&values[unit->inputs[k]], backward_of(plan, i));
        }
    }
}

/* A gradient is written first by the last unit that reads the value. */
static void live_gradients(const struct gpu_plan *plan, struct gpu_block *gradients) {
    for (int i = 0; i < plan->units_n; i++)
        for (int k = 0; k < plan->units[i].inputs_n; k++)
            if (plan->units[i].wanted[k]) {
                int input = plan->units[i].inputs[k];
                gradients[input] = (struct gpu_block){.bytes = image_bytes(plan, &plan->units[input].value),
                                                      .first = backward_of(plan, i),
                                                      .last = backward_of(plan, input)};
            }
}

/* --- places --- */

static int place_all(struct gpu_plan *plan, const struct life *lives, struct err *err) {
    int64_t bytes, batch = plan->options.batch;
    int units_n = plan->units_n;
    struct gpu_block *blocks = calloc(2 * (size_t)units_n, sizeof *blocks), *values = blocks, *gradients = blocks + units_n;
    if (blocks == NULL)
        return err_set(err, ERR_MEMORY, "No memory for placing the tensors of %d layers", units_n);
    live_values(plan, lives, values);
    live_gradients(plan, gradients);
    int failed = gpu_place(blocks, 2 * units_n, &bytes, err);
    for (int i = 0; i < units_n && failed == 0; i++) {
        plan->units[i].value.at = values[i].bytes > 0 ? values[i].at * batch : -1;
        plan->units[i].value.gradient = gradients[i].bytes > 0 ? gradients[i].at * batch : -1;
    }
    if (failed == 0)
        plan->regions[GPU_VALUES].bytes = bytes * batch;
    free(blocks);
    return failed;
}

/* What describes the values, and leaves their places open. */
static void describe(struct gpu_plan *plan, const struct graph *graph, struct life *lives) {
    find_readers(plan, lives);
    find_learning(plan, graph, lives);
    if (plan->options.train)
        find_wanted(plan, lives);
    for (int i = 0; i < plan->units_n; i++)
        describe_value(plan, graph, &plan->units[i]);
    int logits = plan->units[plan->units_n - 1].inputs[0];
    plan->units[logits].value.wide = writes_f32(plan->units[logits].kind) && lives[logits].readers == 1;
}

int gpu_values_lay(struct gpu_plan *plan, const struct graph *graph, struct err *err) {
    struct life *lives = calloc((size_t)plan->units_n, sizeof *lives);
    if (lives == NULL)
        return err_set(err, ERR_MEMORY, "No memory for arranging the values of %d layers", plan->units_n);
    describe(plan, graph, lives);
    lay_saved(plan, graph);
    size_buffers(plan, graph);
    int failed = place_all(plan, lives, err);
    free(lives);
    return failed;
}
