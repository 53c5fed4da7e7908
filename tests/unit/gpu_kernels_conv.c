/* Tests of the convolution kernels: values and both gradients, with groups, strides, dilation, and as linear layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

struct shape {
    int batch, c, h, w, oc, kernel, stride, pad, dilation, groups;
};
static const struct shape shapes[] = {
    {1, 1, 1, 1, 1, 1, 1, 0, 1, 1},   {3, 20, 1, 1, 10, 1, 1, 0, 1, 1}, {2, 5, 6, 5, 9, 3, 1, 1, 1, 1},
    {2, 8, 7, 7, 16, 3, 2, 1, 1, 1},  {2, 12, 6, 6, 6, 3, 1, 2, 2, 3},  {3, 9, 5, 4, 9, 3, 2, 1, 1, 9},
    {1, 40, 4, 4, 20, 1, 2, 0, 1, 2}, {300, 3, 1, 1, 2, 1, 1, 0, 1, 1}, {1, 70, 3, 3, 3, 3, 1, 1, 1, 1},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Which tensors are f32 in a bf16 plan. */
struct types {
    bool bf16, narrow_weights, wide_output;
};

static int out_size(const struct shape *s, int size) {
    return (size + 2 * s->pad - s->dilation * (s->kernel - 1) - 1) / s->stride + 1;
}

static struct kernel_window window_of(const struct shape *s) {
    return (struct kernel_window){.batch = s->batch,
                                  .h = s->h,
                                  .w = s->w,
                                  .c = s->c,
                                  .cp = rig_padded(s->c),
                                  .oh = out_size(s, s->h),
                                  .ow = out_size(s, s->w),
                                  .oc = s->oc,
                                  .ocp = rig_padded(s->oc),
                                  .kernel_h = s->kernel,
                                  .kernel_w = s->kernel,
                                  .stride_h = s->stride,
                                  .stride_w = s->stride,
                                  .pad_h = s->pad,
                                  .pad_w = s->pad,
                                  .dilation_h = s->dilation,
                                  .dilation_w = s->dilation,
                                  .groups = s->groups};
}

/* Weights are rows of [o][kh][kw], each with the inputs of a group. */
struct scene {
    struct kernel_window w;
    struct types types;
    int inputs, outputs; /* of a group */
    struct tensor x, weights, dy;
    double *y, *dx, *dw; /* what is expected, laid out like dy, x and weights */
};

static int weight_row(const struct scene *s, int o, int kh, int kw) {
    return (o * s->w.kernel_h + kh) * s->w.kernel_w + kw;
}

/* Everything between input pixel `in` and output pixel `out`, which tap (kh, kw) connects. */
static void connect(struct scene *s, int in, int out, int kh, int kw) {
    for (int o = 0; o < s->w.oc; o++)
        for (int i = 0; i < s->inputs; i++) {
            int x = in * s->w.cp + o / s->outputs * s->inputs + i, y = out * s->w.ocp + o;
            int w = weight_row(s, o, kh, kw) * s->weights.cp + i;
            s->y[y] += s->x.values[x] * s->weights.values[w];
            s->dx[x] += s->dy.values[y] * s->weights.values[w];
            s->dw[w] += s->dy.values[y] * s->x.values[x];
        }
}

static void compute(struct scene *s) {
    const struct kernel_window *w = &s->w;
    for (int out = 0; out < w->batch * w->oh * w->ow; out++)
        for (int kh = 0; kh < w->kernel_h; kh++)
            for (int kw = 0; kw < w->kernel_w; kw++) {
                int y = out / w->ow % w->oh * w->stride_h + kh * w->dilation_h - w->pad_h;
                int x = out % w->ow * w->stride_w + kw * w->dilation_w - w->pad_w;
                if (y >= 0 && y < w->h && x >= 0 && x < w->w)
                    connect(s, (out / w->ow / w->oh * w->h + y) * w->w + x, out, kh, kw);
            }
}

/* Weights of a convolution without groups are padded, in o and i. */
static struct tensor weights_of(struct rig *rig, const struct scene *s) {
    int rows = s->w.ocp * s->w.kernel_h * s->w.kernel_w, real = s->w.oc * s->w.kernel_h * s->w.kernel_w;
    bool narrow = s->types.narrow_weights;
    struct tensor weights =
        s->w.groups == 1 ? rig_tensor(rig, rows, s->inputs, narrow, 2) : rig_dense(rig, rows, s->inputs, narrow, 2);
    for (int row = real; row < rows; row++)
        for (int i = 0; i < s->inputs; i++)
            rig_set(rig, &weights, row, i, 0);
    return weights;
}

static double *zeros(const struct tensor *like) {
    double *memory = calloc((size_t)(like->rows * like->cp), sizeof(double));
    assert_non_null(memory);
    return memory;
}

static struct scene make_scene(struct rig *rig, const struct shape *shape, struct types types) {
    struct scene s = {.w = window_of(shape), .types = types};
    s.inputs = s.w.c / s.w.groups;
    s.outputs = s.w.oc / s.w.groups;
    s.x = rig_tensor(rig, s.w.batch * s.w.h * s.w.w, s.w.c, types.bf16, 1);
    s.dy = rig_tensor(rig, s.w.batch * s.w.oh * s.w.ow, s.w.oc, types.bf16 && !types.wide_output, 3);
    s.weights = weights_of(rig, &s);
    s.y = zeros(&s.dy);
    s.dx = zeros(&s.x);
    s.dw = zeros(&s.weights);
    compute(&s);
    return s;
}

static void compare(const struct tensor *got, const double *expected, bool accumulate) {
    for (int64_t row = 0; row < got->rows; row++)
        for (int c = 0; c < got->c; c++) {
            int64_t at = row * got->cp + c;
            rig_expect(got, row, c, expected[at] + (accumulate ? got->values[at] : 0), 1e-5);
        }
    rig_expect_zeros(got, got->rows);
}

static void run_all(struct rig *rig, const struct scene *s, bool accumulate) {
    struct types types = s->types;
    struct tensor y = rig_output(rig, s->dy.rows, s->w.oc, s->dy.bf16, false, 0);
    struct tensor dx = rig_output(rig, s->x.rows, s->w.c, types.bf16, accumulate, 4);
    struct tensor dw = s->w.groups == 1 ? rig_output(rig, s->weights.rows, s->inputs, types.narrow_weights, false, 0)
                                        : rig_dense_output(rig, s->weights.rows, s->inputs, types.narrow_weights);
    struct kernel_conv forward = {.x = s->x.at,
                                  .w = s->weights.at,
                                  .y = y.at,
                                  .window = s->w,
                                  .bf16 = types.bf16,
                                  .w_narrow = types.narrow_weights,
                                  .y_wide = types.wide_output};
    rig_run(rig, KERNEL_conv, &forward, 9, 1);
    compare(&y, s->y, false);
    struct kernel_conv_back_x back_x = {.dy = s->dy.at,
                                        .w = s->weights.at,
                                        .dx = dx.at,
                                        .window = s->w,
                                        .bf16 = types.bf16,
                                        .w_narrow = types.narrow_weights,
                                        .dy_wide = types.wide_output,
                                        .accumulate = accumulate};
    rig_run(rig, KERNEL_conv_back_x, &back_x, 9, 1);
    compare(&dx, s->dx, accumulate);
    struct kernel_conv_back_w back_w = {.x = s->x.at,
                                        .dy = s->dy.at,
                                        .dw = dw.at,
                                        .window = s->w,
                                        .bf16 = types.bf16,
                                        .dw_narrow = types.narrow_weights,
                                        .dy_wide = types.wide_output};
    rig_run(rig, KERNEL_conv_back_w, &back_w, 9, 1);
    compare(&dw, s->dw, false);
}

static void conv(void **state, const struct shape *shape, struct types types, bool accumulate) {
    struct rig *rig = rig_new(state);
    struct scene s = make_scene(rig, shape, types);
    run_all(rig, &s, accumulate);
    free(s.y);
    free(s.dx);
    free(s.dw);
    rig_free(rig);
}

void test_conv(void **state) {
    for (int i = 0; i < SHAPES; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            RIG_BOTH(conv(state, &shapes[i], ((struct types){bf16, bf16, false}), accumulate))
}

/* As the layer before the loss has them in a bf16 plan: f32 logits, f32 weights. */
void test_conv_types(void **state) {
    for (int i = 1; i < SHAPES; i += 2)
        for (int how = 0; how < 4; how++)
            conv(state, &shapes[i], (struct types){true, how & 1, how & 2}, false);
}
