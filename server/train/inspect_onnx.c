/* The whole network as an ONNX file. */
#include <stdio.h>
#include <stdlib.h>

#include "server/train/export/export.h"
#include "server/train/inspect.h"
#include "server/train/metadata.h"

/* Where each parameter's values stand in the weights file. The caller frees. */
static const void **find_values(const struct graph *graph, const struct safetensors *weights, struct err *err) {
    const void **values = calloc((size_t)graph->params_n + 1, sizeof *values);
    if (values == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the weights");
        return NULL;
    }
    for (int i = 0; i < graph->params_n; i++) {
        const struct graph_param *param = &graph->params[i];
        struct safetensors_entry entry = {.name = param->name, .shape = param->shape, .dims = param->dims, .count = param->count};
        values[i] = safetensors_values(weights, &entry, err);
        if (values[i] == NULL) {
            free(values);
            return NULL;
        }
    }
    return values;
}

/* What the file says of itself. */
static void add_notes(struct export_model *model, const struct safetensors *weights, const char *classes, const char *pad) {
    static const char *const copied[] = {"job", "epoch", "weights", "mean", "deviation"};
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++)
        model->notes[model->notes_n++] = (struct export_note){copied[i], metadata_text(weights->metadata, copied[i])};
    model->notes[model->notes_n++] = (struct export_note){"classes", classes};
    model->notes[model->notes_n++] = (struct export_note){"pad", pad};
    model->notes[model->notes_n++] = (struct export_note){
        "input", model->normalize ? "pixels of 0 to 255; padding with 0 and normalization are part of the graph"
                                  : "(pixel / 255 - mean) / deviation, of images padded with pixels of 0 by pad on each side"};
}

static json_t *answer(const struct inspect *inspect, int64_t bytes) {
    return json_pack("{s:i, s:I}", "epoch", inspect->epoch, "bytes", (json_int_t)bytes);
}

/* The names of the classes as a JSON list. The caller frees. */
static char *classes_text(const struct dataset_card *card) {
    json_t *list = json_array();
    for (int i = 0; i < card->classes; i++)
        if (json_array_append_new(list, json_string(card->class_names[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

static json_t *write_model(const struct inspect *inspect, const struct safetensors *weights, struct export_model *model,
                           const char *out, struct err *err) {
    int64_t bytes;
    char pad[16], *classes = classes_text(inspect->data.card);
    snprintf(pad, sizeof pad, "%d", model->pad);
    if (classes == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for the names of the classes");
        return NULL;
    }
    add_notes(model, weights, classes, pad);
    json_t *found = export_onnx(model, out, &bytes, err) == 0 ? answer(inspect, bytes) : NULL;
    free(classes);
    return found;
}

static json_t *run(struct inspect *inspect, const struct safetensors *weights, bool normalize, const char *out, struct err *err) {
    if (normal_take(weights->metadata, &inspect->data, err) != 0)
        return NULL;
    const void **values = find_values(inspect->graph, weights, err);
    struct export_model model = {.graph = inspect->graph,
                                 .values = values,
                                 .normalize = normalize,
                                 .pad = inspect->spec.pad,
                                 .mean = inspect->data.mean,
                                 .deviation = inspect->data.deviation};
    json_t *found = values != NULL ? write_model(inspect, weights, &model, out, err) : NULL;
    free(values);
    return found;
}

json_t *inspect_onnx(struct inspect *inspect, const json_t *want, struct err *err) {
    struct safetensors weights;
    const char *out = json_string_value(json_object_get(want, "out"));
    if (out == NULL) {
        err_set(err, ERR_REQUEST, "\"out\" must be the path of the file to write");
        return NULL;
    }
    if (inspect_weights_open(inspect, &weights, err) != 0)
        return NULL;
    json_t *found = run(inspect, &weights, json_is_true(json_object_get(want, "normalize")), out, err);
    safetensors_done(&weights);
    return found;
}
