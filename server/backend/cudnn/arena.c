/* The memory of a network on the device: its regions, what they start with, and the pinned memory that two of them are copied
 * from and to. */
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

static int take_device(struct backend_plan *plan, struct err *err) {
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

int arena_take(struct backend_plan *plan, struct err *err) {
    if (take_device(plan, err) < 0 || take_pinned(plan, GPU_STAGING, &plan->staging, err) < 0)
        return -1;
    return take_pinned(plan, GPU_RESULTS, &plan->results, err);
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
int arena_start(struct backend_plan *plan, struct err *err) {
    static const enum gpu_region zeros[] = {GPU_MASTER,  GPU_WORKING,  GPU_MOMENTUM, GPU_SQUARE,
                                            GPU_AVERAGE, GPU_GRADIENT, GPU_RESULTS};
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        if (clear(plan, zeros[i], err) != 0)
            return -1;
    if (set_variances(plan, GPU_MASTER, err) != 0 || set_variances(plan, GPU_AVERAGE, err) != 0)
        return -1;
    return update_upload(plan, err);
}

/* On a device that has failed these calls fail as well, and nothing more can be done about it. */
void arena_free(struct backend_plan *plan) {
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
