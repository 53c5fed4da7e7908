/* A module against the reference over several steps with each optimizer and each option of a step. */
#include "tests/ops/checks.h"
#include "tests/ops/compare.h"

enum { STEPS = 5, FIRST_STEP = 3 };

/* Smooth, so that it is the same network in bf16, and with every kind of parameter; the biased convolution is not in front of a
 * batch normalization, where its gradient would be nothing but rounding. */
static const struct op_case network = {
    "training", {3, 8, 7}, 6, "conv o=8 k=3 p=1; norm; act kind=silu; conv o=12 k=3 s=2 p=1 bias; group g=3; act kind=gelu; gap"};

#define SGD .kind = OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.9f
#define ADAM .kind = OPTIMIZER_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-8f
#define ADAMW .kind = OPTIMIZER_ADAMW, .lr = 0.01f, .beta1 = 0.8f, .beta2 = 0.999f, .epsilon = 1e-3f, .weight_decay = 0.5f
#define RMSPROP .kind = OPTIMIZER_RMSPROP, .lr = 0.01f, .alpha = 0.9f, .epsilon = 1e-8f

/* A clip_norm of 0.1 is below the norm of the gradients, one of 100 above it. */
const struct training_case training_cases[] = {
    {.name = "sgd", .optimizer = {SGD}},
    {.name = "sgd without momentum", .optimizer = {.kind = OPTIMIZER_SGD, .lr = 0.1f}},
    {.name = "sgd, decay", .optimizer = {SGD, .weight_decay = 0.1f}},
    {.name = "sgd, decay of weights only", .optimizer = {SGD, .weight_decay = 0.1f, .decay_weights_only = true}},
    {.name = "sgd, Nesterov", .optimizer = {SGD, .weight_decay = 0.1f, .nesterov = true}},
    {.name = "sgd, clipped", .optimizer = {SGD, .weight_decay = 0.1f, .clip_norm = 0.1f}},
    {.name = "sgd, Nesterov, clipped, average",
     .average = true,
     .optimizer = {SGD, .nesterov = true, .clip_norm = 0.1f, .average_decay = 0.9f}},
    {.name = "sgd, average", .optimizer = {SGD, .average_decay = 0.7f}, .average = true},
    {.name = "adam", .optimizer = {ADAM}},
    {.name = "adam, decay", .optimizer = {ADAM, .weight_decay = 0.1f}},
    {.name = "adam, decay of weights only", .optimizer = {ADAM, .weight_decay = 0.1f, .decay_weights_only = true}},
    {.name = "adam, clipped", .optimizer = {ADAM, .clip_norm = 0.1f}},
    {.name = "adam, clip norm not reached", .optimizer = {ADAM, .clip_norm = 100.0f}},
    {.name = "adam, average", .optimizer = {ADAM, .average_decay = 0.9f}, .average = true},
    {.name = "adamw", .optimizer = {ADAMW}},
    {.name = "adamw, decay of weights only", .optimizer = {ADAMW, .decay_weights_only = true}},
    {.name = "adamw, clipped, average", .optimizer = {ADAMW, .clip_norm = 0.1f, .average_decay = 0.5f}, .average = true},
    {.name = "rmsprop", .optimizer = {RMSPROP}},
    {.name = "rmsprop, momentum", .optimizer = {RMSPROP, .momentum = 0.9f}},
    {.name = "rmsprop, decay", .optimizer = {RMSPROP, .weight_decay = 0.1f}},
    {.name = "rmsprop, decay of weights only", .optimizer = {RMSPROP, .weight_decay = 0.1f, .decay_weights_only = true}},
    {.name = "rmsprop, clipped, average",
     .optimizer = {RMSPROP, .momentum = 0.5f, .clip_norm = 0.1f, .average_decay = 0.99f},
     .average = true},
    {.name = "label smoothing", .optimizer = {SGD}, .smoothing = 0.1f},
    {.name = "mixup", .optimizer = {SGD}, .mixup = true},
    {.name = "mixup and label smoothing", .optimizer = {SGD}, .mixup = true, .smoothing = 0.3f},
};
const size_t training_cases_n = sizeof training_cases / sizeof training_cases[0];

static void train(struct pair *pair, const struct training_case *training_case) {
    pair->optimizer = training_case->optimizer;
    pair->batch.mixup = training_case->mixup;
    pair->batch.smoothing = training_case->smoothing;
    pair_set(pair);
    for (int step = 0; step < STEPS; step++) {
        pair->optimizer.step = FIRST_STEP + step;
        pair_train(pair, "a training step", pair->batch.n - step % 2);
    }
    compare_params(pair);
}

/* A tensor that the plan was compiled without must be refused, not read. */
static void check_missing(struct pair *pair) {
    for (int i = 0; i < pair->module.graph->params_n; i++)
        for (int kind = TENSOR_VALUE; kind <= TENSOR_GRADIENT; kind++) {
            struct buffer values = buffer_new(pair->module.graph->params[i].count, sizeof(float));
            struct err err = {0};
            if (!rig_has(&pair->module, (enum backend_tensor)kind, i) &&
                pair->module.module->get_tensor(pair->module.plan, (enum backend_tensor)kind, i, buffer_floats(&values), &err) ==
                    0)
                report_add(pair->report, "%s has a tensor of kind %d", pair->module.graph->params[i].name, kind);
            buffer_free(&values);
        }
}

void check_training(const struct residuum_backend *ref, const struct residuum_backend *module, enum spec_precision precision,
                    const struct training_case *training_case, struct report *report) {
    struct err err = {0};
    struct subject subject;
    if (case_subject(&network, &subject, &err) < 0) {
        report_add(report, "%s", err.text);
        return;
    }
    struct pair pair;
    struct backend_plan_options options = {.batch = network.batch,
                                           .precision = precision,
                                           .optimizer = training_case->optimizer.kind,
                                           .average = training_case->average};
    if (pair_init(&pair, ref, module, &subject, &options, report) == 0) {
        train(&pair, training_case);
        check_missing(&pair);
    }
    pair_done(&pair);
    subject_done(&subject);
}
