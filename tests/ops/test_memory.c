/* What the daemon says that a job needs of a processor's memory (graph_memory), beside what backend onednn takes for it: for
 * every preset, never less, and not much more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ops/rig.h"
#include "tests/unit/model_rig.h"

enum { TESTS_MAX = 64 };

/* As a data set of 28 or of 32 pixels has them. */
static const struct graph_shape shapes[] = {{3, 32, 32}, {1, 32, 32}};
static const int batches[] = {32, 128};
static const enum spec_precision precisions[] = {PRECISION_F32, PRECISION_BF16};

/* A network without shortcuts stays below twice what it takes: the backend does not keep what its batch norms put out. */
static double most(const struct graph *graph) {
    for (int i = 0; i < graph->nodes_n; i++)
        if (graph->nodes[i].op == OP_ADD)
            return 1.6;
    return 2.0;
}

static int64_t taken(const struct residuum_backend *module, const struct graph *graph, const struct backend_plan_options *options,
                     struct report *report) {
    struct rig rig;
    int64_t bytes = rig_init(&rig, module, graph, options, report) == 0 ? module->memory(rig.plan) : 0;
    rig_done(&rig);
    return bytes;
}

static void compare(const struct residuum_backend *module, const struct graph *graph, const struct spec *spec,
                    struct report *report) {
    const int64_t constant = INT64_C(32) << 20;
    struct backend_plan_options train = {.batch = spec->batch_size, .precision = spec->precision, .use = USE_TRAIN};
    struct backend_plan_options evaluate = {.batch = GRAPH_EVALUATION_BATCH, .precision = spec->precision, .use = USE_EVALUATE};
    int64_t real = taken(module, graph, &train, report) + taken(module, graph, &evaluate, report), told = 0;
    struct err err = {0};
    if (graph_memory(graph, spec, &told, &err) < 0)
        report_add(report, "%s", err.text);
    if (told < real || (double)told > most(graph) * (double)real + (double)constant)
        report_add(report, "%s with a batch of %d in %s takes %.1f MiB, and %.1f MiB are told", graph->title, spec->batch_size,
                   spec_precision_name(spec->precision), (double)real / (1 << 20), (double)told / (1 << 20));
}

static void compare_preset(const struct residuum_backend *module, const char *name, struct graph_shape images,
                           struct report *report) {
    char model[128];
    snprintf(model, sizeof model, "\"%s\"", name);
    struct graph *graph = model_rig_graph(model, images);
    for (size_t p = 0; p < sizeof precisions / sizeof precisions[0]; p++) {
        if (!module_offers(module, precisions[p], report))
            continue;
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            struct spec spec = {.batch_size = batches[b], .precision = precisions[p], .threads = RIG_THREADS};
            compare(module, graph, &spec, report);
        }
    }
    graph_free(graph);
}

/* The figure is for processors with AVX2 or AVX-512: oneDNN's code for others keeps more. */
static bool is_meant(const struct residuum_backend *module, struct report *report) {
    struct backend_info info = {0};
    struct err err = {0};
    if (module->probe(0, &info, &err) < 0)
        report_add(report, "probe of %s: %s", module->name, err.text);
    return strstr(info.algorithms, ",avx") != NULL;
}

static void what_is_told_is_taken(void **state) {
    const struct graph_preset *preset = *state;
    struct report report = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/backend-onednn.so", build_folder());
    const struct residuum_backend *module = module_open(path, &report);
    if (module != NULL && !is_meant(module, &report) && report.n == 0)
        skip();
    for (size_t i = 0; module != NULL && i < sizeof shapes / sizeof shapes[0]; i++)
        compare_preset(module, preset->name, shapes[i], &report);
    if (report.n > 0)
        fail_msg("%s (%d findings)", report.first, report.n);
}

int main(void) {
    struct CMUnitTest tests[TESTS_MAX];
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    if (n > TESTS_MAX)
        return 1;
    for (size_t i = 0; i < n; i++)
        tests[i] = (struct CMUnitTest){
            .name = presets[i].name, .test_func = what_is_told_is_taken, .initial_state = (void *)(uintptr_t)&presets[i]};
    return _cmocka_run_group_tests("memory", tests, n, NULL, NULL);
}
