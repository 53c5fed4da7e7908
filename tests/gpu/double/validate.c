/* What descriptors must say, so that mistakes are found where the real cuDNN is not installed. */
#include <stdio.h>

#include "tests/gpu/double/double.h"

enum { REQUIRED_MAX = 7 };

static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t required[REQUIRED_MAX];
    int n;
} rules[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES,
      CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT},
     5},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
     {CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS,
      CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS,
      CUDNN_ATTR_CONVOLUTION_POST_PADDINGS},
     7},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
     4},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
     4},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
     4},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, {CUDNN_ATTR_OPERATIONGRAPH_OPS}, 1},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
     {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP},
     3},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, {CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP}, 1},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
     {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_ATTR_VARIANT_PACK_WORKSPACE},
     3},
};

static const char *validate_tensor(const struct descriptor *descriptor) {
    const struct attribute *dims = descriptor_attribute(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const struct attribute *strides = descriptor_attribute(descriptor, CUDNN_ATTR_TENSOR_STRIDES);
    if (dims->n != strides->n || dims->n < 3 || dims->n > 5)
        return "a tensor has 3 to 5 dimensions, and as many strides";
    for (int i = 0; i < (int)dims->n; i++)
        if (descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS, i) < 1 ||
            descriptor_integer(descriptor, CUDNN_ATTR_TENSOR_STRIDES, i) < 1)
            return "a tensor's dimensions and strides are at least 1";
    return NULL;
}

const char *validate_descriptor(const struct descriptor *descriptor) {
    static char text[96];
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        for (int k = 0; rules[i].type == descriptor->type && k < rules[i].n; k++)
            if (descriptor_attribute(descriptor, rules[i].required[k]) == NULL) {
                snprintf(text, sizeof text, "a descriptor of type %d lacks attribute %d", (int)descriptor->type,
                         (int)rules[i].required[k]);
                return text;
            }
    return descriptor->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR ? validate_tensor(descriptor) : NULL;
}
