/* The double's rules of streams, events, graphs and launches, each one broken once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/gpu/double/double.h"
#include "tests/gpu/double_rig.h"

enum { N = 64, BYTES = N * (int)sizeof(float) };

/* Two streams, three vectors in one block. */
struct work {
    struct gpu gpu;
    CUstream other;
    CUdeviceptr a, b, c;
    CUevent event;
};

static struct work work_new(void) {
    struct work work;
    gpu_init(&work.gpu);
    work.other = gpu_stream(&work.gpu);
    work.a = gpu_memory(&work.gpu, 3 * BYTES);
    work.b = work.a + BYTES;
    work.c = work.b + BYTES;
    work.gpu.driver.cuMemsetD8Async(work.a, 0, 3 * BYTES, work.gpu.stream);
    gpu_wait(&work.gpu, work.gpu.stream);
    work.gpu.driver.cuEventCreate(&work.event, CU_EVENT_DEFAULT);
    return work;
}

static void work_done(struct work *work) {
    work->gpu.driver.cuEventDestroy(work->event);
    work->gpu.driver.cuMemFree(work->a);
    work->gpu.driver.cuStreamDestroy(work->other);
    gpu_done(&work->gpu);
}

/* --- order --- */

static void race(void) {
    struct work work = work_new();
    gpu_add(&work.gpu, work.gpu.stream, work.b, work.a, work.a, N);
    gpu_add(&work.gpu, work.other, work.c, work.b, work.b, N);
}

static void race_of_writers(void) {
    struct work work = work_new();
    gpu_add(&work.gpu, work.gpu.stream, work.b, work.a, work.a, N);
    work.gpu.driver.cuMemsetD8Async(work.b + BYTES - 1, 0, 1, work.other);
}

/* Readers do not race, nor does what an event or the host orders. */
static void ordered(void) {
    struct work work = work_new();
    const struct gpu_driver *driver = &work.gpu.driver;
    float ones[N], got[N];
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    gpu_put(&work.gpu, work.a, ones, BYTES);
    gpu_add(&work.gpu, work.gpu.stream, work.b, work.a, work.a, N);
    gpu_add(&work.gpu, work.other, work.c, work.a, work.a, N);
    driver->cuEventRecord(work.event, work.gpu.stream);
    event_wait(work.other, work.event);
    gpu_add(&work.gpu, work.other, work.c, work.b, work.b, N);
    gpu_wait(&work.gpu, work.other);
    gpu_get(&work.gpu, got, work.c, BYTES);
    assert_true(got[0] == 4 && got[N - 1] == 4);
    work_done(&work);
}

static void default_stream(void) {
    struct work work = work_new();
    gpu_add(&work.gpu, NULL, work.b, work.a, work.a, N);
}

static void event_never_recorded(void) {
    struct work work = work_new();
    event_wait(work.other, work.event);
}

static void stream_destroyed(void) {
    struct work work = work_new();
    work.gpu.driver.cuStreamDestroy(work.other);
    gpu_add(&work.gpu, work.other, work.b, work.a, work.a, N);
}

static void event_leaked(void) {
    struct work work = work_new();
    work.gpu.driver.cuMemFree(work.a);
    work.gpu.driver.cuStreamDestroy(work.other);
    gpu_done(&work.gpu);
}

/* --- capture --- */

static void begin(struct work *work) {
    assert_int_equal(work->gpu.driver.cuStreamBeginCapture(work->gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), 0);
}

static CUgraphExec end(struct work *work) {
    CUgraph graph;
    CUgraphExec exec;
    assert_int_equal(work->gpu.driver.cuStreamEndCapture(work->gpu.stream, &graph), 0);
    assert_int_equal(work->gpu.driver.cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
    work->gpu.driver.cuGraphDestroy(graph);
    return exec;
}

/* b += a, three times; nothing happens while it is captured. */
static void replayed(void) {
    struct work work = work_new();
    float value = 1, got;
    gpu_put(&work.gpu, work.a, &value, sizeof value);
    begin(&work);
    gpu_add(&work.gpu, work.gpu.stream, work.b, work.b, work.a, N);
    CUgraphExec exec = end(&work);
    gpu_get(&work.gpu, &got, work.b, sizeof got);
    assert_true(got == 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(work.gpu.driver.cuGraphLaunch(exec, work.gpu.stream), 0);
    gpu_get(&work.gpu, &got, work.b, sizeof got);
    assert_true(got == 3);
    work.gpu.driver.cuGraphExecDestroy(exec);
    work_done(&work);
}

/* The second stream takes part through events, and must come back. */
static void forked(void) {
    struct work work = work_new();
    const struct gpu_driver *driver = &work.gpu.driver;
    CUgraph graph;
    begin(&work);
    driver->cuEventRecord(work.event, work.gpu.stream);
    event_wait(work.other, work.event);
    gpu_add(&work.gpu, work.other, work.b, work.a, work.a, N);
    assert_int_equal(driver->cuStreamEndCapture(work.gpu.stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    begin(&work);
    driver->cuEventRecord(work.event, work.gpu.stream);
    event_wait(work.other, work.event);
    gpu_add(&work.gpu, work.other, work.b, work.a, work.a, N);
    driver->cuEventRecord(work.event, work.other);
    event_wait(work.gpu.stream, work.event);
    gpu_add(&work.gpu, work.gpu.stream, work.c, work.b, work.b, N);
    driver->cuGraphExecDestroy(end(&work));
    work_done(&work);
}

static void event_of_an_old_capture(void) {
    struct work work = work_new();
    begin(&work);
    work.gpu.driver.cuEventRecord(work.event, work.gpu.stream);
    end(&work);
    event_wait(work.other, work.event);
}

static void captured_race(void) {
    struct work work = work_new();
    begin(&work);
    work.gpu.driver.cuEventRecord(work.event, work.gpu.stream);
    event_wait(work.other, work.event);
    gpu_add(&work.gpu, work.other, work.b, work.a, work.a, N);
    gpu_add(&work.gpu, work.gpu.stream, work.c, work.b, work.b, N);
}

/* What a capture forbids answers 900, and the capture is lost. */
static void forbidden(void) {
    struct work work = work_new();
    const struct gpu_driver *driver = &work.gpu.driver;
    CUgraph graph = NULL;
    CUdeviceptr at;
    begin(&work);
    assert_int_equal(driver->cuMemAlloc(&at, 16), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(gpu_add(&work.gpu, work.gpu.stream, work.b, work.a, work.a, N), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_int_equal(driver->cuStreamEndCapture(work.gpu.stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_null(graph);
    begin(&work);
    assert_int_equal(driver->cuStreamSynchronize(work.gpu.stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(driver->cuStreamEndCapture(work.gpu.stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    work_done(&work);
}

static void *end_elsewhere(void *arg) {
    struct work *work = arg;
    CUgraph graph;
    return (void *)(intptr_t)work->gpu.driver.cuStreamEndCapture(work->gpu.stream, &graph);
}

static void wrong_thread(void) {
    struct work work = work_new();
    pthread_t thread;
    void *result;
    begin(&work);
    assert_int_equal(pthread_create(&thread, NULL, end_elsewhere, &work), 0);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    work.gpu.driver.cuGraphExecDestroy(end(&work));
    work_done(&work);
}

static void pageable_in_capture(void) {
    struct work work = work_new();
    float value = 0;
    begin(&work);
    work.gpu.driver.cuMemcpyHtoDAsync(work.a, &value, sizeof value, work.gpu.stream);
}

static void freed_before_replay(void) {
    struct work work = work_new();
    begin(&work);
    gpu_add(&work.gpu, work.gpu.stream, work.b, work.a, work.a, N);
    CUgraphExec exec = end(&work);
    work.gpu.driver.cuMemFree(work.a);
    work.gpu.driver.cuGraphLaunch(exec, work.gpu.stream);
}

static void graph_leaked(void) {
    struct work work = work_new();
    begin(&work);
    end(&work);
    work_done(&work);
}

/* --- launches --- */

static CUresult launch(struct work *work, unsigned blocks_x, unsigned threads, const struct kernel_add *add) {
    struct kernel_add copy = *add;
    void *params[] = {&copy};
    CUfunction function;
    work->gpu.driver.cuModuleGetFunction(&function, work->gpu.module, "residuum_add");
    return work->gpu.driver.cuLaunchKernel(function, blocks_x, 1, 1, threads, 1, 1, 0, work->gpu.stream, params, NULL);
}

static void no_such_kernel(void) {
    struct work work = work_new();
    CUfunction function;
    struct err err = {0};
    CUresult result = work.gpu.driver.cuModuleGetFunction(&function, work.gpu.module, "residuum_nothing");
    assert_int_equal(gpu_error(&work.gpu.driver, result, "find a kernel", &err), -1);
    work_done(&work);
}

static void wide_block(void) {
    struct work work = work_new();
    launch(&work, 1, 512, &(struct kernel_add){.a = work.a, .y = work.b, .count = N});
}

static void no_blocks(void) {
    struct work work = work_new();
    launch(&work, 0, KERNEL_THREADS, &(struct kernel_add){.a = work.a, .y = work.b, .count = N});
}

static void too_long(void) {
    struct work work = work_new();
    launch(&work, 1, KERNEL_THREADS, &(struct kernel_add){.a = work.a, .y = work.c, .count = N + 1});
}

static void unaligned(void) {
    struct work work = work_new();
    launch(&work, 1, KERNEL_THREADS, &(struct kernel_add){.a = work.a + 4, .y = work.c, .count = N});
}

/* count is no multiple of eight, so the last elements are not written. */
static void not_all_written(void) {
    struct work work = work_new();
    launch(&work, 1, KERNEL_THREADS, &(struct kernel_add){.a = work.a, .y = work.b, .count = N - 3});
    gpu_wait(&work.gpu, work.gpu.stream);
}

static void rules_hold(void **unused) {
    (void)unused;
    expect(ordered, "RESIDUUM_DOUBLE_SEED=1", NULL);
    expect(ordered, "RESIDUUM_DOUBLE_SEED=2", NULL);
    expect(replayed, NULL, NULL);
    expect(forked, NULL, NULL);
    expect(forbidden, NULL, NULL);
    expect(wrong_thread, NULL, NULL);
    expect(no_such_kernel, NULL, NULL);
}

static void rules_are_broken(void **unused) {
    (void)unused;
    expect(race, NULL, "race: residuum_add (a) and residuum_add (y) touch the same memory");
    expect(race_of_writers, NULL, "race: cuMemsetD8Async (target) and residuum_add (y)");
    expect(default_stream, NULL, "residuum_add goes into the default stream");
    expect(event_never_recorded, NULL, "the event was never recorded");
    expect(stream_destroyed, NULL, "uses a stream that was destroyed");
    expect(event_leaked, NULL, "a event was never destroyed");
    expect(captured_race, NULL, "race: ");
    expect(event_of_an_old_capture, NULL, "the event was recorded in a capture that is over");
    expect(pageable_in_capture, NULL, "memory that is not pinned");
    expect(freed_before_replay, NULL, "residuum_add, a: 256 bytes from byte 0 of a freed block");
    expect(graph_leaked, NULL, "executable graph was never destroyed");
    expect(wide_block, NULL, "blocks of 512 x 1 x 1 threads, it was compiled for 256");
    expect(no_blocks, NULL, "a grid of 0 x 1 x 1 blocks");
    expect(too_long, NULL, "residuum_add, y: 260 bytes from byte 512 of a block of 768 bytes leave it");
    expect(unaligned, NULL, "residuum_add, a: address");
    expect(not_all_written, NULL, "residuum_add did not write element 56 of 61 of y");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_hold), cmocka_unit_test(rules_are_broken)};
    return cmocka_run_group_tests_name("double_streams", tests, NULL, NULL);
}
