/* Door of the backends: the one versioned struct that a compute module exports as `residuum_backend`. Modules are opened with
 * dlopen by the worker; layouts, fusion and graph capture stay inside. All tensors crossing this door are dense f32, N,C,H,W;
 * weights O,I,H,W. One thread calls; a module may use threads of its own. A pointer to a function that a module does not have
 * is NULL where the door says so. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/augment.h"
#include "common/err.h"
#include "common/spec.h"
#include "server/graph/graph.h"

enum { BACKEND_ABI = 4, BACKEND_PROFILE_MAX = 1024 }; /* raise with every change of the structs below */

struct backend;      /* an open module on one device */
struct backend_plan; /* a compiled graph with its parameters and buffers */

struct backend_info {
    char name[16], version[48];     /* "onednn", "2.6.3" */
    char device_id[64], device[96]; /* "cpu", "AMD EPYC (2 threads)"; "GPU-1fdd...", "NVIDIA H100 80GB HBM3" */
    char algorithms[48];            /* name of the fixed table that chooses algorithms by shape; part of a job's receipt */
    unsigned precisions;            /* bits 1 << enum spec_precision: what is offered */
    int threads_max;
    int64_t memory_bytes; /* of the device */
    int devices;          /* how many this module has found; probe takes indexes below it */
    /* of a GPU; zero and empty of a processor */
    int64_t memory_free_bytes;
    int compute;                       /* compute capability times ten: 90 is 9.0 */
    char driver[32];                   /* "580.65.06", or the CUDA version where NVML is missing: "CUDA 13.0" */
    char profile[BACKEND_PROFILE_MAX]; /* JSON of the device's properties, as in server/graph/profiles */
    char note[128];                    /* what a person should know: "not yet run on hardware by us" */
};

struct backend_options {
    int threads;
    const char *device_id; /* "cpu", "GPU-1fdd..." */
};

enum backend_use {
    USE_TRAIN,    /* all functions */
    USE_EVALUATE, /* eval_step only, as fast as it can be: batch norm may be folded, outputs are not kept */
    USE_INSPECT   /* eval_step only, and every node's output is kept for get_activation */
};

/* How a GPU's step is launched: kernel by kernel, or as a graph that was captured once. A self-check compares the two. */
enum backend_steps {
    STEPS_AUTO, /* captured where that is possible and allowed */
    STEPS_EAGER,
    STEPS_CAPTURED /* in any case: a step that cannot be captured fails */
};

struct backend_plan_options {
    int batch; /* largest number of images in a step; smaller last batches are allowed */
    enum spec_precision precision;
    enum backend_use use;
    /* of USE_TRAIN: which state to make room for */
    enum spec_optimizer optimizer;
    bool average;          /* TENSOR_AVERAGE */
    bool nondeterministic; /* algorithms whose sums may differ from run to run are allowed; processors need none */
    enum backend_steps steps;
};

/* The data sets that load_data may put on a device. */
enum backend_set { SET_TRAIN, SET_VALIDATION, SET_TEST, BACKEND_SETS };

/* Images as bytes, [n,C,H,W], and what normalizes them; borrowed for the call. */
struct backend_data {
    int n, channels, height, width;
    const uint8_t *pixels;
    const double *mean, *deviation; /* [channels], of pixels as fractions of 255 */
    const float (*normal)[256];     /* [channels]: (value / 255 - mean) / deviation, as float */
};

struct backend_batch {
    int n;                /* images, 1..batch */
    const float *images;  /* [n,C,H,W], normalized; NULL: the rows samples of a set that load_data has put on the device, */
    enum backend_set set; /* this one, */
    const struct augment
        *augment;          /* augmented so, mixup included (others and shares are given all the same); NULL: as they are */
    const int32_t *labels; /* [n], 0..classes-1 */
    /* The target of image i is share * onehot(labels[i]) + (1 - share) * onehot(others[i]) with share = shares[i] (mixup, Zhang
     * et al. 2018), smoothed: (1 - smoothing) * target + smoothing / classes (Szegedy et al. 2016). Without mixup both are NULL.
     */
    const int32_t *others; /* [n] */
    const float *shares;   /* [n], 0.5 to 1 */
    float smoothing;       /* of train_step only; eval_step takes neither */
    /* the key of random numbers (dropout): RNG_DROPOUT with a = epoch + node index * 2^16 (epochs are below 2^16, nodes below
     * 2^12), b = sample, c = element / 4; element counts the node's output of one image in C,H,W order; it is dropped when
     * rng_unit(words[element % 4]) < rate (rate as float) */
    uint64_t seed;
    uint32_t epoch;
    const uint32_t *samples; /* [n] */
};

/* One update of all trainable parameters, as the classes of torch.optim do it (PyTorch 1.13; formulas in their documentation).
 * g is the gradient of the mean loss, scaled by min(1, clip_norm / (norm of all gradients + 1e-6)) when clip_norm > 0
 * (torch.nn.utils.clip_grad_norm_); d is the weight decay of the parameter.
 *
 * sgd: g += d w; m = momentum m + g; w -= lr (nesterov ? g + momentum m : m); as m starts at 0, torch's "first m = g" follows.
 *
 * adam: g += d w; m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2;
 * w -= lr / (1 - beta1^step) m / (sqrt(s / (1 - beta2^step)) + epsilon).
 *
 * adamw: w -= lr d w; then as adam without decay.
 *
 * rmsprop: g += d w; s = alpha s + (1 - alpha) g^2; m = momentum m + g / (sqrt(s) + epsilon); w -= lr m.
 *
 * Then, where the plan has an average: average = average_decay average + (1 - average_decay) value, for every parameter and
 * running statistic. */
struct backend_optimizer {
    enum spec_optimizer kind;
    float lr, momentum, weight_decay, beta1, beta2, alpha, epsilon;
    bool nesterov;
    bool decay_weights_only; /* no weight decay on biases, gamma and beta: only ROLE_WEIGHT decays */
    float clip_norm;         /* 0: no clipping */
    float average_decay;
    int64_t step; /* number of this update over all epochs, from 1 */
};

struct backend_result {
    double loss_sum; /* sum over the images of -sum target log softmax; may be NaN or infinite: the caller checks */
    int correct;     /* images whose largest logit (lowest index on a tie) is the label */
};

enum backend_tensor {
    TENSOR_VALUE,
    TENSOR_MOMENTUM, /* m above; trainable parameters only */
    TENSOR_SQUARE,   /* s above; trainable parameters only, adam, adamw and rmsprop */
    TENSOR_AVERAGE,  /* of all parameters and running statistics, when the plan has averages */
    TENSOR_GRADIENT  /* of the mean loss, without clipping and weight decay; cannot be set */
};

/* What the last training step did to one parameter: Euclidean norms; zeros for what is not trainable. */
struct backend_statistics {
    double gradient; /* as TENSOR_GRADIENT */
    double weight;   /* before the update */
    double update;   /* new value - old value */
};

/* How a GPU is. What a driver does not tell is negative. */
struct backend_telemetry {
    double temperature_c, utilization, power_w; /* degrees Celsius; 0 to 1; watts */
    double energy_j;                            /* since the driver was loaded, rises only */
    int64_t memory_used_bytes;                  /* by all processes */
    double step_s;                              /* of the last train_step or eval_step, by the device's own clock */
};

/* One line of a self-check. */
struct backend_check {
    char item[48];          /* "convolutions, strict f32 against own kernels" */
    bool passed, skipped;   /* skipped: passed is false, the text says why */
    double measured, limit; /* of what the text names; 0 where nothing is measured */
    char text[256];
};

struct backend_checks {
    void (*report)(void *arg, const struct backend_check *check);
    void *arg;
    bool brief; /* what a start has time for: some seconds */
};

/* Functions return 0, or -1 with *err set. ERR_DEVICE: the device itself failed, no other job should be given to it. */
struct residuum_backend {
    uint32_t abi;
    const char *name;

    /* Fills *ret_info for device number index, counted from 0; fails with the reason when the device or the library cannot be
     * used. With devices there is at least index 0. When one of several devices cannot be used, *ret_info tells devices,
     * device_id and device all the same (devices stays as it was where the library cannot be used), so that the others are
     * found. */
    int (*probe)(int index, struct backend_info *ret_info, struct err *err);
    int (*open)(const struct backend_options *options, struct backend **ret_backend, struct err *err);
    void (*close)(struct backend *backend); /* accepts NULL */

    /* Copies a set to the device, where it stays until close or the next set of that name; batches may name it then. NULL: the
     * module takes images from the host only. */
    int (*load_data)(struct backend *backend, enum backend_set set, const struct backend_data *data, struct err *err);

    /* How the device is now; fails with ERR_DEVICE when it reports a fault that calls for another device (an uncorrectable memory
     * error, a GPU that fell off the bus). NULL: nothing can be told. */
    int (*telemetry)(struct backend *backend, struct backend_telemetry *ret_telemetry, struct err *err);

    /* Checks the device, its memory and the module's own kernels and plans, one report a check. Fails only when it cannot go on.
     * NULL: there is nothing to check beyond what this door shows. */
    int (*self_check)(struct backend *backend, const struct backend_checks *checks, struct err *err);

    /* Compiles a graph; keeps no pointer to it. Parameters start at zero, running variances at one. */
    int (*compile)(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                   struct backend_plan **ret_plan, struct err *err);
    void (*plan_free)(struct backend_plan *plan); /* accepts NULL */

    /* Forward, backward, update. The loss is the mean over the n images. */
    int (*train_step)(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                      struct backend_result *ret_result, struct err *err);

    /* Forward with running statistics, no dropout. ret_softmax is [n,classes] or NULL. */
    int (*eval_step)(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                     struct backend_result *ret_result, struct err *err);

    /* Copies a tensor of a parameter out or in; param->count floats in the layout of graph_param.shape. Values are the f32 master
     * copies and round-trip exactly. ERR_BACKEND when the plan has no such tensor. */
    int (*get_tensor)(struct backend_plan *plan, enum backend_tensor kind, int param_index, float *ret_values, struct err *err);
    int (*set_tensor)(struct backend_plan *plan, enum backend_tensor kind, int param_index, const float *values, struct err *err);

    /* Copies a node's output of the last eval_step's first n images, [n,C,H,W]; not of USE_EVALUATE plans, nor after a
     * train_step, which may have used its memory for gradients. A node that was fused away gives what it would have given. */
    int (*get_activation)(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);

    /* What the last train_step did: graph->params_n rows. Made along with the update, so asking costs nothing. */
    int (*statistics)(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err);

    /* Bytes held by the plan. */
    int64_t (*memory)(const struct backend_plan *plan);
};

/* The only symbol that a module exports. */
extern const struct residuum_backend residuum_backend;

#endif
