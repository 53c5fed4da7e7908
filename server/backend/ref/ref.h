/* What the files of the reference backend share: the plan, and the call that every op is given. Everything is dense f32 in
 * N,C,H,W; sums run in double and in one fixed order, so that results are exact enough to be the truth in tests and the same
 * every time. */
#ifndef BACKEND_REF_REF_H
#define BACKEND_REF_REF_H

#include "server/backend/backend.h"

/* One op of one step. Gradients of inputs are added to (a node may feed several others), those of parameters overwritten. */
struct ref_call {
    const struct graph_node *node;
    int index; /* of the node */
    int n;     /* images in this step */
    bool training;
    const struct backend_batch *batch;
    struct graph_shape in_shape[GRAPH_INPUTS_MAX];
    const float *in[GRAPH_INPUTS_MAX]; /* [n,C,H,W] each */
    float *in_grad[GRAPH_INPUTS_MAX];  /* the same shape; NULL where no gradient is wanted: the images */
    float *out;                        /* [n,C,H,W] of node->out */
    const float *out_grad;
    float *value[4], *gradient[4]; /* in the order of node->params; gradient is NULL for running statistics */
    double *plane;                 /* scratch for one channel of the largest image */
};

static inline size_t ref_count(struct graph_shape shape) {
    return (size_t)shape.c * (size_t)shape.h * (size_t)shape.w;
}

/* --- conv.c, linear.c, norm.c, group_norm.c, act.c, pool.c, join.c, loss.c --- */

void ref_conv_forward(const struct ref_call *call);
void ref_conv_backward(const struct ref_call *call);
void ref_linear_forward(const struct ref_call *call);
void ref_linear_backward(const struct ref_call *call);
void ref_norm_forward(const struct ref_call *call); /* in training also moves the running statistics */
void ref_norm_backward(const struct ref_call *call);
void ref_group_norm_forward(const struct ref_call *call);
void ref_group_norm_backward(const struct ref_call *call);
void ref_act_forward(const struct ref_call *call);
void ref_act_backward(const struct ref_call *call);
void ref_pool_max_forward(const struct ref_call *call);
void ref_pool_max_backward(const struct ref_call *call);
void ref_pool_avg_forward(const struct ref_call *call);
void ref_pool_avg_backward(const struct ref_call *call);
void ref_gap_forward(const struct ref_call *call);
void ref_gap_backward(const struct ref_call *call);
void ref_add_forward(const struct ref_call *call);
void ref_add_backward(const struct ref_call *call);
void ref_concat_forward(const struct ref_call *call);
void ref_concat_backward(const struct ref_call *call);
void ref_shortcut_forward(const struct ref_call *call);
void ref_shortcut_backward(const struct ref_call *call);
void ref_flatten_forward(const struct ref_call *call);
void ref_flatten_backward(const struct ref_call *call);
void ref_dropout_forward(const struct ref_call *call);
void ref_dropout_backward(const struct ref_call *call);
void ref_loss_forward(const struct ref_call *call); /* out = softmax of the logits */
void ref_loss_backward(const struct ref_call *call);
struct backend_result ref_loss_result(const struct ref_call *call);

/* --- plan.c --- */

struct backend_plan {
    int batch, classes;
    enum backend_use use;
    int last_n; /* images of the last step; 0: none yet */
    bool has_gradients, has_squares, has_averages;
    struct graph_node *nodes;
    int nodes_n;
    struct graph_param *params;
    int params_n;
    float **out, **grad;                   /* per node, [batch,C,H,W]; no grad for images and in inference plans */
    float **value, **gradient, **momentum; /* per parameter; the last two for trainable ones only */
    float **square, **average;             /* per parameter, where the plan's options say so: of trainable ones, of all */
    struct backend_statistics *statistics; /* per parameter */
    double *plane;
    int64_t bytes;
};

int ref_compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                struct backend_plan **ret_plan, struct err *err);
void ref_plan_free(struct backend_plan *plan);
int64_t ref_memory(const struct backend_plan *plan);

/* --- tensors.c --- */

int ref_get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param_index, float *ret_values, struct err *err);
int ref_set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param_index, const float *values, struct err *err);
int ref_get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err);
int ref_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err);

/* --- update.c --- */

/* Whether an optimizer keeps mean squares of the gradients. */
bool ref_needs_square(enum spec_optimizer kind);

/* One update of all parameters by their gradients; fills the statistics. */
void ref_update(struct backend_plan *plan, const struct backend_optimizer *optimizer);

/* --- step.c --- */

int ref_train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                   struct backend_result *ret_result, struct err *err);
int ref_eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                  struct backend_result *ret_result, struct err *err);

#endif
