/* What the files of the backend share: an open device, a compiled plan, and the programs that its steps are. */
#ifndef BACKEND_CUDNN_CORE_H
#define BACKEND_CUDNN_CORE_H

#include "server/backend/backend.h"
#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/kernels/kernels.h"
#include "server/backend/cudnn/nvml.h"
#include "server/backend/cudnn/plans.h"
#include "server/graph/gpu.h"

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
    struct planner *planner;
    CUdeviceptr workspace; /* shared by all plans of cuDNN: one stream, one at a time */
    int64_t workspace_bytes;
    struct nvml nvml;
    struct device_set sets[BACKEND_SETS];
    bool fused_norm, captures; /* the device's self-check allows batch norms by cuDNN, steps as graphs: gpu_feature */
    CUevent began, ended;      /* of a step */
    double step_s;             /* the last one; negative: none yet */
};

int core_open(const struct backend_options *options, struct backend **ret_backend, struct err *err);
void core_close(struct backend *backend); /* accepts NULL */

/* gpu_error for a call on an open device: where NVML knows that the hardware is at fault, it is blamed. */
int core_check(struct backend *backend, CUresult result, const char *what, struct err *err);

/* telemetry of backend.h */
int core_telemetry(struct backend *backend, struct backend_telemetry *ret_telemetry, struct err *err);

/* Waits until the stream has done everything. */
int core_wait(struct backend *backend, const char *what, struct err *err);

/* Put copies into the stream: what is copied from or to must stay until core_wait. */
int core_upload(struct backend *backend, CUdeviceptr to, const void *from, size_t bytes, struct err *err);
int core_download(struct backend *backend, void *to, CUdeviceptr from, size_t bytes, struct err *err);

/* --- programs: program.c; a list of what the stream does, with all addresses and numbers fixed, so that it can be captured ---
 */

enum program_kind { PROGRAM_KERNEL, PROGRAM_CONV, PROGRAM_NORM };

struct program_step {
    enum program_kind kind;
    enum kernel kernel;
    uint32_t blocks_x, blocks_y;
    size_t params_at; /* in params */
    struct conv_plan *conv;
    struct norm_plan *norm;
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
/* Append a plan of cuDNN; the program does not own it. */
int program_conv(struct program *program, struct conv_plan *conv, struct err *err);
int program_norm(struct program *program, struct norm_plan *norm, struct err *err);
/* Puts all of it into the stream. */
int program_run(const struct program *program, struct backend *backend, struct err *err);
void program_done(struct program *program);

/* The name of a kernel in the module that was loaded. */
const char *program_symbol(enum kernel kernel);

/* As many blocks, but no more than fill the largest device: kernels walk what they have to do in strides. */
uint32_t program_blocks(int64_t blocks);

/* --- plan: compile.c --- */

/* The kinds of steps: training or evaluation; images from a set, or from the host; batches of any size, or full ones, whose batch
 * norms cuDNN may compute. */
enum pass { PASS_TRAIN, PASS_EVAL, PASSES_N };
enum source { SOURCE_SET, SOURCE_HOST, SOURCES_N };
enum size { SIZE_ANY, SIZE_FULL, SIZES_N };
enum { STEP_KINDS = PASSES_N * SOURCES_N * SIZES_N };
struct step_kind {
    enum pass pass;
    enum source source;
    enum size size;
};

/* A plan of cuDNN; the other member is NULL. */
struct owned_plan {
    struct conv_plan *conv;
    struct norm_plan *norm;
};

/* A step as a graph of CUDA. The first one runs eagerly, since libraries allocate and load at first use, which a capture does not
 * allow; the second one is captured. */
enum capture_state { CAPTURE_COLD, CAPTURE_WARM, CAPTURE_DONE };
struct captured_step {
    enum capture_state state;
    CUgraphExec graph; /* of CAPTURE_DONE */
};

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
    struct owned_plan *owned; /* all plans of cuDNN, to be freed */
    int owned_n, owned_room;
    bool fused; /* there are programs for SIZE_FULL */
    /* Programs, built from the units: the images' way in, by source; forward with batch statistics and with running ones; loss,
     * with its gradient or without; backward; the update. Only USE_TRAIN has those of training. */
    struct program input[SOURCES_N], forward_train[SIZES_N], forward_eval, loss_train, loss_eval, backward[SIZES_N], update;
    struct program narrow; /* bf16 copies of the weights, after masters were set */
    struct captured_step captured[STEP_KINDS];
    unsigned char *staging, *results; /* pinned host memory for regions STAGING and RESULTS */
    float *host_images;               /* pinned [batch,C,H,W]; NULL until the first step from the host */
    bool dirty;                       /* masters were set, narrow must run */
    bool trained;                     /* statistics and gradients hold something */
    int evaluated;                    /* images of the last eval_step whose values are still there; 0 after a train_step */
};

int core_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                 struct backend_plan **ret_plan, struct err *err);
void core_plan_free(struct backend_plan *plan); /* accepts NULL */
int64_t core_memory(const struct backend_plan *plan);

/* --- arena.c --- */

/* Allocates the device memory of the plan, and the pinned memory of its steps. */
int arena_take(struct backend_plan *plan, struct err *err);
/* Zeros, running variances of one, and the table of parameters. */
int arena_start(struct backend_plan *plan, struct err *err);
void arena_free(struct backend_plan *plan);

/* The device address of a region, and of bytes behind the arena's start. */
CUdeviceptr plan_region(const struct backend_plan *plan, enum gpu_region region);
CUdeviceptr plan_at(const struct backend_plan *plan, int64_t offset);

/* Where the parts of region RESULTS lie in it. */
struct results_layout {
    size_t statistics, softmax, losses, rights;
};
struct results_layout plan_results(const struct backend_plan *plan);

/* --- step.c --- */
int core_train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                    struct backend_result *ret_result, struct err *err);
int core_eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                   struct backend_result *ret_result, struct err *err);
int core_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err);

/* Puts one step, with its copies to the device and back, into the stream. */
int step_enqueue(const struct backend_plan *plan, struct step_kind kind, struct err *err);

/* --- capture.c --- */

/* Runs a step: eagerly, or as its graph. With STEPS_AUTO, when one cannot be captured, all of the plan stay eager, which is said
 * on stderr. */
int capture_run(struct backend_plan *plan, struct step_kind kind, struct err *err);
void capture_done(struct backend_plan *plan);

/* --- batch.c --- */

/* Refuses a batch that the plan cannot take. */
int batch_check(const struct backend_plan *plan, const struct backend_batch *batch, struct err *err);

/* Fills the plan's pinned staging memory with what the step needs. optimizer: NULL in evaluation. */
void batch_stage(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer);

/* --- tensors.c --- */
int core_get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, float *ret_values, struct err *err);
int core_set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, const float *values, struct err *err);

/* --- activation.c --- */
int core_get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);

/* --- data.c --- */
int core_load_data(struct backend *backend, enum backend_set set, const struct backend_data *data, struct err *err);
void data_done(struct backend *backend);

#endif
