/* Tests of the kernels that work element by element. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/rng.h"
#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

struct size {
    int rows, c;
};
static const struct size sizes[] = {{1, 1}, {7, 8}, {50, 13}, {3, 300}, {129, 24}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* --- activations --- */

static double value(int activation, double x) {
    switch (activation) {
    case KERNEL_RELU:
        return fmax(x, 0);
    case KERNEL_LEAKY_RELU:
        return x > 0 ? x : 0.01 * x;
    case KERNEL_ELU:
        return x > 0 ? x : exp(x) - 1;
    case KERNEL_GELU:
        return x * 0.5 * erfc(-x / sqrt(2));
    case KERNEL_SILU:
        return x / (1 + exp(-x));
    case KERNEL_SIGMOID:
        return 1 / (1 + exp(-x));
    case KERNEL_TANH:
        return tanh(x);
    }
    return x;
}

/* By differences, where the function is smooth. */
static double derivative(int activation, double x) {
    const double step = 1e-5;
    return x == 0 ? activation == KERNEL_GELU || activation == KERNEL_SILU ? 0.5
                    : activation == KERNEL_SIGMOID                         ? 0.25
                    : activation == KERNEL_LEAKY_RELU                      ? 0.01
                    : activation == KERNEL_RELU                            ? 0
                                                                           : 1
                  : (value(activation, x + step) - value(activation, x - step)) / (2 * step);
}

static void run_act(struct rig *rig, int activation, const struct tensor *x, struct tensor *y) {
    struct kernel_act params = {
        .x = x->at, .y = y->at, .rows = x->rows, .c = x->c, .cp = x->cp, .activation = activation, .bf16 = x->bf16};
    rig_run(rig, KERNEL_act, &params, 4, 1);
}

static void run_act_back(struct rig *rig, int activation, const struct tensor *dy, const struct tensor *x, struct tensor *dx,
                         bool accumulate) {
    struct kernel_act_back params = {.dy = dy->at,
                                     .x = x->at,
                                     .dx = dx->at,
                                     .rows = x->rows,
                                     .c = x->c,
                                     .cp = x->cp,
                                     .activation = activation,
                                     .bf16 = x->bf16,
                                     .accumulate = accumulate};
    rig_run(rig, KERNEL_act_back, &params, 4, 1);
}

static void act(void **state, struct size size, int activation, bool accumulate, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor x = rig_tensor(rig, size.rows, size.c, bf16, 1), dy = rig_tensor(rig, size.rows, size.c, bf16, 2);
    struct tensor y = rig_output(rig, size.rows, size.c, bf16, false, 0);
    struct tensor dx = rig_output(rig, size.rows, size.c, bf16, accumulate, 3);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++)
            rig_set(rig, &x, row, c, 4 * x.values[row * x.cp + c]);
    run_act(rig, activation, &x, &y);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++)
            rig_expect(&y, row, c, value(activation, x.values[row * x.cp + c]), 3e-7);
    rig_expect_zeros(&y, size.rows);
    run_act_back(rig, activation, &dy, &x, &dx, accumulate);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++) {
            int at = row * x.cp + c;
            double expected = dy.values[at] * derivative(activation, x.values[at]);
            rig_expect(&dx, row, c, expected + (accumulate ? dx.values[at] : 0), 5e-7);
        }
    rig_expect_zeros(&dx, size.rows);
    rig_free(rig);
}

void test_act(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int activation = KERNEL_RELU; activation <= KERNEL_IDENTITY; activation++)
            for (int accumulate = 0; accumulate < 2; accumulate++)
                RIG_BOTH(act(state, sizes[i], activation, accumulate, bf16))
}

/* Nothing overflows or becomes NaN; a NaN of a diverged net passes; relu's derivative at 0 is 0. */
void test_act_extremes(void **state) {
    static const double extremes[] = {-1e30, -200, -90, -20, 0, 20, 90, 200, 1e30, (double)NAN};
    for (int activation = KERNEL_RELU; activation <= KERNEL_IDENTITY; activation++) {
        struct rig *rig = rig_new(state);
        struct tensor x = rig_tensor(rig, 1, 10, false, 1), dy = rig_tensor(rig, 1, 10, false, 2);
        struct tensor y = rig_output(rig, 1, 10, false, false, 0), dx = rig_output(rig, 1, 10, false, false, 0);
        for (int c = 0; c < 10; c++)
            rig_set(rig, &x, 0, c, extremes[c]);
        for (int c = 0; c < 10; c++)
            rig_set(rig, &dy, 0, c, 1);
        run_act(rig, activation, &x, &y);
        for (int c = 0; c < 9; c++)
            rig_expect(&y, 0, c, value(activation, x.values[c]), 1e-6);
        assert_true(isnan(rig_get(&y, 0, 9)));
        run_act_back(rig, activation, &dy, &x, &dx, false);
        for (int c = 1; c < 8; c++)
            rig_expect(&dx, 0, c, derivative(activation, x.values[c]), 1e-6);
        rig_free(rig);
    }
}

/* --- sums, masks, biases --- */

static void add(void **state, struct size size, bool with_b, bool relu, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor a = rig_tensor(rig, size.rows, size.c, bf16, 1), b = rig_tensor(rig, size.rows, size.c, bf16, 2);
    struct tensor y = rig_output(rig, size.rows, size.c, bf16, false, 0);
    struct kernel_add params = {.a = a.at, .b = with_b ? b.at : 0, .y = y.at, .count = a.rows * a.cp, .relu = relu, .bf16 = bf16};
    rig_run(rig, KERNEL_add, &params, 4, 1);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++) {
            double sum = a.values[row * a.cp + c] + (with_b ? b.values[row * a.cp + c] : 0);
            rig_expect(&y, row, c, relu ? fmax(sum, 0) : sum, 1e-7);
        }
    rig_expect_zeros(&y, size.rows);
    rig_free(rig);
}

void test_add(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int how = 0; how < 4; how++)
            RIG_BOTH(add(state, sizes[i], how & 1, how & 2, bf16))
}

static void mask(void **state, struct size size, bool with_y, bool accumulate, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor dy = rig_tensor(rig, size.rows, size.c, bf16, 1), y = rig_tensor(rig, size.rows, size.c, bf16, 2);
    struct tensor dx = rig_output(rig, size.rows, size.c, bf16, accumulate, 3);
    rig_set(rig, &y, 0, 0, 0);
    struct kernel_mask params = {
        .dy = dy.at, .y = with_y ? y.at : 0, .dx = dx.at, .count = dy.rows * dy.cp, .bf16 = bf16, .accumulate = accumulate};
    rig_run(rig, KERNEL_mask, &params, 4, 1);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++) {
            int at = row * dy.cp + c;
            double g = with_y && y.values[at] <= 0 ? 0 : dy.values[at];
            rig_expect(&dx, row, c, g + (accumulate ? dx.values[at] : 0), 1e-7);
        }
    rig_expect_zeros(&dx, size.rows);
    rig_free(rig);
}

void test_mask(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int how = 0; how < 4; how++)
            RIG_BOTH(mask(state, sizes[i], how & 1, how & 2, bf16))
}

static void bias(void **state, struct size size, bool wide, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor y = rig_output(rig, size.rows, size.c, bf16 && !wide, true, 1);
    struct tensor values = rig_tensor(rig, 1, size.c, false, 2);
    struct kernel_bias params = {
        .y = y.at, .bias = values.at, .rows = y.rows, .c = size.c, .cp = y.cp, .bf16 = bf16, .y_wide = wide};
    rig_run(rig, KERNEL_bias, &params, 4, 1);
    for (int row = 0; row < size.rows; row++)
        for (int c = 0; c < size.c; c++)
            rig_expect(&y, row, c, y.values[row * y.cp + c] + values.values[c], 1e-7);
    rig_expect_zeros(&y, size.rows);
    rig_free(rig);
}

void test_bias(void **state) {
    for (int i = 0; i < SIZES; i++)
        for (int wide = 0; wide < 2; wide++)
            RIG_BOTH(bias(state, sizes[i], wide, bf16))
}

/* --- copies --- */

struct copy {
    int from_c, from_at, to_c, to_at, count;
};

/* What a concatenation writes and what its gradient reads. Channels of the target beside the copy stay as they were. */
static void channels(void **state, struct copy copy, bool accumulate, bool bf16) {
    enum { ROWS = 37 };
    struct rig *rig = rig_new(state);
    struct tensor from = rig_tensor(rig, ROWS, copy.from_c, bf16, 1), to = rig_output(rig, ROWS, copy.to_c, bf16, true, 2);
    bool ends = !accumulate && copy.to_at + copy.count == copy.to_c;
    for (int row = 0; row < ROWS && ends; row++)
        for (int c = copy.to_c; c < to.cp; c++)
            rig_set(rig, &to, row, c, 9);
    struct kernel_channels params = {.from = from.at,
                                     .to = to.at,
                                     .rows = ROWS,
                                     .from_cp = from.cp,
                                     .from_at = copy.from_at,
                                     .to_cp = to.cp,
                                     .to_at = copy.to_at,
                                     .to_c = copy.to_c,
                                     .count = copy.count,
                                     .bf16 = bf16,
                                     .accumulate = accumulate};
    rig_run(rig, KERNEL_channels, &params, 4, 1);
    for (int row = 0; row < ROWS; row++)
        for (int c = 0; c < copy.to_c; c++) {
            bool copied = c >= copy.to_at && c < copy.to_at + copy.count;
            double before = to.values[row * to.cp + c];
            double moved = copied ? from.values[row * from.cp + copy.from_at + c - copy.to_at] : 0;
            rig_expect(&to, row, c, copied && !accumulate ? moved : before + moved, 1e-7);
        }
    rig_expect_zeros(&to, ROWS);
    rig_free(rig);
}

void test_channels(void **state) {
    static const struct copy copies[] = {{8, 0, 24, 8, 8},   {16, 0, 24, 8, 16}, {5, 0, 12, 3, 5},       {7, 0, 12, 5, 7},
                                         {24, 8, 16, 0, 16}, {12, 5, 7, 0, 7},   {12, 3, 11, 0, 11 - 2}, {1, 0, 1, 0, 1}};
    for (size_t i = 0; i < sizeof copies / sizeof copies[0]; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            RIG_BOTH(channels(state, copies[i], accumulate, bf16))
}

/* --- dropout --- */

enum { DROPOUT_BATCH = 3 };

/* As common/rng.c and backend.h have it. */
static bool is_dropped(uint32_t epoch, int node, uint32_t sample, int element, float rate) {
    uint32_t words[4];
    rng_block(0x123456789abcdefu, RNG_DROPOUT, epoch + ((uint32_t)node << 16), sample, (uint32_t)element / 4, words);
    return rng_unit(words[element % 4]) < rate;
}

static void dropout(void **state, int c, int h, int w, bool accumulate, bool bf16) {
    const float rate = 0.3f;
    struct rig *rig = rig_new(state);
    int pixels = h * w;
    struct kernel_step step = {.n = 2, .epoch = 7, .seed = 0x123456789abcdefu};
    struct kernel_sample samples[DROPOUT_BATCH] = {{.sample = 11}, {.sample = 400000}, {.sample = 0}};
    struct tensor x = rig_tensor(rig, DROPOUT_BATCH * pixels, c, bf16, 1);
    struct tensor y = rig_output(rig, DROPOUT_BATCH * pixels, c, bf16, accumulate, 2);
    struct kernel_dropout params = {.x = x.at,
                                    .y = y.at,
                                    .step = rig_input(rig, &step, sizeof step),
                                    .samples = rig_input(rig, samples, sizeof samples),
                                    .batch = DROPOUT_BATCH,
                                    .c = c,
                                    .cp = x.cp,
                                    .h = h,
                                    .w = w,
                                    .node = 300,
                                    .bf16 = bf16,
                                    .accumulate = accumulate,
                                    .rate = rate};
    rig_run(rig, KERNEL_dropout, &params, 4, 1);
    for (int row = 0; row < DROPOUT_BATCH * pixels; row++)
        for (int channel = 0; channel < c; channel++) {
            int image = row / pixels, element = channel * pixels + row % pixels, at = row * x.cp + channel;
            bool dropped = is_dropped(7, 300, samples[image].sample, element, rate);
            double expected = dropped ? 0 : x.values[at] / (1 - (double)rate);
            rig_expect(&y, row, channel, expected + (accumulate ? y.values[at] : 0), 3e-7);
        }
    rig_expect_zeros(&y, DROPOUT_BATCH * pixels);
    rig_free(rig);
}

void test_dropout(void **state) {
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        RIG_BOTH(dropout(state, 50, 1, 1, accumulate, bf16))
        RIG_BOTH(dropout(state, 9, 5, 3, accumulate, bf16))
    }
}
