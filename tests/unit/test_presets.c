/* Every preset, and some networks of layers, trains on every module of the build: losses stay finite, a gradient reaches the
 * first layer, and the modules agree about the first loss. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/rng.h"
#include "tests/ops/rig.h"
#include "tests/unit/model_rig.h"

enum { MODULES_MAX = 8, BATCH = 2, STEPS = 2, SEED = 5, TESTS_MAX = 64 };

static const struct graph_shape images = {3, 32, 32};

/* Models beside the presets: name, value of "model". */
static const char *const models[][2] = {
    {"resnet20 with every option",
     "{\"preset\": \"resnet20\", \"width\": 0.25, \"norm\": \"group\", \"norm_groups\": 2, \"init\": \"normal\", \"init_sigma\": "
     "0.1, "
     "\"activation\": \"silu\", \"shortcut\": \"B\", \"preactivation\": true, \"downsampling\": \"avg_pool\", \"dropout\": 0.2, "
     "\"block_dropout\": 0.1, \"stem_pool\": true, \"dense\": [12], \"overrides\": [{\"stage\": 1, \"activation\": "
     "\"sigmoid\"}]}"},
    {"parallel branches",
     "{\"layers\": [{\"name\": \"a\", \"op\": \"conv\", \"out_channels\": 6, \"kernel\": 3, \"padding\": 1},"
     "{\"name\": \"b\", \"op\": \"conv\", \"out_channels\": 4, \"kernel\": [5, 1], \"padding\": [2, 0], \"inputs\": \"input\"},"
     "{\"name\": \"join\", \"op\": \"concat\", \"inputs\": [\"a\", \"b\", \"input\"]},"
     "{\"name\": \"act\", \"op\": \"activation\", \"kind\": \"leaky_relu\"},"
     "{\"name\": \"pool\", \"op\": \"max_pool\", \"kernel\": 4}, {\"name\": \"flat\", \"op\": \"flatten\"},"
     "{\"name\": \"fc\", \"op\": \"linear\", \"out_features\": \"classes\"}]}"},
    {"one layer, used three times", "{\"layers\": [{\"name\": \"a\", \"op\": \"conv\", \"out_channels\": 4, \"kernel\": 3},"
                                    "{\"name\": \"twice\", \"op\": \"add\", \"inputs\": [\"a\", \"a\"]},"
                                    "{\"name\": \"both\", \"op\": \"concat\", \"inputs\": [\"twice\", \"a\", \"a\"]}, {\"name\": "
                                    "\"gap\", \"op\": \"global_avg_pool\"},"
                                    "{\"name\": \"fc\", \"op\": \"linear\", \"out_features\": \"classes\"}]}"},
    {"a linear classifier", "{\"layers\": [{\"name\": \"flat\", \"op\": \"flatten\"},"
                            "{\"name\": \"fc\", \"op\": \"linear\", \"out_features\": \"classes\"}]}"},
};
enum { MODELS_N = sizeof models / sizeof models[0] };

/* --- models --- */

/* Narrow, so that a step takes no time. */
static struct graph *preset_graph(const char *name) {
    char text[128];
    snprintf(text, sizeof text, "{\"preset\": \"%s\", \"width\": 0.125}", name);
    return model_rig_graph(text, images);
}

/* --- training --- */

static void fill_batch(const struct batch *batch) {
    float *values = buffer_floats(&batch->images);
    int32_t *labels = (int32_t *)(void *)buffer_floats(&batch->labels);
    uint32_t *samples = (uint32_t *)(void *)buffer_floats(&batch->samples), words[4];
    for (size_t i = 0; i < batch->images.size_bytes / sizeof(float); i++) {
        rng_block(SEED, RNG_SHAPES, 0, (uint32_t)i, 0, words);
        values[i] = rng_normal(words[0], words[1]);
    }
    for (int i = 0; i < BATCH; i++) {
        labels[i] = 3 * i % 10;
        samples[i] = (uint32_t)i;
    }
}

static void set_initial(struct rig *rig) {
    for (int i = 0; i < rig->graph->params_n; i++) {
        struct buffer values = buffer_new(rig->graph->params[i].count, sizeof(float));
        graph_init(rig->graph, i, SEED, buffer_floats(&values));
        rig_set(rig, TENSOR_VALUE, i, buffer_floats(&values));
        buffer_free(&values);
    }
}

static void check_first_gradient(struct rig *rig) {
    struct buffer gradient = rig_get(rig, TENSOR_GRADIENT, 0);
    double sum = 0.0;
    for (size_t i = 0; i < rig->graph->params[0].count; i++)
        sum += fabs((double)buffer_floats(&gradient)[i]);
    if (!(sum > 0.0 && isfinite(sum)))
        report_add(rig->report, "the magnitudes of the gradient of %s add up to %g", rig->graph->params[0].name, sum);
    buffer_free(&gradient);
}

/* A rig with initial values that has trained some steps. */
static void train(struct rig *rig, const struct batch *batch, double *ret_first_loss) {
    struct backend_optimizer sgd = {.kind = OPTIMIZER_SGD, .lr = 0.001f, .momentum = 0.9f};
    set_initial(rig);
    for (sgd.step = 1; sgd.step <= STEPS; sgd.step++) {
        double loss = rig_train(rig, batch, BATCH, &sgd).loss_sum / BATCH;
        if (!isfinite(loss))
            report_add(rig->report, "the loss of step %d is %g", (int)sgd.step, loss);
        if (sgd.step > 1)
            continue;
        *ret_first_loss = loss;
        check_first_gradient(rig);
    }
}

static int rig_of(const struct residuum_backend *module, const struct graph *graph, struct rig *ret_rig, struct report *report) {
    struct backend_plan_options options = {.batch = BATCH, .use = USE_TRAIN, .optimizer = OPTIMIZER_SGD};
    return rig_init(ret_rig, module, graph, &options, report);
}

/* The loss of the first step. */
static double train_graph(const struct residuum_backend *module, const struct graph *graph, struct report *report) {
    struct batch batch = batch_new(graph, BATCH);
    struct rig rig;
    double first = NAN;
    fill_batch(&batch);
    if (rig_of(module, graph, &rig, report) == 0)
        train(&rig, &batch, &first);
    rig_done(&rig);
    batch_free(&batch);
    return first;
}

/* --- tests --- */

struct test {
    char name[64];
    const char *model; /* NULL: name is a preset */
};

static void train_everywhere(void **state) {
    const struct test *test = *state;
    const struct residuum_backend *modules[MODULES_MAX];
    struct report report = {0};
    size_t n = modules_open(modules, MODULES_MAX, &report);
    struct graph *graph = test->model == NULL ? preset_graph(test->name) : model_rig_graph(test->model, images);
    double first = NAN;
    for (size_t i = 0; i < n; i++) {
        double loss = train_graph(modules[i], graph, &report);
        first = i == 0 ? loss : first;
        if (!(fabs(loss - first) <= 1e-4 * first))
            report_add(&report, "the first loss is %.9g with %s, %.9g with %s", loss, modules[i]->name, first, modules[0]->name);
    }
    graph_free(graph);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", test->name, report.first, report.n);
}

/* The same network as its list of layers. */
static struct graph *as_layers(const struct graph *graph) {
    json_t *model = json_pack("{s:o}", "layers", graph_to_layers(graph));
    char *text = json_text(model);
    json_decref(model);
    assert_non_null(text);
    struct graph *copy = model_rig_graph(text, images);
    free(text);
    return copy;
}

static void compare_weights(struct rig *a, struct rig *b) {
    for (int i = 0; i < a->graph->params_n; i++) {
        struct buffer values = rig_get(a, TENSOR_VALUE, i), others = rig_get(b, TENSOR_VALUE, i);
        if (memcmp(buffer_floats(&values), buffer_floats(&others), values.size_bytes) != 0)
            report_add(a->report, "%s differs after training as layers with %s", a->graph->params[i].name, a->module->name);
        buffer_free(&values);
        buffer_free(&others);
    }
}

static void compare_training(const struct residuum_backend *module, const struct graph *graph, const struct graph *copy,
                             struct report *report) {
    struct batch batch = batch_new(graph, BATCH);
    struct rig rigs[2] = {0};
    double losses[2] = {NAN, NAN};
    fill_batch(&batch);
    if (rig_of(module, graph, &rigs[0], report) == 0 && rig_of(module, copy, &rigs[1], report) == 0) {
        for (int i = 0; i < 2; i++)
            train(&rigs[i], &batch, &losses[i]);
        compare_weights(&rigs[0], &rigs[1]);
    }
    rig_done(&rigs[0]);
    rig_done(&rigs[1]);
    batch_free(&batch);
}

/* Dropout and all: the random numbers of both are the same, too. */
static void layers_train_identically(void **state) {
    (void)state;
    const struct residuum_backend *modules[MODULES_MAX];
    struct report report = {0};
    size_t n = modules_open(modules, MODULES_MAX, &report);
    struct graph *graph = model_rig_graph(models[0][1], images), *copy = as_layers(graph);
    for (size_t i = 0; i < n; i++)
        compare_training(modules[i], graph, copy, &report);
    graph_free(graph);
    graph_free(copy);
    if (report.n > 0)
        fail_msg("%s (%d findings)", report.first, report.n);
}

int main(void) {
    static struct test rows[TESTS_MAX];
    struct CMUnitTest tests[TESTS_MAX];
    size_t presets_n;
    const struct graph_preset *presets = graph_presets(&presets_n);
    size_t n = presets_n + MODELS_N;
    if (n >= TESTS_MAX)
        return 1;
    for (size_t i = 0; i < n; i++) {
        bool preset = i < presets_n;
        snprintf(rows[i].name, sizeof rows[i].name, "%s", preset ? presets[i].name : models[i - presets_n][0]);
        rows[i].model = preset ? NULL : models[i - presets_n][1];
        tests[i] = (struct CMUnitTest){.name = rows[i].name, .test_func = train_everywhere, .initial_state = &rows[i]};
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(layers_train_identically);
    return _cmocka_run_group_tests("presets", tests, n, NULL, NULL);
}
