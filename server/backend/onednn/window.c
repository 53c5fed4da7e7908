/* Pools and the strided shortcut, row by row: a row is one channel block of one image. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* The f32 rows of this thread: the input's, the output's and the gradient's. */
struct row_set {
    float *in, *out, *grad;
};

static struct row_set my_rows(const struct backend_plan *plan) {
    float *rows = plan->rows + 3 * (size_t)omp_get_thread_num() * plan->row_size;
    return (struct row_set){rows, rows + plan->row_size, rows + 2 * plan->row_size};
}

static void load_row(const struct backend_plan *plan, float *to, const void *from, const struct value *value, size_t row) {
    size_t size = value->pixels * (size_t)plan->lanes;
    plan->backend->kernels->load(to, element_of(from, row * size, value->bf16), size, value->bf16);
}

static void store_row(const struct backend_plan *plan, void *to, const float *from, const struct value *value, size_t row) {
    size_t size = value->pixels * (size_t)plan->lanes;
    plan->backend->kernels->store(element(to, row * size, value->bf16), from, size, value->bf16);
}

static struct pool pool_of(const struct backend_plan *plan, const struct unit *unit) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    const struct graph_node *node = &plan->nodes[unit->node];
    return (struct pool){.in_h = in->h,
                         .in_w = in->w,
                         .out_h = out->h,
                         .out_w = out->w,
                         .kernel_h = node->window.kernel_h,
                         .kernel_w = node->window.kernel_w,
                         .stride_h = node->window.stride_h,
                         .stride_w = node->window.stride_w,
                         .pad_h = node->window.pad_h,
                         .pad_w = node->window.pad_w};
}

void pool_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
    const struct pool pool = pool_of(plan, unit);
    size_t rows_n = (size_t)n * (size_t)in->blocks, lanes = (size_t)plan->lanes;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++)
        (unit->op == OP_POOL_MAX ? kernels->max_pool : kernels->avg_pool)(
            element(plan_value(plan, unit->out), r * out->pixels * lanes, out->bf16),
            element_of(plan_value(plan, unit->inputs[0]), r * in->pixels * lanes, in->bf16), in->bf16, &pool);
}

void pool_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
    const struct pool pool = pool_of(plan, unit);
    size_t rows_n = (size_t)n * (size_t)in->blocks, lanes = (size_t)plan->lanes;
    if (unit->input_grads[0] == NO_BUFFER)
        return;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        float *grad = my_rows(plan).grad;
        memset(grad, 0, in->pixels * lanes * sizeof *grad);
        (unit->op == OP_POOL_MAX ? kernels->max_pool_back : kernels->avg_pool_back)(
            grad, element_of(plan_value(plan, unit->inputs[0]), r * in->pixels * lanes, in->bf16),
            element_of(plan_data(plan, unit->grads[0]), r * out->pixels * lanes, out->bf16), in->bf16, &pool);
        store_row(plan, plan_data(plan, unit->input_grads[0]), grad, in, r);
    }
}

void gap_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)in->blocks, lanes = (size_t)plan->lanes;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        struct row_set rows = my_rows(plan);
        double sum[16] = {0};
        load_row(plan, rows.in, plan_value(plan, unit->inputs[0]), in, r);
        for (size_t p = 0; p < in->pixels; p++)
            for (size_t l = 0; l < lanes; l++)
                sum[l] += (double)rows.in[p * lanes + l];
        for (size_t l = 0; l < lanes; l++)
            rows.out[l] = (float)(sum[l] / (double)in->pixels);
        store_row(plan, plan_value(plan, unit->out), rows.out, out, r);
    }
}

void gap_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)in->blocks, lanes = (size_t)plan->lanes;
    if (unit->input_grads[0] == NO_BUFFER)
        return;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        struct row_set rows = my_rows(plan);
        load_row(plan, rows.out, plan_data(plan, unit->grads[0]), out, r);
        for (size_t p = 0; p < in->pixels; p++)
            for (size_t l = 0; l < lanes; l++)
                rows.grad[p * lanes + l] = rows.out[l] / (float)in->pixels;
        store_row(plan, plan_data(plan, unit->input_grads[0]), rows.grad, in, r);
    }
}

/* Index of the first lane of the input pixel that output pixel (y, x) copies, in its row. */
static size_t shortcut_source(const struct backend_plan *plan, const struct unit *unit, int y, int x) {
    const struct value *in = &plan->values[unit->inputs[0]];
    const struct graph_node *node = &plan->nodes[unit->node];
    return ((size_t)(y * node->window.stride_h) * (size_t)in->w + (size_t)(x * node->window.stride_w)) * (size_t)plan->lanes;
}

/* Blocks beyond the input's are new, zero channels; so are lanes beyond its last channel. */
void shortcut_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)out->blocks, blocks = (size_t)out->blocks, bytes = out->bf16 ? 2 : 4;
    size_t lanes = (size_t)plan->lanes;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        size_t in_row = r / blocks * (size_t)in->blocks + r % blocks;
        char *to = element(plan_value(plan, unit->out), r * out->pixels * lanes, out->bf16);
        const char *from = element_of(plan_value(plan, unit->inputs[0]), in_row * in->pixels * lanes, in->bf16);
        if (r % blocks >= (size_t)in->blocks) {
            memset(to, 0, out->pixels * lanes * bytes);
            continue;
        }
        for (int y = 0; y < out->h; y++)
            for (int x = 0; x < out->w; x++, to += lanes * bytes)
                memcpy(to, from + shortcut_source(plan, unit, y, x) * bytes, lanes * bytes);
    }
}

void shortcut_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)in->blocks, blocks = (size_t)in->blocks, lanes = (size_t)plan->lanes;
    if (unit->input_grads[0] == NO_BUFFER)
        return;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        struct row_set rows = my_rows(plan);
        size_t left = (size_t)in->c - r % blocks * lanes, channels = left < lanes ? left : lanes;
        load_row(plan, rows.out, plan_data(plan, unit->grads[0]), out, r / blocks * (size_t)out->blocks + r % blocks);
        memset(rows.grad, 0, in->pixels * lanes * sizeof(float));
        const float *from = rows.out;
        for (int y = 0; y < out->h; y++)
            for (int x = 0; x < out->w; x++, from += lanes)
                memcpy(rows.grad + shortcut_source(plan, unit, y, x), from, channels * sizeof(float));
        store_row(plan, plan_data(plan, unit->input_grads[0]), rows.grad, in, r);
    }
}
