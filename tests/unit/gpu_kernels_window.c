/* Tests of pools, the shortcut without parameters and flattening. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

static int out_size(int size, int kernel, int step, int pad) {
    return (size + 2 * pad - kernel) / step + 1;
}

static struct kernel_window window_of(int batch, int c, int h, int w, int kernel_h, int kernel_w, int step, int pad) {
    return (struct kernel_window){.batch = batch,
                                  .h = h,
                                  .w = w,
                                  .c = c,
                                  .cp = rig_padded(c),
                                  .oh = out_size(h, kernel_h, step, pad),
                                  .ow = out_size(w, kernel_w, step, pad),
                                  .oc = c,
                                  .ocp = rig_padded(c),
                                  .kernel_h = kernel_h,
                                  .kernel_w = kernel_w,
                                  .stride_h = step,
                                  .stride_w = step,
                                  .pad_h = pad,
                                  .pad_w = pad,
                                  .dilation_h = 1,
                                  .dilation_w = 1,
                                  .groups = 1};
}

/* Overlapping windows and such that leave pixels out, padding, one window for all: batch, c, h, w, kernel_h, kernel_w, step, pad.
 */
static const int windows[][8] = {{1, 1, 1, 1, 1, 1, 1, 0},  {2, 5, 6, 8, 2, 2, 2, 0}, {3, 9, 7, 5, 3, 3, 2, 1},
                                 {2, 16, 9, 9, 3, 2, 1, 1}, {2, 3, 8, 7, 2, 2, 3, 0}, {4, 20, 5, 6, 5, 6, 1, 0}};
enum { WINDOWS = sizeof windows / sizeof windows[0] };

static struct kernel_window window_number(int i) {
    const int *v = windows[i];
    return window_of(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
}

static int in_rows(const struct kernel_window *w) {
    return w->batch * w->h * w->w;
}

static int out_rows(const struct kernel_window *w) {
    return w->batch * w->oh * w->ow;
}

/* The input row (pixel of all images) under tap (kh, kw) of an output row; -1: outside. */
static int tap(const struct kernel_window *w, int row, int kh, int kw) {
    int x = row % w->ow * w->stride_w + kw - w->pad_w, y = row / w->ow % w->oh * w->stride_h + kh - w->pad_h;
    return x < 0 || x >= w->w || y < 0 || y >= w->h ? -1 : (row / w->ow / w->oh * w->h + y) * w->w + x;
}

/* --- the largest --- */

/* The tap that is the first largest one. */
static int largest(const struct kernel_window *w, const struct tensor *x, int row, int c) {
    int best = -1;
    double top = 0;
    for (int k = 0; k < w->kernel_h * w->kernel_w; k++) {
        int from = tap(w, row, k / w->kernel_w, k % w->kernel_w);
        double value = from < 0 ? 0 : x->values[from * x->cp + c];
        if (from >= 0 && (best < 0 || value > top || isnan(value))) {
            best = k;
            top = value;
        }
    }
    return best;
}

static int saved_tap(uint64_t saved, const struct tensor *y, int row, int c) {
    uint16_t at;
    memcpy(&at, (const char *)rig_read(saved) + (size_t)(row * y->cp + c) * sizeof at, sizeof at);
    return at;
}

static void check_forward(const struct kernel_window *w, const struct tensor *x, const struct tensor *y, uint64_t saved) {
    for (int row = 0; row < out_rows(w); row++)
        for (int c = 0; c < w->c; c++) {
            int best = largest(w, x, row, c), from = tap(w, row, best / w->kernel_w, best % w->kernel_w);
            double expected = x->values[from * x->cp + c], got = rig_get(y, row, c);
            assert_true(got == expected || (isnan(got) && isnan(expected)));
            if (saved != 0)
                assert_int_equal(saved_tap(saved, y, row, c), best);
        }
    rig_expect_zeros(y, out_rows(w));
}

static void check_back(const struct kernel_window *w, const struct tensor *x, const struct tensor *dy, const struct tensor *dx,
                       bool accumulate) {
    for (int in = 0; in < in_rows(w); in++)
        for (int c = 0; c < w->c; c++) {
            double sum = accumulate ? dx->values[in * dx->cp + c] : 0;
            for (int row = 0; row < out_rows(w); row++) {
                int best = largest(w, x, row, c);
                if (tap(w, row, best / w->kernel_w, best % w->kernel_w) == in)
                    sum += dy->values[row * dy->cp + c];
            }
            rig_expect(dx, in, c, sum, 1e-6);
        }
    rig_expect_zeros(dx, in_rows(w));
}

static void pool_max(struct rig *rig, const struct kernel_window *w, const struct tensor *x, bool accumulate) {
    struct tensor y = rig_output(rig, out_rows(w), w->c, x->bf16, false, 0);
    struct tensor dy = rig_tensor(rig, out_rows(w), w->c, x->bf16, 2);
    struct tensor dx = rig_output(rig, in_rows(w), w->c, x->bf16, accumulate, 3);
    size_t bytes = (size_t)out_rows(w) * (size_t)w->ocp * sizeof(uint16_t);
    struct kernel_pool_max params = {.x = x->at, .y = y.at, .window = *w, .bf16 = x->bf16};
    rig_run(rig, KERNEL_pool_max, &params, 5, 1);
    check_forward(w, x, &y, 0);
    params.saved = rig_target(rig, NULL, bytes);
    rig_run(rig, KERNEL_pool_max, &params, 5, 1);
    check_forward(w, x, &y, params.saved);
    struct kernel_pool_max_back back = {.dy = dy.at,
                                        .saved = rig_input(rig, rig_read(params.saved), bytes),
                                        .dx = dx.at,
                                        .window = *w,
                                        .bf16 = x->bf16,
                                        .accumulate = accumulate};
    rig_run(rig, KERNEL_pool_max_back, &back, 5, 1);
    check_back(w, x, &dy, &dx, accumulate);
}

static void random_max(void **state, int number, bool accumulate, bool bf16) {
    struct kernel_window w = window_number(number);
    struct rig *rig = rig_new(state);
    struct tensor x = rig_tensor(rig, in_rows(&w), w.c, bf16, 1);
    pool_max(rig, &w, &x, accumulate);
    rig_free(rig);
}

void test_pool_max(void **state) {
    for (int i = 0; i < WINDOWS; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            RIG_BOTH(random_max(state, i, accumulate, bf16))
}

/* Few different values, so that the first one of equals counts; negative ones at the border, where padding must not win; a NaN.
 */
void test_pool_max_ties(void **state) {
    for (int i = 0; i < WINDOWS; i++) {
        struct kernel_window w = window_number(i);
        struct rig *rig = rig_new(state);
        struct tensor x = rig_tensor(rig, in_rows(&w), w.c, false, 1);
        for (int row = 0; row < in_rows(&w); row++)
            for (int c = 0; c < w.c; c++)
                rig_set(rig, &x, row, c, floor(x.values[row * x.cp + c] * 2) - 3);
        rig_set(rig, &x, in_rows(&w) / 2, 0, (double)NAN);
        pool_max(rig, &w, &x, false);
        rig_free(rig);
    }
}

/* --- the mean --- */

static int taps_inside(const struct kernel_window *w, int row) {
    int n = 0;
    for (int k = 0; k < w->kernel_h * w->kernel_w; k++)
        n += tap(w, row, k / w->kernel_w, k % w->kernel_w) >= 0;
    return n;
}

/* x: the input's values or the output's gradients; expected: [rows][cp] of the other side. */
static void mean_of(const struct kernel_window *w, const struct tensor *x, bool back, double *expected) {
    for (int row = 0; row < out_rows(w); row++)
        for (int k = 0; k < w->kernel_h * w->kernel_w; k++) {
            int in = tap(w, row, k / w->kernel_w, k % w->kernel_w), n = taps_inside(w, row);
            for (int c = 0; c < w->c && in >= 0; c++) {
                int from = (back ? row : in) * w->cp + c, to = (back ? in : row) * w->cp + c;
                expected[to] += x->values[from] / n;
            }
        }
}

static void pool_avg(void **state, int number, bool back, bool accumulate, bool bf16) {
    static double expected[8192];
    struct kernel_window w = window_number(number);
    struct rig *rig = rig_new(state);
    int from_rows = back ? out_rows(&w) : in_rows(&w), to_rows = back ? in_rows(&w) : out_rows(&w);
    struct tensor x = rig_tensor(rig, from_rows, w.c, bf16, 1), y = rig_output(rig, to_rows, w.c, bf16, accumulate, 2);
    struct kernel_pool_avg params = {.x = x.at, .y = y.at, .window = w, .bf16 = bf16, .back = back, .accumulate = accumulate};
    rig_run(rig, KERNEL_pool_avg, &params, 5, 1);
    memset(expected, 0, sizeof expected);
    mean_of(&w, &x, back, expected);
    for (int row = 0; row < to_rows; row++)
        for (int c = 0; c < w.c; c++)
            rig_expect(&y, row, c, expected[row * w.cp + c] + (accumulate ? y.values[row * w.cp + c] : 0), 1e-6);
    rig_expect_zeros(&y, to_rows);
    rig_free(rig);
}

void test_pool_avg(void **state) {
    for (int i = 0; i < WINDOWS; i++)
        for (int how = 0; how < 4; how++)
            RIG_BOTH(pool_avg(state, i, how & 1, how & 2, bf16))
}

/* --- the shortcut --- */

static void shortcut(void **state, struct kernel_window w, bool back, bool accumulate, bool bf16) {
    struct rig *rig = rig_new(state);
    int from_rows = back ? out_rows(&w) : in_rows(&w), to_rows = back ? in_rows(&w) : out_rows(&w);
    struct tensor x = rig_tensor(rig, from_rows, back ? w.oc : w.c, bf16, 1);
    struct tensor y = rig_output(rig, to_rows, back ? w.c : w.oc, bf16, accumulate, 2);
    struct kernel_shortcut params = {.x = x.at, .y = y.at, .window = w, .bf16 = bf16, .back = back, .accumulate = accumulate};
    rig_run(rig, KERNEL_shortcut, &params, 5, 1);
    for (int row = 0; row < to_rows; row++)
        for (int c = 0; c < y.c; c++) {
            int px = row % (back ? w.w : w.ow), rest = row / (back ? w.w : w.ow), py = rest % (back ? w.h : w.oh);
            int image = rest / (back ? w.h : w.oh);
            bool hit = back ? px % w.stride_w == 0 && py % w.stride_h == 0 : c < w.c;
            int from = back ? (image * w.oh + py / w.stride_h) * w.ow + px / w.stride_w
                            : (image * w.h + py * w.stride_h) * w.w + px * w.stride_w;
            double expected = hit ? x.values[from * x.cp + c] : 0;
            rig_expect(&y, row, c, expected + (accumulate ? y.values[row * y.cp + c] : 0), 1e-7);
        }
    rig_expect_zeros(&y, to_rows);
    rig_free(rig);
}

void test_shortcut(void **state) {
    static const int cases[][4] = {{16, 32, 8, 2}, {5, 11, 7, 2}, {3, 3, 4, 1}, {9, 40, 5, 3}}; /* c, oc, size, stride */
    for (int i = 0; i < 4; i++)
        for (int how = 0; how < 4; how++) {
            struct kernel_window w = window_of(2, cases[i][0], cases[i][2], cases[i][2] + 1, 1, 1, cases[i][3], 0);
            w.oc = cases[i][1];
            w.ocp = rig_padded(w.oc);
            RIG_BOTH(shortcut(state, w, how & 1, how & 2, bf16))
        }
}

/* --- flattening --- */

static void flatten(void **state, int c, int h, int w, bool back, bool accumulate, bool bf16) {
    enum { BATCH = 3 };
    struct rig *rig = rig_new(state);
    int pixels = h * w, cp = rig_padded(c), flat_cp = rig_padded(c * pixels);
    int from_rows = back ? BATCH : BATCH * pixels, to_rows = back ? BATCH * pixels : BATCH;
    struct tensor x = rig_tensor(rig, from_rows, back ? c * pixels : c, bf16, 1);
    struct tensor y = rig_output(rig, to_rows, back ? c : c * pixels, bf16, accumulate, 2);
    struct kernel_flatten params = {.x = x.at,
                                    .y = y.at,
                                    .batch = BATCH,
                                    .h = h,
                                    .w = w,
                                    .c = c,
                                    .cp = cp,
                                    .flat_cp = flat_cp,
                                    .bf16 = bf16,
                                    .back = back,
                                    .accumulate = accumulate};
    rig_run(rig, KERNEL_flatten, &params, 5, 1);
    for (int image = 0; image < BATCH; image++)
        for (int e = 0; e < c * pixels; e++) {
            int flat = image * flat_cp + e, deep = (image * pixels + e % pixels) * cp + e / pixels;
            double before = accumulate ? y.values[back ? deep : flat] : 0, moved = x.values[back ? flat : deep];
            rig_expect(&y, back ? image * pixels + e % pixels : image, back ? e / pixels : e, before + moved, 1e-7);
        }
    rig_expect_zeros(&y, to_rows);
    rig_free(rig);
}

void test_flatten(void **state) {
    static const int shapes[][3] = {{1, 1, 1}, {3, 4, 5}, {16, 2, 2}, {9, 7, 3}};
    for (int i = 0; i < 4; i++)
        for (int how = 0; how < 4; how++)
            RIG_BOTH(flatten(state, shapes[i][0], shapes[i][1], shapes[i][2], how & 1, how & 2, bf16))
}
