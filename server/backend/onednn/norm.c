/* Batch normalization (Ioffe and Szegedy 2015) fused with an addition and ReLU behind it. Statistics, gamma and beta are f32 in
 * every precision; sums go from f32 runs of 256 pixels into double, thread by thread in one fixed order. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

struct norm {
    double epsilon, momentum;
    float *mean, *inverse;    /* of the last step: the batch's, or the running ones in evaluation */
    float *scale, *beta_used; /* y = scale * (x - mean) + beta_used, of the last forward pass */
    float *center;            /* what is subtracted before summing squares, so that a large mean costs no digits */
    float *a, *b, *c;         /* of the backward pass: see kernels.h */
    float *gamma, *beta, *running_mean, *running_var, *gamma_grad, *beta_grad; /* borrowed */
};

int norm_new(struct backend_plan *plan, struct unit *unit, struct err *err) {
    size_t channels = (size_t)plan->values[unit->node].blocks * (size_t)plan->lanes;
    const struct graph_node *node = &plan->nodes[unit->node];
    struct norm *norm = arena_block(&plan->arena, sizeof *norm, err);
    float *arrays = arena_block(&plan->arena, 8 * channels * sizeof(float), err);
    if (!norm || !arrays)
        return -1;
    float **places[] = {&norm->mean, &norm->inverse, &norm->scale, &norm->beta_used, &norm->center, &norm->a, &norm->b, &norm->c};
    for (size_t i = 0; i < 8; i++)
        *places[i] = arrays + i * channels;
    norm->epsilon = node->epsilon;
    norm->momentum = node->momentum;
    norm->gamma = params_value(plan, unit->node, ROLE_GAMMA);
    norm->beta = params_value(plan, unit->node, ROLE_BETA);
    norm->running_mean = params_value(plan, unit->node, ROLE_RUNNING_MEAN);
    norm->running_var = params_value(plan, unit->node, ROLE_RUNNING_VAR);
    norm->gamma_grad = params_gradient(plan, unit->node, ROLE_GAMMA);
    norm->beta_grad = params_gradient(plan, unit->node, ROLE_BETA);
    unit->norm = norm;
    norm_need(plan, channels);
    return 0;
}

void norm_need(struct backend_plan *plan, size_t channels) {
    if (plan->partial_channels < channels)
        plan->partial_channels = channels;
}

double *norm_partial(const struct backend_plan *plan, int t) {
    return plan->partial + 2 * (size_t)t * plan->partial_channels;
}

/* Adds up channel c over the threads in their order. */
static void total(const struct backend_plan *plan, int threads, size_t c, double *ret_sum, double *ret_product) {
    *ret_sum = *ret_product = 0.0;
    for (int t = 0; t < threads; t++) {
        *ret_sum += norm_partial(plan, t)[c];
        *ret_product += norm_partial(plan, t)[plan->partial_channels + c];
    }
}

static void set_scale(struct norm *norm, size_t c, double mean, double var) {
    double inverse = 1.0 / sqrt(var + norm->epsilon);
    norm->mean[c] = (float)mean;
    norm->inverse[c] = (float)inverse;
    norm->scale[c] = (float)((double)norm->gamma[c] * inverse);
    norm->beta_used[c] = norm->beta[c];
}

/* Mean and variance of the batch from the shifted sums; the running variance takes the unbiased one, as PyTorch does. */
static void finish_statistics(const struct backend_plan *plan, struct norm *norm, size_t c, int threads, double count) {
    double sum, square;
    total(plan, threads, c, &sum, &square);
    double offset = sum / count, var = square / count - offset * offset, mean = (double)norm->center[c] + offset;
    if (var < 0.0)
        var = 0.0;
    double unbiased = count > 1.0 ? var * count / (count - 1.0) : var;
    norm->running_mean[c] = (float)((1.0 - norm->momentum) * (double)norm->running_mean[c] + norm->momentum * mean);
    norm->running_var[c] = (float)((1.0 - norm->momentum) * (double)norm->running_var[c] + norm->momentum * unbiased);
    set_scale(norm, c, mean, var);
}

/* The rows of a thread: row r is block r % blocks of image r / blocks. */
struct rows {
    size_t first, end, blocks, size; /* size: elements of a row */
    bool bf16;
};

static struct rows rows_of(const struct backend_plan *plan, const struct value *value, int n) {
    struct rows rows = {.blocks = (size_t)value->blocks, .size = value->pixels * (size_t)plan->lanes, .bf16 = value->bf16};
    share((size_t)n * rows.blocks, omp_get_thread_num(), omp_get_num_threads(), &rows.first, &rows.end);
    return rows;
}

static void sum_rows(const struct backend_plan *plan, const struct norm *norm, const struct value *value, const void *x, int n) {
    struct rows rows = rows_of(plan, value, n);
    double *sum = norm_partial(plan, omp_get_thread_num()), *square = sum + plan->partial_channels;
    memset(sum, 0, 2 * plan->partial_channels * sizeof *sum);
    for (size_t r = rows.first; r < rows.end; r++) {
        size_t c = r % rows.blocks * (size_t)plan->lanes;
        plan->backend->kernels->norm_sums(element_of(x, r * rows.size, rows.bf16), value->pixels, rows.bf16, norm->center + c,
                                          sum + c, square + c);
    }
}

/* Rows in falling order: the last ones summed are still in the cache. */
static void apply_rows(const struct backend_plan *plan, const struct norm *norm, const struct value *value, void *y,
                       const void *x, const void *residual, bool relu, int n) {
    struct rows rows = rows_of(plan, value, n);
    for (size_t r = rows.end; r-- > rows.first;) {
        size_t c = r % rows.blocks * (size_t)plan->lanes, at = r * rows.size;
        plan->backend->kernels->norm_apply(element(y, at, rows.bf16), element_of(x, at, rows.bf16),
                                           element_of(residual, at, rows.bf16), value->pixels, rows.bf16, norm->mean + c,
                                           norm->scale + c, norm->beta_used + c, relu);
    }
}

void norm_forward(struct backend_plan *plan, struct unit *unit, int n, bool training) {
    struct norm *norm = unit->norm;
    const struct value *value = &plan->values[unit->inputs[0]];
    const void *x = plan_value(plan, unit->inputs[0]);
    const void *residual = unit->residual ? plan_value(plan, unit->inputs[1]) : NULL;
    void *y = plan_value(plan, unit->out);
    double count = (double)n * (double)value->pixels;
    for (int block = 0; block < value->blocks && training; block++) /* the first pixel is near enough to the mean */
        plan->backend->kernels->load(norm->center + block * plan->lanes,
                                     element_of(x, (size_t)block * value->pixels * (size_t)plan->lanes, value->bf16),
                                     (size_t)plan->lanes, value->bf16);
#pragma omp parallel
    {
        if (training)
            sum_rows(plan, norm, value, x, n);
#pragma omp barrier
#pragma omp for schedule(static)
        for (size_t c = 0; c < (size_t)value->c; c++)
            if (training)
                finish_statistics(plan, norm, c, omp_get_num_threads(), count);
            else
                set_scale(norm, c, (double)norm->running_mean[c], (double)norm->running_var[c]);
        if (!unit->deferred)
            apply_rows(plan, norm, value, y, x, residual, unit->relu, n);
    }
}

struct norm_row norm_row_tensors(const struct backend_plan *plan, const struct unit *unit, size_t at) {
    const struct value *value = &plan->values[unit->out];
    bool written = unit->masked != NO_BUFFER && (unit->relu || unit->grads[1] != NO_BUFFER);
    return (struct norm_row){.g1 = element_of(plan_data(plan, unit->grads[0]), at, value->bf16),
                             .g2 = element_of(plan_data(plan, unit->grads[1]), at, value->bf16),
                             .x = element_of(plan_value(plan, unit->inputs[0]), at, value->bf16),
                             .y = element_of(plan_value(plan, unit->out), at, value->bf16),
                             .masked = written ? element(plan_data(plan, unit->masked), at, value->bf16) : NULL,
                             .out = element(plan_data(plan, unit->input_grads[0]), at, value->bf16),
                             .pixels = value->pixels,
                             .bf16 = value->bf16,
                             .mask = !unit->relu      ? MASK_NONE
                                     : unit->residual ? MASK_Y
                                                      : MASK_X};
}

static struct norm_row row_at(const struct backend_plan *plan, const struct unit *unit, const struct rows *rows, size_t r) {
    const struct norm *norm = unit->norm;
    size_t c = r % rows->blocks * (size_t)plan->lanes;
    struct norm_row row = norm_row_tensors(plan, unit, r * rows->size);
    row.mean = norm->mean + c;
    row.scale = norm->scale + c;
    row.shift = norm->beta_used + c;
    row.a = norm->a + c;
    row.b = norm->b + c;
    row.c = norm->c + c;
    row.sum_g = norm_partial(plan, omp_get_thread_num()) + c;
    row.sum_gx = row.sum_g + plan->partial_channels;
    return row;
}

/* With x' = (x - mean) / sd: d beta = sum g, d gamma = sum g x', d x = gamma / sd * (g - mean(g) - x' mean(g x')). */
static void finish_gradients(const struct backend_plan *plan, struct norm *norm, size_t c, int threads, double count) {
    double sum_g, sum_gx, inverse = (double)norm->inverse[c], scale = (double)norm->gamma[c] * inverse;
    total(plan, threads, c, &sum_g, &sum_gx);
    norm->gamma_grad[c] = (float)(sum_gx * inverse);
    norm->beta_grad[c] = (float)sum_g;
    norm->a[c] = (float)scale;
    norm->b[c] = (float)(sum_g / count);
    norm->c[c] = (float)(inverse * inverse * sum_gx / count);
}

void norm_backward(struct backend_plan *plan, struct unit *unit, int n) {
    struct norm *norm = unit->norm;
    const struct value *value = &plan->values[unit->out];
    double count = (double)n * (double)value->pixels;
#pragma omp parallel
    {
        struct rows rows = rows_of(plan, value, n);
        memset(norm_partial(plan, omp_get_thread_num()), 0, 2 * plan->partial_channels * sizeof(double));
        for (size_t r = rows.first; r < rows.end; r++) {
            struct norm_row row = row_at(plan, unit, &rows, r);
            plan->backend->kernels->norm_back_sums(&row);
        }
#pragma omp barrier
#pragma omp for schedule(static)
        for (size_t c = 0; c < (size_t)value->c; c++)
            finish_gradients(plan, norm, c, omp_get_num_threads(), count);
        for (size_t r = rows.end; r-- > rows.first && unit->input_grads[0] != NO_BUFFER;) {
            struct norm_row row = row_at(plan, unit, &rows, r);
            plan->backend->kernels->norm_back_apply(&row);
        }
    }
}

void norm_recompute(struct backend_plan *plan, const struct unit *unit, int n, int node, void *dst) {
    bool whole = node == unit->out, added = unit->residual && (whole || plan->nodes[node].op == OP_ADD);
    const void *residual = added ? plan_value(plan, unit->inputs[1]) : NULL;
#pragma omp parallel
    apply_rows(plan, unit->norm, &plan->values[unit->node], dst, plan_value(plan, unit->inputs[0]), residual, whole && unit->relu,
               n);
}

struct winograd_norm norm_of(const struct unit *unit) {
    const struct norm *norm = unit->norm;
    return (struct winograd_norm){.mean = norm->mean, .scale = norm->scale, .shift = norm->beta_used, .relu = unit->relu};
}
