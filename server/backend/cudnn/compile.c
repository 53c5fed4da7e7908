/* Compiling a network: from its graph to memory and programs. */
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/build.h"

/* --- programs --- */

static void build_forward(struct build *build, struct program *program, bool training) {
    const struct gpu_plan *gpu = build->plan->gpu;
    build->program = program;
    build->training = training;
    for (int i = 0; i < gpu->units_n; i++)
        forward_unit(build, &gpu->units[i]);
}

static void build_backward(struct build *build, struct program *program) {
    build->program = program;
    for (int i = build->plan->gpu->units_n - 1; i >= 0; i--)
        backward_unit(build, &build->plan->gpu->units[i]);
}

static void build_passes(struct build *build, enum size size) {
    build->fused = size == SIZE_FULL;
    build_forward(build, &build->plan->forward_train[size], true);
    build_backward(build, &build->plan->backward[size]);
}

static void build_training(struct build *build) {
    struct backend_plan *plan = build->plan;
    build_passes(build, SIZE_ANY);
    if (plan->backend->fused_norm && build->bf16)
        build_passes(build, SIZE_FULL);
    build->program = &plan->loss_train;
    forward_loss(build, true);
    build->program = &plan->update;
    build_update(build);
}

static void build_all(struct build *build) {
    struct backend_plan *plan = build->plan;
    for (int source = 0; source < SOURCES_N; source++) {
        build->program = &plan->input[source];
        build_images(build, (enum source)source);
    }
    if (plan->options.use == USE_TRAIN)
        build_training(build);
    build_forward(build, &plan->forward_eval, false);
    build->program = &plan->loss_eval;
    forward_loss(build, false);
    build->program = &plan->narrow;
    build_narrow(build);
}

static int build_programs(struct backend_plan *plan, struct err *err) {
    struct build build = {.plan = plan,
                          .batch = plan->options.batch,
                          .bf16 = plan->options.precision == PRECISION_BF16,
                          .convs = calloc((size_t)plan->gpu->units_n, sizeof *build.convs),
                          .masked = calloc((size_t)plan->gpu->units_n, sizeof *build.masked),
                          .err = err};
    if (build.convs != NULL && build.masked != NULL)
        build_all(&build);
    else
        build.failed = err_set(err, ERR_MEMORY, "No memory for the programs of a network of %d layers", plan->nodes_n);
    free(build.convs);
    free(build.masked);
    return build.failed;
}

/* --- the plan --- */

static int copy_graph(struct backend_plan *plan, const struct graph *graph, struct err *err) {
    size_t nodes_bytes = (size_t)graph->nodes_n * sizeof *plan->nodes, params_n = (size_t)graph->params_n;
    plan->nodes = malloc(nodes_bytes);
    plan->params = calloc(params_n + 1, sizeof *plan->params); /* + 1: a network may have none */
    if (plan->nodes == NULL || plan->params == NULL)
        return err_set(err, ERR_MEMORY, "No memory for the %d layers of '%s'", graph->nodes_n, graph->title);
    memcpy(plan->nodes, graph->nodes, nodes_bytes);
    if (params_n > 0)
        memcpy(plan->params, graph->params, params_n * sizeof *plan->params);
    plan->nodes_n = graph->nodes_n;
    plan->params_n = graph->params_n;
    plan->classes = graph->classes;
    plan->image = graph->nodes[0].out;
    return 0;
}

/* Our kernels count groups of channels in 32 bits. */
static int check_values(const struct backend_plan *plan, struct err *err) {
    for (int i = 0; i < plan->gpu->units_n; i++)
        if (plan->gpu->units[i].value.count > KERNEL_GROUPS_MAX * GPU_LANES)
            return err_set(err, ERR_UNSUPPORTED, "With %d images '%s' has %lld values, more than the %lld that kernels count to",
                           plan->options.batch, plan->nodes[plan->gpu->units[i].node].name,
                           (long long)plan->gpu->units[i].value.count, (long long)KERNEL_GROUPS_MAX * GPU_LANES);
    return 0;
}

static int lay(struct backend_plan *plan, const struct graph *graph, struct err *err) {
    const struct backend_plan_options *options = &plan->options;
    struct gpu_options gpu_options = {.batch = options->batch,
                                      .precision = options->precision,
                                      .train = options->use == USE_TRAIN,
                                      .keep = options->use == USE_INSPECT,
                                      .optimizer = options->optimizer,
                                      .average = options->average};
    return gpu_plan_new(graph, &gpu_options, &plan->gpu, err) < 0 ? -1 : check_values(plan, err);
}

static int check(const struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                 struct err *err) {
    if ((backend->info.precisions >> options->precision & 1) == 0)
        return err_set(err, ERR_BACKEND, "%s (compute capability %d.%d) computes in f32 only; bf16 and tf32 need 8.0",
                       backend->info.device, backend->info.compute / 10, backend->info.compute % 10);
    if (options->batch < 1)
        return err_set(err, ERR_BACKEND, "A plan for batches of %d images; there must be at least 1", options->batch);
    if (graph->nodes_n == 0 || graph->nodes[graph->nodes_n - 1].op != OP_LOSS)
        return err_set(err, ERR_BACKEND, "The graph '%s' does not end in a loss", graph->title);
    return 0;
}

int core_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                 struct backend_plan **ret_plan, struct err *err) {
    if (check(backend, graph, options, err) < 0)
        return -1;
    struct backend_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return err_set(err, ERR_MEMORY, "No memory for a plan of '%s'", graph->title);
    plan->backend = backend;
    plan->options = *options;
    if (options->steps == STEPS_AUTO && !backend->captures)
        plan->options.steps = STEPS_EAGER;
    if (copy_graph(plan, graph, err) < 0 || lay(plan, graph, err) < 0 || arena_take(plan, err) < 0 ||
        build_programs(plan, err) < 0 || arena_start(plan, err) < 0) {
        core_plan_free(plan);
        return -1;
    }
    *ret_plan = plan;
    return 0;
}

static void free_programs(struct backend_plan *plan) {
    struct program *programs[] = {&plan->input[SOURCE_SET],
                                  &plan->input[SOURCE_HOST],
                                  &plan->forward_train[SIZE_ANY],
                                  &plan->forward_train[SIZE_FULL],
                                  &plan->forward_eval,
                                  &plan->loss_train,
                                  &plan->loss_eval,
                                  &plan->backward[SIZE_ANY],
                                  &plan->backward[SIZE_FULL],
                                  &plan->update,
                                  &plan->narrow};
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
        program_done(programs[i]);
    build_free_owned(plan);
}

void core_plan_free(struct backend_plan *plan) {
    if (plan == NULL)
        return;
    (void)core_wait(plan->backend, "end its work", NULL);
    capture_done(plan);
    free_programs(plan);
    arena_free(plan);
    gpu_plan_free(plan->gpu);
    free(plan->nodes);
    free(plan->params);
    free(plan);
}

int64_t core_memory(const struct backend_plan *plan) {
    return plan->gpu->arena_bytes;
}
