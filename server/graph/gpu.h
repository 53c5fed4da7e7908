/* How a network lies in a GPU's memory: which nodes are computed together, where each tensor is, and what a job needs. Pure
 * functions of graph, options and device profile, so the module that computes and the daemon that refuses what does not fit have
 * the same figures, on any machine. gpu_plan.c and what it needs call no JSON: the module links them. */
#ifndef GRAPH_GPU_H
#define GRAPH_GPU_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/spec.h"
#include "server/graph/graph.h"

/* --- gpu_profile.c: what is known of a device --- */

struct gpu_profile {
    char name[32];   /* "h100"; of a real device its id */
    char device[96]; /* "NVIDIA H100 80GB HBM3" */
    int compute;     /* compute capability times ten: 90 */
    int64_t memory_bytes;
};

/* The built-in profiles (server/graph/profiles/NAME.json, embedded), sorted by name. */
const struct gpu_profile *gpu_profiles(size_t *ret_n);

/* The built-in profile of a name in any case, or NULL and ERR_FIELD at pointer with the nearest name. */
const struct gpu_profile *gpu_profile_find(const char *name, const char *pointer, struct err *err);

/* The JSON text of a built-in profile, as cuDNN takes it (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION). */
const char *gpu_profile_json(const char *name);

/* Reads a profile that a device exported. ERR_FIELD at a key that is missing or wrong. */
int gpu_profile_read(const char *name, const json_t *document, struct gpu_profile *ret_profile, struct err *err);

/* --- gpu_plan.c: the arrangement --- */

enum {
    GPU_LANES = 8,       /* channels are padded to a multiple: cuDNN's 16-bit engines need it (NVIDIA's convolution guide) */
    GPU_ALIGN = 256,     /* bytes; of every tensor */
    GPU_SLICES = 256,    /* parts at most into which a sum over rows is cut */
    GPU_CHUNK = 1 << 13, /* parameters that one block updates */
    GPU_POOL_PLACES_MAX = 1 << 16 /* values in the window of a max pool that is trained: places are saved as uint16_t */
};

/* Bytes of the structs of server/backend/cudnn/kernels/kernels.h, from which regions get their sizes; a test compares them. */
enum {
    GPU_STEP_BYTES = 256,      /* KERNEL_STEP_BYTES */
    GPU_SAMPLE_BYTES = 64,     /* struct kernel_sample */
    GPU_RESULT_BYTES = 64,     /* KERNEL_RESULT_BYTES */
    GPU_STATISTICS_BYTES = 24, /* struct kernel_statistics */
    GPU_SCORE_BYTES = 8,       /* an image's loss, f32, and whether it is right, int32 */
    GPU_CHUNK_BYTES = 40,      /* struct kernel_chunk */
    GPU_PARAM_BYTES = 8,       /* struct kernel_param */
    GPU_NORMS_BYTES = 24       /* three partial sums of a chunk, double */
};

struct gpu_options {
    int batch;
    enum spec_precision precision; /* bf16: values and their gradients are bf16; f32 and tf32: f32 */
    bool train;                    /* gradients and optimizer state, too */
    bool keep;                     /* without train: every node's output is kept, nothing is fused */
    enum spec_optimizer optimizer;
    bool average;
};

/* What is computed together. Inputs, fused nodes and the output are in struct gpu_unit. */
enum gpu_unit_kind {
    GPU_INPUT,
    GPU_CONV, /* + bias */
    GPU_NORM, /* batch norm, + another value, + ReLU */
    GPU_GROUP_NORM,
    GPU_ACT,
    GPU_ADD, /* + ReLU */
    GPU_CONCAT,
    GPU_POOL_MAX,
    GPU_POOL_AVG, /* and global average pooling: the window is the whole image */
    GPU_SHORTCUT,
    GPU_FLATTEN,
    GPU_LINEAR, /* + bias */
    GPU_DROPOUT,
    GPU_LOSS
};

/* A tensor of a batch, [batch, h, w, channels], channels fastest. Padded channels hold zeros, in values and gradients. Tensors
 * share memory, so whoever writes one writes all of it, padding and all rows of the batch included, every time. */
struct gpu_value {
    struct graph_shape shape; /* c without padding */
    int channels;             /* c padded to GPU_LANES */
    bool wide;                /* elements are f32 even in bf16: logits that GPU_CONV or GPU_LINEAR make and only the loss reads */
    int64_t count;            /* elements; 0 of GPU_LOSS, whose softmax is dense in region RESULTS */
    int64_t at;               /* offset of the values in the arena, bytes; -1 of GPU_LOSS */
    int64_t gradient; /* offset of the gradient in the arena; -1: none (not trained, no parameter before it, not on the way
                         to the loss): then the unit has no backward pass. GPU_LOSS has one, and no gradient */
};

struct gpu_unit {
    enum gpu_unit_kind kind;
    int node;                               /* the node that gives the unit its name and attributes: the conv, norm, act, ... */
    int add, act;                           /* fused: the add node and the ReLU node behind it; -1: none */
    int out;                                /* the node whose output the unit makes: act or node; units stand in its order */
    int inputs[GRAPH_INPUTS_MAX], inputs_n; /* units; of a norm with add the other summand is inputs[1] */
    struct gpu_value value;
    /* What the backward pass needs besides, offset in the arena: GPU_NORM: mean and 1 / deviation, [2][channels] f32, and in bf16
     * with a ReLU, at the next multiple of GPU_ALIGN, a bit an element: the mask that cuDNN makes; GPU_GROUP_NORM:
     * [2][batch][groups] f32, in evaluation, too, where they go from one kernel to the next, GPU_POOL_MAX: which pixel of its
     * window, row * kernel_w + column, [count] uint16; -1: nothing */
    int64_t saved, saved_bytes;
    /* Backward, units last to first: whether the gradient of an input is wanted, and whether this unit adds to it (another one
     * has written it before) or is its first writer. */
    bool wanted[GRAPH_INPUTS_MAX], accumulate[GRAPH_INPUTS_MAX];
};

/* Where a parameter or running statistic lies: weights as [o, h, w, i] with o and i padded to GPU_LANES (i of grouped
 * convolutions is not padded), all others as [o]. Padding holds zeros and stays so. */
struct gpu_param {
    int o, h, w, i;       /* padded sizes; o, 1, 1, 1 of vectors */
    int64_t first, count; /* elements of the flat f32 regions MASTER, MOMENTUM, SQUARE, AVERAGE; first is a multiple of 64 */
    bool narrow; /* bf16 only: a weight of GPU_CONV, or of a GPU_LINEAR whose value is not wide: its gradient is bf16 as cuDNN
                    makes it, and a bf16 copy of it is in WORKING */
    int64_t gradient; /* byte offset in region GRADIENT; -1: not trainable */
    int64_t working;  /* byte offset in region WORKING; -1: not narrow */
};

enum gpu_region {
    GPU_MASTER,   /* f32, all parameters and running statistics */
    GPU_WORKING,  /* bf16 copies of narrow weights */
    GPU_MOMENTUM, /* f32, as large as MASTER, with train; the optimizer's first state (sgd, adam, adamw, rmsprop) */
    GPU_SQUARE,   /* the same; adam, adamw, rmsprop */
    GPU_AVERAGE,  /* the same, with an average */
    GPU_GRADIENT, /* of parameters */
    GPU_VALUES,   /* of units, and their gradients */
    GPU_SAVED,
    GPU_IMAGES,  /* f32 [batch,C,H,W]: images from the host */
    GPU_SCRATCH, /* the mean greys of augment, [batch] doubles; with train as large as the largest value: gradients before they
                    are added, outputs of nodes that were fused away */
    GPU_PARTIAL, /* with train; sums on their way: [GPU_SLICES][2][channels] doubles of a norm or bias, group norm's
                    [batch][groups][2] f32 */
    GPU_STAGING, /* what goes to the device with each step: server/backend/cudnn/kernels/kernels.h */
    GPU_RESULTS, /* what comes back: the same */
    GPU_TABLE,   /* struct kernel_chunk [chunks_n], struct kernel_param [params_n], partial norms, [chunks_n][3] doubles */
    GPU_REGIONS
};

struct gpu_plan {
    struct gpu_options options;
    struct gpu_unit *units; /* in the order of the forward pass; the last one is GPU_LOSS */
    int units_n;
    int *unit_of;             /* [nodes]: the unit that computes a node, fused ones included */
    struct gpu_param *params; /* [graph->params_n] */
    int params_n;
    int chunks_n; /* of all params: ceil(count / GPU_CHUNK) each */
    struct {
        int64_t at, bytes;
    } regions[GPU_REGIONS]; /* in the arena */
    int64_t arena_bytes;
};

/* Arranges a network. Fused are, where the inner value has one consumer: norm -> (add of two ->) ReLU, add -> ReLU; with keep
 * nothing. Without train, values share memory once nothing needs them any more; with keep they share nothing. With train, values
 * share nothing with each other, as the last evaluation's can be asked for; but gradients lie where values were that no backward
 * pass reads any more. It reads the inputs of GPU_CONV, GPU_LINEAR, GPU_NORM (not the other summand), GPU_GROUP_NORM, GPU_ACT and
 * GPU_LOSS, and the output of a unit with a fused ReLU. Gradients live from the backward pass of the last reader of their value
 * to that of the unit that made it. Errors: ERR_MEMORY; ERR_UNSUPPORTED for a max pool of more than GPU_POOL_PLACES_MAX values in
 * training. */
int gpu_plan_new(const struct graph *graph, const struct gpu_options *options, struct gpu_plan **ret_plan, struct err *err);
void gpu_plan_free(struct gpu_plan *plan); /* accepts NULL */

/* Bytes of an element of a value. */
int gpu_element_bytes(const struct gpu_plan *plan, const struct gpu_value *value);

/* What a plan of cuDNN may use at most on a device, and the module allocates: memory / 64, at least 64 and at most 512 MiB. */
int64_t gpu_workspace_bytes(int64_t memory_bytes);

/* --- gpu_need.c: a whole job --- */

struct gpu_need {
    int64_t train_bytes, evaluate_bytes; /* arenas */
    int64_t data_bytes;                  /* the images of all sets */
    int64_t workspace_bytes;
    int64_t context_bytes; /* CUDA context and libraries: GPU_CONTEXT_MIB, an estimate that no GPU has confirmed yet */
    int64_t total_bytes;
};
enum { GPU_CONTEXT_MIB = 700 };

/* Images of all sets that a job holds on the device. */
struct gpu_job {
    const struct graph *graph;
    const struct spec *spec;
    int64_t images; /* training, validation and test */
    struct graph_shape image;
};

/* What a job needs on a device of so much memory. */
int gpu_need(const struct gpu_job *job, int64_t memory_bytes, struct gpu_need *ret_need, struct err *err);

/* room_bytes: how much of a device's memory a job may use. The daemon gives it all: what else is in use, it cannot know for long.
 * Fails with ERR_UNSUPPORTED at /batch_size when it needs more than room_bytes of a device: the text gives the need, the room and
 * the largest batch that fits; at /model when none does, or a layer is none for a GPU; at /precision when the compute capability
 * lacks it. */
int gpu_need_check(const struct gpu_job *job, const struct gpu_profile *profile, int64_t room_bytes, struct gpu_need *ret_need,
                   struct err *err);

/* The largest batch that fits, found by bisection up to SPEC_BATCH_MAX; 0: not even one image; -1: gpu_need fails. */
int gpu_largest_batch(const struct gpu_job *job, int64_t memory_bytes, int64_t room_bytes);

#endif
