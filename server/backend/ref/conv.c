/* Convolution (cross-correlation): out[y,x] = bias + sum over i,kh,kw of weight * in[y s - p + kh d, x s - p + kw d]. */
#include "server/backend/ref/ref.h"

/* One tap (kh, kw) of the window: the output pixels for which it lies inside the image, and where it lies. */
struct tap {
    int y0, y1, x0, x1;     /* output pixels y0 <= y < y1, x0 <= x < x1 */
    int offset_y, offset_x; /* input pixel = output pixel * stride + offset */
    int stride_y, stride_x;
    int in_w, out_w;
};

/* The output positions whose input position, position * stride + offset, lies in 0..in-1. */
static void clip(int out, int in, int stride, int offset, int *ret_first, int *ret_end) {
    int first = 0, end = out;
    while (first < out && first * stride + offset < 0)
        first++;
    while (end > first && (end - 1) * stride + offset >= in)
        end--;
    *ret_first = first;
    *ret_end = end;
}

static struct tap make_tap(const struct ref_call *call, int kh, int kw) {
    const struct graph_node *node = call->node;
    struct graph_shape in = call->in_shape[0];
    struct tap tap = {.stride_y = node->window.stride_h, .stride_x = node->window.stride_w, .in_w = in.w, .out_w = node->out.w};
    tap.offset_y = kh * node->window.dilation_h - node->window.pad_h;
    tap.offset_x = kw * node->window.dilation_w - node->window.pad_w;
    clip(node->out.h, in.h, tap.stride_y, tap.offset_y, &tap.y0, &tap.y1);
    clip(node->out.w, in.w, tap.stride_x, tap.offset_x, &tap.x0, &tap.x1);
    return tap;
}

/* Index of the first input pixel of row y of a tap; the following ones are stride_x apart. */
static int row_start(const struct tap *tap, int y) {
    return (y * tap->stride_y + tap->offset_y) * tap->in_w + tap->x0 * tap->stride_x + tap->offset_x;
}

/* sums[out pixel] += weight * in[its input pixel] */
static void gather(const struct tap *tap, double weight, const float *in, double *sums) {
    for (int y = tap->y0; y < tap->y1; y++) {
        const float *from = in + row_start(tap, y);
        double *to = sums + y * tap->out_w + tap->x0;
        for (int x = 0; x < tap->x1 - tap->x0; x++)
            to[x] += weight * (double)from[x * tap->stride_x];
    }
}

/* sums[input pixel] += weight * out[its output pixel]: the transpose of gather */
static void scatter(const struct tap *tap, double weight, const float *out, double *sums) {
    for (int y = tap->y0; y < tap->y1; y++) {
        const float *from = out + y * tap->out_w + tap->x0;
        double *to = sums + row_start(tap, y);
        for (int x = 0; x < tap->x1 - tap->x0; x++)
            to[x * tap->stride_x] += weight * (double)from[x];
    }
}

/* The sum over output pixels of out * in. */
static double dot(const struct tap *tap, const float *in, const float *out) {
    double sum = 0.0;
    for (int y = tap->y0; y < tap->y1; y++) {
        const float *a = in + row_start(tap, y), *b = out + y * tap->out_w + tap->x0;
        for (int x = 0; x < tap->x1 - tap->x0; x++)
            sum += (double)a[x * tap->stride_x] * (double)b[x];
    }
    return sum;
}

static size_t pixels(struct graph_shape shape) {
    return (size_t)shape.h * (size_t)shape.w;
}

/* One channel of one image of x [n,C,H,W]. */
static size_t channel(struct graph_shape shape, int image, int c) {
    return ((size_t)image * (size_t)shape.c + (size_t)c) * pixels(shape);
}

/* Input channels per group. */
static int group_inputs(const struct ref_call *call) {
    return call->in_shape[0].c / call->node->window.groups;
}

/* The first input channel that output channel o sees. */
static int first_input(const struct ref_call *call, int o) {
    int group = o / (call->node->out.c / call->node->window.groups);
    return group * group_inputs(call);
}

/* Index of weight [o, i, kh, kw]; i counts within the group. */
static size_t weight_at(const struct ref_call *call, int o, int i, int kh, int kw) {
    size_t oi = (size_t)o * (size_t)group_inputs(call) + (size_t)i;
    return (oi * (size_t)call->node->window.kernel_h + (size_t)kh) * (size_t)call->node->window.kernel_w + (size_t)kw;
}

/* Adds what input channel i (within the group) gives to output channel o of an image. */
static void forward_channel(const struct ref_call *call, int image, int o, int i) {
    const float *in = call->in[0] + channel(call->in_shape[0], image, first_input(call, o) + i);
    for (int kh = 0; kh < call->node->window.kernel_h; kh++)
        for (int kw = 0; kw < call->node->window.kernel_w; kw++) {
            struct tap tap = make_tap(call, kh, kw);
            gather(&tap, (double)call->value[0][weight_at(call, o, i, kh, kw)], in, call->plane);
        }
}

void ref_conv_forward(const struct ref_call *call) {
    size_t n = pixels(call->node->out);
    for (int image = 0; image < call->n; image++)
        for (int o = 0; o < call->node->out.c; o++) {
            for (size_t k = 0; k < n; k++)
                call->plane[k] = call->node->bias ? (double)call->value[1][o] : 0.0;
            for (int i = 0; i < group_inputs(call); i++)
                forward_channel(call, image, o, i);
            float *out = call->out + channel(call->node->out, image, o);
            for (size_t k = 0; k < n; k++)
                out[k] = (float)call->plane[k];
        }
}

/* Adds what output channel o gives to the gradient of its input channel i (within the group) of an image. */
static void backward_channel(const struct ref_call *call, int image, int o, int i) {
    const float *out_grad = call->out_grad + channel(call->node->out, image, o);
    for (int kh = 0; kh < call->node->window.kernel_h; kh++)
        for (int kw = 0; kw < call->node->window.kernel_w; kw++) {
            struct tap tap = make_tap(call, kh, kw);
            scatter(&tap, (double)call->value[0][weight_at(call, o, i, kh, kw)], out_grad, call->plane);
        }
}

static void backward_data(const struct ref_call *call) {
    size_t n = pixels(call->in_shape[0]);
    int inputs = group_inputs(call), outputs = call->node->out.c / call->node->window.groups;
    for (int image = 0; image < call->n; image++)
        for (int c = 0; c < call->in_shape[0].c; c++) {
            for (size_t k = 0; k < n; k++)
                call->plane[k] = 0.0;
            int group = c / inputs;
            for (int o = group * outputs; o < (group + 1) * outputs; o++)
                backward_channel(call, image, o, c % inputs);
            float *in_grad = call->in_grad[0] + channel(call->in_shape[0], image, c);
            for (size_t k = 0; k < n; k++)
                in_grad[k] = (float)((double)in_grad[k] + call->plane[k]);
        }
}

static double weight_gradient(const struct ref_call *call, int o, int i, const struct tap *tap) {
    double sum = 0.0;
    for (int image = 0; image < call->n; image++)
        sum += dot(tap, call->in[0] + channel(call->in_shape[0], image, first_input(call, o) + i),
                   call->out_grad + channel(call->node->out, image, o));
    return sum;
}

static void backward_weights(const struct ref_call *call) {
    for (int kh = 0; kh < call->node->window.kernel_h; kh++)
        for (int kw = 0; kw < call->node->window.kernel_w; kw++) {
            struct tap tap = make_tap(call, kh, kw);
            for (int o = 0; o < call->node->out.c; o++)
                for (int i = 0; i < group_inputs(call); i++)
                    call->gradient[0][weight_at(call, o, i, kh, kw)] = (float)weight_gradient(call, o, i, &tap);
        }
}

static void backward_bias(const struct ref_call *call) {
    for (int o = 0; o < call->node->out.c; o++) {
        double sum = 0.0;
        for (int image = 0; image < call->n; image++) {
            const float *out_grad = call->out_grad + channel(call->node->out, image, o);
            for (size_t k = 0; k < pixels(call->node->out); k++)
                sum += (double)out_grad[k];
        }
        call->gradient[1][o] = (float)sum;
    }
}

void ref_conv_backward(const struct ref_call *call) {
    backward_weights(call);
    if (call->node->bias)
        backward_bias(call);
    if (call->in_grad[0] != NULL)
        backward_data(call);
}
