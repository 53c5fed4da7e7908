/* Group normalization (Wu and He 2018) fused with an addition and ReLU behind it. It takes the loops of batch norm image by
 * image: sums come per channel, so that a group may end inside a block of channels. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

enum { COEFFICIENTS = 5 };

struct group_norm {
    double epsilon;
    size_t channels, groups, width;               /* all channels with what pads a block; groups, and the channels of one */
    float *mean, *inverse;                        /* [batch][groups], of the last step; inverse = 1 / sqrt(var + epsilon) */
    float *gamma_used, *beta_used;                /* [channels], of the last forward pass */
    float *coefficients;                          /* [threads][COEFFICIENTS][channels] */
    double *totals;                               /* [threads][2][channels]: the gradients of beta and gamma */
    float *gamma, *beta, *gamma_grad, *beta_grad; /* borrowed */
};

/* One image's COEFFICIENTS per channel, zero for what pads a block: see kernels.h. Forward, center is what is subtracted before
 * summing squares, then the mean. */
struct coefficients {
    float *mean, *scale, *inverse, *b, *c;
};

int group_norm_new(struct backend_plan *plan, struct unit *unit, struct err *err) {
    const struct value *value = &plan->values[unit->node];
    const struct graph_node *node = &plan->nodes[unit->node];
    size_t channels = (size_t)value->blocks * (size_t)plan->lanes, threads = (size_t)plan->backend->threads;
    size_t statistics = round_up((size_t)plan->options.batch * (size_t)node->window.groups, ALIGNMENT / sizeof(float));
    struct group_norm *norm = arena_block(&plan->arena, sizeof *norm, err);
    float *arrays = arena_block(&plan->arena, (2 * statistics + (2 + COEFFICIENTS * threads) * channels) * sizeof *arrays, err);
    double *totals = arena_block(&plan->arena, threads * 2 * channels * sizeof *totals, err);
    if (!norm || !arrays || !totals)
        return -1;
    *norm = (struct group_norm){.epsilon = node->epsilon,
                                .channels = channels,
                                .groups = (size_t)node->window.groups,
                                .width = (size_t)(node->out.c / node->window.groups),
                                .mean = arrays,
                                .inverse = arrays + statistics,
                                .gamma_used = arrays + 2 * statistics,
                                .beta_used = arrays + 2 * statistics + channels,
                                .coefficients = arrays + 2 * statistics + 2 * channels,
                                .totals = totals,
                                .gamma = params_value(plan, unit->node, ROLE_GAMMA),
                                .beta = params_value(plan, unit->node, ROLE_BETA),
                                .gamma_grad = params_gradient(plan, unit->node, ROLE_GAMMA),
                                .beta_grad = params_gradient(plan, unit->node, ROLE_BETA)};
    unit->group_norm = norm;
    norm_need(plan, channels);
    return 0;
}

/* This thread's. */
static struct coefficients coefficients_of(const struct group_norm *norm) {
    size_t n = norm->channels;
    float *at = norm->coefficients + COEFFICIENTS * (size_t)omp_get_thread_num() * n;
    return (struct coefficients){at, at + n, at + 2 * n, at + 3 * n, at + 4 * n};
}

static void spread(float *to, const struct group_norm *norm, size_t group, float value) {
    for (size_t c = group * norm->width; c < (group + 1) * norm->width; c++)
        to[c] = value;
}

/* The first value of each group is near enough to its mean. */
static void find_centers(const struct backend_plan *plan, const struct group_norm *norm, const struct value *value, const void *x,
                         float *centers) {
    size_t lanes = (size_t)plan->lanes;
    for (size_t block = 0; block < (size_t)value->blocks; block++)
        plan->backend->kernels->load(centers + block * lanes, element_of(x, block * value->pixels * lanes, value->bf16), lanes,
                                     value->bf16);
    for (size_t g = 0; g < norm->groups; g++)
        spread(centers, norm, g, centers[g * norm->width]);
}

/* Mean and variance of the groups of one image, from shifted sums. */
static void find_statistics(const struct backend_plan *plan, const struct group_norm *norm, const struct value *value,
                            const void *x, float *ret_mean, float *ret_inverse) {
    double *sums = norm_partial(plan, omp_get_thread_num()), *squares = sums + plan->partial_channels;
    double count = (double)norm->width * (double)value->pixels;
    float *centers = coefficients_of(norm).mean;
    find_centers(plan, norm, value, x, centers);
    memset(sums, 0, 2 * plan->partial_channels * sizeof *sums);
    for (size_t block = 0; block < (size_t)value->blocks; block++) {
        size_t c = block * (size_t)plan->lanes;
        plan->backend->kernels->norm_sums(element_of(x, c * value->pixels, value->bf16), value->pixels, value->bf16, centers + c,
                                          sums + c, squares + c);
    }
    for (size_t g = 0; g < norm->groups; g++) {
        double sum = 0.0, square = 0.0;
        for (size_t c = g * norm->width; c < (g + 1) * norm->width; c++) {
            sum += sums[c];
            square += squares[c];
        }
        double offset = sum / count, var = square / count - offset * offset;
        ret_mean[g] = (float)((double)centers[g * norm->width] + offset);
        ret_inverse[g] = (float)(1.0 / sqrt((var < 0.0 ? 0.0 : var) + norm->epsilon));
    }
}

/* out = scale * (in - mean) + beta, with scale = gamma / sd. */
static struct coefficients set_coefficients(const struct group_norm *norm, size_t image) {
    struct coefficients at = coefficients_of(norm);
    for (size_t g = 0; g < norm->groups; g++) {
        spread(at.mean, norm, g, norm->mean[image * norm->groups + g]);
        spread(at.inverse, norm, g, norm->inverse[image * norm->groups + g]);
        for (size_t c = g * norm->width; c < (g + 1) * norm->width; c++)
            at.scale[c] = norm->gamma_used[c] * norm->inverse[image * norm->groups + g];
    }
    return at;
}

static void apply(const struct backend_plan *plan, const struct unit *unit, size_t image, const void *residual, bool relu,
                  void *dst) {
    const struct value *value = &plan->values[unit->node];
    const struct coefficients at = set_coefficients(unit->group_norm, image);
    const void *x = plan_value(plan, unit->inputs[0]);
    for (size_t block = 0; block < (size_t)value->blocks; block++) {
        size_t c = block * (size_t)plan->lanes, row = image * value->image + c * value->pixels;
        plan->backend->kernels->norm_apply(element(dst, row, value->bf16), element_of(x, row, value->bf16),
                                           element_of(residual, row, value->bf16), value->pixels, value->bf16, at.mean + c,
                                           at.scale + c, unit->group_norm->beta_used + c, relu);
    }
}

void group_norm_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    struct group_norm *norm = unit->group_norm;
    const struct value *value = &plan->values[unit->node];
    const void *x = plan_value(plan, unit->inputs[0]), *residual = unit->residual ? plan_value(plan, unit->inputs[1]) : NULL;
    memcpy(norm->gamma_used, norm->gamma, norm->channels * sizeof *norm->gamma_used);
    memcpy(norm->beta_used, norm->beta, norm->channels * sizeof *norm->beta_used);
#pragma omp parallel for schedule(static)
    for (size_t image = 0; image < (size_t)n; image++) {
        find_statistics(plan, norm, value, element_of(x, image * value->image, value->bf16), norm->mean + image * norm->groups,
                        norm->inverse + image * norm->groups);
        apply(plan, unit, image, residual, unit->relu, plan_value(plan, unit->out));
    }
}

void group_norm_recompute(struct backend_plan *plan, const struct unit *unit, int n, bool with_residual, void *dst) {
    const void *residual = with_residual ? plan_value(plan, unit->inputs[1]) : NULL;
#pragma omp parallel for schedule(static)
    for (size_t image = 0; image < (size_t)n; image++)
        apply(plan, unit, image, residual, false, dst);
}

/* Row number block of an image in the backward pass. */
static struct norm_row row_at(const struct backend_plan *plan, const struct unit *unit, const struct coefficients *at,
                              size_t image, size_t block) {
    const struct value *value = &plan->values[unit->out];
    size_t c = block * (size_t)plan->lanes;
    struct norm_row row = norm_row_tensors(plan, unit, image * value->image + c * value->pixels);
    row.mean = at->mean + c;
    row.scale = at->scale + c;
    row.gain = unit->group_norm->gamma_used + c;
    row.a = at->inverse + c;
    row.b = at->b + c;
    row.c = at->c + c;
    row.shift = unit->group_norm->beta_used + c;
    row.sum_g = norm_partial(plan, omp_get_thread_num()) + c;
    row.sum_gx = row.sum_g + plan->partial_channels;
    return row;
}

/* With x' = (x - mean) / sd and h = gamma g: d beta = sum g, d gamma = sum g x', d x = (h - mean(h) - x' mean(h x')) / sd. */
static void finish_image(const struct backend_plan *plan, const struct group_norm *norm, size_t image, double count,
                         const struct coefficients *at) {
    const double *sums_g = norm_partial(plan, omp_get_thread_num()), *sums_gx = sums_g + plan->partial_channels;
    double *beta = norm->totals + 2 * (size_t)omp_get_thread_num() * norm->channels, *gamma = beta + norm->channels;
    for (size_t g = 0; g < norm->groups; g++) {
        double inverse = (double)norm->inverse[image * norm->groups + g], sum_h = 0.0, sum_hx = 0.0;
        for (size_t c = g * norm->width; c < (g + 1) * norm->width; c++) {
            sum_h += (double)norm->gamma_used[c] * sums_g[c];
            sum_hx += (double)norm->gamma_used[c] * sums_gx[c] * inverse;
            beta[c] += sums_g[c];
            gamma[c] += sums_gx[c] * inverse;
        }
        spread(at->b, norm, g, (float)(sum_h / count));
        spread(at->c, norm, g, (float)(inverse * sum_hx / count));
    }
}

static void backward_image(const struct backend_plan *plan, const struct unit *unit, size_t image) {
    const struct value *value = &plan->values[unit->out];
    const struct coefficients at = set_coefficients(unit->group_norm, image);
    memset(norm_partial(plan, omp_get_thread_num()), 0, 2 * plan->partial_channels * sizeof(double));
    for (size_t block = 0; block < (size_t)value->blocks; block++) {
        struct norm_row row = row_at(plan, unit, &at, image, block);
        plan->backend->kernels->norm_back_sums(&row);
    }
    finish_image(plan, unit->group_norm, image, (double)unit->group_norm->width * (double)value->pixels, &at);
    for (size_t block = 0; block < (size_t)value->blocks && unit->input_grads[0] != NO_BUFFER; block++) {
        struct norm_row row = row_at(plan, unit, &at, image, block);
        plan->backend->kernels->norm_back_apply(&row);
    }
}

void group_norm_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    struct group_norm *norm = unit->group_norm;
    size_t threads = (size_t)plan->backend->threads;
    memset(norm->totals, 0, threads * 2 * norm->channels * sizeof *norm->totals);
#pragma omp parallel for schedule(static)
    for (size_t image = 0; image < (size_t)n; image++)
        backward_image(plan, unit, image);
    for (size_t c = 0; c < norm->groups * norm->width; c++) {
        double beta = 0.0, gamma = 0.0;
        for (size_t t = 0; t < threads; t++) {
            beta += norm->totals[2 * t * norm->channels + c];
            gamma += norm->totals[(2 * t + 1) * norm->channels + c];
        }
        norm->beta_grad[c] = (float)beta;
        norm->gamma_grad[c] = (float)gamma;
    }
}
