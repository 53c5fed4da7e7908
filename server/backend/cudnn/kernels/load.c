/* Loads or compiles the kernels: see load.h. */
#include "server/backend/cudnn/kernels/load.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "common/spec.h"
#include "server/backend/cudnn/kernels/embedded.h"
#include "server/backend/cudnn/kernels/kernels.h"

_Static_assert((int)KERNEL_RELU == ACTIVATION_RELU && (int)KERNEL_LEAKY_RELU == ACTIVATION_LEAKY_RELU &&
                   (int)KERNEL_ELU == ACTIVATION_ELU && (int)KERNEL_GELU == ACTIVATION_GELU &&
                   (int)KERNEL_SILU == ACTIVATION_SILU && (int)KERNEL_SIGMOID == ACTIVATION_SIGMOID &&
                   (int)KERNEL_TANH == ACTIVATION_TANH && (int)KERNEL_IDENTITY == ACTIVATION_IDENTITY,
               "activations of kernels.h and spec.h");
_Static_assert((int)KERNEL_SGD == OPTIMIZER_SGD && (int)KERNEL_ADAM == OPTIMIZER_ADAM && (int)KERNEL_ADAMW == OPTIMIZER_ADAMW &&
                   (int)KERNEL_RMSPROP == OPTIMIZER_RMSPROP,
               "optimizers of kernels.h and spec.h");
_Static_assert((int)KERNEL_RANDOM_DROPOUT == RNG_DROPOUT, "random numbers of kernels.h and rng.h");
_Static_assert(sizeof(struct kernel_step) <= KERNEL_STEP_BYTES && sizeof(struct kernel_sample) == 64 &&
                   sizeof(struct kernel_result) <= KERNEL_RESULT_BYTES,
               "room in regions STAGING and RESULTS");

/* --- NVRTC --- */

/* What the C library's headers give the kernels: NVRTC has none of them. */
static const char *const library_names[] = {"stdint.h", "stdbool.h"};
static const char *const library_texts[] = {"typedef signed char int8_t; typedef unsigned char uint8_t;\n"
                                            "typedef short int16_t; typedef unsigned short uint16_t;\n"
                                            "typedef int int32_t; typedef unsigned int uint32_t;\n"
                                            "typedef long long int64_t; typedef unsigned long long uint64_t;\n",
                                            ""};
enum { LIBRARY_FILES = 2, FILES_MAX = 32 };

/* A program of the embedded source: its first file, and the others under the names by which they are included. */
static int create(const struct gpu_compiler *compiler, void **ret_program) {
    const char *names[FILES_MAX], *texts[FILES_MAX];
    int n = 0;
    for (size_t i = 1; i < kernels_files_n && n < FILES_MAX - LIBRARY_FILES; i++, n++) {
        names[n] = kernels_names[i];
        texts[n] = kernels_texts[i];
    }
    for (int i = 0; i < LIBRARY_FILES; i++, n++) {
        names[n] = library_names[i];
        texts[n] = library_texts[i];
    }
    return compiler->nvrtcCreateProgram(ret_program, kernels_texts[0], kernels_names[0], n, texts, names);
}

/* The first line of what NVRTC complains of; "" when it has nothing to say. */
static void first_complaint(const struct gpu_compiler *compiler, void *program, char *text, size_t size) {
    size_t log_size = 0;
    text[0] = '\0';
    if (compiler->nvrtcGetProgramLogSize(program, &log_size) != 0 || log_size < 2)
        return;
    char *log = malloc(log_size);
    if (log != NULL && compiler->nvrtcGetProgramLog(program, log) == 0)
        snprintf(text, size, ": %.*s", (int)strcspn(log, "\n"), log);
    free(log);
}

/* Says why a program could not be compiled. */
static int refuse(const struct gpu_compiler *compiler, void *program, int compute, int result, struct err *err) {
    char complaint[240] = "";
    if (program != NULL)
        first_complaint(compiler, program, complaint, sizeof complaint);
    return err_set(err, ERR_UNAVAILABLE,
                   "NVRTC could not compile the kernels for compute capability %d.%d: %s%s; a newer NVRTC may know the device",
                   compute / 10, compute % 10, compiler->nvrtcGetErrorString(result), complaint);
}

/* Compiles a program and takes its cubin. Returns an nvrtcResult. *ret_code stays NULL when there is no memory. */
static int compile(const struct gpu_compiler *compiler, void *program, int compute, void **ret_code, size_t *ret_size) {
    char target[40];
    snprintf(target, sizeof target, "--gpu-architecture=sm_%d", compute);
    /* Without default-device, functions that a header declares for the host would be refused. */
    const char *const options[] = {target, "--std=c++17", "--fmad=false", "--device-as-default-execution-space"};
    int result = compiler->nvrtcCompileProgram(program, sizeof options / sizeof options[0], options);
    if (result == 0)
        result = compiler->nvrtcGetCUBINSize(program, ret_size);
    *ret_code = result == 0 ? malloc(*ret_size) : NULL;
    if (*ret_code != NULL)
        result = compiler->nvrtcGetCUBIN(program, *ret_code);
    return result;
}

int kernels_compile(const struct gpu_compiler *compiler, int compute, void **ret_code, size_t *ret_size, struct err *err) {
    void *program = NULL, *code = NULL;
    size_t size = 0;
    int result = create(compiler, &program), status = 0;
    if (result == 0)
        result = compile(compiler, program, compute, &code, &size);
    if (result != 0)
        status = refuse(compiler, program, compute, result, err);
    else if (code == NULL)
        status = err_set(err, ERR_MEMORY, "No memory for the %zu bytes of the compiled kernels", size);
    if (program != NULL)
        compiler->nvrtcDestroyProgram(&program);
    if (status != 0) {
        free(code);
        return -1;
    }
    *ret_code = code;
    *ret_size = size;
    return 0;
}

static int load_compiled(const struct gpu_driver *driver, int compute, CUmodule *ret_module, struct err *err) {
    struct gpu_compiler compiler;
    void *code = NULL;
    size_t size;
    int version = 0, status;
    if (gpu_error(driver, driver->cuDriverGetVersion(&version), "tell its version", err) != 0 ||
        gpu_compiler_open(version, &compiler, err) != 0)
        return -1;
    status = kernels_compile(&compiler, compute, &code, &size, err);
    if (status == 0)
        status = gpu_error(driver, driver->cuModuleLoadData(ret_module, code), "load the kernels that NVRTC compiled", err);
    free(code);
    gpu_compiler_close(&compiler);
    return status;
}

/* --- the module --- */

/* The fatbin has nothing that the device or its driver takes. */
static bool does_not_fit(CUresult result) {
    static const CUresult reasons[] = {
        CUDA_ERROR_NO_BINARY_FOR_GPU,       CUDA_ERROR_INVALID_IMAGE,          CUDA_ERROR_INVALID_PTX,
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CUDA_ERROR_JIT_COMPILER_NOT_FOUND, CUDA_ERROR_JIT_COMPILATION_DISABLED};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (result == reasons[i])
            return true;
    return false;
}

int kernels_load(const struct gpu_driver *driver, int compute, CUmodule *ret_module, struct err *err) {
    if (kernels_fatbin_size == 0)
        return load_compiled(driver, compute, ret_module, err);
    CUresult result = driver->cuModuleLoadData(ret_module, kernels_fatbin);
    if (does_not_fit(result))
        return load_compiled(driver, compute, ret_module, err);
    return gpu_error(driver, result, "load its kernels", err);
}
