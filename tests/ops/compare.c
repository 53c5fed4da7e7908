/* Comparing a module with the reference: see compare.h. */
#include "tests/ops/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ops/checks.h"

/* What may differ from the reference: the length of the difference relative to the length of the tensor (rms), and the largest
 * difference relative to the tensor's largest value (peak).
 *
 * f32: sums of up to a few thousand products in another order differ by some units of 2^-24 = 6e-8; normalization and
 * cancellation make a few more of it. bf16 has 8 significant bits: each stored tensor is off by up
 * to 2^-9 = 0.2 %, about 0.1 % in the mean square, and half a dozen of them stand behind one another; gradients go that way
 * twice. (Seen: outputs 1.2 %, gradients 2 %.) Rough cases are those where batch normalization spreads values over the kink of a
 * relu again and again, or a pool's maximum changes: a value in 300 on the other side of a kink is sqrt(1 / 300) = 6 % in the
 * mean square behind each relu. (Seen: outputs 2 %, gradients 24 %, peaks 48 %.) What joins their layers is checked tightly by
 * cases of the same shape with smooth activations.
 *
 * Random graphs are deeper, and have tensors of two or three values that are what cancellation leaves of much larger terms. (Seen
 * in 200 graphs: f32: outputs 3e-6, gradients 5e-5 at most, 7e-6 but for one in a thousand; bf16, smooth: outputs 9 %, gradients
 * 16 %, 7 % but for one in a thousand; rough: gradients 120 %, peaks 140 %: of a group norm whose three gradients are what
 * cancellation leaves, behind which one kink was passed.) A gradient that is missing is off by 100 %; where that is within the
 * tolerance, f32 shows it. */
static const struct tolerance tolerance_f32 = {5e-6, 2e-5, 1e-5, 3e-5, 5e-6};
static const struct tolerance tolerance_bf16 = {2e-2, 3e-2, 4e-2, 6e-2, 2e-2};
static const struct tolerance tolerance_bf16_rough = {4e-2, 1e-1, 3e-1, 6e-1, 2e-2};
static const struct tolerance tolerance_f32_random = {1e-5, 2e-5, 1e-4, 1e-4, 5e-6};
static const struct tolerance tolerance_bf16_random = {1.5e-1, 1.5e-1, 3e-1, 3e-1, 3e-2};
static const struct tolerance tolerance_bf16_random_rough = {1.5e-1, 1.5e-1, 1.3, 2.0, 3e-2};

/* Tensors whose values are all below this are compared as if their largest were this: a bias before a normalization has a
 * gradient of 0 but for rounding. */
static const double smallest = 1e-3;

void compare(struct pair *pair, const char *what, const char *name, const float *expected, const float *got, size_t count,
             double rms, double peak) {
    double sum_difference = 0.0, sum_expected = 0.0, largest_difference = 0.0, largest = smallest;
    size_t worst = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)expected[i]);
        sum_difference += difference * difference;
        sum_expected += (double)expected[i] * (double)expected[i];
        largest = fmax(largest, fabs((double)expected[i]));
        if (!(difference <= largest_difference)) { /* so that NaN counts */
            largest_difference = difference;
            worst = i;
        }
    }
    double off_rms = sqrt(sum_difference / (double)count) / fmax(sqrt(sum_expected / (double)count), smallest);
    double off_peak = largest_difference / largest;
    if (!(off_rms <= rms) || !(off_peak <= peak))
        report_add(
            pair->report,
            "%s of %s: rms off by %.2g (allowed %.2g), peak by %.2g (allowed %.2g), most at [%zu of %zu]: %g instead of %g", what,
            name, off_rms, rms, off_peak, peak, worst, count, (double)got[worst], (double)expected[worst]);
}

void compare_activations(struct pair *pair, const char *when, int n) {
    for (int i = 0; i < pair->ref.graph->nodes_n; i++) {
        struct buffer expected = rig_activation(&pair->ref, i, n), got = rig_activation(&pair->module, i, n);
        char what[64];
        snprintf(what, sizeof what, "%s: output", when);
        compare(pair, what, pair->ref.graph->nodes[i].name, buffer_floats(&expected), buffer_floats(&got),
                expected.size_bytes / sizeof(float), pair->tolerance->activation_rms, pair->tolerance->activation_peak);
        buffer_free(&expected);
        buffer_free(&got);
    }
}

/* Compares a parameter's tensor; what pair_set gave is taken away first. */
static void compare_tensor(struct pair *pair, enum backend_tensor kind, const char *what, int i) {
    const struct graph_param *row = &pair->ref.graph->params[i];
    struct buffer expected = rig_get(&pair->ref, kind, i), got = rig_get(&pair->module, kind, i);
    struct buffer start = buffer_new(row->count, sizeof(float));
    float *from = buffer_floats(&start), *a = buffer_floats(&expected), *b = buffer_floats(&got);
    if (kind != TENSOR_GRADIENT)
        values_fill(pair->ref.graph, kind, i, from);
    for (size_t k = 0; k < row->count && kind != TENSOR_GRADIENT; k++) {
        a[k] -= from[k];
        b[k] -= from[k];
    }
    bool statistic = !row->trainable;
    compare(pair, what, row->name, a, b, row->count,
            statistic ? pair->tolerance->activation_rms * 2 : pair->tolerance->gradient_rms,
            statistic ? pair->tolerance->activation_peak : pair->tolerance->gradient_peak);
    buffer_free(&expected);
    buffer_free(&got);
    buffer_free(&start);
}

static void compare_statistics(struct pair *pair) {
    static const char *const names[RIG_STATISTICS] = {"gradient norm", "weight norm", "update norm"};
    struct buffer expected = rig_statistics(&pair->ref), got = rig_statistics(&pair->module);
    for (int i = 0; i < pair->ref.graph->params_n; i++)
        for (int k = 0; k < RIG_STATISTICS; k++)
            compare(pair, names[k], pair->ref.graph->params[i].name, buffer_floats(&expected) + i * RIG_STATISTICS + k,
                    buffer_floats(&got) + i * RIG_STATISTICS + k, 1, pair->tolerance->gradient_rms,
                    pair->tolerance->gradient_peak);
    buffer_free(&expected);
    buffer_free(&got);
}

void compare_params(struct pair *pair) {
    static const char *const names[] = {[TENSOR_VALUE] = "change",
                                        [TENSOR_MOMENTUM] = "change of the momentum",
                                        [TENSOR_SQUARE] = "change of the mean square",
                                        [TENSOR_AVERAGE] = "change of the average",
                                        [TENSOR_GRADIENT] = "gradient"};
    for (int i = 0; i < pair->ref.graph->params_n; i++)
        for (int kind = TENSOR_VALUE; kind <= TENSOR_GRADIENT; kind++)
            if (rig_has(&pair->ref, (enum backend_tensor)kind, i))
                compare_tensor(pair, (enum backend_tensor)kind, names[kind], i);
    compare_statistics(pair);
}

/* How many images have two largest logits so close that either may be taken. */
static int undecided(struct pair *pair, int n) {
    int classes = pair->ref.graph->classes, count = 0;
    struct buffer logits = rig_activation(&pair->ref, pair->ref.graph->nodes_n - 2, n);
    for (int image = 0; image < n; image++) {
        const float *row = buffer_floats(&logits) + image * classes;
        double first = -INFINITY, second = -INFINITY;
        for (int c = 0; c < classes; c++) {
            double z = (double)row[c];
            second = z > first ? first : fmax(second, z);
            first = fmax(first, z);
        }
        count += first - second <= 2.0 * pair->tolerance->activation_peak * fmax(fabs(first), 1.0) ? 1 : 0;
    }
    buffer_free(&logits);
    return count;
}

void compare_results(struct pair *pair, const char *when, int n, struct backend_result expected, struct backend_result got) {
    double off = fabs(got.loss_sum - expected.loss_sum) / n;
    if (!(off <= pair->tolerance->loss * fmax(expected.loss_sum / n, 1.0)))
        report_add(pair->report, "%s: loss sum %.9g instead of %.9g", when, got.loss_sum, expected.loss_sum);
    if (abs(got.correct - expected.correct) > undecided(pair, n))
        report_add(pair->report, "%s: %d correct instead of %d", when, got.correct, expected.correct);
}

static const struct tolerance *tolerance_for(const struct subject *subject, enum spec_precision precision) {
    if (precision == PRECISION_F32)
        return subject->random ? &tolerance_f32_random : &tolerance_f32;
    if (subject->random)
        return subject->rough ? &tolerance_bf16_random_rough : &tolerance_bf16_random;
    return subject->rough ? &tolerance_bf16_rough : &tolerance_bf16;
}

int pair_init(struct pair *pair, const struct residuum_backend *ref, const struct residuum_backend *module,
              const struct subject *subject, const struct backend_plan_options *options, struct report *report) {
    struct backend_plan_options plain = *options;
    plain.precision = PRECISION_F32;
    *pair = (struct pair){.tolerance = tolerance_for(subject, options->precision), .report = report};
    pair->batch = batch_new(subject->graph, options->batch);
    values_fill_batch(subject->graph, &pair->batch);
    if (rig_init(&pair->ref, ref, subject->graph, &plain, report) < 0)
        return -1;
    return rig_init(&pair->module, module, subject->graph, options, report);
}

void pair_done(struct pair *pair) {
    rig_done(&pair->module);
    rig_done(&pair->ref);
    batch_free(&pair->batch);
}

void pair_set(struct pair *pair) {
    values_set(&pair->ref);
    values_set(&pair->module);
}

void pair_train(struct pair *pair, const char *when, int n) {
    struct backend_result expected = rig_train(&pair->ref, &pair->batch, n, &pair->optimizer);
    struct backend_result got = rig_train(&pair->module, &pair->batch, n, &pair->optimizer);
    compare_results(pair, when, n, expected, got);
}
