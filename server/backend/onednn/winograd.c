/* Winograd's algorithm in bf16, a chunk of tiles at a time: V = B' d B for all input channels, then for every two blocks of
 * output channels the 16 products M = V U, summed over the input channels, and y = A' M A. A chunk's V and M stay in the
 * second-level cache. VDPBF16PS adds the products of two input channels, which lie side by side in V. */
#include "server/backend/onednn/winograd.h"

#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"
#include "server/backend/onednn/winograd_tile.h"

enum {
    GROUP = 28, /* products take so many tiles at a time, or half of them for two blocks of output channels */
    CHUNK_BYTES = 384 << 10
};

static size_t tiles_w(const struct winograd *shape) {
    return ((size_t)shape->w + 1) / 2;
}

static size_t tiles_h(const struct winograd *shape) {
    return ((size_t)shape->h + 1) / 2;
}

/* Rows of tiles that are worked on at a time: so many that the products' groups of tiles come out even where rows are. */
static size_t chunk_rows(const struct winograd *shape) {
    size_t row_bytes = tiles_w(shape) * POINTS * LANE * 2 * (size_t)(shape->in_blocks + 4);
    size_t step = shape->out_blocks % 2 ? GROUP / 2 : GROUP / 4, groups = CHUNK_BYTES / (step * row_bytes);
    return (groups < 1 ? 1 : groups) * step;
}

/* Tiles of a chunk, rounded up to what the products take at a time. */
static size_t chunk_tiles(const struct winograd *shape) {
    return round_up(chunk_rows(shape) * tiles_w(shape), GROUP);
}

size_t winograd_weights(const struct winograd *shape) {
    return round_up((size_t)shape->out_blocks, 2) * (size_t)shape->in_blocks * POINTS * BLOCK * 2;
}

/* V is bf16 of all input blocks, M f32 of two output blocks. */
size_t winograd_scratch(const struct winograd *shape) {
    return chunk_tiles(shape) * POINTS * LANE * ((size_t)shape->in_blocks * 2 + 2 * sizeof(float));
}

#if defined(__x86_64__)

/* g of one input channel for 16 output channels, [3][3] vectors, into G g G'. */
TARGET static void transform_weights(float *to, const float *from, bool turned) {
    __m512 g[3][3], rows[4][3];
    const __m512 half = _mm512_set1_ps(0.5f);
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++)
            g[y][x] = _mm512_load_ps(from + (turned ? (2 - y) * 3 + 2 - x : y * 3 + x) * BLOCK);
    for (int x = 0; x < 3; x++) {
        __m512 outer = _mm512_add_ps(g[0][x], g[2][x]);
        rows[0][x] = g[0][x];
        rows[1][x] = _mm512_mul_ps(half, _mm512_add_ps(outer, g[1][x]));
        rows[2][x] = _mm512_mul_ps(half, _mm512_sub_ps(outer, g[1][x]));
        rows[3][x] = g[2][x];
    }
    for (int y = 0; y < 4; y++) {
        __m512 outer = _mm512_add_ps(rows[y][0], rows[y][2]);
        _mm512_store_ps(to + (y * 4 + 0) * BLOCK, rows[y][0]);
        _mm512_store_ps(to + (y * 4 + 1) * BLOCK, _mm512_mul_ps(half, _mm512_add_ps(outer, rows[y][1])));
        _mm512_store_ps(to + (y * 4 + 2) * BLOCK, _mm512_mul_ps(half, _mm512_sub_ps(outer, rows[y][1])));
        _mm512_store_ps(to + (y * 4 + 3) * BLOCK, rows[y][2]);
    }
}

/* Layout: [out blocks / 2][16 points][in blocks][2 out blocks][8 pairs of I][16 of O][2 of I]. */
void winograd_pack(const struct winograd *shape, const struct kernels *kernels, void *to, const float *weights, bool turned) {
    size_t ins = (size_t)shape->in_blocks, outs = (size_t)shape->out_blocks;
#pragma omp parallel for schedule(static)
    for (size_t index = 0; index < ins * outs; index++) {
        _Alignas(ALIGNMENT) float points[POINTS * BLOCK];
        size_t out = index / ins, in = index % ins, from = turned ? in * outs + out : index;
        for (size_t i = 0; i < LANE; i++)
            transform_weights(points + i * LANE, weights + from * 9 * BLOCK + i * LANE, turned);
        for (size_t p = 0; p < POINTS; p++) {
            size_t block = ((out / 2 * POINTS + p) * ins + in) * 2 + out % 2;
            kernels->pack((uint16_t *)to + block * BLOCK, points + p * BLOCK, turned ? PACK_TURNED_PAIRS : PACK_PAIRS);
        }
    }
}

/* What one thread works on. */
struct work {
    const struct winograd *shape;
    const struct winograd_call *call;
    uint16_t *v;  /* [16 points][in blocks][tiles][16] */
    float *m;     /* [16 points][2][tiles][16] */
    size_t tiles; /* of a chunk, rounded up */
};

TARGET static inline void store_bf16(uint16_t *to, __m512 value) {
    _mm256_store_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(value));
}

/* One row of tiles of one input block. */
TARGET static void transform_row(const struct work *work, size_t row, size_t tile, size_t block) {
    const struct winograd *s = work->shape;
    size_t step = (size_t)s->in_blocks * work->tiles * LANE, image = row / tiles_h(s);
    int top = 2 * (int)(row % tiles_h(s)) - 1;
    const uint16_t *x = work->call->x + (image * (size_t)s->in_blocks + block) * (size_t)s->h * (size_t)s->w * LANE, *rows[4];
    uint16_t *to = work->v + (block * work->tiles + tile) * LANE;
    find_rows(rows, x, top, s->h, s->w);
    struct column a = load_column(rows, -1, s->w), b = load_column(rows, 0, s->w);
    for (int t = 0; t < (int)tiles_w(s); t++, to += LANE) {
        struct column c = load_column(rows, 2 * t + 1, s->w), d = load_column(rows, 2 * t + 2, s->w);
        for (size_t y = 0; y < 4; y++) {
            store_bf16(to + (y * 4 + 0) * step, _mm512_sub_ps(a.d[y], c.d[y]));
            store_bf16(to + (y * 4 + 1) * step, _mm512_add_ps(b.d[y], c.d[y]));
            store_bf16(to + (y * 4 + 2) * step, _mm512_sub_ps(c.d[y], b.d[y]));
            store_bf16(to + (y * 4 + 3) * step, _mm512_sub_ps(b.d[y], d.d[y]));
        }
        a = c;
        b = d;
    }
}

/* For every tile r and output block k of a group; unrolled, so that the sums are registers. */
#define EACH(ROWS, OUTS) \
    _Pragma("GCC unroll 28") for (int r = 0; r < (ROWS); r++) _Pragma("GCC unroll 2") for (int k = 0; k < (OUTS); k++)

/* Products of ROWS tiles and OUTS output blocks at one point, over all input channels. */
#define PRODUCTS(name, ROWS, OUTS)                                                                                       \
    TARGET static void name(float *m, const uint16_t *v, const uint16_t *u, size_t in_blocks, size_t tiles) {            \
        __m512 sum[ROWS][OUTS];                                                                                          \
        EACH(ROWS, OUTS) sum[r][k] = _mm512_setzero_ps();                                                                \
        for (size_t block = 0; block < in_blocks; block++, v += tiles * LANE, u += 2 * BLOCK)                            \
            for (size_t pair = 0; pair < LANE / 2; pair++) {                                                             \
                const uint32_t *left = (const uint32_t *)(const void *)v + pair;                                         \
                __m512bh right[OUTS];                                                                                    \
                for (int k = 0; k < (OUTS); k++)                                                                         \
                    right[k] = (__m512bh)_mm512_load_si512(u + k * BLOCK + pair * 2 * LANE);                             \
                EACH(ROWS, OUTS)                                                                                         \
                sum[r][k] = _mm512_dpbf16_ps(sum[r][k], (__m512bh)_mm512_set1_epi32((int)left[r * LANE / 2]), right[k]); \
            }                                                                                                            \
        EACH(ROWS, OUTS) _mm512_store_ps(m + ((size_t)k * tiles + (size_t)r) * LANE, sum[r][k]);                         \
    }

PRODUCTS(products_28x1, 28, 1)
PRODUCTS(products_14x2, 14, 2)

/* y of two pixels side by side, after bias, sum and ReLU. */
TARGET static inline void finish(const struct work *work, uint16_t *y, __m512 value, __m512 bias) {
    value = _mm512_add_ps(value, bias);
    if (work->call->sum)
        value = _mm512_add_ps(value, load_pixel(y, 0, 1));
    if (work->call->relu) /* lets a NaN pass */
        value = _mm512_max_ps(_mm512_setzero_ps(), value);
    store_bf16(y, value);
}

/* y = A' M A of one row of tiles and one output block; m is the block's part of a chunk. */
TARGET static void finish_row(const struct work *work, size_t row, const float *m, size_t block) {
    const struct winograd *s = work->shape;
    size_t step = 2 * work->tiles * LANE, image = row / tiles_h(s);
    int top = 2 * (int)(row % tiles_h(s));
    uint16_t *y = work->call->y + (image * (size_t)s->out_blocks + block) * (size_t)s->h * (size_t)s->w * LANE;
    __m512 bias = work->call->bias ? _mm512_loadu_ps(work->call->bias + block * LANE) : _mm512_setzero_ps();
    for (int t = 0; t < (int)tiles_w(s); t++, m += LANE) {
        __m512 rows[2][4];
        for (size_t x = 0; x < 4; x++) {
            __m512 a = _mm512_load_ps(m + x * step), b = _mm512_load_ps(m + (4 + x) * step);
            __m512 c = _mm512_load_ps(m + (8 + x) * step), d = _mm512_load_ps(m + (12 + x) * step);
            rows[0][x] = _mm512_add_ps(a, _mm512_add_ps(b, c));
            rows[1][x] = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
        }
        for (int k = 0; k < 2 && top + k < s->h; k++) {
            uint16_t *to = y + ((size_t)(top + k) * (size_t)s->w + 2 * (size_t)t) * LANE;
            __m512 *r = rows[k];
            finish(work, to, _mm512_add_ps(r[0], _mm512_add_ps(r[1], r[2])), bias);
            if (2 * t + 1 < s->w)
                finish(work, to + LANE, _mm512_sub_ps(_mm512_sub_ps(r[1], r[2]), r[3]), bias);
        }
    }
}

/* Output blocks pair * 2 and, where it exists, the next one. */
static void run_pair(const struct work *work, size_t first, size_t rows, size_t pair) {
    const struct winograd *s = work->shape;
    size_t ins = (size_t)s->in_blocks, count = rows * tiles_w(s);
    for (size_t p = 0; p < POINTS; p++) {
        const uint16_t *u = (const uint16_t *)work->call->weights + (pair * POINTS + p) * ins * 2 * BLOCK;
        const uint16_t *v = work->v + p * ins * work->tiles * LANE;
        float *m = work->m + p * 2 * work->tiles * LANE;
        bool two = 2 * pair + 1 < (size_t)s->out_blocks;
        for (size_t t = 0; t < count; t += two ? GROUP / 2 : GROUP)
            (two ? products_14x2 : products_28x1)(m + t * LANE, v + t * LANE, u, ins, work->tiles);
    }
    for (size_t out = 2 * pair; out < 2 * pair + 2 && out < (size_t)s->out_blocks; out++)
        for (size_t r = 0; r < rows; r++)
            finish_row(work, first + r, work->m + (out % 2 * work->tiles + r * tiles_w(s)) * LANE, out);
}

static void run_rows(const struct work *work, size_t first, size_t end) {
    const struct winograd *s = work->shape;
    size_t at_once = chunk_rows(s);
    for (size_t row = first; row < end; row += at_once) {
        size_t rows = end - row < at_once ? end - row : at_once;
        for (size_t block = 0; block < (size_t)s->in_blocks; block++)
            for (size_t r = 0; r < rows; r++)
                transform_row(work, row + r, r * tiles_w(s), block);
        for (size_t pair = 0; 2 * pair < (size_t)s->out_blocks; pair++)
            run_pair(work, row, rows, pair);
    }
}

void winograd_run(const struct winograd *shape, const struct winograd_call *call) {
#pragma omp parallel num_threads(call->threads)
    {
        size_t first, end;
        char *own = (char *)call->scratch + (size_t)omp_get_thread_num() * winograd_scratch(shape);
        struct work work = {.shape = shape, .call = call, .v = (uint16_t *)(void *)own, .tiles = chunk_tiles(shape)};
        work.m = (float *)(void *)(own + work.tiles * POINTS * LANE * (size_t)shape->in_blocks * 2);
        share((size_t)call->n * tiles_h(shape), omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        run_rows(&work, first, end);
    }
}

#else

void winograd_pack(const struct winograd *shape, const struct kernels *kernels, void *to, const float *weights, bool turned) {
    (void)shape, (void)kernels, (void)to, (void)weights, (void)turned;
}

void winograd_run(const struct winograd *shape, const struct winograd_call *call) {
    (void)shape, (void)call;
}

#endif
