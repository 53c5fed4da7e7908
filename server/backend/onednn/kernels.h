/* The hot loops of this module, compiled once per instruction set from kernels_body.h and chosen at run time. A row is one
 * channel block of one image: pixels * lanes elements, channels innermost. Elements are f32, or bf16 where bf16 is true. */
#ifndef ONEDNN_KERNELS_H
#define ONEDNN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/spec.h"

/* Where the ReLU behind a batch norm let values pass. */
enum mask_mode {
    MASK_NONE,
    MASK_X, /* where scale * (x - mean) + shift > 0: nothing was added between norm and ReLU, so y need not be read */
    MASK_Y  /* where y > 0 */
};

/* One row of batch norm's backward pass. Per-channel arrays have lanes elements. */
struct norm_row {
    const void *g1, *g2; /* the gradient of y is g1, or g1 + g2 */
    const void *x, *y;
    void *masked; /* the gradient behind the mask, or NULL when it need not be kept; may be g1 or g2 */
    void *out;    /* the gradient of x; may be g1, g2 or masked */
    size_t pixels;
    bool bf16;
    enum mask_mode mask;
    const float *mean, *scale, *shift;
    const float *gain, *a, *b, *c; /* out = a * (gain * g - b - c * (x - mean)); gain NULL: 1 */
    double *sum_g, *sum_gx;        /* sums over the row of g and of g * (x - mean) are added here */
};

/* Which values of a row are dropped: see struct backend_batch. */
struct drop {
    uint64_t seed;
    uint32_t place; /* epoch and node: see backend.h */
    uint32_t sample;
    uint32_t channel; /* the row's first */
    float rate, keep; /* what is not dropped is multiplied by keep */
};

/* The windows of a pool; rows of the input and of the output are of one block. */
struct pool {
    int in_h, in_w, out_h, out_w;
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};

enum update_square { UPDATE_GRADIENT, UPDATE_WEIGHT, UPDATE_STEP, UPDATE_SQUARES };

/* A stretch of the parameters, and how it is updated: g = clip * gradient + decay * weight, then by the optimizer's formula. */
struct update {
    float *weight, *momentum, *square;
    const float *gradient;
    float clip, decay;
    float shrink;                       /* adam: factor of the old weight, 1 - lr * weight decay in AdamW */
    float lr;                           /* adam: with the correction of the momentum's bias */
    float momentum_keep, momentum_take; /* m = keep * m + take * what is new */
    float square_keep, square_take;     /* s = keep * s + take * g^2 */
    float root_scale, epsilon;          /* adam: the divisor is root_scale * sqrt(s) + epsilon */
    bool nesterov;
};

/* How a block of weights [lanes of I][lanes of O] is rewritten for a pass. */
enum pack_kind {
    PACK_NONE,
    PACK_TURNED,      /* f32 [O][I] */
    PACK_PAIRS,       /* bf16 [I/2][O][2 of I] */
    PACK_TURNED_PAIRS /* bf16 [O/2][I][2 of O] */
};

struct kernels {
    const char *name; /* "avx512" */
    int lanes;        /* channels of a block */
    void (*load)(float *dst, const void *src, size_t n, bool bf16);
    void (*store)(void *dst, const float *src, size_t n, bool bf16);

    /* Adds the sums of (x - center) and (x - center)^2 of a row to sum and square. */
    void (*norm_sums)(const void *x, size_t pixels, bool bf16, const float *center, double *sum, double *square);

    /* y = scale * (x - mean) + shift, plus residual unless NULL, then ReLU if asked for. */
    void (*norm_apply)(void *y, const void *x, const void *residual, size_t pixels, bool bf16, const float *mean,
                       const float *scale, const float *shift, bool relu);
    void (*norm_back_sums)(const struct norm_row *row);
    void (*norm_back_apply)(const struct norm_row *row);

    /* dst = a + b (b may be NULL), then ReLU if asked for. n is a multiple of lanes here and below. */
    void (*add)(void *dst, const void *a, const void *b, size_t n, bool bf16, bool relu);

    /* dst = a + b where y > 0, else 0; b and y may be NULL. dst may be a or b. */
    void (*mask_sum)(void *dst, const void *a, const void *b, const void *y, size_t n, bool bf16);

    /* y = f(x) of a row or a part of it, of whose lanes the first so many are channels; the others become zero. */
    void (*act)(void *y, const void *x, size_t n, int channels, bool bf16, enum spec_activation kind);

    /* dst = (a + b) f'(x); b may be NULL, dst may be a or b. */
    void (*act_back)(void *dst, const void *a, const void *b, const void *x, size_t n, bool bf16, enum spec_activation kind);

    void (*drop)(void *dst, const void *src, size_t pixels, bool bf16, const struct drop *drop);

    /* y is the pool of row x; backward, the gradient of x is added to dx, from that of y. */
    void (*max_pool)(void *y, const void *x, bool bf16, const struct pool *pool);
    void (*max_pool_back)(float *dx, const void *x, const void *g, bool bf16, const struct pool *pool);
    void (*avg_pool)(void *y, const void *x, bool bf16, const struct pool *pool);
    void (*avg_pool_back)(float *dx, const void *x, const void *g, bool bf16, const struct pool *pool);

    void (*pack)(void *dst, const float *src, enum pack_kind kind);

    /* Update n parameters; ret_squares gets the sums of the squares of the gradient as it was given, the weight before, and the
     * difference that was made. */
    void (*sgd)(const struct update *update, size_t n, double ret_squares[UPDATE_SQUARES]);
    void (*adam)(const struct update *update, size_t n, double ret_squares[UPDATE_SQUARES]);
    void (*rmsprop)(const struct update *update, size_t n, double ret_squares[UPDATE_SQUARES]);
    double (*squares)(const float *values, size_t n);                                  /* their sum */
    void (*average)(float *to, const float *values, size_t n, float keep, float take); /* to = keep * to + take * values */
};

extern const struct kernels kernels_base, kernels_avx2, kernels_avx512;

/* The fastest set that this CPU can run. */
const struct kernels *kernels_choose(void);

/* Whether the CPU multiplies bf16 natively. */
bool kernels_bf16(void);

#endif
