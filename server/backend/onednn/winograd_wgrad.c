/* The weight gradient by Winograd's algorithm, the transpose of the forward one (Lavin and Gray 2015): dw = G' (sum over tiles of
 * (A g A') * (B' d B)) G.
 *
 * Small gradients: each thread has its own rows of tiles and its own sums. Large ones: threads share the transformed tensors of
 * a chunk and have their own points of the sums. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"
#include "server/backend/onednn/winograd_kernels.h"

enum { OWN_BYTES = 512 << 10, OWN_CHUNK = 256 << 10, SHARED_CHUNK = 4 << 20 };

/* Steps of the sums in a row of tiles: tiles, or pairs of tiles. */
static size_t steps_of(const struct winograd *shape) {
    size_t pixels = 2 * winograd_kernels_of(shape)->side;
    return ((size_t)shape->w + pixels - 1) / pixels;
}

static size_t sums_count(const struct winograd *shape) {
    return (size_t)shape->in_blocks * (size_t)shape->out_blocks * POINTS * BLOCK;
}

static bool is_shared(const struct winograd *shape) {
    return sums_count(shape) * sizeof(float) > OWN_BYTES;
}

/* Each step is 16 words. */
static size_t row_bytes(const struct winograd *shape) {
    return steps_of(shape) * POINTS * LANE * sizeof(float) * (size_t)(shape->in_blocks + shape->out_blocks);
}

static size_t chunk_rows(const struct winograd *shape) {
    size_t rows = (size_t)(is_shared(shape) ? SHARED_CHUNK : OWN_CHUNK) / row_bytes(shape);
    return rows < 1 ? 1 : rows;
}

/* Words from one point of a transformed tensor to the next: a cache line more, as in winograd.c. */
static size_t point_step(const struct winograd *shape, int blocks) {
    return ((size_t)blocks * chunk_rows(shape) * steps_of(shape) + 1) * LANE;
}

static size_t own_bytes(const struct winograd *shape) {
    size_t tensors = POINTS * (point_step(shape, shape->in_blocks) + point_step(shape, shape->out_blocks));
    return (tensors + sums_count(shape)) * sizeof(float);
}

size_t winograd_wgrad_scratch(const struct winograd *shape, int threads) {
    return own_bytes(shape) * (is_shared(shape) ? 1 : (size_t)threads);
}

/* Tensors of one thread, or of all. */
struct work {
    const struct winograd *shape;
    const struct winograd_kernels *kernels;
    const char *x, *g;
    const struct winograd_norm *norm; /* in front of x, or NULL */
    float *v, *h;                     /* transformed x and g: [16 points][blocks][steps of the chunk][16 words] */
    float *sums;                      /* [16 points][out blocks][in blocks][16 of I][16 of O] */
    size_t steps;                     /* of a whole chunk */
    size_t v_step, h_step;
};

/* One row of tiles of a block of x; r counts rows of the chunk. */
static void transform_x(const struct work *work, size_t row, size_t r, size_t block) {
    const struct winograd *s = work->shape;
    size_t rows = winograd_rows(s), at = winograd_image_at(s, row / rows, s->in_blocks, block);
    struct winograd_norm norm;
    work->kernels->sides_x(s, work->v + (block * work->steps + r * steps_of(s)) * LANE,
                           work->v_step * sizeof(float) / work->kernels->size, work->x + at, 2 * (int)(row % rows) - 1,
                           winograd_norm_at(work->norm, block, &norm));
}

static void transform_g(const struct work *work, size_t row, size_t r, size_t block) {
    const struct winograd *s = work->shape;
    size_t rows = winograd_rows(s), at = winograd_image_at(s, row / rows, s->out_blocks, block);
    work->kernels->sides_g(s, work->h + (block * work->steps + r * steps_of(s)) * LANE,
                           work->h_step * sizeof(float) / work->kernels->size, work->g + at, 2 * (int)(row % rows));
}

/* Rows first to end of the list of a chunk's rows of all blocks of x, then of g. */
static void transform(const struct work *work, size_t row, size_t rows, size_t first, size_t end) {
    size_t ins = (size_t)work->shape->in_blocks;
    for (size_t index = first; index < end; index++) {
        size_t r = index % rows, block = index / rows;
        if (block < ins)
            transform_x(work, row + r, r, block);
        else
            transform_g(work, row + r, r, block - ins);
    }
}

/* One point's sums for output blocks 2 * duo and, where it exists, the next one. */
static void multiply(const struct work *work, size_t point, size_t duo, size_t steps, bool fresh) {
    size_t ins = (size_t)work->shape->in_blocks, outs = (size_t)work->shape->out_blocks, out = 2 * duo;
    const float *v = work->v + point * work->v_step, *h = work->h + point * work->h_step + out * work->steps * LANE;
    for (size_t in = 0; in < ins; in++)
        work->kernels->sums(work->sums + ((point * outs + out) * ins + in) * BLOCK, ins * BLOCK, v + in * work->steps * LANE, h,
                            work->steps * LANE, steps, out + 1 < outs, fresh);
}

static void finish(const struct work *work, float *gradient, const float *sums, int owns) {
    const struct winograd *s = work->shape;
    size_t first, end, blocks = (size_t)s->in_blocks * (size_t)s->out_blocks;
    share(blocks, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
    for (size_t block = first; block < end; block++)
        for (size_t c = 0; c < LANE; c++)
            work->kernels->gradient(gradient + block * 9 * BLOCK + c * LANE, sums + block * BLOCK + c * LANE, blocks * BLOCK,
                                    own_bytes(s) / sizeof(float), owns);
}

static size_t items_of(const struct winograd *shape) {
    return POINTS * (((size_t)shape->out_blocks + 1) / 2);
}

static void multiply_items(const struct work *work, size_t first, size_t end, size_t steps, bool fresh) {
    size_t duos = items_of(work->shape) / POINTS;
    for (size_t item = first; item < end; item++)
        multiply(work, item / duos, item % duos, steps, fresh);
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
        multiply_items(work, 0, items_of(s), rows * steps_of(s), row == first);
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
        multiply_items(work, from, to, rows * steps_of(s), row == 0);
#pragma omp barrier
    }
}

void winograd_wgrad(const struct winograd *shape, float *gradient, const void *x, const struct winograd_norm *norm, const void *g,
                    int n, int threads, void *scratch) {
    const struct winograd_kernels *kernels = winograd_kernels_of(shape);
    bool shared = is_shared(shape);
#pragma omp parallel num_threads(threads)
    {
        int t = omp_get_thread_num(), team = omp_get_num_threads();
        size_t first, end, rows = (size_t)n * winograd_rows(shape), steps = chunk_rows(shape) * steps_of(shape);
        float *own = (float *)(void *)((char *)scratch + (shared ? 0 : (size_t)t * own_bytes(shape)));
        struct work work = {.shape = shape, .kernels = kernels, .x = x, .g = g, .norm = norm, .sums = own, .steps = steps};
        work.v = own + sums_count(shape);
        work.v_step = point_step(shape, shape->in_blocks);
        work.h_step = point_step(shape, shape->out_blocks);
        work.h = work.v + POINTS * work.v_step;
        share(rows, t, team, &first, &end);
        if (shared)
            run_shared(&work, rows);
        else
            run_own(&work, first, end);
#pragma omp barrier
        finish(&work, gradient, scratch, shared ? 1 : team);
    }
}
