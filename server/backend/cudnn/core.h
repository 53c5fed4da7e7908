/* What the files of the backend share: an open device, a compiled plan, and the programs that its steps are. */
#ifndef BACKEND_CUDNN_CORE_H
#define BACKEND_CUDNN_CORE_H

#include "server/backend/backend.h"
#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/kernels/kernels.h"
#include "server/graph/gpu.h"

struct conv_plan; /* a plan of cuDNN with its addresses: plans.h */

/* --- device: open.c --- */

/* A data set on the device, one allocation: pixels, normal table, moments. */
struct device_set {
    CUdeviceptr pixels, normal, moments;
    int n; /* images; 0: not loaded */
    int channels, height, width;
};

struct backend {
    struct gpu_driver driver;
    struct backend_info info;
    CUdevice device;
    CUcontext context; /* the primary one, retained; current in the calling thread */
    CUmodule module;   /* our kernels */
    CUfunction kernels[KERNELS_N];
    CUstream stream; /* the only one: everything of all plans is in it, in order */
    cudnnHandle_t handle;
    CUdeviceptr workspace; /* shared by all plans of cuDNN: one stream, one at a time */
    int64_t workspace_bytes;
    struct device_set sets[BACKEND_SETS];
};

/* --- programs: program.c; a list of what the stream does, with all addresses and numbers fixed, so that it can be captured ---
 */

enum program_kind { PROGRAM_KERNEL, PROGRAM_CONV };

struct program_step {
    enum program_kind kind;
    enum kernel kernel;
    uint32_t blocks_x, blocks_y;
    size_t params_at; /* in params */
    struct conv_plan *conv;
};

struct program {
    struct program_step *steps;
    int steps_n, steps_room;
    unsigned char *params; /* the kernels' structs, one behind the other, aligned to 16 */
    size_t params_size, params_room;
};

/* Appends a kernel with its struct, which is copied. blocks_y is 1 unless the kernel says otherwise. */
int program_kernel(struct program *program, enum kernel kernel, const void *params, size_t size, uint32_t blocks_x,
                   uint32_t blocks_y, struct err *err);
/* Appends a plan of cuDNN; the program does not own it. */
int program_conv(struct program *program, struct conv_plan *conv, struct err *err);
/* Puts all of it into the stream. */
int program_run(const struct program *program, struct backend *backend, struct err *err);
void program_done(struct program *program);

/* Blocks for so many elements, one a thread, up to what fills the largest device. */
uint32_t program_blocks(int64_t elements);

/* --- plan --- */

/* What a captured step is of: the images come from a set, or from the host. */
enum source { SOURCE_SET, SOURCE_HOST, SOURCES_N };

struct backend_plan {
    struct backend *backend;
    struct backend_plan_options options;
    struct gpu_plan *gpu;
    CUdeviceptr arena;
    /* of the graph, which the plan outlives */
    struct graph_node *nodes; /* own copy */
    struct graph_param *params;
    int nodes_n, params_n, classes;
    struct graph_shape image;
    struct conv_plan **convs; /* all of them, to be freed */
    int convs_n, convs_room;
    /* Programs, built by compile.c from the units: the images' way in, by source; forward with batch statistics and with running
     * ones; loss and backward; the update. USE_TRAIN has all, the others no backward and update. */
    struct program input[SOURCES_N], forward_train, forward_eval, loss_train, loss_eval, backward, update;
    struct program narrow; /* bf16 copies of the weights, after masters were set */
    CUgraphExec train_graphs[SOURCES_N], eval_graphs[SOURCES_N];
    bool captured[2][SOURCES_N];      /* tried: [0] train, [1] eval */
    unsigned char *staging, *results; /* pinned host memory for regions STAGING and RESULTS */
    float *host_images;               /* pinned [batch,C,H,W]; NULL until the first step from the host */
    bool dirty;                       /* masters were set, narrow must run */
    bool trained;                     /* statistics and gradients hold something */
    int evaluated;                    /* images of the last eval_step whose values are still there; 0 after a train_step */
};

/* The device address of a region, and of bytes behind its start. */
CUdeviceptr plan_region(const struct backend_plan *plan, enum gpu_region region);

/* --- compile.c, forward.c, backward.c: from units to programs --- */

/* Builds all programs and plans of cuDNN. The arena is there already. */
int compile_programs(struct backend_plan *plan, struct err *err);

/* The output of a node that was fused away, of the last eval_step, into region SCRATCH as the element type; *ret_value describes
 * it (address in ret_value->at, relative to the arena). */
int compile_fused(struct backend_plan *plan, int node, struct program *ret_program, struct gpu_value *ret_value, struct err *err);

/* --- step.c --- */
int core_train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                    struct backend_result *ret_result, struct err *err);
int core_eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                   struct backend_result *ret_result, struct err *err);
int core_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err);

/* --- tensors.c --- */
int core_get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, float *ret_values, struct err *err);
int core_set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, const float *values, struct err *err);
int core_get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);

/* --- data.c --- */
int core_load_data(struct backend *backend, enum backend_set set, const struct backend_data *data, struct err *err);

#endif
