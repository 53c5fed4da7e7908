/* The GPU's own kernels: their names, parameters and meaning. One source is compiled by nvcc for the device and by gcc for tests;
 * this header is read by both sides. A kernel takes one struct by value. Sums go over fixed parts in a fixed order and no float
 * is added atomically, so the same input gives the same bits. Arithmetic is f32 without contraction (nvcc --fmad=false, gcc
 * -ffp-contract=off); values are f32 or bf16 (rounded to nearest, ties to even).
 *
 * Tensors are [batch, h, w, channels], channels fastest, padded to a multiple of 8: c counts the true channels, cp the padded
 * ones. A kernel that writes values or gradients writes zeros into padded channels. Rows of images from step->n on hold zeros in
 * images and gradients; kernels of which that does not follow by itself say that they look at n.
 *
 * "accumulate": the result is added to what is there; else it overwrites it. Blocks have KERNEL_THREADS threads. Unless a kernel
 * says otherwise it walks its elements in strides of the grid, so any number of blocks will do. */
#ifndef BACKEND_CUDNN_KERNELS_H
#define BACKEND_CUDNN_KERNELS_H

#include <stdint.h>

#include "common/augment.h"

/* An address on the device: a pointer for kernels, an integer that cannot be dereferenced for the host. */
#ifdef RESIDUUM_KERNELS
#define DEVICE(type) type *
#else
#define DEVICE(type) uint64_t
#endif

enum { KERNEL_THREADS = 256 };

/* Groups of eight channels in a tensor, at most: 17e9 values. */
#define KERNEL_GROUPS_MAX ((int64_t)1 << 31)

/* enum spec_activation, enum spec_optimizer and RNG_DROPOUT, whose headers a compiler for the device cannot read: load.c asserts
 * that they agree. */
enum { KERNEL_RELU, KERNEL_LEAKY_RELU, KERNEL_ELU, KERNEL_GELU, KERNEL_SILU, KERNEL_SIGMOID, KERNEL_TANH, KERNEL_IDENTITY };
enum { KERNEL_SGD, KERNEL_ADAM, KERNEL_ADAMW, KERNEL_RMSPROP };
enum { KERNEL_RANDOM_DROPOUT = 5 };

/* --- what goes to the device with each step, and what comes back --- */

/* Region STAGING: this struct in its first KERNEL_STEP_BYTES, then [batch] each of struct kernel_sample. */
enum { KERNEL_STEP_BYTES = 256 };
struct kernel_step {
    int32_t n;      /* images of this step, 1..batch */
    uint32_t epoch; /* of the key of dropout's random numbers, as in struct backend_batch */
    uint64_t seed;
    DEVICE(const uint8_t) pixels;                 /* [images, C, H, W]: the data set that the samples are rows of */
    DEVICE(const float) normal;                   /* [C][256] of it, and */
    DEVICE(const double) moments;                 /* its mean [C] and deviation [C] */
    int32_t rotates, brightens, contrasts, mixes; /* what augment does; the numbers are in the samples */
    float smoothing;
    /* struct backend_optimizer */
    int32_t optimizer; /* enum spec_optimizer */
    int32_t nesterov, decay_weights_only;
    float lr, momentum, weight_decay, beta1, beta2, alpha, epsilon, clip_norm, average_decay;
    float correction1, correction2; /* 1 - beta1^step, 1 - beta2^step, computed in double */
};

struct kernel_sample {
    uint32_t sample; /* row of the data set; of the key of dropout */
    int32_t label, other;
    float share; /* 1 without mixup */
    struct augment_moves moves;
    uint64_t unused; /* pads to 64 bytes */
};

/* Region RESULTS: this struct in its first KERNEL_RESULT_BYTES, then struct kernel_statistics [params], then the softmax,
 * [batch][classes] f32, and per image its loss and whether it is right, [batch] each. */
enum { KERNEL_RESULT_BYTES = 64 };
struct kernel_result {
    double loss_sum; /* over the first n images, added in their order */
    double gradient_norm;
    int32_t correct;
    float clip; /* factor of the gradients in this update */
};

struct kernel_statistics { /* Euclidean norms, as struct backend_statistics */
    double gradient, weight, update;
};

/* --- images --- */

/* Images from the host, already normalized: f32 [n,C,H,W] -> values. Looks at n. */
struct kernel_images {
    DEVICE(const float) images;
    DEVICE(void) y;
    DEVICE(const struct kernel_step) step;
    int32_t batch, c, cp, h, w, bf16;
};

/* Mean grey of each sample's image after rotation and brightness, as batch.c of the trainer computes it: pixels in order, in
 * double; grey[i] of sample i. Does nothing unless step->contrasts. One block an image, in strides. Looks at n. */
struct kernel_grey {
    DEVICE(const struct kernel_step) step;
    DEVICE(const struct kernel_sample) samples;
    DEVICE(double) grey;
    int32_t batch, c, h, w;
};

/* Rows of the data set, augmented, normalized and mixed, -> values: bit for bit what the trainer's batch_fill and mixup make.
 * Looks at n. */
struct kernel_augment {
    DEVICE(const struct kernel_step) step;
    DEVICE(const struct kernel_sample) samples;
    DEVICE(const double) grey;
    DEVICE(void) y;
    int32_t batch, c, cp, h, w, bf16;
};

/* --- sums over channels, in two stages --- */

/* Stage 1 of batch norm's statistics over the rows (image, pixel) of the first n images: slice s of `slices` takes every
 * row / slices rows, the first ones one more. partial[s][0][cp] gets the mean of the slice, partial[s][1][cp] the sum of squared
 * deviations from it (double). Blocks: slices (in strides) x ceil(cp / 64) (y). Looks at n. */
struct kernel_norm_partial {
    DEVICE(const void) x;
    DEVICE(double) partial;
    DEVICE(const struct kernel_step) step;
    int32_t pixels, cp, slices, bf16;
};

/* Stage 2: combines the slices in a fixed order (Chan, Golub, LeVeque 1979) in double; mean and inverse = 1 / sqrt(var + epsilon)
 * with the biased variance into saved [2][cp]; running statistics [cp] of the c channels move by momentum, the variance
 * unbiased (0 where there is a single value). Looks at n. One block eight channels, in strides. */
struct kernel_norm_finish {
    DEVICE(const double) partial;
    DEVICE(const struct kernel_step) step;
    DEVICE(float) saved;
    DEVICE(float) running_mean;
    DEVICE(float) running_var;
    int32_t pixels, c, cp, slices;
    float epsilon, momentum;
};

/* y = gamma (x - mean) inverse + beta (+ add) (then ReLU). saved: [2][cp] mean and inverse of this step; or, where saved is 0,
 * running_mean and running_var with epsilon. All of these are [cp]; gamma and beta have zeros in padding. */
struct kernel_norm_apply {
    DEVICE(const void) x;
    DEVICE(const void) add; /* 0: none */
    DEVICE(void) y;
    DEVICE(const float) saved;
    DEVICE(const float) running_mean;
    DEVICE(const float) running_var;
    DEVICE(const float) gamma;
    DEVICE(const float) beta;
    int64_t rows; /* batch * pixels */
    int32_t c, cp, relu, bf16;
    float epsilon;
};

/* Stage 1 of sums over rows for gradients, sliced as above: with g = dy where y > 0 (all of dy where y is 0, a null address):
 * partial[s][0] = sum g, partial[s][1] = sum g (x - mean) inverse (0 where x is a null address). Group norm: `groups` > 0 takes
 * saved as [2][batch][groups]; else [2][cp]. All rows of the batch: those from n on hold zeros. dy may be f32 in bf16 plans:
 * dy_wide. */
struct kernel_back_partial {
    DEVICE(const void) dy;
    DEVICE(const void) y;
    DEVICE(const void) x;
    DEVICE(const float) saved;
    DEVICE(double) partial;
    int64_t rows;
    int32_t pixels, batch, c, cp, slices, groups, bf16, dy_wide;
};

/* Stage 2, of any of these sums: a[channel] = sum of partial[s][0], b[channel] = sum of partial[s][1], in a fixed order of
 * slices; as f32; zeros in padding; a or b may be null. One block eight channels, in strides. */
struct kernel_back_finish {
    DEVICE(const double) partial;
    DEVICE(float) a; /* [cp]: the gradient of beta or of a bias */
    DEVICE(float) b; /* [cp]: the gradient of gamma */
    int32_t c, cp, slices;
};

/* dx = gamma inverse (g - sum_g / m - xhat sum_gx / m), m = n pixels (Ioffe and Szegedy 2015), zero in rows from n on; dadd = g.
 * dx and dadd may be null. sums: a and b of kernel_back_finish. Looks at n. */
struct kernel_norm_back {
    DEVICE(const void) dy;
    DEVICE(const void) y; /* null: no ReLU */
    DEVICE(const void) x;
    DEVICE(const float) saved;
    DEVICE(const float) gamma;
    DEVICE(const float) sum_g;
    DEVICE(const float) sum_gx;
    DEVICE(const struct kernel_step) step;
    DEVICE(void) dx;
    DEVICE(void) dadd;
    int64_t rows;
    int32_t pixels, c, cp, bf16;
    int32_t accumulate_dx, accumulate_dadd;
};

/* --- group norm --- */

/* Mean and inverse of each image's groups of channels -> saved [2][batch][groups]. Blocks: batch * groups. */
struct kernel_group_statistics {
    DEVICE(const void) x;
    DEVICE(float) saved;
    int32_t pixels, batch, c, cp, groups, bf16;
    float epsilon;
};

/* y = gamma (x - mean) inverse + beta. */
struct kernel_group_apply {
    DEVICE(const void) x;
    DEVICE(void) y;
    DEVICE(const float) saved;
    DEVICE(const float) gamma;
    DEVICE(const float) beta;
    int32_t pixels, batch, c, cp, groups, bf16;
};

/* Of each image and group: sums [batch][groups][2] = sum gamma dy, sum gamma dy xhat. Blocks: batch * groups. */
struct kernel_group_sums {
    DEVICE(const void) dy;
    DEVICE(const void) x;
    DEVICE(const float) saved;
    DEVICE(const float) gamma;
    DEVICE(float) sums;
    int32_t pixels, batch, c, cp, groups, bf16;
};

/* dx of group norm. */
struct kernel_group_back {
    DEVICE(const void) dy;
    DEVICE(const void) x;
    DEVICE(const float) saved;
    DEVICE(const float) gamma;
    DEVICE(const float) sums;
    DEVICE(void) dx;
    int32_t pixels, batch, c, cp, groups, bf16, accumulate;
};

/* --- element by element --- */

/* y = f(x); f: enum spec_activation, formulas and constants as the ref backend. */
struct kernel_act {
    DEVICE(const void) x;
    DEVICE(void) y;
    int64_t rows;
    int32_t c, cp, activation, bf16;
};

/* dx = dy f'(x). */
struct kernel_act_back {
    DEVICE(const void) dy;
    DEVICE(const void) x;
    DEVICE(void) dx;
    int64_t rows;
    int32_t c, cp, activation, bf16, accumulate;
};

/* y = a + b (then ReLU); b may be null: y = a. count is a multiple of 8. */
struct kernel_add {
    DEVICE(const void) a;
    DEVICE(const void) b;
    DEVICE(void) y;
    int64_t count;
    int32_t relu, bf16;
};

/* dx = dy where y > 0 (everywhere when y is null). count is a multiple of 8. */
struct kernel_mask {
    DEVICE(const void) dy;
    DEVICE(const void) y;
    DEVICE(void) dx;
    int64_t count;
    int32_t bf16, accumulate;
};

/* Copies count channels of every row, from channel from_at of rows of from_cp to channel to_at of rows of to_cp. to_c: the true
 * channels of the target; without accumulate, a copy that ends there also zeroes its padding. */
struct kernel_channels {
    DEVICE(const void) from;
    DEVICE(void) to;
    int64_t rows;
    int32_t from_cp, from_at, to_cp, to_at, to_c, count, bf16, accumulate;
};

/* y += bias, [cp]. y_wide: y is f32. */
struct kernel_bias {
    DEVICE(void) y;
    DEVICE(const float) bias;
    int64_t rows;
    int32_t c, cp, bf16, y_wide;
};

/* Inverted dropout of values, or of gradients (the same numbers drop the same elements); the key is that of struct backend_batch:
 * a = step->epoch + node 2^16, element in C,H,W order of one image. */
struct kernel_dropout {
    DEVICE(const void) x;
    DEVICE(void) y;
    DEVICE(const struct kernel_step) step;
    DEVICE(const struct kernel_sample) samples;
    int32_t batch, c, cp, h, w, node, bf16, accumulate;
    float rate;
};

/* --- windows --- */

/* A convolution or pooling from [batch, h, w, cp] to [batch, oh, ow, ocp]. */
struct kernel_window {
    int32_t batch, h, w, c, cp, oh, ow, oc, ocp;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int32_t groups; /* of a convolution; its weights are [ocp][kernel_h][kernel_w][wi], wi = cp, or with groups > 1 c / groups */
};

/* Largest of the window, first one on a tie, in rows order; saved: row * kernel_w + column of it, null: not wanted. */
struct kernel_pool_max {
    DEVICE(const void) x;
    DEVICE(void) y;
    DEVICE(uint16_t) saved;
    struct kernel_window window;
    int32_t bf16;
};

/* Each dx gathers the dy of the windows whose maximum it is. */
struct kernel_pool_max_back {
    DEVICE(const void) dy;
    DEVICE(const uint16_t) saved;
    DEVICE(void) dx;
    struct kernel_window window;
    int32_t bf16, accumulate;
};

/* Mean over the pixels of the window that lie in the image; its gradient when back: then x is dy, y is dx. */
struct kernel_pool_avg {
    DEVICE(const void) x;
    DEVICE(void) y;
    struct kernel_window window;
    int32_t bf16, back, accumulate;
};

/* Option A of He et al. 2015: every stride-th pixel, zero channels appended; its gradient when back: then x is dy, y is dx. */
struct kernel_shortcut {
    DEVICE(const void) x;
    DEVICE(void) y;
    struct kernel_window window;
    int32_t bf16, back, accumulate;
};

/* [batch,h,w,cp] -> [batch, roundup(c h w, 8)] in C,H,W order; its gradient when back: then x is dy, y is dx. */
struct kernel_flatten {
    DEVICE(const void) x;
    DEVICE(void) y;
    int32_t batch, h, w, c, cp, flat_cp, bf16, back, accumulate;
};

/* --- convolutions and linear layers that cuDNN does not compute (a linear layer is a 1x1 window on [batch,1,1,cp]) --- */

/* y = x * w. Weights are f32 masters, or bf16 copies when w_narrow. y_wide: y is f32 in a bf16 plan. Adds in f32. One block
 * KERNEL_CONV_OUTPUTS values of y, padding included, in strides. */
enum { KERNEL_CONV_OUTPUTS = 64 };
struct kernel_conv {
    DEVICE(const void) x;
    DEVICE(const void) w;
    DEVICE(void) y;
    struct kernel_window window;
    int32_t bf16, w_narrow, y_wide;
};

/* dx from dy. */
struct kernel_conv_back_x {
    DEVICE(const void) dy;
    DEVICE(const void) w;
    DEVICE(void) dx;
    struct kernel_window window;
    int32_t bf16, w_narrow, dy_wide, accumulate;
};

/* dw from x and dy; f32, or bf16 when dw_narrow. Padding gets zeros. One block up to eight neighbouring weights, in strides: ocp
 * * kernel_h * kernel_w * ceil(wi / 8) blocks at most have work; its threads' parts are added in a fixed order. */
struct kernel_conv_back_w {
    DEVICE(const void) x;
    DEVICE(const void) dy;
    DEVICE(void) dw;
    struct kernel_window window;
    int32_t bf16, dw_narrow, dy_wide;
};

/* --- loss --- */

/* Of each image: softmax of the logits [batch][cp], loss and correctness as struct backend_batch and backend_result say;
 * dlogits = (softmax - smoothed target) / n where it is not null, zeros in rows from n on. Targets are plain (share 1, no
 * smoothing) when dlogits is null. Logits and dlogits are f32, also in bf16 plans, unless bf16: then the layer before the loss is
 * none that can write f32 (struct gpu_value.wide is false). One block eight images, in strides. Looks at n. */
struct kernel_loss {
    DEVICE(const void) logits;
    DEVICE(const struct kernel_step) step;
    DEVICE(const struct kernel_sample) samples;
    DEVICE(float) softmax; /* [batch][classes] */
    DEVICE(float) losses;  /* [batch] */
    DEVICE(int32_t) rights;
    DEVICE(void) dlogits; /* [batch][cp] */
    int32_t batch, classes, cp, bf16;
};

/* The sums of losses and rights over the first n images, in their order, into result. One block. Looks at n. */
struct kernel_loss_sum {
    DEVICE(const float) losses;
    DEVICE(const int32_t) rights;
    DEVICE(const struct kernel_step) step;
    DEVICE(struct kernel_result) result;
};

/* --- parameters --- */

/* A part of one parameter or running statistic that one block works on. */
struct kernel_chunk {
    int64_t first; /* element of the flat f32 regions */
    int32_t count, param;
    int64_t gradient; /* byte offset of its first gradient in region GRADIENT; -1: running statistic */
    int64_t working;  /* byte offset of its first bf16 copy in region WORKING; -1: none */
    int32_t narrow;   /* the gradient is bf16 */
    int32_t decays;   /* weight decay holds for it also with decay_weights_only */
};

/* A parameter's chunks are [first_chunk, first_chunk + chunks). */
struct kernel_param {
    int32_t first_chunk, chunks;
};

/* partial[chunk][0] = sum of squared gradients. Blocks: chunks. */
struct kernel_gradient_norms {
    DEVICE(const struct kernel_chunk) chunks;
    DEVICE(const void) gradient; /* the region */
    DEVICE(double) partial;      /* [chunks][3] */
    int32_t chunks_n;
};

/* Adds the chunks' partial[0] in their order: statistics[param].gradient, result->gradient_norm over all parameters, and
 * result->clip = min(1, clip_norm / (gradient_norm + 1e-6)), 1 without clip_norm. One block. */
struct kernel_gradient_clip {
    DEVICE(const struct kernel_param) params;
    DEVICE(const double) partial;
    DEVICE(const struct kernel_step) step;
    DEVICE(struct kernel_statistics) statistics;
    DEVICE(struct kernel_result) result;
    int32_t params_n;
};

/* One update as struct backend_optimizer says, the average and bf16 copies with it. partial[chunk][1] = sum of squared weights
 * before, partial[chunk][2] = sum of squared updates. momentum, square, average, working may be null. Blocks: chunks. */
struct kernel_update {
    DEVICE(const struct kernel_chunk) chunks;
    DEVICE(const struct kernel_step) step;
    DEVICE(const struct kernel_result) result; /* clip */
    DEVICE(const void) gradient;
    DEVICE(float) master;
    DEVICE(float) momentum;
    DEVICE(float) square;
    DEVICE(float) average;
    DEVICE(void) working;
    DEVICE(double) partial;
    int32_t chunks_n;
};

/* statistics[param].weight and .update from the chunks' partial[1] and [2], added in their order. */
struct kernel_update_norms {
    DEVICE(const struct kernel_param) params;
    DEVICE(const double) partial;
    DEVICE(struct kernel_statistics) statistics;
    int32_t params_n;
};

/* The bf16 copies of all narrow weights from their masters: after they were set. Blocks: chunks. */
struct kernel_narrow {
    DEVICE(const struct kernel_chunk) chunks;
    DEVICE(const float) master;
    DEVICE(void) working;
    int32_t chunks_n;
};

/* The table of kernels: name (the symbol is residuum_NAME, the parameters are struct kernel_NAME), and with how many addresses
 * the parameters begin; they have no others. */
#define KERNELS(X)         \
    X(images, 3)           \
    X(grey, 3)             \
    X(augment, 4)          \
    X(norm_partial, 3)     \
    X(norm_finish, 5)      \
    X(norm_apply, 8)       \
    X(back_partial, 5)     \
    X(back_finish, 3)      \
    X(norm_back, 10)       \
    X(group_statistics, 2) \
    X(group_apply, 5)      \
    X(group_sums, 5)       \
    X(group_back, 6)       \
    X(act, 2)              \
    X(act_back, 3)         \
    X(add, 3)              \
    X(mask, 3)             \
    X(channels, 2)         \
    X(bias, 2)             \
    X(dropout, 4)          \
    X(pool_max, 3)         \
    X(pool_max_back, 3)    \
    X(pool_avg, 2)         \
    X(shortcut, 2)         \
    X(flatten, 2)          \
    X(conv, 3)             \
    X(conv_back_x, 3)      \
    X(conv_back_w, 3)      \
    X(loss, 7)             \
    X(loss_sum, 4)         \
    X(gradient_norms, 3)   \
    X(gradient_clip, 5)    \
    X(update, 10)          \
    X(update_norms, 3)     \
    X(narrow, 3)

enum kernel {
#define KERNEL_ENUM(name, addresses) KERNEL_##name,
    KERNELS(KERNEL_ENUM)
#undef KERNEL_ENUM
        KERNELS_N
};

#endif
