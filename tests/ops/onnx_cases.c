/* onnx_cases DIR: writes all presets, options of layers and 50 random graphs as ONNX files with made-up weights, and beside each
 * what backend-ref computes: DIR/NAME.onnx and DIR/NAME.json {"shape": [N,C,H,W], "classes"}, DIR/NAME.bin (images, then logits,
 * as f32). */
#include <stdio.h>
#include <stdlib.h>

#include "server/train/export/export.h"
#include "tests/ops/checks.h"
#include "tests/ops/random.h"
#include "tests/unit/model_rig.h"

enum { RANDOM_N = 50, PRESET_SIDE = 32, PRESET_CHANNELS = 3, PRESET_BATCH = 1 };

struct output {
    const char *dir;
    const struct residuum_backend *ref;
    struct report report;
};

static FILE *create(const struct output *output, const char *name, const char *ending) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.%s", output->dir, name, ending);
    return fopen(path, "wb");
}

static int logits_of(const struct graph *graph) {
    return graph->nodes[graph->nodes_n - 1].inputs[0];
}

/* Computes and writes what ONNX must find, too. */
static void write_truth(struct output *output, const char *name, struct rig *rig, int n) {
    struct batch batch = batch_new(rig->graph, n);
    struct buffer softmax = {0};
    values_fill_batch(rig->graph, &batch);
    rig_eval(rig, &batch, n, &softmax);
    struct buffer logits = rig_activation(rig, logits_of(rig->graph), n);
    struct graph_shape in = rig->graph->nodes[0].out;
    FILE *bin = create(output, name, "bin"), *json = create(output, name, "json");
    if (bin == NULL || json == NULL || fwrite(buffer_floats(&batch.images), batch.images.size_bytes, 1, bin) != 1 ||
        fwrite(buffer_floats(&logits), logits.size_bytes, 1, bin) != 1 ||
        fprintf(json, "{\"shape\": [%d, %d, %d, %d], \"classes\": %d}\n", n, in.c, in.h, in.w, rig->graph->classes) < 0)
        report_add(&output->report, "%s: cannot write what is right", name);
    if (bin != NULL && fclose(bin) != 0)
        report_add(&output->report, "%s: cannot close the numbers", name);
    if (json != NULL && fclose(json) != 0)
        report_add(&output->report, "%s: cannot close the shapes", name);
    buffer_free(&logits);
    buffer_free(&softmax);
    batch_free(&batch);
}

static void write_onnx(struct output *output, const char *name, const struct graph *graph) {
    char path[512];
    struct err err = {0};
    int64_t bytes;
    float **values = calloc((size_t)graph->params_n + 1, sizeof *values);
    if (values == NULL)
        abort();
    for (int i = 0; i < graph->params_n; i++) {
        values[i] = calloc(graph->params[i].count, sizeof **values);
        if (values[i] == NULL)
            abort();
        values_fill(graph, TENSOR_VALUE, i, values[i]);
    }
    struct export_model model = {.graph = graph, .values = (const void *const *)values};
    snprintf(path, sizeof path, "%s/%s.onnx", output->dir, name);
    if (export_onnx(&model, path, &bytes, &err) != 0)
        report_add(&output->report, "%s: %s", name, err.text);
    for (int i = 0; i < graph->params_n; i++)
        free(values[i]);
    free(values);
}

static void write_case(struct output *output, const char *name, const struct graph *graph, int n) {
    struct backend_plan_options options = {.batch = n, .precision = PRECISION_F32, .use = USE_INSPECT};
    struct rig rig;
    write_onnx(output, name, graph);
    if (rig_init(&rig, output->ref, graph, &options, &output->report) != 0)
        return;
    values_set(&rig);
    write_truth(output, name, &rig, n);
    rig_done(&rig);
}

static void write_random(struct output *output, int number) {
    struct subject subject;
    struct err err = {0};
    char name[32];
    snprintf(name, sizeof name, "random-%d", number);
    if (random_build(number, &subject, &err) != 0) {
        report_add(&output->report, "%s: %s", name, err.text);
        return;
    }
    write_case(output, name, subject.graph, subject.batch);
    subject_done(&subject);
}

/* model: the value of "model" in a job. */
static void write_model(struct output *output, const char *name, const char *model) {
    const struct graph_shape images = {PRESET_CHANNELS, PRESET_SIDE, PRESET_SIDE};
    struct graph *graph = model_rig_graph(model, images);
    write_case(output, name, graph, PRESET_BATCH);
    graph_free(graph);
}

/* Narrow, so that ref takes no time. */
static void write_presets(struct output *output) {
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    for (size_t i = 0; i < n; i++) {
        char model[128];
        snprintf(model, sizeof model, "{\"preset\": \"%s\", \"width\": 0.25}", presets[i].name);
        write_model(output, presets[i].name, model);
    }
}

static const char *const activations[] = {"relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "identity"};

static void write_options(struct output *output) {
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        char name[64], model[256];
        snprintf(name, sizeof name, "option-%s", activations[i]);
        snprintf(model, sizeof model,
                 "{\"preset\": \"resnet8\", \"width\": 0.25, \"activation\": \"%s\", \"dropout\": 0.2, \"dense\": [12], "
                 "\"norm\": \"%s\", \"shortcut\": \"A\"}",
                 activations[i], i % 2 == 0 ? "group" : "batch");
        write_model(output, name, model);
    }
    write_model(output, "option-linear",
                "{\"layers\": [{\"name\": \"flat\", \"op\": \"flatten\"}, {\"name\": \"fc\", \"op\": "
                "\"linear\", \"out_features\": \"classes\"}, {\"name\": \"drop\", \"op\": \"dropout\", \"rate\": 0.5}]}");
    write_model(output, "option-gap",
                "{\"layers\": [{\"name\": \"a\", \"op\": \"conv\", \"out_channels\": 10, \"kernel\": 3}, "
                "{\"name\": \"gap\", \"op\": \"global_avg_pool\"}, {\"name\": \"fc\", \"op\": \"linear\", "
                "\"out_features\": 10}, {\"name\": \"both\", \"op\": \"add\", \"inputs\": [\"gap\", \"fc\"]}]}");
}

int main(int argc, char **argv) {
    struct output output = {.dir = argc == 2 ? argv[1] : "."};
    char path[512];
    snprintf(path, sizeof path, "%s/backend-ref.so", build_folder());
    output.ref = module_open(path, &output.report);
    if (output.ref != NULL) {
        write_presets(&output);
        write_options(&output);
    }
    for (int i = 0; i < RANDOM_N && output.ref != NULL; i++)
        write_random(&output, i);
    if (output.report.n > 0)
        fprintf(stderr, "%d failures, first: %s\n", output.report.n, output.report.first);
    return output.report.n > 0 ? 1 : 0;
}
