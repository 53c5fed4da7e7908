/* Parts of an ONNX model: see build.h. */
#include "server/train/export/build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTES_MAX = 8 };

struct build_block {
    struct build_block *next;
    max_align_t memory[];
};

void *build_alloc(struct build *build, size_t size) {
    struct build_block *block = build->failed ? NULL : calloc(1, sizeof *block + size);
    build->failed = block == NULL;
    if (block == NULL)
        return NULL;
    block->next = build->blocks;
    build->blocks = block;
    return block->memory;
}

void build_init(struct build *build, size_t nodes, size_t tensors) {
    *build = (struct build){.nodes_room = nodes, .tensors_room = tensors};
    build->graph = build_alloc(build, sizeof *build->graph);
    Onnx__NodeProto **node = build_alloc(build, nodes * sizeof(void *));
    Onnx__TensorProto **initializer = build_alloc(build, tensors * sizeof(void *));
    if (build->failed)
        return;
    onnx__graph_proto__init(build->graph);
    build->graph->node = node;
    build->graph->initializer = initializer;
}

void build_done(struct build *build) {
    while (build->blocks != NULL) {
        struct build_block *block = build->blocks;
        build->blocks = block->next;
        free(block);
    }
    *build = (struct build){0};
}

char *build_text(struct build *build, const char *format, ...) {
    va_list args;
    char text[512];
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t size = length >= 0 && (size_t)length < sizeof text ? (size_t)length + 1 : sizeof text;
    char *copy = build_alloc(build, size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

static void *copy_of(struct build *build, const void *from, size_t size) {
    void *copy = build_alloc(build, size);
    if (copy != NULL && size > 0)
        memcpy(copy, from, size);
    return copy;
}

/* --- nodes --- */

Onnx__NodeProto *build_node(struct build *build, const char *op, char *const *inputs, char *output) {
    size_t n = 0;
    while (inputs[n] != NULL)
        n++;
    Onnx__NodeProto *node = build_alloc(build, sizeof *node);
    char **input = copy_of(build, inputs, n * sizeof *input);
    char **outputs = copy_of(build, &output, sizeof output);
    Onnx__AttributeProto **attribute = build_alloc(build, ATTRIBUTES_MAX * sizeof(void *));
    char *op_type = build_text(build, "%s", op);
    if (build->failed || build->graph->n_node == build->nodes_room) {
        build->failed = true;
        return NULL;
    }
    onnx__node_proto__init(node);
    node->n_input = n;
    node->input = input;
    node->n_output = 1;
    node->output = outputs;
    node->name = output;
    node->op_type = op_type;
    node->attribute = attribute;
    build->graph->node[build->graph->n_node++] = node;
    return node;
}

static Onnx__AttributeProto *add_attribute(struct build *build, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
    Onnx__AttributeProto *attribute = build_alloc(build, sizeof *attribute);
    char *copy = build_text(build, "%s", name);
    if (build->failed || node == NULL || node->n_attribute == ATTRIBUTES_MAX) {
        build->failed = true;
        return NULL;
    }
    onnx__attribute_proto__init(attribute);
    attribute->name = copy;
    attribute->has_type = 1;
    attribute->type = type;
    node->attribute[node->n_attribute++] = attribute;
    return attribute;
}

void build_int(struct build *build, Onnx__NodeProto *node, const char *name, int64_t value) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attribute == NULL)
        return;
    attribute->has_i = 1;
    attribute->i = value;
}

void build_ints(struct build *build, Onnx__NodeProto *node, const char *name, const int64_t *values, size_t n) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = copy_of(build, values, n * sizeof *values);
    if (attribute == NULL || copy == NULL)
        return;
    attribute->n_ints = n;
    attribute->ints = copy;
}

void build_float(struct build *build, Onnx__NodeProto *node, const char *name, double value) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attribute == NULL)
        return;
    attribute->has_f = 1;
    attribute->f = (float)value;
}

/* --- tensors --- */

struct content {
    Onnx__TensorProto__DataType type;
    void *bytes;
    size_t element_bytes;
};

static char *add_tensor(struct build *build, char *name, const int64_t *dims, size_t dims_n, const struct content *content) {
    Onnx__TensorProto *tensor = build_alloc(build, sizeof *tensor);
    int64_t *shape = copy_of(build, dims, dims_n * sizeof *dims);
    if (build->failed || build->graph->n_initializer == build->tensors_room) {
        build->failed = true;
        return NULL;
    }
    onnx__tensor_proto__init(tensor);
    size_t bytes = content->element_bytes;
    for (size_t d = 0; d < dims_n; d++)
        bytes *= (size_t)dims[d];
    tensor->name = name;
    tensor->n_dims = dims_n;
    tensor->dims = shape;
    tensor->has_data_type = 1;
    tensor->data_type = content->type;
    tensor->has_raw_data = 1;
    tensor->raw_data = (ProtobufCBinaryData){.len = bytes, .data = content->bytes};
    build->graph->initializer[build->graph->n_initializer++] = tensor;
    return name;
}

char *build_tensor(struct build *build, char *name, const int64_t *dims, size_t dims_n, const void *borrowed_floats) {
    struct content content = {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, (void *)borrowed_floats, sizeof(float)};
    return add_tensor(build, name, dims, dims_n, &content);
}

char *build_floats(struct build *build, char *name, const int64_t *dims, size_t dims_n, const double *values) {
    size_t n = 1;
    for (size_t d = 0; d < dims_n; d++)
        n *= (size_t)dims[d];
    float *floats = build_alloc(build, n * sizeof *floats);
    for (size_t i = 0; floats != NULL && i < n; i++)
        floats[i] = (float)values[i];
    return build_tensor(build, name, dims, dims_n, floats);
}

char *build_whole(struct build *build, char *name, const int64_t *values, size_t n) {
    struct content content = {ONNX__TENSOR_PROTO__DATA_TYPE__INT64, copy_of(build, values, n * sizeof *values), sizeof *values};
    return add_tensor(build, name, &(int64_t){(int64_t)n}, 1, &content);
}

/* --- inputs and outputs --- */

static Onnx__TensorShapeProto__Dimension *dimension(struct build *build, int64_t size) {
    Onnx__TensorShapeProto__Dimension *dim = build_alloc(build, sizeof *dim);
    char *batch = build_text(build, "N");
    if (build->failed)
        return NULL;
    onnx__tensor_shape_proto__dimension__init(dim);
    dim->value_case =
        size > 0 ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    if (size > 0)
        dim->dim_value = size;
    else
        dim->dim_param = batch;
    return dim;
}

static Onnx__TensorShapeProto *shape_of(struct build *build, const int64_t *dims, size_t dims_n) {
    Onnx__TensorShapeProto *shape = build_alloc(build, sizeof *shape);
    Onnx__TensorShapeProto__Dimension **dim = build_alloc(build, (dims_n + 1) * sizeof(void *));
    if (build->failed)
        return NULL;
    onnx__tensor_shape_proto__init(shape);
    dim[0] = dimension(build, 0);
    for (size_t d = 0; d < dims_n; d++)
        dim[d + 1] = dimension(build, dims[d]);
    shape->dim = dim;
    shape->n_dim = dims_n + 1;
    return shape;
}

Onnx__ValueInfoProto *build_value(struct build *build, char *name, const int64_t *dims, size_t dims_n) {
    Onnx__ValueInfoProto *value = build_alloc(build, sizeof *value);
    Onnx__TypeProto *type = build_alloc(build, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = build_alloc(build, sizeof *tensor);
    Onnx__TensorShapeProto *shape = shape_of(build, dims, dims_n);
    if (build->failed)
        return NULL;
    onnx__value_info_proto__init(value);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    tensor->has_elem_type = 1;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    value->name = name;
    value->type = type;
    return value;
}
