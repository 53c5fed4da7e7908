/* What conv.c (choosing layouts and kernels) and conv_run.c (primitives and their execution) share. */
#ifndef ONEDNN_CONV_H
#define ONEDNN_CONV_H

#include "server/backend/onednn/private.h"
#include "server/backend/onednn/wgrad.h"
#include "server/backend/onednn/winograd.h"

enum { PASSES = 3, CONV_SETS = 3 };

/* A copy of the weights in the layout that one pass wants. */
struct conv_weights {
    struct compat_desc desc;
    void *data;               /* the master array itself when the layouts are equal */
    enum pack_kind pack;      /* our own way to fill it; PACK_NONE: by reorder */
    dnnl_primitive_t reorder; /* NULL: no copy is needed. From the master copy, for PASS_WEIGHTS to the gradients' array */
    dnnl_memory_t from, to;
};

enum conv_arg { ARG_SRC, ARG_WEIGHTS, ARG_BIAS, ARG_DST, ARG_SCRATCH, ARGS };

/* The primitives of one batch size. */
struct conv_set {
    int n;
    uint64_t used; /* plan->use_count at the last use */
    dnnl_primitive_t primitives[PASSES];
    dnnl_memory_t memory[PASSES][ARGS];
};

/* How a convolution sees its tensors. */
enum conv_mode {
    MODE_BLOCKED, /* blocked in, blocked out */
    MODE_IMAGES,  /* the dense images in, blocked out: for 1 or 3 channels */
    MODE_DENSE    /* dense copies on both sides: group and channel counts that have no blocked kernel */
};

struct conv {
    enum conv_mode mode;
    struct value in, out;
    int batch;
    dnnl_data_type_t type;

    bool wanted[PASSES]; /* passes that this plan runs */
    bool bias, inference;
    bool sum, relu;         /* in evaluation: what follows, fused */
    float *scaled, *offset; /* in evaluation: weights and bias with the norm behind taken in, or NULL */
    bool blocked_weights;   /* the master copy is in blocks */
    bool own_weights;       /* the weight gradient is not oneDNN's */
    struct wgrad wgrad;
    bool own;     /* no pass is oneDNN's: see conv_own.c */
    void *packed; /* own weights for evaluation, transformed once */
    int groups;
    dnnl_dims_t weight_dims, stride, dilation, pad;
    struct compat_desc master;
    struct conv_weights weights[PASSES];
    struct conv_set sets[CONV_SETS];
    struct conv_set *set; /* of the current step */
};

/* The primitive descriptor of a pass for n images; weights has its layout, or "any". */
dnnl_status_t conv_pd(const struct backend_plan *plan, const struct conv *conv, enum compat_pass pass, int n,
                      const struct compat_desc *weights, const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *ret_pd,
                      struct err *err);
void conv_set_done(struct conv_set *set);

/* --- conv_own.c --- */
bool own_fits(const struct backend_plan *plan, const struct unit *unit, const struct conv *conv);
int own_new(struct backend_plan *plan, struct conv *conv, struct err *err);
size_t own_scratch(const struct backend_plan *plan, const struct conv *conv);
void own_pack(struct backend_plan *plan, const struct unit *unit, const float *weights);
void own_forward(struct backend_plan *plan, const struct unit *unit, int n);
void own_data(struct backend_plan *plan, const struct unit *unit, int n);
void own_weights(struct backend_plan *plan, const struct unit *unit, int n);

#endif
