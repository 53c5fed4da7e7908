/* A module against the reference: losses, softmax, activations, gradients, norms, updated values, statistics; for a full batch, a
 * smaller one behind it and a full one again; twice the same, bit for bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/checks.h"
#include "tests/ops/compare.h"

static void check_train(struct pair *pair, const char *when, int n) {
    pair_set(pair);
    pair_train(pair, when, n);
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
    pair_set(pair);
    struct backend_result a = rig_eval(&pair->ref, &pair->batch, n, &expected);
    struct backend_result b = rig_eval(&pair->module, &pair->batch, n, &got);
    compare_results(pair, when, n, a, b);
    compare(pair, when, "softmax", buffer_floats(&expected), buffer_floats(&got), expected.size_bytes / sizeof(float),
            pair->tolerance->activation_rms, pair->tolerance->activation_peak);
    check_sums(pair, &got, n);
    if (pair->module.options.use != USE_EVALUATE)
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
        rig_train(&pair->module, &pair->batch, pair->batch.n, &pair->optimizer);
        rig_train(&other, &pair->batch, pair->batch.n, &pair->optimizer);
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
    for (int i = 0; i < pair->module.graph->params_n; i++)
        for (int kind = TENSOR_VALUE; kind <= TENSOR_AVERAGE; kind++) {
            if (!rig_has(&pair->module, (enum backend_tensor)kind, i))
                continue;
            struct buffer got = rig_get(&pair->module, (enum backend_tensor)kind, i), expected = buffer_new(got.size_bytes, 1);
            values_fill(pair->module.graph, (enum backend_tensor)kind, i, buffer_floats(&expected));
            if (memcmp(buffer_floats(&got), buffer_floats(&expected), got.size_bytes) != 0)
                report_add(pair->report, "%s does not come back as it was set", pair->module.graph->params[i].name);
            buffer_free(&got);
            buffer_free(&expected);
        }
}

static void must_refuse(struct pair *pair, const char *what, const struct backend_batch *view) {
    struct backend_result result;
    struct err err = {0};
    if (pair->module.module->train_step(pair->module.plan, view, &pair->optimizer, &result, &err) == 0 || err.code == ERR_NONE)
        report_add(pair->report, "a step %s was not refused", what);
}

/* A plan for evaluation or inspection must evaluate as the training plan does; one for inspection keeps every output. */
static void check_use(struct pair *pair, struct backend_plan_options options, enum backend_use use, const char *name) {
    struct pair uses = *pair; /* the training plan in the place of the reference */
    options.use = use;
    uses.ref = pair->module;
    if (rig_init(&uses.module, uses.ref.module, uses.ref.graph, &options, pair->report) == 0) {
        check_eval(&uses, name, options.batch);
        struct backend_batch view = batch_view(&pair->batch, 1);
        must_refuse(&uses, "on a plan that is not for training", &view);
    }
    rig_done(&uses.module);
}

/* Steps that cannot be must be refused, not run: a wrong label would read outside the logits. */
static void check_refusals(struct pair *pair) {
    struct backend_batch view = batch_view(&pair->batch, 0);
    must_refuse(pair, "with no images", &view);
    view.n = pair->batch.n + 1;
    must_refuse(pair, "with more images than the plan holds", &view);
    view.n = 1;
    int32_t *label = (int32_t *)(void *)buffer_floats(&pair->batch.labels), kept = *label;
    *label = pair->ref.graph->classes;
    must_refuse(pair, "with a label too large", &view);
    *label = -1;
    must_refuse(pair, "with a negative label", &view);
    *label = kept;
    pair->batch.mixup = true;
    view = batch_view(&pair->batch, 1);
    view.others = label;
    *label = pair->ref.graph->classes;
    view.labels = &kept;
    must_refuse(pair, "with another label too large", &view);
    *label = kept;
    pair->batch.mixup = false;
    pair->optimizer.kind = OPTIMIZER_ADAM;
    view = batch_view(&pair->batch, 1);
    must_refuse(pair, "of Adam on a plan for sgd", &view);
    pair->optimizer.kind = OPTIMIZER_SGD;
}

/* Fewer images than the last evaluation had can be asked for. */
static void check_part(struct pair *pair) {
    if (pair->batch.n > 1)
        compare_activations(pair, "first image of a full batch", 1);
}

/* Checks what a plan starts with: 0 everywhere, 1 for running variances and their averages. */
static void check_start(struct pair *pair) {
    for (int i = 0; i < pair->module.graph->params_n; i++) {
        const struct graph_param *row = &pair->module.graph->params[i];
        for (int kind = TENSOR_VALUE; kind <= TENSOR_AVERAGE; kind++) {
            if (!rig_has(&pair->module, (enum backend_tensor)kind, i))
                continue;
            struct buffer got = rig_get(&pair->module, (enum backend_tensor)kind, i);
            float expected = row->role == ROLE_RUNNING_VAR ? 1.0f : 0.0f;
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
    double trained = rig_train(&pair->module, &pair->batch, 1, &pair->optimizer).loss_sum;
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
    check_train(pair, "smaller batch", part);
    check_eval(pair, "evaluation", full);
    check_part(pair);
    check_train(pair, "one image", 1);
    pair->optimizer.nesterov = true;
    check_train(pair, "full batch again, Nesterov", full);
    check_eval(pair, "evaluation of a smaller batch", part);
    check_repeat(pair, options);
    check_use(pair, *options, USE_EVALUATE, "plan for evaluation");
    check_use(pair, *options, USE_INSPECT, "plan for inspection");
    check_refusals(pair);
    check_runaway(pair);
}

void check_against(const struct residuum_backend *ref, const struct residuum_backend *module, enum spec_precision precision,
                   const struct subject *subject, struct report *report) {
    struct pair pair;
    struct backend_plan_options options = {.batch = subject->batch, .precision = precision};
    if (pair_init(&pair, ref, module, subject, &options, report) == 0) {
        pair.optimizer = (struct backend_optimizer){.lr = 0.5f, .momentum = 0.9f, .weight_decay = 0.01f};
        check_pair(&pair, &options);
    }
    pair_done(&pair);
}
