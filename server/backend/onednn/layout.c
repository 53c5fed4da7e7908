/* Between the dense N,C,H,W of the door and the blocked layout inside. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

enum { TILE = 64 }; /* pixels turned at a time: lanes rows of a tile stay in the first-level cache */

static float widen_one(const void *src, size_t i, bool bf16) {
    if (!bf16)
        return ((const float *)src)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)src)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* One block of one image: rows of pixels into pixels of lanes. channels of the block exist, the others become zero. */
static void block_row(const struct backend_plan *plan, void *dst, const void *src, bool plain_bf16, const struct value *value,
                      size_t channels) {
    _Alignas(ALIGNMENT) float tile[TILE * 16];
    size_t lanes = (size_t)plan->lanes;
    for (size_t start = 0; start < value->pixels; start += TILE) {
        size_t n = value->pixels - start < TILE ? value->pixels - start : TILE;
        memset(tile, 0, sizeof tile);
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < n; p++)
                tile[p * lanes + c] = widen_one(src, c * value->pixels + start + p, plain_bf16);
        plan->backend->kernels->store(element(dst, start * lanes, value->bf16), tile, n * lanes, value->bf16);
    }
}

static void unblock_row(const struct backend_plan *plan, void *dst, bool plain_bf16, const void *src, const struct value *value,
                        size_t channels) {
    _Alignas(ALIGNMENT) float tile[TILE * 16];
    size_t lanes = (size_t)plan->lanes;
    for (size_t start = 0; start < value->pixels; start += TILE) {
        size_t n = value->pixels - start < TILE ? value->pixels - start : TILE;
        plan->backend->kernels->load(tile, element_of(src, start * lanes, value->bf16), n * lanes, value->bf16);
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < n; p++) {
                size_t at = c * value->pixels + start + p;
                if (plain_bf16) {
                    uint32_t bits;
                    memcpy(&bits, &tile[p * lanes + c], sizeof bits);
                    ((uint16_t *)dst)[at] = (uint16_t)(bits >> 16); /* exact: it was bf16 before */
                } else {
                    ((float *)dst)[at] = tile[p * lanes + c];
                }
            }
    }
}

static size_t channels_of(const struct value *value, size_t block, size_t lanes) {
    size_t left = (size_t)value->c - block * lanes;
    return left < lanes ? left : lanes;
}

void layout_block(const struct backend_plan *plan, void *dst, const void *src, bool plain_bf16, const struct value *value,
                  int n) {
    size_t rows = (size_t)n * (size_t)value->blocks, lanes = (size_t)plan->lanes, blocks = (size_t)value->blocks;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        size_t plain = (r / blocks * (size_t)value->c + r % blocks * lanes) * value->pixels;
        block_row(plan, element(dst, r * value->pixels * lanes, value->bf16), element_of(src, plain, plain_bf16), plain_bf16,
                  value, channels_of(value, r % blocks, lanes));
    }
}

void layout_unblock(const struct backend_plan *plan, void *dst, bool plain_bf16, const void *src, const struct value *value,
                    int n) {
    size_t rows = (size_t)n * (size_t)value->blocks, lanes = (size_t)plan->lanes, blocks = (size_t)value->blocks;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        size_t plain = (r / blocks * (size_t)value->c + r % blocks * lanes) * value->pixels;
        unblock_row(plan, element(dst, plain, plain_bf16), plain_bf16, element_of(src, r * value->pixels * lanes, value->bf16),
                    value, channels_of(value, r % blocks, lanes));
    }
}

void layout_narrow(const struct backend_plan *plan, void *dst, const float *src, size_t n) {
    size_t lanes = (size_t)plan->lanes;
    plan->backend->kernels->store(dst, src, n / lanes * lanes, true);
    _Alignas(ALIGNMENT) float rest[16] = {0};
    _Alignas(ALIGNMENT) uint16_t narrow[16];
    size_t done = n / lanes * lanes;
    memcpy(rest, src + done, (n - done) * sizeof *src);
    plan->backend->kernels->store(narrow, rest, lanes, true);
    memcpy((uint16_t *)dst + done, narrow, (n - done) * sizeof *narrow);
}
