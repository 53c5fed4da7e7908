/* Plans of cuDNN: convolutions (linear layers are 1x1 ones) and fused batch norm, built through cuDNN's graph API for a device
 * that is here or is only described, chosen by fixed rules, and run with addresses that were fixed once.
 *
 * Tensors are [n, h, w, channels], channels fastest, of T: bf16 values in bf16 plans, f32 ones otherwise; c and k count the
 * channels as stored, padding included. All addresses are aligned to 16 bytes. Results overwrite (alpha 1, beta 0); arithmetic
 * and sums are f32. Every plan may use one shared workspace, as all of them run in one stream. */
#ifndef CUDNN_PLANS_H
#define CUDNN_PLANS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/spec.h"
#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/kernels/kernels.h"
#include "server/graph/gpu.h"

/* --- plans.c: the device that plans are for --- */

struct planner_options {
    const struct gpu_driver *driver; /* outlives the planner */
    const char *profile;             /* the device as JSON (server/graph/profiles), which need not be here; NULL: it is */
    int device;                      /* this one, as CUDA counts */
    int compute;                     /* its compute capability times ten */
    int64_t workspace_bytes;         /* plans that need more are passed over: gpu_workspace_bytes */
    const char *cache; /* folder of finished plans, made when it is missing: the environment's RESIDUUM_PLAN_CACHE; NULL: none */
    const char *deny;  /* engines never to be taken: "back_w:12 forward:5", the environment's RESIDUUM_CUDNN_DENY; NULL: none */
};

struct planner;

/* Copies the strings. ERR_UNAVAILABLE when cuDNN takes no such device, ERR_FIELD when the deny list cannot be read. */
int planner_new(const struct planner_options *options, struct planner **ret_planner, struct err *err);
void planner_free(struct planner *planner); /* accepts NULL; its plans stay valid */

/* The device as cuDNN describes it: a profile of a device that is here. */
int planner_profile(const struct planner *planner, char *ret_text, size_t size, struct err *err);

/* The engine, its notes and knobs, the workspace, and whether the cache gave it: a line for logs. */
enum { PLAN_TEXT_MAX = 480 };

/* --- plans_conv.c --- */

/* dx from dy and w; dw from x and dy. */
enum conv_op { CONV_FORWARD, CONV_BACK_X, CONV_BACK_W };

struct conv_key {
    enum conv_op op;
    enum spec_precision precision; /* f32: neither tensor cores nor inputs of fewer bits; tf32: both are allowed */
    bool nondeterministic;         /* engines whose sums may differ from run to run are allowed, too */
    int n, h, w, c;                /* x */
    int oh, ow, k;                 /* y, [n, oh, ow, k] */
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int groups; /* weights are [k, kernel_h, kernel_w, c / groups] of T, their gradient as well */
};

struct conv_plan;

/* Finds the engine: in the order of cuDNN's heuristics (mode A, then fallback) the first one that the key allows and whose
 * workspace fits, so the same one with the same device, version and limit. ERR_UNSUPPORTED when there is none, or the device
 * does not have the precision: then our own kernels compute it. */
int conv_plan_new(struct planner *planner, const struct conv_key *key, struct conv_plan **ret_plan, struct err *err);
void conv_plan_free(struct conv_plan *plan); /* accepts NULL */

int64_t conv_plan_workspace(const struct conv_plan *plan); /* bytes */
/* ret_text: PLAN_TEXT_MAX bytes. */
void conv_plan_describe(const struct conv_plan *plan, char *ret_text);

/* Fixes the addresses: of x, w, y, or of their gradients where the operation makes or takes those (back_x: dx, w, dy; back_w: x,
 * dw, dy). To be called before the first run, and again whenever one changes. workspace may be 0 where none is needed. */
int conv_plan_bind(struct conv_plan *plan, CUdeviceptr x, CUdeviceptr w, CUdeviceptr y, CUdeviceptr workspace, struct err *err);

/* Puts it into the handle's stream. */
int conv_plan_run(const struct conv_plan *plan, cudnnHandle_t handle, struct err *err);

/* --- plans_norm.c: batch norm of a training step with ReLU and add in one kernel; a second path beside our own kernels. bf16
 * values, c a multiple of 8, compute capability 8.0 and up. Engines are compiled at run time: libnvrtc and some tenths of a
 * second each. Unlike our own kernels these always take the statistics of all n images: a step of fewer needs the own ones. ---
 */

/* forward: y = relu(gamma (x - mean) inverse + beta + add); running statistics move by momentum.
 * back: g = dy where y > 0 (by the mask), dx = gamma inverse (g - mean(g) - xhat mean(g xhat)), dadd = g. */
enum norm_op { NORM_FORWARD, NORM_BACK };

struct norm_key {
    enum norm_op op;
    bool nondeterministic;
    int n, h, w, c;
    bool relu, add; /* add only with relu */
    /* of forward; by value in the plan, frozen in a captured graph. running = (1 - momentum) running + momentum batch. */
    float epsilon, momentum;
};

/* Addresses; each one that the key does not need is 0. f32 [c]: gamma, beta, statistics, their gradients. The mask holds one bit
 * an element of y in an order that only cuDNN knows. */
struct norm_addresses {
    CUdeviceptr x, mean, inverse, gamma; /* inverse is 1 / sqrt(variance + epsilon) */
    CUdeviceptr mask;                    /* relu: norm_mask_bytes; made by forward, taken by back */
    /* forward */
    CUdeviceptr y, beta, add;
    CUdeviceptr running_mean, running_var;         /* before */
    CUdeviceptr running_mean_out, running_var_out; /* after; may be the same */
    /* back */
    CUdeviceptr dy, dx, dadd, dgamma, dbeta;
    CUdeviceptr workspace;
};

struct norm_plan;

int norm_plan_new(struct planner *planner, const struct norm_key *key, struct norm_plan **ret_plan, struct err *err);
void norm_plan_free(struct norm_plan *plan); /* accepts NULL */
int64_t norm_plan_workspace(const struct norm_plan *plan);
int64_t norm_mask_bytes(const struct norm_key *key);
void norm_plan_describe(const struct norm_plan *plan, char *ret_text);
int norm_plan_bind(struct norm_plan *plan, const struct norm_addresses *at, struct err *err);
int norm_plan_run(const struct norm_plan *plan, cudnnHandle_t handle, struct err *err);

/* --- plans_unit.c: what the units of a network ask of cuDNN; pure --- */

/* The window of a convolution, a linear layer, a pool or a shortcut. */
struct kernel_window unit_window(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit);

/* The key of a GPU_CONV or GPU_LINEAR. False when our own kernels compute it: cuDNN's engines of bf16 write no f32 logits, and
 * groups of padded channels are not those that it would cut. */
bool conv_unit_key(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit, enum conv_op op,
                   struct conv_key *ret_key);

/* The key of a GPU_NORM of a bf16 plan; false when no fused plan is made for it. */
bool norm_unit_key(const struct gpu_plan *gpu, const struct graph_node *nodes, const struct gpu_unit *unit, enum norm_op op,
                   struct norm_key *ret_key);

#endif
