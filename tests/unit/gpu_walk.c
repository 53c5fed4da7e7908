/* Each tensor is whole from when it is written until something else is written over a byte of it. What units read and write is
 * what server/backend/cudnn/kernels/kernels.h says of their kernels; the plan's own idea of lifetimes is not asked. */
#include "tests/unit/gpu_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum part { VALUE, GRADIENT, SAVED, PARTS };

struct tensor {
    int64_t at, bytes;
    bool whole, read; /* read: in this step */
};

struct walk {
    const struct graph *graph;
    const struct gpu_plan *plan;
    struct tensor *tensors; /* [units][PARTS] */
    const char *pass;
    int unit;
};

static void complain(const struct walk *walk, const char *what, int tensor) {
    static const char *const parts[] = {[VALUE] = "value", [GRADIENT] = "gradient", [SAVED] = "statistics"};
    const struct gpu_unit *units = walk->plan->units, *owner = &units[tensor / PARTS];
    fail_msg("%s, %s of '%s': the %s of '%s' at %lld %s", walk->graph->title, walk->pass,
             walk->graph->nodes[units[walk->unit].node].name, parts[tensor % PARTS], walk->graph->nodes[owner->node].name,
             (long long)walk->tensors[tensor].at, what);
}

static void read_part(struct walk *walk, int unit, enum part part) {
    struct tensor *tensor = &walk->tensors[unit * PARTS + (int)part];
    if (tensor->at < 0)
        complain(walk, "is to be read and has no place", unit * PARTS + (int)part);
    if (!tensor->whole)
        complain(walk, "is to be read and was overwritten, or never written", unit * PARTS + (int)part);
    tensor->read = true;
}

static bool overlap(const struct tensor *a, const struct tensor *b) {
    return a->at >= 0 && b->at >= 0 && a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

static void write_part(struct walk *walk, int unit, enum part part) {
    struct tensor *tensor = &walk->tensors[unit * PARTS + (int)part];
    if (tensor->at < 0)
        complain(walk, "is to be written and has no place", unit * PARTS + (int)part);
    for (int i = 0; i < walk->plan->units_n * PARTS; i++)
        if (overlap(&walk->tensors[i], tensor))
            walk->tensors[i].whole = false;
    tensor->whole = true;
}

static void end_step(struct walk *walk) {
    for (int i = 0; i < walk->plan->units_n * PARTS; i++) {
        if (walk->tensors[i].read && !walk->tensors[i].whole)
            complain(walk, "is overwritten while it is read", i);
        walk->tensors[i].read = false;
    }
}

/* The loss makes the gradient of its logits in the same launch. */
static void go_forward(struct walk *walk, bool training) {
    const struct gpu_unit *unit = &walk->plan->units[walk->unit];
    for (int k = 0; k < unit->inputs_n; k++)
        read_part(walk, unit->inputs[k], VALUE);
    if (unit->saved >= 0)
        write_part(walk, walk->unit, SAVED);
    if (unit->kind != GPU_LOSS)
        write_part(walk, walk->unit, VALUE);
    else if (training && unit->wanted[0])
        write_part(walk, unit->inputs[0], GRADIENT);
    end_step(walk);
}

/* What an evaluation leaves for get_activation. */
static void keep_values(struct walk *walk) {
    for (int i = 0; i < walk->plan->units_n - 1; i++)
        read_part(walk, i, VALUE);
    end_step(walk);
}

static void read_backward(struct walk *walk, const struct gpu_unit *unit) {
    switch (unit->kind) {
    case GPU_NORM:
    case GPU_GROUP_NORM:
        read_part(walk, walk->unit, SAVED);
        read_part(walk, unit->inputs[0], VALUE);
        break;
    case GPU_CONV:
    case GPU_LINEAR:
    case GPU_ACT:
        read_part(walk, unit->inputs[0], VALUE);
        break;
    case GPU_POOL_MAX:
        read_part(walk, walk->unit, SAVED);
        break;
    case GPU_INPUT:
    case GPU_ADD:
    case GPU_CONCAT:
    case GPU_POOL_AVG:
    case GPU_SHORTCUT:
    case GPU_FLATTEN:
    case GPU_DROPOUT:
    case GPU_LOSS:
        break;
    }
    if (unit->act >= 0)
        read_part(walk, walk->unit, VALUE);
}

static void go_backward(struct walk *walk) {
    const struct gpu_unit *unit = &walk->plan->units[walk->unit];
    if (unit->value.gradient < 0)
        return;
    read_part(walk, walk->unit, GRADIENT);
    read_backward(walk, unit);
    for (int k = 0; k < unit->inputs_n; k++) {
        if (unit->accumulate[k])
            read_part(walk, unit->inputs[k], GRADIENT);
        if (unit->wanted[k])
            write_part(walk, unit->inputs[k], GRADIENT);
    }
    end_step(walk);
}

static void take_part(struct walk *walk, int unit, enum part part, enum gpu_region region, int64_t at, int64_t bytes) {
    const struct gpu_plan *plan = walk->plan;
    int index = unit * PARTS + (int)part;
    walk->unit = unit;
    walk->tensors[index] = (struct tensor){.at = at, .bytes = bytes};
    if (at < 0)
        return;
    if (at % GPU_ALIGN != 0)
        complain(walk, "is not aligned", index);
    if (at < plan->regions[region].at || at + bytes > plan->regions[region].at + plan->regions[region].bytes)
        complain(walk, "lies outside of its region", index);
}

static void take_tensors(struct walk *walk) {
    walk->pass = "plan";
    for (int i = 0; i < walk->plan->units_n; i++) {
        const struct gpu_unit *unit = &walk->plan->units[i];
        int64_t bytes = unit->value.count * gpu_element_bytes(walk->plan, &unit->value);
        take_part(walk, i, VALUE, GPU_VALUES, unit->value.at, bytes);
        take_part(walk, i, GRADIENT, GPU_VALUES, unit->value.gradient, bytes);
        take_part(walk, i, SAVED, GPU_SAVED, unit->saved, unit->saved_bytes);
    }
}

void gpu_walk(const struct graph *graph, const struct gpu_plan *plan) {
    struct walk walk = {.graph = graph, .plan = plan};
    walk.tensors = calloc((size_t)(plan->units_n * PARTS), sizeof *walk.tensors);
    assert_non_null(walk.tensors);
    take_tensors(&walk);
    walk.pass = "evaluation";
    for (walk.unit = 0; walk.unit < plan->units_n; walk.unit++)
        go_forward(&walk, false);
    walk.unit = plan->units_n - 1;
    if (plan->options.keep || plan->options.train)
        keep_values(&walk);
    walk.pass = "forward pass";
    for (walk.unit = 0; walk.unit < plan->units_n && plan->options.train; walk.unit++)
        go_forward(&walk, true);
    walk.pass = "backward pass";
    for (walk.unit = plan->units_n - 1; walk.unit >= 0 && plan->options.train; walk.unit--)
        go_backward(&walk);
    free(walk.tensors);
}
