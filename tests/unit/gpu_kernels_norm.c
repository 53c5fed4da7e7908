/* Tests of batch normalization's kernels and of the sums over channels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

static const float epsilon = 1e-5f, momentum = 0.1f;

/* Sizes with tails everywhere: channels that fill neither eight lanes nor a block, slices with more or fewer rows than threads.
 */
struct size {
    int batch, n, pixels, c, slices;
};
static const struct size sizes[] = {{1, 1, 1, 1, 1},   {2, 1, 3, 8, 2},    {5, 3, 7, 20, 4},
                                    {3, 3, 50, 70, 3}, {4, 2, 17, 130, 7}, {9, 8, 64, 3, 5}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

struct moments {
    double mean, var, count;
};

static struct moments moments_of(const struct tensor *x, int64_t rows, int c) {
    struct moments m = {.count = (double)rows};
    for (int64_t row = 0; row < rows; row++)
        m.mean += x->values[row * x->cp + c] / m.count;
    for (int64_t row = 0; row < rows; row++)
        m.var += pow(x->values[row * x->cp + c] - m.mean, 2) / m.count;
    return m;
}

static uint32_t channel_blocks(int c) {
    return (uint32_t)(rig_padded(c) + 63) / 64;
}

/* Runs both stages; the second one finds what the first one left. */
struct statistics {
    struct tensor saved, running_mean, running_var;
};

static struct statistics run_statistics(struct rig *rig, const struct tensor *x, struct size size) {
    int cp = rig_padded(size.c);
    struct statistics s = {.saved = rig_dense_output(rig, 2, cp, false),
                           .running_mean = rig_output(rig, 1, size.c, false, true, 5),
                           .running_var = rig_output(rig, 1, size.c, false, true, 6)};
    uint64_t step = rig_step(rig, size.n), partial = rig_target(rig, NULL, (size_t)size.slices * 2 * (size_t)cp * 8);
    struct kernel_norm_partial first = {
        .x = x->at, .partial = partial, .step = step, .pixels = size.pixels, .cp = cp, .slices = size.slices, .bf16 = x->bf16};
    rig_run(rig, KERNEL_norm_partial, &first, (uint32_t)size.slices, channel_blocks(size.c));
    struct kernel_norm_finish second = {.partial = rig_input(rig, rig_read(partial), (size_t)size.slices * 2 * (size_t)cp * 8),
                                        .step = step,
                                        .saved = s.saved.at,
                                        .running_mean = s.running_mean.at,
                                        .running_var = s.running_var.at,
                                        .pixels = size.pixels,
                                        .c = size.c,
                                        .cp = cp,
                                        .slices = size.slices,
                                        .epsilon = epsilon,
                                        .momentum = momentum};
    rig_run(rig, KERNEL_norm_finish, &second, (uint32_t)cp / 8, 1);
    return s;
}

static void check_statistics(struct rig *rig, const struct tensor *x, struct size size, double limit) {
    struct statistics s = run_statistics(rig, x, size);
    for (int c = 0; c < size.c; c++) {
        struct moments m = moments_of(x, (int64_t)size.n * size.pixels, c);
        double unbiased = m.count > 1 ? m.var * m.count / (m.count - 1) : 0;
        rig_expect(&s.saved, 0, c, m.mean, limit);
        rig_expect(&s.saved, 1, c, 1 / sqrt(m.var + (double)epsilon), limit);
        rig_expect(&s.running_mean, 0, c, 0.9 * s.running_mean.values[c] + 0.1 * m.mean, limit);
        rig_expect(&s.running_var, 0, c, 0.9 * s.running_var.values[c] + 0.1 * unbiased, limit);
    }
    rig_expect_zeros(&s.running_mean, 1);
    rig_expect_zeros(&s.running_var, 1);
    for (int c = size.c; c < s.saved.cp; c++)
        assert_true(rig_get(&s.saved, 0, c) == 0 && isfinite(rig_get(&s.saved, 1, c)));
}

static void statistics(void **state, struct size size, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor x = rig_tensor(rig, (int64_t)size.batch * size.pixels, size.c, bf16, 1);
    check_statistics(rig, &x, size, 1e-6);
    rig_free(rig);
}

void test_norm_statistics(void **state) {
    for (int i = 0; i < SIZES; i++)
        RIG_BOTH(statistics(state, sizes[i], bf16))
}

/* A mean a thousand times the deviation: a sum of squares in f32 would lose the variance. */
void test_norm_statistics_far_from_zero(void **state) {
    struct rig *rig = rig_new(state);
    struct size size = {4, 4, 1500, 9, 3};
    struct tensor x = rig_tensor(rig, (int64_t)size.batch * size.pixels, size.c, false, 1);
    for (int64_t row = 0; row < x.rows; row++)
        for (int c = 0; c < size.c; c++)
            rig_set(rig, &x, row, c, 1000 * (c + 1) + x.values[row * x.cp + c]);
    check_statistics(rig, &x, size, 2e-4);
    rig_free(rig);
}

/* One value a channel: its variance is 0, and so is what the running one moves to. */
void test_norm_single_value(void **state) {
    struct rig *rig = rig_new(state);
    struct size size = {3, 1, 1, 5, 2};
    struct tensor x = rig_tensor(rig, 3, size.c, false, 1);
    struct statistics s = run_statistics(rig, &x, size);
    for (int c = 0; c < size.c; c++) {
        rig_expect(&s.saved, 1, c, 1 / sqrt((double)epsilon), 1e-6);
        rig_expect(&s.running_var, 0, c, 0.9 * s.running_var.values[c], 1e-6);
    }
    rig_free(rig);
}

/* --- y --- */

struct apply {
    bool add, relu, running;
};

static void apply(void **state, struct size size, struct apply how, bool bf16) {
    struct rig *rig = rig_new(state);
    int64_t rows = (int64_t)size.batch * size.pixels;
    int cp = rig_padded(size.c);
    struct tensor x = rig_tensor(rig, rows, size.c, bf16, 1), add = rig_tensor(rig, rows, size.c, bf16, 2);
    struct tensor gamma = rig_tensor(rig, 1, size.c, false, 3), beta = rig_tensor(rig, 1, size.c, false, 4);
    struct tensor saved = rig_dense(rig, 2, cp, false, 5), y = rig_output(rig, rows, size.c, bf16, false, 0);
    struct tensor mean = rig_tensor(rig, 1, size.c, false, 6), var = rig_dense(rig, 1, cp, false, 7);
    for (int c = 0; c < cp; c++)
        rig_set(rig, &var, 0, c, 0.2 + fabs(var.values[c]));
    struct kernel_norm_apply params = {.x = x.at,
                                       .add = how.add ? add.at : 0,
                                       .y = y.at,
                                       .saved = how.running ? 0 : saved.at,
                                       .running_mean = how.running ? mean.at : 0,
                                       .running_var = how.running ? var.at : 0,
                                       .gamma = gamma.at,
                                       .beta = beta.at,
                                       .rows = rows,
                                       .c = size.c,
                                       .cp = cp,
                                       .relu = how.relu,
                                       .bf16 = bf16,
                                       .epsilon = epsilon};
    rig_run(rig, KERNEL_norm_apply, &params, 5, 1);
    for (int64_t row = 0; row < rows; row++)
        for (int c = 0; c < size.c; c++) {
            double m = how.running ? mean.values[c] : saved.values[c];
            double inverse = how.running ? 1 / sqrt(var.values[c] + (double)epsilon) : saved.values[cp + c];
            double value = gamma.values[c] * (x.values[row * cp + c] - m) * inverse + beta.values[c];
            value += how.add ? add.values[row * cp + c] : 0;
            rig_expect(&y, row, c, how.relu ? fmax(value, 0) : value, 1e-6);
        }
    rig_expect_zeros(&y, rows);
    rig_free(rig);
}

void test_norm_apply(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int how = 0; how < 8; how++)
            RIG_BOTH(apply(state, sizes[i], ((struct apply){how & 1, how & 2, how & 4}), bf16))
}

/* --- sums for gradients --- */

struct sums {
    int groups;
    bool with_y, with_x, wide;
};

static int64_t saved_at(const struct size *size, int groups, int64_t row, int c) {
    return groups == 0 ? c : row / size->pixels * groups + c / (size->c / groups);
}

static void back_sums(void **state, struct size size, struct sums how, bool bf16) {
    struct rig *rig = rig_new(state);
    int64_t rows = (int64_t)size.batch * size.pixels, halves = how.groups > 0 ? (int64_t)size.batch * how.groups : 0;
    int cp = rig_padded(size.c);
    size_t partial_bytes = (size_t)size.slices * 2 * (size_t)cp * 8;
    struct tensor dy = rig_tensor(rig, rows, size.c, bf16 && !how.wide, 1), y = rig_tensor(rig, rows, size.c, bf16, 2);
    struct tensor x = rig_tensor(rig, rows, size.c, bf16, 3);
    struct tensor saved = rig_dense(rig, 2, how.groups > 0 ? (int)halves : cp, false, 4);
    struct tensor a = rig_output(rig, 1, size.c, false, false, 0), b = rig_output(rig, 1, size.c, false, false, 0);
    struct kernel_back_partial first = {.dy = dy.at,
                                        .y = how.with_y ? y.at : 0,
                                        .x = how.with_x ? x.at : 0,
                                        .saved = how.with_x ? saved.at : 0,
                                        .partial = rig_target(rig, NULL, partial_bytes),
                                        .rows = rows,
                                        .pixels = size.pixels,
                                        .batch = size.batch,
                                        .c = size.c,
                                        .cp = cp,
                                        .slices = size.slices,
                                        .groups = how.groups,
                                        .bf16 = bf16,
                                        .dy_wide = how.wide};
    rig_run(rig, KERNEL_back_partial, &first, (uint32_t)size.slices, channel_blocks(size.c));
    struct kernel_back_finish second = {.partial = rig_input(rig, rig_read(first.partial), partial_bytes),
                                        .a = a.at,
                                        .b = how.with_x ? b.at : 0,
                                        .c = size.c,
                                        .cp = cp,
                                        .slices = size.slices};
    rig_run(rig, KERNEL_back_finish, &second, (uint32_t)cp / 8, 1);
    for (int c = 0; c < size.c; c++) {
        double sum = 0, sum_x = 0;
        for (int64_t row = 0; row < rows; row++) {
            int64_t at = row * cp + c, s = saved_at(&size, how.groups, row, c);
            double g = how.with_y && y.values[at] <= 0 ? 0 : dy.values[at];
            sum += g;
            sum_x += g * (x.values[at] - saved.values[s]) * saved.values[saved.cp + s];
        }
        rig_expect(&a, 0, c, sum, 1e-5);
        if (how.with_x)
            rig_expect(&b, 0, c, sum_x, 1e-5);
    }
    rig_expect_zeros(&a, 1);
    if (how.with_x)
        rig_expect_zeros(&b, 1);
    rig_free(rig);
}

void test_back_sums(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int how = 0; how < 8; how++)
            RIG_BOTH(back_sums(state, sizes[i], ((struct sums){0, how & 1, how & 2, how & 4}), bf16))
}

void test_back_sums_group(void **state) {
    static const struct size with_groups[] = {{2, 2, 5, 6, 2}, {3, 3, 9, 40, 4}, {2, 2, 4, 12, 3}};
    static const int groups[] = {3, 5, 12};
    for (int i = 0; i < 3; i++)
        RIG_BOTH(back_sums(state, with_groups[i], ((struct sums){groups[i], false, true, false}), bf16))
}

/* --- dx --- */

struct back {
    bool relu, accumulate, dx, dadd;
};

static void norm_back(void **state, struct size size, struct back how, bool bf16) {
    struct rig *rig = rig_new(state);
    int64_t rows = (int64_t)size.batch * size.pixels, real = (int64_t)size.n * size.pixels;
    int cp = rig_padded(size.c);
    struct tensor dy = rig_tensor(rig, rows, size.c, bf16, 1), y = rig_tensor(rig, rows, size.c, bf16, 2);
    struct tensor x = rig_tensor(rig, rows, size.c, bf16, 3), saved = rig_dense(rig, 2, cp, false, 4);
    struct tensor gamma = rig_tensor(rig, 1, size.c, false, 5);
    struct tensor sum_g = rig_tensor(rig, 1, size.c, false, 6), sum_gx = rig_tensor(rig, 1, size.c, false, 7);
    struct tensor dx = rig_output(rig, rows, size.c, bf16, how.accumulate, 8);
    struct tensor dadd = rig_output(rig, rows, size.c, bf16, how.accumulate, 9);
    struct kernel_norm_back params = {.dy = dy.at,
                                      .y = how.relu ? y.at : 0,
                                      .x = x.at,
                                      .saved = saved.at,
                                      .gamma = gamma.at,
                                      .sum_g = sum_g.at,
                                      .sum_gx = sum_gx.at,
                                      .step = rig_step(rig, size.n),
                                      .dx = how.dx ? dx.at : 0,
                                      .dadd = how.dadd ? dadd.at : 0,
                                      .rows = rows,
                                      .pixels = size.pixels,
                                      .c = size.c,
                                      .cp = cp,
                                      .bf16 = bf16,
                                      .accumulate_dx = how.accumulate,
                                      .accumulate_dadd = how.accumulate};
    rig_run(rig, KERNEL_norm_back, &params, 4, 1);
    for (int64_t row = 0; row < rows; row++)
        for (int c = 0; c < size.c; c++) {
            int64_t at = row * cp + c;
            double g = row >= real || (how.relu && y.values[at] <= 0) ? 0 : dy.values[at], m = (double)real;
            double xhat = (x.values[at] - saved.values[c]) * saved.values[cp + c];
            double gradient = gamma.values[c] * saved.values[cp + c] * (g - sum_g.values[c] / m - xhat * sum_gx.values[c] / m) *
                              (row < real ? 1 : 0);
            if (how.dx)
                rig_expect(&dx, row, c, gradient + (how.accumulate ? dx.values[at] : 0), 1e-6);
            if (how.dadd)
                rig_expect(&dadd, row, c, g + (how.accumulate ? dadd.values[at] : 0), 1e-6);
        }
    if (how.dx)
        rig_expect_zeros(&dx, how.accumulate ? rows : real);
    if (how.dadd)
        rig_expect_zeros(&dadd, how.accumulate ? rows : real);
    rig_free(rig);
}

void test_norm_back(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int how = 0; how < 16; how++)
            RIG_BOTH(norm_back(state, sizes[i], ((struct back){how & 1, how & 2, how & 4, how & 8}), bf16))
}
