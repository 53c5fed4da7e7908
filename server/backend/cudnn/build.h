/* Building the programs of a plan: what its units become. A failure is kept in the build, and what comes after it does nothing,
 * so that callers need not look before the end. */
#ifndef BACKEND_CUDNN_BUILD_H
#define BACKEND_CUDNN_BUILD_H

#include "server/backend/cudnn/core.h"

enum { CONV_OPS = CONV_BACK_W + 1 };

/* cuDNN's plan of an operation, once it was asked for; NULL: it has none. */
struct shared_conv {
    bool asked;
    struct conv_plan *plan;
};

struct build {
    struct backend_plan *plan;
    int batch;
    bool bf16;                             /* of values */
    struct program *program;               /* what is appended to */
    struct shared_conv (*convs)[CONV_OPS]; /* [units]: shared by programs */
    bool *masked;  /* [units]: the forward pass was cuDNN's batch norm, which leaves the mask of its ReLU */
    bool training; /* forward: statistics of the batch, dropout */
    bool fused;    /* batch norms by cuDNN, where it can */
    int failed;
    struct err *err;
};

/* --- build.c: launches --- */

struct blocks {
    uint32_t x, y;
};

struct blocks blocks_for(int64_t elements); /* eight a thread, as kernels take neighbouring channels together */
struct blocks blocks_of(int64_t n);         /* one each */
/* Of sums over rows in slices. */
struct blocks blocks_sliced(int slices, int channels);
int slices_of(int64_t rows);

/* EMIT(build, add, blocks, .a = ..., .b = ...) appends a kernel with its parameters. */
#define EMIT(build, name, blocks, ...) \
    build_kernel(build, KERNEL_##name, blocks, &(struct kernel_##name){__VA_ARGS__}, sizeof(struct kernel_##name))
void build_kernel(struct build *build, enum kernel kernel, struct blocks blocks, const void *params, size_t size);
void build_conv(struct build *build, struct conv_plan *conv);
void build_norm(struct build *build, struct norm_plan *norm);

/* The network takes over a plan of cuDNN, also when this fails. */
void build_keep(struct build *build, struct owned_plan owned);
void build_free_owned(struct backend_plan *plan);

/* --- build.c: addresses --- */

const struct graph_node *build_node(const struct build *build, const struct gpu_unit *unit);
const struct gpu_value *build_input(const struct build *build, const struct gpu_unit *unit, int k);
CUdeviceptr build_value(const struct build *build, const struct gpu_value *value);
CUdeviceptr build_gradient(const struct build *build, const struct gpu_value *value);
CUdeviceptr build_saved(const struct build *build, const struct gpu_unit *unit); /* 0: nothing is saved */
/* The f32 of a parameter, and its gradient. */
CUdeviceptr build_master(const struct build *build, int param);
CUdeviceptr build_param_gradient(const struct build *build, int param);
CUdeviceptr build_step(const struct build *build);
CUdeviceptr build_samples(const struct build *build);
int64_t build_rows(const struct build *build, const struct gpu_value *value); /* batch * pixels */

struct kernel_window build_window(const struct build *build, const struct gpu_unit *unit);

/* --- conv.c --- */

void conv_forward(struct build *build, const struct gpu_unit *unit);
void conv_backward(struct build *build, const struct gpu_unit *unit);

/* --- fused.c: batch norm by cuDNN. False: our own kernels have to do it. --- */

bool fused_forward(struct build *build, const struct gpu_unit *unit);
bool fused_backward(struct build *build, const struct gpu_unit *unit);

/* --- forward.c --- */

/* The images' way in. */
void build_images(struct build *build, enum source source);
void forward_unit(struct build *build, const struct gpu_unit *unit);
void forward_loss(struct build *build, bool with_gradient);

/* The output of a node that was fused away into a unit, into region SCRATCH. */
void forward_fused(struct build *build, const struct gpu_unit *unit, int node);

/* --- backward.c --- */

void backward_unit(struct build *build, const struct gpu_unit *unit);

/* Gradients of the sum over all rows: of a bias or beta (a), of gamma (b); either may be 0. */
struct row_sums {
    CUdeviceptr dy, y, x, saved; /* as struct kernel_back_partial */
    CUdeviceptr a, b;
    int groups;
};
void backward_sums(struct build *build, const struct gpu_value *value, const struct row_sums *sums);

/* --- update.c --- */

void build_update(struct build *build);
void build_narrow(struct build *build);

/* Puts the table of chunks and parameters into region TABLE. */
int update_upload(struct backend_plan *plan, struct err *err);

#endif
