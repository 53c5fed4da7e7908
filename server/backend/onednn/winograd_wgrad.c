/* The weight gradient by Winograd's algorithm, the transpose of the forward one (Lavin and Gray 2015): dw = G' (sum over tiles of
 * (A g A') * (B' d B)) G. VDPBF16PS adds the products of two tiles that are neighbours in a row, which lie side by side in the
 * transformed tensors; sums are f32.
 *
 * Small gradients: each thread has its own rows of tiles and its own sums. Large ones: threads share the transformed tensors of
 * a chunk and have their own points of the sums. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"
#include "server/backend/onednn/winograd.h"
#include "server/backend/onednn/winograd_tile.h"

enum {
    PAIR = 2 * LANE, /* elements of 16 channels of two tiles */
    OWN_BYTES = 512 << 10,
    OWN_CHUNK = 256 << 10,
    SHARED_CHUNK = 4 << 20
};

static size_t rows_of(const struct winograd *shape) {
    return ((size_t)shape->h + 1) / 2;
}

/* Pairs of tiles in a row. */
static size_t pairs_of(const struct winograd *shape) {
    return ((size_t)shape->w + 3) / 4;
}

static size_t sums_count(const struct winograd *shape) {
    return (size_t)shape->in_blocks * (size_t)shape->out_blocks * POINTS * BLOCK;
}

static bool is_shared(const struct winograd *shape) {
    return sums_count(shape) * sizeof(float) > OWN_BYTES;
}

static size_t row_bytes(const struct winograd *shape) {
    return pairs_of(shape) * POINTS * PAIR * 2 * (size_t)(shape->in_blocks + shape->out_blocks);
}

static size_t chunk_rows(const struct winograd *shape) {
    size_t rows = (size_t)(is_shared(shape) ? SHARED_CHUNK : OWN_CHUNK) / row_bytes(shape);
    return rows < 1 ? 1 : rows;
}

static size_t own_bytes(const struct winograd *shape) {
    return chunk_rows(shape) * row_bytes(shape) + sums_count(shape) * sizeof(float);
}

size_t winograd_wgrad_scratch(const struct winograd *shape, int threads) {
    return own_bytes(shape) * (is_shared(shape) ? 1 : (size_t)threads);
}

#if defined(__x86_64__)

/* Tensors of one thread, or of all. */
struct work {
    const struct winograd *shape;
    const uint16_t *x, *g;
    uint16_t *v, *h; /* transformed x and g: [16 points][blocks][pairs of the chunk][16][2] */
    float *sums;     /* [16 points][out blocks][in blocks][16 of I][16 of O] */
    size_t pairs;    /* of a whole chunk */
};

/* A g of a column of the gradient. */
TARGET static inline struct column load_gradient(const uint16_t *const rows[2], int x, int w) {
    __m512 a = load_pixel(rows[0], x, w), b = load_pixel(rows[1], x, w);
    return (struct column){{a, _mm512_add_ps(a, b), _mm512_sub_ps(a, b), _mm512_sub_ps(_mm512_setzero_ps(), b)}};
}

/* Two tiles' values at a point, channel by channel side by side. */
TARGET static inline void store_pair(uint16_t *to, __m512 first, __m512 second) {
    _Alignas(64) static const uint16_t order[PAIR] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
}

/* One row of tiles of one block of x; to is its place at the first point. */
TARGET static void transform_x(const struct work *work, uint16_t *to, size_t row, size_t block) {
    const struct winograd *s = work->shape;
    size_t step = (size_t)s->in_blocks * work->pairs * PAIR, image = row / rows_of(s);
    int top = 2 * (int)(row % rows_of(s)) - 1;
    const uint16_t *x = work->x + (image * (size_t)s->in_blocks + block) * (size_t)s->h * (size_t)s->w * LANE, *rows[4];
    find_rows(rows, x, top, s->h, s->w);
    struct column a = load_column(rows, -1, s->w), b = load_column(rows, 0, s->w);
    for (int p = 0; p < (int)pairs_of(s); p++, to += PAIR) {
        struct column c = load_column(rows, 4 * p + 1, s->w), d = load_column(rows, 4 * p + 2, s->w);
        struct column e = load_column(rows, 4 * p + 3, s->w), f = load_column(rows, 4 * p + 4, s->w);
        for (size_t y = 0; y < 4; y++) {
            store_pair(to + (y * 4 + 0) * step, _mm512_sub_ps(a.d[y], c.d[y]), _mm512_sub_ps(c.d[y], e.d[y]));
            store_pair(to + (y * 4 + 1) * step, _mm512_add_ps(b.d[y], c.d[y]), _mm512_add_ps(d.d[y], e.d[y]));
            store_pair(to + (y * 4 + 2) * step, _mm512_sub_ps(c.d[y], b.d[y]), _mm512_sub_ps(e.d[y], d.d[y]));
            store_pair(to + (y * 4 + 3) * step, _mm512_sub_ps(b.d[y], d.d[y]), _mm512_sub_ps(d.d[y], f.d[y]));
        }
        a = e;
        b = f;
    }
}

TARGET static void transform_g(const struct work *work, uint16_t *to, size_t row, size_t block) {
    const struct winograd *s = work->shape;
    size_t step = (size_t)s->out_blocks * work->pairs * PAIR, image = row / rows_of(s);
    int top = 2 * (int)(row % rows_of(s));
    const uint16_t *g = work->g + (image * (size_t)s->out_blocks + block) * (size_t)s->h * (size_t)s->w * LANE;
    const uint16_t *rows[2] = {g + (size_t)top * (size_t)s->w * LANE, NULL};
    const __m512 zero = _mm512_setzero_ps();
    if (top + 1 < s->h)
        rows[1] = rows[0] + (size_t)s->w * LANE;
    for (int p = 0; p < (int)pairs_of(s); p++, to += PAIR) {
        struct column a = load_gradient(rows, 4 * p, s->w), b = load_gradient(rows, 4 * p + 1, s->w);
        struct column c = load_gradient(rows, 4 * p + 2, s->w), d = load_gradient(rows, 4 * p + 3, s->w);
        for (size_t y = 0; y < 4; y++) {
            store_pair(to + (y * 4 + 0) * step, a.d[y], c.d[y]);
            store_pair(to + (y * 4 + 1) * step, _mm512_add_ps(a.d[y], b.d[y]), _mm512_add_ps(c.d[y], d.d[y]));
            store_pair(to + (y * 4 + 2) * step, _mm512_sub_ps(a.d[y], b.d[y]), _mm512_sub_ps(c.d[y], d.d[y]));
            store_pair(to + (y * 4 + 3) * step, _mm512_sub_ps(zero, b.d[y]), _mm512_sub_ps(zero, d.d[y]));
        }
    }
}

/* Rows first to end of the list of all blocks' rows of a chunk: those of x, then those of g. */
static void transform(const struct work *work, size_t row, size_t rows, size_t first, size_t end) {
    const struct winograd *s = work->shape;
    size_t ins = (size_t)s->in_blocks;
    for (size_t index = first; index < end; index++) {
        size_t block = index / rows, r = index % rows, at = r * pairs_of(s);
        if (block < ins)
            transform_x(work, work->v + (block * work->pairs + at) * PAIR, row + r, block);
        else
            transform_g(work, work->h + ((block - ins) * work->pairs + at) * PAIR, row + r, block - ins);
    }
}

/* For every output block k and input channel c of a tile of sums; unrolled, so that the sums are registers. */
#define EACH(CHANNELS, OUTS) \
    _Pragma("GCC unroll 16") for (int c = 0; c < (CHANNELS); c++) _Pragma("GCC unroll 2") for (int k = 0; k < (OUTS); k++)

/* CHANNELS input channels x OUTS blocks of output channels at one point, over a chunk. */
#define PRODUCTS(name, CHANNELS, OUTS)                                                                                          \
    TARGET static void name(float *sums, size_t sums_step, const uint16_t *v, const uint16_t *h, size_t h_step, size_t pairs,   \
                            bool fresh) {                                                                                       \
        __m512 sum[CHANNELS][OUTS];                                                                                             \
        EACH(CHANNELS, OUTS) sum[c][k] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + (size_t)k * sums_step + c * LANE); \
        for (size_t p = 0; p < pairs; p++, v += PAIR, h += PAIR) {                                                              \
            const uint32_t *left = (const uint32_t *)(const void *)v;                                                           \
            __m512bh right[OUTS];                                                                                               \
            for (int k = 0; k < (OUTS); k++)                                                                                    \
                right[k] = (__m512bh)_mm512_load_si512(h + (size_t)k * h_step);                                                 \
            EACH(CHANNELS, OUTS) sum[c][k] = _mm512_dpbf16_ps(sum[c][k], (__m512bh)_mm512_set1_epi32((int)left[c]), right[k]);  \
        }                                                                                                                       \
        EACH(CHANNELS, OUTS) _mm512_store_ps(sums + (size_t)k * sums_step + c * LANE, sum[c][k]);                               \
    }

PRODUCTS(products_16x1, 16, 1)
PRODUCTS(products_8x2, 8, 2)

/* One point's sums for output blocks 2 * duo and, where it exists, the next one. */
static void multiply(const struct work *work, size_t point, size_t duo, size_t pairs, bool fresh) {
    size_t ins = (size_t)work->shape->in_blocks, outs = (size_t)work->shape->out_blocks, out = 2 * duo;
    const uint16_t *h = work->h + (point * outs + out) * work->pairs * PAIR;
    for (size_t in = 0; in < ins; in++) {
        const uint16_t *v = work->v + (point * ins + in) * work->pairs * PAIR;
        float *sums = work->sums + ((point * outs + out) * ins + in) * BLOCK;
        if (out + 1 == outs)
            products_16x1(sums, 0, v, h, 0, pairs, fresh);
        for (size_t c = 0; c < LANE && out + 1 < outs; c += 8)
            products_8x2(sums + c * LANE, ins * BLOCK, v + 2 * c, h, work->pairs * PAIR, pairs, fresh);
    }
}

/* G' c: three sums of four. */
TARGET static inline void turn_back(__m512 to[3], __m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 half = _mm512_set1_ps(0.5f);
    __m512 sum = _mm512_mul_ps(half, _mm512_add_ps(b, c));
    to[0] = _mm512_add_ps(a, sum);
    to[1] = _mm512_mul_ps(half, _mm512_sub_ps(b, c));
    to[2] = _mm512_add_ps(sum, d);
}

/* The gradient of 16 weights from the threads' sums, added in their order. */
TARGET static void finish_row(float *gradient, const float *sums, size_t point_step, size_t own_step, int owns) {
    __m512 points[POINTS], rows[4][3];
    for (size_t p = 0; p < POINTS; p++) {
        points[p] = _mm512_load_ps(sums + p * point_step);
        for (int t = 1; t < owns; t++)
            points[p] = _mm512_add_ps(points[p], _mm512_load_ps(sums + p * point_step + (size_t)t * own_step));
    }
    for (size_t y = 0; y < 4; y++)
        turn_back(rows[y], points[4 * y], points[4 * y + 1], points[4 * y + 2], points[4 * y + 3]);
    for (size_t x = 0; x < 3; x++) {
        __m512 taps[3];
        turn_back(taps, rows[0][x], rows[1][x], rows[2][x], rows[3][x]);
        for (size_t y = 0; y < 3; y++)
            _mm512_store_ps(gradient + (y * 3 + x) * BLOCK, taps[y]);
    }
}

static void finish(const struct winograd *shape, float *gradient, const float *sums, int owns) {
    size_t first, end, blocks = (size_t)shape->in_blocks * (size_t)shape->out_blocks;
    share(blocks, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
    for (size_t block = first; block < end; block++)
        for (size_t c = 0; c < LANE; c++)
            finish_row(gradient + block * 9 * BLOCK + c * LANE, sums + block * BLOCK + c * LANE, blocks * BLOCK,
                       own_bytes(shape) / sizeof(float), owns);
}

static size_t items_of(const struct winograd *shape) {
    return POINTS * (((size_t)shape->out_blocks + 1) / 2);
}

static void multiply_items(const struct work *work, size_t first, size_t end, size_t pairs, bool fresh) {
    size_t duos = items_of(work->shape) / POINTS;
    for (size_t item = first; item < end; item++)
        multiply(work, item / duos, item % duos, pairs, fresh);
}

/* Chunks of a thread's own rows. */
static void run_own(const struct work *work, size_t first, size_t end) {
    const struct winograd *s = work->shape;
    size_t at_once = chunk_rows(s), blocks = (size_t)(s->in_blocks + s->out_blocks);
    if (first == end)
        memset(work->sums, 0, sums_count(s) * sizeof(float));
    for (size_t row = first; row < end; row += at_once) {
        size_t rows = end - row < at_once ? end - row : at_once;
        transform(work, row, rows, 0, rows * blocks);
        multiply_items(work, 0, items_of(s), rows * pairs_of(s), row == first);
    }
}

/* Chunks that all threads work on. */
static void run_shared(const struct work *work, size_t end) {
    const struct winograd *s = work->shape;
    size_t at_once = chunk_rows(s), blocks = (size_t)(s->in_blocks + s->out_blocks), from, to;
    int t = omp_get_thread_num(), threads = omp_get_num_threads();
    for (size_t row = 0; row < end; row += at_once) {
        size_t rows = end - row < at_once ? end - row : at_once;
        share(rows * blocks, t, threads, &from, &to);
        transform(work, row, rows, from, to);
#pragma omp barrier
        share(items_of(s), t, threads, &from, &to);
        multiply_items(work, from, to, rows * pairs_of(s), row == 0);
#pragma omp barrier
    }
}

void winograd_wgrad(const struct winograd *shape, float *gradient, const uint16_t *x, const uint16_t *g, int n, int threads,
                    void *scratch) {
#pragma omp parallel num_threads(threads)
    {
        int t = omp_get_thread_num(), team = omp_get_num_threads();
        bool shared = is_shared(shape);
        size_t first, end, rows = (size_t)n * rows_of(shape), pairs = chunk_rows(shape) * pairs_of(shape);
        char *own = (char *)scratch + (shared ? 0 : (size_t)t * own_bytes(shape));
        struct work work = {.shape = shape, .x = x, .g = g, .sums = (float *)(void *)own, .pairs = pairs};
        work.v = (uint16_t *)(void *)(own + sums_count(shape) * sizeof(float));
        work.h = work.v + (size_t)shape->in_blocks * POINTS * pairs * PAIR;
        share(rows, t, team, &first, &end);
        if (shared)
            run_shared(&work, rows);
        else
            run_own(&work, first, end);
#pragma omp barrier
        finish(shape, gradient, scratch, shared ? 1 : team);
    }
}

#else

void winograd_wgrad(const struct winograd *shape, float *gradient, const uint16_t *x, const uint16_t *g, int n, int threads,
                    void *scratch) {
    (void)shape, (void)gradient, (void)x, (void)g, (void)n, (void)threads, (void)scratch;
}

#endif
