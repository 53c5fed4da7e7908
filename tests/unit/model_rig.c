/* Models as text, through the same parser as jobs: see model_rig.h. */
#include "tests/unit/model_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"

struct spec model_rig_spec(const char *text) {
    struct spec_context context = spec_context_builtin(1, 1);
    struct err_list errors = {0};
    struct err err = {0};
    struct spec spec = {0};
    json_t *doc = json_parse(text, strlen(text), &err);
    if (doc == NULL || spec_parse(doc, &context, &spec, &errors) < 0)
        fail_msg("%s: %s%s %s", text, err.text, errors.items[0].pointer, errors.items[0].text);
    json_decref(doc);
    return spec;
}

struct graph *model_rig_graph(const char *model, struct graph_shape images) {
    struct err err = {0};
    struct graph *graph = NULL;
    char *text = NULL;
    if (asprintf(&text, "{\"dataset\": \"shapes\", \"model\": %s}", model) < 0)
        fail_msg("no memory for %s", model);
    struct spec spec = model_rig_spec(text);
    free(text);
    if (graph_build(&spec.model, images, 10, &graph, &err) < 0)
        fail_msg("%s: %s %s", model, err.pointer, err.text);
    spec_done(&spec);
    return graph;
}
