/* How kernels reach values: bf16 and f32, one by one or eight channels at a time, and which elements of a launch are a thread's.
 */
#ifndef BACKEND_CUDNN_KERNELS_ACCESS_H
#define BACKEND_CUDNN_KERNELS_ACCESS_H

#include "server/backend/cudnn/kernels/target.h"

/* --- the elements of a thread --- */

enum { LANES = 8 };

/* Mostly an element is a group of eight channels of a pixel. There are at most KERNEL_GROUPS_MAX of them, because a GPU divides
 * 32 bits much faster than 64. */
FUNCTION uint32_t groups_of(int64_t rows, int32_t cp) {
    return (uint32_t)(rows * (cp / LANES));
}

FUNCTION uint32_t first_element(const struct launch *launch, uint32_t thread) {
    return launch->block_x * KERNEL_THREADS + thread;
}

FUNCTION uint32_t stride(const struct launch *launch) {
    return launch->blocks_x * KERNEL_THREADS;
}

/* The first of the eight channels of group number i. */
FUNCTION int32_t channel_of(uint32_t i, int32_t cp) {
    return (int32_t)(i % (uint32_t)(cp / LANES)) * LANES;
}

FUNCTION uint32_t row_of(uint32_t i, int32_t cp) {
    return i / (uint32_t)(cp / LANES);
}

FUNCTION int64_t value_of(uint32_t i) {
    return (int64_t)i * LANES;
}

/* --- bf16 --- */

FUNCTION float widen(uint16_t value) {
    return float_of_bits((uint32_t)value << 16);
}

/* To nearest, ties to even; a NaN stays one. */
FUNCTION uint16_t rounded(float value) {
    uint32_t bits = bits_of_float(value);
    if (value != value)
        return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* --- one value --- */

FUNCTION float load(const void *x, int64_t at, int32_t bf16) {
    return bf16 ? widen(((const uint16_t *)x)[at]) : ((const float *)x)[at];
}

FUNCTION void store(void *y, int64_t at, int32_t bf16, float value) {
    if (bf16)
        ((uint16_t *)y)[at] = rounded(value);
    else
        ((float *)y)[at] = value;
}

FUNCTION void add_to(void *y, int64_t at, int32_t bf16, int32_t accumulate, float value) {
    store(y, at, bf16, accumulate ? load(y, at, bf16) + value : value);
}

/* --- eight neighbouring values, the first of which has an index that is a multiple of eight --- */

struct lanes {
    float v[LANES];
};

FUNCTION struct lanes load_lanes(const void *x, int64_t at, int32_t bf16) {
    struct lanes lanes;
    struct words words;
    if (bf16) {
        words = load_words((const uint16_t *)x + at);
        for (int k = 0; k < LANES / 2; k++) {
            lanes.v[2 * k] = float_of_bits(words.v[k] << 16);
            lanes.v[2 * k + 1] = float_of_bits(words.v[k] & 0xffff0000u);
        }
        return lanes;
    }
    for (int half = 0; half < 2; half++) {
        words = load_words((const float *)x + at + half * LANES / 2);
        for (int k = 0; k < LANES / 2; k++)
            lanes.v[half * LANES / 2 + k] = float_of_bits(words.v[k]);
    }
    return lanes;
}

FUNCTION void store_lanes(void *y, int64_t at, int32_t bf16, const struct lanes *lanes) {
    struct words words;
    if (bf16) {
        for (int k = 0; k < LANES / 2; k++)
            words.v[k] = rounded(lanes->v[2 * k]) | (uint32_t)rounded(lanes->v[2 * k + 1]) << 16;
        store_words((uint16_t *)y + at, &words);
        return;
    }
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < LANES / 2; k++)
            words.v[k] = bits_of_float(lanes->v[half * LANES / 2 + k]);
        store_words((float *)y + at + half * LANES / 2, &words);
    }
}

FUNCTION void add_lanes(void *y, int64_t at, int32_t bf16, int32_t accumulate, const struct lanes *lanes) {
    struct lanes sum = *lanes;
    if (accumulate) {
        sum = load_lanes(y, at, bf16);
        for (int k = 0; k < LANES; k++)
            sum.v[k] += lanes->v[k];
    }
    store_lanes(y, at, bf16, &sum);
}

/* Fewer than eight, or from any index: one by one; the other lanes are zero. */
FUNCTION struct lanes load_some(const void *x, int64_t at, int32_t count, int32_t bf16) {
    struct lanes lanes;
    if (count == LANES && at % LANES == 0)
        return load_lanes(x, at, bf16);
    for (int k = 0; k < LANES; k++)
        lanes.v[k] = k < count ? load(x, at + k, bf16) : 0;
    return lanes;
}

FUNCTION void add_some(void *y, int64_t at, int32_t count, int32_t bf16, int32_t accumulate, const struct lanes *lanes) {
    if (count == LANES && at % LANES == 0) {
        add_lanes(y, at, bf16, accumulate, lanes);
        return;
    }
    for (int k = 0; k < LANES; k++)
        if (k < count)
            add_to(y, at + k, bf16, accumulate, lanes->v[k]);
}

FUNCTION struct lanes no_lanes(void) {
    struct lanes lanes;
    for (int k = 0; k < LANES; k++)
        lanes.v[k] = 0;
    return lanes;
}

/* Zeroes the lanes that are padding: lane 0 is this channel of c. */
FUNCTION void clear_padding(struct lanes *lanes, int32_t channel, int32_t c) {
    for (int k = 0; k < LANES; k++)
        if (channel + k >= c)
            lanes->v[k] = 0;
}

/* max(x, 0) that lets a NaN pass, so that a diverged net shows it in its loss. */
FUNCTION float relu_of(float x) {
    return x < 0 ? 0 : x;
}

/* dy of eight channels where the ReLU behind let them pass. */
FUNCTION struct lanes passed(const void *dy, int32_t dy_bf16, const void *y, int32_t bf16, int64_t at) {
    struct lanes g = load_lanes(dy, at, dy_bf16);
    if (y) {
        struct lanes out = load_lanes(y, at, bf16);
        for (int k = 0; k < LANES; k++)
            g.v[k] = out.v[k] > 0 ? g.v[k] : 0;
    }
    return g;
}

#endif
