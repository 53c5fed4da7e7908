/* The hot loops of Winograd's algorithm, compiled for f32 and for bf16 from winograd_body.h. */
#ifndef ONEDNN_WINOGRAD_KERNELS_H
#define ONEDNN_WINOGRAD_KERNELS_H

#include "server/backend/onednn/winograd.h"

enum {
    LANE = 16, /* channels of a block */
    BLOCK = LANE * LANE,
    POINTS = 16, /* of a transformed tile: 4x4 */
    GROUP = 28   /* products take so many tiles at a time, or half of them for two blocks of output channels */
};

/* Everything that is multiplied is counted in 32-bit words: a value in f32, two in bf16, which VDPBF16PS multiplies at once. */
struct winograd_kernels {
    size_t size;  /* bytes of an element */
    size_t words; /* of a block's channels of one tile */
    size_t side;  /* tiles that lie side by side in a word of a transformed tensor of the weight gradient */

    /* g of one input channel for 16 output channels, [3][3][16 of I][16 of O], into G g G', [4][4][16 of I][16 of O]; turned: of
     * the kernel rotated by half a turn. */
    void (*weights)(float *to, const float *from, bool turned);

    /* G' sums G: the gradient of those weights from the sums of owns threads, which are added in their order. Points are
     * point_step floats apart, threads own_step. */
    void (*gradient)(float *to, const float *from, size_t point_step, size_t own_step, int owns);

    /* B' d B of a row of tiles of one block of an image, behind norm (of this block, or NULL); top is its first row of pixels, -1
     * for the padding. Point p of tile t goes to element p * step + t * 16. */
    void (*input)(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                  const struct winograd_norm *norm);

    /* m[k][tile][16] = sum over the input channels of v * u for a GROUP of tiles and one output block, or half a GROUP and two.
     * v is [in blocks][tiles][words], u [in blocks][2][words][16]. */
    void (*products)(float *m, const float *v, const float *u, size_t in_blocks, size_t tiles, bool two);

    /* A' m A of a row of tiles into one block of an image, behind bias (16 values or NULL), sum and ReLU. */
    void (*output)(const struct winograd *shape, const struct winograd_call *call, void *image, int top, const float *m,
                   size_t step, const float *bias);

    /* As input, but side tiles of a channel side by side, for x (B' d B) and for its gradient's partner g (A g A'). */
    void (*sides_x)(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                    const struct winograd_norm *norm);
    void (*sides_g)(const struct winograd *shape, void *to, size_t step, const void *image, int top);

    /* sums[16 of I][16 of O] (+)= sum over count words of v * h; for two output blocks the second's sums and h are a step on. */
    void (*sums)(float *sums, size_t sums_step, const float *v, const float *h, size_t h_step, size_t count, bool two,
                 bool fresh);
};

extern const struct winograd_kernels winograd_f32, winograd_bf16;

static inline const struct winograd_kernels *winograd_kernels_of(const struct winograd *shape) {
    return shape->bf16 ? &winograd_bf16 : &winograd_f32;
}

/* Where a block of an image lies, in bytes. */
static inline size_t winograd_image_at(const struct winograd *shape, size_t image, int blocks, size_t block) {
    return (image * (size_t)blocks + block) * (size_t)shape->h * (size_t)shape->w * LANE * winograd_kernels_of(shape)->size;
}

/* The norm of a block of channels in *ret, or NULL where there is none. */
static inline const struct winograd_norm *winograd_norm_at(const struct winograd_norm *norm, size_t block,
                                                           struct winograd_norm *ret) {
    if (!norm)
        return NULL;
    *ret = *norm;
    ret->mean += block * LANE;
    ret->scale += block * LANE;
    ret->shift += block * LANE;
    return ret;
}

/* Rows of tiles of an image. */
static inline size_t winograd_rows(const struct winograd *shape) {
    return ((size_t)shape->h + 1) / 2;
}

#endif
