/* What the tests of the strict double share: an open double, and rules that are broken in a process of their own. */
#ifndef TESTS_GPU_DOUBLE_RIG_H
#define TESTS_GPU_DOUBLE_RIG_H

#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/kernels/kernels.h"

/* A double with one stream; the environment says more (struct options of double.h). */
struct gpu {
    struct gpu_driver driver;
    CUdevice device;
    CUstream stream;
    CUmodule module;
};

void gpu_init(struct gpu *gpu);
void gpu_done(struct gpu *gpu);

CUdeviceptr gpu_memory(struct gpu *gpu, size_t bytes);
void *gpu_pinned(struct gpu *gpu, size_t bytes);
CUstream gpu_stream(struct gpu *gpu);
void gpu_wait(struct gpu *gpu, CUstream stream);
/* Copies to the device or back, and waits. */
void gpu_put(struct gpu *gpu, CUdeviceptr to, const void *from, size_t bytes);
void gpu_get(struct gpu *gpu, void *to, CUdeviceptr from, size_t bytes);

/* Queues y = a + b, count f32. */
CUresult gpu_add(struct gpu *gpu, CUstream stream, CUdeviceptr y, CUdeviceptr a, CUdeviceptr b, int64_t count);

/* Runs a function in a child process, with NAME=value of the environment if not NULL: it must end in a sentence of the double
 * that contains the text; or, where text is NULL, without one. */
void expect(void (*function)(void), const char *environment, const char *text);

#endif
