/* The double's rules of memory, each one broken once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/gpu/double_rig.h"

enum { N = 64, BYTES = N * (int)sizeof(float) };

/* Fresh device memory of BYTES, and everything that leads to it. */
static struct gpu gpu_with_memory(CUdeviceptr *ret_at) {
    struct gpu gpu;
    gpu_init(&gpu);
    *ret_at = gpu_memory(&gpu, BYTES);
    return gpu;
}

static void copies(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float in[N], out[N];
    for (int i = 0; i < N; i++)
        in[i] = (float)i;
    assert_int_equal(at % 256, 0);
    gpu_get(&gpu, out, at, BYTES);
    assert_true(out[0] != out[0]); /* fresh memory holds NaN */
    gpu_put(&gpu, at, in, BYTES);
    gpu_get(&gpu, out, at, BYTES);
    assert_memory_equal(in, out, BYTES);
    gpu.driver.cuMemsetD32Async(at, 7, N, gpu.stream);
    gpu_get(&gpu, out, at, BYTES);
    assert_int_equal(((uint32_t *)(void *)out)[N - 1], 7);
    gpu.driver.cuMemFree(at);
    gpu_done(&gpu);
}

static void host_reads(void) {
    CUdeviceptr at;
    gpu_with_memory(&at);
    volatile float value = *(volatile float *)(uintptr_t)at;
    (void)value;
}

static void host_writes(void) {
    CUdeviceptr at;
    gpu_with_memory(&at);
    *(volatile float *)(uintptr_t)(at + 8) = 1;
}

static void used_after_free(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.cuMemFree(at);
    gpu.driver.cuMemsetD8Async(at, 0, 4, gpu.stream);
}

static void freed_twice(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.cuMemFree(at);
    gpu.driver.cuMemFree(at);
}

static void too_long(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.cuMemsetD8Async(at + 4, 0, BYTES, gpu.stream);
}

static void not_the_device(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float *pinned = gpu_pinned(&gpu, 4);
    gpu.driver.cuMemcpyHtoDAsync((CUdeviceptr)(uintptr_t)pinned, pinned, 4, gpu.stream);
}

static void device_as_host(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.cuMemcpyHtoDAsync(at, (void *)(uintptr_t)(at + 64), 4, gpu.stream);
}

static void leaked(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu_done(&gpu);
}

static void pinned_leaked(void) {
    struct gpu gpu;
    gpu_init(&gpu);
    gpu_pinned(&gpu, 100);
    gpu_done(&gpu);
}

static void context_leaked(void) {
    struct gpu gpu;
    gpu_init(&gpu);
    CUcontext context;
    gpu.driver.cuDevicePrimaryCtxRetain(&context, 0);
    gpu_done(&gpu);
}

static void context_that_spins(void) {
    struct gpu gpu;
    gpu_init(&gpu);
    CUcontext context;
    gpu.driver.cuDevicePrimaryCtxSetFlags(0, CU_CTX_SCHED_SPIN);
    gpu.driver.cuDevicePrimaryCtxRetain(&context, 0);
}

static void pinned_in_flight(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float *pinned = gpu_pinned(&gpu, BYTES);
    pinned[0] = 1;
    gpu.driver.cuMemcpyHtoDAsync(at, pinned, BYTES, gpu.stream);
    pinned[0] = 2;
}

/* A copy to pinned memory is late: nothing is there before the wait. Afterwards the host may write what it sent. */
static void late(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float *in = gpu_pinned(&gpu, BYTES), *out = gpu_pinned(&gpu, BYTES);
    for (int i = 0; i < N; i++)
        in[i] = out[i] = 3;
    gpu.driver.cuMemcpyHtoDAsync(at, in, BYTES, gpu.stream);
    gpu.driver.cuMemcpyDtoHAsync(out, at, BYTES, gpu.stream);
    assert_true(out[5] != out[5]);
    gpu_wait(&gpu, gpu.stream);
    assert_true(out[5] == 3);
    in[0] = 4;
    gpu.driver.cuMemFreeHost(in);
    gpu.driver.cuMemFreeHost(out);
    gpu.driver.cuMemFree(at);
    gpu_done(&gpu);
}

static void pinned_too_long(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float *pinned = gpu_pinned(&gpu, BYTES);
    gpu.driver.cuMemcpyHtoDAsync(at, pinned + 1, BYTES, gpu.stream);
}

/* --- regions --- */

static void inside_regions(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    float value = 5;
    gpu.driver.region_begin(at, 128, "first");
    gpu.driver.region_begin(at + 128, 128, "second");
    gpu_put(&gpu, at, &value, sizeof value);
    gpu.driver.region_end(at, 128, "first");
    gpu.driver.region_begin(at, 128, "third");
    gpu_get(&gpu, &value, at, sizeof value);
    assert_true(value != value); /* what a region held is gone with it */
    gpu.driver.region_end(at, 128, "third");
    gpu.driver.region_end(at + 128, 128, "second");
    gpu.driver.cuMemFree(at);
    gpu_done(&gpu);
}

static void across_regions(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.region_begin(at, 128, "first");
    gpu.driver.region_begin(at + 128, 128, "second");
    gpu_add(&gpu, gpu.stream, at + 128, at, at, 40);
}

static void after_region(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.region_begin(at, 128, "first");
    gpu.driver.region_begin(at + 128, 128, "second");
    gpu.driver.region_end(at, 128, "first");
    gpu.driver.cuMemsetD8Async(at, 0, 4, gpu.stream);
}

static void region_unbalanced(void) {
    CUdeviceptr at;
    struct gpu gpu = gpu_with_memory(&at);
    gpu.driver.region_end(at, 128, "first");
}

/* --- errors --- */

static void out_of_memory(void) {
    struct gpu gpu;
    struct err err = {0};
    CUdeviceptr at;
    gpu_init(&gpu);
    assert_int_equal(gpu_error(&gpu.driver, gpu.driver.cuMemAlloc(&at, (size_t)1 << 20), "hold it", &err), -1);
    assert_int_equal(err.code, ERR_MEMORY);
    CUdeviceptr small = gpu_memory(&gpu, 100000);
    gpu.driver.cuMemFree(small);
    gpu_done(&gpu);
}

static void error_ignored(void) {
    struct gpu gpu;
    CUdeviceptr at;
    gpu_init(&gpu);
    gpu.driver.cuMemAlloc(&at, (size_t)1 << 20);
    gpu_wait(&gpu, gpu.stream);
}

static void rules_hold(void **unused) {
    (void)unused;
    expect(copies, NULL, NULL);
    expect(late, NULL, NULL);
    expect(inside_regions, NULL, NULL);
    expect(out_of_memory, "RESIDUUM_DOUBLE_MEMORY=1000000", NULL);
}

static void rules_are_broken(void **unused) {
    (void)unused;
    expect(host_reads, NULL, "the host touched device memory: byte 0 of a block of 256 bytes");
    expect(host_writes, NULL, "the host touched device memory: byte 8 of a block of 256 bytes");
    expect(used_after_free, NULL, "4 bytes from byte 0 of a freed block");
    expect(freed_twice, NULL, "is freed twice");
    expect(too_long, NULL, "256 bytes from byte 4 of a block of 256 bytes leave it");
    expect(not_the_device, NULL, "is no address of the device");
    expect(device_as_host, NULL, "takes an address of the host");
    expect(leaked, NULL, "a block of 256 bytes was never freed");
    expect(context_that_spins, NULL, "would keep a processor busy");
    expect(pinned_leaked, NULL, "100 bytes of pinned memory were never freed");
    expect(context_leaked, NULL, "the context of device 0 was never released");
    expect(pinned_in_flight, NULL, "the host wrote pinned memory that a copy which is still queued reads: byte 0 of 256");
    expect(pinned_too_long, NULL, "leave pinned memory");
    expect(across_regions, NULL, "residuum_add, a: 160 bytes from byte 0 of a block of 256 bytes, in region first are inside no");
    expect(after_region, NULL, "are inside no region that is in use");
    expect(region_unbalanced, NULL, "ends, and never began");
    expect(error_ignored, "RESIDUUM_DOUBLE_MEMORY=1000000", "nobody has looked at the error 2 of cuMemAlloc");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_hold), cmocka_unit_test(rules_are_broken)};
    return cmocka_run_group_tests_name("double_memory", tests, NULL, NULL);
}
