/* cuDNN's tensors as dense doubles, channels fastest, and back. */
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/double/double.h"

struct tensor tensor_of(const struct descriptor *descriptor) {
    struct tensor tensor = {.uid = descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0),
                            .type = (cudnnDataType_t)descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_DATA_TYPE, 0),
                            .alignment = descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0)};
    tensor.dims_n = (int)descriptor_attribute(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS)->n;
    for (int i = 0; i < tensor.dims_n; i++) {
        tensor.dims[i] = descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        tensor.strides[i] = descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_STRIDES, i);
    }
    const struct attribute *is_virtual = descriptor_attribute(descriptor, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    const struct attribute *by_value = descriptor_attribute(descriptor, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
    tensor.is_virtual = is_virtual != NULL && *(const bool *)is_virtual->values;
    tensor.by_value = by_value != NULL && *(const bool *)by_value->values;
    return tensor;
}

size_t tensor_element_bytes(const struct tensor *tensor) {
    if (tensor->type != CUDNN_DATA_FLOAT && tensor->type != CUDNN_DATA_BFLOAT16)
        violation("the double computes no tensors of cuDNN's type %d", (int)tensor->type);
    return tensor->type == CUDNN_DATA_FLOAT ? 4 : 2;
}

size_t tensor_bytes(const struct tensor *tensor) {
    int64_t last = 0;
    for (int i = 0; i < tensor->dims_n; i++)
        last += (tensor->dims[i] - 1) * tensor->strides[i];
    return ((size_t)last + 1) * tensor_element_bytes(tensor);
}

int64_t tensor_count(const struct tensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->dims_n; i++)
        count *= tensor->dims[i];
    return count;
}

/* --- numbers --- */

/* To nearest, ties to even, keeping all but the lowest bits of the mantissa. */
static uint32_t round_bits(uint32_t bits, int dropped) {
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bits;
    uint32_t half = 1u << (dropped - 1);
    return (bits + half - 1 + (bits >> dropped & 1)) & ~(2 * half - 1);
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum { BF16_DROPS = 16, TF32_DROPS = 13 };

static double load(const struct tensor *tensor, const void *from, int64_t at, bool as_tf32) {
    if (tensor->type == CUDNN_DATA_BFLOAT16)
        return float_of((uint32_t)((const uint16_t *)from)[at] << BF16_DROPS);
    float value = ((const float *)from)[at];
    return as_tf32 ? float_of(round_bits(bits_of(value), TF32_DROPS)) : value;
}

static void store(const struct tensor *tensor, void *to, int64_t at, double value) {
    if (tensor->type == CUDNN_DATA_BFLOAT16)
        ((uint16_t *)to)[at] = (uint16_t)(round_bits(bits_of((float)value), BF16_DROPS) >> BF16_DROPS);
    else
        ((float *)to)[at] = (float)value;
}

/* --- order: dims are n, c, h, w, values are n, h, w, c --- */

static int64_t place(const struct tensor *tensor, int64_t index) {
    const int64_t *dims = tensor->dims, *strides = tensor->strides;
    int64_t c = index % dims[1], w = index / dims[1] % dims[3], h = index / dims[1] / dims[3] % dims[2];
    int64_t n = index / dims[1] / dims[3] / dims[2];
    return n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3];
}

double *tensor_gather(const struct tensor *tensor, const void *from, bool as_tf32) {
    int64_t count = tensor_count(tensor);
    double *values = must_allocate((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = load(tensor, from, place(tensor, i), as_tf32);
    return values;
}

void tensor_scatter(const struct tensor *tensor, const double *values, void *to) {
    int64_t count = tensor_count(tensor);
    for (int64_t i = 0; i < count; i++)
        store(tensor, to, place(tensor, i), values[i]);
}
