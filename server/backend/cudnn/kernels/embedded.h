/* What build.py puts into the module: the kernels compiled by nvcc, and their source for NVRTC. */
#ifndef BACKEND_CUDNN_KERNELS_EMBEDDED_H
#define BACKEND_CUDNN_KERNELS_EMBEDDED_H

#include <stddef.h>
#include <stdint.h>

/* A fatbin: code for several devices, PTX for others. size 0: there was no nvcc. */
extern const uint64_t kernels_fatbin[];
extern const size_t kernels_fatbin_size;

/* kernels.cu and the files that it includes: the names are those that stand behind #include. */
extern const char *const kernels_names[], *const kernels_texts[];
extern const size_t kernels_files_n;

#endif
