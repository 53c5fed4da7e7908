/* From the daemon's question to its answer: see inspect.h. */
#include "server/train/inspect.h"

#include <stdlib.h>

#include "common/json.h"
#include "server/train/input.h"
#include "server/train/limit.h"

enum { CPU_SECONDS = 60 };
#define DATA_BYTES (UINT64_C(4) << 30)

static const struct kind {
    const char *name;
    json_t *(*answer)(struct inspect *inspect, const json_t *want, struct err *err);
} kinds[] = {{"maps", inspect_maps}, {"filters", inspect_filters}, {"images", inspect_images}, {"onnx", inspect_onnx}};

static int unpack(struct inspect *inspect, json_t **ret_want, struct err *err) {
    int protocol;
    json_t *weights, *spec, *dataset = NULL;
    json_error_t error;
    if (json_unpack_ex(inspect->document, &error, 0, "{s:i, s:i, s:o, s:o, s:o, s?o}", "protocol", &protocol, "epoch",
                       &inspect->epoch, "weights", &weights, "spec", &spec, "want", ret_want, "dataset", &dataset) != 0)
        return err_set(err, ERR_REQUEST, "the question is not as common/event.h says: %s", error.text);
    if (protocol != EVENT_PROTOCOL)
        return err_set(err, ERR_REQUEST, "the question speaks protocol %d, this worker %d: install both from one version",
                       protocol, EVENT_PROTOCOL);
    inspect->weights = json_string_value(weights);
    if (imported_open(dataset, &inspect->imported, err) != 0)
        return -1;
    return input_spec(spec, imported_card(inspect->imported), &inspect->spec, err);
}

static json_t *answer(struct inspect *inspect, const json_t *want, struct err *err) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const json_t *question = json_object_get(want, kinds[i].name);
        if (question != NULL)
            return kinds[i].answer(inspect, question, err);
    }
    err_set(err, ERR_REQUEST, "\"want\" is none of maps, filters, images and onnx");
    return NULL;
}

static json_t *run(struct inspect *inspect, struct err *err) {
    json_t *want;
    if (unpack(inspect, &want, err) != 0 || data_begin(&inspect->spec, inspect->imported, &inspect->data, err) != 0)
        return NULL;
    struct graph_shape input = {inspect->data.channels, inspect->data.height, inspect->data.width};
    if (graph_build(&inspect->spec.model, input, inspect->data.card->classes, &inspect->graph, err) != 0)
        return NULL;
    return answer(inspect, want, err);
}

static void inspect_done(struct inspect *inspect) {
    graph_free(inspect->graph);
    data_done(&inspect->data);
    imported_free(inspect->imported);
    spec_done(&inspect->spec);
    json_decref(inspect->document);
}

static json_t *read_question(struct err *err) {
    char *line = malloc(EVENT_LINE_MAX);
    if (line == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for a question");
        return NULL;
    }
    ssize_t size = input_line(line, EVENT_LINE_MAX);
    json_t *document = size > 0 ? json_parse(line, (size_t)size, err) : NULL;
    free(line);
    if (size <= 0)
        err_set(err, ERR_REQUEST, "standard input holds no line of at most %d bytes with a question", EVENT_LINE_MAX);
    return document;
}

/* A look must not cost a running job its memory, nor go on for ever when the daemon is gone. */
static void limit(void) {
    limit_memory(DATA_BYTES);
    limit_processor(CPU_SECONDS);
}

json_t *inspect_json(void) {
    struct err err = {0};
    limit();
    struct inspect inspect = {.document = read_question(&err)};
    json_t *found = inspect.document != NULL ? run(&inspect, &err) : NULL;
    inspect_done(&inspect);
    if (found != NULL)
        return found;
    return json_pack("{s:{s:s, s:s, s:s}}", "error", "code", err_name(err.code), "text", err.text, "pointer", err.pointer);
}
