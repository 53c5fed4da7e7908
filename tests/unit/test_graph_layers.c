/* A model of layers: every preset written as its layers and read again is the same graph, to the bit of its initial values; long
 * documents; what happens when memory runs out. Single layers and their errors are in tests/cases/graph. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "server/graph/graph.h"

/* --- allocations that fail, of jansson too --- */

static long allocations_left = -1; /* -1: without limit */

static bool refused(void) {
    if (allocations_left < 0)
        return false;
    return allocations_left == 0 || allocations_left-- == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_calloc(size_t n, size_t size) {
    return refused() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return refused() ? NULL : __real_realloc(old, size);
}

static void *limited_malloc(size_t size) {
    return refused() ? NULL : malloc(size);
}

/* --- building --- */

static const struct graph_shape images = {3, 32, 32};

/* Takes the value of "model". */
static int build(json_t *value, struct graph **ret_graph, struct err *err) {
    struct spec_context context = spec_context_builtin(1, 1);
    struct err_list errors = {0};
    struct spec spec = {0};
    json_t *doc = json_pack("{s:s, s:o}", "dataset", "shapes", "model", value);
    if (spec_parse(doc, &context, &spec, &errors) < 0)
        fail_msg("%s: %s", errors.items[0].pointer, errors.items[0].text);
    json_decref(doc);
    int failed = graph_build(&spec.model, images, 10, ret_graph, err);
    spec_done(&spec);
    return failed;
}

static json_t *parse(const char *text) {
    struct err err = {0};
    json_t *value = json_parse(text, strlen(text), &err);
    if (value == NULL)
        fail_msg("%s: %s", text, err.text);
    return value;
}

/* The same graph, through the text of its layers as a person would submit it. */
static struct graph *again(const struct graph *graph) {
    struct graph *copy = NULL;
    struct err err = {0};
    json_t *layers = graph_to_layers(graph);
    assert_non_null(layers);
    char *text = json_text(layers);
    json_decref(layers);
    if (build(json_pack("{s:o}", "layers", parse(text)), &copy, &err) < 0)
        fail_msg("%s: %s", err.pointer, err.text);
    free(text);
    return copy;
}

static void same_node(const struct graph_node *a, const struct graph_node *b) {
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->inputs_n, b->inputs_n);
    assert_memory_equal(a->inputs, b->inputs, sizeof a->inputs);
    assert_memory_equal(&a->out, &b->out, sizeof a->out);
    if (memcmp(&a->window, &b->window, sizeof a->window) != 0)
        fail_msg("the windows of %s differ", a->name);
    assert_int_equal(a->channels_out, b->channels_out);
    assert_int_equal(a->bias, b->bias);
    assert_int_equal(a->activation, b->activation);
    assert_true(a->rate == b->rate && a->epsilon == b->epsilon && a->momentum == b->momentum);
    assert_int_equal(a->init, b->init);
    assert_true(a->init_sigma == b->init_sigma);
    assert_int_equal(a->zero_init, b->zero_init);
    assert_int_equal(a->params_n, b->params_n);
    assert_true(a->parameters == b->parameters && a->flops == b->flops && a->activation_bytes == b->activation_bytes);
}

static void same_initial_values(const struct graph *a, const struct graph *b, int index) {
    size_t size = a->params[index].count * sizeof(float);
    float *values = malloc(size), *others = malloc(size);
    assert_true(values != NULL && others != NULL);
    graph_init(a, index, 7, values);
    graph_init(b, index, 7, others);
    if (memcmp(values, others, size) != 0)
        fail_msg("%s starts otherwise", a->params[index].name);
    free(values);
    free(others);
}

static void same_graph(const struct graph *a, const struct graph *b) {
    assert_int_equal(a->nodes_n, b->nodes_n);
    assert_int_equal(a->params_n, b->params_n);
    assert_int_equal(a->classes, b->classes);
    assert_true(a->parameters == b->parameters && a->flops == b->flops && a->activation_bytes == b->activation_bytes);
    for (int i = 0; i < a->nodes_n; i++)
        same_node(&a->nodes[i], &b->nodes[i]);
    for (int i = 0; i < a->params_n; i++) {
        assert_string_equal(a->params[i].name, b->params[i].name);
        assert_int_equal(a->params[i].count, b->params[i].count);
        same_initial_values(a, b, i);
    }
}

/* A narrow preset, so that drawing its initial values takes no time, with more options. NULL: it has no use for one of them. */
static struct graph *preset_with(const char *preset, const char *options) {
    json_t *model = parse(options);
    struct graph *graph = NULL;
    struct err err = {0};
    json_object_set_new(model, "preset", json_string(preset));
    if (build(model, &graph, &err) == 0)
        return graph;
    if (err.code != ERR_FIELD)
        fail_msg("%s with %s: %s %s", preset, options, err.pointer, err.text);
    return NULL;
}

static void every_preset_comes_back(void **state) {
    (void)state;
    static const char *const options[] = {
        "{\"width\": 0.125}",
        "{\"width\": 0.125, \"activation\": \"gelu\", \"init\": \"xavier_uniform\", \"kernel\": 3}",
        "{\"width\": 0.125, \"norm\": \"none\", \"init\": \"normal\", \"init_sigma\": 0.0123}",
        "{\"width\": 0.125, \"norm\": \"group\", \"norm_groups\": 1, \"dropout\": 0.3}",
        "{\"width\": 0.125, \"norm\": \"group\", \"dense\": [30, 20], \"depth\": 2}",
        "{\"width\": 0.125, \"preactivation\": true, \"zero_init\": true, \"shortcut\": \"B\", \"block_dropout\": 0.2}",
        "{\"width\": 0.125, \"preactivation\": false, \"shortcut\": \"A\", \"downsampling\": \"avg_pool\", \"stem_pool\": true}",
        "{\"width\": 0.125, \"downsampling\": \"stride\", \"activation\": \"tanh\"}",
        "{\"width\": 0.125, \"residual\": false, \"stem_kernel\": 5, \"stem_channels\": 6, \"stem_stride\": 2}",
        "{\"width\": 0.125, \"overrides\": [{\"stage\": 2, \"activation\": \"sigmoid\", \"init\": \"normal\"}, "
        "{\"layers\": \"*conv2\", \"kernel\": 5, \"init\": \"he_uniform\"}]}",
        "{\"overrides\": [{\"layers\": \"fc*\", \"init\": \"normal\", \"init_sigma\": 1}, {\"layers\": \"*\", \"width\": "
        "0.125}]}",
    };
    size_t n;
    int built = 0;
    const struct graph_preset *presets = graph_presets(&n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
            struct graph *graph = preset_with(presets[i].name, options[k]), *copy = NULL;
            if (graph == NULL)
                continue;
            copy = again(graph);
            same_graph(graph, copy);
            graph_free(graph);
            graph_free(copy);
            built++;
        }
    print_message("%d models\n", built);
    assert_true(built > 120);
}

static void defaults_are_left_out(void **state) {
    (void)state;
    static const char expected[] = "[{\"name\":\"conv1\",\"op\":\"conv\",\"out_channels\":4,\"kernel\":3,\"padding\":1},"
                                   "{\"name\":\"act1\",\"op\":\"activation\",\"kind\":\"relu\"},"
                                   "{\"name\":\"pool1\",\"op\":\"max_pool\",\"kernel\":2},"
                                   "{\"name\":\"conv2\",\"op\":\"conv\",\"out_channels\":8,\"kernel\":3,\"padding\":1},"
                                   "{\"name\":\"act2\",\"op\":\"activation\",\"kind\":\"relu\"},"
                                   "{\"name\":\"pool2\",\"op\":\"max_pool\",\"kernel\":2},"
                                   "{\"name\":\"flatten\",\"op\":\"flatten\"},"
                                   "{\"name\":\"fc\",\"op\":\"linear\",\"out_features\":\"classes\"}]";
    struct graph *graph = preset_with("simplecnn", "{\"width\": 0.125, \"dense\": []}");
    json_t *layers = graph_to_layers(graph);
    char *text = json_text(layers);
    assert_string_equal(text, expected);
    free(text);
    json_decref(layers);
    graph_free(graph);
}

/* Attributes that differ from their defaults, squares and others, and inputs. */
static void what_differs_is_written(void **state) {
    (void)state;
    static const char text[] =
        "[{\"name\":\"a\",\"op\":\"conv\",\"out_channels\":6,\"kernel\":[3,5],\"stride\":[1,2],\"padding\":[1,2],"
        "\"dilation\":2,\"groups\":3,\"bias\":false,\"init\":\"normal\",\"init_sigma\":0.5},"
        "{\"name\":\"b\",\"op\":\"max_pool\",\"inputs\":\"input\",\"kernel\":[3,8],\"stride\":[1,2],\"padding\":[0,1]},"
        "{\"name\":\"c\",\"op\":\"concat\",\"inputs\":[\"a\",\"b\"]},"
        "{\"name\":\"d\",\"op\":\"batch_norm\",\"epsilon\":0.001,\"momentum\":0.2,\"zero_init\":true},"
        "{\"name\":\"e\",\"op\":\"global_avg_pool\"},"
        "{\"name\":\"f\",\"op\":\"linear\",\"out_features\":\"classes\",\"bias\":false,\"init\":\"xavier_normal\"}]";
    struct graph *graph = NULL;
    struct err err = {0};
    if (build(json_pack("{s:o}", "layers", parse(text)), &graph, &err) < 0)
        fail_msg("%s: %s", err.pointer, err.text);
    json_t *layers = graph_to_layers(graph);
    char *written = json_text(layers);
    assert_string_equal(written, text);
    free(written);
    json_decref(layers);
    graph_free(graph);
}

/* --- long documents --- */

/* n activations in a row, each taking the one before by its name, then the classifier. */
static json_t *long_list(int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        char name[16], before[16];
        snprintf(name, sizeof name, "a%d", i);
        snprintf(before, sizeof before, "a%d", i - 1);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "op", "activation", "kind", "tanh", "inputs",
                                              i == 0 ? "input" : before));
    }
    json_array_append_new(list, json_pack("{s:s, s:s}", "name", "gap", "op", "global_avg_pool"));
    json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", "fc", "op", "linear", "out_features", "classes"));
    return list;
}

static void the_longest_list(void **state) {
    (void)state;
    struct graph *graph = NULL;
    struct err err = {0};
    if (build(json_pack("{s:o}", "layers", long_list(GRAPH_NODES_MAX - 4)), &graph, &err) < 0)
        fail_msg("%s: %s", err.pointer, err.text);
    assert_int_equal(graph->nodes_n, GRAPH_NODES_MAX);
    assert_int_equal(graph_find(graph, "a4000"), 4001);
    assert_int_equal(graph_find(graph, "loss"), GRAPH_NODES_MAX - 1);
    assert_int_equal(graph_find(graph, "a5000"), -1);
    graph_free(graph);
    graph = NULL;
    assert_int_equal(build(json_pack("{s:o}", "layers", long_list(GRAPH_NODES_MAX - 3)), &graph, &err), -1);
    assert_string_equal(err.pointer, "/model/layers");
    assert_non_null(strstr(err.text, "4095 layers; 1 to 4094"));
}

/* A circle through all layers: layer i takes layer i + 1, the last one the first. */
static void the_longest_circle(void **state) {
    (void)state;
    enum { N = 4000 };
    json_t *list = json_array();
    for (int i = 0; i < N; i++) {
        char name[16], next[16];
        snprintf(name, sizeof name, "a%d", i);
        snprintf(next, sizeof next, "a%d", (i + 1) % N);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", name, "op", "flatten", "inputs", next));
    }
    struct graph *graph = NULL;
    struct err err = {0};
    assert_int_equal(build(json_pack("{s:o}", "layers", list), &graph, &err), -1);
    assert_string_equal(err.text, "Layers 'a0' and 'a1' form a circle: each needs the output of the other");
}

/* --- memory that runs out --- */

static const char small[] = "[{\"name\":\"a\",\"op\":\"conv\",\"out_channels\":2,\"kernel\":3},"
                            "{\"name\":\"b\",\"op\":\"conv\",\"out_channels\":2,\"kernel\":3,\"inputs\":\"input\"},"
                            "{\"name\":\"c\",\"op\":\"add\",\"inputs\":[\"a\",\"b\"]},"
                            "{\"name\":\"d\",\"op\":\"global_avg_pool\"},"
                            "{\"name\":\"e\",\"op\":\"linear\",\"out_features\":\"classes\"}]";

static void reading_without_memory(void **state) {
    (void)state;
    struct spec_model model = {.layers = parse(small)};
    struct graph *graph = NULL;
    long n = 0;
    json_set_alloc_funcs(limited_malloc, free);
    for (; graph == NULL; n++) {
        struct err err = {0};
        allocations_left = n;
        int failed = graph_build(&model, images, 10, &graph, &err);
        allocations_left = -1;
        assert_int_equal(failed < 0, graph == NULL);
        if (failed < 0)
            assert_int_equal(err.code, ERR_MEMORY);
        assert_true(n < 1000);
    }
    assert_true(n > 20);
    graph_free(graph);
    json_set_alloc_funcs(malloc, free);
    json_decref(model.layers);
}

static void writing_without_memory(void **state) {
    (void)state;
    struct graph *graph = preset_with("resnet8", "{}");
    json_t *layers = NULL;
    long n = 0;
    json_set_alloc_funcs(limited_malloc, free);
    for (; layers == NULL; n++) {
        allocations_left = n;
        layers = graph_to_layers(graph);
        allocations_left = -1;
        assert_true(n < 10000);
    }
    assert_true(n > 100);
    json_decref(layers);
    json_set_alloc_funcs(malloc, free);
    graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_comes_back), cmocka_unit_test(defaults_are_left_out),
        cmocka_unit_test(what_differs_is_written), cmocka_unit_test(the_longest_list),
        cmocka_unit_test(the_longest_circle),      cmocka_unit_test(reading_without_memory),
        cmocka_unit_test(writing_without_memory),
    };
    return cmocka_run_group_tests_name("graph_layers", tests, NULL, NULL);
}
