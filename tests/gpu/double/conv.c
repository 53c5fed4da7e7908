/* Convolutions by plain loops, in double. */
#include <stdlib.h>

#include "tests/gpu/double/double.h"

/* x [n,h,w,c], y [n,oh,ow,k], weights [k,kernel_h,kernel_w,wi]; forward they are [kernel_h,kernel_w,wi,k], so that the innermost
 * loop goes over neighbours. */
struct conv {
    int64_t n, h, w, c, oh, ow, k, kernel_h, kernel_w, wi, kg; /* wi, kg: channels and filters of a group */
    int64_t pad[2], stride[2], dilation[2];
    double *x, *weights, *y;
};

typedef void tap(const struct conv *conv, int64_t group, int64_t tap_at, const double *x, const double *y);

static void forward(const struct conv *conv, int64_t group, int64_t tap_at, const double *x, const double *y) {
    double *out = conv->y + (y - conv->y) + group * conv->kg;
    for (int64_t c = 0; c < conv->wi; c++) {
        double value = x[group * conv->wi + c];
        const double *weights = conv->weights + (tap_at * conv->wi + c) * conv->k + group * conv->kg;
        for (int64_t k = 0; k < conv->kg; k++)
            out[k] += value * weights[k];
    }
}

static void back_x(const struct conv *conv, int64_t group, int64_t tap_at, const double *x, const double *y) {
    double *out = conv->x + (x - conv->x) + group * conv->wi;
    for (int64_t k = group * conv->kg; k < (group + 1) * conv->kg; k++) {
        const double *weights = conv->weights + (k * conv->kernel_h * conv->kernel_w + tap_at) * conv->wi;
        for (int64_t c = 0; c < conv->wi; c++)
            out[c] += y[k] * weights[c];
    }
}

static void back_w(const struct conv *conv, int64_t group, int64_t tap_at, const double *x, const double *y) {
    for (int64_t k = group * conv->kg; k < (group + 1) * conv->kg; k++) {
        double *out = conv->weights + (k * conv->kernel_h * conv->kernel_w + tap_at) * conv->wi;
        for (int64_t c = 0; c < conv->wi; c++)
            out[c] += y[k] * x[group * conv->wi + c];
    }
}

/* Of one pixel of y, each pixel of x that the filter lies on. */
static void each_tap(const struct conv *conv, int64_t image, int64_t row, int64_t column, tap *function) {
    const double *y = conv->y + ((image * conv->oh + row) * conv->ow + column) * conv->k;
    for (int64_t i = 0; i < conv->kernel_h * conv->kernel_w; i++) {
        int64_t h = row * conv->stride[0] - conv->pad[0] + i / conv->kernel_w * conv->dilation[0];
        int64_t w = column * conv->stride[1] - conv->pad[1] + i % conv->kernel_w * conv->dilation[1];
        if (h < 0 || h >= conv->h || w < 0 || w >= conv->w)
            continue;
        const double *x = conv->x + ((image * conv->h + h) * conv->w + w) * conv->c;
        for (int64_t group = 0; group < conv->c / conv->wi; group++)
            function(conv, group, i, x, y);
    }
}

static void each_pixel(const struct conv *conv, tap *function) {
    for (int64_t image = 0; image < conv->n; image++)
        for (int64_t row = 0; row < conv->oh; row++)
            for (int64_t column = 0; column < conv->ow; column++)
                each_tap(conv, image, row, column, function);
}

/* [k,taps,wi] -> [taps,wi,k] */
static double *filters_last(const struct conv *conv, double *weights) {
    int64_t inner = conv->kernel_h * conv->kernel_w * conv->wi;
    double *turned = must_allocate((size_t)(conv->k * inner) * sizeof *turned);
    for (int64_t k = 0; k < conv->k; k++)
        for (int64_t i = 0; i < inner; i++)
            turned[i * conv->k + k] = weights[k * inner + i];
    free(weights);
    return turned;
}

/* --- from descriptors --- */

static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t window, x, w, y;
    tap *function;
} operations[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, forward},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, back_x},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, back_w},
};

static void read_window(struct conv *conv, const struct descriptor *window) {
    if (descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_CONV_MODE, 0) != CUDNN_CROSS_CORRELATION ||
        descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, 0) != CUDNN_DATA_FLOAT ||
        descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0) != 2)
        violation("a convolution that is no cross-correlation of images with f32 sums");
    for (int i = 0; i < 2; i++) {
        conv->pad[i] = descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i);
        conv->stride[i] = descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i);
        conv->dilation[i] = descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_DILATIONS, i);
    }
}

static int64_t outputs(int64_t size, int64_t pad, int64_t post_pad, int64_t kernel, int64_t dilation, int64_t stride) {
    return (size + pad + post_pad - dilation * (kernel - 1) - 1) / stride + 1;
}

static struct conv describe(const struct descriptor *window, const struct tensor *x, const struct tensor *w,
                            const struct tensor *y) {
    struct conv conv = {.n = x->dims[0],
                        .c = x->dims[1],
                        .h = x->dims[2],
                        .w = x->dims[3],
                        .k = y->dims[1],
                        .oh = y->dims[2],
                        .ow = y->dims[3],
                        .wi = w->dims[1],
                        .kernel_h = w->dims[2],
                        .kernel_w = w->dims[3]};
    read_window(&conv, window);
    int64_t post_h = descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 0);
    int64_t post_w = descriptor_integer(window, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 1);
    if (w->dims[0] != conv.k || conv.c % conv.wi != 0 || conv.k % (conv.c / conv.wi) != 0 || y->dims[0] != conv.n ||
        conv.oh != outputs(conv.h, conv.pad[0], post_h, conv.kernel_h, conv.dilation[0], conv.stride[0]) ||
        conv.ow != outputs(conv.w, conv.pad[1], post_w, conv.kernel_w, conv.dilation[1], conv.stride[1]))
        violation("a convolution whose tensors do not fit each other");
    conv.kg = conv.k / (conv.c / conv.wi);
    return conv;
}

static double *zeros(const struct tensor *tensor) {
    return must_allocate((size_t)tensor_count(tensor) * sizeof(double));
}

static double *load(const struct op *op, const struct tensor *tensor) {
    return tensor_gather(tensor, execute_pointer(op, tensor->uid), op->execute.plan->narrow_products);
}

void conv_run(const struct descriptor *operation, const struct op *op) {
    size_t row = 0;
    while (operations[row].type != operation->type)
        row++;
    struct tensor x = tensor_of(descriptor_child(operation, operations[row].x, 0));
    struct tensor w = tensor_of(descriptor_child(operation, operations[row].w, 0));
    struct tensor y = tensor_of(descriptor_child(operation, operations[row].y, 0));
    struct conv conv = describe(descriptor_child(operation, operations[row].window, 0), &x, &w, &y);
    tap *function = operations[row].function;
    conv.x = function == back_x ? zeros(&x) : load(op, &x);
    conv.weights = function == back_w ? zeros(&w) : load(op, &w);
    conv.y = function == forward ? zeros(&y) : load(op, &y);
    if (function == forward)
        conv.weights = filters_last(&conv, conv.weights);
    each_pixel(&conv, function);
    if (function == forward)
        tensor_scatter(&y, conv.y, execute_pointer(op, y.uid));
    else if (function == back_x)
        tensor_scatter(&x, conv.x, execute_pointer(op, x.uid));
    else
        tensor_scatter(&w, conv.weights, execute_pointer(op, w.uid));
    free(conv.x);
    free(conv.weights);
    free(conv.y);
}
