/* Tests of group normalization's kernels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

static const float epsilon = 1e-5f;

struct size {
    int batch, pixels, c, groups;
};
static const struct size sizes[] = {{1, 1, 2, 1}, {2, 9, 6, 3}, {3, 35, 40, 5}, {2, 600, 12, 12}, {2, 7, 130, 13}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

struct moments {
    double mean, inverse;
};

/* The values of group g of an image. */
static struct moments moments_of(const struct tensor *x, struct size size, int image, int g) {
    struct moments m = {0};
    int channels = size.c / size.groups, count = channels * size.pixels;
    double var = 0;
    for (int k = 0; k < count; k++)
        m.mean += x->values[(image * size.pixels + k / channels) * x->cp + g * channels + k % channels] / count;
    for (int k = 0; k < count; k++)
        var += pow(x->values[(image * size.pixels + k / channels) * x->cp + g * channels + k % channels] - m.mean, 2) / count;
    m.inverse = 1 / sqrt(var + (double)epsilon);
    return m;
}

/* Mean and inverse as the kernel saves them, [2][batch * groups]. */
static struct tensor run_statistics(struct rig *rig, const struct tensor *x, struct size size) {
    int groups = size.batch * size.groups;
    struct tensor saved = rig_dense_output(rig, 2, groups, false);
    struct kernel_group_statistics params = {.x = x->at,
                                             .saved = saved.at,
                                             .pixels = size.pixels,
                                             .batch = size.batch,
                                             .c = size.c,
                                             .cp = x->cp,
                                             .groups = size.groups,
                                             .bf16 = x->bf16,
                                             .epsilon = epsilon};
    rig_run(rig, KERNEL_group_statistics, &params, (uint32_t)groups, 1);
    for (int g = 0; g < groups; g++) {
        struct moments m = moments_of(x, size, g / size.groups, g % size.groups);
        rig_expect(&saved, 0, g, m.mean, 1e-6);
        rig_expect(&saved, 1, g, m.inverse, 1e-6);
    }
    saved.at = rig_input(rig, rig_read(saved.at), 2 * (size_t)groups * sizeof(float));
    return saved;
}

static void forward(void **state, struct size size, bool bf16) {
    struct rig *rig = rig_new(state);
    int rows = size.batch * size.pixels, channels = size.c / size.groups;
    struct tensor x = rig_tensor(rig, rows, size.c, bf16, 1), gamma = rig_tensor(rig, 1, size.c, false, 2);
    struct tensor beta = rig_tensor(rig, 1, size.c, false, 3), saved = run_statistics(rig, &x, size);
    struct tensor y = rig_output(rig, rows, size.c, bf16, false, 0);
    struct kernel_group_apply params = {.x = x.at,
                                        .y = y.at,
                                        .saved = saved.at,
                                        .gamma = gamma.at,
                                        .beta = beta.at,
                                        .pixels = size.pixels,
                                        .batch = size.batch,
                                        .c = size.c,
                                        .cp = x.cp,
                                        .groups = size.groups,
                                        .bf16 = bf16};
    rig_run(rig, KERNEL_group_apply, &params, 6, 1);
    for (int row = 0; row < rows; row++)
        for (int c = 0; c < size.c; c++) {
            struct moments m = moments_of(&x, size, row / size.pixels, c / channels);
            rig_expect(&y, row, c, (x.values[row * x.cp + c] - m.mean) * m.inverse * gamma.values[c] + beta.values[c], 2e-6);
        }
    rig_expect_zeros(&y, rows);
    rig_free(rig);
}

void test_group_forward(void **state) {
    for (int i = 0; i < SIZES; i++)
        RIG_BOTH(forward(state, sizes[i], bf16))
}

/* --- backward --- */

struct scene {
    struct size size;
    struct tensor dy, x, gamma, saved;
};

/* The mean of h = gamma dy over a group of an image, and of h x'. */
static void means_of(const struct scene *s, int image, int g, double *ret_h, double *ret_hx) {
    struct moments m = moments_of(&s->x, s->size, image, g);
    int channels = s->size.c / s->size.groups, count = channels * s->size.pixels;
    *ret_h = *ret_hx = 0;
    for (int k = 0; k < count; k++) {
        int c = g * channels + k % channels, at = (image * s->size.pixels + k / channels) * s->x.cp + c;
        double h = s->dy.values[at] * s->gamma.values[c];
        *ret_h += h / count;
        *ret_hx += h * (s->x.values[at] - m.mean) * m.inverse / count;
    }
}

/* The sums as the kernel makes them, [batch * groups][2]. */
static struct tensor run_sums(struct rig *rig, const struct scene *s) {
    int groups = s->size.batch * s->size.groups, count = s->size.c / s->size.groups * s->size.pixels;
    struct tensor sums = rig_dense_output(rig, groups, 2, false);
    struct kernel_group_sums params = {.dy = s->dy.at,
                                       .x = s->x.at,
                                       .saved = s->saved.at,
                                       .gamma = s->gamma.at,
                                       .sums = sums.at,
                                       .pixels = s->size.pixels,
                                       .batch = s->size.batch,
                                       .c = s->size.c,
                                       .cp = s->x.cp,
                                       .groups = s->size.groups,
                                       .bf16 = s->x.bf16};
    rig_run(rig, KERNEL_group_sums, &params, (uint32_t)groups, 1);
    for (int g = 0; g < groups; g++) {
        double h, hx;
        means_of(s, g / s->size.groups, g % s->size.groups, &h, &hx);
        rig_expect(&sums, g, 0, h * count, 1e-5);
        rig_expect(&sums, g, 1, hx * count, 1e-5);
    }
    sums.at = rig_input(rig, rig_read(sums.at), 2 * (size_t)groups * sizeof(float));
    return sums;
}

static void back(void **state, struct size size, bool accumulate, bool bf16) {
    struct rig *rig = rig_new(state);
    int rows = size.batch * size.pixels, channels = size.c / size.groups;
    struct scene s = {.size = size, .dy = rig_tensor(rig, rows, size.c, bf16, 1), .x = rig_tensor(rig, rows, size.c, bf16, 2)};
    s.gamma = rig_tensor(rig, 1, size.c, false, 3);
    s.saved = run_statistics(rig, &s.x, size);
    struct tensor sums = run_sums(rig, &s), dx = rig_output(rig, rows, size.c, bf16, accumulate, 4);
    struct kernel_group_back params = {.dy = s.dy.at,
                                       .x = s.x.at,
                                       .saved = s.saved.at,
                                       .gamma = s.gamma.at,
                                       .sums = sums.at,
                                       .dx = dx.at,
                                       .pixels = size.pixels,
                                       .batch = size.batch,
                                       .c = size.c,
                                       .cp = dx.cp,
                                       .groups = size.groups,
                                       .bf16 = bf16,
                                       .accumulate = accumulate};
    rig_run(rig, KERNEL_group_back, &params, 5, 1);
    for (int row = 0; row < rows; row++)
        for (int c = 0; c < size.c; c++) {
            int at = row * dx.cp + c, image = row / size.pixels;
            struct moments m = moments_of(&s.x, size, image, c / channels);
            double h, hx;
            means_of(&s, image, c / channels, &h, &hx);
            double expected = m.inverse * (s.dy.values[at] * s.gamma.values[c] - h - (s.x.values[at] - m.mean) * m.inverse * hx);
            rig_expect(&dx, row, c, expected + (accumulate ? dx.values[at] : 0), 1e-5);
        }
    rig_expect_zeros(&dx, rows);
    rig_free(rig);
}

void test_group_back(void **state) {
    for (int i = 0; i < SIZES - 2; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            RIG_BOTH(back(state, sizes[i], accumulate, bf16))
}
