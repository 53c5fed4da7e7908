/* Door of the backends: the one versioned struct that a compute module exports as `residuum_backend`. Modules are opened with
 * dlopen by the worker; layouts, fusion and graph capture stay inside. All tensors crossing this door are dense f32, N,C,H,W;
 * weights O,I,H,W. One thread calls; a module may use threads of its own. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/spec.h"
#include "server/graph/graph.h"

enum { BACKEND_ABI = 1 }; /* raise with every change of the structs below */

struct backend;      /* an open module on one device */
struct backend_plan; /* a compiled graph with its parameters and buffers */

struct backend_info {
    char name[16], version[48];     /* "onednn", "2.6.3" */
    char device_id[64], device[96]; /* "cpu", "AMD EPYC (2 threads)" */
    bool bf16;                      /* precision bf16 is fast and offered */
    int threads_max;
    int64_t memory_bytes; /* of the device */
};

struct backend_options {
    int threads;
    const char *device_id; /* "cpu" */
};

struct backend_plan_options {
    int batch; /* largest number of images in a step; smaller last batches are allowed */
    enum spec_precision precision;
    bool inference; /* eval_step only: no gradients are kept */
};

struct backend_batch {
    int n;                 /* images, 1..batch */
    const float *images;   /* [n,C,H,W], normalized */
    const int32_t *labels; /* [n], 0..classes-1 */
    /* the key of random numbers (dropout): RNG_DROPOUT with a = epoch, b = sample, c = node index * 2^20 ^ (element / 4);
     * element counts the node's output of one image in C,H,W order; it is dropped when rng_unit(words[element % 4]) < rate
     * (rate as float) */
    uint64_t seed;
    uint32_t epoch;
    const uint32_t *samples; /* [n] */
};

/* SGD as torch.optim.SGD: g += weight_decay * w; v = momentum * v + g; w -= lr * (nesterov ? g + momentum * v : v). v starts at
 * 0, which equals torch's "first v = g". */
struct backend_sgd {
    float lr, momentum, weight_decay;
    bool nesterov;
};

struct backend_result {
    double loss_sum; /* sum over the images of -log softmax[label]; may be NaN or infinite: the caller checks */
    int correct;     /* images whose largest logit (lowest index on a tie) is the label */
};

enum backend_tensor { TENSOR_VALUE, TENSOR_MOMENTUM, TENSOR_GRADIENT };

/* Functions return 0, or -1 with *err set. */
struct residuum_backend {
    uint32_t abi;
    const char *name;

    /* Fills *ret_info; fails with the reason when the device or the library cannot be used. */
    int (*probe)(struct backend_info *ret_info, struct err *err);
    int (*open)(const struct backend_options *options, struct backend **ret_backend, struct err *err);
    void (*close)(struct backend *backend); /* accepts NULL */

    /* Compiles a graph; keeps no pointer to it. Parameters start at zero, running variances at one. */
    int (*compile)(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                   struct backend_plan **ret_plan, struct err *err);
    void (*plan_free)(struct backend_plan *plan); /* accepts NULL */

    /* Forward, backward, update. The loss is the mean over the n images. */
    int (*train_step)(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_sgd *sgd,
                      struct backend_result *ret_result, struct err *err);

    /* Forward with running statistics, no dropout. ret_softmax is [n,classes] or NULL. */
    int (*eval_step)(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                     struct backend_result *ret_result, struct err *err);

    /* Copies a parameter's value, momentum or last gradient (of the mean loss, without weight decay) out or in; param->count
     * floats in the layout of graph_param.shape. Values are the f32 master copies and round-trip exactly. Gradients cannot be
     * set. */
    int (*get_tensor)(struct backend_plan *plan, enum backend_tensor kind, int param_index, float *ret_values, struct err *err);
    int (*set_tensor)(struct backend_plan *plan, enum backend_tensor kind, int param_index, const float *values, struct err *err);

    /* Copies a node's output of the last step's first n images, [n,C,H,W]. A node that was fused away gives what it would have
     * given. */
    int (*get_activation)(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);

    /* The Euclidean norm of each parameter's last gradient: graph->params_n floats; 0 for what is not trainable. */
    int (*gradient_norms)(struct backend_plan *plan, float *ret_norms, struct err *err);

    /* Bytes held by the plan. */
    int64_t (*memory)(const struct backend_plan *plan);
};

/* The only symbol that a module exports. */
extern const struct residuum_backend residuum_backend;

#endif
