/* Golden training: ten steps from given weights and images must give the stored numbers of PyTorch (gen_golden.py made them).
 *
 *     test_golden            every module of the build, in every precision that it offers
 *     test_golden PATH       one module */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/choices.h"
#include "tests/golden/formula.h"

/* What may differ from PyTorch: losses relatively, softmax absolutely, the change of a tensor over all steps relative to its
 * length. The stored numbers are those of double precision. f32 rounds, and now and then that moves a pixel over the kink of a
 * relu, which changes a small tensor by some thousandths. ref sums in double, in the same order everywhere, and stays on the
 * right side. bf16 has 8 bits: its losses stay near, its changes keep their direction and length roughly; Adam and
 * RMSprop move what has a small gradient as far as the rest, and its sign may be another one. */
struct tolerance {
    double loss, softmax, change;
};
static const struct tolerance tolerance_ref = {1e-7, 1e-6, 2e-5};
static const struct tolerance tolerances[] = {
    [PRECISION_F32] = {1e-5, 1e-5, 5e-3},
    [PRECISION_BF16] = {2e-2, 2e-2, 0.5},
};

enum { JOBS_MAX = 64, MODULES_MAX = 8, PATH_SIZE = 512 };
static const char *const files[] = {"resnet8",      "resnet8-decay", "resnet20-nesterov", "sgd-clipped",     "adam",
                                    "adam-clipped", "adamw",         "rmsprop",           "rmsprop-momentum"};

struct job {
    const struct residuum_backend *module;
    enum spec_precision precision;
    const char *file;
    char name[96];
};

/* One run of a golden file. */
struct run {
    struct rig rig;
    json_t *golden;
    const struct tolerance *tolerance;
    struct batch batch;
    struct report *report;
};

/* 0 where there is none */
static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static int build(const json_t *golden, struct graph **ret_graph, struct report *report) {
    struct spec_model model = {.options = {.shortcut = SHORTCUT_B}};
    snprintf(model.preset, sizeof model.preset, "%s", json_string_value(json_object_get(golden, "preset")));
    if (strcmp(json_string_value(json_object_get(golden, "shortcut")), "B") == 0)
        model.options.given = 1u << OPTION_SHORTCUT;
    int size = (int)number(golden, "size");
    struct err err = {0};
    if (graph_build(&model, (struct graph_shape){3, size, size}, 10, ret_graph, &err) == 0)
        return 0;
    report_add(report, "%s", err.text);
    return -1;
}

static enum spec_optimizer read_kind(const json_t *given) {
    const char *name = json_string_value(json_object_get(given, "kind"));
    int kind = 0;
    while (choices_optimizer[kind] != NULL && strcmp(choices_optimizer[kind], name) != 0)
        kind++;
    assert_non_null(choices_optimizer[kind]);
    return (enum spec_optimizer)kind;
}

static struct backend_optimizer read_optimizer(const json_t *golden) {
    const json_t *given = json_object_get(golden, "optimizer");
    return (struct backend_optimizer){.kind = read_kind(given),
                                      .lr = (float)number(given, "lr"),
                                      .momentum = (float)number(given, "momentum"),
                                      .weight_decay = (float)number(given, "weight_decay"),
                                      .beta1 = (float)number(given, "beta1"),
                                      .beta2 = (float)number(given, "beta2"),
                                      .alpha = (float)number(given, "alpha"),
                                      .epsilon = (float)number(given, "epsilon"),
                                      .nesterov = json_is_true(json_object_get(given, "nesterov")),
                                      .decay_weights_only = json_is_true(json_object_get(given, "decay_weights_only")),
                                      .clip_norm = (float)number(given, "clip_norm"),
                                      .average_decay = (float)number(golden, "average_decay")};
}

static void train(struct run *run) {
    struct backend_optimizer optimizer = read_optimizer(run->golden);
    const json_t *losses = json_object_get(run->golden, "losses");
    run->batch.mixup = json_is_true(json_object_get(run->golden, "mixup"));
    run->batch.smoothing = (float)number(run->golden, "smoothing");
    for (size_t step = 0; step < json_array_size(losses); step++) {
        formula_batch(&run->batch, (int)step, run->rig.graph->classes);
        optimizer.step = (int64_t)step + 1;
        double loss = rig_train(&run->rig, &run->batch, run->batch.n, &optimizer).loss_sum / run->batch.n;
        double expected = json_number_value(json_array_get(losses, step));
        if (!(fabs(loss - expected) <= run->tolerance->loss * expected))
            report_add(run->report, "loss of step %zu is %.9g; PyTorch has %.9g", step, loss, expected);
    }
}

static void evaluate(struct run *run) {
    const json_t *stored = json_object_get(run->golden, "evaluation"), *rows = json_object_get(stored, "softmax");
    struct buffer softmax;
    formula_batch(&run->batch, 0, run->rig.graph->classes);
    double loss = rig_eval(&run->rig, &run->batch, run->batch.n, &softmax).loss_sum / run->batch.n;
    if (!(fabs(loss - number(stored, "loss")) <= run->tolerance->loss * number(stored, "loss")))
        report_add(run->report, "evaluation loss is %.9g; PyTorch has %.9g", loss, number(stored, "loss"));
    for (size_t image = 0; image < json_array_size(rows); image++)
        for (size_t c = 0; c < (size_t)run->rig.graph->classes; c++) {
            double expected = json_number_value(json_array_get(json_array_get(rows, image), c));
            double got = (double)buffer_floats(&softmax)[image * (size_t)run->rig.graph->classes + c];
            if (!(fabs(got - expected) <= run->tolerance->softmax))
                report_add(run->report, "softmax[%zu][%zu] is %.9g; PyTorch has %.9g", image, c, got, expected);
        }
    buffer_free(&softmax);
}

static int param_named(const struct graph *graph, const char *name) {
    for (int i = 0; i < graph->params_n; i++)
        if (strcmp(graph->params[i].name, name) == 0)
            return i;
    return -1;
}

/* Ten steps round a value below 2 by at most half a unit in the last place, 2^-24, each. */
static const double stored_rounding = 10 * 0x1p-24;

/* Notes got when it is further from expected than a part of scale, and than rounding allows. */
static void near(struct run *run, const char *what, const char *name, double got, double expected, double scale,
                 double rounding) {
    if (!(fabs(got - expected) <= run->tolerance->change * scale + rounding))
        report_add(run->report, "%s of the change of %s is %.9g; PyTorch has %.9g", what, name, got, expected);
}

static void compare_change(struct run *run, enum backend_tensor kind, const json_t *stored, int param) {
    const struct graph_param *row = &run->rig.graph->params[param];
    struct buffer start = buffer_new(row->count, sizeof(float)), end = rig_get(&run->rig, kind, param);
    formula_initial(row, buffer_floats(&start));
    double sum = 0.0, squares = 0.0, norm = number(stored, "norm"), root = sqrt((double)row->count);
    double *change = calloc(row->count, sizeof *change);
    for (size_t i = 0; change != NULL && i < row->count; i++) {
        change[i] = (double)buffer_floats(&end)[i] - (double)buffer_floats(&start)[i];
        sum += change[i];
        squares += change[i] * change[i];
    }
    near(run, "norm", row->name, sqrt(squares), norm, norm, stored_rounding * root);
    near(run, "sum", row->name, sum, number(stored, "sum"), norm * root, stored_rounding * root);
    const json_t *at = json_object_get(stored, "at"), *values = json_object_get(stored, "values");
    for (size_t i = 0; change != NULL && i < json_array_size(at); i++) { /* a single value may be off by a part of the largest */
        size_t index = (size_t)json_integer_value(json_array_get(at, i));
        if (index < row->count)
            near(run, "one value", row->name, change[index], json_number_value(json_array_get(values, i)), norm * 4.0 / root,
                 stored_rounding);
    }
    free(change);
    buffer_free(&start);
    buffer_free(&end);
}

static void compare_changes(struct run *run, enum backend_tensor kind, const json_t *changes) {
    const json_t *stored;
    size_t i;
    if (json_array_size(changes) != (size_t)run->rig.graph->params_n)
        report_add(run->report, "%zu tensors are stored; the graph has %d", json_array_size(changes), run->rig.graph->params_n);
    json_array_foreach(changes, i, stored) {
        const char *name = json_string_value(json_object_get(stored, "name"));
        int param = param_named(run->rig.graph, name);
        if (param < 0)
            report_add(run->report, "the graph has no tensor %s", name);
        else
            compare_change(run, kind, stored, param);
    }
}

static void run_golden(const struct job *job, json_t *golden, struct report *report) {
    struct run run = {.golden = golden,
                      .tolerance = strcmp(job->module->name, "ref") == 0 ? &tolerance_ref : &tolerances[job->precision],
                      .report = report};
    struct graph *graph = NULL;
    if (build(golden, &graph, report) < 0)
        return;
    const json_t *averages = json_object_get(golden, "averages");
    struct backend_plan_options options = {.batch = (int)number(golden, "batch"),
                                           .precision = job->precision,
                                           .optimizer = read_optimizer(golden).kind,
                                           .average = averages != NULL};
    run.batch = batch_new(graph, options.batch);
    if (rig_init(&run.rig, job->module, graph, &options, report) == 0) {
        formula_set(&run.rig);
        train(&run);
        evaluate(&run);
        compare_changes(&run, TENSOR_VALUE, json_object_get(golden, "changes"));
        if (averages != NULL)
            compare_changes(&run, TENSOR_AVERAGE, averages);
    }
    rig_done(&run.rig);
    batch_free(&run.batch);
    graph_free(graph);
}

static void run_job(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    char path[PATH_SIZE];
    json_error_t error;
    snprintf(path, sizeof path, "tests/golden/%s.json", job->file);
    json_t *golden = json_load_file(path, 0, &error);
    if (golden == NULL)
        report_add(&report, "%s: %s", path, error.text);
    else
        run_golden(job, golden, &report);
    json_decref(golden);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

/* Fills jobs and tests with every file in every precision of a module. Returns the new number of jobs. */
static size_t add_jobs(struct job *jobs, struct CMUnitTest *tests, size_t n, const struct residuum_backend *module,
                       struct report *report) {
    for (int precision = PRECISION_F32; precision <= PRECISION_BF16; precision++)
        for (size_t i = 0; i < sizeof files / sizeof files[0] && n < JOBS_MAX; i++) {
            if (!module_offers(module, (enum spec_precision)precision, report))
                continue;
            struct job *job = &jobs[n];
            *job = (struct job){.module = module, .precision = (enum spec_precision)precision, .file = files[i]};
            snprintf(job->name, sizeof job->name, "%s %s: %s", module->name, spec_precision_name(job->precision), files[i]);
            tests[n++] = (struct CMUnitTest){.name = job->name, .test_func = run_job, .initial_state = job};
        }
    return n;
}

int main(int argc, char **argv) {
    const struct residuum_backend *modules[MODULES_MAX];
    struct report report = {0};
    size_t modules_n = 1, n = 0;
    if (setenv("OMP_WAIT_POLICY", "passive", 0) != 0) /* threads that wait for others leave them the core */
        return 2;
    if (argc > 1)
        modules[0] = module_open(argv[1], &report);
    else
        modules_n = modules_open(modules, MODULES_MAX, &report);
    struct job jobs[JOBS_MAX];
    struct CMUnitTest tests[JOBS_MAX];
    for (size_t i = 0; i < modules_n && report.n == 0; i++)
        n = add_jobs(jobs, tests, n, modules[i], &report);
    if (report.n > 0) {
        fprintf(stderr, "%s\n", report.first);
        return 2;
    }
    int failed = _cmocka_run_group_tests("golden", tests, n, NULL, NULL);
    printf("%zu passed, %d failed\n", n - (size_t)failed, failed);
    return failed == 0 ? 0 : 1;
}
