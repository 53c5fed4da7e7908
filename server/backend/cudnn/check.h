/* The module's part of a device's self-check: what can only be looked at from inside. Plans of cuDNN are compared with our own
 * kernels, which the worker compares with the backend ref. */
#ifndef BACKEND_CUDNN_CHECK_H
#define BACKEND_CUDNN_CHECK_H

#include "server/backend/cudnn/build.h"

/* self_check of backend.h */
int check_run(struct backend *backend, const struct backend_checks *checks, struct err *err);

/* An item fills in passed or skipped, measured, limit and text; its name is set. What it returns -1 for has failed for that
 * reason. */

/* --- check_memory.c --- */

int check_memory(struct backend *backend, bool brief, struct backend_check *item, struct err *err);
int check_to_device(struct backend *backend, bool brief, struct backend_check *item, struct err *err);
int check_from_device(struct backend *backend, bool brief, struct backend_check *item, struct err *err);

/* --- check_conv.c: one operation in one precision, over the shapes of ResNet-18 and ResNet-20 --- */

int check_conv(struct backend *backend, bool brief, enum conv_op op, enum spec_precision precision, struct backend_check *item,
               struct err *err);

/* --- check_norm.c --- */

int check_norm(struct backend *backend, bool brief, struct backend_check *item, struct err *err);

/* --- check_tensor.c: tensors on the device, and how far two are apart --- */

enum { CHECK_TENSORS = 32 };

/* All tensors of a comparison, freed together. */
struct check_tensors {
    struct backend *backend;
    CUdeviceptr at[CHECK_TENSORS];
    int n;
    int failed; /* what comes after a failure does nothing */
    struct err *err;
};

/* A new tensor: of count random elements in [-1, 1), keyed by its number among the tensors; of bytes 0xff, which are no numbers;
 * of the host's values. 0 after a failure. */
CUdeviceptr check_random(struct check_tensors *tensors, int64_t count, bool bf16);
CUdeviceptr check_empty(struct check_tensors *tensors, int64_t bytes);
CUdeviceptr check_copy(struct check_tensors *tensors, const void *values, int64_t bytes);
void check_free(struct check_tensors *tensors);

/* |a - b| / |b|, Euclidean; negative after a failure. */
double check_distance(struct check_tensors *tensors, CUdeviceptr a, CUdeviceptr b, int64_t count, bool bf16);
/* Whether the same bits stand in both. */
bool check_same(struct check_tensors *tensors, CUdeviceptr a, CUdeviceptr b, int64_t bytes);

/* Runs a program and waits for it. */
void check_program(struct check_tensors *tensors, const struct program *program);

#endif
