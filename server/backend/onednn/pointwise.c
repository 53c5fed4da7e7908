/* Ops that work on one element at a time: add, activations, dropout, and the summing of gradients. */
#include <math.h>
#include <omp.h>

#include "common/rng.h"
#include "server/backend/onednn/private.h"

static const float leaky_slope = 0.01f; /* PyTorch's default, as ELU's alpha of 1 */

/* This thread's stretch of count elements, in whole cache lines. */
static void stretch(size_t count, size_t *ret_first, size_t *ret_n) {
    size_t lines = round_up(count, ALIGNMENT) / ALIGNMENT, end;
    share(lines, omp_get_thread_num(), omp_get_num_threads(), ret_first, &end);
    *ret_first *= ALIGNMENT;
    end *= ALIGNMENT;
    *ret_n = *ret_first >= count ? 0 : (end > count ? count : end) - *ret_first;
}

void add_forward(struct backend_plan *plan, const struct unit *unit, int n, bool relu, void *dst) {
    const struct value *value = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        void *to = element(dst, at, value->bf16);
        const void *sum = element_of(plan_value(plan, unit->inputs[0]), at, value->bf16);
        for (int k = 1; k < unit->inputs_n; k++) {
            bool last = k == unit->inputs_n - 1;
            kernels->add(to, sum, element_of(plan_value(plan, unit->inputs[k]), at, value->bf16), count, value->bf16,
                         last && relu);
            sum = to;
        }
        if (unit->inputs_n == 1)
            kernels->add(to, sum, NULL, count, value->bf16, relu);
    }
}

void add_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    const void *a = plan_data(plan, unit->grads[0]), *b = plan_data(plan, unit->grads[1]);
    const void *y = unit->relu ? plan_value(plan, unit->out) : NULL;
    if (!b && !y)
        return; /* the inputs' gradients are this one's buffer */
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        plan->backend->kernels->mask_sum(element(plan_data(plan, unit->masked), at, value->bf16), element_of(a, at, value->bf16),
                                         element_of(b, at, value->bf16), element_of(y, at, value->bf16), count, value->bf16);
    }
}

void sum_step(struct backend_plan *plan, const struct step *step, int n) {
    const struct value *value = &plan->values[step->value];
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        plan->backend->kernels->mask_sum(element(plan_data(plan, step->dst), at, value->bf16),
                                         element_of(plan_data(plan, step->a), at, value->bf16),
                                         element_of(plan_data(plan, step->b), at, value->bf16), NULL, count, value->bf16);
    }
}

static float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

/* The distribution function of the standard normal distribution. */
static float normal_cdf(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678f));
}

static float act_value(enum spec_activation kind, float x) {
    switch (kind) {
    case ACTIVATION_RELU:
        return x < 0.0f ? 0.0f : x; /* so that a NaN stays one */
    case ACTIVATION_LEAKY_RELU:
        return x > 0.0f ? x : leaky_slope * x;
    case ACTIVATION_ELU: /* Clevert et al. 2015 */
        return x > 0.0f ? x : expm1f(x);
    case ACTIVATION_GELU: /* Hendrycks and Gimpel 2016, exact form */
        return x * normal_cdf(x);
    case ACTIVATION_SILU: /* Elfwing et al. 2017 */
        return x * sigmoid(x);
    case ACTIVATION_SIGMOID:
        return sigmoid(x);
    case ACTIVATION_TANH:
        return tanhf(x);
    case ACTIVATION_IDENTITY:
        return x;
    }
    return x;
}

static float act_derivative(enum spec_activation kind, float x) {
    float s;
    switch (kind) {
    case ACTIVATION_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case ACTIVATION_LEAKY_RELU:
        return x > 0.0f ? 1.0f : leaky_slope;
    case ACTIVATION_ELU:
        return x > 0.0f ? 1.0f : expf(x);
    case ACTIVATION_GELU:
        return normal_cdf(x) + x * 0.39894228f * expf(-0.5f * x * x);
    case ACTIVATION_SILU:
        s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    case ACTIVATION_SIGMOID:
        s = sigmoid(x);
        return s * (1.0f - s);
    case ACTIVATION_TANH:
        s = tanhf(x);
        return 1.0f - s * s;
    case ACTIVATION_IDENTITY:
        return 1.0f;
    }
    return 1.0f;
}

enum { PIECE = 512 }; /* elements brought to f32 at a time */

/* Channels beyond the last stay zero: f(0) is not 0 for the sigmoid. */
static void clear_padding(const struct backend_plan *plan, const struct value *value, float *piece, size_t at, size_t n) {
    size_t lanes = (size_t)plan->lanes, block = at / lanes / value->pixels % (size_t)value->blocks;
    for (size_t k = 0; k < n; k++) {
        size_t c = block * lanes + k % lanes;
        if (c >= (size_t)value->c)
            piece[k] = 0.0f;
    }
}

/* A stretch of one row, so that all of it is of one channel block. */
struct piece {
    size_t at, n;
};

static struct piece piece_of(const struct backend_plan *plan, const struct value *value, size_t index) {
    size_t size = value->pixels * (size_t)plan->lanes, pieces = (size + PIECE - 1) / PIECE, start = index % pieces * PIECE;
    return (struct piece){index / pieces * size + start, size - start < PIECE ? size - start : PIECE};
}

static size_t pieces_n(const struct backend_plan *plan, const struct value *value, int n) {
    size_t size = value->pixels * (size_t)plan->lanes;
    return (size_t)n * (size_t)value->blocks * ((size + PIECE - 1) / PIECE);
}

void act_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
    enum spec_activation kind = plan->nodes[unit->node].activation;
    const void *src = plan_value(plan, unit->inputs[0]);
    void *dst = plan_value(plan, unit->out);
    size_t pieces = pieces_n(plan, value, n);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < pieces; i++) {
        _Alignas(ALIGNMENT) float x[PIECE];
        struct piece piece = piece_of(plan, value, i);
        void *to = element(dst, piece.at, value->bf16);
        if (kind == ACTIVATION_RELU) {
            kernels->add(to, element_of(src, piece.at, value->bf16), NULL, piece.n, value->bf16, true);
            continue;
        }
        kernels->load(x, element_of(src, piece.at, value->bf16), piece.n, value->bf16);
        for (size_t k = 0; k < piece.n; k++)
            x[k] = act_value(kind, x[k]);
        clear_padding(plan, value, x, piece.at, piece.n);
        kernels->store(to, x, piece.n, value->bf16);
    }
}

void act_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
    enum spec_activation kind = plan->nodes[unit->node].activation;
    const void *src = plan_value(plan, unit->inputs[0]), *y = plan_value(plan, unit->out);
    const void *a = plan_data(plan, unit->grads[0]), *b = plan_data(plan, unit->grads[1]);
    void *dst = plan_data(plan, unit->input_grads[0]);
    size_t pieces = pieces_n(plan, value, n);
    if (!dst)
        return;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < pieces; i++) {
        _Alignas(ALIGNMENT) float x[PIECE], g[PIECE];
        struct piece piece = piece_of(plan, value, i);
        size_t at = piece.at;
        void *to = element(dst, at, value->bf16);
        kernels->mask_sum(to, element_of(a, at, value->bf16), element_of(b, at, value->bf16),
                          kind == ACTIVATION_RELU ? element_of(y, at, value->bf16) : NULL, piece.n, value->bf16);
        if (kind == ACTIVATION_RELU)
            continue;
        kernels->load(x, element_of(src, at, value->bf16), piece.n, value->bf16);
        kernels->load(g, to, piece.n, value->bf16);
        for (size_t k = 0; k < piece.n; k++)
            g[k] *= act_derivative(kind, x[k]);
        kernels->store(to, g, piece.n, value->bf16);
    }
}

/* One row: four neighbours in N,C,H,W order share the words of one block of random numbers. */
static void drop_row(const struct backend_plan *plan, const struct value *value, const struct backend_batch *batch, int node,
                     size_t row, float *x) {
    size_t lanes = (size_t)plan->lanes, image = row / (size_t)value->blocks, block = row % (size_t)value->blocks;
    float rate = (float)plan->nodes[node].rate, keep = (float)(1.0 / (1.0 - plan->nodes[node].rate));
    for (size_t c = block * lanes; c < (block + 1) * lanes && c < (size_t)value->c; c++) {
        uint32_t words[4], drawn = UINT32_MAX;
        for (size_t p = 0; p < value->pixels; p++) {
            size_t k = c * value->pixels + p;
            if ((uint32_t)(k / 4) != drawn) {
                drawn = (uint32_t)(k / 4);
                rng_block(batch->seed, RNG_DROPOUT, batch->epoch, batch->samples[image], ((uint32_t)node << 20) ^ drawn, words);
            }
            x[p * lanes + c % lanes] *= rng_unit(words[k % 4]) < rate ? 0.0f : keep;
        }
    }
}

void dropout_run(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch, void *dst,
                 const void *src, bool training) {
    const struct value *value = &plan->values[unit->out];
    size_t rows = (size_t)batch->n * (size_t)value->blocks, size = value->pixels * (size_t)plan->lanes;
    const struct kernels *kernels = plan->backend->kernels;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        float *x = plan->rows + 3 * (size_t)omp_get_thread_num() * plan->row_size;
        kernels->load(x, element_of(src, r * size, value->bf16), size, value->bf16);
        if (training)
            drop_row(plan, value, batch, unit->node, r, x);
        kernels->store(element(dst, r * size, value->bf16), x, size, value->bf16);
    }
}
