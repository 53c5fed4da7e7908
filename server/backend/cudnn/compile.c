/* Compiling a network: its memory, its programs, what it starts with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/build.h"

/* The memory plan counts in these sizes without knowing the structs. */
_Static_assert(sizeof(struct kernel_step) <= KERNEL_STEP_BYTES && sizeof(struct kernel_result) <= KERNEL_RESULT_BYTES,
               "the structs fit into their places");
_Static_assert(sizeof(struct kernel_sample) == 64 && sizeof(struct kernel_statistics) == 24, "no hidden padding");

CUdeviceptr plan_at(const struct backend_plan *plan, int64_t offset) {
    return plan->arena + (CUdeviceptr)offset;
}

CUdeviceptr plan_region(const struct backend_plan *plan, enum gpu_region region) {
    return plan_at(plan, plan->gpu->regions[region].at);
}

struct results_layout plan_results(const struct backend_plan *plan) {
    size_t batch = (size_t)plan->options.batch;
    struct results_layout layout = {.statistics = KERNEL_RESULT_BYTES};
    layout.softmax = layout.statistics + (size_t)plan->params_n * sizeof(struct kernel_statistics);
    layout.losses = layout.softmax + batch * (size_t)plan->classes * sizeof(float);
    layout.rights = layout.losses + batch * sizeof(float);
    return layout;
}

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
                          .err = err};
    if (build.convs == NULL)
        return err_set(err, ERR_MEMORY, "No memory for the programs of a network of %d layers", plan->nodes_n);
    build_all(&build);
    free(build.convs);
    return build.failed;
}

/* --- memory --- */

static const char *const region_names[GPU_REGIONS] = {[GPU_MASTER] = "weights",
                                                      [GPU_WORKING] = "bf16 weights",
                                                      [GPU_MOMENTUM] = "momentum",
                                                      [GPU_SQUARE] = "mean squares",
                                                      [GPU_AVERAGE] = "average",
                                                      [GPU_GRADIENT] = "gradients of parameters",
                                                      [GPU_VALUES] = "values and their gradients",
                                                      [GPU_SAVED] = "saved",
                                                      [GPU_IMAGES] = "images",
                                                      [GPU_SCRATCH] = "scratch",
                                                      [GPU_PARTIAL] = "partial sums",
                                                      [GPU_STAGING] = "staging",
                                                      [GPU_RESULTS] = "results",
                                                      [GPU_TABLE] = "table of parameters"};

typedef void region_hook(CUdeviceptr at, size_t bytes, const char *name);

static void tell_regions(const struct backend_plan *plan, region_hook *hook) {
    for (int i = 0; i < GPU_REGIONS; i++)
        if (plan->gpu->regions[i].bytes > 0)
            hook(plan_region(plan, (enum gpu_region)i), (size_t)plan->gpu->regions[i].bytes, region_names[i]);
}

static int too_large(struct backend *backend, int64_t bytes, struct err *err) {
    size_t free_bytes = 0, total = 0;
    if (core_check(backend, backend->driver.cuMemGetInfo(&free_bytes, &total), "tell its free memory", err) != 0)
        return -1;
    return err_set(err, ERR_MEMORY,
                   "The network needs %lld MiB on the GPU, of which %zu MiB of %zu MiB are free; use a smaller batch",
                   (long long)(bytes >> 20), free_bytes >> 20, total >> 20);
}

static int take_arena(struct backend_plan *plan, struct err *err) {
    struct backend *backend = plan->backend;
    CUresult result = backend->driver.cuMemAlloc(&plan->arena, (size_t)plan->gpu->arena_bytes);
    bool full = result == CUDA_ERROR_OUT_OF_MEMORY;
    if (core_check(backend, result, "reserve memory for a network", full ? NULL : err) != 0)
        return full ? too_large(backend, plan->gpu->arena_bytes, err) : -1;
    tell_regions(plan, backend->driver.region_begin);
    return 0;
}

static int take_pinned(struct backend_plan *plan, enum gpu_region region, unsigned char **ret_memory, struct err *err) {
    size_t bytes = (size_t)plan->gpu->regions[region].bytes;
    void *memory;
    if (core_check(plan->backend, plan->backend->driver.cuMemAllocHost(&memory, bytes), "reserve pinned memory of the host",
                   err) != 0)
        return -1;
    memset(memory, 0, bytes);
    *ret_memory = memory;
    return 0;
}

/* --- what a plan starts with --- */

static int clear(struct backend_plan *plan, enum gpu_region region, struct err *err) {
    size_t bytes = (size_t)plan->gpu->regions[region].bytes;
    struct backend *backend = plan->backend;
    if (bytes == 0)
        return 0;
    return core_check(backend, backend->driver.cuMemsetD8Async(plan_region(plan, region), 0, bytes, backend->stream),
                      "clear memory", err);
}

/* Running variances start at one. */
static int set_variances(struct backend_plan *plan, enum gpu_region region, struct err *err) {
    enum { ONE = 0x3f800000 }; /* 1.0f */
    struct backend *backend = plan->backend;
    for (int i = 0; i < plan->params_n && plan->gpu->regions[region].bytes > 0; i++) {
        CUdeviceptr at = plan_region(plan, region) + (CUdeviceptr)plan->gpu->params[i].first * sizeof(float);
        if (plan->params[i].role == ROLE_RUNNING_VAR &&
            core_check(backend, backend->driver.cuMemsetD32Async(at, ONE, plan->params[i].count, backend->stream),
                       "set running variances", err) != 0)
            return -1;
    }
    return 0;
}

/* Values and their gradients are written before they are read, padding included; all else begins as zeros. */
static int start(struct backend_plan *plan, struct err *err) {
    static const enum gpu_region zeros[] = {GPU_MASTER,  GPU_WORKING,  GPU_MOMENTUM, GPU_SQUARE,
                                            GPU_AVERAGE, GPU_GRADIENT, GPU_RESULTS};
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        if (clear(plan, zeros[i], err) != 0)
            return -1;
    if (set_variances(plan, GPU_MASTER, err) != 0 || set_variances(plan, GPU_AVERAGE, err) != 0)
        return -1;
    return update_upload(plan, err);
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
    plan->options.eager = options->eager || !backend->captures;
    if (copy_graph(plan, graph, err) < 0 || lay(plan, graph, err) < 0 || take_arena(plan, err) < 0 ||
        take_pinned(plan, GPU_STAGING, &plan->staging, err) < 0 || take_pinned(plan, GPU_RESULTS, &plan->results, err) < 0 ||
        build_programs(plan, err) < 0 || start(plan, err) < 0) {
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

/* On a device that has failed these calls fail as well, and nothing more can be done about it. */
static void free_memory(struct backend_plan *plan) {
    struct gpu_driver *driver = &plan->backend->driver;
    void *pinned[] = {plan->staging, plan->results, plan->host_images};
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++)
        if (pinned[i] != NULL)
            (void)driver->cuMemFreeHost(pinned[i]);
    if (plan->arena == 0)
        return;
    tell_regions(plan, driver->region_end);
    (void)driver->cuMemFree(plan->arena);
}

void core_plan_free(struct backend_plan *plan) {
    if (plan == NULL)
        return;
    (void)core_wait(plan->backend, "end its work", NULL);
    capture_done(plan);
    free_programs(plan);
    free_memory(plan);
    gpu_plan_free(plan->gpu);
    free(plan->nodes);
    free(plan->params);
    free(plan);
}

int64_t core_memory(const struct backend_plan *plan) {
    return plan->gpu->arena_bytes;
}
