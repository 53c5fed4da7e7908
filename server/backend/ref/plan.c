/* A plan of the reference backend: copies of the graph's tables and one buffer per output, gradient and parameter. */
#include <stdlib.h>
#include <string.h>

#include "server/backend/ref/ref.h"

/* Zeroed memory that is counted in plan->bytes, or NULL. */
static void *take(struct backend_plan *plan, size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory != NULL)
        plan->bytes += (int64_t)(count * size);
    return memory;
}

static int copy_tables(struct backend_plan *plan, const struct graph *graph) {
    plan->nodes = take(plan, (size_t)graph->nodes_n, sizeof *plan->nodes);
    plan->params = take(plan, (size_t)graph->params_n, sizeof *plan->params);
    if (plan->nodes == NULL || plan->params == NULL)
        return -1;
    memcpy(plan->nodes, graph->nodes, (size_t)graph->nodes_n * sizeof *plan->nodes);
    if (graph->params_n > 0)
        memcpy(plan->params, graph->params, (size_t)graph->params_n * sizeof *plan->params);
    plan->nodes_n = graph->nodes_n;
    plan->params_n = graph->params_n;
    plan->classes = graph->classes;
    return 0;
}

static int take_outputs(struct backend_plan *plan) {
    size_t largest = 1;
    plan->out = take(plan, (size_t)plan->nodes_n, sizeof *plan->out);
    plan->grad = take(plan, (size_t)plan->nodes_n, sizeof *plan->grad);
    if (plan->out == NULL || plan->grad == NULL)
        return -1;
    for (int i = 0; i < plan->nodes_n; i++) {
        struct graph_shape shape = plan->nodes[i].out;
        size_t count = (size_t)plan->batch * ref_count(shape), pixels = (size_t)shape.h * (size_t)shape.w;
        largest = pixels > largest ? pixels : largest;
        plan->out[i] = take(plan, count, sizeof(float));
        if (plan->out[i] == NULL)
            return -1;
        if (plan->use != USE_TRAIN || plan->nodes[i].op == OP_INPUT)
            continue;
        plan->grad[i] = take(plan, count, sizeof(float));
        if (plan->grad[i] == NULL)
            return -1;
    }
    plan->plane = take(plan, largest, sizeof *plan->plane);
    return plan->plane == NULL ? -1 : 0;
}

/* One buffer of a parameter when it is wanted. */
static int take_floats(struct backend_plan *plan, bool wanted, size_t count, float **ret_buffer) {
    if (wanted)
        *ret_buffer = take(plan, count, sizeof(float));
    return wanted && *ret_buffer == NULL ? -1 : 0;
}

static void start_at_one(float *values, size_t count) {
    for (size_t k = 0; values != NULL && k < count; k++)
        values[k] = 1.0f;
}

static int take_param(struct backend_plan *plan, int i) {
    const struct graph_param *param = &plan->params[i];
    bool trained = plan->use == USE_TRAIN && param->trainable;
    if (take_floats(plan, true, param->count, &plan->value[i]) < 0 ||
        take_floats(plan, trained, param->count, &plan->gradient[i]) < 0 ||
        take_floats(plan, trained, param->count, &plan->momentum[i]) < 0 ||
        take_floats(plan, trained && plan->has_squares, param->count, &plan->square[i]) < 0 ||
        take_floats(plan, plan->has_averages, param->count, &plan->average[i]) < 0)
        return -1;
    if (param->role == ROLE_RUNNING_VAR) {
        start_at_one(plan->value[i], param->count);
        start_at_one(plan->average[i], param->count);
    }
    return 0;
}

static int take_params(struct backend_plan *plan) {
    size_t n = (size_t)plan->params_n;
    float ***tables[] = {&plan->value, &plan->gradient, &plan->momentum, &plan->square, &plan->average};
    for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
        *tables[k] = take(plan, n, sizeof **tables[k]);
        if (*tables[k] == NULL)
            return -1;
    }
    plan->statistics = take(plan, n, sizeof *plan->statistics);
    if (plan->statistics == NULL)
        return -1;
    for (int i = 0; i < plan->params_n; i++)
        if (take_param(plan, i) < 0)
            return -1;
    return 0;
}

int ref_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                struct backend_plan **ret_plan, struct err *err) {
    (void)backend;
    if (options->precision != PRECISION_F32)
        return err_set(err, ERR_BACKEND,
                       "Backend ref computes in f32 only, not in bf16; ask for precision f32 or another backend");
    if (options->batch < 1)
        return err_set(err, ERR_BACKEND, "A plan for batches of %d images; there must be at least 1", options->batch);
    if (graph->nodes_n == 0 || graph->nodes[graph->nodes_n - 1].op != OP_LOSS)
        return err_set(err, ERR_BACKEND, "The graph '%s' does not end in a loss", graph->title);
    struct backend_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return err_set(err, ERR_MEMORY, "No memory for a plan of '%s'", graph->title);
    plan->batch = options->batch;
    plan->use = options->use;
    plan->has_squares = plan->use == USE_TRAIN && ref_needs_square(options->optimizer);
    plan->has_averages = plan->use == USE_TRAIN && options->average;
    if (copy_tables(plan, graph) < 0 || take_outputs(plan) < 0 || take_params(plan) < 0) {
        ref_plan_free(plan);
        return err_set(err, ERR_MEMORY, "No memory for a plan of '%s' with batches of %d images; use a smaller batch",
                       graph->title, options->batch);
    }
    *ret_plan = plan;
    return 0;
}

static void free_all(float **buffers, int n) {
    for (int i = 0; buffers != NULL && i < n; i++)
        free(buffers[i]);
    free(buffers);
}

void ref_plan_free(struct backend_plan *plan) {
    if (plan == NULL)
        return;
    free_all(plan->out, plan->nodes_n);
    free_all(plan->grad, plan->nodes_n);
    free_all(plan->value, plan->params_n);
    free_all(plan->gradient, plan->params_n);
    free_all(plan->momentum, plan->params_n);
    free_all(plan->square, plan->params_n);
    free_all(plan->average, plan->params_n);
    free(plan->statistics);
    free(plan->plane);
    free(plan->nodes);
    free(plan->params);
    free(plan);
}

int64_t ref_memory(const struct backend_plan *plan) {
    return plan->bytes;
}
