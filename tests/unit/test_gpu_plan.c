/* The memory plan of a GPU: for every preset, some models of layers and random graphs, in every precision and use, that tensors
 * which are needed at the same time do not share memory, which nodes are fused, where gradients go, how parameters lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/backend/cudnn/kernels/kernels.h"
#include "server/graph/gpu.h"
#include "tests/ops/random.h"
#include "tests/unit/alloc_rig.h"
#include "tests/unit/gpu_walk.h"
#include "tests/unit/model_rig.h"

_Static_assert((int)GPU_STEP_BYTES == (int)KERNEL_STEP_BYTES, "the numbers of gpu.h are those of kernels.h");
_Static_assert(sizeof(struct kernel_step) <= GPU_STEP_BYTES, "the step fits");
_Static_assert(sizeof(struct kernel_sample) == GPU_SAMPLE_BYTES, "samples");
_Static_assert((int)GPU_RESULT_BYTES == (int)KERNEL_RESULT_BYTES, "results");
_Static_assert(sizeof(struct kernel_result) <= GPU_RESULT_BYTES, "the result fits");
_Static_assert(sizeof(struct kernel_statistics) == GPU_STATISTICS_BYTES, "statistics");
_Static_assert(sizeof(struct kernel_chunk) == GPU_CHUNK_BYTES, "chunks");
_Static_assert(sizeof(struct kernel_param) == GPU_PARAM_BYTES, "parameters");

enum { BATCH = 6 };
static const struct graph_shape images = {3, 32, 32};

/* Models beside the presets: with every option; one whose logits are a convolution's, one whose logits no layer of weights makes.
 */
static const char *const models[] = {
    "{\"preset\": \"resnet20\", \"norm\": \"group\", \"norm_groups\": 2, \"activation\": \"silu\", \"shortcut\": \"B\", "
    "\"preactivation\": true, \"downsampling\": \"avg_pool\", \"dropout\": 0.2, \"block_dropout\": 0.1, \"stem_pool\": true, "
    "\"dense\": [12]}",
    "{\"layers\": [{\"name\": \"gap\", \"op\": \"global_avg_pool\"},"
    "{\"name\": \"conv\", \"op\": \"conv\", \"out_channels\": 10, \"kernel\": 1, \"bias\": true}]}",
    "{\"layers\": [{\"name\": \"conv\", \"op\": \"conv\", \"out_channels\": 10, \"kernel\": 3},"
    "{\"name\": \"gap\", \"op\": \"global_avg_pool\"}]}",
};
enum { OPTIONS_MODEL, CONV_LOGITS, POOL_LOGITS, MODELS_N };

static struct graph *preset_graph(const char *name) {
    char model[64];
    snprintf(model, sizeof model, "\"%s\"", name);
    return model_rig_graph(model, images);
}

static struct gpu_plan *plan_of(const struct graph *graph, const struct gpu_options *options) {
    struct gpu_plan *plan = NULL;
    struct err err = {0};
    if (gpu_plan_new(graph, options, &plan, &err) < 0)
        fail_msg("%s: %s", graph->title, err.text);
    return plan;
}

/* --- what must hold of every plan --- */

static void check_regions(const struct gpu_plan *plan) {
    int64_t at = 0;
    for (int i = 0; i < GPU_REGIONS; i++) {
        assert_int_equal(plan->regions[i].at, at);
        assert_int_equal(plan->regions[i].bytes % GPU_ALIGN, 0);
        at += plan->regions[i].bytes;
    }
    assert_int_equal(plan->arena_bytes, at);
}

static void check_units(const struct graph *graph, const struct gpu_plan *plan) {
    int members = 0;
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        members += 1 + (unit->add >= 0) + (unit->act >= 0);
        assert_int_equal(plan->unit_of[unit->node], i);
        assert_int_equal(plan->unit_of[unit->out], i);
        assert_true(i == 0 || unit->out > plan->units[i - 1].out);
        assert_memory_equal(&unit->value.shape, &graph->nodes[unit->out].out, sizeof unit->value.shape);
        assert_true(unit->value.channels % GPU_LANES == 0 && unit->value.channels - unit->value.shape.c < GPU_LANES);
        for (int k = 0; k < unit->inputs_n; k++)
            assert_in_range(unit->inputs[k], 0, i - 1);
    }
    assert_int_equal(members, graph->nodes_n);
    assert_int_equal(plan->units[plan->units_n - 1].kind, GPU_LOSS);
}

/* Without a look at what stands between: whether a trainable parameter stands at or before a node. */
static bool learns(const struct graph *graph, int node) {
    if (graph->nodes[node].parameters > 0)
        return true;
    for (int k = 0; k < graph->nodes[node].inputs_n; k++)
        if (learns(graph, graph->nodes[node].inputs[k]))
            return true;
    return false;
}

/* Whether another input of a later unit, or an earlier input of this one, has the same gradient to add to. */
static bool written_before(const struct gpu_plan *plan, int unit, int input) {
    int wanted = plan->units[unit].inputs[input];
    for (int i = unit; i < plan->units_n; i++)
        for (int k = 0; k < (i == unit ? input : plan->units[i].inputs_n); k++)
            if (plan->units[i].inputs[k] == wanted)
                return true;
    return false;
}

/* Of networks in which every node leads to the loss. */
static void check_flags(const struct graph *graph, const struct gpu_plan *plan) {
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        for (int k = 0; k < unit->inputs_n; k++) {
            bool wanted = plan->options.train && learns(graph, plan->units[unit->inputs[k]].node);
            assert_int_equal(unit->wanted[k], wanted);
            assert_int_equal(unit->accumulate[k], wanted && written_before(plan, i, k));
        }
        bool has = plan->options.train && unit->kind != GPU_LOSS && learns(graph, unit->node);
        assert_int_equal(unit->value.gradient >= 0, has);
    }
}

static int64_t saved_bytes(const struct graph *graph, const struct gpu_plan *plan, const struct gpu_unit *unit) {
    int batch = plan->options.batch, groups = graph->nodes[unit->node].window.groups;
    if (unit->kind == GPU_GROUP_NORM)
        return (int64_t)(2 * batch * groups) * (int64_t)sizeof(float);
    if (unit->kind == GPU_NORM && plan->options.train) {
        int64_t statistics = (int64_t)(2 * unit->value.channels) * (int64_t)sizeof(float);
        bool masked = plan->options.precision == PRECISION_BF16 && unit->act >= 0;
        return masked ? (statistics + GPU_ALIGN - 1) / GPU_ALIGN * GPU_ALIGN + unit->value.count / 8 : statistics;
    }
    return unit->kind == GPU_POOL_MAX && plan->options.train ? unit->value.count * 2 : 0;
}

static void check_saved(const struct graph *graph, const struct gpu_plan *plan) {
    for (int i = 0; i < plan->units_n; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        assert_int_equal(unit->saved_bytes, saved_bytes(graph, plan, unit));
        assert_int_equal(unit->saved >= 0, unit->saved_bytes > 0);
    }
}

static void check_scratch(const struct gpu_plan *plan) {
    assert_true(plan->regions[GPU_SCRATCH].bytes >= plan->options.batch * (int64_t)sizeof(double));
    for (int i = 0; i < plan->units_n && plan->options.train; i++) {
        const struct gpu_value *value = &plan->units[i].value;
        assert_true(value->count * gpu_element_bytes(plan, value) <= plan->regions[GPU_SCRATCH].bytes);
    }
}

static int padded(int channels) {
    return (channels + GPU_LANES - 1) / GPU_LANES * GPU_LANES;
}

/* Parameters come in their order, so those before one end at or before its start. */
static void check_params(const struct graph *graph, const struct gpu_plan *plan) {
    int64_t first = 0, gradient = 0, working = 0, chunks = 0;
    for (int i = 0; i < plan->params_n; i++) {
        const struct gpu_param *param = &plan->params[i];
        const struct graph_param *from = &graph->params[i];
        bool weight = from->role == ROLE_WEIGHT, grouped = weight && graph->nodes[from->node].window.groups > 1;
        assert_int_equal(param->o, padded(from->shape[0]));
        assert_int_equal(param->h * param->w, from->dims == 4 ? from->shape[2] * from->shape[3] : 1);
        assert_int_equal(param->i, grouped ? from->shape[1] : weight ? padded(from->shape[1]) : 1);
        assert_int_equal(param->count, (int64_t)param->o * param->h * param->w * param->i);
        assert_true(param->first >= first && param->first % 64 == 0);
        first = param->first + param->count;
        assert_int_equal(param->gradient >= 0, plan->options.train && from->trainable);
        if (param->gradient >= 0) {
            assert_true(param->gradient >= gradient && param->gradient % GPU_ALIGN == 0);
            gradient = param->gradient + param->count * (param->narrow ? 2 : 4);
        }
        assert_int_equal(param->working >= 0, param->narrow);
        if (param->narrow) {
            assert_true(weight && param->working >= working && param->working % GPU_ALIGN == 0);
            working = param->working + param->count * 2;
        }
        chunks += (param->count + GPU_CHUNK - 1) / GPU_CHUNK;
    }
    assert_true(first * 4 <= plan->regions[GPU_MASTER].bytes);
    assert_true(gradient <= plan->regions[GPU_GRADIENT].bytes);
    assert_true(working <= plan->regions[GPU_WORKING].bytes);
    assert_int_equal(plan->chunks_n, chunks);
}

static void check(const struct graph *graph, const struct gpu_options *options) {
    struct gpu_plan *plan = plan_of(graph, options);
    check_regions(plan);
    check_units(graph, plan);
    check_flags(graph, plan);
    check_saved(graph, plan);
    check_scratch(plan);
    check_params(graph, plan);
    if (options->keep)
        assert_int_equal(plan->units_n, graph->nodes_n);
    gpu_walk(graph, plan);
    gpu_plan_free(plan);
}

/* Training, evaluation, and evaluation that keeps everything, in both sizes of element. */
static void check_all_uses(const struct graph *graph, int batch) {
    static const enum spec_precision precisions[] = {PRECISION_F32, PRECISION_BF16, PRECISION_TF32};
    for (size_t i = 0; i < 3; i++) {
        struct gpu_options options = {.batch = batch, .precision = precisions[i]};
        check(graph, &options);
        options.keep = true;
        check(graph, &options);
        options.keep = false;
        options.train = options.average = true;
        options.optimizer = OPTIMIZER_ADAM;
        check(graph, &options);
    }
}

static void presets_hold(void **state) {
    (void)state;
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        struct graph *graph = preset_graph(presets[i].name);
        check_all_uses(graph, BATCH);
        graph_free(graph);
    }
}

static void models_hold(void **state) {
    (void)state;
    for (int i = 0; i < MODELS_N; i++) {
        struct graph *graph = model_rig_graph(models[i], images);
        check_all_uses(graph, BATCH);
        graph_free(graph);
    }
}

static void random_graphs_hold(void **state) {
    (void)state;
    for (int i = 0; i < RANDOM_GRAPHS; i++) {
        struct subject subject = {0};
        struct err err = {0};
        if (random_build(i, &subject, &err) < 0)
            fail_msg("random graph %d: %s", i, err.text);
        check_all_uses(subject.graph, subject.batch);
        subject_done(&subject);
    }
}

static void op_cases_hold(void **state) {
    (void)state;
    for (size_t i = 0; i < op_cases_n; i++) {
        struct subject subject = {0};
        struct err err = {0};
        if (case_subject(&op_cases[i], &subject, &err) < 0)
            fail_msg("case '%s': %s", op_cases[i].name, err.text);
        check_all_uses(subject.graph, subject.batch);
        subject_done(&subject);
    }
}

/* Layer 2 leads to nothing: it has no backward pass, and layer 1 its gradient from layer 3 alone. */
static void dead_ends_have_no_gradient(void **state) {
    (void)state;
    struct err err = {0};
    struct op_case op_case = {"a dead end", {3, 5, 5}, 2, "conv o=4 k=1; conv o=4 k=1 in=1; act kind=tanh in=1"};
    struct graph *graph = case_build(&op_case, &err);
    assert_non_null(graph);
    struct gpu_options options = {.batch = 2, .train = true};
    struct gpu_plan *plan = plan_of(graph, &options);
    gpu_walk(graph, plan);
    assert_true(plan->units[1].value.gradient >= 0 && plan->units[2].value.gradient == -1);
    assert_true(!plan->units[2].wanted[0] && plan->units[3].wanted[0] && !plan->units[3].accumulate[0]);
    gpu_plan_free(plan);
    graph_free(graph);
}

/* --- which nodes are one unit --- */

static size_t append(char *text, size_t at, size_t size, const char *before, int number) {
    return number < 0 || at >= size ? at : at + (size_t)snprintf(text + at, size - at, "%s%d", before, number);
}

/* The units of training between the images and the flatten of a case: "1(0) 2+4+5(1 3)" is the convolution that is node 1, and
 * norm 2 with addition 4 and ReLU 5, of the outputs of nodes 1 and 3. */
static void assert_units(const char *layers, const char *units) {
    struct err err = {0};
    char text[512] = "";
    struct op_case op_case = {"", {3, 5, 5}, 1, layers};
    struct graph *graph = case_build(&op_case, &err);
    if (graph == NULL)
        fail_msg("%s: %s", layers, err.text);
    struct gpu_options options = {.batch = 1, .train = true};
    struct gpu_plan *plan = plan_of(graph, &options);
    size_t at = 0;
    for (int i = 1; plan->units[i].kind != GPU_FLATTEN; i++) {
        const struct gpu_unit *unit = &plan->units[i];
        at = append(text, at, sizeof text, i > 1 ? ") " : "", unit->node);
        at = append(text, at, sizeof text, "+", unit->add);
        at = append(text, at, sizeof text, "+", unit->act);
        for (int k = 0; k < unit->inputs_n; k++)
            at = append(text, at, sizeof text, k == 0 ? "(" : " ", plan->units[unit->inputs[k]].out);
    }
    gpu_plan_free(plan);
    graph_free(graph);
    assert_string_equal(text, units);
}

static void norm_add_relu_are_one(void **state) {
    (void)state;
    assert_units("conv o=8 k=1; norm; act kind=relu", "1(0) 2+3(1");
    assert_units("conv o=8 k=1; conv o=8 k=1; norm; add in=3,1; act kind=relu", "1(0) 2(1) 3+4+5(2 1");
    assert_units("conv o=8 k=1; conv o=8 k=1; norm; add in=1,3; act kind=relu", "1(0) 2(1) 3+4+5(2 1");
    assert_units("conv o=8 k=1; norm; add in=1,2; act kind=relu", "1(0) 2+3+4(1 1");
    assert_units("conv o=8 k=1; conv o=8 k=1; add in=1,2; act kind=relu", "1(0) 2(1) 3+4(1 2");
}

/* Two norms behind one addition: the later one takes it. An earlier one waits for what stands between. */
static void later_norm_takes_the_addition(void **state) {
    (void)state;
    assert_units("conv o=8 k=1; norm; conv o=8 k=1 in=0; norm; add in=2,4; act kind=relu", "1(0) 2(1) 3(0) 4+5+6(3 2");
    assert_units("conv o=8 k=1; norm; conv o=8 k=1 in=0; add in=2,3; act kind=relu", "1(0) 3(0) 2+4+5(1 3");
}

/* Who is read twice, who stands before another activation, and who adds three, stays alone. */
static void others_stay_alone(void **state) {
    (void)state;
    assert_units("conv o=8 k=1; norm; act kind=relu; add in=2,3", "1(0) 2(1) 3(2) 4(2 3");
    assert_units("conv o=8 k=1; norm; add in=2,2; act kind=relu", "1(0) 2(1) 3+4(2 2");
    assert_units("conv o=8 k=1; norm; add in=2,1,1; act kind=relu", "1(0) 2(1) 3+4(2 1 1");
    assert_units("conv o=8 k=1; norm; act kind=gelu", "1(0) 2(1) 3(2");
    assert_units("conv o=8 k=1; norm; add in=2,1; act kind=relu; add in=3,4", "1(0) 2(1) 3(2 1) 4(3) 5(3 4");
    assert_units("conv o=8 k=1; act kind=relu; group g=2; act kind=relu", "1(0) 2(1) 3(2) 4(3");
}

struct fused_row {
    const char *preset;
    int norms, norms_with_add, norms_with_relu, adds, acts;
};

static void presets_are_fused(void **state) {
    (void)state;
    static const struct fused_row rows[] = {{"resnet20", 19, 9, 19, 0, 0},
                                            {"resnet18", 20, 8, 17, 0, 0},
                                            {"resnet50", 53, 16, 49, 0, 0},
                                            {"preact-resnet20", 19, 0, 19, 9, 0},
                                            {"vgg16", 13, 0, 13, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph *graph = preset_graph(rows[i].preset);
        struct gpu_options options = {.batch = 1, .train = true};
        struct gpu_plan *plan = plan_of(graph, &options);
        struct fused_row found = {.preset = rows[i].preset};
        for (int u = 0; u < plan->units_n; u++) {
            const struct gpu_unit *unit = &plan->units[u];
            found.norms += unit->kind == GPU_NORM;
            found.norms_with_add += unit->kind == GPU_NORM && unit->add >= 0;
            found.norms_with_relu += unit->kind == GPU_NORM && unit->act >= 0;
            found.adds += unit->kind == GPU_ADD;
            found.acts += unit->kind == GPU_ACT;
        }
        if (memcmp(&found, &rows[i], sizeof found) != 0)
            fail_msg("%s: %d norms, %d with add, %d with ReLU; %d adds, %d activations", found.preset, found.norms,
                     found.norms_with_add, found.norms_with_relu, found.adds, found.acts);
        gpu_plan_free(plan);
        graph_free(graph);
    }
}

/* --- sizes --- */

static void assert_logits(const char *model, bool wide, bool narrow) {
    struct graph *graph = model_rig_graph(model, images);
    struct gpu_options options = {.batch = BATCH, .precision = PRECISION_BF16};
    struct gpu_plan *plan = plan_of(graph, &options);
    const struct gpu_unit *loss = &plan->units[plan->units_n - 1], *logits = &plan->units[loss->inputs[0]];
    assert_int_equal(logits->value.wide, wide);
    assert_int_equal(gpu_element_bytes(plan, &logits->value), wide ? 4 : 2);
    assert_int_equal(gpu_element_bytes(plan, &plan->units[0].value), 2);
    int last = plan->params_n - 1;
    while (graph->params[last].role != ROLE_WEIGHT)
        last--;
    assert_int_equal(plan->params[last].narrow, narrow);
    gpu_plan_free(plan);
    graph_free(graph);
}

/* In bf16 the loss takes f32 from layers with weights, and what they make from others. */
static void logits_are_wide(void **state) {
    (void)state;
    assert_logits("\"resnet20\"", true, false);
    assert_logits("\"mlp\"", true, false);
    assert_logits(models[CONV_LOGITS], true, true);
    assert_logits(models[POOL_LOGITS], false, true);
}

static void state_is_what_the_optimizer_keeps(void **state) {
    (void)state;
    struct graph *graph = preset_graph("resnet8");
    for (int i = 0; i < 5; i++) {
        struct gpu_options options = {.batch = BATCH, .train = i < 4, .average = i % 2 == 0};
        options.optimizer = i < 4 ? (enum spec_optimizer)i : OPTIMIZER_ADAM;
        struct gpu_plan *plan = plan_of(graph, &options);
        int64_t master = plan->regions[GPU_MASTER].bytes;
        assert_true(master > graph->parameters * 4);
        assert_int_equal(plan->regions[GPU_MOMENTUM].bytes, options.train ? master : 0);
        assert_int_equal(plan->regions[GPU_SQUARE].bytes, options.train && options.optimizer != OPTIMIZER_SGD ? master : 0);
        assert_int_equal(plan->regions[GPU_AVERAGE].bytes, options.train && options.average ? master : 0);
        assert_int_equal(plan->regions[GPU_WORKING].bytes, 0);
        gpu_plan_free(plan);
    }
    graph_free(graph);
}

/* What stands in STAGING, RESULTS, TABLE, IMAGES and PARTIAL by the headers. */
static void exchange_has_room(void **state) {
    (void)state;
    struct graph *graph = preset_graph("resnet8");
    struct gpu_options options = {.batch = 1000, .train = true};
    struct gpu_plan *plan = plan_of(graph, &options);
    size_t results = KERNEL_RESULT_BYTES + (size_t)graph->params_n * sizeof(struct kernel_statistics) +
                     1000 * (10 * sizeof(float) + sizeof(float) + sizeof(int32_t));
    size_t table = (size_t)plan->chunks_n * (sizeof(struct kernel_chunk) + 3 * sizeof(double)) +
                   (size_t)graph->params_n * sizeof(struct kernel_param);
    assert_in_range(plan->regions[GPU_STAGING].bytes, KERNEL_STEP_BYTES + 1000 * sizeof(struct kernel_sample), 1 << 20);
    assert_in_range(plan->regions[GPU_RESULTS].bytes, results, results + GPU_ALIGN);
    assert_in_range(plan->regions[GPU_TABLE].bytes, table, table + GPU_ALIGN);
    assert_int_equal(plan->regions[GPU_IMAGES].bytes, 1000 * 3 * 32 * 32 * sizeof(float));
    assert_int_equal(plan->regions[GPU_PARTIAL].bytes, GPU_SLICES * 2 * 64 * sizeof(double));
    gpu_plan_free(plan);
    graph_free(graph);
}

/* The most bytes of values that are needed at the same time in evaluation: no plan can do with less. */
static int64_t least_bytes(const struct gpu_plan *plan) {
    int64_t least = 0;
    for (int now = 0; now < plan->units_n; now++) {
        int64_t bytes = 0;
        for (int i = 0; i <= now; i++) {
            int last = i;
            for (int reader = i; reader < plan->units_n; reader++)
                for (int k = 0; k < plan->units[reader].inputs_n; k++)
                    last = plan->units[reader].inputs[k] == i ? reader : last;
            bytes += last >= now ? plan->units[i].value.count * gpu_element_bytes(plan, &plan->units[i].value) : 0;
        }
        least = bytes > least ? bytes : least;
    }
    return least;
}

static void evaluation_is_small(void **state) {
    (void)state;
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    for (size_t i = 0; i < n; i++) {
        struct graph *graph = preset_graph(presets[i].name);
        struct gpu_options options = {.batch = 32, .precision = PRECISION_BF16};
        struct gpu_plan *plan = plan_of(graph, &options);
        int64_t least = least_bytes(plan), bytes = plan->regions[GPU_VALUES].bytes;
        if (bytes < least || bytes > least + least / 8)
            fail_msg("%s: %lld bytes of values, and %lld are the least", presets[i].name, (long long)bytes, (long long)least);
        gpu_plan_free(plan);
        graph_free(graph);
    }
}

/* Gradients find room where values were: all of it, but for small networks and those that end large. */
static void gradients_cost_little(void **state) {
    (void)state;
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    for (size_t i = 0; i < n; i++) {
        struct graph *graph = preset_graph(presets[i].name);
        struct gpu_options options = {.batch = 1, .precision = PRECISION_BF16, .train = true};
        struct gpu_plan *plan = plan_of(graph, &options);
        int64_t values = 0, bytes = plan->regions[GPU_VALUES].bytes;
        for (int u = 0; u < plan->units_n; u++)
            values += plan->units[u].value.count * gpu_element_bytes(plan, &plan->units[u].value);
        if (bytes < values || bytes > values + values / 8)
            fail_msg("%s: %lld bytes with gradients, %lld without", presets[i].name, (long long)bytes, (long long)values);
        gpu_plan_free(plan);
        graph_free(graph);
    }
}

/* Twice the images need twice the memory for values, to the byte. */
static void values_grow_with_the_batch(void **state) {
    (void)state;
    struct graph *graph = preset_graph("resnet18");
    for (int batch = 1; batch <= 257; batch += 32) {
        struct gpu_options one = {.batch = 1, .train = true}, many = {.batch = batch, .train = true};
        struct gpu_plan *plans[2] = {plan_of(graph, &one), plan_of(graph, &many)};
        assert_int_equal(plans[1]->regions[GPU_VALUES].bytes, batch * plans[0]->regions[GPU_VALUES].bytes);
        gpu_plan_free(plans[0]);
        gpu_plan_free(plans[1]);
    }
    graph_free(graph);
}

static void workspace_is_bounded(void **state) {
    (void)state;
    assert_int_equal(gpu_workspace_bytes(INT64_C(1) << 30), 64 << 20);
    assert_int_equal(gpu_workspace_bytes(INT64_C(16) << 30), 256 << 20);
    assert_int_equal(gpu_workspace_bytes(INT64_C(80) << 30), 512 << 20);
}

/* --- no memory --- */

static struct graph *starved;

static bool plan_once(void) {
    struct gpu_options options = {.batch = BATCH, .train = true};
    struct gpu_plan *plan = NULL;
    struct err err = {0};
    int failed = gpu_plan_new(starved, &options, &plan, &err);
    assert_true(failed == 0 ? plan != NULL : plan == NULL && err.code == ERR_MEMORY);
    gpu_plan_free(plan);
    return failed == 0;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    starved = preset_graph("resnet8");
    assert_true(alloc_rig_starve(plan_once, 50) >= 8);
    graph_free(starved);
    gpu_plan_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_hold),
        cmocka_unit_test(models_hold),
        cmocka_unit_test(op_cases_hold),
        cmocka_unit_test(random_graphs_hold),
        cmocka_unit_test(dead_ends_have_no_gradient),
        cmocka_unit_test(norm_add_relu_are_one),
        cmocka_unit_test(later_norm_takes_the_addition),
        cmocka_unit_test(others_stay_alone),
        cmocka_unit_test(presets_are_fused),
        cmocka_unit_test(logits_are_wide),
        cmocka_unit_test(state_is_what_the_optimizer_keeps),
        cmocka_unit_test(exchange_has_room),
        cmocka_unit_test(evaluation_is_small),
        cmocka_unit_test(gradients_cost_little),
        cmocka_unit_test(values_grow_with_the_batch),
        cmocka_unit_test(workspace_is_bounded),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
