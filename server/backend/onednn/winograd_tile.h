/* What the two directions of Winograd's algorithm share: reading a tile of an image, transformed along its columns. */
#ifndef ONEDNN_WINOGRAD_TILE_H
#define ONEDNN_WINOGRAD_TILE_H

#include <stddef.h>
#include <stdint.h>

enum {
    LANE = 16, /* channels of a block */
    BLOCK = LANE * LANE,
    POINTS = 16 /* of a transformed tile: 4x4 */
};

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/* 16 channels of a pixel in f32; zeros outside of the row, and for a row outside of the image (NULL). */
TARGET static inline __m512 load_pixel(const uint16_t *row, int x, int w) {
    if (!row || x < 0 || x >= w)
        return _mm512_setzero_ps();
    __m256i bits = _mm256_load_si256((const __m256i *)(const void *)(row + (size_t)x * LANE));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* A column of four values, transformed. */
struct column {
    __m512 d[4];
};

/* B' d of a column of the input. */
TARGET static inline struct column load_column(const uint16_t *const rows[4], int x, int w) {
    __m512 a = load_pixel(rows[0], x, w), b = load_pixel(rows[1], x, w);
    __m512 c = load_pixel(rows[2], x, w), d = load_pixel(rows[3], x, w);
    return (struct column){{_mm512_sub_ps(a, c), _mm512_add_ps(b, c), _mm512_sub_ps(c, b), _mm512_sub_ps(b, d)}};
}

/* The four rows that a row of tiles reads, of an image of h rows from top on; NULL stands for one outside. */
static inline void find_rows(const uint16_t *rows[4], const uint16_t *image, int top, int h, int w) {
    for (int y = 0; y < 4; y++)
        rows[y] = top + y >= 0 && top + y < h ? image + (size_t)(top + y) * (size_t)w * LANE : NULL;
}

#endif

#endif
