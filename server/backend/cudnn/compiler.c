/* Opens NVRTC: see compiler.h. */
#include "server/backend/cudnn/compiler.h"

#include <stdio.h>
#include <string.h>

#include "server/backend/cudnn/library.h"

enum { OLDEST_MAJOR = 12 }; /* of CUDA, for which a cuDNN 9 exists; NVRTC 11.x has other file names */

static const struct library_function functions[] = {
#define ROW(name, ...) {#name, offsetof(struct gpu_compiler, name)},
    NVRTC_FUNCTIONS(ROW)
#undef ROW
        {"nvrtcGetErrorString", offsetof(struct gpu_compiler, nvrtcGetErrorString)}};

int gpu_compiler_open(int cuda_version, struct gpu_compiler *ret_compiler, struct err *err) {
    struct gpu_compiler compiler = {0};
    char name[32], reason[LIBRARY_REASON_MAX] = "";
    int newest = cuda_version / 1000;
    for (int major = newest; major >= OLDEST_MAJOR && compiler.library == NULL; major--) {
        snprintf(name, sizeof name, "libnvrtc.so.%d", major);
        compiler.library = library_open(name, major == newest ? reason : NULL);
    }
    if (compiler.library == NULL)
        return err_set(err, ERR_UNAVAILABLE,
                       "the kernels cannot be compiled for this device: NVRTC of CUDA %d is missing (%s); install it (package "
                       "cuda-nvrtc-%d-0) or name its folder in RESIDUUM_CUDA_PATH",
                       newest, reason, newest);
    const char *missing = library_fill(compiler.library, functions, sizeof functions / sizeof functions[0], &compiler);
    if (missing != NULL) {
        library_close(compiler.library);
        return err_set(err, ERR_UNAVAILABLE, "%s has no function %s: it is damaged or no NVRTC; install NVRTC anew", name,
                       missing);
    }
    *ret_compiler = compiler;
    return 0;
}

void gpu_compiler_close(struct gpu_compiler *compiler) {
    library_close(compiler->library);
    *compiler = (struct gpu_compiler){0};
}
