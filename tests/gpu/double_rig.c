/* Machinery of the double's tests: see double_rig.h. */
#include "tests/gpu/double_rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MUST(call) assert_int_equal(call, CUDA_SUCCESS)

void gpu_init(struct gpu *gpu) {
    CUcontext context;
    assert_int_equal(gpu_driver_open(&gpu->driver, NULL), 0);
    MUST(gpu->driver.cuInit(0));
    MUST(gpu->driver.cuDeviceGet(&gpu->device, 0));
    MUST(gpu->driver.cuDevicePrimaryCtxSetFlags(gpu->device, CU_CTX_SCHED_BLOCKING_SYNC));
    MUST(gpu->driver.cuDevicePrimaryCtxRetain(&context, gpu->device));
    MUST(gpu->driver.cuCtxSetCurrent(context));
    MUST(gpu->driver.cuStreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING));
    MUST(gpu->driver.cuModuleLoadData(&gpu->module, "image"));
}

void gpu_done(struct gpu *gpu) {
    gpu->driver.cuModuleUnload(gpu->module);
    gpu->driver.cuStreamDestroy(gpu->stream);
    gpu->driver.cuDevicePrimaryCtxRelease(gpu->device);
    gpu_driver_close(&gpu->driver);
}

CUdeviceptr gpu_memory(struct gpu *gpu, size_t bytes) {
    CUdeviceptr at;
    MUST(gpu->driver.cuMemAlloc(&at, bytes));
    return at;
}

void *gpu_pinned(struct gpu *gpu, size_t bytes) {
    void *at;
    MUST(gpu->driver.cuMemAllocHost(&at, bytes));
    return at;
}

CUstream gpu_stream(struct gpu *gpu) {
    CUstream stream;
    MUST(gpu->driver.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    return stream;
}

void gpu_wait(struct gpu *gpu, CUstream stream) {
    MUST(gpu->driver.cuStreamSynchronize(stream));
}

void gpu_put(struct gpu *gpu, CUdeviceptr to, const void *from, size_t bytes) {
    MUST(gpu->driver.cuMemcpyHtoDAsync(to, from, bytes, gpu->stream));
    gpu_wait(gpu, gpu->stream);
}

void gpu_get(struct gpu *gpu, void *to, CUdeviceptr from, size_t bytes) {
    MUST(gpu->driver.cuMemcpyDtoHAsync(to, from, bytes, gpu->stream));
    gpu_wait(gpu, gpu->stream);
}

CUresult gpu_add(struct gpu *gpu, CUstream stream, CUdeviceptr y, CUdeviceptr a, CUdeviceptr b, int64_t count) {
    struct kernel_add add = {.a = a, .b = b, .y = y, .count = count};
    void *params[] = {&add};
    CUfunction function;
    MUST(gpu->driver.cuModuleGetFunction(&function, gpu->module, "residuum_add"));
    return gpu->driver.cuLaunchKernel(function, 1, 1, 1, KERNEL_THREADS, 1, 1, 0, stream, params, NULL);
}

/* In the child: what the function prints goes to the pipe, and no core is left. */
static void child(void (*function)(void), const char *environment, int to) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGABRT, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    if (environment != NULL)
        putenv(strdup(environment));
    dup2(to, STDERR_FILENO);
    function();
    _exit(0);
}

void expect(void (*function)(void), const char *environment, const char *text) {
    int ends[2], status;
    char said[4096];
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(function, environment, ends[1]);
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && n < sizeof said - 1; n += got > 0 ? (size_t)got : 0)
        got = read(ends[0], said + n, sizeof said - 1 - n);
    said[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (text == NULL && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        fail_msg("ended with status %#x: %s", (unsigned)status, said);
    if (text != NULL && (!WIFSIGNALED(status) || strstr(said, "double: ") == NULL || strstr(said, text) == NULL))
        fail_msg("said \"%s\" (status %#x) instead of \"%s\"", said, (unsigned)status, text);
}
