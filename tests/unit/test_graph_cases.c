/* Runs every case of tests/cases/graph: a job for images of a given shape, and the graph or the error that it must give.
 *
 * A case is a folder: spec.json, a job whose data set is named CHANNELSxHEIGHTxWIDTH (it has 10 classes) or
 * CHANNELSxHEIGHTxWIDTHxCLASSES, and expect.json:
 * {"parameters", "nodes", "weighted_layers" (numbers), "layers": {NAME: {part of the node in JSON}}} with any of these keys, or
 * {"error": {"code": the name in err.h, "pointer": ..., "contains": [parts of the message]}}. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/graph/graph.h"

static const char *const class_names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

/* arg is the card to fill. */
static const struct dataset_card *find_dataset(void *arg, const char *name) {
    struct dataset_card *card = arg;
    *card = (struct dataset_card){.name = name,
                                  .title = name,
                                  .source = "test",
                                  .classes = 10,
                                  .class_names = class_names,
                                  .train_images = 1000,
                                  .test_images = 10};
    return sscanf(name, "%dx%dx%dx%d", &card->channels, &card->height, &card->width, &card->classes) >= 3 ? card : NULL;
}

static json_t *load(const char *folder, const char *file) {
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *document = json_load_file(path, 0, &error);
    if (document == NULL)
        fail_msg("%s: %s", path, error.text);
    return document;
}

/* Builds the graph of a folder's spec.json, or returns NULL and *err. */
static struct graph *build(const char *folder, struct err *err) {
    struct dataset_card card = {0};
    struct spec_context context = {.threads_default = 1, .threads_max = 1, .find_dataset = find_dataset, .arg = &card};
    struct spec spec;
    struct err_list errors = {0};
    struct graph *graph = NULL;
    json_t *document = load(folder, "spec.json");
    if (spec_parse(document, &context, &spec, &errors) < 0)
        fail_msg("%s/spec.json: %s: %s", folder, errors.items[0].pointer, errors.items[0].text);
    json_decref(document);
    struct graph_shape images = {card.channels, card.height + 2 * spec.pad, card.width + 2 * spec.pad};
    int failed = graph_build(&spec.model, images, card.classes, &graph, err);
    spec_done(&spec);
    return failed == 0 ? graph : NULL;
}

/* Everything in part is in whole, too. */
static void check_part(const char *where, const json_t *part, const json_t *whole) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)part, key, value) {
        json_t *other = json_object_get(whole, key);
        if (json_is_object(value))
            check_part(where, value, other);
        else if (!json_equal(value, other))
            fail_msg("%s: \"%s\" is not as expected", where, key);
    }
}

static void check_layers(const char *folder, const json_t *expected, const struct graph *graph) {
    const char *name;
    json_t *part, *node, *document = graph_to_json(graph);
    size_t i;
    json_object_foreach((json_t *)expected, name, part) {
        bool found = false;
        json_array_foreach(json_object_get(document, "nodes"), i, node) {
            if (strcmp(json_string_value(json_object_get(node, "name")), name) != 0)
                continue;
            char where[256];
            snprintf(where, sizeof where, "%s, layer %s", folder, name);
            check_part(where, part, node);
            found = true;
        }
        if (!found)
            fail_msg("%s: there is no layer %s", folder, name);
    }
    json_decref(document);
}

/* The layers that give a network its number: those of the main path, without the projections beside it. */
static int weighted_layers(const struct graph *graph) {
    int n = 0;
    for (int i = 0; i < graph->nodes_n; i++) {
        const struct graph_node *node = &graph->nodes[i];
        n += (node->op == OP_CONV || node->op == OP_LINEAR) && strstr(node->name, "downsample") == NULL ? 1 : 0;
    }
    return n;
}

static void check_number(const char *folder, const json_t *expected, const char *key, int64_t got) {
    const json_t *number = json_object_get(expected, key);
    if (number != NULL && json_integer_value(number) != got)
        fail_msg("%s: %s is %lld, not %lld", folder, key, (long long)got, (long long)json_integer_value(number));
}

static void check_error(const char *folder, const json_t *expected, const struct err *err) {
    const json_t *pointer = json_object_get(expected, "pointer"), *part;
    size_t i;
    assert_string_equal(err_name(err->code), json_string_value(json_object_get(expected, "code")));
    assert_string_equal(err->pointer, pointer != NULL ? json_string_value(pointer) : "");
    json_array_foreach(json_object_get(expected, "contains"), i, part) {
        if (strstr(err->text, json_string_value(part)) == NULL)
            fail_msg("%s: '%s' is not in: %s", folder, json_string_value(part), err->text);
    }
}

static void run_case(void **state) {
    const char *folder = *state;
    struct err err = {0};
    json_t *expected = load(folder, "expect.json"), *error = json_object_get(expected, "error");
    struct graph *graph = build(folder, &err);
    if (graph == NULL && error == NULL)
        fail_msg("%s: %s", folder, err.text);
    if (graph != NULL && error != NULL)
        fail_msg("%s: a graph was built; an error is expected", folder);
    if (error != NULL) {
        check_error(folder, error, &err);
    } else {
        check_number(folder, expected, "parameters", graph->parameters);
        check_number(folder, expected, "nodes", graph->nodes_n);
        check_number(folder, expected, "weighted_layers", weighted_layers(graph));
        check_layers(folder, json_object_get(expected, "layers"), graph);
    }
    graph_free(graph);
    json_decref(expected);
}

int main(void) {
    glob_t folders;
    if (glob("tests/cases/graph/*", GLOB_ONLYDIR, NULL, &folders) != 0) {
        fprintf(stderr, "no cases in tests/cases/graph: run from the root of the tree\n");
        return 1;
    }
    struct CMUnitTest *tests = calloc(folders.gl_pathc, sizeof *tests);
    if (tests == NULL)
        return 1;
    for (size_t i = 0; i < folders.gl_pathc; i++)
        tests[i] = (struct CMUnitTest){.name = folders.gl_pathv[i], .test_func = run_case, .initial_state = folders.gl_pathv[i]};
    int failed = _cmocka_run_group_tests("graph_cases", tests, folders.gl_pathc, NULL, NULL);
    free(tests);
    globfree(&folders);
    return failed;
}
