/* Tests of softmax, cross-entropy and their sums. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

enum { BATCH_MAX = 40 };

struct scene {
    int batch, n, classes;
    bool train, mixes, bf16;
    float smoothing;
    struct tensor logits;
    struct kernel_sample samples[BATCH_MAX];
};

/* softmax, losses, rights and the gradient. */
struct outputs {
    struct tensor softmax, losses, gradient;
    uint64_t rights;
};

static void make_samples(struct scene *s) {
    memset(s->samples, 0x7f, sizeof s->samples);
    for (int i = 0; i < s->n; i++)
        s->samples[i] = (struct kernel_sample){
            .label = i * 7 % s->classes, .other = i * 3 % s->classes, .share = s->mixes ? 0.5f + 0.4f * (float)(i % 2) : 1};
}

static struct outputs run_loss(struct rig *rig, const struct scene *s) {
    struct kernel_step step = {.n = s->n, .smoothing = s->smoothing};
    struct outputs out = {.softmax = rig_dense_output(rig, s->batch, s->classes, false),
                          .losses = rig_dense_output(rig, 1, s->batch, false),
                          .gradient = rig_output(rig, s->batch, s->classes, s->bf16, false, 0),
                          .rights = rig_target(rig, NULL, (size_t)s->batch * sizeof(int32_t))};
    struct kernel_loss params = {.logits = s->logits.at,
                                 .step = rig_input(rig, &step, sizeof step),
                                 .samples = rig_input(rig, s->samples, (size_t)s->batch * sizeof s->samples[0]),
                                 .softmax = out.softmax.at,
                                 .losses = out.losses.at,
                                 .rights = out.rights,
                                 .dlogits = s->train ? out.gradient.at : 0,
                                 .batch = s->batch,
                                 .classes = s->classes,
                                 .cp = s->logits.cp,
                                 .bf16 = s->bf16};
    rig_run(rig, KERNEL_loss, &params, (uint32_t)(s->batch + 7) / 8, 1);
    return out;
}

static double target_of(const struct scene *s, int image, int c) {
    const struct kernel_sample *sample = &s->samples[image];
    double share = s->train ? (double)sample->share : 1, smoothing = s->train ? (double)s->smoothing : 0;
    double target = (c == sample->label ? share : 0) + (c == sample->other ? 1 - share : 0);
    return (1 - smoothing) * target + smoothing / s->classes;
}

static void check_image(const struct scene *s, const struct outputs *out, int image) {
    const double *z = s->logits.values + image * s->logits.cp;
    double top = z[0], sum = 0, loss = 0;
    int best = 0, right;
    for (int c = 1; c < s->classes; c++)
        if (z[c] > z[best])
            best = c;
    top = z[best];
    for (int c = 0; c < s->classes; c++)
        sum += exp(z[c] - top);
    for (int c = 0; c < s->classes; c++) {
        double softmax = exp(z[c] - top) / sum, target = target_of(s, image, c);
        rig_expect(&out->softmax, image, c, softmax, 5e-7);
        if (s->train)
            rig_expect(&out->gradient, image, c, (softmax - target) / s->n, 5e-7);
        loss += target > 0 ? target * (top + log(sum) - z[c]) : 0;
    }
    rig_expect(&out->losses, 0, image, loss, 5e-7);
    memcpy(&right, (const char *)rig_read(out->rights) + (size_t)image * sizeof right, sizeof right);
    assert_int_equal(right, best == s->samples[image].label);
}

static void check_rest(const struct scene *s, const struct outputs *out) {
    rig_expect_zeros(&out->softmax, s->n);
    if (s->train)
        rig_expect_zeros(&out->gradient, s->n);
    for (int image = s->n; image < s->batch; image++) {
        int right;
        memcpy(&right, (const char *)rig_read(out->rights) + (size_t)image * sizeof right, sizeof right);
        assert_int_equal(right, 0);
        assert_true(rig_get(&out->losses, 0, image) == 0);
    }
}

static void loss(void **state, struct scene s, double size) {
    struct rig *rig = rig_new(state);
    s.logits = rig_tensor(rig, s.batch, s.classes, s.bf16, 1);
    for (int row = 0; row < s.n; row++)
        for (int c = 0; c < s.classes; c++)
            rig_set(rig, &s.logits, row, c, size * s.logits.values[row * s.logits.cp + c]);
    make_samples(&s);
    struct outputs out = run_loss(rig, &s);
    for (int image = 0; image < s.n; image++)
        check_image(&s, &out, image);
    check_rest(&s, &out);
    rig_free(rig);
}

void test_loss(void **state) {
    static const int sizes[][3] = {{1, 1, 1}, {3, 2, 2}, {9, 9, 10}, {20, 17, 33}, {40, 33, 100}}; /* batch, n, classes */
    for (int i = 0; i < 5; i++)
        for (int how = 0; how < 8; how++)
            RIG_BOTH(loss(state,
                          (struct scene){.batch = sizes[i][0],
                                         .n = sizes[i][1],
                                         .classes = sizes[i][2],
                                         .train = how & 1,
                                         .mixes = how & 2,
                                         .smoothing = how & 4 ? 0.1f : 0,
                                         .bf16 = bf16},
                          5))
}

/* Logits that would overflow, ties, a class that is impossible but not asked for, and a NaN, which must show in the loss. */
void test_loss_extremes(void **state) {
    struct scene s = {.batch = 4, .n = 4, .classes = 40, .train = true};
    loss(state, s, 1e4);
    struct rig *rig = rig_new(state);
    s.logits = rig_tensor(rig, s.batch, s.classes, false, 1);
    for (int c = 0; c < s.classes; c++)
        rig_set(rig, &s.logits, 0, c, c == 9 ? (double)-INFINITY : 2);
    rig_set(rig, &s.logits, 1, 38, 7);
    rig_set(rig, &s.logits, 1, 6, 7);
    rig_set(rig, &s.logits, 2, 5, (double)NAN);
    rig_set(rig, &s.logits, 3, 0, (double)NAN);
    make_samples(&s);
    s.samples[1].label = 6;
    struct outputs out = run_loss(rig, &s);
    check_image(&s, &out, 0);
    check_image(&s, &out, 1);
    for (int image = 2; image < 4; image++)
        assert_true(isnan(rig_get(&out.losses, 0, image)) && isnan(rig_get(&out.gradient, image, 1)));
    rig_free(rig);
}

/* --- sums --- */

static void loss_sum(void **state, int batch, int n) {
    struct rig *rig = rig_new(state);
    struct tensor losses = rig_dense(rig, 1, batch, false, 1);
    int32_t rights[1000], correct = 0;
    double sum = 0;
    for (int i = 0; i < batch; i++)
        rights[i] = i % 3 == 0;
    for (int i = 0; i < n; i++) {
        sum += losses.values[i];
        correct += rights[i];
    }
    struct kernel_result before = {.gradient_norm = 3, .clip = 4}, after;
    struct kernel_loss_sum params = {.losses = losses.at,
                                     .rights = rig_input(rig, rights, (size_t)batch * sizeof rights[0]),
                                     .step = rig_step(rig, n),
                                     .result = rig_target(rig, &before, sizeof before)};
    rig_run(rig, KERNEL_loss_sum, &params, 1, 1);
    memcpy(&after, rig_read(params.result), sizeof after);
    assert_true(after.loss_sum == sum && after.gradient_norm == 3 && after.clip == 4);
    assert_int_equal(after.correct, correct);
    rig_free(rig);
}

void test_loss_sum(void **state) {
    loss_sum(state, 1, 1);
    loss_sum(state, 300, 256);
    loss_sum(state, 1000, 777);
}
