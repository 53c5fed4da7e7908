/* Compiles a graph: units, layouts, kernels, buffers, in this order, since each step sizes the next. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/onednn/private.h"

void *plan_data(const struct backend_plan *plan, int buffer) {
    return buffer == NO_BUFFER ? NULL : plan->arena.data + plan->arena.buffers[buffer].offset;
}

void *plan_value(const struct backend_plan *plan, int node) {
    return plan_data(plan, plan->values[node].buffer);
}

/* Logits stay f32 in bf16 plans: the loss is their only reader. */
static bool is_logits(const struct backend_plan *plan, int node) {
    const struct graph_node *loss = &plan->nodes[plan->nodes_n - 1];
    if (plan->nodes[node].op != OP_LINEAR || loss->inputs[0] != node)
        return false;
    for (int i = node + 1; i < plan->nodes_n - 1; i++)
        for (int k = 0; k < plan->nodes[i].inputs_n; k++)
            if (plan->nodes[i].inputs[k] == node)
                return false;
    return true;
}

static void describe_values(struct backend_plan *plan) {
    bool bf16 = plan->options.precision == PRECISION_BF16;
    for (int i = 0; i < plan->nodes_n; i++) {
        struct graph_shape shape = plan->nodes[i].out;
        struct value *value = &plan->values[i];
        *value = (struct value){.c = shape.c, .h = shape.h, .w = shape.w, .buffer = NO_BUFFER};
        value->blocks = (shape.c + plan->lanes - 1) / plan->lanes;
        value->pixels = (size_t)shape.h * (size_t)shape.w;
        value->image = (size_t)value->blocks * (size_t)plan->lanes * value->pixels;
        value->bf16 = bf16 && !is_logits(plan, i);
        if (plan->row_size < value->pixels * (size_t)plan->lanes)
            plan->row_size = value->pixels * (size_t)plan->lanes;
        if (value->pixels == 1 && plan->row_size < value->image)
            plan->row_size = value->image; /* the loss takes an image's logits at once */
    }
}

static int copy_nodes(struct backend_plan *plan, const struct graph *graph, struct err *err) {
    size_t n = (size_t)graph->nodes_n;
    plan->nodes = arena_block(&plan->arena, n * sizeof *plan->nodes, err);
    plan->values = arena_block(&plan->arena, n * sizeof *plan->values, err);
    if (!plan->nodes || !plan->values)
        return -1;
    memcpy(plan->nodes, graph->nodes, n * sizeof *plan->nodes);
    plan->nodes_n = graph->nodes_n;
    plan->classes = graph->classes;
    return 0;
}

static int make_layers(struct backend_plan *plan, struct err *err) {
    for (int u = 0; u < plan->units_n; u++) {
        struct unit *unit = &plan->units[u];
        if (unit->op == OP_CONV && conv_new(plan, unit, err) != 0)
            return -1;
        if (unit->op == OP_CONV && conv_can_norm(unit->conv))
            units_defer_norm(plan, unit);
        if (unit->op == OP_NORM && norm_new(plan, unit, err) != 0)
            return -1;
        if (unit->op == OP_GROUP_NORM && group_norm_new(plan, unit, err) != 0)
            return -1;
        if (unit->op == OP_LINEAR)
            linear_need(plan, unit);
        for (int k = 0; k < unit->inputs_n; k++)
            if (unit->inputs[k] == 0 && !(unit->op == OP_CONV && conv_reads_images(unit->conv)))
                plan->input_blocked = true;
    }
    return 0;
}

static int allocate(struct backend_plan *plan, struct err *err) {
    struct arena *arena = &plan->arena;
    const struct value *input = &plan->values[0], *loss = &plan->values[plan->nodes_n - 1];
    size_t batch = (size_t)plan->options.batch, threads = (size_t)plan->backend->threads;
    size_t images = batch * (size_t)input->c * input->pixels;
    plan->images = arena_block(arena, images * sizeof(float), err);
    if (plan->options.precision == PRECISION_BF16)
        plan->images_bf16 = arena_block(arena, images * sizeof(uint16_t), err);
    plan->probabilities = arena_block(arena, batch * loss->image * sizeof(float), err);
    plan->losses = arena_block(arena, batch * sizeof(double), err);
    plan->rows = arena_block(arena, threads * 3 * plan->row_size * sizeof(float), err);
    plan->partial = arena_block(arena, threads * 2 * plan->partial_channels * sizeof(double), err);
    for (int i = 0; i < 2; i++) {
        plan->wide[i] = arena_block(arena, plan->wide_size[i] * sizeof(float), err);
        plan->plain[i] = arena_block(arena, plan->plain_size[i], err);
        if (!plan->wide[i] || !plan->plain[i])
            return -1;
    }
    if (!plan->images || (plan->options.precision == PRECISION_BF16 && !plan->images_bf16) || !plan->probabilities ||
        !plan->losses || !plan->rows || !plan->partial)
        return -1;
    return arena_commit(arena, err);
}

static int check(const struct graph *graph, const struct backend_plan_options *options, struct err *err) {
    if (options->batch < 1)
        return err_set(err, ERR_BACKEND, "a plan for batches of %d images; there must be at least 1", options->batch);
    if (graph->nodes_n == 0 || graph->nodes[graph->nodes_n - 1].op != OP_LOSS)
        return err_set(err, ERR_BACKEND, "the graph '%s' does not end in a loss", graph->title);
    if (options->precision == PRECISION_BF16 && !kernels_bf16())
        return err_set(err, ERR_BACKEND, "backend onednn cannot compute in bf16 on this CPU: it lacks AVX512_BF16; use f32");
    return 0;
}

static int build(struct backend_plan *plan, const struct graph *graph, struct err *err) {
    if (copy_nodes(plan, graph, err) != 0)
        return -1;
    describe_values(plan);
    program_needs(plan);
    if (params_build(plan, graph, err) != 0 || units_build(plan, err) != 0 || make_layers(plan, err) != 0 ||
        program_build(plan, err) != 0 || allocate(plan, err) != 0)
        return -1;
    for (int u = 0; u < plan->units_n; u++)
        if (plan->units[u].op == OP_CONV && conv_prepare(plan, &plan->units[u], plan->options.batch, err) != 0)
            return -1;
    return 0;
}

int plan_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                 struct backend_plan **ret_plan, struct err *err) {
    if (check(graph, options, err) != 0)
        return -1;
    struct backend_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return err_set(err, ERR_MEMORY, "out of memory while compiling '%s'", graph->title);
    omp_set_num_threads(backend->threads);
    plan->backend = backend;
    plan->options = *options;
    plan->lanes = backend->kernels->lanes;
    if (build(plan, graph, err) != 0) {
        plan_free(plan);
        return -1;
    }
    *ret_plan = plan;
    return 0;
}

void plan_free(struct backend_plan *plan) {
    if (!plan)
        return;
    for (int u = 0; u < plan->units_n; u++)
        conv_free(plan->units[u].conv);
    arena_done(&plan->arena);
    free(plan->scratch);
    free(plan->units);
    free(plan->steps);
    free(plan);
}

int64_t plan_memory(const struct backend_plan *plan) {
    return (int64_t)(sizeof *plan + plan->arena.size + plan->scratch_size) + plan->arena.blocks_bytes;
}
