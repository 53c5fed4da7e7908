/* Weight gradients in bf16: dw[o][i] += sum over pixels of g[o] * x[i]. VDPBF16PS adds two products, here those of two pixels
 * that are neighbours in the output's row: g's pairs are a vector (16 output channels x 2 pixels), x's pair of one input channel
 * is broadcast. So both tensors are first rewritten with the two pixels of a pair interleaved, x once per kernel column. */
#include "server/backend/onednn/wgrad.h"

#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

enum { LANE = 16, BLOCK = LANE * LANE, L1_BYTES = 40 << 10, GROUP_MAX = 32, SPLIT_BYTES = 512 << 10 };

bool wgrad_fits(const struct wgrad *shape) {
    return shape->kernel_w == 1 || shape->kernel_w == 3;
}

static size_t pairs_of(const struct wgrad *shape) {
    return ((size_t)shape->out_w + 1) / 2;
}

/* Work is done in pieces: some rows of one image when it is large, else some images. All of a piece's pairs for one block of
 * input and one of output channels stay in the first-level cache. */
struct piece_size {
    int rows, images;
};

static size_t row_bytes(const struct wgrad *shape, int rows) {
    size_t in_rows = (size_t)((rows - 1) * shape->stride_h + shape->kernel_h);
    return (in_rows * (size_t)shape->kernel_w + (size_t)rows) * pairs_of(shape) * LANE * 4;
}

static struct piece_size piece_size(const struct wgrad *shape) {
    struct piece_size size = {shape->out_h, 1};
    while (size.rows > 1 && row_bytes(shape, size.rows) > L1_BYTES)
        size.rows = (size.rows + 1) / 2;
    while (size.rows == shape->out_h && size.images < GROUP_MAX &&
           (size_t)(2 * size.images) * row_bytes(shape, size.rows) <= L1_BYTES)
        size.images *= 2;
    return size;
}

/* In 32-bit words (pairs): x of one input block and g of all output blocks. */
static size_t x_words(const struct wgrad *shape) {
    struct piece_size size = piece_size(shape);
    size_t in_rows = (size_t)((size.rows - 1) * shape->stride_h + shape->kernel_h);
    return (size_t)size.images * in_rows * (size_t)shape->kernel_w * pairs_of(shape) * LANE;
}

static size_t g_words(const struct wgrad *shape) {
    struct piece_size size = piece_size(shape);
    return (size_t)size.images * (size_t)size.rows * pairs_of(shape) * LANE;
}

size_t wgrad_scratch(const struct wgrad *shape) {
    return 4 * (x_words(shape) + (size_t)shape->out_blocks * g_words(shape));
}

static size_t gradient_count(const struct wgrad *shape) {
    return (size_t)shape->out_blocks * (size_t)shape->in_blocks * (size_t)shape->kernel_h * (size_t)shape->kernel_w * BLOCK;
}

/* Small gradients: each thread sums its images, then the threads' sums are added. Large ones: each thread has its own output
 * channels, so that nothing is added twice. */
static bool splits_images(const struct wgrad *shape) {
    return gradient_count(shape) * sizeof(float) <= SPLIT_BYTES || shape->out_blocks == 1;
}

size_t wgrad_partials(const struct wgrad *shape, int threads) {
    return splits_images(shape) ? (size_t)(threads - 1) * gradient_count(shape) * sizeof(float) : 0;
}

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/* What one thread works on. */
struct work {
    const struct wgrad *shape;
    const uint16_t *x, *g;
    uint32_t *x_pairs, *g_pairs;
    float *gradient;
    int first_image, images, first_row, rows; /* of the piece */
    size_t pairs, in_rows;
};

/* 16 channels of two pixels, interleaved; NULL stands for a pixel of zeros. */
TARGET static inline void pair_up(uint32_t *to, const uint16_t *a, const uint16_t *b, __m512i order) {
    __m256i low = a ? _mm256_loadu_si256((const __m256i *)(const void *)a) : _mm256_setzero_si256();
    __m256i high = b ? _mm256_loadu_si256((const __m256i *)(const void *)b) : _mm256_setzero_si256();
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(order, both));
}

TARGET static inline __m512i pair_order(void) {
    _Alignas(64) uint16_t order[32];
    for (int i = 0; i < 32; i++)
        order[i] = (uint16_t)(i / 2 + i % 2 * LANE);
    return _mm512_load_si512(order);
}

/* Pixel column of a row of w pixels, or NULL outside of it. */
static inline const uint16_t *pixel(const uint16_t *row, int column, int w) {
    return column >= 0 && column < w ? row + (size_t)column * LANE : NULL;
}

TARGET static void pair_g(const struct work *work, int block) {
    const struct wgrad *s = work->shape;
    uint32_t *to = work->g_pairs + (size_t)block * g_words(s);
    __m512i order = pair_order();
    for (int image = 0; image < work->images; image++)
        for (int y = 0; y < work->rows; y++) {
            size_t index = (size_t)(work->first_image + image) * (size_t)s->out_blocks + (size_t)block;
            const uint16_t *row = work->g + (index * (size_t)s->out_h + (size_t)(work->first_row + y)) * (size_t)s->out_w * LANE;
            for (int p = 0; p < (int)work->pairs; p++, to += LANE)
                pair_up(to, pixel(row, 2 * p, s->out_w), pixel(row, 2 * p + 1, s->out_w), order);
        }
}

/* The pairs of one input row for one kernel column. Pairs inside of the row, all but one or two, need no look at the borders. */
TARGET static void pair_row(const struct wgrad *s, uint32_t *to, const uint16_t *row, int kx, int pairs, __m512i order) {
    int p = 0, step = 2 * s->stride_w, column = kx - s->pad_w, last = s->in_w - 1 - s->stride_w;
    for (; p < pairs && column < 0; p++, column += step)
        pair_up(to + (size_t)p * LANE, pixel(row, column, s->in_w),
                2 * p + 1 < s->out_w ? pixel(row, column + s->stride_w, s->in_w) : NULL, order);
    for (; p < pairs && column <= last && 2 * p + 1 < s->out_w; p++, column += step) {
        const uint16_t *from = row + (size_t)column * LANE;
        __m512i both = _mm512_loadu_si512(from);
        if (s->stride_w != 1)
            both = _mm512_inserti64x4(both, _mm256_loadu_si256((const __m256i *)(const void *)(from + s->stride_w * LANE)), 1);
        _mm512_store_si512(to + (size_t)p * LANE, _mm512_permutexvar_epi16(order, both));
    }
    for (; p < pairs; p++, column += step)
        pair_up(to + (size_t)p * LANE, pixel(row, column, s->in_w),
                2 * p + 1 < s->out_w ? pixel(row, column + s->stride_w, s->in_w) : NULL, order);
}

/* Layout: [image][input row][kernel column][pair][16]. Rows outside of the image are not written, nor read later. */
TARGET static void pair_x(const struct work *work, int block) {
    const struct wgrad *s = work->shape;
    uint32_t *to = work->x_pairs;
    __m512i order = pair_order();
    for (int image = 0; image < work->images; image++)
        for (int r = 0; r < (int)work->in_rows; r++) {
            int y = work->first_row * s->stride_h - s->pad_h + r;
            size_t index = (size_t)(work->first_image + image) * (size_t)s->in_blocks + (size_t)block;
            for (int kx = 0; kx < s->kernel_w; kx++, to += work->pairs * LANE)
                if (y >= 0 && y < s->in_h)
                    pair_row(s, to, work->x + (index * (size_t)s->in_h + (size_t)y) * (size_t)s->in_w * LANE, kx,
                             (int)work->pairs, order);
        }
}

/* The output rows of the piece whose input row for kernel row ky lies in the image: first <= y < end. */
static void valid_rows(const struct work *work, int ky, int *ret_first, int *ret_end) {
    const struct wgrad *s = work->shape;
    int first = 0, end = work->rows, base = work->first_row * s->stride_h - s->pad_h + ky;
    while (first < end && base + first * s->stride_h < 0)
        first++;
    while (end > first && base + (end - 1) * s->stride_h >= s->in_h)
        end--;
    *ret_first = first;
    *ret_end = end;
}

/* For every kernel column k and input channel c of a tile; unrolled, so that the sums are registers. */
#define EACH(COLUMNS, CHANNELS) \
    _Pragma("GCC unroll 8") for (int k = 0; k < (COLUMNS); k++) _Pragma("GCC unroll 16") for (int c = 0; c < (CHANNELS); c++)

/* COLUMNS kernel columns x CHANNELS input channels x 16 output channels stay in registers over the whole piece. */
#define TILE(name, COLUMNS, CHANNELS)                                                                           \
    TARGET static void name(const struct work *work, float *dw, const uint32_t *g_pairs, int ky, int channel) { \
        const struct wgrad *s = work->shape;                                                                    \
        __m512 sum[COLUMNS][CHANNELS];                                                                          \
        size_t pairs = work->pairs, column_words = pairs * LANE, row_words = (size_t)(COLUMNS) * column_words;  \
        int first, end;                                                                                         \
        valid_rows(work, ky, &first, &end);                                                                     \
        dw += channel * LANE;                                                                                   \
        EACH(COLUMNS, CHANNELS) sum[k][c] = _mm512_load_ps(dw + k * BLOCK + c * LANE);                          \
        for (int image = 0; image < work->images; image++)                                                      \
            for (int y = first; y < end; y++) {                                                                 \
                size_t in_row = (size_t)image * work->in_rows + (size_t)(y * s->stride_h + ky);                 \
                const uint32_t *x = work->x_pairs + in_row * row_words + channel;                               \
                const uint32_t *g = g_pairs + ((size_t)image * (size_t)work->rows + (size_t)y) * column_words;  \
                for (size_t p = 0; p < pairs; p++, x += LANE, g += LANE) {                                      \
                    __m512bh right = (__m512bh)_mm512_load_si512(g);                                            \
                    EACH(COLUMNS, CHANNELS) {                                                                   \
                        __m512i left = _mm512_set1_epi32((int)x[(size_t)k * column_words + (size_t)c]);         \
                        sum[k][c] = _mm512_dpbf16_ps(sum[k][c], (__m512bh)left, right);                         \
                    }                                                                                           \
                }                                                                                               \
            }                                                                                                   \
        EACH(COLUMNS, CHANNELS) _mm512_store_ps(dw + k * BLOCK + c * LANE, sum[k][c]);                          \
    }

TILE(tile_3x8, 3, 8)
TILE(tile_1x16, 1, 16)

static void add_blocks(const struct work *work, int in_block, int out_block) {
    const struct wgrad *s = work->shape;
    const uint32_t *g_pairs = work->g_pairs + (size_t)out_block * g_words(s);
    size_t index = (size_t)out_block * (size_t)s->in_blocks + (size_t)in_block;
    for (int ky = 0; ky < s->kernel_h; ky++) {
        float *dw = work->gradient + (index * (size_t)s->kernel_h + (size_t)ky) * (size_t)s->kernel_w * BLOCK;
        if (s->kernel_w == 1) {
            tile_1x16(work, dw, g_pairs, ky, 0);
        } else {
            tile_3x8(work, dw, g_pairs, ky, 0);
            tile_3x8(work, dw, g_pairs, ky, 8);
        }
    }
}

static void add_piece(const struct work *work, int first_out, int end_out) {
    for (int o = first_out; o < end_out; o++)
        pair_g(work, o);
    for (int i = 0; i < work->shape->in_blocks; i++) {
        pair_x(work, i);
        for (int o = first_out; o < end_out; o++)
            add_blocks(work, i, o);
    }
}

/* Adds images first to end for some output blocks to work->gradient. */
static void add_images(struct work *work, size_t first, size_t end, int first_out, int end_out) {
    const struct wgrad *s = work->shape;
    struct piece_size size = piece_size(s);
    for (size_t image = first; image < end; image += (size_t)size.images)
        for (int row = 0; row < s->out_h; row += size.rows) {
            work->first_image = (int)image;
            work->images = end - image < (size_t)size.images ? (int)(end - image) : size.images;
            work->first_row = row;
            work->rows = s->out_h - row < size.rows ? s->out_h - row : size.rows;
            work->in_rows = (size_t)((work->rows - 1) * s->stride_h + s->kernel_h);
            add_piece(work, first_out, end_out);
        }
}

/* gradient += the other threads' sums, in their order. */
static void add_partials(float *gradient, const float *partials, size_t count, int threads) {
    size_t first, end;
    share(count / BLOCK, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
    for (int t = 0; t < threads - 1; t++)
        for (size_t k = first * BLOCK; k < end * BLOCK; k++)
            gradient[k] += partials[(size_t)t * count + k];
}

static void split_images(struct work *work, float *gradient, float *partials, int n, int t, int threads) {
    size_t count = gradient_count(work->shape), first, end;
    work->gradient = t == 0 ? gradient : partials + (size_t)(t - 1) * count;
    memset(work->gradient, 0, count * sizeof *gradient);
    share((size_t)n, t, threads, &first, &end);
    add_images(work, first, end, 0, work->shape->out_blocks);
#pragma omp barrier
    add_partials(gradient, partials, count, threads);
}

static void split_channels(struct work *work, float *gradient, int n, int t, int threads) {
    size_t first, end, block = gradient_count(work->shape) / (size_t)work->shape->out_blocks;
    share((size_t)work->shape->out_blocks, t, threads, &first, &end);
    work->gradient = gradient;
    memset(gradient + first * block, 0, (end - first) * block * sizeof *gradient);
    add_images(work, 0, (size_t)n, (int)first, (int)end);
}

void wgrad_run(const struct wgrad *shape, float *gradient, const uint16_t *x, const uint16_t *g, int n, int threads,
               void *scratch, float *partials) {
#pragma omp parallel num_threads(threads)
    {
        int t = omp_get_thread_num(), team = omp_get_num_threads();
        uint32_t *own = (uint32_t *)(void *)((char *)scratch + (size_t)t * wgrad_scratch(shape));
        struct work work = {.shape = shape, .x = x, .g = g, .x_pairs = own, .g_pairs = own + x_words(shape)};
        work.pairs = pairs_of(shape);
        if (splits_images(shape))
            split_images(&work, gradient, partials, n, t, team);
        else
            split_channels(&work, gradient, n, t, team);
    }
}

#else

void wgrad_run(const struct wgrad *shape, float *gradient, const uint16_t *x, const uint16_t *g, int n, int threads,
               void *scratch, float *partials) {
    (void)shape, (void)gradient, (void)x, (void)g, (void)n, (void)threads, (void)scratch, (void)partials;
}

#endif
