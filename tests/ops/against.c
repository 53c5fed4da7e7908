/* A module against the reference: losses, softmax, activations, gradients, norms, updated values, statistics; for a full batch, a
 * smaller one behind it and a full one again; twice the same, bit for bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/checks.h"

/* What may differ from the reference: the length of the difference relative to the length of the tensor (rms), and the largest
 * difference relative to the tensor's largest value (peak).
 *
 * f32: sums of up to a few thousand products in another order differ by some units of 2^-24 = 6e-8; normalization and
 * cancellation make a few more of it, Winograd's algorithm 2.5e-6. bf16 has 8 significant bits: each stored tensor is off by up
 * to 2^-9 = 0.2 %, about 0.1 % in the mean square, and half a dozen of them stand behind one another; gradients go that way
 * twice. (Seen: outputs 1.2 %, gradients 2 %.) Rough cases are those where batch normalization spreads values over the kink of a
 * relu again and again, or a pool's maximum changes: a value in 300 on the other side of a kink is sqrt(1 / 300) = 6 % in the
 * mean square behind each relu. (Seen: outputs 2 %, gradients 24 %, peaks 48 %.) What joins their layers is checked tightly by
 * cases of the same shape with smooth activations. */
struct tolerance {
    double activation_rms, activation_peak, gradient_rms, gradient_peak, loss;
};
static const struct tolerance tolerance_f32 = {5e-6, 2e-5, 1e-5, 3e-5, 5e-6};
static const struct tolerance tolerance_bf16 = {2e-2, 3e-2, 4e-2, 6e-2, 2e-2};
static const struct tolerance tolerance_bf16_rough = {4e-2, 1e-1, 3e-1, 6e-1, 2e-2};

/* Tensors whose values are all below this are compared as if their largest were this: a bias before a normalization has a
 * gradient of 0 but for rounding. */
static const double smallest = 1e-3;

struct pair {
    struct rig ref, module;
    const struct tolerance *tolerance;
    struct batch batch;
    struct report *report;
    struct backend_optimizer sgd;
};

static void compare(struct pair *pair, const char *what, const char *name, const float *expected, const float *got, size_t count,
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

static void compare_activations(struct pair *pair, const char *when, int n) {
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

/* Compares a parameter's tensor; values as their change from where they started, which is what the step did. */
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

static void compare_params(struct pair *pair) {
    struct buffer expected = rig_norms(&pair->ref), got = rig_norms(&pair->module);
    for (int i = 0; i < pair->ref.graph->params_n; i++) {
        const struct graph_param *row = &pair->ref.graph->params[i];
        compare_tensor(pair, TENSOR_VALUE, "change", i);
        if (!row->trainable)
            continue;
        compare_tensor(pair, TENSOR_GRADIENT, "gradient", i);
        compare_tensor(pair, TENSOR_MOMENTUM, "momentum", i);
        compare(pair, "gradient norm", row->name, buffer_floats(&expected) + i, buffer_floats(&got) + i, 1,
                pair->tolerance->gradient_rms, pair->tolerance->gradient_peak);
    }
    buffer_free(&expected);
    buffer_free(&got);
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

static void compare_results(struct pair *pair, const char *when, int n, struct backend_result expected,
                            struct backend_result got) {
    double off = fabs(got.loss_sum - expected.loss_sum) / n;
    if (!(off <= pair->tolerance->loss * fmax(expected.loss_sum / n, 1.0)))
        report_add(pair->report, "%s: loss sum %.9g instead of %.9g", when, got.loss_sum, expected.loss_sum);
    if (abs(got.correct - expected.correct) > undecided(pair, n))
        report_add(pair->report, "%s: %d correct instead of %d", when, got.correct, expected.correct);
}

static void check_train(struct pair *pair, const char *when, int n) {
    values_set(&pair->ref);
    values_set(&pair->module);
    struct backend_result expected = rig_train(&pair->ref, &pair->batch, n, &pair->sgd);
    struct backend_result got = rig_train(&pair->module, &pair->batch, n, &pair->sgd);
    compare_results(pair, when, n, expected, got);
    compare_activations(pair, when, n);
    compare_params(pair);
}

static void check_sums(struct pair *pair, const struct buffer *softmax, int n) {
    int classes = pair->ref.graph->classes;
    for (int image = 0; image < n; image++) {
        double sum = 0.0;
        for (int c = 0; c < classes; c++)
            sum += (double)buffer_floats(softmax)[image * classes + c];
        if (!(fabs(sum - 1.0) <= 1e-5))
            report_add(pair->report, "evaluation: softmax of image %d sums to %.9g", image, sum);
    }
}

static void check_eval(struct pair *pair, const char *when, int n) {
    struct buffer expected, got;
    values_set(&pair->ref);
    values_set(&pair->module);
    struct backend_result a = rig_eval(&pair->ref, &pair->batch, n, &expected);
    struct backend_result b = rig_eval(&pair->module, &pair->batch, n, &got);
    compare_results(pair, when, n, a, b);
    compare(pair, when, "softmax", buffer_floats(&expected), buffer_floats(&got), expected.size_bytes / sizeof(float),
            pair->tolerance->activation_rms, pair->tolerance->activation_peak);
    check_sums(pair, &got, n);
    compare_activations(pair, when, n);
    buffer_free(&expected);
    buffer_free(&got);
}

/* One more step from the same start must give the same bits in a plan that did other work before as in a new one. */
static void check_repeat(struct pair *pair, const struct backend_plan_options *options) {
    struct rig other;
    if (rig_init(&other, pair->module.module, pair->module.graph, options, pair->report) == 0) {
        values_set(&pair->module);
        values_set(&other);
        rig_train(&pair->module, &pair->batch, pair->batch.n, &pair->sgd);
        rig_train(&other, &pair->batch, pair->batch.n, &pair->sgd);
        for (int i = 0; i < other.graph->params_n; i++) {
            struct buffer a = rig_get(&pair->module, TENSOR_VALUE, i), b = rig_get(&other, TENSOR_VALUE, i);
            if (memcmp(buffer_floats(&a), buffer_floats(&b), a.size_bytes) != 0)
                report_add(pair->report, "%s differs between two runs of the same step", other.graph->params[i].name);
            buffer_free(&a);
            buffer_free(&b);
        }
    }
    rig_done(&other);
}

/* What is set must come back bit for bit, also in bf16: the masters are f32. */
static void check_round_trip(struct pair *pair) {
    values_set(&pair->module);
    for (int i = 0; i < pair->module.graph->params_n; i++) {
        struct buffer got = rig_get(&pair->module, TENSOR_VALUE, i), expected = buffer_new(got.size_bytes, 1);
        values_fill(pair->module.graph, TENSOR_VALUE, i, buffer_floats(&expected));
        if (memcmp(buffer_floats(&got), buffer_floats(&expected), got.size_bytes) != 0)
            report_add(pair->report, "%s does not come back as it was set", pair->module.graph->params[i].name);
        buffer_free(&got);
        buffer_free(&expected);
    }
}

/* A plan for inference must evaluate as the training plan does. */
static void check_inference(struct pair *pair, struct backend_plan_options options) {
    struct rig training = pair->module;
    options.use = USE_EVALUATE;
    if (rig_init(&pair->module, training.module, training.graph, &options, pair->report) == 0) {
        for (int i = 0; i < training.graph->params_n; i++) {
            struct buffer values = buffer_new(training.graph->params[i].count, sizeof(float));
            values_fill(training.graph, TENSOR_VALUE, i, buffer_floats(&values));
            rig_set(&pair->module, TENSOR_VALUE, i, buffer_floats(&values));
            buffer_free(&values);
        }
        struct buffer expected, got;
        values_set(&training);
        rig_eval(&training, &pair->batch, pair->batch.n, &expected);
        rig_eval(&pair->module, &pair->batch, pair->batch.n, &got);
        compare(pair, "inference plan", "softmax", buffer_floats(&expected), buffer_floats(&got),
                expected.size_bytes / sizeof(float), pair->tolerance->activation_rms, pair->tolerance->activation_peak);
        buffer_free(&expected);
        buffer_free(&got);
    }
    rig_done(&pair->module);
    pair->module = training;
}

static void must_refuse(struct pair *pair, const char *what, const struct backend_batch *view) {
    struct backend_result result;
    struct err err = {0};
    if (pair->module.module->train_step(pair->module.plan, view, &pair->sgd, &result, &err) == 0 || err.code == ERR_NONE)
        report_add(pair->report, "a step with %s was not refused", what);
}

/* Steps that cannot be must be refused, not run: a wrong label would read outside the logits. */
static void check_refusals(struct pair *pair) {
    struct backend_batch view = batch_view(&pair->batch, 0);
    must_refuse(pair, "no images", &view);
    view.n = pair->batch.n + 1;
    must_refuse(pair, "more images than the plan holds", &view);
    view.n = 1;
    int32_t *label = (int32_t *)(void *)buffer_floats(&pair->batch.labels), kept = *label;
    *label = pair->ref.graph->classes;
    must_refuse(pair, "a label too large", &view);
    *label = -1;
    must_refuse(pair, "a negative label", &view);
    *label = kept;
}

/* Fewer images than the last step had can be asked for. */
static void check_part(struct pair *pair) {
    if (pair->batch.n > 1)
        compare_activations(pair, "first image of a full batch", 1);
}

/* Checks what a plan starts with: 0 everywhere, 1 for running variances. */
static void check_start(struct pair *pair) {
    for (int i = 0; i < pair->module.graph->params_n; i++) {
        const struct graph_param *row = &pair->module.graph->params[i];
        for (int kind = TENSOR_VALUE; kind <= (row->trainable ? TENSOR_MOMENTUM : TENSOR_VALUE); kind++) {
            struct buffer got = rig_get(&pair->module, (enum backend_tensor)kind, i);
            float expected = kind == TENSOR_VALUE && row->role == ROLE_RUNNING_VAR ? 1.0f : 0.0f;
            for (size_t k = 0; k < row->count; k++)
                if (!(buffer_floats(&got)[k] == expected))
                    report_add(pair->report, "a new plan has %g in %s", (double)buffer_floats(&got)[k], row->name);
            buffer_free(&got);
        }
    }
}

/* A network that has run away must say so by its loss, in training and in evaluation. */
static void check_runaway(struct pair *pair) {
    values_set(&pair->module);
    int last = pair->module.graph->params_n - 1; /* the bias of the last layer */
    struct buffer values = rig_get(&pair->module, TENSOR_VALUE, last), softmax;
    buffer_floats(&values)[1] = NAN;
    rig_set(&pair->module, TENSOR_VALUE, last, buffer_floats(&values));
    double evaluated = rig_eval(&pair->module, &pair->batch, 1, &softmax).loss_sum;
    double trained = rig_train(&pair->module, &pair->batch, 1, &pair->sgd).loss_sum;
    if (isfinite(evaluated) || isfinite(trained))
        report_add(pair->report, "with a bias that is not a number the losses are %g and %g", evaluated, trained);
    buffer_free(&values);
    buffer_free(&softmax);
}

static void check_pair(struct pair *pair, const struct backend_plan_options *options) {
    int full = options->batch, part = full > 1 ? full - 1 : 1;
    check_start(pair);
    check_round_trip(pair);
    check_train(pair, "full batch", full);
    check_part(pair);
    check_train(pair, "smaller batch", part);
    check_eval(pair, "evaluation", full);
    check_train(pair, "one image", 1);
    pair->sgd.nesterov = true;
    check_train(pair, "full batch again, Nesterov", full);
    check_eval(pair, "evaluation of a smaller batch", part);
    check_repeat(pair, options);
    check_inference(pair, *options);
    check_refusals(pair);
    check_runaway(pair);
}

void check_against(const struct residuum_backend *ref, const struct residuum_backend *module, enum spec_precision precision,
                   const struct op_case *op_case, struct report *report) {
    struct err err = {0};
    struct graph *graph = case_build(op_case, &err);
    if (graph == NULL) {
        report_add(report, "%s", err.text);
        return;
    }
    const struct tolerance *bf16 = case_is_rough(op_case) ? &tolerance_bf16_rough : &tolerance_bf16;
    struct pair pair = {.tolerance = precision == PRECISION_BF16 ? bf16 : &tolerance_f32,
                        .report = report,
                        .batch = batch_new(graph, op_case->batch),
                        .sgd = {.lr = 0.5f, .momentum = 0.9f, .weight_decay = 0.01f}};
    values_fill_batch(graph, &pair.batch);
    struct backend_plan_options options = {.batch = op_case->batch, .precision = PRECISION_F32};
    if (rig_init(&pair.ref, ref, graph, &options, report) == 0) {
        options.precision = precision;
        if (rig_init(&pair.module, module, graph, &options, report) == 0)
            check_pair(&pair, &options);
    }
    rig_done(&pair.module);
    rig_done(&pair.ref);
    batch_free(&pair.batch);
    graph_free(graph);
}
