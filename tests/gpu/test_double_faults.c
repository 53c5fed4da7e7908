/* The faults that the double can be ordered to have, as its callers see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/backend/cudnn/nvml.h"
#include "tests/gpu/double_rig.h"

enum { BYTES = 256, NVML_GPU_IS_LOST = 15, NVML_TIMEOUT = 10, XID_DOUBLE_BIT = 48, XID_OFF_THE_BUS = 79 };

/* The double's NVML, as linked here; the module's own is found by its name. */
#define PROTOTYPE(name, ...) int name(__VA_ARGS__);
NVML_FUNCTIONS(PROTOTYPE)
#undef PROTOTYPE

static void *nvml_device(void) {
    void *device;
    assert_int_equal(nvmlDeviceGetHandleByUUID("GPU-64756200-6c65-4000-8000-000000000000", &device), 0);
    return device;
}

/* An error must be looked at before the next call. */
static int failed(const struct gpu *gpu, CUresult result) {
    const char *name;
    gpu->driver.cuGetErrorName(result, &name);
    return (int)result;
}

static CUresult set_bytes(struct gpu *gpu, CUdeviceptr at) {
    return gpu->driver.cuMemsetD8Async(at, 0, BYTES, gpu->stream);
}

static void third_allocation(void) {
    struct gpu gpu;
    CUdeviceptr at[4];
    gpu_init(&gpu);
    at[0] = gpu_memory(&gpu, BYTES);
    at[1] = gpu_memory(&gpu, BYTES);
    assert_int_equal(failed(&gpu, gpu.driver.cuMemAlloc(&at[2], BYTES)), CUDA_ERROR_OUT_OF_MEMORY);
    at[2] = gpu_memory(&gpu, BYTES);
    for (int i = 0; i < 3; i++)
        gpu.driver.cuMemFree(at[i]);
    gpu_done(&gpu);
}

/* The second operation fails; it is told when the host waits, and then by every call. */
static void second_operation(void) {
    struct gpu gpu;
    CUdeviceptr other;
    gpu_init(&gpu);
    CUdeviceptr at = gpu_memory(&gpu, BYTES);
    assert_int_equal(set_bytes(&gpu, at), 0);
    gpu_wait(&gpu, gpu.stream);
    assert_int_equal(set_bytes(&gpu, at), 0);
    assert_int_equal(failed(&gpu, gpu.driver.cuStreamSynchronize(gpu.stream)), CUDA_ERROR_MISALIGNED_ADDRESS);
    assert_int_equal(failed(&gpu, set_bytes(&gpu, at)), CUDA_ERROR_MISALIGNED_ADDRESS);
    assert_int_equal(failed(&gpu, gpu.driver.cuMemAlloc(&other, BYTES)), CUDA_ERROR_MISALIGNED_ADDRESS);
    assert_int_equal(gpu.driver.cuMemFree(at), CUDA_ERROR_MISALIGNED_ADDRESS);
    gpu_done(&gpu);
}

static void no_capture(void) {
    struct gpu gpu;
    CUgraph graph;
    gpu_init(&gpu);
    CUdeviceptr at = gpu_memory(&gpu, BYTES);
    gpu.driver.cuStreamBeginCapture(gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    assert_int_equal(set_bytes(&gpu, at), 0);
    assert_int_equal(gpu.driver.cuStreamEndCapture(gpu.stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_int_equal(set_bytes(&gpu, at), 0);
    gpu_wait(&gpu, gpu.stream);
    gpu.driver.cuMemFree(at);
    gpu_done(&gpu);
}

/* --- what NVML says --- */

/* One operation, which fails with the code. */
static void fail_with(struct gpu *gpu, CUresult code) {
    gpu_init(gpu);
    CUdeviceptr at = gpu_memory(gpu, BYTES);
    void *device = nvml_device(), *set;
    struct nvml_memory memory;
    struct nvml_event event;
    assert_int_equal(nvmlDeviceGetMemoryInfo(device, &memory), 0);
    assert_int_equal(nvmlEventSetCreate(&set), 0);
    assert_int_equal(nvmlEventSetWait_v2(set, &event, 0), NVML_TIMEOUT);
    assert_int_equal(set_bytes(gpu, at), 0);
    assert_int_equal(failed(gpu, gpu->driver.cuStreamSynchronize(gpu->stream)), code);
}

static void expect_xid(unsigned xid) {
    struct nvml_event event;
    void *set;
    assert_int_equal(nvmlEventSetCreate(&set), 0);
    assert_int_equal(nvmlEventSetWait_v2(set, &event, 0), 0);
    assert_int_equal(event.data, xid);
    assert_int_equal(nvmlEventSetWait_v2(set, &event, 0), NVML_TIMEOUT);
}

static void damaged_memory(void) {
    struct gpu gpu;
    unsigned long long count;
    fail_with(&gpu, CUDA_ERROR_ECC_UNCORRECTABLE);
    assert_int_equal(nvmlDeviceGetTotalEccErrors(nvml_device(), 1, 0, &count), 0);
    assert_int_equal(count, 1);
    expect_xid(XID_DOUBLE_BIT);
}

static void lost_device(void) {
    struct gpu gpu;
    struct nvml_memory memory;
    void *device = NULL;
    fail_with(&gpu, CUDA_ERROR_LAUNCH_FAILED);
    expect_xid(XID_OFF_THE_BUS);
    assert_int_equal(nvmlDeviceGetHandleByUUID("GPU-64756200-6c65-4000-8000-000000000000", &device), NVML_GPU_IS_LOST);
    assert_int_equal(nvmlDeviceGetMemoryInfo(device, &memory), NVML_GPU_IS_LOST);
}

static void no_spare_rows(void) {
    struct gpu gpu;
    unsigned correctable, uncorrectable, pending, none_left;
    fail_with(&gpu, CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(nvmlDeviceGetRemappedRows(nvml_device(), &correctable, &uncorrectable, &pending, &none_left), 0);
    assert_int_equal(none_left, 1);
}

/* --- faults that a file orders happen in one process only --- */

static void faults_by_file(void **unused) {
    (void)unused;
    char order[] = "/tmp/residuum-fault-XXXXXX", happened[64], variable[96];
    int file = mkstemp(order);
    assert_true(file >= 0 && write(file, "oom:3\n", 6) == 6);
    close(file);
    snprintf(variable, sizeof variable, "RESIDUUM_DOUBLE_FAULT=%s", order);
    snprintf(happened, sizeof happened, "%s.happened", order);
    expect(third_allocation, variable, NULL);
    assert_int_equal(access(happened, F_OK), 0);
    putenv(variable);
    struct gpu gpu;
    gpu_init(&gpu);
    for (int i = 0; i < 4; i++)
        gpu.driver.cuMemFree(gpu_memory(&gpu, BYTES));
    gpu_done(&gpu);
    unlink(order);
    unlink(happened);
    unsetenv("RESIDUUM_DOUBLE_FAULT");
}

static void faults(void **unused) {
    (void)unused;
    expect(third_allocation, "RESIDUUM_DOUBLE_FAULT=oom:3", NULL);
    expect(second_operation, "RESIDUUM_DOUBLE_FAULT=sticky:716@2", NULL);
    expect(no_capture, "RESIDUUM_DOUBLE_FAULT=capture", NULL);
    expect(damaged_memory, "RESIDUUM_DOUBLE_FAULT=ecc@1", NULL);
    expect(lost_device, "RESIDUUM_DOUBLE_FAULT=lost@1", NULL);
    expect(no_spare_rows, "RESIDUUM_DOUBLE_FAULT=remap@1", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(faults), cmocka_unit_test(faults_by_file)};
    return cmocka_run_group_tests_name("double_faults", tests, NULL, NULL);
}
