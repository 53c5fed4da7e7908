/* The hot loops themselves. The including file sets the instruction set, LANES, KERNELS (the table's name), LOAD_BF16,
 * STORE_BF16, ROOT (square roots), MULTIPLY_ADD (a * b + c) and MULTIPLY_LOW (of the low halves of 64-bit lanes). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/rng.h"
#include "server/backend/onednn/kernels.h"

typedef float vf __attribute__((vector_size(LANES * 4), may_alias));
typedef double vd __attribute__((vector_size(LANES * 8), may_alias));
typedef int32_t vi __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), may_alias));
typedef uint16_t vh __attribute__((vector_size(LANES * 2), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE void widen_bf16(vf *to, const vh *from) {
    *to = (vf)(__builtin_convertvector(*from, vu) << 16);
}

/* To bf16 by rounding to nearest even; a NaN stays a NaN. */
INLINE void round_bf16(vh *to, const vf *value) {
    vu bits = (vu)*value;
    vu is_nan = (vu)(*value != *value);
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *to = __builtin_convertvector((rounded & ~is_nan) | (0x7fc0 & is_nan), vh);
}

INLINE void each_root(vf *to, const vf *value) {
    for (size_t k = 0; k < LANES; k++)
        (*to)[k] = sqrtf((*value)[k]);
}

INLINE void multiply_add(vf *ret, const vf *a, const vf *b, const vf *c) {
    *ret = *a * *b + *c;
}

/* Coefficients come from arrays aligned like tensors; vectors travel by pointer because their calling convention depends on the
 * instruction set. */
INLINE void get(vf *ret, const void *from, size_t i, bool bf16) {
    if (bf16)
        LOAD_BF16(ret, ((const vh *)from) + i);
    else
        *ret = ((const vf *)from)[i];
}

INLINE void put(void *to, size_t i, bool bf16, const vf *value) {
    if (bf16)
        STORE_BF16(((vh *)to) + i, value);
    else
        ((vf *)to)[i] = *value;
}

/* max(x, 0) that lets a NaN pass, so that a diverged net shows it in its loss. */
INLINE void relu_of(vf *x) {
    *x = (vf)((vi)*x & ~(*x < 0));
}

INLINE void mask_by(vf *g, const vf *y) {
    *g = (vf)((vi)*g & ~(*y <= 0));
}

INLINE void add_to_double(double *sum, const vf *value) {
    vd *target = (vd *)sum;
    *target += __builtin_convertvector(*value, vd);
}

static void load(float *dst, const void *src, size_t n, bool bf16) {
    vf *to = (vf *)dst;
    if (!bf16) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < n / LANES; i++)
        get(&to[i], src, i, true);
}

static void store(void *dst, const float *src, size_t n, bool bf16) {
    const vf *from = (const vf *)src;
    if (!bf16) {
        memcpy(dst, src, n * sizeof *src);
        return;
    }
    for (size_t i = 0; i < n / LANES; i++)
        put(dst, i, true, &from[i]);
}

/* Sums of at most so many pixels stay in f32 before they go to double. */
enum { F32_RUN = 256 };

INLINE void sums_body(const void *x, size_t pixels, bool bf16, const float *center, double *sum, double *square) {
    const vf middle = *(const vf *)center;
    for (size_t start = 0; start < pixels; start += F32_RUN) {
        size_t end = pixels - start < F32_RUN ? pixels : start + F32_RUN, i = start;
        vf s[4] = {0}, q[4] = {0}, v;
        for (; i + 4 <= end; i += 4)
            for (size_t k = 0; k < 4; k++) {
                get(&v, x, i + k, bf16);
                v -= middle;
                s[k] += v;
                q[k] += v * v;
            }
        for (; i < end; i++) {
            get(&v, x, i, bf16);
            v -= middle;
            s[0] += v;
            q[0] += v * v;
        }
        s[0] = (s[0] + s[1]) + (s[2] + s[3]);
        q[0] = (q[0] + q[1]) + (q[2] + q[3]);
        add_to_double(sum, &s[0]);
        add_to_double(square, &q[0]);
    }
}

static void norm_sums(const void *x, size_t pixels, bool bf16, const float *center, double *sum, double *square) {
    if (bf16)
        sums_body(x, pixels, true, center, sum, square);
    else
        sums_body(x, pixels, false, center, sum, square);
}

INLINE void apply_body(void *y, const void *x, const void *residual, size_t pixels, bool bf16, const float *mean,
                       const float *scale, const float *shift, bool relu) {
    const vf middle = *(const vf *)mean, factor = *(const vf *)scale, offset = *(const vf *)shift;
    for (size_t i = 0; i < pixels; i++) {
        vf v, r;
        get(&v, x, i, bf16);
        v = (v - middle) * factor + offset;
        if (residual) {
            get(&r, residual, i, bf16);
            v += r;
        }
        if (relu)
            relu_of(&v);
        put(y, i, bf16, &v);
    }
}

static void norm_apply(void *y, const void *x, const void *residual, size_t pixels, bool bf16, const float *mean,
                       const float *scale, const float *shift, bool relu) {
    if (bf16)
        apply_body(y, x, residual, pixels, true, mean, scale, shift, relu);
    else
        apply_body(y, x, residual, pixels, false, mean, scale, shift, relu);
}

/* The gradient of y at one pixel, masked. x is the value before the norm. */
INLINE void gradient_at(vf *g, const vf *x, const struct norm_row *row, size_t i, bool bf16) {
    vf other = {0};
    get(g, row->g1, i, bf16);
    if (row->g2) {
        get(&other, row->g2, i, bf16);
        *g += other;
    }
    if (row->mask == MASK_Y)
        get(&other, row->y, i, bf16);
    if (row->mask == MASK_X)
        other = (*x - *(const vf *)row->mean) * *(const vf *)row->scale + *(const vf *)row->shift;
    if (row->mask != MASK_NONE)
        mask_by(g, &other);
}

INLINE void back_sum_at(const struct norm_row *row, const vf *mean, size_t i, bool bf16, vf *sum_g, vf *sum_gx) {
    vf x, g;
    get(&x, row->x, i, bf16);
    gradient_at(&g, &x, row, i, bf16);
    *sum_g += g;
    *sum_gx += g * (x - *mean);
    if (row->masked)
        put(row->masked, i, bf16, &g);
}

INLINE void back_sums_body(const struct norm_row *row, bool bf16) {
    const vf mean = *(const vf *)row->mean;
    for (size_t start = 0; start < row->pixels; start += F32_RUN) {
        size_t end = row->pixels - start < F32_RUN ? row->pixels : start + F32_RUN, i = start;
        vf s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
        for (; i + 2 <= end; i += 2) {
            back_sum_at(row, &mean, i, bf16, &s0, &q0);
            back_sum_at(row, &mean, i + 1, bf16, &s1, &q1);
        }
        if (i < end)
            back_sum_at(row, &mean, i, bf16, &s0, &q0);
        s0 += s1;
        q0 += q1;
        add_to_double(row->sum_g, &s0);
        add_to_double(row->sum_gx, &q0);
    }
}

INLINE void back_apply_body(const struct norm_row *row, bool bf16) {
    const vf mean = *(const vf *)row->mean, a = *(const vf *)row->a, b = *(const vf *)row->b, c = *(const vf *)row->c;
    const vf *gain = (const vf *)row->gain;
    for (size_t i = 0; i < row->pixels; i++) {
        vf x, g;
        get(&x, row->x, i, bf16);
        if (row->masked)
            get(&g, row->masked, i, bf16);
        else
            gradient_at(&g, &x, row, i, bf16);
        if (gain)
            g *= *gain;
        g = a * (g - b - c * (x - mean));
        put(row->out, i, bf16, &g);
    }
}

/* Runs BODY on a private copy of the row, so that stores cannot change it, with loops of their own for the two cases that a
 * residual network is made of: norm + ReLU with one gradient, and norm + add + ReLU with two. */
#define FOR_ROW_KINDS(BODY)                                     \
    struct norm_row copy = *row;                                \
    if (copy.mask == MASK_X && !copy.g2 && !copy.masked) {      \
        copy.mask = MASK_X;                                     \
        copy.g2 = copy.masked = NULL;                           \
        if (copy.bf16)                                          \
            BODY(&copy, true);                                  \
        else                                                    \
            BODY(&copy, false);                                 \
    } else if (copy.mask == MASK_Y && copy.g2 && copy.masked) { \
        copy.mask = MASK_Y;                                     \
        if (copy.bf16)                                          \
            BODY(&copy, true);                                  \
        else                                                    \
            BODY(&copy, false);                                 \
    } else if (copy.bf16) {                                     \
        BODY(&copy, true);                                      \
    } else {                                                    \
        BODY(&copy, false);                                     \
    }

static void norm_back_sums(const struct norm_row *row) {
    FOR_ROW_KINDS(back_sums_body)
}

static void norm_back_apply(const struct norm_row *row){FOR_ROW_KINDS(back_apply_body)}

INLINE void add_body(void *dst, const void *a, const void *b, size_t n, bool bf16, bool relu) {
    for (size_t i = 0; i < n / LANES; i++) {
        vf v, w;
        get(&v, a, i, bf16);
        if (b) {
            get(&w, b, i, bf16);
            v += w;
        }
        if (relu)
            relu_of(&v);
        put(dst, i, bf16, &v);
    }
}

static void add(void *dst, const void *a, const void *b, size_t n, bool bf16, bool relu) {
    if (bf16)
        add_body(dst, a, b, n, true, relu);
    else
        add_body(dst, a, b, n, false, relu);
}

INLINE void mask_sum_body(void *dst, const void *a, const void *b, const void *y, size_t n, bool bf16) {
    for (size_t i = 0; i < n / LANES; i++) {
        vf v, w;
        get(&v, a, i, bf16);
        if (b) {
            get(&w, b, i, bf16);
            v += w;
        }
        if (y) {
            get(&w, y, i, bf16);
            mask_by(&v, &w);
        }
        put(dst, i, bf16, &v);
    }
}

static void mask_sum(void *dst, const void *a, const void *b, const void *y, size_t n, bool bf16) {
    if (bf16)
        mask_sum_body(dst, a, b, y, n, true);
    else
        mask_sum_body(dst, a, b, y, n, false);
}

static void pack_pairs(vu *dst, const vf *rows) {
    for (size_t r = 0; r < LANES / 2; r++) {
        vh even, odd;
        put(&even, 0, true, &rows[2 * r]);
        put(&odd, 0, true, &rows[2 * r + 1]);
        dst[r] = __builtin_convertvector(even, vu) | __builtin_convertvector(odd, vu) << 16;
    }
}

static void pack(void *dst, const float *src, enum pack_kind kind) {
    _Alignas(64) float turned[LANES * LANES];
    if (kind != PACK_PAIRS)
        for (size_t i = 0; i < LANES; i++)
            for (size_t o = 0; o < LANES; o++)
                turned[o * LANES + i] = src[i * LANES + o];
    if (kind == PACK_TURNED || kind == PACK_NONE)
        memcpy(dst, kind == PACK_NONE ? src : turned, sizeof turned);
    else
        pack_pairs(dst, (const vf *)(kind == PACK_PAIRS ? src : turned));
}

#include "server/backend/onednn/kernels_act.h"
#include "server/backend/onednn/kernels_drop.h"
#include "server/backend/onednn/kernels_pool.h"
#include "server/backend/onednn/kernels_update.h"

#define KERNELS_NAME_OF(symbol) #symbol
#define KERNELS_NAME(symbol) KERNELS_NAME_OF(symbol)

const struct kernels KERNELS = {.name = KERNELS_NAME(KERNELS) + sizeof "kernels_" - 1,
                                .lanes = LANES,
                                .load = load,
                                .store = store,
                                .norm_sums = norm_sums,
                                .norm_apply = norm_apply,
                                .norm_back_sums = norm_back_sums,
                                .norm_back_apply = norm_back_apply,
                                .add = add,
                                .mask_sum = mask_sum,
                                .act = act,
                                .act_back = act_back,
                                .drop = drop,
                                .max_pool = max_pool,
                                .max_pool_back = max_pool_back,
                                .avg_pool = avg_pool,
                                .avg_pool_back = avg_pool_back,
                                .pack = pack,
                                .sgd = sgd,
                                .adam = adam,
                                .rmsprop = rmsprop,
                                .squares = squares,
                                .average = average};
