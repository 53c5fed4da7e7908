/* NVRTC, NVIDIA's compiler at run time, for devices that the embedded kernels were not built for. Optional: nothing opens it
 * before it is needed. Own prototypes, as its header (nvrtc.h) may be missing where cuda.h is not; they have not changed since
 * CUDA 7. */
#ifndef CUDNN_COMPILER_H
#define CUDNN_COMPILER_H

#include <stddef.h>

#include "common/err.h"

/* name, parameters; all return an nvrtcResult, 0 being success */
#define NVRTC_FUNCTIONS(X)                                                                                                     \
    X(nvrtcVersion, int *ret_major, int *ret_minor)                                                                            \
    X(nvrtcCreateProgram, void **ret_program, const char *source, const char *name, int headers_n, const char *const *headers, \
      const char *const *include_names)                                                                                        \
    X(nvrtcCompileProgram, void *program, int options_n, const char *const *options)                                           \
    X(nvrtcGetCUBINSize, void *program, size_t *ret_size)                                                                      \
    X(nvrtcGetCUBIN, void *program, char *ret_image)                                                                           \
    X(nvrtcGetProgramLogSize, void *program, size_t *ret_size)                                                                 \
    X(nvrtcGetProgramLog, void *program, char *ret_text)                                                                       \
    X(nvrtcDestroyProgram, void **program)

struct gpu_compiler {
#define GPU_MEMBER(name, ...) int (*name)(__VA_ARGS__);
    NVRTC_FUNCTIONS(GPU_MEMBER)
#undef GPU_MEMBER
    const char *(*nvrtcGetErrorString)(int result);
    void *library;
};

/* Opens the newest NVRTC whose programs a driver for this version of CUDA (13000; cuDriverGetVersion) loads. ERR_UNAVAILABLE
 * says what to install. */
int gpu_compiler_open(int cuda_version, struct gpu_compiler *ret_compiler, struct err *err);
void gpu_compiler_close(struct gpu_compiler *compiler); /* accepts zeroed memory */

#endif
