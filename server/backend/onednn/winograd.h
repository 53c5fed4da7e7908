/* 3x3 convolutions of stride 1 by Winograd's algorithm F(2x2, 3x3) (Lavin and Gray 2015), written for AVX-512: 16 products where
 * a direct convolution has 36. In bf16 transformed tiles and weights are rounded to bf16 once and sums are f32: outputs of 64
 * channels were off by 0.39 % of their root mean square, those of a direct convolution by 0.23 %; in f32 by 2.3e-7. */
#ifndef ONEDNN_WINOGRAD_H
#define ONEDNN_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/backend/onednn/kernels.h"

struct winograd {
    int in_blocks, out_blocks; /* of 16 channels */
    int h, w;                  /* of input and output: the padding is 1 */
    bool bf16;
};

/* A batch norm in front, applied to x as it is read: scale * (x - mean) + shift, then ReLU if asked for. Arrays per channel. */
struct winograd_norm {
    const float *mean, *scale, *shift;
    bool relu;
};

/* One run over n images; x and y are blocked. */
struct winograd_call {
    const void *x;
    const struct winograd_norm *norm; /* or NULL */
    void *y;
    const void *weights; /* from winograd_pack */
    const float *bias;   /* [out_blocks * 16], or NULL */
    bool sum, relu;      /* add to what y holds; then ReLU */
    int n, threads;
    void *scratch; /* threads * winograd_scratch bytes, aligned to 64 */
};

/* Bytes of packed weights, and of scratch that each thread needs. */
size_t winograd_weights(const struct winograd *shape);
size_t winograd_scratch(const struct winograd *shape);

/* Transforms weights [O/16][I/16][3][3][16 of I][16 of O]; for a data gradient (turned) O are the input's channels and the kernel
 * is rotated. */
void winograd_pack(const struct winograd *shape, const struct kernels *kernels, void *to, const float *weights, bool turned);

void winograd_run(const struct winograd *shape, const struct winograd_call *call);

/* --- winograd_wgrad.c --- */

/* Bytes of scratch that all threads together need, aligned to 64. */
size_t winograd_wgrad_scratch(const struct winograd *shape, int threads);

/* gradient [O/16][I/16][3][3][16 of I][16 of O] = sum over n images of x (*) g, both blocked. Sums have one order for a
 * number of threads. */
void winograd_wgrad(const struct winograd *shape, float *gradient, const void *x, const struct winograd_norm *norm, const void *g,
                    int n, int threads, void *scratch);

#endif
