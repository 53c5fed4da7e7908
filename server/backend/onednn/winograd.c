/* Winograd's algorithm, a chunk of tiles at a time: V = B' d B for all input channels, then for every two blocks of output
 * channels the 16 products M = V U, summed over the input channels, and y = A' M A. A chunk's V and M stay in the second-level
 * cache. */
#include "server/backend/onednn/winograd.h"

#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"
#include "server/backend/onednn/winograd_kernels.h"

enum { CHUNK_BYTES = 384 << 10 };

static size_t tiles_w(const struct winograd *shape) {
    return ((size_t)shape->w + 1) / 2;
}

/* V of all input blocks and M of two output blocks, per tile. */
static size_t tile_bytes(const struct winograd *shape) {
    return POINTS * LANE * ((size_t)shape->in_blocks * winograd_kernels_of(shape)->size + 2 * sizeof(float));
}

/* Rows of tiles that are worked on at a time: so many that the products' groups of tiles come out even where rows are. V and M
 * of more would not stay in the second-level cache, which costs more than reading the weights of 512 channels again. */
static size_t chunk_rows(const struct winograd *shape) {
    size_t step = shape->out_blocks % 2 ? GROUP / 2 : GROUP / 4;
    size_t steps = CHUNK_BYTES / (step * tiles_w(shape) * tile_bytes(shape));
    return (steps < 1 ? 1 : steps) * step;
}

/* Tiles of a chunk, rounded up to what the products take at a time. */
static size_t chunk_tiles(const struct winograd *shape) {
    return round_up(chunk_rows(shape) * tiles_w(shape), GROUP);
}

/* 32-bit words of a block of packed weights. */
static size_t block_words(const struct winograd *shape) {
    return winograd_kernels_of(shape)->words * LANE;
}

size_t winograd_weights(const struct winograd *shape) {
    return round_up((size_t)shape->out_blocks, 2) * (size_t)shape->in_blocks * POINTS * block_words(shape) * sizeof(float);
}

/* Elements from one point of V, or of M, to the next. A cache line more than the tiles: 16 points a multiple of 4 KiB apart would
 * fall on the same lines of the first-level cache. */
static size_t v_step(const struct winograd *shape) {
    return (size_t)shape->in_blocks * chunk_tiles(shape) * LANE + ALIGNMENT / winograd_kernels_of(shape)->size;
}

static size_t m_step(const struct winograd *shape) {
    return 2 * chunk_tiles(shape) * LANE + ALIGNMENT / sizeof(float);
}

size_t winograd_scratch(const struct winograd *shape) {
    return POINTS * (v_step(shape) * winograd_kernels_of(shape)->size + m_step(shape) * sizeof(float));
}

/* Layout: [out blocks / 2][16 points][in blocks][2 out blocks][words of I][16 of O]. */
void winograd_pack(const struct winograd *shape, const struct kernels *kernels, void *to, const float *weights, bool turned) {
    static const enum pack_kind kinds[2][2] = {{PACK_NONE, PACK_TURNED}, {PACK_PAIRS, PACK_TURNED_PAIRS}};
    size_t ins = (size_t)shape->in_blocks, outs = (size_t)shape->out_blocks;
#pragma omp parallel for schedule(static)
    for (size_t index = 0; index < ins * outs; index++) {
        _Alignas(ALIGNMENT) float points[POINTS * BLOCK];
        size_t out = index / ins, in = index % ins, from = turned ? in * outs + out : index;
        for (size_t i = 0; i < LANE; i++)
            winograd_kernels_of(shape)->weights(points + i * LANE, weights + from * 9 * BLOCK + i * LANE, turned);
        for (size_t p = 0; p < POINTS; p++) {
            size_t block = ((out / 2 * POINTS + p) * ins + in) * 2 + out % 2;
            kernels->pack((float *)to + block * block_words(shape), points + p * BLOCK, kinds[shape->bf16][turned]);
        }
    }
}

/* What one thread works on. */
struct work {
    const struct winograd *shape;
    const struct winograd_kernels *kernels;
    const struct winograd_call *call;
    char *v;      /* [16 points][in blocks][tiles][16] */
    float *m;     /* [16 points][2][tiles][16] */
    size_t tiles; /* of a chunk, rounded up */
    size_t v_step, m_step;
};

/* One row of tiles of one input block. */
static void transform_row(const struct work *work, size_t row, size_t tile, size_t block) {
    const struct winograd *s = work->shape;
    size_t rows = winograd_rows(s), at = winograd_image_at(s, row / rows, s->in_blocks, block);
    struct winograd_norm norm;
    work->kernels->input(s, work->v + (block * work->tiles + tile) * LANE * work->kernels->size, work->v_step,
                         (const char *)work->call->x + at, 2 * (int)(row % rows) - 1,
                         winograd_norm_at(work->call->norm, block, &norm));
}

static void finish_row(const struct work *work, size_t row, const float *m, size_t block) {
    const struct winograd *s = work->shape;
    size_t rows = winograd_rows(s), at = winograd_image_at(s, row / rows, s->out_blocks, block);
    const float *bias = work->call->bias ? work->call->bias + block * LANE : NULL;
    work->kernels->output(s, work->call, (char *)work->call->y + at, 2 * (int)(row % rows), m, work->m_step, bias);
}

/* The products of output blocks 2 * pair and, where it exists, the next one at one point. */
static void multiply(const struct work *work, size_t point, size_t tiles, size_t pair) {
    const struct winograd *s = work->shape;
    size_t ins = (size_t)s->in_blocks, words = work->kernels->words;
    bool two = 2 * pair + 1 < (size_t)s->out_blocks;
    const float *u = (const float *)work->call->weights + (pair * POINTS + point) * ins * 2 * block_words(s);
    const float *v = (const float *)(const void *)(work->v + point * work->v_step * work->kernels->size);
    float *m = work->m + point * work->m_step;
    for (size_t t = 0; t < tiles; t += two ? GROUP / 2 : GROUP)
        work->kernels->products(m + t * LANE, v + t * words, u, ins, work->tiles, two);
}

static void run_pair(const struct work *work, size_t row, size_t rows, size_t pair) {
    const struct winograd *s = work->shape;
    for (size_t p = 0; p < POINTS; p++)
        multiply(work, p, rows * tiles_w(s), pair);
    for (size_t k = 0; k < 2 && 2 * pair + k < (size_t)s->out_blocks; k++)
        for (size_t r = 0; r < rows; r++)
            finish_row(work, row + r, work->m + (k * work->tiles + r * tiles_w(s)) * LANE, 2 * pair + k);
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
    const struct winograd_kernels *kernels = winograd_kernels_of(shape);
#pragma omp parallel num_threads(call->threads)
    {
        size_t first, end;
        char *own = (char *)call->scratch + (size_t)omp_get_thread_num() * winograd_scratch(shape);
        struct work work = {.shape = shape, .kernels = kernels, .call = call, .v = own, .tiles = chunk_tiles(shape)};
        work.v_step = v_step(shape);
        work.m_step = m_step(shape);
        work.m = (float *)(void *)(own + POINTS * work.v_step * kernels->size);
        share((size_t)call->n * winograd_rows(shape), omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        run_rows(&work, first, end);
    }
}
