/* Pools and the strided shortcut, row by row: a row (one channel block of one image) is brought to f32, handled lane by lane and
 * stored. Padding never counts: the maximum is over, and the mean divides by, the pixels of the window inside the image. */
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

/* The part of a window inside the image: rows y0 <= y < y1, columns x0 <= x < x1; never empty. */
struct window {
    int y0, y1, x0, x1;
};

static struct window window_at(const struct graph_node *node, const struct value *in, int y, int x) {
    int top = y * node->window.stride_h - node->window.pad_h, left = x * node->window.stride_w - node->window.pad_w;
    int bottom = top + node->window.kernel_h, right = left + node->window.kernel_w;
    return (struct window){top < 0 ? 0 : top, bottom > in->h ? in->h : bottom, left < 0 ? 0 : left,
                           right > in->w ? in->w : right};
}

/* Index of the first largest pixel of one lane; a NaN wins, as in PyTorch. */
static size_t largest(const float *in, const struct value *value, struct window window, size_t lanes) {
    size_t best = ((size_t)window.y0 * (size_t)value->w + (size_t)window.x0) * lanes;
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++) {
            size_t at = ((size_t)y * (size_t)value->w + (size_t)x) * lanes;
            if (in[at] > in[best] || in[at] != in[at])
                best = at;
        }
    return best;
}

/* What is done with one output pixel: window of the input, row of the input, row of the output or its gradient, index of the
 * pixel's first lane there, row of the input's gradient. */
typedef void pool_visit(const struct value *in, struct window window, const struct row_set *rows, size_t pixel, size_t lanes);

static void max_pixel(const struct value *in, struct window window, const struct row_set *rows, size_t pixel, size_t lanes) {
    for (size_t l = 0; l < lanes; l++)
        rows->out[pixel + l] = rows->in[l + largest(rows->in + l, in, window, lanes)];
}

static void max_pixel_back(const struct value *in, struct window window, const struct row_set *rows, size_t pixel, size_t lanes) {
    for (size_t l = 0; l < lanes; l++)
        rows->grad[l + largest(rows->in + l, in, window, lanes)] += rows->out[pixel + l];
}

static float window_size(struct window window) {
    return (float)(window.y1 - window.y0) * (float)(window.x1 - window.x0);
}

static void avg_pixel(const struct value *in, struct window window, const struct row_set *rows, size_t pixel, size_t lanes) {
    float sum[16] = {0};
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++)
            for (size_t l = 0; l < lanes; l++)
                sum[l] += rows->in[((size_t)y * (size_t)in->w + (size_t)x) * lanes + l];
    for (size_t l = 0; l < lanes; l++)
        rows->out[pixel + l] = sum[l] / window_size(window);
}

static void avg_pixel_back(const struct value *in, struct window window, const struct row_set *rows, size_t pixel, size_t lanes) {
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++)
            for (size_t l = 0; l < lanes; l++)
                rows->grad[((size_t)y * (size_t)in->w + (size_t)x) * lanes + l] += rows->out[pixel + l] / window_size(window);
}

static void visit_row(const struct backend_plan *plan, const struct unit *unit, const struct row_set *rows, pool_visit *visit) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t lanes = (size_t)plan->lanes, pixel = 0;
    for (int y = 0; y < out->h; y++)
        for (int x = 0; x < out->w; x++, pixel += lanes)
            visit(in, window_at(&plan->nodes[unit->node], in, y, x), rows, pixel, lanes);
}

static void pool_forward(struct backend_plan *plan, const struct unit *unit, int n, pool_visit *visit) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)in->blocks;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        struct row_set rows = my_rows(plan);
        load_row(plan, rows.in, plan_value(plan, unit->inputs[0]), in, r);
        visit_row(plan, unit, &rows, visit);
        store_row(plan, plan_value(plan, unit->out), rows.out, out, r);
    }
}

static void pool_backward(struct backend_plan *plan, const struct unit *unit, int n, pool_visit *visit) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t rows_n = (size_t)n * (size_t)in->blocks;
    if (unit->input_grads[0] == NO_BUFFER)
        return;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows_n; r++) {
        struct row_set rows = my_rows(plan);
        load_row(plan, rows.in, plan_value(plan, unit->inputs[0]), in, r);
        load_row(plan, rows.out, plan_data(plan, unit->grads[0]), out, r);
        memset(rows.grad, 0, in->pixels * (size_t)plan->lanes * sizeof(float));
        visit_row(plan, unit, &rows, visit);
        store_row(plan, plan_data(plan, unit->input_grads[0]), rows.grad, in, r);
    }
}

void max_pool_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    pool_forward(plan, unit, n, max_pixel);
}

void max_pool_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    pool_backward(plan, unit, n, max_pixel_back);
}

void avg_pool_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    pool_forward(plan, unit, n, avg_pixel);
}

void avg_pool_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    pool_backward(plan, unit, n, avg_pixel_back);
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
