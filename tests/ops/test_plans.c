/* What plans promise besides right numbers: the same steps give the same bits, a plan that takes over another's tensors goes on
 * as that one does, and a plan holds and shows what its use is for. Every module of the build is tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/ops/checks.h"

enum { BATCH = 9, STEPS = 5, TAKEN_OVER = 2, MODULES_MAX = 8, TESTS_MAX = 64 };

/* Something of everything that could depend on threads: sums over images and pixels, random numbers, odd channels. */
static const struct op_case net = {"net",
                                   {3, 12, 10},
                                   BATCH,
                                   "conv o=20 k=3 p=1; norm; act kind=relu; dropout rate=0.3; conv o=32 k=3 p=1; norm;"
                                   "conv o=32 k=1 in=4; add in=6,7; act kind=relu; max k=2 s=2; conv o=48 k=3 s=2 p=1 bias;"
                                   "act kind=gelu; gap; linear o=33 bias; act kind=tanh"};

struct job {
    const struct residuum_backend *module;
    enum spec_precision precision;
    enum spec_optimizer optimizer;
    char name[80];
};

static struct graph *build(void) {
    struct err err = {0};
    struct graph *graph = case_build(&net, &err);
    if (graph == NULL)
        fail_msg("%s", err.text);
    return graph;
}

/* --- the same steps give the same bits --- */

static const enum backend_tensor kinds[] = {TENSOR_VALUE, TENSOR_MOMENTUM, TENSOR_SQUARE, TENSOR_AVERAGE, TENSOR_GRADIENT};
static const char *const kind_names[] = {"value", "momentum", "square", "average", "gradient"};

static bool has(const struct job *job, const struct graph_param *param, enum backend_tensor kind) {
    if (kind == TENSOR_VALUE || kind == TENSOR_AVERAGE)
        return true;
    return param->trainable && (kind != TENSOR_SQUARE || job->optimizer != OPTIMIZER_SGD);
}

static struct backend_result train(struct rig *rig, const struct job *job, const struct batch *batch, int step) {
    struct backend_optimizer optimizer = {.kind = job->optimizer,
                                          .lr = 0.01f,
                                          .momentum = 0.9f,
                                          .weight_decay = 1e-3f,
                                          .beta1 = 0.9f,
                                          .beta2 = 0.999f,
                                          .alpha = 0.99f,
                                          .epsilon = 1e-8f,
                                          .nesterov = true,
                                          .clip_norm = 0.5f,
                                          .average_decay = 0.9f,
                                          .step = step};
    return rig_train(rig, batch, step == STEPS ? BATCH / 2 : BATCH, &optimizer); /* an epoch's last batch is smaller */
}

static void compare(const struct job *job, struct rig *one, struct rig *other, int step) {
    for (int i = 0; i < one->graph->params_n; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if (!has(job, &one->graph->params[i], kinds[k]))
                continue;
            struct buffer a = rig_get(one, kinds[k], i), b = rig_get(other, kinds[k], i);
            if (memcmp(buffer_floats(&a), buffer_floats(&b), a.size_bytes) != 0)
                report_add(one->report, "step %d: the %s of %s differs", step, kind_names[k], one->graph->params[i].name);
            buffer_free(&a);
            buffer_free(&b);
        }
}

static void take_over(const struct job *job, struct rig *from, struct rig *to) {
    for (int i = 0; i < from->graph->params_n; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if (!has(job, &from->graph->params[i], kinds[k]) || kinds[k] == TENSOR_GRADIENT)
                continue;
            struct buffer values = rig_get(from, kinds[k], i);
            rig_set(to, kinds[k], i, buffer_floats(&values));
            buffer_free(&values);
        }
}

/* The second plan makes all steps of the first, the third only those behind TAKEN_OVER. */
static void run_steps(const struct job *job, struct rig *rigs, const struct batch *batch) {
    values_set(&rigs[0]);
    values_set(&rigs[1]);
    for (int step = 1; step <= STEPS; step++) {
        struct backend_result result = train(&rigs[0], job, batch, step);
        for (int i = 1; i < 3 && (i == 1 || step > TAKEN_OVER); i++) {
            struct backend_result other = train(&rigs[i], job, batch, step);
            if (result.loss_sum != other.loss_sum || result.correct != other.correct)
                report_add(rigs[0].report, "step %d of plan %d: loss %.17g, not %.17g", step, i, other.loss_sum, result.loss_sum);
            compare(job, &rigs[0], &rigs[i], step);
        }
        if (step == TAKEN_OVER)
            take_over(job, &rigs[0], &rigs[2]);
    }
}

static void check_bits(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    struct graph *graph = build();
    struct backend_plan_options options = {
        .batch = BATCH, .precision = job->precision, .optimizer = job->optimizer, .average = true};
    struct batch batch = batch_new(graph, BATCH);
    struct rig rigs[3] = {0};
    values_fill_batch(graph, &batch);
    for (int i = 0; i < 3; i++)
        rig_init(&rigs[i], job->module, graph, &options, &report);
    if (report.n == 0)
        run_steps(job, rigs, &batch);
    for (int i = 0; i < 3; i++)
        rig_done(&rigs[i]);
    batch_free(&batch);
    graph_free(graph);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

/* --- what a use is for --- */

/* Each node's output in an inspecting plan against that of a training plan in evaluation. */
static void compare_nodes(struct rig *inspecting, struct rig *training) {
    const struct graph *graph = inspecting->graph;
    for (int i = 0; i < graph->nodes_n; i++) {
        struct buffer a = rig_activation(inspecting, i, BATCH), b = rig_activation(training, i, BATCH);
        size_t n = a.size_bytes / sizeof(float);
        for (size_t k = 0; k < n; k++) {
            double x = (double)buffer_floats(&a)[k], y = (double)buffer_floats(&b)[k], off = x - y;
            if (!(off * off <= 1e-8 * (1.0 + y * y))) { /* the kernels of inference may add in another order */
                report_add(inspecting->report, "%s [%zu] is %g when inspected, %g in training", graph->nodes[i].name, k, x, y);
                break;
            }
        }
        buffer_free(&a);
        buffer_free(&b);
    }
}

static void expect_refusal(struct rig *rig, const char *what, int rc) {
    if (rc == 0)
        report_add(rig->report, "%s was not refused", what);
}

static void check_refusals(struct rig *rig, const struct batch *batch) {
    const struct residuum_backend *module = rig->module;
    const struct backend_optimizer optimizer = {.lr = 0.1f, .step = 1};
    struct backend_batch view = batch_view(batch, BATCH);
    struct backend_result result;
    struct buffer values = buffer_new(rig->graph->params[0].count, sizeof(float));
    struct err err = {0};
    expect_refusal(rig, "a training step", module->train_step(rig->plan, &view, &optimizer, &result, &err));
    for (size_t k = 1; k < sizeof kinds / sizeof kinds[0]; k++)
        expect_refusal(rig, kind_names[k], module->get_tensor(rig->plan, kinds[k], 0, buffer_floats(&values), &err));
    buffer_free(&values);
}

static void run_uses(struct rig *rigs, const struct batch *batch) {
    for (int i = 0; i < 2; i++) {
        struct buffer softmax;
        for (int param = 0; param < rigs[i].graph->params_n; param++) {
            struct buffer values = buffer_new(rigs[i].graph->params[param].count, sizeof(float));
            values_fill(rigs[i].graph, TENSOR_VALUE, param, buffer_floats(&values));
            rig_set(&rigs[i], TENSOR_VALUE, param, buffer_floats(&values));
            buffer_free(&values);
        }
        rig_eval(&rigs[i], batch, BATCH, &softmax);
        buffer_free(&softmax);
    }
    compare_nodes(&rigs[0], &rigs[1]);
    check_refusals(&rigs[0], batch);
    if (rigs[0].module->memory(rigs[0].plan) >= rigs[1].module->memory(rigs[1].plan))
        report_add(rigs[0].report, "an inspecting plan is as large as one for training");
}

static void check_uses(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    struct graph *graph = build();
    struct backend_plan_options inspecting = {.batch = BATCH, .use = USE_INSPECT}, training = {.batch = BATCH};
    struct batch batch = batch_new(graph, BATCH);
    struct rig rigs[2] = {0};
    values_fill_batch(graph, &batch);
    if (rig_init(&rigs[0], job->module, graph, &inspecting, &report) == 0 &&
        rig_init(&rigs[1], job->module, graph, &training, &report) == 0)
        run_uses(rigs, &batch);
    for (int i = 0; i < 2; i++)
        rig_done(&rigs[i]);
    batch_free(&batch);
    graph_free(graph);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

/* --- the list of tests --- */

struct suite {
    struct job jobs[TESTS_MAX];
    struct CMUnitTest tests[TESTS_MAX];
    size_t n;
};

static void add_job(struct suite *suite, const struct job *job, CMUnitTestFunction function) {
    suite->jobs[suite->n] = *job;
    suite->tests[suite->n] =
        (struct CMUnitTest){.name = suite->jobs[suite->n].name, .test_func = function, .initial_state = &suite->jobs[suite->n]};
    suite->n++;
}

static const char *const optimizer_names[] = {
    [OPTIMIZER_SGD] = "sgd", [OPTIMIZER_ADAM] = "adam", [OPTIMIZER_ADAMW] = "adamw", [OPTIMIZER_RMSPROP] = "rmsprop"};

static void add_module(struct suite *suite, const struct residuum_backend *module, struct report *report) {
    struct job job = {.module = module};
    snprintf(job.name, sizeof job.name, "%s: uses", module->name);
    add_job(suite, &job, check_uses);
    for (int precision = PRECISION_F32; precision <= PRECISION_BF16; precision++)
        for (int optimizer = OPTIMIZER_SGD; optimizer <= OPTIMIZER_RMSPROP; optimizer++) {
            job.precision = (enum spec_precision)precision;
            job.optimizer = (enum spec_optimizer)optimizer;
            snprintf(job.name, sizeof job.name, "%s %s: same bits with %s", module->name, spec_precision_name(job.precision),
                     optimizer_names[optimizer]);
            if (module_offers(module, job.precision, report) && suite->n < TESTS_MAX)
                add_job(suite, &job, check_bits);
        }
}

int main(void) {
    static struct suite suite;
    const struct residuum_backend *modules[MODULES_MAX];
    struct report report = {0};
    size_t n = modules_open(modules, MODULES_MAX, &report);
    for (size_t i = 0; i < n; i++)
        add_module(&suite, modules[i], &report);
    if (report.n > 0) {
        fprintf(stderr, "%s\n", report.first);
        return 1;
    }
    return _cmocka_run_group_tests("plans", suite.tests, suite.n, NULL, NULL);
}
