/* The op cases and the random graphs of tests/ops against PyTorch: a training step of the reference and an evaluation behind it
 * must give the stored losses, outputs, gradients and statistics, which gen_graphs.py made. Other modules are held to the
 * reference, on the same graphs, by tests/ops.
 *
 *     test_graphs             all graphs
 *     test_graphs dump        writes the graphs and their steps as JSON, for gen_graphs.py */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <assert.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/formula.h"
#include "tests/ops/random.h"

/* What may differ: losses relatively, tensors by their sum with random weights, and gradients by their length, relative to the
 * length of the tensor. The stored numbers are those of double precision. The reference sums in double, but stores each output
 * and each gradient in f32, which is off by 3e-8, layer for layer, and more where terms cancel. (Seen: losses 4e-8, outputs 5e-7,
 * gradients 2.3e-6, all but one in a thousand of them below 1e-6.) */
static const double tolerance_loss = 2e-7, tolerance_output = 1e-6, tolerance_gradient = 5e-6;

/* A gradient that is nothing but what cancellation leaves is compared as if it were this long. */
static const double smallest = 1e-2;

enum { WEIGHTS_SEED = 7000, TESTS_MAX = 512 };

struct fixture {
    json_t *stored; /* name -> fingerprint */
    const struct residuum_backend *ref;
};

struct job {
    const struct fixture *fixture;
    int number; /* of the op cases, then of the random graphs */
    char name[96];
};

static int build(int number, struct subject *ret_subject, struct err *err) {
    return (size_t)number < op_cases_n ? case_subject(&op_cases[number], ret_subject, err)
                                       : random_build(number - (int)op_cases_n, ret_subject, err);
}

/* Every graph has one of the four kinds of targets, by its name, so that a new case changes no other one. */
static float smoothing_of(const struct graph *graph) {
    return formula_name_seed(graph->title) % 2 == 0 ? 0.0f : 0.125f;
}

static bool mixup_of(const struct graph *graph) {
    return formula_name_seed(graph->title) / 2 % 2 != 0;
}

/* Modules draw their dropout from their own random numbers: PyTorch cannot know them, and such cases are left out. */
static bool is_comparable(int number) {
    return (size_t)number >= op_cases_n || strstr(op_cases[number].layers, "dropout") == NULL;
}

/* --- running --- */

static double norm_of(const float *values, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

static double dot_of(const float *values, size_t n) {
    struct buffer weights = buffer_new(n, sizeof(float));
    double sum = 0.0;
    formula_centred(WEIGHTS_SEED, 1.0f, buffer_floats(&weights), n);
    for (size_t i = 0; i < n; i++)
        sum += (double)values[i] * (double)buffer_floats(&weights)[i];
    buffer_free(&weights);
    return sum;
}

static void near(struct rig *rig, const char *what, const char *name, double got, const json_t *stored, double bound) {
    double expected = json_number_value(stored);
    if (!json_is_number(stored) || !(fabs(got - expected) <= bound))
        report_add(rig->report, "%s of %s is %.9g; PyTorch has %.9g", what, name, got, expected);
}

static void compare_loss(struct rig *rig, const char *what, double sum, int n, const json_t *stored) {
    near(rig, what, rig->graph->title, sum / n, stored, tolerance_loss * fmax(json_number_value(stored), 1.0));
}

static void compare_outputs(struct rig *rig, int n, const json_t *stored) {
    for (int i = 1; i < rig->graph->nodes_n; i++) {
        struct buffer output = rig_activation(rig, i, n);
        size_t count = output.size_bytes / sizeof(float);
        double norm = norm_of(buffer_floats(&output), count);
        near(rig, "the output", rig->graph->nodes[i].name, dot_of(buffer_floats(&output), count),
             json_array_get(stored, (size_t)i - 1), tolerance_output * norm);
        buffer_free(&output);
    }
}

/* Gradients of what is trained, values of running statistics. */
static void compare_parameters(struct rig *rig, const json_t *stored) {
    for (int i = 0; i < rig->graph->params_n; i++) {
        const struct graph_param *row = &rig->graph->params[i];
        const json_t *pair = json_array_get(stored, (size_t)i);
        struct buffer values = rig_get(rig, row->trainable ? TENSOR_GRADIENT : TENSOR_VALUE, i);
        double scale = fmax(json_number_value(json_array_get(pair, 0)), smallest);
        near(rig, "the norm", row->name, norm_of(buffer_floats(&values), row->count), json_array_get(pair, 0),
             tolerance_gradient * scale);
        near(rig, "the sum", row->name, dot_of(buffer_floats(&values), row->count), json_array_get(pair, 1),
             tolerance_gradient * scale);
        buffer_free(&values);
    }
}

static void run_step(struct rig *rig, struct batch *batch, const json_t *stored) {
    const struct backend_optimizer still = {.lr = 0.0f};
    struct buffer softmax;
    formula_set(rig);
    formula_batch(batch, 0, rig->graph->classes);
    double loss = rig_train(rig, batch, batch->n, &still).loss_sum;
    compare_loss(rig, "the loss", loss, batch->n, json_object_get(stored, "loss"));
    compare_outputs(rig, batch->n, json_object_get(stored, "outputs"));
    compare_parameters(rig, json_object_get(stored, "parameters"));
    double evaluated = rig_eval(rig, batch, batch->n, &softmax).loss_sum;
    compare_loss(rig, "the loss of the evaluation", evaluated, batch->n, json_object_get(stored, "evaluation"));
    buffer_free(&softmax);
}

static void run_graph(const struct job *job, const struct subject *subject, struct report *report) {
    const json_t *stored = json_object_get(job->fixture->stored, subject->graph->title);
    struct backend_plan_options options = {.batch = subject->batch, .precision = PRECISION_F32};
    struct batch batch = batch_new(subject->graph, subject->batch);
    struct rig rig = {0};
    batch.smoothing = smoothing_of(subject->graph);
    batch.mixup = mixup_of(subject->graph);
    if (stored == NULL)
        report_add(report, "nothing is stored of '%s': run tests/golden/gen_graphs.py", subject->graph->title);
    else if (rig_init(&rig, job->fixture->ref, subject->graph, &options, report) == 0)
        run_step(&rig, &batch, stored);
    rig_done(&rig);
    batch_free(&batch);
}

static void run_job(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    struct subject subject = {0};
    struct err err = {0};
    if (build(job->number, &subject, &err) < 0)
        report_add(&report, "%s", err.text);
    else
        run_graph(job, &subject, &report);
    subject_done(&subject);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

/* --- dump --- */

static json_t *dump_graph(int number) {
    struct subject subject = {0};
    struct err err = {0};
    json_t *document = NULL;
    if (build(number, &subject, &err) < 0)
        fprintf(stderr, "graph %d: %s\n", number, err.text);
    else
        document =
            json_pack("{s:o,s:i,s:i,s:f,s:b}", "graph", graph_to_json(subject.graph), "batch", subject.batch, "classes",
                      subject.graph->classes, "smoothing", (double)smoothing_of(subject.graph), "mixup", mixup_of(subject.graph));
    subject_done(&subject);
    return document;
}

static int dump(void) {
    json_t *list = json_array();
    int failed = 0;
    for (int i = 0; i < (int)op_cases_n + RANDOM_GRAPHS; i++)
        if (is_comparable(i))
            failed |= json_array_append_new(list, dump_graph(i));
    failed |= json_dumpf(list, stdout, JSON_INDENT(1));
    json_decref(list);
    return failed == 0 ? 0 : 1;
}

static struct job new_job(const struct fixture *fixture, int number) {
    struct job job = {fixture, number, ""};
    if ((size_t)number < op_cases_n)
        snprintf(job.name, sizeof job.name, "op case: %s", op_cases[number].name);
    else
        snprintf(job.name, sizeof job.name, "random graph %d", number - (int)op_cases_n);
    return job;
}

static int run_all(const struct fixture *fixture) {
    struct job jobs[TESTS_MAX];
    struct CMUnitTest tests[TESTS_MAX];
    int n = 0;
    assert(op_cases_n + RANDOM_GRAPHS <= TESTS_MAX);
    for (int i = 0; i < (int)op_cases_n + RANDOM_GRAPHS; i++) {
        if (!is_comparable(i))
            continue;
        jobs[n] = new_job(fixture, i);
        tests[n] = (struct CMUnitTest){.name = jobs[n].name, .test_func = run_job, .initial_state = &jobs[n]};
        n++;
    }
    int failed = _cmocka_run_group_tests("graphs", tests, (size_t)n, NULL, NULL);
    printf("%d passed, %d failed\n", n - failed, failed);
    return failed == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "dump") == 0)
        return dump();
    struct report report = {0};
    json_error_t error;
    char path[512];
    snprintf(path, sizeof path, "%s/backend-ref.so", build_folder());
    struct fixture fixture = {.ref = module_open(path, &report)};
    json_t *document = json_load_file("tests/golden/graphs.json", 0, &error);
    if (document == NULL)
        report_add(&report, "tests/golden/graphs.json: %s", error.text);
    fixture.stored = json_object_get(document, "graphs");
    int status = report.n == 0 ? run_all(&fixture) : 2;
    if (report.n > 0)
        fprintf(stderr, "%s\n", report.first);
    json_decref(document);
    return status;
}
