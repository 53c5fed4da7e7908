/* The hot loops of winograd_kernels.h. The including file defines SIDE (1: f32, 2: bf16), TARGET, element, LOAD and STORE of 16
 * elements, DOT, PUT_SIDES and KERNELS (the table's name). */
#include <immintrin.h>
#include <stdint.h>

#include "server/backend/onednn/winograd_kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum { WORDS = LANE / SIDE };

/* 16 channels of a pixel in f32; zeros outside of the row, and for a row outside of the image (NULL). */
TARGET static inline __m512 load_pixel(const element *row, int x, int w) {
    return row && x >= 0 && x < w ? LOAD(row + (size_t)x * LANE) : _mm512_setzero_ps();
}

/* A norm's coefficients for one block of channels. */
struct affine {
    __m512 mean, scale, shift;
    bool relu;
};

TARGET static inline struct affine load_affine(const struct winograd_norm *norm) {
    return (struct affine){_mm512_loadu_ps(norm->mean), _mm512_loadu_ps(norm->scale), _mm512_loadu_ps(norm->shift), norm->relu};
}

/* The same behind a norm, unless it is NULL: the padding stays zero. */
TARGET INLINE __m512 load_normed(const element *row, int x, int w, const struct affine *norm) {
    if (!norm || !row || x < 0 || x >= w)
        return load_pixel(row, x, w);
    __m512 value = _mm512_sub_ps(LOAD(row + (size_t)x * LANE), norm->mean);
    value = _mm512_fmadd_ps(value, norm->scale, norm->shift);
    return norm->relu ? _mm512_max_ps(_mm512_setzero_ps(), value) : value; /* lets a NaN pass */
}

/* A column of four values, transformed. */
struct column {
    __m512 d[4];
};

/* B' d of a column of the input. */
TARGET INLINE struct column load_column(const element *const rows[4], int x, int w, const struct affine *norm) {
    __m512 a = load_normed(rows[0], x, w, norm), b = load_normed(rows[1], x, w, norm);
    __m512 c = load_normed(rows[2], x, w, norm), d = load_normed(rows[3], x, w, norm);
    return (struct column){{_mm512_sub_ps(a, c), _mm512_add_ps(b, c), _mm512_sub_ps(c, b), _mm512_sub_ps(b, d)}};
}

/* A g of a column of the gradient. */
TARGET static inline struct column load_gradient(const element *const rows[2], int x, int w) {
    __m512 a = load_pixel(rows[0], x, w), b = load_pixel(rows[1], x, w);
    return (struct column){{a, _mm512_add_ps(a, b), _mm512_sub_ps(a, b), _mm512_sub_ps(_mm512_setzero_ps(), b)}};
}

/* Some rows of an image from top on; NULL stands for one outside. */
static inline void find_rows(const struct winograd *shape, const element **rows, int n, const void *image, int top) {
    for (int y = 0; y < n; y++)
        rows[y] =
            top + y >= 0 && top + y < shape->h ? (const element *)image + (size_t)(top + y) * (size_t)shape->w * LANE : NULL;
}

TARGET static void weights(float *to, const float *from, bool turned) {
    __m512 g[3][3], rows[4][3];
    const __m512 half = _mm512_set1_ps(0.5f);
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++)
            g[y][x] = _mm512_load_ps(from + (turned ? 8 - y * 3 - x : y * 3 + x) * BLOCK);
    for (int x = 0; x < 3; x++) {
        __m512 outer = _mm512_add_ps(g[0][x], g[2][x]);
        rows[0][x] = g[0][x];
        rows[1][x] = _mm512_mul_ps(half, _mm512_add_ps(outer, g[1][x]));
        rows[2][x] = _mm512_mul_ps(half, _mm512_sub_ps(outer, g[1][x]));
        rows[3][x] = g[2][x];
    }
    for (int y = 0; y < 4; y++, to += 4 * BLOCK) {
        __m512 outer = _mm512_add_ps(rows[y][0], rows[y][2]);
        _mm512_store_ps(to, rows[y][0]);
        _mm512_store_ps(to + BLOCK, _mm512_mul_ps(half, _mm512_add_ps(outer, rows[y][1])));
        _mm512_store_ps(to + 2 * BLOCK, _mm512_mul_ps(half, _mm512_sub_ps(outer, rows[y][1])));
        _mm512_store_ps(to + 3 * BLOCK, rows[y][2]);
    }
}

/* G' c: three sums of four. */
TARGET static inline void gather(__m512 to[3], __m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 half = _mm512_set1_ps(0.5f);
    __m512 sum = _mm512_mul_ps(half, _mm512_add_ps(b, c));
    to[0] = _mm512_add_ps(a, sum);
    to[1] = _mm512_mul_ps(half, _mm512_sub_ps(b, c));
    to[2] = _mm512_add_ps(sum, d);
}

TARGET static void gradient(float *to, const float *from, size_t point_step, size_t own_step, int owns) {
    __m512 points[POINTS], rows[4][3], taps[3];
    for (size_t p = 0; p < POINTS; p++) {
        points[p] = _mm512_load_ps(from + p * point_step);
        for (size_t t = 1; t < (size_t)owns; t++)
            points[p] = _mm512_add_ps(points[p], _mm512_load_ps(from + p * point_step + t * own_step));
    }
    for (size_t y = 0; y < 4; y++)
        gather(rows[y], points[4 * y], points[4 * y + 1], points[4 * y + 2], points[4 * y + 3]);
    for (size_t x = 0; x < 3; x++) {
        gather(taps, rows[0][x], rows[1][x], rows[2][x], rows[3][x]);
        for (size_t y = 0; y < 3; y++)
            _mm512_store_ps(to + (y * 3 + x) * BLOCK, taps[y]);
    }
}

TARGET INLINE void input_body(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                              const struct affine *norm) {
    const element *rows[4];
    element *v = to;
    find_rows(shape, rows, 4, image, top);
    struct column a = load_column(rows, -1, shape->w, norm), b = load_column(rows, 0, shape->w, norm);
    for (int x = 0; x < shape->w; x += 2, v += LANE) {
        struct column c = load_column(rows, x + 1, shape->w, norm), d = load_column(rows, x + 2, shape->w, norm);
        for (size_t y = 0; y < 4; y++) {
            STORE(v + (y * 4 + 0) * step, _mm512_sub_ps(a.d[y], c.d[y]));
            STORE(v + (y * 4 + 1) * step, _mm512_add_ps(b.d[y], c.d[y]));
            STORE(v + (y * 4 + 2) * step, _mm512_sub_ps(c.d[y], b.d[y]));
            STORE(v + (y * 4 + 3) * step, _mm512_sub_ps(b.d[y], d.d[y]));
        }
        a = c;
        b = d;
    }
}

TARGET static void input(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                         const struct winograd_norm *norm) {
    if (!norm) {
        input_body(shape, to, step, image, top, NULL);
        return;
    }
    struct affine affine = load_affine(norm);
    input_body(shape, to, step, image, top, &affine);
}

/* For every row r (a tile or an input channel) and output block k; unrolled, so that the sums are registers. */
#define EACH(ROWS, OUTS) \
    _Pragma("GCC unroll 28") for (int r = 0; r < (ROWS); r++) _Pragma("GCC unroll 2") for (int k = 0; k < (OUTS); k++)

/* Products of ROWS tiles and OUTS output blocks at one point, over all input channels. */
#define PRODUCTS(name, ROWS, OUTS)                                                                                  \
    TARGET static void name(float *m, const float *v, const float *u, size_t in_blocks, size_t tiles) {             \
        __m512 sum[ROWS][OUTS], right[OUTS];                                                                        \
        EACH(ROWS, OUTS) sum[r][k] = _mm512_setzero_ps();                                                           \
        for (size_t block = 0; block < in_blocks; block++, v += tiles * WORDS, u += (size_t)2 * WORDS * LANE)       \
            for (size_t word = 0; word < WORDS; word++) {                                                           \
                for (int k = 0; k < (OUTS); k++)                                                                    \
                    right[k] = _mm512_load_ps(u + ((size_t)k * WORDS + word) * LANE);                               \
                EACH(ROWS, OUTS) sum[r][k] = DOT(sum[r][k], _mm512_set1_ps(v[word + (size_t)r * WORDS]), right[k]); \
            }                                                                                                       \
        EACH(ROWS, OUTS) _mm512_store_ps(m + ((size_t)k * tiles + (size_t)r) * LANE, sum[r][k]);                    \
    }

PRODUCTS(products_28x1, GROUP, 1)
PRODUCTS(products_14x2, GROUP / 2, 2)

static void products(float *m, const float *v, const float *u, size_t in_blocks, size_t tiles, bool two) {
    (two ? products_14x2 : products_28x1)(m, v, u, in_blocks, tiles);
}

/* One pixel behind bias, sum and ReLU. */
TARGET static inline void finish(const struct winograd_call *call, element *y, __m512 value, __m512 bias) {
    value = _mm512_add_ps(value, bias);
    if (call->sum)
        value = _mm512_add_ps(value, LOAD(y));
    if (call->relu) /* lets a NaN pass */
        value = _mm512_max_ps(_mm512_setzero_ps(), value);
    STORE(y, value);
}

TARGET static void output(const struct winograd *shape, const struct winograd_call *call, void *image, int top, const float *m,
                          size_t step, const float *bias) {
    __m512 offset = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
    element *y = (element *)image + (size_t)top * (size_t)shape->w * LANE;
    for (int x = 0; x < shape->w; x += 2, m += LANE) {
        __m512 rows[2][4];
        for (size_t i = 0; i < 4; i++) {
            __m512 a = _mm512_load_ps(m + i * step), b = _mm512_load_ps(m + (4 + i) * step);
            __m512 c = _mm512_load_ps(m + (8 + i) * step), d = _mm512_load_ps(m + (12 + i) * step);
            rows[0][i] = _mm512_add_ps(a, _mm512_add_ps(b, c));
            rows[1][i] = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
        }
        for (int k = 0; k < 2 && top + k < shape->h; k++) {
            element *to = y + ((size_t)k * (size_t)shape->w + (size_t)x) * LANE;
            const __m512 *r = rows[k];
            finish(call, to, _mm512_add_ps(r[0], _mm512_add_ps(r[1], r[2])), offset);
            if (x + 1 < shape->w)
                finish(call, to + LANE, _mm512_sub_ps(_mm512_sub_ps(r[1], r[2]), r[3]), offset);
        }
    }
}

/* SIDE neighbouring tiles of x from column x on, at row y of the transformed tile. columns are those of the tiles, two a tile
 * and two more. */
TARGET static inline void put_x(element *v, size_t step, const struct column *columns, size_t y) {
    __m512 values[4][2];
    for (int t = 0; t < SIDE; t++) {
        const struct column *c = columns + (size_t)2 * t;
        values[0][t] = _mm512_sub_ps(c[0].d[y], c[2].d[y]);
        values[1][t] = _mm512_add_ps(c[1].d[y], c[2].d[y]);
        values[2][t] = _mm512_sub_ps(c[2].d[y], c[1].d[y]);
        values[3][t] = _mm512_sub_ps(c[1].d[y], c[3].d[y]);
    }
    for (size_t i = 0; i < 4; i++)
        PUT_SIDES(v + (y * 4 + i) * step, values[i]);
}

TARGET INLINE void sides_x_body(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                                const struct affine *norm) {
    const element *rows[4];
    element *v = to;
    find_rows(shape, rows, 4, image, top);
    struct column columns[2 * SIDE + 2] = {load_column(rows, -1, shape->w, norm), load_column(rows, 0, shape->w, norm)};
    for (int x = 0; x < shape->w; x += 2 * SIDE, v += SIDE * LANE) {
        _Pragma("GCC unroll 4") for (int i = 0; i < 2 * SIDE; i++) columns[2 + i] = load_column(rows, x + 1 + i, shape->w, norm);
        for (size_t y = 0; y < 4; y++)
            put_x(v, step, columns, y);
        columns[0] = columns[2 * SIDE];
        columns[1] = columns[2 * SIDE + 1];
    }
}

TARGET static void sides_x(const struct winograd *shape, void *to, size_t step, const void *image, int top,
                           const struct winograd_norm *norm) {
    if (!norm) {
        sides_x_body(shape, to, step, image, top, NULL);
        return;
    }
    struct affine affine = load_affine(norm);
    sides_x_body(shape, to, step, image, top, &affine);
}

TARGET static inline void put_g(element *h, size_t step, const struct column *columns, size_t y) {
    __m512 values[4][2];
    for (int t = 0; t < SIDE; t++) {
        __m512 a = columns[2 * t].d[y], b = columns[2 * t + 1].d[y];
        values[0][t] = a;
        values[1][t] = _mm512_add_ps(a, b);
        values[2][t] = _mm512_sub_ps(a, b);
        values[3][t] = _mm512_sub_ps(_mm512_setzero_ps(), b);
    }
    for (size_t i = 0; i < 4; i++)
        PUT_SIDES(h + (y * 4 + i) * step, values[i]);
}

TARGET static void sides_g(const struct winograd *shape, void *to, size_t step, const void *image, int top) {
    const element *rows[2];
    element *h = to;
    find_rows(shape, rows, 2, image, top);
    for (int x = 0; x < shape->w; x += 2 * SIDE, h += SIDE * LANE) {
        struct column columns[2 * SIDE];
        _Pragma("GCC unroll 4") for (int i = 0; i < 2 * SIDE; i++) columns[i] = load_gradient(rows, x + i, shape->w);
        for (size_t y = 0; y < 4; y++)
            put_g(h, step, columns, y);
    }
}

/* ROWS input channels x OUTS blocks of output channels. */
#define SUMS(name, ROWS, OUTS)                                                                                              \
    TARGET static void name(float *sums, size_t sums_step, const float *v, const float *h, size_t h_step, size_t count,     \
                            bool fresh) {                                                                                   \
        __m512 sum[ROWS][OUTS], right[OUTS];                                                                                \
        EACH(ROWS, OUTS) sum[r][k] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + (size_t)k * sums_step + r * LANE); \
        for (size_t i = 0; i < count; i++, v += LANE, h += LANE) {                                                          \
            for (int k = 0; k < (OUTS); k++)                                                                                \
                right[k] = _mm512_load_ps(h + (size_t)k * h_step);                                                          \
            EACH(ROWS, OUTS) sum[r][k] = DOT(sum[r][k], _mm512_set1_ps(v[r]), right[k]);                                    \
        }                                                                                                                   \
        EACH(ROWS, OUTS) _mm512_store_ps(sums + (size_t)k * sums_step + r * LANE, sum[r][k]);                               \
    }

SUMS(sums_16x1, 16, 1)
SUMS(sums_8x2, 8, 2)

static void sums(float *to, size_t to_step, const float *v, const float *h, size_t h_step, size_t count, bool two, bool fresh) {
    if (!two)
        sums_16x1(to, 0, v, h, 0, count, fresh);
    for (size_t c = 0; c < LANE && two; c += 8)
        sums_8x2(to + c * LANE, to_step, v + c, h, h_step, count, fresh);
}

const struct winograd_kernels KERNELS = {.size = sizeof(element),
                                         .words = WORDS,
                                         .side = SIDE,
                                         .weights = weights,
                                         .gradient = gradient,
                                         .input = input,
                                         .products = products,
                                         .output = output,
                                         .sides_x = sides_x,
                                         .sides_g = sides_g,
                                         .sums = sums};
