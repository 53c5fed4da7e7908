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

/* In 32-bit words, what the pairs of one input row take: per kernel column, or at stride 1 twice, since the pairs of the third
 * column are those of the first, one further on. */
static size_t row_words(const struct wgrad *shape) {
    if (shape->kernel_w == 3 && shape->stride_w == 1)
        return (2 * pairs_of(shape) + 1) * LANE;
    return (size_t)shape->kernel_w * pairs_of(shape) * LANE;
}

/* Work is done in pieces: some rows of one image when it is large, else some images. All of a piece's pairs for one block of
 * input and one of output channels stay in the first-level cache. */
struct piece_size {
    int rows, images;
};

static size_t row_bytes(const struct wgrad *shape, int rows) {
    size_t in_rows = (size_t)((rows - 1) * shape->stride_h + shape->kernel_h);
    return 4 * (in_rows * row_words(shape) + (size_t)rows * pairs_of(shape) * LANE);
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
    return (size_t)size.images * in_rows * row_words(shape);
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
    const char *ahead[2]; /* what the next piece reads of x and g, brought into the cache bit by bit */
    size_t ahead_bytes[2], ahead_step[2];
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

/* count pairs of one input row from a column on. Those inside of the row, all but one or two, need no look at the borders. */
TARGET static void pair_row(const struct wgrad *s, uint32_t *to, const uint16_t *row, int column, size_t count, __m512i order) {
    int step = 2 * s->stride_w, last = s->in_w - 1 - s->stride_w;
    size_t p = 0;
    for (; p < count && column < 0; p++, column += step)
        pair_up(to + p * LANE, pixel(row, column, s->in_w), pixel(row, column + s->stride_w, s->in_w), order);
    for (; p < count && column <= last; p++, column += step) {
        const uint16_t *from = row + (size_t)column * LANE;
        __m512i both = _mm512_loadu_si512(from);
        if (s->stride_w != 1)
            both = _mm512_inserti64x4(both, _mm256_loadu_si256((const __m256i *)(const void *)(from + s->stride_w * LANE)), 1);
        _mm512_store_si512(to + p * LANE, _mm512_permutexvar_epi16(order, both));
    }
    for (; p < count; p++, column += step)
        pair_up(to + p * LANE, pixel(row, column, s->in_w), pixel(row, column + s->stride_w, s->in_w), order);
}

TARGET static void pair_columns(const struct work *work, uint32_t *to, const uint16_t *row, __m512i order) {
    const struct wgrad *s = work->shape;
    if (s->kernel_w == 3 && s->stride_w == 1) {
        pair_row(s, to, row, -s->pad_w, work->pairs + 1, order);
        pair_row(s, to + (work->pairs + 1) * LANE, row, 1 - s->pad_w, work->pairs, order);
        return;
    }
    for (int kx = 0; kx < s->kernel_w; kx++)
        pair_row(s, to + (size_t)kx * work->pairs * LANE, row, kx - s->pad_w, work->pairs, order);
}

/* Layout: [image][input row][row_words]. Rows outside of the image are not written, nor read later. */
TARGET static void pair_x(const struct work *work, int block) {
    const struct wgrad *s = work->shape;
    uint32_t *to = work->x_pairs;
    __m512i order = pair_order();
    for (int image = 0; image < work->images; image++)
        for (int r = 0; r < (int)work->in_rows; r++, to += row_words(s)) {
            int y = work->first_row * s->stride_h - s->pad_h + r;
            size_t index = (size_t)(work->first_image + image) * (size_t)s->in_blocks + (size_t)block;
            if (y >= 0 && y < s->in_h)
                pair_columns(work, to, work->x + (index * (size_t)s->in_h + (size_t)y) * (size_t)s->in_w * LANE, order);
        }
}

/* Where the pairs of kernel column k start in a row. */
static inline size_t column_at(const struct work *work, int k) {
    if (work->shape->kernel_w == 3 && work->shape->stride_w == 1)
        return (k == 2 ? 1 : (size_t)k * (work->pairs + 1)) * LANE;
    return (size_t)k * work->pairs * LANE;
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

/* COLUMNS kernel columns x CHANNELS input channels x 16 output channels stay in registers over the whole piece. The
 * empty asm keeps the compiler from making one index out of each pointer and channel: it would run out of registers for them. */
#define TILE(name, COLUMNS, CHANNELS)                                                                           \
    TARGET static void name(const struct work *work, float *dw, const uint32_t *g_pairs, int ky, int channel) { \
        const struct wgrad *s = work->shape;                                                                    \
        __m512 sum[COLUMNS][CHANNELS];                                                                          \
        size_t pairs = work->pairs, words = row_words(s);                                                       \
        int first, end;                                                                                         \
        valid_rows(work, ky, &first, &end);                                                                     \
        dw += channel * LANE;                                                                                   \
        EACH(COLUMNS, CHANNELS) sum[k][c] = _mm512_load_ps(dw + k * BLOCK + c * LANE);                          \
        for (int image = 0; image < work->images; image++)                                                      \
            for (int y = first; y < end; y++) {                                                                 \
                size_t in_row = (size_t)image * work->in_rows + (size_t)(y * s->stride_h + ky);                 \
                const uint32_t *g = g_pairs + ((size_t)image * (size_t)work->rows + (size_t)y) * pairs * LANE;  \
                const uint32_t *x[COLUMNS];                                                                     \
                for (int k = 0; k < (COLUMNS); k++)                                                             \
                    x[k] = work->x_pairs + in_row * words + column_at(work, k) + channel;                       \
                for (size_t p = 0; p < pairs; p++, g += LANE) {                                                 \
                    __m512bh right = (__m512bh)_mm512_load_si512(g);                                            \
                    EACH(COLUMNS, CHANNELS) {                                                                   \
                        __m512i left = _mm512_set1_epi32((int)x[k][c]);                                         \
                        sum[k][c] = _mm512_dpbf16_ps(sum[k][c], (__m512bh)left, right);                         \
                    }                                                                                           \
                    _Pragma("GCC unroll 8") for (int k = 0; k < (COLUMNS); k++) {                               \
                        x[k] += LANE;                                                                           \
                        __asm__("" : "+r"(x[k]));                                                               \
                    }                                                                                           \
                }                                                                                               \
            }                                                                                                   \
        EACH(COLUMNS, CHANNELS) _mm512_store_ps(dw + k * BLOCK + c * LANE, sum[k][c]);                          \
    }

TILE(tile_3x8, 3, 8)
TILE(tile_1x16, 1, 16)

/* The next lines of what is read next: the arithmetic of a piece leaves the memory idle otherwise. */
static void fetch_ahead(struct work *work) {
    for (int i = 0; i < 2; i++) {
        size_t bytes = work->ahead_step[i] < work->ahead_bytes[i] ? work->ahead_step[i] : work->ahead_bytes[i];
        for (size_t k = 0; k < bytes; k += ALIGNMENT)
            _mm_prefetch(work->ahead[i] + k, _MM_HINT_T1);
        work->ahead[i] += bytes;
        work->ahead_bytes[i] -= bytes;
    }
}

static void add_blocks(struct work *work, int in_block, int out_block) {
    const struct wgrad *s = work->shape;
    const uint32_t *g_pairs = work->g_pairs + (size_t)out_block * g_words(s);
    size_t index = (size_t)out_block * (size_t)s->in_blocks + (size_t)in_block;
    for (int ky = 0; ky < s->kernel_h; ky++) {
        float *dw = work->gradient + (index * (size_t)s->kernel_h + (size_t)ky) * (size_t)s->kernel_w * BLOCK;
        fetch_ahead(work);
        if (s->kernel_w == 1) {
            tile_1x16(work, dw, g_pairs, ky, 0);
        } else {
            tile_3x8(work, dw, g_pairs, ky, 0);
            tile_3x8(work, dw, g_pairs, ky, 8);
        }
    }
}

static void add_piece(struct work *work, int first_out, int end_out) {
    for (int o = first_out; o < end_out; o++)
        pair_g(work, o);
    for (int i = 0; i < work->shape->in_blocks; i++) {
        pair_x(work, i);
        for (int o = first_out; o < end_out; o++)
            add_blocks(work, i, o);
    }
}

/* Plans the fetching of the piece behind this one: whole images, or rows of an image with one block, are one stretch. */
static void plan_ahead(struct work *work, size_t end, int outs) {
    const struct wgrad *s = work->shape;
    const char *start[2] = {(const char *)work->x, (const char *)work->g};
    size_t row[2] = {(size_t)s->in_w * LANE * 2, (size_t)s->out_w * LANE * 2};
    size_t rows[2] = {(size_t)s->in_h * (size_t)s->in_blocks, (size_t)s->out_h * (size_t)s->out_blocks};
    int stride[2] = {s->stride_h, 1}, blocks[2] = {s->in_blocks, s->out_blocks};
    size_t calls = (size_t)s->in_blocks * (size_t)outs * (size_t)s->kernel_h;
    for (int i = 0; i < 2; i++) {
        size_t image = (size_t)work->first_image, from = image * rows[i], count = (size_t)work->images * rows[i];
        if (work->rows < s->out_h && blocks[i] == 1) {
            from += (size_t)(work->first_row + work->rows) * (size_t)stride[i];
            count = (size_t)work->rows * (size_t)stride[i];
        } else {
            from += count;
        }
        if (from + count > end * rows[i])
            count = from < end * rows[i] ? end * rows[i] - from : 0;
        work->ahead[i] = start[i] + from * row[i];
        work->ahead_bytes[i] = work->rows < s->out_h && blocks[i] > 1 ? 0 : count * row[i];
        work->ahead_step[i] = round_up(work->ahead_bytes[i] / calls + 1, ALIGNMENT);
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
            plan_ahead(work, end, end_out - first_out);
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
