/* Describes a graph of operations to cuDNN: descriptors are made, filled and finalized, and the first failure is kept. */
#include "server/backend/cudnn/plans_private.h"

enum { ALIGNMENT = 16 };

int plan_error(const struct gpu_driver *driver, cudnnStatus_t status, const char *what, struct err *err) {
    struct err reason = {0};
    gpu_error_cudnn(driver, status, what, &reason);
    bool lacks = CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED;
    return err_set(err, lacks ? ERR_UNSUPPORTED : reason.code, "%s", reason.text);
}

static void check(struct draft *draft, cudnnStatus_t status, const char *what) {
    if (status == CUDNN_STATUS_SUCCESS)
        return;
    draft->failed = true;
    plan_error(draft->driver, status, what, draft->err);
}

cudnnBackendDescriptor_t draft_new(struct draft *draft, cudnnBackendDescriptorType_t type) {
    if (draft->failed)
        return NULL;
    if (draft->made_n == DRAFT_MAX) {
        draft->failed = true;
        err_set(draft->err, ERR_BACKEND, "a graph for cuDNN needs more than %d descriptors", DRAFT_MAX);
        return NULL;
    }
    cudnnBackendDescriptor_t made = NULL;
    check(draft, draft->driver->cudnnBackendCreateDescriptor(type, &made), "make a descriptor");
    if (!draft->failed)
        draft->made[draft->made_n++] = made;
    return made;
}

void draft_set(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
               cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (!draft->failed)
        check(draft, draft->driver->cudnnBackendSetAttribute(descriptor, name, type, count, values), "take an attribute");
}

void draft_int(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, int64_t value) {
    draft_set(draft, descriptor, name, CUDNN_TYPE_INT64, 1, &value);
}

void draft_ref(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
               cudnnBackendDescriptor_t value) {
    draft_set(draft, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void draft_finalize(struct draft *draft, cudnnBackendDescriptor_t descriptor) {
    if (!draft->failed)
        check(draft, draft->driver->cudnnBackendFinalize(descriptor), "accept a description");
}

cudnnBackendDescriptor_t draft_tensor(struct draft *draft, int64_t uid, cudnnDataType_t type, struct draft_shape shape,
                                      enum draft_place place) {
    const int64_t sizes[4] = {shape.n, shape.c, shape.h, shape.w};
    const int64_t strides[4] = {shape.h * shape.w * shape.c, 1, shape.w * shape.c, shape.c};
    const bool yes = true;
    cudnnBackendDescriptor_t tensor = draft_new(draft, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    draft_int(draft, tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
    draft_set(draft, tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    draft_set(draft, tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes);
    draft_set(draft, tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    draft_int(draft, tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, ALIGNMENT);
    if (place == DRAFT_VIRTUAL)
        draft_set(draft, tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (place == DRAFT_VALUE)
        draft_set(draft, tensor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    draft_finalize(draft, tensor);
    return tensor;
}

cudnnBackendDescriptor_t draft_graph(struct draft *draft, const cudnnBackendDescriptor_t *operations, int operations_n) {
    cudnnBackendDescriptor_t graph = draft_new(draft, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    draft_set(draft, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations_n, operations);
    draft_finalize(draft, graph);
    return draft->failed ? NULL : graph;
}

void draft_done(struct draft *draft) {
    while (draft->made_n > 0)
        draft->driver->cudnnBackendDestroyDescriptor(draft->made[--draft->made_n]);
}
