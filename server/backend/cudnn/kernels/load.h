/* Brings the module's own kernels onto a device. */
#ifndef BACKEND_CUDNN_KERNELS_LOAD_H
#define BACKEND_CUDNN_KERNELS_LOAD_H

#include <stddef.h>

#include "common/err.h"
#include "server/backend/cudnn/compiler.h"
#include "server/backend/cudnn/driver.h"

/* Loads the kernels into the current context of a device of compute capability compute / 10: those that were compiled with this
 * module, or where they do not fit the device, their source compiled by NVRTC. The functions are called residuum_NAME. */
int kernels_load(const struct gpu_driver *driver, int compute, CUmodule *ret_module, struct err *err);

/* Compiles the source with NVRTC. *ret_code, to be freed by the caller, is a cubin for this compute capability only. */
int kernels_compile(const struct gpu_compiler *compiler, int compute, void **ret_code, size_t *ret_size, struct err *err);

#endif
