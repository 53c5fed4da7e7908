/* An open device: its context, stream, kernels, cuDNN, the workspace that all plans share; and what everything else does with
 * them: checks, waits, copies. */
#include <stdlib.h>

#include "server/backend/cudnn/core.h"
#include "server/backend/cudnn/device.h"
#include "server/backend/cudnn/kernels/load.h"

/* --- calls --- */

int core_check(struct backend *backend, CUresult result, const char *what, struct err *err) {
    if (gpu_error(&backend->driver, result, what, err) == 0)
        return 0;
    if (err != NULL)
        nvml_blame(&backend->nvml, err);
    return -1;
}

int core_wait(struct backend *backend, const char *what, struct err *err) {
    return core_check(backend, backend->driver.cuStreamSynchronize(backend->stream), what, err);
}

int core_upload(struct backend *backend, CUdeviceptr to, const void *from, size_t bytes, struct err *err) {
    if (bytes == 0)
        return 0;
    return core_check(backend, backend->driver.cuMemcpyHtoDAsync(to, from, bytes, backend->stream), "copy to its memory", err);
}

int core_download(struct backend *backend, void *to, CUdeviceptr from, size_t bytes, struct err *err) {
    return core_check(backend, backend->driver.cuMemcpyDtoHAsync(to, from, bytes, backend->stream), "copy from its memory", err);
}

/* --- open --- */

static int find(struct backend *backend, const char *device_id, struct err *err) {
    if (gpu_driver_open(&backend->driver, err) < 0 || gpu_driver_start(&backend->driver, err) < 0 ||
        gpu_find(&backend->driver, device_id, &backend->device, err) < 0)
        return -1;
    /* A device's handle is its number. */
    return gpu_describe(&backend->driver, (int)backend->device, &backend->info, err);
}

/* Who waits for the device sleeps: by default a wait keeps a processor busy that others may need. */
static int take_context(struct backend *backend, struct err *err) {
    struct gpu_driver *driver = &backend->driver;
    if (core_check(backend, driver->cuDevicePrimaryCtxSetFlags(backend->device, CU_CTX_SCHED_BLOCKING_SYNC), "open a context",
                   err) < 0 ||
        core_check(backend, driver->cuDevicePrimaryCtxRetain(&backend->context, backend->device), "open a context", err) < 0 ||
        core_check(backend, driver->cuCtxSetCurrent(backend->context), "open a context", err) < 0 ||
        core_check(backend, driver->cuStreamCreate(&backend->stream, CU_STREAM_NON_BLOCKING), "make a stream", err) < 0 ||
        core_check(backend, driver->cuEventCreate(&backend->began, CU_EVENT_DEFAULT), "make an event", err) < 0)
        return -1;
    return core_check(backend, driver->cuEventCreate(&backend->ended, CU_EVENT_DEFAULT), "make an event", err);
}

static int load_kernels(struct backend *backend, struct err *err) {
    if (kernels_load(&backend->driver, backend->info.compute, &backend->module, err) < 0)
        return -1;
    for (int i = 0; i < KERNELS_N; i++)
        if (core_check(backend,
                       backend->driver.cuModuleGetFunction(&backend->kernels[i], backend->module, program_symbol((enum kernel)i)),
                       "find a kernel of ours", err) < 0)
            return -1;
    return 0;
}

static int start_cudnn(struct backend *backend, struct err *err) {
    struct gpu_driver *driver = &backend->driver;
    if (gpu_error_cudnn(driver, driver->cudnnCreate(&backend->handle), "be started", err) < 0)
        return -1;
    return gpu_error_cudnn(driver, driver->cudnnSetStream(backend->handle, backend->stream), "take a stream", err);
}

static int take_workspace(struct backend *backend, struct err *err) {
    backend->workspace_bytes = gpu_workspace_bytes(backend->info.memory_bytes);
    return core_check(backend, backend->driver.cuMemAlloc(&backend->workspace, (size_t)backend->workspace_bytes),
                      "reserve cuDNN's workspace", err);
}

static int make_planner(struct backend *backend, struct err *err) {
    struct planner_options options = {.driver = &backend->driver,
                                      .device = (int)backend->device,
                                      .compute = backend->info.compute,
                                      .workspace_bytes = backend->workspace_bytes,
                                      .cache = getenv("RESIDUUM_PLAN_CACHE"),
                                      .deny = getenv("RESIDUUM_CUDNN_DENY")};
    return planner_new(&options, &backend->planner, err);
}

int core_open(const struct backend_options *options, struct backend **ret_backend, struct err *err) {
    struct backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return err_set(err, ERR_MEMORY, "No memory to open backend cudnn");
    backend->step_s = -1;
    backend->fused_norm = gpu_feature("fused-norm", false);
    backend->captures = gpu_feature("captured-steps", true);
    if (find(backend, options->device_id, err) < 0) {
        core_close(backend);
        return -1;
    }
    nvml_init(&backend->nvml, options->device_id);
    if (take_context(backend, err) < 0 || load_kernels(backend, err) < 0 || start_cudnn(backend, err) < 0 ||
        take_workspace(backend, err) < 0 || make_planner(backend, err) < 0) {
        core_close(backend);
        return -1;
    }
    *ret_backend = backend;
    return 0;
}

/* --- close --- */

/* On a device that has failed these calls fail as well, and nothing more can be done about it. */
static void give_back(struct backend *backend) {
    struct gpu_driver *driver = &backend->driver;
    data_done(backend);
    if (backend->workspace != 0)
        (void)driver->cuMemFree(backend->workspace);
    if (backend->handle != NULL)
        (void)driver->cudnnDestroy(backend->handle);
    if (backend->module != NULL)
        (void)driver->cuModuleUnload(backend->module);
    if (backend->began != NULL)
        (void)driver->cuEventDestroy(backend->began);
    if (backend->ended != NULL)
        (void)driver->cuEventDestroy(backend->ended);
    if (backend->stream != NULL)
        (void)driver->cuStreamDestroy(backend->stream);
    (void)driver->cuDevicePrimaryCtxRelease(backend->device);
}

void core_close(struct backend *backend) {
    if (backend == NULL)
        return;
    planner_free(backend->planner);
    if (backend->context != NULL)
        give_back(backend);
    nvml_done(&backend->nvml);
    gpu_driver_close(&backend->driver);
    free(backend);
}

int core_telemetry(struct backend *backend, struct backend_telemetry *ret_telemetry, struct err *err) {
    if (nvml_health(&backend->nvml, err) < 0)
        return -1;
    nvml_telemetry(&backend->nvml, ret_telemetry);
    ret_telemetry->step_s = backend->step_s;
    return 0;
}
