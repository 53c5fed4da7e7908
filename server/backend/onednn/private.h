/* What the files of this module share: a plan's values, units and buffers. */
#ifndef ONEDNN_PRIVATE_H
#define ONEDNN_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/backend/backend.h"
#include "server/backend/onednn/compat.h"
#include "server/backend/onednn/kernels.h"
#include "server/backend/onednn/winograd.h"

struct backend {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    const struct kernels *kernels;
    int threads;
};

/* --- arena.c: memory that belongs to a plan --- */

enum { ALIGNMENT = 64, NO_BUFFER = -1 };

/* A stretch of the plan's arena. Two buffers share memory when their times do not meet. Times are positions in the order of
 * execution: unit u's forward pass is u, the i-th backward step is units_n + i. */
struct buffer {
    size_t size, offset;
    int first, last;
    int references; /* while compiling: gradients still to be read from it */
};

struct arena {
    struct buffer *buffers;
    int buffers_n, buffers_max;
    char *data;
    size_t size;
    void **blocks; /* small things that live as long as the plan */
    int blocks_n, blocks_max;
    int64_t blocks_bytes;
};

/* A new buffer that is alive at time, or NO_BUFFER. */
int arena_buffer(struct arena *arena, size_t size, int time, struct err *err);
void arena_touch(struct arena *arena, int buffer, int time);
int arena_commit(struct arena *arena, struct err *err);
void arena_done(struct arena *arena);

/* Zeroed, aligned memory that lives as long as the arena, or NULL. */
void *arena_block(struct arena *arena, size_t size, struct err *err);

/* Zeroed memory in huge pages where they help; freed with free(). */
void *arena_pages(size_t size);

/* --- plan.c --- */

/* What a node of the graph gives. Laid out as [n][blocks][h*w][lanes], channels beyond c are zero. */
struct value {
    int c, h, w, blocks;
    size_t pixels, image; /* h*w; elements of one image */
    bool bf16;
    bool needs_grad;       /* something trainable lies upstream */
    int unit;              /* that makes it, or the one it was fused into */
    int buffer;            /* NO_BUFFER when it is fused away */
    int grads[2], grads_n; /* while compiling: buffers whose sum is its gradient */
};

/* What runs as one: a node, or norm [+ add] [+ ReLU], or add + ReLU; in evaluation also conv [+ norm] [+ add] [+ ReLU]. */
struct unit {
    enum graph_op op;
    int node, out;                          /* first and last node */
    int folded;                             /* the norm that a convolution has taken into its weights, or -1 */
    int inputs[GRAPH_INPUTS_MAX], inputs_n; /* nodes; a fused add's other operand is input 1 */
    bool relu, residual;
    bool deferred; /* a norm [+ ReLU] that its only reader, a convolution, applies while it reads: out has no buffer */
    int deferred_norm, source; /* of that convolution: the norm's unit, else -1, and the node whose output it reads */
    struct conv *conv;
    struct norm *norm;
    struct group_norm *group_norm;
    bool backward; /* has a gradient to pass on */
    int grads[2];  /* buffers of the gradient of out; NO_BUFFER: none */
    int masked;    /* buffer for that gradient, summed and behind the ReLU; NO_BUFFER: not kept */
    int input_grads[GRAPH_INPUTS_MAX];
};

/* A step of the backward pass: a unit, or dst = a + b for a value that more than two others read. */
struct step {
    int unit; /* -1: the sum */
    int dst, a, b, value;
};

/* How a parameter lies in the flat arrays. */
struct param {
    struct graph_param info;
    bool blocked;          /* [O/lanes][I/lanes][KH][KW][lanes of I][lanes of O], else as at the door */
    size_t offset, padded; /* in floats */
};

/* A stretch of one parameter, and what its last update was made of. */
struct slice {
    int param;
    size_t at, n; /* in floats */
    double squares[UPDATE_SQUARES];
};

struct plan_params {
    struct param *items;
    int n;
    size_t trainable, total;  /* floats; trainable ones come first */
    float *values, *average;  /* of all; average, square: NULL when the plan does not want them */
    float *momentum, *square; /* of the trainable ones, as gradients */
    float *gradients;
    struct slice *slices; /* of plans for training */
    size_t slices_n;
    struct backend_statistics *statistics; /* [n], of the last step */
    bool changed;                          /* working copies of the weights are stale */
};

struct backend_plan {
    struct backend *backend;
    struct backend_plan_options options;
    int lanes;
    struct graph_node *nodes;
    int nodes_n, classes;
    struct value *values; /* [nodes_n] */
    struct unit *units;
    int units_n;
    struct step *steps;
    int steps_n, steps_max;
    struct arena arena;
    struct plan_params params;
    float *images;         /* the last step's, [batch,C,H,W] */
    uint16_t *images_bf16; /* the same in bf16; NULL in f32 */
    float *probabilities;  /* softmax of the last step, [batch] rows of the logits' padded size */
    double *losses;        /* of the last step's images */
    float *wide[2];        /* f32 copies around linear layers */
    size_t wide_size[2];
    void *plain[2]; /* dense copies around convolutions that oneDNN cannot run blocked */
    size_t plain_size[2];
    void *scratch; /* oneDNN's scratchpad, as large as the neediest primitive asks */
    size_t scratch_size;
    float *rows;     /* [threads][3][row_size]: rows in f32 */
    size_t row_size; /* of the largest row */
    double *partial; /* [threads][2][channels]: sums of batch norm */
    size_t partial_channels;
    bool input_blocked; /* some unit reads the images in blocks */
    int last_n;         /* images of the last evaluation whose outputs are still there; 0: none */
    bool has_gradients;
    uint64_t use_count;
};

int plan_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                 struct backend_plan **ret_plan, struct err *err);
void plan_free(struct backend_plan *plan);
int64_t plan_memory(const struct backend_plan *plan);
/* Where a buffer lies, NULL for NO_BUFFER. */
void *plan_data(const struct backend_plan *plan, int buffer);
/* Where a node's output lies. */
void *plan_value(const struct backend_plan *plan, int node);

static inline size_t value_bytes(const struct value *value, size_t n) {
    return n * value->image * (value->bf16 ? 2 : 4);
}

static inline size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

/* What can take an add and a ReLU behind it in training as well. */
static inline bool is_norm(enum graph_op op) {
    return op == OP_NORM || op == OP_GROUP_NORM;
}

/* The address of an element of a tensor. */
static inline void *element(void *data, size_t index, bool bf16) {
    return data ? (char *)data + index * (bf16 ? 2 : 4) : NULL;
}

static inline const void *element_of(const void *data, size_t index, bool bf16) {
    return data ? (const char *)data + index * (bf16 ? 2 : 4) : NULL;
}

/* Rows of channel blocks that thread number t of threads works on: always the same ones, so that sums have one order. */
static inline void share(size_t rows, int t, int threads, size_t *ret_first, size_t *ret_end) {
    *ret_first = rows * (size_t)t / (size_t)threads;
    *ret_end = rows * ((size_t)t + 1) / (size_t)threads;
}

/* --- units.c: which nodes run as one --- */
int units_build(struct backend_plan *plan, struct err *err);
/* Lets a convolution apply the norm in front of it, where it is the only reader. */
void units_defer_norm(struct backend_plan *plan, struct unit *unit);

/* --- program.c: the order of the backward pass and the lives of all buffers --- */
/* Which values need a gradient. */
void program_needs(struct backend_plan *plan);
int program_build(struct backend_plan *plan, struct err *err);

/* --- params.c --- */
int params_build(struct backend_plan *plan, const struct graph *graph, struct err *err);
float *params_value(const struct backend_plan *plan, int node, enum graph_role role); /* NULL: the node has none */
float *params_gradient(const struct backend_plan *plan, int node, enum graph_role role);
bool params_blocked(const struct backend_plan *plan, int node); /* its weight */
int params_get(struct backend_plan *plan, enum backend_tensor kind, int index, float *ret_values, struct err *err);
int params_set(struct backend_plan *plan, enum backend_tensor kind, int index, const float *values, struct err *err);

/* --- optimizer.c --- */
int optimizer_new(struct backend_plan *plan, struct err *err);
bool optimizer_has_square(enum spec_optimizer kind); /* whether it needs TENSOR_SQUARE */
void optimizer_update(struct backend_plan *plan, const struct backend_optimizer *optimizer);
int optimizer_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err);

/* --- layout.c --- */

/* Between dense [n,C,H,W] (f32 unless plain_bf16) and the blocked layout of value. */
void layout_block(const struct backend_plan *plan, void *dst, const void *src, bool plain_bf16, const struct value *value, int n);
void layout_unblock(const struct backend_plan *plan, void *dst, bool plain_bf16, const void *src, const struct value *value,
                    int n);
/* n floats rounded to bf16. */
void layout_narrow(const struct backend_plan *plan, void *dst, const float *src, size_t n);

/* --- conv.c --- */
struct conv;
extern const char conv_algorithms[]; /* the name of the table that chooses algorithms by shape */
int conv_new(struct backend_plan *plan, struct unit *unit, struct err *err);
/* Makes the primitives for n images, unless they are there; before a step with n images. */
int conv_prepare(struct backend_plan *plan, struct unit *unit, int n, struct err *err);
int conv_forward(struct backend_plan *plan, struct unit *unit, int n, struct err *err);
int conv_backward(struct backend_plan *plan, struct unit *unit, int n, struct err *err);
/* Brings the working copies of the weights up to date. */
int conv_pack(struct backend_plan *plan, struct unit *unit, struct err *err);
/* Whether the dense images are read as they are. */
bool conv_reads_images(const struct conv *conv);
/* Whether it can apply a norm to what it reads. */
bool conv_can_norm(const struct conv *conv);
void conv_free(struct conv *conv);

/* --- norm.c --- */
struct norm;
int norm_new(struct backend_plan *plan, struct unit *unit, struct err *err);
void norm_forward(struct backend_plan *plan, struct unit *unit, int n, bool training);
void norm_backward(struct backend_plan *plan, struct unit *unit, int n);
/* What node, one of the unit's, gave: the norm alone, or with what is fused behind it. */
void norm_recompute(struct backend_plan *plan, const struct unit *unit, int n, int node, void *dst);
/* What a reader of a deferred norm does to each value. */
struct winograd_norm norm_of(const struct unit *unit);
/* A place for sums over so many channels. */
void norm_need(struct backend_plan *plan, size_t channels);
/* Thread t's: first sums of values, then those of their products, partial_channels of each. */
double *norm_partial(const struct backend_plan *plan, int t);
/* The row of unit's backward pass that begins at an element, without what depends on its channels. */
struct norm_row norm_row_tensors(const struct backend_plan *plan, const struct unit *unit, size_t at);

/* --- group_norm.c --- */
struct group_norm;
int group_norm_new(struct backend_plan *plan, struct unit *unit, struct err *err);
void group_norm_forward(struct backend_plan *plan, const struct unit *unit, int n);
void group_norm_backward(struct backend_plan *plan, const struct unit *unit, int n);
void group_norm_recompute(struct backend_plan *plan, const struct unit *unit, int n, bool with_residual, void *dst);

/* --- pointwise.c --- */
void add_forward(struct backend_plan *plan, const struct unit *unit, int n, bool relu, void *dst);
void add_backward(struct backend_plan *plan, const struct unit *unit, int n);
void act_forward(struct backend_plan *plan, const struct unit *unit, int n);
void act_backward(struct backend_plan *plan, const struct unit *unit, int n);
void sum_step(struct backend_plan *plan, const struct step *step, int n);
/* In evaluation values pass unchanged. */
void dropout_run(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch, void *dst,
                 const void *src, bool training);

/* --- window.c: pools, shortcut; shape.c: concat, flatten --- */
void pool_forward(struct backend_plan *plan, const struct unit *unit, int n);
void pool_backward(struct backend_plan *plan, const struct unit *unit, int n);
void gap_forward(struct backend_plan *plan, const struct unit *unit, int n);
void gap_backward(struct backend_plan *plan, const struct unit *unit, int n);
void shortcut_forward(struct backend_plan *plan, const struct unit *unit, int n);
void shortcut_backward(struct backend_plan *plan, const struct unit *unit, int n);
void concat_forward(struct backend_plan *plan, const struct unit *unit, int n);
void concat_backward(struct backend_plan *plan, const struct unit *unit, int n);
void flatten_forward(struct backend_plan *plan, const struct unit *unit, int n);
void flatten_backward(struct backend_plan *plan, const struct unit *unit, int n);

/* --- head.c: linear and loss --- */
void linear_need(struct backend_plan *plan, const struct unit *unit);
int linear_forward(struct backend_plan *plan, const struct unit *unit, int n, struct err *err);
int linear_backward(struct backend_plan *plan, const struct unit *unit, int n, struct err *err);
void loss_forward(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch, bool training,
                  struct backend_result *ret_result);
void loss_backward(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch);

/* --- step.c --- */
int step_train(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
               struct backend_result *ret_result, struct err *err);
int step_eval(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax, struct backend_result *ret_result,
              struct err *err);

/* --- inspect.c --- */
int inspect_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);

#endif
