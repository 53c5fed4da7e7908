/* Pools. Padding never counts: the maximum is over, and the mean divides by, the pixels of the window inside the image. */
#include "server/backend/ref/ref.h"

/* The part of a window inside the image: rows y0 <= y < y1, columns x0 <= x < x1; never empty. */
struct window {
    int y0, y1, x0, x1;
};

static struct window window_at(const struct ref_call *call, int y, int x) {
    const struct graph_node *node = call->node;
    struct graph_shape in = call->in_shape[0];
    int top = y * node->window.stride_h - node->window.pad_h, left = x * node->window.stride_w - node->window.pad_w;
    int bottom = top + node->window.kernel_h, right = left + node->window.kernel_w;
    return (struct window){top < 0 ? 0 : top, bottom > in.h ? in.h : bottom, left < 0 ? 0 : left, right > in.w ? in.w : right};
}

/* Index of the first largest pixel of a window; a NaN wins, as in PyTorch. */
static size_t largest(const float *in, int width, struct window window) {
    size_t best = (size_t)window.y0 * (size_t)width + (size_t)window.x0;
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++) {
            size_t at = (size_t)y * (size_t)width + (size_t)x;
            if (in[at] > in[best] || in[at] != in[at])
                best = at;
        }
    return best;
}

static double mean(const float *in, int width, struct window window) {
    double sum = 0.0;
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++)
            sum += (double)in[(size_t)y * (size_t)width + (size_t)x];
    return sum / ((double)(window.y1 - window.y0) * (double)(window.x1 - window.x0));
}

/* Spreads a gradient evenly over a window. */
static void spread(float *in_grad, int width, struct window window, float gradient) {
    double share = (double)gradient / ((double)(window.y1 - window.y0) * (double)(window.x1 - window.x0));
    for (int y = window.y0; y < window.y1; y++)
        for (int x = window.x0; x < window.x1; x++) {
            float *to = &in_grad[(size_t)y * (size_t)width + (size_t)x];
            *to = (float)((double)*to + share);
        }
}

typedef void pool_visit(const struct ref_call *call, struct window window, size_t in_channel, size_t out_pixel);

/* Visits every output pixel of every channel of every image. */
static void visit_all(const struct ref_call *call, pool_visit *visit) {
    struct graph_shape in = call->in_shape[0], out = call->node->out;
    size_t channels = (size_t)call->n * (size_t)out.c, out_pixel = 0;
    for (size_t c = 0; c < channels; c++)
        for (int y = 0; y < out.h; y++)
            for (int x = 0; x < out.w; x++)
                visit(call, window_at(call, y, x), c * (size_t)in.h * (size_t)in.w, out_pixel++);
}

static void max_forward(const struct ref_call *call, struct window window, size_t in_channel, size_t out_pixel) {
    const float *in = call->in[0] + in_channel;
    call->out[out_pixel] = in[largest(in, call->in_shape[0].w, window)];
}

static void max_backward(const struct ref_call *call, struct window window, size_t in_channel, size_t out_pixel) {
    size_t at = largest(call->in[0] + in_channel, call->in_shape[0].w, window);
    call->in_grad[0][in_channel + at] += call->out_grad[out_pixel];
}

static void avg_forward(const struct ref_call *call, struct window window, size_t in_channel, size_t out_pixel) {
    call->out[out_pixel] = (float)mean(call->in[0] + in_channel, call->in_shape[0].w, window);
}

static void avg_backward(const struct ref_call *call, struct window window, size_t in_channel, size_t out_pixel) {
    spread(call->in_grad[0] + in_channel, call->in_shape[0].w, window, call->out_grad[out_pixel]);
}

void ref_pool_max_forward(const struct ref_call *call) {
    visit_all(call, max_forward);
}

void ref_pool_max_backward(const struct ref_call *call) {
    if (call->in_grad[0] != NULL)
        visit_all(call, max_backward);
}

void ref_pool_avg_forward(const struct ref_call *call) {
    visit_all(call, avg_forward);
}

void ref_pool_avg_backward(const struct ref_call *call) {
    if (call->in_grad[0] != NULL)
        visit_all(call, avg_backward);
}

static struct window whole(const struct ref_call *call) {
    return (struct window){0, call->in_shape[0].h, 0, call->in_shape[0].w};
}

void ref_gap_forward(const struct ref_call *call) {
    size_t channels = (size_t)call->n * (size_t)call->node->out.c;
    size_t pixels = (size_t)call->in_shape[0].h * (size_t)call->in_shape[0].w;
    for (size_t c = 0; c < channels; c++)
        call->out[c] = (float)mean(call->in[0] + c * pixels, call->in_shape[0].w, whole(call));
}

void ref_gap_backward(const struct ref_call *call) {
    size_t channels = (size_t)call->n * (size_t)call->node->out.c;
    size_t pixels = (size_t)call->in_shape[0].h * (size_t)call->in_shape[0].w;
    for (size_t c = 0; c < channels && call->in_grad[0] != NULL; c++)
        spread(call->in_grad[0] + c * pixels, call->in_shape[0].w, whole(call), call->out_grad[c]);
}
