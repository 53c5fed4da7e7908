/* The one table through which the backend reaches the CUDA driver and cuDNN: every function that it may call is a row here, and a
 * member of struct gpu_driver under the name that the header's macros give (driver->cuMemAlloc(...) is cuMemAlloc_v2). load.c
 * fills it from libcuda.so.1 and libcudnn.so.9; the tests' double fills it from its own functions (make links one of the two). */
#ifndef CUDNN_DRIVER_H
#define CUDNN_DRIVER_H

#include <cuda.h>
#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

#define CUDA_FUNCTIONS(X)          \
    X(cuInit)                      \
    X(cuDriverGetVersion)          \
    X(cuGetErrorName)              \
    X(cuGetErrorString)            \
    X(cuDeviceGetCount)            \
    X(cuDeviceGet)                 \
    X(cuDeviceGetName)             \
    X(cuDeviceGetUuid_v2)          \
    X(cuDeviceGetAttribute)        \
    X(cuDeviceTotalMem)            \
    X(cuDevicePrimaryCtxSetFlags)  \
    X(cuDevicePrimaryCtxRetain)    \
    X(cuDevicePrimaryCtxRelease)   \
    X(cuCtxSetCurrent)             \
    X(cuMemGetInfo)                \
    X(cuMemAlloc)                  \
    X(cuMemFree)                   \
    X(cuMemAllocHost)              \
    X(cuMemFreeHost)               \
    X(cuMemcpyHtoDAsync)           \
    X(cuMemcpyDtoHAsync)           \
    X(cuMemsetD8Async)             \
    X(cuMemsetD32Async)            \
    X(cuStreamCreate)              \
    X(cuStreamDestroy)             \
    X(cuStreamSynchronize)         \
    X(cuStreamBeginCapture)        \
    X(cuStreamEndCapture)          \
    X(cuEventCreate)               \
    X(cuEventDestroy)              \
    X(cuEventRecord)               \
    X(cuEventElapsedTime)          \
    X(cuModuleLoadData)            \
    X(cuModuleUnload)              \
    X(cuModuleGetFunction)         \
    X(cuLaunchKernel)              \
    X(cuGraphInstantiateWithFlags) \
    X(cuGraphLaunch)               \
    X(cuGraphExecDestroy)          \
    X(cuGraphDestroy)

#define CUDNN_FUNCTIONS(X)           \
    X(cudnnGetVersion)               \
    X(cudnnGetCudartVersion)         \
    X(cudnnGetMaxDeviceVersion)      \
    X(cudnnGraphVersionCheck)        \
    X(cudnnGetErrorString)           \
    X(cudnnGetLastErrorString)       \
    X(cudnnCreate)                   \
    X(cudnnDestroy)                  \
    X(cudnnSetStream)                \
    X(cudnnBackendCreateDescriptor)  \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute)      \
    X(cudnnBackendGetAttribute)      \
    X(cudnnBackendFinalize)          \
    X(cudnnBackendExecute)

/* Libraries that load.c keeps open beside the two of the table: those that cuDNN opens by itself. */
enum { GPU_LIBRARIES_MAX = 12 };

struct gpu_driver {
#define GPU_MEMBER(function) __typeof__(&function) function;
    CUDA_FUNCTIONS(GPU_MEMBER)
    CUDNN_FUNCTIONS(GPU_MEMBER)
#undef GPU_MEMBER
    /* Told of every named part of an arena when its use begins and ends; they do nothing in production. The double poisons the
     * bytes and refuses accesses outside of what has begun. */
    void (*region_begin)(CUdeviceptr at, size_t bytes, const char *name);
    void (*region_end)(CUdeviceptr at, size_t bytes, const char *name);
    bool runtime_compiled; /* cuDNN's engines that are compiled at run time can be used: NVRTC and their library are there */
    void *libraries[GPU_LIBRARIES_MAX];
};

/* --- load.c, or the double --- */

/* Opens the libraries and fills the table; nothing is initialized yet and no device is touched. Fails with ERR_UNAVAILABLE and a
 * sentence on what is missing. Libraries are looked for in the folder RESIDUUM_CUDA_PATH first, then where the loader looks. */
int gpu_driver_open(struct gpu_driver *ret_driver, struct err *err);
void gpu_driver_close(struct gpu_driver *driver); /* accepts zeroed memory; the libraries stay mapped, as NVIDIA's must */

/* --- driver.c --- */

/* Checks that driver, cuDNN and this build go together, and initializes the driver (cuInit). ERR_UNAVAILABLE or ERR_DEVICE with
 * what to do. To be called once after gpu_driver_open and before anything else. */
int gpu_driver_start(const struct gpu_driver *driver, struct err *err);

/* Fails with "driver 535 is older than CUDA 13 needs" when a driver for CUDA version (12020 is 12.2, as cuDriverGetVersion says)
 * does not run libraries of CUDA needed. */
int gpu_driver_fits(int version, int needed, struct err *err);

/* --- error.c --- */

/* Returns 0 when result is CUDA_SUCCESS. Otherwise says that "the GPU could not WHAT" (a verb: "copy the images to the device"),
 * with the error's name and number, and returns -1. ERR_MEMORY: out of device memory, not sticky. ERR_DEVICE: the hardware is at
 * fault, or others have the device: no other job should be given to it before a person has looked. ERR_UNAVAILABLE: what is
 * installed does not do for anybody.
 * ERR_BACKEND: the rest. */
int gpu_error(const struct gpu_driver *driver, CUresult result, const char *what, struct err *err);

/* The same for a status of cuDNN, with what cuDNN says of its last error. */
int gpu_error_cudnn(const struct gpu_driver *driver, cudnnStatus_t status, const char *what, struct err *err);

#endif
