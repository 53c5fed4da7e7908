/* A network as an ONNX file: see export.h. */
#include <errno.h>
#include <stdio.h>

#include "common/version.h"
#include "server/train/export/nodes.h"

enum { IR_VERSION = 8, OPSET = 17, OWN_NODES = 4, OWN_TENSORS = 4, CHANNELS_MAX = 3 };

/* Running statistics are no more than the trainable values that they go with. */
_Static_assert(2 * (int64_t)GRAPH_PARAMETERS_MAX * (int64_t)sizeof(float) < INT32_MAX, "an ONNX file stays below 2 GiB");

/* --- normalization --- */

/* (pixel / 255 - mean) / deviation as pixel * scale + shift */
static char *add_normalization(struct build *build, const struct export_model *model, char *pixels) {
    int channels = model->graph->nodes[0].out.c;
    double scale[CHANNELS_MAX], shift[CHANNELS_MAX];
    const int64_t dims[] = {channels, 1, 1};
    for (int c = 0; c < channels; c++) {
        scale[c] = 1 / (255 * model->deviation[c]);
        shift[c] = -model->mean[c] / model->deviation[c];
    }
    char *scaled = build_text(build, "image/scaled"), *normal = build_text(build, "image/normalized");
    char *factor = build_floats(build, build_text(build, "image/scale"), dims, 3, scale);
    char *summand = build_floats(build, build_text(build, "image/shift"), dims, 3, shift);
    build_node(build, "Mul", (char *[]){pixels, factor, NULL}, scaled);
    build_node(build, "Add", (char *[]){scaled, summand, NULL}, normal);
    return normal;
}

static char *add_preparation(struct build *build, const struct export_model *model, char *image) {
    int64_t pad = model->pad;
    if (!model->normalize)
        return image;
    if (pad > 0)
        image = nodes_pad(build, "image", image, (int64_t[]){0, 0, pad, pad, 0, 0, pad, pad}, build_text(build, "image/padded"));
    return add_normalization(build, model, image);
}

/* --- the model --- */

static void add_values(struct build *build, const struct export_model *model, char *image) {
    struct graph_shape in = model->graph->nodes[0].out;
    int64_t outside = model->normalize ? 2 * model->pad : 0, classes = model->graph->classes;
    const int64_t dims[] = {in.c, in.h - outside, in.w - outside};
    Onnx__ValueInfoProto **input = build_alloc(build, sizeof(void *)), **output = build_alloc(build, 2 * sizeof(void *));
    if (build->failed)
        return;
    input[0] = build_value(build, image, dims, 3);
    output[0] = build_value(build, build_text(build, "logits"), &classes, 1);
    output[1] = build_value(build, build_text(build, "softmax"), &classes, 1);
    build->graph->input = input;
    build->graph->n_input = 1;
    build->graph->output = output;
    build->graph->n_output = 2;
    build->graph->name = build_text(build, "%s", model->graph->title);
}

static void add_notes(struct build *build, const struct export_model *model, Onnx__ModelProto *onnx) {
    Onnx__StringStringEntryProto **list = build_alloc(build, EXPORT_NOTES_MAX * sizeof(void *));
    for (int i = 0; i < model->notes_n; i++) {
        Onnx__StringStringEntryProto *entry = build_alloc(build, sizeof *entry);
        if (build->failed)
            return;
        onnx__string_string_entry_proto__init(entry);
        entry->key = (char *)model->notes[i].key;
        entry->value = (char *)model->notes[i].text;
        list[i] = entry;
    }
    onnx->metadata_props = list;
    onnx->n_metadata_props = (size_t)model->notes_n;
}

static Onnx__ModelProto *make_model(struct build *build, const struct export_model *model) {
    Onnx__ModelProto *onnx = build_alloc(build, sizeof *onnx);
    Onnx__OperatorSetIdProto *opset = build_alloc(build, sizeof *opset), **opsets = build_alloc(build, sizeof(void *));
    if (build->failed)
        return NULL;
    onnx__model_proto__init(onnx);
    onnx__operator_set_id_proto__init(opset);
    opset->domain = build_text(build, "%s", "");
    opset->has_version = 1;
    opset->version = OPSET;
    opsets[0] = opset;
    onnx->has_ir_version = 1;
    onnx->ir_version = IR_VERSION;
    onnx->opset_import = opsets;
    onnx->n_opset_import = 1;
    onnx->producer_name = build_text(build, "residuum");
    onnx->producer_version = build_text(build, RESIDUUM_VERSION);
    onnx->graph = build->graph;
    add_notes(build, model, onnx);
    return onnx;
}

/* --- writing --- */

struct sink {
    ProtobufCBuffer base;
    FILE *file;
};

/* A failure stays in the stream until it is closed. */
static void append(ProtobufCBuffer *base, size_t size, const uint8_t *bytes) {
    struct sink *sink = (struct sink *)base;
    fwrite(bytes, 1, size, sink->file);
}

static int write_file(const Onnx__ModelProto *onnx, const char *path, int64_t *ret_bytes, struct err *err) {
    FILE *file = fopen(path, "wbe");
    if (file == NULL)
        return err_errno(err, ERR_IO, errno, "cannot create %s", path);
    struct sink sink = {.base = {.append = append}, .file = file};
    size_t bytes = protobuf_c_message_pack_to_buffer(&onnx->base, &sink.base);
    int failed = fflush(file) != 0 || ferror(file) ? errno : 0;
    if (fclose(file) != 0 && failed == 0)
        failed = errno;
    if (failed != 0)
        return err_errno(err, failed == ENOSPC || failed == EDQUOT ? ERR_FULL : ERR_IO, failed, "cannot write %s", path);
    *ret_bytes = (int64_t)bytes;
    return 0;
}

int export_onnx(const struct export_model *model, const char *path, int64_t *ret_bytes, struct err *err) {
    struct build build;
    size_t nodes = (size_t)model->graph->nodes_n;
    if (model->normalize && model->graph->nodes[0].out.c > CHANNELS_MAX)
        return err_set(err, ERR_UNSUPPORTED, "cannot export the normalization of %d channels; there are at most %d",
                       model->graph->nodes[0].out.c, CHANNELS_MAX);
    build_init(&build, nodes * NODES_OF_LAYER + OWN_NODES, nodes * TENSORS_OF_LAYER + OWN_TENSORS);
    char *image = build_text(&build, "image");
    if (!build.failed)
        nodes_add(&build, model, add_preparation(&build, model, image));
    add_values(&build, model, image);
    Onnx__ModelProto *onnx = make_model(&build, model);
    int rc = build.failed ? err_set(err, ERR_MEMORY, "out of memory while writing the network as ONNX")
                          : write_file(onnx, path, ret_bytes, err);
    build_done(&build);
    return rc;
}
